//! The clients that people use: psql, psycopg and SQLAlchemy. They are there with the feature `client-tests`, as CI has them:
//! `.ci/with-postgres-clients cargo test -p millstream-sql-live --features client-tests`.

#![cfg(feature = "client-tests")]

use std::process::Command;

use crate::house::{House, house, of};

fn running() -> House {
    let mut house = house(of(vec![vec![("a".to_owned(), 20.0), ("b".to_owned(), 70.5)], vec![("a".to_owned(), 60.0)]]));
    house.test.run(2).unwrap();
    house
}

/// What a program says, which must end well.
fn said(mut command: Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && err.is_empty(), "{command:?}\n{out}\n{err}");
    out.into_owned()
}

fn psql(house: &House, text: &str) -> String {
    let address = house.server.address();
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", &address.ip().to_string()]);
    command.args(["-p", &address.port().to_string(), "-U", "ann", "-d", "millstream", "-c", text]);
    said(command)
}

#[test]
fn psql_lists_describes_and_asks() {
    let house = running();
    assert_eq!(psql(&house, "SELECT key, times FROM seen ORDER BY key"), "a|2\nb|1\n");
    let tables = psql(&house, "\\dt");
    for table in ["readings", "recent", "seen", "totals", "limits"] {
        assert!(tables.contains(&format!("public|{table}|table")), "{tables}");
    }
    let all = psql(&house, "\\d");
    assert!(all.contains("seen"), "{all}");
    let columns = psql(&house, "\\d seen");
    for column in ["key|text", "times|bigint", "hottest|double precision", "batch|timestamp without time zone"] {
        assert!(columns.contains(column), "{columns}");
    }
    assert!(psql(&house, "\\l").contains("millstream"));
    assert!(psql(&house, "\\dn").contains("public"));
    assert!(psql(&house, "SELECT version()").starts_with("PostgreSQL 16"));
}

/// Runs the clients that are written in Python, one after the other: see `clients.py`.
#[test]
fn psycopg_and_sqlalchemy_ask_and_reflect() {
    let house = running();
    let python = std::env::var_os("MILLSTREAM_PYTHON").expect("it runs under .ci/with-postgres-clients");
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/clients.py"));
    command.arg(house.server.address().port().to_string());
    assert_eq!(said(command), "psycopg: as it should be\nsqlalchemy: as it should be\n");
}
