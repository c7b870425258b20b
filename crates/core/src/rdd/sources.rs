//! Where Rdds begin: values of the program, kept blocks, text files, object files, and errors kept for later.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Rdd;
use super::gzip::{GzipLines, is_gzip};
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened};
use super::output::OBJECT_MAGIC;
use super::paths::list_files;
use super::pipeline::{CHUNK, PartitionReader};
use super::reader::{OwnedReader, SharedReader};
use crate::codec;
use crate::context::Context;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::MAX_PARTITIONS;
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};
use crate::storage::{BlockId, StorageLevel};
use crate::text::{Lines, Text, TextBlock};

pub(super) fn source<T: 'static>(
    context: &Context,
    compute: impl Compute,
    partitions: usize,
    site: CallSite,
) -> Rdd<T> {
    Rdd::from_node(
        Node::new::<T>(NodeParts { site, parents: Vec::new(), partitions, partitioner: None, compute }),
        context,
    )
}

// --------------------------------------------------------------------------------------- values of the program

/// Values that the program gave, a vector a partition. Elsewhere only those that are read there.
pub(crate) struct Values<T> {
    partitions: Vec<Option<Arc<Vec<T>>>>,
}

pub(crate) fn values<T: ExchangeData>(context: &Context, partitions: Vec<Vec<T>>, site: CallSite) -> Rdd<T> {
    let count = partitions.len();
    source(
        context,
        Values { partitions: partitions.into_iter().map(|values| Some(Arc::new(values))).collect() },
        count,
        site,
    )
}

/// Cuts values into `n` partitions, the i-th from `i·len/n` to `(i+1)·len/n` (CX02).
pub(crate) fn slices<T>(mut values: Vec<T>, n: usize) -> Vec<Vec<T>> {
    let (n, len) = (n.max(1), values.len());
    let mut parts: Vec<Vec<T>> = (1..n).rev().map(|i| values.split_off(i * len / n)).collect();
    parts.push(values);
    parts.reverse();
    parts
}

impl<T: ExchangeData> Compute for Values<T> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(values) = self.partitions.get(p).and_then(Option::as_ref) else {
            return Err(crate::bug!("there is no partition {p} of the given values"));
        };
        Ok(Opened::Source(Box::new(SharedReader::new(Arc::clone(values)))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Values::<T> { partitions: r.value()? });
            Ok(Box::new(compute))
        });
        let wanted = |(p, values): (usize, &Option<Arc<Vec<T>>>)| values.clone().filter(|_| w.wants(p));
        let partitions: Vec<_> = self.partitions.iter().enumerate().map(wanted).collect();
        w.value(&partitions)
    }

    fn is_given(&self) -> bool {
        true
    }
}

// ------------------------------------------------------------------------------------------------ kept blocks

/// Blocks that are kept in the block store, one a partition.
pub(crate) struct Blocks<T> {
    ids: Vec<BlockId>,
    of: PhantomData<fn() -> T>,
}

/// Makes an Rdd of blocks that are kept in the block store, one a partition.
pub(crate) fn blocks<T: ExchangeData>(context: &Context, ids: Vec<BlockId>, site: CallSite) -> Rdd<T> {
    let count = ids.len();
    source(context, Blocks::<T> { ids, of: PhantomData }, count, site)
}

impl<T: ExchangeData> Compute for Blocks<T> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let Some(id) = self.ids.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the kept blocks"));
        };
        let Some(values) = task.env().values_of::<T>(*id)? else {
            return Err(Error::new(
                ErrorKind::Data,
                format!("could not compute split, block {id} not found: it was lost, and nothing can make it again"),
            ));
        };
        Ok(Opened::Source(Box::new(SharedReader::new(values))))
    }

    fn received(&self, p: usize) -> Option<BlockId> {
        self.ids.get(p).copied()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(Blocks::<T> { ids: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.ids)
    }
}

// ------------------------------------------------------------------------------------------------------ errors

