//! Random durable programs on a disk that fails again and again: nobody can tell it from what they give.
//!
//! A run has a random program of the model, a feed of which each batch takes what has come, and faults at random operations of
//! the disk: crashes, torn writes, errors, a disk that is full. Half of them have a receiver besides, whose sender forgets what was
//! acknowledged, half a transactional sink, in whose calls the machine stops too, and half an operation in which the order of a key's
//! records is seen. The program is started again until it is through. The checker asserts that every batch gave the same at every
//! attempt, that none ran after it had been committed, that feed and sender were given from their begin, nothing lost and nothing
//! twice, that each output is the model's, the order of each key included, and that the sink has each batch once.
//!
//! Every second run is calm: one batch at a time, and the same seed does the same again. In the others batches overlap and states are
//! saved in the background; a seed says what they are made of, and threads the rest (ADR 25).
//!
//! `MILLSTREAM_SIM=N` runs N seeds (`just sim N`); `MILLSTREAM_SIM_FROM=SEED` begins with another one than 0.

#[allow(dead_code, reason = "shared with tests/model.rs, which uses all of it")]
#[path = "model"]
mod model {
    pub(crate) mod meaning;
    pub(crate) mod op;
}
#[path = "simulation"]
mod simulation {
    pub(crate) mod feed;
    pub(crate) mod files;
    pub(crate) mod ordered;
    pub(crate) mod run;
    pub(crate) mod sender;
    pub(crate) mod sink;
}

use std::collections::BTreeMap;

use millstream_testkit::Fault;
use simulation::ordered::Ordered;
use simulation::run::{Plan, Ran, STATEFUL, all_of, simulate};

/// So many faults really happen in each run.
const FIRED: usize = 20;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn programs_that_fail_again_and_again_give_what_the_model_gives() {
    let (from, count) = (number("MILLSTREAM_SIM_FROM", 0), number("MILLSTREAM_SIM", 2000));
    let plans: Vec<Plan> = (from..from + count).map(Plan::ordinary).collect();
    let ran = all_of(&plans).unwrap_or_else(|why| panic!("{why}"));
    let (mut faults, mut kinds, mut ordered) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (one, plan) in ran.iter().zip(&plans) {
        assert!(one.fired.len() >= FIRED, "only {} faults happened: {plan:?}", one.fired.len());
        one.fired.iter().for_each(|fault| *faults.entry(*fault).or_insert(0) += 1);
        one.kinds.iter().for_each(|kind| *kinds.entry(*kind).or_insert(0) += 1);
        one.ordered.iter().for_each(|kind| *ordered.entry(*kind).or_insert(0) += 1);
    }
    let with = |has: fn(&Ran) -> bool| ran.iter().filter(|one| has(one)).count();
    let (sent, sink) = (with(|one| one.sent), with(|one| one.sink));
    let starts: usize = ran.iter().map(|one| one.starts).sum();
    eprintln!("{} runs ({sent} with a receiver, {sink} with a sink), {starts} starts, {faults:?}", ran.len());
    if count >= 500 {
        let seldom: Vec<_> = Fault::ALL.iter().filter(|fault| faults.get(fault).is_none_or(|n| *n < 100)).collect();
        assert!(seldom.is_empty(), "fewer than 100 times: {seldom:?}");
        let seldom: Vec<_> = STATEFUL.iter().filter(|kind| kinds.get(kind).is_none_or(|n| *n < 20)).collect();
        assert!(seldom.is_empty(), "fewer than 20 times: {seldom:?}");
        let seldom: Vec<_> = Ordered::ALL.iter().filter(|kind| ordered.get(kind).is_none_or(|n| *n < 20)).collect();
        assert!(seldom.is_empty(), "fewer than 20 times: {seldom:?}");
        assert!(sent > ran.len() / 4 && sink > ran.len() / 4, "{sent} receivers, {sink} sinks");
    }
}

#[test]
fn a_seed_that_runs_one_batch_at_a_time_asks_the_disk_for_the_same_operations_again() {
    let (mut sent, mut sinks) = (0, 0);
    let from = number("MILLSTREAM_SIM_FROM", 0);
    for seed in from..from + 80 {
        let plan = Plan { calm: true, ..Plan::ordinary(seed) };
        let [one, two] = [simulate(plan), simulate(plan)].map(|ran| ran.unwrap_or_else(|why| panic!("{why}")));
        assert!(one.trace == two.trace, "{plan:?}\n{}\n\n{}", one.trace, two.trace);
        sent += usize::from(one.sent);
        sinks += usize::from(one.sink);
    }
    assert!(sent > 20 && sinks > 20, "{sent} with a receiver, {sinks} with a sink");
}
