//! What can be turned into columns and made of them: rows, and columns themselves.

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Data, Result};

use crate::batch::RecordBatch;
use crate::row::{self, Row, from_columns, schema_of, to_columns};

/// How many rows come into one batch of columns: few enough that what is made of them is still in the cache.
pub(crate) const ROWS: usize = 8192;

/// An element that a statement reads, or gives: any [`Row`], a [`RecordBatch`] as it is, or a `Serde<T>` of a type that has only serde.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a table",
    label = "no columns are known for it",
    note = "a struct with named fields needs `#[derive(Row)]`; tuples up to 12, numbers, text and `bool` are rows already",
    note = "`Serde<T>` is a row of a type that has serde's traits (feature `serde-rows`)"
)]
pub trait Columnar: Data {
    /// Returns the schema, if the type alone tells it.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the type has no columns.
    fn schema() -> Result<Option<SchemaRef>>;
    #[doc(hidden)]
    fn write(elements: impl Iterator<Item = Self>) -> Result<Vec<RecordBatch>>;
    #[doc(hidden)]
    fn read(columns: RecordBatch) -> Result<Vec<Self>>;
    /// Fails if elements cannot be made of columns of this schema.
    #[doc(hidden)]
    fn check(schema: &Schema) -> Result<()>;
}

impl<T: Row> Columnar for T {
    fn schema() -> Result<Option<SchemaRef>> {
        Ok(Some(schema_of::<T>()))
    }

    fn write(mut elements: impl Iterator<Item = T>) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        loop {
            let batch = to_columns(elements.by_ref().take(ROWS))?;
            let more = batch.num_rows() == ROWS;
            if batch.num_rows() > 0 || batches.is_empty() {
                batches.push(batch);
            }
            if !more {
                return Ok(batches);
            }
        }
    }

    fn read(columns: RecordBatch) -> Result<Vec<T>> {
        from_columns(&columns)
    }

    fn check(schema: &Schema) -> Result<()> {
        row::check::<T>(schema)
    }
}

impl Columnar for RecordBatch {
    fn schema() -> Result<Option<SchemaRef>> {
        Ok(None)
    }

    fn write(elements: impl Iterator<Item = RecordBatch>) -> Result<Vec<RecordBatch>> {
        Ok(elements.collect())
    }

    fn read(columns: RecordBatch) -> Result<Vec<RecordBatch>> {
        Ok(vec![columns])
    }

    fn check(_: &Schema) -> Result<()> {
        Ok(())
    }
}
