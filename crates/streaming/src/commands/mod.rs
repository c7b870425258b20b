//! What a program can be asked about its checkpoint, from the command line: what is in it, what this build would make of it, to
//! make it this build's, and to make one batch again.
//!
//! ```text
//! my-app millstream checkpoint inspect DIR     what is there
//! my-app millstream checkpoint plan DIR        what this build makes of it; nothing is changed
//! my-app millstream checkpoint upgrade DIR     it is this build's from now on; --drop NAME consents to a loss
//! my-app millstream replay DIR BATCH           one batch again, in this process, without its outputs
//! ```
//!
//! A line at the top of `main` gives them to a program: [`commands`], or
//! [`StreamingContextBuilder::commands`] for a program with settings of its own; with its disk, if that is a bucket, DIR is the name
//! that the program gives to `get_or_create`. `inspect` needs no program: the executable `millstream` has it, too.
//!
//! All but `upgrade` only read, and can be asked while the program runs; what they read may then be gone before they have read it.
//! `upgrade` is refused while the program runs; in a bucket it is the program that is, as at each start that comes later.
//!
//! # Replay
//!
//! The graph is built as at every start. States are read as they were saved, and batches behind them are made again with what they
//! were given, up to the one that is asked for. Its outputs are not run: `print` prints, and of all others the number of elements
//! and their [`Digest`](millstream_core::Digest) are shown beside that of the original. Of elements that need not be able to be
//! written down (`foreach_rdd`, `foreach_batch`, `save_to`) only the number is compared, unless the stream is
//! [`digested`](crate::DStream::digested); the answer says how many outputs were compared, and how. So a batch that went wrong can be stepped
//! through in a debugger. Batches are kept for that as the setting
//! [`retain_batches`](crate::StreamingConf::retain_batches) says.

mod arguments;
mod report;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::disk::{Disk, RealDisk};
use millstream_core::{Error, ErrorKind, Result, Time};
use serde::Serialize;

use self::arguments::{Command, USAGE, Which, parse};
use self::report::{By, Compared, Planned, Replayed, ReplayedOutput};
use crate::checkpoint::identity::Wishes;
use crate::checkpoint::{Durable, Found, Held, Known, Looking, told};
use crate::conf::Conf;
use crate::context::{StreamingContext, StreamingContextBuilder, Unstarted};
use crate::graph::Look;
use crate::wal::LogConf;

/// Builds the graph of a program.
pub type Setup<'a> = &'a dyn Fn(&StreamingContext) -> Result<()>;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes: the program goes on from there; the batch is the same, as far as something of it was kept to compare. The exit code is 0.
    Yes,
    /// No, or nothing was kept of the batch, so that nobody knows. The exit code is 1; a mistake has 2.
    No,
}

/// Answers `my-app millstream …`, if the program was called so, and ends the process. Otherwise it does nothing.
///
/// `setup` is that of [`StreamingContext::get_or_create`], as is `interval`.
///
/// # Example
///
/// ```no_run
/// use millstream_core::{Result, secs};
/// use millstream_streaming::{StreamingContext, commands};
///
/// fn setup(ssc: &StreamingContext) -> Result<()> {
///     ssc.text_file_stream("/var/log/incoming").count().print();
///     Ok(())
/// }
///
/// fn main() -> Result<()> {
///     commands::commands(secs(1), setup)?;
///     let ssc = StreamingContext::get_or_create("/var/lib/lines", secs(1), setup)?;
///     ssc.start()?;
///     ssc.await_termination()
/// }
/// ```
///
/// # Errors
///
/// The kind is `Config`: the engine's usual settings do not work here. What the commands fail with goes to the standard error.
#[track_caller]
pub fn commands(interval: Duration, setup: impl Fn(&StreamingContext) -> Result<()>) -> Result<()> {
    StreamingContext::builder(Conf::new("local[*]", "millstream")?, interval).commands(setup)
}

impl StreamingContextBuilder {
    /// As [`commands`](crate::commands::commands), with the settings and components of this builder.
    ///
    /// # Errors
    ///
    /// None: what the commands fail with goes to the standard error.
    pub fn commands(self, setup: impl Fn(&StreamingContext) -> Result<()>) -> Result<()> {
        let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let name = arguments.next().unwrap_or_default();
        if arguments.next().as_deref() != Some("millstream") {
            return Ok(());
        }
        let name = Path::new(&name).file_name().map_or("my-app".into(), |name| name.to_string_lossy().into_owned());
        std::process::exit(run(&format!("{name} millstream"), arguments, Some((self, &setup))));
    }
}

