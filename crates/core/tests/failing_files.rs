//! Files that are missing, unreadable, broken or huge, and disks that refuse: RD58, RD59, CX06, CX09, CX11.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use common::context;
#[cfg(target_os = "linux")]
use millstream_core::Result;
#[cfg(target_os = "linux")]
use millstream_core::conf::EngineConf;
#[cfg(target_os = "linux")]
use millstream_core::disk::{Disk, DiskFile, DiskLock, RealDisk};
use millstream_core::{Context, ErrorKind, Rdd, Text, overwriting};

fn still_works(context: &Context) {
    assert_eq!(context.parallelize(vec![1u64, 2], 2).map(|x| (x, x)).reduce_by_key(|a, _| a).count().unwrap(), 2);
}

fn lines(rdd: &Rdd<Text>) -> Vec<String> {
    rdd.map(|line| line.to_string()).collect().unwrap()
}

#[test]
fn cx06_a_missing_path_is_reported_by_the_first_action_at_the_line_that_named_it() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let missing = folder.path().join("no such file");
    let text = (context.text_file(&missing), line!());
    let texts = (context.text_files(&[folder.path().to_path_buf(), missing.clone()], 3), line!());
    let objects = (context.object_file::<u64>(&missing).map(|x| Text::from(x.to_string())), line!());
    let records = (context.binary_records(std::slice::from_ref(&missing), 4).map(|_| Text::from("")), line!());
    for (rdd, line) in [text, texts, objects, records] {
        let error = rdd.map(|x| (x, 1)).reduce_by_key(|a, b| a + b).count().unwrap_err();
        assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Config, line), "{error}");
        assert!(error.to_string().contains("no such file"), "{error}");
        still_works(&context);
    }
}

#[test]
fn cx06_a_file_that_vanishes_before_it_is_read_may_come_back() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("fleeting");
    fs::write(&path, "a\nb\n").unwrap();
    let (rdd, line) = (context.text_file(&path), line!());
    fs::remove_file(&path).unwrap();
    let error = rdd.count().unwrap_err();
    assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Unavailable, line), "{error}");
    assert!(error.to_string().contains("fleeting"), "{error}");
    fs::write(&path, "a\nb\n").unwrap();
    assert_eq!(lines(&rdd), ["a", "b"]);
}

#[test]
fn cx06_a_file_that_became_shorter_gives_what_is_left() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("shrinking");
    fs::write(&path, "one\n".repeat(100)).unwrap();
    let rdd = context.text_files(std::slice::from_ref(&path), 4);
    fs::write(&path, "one\ntwo").unwrap();
    assert_eq!(lines(&rdd), ["one", "two"]);
}

#[cfg(unix)]
#[test]
fn cx06_a_path_that_cannot_be_read_is_unavailable() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let (circle, closed) = (folder.path().join("circle"), folder.path().join("closed"));
    symlink(&circle, &circle).unwrap();
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let mut unreadable = vec![circle, file.join("below")];
    // Root reads everything.
    unreadable.extend(fs::read_dir(&closed).is_err().then(|| closed.clone()));
    for path in unreadable {
        let error = context.text_file(&path).count().unwrap_err();
        assert_eq!((error.kind(), error.site().unwrap().op()), (ErrorKind::Unavailable, "text_file"), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        still_works(&context);
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn cx06_bytes_that_are_not_utf8_become_the_replacement_character() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("latin");
    fs::write(&path, b"caf\xe9\n\xff\xfe\nna\xc3\xafve\n\xe2\x82").unwrap();
    let all = lines(&context.text_file(&path));
    assert_eq!(all, ["caf\u{fffd}", "\u{fffd}\u{fffd}", "naïve", "\u{fffd}"]);
}

#[test]
fn cx06_a_line_of_a_hundred_megabytes_is_delivered_whole() {
    const LONG: usize = 100 << 20;
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("long");
    let mut text = b"short\n".to_vec();
    text.resize(text.len() + LONG, b'x');
    text.extend_from_slice(b"y\nlast");
    fs::write(&path, &text).unwrap();
    drop(text);
    let all = context.text_file(&path).map(|line| (line.len(), line.ends_with("xy")));
    assert_eq!(all.collect().unwrap(), [(5, false), (LONG + 1, true), (4, false)]);
    assert_eq!(all.num_partitions(), 2);
}

#[test]
fn cx11_a_file_of_objects_that_is_half_written_or_something_else_is_bad_data() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("objects");
    context.parallelize(vec![(1u64, "one".to_owned()), (2, "two".to_owned())], 1).save_as_object_file(&path).unwrap();
    let part = path.join("part-00000");
    let whole = fs::read(&part).unwrap();
    let mut cases: Vec<Vec<u8>> = (0..whole.len()).filter(|cut| *cut != 8).map(|cut| whole[..cut].to_vec()).collect();
    cases.push([&whole[..], b"x"].concat());
    cases.push(whole.iter().enumerate().map(|(i, b)| if (8..16).contains(&i) { 0xff } else { *b }).collect());
    for bytes in cases {
        fs::write(&part, &bytes).unwrap();
        let error = context.object_file::<(u64, String)>(&path).count().unwrap_err();
        assert_eq!((error.kind(), error.site().unwrap().op()), (ErrorKind::Data, "object_file"), "{error}");
        assert!(error.to_string().contains("part-00000"), "{error}");
    }
    fs::write(&part, &whole).unwrap();
    let error = context.object_file::<Vec<String>>(&path).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "another type: {error}");
    assert_eq!(context.object_file::<(u64, String)>(&path).count().unwrap(), 2);
}

