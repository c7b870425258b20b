//! `cargo xtask vs-spark kafka [RECORDS]`: a word count of a topic, on millstream and on Spark's
//! direct stream, beside one broker.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::files::root;
use crate::spark::{DATA, Spark, run_to_end};

/// Of the connector there is no release of every Spark 4.1; this one runs with each of them.
const CONNECTOR: &str = "4.1.0-preview1";
const CLIENT: &str = "3.9.1";

/// A batch of Spark's, in records, and how many of them.
const BATCH: u64 = 300_000;

/// Compares the engines.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let records = match arguments.first().map(|word| word.parse::<u64>()) {
        None => 5_000_000,
        Some(Ok(records)) if records >= 3 * BATCH => records,
        Some(_) => return Err(format!("usage: cargo xtask vs-spark kafka [RECORDS], at least {}", 3 * BATCH)),
    };
    let root = root();
    let spark = Spark::find(&root)?.with(&connector(&root)?);
    spark.compile(&root, "kafka", &[root.join("crates/bench/spark/KafkaBench.java")])?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut bench = Command::new(root.join(".ci/with-kafka"));
    bench.current_dir(&root).arg(cargo).args(["run", "--quiet", "--release", "-p", "millstream-kafka"]);
    bench.args(["--features", "broker-tests", "--example", "bench_kafka", "--", "beside", &records.to_string()]);
    // What is behind it is run with the brokers and the topic as last words.
    let java = spark.java(&root, "kafka", "4g")?;
    bench.arg(java.get_program()).args(java.get_args()).arg("KafkaBench");
    bench.args(["2".to_owned(), BATCH.to_string(), (records / BATCH).min(12).to_string()]);
    run_to_end(&mut bench)
}

/// Returns the folder of the connector's jars, which Maven fetches once.
fn connector(root: &Path) -> Result<PathBuf, String> {
    let folder = root.join(DATA).join(format!("spark-kafka-{CONNECTOR}"));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let alone = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>";
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>\
             {alone}\
             </dependency>"
        )
    };
    let dependencies = [
        dependency("org.apache.spark", "spark-streaming-kafka-0-10_2.13", CONNECTOR),
        dependency("org.apache.spark", "spark-token-provider-kafka-0-10_2.13", CONNECTOR),
        dependency("org.apache.kafka", "kafka-clients", CLIENT),
    ];
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>millstream</groupId>\
         <artifactId>spark-kafka</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}</dependencies>\
         </project>",
        dependencies.concat()
    );
    let wrote = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("pom.xml"), pom));
    wrote.map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f"]).arg(folder.join("pom.xml")).arg("dependency:copy-dependencies");
    let mut output = std::ffi::OsString::from("-DoutputDirectory=");
    output.push(&folder);
    run_to_end(maven.arg(output))?;
    fs::write(folder.join("complete"), "").map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}