/// An error that is reported when the Rdd is first used.
struct Failed(Error);

impl<T: Data> Rdd<T> {
    /// Makes an Rdd that fails with `error` when it is used.
    pub(crate) fn failed(error: Error, context: &Context) -> Rdd<T> {
        let site = error.site().unwrap_or_else(|| CallSite::here("failed"));
        source(context, Failed(error), 1, site)
    }
}

impl Compute for Failed {
    fn open<'a>(&'a self, _: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Err(self.0.clone())
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Err(self.0.clone())
    }
}

// -------------------------------------------------------------------------------------------------- text files

/// How much of a file is read at a time. Lines share the block they came with.
const READ: usize = 1 << 20;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct FilePart {
    path: PathBuf,
    start: u64,
    end: u64,
}

struct TextParts {
    parts: Vec<FilePart>,
}

/// Says which files a path means, and how long they are.
pub(crate) type List = fn(&Path, &mut Vec<(PathBuf, u64)>) -> Result<()>;

/// Makes an Rdd of the lines of files, in at least `partitions` parts if they are long enough.
pub(crate) fn text_files(
    context: &Context,
    paths: &[PathBuf],
    partitions: usize,
    list: List,
    site: CallSite,
) -> Rdd<Text> {
    match file_parts(paths, partitions, list) {
        Ok(parts) => {
            let count = parts.len();
            source(context, TextParts { parts }, count, site)
        }
        Err(error) => Rdd::failed(error.at(site), context),
    }
}

fn file_parts(paths: &[PathBuf], partitions: usize, list: List) -> Result<Vec<FilePart>> {
    let mut files = Vec::new();
    for path in paths {
        list(path, &mut files)?;
    }
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let step = total.div_ceil(partitions.clamp(1, MAX_PARTITIONS) as u64).max(1);
    let mut parts = Vec::new();
    for (path, len) in files {
        // What is compressed can only be read from its beginning.
        let count = if is_gzip(&path) { 1 } else { len.div_ceil(step).max(1) };
        let cut = |i: u64| i * len / count;
        parts.extend((0..count).map(|i| FilePart { path: path.clone(), start: cut(i), end: cut(i + 1) }));
    }
    Ok(parts)
}

impl Compute for TextParts {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(part) = self.parts.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the text files"));
        };
        Ok(Opened::Source(if is_gzip(&part.path) {
            Box::new(GzipLines::open(&part.path)?)
        } else {
            let file = fs::File::open(&part.path).map_err(|e| unreadable(part, e))?;
            Box::new(LinesReader::open(part, file)?)
        }))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(TextParts { parts: r.value()? });
            Ok(Box::new(compute))
        });
        w.value(&self.parts)
    }
}

/// Reads the lines that begin inside a part of a file, a block at a time.
struct LinesReader<F> {
    part: FilePart,
    file: F,
    /// Where the next byte that is read stands in the file.
    at: u64,
    /// Bytes of a line that was cut by the end of a block.
    rest: Vec<u8>,
    lines: Option<Lines>,
    ended: bool,
}

fn unreadable(part: &FilePart, error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, format!("file {} cannot be read", part.path.display()), error)
}

impl<F: Read + Seek> LinesReader<F> {
    fn open(part: &FilePart, mut file: F) -> Result<LinesReader<F>> {
        let mut reader = LinesReader {
            // A line belongs to the part in which it begins: skip the end of one that began before.
            at: part.start.saturating_sub(1),
            part: part.clone(),
            rest: Vec::new(),
            lines: None,
            ended: part.start == part.end,
            file: {
                if part.start > 0 {
                    file.seek(SeekFrom::Start(part.start - 1)).map_err(|e| unreadable(part, e))?;
                }
                file
            },
        };
        if part.start > 0 && !reader.ended {
            reader.skip_line()?;
        }
        Ok(reader)
    }

