//! One run of a random program through random faults, decided by its seed, and the checker behind it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use millstream_core::Time;
use millstream_core::threads::lock;
use millstream_streaming::{Conf, StreamingContext};
use millstream_testkit::model::Model;
use millstream_testkit::{Check, Fault, Lives, SimDisk};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::feed::{Feed, Numbered};
use crate::model::meaning::{Pair, on_the_engine, on_the_model};
use crate::model::op::{Kind, Op, op};

/// What a run is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How many faults are planned.
    pub(crate) faults: usize,
    /// How many operations of the disk there are at most between two of them.
    pub(crate) apart: u64,
    /// Whether no two batches are ever under way at once.
    pub(crate) calm: bool,
    pub(crate) batches: usize,
}

impl Plan {
    /// The plan of an ordinary run.
    pub(crate) fn ordinary(seed: u64) -> Plan {
        // Some live for longer, and see older states.
        let (apart, batches) = (12, if seed % 4 < 2 { 12 } else { 20 });
        Plan { seed, faults: 22, apart, calm: seed.is_multiple_of(2), batches }
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) starts: usize,
    pub(crate) fired: Vec<Fault>,
    pub(crate) trace: String,
    pub(crate) kinds: Vec<Kind>,
}

/// What is drawn by a seed.
#[derive(Clone, Debug)]
struct Drawn {
    partitions: usize,
    step: usize,
    checkpoint_after: u64,
    records: Vec<(bool, Pair)>,
    coming: Vec<usize>,
    programs: Vec<Vec<Op>>,
    faults: Vec<(u64, Fault)>,
}

/// A batch with more elements than this is not worth its time.
const MANY: usize = 60;

/// Operations that remember, of which each program has one at least.
pub(crate) const STATEFUL: &[Kind] = &[
    Kind::UpdateStateByKey,
    Kind::UpdateStateByKeyInitial,
    Kind::MapWithState,
    Kind::MapWithStateTimeout,
    Kind::StateSnapshots,
    Kind::Window,
    Kind::ReduceByKeyAndWindow,
    Kind::ReduceByKeyAndWindowInv,
    Kind::ReduceByKeyAndWindowInvFiltered,
    Kind::CountByValueAndWindow,
];

fn draw(plan: Plan) -> Drawn {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let ops = |kinds: Vec<Kind>| kinds.into_iter().map(op).collect::<Vec<_>>();
    let program = (vec(select(Kind::ALL), 0..2), select(STATEFUL), vec(select(Kind::ALL), 0..3));
    let any_program = program.prop_flat_map(move |(before, stateful, behind)| {
        ops(before.into_iter().chain([stateful]).chain(behind).collect())
    });
    // A window of a state needs states that are no longer the newest.
    let windows = select(vec![Kind::Window, Kind::ReduceByKeyAndWindow, Kind::GroupByKeyAndWindow]);
    let states = select(vec![Kind::UpdateStateByKey, Kind::UpdateStateByKeyInitial]);
    let window_of_state = (states, windows).prop_flat_map(move |(state, window)| ops(vec![state, window]));
    let program = prop_oneof![3 => any_program, 1 => window_of_state];
    let drawn = (
        1usize..3,
        1usize..4,
        select(vec![2u64, 5, 20, 256]),
        vec((any::<bool>(), (0u8..8, -9i64..10)), 10..40),
        vec(0usize..6, 7),
        vec(program, 1..3),
        vec((1..=plan.apart, select(&Fault::ALL[..])), plan.faults),
    );
    let drawn = drawn.prop_map(|(partitions, step, checkpoint_after, records, coming, programs, apart)| {
        let mut at = 0;
        let mut later = |(gap, fault)| {
            at += gap;
            (at, fault)
        };
        let faults = apart.into_iter().map(&mut later).collect();
        Drawn { partitions, step, checkpoint_after, records, coming, programs, faults }
    });
    drawn.new_tree(&mut runner).expect("a strategy that refuses nothing").current()
}

