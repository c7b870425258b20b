//! Rows as columns and back: every kind of field, every form in which a column may come, and what is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use millstream::sql::arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, Int64Array, LargeStringArray, MapBuilder,
    StringArray, StringBuilder, StringViewArray, TimestampMicrosecondArray,
};
use millstream::sql::arrow::datatypes::Int32Type;
use millstream::sql::arrow::record_batch::RecordBatch as ArrowBatch;
use millstream::sql::{Date, Decimal, RecordBatch, Row, SqlStreams as _, from_columns, schema_of, to_columns};
use millstream::{ErrorKind, Text, Time};
use millstream_testkit::{batches, check};

#[derive(Clone, Debug, PartialEq, Row)]
struct Place {
    x: i32,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Row)]
struct All {
    a: i8,
    b: i16,
    c: i32,
    d: i64,
    e: u8,
    f: u16,
    g: u32,
    h: u64,
    i: f32,
    j: f64,
    k: bool,
    l: char,
    m: String,
    n: Text,
    o: Bytes,
    p: Time,
    q: Date,
    r: Decimal<12, 3>,
    s: Option<i64>,
    t: Vec<Option<String>>,
    u: Option<Vec<i32>>,
    v: Place,
    w: Option<Place>,
    x: Vec<Place>,
    y: (i64, String),
    #[row(rename = "zedZed")]
    z: Option<Vec<Vec<u8>>>,
}

fn all(n: i64) -> All {
    let some = n % 3 != 0;
    let place = Place { x: n as i32, note: some.then(|| format!("n{n}")) };
    All {
        a: n as i8,
        b: -(n as i16),
        c: i32::MAX - n as i32,
        d: i64::MIN + n,
        e: n as u8,
        f: u16::MAX,
        g: n as u32,
        h: u64::MAX - n as u64,
        i: n as f32 / 2.0,
        j: n as f64 / 3.0,
        k: some,
        l: if some { 'ü' } else { 'a' },
        m: "x".repeat(n as usize % 40),
        n: Text::from(format!("text {n}")),
        o: Bytes::from(vec![0, n as u8]),
        p: Time::from_millis(n * 1000 - 7),
        q: Date::from_days(n as i32 - 5),
        r: Decimal::from_units(i128::from(n) * -1001),
        s: some.then_some(n),
        t: (0..n % 4).map(|i| (i != 1).then(|| format!("t{i}"))).collect(),
        u: some.then(|| vec![1; n as usize % 3]),
        v: place.clone(),
        w: some.then(|| place.clone()),
        x: vec![place; n as usize % 3],
        y: (n, format!("y{n}")),
        z: some.then(|| vec![vec![], vec![n as u8]]),
    }
}

#[test]
fn every_kind_of_field_is_itself_again() {
    for count in [0, 1, 100] {
        let rows: Vec<All> = (0..count).map(all).collect();
        let columns = to_columns(rows.clone()).unwrap();
        assert_eq!(columns.schema(), schema_of::<All>());
        assert_eq!(from_columns::<All>(&columns).unwrap(), rows);
    }
    let schema = schema_of::<All>();
    let nullable: Vec<&str> = schema.fields().iter().filter(|f| f.is_nullable()).map(|f| f.name().as_str()).collect();
    assert_eq!(nullable, ["s", "u", "w", "zedZed"]);
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    ArrowBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap().into()
}

#[test]
fn columns_are_found_without_case_and_in_whatever_form_they_come() {
    #[derive(Clone, Debug, PartialEq, Row)]
    struct Reading {
        sensor: String,
        celsius: f64,
        count: i64,
        at: Time,
    }
    let want = Reading { sensor: "p1".to_owned(), celsius: 71.0, count: 3, at: Time::from_millis(5) };
    let dictionary: DictionaryArray<Int32Type> = vec!["p1"].into_iter().collect();
    let texts: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["p1"])),
        Arc::new(LargeStringArray::from(vec!["p1"])),
        Arc::new(StringViewArray::from(vec!["p1"])),
        Arc::new(dictionary),
    ];
    let numbers: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![71.0])), Arc::new(Int32Array::from(vec![71]))];
    for text in &texts {
        for number in &numbers {
            let columns = batch(vec![
                ("Count", Arc::new(Int32Array::from(vec![3]))),
                ("SENSOR", Arc::clone(text)),
                ("celsius", Arc::clone(number)),
                ("unasked", Arc::new(Int32Array::from(vec![None::<i32>]))),
                ("at", Arc::new(TimestampMicrosecondArray::from(vec![5999]))),
            ]);
            assert_eq!(
                from_columns::<Reading>(&columns).unwrap()[..],
                std::slice::from_ref(&want)[..],
                "{}",
                text.data_type()
            );
        }
    }
}

