//! A batch in two transactions: staged, and moved. Each begins by looking whether a later run has taken over.

use millstream_core::{Error, ErrorKind, Result};
use millstream_streaming::{OutputBatch, OutputRun};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params, params_from_iter};
use serde::{Deserialize, Serialize};

use crate::sink::Database;
use crate::sql::{self, STAGED, Target, staging_table};
use crate::value::SqlValue;

/// A batch whose rows are staged: what the checkpoint knows of it.
///
/// It says by itself where the rows go, so that a later build of the program, whose sink may be another, moves them as
/// was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedBatch {
    target: Target,
    rows: u64,
    /// The run that staged it.
    token: u64,
}

/// Which output of which program a call is of.
#[derive(Clone, Copy)]
struct Of<'a> {
    app: &'a str,
    output: &'a str,
    token: u64,
}

impl<'a> Of<'a> {
    fn batch(batch: &'a OutputBatch) -> Of<'a> {
        Of { app: &batch.key().app_id, output: &batch.key().output, token: batch.fencing_token() }
    }
}

fn number(token: u64) -> i64 {
    i64::try_from(token).unwrap_or(i64::MAX)
}

impl Database {
    /// Runs `body` in a transaction that no other writer can come between, if no later run has written.
    fn fenced<R>(&self, of: Of<'_>, doing: &str, body: impl FnOnce(&Transaction<'_>, i64) -> Result<R>) -> Result<R> {
        let fail = |error: rusqlite::Error| self.failed(format_args!("output {}, {doing}", of.output), &error);
        let mut connection = self.connection();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        let output = self.output(&transaction, of).map_err(fail)?.map_err(|seen| {
            let text = format!(
                "output {}, {doing}: a later start of the program has taken over the database {}: it has the \
                 token {seen}, and this one has {}. It may not write any more, so end this process",
                of.output,
                self.path.display(),
                of.token
            );
            Error::new(ErrorKind::Stopped, text)
        })?;
        let done = body(&transaction, output)?;
        transaction.commit().map_err(fail)?;
        Ok(done)
    }

