//! Rows whose values are at the edges of their types: a client has them as they were, in text and in binary form.

use std::error::Error;

use bytes::Bytes;
use millstream::Time;
use millstream::sql::{Date, Decimal, Row, SqlContext};
use millstream::sql_live::ServeSql as _;
use millstream_testkit::{Batches, Row as Given, StreamTest};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{FromSql, Type};

use crate::house::{RUNTIME, connect_to, refused, told};

#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
struct Deep {
    far: Option<f64>,
    name: Option<String>,
}

#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
struct Inner {
    name: Option<String>,
    much: Option<Decimal<38, 10>>,
    days: Vec<Option<Date>>,
    deep: Option<Deep>,
}

/// A column of each kind.
#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
struct Wide {
    n: i64,
    flag: Option<bool>,
    tiny: Option<i8>,
    small: Option<i16>,
    whole: Option<i32>,
    long: Option<i64>,
    byte: Option<u8>,
    port: Option<u16>,
    count: Option<u32>,
    large: Option<u64>,
    single: Option<f32>,
    double: Option<f64>,
    text: Option<String>,
    raw: Option<Bytes>,
    day: Option<Date>,
    at: Option<Time>,
    price: Option<Decimal<5, 5>>,
    much: Option<Decimal<38, 0>>,
    texts: Option<Vec<Option<String>>>,
    numbers: Vec<i64>,
    floats: Vec<Option<f32>>,
    blobs: Vec<Option<Bytes>>,
    times: Vec<Option<Time>>,
    amounts: Vec<Option<Decimal<38, 10>>>,
    inner: Option<Inner>,
    inners: Vec<Option<Inner>>,
}

/// A value, whatever it came as.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Single(u32),
    Double(u64),
    /// So many units of the last digit, and how many digits are behind the point.
    Number(i128, usize),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970.
    Day(i64),
    /// Microseconds since 1970.
    At(i64),
    List(Vec<Value>),
    Row(Vec<Value>),
}

/// NaN is one value, whatever its bits.
fn single(float: f32) -> Value {
    Value::Single(if float.is_nan() { f32::NAN } else { float }.to_bits())
}

fn double(float: f64) -> Value {
    Value::Double(if float.is_nan() { f64::NAN } else { float }.to_bits())
}

trait Sent {
    fn value(&self) -> Value;
}

macro_rules! sent {
    ($($of:ty => |$it:ident| $value:expr;)*) => {$(
        impl Sent for $of {
            fn value(&self) -> Value {
                let $it = self;
                $value
            }
        }
    )*};
}

sent! {
    bool => |it| Value::Bool(*it);
    i8 => |it| Value::Int((*it).into());
    i16 => |it| Value::Int((*it).into());
    i32 => |it| Value::Int((*it).into());
    i64 => |it| Value::Int(*it);
    u8 => |it| Value::Int((*it).into());
    u16 => |it| Value::Int((*it).into());
    u32 => |it| Value::Int((*it).into());
    u64 => |it| Value::Number((*it).into(), 0);
    f32 => |it| single(*it);
    f64 => |it| double(*it);
    String => |it| Value::Text(it.clone());
    Bytes => |it| Value::Bytes(it.to_vec());
    Date => |it| Value::Day(it.days().into());
    Time => |it| Value::At(it.as_millis() * 1000);
    Deep => |it| Value::Row(vec![it.far.value(), it.name.value()]);
    Inner => |it| Value::Row(vec![it.name.value(), it.much.value(), it.days.value(), it.deep.value()]);
}

impl<const P: u8, const S: i8> Sent for Decimal<P, S> {
    fn value(&self) -> Value {
        Value::Number(self.units(), S as usize)
    }
}

impl<T: Sent> Sent for Option<T> {
    fn value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::value)
    }
}

impl<T: Sent> Sent for Vec<T> {
    fn value(&self) -> Value {
        Value::List(self.iter().map(T::value).collect())
    }
}

impl Wide {
    fn values(&self) -> Vec<Value> {
        let all: [&dyn Sent; 26] = [
            &self.n,
            &self.flag,
            &self.tiny,
            &self.small,
            &self.whole,
            &self.long,
            &self.byte,
            &self.port,
            &self.count,
            &self.large,
            &self.single,
            &self.double,
            &self.text,
            &self.raw,
            &self.day,
            &self.at,
            &self.price,
            &self.much,
            &self.texts,
            &self.numbers,
            &self.floats,
            &self.blobs,
            &self.times,
            &self.amounts,
            &self.inner,
            &self.inners,
        ];
        all.iter().map(|value| value.value()).collect()
    }
}

