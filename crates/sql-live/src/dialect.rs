//! What clients write, as DataFusion can plan it. Pure.
//!
//! Statements about the program's tables and those about the catalogue alone are told apart. Of the former nothing is changed but how it is
//! written. The latter are asked by tools, of things that a program has none of, as keys and defaults: what of them cannot be
//! planned is made something that can, and that has the same answer here.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, DataType, Expr, GroupByExpr, Ident, JoinOperator, ObjectName, Query, Select,
    SelectItem, SetExpr, Statement, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut as _, VisitorMut,
    visit_expressions, visit_relations,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, CurrentUserVariableToSessionUserFunctionCall, FixArrayLiteral,
    FixVersionColumnName, PrependUnqualifiedPgTableName, ResolveUnqualifiedIdentifier, RewriteArrayAnyAllOperation,
    RewritePgCatalogOperator, RewriteRegCastToSubquery, SqlStatementRewriteRule, StripCallableQualifier, StripCollate,
};
use millstream_sql::live::call;

use crate::any::ANY_OF;
use crate::functions::{LIKE_ESCAPE, OR_NULL};

/// Reads what clients write.
pub(crate) struct Dialect {
    rules: Vec<Arc<dyn SqlStatementRewriteRule>>,
    of_catalog: PostgresCompatibilityParser,
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialect")
    }
}

impl Dialect {
    pub(crate) fn new() -> Dialect {
        // Those of the other parser, but for the one that puts NULL in the place of subqueries.
        let rules: Vec<Arc<dyn SqlStatementRewriteRule>> = vec![
            Arc::new(AliasDuplicatedProjectionRewrite),
            Arc::new(ResolveUnqualifiedIdentifier),
            Arc::new(RewriteArrayAnyAllOperation),
            Arc::new(PrependUnqualifiedPgTableName),
            Arc::new(StripCallableQualifier),
            Arc::new(FixArrayLiteral),
            Arc::new(CurrentUserVariableToSessionUserFunctionCall),
            Arc::new(StripCollate),
            Arc::new(RewritePgCatalogOperator),
            Arc::new(RewriteRegCastToSubquery::new()),
            Arc::new(FixVersionColumnName),
        ];
        Dialect { rules, of_catalog: PostgresCompatibilityParser::new() }
    }

    /// Reads a text of one or more statements.
    pub(crate) fn read(&self, text: &str) -> Result<Vec<Statement>, ParserError> {
        let read =
            Parser::new(&PostgreSqlDialect {}).try_with_sql(text).and_then(|mut parser| parser.parse_statements());
        let Ok(statements) = read else {
            // It knows some words more than the parser, and else says what is wrong.
            return Ok(self.of_catalog.parse(text)?.into_iter().map(|one| self.of_tables(one)).collect());
        };
        let by_name = |expr: &Expr| match function_named(expr) {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        };
        let names_functions = |statement: &Statement| visit_expressions(statement, by_name).is_break();
        if !statements.is_empty() && statements.iter().all(|one| is_of_catalog(one) && !names_functions(one)) {
            return Ok(self.of_catalog.parse(text)?.into_iter().map(of_nothing).collect());
        }
        let mut all = Vec::with_capacity(statements.len());
        for mut statement in statements {
            match is_of_catalog(&statement) {
                true => {
                    let _ = statement.visit(&mut FunctionNames);
                    all.extend(self.of_catalog.parse(&statement.to_string())?.into_iter().map(of_nothing));
                }
                false => all.push(self.of_tables(statement)),
            }
        }
        Ok(all)
    }

    fn of_tables(&self, mut statement: Statement) -> Statement {
        let _ = statement.visit(&mut Everywhere);
        self.rules.iter().fold(statement, |statement, rule| rule.rewrite(statement))
    }
}

/// Says whether a statement reads the catalogue, and nothing else.
fn is_of_catalog(statement: &Statement) -> bool {
    let mut named = BTreeSet::new();
    // What a statement calls so itself is no table.
    let mut with = With(BTreeSet::new());
    let _ = statement.clone().visit(&mut with);
    let _ = visit_relations(statement, |name: &ObjectName| {
        named.insert(name.to_string().replace('"', "").to_lowercase());
        ControlFlow::<()>::Continue(())
    });
    let mut tables = named.iter().filter(|name| !with.0.contains(*name)).peekable();
    tables.peek().is_some()
        && tables.all(|name| {
            name.starts_with("pg_catalog.") || name.starts_with("information_schema.") || name.starts_with("pg_")
        })
}

