//! `x = ANY (array)`: whether a value is among those of an array, which may come as a parameter.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray, Scalar};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::cast::as_list_array;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::{InList, Placeholder, ScalarFunction};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable as _, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// What `= ANY` is called where statements are planned: see [`dialect`](crate::dialect).
pub(crate) const ANY_OF: &str = "any_of";

/// Returns the function.
pub(crate) fn any_of() -> ScalarUDF {
    ScalarUDF::new_from_impl(AnyOf { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AnyOf {
    signature: Signature,
}

fn list_of(of: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(of.clone(), true)))
}

fn element_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            Some(field.data_type())
        }
        _ => None,
    }
}

impl ScalarUDFImpl for AnyOf {
    fn name(&self) -> &'static str {
        ANY_OF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [value, array] = given else { return plan_err!("ANY stands between one value and one array") };
        let of = match (array, element_of(array)) {
            (_, Some(DataType::Null)) | (DataType::Null, _) => value,
            (_, Some(of)) => of,
            (other, None) => return plan_err!("ANY takes an array or a subquery, and not {other}"),
        };
        let both = match (value, of) {
            (DataType::Null, of) => of.clone(),
            (value, of) if value == of => of.clone(),
            (value, of) => match comparison_coercion(value, of) {
                Some(both) => both,
                None => return plan_err!("{value} cannot be compared with {of}, which the array of ANY has"),
            },
        };
        Ok(vec![both.clone(), list_of(&both)])
    }

    /// An array that is known is a list of values: a key is looked up in it.
    fn simplify(&self, arguments: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [value, Expr::Literal(ScalarValue::List(array), _)] = arguments.as_slice() else {
            return Ok(ExprSimplifyResult::Original(arguments));
        };
        if array.is_null(0) {
            let unknown = Expr::Literal(ScalarValue::Boolean(None), None);
            return Ok(ExprSimplifyResult::Simplified(unknown));
        }
        let values = array.value(0);
        let list = (0..values.len())
            .map(|at| Ok(Expr::Literal(ScalarValue::try_from_array(&values, at)?, None)))
            .collect::<Result<Vec<_>>>()?;
        Ok(ExprSimplifyResult::Simplified(match list.is_empty() {
            true => Expr::Literal(ScalarValue::Boolean(Some(false)), None),
            false => Expr::InList(InList::new(Box::new(value.clone()), list, false)),
        }))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [values, lists] = arrays.as_slice() else { return plan_err!("ANY stands between one value and one array") };
        let lists = as_list_array(lists)?;
        let found: BooleanArray = (0..values.len())
            .map(|row| match lists.is_null(row) {
                true => Ok(None),
                false => among(values, row, &lists.value(row)),
            })
            .collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(found)))
    }
}

/// Whether a value is among others. Nobody knows if it is none, nor if it is not found and one of the others is none.
fn among(values: &ArrayRef, row: usize, others: &ArrayRef) -> Result<Option<bool>> {
    if others.is_empty() {
        return Ok(Some(false));
    }
    let same = eq(others, &Scalar::new(values.slice(row, 1)))?;
    Ok(match (same.true_count() > 0, same.null_count() > 0) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    })
}

/// Gives parameters that stand beside `ANY` a type, where the statement does not: an array of what is compared, or what is in it.
pub(crate) fn typed(plan: LogicalPlan) -> Result<LogicalPlan> {
    let typed = plan.transform_down_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        node.map_expressions(|expr| {
            expr.transform_up(|expr| {
                let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else {
                    return Ok(Transformed::no(expr));
                };
                let [value, array] = args.as_slice() else { return Ok(Transformed::no(expr)) };
                if func.name() != ANY_OF {
                    return Ok(Transformed::no(expr));
                }
                let is_open = |expr: &Expr| matches!(expr, Expr::Placeholder(Placeholder { field: None, .. }));
                let of = match (is_open(value), is_open(array)) {
                    (false, true) => list_of(&value.get_type(&schema)?),
                    (true, false) => match element_of(&array.get_type(&schema)?) {
                        Some(of) => of.clone(),
                        None => return Ok(Transformed::no(expr)),
                    },
                    _ => return Ok(Transformed::no(expr)),
                };
                let give = |expr: &Expr| match expr {
                    Expr::Placeholder(Placeholder { id, field: None }) => {
                        let field = Some(Arc::new(Field::new("", of.clone(), true)));
                        Expr::Placeholder(Placeholder::new_with_field(id.clone(), field))
                    }
                    other => other.clone(),
                };
                let args = vec![give(value), give(array)];
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func: Arc::clone(func), args })))
            })
        })
    })?;
    Ok(typed.data)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, ListArray};
    use datafusion::arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn what_is_not_found_beside_what_is_unknown_is_unknown() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), Some(1), Some(1), None, Some(1), None]));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
            Some(vec![Some(3), Some(1), None]),
            Some(vec![Some(3), None]),
            Some(vec![Some(3)]),
            Some(vec![Some(3)]),
            None,
            Some(vec![]),
        ]);
        let found: Vec<Option<bool>> = (0..6)
            .map(|row| if lists.is_null(row) { None } else { among(&values, row, &lists.value(row)).unwrap() })
            .collect();
        assert_eq!(found, [Some(true), None, Some(false), None, None, Some(false)]);
    }

    #[test]
    fn values_are_compared_as_something_that_both_are() {
        let any = AnyOf { signature: Signature::user_defined(Volatility::Immutable) };
        for (value, array, want) in [
            (DataType::Utf8, list_of(&DataType::Utf8), DataType::Utf8),
            (DataType::Int64, list_of(&DataType::Int32), DataType::Int64),
            (DataType::Utf8, DataType::Null, DataType::Utf8),
            (DataType::Null, list_of(&DataType::Int32), DataType::Int32),
            (DataType::Utf8, list_of(&DataType::Null), DataType::Utf8),
        ] {
            assert_eq!(any.coerce_types(&[value, array]).unwrap(), [want.clone(), list_of(&want)]);
        }
        let told = any.coerce_types(&[DataType::Utf8, DataType::Utf8]).unwrap_err().to_string();
        assert!(told.contains("ANY takes an array or a subquery, and not Utf8"), "{told}");
    }
}
