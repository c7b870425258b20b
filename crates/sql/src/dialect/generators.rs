//! What makes several rows of one: `explode` and its kin between SELECT and FROM, and in LATERAL VIEW. Pure.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LateralView, OrderBy,
    OrderByExpr, OrderByKind, OrderByOptions, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::lists::{PLACES, PLACES_OUTER, ROWS, ROWS_OUTER};
use super::rewrite::{call, take};

/// Writes what makes rows as DataFusion does, and SORT BY as an order: a table here has one partition.
pub(super) struct Spread;

impl VisitorMut for Spread {
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
        let views: Vec<String> = select.lateral_views.iter().filter_map(named).collect();
        if !views.is_empty() {
            let _ = query.visit(&mut Bare { views: &views });
        }
        let SetExpr::Select(select) = &mut *query.body else { return ControlFlow::Continue(()) };
        let mut order = std::mem::take(&mut select.sort_by);
        order.extend(std::mem::take(&mut select.cluster_by).into_iter().map(rising));
        select.distribute_by.clear();
        if !order.is_empty() && query.order_by.is_none() {
            query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(order), interpolate: None });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        match spread(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(text) => ControlFlow::Break(text),
        }
    }
}

fn rising(expr: Expr) -> OrderByExpr {
    OrderByExpr { expr, options: OrderByOptions { asc: None, nulls_first: None }, with_fill: None }
}

fn named(view: &LateralView) -> Option<String> {
    view.lateral_view_name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase())
}

/// Takes the names of lateral views away from before their columns.
struct Bare<'a> {
    views: &'a [String],
}

impl VisitorMut for Bare<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(names) = expr
            && names.first().is_some_and(|name| self.views.contains(&name.value.to_lowercase()))
        {
            names.remove(0);
            if let [only] = names.as_slice() {
                *expr = Expr::Identifier(only.clone());
            }
        }
        ControlFlow::Continue(())
    }
}

fn spread(select: &mut Select) -> Result<(), String> {
    if !select.lateral_views.is_empty() {
        let views = std::mem::take(&mut select.lateral_views);
        select.from = vec![views.into_iter().try_fold(std::mem::take(&mut select.from), with_view).and_then(only)?];
    }
    let mut makers = 0;
    let mut items = Vec::new();
    for item in std::mem::take(&mut select.projection) {
        let (expr, aliases) = match &item {
            SelectItem::UnnamedExpr(expr) => (expr, Vec::new()),
            SelectItem::ExprWithAlias { expr, alias } => (expr, vec![alias.clone()]),
            SelectItem::ExprWithAliases { expr, aliases } => (expr, aliases.clone()),
            _ => {
                items.push(item);
                continue;
            }
        };
        match made(expr, aliases, false)? {
            Some(columns) => {
                makers += 1;
                items.extend(columns);
            }
            None => items.push(item),
        }
    }
    select.projection = items;
    let groups = matches!(&select.group_by, GroupByExpr::Expressions(keys, _) if !keys.is_empty());
    if makers > 1 || (makers == 1 && groups) {
        let text = "one function that makes rows may stand in a SELECT, and none beside GROUP BY: write \
                    SELECT … FROM (SELECT *, explode(tags) AS tag FROM …)";
        return Err(text.to_owned());
    }
    Ok(())
}

fn only(mut from: Vec<TableWithJoins>) -> Result<TableWithJoins, String> {
    match (from.pop(), from.len()) {
        (Some(table), 0) => Ok(table),
        _ => Err(ONE_TABLE.to_owned()),
    }
}

const ONE_TABLE: &str =
    "LATERAL VIEW stands behind one table here: write FROM (SELECT … FROM a JOIN b …) t LATERAL VIEW …";

/// A table with the columns of a lateral view is a query inside, under the table's name.
fn with_view(from: Vec<TableWithJoins>, view: LateralView) -> Result<Vec<TableWithJoins>, String> {
    let name = match from.as_slice() {
        [] => named(&view).map(Ident::new),
        [TableWithJoins { relation, joins }] if joins.is_empty() => match relation {
            TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. }
                if alias.columns.is_empty() =>
            {
                Some(alias.name.clone())
            }
            TableFactor::Table { name, alias: None, .. } => name.0.last().and_then(|part| part.as_ident()).cloned(),
            TableFactor::Derived { alias: None, .. } => Some(Ident::new("lateral_view")),
            _ => None,
        },
        _ => None,
    };
    let Some(name) = name else { return Err(ONE_TABLE.to_owned()) };
    let LateralView { lateral_view, lateral_col_alias, outer, .. } = view;
    let Some(columns) = made(&lateral_view, lateral_col_alias, outer)? else {
        return Err(format!("LATERAL VIEW is of explode, posexplode or stack, and not of `{lateral_view}`"));
    };
    let mut projection = Vec::new();
    if !from.is_empty() {
        projection.push(SelectItem::Wildcard(WildcardAdditionalOptions::default()));
    }
    projection.extend(columns);
    let subquery = Box::new(query(projection, from));
    let alias = TableAlias { explicit: true, name, columns: Vec::new(), at: None };
    let relation = TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
    Ok(vec![TableWithJoins { relation, joins: Vec::new() }])
}

