//! What SQL adds to streams: columns of rows, rows of columns, and statements.

use std::marker::PhantomData;

use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{CallSite, Data, PartitionIter, Pass, Result, pass_over};
use millstream_streaming::DStream;

use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::context::SqlContext;
use crate::query::StreamTables;
use crate::row::{Row, from_columns};

/// What SQL adds to streams.
pub trait SqlStreams<T> {
    /// Gives the rows of each batch as columns: a [`RecordBatch`] or more a partition, and one without rows for a partition
    /// without any.
    ///
    /// Who keeps a window of rows for statements keeps columns instead: they are made once, and need less memory.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use millstream_sql::SqlStreams as _;
    ///
    /// let table = show([vec![1i64, 2], vec![]], |numbers| numbers.columns().map(|columns| columns.num_rows()).reduce(|a, b| a + b));
    /// assert_eq!(table, "1s 2\n2s 0");
    /// ```
    ///
    /// # Errors
    ///
    /// A batch fails whose text does not fit into columns of 2 GiB.
    ///
    /// # Spark
    ///
    /// `rdd.toDF()` in `foreachRDD`.
    #[track_caller]
    fn columns(&self) -> DStream<RecordBatch>
    where
        T: Columnar;

    /// Gives the rows of columns.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// use millstream_sql::SqlStreams as _;
    ///
    /// let table = show([vec![(1i64, 2i64)], vec![(3, 4)]], |pairs| pairs.columns().rows::<(i32, f64)>());
    /// assert_eq!(table, "1s (1,2.0)\n2s (3,4.0)");
    /// ```
    ///
    /// # Errors
    ///
    /// A batch fails that has no column for a field, or one of another type; the error names the field.
    ///
    /// # Spark
    ///
    /// `df.as[T].rdd`.
    #[track_caller]
    fn rows<R: Row>(&self) -> DStream<R>
    where
        T: Into<RecordBatch>;

    /// Asks a statement of each batch, which is the table `name` in it. Other tables are those of `sql`, as they are when the batch
    /// begins.
    ///
    /// The statement is read and checked now, and planned once: a batch runs the plan that is kept. It is planned anew when the size
    /// of the batches leaves its power of ten, when a table is read again, and when a function is registered. Over a
    /// [window](DStream::window) it is asked of all rows of the window. Several streams in one statement are said with
    /// [`SqlContext::over`].
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::{Row, SqlContext, SqlStreams as _};
    /// use millstream_testkit::{StreamTest, batches};
    ///
    /// #[derive(Clone, Row, serde::Serialize, serde::Deserialize)]
    /// struct Total {
    ///     word: String,
    ///     total: i64,
    /// }
    ///
    /// # let mut test = StreamTest::new();
    /// # let words = test.input(batches![["to", "be", "to"], ["be"]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// let totals = words.sql::<Total>(&sql, "words", "SELECT value AS word, count(*) AS total FROM words GROUP BY value ORDER BY word");
    /// # let seen = test.collect(&totals.map(|t| (t.word, t.total)));
    /// # test.run(2)?;
    /// assert_eq!(seen.table().to_string(), "1s (be,1) (to,2)\n2s (be,1)");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a statement that does not parse, tables, columns and functions that are not there, types that do not fit, and
    /// fields of `R` without a column: each with the place in the statement, the nearest name, and the line of the call. A batch fails
    /// whose values do not fit, as in a division by zero.
    ///
    /// # Cost
    ///
    /// A batch of few rows costs some tens of microseconds beside its rows. The statement runs as one task; what comes before it, and
    /// the making of columns, runs on all cores.
    ///
    /// # Spark
    ///
    /// `foreachRDD` or `transform` with `rdd.toDF.createOrReplaceTempView(name)` and `spark.sql(statement)`, which plans each batch.
    #[track_caller]
    fn sql<R: Columnar>(&self, sql: &SqlContext, name: &str, statement: &str) -> DStream<R>
    where
        T: Columnar;
}

impl<T: Data> SqlStreams<T> for DStream<T> {
    fn columns(&self) -> DStream<RecordBatch>
    where
        T: Columnar,
    {
        let site = CallSite::here("columns");
        self.lift(site, move |rdd, _| pass_over(&rdd, ToColumns::default(), site))
    }

    fn rows<R: Row>(&self) -> DStream<R>
    where
        T: Into<RecordBatch>,
    {
        let site = CallSite::here("rows");
        self.lift(site, move |rdd, _| pass_over(&rdd, ToRows::<T, R>(PhantomData), site))
    }

    fn sql<R: Columnar>(&self, sql: &SqlContext, name: &str, statement: &str) -> DStream<R>
    where
        T: Columnar,
    {
        StreamTables::of(sql, name, self, CallSite::here("sql")).asked(statement, CallSite::here("sql"))
    }
}

/// Writes the rows of a partition as columns.
pub(crate) struct ToColumns<T>(PhantomData<fn(T)>);

impl<T> Default for ToColumns<T> {
    fn default() -> ToColumns<T> {
        ToColumns(PhantomData)
    }
}

impl<T: Columnar> Pass for ToColumns<T> {
    type In = T;
    type Out = RecordBatch;

    fn run(&self, rows: PartitionIter<T>) -> Result<Vec<RecordBatch>> {
        T::write(rows)
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Ok(())
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Ok(ToColumns(PhantomData))
    }
}

/// Reads the rows of columns.
struct ToRows<T, R>(PhantomData<fn(T) -> R>);

impl<T: Data + Into<RecordBatch>, R: Row> Pass for ToRows<T, R> {
    type In = T;
    type Out = R;

    fn run(&self, columns: PartitionIter<T>) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        for columns in columns {
            rows.append(&mut from_columns::<R>(&columns.into())?);
        }
        Ok(rows)
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Ok(())
    }

    fn unship(_: &mut PlanReader<'_>) -> Result<Self> {
        Ok(ToRows(PhantomData))
    }
}