// ---------------------------------------------------------------------------------------------- what is made up

macro_rules! edged {
    ($of:ty) => {
        option::of(prop_oneof![any::<$of>(), select(vec![<$of>::MIN, <$of>::MAX, 0, 1])])
    };
}

fn texts() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "null",
        "NULL",
        " ",
        "{}",
        "()",
        ",",
        "\"",
        "\\",
        "\\x",
        "a\"b\\c",
        "\u{0}",
        "\n",
        "\u{b}",
        "\u{7f}",
        "\u{1f30a}",
    ];
    prop_oneof![
        ".{0,12}",
        select(odd.to_vec()).prop_map(str::to_owned),
        // Every byte that a character of one byte is.
        vec(0..0x80u8, 0..20).prop_map(|bytes| bytes.into_iter().map(char::from).collect::<String>()),
    ]
}

fn blobs() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn singles() -> impl Strategy<Value = f32> {
    prop_oneof![proptest::num::f32::ANY, select(vec![-0.0, f32::INFINITY, f32::MIN, f32::MIN_POSITIVE, 1e-45])]
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![proptest::num::f64::ANY, select(vec![-0.0, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE, 5e-324])]
}

fn decimals<const P: u8, const S: i8>() -> impl Strategy<Value = Decimal<P, S>> {
    let most = 10i128.pow(P.into()) - 1;
    let units = prop_oneof![-most..=most, -20_000..=20_000i128, select(vec![most, -most, 0])];
    units.prop_map(move |units| Decimal::from_units(units.clamp(-most, most)))
}

/// The days that Postgres has.
fn days() -> impl Strategy<Value = Date> {
    let days =
        prop_oneof![-2_440_588..=2_145_042_905, -800_000..3_000_000, select(vec![-2_440_588, -719_163, 2_932_897])];
    days.prop_map(Date::from_days)
}

/// The times that it has and that fit.
fn times() -> impl Strategy<Value = Time> {
    let first = -2_440_588 * 86_400_000i64;
    let millis =
        prop_oneof![first..=i64::MAX / 1000, -4_000_000_000_000..4_000_000_000_000i64, select(vec![first, -1])];
    millis.prop_map(Time::from_millis)
}

fn inners() -> impl Strategy<Value = Inner> {
    let deep = (option::of(doubles()), option::of(texts())).prop_map(|(far, name)| Deep { far, name });
    (option::of(texts()), option::of(decimals::<38, 10>()), vec(option::of(days()), 0..3), option::of(deep))
        .prop_map(|(name, much, days, deep)| Inner { name, much, days, deep })
}

fn rows() -> impl Strategy<Value = Vec<Wide>> {
    let whole = (option::of(any::<bool>()), edged!(i8), edged!(i16), edged!(i32), edged!(i64));
    let positive = (edged!(u8), edged!(u16), edged!(u32), edged!(u64));
    let others = (option::of(singles()), option::of(doubles()), option::of(texts()), option::of(blobs()));
    let numbers =
        (option::of(days()), option::of(times()), option::of(decimals::<5, 5>()), option::of(decimals::<38, 0>()));
    let lists = (
        option::of(vec(option::of(texts()), 0..4)),
        vec(any::<i64>(), 0..4),
        vec(option::of(singles()), 0..4),
        vec(option::of(blobs()), 0..4),
        vec(option::of(times()), 0..4),
        vec(option::of(decimals::<38, 10>()), 0..4),
    );
    let nested = (option::of(inners()), vec(option::of(inners()), 0..3));
    let row = (whole, positive, others, numbers, lists, nested).prop_map(|(w, p, o, n, l, i)| Wide {
        n: 0,
        flag: w.0,
        tiny: w.1,
        small: w.2,
        whole: w.3,
        long: w.4,
        byte: p.0,
        port: p.1,
        count: p.2,
        large: p.3,
        single: o.0,
        double: o.1,
        text: o.2,
        raw: o.3,
        day: n.0,
        at: n.1,
        price: n.2,
        much: n.3,
        texts: l.0,
        numbers: l.1,
        floats: l.2,
        blobs: l.3,
        times: l.4,
        amounts: l.5,
        inner: i.0,
        inners: i.1,
    });
    vec(row, 0..30).prop_map(|mut rows| {
        rows.iter_mut().zip(0..).for_each(|(row, n)| row.n = n);
        rows
    })
}

// ---------------------------------------------------------------------------------------------- what comes, in binary form

