//! Statements on streams: the batches of all streams that one reads come together in one task, which runs the kept plan.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::SchemaRef;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, PartitionIter, Pass, Rdd, Result, Time, pass_over};
use millstream_streaming::DStream;

use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::context::{SqlContext, check_name};
use crate::functions::Functions;
use crate::session;
use crate::statement::{Statement, Table};
use crate::tables::Pinned;

/// Columns of one of the streams that a statement reads, by the stream's place among them.
type Tagged = (u32, RecordBatch);

/// Streams that are tables of one statement: see [`SqlContext::over`].
#[must_use = "streams that are tables are there to be asked"]
pub struct StreamTables {
    sql: SqlContext,
    inputs: Vec<Input>,
    rows: DStream<Tagged>,
    /// What is wrong so far; it is told where the statement is asked.
    wrong: Vec<Error>,
}

#[derive(Clone)]
struct Input {
    name: String,
    schema: Option<SchemaRef>,
}

impl Input {
    fn of<T: Columnar>(name: &str, wrong: &mut Vec<Error>) -> Input {
        let schema = T::schema().unwrap_or_else(|error| {
            wrong.push(error);
            None
        });
        Input { name: name.to_owned(), schema }
    }
}

impl SqlContext {
    /// Takes a stream as the table `name` of a statement; others are added with [`StreamTables::and`].
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::SqlContext;
    /// use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let left = test.input(batches![[("a", 1i64), ("b", 2i64)]]);
    /// # let right = left.map(|(key, n)| (key, n * 10));
    /// let sql = SqlContext::new(test.ssc())?;
    /// let sums = sql
    ///     .over("l", &left)
    ///     .and("r", &right)
    ///     .ask::<(String, i64)>("SELECT l._1, l._2 + r._2 FROM l JOIN r ON l._1 = r._1 ORDER BY 1");
    /// # let seen = test.collect(&sums);
    /// # test.run(1)?;
    /// assert_eq!(seen.table().to_string(), "1s (a,11) (b,22)");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    #[track_caller]
    pub fn over<T: Columnar>(&self, name: &str, stream: &DStream<T>) -> StreamTables {
        StreamTables::of(self, name, stream, CallSite::here("over"))
    }
}

impl StreamTables {
    pub(crate) fn of<T: Columnar>(sql: &SqlContext, name: &str, stream: &DStream<T>, site: CallSite) -> StreamTables {
        let mut wrong: Vec<Error> = check_name(name).err().into_iter().collect();
        let input = Input::of::<T>(name, &mut wrong);
        StreamTables { sql: sql.clone(), inputs: vec![input], rows: tagged(stream, 0, site), wrong }
    }

    /// Adds another stream, as another table. It must have batches as often.
    #[track_caller]
    pub fn and<T: Columnar>(mut self, name: &str, stream: &DStream<T>) -> StreamTables {
        let site = CallSite::here("and");
        self.wrong.extend(check_name(name).err());
        if self.inputs.iter().any(|input| input.name.eq_ignore_ascii_case(name)) {
            let text = format!("two streams are the table `{name}`: give one another name");
            self.wrong.push(Error::new(ErrorKind::Graph, text));
        }
        let more = tagged(stream, self.inputs.len() as u32, site);
        self.rows = CallSite::scope(Some(site), || self.rows.union(&more));
        self.inputs.push(Input::of::<T>(name, &mut self.wrong));
        self
    }

    /// Asks a statement of each batch of these streams.
    ///
    /// # Errors
    ///
    /// As [`SqlStreams::sql`](crate::SqlStreams::sql)'s; and `start()` reports streams of different contexts or slides.
    #[track_caller]
    pub fn ask<R: Columnar>(self, statement: &str) -> DStream<R> {
        self.asked(statement, CallSite::here("ask"))
    }

    pub(crate) fn asked<R: Columnar>(self, text: &str, site: CallSite) -> DStream<R> {
        let StreamTables { sql, inputs, rows, mut wrong } = self;
        let statement = sql.statement(text).map(Arc::new);
        if let Ok(statement) = &statement {
            wrong.extend(checked::<R>(&sql, statement, &inputs).err());
        }
        wrong.extend(statement.as_ref().err().cloned());
        for error in wrong {
            rows.mistake(Error::new(ErrorKind::Graph, error.message()).at(site));
        }
        let inputs = Arc::new(inputs);
        rows.lift(site, move |rdd, time| match &statement {
            Ok(statement) => run_on(&rdd, time, &sql, statement, &inputs, site),
            Err(error) => rdd.context().failed(error.clone().at(site)),
        })
    }
}

impl fmt::Debug for StreamTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.inputs.iter().map(|input| &input.name)).finish()
    }
}

/// Checks a statement before there is a batch, if the types of all streams tell their columns.
fn checked<R: Columnar>(sql: &SqlContext, statement: &Statement, inputs: &[Input]) -> Result<()> {
    let mut tables = Vec::new();
    for input in inputs {
        let Some(schema) = &input.schema else { return Ok(()) };
        let (name, schema) = (input.name.clone(), Arc::clone(schema));
        tables.push(Table { name, schema, rows: Arc::default(), version: 0 });
    }
    let streams: Vec<String> = inputs.iter().map(|input| input.name.to_lowercase()).collect();
    tables.extend(sql.newest_tables().into_iter().filter(|table| !streams.contains(&table.name)));
    let schema = statement.check(&tables, &sql.functions())?;
    R::check(&schema)
}

