//! Folders in which files appear: a batch is the files that appeared since the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use millstream_core::{CallSite, Context, Data, Digest, Error, ErrorKind, Rdd, Result, Text, Time, as_millis, millis};

use super::{InputSource, Rate};
use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::listener::InputInfo;

/// Which files a stream takes.
///
/// # Example
///
/// ```
/// use millstream_streaming::FileFilter;
///
/// let csv = FileFilter::new(|path| path.extension().is_some_and(|e| e == "csv")).with_existing_files();
/// # let _ = csv;
/// ```
#[derive(Clone)]
pub struct FileFilter {
    accept: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    new_files_only: bool,
}

impl FileFilter {
    /// Takes the files for which `accept` holds, if they appear after the stream is made.
    pub fn new(accept: impl Fn(&Path) -> bool + Send + Sync + 'static) -> FileFilter {
        FileFilter { accept: Arc::new(accept), new_files_only: true }
    }

    /// Takes also files that are there already, if they are not older than the stream remembers (S-90).
    #[must_use]
    pub fn with_existing_files(self) -> FileFilter {
        FileFilter { new_files_only: false, ..self }
    }
}

impl Default for FileFilter {
    /// Takes files whose names begin with neither `.` nor `_`.
    fn default() -> FileFilter {
        FileFilter::new(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with(['.', '_'])))
    }
}

impl fmt::Debug for FileFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.new_files_only { "FileFilter(new files)" } else { "FileFilter(also existing files)" })
    }
}

/// Makes an Rdd of files.
pub(crate) trait ReadFiles: Send + 'static {
    type Item: Data;
    fn read(&self, context: &Context, files: &[PathBuf]) -> Rdd<Self::Item>;
}

/// Files of lines.
pub(crate) struct TextFiles;

impl ReadFiles for TextFiles {
    type Item = Text;

    fn read(&self, context: &Context, files: &[PathBuf]) -> Rdd<Text> {
        context.found_text_files(files)
    }
}

/// Files of records of one length.
pub(crate) struct BinaryRecordFiles(pub(crate) usize);

impl ReadFiles for BinaryRecordFiles {
    type Item = Vec<u8>;

    fn read(&self, context: &Context, files: &[PathBuf]) -> Rdd<Vec<u8>> {
        context.found_binary_records(files, self.0)
    }
}

struct ReadWith<F>(F);

impl<T: Data, F: Fn(&Context, &[PathBuf]) -> Rdd<T> + Send + 'static> ReadFiles for ReadWith<F> {
    type Item = T;

    fn read(&self, context: &Context, files: &[PathBuf]) -> Rdd<T> {
        // The closure is the program's own: its lines are to be named.
        CallSite::scope(None, || (self.0)(context, files))
    }
}

/// One file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    path: PathBuf,
    modified: Time,
}

/// Which files belong to a batch. Pure.
#[derive(Debug)]
struct Selection {
    /// Files not modified after this are never taken.
    initial: Time,
    /// How far back a file's time may lie.
    memory: Duration,
    /// What recent batches were given.
    given: BTreeMap<Time, Vec<PathBuf>>,
    /// Where the last batch lies before its time, if a run before this one had it: files of the time in between are not lost.
    slide: Duration,
}

impl Selection {
    fn new(initial: Time, slide: Duration, least: Duration) -> Selection {
        let (least, slide) = (as_millis(least), as_millis(slide).max(1));
        let slides = least / slide + i64::from(least % slide > 0);
        let memory = millis(slides.max(1).saturating_mul(slide).unsigned_abs());
        Selection { initial, memory, given: BTreeMap::new(), slide: millis(slide.unsigned_abs()) }
    }

    /// Chooses the files of batch `t` among those found (S-89, S-91, S-92).
    fn choose(&mut self, t: Time, found: Vec<Found>) -> Vec<PathBuf> {
        // After batches that were left out, files may be as old as if there had been one each time.
        let since = self.given.last_key_value().map_or(t, |(last, _)| t.min(*last + self.slide)) - self.memory;
        // One batch more than the files' times reach (S-23).
        self.given = self.given.split_off(&since);
        let threshold = self.initial.max(since);
        let known: BTreeSet<&PathBuf> = self.given.values().flatten().collect();
        let mut files: Vec<PathBuf> = found
            .into_iter()
            .filter(|file| file.modified > threshold && file.modified <= t && !known.contains(&file.path))
            .map(|file| file.path)
            .collect();
        files.sort();
        files.dedup();
        self.given.insert(t, files.clone());
        files
    }
}

/// The files of a batch.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Given {
    /// Files not modified after this are never taken.
    initial: Time,
    files: Vec<PathBuf>,
}

