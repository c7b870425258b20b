//! SqlContext: the tables, views and functions that statements of a program know.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use datafusion::arrow::datatypes::SchemaRef;
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, Env, Error, ErrorKind, Result, Time};
use millstream_streaming::StreamingContext;

use crate::aggregates::aggregate;
use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::dialect;
use crate::files::Files;
use crate::frame::DataFrame;
use crate::functions::{Functions, function};
use crate::live::Live;
use crate::row::{Cell, Row};
use crate::session::Session;
use crate::statement::{Statement, Table};
use crate::tables::{Tables, Version};
use crate::warehouse::WAREHOUSE;

/// What statements of a program know: tables of files, views, and functions. There is one for each engine.
///
/// It is cheap to clone.
///
/// # Example
///
/// ```
/// use millstream_core::Context;
/// use millstream_sql::{SqlContext, SqlRdds as _};
///
/// let context = Context::new("local[2]", "doc")?;
/// let sql = SqlContext::get_or_create(&context)?;
///
/// let words = context.parallelize(vec!["to", "be", "or", "not", "to", "be"].into_iter().map(String::from).collect(), 2);
/// words.to_df_named(["word"])?.create_or_replace_temp_view("words")?;
/// let counts = sql.sql("SELECT word, count(*) AS total FROM words GROUP BY word ORDER BY word")?;
/// assert_eq!(
///     counts.collect::<(String, i64)>()?,
///     [("be".to_owned(), 2), ("not".to_owned(), 1), ("or".to_owned(), 1), ("to".to_owned(), 2)]
/// );
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `SQLContext`, and the part of `SparkSession` that streaming programs use.
#[derive(Clone)]
pub struct SqlContext {
    inner: Arc<Inner>,
}

struct Inner {
    session: Arc<Session>,
    tables: Tables,
    functions: Mutex<Arc<Functions>>,
    /// Where saved tables are.
    warehouse: Mutex<PathBuf>,
    output_disk: Arc<dyn Disk>,
    live: Arc<Live>,
}

/// The contexts of this process's engines; those of engines that are gone are let go when the next one is made.
static CONTEXTS: Mutex<Vec<(Weak<Env>, SqlContext)>> = Mutex::new(Vec::new());

impl SqlContext {
    /// Returns the one context of the program's engine.
    ///
    /// # Errors
    ///
    /// As [`get_or_create`](Self::get_or_create)'s.
    pub fn new(ssc: &StreamingContext) -> Result<SqlContext> {
        SqlContext::get_or_create(ssc.context())
    }

    /// Returns the one context of an engine; the first time makes it. Its statements may hold, all together, as much memory as the
    /// engine may: see `spark.driver.memory`.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: queries cannot run here.
    ///
    /// # Spark
    ///
    /// `SQLContext.getOrCreate`, `SparkSession.builder.getOrCreate`.
    pub fn get_or_create(context: &Context) -> Result<SqlContext> {
        let mut contexts = lock(&CONTEXTS);
        contexts.retain(|(env, _)| env.strong_count() > 0);
        let is_of = |env: &Weak<Env>| std::ptr::eq(env.as_ptr(), Arc::as_ptr(context.env()));
        if let Some((_, known)) = contexts.iter().find(|(env, _)| is_of(env)) {
            return Ok(known.clone());
        }
        let session = Arc::new(Session::new(context.conf().memory_budget())?);
        let inner = Inner {
            session,
            tables: Tables::default(),
            functions: Mutex::default(),
            warehouse: Mutex::new(PathBuf::from(WAREHOUSE)),
            live: Arc::new(Live::new()),
            output_disk: Arc::clone(&context.env().output_disk),
        };
        let made = SqlContext { inner: Arc::new(inner) };
        contexts.push((Arc::downgrade(context.env()), made.clone()));
        Ok(made)
    }

