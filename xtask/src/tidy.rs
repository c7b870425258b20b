//! `cargo xtask tidy`: the house rules as code.
//!
//! Each rule is a function from a path and a text to findings, so that each is tested without files. A finding fails
//! the run unless it is only a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde::Deserialize;

use crate::files::{self, File};
use crate::source::{self, Line, is_test_file, mentions};
use crate::{Outcome, files::root};

/// Something that is not as the house wants it.
#[derive(Debug, PartialEq)]
struct Finding {
    path: String,
    line: usize,
    text: String,
    fails: bool,
}

impl Finding {
    fn at(path: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, text: text.into(), fails: true }
    }
}

/// Checks everything and prints what was found.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some(extra) = arguments.first() {
        return Err(format!("`cargo xtask tidy` takes no arguments: {extra}"));
    }
    let root = root();
    let sources = files::read_all(&root, &["crates", "examples", "xtask"], ".rs")?;
    let manifests = files::read_all(&root, &["crates", "examples", "xtask"], "Cargo.toml")?;
    let records = files::read_all(&root, &["docs/adr"], ".md")?;
    let long_files = fs::read_to_string(root.join(LONG_FILES)).map_err(|e| format!("{LONG_FILES}: {e}"))?;

    let mut findings = Vec::new();
    for File { path, text } in &sources {
        findings.extend(says_what_it_is_for(path, text));
        findings.extend(layout(path, text));
        findings.extend(forbidden_words(path, text));
    }
    findings.extend(lengths(&sources, &long_files));
    findings.extend(distinct_bugs(&sources));
    findings.extend(numbered(&records));
    for File { path, text } in &manifests {
        findings.extend(layout(path, text));
        findings.extend(imports(path, text));
    }

    findings.sort_by_key(|f| f.fails);
    for Finding { path, line, text, fails } in &findings {
        println!("{}: {path}:{line}: {text}", if *fails { "error" } else { "warning" });
    }
    let failed = findings.iter().filter(|f| f.fails).count();
    println!("tidy: {} files, {failed} errors, {} warnings", sources.len(), findings.len() - failed);
    if failed == 0 { Ok(()) } else { Err(format!("{failed} places are not tidy")) }
}

// ---- every file says what it is for ----

/// A source begins with `//!`; a test, a benchmark or an example may begin with `//`.
fn says_what_it_is_for(path: &str, text: &str) -> Vec<Finding> {
    let first = text.lines().next().unwrap_or_default();
    let plain = is_test_file(path) || path.starts_with("examples/");
    let mark = if plain && !first.starts_with("//!") { "//" } else { "//!" };
    let words = first.strip_prefix(mark).unwrap_or_default().trim();
    if words.is_empty() || (mark == "//" && first.starts_with("///")) {
        let want = if plain { "`//` or `//!`" } else { "`//!`" };
        return vec![Finding::at(path, 1, format!("the first line must say what the file is for, with {want}"))];
    }
    Vec::new()
}

// ---- lines as an editor leaves them ----

const WIDE: usize = 120;

/// Refuses tabs and a last line without an end; warns of blanks at the end of a line and of wide lines, which rustfmt
/// lets be where they are comments, strings or macros.
fn layout(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line, text: &str, fails| findings.push(Finding { fails, ..Finding::at(path, line, text) });
    let mut wide = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.contains('\t') {
            find(i + 1, "a tab; write blanks, or `\\t` in a string", true);
        }
        if line.ends_with([' ', '\r']) {
            find(i + 1, "a blank at the end of the line", false);
        }
        if line.chars().count() > WIDE {
            wide.push((i + 1).to_string());
        }
    }
    if let Some(first) = wide.first().and_then(|line| line.parse().ok()) {
        find(first, &format!("wider than {WIDE} characters: {}", wide.join(", ")), false);
    }
    if text.ends_with("\n\n") || !(text.is_empty() || text.ends_with('\n')) {
        find(text.lines().count(), "the file must end with one line end", true);
    }
    findings
}

// ---- no file is too long ----

/// The list of files that may be longer, each with its reason.
const LONG_FILES: &str = "xtask/long_files.txt";
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// Warns of long files and refuses very long ones, unless the list gives a reason; warns of a list that holds
/// more than it needs.
fn lengths(sources: &[File], list: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut listed = BTreeMap::new();
    for (i, line) in list.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (path, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if reason.trim().is_empty() {
            findings.push(Finding::at(LONG_FILES, i + 1, format!("{path} has no reason")));
        }
        listed.insert(path, i + 1);
    }
    for File { path, text } in sources {
        let count = text.lines().count();
        if count > TOO_LONG {
            if listed.remove(path.as_str()).is_none() {
                let text = format!("{count} lines; split the file, or give a reason in {LONG_FILES}");
                findings.push(Finding::at(path, TOO_LONG, text));
            }
        } else if count > LONG {
            let text = format!("{count} lines; more than {LONG} are hard to read");
            findings.push(Finding { fails: false, ..Finding::at(path, LONG, text) });
        }
    }
    for (path, line) in listed {
        let text = format!("{path} is not over {TOO_LONG} lines; strike it out");
        findings.push(Finding { fails: false, ..Finding::at(LONG_FILES, line, text) });
    }
    findings
}

