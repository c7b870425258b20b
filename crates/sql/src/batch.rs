//! Columns that travel: a batch of rows as Arrow holds it, which is an element of streams as any other.

use std::fmt;
use std::io::Cursor;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use millstream_core::{Error, ErrorKind, Result};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows as columns, with their schema: Arrow's record batch, which it stands for, as an element that may travel.
///
/// A `DStream<RecordBatch>` is a stream as any other: it may be windowed, collected, saved. Cloning one shares the columns.
///
/// # Example
///
/// ```
/// use millstream_sql::{RecordBatch, to_columns};
///
/// let batch: RecordBatch = to_columns(vec![("a".to_owned(), 1i64), ("b".to_owned(), 2)])?;
/// assert_eq!((batch.num_rows(), batch.num_columns()), (2, 2));
/// let arrow: millstream_sql::arrow::record_batch::RecordBatch = batch.into();
/// # let _ = arrow;
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct RecordBatch(ArrowBatch);

impl RecordBatch {
    /// Puts columns together.
    pub(crate) fn of(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        ArrowBatch::try_new_with_options(schema, columns, &options)
            .map(RecordBatch)
            .map_err(|e| Error::new(ErrorKind::Data, format!("rows do not make columns: {e}")))
    }

    /// Returns a batch without rows.
    pub fn empty(schema: SchemaRef) -> RecordBatch {
        RecordBatch(ArrowBatch::new_empty(schema))
    }

    fn to_ipc(&self) -> Result<Vec<u8>, datafusion::arrow::error::ArrowError> {
        let mut writer = StreamWriter::try_new(Vec::new(), &self.0.schema())?;
        writer.write(&self.0)?;
        writer.into_inner()
    }

    fn from_ipc(bytes: &[u8]) -> Result<RecordBatch, datafusion::arrow::error::ArrowError> {
        if bytes.is_empty() {
            return Ok(RecordBatch::empty(Arc::new(Schema::empty())));
        }
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
        let schema = reader.schema();
        reader.next().unwrap_or_else(|| Ok(ArrowBatch::new_empty(schema))).map(RecordBatch)
    }
}

impl Deref for RecordBatch {
    type Target = ArrowBatch;

    fn deref(&self) -> &ArrowBatch {
        &self.0
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl From<ArrowBatch> for RecordBatch {
    fn from(batch: ArrowBatch) -> RecordBatch {
        RecordBatch(batch)
    }
}

impl From<RecordBatch> for ArrowBatch {
    fn from(batch: RecordBatch) -> ArrowBatch {
        batch.0
    }
}

/// Its form outside of a process is a stream of Arrow's IPC with one batch, which names its own version.
impl Serialize for RecordBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_ipc().map_err(|e| S::Error::custom(format!("columns cannot be written: {e}")))?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for RecordBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RecordBatch, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        RecordBatch::from_ipc(&bytes).map_err(|e| D::Error::custom(format!("columns cannot be read: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::codec;

    use super::*;
    use crate::row::to_columns;

    #[test]
    fn a_batch_is_itself_again_after_it_was_bytes_also_without_rows_or_columns() {
        for rows in [vec![], vec![("a".to_owned(), Some(1i64)), ("ü".to_owned(), None)]] {
            let batch = to_columns(rows).unwrap();
            let bytes = codec::encode(&batch).unwrap();
            assert_eq!(codec::decode::<RecordBatch>(&bytes).unwrap(), batch);
        }
        let none = RecordBatch::empty(Arc::new(Schema::empty()));
        assert_eq!(codec::decode::<RecordBatch>(&codec::encode(&none).unwrap()).unwrap(), none);
    }

    #[test]
    fn bytes_that_are_no_columns_are_an_error() {
        let broken = codec::encode(&Bytes::from_static(b"not arrow at all")).unwrap();
        let error = codec::decode::<RecordBatch>(&broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
