//! What fails says why, of which kind and at which line, and the context goes on (R-78, S-117, CX17…CX20, SV04).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::context;
use millstream_core::{Context, Error, ErrorKind, Partitioner, Rdd, Result, TaskContext};

/// Fails at 7 and gives everything else back.
fn boom(x: u64) -> u64 {
    assert!(x != 7, "seven is out");
    x
}

/// The same context still runs a job with a shuffle, and keeps nothing of what failed.
fn still_works(context: &Context) {
    let sums = context.parallelize((0..100u64).map(|x| (x % 3, x)).collect(), 4).reduce_by_key(|a, b| a + b);
    assert_eq!(sums.values().reduce(|a, b| a + b).unwrap(), 4950);
    drop(sums);
    assert_eq!((context.env().shuffles.len(), context.env().blocks.usage().blocks), (0, 0));
}

/// A job to run and the line on which its closure stands.
type Job = fn(&Rdd<u64>) -> (Result<()>, u32);

#[rustfmt::skip]
const PANICS: &[(&str, Job)] = &[
    ("map", |r| (r.map(boom).count().map(drop), line!())),
    ("filter", |r| (r.filter(|x| boom(*x) > 0).map(|x| x).count().map(drop), line!())),
    ("flat_map", |r| (r.map(|x| x).flat_map(|x| [boom(x)]).filter(|_| true).count().map(drop), line!())),
    ("flat_map", |r| (r.flat_map(|x| (x..=x).map(boom)).count().map(drop), line!())),
    ("flat_map_into", |r| (r.flat_map_into(|x, out| out.push(boom(x))).count().map(drop), line!())),
    ("key_by", |r| (r.key_by(|x| boom(*x)).count().map(drop), line!())),
    ("map_values", |r| (r.map(|x| (x, x)).map_values(boom).count().map(drop), line!())),
    ("flat_map_values", |r| (r.map(|x| (x, x)).flat_map_values(|x| [boom(x)]).count().map(drop), line!())),
    ("map_partitions", |r| (r.map(|x| x).map_partitions(|xs| xs.map(boom)).map(|x| x).count().map(drop), line!())),
    ("map_partitions", |r| (r.map(|x| x).map_partitions(|xs| [xs.map(boom).sum::<u64>()]).count().map(drop), line!())),
    ("map_partitions_with_index", |r| (r.map_partitions_with_index(|p, xs| xs.skip(7 * boom(p as u64 + 7) as usize)).count().map(drop), line!())),
    ("reduce_by_key", |r| (r.map(|x| (0, x)).reduce_by_key(|a, b| boom(a.min(7)) + b).map(|x| x).count().map(drop), line!())),
    ("reduce_by_key_partitioned", |r| (r.map(|x| (x, x)).partition_by(2).map(|p| (0, p.1)).reduce_by_key_partitioned(|_, b| boom(b), 2).count().map(drop), line!())),
    ("combine_by_key", |r| (r.map(|x| (x, x)).combine_by_key(boom, |c, _| c, |c, _| c).count().map(drop), line!())),
    ("reduce_by_key", |r| (r.map(|x| (0, x)).partition_by(2).reduce_by_key(|_, b| boom(b)).count().map(drop), line!())),
    ("sort_by", |r| (r.map(|x| x).sort_by(|x| boom(*x)).count().map(drop), line!())),
    ("sort_by_partitioned", |r| (r.map(|x| x).sort_by_partitioned(|x| boom(*x), 1).count().map(drop), line!())),
    ("partition_by", |r| (r.map(|x| (x, x)).partition_by(Partitioner::custom(2, |k| boom(*k) as usize % 2)).count().map(drop), line!())),
    ("lookup", |r| (r.map(|x| (x % 7, x)).partition_by(Partitioner::custom(2, |k| boom(*k) as usize % 2)).lookup(&7).map(drop), line!())),
    ("top_by", |r| (r.map(|x| x).top_by(3, |x| boom(*x)).map(drop), line!())),
    ("reduce", |r| (r.map(|x| x).reduce(|a, b| a + boom(b)).map(drop), line!())),
    ("fold", |r| (r.map(|x| x).fold(0, |a, b| a + boom(b)).map(drop), line!())),
    ("aggregate", |r| (r.map(|x| x).aggregate(0, |a, b| a + boom(b), |a, _| a).map(drop), line!())),
    ("aggregate", |r| (r.map(|x| x).aggregate(0, |a, _| a, |_, _| boom(7)).map(drop), line!())),
    ("foreach", |r| (r.map(|x| x).foreach(|x| { boom(x); }), line!())),
    ("foreach_partition", |r| (r.map(|x| x).foreach_partition(|xs| { xs.for_each(|x| { boom(x); }); Ok(()) }), line!())),
];