/// The names that a statement gives to parts of itself.
struct With(BTreeSet<String>);

impl VisitorMut for With {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let named = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(named.map(|table| table.alias.name.value.to_lowercase()));
        ControlFlow::Continue(())
    }
}

/// The function that `'name'::regproc` is, by its name: so the catalogue has it.
fn function_named(expr: &Expr) -> Option<&str> {
    let Expr::Cast { expr, data_type: DataType::Custom(kind, _), .. } = expr else { return None };
    let kind = kind.to_string().to_lowercase();
    match expr.as_ref() {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(name), .. })
            if kind.strip_prefix("pg_catalog.").unwrap_or(&kind) == "regproc" =>
        {
            Some(name.rsplit('.').next().unwrap_or(name))
        }
        _ => None,
    }
}

struct FunctionNames;

impl VisitorMut for FunctionNames {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(name) = function_named(expr) {
            *expr = Expr::Value(Value::SingleQuotedString(name.to_owned()).with_empty_span());
        }
        ControlFlow::Continue(())
    }
}

/// What means the same, and is written otherwise.
struct Everywhere;

impl VisitorMut for Everywhere {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        same(expr);
        if let Expr::Subquery(query) = expr {
            may_be_empty(query);
        }
        let (left, right, negated) = match expr {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
            _ => return ControlFlow::Continue(()),
        };
        let (left, right) = (left.as_ref().clone(), right.as_ref().clone());
        *expr = match right {
            Expr::Subquery(subquery) => Expr::InSubquery { expr: Box::new(left), subquery, negated },
            // '{a,b}' is made an array by another rule.
            Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(_), .. }) => return ControlFlow::Continue(()),
            array => {
                let any = call(ANY_OF, vec![left, array]);
                match negated {
                    true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) },
                    false => any,
                }
            }
        };
        ControlFlow::Continue(())
    }
}

/// A subquery of one value is NULL if it has no row, which who plans it does not think of where its column has a value in each row.
fn may_be_empty(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if aggregates(select) && !grouped {
        return;
    }
    if let [item] = select.projection.as_mut_slice() {
        let (expr, alias) = match item {
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), Some(alias.clone())),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => (Expr::Identifier(name.clone()), Some(name.clone())),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => {
                (Expr::CompoundIdentifier(names.clone()), names.last().cloned())
            }
            SelectItem::UnnamedExpr(expr) => (expr.clone(), None),
            _ => return,
        };
        let expr = call(OR_NULL, vec![expr]);
        *item = match alias {
            Some(alias) => SelectItem::ExprWithAlias { expr, alias },
            None => SelectItem::UnnamedExpr(expr),
        };
    }
}

/// `LIKE … ESCAPE` with another character than the backslash, and fields, `(row).field`.
fn same(expr: &mut Expr) {
    if let Expr::CompoundFieldAccess { access_chain, .. } = expr {
        for access in access_chain {
            if let AccessExpr::Dot(Expr::Identifier(field)) = access {
                let name = if field.quote_style.is_some() { field.value.clone() } else { field.value.to_lowercase() };
                *access = AccessExpr::Dot(Expr::Value(Value::SingleQuotedString(name).with_empty_span()));
            }
        }
        return;
    }
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else { return };
    let is_other = |with: &ValueWithSpan| !matches!(&with.value, Value::SingleQuotedString(with) if with == "\\");
    if let Some(with) = escape_char.take_if(|with| is_other(with)) {
        **pattern = call(LIKE_ESCAPE, vec![pattern.as_ref().clone(), Expr::Value(with)]);
    }
}

/// The tables of the catalogue in which there is nothing here: a program has no keys, indexes, defaults, sequences or rules.
pub(crate) const NOTHING: [&str; 14] = [
    "pg_attrdef",
    "pg_collation",
    "pg_constraint",
    "pg_enum",
    "pg_foreign_table",
    "pg_index",
    "pg_inherits",
    "pg_partitioned_table",
    "pg_policy",
    "pg_rewrite",
    "pg_sequence",
    "pg_statistic_ext",
    "pg_trigger",
    "pg_user_mapping",
];

/// The columns of the catalogue that clients ask for, that are not there, and that would be NULL.
const UNSET: [&str; 1] = ["reloptions"];

/// A statement about the catalogue, without what asks for what is not there.
fn of_nothing(mut statement: Statement) -> Statement {
    let _ = statement.visit(&mut Nothing);
    statement
}

struct Nothing;

