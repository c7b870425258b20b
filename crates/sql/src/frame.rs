//! Data frames: the answer to a statement, computed when it is asked for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{CallSite, Context, Data, Error, ErrorKind, ExchangeData, Rdd, Result, pass_over};

use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::context::SqlContext;
use crate::functions::Functions;
use crate::show::{self, Cells};
use crate::statement::{Statement, Table};
use crate::stream::ToColumns;
use crate::warehouse::{self, SaveTable};

/// The answer to a statement: columns with names, and rows.
///
/// It is lazy: it keeps the tables as they were when it was made, and computes each time something is asked of it.
///
/// # Example
///
/// ```
/// # use millstream_core::Context;
/// use millstream_sql::SqlContext;
///
/// # let context = Context::new("local[2]", "doc")?;
/// let sql = SqlContext::get_or_create(&context)?;
/// let people = sql.create_data_frame(vec![("Ada".to_owned(), Some(36)), ("Barbara".to_owned(), None)])?;
/// let people = people.select_expr(["_1 AS name", "_2 AS age"])?;
/// assert_eq!(
///     people.filter("age IS NOT NULL")?.show_string(20, 20)?,
///     "+----+---+\n\
///      |name|age|\n\
///      +----+---+\n\
///      | Ada| 36|\n\
///      +----+---+\n"
/// );
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `DataFrame`. What is said with columns there is said with expressions of SQL here.
#[derive(Clone)]
pub struct DataFrame {
    sql: SqlContext,
    statement: Arc<Statement>,
    tables: Vec<Table>,
    functions: Arc<Functions>,
    schema: SchemaRef,
}

impl DataFrame {
    pub(crate) fn new(sql: &SqlContext, text: &str, mut tables: Vec<Table>) -> Result<DataFrame> {
        let statement = Arc::new(sql.statement(text)?);
        let functions = sql.functions();
        let schema = statement.check(&tables, &functions)?;
        let named: BTreeSet<&String> = statement.tables().iter().collect();
        tables.retain(|table| named.contains(&table.name.to_lowercase()));
        Ok(DataFrame { sql: sql.clone(), statement, tables, functions, schema })
    }

