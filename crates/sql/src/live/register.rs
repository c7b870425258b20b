//! What a program says to make a stream, a state or the groups of a statement a live table.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Rdd, Result, Time, pass_over};
use millstream_streaming::DStream;

use super::{BATCH, Content, States};
use crate::columnar::Columnar;
use crate::context::{SqlContext, check_name};
use crate::continuous::Continuous;
use crate::row::{Cell, Row};
use crate::statement::{relabelled, small};
use crate::stream::ToColumns;

/// The columns of a live table: those of its rows in small letters, and the batch's time.
fn with_batch(fields: &Schema, name: &str) -> Result<SchemaRef> {
    let small = small(fields, name)?;
    if small.fields().iter().any(|field| field.name() == BATCH) {
        let text = format!(
            "the column `{BATCH}` of the live table `{name}` is the batch's time: call the one of its rows otherwise"
        );
        return Err(Error::new(ErrorKind::Graph, text));
    }
    let mut fields: Vec<Field> = small.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Time::field(BATCH));
    Ok(Arc::new(Schema::new(fields)))
}

impl SqlContext {
    /// Makes the newest batch of a stream a live table, which can be asked from outside of all batches: see `serve`. This is an
    /// output: it makes the batch run.
    ///
    /// The table has the columns of the stream's rows, in small letters, and beside them `batch`, the time of the batch. All live
    /// tables of a program are those of the same batch: one is published as a whole, when the last of its live tables is there. A
    /// window is a stream as any other: `register_stream("last_minute", &stream.columns().window(secs(60)))` keeps its columns, and
    /// not rows, in the window. What of a batch is live does not wait for its other outputs, nor for what makes it durable.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::SqlContext;
    /// # use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let readings = test.input(batches![[("pump".to_owned(), 71.5f64)]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// sql.register_stream("readings", &readings);
    /// # test.run(1)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a name that is none or taken, two columns of a name, and a column `batch`. A batch fails whose columns are not
    /// those of the batches before it.
    ///
    /// # Cost
    ///
    /// The rows of each batch are written as columns, which are kept until the next batch is published and nobody looks at them any
    /// more.
    #[track_caller]
    pub fn register_stream<T: Columnar>(&self, name: &str, stream: &DStream<T>) {
        let site = CallSite::here("register_stream");
        let schema = match self.declared::<T>(name) {
            Ok(schema) => schema,
            Err(error) => return stream.mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
        };
        let name = name.to_lowercase();
        let expected = self.expecting(stream, &name, site);
        let columns = expected.lift(site, move |rdd, _| pass_over(&rdd, ToColumns::<T>::default(), site));
        let live = Arc::clone(self.live());
        let _ = columns.foreach_rdd_at(site, move |rdd: Rdd<crate::RecordBatch>, time| {
            let batches = CallSite::scope(Some(site), || rdd.collect())?;
            let seen = lock(&live.making).known.get(&name).and_then(|known| known.schema.clone());
            let schema = match (schema.clone().or(seen), batches.first()) {
                (Some(schema), _) => schema,
                (None, Some(first)) => with_batch(&first.schema(), &name)?,
                // Nobody knows the columns of a stream of columns that has none.
                (None, None) => Arc::new(Schema::empty()),
            };
            let plain = Arc::new(Schema::new(
                schema.fields().iter().take(schema.fields().len().saturating_sub(1)).cloned().collect::<Vec<_>>(),
            ));
            let mut rows = Vec::new();
            for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
                let differ = |what: &str| {
                    let text =
                        format!("the columns of the live table `{name}` are not those of the batches before: {what}");
                    Error::new(ErrorKind::Data, text).at(site)
                };
                if batch.num_columns() != plain.fields().len() {
                    return Err(differ(&format!("{} and not {}", batch.num_columns(), plain.fields().len())));
                }
                rows.push(relabelled(batch, &plain).map_err(|e| differ(e.message()))?);
            }
            live.add(time, &name, &schema, Content::Rows { time, rows: Arc::new(rows) });
            Ok(())
        });
    }

    /// Makes the states of all keys a live table: those of `map_with_state`, or of `update_state_by_key`. This is an output.
    ///
    /// Its columns are `key`, those of the state, or `value` if that is no struct, and `batch`. A statement that asks for some keys,
    /// by `key = …` or `key IN (…)`, looks them up in the state's own table and waits for no batch; all others read it from end to
    /// end, some rows at a time.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::SqlContext;
    /// use millstream_streaming::{State, StateSpec};
    /// # use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let pairs = test.input(batches![[("pump".to_owned(), 1i64)]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// let counts = pairs.map_with_state(StateSpec::function(|_: &String, n: Option<i64>, state: &mut State<'_, i64>| {
    ///     state.update(state.get_option().copied().unwrap_or(0) + n.unwrap_or(0));
    /// }));
    /// sql.register_state("counts", &counts);
    /// # test.run(1)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register_stream`](Self::register_stream)'s.
    ///
    /// # Cost
    ///
    /// In each batch, nothing that grows with the state for `map_with_state`; a copy of the pairs for `update_state_by_key`, which
    /// calls its function for each of them anyway.
    ///
    /// Where tasks run in other processes, the pairs of `update_state_by_key` are sent to the driver in each batch. States of
    /// `map_with_state` stay where they are, and publishing them is a small job in each batch; a look-up is a job on the partitions that have
    /// its keys, and reading all of them one job a partition, which is sent to the driver as a whole. Readers have one such job at a
    /// time for each table: they take slots from the batches. Who would rather have the batches pay registers the stream of
    /// `state_snapshots()`.
    #[track_caller]
    pub fn register_state<S: States>(&self, name: &str, states: &S) {
        let site = CallSite::here("register_state");
        let mut fields = vec![S::Key::field("key")];
        fields.extend(S::State::fields());
        let schema = check_name(name).and_then(|()| with_batch(&Schema::new(fields), name)).and_then(|schema| {
            let known = Some(Arc::clone(&schema));
            self.live().declare(&name.to_lowercase(), known, vec![0]).map(|()| schema)
        });
        let schema = match schema {
            Ok(schema) => schema,
            Err(error) => return states.mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
        };
        let name = name.to_lowercase();
        let (live, expects, expected) = (Arc::clone(self.live()), self.clone(), name.clone());
        states.foreach(
            site,
            move |time| expects.live().expect(time, &expected, expects.tables_at(time)),
            move |states| {
                let time = states.time();
                live.add(time, &name, &schema, Content::State(S::viewed(states, &schema)));
            },
        );
    }

    /// Makes the groups of a statement that is kept up to date a live table. This is an output.
    ///
    /// Its columns are those of the statement, in small letters, and `batch`. A statement that asks for some groups, by `=` or `IN` on
    /// each of the columns that the statement is grouped by, looks them up in the table of groups, makes the results of those alone, and
    /// waits for no batch; all others make the results of all groups, some at a time. `register_stream` takes the whole answer instead, and
    /// computes it in each batch.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::{SqlContext, SqlStreams as _};
    /// # use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let sales = test.input(batches![[("pump".to_owned(), 7i64)]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// let totals = sales.continuous_sql::<(String, i64)>(&sql, "sales", "SELECT _1 AS item, sum(_2) AS n FROM sales GROUP BY _1");
    /// sql.register_continuous("totals", &totals);
    /// # test.run(1)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register_stream`](Self::register_stream)'s. `start()` reports a statement whose rows are not made each of one group, with
    /// `ORDER BY`, `LIMIT`, a join or a function `OVER` a window behind the groups, or without any `GROUP BY`: of those register the
    /// stream.
    ///
    /// # Cost
    ///
    /// In each batch, nothing that grows with the number of groups. A look-up probes a hash table, and the results of what it found are made
    /// by the plan that the statement has kept. Where tasks run in other processes, as for
    /// [`register_state`](Self::register_state) of `map_with_state`.
    ///
    /// # Spark
    ///
    /// A streaming query with `outputMode("complete")` into a `memory` sink, which holds a copy of all rows.
    #[track_caller]
    pub fn register_continuous<R: Columnar>(&self, name: &str, groups: &Continuous<R>) {
        let site = CallSite::here("register_continuous");
        // What is wrong with the statement is reported already.
        let Some(asked) = groups.asked() else { return };
        let schema = asked.check().and_then(|()| check_name(name)).and_then(|()| {
            let schema = with_batch(asked.schema(), name)?;
            self.live().declare(&name.to_lowercase(), Some(Arc::clone(&schema)), asked.keys().to_vec())?;
            Ok(schema)
        });
        let schema = match schema {
            Ok(schema) => schema,
            Err(error) => return groups.stream().mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
        };
        let name = name.to_lowercase();
        let (live, expects, expected) = (Arc::clone(self.live()), self.clone(), name.clone());
        asked.foreach(
            site,
            move |time| expects.live().expect(time, &expected, expects.tables_at(time)),
            Arc::clone(&schema),
            move |time, state| live.add(time, &name, &schema, Content::State(state)),
        );
    }

    fn declared<T: Columnar>(&self, name: &str) -> Result<Option<SchemaRef>> {
        check_name(name)?;
        let schema = T::schema()?.map(|schema| with_batch(&schema, name)).transpose()?;
        self.live().declare(&name.to_lowercase(), schema.clone(), Vec::new())?;
        Ok(schema)
    }

    /// The same stream, whose batches are expected when they are planned.
    fn expecting<T: millstream_core::Data>(&self, stream: &DStream<T>, name: &str, site: CallSite) -> DStream<T> {
        let (sql, name) = (self.clone(), name.to_owned());
        stream.lift(site, move |rdd, time| {
            sql.live().expect(time, &name, sql.tables_at(time));
            rdd
        })
    }
}
