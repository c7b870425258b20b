//! Parts by themselves, for benchmarks: a statement without the batch around it, and how a batch is published.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::Schema;
use millstream_core::clock::monotonic;
use millstream_core::{Result, Time};

use crate::batch::RecordBatch;
use crate::functions::Functions;
use crate::live::{Content, Live};
use crate::session::Session;
use crate::statement::{Statement, Table};

/// A statement that is planned once, over tables that are given with each run.
#[derive(Debug)]
pub struct Kept(Statement);

impl Kept {
    /// Reads a statement, which may hold `memory` bytes when it runs.
    pub fn new(text: &str, memory: u64) -> Result<Kept> {
        Statement::new(text, &Arc::new(Session::new(memory)?)).map(Kept)
    }

    /// Runs it over these tables.
    pub fn run(&self, tables: &[(&str, &Arc<Vec<RecordBatch>>)]) -> Result<Vec<RecordBatch>> {
        let table = |(name, rows): &(&str, &Arc<Vec<RecordBatch>>)| Table {
            name: (*name).to_owned(),
            schema: rows.first().map_or_else(|| Arc::new(Schema::empty()), |rows| rows.schema()),
            rows: Arc::clone(rows),
            version: 0,
        };
        self.0.run(&tables.iter().map(table).collect::<Vec<_>>(), &Functions::default())
    }
}

/// Live tables without a program.
#[derive(Debug)]
pub struct Published(Live);

impl Published {
    /// Makes so many tables without columns, named `t0`, `t1` and so on.
    pub fn new(tables: usize) -> Result<Published> {
        let live = Live::new();
        (0..tables)
            .try_for_each(|number| live.declare(&format!("t{number}"), Some(Arc::new(Schema::empty())), Vec::new()))?;
        Ok(Published(live))
    }

    /// Adds all tables to a batch, and returns how long the last one took: with it the batch is published.
    pub fn publish(&self, time: Time, tables: usize) -> Duration {
        let names: Vec<String> = (0..tables).map(|number| format!("t{number}")).collect();
        for name in &names {
            self.0.expect(time, name, Arc::default());
        }
        let schema = Arc::new(Schema::empty());
        let mut took = Duration::ZERO;
        for name in &names {
            let begun = monotonic();
            self.0.add(time, name, &schema, Content::Rows { time, rows: Arc::default() });
            took = monotonic().saturating_sub(begun);
        }
        took
    }

    /// Takes the newest batch, as a statement does.
    pub fn read(&self) -> Option<Time> {
        self.0.newest().time()
    }
}
