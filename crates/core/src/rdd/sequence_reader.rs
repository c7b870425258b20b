//! Reads Hadoop's sequence files, also from the middle: at a marker.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Rdd;
use super::lineage::{Compute, Dependency, Opened};
use super::paths::list_files;
use super::pipeline::{CHUNK, PartitionReader};
use super::sequence::{ESCAPE, MAGIC, Marker, Writable};
use super::sources::source;
use crate::context::Context;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::MAX_PARTITIONS;
use crate::plan::TaskContext;
use crate::plan::ship::{PlanReader, PlanWriter};

/// How much is read at a time where a marker is looked for.
const READ: usize = 1 << 16;

impl Context {
    /// Makes an Rdd of the pairs in Hadoop's sequence files, in about `partitions` parts or more.
    ///
    /// Paths are as for [`text_file`](Self::text_file). The types must be what the files hold: `Text` or `String` for
    /// Hadoop's `Text`, `Vec<u8>` for `BytesWritable`, and so on, as [`Writable`] says. A long file is cut
    /// at its markers.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("out");
    /// use millstream_core::{Context, Text};
    ///
    /// let context = Context::new("local[2]", "sequence files")?;
    /// context.parallelize(vec![(Text::from("to"), 2i32)], 1).save_as_sequence_file(&path)?;
    /// assert_eq!(context.sequence_file::<Text, i32>(&path, 2).collect()?, [(Text::from("to"), 2)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first action reports: a path that is not there, as kind `Config`; a file that is compressed, of another
    /// version, of other classes or damaged, as kind `Data`.
    ///
    /// # Cost
    ///
    /// A record is in memory at a time, and some hundred pairs.
    ///
    /// # Spark
    ///
    /// `SparkContext.sequenceFile`, CX10, of files that are not compressed.
    #[track_caller]
    pub fn sequence_file<K: Writable, V: Writable>(&self, path: impl AsRef<Path>, partitions: usize) -> Rdd<(K, V)> {
        let site = CallSite::here("sequence_file");
        let mut files = Vec::new();
        if let Err(error) = list_files(path.as_ref(), &mut files) {
            return Rdd::failed(error.at(site), self);
        }
        let parts = cut(files, partitions);
        let count = parts.len();
        source(self, SequenceParts::<K, V> { parts, of: PhantomData }, count, site)
    }
}

/// The bytes of a file whose markers, and what follows them, belong to a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    path: PathBuf,
    start: u64,
    end: u64,
}

/// Cuts files into parts of about the same length. Pure.
fn cut(files: Vec<(PathBuf, u64)>, partitions: usize) -> Vec<Part> {
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    let step = total.div_ceil(partitions.clamp(1, MAX_PARTITIONS) as u64).max(1);
    let parts = files.into_iter().flat_map(|(path, len)| {
        let count = len.div_ceil(step).max(1);
        let at = move |i: u64| (u128::from(i) * u128::from(len) / u128::from(count)) as u64;
        (0..count).map(move |i| Part { path: path.clone(), start: at(i), end: at(i + 1) })
    });
    parts.collect()
}

struct SequenceParts<K, V> {
    parts: Vec<Part>,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: Writable, V: Writable> Compute for SequenceParts<K, V> {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(part) = self.parts.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the sequence files"));
        };
        let file = File::open(&part.path).map_err(|e| unreadable(&part.path, e))?;
        Ok(Opened::Source(Box::new(SequenceReader::<K, V, File>::open(part, file)?)))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(SequenceParts::<K, V> { parts: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.parts)
    }
}

