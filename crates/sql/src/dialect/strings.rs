//! Functions of texts that mean what Spark means by them.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int32Array, ListBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use millstream_core::ErrorKind;
use regex::Regex;

use super::days::fits;
use super::lists;
use super::texts::{Takes, wrong};
use super::typed::{Typed, item, list_of};

/// The functions of this file.
pub(super) static STRINGS: [Typed; 15] = [
    Typed {
        name: "instr",
        says: "a text, what is looked for in it, and from where",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Whole], 1),
        gives: |_| DataType::Int32,
        compute: instr,
    },
    Typed {
        name: "find_in_set",
        says: "a text, and texts with commas between them",
        takes: |types| fits(types, &[Takes::Text, Takes::Text], 0),
        gives: |_| DataType::Int32,
        compute: |c| {
            let (texts, sets) = (c[0].as_string::<i32>(), c[1].as_string::<i32>());
            let place =
                |text: &str, set: &str| set.split(',').position(|one| one == text).map_or(0, |at| at as i32 + 1);
            let pairs = texts.iter().zip(sets).map(|(text, set)| Some(place(text?, set?)));
            Ok(Arc::new(pairs.collect::<Int32Array>()))
        },
    },
    Typed {
        name: "substring_index",
        says: "a text, what stands between its parts, and how many of them",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Whole], 0),
        gives: |_| DataType::Utf8,
        compute: substring_index,
    },
    Typed {
        name: "ascii",
        says: "a text",
        takes: |types| fits(types, &[Takes::Text], 0),
        gives: |_| DataType::Int32,
        compute: |c| {
            let first = |text: &str| text.chars().next().map_or(0, |letter| letter as i32);
            Ok(Arc::new(c[0].as_string::<i32>().iter().map(|text| text.map(first)).collect::<Int32Array>()))
        },
    },
    Typed {
        name: "chr",
        says: "a whole number",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| DataType::Utf8,
        compute: |c| {
            let letter = |n: i64| if n < 0 { String::new() } else { char::from((n % 256) as u8).to_string() };
            Ok(Arc::new(c[0].as_primitive::<Int64Type>().iter().map(|n| n.map(letter)).collect::<StringArray>()))
        },
    },
    Typed {
        name: "reverse",
        says: "a text or a list",
        takes: |types| match types {
            [of] if of.is_nested() => Some(vec![list_of(item(of)?)]),
            _ => fits(types, &[Takes::Text], 0),
        },
        gives: |types| types[0].clone(),
        compute: |c| match c[0].data_type() {
            DataType::List(_) => lists::reversed(&c[0]),
            _ => each(&c[0], |text| text.chars().rev().collect()),
        },
    },
    Typed {
        name: "soundex",
        says: "a text",
        takes: |types| fits(types, &[Takes::Text], 0),
        gives: text,
        compute: |c| each(&c[0], soundex),
    },
    Typed {
        name: "base64",
        says: "a text or bytes",
        takes: |types| match types {
            [DataType::Binary | DataType::LargeBinary | DataType::BinaryView] => Some(vec![DataType::Binary]),
            [of] if of.is_string() || of.is_null() => Some(vec![DataType::Binary]),
            _ => None,
        },
        gives: text,
        compute: |c| {
            let texts = c[0].as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| BASE64.encode(bytes)));
            Ok(Arc::new(texts.collect::<StringArray>()))
        },
    },
    Typed {
        name: "unbase64",
        says: "a text",
        takes: |types| fits(types, &[Takes::Text], 0),
        gives: |_| DataType::Binary,
        compute: |c| {
            let mut out = Vec::new();
            for text in c[0].as_string::<i32>() {
                let told =
                    |text: &str| wrong(ErrorKind::Data, format!("unbase64: `{text}` is not written to the base 64"));
                out.push(text.map(|text| unbase64(text).ok_or_else(|| told(text))).transpose()?);
            }
            Ok(Arc::new(BinaryArray::from_iter(out)))
        },
    },
    Typed {
        name: "split",
        says: "a text, a pattern, and how many parts there are at most",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Whole], 1),
        gives: |_| list_of(DataType::Utf8),
        compute: split,
    },
    Typed {
        name: "regexp_extract",
        says: "a text, a pattern, and the number of a group",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Whole], 1),
        gives: text,
        compute: |c| {
            let mut out = Vec::new();
            matched(c, |row| {
                // What does not match, and a group that took no part, are empty.
                out.push(row.map(|(text, pattern, group)| match pattern.captures(text) {
                    Some(found) => found.get(group).map_or(String::new(), |part| part.as_str().to_owned()),
                    None => String::new(),
                }));
            })?;
            Ok(Arc::new(StringArray::from(out)))
        },
    },
    Typed {
        name: "regexp_extract_all",
        says: "a text, a pattern, and the number of a group",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Whole], 1),
        gives: |_| list_of(DataType::Utf8),
        compute: |c| {
            let mut out = ListBuilder::new(StringBuilder::new());
            matched(c, |row| {
                for found in row.iter().flat_map(|(text, pattern, _)| pattern.captures_iter(text)) {
                    let group = row.as_ref().map_or(0, |(_, _, group)| *group);
                    out.values().append_value(found.get(group).map_or("", |part| part.as_str()));
                }
                out.append(row.is_some());
            })?;
            Ok(Arc::new(out.finish()))
        },
    },
    Typed {
        name: "regexp_replace",
        says: "a text, a pattern, and what is put in the place of what matches it",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Text], 0),
        gives: text,
        compute: regexp_replace,
    },
    Typed {
        name: "format_number",
        says: "a number and how many digits behind the point",
        takes: |types| match types {
            [of, digits] if (of.is_numeric() || of.is_null()) && (digits.is_integer() || digits.is_null()) => {
                Some(vec![DataType::Float64, DataType::Int64])
            }
            _ => None,
        },
        gives: text,
        compute: format_number,
    },
    Typed {
        name: "crc32",
        says: "a text or bytes",
        takes: |types| match types {
            [DataType::Binary | DataType::LargeBinary | DataType::BinaryView] => Some(vec![DataType::Binary]),
            [of] if of.is_string() || of.is_null() => Some(vec![DataType::Binary]),
            _ => None,
        },
        gives: |_| DataType::Int64,
        compute: |c| {
            let sums = c[0].as_binary::<i32>().iter().map(|bytes| bytes.map(|bytes| i64::from(crc32fast::hash(bytes))));
            Ok(Arc::new(sums.collect::<datafusion::arrow::array::Int64Array>()))
        },
    },
];

