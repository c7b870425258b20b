//! Random messages, and true ones that were changed: what is taken is decoded to its end, and what is true is taken.

use futures::executor::block_on;
use pgwire::messages::extendedquery::{Bind, Close, Describe, Execute, Flush, Parse, Sync as SyncMessage};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::Startup;
use pgwire::messages::terminate::Terminate;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::fuzzing::{client_messages, decoded, with_length};
use crate::message::{check, length};

fn name() -> impl Strategy<Value = Option<String>> {
    option::of("[a-zé\u{1F600}]{1,8}")
}

/// A true message of each kind.
fn messages() -> impl Strategy<Value = PgWireFrontendMessage> {
    use PgWireFrontendMessage as M;
    let kind = select(vec![b'S', b'P']);
    let formats = || prop_oneof![Just(Vec::new()), vec(0..2i16, 1), vec(0..2i16, 3)];
    let value = || option::of(vec(any::<u8>(), 0..20).prop_map(bytes::Bytes::from));
    prop_oneof![
        "[^\0]{0,40}".prop_map(|text| M::Query(Query::new(text))),
        (name(), "[^\0]{0,40}", vec(any::<u32>(), 0..5))
            .prop_map(|(name, text, oids)| M::Parse(Parse::new(name, text, oids))),
        (name(), name(), formats(), vec(value(), 3), formats())
            .prop_map(|(portal, statement, of, values, to)| M::Bind(Bind::new(portal, statement, of, values, to))),
        (kind.clone(), name()).prop_map(|(kind, name)| M::Describe(Describe::new(kind, name))),
        (kind, name()).prop_map(|(kind, name)| M::Close(Close::new(kind, name))),
        (name(), any::<i32>()).prop_map(|(name, rows)| M::Execute(Execute::new(name, rows))),
        Just(()).prop_map(|()| M::Flush(Flush::new())),
        Just(()).prop_map(|()| M::Sync(SyncMessage::new())),
        Just(()).prop_map(|()| M::Terminate(Terminate::new())),
    ]
}

fn written(message: &PgWireFrontendMessage) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    bytes.to_vec()
}

/// What is done to a message: where, and what is there then.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    /// So many bytes at once: what counts and lengths are made of.
    Fill(Index, u8, usize),
    Cut(Index),
    Insert(Index, u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let change = prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), select(vec![0, 0x7f, 0x80, 0xff]), 1..5usize)
            .prop_map(|(at, byte, length)| Change::Fill(at, byte, length)),
        at().prop_map(Change::Cut),
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
    ];
    vec(change, 1..4)
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let end = bytes.len();
        match change {
            Change::Set(at, byte) => bytes.get_mut(at.index(end + 1)).into_iter().for_each(|there| *there = *byte),
            Change::Fill(at, byte, length) => {
                bytes.iter_mut().skip(at.index(end + 1)).take(*length).for_each(|there| *there = *byte)
            }
            Change::Cut(at) => bytes.truncate(at.index(end + 1)),
            Change::Insert(at, byte) => bytes.insert(at.index(end + 1), *byte),
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_true_is_taken_and_read_as_it_was_said(message in messages()) {
        let bytes = written(&message);
        prop_assert_eq!(length(&bytes, Stage::Asking), Ok(Some(bytes.len())));
        prop_assert_eq!(check(&bytes, Stage::Asking), Ok(()));
        // Whether it is read as the same is asserted there.
        decoded(&bytes, Stage::Asking);
    }

    #[test]
    fn a_message_that_lies_is_refused_or_read_to_its_end(message in messages(), changes in changes()) {
        let bytes = written(&message);
        client_messages(&[&[2], &changed(bytes.clone(), &changes)[..]].concat());
        // The same with a right length.
        let body = [&bytes[..1], &bytes[5..]].concat();
        client_messages(&[&[0x82], &changed(body, &changes)[..]].concat());
    }

    #[test]
    fn a_start_that_lies_is_refused_or_read_to_its_end(
        parameters in vec(("[a-z_]{1,8}", "[^\0]{0,8}"), 0..4),
        minor in select(vec![0, 2, 9999]),
        changes in changes(),
    ) {
        let mut start = Startup::new();
        start.protocol_number_minor = minor;
        start.parameters.extend(parameters);
        let bytes = written(&PgWireFrontendMessage::Startup(start));
        prop_assert_eq!(check(&bytes, Stage::Opening), Ok(()));
        let PgWireFrontendMessage::Startup(_) = decoded(&bytes, Stage::Opening) else { panic!("it is a start") };
        client_messages(&[&[0x80], &changed(bytes[4..].to_vec(), &changes)[..]].concat());
    }

    #[test]
    fn bytes_are_refused_or_read_to_their_end(how in any::<u8>(), bytes in vec(any::<u8>(), 0..200)) {
        client_messages(&[&[how], &bytes[..]].concat());
    }

    /// However the bytes of messages come, they are cut where they end.
    #[test]
    fn messages_are_cut_where_they_end(messages in vec(messages(), 1..6), head in any::<Index>(), rest in any::<bool>()) {
        let all: Vec<Vec<u8>> = messages.iter().map(written).collect();
        let mut bytes = all.concat();
        if rest {
            // The beginning of one more.
            bytes.extend_from_slice(b"Q\0\0");
        }
        let head = head.index(bytes.len() + 1);
        let mut read = BytesMut::from(&bytes[..head]);
        let mut from = &bytes[head..];
        for want in &all {
            let message = block_on(next(&mut from, &mut read, Stage::Asking)).unwrap().unwrap().unwrap();
            prop_assert_eq!(&message[..], &want[..]);
        }
        prop_assert!(block_on(next(&mut from, &mut read, Stage::Asking)).unwrap().is_none());
    }
}

#[test]
fn what_a_message_says_of_its_length_takes_no_memory() {
    let mut read = BytesMut::new();
    // It says that sixteen megabytes will come, and then goes.
    let said = block_on(next(&mut &b"Q\x01\0\0\0SELECT"[..], &mut read, Stage::Asking)).unwrap();
    assert!(said.is_none() && read.capacity() <= 2 * ROOM, "{}", read.capacity());
    // One that is too long is refused before it has come; and what was long is given back.
    let said = block_on(next(&mut &b"Q\x7f\xff\xff\xff"[..], &mut BytesMut::new(), Stage::Asking)).unwrap();
    assert_eq!(said.unwrap().unwrap_err().code, "08P01");
    let long = with_length(&[b"Q", &vec![b'x'; 1 << 20][..], b"\0"].concat(), Stage::Asking);
    let mut read = BytesMut::new();
    let said = block_on(next(&mut &long[..], &mut read, Stage::Asking)).unwrap().unwrap().unwrap();
    assert_eq!((said.len(), read.capacity()), (long.len(), 0));
}
