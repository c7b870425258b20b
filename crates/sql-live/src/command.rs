//! What a statement asks of a connection. Pure: nothing here knows a table.

use datafusion::sql::sqlparser::ast::{
    CloseCursor, DeclareType, DiscardObject, Expr, FetchDirection, Ident, ObjectName, Reset, Set, Statement, Value,
    ValueWithSpan,
};

use crate::error::{NOT_SUPPORTED, READ_ONLY};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Rows.
    Query,
    Begin,
    Commit,
    Rollback,
    /// Something that drivers send and that changes nothing here, with what is answered.
    Nothing(&'static str),
    Set {
        name: String,
        value: Option<String>,
    },
    ResetAll,
    Show(String),
    Deallocate(Option<String>),
    Discard,
    Declare {
        name: String,
        query: Box<Statement>,
    },
    /// So many rows of a cursor; all of them, if it is not said.
    Fetch {
        name: String,
        rows: Option<usize>,
    },
    Close(Option<String>),
    /// What is answered with an error, and its code.
    Refused(&'static str, String),
}

/// Says what a statement asks.
pub(crate) fn command(statement: &Statement) -> Command {
    match statement {
        Statement::Query(_) => Command::Query,
        Statement::Explain { statement: inner, .. } => match **inner {
            Statement::Query(_) => Command::Query,
            _ => read_only(inner),
        },
        Statement::StartTransaction { .. } => Command::Begin,
        Statement::Commit { .. } => Command::Commit,
        Statement::Rollback { savepoint: Some(_), .. } => Command::Nothing("ROLLBACK"),
        Statement::Rollback { .. } => Command::Rollback,
        Statement::Savepoint { .. } => Command::Nothing("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => Command::Nothing("RELEASE"),
        Statement::Set(set) => setting(set),
        Statement::Reset(reset) => match &reset.reset {
            Reset::ALL => Command::ResetAll,
            Reset::ConfigurationParameter(name) => Command::Set { name: plain(name), value: None },
        },
        Statement::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_lowercase()).collect();
            Command::Show(match words.join(" ").as_str() {
                "transaction isolation level" => "transaction_isolation".to_owned(),
                "time zone" => "timezone".to_owned(),
                _ => words.join("."),
            })
        }
        Statement::Deallocate { name, .. } => {
            let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
            Command::Deallocate((!all).then(|| folded(name)))
        }
        Statement::Discard { object_type: DiscardObject::ALL } => Command::Discard,
        Statement::Discard { .. } => Command::Nothing("DISCARD"),
        Statement::Declare { stmts } => match stmts.as_slice() {
            [one] if one.declare_type == Some(DeclareType::Cursor) => match (&one.for_query, one.names.first()) {
                (Some(query), Some(name)) => {
                    Command::Declare { name: folded(name), query: Box::new(Statement::Query(query.clone())) }
                }
                _ => Command::Refused(
                    "42601",
                    "a cursor has a name and a query: DECLARE name CURSOR FOR SELECT …".into(),
                ),
            },
            _ => Command::Refused(NOT_SUPPORTED, "of DECLARE there is the cursor alone".to_owned()),
        },
        Statement::Fetch { name, direction, into: None, .. } => fetch(name, direction),
        Statement::Close { cursor: CloseCursor::All } => Command::Close(None),
        Statement::Close { cursor: CloseCursor::Specific { name } } => Command::Close(Some(folded(name))),
        Statement::Prepare { .. } | Statement::Execute { .. } => Command::Refused(
            NOT_SUPPORTED,
            "PREPARE and EXECUTE are not there as statements: drivers prepare by the protocol, which works".to_owned(),
        ),
        other => read_only(other),
    }
}

fn read_only(statement: &Statement) -> Command {
    let word = statement.to_string().split_whitespace().next().unwrap_or_default().to_uppercase();
    Command::Refused(READ_ONLY, format!("cannot execute {word}: here streams are read, nothing is written or defined"))
}

fn fetch(name: &Ident, direction: &FetchDirection) -> Command {
    let count = |limit: &ValueWithSpan| match &limit.value {
        Value::Number(digits, _) => digits.parse::<usize>().ok(),
        _ => None,
    };
    let rows = match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Some(Some(1)),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => count(limit).map(Some),
        FetchDirection::All | FetchDirection::ForwardAll => Some(None),
        _ => None,
    };
    match rows {
        Some(rows) => Command::Fetch { name: folded(name), rows },
        None => {
            Command::Refused("55000", "a cursor here goes forward only: FETCH n, FETCH NEXT or FETCH ALL".to_owned())
        }
    }
}

