//! Plans that are kept: made once for what they depend on, run by one task at a time, and reset between runs.

#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect};
use millstream_core::Result;
use millstream_core::threads::lock;

use crate::error::told;
use crate::functions::Functions;
use crate::runtime::wait;
use crate::statement::Table;

/// How many plans a statement keeps: one for each size of its tables, as powers of ten go, and the newest of those.
pub(crate) const KEPT: usize = 16;

/// After how many runs a plan is made anew. What operators count about themselves may grow with each run.
pub(crate) const RUNS: u64 = if cfg!(test) { 200 } else { 10_000 };

/// What a plan depends on. One that was made for something else is not used.
#[derive(PartialEq)]
pub(crate) struct Key {
    tables: Vec<(SchemaRef, u64, u32)>,
    functions: u64,
}

impl Key {
    pub(crate) fn of(tables: &[Table], functions: &Functions) -> Key {
        let tables = tables.iter().map(|t| (Arc::clone(&t.schema), t.version, t.bucket())).collect();
        Key { tables, functions: functions.version }
    }
}

/// A plan, and those copies of it that nobody runs at the moment: a plan is run by one task at a time.
struct Kept {
    key: Key,
    names: Arc<Vec<String>>,
    idle: Vec<(Arc<dyn ExecutionPlan>, u64)>,
}

/// The plans of a statement, or of a part of one.
#[derive(Default)]
pub(crate) struct Plans {
    kept: Mutex<Vec<Kept>>,
    #[cfg(test)]
    made: AtomicU64,
}

impl Plans {
    /// Runs the plan that is kept for `key`, or the one that `make` makes; returns what its columns are called, too.
    pub(crate) fn run(
        &self,
        key: Key,
        task: Arc<TaskContext>,
        text: &str,
        make: impl FnOnce() -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<String>>)>,
    ) -> Result<(Vec<RecordBatch>, Arc<Vec<String>>)> {
        let (plan, runs, names) = self.taken(&key, make)?;
        let result = wait(collect(Arc::clone(&plan), task))?;
        self.ran(key, plan, runs, &names, text, result).map(|rows| (rows, names))
    }

    /// As [`run`](Self::run), where an async runtime runs.
    pub(crate) async fn run_here(
        &self,
        key: Key,
        task: Arc<TaskContext>,
        text: &str,
        make: impl FnOnce() -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<String>>)>,
    ) -> Result<(Vec<RecordBatch>, Arc<Vec<String>>)> {
        let (plan, runs, names) = self.taken(&key, make)?;
        let result = collect(Arc::clone(&plan), task).await;
        self.ran(key, plan, runs, &names, text, result).map(|rows| (rows, names))
    }

    fn taken(
        &self,
        key: &Key,
        make: impl FnOnce() -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<String>>)>,
    ) -> Result<(Arc<dyn ExecutionPlan>, u64, Arc<Vec<String>>)> {
        if let Some(kept) = self.take(key) {
            return Ok(kept);
        }
        #[cfg(test)]
        self.made.fetch_add(1, Ordering::Relaxed);
        let (plan, names) = make()?;
        Ok((plan, 0, names))
    }

    /// Keeps a plan that has run.
    fn ran(
        &self,
        key: Key,
        plan: Arc<dyn ExecutionPlan>,
        runs: u64,
        names: &Arc<Vec<String>>,
        text: &str,
        result: datafusion::common::Result<Vec<RecordBatch>>,
    ) -> Result<Vec<RecordBatch>> {
        let rows = result.map_err(|e| told(&e, text))?;
        // A run that failed may have left anything in its operators.
        if runs + 1 < RUNS {
            let reset = reset_plan_states(plan).map_err(|e| told(&e, text))?;
            self.put_back(key, reset, runs + 1, names);
        }
        Ok(rows)
    }

    fn take(&self, key: &Key) -> Option<(Arc<dyn ExecutionPlan>, u64, Arc<Vec<String>>)> {
        let mut plans = lock(&self.kept);
        let kept = plans.iter_mut().find(|kept| kept.key == *key)?;
        let (plan, runs) = kept.idle.pop()?;
        Some((plan, runs, Arc::clone(&kept.names)))
    }

    fn put_back(&self, key: Key, plan: Arc<dyn ExecutionPlan>, runs: u64, names: &Arc<Vec<String>>) {
        let mut plans = lock(&self.kept);
        // The newest is the last, and the first is let go.
        let mut kept = match plans.iter().position(|kept| kept.key == key) {
            Some(at) => plans.remove(at),
            None => Kept { key, names: Arc::clone(names), idle: Vec::new() },
        };
        kept.idle.push((plan, runs));
        if plans.len() >= KEPT {
            plans.remove(0);
        }
        plans.push(kept);
    }

    /// How often one has been made.
    #[cfg(test)]
    pub(crate) fn times_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// How many copies of each nobody runs at the moment.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> Vec<usize> {
        lock(&self.kept).iter().map(|kept| kept.idle.len()).collect()
    }
}
