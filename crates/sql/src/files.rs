//! Files as the rows of a static table: CSV, JSON and Parquet, by path, folder or pattern.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch as ArrowBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::csv::ReaderBuilder as CsvReader;
use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::json::ReaderBuilder as JsonReader;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use millstream_core::{Error, ErrorKind, Result};

use crate::batch::RecordBatch;
use crate::columnar::ROWS;
use crate::names;
use crate::row::{Row, schema_of};
use crate::warehouse::{self, write::value_of};

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Csv { header: bool, delimiter: u8 },
    Json,
    Parquet,
}

/// Files that are the rows of a table: where they are, how they are written, and how often they are read again.
///
/// A path may be a file, a folder (with folders like `day=2024-02-29` inside, whose names become columns), or a pattern with `*`,
/// `?` and `[…]`. Files and folders whose names begin with `_` or `.` are left out,
/// but for folders like `_1=7`.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_sql::Files;
///
/// let limits = Files::csv("limits/*.csv").delimiter(';').refreshed_every(secs(60));
/// # let _ = limits;
/// ```
///
/// # Spark
///
/// `spark.read.csv`, `.json`, `.parquet`, with `option`s.
#[derive(Clone, Debug)]
pub struct Files {
    path: PathBuf,
    kind: Kind,
    schema: Option<SchemaRef>,
    every: Option<Duration>,
    /// Whether the path is a table of a warehouse, which says itself what its files are.
    saved: bool,
}

impl Files {
    fn of(path: impl AsRef<Path>, kind: Kind) -> Files {
        Files { path: path.as_ref().to_owned(), kind, schema: None, every: None, saved: false }
    }

