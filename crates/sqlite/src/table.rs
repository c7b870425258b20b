//! A table as a sink, of rows or of whatever a closure makes rows of.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::{Data, Error, ErrorKind, Rdd, Result};
use millstream_streaming::{OutputBatch, OutputRun, Transactional};

use crate::sink::Database;
use crate::sql::Target;
use crate::staging::StagedBatch;
use crate::value::{IntoRow, SqlValue};

/// A table as a sink of rows: of tuples, arrays or vectors of values.
///
/// # Cost
///
/// A batch's rows are collected on the driver, and written twice: staged, and moved. Each of the two waits for the
/// disk once. A batch without rows costs nothing.
#[derive(Clone)]
pub struct SqliteTable {
    database: Arc<Database>,
    target: Target,
}

/// A table as a sink of anything, with a closure that makes rows. See [`SqliteTable::rows`].
pub struct SqliteRows<T, R, F> {
    table: SqliteTable,
    row: Arc<F>,
    of: PhantomData<fn(T) -> R>,
}

impl<T, R, F> Clone for SqliteRows<T, R, F> {
    fn clone(&self) -> Self {
        SqliteRows { table: self.table.clone(), row: Arc::clone(&self.row), of: PhantomData }
    }
}

impl SqliteTable {
    pub(crate) fn new(database: Arc<Database>, table: String, columns: Vec<String>) -> Result<SqliteTable> {
        let path = database.path.display().to_string();
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
        if columns.is_empty() {
            return refuse(format!("table {table} of {path} is to be written, and no column is named"));
        }
        if let Some(twice) = columns.iter().enumerate().find(|(i, column)| columns[..*i].contains(column)) {
            return refuse(format!("column `{}` of table {table} of {path} is named twice", twice.1));
        }
        let there: Vec<String> = {
            let connection = database.connection();
            let ask = connection.prepare("SELECT name FROM pragma_table_info(?1)").and_then(|mut ask| {
                let names = ask.query_map([&table], |row| row.get(0))?;
                names.collect()
            });
            ask.map_err(|error| database.failed(format_args!("looking at table {table}"), &error))?
        };
        if there.is_empty() {
            return refuse(format!("the database {path} has no table {table}: make it first, with execute, say"));
        }
        if let Some(missing) = columns.iter().find(|column| !there.iter().any(|name| name.eq_ignore_ascii_case(column)))
        {
            let there = there.join(", ");
            return refuse(format!("table {table} of the database {path} has no column `{missing}`: it has {there}"));
        }
        Ok(SqliteTable { database, target: Target { table, columns, key: Vec::new() } })
    }

    /// Has a row replace the one that has the same values in the columns `key`, if there is one. Of several rows of a
    /// batch with one key the last stays.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if a column of the key is none of the columns that are written, or the table has no
    /// primary key or unique index of just these columns.
    pub fn upsert_on<C: Into<String>>(mut self, key: impl IntoIterator<Item = C>) -> Result<SqliteTable> {
        let key: Vec<String> = key.into_iter().map(Into::into).collect();
        let (table, path) = (&self.target.table, self.database.path.display());
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
        if key.is_empty() {
            return refuse(format!("upsert_on of table {table} of {path} names no column"));
        }
        if let Some(other) = key.iter().find(|column| !self.target.columns.contains(column)) {
            let columns = self.target.columns.join(", ");
            return refuse(format!("upsert_on of table {table} of {path}: `{other}` is none of the columns {columns}"));
        }
        let target = Target { key, ..self.target.clone() };
        let possible = self.database.connection().prepare(&target.insert_row()).map(drop);
        if let Err(error) = possible {
            let key = target.key.join(", ");
            return refuse(format!(
                "table {table} of the database {path} cannot find a row by ({key}): give it a primary key or a unique \
                 index of these columns ({error})"
            ));
        }
        self.target = target;
        Ok(self)
    }

    /// Returns the table as a sink of anything: `row` makes a row of it, in the tasks of the batch.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("lengths.db");
    /// use millstream_core::Text;
    /// use millstream_sqlite::SqliteSink;
    ///
    /// let sink = SqliteSink::open(&path)?.execute("CREATE TABLE lengths (word TEXT, length INTEGER)")?;
    /// let lengths = sink.table("lengths", ["word", "length"])?.rows(|word: Text| {
    ///     let length = word.len();
    ///     (word, length)
    /// });
    /// # use millstream_testkit::doc::*;
    /// # run([vec!["to", "be"], vec!["or"]], move |words| {
    /// words.save_to(lengths.clone()).uid("lengths");
    /// # });
    /// assert_eq!(sink.query("SELECT sum(length) FROM lengths")?, [[6.into()]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn rows<T, R, F>(self, row: F) -> SqliteRows<T, R, F>
    where
        T: Data,
        R: IntoRow,
        F: Fn(T) -> R + Send + Sync + 'static,
    {
        SqliteRows { table: self, row: Arc::new(row), of: PhantomData }
    }

    fn stage(&self, rows: &Rdd<Vec<SqlValue>>, batch: &OutputBatch) -> Result<StagedBatch> {
        self.database.stage(&self.target, &rows.collect()?, batch)
    }
}

impl<T: Data + IntoRow> Transactional<T> for SqliteTable {
    type Prepared = StagedBatch;

    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<StagedBatch> {
        self.stage(&rdd.map(IntoRow::into_row), batch)
    }

    fn commit(&self, prepared: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.database.commit(prepared, batch)
    }

    fn abort(&self, prepared: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.database.abort(prepared, batch)
    }

    fn recover(&self, known: &[(OutputBatch, StagedBatch)], run: &OutputRun) -> Result<()> {
        self.database.recover(known, run)
    }
}

impl<T, R, F> Transactional<T> for SqliteRows<T, R, F>
where
    T: Data,
    R: IntoRow + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    type Prepared = StagedBatch;

    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<StagedBatch> {
        let row = Arc::clone(&self.row);
        self.table.stage(&rdd.map(move |item| row(item).into_row()), batch)
    }

    fn commit(&self, prepared: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.table.database.commit(prepared, batch)
    }

    fn abort(&self, prepared: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.table.database.abort(prepared, batch)
    }

    fn recover(&self, known: &[(OutputBatch, StagedBatch)], run: &OutputRun) -> Result<()> {
        self.table.database.recover(known, run)
    }
}

impl fmt::Debug for SqliteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { table, columns, .. } = &self.target;
        write!(f, "SqliteTable({table}({}) of {})", columns.join(", "), self.database.path.display())
    }
}

impl<T, R, F> fmt::Debug for SqliteRows<T, R, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteRows({:?})", self.table)
    }
}
