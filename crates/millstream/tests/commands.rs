//! The commands of a program, asked as a user asks them: this file is the program, and runs itself.
//!
//! ```text
//! PROGRAM run DIR FROM TO BUILD     runs batches, a second each, under a clock of its own
//! PROGRAM millstream …              answers
//! PROGRAM                           the test: calls itself in all these ways
//! ```

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use millstream::core::clock::{Clock, ManualClock};
use millstream::prelude::*;
use millstream::streaming::StreamingContextBuilder;

struct Ticks;

impl InputSource for Ticks {
    type Item = (String, i64);
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / 1000)
    }

    fn rdd(&self, n: &i64, context: &Context) -> Result<Option<Rdd<(String, i64)>>> {
        Ok(Some(context.parallelize(vec![("k".to_owned(), *n)], 1)))
    }
}

/// Which build of the program this is: told by a variable of the environment, as all are one executable.
fn build() -> String {
    std::env::var("BUILD").unwrap_or_default()
}

fn setup(ssc: &StreamingContext) -> Result<()> {
    let ticks = ssc.input(Ticks);
    if build() == "1" {
        let sums = ticks.update_state_by_key(|new: Vec<i64>, old: Option<i32>| {
            Some(old.unwrap_or(0) + new.iter().sum::<i64>() as i32)
        });
        sums.checkpoint(secs(1)).uid("sums").print();
    } else {
        let sums = ticks
            .update_state_by_key(|new: Vec<i64>, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()));
        let sums = sums.checkpoint(secs(1)).uid(if build() == "other" { "others" } else { "sums" });
        sums.migrate_from(|narrow: i32| i64::from(narrow)).print();
    }
    Ok(())
}

fn builder(clock: &ManualClock) -> Result<StreamingContextBuilder> {
    let mut conf = Conf::new("local[1]", "sums")?;
    conf.streaming.retain_batches = 2;
    Ok(StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>))
}

fn run(folder: &Path, from: i64, to: i64) -> Result<()> {
    let clock = ManualClock::new(Time::from_millis((from - 1) * 1000));
    let ssc = builder(&clock)?.get_or_create(folder, setup)?;
    ssc.start()?;
    for s in from..=to {
        clock.advance_to(Time::from_millis(s * 1000));
        ssc.await_batch(Time::from_millis(s * 1000));
    }
    ssc.stop()
}

/// Calls an executable as a build of the program; returns its exit code and what it said.
fn call(executable: &Path, build: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(executable).env("BUILD", build).args(arguments).output().expect("it is called");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn the_commands_of_a_program_answer_with_words_and_exit_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("checkpoint");
    let (this, path) = (std::env::current_exe().expect("a name"), folder.to_str().expect("a text"));
    let own = |build: &str, arguments: &[&str], code: i32, parts: &[&str]| {
        let (exit, said) = call(&this, build, arguments);
        assert_eq!(exit, Some(code), "{arguments:?}:\n{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "`{part}` is not in:\n{said}"));
    };
    own("1", &["run", path, "1", "3"], 0, &["(k,6)"]);
    own("1", &["millstream", "checkpoint", "plan", path], 0, &["kept", "goes on from there"]);
    own("1", &["millstream", "replay", path, "3000"], 0, &["(k,6)", "print 1 at ", "It is the batch that it was"]);
    own("2", &["millstream", "checkpoint", "plan", path], 0, &["migrated", "text => i32, then text => i64"]);
    own("2", &["run", path, "4", "5"], 0, &["(k,15)"]);
    own("2", &["millstream", "replay", path, "last", "--json"], 0, &["\"batch_ms\": 5000", "\"is_same\": true"]);
    own("other", &["run", path, "6", "6"], 1, &["- state sums", "drop_kept"]);
    own("other", &["millstream", "checkpoint", "plan", path], 1, &["refused", "- state sums", "nothing was changed"]);
    own(
        "other",
        &["millstream", "checkpoint", "upgrade", path, "--drop", "sums"],
        0,
        &["dropped", "this program's now"],
    );
    own("other", &["run", path, "6", "6"], 0, &["(k,6)"]);
    own(
        "other",
        &["millstream", "checkpoint", "plan"],
        2,
        &["wants one directory", "usage: ", "millstream replay DIR BATCH"],
    );
    own("other", &["millstream", "help"], 0, &["usage: "]);

    let millstream = Path::new(env!("CARGO_BIN_EXE_millstream"));
    let (exit, said) = call(millstream, "", &["checkpoint", "inspect", path]);
    assert!(exit == Some(0) && said.contains("others") && said.contains("text => i64"), "{said}");
    let (exit, said) = call(millstream, "", &["checkpoint", "plan", path]);
    assert!(exit == Some(2) && said.contains("needs the program"), "{said}");
    let (exit, said) = call(millstream, "", &["checkpoint", "inspect", "/nowhere/at/all"]);
    assert!(exit == Some(2) && said.contains("there is no checkpoint"), "{said}");
}

fn main() -> Result<()> {
    builder(&ManualClock::new(Time::ZERO))?.commands(setup)?;
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
    match arguments.get(1).map(String::as_str) {
        Some("run") => run(Path::new(&arguments[2]), number(3), number(4)),
        // What runs tests may ask for their names, and for some of them only.
        Some("--list") => Ok(()),
        _ => {
            the_commands_of_a_program_answer_with_words_and_exit_codes();
            Ok(())
        }
    }
}
