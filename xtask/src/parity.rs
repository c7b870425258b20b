//! `cargo xtask parity`: each public name and rule of Spark Streaming, ours for it, and the test that shows it.
//!
//! `docs/parity.toml` is written by people. `docs/parity.md` is made from it. `--check` holds both against the sources.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::source::{blanked, is_word, mentions};
use crate::{Outcome, files};

const TABLE: &str = "docs/parity.toml";
const PAGE: &str = "docs/parity.md";

/// The sections, in order: what their ids begin with, and their titles.
const SECTIONS: &[(&str, &str)] = &[
    ("SC", "StreamingContext"),
    ("DS", "DStream"),
    ("PD", "DStream of pairs"),
    ("IN", "Input streams"),
    ("MW", "State by key, mapped"),
    ("RC", "Receivers"),
    ("TM", "Time"),
    ("LS", "Listeners"),
    ("RT", "Rate control"),
    ("WL", "Write-ahead log"),
    ("RD", "Rdd"),
    ("PR", "Rdd of pairs"),
    ("OR", "Rdd of ordered keys"),
    ("DR", "Rdd of numbers"),
    ("AS", "Actions in the background"),
    ("SQ", "Sequence files"),
    ("CX", "Context and settings"),
    ("SV", "Shared variables, storage levels, partitioners, tasks"),
    ("PY", "Python"),
    ("MIS", "Misuse"),
    ("S", "Rules of behaviour"),
    ("R", "Rules of reliability"),
    ("K", "Settings"),
    ("U", "Web pages, REST and metrics"),
    ("M", "Streaming machine learning"),
    ("X", "Connectors"),
    ("SQL", "SQL and data frames"),
];

/// One id: what Spark has, what we have, and what shows it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: String,
    /// The name there. A rule has none.
    #[serde(default)]
    spark: String,
    says: String,
    status: String,
    #[serde(default)]
    ours: String,
    #[serde(default)]
    test: String,
    /// Why it is left out; or what it waits for.
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    item: Vec<Item>,
}

impl Item {
    /// The section's place in [`SECTIONS`], and the number: what items are sorted by.
    fn place(&self) -> Option<(usize, u32)> {
        let digits = self.id.find(|c: char| c.is_ascii_digit())?;
        let letters = self.id[..digits].trim_end_matches('-');
        let section = SECTIONS.iter().position(|(prefix, _)| *prefix == letters)?;
        Some((section, self.id[digits..].parse().ok()?))
    }
}

/// Splits a list at its commas, but for those in parentheses.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let parts = text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// Writes the page, or with `--check` says what is wrong with page and table.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let check = match arguments {
        [] => false,
        [word] if word == "--check" => true,
        _ => return Err("usage: cargo xtask parity [--check]".to_owned()),
    };
    let root = files::root();
    let read = |path: &str| fs::read_to_string(root.join(path)).map_err(|e| format!("{path}: {e}"));
    let table: Table = toml::from_str(&read(TABLE)?).map_err(|e| format!("{TABLE}: {e}"))?;
    let page = page(&table.item);
    if !check {
        fs::write(root.join(PAGE), page).map_err(|e| format!("{PAGE}: {e}"))?;
        println!("{PAGE}: {} items", table.item.len());
        return Ok(());
    }
    let names = names_in_use(&root)?;
    let mut wrong = problems(&table.item, &|path| read(path).ok(), &names);
    if read(PAGE).ok() != Some(page) {
        wrong.push(format!("{PAGE} is stale: run `cargo xtask parity`"));
    }
    if wrong.is_empty() {
        println!("parity: {} items", table.item.len());
        return Ok(());
    }
    Err(wrong.join("\n"))
}

/// The names that stand in the code of a crate, file by file.
fn names_in_use(root: &Path) -> Result<Vec<HashSet<String>>, String> {
    let files = files::read_all(root, &["crates"], ".rs")?;
    let names = |code: &str| code.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    Ok(files.iter().filter(|f| f.path.contains("/src/")).map(|f| names(&blanked(&f.text, true))).collect())
}

