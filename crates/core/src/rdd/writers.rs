//! Writers of records: what the files of an output folder hold. Text, JSON, CSV; sequence files are in `sequence.rs`.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Rdd;
use super::actions::Action;
use super::json;
use super::output::{failed_in, write_part};
use super::pipeline::Pipeline;
use crate::codec::TypeCodec;
use crate::data::{Data, ExchangeData};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;
use crate::textform;

/// How many bytes of a file are gathered before they are handed to the system.
const ENOUGH: usize = 1 << 16;

/// Says how elements become the bytes of files: one file a partition.
///
/// A writer is a value that travels to where the partitions are; it makes bytes and touches no file. What it needs to
/// know while it writes one file is in [`File`](Self::File). [`TextLines`], [`JsonLines`], [`Csv`] and
/// [`SequenceFiles`](crate::SequenceFiles) are there already.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("out");
/// use millstream_core::{Context, RecordWriter, Result};
///
/// /// Numbers, four bytes each, little end first.
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Raw;
///
/// impl RecordWriter<u32> for Raw {
///     type File = ();
///
///     fn ending(&self) -> &str {
///         ".u32"
///     }
///
///     fn begin(&self, _: &mut Vec<u8>) -> Result<()> {
///         Ok(())
///     }
///
///     fn write(&self, _: &mut (), items: &[u32], out: &mut Vec<u8>) -> Result<()> {
///         items.iter().for_each(|item| out.extend(item.to_le_bytes()));
///         Ok(())
///     }
/// }
///
/// let context = Context::new("local[2]", "raw")?;
/// context.parallelize(vec![1u32, 2], 1).save_with(&path, Raw)?;
/// assert_eq!(std::fs::read(path.join("part-00000.u32"))?, [1, 0, 0, 0, 2, 0, 0, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Spark
///
/// In the place of Hadoop's `OutputFormat`, with which `saveAsHadoopFile` is called.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot write files of `{T}`",
    label = "is no writer of such elements",
    note = "`JsonLines` and `Csv` write what serde can write, `SequenceFiles` pairs of what Hadoop knows",
    note = "a writer travels: it needs `#[derive(Clone, serde::Serialize, serde::Deserialize)]`"
)]
pub trait RecordWriter<T>: ExchangeData {
    /// What is known of a file that is being written.
    type File;

    /// Returns what the names of the files end in, with its dot.
    fn ending(&self) -> &str {
        ""
    }

    /// Begins a file: appends what stands before all elements.
    ///
    /// # Errors
    ///
    /// The task fails with what it returns.
    fn begin(&self, out: &mut Vec<u8>) -> Result<Self::File>;

    /// Appends some elements. `out` is what has not yet been written to the file, and not the whole of it.
    ///
    /// # Errors
    ///
    /// The task fails with what it returns, and its file is removed.
    fn write(&self, file: &mut Self::File, items: &[T], out: &mut Vec<u8>) -> Result<()>;

    /// Ends a file: appends what stands behind all elements.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    fn end(&self, _file: Self::File, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

impl<T: Data> Rdd<T> {
    /// Writes the elements into the folder `path` as `writer` says, a file a partition, and `_SUCCESS` at the end.
    ///
    /// A file is written under another name and then renamed: it is there as a whole or not at all.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("out");
    /// use millstream_core::{Context, JsonLines};
    ///
    /// let context = Context::new("local[2]", "save")?;
    /// context.parallelize(vec![(1, true), (2, false)], 1).save_with(&path, JsonLines)?;
    /// assert_eq!(std::fs::read_to_string(path.join("part-00000.json"))?, "[1,true]\n[2,false]\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` if the folder is there already, but for streaming jobs, which write over it (S-109);
    /// `Unavailable` if it cannot be written; and what the writer or a closure fails with.
    ///
    /// # Cost
    ///
    /// The elements are encoded once, some hundred at a time.
    ///
    /// # Spark
    ///
    /// In the place of `saveAsHadoopFile`, `saveAsNewAPIHadoopFile`, PR26 to PR29.
    #[track_caller]
    pub fn save_with<W: RecordWriter<T>>(&self, path: impl AsRef<Path>, writer: W) -> Result<()> {
        self.save_with_at(path.as_ref(), writer, CallSite::here("save_with"))
    }

    pub(super) fn save_with_at<W: RecordWriter<T>>(&self, path: &Path, writer: W, site: CallSite) -> Result<()> {
        if writer.ending().contains(['/', '\\']) {
            let text = format!("the names of files cannot end in {:?}", writer.ending());
            return Err(Error::new(ErrorKind::Config, text).at(site));
        }
        self.save(path, |folder| Arc::new(WriteWith { folder, writer, of: PhantomData::<fn(T)> }), site)
    }
}

struct WriteWith<T, W> {
    folder: PathBuf,
    writer: W,
    of: PhantomData<fn(T)>,
}

impl<T: Data, W: RecordWriter<T>> Action for WriteWith<T, W> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        write_part(&self.folder, task, self.writer.ending(), |to| {
            let (mut count, mut out) = (0, Vec::new());
            let mut flush = |out: &mut Vec<u8>, least: usize| {
                if out.len() < least {
                    return Ok(());
                }
                let written = to.write_all(out).map_err(|e| failed_in(&self.folder, e));
                out.clear();
                written
            };
            let mut file = self.writer.begin(&mut out)?;
            pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
                self.writer.write(&mut file, chunk, &mut out)?;
                count += chunk.len() as u64;
                chunk.clear();
                flush(&mut out, ENOUGH)
            })?;
            self.writer.end(file, &mut out)?;
            flush(&mut out, 0)?;
            Ok(count)
        })
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<u64>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let (folder, writer) = (r.value()?, r.value::<W>()?);
            let action: Arc<dyn Action> = Arc::new(WriteWith { folder, writer, of: PhantomData::<fn(T)> });
            Ok(Box::new(action))
        });
        w.value(&self.folder)?;
        w.value(&self.writer)
    }
}