/// The columns that a function makes which makes rows, if it is one.
fn made(expr: &Expr, names: Vec<Ident>, outer: bool) -> Result<Option<Vec<SelectItem>>, String> {
    let Expr::Function(function) = expr else { return Ok(None) };
    let name = function.name.to_string().to_lowercase();
    let (plain, outer) = match name.strip_suffix("_outer") {
        Some(plain) => (plain, true),
        None => (&*name, outer),
    };
    if !matches!(plain, "explode" | "posexplode" | "stack" | "inline" | "json_tuple") {
        return Ok(None);
    }
    let (rows, places) = if outer { (ROWS_OUTER, PLACES_OUTER) } else { (ROWS, PLACES) };
    let mut arguments = arguments(function).ok_or_else(|| format!("`{expr}` takes values without names"))?;
    let unnest = |list: Expr| call("unnest", vec![list]);
    let all = |of: &str| unnest(call(rows, vec![call(of, vec![arguments.first().cloned().unwrap_or(null())])]));
    let (columns, standard): (Vec<Expr>, Vec<String>) = match (plain, arguments.len(), names.len()) {
        ("explode", 1, 2) => (vec![all("map_keys"), all("map_values")], Vec::new()),
        ("posexplode", 1, 3) => {
            let keys = call("map_keys", vec![arguments[0].clone()]);
            (vec![unnest(call(places, vec![keys])), all("map_keys"), all("map_values")], Vec::new())
        }
        ("explode", 1, 0 | 1) => (vec![unnest(call(rows, vec![take(&mut arguments[0])]))], vec!["col".to_owned()]),
        ("posexplode", 1, 0 | 2) => {
            let list = take(&mut arguments[0]);
            let columns = vec![unnest(call(places, vec![list.clone()])), unnest(call(rows, vec![list]))];
            (columns, vec!["pos".to_owned(), "col".to_owned()])
        }
        ("stack", 2.., _) => {
            let Some(count) = whole(&arguments[0]).filter(|count| (1..=1_000).contains(count)) else {
                return Err(format!("`{expr}` says first how many rows it makes, as a number that is written out"));
            };
            let values = arguments.split_off(1);
            let width = values.len().div_ceil(count);
            let column = |at: usize| {
                let of_row = |row: usize| values.get(row * width + at).cloned().unwrap_or(null());
                unnest(call("array", (0..count).map(of_row).collect()))
            };
            ((0..width).map(column).collect(), (0..width).map(|at| format!("col{at}")).collect())
        }
        ("inline", ..) => return Err("inline is not known here: write explode(list) and take its fields".to_owned()),
        ("json_tuple", ..) => {
            return Err("json_tuple is not known here: write get_json_object(text, '$.field')".to_owned());
        }
        _ => {
            let text = "one list and a name for what comes out, as explode(tags) AS tag; of a map there are two, \
                        as explode(map) AS (key, value)";
            return Err(format!("`{expr}` takes {text}"));
        }
    };
    let names: Vec<Ident> = if names.is_empty() { standard.into_iter().map(Ident::new).collect() } else { names };
    if names.len() != columns.len() {
        return Err(format!("`{expr}` makes {} columns, and there are {} names for them", columns.len(), names.len()));
    }
    let item = |(expr, alias): (Expr, Ident)| SelectItem::ExprWithAlias { expr, alias };
    Ok(Some(columns.into_iter().zip(names).map(item).collect()))
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

fn whole(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The arguments of a function, if all of them are plain values.
pub(super) fn arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

/// A query of nothing but these columns.
pub(super) fn query(projection: Vec<SelectItem>, from: Vec<TableWithJoins>) -> Query {
    let select = Select {
        select_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: datafusion::sql::sqlparser::ast::SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
