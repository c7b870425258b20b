//! A stream with windows and states whose executors are killed again and again: each batch is what it is without.
//!
//! `just soak-cluster 100` kills a hundred times.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::checkpoint::MemoryCheckpoints;
use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::threads::lock;
use millstream_core::{CallSite, Context, ExchangeData, Rdd, Result, Time, capture, secs};
use millstream_streaming::{Behind, Conf, DStream, InputSource, Rate, State, StateSpec, StreamingContext};

/// How executors end, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// In a task of the stage before the shuffle.
    InMap,
    /// In a task of the stage behind it.
    InReduce,
    /// Between two batches, with states and windows in its memory.
    Between,
    /// Two of three at once, between two batches.
    Two,
    /// It stands still in the middle of a task.
    Hangs,
}

const ENDS: [End; 5] = [End::InMap, End::InReduce, End::Between, End::Two, End::Hangs];

/// How many batches there are from one end to the next.
const APART: i64 = 2;

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// What is to become of the executor that runs this: nothing, unless the test has put a file there that says so.
fn meet_fate(folder: &Path, stage: &str) {
    let order = folder.join(stage);
    // Who removes it is the one that was meant.
    let Ok(name) = std::fs::read_to_string(&order) else { return };
    if OpenOptions::new().write(true).create_new(true).open(folder.join(format!("done {name}"))).is_err() {
        return;
    }
    let _ = std::fs::remove_file(order);
    match name.starts_with("stop") {
        true => signal("-STOP", std::process::id()),
        // As SIGKILL does: without a word.
        false => std::process::abort(),
    }
}

/// Twenty numbers a batch.
struct Numbers(PathBuf);

impl InputSource for Numbers {
    type Item = i64;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<i64>>> {
        let fate = capture(self.0.clone(), |folder, n: i64| {
            if n % 20 == 7 {
                meet_fate(folder, "map");
            }
            n
        });
        Ok(Some(context.range(batch * 20, batch * 20 + 20, 1, 4).map(fate)))
    }
}

type Tables = Vec<Arc<Mutex<BTreeMap<Time, Vec<String>>>>>;

fn noted<T: ExchangeData + std::fmt::Debug>(stream: &DStream<T>, tables: &mut Tables) {
    let table = Arc::new(Mutex::new(BTreeMap::new()));
    tables.push(Arc::clone(&table));
    stream.foreach_rdd(move |rdd, time| {
        let mut rows: Vec<String> = rdd.collect()?.iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        let before = lock(&table).insert(time, rows);
        assert!(before.is_none(), "batch {time} is there twice");
        Ok(())
    });
}

/// A program with a bit of everything that lives on executors between batches.
fn program(ssc: &StreamingContext, folder: &Path) -> Tables {
    let numbers = ssc.input(Numbers(folder.to_path_buf()));
    let fate = capture(folder.to_path_buf(), |folder, (key, sum): (i64, i64)| {
        if key == 3 {
            meet_fate(folder, "reduce");
        }
        (key, sum)
    });
    let sums = numbers.map(|n| (n % 5, n)).reduce_by_key_partitioned(|a, b| a + b, 3).map(fate);
    let total = StateSpec::function(|key: &i64, new: Option<i64>, total: &mut State<'_, i64>| {
        let sum = total.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        total.update(sum);
        (*key, sum)
    });
    let mut tables = Tables::new();
    noted(&sums, &mut tables);
    noted(&sums.map_with_state(total).stream(), &mut tables);
    noted(&sums.update_state_by_key(|new, old: Option<i64>| Some(old.unwrap_or(0).max(new.iter().sum()))), &mut tables);
    noted(&sums.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(5)), &mut tables);
    noted(&numbers.window(secs(3)).count(), &mut tables);
    tables
}

fn context(master: &str, cluster: Option<&Arc<Cluster>>) -> (StreamingContext, ManualClock) {
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = Conf::new(master, "killed").unwrap();
    // Tests run beside each other.
    conf.streaming.exclusive = false;
    let mut builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    if let Some(cluster) = cluster {
        builder = builder.with_backend(Arc::clone(cluster) as _);
    }
    let ssc = builder.build().unwrap();
    ssc.context().set_checkpoint_store(Arc::new(MemoryCheckpoints::new()));
    (ssc, clock)
}

/// Runs batches, with something done before each.
fn run(ssc: &StreamingContext, clock: &ManualClock, batches: i64, mut before: impl FnMut(i64)) {
    ssc.start().unwrap();
    for batch in 1..=batches {
        before(batch);
        clock.advance_to(Time::from_millis(batch * 1000));
        if !ssc.await_batch(Time::from_millis(batch * 1000)) {
            break;
        }
    }
    ssc.await_termination_or_timeout(Duration::ZERO).unwrap();
    ssc.stop().unwrap();
}

fn processes(cluster: &Cluster) -> Vec<u32> {
    cluster.executors().into_iter().map(|(_, process)| process).collect()
}

