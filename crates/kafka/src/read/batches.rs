//! Record batches as they lie at the broker (message format 2): checked, unpacked, and cut into records. Pure.
//!
//! ```text
//! 0 base offset 8 | length 4 | leader epoch 4 | magic 1 | crc 4 | attributes 2 | last offset delta 4 | base time 8
//! | max time 8 | producer 8 | its epoch 2 | base sequence 4 | count 4 | 61 records, packed or not
//! ```

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Block, Record, Span};
use crate::varint;

/// How long a batch is before its records.
const HEAD: usize = 61;

/// Unpacked, a batch has no more bytes than that: places in it are 32 bits long.
const LARGEST: u64 = 1 << 30;

/// Why a batch cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It is of an older format, which only the client of librdkafka reads.
    Old(u8),
    /// What is there is not what was written.
    Damaged(&'static str),
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

/// The records of a batch, unpacked.
#[derive(Debug)]
pub(crate) struct Batch {
    head: Head,
    block: Arc<Block>,
    at: usize,
    left: i32,
}

impl Batch {
    /// Unpacks a batch whose bytes, with its head, are `bytes`.
    pub(crate) fn open(head: Head, bytes: &Bytes, topic: &Arc<str>, partition: i32) -> Result<Batch, Broken> {
        let body = bytes.slice(HEAD..head.len);
        let bytes = match head.attributes & 7 {
            0 => body,
            packed => Bytes::from(unpack(packed, &body)?),
        };
        let block = Arc::new(Block { topic: Arc::clone(topic), partition, bytes });
        Ok(Batch { head, block, at: 0, left: head.count })
    }

    /// Appends up to `most` records of the offsets from `from` until `until`. Says whether there may be more of them.
    pub(crate) fn read(&mut self, from: i64, until: i64, most: usize, out: &mut Vec<Record>) -> Result<bool, Broken> {
        let mut room = most;
        while self.left > 0 && room > 0 {
            let before = self.at;
            let record = self.next().ok_or(Broken::Damaged("a record in it is cut"))?;
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

fn unpack(packed: i16, body: &Bytes) -> Result<Vec<u8>, Broken> {
    let broken = Broken::Damaged("what is packed in it cannot be unpacked");
    let mut out = Vec::with_capacity(body.len() * 4);
    let read = |reader: &mut dyn Read, out: &mut Vec<u8>| reader.take(LARGEST + 1).read_to_end(out).is_ok();
    let is_good = match packed {
        1 => read(&mut flate2::read::MultiGzDecoder::new(&body[..]), &mut out),
        2 => unsnap(body, &mut out).is_some(),
        3 => read(&mut lz4_flex::frame::FrameDecoder::new(&body[..]), &mut out),
        4 => zstd::stream::read::Decoder::new(&body[..]).is_ok_and(|mut decoder| read(&mut decoder, &mut out)),
        _ => return Err(Broken::Damaged("it is packed in an unknown way")),
    };
    if out.len() as u64 > LARGEST {
        return Err(Broken::Damaged("it is larger than a gigabyte"));
    }
    if is_good { Ok(out) } else { Err(broken) }
}

/// Unpacks Snappy: as it is, or in the frames that Java's clients make.
fn unsnap(body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut decoder = snap::raw::Decoder::new();
    let mut one = |part: &[u8], out: &mut Vec<u8>| {
        let len = snap::raw::decompress_len(part).ok()?;
        if (out.len() + len) as u64 > LARGEST {
            return None;
        }
        let before = out.len();
        out.resize(before + len, 0);
        decoder.decompress(part, &mut out[before..]).ok().map(|got| out.truncate(before + got))
    };
    let Some(framed) = body.strip_prefix(b"\x82SNAPPY\0") else { return one(body, out) };
    let mut rest = framed.get(8..)?;
    while !rest.is_empty() {
        let len = usize::try_from(i32::from_be_bytes(field(rest, 0)?)).ok()?;
        one(rest.get(4..4 + len)?, out)?;
        rest = &rest[4 + len..];
    }
    Some(())
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
        let mut batch = Batch::open(head, &Bytes::copy_from_slice(bytes), &Arc::from("t"), 0).unwrap();
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
    fn what_lies_about_its_length_is_damaged_and_never_more_than_an_error() {
        for seed in 0u64..2000 {
            let mut bytes = batch(0, &[0, 1, 2], 2, (seed % 5) as i16, -1);
            let at = HEAD + (seed as usize * 7) % (bytes.len() - HEAD);
            bytes[at] = (seed >> 3) as u8;
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            let head = head(&bytes).unwrap().unwrap();
            if let Ok(mut batch) = Batch::open(head, &Bytes::from(bytes), &Arc::from("t"), 0) {
                let mut out = Vec::new();
                while batch.read(0, 10, 1, &mut out) == Ok(true) {}
                assert!(
                    out.iter()
                        .all(|record| record.headers().count() < 1000 && record.value().is_none_or(|v| v.len() < 1000))
                );
            }
        }
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
