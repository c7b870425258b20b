//! `cargo xtask vs-spark WORKLOAD [FILE]`: the same work by hand, on millstream and on Spark, in one go and one table.
//!
//! What is compared, and how to get Spark and Java, is said in `docs/benchmarks.md`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::Outcome;
use crate::files::root;
use crate::spark::{DATA, HELP, Spark, pythons, run_to_end, says};

/// Compares the engines and prints the table.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some((kafka, rest)) = arguments.split_first().filter(|(name, _)| *name == "kafka") {
        eprintln!("running {kafka} on millstream and on Spark");
        return crate::vs_spark_kafka::run(rest);
    }
    let asked = Asked::parse(arguments)?;
    let root = root();
    let spark = Spark::find(&root)?;
    let file = asked.text(&root)?;
    spark.compile(&root, "bench", &[root.join(SIDE).join("SparkBench.java")])?;

    let mut lines = run_ours(&root, &asked, &file)?;
    lines.extend(run_spark(&spark, &root, &asked, &file)?);

    println!("\n{}", table(&asked, &file, &lines));
    agree(&lines)
}

// ---- what is asked for ----

const WORKLOADS: [&str; 9] = ["grep", "wordcount", "topk", "group", "window", "state", "join", "empty", "sql"];
/// How many rows a batch of the workload `sql` has.
const ROWS: &str = "1000";

const USAGE: &str = "usage: cargo xtask vs-spark kafka [RECORDS], or grep|wordcount|topk|group|window|state|join|empty|sql [FILE] [--threads 2] [--batches 8] \
                     [--interval MS]";

/// What a person asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    workload: String,
    file: Option<PathBuf>,
    threads: u64,
    batches: u64,
    /// Spark's batch interval, in milliseconds. A batch that is due waits for the one before.
    interval: u64,
}

impl Asked {
    fn parse(arguments: &[String]) -> Result<Asked, String> {
        let wrong = |what: &str| format!("{what}\n{USAGE}");
        let (mut workload, mut file, mut threads, mut batches, mut interval) = (None, None, 2, None, None);
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || {
                let number = words.next().and_then(|word| word.parse::<u64>().ok()).filter(|number| *number > 0);
                number.ok_or_else(|| wrong(&format!("{word} needs a number above zero")))
            };
            match word.as_str() {
                "--threads" => threads = number()?,
                "--batches" => batches = Some(number()?),
                "--interval" => interval = Some(number()?),
                _ if word.starts_with('-') => return Err(wrong(&format!("there is no option {word}"))),
                _ if workload.is_none() => workload = Some(word.clone()),
                _ if file.is_none() => file = Some(PathBuf::from(word)),
                _ => return Err(wrong(&format!("{word} is one file too many"))),
            }
        }
        let workload = workload.filter(|name| WORKLOADS.contains(&name.as_str()));
        let workload = workload.ok_or_else(|| wrong("which workload?"))?;
        // A tiny batch needs many of its kind before the virtual machine is warm, and they cost nothing.
        let tiny = workload == "empty" || workload == "sql";
        let batches = batches.unwrap_or(match workload.as_str() {
            "empty" | "sql" => 60,
            "window" => 24,
            _ => 8,
        });
        if batches < 3 {
            return Err(wrong("--batches is at least 3: the first two are a warm-up"));
        }
        if workload == "sql" && file.is_some() {
            return Err(wrong("sql has rows of its own, and no file"));
        }
        let interval = interval.unwrap_or(if tiny { 200 } else { 1000 });
        Ok(Asked { workload, file, threads, batches, interval })
    }

    /// Returns the text to work on: the file that was named, or the one of 200 MB, which is written at first.
    fn text(&self, root: &Path) -> Result<PathBuf, String> {
        if self.workload == "sql" {
            return Ok(PathBuf::from(ROWS));
        }
        if let Some(file) = &self.file {
            return fs::canonicalize(file).map_err(|e| format!("{}: {e}", file.display()));
        }
        let file = root.join(DATA).join("zipf-200mb.txt");
        if self.workload != "empty" && !file.exists() {
            eprintln!("writing {}", file.display());
            let half = file.with_extension("half");
            let python = pythons(root).into_iter().find(|python| says(python, &["-c", "import numpy"]).is_some());
            let python = python.ok_or_else(|| format!("no python3 with numpy was found. {HELP}"))?;
            fs::create_dir_all(root.join(DATA)).map_err(|e| format!("{DATA}: {e}"))?;
            run_to_end(Command::new(python).arg(root.join(SIDE).join("gen_text.py")).arg("200").arg(&half))?;
            fs::rename(&half, &file).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        Ok(file)
    }
}

