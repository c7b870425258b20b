//! What is read from logs, checkpoints and sockets, as functions of bytes: for the fuzzers in `fuzz/`, and for the test that
//! runs what they kept.
//!
//! A target panics if a law is broken. That bytes are refused with an error is no news.

#![doc(hidden)]

use std::path::Path;
use std::sync::Arc;

use millstream_core::checkpoint::{CheckpointStore, MemoryCheckpoints};
use millstream_core::disk::Disk;
use millstream_core::{Result, SaveAs, Time};

use crate::checkpoint;
use crate::conf::Conf;
use crate::input::blocks_of;
use crate::receiver::record_of;
use crate::state::rows::SavedRows;
use crate::state::save::{Saved, entries_of};
use crate::state::table::StateTable;
use crate::wal::{LogConf, SegmentLog, WriteAheadLog, made_segment};

/// A function that takes any bytes, and an empty disk.
pub type Target = fn(&[u8], &dyn Fn() -> Arc<dyn Disk>);

/// All targets of this crate, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("checkpoint_body", |bytes, _| checkpoint::fuzzed::body(bytes)),
    ("checkpoint_file", |bytes, _| checkpoint::fuzzed::file(bytes)),
    ("log_bytes", log_bytes),
    ("log_frames", log_frames),
    ("received_block", received_block),
    ("socket_blocks", socket_blocks),
    ("state_rows", state_rows),
    ("state_table", state_table),
    ("streaming_settings", streaming_settings),
];

type Item = (u32, String);

// ---- the log ----

const FOLDER: &str = "/log";

fn write(disk: &dyn Disk, number: u64, bytes: &[u8]) {
    let path = Path::new(FOLDER).join(format!("log-{number:020}"));
    let mut file = disk.create(&path).expect("the disk is empty");
    file.append(bytes).and_then(|()| file.sync()).expect("the disk writes");
}

fn replayed(log: &mut SegmentLog) -> Result<Vec<(Time, Vec<u8>)>> {
    let (mut found, mut handles) = (Vec::new(), Vec::new());
    log.replay(&mut |time, handle, record| {
        found.push((time, record.to_vec()));
        handles.push(handle);
        Ok(())
    })?;
    for (handle, (_, record)) in handles.iter().zip(&found) {
        assert_eq!(&log.read(handle).expect("what was replayed can be read"), record);
    }
    Ok(found)
}

/// What a log has that can be read stays: it is there once more, before what is appended.
fn opened(disk: &Arc<dyn Disk>) {
    let open = || SegmentLog::open(Arc::clone(disk), FOLDER, LogConf::default());
    let Ok(mut log) = open() else { return };
    let Ok(mut found) = replayed(&mut log) else { return };
    if log.append(b"one more", Time::from_millis(7)).is_err() {
        return;
    }
    drop(log);
    found.push((Time::from_millis(7), b"one more".to_vec()));
    let mut log = open().expect("a log that was written to can be opened");
    assert_eq!(replayed(&mut log).expect("a log that was written to can be read"), found);
    log.forget_before(Time::from_millis(i64::MAX)).expect("the disk removes");
    assert!(found.ends_with(&replayed(&mut log).expect("what is left can be read")));
}

/// Segments as they are, each behind its length in two bytes.
fn log_bytes(mut bytes: &[u8], disk: &dyn Fn() -> Arc<dyn Disk>) {
    let disk = disk();
    disk.create_folder(Path::new(FOLDER)).expect("the disk is empty");
    for number in 1..=4 {
        let Some((length, rest)) = bytes.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        write(&*disk, number, &rest[..length]);
        bytes = &rest[length..];
    }
    opened(&disk);
}