    pub(crate) fn of_rows(sql: &SqlContext, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<DataFrame> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("rows_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let text = format!("SELECT * FROM {name}");
        DataFrame::new(sql, &text, vec![Table { name, schema, rows: Arc::new(rows), version: 0 }])
    }

    /// Makes a frame of elements that have been written as columns.
    pub(crate) fn of_elements<T: Columnar>(sql: &SqlContext, columns: Vec<RecordBatch>) -> Result<DataFrame> {
        let schema = match (T::schema()?, columns.first()) {
            (Some(schema), _) => schema,
            (None, Some(first)) => first.schema(),
            (None, None) => Arc::new(Schema::empty()),
        };
        DataFrame::of_rows(sql, schema, columns)
    }

    /// Asks a statement about this frame, which is called `this` in it.
    fn ask(&self, statement: &str, others: &[&DataFrame]) -> Result<DataFrame> {
        // Inside of another statement an order is lost; rows that are there keep theirs.
        if self.statement.is_ordered() {
            let rows = DataFrame::of_rows(&self.sql, Arc::clone(&self.schema), self.to_columns()?)?;
            return rows.ask(statement, others);
        }
        let mut tables = self.tables.clone();
        let mut text = statement.replace("{this}", &format!("({}) AS this", self.statement.text()));
        for (i, other) in others.iter().enumerate() {
            text = text.replace(&format!("{{{i}}}"), &format!("({}) AS those", other.statement.text()));
            for table in &other.tables {
                match tables.iter().find(|t| t.name == table.name) {
                    None => tables.push(table.clone()),
                    Some(same) if Arc::ptr_eq(&same.rows, &table.rows) => {}
                    Some(_) => {
                        let text = format!("both frames read `{}`, and it changed between them", table.name);
                        return Err(Error::new(ErrorKind::Config, text));
                    }
                }
            }
        }
        DataFrame::new(&self.sql, &text, tables)
    }

    /// Returns names and types of the columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Computes the rows, as columns.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: a value does not fit, as in a division by zero.
    pub fn to_columns(&self) -> Result<Vec<RecordBatch>> {
        self.statement.run(&self.tables, &self.functions)
    }

    /// Computes the rows.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s; and the kind is `Data`: a field of `T` finds no column, or one of another type.
    ///
    /// # Spark
    ///
    /// `Dataset.collect`, after `as[T]`.
    pub fn collect<T: Columnar>(&self) -> Result<Vec<T>> {
        T::check(&self.schema)?;
        let mut rows = Vec::new();
        for columns in self.to_columns()? {
            rows.append(&mut T::read(columns)?);
        }
        Ok(rows)
    }

    /// Computes how many rows there are.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s.
    pub fn count(&self) -> Result<u64> {
        Ok(self.to_columns()?.iter().map(|columns| columns.num_rows() as u64).sum())
    }

    /// Computes the rows and makes an Rdd of them, of one partition.
    ///
    /// # Errors
    ///
    /// As [`collect`](Self::collect)'s.
    ///
    /// # Spark
    ///
    /// `Dataset.rdd`.
    pub fn rdd<T: Columnar + ExchangeData>(&self, context: &Context) -> Result<Rdd<T>> {
        Ok(context.parallelize(self.collect()?, 1))
    }

    /// Selects expressions.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.selectExpr`.
    pub fn select_expr<E: AsRef<str>>(&self, expressions: impl IntoIterator<Item = E>) -> Result<DataFrame> {
        self.ask(&format!("SELECT {} FROM {{this}}", joined(expressions)), &[])
    }

    /// Keeps the rows for which a condition holds.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.filter`, `Dataset.where`.
    pub fn filter(&self, condition: &str) -> Result<DataFrame> {
        self.ask(&format!("SELECT * FROM {{this}} WHERE {condition}"), &[])
    }

    /// Sorts by expressions, as `total DESC`.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.orderBy`, `Dataset.sort`.
    pub fn order_by<E: AsRef<str>>(&self, expressions: impl IntoIterator<Item = E>) -> Result<DataFrame> {
        self.ask(&format!("SELECT * FROM {{this}} ORDER BY {}", joined(expressions)), &[])
    }

    /// Keeps the first `n` rows.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.limit`.
    pub fn limit(&self, n: usize) -> Result<DataFrame> {
        self.ask(&format!("SELECT * FROM {{this}} LIMIT {n}"), &[])
    }

    /// Keeps one of each row.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.distinct`.
    pub fn distinct(&self) -> Result<DataFrame> {
        self.ask("SELECT DISTINCT * FROM {this}", &[])
    }

    /// Groups by expressions and computes others of each group: `group_by(["word"], ["count(*) AS total"])`.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.groupBy(…).agg(…)`.
    pub fn group_by<K: AsRef<str>, E: AsRef<str>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        aggregates: impl IntoIterator<Item = E>,
    ) -> Result<DataFrame> {
        let (keys, aggregates) = (joined(keys), joined(aggregates));
        let both = [keys.as_str(), aggregates.as_str()].into_iter().filter(|part| !part.is_empty());
        let both = both.collect::<Vec<_>>().join(", ");
        let by = if keys.is_empty() { String::new() } else { format!(" GROUP BY {keys}") };
        self.ask(&format!("SELECT {both} FROM {{this}}{by}"), &[])
    }

    /// Puts the rows of `other` behind these, column by column.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.union`.
    pub fn union(&self, other: &DataFrame) -> Result<DataFrame> {
        self.ask("SELECT * FROM {this} UNION ALL SELECT * FROM {0}", &[other])
    }

    /// Pairs the rows with those of `other` that have the same values in these columns.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.join(right, usingColumns)`.
    pub fn join<E: AsRef<str>>(&self, other: &DataFrame, using: impl IntoIterator<Item = E>) -> Result<DataFrame> {
        self.ask(&format!("SELECT * FROM {{this}} JOIN {{0}} USING ({})", joined(using)), &[other])
    }