// ---- the engines ----

/// Where the Spark side is kept.
const SIDE: &str = "crates/bench/spark";

/// Runs the hand-written loop and millstream.
fn run_ours(root: &Path, asked: &Asked, file: &Path) -> Result<Vec<Line>, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["run", "--quiet", "--release"]);
    if asked.workload == "sql" {
        // It builds DataFusion, which the other workloads do without.
        command.args(["--package", "millstream-sql", "--example", "bench_sql", "--", "batches", ROWS]);
        command.args([asked.batches, asked.threads].map(|number| number.to_string()));
    } else {
        command.args(["--package", "millstream-bench", "--"]).arg(&asked.workload).arg(file).arg("--json");
        command.args(["--threads", &asked.threads.to_string(), "--batches", &asked.batches.to_string()]);
    }
    eprintln!("running {} by hand and on millstream", asked.workload);
    lines_of(&mut command)
}

/// Runs Spark.
fn run_spark(spark: &Spark, root: &Path, asked: &Asked, file: &Path) -> Result<Vec<Line>, String> {
    let memory = env::var("SPARK_DRIVER_MEMORY").unwrap_or_else(|_| "10g".to_owned());
    let mut java = spark.java(root, "bench", &memory)?;
    java.arg("SparkBench").arg(&asked.workload).arg(file);
    java.args([asked.threads, asked.batches, asked.interval].map(|number| number.to_string()));
    eprintln!("running {} on Spark {}", asked.workload, spark.version);
    lines_of(&mut java)
}

/// Runs an engine and reads its lines of JSON.
fn lines_of(command: &mut Command) -> Result<Vec<Line>, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{name}: {e}. {HELP}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.starts_with('{')).map(Line::parse).collect()
}

// ---- what they say ----

/// The line of JSON that each engine prints.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    engine: String,
    records: u64,
    ms_median: f64,
    ms_min: f64,
    ms_max: f64,
    records_per_s: f64,
    sink: u64,
    result_hash: String,
    #[serde(default)]
    version: String,
}

impl Line {
    fn parse(line: &str) -> Result<Line, String> {
        serde_json::from_str(line).map_err(|e| format!("{e} in {line}"))
    }
}

/// Returns the table, as Markdown that is also readable as it is.
fn table(asked: &Asked, file: &Path, lines: &[Line]) -> String {
    let median_of = |engine: &str| lines.iter().find(|line| line.engine == engine).map(|line| line.ms_median);
    // By hand, a batch that has nothing to do takes no time: such ratios say nothing.
    let times = |base: Option<f64>, line: &Line| match base.map(|base| base / line.ms_median) {
        Some(ratio) if (0.005..10_000.0).contains(&ratio) => format!("{ratio:.2}"),
        _ => "–".to_owned(),
    };
    let mut rows =
        vec![["engine", "ms median", "ms min", "ms max", "records/s", "÷ hand", "÷ Spark"].map(str::to_owned)];
    for line in lines {
        rows.push([
            format!("{} {}", line.engine, line.version).trim().to_owned(),
            format!("{:.3}", line.ms_median),
            format!("{:.3}", line.ms_min),
            format!("{:.3}", line.ms_max),
            format!("{:.0}", line.records_per_s),
            times(median_of("hand"), line),
            times(median_of("spark"), line),
        ]);
    }
    let widths: [usize; 7] = std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let rule = widths.iter().enumerate().map(|(i, width)| {
        let dashes = "-".repeat(width + 1);
        if i == 0 { format!("{dashes}-|") } else { format!("{dashes}:|") }
    });
    let mut written = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
            0 => format!(" {cell:<width$} |"),
            _ => format!(" {cell:>width$} |"),
        });
        format!("|{}\n", cells.collect::<String>())
    });
    let head = written.next().unwrap_or_default();
    let name = match asked.workload.as_str() {
        "empty" => "one line".into(),
        "sql" => "readings".into(),
        _ => file.file_name().unwrap_or_default().to_string_lossy(),
    };
    format!(
        "{} of {name}: {} records a batch, {} threads, median of {} batches after 2\n\n{head}|{}\n{}",
        asked.workload,
        lines.first().map_or(0, |line| line.records),
        asked.threads,
        asked.batches - 2,
        rule.collect::<String>(),
        written.collect::<String>()
    )
}

