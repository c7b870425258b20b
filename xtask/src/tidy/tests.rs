// Each house rule: what it refuses, and what it lets be.

use super::*;

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

fn texts(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.text)).collect()
}

#[test]
fn a_source_says_what_it_is_for_in_its_first_line() {
    for (path, text, fine) in [
        ("crates/a/src/b.rs", "//! A thing.\n", true),
        ("crates/a/src/b.rs", "// A thing.\n", false),
        ("crates/a/src/b.rs", "use std::fs;\n", false),
        ("crates/a/src/b.rs", "//!\n", false),
        ("crates/a/src/b.rs", "", false),
        ("crates/a/tests/b.rs", "// A thing.\n", true),
        ("crates/a/src/b/tests.rs", "// A thing.\n", true),
        ("examples/b.rs", "// A thing.\n", true),
        ("examples/b.rs", "//! A thing.\n", true),
        ("examples/b.rs", "/// A thing.\n", false),
        ("examples/b.rs", "fn main() {}\n", false),
    ] {
        assert_eq!(says_what_it_is_for(path, text).is_empty(), fine, "{path} {text:?}");
    }
}

#[test]
fn lines_have_no_tabs_and_no_blanks_at_the_end_and_the_last_one_ends() {
    for (text, want) in [
        ("//! x\n", ""),
        ("//! x\n\tf();\n", "a.rs:2: a tab; write blanks, or `\\t` in a string"),
        ("//! x \n", "a.rs:1: a blank at the end of the line"),
        ("//! x\n\n", "a.rs:2: the file must end with one line end"),
        ("//! x\nf", "a.rs:2: the file must end with one line end"),
        ("", ""),
    ] {
        assert_eq!(texts(&layout("a.rs", text)).join("\n"), want, "{text:?}");
    }
    let wide = layout("a.rs", &format!("{}\n{}\n", "é".repeat(120), "e".repeat(121)));
    assert_eq!(texts(&wide), ["a.rs:2: wider than 120 characters: 2"]);
    assert!(!wide[0].fails);
}

#[test]
fn long_files_are_warned_of_and_very_long_ones_need_a_reason() {
    let lines = |n: usize| "//! x\n".repeat(n);
    let sources =
        [file("a.rs", &lines(400)), file("b.rs", &lines(401)), file("c.rs", &lines(801)), file("d.rs", &lines(900))];
    let list = "# path and reason\n\nd.rs a table of names\n";
    let found = lengths(&sources, list);
    let fails: Vec<(&str, bool)> = found.iter().map(|f| (f.path.as_str(), f.fails)).collect();
    assert_eq!(fails, [("b.rs", false), ("c.rs", true)]);
}

#[test]
fn the_list_of_long_files_holds_reasons_and_nothing_stale() {
    let found = lengths(&[file("a.rs", "//! x\n")], "a.rs because\nb.rs\n");
    assert_eq!(
        texts(&found),
        [
            "xtask/long_files.txt:2: b.rs has no reason",
            "xtask/long_files.txt:1: a.rs is not over 800 lines; strike it out",
            "xtask/long_files.txt:2: b.rs is not over 800 lines; strike it out",
        ]
    );
}

