//! What a log has acknowledged is there after a crash: whole, in order, once. Segments, rolling, forgetting, damage.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::disk::{Disk, RealDisk};
use millstream_core::{Error, ErrorKind, Result, Time, millis, secs};
use millstream_streaming::wal::{LogConf, RecordHandle, SegmentLog, WriteAheadLog};
use millstream_testkit::{Fault, SimDisk};

const FOLDER: &str = "/app/log";

fn ms(n: i64) -> Time {
    Time::from_millis(n)
}

fn open(disk: &SimDisk, conf: &LogConf) -> Result<SegmentLog> {
    SegmentLog::open(Arc::new(disk.clone()), FOLDER, conf.clone())
}

type Records = Vec<(Time, Vec<u8>)>;

fn replayed(log: &mut dyn WriteAheadLog) -> Result<Records> {
    let mut found = Vec::new();
    let mut handles: Vec<(RecordHandle, Vec<u8>)> = Vec::new();
    log.replay(&mut |time, handle, record| {
        found.push((time, record.to_vec()));
        handles.push((handle, record.to_vec()));
        Ok(())
    })?;
    for (handle, record) in handles {
        assert_eq!(log.read(&handle)?, record, "a handle reads what was replayed with it");
    }
    Ok(found)
}

fn files(disk: &dyn Disk) -> Vec<String> {
    let names = disk.list(Path::new(FOLDER)).unwrap();
    names.iter().map(|name| name.trim_start_matches("log-").trim_start_matches('0').to_owned()).collect()
}

fn path(number: u64) -> PathBuf {
    Path::new(FOLDER).join(format!("log-{number:020}"))
}

// ---- Spark's rules ----

#[test]
fn r34_nothing_is_made_before_the_first_write() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, &LogConf::default()).unwrap();
    assert_eq!(replayed(&mut log).unwrap(), []);
    log.forget_before(ms(5)).unwrap();
    assert_eq!(log.append_all(&[]).unwrap(), []);
    log.close().unwrap();
    assert_eq!(disk.operations(), []);
    assert!(log.append(b"x", ms(1)).unwrap_err().to_string().contains("closed"));
}

#[test]
fn r30_records_are_replayed_in_order_with_their_times_and_handles() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("a/b");
    let conf = LogConf { segment_bytes: 200, ..LogConf::default() };
    let open = || SegmentLog::open(Arc::new(RealDisk), &place, conf.clone()).unwrap();
    let mut expected = Records::new();
    let mut handles = Vec::new();
    for life in 0..3u8 {
        let mut log = open();
        assert_eq!(log.appended(), expected.len() as u64);
        for i in 0..5u8 {
            let (one, two) = (vec![life, i], vec![i; usize::from(i) * 30]);
            handles.extend(log.append_all(&[(&one, ms(i.into())), (&two, ms(7))]).unwrap());
            expected.extend([(ms(i.into()), one), (ms(7), two)]);
        }
        assert_eq!(replayed(&mut log).unwrap(), expected);
    }
    let mut log = open();
    assert_eq!(replayed(&mut log).unwrap(), expected);
    for (handle, (_, record)) in handles.iter().zip(&expected) {
        assert_eq!(&log.read(handle).unwrap(), record);
        for wrong in [
            RecordHandle { offset: handle.offset + 1, ..*handle },
            RecordHandle { len: handle.len + 1, ..*handle },
            RecordHandle { len: u32::MAX, ..*handle },
            RecordHandle { offset: u64::MAX, ..*handle },
            RecordHandle { segment: 77, ..*handle },
        ] {
            assert_eq!(log.read(&wrong).unwrap_err().kind(), ErrorKind::Data);
        }
    }
    let stop = log.replay(&mut |_, _, _| Err(Error::from("enough"))).unwrap_err();
    assert_eq!(stop.to_string(), "enough");
}

