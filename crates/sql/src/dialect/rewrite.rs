//! What is written in Spark's way, written so that DataFusion means the same.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, GroupByWithModifier, Ident, JoinOperator, ObjectName, ObjectNamePart, Query,
    Select, SelectItem, SetExpr, SetOperator, Subscript, TableAlias, TableFactor, UnaryOperator, Value, VisitMut,
    VisitorMut,
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
        minus(&mut query.body);
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
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            join.join_operator = match std::mem::replace(&mut join.join_operator, JoinOperator::CrossApply) {
                JoinOperator::Semi(on) => JoinOperator::LeftSemi(on),
                JoinOperator::Anti(on) => JoinOperator::LeftAnti(on),
                other => other,
            };
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
                    let text = format!("{left} {op} {right}");
                    if let (Some(one), Some(other)) = (number(left), number(right))
                        && let Some(decimal) = [one, other].into_iter().find(|text| is_decimal(text))
                    {
                        return ControlFlow::Break(format!(
                            "`{text}` is refused: {decimal} is a DECIMAL in Spark and a DOUBLE here, write {decimal}e0 for a DOUBLE, or \
                             CAST('{decimal}' AS DECIMAL(10, 2))"
                        ));
                    }
                    let text = Expr::value(Value::SingleQuotedString(text));
                    let (left, right) = (typed(left), typed(right));
                    *expr = call(function, vec![left, right, text]);
                }
            }
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let (negated, text, pattern) = (*negated, take(text), take(pattern));
                *expr = call("regexp_like", vec![text, pattern]);
                if negated {
                    *expr = Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(take(expr)) };
                }
            }
            Expr::Substring { expr: text, substring_from, substring_for, .. } => {
                let from = substring_from.as_mut().map_or_else(|| whole("1"), |from| take(from));
                let mut arguments = vec![take(text), from];
                arguments.extend(substring_for.as_mut().map(|length| take(length)));
                *expr = call("substring", arguments);
            }
            Expr::Extract { field, expr: time, .. } => {
                if let Some(function) = part_of_time(&field.to_string()) {
                    *expr = call(function, vec![take(time)]);
                }
            }
            Expr::Function(function) => {
                if let Some(rewritten) = date_part(function).or_else(|| about_null(function)) {
                    *expr = rewritten;
                }
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                *expr = elements(take(root), std::mem::take(access_chain));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The digits of a number that is written out, without its sign.
fn number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Some(digits),
            _ => None,
        },
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => number(inner),
        _ => None,
    }
}

fn is_decimal(digits: &str) -> bool {
    digits.contains('.') && !digits.contains(['e', 'E'])
}

/// An operand: a whole number that is written out is an INT if it fits, so that a sum overflows where it does in Spark.
fn typed(expr: &mut Expr) -> Expr {
    let long = matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(_, true)));
    let int = number(expr).is_some_and(|digits| digits.parse::<i32>().is_ok());
    let inner = take(expr);
    if long || !int {
        return inner;
    }
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(inner),
        data_type: DataType::Int(None),
        array: false,
        format: None,
    }
}

/// The function for a part of a time of which DataFusion has another notion: days of the week from 0, seconds without a fraction.
fn part_of_time(part: &str) -> Option<&'static str> {
    match part.to_lowercase().as_str() {
        "dow" | "dayofweek" => Some("dayofweek"),
        "second" | "seconds" => Some(super::texts::SECONDS),
        _ => None,
    }
}

fn date_part(function: &mut Function) -> Option<Expr> {
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(part)), FunctionArg::Unnamed(FunctionArgExpr::Expr(time))] =
        list.args.as_mut_slice()
    else {
        return None;
    };
    let Expr::Value(part) = part else { return None };
    let (true, Value::SingleQuotedString(part)) = (matches!(&*name, "date_part" | "datepart"), &part.value) else {
        return None;
    };
    part_of_time(part).map(|function| call(function, vec![take(time)]))
}

/// Functions that ask for NULL, or put something in its place.
fn about_null(function: &mut Function) -> Option<Expr> {
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(value))] = list.args.as_mut_slice() else { return None };
    Some(match &*name {
        "isnull" => Expr::IsNull(Box::new(take(value))),
        "isnotnull" => Expr::IsNotNull(Box::new(take(value))),
        "zeroifnull" => call("coalesce", vec![take(value), whole("0")]),
        "nullifzero" => call("nullif", vec![take(value), whole("0")]),
        _ => return None,
    })
}

/// `MINUS` is `EXCEPT`.
fn minus(body: &mut SetExpr) {
    if let SetExpr::SetOperation { op, left, right, .. } = body {
        if *op == SetOperator::Minus {
            *op = SetOperator::Except;
        }
        minus(left);
        minus(right);
    }
}

/// Elements of lists count from 0. What has a text in brackets, a map or a row, is left as it is.
fn elements(root: Expr, chain: Vec<AccessExpr>) -> Expr {
    let (mut root, mut pending) = (root, Vec::new());
    let so_far = |root: Expr, access_chain: Vec<AccessExpr>| {
        if access_chain.is_empty() { root } else { Expr::CompoundFieldAccess { root: Box::new(root), access_chain } }
    };
    for access in chain {
        match access {
            AccessExpr::Subscript(Subscript::Index { index }) if !is_text(&index) => {
                let base = so_far(root, std::mem::take(&mut pending));
                root = call(super::texts::SUBSCRIPT, vec![base, index]);
            }
            other => pending.push(other),
        }
    }
    so_far(root, pending)
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value)
        if matches!(value.value, Value::SingleQuotedString(_) | Value::DoubleQuotedString(_)))
}

fn whole(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.to_owned(), false))
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
    if select.qualify.is_some() {
        let text = "QUALIFY is not SQL of Spark: write SELECT … FROM (SELECT …, row_number() OVER (…) AS n FROM …) WHERE n = 1";
        return Some(text.to_owned());
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
