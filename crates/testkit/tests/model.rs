//! Random programs on the engine and on the model, which must give the same.
//!
//! A program is a row of up to eight operations on pairs. Programs are cut out of walks over all pairs of operations, so that
//! each operation meets each other one as its neighbour; a walk is another one each time. Some more are drawn by chance. Their
//! source of chance has a fixed seed, so that each run is the same; `MODEL_SEED=anything` draws others. Several
//! programs run in one context, as that costs most; what fails is shrunk to one program, its fewest operations and its smallest
//! input.

mod model {
    pub(crate) mod listed;
    pub(crate) mod meaning;
    pub(crate) mod op;
    pub(crate) mod program;
}

use std::cell::RefCell;
use std::collections::BTreeMap;

use model::listed::Listed;
use model::op::{Kind, op};
use model::program::{Case, inputs, program};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// How many programs run in one context.
const TOGETHER: usize = 24;
/// How many walks over all pairs of operations there are.
const WALKS: usize = 21;
/// How many programs are drawn by chance.
const BY_CHANCE: usize = 240;
/// How many operations a program has at most.
const LONGEST: usize = 8;

/// How often what was compared.
#[derive(Default)]
struct Counts {
    /// Programs with an operation.
    programs: BTreeMap<Kind, usize>,
    /// Places where one operation stood behind another.
    neighbours: BTreeMap<(Kind, Kind), usize>,
}

impl Counts {
    fn add(&mut self, kinds: &[Kind]) {
        let mut once = kinds.to_vec();
        once.sort();
        once.dedup();
        for kind in once {
            *self.programs.entry(kind).or_default() += 1;
        }
        for pair in kinds.windows(2) {
            *self.neighbours.entry((pair[0], pair[1])).or_default() += 1;
        }
    }

    /// Asserts that nothing was compared seldom. Every pair is legal: each operation goes from pairs to pairs.
    fn assert_enough(&self) {
        let seldom: Vec<_> = Kind::ALL.iter().filter(|kind| self.programs.get(kind).is_none_or(|n| *n < 500)).collect();
        assert!(seldom.is_empty(), "in fewer than 500 programs: {seldom:?}");
        let pairs = Kind::ALL.iter().flat_map(|a| Kind::ALL.iter().map(move |b| (*a, *b)));
        let seldom: Vec<_> = pairs.filter(|pair| self.neighbours.get(pair).is_none_or(|n| *n < 20)).collect();
        assert!(seldom.is_empty(), "neighbours fewer than 20 times: {seldom:?}");
    }
}

/// Draws a value that is not shrunk.
fn drawn<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("a strategy that refuses nothing").current()
}

/// A walk that goes from each operation to each, itself too, exactly once: an Eulerian circuit.
fn walk(runner: &mut TestRunner) -> Vec<Kind> {
    let all = Just(Kind::ALL.to_vec()).prop_shuffle();
    let mut next: BTreeMap<Kind, Vec<Kind>> = Kind::ALL.iter().map(|kind| (*kind, drawn(&all, runner))).collect();
    let (mut path, mut circuit) = (vec![drawn(&select(Kind::ALL), runner)], Vec::new());
    while let Some(at) = path.last() {
        match next.get_mut(at).and_then(Vec::pop) {
            Some(kind) => path.push(kind),
            None => circuit.extend(path.pop()),
        }
    }
    circuit.reverse();
    circuit
}

/// Cuts a walk into programs, each of which begins with the operation with which the one before it ends.
fn cut(walk: &[Kind]) -> impl Iterator<Item = Vec<Kind>> {
    (0..walk.len() - 1).step_by(LONGEST - 1).map(|from| walk[from..walk.len().min(from + LONGEST)].to_vec())
}

/// The 32 bytes that the source of chance wants.
fn seeded(seed: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(seed.bytes()).for_each(|(byte, of)| *byte = of);
    bytes
}

#[test]
fn random_programs_give_what_the_model_gives() {
    let config = Config { failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let rng = match std::env::var("MODEL_SEED") {
        Ok(seed) => TestRng::from_seed(RngAlgorithm::ChaCha, &seeded(&seed)),
        Err(_) => TestRng::deterministic_rng(config.rng_algorithm),
    };
    let mut runner = TestRunner::new_with_rng(config, rng);

    let mut programs: Vec<Vec<Kind>> = Vec::new();
    for _ in 0..WALKS {
        programs.extend(cut(&walk(&mut runner)));
    }
    let by_chance = vec(select(Kind::ALL), 1..=LONGEST);
    programs.extend((0..BY_CHANCE).map(|_| drawn(&by_chance, &mut runner)));

    let counts = RefCell::new(Counts::default());
    for together in programs.chunks(TOGETHER) {
        let programs = together.iter().map(|kinds| program(Listed::new(kinds.iter().copied().map(op))));
        let partitions = prop_oneof![2 => Just(1), 2 => Just(2), 1 => Just(7)];
        let rounds = prop_oneof![5 => Just(1), 1 => Just(2)];
        let starved = prop_oneof![11 => Just(false), 1 => Just(true)];
        // They shrink one after the other, so first to one program.
        let case = (Listed::new(programs), starved, partitions, rounds, inputs());
        let case = case.prop_map(|(programs, starved, partitions, rounds, inputs)| Case {
            programs,
            starved,
            partitions,
            rounds,
            inputs,
        });
        let tree = case.new_tree(&mut runner).expect("a strategy that refuses nothing");
        let compared = runner.run_one(tree, |case| {
            let compared = case.compare().map_err(TestCaseError::fail)?;
            compared.iter().for_each(|kinds| counts.borrow_mut().add(kinds));
            Ok(())
        });
        match compared {
            Ok(_) => {}
            Err(TestError::Fail(why, case)) => panic!("{why}\n{case:#?}"),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
    counts.into_inner().assert_enough();
}