fn text(_: &[DataType]) -> DataType {
    DataType::Utf8
}

fn each(column: &ArrayRef, of: impl Fn(&str) -> String) -> Result<ArrayRef> {
    Ok(Arc::new(column.as_string::<i32>().iter().map(|text| text.map(&of)).collect::<StringArray>()))
}

fn instr(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, parts) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let place = |row: usize| {
        let from = match columns.get(2) {
            Some(from) if from.is_null(row) => return Some(0),
            Some(from) => from.as_primitive::<Int64Type>().value(row),
            None => 1,
        };
        let known = texts.is_valid(row) && parts.is_valid(row);
        known.then(|| place_of(texts.value(row), parts.value(row), from))
    };
    Ok(Arc::new((0..texts.len()).map(place).collect::<Int32Array>()))
}

/// Where a text is in another one, in letters from 1; 0 is nowhere.
fn place_of(text: &str, part: &str, from: i64) -> i32 {
    let Ok(skipped) = usize::try_from(from - 1) else { return 0 };
    let Some((start, _)) =
        text.char_indices().map(Some).chain([None]).nth(skipped).map(|at| at.unwrap_or((text.len(), ' ')))
    else {
        return 0;
    };
    match text[start..].find(part) {
        Some(at) => text[..start + at].chars().count() as i32 + 1,
        None => 0,
    }
}

