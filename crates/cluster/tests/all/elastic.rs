//! Executors that join and leave while a program runs: work moves to who is there, and nothing of it is lost or done twice.

use super::lives::{Lives, Process, audit, signal, until};

/// The test whose program this is.
const PROGRAM_OF: &str =
    "a_driver_that_is_killed_goes_on_with_its_executors_and_one_that_stood_still_publishes_nothing";

/// Has an executor leave, and waits until it has.
fn leaves(mut executor: Process) {
    signal("-TERM", executor.0.id());
    assert!(executor.0.wait().unwrap().success(), "it leaves in peace");
}

#[test]
fn executors_come_and_go_between_batches_and_no_task_runs_twice() {
    let lives = Lives::new();
    let (first, second) = (lives.executor(), lives.executor());
    let mut driver = lives.driver(PROGRAM_OF);
    lives.three_more(2);
    let third = lives.executor();
    lives.three_more(3);
    // They take the states with them, which are made again from what was saved; and all work moves to the third.
    leaves(first);
    lives.three_more(2);
    leaves(second);
    lives.three_more(1);
    let mut fourth = lives.executor();
    lives.three_more(2);
    leaves(third);
    lives.three_more(1);
    signal("-TERM", driver.0.id());
    assert!(driver.0.wait().unwrap().success());
    assert!(fourth.0.wait().unwrap().success(), "it ends in peace, as its driver has");
    audit(&lives);
    for (time, _) in lives.batches() {
        let saved = lives.saved(time);
        assert!(saved.iter().all(|line| line.ends_with(",0)")), "a task of batch {time} was tried again: {saved:?}");
    }
}

#[test]
fn an_executor_that_has_not_joined_ends_when_it_is_told_to() {
    let lives = Lives::new();
    let mut waits = lives.executor();
    // It listens for the driver's word, and for the system's: its threads are there when both can be heard.
    let threads = format!("/proc/{}/task", waits.0.id());
    until("an executor's threads", || std::fs::read_dir(&threads).is_ok_and(|threads| threads.count() >= 3));
    signal("-TERM", waits.0.id());
    waits.0.wait().unwrap();
}
