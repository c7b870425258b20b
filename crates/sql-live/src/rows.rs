//! Rows as they go over the wire, in text and in binary form.
//!
//! Plain values are written by arrow-pg. Written here is what it writes otherwise than Postgres, so that a client would read another
//! value, or none: lists and rows, numbers with more digits than 28, endless and negative zero floats, days and times far away. What the
//! wire has no form for is an error, and never NULL.

use std::sync::Arc;

use arrow_pg::encoder::{Encoder, encode_value};
use bytes::{BufMut as _, BytesMut};
use datafusion::arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, DurationMillisecondType, DurationSecondType, Field, Fields,
    Float32Type, Float64Type, Int8Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use millstream_sql::Date;
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use pgwire::types::ToSqlText;
use postgres_types::{IsNull, Kind, ToSql, Type};

use crate::error::{INTERNAL, OUT_OF_RANGE, error, of_plan};

/// Writes rows whose columns were told to the client as `fields`.
pub(crate) fn encoded(fields: &[FieldInfo], rows: &RecordBatch) -> PgWireResult<Vec<DataRow>> {
    let mut columns = Vec::with_capacity(fields.len());
    for ((column, field), to) in rows.columns().iter().zip(rows.schema_ref().fields()).zip(fields) {
        columns.push(match plain(column.data_type()) {
            Some(plain) => {
                let column = cast(column, &plain).map_err(|e| of_plan(&e.into(), ""))?;
                (column, Arc::new(field.as_ref().clone().with_data_type(plain)), to)
            }
            None => (Arc::clone(column), Arc::clone(field), to),
        });
    }
    let row = |at| -> PgWireResult<DataRow> {
        let mut out = BytesMut::with_capacity(128);
        for (column, field, to) in &columns {
            measured(&mut out, |out| write(out, column, at, field, to))?;
        }
        Ok(DataRow::new(out, columns.len() as i16))
    };
    (0..rows.num_rows()).map(row).collect()
}

/// What a column is made before it is written, if there is no form for it as it is.
fn plain(of: &DataType) -> Option<DataType> {
    match of {
        DataType::Dictionary(_, values) => Some(plain(values).unwrap_or_else(|| (**values).clone())),
        DataType::Float16 => Some(DataType::Float32),
        DataType::FixedSizeBinary(_) => Some(DataType::Binary),
        DataType::ListView(item) => Some(DataType::List(Arc::clone(item))),
        DataType::LargeListView(item) => Some(DataType::LargeList(Arc::clone(item))),
        _ => None,
    }
}

/// Writes a value behind its length, which is -1 if there is none.
fn measured(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut) -> PgWireResult<bool>) -> PgWireResult<bool> {
    let start = out.len();
    out.put_i32(-1);
    let is_there = write(out)?;
    if is_there {
        let length = (out.len() - start - 4) as i32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(is_there)
}

/// Writes a value. Returns whether there is one.
fn write(out: &mut BytesMut, array: &ArrayRef, at: usize, field: &Field, to: &FieldInfo) -> PgWireResult<bool> {
    if array.is_null(at) {
        return Ok(false);
    }
    let is_text = to.format() == FieldFormat::Text;
    match array.data_type() {
        // It is told as a number of two bytes.
        DataType::Int8 if !is_text => {
            out.put_i16(array.as_primitive::<Int8Type>().value(at).into());
            return Ok(true);
        }
        DataType::Float32 if is_text => {
            if let Some(text) = odd(array.as_primitive::<Float32Type>().value(at).into()) {
                out.put_slice(text);
                return Ok(true);
            }
        }
        DataType::Float64 if is_text => {
            if let Some(text) = odd(array.as_primitive::<Float64Type>().value(at)) {
                out.put_slice(text);
                return Ok(true);
            }
        }
        DataType::Decimal128(..) => {
            let text = array.as_primitive::<Decimal128Type>().value_as_string(at);
            if is_text {
                out.put_slice(text.as_bytes())
            } else {
                numeric(out, &text)
            }
            return Ok(true);
        }
        DataType::Date32 | DataType::Date64 => {
            let days = match array.data_type() {
                DataType::Date32 => array.as_primitive::<Date32Type>().value(at).into(),
                _ => array.as_primitive::<Date64Type>().value(at).div_euclid(DAY / 1000),
            };
            let days =
                i32::try_from(days).ok().filter(|days| DAYS.contains(days)).ok_or_else(|| out_of_range(array))?;
            match to.format() {
                FieldFormat::Binary => out.put_i32(days - EPOCH_DAYS),
                FieldFormat::Text if COMMON.contains(&days) => return one(out, array, at, field, to),
                FieldFormat::Text => out.put_slice(far(days, "").as_bytes()),
            }
            return Ok(true);
        }
        DataType::Timestamp(unit, zone) => {
            let micros = match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(at).checked_mul(1_000_000),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(at).checked_mul(1000),
                TimeUnit::Microsecond => Some(array.as_primitive::<TimestampMicrosecondType>().value(at)),
                TimeUnit::Nanosecond => {
                    Some(array.as_primitive::<TimestampNanosecondType>().value(at).div_euclid(1000))
                }
            };
            let micros = micros.filter(|micros| *micros >= FIRST_TIME).ok_or_else(|| out_of_range(array))?;
            let days = micros.div_euclid(DAY) as i32;
            match to.format() {
                FieldFormat::Binary => out.put_i64(micros - i64::from(EPOCH_DAYS) * DAY),
                FieldFormat::Text if COMMON.contains(&days) => return one(out, array, at, field, to),
                FieldFormat::Text => {
                    let (seconds, behind) = (micros.rem_euclid(DAY) / 1_000_000, micros.rem_euclid(1_000_000));
                    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                    let zone = if zone.is_some() { "+00" } else { "" };
                    let time = format!(" {hour:02}:{minute:02}:{second:02}.{behind:06}{zone}");
                    out.put_slice(far(days, &time).as_bytes());
                }
            }
            return Ok(true);
        }
        // They are made microseconds.
        DataType::Duration(unit) => {
            let fits = match unit {
                TimeUnit::Second => array.as_primitive::<DurationSecondType>().value(at).checked_mul(1_000_000),
                TimeUnit::Millisecond => array.as_primitive::<DurationMillisecondType>().value(at).checked_mul(1000),
                _ => Some(0),
            };
            fits.ok_or_else(|| out_of_range(array))?;
        }
        DataType::List(item) => return list(out, &array.as_list::<i32>().value(at), item, to),
        DataType::LargeList(item) => return list(out, &array.as_list::<i64>().value(at), item, to),
        DataType::FixedSizeList(item, _) => return list(out, &array.as_fixed_size_list().value(at), item, to),
        DataType::Struct(fields) => return record(out, array.as_struct().columns(), at, fields, to),
        _ => {}
    }
    one(out, array, at, field, to)
}

