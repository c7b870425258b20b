//! A statement on streams: planned once, and run for each batch. What is kept is the physical plan, whose leaves read the batch
//! that the task brings along.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch as ArrowBatch, RecordBatchOptions};
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use millstream_core::{Error, ErrorKind, Result};

use crate::batch::RecordBatch;
use crate::dialect::{self, Item, Parsed};
use crate::error::{self, told};
use crate::functions::Functions;
use crate::names;
use crate::plans::{Key, Plans};
use crate::runtime::wait;
use crate::session::Session;
use crate::slot::{SlotTable, Snapshot};

/// A table as one run of a statement sees it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    pub(crate) rows: Arc<Vec<RecordBatch>>,
    /// Which version of a static table it is; 0 for a batch of a stream, of which a plan knows the schema alone.
    pub(crate) version: u64,
}

impl Table {
    pub(crate) fn count(&self) -> usize {
        self.rows.iter().map(|rows| rows.num_rows()).sum()
    }

    /// The power of ten of its size. Joins are planned by it.
    pub(crate) fn bucket(&self) -> u32 {
        self.count().checked_ilog10().map_or(0, |power| power + 1)
    }
}

/// A statement, with its plans.
pub(crate) struct Statement {
    text: String,
    parsed: Parsed,
    session: Arc<Session>,
    plans: Plans,
}

impl Statement {
    /// Reads a statement.
    pub(crate) fn new(text: &str, session: &Arc<Session>) -> Result<Statement> {
        let (text, parsed) = (text.to_owned(), dialect::parse(text)?);
        let statement = Statement { text, parsed, session: Arc::clone(session), plans: Plans::default() };
        statement.check_time()?;
        Ok(statement)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The tables that it names, in small letters.
    pub(crate) fn tables(&self) -> &[String] {
        &self.parsed.tables
    }

    /// Says whether its rows have an order.
    pub(crate) fn is_ordered(&self) -> bool {
        self.parsed.ordered
    }

    /// The functions that it calls, in small letters.
    pub(crate) fn calls(&self, function: &str) -> bool {
        self.parsed.functions.contains(function)
    }

    /// Fails if it asks what time it is: its plan is kept, and would answer with the time at which it was made.
    fn check_time(&self) -> Result<()> {
        let clocks = ["now", "current_timestamp", "localtimestamp", "current_date", "curdate", "current_time"];
        let Some(name) = clocks.into_iter().find(|name| self.calls(name)) else { return Ok(()) };
        let at = error::find(&self.text, name).map(|(l, c)| format!(" at {}", error::place(l, c)));
        let text = format!(
            "`{name}`{} is refused: a statement does not know what time it is, as its plan is kept. Give its rows the batch's time \
             before, with transform(|rdd, time| …), and ask for that column",
            at.unwrap_or_default()
        );
        Err(Error::new(ErrorKind::Config, text))
    }

    /// How often it has been planned.
    #[cfg(test)]
    pub(crate) fn times_planned(&self) -> u64 {
        self.plans.times_made()
    }

    /// Returns the schema of what it gives over tables of these schemas, or what is wrong with it.
    pub(crate) fn check(&self, tables: &[Table], functions: &Functions) -> Result<SchemaRef> {
        let (state, plan, names) = self.logical(tables, functions)?;
        let plan = state.optimize(&plan).map_err(|e| told(&e, &self.text))?;
        Ok(Arc::new(renamed(plan.schema().as_arrow(), &names)))
    }

    /// Runs it over these tables.
    pub(crate) fn run(&self, tables: &[Table], functions: &Functions) -> Result<Vec<RecordBatch>> {
        let rows = tables.iter().map(lowered).collect::<Result<Vec<_>>>()?;
        let task = self.session.task(Snapshot { tables: rows });
        let make = || self.physical(tables, functions);
        let (batches, names) = self.plans.run(Key::of(tables, functions), task, &self.text, make)?;
        batches.into_iter().map(|batch| with_names(&batch, &names)).collect()
    }

    /// Returns the plan as text.
    pub(crate) fn explain(&self, tables: &[Table], functions: &Functions) -> Result<String> {
        let (_, logical, _) = self.logical(tables, functions)?;
        let (physical, _) = self.physical(tables, functions)?;
        let physical = displayable(&*physical).indent(false).to_string();
        Ok(format!("== Logical Plan ==\n{}\n\n== Physical Plan ==\n{physical}", logical.display_indent()))
    }

    fn physical(&self, tables: &[Table], functions: &Functions) -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<String>>)> {
        let (state, plan, names) = self.logical(tables, functions)?;
        let physical = wait(async move { state.create_physical_plan(&plan).await })?;
        Ok((physical.map_err(|e| told(&e, &self.text))?, Arc::new(names)))
    }

