//! A program with live tables, and clients that ask it.

use std::sync::LazyLock;

use millstream::sql::{Row, SqlContext, SqlStreams as _};
use millstream::sql_live::{ServeSpec, ServeSql as _, Server};
use millstream::{State, StateSpec, secs};
use millstream_testkit::{Batches, Row as Given, StreamTest};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What clients run on.
pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
pub(crate) struct Reading {
    pub(crate) sensor: String,
    #[row(rename = "maxCelsius")]
    pub(crate) celsius: f64,
}

#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
pub(crate) struct Seen {
    pub(crate) times: i64,
    pub(crate) hottest: f64,
}

/// A program: readings and their last two seconds, a state of each kind, and a static table.
pub(crate) struct House {
    pub(crate) test: StreamTest,
    pub(crate) server: Server,
}

/// The batches of a test.
pub(crate) fn of(rows: Vec<Vec<(String, f64)>>) -> Batches<(String, f64)> {
    Batches::new(rows.into_iter().map(Given::Elements).collect())
}

pub(crate) fn house(batches: Batches<(String, f64)>) -> House {
    house_with(batches, ServeSpec::at("127.0.0.1:0"))
}

pub(crate) fn house_with(batches: Batches<(String, f64)>, spec: ServeSpec) -> House {
    let test = StreamTest::new();
    let pairs = test.input(batches);
    let readings = pairs.map(|(sensor, celsius)| Reading { sensor, celsius });
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_stream("Readings", &readings);
    sql.register_stream("recent", &readings.columns().window(secs(2)));
    let seen = StateSpec::function(|_: &String, celsius: Option<f64>, state: &mut State<'_, Seen>| {
        let before = state.get_option().cloned().unwrap_or(Seen { times: 0, hottest: f64::MIN });
        let hottest = before.hottest.max(celsius.unwrap_or(f64::MIN));
        state.update(Seen { times: before.times + 1, hottest });
    });
    sql.register_state("seen", &pairs.map_with_state(seen));
    let totals = pairs.update_state_by_key(|new: Vec<f64>, old: Option<i64>| Some(old.unwrap_or(0) + new.len() as i64));
    sql.register_state("totals", &totals);
    let limits = vec![("a".to_owned(), 50.0), ("b".to_owned(), 75.0)];
    sql.create_data_frame(limits).unwrap().create_or_replace_temp_view("limits").unwrap();
    let server = sql.serve_with(spec).unwrap();
    House { test, server }
}

impl House {
    pub(crate) fn connect(&self) -> Client {
        self.connect_as("user=test").unwrap()
    }

    pub(crate) fn connect_as(&self, how: &str) -> Result<Client, tokio_postgres::Error> {
        connect_to(self.server.address(), how)
    }
}

pub(crate) fn connect_to(address: std::net::SocketAddr, how: &str) -> Result<Client, tokio_postgres::Error> {
    let how = format!("host={} port={} dbname=millstream {how}", address.ip(), address.port());
    RUNTIME.block_on(async {
        let (client, connection) = tokio_postgres::connect(&how, NoTls).await?;
        // It ends with the client.
        RUNTIME.spawn(connection);
        Ok(client)
    })
}

/// Asks a text of one or more statements; returns the rows of all, a line each.
pub(crate) fn rows(client: &Client, text: &str) -> Result<String, tokio_postgres::Error> {
    let messages = RUNTIME.block_on(client.simple_query(text))?;
    let mut lines = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            let cells: Vec<&str> = (0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect();
            lines.push(cells.join("|"));
        }
    }
    Ok(lines.join("\n"))
}

/// Asks something that must work.
pub(crate) fn ask(client: &Client, text: &str) -> String {
    rows(client, text).unwrap_or_else(|error| panic!("{text}: {}", told(&error)))
}

/// Asks something that must fail; returns the code and what is said.
pub(crate) fn refused(client: &Client, text: &str) -> (String, String) {
    match rows(client, text) {
        Ok(answer) => panic!("{text} was answered: {answer}"),
        Err(error) => {
            let error = error.as_db_error().unwrap_or_else(|| panic!("{text}: {error:?}"));
            (error.code().code().to_owned(), error.message().to_owned())
        }
    }
}

pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| format!("{error:?}"), |error| format!("{} {}", error.code().code(), error.message()))
}
