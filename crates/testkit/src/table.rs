//! What comes out: a row a batch, as text.

use std::collections::BTreeMap;

use millstream_core::{Time, textform};
use serde::Serialize;

/// What each batch gave, as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    rows: BTreeMap<Time, Vec<String>>,
}

impl Table {
    /// Adds a batch. One without elements leaves no row.
    pub fn add<T: Serialize>(&mut self, at: Time, elements: &[T]) {
        let forms = elements.iter().map(|element| textform::of(element).unwrap_or_else(|error| format!("<{error}>")));
        if !elements.is_empty() {
            self.rows.entry(at).or_default().extend(forms);
        }
    }

    /// Puts a row of texts in its place.
    pub(crate) fn put(&mut self, at: Time, texts: Vec<String>) {
        if !texts.is_empty() {
            self.rows.insert(at, texts);
        }
    }

    /// Returns the time of the last row.
    pub fn last(&self) -> Option<Time> {
        self.rows.keys().next_back().copied()
    }

    /// Reads a table: a line a batch, `1s` or `1500ms` first, then its elements with blanks between.
    ///
    /// # Panics
    ///
    /// If a line does not begin with a time.
    pub fn parse(text: &str) -> Table {
        let mut rows = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (time, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let Some(at) = parse_time(time) else { panic!("a row begins with a time, as `1s` or `500ms`: {line}") };
            rows.insert(at, elements(rest));
        }
        Table { rows }
    }

    /// Returns the table with each row in the order of its texts, for comparing where order is not promised.
    #[must_use]
    pub fn sorted(mut self) -> Table {
        self.rows.values_mut().for_each(|row| row.sort());
        self.rows.retain(|_, row| !row.is_empty());
        self
    }
}

fn parse_time(text: &str) -> Option<Time> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "s" => Some(Time::from_millis(number * 1000)),
        "ms" => Some(Time::from_millis(number)),
        _ => None,
    }
}

/// Cuts a row at its blanks, but for those inside brackets.
fn elements(row: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (mut depth, mut current) = (0i32, String::new());
    for c in row.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if c.is_whitespace() && depth == 0 {
            if !current.is_empty() {
                out.push(normalised(&std::mem::take(&mut current)));
            }
        } else {
            current.push(c);
        }
    }
    if !current.is_empty() {
        out.push(normalised(&current));
    }
    out
}

/// Returns an element's text without the blanks that people like behind commas and that `print` does not write.
pub fn normalised(element: &str) -> String {
    let mut out = String::new();
    let mut brackets = Vec::new();
    let mut chars = element.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '(' | '[' | '{' => brackets.push(c),
            ')' | ']' | '}' => {
                brackets.pop();
            }
            _ => {}
        }
        out.push(c);
        if c == ',' {
            while chars.next_if(|next| next.is_whitespace()).is_some() {}
            if brackets.last() == Some(&'[') || brackets.last() == Some(&'{') {
                out.push(' ');
            }
        }
    }
    out
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (at, row)) in self.rows.iter().enumerate() {
            let ms = at.as_millis();
            let time = if ms % 1000 == 0 { format!("{}s", ms / 1000) } else { format!("{ms}ms") };
            let line = if n == 0 { "" } else { "\n" };
            write!(f, "{line}{time} {}", row.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_people_write_it_and_compared_as_print_writes_it() {
        let table = Table::parse(
            "
            1s  (ann, 1) (bob, [1, 2])
            2500ms  a b
            3s
            ",
        );
        let mut want = Table::default();
        want.add(Time::from_millis(1000), &[("ann", 1)]);
        want.add(Time::from_millis(1000), &[("bob", vec![1, 2])]);
        want.add(Time::from_millis(2500), &["a", "b"]);
        assert_eq!(table.sorted(), want.sorted());
    }

    #[test]
    fn a_table_is_shown_a_row_a_batch() {
        let table = Table::parse("1s (a,1) (b,2)\n1500ms x");
        assert_eq!(table.to_string(), "1s (a,1) (b,2)\n1500ms x");
    }
}
