//! What is written in Spark's way, written so that DataFusion means the same.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, GroupByWithModifier, Ident,
    JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, SetOperator, Subscript, TableAlias,
    TableFactor, UnaryOperator, Value, VisitMut, VisitorMut,
};
use millstream_core::{Error, ErrorKind, Result};

use super::calls;
use super::generators::{Spread, query};

/// Writes what makes rows, and what orders them, in another way: before anybody asks how its columns are called.
pub(super) fn spread(query: &mut Query) -> Result<()> {
    match query.visit(&mut Spread) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(text) => Err(Error::new(ErrorKind::Config, text)),
    }
}

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
        windows(select);
        grouping(select);
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
        match factor {
            TableFactor::Pivot { .. } => {
                let text =
                    "PIVOT is not known here: write count(age) FILTER (WHERE city = 'London') AS london, and so on";
                return ControlFlow::Break(text.to_owned());
            }
            TableFactor::Derived { lateral: true, .. } => {
                let text = "LATERAL (SELECT …) is not known here: write what it computes in SELECT, or a JOIN";
                return ControlFlow::Break(text.to_owned());
            }
            _ => {}
        }
        if let Some(numbers) = numbers(factor) {
            *factor = numbers;
        }
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
                    if let Some(written) = decimal_of(left, right) {
                        // A quotient of decimals has other digits than in Spark.
                        let exact = !matches!(op, BinaryOperator::Divide | BinaryOperator::MyIntegerDivide);
                        let (Some(one), Some(other), true) = (decimal(left), decimal(right), exact) else {
                            return ControlFlow::Break(format!(
                                "`{text}` is refused: {written} is a DECIMAL in Spark and a DOUBLE here, write {written}e0 for a \
                                 DOUBLE, or CAST('{written}' AS DECIMAL(10, 2))"
                            ));
                        };
                        (**left, **right) = (one, other);
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
                let rewritten = match date_part(function).or_else(|| about_null(function)) {
                    Some(rewritten) => Ok(Some(rewritten)),
                    None => calls::rewritten(function),
                };
                match rewritten {
                    Ok(Some(rewritten)) => *expr = rewritten,
                    Ok(None) => {}
                    Err(text) => return ControlFlow::Break(text),
                }
            }
            Expr::Struct { values, fields } if fields.is_empty() => {
                let values = std::mem::take(values).into_iter().map(|value| match value {
                    Expr::Named { expr, name } => (Some(name), *expr),
                    other => (None, other),
                });
                *expr = calls::structure(values);
            }
            // The planner takes a number for nothing where a frame of rows begins or ends.
            Expr::Interval(interval) => {
                if let Expr::Value(value) = &mut *interval.value
                    && let Value::Number(digits, _) = &value.value
                {
                    value.value = Value::SingleQuotedString(digits.clone());
                }
            }
            Expr::Position { expr: text, r#in } => *expr = call("instr", vec![take(r#in), take(text)]),
            Expr::Ceil { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                *expr = call("ceil", vec![take(value)]);
            }
            Expr::Floor { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                *expr = call("floor", vec![take(value)]);
            }
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: value } => {
                let (left, right) = (Box::new(typed(value)), Box::new(cast_int("-1")));
                *expr = Expr::BinaryOp { left, op: BinaryOperator::BitwiseXor, right };
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                *expr = elements(take(root), std::mem::take(access_chain));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// `range(10)` behind FROM is the numbers from 0.
fn numbers(factor: &TableFactor) -> Option<TableFactor> {
    let TableFactor::Table { name, alias, args: Some(args), .. } = factor else { return None };
    if !name.to_string().eq_ignore_ascii_case("range") || !(1..=3).contains(&args.args.len()) {
        return None;
    }
    let mut ends: Vec<Expr> = Vec::new();
    for argument in &args.args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(end)) = argument else { return None };
        ends.push(end.clone());
    }
    if ends.len() == 1 {
        ends.insert(0, whole("0"));
    }
    let (expr, id) = (call("unnest", vec![call("range", ends)]), Ident::new("id"));
    let subquery = Box::new(query(vec![SelectItem::ExprWithAlias { expr, alias: id }], Vec::new()));
    let name = TableAlias { explicit: true, name: Ident::new("range"), columns: Vec::new(), at: None };
    let alias = Some(alias.clone().unwrap_or(name));
    Some(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
}

