//! One partition being read: a source and a flat list of operators, driven by one loop.
//!
//! Readers are not nested in each other. A chain of a hundred thousand maps is a vector of a hundred thousand
//! operators, so neither opening, reading nor dropping it goes deeper than a chain of one. Elements move in chunks
//! of at most about [`CHUNK`]; a chunk's type is checked once per operator and chunk, and inside the operator the
//! closure of the program is known to the compiler.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use super::lineage::{Node, Opened};
use super::persisted::Persisted;
use crate::data::Data;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::{self, TaskContext, set_site};
use crate::storage::BlockId;

/// How many elements a chunk has at most, or a few more.
pub(crate) const CHUNK: usize = 512;

/// How many operations that read at their own pace may stand one inside the other.
const NESTED: usize = 200;

/// A chunk of elements whose type is not known here: a `Vec<T>`.
pub trait Chunk: Any + Send {
    /// Returns the number of elements.
    fn len(&self) -> usize;
    /// Says whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Drops the elements and keeps the room.
    fn clear(&mut self);
    /// Returns the `Vec<T>`.
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: Data> Chunk for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn clear(&mut self) {
        Vec::clear(self);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Returns the elements of a chunk.
#[inline]
pub(crate) fn typed<T: Data>(chunk: &mut dyn Chunk) -> Result<&mut Vec<T>> {
    chunk.as_any().downcast_mut().ok_or_else(|| crate::bug!("a chunk has elements of another type than its reader"))
}

/// Whether an operator has used up its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// The input is empty now.
    All,
    /// Call again with the same input before giving more.
    Part,
}

/// Does something to each chunk.
pub(crate) trait Operator: Send {
    /// Moves elements from `input` to `out`, which it fills to about [`CHUNK`] elements.
    ///
    /// # Errors
    ///
    /// Whatever a closure of the program fails with.
    fn apply(&mut self, input: &mut dyn Chunk, out: &mut dyn Chunk) -> Result<Fed>;

    /// Makes room for what the operator gives.
    fn new_out(&self) -> Box<dyn Chunk>;

    /// Says whether the operator can look at elements that it is only lent.
    fn takes_lent(&self) -> bool {
        false
    }

    /// As [`apply`](Self::apply), on elements that stay where they are.
    ///
    /// # Errors
    ///
    /// Whatever a closure of the program fails with.
    fn apply_lent(&mut self, _lent: &Lent<'_>, _out: &mut dyn Chunk) -> Result<()> {
        Err(crate::bug!("an operator that owns its elements was lent some"))
    }
}

/// Some elements of a shared `Vec<T>`.
#[derive(Debug)]
pub(crate) struct Lent<'a> {
    pub(crate) all: &'a dyn Any,
    pub(crate) range: std::ops::Range<usize>,
}

/// Gives the first chunks.
pub(crate) trait Source: Send {
    /// Appends about [`CHUNK`] elements, at least one; or nothing and returns `false` at the end.
    ///
    /// # Errors
    ///
    /// Whatever the source fails with.
    fn read(&mut self, out: &mut dyn Chunk) -> Result<bool>;

    /// Makes room for what the source gives.
    fn new_out(&self) -> Box<dyn Chunk>;

    /// Says whether the source's elements stay where they are, so that it can lend them.
    fn lends(&self) -> bool {
        false
    }

    /// Lends the next elements to `to`; returns `false` at the end.
    ///
    /// # Errors
    ///
    /// Whatever the source or `to` fails with.
    fn lend(&mut self, _to: &mut dyn FnMut(&Lent<'_>) -> Result<()>) -> Result<bool> {
        Err(crate::bug!("a source that does not lend was asked to"))
    }
}

/// A source of elements of a known type. Every one is a [`Source`].
pub(crate) trait PartitionReader: Send + 'static {
    type Item: Data;

    /// Appends about [`CHUNK`] elements, at least one; or nothing and returns `false` at the end.
    fn read_chunk(&mut self, out: &mut Vec<Self::Item>) -> Result<bool>;

    /// Returns the shared elements and the next range of them, if that is what the reader reads.
    fn shared(&mut self) -> Option<(&Vec<Self::Item>, std::ops::Range<usize>)> {
        None
    }

    /// Says whether [`shared`](Self::shared) gives all elements.
    fn is_shared(&self) -> bool {
        false
    }
}

impl<R: PartitionReader> Source for R {
    fn read(&mut self, out: &mut dyn Chunk) -> Result<bool> {
        self.read_chunk(typed(out)?)
    }

    fn new_out(&self) -> Box<dyn Chunk> {
        Box::new(Vec::<R::Item>::new())
    }

