//! Random programs and their inputs, and how engine and model are compared on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_core::secs;
use millstream_core::threads::lock;
use millstream_testkit::model::Model;
use millstream_testkit::{Batches, Check, Row};
use proptest::collection::vec;
use proptest::prelude::*;

use super::listed::Listed;
use super::meaning::{Pair, on_the_engine, on_the_model};
use super::op::{Kind, Op};

/// A row of operations, each on what the one before gives.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Whether its input lacks Rdds, if its operations can do without.
    lacks_rdds: bool,
    ops: Vec<Op>,
}

impl Program {
    /// Says whether no operation fails where the input has no Rdd.
    fn may_lack_rdds(&self) -> bool {
        self.ops.iter().take_while(|op| !op.kind.gives_rdds()).all(|op| !op.kind.needs_rdds())
    }
}

/// Programs with these operations.
pub(crate) fn program(ops: Listed<Op>) -> impl Strategy<Value = Program> {
    (any::<bool>(), ops).prop_map(|(lacks_rdds, ops)| Program { lacks_rdds, ops })
}

/// What goes in.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// The stream of most programs.
    main: Vec<Vec<Pair>>,
    /// The stream that is brought together with it.
    beside: Vec<Vec<Pair>>,
    /// Which batches of the stream that lacks Rdds lack them; otherwise it is the same.
    missing: Vec<bool>,
}

/// How many batches go in at most.
const BATCHES: usize = 6;
/// How many run behind them, so that windows become empty.
const BEHIND: usize = 2;

/// Batches of few elements.
pub(crate) fn inputs() -> impl Strategy<Value = Inputs> {
    let batches = || vec(vec((0u8..8, -9i64..10), 0..6), 1..=BATCHES);
    (batches(), batches(), vec(any::<bool>(), BATCHES)).prop_map(|(main, beside, missing)| Inputs {
        main,
        beside,
        missing,
    })
}

fn rows(batches: &[Vec<Pair>], missing: &[bool], rounds: usize) -> Batches<Pair> {
    let missing = missing.iter().copied().chain(std::iter::repeat(false));
    let rows = batches.iter().zip(missing);
    let rows: Vec<_> =
        rows.map(|(row, missing)| if missing { Row::Missing } else { Row::Elements(row.clone()) }).collect();
    Batches::new(std::iter::repeat_n(rows, rounds).flatten().collect())
}

/// Programs that run together, and what they run on.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) partitions: usize,
    /// How often the inputs come. If twice, the batches go on behind the tenth, with which states save themselves.
    pub(crate) rounds: usize,
    /// Whether there is so little memory that blocks are lost and made again, and tables go to disk.
    pub(crate) starved: bool,
    pub(crate) inputs: Inputs,
    pub(crate) programs: Vec<Program>,
}

/// A batch with more elements than this is not worth its time: joins and windows multiply.
const MANY: usize = 200;

/// How many bytes a starved engine has.
const LITTLE: u64 = 20_000;

impl Case {
    /// Compares what the engine gives with what the model gives; returns the operations of each program that were compared.
    pub(crate) fn compare(&self) -> Result<Vec<Vec<Kind>>, String> {
        let batches = BATCHES * self.rounds + BEHIND;
        let mut test = Check::new(self.partitions, self.partitions.min(2)).with_conf(secs(1), |conf| {
            conf.engine.memory = self.starved.then_some(LITTLE);
        });
        let context = test.ssc().context().clone();
        let inputs = [&[], &*self.inputs.missing].map(|missing| rows(&self.inputs.main, missing, self.rounds));
        let beside = rows(&self.inputs.beside, &[], self.rounds);
        let models = inputs.clone().map(|rows| Model::input(rows, batches));
        let streams = inputs.map(|rows| test.input(rows));
        let beside = (Model::input(beside.clone(), batches), test.input(beside));

        let (mut expected, mut compared) = (Vec::new(), Vec::new());
        for program in &self.programs {
            let lacks_rdds = usize::from(program.lacks_rdds && program.may_lack_rdds());
            let (mut model, mut stream) = (models[lacks_rdds].clone(), streams[lacks_rdds].clone());
            let mut kinds = Vec::new();
            for op in &program.ops {
                let next = on_the_model(op, &model, &beside.0, &context);
                if next.rows().iter().flatten().any(|row| row.len() > MANY) {
                    break;
                }
                (model, stream) = (next, on_the_engine(op, &stream, &beside.1, &context));
                kinds.push(op.kind);
            }
            let given = Arc::new(Mutex::new(BTreeMap::new()));
            let gives = Arc::clone(&given);
            stream.foreach_rdd(move |rdd, time| {
                let mut row = rdd.collect()?;
                row.sort_unstable();
                lock(&gives).insert(time.as_millis() / 1000, row);
                Ok(())
            });
            expected.push((model, given));
            compared.push(kinds);
        }
        if !self.programs.is_empty() {
            test.run(batches).map_err(|error| format!("the engine failed: {error}"))?;
        }
        for ((model, given), kinds) in expected.iter().zip(&compared) {
            let given = lock(given);
            for (row, n) in model.rows().iter().zip(1i64..) {
                let (mut expected, given) = (row.clone(), given.get(&n));
                expected.iter_mut().for_each(|row| row.sort_unstable());
                if expected.as_ref() != given {
                    return Err(format!("second {n} of {kinds:?}\n  model  {expected:?}\n  engine {given:?}"));
                }
            }
        }
        Ok(compared)
    }
}