#[test]
fn what_cannot_be_read_names_the_field_the_nearest_column_and_what_to_do() {
    let place = |columns| from_columns::<Place>(&batch(columns)).unwrap_err();
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let note: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));

    let error = place(vec![("x", Arc::clone(&x)), ("note", Arc::clone(&note))]);
    let want = "the column `x` is null in row 1, and the field is i32: make it Option<i32>, or select coalesce(x, …)";
    assert_eq!((error.kind(), error.message()), (ErrorKind::Data, want));

    let error = place(vec![("x", Arc::clone(&note)), ("note", Arc::clone(&note))]);
    let want = "the column `x` is Utf8 and the field is i32: select CAST(x AS INT), or change the field";
    assert_eq!(error.message(), want);

    let error = place(vec![("x", Arc::new(Int32Array::from(vec![1, 2]))), ("noet", Arc::clone(&note))]);
    let want = "no column is called `note`, did you mean `noet`? There are x, noet";
    assert_eq!(error.message(), want);

    let error = place(vec![("x", Arc::clone(&x)), ("X", Arc::clone(&x)), ("NOTE", note)]);
    assert!(error.message().contains("null in row 1"), "the exact name is taken first: {error}");

    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
    let error = from_columns::<i32>(&batch(vec![("n", wide)])).unwrap_err();
    assert!(error.message().starts_with("the column `n` is Int64 and does not fit into i32: "), "{error}");

    let error = from_columns::<(i64, i64)>(&batch(vec![("n", x)])).unwrap_err();
    assert_eq!(error.message(), "a row of 2 is read from 1 columns: n");
}

#[test]
fn a_field_inside_of_a_row_is_named_with_its_way() {
    #[derive(Clone, Debug, Row)]
    struct Inner {
        n: Option<i64>,
    }
    #[derive(Clone, Debug, Row)]
    struct Outer {
        place: Vec<Inner>,
    }
    #[derive(Clone, Debug, Row)]
    struct InnerWithout {
        n: i64,
    }
    #[derive(Clone, Debug, Row)]
    struct OuterWithout {
        place: Vec<InnerWithout>,
    }
    let columns = to_columns(vec![Outer { place: vec![Inner { n: Some(1) }, Inner { n: None }] }]).unwrap();
    let error = from_columns::<OuterWithout>(&columns).unwrap_err();
    let want = "the column `place[].n` is null in row 1, and the field is i64: make it Option<i64>, or select \
                coalesce(place[].n, …)";
    assert_eq!(error.message(), want);
    let columns = to_columns(vec![Outer { place: vec![Inner { n: Some(1) }] }]).unwrap();
    let rows = from_columns::<OuterWithout>(&columns).unwrap();
    assert_eq!(rows[0].place[0].n, 1);
}

#[test]
fn a_row_that_is_null_as_a_whole_hides_the_nulls_inside() {
    #[derive(Clone, Debug, PartialEq, Row)]
    struct Holder {
        place: Option<Place>,
    }
    let rows = vec![Holder { place: None }, Holder { place: Some(Place { x: 1, note: None }) }];
    let columns = to_columns(rows.clone()).unwrap();
    assert!(columns.column(0).as_struct().column(0).is_null(0));
    assert_eq!(from_columns::<Holder>(&columns).unwrap(), rows);
}

#[test]
fn a_row_with_a_parameter_is_a_row_for_each_column_type() {
    #[derive(Clone, Debug, PartialEq, Row)]
    struct Named<V> {
        name: String,
        value: V,
    }
    let rows = vec![Named { name: "a".to_owned(), value: Some(1.5) }, Named { name: "b".to_owned(), value: None }];
    assert_eq!(from_columns::<Named<Option<f64>>>(&to_columns(rows.clone()).unwrap()).unwrap(), rows);
}

