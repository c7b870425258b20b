//! What the columns of a query are called: as Spark calls them. Pure.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SelectItem, SetExpr, UnaryOperator, Value,
};

/// What stands between SELECT and FROM, as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A column with this name.
    Named(String),
    /// Some columns, with the names that they have.
    All,
}

/// Returns what the columns of a query are called; nothing where the query itself does not say.
pub(super) fn items(query: &Query) -> Vec<Item> {
    let mut body = &*query.body;
    loop {
        body = match body {
            SetExpr::Select(select) => return select.projection.iter().flat_map(item).collect(),
            SetExpr::SetOperation { left, .. } => left,
            SetExpr::Query(query) => &query.body,
            _ => return vec![Item::All],
        };
    }
}

fn item(item: &SelectItem) -> Vec<Item> {
    match item {
        SelectItem::UnnamedExpr(expr) => vec![Item::Named(name(expr))],
        SelectItem::ExprWithAlias { alias, .. } => vec![Item::Named(alias.value.clone())],
        SelectItem::ExprWithAliases { aliases, .. } => {
            aliases.iter().map(|alias| Item::Named(alias.value.clone())).collect()
        }
        _ => vec![Item::All],
    }
}

/// Names an expression that was given no name.
fn name(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => names.last().map(|n| n.value.clone()).unwrap_or_default(),
        _ => text(expr),
    }
}

fn text(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(names) => names.iter().map(|n| n.value.as_str()).collect::<Vec<_>>().join("."),
        Expr::Nested(inner) => text(inner),
        Expr::BinaryOp { left, op, right } => format!("({} {op} {})", text(left), text(right)),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => format!("(- {})", text(expr)),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            let FunctionArguments::List(list) = &function.args else { return format!("{name}()") };
            let argument = |argument: &FunctionArg| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => "1".to_owned(),
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => text(expr),
                other => other.to_string(),
            };
            let distinct = list.duplicate_treatment.map(|d| format!("{d} ")).unwrap_or_default();
            let arguments: Vec<String> = list.args.iter().map(argument).collect();
            format!("{name}({distinct}{})", arguments.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::dialect::{Item, parse};

    #[test]
    fn columns_are_called_as_spark_calls_them() {
        let named = |names: &[&str]| names.iter().map(|n| Item::Named((*n).to_owned())).collect::<Vec<_>>();
        for (text, want) in [
            ("select maxCelsius, r.Sensor, x as `My X` from r", named(&["maxCelsius", "Sensor", "My X"])),
            (
                "select count(*), sum(DISTINCT a), a + 1, 'x', -a from r",
                named(&["count(1)", "sum(DISTINCT a)", "(a + 1)", "x", "(- a)"]),
            ),
            ("select a from r union all select b from r", named(&["a"])),
            ("select *, a as b from r", vec![Item::All, Item::Named("b".to_owned())]),
            ("values (1)", vec![Item::All]),
        ] {
            assert_eq!(parse(text).unwrap().items, want, "{text}");
        }
    }
}
