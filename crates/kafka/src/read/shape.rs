//! How answers are built, to walk over them before they are decoded: a list that says that it has more elements than bytes
//! follow is refused here, and not when memory is asked for them. Pure.

/// A part of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// So many bytes.
    Bytes(usize),
    /// A text, or nothing.
    Text,
    /// Bytes with their length in front, or nothing.
    Blob,
    /// A list of numbers of four bytes, or nothing.
    Numbers,
    /// A list of structures that are built of these, or nothing.
    List(&'static [Part]),
}

use Part::{Blob, Bytes, List, Numbers, Text};

/// Which versions of protocols are spoken in which form: from version 9 of metadata, 6 of offsets and 12 of fetches on, lengths
/// are short, and each structure ends with fields that have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Fixed,
    Flexible,
}

/// How an answer is built.
pub(crate) type Shape = (Form, &'static [Part]);

/// Of the versions that a broker knows, version 0.
pub(crate) const VERSIONS: &[Part] = &[Bytes(2), List(&[Bytes(6)])];

/// Of topics: their leaders and ids.
pub(crate) fn metadata(version: i16) -> Shape {
    const BROKERS: Part = List(&[Bytes(4), Text, Bytes(4), Text]);
    const PARTITIONS: Part = List(&[Bytes(2 + 4 + 4 + 4), Numbers, Numbers, Numbers]);
    match version {
        ..=7 => (Form::Fixed, &[Bytes(4), BROKERS, Text, Bytes(4), List(&[Bytes(2), Text, Bytes(1), PARTITIONS])]),
        8 => (
            Form::Fixed,
            &[Bytes(4), BROKERS, Text, Bytes(4), List(&[Bytes(2), Text, Bytes(1), PARTITIONS, Bytes(4)]), Bytes(4)],
        ),
        9 => (
            Form::Flexible,
            &[Bytes(4), BROKERS, Text, Bytes(4), List(&[Bytes(2), Text, Bytes(1), PARTITIONS, Bytes(4)]), Bytes(4)],
        ),
        10 => (
            Form::Flexible,
            &[Bytes(4), BROKERS, Text, Bytes(4), List(&[Bytes(2), Text, Bytes(17), PARTITIONS, Bytes(4)]), Bytes(4)],
        ),
        11.. => (
            Form::Flexible,
            &[Bytes(4), BROKERS, Text, Bytes(4), List(&[Bytes(2), Text, Bytes(17), PARTITIONS, Bytes(4)])],
        ),
    }
}

/// Of where partitions end, from version 4 on.
pub(crate) fn offsets(version: i16) -> Shape {
    let form = if version >= 6 { Form::Flexible } else { Form::Fixed };
    (form, &[Bytes(4), List(&[Text, List(&[Bytes(4 + 2 + 8 + 8 + 4)])])])
}

/// Of records, from version 10 on.
pub(crate) fn fetch(version: i16) -> Shape {
    const OF: Part = Bytes(4 + 2 + 8 + 8 + 8);
    const ABORTED: Part = List(&[Bytes(16)]);
    match version {
        ..=10 => (Form::Fixed, &[Bytes(10), List(&[Text, List(&[OF, ABORTED, Blob])])]),
        11 => (Form::Fixed, &[Bytes(10), List(&[Text, List(&[OF, ABORTED, Bytes(4), Blob])])]),
        12 => (Form::Flexible, &[Bytes(10), List(&[Text, List(&[OF, ABORTED, Bytes(4), Blob])])]),
        13.. => (Form::Flexible, &[Bytes(10), List(&[Bytes(16), List(&[OF, ABORTED, Bytes(4), Blob])])]),
    }
}

/// Says whether an answer is built so, as far as its lengths tell: none leads behind its end.
pub(crate) fn is_built(bytes: &[u8], (form, parts): Shape) -> bool {
    let mut rest = bytes;
    walk(&mut rest, form, parts).is_some()
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}

fn unsigned(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = *take(rest, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok().filter(|value| *value <= u32::MAX as usize);
        }
    }
    None
}

/// Reads a length; 0 stands for nothing, too.
fn length(rest: &mut &[u8], form: Form, is_text: bool) -> Option<usize> {
    match (form, is_text) {
        (Form::Flexible, _) => Some(unsigned(rest)?.saturating_sub(1)),
        (Form::Fixed, true) => Some(usize::try_from(i16::from_be_bytes(take(rest, 2)?.try_into().ok()?)).unwrap_or(0)),
        (Form::Fixed, false) => Some(usize::try_from(i32::from_be_bytes(take(rest, 4)?.try_into().ok()?)).unwrap_or(0)),
    }
}