    fn lends(&self) -> bool {
        self.is_shared()
    }

    fn lend(&mut self, to: &mut dyn FnMut(&Lent<'_>) -> Result<()>) -> Result<bool> {
        match self.shared() {
            Some((all, range)) if !range.is_empty() => to(&Lent { all, range }).map(|()| true),
            _ => Ok(false),
        }
    }
}

/// An operator on elements of known types. Every one is an [`Operator`].
pub(crate) trait ChunkOperator: Send + 'static {
    type In: Data;
    type Out: Data;

    /// Moves elements from `input` to `out`, which it fills to about [`CHUNK`] elements.
    fn apply(&mut self, input: &mut Vec<Self::In>, out: &mut Vec<Self::Out>) -> Result<Fed>;

    /// Whether [`look_at`](Self::look_at) is there.
    const LOOKS: bool = false;

    /// As [`apply`](Self::apply), on elements that stay where they are: for operators that keep few of them.
    fn look_at(&mut self, _input: &[Self::In], _out: &mut Vec<Self::Out>) {}
}

impl<O: ChunkOperator> Operator for O {
    fn apply(&mut self, input: &mut dyn Chunk, out: &mut dyn Chunk) -> Result<Fed> {
        ChunkOperator::apply(self, typed(input)?, typed(out)?)
    }

    fn new_out(&self) -> Box<dyn Chunk> {
        Box::new(Vec::<O::Out>::new())
    }

    fn takes_lent(&self) -> bool {
        O::LOOKS
    }

    fn apply_lent(&mut self, lent: &Lent<'_>, out: &mut dyn Chunk) -> Result<()> {
        let all: &Vec<O::In> = lent
            .all
            .downcast_ref()
            .ok_or_else(|| crate::bug!("lent elements are of another type than their operator's"))?;
        self.look_at(&all[lent.range.clone()], typed(out)?);
        Ok(())
    }
}

struct Step {
    operator: Box<dyn Operator>,
    site: CallSite,
}

/// One partition being read.
pub struct Pipeline {
    source: Box<dyn Source>,
    source_site: CallSite,
    steps: Vec<Step>,
    /// `chunks[k]` is the input of step `k`. Made when it is first needed.
    chunks: Vec<Option<Box<dyn Chunk>>>,
    /// Steps that have input left, deepest last.
    pending: Vec<usize>,
    ended: bool,
    /// Whether the first step looks at the source's elements where they are.
    lends: bool,
    /// Whether the source reads what no other pipeline has read, so that it is to be counted.
    counts: bool,
    task: TaskContext,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pipeline({} and {} steps, {:?})", self.source_site, self.steps.len(), self.task)
    }
}