fn out_of_range(array: &ArrayRef) -> PgWireError {
    let text = format!("a value of type {} is out of range: Postgres has no form for it", array.data_type());
    error(OUT_OF_RANGE, text)
}

/// Writes a value as arrow-pg does.
fn one(out: &mut BytesMut, array: &ArrayRef, at: usize, field: &Field, to: &FieldInfo) -> PgWireResult<bool> {
    let mut one = One { out, is_there: true };
    encode_value(&mut one, array, at, field, to)?;
    match one.is_there || *array.data_type() == DataType::Null {
        true => Ok(one.is_there),
        // It says that there is none where it cannot write what there is.
        false => Err(out_of_range(array)),
    }
}

/// A value without its length.
struct One<'a> {
    out: &'a mut BytesMut,
    is_there: bool,
}

impl Encoder for One<'_> {
    type Item = ();

    fn encode_field<T: ToSql + ToSqlText + Sized>(&mut self, value: &T, to: &FieldInfo) -> PgWireResult<()> {
        let is_null = match to.format() {
            FieldFormat::Text => value.to_sql_text(to.datatype(), self.out, to.format_options()),
            FieldFormat::Binary => value.to_sql(to.datatype(), self.out),
        };
        self.is_there = matches!(is_null.map_err(PgWireError::ApiError)?, IsNull::No);
        Ok(())
    }

    fn take_row(&mut self) {}
}

