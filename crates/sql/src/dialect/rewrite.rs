//! What is written in Spark's way, written so that DataFusion means the same.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr,
    GroupByWithModifier, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, TableAlias, TableFactor, Value,
    VisitMut, VisitorMut,
};
use millstream_core::{Error, ErrorKind, Result};

/// Rewrites a query, or says what is to be written instead.
pub(super) fn rewrite(query: &mut Query) -> Result<()> {
    match query.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(text) => Err(Error::new(ErrorKind::Config, text)),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            small_alias(&mut cte.alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        for item in &mut select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                small(alias);
            }
        }
        if let Some(refused) = refused(select) {
            return ControlFlow::Break(refused);
        }
        // A program has one partition here: rows that are told where to go stay where they are.
        select.distribute_by.clear();
        select.cluster_by.clear();
        if let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by {
            let sets = keys.drain(..).map(|key| vec![key]).collect();
            match modifiers.pop() {
                Some(GroupByWithModifier::Rollup) => keys.push(Expr::Rollup(sets)),
                Some(GroupByWithModifier::Cube) => keys.push(Expr::Cube(sets)),
                other => {
                    keys.extend(sets.into_iter().flatten());
                    modifiers.extend(other);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<String> {
        if let TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. } = factor
        {
            small_alias(alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<String> {
        for part in &mut relation.0 {
            if let ObjectNamePart::Identifier(name) = part {
                small(name);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match expr {
            Expr::Identifier(name) => small(name),
            Expr::CompoundIdentifier(names) => names.iter_mut().for_each(small),
            Expr::BinaryOp { left, op, right } => {
                if let Some(function) = checked(op) {
                    let text = Expr::value(Value::SingleQuotedString(format!("{left} {op} {right}")));
                    let (left, right) = (take(left), take(right));
                    *expr = call(function, vec![left, right, text]);
                }
            }
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let (negated, text, pattern) = (*negated, take(text), take(pattern));
                *expr = call("regexp_like", vec![text, pattern]);
                if negated {
                    *expr = Expr::UnaryOp {
                        op: datafusion::sql::sqlparser::ast::UnaryOperator::Not,
                        expr: Box::new(take(expr)),
                    };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Operators that fail in Spark where they wrap, round or give null elsewhere.
fn checked(op: &BinaryOperator) -> Option<&'static str> {
    Some(match op {
        BinaryOperator::Plus => "checked_add",
        BinaryOperator::Minus => "checked_subtract",
        BinaryOperator::Multiply => "checked_multiply",
        BinaryOperator::Divide => "checked_divide",
        BinaryOperator::MyIntegerDivide => "checked_div",
        _ => return None,
    })
}

fn refused(select: &Select) -> Option<String> {
    if !select.lateral_views.is_empty() {
        return Some("LATERAL VIEW is not known here: write `SELECT …, unnest(tags) AS tag FROM …`".to_owned());
    }
    if !select.sort_by.is_empty() {
        return Some("SORT BY sorts the partitions of a table, and a statement has one: write ORDER BY".to_owned());
    }
    None
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

fn call(function: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Names are found without regard to case: all are in small letters, those of tables and columns too.
fn small(name: &mut Ident) {
    name.value = name.value.to_lowercase();
}

fn small_alias(alias: &mut TableAlias) {
    small(&mut alias.name);
    alias.columns.iter_mut().for_each(|column| small(&mut column.name));
}