/// Gives the files that appear in folders. Spark's `FileInputDStream`, IN06.
pub(crate) struct FileSource<R> {
    folders: String,
    filter: FileFilter,
    reader: R,
    selection: Option<Selection>,
    made: Time,
    interval: Duration,
    least: Duration,
}

impl<R: ReadFiles> InputSource for FileSource<R> {
    type Item = R::Item;
    type Allocation = Given;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<Given> {
        let found = list(&self.folders, &self.filter);
        let initial = if self.filter.new_files_only { self.made } else { Time::ZERO };
        let (interval, least) = (self.interval, self.least);
        let selection = self.selection.get_or_insert_with(|| Selection::new(initial, interval, least));
        Ok(Given { initial: selection.initial, files: selection.choose(batch, found) })
    }

    fn restore(&mut self, given: &[(Time, Given)]) -> Result<()> {
        if let Some((_, last)) = given.last() {
            // What was too old for the first run is too old for this one.
            let mut selection = Selection::new(last.initial, self.interval, self.least);
            selection.given = given.iter().map(|(batch, given)| (*batch, given.files.clone())).collect();
            self.selection = Some(selection);
        }
        Ok(())
    }

    fn memory(&self) -> Duration {
        self.least + self.interval
    }

    fn rdd(&self, given: &Given, context: &Context) -> Result<Option<Rdd<R::Item>>> {
        Ok(Some(self.reader.read(context, &given.files)))
    }

    fn notices_change(&self) -> bool {
        true
    }

    /// By name, length and time of change: their bytes are not read.
    fn digest(&self, given: &Given) -> Result<Option<Digest>> {
        let mut digest = Digest::default();
        for path in &given.files {
            let about = std::fs::metadata(path).map_err(|error| {
                Error::io(ErrorKind::Data, format!("the file {}, which was given to a batch", path.display()), error)
            })?;
            let modified = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            let mut bytes = path.as_os_str().as_encoded_bytes().to_vec();
            bytes.extend_from_slice(&about.len().to_le_bytes());
            bytes.extend_from_slice(&modified.as_nanos().to_le_bytes());
            digest.add(&bytes);
        }
        Ok(Some(digest))
    }

    fn describe(&self, given: &Given) -> InputInfo {
        let names: Vec<_> = given.files.iter().map(|path| path.display().to_string()).collect();
        let names = names.join("\n");
        let metadata = [("files".to_owned(), names.clone()), ("Description".to_owned(), names)];
        InputInfo { metadata: metadata.into(), ..InputInfo::default() }
    }
}

/// Says what cannot be listed, and goes on without it.
fn readable<T, E: fmt::Display>(entry: Result<T, E>, within: &Path) -> Option<T> {
    entry.inspect_err(|error| tracing::warn!(folder = %within.display(), %error, "an entry cannot be read")).ok()
}

/// Finds all files in the folders that `pattern` names. What cannot be read is left for the next batch (S-96).
fn list(pattern: &str, filter: &FileFilter) -> Vec<Found> {
    let folders = match glob::glob(pattern) {
        Ok(paths) => paths,
        Err(error) => {
            tracing::warn!(pattern, %error, "this is no pattern of folders");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    let mut any = false;
    for folder in folders.filter_map(|folder| readable(folder, Path::new(pattern))).filter(|path| path.is_dir()) {
        any = true;
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "the folder cannot be read");
                continue;
            }
        };
        for path in entries.filter_map(|entry| readable(entry, &folder)).map(|entry| entry.path()) {
            if !(filter.accept)(&path) {
                continue;
            }
            let modified = std::fs::metadata(&path).and_then(|about| about.modified());
            match modified {
                Ok(modified) => {
                    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                    found.push(Found { path, modified: Time::from_millis(as_millis(since)) });
                }
                Err(error) => tracing::warn!(file = %path.display(), %error, "the file's time cannot be read"),
            }
        }
    }
    if !any {
        tracing::warn!(pattern, "there is no such folder; it is looked for again with the next batch");
    }
    found
}

impl StreamingContext {
    fn files<R: ReadFiles>(&self, folders: &Path, filter: FileFilter, reader: R, site: CallSite) -> DStream<R::Item> {
        let folders = folders.to_string_lossy().into_owned();
        let mistake = glob::Pattern::new(&folders).err();
        let pattern = folders.clone();
        let source = FileSource {
            folders,
            filter,
            reader,
            selection: None,
            made: self.context().clock().now(),
            interval: self.interval(),
            least: self.conf().file_min_remember,
        };
        let stream = self.input_at(source, site);
        if let Some(mistake) = mistake {
            let text = format!("`{pattern}` is no pattern of folders: {mistake}");
            stream.graph().fault(Error::new(ErrorKind::Graph, text).at(site));
        }
        stream
    }