struct SequenceReader<K, V, F> {
    part: Part,
    file: BufReader<F>,
    marker: Marker,
    /// Where the next byte that is read stands in the file.
    at: u64,
    record: Vec<u8>,
    ended: bool,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: Writable, V: Writable, F: Read + Seek> SequenceReader<K, V, F> {
    fn open(part: &Part, file: F) -> Result<SequenceReader<K, V, F>> {
        let mut reader = SequenceReader {
            part: part.clone(),
            file: BufReader::with_capacity(READ, file),
            marker: [0; 16],
            at: 0,
            record: Vec::new(),
            ended: false,
            of: PhantomData,
        };
        reader.read_header()?;
        if part.start > 0 {
            reader.seek_marker()?;
        }
        Ok(reader)
    }

    fn broken(&self, why: &str) -> Error {
        Error::new(ErrorKind::Data, format!("sequence file {}: {why}", self.part.path.display()))
    }

    /// Reads exactly so many bytes into the record. What is claimed and not there is not allocated.
    fn fill(&mut self, length: u64) -> Result<()> {
        self.record.clear();
        let read = (&mut self.file).take(length).read_to_end(&mut self.record);
        let read = read.map_err(|e| unreadable(&self.part.path, e))? as u64;
        self.at += read;
        if read < length { Err(self.broken("it ends in the middle of something")) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.fill(N as u64)?;
        self.record.as_slice().try_into().map_err(|_| crate::bug!("a record has another length than was read"))
    }

    /// Reads a text with its length before it.
    fn text(&mut self) -> Result<String> {
        let [first] = self.array::<1>()?;
        let mut length = vec![first];
        if first > 127 {
            // As many bytes as the first one says; a length has at most four.
            let more = 143u8.checked_sub(first).map(|n| u64::from(n) + 1).filter(|n| *n <= 4);
            self.fill(more.ok_or_else(|| self.broken("a name has no length"))?)?;
            length.extend_from_slice(&self.record);
        }
        let (length, _) = super::sequence::read_vint(&length).ok_or_else(|| self.broken("a name has no length"))?;
        self.fill(length as u64)?;
        String::from_utf8(self.record.clone()).map_err(|_| self.broken("a name is no text"))
    }

    fn read_header(&mut self) -> Result<()> {
        match self.array::<4>()? {
            magic if magic == *MAGIC => {}
            [b'S', b'E', b'Q', version] => {
                return Err(self.broken(&format!("it is of version {version}; versions other than 6 are not read")));
            }
            _ => return Err(self.broken("it is none: it does not begin with SEQ")),
        }
        for (what, want) in [("keys", K::CLASS), ("values", V::CLASS)] {
            let class = self.text()?;
            if class != want {
                return Err(self.broken(&format!("its {what} are {class}, and {want} is asked for")));
            }
        }
        if self.array::<2>()? != [0, 0] {
            let codec = self.text()?;
            return Err(self.broken(&format!("it is compressed by {codec}; write it without compression")));
        }
        for _ in 0..u32::from_be_bytes(self.array()?) {
            self.text()?;
            self.text()?;
        }
        self.marker = self.array()?;
        Ok(())
    }

    /// Goes to the first marker that begins in the part; the records before it belong to another part.
    fn seek_marker(&mut self) -> Result<()> {
        let mut pattern = ESCAPE.to_be_bytes().to_vec();
        pattern.extend_from_slice(&self.marker);
        // A marker may stand right behind the header, and be in this part.
        let from = self.part.start.max(self.at);
        let failed = |e| unreadable(&self.part.path, e);
        self.file.seek(SeekFrom::Start(from)).map_err(failed)?;
        let finder = memchr::memmem::Finder::new(&pattern);
        // `window` are bytes of the file that begin at `from`.
        let (mut from, mut window) = (from, Vec::new());
        while from < self.part.end {
            let read = (&mut self.file).take(READ as u64).read_to_end(&mut window).map_err(failed)?;
            if let Some(found) = finder.find(&window) {
                let begin = from + found as u64;
                self.ended = begin >= self.part.end;
                self.at = begin;
                self.file.seek(SeekFrom::Start(begin)).map_err(failed)?;
                return Ok(());
            }
            if read == 0 {
                break;
            }
            let done = window.len().saturating_sub(pattern.len() - 1);
            window.drain(..done);
            from += done as u64;
        }
        self.ended = true;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(K, V)>> {
        loop {
            let begin = self.at;
            if self.file.fill_buf_is_empty().map_err(|e| unreadable(&self.part.path, e))? {
                return Ok(None);
            }
            let length = i32::from_be_bytes(self.array()?);
            if length == ESCAPE {
                if begin >= self.part.end {
                    return Ok(None);
                }
                if self.array::<16>()? != self.marker {
                    return Err(self.broken(&format!("the marker at byte {begin} is not the file's")));
                }
                continue;
            }
            let key_length = i32::from_be_bytes(self.array()?);
            let (Ok(length), Ok(key_length)) = (u64::try_from(length), usize::try_from(key_length)) else {
                return Err(self.broken(&format!("the record at byte {begin} has no length")));
            };
            self.fill(length)?;
            let Some((key, value)) = self.record.split_at_checked(key_length) else {
                return Err(self.broken(&format!("the key at byte {begin} is longer than its record")));
            };
            let pair = K::read(key).and_then(|key| Ok((key, V::read(value)?)));
            return pair
                .map(Some)
                .map_err(|e| self.broken(&format!("the record at byte {begin} is not what was expected: {e}")));
        }
    }
}

impl<K: Writable, V: Writable, F: Read + Seek + Send + 'static> PartitionReader for SequenceReader<K, V, F> {
    type Item = (K, V);

    fn read_chunk(&mut self, out: &mut Vec<(K, V)>) -> Result<bool> {
        let before = out.len();
        while !self.ended && out.len() - before < CHUNK {
            match self.next()? {
                Some(pair) => out.push(pair),
                None => self.ended = true,
            }
        }
        Ok(out.len() > before)
    }
}

/// Says whether there is nothing more to read.
trait AtEnd {
    fn fill_buf_is_empty(&mut self) -> io::Result<bool>;
}

impl<F: Read> AtEnd for BufReader<F> {
    fn fill_buf_is_empty(&mut self) -> io::Result<bool> {
        io::BufRead::fill_buf(self).map(<[u8]>::is_empty)
    }
}

/// Reads the pairs of a part of a file that is in memory.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn pairs_of<K: Writable, V: Writable>(bytes: &[u8], start: u64, end: u64) -> Result<Vec<(K, V)>> {
    let part = Part { path: PathBuf::from("in memory"), start, end };
    let mut reader = SequenceReader::<K, V, _>::open(&part, io::Cursor::new(bytes.to_vec()))?;
    let mut pairs = Vec::new();
    while reader.read_chunk(&mut pairs)? {}
    Ok(pairs)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, format!("file {} cannot be read", path.display()), error)
}
