//! Checkpoints of Rdds: written after the first job, read from then on, with the lineage cut (RD31…RD33, R-12, R-13).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::context;
use millstream_core::checkpoint::MemoryCheckpoints;
use millstream_core::{Context, ErrorKind, Rdd, StorageLevel};

fn with_store(master: &str) -> (Context, Arc<MemoryCheckpoints>) {
    let (context, store) = (context(master), Arc::new(MemoryCheckpoints::new()));
    context.set_checkpoint_store(Arc::clone(&store) as _);
    (context, store)
}

/// Numbers, and how often one was computed.
fn counted(context: &Context) -> (Rdd<u64>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let rdd = context.parallelize((0..10u64).collect(), 3).map(move |x| {
        seen.fetch_add(1, Ordering::Relaxed);
        x * x
    });
    (rdd, count)
}

#[test]
fn rd31_a_checkpoint_is_written_after_the_first_job_and_cuts_the_lineage() {
    let (context, store) = with_store("local[2]");
    let (rdd, computed) = counted(&context);
    rdd.checkpoint();
    let twice = rdd.map(|x| x * 2);
    assert!(!rdd.is_checkpointed() && store.names().is_empty(), "marking writes nothing");
    let want: Vec<u64> = (0..10).map(|x| x * x * 2).collect();
    assert_eq!(twice.collect().unwrap(), want);
    assert!(rdd.is_checkpointed());
    assert_eq!((store.names().len(), computed.load(Ordering::Relaxed)), (3, 20), "a second job computes again (R-12)");
    assert_eq!(twice.collect().unwrap(), want);
    assert_eq!(computed.load(Ordering::Relaxed), 20, "from now on it is read");
    assert_eq!(twice.to_debug_string().lines().count(), 2, "{}", twice.to_debug_string());
}

#[test]
fn rd31_what_is_persisted_is_not_computed_again_to_be_written() {
    let (context, _) = with_store("local[2]");
    let (rdd, computed) = counted(&context);
    rdd.persist(StorageLevel::MEMORY_ONLY);
    rdd.checkpoint();
    assert_eq!(rdd.count().unwrap(), 10);
    assert_eq!((rdd.is_checkpointed(), computed.load(Ordering::Relaxed)), (true, 10));
    rdd.unpersist();
    assert_eq!(rdd.reduce(|a, b| a + b).unwrap(), 285);
    assert_eq!(computed.load(Ordering::Relaxed), 10);
}

#[test]
fn r13_marked_ancestors_are_written_with_the_same_job() {
    let (context, store) = with_store("local[2]");
    let (rdd, _) = counted(&context);
    let sums = rdd.map(|x| (x % 3, x)).reduce_by_key(|a, b| a + b);
    rdd.checkpoint();
    sums.checkpoint();
    assert_eq!(sums.values().reduce(|a, b| a + b).unwrap(), 285);
    assert!(rdd.is_checkpointed() && sums.is_checkpointed());
    assert_eq!(store.names().len(), 3 + sums.num_partitions());
    assert_eq!(sums.values().reduce(|a, b| a + b).unwrap(), 285);
}

#[test]
fn rd32_a_local_checkpoint_keeps_partitions_and_cuts() {
    let context = context("local[2]");
    let (rdd, computed) = counted(&context);
    rdd.local_checkpoint();
    assert_eq!(rdd.count().unwrap(), 10);
    assert!(rdd.is_checkpointed());
    assert_eq!(rdd.reduce(|a, b| a + b).unwrap(), 285);
    assert_eq!(computed.load(Ordering::Relaxed), 10);
    rdd.unpersist();
    let error = rdd.count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
}

#[test]
fn sc15_a_checkpoint_without_a_folder_fails_the_job_and_says_what_to_do() {
    let context = context("local[2]");
    let (rdd, _) = counted(&context);
    rdd.checkpoint();
    let error = rdd.count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the checkpoint directory has not been set"), "{error}");
}

#[test]
fn rd31_a_chain_that_is_cut_every_ten_steps_stays_short() {
    let (context, _) = with_store("local[2]");
    let mut rdd = context.parallelize(vec![0u64; 4], 2);
    for step in 1..=100 {
        rdd = rdd.map(|x| x + 1);
        rdd.cache();
        if step % 10 == 0 {
            rdd.checkpoint();
        }
        assert_eq!(rdd.first().unwrap(), step);
        assert!(rdd.to_debug_string().lines().count() <= 10);
    }
}

#[test]
fn an_address_is_no_folder_and_is_not_made_one() {
    let context = context("local[1]");
    for (address, want) in [
        ("s3://bucket/words", "ObjectDisk::open(\"s3://BUCKET/PREFIX\")"),
        ("hdfs://namenode/words", "have to be mounted"),
        ("file:///var/lib/words", "give the path /var/lib/words"),
    ] {
        let error = context.set_checkpoint_dir(address).unwrap_err();
        assert_eq!(error.kind(), millstream_core::ErrorKind::Config);
        assert!(error.to_string().contains(want), "{error}");
    }
    assert!(!std::path::Path::new("s3:").exists());
}

#[test]
fn rd31_a_damaged_checkpoint_is_bad_data_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let context = context("local[2]");
    context.set_checkpoint_dir(folder.path()).unwrap();
    let (rdd, _) = counted(&context);
    rdd.checkpoint();
    assert_eq!(rdd.count().unwrap(), 10);
    let mut files = Vec::new();
    let mut folders = vec![folder.path().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    assert_eq!(files.len(), 3);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        std::fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
    }
    let error = rdd.collect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("part-0000"), "{error}");
    std::fs::remove_file(&files[0]).unwrap();
    assert_eq!(rdd.collect().unwrap_err().kind(), ErrorKind::Data);
}
