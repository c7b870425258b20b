//! Record batches as they lie at the broker (message format 2): checked, unpacked, and cut into records. Pure.
//!
//! ```text
//! 0 base offset 8 | length 4 | leader epoch 4 | magic 1 | crc 4 | attributes 2 | last offset delta 4 | base time 8
//! | max time 8 | producer 8 | its epoch 2 | base sequence 4 | count 4 | 61 records, packed or not
//! ```

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use super::unpack;
use crate::record::{Block, Record, Span};
use crate::varint;

/// How long a batch is before its records.
const HEAD: usize = 61;

/// So much is unpacked at once, or one record.
const PIECE: usize = 1 << 20;

/// Why a batch cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is of an older format, which only the client of librdkafka reads.
    Old(u8),
    /// What is there is not what was written.
    Damaged(&'static str),
    /// A part of it that must be in memory at once has so many bytes, and that is more than it may have.
    Large(u64),
}

/// A batch, without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) base: i64,
    /// The offset of the last record that it had when it was written: compaction leaves it.
    pub(crate) last: i64,
    pub(crate) producer: i64,
    /// How long the batch is, with its head.
    pub(crate) len: usize,
    attributes: i16,
    base_time: i64,
    max_time: i64,
    count: i32,
}

impl Head {
    /// Whether it says how a transaction ended.
    pub(crate) fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the broker gave the records its own time.
    fn has_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads the head of the batch at the begin of `bytes`; nothing if there is no whole batch, as at the end of what a
/// broker sends.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, Broken> {
    let (Some(base), Some(length)) = (field(bytes, 0), field(bytes, 8)) else { return Ok(None) };
    let (base, length) = (i64::from_be_bytes(base), i32::from_be_bytes(length));
    let Some(magic) = bytes.get(16) else { return Ok(None) };
    if *magic != 2 {
        return Err(Broken::Old(*magic));
    }
    let Some(len) = usize::try_from(length).ok().and_then(|length| length.checked_add(12)).filter(|len| *len >= HEAD)
    else {
        return Err(Broken::Damaged("its length is none"));
    };
    let Some(batch) = bytes.get(..len) else { return Ok(None) };
    let crc = u32::from_be_bytes(field(batch, 17).ok_or(Broken::Damaged("its head is cut"))?);
    if crc32c::crc32c(&batch[21..]) != crc {
        return Err(Broken::Damaged("its checksum is another"));
    }
    let parsed = || {
        let delta = i32::from_be_bytes(field(batch, 23)?);
        Some(Head {
            base,
            last: base.checked_add(i64::from(delta))?,
            producer: i64::from_be_bytes(field(batch, 43)?),
            len,
            attributes: i16::from_be_bytes(field(batch, 21)?),
            base_time: i64::from_be_bytes(field(batch, 27)?),
            max_time: i64::from_be_bytes(field(batch, 35)?),
            count: i32::from_be_bytes(field(batch, 57)?),
        })
    };
    parsed()
        .filter(|head| head.last >= head.base && head.count >= 0)
        .map(Some)
        .ok_or(Broken::Damaged("its head is none"))
}

/// Says how many bytes the damaged batch at the begin of `bytes` takes, and where to go on behind it in a partition that has been
/// read until `position`: at the next batch if that is whole, or else where this one says that it ends. Nothing of what it says
/// is sure, so there is nothing if it does not lead on.
pub(crate) fn behind_damaged(bytes: &[u8], position: i64) -> (usize, Option<i64>) {
    let len = field(bytes, 8).and_then(|length| usize::try_from(i32::from_be_bytes(length)).ok()?.checked_add(12));
    let len = len.filter(|len| *len >= HEAD && *len <= bytes.len());
    let next = len.and_then(|len| head(&bytes[len..]).ok().flatten()).map(|next| next.base);
    if let (Some(len), Some(next)) = (len, next.filter(|next| *next > position)) {
        return (len, Some(next));
    }
    let base = field(bytes, 0).map(i64::from_be_bytes);
    let delta = field(bytes, 23).map(i32::from_be_bytes).filter(|delta| *delta >= 0);
    let behind = base.zip(delta).and_then(|(base, delta)| base.checked_add(i64::from(delta))?.checked_add(1));
    (bytes.len(), behind.filter(|behind| *behind > position))
}

