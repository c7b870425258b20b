//! Rows of types that have only serde: on streams, in data frames and files, and read back from columns in whatever form.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use millstream::sql::arrow::array::{Array as _, StructArray};
use millstream::sql::arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, StringArray, StringViewArray,
};
use millstream::sql::arrow::datatypes::{Field, Fields, Int32Type};
use millstream::sql::arrow::record_batch::RecordBatch as ArrowBatch;
use millstream::sql::{Columnar, Files, RecordBatch, Serde, SqlContext, SqlRdds as _, SqlStreams as _};
use millstream::{Context, DStream, ErrorKind};
use millstream_testkit::{Check, StreamTest, batches};
use serde::{Deserialize, Serialize};

/// As another crate would have it: it knows serde, and nothing of SQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    pump: String,
    celsius: f64,
    at: DateTime<Utc>,
    tags: Vec<String>,
    place: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    floor: i32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Hot {
    pump: String,
    hottest: f64,
    hour: i32,
}

fn event(pump: &str, celsius: f64) -> Event {
    Event {
        pump: pump.to_owned(),
        celsius,
        at: "2024-02-29T13:30:00.25Z".parse().unwrap(),
        tags: vec!["roof".to_owned(), pump.to_owned()],
        place: (celsius > 50.0).then_some(Place { floor: 3 }),
    }
}

fn events(test: &StreamTest) -> DStream<Serde<Event>> {
    let pairs = test.input(batches![[("a", 20.0), ("b", 70.5), ("a", 22.0)], [], [("b", 80.0)]]);
    pairs.map(|(pump, celsius)| event(&pump, celsius)).map(Serde)
}

const HOTTEST: &str = "SELECT pump, max(celsius) AS hottest, hour(CAST(at AS TIMESTAMP)) AS hour FROM events \
                       WHERE tags[0] = 'roof' GROUP BY pump, at ORDER BY pump";

#[test]
fn a_statement_reads_and_gives_types_that_have_only_serde_wherever_it_runs() {
    for partitions in [1, 3] {
        for check in Check::new(partitions, 2).everywhere() {
            let mut test = check.context();
            let sql = SqlContext::new(test.ssc()).unwrap();
            let hot = events(&test).sql::<Serde<Hot>>(&sql, "events", HOTTEST);
            let seen = test.collect(&hot.map(|Serde(hot)| (hot.pump, hot.hottest, hot.hour)));
            test.run(3).unwrap();
            let want = "1s (a,22.0,13) (b,70.5,13)\n3s (b,80.0,13)";
            assert_eq!(seen.table().to_string(), want, "{check:?}");
        }
    }
}

#[test]
fn columns_of_such_types_are_rows_again() {
    let mut test = StreamTest::new();
    let columns: DStream<RecordBatch> = events(&test).columns();
    let back = columns.rows::<Serde<Event>>().map(|Serde(event)| (event.pump, event.place.map(|p| p.floor)));
    let seen = test.collect(&back);
    test.run(3).unwrap();
    assert_eq!(seen.table().to_string(), "1s (a,None) (b,Some(3)) (a,None)\n3s (b,Some(3))");

    let context = Context::new("local[2]", "serde").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    let rows = vec![Serde(event("a", 1.5)), Serde(event("b", 99.0))];
    let frame = sql.create_data_frame(rows.clone()).unwrap();
    assert_eq!(frame.collect::<Serde<Event>>().unwrap(), rows);
    let rdd = context.parallelize(vec![("to".to_owned(), 1i64), ("be".to_owned(), 2)], 2).map(Serde);
    assert_eq!(rdd.to_df().unwrap().collect::<Serde<(String, i64)>>().unwrap(), rdd.collect().unwrap());
    let names = rdd.to_df_named(["word", "n"]).unwrap().select_expr(["n"]).unwrap();
    assert_eq!(names.collect::<Serde<i32>>().unwrap(), [Serde(1), Serde(2)], "a value alone is read by position");
    let none = context.parallelize(Vec::<Serde<Event>>::new(), 1).to_df().unwrap();
    assert_eq!(none.schema().fields().len(), 5, "columns are known without a row");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("places.csv");
    std::fs::write(&path, "floor\n3\n4\n").unwrap();
    sql.register_files("places", Files::csv(&path).rows_of::<Serde<Place>>()).unwrap();
    let floors = sql.sql("SELECT floor FROM places WHERE floor > 3").unwrap();
    assert_eq!(floors.collect::<Serde<Place>>().unwrap(), [Serde(Place { floor: 4 })]);
}

