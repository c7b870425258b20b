//! Executors whose disk is full.

use std::fs;
use std::sync::Arc;

use millstream_cluster::Cluster;
use millstream_core::clock::monotonic;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, ErrorKind, Result, Text, secs};

use crate::small_disk::SmallDisk;

/// How large the disk is, and what else lies on it.
const DISK: usize = 24 << 20;
const BALLAST: usize = 20 << 20;

/// Sends twelve megabytes through a shuffle.
fn shuffled(context: &Context) -> Result<u64> {
    let pairs = context.range(0, 12_000, 1, 4).map(|n| (n % 100, Text::from(format!("{n:01000}"))));
    let lengths = pairs.group_by_key_partitioned(2).map(|(_, texts)| texts.iter().map(|text| text.len() as u64).sum());
    lengths.reduce(|a: u64, b| a + b)
}

#[test]
fn an_executor_whose_disk_is_full_is_named_and_with_room_the_same_job_runs() {
    let home = tempfile::tempdir().unwrap();
    let Some(small) = SmallDisk::at(home.path(), DISK, "executors") else { return };
    let mut conf = EngineConf::new("local-cluster[2,1]", "full").unwrap();
    conf.local_dir = Some(small.0.clone());
    let cluster = Arc::new(Cluster::start(&conf).unwrap());
    let context = Context::builder(conf).with_backend(Arc::clone(&cluster) as _).build().unwrap();
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();

    let began = monotonic();
    let error = shuffled(&context).unwrap_err();
    let took = monotonic() - began;
    let text = error.to_string();
    eprintln!("after {took:?}: {text}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
    let executors = cluster.executors();
    assert!(executors.iter().any(|(host, _)| text.contains(&format!("on host {host} is full"))), "{text}");
    assert!(text.contains("No space left") && text.contains(small.0.to_str().unwrap()), "{text}");
    assert!(took < secs(60), "{took:?}: {text}");

    // What the job had written goes with it, and with room the same executors run it.
    fs::remove_file(&ballast).unwrap();
    assert_eq!(shuffled(&context).unwrap(), 12_000_000);
    assert_eq!(cluster.executors(), executors);
}