/// Answers the command in `arguments` on the standard output. Returns the exit code.
#[doc(hidden)]
pub fn run(
    name: &str,
    arguments: impl Iterator<Item = String>,
    program: Option<(StreamingContextBuilder, Setup<'_>)>,
) -> i32 {
    let disk = program.as_ref().map_or_else(|| Arc::new(RealDisk) as _, |(builder, _)| builder.disk());
    run_on(name, arguments, &disk, program)
}

/// As [`run`], of what is on a disk of another kind.
#[doc(hidden)]
pub fn run_on(
    name: &str,
    arguments: impl Iterator<Item = String>,
    disk: &Arc<dyn Disk>,
    program: Option<(StreamingContextBuilder, Setup<'_>)>,
) -> i32 {
    let arguments: Vec<String> = arguments.collect();
    let is_mistyped = parse(&arguments).is_err();
    // Not locked: the program may print, on any of its threads.
    let answered = answer_on(&arguments, disk, program, &mut std::io::stdout());
    match answered {
        Ok(Answer::Yes) => 0,
        Ok(Answer::No) => 1,
        Err(error) => {
            let usage = if is_mistyped { format!("\n{}", USAGE.replace("{}", name)) } else { String::new() };
            let _ = writeln!(std::io::stderr(), "error: {error}\n{usage}");
            2
        }
    }
}

/// Answers the command in `arguments` (what stands behind `millstream`) on `out`: for a program that reads its own arguments.
///
/// # Errors
///
/// The kind is `Config`: there is no such command, or it needs a program and there is none; `Data`: there is no checkpoint, or it
/// cannot be read; or whatever the program fails with.
pub fn answer(
    arguments: &[String],
    program: Option<(StreamingContextBuilder, Setup<'_>)>,
    out: &mut dyn Write,
) -> Result<Answer> {
    let disk = program.as_ref().map_or_else(|| Arc::new(RealDisk) as _, |(builder, _)| builder.disk());
    answer_on(arguments, &disk, program, out)
}

fn answer_on(
    arguments: &[String],
    disk: &Arc<dyn Disk>,
    program: Option<(StreamingContextBuilder, Setup<'_>)>,
    out: &mut dyn Write,
) -> Result<Answer> {
    let (command, json) = parse(arguments)?;
    let program = program.ok_or_else(|| {
        let text = "this command needs the program that the checkpoint is of: call it as `my-app millstream …`, with \
                    millstream::commands in the first line of its main";
        Error::new(ErrorKind::Config, text)
    });
    let mut say = |text: String| {
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| Error::io(ErrorKind::Unavailable, "the answer could not be written", error))
    };
    match command {
        Command::Help => {
            say(USAGE.replace("{}", "my-app millstream"))?;
            Ok(Answer::Yes)
        }
        Command::Inspect { folder } => {
            let it = told::look(disk, &folder)?.inspect()?;
            say(if json { as_json(&it)? } else { report::inspected(&it) })?;
            Ok(Answer::Yes)
        }
        Command::Plan { folder, wishes } => {
            let it = plan(disk, &folder, &wishes, program?)?;
            say(if json { as_json(&it)? } else { report::planned(&it) })?;
            Ok(if it.goes_on { Answer::Yes } else { Answer::No })
        }
        Command::Upgrade { folder, wishes } => {
            let it = upgrade(disk, &folder, &wishes, program?)?;
            say(if json { as_json(&it)? } else { report::planned(&it) })?;
            Ok(if it.goes_on { Answer::Yes } else { Answer::No })
        }
        Command::Replay { folder, batch } => {
            let it = replay(disk, &folder, batch, program?, json)?;
            say(if json { as_json(&it)? } else { report::replayed(&it) })?;
            Ok(if it.is_same == Some(true) { Answer::Yes } else { Answer::No })
        }
    }
}

fn as_json(it: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(it);
    text.map(|text| text + "\n").map_err(|error| millstream_core::bug!("an answer is no JSON: {error}"))
}

fn looking(disk: &Arc<dyn Disk>) -> Arc<dyn Disk> {
    Arc::new(Looking(Arc::clone(disk)))
}

/// Says what a program would make of a checkpoint.
fn plan(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    wishes: &Wishes,
    (builder, setup): (StreamingContextBuilder, Setup<'_>),
) -> Result<Planned> {
    let found = told::look(disk, folder)?;
    let unstarted = Unstarted::build(builder, (looking(disk), folder), found.beats().0, setup)?;
    planned(&found, &unstarted, wishes, folder)
}

fn planned(found: &Found, unstarted: &Unstarted, wishes: &Wishes, folder: &Path) -> Result<Planned> {
    let (lines, refusal) = match found.plan(&unstarted.program(wishes)) {
        Ok(lines) => (lines, None),
        Err(error) if error.kind() == ErrorKind::Config => (Vec::new(), Some(error.message().to_owned())),
        Err(error) => return Err(error),
    };
    let used = |name: &String| lines.iter().any(|line| line.name == *name || line.was_called.as_ref() == Some(name));
    let mut names = wishes.drop.iter().chain(wishes.rename_once.keys());
    if let Some(name) = names.find(|name| refusal.is_none() && !used(name)) {
        let text = format!("nothing in {} and in the program is called `{name}`", folder.display());
        return Err(Error::new(ErrorKind::Config, text));
    }
    let goes_on = refusal.is_none() && lines.iter().all(|line| line.objection.is_none());
    Ok(Planned { folder: folder.display().to_string(), goes_on, is_done: false, refusal, lines })
}

/// Makes a checkpoint the program's, if nothing is lost that may not be.
fn upgrade(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    wishes: &Wishes,
    (builder, setup): (StreamingContextBuilder, Setup<'_>),
) -> Result<Planned> {
    // Looked at first, so that a folder without a checkpoint is not made one.
    let (zero, _) = told::look(disk, folder)?.beats();
    let found = Held::take(Arc::clone(disk), folder)?.read(u64::MAX, &LogConf::default())?;
    let unstarted = Unstarted::build(builder, (Arc::clone(disk), folder), zero, setup)?;
    let mut it = planned(&found, &unstarted, wishes, folder)?;
    if it.goes_on {
        let states = unstarted.context().env().checkpoints()?;
        Durable::begin(found, unstarted.program(wishes), None, states)?.snapshot();
        it.is_done = true;
    }
    Ok(it)
}

/// Makes a batch again.
fn replay(
    disk: &Arc<dyn Disk>,
    folder: &Path,
    batch: Which,
    (builder, setup): (StreamingContextBuilder, Setup<'_>),
    json: bool,
) -> Result<Replayed> {
    let found = told::look(disk, folder)?;
    let times = found.times();
    let mut unstarted = Unstarted::build(builder, (looking(disk), folder), found.beats().0, setup)?;
    let known = found.known_to(unstarted.program(&Wishes::default()))?;
    let at = match batch {
        Which::At(at) => at,
        Which::Last => unstarted.replayable(&known).last().copied().ok_or_else(|| {
            let text = format!(
                "no batch in {} can be made again: set retain_batches in the settings of the program, so that some are kept",
                folder.display()
            );
            Error::new(ErrorKind::Data, text)
        })?,
    };
    let outputs = made_again(&mut unstarted, &known, at, json).or_else(|error| {
        let could = unstarted.replayable(&known).contains(&at);
        if !could || told::look(disk, folder)?.times() == times {
            return Err(error);
        }
        let text = format!(
            "the program went on while batch {at} was made again, and may have let go of what that is made of: ask for a later one, \
             or raise retain_batches in the settings of the program ({})",
            error.message()
        );
        Err(Error::new(ErrorKind::Data, text))
    })?;
    let mut verdicts = outputs.iter().filter_map(|output| output.is_same).peekable();
    let is_same = verdicts.peek().is_some().then(|| verdicts.all(|same| same));
    Ok(Replayed { folder: folder.display().to_string(), batch_ms: at.as_millis(), is_same, outputs })
}

/// Makes a batch again, and compares what its outputs are given with what they were given then.
fn made_again(unstarted: &mut Unstarted, known: &Known, at: Time, json: bool) -> Result<Vec<ReplayedOutput>> {
    let mut outputs = Vec::new();
    for output in unstarted.replay(known, at)? {
        let told = |error: Error| error.at(output.site).in_batch(at);
        if let Some(show) = output.show.filter(|_| !json) {
            show().map_err(told)?;
        }
        let (elements, digest) = match (output.look)().map_err(told)? {
            Look::Counted(count) => (count, None),
            Look::Digested(digest) => (digest.count(), Some(digest)),
        };
        let original = known.results(at).and_then(|results| results.get(&output.name)).copied();
        let compared = original.map(|original| Compared::of(elements, digest, original));
        outputs.push(ReplayedOutput {
            name: output.name,
            place: format!("{}:{}", output.site.file(), output.site.line()),
            elements,
            digest: digest.map(|digest| digest.to_string()),
            original: original.map(|digest| digest.to_string()),
            is_same: compared.map(|compared| compared.is_same),
            compared_by: compared.map(|compared| compared.by),
        });
    }
    // What had a digest, and is not there to be compared.
    for (name, original) in known.results(at).into_iter().flatten() {
        if outputs.iter().all(|output| output.name != *name) {
            outputs.push(ReplayedOutput {
                name: name.clone(),
                place: "gives nothing in this batch, or is not in the program".to_owned(),
                elements: 0,
                digest: None,
                original: Some(original.to_string()),
                is_same: Some(false),
                compared_by: Some(By::Digest),
            });
        }
    }
    Ok(outputs)
}