    /// Asks a statement about the tables as they are now.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: it does not parse, a table, a column or a function is not there, or types do not fit. The error names
    /// the place in the statement, and the nearest name.
    ///
    /// # Cost
    ///
    /// It is planned each time it is asked: on each batch of a stream use [`SqlStreams::sql`], which
    /// plans once.
    ///
    /// # Spark
    ///
    /// `SparkSession.sql`.
    ///
    /// [`SqlStreams::sql`]: crate::SqlStreams::sql
    pub fn sql(&self, statement: &str) -> Result<DataFrame> {
        let newest = self.inner.tables.newest();
        let tables = newest.iter().map(|(name, version)| version.table(name)).collect();
        DataFrame::new(self, statement, tables)
    }

    /// Makes a data frame of rows.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: the rows do not fit into columns; `Config`: their type has none.
    ///
    /// # Spark
    ///
    /// `SparkSession.createDataFrame`.
    pub fn create_data_frame<T: Columnar>(&self, rows: Vec<T>) -> Result<DataFrame> {
        DataFrame::of_elements::<T>(self, T::write(rows.into_iter())?)
    }

    /// Makes a data frame of columns that all have the same schema.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: they have not.
    ///
    /// # Spark
    ///
    /// `SparkSession.createDataFrame(rows, schema)`.
    pub fn create_data_frame_of(&self, schema: SchemaRef, columns: Vec<RecordBatch>) -> Result<DataFrame> {
        DataFrame::of_rows(self, schema, columns)
    }

    /// Makes a file of CSV a table, or a folder of them, or those that fit a pattern. The first line names the columns.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: the files cannot be read, or have lines that do not fit; the error names file and line.
    ///
    /// # Spark
    ///
    /// `spark.read.option("header", true).option("inferSchema", true).csv(path).createOrReplaceTempView(name)`.
    pub fn register_csv(&self, name: &str, path: impl AsRef<Path>) -> Result<()> {
        self.register_files(name, Files::csv(path))
    }

    /// Makes a file with an object of JSON a line a table, or a folder of them, or those that fit a pattern.
    ///
    /// # Errors
    ///
    /// As [`register_csv`](Self::register_csv)'s.
    pub fn register_json(&self, name: &str, path: impl AsRef<Path>) -> Result<()> {
        self.register_files(name, Files::json(path))
    }

    /// Makes a file of Parquet a table, or a folder of them, or those that fit a pattern.
    ///
    /// # Errors
    ///
    /// As [`register_csv`](Self::register_csv)'s.
    pub fn register_parquet(&self, name: &str, path: impl AsRef<Path>) -> Result<()> {
        self.register_files(name, Files::parquet(path))
    }

    /// Makes a file of Avro a table, or a folder of them, or those that fit a pattern.
    ///
    /// # Errors
    ///
    /// As [`register_csv`](Self::register_csv)'s; see [`Files::avro`].
    #[cfg(feature = "avro")]
    pub fn register_avro(&self, name: &str, path: impl AsRef<Path>) -> Result<()> {
        self.register_files(name, Files::avro(path))
    }

    /// Makes [`Files`] a table, which is read now, and again as they say.
    ///
    /// All statements of a batch see the same version of it. The rows are held in memory.
    ///
    /// # Errors
    ///
    /// As [`register_csv`](Self::register_csv)'s.
    pub fn register_files(&self, name: &str, files: Files) -> Result<()> {
        check_name(name)?;
        self.inner.tables.set_files(name, files)
    }

    /// Says in which folder the tables are that streams are saved as; `spark-warehouse` in the folder in which the program was begun, unless
    /// this is said. Tasks on other hosts write to it by the same path.
    ///
    /// # Spark
    ///
    /// `spark.sql.warehouse.dir`.
    pub fn set_warehouse(&self, folder: impl AsRef<Path>) {
        folder.as_ref().clone_into(&mut lock(&self.inner.warehouse));
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        lock(&self.inner.warehouse).clone()
    }

