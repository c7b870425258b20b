//! Statements as they are kept for a client: read once, planned once, and run for the batch of the time.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use arrow_pg::datatypes::{PG_OID_ALIAS_KEY, into_pg_type, pg_type_for_alias_kind};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Statement;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::results::{FieldFormat, FieldInfo};
use pgwire::api::stmt::QueryParser;
use pgwire::api::{ClientInfo, Type};
use pgwire::error::PgWireResult;

use crate::command::{Command, command};
use crate::dialect::Dialect;
use crate::error::{INTERNAL, error};
use crate::run::{self, Plan, Valued};
use crate::session::Connection;

/// A statement that a client has given.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) command: Command,
    /// The plan of a query, or of a cursor's.
    pub(crate) plan: Option<Plan>,
    /// The columns of what is no query, and gives rows all the same.
    pub(crate) fields: Option<Arc<Vec<FieldInfo>>>,
}

/// Reads statements for one connection.
pub(crate) struct Reader {
    pub(crate) connection: Arc<Connection>,
    dialect: Arc<Dialect>,
}

impl Reader {
    pub(crate) fn new(connection: &Arc<Connection>, dialect: &Arc<Dialect>) -> Reader {
        Reader { connection: Arc::clone(connection), dialect: Arc::clone(dialect) }
    }

    /// Reads a text of one or more statements, on a thread for such work.
    pub(crate) async fn read(&self, text: &str) -> PgWireResult<Vec<Statement>> {
        let (dialect, text) = (Arc::clone(&self.dialect), text.to_owned());
        let reading = self.connection.house.queries.spawn(async move { dialect.read(&text) });
        match reading.await {
            Ok(Ok(statements)) => Ok(statements),
            Ok(Err(failed)) => Err(error("42601", failed.to_string())),
            Err(_) => Err(error(INTERNAL, "the statement could not be read: that is a bug")),
        }
    }

    /// Prepares one.
    pub(crate) async fn prepare(&self, statement: Statement) -> PgWireResult<Prepared> {
        let command = command(&statement);
        let (mut plan, mut fields) = (None, None);
        match &command {
            Command::Query => plan = Some(run::plan(&self.connection, statement).await?),
            Command::Declare { query, .. } => plan = Some(run::plan(&self.connection, (**query).clone()).await?),
            Command::Fetch { name, .. } => fields = self.connection.cursor(name),
            Command::Show(name) => {
                let field = FieldInfo::new(name.clone(), None, None, Type::TEXT, FieldFormat::Text);
                fields = Some(Arc::new(vec![field]));
            }
            Command::Refused(code, text) => return Err(error(code, text.clone())),
            _ => {}
        }
        Ok(Prepared { command, plan, fields })
    }
}

#[async_trait]
impl QueryParser for Reader {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.read(sql).await?;
        match (statements.pop(), statements.is_empty()) {
            (None, _) => Ok(None),
            (Some(one), true) => self.prepare(one).await.map(Some),
            (Some(_), false) => Err(error("42601", "cannot insert multiple commands into a prepared statement")),
        }
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        match (&statement.command, &statement.plan) {
            (Command::Query | Command::Declare { .. }, Some(plan)) => {
                Ok(plan.parameters()?.iter().map(|parameter| parameter.wire.clone()).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match (&statement.command, &statement.plan) {
            (Command::Query, Some(plan)) => run::fields(&plan.asked, format.unwrap_or(&Format::UnifiedText), None),
            _ => Ok(statement.fields.as_ref().map(|fields| fields.to_vec()).unwrap_or_default()),
        }
    }
}

/// A parameter of a plan.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// What the plan takes, if that is known.
    of: Option<DataType>,
    /// What the client is asked to send.
    wire: Type,
}

/// The parameters of a plan, `$1` first.
pub(crate) fn parameters(plan: &LogicalPlan) -> PgWireResult<Vec<Parameter>> {
    let mut found: HashMap<usize, (Option<DataType>, Option<Type>)> = HashMap::new();
    let note = |expr: &Expr, found: &mut HashMap<usize, (Option<DataType>, Option<Type>)>| {
        let (placeholder, cast) = match expr {
            Expr::Placeholder(placeholder) => (placeholder, None),
            Expr::Cast(cast) => match &*cast.expr {
                Expr::Placeholder(placeholder) => (placeholder, Some(cast.field.data_type().clone())),
                _ => return,
            },
            _ => return,
        };
        let Ok(number) = placeholder.id.trim_start_matches('$').parse::<usize>() else { return };
        let of = placeholder.field.as_ref().map(|field| field.data_type().clone()).or(cast);
        let entry = found.entry(number).or_default();
        entry.0 = entry.0.take().or(of);
        entry.1 = entry.1.take().or_else(|| placeholder.field.as_ref().and_then(alias));
    };
    // They fail if we fail, which we do not.
    let _ = plan.apply_with_subqueries(|node| {
        let _ = node.apply_expressions(|expr| {
            expr.apply(|inner| {
                note(inner, &mut found);
                Ok(TreeNodeRecursion::Continue)
            })
        });
        Ok(TreeNodeRecursion::Continue)
    });
    let most = found.keys().max().copied().unwrap_or(0).min(usize::from(u16::MAX));
    let parameter = |number| {
        let (of, alias) = found.remove(&number).unwrap_or_default();
        let wire = match (&alias, &of) {
            (Some(alias), _) => alias.clone(),
            (None, Some(of)) => into_pg_type(of)?,
            (None, None) => Type::TEXT,
        };
        Ok(Parameter { of, wire })
    };
    (1..=most).map(parameter).collect()
}

/// The type of an oid in Postgres, which a column of the catalogue says it is.
fn alias(field: &FieldRef) -> Option<Type> {
    let kind = field.metadata().get(PG_OID_ALIAS_KEY)?;
    (field.data_type() == &DataType::Int32).then(|| pg_type_for_alias_kind(kind)).flatten()
}

/// The plan with the values that the client has given.
pub(crate) fn with_values(portal: &Portal<Prepared>, plan: &Plan) -> PgWireResult<Valued> {
    if portal.parameter_len() == 0 {
        return plan.with(None);
    }
    let parameters = plan.parameters()?;
    let of: Vec<Option<&DataType>> = parameters.iter().map(|parameter| parameter.of.as_ref()).collect();
    let wire: Vec<Option<&Type>> = parameters.iter().map(|parameter| Some(&parameter.wire)).collect();
    plan.with(Some(deserialize_parameters_with_server_types(portal, &of, &wire)?))
}
