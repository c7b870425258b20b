//! Folders in which files appear: SC13 to SC15, S-89 to S-97, and "Bad input" of folders and files.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use common::{Notes, advance, assert_error, at, continuing, failure, gather, sink};
use millstream_core::{Context, ErrorKind, Text, millis, secs};
use millstream_streaming::{BatchInfo, DStream, FileFilter, StreamingListener};
use millstream_testkit::{Check, StreamTest};
use tempfile::{TempDir, tempdir};

/// Says when a file was written, by the test's clock.
fn date(path: &Path, ms: u64) {
    File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH + millis(ms)).unwrap();
}

/// Moves a whole file in, as one should.
fn put(folder: &Path, name: &str, text: impl AsRef<[u8]>, ms: u64) -> PathBuf {
    let (hidden, path) = (folder.join(format!(".{name}.part")), folder.join(name));
    fs::write(&hidden, text).unwrap();
    date(&hidden, ms);
    fs::rename(&hidden, &path).unwrap();
    path
}

/// Notes the lines of each batch.
fn lines_of(stream: &DStream<Text>) -> Notes<(i64, String)> {
    let notes = Notes::default();
    let seen = notes.clone();
    stream.foreach_rdd(move |rdd, time| {
        let lines = rdd.collect()?;
        if !lines.is_empty() {
            seen.add((time.as_millis() / 1000, lines.iter().map(|l| l.to_string()).collect::<Vec<_>>().join(" ")));
        }
        Ok(())
    });
    notes
}

/// Makes a stream of a folder's lines, starts, and returns what the batches give.
fn started(test: &StreamTest, folder: impl AsRef<Path>) -> Notes<(i64, String)> {
    let lines = lines_of(&test.ssc().text_file_stream(folder));
    test.ssc().start().unwrap();
    lines
}

fn rows(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(s, lines)| (*s, (*lines).to_owned())).collect()
}

#[test]
fn s89_a_file_belongs_to_the_first_batch_that_is_not_before_it() {
    let (test, folder) = (StreamTest::new(), tempdir().unwrap());
    put(folder.path(), "old", "old", 0);
    let lines = started(&test, &folder);
    put(folder.path(), "b", "b1\nb2\n", 1000);
    put(folder.path(), "a", "a1\na2", 1);
    put(folder.path(), "c", "c1", 1001);
    advance(&test, 1, 3);
    put(folder.path(), "late", "late", 2500);
    advance(&test, 4, 5);
    assert_eq!(lines.all(), rows(&[(1, "a1 a2 b1 b2"), (2, "c1"), (4, "late")]));
}

#[test]
fn s91_only_files_behind_the_making_of_the_stream_are_new() {
    let (test, folder) = (StreamTest::new(), tempdir().unwrap());
    test.clock().advance_to(at(5));
    for (name, ms) in [("before", 4999), ("equal", 5000), ("behind", 5001)] {
        put(folder.path(), name, name, ms);
    }
    let lines = started(&test, &folder);
    advance(&test, 6, 7);
    assert_eq!(lines.all(), rows(&[(6, "behind")]));
}

#[test]
fn s90_existing_files_are_taken_if_they_are_not_older_than_the_memory() {
    let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.file_min_remember = secs(3));
    let folder = tempdir().unwrap();
    test.clock().advance_to(at(10));
    for (name, ms) in [("older", 7999), ("equal", 8000), ("younger", 8001)] {
        put(folder.path(), name, name, ms);
    }
    let filter = FileFilter::default().with_existing_files();
    let read = |context: &Context, files: &[PathBuf]| context.text_files(files, files.len());
    let lines = lines_of(&test.ssc().file_stream(&folder, filter, read));
    test.ssc().start().unwrap();
    advance(&test, 11, 12);
    assert_eq!(lines.all(), rows(&[(11, "younger")]));
}

#[test]
fn s92_a_file_is_taken_once_and_again_only_when_it_is_renewed_after_it_was_forgotten() {
    let test = Check::new(2, 2).with_conf(secs(1), |conf| conf.streaming.file_min_remember = secs(3));
    let folder = tempdir().unwrap();
    let lines = started(&test, &folder);
    put(folder.path(), "same", "first", 500);
    advance(&test, 1, 2);
    put(folder.path(), "same", "first and more", 2500);
    advance(&test, 3, 4);
    put(folder.path(), "same", "second", 4500);
    advance(&test, 5, 8);
    assert_eq!(lines.all(), rows(&[(1, "first"), (5, "second")]), "S-23: it was remembered until batch 4");
}