#[test]
fn s117_a_closure_that_panics_fails_the_job_with_its_text_and_its_line() {
    for master in ["local[1]", "local[4]"] {
        let context = context(master);
        for (i, (op, job)) in PANICS.iter().enumerate() {
            for n in [1, 2, 7] {
                let (result, line) = job(&context.parallelize((0..2000).collect(), n));
                let error = result.unwrap_err();
                let what = format!("case {i}, {op} over {n} on {master}: {error}");
                assert_eq!(error.kind(), ErrorKind::User, "{what}");
                assert!(error.to_string().contains("seven is out"), "{what}");
                let site = error.site().unwrap();
                assert_eq!((site.op(), site.line()), (*op, line), "{what}");
                assert!(site.file().ends_with("failures.rs"), "{what}");
            }
            still_works(&context);
        }
    }
}

#[test]
fn s117_a_reduce_that_panics_only_behind_the_shuffle_names_its_line_too() {
    let context = context("local[2]");
    let apart = context.parallelize_partitions(vec![vec![(0u8, 7u64)], vec![(0, 7)]]);
    let error = apart.reduce_by_key(|a, b| boom(a) + b).map(|p| p).count().unwrap_err();
    assert_eq!((error.site().unwrap().op(), error.site().unwrap().line()), ("reduce_by_key", line!() - 1), "{error}");
    let error = apart.reduce(|a, b| (a.0, boom(a.1) + b.1)).unwrap_err();
    assert_eq!((error.site().unwrap().op(), error.site().unwrap().line()), ("reduce", line!() - 1), "{error}");
}

#[test]
fn s117_a_panic_with_any_payload_is_reported() {
    let context = context("local[2]");
    let one = context.parallelize(vec![1u64], 1);
    for (job, text) in [
        (one.map(|_| -> u64 { panic!("a text of {}", "two parts") }), "a text of two parts"),
        (one.map(|_| -> u64 { std::panic::panic_any(3u8) }), "not a text"),
        (one.map(|x| [1u64][x as usize]), "out of bounds"),
    ] {
        assert!(job.count().unwrap_err().to_string().contains(text));
    }
    still_works(&context);
}

#[test]
fn rd39_an_error_that_foreach_partition_returns_keeps_its_kind_and_gets_the_line() {
    let context = context("local[2]");
    let rdd = context.parallelize((0..10u64).collect(), 3);
    let fail = |error: fn() -> Error| {
        (rdd.foreach_partition(move |xs| if xs.count() > 3 { Err(error()) } else { Ok(()) }).unwrap_err(), line!())
    };
    for (error, kind, text) in [
        (fail(|| "no such table".into()), ErrorKind::User, "no such table"),
        (fail(|| std::io::Error::other("disk on fire").into()), ErrorKind::Unavailable, "disk on fire"),
        (fail(|| Error::new(ErrorKind::Data, "odd bytes")), ErrorKind::Data, "odd bytes"),
    ] {
        let (error, line) = error;
        assert_eq!((error.kind(), error.site().unwrap().line()), (kind, line), "{error}");
        assert!(error.to_string().contains(text), "{error}");
        still_works(&context);
    }
    let upstream = rdd.map(boom).filter(|_| true);
    let error = upstream.foreach_partition(|xs| if xs.count() == 0 { Err("nothing came".into()) } else { Ok(()) });
    assert!(error.unwrap_err().to_string().contains("seven is out"), "what came first explains the rest");
}

#[test]
fn r78_a_task_is_tried_as_often_as_the_master_says() {
    for (master, tries, succeeds) in
        [("local[2,3]", 3, true), ("local[1,4]", 3, true), ("local[2,2]", 2, false), ("local[2]", 1, false)]
    {
        let context = context(master);
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        let flaky = context.parallelize((0..10u64).collect(), 2).map(move |x| {
            if x == 7 {
                seen.fetch_add(1, Ordering::Relaxed);
                assert!(TaskContext::current().unwrap().attempt() == 2, "not yet");
            }
            (x % 2, x)
        });
        let sums = flaky.reduce_by_key(|a, b| a + b);
        assert_eq!(sums.count().is_ok(), succeeds, "{master}");
        assert_eq!(count.load(Ordering::Relaxed), tries, "{master}");
        if succeeds {
            assert_eq!(common::sorted(sums.collect().unwrap()), [(0, 20), (1, 25)], "{master}: nothing is there twice");
        }
        drop((flaky, sums));
        still_works(&context);
    }
}

