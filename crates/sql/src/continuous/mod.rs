//! Statements that are kept up to date: a batch changes the groups that it has rows of, and nothing is asked again of rows that
//! have been seen.
//!
//! ```text
//! rows of the batch ──below──► (group, state) ──shuffle──► merged into the table of states     cut.rs, planned.rs, groups.rs
//!                                                            │ all of them, or those that changed
//!                                        results ◄──finish───┘
//!                              answer ◄──above── results                                        steps.rs
//! ```

mod asked;
mod cells;
mod cut;
mod groups;
mod planned;
mod steps;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::{CallSite, Context, Error, ErrorKind, Rdd, Result, Time, pass_over};
use millstream_streaming::{DStream, MergedState};

use self::asked::Asked;
use self::cells::Packed;
use self::planned::Planned;
use self::steps::{Above, Below, Group, Kept, Merging, Results};
use crate::columnar::Columnar;
use crate::context::{SqlContext, check_name};
use crate::statement::Table;

/// The answer to a statement over all rows of a stream so far, kept up to date: what
/// [`continuous_sql`](crate::SqlStreams::continuous_sql) returns.
///
/// It is the stream of whole answers; [`changes`](Self::changes) is that of what each batch changed in them.
///
/// # Spark
///
/// A streaming query of `readStream` with `outputMode("complete")`, and with `outputMode("update")`; a DStream has nothing like it.
pub struct Continuous<R> {
    answers: DStream<R>,
    state: MergedState<Packed, Packed>,
    sql: SqlContext,
    planned: Result<Arc<Planned>>,
    site: CallSite,
}

impl<R> Clone for Continuous<R> {
    fn clone(&self) -> Self {
        Continuous {
            answers: self.answers.clone(),
            state: self.state.clone(),
            sql: self.sql.clone(),
            planned: self.planned.clone(),
            site: self.site,
        }
    }
}

impl<R> Deref for Continuous<R> {
    type Target = DStream<R>;

    fn deref(&self) -> &DStream<R> {
        &self.answers
    }
}

impl<R> fmt::Debug for Continuous<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Continuous({:?})", self.answers)
    }
}

impl<R: Columnar> Continuous<R> {
    pub(crate) fn of<T: Columnar>(
        stream: &DStream<T>,
        sql: &SqlContext,
        name: &str,
        text: &str,
        site: CallSite,
    ) -> Continuous<R> {
        let planned = planned::<T>(sql, name, text).and_then(|planned| {
            R::check(planned.schema())?;
            Ok(Arc::new(planned))
        });
        match &planned {
            Err(error) => stream.mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
            Ok(planned) => {
                for aggregate in planned.groups().unbounded() {
                    tracing::warn!(
                        statement = %site,
                        "`{aggregate}` keeps every value that is new to it, so its state has no bound: take an approx_ function, or \
                         a window, if there may be many"
                    );
                }
            }
        }
        let (of, context) = (planned.clone(), sql.clone());
        let groups = stream.lift(site, move |rdd, time| match &of {
            Ok(planned) => {
                let kept = kept(planned, &context, time, rdd.context());
                pass_over(&rdd, Below::<T> { kept, of: PhantomData }, site)
            }
            Err(error) => rdd.context().failed(error.clone().at(site)),
        });
        let content = planned.as_ref().map(|planned| planned.content()).unwrap_or_default();
        let merging = planned.as_ref().ok().map(|planned| Kept {
            planned: Arc::clone(planned),
            pinned: Vec::new(),
            functions: sql.functions(),
        });
        let state = groups.merge_with_state(Merging(merging), content, site);
        let answers = answered::<R>(&state.all(site), &planned, sql, site);
        Continuous { answers, state, sql: sql.clone(), planned, site }
    }

