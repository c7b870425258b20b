//! Partitions through programs, and to the driver one by one: RD24, RD37.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{context, everywhere, sorted};
use millstream_core::{ErrorKind, Pipe, Text};

#[test]
fn rd24_each_partition_goes_through_the_program() {
    everywhere(|context, n| {
        let numbers = context.range(0, 100_000, 1, n);
        // Far more than a pipe holds, both ways.
        assert_eq!(
            numbers.pipe("cat").collect().unwrap(),
            numbers.map(|i| Text::from(i.to_string())).collect().unwrap()
        );
        assert_eq!(numbers.pipe("wc -l").count().unwrap(), n as u64, "a program a partition");
        let pairs = context.parallelize(vec![(1, "a b".to_owned()), (2, String::new())], n);
        assert_eq!(sorted(pairs.pipe("cat").collect().unwrap()), ["(1,a b)", "(2,)"]);
        let empty = context.parallelize(Vec::<u64>::new(), n);
        assert_eq!(empty.pipe("echo hello").count().unwrap(), n as u64, "an empty partition too");
    });
}

#[test]
fn rd24_arguments_environment_and_folder_are_the_programs() {
    let context = context("local[2]");
    let folder = tempfile::tempdir().unwrap();
    let pipe = Pipe::new("sh").args(["-c", "pwd; echo \"$A B\"; cat"]).env("A", "x y").current_dir(folder.path());
    let lines = context.parallelize(vec!['z'], 1).pipe_with(pipe).collect().unwrap();
    assert!(lines[0].ends_with(folder.path().file_name().unwrap().to_str().unwrap()), "{lines:?}");
    assert_eq!(lines[1..], ["x y B", "z"]);
}

#[test]
fn rd24_a_program_that_fails_or_is_not_there_fails_the_job() {
    let context = context("local[2]");
    let numbers = context.range(0, 10, 1, 2);
    let error = numbers.pipe_with(Pipe::new("sh").args(["-c", "cat; exit 3"])).count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("`sh`") && error.to_string().contains('3'), "{error}");
    assert!(error.to_string().contains("pipe_with at"), "{error}");
    let error = numbers.pipe("no-such-program-anywhere -x").count().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no-such-program-anywhere"), "{error}");
    assert_eq!(numbers.pipe("  ").count().unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn rd24_a_failure_before_the_program_is_the_jobs_failure_with_its_line() {
    let context = context("local[2]");
    let bad = context.range(0, 5000, 1, 2).map(|x| if x == 3000 { panic!("no such number") } else { x });
    let (error, line) = (bad.map(|x| x).pipe("cat").count().unwrap_err(), line!());
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("no such number"), "{error}");
    assert_eq!((error.site().unwrap().op(), error.site().unwrap().line()), ("map", line - 1));
}

#[test]
fn rd24_a_program_whose_lines_nobody_wants_is_ended_and_one_may_read_less_than_it_is_given() {
    let context = context("local[2]");
    let numbers = context.range(0, 1_000_000, 1, 1);
    assert_eq!(numbers.pipe("head -n 2").collect().unwrap(), ["0", "1"]);
    assert_eq!(numbers.pipe("yes").take(3).unwrap(), ["y", "y", "y"]);
}

#[test]
fn rd37_partitions_come_to_the_driver_one_by_one() {
    everywhere(|context, n| {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let numbers = context.range(0, 700, 1, n).map(move |x| {
            counter.fetch_add(1, Ordering::SeqCst);
            x
        });
        let mut items = numbers.to_local_iterator();
        assert_eq!(read.load(Ordering::SeqCst), 0);
        assert_eq!(items.next().unwrap().unwrap(), 0);
        assert_eq!(read.load(Ordering::SeqCst), 700 / n, "one partition so far");
        assert_eq!(items.map(|item| item.unwrap()).collect::<Vec<_>>(), (1..700).collect::<Vec<_>>());
        assert_eq!(context.empty::<u8>().to_local_iterator().count(), 0);
    });
    let context = context("local[2]");
    let mut items = context.range(0, 4, 1, 2).map(|x| if x == 2 { panic!("two") } else { x }).to_local_iterator();
    assert_eq!((items.next().unwrap().unwrap(), items.next().unwrap().unwrap()), (0, 1));
    assert!(items.next().unwrap().unwrap_err().to_string().contains("two"));
    assert!(items.next().is_none());
}
