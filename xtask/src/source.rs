//! Rust text with comments and the insides of strings blanked out, so that a rule sees code alone.
//!
//! This is no parser. It knows comments, strings, raw strings and character literals: enough to look for words.

/// One line of a source: what is code in it, and whether it stands in a test.
#[derive(Debug, PartialEq)]
pub(crate) struct Line {
    /// Counted from one.
    pub(crate) number: usize,
    pub(crate) code: String,
    pub(crate) in_test: bool,
}

/// What the scanner is inside of.
enum Inside {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// Blanks comments, and the insides of strings too if `strings` says so. Lines and columns stay where they are.
pub(crate) fn blanked(text: &str, strings: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        let next = chars.get(at + 1).copied();
        let mut take = 1;
        let mut keep = true;
        match inside {
            Inside::Code => match (c, next) {
                ('/', Some('/')) => (inside, keep) = (Inside::LineComment, false),
                ('/', Some('*')) => (inside, keep, take) = (Inside::BlockComment(1), false, 2),
                ('"', _) => inside = Inside::Text,
                ('r', Some('"' | '#')) if !after_word(&chars, at) => {
                    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
                    if chars.get(at + 1 + hashes) == Some(&'"') {
                        (inside, take) = (Inside::RawText(hashes), hashes + 2);
                    }
                }
                ('\'', Some('\\')) => {
                    let end = chars.iter().skip(at + 3).position(|c| *c == '\'').unwrap_or(0);
                    take = end + 4;
                }
                ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => take = 3,
                _ => {}
            },
            Inside::LineComment => {
                keep = c == '\n';
                if keep {
                    inside = Inside::Code;
                }
            }
            Inside::BlockComment(depth) => {
                keep = false;
                match (c, next) {
                    ('/', Some('*')) => (inside, take) = (Inside::BlockComment(depth + 1), 2),
                    ('*', Some('/')) if depth == 1 => (inside, take) = (Inside::Code, 2),
                    ('*', Some('/')) => (inside, take) = (Inside::BlockComment(depth - 1), 2),
                    _ => {}
                }
            }
            Inside::Text => match c {
                '\\' => (keep, take) = (!strings, 2),
                '"' => inside = Inside::Code,
                _ => keep = !strings,
            },
            Inside::RawText(hashes) => {
                if c == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
                    (inside, take) = (Inside::Code, hashes + 1);
                } else {
                    keep = !strings;
                }
            }
        }
        for &c in &chars[at..chars.len().min(at + take)] {
            out.push(if keep || c == '\n' { c } else { ' ' });
        }
        at += take;
    }
    out
}

fn after_word(chars: &[char], at: usize) -> bool {
    at > 0 && is_word(chars[at - 1]) && chars[at - 1] != 'b'
}

/// The lines of a source as code. Everything after `#[cfg(test)] mod … {` is taken for a test: tests stand last.
pub(crate) fn lines(path: &str, text: &str) -> Vec<Line> {
    let mut in_test = is_test_file(path);
    let blanked = blanked(text, true);
    let code: Vec<&str> = blanked.lines().collect();
    let mut lines = Vec::with_capacity(code.len());
    for (i, line) in code.iter().enumerate() {
        if line.starts_with("#[cfg(test)]") {
            let next = code[i + 1..].iter().find(|l| !l.trim().is_empty() && !l.starts_with("#["));
            in_test |= next.is_some_and(|l| l.starts_with("mod ") && l.trim_end().ends_with('{'));
        }
        lines.push(Line { number: i + 1, code: (*line).to_owned(), in_test });
    }
    lines
}

/// Whether a file holds nothing but tests or benchmarks.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs")
}

/// Whether a character can stand in a Rust name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `line` has `word` in it, not as a part of a longer name. `use std::{fs, io}` has `std::fs` in it.
pub(crate) fn mentions(line: &str, word: &str) -> bool {
    let whole = line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_start = !word.starts_with(is_word) || !before.is_some_and(is_word);
        let open_end = !word.ends_with(is_word) || !after.is_some_and(is_word);
        open_start && open_end
    });
    whole || mentions_in_group(line, word)
}

fn mentions_in_group(line: &str, word: &str) -> bool {
    let Some((parent, name)) = word.rsplit_once("::") else { return false };
    let group = format!("{parent}::{{");
    !name.is_empty() && line.split_once(group.as_str()).is_some_and(|(_, names)| mentions(names, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_code_stays_in_its_column() {
        let text =
            "let a = \"x // y\"; // z\nlet b = '\"'; /* c /* d */ e */ f();\nlet r = r#\"un\"safe\"#; g('\\'');\n";
        let want =
            "let a = \"      \";     \nlet b = '\"';                   f();\nlet r = r#\"       \"#; g('\\'');\n";
        assert_eq!(blanked(text, true), want);
        assert!(blanked(text, false).contains("x // y"));
        assert!(!blanked(text, false).contains("// z"));
    }

    #[test]
    fn lifetimes_and_raw_names_do_not_open_a_literal() {
        let text = "fn f<'a>(x: &'a str, r#type: u8) {} // gone";
        assert_eq!(blanked(text, true), format!("{:<1$}", "fn f<'a>(x: &'a str, r#type: u8) {}", text.len()));
    }

    #[test]
    fn what_follows_a_test_module_is_a_test() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n";
        let tests: Vec<bool> = lines("crates/x/src/y.rs", text).iter().map(|l| l.in_test).collect();
        assert_eq!(tests, [false, false, true, true, true, true]);
        let sibling = "#[cfg(test)]\nmod tests;\nfn a() {}\n";
        assert!(lines("crates/x/src/y.rs", sibling).iter().all(|l| !l.in_test));
        assert!(lines("crates/x/tests/y.rs", sibling).iter().all(|l| l.in_test));
    }

    #[test]
    fn a_word_is_not_a_part_of_a_longer_name() {
        assert!(mentions("    unsafe { x }", "unsafe"));
        assert!(!mentions("#![allow(unsafe_code)]", "unsafe"));
        assert!(mentions("use std::{fs, io};", "std::fs"));
        assert!(!mentions("use std::{ffi, io};", "std::fs"));
        assert!(mentions("postcard::to_stdvec(v)", "postcard::"));
        assert!(mentions("use std::thread::{self, sleep};", "thread::sleep"));
    }
}
