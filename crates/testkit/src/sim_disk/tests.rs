// A simulated disk keeps what is durable, and loses or tears the rest by its seed.

use std::collections::BTreeSet;
use std::path::Path;

use millstream_core::ErrorKind;
use millstream_core::disk::{Disk, write_durably};

use super::{Fault, SimDisk};

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_folder(Path::new("/d")).unwrap();
    disk
}

fn p(name: &str) -> &Path {
    Path::new(name)
}

#[test]
fn a_crash_keeps_what_is_durable_and_a_torn_part_of_the_rest() {
    let mut found = BTreeSet::new();
    for seed in 0..300 {
        let disk = disk(1);
        let mut file = disk.create(p("/d/a")).unwrap();
        file.append(&[1; 700]).unwrap();
        file.sync().unwrap();
        disk.sync_folder(p("/d")).unwrap();
        file.append(&[2; 1400]).unwrap();
        disk.crash(seed);
        assert_eq!(disk.read(p("/d/a")).unwrap_err().kind(), ErrorKind::Unavailable);
        disk.restart();
        assert!(file.append(b"x").unwrap_err().to_string().contains("opened before"));
        let bytes = disk.read(p("/d/a")).unwrap();
        assert_eq!(bytes[..700], [1; 700]);
        let rest = &bytes[700..];
        found.insert(match rest.iter().position(|byte| *byte != 2) {
            None if rest.is_empty() => "none",
            None if rest.len() == 1400 => "all",
            None => "prefix",
            Some(at) if rest[at..].contains(&2) => "a hole with good bytes behind it",
            Some(_) => "torn",
        });
    }
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn names_are_kept_or_lost_one_by_one_until_their_folder_is_durable() {
    let mut found = BTreeSet::new();
    for seed in 0..100 {
        let disk = disk(seed);
        for name in ["/d/a", "/d/b"] {
            disk.create(p(name)).unwrap();
        }
        disk.sync_folder(p("/d")).unwrap();
        disk.create(p("/d/c")).unwrap();
        disk.rename(p("/d/a"), p("/d/z")).unwrap();
        disk.remove_file(p("/d/b")).unwrap();
        disk.crash(seed);
        disk.restart();
        let names = disk.list(p("/d")).unwrap();
        assert!(names.contains(&"a".to_owned()) != names.contains(&"z".to_owned()), "a rename is half done: {names:?}");
        found.insert(names);
    }
    assert_eq!(found.len(), 8, "{found:?}");
}

#[test]
fn a_sync_that_follows_a_failed_one_proves_nothing() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let mut file = disk.create(p("/d/a")).unwrap();
        disk.sync_folder(p("/d")).unwrap();
        file.append(&[1; 512]).unwrap();
        disk.fail_at(disk.operations().len() as u64 + 1, Fault::Error);
        assert!(file.sync().is_err());
        file.append(&[2; 512]).unwrap();
        file.sync().unwrap();
        assert_eq!(disk.read(p("/d/a")).unwrap()[..512], [1; 512]);
        disk.crash(seed);
        disk.restart();
        let bytes = disk.read(p("/d/a")).unwrap();
        assert_eq!(bytes[512..], [2; 512]);
        lost += usize::from(bytes[..512] != [1; 512]);
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_full_disk_stays_full_until_there_is_room() {
    let disk = disk(3);
    let mut file = disk.create(p("/d/a")).unwrap();
    disk.fail_at(3, Fault::DiskFull);
    assert!(file.append(&[1; 10]).unwrap_err().to_string().contains("full"));
    assert!(file.append(&[1; 10]).is_err());
    assert!(disk.create(p("/d/b")).is_err());
    disk.make_room();
    file.append(&[1; 10]).unwrap();
    assert_eq!(disk.fired(), [Fault::DiskFull]);
}

#[test]
fn a_killed_process_loses_its_locks_and_files_and_no_bytes() {
    let disk = disk(4);
    let held = disk.lock(p("/d/lock")).unwrap().unwrap();
    assert!(disk.lock(p("/d/lock")).unwrap().is_none());
    let mut file = disk.create(p("/d/a")).unwrap();
    file.append(b"not synced").unwrap();
    disk.kill();
    assert!(held.check().is_err());
    assert!(file.sync().is_err());
    let again = disk.lock(p("/d/lock")).unwrap().unwrap();
    drop(held);
    assert!(disk.lock(p("/d/lock")).unwrap().is_none(), "the old process let go of the new one's lock");
    again.check().unwrap();
    assert_eq!(disk.read(p("/d/a")).unwrap(), b"not synced");
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_disk() {
    let run = |seed| {
        let disk = disk(seed);
        disk.fail_at(8, Fault::TornWrite);
        for i in 0..9u8 {
            let _ = write_durably(&disk, p("/d/a"), &[i; 3000]);
        }
        disk.restart();
        let content: Vec<_> = disk.list(p("/d")).unwrap();
        let bytes: Vec<_> = content.iter().map(|name| disk.read(&p("/d").join(name)).unwrap()).collect();
        (disk.trace(), content, bytes)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert!(run(1).0.contains("   8 append /d/.a.draft 3000 TornWrite\n"), "{}", run(1).0);
}

#[test]
fn a_folder_goes_with_all_in_it_and_may_come_back_in_a_crash() {
    let mut found = BTreeSet::new();
    for seed in 0..60 {
        let disk = disk(seed);
        disk.create_folder(p("/d/e/f")).unwrap();
        for name in ["/d/e/a", "/d/e/f/b"] {
            write_durably(&disk, p(name), b"1").unwrap();
        }
        disk.remove_folder(p("/d/e")).unwrap();
        disk.remove_folder(p("/d/e")).unwrap();
        assert_eq!(disk.list(p("/d")).unwrap(), Vec::<String>::new());
        let after = disk.fork();
        disk.crash(seed);
        disk.restart();
        found.insert([disk.list(p("/d/e")).unwrap(), disk.list(p("/d/e/f")).unwrap()]);
        after.sync_folder(p("/d")).unwrap();
        after.crash(seed);
        after.restart();
        assert!(!after.exists(p("/d/e")).unwrap());
    }
    assert!(found.len() >= 4, "{found:?}");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all_whatever_goes_wrong() {
    for fault in Fault::ALL {
        for seed in 0..40 {
            for n in 1..=5 {
                let disk = disk(seed);
                write_durably(&disk, p("/d/a"), &[1; 2000]).unwrap();
                disk.fail_at(disk.operations().len() as u64 + n, fault);
                let result = write_durably(&disk, p("/d/a"), &[2; 2000]);
                assert_eq!(disk.fired(), [fault], "{}", disk.trace());
                assert!(result.is_err());
                disk.crash(seed);
                disk.restart();
                let bytes = disk.read(p("/d/a")).unwrap();
                assert!(bytes == [1; 2000] || bytes == [2; 2000], "{}", disk.trace());
            }
        }
    }
}

#[test]
fn a_folder_that_is_moved_is_in_one_place_with_what_was_durable_in_it() {
    let mut found = BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed);
        disk.make_folder(p("/d/new/1")).unwrap();
        let mut file = disk.create(p("/d/new/1/a")).unwrap();
        file.append(b"whole").unwrap();
        file.sync().unwrap();
        disk.sync_folder(p("/d/new/1")).unwrap();
        disk.create(p("/d/new/1/b")).unwrap();
        assert!(disk.rename(p("/d/new"), p("/d/new/1/a")).is_err(), "a file is in the way");
        disk.rename(p("/d/new/1"), p("/d/out")).unwrap();
        assert_eq!(disk.list(p("/d/out")).unwrap(), ["a", "b"]);
        disk.remove_empty_folder(p("/d/out")).unwrap();
        disk.remove_empty_folder(p("/d/new")).unwrap();
        disk.remove_empty_folder(p("/d/new")).unwrap();
        assert_eq!(disk.list(p("/d")).unwrap(), ["out"], "one was empty");
        assert!(disk.list(p("/d/out/a")).is_err(), "a file");
        let synced = disk.fork();
        disk.crash(seed);
        disk.restart();
        if disk.exists(p("/d/out")).unwrap() {
            assert_eq!(disk.read(p("/d/out/a")).unwrap(), b"whole");
        }
        found.insert([disk.list(p("/d")).unwrap(), disk.list(p("/d/new")).unwrap(), disk.list(p("/d/out")).unwrap()]);
        synced.sync_folder(p("/d")).unwrap();
        synced.crash(seed);
        synced.restart();
        assert_eq!(synced.list(p("/d")).unwrap(), ["out"]);
        assert_eq!(synced.read(p("/d/out/a")).unwrap(), b"whole");
    }
    // Not there at all, in its old place or moved, with the name that was not durable or without.
    assert!(found.len() >= 5, "{found:?}");
}