/// The records of a batch, unpacked as far as they have been read.
pub(crate) struct Batch {
    head: Head,
    block: Arc<Block>,
    at: usize,
    left: i32,
    /// What is still packed.
    packed: Option<Box<dyn Read + Send>>,
    /// A record has no more bytes than that.
    most: usize,
}

impl Batch {
    /// Opens a batch whose bytes, with its head, are `bytes`. Of what is packed in it no more than `most` bytes are in memory at
    /// once.
    pub(crate) fn open(
        head: Head,
        bytes: &Bytes,
        topic: &Arc<str>,
        partition: i32,
        most: usize,
    ) -> Result<Batch, Broken> {
        // Places in a block are 32 bits long.
        let most = most.min(1 << 30);
        let body = bytes.slice(HEAD..head.len);
        let block = |bytes| Arc::new(Block { topic: Arc::clone(topic), partition, bytes });
        let (block, packed) = match head.attributes & 7 {
            0 => (block(body), None),
            packed => (block(Bytes::new()), Some(unpack::open(packed, body, most)?)),
        };
        Ok(Batch { head, block, at: 0, left: head.count, packed, most })
    }

    /// Appends up to `most` records of the offsets from `from` until `until`. Says whether there may be more of them.
    pub(crate) fn read(&mut self, from: i64, until: i64, most: usize, out: &mut Vec<Record>) -> Result<bool, Broken> {
        let mut room = most;
        while self.left > 0 && room > 0 {
            let before = self.at;
            let record = match self.next() {
                Some(record) => record,
                None => {
                    self.unpack()?;
                    continue;
                }
            };
            if record.offset >= until {
                // It belongs to a later range.
                self.at = before;
                return Ok(false);
            }
            self.left -= 1;
            if record.offset >= from {
                out.push(record);
                room -= 1;
            }
        }
        Ok(self.left > 0)
    }

    /// Returns how many bytes it has unpacked, or has not copied.
    pub(crate) fn held(&self) -> usize {
        self.block.bytes.len()
    }

    /// Unpacks more, until the next record is there.
    fn unpack(&mut self) -> Result<(), Broken> {
        let cut = || Broken::Damaged("a record in it is cut");
        let Some(packed) = &mut self.packed else { return Err(cut()) };
        let left = &self.block.bytes[self.at..];
        let mut behind = 0;
        let need = match varint::get(left, &mut behind) {
            Some(len) => usize::try_from(len).ok().and_then(|len| len.checked_add(behind)).ok_or_else(cut)?,
            // Not even its length is there.
            None if left.len() >= 10 => return Err(cut()),
            None => 0,
        };
        if need > self.most {
            return Err(Broken::Large(need as u64));
        }
        if need != 0 && need <= left.len() {
            // It is there, and cannot be read.
            return Err(cut());
        }
        let more = PIECE.max(need - left.len().min(need));
        // A first guess: it grows by itself.
        let guess = if self.at == 0 && left.is_empty() { more.min(self.head.len * 4) } else { more.min(PIECE) };
        let mut bytes = Vec::with_capacity(left.len() + guess);
        bytes.extend_from_slice(left);
        let before = bytes.len();
        let got = packed.take(more as u64).read_to_end(&mut bytes);
        if got.is_err() {
            return Err(Broken::Damaged("what is packed in it cannot be unpacked"));
        }
        if bytes.len() - before < more {
            self.packed = None;
            if bytes.len() == before {
                return Err(cut());
            }
        }
        self.block = Arc::new(Block {
            topic: Arc::clone(&self.block.topic),
            partition: self.block.partition,
            bytes: Bytes::from(bytes),
        });
        self.at = 0;
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Option<Record> {
        let bytes = &self.block.bytes[..];
        let mut at = self.at;
        let len = usize::try_from(varint::get(bytes, &mut at)?).ok()?;
        let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
        at += 1;
        let time = varint::get(bytes, &mut at)?;
        let offset = varint::get(bytes, &mut at)?;
        let key = span(bytes, &mut at, end)?;
        let value = span(bytes, &mut at, end)?;
        let headers = u32::try_from(varint::get(bytes, &mut at)?).ok()?;
        if at > end {
            return None;
        }
        self.at = end;
        let timestamp =
            if self.head.has_append_time() { self.head.max_time } else { self.head.base_time.wrapping_add(time) };
        Some(Record {
            block: Arc::clone(&self.block),
            offset: self.head.base.checked_add(offset)?,
            timestamp,
            key,
            value,
            headers: (headers, at as u32),
        })
    }
}

#[inline]
fn span(bytes: &[u8], at: &mut usize, end: usize) -> Option<Span> {
    let Ok(len) = usize::try_from(varint::get(bytes, at)?) else { return Some(Span::NOTHING) };
    let span = Span { at: *at as u32, len: len as u32 };
    *at = at.checked_add(len).filter(|at| *at <= end)?;
    Some(span)
}

/// Which batches belong to transactions that were aborted, as they come.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// Producers and first offsets, the last one first.
    to_come: Vec<(i64, i64)>,
    /// Producers whose transaction is one.
    now: Vec<i64>,
}

