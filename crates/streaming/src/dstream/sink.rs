//! Sinks that take a batch in two steps, so that it is there once, whatever happens between them.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use millstream_core::mutants::{Mutant, planted};
use millstream_core::threads::lock;
use millstream_core::{CallSite, Data, ErrorKind, Rdd, Result, Time, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::guarantee::{Output, OutputKind};
use super::output::counting;
use super::{DStream, OutputBatch, OutputRun};
use crate::graph::{OutputBody, guarded};

/// A sink that takes each batch exactly once: it is prepared while the batch runs, and committed when the end of the batch is
/// durable.
///
/// The order, with a checkpoint directory:
///
/// ```text
/// prepare            durable, and not to be seen
/// end of the batch   in the log, with what `prepare` returned
/// commit             to be seen
/// ```
///
/// A run that is stopped before the second leaves something that was prepared and that nobody knows of: the next one runs
/// the batch again, and [`recover`](Self::recover) has removed it. One that is stopped before the third leaves something that the
/// log knows of: the next one commits it. Without a checkpoint directory a batch is committed as soon as it is prepared.
///
/// All four may be called again for the same batch, also by a later run. `commit`, `abort` and `recover` are called on the
/// thread that plans batches. A sink that may outlive its process should refuse calls with a
/// [fencing token](OutputBatch::fencing_token) that is lower than one it has seen.
///
/// # Example
///
/// Files that are written under another name first (and made durable, which is left out here):
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let place = folder.path().to_path_buf();
/// use std::fs;
/// use std::path::PathBuf;
/// use millstream_core::{Rdd, Result};
/// use millstream_streaming::{OutputBatch, OutputRun, Transactional};
///
/// struct Sums(PathBuf);
///
/// impl Transactional<i64> for Sums {
///     type Prepared = PathBuf;
///
///     fn prepare(&self, rdd: &Rdd<i64>, batch: &OutputBatch) -> Result<PathBuf> {
///         let draft = self.0.join(format!("{}.draft", batch.time().as_millis()));
///         fs::write(&draft, rdd.sum()?.to_string())?;
///         Ok(draft)
///     }
///
///     fn commit(&self, draft: &PathBuf, _: &OutputBatch) -> Result<()> {
///         if draft.exists() {
///             fs::rename(draft, draft.with_extension("sum"))?;
///         }
///         Ok(())
///     }
///
///     fn abort(&self, draft: &PathBuf, _: &OutputBatch) -> Result<()> {
///         Ok(fs::remove_file(draft)?)
///     }
///
///     fn recover(&self, known: &[(OutputBatch, PathBuf)], _: &OutputRun) -> Result<()> {
///         for entry in fs::read_dir(&self.0)? {
///             let path = entry?.path();
///             let dangles = path.extension().is_some_and(|e| e == "draft") && known.iter().all(|(_, k)| *k != path);
///             if dangles {
///                 fs::remove_file(path)?;
///             }
///         }
///         Ok(())
///     }
/// }
///
/// # use millstream_testkit::doc::*;
/// # let sums = place.clone();
/// # run([vec![1i64, 2], vec![3]], move |numbers| {
/// numbers.save_to(Sums(sums.clone())).uid("sums");
/// # });
/// assert_eq!(fs::read_to_string(place.join("1000.sum"))?, "3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Transactional<T: Data>: Send + Sync + 'static {
    /// What is needed to commit a batch later, also in another process. It is written to the checkpoint, so it should be small:
    /// a name, and not the data.
    type Prepared: Serialize + DeserializeOwned + Send + 'static;

    /// Makes a batch durable, so that nobody sees it.
    ///
    /// # Errors
    ///
    /// What it returns fails the batch. What it leaves behind then is for [`recover`](Self::recover).
    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<Self::Prepared>;

    /// Makes a batch that was prepared visible, in one step. For a batch that is visible already it does nothing.
    ///
    /// # Errors
    ///
    /// What it returns stops the program; the next start commits the batch again.
    fn commit(&self, prepared: &Self::Prepared, batch: &OutputBatch) -> Result<()>;

    /// Lets go of a batch that was prepared, and that failed for another reason.
    ///
    /// # Errors
    ///
    /// Are only told: the next start aborts it again.
    fn abort(&self, prepared: &Self::Prepared, batch: &OutputBatch) -> Result<()>;

    /// Lets go of what earlier runs have prepared for this output, but for what the checkpoint knows of, which is committed next.
    ///
    /// Is called at each start before any batch. A batch that is committed and not among `known` never comes again.
    ///
    /// # Errors
    ///
    /// What it returns is what `start()` returns.
    fn recover(&self, known: &[(OutputBatch, Self::Prepared)], run: &OutputRun) -> Result<()>;

    /// Says whether the sink asks for the [name](OutputRun::name) of a run: only then one is drawn.
    fn tells_runs_apart(&self) -> bool {
        false
    }

    /// Says, for people, why a batch is there once: a part of a line of `explain`.
    fn how(&self) -> &'static str {
        "it is prepared in the batch, and committed when the batch's end is durable"
    }
}

