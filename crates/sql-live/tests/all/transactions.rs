//! A transaction keeps its batch; cursors; what is refused in one; how old it may be.

use millstream::millis;
use millstream::sql_live::ServeSpec;
use millstream_testkit::Batches;

use crate::house::{ask, house, house_with, of, refused};

fn three() -> Batches<(String, f64)> {
    of((1..4).map(|n| vec![("a".to_owned(), f64::from(n))]).collect())
}

const ALL: &str = "SELECT (SELECT max(maxcelsius) FROM readings), (SELECT times FROM seen WHERE key = 'a'), \
                   (SELECT value FROM totals WHERE key = 'a'), (SELECT count(*) FROM seen)";

#[test]
fn a_transaction_sees_one_batch_until_it_ends_and_states_as_they_were() {
    let mut house = house(three());
    house.test.run(1).unwrap();
    let (one, other) = (house.connect(), house.connect());
    ask(&one, "BEGIN");
    assert_eq!(ask(&one, ALL), "1.0|1|1|1");
    house.test.run(2).unwrap();
    assert_eq!(ask(&one, ALL), "1.0|1|1|1");
    assert_eq!(ask(&other, ALL), "3.0|3|3|1");
    ask(&one, "COMMIT");
    assert_eq!(ask(&one, ALL), "3.0|3|3|1");
    assert_eq!(ask(&one, "BEGIN; SELECT times FROM seen; ROLLBACK; SELECT 7"), "3\n7");
}

#[test]
fn nothing_can_be_written_and_a_failed_transaction_waits_for_its_end() {
    let mut house = house(three());
    house.test.run(1).unwrap();
    let (client, other) = (house.connect(), house.connect());
    for text in [
        "DROP TABLE readings",
        "DROP TABLE limits",
        "INSERT INTO readings VALUES ('x', 1)",
        "UPDATE readings SET sensor = 'x'",
        "DELETE FROM readings",
        "CREATE TABLE x (a int)",
        "CREATE VIEW v AS SELECT 1",
        "TRUNCATE readings",
        "COPY readings TO '/tmp/millstream-never'",
        "SET default_transaction_read_only = off",
    ] {
        assert_eq!(refused(&client, text).0, "25006", "{text}");
    }
    ask(&client, "BEGIN");
    assert_eq!(refused(&client, "DROP TABLE readings").0, "25006");
    assert_eq!(refused(&client, "SELECT 1").0, "25P02");
    ask(&client, "COMMIT");
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
    assert_eq!(ask(&other, "SELECT count(*) FROM readings"), "1", "nobody else has noticed");
    assert_eq!(refused(&client, "BEGIN; SELEKT 1").0, "42601");
    assert_eq!(ask(&client, "ROLLBACK; SELECT 1"), "1");
}

#[test]
fn a_cursor_gives_rows_of_its_batch_some_at_a_time() {
    let many = |from: i32| (from..from + 9).map(|n| (format!("k{n}"), f64::from(n))).collect::<Vec<_>>();
    let mut house = house(of(vec![many(0), many(100)]));
    house.test.run(1).unwrap();
    let client = house.connect();
    assert_eq!(refused(&client, "DECLARE c CURSOR FOR SELECT 1").0, "25P01");
    ask(&client, "BEGIN; DECLARE c CURSOR FOR SELECT key FROM seen ORDER BY key");
    assert_eq!(ask(&client, "FETCH 2 FROM c"), "k0\nk1");
    house.test.run(1).unwrap();
    assert_eq!(ask(&client, "FETCH NEXT FROM c"), "k2");
    assert_eq!(ask(&client, "FETCH ALL FROM c"), "k3\nk4\nk5\nk6\nk7\nk8");
    assert_eq!(ask(&client, "FETCH 5 FROM c"), "");
    ask(&client, "CLOSE c");
    assert_eq!(refused(&client, "FETCH 1 FROM c").0, "34000");
    ask(&client, "ROLLBACK");
    assert_eq!(ask(&client, "SELECT count(*) FROM seen"), "18");
}

#[test]
fn a_transaction_that_grows_too_old_loses_its_batch_and_is_told_so() {
    let mut house = house_with(three(), ServeSpec::at("127.0.0.1:0").transaction_age(millis(300)));
    house.test.run(1).unwrap();
    let client = house.connect();
    ask(&client, "BEGIN");
    // It is told as soon as that is so: who asks until then gets an answer.
    let (code, message) = loop {
        match crate::house::rows(&client, "SELECT times FROM seen") {
            Ok(answer) => assert_eq!(answer, "1"),
            Err(error) => {
                let error = error.as_db_error().unwrap();
                break (error.code().code().to_owned(), error.message().to_owned());
            }
        }
    };
    assert_eq!(code, "72000", "{message}");
    ask(&client, "ROLLBACK");
    assert_eq!(ask(&client, "SELECT times FROM seen"), "1");
}

#[test]
fn settings_are_of_one_connection() {
    let house = house(three());
    let (one, other) = (house.connect(), house.connect());
    ask(&one, "SET application_name = 'x'; SET statement_timeout = '2s'");
    assert_eq!(ask(&one, "SHOW application_name"), "x");
    assert_eq!(ask(&one, "SHOW statement_timeout"), "2s");
    assert_eq!(ask(&other, "SHOW application_name"), "");
    assert_eq!(ask(&other, "SHOW statement_timeout"), "30000ms");
    assert_eq!(ask(&other, "SHOW TRANSACTION ISOLATION LEVEL"), "repeatable read");
    assert_eq!(refused(&other, "SHOW nonsense").0, "42704");
    assert_eq!(refused(&other, "SET client_encoding = 'LATIN1'").0, "0A000");
    ask(&one, "RESET ALL; DISCARD ALL; DEALLOCATE ALL");
    assert_eq!(ask(&one, "SHOW statement_timeout"), "30000ms");
}
