//! Tables and schemas as Spark prints them, to the character.

use std::fmt::Write as _;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{Error, ErrorKind, Result};

use crate::batch::RecordBatch;
use crate::row::Date;

/// The cells of a table as text; none is NULL.
pub(crate) struct Cells {
    names: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Cells {
    pub(crate) fn of(names: &[String], batches: &[RecordBatch]) -> Result<Cells> {
        let mut rows = Vec::new();
        for batch in batches {
            let columns = batch.columns().iter().map(|c| texts(c, "NULL")).collect::<Result<Vec<_>>>()?;
            rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()));
        }
        Ok(Cells { names: names.to_vec(), rows })
    }

    #[cfg(test)]
    fn plain(names: &[&str], rows: &[&[Option<&str>]]) -> Cells {
        let text = |cell: &Option<&str>| cell.map(str::to_owned);
        Cells {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            rows: rows.iter().map(|row| row.iter().map(text).collect()).collect(),
        }
    }
}

/// Draws the first `rows` rows; there may be one more, which is why it is said that there are more.
pub(crate) fn table(cells: &Cells, rows: usize, width: usize) -> String {
    let shown = &cells.rows[..cells.rows.len().min(rows)];
    let escaped = |text: &str| text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
    let cut = |text: &str| -> String {
        let text = escaped(text);
        let length = text.chars().count();
        if width == 0 || length <= width {
            text
        } else if width < 4 {
            text.chars().take(width).collect()
        } else {
            text.chars().take(width - 3).chain("...".chars()).collect()
        }
    };
    // Names are shown whole.
    let mut lines: Vec<Vec<String>> = vec![cells.names.iter().map(|name| escaped(name)).collect()];
    lines.extend(shown.iter().map(|row| row.iter().map(|cell| cut(cell.as_deref().unwrap_or("NULL"))).collect()));
    let widths: Vec<usize> = (0..cells.names.len())
        .map(|column| lines.iter().map(|line| columns_of(&line[column])).max().unwrap_or(0).max(3))
        .collect();
    let border: String = widths.iter().map(|w| format!("+{}", "-".repeat(*w))).collect::<String>() + "+\n";
    let to_the_right = width > 0;
    let mut out = border.clone();
    for (i, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let blanks = " ".repeat(width - columns_of(cell));
            // With cells cut, Spark writes to the right; with whole cells to the left.
            let _ = if to_the_right { write!(out, "|{blanks}{cell}") } else { write!(out, "|{cell}{blanks}") };
        }
        out.push_str("|\n");
        if i == 0 {
            out.push_str(&border);
        }
    }
    out.push_str(&border);
    if cells.rows.len() > rows {
        let word = if rows == 1 { "row" } else { "rows" };
        let _ = writeln!(out, "only showing top {rows} {word}");
    }
    out
}

/// Prints what Spark prints.
#[allow(clippy::print_stdout, reason = "to print is what was asked for")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// How many columns of a terminal a text takes: letters of East Asia take two.
fn columns_of(text: &str) -> usize {
    let wide = |c: char| {
        matches!(c as u32, 0x1100..=0x115F | 0x2E80..=0xA4CF | 0xAC00..=0xD7A3 | 0xF900..=0xFAFF | 0xFE30..=0xFE4F
            | 0xFF00..=0xFF60 | 0xFFE0..=0xFFE6)
    };
    text.chars().map(|c| if wide(c) { 2 } else { 1 }).sum()
}

/// The values of a column as text, as Spark writes them, with `null` for what is null inside of others.
pub(crate) fn texts(column: &ArrayRef, null: &str) -> Result<Vec<Option<String>>> {
    (0..column.len()).map(|row| text(column, row, null)).collect()
}

/// The rows of columns as `CAST(… AS STRING)` writes them in Spark.
pub(crate) fn cast_to_texts(batch: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
    let written = |column: &ArrayRef| match column.data_type() {
        // Bytes are cast as the text that they are.
        DataType::Binary => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(column.as_binary::<i32>().iter().map(|bytes| bytes.map(text)).collect())
        }
        _ => texts(column, "null"),
    };
    let columns = batch.columns().iter().map(written).collect::<Result<Vec<Vec<Option<String>>>>>()?;
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|c| c[row].clone()).collect()).collect())
}

