//! Everything of the batch side can travel: each operation gives the same, partition by partition, when every stage,
//! block and result goes through bytes, on one thread and on four.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use common::{context, elsewhere};
use millstream_core::backend::{Backend, JobEnds, JobHandle, LocalThreads};
use millstream_core::conf::EngineConf;
use millstream_core::plan::{JobPlan, StageProgram, TaskOutput, TaskResult};
use millstream_core::{
    Context, Env, ExchangeData, Partitioner, Pipe, Rdd, Result, TaskContext, Text, capture, capture2,
};

/// Runs jobs on threads here as if they were elsewhere: nothing but bytes gets across.
#[derive(Debug)]
struct ThroughBytes(LocalThreads);

struct Travelled {
    left: Arc<dyn StageProgram>,
    arrived: OnceLock<Result<Arc<dyn StageProgram>>>,
}

impl Backend for ThroughBytes {
    fn slots(&self) -> usize {
        self.0.slots()
    }

    fn run(&self, mut job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle {
        for stage in &mut job.stages {
            stage.program = Arc::new(Travelled { left: Arc::clone(&stage.program), arrived: OnceLock::new() });
        }
        self.0.run(job, env, ends)
    }
}

impl StageProgram for Travelled {
    fn run(&self, task: &TaskContext) -> Result<TaskOutput> {
        let arrived = self.arrived.get_or_init(|| {
            let arrived = <dyn StageProgram>::arrive(&self.left.ship()?)?;
            // What arrived can travel on.
            <dyn StageProgram>::arrive(&arrived.ship()?)
        });
        Ok(match arrived.clone()?.run(task)? {
            TaskOutput::Result(TaskResult { value, codec }) => {
                TaskOutput::Result(TaskResult { value: codec.decode(&codec.encode(&*value)?)?, codec })
            }
            shuffled @ TaskOutput::Shuffle(_) => shuffled,
        })
    }

