//! Where a statement is cut that is kept up to date: below are rows that each batch adds to, then groups that are kept, and above them
//! what is made of all groups. Pure: a plan in, the cut or what is in its way out.
//!
//! ```text
//! Sort, Limit, Join, …      made of all groups whenever somebody reads
//! Aggregate                 the cut: its groups are kept
//! Filter, Projection, …     of the batch's rows alone
//! the stream
//! ```

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, JoinType};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};

/// Where the groups are kept, and what is above.
#[derive(Debug, PartialEq)]
pub(super) struct Cut {
    /// The aggregate, with all that is below it.
    pub(super) groups: LogicalPlan,
    /// Whether what is above looks at each group by itself.
    pub(super) by_row: bool,
}

/// Finds the cut of a plan over the stream's table of this name, or says why there is none.
pub(super) fn cut(plan: &LogicalPlan, stream: &str) -> Result<Cut, String> {
    if !reads(plan, stream) {
        return Err(format!("the statement reads nothing of `{stream}`"));
    }
    let Some(groups) = lowest_groups(plan, stream)? else {
        let more = linear(plan, stream).err().map(|why| format!("{why}; and ")).unwrap_or_default();
        return Err(format!(
            "{more}it has no groups that could be kept: write GROUP BY, or an aggregate such as count(*), or ask each batch by \
             itself with `sql`"
        ));
    };
    let (groups, mut by_row, mut at) = (groups.clone(), true, plan);
    while *at != groups {
        let of_rows = matches!(at, LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_));
        by_row &= of_rows && !asks_others(at);
        match at.inputs().into_iter().find(|input| reads(input, stream)) {
            Some(input) => at = input,
            None => break,
        }
    }
    // Without keys there is a row even where there is no group.
    by_row &= !is_one_group(&groups);
    Ok(Cut { groups, by_row })
}

/// Finds the columns of what a plan gives that are the `keys` columns which its groups are made of, in the order of those. Nothing if one of
/// them does not come out as it is.
pub(super) fn keys_of(plan: &LogicalPlan, groups: &LogicalPlan, keys: usize) -> Option<Vec<usize>> {
    let from: Vec<Option<usize>> = (0..plan.schema().fields().len()).map(|at| key_of(plan, groups, at)).collect();
    (0..keys).map(|key| from.iter().position(|of| *of == Some(key))).collect()
}

/// The column of the groups that a column of the plan is.
fn key_of(plan: &LogicalPlan, groups: &LogicalPlan, mut column: usize) -> Option<usize> {
    let mut at = plan;
    while *at != *groups {
        at = match at {
            LogicalPlan::Projection(projection) => {
                let mut expr = projection.expr.get(column)?;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                let Expr::Column(of) = expr else { return None };
                column = projection.input.schema().index_of_column(of).ok()?;
                &projection.input
            }
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            _ => return None,
        };
    }
    Some(column)
}

fn is_one_group(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty())
}

/// Puts `other` in the place of the groups.
pub(super) fn replaced(
    plan: LogicalPlan,
    groups: &LogicalPlan,
    other: &LogicalPlan,
) -> Result<LogicalPlan, DataFusionError> {
    let replace = |plan: LogicalPlan| {
        Ok(if plan == *groups {
            Transformed::new(other.clone(), true, TreeNodeRecursion::Jump)
        } else {
            Transformed::no(plan)
        })
    };
    Ok(plan.transform_down(replace)?.data)
}

fn is_scan(scan: &TableScan, stream: &str) -> bool {
    scan.table_name.table() == stream && scan.table_name.schema().is_none_or(|schema| schema == "default")
}

fn reads(plan: &LogicalPlan, stream: &str) -> bool {
    let mut found = false;
    let _ = plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::TableScan(scan) if is_scan(scan, stream));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Says whether an expression of the node itself asks a query.
fn asks_others(plan: &LogicalPlan) -> bool {
    let mut asks = false;
    let _ = plan.apply_subqueries(|_| {
        asks = true;
        Ok(TreeNodeRecursion::Stop)
    });
    asks
}

/// The aggregate nearest to the stream.
fn lowest_groups<'a>(plan: &'a LogicalPlan, stream: &str) -> Result<Option<&'a LogicalPlan>, String> {
    let mut inner = false;
    let _ = plan.apply_subqueries(|query| {
        inner |= reads(query, stream);
        Ok(TreeNodeRecursion::Continue)
    });
    if inner {
        return Err(format!("a query inside of an expression reads `{stream}`: ask that as a statement of its own"));
    }
    let inputs: Vec<_> = plan.inputs().into_iter().filter(|input| reads(input, stream)).collect();
    let mut found = None;
    for input in &inputs {
        if let Some(groups) = lowest_groups(input, stream)? {
            if inputs.len() > 1 {
                return Err(format!("`{stream}` is read twice, and one of both is grouped: make two statements of it"));
            }
            found = Some(groups);
        }
    }
    if found.is_none() && matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_)) && !inputs.is_empty() {
        inputs.iter().try_for_each(|input| linear(input, stream))?;
        if matches!(plan, LogicalPlan::Distinct(_)) {
            return Err("DISTINCT ON (…) is not kept: write GROUP BY with first_value or max".to_owned());
        }
        return Ok(Some(plan));
    }
    Ok(found)
}

