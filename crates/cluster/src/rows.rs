//! What tasks leave for others, as rows that Ballista carries: a key that says who reads a row, and the row's bytes.
//!
//! A row begins with its [`Head`]. What is longer than [`PIECE`] is several rows, so that no message is too large to be sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion::arrow::array::{Array, LargeBinaryArray, LargeBinaryBuilder, UInt32Builder};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use millstream_core::{Error, ErrorKind, Result, ShuffleId, codec};
use serde::{Deserialize, Serialize};

/// How many bytes a row has at most, beside its head.
pub(crate) const PIECE: usize = 1 << 20;

/// About how many bytes a batch of rows has at most.
const BATCH: usize = 4 << 20;

/// What the bytes of a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// What a map task wrote for a partition behind its shuffle.
    Block { shuffle: ShuffleId, map: usize, partition: usize, items: Option<usize> },
    /// What the driver is to know of a task that has succeeded. It goes through all stages behind.
    Note { stage: u32, partition: usize },
    /// The result of a task of the last stage.
    Result { partition: usize },
}

impl Kind {
    /// Returns what it is, whatever is in it.
    fn of_any_items(self) -> Kind {
        match self {
            Kind::Block { shuffle, map, partition, .. } => Kind::Block { shuffle, map, partition, items: None },
            other => other,
        }
    }
}

/// The beginning of a row.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// The reader, counted as Ballista counts the partitions of the stage behind.
    to: u32,
    kind: Kind,
    /// Which writer's it is: pieces of two attempts at a task do not fit each other.
    run: u32,
    piece: u32,
    last: bool,
}

/// The columns of all rows.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: std::sync::OnceLock<SchemaRef> = std::sync::OnceLock::new();
    let fields = || vec![Field::new("to", DataType::UInt32, false), Field::new("row", DataType::LargeBinary, false)];
    Arc::clone(SCHEMA.get_or_init(|| Arc::new(Schema::new(fields()))))
}

/// Writes rows.
pub(crate) struct RowWriter {
    /// For each reader, what Ballista's hash sends to it.
    keys: Arc<Vec<u32>>,
    run: u32,
    to: UInt32Builder,
    rows: LargeBinaryBuilder,
    bytes: usize,
    batches: Vec<RecordBatch>,
}

impl RowWriter {
    /// Writes for readers that are reached by `keys`. No other writer is to have the number `run`.
    pub(crate) fn new(keys: Arc<Vec<u32>>, run: u32) -> RowWriter {
        let (to, rows) = (UInt32Builder::new(), LargeBinaryBuilder::new());
        RowWriter { keys, run, to, rows, bytes: 0, batches: Vec::new() }
    }