    /// Reads lines of values with commas between. The first line names the columns; their types are found from all rows.
    pub fn csv(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Csv { header: true, delimiter: b',' })
    }

    /// Reads an object of JSON a line. The columns and their types are found from all rows.
    pub fn json(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Json)
    }

    /// Reads files of Parquet.
    pub fn parquet(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Parquet)
    }

    /// Reads a table that a stream is [saved as](crate::SqlStreams::save_as_table), by its folder: whole batches, and nothing of one that is
    /// being put into it.
    pub fn saved_table(folder: impl AsRef<Path>) -> Files {
        Files { saved: true, ..Files::of(folder, Kind::Parquet) }
    }

    /// Says whether the first line of CSV names the columns; if not, they are `_c0`, `_c1`, … It does.
    #[must_use]
    pub fn header(mut self, has: bool) -> Files {
        if let Kind::Csv { header, .. } = &mut self.kind {
            *header = has;
        }
        self
    }

    /// Says what stands between the values of CSV, a character of ASCII. A comma does.
    #[must_use]
    pub fn delimiter(mut self, between: char) -> Files {
        if let Kind::Csv { delimiter, .. } = &mut self.kind {
            *delimiter = u8::try_from(between).unwrap_or(b',');
        }
        self
    }

    /// Says what the columns are: those of a row. Nothing is found out then, and what does not fit is an error.
    #[must_use]
    pub fn rows_of<T: Row>(mut self) -> Files {
        self.schema = Some(schema_of::<T>());
        self
    }

    /// Has the files read again when a batch begins that is so much later than the one that read them last.
    ///
    /// If they cannot be read then, batches go on with what was read before, a warning says so, and the next batch tries again.
    #[must_use]
    pub fn refreshed_every(mut self, interval: Duration) -> Files {
        self.every = Some(interval);
        self
    }

    pub(crate) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Reads all rows.
    pub(crate) fn read(&self) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        // A table may be overwritten while it is read.
        let mut read = self.read_once();
        for _ in 0..2 {
            match read {
                Err(_) if self.saved => read = self.read_once(),
                _ => break,
            }
        }
        read
    }

    fn read_once(&self) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let files = self.list()?;
        let schema = match (&self.schema, self.kind) {
            (Some(schema), _) => Some(Arc::clone(schema)),
            (None, Kind::Parquet) => None,
            (None, _) => Some(Arc::new(self.infer(&files)?)),
        };
        let mut batches: Vec<ArrowBatch> = Vec::new();
        for file in &files {
            let before = fs::metadata(&file.path).and_then(|m| Ok((m.len(), m.modified()?))).ok();
            let read = self.read_file(file, schema.as_ref())?;
            let after = fs::metadata(&file.path).and_then(|m| Ok((m.len(), m.modified()?))).ok();
            if before != after {
                return Err(unreadable(&file.path, "it changed while it was read: write files aside and rename them"));
            }
            batches.extend(read);
        }
        let all = together(&self.path, batches, schema)?;
        Ok((Arc::clone(&all.0), all.1.into_iter().map(RecordBatch::from).collect()))
    }

    fn read_file(&self, file: &Found, schema: Option<&SchemaRef>) -> Result<Vec<ArrowBatch>> {
        let bad = |text: String| unreadable(&file.path, &text);
        let opened = File::open(&file.path).map_err(|e| bad(e.to_string()))?;
        let own = |schema: &SchemaRef| -> SchemaRef {
            let of_file = |f: &&Arc<Field>| !file.values.iter().any(|(name, _)| name == f.name());
            Arc::new(Schema::new(schema.fields().iter().filter(of_file).cloned().collect::<Vec<_>>()))
        };
        let read: Result<Vec<ArrowBatch>, String> = match (self.kind, schema) {
            (Kind::Csv { header, delimiter }, Some(schema)) => {
                if header {
                    self.check_header(&file.path, &own(schema), delimiter)?;
                }
                let reader = CsvReader::new(own(schema)).with_format(self.format()).with_batch_size(ROWS);
                reader
                    .build(opened)
                    .map_err(|e| e.to_string())
                    .and_then(|r| r.collect::<Result<_, _>>().map_err(|e| e.to_string()))
            }
            (Kind::Json, Some(schema)) => {
                let reader = JsonReader::new(own(schema)).with_batch_size(ROWS).build(BufReader::new(opened));
                reader.map_err(|e| e.to_string()).and_then(|r| r.collect::<Result<_, _>>().map_err(|e| e.to_string()))
            }
            _ => parquet(opened),
        };
        let read = read.map_err(bad)?;
        read.into_iter().map(|batch| file.with_values(batch)).collect()
    }

    fn format(&self) -> Format {
        match self.kind {
            Kind::Csv { header, delimiter } => Format::default().with_header(header).with_delimiter(delimiter),
            _ => Format::default(),
        }
    }

    /// Columns of CSV are read by position: a header that says something else would be read as something that it is not.
    fn check_header(&self, path: &Path, schema: &Schema, delimiter: u8) -> Result<()> {
        let mut reader = csv_headers(path, delimiter)?;
        let wanted: Vec<String> = schema.fields().iter().map(|f| f.name().to_lowercase()).collect();
        reader.iter_mut().for_each(|name| *name = name.to_lowercase());
        if reader == wanted {
            return Ok(());
        }
        let listed = |all: &[String]| names::listed(all.iter().map(String::as_str));
        Err(unreadable(path, &format!("its header is {}, and the table's is {}", listed(&reader), listed(&wanted))))
    }

    fn infer(&self, files: &[Found]) -> Result<Schema> {
        let mut schemas = Vec::new();
        for file in files {
            let bad = |e: &dyn std::fmt::Display| unreadable(&file.path, &e.to_string());
            let opened = File::open(&file.path).map_err(|e| bad(&e))?;
            let schema = match self.kind {
                Kind::Csv { header, .. } => {
                    let (schema, _) = self.format().infer_schema(opened, None).map_err(|e| bad(&e))?;
                    let named = |(i, f): (usize, &Arc<Field>)| {
                        let name = if header { f.name().trim().to_owned() } else { format!("_c{i}") };
                        Field::new(name, settled(f.data_type()), true)
                    };
                    Schema::new(schema.fields().iter().enumerate().map(named).collect::<Vec<_>>())
                }
                _ => return infer_json(&self.path, files),
            };
            schemas.push((file, schema));
        }
        let mut all: Option<Schema> = None;
        for (file, schema) in schemas {
            all = Some(match all {
                None => schema,
                Some(before) => widened(&before, &schema).map_err(|text| unreadable(&file.path, &text))?,
            });
        }
        all.ok_or_else(|| unreadable(&self.path, "there are no files"))
    }

    /// Fails for what is not read here, and says what is.
    fn check(&self) -> Result<()> {
        let text = self.path.to_string_lossy();
        let instead = match text.split_once("://") {
            Some((store, _)) if store.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                format!(
                    "{text} is in a store that is reached by `{store}`, and tables are read from folders: copy the files into one"
                )
            }
            _ if self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("avro")) => {
                format!("{text} is Avro, which is not read here: write it as Parquet, as Spark's df.write.parquet does")
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Config, instead))
    }

    /// Lists the files, in order, with what the folders' names say of them.
    fn list(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        self.check()?;
        if self.saved {
            for file in warehouse::files_of(&self.path)? {
                let folders = file.split('/').filter_map(|name| name.split_once('='));
                let values = folders.map(|(column, value)| (column.to_owned(), value_of(value))).collect();
                found.push(Found { path: self.path.join(&file), values });
            }
        }
        let text = self.path.to_string_lossy();
        if self.saved {
            // It has said what its files are.
        } else if text.contains(['*', '?', '[']) {
            let paths = glob::glob(&text).map_err(|e| unreadable(&self.path, &format!("it is no pattern: {e}")))?;
            for path in paths {
                let path = path.map_err(|e| unreadable(e.path(), &e.error().to_string()))?;
                if !hidden(&path) {
                    walk(&path, &[], &mut found)?;
                }
            }
        } else {
            walk(&self.path, &[], &mut found)?;
        }
        if found.is_empty() {
            return Err(unreadable(&self.path, "there are no files"));
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

/// Reads a file of Parquet: of one without rows, its columns.
fn parquet(file: File) -> Result<Vec<ArrowBatch>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
    let none = ArrowBatch::new_empty(Arc::clone(builder.schema()));
    let reader = builder.with_batch_size(ROWS).build().map_err(|e| e.to_string())?;
    let mut batches = reader.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    if batches.is_empty() {
        batches.push(none);
    }
    Ok(batches)
}

/// A file, and the columns that the names of its folders are.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    values: Vec<(String, Option<String>)>,
}