/// The text of a float that has no digits, or a sign that would be lost.
fn odd(float: f64) -> Option<&'static [u8]> {
    match float {
        f64::INFINITY => Some(b"Infinity"),
        f64::NEG_INFINITY => Some(b"-Infinity"),
        zero if zero == 0.0 && zero.is_sign_negative() => Some(b"-0"),
        _ => None,
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// The days, counted from 1970, that Postgres has: from 24 November 4714 BC on. It counts them from 2000.
const EPOCH_DAYS: i32 = 10_957;
const DAYS: std::ops::Range<i32> = EPOCH_DAYS - 2_451_545..EPOCH_DAYS + 2_145_031_949;
/// Those of years that have four digits.
const COMMON: std::ops::RangeInclusive<i32> = -719_162..=2_932_896;
/// The first time that Postgres has, in microseconds. The last that fits into them it has.
const FIRST_TIME: i64 = (EPOCH_DAYS as i64 - 2_451_545) * DAY;

/// A day of a year before the first, or of one of more digits than four; and the time behind it.
fn far(days: i32, time: &str) -> String {
    let (year, month, day) = Date::from_days(days).ymd();
    match year {
        1.. => format!("{year:04}-{month:02}-{day:02}{time}"),
        // There is no year zero.
        _ => format!("{:04}-{month:02}-{day:02}{time} BC", 1 - year),
    }
}

/// Writes a decimal number as Postgres holds them: four digits at a time, without zeros at both ends.
fn numeric(out: &mut BytesMut, text: &str) {
    let (sign, digits) = text.strip_prefix('-').map_or((0, text), |digits| (0x4000, digits));
    let (whole, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let (front, back) = ((4 - whole.len() % 4) % 4, (4 - behind.len() % 4) % 4);
    let all: Vec<u8> = [&b"000"[..front], whole.as_bytes(), behind.as_bytes(), &b"000"[..back]].concat();
    let group = |four: &[u8]| four.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    let groups: Vec<u16> = all.chunks(4).map(group).collect();
    let first = groups.iter().position(|group| *group != 0).unwrap_or(groups.len());
    let end = groups.iter().rposition(|group| *group != 0).map_or(first, |last| last + 1);
    let is_zero = first == end;
    out.put_u16((end - first) as u16);
    out.put_i16(if is_zero { 0 } else { (whole.len().div_ceil(4) as i16) - 1 - first as i16 });
    out.put_u16(if is_zero { 0 } else { sign });
    out.put_u16(behind.len() as u16);
    groups[first..end].iter().for_each(|group| out.put_u16(*group));
}

/// What a part of a column is told as: as the whole, but for its type.
fn part(to: &FieldInfo, of: &Type) -> FieldInfo {
    FieldInfo::new(to.name().to_owned(), None, None, of.clone(), to.format())
        .with_format_options(Arc::clone(to.format_options()))
}

fn mistold(to: &FieldInfo) -> PgWireError {
    error(INTERNAL, format!("the column {} was told as something else: that is a bug", to.name()))
}

fn list(out: &mut BytesMut, values: &ArrayRef, item: &Field, to: &FieldInfo) -> PgWireResult<bool> {
    let Kind::Array(of) = to.datatype().kind() else { return Err(mistold(to)) };
    let of = part(to, of);
    if to.format() == FieldFormat::Text {
        let mut text = BytesMut::new();
        out.put_u8(b'{');
        for at in 0..values.len() {
            if at > 0 {
                out.put_u8(b',');
            }
            text.clear();
            match write(&mut text, values, at, item, &of)? {
                true => quoted(out, &text, |text| text.eq_ignore_ascii_case(b"null"), b"{},", b'\\'),
                false => out.put_slice(b"NULL"),
            }
        }
        out.put_u8(b'}');
        return Ok(true);
    }
    // How many dimensions, whether something in it is NULL, of what; how many, counted from 1.
    out.put_i32(i32::from(!values.is_empty()));
    let nulls = out.len();
    out.put_i32(0);
    out.put_u32(of.datatype().oid());
    if !values.is_empty() {
        out.put_i32(values.len() as i32);
        out.put_i32(1);
    }
    for at in 0..values.len() {
        if !measured(out, |out| write(out, values, at, item, &of))? {
            out[nulls + 3] = 1;
        }
    }
    Ok(true)
}

fn record(out: &mut BytesMut, columns: &[ArrayRef], at: usize, fields: &Fields, to: &FieldInfo) -> PgWireResult<bool> {
    let Kind::Composite(types) = to.datatype().kind() else { return Err(mistold(to)) };
    let is_text = to.format() == FieldFormat::Text;
    if is_text {
        out.put_u8(b'(')
    } else {
        out.put_i32(columns.len() as i32)
    }
    let mut text = BytesMut::new();
    for (n, ((column, field), of)) in columns.iter().zip(fields).zip(types).enumerate() {
        let of = part(to, of.type_());
        if !is_text {
            out.put_u32(of.datatype().oid());
            measured(out, |out| write(out, column, at, field, &of))?;
            continue;
        }
        if n > 0 {
            out.put_u8(b',');
        }
        text.clear();
        if write(&mut text, column, at, field, &of)? {
            quoted(out, &text, |_| false, b"(),", 0);
        }
    }
    if is_text {
        out.put_u8(b')');
    }
    Ok(true)
}

/// Writes a part of a list or of a row, in quotes where it would be taken for something else without. Quotes and backslashes stand
/// behind `escape`, or twice if that is 0.
fn quoted(out: &mut BytesMut, text: &[u8], is_word: impl Fn(&[u8]) -> bool, marks: &[u8], escape: u8) {
    let is_odd = |byte: &u8| marks.contains(byte) || matches!(byte, b'"' | b'\\' | b' ' | 0x09..=0x0d);
    if !text.is_empty() && !is_word(text) && !text.iter().any(is_odd) {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(if escape == 0 { *byte } else { escape });
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests;
