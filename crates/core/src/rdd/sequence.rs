//! Hadoop's sequence files: pairs as Hadoop writes them, uncompressed, version 6.
//!
//! ```text
//! SEQ 6 │ class of keys │ class of values │ 0 0 │ number of metadata │ marker of 16 bytes
//! length of key and value │ length of key │ key │ value            … again and again, and now and then
//! -1 │ the marker                                                   where a reader may begin
//! ```
//!
//! Numbers have their big end first. The marker is another one in each file, so that it is in no value.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Rdd;
use super::writers::RecordWriter;
use crate::data::Data;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::text::Text;

/// The first bytes of a sequence file, the version among them.
pub(super) const MAGIC: &[u8; 4] = b"SEQ\x06";

/// In the place of a record's length: the file's marker follows.
pub(super) const ESCAPE: i32 = -1;

/// A file's marker.
pub(super) type Marker = [u8; 16];

/// What Hadoop has a class for, with which it writes and reads it.
///
/// | type | class in `org.apache.hadoop.io` |
/// |---|---|
/// | [`Text`], `String` | `Text` |
/// | `Vec<u8>`, [`bytes::Bytes`] | `BytesWritable` |
/// | `i32`, `i64` | `IntWritable`, `LongWritable` |
/// | `f32`, `f64` | `FloatWritable`, `DoubleWritable` |
/// | `bool` | `BooleanWritable` |
/// | `()` | `NullWritable` |
///
/// # Spark
///
/// `org.apache.hadoop.io.Writable`, and the conversions of `SparkContext` to it.
#[diagnostic::on_unimplemented(
    message = "Hadoop has no class for `{Self}`",
    label = "cannot be a key or a value of a sequence file",
    note = "it may be Text, String, Vec<u8>, bytes::Bytes, i32, i64, f32, f64, bool or ()"
)]
pub trait Writable: Data {
    /// The full name of Hadoop's class.
    const CLASS: &'static str;

    /// Appends what Hadoop's class writes.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads what Hadoop's class has written, which must use up all of `bytes`.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: the bytes are not such a value.
    fn read(bytes: &[u8]) -> Result<Self>;
}

fn wrong(class: &str, bytes: &[u8]) -> Error {
    Error::new(ErrorKind::Data, format!("{} bytes are no {class}", bytes.len()))
}

/// Appends a number as Hadoop's `WritableUtils.writeVInt` does, for numbers that are not negative.
fn write_vint(n: usize, out: &mut Vec<u8>) {
    if n <= 127 {
        out.push(n as u8);
        return;
    }
    let bytes = (n as u64).to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    // The first byte says how many follow: -113 for one.
    out.push((-112 - (bytes.len() - zeros) as i16) as i8 as u8);
    out.extend_from_slice(&bytes[zeros..]);
}

