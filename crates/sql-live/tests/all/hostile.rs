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