/// One value as text, or none if it is null.
fn text(column: &ArrayRef, row: usize, null: &str) -> Result<Option<String>> {
    if column.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
        return Ok(None);
    }
    let inside = |values: &ArrayRef, row: usize| text(values, row, null).map(|t| t.unwrap_or_else(|| null.to_owned()));
    let all = |values: &ArrayRef| -> Result<String> {
        Ok((0..values.len()).map(|i| inside(values, i)).collect::<Result<Vec<_>>>()?.join(", "))
    };
    Ok(Some(match column.data_type() {
        DataType::Float64 => double(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row)),
        DataType::Decimal128(_, scale) => decimal(column.as_primitive::<Decimal128Type>().value(row), *scale),
        DataType::Date32 => Date::from_days(column.as_primitive::<Date32Type>().value(row)).to_string(),
        DataType::Timestamp(_, _) => {
            let micros =
                cast(&column.slice(row, 1), &DataType::Timestamp(TimeUnit::Microsecond, None)).map_err(shown)?;
            timestamp(micros.as_primitive::<TimestampMicrosecondType>().value(0))
        }
        DataType::List(_) => format!("[{}]", all(&column.as_list::<i32>().value(row))?),
        DataType::LargeList(_) => format!("[{}]", all(&column.as_list::<i64>().value(row))?),
        DataType::Struct(_) => {
            let values = column.as_struct().columns().iter().map(|c| inside(c, row)).collect::<Result<Vec<_>>>()?;
            format!("{{{}}}", values.join(", "))
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(row);
            let pair = |i| Ok(format!("{} -> {}", inside(entries.column(0), i)?, inside(entries.column(1), i)?));
            format!("{{{}}}", (0..entries.len()).map(pair).collect::<Result<Vec<_>>>()?.join(", "))
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>().value(row);
            format!("[{}]", bytes.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(" "))
        }
        DataType::Dictionary(_, values) => {
            return text(&cast(&column.slice(row, 1), values).map_err(shown)?, 0, null);
        }
        _ => {
            let options = FormatOptions::default();
            ArrayFormatter::try_new(column, &options).map_err(shown)?.value(row).to_string()
        }
    }))
}

fn shown(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Data, format!("a value cannot be shown: {error}"))
}

/// A number as Java writes a double.
fn double(value: f64) -> String {
    java(value.is_nan(), value.is_infinite(), value.is_sign_negative(), value.abs(), &format!("{:e}", value.abs()))
}

/// A number as Java writes a float.
fn float(value: f32) -> String {
    let size = f64::from(value.abs());
    java(value.is_nan(), value.is_infinite(), value.is_sign_negative(), size, &format!("{:e}", value.abs()))
}

fn java(nan: bool, infinite: bool, negative: bool, size: f64, scientific: &str) -> String {
    let sign = if negative { "-" } else { "" };
    if nan {
        return "NaN".to_owned();
    }
    if infinite {
        return format!("{sign}Infinity");
    }
    let (digits, power) = scientific.split_once('e').unwrap_or((scientific, "0"));
    if size == 0.0 {
        return format!("{sign}0.0");
    }
    if !(1e-3..1e7).contains(&size) {
        let point = if digits.contains('.') { "" } else { ".0" };
        return format!("{sign}{digits}{point}E{power}");
    }
    let power: i32 = power.parse().unwrap_or(0);
    let plain: String = digits.chars().filter(char::is_ascii_digit).collect();
    let text = if power < 0 {
        format!("0.{}{plain}", "0".repeat((-power - 1) as usize))
    } else {
        let whole = power as usize + 1;
        let padded = format!("{plain:0<whole$}");
        let (before, behind) = padded.split_at(whole);
        format!("{before}.{}", if behind.is_empty() { "0" } else { behind })
    };
    format!("{sign}{text}")
}

fn decimal(units: i128, scale: i8) -> String {
    let behind = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = behind + 1);
    let (whole, rest) = digits.split_at(digits.len() - behind);
    format!("{}{whole}{}{rest}", if units < 0 { "-" } else { "" }, if behind > 0 { "." } else { "" })
}

fn timestamp(micros: i64) -> String {
    let (days, of_day) = (micros.div_euclid(86_400_000_000), micros.rem_euclid(86_400_000_000));
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let date = Date::from_days(i32::try_from(days).unwrap_or(i32::MAX));
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 {
        return format!("{date} {time}");
    }
    format!("{date} {time}.{}", format!("{fraction:06}").trim_end_matches('0'))
}

