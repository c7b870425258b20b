//! The states of a stream as a table: by key, and from end to end.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch, TimestampMillisecondArray};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result as PlanResult};
use futures::channel::oneshot;
use futures::future::{BoxFuture, FutureExt as _, join_all};
use millstream_core::{CallSite, ExchangeData, Key, Time};
use millstream_streaming::{DStream, MappedState, StateView};

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
        f: impl Fn(Arc<StateView<Self::Key, Self::State>>) + Send + Sync + 'static,
    );

    #[doc(hidden)]
    fn mistake(&self, error: millstream_core::Error);

    #[doc(hidden)]
    fn viewed(view: Arc<StateView<Self::Key, Self::State>>, schema: &SchemaRef) -> Arc<dyn AnyState> {
        Arc::new(StateOf { view, schema: Arc::clone(schema) })
    }
}

impl<K: Key + Cell, S: ExchangeData + Row, E: ExchangeData> States for MappedState<K, S, E> {
    type Key = K;
    type State = S;

    fn foreach(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        f: impl Fn(Arc<StateView<K, S>>) + Send + Sync + 'static,
    ) {
        let _ = self.foreach_states_at(site, planned, f);
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
        f: impl Fn(Arc<StateView<K, S>>) + Send + Sync + 'static,
    ) {
        let _ = self.foreach_states_at(site, planned, f);
    }

    fn mistake(&self, error: millstream_core::Error) {
        DStream::mistake(self, error);
    }
}

/// States whose types are not known.
#[doc(hidden)]
pub trait AnyState: fmt::Debug + Send + Sync {
    fn len(&self) -> usize;
    /// Looks up some keys, each of which stands there once. It is never run by a thread that would wait for a batch.
    fn look_up(&self, keys: &ArrayRef) -> PlanResult<BoxFuture<'static, PlanResult<ArrowBatch>>>;
    /// Reads all, some at a time. Who reads may have to wait.
    fn pieces(&self) -> Box<dyn Iterator<Item = PlanResult<ArrowBatch>> + Send>;
}

struct StateOf<K, S> {
    view: Arc<StateView<K, S>>,
    schema: SchemaRef,
}

impl<K, S> fmt::Debug for StateOf<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

/// How many rows are read at a time, about.
const ROWS: usize = 4096;

impl<K: Key + Cell, S: ExchangeData + Row> AnyState for StateOf<K, S> {
    fn len(&self) -> usize {
        self.view.len()
    }

    fn look_up(&self, keys: &ArrayRef) -> PlanResult<BoxFuture<'static, PlanResult<ArrowBatch>>> {
        let reader = K::reader(keys, None, "key").map_err(|e| DataFusionError::External(Box::new(e)))?;
        let mut answers = Vec::with_capacity(keys.len());
        for row in 0..keys.len() {
            let key = K::read(&reader, row);
            let (tell, told) = oneshot::channel();
            let known = key.clone();
            Arc::clone(&self.view).look_up(key, move |state| {
                // Who asked may have gone.
                let _ = tell.send(state.map(|state| (known, state)));
            });
            answers.push(told);
        }
        let (schema, time) = (Arc::clone(&self.schema), self.view.time());
        let found = join_all(answers).map(move |answers| {
            let rows: Vec<(K, S)> = answers.into_iter().filter_map(|answer| answer.ok().flatten()).collect();
            columns(&rows, &schema, time)
        });
        Ok(found.boxed())
    }

    fn pieces(&self) -> Box<dyn Iterator<Item = PlanResult<ArrowBatch>> + Send> {
        let (schema, time) = (Arc::clone(&self.schema), self.view.time());
        let mut entries = Arc::clone(&self.view).entries();
        Box::new(std::iter::from_fn(move || {
            let mut rows: Vec<(K, S)> = Vec::new();
            while rows.len() < ROWS {
                let Some(mut some) = entries.next() else { break };
                rows.append(&mut some);
            }
            (!rows.is_empty()).then(|| columns(&rows, &schema, time))
        }))
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
pub(super) fn times(time: Time, rows: usize) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_value(time.as_millis(), rows))
}
