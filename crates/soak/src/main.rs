//! Kills a durable program again and again, and audits what it wrote: nothing lost, nothing twice, memory and disk
//! flat.
//!
//! ```text
//! soak MINUTES [--seed N] [--rate N] [--folder DIR]    random ends, and a quiet part at the end to see that memory is
//! flat soak --script kill:500,term:500 …                    these ends, each after so many records
//! ```
//!
//! The parent sends numbered records through a socket (`sender.rs`) to a child (`program.rs`), which counts them with
//! states into a SQLite database. It ends the child in every way there is (`fate.rs`), starts it again, and looks at
//! the database at the end (`audit.rs`).

#![allow(clippy::print_stdout, reason = "a report is what it is for")]

mod audit;
mod child;
mod fate;
mod gauge;
mod options;
mod program;
mod records;
mod run;
mod sender;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == "child" => program::run(rest),
        _ => options::Options::parse(&arguments).and_then(|options| run::run(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