fn walk(rest: &mut &[u8], form: Form, parts: &'static [Part]) -> Option<()> {
    for part in parts {
        match part {
            Bytes(len) => drop(take(rest, *len)?),
            Text | Blob => {
                let len = length(rest, form, matches!(part, Text))?;
                take(rest, len)?;
            }
            Numbers => {
                let count = length(rest, form, false)?;
                take(rest, count.checked_mul(4)?)?;
            }
            List(of) => {
                let count = length(rest, form, false)?;
                // None is smaller than a byte.
                if count > rest.len() {
                    return None;
                }
                for _ in 0..count {
                    walk(rest, form, of)?;
                }
            }
        }
    }
    if form == Form::Flexible {
        let count = unsigned(rest)?;
        for _ in 0..count {
            unsigned(rest)?;
            let len = unsigned(rest)?;
            take(rest, len)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse};
    use kafka_protocol::protocol::Decodable;

    use super::*;

    /// Makes bytes of a shape: lists of two, texts and blobs of three bytes, numbers that are 0.
    fn example(form: Form, parts: &'static [Part], out: &mut Vec<u8>) {
        let length = |len: u8, is_text: bool, out: &mut Vec<u8>| match (form, is_text) {
            (Form::Flexible, _) => out.push(len + 1),
            (Form::Fixed, true) => out.extend_from_slice(&[0, len]),
            (Form::Fixed, false) => out.extend_from_slice(&[0, 0, 0, len]),
        };
        for part in parts {
            match part {
                Bytes(len) => out.resize(out.len() + len, 0),
                Text | Blob => {
                    length(3, matches!(part, Text), out);
                    out.extend_from_slice(b"abc");
                }
                Numbers => {
                    length(2, false, out);
                    out.resize(out.len() + 8, 0);
                }
                List(of) => {
                    length(2, false, out);
                    example(form, of, out);
                    example(form, of, out);
                }
            }
        }
        if form == Form::Flexible {
            // One field with a number that nobody knows.
            out.extend_from_slice(&[1, 99, 2, 7, 7]);
        }
    }

    type Decode = fn(&mut bytes::Bytes, i16) -> bool;

    /// Answers of all kinds and versions: their shapes, and how they are decoded.
    fn all() -> Vec<(String, i16, Shape, Decode)> {
        let mut all: Vec<(String, i16, Shape, Decode)> = Vec::new();
        let mut add = |what: &str, version: i16, shape: Shape, decode: Decode| {
            all.push((format!("{what} {version}"), version, shape, decode));
        };
        add("versions", 0, (Form::Fixed, VERSIONS), |bytes, version| {
            ApiVersionsResponse::decode(bytes, version).is_ok()
        });
        for version in 7..=12 {
            add("metadata", version, metadata(version), |bytes, version| {
                MetadataResponse::decode(bytes, version).is_ok_and(|told| told.topics.len() == 2)
            });
        }
        for version in 4..=7 {
            add("offsets", version, offsets(version), |bytes, version| {
                ListOffsetsResponse::decode(bytes, version).is_ok_and(|told| told.topics.len() == 2)
            });
        }
        for version in 10..=13 {
            add("fetch", version, fetch(version), |bytes, version| {
                let fetched = FetchResponse::decode(bytes, version);
                let topic = fetched.ok().and_then(|mut fetched| fetched.responses.pop());
                let records = topic.and_then(|mut topic| topic.partitions.pop()?.records);
                records.is_some_and(|records| *records == *b"abc")
            });
        }
        all
    }

    fn bytes((form, parts): Shape) -> Vec<u8> {
        let mut bytes = Vec::new();
        example(form, parts, &mut bytes);
        bytes
    }

    #[test]
    fn shapes_are_those_of_the_protocol_and_are_walked_over_to_the_last_byte() {
        for (what, version, (form, parts), decode) in all() {
            let bytes = bytes((form, parts));
            let mut decoded = bytes::Bytes::from(bytes.clone());
            assert!(decode(&mut decoded, version) && decoded.is_empty(), "{what}: {} bytes left", decoded.len());
            let mut rest = &bytes[..];
            assert!(walk(&mut rest, form, parts).is_some() && rest.is_empty(), "{what}: {} left", rest.len());
            for len in 0..bytes.len() {
                assert!(!is_built(&bytes[..len], (form, parts)), "{what}, cut at {len}");
            }
        }
    }

    #[test]
    fn what_is_let_pass_asks_for_no_more_memory_than_it_has_bytes() {
        // As a list that has two thousand million elements would say it, in either form. Decoding such a list ends the process.
        for (what, version, shape, decode) in all() {
            let bytes = bytes(shape);
            let mut refused = 0;
            for at in 0..bytes.len() {
                for lie in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x07]] {
                    let mut changed = bytes.clone();
                    let until = (at + lie.len()).min(bytes.len());
                    changed[at..until].copy_from_slice(&lie[..until - at]);
                    if is_built(&changed, shape) {
                        decode(&mut bytes::Bytes::from(changed), version);
                    } else {
                        refused += 1;
                    }
                }
            }
            assert!(refused > 4, "{what}: {refused}");
        }
    }
}
