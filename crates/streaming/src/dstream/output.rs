//! Outputs: what a batch is for. foreach_rdd, foreach_batch, print and the files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{
    CallSite, Data, Error, ErrorKind, ExchangeData, Rdd, RecordWriter, Result, Time, publishing, textform,
};

use super::DStream;
use super::guarantee::{Output, OutputKind};
use crate::graph::{
    BatchKey, Look, LookBody, LookOutput, OutputBody, OutputSlot, PlanOutput, WantsDigest, counted, digested,
};

/// What a closure of an output may return: nothing, or a `Result`.
pub trait Outcome {
    /// Returns whether it went well.
    ///
    /// # Errors
    ///
    /// What the closure returned as its error.
    fn outcome(self) -> Result<()>;
}

impl Outcome for () {
    fn outcome(self) -> Result<()> {
        Ok(())
    }
}

impl Outcome for Result<()> {
    fn outcome(self) -> Result<()> {
        self
    }
}

/// The batch that an output is given: its time, and a key that is the same for every attempt.
#[derive(Clone, Debug)]
pub struct OutputBatch {
    pub(crate) key: BatchKey,
    pub(crate) epoch: u64,
    pub(crate) committed_up_to: Option<Time>,
    pub(crate) notes: Notes,
}

/// What an output has to say of a batch, for listeners; nothing is kept where nobody is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Option<Arc<Mutex<BTreeMap<String, String>>>>);

impl Notes {
    /// Makes some that are told.
    pub(crate) fn kept() -> Notes {
        Notes(Some(Arc::default()))
    }

    pub(crate) fn take(&self) -> BTreeMap<String, String> {
        self.0.as_ref().map(|notes| std::mem::take(&mut *lock(notes))).unwrap_or_default()
    }
}

impl OutputBatch {
    /// Returns the batch's time.
    pub fn time(&self) -> Time {
        self.key.batch
    }

    /// Returns the key of this batch and output: the same for every attempt at it, and of nothing else.
    pub fn key(&self) -> &BatchKey {
        &self.key
    }

    /// Returns a number that grows with every run that goes on from a checkpoint, and is 0 without one.
    ///
    /// It says which attempt may publish: a sink that keeps the highest it was given refuses what an earlier run, paused and
    /// woken again, sends late. It is no part of the key, which is the same for every attempt.
    pub fn fencing_token(&self) -> u64 {
        self.epoch
    }

    /// Returns, while a [`Transactional`](crate::Transactional) sink commits, a time up to which all batches are committed for
    /// good: none of them comes to this output again, and a sink can forget their keys.
    pub fn committed_up_to(&self) -> Option<Time> {
        self.committed_up_to
    }

    /// Says something of the batch, by name: what listeners find in
    /// [`OutputOperationInfo::metadata`](crate::OutputOperationInfo::metadata) when the output has run. What is said again under a name
    /// takes the place of what was; outside of the output's run nobody is told.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// # run([vec![1i64, 2], vec![3]], |numbers| {
    /// numbers.foreach_batch(|rdd, batch| {
    ///     batch.note("largest", rdd.max()?.to_string());
    ///     Ok(())
    /// });
    /// # });
    /// ```
    ///
    /// # Spark
    ///
    /// There is none: inputs have it, `StreamInputInfo.metadata`, IN10.
    pub fn note(&self, name: impl Into<String>, what: impl Into<String>) {
        if let Some(notes) = &self.notes.0 {
            lock(notes).insert(name.into(), what.into());
        }
    }
}

impl fmt::Display for OutputBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// How one looks at what an output is given, and whether that is kept.
pub(super) type Looked<T> = (fn(&Rdd<T>) -> Result<Look>, WantsDigest);

/// The look at elements that cannot be written down.
pub(super) fn counting<T: Data>() -> Looked<T> {
    (counted::<T>, WantsDigest::Cannot)
}

fn digesting<T: ExchangeData>() -> Looked<T> {
    (digested::<T>, WantsDigest::IfRetained)
}

/// Returns the name of a batch's folder (S-107).
fn folder_name(prefix: &str, time: Time, suffix: &str) -> PathBuf {
    let ms = time.as_millis();
    let name = if prefix.is_empty() { ms.to_string() } else { format!("{prefix}-{ms}") };
    PathBuf::from(if suffix.is_empty() { name } else { format!("{name}.{suffix}") })
}

