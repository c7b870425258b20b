// Records of many threads share a wait for the disk, and each thread learns what became of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use millstream_core::disk::Disk;
use millstream_core::threads::{OwnedThread, spawn};
use millstream_testkit::{Fault, SimDisk};

use super::*;
use crate::wal::{LogConf, SegmentLog};

const T: Time = Time::from_millis(1);

fn folder() -> &'static Path {
    Path::new("/log")
}

fn log_on(disk: &SimDisk) -> SegmentLog {
    let conf = LogConf { max_failures: 1, ..LogConf::default() };
    SegmentLog::open(Arc::new(disk.clone()), folder(), conf).unwrap()
}

fn records_of(log: &mut dyn WriteAheadLog) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    log.replay(&mut |_, _, record| {
        found.push(record.to_vec());
        Ok(())
    })
    .unwrap();
    found
}

#[test]
fn each_thread_is_given_the_handle_of_its_own_record_and_order_is_kept() {
    let disk = SimDisk::new(1);
    let group = Arc::new(GroupCommit::new(Box::new(log_on(&disk))));
    let writers: Vec<OwnedThread> = (0..4u8)
        .map(|thread| {
            let group = Arc::clone(&group);
            spawn("writer", move || {
                for i in 0..100u8 {
                    let handle = group.append(vec![thread, i], T).unwrap();
                    assert_eq!(group.with(|log| log.read(&handle)).unwrap(), [thread, i]);
                }
            })
            .unwrap()
        })
        .collect();
    writers.into_iter().for_each(OwnedThread::join);
    disk.crash(1);
    disk.restart();
    let found = records_of(&mut log_on(&disk));
    assert_eq!(found.len(), 400);
    for thread in 0..4u8 {
        let own: Vec<u8> = found.iter().filter(|record| record[0] == thread).map(|record| record[1]).collect();
        assert_eq!(own, (0..100).collect::<Vec<u8>>());
    }
}

/// A log that says when a group begins, and waits for a word before it is written.
#[derive(Debug)]
struct Slow {
    log: SegmentLog,
    begins: Sender<usize>,
    goes: Receiver<()>,
}

impl WriteAheadLog for Slow {
    fn append_all(&mut self, records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
        self.begins.send(records.len()).unwrap();
        self.goes.recv().unwrap();
        assert!(!records.iter().any(|(record, _)| *record == b"panic"), "the log panics");
        self.log.append_all(records)
    }

    fn read(&self, handle: &RecordHandle) -> Result<Vec<u8>> {
        self.log.read(handle)
    }

    fn replay(&mut self, each: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()> {
        self.log.replay(each)
    }

    fn forget_before(&mut self, t: Time) -> Result<()> {
        self.log.forget_before(t)
    }

    fn close(&mut self) -> Result<()> {
        self.log.close()
    }
}

/// A slow log, when its groups begin, how to let one go, and the results of the threads.
struct Scene {
    group: Arc<GroupCommit>,
    begins: Receiver<usize>,
    go: Sender<()>,
    results: (Sender<Result<RecordHandle>>, Receiver<Result<RecordHandle>>),
    threads: Vec<OwnedThread>,
}

impl Scene {
    fn on(disk: &SimDisk) -> Scene {
        let ((said, begins), (go, goes)) = (channel(), channel());
        let group = Arc::new(GroupCommit::new(Box::new(Slow { log: log_on(disk), begins: said, goes })));
        Scene { group, begins, go, results: channel(), threads: Vec::new() }
    }

    /// Lets a thread append, and returns when its record waits behind `waiting - 1` others, or is being written.
    fn append(&mut self, record: Vec<u8>, waiting: usize) {
        let (group, results) = (Arc::clone(&self.group), self.results.0.clone());
        let thread = spawn("writer", move || {
            // A log that panics does so in the thread that leads.
            let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| group.append(record, T)));
            let _ = results.send(appended.unwrap_or_else(|_| Err(Error::from("this thread panicked"))));
        });
        self.threads.push(thread.unwrap());
        while lock(&self.group.queue).waiting.len() < waiting {
            std::thread::yield_now();
        }
    }

    fn results(&mut self) -> Vec<Result<RecordHandle>> {
        self.threads.drain(..).for_each(OwnedThread::join);
        self.results.1.try_iter().collect()
    }
}

#[test]
fn what_gathers_while_the_disk_works_is_the_next_group() {
    let disk = SimDisk::new(1);
    let mut scene = Scene::on(&disk);
    scene.append(b"first".into(), 0);
    assert_eq!(scene.begins.recv().unwrap(), 1);
    for i in 1..=5 {
        scene.append(vec![i], usize::from(i));
    }
    scene.go.send(()).unwrap();
    assert_eq!(scene.begins.recv().unwrap(), 5);
    scene.go.send(()).unwrap();
    assert!(scene.results().iter().all(Result::is_ok));
    let syncs = disk.operations().iter().filter(|operation| operation.name == "sync").count();
    assert_eq!(syncs, 2, "{}", disk.trace());
}

#[test]
fn a_group_has_a_megabyte_at_most_or_one_record() {
    let disk = SimDisk::new(1);
    let mut scene = Scene::on(&disk);
    scene.append(b"first".into(), 0);
    assert_eq!(scene.begins.recv().unwrap(), 1);
    for (i, bytes) in [3 << 20, 600_000, 400_000, 100_000].into_iter().enumerate() {
        scene.append(vec![0; bytes], i + 1);
    }
    for _ in 0..4 {
        scene.go.send(()).unwrap();
    }
    let groups: Vec<usize> = scene.begins.iter().take(3).collect();
    assert_eq!(groups, [1, 2, 1]);
    assert!(scene.results().iter().all(Result::is_ok));
}

#[test]
fn a_failure_fails_the_group_those_who_wait_and_all_later_ones() {
    let disk = SimDisk::new(1);
    let mut scene = Scene::on(&disk);
    scene.append(b"first".into(), 0);
    assert_eq!(scene.begins.recv().unwrap(), 1);
    scene.append(b"second".into(), 1);
    scene.append(b"third".into(), 2);
    disk.fail_at(4, Fault::Error);
    scene.go.send(()).unwrap();
    let results = scene.results();
    assert_eq!(results.len(), 3);
    for result in results {
        assert!(result.unwrap_err().to_string().contains("a simulated error"));
    }
    let later = scene.group.append(b"fourth".into(), T).unwrap_err().to_string();
    assert!(later.contains("until it is opened again: /log/log-"), "{later}");
    assert!(scene.begins.try_recv().is_err(), "the log was asked again");
}

#[test]
fn a_log_that_panics_leaves_nobody_waiting() {
    let mut scene = Scene::on(&SimDisk::new(1));
    scene.append(b"panic".into(), 0);
    assert_eq!(scene.begins.recv().unwrap(), 1);
    scene.append(b"second".into(), 1);
    scene.go.send(()).unwrap();
    let mut texts: Vec<String> = scene.results().into_iter().map(|result| result.unwrap_err().to_string()).collect();
    texts.sort();
    assert_eq!(texts, ["the log panicked while it wrote", "this thread panicked"]);
}

#[test]
fn without_a_crash_a_lone_writer_waits_for_nobody() {
    let disk = SimDisk::new(1);
    let group = GroupCommit::new(Box::new(log_on(&disk)));
    for i in 0..3u8 {
        group.append(vec![i], T).unwrap();
    }
    assert_eq!(group.with(records_of), [[0], [1], [2]]);
    group.with(|log| log.close()).unwrap();
    assert_eq!(group.append(vec![4], T).unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(disk.list(folder()).unwrap().len(), 1);
}