#[test]
fn s93_a_file_that_is_moved_in_keeps_its_time_so_an_old_one_is_missed() {
    let (test, folder, elsewhere) = (StreamTest::new(), tempdir().unwrap(), tempdir().unwrap());
    test.clock().advance_to(at(100));
    let lines = started(&test, &folder);
    for (name, ms) in [("existing", 99_000), ("renamed", 100_500)] {
        let path = put(elsewhere.path(), name, name, ms);
        fs::rename(path, folder.path().join(name)).unwrap();
    }
    advance(&test, 101, 102);
    assert_eq!(lines.all(), rows(&[(101, "renamed")]));
}

#[test]
fn a_file_that_is_half_written_is_taken_as_it_is_and_one_that_is_moved_in_is_whole() {
    let (test, folder) = (StreamTest::new(), tempdir().unwrap());
    let lines = started(&test, &folder);
    let growing = put(folder.path(), "growing", "one\nhal", 500);
    let hidden = folder.path().join(".moved");
    fs::write(&hidden, "two\nhal").unwrap();
    date(&hidden, 500);
    advance(&test, 1, 1);
    for path in [&growing, &hidden] {
        use std::io::Write;
        File::options().append(true).open(path).unwrap().write_all(b"f\n").unwrap();
        date(path, 1500);
    }
    fs::rename(&hidden, folder.path().join("moved")).unwrap();
    advance(&test, 2, 3);
    assert_eq!(lines.all(), rows(&[(1, "one hal"), (2, "two half")]));
}

#[test]
fn s94_names_with_a_dot_or_an_underscore_are_hidden_and_folders_give_what_is_right_inside() {
    let (test, folder) = (StreamTest::new(), tempdir().unwrap());
    let lines = started(&test, &folder);
    for name in [".dot", "_SUCCESS", "seen"] {
        put(folder.path(), name, name, 500);
    }
    let inner = folder.path().join("inner");
    fs::create_dir_all(inner.join("deeper")).unwrap();
    fs::write(inner.join("deeper/unseen"), "unseen").unwrap();
    fs::write(inner.join("_hidden"), "hidden").unwrap();
    fs::write(inner.join("inside"), "inside").unwrap();
    File::open(&inner).unwrap().set_modified(UNIX_EPOCH + millis(600)).unwrap();
    advance(&test, 1, 2);
    assert_eq!(lines.all(), rows(&[(1, "inside seen")]));
}

#[test]
fn s95_a_batch_has_a_partition_a_file_and_listeners_are_told_the_names() {
    struct Files(Notes<(u64, Option<String>, Option<String>)>);
    impl StreamingListener for Files {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            let input = &batch.inputs[&0];
            let (files, text) = (input.metadata.get("files"), input.metadata.get("Description"));
            self.0.add((input.records, files.cloned(), text.cloned()));
        }
    }
    let (test, folder) = (StreamTest::new(), tempdir().unwrap());
    let told = Notes::default();
    test.ssc().add_streaming_listener(Files(told.clone()));
    let parts = Notes::default();
    let seen = parts.clone();
    test.ssc().text_file_stream(&folder).foreach_rdd(move |rdd, _| seen.add(rdd.num_partitions()));
    test.ssc().start().unwrap();
    let files: Vec<_> = ["a", "b", "c"].map(|name| put(folder.path(), name, name, 500)).into();
    advance(&test, 1, 2);
    assert_eq!(parts.all(), [3, 0], "no new file is an empty Rdd, not none");
    test.ssc().flush_listeners();
    let names = files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n");
    let want = |names: String| (0, Some(names.clone()), Some(names));
    assert_eq!(told.all(), [want(names), want(String::new())]);
}

