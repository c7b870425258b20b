//! Real Spark, to be compared with: where its jars are, and how Java is compiled and run with them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// Where large files go; git does not look there.
pub(crate) const DATA: &str = "bench-data";
pub(crate) const HELP: &str = "docs/benchmarks.md says how to get it";
/// The version that is compared with.
const VERSION: &str = "4.1.";
/// Where the settings of the virtual machine are.
const SETTINGS: &str = "crates/bench/spark";

/// Where Spark's jars and the Java tools are.
pub(crate) struct Spark {
    jars: PathBuf,
    /// A folder of more jars.
    more: Option<PathBuf>,
    pub(crate) version: String,
}

impl Spark {
    /// Looks in `SPARK_HOME`, then for a Python that has pyspark, whose package holds all jars.
    pub(crate) fn find(root: &Path) -> Result<Spark, String> {
        let ask = ["-c", "import pyspark; print(pyspark.__path__[0])"];
        let home = env::var_os("SPARK_HOME").map(PathBuf::from);
        let home = home.or_else(|| pythons(root).iter().find_map(|python| says(python, &ask)).map(PathBuf::from));
        let jars = home.ok_or_else(|| format!("Spark was not found. {HELP}"))?.join("jars");
        let names = fs::read_dir(&jars).map_err(|e| format!("{}: {e}. {HELP}", jars.display()))?;
        let version = names.flatten().find_map(|name| version_in(&name.file_name().to_string_lossy()));
        match version {
            Some(version) if version.starts_with(VERSION) => Ok(Spark { jars, more: None, version }),
            Some(other) => Err(format!("{} is Spark {other}, not {VERSION}*. {HELP}", jars.display())),
            None => Err(format!("{} holds no Spark Streaming. {HELP}", jars.display())),
        }
    }

    /// Adds a folder of jars.
    pub(crate) fn with(self, more: &Path) -> Spark {
        Spark { more: Some(more.to_owned()), ..self }
    }

    /// Where all classes are that do not belong to a program.
    fn path(&self) -> Vec<PathBuf> {
        std::iter::once(&self.jars).chain(&self.more).map(|jars| jars.join("*")).collect()
    }

    /// Where the classes of a program are put.
    fn classes(&self, root: &Path, program: &str) -> PathBuf {
        root.join(DATA).join(format!("classes-{program}-{}", self.version))
    }

    /// Compiles the sources of a program.
    pub(crate) fn compile(&self, root: &Path, program: &str, sources: &[PathBuf]) -> Outcome {
        eprintln!("compiling {program} for Spark {}", self.version);
        let mut javac = Command::new(java_tool("javac"));
        javac.args(["-nowarn", "-Xlint:none", "-d"]).arg(self.classes(root, program));
        let path = env::join_paths(self.path()).map_err(|e| e.to_string())?;
        run_to_end(javac.arg("-cp").arg(path).args(sources))
    }

    /// Returns the command that runs a program's classes; its main class and its arguments are still to be added.
    pub(crate) fn java(&self, root: &Path, program: &str, memory: &str) -> Result<Command, String> {
        let with = |option: &str, file: &str| {
            let mut word = OsString::from(option);
            word.push(root.join(SETTINGS).join(file));
            word
        };
        let classes: Vec<_> = std::iter::once(self.classes(root, program)).chain(self.path()).collect();
        let mut java = Command::new(java_tool("java"));
        java.arg(with("@", "jvm-opens.txt")).arg(format!("-Xmx{memory}"));
        java.arg(with("-Dlog4j2.configurationFile=", "log4j2.properties"));
        java.arg("-cp").arg(env::join_paths(classes).map_err(|e| e.to_string())?);
        Ok(java)
    }
}

/// Returns the version in the name of Spark Streaming's jar, as in `spark-streaming_2.13-4.1.0.jar`.
fn version_in(jar: &str) -> Option<String> {
    let (_scala, version) = jar.strip_prefix("spark-streaming_")?.strip_suffix(".jar")?.split_once('-')?;
    Some(version.to_owned())
}

fn java_tool(name: &str) -> PathBuf {
    env::var_os("JAVA_HOME").map_or_else(|| name.into(), |home| Path::new(&home).join("bin").join(name))
}

/// The Pythons that may have pyspark: the one that the documentation sets up, and the one in the path.
pub(crate) fn pythons(root: &Path) -> Vec<PathBuf> {
    vec![root.join(DATA).join("spark-venv/bin/python"), "python3".into()]
}

/// Returns what a program prints if it ends well.
pub(crate) fn says(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn run_to_end(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("{name}: {e}. {HELP}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_name_of_the_jar() {
        assert_eq!(version_in("spark-streaming_2.13-4.1.4.jar"), Some("4.1.4".to_owned()));
        assert_eq!(version_in("spark-sql_2.13-4.1.4.jar"), None);
    }
}
