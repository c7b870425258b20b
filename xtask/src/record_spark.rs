//! `cargo xtask record-spark [PROGRAM]`: asks real Spark what its operations mean, and writes down the answers.
//!
//! The programs are in `crates/testkit/spark/java`, a class a family; what they gave is in `crates/testkit/spark`, a
//! file a family; `crates/testkit/tests/spark.rs` asks millstream the same. `docs/benchmarks.md` says how to get Spark.
//!
//! `cargo xtask record-spark-sql` does so with statements of SQL: `crates/testkit/spark/sql`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::files::{read_all, root};
use crate::spark::{Spark, run_to_end};

/// Where the answers are kept.
const ANSWERS: &str = "crates/testkit/spark";
/// Where the programs are.
const PROGRAMS: &str = "crates/testkit/spark/java";
/// The programs are small.
const MEMORY: &str = "2g";

/// Runs all programs and writes the answers, or runs one and prints them.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let only = match arguments {
        [] => None,
        [name] if !name.starts_with('-') => Some(name),
        _ => return Err("usage: cargo xtask record-spark [PROGRAM]".to_owned()),
    };
    let root = root();
    let mut java = compiled(&root)?;
    java.arg("Record").arg(root.join(ANSWERS)).args(only);
    run_to_end(&mut java)
}

/// Asks all statements and writes the answers.
pub(crate) fn run_sql(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err("usage: cargo xtask record-spark-sql".to_owned());
    }
    let root = root();
    let mut java = compiled(&root)?;
    java.arg("RecordSql").arg(root.join(ANSWERS).join("sql"));
    run_to_end(&mut java)
}

/// Compiles the programs, and returns the command that runs one of them.
fn compiled(root: &Path) -> Result<Command, String> {
    let spark = Spark::find(root)?;
    let sources: Vec<PathBuf> =
        read_all(root, &[PROGRAMS], ".java")?.iter().map(|source| root.join(&source.path)).collect();
    spark.compile(root, "record", &sources)?;
    eprintln!("asking Spark {}, which takes minutes", spark.version);
    spark.java(root, "record", MEMORY)
}