#[test]
fn sv04_a_partitioner_for_another_type_of_key_is_refused_at_the_operation() {
    let context = context("local[2]");
    let (pairs, texts) = (context.parallelize(vec![(1u64, 1u64)], 1), Partitioner::custom(2, |key: &String| key.len()));
    for (error, line) in [
        (pairs.partition_by(&texts).count().unwrap_err(), line!()),
        (pairs.reduce_by_key_partitioned(|a, _| a, &texts).count().unwrap_err(), line!()),
        (pairs.group_by_key_partitioned(&texts).collect().unwrap_err(), line!()),
        (pairs.join_partitioned(&pairs, &texts).count().unwrap_err(), line!()),
    ] {
        assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Config, line), "{error}");
        assert!(error.to_string().contains("another type than u64"), "{error}");
    }
    still_works(&context);
}

#[test]
fn sv04_a_custom_partitioner_that_answers_too_much_fails_the_job() {
    let context = context("local[2]");
    let (pairs, wide) =
        (context.parallelize(vec![(1u64, 1u64), (7, 2)], 2), Partitioner::custom(3, |key: &u64| *key as usize));
    for (error, line) in [
        (pairs.partition_by(&wide).map(|p| p).count().unwrap_err(), line!()),
        (pairs.reduce_by_key_partitioned(|a, _| a, &wide).count().unwrap_err(), line!()),
        (pairs.cogroup_partitioned(&pairs, &wide).count().unwrap_err(), line!()),
        (pairs.filter(|p| p.0 < 3).partition_by(&wide).lookup(&7).unwrap_err(), line!()),
    ] {
        assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::User, line), "{error}");
        assert!(error.to_string().contains("of 3 partitions answered 7"), "{error}");
    }
    still_works(&context);
}

#[test]
fn cx20_a_stopped_context_refuses_actions_and_says_so() {
    let context = context("local[2]");
    let rdd = context.parallelize(vec![1u64, 2], 2);
    let folder = tempfile::tempdir().unwrap();
    context.stop();
    assert!(context.is_stopped());
    for error in [
        rdd.count().unwrap_err(),
        rdd.map(|x| x).collect().unwrap_err(),
        rdd.sort_by(|x| *x).count().unwrap_err(),
        rdd.foreach(|_| {}).unwrap_err(),
        rdd.save_as_text_file(folder.path().join("out")).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert!(error.site().unwrap().file().ends_with("failures.rs"), "{error}");
    }
    assert!(!folder.path().join("out").exists(), "nothing is begun");
}

#[test]
fn cx17_cx18_a_job_group_is_cancelled_and_the_context_goes_on() {
    for master in ["local[1]", "local[4]"] {
        let context = context(master);
        let (begun, begins) = std::sync::mpsc::channel();
        let endless = context.parallelize(vec![0u64; 4], 4).map(move |_| {
            let task = TaskContext::current().unwrap();
            begun.send(()).unwrap();
            while !task.is_cancelled() {
                std::hint::spin_loop();
            }
        });
        let error = std::thread::scope(|scope| {
            let run = || context.with_job_group("slow", || endless.count().unwrap_err());
            let job = std::thread::Builder::new().spawn_scoped(scope, run).unwrap();
            begins.recv().unwrap();
            context.cancel_job_group("another");
            // The job is entered in the list of running ones a moment after its first task began.
            while !job.is_finished() {
                context.cancel_job_group("slow");
                std::thread::yield_now();
            }
            job.join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        still_works(&context);
    }
}

#[test]
fn an_action_inside_a_task_is_an_error_and_does_not_wait_for_itself() {
    for master in ["local[1]", "local[4]"] {
        let context = context(master);
        let inner = context.parallelize(vec![1u64], 1);
        let nested =
            context.parallelize(vec![1u64, 2], 2).map(move |_| inner.count().map_err(|e| (e.kind(), e.to_string())));
        let nested = nested
            .map(|r| r.unwrap_err())
            .filter(|(kind, text)| *kind == ErrorKind::Graph && text.contains("inside a task"));
        assert_eq!(nested.count().unwrap(), 2);
        drop(nested);
        still_works(&context);
    }
}
