//! The same program gives the same elements in the same order in the same partitions: on one thread, on four, again,
//! and when every stage, block and result goes through bytes. What cannot travel is refused with its line.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::{Arc, OnceLock};

use common::context;
use millstream_core::backend::{Backend, JobEnds, JobHandle, LocalThreads};
use millstream_core::conf::EngineConf;
use millstream_core::plan::{JobPlan, StageProgram, TaskOutput, TaskResult};
use millstream_core::{
    Context, Env, ErrorKind, Partitioner, Rdd, Result, StorageLevel, TaskContext, Text, capture, capture_ref, capture2,
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
            TaskOutput::Shuffle(blocks) => {
                let written = blocks.iter().map(|block| Ok(block.written()?.expect("a shuffle block can be written")));
                TaskOutput::Shuffle(written.collect::<Result<_>>()?)
            }
            TaskOutput::Result(TaskResult { value, codec }) => {
                TaskOutput::Result(TaskResult { value: codec.decode(&codec.encode(&*value)?)?, codec })
            }
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

/// Numbers that several maps have mixed up, so that tasks end in any order.
fn pairs(context: &Context, n: usize) -> Rdd<(u64, u64)> {
    let numbers = context.parallelize((0..4000u64).collect(), n);
    numbers.map(|x| (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57, x))
}

/// A program: what its result looks like, partition by partition.
type Program = fn(&Context, usize) -> Result<String>;

fn parts<T: millstream_core::ExchangeData + std::fmt::Debug>(rdd: &Rdd<T>) -> Result<String> {
    Ok(format!("{:?}", rdd.glom().collect()?))
}

#[rustfmt::skip]
const PROGRAMS: &[(&str, Program)] = &[
    ("reduce_by_key", |c, n| parts(&pairs(c, n).reduce_by_key(|a, b| a.wrapping_mul(31) ^ b))),
    ("reduce of texts", |c, n| parts(&pairs(c, n).map_values(|v| v.to_string()).reduce_by_key_partitioned(|a, b| a + &b, 3))),
    ("keys that are texts", |c, n| parts(&pairs(c, n).map(|(k, v)| (Text::from(k.to_string()), v)).reduce_by_key(|a, b| a + b))),
    ("combine_by_key", |c, n| parts(&pairs(c, n).combine_by_key(|v| (v, 1u64), |c, v| (c.0 ^ v, c.1 + 1), |a, b| (a.0 ^ b.0, a.1 + b.1)))),
    ("group_by_key", |c, n| parts(&pairs(c, n).group_by_key())),
    ("group in place", |c, n| parts(&pairs(c, n).partition_by(3).group_by_key())),
    ("partition_by", |c, n| parts(&pairs(c, n).partition_by(Partitioner::custom(5, |k: &u64| *k as usize % 5)))),
    ("distinct", |c, n| parts(&pairs(c, n).keys().distinct())),
    ("repartition", |c, n| parts(&pairs(c, n).repartition(3))),
    ("cogroup", |c, n| parts(&pairs(c, n).cogroup(&pairs(c, 3).map(|(k, v)| (v % 200, k))))),
    ("join", |c, n| parts(&pairs(c, n).join(&pairs(c, 3).filter(|p| p.1 % 50 == 0)))),
    ("full_outer_join", |c, n| parts(&pairs(c, n).full_outer_join(&pairs(c, 2).filter(|p| p.1 % 60 == 0).map(|(k, v)| (k + 100, v))))),
    ("outer joins in place", |c, n| {
        let (a, b) = (pairs(c, n).partition_by(4), pairs(c, 2).filter(|p| p.1 % 70 == 0).partition_by(4));
        parts(&a.left_outer_join(&b).map_values(|v| v.0).union(&a.right_outer_join(&b).map_values(|v| v.1)))
    }),
    ("sort_by", |c, n| parts(&pairs(c, n).sort_by(|p| p.0))),
    ("sort_by_key_descending", |c, n| parts(&pairs(c, n).sort_by_key_descending())),
    ("union and coalesce", |c, n| parts(&pairs(c, n).union(&pairs(c, 2).reduce_by_key(|a, _| a)).coalesce(3))),
    ("operations on elements", |c, n| parts(&pairs(c, n).flat_map(|(k, v)| [k, v]).filter(|x| x % 3 == 0).key_by(|x| x % 5).flat_map_values(|v| 0..v % 3).flat_map_into(|p, out| out.push(p)))),
    ("operations on partitions", |c, n| parts(&pairs(c, n).map_partitions_with_index(|p, xs| xs.step_by(p + 2)).map_partitions_preserving(|xs| xs.skip(1)))),
    ("persisted", |c, n| {
        let kept = pairs(c, n).reduce_by_key(|a, b| a ^ b).persist(StorageLevel::MEMORY_ONLY_SER);
        Ok(parts(&kept.map(|p| p.1))? + &parts(&kept.sort_by_key())? + &parts(&kept.map_values(|v| v).cache())?)
    }),
    ("actions", |c, n| {
        let p = pairs(c, n);
        let some = (p.take(700)?, p.first()?, p.is_empty()?, p.count()?, p.top(9)?, p.top_by(9, |p| p.0)?, p.take_ordered(9)?, p.max()?);
        let folded = (p.values().fold(1, |a, b| a.wrapping_mul(b | 1))?, p.aggregate(0, |a, p| a * 3 % 1007 + p.1, |a, b| a * 5 % 1007 + b)?);
        p.foreach(|_| {})?;
        p.foreach_partition(|xs| { assert!(xs.count() > 1); Ok(()) })?;
        Ok(format!("{some:?} {folded:?} {:?} {:?}", p.lookup(&7)?, p.reduce(|a, b| (a.0 ^ b.1, a.1 * 3 % 1009 + b.0))?))
    }),
    ("captures", |c, n| {
        let (add, limit, modulus) = (std::hint::black_box(3u64), std::hint::black_box(900u64), std::hint::black_box(97u64));
        let moved = pairs(c, n).map(capture(add, |add, p: (u64, u64)| (p.0 + add, p.1)));
        let some = moved.filter(capture_ref(limit, |limit, p: &(u64, u64)| p.1 < *limit));
        parts(&some.reduce_by_key(capture2(modulus, |m, a: u64, b: u64| a * b % m)))
    }),
];

#[test]
fn results_and_their_order_do_not_depend_on_threads_or_timing_or_travelling() {
    let contexts = [
        ("local[1]", context("local[1]")),
        ("local[4]", context("local[4]")),
        ("bytes[1]", through_bytes(1)),
        ("bytes[4]", through_bytes(4)),
    ];
    for (name, program) in PROGRAMS {
        for n in [1, 2, 7] {
            // How many partitions there are by default is a setting; here all contexts have explicit ones.
            let want = program(&contexts[0].1, n).unwrap();
            for (which, context) in &contexts {
                for run in 0..if *which == "local[4]" { 10 } else { 2 } {
                    let got = program(context, n).unwrap();
                    assert!(got == want, "{name} over {n} on {which}, run {run}:\n{got:.300}\nand not\n{want:.300}");
                }
            }
        }
    }
    for (which, context) in &contexts {
        let env = context.env();
        assert_eq!((env.shuffles.len(), env.blocks.usage().blocks), (0, 0), "{which} keeps what nobody needs");
    }
}

#[test]
fn a_failure_elsewhere_names_the_same_line_as_a_failure_here() {
    for context in [context("local[2]"), through_bytes(2)] {
        let ones = pairs(&context, 3).map(|(_, v)| (0u64, v));
        let (error, line) = (ones.reduce_by_key(|_, _| panic!("no sum")).map(|p| p).count().unwrap_err(), line!());
        let site = error.site().unwrap();
        assert_eq!((site.op(), site.line()), ("reduce_by_key", line), "{error}");
        let (error, line) = (ones.foreach(|_| panic!("no output")).unwrap_err(), line!());
        assert_eq!((error.site().unwrap().op(), error.site().unwrap().line()), ("foreach", line), "{error}");
    }
}

#[test]
fn closures_that_capture_silently_run_here_and_are_all_refused_elsewhere_with_their_lines() {
    let limit = std::hint::black_box(5u64);
    let program = |context: &Context| {
        let numbers = context.parallelize((0..10u64).collect(), 2);
        let (high, first) = (numbers.filter(move |x| *x > limit), line!());
        let (moved, second) = (high.map(|x| x + 1).map(move |x| x + limit), line!());
        let (pairs, third) = (moved.map_partitions(move |xs| xs.map(move |x| (x, limit))), line!());
        (pairs.reduce_by_key_partitioned(move |a, b| a + b + limit, 2), vec![first, second, third, line!()])
    };
    let (here, _) = program(&context("local[2]"));
    assert_eq!(here.count().unwrap(), 4);
    let (elsewhere, lines) = program(&through_bytes(2));
    for error in [elsewhere.explain().stages[0].program.ship().unwrap_err(), elsewhere.count().unwrap_err()] {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(text.starts_with("4 closures cannot travel") && text.contains("capture("), "{text}");
        assert!(lines.iter().all(|line| text.contains(&format!("determinism.rs:{line}"))), "{lines:?}: {text}");
    }
}
