//! Executors that end in the middle: what was lost is made again, the answer is the same, and no slot is lost with them.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, Rdd, capture};

/// Ends this executor, unless somebody has been ended for the same reason before.
fn end_once(folder: &Path, reason: &str) {
    if OpenOptions::new().write(true).create_new(true).open(folder.join(reason)).is_ok() {
        // As SIGKILL does: without a word.
        std::process::abort();
    }
}

fn cluster() -> (Arc<Cluster>, Context, tempfile::TempDir) {
    let conf = EngineConf::new("local-cluster[2,1]", "failures").unwrap();
    let cluster = Arc::new(Cluster::start(&conf).unwrap());
    let context = Context::builder(conf).with_backend(Arc::clone(&cluster) as _).build().unwrap();
    (cluster, context, tempfile::tempdir().unwrap())
}

/// Sums by key, with executors that end in the stages that are named.
fn sums(context: &Context, folder: &Path, reasons: [&str; 2]) -> Rdd<(i64, i64)> {
    let [in_map, in_reduce] = reasons.map(str::to_owned);
    let folder = folder.to_path_buf();
    let map = capture((folder.clone(), in_map), |(folder, reason), x: i64| {
        if x == 7 && !reason.is_empty() {
            end_once(folder, reason);
        }
        (x % 4, x)
    });
    let last = capture((folder, in_reduce), |(folder, reason), (k, v): (i64, i64)| {
        if k == 1 && !reason.is_empty() {
            end_once(folder, reason);
        }
        (k, v)
    });
    context.range(0, 100, 1, 4).map(map).reduce_by_key_partitioned(|a, b| a + b, 2).map(last)
}

fn right(mut sums: Vec<(i64, i64)>) -> bool {
    sums.sort_unstable();
    sums == [(0, 1200), (1, 1225), (2, 1250), (3, 1275)]
}

#[test]
fn an_executor_that_ends_in_the_map_stage_or_the_reduce_stage_changes_nothing() {
    let (cluster, context, folder) = cluster();
    for reasons in [["map", ""], ["", "reduce"], ["map too", "reduce too"]] {
        assert!(right(sums(&context, folder.path(), reasons).collect().unwrap()), "{reasons:?}");
    }
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
}

#[test]
fn an_executor_that_ends_between_jobs_takes_what_it_kept_and_that_is_made_again() {
    let (cluster, context, folder) = cluster();
    let kept = sums(&context, folder.path(), ["", ""]);
    kept.cache();
    assert!(right(kept.collect().unwrap()));
    let ends = capture(folder.path().to_path_buf(), |folder, _: i64| end_once(folder, "between"));
    context.range(0, 2, 1, 2).foreach(ends).unwrap();
    assert!(right(kept.collect().unwrap()));
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
    assert!(right(kept.collect().unwrap()));
}

#[test]
fn ten_executors_that_end_take_no_slot_with_them() {
    let (cluster, context, folder) = cluster();
    for round in 0..10 {
        let reasons = [format!("map {round}"), format!("reduce {round}")];
        let reasons = if round % 2 == 0 { [reasons[0].as_str(), ""] } else { ["", reasons[1].as_str()] };
        assert!(right(sums(&context, folder.path(), reasons).collect().unwrap()), "round {round}");
    }
    cluster.await_executors(2, Duration::from_secs(30)).unwrap();
    // Each waits for the other: both slots are there.
    let meet = capture(folder.path().to_path_buf(), |folder, x: i64| {
        std::fs::write(folder.join(format!("here-{x}")), b"").unwrap();
        while !folder.join(format!("here-{}", 1 - x)).exists() {
            std::hint::spin_loop();
        }
    });
    context.range(0, 2, 1, 2).foreach(meet).unwrap();
    assert_eq!(cluster.executors().len(), 2);
}
