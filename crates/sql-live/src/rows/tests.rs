//! Values at the edges of their types, as they are written.

use arrow_pg::datatypes::arrow_schema_to_pg_fields;
use datafusion::arrow::array::{
    BinaryArray, Date32Array, Date64Array, Decimal128Array, DictionaryArray, DurationSecondArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int8Array, Int32Array, IntervalMonthDayNanoArray, IntervalYearMonthArray, ListArray,
    NullArray, StringArray, StructArray, Time64MicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{Int8Type, Schema};
use pgwire::api::portal::Format;
use pgwire::error::ErrorInfo;

use super::*;

/// How the first value of a column is written, or with which code it is not.
fn written(column: ArrayRef, format: &Format) -> Result<Option<Vec<u8>>, String> {
    let schema = Schema::new(vec![Field::new("x", column.data_type().clone(), true)]);
    let fields = arrow_schema_to_pg_fields(&schema, format, None).unwrap();
    let rows = RecordBatch::try_new(Arc::new(schema), vec![column]).unwrap();
    let rows = encoded(&fields, &rows).map_err(|failed| ErrorInfo::from(failed).code)?;
    let (length, value) = rows[0].data.split_first_chunk::<4>().unwrap();
    match i32::from_be_bytes(*length) {
        -1 => Ok(None),
        length => {
            assert_eq!(length as usize, value.len());
            Ok(Some(value.to_vec()))
        }
    }
}

fn text(column: ArrayRef) -> String {
    match written(column, &Format::UnifiedText) {
        Ok(Some(text)) => String::from_utf8(text).unwrap(),
        Ok(None) => "-".to_owned(),
        Err(code) => code,
    }
}

fn decimal(units: i128, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(vec![units]).with_precision_and_scale(38, scale).unwrap())
}

/// A row of two texts and a decimal number.
fn row(texts: [Option<&str>; 2], number: i128) -> StructArray {
    let of = |name, of| Arc::new(Field::new(name, of, true));
    let fields = vec![of("a", DataType::Utf8), of("b", DataType::Utf8), of("c", DataType::Decimal128(38, 0))];
    let [a, b] = texts.map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef);
    StructArray::new(fields.into(), vec![a, b, decimal(number, 0)], None)
}

fn list_of(values: ArrayRef) -> ArrayRef {
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([values.len()]), values, None))
}

