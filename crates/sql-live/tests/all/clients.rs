//! The clients that people use: psql, psycopg, SQLAlchemy and JDBC. They are there with the feature `client-tests`, as CI has them:
//! `.ci/with-postgres-clients cargo test -p millstream-sql-live --features client-tests`.

#![cfg(feature = "client-tests")]

use std::process::Command;

use millstream::sql_live::ServeSpec;

use crate::house::{House, house_with, of};
use crate::secure::Certificates;

fn running() -> House {
    running_with(ServeSpec::at("127.0.0.1:0"))
}

fn running_with(spec: ServeSpec) -> House {
    let batches = of(vec![vec![("a".to_owned(), 20.0), ("b".to_owned(), 70.5)], vec![("a".to_owned(), 60.0)]]);
    let mut house = house_with(batches, spec);
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
    command.arg("tests/all/clients.py");
    command.arg(house.server.address().port().to_string());
    assert_eq!(said(command), "psycopg: as it should be\nsqlalchemy: as it should be\n");
}

#[test]
fn psql_verifies_the_certificate_and_binds_its_password_to_it() {
    let certificates = Certificates::new();
    let house = running_with(certificates.spec().password("ann", "correct horse").tls_only());
    let ask = |password: &str, how: &str| {
        let (address, authority) = (house.server.address(), certificates.path("authority.pem"));
        let place = format!("host={} port={} user=ann dbname=millstream", address.ip(), address.port());
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-w", "-c", "SELECT times FROM seen WHERE key = 'a'"]);
        command.arg(format!("{place} sslrootcert={} {how}", authority.display())).env("PGPASSWORD", password);
        command
    };
    let verified = "sslmode=verify-full channel_binding=require";
    let strangers = Certificates::new();
    let unknown = format!("sslmode=verify-full sslrootcert={}", strangers.path("authority.pem").display());
    assert_eq!(said(ask("correct horse", verified)), "2\n");
    assert_eq!(said(ask("correct horse", "sslmode=verify-full channel_binding=disable")), "2\n");
    for (password, how, why) in [
        ("wrong", verified, "password authentication failed for user \"ann\""),
        ("correct horse", "sslmode=disable", "here TLS is spoken alone"),
        ("correct horse", &unknown, "SSL error"),
    ] {
        let done = ask(password, how).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && told.contains(why), "{how}: {told}");
    }
}

/// Runs the client that is written in Java: see `Clients.java`.
#[test]
fn jdbc_asks_describes_and_reads_by_a_cursor() {
    let house = running();
    let classes = std::env::var_os("MILLSTREAM_JDBC").expect("it runs under .ci/with-postgres-clients");
    let mut command = Command::new("java");
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]).arg(classes).arg("Clients");
    command.arg(house.server.address().port().to_string());
    assert_eq!(said(command), "JDBC: as it should be\n");
}
