//! Sockets, also hostile ones: SC10 to SC12, S-75 to S-77, and "Bad input" of sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;

use common::{Notes, Story, WATCHDOG, beside, ends, gather, pump, sink};
use millstream_core::{Text, codec, millis, secs};
use millstream_testkit::{Check, StreamTest};

/// A peer on a free port of the loopback interface.
struct Peer {
    listener: TcpListener,
    port: u16,
}

impl Peer {
    fn new() -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback interface has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        Peer { listener, port }
    }

    fn accept(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().expect("the receiver connects");
        stream.set_nodelay(true).expect("a socket takes options");
        stream.set_write_timeout(Some(WATCHDOG)).expect("a socket takes options");
        stream.set_read_timeout(Some(WATCHDOG)).expect("a socket takes options");
        stream
    }
}

fn texts(lines: &[&str]) -> Vec<Text> {
    lines.iter().map(|line| Text::from(*line)).collect()
}

/// Returns whether listeners were told something that contains `part`.
fn is_told(story: &Story, test: &StreamTest, part: &str) -> bool {
    story.told(test.ssc()).iter().any(|line| line.contains(part))
}

#[test]
fn sc10_lines_arrive_whole_however_they_are_cut_into_packets() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", peer.port));
    test.ssc().start().unwrap();
    let mut stream = peer.accept();
    let mut sent = 0;
    for (packet, whole) in [
        ("one\ntwo\nth", vec!["one", "two"]),
        ("ree\r", vec![]),
        ("\nfo", vec!["three"]),
        ("ur\rfive\r\n\n", vec!["four", "five", ""]),
        ("s", vec![]),
        ("i", vec![]),
        ("x\n", vec!["six"]),
    ] {
        stream.write_all(packet.as_bytes()).unwrap();
        sent += whole.len();
        pump(&test, "the lines of a packet", || lines.len() >= sent);
        assert_eq!(lines.all()[sent - whole.len()..], texts(&whole));
    }
}

#[test]
fn s77_a_peer_that_closes_gives_its_last_line_and_is_called_again() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let story = Story::of(test.ssc());
    let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", peer.port));
    test.ssc().start().unwrap();
    peer.accept().write_all(b"one\nhalf a line").unwrap();
    pump(&test, "the last line", || lines.len() == 2);
    pump(&test, "the failure", || is_told(&story, &test, "had no more data"));
    // The manual clock passes the delay before the restart.
    let (_thread, accepted) = beside(move || (peer.accept(), peer));
    let again = std::cell::OnceCell::new();
    pump(&test, "another connection", || accepted.try_recv().is_ok_and(|stream| again.set(stream).is_ok()));
    let (mut stream, _peer) = again.into_inner().unwrap();
    stream.write_all(b"two\n").unwrap();
    pump(&test, "the line of the new connection", || lines.len() == 3);
    assert_eq!(lines.all(), texts(&["one", "half a line", "two"]));
    let told = story.told(test.ssc());
    let receiver: Vec<_> = told.iter().filter(|line| line.starts_with("receiver")).map(String::as_str).collect();
    assert_eq!(receiver[0], "receiver LineSocket-0 started");
    assert!(receiver[1].starts_with("receiver LineSocket-0 failed: socket data stream had no more data: 127.0.0.1:"));
    assert_eq!(receiver[2..], ["receiver LineSocket-0 stopped", "receiver LineSocket-0 started"]);
    assert!(test.ssc().errors().is_empty(), "a peer that closes is no failure of the context");
}

#[test]
fn s76_a_refused_connection_is_tried_again_after_the_delay_for_ever() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    // The port of a connection is taken, and nobody listens there.
    let peer = Peer::new();
    let taken = TcpStream::connect(("127.0.0.1", peer.port)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", port));
    test.ssc().start().unwrap();
    let failures = || story.told(test.ssc()).iter().filter(|line| line.contains("error connecting to")).count();
    pump(&test, "three attempts", || failures() >= 3);
    assert!(is_told(&story, &test, &format!("127.0.0.1:{port}")), "the peer is named");
    assert_eq!(lines.len(), 0);
    assert!(test.ssc().errors().is_empty());
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop()).unwrap();
}

