//! Functions of Spark that are others here under another name, or something else that means the same. Pure.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, DuplicateTreatment, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident, ObjectName, OrderByExpr, OrderByOptions,
    UnaryOperator, Value, helpers::attached_token::AttachedToken,
};

use super::generators::arguments;
use super::lists::ROWS;
use super::rewrite::{call, decimal, number, take, typed, whole};

/// What a call means, if it is not what it says. A call that has another name, and the same arguments, is changed in its place.
pub(super) fn rewritten(function: &mut Function) -> Result<Option<Expr>, String> {
    let mut name = function.name.to_string().to_lowercase();
    if let Some(other) = renamed(&name) {
        function.name = named(other);
        name = other.to_owned();
    }
    if let Some(aggregate) = aggregate(&name, function)? {
        return Ok(Some(aggregate));
    }
    let Some(mut args) = arguments(function) else { return Ok(None) };
    if let Some(kind) = cast(&name)
        && args.len() == 1
    {
        return Ok(Some(cast_as(args.remove(0), kind)));
    }
    if let Some(instead) = plain(&name, &mut args)? {
        return Ok(Some(instead));
    }
    if let Some(inside) = super::typed::inside(&name) {
        function.name = named(&inside);
    }
    Ok(None)
}

/// Whether statements have a meaning for this name that a function of the program would not be asked for.
pub(super) fn is_taken(name: &str) -> bool {
    let written = ["if", "mod", "negative", "positive", "nvl2", "locate", "space", "struct", "elt", "window", "map"];
    let rows = ["explode", "posexplode", "stack", "inline", "explode_outer", "posexplode_outer"];
    let aggregates =
        ["count_if", "first", "last", "max_by", "min_by", "percentile", "listagg", "collect_list", "collect_set"];
    let all = written.iter().chain(&rows).chain(&aggregates).any(|taken| *taken == name);
    all || renamed(name).is_some() || cast(name).is_some() || super::typed::inside(name).is_some()
}

fn named(name: &str) -> ObjectName {
    ObjectName::from(vec![Ident::new(name)])
}

/// Other names of the same thing.
fn renamed(name: &str) -> Option<&'static str> {
    Some(match name {
        "ucase" => "upper",
        "lcase" => "lower",
        "len" | "char_length" => "character_length",
        "sign" => "signum",
        "char" => "chr",
        "variance" => "var_samp",
        "std" => "stddev",
        "every" => "bool_and",
        "any" | "some" => "bool_or",
        "approx_count_distinct" => "approx_distinct",
        "map_from_arrays" => "map",
        "transform" => "array_transform",
        "filter" => "array_filter",
        "exists" => "array_any_match",
        "ifnull" => "coalesce",
        "sha" => "sha1",
        "dateadd" => "date_add",
        "to_unix_timestamp" => "unix_timestamp",
        "current_timestamp" | "localtimestamp" => "now",
        "curdate" => "current_date",
        "ceiling" => "ceil",
        _ => return None,
    })
}

/// `INT('5')` is a cast.
fn cast(name: &str) -> Option<DataType> {
    Some(match name {
        "tinyint" => DataType::TinyInt(None),
        "smallint" => DataType::SmallInt(None),
        "int" => DataType::Int(None),
        "bigint" => DataType::BigInt(None),
        "float" => DataType::Float(ExactNumberInfo::None),
        "double" => DataType::Double(ExactNumberInfo::None),
        "boolean" => DataType::Boolean,
        "string" => DataType::String(None),
        _ => return None,
    })
}