/// Segments with headers and frames whose check sums are right, whatever they say; and some bytes that rot.
fn log_frames(bytes: &[u8], disk: &dyn Fn() -> Arc<dyn Disk>) {
    let disk = disk();
    disk.create_folder(Path::new(FOLDER)).expect("the disk is empty");
    let mut bytes = bytes.iter().copied();
    let (mut number, mut before) = (1, 0);
    for _ in 0..bytes.next().unwrap_or(0) % 5 {
        number += u64::from(bytes.next().unwrap_or(0) % 3);
        let segment = made_segment(number, before, &mut bytes);
        before = segment.len() as u64;
        write(&*disk, number, &segment);
        number += 1;
    }
    opened(&disk);
}

// ---- what is in records and files ----

fn received_block(bytes: &[u8], _: &dyn Fn() -> Arc<dyn Disk>) {
    if let Ok((items, again)) = record_of::<Item>(bytes) {
        assert_eq!(record_of::<Item>(&again).expect("what was written can be read"), (items, again));
    }
    if bytes.len() < 6 {
        // Longer ones claim millions, which takes a while.
        let _ = record_of::<()>(bytes);
    }
}

fn socket_blocks(bytes: &[u8], _: &dyn Fn() -> Arc<dyn Disk>) {
    for most in [16, 1 << 20, u32::MAX as usize] {
        let items = blocks_of::<Item>(bytes, most).map_or(0, |blocks| blocks.iter().map(Vec::len).sum());
        assert!(items <= bytes.len());
    }
}

/// Two files of states, the first behind its length in two bytes.
fn files(bytes: &[u8], magic: &[u8]) -> Option<MemoryCheckpoints> {
    let store = MemoryCheckpoints::new();
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (one, two) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    for (folder, file) in [("a", one), ("b", two)] {
        store.write(&format!("{folder}/state-00000"), &[magic, file].concat()).ok()?;
    }
    Some(store)
}

/// What can be read of states is written and read again, and is the same.
fn states<F: SaveAs>(store: &dyn CheckpointStore, form: impl Fn() -> F, rows: impl Fn(&[F::Item]) -> Vec<Item>) {
    let Ok(read) = form().read(store, "b", 0) else { return };
    let before = rows(&read);
    form().write(store, "c", 0, read).expect("what was read can be written");
    assert_eq!(rows(&form().read(store, "c", 0).expect("what was written can be read")), before);
}

fn state_rows(bytes: &[u8], _: &dyn Fn() -> Arc<dyn Disk>) {
    let Some(store) = files(bytes, b"mstrow1\n") else { return };
    states(&store, SavedRows::<u32, String>::default, <[Item]>::to_vec);
}

fn state_table(bytes: &[u8], _: &dyn Fn() -> Arc<dyn Disk>) {
    let Some(store) = files(bytes, b"mststa2\n") else { return };
    states(&store, Saved::<StateTable<u32, String>>::default, |tables| {
        let entries = tables.iter().flat_map(entries_of);
        let mut rows: Vec<Item> = entries.map(|(key, state, at)| (key, format!("{state} {at}"))).collect();
        rows.sort();
        rows
    });
}

/// A key and its value, a line each.
fn streaming_settings(bytes: &[u8], _: &dyn Fn() -> Arc<dyn Disk>) {
    let text = String::from_utf8_lossy(bytes);
    let mut conf = Conf::new("local[2]", "fuzzed").expect("it is a master");
    let mut lines = text.lines();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        let _ = conf.set(key, value);
    }
    let _ = conf.streaming.check();
}

#[cfg(test)]
mod tests {
    use millstream_testkit::SimDisk;

    use super::*;

    #[test]
    fn what_fuzzers_kept_breaks_no_law() {
        // Tests run in the folder of their crate. What the compiler knows of it may be another clone's.
        let corpus = Path::new("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let files =
                std::fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("there is no corpus {name}: {e}"));
            let mut count = 0;
            for file in files {
                target(&std::fs::read(file.unwrap().path()).unwrap(), &|| Arc::new(SimDisk::new(0)));
                count += 1;
            }
            assert!(count > 0, "the corpus of {name} is empty");
        }
    }
}