    pub(crate) fn output_disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.inner.output_disk)
    }

    /// Makes a table of the warehouse known to statements, under its name. [`refresh_table`](Self::refresh_table) reads it again;
    /// [`Files::saved_table`] may be read again by itself.
    ///
    /// # Errors
    ///
    /// As [`register_csv`](Self::register_csv)'s.
    ///
    /// # Spark
    ///
    /// `spark.table(name)`.
    pub fn register_saved_table(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.register_files(name, Files::saved_table(self.warehouse().join(name)))
    }

    /// Reads the files of a table again. Batches that begin from now on see them.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: they cannot be read; what was read before stays. The kind is `Config`: there is no such table, or it is
    /// not made of files.
    ///
    /// # Spark
    ///
    /// `spark.catalog.refreshTable`.
    pub fn refresh_table(&self, name: &str) -> Result<()> {
        self.inner.tables.refresh(name)
    }

    /// Says that a table is asked often. The rows of every table are held in memory from the moment on in which it is made known, those of a
    /// view too, so all that this does is to say whether there is one.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// # use millstream_sql::SqlContext;
    /// # let context = Context::new("local[2]", "doc")?;
    /// let sql = SqlContext::get_or_create(&context)?;
    /// sql.create_data_frame(vec![(1i64, 2i64)])?.create_or_replace_temp_view("pairs")?;
    /// sql.cache_table("pairs")?;
    /// let error = sql.cache_table("pair").unwrap_err();
    /// assert!(error.message().starts_with("no table `pair`, did you mean `pairs`?"), "{error}");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config`: there is no such table.
    ///
    /// # Spark
    ///
    /// `SQLContext.cacheTable`, `spark.catalog.cacheTable`.
    pub fn cache_table(&self, name: &str) -> Result<()> {
        self.inner.tables.check(name)
    }

    /// Returns why the files of a table could not be read again when they were due, if that was so.
    pub fn refresh_error(&self, name: &str) -> Option<Error> {
        self.inner.tables.error(name)
    }

    /// Forgets a view or a table. Says whether it was there.
    ///
    /// # Spark
    ///
    /// `spark.catalog.dropTempView`.
    pub fn drop_temp_view(&self, name: &str) -> bool {
        self.inner.tables.remove(name)
    }

    /// Returns the names of all tables and views.
    ///
    /// # Spark
    ///
    /// `SQLContext.tableNames`.
    pub fn table_names(&self) -> Vec<String> {
        self.inner.tables.names()
    }

    /// Makes a closure a function of SQL. Its argument is a tuple of cells, or one; its result is a cell.
    ///
    /// An argument that may be null is an `Option`. The closure is called once for each row. It stays in this process: a statement that
    /// calls it cannot run on a cluster.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// # use millstream_sql::SqlContext;
    /// # let context = Context::new("local[2]", "doc")?;
    /// let sql = SqlContext::get_or_create(&context)?;
    /// sql.register_function("fahrenheit", |celsius: f64| celsius * 1.8 + 32.0)?;
    /// sql.register_function("shout", |(text, times): (String, i64)| text.to_uppercase() + &"!".repeat(times as usize))?;
    /// let row = sql.sql("SELECT fahrenheit(100), shout('hey', 2)")?.collect::<(f64, String)>()?;
    /// assert_eq!(row, [(212.0, "HEY!!".to_owned())]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the name is none, or statements have a meaning for it already, as for `round`.
    ///
    /// # Spark
    ///
    /// `spark.udf.register`.
    pub fn register_function<A: Row, R: Cell>(
        &self,
        name: &str,
        closure: impl Fn(A) -> R + Send + Sync + 'static,
    ) -> Result<()> {
        check_function(name)?;
        let mut functions = lock(&self.inner.functions);
        *functions = Arc::new(functions.with(function(name, closure)));
        Ok(())
    }

    /// Makes closures an aggregate of SQL, beside `sum` and `max`. It has a buffer, which is a row as a stream's are: a number, a tuple, or a
    /// struct with `#[derive(Row)]`. `zero` is the buffer of no rows, `reduce` adds a row's arguments to one, `merge` makes one of two,
    /// and `finish` makes the result of one.
    ///
    /// An argument that may be null is an `Option`. The closures stay in this process: a statement that calls them cannot run on a cluster.
    /// [`continuous_sql`](crate::SqlStreams::continuous_sql) keeps the buffer's columns as its state, so `merge` has to mean what `reduce`
    /// does over the rows of both.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// # use millstream_sql::SqlContext;
    /// # let context = Context::new("local[2]", "doc")?;
    /// let sql = SqlContext::get_or_create(&context)?;
    /// sql.register_aggregate(
    ///     "geometric_mean",
    ///     (0.0, 0i64),
    ///     |(logs, count): (f64, i64), value: f64| (logs + value.ln(), count + 1),
    ///     |(a, b), (c, d)| (a + c, b + d),
    ///     |(logs, count)| (count > 0).then(|| (logs / count as f64).exp().round()),
    /// )?;
    /// sql.create_data_frame(vec![("a".to_owned(), 2.0), ("a".to_owned(), 8.0), ("b".to_owned(), 5.0)])?
    ///     .create_or_replace_temp_view("numbers")?;
    /// let means = sql.sql("SELECT _1, geometric_mean(_2) FROM numbers GROUP BY _1 ORDER BY _1")?;
    /// assert_eq!(means.collect::<(String, Option<f64>)>()?, [("a".to_owned(), Some(4.0)), ("b".to_owned(), Some(5.0))]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register_function`](Self::register_function)'s; and an aggregate has an argument.
    ///
    /// # Cost
    ///
    /// The closures are called for each row; a group's buffer lies in memory of its own.
    ///
    /// # Spark
    ///
    /// `spark.udf.register` with an `Aggregator`, whose four functions have these names.
    pub fn register_aggregate<A: Row, B: Row, R: Cell>(
        &self,
        name: &str,
        zero: B,
        reduce: impl Fn(B, A) -> B + Send + Sync + 'static,
        merge: impl Fn(B, B) -> B + Send + Sync + 'static,
        finish: impl Fn(B) -> R + Send + Sync + 'static,
    ) -> Result<()> {
        check_function(name)?;
        if A::fields().is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("the aggregate `{name}` takes nothing: it has to be of a value"),
            ));
        }
        let mut functions = lock(&self.inner.functions);
        *functions = Arc::new(functions.with_aggregate(aggregate(name, zero, reduce, merge, finish)));
        Ok(())
    }

    pub(crate) fn statement(&self, text: &str) -> Result<Statement> {
        Statement::new(text, &self.inner.session)
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.inner.session
    }

    pub(crate) fn functions(&self) -> Arc<Functions> {
        Arc::clone(&lock(&self.inner.functions))
    }

    /// The tables that can be asked from outside of all batches.
    #[doc(hidden)]
    pub fn live(&self) -> &Arc<Live> {
        &self.inner.live
    }

    /// The functions of the program, as they are now.
    #[doc(hidden)]
    pub fn known_functions(&self) -> Vec<Arc<datafusion::logical_expr::ScalarUDF>> {
        self.functions().known()
    }

    /// The aggregates of the program, as they are now.
    #[doc(hidden)]
    pub fn known_aggregates(&self) -> Vec<Arc<datafusion::logical_expr::AggregateUDF>> {
        self.functions().known_aggregates()
    }

    pub(crate) fn newest_versions(&self) -> BTreeMap<String, Arc<Version>> {
        self.inner.tables.newest()
    }

    /// What the batch of this time sees.
    pub(crate) fn tables_at(&self, time: Time) -> Arc<BTreeMap<String, Arc<Version>>> {
        self.inner.tables.at(time)
    }

    pub(crate) fn newest_tables(&self) -> Vec<Table> {
        self.inner.tables.newest().iter().map(|(name, version)| version.table(name)).collect()
    }

    pub(crate) fn set_table(&self, name: &str, schema: SchemaRef, rows: Vec<RecordBatch>) -> Result<()> {
        check_name(name)?;
        self.inner.tables.set(name, schema, rows);
        Ok(())
    }
}

impl fmt::Debug for SqlContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlContext of {:?}", self.table_names())
    }
}

/// A name that a function of the program may have.
fn check_function(name: &str) -> Result<()> {
    check_name(name)?;
    if dialect::is_taken(name) {
        let text = format!(
            "`{name}` is a function of Spark's SQL, and statements would ask for that: give yours another name"
        );
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(())
}

/// A name that statements can write: `global_temp.words` is one.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let part = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    if name.strip_prefix("global_temp.").unwrap_or(name).split('.').count() == 1
        && part(name.strip_prefix("global_temp.").unwrap_or(name))
    {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, format!("`{name}` is no name: use letters, digits and `_`, a letter first")))
}