thread_local! {
    /// How many pipelines are being read on this thread, each from inside the one before.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

struct Deeper;

impl Deeper {
    fn by_one(site: CallSite) -> Result<Deeper> {
        let depth = DEPTH.get();
        if depth > NESTED {
            return Err(too_deep(site));
        }
        DEPTH.set(depth + 1);
        Ok(Deeper)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

fn too_deep(site: CallSite) -> Error {
    Error::new(
        ErrorKind::Graph,
        format!(
            "more than {NESTED} operations that read at their own pace (map_partitions, zip, union and cogroup of \
             what one partitioner placed) stand one behind the other; persist one in between"
        ),
    )
    .at(site)
}

enum Above {
    Operator(Box<dyn Operator>, CallSite),
    Keep(Arc<Persisted>, BlockId, CallSite),
}

impl Pipeline {
    /// Opens partition `p` of `top`: down to a source or a kept block, then up again through the operators.
    ///
    /// # Errors
    ///
    /// Whatever an operation on the way fails with.
    pub(crate) fn open(top: &Arc<Node>, p: usize, task: &TaskContext) -> Result<Pipeline> {
        enum Frame {
            Above(Above),
            Wrap(super::lineage::WrapSource, CallSite),
        }
        enum Down {
            To(Arc<Node>, usize),
            Source(Box<dyn Source>),
        }
        let mut frames: Vec<Frame> = Vec::new();
        let mut wraps = 0;
        let (mut node, mut partition) = (Arc::clone(top), p);
        let (source, site, counts) = loop {
            if let Some(persisted) = node.persisted() {
                let id = BlockId::Rdd { rdd: node.id(), partition };
                if let Some(block) = task.env().blocks.get(id)? {
                    break (persisted.open(&block)?, node.site(), true);
                }
                frames.push(Frame::Above(Above::Keep(persisted, id, node.site())));
                // What is below ends in a block before anything above reads.
                wraps = 0;
            }
            set_site(Some(node.site()));
            let site = node.site();
            let down = node.open(partition, task, |opened| match opened {
                Opened::Source(source) => Ok(Down::Source(source)),
                Opened::Through { node: parent, partition: q, operator } => {
                    frames.push(Frame::Above(Above::Operator(operator, site)));
                    Ok(Down::To(Arc::clone(parent), q))
                }
                Opened::Forward { node: parent, partition: q } => Ok(Down::To(Arc::clone(parent), q)),
                Opened::Wrap { node: parent, partition: q, wrap } => {
                    wraps += 1;
                    if wraps > NESTED {
                        return Err(too_deep(site));
                    }
                    frames.push(Frame::Wrap(wrap, site));
                    Ok(Down::To(Arc::clone(parent), q))
                }
            })?;
            match down {
                Down::Source(source) => break (source, site, node.lineage().dependencies().is_empty()),
                Down::To(parent, q) => (node, partition) = (parent, q),
            }
        };
        let mut pipeline = Pipeline { counts, ..Pipeline::from_source(source, site, task.clone()) };
        while let Some(frame) = frames.pop() {
            match frame {
                Frame::Above(Above::Operator(operator, site)) => pipeline.steps.push(Step { operator, site }),
                Frame::Above(Above::Keep(persisted, id, site)) => {
                    let block = persisted.fill(&mut pipeline)?;
                    task.env().blocks.put(id, block.clone(), persisted.level()).map_err(|e| e.at(site))?;
                    pipeline = Pipeline::from_source(persisted.open(&block)?, site, task.clone());
                }
                Frame::Wrap(wrap, site) => {
                    set_site(Some(site));
                    let source = wrap(pipeline).map_err(|e| e.at(site))?;
                    pipeline = Pipeline::from_source(source, site, task.clone());
                }
            }
        }
        Ok(pipeline)
    }

    fn from_source(source: Box<dyn Source>, source_site: CallSite, task: TaskContext) -> Pipeline {
        Pipeline {
            source,
            source_site,
            steps: Vec::new(),
            chunks: Vec::new(),
            pending: Vec::new(),
            ended: false,
            lends: false,
            counts: false,
            task,
        }
    }

    /// Appends about [`CHUNK`] elements, at least one; or nothing and returns `false` at the end.
    ///
    /// # Errors
    ///
    /// Whatever the source or an operation fails with, at the line of that operation.
    pub fn read(&mut self, out: &mut dyn Chunk) -> Result<bool> {
        let _deeper = Deeper::by_one(self.source_site)?;
        if self.steps.is_empty() {
            self.task.check()?;
            set_site(Some(self.source_site));
            let had = out.len();
            let more = self.source.read(out).map_err(|e| e.at(self.source_site))?;
            self.count(out.len() - had);
            return Ok(more);
        }
        if self.chunks.is_empty() {
            self.chunks.resize_with(self.steps.len(), || None);
            self.lends = self.source.lends() && self.steps[0].operator.takes_lent();
        }
        loop {
            let from = match self.pending.pop() {
                Some(step) => Some(step),
                None if self.ended => return Ok(false),
                None => {
                    self.task.check()?;
                    if self.lends { self.lend(out)? } else { self.fill()? }
                }
            };
            if let Some(step) = from
                && self.carry(step, out)?
            {
                return Ok(true);
            }
        }
    }

    /// Fills the input of the first step, and returns that step unless the source has ended.
    fn fill(&mut self) -> Result<Option<usize>> {
        set_site(Some(self.source_site));
        let first = self.chunks[0].get_or_insert_with(|| self.source.new_out());
        let had = first.len();
        let more = self.source.read(&mut **first).map_err(|e| e.at(self.source_site))?;
        let came = first.len() - had;
        self.count(came);
        self.ended = !more;
        Ok(more.then_some(0))
    }

    /// Has the first step look at elements where they are, and returns the second step if that gave anything.
    fn lend(&mut self, out: &mut dyn Chunk) -> Result<Option<usize>> {
        let Step { operator, site } = &mut self.steps[0];
        set_site(Some(*site));
        let room: &mut dyn Chunk = match self.chunks.get_mut(1) {
            Some(room) => &mut **room.get_or_insert_with(|| operator.new_out()),
            None => out,
        };
        let before = room.len();
        let mut came = 0;
        let mut lend = |lent: &Lent<'_>| {
            came = lent.range.len();
            operator.apply_lent(lent, room)
        };
        let more = self.source.lend(&mut lend).map_err(|e| e.at(*site))?;
        let gave = room.len() > before;
        self.count(came);
        self.ended = !more;
        Ok(gave.then_some(1))
    }

    /// Notes elements that came from the source.
    #[inline]
    fn count(&self, came: usize) {
        if self.counts {
            self.task.tally(|tally| tally.read(came));
        }
    }

    /// Carries the input of step `k` as far as it goes. Returns whether anything came out at the end.
    fn carry(&mut self, mut k: usize, out: &mut dyn Chunk) -> Result<bool> {
        let last = self.steps.len();
        while k < last {
            let Step { operator, site } = &mut self.steps[k];
            set_site(Some(*site));
            let (before, after) = self.chunks.split_at_mut(k + 1);
            let Some(input) = before[k].as_deref_mut() else {
                return Err(crate::bug!("a step of a pipeline has no input"));
            };
            let room: &mut dyn Chunk = match after.first_mut() {
                Some(room) => &mut **room.get_or_insert_with(|| operator.new_out()),
                None => &mut *out,
            };
            let had = room.len();
            let fed = operator.apply(input, room).map_err(|e| e.at(*site))?;
            let gave = room.len() > had;
            match fed {
                Fed::Part => self.pending.push(k),
                Fed::All => {
                    input.clear();
                    if last > LONG {
                        // A long chain would hold a chunk's room per step.
                        self.chunks[k] = None;
                    }
                }
            }
            if !gave {
                return Ok(false);
            }
            k += 1;
        }
        Ok(true)
    }

    /// Reads to the end, giving each chunk to `each`, whose panics are laid at the operation that runs now.
    ///
    /// # Errors
    ///
    /// Whatever the pipeline or `each` fails with.
    pub(crate) fn for_each_chunk<T: Data>(&mut self, mut each: impl FnMut(&mut Vec<T>) -> Result<()>) -> Result<()> {
        let mut chunk: Vec<T> = Vec::with_capacity(CHUNK);
        let site = plan::site();
        while self.read(&mut chunk)? {
            set_site(site);
            each(&mut chunk)?;
            chunk.clear();
        }
        // What is made of all that was given is that operation's too.
        set_site(site);
        Ok(())
    }

    /// Reads all that is left.
    ///
    /// # Errors
    ///
    /// Whatever the pipeline fails with.
    pub(crate) fn read_all<T: Data>(&mut self) -> Result<Vec<T>> {
        let mut all: Vec<T> = Vec::new();
        while self.read(&mut all)? {}
        Ok(all)
    }

    /// Hands the whole pipeline on and leaves an ended one behind.
    pub(crate) fn take_over(&mut self) -> Pipeline {
        let ended = Pipeline::from_source(Box::new(Ended), self.source_site, self.task.clone());
        std::mem::replace(self, ended)
    }
}

/// The source of a pipeline that was handed on.
struct Ended;

impl Source for Ended {
    fn read(&mut self, _: &mut dyn Chunk) -> Result<bool> {
        Ok(false)
    }

    fn new_out(&self) -> Box<dyn Chunk> {
        Box::new(Vec::<()>::new())
    }
}

/// Chains above this length give up the room of chunks they have used.
const LONG: usize = 64;

/// The elements of a partition, one by one, for closures that read at their own pace.
///
/// An error of the partition ends the iteration; the operation that handed out the iterator then fails with it.
pub struct PartitionIter<T> {
    pipeline: Pipeline,
    chunk: std::vec::IntoIter<T>,
    error: super::reader::ErrorSlot,
}

impl<T: Data> PartitionIter<T> {
    pub(crate) fn new(pipeline: Pipeline, error: super::reader::ErrorSlot) -> PartitionIter<T> {
        PartitionIter { pipeline, chunk: Vec::new().into_iter(), error }
    }

    /// Fails if the iteration was ended by an error, and not by the end of the partition.
    #[doc(hidden)]
    pub fn failed(&self) -> Result<()> {
        self.error.check()
    }
}

impl<T: Data> Iterator for PartitionIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.chunk.next() {
                return Some(item);
            }
            let mut chunk = Vec::with_capacity(CHUNK);
            // Who asks goes on running when the chunk is here.
            let site = plan::site();
            let read = self.pipeline.read(&mut chunk);
            set_site(site);
            match read {
                Ok(true) => self.chunk = chunk.into_iter(),
                Ok(false) => return None,
                Err(error) => {
                    self.error.set(error);
                    return None;
                }
            }
        }
    }
}

impl<T> fmt::Debug for PartitionIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionIter({:?})", self.pipeline)
    }
}