/// What is wrong with the table. `read` gives a file's text, `names` the names that each file of ours uses.
fn problems(items: &[Item], read: &dyn Fn(&str) -> Option<String>, names: &[HashSet<String>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    let mut last = None;
    for item in items {
        let Some(place) = item.place() else {
            wrong.push(format!("{}: the id belongs to no section", item.id));
            continue;
        };
        if !seen.insert(place) {
            wrong.push(format!("{}: the id stands twice", item.id));
        } else if last > Some(place) {
            wrong.push(format!("{}: the id is out of order", item.id));
        }
        last = last.max(Some(place));
        wrong.extend(problems_of(item, read, names).into_iter().map(|text| format!("{}: {text}", item.id)));
    }
    wrong
}

fn problems_of(item: &Item, read: &dyn Fn(&str) -> Option<String>, names: &[HashSet<String>]) -> Vec<String> {
    let mut wrong = Vec::new();
    if item.says.is_empty() {
        wrong.push("`says` is empty".to_owned());
    }
    match item.status.as_str() {
        "done" => {
            if item.ours.is_empty() {
                wrong.push("done, but `ours` is empty".to_owned());
            }
            if item.test.is_empty() {
                wrong.push("done, but `test` is empty".to_owned());
            }
        }
        "not yet" => {}
        "left out" if item.why.is_empty() => wrong.push("left out, but `why` is empty".to_owned()),
        "left out" => {}
        other => wrong.push(format!("the status is `done`, `not yet` or `left out`, not `{other}`")),
    }
    for name in
        listed(&item.ours).filter(|name| !names.iter().any(|file| path_of(name).all(|word| file.contains(word))))
    {
        wrong.push(format!("`{name}`: no file under crates/*/src has it"));
    }
    wrong.extend(listed(&item.test).filter_map(|test| missing(test, read)));
    wrong
}

/// The names of a path as `DStream::map` or `Conf::set(…)`.
fn path_of(path: &str) -> impl Iterator<Item = &str> {
    path.split(['(', '<', '!']).next().unwrap_or_default().split("::")
}

/// Says why a test does not exist, if so.
///
/// A test is `path.rs::name`; or `path.rs (docs of name)` for the example in the docs of a name, `path.rs (docs)` for
/// one in the docs of the file.
fn missing(test: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (path, wrong): (_, Box<dyn Fn(&str) -> Option<String>>) = if let Some((path, name)) = docs_of(test) {
        (path.to_owned(), Box::new(move |text| example_is_missing(text, name)))
    } else if let Some((path, name)) = test.split_once(".rs::") {
        let name = name.rsplit("::").next().unwrap_or(name);
        let wrong = move |text: &str| (!has_function(text, name)).then(|| format!("has no `fn {name}`"));
        (format!("{path}.rs"), Box::new(wrong))
    } else {
        return Some(format!("test `{test}` is neither `path.rs::name` nor `path.rs (docs of name)`"));
    };
    match read(&path) {
        None => Some(format!("test `{test}`: there is no file {path}")),
        Some(text) => wrong(&text).map(|wrong| format!("test `{test}`: {path} {wrong}")),
    }
}

/// Splits `path.rs (docs of name)` and `path.rs (docs)`, whose name is empty.
fn docs_of(test: &str) -> Option<(&str, &str)> {
    let (path, docs) = test.strip_suffix(')')?.split_once(" (docs")?;
    Some((path, docs.strip_prefix(" of ").unwrap_or(docs)))
}

fn example_is_missing(text: &str, name: &str) -> Option<String> {
    if name.is_empty() {
        let found = text.lines().any(|line| line.starts_with("//! ```"));
        return (!found).then(|| "has no example in its docs".to_owned());
    }
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let mut places = (0..lines.len()).filter(|i| declares(lines[*i], name));
    let found = places.any(|i| {
        let above = lines[..i].iter().rev().take_while(|l| l.starts_with("///") || l.starts_with("#["));
        above.filter(|l| l.starts_with("/// ```")).count() > 1
    });
    (!found).then(|| format!("has no example in the docs of `{name}`"))
}

/// Whether a line declares a public name, or passes it to a macro that makes the function.
fn declares(line: &str, name: &str) -> bool {
    if line.starts_with("//") {
        return false;
    }
    ["fn ", "struct ", "enum ", "trait ", "macro_rules! "].iter().any(|word| mentions(line, &format!("{word}{name}")))
        || line.strip_prefix(name).is_some_and(|rest| rest.starts_with([',', ':', ' ', '(']))
}

fn has_function(text: &str, name: &str) -> bool {
    mentions(&blanked(text, true), &format!("fn {name}"))
}

/// How many items of a section have which status.
#[derive(Default)]
struct Count {
    done: usize,
    not_yet: usize,
    left_out: usize,
}

impl Count {
    fn add(&mut self, item: &Item) {
        match item.status.as_str() {
            "done" => self.done += 1,
            "left out" => self.left_out += 1,
            _ => self.not_yet += 1,
        }
    }

    fn row(&self, title: &str) -> String {
        let all = self.done + self.not_yet + self.left_out;
        format!("| {title} | {all} | {} | {} | {} |\n", self.done, self.not_yet, self.left_out)
    }
}

/// Makes the page.
fn page(items: &[Item]) -> String {
    let mut sections: BTreeMap<usize, Vec<&Item>> = BTreeMap::new();
    for item in items {
        let section = item.place().map_or(SECTIONS.len(), |(section, _)| section);
        sections.entry(section).or_default().push(item);
    }
    let title = |section: usize| SECTIONS.get(section).map_or("Others", |(_, title)| *title);

    let mut page = String::from(HEAD);
    let mut total = Count::default();
    page.push_str("| section | items | done | not yet | left out |\n|---|---:|---:|---:|---:|\n");
    for (section, items) in &sections {
        let mut count = Count::default();
        for item in items {
            count.add(item);
            total.add(item);
        }
        page.push_str(&count.row(title(*section)));
    }
    page.push_str(&total.row("**all**"));

    for (section, items) in &sections {
        page.push_str(&format!("\n## {}\n\n", title(*section)));
        let named = items.iter().any(|item| !item.spark.is_empty());
        let (spark, rule) = if named { ("Spark | ", "|---") } else { ("", "") };
        page.push_str(&format!("| id | {spark}what it is | ours | test | status |\n{rule}|---|---|---|---|---|\n"));
        for item in items {
            page.push_str(&row(item, named));
        }
    }
    page
}

const HEAD: &str = "\
<!-- Made by `cargo xtask parity` from docs/parity.toml. Do not edit. -->

# Parity with Spark Streaming

Each public name of Spark Streaming, and each rule of its behaviour, has a line here. A line says what ours is called
and which test shows that it means the same. A name without a test counts as not done. What is left out has its reason.

";

/// One line of a table; `named` says whether the table has a column for Spark's names.
fn row(item: &Item, named: bool) -> String {
    let code = |list: &str| listed(list).map(|part| format!("`{}`", cell(part))).collect::<Vec<_>>().join(", ");
    let status = match item.why.as_str() {
        "" => item.status.clone(),
        why => format!("{}: {}", item.status, cell(why)),
    };
    let spark = if named { format!("{} | ", code(&item.spark)) } else { String::new() };
    let says = cell(&item.says);
    format!("| {} | {spark}{says} | {} | {} | {status} |\n", item.id, code(&item.ours), code(&item.test))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests;
