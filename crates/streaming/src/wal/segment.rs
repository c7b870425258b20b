//! What is in a segment: a header, then frames, each with one record. Pure; `docs/specs/log.md` is the specification.
//!
//! ```text
//! header  magic "mstrlog\n" | version u32 | number u64 | first record u64
//!         | previous segment u64 | previous end u64 | previous latest i64 | crc32 u32
//! frame   length u32 | time i64 | back u32 | crc32 of the body u32 | crc32 of the frame u32 | body
//! ```
//!
//! Which fault is seen by which field:
//!
//! | fault | seen by |
//! |---|---|
//! | another file under this name | magic; number |
//! | a file of a newer build | version |
//! | a frame that is torn, rotten, or never was one | crc of the frame, which bounds the length before anything is read by it |
//! | a body that is torn or rotten | crc of the body |
//! | a good frame at another place, or of another segment: stale blocks, a record that contains a log | crc of the frame, which covers number and offset |
//! | damage to what had been acknowledged, in the last segment | `back` of a later frame |
//! | damage to what had been acknowledged, in the others; one that was cut short | previous end; first record |
//! | what a failed write left behind the durable end | previous end |
//! | a segment that is missing | previous segment |
//!
//! **Back** is how many bytes before the frame its group begins. A group is written only after everything before it has been
//! made durable. So if a bad frame is followed, anywhere, by a good one whose group began behind the bad one, the bad one had
//! been acknowledged, and the log is damaged. If there is none, it belongs to the last group, and was torn: a later part of a
//! group may well have reached the disk before an earlier one. (That the last group of all was acknowledged and rotted later
//! cannot be told from that; the log ends before it then.)

use std::ops::Range;

use millstream_core::Time;

/// The first bytes of each segment.
const MAGIC: &[u8; 8] = b"mstrlog\n";
const VERSION: u32 = 1;

/// The bytes of a header.
pub(super) const HEADER: usize = 56;
/// The bytes of a frame before its body.
pub(super) const FRAME: usize = 24;
/// No record is longer: 1 GiB.
pub(super) const MAX_RECORD: usize = 1 << 30;