    /// Returns the number of an output, and notes its token; or the higher token that has been noted before.
    fn output(&self, transaction: &Transaction<'_>, of: Of<'_>) -> rusqlite::Result<Result<i64, i64>> {
        let token = number(of.token);
        let seen: Option<(i64, i64)> = transaction
            .prepare_cached("SELECT id, token FROM millstream_outputs_v1 WHERE app = ?1 AND output = ?2")?
            .query_row(params![of.app, of.output], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match seen {
            Some((_, seen)) if seen > token => Ok(Err(seen)),
            Some((id, seen)) => {
                if seen < token {
                    let sql = "UPDATE millstream_outputs_v1 SET token = ?2 WHERE id = ?1";
                    transaction.execute(sql, params![id, token])?;
                }
                Ok(Ok(id))
            }
            None => {
                let sql = "INSERT INTO millstream_outputs_v1 (app, output, token) VALUES (?1, ?2, ?3)";
                transaction.execute(sql, params![of.app, of.output, token])?;
                Ok(Ok(transaction.last_insert_rowid()))
            }
        }
    }

    /// Stages the rows of a batch durably, and sees that the table would take them.
    pub(crate) fn stage(&self, target: &Target, rows: &[Vec<SqlValue>], batch: &OutputBatch) -> Result<StagedBatch> {
        let width = target.columns.len();
        let refused = |i: usize, why: &str| {
            let row = rows[i].iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let text = format!(
                "row {} of {} of batch {batch} does not fit table {} of {}: {why}. The row is ({row})",
                i + 1,
                rows.len(),
                target.table,
                self.path.display()
            );
            Error::new(ErrorKind::User, text)
        };
        for (i, row) in rows.iter().enumerate() {
            if row.len() != width {
                let columns = target.columns.join(", ");
                return Err(refused(i, &format!("it has {} values for the {width} columns {columns}", row.len())));
            }
            if let Some(why) = row.iter().find_map(SqlValue::objection) {
                return Err(refused(i, &why));
            }
        }
        let staged = StagedBatch { target: target.clone(), rows: rows.len() as u64, token: batch.fencing_token() };
        if rows.is_empty() {
            return Ok(staged);
        }
        let doing = format!("staging batch {}", batch.time());
        let fail = |error: rusqlite::Error| self.failed(&doing, &error);
        self.fenced(Of::batch(batch), &doing, |transaction, output| {
            // What the table refuses must fail the batch now. A commit that fails would fail at every start.
            transaction.execute_batch("SAVEPOINT trial").map_err(fail)?;
            let mut insert = transaction.prepare_cached(&target.insert_row()).map_err(fail)?;
            for (i, row) in rows.iter().enumerate() {
                insert.execute(params_from_iter(row)).map_err(|error| {
                    let error = fail(error);
                    if error.kind() == ErrorKind::User { refused(i, error.message()) } else { error }
                })?;
            }
            transaction.execute_batch("ROLLBACK TO trial; RELEASE trial").map_err(fail)?;
            let (at, token) = (batch.time().as_millis(), number(staged.token));
            transaction.execute_batch(&sql::create_staging(width)).map_err(fail)?;
            unstage(transaction, width, output, at).map_err(fail)?;
            let mut stage = transaction.prepare_cached(&sql::stage(width)).map_err(fail)?;
            for (seq, row) in (0i64..).zip(rows) {
                let place = [output, at, token, seq].map(SqlValue::Integer);
                stage.execute(params_from_iter(place.iter().chain(row))).map_err(fail)?;
            }
            Ok(())
        })?;
        Ok(staged)
    }

    /// Moves what is staged to its table, and notes the batch's key, in one transaction. A batch that has been moved
    /// is left.
    pub(crate) fn commit(&self, staged: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        if staged.rows == 0 {
            return Ok(());
        }
        let doing = format!("committing batch {}", batch.time());
        let fail = |error: rusqlite::Error| self.failed(&doing, &error);
        let (of, at, width) = (Of::batch(batch), batch.time().as_millis(), staged.target.columns.len());
        self.fenced(of, &doing, |transaction, output| {
            // Without a checkpoint no batch comes again, and nothing would remove its key.
            let remembers = of.token > 0;
            if remembers {
                let mut ask = transaction
                    .prepare_cached("SELECT 1 FROM millstream_batches_v1 WHERE output = ?1 AND batch = ?2")
                    .map_err(fail)?;
                if ask.exists(params![output, at]).map_err(fail)? {
                    return unstage(transaction, width, output, at).map_err(fail);
                }
            }
            let moved = transaction
                .prepare_cached(&format!(
                    "SELECT count(*) FROM {} WHERE output = ?1 AND batch = ?2 AND token = ?3",
                    staging_table(width)
                ))
                .and_then(|mut ask| {
                    ask.query_row(params![output, at, number(staged.token)], |row| row.get::<_, i64>(0))
                })
                .map_err(fail)?;
            if moved != number(staged.rows) {
                let text = format!(
                    "{doing} of output {}: {} rows were staged in {}, and {moved} are there: has somebody changed {}, \
                     or put another file in its place?",
                    of.output,
                    staged.rows,
                    self.path.display(),
                    staging_table(width)
                );
                return Err(Error::new(ErrorKind::Data, text));
            }
            transaction
                .prepare_cached(&staged.target.insert_staged())
                .and_then(|mut insert| insert.execute(params![output, at, number(staged.token)]))
                .map_err(fail)?;
            unstage(transaction, width, output, at).map_err(fail)?;
            if remembers {
                let sql = "INSERT INTO millstream_batches_v1 (output, batch) VALUES (?1, ?2)";
                let mut note = transaction.prepare_cached(sql).map_err(fail)?;
                note.execute(params![output, at]).map_err(fail)?;
            }
            if let Some(up_to) = batch.committed_up_to() {
                let sql = "DELETE FROM millstream_batches_v1 WHERE output = ?1 AND batch <= ?2";
                let mut forget = transaction.prepare_cached(sql).map_err(fail)?;
                forget.execute(params![output, up_to.as_millis()]).map_err(fail)?;
            }
            Ok(())
        })
    }

    /// Lets go of a batch that is staged.
    pub(crate) fn abort(&self, staged: &StagedBatch, batch: &OutputBatch) -> Result<()> {
        if staged.rows == 0 {
            return Ok(());
        }
        let doing = format!("letting go of batch {}", batch.time());
        self.fenced(Of::batch(batch), &doing, |transaction, output| {
            let gone = unstage(transaction, staged.target.columns.len(), output, batch.time().as_millis());
            gone.map_err(|error| self.failed(&doing, &error))
        })
    }

    /// Lets go of what earlier runs have staged for an output, but for what is known.
    pub(crate) fn recover(&self, known: &[(OutputBatch, StagedBatch)], run: &OutputRun) -> Result<()> {
        let of = Of { app: run.app_id(), output: run.output(), token: run.fencing_token() };
        let doing = "looking for what earlier runs have staged";
        let fail = |error: rusqlite::Error| self.failed(doing, &error);
        self.fenced(of, doing, |transaction, output| {
            let mut ask = transaction
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, length(?1)) = ?1")
                .map_err(fail)?;
            let names: Vec<String> =
                ask.query_map([STAGED], |row| row.get(0)).and_then(Iterator::collect).map_err(fail)?;
            for name in names {
                let sql = format!("SELECT DISTINCT batch, token FROM \"{name}\" WHERE output = ?1");
                let there: Vec<(i64, i64)> = transaction
                    .prepare(&sql)
                    .and_then(|mut ask| ask.query_map([output], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
                    .map_err(fail)?;
                for (batch, token) in there {
                    let is_known = known.iter().any(|(key, staged)| {
                        (key.time().as_millis(), number(staged.token)) == (batch, token)
                            && staging_table(staged.target.columns.len()) == name
                    });
                    if !is_known {
                        let sql = format!("DELETE FROM \"{name}\" WHERE output = ?1 AND batch = ?2 AND token = ?3");
                        transaction.execute(&sql, params![output, batch, token]).map_err(fail)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Removes what is staged for a batch, whichever run did.
fn unstage(transaction: &Transaction<'_>, width: usize, output: i64, at: i64) -> rusqlite::Result<()> {
    let sql = format!("DELETE FROM {} WHERE output = ?1 AND batch = ?2", staging_table(width));
    transaction.prepare_cached(&sql)?.execute(params![output, at]).map(drop)
}