#[test]
fn s96_a_folder_that_is_missing_gives_empty_batches_until_it_is_there_and_again_when_it_vanishes() {
    let (test, base) = (StreamTest::new(), tempdir().unwrap());
    let folder = base.path().join("incoming");
    let lines = started(&test, &folder);
    advance(&test, 1, 2);
    fs::create_dir(&folder).unwrap();
    put(&folder, "one", "one", 2500);
    advance(&test, 3, 3);
    fs::remove_dir_all(&folder).unwrap();
    advance(&test, 4, 5);
    fs::create_dir(&folder).unwrap();
    put(&folder, "two", "two", 5500);
    advance(&test, 6, 6);
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "now it is a file").unwrap();
    advance(&test, 7, 7);
    assert_eq!(lines.all(), rows(&[(3, "one"), (6, "two")]));
    assert!(test.ssc().errors().is_empty());
}

#[test]
fn sc13_a_folder_may_be_a_pattern_of_folders() {
    let (test, base) = (StreamTest::new(), tempdir().unwrap());
    let lines = started(&test, base.path().join("day-*"));
    for name in ["day-1", "day-2", "night"] {
        fs::create_dir(base.path().join(name)).unwrap();
        put(&base.path().join(name), "log", name, 500);
    }
    put(base.path(), "day-3", "a file is no folder", 500);
    advance(&test, 1, 1);
    fs::create_dir(base.path().join("day-4")).unwrap();
    put(&base.path().join("day-4"), "log", "day-4", 1500);
    advance(&test, 2, 2);
    assert_eq!(lines.all(), rows(&[(1, "day-1 day-2"), (2, "day-4")]));
}

#[test]
fn sc13_what_is_no_pattern_is_reported_at_the_start() {
    let test = StreamTest::new();
    let (stream, line) = (test.ssc().text_file_stream("logs/***/x"), line!());
    sink(&stream);
    let parts = ["no pattern of folders", "logs/***/x", &format!("files.rs:{line}")];
    assert_error(test.ssc().start(), ErrorKind::Graph, &parts);
}

#[test]
fn sc13_a_filter_chooses_and_a_closure_reads_in_every_way_to_run() {
    for how in Check::all() {
        let (test, folder) = (how.context(), tempdir().unwrap());
        let csv = FileFilter::new(|path| path.extension().is_some_and(|e| e == "csv"));
        let read = |context: &Context, files: &[PathBuf]| context.text_files(files, 4);
        let sizes = gather(&test.ssc().file_stream(&folder, csv, read).map(|line| line.len()));
        test.ssc().start().unwrap();
        put(folder.path(), "a.csv", "a\nbb\n", 500);
        put(folder.path(), ".c.csv", "ccc\n", 500);
        put(folder.path(), "d.txt", "dddd\n", 500);
        advance(&test, 1, 1);
        let mut sizes = sizes.all();
        sizes.sort_unstable();
        assert_eq!(sizes, [1, 2, 3], "the filter alone decides, also about hidden names: {how:?}");
    }
}

#[test]
fn sc13_closures_that_panic_fail_their_batch_with_their_line() {
    fn filter_panics(test: &StreamTest, folder: &TempDir) -> (DStream<Text>, u32) {
        let filter = FileFilter::new(|_| panic!("no such filter"));
        (test.ssc().file_stream(folder, filter, |context, _| context.empty()), line!())
    }
    fn read_panics(test: &StreamTest, folder: &TempDir) -> (DStream<Text>, u32) {
        (test.ssc().file_stream(folder, FileFilter::default(), |_, _| panic!("no such filter")), line!())
    }
    for make in [filter_panics, read_panics] {
        let (test, folder) = (continuing(), tempdir().unwrap());
        let (stream, line) = make(&test, &folder);
        sink(&stream);
        test.ssc().start().unwrap();
        put(folder.path(), "x", "x", 500);
        advance(&test, 1, 2);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::User, Some(at(1))), "{error}");
        assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
        assert!(error.to_string().contains("no such filter"), "{error}");
    }
}