impl VisitorMut for Nothing {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let SetExpr::Select(select) = query.body.as_mut() else { return ControlFlow::Continue(()) };
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Some(name) = unset(expr)
            {
                // It is found by its name.
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::new(name) };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        same(expr);
        if unset(expr).is_some() {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(null()),
                data_type: DataType::Text,
                array: false,
                format: None,
            };
        }
        match expr {
            Expr::Subquery(query) if reads_nothing(query) => *expr = null(),
            Expr::Subquery(query) => at_most_one(query),
            Expr::Case { conditions, else_result, .. } => {
                let is_null = |result: &Expr| *result == null();
                if conditions.iter().all(|when| is_null(&when.result)) && else_result.as_deref().is_none_or(is_null) {
                    *expr = null();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

/// The name of a column that is not there.
fn unset(expr: &Expr) -> Option<&'static str> {
    let last = match expr {
        Expr::CompoundIdentifier(names) => names.last()?,
        Expr::Identifier(name) => name,
        _ => return None,
    };
    UNSET.into_iter().find(|name| last.value.eq_ignore_ascii_case(name))
}

/// Says whether a query of one value gives none, as it reads a table in which there is nothing.
fn reads_nothing(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let is_empty = |table: &TableFactor| {
        let TableFactor::Table { name, .. } = table else { return false };
        let name = name.to_string().replace('"', "").to_lowercase();
        NOTHING.contains(&name.strip_prefix("pg_catalog.").unwrap_or(&name))
    };
    let keeps = |joined: &JoinOperator| {
        matches!(joined, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    let empty = select.from.iter().any(|from| {
        let all_keep = from.joins.iter().all(|join| keeps(&join.join_operator));
        // What stands first is kept by joins that keep the left side, too.
        let left = |joined: &JoinOperator| matches!(joined, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
        let first = from.joins.iter().all(|join| keeps(&join.join_operator) || left(&join.join_operator));
        (first && is_empty(&from.relation)) || (all_keep && from.joins.iter().any(|join| is_empty(&join.relation)))
    });
    empty && !aggregates(select)
}

/// Functions that give a row where there is none.
const AGGREGATES: [&str; 11] =
    ["array_agg", "avg", "bool_and", "bool_or", "count", "every", "json_agg", "max", "min", "string_agg", "sum"];

fn aggregates(select: &Select) -> bool {
    let found = visit_expressions(&select.projection, |expr| match expr {
        Expr::Function(function)
            if AGGREGATES.iter().any(|name| function.name.to_string().eq_ignore_ascii_case(name)) =>
        {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

/// Says of a query of one value that it gives one row at the most, as those of tools do: they ask for one thing by its number.
fn at_most_one(query: &mut Query) {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if grouped || select.having.is_some() || select.distinct.is_some() || select.from.is_empty() || aggregates(select) {
        return;
    }
    if let [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] = select.projection.as_mut_slice() {
        query.order_by = None;
        *expr = call("max", vec![expr.clone()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let all = Dialect::new().read(text).unwrap();
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_asked_of_tables_stays_what_it_is() {
        for text in [
            "SELECT (SELECT max(seen.times) FROM seen) FROM limits",
            "SELECT _1, (SELECT max(s.times) FROM seen AS s WHERE s.key = l._1) FROM limits AS l",
            "SELECT CASE WHEN a THEN NULL ELSE NULL END FROM readings",
            "SELECT reloptions FROM readings",
            "SELECT x LIKE 'a%' FROM t",
        ] {
            assert_eq!(read(text), text);
        }
        for (text, want) in [
            (
                "SELECT (SELECT times FROM seen WHERE key = $1)",
                "SELECT (SELECT or_null(times) AS times FROM seen WHERE key = $1)",
            ),
            ("SELECT (SELECT s.a + 1 FROM s)", "SELECT (SELECT or_null(s.a + 1) FROM s)"),
            (
                "SELECT (SELECT count(*) AS n FROM s GROUP BY a)",
                "SELECT (SELECT or_null(count(*)) AS n FROM s GROUP BY a)",
            ),
            // Of both: nothing is left out that might be there.
            (
                "SELECT (SELECT s.times FROM seen AS s WHERE s.key = c.relname) FROM pg_catalog.pg_class AS c",
                "SELECT (SELECT or_null(s.times) AS times FROM seen AS s WHERE s.key = c.relname) FROM pg_catalog.pg_class AS c",
            ),
        ] {
            assert_eq!(read(text), want);
        }
    }

    #[test]
    fn any_and_all_are_written_as_what_can_be_planned() {
        for (text, want) in [
            ("SELECT 1 FROM t WHERE key = ANY($1)", "SELECT 1 FROM t WHERE any_of(key, $1)"),
            ("SELECT 1 FROM t WHERE key = SOME(ARRAY['a'])", "SELECT 1 FROM t WHERE any_of(key, ARRAY['a'])"),
            ("SELECT 1 FROM t WHERE key <> ALL($1)", "SELECT 1 FROM t WHERE NOT any_of(key, $1)"),
            ("SELECT 1 FROM t WHERE key = ANY(SELECT k FROM u)", "SELECT 1 FROM t WHERE key IN (SELECT k FROM u)"),
            ("SELECT 1 FROM t WHERE key <> ALL(SELECT k FROM u)", "SELECT 1 FROM t WHERE key NOT IN (SELECT k FROM u)"),
            ("SELECT 1 FROM t WHERE key = ANY('{a,b}')", "SELECT 1 FROM t WHERE array_contains(ARRAY['a', 'b'], key)"),
            ("SELECT a LIKE b ESCAPE '/' FROM t", "SELECT a LIKE like_escape(b, '/') FROM t"),
            ("SELECT a NOT ILIKE b ESCAPE '' FROM t", "SELECT a NOT ILIKE like_escape(b, '') FROM t"),
            ("SELECT a LIKE b ESCAPE '\\' FROM t", "SELECT a LIKE b ESCAPE '\\' FROM t"),
            ("SELECT (a).B, (a).\"B\" FROM t", "SELECT (a).'b', (a).'B' FROM t"),
        ] {
            assert_eq!(read(text), want);
        }
    }

    #[test]
    fn what_is_asked_of_the_catalogue_and_is_not_there_is_null() {
        for (text, want) in [
            (
                "SELECT CASE WHEN a.atthasdef THEN (SELECT adbin FROM pg_catalog.pg_attrdef) END AS d FROM pg_attribute AS a",
                "SELECT NULL AS d FROM pg_catalog.pg_attribute AS a",
            ),
            (
                "SELECT 1 FROM pg_catalog.pg_type AS t WHERE (SELECT c.relkind = 'c' FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid)",
                "SELECT 1 FROM pg_catalog.pg_type AS t WHERE (SELECT max(c.relkind = 'c') FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid)",
            ),
            (
                "SELECT c.reloptions FROM pg_catalog.pg_class AS c",
                "SELECT CAST(NULL AS TEXT) AS reloptions FROM pg_catalog.pg_class AS c",
            ),
            (
                "SELECT t.typinput = 'pg_catalog.array_in'::regproc FROM pg_catalog.pg_type AS t",
                "SELECT t.typinput = 'array_in' FROM pg_catalog.pg_type AS t",
            ),
            // There is a number, although there is nothing.
            (
                "SELECT 1 FROM pg_catalog.pg_class AS c WHERE 0 < (SELECT count(*) FROM pg_catalog.pg_index)",
                "SELECT 1 FROM pg_catalog.pg_class AS c WHERE 0 < (SELECT count(*) FROM pg_catalog.pg_index)",
            ),
            // What stands on the other side of an outer join is there all the same.
            (
                "SELECT 1 FROM pg_catalog.pg_type AS t WHERE 'a' = (SELECT c.relname FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_index ON true)",
                "SELECT 1 FROM pg_catalog.pg_type AS t WHERE 'a' = (SELECT max(c.relname) FROM pg_catalog.pg_class AS c LEFT JOIN pg_catalog.pg_index ON true)",
            ),
        ] {
            assert_eq!(read(text), want);
        }
    }

    #[test]
    fn texts_of_several_statements_are_read_each_as_what_it_is() {
        let text = "BEGIN; SELECT (SELECT adbin FROM pg_attrdef WHERE adnum = c.oid) FROM pg_class c; SELECT (SELECT max(b.x) FROM a) FROM b";
        let want = "BEGIN; SELECT NULL FROM pg_catalog.pg_class AS c; SELECT (SELECT max(b.x) FROM a) FROM b";
        assert_eq!(read(text).replace("BEGIN TRANSACTION", "BEGIN").replace("pg_class c", "pg_class AS c"), want);
        assert!(!is_of_catalog(&Dialect::new().read("SELECT 1").unwrap()[0]));
        let with = "WITH x AS (SELECT 1 FROM pg_class) SELECT * FROM x";
        assert!(is_of_catalog(&Parser::parse_sql(&PostgreSqlDialect {}, with).unwrap()[0]));
        assert!(Dialect::new().read("SELEC 1").is_err());
        assert_eq!(read("ABORT"), "ROLLBACK");
        assert_eq!(read(""), "");
    }
}