#[test]
fn k13_a_segment_ends_after_its_interval_by_the_times_of_records() {
    let disk = SimDisk::new(1);
    let conf = LogConf { rolling_interval: secs(60), ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    for (time, segments) in [(1_000, 1), (60_999, 1), (500, 1), (61_000, 2), (120_999, 2), (121_000, 3), (0, 3)] {
        log.append(b"x", ms(time)).unwrap();
        assert_eq!(files(&disk).len(), segments, "at {time}");
    }
    assert_eq!(replayed(&mut log).unwrap().len(), 7);
}

#[test]
fn a_segment_ends_when_it_is_large_and_a_record_may_be_larger() {
    let disk = SimDisk::new(1);
    let conf = LogConf { segment_bytes: 1000, ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    let big = vec![7; 3 << 20];
    for record in [&big[..900], &big[..1], &big, &big[..1], &big[..1]] {
        log.append(record, ms(1)).unwrap();
    }
    assert_eq!(files(&disk), ["1", "2", "3"]);
    assert_eq!(replayed(&mut log).unwrap()[2].1, big);
}

#[test]
fn k15_each_write_is_a_segment_where_a_store_cannot_flush() {
    let disk = SimDisk::new(1);
    let conf = LogConf { close_file_after_write: true, ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    for _ in 0..3 {
        log.append_all(&[(b"a", ms(1)), (b"b", ms(1))]).unwrap();
    }
    assert_eq!(files(&disk), ["1", "2", "3"]);
    assert_eq!(replayed(&mut open(&disk, &conf).unwrap()).unwrap().len(), 6);
}

#[test]
fn r33_segments_are_deleted_when_all_their_records_are_older() {
    let disk = SimDisk::new(1);
    let conf = LogConf { close_file_after_write: true, ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    let handles: Vec<_> = [10, 20, 15, 30].map(|time| log.append(b"x", ms(time)).unwrap()).into();
    // The time, and the segments that are left. The one with 15 waits for the older one with 20, the last is always kept.
    for (t, left) in
        [(10, &["1", "2", "3", "4"][..]), (11, &["2", "3", "4"]), (20, &["2", "3", "4"]), (21, &["4"]), (1000, &["4"])]
    {
        log.forget_before(ms(t)).unwrap();
        assert_eq!(files(&disk), left, "before {t}");
        let mut again = open(&disk.fork(), &conf).unwrap();
        assert_eq!(replayed(&mut again).unwrap().len(), left.len());
    }
    assert!(log.read(&handles[1]).unwrap_err().to_string().contains("forgotten"));
    assert_eq!(log.appended(), 4);
}

// ---- when the disk fails ----

#[test]
fn k14_a_failed_write_is_tried_in_a_new_segment_and_replayed_once() {
    for failures in 1..=2 {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let mut log = open(&disk, &LogConf::default()).unwrap();
            log.append(b"one", ms(1)).unwrap();
            // Append, sync; then create, append, sync.
            let next = disk.operations().len() as u64 + 1;
            for n in 0..failures {
                disk.fail_at(next + 1 + 3 * n, Fault::Error);
            }
            log.append(b"two", ms(2)).unwrap();
            log.append(b"three", ms(3)).unwrap();
            assert_eq!(disk.fired().len() as u64, failures, "{}", disk.trace());
            let expected: Records = vec![(ms(1), b"one".into()), (ms(2), b"two".into()), (ms(3), b"three".into())];
            assert_eq!(replayed(&mut log).unwrap(), expected);
            disk.crash(seed);
            disk.restart();
            assert_eq!(replayed(&mut open(&disk, &LogConf::default()).unwrap()).unwrap(), expected);
        }
    }
}

#[test]
fn a_log_that_failed_acknowledges_nothing_until_it_is_opened_again() {
    let disk = SimDisk::new(1);
    let conf = LogConf { max_failures: 2, ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    let first = log.append(b"one", ms(1)).unwrap();
    let next = disk.operations().len() as u64 + 1;
    disk.fail_at(next + 1, Fault::Error);
    disk.fail_at(next + 4, Fault::Error);
    assert!(log.append(b"two", ms(2)).unwrap_err().to_string().contains("simulated error"));
    let operations = disk.operations().len();
    for _ in 0..3 {
        let error = log.append(b"three", ms(3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(text.contains("acknowledges nothing more until it is opened again: /app/log/log-"), "{text}");
    }
    assert_eq!(disk.operations().len(), operations, "a poisoned log leaves the disk alone");
    assert_eq!(log.read(&first).unwrap(), b"one");
    assert_eq!(replayed(&mut log).unwrap().len(), 1);
    disk.kill();
    let mut log = open(&disk, &conf).unwrap();
    let found = replayed(&mut log).unwrap().len();
    assert!(found == 1 || found == 2, "what was not acknowledged may be there");
    log.append(b"four", ms(4)).unwrap();
    assert_eq!(replayed(&mut log).unwrap().len(), found + 1);
}

/// What the log is used for in the tests below, and what must be true of it afterwards.
struct Life {
    disk: SimDisk,
    conf: LogConf,
    log: Option<SegmentLog>,
    /// All that was appended and must be there, and what may be there behind it.
    acknowledged: Records,
    perhaps: Records,
    forgotten: Time,
    next: u64,
}

impl Life {
    fn new(disk: &SimDisk, conf: LogConf) -> Life {
        let (acknowledged, perhaps) = (Vec::new(), Vec::new());
        Life { disk: disk.clone(), conf, log: None, acknowledged, perhaps, forgotten: Time::ZERO, next: 0 }
    }

    /// Opens the log, after a restart if need be, and looks at what is in it.
    fn open(&mut self) -> Result<()> {
        if self.disk.is_down() {
            self.disk.restart();
        }
        self.disk.make_room();
        let mut log = open(&self.disk, &self.conf)?;
        let found = replayed(&mut log)?;
        let trace = || self.disk.trace();
        let mut all = self.acknowledged.clone();
        all.append(&mut self.perhaps);
        // Of the last write a prefix may be there, of the first ones those that are old may be gone.
        let from = found.first().map_or(self.acknowledged.len(), |first| {
            all.iter().position(|record| record == first).unwrap_or_else(|| panic!("a strange record:\n{}", trace()))
        });
        let to = from + found.len();
        assert!(to >= self.acknowledged.len(), "what was acknowledged is lost:\n{}", trace());
        assert!(all.get(from..to) == Some(&found[..]), "not in order, or not once:\n{}", trace());
        assert!(all[..from].iter().all(|(time, _)| *time < self.forgotten), "forgotten too early:\n{}", trace());
        // What was seen stays.
        all.truncate(to);
        self.acknowledged = all;
        self.log = Some(log);
        Ok(())
    }

    /// Appends a group of records whose sizes depend on how many there were.
    fn append(&mut self) -> Result<()> {
        let count = [1, 4, 2, 9, 1][self.next as usize % 5];
        let mut records = Records::new();
        for _ in 0..count {
            let n = self.next as usize;
            let mut record = vec![n as u8; [0, 3, 700, 90, 1300, 40][n % 6]];
            record.extend(self.next.to_le_bytes());
            records.push((ms(self.next as i64 * 10), record));
            self.next += 1;
        }
        let borrowed: Vec<(&[u8], Time)> = records.iter().map(|(time, record)| (&record[..], *time)).collect();
        let log = self.log.as_mut().expect("the log is open");
        match log.append_all(&borrowed) {
            Ok(handles) => {
                assert_eq!(handles.len(), records.len());
                self.acknowledged.append(&mut records);
                Ok(())
            }
            Err(error) => {
                self.perhaps = records;
                Err(error)
            }
        }
    }

    fn forget(&mut self) -> Result<()> {
        let t = ms(self.next as i64 * 10 - 100);
        self.forgotten = self.forgotten.max(t);
        self.log.as_mut().expect("the log is open").forget_before(t)
    }

    /// Does it all, opening the log again after each failure.
    fn live(&mut self) {
        for step in 0..18 {
            // More failures in a row than faults are planned cannot be.
            for attempt in 0.. {
                assert!(attempt < 20, "{}", self.disk.trace());
                let done = match &self.log {
                    None => self.open().and_then(|()| self.append()),
                    Some(_) if step % 4 == 3 => self.forget(),
                    Some(_) => self.append(),
                };
                match done {
                    Ok(()) => break,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}\n{}", self.disk.trace());
                        self.log = None;
                    }
                }
            }
        }
    }

    /// Stops the machine and looks again, twice: what was seen after the first crash must stay.
    fn crash(&mut self, seed: u64) {
        for again in 0..2 {
            self.log = None;
            self.disk.crash(seed + again);
            self.open().unwrap_or_else(|error| panic!("{error}\n{}", self.disk.trace()));
        }
    }
}

fn confs() -> [LogConf; 3] {
    let small = LogConf { segment_bytes: 3000, rolling_interval: millis(200), ..LogConf::default() };
    [LogConf { max_failures: 1, ..small.clone() }, LogConf { close_file_after_write: true, ..small.clone() }, small]
}

#[test]
fn what_was_acknowledged_is_there_whatever_goes_wrong_at_each_operation() {
    let mut fired = [0; 4];
    for (c, conf) in confs().into_iter().enumerate() {
        let counter = SimDisk::new(0);
        Life::new(&counter, conf.clone()).live();
        let operations = counter.operations().len() as u64;
        assert!(operations > 30, "{}", counter.trace());
        assert!(counter.operations().iter().any(|operation| operation.name == "remove_file"), "{}", counter.trace());
        for (f, fault) in Fault::ALL.into_iter().enumerate() {
            for n in 1..=operations {
                for seed in 0..4 {
                    let disk = SimDisk::new(seed * 1000 + n * 7 + c as u64);
                    disk.fail_at(n, fault);
                    let mut life = Life::new(&disk, conf.clone());
                    life.live();
                    fired[f] += disk.fired().len();
                    life.crash(seed);
                }
            }
        }
    }
    assert!(fired.iter().all(|count| *count > 400), "{fired:?}");
}

#[test]
fn what_was_acknowledged_is_there_after_many_faults_and_crashes() {
    let mut fired = [0; 4];
    for seed in 0..400u64 {
        let disk = SimDisk::new(seed);
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |below: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            chance % below
        };
        let mut n = 0;
        for _ in 0..12 {
            n += 1 + draw(12);
            disk.fail_at(n, Fault::ALL[draw(4) as usize]);
        }
        let mut life = Life::new(&disk, confs()[seed as usize % 3].clone());
        for _ in 0..3 {
            life.live();
            match draw(3) {
                0 => life.log = None,
                1 => {
                    life.log = None;
                    disk.kill();
                }
                _ => {
                    life.log = None;
                    disk.crash(seed);
                }
            }
        }
        for _ in 0..20 {
            if life.open().is_ok() {
                break;
            }
        }
        life.crash(seed);
        for fault in disk.fired() {
            fired[Fault::ALL.iter().position(|one| *one == fault).unwrap()] += 1;
        }
    }
    assert!(fired.iter().all(|count| *count > 400), "{fired:?}");
}

// ---- damage ----

/// A log of several groups in three segments, and its records.
fn small_log() -> (SimDisk, Records) {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, &LogConf::default()).unwrap();
    let mut records = Records::new();
    for (i, group) in [1usize, 2, 1, 3, 1, 2].into_iter().enumerate() {
        let time = ms(i as i64 * 40_000);
        let group: Records = (0..group).map(|j| (time, format!("group {i} record {j}").into_bytes())).collect();
        let borrowed: Vec<(&[u8], Time)> = group.iter().map(|(time, record)| (&record[..], *time)).collect();
        log.append_all(&borrowed).unwrap();
        records.extend(group);
    }
    assert_eq!(files(&disk), ["1", "2", "3"]);
    (disk, records)
}

/// Opens and replays a damaged log: the end is cut, or it is an error that names the file.
fn look(disk: &SimDisk, records: &Records, what: &str) -> Option<usize> {
    match open(disk, &LogConf::default()).and_then(|mut log| replayed(&mut log)) {
        Ok(found) => {
            assert!(records.starts_with(&found), "{what}: wrong records: {found:?}");
            Some(found.len())
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{what}: {error}");
            assert!(error.to_string().contains("/app/log/log-0000"), "{what}: {error}");
            None
        }
    }
}

#[test]
fn a_byte_that_rots_is_an_error_or_in_the_last_group() {
    let (disk, records) = small_log();
    let last_group = records.len() - 2;
    let mut cut = 0;
    for number in 1..=3 {
        for at in 0..disk.len(&path(number)).unwrap() as usize {
            for change in [0x01, 0x80, 0xff] {
                let disk = disk.fork();
                disk.tamper(path(number), |bytes| bytes[at] ^= change);
                let what = format!("segment {number}, byte {at} ^ {change:02x}");
                if let Some(found) = look(&disk, &records, &what) {
                    assert!(number == 3 && found >= last_group, "{what}: {found} records");
                    cut += 1;
                }
            }
        }
    }
    assert!(cut > 0);
}

#[test]
fn an_error_names_the_file_and_where_in_it() {
    let (disk, _) = small_log();
    let fork = disk.fork();
    fork.tamper(path(1), |bytes| bytes[60] ^= 1);
    let mut log = open(&fork, &LogConf::default()).unwrap();
    let error = replayed(&mut log).unwrap_err().to_string();
    assert!(error.contains(&format!("{} at byte 56: ", path(1).display())), "{error}");
    disk.remove_file(&path(2)).unwrap();
    let error = open(&disk, &LogConf::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("the log is damaged: {} is missing. Restore", path(2).display())), "{text}");
}

#[test]
fn a_segment_that_was_only_begun_proves_what_was_durable_before_it() {
    let disk = SimDisk::new(1);
    let conf = LogConf { close_file_after_write: true, ..LogConf::default() };
    let mut log = open(&disk, &conf).unwrap();
    log.append(b"one", ms(1)).unwrap();
    log.append(b"two", ms(2)).unwrap();
    // As if the second write had been torn behind the header of its segment.
    disk.truncate(&path(2), 56).unwrap();
    assert_eq!(replayed(&mut open(&disk.fork(), &conf).unwrap()).unwrap(), [(ms(1), b"one".to_vec())]);
    for at in [0, 60, 82] {
        let disk = disk.fork();
        disk.tamper(path(1), |bytes| bytes[at] ^= 1);
        let error = open(&disk, &conf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "byte {at}");
    }
    disk.remove_file(&path(1)).unwrap();
    assert!(open(&disk, &conf).unwrap_err().to_string().contains("is missing"));
}

#[test]
fn a_log_that_is_cut_anywhere_keeps_what_is_before_or_says_so() {
    let (disk, records) = small_log();
    for number in 1..=3 {
        let len = disk.len(&path(number)).unwrap();
        for cut in 0..len {
            let disk = disk.fork();
            disk.truncate(&path(number), cut).unwrap();
            let found = look(&disk, &records, &format!("segment {number} of {len} cut to {cut}"));
            assert_eq!(found.is_some(), number == 3, "segment {number} cut to {cut}");
        }
    }
}

#[test]
fn files_that_were_mangled_give_no_wrong_record() {
    let (disk, records) = small_log();
    let all: Vec<Vec<u8>> = (1..=3).map(|number| disk.read(&path(number)).unwrap()).collect();
    let mut chance = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = |below: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        (chance % below.max(1) as u64) as usize
    };
    let (mut cut, mut refused) = (0, 0);
    for round in 0..4000 {
        let disk = disk.fork();
        let number = draw(3) as u64 + 1;
        let other = &all[draw(3)];
        let (from, to) = (draw(other.len()), draw(other.len()));
        let piece = &other[from.min(to)..from.max(to)];
        let kind = draw(6);
        disk.tamper(path(number), |bytes| {
            let at = draw(bytes.len());
            match kind {
                // A piece of a segment in the place of another, or between; a piece is missing; garbage; a copy; zeros.
                0 => drop(bytes.splice(at..(at + piece.len()).min(bytes.len()), piece.iter().copied())),
                1 => drop(bytes.splice(at..at, piece.iter().copied())),
                2 => drop(bytes.drain(at..(at + 1 + draw(60)).min(bytes.len()))),
                3 => bytes[at..].iter_mut().take(draw(80)).for_each(|byte| *byte = draw(256) as u8),
                4 => bytes.clone_from(other),
                _ => bytes.resize(at + draw(2000), 0),
            }
        });
        match look(&disk, &records, &format!("round {round}, kind {kind} on segment {number}")) {
            Some(_) => cut += 1,
            None => refused += 1,
        }
    }
    assert!(cut > 300 && refused > 300, "{cut} {refused}");
}

#[test]
fn a_length_of_gigabytes_takes_no_memory() {
    let (disk, _) = small_log();
    disk.tamper(path(3), |bytes| {
        let end = bytes.len();
        bytes.extend([0xff; 4096]);
        bytes[end..end + 4].copy_from_slice(&(1u32 << 30).to_le_bytes());
    });
    assert_eq!(replayed(&mut open(&disk, &LogConf::default()).unwrap()).unwrap().len(), 10);
}

#[test]
fn a_log_of_a_newer_build_is_refused() {
    let (disk, _) = small_log();
    disk.tamper(path(3), |bytes| {
        bytes[8] = 9;
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(&disk, &LogConf::default()).unwrap_err();
    assert!(error.to_string().contains("version 9, and this build reads version 1"), "{error}");
}