// ---- words that belong in one place ----

/// A word, where it must not stand, and what to do instead.
struct Ban {
    word: &'static str,
    /// The ban holds for paths that begin with one of these,
    under: &'static [&'static str],
    /// but not for paths that begin with one of these.
    but: &'static [&'static str],
    /// Whether it holds for tests too.
    in_tests: bool,
    instead: &'static str,
}

// The bench and the testkit are not part of a running program: they may start threads and look at the clock.
const THREADS: &[&str] = &["crates/core/src/threads.rs", "crates/bench/", "crates/testkit/"];
const CLOCK: &[&str] = &["crates/core/src/clock.rs", "crates/bench/", "crates/testkit/"];
const UNSAFE: &[&str] =
    &["crates/core/src/text/repr.rs", "crates/core/src/plan/ship.rs", "crates/cluster/src/before_main.rs"];
const SPAWN: &str = "only core/src/threads.rs starts threads: use `threads::spawn`";
const NOW: &str = "only core/src/clock.rs knows the time: take a `Clock`, or `clock::monotonic`";

const BANS: &[Ban] = &[
    Ban {
        word: "std::fs",
        under: &["crates/streaming/src/batch"],
        but: &[],
        in_tests: false,
        instead: "the life of a batch touches files only through the checkpoint",
    },
    Ban {
        word: "std::net",
        under: &["crates/core/", "crates/streaming/"],
        but: &["crates/streaming/src/input/socket.rs"],
        in_tests: false,
        instead: "only streaming/src/input/socket.rs knows the network",
    },
    Ban { word: "thread::spawn", under: &["crates/"], but: THREADS, in_tests: false, instead: SPAWN },
    Ban { word: "thread::Builder", under: &["crates/"], but: THREADS, in_tests: false, instead: SPAWN },
    Ban { word: "thread::scope", under: &["crates/"], but: THREADS, in_tests: false, instead: SPAWN },
    Ban { word: "SystemTime::now", under: &["crates/"], but: CLOCK, in_tests: false, instead: NOW },
    Ban { word: "Instant::now", under: &["crates/"], but: CLOCK, in_tests: false, instead: NOW },
    Ban {
        word: "postcard::",
        under: &["crates/"],
        but: &["crates/core/src/codec.rs"],
        in_tests: false,
        instead: "only core/src/codec.rs chooses an encoding: use `codec::encode` and `codec::decode`",
    },
    Ban {
        word: "unsafe",
        under: &["crates/", "examples/", "xtask/"],
        but: UNSAFE,
        in_tests: true,
        instead: "unsafe code stands in three argued files only",
    },
    Ban { word: "#[ignore", under: &["crates/"], but: &[], in_tests: true, instead: "a test runs, or is deleted" },
    Ban { word: "todo!(", under: &["crates/"], but: &[], in_tests: true, instead: "finish it, or leave it out" },
    Ban {
        word: "unimplemented!(",
        under: &["crates/"],
        but: &[],
        in_tests: true,
        instead: "return an error that says so",
    },
    Ban {
        word: "thread::sleep",
        under: &["crates/"],
        but: &[],
        in_tests: true,
        instead: "wait for an event or on a `Clock`, never for a while",
    },
];

/// Finds words of the table above in code; comments and strings do not count.
fn forbidden_words(path: &str, text: &str) -> Vec<Finding> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|p| path.starts_with(p));
    let bans: Vec<&Ban> = BANS.iter().filter(|ban| starts(ban.under) && !starts(ban.but)).collect();
    let mut findings = Vec::new();
    for Line { number, code, in_test } in source::lines(path, text) {
        for ban in &bans {
            if (ban.in_tests || !in_test) && mentions(&code, ban.word) {
                findings.push(Finding::at(path, number, format!("`{}`: {}", ban.word, ban.instead)));
            }
        }
    }
    findings
}

// ---- each bug has a text of its own ----

