//! A SQLite table has each batch once, wherever the machine stops: between the calls, inside of them, and at each step
//! of the checkpoint.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Data, Error, ErrorKind, Rdd, Result};
use millstream_sqlite::{IntoRow, SqlValue, SqliteSink, SqliteTable, StagedBatch};
use millstream_streaming::{DStream, OutputBatch, OutputRun, Transactional};
use millstream_testkit::{Batches, Check, Fault, SimDisk, StreamTest, batches, run_outputs_through_crashes};

const NUMBERS: &str = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER)";
const TOTALS: &str = "CREATE TABLE IF NOT EXISTS totals (parity INTEGER PRIMARY KEY, total INTEGER)";

fn numbers() -> Batches<i32> {
    batches![[1, 2], [3], [], [4, 5], [6]]
}

/// A sink at one of whose calls the machine stops: before it, or when it has had its effect.
struct Stopping {
    table: SqliteTable,
    stop: Stop,
}

#[derive(Clone)]
struct Stop {
    /// At which call, from 1, and whether that has had its effect by then.
    at: Option<(usize, bool)>,
    calls: Arc<Mutex<usize>>,
    disk: SimDisk,
}

impl Stop {
    fn call<R>(&self, effect: impl FnOnce() -> Result<R>) -> Result<R> {
        let n = {
            let mut calls = lock(&self.calls);
            *calls += 1;
            *calls
        };
        match self.at.filter(|(at, _)| *at == n) {
            None => return effect(),
            Some((_, after)) if after => drop(effect()?),
            Some(_) => {}
        }
        self.disk.crash(n as u64);
        Err(Error::new(ErrorKind::Unavailable, "the machine stops"))
    }
}

impl<T: Data + IntoRow> Transactional<T> for Stopping {
    type Prepared = StagedBatch;

    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<StagedBatch> {
        self.stop.call(|| self.table.prepare(rdd, batch))
    }

    fn commit(&self, staged: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.stop.call(|| Transactional::<T>::commit(&self.table, staged, batch))
    }

    fn abort(&self, staged: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        self.stop.call(|| Transactional::<T>::abort(&self.table, staged, batch))
    }

    fn recover(&self, known: &[(OutputBatch, StagedBatch)], run: &OutputRun) -> Result<()> {
        self.stop.call(|| Transactional::<T>::recover(&self.table, known, run))
    }
}

/// Runs `numbers` into two tables: each number, and the sums of even and odd ones so far. The machine stops at a call
/// of the first sink. Returns how many calls it got, and how often the program was started.
fn run(file: &Path, disk: &SimDisk, batches: &Batches<i32>, at: Option<(usize, bool)>) -> (usize, usize) {
    let stop = Stop { at, calls: Arc::default(), disk: disk.clone() };
    let attach = |stream: DStream<i32>| {
        let sink = SqliteSink::open(file).unwrap().execute(NUMBERS).unwrap().execute(TOTALS).unwrap();
        let table = sink.table("numbers", ["n"]).unwrap();
        stream.map(|n| [n]).save_to(Stopping { table, stop: stop.clone() }).uid("numbers");
        stream
            .map(|n| (n % 2, i64::from(n)))
            .update_state_by_key(|new, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()))
            .uid("sums")
            .save_to(sink.table("totals", ["parity", "total"]).unwrap().upsert_on(["parity"]).unwrap())
            .uid("totals");
    };
    let starts = run_outputs_through_crashes(Check::new(2, 2), disk, batches, &attach);
    let starts = starts.unwrap_or_else(|error| panic!("{error}, stopped at {at:?}"));
    let calls = *lock(&stop.calls);
    (calls, starts)
}

fn rows(file: &Path, sql: &str) -> Vec<Vec<SqlValue>> {
    SqliteSink::open(file).unwrap().query(sql).unwrap()
}

fn check_once(file: &Path, context: &str) {
    let want: Vec<_> = (1..=6).map(|n| vec![SqlValue::Integer(n)]).collect();
    assert_eq!(rows(file, "SELECT n FROM numbers ORDER BY n"), want, "{context}");
    let want = [[0, 12].map(SqlValue::Integer), [1, 9].map(SqlValue::Integer)];
    assert_eq!(rows(file, "SELECT parity, total FROM totals ORDER BY parity"), want, "{context}");
    for width in [1, 2] {
        let sql = format!("SELECT * FROM millstream_staged_v1_{width}");
        assert_eq!(rows(file, &sql), [[]; 0] as [[SqlValue; 0]; 0], "{context}: nothing dangles");
    }
    let keys = rows(file, "SELECT count(*) FROM millstream_batches_v1");
    assert!(matches!(keys[0][0], SqlValue::Integer(0..=6)), "{context}: keys are let go of: {keys:?}");
}

#[test]
fn r24_a_table_has_each_batch_once_wherever_the_machine_stops_beside_its_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let calm = folder.path().join("calm.db");
    let (calls, starts) = run(&calm, &SimDisk::new(1), &numbers(), None);
    assert_eq!((calls, starts), (11, 1), "recover, and two of each batch");
    check_once(&calm, "undisturbed");
    for n in 1..=calls {
        for after in [false, true] {
            let file = folder.path().join(format!("{n}-{after}.db"));
            let starts = run(&file, &SimDisk::new(n as u64), &numbers(), Some((n, after))).1;
            assert_eq!(starts, 2, "stopped at {n}, {after}");
            check_once(&file, &format!("stopped at {n}, {after}"));
        }
    }
}