    /// Writes `bytes` for the reader `to`.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: there is no such reader.
    pub(crate) fn push(&mut self, to: u32, kind: Kind, bytes: &[u8]) -> Result<()> {
        let Some(key) = self.keys.get(to as usize).copied() else {
            return Err(millstream_core::bug!("a row is for reader {to} of {}", self.keys.len()));
        };
        let mut rest = bytes;
        for piece in 0.. {
            let (now, behind) = rest.split_at(rest.len().min(PIECE));
            let head = Head { to, kind, run: self.run, piece, last: behind.is_empty() };
            let mut row = codec::encode(&head)?;
            row.extend_from_slice(now);
            self.to.append_value(key);
            self.rows.append_value(&row);
            self.bytes += row.len();
            if self.bytes >= BATCH {
                self.end_batch()?;
            }
            if behind.is_empty() {
                return Ok(());
            }
            rest = behind;
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<()> {
        if self.bytes > 0 {
            let columns: Vec<Arc<dyn Array>> = vec![Arc::new(self.to.finish()), Arc::new(self.rows.finish())];
            self.batches.push(RecordBatch::try_new(schema(), columns).map_err(wrong)?);
            self.bytes = 0;
        }
        Ok(())
    }

    /// Returns the rows, in batches.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`.
    pub(crate) fn finish(mut self) -> Result<Vec<RecordBatch>> {
        self.end_batch()?;
        Ok(self.batches)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn wrong(error: impl std::fmt::Display) -> Error {
    millstream_core::bug!("rows of a stage are not in their form: {error}")
}

/// Reads rows and puts their pieces together. Of what several attempts at a task have written, one's is taken.
#[derive(Debug, Default)]
pub(crate) struct RowReader {
    /// By what they are and who wrote them. How many items a block has says nothing of which it is.
    parts: BTreeMap<Kind, BTreeMap<u32, Parts>>,
}

#[derive(Debug)]
struct Parts {
    kind: Kind,
    pieces: BTreeMap<u32, Bytes>,
    last: Option<u32>,
}

impl Parts {
    fn are_whole(&self) -> bool {
        self.last.is_some_and(|last| self.pieces.len() == last as usize + 1)
    }

    fn put_together(self) -> (Kind, Bytes) {
        let mut pieces = self.pieces.into_values();
        let first = pieces.next().unwrap_or_default();
        let mut rest = pieces.peekable();
        if rest.peek().is_none() {
            return (self.kind, first);
        }
        let mut all = BytesMut::from(&first[..]);
        rest.for_each(|piece| all.extend_from_slice(&piece));
        (self.kind, all.freeze())
    }
}

impl RowReader {
    /// Takes a batch. `reader` is who reads, if only its rows may come.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: these are no rows. It is `Internal` if a row is another reader's.
    pub(crate) fn push(&mut self, batch: &RecordBatch, reader: Option<u32>) -> Result<()> {
        let rows = batch.columns().get(1).and_then(|column| column.as_any().downcast_ref::<LargeBinaryArray>());
        let rows = rows.ok_or_else(|| wrong("a batch without rows"))?;
        for row in rows.iter() {
            let row = row.ok_or_else(|| wrong("a row that is nothing"))?;
            let (head, payload) = codec::decode_from::<Head>(row)?;
            if reader.is_some_and(|reader| reader != head.to) {
                return Err(millstream_core::bug!("a row for reader {} came to another", head.to));
            }
            let runs = self.parts.entry(head.kind.of_any_items()).or_default();
            let new = || Parts { kind: head.kind, pieces: BTreeMap::new(), last: None };
            let parts = runs.entry(head.run).or_insert_with(new);
            parts.pieces.insert(head.piece, Bytes::copy_from_slice(payload));
            if head.last {
                parts.last = Some(head.piece);
            }
        }
        Ok(())
    }

    /// Returns all that came, whole.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: a piece is missing, of whoever wrote it.
    pub(crate) fn finish(self) -> Result<Vec<(Kind, Bytes)>> {
        let whole = |(kind, runs): (Kind, BTreeMap<u32, Parts>)| {
            let whole = runs.into_values().find(Parts::are_whole);
            let whole = whole.ok_or_else(|| Error::new(ErrorKind::Data, format!("a piece of {kind:?} is missing")))?;
            Ok(whole.put_together())
        };
        self.parts.into_iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(map: usize) -> Kind {
        Kind::Block { shuffle: ShuffleId(3), map, partition: 1, items: Some(2) }
    }

    fn written(rows: &[(u32, Kind, Vec<u8>)]) -> Vec<RecordBatch> {
        written_by(1, rows)
    }

    fn written_by(run: u32, rows: &[(u32, Kind, Vec<u8>)]) -> Vec<RecordBatch> {
        let mut w = RowWriter::new(Arc::new(vec![10, 11]), run);
        rows.iter().for_each(|(to, kind, bytes)| w.push(*to, *kind, bytes).unwrap());
        w.finish().unwrap()
    }

    fn read(batches: &[RecordBatch]) -> Result<Vec<(Kind, Bytes)>> {
        let mut r = RowReader::default();
        batches.iter().try_for_each(|batch| r.push(batch, None))?;
        r.finish()
    }

    #[test]
    fn rows_come_back_also_those_that_are_long_or_empty() {
        let long: Vec<u8> = (0..3 * PIECE + 5).map(|i| i as u8).collect();
        let note = Kind::Note { stage: 0, partition: 7 };
        let rows = [(0, block(0), vec![]), (1, note, vec![1, 2]), (0, block(1), long.clone())];
        let back = read(&written(&rows)).unwrap();
        let want = [(block(0), vec![]), (block(1), long), (note, vec![1, 2])];
        assert!(back.iter().map(|(kind, bytes)| (*kind, bytes.to_vec())).eq(want));
    }

    #[test]
    fn exactly_one_piece_is_one_row() {
        let batches = written(&[(0, block(0), vec![7; PIECE])]);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        assert_eq!(read(&batches).unwrap()[0].1.len(), PIECE);
        assert!(written(&[]).is_empty());
    }

    #[test]
    fn of_two_attempts_one_is_taken_and_never_some_of_each() {
        let of = |items| Kind::Block { shuffle: ShuffleId(3), map: 0, partition: 1, items: Some(items) };
        let [one, other] =
            [3, 5].map(|run| written_by(run, &[(0, of(run as usize), vec![run as u8; 2 * PIECE])]).remove(0));
        for (batches, taken) in [
            (vec![one.clone(), other.clone()], vec![3, 5]),
            (vec![other.clone(), one.clone()], vec![3, 5]),
            // One of them lacks a piece.
            (vec![one.slice(0, 1), other.clone()], vec![5]),
            (vec![one.clone(), other.slice(1, 1)], vec![3]),
        ] {
            let back = read(&batches).unwrap();
            let (kind, bytes) = &back[0];
            assert!(back.len() == 1 && bytes.len() == 2 * PIECE, "{back:?}");
            assert!(taken.contains(&bytes[0]) && bytes.iter().all(|byte| *byte == bytes[0]));
            assert_eq!(*kind, of(bytes[0] as usize), "with how many items that one has");
        }
        assert!(read(&[one.slice(0, 1), other.slice(1, 1)]).is_err(), "halves of two are no whole");
    }

    #[test]
    fn rows_of_others_and_missing_pieces_are_told() {
        let batches = written(&[(1, block(0), vec![0; 2 * PIECE])]);
        assert_eq!(RowReader::default().push(&batches[0], Some(0)).unwrap_err().kind(), ErrorKind::Internal);
        for cut in [batches[0].slice(0, 1), batches[0].slice(1, 1)] {
            assert_eq!(read(&[cut]).unwrap_err().kind(), ErrorKind::Data);
        }
        let mut w = RowWriter::new(Arc::new(vec![10]), 1);
        assert_eq!(w.push(1, block(0), b"x").unwrap_err().kind(), ErrorKind::Internal);
    }
}