#[test]
fn s76_an_unknown_host_is_told_to_listeners_and_batches_go_on() {
    let test = StreamTest::new();
    let story = Story::of(test.ssc());
    sink(&test.ssc().socket_text_stream("no such host", 9999));
    test.ssc().start().unwrap();
    pump(&test, "the failure", || is_told(&story, &test, "unknown host no such host:9999"));
    assert!(test.ssc().errors().is_empty());
    let ssc = test.ssc().clone();
    ends("the stop", move || ssc.stop_gracefully()).unwrap();
}

#[test]
fn s77_bytes_that_are_not_utf8_become_the_replacement_character() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", peer.port));
    test.ssc().start().unwrap();
    peer.accept().write_all(b"caf\xe9\nna\xc3\xafve\n\xff\n\xe2\x82").unwrap();
    pump(&test, "four lines", || lines.len() == 4);
    assert_eq!(lines.all(), texts(&["caf\u{fffd}", "naïve", "\u{fffd}", "\u{fffd}"]));
}

#[test]
fn a_line_of_a_hundred_megabytes_is_delivered_whole() {
    const LONG: usize = 100 << 20;
    let (test, peer) = (StreamTest::new(), Peer::new());
    let shapes = test.ssc().socket_text_stream("127.0.0.1", peer.port);
    let shapes = gather(&shapes.map(|line| (line.len(), line.ends_with("xy"))));
    test.ssc().start().unwrap();
    let mut stream = peer.accept();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..LONG >> 20 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"y\nshort\n").unwrap();
    pump(&test, "the lines", || shapes.len() == 2);
    assert_eq!(shapes.all(), [(LONG + 1, true), (5, false)]);
}

#[test]
fn a_line_above_max_record_is_refused_with_the_peers_name_and_those_before_it_are_kept() {
    for line in [&b"0123456789\n"[..], b"0123456789"] {
        let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.max_record = 9);
        let (peer, story) = (Peer::new(), Story::of(test.ssc()));
        let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", peer.port));
        test.ssc().start().unwrap();
        let mut stream = peer.accept();
        stream.write_all(&[b"one\n012345678\n", line].concat()).unwrap();
        let refusal = format!("a line from 127.0.0.1:{} is longer than max_record, 9 bytes", peer.port);
        pump(&test, "the refusal", || is_told(&story, &test, &refusal));
        pump(&test, "the lines before", || lines.len() == 2);
        assert_eq!(lines.all(), texts(&["one", "012345678"]));
        // The connection is closed, and a new one is made after the delay.
        let mut rest = String::new();
        assert!(!matches!(BufReader::new(stream).read_line(&mut rest), Ok(1..)), "nothing is ever sent to the peer");
    }
}

#[test]
fn s127_a_stop_ends_a_wait_for_a_peer_that_says_nothing() {
    for graceful in [false, true] {
        let (test, peer) = (StreamTest::new(), Peer::new());
        let lines = gather(&test.ssc().socket_text_stream("127.0.0.1", peer.port));
        test.ssc().start().unwrap();
        let mut stream = peer.accept();
        stream.write_all(b"one\n").unwrap();
        pump(&test, "a line", || lines.len() == 1);
        let ssc = test.ssc().clone();
        ends("the stop", move || if graceful { ssc.stop_gracefully() } else { ssc.stop() }).unwrap();
        let mut rest = String::new();
        let said = BufReader::new(stream).read_line(&mut rest);
        assert!(matches!(said, Ok(0) | Err(_)), "the connection is closed");
    }
}

#[test]
fn sc11_a_closure_makes_items_of_a_connection_and_the_connection_is_made_again() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let story = Story::of(test.ssc());
    let numbers = test.ssc().socket_stream("127.0.0.1", peer.port, |stream| {
        BufReader::new(stream).lines().map_while(Result::ok).filter_map(|line| line.parse::<u32>().ok())
    });
    let numbers = gather(&numbers);
    test.ssc().start().unwrap();
    peer.accept().write_all(b"1\nx\n2\n").unwrap();
    pump(&test, "two numbers", || numbers.len() == 2);
    pump(&test, "the end of the iterator", || is_told(&story, &test, "SocketReceiver-0 failed: socket data stream"));
    let (_thread, accepted) = beside(move || (peer.accept(), peer));
    let again = std::cell::OnceCell::new();
    pump(&test, "another connection", || accepted.try_recv().is_ok_and(|stream| again.set(stream).is_ok()));
    let (mut stream, _peer) = again.into_inner().unwrap();
    stream.write_all(b"3\n").unwrap();
    pump(&test, "the third number", || numbers.len() == 3);
    assert_eq!(numbers.all(), [1, 2, 3]);
}