fn substring_index(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, between) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let counts = columns[2].as_primitive::<Int64Type>();
    let part = |text: &str, between: &str, count: i64| {
        if between.is_empty() || count == 0 {
            return String::new();
        }
        let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX) - 1;
        let place =
            if count > 0 { text.match_indices(between).nth(wanted) } else { text.rmatch_indices(between).nth(wanted) };
        match place {
            Some((at, _)) if count > 0 => text[..at].to_owned(),
            Some((at, _)) => text[at + between.len()..].to_owned(),
            None => text.to_owned(),
        }
    };
    let parts =
        texts.iter().zip(between).zip(counts).map(|((text, between), count)| Some(part(text?, between?, count?)));
    Ok(Arc::new(parts.collect::<StringArray>()))
}

fn soundex(text: &str) -> String {
    let code = |letter: char| match letter.to_ascii_uppercase() {
        'B' | 'F' | 'P' | 'V' => '1',
        'C' | 'G' | 'J' | 'K' | 'Q' | 'S' | 'X' | 'Z' => '2',
        'D' | 'T' => '3',
        'L' => '4',
        'M' | 'N' => '5',
        'R' => '6',
        // Between two letters of one sound these two do not count, and vowels part them.
        'H' | 'W' => '7',
        _ => '0',
    };
    let mut letters = text.chars();
    let Some(first) = letters.next().filter(char::is_ascii_alphabetic) else { return text.to_owned() };
    let mut out = first.to_ascii_uppercase().to_string();
    let mut last = code(first);
    for letter in letters {
        let code = if letter.is_ascii_alphabetic() { code(letter) } else { '0' };
        if code == '7' {
            continue;
        }
        if code != '0' && code != last && out.len() < 4 {
            out.push(code);
        }
        last = code;
    }
    format!("{out:0<4}")
}

/// Whether it is filled up with `=` does not matter, nor what is left over of the last letter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let plain: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(plain).ok()
}

/// Patterns that have been read, for the rows that follow with the same.
#[derive(Default)]
struct Patterns {
    known: HashMap<String, Regex>,
}

impl Patterns {
    /// A copy of one would have room of its own to search with, which costs more than to search.
    fn read(&mut self, pattern: &str) -> Result<&Regex> {
        if !self.known.contains_key(pattern) {
            self.known.insert(pattern.to_owned(), Patterns::anew(pattern)?);
        }
        self.known.get(pattern).ok_or_else(|| wrong(ErrorKind::Internal, "a pattern that was read is gone".to_owned()))
    }

    fn anew(pattern: &str) -> Result<Regex> {
        Regex::new(&plain_classes(pattern)).map_err(|e| {
            let said = e.to_string();
            let said = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            wrong(ErrorKind::Config, format!("the pattern `{pattern}` is not known here: {said}"))
        })
    }
}

/// Digits, letters and spaces are those of ASCII, as they are in Java.
fn plain_classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[a-zA-Z0-9_]"),
            Some('W') => out.push_str("[^a-zA-Z0-9_]"),
            Some('s') => out.push_str("[ \\t\\n\\x0B\\f\\r]"),
            Some('S') => out.push_str("[^ \\t\\n\\x0B\\f\\r]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            other => {
                out.push('\\');
                out.extend(other);
            }
        }
    }
    out
}

/// Asks something of each row with its pattern, and the number of its group.
fn matched(columns: &[ArrayRef], mut ask: impl FnMut(Option<(&str, &Regex, usize)>)) -> Result<()> {
    let (texts, wanted) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let mut patterns = Patterns::default();
    for row in 0..texts.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            ask(None);
            continue;
        }
        let pattern = patterns.read(wanted.value(row))?;
        let group = columns.get(2).map_or(1, |groups| groups.as_primitive::<Int64Type>().value(row));
        let Some(group) = usize::try_from(group).ok().filter(|group| *group < pattern.captures_len()) else {
            let text =
                format!("the pattern `{}` has no group {group}: write 0 for all that it matches", wanted.value(row));
            return Err(wrong(ErrorKind::Config, text));
        };
        ask(Some((texts.value(row), pattern, group)));
    }
    Ok(())
}