    fn ship(&self) -> Result<Vec<u8>> {
        self.left.ship()
    }
}

fn through_bytes(threads: usize) -> Context {
    let backend = Arc::new(ThroughBytes(LocalThreads::new(threads, 1).unwrap()));
    Context::builder(EngineConf::new("local[4]", "t").unwrap()).with_backend(backend).build().unwrap()
}

fn numbers(context: &Context, n: usize) -> Rdd<u64> {
    context.parallelize((0..3000u64).map(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52).collect(), n)
}

fn pairs(context: &Context, n: usize) -> Rdd<(u64, u64)> {
    numbers(context, n).map(|x| (x % 57, x))
}

/// A program: what its result looks like, partition by partition.
type Program = fn(&Context, usize) -> Result<String>;

fn parts<T: ExchangeData + Debug>(rdd: &Rdd<T>) -> Result<String> {
    Ok(format!("{:?}", rdd.glom().collect()?))
}

fn shown(value: Result<impl Debug>) -> Result<String> {
    Ok(format!("{:?}", value?))
}

fn shares(share: f64) -> HashMap<u64, f64> {
    (0..57).map(|key| (key, share)).collect()
}

#[rustfmt::skip]
const PROGRAMS: &[(&str, Program)] = &[
    ("sample", |c, n| parts(&numbers(c, n).sample(false, 0.3, 5))),
    ("sample with replacement", |c, n| parts(&numbers(c, n).sample(true, 1.7, 5))),
    ("random_split", |c, n| numbers(c, n).random_split(&[1.0, 2.0], 5).iter().map(parts).collect()),
    ("take_sample", |c, n| shown(numbers(c, n).take_sample(false, 50, 5))),
    ("sample_by_key", |c, n| parts(&pairs(c, n).sample_by_key(false, &shares(0.4), 5))),
    ("sample_by_key_exact", |c, n| parts(&pairs(c, n).sample_by_key_exact(true, &shares(0.4), 5))),
    ("zip", |c, n| parts(&numbers(c, n).zip(&numbers(c, n).map(|x| x + 1)))),
    ("zip_partitions", |c, n| parts(&numbers(c, n).zip_partitions(&pairs(c, n), |a, b| a.zip(b.skip(1))))),
    ("zip_with_index", |c, n| parts(&numbers(c, n).zip_with_index())),
    ("zip_with_unique_id", |c, n| parts(&numbers(c, n).zip_with_unique_id())),
    ("cartesian", |c, n| parts(&c.range(0, 40, 1, n).cartesian(&c.range(0, 30, 1, 3)))),
    ("subtract", |c, n| parts(&numbers(c, n).subtract(&numbers(c, 2).filter(|x| x % 3 == 0)))),
    ("subtract_by_key", |c, n| parts(&pairs(c, n).subtract_by_key(&pairs(c, 2).filter(|p| p.0 % 3 == 0)))),
    ("intersection", |c, n| parts(&numbers(c, n).intersection(&numbers(c, 2).filter(|x| x % 3 == 0)))),
    ("sort_by_key", |c, n| parts(&pairs(c, n).sort_by_key_partitioned(4).map_values(|v| v + 1).group_by_key())),
    ("sort_by_key_descending", |c, n| parts(&pairs(c, n).sort_by_key_descending())),
    ("filter_by_range", |c, n| parts(&pairs(c, n).sort_by_key_partitioned(5).filter_by_range(10, 30))),
    ("repartition_and_sort_within_partitions", |c, n| {
        parts(&pairs(c, n).repartition_and_sort_within_partitions(Partitioner::custom(3, |k: &u64| *k as usize % 3)))
    }),
    ("aggregate_by_key", |c, n| parts(&pairs(c, n).aggregate_by_key(7u64, |a, v| a ^ v, |a, b| a.wrapping_mul(3) ^ b))),
    ("fold_by_key", |c, n| parts(&pairs(c, n).fold_by_key(0, |a, b| a.wrapping_mul(31) ^ b))),
    ("reduce_by_key_locally", |c, n| {
        let mut all: Vec<_> = pairs(c, n).reduce_by_key_locally(|a, b| a.max(b))?.into_iter().collect();
        all.sort_unstable();
        shown(Ok(all))
    }),
    ("group_by", |c, n| parts(&numbers(c, n).group_by(|x| x % 7))),
    ("tree_reduce", |c, n| shown(numbers(c, n * 9).tree_reduce(|a, b| a.wrapping_mul(31) ^ b, 3))),
    ("tree_aggregate", |c, n| shown(numbers(c, n * 9).tree_aggregate(1u64, |a, x| a ^ x, |a, b| a.wrapping_mul(31) ^ b, 2))),
    ("stats", |c, n| shown(numbers(c, n).stats())),
    ("sum", |c, n| shown(numbers(c, n).sum())),
    ("histogram", |c, n| shown(numbers(c, n).histogram(7))),
    ("count_approx_distinct", |c, n| shown(numbers(c, n).count_approx_distinct(0.03))),
    ("count_approx_distinct_by_key", |c, n| parts(&pairs(c, n).count_approx_distinct_by_key(0.1))),
    ("pipe", |c, n| parts(&numbers(c, n).pipe_with(Pipe::new("sh").args(["-c", "sort -n | head -n $N"]).env("N", "20")))),
    ("to_local_iterator", |c, n| shown(numbers(c, n).to_local_iterator().collect::<Result<Vec<_>>>())),
    ("range", |c, n| parts(&c.range(100, -100, -7, n))),
    ("files", |c, n| {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("out");
        numbers(c, n).save_as_gzip_text_file(&path)?;
        let lines = parts(&c.text_file(folder.path().join("o*/part-*")))?;
        let texts = parts(&c.whole_text_files(&path, 2).values())?;
        let bytes = parts(&c.binary_files(&path, 3).values().map(|bytes| bytes.len()))?;
        Ok(lines + &texts + &bytes)
    }),
    ("broadcast", |c, n| {
        let table = c.broadcast((0..57u64).map(|key| Text::from(key.to_string())).collect::<Vec<_>>());
        parts(&pairs(c, n).map(capture(table, |table, (key, value): (u64, u64)| (table[key as usize].clone(), value))))
    }),
    ("accumulator", |c, n| {
        let (most, seen) = (c.double_accumulator("sum"), c.long_accumulator("seen"));
        let count = capture((most.clone(), seen.clone()), |(sum, seen), x: u64| {
            sum.add(x as f64);
            seen.add(1);
            (x % 5, 1u64)
        });
        let counted = parts(&numbers(c, n).map(count).reduce_by_key(|a, b| a + b))?;
        Ok(format!("{counted} {:?}", (most.value(), seen.value())))
    }),
    ("local properties", |c, n| {
        c.set_local_property("who", Some("ann"));
        let who = |_: u64| TaskContext::current().and_then(|t| t.local_property("who").map(str::to_owned));
        let asked = parts(&numbers(c, n).map(who).distinct());
        c.set_local_property("who", None);
        asked
    }),
    ("captured closures", |c, n| {
        let by = 31u64;
        let mixed = pairs(c, n).fold_by_key(0, capture2(by, |by, a: u64, b: u64| a.wrapping_mul(*by) ^ b));
        parts(&mixed.zip_partitions(&mixed, capture2(by, |by, a: millstream_core::PartitionIter<(u64, u64)>, b: millstream_core::PartitionIter<(u64, u64)>| {
            let by = *by;
            a.zip(b).map(move |(a, b)| a.1.wrapping_mul(by) ^ b.1)
        })))
    }),
];

#[test]
fn the_batch_side_gives_the_same_through_bytes_and_on_any_number_of_threads() {
    let here = [("local[1]", context("local[1]")), ("local[4]", context("local[4]"))];
    let contexts: Vec<_> = here.into_iter().chain([("through bytes", through_bytes(4))]).chain(elsewhere()).collect();
    for (name, program) in PROGRAMS {
        for n in [1, 2, 7] {
            let mut first: Option<String> = None;
            for (which, context) in &contexts {
                for run in 0..2 {
                    let shown = program(context, n).unwrap_or_else(|e| panic!("{name} over {n}, {which}: {e}"));
                    match &first {
                        None => first = Some(shown),
                        Some(first) => assert!(*first == shown, "{name} over {n}, {which}, run {run}"),
                    }
                }
            }
        }
    }
    for (which, context) in &contexts {
        let env = context.env();
        assert_eq!((env.shuffles.len(), env.blocks.usage().blocks), (0, 0), "{which} keeps what nobody needs");
        assert!(context.jobs().is_empty());
    }
}