#[test]
fn states_of_such_rows_are_kept_up_to_date() {
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let statement = "SELECT pump, max(celsius) AS hottest, 0 AS hour FROM events GROUP BY pump ORDER BY pump";
    let hot = events(&test).continuous_sql::<Serde<Hot>>(&sql, "events", statement);
    let seen = test.collect(&hot.map(|Serde(hot)| (hot.pump, hot.hottest)));
    test.run(3).unwrap();
    assert_eq!(seen.table().to_string(), "1s (a,22.0) (b,70.5)\n2s (a,22.0) (b,70.5)\n3s (a,22.0) (b,80.0)");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Deep {
    name: String,
    n: Option<i64>,
    points: Vec<Point>,
    point: Option<Point>,
    counts: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i64,
    y: Option<String>,
}

fn deep() -> Vec<Serde<Deep>> {
    let point = |x: i64, y: Option<&str>| Point { x, y: y.map(str::to_owned) };
    let counts = |n: usize| (0..n).map(|i| (format!("k{i}"), i as f64)).collect();
    vec![
        Serde(Deep { name: "a".into(), n: Some(1), points: vec![point(1, None)], point: None, counts: counts(2) }),
        Serde(Deep { name: "b".into(), n: None, points: vec![], point: Some(point(2, Some("y"))), counts: counts(0) }),
    ]
}

#[test]
fn such_rows_are_read_from_whatever_form_columns_have() {
    let written = Deep::of(deep());
    let by = |name: &str| Arc::clone(written.column_by_name(name).unwrap());
    // Other types of the same, another order, other case, and a column more; nested fields by name, too.
    let names: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
    let points = by("points");
    let points = points.as_list::<i32>();
    let inner = points.values().as_struct();
    let (x, y): (ArrayRef, ArrayRef) =
        (Arc::new(Int32Array::from(vec![1])), Arc::new(StringViewArray::from(vec![None::<&str>])));
    assert_eq!(inner.len(), 1);
    let turned =
        Fields::from(vec![Field::new("Y", y.data_type().clone(), true), Field::new("x", x.data_type().clone(), true)]);
    let inner = StructArray::new(turned.clone(), vec![y, x], None);
    let item = Arc::new(Field::new("element", inner.data_type().clone(), true));
    let points = ListArray::new(item, points.offsets().clone(), Arc::new(inner), None);
    let columns: [(&str, ArrayRef); 6] = [
        ("more", Arc::new(StringArray::from(vec!["?", "?"]))),
        ("N", Arc::new(Int32Array::from(vec![Some(1), None]))),
        ("counts", by("counts")),
        ("points", Arc::new(points)),
        ("Name", Arc::new(names)),
        ("point", by("point")),
    ];
    let columns = RecordBatch::from(ArrowBatch::try_from_iter(columns).unwrap());
    assert_eq!(Serde::<Deep>::read(columns).unwrap(), deep());
}

impl Deep {
    fn of(rows: Vec<Serde<Deep>>) -> RecordBatch {
        Serde::write(rows.into_iter()).unwrap().remove(0)
    }
}

#[test]
fn what_cannot_be_read_names_the_field_and_what_to_do() {
    let written = Deep::of(deep());
    let with = |name: &str, column: ArrayRef| {
        let columns = written.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let columns = columns.into_iter().map(|n| {
            let column = if n == name { Arc::clone(&column) } else { Arc::clone(written.column_by_name(&n).unwrap()) };
            (n, column)
        });
        let columns = RecordBatch::from(ArrowBatch::try_from_iter(columns).unwrap());
        let error = Serde::<Deep>::read(columns).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        error.message().to_owned()
    };
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5]));
    for (name, column, want) in [
        (
            "name",
            Arc::clone(&texts),
            "the column `name` is null in row 1, and the field is String: make it Option<String>",
        ),
        ("n", Arc::clone(&numbers), "the column `n` is Float64 and the field is i64: select CAST(n AS BIGINT)"),
        ("point", Arc::clone(&numbers), "the column `point` is Float64 and the field is struct"),
        ("points", Arc::clone(&numbers), "the column `points` is Float64 and the field is Vec"),
        ("counts", Arc::clone(&numbers), "the column `counts` is Float64 and the field is map"),
    ] {
        let message = with(name, column);
        assert!(message.contains(want), "{message}");
    }
    let short = RecordBatch::from(written.project(&[0, 1]).unwrap());
    let error = Serde::<Deep>::read(short).unwrap_err();
    assert!(error.message().starts_with("no column is called `points` There are name, n"), "{error}");
    // What only the type itself can say.
    let wrong = [("floor", Arc::new(Int64Array::from(vec![1 << 40])) as ArrayRef)];
    let error = Serde::<Place>::read(RecordBatch::from(ArrowBatch::try_from_iter(wrong).unwrap())).unwrap_err();
    assert!(error.message().starts_with("the column `floor` is Int64 and does not fit into i32"), "{error}");
    let wrong = [("value", Arc::new(StringArray::from(vec!["1970-01-01T00:00:00Z", "noon"])) as ArrayRef)];
    let error = Serde::<DateTime<Utc>>::read(RecordBatch::from(ArrowBatch::try_from_iter(wrong).unwrap())).unwrap_err();
    assert!(error.message().contains("cannot be read from columns: "), "{error}");
}

#[test]
fn a_type_without_columns_is_reported_by_start_with_its_line() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Anything {
        of: serde_json::Value,
    }
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let rows = test.input(batches![[1i64]]).map(|n| Serde(Anything { of: n.into() }));
    let _seen = test.collect(&rows.sql::<i64>(&sql, "t", "SELECT count(*) FROM t"));
    let error = test.run(1).unwrap_err();
    let want = "`Anything` is no row of columns: its field `of` decides by what it reads what it is";
    assert!(error.to_string().contains(want) && error.to_string().contains("serde_rows.rs:"), "{error}");

    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let numbers = test.input(batches![[1i64]]);
    let _seen = test.collect(&numbers.sql::<Serde<Anything>>(&sql, "t", "SELECT value FROM t"));
    let error = test.run(1).unwrap_err();
    assert!(error.to_string().contains(want), "{error}");

    let context = Context::new("local[1]", "serde").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    let error = sql.create_data_frame(vec![Serde(Anything { of: 1.into() })]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
