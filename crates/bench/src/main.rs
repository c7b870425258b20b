//! Benchmarks: the same work on millstream and in a hand-written loop, from the same lines in memory.
//!
//! ```text
//! millstream-bench WORKLOAD [FILE] [--threads 2] [--batches 8] [--interval MS] [--rounds 1] [--engine NAME] [--json]
//! ```
//!
//! Workloads are `grep`, `wordcount`, `topk`, `group` and `empty`, each beside the hand-written loop; `window`, `state` and
//! `join`, for the comparison with Spark; `latency` (`--seconds 60`) and `startup`; `bigstate` (`--keys 10000000`; `--saved` to
//! the disk, `--unsaved`); `upkeep`, a window of 10 batches and one of 600;
//! `durable` (`--rate` in records a second), with a checkpoint and without; `restart`, twice on a new folder (FILE); `spill` (`--memory 256`, in MB), which handles 1 GB with less memory; `log`, which writes to the log in a
//! folder (FILE) and beside it to a plain file. `docs/benchmarks.md` says what is compared and how fair it is; `spark/` holds
//! the Spark side.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod bigstate;
mod data;
mod durable;
mod engine;
mod hand;
mod latency;
mod log;
mod report;
mod restart;
mod spill;
mod timer;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use millstream::prelude::*;

use crate::bigstate::Saved;
use crate::data::Input;
use crate::report::{Report, WARM_UP};

/// Both engines share it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENGINES: [&str; 2] = ["hand", "millstream"];
const WORKLOADS: [&str; 16] = [
    "grep",
    "wordcount",
    "topk",
    "group",
    "window",
    "state",
    "join",
    "empty",
    "latency",
    "startup",
    "spill",
    "bigstate",
    "upkeep",
    "durable",
    "restart",
    "log",
];

fn main() -> ExitCode {
    let begin = timer::now();
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(wrong) => {
            eprintln!("{wrong}\n{}", Args::USAGE);
            return ExitCode::from(2);
        }
    };
    let run = match args.workload.as_str() {
        "latency" => latency::run(millis(args.interval.unwrap_or(5)), secs(args.seconds), args.json),
        "spill" => spill::run(args.threads, args.memory << 20),
        "log" => log::run(&args.file.clone().unwrap_or_else(std::env::temp_dir), args.rounds),
        "startup" => latency::startup(begin, args.json),
        "durable" => durable::run(args.threads, args.batches, args.rate, args.rounds),
        "restart" => match &args.file {
            Some(folder) => restart::run(begin, folder, args.threads, args.keys),
            None => Err("restart needs a folder (FILE)".into()),
        },
        "upkeep" => upkeep::run(args.threads, args.batches, args.keys.min(1_000_000)),
        "bigstate" => bigstate::run(args.threads, args.batches, args.keys, args.saved),
        _ => compare(&args),
    };
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a workload on each engine, one after the other, and reports.
fn compare(args: &Args) -> Result<()> {
    let tiny = args.workload == "empty";
    let input = match &args.file {
        _ if tiny => Input::of("a b c\n", args.threads),
        Some(file) => Input::read(file, args.threads)?,
        None => return Err(format!("{} needs a FILE of text", args.workload).into()),
    };
    let interval = millis(args.interval.unwrap_or(if tiny { 10 } else { 500 }));
    let mut reports: Vec<Report> = Vec::new();
    for _ in 0..args.rounds {
        for engine in ENGINES.into_iter().filter(|name| args.wants(name)) {
            let report = if engine == "hand" {
                // Nobody writes a window or a state by hand in a few lines.
                let Some(report) = hand::run(&args.workload, &input.lines(), input.records, args.batches) else {
                    continue;
                };
                report
            } else {
                engine::run(&args.workload, input.texts(), input.records, args.batches, interval)?
            };
            match reports.iter_mut().find(|earlier| earlier.engine == engine) {
                Some(earlier) => earlier.add(report)?,
                None => reports.push(report),
            }
        }
    }
    if args.json {
        for report in &reports {
            println!("{}", report.json());
        }
    } else {
        print!("{}", report::table(&reports));
    }
    Ok(report::agree(&reports)?)
}