/// The text of a `bug!` must lead to one line of the source.
fn distinct_bugs(sources: &[File]) -> Vec<Finding> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut findings = Vec::new();
    for File { path, text } in sources.iter().filter(|f| f.path.starts_with("crates/")) {
        let code = source::blanked(text, false);
        for (at, call) in code.match_indices("bug!(") {
            let line = code[..at].matches('\n').count() + 1;
            let Some(words) = first_string(&code[at + call.len()..]) else { continue };
            if let Some(first) = seen.get(words) {
                findings.push(Finding::at(path, line, format!("the bug text \"{words}\" stands at {first} too")));
            } else {
                seen.insert(words.to_owned(), format!("{path}:{line}"));
            }
        }
    }
    findings
}

/// Each decision has a number of its own, the same in its name and its heading.
fn numbered(records: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeMap::new();
    for File { path, text } in records {
        let name = path.rsplit('/').next().unwrap_or(path);
        let number = name.split('-').next().and_then(|digits| digits.parse::<u32>().ok());
        let Some(number) = number else {
            findings.push(Finding::at(path, 1, "a decision's name begins with its number: 0007-…"));
            continue;
        };
        if let Some(other) = seen.insert(number, path) {
            findings.push(Finding::at(path, 1, format!("number {number} is taken by {other}")));
        }
        if !text.starts_with(&format!("# {number}. ")) {
            findings.push(Finding::at(path, 1, format!("the heading does not begin with `# {number}. `")));
        }
    }
    findings
}

/// The insides of the string which `code` begins with, if it does.
fn first_string(code: &str) -> Option<&str> {
    let inside = code.trim_start().strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(&inside[..end])
}

// ---- who may import whom ----

/// Each crate's folder, and which crates of ours it may depend on. Dev-dependencies are free.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("crates/core", &[]),
    ("crates/streaming", &["millstream-core"]),
    ("crates/sql", &["millstream-core", "millstream-object-store", "millstream-streaming", "millstream-sql-derive"]),
    ("crates/sql-derive", &[]),
    ("crates/sql-live", &["millstream-core", "millstream-streaming", "millstream-sql"]),
    ("crates/testkit", &["millstream-core", "millstream-streaming", "millstream-cluster"]),
    (
        "crates/millstream",
        &[
            "millstream-core",
            "millstream-streaming",
            "millstream-testkit",
            "millstream-sql",
            "millstream-sql-live",
            "millstream-sqlite",
            "millstream-kafka",
            "millstream-object-store",
            "millstream-ui",
            "millstream-cluster",
        ],
    ),
    ("crates/sqlite", &["millstream-core", "millstream-streaming"]),
    ("crates/object-store", &["millstream-core"]),
    ("crates/kafka", &["millstream-core", "millstream-streaming"]),
    ("crates/ui", &["millstream-core", "millstream-streaming"]),
    ("crates/cluster", &["millstream-core", "millstream-tunnel"]),
    ("crates/tunnel", &["millstream-core"]),
    ("crates/python", &["millstream"]),
    ("crates/bench", &["millstream"]),
    ("crates/soak", &["millstream"]),
    ("examples", &["millstream"]),
    ("xtask", &[]),
];

/// The parts of a manifest that say whom a crate depends on.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Manifest {
    dependencies: toml::Table,
    build_dependencies: toml::Table,
    target: BTreeMap<String, Manifest>,
}

impl Manifest {
    fn names(&self) -> BTreeSet<&str> {
        let own = self.dependencies.iter().chain(&self.build_dependencies);
        let mut names: BTreeSet<&str> = own.map(|(name, how)| package(name, how)).collect();
        names.extend(self.target.values().flat_map(Manifest::names));
        names
    }
}

/// The name of the package, which a dependency may have under another name.
fn package<'a>(name: &'a str, how: &'a toml::Value) -> &'a str {
    how.get("package").and_then(toml::Value::as_str).unwrap_or(name)
}

/// Checks one manifest against the table above.
fn imports(path: &str, text: &str) -> Vec<Finding> {
    let folder = path.strip_suffix("/Cargo.toml").unwrap_or(path);
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == folder) else {
        return vec![Finding::at(path, 1, "this crate is not in the table of who may import whom (xtask/src/tidy.rs)")];
    };
    let manifest: Manifest = match toml::from_str(text) {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::at(path, 1, error.message().to_owned())],
    };
    let ours = manifest.names().into_iter().filter(|name| name.starts_with("millstream"));
    ours.filter(|name| !allowed.contains(name))
        .map(|name| {
            let line = text.lines().position(|l| l.starts_with(name)).map_or(1, |i| i + 1);
            Finding::at(path, line, format!("{folder} may not depend on {name}"))
        })
        .collect()
}

#[cfg(test)]
mod tests;