    fn fill(&mut self, want: usize) -> Result<usize> {
        let got = (&mut self.file).take(want as u64).read_to_end(&mut self.rest).map_err(|e| self.failed(e))?;
        self.at += got as u64;
        Ok(got)
    }

    fn failed(&self, error: std::io::Error) -> Error {
        unreadable(&self.part, error)
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let got = self.fill(READ.min(1 << 16))?;
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                if self.at - (self.rest.len() - end) as u64 + 1 >= self.part.end {
                    self.ended = true;
                }
                // Back to where the next line begins: what was read too much may belong to the next part.
                self.at -= (self.rest.len() - end) as u64 - 1;
                self.file.seek(SeekFrom::Start(self.at)).map_err(|e| self.failed(e))?;
                self.rest.clear();
                return Ok(());
            }
            self.rest.clear();
            if got == 0 || self.at >= self.part.end {
                self.ended = true;
                return Ok(());
            }
        }
    }

    /// Reads the next block of whole lines.
    fn next_lines(&mut self) -> Result<Option<Lines>> {
        while !self.ended {
            // Up to the end of the part, and from there only as far as the line goes. What has been read before has
            // no end of a line in it.
            let (left, before) = (self.part.end.saturating_sub(self.at), self.rest.len());
            let want = if left > 0 { left.min(READ as u64) as usize } else { before.clamp(4096, READ) };
            let got = self.fill(want)?;
            let whole = if got == 0 {
                self.ended = true;
                self.rest.len()
            } else if self.at >= self.part.end {
                // The line that holds the part's last byte is the last one.
                let last_byte = self.rest.len() - (self.at - self.part.end) as usize;
                let from = last_byte.saturating_sub(1).max(before);
                match memchr::memchr(b'\n', &self.rest[from..]) {
                    Some(end) => {
                        self.ended = true;
                        from + end + 1
                    }
                    None => 0,
                }
            } else {
                memchr::memrchr(b'\n', &self.rest[before..]).map_or(0, |end| before + end + 1)
            };
            if whole == 0 {
                continue;
            }
            let tail = if self.ended { Vec::new() } else { self.rest[whole..].to_vec() };
            let mut block = std::mem::replace(&mut self.rest, tail);
            block.truncate(whole);
            return Ok(Some(TextBlock::from_bytes(block).lines()));
        }
        Ok(None)
    }
}