    /// Gives the columns other names, as many as there are.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: there are more or fewer.
    ///
    /// # Spark
    ///
    /// `Dataset.toDF`.
    pub fn to_df_named<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<DataFrame> {
        let names: Vec<String> = names.into_iter().map(|n| n.as_ref().to_owned()).collect();
        if names.len() != self.schema.fields().len() {
            let text = format!("{} names are given to {} columns", names.len(), self.schema.fields().len());
            return Err(Error::new(ErrorKind::Config, text));
        }
        let columns = self.to_columns()?;
        let schema = Arc::new(Schema::new(
            self.schema.fields().iter().zip(&names).map(|(f, n)| f.as_ref().clone().with_name(n)).collect::<Vec<_>>(),
        ));
        let renamed = columns
            .into_iter()
            .map(|batch| RecordBatch::of(Arc::clone(&schema), batch.columns().to_vec(), batch.num_rows()));
        let renamed = renamed.collect::<Result<Vec<_>>>()?;
        DataFrame::of_rows(&self.sql, schema, renamed)
    }

    /// Computes the rows and makes them a table under a name, in the place of one that has it.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s; the kind is `Config`: the name is none.
    ///
    /// # Spark
    ///
    /// `Dataset.createOrReplaceTempView`, `registerTempTable`. There the view is computed each time it is asked, here once.
    pub fn create_or_replace_temp_view(&self, name: &str) -> Result<()> {
        self.sql.set_table(name, Arc::clone(&self.schema), self.to_columns()?)
    }

    /// As [`create_or_replace_temp_view`](Self::create_or_replace_temp_view), unless there is one.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: there is a table of this name.
    ///
    /// # Spark
    ///
    /// `Dataset.createTempView`.
    pub fn create_temp_view(&self, name: &str) -> Result<()> {
        if self.sql.table_names().contains(&name.to_lowercase()) {
            let text = format!("there is a table `{name}` already: use create_or_replace_temp_view, or another name");
            return Err(Error::new(ErrorKind::Config, text));
        }
        self.create_or_replace_temp_view(name)
    }

    /// As [`create_or_replace_temp_view`](Self::create_or_replace_temp_view), as `global_temp.NAME`.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Spark
    ///
    /// `Dataset.createOrReplaceGlobalTempView`.
    pub fn create_or_replace_global_temp_view(&self, name: &str) -> Result<()> {
        self.create_or_replace_temp_view(&format!("global_temp.{name}"))
    }

    /// Returns the first `rows` rows as Spark's table, with cells cut at `width` characters, or not at all with 0.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s.
    ///
    /// # Spark
    ///
    /// What `Dataset.show` prints.
    pub fn show_string(&self, rows: usize, width: usize) -> Result<String> {
        let columns = self.limit(rows.saturating_add(1))?.to_columns()?;
        let names: Vec<String> = self.schema.fields().iter().map(|f| f.name().clone()).collect();
        let cells = Cells::of(&names, &columns)?;
        Ok(show::table(&cells, rows, width))
    }

    /// Prints the first 20 rows, with cells cut at 20 characters.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s.
    ///
    /// # Spark
    ///
    /// `Dataset.show`.
    pub fn show(&self) -> Result<()> {
        self.show_first(20, 20)
    }

    /// Prints the first `rows` rows, with cells cut at `width` characters, or not at all with 0.
    ///
    /// # Errors
    ///
    /// As [`to_columns`](Self::to_columns)'s.
    ///
    /// # Spark
    ///
    /// `Dataset.show(numRows, truncate)`.
    pub fn show_first(&self, rows: usize, width: usize) -> Result<()> {
        show::print(&self.show_string(rows, width)?);
        Ok(())
    }

    /// Returns the schema as Spark's tree.
    ///
    /// # Spark
    ///
    /// `StructType.treeString`.
    pub fn schema_string(&self) -> String {
        show::tree(&self.schema)
    }

    /// Prints the schema as Spark's tree.
    ///
    /// # Spark
    ///
    /// `Dataset.printSchema`.
    pub fn print_schema(&self) {
        show::print(&self.schema_string());
    }