#[test]
fn sc15_records_are_cut_to_their_length_and_half_a_record_fails_the_batch() {
    let (test, folder) = (continuing(), tempdir().unwrap());
    let (stream, line) = (test.ssc().binary_records_stream(&folder, 3), line!());
    let records = gather(&stream);
    test.ssc().start().unwrap();
    put(folder.path(), "good", b"abcdef", 500);
    advance(&test, 1, 1);
    assert_eq!(records.take(), [b"abc", b"def"]);
    put(folder.path(), "bad", b"abcde", 1500);
    advance(&test, 2, 2);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Data, Some(at(2))), "{error}");
    assert!(error.to_string().contains("bad"), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "the line that made the stream: {error}");
    put(folder.path(), "empty", b"", 2500);
    put(folder.path(), "later", b"xyz", 2500);
    advance(&test, 3, 3);
    assert_eq!(records.take(), [b"xyz"], "later batches go on");
}

#[test]
fn a_file_that_vanishes_after_it_was_found_fails_the_batch_with_its_name() {
    let (test, folder) = (continuing(), tempdir().unwrap());
    let line = line!() + 2;
    let read = |context: &Context, files: &[PathBuf]| {
        let rdd = context.text_files(files, files.len());
        files.iter().filter(|path| path.ends_with("fleeting")).for_each(|path| fs::remove_file(path).unwrap());
        rdd
    };
    let lines = lines_of(&test.ssc().file_stream(&folder, FileFilter::default(), read));
    test.ssc().start().unwrap();
    put(folder.path(), "fleeting", "x", 500);
    advance(&test, 1, 1);
    let error = failure(test.ssc());
    assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
    assert!(error.to_string().contains("fleeting"), "{error}");
    assert_eq!(error.site().map(|site| site.line()), Some(line), "the line of the closure: {error}");
    put(folder.path(), "lasting", "y", 1500);
    advance(&test, 2, 2);
    assert_eq!(lines.all(), rows(&[(2, "y")]));
}

#[test]
fn a_file_that_vanishes_between_the_listing_and_the_reading_is_not_a_wrong_name() {
    let line = line!() + 2;
    let streams: [fn(&StreamTest, &Path) -> Notes<(i64, String)>; 2] = [
        |test, folder| lines_of(&test.ssc().text_file_stream(folder)),
        |test, folder| lines_of(&test.ssc().binary_records_stream(folder, 1).map(|_| Text::from("record"))),
    ];
    for (stream, line) in streams.into_iter().zip(line..) {
        let (test, folder) = (continuing(), tempdir().unwrap());
        // A stream of the same folder that is read first removes what both have found.
        let read = |context: &Context, files: &[PathBuf]| {
            files.iter().filter(|path| path.ends_with("fleeting")).for_each(|path| fs::remove_file(path).unwrap());
            context.parallelize(vec![files.len()], 1)
        };
        sink(&test.ssc().file_stream(&folder, FileFilter::default(), read));
        let lines = stream(&test, folder.path());
        test.ssc().start().unwrap();
        put(folder.path(), "fleeting", "x", 500);
        advance(&test, 1, 1);
        let error = failure(test.ssc());
        assert_eq!((error.kind(), error.batch()), (ErrorKind::Unavailable, Some(at(1))), "{error}");
        assert!(error.to_string().contains("fleeting"), "{error}");
        assert_eq!(error.site().map(|site| site.line()), Some(line), "{error}");
        put(folder.path(), "lasting", "y", 1500);
        advance(&test, 2, 2);
        assert_eq!(lines.len(), 1, "later batches go on");
    }
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_at_all_is_left_out_or_fails_the_batch_with_its_name() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (test, folder) = (continuing(), tempdir().unwrap());
    let lines = started(&test, &folder);
    symlink(folder.path().join("circle"), folder.path().join("circle")).unwrap();
    symlink(folder.path().join("nowhere"), folder.path().join("dangling")).unwrap();
    put(folder.path(), "good", "good", 500);
    advance(&test, 1, 1);
    assert_eq!(lines.take(), rows(&[(1, "good")]), "S-96: what has no time is looked for again");
    assert!(test.ssc().errors().is_empty());

    let closed = put(folder.path(), "closed", "closed", 1500);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let is_root = File::open(&closed).is_ok();
    advance(&test, 2, 2);
    if !is_root {
        let error = failure(test.ssc());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
    lines.take();
    put(folder.path(), "next", "next", 2500);
    advance(&test, 3, 3);
    assert_eq!(lines.all(), rows(&[(3, "next")]));
}