impl<F: Read + Seek + Send + 'static> PartitionReader for LinesReader<F> {
    type Item = Text;

    fn read_chunk(&mut self, out: &mut Vec<Text>) -> Result<bool> {
        let before = out.len();
        loop {
            if let Some(lines) = &mut self.lines {
                out.extend(lines.take(CHUNK));
                if out.len() > before {
                    return Ok(true);
                }
            }
            self.lines = self.next_lines()?;
            if self.lines.is_none() {
                return Ok(false);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------ object files

/// Reads the lines of a part of a file that is in memory.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn lines_of(bytes: &[u8], start: u64, end: u64) -> Result<Vec<Text>> {
    let part = FilePart { path: PathBuf::from("in memory"), start, end };
    let mut reader = LinesReader::open(&part, std::io::Cursor::new(bytes.to_vec()))?;
    let mut lines = Vec::new();
    while reader.read_chunk(&mut lines)? {}
    Ok(lines)
}

struct ObjectParts<T> {
    files: Vec<PathBuf>,
    of: PhantomData<fn() -> T>,
}

/// Makes an Rdd of what `save_as_object_file` wrote, a partition a file.
pub(crate) fn object_files<T: ExchangeData>(context: &Context, path: &Path, site: CallSite) -> Rdd<T> {
    let mut files = Vec::new();
    match list_files(path, &mut files) {
        Ok(()) => {
            let files: Vec<_> = files.into_iter().map(|(path, _)| path).collect();
            let count = files.len();
            source(context, ObjectParts::<T> { files, of: PhantomData }, count, site)
        }
        Err(error) => Rdd::failed(error.at(site), context),
    }
}

/// Reads the chunks of a file of objects.
pub(crate) fn objects<T: ExchangeData>(path: &Path, bytes: &[u8]) -> Result<Vec<T>> {
    let broken = |why: &str| Error::new(ErrorKind::Data, format!("file {} {why}", path.display()));
    let mut rest = bytes.strip_prefix(OBJECT_MAGIC).ok_or_else(|| broken("is no file of objects"))?;
    let mut all: Vec<T> = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<8>() {
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let chunk = after.get(..len).ok_or_else(|| broken("ends in the middle of a chunk"))?;
        all.extend(codec::decode_list::<T>(chunk).map_err(|e| broken(&format!("is not what was expected: {e}")))?);
        rest = &after[len..];
    }
    if rest.is_empty() { Ok(all) } else { Err(broken("ends in the middle of a chunk")) }
}

impl<T: ExchangeData> Compute for ObjectParts<T> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(path) = self.files.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the object files"));
        };
        let bytes = fs::read(path)
            .map_err(|e| Error::io(ErrorKind::Unavailable, format!("file {} cannot be read", path.display()), e))?;
        let all: Vec<T> = objects(path, &bytes)?;
        Ok(Opened::Source(Box::new(OwnedReader::new(all.into_iter()))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(ObjectParts::<T> { files: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.files)
    }
}

// --------------------------------------------------------------------------------------------- binary records

struct BinaryRecords {
    files: Vec<PathBuf>,
    length: usize,
}

/// Makes an Rdd of files cut into records of `length` bytes, a partition a file.
pub(crate) fn binary_records(
    context: &Context,
    paths: &[PathBuf],
    length: usize,
    list: List,
    site: CallSite,
) -> Rdd<Vec<u8>> {
    if length == 0 {
        return Rdd::failed(Error::new(ErrorKind::Config, "a record's length must be at least 1").at(site), context);
    }
    let mut files = Vec::new();
    for path in paths {
        if let Err(error) = list(path, &mut files) {
            return Rdd::failed(error.at(site), context);
        }
    }
    let files: Vec<_> = files.into_iter().map(|(path, _)| path).collect();
    let count = files.len();
    source(context, BinaryRecords { files, length }, count, site)
}

impl Compute for BinaryRecords {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(path) = self.files.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the binary files"));
        };
        let bytes = fs::read(path)
            .map_err(|e| Error::io(ErrorKind::Unavailable, format!("file {} cannot be read", path.display()), e))?;
        if bytes.len() % self.length != 0 {
            return Err(Error::new(
                ErrorKind::Data,
                format!(
                    "file {} has {} bytes, which are not whole records of {}",
                    path.display(),
                    bytes.len(),
                    self.length
                ),
            ));
        }
        let length = self.length;
        let records = (0..bytes.len() / length).map(move |i| bytes[i * length..(i + 1) * length].to_vec());
        Ok(Opened::Source(Box::new(OwnedReader::new(records))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let (files, length) = r.value()?;
            let compute: Box<dyn Compute> = Box::new(BinaryRecords { files, length });
            Ok(Box::new(compute))
        });
        w.value(&(&self.files, self.length))
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Keeps partitions after they were first computed, as `level` says.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::StorageLevel;
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let kept = context.parallelize(vec![1, 2, 3], 2).map(|x: i32| x + 1).persist(StorageLevel::MEMORY_AND_DISK_SER);
    /// assert_eq!(kept.count()?, kept.count()?); // the second job reads what the first one kept
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A level that differs from one set before is reported by the first job, as kind `Config`:
    /// [`unpersist`](Rdd::unpersist) first.
    ///
    /// # Spark
    ///
    /// `RDD.persist`, RD28.
    #[track_caller]
    pub fn persist(&self, level: StorageLevel) -> Rdd<T> {
        self.persist_as(super::persisted::Persisted::exchange::<T>(level, Arc::clone(self.context().env())), "persist")
    }
}
