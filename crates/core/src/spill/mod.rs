//! What does not fit in memory: values on disk in pieces, written one behind the other and read back as a stream.
//!
//! ```text
//! SpillDir ─► SpillFile, one a writer ─► Piece: some encoded values ─► Run: pieces in order, read by a RunReader
//! ```
//!
//! A file is removed when nobody names it any more, and its folder with the engine.

pub(crate) mod merge;
mod meter;
pub(crate) mod size;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use self::meter::Meter;
use crate::codec;
use crate::data::ExchangeData;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::threads::lock;

/// A folder of files that nobody needs after the engine. It is made with its first file.
#[derive(Debug)]
pub struct SpillDir {
    folder: PathBuf,
    next: AtomicU64,
}

impl SpillDir {
    /// Makes files in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Arc<SpillDir> {
        Arc::new(SpillDir { folder: folder.into(), next: AtomicU64::new(0) })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins a file whose name begins with `name`.
    pub(crate) fn create(self: &Arc<Self>, name: &str) -> Result<SpillWriter> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{name}-{number}"));
        let open = || {
            fs::create_dir_all(&self.folder)?;
            OpenOptions::new().write(true).create_new(true).open(&path)
        };
        let handle = open().map_err(|error| not_written(&path, error))?;
        let file = Arc::new(SpillFile { path, _dir: Arc::clone(self) });
        Ok(SpillWriter { file, handle, at: 0, of_task: true })
    }
}

impl Drop for SpillDir {
    fn drop(&mut self) {
        // Only if nobody else put something there.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn not_written(path: &Path, error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, format_args!("data could not be written to {}", path.display()), error)
}

fn not_read(path: &Path, error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, format_args!("data could not be read from {}", path.display()), error)
}

/// A file of pieces.
#[derive(Debug)]
pub(crate) struct SpillFile {
    path: PathBuf,
    _dir: Arc<SpillDir>,
}

impl SpillFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file to be read.
    pub(crate) fn open(self: &Arc<Self>) -> Result<OpenFile> {
        let handle = File::open(&self.path).map_err(|error| not_read(&self.path, error))?;
        Ok(OpenFile { file: Arc::clone(self), handle: Arc::new(Mutex::new(handle)) })
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Where some encoded values stand in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    at: u64,
    len: u64,
}

/// Writes pieces, one behind the other.
pub(crate) struct SpillWriter {
    file: Arc<SpillFile>,
    handle: File,
    at: u64,
    /// Whether the task that runs on this thread writes for itself.
    of_task: bool,
}

impl SpillWriter {
    /// Writes what others hold: it is not what the task had no memory for.
    pub(crate) fn for_others(self) -> SpillWriter {
        SpillWriter { of_task: false, ..self }
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<Piece> {
        self.handle.write_all(bytes).map_err(|error| not_written(&self.file.path, error))?;
        let piece = Piece { at: self.at, len: bytes.len() as u64 };
        self.at += piece.len;
        if self.of_task {
            TaskContext::tally_here(|tally| tally.spilled(piece.len));
        }
        Ok(piece)
    }

    /// Ends the file and returns it.
    pub(crate) fn finish(self) -> Arc<SpillFile> {
        self.file
    }
}

/// A file that is read by several readers in turn.
#[derive(Clone)]
pub(crate) struct OpenFile {
    file: Arc<SpillFile>,
    handle: Arc<Mutex<File>>,
}

impl OpenFile {
    fn read(&self, piece: Piece, bytes: &mut Vec<u8>) -> Result<()> {
        let mut handle = lock(&self.handle);
        let mut read = || {
            handle.seek(SeekFrom::Start(piece.at))?;
            bytes.clear();
            bytes.resize(piece.len as usize, 0);
            handle.read_exact(bytes)
        };
        read().map_err(|error| not_read(&self.file.path, error))
    }
}

/// Values on disk, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) items: usize,
}

impl Run {
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len).sum()
    }
}

/// Encodes values of one run, and writes a piece when there is enough.
#[derive(Debug, Default)]
pub(crate) struct RunWriter {
    bytes: Vec<u8>,
    run: Run,
}

impl RunWriter {
    pub(crate) fn push<T: serde::Serialize + ?Sized>(
        &mut self,
        item: &T,
        piece: usize,
        writer: &mut SpillWriter,
    ) -> Result<()> {
        self.bytes = codec::encode_onto(item, std::mem::take(&mut self.bytes))?;
        self.run.items += 1;
        if self.bytes.len() >= piece { self.flush(writer) } else { Ok(()) }
    }

    /// Adds values that are encoded already.
    pub(crate) fn encoded(&mut self, items: usize, bytes: &[u8], writer: &mut SpillWriter) -> Result<()> {
        self.flush(writer)?;
        self.run.items += items;
        self.run.pieces.push(writer.append(bytes)?);
        Ok(())
    }

