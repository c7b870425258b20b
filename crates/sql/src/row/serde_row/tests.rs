//! Which columns a type has, and which has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use datafusion::arrow::datatypes::{DataType, Field, Fields};
use serde::de::IgnoredAny;

use super::*;

/// The columns of a type, in short.
fn columns<T: ExchangeData>() -> String {
    let shape = match look::shape::<T>() {
        Ok(shape) => shape,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            return error.message().to_owned();
        }
    };
    brief(shape.schema.fields())
}

fn brief(fields: &Fields) -> String {
    let field = |f: &Arc<Field>| {
        let optional = if f.is_nullable() { "?" } else { "" };
        let of = match f.data_type() {
            DataType::Struct(fields) => format!("{{{}}}", brief(fields)),
            DataType::List(item) => format!("[{}]", brief(&vec![Arc::clone(item)].into())),
            DataType::Map(entries, _) => format!("<{}>", brief(&vec![Arc::clone(entries)].into())),
            other => other.to_string(),
        };
        format!("{}{optional} {of}", f.name())
    };
    fields.iter().map(field).collect::<Vec<_>>().join(", ")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Inside,
    #[serde(rename = "out")]
    Outside,
    #[serde(alias = "unknown")]
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    x: f64,
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reading {
    sensor_id: u32,
    #[serde(alias = "a_kind", alias = "the_kind", alias = "zone")]
    kind: Kind,
    place: Option<Place>,
    path: Vec<Place>,
    names: BTreeMap<String, Option<i64>>,
    #[serde(skip)]
    seen: bool,
    pair: (i8, bool),
    from: IpAddr,
    count: NonZeroU32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Meters(f32);

#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Even(String);

impl TryFrom<String> for Even {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Even, String> {
        if text == "even" { Ok(Even(text)) } else { Err(format!("`{text}` is odd")) }
    }
}

impl From<Even> for String {
    fn from(even: Even) -> String {
        even.0
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Tree {
    name: String,
    below: Vec<Tree>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Flat {
    a: i32,
    #[serde(flatten)]
    rest: HashMap<String, i32>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    A { x: i32 },
    B,
}

#[derive(Clone, Serialize, Deserialize)]
enum Shaped {
    Point,
    Circle(f64),
}

#[derive(Clone, Serialize, Deserialize)]
struct Twice {
    id: i32,
    #[serde(rename = "ID")]
    other: i32,
}

#[derive(Clone, Serialize, Deserialize)]
struct Of<T> {
    of: T,
}

#[derive(Clone, Serialize, Deserialize)]
struct None_ {}

#[test]
fn the_columns_of_a_type_are_what_it_reads() {
    let place = "x Float64, note? Utf8";
    let reading = format!(
        "sensorId UInt32, kind Utf8, place? {{{place}}}, path [item {{{place}}}], \
         names <entries {{key Utf8, value? Int64}}>, pair {{_1 Int8, _2 Boolean}}, from Utf8, count UInt32"
    );
    assert_eq!(columns::<Reading>(), reading);
    assert_eq!(columns::<(String, Option<Meters>)>(), "_1 Utf8, _2? Float32");
    assert_eq!(columns::<Meters>(), "value Float32");
    assert_eq!(columns::<Kind>(), "value Utf8");
    assert_eq!(columns::<Option<i64>>(), "value? Int64");
    assert_eq!(columns::<Option<Place>>(), format!("value? {{{place}}}"));
    assert_eq!(columns::<BTreeSet<u8>>(), "value [item UInt8]");
    assert_eq!(columns::<[i16; 2]>(), "_1 Int16, _2 Int16");
    assert_eq!(columns::<(bytes::Bytes, SocketAddr)>(), "_1 Binary, _2 Utf8");
    assert_eq!(columns::<Of<Box<Of<Vec<Kind>>>>>(), "of {of [item Utf8]}");
}

#[test]
fn a_type_without_columns_is_told_with_the_field_and_the_reason() {
    let decides = "decides by what it reads what it is";
    for (columns, want) in [
        (columns::<Flat>(), decides),
        (columns::<Tagged>(), decides),
        (
            columns::<Of<serde_json::Value>>(),
            "Of<serde_json::value::Value>` is no row of columns: its field `of` decides by",
        ),
        (columns::<Tree>(), "`Tree` is no row of columns: it holds itself"),
        (columns::<Of<Shaped>>(), "its field `of` is an enum whose variant `Circle` has fields"),
        (columns::<Of<Vec<char>>>(), "its field `of[]` is a char"),
        (columns::<Of<(i8, u128)>>(), "its field `of._2` is a number of 128 bits"),
        (columns::<Of<()>>(), "its field `of` holds nothing: leave it out with #[serde(skip)]"),
        (columns::<()>(), "`()` is no row of columns: it holds nothing"),
        (columns::<None_>(), "`None_` is no row of columns: it has no fields"),
        (columns::<Twice>(), "two of its fields are called `ID`: SQL finds names without regard to case"),
        (
            columns::<Of<Even>>(),
            "its field `of` is read from some values only, and none is known that it takes: `1` is odd",
        ),
    ] {
        assert!(columns.contains(want), "{columns}\n{want}");
    }
    assert!(look::shape::<IgnoredAny>().is_err());
}

#[test]
fn what_a_type_wrote_it_reads_again() {
    let place = |x: f64, note: Option<&str>| Place { x, note: note.map(str::to_owned) };
    let reading = |n: u32| Reading {
        sensor_id: n,
        kind: [Kind::Inside, Kind::Outside, Kind::Other][n as usize % 3].clone(),
        place: n.is_multiple_of(2).then(|| place(f64::from(n), n.is_multiple_of(4).then_some("four"))),
        path: (0..n % 3).map(|i| place(f64::from(i), None)).collect(),
        names: (0..n % 4).map(|i| (format!("n{i}"), (i > 0).then_some(i64::from(i)))).collect(),
        seen: false,
        pair: (n as i8, n > 7),
        from: [n as u8, 0, 0, 1].into(),
        count: NonZeroU32::MIN.saturating_add(n),
    };
    let rows: Vec<_> = (0..ROWS as u32 + 10).map(|n| Serde(reading(n))).collect();
    let columns = Serde::write(rows.iter().cloned()).unwrap();
    assert_eq!(columns.iter().map(|c| c.num_rows()).collect::<Vec<_>>(), [ROWS, 10]);
    assert!(columns.iter().all(|c| c.schema() == Serde::<Reading>::schema().unwrap().unwrap()));
    let back: Vec<_> = columns.into_iter().flat_map(|c| Serde::<Reading>::read(c).unwrap()).collect();
    assert_eq!(back, rows);
    let alone = vec![Serde(Some(7i64)), Serde(None)];
    let columns = Serde::write(alone.clone().into_iter()).unwrap().remove(0);
    assert_eq!(Serde::<Option<i64>>::read(columns).unwrap(), alone);
    let none = Serde::<Reading>::write(std::iter::empty()).unwrap().remove(0);
    assert_eq!((none.num_rows(), Serde::<Reading>::read(none).unwrap()), (0, vec![]));
}