fn setting(set: &Set) -> Command {
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let default =
                matches!(values.as_slice(), [Expr::Identifier(word)] if word.value.eq_ignore_ascii_case("default"));
            let value = (!default).then(|| values.iter().map(text_of).collect::<Vec<_>>().join(", "));
            Command::Set { name: plain(variable), value }
        }
        Set::SetTimeZone { value, .. } => Command::Set { name: "timezone".to_owned(), value: Some(text_of(value)) },
        Set::SetNames { charset_name, .. } => {
            Command::Set { name: "client_encoding".to_owned(), value: Some(charset_name.value.clone()) }
        }
        // What transactions are here they are anyway: of one batch, which is only read.
        Set::SetTransaction { .. } => Command::Nothing("SET"),
        _ => Command::Refused(NOT_SUPPORTED, "of SET there is SET name = value alone".to_owned()),
    }
}

fn text_of(value: &Expr) -> String {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            Value::Number(digits, _) => digits.clone(),
            other => other.to_string(),
        },
        Expr::Identifier(word) => word.value.clone(),
        other => other.to_string(),
    }
}

fn plain(name: &ObjectName) -> String {
    name.to_string().replace('"', "").to_lowercase()
}

/// A name as Postgres means it: in small letters, unless it is quoted.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn of(text: &str) -> Command {
        command(&Parser::parse_sql(&PostgreSqlDialect {}, text).unwrap()[0])
    }

    #[test]
    fn what_drivers_send_is_understood() {
        let set = |name: &str, value: Option<&str>| Command::Set { name: name.into(), value: value.map(Into::into) };
        for (text, want) in [
            ("SELECT 1", Command::Query),
            ("VALUES (1), (2)", Command::Query),
            ("WITH a AS (SELECT 1) SELECT * FROM a", Command::Query),
            ("EXPLAIN SELECT 1", Command::Query),
            ("BEGIN", Command::Begin),
            ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", Command::Begin),
            ("START TRANSACTION", Command::Begin),
            ("COMMIT", Command::Commit),
            ("END", Command::Commit),
            ("ROLLBACK", Command::Rollback),
            ("ROLLBACK TO SAVEPOINT a", Command::Nothing("ROLLBACK")),
            ("SAVEPOINT a", Command::Nothing("SAVEPOINT")),
            ("RELEASE SAVEPOINT a", Command::Nothing("RELEASE")),
            ("SET statement_timeout = 100", set("statement_timeout", Some("100"))),
            ("SET application_name TO 'x'", set("application_name", Some("x"))),
            ("SET DateStyle = ISO, MDY", set("datestyle", Some("ISO, MDY"))),
            ("SET TIME ZONE 'UTC'", set("timezone", Some("UTC"))),
            ("SET x TO DEFAULT", set("x", None)),
            ("RESET x", set("x", None)),
            ("RESET ALL", Command::ResetAll),
            ("SHOW TRANSACTION ISOLATION LEVEL", Command::Show("transaction_isolation".into())),
            ("SHOW server_version", Command::Show("server_version".into())),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("DEALLOCATE \"_pg3_0\"", Command::Deallocate(Some("_pg3_0".into()))),
            ("DISCARD ALL", Command::Discard),
            ("FETCH FORWARD 10 FROM c", Command::Fetch { name: "c".into(), rows: Some(10) }),
            ("FETCH NEXT FROM \"C\"", Command::Fetch { name: "C".into(), rows: Some(1) }),
            ("FETCH ALL IN c", Command::Fetch { name: "c".into(), rows: None }),
            ("CLOSE c", Command::Close(Some("c".into()))),
            ("CLOSE ALL", Command::Close(None)),
        ] {
            assert_eq!(of(text), want, "{text}");
        }
        assert!(matches!(of("DECLARE c CURSOR FOR SELECT 1"), Command::Declare { name, .. } if name == "c"));
    }

    #[test]
    fn whatever_writes_or_defines_is_refused_as_postgres_refuses_it_where_nothing_may_be_written() {
        for text in [
            "DROP TABLE readings",
            "CREATE TABLE x (a int)",
            "CREATE TABLE x AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "INSERT INTO readings VALUES (1)",
            "UPDATE readings SET a = 1",
            "DELETE FROM readings",
            "TRUNCATE readings",
            "COPY readings TO '/tmp/x'",
            "COPY readings FROM STDIN",
            "EXPLAIN DROP TABLE readings",
            "ALTER TABLE readings RENAME TO x",
            "GRANT ALL ON readings TO x",
            "CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE c",
            "VACUUM",
            "LISTEN x",
        ] {
            let Ok(parsed) = Parser::parse_sql(&PostgreSqlDialect {}, text) else { continue };
            assert!(matches!(command(&parsed[0]), Command::Refused(READ_ONLY, _)), "{text}");
        }
        assert!(matches!(of("FETCH PRIOR FROM c"), Command::Refused("55000", _)));
        assert!(matches!(of("PREPARE a AS SELECT 1"), Command::Refused(NOT_SUPPORTED, _)));
    }
}