fn cast_as(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn plain(name: &str, args: &mut Vec<Expr>) -> Result<Option<Expr>, String> {
    fn next(args: &mut [Expr], at: usize) -> Expr {
        take(&mut args[at])
    }
    Ok(Some(match (name, args.len()) {
        ("negative", 1) => Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(args.remove(0)) },
        ("positive", 1) => args.remove(0),
        ("mod", 2) => binary(next(args, 0), BinaryOperator::Modulo, next(args, 1)),
        ("if", 3) => when(next(args, 0), next(args, 1), next(args, 2)),
        ("nvl2", 3) => when(Expr::IsNotNull(Box::new(next(args, 0))), next(args, 1), next(args, 2)),
        ("locate", 2) => call("instr", vec![next(args, 1), next(args, 0)]),
        ("locate", 3) => call("instr", vec![next(args, 1), next(args, 0), next(args, 2)]),
        ("space", 1) => call("repeat", vec![text(" "), args.remove(0)]),
        ("shiftleft" | "shiftright" | "shiftrightunsigned", 2) => {
            let first = typed(&mut args[0]);
            call(&format!("checked_{name}"), vec![first, args.remove(1)])
        }
        ("try_add" | "try_subtract" | "try_multiply", 2) => {
            let (first, second) = (typed(&mut args[0]), typed(&mut args[1]));
            call(&format!("checked_{name}"), vec![first, second])
        }
        ("try_divide", 2) => {
            let divisor = call("nullif", vec![next(args, 1), whole("0")]);
            Expr::Nested(Box::new(binary(next(args, 0), BinaryOperator::Divide, divisor)))
        }
        ("round" | "bround", 1 | 2) if number(&args[0]).is_some() => {
            let Some(value) = decimal(&args[0]) else { return Ok(None) };
            args[0] = value;
            call(name, std::mem::take(args))
        }
        ("map", _) if args.len().is_multiple_of(2) && !args.is_empty() && !args.iter().any(is_list) => {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (at, expr) in args.drain(..).enumerate() {
                if at % 2 == 0 { keys.push(expr) } else { values.push(expr) }
            }
            call("map", vec![call("array", keys), call("array", values)])
        }
        ("struct", 1..) => structure(args.drain(..).map(|expr| (None, expr))),
        ("elt", 2..) => {
            let (index, values) = (args.remove(0), std::mem::take(args));
            call(super::texts::SUBSCRIPT, vec![call("array", values), binary(index, BinaryOperator::Minus, whole("1"))])
        }
        ("date_add" | "datediff" | "date_diff" | "timestampdiff" | "timestampadd", 3) => {
            let unit = match &args[0] {
                Expr::Identifier(unit) => unit.value.to_lowercase(),
                other => return Err(format!("{name} begins with a unit as DAY or HOUR, and not with `{other}`")),
            };
            let function = if name.ends_with("diff") { "units_between" } else { "units_added" };
            call(function, vec![text(&unit), next(args, 1), next(args, 2)])
        }
        ("now", _) => call("now", Vec::new()),
        ("window", 2) => call("time_window", vec![next(args, 0), next(args, 1)]),
        ("window", 3..) => {
            let text = "window(time, size, slide) is not known here, as a row is in one window: write window(time, size), \
                        or a window of the stream";
            return Err(text.to_owned());
        }
        _ => return Ok(None),
    }))
}

fn is_list(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function)
        if matches!(function.name.to_string().to_lowercase().trim_start_matches("spark_"), "array" | "make_array" | "map_keys" | "map_values"))
}

/// A row of values. One without a name is called by its column, or by its place.
pub(super) fn structure(values: impl Iterator<Item = (Option<Ident>, Expr)>) -> Expr {
    let mut fields = Vec::new();
    for (at, (name, value)) in values.enumerate() {
        let name = match (name, &value) {
            (Some(name), _) => name.value,
            (None, Expr::Identifier(name)) => name.value.clone(),
            (None, Expr::CompoundIdentifier(names)) => names.last().map(|name| name.value.clone()).unwrap_or_default(),
            _ => format!("col{}", at + 1),
        };
        fields.extend([text(&name), value]);
    }
    call("named_struct", fields)
}