/// `grouping_id()` is of all that rows are grouped by.
fn grouping(select: &mut Select) {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return };
    let mut all: Vec<Expr> = Vec::new();
    for key in keys {
        let of = match key {
            Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets) => {
                sets.iter().flatten().cloned().collect()
            }
            other => vec![other.clone()],
        };
        for key in of {
            if !all.contains(&key) {
                all.push(key);
            }
        }
    }
    let _ = select.projection.visit(&mut Grouping { all: &all });
    let _ = select.having.visit(&mut Grouping { all: &all });
}

struct Grouping<'a> {
    all: &'a [Expr],
}

impl VisitorMut for Grouping<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr
            && function.name.to_string().eq_ignore_ascii_case("grouping_id")
        {
            let given = super::generators::arguments(function).filter(|given| !given.is_empty());
            *expr = call("grouping", given.unwrap_or_else(|| self.all.to_vec()));
        }
        ControlFlow::Continue(())
    }
}

/// What `window.start` and `window.end` are of, where rows are grouped by windows of time.
fn windows(select: &mut Select) {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return };
    let is_window = |key: &&Expr| matches!(key, Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("window"));
    let Some(window) = keys.iter().find(is_window).cloned() else { return };
    let mut fields = Fields { window };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            let _ = expr.visit(&mut fields);
        }
    }
    if let Some(having) = &mut select.having {
        let _ = having.visit(&mut fields);
    }
}

struct Fields {
    window: Expr,
}

impl VisitorMut for Fields {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::CompoundIdentifier(names) => {
                if let [window, field] = names.as_slice()
                    && window.value.eq_ignore_ascii_case("window")
                    && matches!(&*field.value.to_lowercase(), "start" | "end")
                {
                    let index = super::calls::text(&field.value.to_lowercase());
                    let access_chain = vec![AccessExpr::Subscript(Subscript::Index { index })];
                    *expr = Expr::CompoundFieldAccess { root: Box::new(self.window.clone()), access_chain };
                }
            }
            Expr::Identifier(name) if name.value.eq_ignore_ascii_case("window") => *expr = self.window.clone(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Of two numbers that are written out, the one that Spark takes for a decimal.
fn decimal_of(left: &Expr, right: &Expr) -> Option<String> {
    let both = [number(left)?, number(right)?];
    both.into_iter().find(|digits| is_decimal(digits)).map(str::to_owned)
}

/// The digits of a number that is written out, without its sign.
pub(super) fn number(expr: &Expr) -> Option<&str> {
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

/// The sign of a number that is written out.
fn sign(mut expr: &Expr) -> &'static str {
    let mut negative = false;
    while let Expr::Nested(next) | Expr::UnaryOp { op: UnaryOperator::Minus, expr: next } = expr {
        negative ^= matches!(expr, Expr::UnaryOp { .. });
        expr = next;
    }
    if negative { "-" } else { "" }
}

/// A number that is written out without an exponent, as Spark types it: with as many digits as it has.
pub(super) fn decimal(expr: &Expr) -> Option<Expr> {
    let digits = number(expr).filter(|digits| !digits.contains(['e', 'E']))?;
    let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
    let (before, scale) = (before.trim_start_matches('0').len(), behind.len());
    let precision = (before + scale).max(1);
    if precision > 38 {
        return None;
    }
    let sign = sign(expr);
    Some(Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(super::calls::text(&format!("{sign}{digits}"))),
        data_type: DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision as u64, scale as i64)),
        array: false,
        format: None,
    })
}

fn cast_int(digits: &str) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(super::calls::text(digits)),
        data_type: DataType::Int(None),
        array: false,
        format: None,
    }
}

/// An operand: a whole number that is written out is an INT if it fits, so that a sum overflows where it does in Spark.
pub(super) fn typed(expr: &mut Expr) -> Expr {
    let long = matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(_, true)));
    let int = number(expr).is_some_and(|digits| format!("{}{digits}", sign(expr)).parse::<i32>().is_ok());
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
            AccessExpr::Dot(Expr::Identifier(field)) if !matches!(root, Expr::Identifier(_)) => {
                let index = super::calls::text(&field.value);
                pending.push(AccessExpr::Subscript(Subscript::Index { index }));
            }
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

pub(super) fn whole(digits: &str) -> Expr {
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
    if select.qualify.is_some() {
        let text = "QUALIFY is not SQL of Spark: write SELECT … FROM (SELECT …, row_number() OVER (…) AS n FROM …) WHERE n = 1";
        return Some(text.to_owned());
    }
    None
}

pub(super) fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

pub(super) fn call(function: &str, arguments: Vec<Expr>) -> Expr {
    let inside = super::typed::inside(function);
    call_of(inside.as_deref().unwrap_or(function), arguments)
}

/// The call of a function by the name that DataFusion knows it by.
pub(crate) fn call_of(name: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
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
