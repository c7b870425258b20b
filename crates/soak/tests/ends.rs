//! Real processes, each ended in one way, then another: what they wrote is exact. S-127, S-128, S-133, R-24, R-27.

use std::process::{Command, Output};

fn soak(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
    command.args(arguments).args(["--folder".as_ref(), folder.path().join("soak").as_os_str()]);
    command.output().expect("the program runs")
}

fn exact(script: &str) {
    let output = soak(&["--script", script]);
    let [said, wrong] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{script}: {said}{wrong}");
    assert!(said.contains("each once"), "{script}: {said}");
}

#[test]
fn s127_s128_s133_r24_each_way_to_end_a_process_leaves_what_the_next_start_goes_on_from_exactly() {
    for end in ["kill", "term", "int", "term-twice", "term-kill"] {
        exact(&format!("{end}:200,{end}:200"));
    }
}

#[test]
fn r24_a_process_that_slept_while_another_took_its_place_cannot_write() {
    exact("zombie:200,kill:100");
}

#[test]
fn processes_that_are_ended_before_they_did_anything_lose_nothing() {
    exact("kill:0,kill:0,term:0,kill:1,kill:100,term-kill:0,kill:0");
}

#[test]
fn what_cannot_be_asked_for_is_said() {
    for (arguments, want) in [
        (&["x"][..], "`x` is no number"),
        (&["--script", "burn:5"], "ends are kill, term, int, term-twice, term-kill, zombie"),
        (&["child", "1"], "a child is given PORT RUN CHECKPOINT DATABASE"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_soak")).args(arguments).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(want), "{arguments:?}: {said}");
    }
}