// -------------------------------------------------------------------------------------------------------- text

/// Writes a line an element, in the form in which it is printed, as [`save_as_text_file`](Rdd::save_as_text_file) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextLines;

impl<T: Data + Serialize> RecordWriter<T> for TextLines {
    type File = String;

    fn begin(&self, _: &mut Vec<u8>) -> Result<String> {
        Ok(String::new())
    }

    fn write(&self, line: &mut String, items: &[T], out: &mut Vec<u8>) -> Result<()> {
        for item in items {
            line.clear();
            textform::write(item, line)?;
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Ok(())
    }
}

// -------------------------------------------------------------------------------------------------------- JSON

/// Writes a JSON value a line, in files called `.json`: structs as objects, tuples and lists as arrays.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("out");
/// use millstream_core::{Context, JsonLines};
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Reading {
///     place: String,
///     celsius: Option<f64>,
/// }
///
/// let context = Context::new("local[2]", "json")?;
/// let readings = vec![Reading { place: "roof \"north\"".into(), celsius: Some(21.5) }];
/// context.parallelize(readings, 1).save_with(&path, JsonLines)?;
/// let text = std::fs::read_to_string(path.join("part-00000.json"))?;
/// assert_eq!(text, "{\"place\":\"roof \\\"north\\\"\",\"celsius\":21.5}\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The kind is `User`: the value's own `Serialize` refuses, or a map has keys that are no texts or numbers. Floats that
/// are not finite become `null`, since JSON has none.
///
/// # Spark
///
/// As `DataFrameWriter.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonLines;

impl<T: Data + Serialize> RecordWriter<T> for JsonLines {
    type File = ();

    fn ending(&self) -> &str {
        ".json"
    }

    fn begin(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn write(&self, (): &mut (), items: &[T], out: &mut Vec<u8>) -> Result<()> {
        for item in items {
            json::write(item, out).map_err(|e| refused::<T>("JSON", &e))?;
            out.push(b'\n');
        }
        Ok(())
    }
}

fn refused<T>(form: &str, why: &dyn std::fmt::Display) -> Error {
    let name = std::any::type_name::<T>();
    Error::new(ErrorKind::User, format!("an element of type {name} cannot be written as {form}: {why}"))
}

// --------------------------------------------------------------------------------------------------------- CSV

/// Writes a record a line as RFC 4180 says, in files called `.csv`: fields of a struct or a tuple, quoted where that is
/// needed. Lines end with `\n` alone.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("out");
/// use millstream_core::{Context, Csv};
///
/// let context = Context::new("local[2]", "csv")?;
/// let rows = vec![(1, "plain".to_owned(), Some(0.5)), (2, "a \"b\", c".to_owned(), None)];
/// context.parallelize(rows, 1).save_with(&path, Csv::new())?;
/// let text = std::fs::read_to_string(path.join("part-00000.csv"))?;
/// assert_eq!(text, "1,plain,0.5\n2,\"a \"\"b\"\", c\",\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// The kind is `User`: a map, which has no fields; or records of one file that differ in the number of their fields.
///
/// # Spark
///
/// As `DataFrameWriter.csv`, but for quotes inside of quotes, which Spark writes as `\"` unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Csv {
    delimiter: u8,
    header: bool,
}

impl Csv {
    /// Makes a writer of fields with commas between them, and no header.
    pub fn new() -> Csv {
        Csv { delimiter: b',', header: false }
    }

    /// Writes the names of a struct's fields as the first line of each file that has a record. Tuples have none.
    #[must_use]
    pub fn with_header(self) -> Csv {
        Csv { header: true, ..self }
    }

    /// Writes `delimiter`, an ASCII letter, between fields.
    #[must_use]
    pub fn with_delimiter(self, delimiter: u8) -> Csv {
        Csv { delimiter, ..self }
    }
}

impl Default for Csv {
    fn default() -> Csv {
        Csv::new()
    }
}

/// What the csv crate has written and nobody has taken.
#[derive(Clone, Debug, Default)]
struct Tap(Rc<RefCell<Vec<u8>>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of records that is being written.
#[derive(Debug)]
pub struct CsvFile {
    records: csv::Writer<Tap>,
    tap: Tap,
}

impl<T: Data + Serialize> RecordWriter<T> for Csv {
    type File = CsvFile;

    fn ending(&self) -> &str {
        ".csv"
    }

    fn begin(&self, _: &mut Vec<u8>) -> Result<CsvFile> {
        if !self.delimiter.is_ascii() || matches!(self.delimiter, b'"' | b'\n' | b'\r') {
            let text = format!("a delimiter of CSV files cannot be the byte {:#04x}", self.delimiter);
            return Err(Error::new(ErrorKind::Config, text));
        }
        let tap = Tap::default();
        let mut builder = csv::WriterBuilder::new();
        builder.delimiter(self.delimiter).has_headers(self.header);
        Ok(CsvFile { records: builder.from_writer(tap.clone()), tap })
    }

    fn write(&self, file: &mut CsvFile, items: &[T], out: &mut Vec<u8>) -> Result<()> {
        items.iter().try_for_each(|item| file.records.serialize(item)).map_err(|e| refused::<T>("CSV", &e))?;
        file.records.flush().map_err(|e| refused::<T>("CSV", &e))?;
        out.append(&mut file.tap.0.borrow_mut());
        Ok(())
    }
}