    /// Saves the rows as a table of the warehouse: a folder of Parquet files, which takes all of them in one step, or none.
    ///
    /// This is Spark's way, inside of `foreach_rdd`: a batch that runs again is in the table twice. Of a stream,
    /// [`save_as_table`](crate::SqlStreams::save_as_table) has each batch once. [`SqlContext::register_saved_table`] makes the table known to
    /// statements.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// use millstream_sql::{SaveTable, SqlContext};
    ///
    /// # let context = Context::new("local[2]", "doc")?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// let sql = SqlContext::get_or_create(&context)?;
    /// sql.set_warehouse(folder.path());
    /// let people = sql.create_data_frame(vec![("Ada".to_owned(), 36), ("Alan".to_owned(), 41)])?;
    /// people.save_as_table(SaveTable::append("people"))?;
    /// people.filter("_2 > 40")?.save_as_table(SaveTable::append("people"))?;
    ///
    /// sql.register_saved_table("people")?;
    /// assert_eq!(sql.sql("SELECT count(*), sum(_2) FROM people")?.collect::<(i64, i64)>()?, [(3, 118)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the table is there and it says so, or has other columns; another program writes to it; its name is none,
    /// or one of a database. The kind is `Data`: the rows cannot be computed, or what is in the folder is no table.
    ///
    /// # Cost
    ///
    /// The rows are written by the caller's thread, one file for each folder that they go to.
    ///
    /// # Spark
    ///
    /// `df.write.mode(…).partitionBy(…).saveAsTable(name)`.
    #[track_caller]
    pub fn save_as_table(&self, table: SaveTable) -> Result<()> {
        let site = CallSite::here("save_as_table");
        warehouse::save_rows(&self.to_columns()?, &self.schema, &self.sql, table, site).map_err(|e| e.at(site))
    }

    /// Returns how the rows are computed.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    pub fn explain_string(&self) -> Result<String> {
        self.statement.explain(&self.tables, &self.functions)
    }

    /// Prints how the rows are computed.
    ///
    /// # Errors
    ///
    /// As [`SqlContext::sql`]'s.
    ///
    /// # Spark
    ///
    /// `Dataset.explain`.
    pub fn explain(&self) -> Result<()> {
        show::print(&self.explain_string()?);
        Ok(())
    }
}

impl fmt::Debug for DataFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.schema.fields().iter().map(|f| format!("{}: {}", f.name(), show::type_name(f.data_type())));
        write!(f, "[{}]", columns.collect::<Vec<_>>().join(", "))
    }
}

fn joined<E: AsRef<str>>(expressions: impl IntoIterator<Item = E>) -> String {
    let expressions: Vec<String> = expressions.into_iter().map(|e| e.as_ref().to_owned()).collect();
    expressions.join(", ")
}

/// What SQL adds to Rdds.
pub trait SqlRdds<T> {
    /// Makes a data frame of an Rdd of rows. It runs the job now, and brings the columns here.
    ///
    /// # Errors
    ///
    /// Whatever the job fails with.
    ///
    /// # Spark
    ///
    /// `rdd.toDF()`.
    fn to_df(&self) -> Result<DataFrame>
    where
        T: Columnar;

    /// As [`to_df`](Self::to_df), with other names for the columns.
    ///
    /// # Errors
    ///
    /// As there; the kind is `Config`: there are more names than columns, or fewer.
    ///
    /// # Spark
    ///
    /// `rdd.toDF("word")`.
    fn to_df_named<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<DataFrame>
    where
        T: Columnar;
}

impl<T: Data> SqlRdds<T> for Rdd<T> {
    #[track_caller]
    fn to_df(&self) -> Result<DataFrame>
    where
        T: Columnar,
    {
        let sql = SqlContext::get_or_create(self.context())?;
        let site = CallSite::here("to_df");
        let columns = pass_over(self, ToColumns::<T>::default(), site).collect()?;
        DataFrame::of_elements::<T>(&sql, columns)
    }

    #[track_caller]
    fn to_df_named<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<DataFrame>
    where
        T: Columnar,
    {
        self.to_df()?.to_df_named(names)
    }
}