#[test]
fn a_stream_whose_executors_are_killed_gives_what_it_gives_without_and_loses_no_slot() {
    let kills: i64 = std::env::var("MILLSTREAM_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let batches = kills * APART + 5;
    let nowhere = tempfile::tempdir().unwrap();
    let (ssc, clock) = context("local[2]", None);
    let want = program(&ssc, nowhere.path());
    run(&ssc, &clock, batches, |_| {});

    let folder = tempfile::tempdir().unwrap();
    let mut conf = Conf::new("local-cluster[3,1]", "killed").unwrap();
    conf.set("spark.network.timeout", "3s").unwrap();
    let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
    let (ssc, clock) = context("local-cluster[3,1]", Some(&cluster));
    let got = program(&ssc, folder.path());
    let mut began: Option<(End, Duration)> = None;
    let mut took: Vec<(End, Duration)> = Vec::new();
    run(&ssc, &clock, batches, |batch| {
        took.extend(began.take().map(|(end, began)| (end, monotonic() - began)));
        if batch % APART != 0 || batch / APART > kills {
            return;
        }
        let end = ENDS[(batch / APART) as usize % ENDS.len()];
        let order =
            |stage: &str, what: &str| std::fs::write(folder.path().join(stage), format!("{what} {batch}")).unwrap();
        cluster.await_executors(3, Duration::from_secs(60)).unwrap();
        match end {
            End::InMap => order("map", "abort"),
            End::InReduce => order("reduce", "abort"),
            End::Hangs => order("map", "stop"),
            End::Between => signal("-KILL", processes(&cluster)[0]),
            End::Two => processes(&cluster)[1..].iter().for_each(|process| signal("-KILL", *process)),
        }
        began = Some((end, monotonic()));
    });
    for (number, (got, want)) in got.iter().zip(&want).enumerate() {
        let (got, want) = (lock(got), lock(want));
        assert_eq!(want.len() as i64, batches);
        for (time, rows) in want.iter() {
            assert_eq!(got.get(time), Some(rows), "output {number}, batch {time}");
        }
    }
    let slowest = took.iter().max_by_key(|(_, took)| *took).unwrap();
    println!("{} kills: {took:?}; the slowest batch: {slowest:?}", took.len());
    assert_eq!(took.len() as i64, kills);
    all_slots_are_there(&cluster, folder.path());
}

/// Three tasks wait for each other: each has a slot.
fn all_slots_are_there(cluster: &Arc<Cluster>, folder: &Path) {
    cluster.await_executors(3, Duration::from_secs(60)).unwrap();
    let conf = millstream_core::conf::EngineConf::new("local-cluster[3,1]", "slots").unwrap();
    let context = Context::builder(conf).with_backend(Arc::clone(cluster) as _).build().unwrap();
    let meet = capture(folder.to_path_buf(), |folder, x: i64| {
        std::fs::write(folder.join(format!("here-{x}")), b"").unwrap();
        while (0..3).any(|x| !folder.join(format!("here-{x}")).exists()) {
            std::hint::spin_loop();
        }
    });
    context.range(0, 3, 1, 3).foreach(meet).unwrap();
    assert_eq!(cluster.executors().len(), 3);
}

#[test]
fn states_that_an_executor_had_are_made_again_for_who_asks_when_it_is_killed() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut conf = Conf::new("local-cluster[2,1]", "asked").unwrap();
    conf.set("spark.network.timeout", "3s").unwrap();
    let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
    let (ssc, clock) = context("local-cluster[2,1]", Some(&cluster));
    let numbers = ssc.input(Numbers(nowhere.path().to_path_buf())).map(|n| (n % 5, n));
    let total = StateSpec::function(|_: &i64, new: Option<i64>, total: &mut State<'_, i64>| {
        total.update(total.get_option().copied().unwrap_or(0) + new.unwrap_or(0));
    });
    let behind = Arc::new(Mutex::new(BTreeMap::new()));
    let kept = Arc::clone(&behind);
    let site = CallSite::here("asked");
    numbers.map_with_state(total).foreach_behind(
        site,
        |_| (),
        move |states| {
            lock(&kept).insert(states.time().as_millis() / 1000, states);
        },
    );
    let want = |batch: i64, key: i64| (20..(batch + 1) * 20).filter(|n| n % 5 == key).sum::<i64>();
    let ask = |batch: i64| {
        let Some(Behind::Away(states)) = lock(&behind).get(&batch).cloned() else { panic!("no batch {batch}") };
        let mut found = states.get((0..7).collect(), || true).unwrap();
        found.sort_unstable();
        assert_eq!(found, (0..5).map(|key| (key, want(batch, key))).collect::<Vec<_>>(), "batch {batch}");
    };
    ssc.start().unwrap();
    for batch in 1..=6 {
        clock.advance_to(Time::from_millis(batch * 1000));
        assert!(ssc.await_batch(Time::from_millis(batch * 1000)));
        if batch % 2 == 0 {
            cluster.await_executors(2, Duration::from_secs(60)).unwrap();
            signal("-KILL", processes(&cluster)[0]);
            ask(batch);
        }
        ask(batch - (batch - 1) / 3);
    }
    ssc.stop().unwrap();
}