fn tagged<T: Columnar>(stream: &DStream<T>, place: u32, site: CallSite) -> DStream<Tagged> {
    stream.lift(site, move |rdd, _| pass_over(&rdd, Tag::<T> { place, of: PhantomData }, site))
}

/// Writes the rows of a partition as columns, and says of which stream they are.
struct Tag<T> {
    place: u32,
    of: PhantomData<fn(T)>,
}

impl<T: Columnar> Pass for Tag<T> {
    type In = T;
    type Out = Tagged;

    fn run(&self, rows: PartitionIter<T>) -> Result<Vec<Tagged>> {
        Ok(T::write(rows)?.into_iter().map(|columns| (self.place, columns)).collect())
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.place)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Tag { place: r.value()?, of: PhantomData })
    }
}

/// Makes the Rdd of a statement's answer over a batch.
fn run_on<R: Columnar>(
    rdd: &Rdd<Tagged>,
    time: Time,
    sql: &SqlContext,
    statement: &Arc<Statement>,
    inputs: &Arc<Vec<Input>>,
    site: CallSite,
) -> Rdd<R> {
    // A partition a stream is read where it is; of more, each makes its columns by itself, and those are sent.
    let partitions = rdd.num_partitions();
    let together = if (1..=inputs.len()).contains(&partitions) { rdd.coalesce(1) } else { rdd.repartition(1) };
    let seen = sql.tables_at(time);
    let is_stream = |name: &String| inputs.iter().any(|input| input.name.to_lowercase() == *name);
    let pinned = statement.tables().iter().filter(|name| !is_stream(name));
    let pinned = pinned.filter_map(|name| Some(seen.get(name)?.pinned(name, rdd.context())));
    let run = Run {
        statement: Arc::clone(statement),
        inputs: Arc::clone(inputs),
        pinned: pinned.collect(),
        functions: sql.functions(),
        of: PhantomData,
    };
    pass_over(&together, run, site)
}

/// Runs a statement in a task. Elsewhere, the statement is planned where it arrives.
struct Run<R> {
    statement: Arc<Statement>,
    inputs: Arc<Vec<Input>>,
    pinned: Vec<Pinned>,
    functions: Arc<Functions>,
    of: PhantomData<fn() -> R>,
}

impl<R: Columnar> Pass for Run<R> {
    type In = Tagged;
    type Out = R;

    fn run(&self, rows: PartitionIter<Tagged>) -> Result<Vec<R>> {
        let mut batches: Vec<Vec<RecordBatch>> = vec![Vec::new(); self.inputs.len()];
        for (place, columns) in rows {
            if let Some(of_stream) = batches.get_mut(place as usize) {
                of_stream.push(columns);
            }
        }
        let mut tables = Vec::new();
        for (input, mut rows) in self.inputs.iter().zip(batches) {
            let schema = input.schema.clone().or_else(|| rows.first().map(|columns| columns.schema()));
            // Nobody knows the columns of a stream of columns that has none.
            let Some(schema) = schema else { return Ok(Vec::new()) };
            rows.retain(|columns| columns.num_rows() > 0);
            tables.push(Table { name: input.name.clone(), schema, rows: Arc::new(rows), version: 0 });
        }
        for pinned in &self.pinned {
            tables.push(pinned.table()?);
        }
        let mut out = Vec::new();
        for columns in self.statement.run(&tables, &self.functions)? {
            out.append(&mut R::read(columns)?);
        }
        Ok(out)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        if let Some(name) = self.functions.names().find(|name| self.statement.calls(name)) {
            let text = format!(
                "the function `{name}` is a closure of this process, and a statement that calls it cannot travel"
            );
            return Err(Error::new(ErrorKind::User, text));
        }
        w.value(&self.statement.text())?;
        w.value(&self.statement.session().memory())?;
        let inputs: Vec<(String, Option<RecordBatch>)> = self
            .inputs
            .iter()
            .map(|input| (input.name.clone(), input.schema.as_ref().map(|s| RecordBatch::empty(Arc::clone(s)))))
            .collect();
        w.value(&inputs)?;
        w.value(&self.pinned)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (text, memory): (String, u64) = (r.value()?, r.value()?);
        let inputs: Vec<(String, Option<RecordBatch>)> = r.value()?;
        let inputs = inputs.into_iter().map(|(name, columns)| Input { name, schema: columns.map(|c| c.schema()) });
        Ok(Run {
            statement: arrived(&text, memory)?,
            inputs: Arc::new(inputs.collect()),
            pinned: r.value()?,
            functions: Arc::default(),
            of: PhantomData,
        })
    }
}

/// How many statements of other processes are remembered here, with their plans.
const ARRIVED: usize = 64;

/// Returns the statement that arrived from another process: the same for each of its batches, so that it is planned once here, too.
fn arrived(text: &str, memory: u64) -> Result<Arc<Statement>> {
    type Known = (BTreeMap<String, (u64, Arc<Statement>)>, u64);
    static KNOWN: Mutex<Known> = Mutex::new((BTreeMap::new(), 0));
    let (known, asked) = &mut *lock(&KNOWN);
    *asked += 1;
    if let Some((last, statement)) = known.get_mut(text) {
        *last = *asked;
        return Ok(Arc::clone(statement));
    }
    let statement = Arc::new(Statement::new(text, &session::of_arrived(memory)?)?);
    known.insert(text.to_owned(), (*asked, Arc::clone(&statement)));
    if known.len() > ARRIVED
        && let Some(oldest) = known.iter().min_by_key(|(_, (last, _))| *last).map(|(text, _)| text.clone())
    {
        known.remove(&oldest);
    }
    Ok(statement)
}
