//! What real Spark answers to three hundred statements, and what we do: the same, or we refuse, which is listed.
//! `just record-spark-sql` asks Spark again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use millstream::Context;
use millstream::sql::arrow::array::{
    ArrayRef, Float64Array, Int32Builder, MapBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use millstream::sql::arrow::record_batch::RecordBatch as ArrowBatch;
use millstream::sql::{Date, Decimal, RecordBatch, Row, SqlContext, to_columns};
use serde_json::Value;

const ANSWERS: &str = include_str!("../../../testkit/spark/sql/answers.json");
const LISTED: &str = include_str!("spark/differences.txt");

/// A moment of UTC, in microseconds.
fn at(day: &str, micros: i64) -> i64 {
    i64::from(day.parse::<Date>().unwrap().days()) * 86_400_000_000 + micros
}

fn time(hours: i64, minutes: i64, seconds: f64) -> i64 {
    (hours * 3600 + minutes * 60) * 1_000_000 + (seconds * 1e6).round() as i64
}

fn set(sql: &SqlContext, name: &str, columns: RecordBatch) {
    let frame = sql.create_data_frame_of(columns.schema(), vec![columns]).unwrap();
    frame.create_or_replace_temp_view(name).unwrap();
}

fn rows<T: Row>(sql: &SqlContext, name: &str, names: &[&str], rows: Vec<T>) {
    let frame = sql.create_data_frame(rows).unwrap().to_df_named(names).unwrap();
    frame.create_or_replace_temp_view(name).unwrap();
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    ArrowBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap().into()
}

/// The tables of `tables.sql`.
fn tables(sql: &SqlContext) {
    let text = |text: &str| Some(text.to_owned());
    let tags = |tags: &[Option<&str>]| Some(tags.iter().map(|tag| tag.map(str::to_owned)).collect::<Vec<_>>());
    rows(
        sql,
        "people",
        &["name", "age", "city", "tags"],
        vec![
            (text("Ada"), Some(36), text("London"), tags(&[Some("math"), Some("code")])),
            (text("Alan"), Some(41), text("London"), tags(&[Some("code")])),
            (text("Grace"), Some(85), text("New York"), tags(&[Some("code"), Some("navy")])),
            (text("Edsger"), Some(72), text("Austin"), tags(&[])),
            (text("Barbara"), None, text("Boston"), None),
            (text("Ken"), Some(30), None, tags(&[Some("go"), None])),
        ],
    );
    let day = |day: &str| Some(day.parse::<Date>().unwrap());
    let price = |units| Some(Decimal::<10, 2>::from_units(units));
    let first = to_columns(vec![
        (1i64, day("2024-02-28"), Some(3), price(250), text("pen")),
        (2, day("2024-02-29"), Some(1), price(1000), text("book")),
        (3, day("2024-02-29"), Some(12), price(99), text("pen")),
        (4, day("2024-03-01"), None, price(1000), text("book")),
        (5, None, Some(7), None, text("cup")),
        (6, day("2024-12-31"), Some(2), price(9995), None),
    ])
    .unwrap();
    let times = TimestampMicrosecondArray::from(vec![
        Some(at("2024-02-28", time(10, 0, 0.0))),
        Some(at("2024-02-29", time(10, 7, 30.0))),
        Some(at("2024-02-29", time(23, 59, 59.123_456))),
        Some(at("2024-03-01", 0)),
        None,
        Some(at("2024-12-31", time(12, 34, 56.0))),
    ]);
    let column = |i: usize| Arc::clone(first.column(i));
    set(
        sql,
        "sales",
        batch(vec![
            ("id", column(0)),
            ("day", column(1)),
            ("ts", Arc::new(times)),
            ("qty", column(2)),
            ("price", column(3)),
            ("item", column(4)),
        ]),
    );
    let words = ["to", "be", "or", "not", "to", "be", ""].map(text).into_iter();
    let words = words.chain([None, text("Ärger"), text("a b")]).collect();
    rows::<Option<String>>(sql, "words", &["word"], words);
    let m = |units| Some(Decimal::<12, 3>::from_units(units));
    rows(
        sql,
        "nums",
        &["b", "s", "i", "l", "f", "d", "m", "flag"],
        vec![
            (
                Some(1i8),
                Some(100i16),
                Some(1000),
                Some(10_000_000_000i64),
                Some(1.5f32),
                Some(2.25),
                m(3125),
                Some(true),
            ),
            (
                Some(i8::MIN),
                Some(i16::MIN),
                Some(i32::MIN),
                Some(i64::MIN),
                Some(0.0),
                Some(f64::NEG_INFINITY),
                m(-999_999_999_999),
                Some(false),
            ),
            (
                Some(i8::MAX),
                Some(i16::MAX),
                Some(i32::MAX),
                Some(i64::MAX),
                Some(f32::NAN),
                Some(f64::NAN),
                m(999_999_999_999),
                None,
            ),
            (None, None, None, None, None, None, None, None),
            (Some(0), Some(0), Some(0), Some(0), Some(0.1), Some(1e-7), m(0), Some(true)),
        ],
    );
    let noon = |minutes, seconds| Some(at("2024-05-05", time(12, minutes, seconds)));
    let times = vec![noon(0, 0.0), noon(4, 59.0), noon(5, 0.0), noon(14, 0.0), noon(14, 59.999)];
    set(
        sql,
        "readings",
        batch(vec![
            ("sensorId", Arc::new(StringArray::from(vec!["a", "a", "b", "b", "c"]))),
            ("maxCelsius", Arc::new(Float64Array::from(vec![Some(20.5), Some(22.0), Some(-3.0), None, Some(7.25)]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(times))),
        ]),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for (key, value) in [("one", 1), ("two", 2)] {
        map.keys().append_value(key);
        map.values().append_value(value);
    }
    map.append(true).unwrap();
    map.append(true).unwrap();
    map.append(false).unwrap();
    #[derive(Clone, Row)]
    struct Inner {
        a: Option<i32>,
        b: String,
    }
    #[derive(Clone, Row)]
    struct Outer {
        st: Option<Inner>,
    }
    let st = to_columns(vec![
        Outer { st: Some(Inner { a: Some(1), b: "left".to_owned() }) },
        Outer { st: Some(Inner { a: None, b: "none".to_owned() }) },
        Outer { st: None },
    ])
    .unwrap();
    set(
        sql,
        "kv",
        batch(vec![
            ("k", Arc::new(StringArray::from(vec!["x", "y", "z"]))),
            ("m", Arc::new(map.finish())),
            ("st", Arc::clone(st.column(0))),
        ]),
    );
    let lefts = [(Some(1), "l1"), (Some(2), "l2"), (Some(2), "l2b"), (None, "ln"), (Some(4), "l4")];
    rows(sql, "lefts", &["k", "v"], lefts.map(|(k, v)| (k, text(v))).to_vec());
    let rights =
        [(Some(2), text("r2")), (Some(2), text("r2b")), (Some(3), text("r3")), (None, text("rn")), (Some(4), None)];
    rows(sql, "rights", &["k", "w"], rights.to_vec());
    rows::<(Option<i32>, Option<String>)>(sql, "empty", &["k", "v"], Vec::new());
}

/// What we answer, as Spark's answers are written: rows of texts, in their order if there is one; or that we refuse.
fn ours(sql: &SqlContext, statement: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let said = |e: millstream::Error| e.message().to_owned();
    let columns = sql.sql(statement).and_then(|frame| frame.to_columns()).map_err(said)?;
    let rows = columns.iter().map(|columns| millstream::sql::texts(columns).map_err(said));
    Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Compares two answers; `None` is the same.
fn compared(answer: &Value, ours: &Result<Vec<Vec<Option<String>>>, String>) -> Option<&'static str> {
    let statement = answer["ask"].as_str().unwrap();
    match (answer["rows"].as_array(), ours) {
        (None, Err(_)) => None,
        (None, Ok(_)) => Some("answered"),
        (Some(_), Err(_)) => Some("refused"),
        (Some(theirs), Ok(ours)) => {
            let theirs = theirs.iter().map(|row| {
                row.as_array().unwrap().iter().map(|cell| cell.as_str().map(str::to_owned)).collect::<Vec<_>>()
            });
            let (mut theirs, mut ours) = (theirs.collect::<Vec<_>>(), ours.clone());
            if !statement.contains("ORDER BY") {
                theirs.sort();
                ours.sort();
            }
            (theirs != ours).then_some("differs")
        }
    }
}

#[test]
fn statements_are_answered_as_spark_answers_them_or_are_listed() {
    let context = Context::new("local[1]", "spark's statements").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    tables(&sql);
    let answers: Value = serde_json::from_str(ANSWERS).unwrap();
    let answers = answers["answers"].as_array().unwrap();
    assert!(answers.len() >= 300);

    let mut found = BTreeMap::new();
    let mut told = String::new();
    for answer in answers {
        let statement = answer["ask"].as_str().unwrap();
        let ours = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ours(&sql, statement)));
        let ours = ours.unwrap_or_else(|_| Err("it panicked".to_owned()));
        if let Some(kind) = compared(answer, &ours) {
            found.insert(statement, kind);
            let _ = writeln!(
                told,
                "{kind}\t{statement}\n    spark {}{}\n    ours  {ours:?}",
                answer["rows"], answer["fails"]
            );
        }
    }
    let otherwise: Vec<_> = found.iter().filter(|(_, kind)| **kind != "refused").collect();
    assert!(otherwise.is_empty(), "{otherwise:#?} have other answers than Spark's, and nothing says so:\n{told}");
    let listed: BTreeMap<&str, &str> = LISTED
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once('\t').map(|(kind, statement)| (statement, kind)))
        .collect();
    if listed != found {
        let list: String = found.iter().map(|(statement, kind)| format!("{kind}\t{statement}\n")).collect();
        panic!(
            "{told}\nthe list would be, with {} of {} the same:\n{list}",
            answers.len() - found.len(),
            answers.len()
        );
    }
}