#[test]
fn values_at_the_edges_are_written_as_postgres_writes_them_or_refused() {
    let nines = 10i128.pow(38) - 1;
    let texts = |texts: Vec<Option<&str>>| list_of(Arc::new(StringArray::from(texts)));
    let some: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(Float64Array::from(vec![f64::INFINITY])), "Infinity"),
        (Arc::new(Float32Array::from(vec![f32::NEG_INFINITY])), "-Infinity"),
        (Arc::new(Float64Array::from(vec![-0.0])), "-0"),
        (Arc::new(Float32Array::from(vec![f32::NAN])), "NaN"),
        (Arc::new(Float64Array::from(vec![0.1])), "0.1"),
        (list_of(Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::INFINITY)]))), "{-0,NULL,Infinity}"),
        (decimal(nines, 0), "99999999999999999999999999999999999999"),
        (decimal(-nines, 38), "-0.99999999999999999999999999999999999999"),
        (decimal(-1, 2), "-0.01"),
        (Arc::new(UInt64Array::from(vec![u64::MAX])), "18446744073709551615"),
        (Arc::new(Date32Array::from(vec![-719_162])), "0001-01-01"),
        (Arc::new(Date32Array::from(vec![-719_163])), "0001-12-31 BC"),
        (Arc::new(Date32Array::from(vec![-2_440_588])), "4714-11-24 BC"),
        (Arc::new(Date32Array::from(vec![-2_440_589])), "22008"),
        (Arc::new(Date32Array::from(vec![2_932_897])), "10000-01-01"),
        (Arc::new(Date32Array::from(vec![2_145_042_905])), "5874897-12-31"),
        (Arc::new(Date32Array::from(vec![i32::MAX])), "22008"),
        (Arc::new(Date64Array::from(vec![-1])), "1969-12-31"),
        (Arc::new(Date64Array::from(vec![i64::MAX])), "22008"),
        (Arc::new(TimestampMillisecondArray::from(vec![-1])), "1969-12-31 23:59:59.999000"),
        (Arc::new(TimestampMillisecondArray::from(vec![i64::MAX])), "22008"),
        (Arc::new(TimestampMillisecondArray::from(vec![i64::MAX / 1000])), "294247-01-10 04:00:54.775000"),
        (Arc::new(TimestampSecondArray::from(vec![-62_135_596_801])), "0001-12-31 23:59:59.000000 BC"),
        (Arc::new(TimestampNanosecondArray::from(vec![-1])), "1969-12-31 23:59:59.999999"),
        (
            Arc::new(TimestampSecondArray::from(vec![253_402_300_800]).with_timezone("UTC")),
            "10000-01-01 00:00:00.000000+00",
        ),
        (Arc::new(Time64MicrosecondArray::from(vec![DAY - 1])), "23:59:59.999999"),
        (Arc::new(Time64MicrosecondArray::from(vec![DAY])), "22008"),
        (Arc::new(DurationSecondArray::from(vec![i64::MAX])), "22008"),
        (Arc::new(IntervalYearMonthArray::from(vec![None])), "-"),
        (Arc::new(IntervalMonthDayNanoArray::from(vec![None])), "-"),
        (Arc::new(NullArray::new(1)), "-"),
        (Arc::new(BinaryArray::from(vec![&[0u8, 255][..]])), "\\x00ff"),
        (list_of(Arc::new(BinaryArray::from(vec![&[0u8, 255][..]]))), r#"{"\\x00ff"}"#),
        (texts(vec![]), "{}"),
        (texts(vec![Some("a"), None, Some("")]), r#"{a,NULL,""}"#),
        (texts(vec![Some("nUll"), Some("a b"), Some("{"), Some("é")]), r#"{"nUll","a b","{",é}"#),
        (texts(vec![Some(r#"q"\"#), Some("\u{b}"), Some(",")]), "{\"q\\\"\\\\\",\"\u{b}\",\",\"}"),
        (Arc::new(row([Some(""), None], nines)), r#"("",,99999999999999999999999999999999999999)"#),
        (Arc::new(row([Some("a)"), Some(r#"q"\"#)], 0)), r#"("a)","q""\\",0)"#),
        (Arc::new(row([Some("NULL"), Some("{")], 1)), "(NULL,{,1)"),
        (list_of(Arc::new(row([Some("a,b"), None], 1))), r#"{"(\"a,b\",,1)"}"#),
        (Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8, 2]].into_iter()).unwrap()), "\\x0102"),
        (Arc::new(DictionaryArray::<Int8Type>::from_iter([Some("a")])), "a"),
        (Arc::new(DictionaryArray::<Int8Type>::from_iter([None::<&str>])), "-"),
    ];
    for (column, want) in some {
        let of = column.data_type().clone();
        let found = text(Arc::clone(&column));
        assert_eq!(found, want, "{of}");
        // What has no form as a text has none in binary.
        match written(column, &Format::UnifiedBinary) {
            Ok(value) => assert_eq!(value.is_none(), want == "-", "{of}"),
            Err(code) => assert_eq!(code, want, "{of}"),
        }
    }
    let hidden = StructArray::new_null(row([None, None], 0).fields().clone(), 1);
    assert_eq!(text(Arc::new(hidden)), "-");
    let behind = StructArray::new(
        vec![Field::new("n", DataType::Int32, true)].into(),
        vec![Arc::new(Int32Array::from(vec![7]))],
        Some(NullBuffer::from(vec![false])),
    );
    assert_eq!(text(Arc::new(behind)), "-", "what a missing row has in its columns is not told");
}

#[test]
fn a_number_of_one_byte_is_sent_as_one_of_two() {
    let number = || Arc::new(Int8Array::from(vec![-2])) as ArrayRef;
    assert_eq!(written(number(), &Format::UnifiedBinary), Ok(Some(vec![0xff, 0xfe])));
    let list = written(list_of(number()), &Format::UnifiedBinary).unwrap().unwrap();
    assert!(list.ends_with(&[0, 0, 0, 2, 0xff, 0xfe]), "{list:?}");
    assert_eq!(text(number()), "-2");
}

#[test]
fn a_decimal_number_is_four_digits_at_a_time() {
    for (units, scale, want) in [
        (0, 2, &[0, 0, 0, 2][..]),
        (12_345_678, 3, &[3, 1, 0, 3, 1, 2345, 6780]),
        (-1, 4, &[1, -1, 0x4000, 4, 1]),
        (-1, 5, &[1, -2, 0x4000, 5, 1000]),
        (10_000, 0, &[1, 1, 0, 0, 1]),
        (100_000_001, 0, &[3, 2, 0, 0, 1, 0, 1]),
        (5, 1, &[1, -1, 0, 1, 5000]),
    ] {
        let want: Vec<u8> = want.iter().flat_map(|number: &i16| number.to_be_bytes()).collect();
        assert_eq!(written(decimal(units, scale), &Format::UnifiedBinary), Ok(Some(want)), "{units} {scale}");
    }
}
