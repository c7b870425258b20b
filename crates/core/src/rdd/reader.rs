//! Small readers that several operations share.

use std::sync::{Arc, Mutex};

use super::lineage::Node;
use super::pipeline::{CHUNK, PartitionReader, Pipeline};
use crate::data::Data;
use crate::error::{Error, Result};
use crate::plan::TaskContext;
use crate::threads::lock;

/// Where an iterator, which cannot fail, leaves the error that ended it.
#[derive(Clone, Default)]
pub(crate) struct ErrorSlot(Arc<Mutex<Option<Error>>>);

impl ErrorSlot {
    pub(crate) fn set(&self, error: Error) {
        *lock(&self.0) = Some(error);
    }

    /// Fails with the error that was left here, if one was.
    pub(crate) fn check(&self) -> Result<()> {
        lock(&self.0).take().map_or(Ok(()), Err)
    }
}

/// Reads shared elements, cloning each.
pub(crate) struct SharedReader<T> {
    values: Arc<Vec<T>>,
    at: usize,
}

impl<T: Data> SharedReader<T> {
    pub(crate) fn new(values: Arc<Vec<T>>) -> SharedReader<T> {
        SharedReader { values, at: 0 }
    }
}

impl<T: Data> PartitionReader for SharedReader<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        let rest = &self.values[self.at..];
        let some = &rest[..rest.len().min(CHUNK)];
        out.extend_from_slice(some);
        self.at += some.len();
        Ok(!some.is_empty())
    }

    fn shared(&mut self) -> Option<(&Vec<T>, std::ops::Range<usize>)> {
        let from = self.at;
        self.at = self.values.len().min(from + CHUNK);
        Some((&self.values, from..self.at))
    }

    fn is_shared(&self) -> bool {
        true
    }
}

/// Reads elements that it owns, moving each.
pub(crate) struct OwnedReader<I> {
    items: I,
}

impl<I> OwnedReader<I> {
    pub(crate) fn new(items: I) -> OwnedReader<I> {
        OwnedReader { items }
    }
}

impl<I> PartitionReader for OwnedReader<I>
where
    I: Iterator + Send + 'static,
    I::Item: Data,
{
    type Item = I::Item;

    fn read_chunk(&mut self, out: &mut Vec<I::Item>) -> Result<bool> {
        let before = out.len();
        out.extend(self.items.by_ref().take(CHUNK));
        Ok(out.len() > before)
    }
}

/// Reads several partitions, one behind the other, opening each when its turn comes.
pub(crate) struct ConcatReader<T> {
    rest: std::vec::IntoIter<(Arc<Node>, usize)>,
    current: Option<Pipeline>,
    task: TaskContext,
    items: std::marker::PhantomData<fn() -> T>,
}

impl<T: Data> ConcatReader<T> {
    pub(crate) fn new(partitions: Vec<(Arc<Node>, usize)>, task: &TaskContext) -> ConcatReader<T> {
        ConcatReader {
            rest: partitions.into_iter(),
            current: None,
            task: task.clone(),
            items: std::marker::PhantomData,
        }
    }
}

impl<T: Data> PartitionReader for ConcatReader<T> {
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        loop {
            if let Some(pipeline) = &mut self.current {
                if pipeline.read(out)? {
                    return Ok(true);
                }
                self.current = None;
            }
            match self.rest.next() {
                None => return Ok(false),
                Some((node, partition)) => self.current = Some(Pipeline::open(&node, partition, &self.task)?),
            }
        }
    }
}