/// Returns what `print` shows of a batch (S-105), of `items` that are one more than `most` if there are more.
fn printed<T: ExchangeData>(items: &[T], most: usize, time: Time) -> Result<String> {
    const LINE: &str = "-------------------------------------------";
    let mut text = format!("{LINE}\nTime: {time}\n{LINE}\n");
    for item in items.iter().take(most) {
        textform::write(item, &mut text)?;
        text.push('\n');
    }
    if items.len() > most {
        text.push_str("...\n");
    }
    text.push('\n');
    Ok(text)
}

impl<T: Data> DStream<T> {
    /// Adds an output to the graph, and how one looks at what it is given.
    pub(super) fn add_output(
        &self,
        site: CallSite,
        kind: OutputKind,
        (look, digest): Looked<T>,
        plan: PlanOutput,
    ) -> Output {
        let mut number = None;
        let stream = self.clone();
        let look: LookOutput = Box::new(move |batch| {
            let rdd = batch.rdd(&stream)?;
            let body: LookBody = Box::new(move || CallSite::scope(Some(site), || look(&rdd)));
            Some(body)
        });
        self.graph().change(site, |graph| {
            number = Some(graph.outputs.len());
            graph.outputs.push(OutputSlot::new(site, self.id(), kind, plan, (look, digest)));
        });
        Output::new(self.graph(), number)
    }

    fn output(
        &self,
        site: CallSite,
        kind: OutputKind,
        look: Looked<T>,
        run: impl Fn(Rdd<T>, OutputBatch) -> Result<()> + Send + Sync + 'static,
    ) -> Output {
        let (stream, run) = (self.clone(), Arc::new(run));
        self.add_output(
            site,
            kind,
            look,
            Box::new(move |batch| {
                let Some(rdd) = batch.rdd(&stream) else { return Ok(None) };
                let (run, of) = (Arc::clone(&run), batch.of_output());
                let body: OutputBody = Box::new(move || run(rdd, of));
                Ok(Some(body))
            }),
        )
    }

    /// An output that writes a folder a batch, which appears in one step.
    fn output_files(
        &self,
        site: CallSite,
        look: Looked<T>,
        prefix: String,
        suffix: String,
        save: impl Fn(&Rdd<T>, &Path) -> Result<()> + Send + Sync + 'static,
    ) -> Output {
        let (stream, save) = (self.clone(), Arc::new(save));
        self.add_output(
            site,
            OutputKind::Files,
            look,
            Box::new(move |batch| {
                let Some(rdd) = batch.rdd(&stream) else { return Ok(None) };
                let (save, stamp) = (Arc::clone(&save), batch.stamp());
                let folder = folder_name(&prefix, batch.time(), &suffix);
                let body: OutputBody =
                    Box::new(move || CallSite::scope(Some(site), || publishing(stamp, || save(&rdd, &folder))));
                Ok(Some(body))
            }),
        )
    }

