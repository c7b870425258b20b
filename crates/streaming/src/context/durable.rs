//! Where a program is durable, and what is done with what an earlier run left there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::checkpoint::FolderCheckpoints;
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Result};

#[cfg(doc)]
use super::StreamingContextBuilder;
use super::{StreamingContext, StreamingContextState};
use crate::checkpoint::{Found, Held};
use crate::conf::Conf;

/// What is done with what an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// It goes on.
    Always,
    /// It is thrown away.
    Never,
    /// The start is refused.
    Refuse,
}

impl StreamingContext {
    /// Makes the program durable in a folder, which is made if it is not there: what batches are given, which of them have
    /// ended, and states are written there.
    ///
    /// A folder in which a program has run is not taken for a new one: `start()` refuses it.
    /// [`get_or_create`](Self::get_or_create) goes on from there.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the folder cannot be made.
    ///
    /// # Spark
    ///
    /// `StreamingContext.checkpoint`, SC08.
    pub fn checkpoint(&self, folder: impl AsRef<Path>) -> Result<()> {
        let resume = if self.inner.conf.spark_compatible { Resume::Never } else { Resume::Refuse };
        self.keep_in(folder.as_ref(), resume)
    }

    /// As [`checkpoint`](Self::checkpoint); what a program left in the folder is thrown away at the start, unread: it may be
    /// damaged. A start that is interrupted leaves all of it or nothing.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_anew(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.keep_in(folder.as_ref(), Resume::Never)
    }

    /// Agrees that what a checkpoint has under these names may go: what the program keeps no more; what it keeps in a form that
    /// nothing reads, or without a name and not of the same, which then begins with nothing. Without that the start is refused.
    ///
    /// A name is a `uid`, or what the refusal calls it: `map_with_state 1`. What goes on as it is is not touched.
    ///
    /// Remove the line when the program has been started with it: it consents to any later loss under that name, too. Each
    /// start at which nothing is dropped by it logs a warning.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::secs;
    /// # use millstream_streaming::StreamingContext;
    /// # let ssc = StreamingContext::new("local[1]", "doc", secs(1))?;
    /// ssc.drop_kept(["sessions", "update_state_by_key 1"]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn drop_kept<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) {
        lock(&self.inner.wishes).drop.extend(names.into_iter().map(Into::into));
    }

    /// Says that what is called `new` in this build was called `old` in the one before, as when a state is given a
    /// [`uid`](crate::DStream::uid) that had none. When it has its new name, this means nothing any more.
    /// Names are given all at once, and to one thing each.
    ///
    /// # Errors
    ///
    /// `start()` refuses two of one name, and a program that has something of the old name itself: no later start could tell
    /// the two apart. The command `checkpoint upgrade DIR --rename OLD=NEW` renames once, and also where names shift.
    ///
    /// Neither renames an output, which its sink knows by its name, and an input that keeps what it received.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::secs;
    /// # use millstream_streaming::StreamingContext;
    /// # let ssc = StreamingContext::new("local[1]", "doc", secs(1))?;
    /// ssc.rename_kept("map_with_state 1", "sessions");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    pub fn rename_kept(&self, old: impl Into<String>, new: impl Into<String>) {
        lock(&self.inner.wishes).rename.insert(old.into(), new.into());
    }

    pub(super) fn keep_in(&self, folder: &Path, resume: Resume) -> Result<()> {
        let inner = &self.inner;
        let store = FolderCheckpoints::open_on(Arc::clone(&inner.disk), folder)?;
        inner.context.set_checkpoint_store(Arc::new(store));
        *lock(&inner.kept_in) = Some((folder.to_owned(), resume));
        Ok(())
    }

    /// Makes a program that goes on where its last run ended, or begins if it never ran.
    ///
    /// `setup` builds the graph, at every start: the graph is code. What is restored is data: what batches were given, which of
    /// them had ended, and states. Batches that had begun and not ended run again, with exactly what they were given; for those
    /// that were missed see [`MissedBatches`](crate::MissedBatches).
    ///
    /// The program runs on `local[*]`; [`StreamingContextBuilder::get_or_create`] is for settings of one's own.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use millstream_core::secs;
    /// use millstream_streaming::StreamingContext;
    ///
    /// let ssc = StreamingContext::get_or_create(folder.path(), secs(1), |ssc| {
    ///     let words = ssc.text_file_stream("/var/log/incoming").flat_map(|line| line.split(' '));
    ///     let count = |new: Vec<u64>, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>());
    ///     words.map(|word| (word, 1)).update_state_by_key(count).uid("counts").print();
    ///     Ok(())
    /// })?;
    /// ssc.start()?;
    /// # ssc.stop()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `setup` fails with. `start()` reports, with the kind `Config`, a folder in use by another process and a program that
    /// is not that of the checkpoint; and with the kind `Data` a checkpoint that cannot be read.
    ///
    /// # Spark
    ///
    /// `StreamingContext.getOrCreate`, SC31; `new StreamingContext(path)`, SC04.
    #[track_caller]
    pub fn get_or_create(
        folder: impl AsRef<Path>,
        interval: Duration,
        setup: impl FnOnce(&StreamingContext) -> Result<()>,
    ) -> Result<StreamingContext> {
        let name = folder.as_ref().file_name().map_or("millstream".into(), |name| name.to_string_lossy().into_owned());
        StreamingContext::builder(Conf::new("local[*]", name)?, interval).get_or_create(folder, setup)
    }

    /// Takes the folder for checkpoints back, whether [`checkpoint`](Self::checkpoint), the engine's
    /// [`Context`](millstream_core::Context) or the settings named it. A program that needs one does not start then.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped`: the context has been started, and what is saved is read again.
    ///
    /// # Spark
    ///
    /// `StreamingContext.checkpoint(null)`, SC08, S-139; there the engine's own folder stays.
    #[track_caller]
    pub fn clear_checkpoint(&self) -> Result<()> {
        let site = CallSite::here("clear_checkpoint");
        if self.state() != StreamingContextState::Initialized {
            let text =
                "the checkpoint directory cannot be taken back once the context has been started: call it before";
            return Err(Error::new(ErrorKind::Stopped, text).at(site));
        }
        self.inner.ignores_folder.store(true, Ordering::Relaxed);
        *lock(&self.inner.kept_in) = None;
        self.inner.context.clear_checkpoint_store();
        Ok(())
    }

    /// Opens the checkpoint's folder, if the program is to be durable.
    pub(super) fn find_checkpoint(&self) -> Result<Option<Found>> {
        let inner = &self.inner;
        let Some((folder, resume)) = lock(&inner.kept_in).clone() else { return Ok(None) };
        let held = Held::take(Arc::clone(&inner.disk), &folder)?;
        if resume == Resume::Never {
            held.clear()?;
        }
        let found = held.read(inner.conf.checkpoint_after, &inner.conf.driver_log)?;
        match resume {
            Resume::Refuse if found.is_used() => {
                let text = format!(
                    "the checkpoint directory {} is of a program that has run ({}): StreamingContext::get_or_create goes on \
                     from there, checkpoint_anew throws it away",
                    folder.display(),
                    found.summary()
                );
                Err(Error::new(ErrorKind::Config, text).at(inner.site))
            }
            _ => Ok(Some(found)),
        }
    }
}
