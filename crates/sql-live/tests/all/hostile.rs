//! Clients that mean no good, or are broken: they hurt nobody but themselves.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use millstream::secs;
use millstream::sql_live::ServeSpec;
use tokio_postgres::NoTls;

use crate::house::{House, RUNTIME, ask, house, house_with, of, refused, rows};

fn batches() -> millstream_testkit::Batches<(String, f64)> {
    of((1..200).map(|n| vec![("a".to_owned(), f64::from(n))]).collect())
}

pub(crate) fn raw(house: &House) -> TcpStream {
    TcpStream::connect(house.server.address()).unwrap()
}

/// A start message, as a client without TLS sends it.
pub(crate) fn hello() -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    body.extend_from_slice(b"user\0x\0database\0y\0\0");
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.extend(body);
    message
}

/// Reads until the server has enough. It fails if that does not happen.
pub(crate) fn read_all(mut socket: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    socket.set_read_timeout(Some(secs(30))).unwrap();
    // A connection that is cut off is as good as one that is closed.
    if let Err(error) = socket.read_to_end(&mut all) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    all
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let mut house = house(batches());
    house.test.run(1).unwrap();
    let client = house.connect();
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    for length in [1, 7, 8, 64, 5000, 100_000] {
        for starts_well in [false, true] {
            let mut socket = raw(&house);
            let mut bytes: Vec<u8> = if starts_well { hello() } else { Vec::new() };
            bytes.extend((0..length).map(|_| random()));
            // It may be cut off in the middle.
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(Shutdown::Write);
            read_all(&socket);
        }
    }
    // A message that says it is a gigabyte, and one of a negative length.
    for length in [0x3fff_fff0u32, 0xffff_fff0, 0, 3] {
        let mut socket = raw(&house);
        socket.write_all(&hello()).unwrap();
        let _ = socket.write_all(b"Q").and_then(|()| socket.write_all(&length.to_be_bytes()));
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            if socket.write_all(&chunk).is_err() {
                break;
            }
        }
        let _ = socket.shutdown(Shutdown::Write);
        read_all(&socket);
    }
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
    house.test.run(1).unwrap();
    assert_eq!(ask(&client, "SELECT times FROM seen"), "2", "batches go on");
}

/// A message with a right length.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

/// What is answered to messages behind a start, until the server has enough or the client goes.
fn answered(house: &House, messages: &[Vec<u8>]) -> String {
    let mut socket = raw(house);
    socket.write_all(&[hello(), messages.concat(), message(b'X', b"")].concat()).unwrap();
    String::from_utf8_lossy(&read_all(&socket)).into_owned()
}

/// A question, and how its answer begins: one column, of one byte.
const ASKED: &[u8] = b"SELECT 7\0";
const SEVEN: &str = "\0\u{1}\0\0\0\u{1}7";

