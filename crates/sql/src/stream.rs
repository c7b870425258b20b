//! What SQL adds to streams: columns of rows, rows of columns, and statements.

use std::marker::PhantomData;

use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{CallSite, Data, PartitionIter, Pass, Result, pass_over};
use millstream_streaming::DStream;

use crate::batch::RecordBatch;
use crate::columnar::Columnar;
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
}

impl<T: Data> SqlStreams<T> for DStream<T> {
    fn columns(&self) -> DStream<RecordBatch>
    where
        T: Columnar,
    {
        let site = CallSite::here("columns");
        self.lift(site, move |rdd, _| pass_over(&rdd, ToColumns(PhantomData), site))
    }

    fn rows<R: Row>(&self) -> DStream<R>
    where
        T: Into<RecordBatch>,
    {
        let site = CallSite::here("rows");
        self.lift(site, move |rdd, _| pass_over(&rdd, ToRows::<T, R>(PhantomData), site))
    }
}

/// Writes the rows of a partition as columns.
pub(crate) struct ToColumns<T>(pub(crate) PhantomData<fn(T)>);

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
