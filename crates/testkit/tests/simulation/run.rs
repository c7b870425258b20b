//! One run of a random program through random faults, decided by its seed, and the checker behind it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use millstream_core::Time;
use millstream_core::threads::lock;
use millstream_streaming::{Conf, StreamingContext};
use millstream_testkit::model::Model;
use millstream_testkit::{Check, Fault, Lives, SimDisk};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::feed::{Feed, Numbered};
use super::files;
use super::ordered::{self, Ordered};
use super::sender::{self, Sender};
use super::sink::Sink;
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
    /// Whether no two batches are ever under way at once: the same seed does the same again, then.
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
    /// Whether the program had a receiver, and a transactional sink.
    pub(crate) sent: bool,
    pub(crate) sink: bool,
    pub(crate) ordered: Option<Ordered>,
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
    /// What a sender has, and how many it sends together.
    sent: Option<(Vec<(bool, Pair)>, usize)>,
    /// How many it sends in each batch, in turn.
    sending: Vec<usize>,
    /// At which calls of a sink the machine stops, and whether they have had their effect by then.
    stops: Option<BTreeMap<usize, bool>>,
    ordered: Option<Ordered>,
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
    let beside = (
        option::of((vec((any::<bool>(), (0u8..8, -9i64..10)), 5..20), 1usize..4)),
        vec(0usize..5, 5),
        option::of(btree_map(1usize..60, any::<bool>(), 0..5)),
        option::of(select(Ordered::ALL)),
    );
    let drawn = (
        1usize..3,
        1usize..4,
        select(vec![2u64, 5, 20, 256]),
        vec((any::<bool>(), (0u8..8, -9i64..10)), 10..40),
        vec(0usize..6, 7),
        vec(program, 1..3),
        vec((1..=plan.apart, select(&Fault::ALL[..])), plan.faults),
        beside,
    );
    let drawn = drawn.prop_map(|(partitions, step, checkpoint_after, records, coming, programs, apart, beside)| {
        let (sent, sending, stops, ordered) = beside;
        let mut at = 0;
        let mut later = |(gap, fault)| {
            at += gap;
            (at, fault)
        };
        let faults = apart.into_iter().map(&mut later).collect();
        Drawn { partitions, step, checkpoint_after, records, coming, programs, faults, sent, sending, stops, ordered }
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
    let again =
        if plan.calm { "the same seed does the same" } else { "batches overlap: the same seed may do otherwise" };
    let told = |why: &str, disk: &SimDisk| format!("{plan:?} ({again}): {why}\n{drawn:#?}\n{}", disk.trace());
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

fn numbered(from: u32, records: &[(bool, Pair)]) -> Vec<Numbered> {
    (from..).zip(records).map(|(n, (beside, pair))| (n, *beside, *pair)).collect()
}

fn through(plan: Plan, drawn: &Drawn, disk: &SimDisk) -> Result<Ran, String> {
    let feed = Feed::new(numbered(0, &drawn.records), drawn.coming.clone());
    let sender = drawn.sent.as_ref().map(|(records, block)| Sender::new(numbered(sender::FIRST, records), *block));
    let sink = drawn.stops.as_ref().map(|stops| Sink::new(stops.clone(), &feed, disk));
    let programs = worth_their_time(drawn, plan.batches);
    let (given, gives): (Seen<Numbered>, Seen<Pair>) = (Seen::new(), Seen::new());
    let in_order: Seen<ordered::Row> = Seen::new();
    let setup = |ssc: &StreamingContext| {
        let mut all = ssc.input(feed.source(drawn.partitions)).uid("feed");
        if let Some(sender) = &sender {
            all = all.union(&ssc.receiver_stream(sender.receiver()).uid("sender"));
        }
        let (given, seen_by, sender, sending) = (given.clone(), feed.clone(), sender.clone(), drawn.sending.clone());
        all.foreach_rdd(move |rdd, at| {
            given.take(0, at, rdd.collect()?, &seen_by);
            // While nobody else asks the disk: what is sent now is for the next batch.
            if let Some(sender) = &sender {
                sender.send(sending[at.as_millis() as usize / 1000 % sending.len()]);
            }
            Ok(())
        });
        if let Some(sink) = &sink {
            all.save_to(sink.clone()).uid("sink");
        }
        if let Some(ordered) = drawn.ordered {
            let (in_order, seen_by) = (in_order.clone(), feed.clone());
            ordered.on_the_engine(&all.map(|record| (record.2.0, record.0))).foreach_rdd(move |rdd, at| {
                in_order.take(0, at, ordered::by_key(rdd.collect()?), &seen_by);
                Ok(())
            });
        }
        if files::are_written(plan.seed) {
            files::write(&all);
        }
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
    let starts = plan.faults + drawn.stops.as_ref().map_or(0, BTreeMap::len) + 10;
    let lives = Lives::new(Check::new(drawn.partitions, 1), disk, plan.batches).at_most(starts);
    let conf = |conf: &mut Conf| conf.streaming.checkpoint_after = drawn.checkpoint_after;
    let lives = lives.with_conf(&conf);
    let lives = if plan.calm { lives.one_by_one() } else { lives.hurried(drawn.step) };
    let starts = lives.run(&setup).map_err(|error| error.to_string())?;
    if let Some(mistake) = feed.mistakes().first() {
        return Err(mistake.clone());
    }
    let (fired, trace) = (disk.fired(), disk.trace());
    let rows = nothing_lost_nothing_twice(&given, &feed, sender.as_ref(), plan.batches)?;
    as_the_model(&rows, &gives, &programs)?;
    if let Some(ordered) = drawn.ordered {
        for (batch, want) in (1..).zip(ordered.on_the_model(&rows)) {
            let got = lock(&in_order.0).get(&(0, at(batch))).cloned();
            if got.as_ref() != Some(&want) {
                return Err(format!("{ordered:?}, batch {batch}, in order\n  model  {want:?}\n  engine {got:?}"));
            }
        }
    }
    if files::are_written(plan.seed) {
        files::look(disk, plan.seed, &rows)?;
    }
    if let Some(sink) = &sink {
        let want: BTreeMap<Time, Vec<Numbered>> = (1..).map(at).zip(rows).collect();
        let got = sink.committed();
        if got != want {
            return Err(format!("the sink has {got:?}\n  and batches were given {want:?}"));
        }
    }
    let kinds = programs.iter().flatten().map(|op| op.kind).collect();
    let sent = sender.is_some();
    Ok(Ran { starts, fired, trace, kinds, sent, sink: sink.is_some(), ordered: drawn.ordered })
}

fn at(batch: usize) -> Time {
    Time::from_millis(batch as i64 * 1000)
}

/// The batches were given the feed, and what was sent, from their begin, in order. Returns what each was given.
fn nothing_lost_nothing_twice(
    given: &Seen<Numbered>,
    feed: &Feed,
    sender: Option<&Sender>,
    batches: usize,
) -> Result<Vec<Vec<Numbered>>, String> {
    let given = lock(&given.0);
    let row = |batch| given.get(&(0, at(batch))).cloned().ok_or_else(|| format!("batch {batch} was never run"));
    let rows = (1..=batches).map(row).collect::<Result<Vec<_>, _>>()?;
    let (sent, fed): (Vec<Numbered>, _) = rows.iter().flatten().partition(|record| record.0 >= sender::FIRST);
    for (all, of) in [(feed.records(), fed), (sender.map(Sender::records).unwrap_or_default(), sent)] {
        if !all.starts_with(&of) {
            return Err(format!("batches were given {:?}", of.iter().map(|record| record.0).collect::<Vec<_>>()));
        }
    }
    Ok(rows)
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
fn as_the_model(rows: &[Vec<Numbered>], gives: &Seen<Pair>, programs: &[Vec<Op>]) -> Result<(), String> {
    let (main, beside) = models(rows);
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
    let sent = drawn.sent.iter().flat_map(|(records, _)| numbered(sender::FIRST, records));
    let all: Vec<Numbered> = numbered(0, &drawn.records).into_iter().chain(sent).collect();
    let mut rows: Vec<Vec<Numbered>> = all.chunks(all.len() / 10 + 1).map(<[_]>::to_vec).collect();
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