/// What the program was asked to do.
struct Args {
    workload: String,
    file: Option<PathBuf>,
    engine: Option<String>,
    threads: usize,
    batches: usize,
    rounds: usize,
    interval: Option<u64>,
    seconds: u64,
    memory: u64,
    keys: u64,
    rate: u64,
    saved: Saved,
    json: bool,
}

impl Args {
    const USAGE: &str = "usage: millstream-bench WORKLOAD [FILE] [--threads 2] [--batches 8] [--interval MS] \
                         [--rounds 1] [--seconds 60] [--memory 256] [--keys 10000000] [--rate 200000] [--saved|--unsaved] [--engine hand|millstream] [--json]";

    fn parse(words: impl Iterator<Item = String>) -> std::result::Result<Args, String> {
        let mut args = Args {
            workload: String::new(),
            file: None,
            engine: None,
            threads: 2,
            batches: 8,
            rounds: 1,
            interval: None,
            seconds: 60,
            memory: 256,
            keys: 10_000_000,
            rate: 200_000,
            saved: Saved::InMemory,
            json: false,
        };
        let mut words = words;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--json" => args.json = true,
                "--saved" => args.saved = Saved::OnDisk,
                "--unsaved" => args.saved = Saved::Not,
                "--rate" => args.rate = number(&word, &value()?)?,
                "--keys" => args.keys = number(&word, &value()?)?,
                "--engine" => args.engine = Some(value()?),
                "--threads" => args.threads = number(&word, &value()?)? as usize,
                "--batches" => args.batches = number(&word, &value()?)? as usize,
                "--rounds" => args.rounds = number(&word, &value()?)? as usize,
                "--interval" => args.interval = Some(number(&word, &value()?)?),
                "--memory" => args.memory = number(&word, &value()?)?,
                "--seconds" => args.seconds = number(&word, &value()?)?,
                _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
                _ if args.workload.is_empty() => args.workload = word,
                _ if args.file.is_none() => args.file = Some(PathBuf::from(word)),
                _ => return Err(format!("{word} is one file too many")),
            }
        }
        args.checked()
    }

    fn checked(self) -> std::result::Result<Args, String> {
        if !WORKLOADS.contains(&self.workload.as_str()) {
            return Err(format!("WORKLOAD is one of {}", WORKLOADS.join(", ")));
        }
        if let Some(engine) = self.engine.as_deref().filter(|engine| !ENGINES.contains(engine)) {
            return Err(format!("there is no engine {engine}: it is one of {}", ENGINES.join(", ")));
        }
        if self.batches <= WARM_UP {
            return Err(format!("--batches is more than {WARM_UP}: so many are a warm-up, and not counted"));
        }
        Ok(self)
    }

    fn wants(&self, engine: &str) -> bool {
        self.engine.as_deref().is_none_or(|only| only == engine)
    }
}

fn number(option: &str, text: &str) -> std::result::Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{option} needs a number above zero, not {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> std::result::Result<Args, String> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_may_stand_anywhere_and_mistakes_are_named() {
        let args = parse("wordcount --threads 4 text.txt --json").expect("the line is right");
        assert_eq!((args.threads, args.batches, args.json), (4, 8, true));
        assert_eq!(args.file, Some(PathBuf::from("text.txt")));
        for (line, word) in [
            ("", "WORKLOAD"),
            ("sort", "WORKLOAD"),
            ("grep --what", "--what"),
            ("grep --threads", "--threads"),
            ("grep --threads 0", "--threads"),
            ("grep --batches 2", "--batches"),
            ("grep --engine storm", "storm"),
        ] {
            let error = parse(line).err().unwrap_or_default();
            assert!(error.contains(word), "{line:?}: {error}");
        }
    }
}