fn split(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, wanted) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let mut patterns = Patterns::default();
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..texts.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            out.append(false);
            continue;
        }
        let pattern = patterns.read(wanted.value(row))?;
        if pattern.is_match("") {
            let text = format!("split: the pattern `{}` matches nothing at all, and so everywhere", wanted.value(row));
            return Err(wrong(ErrorKind::Config, text));
        }
        let most = columns.get(2).map_or(0, |most| most.as_primitive::<Int64Type>().value(row));
        let most = usize::try_from(most).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        for part in pattern.splitn(texts.value(row), most) {
            out.values().append_value(part);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

fn regexp_replace(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, wanted, others] = [0, 1, 2].map(|at| columns[at].as_string::<i32>());
    let mut patterns = Patterns::default();
    let mut last: Option<(&str, String)> = None;
    let mut out = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            out.push(None);
            continue;
        }
        let other = match last.take().filter(|(text, _)| *text == others.value(row)) {
            Some((_, other)) => other,
            None => replacement(others.value(row)).map_err(|text| wrong(ErrorKind::Config, text))?,
        };
        let pattern = patterns.read(wanted.value(row))?;
        out.push(Some(pattern.replace_all(texts.value(row), other.as_str()).into_owned()));
        last = Some((others.value(row), other));
    }
    Ok(Arc::new(StringArray::from(out)))
}

/// What is put in the place of a match, as the library writes it: `$1` is a group, and behind `\` stands what is meant as it is.
fn replacement(text: &str) -> std::result::Result<String, String> {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => return Err(format!("`{text}` ends with `\\`: write it twice")),
            },
            '$' => match letters.next().filter(char::is_ascii_digit) {
                Some(digit) if !letters.peek().is_some_and(char::is_ascii_digit) => {
                    out.push_str(&format!("${{{digit}}}"))
                }
                _ => return Err(format!("`{text}`: behind `$` stands the number of a group, of one digit")),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

fn format_number(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (values, digits) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_primitive::<Int64Type>());
    let texts = values.iter().zip(digits).map(|(value, digits)| {
        let (value, digits) = (value?, usize::try_from(digits?).ok()?);
        Some(grouped(value, digits))
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

/// A number with a comma between thousands.
fn grouped(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else if value > 0.0 {
            "∞".to_owned()
        } else {
            "-∞".to_owned()
        };
    }
    let text = format!("{:.digits$}", value.abs());
    let (whole, behind) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, b)| (w, format!(".{b}")));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}{grouped}{behind}", if value < 0.0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_by_letters_and_from_a_place() {
        for (text, part, from, want) in [
            ("banana", "a", 1, 2),
            ("banana", "a", 3, 4),
            ("äpä", "ä", 2, 3),
            ("abc", "", 1, 1),
            ("abc", "x", 1, 0),
            ("abc", "a", 0, 0),
            ("abc", "c", 9, 0),
        ] {
            assert_eq!(place_of(text, part, from), want, "{part} in {text} from {from}");
        }
    }

    #[test]
    fn texts_are_coded_and_summed_as_everywhere() {
        for (text, want) in [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("ÿ?", "w78/")] {
            assert_eq!(BASE64.encode(text), want);
            assert_eq!(unbase64(want), Some(text.as_bytes().to_vec()));
        }
        for (text, want) in [("!", None), ("Y", None), ("YQ", Some("a")), ("YR=", Some("a")), (" Y\nWI=", Some("ab"))] {
            assert_eq!(unbase64(text), want.map(|bytes| bytes.as_bytes().to_vec()), "{text}");
        }
        for (text, want) in
            [("Robert", "R163"), ("Ashcraft", "A261"), ("Tymczak", "T522"), ("Miller", "M460"), ("1x", "1x")]
        {
            assert_eq!(soundex(text), want);
        }
        assert_eq!(grouped(-1_234_567.891, 2), "-1,234,567.89");
        assert_eq!(grouped(12.0, 0), "12");
    }

    #[test]
    fn patterns_are_those_of_java_as_far_as_they_are_known() {
        assert_eq!(plain_classes(r"\d+[\w-]\\d\.\b"), r"[0-9]+[[a-zA-Z0-9_]-]\\d\.(?-u:\b)");
        assert!(Patterns::default().read(r"(?=x)").is_err());
        assert_eq!(replacement(r"<$1>\$\\").unwrap(), r"<${1}>$$\");
        assert!(replacement("$x").is_err() && replacement("\\").is_err() && replacement("$12").is_err());
    }
}