#[test]
fn sc11_a_closure_that_panics_is_a_failure_of_the_receiver() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let story = Story::of(test.ssc());
    sink(&test.ssc().socket_stream("127.0.0.1", peer.port, |_| -> std::iter::Empty<u8> { panic!("no such protocol") }));
    test.ssc().start().unwrap();
    let _stream = peer.accept();
    pump(&test, "the failure", || is_told(&story, &test, "no such protocol"));
    assert!(test.ssc().errors().is_empty());
}

fn block(items: &[(u64, String)]) -> Vec<u8> {
    let bytes = codec::encode(&items.to_vec()).expect("pairs can be written");
    [&u32::try_from(bytes.len()).expect("the block is small").to_be_bytes()[..], &bytes].concat()
}

#[test]
fn s75_blocks_in_our_encoding_arrive_whole_each_as_a_partition() {
    let (test, peer) = (StreamTest::new(), Peer::new());
    let stream = test.ssc().raw_socket_stream::<(u64, String)>("127.0.0.1", peer.port);
    let (items, parts) = (gather(&stream), gather(&stream.glom().map(|part| part.len())));
    test.ssc().start().unwrap();
    let mut stream = peer.accept();
    let first = block(&[(1, "a".into()), (2, "b".into())]);
    let all = [&first[..], &block(&[]), &block(&[(3, "c".into())])].concat();
    for byte in &all {
        stream.write_all(&[*byte]).unwrap();
    }
    pump(&test, "the items", || items.len() == 3 && parts.len() == 3);
    assert_eq!(items.all(), [(1, "a".to_owned()), (2, "b".to_owned()), (3, "c".to_owned())]);
    assert_eq!(parts.all(), [2, 0, 1]);
}

#[test]
fn s75_what_is_no_block_is_refused_with_the_peers_name() {
    for (bytes, why) in [
        ([&5u32.to_be_bytes()[..], &[0xff; 5]].concat(), "is not what was expected"),
        (u32::MAX.to_be_bytes().to_vec(), "a block of 4294967295 bytes from 127.0.0.1:"),
        ([&100u32.to_be_bytes()[..], &[1; 5]].concat(), "closed the connection in the middle of a block"),
        (vec![0, 0], "had no more data"),
        (vec![], "had no more data"),
    ] {
        let (test, peer) = (StreamTest::new(), Peer::new());
        let story = Story::of(test.ssc());
        let items = gather(&test.ssc().raw_socket_stream::<(u64, String)>("127.0.0.1", peer.port));
        test.ssc().start().unwrap();
        let mut stream = peer.accept();
        stream.write_all(&block(&[(7, "good".into())])).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        pump(&test, "the refusal", || is_told(&story, &test, why));
        pump(&test, "the block before", || items.len() == 1);
        assert!(is_told(&story, &test, &format!("127.0.0.1:{}", peer.port)), "{why}: the peer is named");
        assert!(test.ssc().errors().is_empty());
    }
}

#[test]
fn s79_items_become_blocks_by_the_block_interval() {
    let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.block_interval = millis(200));
    let peer = Peer::new();
    // The iterator is asked for an item when the one before is stored: so the test knows how far it is.
    let (asked, asks) = channel();
    let numbers = test.ssc().socket_stream("127.0.0.1", peer.port, move |stream| {
        let (asked, mut lines) = (asked.clone(), BufReader::new(stream).lines().map_while(Result::ok));
        std::iter::from_fn(move || {
            let _ = asked.send(());
            lines.next()
        })
    });
    let parts: Notes<Vec<String>> = gather(&numbers.glom());
    test.ssc().start().unwrap();
    let mut stream = peer.accept();
    common::within("the begin", &asks);
    for (ms, line) in [(0, "a"), (100, "b"), (199, "c"), (200, "d"), (350, "e"), (900, "f")] {
        test.clock().advance_to(millstream_core::Time::from_millis(ms));
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        common::within("the line to be stored", &asks);
    }
    pump(&test, "the blocks", || parts.all().concat().len() == 6);
    let blocks: Vec<String> = parts.all().iter().map(|part| part.concat()).collect();
    assert_eq!(blocks, ["abc", "de", "f"]);
}