/// Reads a length that [`write_vint`] has written, and returns what follows.
pub(super) fn read_vint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = *first as i8;
    if first >= 0 {
        return Some((first as usize, rest));
    }
    // Anything else is a negative number, which no length is.
    let count = (-120..=-113).contains(&first).then(|| (-112 - i32::from(first)) as usize)?;
    let (digits, rest) = rest.split_at_checked(count)?;
    let n = digits.iter().fold(0u64, |n, digit| n << 8 | u64::from(*digit));
    Some((usize::try_from(n).ok()?, rest))
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_vint(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn read_text(bytes: &[u8]) -> Result<&str> {
    let text = read_vint(bytes).filter(|(len, rest)| *len == rest.len());
    text.and_then(|(_, rest)| std::str::from_utf8(rest).ok()).ok_or_else(|| wrong(Text::CLASS, bytes))
}

fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    // Longer ones are refused with their record.
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

fn read_bytes(bytes: &[u8]) -> Result<&[u8]> {
    let value = bytes.split_first_chunk::<4>().filter(|(len, rest)| u32::from_be_bytes(**len) as usize == rest.len());
    value.map(|(_, rest)| rest).ok_or_else(|| wrong(Vec::<u8>::CLASS, bytes))
}

macro_rules! writable {
    ($type:ty, $class:literal, |$value:ident, $out:ident| $write:expr, |$bytes:ident| $read:expr) => {
        impl Writable for $type {
            const CLASS: &'static str = concat!("org.apache.hadoop.io.", $class);

            fn write(&self, $out: &mut Vec<u8>) {
                let $value = self;
                $write
            }

            fn read($bytes: &[u8]) -> Result<Self> {
                $read
            }
        }
    };
    ($type:ty, $class:literal) => {
        writable!($type, $class, |value, out| out.extend_from_slice(&value.to_be_bytes()), |bytes| {
            bytes.try_into().map(<$type>::from_be_bytes).map_err(|_| wrong(Self::CLASS, bytes))
        });
    };
}

writable!(Text, "Text", |text, out| write_text(text, out), |bytes| read_text(bytes).map(Text::from));
writable!(String, "Text", |text, out| write_text(text, out), |bytes| read_text(bytes).map(str::to_owned));
writable!(Vec<u8>, "BytesWritable", |value, out| write_bytes(value, out), |bytes| read_bytes(bytes)
    .map(<[u8]>::to_vec));
writable!(bytes::Bytes, "BytesWritable", |value, out| write_bytes(value, out), |bytes| {
    read_bytes(bytes).map(bytes::Bytes::copy_from_slice)
});
writable!(i32, "IntWritable");
writable!(i64, "LongWritable");
writable!(f32, "FloatWritable");
writable!(f64, "DoubleWritable");
writable!(bool, "BooleanWritable", |value, out| out.push(u8::from(*value)), |bytes| match bytes {
    [0] => Ok(false),
    [_] => Ok(true),
    _ => Err(wrong(bool::CLASS, bytes)),
});
writable!((), "NullWritable", |_value, _out| (), |bytes| {
    if bytes.is_empty() { Ok(()) } else { Err(wrong(<()>::CLASS, bytes)) }
});

/// Writes pairs as Hadoop's sequence files, uncompressed; keys and values are [`Writable`].
///
/// [`Context::sequence_file`](crate::Context::sequence_file) reads them, as Hadoop and Spark do.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("out");
/// use millstream_core::{Context, SequenceFiles};
///
/// let context = Context::new("local[2]", "sequence files")?;
/// let pairs = vec![("to".to_owned(), vec![1u8, 2]), ("be".to_owned(), vec![])];
/// context.parallelize(pairs.clone(), 2).save_with(&path, SequenceFiles::new())?;
/// assert_eq!(context.sequence_file::<String, Vec<u8>>(&path, 2).collect()?, pairs);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The kind is `User`: a record is longer than 2 GiB, which the format cannot say.
///
/// # Spark
///
/// `RDD.saveAsSequenceFile`, SQ01; Hadoop's `SequenceFileOutputFormat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceFiles {
    marker: Option<Marker>,
    every: u64,
}

impl SequenceFiles {
    /// Makes a writer as Hadoop's settings are: a marker every 100 KiB.
    pub fn new() -> SequenceFiles {
        SequenceFiles { marker: None, every: 5 * 1024 * 20 }
    }

    /// Writes a marker after at least `bytes` bytes, where a reader may begin. Hadoop's `io.seqfile.sync.interval`.
    #[must_use]
    pub fn with_sync_interval(self, bytes: u64) -> SequenceFiles {
        SequenceFiles { every: bytes, ..self }
    }

    /// Marks all files with `marker`, so that the same pairs give the same bytes. Otherwise each file has one by
    /// chance. A value that holds the marker breaks its file.
    #[must_use]
    pub fn with_sync_marker(self, marker: [u8; 16]) -> SequenceFiles {
        SequenceFiles { marker: Some(marker), ..self }
    }
}

impl Default for SequenceFiles {
    fn default() -> SequenceFiles {
        SequenceFiles::new()
    }
}

/// A sequence file that is being written.
#[derive(Debug)]
pub struct SequenceFile {
    marker: Marker,
    /// How many bytes the file has, and how many it had behind the last marker.
    length: u64,
    marked: u64,
}

impl<K: Writable, V: Writable> RecordWriter<(K, V)> for SequenceFiles {
    type File = SequenceFile;