    /// Does something with each batch's Rdd and its time. This is an output: it makes the batch run.
    ///
    /// `f` runs on the driver, once a batch, in the order of the outputs; actions on the Rdd run on the engine. It
    /// returns nothing or a `Result`; an error or a panic fails the batch.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// # fn store(_: Vec<i32>) -> std::io::Result<()> { Ok(()) }
    /// # run([vec![1, 2]], |numbers| {
    /// numbers.foreach_rdd(|rdd, time| {
    ///     store(rdd.collect()?)?;
    ///     println!("{time}: stored");
    ///     Ok(())
    /// });
    /// # });
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.foreachRDD`, DS17.
    #[track_caller]
    pub fn foreach_rdd<R: Outcome>(&self, f: impl Fn(Rdd<T>, Time) -> R + Send + Sync + 'static) -> Output {
        let kind = OutputKind::Plain { has_key: false };
        self.output(CallSite::here("foreach_rdd"), kind, counting(), move |rdd, batch| f(rdd, batch.time()).outcome())
    }

    /// As [`foreach_rdd`](Self::foreach_rdd), for operations that are made of it.
    #[doc(hidden)]
    pub fn foreach_rdd_at<R: Outcome>(
        &self,
        site: CallSite,
        f: impl Fn(Rdd<T>, Time) -> R + Send + Sync + 'static,
    ) -> Output {
        let kind = OutputKind::Plain { has_key: false };
        self.output(site, kind, counting(), move |rdd, batch| f(rdd, batch.time()).outcome())
    }

    /// As [`foreach_rdd`](Self::foreach_rdd); `f` is given the batch and not only its time.
    ///
    /// The batch's [key](OutputBatch::key) is the same for every attempt at it, so a sink that remembers the last
    /// keys it took, together with what it took, gets each batch exactly once: say so with
    /// [`exactly_once`](Output::exactly_once). For a sink that can prepare there is [`save_to`](Self::save_to).
    ///
    /// # Spark
    ///
    /// As `foreachBatch` of structured streaming.
    #[track_caller]
    pub fn foreach_batch<R: Outcome>(&self, f: impl Fn(Rdd<T>, OutputBatch) -> R + Send + Sync + 'static) -> Output {
        let kind = OutputKind::Plain { has_key: true };
        self.output(CallSite::here("foreach_batch"), kind, counting(), move |rdd, batch| f(rdd, batch).outcome())
    }
}

impl<T: ExchangeData> DStream<T> {
    /// Has a [`Digest`](millstream_core::Digest) of each batch kept with its end, if the program is durable, so that a
    /// [replay](crate::commands) can tell whether it made the same. It is an output that does nothing else.
    ///
    /// `print` and files of text or objects have one by themselves in a program that
    /// [retains batches](crate::StreamingConf::retain_batches). This is for streams that other outputs take: of those only the
    /// number of elements is compared.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// # run([vec![1, 2]], |numbers| {
    /// numbers.foreach_rdd(|rdd, time| println!("{time}: {:?}", rdd.collect()));
    /// numbers.digested().uid("numbers");
    /// # });
    /// ```
    ///
    /// # Cost
    ///
    /// The elements are made once more, unless they are kept ([`cache`](Self::cache)), and encoded.
    #[track_caller]
    pub fn digested(&self) -> Output {
        let look = (digested::<T> as fn(&Rdd<T>) -> Result<Look>, WantsDigest::Always);
        self.output(CallSite::here("digested"), OutputKind::Plain { has_key: false }, look, |_, _| Ok(()))
    }

    /// Shows the first ten elements of each batch on the standard output.
    ///
    /// # Example
    ///
    /// ```text
    /// -------------------------------------------
    /// Time: 1732166400000 ms
    /// -------------------------------------------
    /// (to,2)
    /// (be,2)
    ///
    /// ```
    ///
    /// # Spark
    ///
    /// `DStream.print`, DS20, in the same form (S-105).
    #[track_caller]
    pub fn print(&self) -> Output {
        self.print_at(10, CallSite::here("print"))
    }

    /// As [`print`](Self::print), with the first `n` elements.
    ///
    /// # Spark
    ///
    /// `DStream.print(num)`, DS21.
    #[track_caller]
    pub fn print_first(&self, n: usize) -> Output {
        self.print_at(n, CallSite::here("print_first"))
    }

    fn print_at(&self, n: usize, site: CallSite) -> Output {
        // Its actions are laid at the program's line, and not at ours.
        let output = self.output(site, OutputKind::Plain { has_key: false }, digesting(), move |rdd, batch| {
            CallSite::scope(Some(site), || {
                let items = rdd.take(n.saturating_add(1))?;
                write_out(&printed(&items, n, batch.time())?)
            })
        });
        output.only_shows(site)
    }

    /// Writes each batch as text files into a folder of its own, `prefix-MILLISECONDS.suffix`.
    ///
    /// An element is a line, in the form in which [`print`](Self::print) shows it. An empty prefix or suffix is left out.
    ///
    /// The folder appears in one step, when all of it is there: nobody sees a half of one, not even after a crash. With a
    /// checkpoint directory it is durable before the batch ends, and a batch that runs again leaves what it has published:
    /// each is there exactly once. A folder of anything else is written over (S-109).
    ///
    /// # Errors
    ///
    /// A folder or file that cannot be written fails the batch.
    ///
    /// # Spark
    ///
    /// `DStream.saveAsTextFiles`, DS30.
    #[track_caller]
    pub fn save_as_text_files(&self, prefix: impl Into<String>, suffix: impl Into<String>) -> Output {
        let site = CallSite::here("save_as_text_files");
        self.output_files(site, digesting(), prefix.into(), suffix.into(), |rdd, folder| rdd.save_as_text_file(folder))
    }

