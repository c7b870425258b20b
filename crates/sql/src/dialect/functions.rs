//! Functions that every statement knows beside DataFusion's own: arithmetic that fails where Spark's does.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use datafusion::arrow::compute::kernels::{cast, numeric};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::execution::SessionStateBuilder;
use datafusion::functions::string::{ends_with, starts_with};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use millstream_core::{Error, ErrorKind};

/// Adds the functions.
pub(crate) fn added(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let functions = builder.scalar_functions().get_or_insert_default();
    functions.extend(Checked::ALL.map(|function| Arc::new(ScalarUDF::new_from_impl(Checked::new(function)))));
    functions.extend(super::texts::all().into_iter().map(Arc::new));
    let string = [(starts_with(), "startswith"), (ends_with(), "endswith")];
    functions.extend(string.map(|(function, alias)| Arc::new(function.as_ref().clone().with_aliases([alias]))));
    builder.aggregate_functions().get_or_insert_default().push(Arc::new(super::sums::sum()));
    builder.with_analyzer_rule(Arc::new(super::casts::Casts))
}

/// An operator that fails where the result does not fit, or there is none. Its third argument is how it was written.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    name: &'static str,
    operator: Operator,
    signature: Signature,
}

impl Checked {
    const ALL: [(&str, Operator); 5] = [
        ("checked_add", Operator::Plus),
        ("checked_subtract", Operator::Minus),
        ("checked_multiply", Operator::Multiply),
        ("checked_divide", Operator::Divide),
        ("checked_div", Operator::IntegerDivide),
    ];

    fn new((name, operator): (&'static str, Operator)) -> Checked {
        Checked { name, operator, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The operator that DataFusion types it by.
    fn typed_by(&self) -> Operator {
        if self.operator == Operator::IntegerDivide { Operator::Divide } else { self.operator }
    }

    /// Says whether it is done here, and not by DataFusion's operator.
    fn is_ours(&self, left: &DataType, right: &DataType) -> bool {
        let whole = (left.is_integer() && right.is_integer()) || is_days(left, right);
        match self.operator {
            Operator::Divide => whole || (left.is_floating() && right.is_floating()),
            Operator::IntegerDivide => true,
            _ => whole,
        }
    }
}

fn is_days(left: &DataType, right: &DataType) -> bool {
    matches!((left, right), (DataType::Date32, DataType::Int32) | (DataType::Int32, DataType::Date32))
}

fn is_span(of: &DataType) -> bool {
    matches!(of, DataType::Interval(_) | DataType::Duration(_))
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right, text] = types else {
            return Err(DataFusionError::Plan(format!("{} takes two values", self.name)));
        };
        if self.operator == Operator::Minus {
            let (left_time, right_time) = (DataType::is_temporal(left), DataType::is_temporal(right));
            let (left_open, right_open) = (left.is_string() || left.is_null(), right.is_string() || right.is_null());
            let times = (left_time && (right_time || right_open)) || (right_time && left_open);
            if times && !is_span(left) && !is_span(right) {
                let text = "a time minus a time is refused: write datediff(a, b) for days, or \
                            unix_micros(a) - unix_micros(b) for microseconds";
                return Err(DataFusionError::Plan(text.to_owned()));
            }
        }
        let number = |of: &DataType| of.is_numeric() || of.is_null();
        match (self.operator, left, right) {
            // A day and a number of days.
            (Operator::Plus | Operator::Minus, DataType::Date32, days) if days.is_integer() => {
                return Ok(vec![DataType::Date32, DataType::Int32, text.clone()]);
            }
            (Operator::Plus, days, DataType::Date32) if days.is_integer() => {
                return Ok(vec![DataType::Int32, DataType::Date32, text.clone()]);
            }
            _ => {}
        }
        let (left, right) = match self.operator {
            // A quotient of whole numbers is a number with a fraction; DIV is one without.
            Operator::Divide if (left.is_integer() || left.is_null()) && (right.is_integer() || right.is_null()) => {
                (DataType::Float64, DataType::Float64)
            }
            Operator::IntegerDivide if number(left) && number(right) && !left.is_decimal() && !right.is_decimal() => {
                (DataType::Int64, DataType::Int64)
            }
            _ => BinaryTypeCoercer::new(left, &self.typed_by(), right).get_input_types()?,
        };
        Ok(vec![left, right, text.clone()])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        if self.operator == Operator::IntegerDivide {
            return Ok(DataType::Int64);
        }
        if is_days(&types[0], &types[1]) {
            return Ok(DataType::Date32);
        }
        BinaryTypeCoercer::new(&types[0], &self.typed_by(), &types[1]).get_result_type()
    }

    fn simplify(&self, mut arguments: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let types = (arguments[0].get_type(info.schema())?, arguments[1].get_type(info.schema())?);
        if self.is_ours(&types.0, &types.1) {
            return Ok(ExprSimplifyResult::Original(arguments));
        }
        arguments.truncate(2);
        let (right, left) = (arguments.pop().unwrap_or_default(), arguments.pop().unwrap_or_default());
        let plain = BinaryExpr::new(Box::new(left), self.operator, Box::new(right));
        Ok(ExprSimplifyResult::Simplified(Expr::BinaryExpr(plain)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ScalarFunctionArgs { args, number_rows, .. } = arguments;
        let scalar = args[..2].iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { number_rows };
        let (left, right) = (args[0].to_array(rows)?, args[1].to_array(rows)?);
        let result = self.result(&left, &right).map_err(|e| failed(e, &args[2]))?;
        if scalar {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Checked {
    fn result(&self, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        if is_days(left.data_type(), right.data_type()) {
            let plain = |days: &ArrayRef| cast::cast(days, &DataType::Int32);
            return cast::cast(&self.result(&plain(left)?, &plain(right)?)?, &DataType::Date32);
        }
        match self.operator {
            Operator::Plus => numeric::add(left, right),
            Operator::Minus => numeric::sub(left, right),
            Operator::Multiply => numeric::mul(left, right),
            Operator::Divide => {
                if let Some(divisors) = right.as_primitive_opt::<Float64Type>() {
                    let zero = |row: usize| divisors.is_valid(row) && divisors.value(row) == 0.0 && left.is_valid(row);
                    if (0..divisors.len()).any(zero) {
                        return Err(ArrowError::DivideByZero);
                    }
                }
                numeric::div(left, right)
            }
            Operator::IntegerDivide if left.data_type().is_null() || right.data_type().is_null() => {
                Ok(new_null_array(&DataType::Int64, left.len()))
            }
            Operator::IntegerDivide => cast::cast(&numeric::div(left, right)?, &DataType::Int64),
            other => Err(ArrowError::InvalidArgumentError(format!("{other} is not checked here"))),
        }
    }
}

/// Says in which part of the statement it happened.
fn failed(error: ArrowError, text: &ColumnarValue) -> DataFusionError {
    let text = match text {
        ColumnarValue::Scalar(value) => value.try_as_str().flatten().unwrap_or_default().to_owned(),
        ColumnarValue::Array(_) => String::new(),
    };
    let said = match error {
        ArrowError::DivideByZero => format!("division by zero in `{text}`: write try_divide(a, b), or nullif(b, 0)"),
        ArrowError::ArithmeticOverflow(what) => {
            let what = what.trim_start_matches("Overflow happened on: ");
            format!("overflow in `{text}`: {what} does not fit its type, cast one side to a wider one")
        }
        other => other.to_string(),
    };
    DataFusionError::External(Box::new(Error::new(ErrorKind::Data, said)))
}