#[test]
fn r24_a_table_has_each_batch_once_when_the_machine_stops_at_any_step_of_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(0);
    run(&folder.path().join("calm.db"), &disk, &numbers(), None);
    for step in 1..=disk.operations().len() as u64 {
        let (file, disk) = (folder.path().join(format!("{step}.db")), SimDisk::new(step));
        disk.fail_at(step, Fault::Crash);
        run(&file, &disk, &numbers(), None);
        check_once(&file, &format!("a crash at {step}"));
    }
}

#[test]
fn r24_a_machine_that_stops_twice_and_between_batches_too() {
    let folder = tempfile::tempdir().unwrap();
    let batches = batches![[1, 2], [3], CRASH, [], [4, 5], CRASH, [6]];
    for n in 1..=12 {
        let file = folder.path().join(format!("{n}.db"));
        run(&file, &SimDisk::new(n as u64), &batches, Some((n, n % 2 == 0)));
        check_once(&file, &format!("stopped at {n}"));
    }
}

#[test]
fn without_a_checkpoint_directory_a_batch_is_there_at_once_and_leaves_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(folder.path().join("a.db")).unwrap().execute(NUMBERS).unwrap();
    let mut test = StreamTest::new();
    let table = sink.table("numbers", ["n"]).unwrap().rows(|n: i32| [n]);
    test.input(numbers()).save_to(table);
    test.run(5).unwrap();
    assert_eq!(sink.query("SELECT count(*), sum(n) FROM numbers").unwrap(), [[6.into(), 21.into()]]);
    assert_eq!(sink.query("SELECT count(*) FROM millstream_batches_v1").unwrap(), [[SqlValue::Integer(0)]]);
}

/// A sink that hands out what it was called with, so that a test can call another one as an old process would.
#[derive(Clone, Default)]
struct Spy(Arc<Mutex<Vec<OutputBatch>>>, Arc<Mutex<Vec<OutputRun>>>);

impl Transactional<i32> for Spy {
    type Prepared = u8;

    fn prepare(&self, _: &Rdd<i32>, batch: &OutputBatch) -> Result<u8> {
        lock(&self.0).push(batch.clone());
        Ok(0)
    }

    fn commit(&self, _: &u8, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn abort(&self, _: &u8, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn recover(&self, _: &[(OutputBatch, u8)], run: &OutputRun) -> Result<()> {
        lock(&self.1).push(run.clone());
        Ok(())
    }
}

/// Returns the batches of two starts of one program, a batch each, and the starts.
fn two_starts() -> ([OutputBatch; 2], [OutputRun; 2]) {
    let (spy, disk) = (Spy::default(), SimDisk::new(1));
    let attach = |stream: DStream<i32>| {
        stream.save_to(spy.clone()).uid("numbers");
    };
    run_outputs_through_crashes(Check::new(1, 1), &disk, &batches![[1], CRASH, [2]], &attach).unwrap();
    let (batches, runs) = (lock(&spy.0).clone(), lock(&spy.1).clone());
    (batches.try_into().unwrap(), runs.try_into().unwrap())
}

#[test]
fn r24_a_start_lets_go_of_what_is_staged_and_not_known() {
    let ([first, second], [_, run]) = two_starts();
    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(folder.path().join("a.db")).unwrap().execute(NUMBERS).unwrap();
    let table = sink.table("numbers", ["n"]).unwrap();
    let engine = millstream_core::Context::new("local[1]", "staged").unwrap();
    let known = table.prepare(&engine.parallelize(vec![[1]], 1), &first).unwrap();
    table.prepare(&engine.parallelize(vec![[2], [3]], 1), &second).unwrap();
    let staged = || sink.query("SELECT c1 FROM millstream_staged_v1_1 ORDER BY c1").unwrap();
    assert_eq!(staged().len(), 3);
    Transactional::<[i32; 1]>::recover(&table, &[(first.clone(), known)], &run).unwrap();
    assert_eq!(staged(), [[SqlValue::Integer(1)]], "what the checkpoint knows of is committed next");
    Transactional::<[i32; 1]>::recover(&table, &[], &run).unwrap();
    assert_eq!(staged(), [[]; 0] as [[SqlValue; 0]; 0]);
}

#[test]
fn r24_a_paused_driver_that_wakes_cannot_write() {
    let ([old, new], _) = two_starts();
    assert_eq!((old.fencing_token(), new.fencing_token()), (1, 2));

    let folder = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(folder.path().join("a.db")).unwrap().execute(NUMBERS).unwrap();
    let table = || sink.table("numbers", ["n"]).unwrap();
    let engine = millstream_core::Context::new("local[1]", "zombie").unwrap();
    let rdd = |n: i32| engine.parallelize(vec![[n]], 1);
    let staged = table().prepare(&rdd(1), &old).unwrap();
    let newer = table().prepare(&rdd(2), &new).unwrap();
    let late = [
        table().prepare(&rdd(1), &old).unwrap_err(),
        Transactional::<[i32; 1]>::commit(&table(), &staged, &old).unwrap_err(),
        Transactional::<[i32; 1]>::abort(&table(), &staged, &old).unwrap_err(),
    ];
    for error in late {
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        let text = error.to_string();
        assert!(text.contains("a later start of the program has taken over") && text.contains("token 2"), "{text}");
    }
    assert_eq!(sink.query("SELECT count(*) FROM numbers").unwrap(), [[SqlValue::Integer(0)]]);
    // The new run may, twice.
    for _ in 0..2 {
        Transactional::<[i32; 1]>::commit(&table(), &newer, &new).unwrap();
    }
    assert_eq!(sink.query("SELECT n FROM numbers").unwrap(), [[SqlValue::Integer(2)]]);
}