/// The schema as Spark's tree.
pub(crate) fn tree(schema: &Schema) -> String {
    let mut out = "root\n".to_owned();
    for field in schema.fields() {
        branch(&mut out, field, " |");
    }
    out
}

fn branch(out: &mut String, field: &Field, indent: &str) {
    let name = kind(field.data_type());
    let _ = writeln!(out, "{indent}-- {}: {name} (nullable = {})", field.name(), field.is_nullable());
    inner(out, field.data_type(), &format!("{indent}    |"));
}

fn inner(out: &mut String, of: &DataType, indent: &str) {
    match of {
        DataType::Struct(fields) => fields.iter().for_each(|field| branch(out, field, indent)),
        DataType::List(item) | DataType::LargeList(item) => {
            let (name, nullable) = (kind(item.data_type()), item.is_nullable());
            let _ = writeln!(out, "{indent}-- element: {name} (containsNull = {nullable})");
            inner(out, item.data_type(), &format!("{indent}    |"));
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(fields) = entries.data_type() {
                let value = &fields[1];
                let _ = writeln!(out, "{indent}-- key: {}", kind(fields[0].data_type()));
                let (name, nullable) = (kind(value.data_type()), value.is_nullable());
                let _ = writeln!(out, "{indent}-- value: {name} (valueContainsNull = {nullable})");
            }
        }
        _ => {}
    }
}

/// The kind of a type, without what is inside.
fn kind(of: &DataType) -> String {
    match of {
        DataType::Struct(_) => "struct".to_owned(),
        DataType::List(_) | DataType::LargeList(_) => "array".to_owned(),
        DataType::Map(_, _) => "map".to_owned(),
        DataType::Int8 => "byte".to_owned(),
        DataType::Int16 => "short".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "long".to_owned(),
        other => type_name(other),
    }
}

/// What Spark calls a type; those that it has not have the name that Arrow gives them.
pub(crate) fn type_name(of: &DataType) -> String {
    match of {
        DataType::Null => "void".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int8 => "tinyint".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "int".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float32 => "float".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(_, _) => "timestamp".to_owned(),
        DataType::List(item) | DataType::LargeList(item) => format!("array<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let field = |f: &std::sync::Arc<Field>| format!("{}: {}", f.name(), type_name(f.data_type()));
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                format!("map<{}, {}>", type_name(fields[0].data_type()), type_name(fields[1].data_type()))
            }
            other => other.to_string(),
        },
        DataType::Dictionary(_, values) => type_name(values),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_drawn_as_spark_draws_it() {
        let cells = Cells::plain(&["word", "n"], &[&[Some("to"), Some("2")], &[None, Some("1")]]);
        let want = "+----+---+\n|word|  n|\n+----+---+\n|  to|  2|\n|NULL|  1|\n+----+---+\n";
        assert_eq!(table(&cells, 20, 20), want);
        let want = "+----+---+\n|word|n  |\n+----+---+\n|to  |2  |\n+----+---+\nonly showing top 1 row\n";
        assert_eq!(table(&cells, 1, 0), want);
        let long = Cells::plain(&["x"], &[&[Some("abcdefghijklmnopqrstuvwxyz")], &[Some("日本\t")]]);
        let want = "+----+\n|   x|\n+----+\n|a...|\n+----+\nonly showing top 1 row\n";
        assert_eq!(table(&long, 1, 4), want);
        assert!(table(&long, 2, 6).contains("|日本\\t|"), "{}", table(&long, 2, 6));
        let none = Cells::plain(&["x"], &[]);
        assert_eq!(table(&none, 20, 20), "+---+\n|  x|\n+---+\n+---+\n");
    }

    #[test]
    fn numbers_and_times_are_written_as_java_writes_them() {
        for (value, want) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (0.1, "0.1"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (1.5e-7, "1.5E-7"),
            (123_456_789.0, "1.23456789E8"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(double(value), want);
        }
        assert_eq!(float(0.1), "0.1");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59.999999");
        assert_eq!(timestamp(1_500_000), "1970-01-01 00:00:01.5");
        assert_eq!(decimal(-5, 2), "-0.05");
    }
}