#[test]
fn a_message_that_lies_ends_its_own_connection_and_says_why() {
    let house = house(batches());
    let client = house.connect();
    let question = message(b'Q', ASKED);
    assert!(answered(&house, std::slice::from_ref(&question)).contains(SEVEN));
    for (lie, why) in [
        (message(b'Q', b"SELECT 1"), "invalid string"),
        (message(b'Q', b"SELECT 1\0\0"), "invalid message format"),
        (message(b'P', b"s\0SELECT $1\0\xff\xff"), "insufficient data"),
        (message(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xffx\0\0"), "insufficient data"),
        (message(b'B', b"\0\0\xff\xff\0\0"), "insufficient data"),
        (message(b'B', b""), "invalid string"),
        (message(b'D', b"Z\0"), "DESCRIBE message subtype 90"),
        (message(b'C', b"Z\0"), "CLOSE message subtype 90"),
        (message(b'E', b"\0\0"), "insufficient data"),
        (message(b'S', b"S"), "invalid message format"),
        (message(b'p', b"SCRAM-SHA-256\0\0\0\0\0"), "invalid frontend message type 112"),
        (message(b'!', b""), "invalid frontend message type 33"),
        (b"Q\x7f\xff\xff\xff".to_vec(), "invalid message length 2147483647"),
        (b"Q\xff\xff\xff\xff".to_vec(), "invalid message length 4294967295"),
        (b"Q\0\0\0\0".to_vec(), "invalid message length 0"),
        (b"E\0\x01\0\0".to_vec(), "invalid message length 65536"),
    ] {
        let said = answered(&house, &[lie, question.clone()]);
        assert!(said.contains("FATAL") && said.contains("08P01") && said.contains(why), "{why}: {said:?}");
        assert!(!said.contains(SEVEN), "{why}: what follows is not answered: {said:?}");
    }
    for (start, why) in [
        (&b"\0\0\0\x09\0\x03\0\0u"[..], "expected terminator"),
        (b"\0\0\0\x09\0\x02\0\0\0", "unsupported frontend protocol 2.0"),
        (b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\x07", "cancel request"),
        (b"\x7f\xff\xff\xff\0\x03\0\0", "invalid message length"),
        (b"GET / HTTP/1.1\r\n\r\n", "invalid message length"),
    ] {
        let mut socket = raw(&house);
        socket.write_all(start).unwrap();
        let said = String::from_utf8_lossy(&read_all(&socket)).into_owned();
        assert!(said.contains("FATAL") && said.contains(why), "{why}: {said:?}");
    }
    assert_eq!(ask(&client, "SELECT 7"), "7", "others are answered");
}

#[test]
fn what_cannot_be_done_of_a_message_fails_and_the_connection_goes_on() {
    let house = house(batches());
    let (question, sync) = (message(b'Q', ASKED), message(b'S', b""));
    let three = message(b'P', b"s\0SELECT 1, 2, $1\0\0\0");
    for (messages, code) in [
        (vec![message(b'Q', b"SELECT '\xff'\0")], "22021"),
        (vec![message(b'P', b"\0SELECT '\xff'\0\0\0"), message(b'P', b"\0\xff\0\0\0"), sync.clone()], "22021"),
        (vec![three.clone(), message(b'B', b"\0s\0\0\x01\0\x02\0\0\0\0"), sync.clone()], "22023"),
        // Two forms for three columns: of the third there would be none.
        (
            vec![
                three.clone(),
                message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x013\0\x02\0\x01\0\x01"),
                message(b'D', b"P\0"),
                message(b'E', b"\0\0\0\0\0"),
                sync.clone(),
            ],
            "08P01",
        ),
        (vec![message(b'B', b"\0none\0\0\0\0\0\0\0"), sync.clone()], "26000"),
    ] {
        let said = answered(&house, &[messages.concat(), question.clone()]);
        assert!(said.contains(&format!("C{code}\0")) && !said.contains("FATAL"), "{code}: {said:?}");
        assert!(said.ends_with("I") && said.contains(SEVEN), "{code}: the next is answered: {said:?}");
        assert_eq!(said.matches("SERROR").count(), 1, "{code}: {said:?}");
    }
}

#[test]
fn what_a_client_binds_is_counted_and_outlives_no_statement() {
    let house = house(batches());
    let (question, sync) = (message(b'Q', ASKED), message(b'S', b""));
    let statement = message(b'P', b"s\0SELECT $1\0\0\0");
    let bind = |portal: &str, value: &[u8]| {
        let length = (value.len() as u32).to_be_bytes();
        let name = [portal.as_bytes(), b"\0s\0\0\0\0\x01"].concat();
        message(b'B', &[&name[..], &length, value, b"\0\0"].concat())
    };
    let execute = |portal: &str| message(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"].concat());
    let many: Vec<u8> = (0..1000).flat_map(|n| bind(&format!("p{n}"), b"x")).collect();
    let said = answered(&house, &[statement.clone(), many.clone(), bind("p7", b"y"), execute("p7"), sync.clone()]);
    assert!(said.contains("\0\u{1}\0\0\0\u{1}y") && !said.contains("ERROR"), "as many as may be: {said:?}");
    let large = vec![b'x'; 9 << 20];
    for (messages, code) in [
        (vec![many.clone(), bind("more", b"x"), sync.clone()], "54000"),
        (vec![bind("a", &large), bind("b", &large), sync.clone()], "54000"),
        // They have ended with what they were bound for.
        (vec![bind("a", b"x"), sync.clone(), execute("a"), sync.clone()], "26000"),
    ] {
        let said = answered(&house, &[statement.clone(), messages.concat(), question.clone()]);
        assert!(said.contains(code) && !said.contains("FATAL"), "{code}: {said:?}");
        assert!(said.contains(SEVEN), "{code}: the next is answered: {said:?}");
    }
    let begin = message(b'Q', b"BEGIN\0");
    let kept =
        [begin, statement, bind("a", b"x"), sync.clone(), execute("a"), sync, message(b'Q', b"COMMIT\0"), question];
    let said = answered(&house, &kept);
    assert!(said.contains("\0\u{1}\0\0\0\u{1}x") && said.contains(SEVEN), "a transaction keeps them: {said:?}");
}

#[test]
fn who_does_not_know_the_password_gets_nothing() {
    let spec = ServeSpec::at("127.0.0.1:0").password("ann", "correct horse");
    let mut house = house_with(batches(), spec);
    house.test.run(1).unwrap();
    let client = house.connect_as("user=ann password='correct horse'").unwrap();
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
    for wrong in ["user=ann password=wrong", "user=bob password='correct horse'", "user=ann password=''"] {
        let error = house.connect_as(wrong).expect_err(wrong);
        if let Some(error) = error.as_db_error() {
            assert_eq!((error.severity(), error.code().code()), ("FATAL", "28P01"), "{wrong}");
        }
    }
    assert!(house.connect_as("user=ann").is_err(), "without a password");
    // A mechanism that is none, and a question behind it: it is never answered.
    let mut socket = raw(&house);
    let mut query = b"p".to_vec();
    query.extend_from_slice(&(4 + 5 + 4u32).to_be_bytes());
    query.extend_from_slice(b"NONE\0\0\0\0\0");
    query.extend_from_slice(b"Q\0\0\0\x0dSELECT 1\0");
    let _ = socket.write_all(&hello()).and_then(|()| socket.write_all(&query));
    let _ = socket.shutdown(Shutdown::Write);
    let said = read_all(&socket);
    assert!(!said.windows(8).any(|w| w == b"SELECT 1"), "{said:?}");
    assert!(!said.contains(&b'D') || !said.ends_with(b"I"), "{said:?}");
    assert!(String::from_utf8_lossy(&said).contains("FATAL"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_statement_without_end_is_stopped_by_time_by_its_client_and_by_its_rows_and_others_are_answered_meanwhile() {
    let many: Vec<_> = (0..3000).map(|n| (format!("k{n}"), 1.0)).collect();
    let spec = ServeSpec::at("127.0.0.1:0").statement_timeout(secs(20)).rows(5000).memory(64 << 20);
    let mut house = house_with(of(vec![many, Vec::new()]), spec);
    house.test.run(1).unwrap();
    let (client, other) = (house.connect(), house.connect());
    let endless = "SELECT count(*) FROM generate_series(1, 1000000000000) AS t(n) CROSS JOIN limits WHERE n < 0";
    ask(&client, "SET statement_timeout = '500ms'");
    let (code, message) = refused(&client, endless);
    assert_eq!(code, "57014", "{message}");
    ask(&client, "RESET statement_timeout");
    let cancel = client.cancel_token();
    RUNTIME.block_on(async {
        let running = client.simple_query(endless);
        let cancelling = async {
            // While it runs, others are answered.
            let answer = other.simple_query("SELECT count(*) FROM limits").await.unwrap();
            assert!(!answer.is_empty());
            cancel.cancel_query(NoTls).await.unwrap();
        };
        let (failed, ()) = futures::future::join(running, cancelling).await;
        // It may come before the statement begins: then it cancels nothing, and time does.
        let failed = failed.unwrap_err();
        assert_eq!(failed.as_db_error().unwrap().code().code(), "57014");
    });
    let joined = "SELECT count(*) FROM seen a, seen b, seen c, seen d WHERE a.times + b.times + c.times + d.times < 0";
    ask(&client, "SET statement_timeout = '3s'");
    let (code, message) = refused(&client, joined);
    assert!(["53200", "57014"].contains(&code.as_str()), "{code} {message}");
    ask(&client, "RESET statement_timeout");
    let (code, message) = refused(&client, "SELECT * FROM seen a, seen b");
    assert_eq!(code, "54000", "{message}");
    let (code, message) = refused(&client, "SELECT array_agg(a.key || b.key || repeat('x', 1000)) FROM seen a, seen b");
    assert!(["53200", "57014"].contains(&code.as_str()), "{code} {message}");
    house.test.run(1).unwrap();
    assert_eq!(ask(&client, "SELECT count(*) FROM readings"), "0", "batches and connections go on");
}

#[test]
fn who_takes_all_places_leaves_them_when_it_goes_and_half_open_connections_are_closed() {
    let spec = ServeSpec::at("127.0.0.1:0").connections(3);
    let mut house = house_with(batches(), spec);
    house.test.run(1).unwrap();
    // Three that connect, and say nothing.
    let silent: Vec<_> = (0..3).map(|_| raw(&house)).collect();
    let refused = loop {
        // They are taken one after the other: until the last is, there is a place.
        match house.connect_as("user=x") {
            Ok(client) => drop(client),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.as_db_error().map(|e| e.code().code()), Some("53300"), "{refused:?}");
    drop(silent);
    let client = loop {
        if let Ok(client) = house.connect_as("user=x") {
            break client;
        }
    };
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
}

#[test]
fn what_a_client_keeps_is_counted() {
    let house = house(batches());
    let client = house.connect();
    RUNTIME.block_on(async {
        let mut kept = Vec::new();
        let failed = loop {
            match client.prepare(&format!("SELECT {}", kept.len())).await {
                Ok(statement) => kept.push(statement),
                Err(error) => break error,
            }
            assert!(kept.len() <= 1000, "there is a limit");
        };
        assert_eq!(failed.as_db_error().unwrap().code().code(), "54000");
    });
    assert_eq!(ask(&client, "DEALLOCATE ALL; SELECT 1"), "1");
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(rows(&client, &deep).is_err(), "a statement that is nested without end");
    assert_eq!(ask(&client, "SELECT 1"), "1");
}
