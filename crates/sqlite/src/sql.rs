//! The statements, as texts. Pure.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What stands in the database beside the program's tables, version 1: `docs/specs/sqlite.md`.
pub(crate) const OUTPUTS: &str = "CREATE TABLE IF NOT EXISTS millstream_outputs_v1 (\
     id INTEGER PRIMARY KEY, app TEXT NOT NULL, output TEXT NOT NULL, token INTEGER NOT NULL, UNIQUE (app, output))";

/// The keys of batches that are committed.
pub(crate) const BATCHES: &str = "CREATE TABLE IF NOT EXISTS millstream_batches_v1 (\
     output INTEGER NOT NULL, batch INTEGER NOT NULL, PRIMARY KEY (output, batch)) WITHOUT ROWID";

/// What the names of staging tables begin with.
pub(crate) const STAGED: &str = "millstream_staged_v1_";

/// Where rows go: a table, its columns, and which of them find a row that is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    /// Empty: each row is a new one.
    pub(crate) key: Vec<String>,
}

/// Writes a name so that nothing in it is taken for SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

fn names(columns: &[String]) -> String {
    list(columns.iter().map(|column| quoted(column)))
}

/// The columns of a staging table for rows of `width` values.
fn staged_columns(width: usize) -> String {
    list((1..=width).map(|i| format!("c{i}")))
}

/// The staging table for rows of `width` values. Its columns have no type: a value is read as it was written.
pub(crate) fn staging_table(width: usize) -> String {
    format!("{STAGED}{width}")
}

/// Makes the staging table for rows of `width` values.
pub(crate) fn create_staging(width: usize) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (output INTEGER NOT NULL, batch INTEGER NOT NULL, token INTEGER NOT NULL, \
         seq INTEGER NOT NULL, {}, PRIMARY KEY (output, batch, token, seq)) WITHOUT ROWID",
        staging_table(width),
        staged_columns(width)
    )
}

/// Stages a row: output, batch, token, number of the row, values.
pub(crate) fn stage(width: usize) -> String {
    let places = list((1..=width + 4).map(|i| format!("?{i}")));
    let columns = staged_columns(width);
    format!("INSERT INTO {} (output, batch, token, seq, {columns}) VALUES ({places})", staging_table(width))
}

impl Target {
    fn insert(&self, rows: &str) -> String {
        let mut text = format!("INSERT INTO {} ({}) {rows}", quoted(&self.table), names(&self.columns));
        if !self.key.is_empty() {
            let others = self.columns.iter().filter(|column| !self.key.contains(column));
            let sets = list(others.map(|column| format!("{0} = excluded.{0}", quoted(column))));
            let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {sets}") };
            let _ = write!(text, " ON CONFLICT ({}) DO {action}", names(&self.key));
        }
        text
    }

    /// Puts one row into the table.
    pub(crate) fn insert_row(&self) -> String {
        let places = list((1..=self.columns.len()).map(|i| format!("?{i}")));
        self.insert(&format!("VALUES ({places})"))
    }

    /// Moves what is staged: output, batch, token.
    pub(crate) fn insert_staged(&self) -> String {
        let width = self.columns.len();
        self.insert(&format!(
            "SELECT {} FROM {} WHERE output = ?1 AND batch = ?2 AND token = ?3 ORDER BY seq",
            staged_columns(width),
            staging_table(width)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(key: &[&str]) -> Target {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Target { table: "a \"b\"".to_owned(), columns: strings(&["word", "n"]), key: strings(key) }
    }

    #[test]
    fn statements_quote_every_name() {
        assert_eq!(target(&[]).insert_row(), r#"INSERT INTO "a ""b""" ("word", "n") VALUES (?1, ?2)"#);
        assert_eq!(
            target(&["word"]).insert_staged(),
            "INSERT INTO \"a \"\"b\"\"\" (\"word\", \"n\") SELECT c1, c2 FROM millstream_staged_v1_2 \
             WHERE output = ?1 AND batch = ?2 AND token = ?3 ORDER BY seq ON CONFLICT (\"word\") DO UPDATE SET \
             \"n\" = excluded.\"n\""
        );
        assert!(target(&["word", "n"]).insert_row().ends_with(r#"ON CONFLICT ("word", "n") DO NOTHING"#));
    }

    #[test]
    fn what_stands_in_a_database_is_version_1() {
        assert_eq!(
            create_staging(2),
            "CREATE TABLE IF NOT EXISTS millstream_staged_v1_2 (output INTEGER NOT NULL, batch INTEGER NOT NULL, \
             token INTEGER NOT NULL, seq INTEGER NOT NULL, c1, c2, PRIMARY KEY (output, batch, token, seq)) \
             WITHOUT ROWID"
        );
        assert_eq!(
            stage(1),
            "INSERT INTO millstream_staged_v1_1 (output, batch, token, seq, c1) VALUES (?1, ?2, ?3, ?4, ?5)"
        );
    }
}