    /// Writes each batch, in millstream's own encoding, into a folder of its own, `prefix-MILLISECONDS.suffix`.
    ///
    /// [`Context::object_file`](millstream_core::Context::object_file) reads it. The folder appears in one step, exactly once,
    /// as that of [`save_as_text_files`](Self::save_as_text_files).
    ///
    /// # Errors
    ///
    /// A folder or file that cannot be written fails the batch.
    ///
    /// # Spark
    ///
    /// `DStream.saveAsObjectFiles`, DS31; the encoding is ours.
    #[track_caller]
    pub fn save_as_object_files(&self, prefix: impl Into<String>, suffix: impl Into<String>) -> Output {
        let site = CallSite::here("save_as_object_files");
        self.output_files(site, digesting(), prefix.into(), suffix.into(), |rdd, folder| {
            rdd.save_as_object_file(folder)
        })
    }
}

impl<T: Data> DStream<T> {
    /// Writes each batch as `writer` says into a folder of its own, `prefix-MILLISECONDS.suffix`: a file a partition,
    /// and `_SUCCESS` at the end.
    ///
    /// The folder appears in one step, exactly once, as that of [`save_as_text_files`](Self::save_as_text_files). An empty
    /// prefix or suffix is left out.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_testkit::doc::*;
    /// # let folder = tempfile::tempdir().expect("a folder");
    /// # let prefix = folder.path().join("words").to_str().expect("a text").to_owned();
    /// use millstream_core::Csv;
    ///
    /// # run([vec![1, 2]], |numbers| {
    /// numbers.map(|n| (n, n * n)).save_with_files(&prefix, "", Csv::new());
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// A folder or file that cannot be written, or what the writer fails with, fails the batch.
    ///
    /// # Spark
    ///
    /// In the place of `DStream.saveAsHadoopFiles` and `saveAsNewAPIHadoopFiles`, PD20, PD21; names as S-107 says.
    #[track_caller]
    pub fn save_with_files<W: RecordWriter<T>>(
        &self,
        prefix: impl Into<String>,
        suffix: impl Into<String>,
        writer: W,
    ) -> Output {
        let site = CallSite::here("save_with_files");
        let save = move |rdd: &Rdd<T>, folder: &Path| rdd.save_with(folder, writer.clone());
        self.output_files(site, counting(), prefix.into(), suffix.into(), save)
    }
}

/// Writes a whole batch at once, so that batches and other output do not mix.
fn write_out(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::io(ErrorKind::Unavailable, "the standard output could not be written", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s107_folders_are_named_by_prefix_time_and_suffix() {
        let time = Time::from_millis(12_345_678_910);
        for (prefix, suffix, want) in [
            ("spark", "", "spark-12345678910"),
            ("spark", "tmp", "spark-12345678910.tmp"),
            ("", "", "12345678910"),
            ("", "tmp", "12345678910.tmp"),
        ] {
            assert_eq!(folder_name(prefix, time, suffix), PathBuf::from(want));
        }
    }

    #[test]
    fn s105_print_shows_a_batch_in_sparks_exact_form() {
        let time = Time::from_millis(1000);
        let line = "-".repeat(43);
        let few = printed(&[("a", 1), ("b", 2)].map(|(k, v)| (k.to_owned(), v)), 10, time).unwrap();
        assert_eq!(few, format!("{line}\nTime: 1000 ms\n{line}\n(a,1)\n(b,2)\n\n"));
        let many = printed(&[1, 2, 3], 2, time).unwrap();
        assert_eq!(many, format!("{line}\nTime: 1000 ms\n{line}\n1\n2\n...\n\n"));
        let none = printed::<u8>(&[], 10, time).unwrap();
        assert_eq!(none, format!("{line}\nTime: 1000 ms\n{line}\n\n"));
    }
}