/// Aggregates that are others with conditions or orders.
fn aggregate(name: &str, function: &mut Function) -> Result<Option<Expr>, String> {
    let FunctionArguments::List(list) = &mut function.args else { return Ok(None) };
    match (name, list.args.len()) {
        ("count_if", 1) => {
            let Some(condition) = value(&list.args[0]) else { return Ok(None) };
            list.args[0] = argument(when(condition, whole("1"), Expr::value(Value::Null)));
            function.name = named("count");
        }
        ("count", 2..) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) => {
            let Some(values) = list.args.iter().map(value).collect::<Option<Vec<_>>>() else { return Ok(None) };
            let known = values.iter().map(|value| Expr::IsNotNull(Box::new(value.clone())));
            let Some(known) = known.reduce(|all, one| binary(all, BinaryOperator::And, one)) else { return Ok(None) };
            let fields = values.into_iter().enumerate().map(|(at, value)| (Some(Ident::new(format!("c{at}"))), value));
            list.args = vec![argument(when(known, structure(fields), Expr::value(Value::Null)))];
        }
        ("first" | "first_value" | "last" | "last_value" | "any_value", 2) => {
            return Err(format!("{name}(x, true) is not known here: write {name}(x) FILTER (WHERE x IS NOT NULL)"));
        }
        ("first", 1) => function.name = named("first_value"),
        ("last", 1) => function.name = named("last_value"),
        ("any_value", 1) => function.name = named("first_value"),
        ("max_by" | "min_by", 2) => {
            let Some(by) = value(&list.args[1]) else { return Ok(None) };
            list.args.truncate(1);
            let options = OrderByOptions { asc: Some(name == "min_by"), nulls_first: Some(false) };
            let order = OrderByExpr { expr: by.clone(), options, with_fill: None };
            list.clauses.push(FunctionArgumentClause::OrderBy(vec![order]));
            only_if(&mut function.filter, Expr::IsNotNull(Box::new(by)));
            function.name = named("first_value");
        }
        ("median", 1) => {
            let Some(of) = value(&list.args[0]) else { return Ok(None) };
            list.args[0] = argument(cast_as(of, DataType::Double(ExactNumberInfo::None)));
        }
        ("percentile", 2) => {
            let (of, share) = (value(&list.args[0]), value(&list.args[1]));
            let (Some(of), Some(share)) = (of, share) else { return Ok(None) };
            list.args = vec![argument(share)];
            let options = OrderByOptions { asc: None, nulls_first: None };
            let expr = cast_as(of, DataType::Double(ExactNumberInfo::None));
            function.within_group = vec![OrderByExpr { expr, options, with_fill: None }];
            function.name = named("percentile_cont");
        }
        ("listagg" | "string_agg", 1 | 2) => {
            if list.args.len() == 1 {
                list.args.push(argument(text("")));
            }
            if !function.within_group.is_empty() {
                let order = std::mem::take(&mut function.within_group);
                list.clauses.push(FunctionArgumentClause::OrderBy(order));
            }
            function.name = named("string_agg");
        }
        ("collect_list" | "collect_set", 1) => {
            let Some(of) = value(&list.args[0]) else { return Ok(None) };
            if name == "collect_set" {
                list.duplicate_treatment = Some(DuplicateTreatment::Distinct);
            }
            only_if(&mut function.filter, Expr::IsNotNull(Box::new(of)));
            function.name = named("array_agg");
            // Of no values there is an empty list, and not null.
            return Ok(Some(call(ROWS, vec![Expr::Function(function.clone())])));
        }
        _ => {}
    }
    Ok(None)
}

/// The value of an argument, if it is one without a name.
fn value(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

fn argument(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn only_if(filter: &mut Option<Box<Expr>>, condition: Expr) {
    *filter = Some(Box::new(match filter.take() {
        Some(before) => binary(Expr::Nested(before), BinaryOperator::And, condition),
        None => condition,
    }));
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn when(condition: Expr, then: Expr, otherwise: Expr) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition, result: then }],
        else_result: Some(Box::new(otherwise)),
    }
}

pub(super) fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}