    fn begin(&self, out: &mut Vec<u8>) -> Result<SequenceFile> {
        let marker = self.marker.unwrap_or_else(|| {
            let chance = RandomState::new();
            let number = u128::from(chance.hash_one(0)) << 64 | u128::from(chance.hash_one(1));
            number.to_be_bytes()
        });
        let before = out.len();
        out.extend_from_slice(MAGIC);
        write_text(K::CLASS, out);
        write_text(V::CLASS, out);
        // Neither records nor blocks are compressed, and there is no metadata.
        out.extend_from_slice(&[0; 2 + 4]);
        out.extend_from_slice(&marker);
        Ok(SequenceFile { marker, length: (out.len() - before) as u64, marked: 0 })
    }

    fn write(&self, file: &mut SequenceFile, items: &[(K, V)], out: &mut Vec<u8>) -> Result<()> {
        for (key, value) in items {
            let before = out.len();
            if file.length >= file.marked.saturating_add(self.every) {
                out.extend_from_slice(&ESCAPE.to_be_bytes());
                out.extend_from_slice(&file.marker);
                file.marked = file.length + 20;
            }
            let head = out.len();
            out.extend_from_slice(&[0; 8]);
            key.write(out);
            let key_length = out.len() - head - 8;
            value.write(out);
            let length = out.len() - head - 8;
            let (Ok(length), Ok(key_length)) = (i32::try_from(length), i32::try_from(key_length)) else {
                let text = format!("a record of {length} bytes is too long for a sequence file");
                return Err(Error::new(ErrorKind::User, text));
            };
            out[head..head + 4].copy_from_slice(&length.to_be_bytes());
            out[head + 4..head + 8].copy_from_slice(&key_length.to_be_bytes());
            file.length += (out.len() - before) as u64;
        }
        Ok(())
    }
}

impl<K: Writable, V: Writable> Rdd<(K, V)> {
    /// Writes the pairs as Hadoop's sequence files, uncompressed, into the folder `path`.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("out");
    /// let context = millstream_core::Context::new("local[2]", "sequence files")?;
    /// context.parallelize(vec![(1i64, "one".to_owned())], 1).save_as_sequence_file(&path)?;
    /// assert_eq!(context.sequence_file::<i64, String>(&path, 1).collect()?, [(1, "one".to_owned())]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`save_with`](Self::save_with)'s and [`SequenceFiles`]'.
    ///
    /// # Spark
    ///
    /// `RDD.saveAsSequenceFile`, SQ01, without a codec.
    #[track_caller]
    pub fn save_as_sequence_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_with_at(path.as_ref(), SequenceFiles::new(), CallSite::here("save_as_sequence_file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sq01_lengths_are_written_as_hadoop_does() {
        // What org.apache.hadoop.io.WritableUtils.writeVInt of Hadoop 3.4.2 gives.
        for (n, want) in [
            (0usize, &[0u8][..]),
            (127, &[127]),
            (128, &[0x8f, 128]),
            (255, &[0x8f, 255]),
            (256, &[0x8e, 1, 0]),
            (70_000, &[0x8d, 1, 0x11, 0x70]),
            (i32::MAX as usize, &[0x8c, 0x7f, 0xff, 0xff, 0xff]),
        ] {
            let mut out = Vec::new();
            write_vint(n, &mut out);
            assert_eq!(out, want, "{n}");
            out.push(9);
            assert_eq!(read_vint(&out), Some((n, &[9][..])), "{n}");
        }
        for broken in [&[][..], &[0x8f], &[0x80, 1], &[0xff]] {
            assert_eq!(read_vint(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn sq01_values_of_the_wrong_length_are_refused() {
        assert_eq!(i32::read(&[0; 5]).unwrap_err().kind(), ErrorKind::Data);
        assert!(String::read(&[3, b'a']).is_err() && String::read(&[1, 0xff]).is_err());
        assert!(Vec::<u8>::read(&[0, 0, 0, 2, 1]).is_err());
        assert!(bool::read(&[]).is_err() && <()>::read(&[0]).is_err());
    }
}
