//! Executors that are lost in the one moment that programs cannot choose: when a job has succeeded, and its results are not
//! fetched yet.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::JobId;
use ballista_core::serde::scheduler::{
    ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification, PartitionId, PartitionLocation,
    PartitionStats,
};
use millstream_core::conf::EngineConf;
use millstream_core::{Context, ErrorKind, capture};

use super::{newest, small_enough};
use crate::Cluster;
use crate::driver::Inner;

#[test]
fn an_executor_that_dies_or_hangs_behind_its_success_has_its_results_made_again_and_counted_once() {
    let mut conf = EngineConf::new("local-cluster[2,1]", "fetch").unwrap();
    conf.cluster.executor_silence = Duration::from_secs(3);
    let cluster = Arc::new(Cluster::start(&conf).unwrap());
    let context = Context::builder(conf).with_backend(Arc::clone(&cluster) as _).build().unwrap();
    // Small results are brought before anybody dies, long ones are fetched.
    for (signal, length) in [("-KILL", 2 << 20), ("-STOP", 2 << 20), ("-KILL", 0)] {
        let made = context.long_accumulator("made");
        let pair = capture(made.clone(), |made, x: i64| {
            made.add(1);
            (x % 2, x)
        });
        let sums = context.range(0, 10, 1, 2).map(pair).reduce_by_key_partitioned(|a, b| a + b, 2);
        let sums = sums.map(capture(length, |length, (key, sum)| (key, sum, vec![0u8; *length])));
        let (_, process) = cluster.executors()[0];
        Inner::fetching(&cluster, move || {
            // A panic here would end the job's life without an end.
            let _ = Command::new("kill").args([signal, &process.to_string()]).status();
        });
        let mut got = sums.collect().unwrap();
        got.sort_unstable();
        let want = [(0, 20), (1, 25)].map(|(key, sum)| (key, sum, vec![0; length]));
        assert_eq!((&got[..], made.value()), (&want[..], 10), "{signal} {length}");
        // What has been brought is there before anybody misses who brought it.
        let replaced = |there: Vec<(String, u32)>| there.len() == 2 && there.iter().all(|(_, other)| *other != process);
        while !replaced(cluster.executors()) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        cluster.await_executors(2, Duration::from_secs(30)).unwrap();
    }
}

#[test]
fn results_that_would_take_the_drivers_memory_are_refused_before_they_are_fetched() {
    assert!(small_enough(5, 5).is_ok());
    let error = small_enough(6, 5).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("have 6 bytes") && error.to_string().contains("spark.driver.maxResultSize"));

    let mut conf = EngineConf::new("local-cluster[1,1]", "large").unwrap();
    conf.set("spark.driver.maxResultSize", "1m").unwrap();
    let context = Context::builder(conf).build().unwrap();
    let long = context.range(0, 2, 1, 2).map(|i| vec![i as u8; 1 << 20]);
    assert!(long.collect().unwrap_err().to_string().contains("spark.driver.maxResultSize"));
    assert_eq!(long.map(|bytes| bytes.len()).collect().unwrap(), [1 << 20; 2], "the next job is as good as ever");
}

#[test]
fn of_each_partition_the_newest_result_is_taken_that_is_still_there() {
    let at = |&(partition_id, executor): &(usize, &str)| PartitionLocation {
        map_partition_id: 0,
        partition_id: PartitionId { job_id: JobId::new("job"), stage_id: 1, partition_id },
        executor_meta: ExecutorMetadata {
            id: executor.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            grpc_port: 2,
            specification: ExecutorSpecification { vcores: 1 },
            os_info: ExecutorOperatingSystemSpecification::default(),
        },
        partition_stats: PartitionStats::default(),
        file_id: None,
        is_sort_shuffle: false,
    };
    let ready: BTreeSet<String> = ["a", "b"].map(str::to_owned).into();
    let taken = |locations: &[(usize, &str)]| {
        let newest = newest(locations.iter().map(at).collect(), &ready)?;
        Some(newest.into_iter().map(|l| (l.partition_id.partition_id, l.executor_meta.id)).collect::<Vec<_>>())
    };
    let some = |all: &[(usize, &str)]| Some(all.iter().map(|(p, id)| (*p, (*id).to_owned())).collect::<Vec<_>>());
    assert_eq!(taken(&[(1, "a"), (0, "b")]), some(&[(0, "b"), (1, "a")]));
    assert_eq!(taken(&[(0, "lost"), (1, "a"), (0, "b")]), some(&[(0, "b"), (1, "a")]), "it was made again");
    assert_eq!(taken(&[(0, "a"), (0, "b")]), some(&[(0, "b")]));
    assert_eq!(taken(&[(0, "a"), (0, "lost")]), some(&[(0, "a")]));
    assert_eq!(taken(&[(0, "a"), (1, "lost")]), None, "nobody has made it again");
    assert_eq!(taken(&[]), some(&[]));
}
