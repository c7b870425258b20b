//! What casts mean where DataFusion means something else: numbers and times as texts, and times as seconds.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use millstream_core::ErrorKind;

use super::patterns;
use super::texts::{by_rows, wrong};
use crate::show;

/// Puts a function of ours in the place of each such cast, of those too that types ask for and nobody wrote.
#[derive(Debug)]
pub(super) struct Casts;

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "casts_as_spark"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let replaced = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let expr = expr.transform_up(|expr| replaced(expr, &schema))?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })?;
            plan.map_data(|plan| plan.recompute_schema())
        })?;
        Ok(replaced.data)
    }
}

fn replaced(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field })) = &expr else {
        return Ok(Transformed::no(expr));
    };
    // What has no type has none after the cast either, and is an error elsewhere.
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
    let to = field.data_type();
    let safe = matches!(expr, Expr::TryCast(_));
    match kind(&from, to) {
        Meaning::Same => Ok(Transformed::no(expr)),
        Meaning::Refused(instead) => {
            let (from, to) = (show::type_name(&from), show::type_name(to).to_uppercase());
            Err(DataFusionError::Plan(format!("CAST of a {from} AS {to} is refused: write {instead}")))
        }
        Meaning::Ours => {
            let signature = Signature::any(1, Volatility::Immutable);
            let function = ScalarUDF::new_from_impl(SparkCast { to: to.clone(), safe, signature });
            Ok(Transformed::yes(function.call(vec![inner.as_ref().clone()])))
        }
    }
}

/// What is to become of a cast.
#[derive(Debug, PartialEq)]
enum Meaning {
    Same,
    Ours,
    Refused(&'static str),
}

fn kind(from: &DataType, to: &DataType) -> Meaning {
    use DataType::{LargeList, List, Map, Struct, Timestamp};
    match (from, to) {
        (from, to) if to.is_string() && from.is_floating() => Meaning::Ours,
        (from, DataType::Date32 | Timestamp(..)) if from.is_string() => Meaning::Ours,
        (Timestamp(..) | List(_) | LargeList(_) | Struct(_) | Map(..), to) if to.is_string() => Meaning::Ours,
        // A number of seconds as a timestamp of seconds is what it is.
        (from, Timestamp(unit, _)) if from.is_integer() && *unit != TimeUnit::Second => Meaning::Ours,
        (Timestamp(..), to) if to.is_integer() => Meaning::Ours,
        (from, Timestamp(..)) if from.is_floating() || from.is_decimal() => {
            Meaning::Refused("to_timestamp_micros(CAST(1000000 * seconds AS BIGINT))")
        }
        (Timestamp(..), to) if to.is_floating() || to.is_decimal() => Meaning::Refused("unix_micros(time) / 1e6"),
        _ => Meaning::Same,
    }
}

/// A cast that is done here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SparkCast {
    to: DataType,
    /// Whether a text that is no time is null, and no error.
    safe: bool,
    signature: Signature,
}

impl ScalarUDFImpl for SparkCast {
    fn name(&self) -> &str {
        "cast_as_spark"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        by_rows(&arguments, |columns| done(&columns[0], &self.to, self.safe))
    }
}

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn done(column: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    if column.data_type().is_string() {
        return of_texts(column, to, safe);
    }
    if to.is_string() {
        let texts = show::texts(column, "null").map_err(|e| DataFusionError::External(Box::new(e)))?;
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        return Ok(cast(&texts, to)?);
    }
    if column.data_type().is_integer() {
        let seconds = cast_with_options(column, &DataType::Int64, &strict)?;
        let mut times = Vec::with_capacity(seconds.len());
        for seconds in seconds.as_primitive::<Int64Type>() {
            let micros = seconds.map(|s| {
                let text = || format!("{s} seconds are no TIMESTAMP: it is too far away");
                s.checked_mul(1_000_000).ok_or_else(|| wrong(ErrorKind::Data, text()))
            });
            times.push(micros.transpose()?);
        }
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        return Ok(cast_with_options(&times, to, &strict)?);
    }
    let times = cast(column, &MICROS)?;
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let seconds: Int64Array = times.iter().map(|micros| micros.map(|micros| micros.div_euclid(1_000_000))).collect();
    let seconds: ArrayRef = Arc::new(seconds);
    Ok(cast_with_options(&seconds, to, &strict)?)
}

/// Texts as days, or as moments.
fn of_texts(column: &ArrayRef, to: &DataType, safe: bool) -> Result<ArrayRef> {
    let texts = cast(column, &DataType::Utf8)?;
    let is_day = *to == DataType::Date32;
    let read = |text: &str| {
        let read = if is_day { patterns::day(text).map(i64::from) } else { patterns::moment(text) };
        match read {
            None if !safe => {
                let what = if is_day { "DATE, as 2024-02-29" } else { "TIMESTAMP, as 2024-02-29 10:00:00" };
                let text = format!("`{text}` is no {what}: write try_cast(…) to have NULL instead");
                Err(wrong(ErrorKind::Data, text))
            }
            read => Ok(read),
        }
    };
    let texts = texts.as_string::<i32>().iter();
    let values = texts.map(|text| text.map_or(Ok(None), read)).collect::<Result<Vec<_>>>()?;
    if is_day {
        return Ok(Arc::new(values.into_iter().map(|day| day.map(|day| day as i32)).collect::<Date32Array>()));
    }
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(values));
    Ok(cast_with_options(&times, to, &CastOptions { safe, ..CastOptions::default() })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_ours_where_they_mean_something_else() {
        use DataType::{Date32, Decimal128, Float64, Int32, Int64, Utf8};
        let seconds = DataType::Timestamp(TimeUnit::Second, None);
        for (from, to, want) in [
            (Float64, Utf8, Meaning::Ours),
            (MICROS, Utf8, Meaning::Ours),
            (Int64, Utf8, Meaning::Same),
            (Date32, Utf8, Meaning::Same),
            (Int32, MICROS, Meaning::Ours),
            (Int64, seconds, Meaning::Same),
            (MICROS, Int64, Meaning::Ours),
            (MICROS, Float64, Meaning::Refused("unix_micros(time) / 1e6")),
            (Utf8, MICROS, Meaning::Ours),
            (Utf8, Date32, Meaning::Ours),
            (Int64, Decimal128(20, 0), Meaning::Same),
        ] {
            assert_eq!(kind(&from, &to), want, "{from} as {to}");
        }
        assert!(matches!(kind(&Float64, &MICROS), Meaning::Refused(_)));
    }

    #[test]
    fn times_are_seconds_and_what_does_not_fit_is_an_error() {
        let seconds: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), None, Some(86_400)]));
        let times = done(&seconds, &MICROS, false).unwrap();
        let want = TimestampMicrosecondArray::from(vec![Some(-1_000_000), None, Some(86_400_000_000)]);
        assert_eq!(times.as_primitive::<TimestampMicrosecondType>(), &want);
        assert_eq!(done(&times, &DataType::Int64, false).unwrap().as_ref(), seconds.as_ref());
        assert!(done(&times, &DataType::Int8, false).is_err());
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["2024-2-9", "never"]));
        let days = done(&texts, &DataType::Date32, true).unwrap();
        assert_eq!(days.as_ref(), &Date32Array::from(vec![Some(19_762), None]));
        let error = done(&texts, &DataType::Date32, false).unwrap_err().to_string();
        assert!(error.contains("`never` is no DATE"), "{error}");
        let far: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        let error = done(&far, &MICROS, false).unwrap_err().to_string();
        assert!(error.contains("9223372036854775807 seconds are no TIMESTAMP"), "{error}");
    }
}