    /// Returns the stream of what changed: the rows of the groups that each batch had rows of.
    ///
    /// A group that changed so that a condition of `HAVING` does not hold for it any more is not among them; nothing tells that it
    /// went.
    ///
    /// # Errors
    ///
    /// `start()` reports a statement whose rows are not made each of one group: with `ORDER BY`, `LIMIT`, a join or a function
    /// `OVER` a window behind the groups, or without any `GROUP BY`.
    ///
    /// # Cost
    ///
    /// What changed, and not how many groups there are.
    ///
    /// # Spark
    ///
    /// `outputMode("update")`.
    #[track_caller]
    pub fn changes(&self) -> DStream<R> {
        let site = CallSite::here("changes");
        if let Ok(planned) = &self.planned
            && !planned.by_row()
        {
            let text = "changes are of statements whose rows are made each of one group: leave out ORDER BY, LIMIT, joins and \
                        OVER behind the groups, and group by something; or use the whole answer";
            self.answers.mistake(Error::new(ErrorKind::Graph, text).at(site));
        }
        answered(&self.state.changed(site), &self.planned, &self.sql, self.site)
    }

    /// What is asked of its groups from outside of all batches. Nothing if the statement is none.
    pub(crate) fn asked(&self) -> Option<Asked<'_>> {
        let planned = self.planned.as_ref().ok()?;
        Some(Asked { planned, state: &self.state, sql: &self.sql })
    }

    /// Returns the stream of whole answers, for where a `DStream` is asked for by name.
    pub fn stream(&self) -> DStream<R> {
        self.answers.clone()
    }

    /// Gives the state a name of its own, as [`DStream::uid`].
    #[track_caller]
    pub fn uid(&self, uid: impl Into<String>) -> Self {
        self.state.uid(uid);
        self.clone()
    }

    /// Saves the state every `interval`, instead of every ten batches.
    #[track_caller]
    pub fn checkpoint(&self, interval: Duration) -> Self {
        self.state.checkpoint(interval, CallSite::here("checkpoint"));
        self.clone()
    }
}

fn planned<T: Columnar>(sql: &SqlContext, name: &str, text: &str) -> Result<Planned> {
    check_name(name)?;
    let Some(schema) = T::schema()? else {
        let text = format!(
            "a statement that is kept up to date is planned before there is a batch, and the columns of `{name}` are not known \
             before: give its rows a type with `rows::<T>()`"
        );
        return Err(Error::new(ErrorKind::Config, text));
    };
    let mut tables = vec![Table { name: name.to_owned(), schema, rows: Arc::default(), version: 0 }];
    tables.extend(sql.newest_tables().into_iter().filter(|table| table.name != name.to_lowercase()));
    Planned::new(text, sql.session(), tables, &sql.functions())
}

fn kept(planned: &Arc<Planned>, sql: &SqlContext, time: Time, context: &Context) -> Kept {
    let seen = sql.tables_at(time);
    let pinned = planned.static_tables().filter_map(|name| Some(seen.get(&name.to_lowercase())?.pinned(name, context)));
    Kept { planned: Arc::clone(planned), pinned: pinned.collect(), functions: sql.functions() }
}

/// Answers the statement of some groups.
fn answered<R: Columnar>(
    groups: &DStream<Group>,
    planned: &Result<Arc<Planned>>,
    sql: &SqlContext,
    site: CallSite,
) -> DStream<R> {
    let (planned, sql) = (planned.clone(), sql.clone());
    groups.lift(site, move |rdd: Rdd<Group>, time| match &planned {
        Ok(planned) => {
            let kept = kept(planned, &sql, time, rdd.context());
            let results = pass_over(&rdd, Results(kept.clone()), site);
            // What looks at more than one group looks at all of them, in one task.
            let together = if planned.by_row() { results } else { results.repartition(1) };
            pass_over(&together, Above::<R> { kept, of: PhantomData }, site)
        }
        Err(error) => rdd.context().failed(error.clone().at(site)),
    })
}

#[cfg(test)]
mod tests;