/// A value as it comes, with the number of its type.
struct Raw(u32, Option<Vec<u8>>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(of: &Type, bytes: &'a [u8]) -> Result<Raw, Box<dyn Error + Sync + Send>> {
        Ok(Raw(of.oid(), Some(bytes.to_vec())))
    }

    fn from_sql_null(of: &Type) -> Result<Raw, Box<dyn Error + Sync + Send>> {
        Ok(Raw(of.oid(), None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Reads what lies in a value of several parts.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(length);
        self.0 = left;
        taken
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    fn number(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    fn value(&mut self, of: u32) -> Value {
        match self.number() {
            -1 => Value::Null,
            length => binary(of, self.take(length as usize)),
        }
    }
}

fn binary(of: u32, bytes: &[u8]) -> Value {
    let mut reader = Reader(bytes);
    let value = match Type::from_oid(of).unwrap() {
        Type::BOOL => Value::Bool(reader.take(1) == [1]),
        Type::INT2 => Value::Int(reader.short().into()),
        Type::INT4 => Value::Int(reader.number().into()),
        Type::INT8 => Value::Int(i64::from_be_bytes(reader.take(8).try_into().unwrap())),
        Type::FLOAT4 => single(f32::from_be_bytes(reader.take(4).try_into().unwrap())),
        Type::FLOAT8 => double(f64::from_be_bytes(reader.take(8).try_into().unwrap())),
        Type::TEXT => Value::Text(String::from_utf8(reader.take(bytes.len()).to_vec()).unwrap()),
        Type::BYTEA => Value::Bytes(reader.take(bytes.len()).to_vec()),
        Type::DATE => Value::Day(i64::from(reader.number()) + 10_957),
        Type::TIMESTAMP => Value::At(i64::from_be_bytes(reader.take(8).try_into().unwrap()) + 10_957 * 86_400_000_000),
        Type::NUMERIC => {
            let (groups, weight) = (reader.short(), i32::from(reader.short()));
            let (sign, scale) = (reader.short(), i32::from(reader.short()));
            let unsigned: i128 = (0..i32::from(groups))
                .map(|at| {
                    let (group, shift) = (i128::from(reader.short()), 4 * (weight - at) + scale);
                    let ten = 10i128.pow(shift.unsigned_abs());
                    if shift < 0 { group / ten } else { group * ten }
                })
                .sum();
            Value::Number(if sign == 0 { unsigned } else { -unsigned }, scale as usize)
        }
        Type::RECORD => Value::Row(
            (0..reader.number())
                .map(|_| {
                    let of = reader.number() as u32;
                    reader.value(of)
                })
                .collect(),
        ),
        _ => {
            let (dimensions, has_nulls, of) = (reader.number(), reader.number(), reader.number() as u32);
            let length = if dimensions == 0 { 0 } else { (reader.number(), reader.number()).0 };
            let values: Vec<Value> = (0..length).map(|_| reader.value(of)).collect();
            assert_eq!(has_nulls == 1, values.contains(&Value::Null));
            Value::List(values)
        }
    };
    assert!(reader.0.is_empty(), "{} bytes are left of {of}", reader.0.len());
    value
}

// ---------------------------------------------------------------------------------------------- what comes as text

/// Reads a text as a value of the kind that another one is: texts do not say what they are.
fn read(text: &str, like: &Value) -> Option<Value> {
    Some(match like {
        Value::Null => return None,
        Value::Bool(_) => Value::Bool(text == "t"),
        Value::Int(_) => Value::Int(text.parse().ok()?),
        Value::Single(_) => single(text.parse().ok()?),
        Value::Double(_) => double(text.parse().ok()?),
        Value::Number(..) => {
            let behind = text.split_once('.').map_or(0, |(_, behind)| behind.len());
            Value::Number(text.replace('.', "").parse().ok()?, behind)
        }
        Value::Text(_) => Value::Text(text.to_owned()),
        Value::Bytes(_) => {
            let digits = text.strip_prefix("\\x")?.as_bytes();
            let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
            Value::Bytes(digits.chunks(2).map(byte).collect::<Option<_>>()?)
        }
        Value::Day(_) => Value::Day(day(text)?),
        Value::At(_) => {
            let (date, time) = text.split_once(' ')?;
            let (time, era) = time.split_at(15);
            let parts: Vec<i64> = time.split([':', '.']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
            let seconds = (day(&format!("{date}{era}"))? * 24 + parts[0]) * 3600 + parts[1] * 60 + parts[2];
            Value::At(seconds * 1_000_000 + parts[3])
        }
        Value::List(like) => Value::List(all(&parts(text, '{', '}')?, like)?),
        Value::Row(like) => Value::Row(all(&parts(text, '(', ')')?, like)?),
    })
}

fn day(text: &str) -> Option<i64> {
    let (text, is_before) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let parts: Vec<u32> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let year = if is_before { 1 - parts[0] as i32 } else { parts[0] as i32 };
    Some(Date::from_ymd(year, parts[1], parts[2])?.days().into())
}

fn all(parts: &[Option<String>], like: &[Value]) -> Option<Vec<Value>> {
    let one = |(part, like): (&Option<String>, &Value)| match part {
        Some(text) => read(text, like),
        None => Some(Value::Null),
    };
    (parts.len() == like.len()).then(|| parts.iter().zip(like).map(one).collect())?
}

/// The parts of a list or of a row, as Postgres reads them.
fn parts(text: &str, open: char, close: char) -> Option<Vec<Option<String>>> {
    let inside = text.strip_prefix(open)?.strip_suffix(close)?;
    if open == '{' && inside.is_empty() {
        return Some(Vec::new());
    }
    let (mut all, mut part, mut was_quoted, mut in_quotes) = (Vec::new(), String::new(), false, false);
    let mut chars = inside.chars().peekable();
    loop {
        match chars.next() {
            Some('\\') => part.push(chars.next()?),
            Some('"') if in_quotes && open == '(' && chars.peek() == Some(&'"') => part.extend(chars.next()),
            Some('"') => (was_quoted, in_quotes) = (true, !in_quotes),
            Some(c) if in_quotes || c != ',' => part.push(c),
            end => {
                let is_null = !was_quoted && if open == '{' { part == "NULL" } else { part.is_empty() };
                let whole = std::mem::take(&mut part);
                all.push((!is_null).then_some(whole));
                was_quoted = false;
                if end.is_none() {
                    return (!in_quotes).then_some(all);
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- the tests

const ASKED: &str = "SELECT * FROM wide ORDER BY n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_as_they_were_in_text_and_in_binary_form(rows in rows()) {
        let mut test = StreamTest::new();
        let given = test.input(Batches::new(vec![Given::Elements(rows.clone())]));
        let sql = SqlContext::new(test.ssc()).unwrap();
        sql.register_stream("wide", &given);
        let server = sql.serve("127.0.0.1:0").unwrap();
        test.run(1).unwrap();
        let client = connect_to(server.address(), "user=x").unwrap();
        let came = RUNTIME.block_on(client.query(ASKED, &[])).unwrap_or_else(|e| panic!("{}", told(&e)));
        prop_assert_eq!(came.len(), rows.len());
        for (row, came) in rows.iter().zip(&came) {
            for (at, want) in row.values().iter().enumerate() {
                let Raw(of, bytes) = came.get(at);
                let value = bytes.map_or(Value::Null, |bytes| binary(of, &bytes));
                prop_assert_eq!(&value, want, "{} in binary form", came.columns()[at].name());
            }
        }
        let came = RUNTIME.block_on(client.simple_query(ASKED)).unwrap_or_else(|e| panic!("{}", told(&e)));
        let came = came.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let came: Vec<_> = came.collect();
        prop_assert_eq!(came.len(), rows.len());
        for (row, came) in rows.iter().zip(&came) {
            for (at, want) in row.values().iter().enumerate() {
                let text = came.get(at);
                let value = text.map_or(Some(Value::Null), |text| read(text, want));
                prop_assert_eq!(value.as_ref(), Some(want), "{} as text: {:?}", came.columns()[at].name(), text);
            }
        }
        server.stop();
    }
}

#[test]
fn what_has_no_form_is_refused_by_name() {
    let test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let rows = vec![(1i64, vec![vec![1i64]], Date::from_days(i32::MAX))];
    sql.create_data_frame(rows).unwrap().create_or_replace_temp_view("odd").unwrap();
    let server = sql.serve("127.0.0.1:0").unwrap();
    let client = connect_to(server.address(), "user=x").unwrap();
    let (code, message) = refused(&client, "SELECT * FROM odd");
    assert!(code == "0A000" && message.contains("\"_2\"") && message.contains("List"), "{code} {message}");
    let (code, message) = refused(&client, "SELECT _1, _3 FROM odd");
    assert!(code == "22008" && message.contains("Date32"), "{code} {message}");
    let many: Vec<String> = (0..1665).map(|n| format!("{n} AS c{n}")).collect();
    let (code, message) = refused(&client, &format!("SELECT {}", many.join(", ")));
    assert_eq!(code, "54011", "{message}");
    assert_eq!(crate::house::ask(&client, "SELECT _1, _2[1] FROM odd"), "1|{1}");
}