#[test]
fn a_stream_of_columns_is_a_stream_as_any_other() {
    check(
        batches![[("a", 1i64), ("b", 2)], [], [("c", 3i64)]],
        |pairs| pairs.columns().rows::<(String, i64)>(),
        "1s (a,1) (b,2)\n2s\n3s (c,3)",
    );
    // Columns cross a shuffle, and are kept by a window.
    check(
        batches![[("a", 1i64), ("b", 2)], [("c", 3i64)]],
        |pairs| pairs.columns().repartition(2).window(millstream::secs(2)).rows::<(String, f64)>(),
        "1s (a,1.0) (b,2.0)\n2s (a,1.0) (b,2.0) (c,3.0)",
    );
}

#[derive(Clone, Copy, Debug, PartialEq, Row)]
enum State {
    Open,
    #[row(rename = "half open")]
    Half,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Valve {
    state: State,
    before: Option<State>,
    marks: BTreeMap<String, Option<i64>>,
    seen: HashMap<i64, Vec<State>>,
    names: Option<BTreeMap<i32, String>>,
}

fn valves() -> Vec<Valve> {
    let marks = BTreeMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
    let seen = HashMap::from([(7, vec![State::Open, State::Half])]);
    vec![
        Valve { state: State::Half, before: None, marks, seen, names: None },
        Valve {
            state: State::Closed,
            before: Some(State::Open),
            marks: BTreeMap::new(),
            seen: HashMap::new(),
            names: Some(BTreeMap::from([(1, "one".to_owned())])),
        },
    ]
}

#[test]
fn maps_and_enums_are_themselves_again_and_statements_ask_them() {
    let columns = to_columns(valves()).unwrap();
    assert_eq!(from_columns::<Valve>(&columns).unwrap(), valves());
    assert_eq!(to_columns(Vec::<Valve>::new()).unwrap().schema(), columns.schema());
    assert_eq!(
        from_columns::<State>(&to_columns([State::Open, State::Half]).unwrap()).unwrap(),
        [State::Open, State::Half]
    );

    let context = millstream::Context::new("local[1]", "maps").unwrap();
    let sql = millstream::sql::SqlContext::get_or_create(&context).unwrap();
    sql.create_data_frame(valves()).unwrap().create_or_replace_temp_view("valves").unwrap();
    let asked =
        sql.sql("SELECT state, marks['a'], size(names) FROM valves WHERE before = 'Open' OR state = 'half open'");
    let asked = asked.unwrap().collect::<(State, Option<i64>, Option<i32>)>().unwrap();
    assert_eq!(asked, [(State::Half, Some(1), None), (State::Closed, None, Some(1))]);
    let asked = sql.sql("SELECT key, value FROM valves LATERAL VIEW explode(marks) m AS key, value").unwrap();
    assert_eq!(asked.collect::<(String, Option<i64>)>().unwrap(), [("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
}

#[test]
fn what_is_no_variant_and_no_map_names_the_field() {
    let mistake =
        |columns: Vec<(&str, ArrayRef)>| from_columns::<Only>(&batch(columns)).unwrap_err().message().to_owned();
    #[derive(Clone, Debug, PartialEq, Row)]
    struct Only {
        state: State,
        marks: BTreeMap<String, i64>,
    }
    let marks = || {
        let columns = to_columns(vec![Only { state: State::Open, marks: BTreeMap::new() }]).unwrap();
        Arc::clone(columns.column(1))
    };
    let text = |text: Option<&str>| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    assert_eq!(
        mistake(vec![("state", text(Some("Opne"))), ("marks", marks())]),
        "the column `state` holds `Opne`, and the field is State, did you mean `Open`? There are Open, half open, Closed"
    );
    let null = mistake(vec![("state", text(None)), ("marks", marks())]);
    assert!(null.starts_with("the column `state` is null in row 0, and the field is State"), "{null}");
    let no_map = mistake(vec![("state", text(Some("Open"))), ("marks", text(Some("x")))]);
    assert!(no_map.starts_with("the column `marks` is Utf8 and the field is"), "{no_map}");
    let mut values = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    values.keys().append_value("a");
    values.values().append_value("b");
    values.append(true).unwrap();
    let other = mistake(vec![("state", text(Some("Open"))), ("marks", Arc::new(values.finish()))]);
    assert!(other.starts_with("the column `marks (values)` is Utf8 and the field is i64"), "{other}");
}