/// What outputs saw, by output and batch.
#[derive(Clone, Debug)]
struct Seen<T>(Arc<Mutex<BTreeMap<(usize, Time), Vec<T>>>>);

impl<T: PartialEq + std::fmt::Debug> Seen<T> {
    fn new() -> Seen<T> {
        Seen(Arc::default())
    }

    fn take(&self, output: usize, batch: Time, elements: Vec<T>, feed: &Feed) {
        feed.runs(batch);
        let mut seen = lock(&self.0);
        match seen.get(&(output, batch)) {
            Some(before) if *before != elements => feed
                .mistake(format!("output {output} gave {before:?} in the batch {batch} first, and then {elements:?}")),
            Some(_) => {}
            None => drop(seen.insert((output, batch), elements)),
        }
    }
}

/// Runs what the plan says. The error says what is wrong, and how to see it again.
pub(crate) fn simulate(plan: Plan) -> Result<Ran, String> {
    let drawn = draw(plan);
    let told = |why: &str, disk: &SimDisk| format!("{plan:?}: {why}\n{drawn:#?}\n{}", disk.trace());
    let disk = SimDisk::new(plan.seed);
    for (at, fault) in &drawn.faults {
        disk.fail_at(*at, *fault);
    }
    // A panic inside is a finding, too.
    match catch_unwind(AssertUnwindSafe(|| through(plan, &drawn, &disk))) {
        Ok(Ok(ran)) => Ok(ran),
        Ok(Err(why)) => Err(told(&why, &disk)),
        Err(_) => Err(told("it panicked", &disk)),
    }
}

fn numbered(drawn: &Drawn) -> Vec<Numbered> {
    (0u32..).zip(&drawn.records).map(|(n, (beside, pair))| (n, *beside, *pair)).collect()
}

fn through(plan: Plan, drawn: &Drawn, disk: &SimDisk) -> Result<Ran, String> {
    let feed = Feed::new(numbered(drawn), drawn.coming.clone());
    let programs = worth_their_time(drawn, plan.batches);
    let (given, gives): (Seen<Numbered>, Seen<Pair>) = (Seen::new(), Seen::new());
    let setup = |ssc: &StreamingContext| {
        let all = ssc.input(feed.source(drawn.partitions)).uid("feed");
        let (given, seen_by) = (given.clone(), feed.clone());
        all.foreach_rdd(move |rdd, at| {
            given.take(0, at, rdd.collect()?, &seen_by);
            Ok(())
        });
        let main = all.filter(|record| !record.1).map(|record| record.2);
        let beside = all.filter(|record| record.1).map(|record| record.2);
        for (output, program) in programs.iter().enumerate() {
            let context = ssc.context();
            let stream = program.iter().fold(main.clone(), |stream, op| on_the_engine(op, &stream, &beside, context));
            let (gives, seen_by) = (gives.clone(), feed.clone());
            stream.foreach_rdd(move |rdd, at| {
                let mut row = rdd.collect()?;
                row.sort_unstable();
                gives.take(output, at, row, &seen_by);
                Ok(())
            });
        }
        Ok(())
    };
    let lives = Lives::new(Check::new(drawn.partitions, 1), disk, plan.batches).at_most(plan.faults + 10);
    let conf = |conf: &mut Conf| conf.streaming.checkpoint_after = drawn.checkpoint_after;
    let lives = lives.with_conf(&conf);
    let lives = if plan.calm { lives.one_by_one() } else { lives.hurried(drawn.step) };
    let starts = lives.run(&setup).map_err(|error| error.to_string())?;
    if let Some(mistake) = feed.mistakes().first() {
        return Err(mistake.clone());
    }
    nothing_lost_nothing_twice(&given, &feed, plan.batches)?;
    as_the_model(&given, &gives, &programs)?;
    let kinds = programs.iter().flatten().map(|op| op.kind).collect();
    Ok(Ran { starts, fired: disk.fired(), trace: disk.trace(), kinds })
}

