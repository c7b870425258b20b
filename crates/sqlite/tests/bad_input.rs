//! What cannot work is refused, with the file, the table, the row, and what to do.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::time::Duration;

use millstream_core::{Data, ErrorKind};
use millstream_sqlite::{IntoRow, SqlValue, SqliteSink, SqliteTable};
use millstream_testkit::{Batches, StreamTest, batches};

fn sink(schema: &str) -> (tempfile::TempDir, SqliteSink) {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(folder.path().join("a.db")).unwrap().execute(schema).unwrap();
    (folder, sink)
}

/// Runs a batch into a table; returns what went wrong.
fn run<T: Data + millstream_core::ExchangeData, R: IntoRow + 'static>(
    table: SqliteTable,
    batches: Batches<T>,
    row: impl Fn(T) -> R + Send + Sync + 'static,
) -> Option<millstream_core::Error> {
    let mut test = StreamTest::new();
    test.input(batches).save_to(table.rows(row));
    test.run(1).err()
}

#[test]
fn files_that_are_no_databases_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.db");
    fs::write(&text, "no database, and long enough to be looked at. ".repeat(50)).unwrap();
    for (path, kind, want) in [
        (folder.path().to_owned(), ErrorKind::Config, "is a folder: name a file in it"),
        (folder.path().join("nowhere/a.db"), ErrorKind::Config, "is its folder there"),
        (text, ErrorKind::Data, "give the sink another file"),
    ] {
        let error = SqliteSink::open(&path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn tables_and_columns_that_are_not_there_are_refused_before_anything_runs() {
    let (_folder, sink) = sink("CREATE TABLE counts (word TEXT, n INTEGER)");
    let table = || sink.table("counts", ["word", "n"]).unwrap();
    for (error, want) in [
        (sink.table("count", ["n"]).unwrap_err(), "has no table count: make it first"),
        (sink.table("counts", ["word", "m"]).unwrap_err(), "has no column `m`: it has word, n"),
        (sink.table("counts", ["n", "n"]).unwrap_err(), "`n` of table counts of"),
        (sink.table("counts", [""; 0]).unwrap_err(), "no column is named"),
        (sink.table("counts\"; DROP TABLE counts", ["n"]).unwrap_err(), "has no table counts\"; DROP"),
        (table().upsert_on(["m"]).unwrap_err(), "`m` is none of the columns word, n"),
        (table().upsert_on([""; 0]).unwrap_err(), "names no column"),
        (table().upsert_on(["word"]).unwrap_err(), "give it a primary key or a unique index"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    let error = sink.clone().execute("CREATE TABL x").unwrap_err();
    assert!(error.to_string().contains("running `CREATE TABL x`"), "{error}");
}

#[test]
fn rows_that_do_not_fit_fail_their_batch_and_nothing_of_it_is_there() {
    let schema = "CREATE TABLE strict (n INTEGER NOT NULL CHECK (n < 100), real REAL) STRICT; \
                  CREATE TABLE once (n INTEGER PRIMARY KEY); INSERT INTO once VALUES (7)";
    let (_folder, sink) = sink(schema);
    let strict = || sink.table("strict", ["n", "real"]).unwrap();
    let row = |n: SqlValue, real: f64| vec![n, SqlValue::Real(real)];
    let one = || batches![[1, 7]];
    for (error, want) in [
        (run(strict(), one(), |n: i32| vec![n]), "row 1 of 2 of batch"),
        (run(strict(), one(), |n: i32| vec![n]), "it has 1 values for the 2 columns n, real. The row is (1)"),
        (run(strict(), one(), move |n: i32| row(if n == 7 { "x".into() } else { n.into() }, 0.5)), "row 2 of 2"),
        (run(strict(), one(), move |_: i32| row("x".into(), 0.5)), "cannot store TEXT value in INTEGER column"),
        (run(strict(), one(), move |_: i32| row(SqlValue::Null, 0.5)), "NOT NULL constraint failed"),
        (run(strict(), one(), move |n: i32| row((n * 100).into(), 0.5)), "CHECK constraint failed"),
        (run(strict(), one(), move |_: i32| row(u64::MAX.into(), 0.5)), "18446744073709551615 is above"),
        (run(strict(), one(), move |n: i32| row(n.into(), f64::NAN)), "NaN would become NULL"),
        (run(sink.table("once", ["n"]).unwrap(), one(), |n: i32| [n]), "UNIQUE constraint failed"),
    ] {
        let error = error.unwrap_or_else(|| panic!("{want}: it went well"));
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        assert!(error.to_string().contains(want), "{want}: {error}");
        assert!(error.to_string().contains("a.db"), "{error}");
    }
    let sql = "SELECT (SELECT count(*) FROM strict), (SELECT count(*) FROM once)";
    assert_eq!(sink.query(sql).unwrap(), [[0.into(), 1.into()]]);
    let sql = "SELECT name FROM sqlite_schema WHERE name LIKE 'millstream_staged%'";
    assert_eq!(sink.query(sql).unwrap(), [[]; 0] as [[SqlValue; 0]; 0], "nothing was staged");
}

#[test]
fn a_database_that_others_lock_fails_the_batch_when_the_patience_is_over() {
    let (folder, sink) = sink("CREATE TABLE counts (n INTEGER)");
    let other = SqliteSink::open(folder.path().join("a.db")).unwrap();
    let other = other.execute("BEGIN IMMEDIATE").unwrap();
    let sink = sink.busy_timeout(Duration::ZERO).unwrap();
    let table = sink.table("counts", ["n"]).unwrap();
    let error = run(table.clone(), batches![[1]], |n: i32| [n]).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("longer than busy_timeout"), "{error}");
    other.execute("ROLLBACK").unwrap();
    assert!(run(table, batches![[1]], |n: i32| [n]).is_none(), "and then it goes on");
    assert_eq!(sink.query("SELECT n FROM counts").unwrap(), [[SqlValue::Integer(1)]]);
}

#[test]
fn a_disk_that_is_full_fails_the_batch() {
    let (_folder, sink) = sink("CREATE TABLE texts (text TEXT)");
    // No more pages than there are: what SQLite is told by a full disk, too.
    let pages = sink.query("PRAGMA page_count").unwrap()[0][0].clone();
    let sink = sink.query(&format!("PRAGMA max_page_count = {pages}")).map(|_| sink).unwrap();
    let table = sink.table("texts", ["text"]).unwrap();
    let error = run(table, batches![[1]], |_: i32| ["long ".repeat(100_000)]).unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("make room"), "{error}");
}