    /// Makes a stream of the lines of files that appear in a folder.
    ///
    /// A file is taken by the batch whose time is not before the file's, once. Move files in, whole: what is written
    /// to a file after it was taken is not seen. `folder` may be a pattern (`logs/*`), for several folders. Names that
    /// begin with `.` or `_` are left out. A folder that is missing gives empty batches until it is there.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::{Result, secs};
    /// # use millstream_streaming::StreamingContext;
    /// # fn main() -> Result<()> {
    /// let ssc = StreamingContext::new("local[2]", "logs", secs(2))?;
    /// ssc.text_file_stream("/var/log/incoming").count().print();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or vanished after it was found, fails the batch.
    ///
    /// # Spark
    ///
    /// `StreamingContext.textFileStream`, SC14.
    #[track_caller]
    pub fn text_file_stream(&self, folder: impl AsRef<Path>) -> DStream<Text> {
        self.files(folder.as_ref(), FileFilter::default(), TextFiles, CallSite::here("text_file_stream"))
    }

    /// Makes a stream of the files that appear in a folder and that `filter` takes, read by `read`.
    ///
    /// `read` makes one Rdd of all files of a batch; there may be none.
    ///
    /// # Spark
    ///
    /// `StreamingContext.fileStream`, SC13; `read` stands for the input format.
    #[track_caller]
    pub fn file_stream<T: Data>(
        &self,
        folder: impl AsRef<Path>,
        filter: FileFilter,
        read: impl Fn(&Context, &[PathBuf]) -> Rdd<T> + Send + 'static,
    ) -> DStream<T> {
        self.files(folder.as_ref(), filter, ReadWith(read), CallSite::here("file_stream"))
    }

    /// Makes a stream of files that appear in a folder, cut into records of `length` bytes.
    ///
    /// # Errors
    ///
    /// `start()` reports a length of 0. A file that is not whole records fails the batch.
    ///
    /// # Spark
    ///
    /// `StreamingContext.binaryRecordsStream`, SC15.
    #[track_caller]
    pub fn binary_records_stream(&self, folder: impl AsRef<Path>, length: usize) -> DStream<Vec<u8>> {
        let site = CallSite::here("binary_records_stream");
        let stream = self.files(folder.as_ref(), FileFilter::default(), BinaryRecordFiles(length), site);
        if length == 0 {
            let error = Error::new(ErrorKind::Graph, "a record's length must be at least 1 byte");
            stream.graph().fault(error.at(site));
        }
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    fn at(s: i64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn found(files: &[(&str, i64)]) -> Vec<Found> {
        files.iter().map(|(name, s)| Found { path: PathBuf::from(name), modified: at(*s) }).collect()
    }

    fn names(files: Vec<PathBuf>) -> Vec<String> {
        files.into_iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn s89_a_file_belongs_to_the_first_batch_that_is_not_before_it_once() {
        let mut selection = Selection::new(at(0), secs(1), secs(60));
        assert_eq!(names(selection.choose(at(1), found(&[("a", 1), ("b", 2)]))), ["a"]);
        assert_eq!(names(selection.choose(at(2), found(&[("a", 1), ("b", 2)]))), ["b"]);
        assert_eq!(
            names(selection.choose(at(3), found(&[("a", 3), ("b", 2)]))),
            [""; 0],
            "S-92: later changes are not seen"
        );
    }

    #[test]
    fn s91_a_time_equal_to_the_threshold_is_rejected() {
        let mut selection = Selection::new(at(5), secs(1), secs(60));
        assert_eq!(names(selection.choose(at(6), found(&[("old", 4), ("equal", 5), ("new", 6)]))), ["new"]);
    }

    #[test]
    fn s90_files_older_than_the_memory_are_not_taken_and_s92_are_taken_again_when_renewed() {
        let mut selection = Selection::new(at(0), secs(1), secs(3));
        assert_eq!(names(selection.choose(at(10), found(&[("a", 7), ("b", 8)]))), ["b"]);
        assert_eq!(names(selection.choose(at(13), found(&[("b", 13)]))), [""; 0]);
        assert_eq!(names(selection.choose(at(14), found(&[("b", 14)]))), ["b"]);
    }

    #[test]
    fn the_memory_is_whole_slides() {
        assert_eq!(Selection::new(at(0), secs(7), secs(60)).memory, secs(63));
        assert_eq!(Selection::new(at(0), secs(120), secs(60)).memory, secs(120));
        assert_eq!(Selection::new(at(0), secs(7), secs(0)).memory, secs(7));
        assert_eq!(Selection::new(at(0), millis(1), Duration::MAX).memory, millis(i64::MAX as u64), "for ever");
    }
}
