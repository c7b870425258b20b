//! What DataFusion says went wrong, in terms of what to do about it, with the place in the statement.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Diagnostic, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use millstream_core::{Error, ErrorKind};

use crate::names;

/// Says what is wrong with a statement, or with a run of it.
pub(crate) fn told(error: &DataFusionError, statement: &str) -> Error {
    let (kind, text) = explained(error, statement);
    Error::new(kind, text)
}

/// Names a place as `line 2, column 7`.
pub(crate) fn place(line: u64, column: u64) -> String {
    format!("line {line}, column {column}")
}

fn explained(error: &DataFusionError, statement: &str) -> (ErrorKind, String) {
    use DataFusionError as E;
    let mut span = None;
    let mut inner = error;
    loop {
        inner = match inner {
            E::Diagnostic(diagnostic, rest) => {
                span = span.or_else(|| span_of(diagnostic));
                rest
            }
            E::Context(_, rest) => rest,
            E::Shared(rest) => rest,
            // Several mistakes: the first is told, and the next when that is mended.
            E::Collection(all) if !all.is_empty() => &all[0],
            _ => break,
        };
    }
    let at = |span: Option<(u64, u64)>| span.map(|(l, c)| format!(" at {}", place(l, c))).unwrap_or_default();
    match inner {
        E::SQL(parse, _) => (ErrorKind::Config, unparsed(parse, statement)),
        E::SchemaError(schema, _) => {
            (ErrorKind::Config, schema_error(schema, &|name| at(span.or_else(|| find(statement, name)))))
        }
        E::Plan(text) | E::NotImplemented(text) => {
            let text = first_line(coerced(text));
            (ErrorKind::Config, format!("the statement cannot be planned{}: {text}", at(span)))
        }
        E::Configuration(text) => (ErrorKind::Config, first_line(text)),
        E::ArrowError(arrow, _) => (ErrorKind::Data, arrow_error(arrow)),
        E::ResourcesExhausted(text) => (
            ErrorKind::Unavailable,
            format!(
                "the statement needs more memory than the engine may take (`spark.driver.memory`): {}",
                first_line(text)
            ),
        ),
        E::External(source) => match source.downcast_ref::<Error>() {
            Some(error) => (error.kind(), error.message().to_owned()),
            None => (ErrorKind::Data, source.to_string()),
        },
        E::Execution(text) => (ErrorKind::Data, first_line(text)),
        other => (ErrorKind::Data, first_line(&other.strip_backtrace())),
    }
}

fn span_of(diagnostic: &Diagnostic) -> Option<(u64, u64)> {
    diagnostic.span.filter(|span| span.start.line > 0).map(|span| (span.start.line, span.start.column))
}

/// What a function said about its arguments, without what was said about that.
fn coerced(text: &str) -> &str {
    let inner = text.split_once("user-defined coercion failed with: Error during planning: ").map(|(_, rest)| rest);
    inner.map_or(text, |rest| rest.split_once(". No function matches").map_or(rest, |(said, _)| said))
}

/// A backtrace, or a list of candidates, is not for one line.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim_end_matches('.').to_owned()
}

fn unparsed(error: &ParserError, statement: &str) -> String {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => return "the statement is nested too deeply".to_owned(),
    };
    // The parser writes ` at Line: 1, Column: 8` behind what it says.
    match text.rsplit_once(" at Line: ") {
        Some((what, rest)) => {
            let (line, column) = rest.split_once(", Column: ").unwrap_or((rest, "1"));
            format!("the statement does not parse at line {line}, column {column}: {}", lower(what))
        }
        None => {
            let end = statement.lines().count().max(1);
            let column = statement.lines().last().map_or(1, |line| line.chars().count() + 1);
            format!("the statement does not parse at {}: {}", place(end as u64, column as u64), lower(text))
        }
    }
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn schema_error(error: &SchemaError, at: &dyn Fn(&str) -> String) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let fields: Vec<&str> = valid_fields.iter().map(|f| f.name.as_str()).collect();
            let hint = names::nearest(&field.name, fields.iter().copied());
            let hint = hint.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
            let name = field.flat_name().replace('"', "");
            format!("no column `{name}`{}{hint} There are {}", at(&field.name), names::listed(fields.into_iter()))
        }
        SchemaError::AmbiguousReference { field } => {
            let name = &field.name;
            format!("the column `{name}`{} is in several tables: write `table.{name}`", at(name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            format!("two columns are called `{name}`{}: give one another name with AS", at(name))
        }
    }
}

fn arrow_error(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero: write try_divide(a, b), or nullif(b, 0)".to_owned(),
        ArrowError::ArithmeticOverflow(text) => format!("{}: cast to a wider type before", lower(text)),
        ArrowError::CastError(text) => format!("{}: write try_cast(…) to have NULL instead", lower(text)),
        other => other.to_string(),
    }
}

/// Finds where a name stands in a statement, as a word of its own.
pub(crate) fn find(statement: &str, name: &str) -> Option<(u64, u64)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (low, name) = (statement.to_ascii_lowercase(), name.to_ascii_lowercase());
    let at = low.match_indices(&name).map(|(at, _)| at).find(|at| {
        let before = low[..*at].chars().next_back().is_some_and(is_word);
        let behind = low[at + name.len()..].chars().next().is_some_and(is_word);
        !before && !behind
    })?;
    let line = low[..at].matches('\n').count() + 1;
    let column = low[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some((line as u64, column as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_a_word_with_its_line_and_column() {
        for (statement, name, want) in [
            ("select a from b", "a", Some((1, 8))),
            ("select ab, a\nfrom b", "A", Some((1, 12))),
            ("select x\nfrom  readings r", "readings", Some((2, 7))),
            ("select 'ü', n", "n", Some((1, 13))),
            ("select ab", "a", None),
        ] {
            assert_eq!(find(statement, name), want, "{name} in {statement}");
        }
    }
}
