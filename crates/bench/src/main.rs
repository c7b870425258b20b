//! Benchmarks: `millstream-bench WORKLOAD [FILE] [--threads 2] [--batches 8] [--interval MS] [--json] [--engine NAME]`.
//!
//! Workloads: grep, wordcount, topk, group, empty (each beside a hand-written loop), latency and startup.

mod data;
mod engine;
mod hand;
mod latency;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use millstream::prelude::*;

use crate::data::Input;
use crate::report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) struct Args {
    workload: String,
    file: Option<PathBuf>,
    threads: usize,
    batches: usize,
    interval: u64,
    seconds: u64,
    json: bool,
    engine: Option<String>,
}

fn parse() -> Result<Args> {
    let usage = "usage: millstream-bench WORKLOAD [FILE] [--threads 2] [--batches 8] [--interval 1000] [--seconds 60] [--json] [--engine hand|millstream]";
    let mut args = Args {
        workload: String::new(),
        file: None,
        threads: 2,
        batches: 8,
        interval: 0,
        seconds: 60,
        json: false,
        engine: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Error::from(usage));
        let number = |text: String| text.parse::<u64>().map_err(|_| Error::from(usage));
        match word.as_str() {
            "--json" => args.json = true,
            "--threads" => args.threads = number(value()?)?.max(1) as usize,
            "--batches" => args.batches = number(value()?)?.max(1) as usize,
            "--interval" => args.interval = number(value()?)?,
            "--seconds" => args.seconds = number(value()?)?,
            "--engine" => args.engine = Some(value()?),
            _ if word.starts_with("--") => return Err(usage.into()),
            _ if args.workload.is_empty() => args.workload = word,
            _ => args.file = Some(PathBuf::from(word)),
        }
    }
    if args.workload.is_empty() { Err(usage.into()) } else { Ok(args) }
}

fn main() -> ExitCode {
    match parse().and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "a benchmark prints its results")]
fn run(args: &Args) -> Result<()> {
    match args.workload.as_str() {
        "latency" => return latency::run(args.seconds),
        "startup" => return latency::startup(),
        _ => {}
    }
    let tiny = args.workload == "empty";
    let input = match &args.file {
        _ if tiny => Input::of("a b c\n", args.threads),
        Some(file) => Input::read(file, args.threads)?,
        None => return Err("this workload needs a FILE of text".into()),
    };
    let wanted = |name: &str| args.engine.as_deref().is_none_or(|only| only == name);
    let interval = millis(if args.interval > 0 { args.interval } else if tiny { 10 } else { 500 });
    let mut reports: Vec<Report> = Vec::new();
    if wanted("hand") {
        let parts = input.lines();
        reports.extend(hand::run(&args.workload, &parts, input.records, args.batches));
    }
    if wanted("millstream") {
        let texts = input.texts();
        reports.push(engine::run(&args.workload, texts, input.records, args.batches, interval)?);
    }
    for report in &reports {
        if args.json {
            println!("{}", report.json());
        } else {
            println!("{:12} {:10} {:10.3} ms a batch (median)", report.engine, report.workload, report.median());
        }
    }
    if let [hand, ours] = reports.as_slice() {
        if hand.result_hash != ours.result_hash {
            return Err(format!("the results differ: {:016x} and {:016x}", hand.result_hash, ours.result_hash).into());
        }
        if !args.json {
            println!("millstream ÷ hand (records/s): {:.2}", hand.median() / ours.median());
        }
    }
    Ok(())
}