/// A sink, whatever it takes and keeps.
pub(crate) trait AnySink: Send + Sync {
    fn how(&self) -> &'static str;
    fn tells_runs_apart(&self) -> bool;
    fn commit(&self, prepared: &[u8], batch: &OutputBatch) -> Result<()>;
    fn abort(&self, prepared: &[u8], batch: &OutputBatch) -> Result<()>;
    fn recover(&self, known: &[(OutputBatch, &[u8])], run: &OutputRun) -> Result<()>;
}

struct Sink<T, S> {
    sink: S,
    of: PhantomData<fn(T)>,
}

impl<T: Data, S: Transactional<T>> AnySink for Sink<T, S> {
    fn tells_runs_apart(&self) -> bool {
        self.sink.tells_runs_apart()
    }

    fn how(&self) -> &'static str {
        self.sink.how()
    }

    fn commit(&self, prepared: &[u8], batch: &OutputBatch) -> Result<()> {
        let prepared = codec::decode(prepared)?;
        guarded(|| self.sink.commit(&prepared, batch))
    }

    fn abort(&self, prepared: &[u8], batch: &OutputBatch) -> Result<()> {
        let prepared = codec::decode(prepared)?;
        guarded(|| self.sink.abort(&prepared, batch))
    }

    fn recover(&self, known: &[(OutputBatch, &[u8])], run: &OutputRun) -> Result<()> {
        let known: Result<Vec<_>> =
            known.iter().map(|(batch, bytes)| Ok((batch.clone(), codec::decode(bytes)?))).collect();
        let known = known.map_err(|error| {
            let text =
                format!("what was prepared for {} cannot be read by this build: {}", run.output, error.message());
            millstream_core::Error::new(ErrorKind::Data, text)
        })?;
        guarded(|| self.sink.recover(&known, run))
    }
}

/// What has been prepared in this run and is not committed, by batch and output.
#[derive(Debug, Default)]
pub(crate) struct PreparedOutputs(Mutex<BTreeMap<(Time, usize), Vec<u8>>>);

impl PreparedOutputs {
    fn put(&self, at: Time, output: usize, bytes: Vec<u8>) {
        lock(&self.0).insert((at, output), bytes);
    }

    /// Returns what was prepared for a batch.
    pub(crate) fn of(&self, at: Time) -> Vec<(usize, Vec<u8>)> {
        let range = (at, 0)..=(at, usize::MAX);
        lock(&self.0).range(range).map(|((_, output), bytes)| (*output, bytes.clone())).collect()
    }

    pub(crate) fn forget(&self, at: Time) {
        lock(&self.0).retain(|(batch, _), _| *batch != at);
    }
}

impl<T: Data> DStream<T> {
    /// Gives each batch to a sink that takes it exactly once.
    ///
    /// # Errors
    ///
    /// What the sink fails with: while it prepares, it fails the batch; while it commits, it stops the program, and the next
    /// start commits again.
    ///
    /// # Cost
    ///
    /// What the sink prepares goes into the log with the end of its batch; no wait for the disk is added. `commit` holds up
    /// the planning of the next batch.
    ///
    /// # Spark
    ///
    /// There is none; it is what Spark's guide asks a program to build itself in `foreachRDD` (R-24).
    #[track_caller]
    pub fn save_to(&self, sink: impl Transactional<T>) -> Output {
        self.save_to_at(sink, CallSite::here("save_to"))
    }

    /// As [`save_to`](Self::save_to), for an operation of another name.
    #[doc(hidden)]
    pub fn save_to_at(&self, sink: impl Transactional<T>, site: CallSite) -> Output {
        let stream = self.clone();
        let sink = Arc::new(Sink { sink, of: PhantomData::<fn(T)> });
        let kind = OutputKind::Transaction(Arc::clone(&sink) as Arc<dyn AnySink>);
        self.add_output(
            site,
            kind,
            counting(),
            Box::new(move |batch| {
                let Some(rdd) = batch.rdd(&stream) else { return Ok(None) };
                let (sink, of, prepared) = (Arc::clone(&sink), batch.of_output(), batch.prepared());
                let body: OutputBody = Box::new(move || {
                    CallSite::scope(Some(site), || {
                        let handle = sink.sink.prepare(&rdd, &of)?;
                        match prepared {
                            Some((prepared, output)) => {
                                prepared.put(of.time(), output, codec::encode(&handle)?);
                                if planted(Mutant::SinkCommitsBeforeEnd) {
                                    sink.sink.commit(&handle, &of)?;
                                }
                            }
                            None => sink.sink.commit(&handle, &of)?,
                        }
                        Ok(())
                    })
                });
                Ok(Some(body))
            }),
        )
    }
}