fn at(batch: usize) -> Time {
    Time::from_millis(batch as i64 * 1000)
}

/// The batches were given the feed from its begin, in order.
fn nothing_lost_nothing_twice(given: &Seen<Numbered>, feed: &Feed, batches: usize) -> Result<(), String> {
    let given = lock(&given.0);
    let mut all: Vec<Numbered> = Vec::new();
    for batch in 1..=batches {
        let row = given.get(&(0, at(batch))).ok_or_else(|| format!("batch {batch} was never run"))?;
        all.extend(row);
    }
    if !feed.records().starts_with(&all) {
        return Err(format!("batches were given {:?}", all.iter().map(|record| record.0).collect::<Vec<_>>()));
    }
    Ok(())
}

fn models(rows: &[Vec<Numbered>]) -> (Model<Pair>, Model<Pair>) {
    let side = |beside: bool| {
        let row = |row: &Vec<Numbered>| Some(row.iter().filter(|r| r.1 == beside).map(|r| r.2).collect());
        Model::of(rows.iter().map(row).collect())
    };
    (side(false), side(true))
}

/// Some context, of which the model takes no notice.
fn context() -> millstream_core::Context {
    static CONTEXT: std::sync::OnceLock<millstream_core::Context> = std::sync::OnceLock::new();
    CONTEXT.get_or_init(|| millstream_core::Context::new("local[1]", "model").expect("a context")).clone()
}

/// Each output gave what the model gives for what the batches were given.
fn as_the_model(given: &Seen<Numbered>, gives: &Seen<Pair>, programs: &[Vec<Op>]) -> Result<(), String> {
    let rows: Vec<Vec<Numbered>> = lock(&given.0).values().cloned().collect();
    let (main, beside) = models(&rows);
    let gives = lock(&gives.0);
    for (output, program) in programs.iter().enumerate() {
        let model = program.iter().fold(main.clone(), |model, op| on_the_model(op, &model, &beside, &context()));
        for (row, batch) in model.rows().iter().zip(1..) {
            let mut want = row.clone();
            want.iter_mut().for_each(|row| row.sort_unstable());
            let got = gives.get(&(output, at(batch)));
            if want.as_ref() != got {
                return Err(format!("output {output}, batch {batch}\n  model  {want:?}\n  engine {got:?}"));
            }
        }
    }
    Ok(())
}

/// The programs, cut where they give too much: joins and windows multiply.
fn worth_their_time(drawn: &Drawn, batches: usize) -> Vec<Vec<Op>> {
    let mut rows: Vec<Vec<Numbered>> = numbered(drawn).chunks(4).map(<[_]>::to_vec).collect();
    rows.resize(batches, Vec::new());
    let (main, beside) = models(&rows);
    let cut = |program: &Vec<Op>| {
        let (mut model, mut ops) = (main.clone(), Vec::new());
        for op in program {
            model = on_the_model(op, &model, &beside, &context());
            if model.rows().iter().flatten().any(|row| row.len() > MANY) {
                break;
            }
            ops.push(op.clone());
        }
        ops
    };
    drawn.programs.iter().map(cut).collect()
}

/// Runs many plans on the threads there are. Returns what they came to, in order, or one that is wrong.
pub(crate) fn all_of(plans: &[Plan]) -> Result<Vec<Ran>, String> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong: Mutex<Option<String>> = Mutex::new(None);
    let ran: Mutex<BTreeMap<usize, Ran>> = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while lock(&wrong).is_none() {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(plan) = plans.get(n) else { break };
                    match simulate(*plan) {
                        Ok(one) => drop(lock(&ran).insert(n, one)),
                        Err(why) => drop(lock(&wrong).get_or_insert(why)),
                    }
                }
            });
        }
    });
    let wrong = lock(&wrong).take();
    wrong.map_or_else(|| Ok(std::mem::take(&mut *lock(&ran)).into_values().collect()), Err)
}