impl Aborted {
    /// Begins with what the broker says of what it sends.
    pub(crate) fn new(mut transactions: Vec<(i64, i64)>) -> Aborted {
        transactions.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        Aborted { to_come: transactions, now: Vec::new() }
    }

    /// Says whether the records of a batch are to be read. Asked of each batch, in order.
    pub(crate) fn admits(&mut self, head: &Head) -> bool {
        while let Some((producer, _)) = self.to_come.last().copied().filter(|(_, first)| *first <= head.last) {
            self.now.push(producer);
            self.to_come.pop();
        }
        if head.is_control() {
            self.now.retain(|producer| *producer != head.producer);
            return false;
        }
        !(head.is_transactional() && self.now.contains(&head.producer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of records with these offset deltas, as a producer writes it.
    fn batch(base: i64, deltas: &[i64], last: i32, attributes: i16, producer: i64) -> Vec<u8> {
        let mut body = Vec::new();
        for delta in deltas {
            let mut record = vec![0];
            varint::put(*delta, &mut record);
            varint::put(*delta, &mut record);
            varint::put(-1, &mut record);
            let value = format!("v{}", base + delta);
            varint::put(value.len() as i64, &mut record);
            record.extend_from_slice(value.as_bytes());
            varint::put(0, &mut record);
            varint::put(record.len() as i64, &mut body);
            body.extend_from_slice(&record);
        }
        let mut rest = Vec::new();
        rest.extend_from_slice(&attributes.to_be_bytes());
        rest.extend_from_slice(&last.to_be_bytes());
        rest.extend_from_slice(&1000i64.to_be_bytes());
        rest.extend_from_slice(&2000i64.to_be_bytes());
        rest.extend_from_slice(&producer.to_be_bytes());
        rest.extend_from_slice(&0i16.to_be_bytes());
        rest.extend_from_slice(&0i32.to_be_bytes());
        rest.extend_from_slice(&(deltas.len() as i32).to_be_bytes());
        rest.extend_from_slice(&body);
        let mut all = base.to_be_bytes().to_vec();
        all.extend_from_slice(&(rest.len() as i32 + 9).to_be_bytes());
        all.extend_from_slice(&0i32.to_be_bytes());
        all.push(2);
        all.extend_from_slice(&crc32c::crc32c(&rest).to_be_bytes());
        all.extend_from_slice(&rest);
        all
    }

    fn read(bytes: &[u8], from: i64, until: i64) -> Vec<(i64, String, i64)> {
        let head = head(bytes).unwrap().unwrap();
        let mut batch = Batch::open(head, &Bytes::copy_from_slice(bytes), &Arc::from("t"), 0, 1 << 20).unwrap();
        let mut out = Vec::new();
        while batch.read(from, until, 1, &mut out).unwrap() {}
        let of = |record: &Record| (record.offset(), record.text().unwrap().to_owned(), record.timestamp);
        out.iter().map(of).collect()
    }

    #[test]
    fn a_batch_that_lies_across_the_border_of_a_range_gives_each_side_its_own() {
        let bytes = batch(10, &[0, 1, 3, 4], 5, 0, -1);
        let all: Vec<_> = [10, 11, 13, 14].map(|at| (at, format!("v{at}"), 1000 + at - 10)).to_vec();
        for border in 9..=17 {
            let mut both = read(&bytes, 0, border);
            both.extend(read(&bytes, border, 100));
            assert_eq!(both, all, "at {border}");
        }
    }

    #[test]
    fn a_batch_that_is_cut_is_not_there_and_one_that_is_changed_is_damaged() {
        let bytes = batch(0, &[0, 1], 1, 0, -1);
        for len in 0..bytes.len() {
            assert_eq!(head(&bytes[..len]), Ok(None), "{len}");
        }
        for at in 17..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(matches!(head(&changed), Err(Broken::Damaged(_))), "{at}");
        }
        let mut old = bytes;
        old[16] = 1;
        assert_eq!(head(&old), Err(Broken::Old(1)));
    }

    #[test]
    fn behind_a_damaged_batch_is_the_next_whole_one_or_where_it_says_that_it_ends() {
        let (first, second) = (batch(0, &[0, 1, 2], 2, 0, -1), batch(5, &[0], 0, 0, -1));
        let damaged = |at: usize, bits: u8| {
            let mut bytes = first.clone();
            bytes[at] ^= bits;
            bytes
        };
        let both = |first: &[u8]| [first, &second].concat();
        let all = first.len() + second.len();
        for (what, bytes, position, want) in [
            ("a record", both(&damaged(70, 1)), 0, (first.len(), Some(5))),
            ("where it ends", both(&damaged(23, 0x80)), 1, (first.len(), Some(5))),
            ("its length", both(&damaged(8, 0x40)), 0, (all, Some(3))),
            ("the last one", damaged(70, 1), 0, (first.len(), Some(3))),
            ("the last one, which says that it ends before it begins", damaged(23, 0x80), 0, (first.len(), None)),
            ("what it says does not lead on", damaged(70, 1), 3, (first.len(), None)),
        ] {
            assert_eq!(behind_damaged(&bytes, position), want, "{what}");
        }
    }

    #[test]
    fn what_lies_about_its_length_is_damaged_and_never_more_than_an_error() {
        for seed in 0u64..2000 {
            let mut bytes = batch(0, &[0, 1, 2], 2, (seed % 5) as i16, -1);
            let at = HEAD + (seed as usize * 7) % (bytes.len() - HEAD);
            bytes[at] = (seed >> 3) as u8;
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let head = head(&bytes).unwrap().unwrap();
            if let Ok(mut batch) = Batch::open(head, &Bytes::from(bytes), &Arc::from("t"), 0, 1 << 20) {
                let mut out = Vec::new();
                while batch.read(0, 10, 1, &mut out) == Ok(true) {}
                assert!(
                    out.iter()
                        .all(|record| record.headers().count() < 1000 && record.value().is_none_or(|v| v.len() < 1000))
                );
            }
        }
    }

    /// Packs records of these values into one batch.
    fn packed(kind: i16, values: &[Vec<u8>]) -> Vec<u8> {
        use std::io::Write;
        let mut body = Vec::new();
        for (delta, value) in values.iter().enumerate() {
            let mut record = vec![0];
            varint::put(0, &mut record);
            varint::put(delta as i64, &mut record);
            varint::put(-1, &mut record);
            varint::put(value.len() as i64, &mut record);
            record.extend_from_slice(value);
            varint::put(0, &mut record);
            varint::put(record.len() as i64, &mut body);
            body.extend_from_slice(&record);
        }
        let body = match kind {
            1 => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(&body).unwrap();
                writer.finish().unwrap()
            }
            2 => snap::raw::Encoder::new().compress_vec(&body).unwrap(),
            // As Java's clients make it.
            22 => {
                let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                for part in body.chunks(32 << 10) {
                    let part = snap::raw::Encoder::new().compress_vec(part).unwrap();
                    framed.extend_from_slice(&(part.len() as i32).to_be_bytes());
                    framed.extend_from_slice(&part);
                }
                framed
            }
            3 => {
                let mut writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
                writer.write_all(&body).unwrap();
                writer.finish().unwrap()
            }
            _ => zstd::bulk::compress(&body, 1).unwrap(),
        };
        let count = values.len() as i32;
        let mut all = batch(0, &[], count - 1, kind % 20, -1);
        all[57..61].copy_from_slice(&count.to_be_bytes());
        all.extend_from_slice(&body);
        let len = all.len() as i32 - 12;
        all[8..12].copy_from_slice(&len.to_be_bytes());
        let crc = crc32c::crc32c(&all[21..]);
        all[17..21].copy_from_slice(&crc.to_be_bytes());
        all
    }

    /// Reads a batch, and tells how many bytes of it were there at once.
    fn unpacked(bytes: &[u8], most: usize) -> Result<(Vec<Vec<u8>>, usize), Broken> {
        let head = head(bytes).unwrap().unwrap();
        let mut batch = Batch::open(head, &Bytes::copy_from_slice(bytes), &Arc::from("t"), 0, most)?;
        let (mut values, mut held) = (Vec::new(), 0);
        loop {
            let mut out = Vec::new();
            let more = batch.read(0, i64::MAX, 100, &mut out)?;
            values.extend(out.iter().map(|record| record.value().unwrap().to_vec()));
            held = held.max(batch.held());
            if !more {
                return Ok((values, held));
            }
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_piece_by_piece_however_much_it_is() {
        // Records that lie across the borders of pieces, some of them longer than one.
        let values: Vec<Vec<u8>> = (0..200usize)
            .map(|n| vec![n as u8; if n % 50 == 7 { PIECE + 99 * n } else { n * n * 3 }])
            .chain([vec![], vec![1]])
            .collect();
        let all: usize = values.iter().map(Vec::len).sum();
        for kind in [1, 2, 22, 3, 4] {
            let bytes = packed(kind, &values);
            let (got, held) = unpacked(&bytes, 16 << 20).unwrap();
            assert!(got == values, "{kind}");
            assert!(held < 3 * PIECE && all > 10 * PIECE, "{kind}: {held} of {all}");
            // What is cut is no record, and no panic.
            let mut cut = bytes;
            cut.truncate(cut.len() - 20);
            let len = cut.len() as i32 - 12;
            cut[8..12].copy_from_slice(&len.to_be_bytes());
            let crc = crc32c::crc32c(&cut[21..]);
            cut[17..21].copy_from_slice(&crc.to_be_bytes());
            assert!(matches!(unpacked(&cut, 16 << 20), Err(Broken::Damaged(_))), "{kind}");
        }
    }

    #[test]
    fn a_small_batch_that_unpacks_to_more_than_there_may_be_is_refused_before_it_is_there() {
        let bytes = packed(4, &[vec![0; 9 << 20]]);
        assert!(bytes.len() < 10_000);
        assert!(matches!(unpacked(&bytes, 8 << 20), Err(Broken::Large(len)) if len > 9 << 20));
        assert_eq!(unpacked(&bytes, 16 << 20).unwrap().0[0].len(), 9 << 20);
        let bytes = packed(2, &[vec![0; 9 << 20]]);
        assert!(matches!(unpacked(&bytes, 8 << 20), Err(Broken::Large(_))));
    }

    #[test]
    fn what_was_aborted_is_not_admitted_and_what_its_producer_wrote_behind_it_is() {
        let head_of = |base, control, producer| {
            let bytes = batch(base, &[0], 0, 0x10 | if control { 0x20 } else { 0 }, producer);
            head(&bytes).unwrap().unwrap()
        };
        let mut aborted = Aborted::new(vec![(7, 4), (8, 0), (7, 20)]);
        let admitted: Vec<_> = [
            (0, false, 8), // aborted
            (1, false, 7), // committed: its own begins at 4
            (2, true, 8),  // the end of it
            (3, false, 8), // another one of the same producer
            (4, false, 7), // aborted
            (5, true, 7),
            (6, false, 7),
            (20, false, 7), // aborted
        ]
        .into_iter()
        .filter(|(base, control, producer)| aborted.admits(&head_of(*base, *control, *producer)))
        .map(|(base, ..)| base)
        .collect();
        assert_eq!(admitted, [1, 3, 6]);
    }
}
