//! Which types of columns a field is read from, and how they are cast. Pure.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use millstream_core::{Error, ErrorKind, Result};

/// Says whether a column of type `from` means the same as a field of type `to`, or would where its values fit.
///
/// What asks for a decision is left to the statement: whether a number is rounded, and how text is read.
pub(super) fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Date64, Dictionary, Null, RunEndEncoded, Timestamp};
    match (from, to) {
        (Dictionary(_, values), _) => fits(values, to),
        (RunEndEncoded(_, values), _) => fits(values.data_type(), to),
        (Null, _) => true,
        (Boolean, Boolean) => true,
        (from, to) if from.is_integer() => to.is_integer() || to.is_floating() || decimal(to),
        (from, to) if from.is_floating() => to.is_floating(),
        (from, to) if decimal(from) => decimal(to) || to.is_floating(),
        (from, DataType::Utf8) => text(from),
        (from, Binary) => bytes(from),
        (Timestamp(_, _), Timestamp(_, _)) => true,
        (Date32 | Date64, Date32 | Timestamp(_, _)) => true,
        (from, to) => from == to,
    }
}

fn decimal(of: &DataType) -> bool {
    matches!(
        of,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

fn text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn bytes(of: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(of, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Gives the column in the type of the field.
pub(super) fn fitted(column: &ArrayRef, to: &DataType, name: &str, of: &str) -> Result<ArrayRef> {
    let from = column.data_type();
    if from == to {
        return Ok(Arc::clone(column));
    }
    let error = |text: String| Error::new(ErrorKind::Data, text);
    if !fits(from, to) {
        let cast = spark_name(to).map(|sql| format!(": select CAST({name} AS {sql}), or change the field"));
        return Err(error(format!("the column `{name}` is {from} and the field is {of}{}", cast.unwrap_or_default())));
    }
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|e| error(format!("the column `{name}` is {from} and does not fit into {of}: {e}")))
}

/// Returns what Spark's SQL calls a type, if it is one that a statement can cast to.
pub(crate) fn spark_name(of: &DataType) -> Option<String> {
    Some(match of {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, _) => "TIMESTAMP".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringArray};
    use datafusion::arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_column_is_cast_where_it_means_the_same_and_refused_where_somebody_must_decide() {
        use DataType::*;
        let dictionary = |of| Dictionary(Box::new(Int32), Box::new(of));
        let millis = Timestamp(TimeUnit::Millisecond, None);
        for (from, to, want) in [
            (Int32, Int64, true),
            (Int64, Int32, true),
            (UInt8, Float64, true),
            (Int64, Decimal128(20, 2), true),
            (Float32, Float64, true),
            (Float64, Int64, false),
            (Decimal128(10, 2), Float64, true),
            (Decimal128(10, 2), Int64, false),
            (Utf8View, Utf8, true),
            (LargeUtf8, Utf8, true),
            (dictionary(Utf8), Utf8, true),
            (dictionary(Int32), Int64, true),
            (dictionary(Utf8), Int64, false),
            (Utf8, Int64, false),
            (Int64, Utf8, false),
            (Boolean, Int64, false),
            (Int64, Boolean, false),
            (Null, Utf8, true),
            (Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), millis.clone(), true),
            (Date32, millis.clone(), true),
            (millis, Date32, false),
            (Int64, Date32, false),
            (BinaryView, Binary, true),
            (Utf8, Binary, false),
        ] {
            assert_eq!(fits(&from, &to), want, "{from} as {to}");
        }
    }

    #[test]
    fn what_does_not_fit_names_the_column_both_types_and_the_cast_to_write() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["7"]));
        let error = fitted(&text, &DataType::Int64, "a.b", "i64").unwrap_err();
        let want = "the column `a.b` is Utf8 and the field is i64: select CAST(a.b AS BIGINT), or change the field";
        assert_eq!(error.message(), want);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
        let error = fitted(&wide, &DataType::Int32, "n", "i32").unwrap_err();
        assert!(error.message().starts_with("the column `n` is Int64 and does not fit into i32: "), "{error}");
    }
}