/// Fails if new rows of the stream could change what earlier ones gave.
fn linear(plan: &LogicalPlan, stream: &str) -> Result<(), String> {
    let inputs = || plan.inputs().into_iter().filter(|input| reads(input, stream));
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => Ok(()),
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Repartition(_) => inputs().try_for_each(|input| linear(input, stream)),
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => linear(&sort.input, stream),
        LogicalPlan::TableScan(_) | LogicalPlan::Limit(_) | LogicalPlan::Sort(_) => {
            Err("LIMIT below the groups: which rows are the first may change with each batch".to_owned())
        }
        LogicalPlan::Window(_) => Err(
            "a function OVER a window, below the groups: what it gave to earlier rows may change with each batch. Over the \
             groups it is possible"
                .to_owned(),
        ),
        LogicalPlan::Union(union) => {
            if inputs().count() < union.inputs.len() {
                return Err("UNION with a table that does not stream: its rows would count again in each batch".to_owned());
            }
            inputs().try_for_each(|input| linear(input, stream))
        }
        LogicalPlan::Join(join) => {
            let (left, right) = (reads(&join.left, stream), reads(&join.right, stream));
            if left && right {
                return Err(format!(
                    "`{stream}` is joined with itself: rows that come would meet those of all earlier batches. Join within a \
                     batch with `sql`, or over a window"
                ));
            }
            use JoinType as J;
            let stays = match join.join_type {
                J::Inner => true,
                J::Left | J::LeftSemi | J::LeftAnti | J::LeftMark => left,
                J::Right | J::RightSemi | J::RightAnti | J::RightMark => right,
                J::Full => false,
            };
            if !stays {
                return Err(format!(
                    "{} JOIN with `{stream}` on the side whose rows may be missing: which rows of the table have found none may \
                     change with each batch. Put `{stream}` on the side that is kept",
                    join.join_type.to_string().to_uppercase()
                ));
            }
            inputs().try_for_each(|input| linear(input, stream))
        }
        other => Err(format!("`{}` below the groups is not kept", other.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::planned::without_rewrites;
    use super::*;
    use crate::functions::Functions;
    use crate::row::schema_of;
    use crate::session::Session;
    use crate::statement::{Statement, Table};

    fn cut_of(text: &str) -> Result<Cut, String> {
        planned(text).1
    }

    fn planned(text: &str) -> (LogicalPlan, Result<Cut, String>) {
        let session = Arc::new(Session::new(1 << 24).unwrap());
        let table = |name: &str| Table {
            name: name.to_owned(),
            schema: schema_of::<(i64, Option<i64>)>(),
            rows: Arc::default(),
            version: 0,
        };
        let statement = Statement::new(text, &session).unwrap();
        let (state, plan, _) = statement.logical(&[table("r"), table("l")], &Functions::default()).unwrap();
        let plan = without_rewrites(&state).optimize(&plan).unwrap();
        let cut = cut(&plan, "r");
        (plan, cut)
    }

    #[test]
    fn what_a_statement_is_grouped_by_is_found_among_its_columns() {
        for (text, width, want) in [
            ("SELECT _1, count(*) FROM r GROUP BY _1", 1, Some(vec![0])),
            ("SELECT count(*) AS n, _1 AS k FROM r GROUP BY _1 HAVING count(*) > 3", 1, Some(vec![1])),
            ("SELECT sum(_1), _2, _1 FROM r GROUP BY _1, _2", 2, Some(vec![2, 1])),
            ("SELECT n, k FROM (SELECT _1 % 7 AS k, count(*) AS n FROM r GROUP BY _1 % 7) AS g", 1, Some(vec![1])),
            ("SELECT DISTINCT _2, _1 FROM r", 2, Some(vec![0, 1])),
            ("SELECT _1 AS a, _1 AS b, max(_2) FROM r GROUP BY _1", 1, Some(vec![0])),
            ("SELECT _1 + 1, count(*) FROM r GROUP BY _1", 1, None),
            ("SELECT _1, count(*) FROM r GROUP BY _1, _2", 2, None),
            ("SELECT _1, _2, count(*) FROM r GROUP BY ROLLUP (_1, _2)", 3, None),
        ] {
            let (plan, cut) = planned(text);
            assert_eq!(keys_of(&plan, &cut.unwrap().groups, width), want, "{text}");
        }
    }

    #[test]
    fn what_can_be_kept_up_to_date_and_whether_each_group_stands_for_itself() {
        for (text, by_row) in [
            ("SELECT _1, count(*), avg(_2) FROM r GROUP BY _1", true),
            ("SELECT count(*) FROM r", false),
            ("SELECT DISTINCT _1 FROM r", true),
            ("SELECT _1 + 1 AS k, sum(_2) AS s FROM r WHERE _2 > 3 GROUP BY _1 + 1 HAVING sum(_2) > 7", true),
            ("SELECT _1, count(DISTINCT _2) FROM r GROUP BY _1", true),
            ("SELECT _1, count(*) FROM r GROUP BY _1 ORDER BY 2 DESC LIMIT 10", false),
            ("SELECT _1, rank() OVER (ORDER BY count(*)) FROM r GROUP BY _1", false),
            ("SELECT count(*) FROM (SELECT _1, count(*) AS n FROM r GROUP BY _1) AS g WHERE n > 1", false),
            ("SELECT l._2, count(*) FROM r JOIN l ON r._1 = l._1 GROUP BY l._2", true),
            ("SELECT l._2, count(*) FROM r LEFT JOIN l ON r._1 = l._1 GROUP BY l._2", true),
            ("SELECT r._1, count(*) FROM l RIGHT JOIN r ON r._1 = l._1 GROUP BY r._1", true),
            ("SELECT _1, count(*) FROM r WHERE _1 IN (SELECT _1 FROM l) GROUP BY _1", true),
            ("SELECT _1, count(*) FROM r WHERE NOT EXISTS (SELECT 1 FROM l WHERE l._1 = r._1) GROUP BY _1", true),
            ("SELECT _1, count(*) FROM r WHERE _2 > (SELECT max(_2) FROM l) GROUP BY _1", true),
            (
                "SELECT g._1, g.n, l._2 FROM (SELECT _1, count(*) AS n FROM r GROUP BY _1) AS g LEFT JOIN l ON g._1 = l._1",
                false,
            ),
            ("SELECT _1, _2, count(*) FROM r GROUP BY ROLLUP (_1, _2)", true),
            (
                "SELECT k, count(*) FROM (SELECT _1 AS k FROM r UNION ALL SELECT _2 FROM r WHERE _2 > 0) AS u GROUP BY k",
                true,
            ),
            ("WITH a AS (SELECT _1 AS k FROM r WHERE _2 IS NOT NULL) SELECT k, min(k) FROM a GROUP BY k", true),
        ] {
            let cut = cut_of(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(cut.by_row, by_row, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_kept_up_to_date_is_told_with_the_reason() {
        for (text, want) in [
            ("SELECT _1 FROM r", "it has no groups that could be kept: write GROUP BY"),
            ("SELECT _1, row_number() OVER (ORDER BY _2) FROM r", "a function OVER a window, below the groups"),
            ("SELECT _1, _2 FROM r ORDER BY _2 LIMIT 3", "LIMIT below the groups: which rows are the first may change"),
            ("SELECT count(*) FROM (SELECT _1 FROM r ORDER BY _2 LIMIT 3) AS a", "LIMIT below the groups"),
            (
                "SELECT sum(n) FROM (SELECT row_number() OVER (ORDER BY _2) AS n FROM r) AS a",
                "a function OVER a window",
            ),
            (
                "SELECT count(*) FROM r AS a JOIN r AS b ON a._1 = b._2",
                "`r` is joined with itself: rows that come would meet",
            ),
            (
                "SELECT l._1, count(r._1) FROM l LEFT JOIN r ON r._1 = l._1 GROUP BY l._1",
                "LEFT JOIN with `r` on the side whose",
            ),
            (
                "SELECT count(*) FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r._1 = l._1)",
                "JOIN with `r` on the side whose",
            ),
            ("SELECT count(l._1), count(r._1) FROM l FULL JOIN r ON r._1 = l._1", "FULL JOIN with `r` on the side"),
            (
                "SELECT k, count(*) FROM (SELECT _1 AS k FROM r UNION ALL SELECT _1 FROM l) AS u GROUP BY k",
                "UNION with a table",
            ),
            ("SELECT count(*) FROM r WHERE _2 > (SELECT avg(_2) FROM r)", "a query inside of an expression reads `r`"),
            (
                "SELECT _1, count(*) FROM r GROUP BY _1 UNION ALL SELECT _2, 1 FROM r",
                "`r` is read twice, and one of both",
            ),
            ("SELECT count(*) FROM l", "the statement reads nothing of `r`"),
        ] {
            let why = cut_of(text).expect_err(text);
            assert!(why.contains(want), "{text}: {why}");
        }
    }
}
