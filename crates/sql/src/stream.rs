//! What SQL adds to streams: columns of rows, rows of columns, and statements.

use std::marker::PhantomData;

use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{CallSite, Data, PartitionIter, Pass, Result, pass_over};
use millstream_streaming::{DStream, Output};

use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::context::SqlContext;
use crate::continuous::Continuous;
use crate::query::StreamTables;
use crate::warehouse::{self, SaveTable};

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
    fn rows<R: Columnar>(&self) -> DStream<R>
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

    /// Keeps the answer to a statement over all rows of the stream so far: each batch changes the groups that it has rows of.
    ///
    /// The stream is the table `name` in the statement, and is grouped in it, or counted as a whole. Conditions, and joins with tables of
    /// `sql`, may stand below the groups; a row is joined with a table as it was in the row's batch. Anything may stand behind the
    /// groups: `HAVING`, `ORDER BY`, `LIMIT`, joins, another grouping. What comes of it is a stream as any other, of the whole answer behind
    /// each batch; [`Continuous::changes`] is that of the groups which changed.
    ///
    /// The states of groups are a state as that of [`map_with_state`](DStream::map_with_state): it is saved every ten batches, and
    /// a program that starts again goes on from it. A build that groups by something else, or asks for other aggregates, is told so
    /// at `start()`, and what it has kept.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::{SqlContext, SqlStreams as _};
    /// use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let words = test.input(batches![["to", "be", "to"], ["be", "or"], []]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// let statement = "SELECT value, count(*) AS n FROM words GROUP BY value ORDER BY n DESC, value LIMIT 2";
    /// let top = words.continuous_sql::<(String, i64)>(&sql, "words", statement);
    /// # let seen = test.collect(&top);
    /// # test.run(3)?;
    /// assert_eq!(seen.table().to_string(), "1s (to,2) (be,1)\n2s (be,2) (to,2)\n3s (be,2) (to,2)");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports what [`sql`](Self::sql) does; a missing checkpoint directory; and a statement that cannot be kept up to
    /// date, with the reason: one without groups, with `LIMIT` or `OVER` below them, or that reads the stream twice, joins it with itself, or
    /// keeps rows of a table that have not found theirs yet.
    ///
    /// # Cost
    ///
    /// A batch costs what it changes: its groups cross a shuffle to where their states are. To read the whole answer costs as much as there
    /// are groups. A state is there for each group, for ever; `count(DISTINCT x)`, `collect_list` and their like keep every value besides,
    /// and are warned of.
    ///
    /// # Spark
    ///
    /// A streaming query of `readStream`; with DStreams, `updateStateByKey` and a program of one's own.
    #[track_caller]
    fn continuous_sql<R: Columnar>(&self, sql: &SqlContext, name: &str, statement: &str) -> Continuous<R>
    where
        T: Columnar;

    /// Saves each batch as rows of a table: files of Parquet in a folder of the [warehouse](SqlContext::set_warehouse), which others
    /// read as well.
    ///
    /// Each batch is in the table once, whenever the program is stopped and begun again with its checkpoint directory: its files are
    /// written aside while it runs, and the table takes them when the batch's end is durable. Whoever reads the table by its own list
    /// ([`SqlContext::register_saved_table`]) sees whole batches; whoever reads the folder sees files some moments earlier, and those that
    /// are replaced some moments longer. One program at a time writes to a table.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::{SaveTable, SqlContext, SqlStreams as _};
    /// use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let words = test.input(batches![[("to", 2i64), ("be", 1i64)], [("or", 1i64)]]);
    /// # let folder = tempfile::tempdir()?;
    /// let sql = SqlContext::new(test.ssc())?;
    /// sql.set_warehouse(folder.path());
    /// words.save_as_table(&sql, SaveTable::append("words"));
    /// # test.run(2)?;
    ///
    /// sql.register_saved_table("words")?;
    /// let all = sql.sql("SELECT _1, _2 FROM words ORDER BY _1")?.collect::<(String, i64)>()?;
    /// assert_eq!(all, [("be".to_owned(), 1), ("or".to_owned(), 1), ("to".to_owned(), 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a name that is none, one of a database (which Hive's metastore would keep), columns of folders that the rows
    /// have not, and a table that another program writes to. A batch fails whose columns are not the table's, or that finds a table where there must be none.
    ///
    /// # Cost
    ///
    /// A file a partition of the batch and folder, and waits for the disk for each; a commit renames them on the batch thread.
    /// Many small batches make many small files.
    ///
    /// # Spark
    ///
    /// `df.write.mode(…).partitionBy(…).saveAsTable(name)` in `foreachRDD`, which has a batch twice that runs twice.
    #[track_caller]
    fn save_as_table(&self, sql: &SqlContext, table: SaveTable) -> Output
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

    fn rows<R: Columnar>(&self) -> DStream<R>
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

    fn continuous_sql<R: Columnar>(&self, sql: &SqlContext, name: &str, statement: &str) -> Continuous<R>
    where
        T: Columnar,
    {
        Continuous::of(self, sql, name, statement, CallSite::here("continuous_sql"))
    }

    fn save_as_table(&self, sql: &SqlContext, table: SaveTable) -> Output
    where
        T: Columnar,
    {
        warehouse::save(self, sql, table, CallSite::here("save_as_table"))
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

impl<T: Data + Into<RecordBatch>, R: Columnar> Pass for ToRows<T, R> {
    type In = T;
    type Out = R;

    fn run(&self, columns: PartitionIter<T>) -> Result<Vec<R>> {
        let mut rows = Vec::new();
        for columns in columns {
            rows.append(&mut R::read(columns.into())?);
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