    /// What it asks, before anything is rewritten; and what its columns are called.
    pub(crate) fn logical(
        &self,
        tables: &[Table],
        functions: &Functions,
    ) -> Result<(SessionState, LogicalPlan, Vec<String>)> {
        self.check_tables(tables)?;
        let mut providers: Vec<(String, Arc<dyn TableProvider>)> = Vec::new();
        let mut originals = BTreeMap::new();
        for (slot, table) in tables.iter().enumerate() {
            let schema = Arc::new(small(&table.schema, &table.name)?);
            for field in table.schema.fields() {
                originals.insert(field.name().to_lowercase(), field.name().clone());
            }
            let provider = SlotTable { slot, name: table.name.clone(), schema, rows: table.count() };
            providers.push((table.name.to_lowercase(), Arc::new(provider)));
        }
        let state = self.session.knowing(providers, functions)?;
        let (statement, planning) = (self.parsed.statement.clone(), state.clone());
        let plan = wait(async move { planning.statement_to_plan(statement).await })?;
        let plan = plan.map_err(|e| told(&e, &self.text))?;
        let names = output_names(&self.parsed.items, plan.schema().as_arrow(), &originals);
        Ok((state, plan, names))
    }

    /// Fails with the nearest name if a table is not there.
    fn check_tables(&self, tables: &[Table]) -> Result<()> {
        let known = || tables.iter().map(|t| t.name.as_str());
        for name in &self.parsed.tables {
            if known().any(|table| table.to_lowercase() == *name) {
                continue;
            }
            let at = error::find(&self.text, name).map(|(l, c)| format!(" at {}", error::place(l, c)));
            let hint = names::nearest(name, known()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
            let text =
                format!("no table `{name}`{}{hint} There are {}", at.unwrap_or_default(), names::listed(known()));
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Statement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Statement({:?})", self.text)
    }
}

/// The schema with its columns' names in small letters: SQL finds them without regard to case.
pub(crate) fn small(schema: &Schema, table: &str) -> Result<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    for field in schema.fields() {
        let name = field.name().to_lowercase();
        if fields.iter().any(|f| *f.name() == name) {
            let text = format!(
                "two columns of `{table}` are called `{}`: SQL finds names without regard to case, so rename one",
                field.name()
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        fields.push(field.as_ref().clone().with_name(name));
    }
    Ok(Schema::new(fields))
}

/// The rows of a table under the names that plans know.
pub(crate) fn lowered(table: &Table) -> Result<Arc<Vec<ArrowBatch>>> {
    let schema = Arc::new(small(&table.schema, &table.name)?);
    let rows = table.rows.iter().map(|rows| {
        if rows.schema_ref() != &table.schema && rows.schema().fields() != table.schema.fields() {
            let text = format!(
                "the columns of `{}` are not the same in all of the batch: {} and {}",
                table.name,
                names::listed(table.schema.fields().iter().map(|f| f.name().as_str())),
                names::listed(rows.schema().fields().iter().map(|f| f.name().as_str())),
            );
            return Err(Error::new(ErrorKind::Data, text));
        }
        relabelled(rows, &schema)
    });
    rows.collect::<Result<Vec<_>>>().map(Arc::new)
}

pub(crate) fn relabelled(batch: &ArrowBatch, schema: &SchemaRef) -> Result<ArrowBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    ArrowBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|e| Error::new(ErrorKind::Data, format!("columns do not fit their schema: {e}")))
}

/// What the columns that come out are called: as the statement writes them, or else as the tables do.
fn output_names(items: &[Item], schema: &Schema, originals: &BTreeMap<String, String>) -> Vec<String> {
    let as_planned = |field: &Arc<Field>| originals.get(field.name()).unwrap_or(field.name()).clone();
    let all: Vec<String> = schema.fields().iter().map(as_planned).collect();
    let stars = items.iter().filter(|item| **item == Item::All).count();
    let named = items.len() - stars;
    if stars > 1 || named > all.len() || (stars == 0 && named != all.len()) {
        return all;
    }
    let mut names = Vec::new();
    for item in items {
        match item {
            Item::Named(name) => names.push(name.clone()),
            Item::All => {
                let from = names.len();
                names.extend_from_slice(&all[from..from + all.len() - named]);
            }
        }
    }
    names
}

pub(crate) fn renamed(schema: &Schema, names: &[String]) -> Schema {
    let field = |(field, name): (&Arc<Field>, &String)| {
        // A type that says which values were read, as a dictionary, may differ from run to run: what counts is the values.
        let nullable = field.is_nullable() || *field.data_type() == DataType::Null;
        Field::new(name, field.data_type().clone(), nullable)
    };
    Schema::new(schema.fields().iter().zip(names).map(field).collect::<Vec<_>>())
}

pub(crate) fn with_names(batch: &ArrowBatch, names: &[String]) -> Result<RecordBatch> {
    let schema = Arc::new(renamed(batch.schema_ref(), names));
    let (rows, columns): (usize, Vec<ArrayRef>) = (batch.num_rows(), batch.columns().to_vec());
    RecordBatch::of(schema, columns, rows)
}

#[cfg(test)]
mod tests;