impl Found {
    fn with_values(&self, batch: ArrowBatch) -> Result<ArrowBatch> {
        if self.values.is_empty() {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
        let mut columns = batch.columns().to_vec();
        for (name, value) in &self.values {
            let column: ArrayRef = match value.as_deref().map(str::parse::<i64>) {
                Some(Ok(number)) => Arc::new(Int64Array::from(vec![number; rows])),
                _ => Arc::new(StringArray::from(vec![value.as_deref(); rows])),
            };
            fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
            columns.push(column);
        }
        ArrowBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| unreadable(&self.path, &e.to_string()))
    }
}

fn walk(path: &Path, values: &[(String, Option<String>)], found: &mut Vec<Found>) -> Result<()> {
    let bad = |e: std::io::Error| unreadable(path, &e.to_string());
    if !fs::metadata(path).map_err(bad)?.is_dir() {
        found.push(Found { path: path.to_owned(), values: values.to_vec() });
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(bad)? {
        let inside = entry.map_err(bad)?.path();
        if hidden(&inside) {
            continue;
        }
        let mut values = values.to_vec();
        let name = inside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((column, value)) = name.split_once('=').filter(|_| inside.is_dir()) {
            values.push((column.to_owned(), value_of(value)));
        }
        walk(&inside, &values, found)?;
    }
    Ok(())
}

fn hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // As Spark has it: a folder of a column's values may have a column whose name begins so.
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}

fn unreadable(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Data, format!("{} cannot be read as a table: {text}", path.display()))
}

fn csv_headers(path: &Path, delimiter: u8) -> Result<Vec<String>> {
    let opened = File::open(path).map_err(|e| unreadable(path, &e.to_string()))?;
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let (schema, _) = format.infer_schema(opened, Some(0)).map_err(|e| unreadable(path, &e.to_string()))?;
    Ok(schema.fields().iter().map(|f| f.name().trim().to_owned()).collect())
}

/// Finds the columns of all files together: an object may leave out what others have.
fn infer_json(path: &Path, files: &[Found]) -> Result<Schema> {
    let mut all: Box<dyn Read> = Box::new(std::io::empty());
    for file in files {
        let opened = File::open(&file.path).map_err(|e| unreadable(&file.path, &e.to_string()))?;
        all = Box::new(all.chain(opened).chain(&b"\n"[..]));
    }
    let (schema, _) = infer_json_schema(BufReader::new(all), None).map_err(|e| unreadable(path, &e.to_string()))?;
    Ok(schema)
}

/// A type that was found in text: a column without any value is text, and times are milliseconds, as those of rows.
fn settled(of: &DataType) -> DataType {
    match of {
        DataType::Null => DataType::Utf8,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Millisecond, None),
        other => other.clone(),
    }
}

/// The columns of two files, in types that hold both.
fn widened(a: &Schema, b: &Schema) -> Result<Schema, String> {
    let listed = |s: &Schema| names::listed(s.fields().iter().map(|f| f.name().as_str()));
    let mut fields: Vec<Field> = a.fields().iter().map(|f| f.as_ref().clone()).collect();
    let same = |(a, b): (&Arc<Field>, &Arc<Field>)| a.name().to_lowercase() == b.name().to_lowercase();
    if a.fields().len() != b.fields().len() || !a.fields().iter().zip(b.fields()).all(same) {
        return Err(format!("its columns are {}, and those of the files before {}", listed(b), listed(a)));
    }
    for (field, other) in fields.iter_mut().zip(b.fields()) {
        let both = match (field.data_type(), other.data_type()) {
            (a, b) if a == b => a.clone(),
            (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
            _ => DataType::Utf8,
        };
        *field = Field::new(field.name(), both, true);
    }
    Ok(Schema::new(fields))
}

/// Puts what several files hold under one schema: the first one's, if none is given.
fn together(path: &Path, batches: Vec<ArrowBatch>, schema: Option<SchemaRef>) -> Result<(SchemaRef, Vec<ArrowBatch>)> {
    let first = batches.first().map(ArrowBatch::schema);
    let schema = match (first, schema) {
        // What folders say is in the rows, and not in what was found or given.
        (Some(first), Some(given)) if first.fields().len() > given.fields().len() => first,
        (_, Some(given)) => given,
        (Some(first), None) => first,
        (None, None) => return Err(unreadable(path, "there are no rows, and so no columns")),
    };
    let fit = |batch: ArrowBatch| {
        let column = |field: &Arc<Field>| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| {
                unreadable(path, &format!("a file has no column `{}`, which others have", field.name()))
            })?;
            cast(column, field.data_type()).map_err(|e| unreadable(path, &e.to_string()))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        ArrowBatch::try_new(Arc::clone(&schema), columns).map_err(|e| unreadable(path, &e.to_string()))
    };
    let batches = batches.into_iter().map(fit).collect::<Result<Vec<_>>>()?;
    Ok((schema, batches))
}