/// Checks that all engines worked on the same and found the same.
fn agree(lines: &[Line]) -> Outcome {
    let found = |line: &Line| (line.records, line.sink, line.result_hash.clone());
    match lines.split_first() {
        Some((first, others)) if others.iter().all(|line| found(line) == found(first)) => {
            println!("all found the same: {}", first.result_hash);
            Ok(())
        }
        _ => {
            let found = lines.iter().map(|line| format!("\n  {}: {:?}", line.engine, found(line)));
            Err(format!("the results differ (records, sink, hash):{}", found.collect::<String>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Asked, String> {
        Asked::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn line(engine: &str, median: f64, hash: &str) -> Line {
        Line::parse(&format!(
            "{{\"engine\":\"{engine}\",\"workload\":\"grep\",\"records\":10,\"ms_median\":{median},\"ms_min\":1,\
             \"ms_max\":9.5,\"records_per_s\":100,\"sink\":7,\"result_hash\":\"{hash}\",\"more\":1}}"
        ))
        .expect("the line is right")
    }

    #[test]
    fn options_may_stand_anywhere_and_mistakes_are_named() {
        let asked = parse("--threads 4 grep a.txt").expect("the line is right");
        assert_eq!((asked.threads, asked.batches, asked.interval), (4, 8, 1000));
        assert_eq!(asked.file, Some(PathBuf::from("a.txt")));
        assert_eq!(parse("empty").map(|asked| asked.batches), Ok(60));
        for (line, word) in [
            ("", "workload"),
            ("sort", "workload"),
            ("grep --batches 2", "--batches"),
            ("grep --threads none", "--threads"),
            ("grep --what", "--what"),
            ("grep a b", "b is one"),
            ("sql a.txt", "no file"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(word) && error.contains("usage"), "{line:?}: {error}");
        }
    }

    #[test]
    fn the_table_has_each_engine_with_its_ratios() {
        let lines = [line("hand", 100.0, "aa"), line("millstream", 80.0, "aa"), line("spark", 960.0, "aa")];
        let asked = parse("grep").expect("the line is right");
        let text = table(&asked, Path::new("some/text.txt"), &lines);
        let row = text.lines().find(|line| line.contains("millstream")).unwrap_or_default();
        assert!(row.contains(" 80.000 ") && row.contains(" 1.25 ") && row.contains(" 12.00 "), "{text}");
        assert!(
            text.starts_with("grep of text.txt: 10 records a batch, 2 threads, median of 6 batches after 2"),
            "{text}"
        );
    }

    #[test]
    fn engines_that_find_something_else_are_named() {
        assert_eq!(agree(&[line("hand", 1.0, "aa"), line("spark", 2.0, "aa")]), Ok(()));
        let error = agree(&[line("hand", 1.0, "aa"), line("spark", 2.0, "bb")]).expect_err("the hashes differ");
        assert!(error.contains("spark: (10, 7, \"bb\")"), "{error}");
    }
}