#[test]
fn cx09_binary_records_are_cut_to_length_and_half_a_record_is_bad_data() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("records");
    fs::write(&path, b"aabbcc").unwrap();
    let records = |length| context.binary_records(std::slice::from_ref(&path), length);
    assert_eq!(records(2).collect().unwrap(), [b"aa", b"bb", b"cc"]);
    for (length, kind) in [(4, ErrorKind::Data), (0, ErrorKind::Config)] {
        let error = records(length).count().unwrap_err();
        assert_eq!((error.kind(), error.site().unwrap().op()), (kind, "binary_records"), "{error}");
    }
    still_works(&context);
}

#[test]
fn rd58_rd59_what_cannot_be_written_is_unavailable_and_says_where() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let rdd = context.parallelize(vec![1u64, 2, 3], 3);
    let gone = folder.path().join("gone");
    let folder_goes = {
        let gone = gone.clone();
        rdd.map(move |x| {
            let _ = fs::remove_dir_all(&gone);
            x
        })
    };
    for (error, line) in [
        (rdd.save_as_text_file(file.join("out")).unwrap_err(), line!()),
        (rdd.save_as_object_file(file.join("out")).unwrap_err(), line!()),
        (overwriting(|| rdd.save_as_text_file(&file)).unwrap_err(), line!()),
        (folder_goes.save_as_text_file(&gone).unwrap_err(), line!()),
    ] {
        assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Unavailable, line), "{error}");
        assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
        still_works(&context);
    }
    assert_eq!(fs::read(&file).unwrap(), b"in the way");
}

/// The system's files, but the second part of an output is on a device that is always full.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct FullForTheSecond;

#[cfg(target_os = "linux")]
impl Disk for FullForTheSecond {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let is_second = path.to_string_lossy().contains("part-00001");
        if is_second { RealDisk.open_append(Path::new("/dev/full")) } else { RealDisk.create(path) }
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        RealDisk.open_append(path)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        RealDisk.read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        RealDisk.read_at(path, offset, len)
    }

    fn len(&self, path: &Path) -> Result<u64> {
        RealDisk.len(path)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        RealDisk.exists(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        RealDisk.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        RealDisk.remove_folder(path)
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        RealDisk.create_folder(path)
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        RealDisk.truncate(path, len)
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        RealDisk.sync_folder(path)
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>> {
        RealDisk.lock(path)
    }
}

#[cfg(target_os = "linux")]
#[test]
fn rd58_a_full_disk_is_unavailable_and_leaves_no_part_that_is_not_whole() {
    let conf = EngineConf::new("local[1]", "full").unwrap();
    let context = Context::builder(conf).with_output_disk(Arc::new(FullForTheSecond)).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let rdd = context.parallelize((0..50_000u64).collect(), 2);
    let (error, line) = (rdd.save_as_text_file(&out).unwrap_err(), line!());
    assert_eq!((error.kind(), error.site().unwrap().line()), (ErrorKind::Unavailable, line), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["part-00000"], "no half part, and no mark of success");
    still_works(&context);
}

#[test]
fn r78_a_part_that_is_written_again_after_a_failure_is_there_once() {
    let (context, folder) = (context("local[2,2]"), tempfile::tempdir().unwrap());
    let out = folder.path().join("out");
    let flaky = context.parallelize((0..2000u64).collect(), 2).map(|x| {
        let first = millstream_core::TaskContext::current().is_some_and(|task| task.attempt() == 0);
        assert!(!(first && x == 1900), "the first attempt fails when much has been written");
        x
    });
    flaky.save_as_text_file(&out).unwrap();
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(common::sorted(names), ["_SUCCESS", "part-00000", "part-00001"]);
    assert_eq!(lines(&context.text_file(&out)), (0..2000).map(|x| x.to_string()).collect::<Vec<_>>());
}