    /// Writes what has been encoded.
    pub(crate) fn flush(&mut self, writer: &mut SpillWriter) -> Result<()> {
        if !self.bytes.is_empty() {
            self.run.pieces.push(writer.append(&self.bytes)?);
            self.bytes.clear();
        }
        Ok(())
    }

    pub(crate) fn finish(mut self, writer: &mut SpillWriter) -> Result<Run> {
        self.flush(writer)?;
        Ok(self.run)
    }
}

/// Reads the values of a run, a piece at a time.
pub(crate) struct RunReader<T> {
    file: OpenFile,
    pieces: std::vec::IntoIter<Piece>,
    bytes: Vec<u8>,
    at: usize,
    /// How many values are left: those without any bytes cannot be counted by their bytes.
    left: usize,
    items: PhantomData<fn() -> T>,
}

impl<T: serde::de::DeserializeOwned> RunReader<T> {
    pub(crate) fn new(file: &OpenFile, run: Run) -> RunReader<T> {
        RunReader {
            file: file.clone(),
            pieces: run.pieces.into_iter(),
            bytes: Vec::new(),
            at: 0,
            left: run.items,
            items: PhantomData,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<T>> {
        if self.left == 0 {
            self.bytes = Vec::new();
            return Ok(None);
        }
        if self.at == self.bytes.len()
            && let Some(piece) = self.pieces.next()
        {
            self.at = 0;
            self.file.read(piece, &mut self.bytes)?;
        }
        let (value, rest) = codec::decode_from::<T>(&self.bytes[self.at..])?;
        self.at = self.bytes.len() - rest.len();
        self.left -= 1;
        Ok(Some(value))
    }
}

/// A block on disk.
#[derive(Clone)]
pub struct FileBlock {
    file: Arc<SpillFile>,
    run: Arc<Run>,
    codec: codec::TypeCodec,
}

impl FileBlock {
    pub(crate) fn new(file: &Arc<SpillFile>, run: Run, codec: codec::TypeCodec) -> FileBlock {
        FileBlock { file: Arc::clone(file), run: Arc::new(run), codec }
    }

    /// Returns how many elements there are.
    pub fn items(&self) -> usize {
        self.run.items
    }

    /// Returns how many bytes it takes on disk.
    pub fn disk(&self) -> u64 {
        self.run.bytes()
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns how a `Vec` of the elements is written and read.
    pub fn codec(&self) -> codec::TypeCodec {
        self.codec
    }

    /// Reads all of it as the bytes of a `Vec` of its elements.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the file cannot be read.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let (file, mut bytes, mut piece_bytes) = (self.file.open()?, codec::encode(&self.run.items)?, Vec::new());
        for piece in &self.run.pieces {
            file.read(*piece, &mut piece_bytes)?;
            bytes.extend_from_slice(&piece_bytes);
        }
        Ok(bytes)
    }

    pub(crate) fn reader<T: ExchangeData>(&self) -> Result<RunReader<T>> {
        Ok(RunReader::new(&self.file.open()?, Run::clone(&self.run)))
    }
}

impl fmt::Debug for FileBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileBlock({} items in {})", self.run.items, self.file.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_order_and_files_go_with_their_last_reader() {
        let folder = tempfile::tempdir().unwrap();
        let dir = SpillDir::new(folder.path().join("spill"));
        assert!(!dir.folder().exists(), "made with the first file");
        let mut writer = dir.create("numbers").unwrap();
        let (mut even, mut nothing) = (RunWriter::default(), RunWriter::default());
        for i in 0..1000u64 {
            even.push(&(i * 2), 100, &mut writer).unwrap();
            nothing.push(&(), 100, &mut writer).unwrap();
        }
        let (even, nothing) = (even.finish(&mut writer).unwrap(), nothing.finish(&mut writer).unwrap());
        assert!(even.pieces.len() > 10 && nothing.bytes() == 0);
        let open = writer.finish().open().unwrap();
        let mut reader = RunReader::<u64>::new(&open, even);
        let read: Vec<u64> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        assert_eq!(read, (0..1000).map(|i| i * 2).collect::<Vec<_>>());
        drop(reader);
        let mut reader = RunReader::<()>::new(&open, nothing);
        assert_eq!(std::iter::from_fn(|| reader.next().unwrap()).count(), 1000);
        assert_eq!(fs::read_dir(dir.folder()).unwrap().count(), 1);
        drop(open);
        assert_eq!(fs::read_dir(dir.folder()).unwrap().count(), 1, "somebody still reads");
        drop(reader);
        assert_eq!(fs::read_dir(dir.folder()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_unavailable_and_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let dir = SpillDir::new(folder.path());
        let handle = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let file = Arc::new(SpillFile { path: dir.folder().join("rows-7"), _dir: Arc::clone(&dir) });
        let mut writer = SpillWriter { file, handle, at: 0, of_task: false };
        let mut run = RunWriter::default();
        let error = (0..).find_map(|i: u64| run.push(&i, 100, &mut writer).err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("rows-7"), "{error}");
    }
}
