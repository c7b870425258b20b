//! Which plans may be made ready before the values of their parameters are known, so that a prepared statement pays for it once.
//!
//! What a value changes of a plan must be as good when it is put in last: `key = $1` is, and a cast or a function of a value, which would
//! be worked out beforehand, is not. What the time changes, such as `now()`, is worked out with each run.

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Volatility};

/// Says whether a plan, which has been made of a statement, may be optimised before it has its values.
pub(crate) fn is_ready_before_its_values(plan: &LogicalPlan) -> bool {
    let (mut all, mut plain, mut steady) = (0, 0, true);
    // They fail if we fail, which we do not.
    let _ = plan.apply_with_subqueries(|node| {
        let _ = node.apply_expressions(|expr| {
            expr.apply(|inner| {
                match inner {
                    Expr::Placeholder(_) => all += 1,
                    Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => {
                        plain += usize::from(is_plain(left, right)) + usize::from(is_plain(right, left));
                    }
                    Expr::ScalarFunction(call) => steady &= call.func.signature().volatility == Volatility::Immutable,
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
        Ok(TreeNodeRecursion::Continue)
    });
    steady && all == plain
}

fn compares(op: Operator) -> bool {
    matches!(op, Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// Says whether `value` is a parameter of a known type that is compared with a column.
fn is_plain(column: &Expr, value: &Expr) -> bool {
    matches!((column, value), (Expr::Column(_), Expr::Placeholder(placeholder)) if placeholder.field.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    #[test]
    fn a_plan_is_ready_where_values_are_compared_with_columns_and_nothing_depends_on_the_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let context = SessionContext::new();
        let plan = |text: &str| runtime.block_on(context.state().create_logical_plan(text)).unwrap();
        runtime.block_on(context.sql("CREATE TABLE t (\"key\" BIGINT, v DOUBLE)")).unwrap();
        for (text, ready) in [
            ("SELECT v FROM t", true),
            ("SELECT v FROM t WHERE key = $1", true),
            ("SELECT v FROM t WHERE $1 <> key AND v < $2", true),
            ("SELECT abs(v) FROM t WHERE key IN (SELECT key FROM t WHERE v > $1)", true),
            ("SELECT v FROM t WHERE key = $1 + 1", false),
            ("SELECT v FROM t WHERE key = CAST($1 AS BIGINT)", false),
            ("SELECT v FROM t WHERE key IN ($1, $2)", false),
            ("SELECT v FROM t WHERE abs(key) = $1", false),
            ("SELECT v FROM t LIMIT $1", false),
            ("SELECT v, now() FROM t WHERE key = $1", false),
            ("SELECT v, random() FROM t", false),
            ("SELECT v FROM t WHERE key IN (SELECT key FROM t WHERE v > random())", false),
        ] {
            assert_eq!(is_ready_before_its_values(&plan(text)), ready, "{text}");
        }
    }
}