/// What a segment says of itself and of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number, from 1.
    pub(super) number: u64,
    /// How many records were appended to the log before its first.
    pub(super) first: u64,
    /// The last segment before that has anything durable; 0 if there was none. Those between have nothing.
    pub(super) previous: u64,
    /// How much of that was durable. What is behind was not acknowledged there.
    pub(super) previous_end: u64,
    /// The latest time in it.
    pub(super) previous_latest: Time,
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// It is torn or rotten.
    Bad,
    /// It is whole, and of another version.
    Version(u32),
    /// It is whole, and of another segment.
    Number(u64),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let fields = [self.number, self.first, self.previous, self.previous_end];
        for (field, place) in fields.iter().zip(bytes[12..44].chunks_exact_mut(8)) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes[44..52].copy_from_slice(&self.previous_latest.as_millis().to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of segment `number` from the beginning of `bytes`.
    pub(super) fn decode(bytes: &[u8], number: u64) -> Result<Header, NoHeader> {
        let Some(bytes) = bytes.get(..HEADER) else { return Err(NoHeader::Bad) };
        if bytes[..8] != MAGIC[..] || u32_at(bytes, 52) != crc32fast::hash(&bytes[..52]) {
            return Err(NoHeader::Bad);
        }
        if u32_at(bytes, 8) != VERSION {
            return Err(NoHeader::Version(u32_at(bytes, 8)));
        }
        if u64_at(bytes, 12) != number {
            return Err(NoHeader::Number(u64_at(bytes, 12)));
        }
        Ok(Header {
            number,
            first: u64_at(bytes, 20),
            previous: u64_at(bytes, 28),
            previous_end: u64_at(bytes, 36),
            previous_latest: Time::from_millis(u64_at(bytes, 44).cast_signed()),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) len: u32,
    pub(super) time: Time,
    /// Where its group begins in the segment.
    pub(super) group: u64,
    body_crc: u32,
}

impl Frame {
    pub(super) fn new(time: Time, group: u64, body: &[u8]) -> Frame {
        Frame { len: body.len() as u32, time, group, body_crc: crc32fast::hash(body) }
    }

    /// Writes the frame for the place `offset` of segment `number`.
    pub(super) fn encode(&self, number: u64, offset: u64) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        bytes[..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.time.as_millis().to_le_bytes());
        bytes[12..16].copy_from_slice(&((offset - self.group) as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = frame_crc(&bytes, number, offset);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the frame that `bytes` begin with, which stand at `offset` of segment `number`, without its body.
    pub(super) fn decode(bytes: &[u8], number: u64, offset: u64) -> Option<Frame> {
        let bytes = bytes.get(..FRAME)?;
        let (len, back) = (u32_at(bytes, 0), u64::from(u32_at(bytes, 12)));
        let group = offset.checked_sub(back).filter(|group| *group >= HEADER as u64)?;
        let good = len as usize <= MAX_RECORD && u32_at(bytes, 20) == frame_crc(bytes, number, offset);
        let time = Time::from_millis(u64_at(bytes, 4).cast_signed());
        good.then_some(Frame { len, time, group, body_crc: u32_at(bytes, 16) })
    }

    /// Returns the body of the frame that `bytes` begin with, if it is whole.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(FRAME..FRAME + self.len as usize)?;
        (crc32fast::hash(body) == self.body_crc).then_some(body)
    }
}

/// The check sum of a frame, and of where it stands.
fn frame_crc(frame: &[u8], number: u64, offset: u64) -> u32 {
    let mut all = [0; 36];
    all[..8].copy_from_slice(&number.to_le_bytes());
    all[8..16].copy_from_slice(&offset.to_le_bytes());
    all[16..].copy_from_slice(&frame[..20]);
    crc32fast::hash(&all)
}

/// The frames of a segment, one after the other, up to the first that is not good.
pub(super) struct Frames<'a> {
    number: u64,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// Of the segment `number`, which is `bytes`, with its header.
    pub(super) fn of(bytes: &'a [u8], number: u64) -> Frames<'a> {
        Frames { number, bytes, at: HEADER.min(bytes.len()) }
    }

    /// Returns where the good frames end.
    pub(super) fn end(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (u64, Time, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, offset) = (self.bytes.get(self.at..)?, self.at as u64);
        let frame = Frame::decode(rest, self.number, offset)?;
        let body = frame.body(rest)?;
        self.at += FRAME + body.len();
        Some((offset, frame.time, body))
    }
}

/// Looks behind a bad frame at `bad` for a good one of a later group, which proves that the bad one had been acknowledged.
///
/// *Cost*: a look at each byte, and rarely a check sum of a few bytes.
pub(super) fn proof(bytes: &[u8], number: u64, bad: usize) -> Option<usize> {
    let places: Range<usize> = bad + 1..(bytes.len() + 1).saturating_sub(FRAME);
    places.into_iter().find(|at| {
        let back = u32_at(bytes, at + 12) as usize;
        let fits = u32_at(bytes, *at) as usize <= bytes.len() - at - FRAME;
        fits && back < at - bad && Frame::decode(&bytes[*at..], number, *at as u64).is_some()
    })
}

/// Makes a segment of what chance says, with the right check sums: its header, behind one of `before` bytes, and frames.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn made_segment(number: u64, before: u64, chance: &mut dyn Iterator<Item = u8>) -> Vec<u8> {
    let mut any = |n: u8| u64::from(chance.next().unwrap_or(0) % n);
    let most = [0, 1, u64::MAX, u64::MAX - 1];
    let header = Header {
        number,
        first: if any(8) == 7 { most[any(4) as usize] } else { any(8) },
        previous: number.saturating_sub(any(4)),
        previous_end: if any(4) == 3 { most[any(4) as usize] } else { before.saturating_sub(any(3)) },
        previous_latest: Time::from_millis(most[any(4) as usize].cast_signed()),
    };
    let (mut bytes, mut group) = (header.encode().to_vec(), HEADER as u64);
    for _ in 0..any(6) {
        let offset = bytes.len() as u64;
        if any(2) == 0 {
            group = offset;
        }
        let body: Vec<u8> = (0..any(16)).map(|_| any(255) as u8).collect();
        let mut frame = Frame::new(Time::from_millis(any(100).cast_signed() - 50), group, &body);
        if any(16) == 15 {
            frame.len = most[any(4) as usize] as u32;
        }
        bytes.extend(frame.encode(number, offset));
        bytes.extend(body);
    }
    if any(4) == 3 {
        let at = (any(250) as usize * 4).min(bytes.len() - 1);
        bytes[at] ^= 1 << any(8);
    }
    if any(6) == 5 {
        bytes.truncate((any(250) as usize * 2).min(bytes.len()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Header =
        Header { number: 3, first: 41, previous: 1, previous_end: 777, previous_latest: Time::from_millis(-2) };

    /// A segment of groups of records.
    fn segment(groups: &[&[&str]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = HEAD.encode().to_vec();
        let mut places = Vec::new();
        for group in groups {
            let begin = bytes.len() as u64;
            for record in *group {
                let at = bytes.len();
                places.push(at);
                let frame = Frame::new(Time::from_millis(5), begin, record.as_bytes());
                bytes.extend(frame.encode(HEAD.number, at as u64));
                bytes.extend(record.as_bytes());
            }
        }
        (bytes, places)
    }

    fn good(bytes: &[u8]) -> (Vec<String>, usize) {
        let mut frames = Frames::of(bytes, HEAD.number);
        let texts = frames.by_ref().map(|(_, _, body)| String::from_utf8_lossy(body).into_owned()).collect();
        (texts, frames.end())
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_known_by_number_and_version() {
        let bytes = HEAD.encode();
        assert_eq!(Header::decode(&bytes, 3), Ok(HEAD));
        assert_eq!(Header::decode(&bytes, 4), Err(NoHeader::Number(3)));
        for i in 0..HEADER {
            let mut bytes = bytes;
            bytes[i] ^= 1;
            assert_eq!(Header::decode(&bytes, 3), Err(NoHeader::Bad), "byte {i}");
            assert_eq!(Header::decode(&bytes[..i], 3), Err(NoHeader::Bad), "{i} bytes");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32fast::hash(&newer[..52]);
        newer[52..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&newer, 3), Err(NoHeader::Version(2)));
    }

    #[test]
    fn the_bytes_of_a_segment_are_a_format() {
        let hex: String = segment(&[&["ab"], &["", "c"]]).0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "6d7374726c6f670a010000000300000000000000290000000000000001000000000000000903000000000000feffffffffffffffa8a379ae\
             020000000500000000000000000000006d48839e447e522e6162\
             00000000050000000000000000000000000000009778440101000000050000000000000018000000\
             6fdfb9064bd6c6d263"
        );
    }

    #[test]
    fn frames_are_read_back_until_the_first_bad_one() {
        let (bytes, places) = segment(&[&["one"], &["two", ""], &["four"]]);
        assert_eq!(good(&bytes), (vec!["one".into(), "two".into(), "".into(), "four".into()], bytes.len()));
        for cut in 0..bytes.len() {
            let whole = places.iter().filter(|at| **at < cut).count().saturating_sub(1);
            let (texts, end) = good(&bytes[..cut]);
            let expected = if places.contains(&cut) { places.iter().filter(|at| **at < cut).count() } else { whole };
            assert_eq!((texts.len(), end <= cut), (expected, true), "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_is_good_at_its_own_place_only() {
        let (bytes, places) = segment(&[&["one"], &["two"]]);
        let frame = &bytes[places[0]..];
        assert!(Frame::decode(frame, 3, places[0] as u64).is_some());
        assert!(Frame::decode(frame, 4, places[0] as u64).is_none());
        assert!(Frame::decode(frame, 3, places[1] as u64).is_none());
        assert!(Frame::decode(&[0; 100], 0, HEADER as u64).is_none(), "zeros are no frame");
    }

    #[test]
    fn a_bad_record_is_damage_only_if_a_later_group_is_there() {
        // The groups, the record that is bad, and whether that is damage and not a torn tail.
        let cases: [(&[&[&str]], usize, bool); 7] = [
            (&[&["a"]], 0, false),
            (&[&["a"], &["b"]], 0, true),
            (&[&["a"], &["b"]], 1, false),
            (&[&["a", "b", "c"]], 0, false),
            (&[&["a", "b", "c"], &["d"]], 1, true),
            (&[&["x"], &["a", "b", "c"]], 1, false),
            (&[&["x"], &["a", "b", "c"], &["d", "e"]], 3, true),
        ];
        for (groups, bad, damaged) in cases {
            let (bytes, places) = segment(groups);
            for field in [0, 4, 12, 16, 20, 24] {
                let mut bytes = bytes.clone();
                bytes[places[bad] + field] ^= 0x40;
                let (_, end) = good(&bytes);
                assert_eq!(end, places[bad]);
                assert_eq!(proof(&bytes, 3, end).is_some(), damaged, "{groups:?}, record {bad}, field {field}");
            }
        }
    }

    #[test]
    fn a_record_that_contains_a_log_proves_nothing() {
        let (inner, _) = segment(&[&["a"], &["b"], &["c"]]);
        let text: String = inner.iter().map(|byte| char::from(byte & 0x7f)).collect();
        let (mut bytes, places) = segment(&[&["a", &text]]);
        let body = places[1] + FRAME;
        bytes[body..body + inner.len()].copy_from_slice(&inner);
        bytes[places[0] + 20] ^= 1;
        assert_eq!(proof(&bytes, 3, places[0]), None);
    }
}