#[test]
fn forbidden_words_are_found_where_they_are_forbidden_and_nowhere_else() {
    for (path, code, fine) in [
        ("crates/streaming/src/batch/mod.rs", "use std::fs;", false),
        ("crates/streaming/src/batch/mod.rs", "use std::{fs, io};", false),
        ("crates/streaming/src/input/files.rs", "use std::fs;", true),
        ("crates/core/src/conf.rs", "use std::net::TcpStream;", false),
        ("crates/streaming/src/input/files.rs", "use std::net::TcpStream;", false),
        ("crates/streaming/src/input/socket.rs", "use std::net::TcpStream;", true),
        ("crates/streaming/tests/socket.rs", "use std::net::TcpListener;", true),
        ("crates/ui/src/lib.rs", "use std::net::TcpListener;", true),
        ("crates/core/src/backend/mod.rs", "std::thread::spawn(f);", false),
        ("crates/core/src/threads.rs", "thread::Builder::new()", true),
        ("crates/core/src/text/tests.rs", "std::thread::spawn(f);", true),
        ("crates/bench/src/main.rs", "std::thread::scope(f); Instant::now();", true),
        ("crates/streaming/src/graph.rs", "let t = Instant::now();", false),
        ("crates/core/src/clock.rs", "let t = SystemTime::now();", true),
        ("crates/core/src/rdd/mod.rs", "postcard::to_stdvec(&x)", false),
        ("crates/core/src/codec.rs", "postcard::to_stdvec(&x)", true),
        ("crates/core/src/text/tests.rs", "postcard::to_stdvec(&x)", true),
        ("crates/core/src/rdd/mod.rs", "unsafe { f() }", false),
        ("crates/core/tests/a.rs", "unsafe { f() }", false),
        ("crates/core/src/text/repr.rs", "unsafe { f() }", true),
        ("crates/core/src/plan/ship.rs", "unsafe { f() }", true),
        ("crates/core/tests/a.rs", "#[ignore]", false),
        ("crates/core/tests/a.rs", "#[ignore = \"slow\"]", false),
        ("crates/core/src/a.rs", "todo!()", false),
        ("crates/core/src/a.rs", "unimplemented!(\"x\")", false),
        ("crates/testkit/tests/a.rs", "std::thread::sleep(d);", false),
        ("examples/a.rs", "std::thread::sleep(d);", true),
        ("crates/core/src/a.rs", "// thread::sleep is not allowed, unsafe neither", true),
        ("crates/core/src/a.rs", "let s = \"unsafe\";", true),
        ("crates/core/src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n fn f() { std::thread::spawn(g); }\n}", true),
        ("crates/core/src/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n fn f() { std::thread::sleep(g); }\n}", false),
    ] {
        assert_eq!(forbidden_words(path, code).is_empty(), fine, "{path} {code:?}");
    }
}

#[test]
fn a_finding_names_its_line() {
    let found = forbidden_words("crates/core/src/a.rs", "//! x\n\nfn f() {\n    todo!()\n}\n");
    assert_eq!(texts(&found), ["crates/core/src/a.rs:4: `todo!(`: finish it, or leave it out"]);
}

#[test]
fn two_bugs_must_not_have_one_text() {
    let a = file("crates/a.rs", "f(bug!(\"one\"));\n// bug!(\"one\")\nf(bug!(\n    \"two {x}\"\n));\n");
    let b = file(
        "crates/b.rs",
        "\n\nbug!(\"a \\\"quoted\\\" word\");\nbug!(\"two {x}\");\nbug!(\"a \\\"other\\\" word\");\n",
    );
    assert_eq!(texts(&distinct_bugs(&[a, b])), ["crates/b.rs:4: the bug text \"two {x}\" stands at crates/a.rs:3 too"]);
}

#[test]
fn a_decision_has_a_number_of_its_own() {
    let records = [
        file("docs/adr/0001-one.md", "# 1. One\n"),
        file("docs/adr/0001-other.md", "# 1. Other\n"),
        file("docs/adr/0002-two.md", "# 3. Two\n"),
        file("docs/adr/notes.md", "# Notes\n"),
    ];
    assert_eq!(
        texts(&numbered(&records)),
        [
            "docs/adr/0001-other.md:1: number 1 is taken by docs/adr/0001-one.md",
            "docs/adr/0002-two.md:1: the heading does not begin with `# 2. `",
            "docs/adr/notes.md:1: a decision's name begins with its number: 0007-…",
        ]
    );
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let manifest =
        "[package]\nname = \"x\"\n[dependencies]\nserde.workspace = true\nmillstream-streaming.workspace = true\n";
    assert_eq!(
        texts(&imports("crates/core/Cargo.toml", manifest)),
        ["crates/core/Cargo.toml:5: crates/core may not depend on millstream-streaming"]
    );
    assert!(imports("crates/testkit/Cargo.toml", manifest).is_empty());
    let dev = "[dev-dependencies]\nmillstream-testkit.workspace = true\n";
    assert!(imports("crates/streaming/Cargo.toml", dev).is_empty());
    let renamed = "[target.'cfg(unix)'.dependencies]\nengine = { package = \"millstream-core\", path = \"../core\" }\n";
    assert_eq!(imports("examples/Cargo.toml", renamed).len(), 1);
    assert_eq!(imports("crates/new/Cargo.toml", "").len(), 1);
}
