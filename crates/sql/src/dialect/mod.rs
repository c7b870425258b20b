//! Statements as Spark writes them: parsed, told what they ask and what their columns are called, and rewritten where
//! DataFusion means something else by the same words.

mod calls;
mod casts;
mod days;
pub(crate) mod functions;
mod generators;
mod lists;
mod maps;
mod names;
mod numbers;
mod patterns;
mod rewrite;
mod strings;
mod sums;
mod texts;
mod times;
mod tokens;
mod typed;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Expr, Statement as Ast, visit_expressions};
use datafusion::sql::sqlparser::dialect::SparkSqlDialect;
use millstream_core::{Error, ErrorKind, Result};

pub(crate) use self::names::Item;
pub(crate) use self::rewrite::call_of;
use crate::error;

/// A statement that has been read, ready to be planned.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// What its columns are called.
    pub(crate) items: Vec<Item>,
    /// The tables that it names, in small letters.
    pub(crate) tables: Vec<String>,
    /// The functions that it calls, in small letters.
    pub(crate) functions: BTreeSet<String>,
    /// Whether its rows have an order.
    pub(crate) ordered: bool,
}

/// Whether statements have a meaning for this name already, so that no function of the program may have it.
pub(crate) fn is_taken(function: &str) -> bool {
    calls::is_taken(&function.to_lowercase())
}

/// How deeply a statement may be nested.
const DEPTH: usize = 100;

/// Reads a statement, which must be a query.
pub(crate) fn parse(text: &str) -> Result<Parsed> {
    let told = |e: datafusion::error::DataFusionError| error::told(&e, text);
    let tokens = tokens::of(text).map_err(|e| told(e.into()))?;
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&SparkSqlDialect)
        .with_recursion_limit(DEPTH)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(told)?;
    let wrong = |text: String| Err(Error::new(ErrorKind::Config, text));
    let mut query = match (statements.pop_front(), statements.len()) {
        (None, _) => return wrong("the statement is empty".to_owned()),
        (Some(Statement::Statement(ast)), 0) => match *ast {
            Ast::Query(query) => query,
            other => {
                let word = other.to_string().split_whitespace().next().unwrap_or_default().to_owned();
                return wrong(format!("a statement here is a query, SELECT, WITH or VALUES, and not {word}"));
            }
        },
        (Some(other), 0) => return wrong(format!("a statement here is a query, and not `{other}`")),
        (Some(_), more) => return wrong(format!("one statement at a time: there are {} more behind the first", more)),
    };
    let mut functions = BTreeSet::new();
    let _ = visit_expressions(&*query, |expr| {
        if let Expr::Function(function) = expr {
            functions.insert(function.name.to_string().to_lowercase());
        }
        ControlFlow::<()>::Continue(())
    });
    rewrite::spread(&mut query)?;
    let items = names::items(&query);
    let ordered = query.order_by.is_some();
    rewrite::rewrite(&mut query)?;
    let statement = Statement::Statement(Box::new(Ast::Query(query)));
    let (references, _) = resolve_table_references(&statement, true).map_err(told)?;
    let tables: BTreeSet<String> = references.iter().map(|table| table.to_string().replace('"', "")).collect();
    Ok(Parsed { statement, items, tables: tables.into_iter().collect(), functions, ordered })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_is_none_is_told_where_and_what_it_should_be() {
        for (text, want) in [
            ("selec 1", "the statement does not parse at line 1, column 1: expected: an SQL statement, found: selec"),
            ("select 1 from\n  (select", "the statement does not parse at line 2, column 10: "),
            ("", "the statement is empty"),
            ("select 1; select 2", "one statement at a time: there are 1 more behind the first"),
            ("drop table x", "a statement here is a query, SELECT, WITH or VALUES, and not DROP"),
            ("insert into x values (1)", "a statement here is a query, SELECT, WITH or VALUES, and not INSERT"),
            ("select 1.5 / -2", "`1.5 / -2` is refused: 1.5 is a DECIMAL in Spark and a DOUBLE here, write 1.5e0"),
            ("select explode(a), explode(b) from c", "one function that makes rows may stand in a SELECT"),
            ("select explode(a) as (b, c, d) from e", "`explode(a)` takes one list and a name for what comes out"),
            ("select * from a join b lateral view explode(c) d as e", "LATERAL VIEW stands behind one table here"),
            ("select inline(a) from b", "inline is not known here: write explode(list) and take its fields"),
            ("select window(a, '1 hour', '5 minutes') from b", "window(time, size, slide) is not known here"),
            ("select first(a, true) from b", "first(x, true) is not known here: write first(x) FILTER"),
            ("select a from b qualify a = 1", "QUALIFY is not SQL of Spark: write SELECT … FROM (SELECT …,"),
            ("select 'open", "the statement does not parse at line 1, column 8: "),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().starts_with(want), "{text}: {error}");
        }
    }

    #[test]
    fn tables_are_those_that_are_asked_and_functions_those_that_are_called() {
        let parsed = parse("with a as (select * from B) select F(x), count(*) from a join `C` using (k)").unwrap();
        assert_eq!(parsed.tables, ["b", "c"]);
        assert!(parsed.functions.contains("f") && parsed.functions.contains("count"));
    }
}
