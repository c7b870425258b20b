//! The states of a stream as a table: by key, and from end to end.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch, TimestampMillisecondArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as PlanResult};
use futures::channel::oneshot;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use millstream_core::{CallSite, Error, ExchangeData, Key, Result, Time};
use millstream_streaming::{Behind, DStream, MappedState};

use crate::row::{Cell, Row};

/// States of keys that can be a live table: what `map_with_state` gives, and the pairs of `update_state_by_key`.
pub trait States {
    /// The type of the keys.
    type Key: Key + Cell;
    /// The type of the states.
    type State: ExchangeData + Row;

    #[doc(hidden)]
    fn foreach(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Behind<Self::Key, Self::State>) + Send + Sync + 'static,
    );

    #[doc(hidden)]
    fn mistake(&self, error: millstream_core::Error);

    #[doc(hidden)]
    fn viewed(states: Behind<Self::Key, Self::State>, schema: &SchemaRef) -> Arc<dyn AnyState> {
        Arc::new(StateOf { states, schema: Arc::clone(schema) })
    }
}

impl<K: Key + Cell, S: ExchangeData + Row, E: ExchangeData> States for MappedState<K, S, E> {
    type Key = K;
    type State = S;

    fn foreach(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Behind<K, S>) + Send + Sync + 'static,
    ) {
        let _ = self.foreach_behind(site, planned, f);
    }

    fn mistake(&self, error: millstream_core::Error) {
        self.stream().mistake(error);
    }
}

impl<K: Key + Cell, S: ExchangeData + Row> States for DStream<(K, S)> {
    type Key = K;
    type State = S;

    fn foreach(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Behind<K, S>) + Send + Sync + 'static,
    ) {
        let _ = self.foreach_states_at(site, planned, move |view| f(Behind::Here(view)));
    }

    fn mistake(&self, error: millstream_core::Error) {
        DStream::mistake(self, error);
    }
}

/// States whose types are not known.
#[doc(hidden)]
pub trait AnyState: fmt::Debug + Send + Sync {
    fn len(&self) -> usize;
    /// Says whether a look-up is no more than a short look into the memory of this process: no closure of the program, no job.
    fn is_at_hand(&self) -> bool;
    /// Looks up some keys, each of which stands there once: a column for each of those that make a key. It is never run by a thread that
    /// would wait for a batch.
    fn look_up(&self, keys: &[ArrayRef]) -> PlanResult<BoxFuture<'static, PlanResult<ArrowBatch>>>;
    /// Reads all, some at a time. Who reads may have to wait.
    fn pieces(&self) -> Box<dyn Iterator<Item = PlanResult<ArrowBatch>> + Send>;
}

/// An error of ours, as the plan tells it.
pub(crate) fn of_ours(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Looks keys up where the states are. Returns those that have one.
pub(crate) fn found<K: Key, S: ExchangeData>(
    states: &Behind<K, S>,
    keys: Vec<K>,
) -> BoxFuture<'static, PlanResult<Vec<(K, S)>>> {
    let view = match states {
        Behind::Here(view) => view,
        Behind::Away(states) => {
            // It waits for a job: that is no work for a thread that runs statements.
            let (states, (tell, told)) = (Arc::clone(states), oneshot::channel());
            tokio::task::spawn_blocking(move || {
                let found = states.get(keys, || !tell.is_canceled());
                // Who asked may have gone.
                let _ = tell.send(found);
            });
            let ended = || DataFusionError::Execution("the states were not looked up: the program ends".to_owned());
            return async move { told.await.map_err(|_| ended())?.map_err(of_ours) }.boxed();
        }
    };
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        let (tell, told) = oneshot::channel();
        let known = key.clone();
        Arc::clone(view).look_up(key, move |state| {
            // Who asked may have gone.
            let _ = tell.send(state.map(|state| (known, state)));
        });
        answers.push(told);
    }
    join_all(answers)
        .map(|answers| Ok(answers.into_iter().filter_map(|answer| answer.ok().flatten()).collect()))
        .boxed()
}

/// How many rows are read at a time, about.
const ROWS: usize = 4096;

/// Reads all keys and their states, some at a time. Who reads may have to wait.
pub(crate) fn read<K: Key, S: ExchangeData>(
    states: &Behind<K, S>,
) -> Box<dyn Iterator<Item = PlanResult<Vec<(K, S)>>> + Send> {
    let mut entries: Box<dyn Iterator<Item = Result<Vec<(K, S)>>> + Send> = match states {
        Behind::Here(view) => Box::new(Arc::clone(view).entries().map(Ok)),
        Behind::Away(states) => Box::new(Arc::clone(states).entries()),
    };
    // A partition that comes from elsewhere comes as a whole.
    let mut left: Vec<(K, S)> = Vec::new();
    Box::new(std::iter::from_fn(move || {
        while left.len() < ROWS {
            match entries.next() {
                Some(Ok(mut some)) => left.append(&mut some),
                Some(Err(error)) => {
                    // Nothing comes behind it.
                    entries = Box::new(std::iter::empty());
                    left.clear();
                    return Some(Err(of_ours(error)));
                }
                None => break,
            }
        }
        let some = left.split_off(left.len().saturating_sub(ROWS));
        (!some.is_empty()).then_some(Ok(some))
    }))
}

struct StateOf<K, S> {
    states: Behind<K, S>,
    schema: SchemaRef,
}

impl<K, S> fmt::Debug for StateOf<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.states.fmt(f)
    }
}

impl<K: Key + Cell, S: ExchangeData + Row> AnyState for StateOf<K, S> {
    fn len(&self) -> usize {
        self.states.len()
    }

    fn is_at_hand(&self) -> bool {
        matches!(&self.states, Behind::Here(view) if view.is_at_hand())
    }

    fn look_up(&self, keys: &[ArrayRef]) -> PlanResult<BoxFuture<'static, PlanResult<ArrowBatch>>> {
        let Some(keys) = keys.first() else {
            return Err(of_ours(millstream_core::bug!("a key is looked up and there is none")));
        };
        let reader = K::reader(keys, None, "key").map_err(of_ours)?;
        let keys = (0..keys.len()).map(|row| K::read(&reader, row)).collect();
        let (schema, time) = (Arc::clone(&self.schema), self.states.time());
        Ok(found(&self.states, keys).map(move |found| columns(&found?, &schema, time)).boxed())
    }

    fn pieces(&self) -> Box<dyn Iterator<Item = PlanResult<ArrowBatch>> + Send> {
        let (schema, time) = (Arc::clone(&self.schema), self.states.time());
        Box::new(read(&self.states).map(move |rows| columns(&rows?, &schema, time)))
    }
}

fn columns<K: Cell, S: Row>(rows: &[(K, S)], schema: &SchemaRef, time: Time) -> PlanResult<ArrowBatch> {
    let (mut keys, mut states) = (K::builder(rows.len()), S::builders(rows.len()));
    for (key, state) in rows {
        key.append_cell(&mut keys);
        state.append_row(&mut states);
    }
    let mut columns = vec![<K as Cell>::finish(keys)];
    columns.extend(S::finish(states));
    columns.push(times(time, rows.len()));
    Ok(ArrowBatch::try_new(Arc::clone(schema), columns)?)
}

/// The column that says of which batch rows are.
pub(crate) fn times(time: Time, rows: usize) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_value(time.as_millis(), rows))
}
