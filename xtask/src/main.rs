//! The repository's own commands: `cargo xtask COMMAND`.
//!
//! A command is a module with a `run` function and a row in [`COMMANDS`]. To add one, write both.
#![allow(clippy::print_stdout, reason = "a command prints")]

mod files;
mod parity;
mod record_spark;
mod source;
mod spark;
mod tidy;
mod vs_spark;
mod vs_spark_kafka;

use std::process::ExitCode;

/// What a command ends with: nothing, or what went wrong, in lines for a person.
pub(crate) type Outcome = Result<(), String>;

/// A command that a person may type.
struct Command {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

/// All commands, in the order in which the help lists them.
const COMMANDS: &[Command] = &[
    Command {
        name: "parity",
        arguments: "[--check]",
        about: "write docs/parity.md from docs/parity.toml; or check both",
        run: parity::run,
    },
    Command {
        name: "record-spark",
        arguments: "[PROGRAM]",
        about: "ask real Spark what its operations mean, for crates/testkit/tests/spark.rs",
        run: record_spark::run,
    },
    Command {
        name: "record-spark-sql",
        arguments: "",
        about: "ask real Spark what statements of SQL mean, for crates/testkit/spark/sql",
        run: record_spark::run_sql,
    },
    Command { name: "tidy", arguments: "", about: "check the house rules in all sources", run: tidy::run },
    Command {
        name: "vs-spark",
        arguments: "WORKLOAD [FILE]",
        about: "run a benchmark by hand, on millstream and on Spark",
        run: vs_spark::run,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, arguments)) = words.split_first() else {
        print!("{}", help());
        return ExitCode::SUCCESS;
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        eprint!("there is no command `{name}`\n\n{}", help());
        return ExitCode::FAILURE;
    };
    match (command.run)(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("cargo xtask COMMAND\n\n");
    for command in COMMANDS {
        let call = format!("{} {}", command.name, command.arguments);
        text.push_str(&format!("  {call:<28} {}\n", command.about));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_each_command_once() {
        let help = help();
        for command in COMMANDS {
            assert_eq!(help.matches(&format!("\n  {} ", command.name)).count(), 1, "{}", command.name);
        }
    }
}
