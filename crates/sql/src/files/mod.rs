//! Files as the rows of a static table: CSV, JSON, Parquet and Avro, by path, folder or pattern, on a disk or in a bucket.

#[cfg(feature = "avro")]
mod avro;
#[cfg(feature = "object-store")]
mod bucket;
mod list;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use datafusion::parquet::file::reader::ChunkReader;
use millstream_core::{Error, ErrorKind, Result};
#[cfg(feature = "object-store")]
use millstream_object_store::object_store::ObjectStore;

use self::list::{Content, Found};
use self::text::Csv;
use crate::batch::RecordBatch;
use crate::columnar::{Columnar, ROWS};

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Csv(Csv),
    Json,
    Parquet,
    #[cfg(feature = "avro")]
    Avro,
}

/// Files that are the rows of a table: where they are, how they are written, and how often they are read again.
///
/// A path may be a file, a folder (with folders like `day=2024-02-29` inside, whose names become columns), or a pattern with `*`,
/// `?` and `[…]`. Files and folders whose names begin with `_` or `.` are left out,
/// but for folders like `_1=7`.
///
/// With the feature `object-store` it may be in a bucket: `s3://BUCKET/FOLDER`, `s3://BUCKET/day=*/x.parquet`. Region, endpoint and keys are then
/// those of the environment, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID` and so on, or the machine's role. Objects are read as they were when
/// they were listed; what is read again is read only if an object has changed, came or went.
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
/// `spark.read.csv`, `.json`, `.parquet`, `.format("avro")`, with `option`s.
#[derive(Clone, Debug)]
pub struct Files {
    path: PathBuf,
    kind: Kind,
    schema: Option<Result<SchemaRef>>,
    every: Option<Duration>,
    /// Whether the path is a table of a warehouse, which says itself what its files are.
    saved: bool,
    #[cfg(feature = "object-store")]
    store: Option<bucket::Store>,
}

impl Files {
    fn of(path: impl AsRef<Path>, kind: Kind) -> Files {
        Files {
            path: path.as_ref().to_owned(),
            kind,
            schema: None,
            every: None,
            saved: false,
            #[cfg(feature = "object-store")]
            store: bucket::Store::of_address(path.as_ref()),
        }
    }

    /// Reads lines of values with commas between. The first line names the columns; their types are found from all rows.
    pub fn csv(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Csv(Csv { header: true, delimiter: b',' }))
    }

    /// Reads an object of JSON a line. The columns and their types are found from all rows.
    pub fn json(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Json)
    }

    /// Reads files of Parquet.
    pub fn parquet(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Parquet)
    }

    /// Reads files of Avro, which say themselves what their columns are. Records inside of records, lists and maps are columns as those of rows are; a
    /// union of `null` and one type may be null; enums and UUIDs are texts, fixed bytes are bytes, times of a day are the number that Avro
    /// keeps. Blocks may be packed with deflate, Snappy, Zstandard, bzip2 or xz.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// # use millstream_sql::SqlContext;
    /// use millstream_sql::Files;
    ///
    /// # let context = Context::new("local[2]", "doc")?;
    /// # let sql = SqlContext::get_or_create(&context)?;
    /// sql.register_files("pumps", Files::avro("tests/all/avro/deflate.avro"))?;
    /// let roofs = sql.sql("SELECT sensor FROM pumps WHERE place.note = 'roof' AND get(tags, 0) = 't0' ORDER BY sensor")?;
    /// assert_eq!(roofs.collect::<String>()?, ["p1", "p3", "p4"]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Where the files are read, the kind is `Data`: one is torn, which is told with the block and the byte; or it has a column for which SQL has no type, as a
    /// union of several.
    ///
    /// # Spark
    ///
    /// `spark.read.format("avro").load(path)`.
    #[cfg(feature = "avro")]
    pub fn avro(path: impl AsRef<Path>) -> Files {
        Files::of(path, Kind::Avro)
    }

    /// Reads a table that a stream is [saved as](crate::SqlStreams::save_as_table), by its folder: whole batches, and nothing of one that is
    /// being put into it.
    pub fn saved_table(folder: impl AsRef<Path>) -> Files {
        Files { saved: true, ..Files::of(folder, Kind::Parquet) }
    }

    /// Says whether the first line of CSV names the columns; if not, they are `_c0`, `_c1`, … It does.
    #[must_use]
    pub fn header(mut self, has: bool) -> Files {
        if let Kind::Csv(csv) = &mut self.kind {
            csv.header = has;
        }
        self
    }

    /// Says what stands between the values of CSV, a character of ASCII. A comma does.
    #[must_use]
    pub fn delimiter(mut self, between: char) -> Files {
        if let Kind::Csv(csv) = &mut self.kind {
            csv.delimiter = u8::try_from(between).unwrap_or(b',');
        }
        self
    }

    /// Says what the columns are: those of a row. Nothing is found out then, and what does not fit is an error.
    #[must_use]
    pub fn rows_of<T: Columnar>(mut self) -> Files {
        self.schema = T::schema().transpose();
        self
    }

    /// Says in which store the files are, one that the program has opened: for settings that are not in the environment, and for
    /// stores that are not reached by `s3://`. The path is an address still, `gs://BUCKET/FOLDER`, of which the part behind the bucket counts.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::Context;
    /// # use millstream_sql::SqlContext;
    /// use std::sync::Arc;
    /// use millstream_object_store::object_store::memory::InMemory;
    /// use millstream_object_store::object_store::{ObjectStoreExt as _, path::Path};
    /// use millstream_sql::Files;
    ///
    /// # let context = Context::new("local[2]", "doc")?;
    /// # let sql = SqlContext::get_or_create(&context)?;
    /// let store = Arc::new(InMemory::new());
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// store.put(&Path::from("limits/day=1/a.csv"), "pump,high\n7,71.5\n".into()).await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// sql.register_files("limits", Files::csv("memory://bucket/limits").in_store(store))?;
    /// assert_eq!(sql.sql("SELECT high, day FROM limits")?.collect::<(f64, i64)>()?, [(71.5, 1)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "object-store")]
    #[must_use]
    pub fn in_store(mut self, store: Arc<dyn ObjectStore>) -> Files {
        self.store = Some(bucket::Store::of(store));
        self
    }

    /// Has the files read again when a batch begins that is so much later than the one that read them last.
    ///
    /// If they cannot be read then, batches go on with what was read before, a warning says so, and the next batch tries again. Objects of a
    /// bucket are asked for then, and read only if one has changed; the batch waits for the store's answer.
    #[must_use]
    pub fn refreshed_every(mut self, interval: Duration) -> Files {
        self.every = Some(interval);
        self
    }

    pub(crate) fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Reads all rows.
    pub(crate) fn read(&self) -> Result<Rows> {
        self.read_again(None)?.ok_or_else(|| unreadable(&self.path, "there are no files"))
    }

    /// Reads all rows, unless it is known that they are what they were.
    pub(crate) fn read_again(&self, last: Option<&Stamp>) -> Result<Option<Rows>> {
        // A table may be overwritten while it is read.
        let mut tries = if self.saved { 3 } else { 1 };
        loop {
            tries -= 1;
            match self.read_once(last) {
                Err(_) if tries > 0 => {}
                read => return read,
            }
        }
    }

    fn read_once(&self, last: Option<&Stamp>) -> Result<Option<Rows>> {
        self.check()?;
        #[cfg(feature = "object-store")]
        if let Some(store) = &self.store {
            let address = self.path.to_string_lossy();
            let listed = store.list(&address)?;
            if last == Some(&listed) {
                return Ok(None);
            }
            let (schema, rows) = self.rows_in(store.fetch(&address, &listed)?)?;
            return Ok(Some(Rows { schema, rows, stamp: Some(listed) }));
        }
        // On a disk it costs as much to ask as to read, nearly.
        let _ = last;
        let files = if self.saved { list::of_saved(&self.path) } else { list::on_disk(&self.path) };
        let (schema, rows) = self.rows_in(files?)?;
        Ok(Some(Rows { schema, rows, stamp: None }))
    }

    fn rows_in(&self, mut files: Vec<Found>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        if files.is_empty() {
            return Err(unreadable(&self.path, "there are no files"));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let schema = match (self.schema.clone().transpose()?, self.kind) {
            (Some(schema), _) => Some(schema),
            (None, Kind::Csv(csv)) => Some(Arc::new(csv.infer(&self.path, &files)?)),
            (None, Kind::Json) => Some(Arc::new(text::infer_json(&self.path, &files)?)),
            (None, _) => None,
        };
        let folders: BTreeSet<String> =
            files.iter().flat_map(|file| &file.values).map(|(name, _)| name.clone()).collect();
        let mut batches: Vec<ArrowBatch> = Vec::new();
        for file in files {
            let before = file.state();
            let read = self.read_file(&file, schema.as_ref())?;
            if before != file.state() {
                return Err(unreadable(&file.path, "it changed while it was read: write files aside and rename them"));
            }
            batches.extend(read);
        }
        let (schema, all) = together(&self.path, batches, schema, &folders)?;
        Ok((schema, all.into_iter().map(RecordBatch::from).collect()))
    }

    fn read_file(&self, file: &Found, schema: Option<&SchemaRef>) -> Result<Vec<ArrowBatch>> {
        let own = |schema: &SchemaRef| -> SchemaRef {
            let of_file = |f: &&Arc<Field>| !file.values.iter().any(|(name, _)| name == f.name());
            Arc::new(Schema::new(schema.fields().iter().filter(of_file).cloned().collect::<Vec<_>>()))
        };
        let read = match (self.kind, schema) {
            (Kind::Csv(csv), Some(schema)) => csv.read(file, own(schema))?,
            (Kind::Json, Some(schema)) => text::read_json(file, own(schema))?,
            #[cfg(feature = "avro")]
            (Kind::Avro, _) => {
                let bytes = file.open()?.bytes();
                let read = bytes.map_err(|e| e.to_string()).and_then(|bytes| avro::read(&bytes));
                read.map_err(|e| unreadable(&file.path, &e))?
            }
            _ => match file.open()? {
                Content::Disk(file) => parquet(file),
                Content::Fetched(bytes) => parquet(bytes),
            }
            .map_err(|e| unreadable(&file.path, &e))?,
        };
        read.into_iter().map(|batch| file.with_values(batch)).collect()
    }

    /// Fails for what is not read, and says what is.
    fn check(&self) -> Result<()> {
        let text = self.path.to_string_lossy();
        let wrong = |what: &str| Err(Error::new(ErrorKind::Config, format!("{text} {what}")));
        if let Some((scheme, _)) = text.split_once("://")
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            if self.saved {
                return wrong("is in a store, and a table of a warehouse is read from its folder");
            }
            #[cfg(feature = "object-store")]
            if !self.store.as_ref().is_some_and(|store| store.is_reached_by(scheme)) {
                return wrong(&format!(
                    "is in a store that is reached by `{scheme}`: open it, and give it to Files::in_store"
                ));
            }
            #[cfg(not(feature = "object-store"))]
            return wrong(&format!(
                "is in a store that is reached by `{scheme}`: switch on the feature `object-store`, or copy the files into a folder"
            ));
        }
        let is_avro = self.path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("avro"));
        #[cfg(feature = "avro")]
        let is_avro = is_avro && self.kind != Kind::Avro;
        if is_avro {
            return wrong("is Avro: read it with Files::avro, or register_avro (feature `avro`)");
        }
        Ok(())
    }
}

/// What the files of a table were when it was read, where that can be asked for less than they are.
#[cfg(feature = "object-store")]
pub(crate) type Stamp = bucket::Stamp;
#[cfg(not(feature = "object-store"))]
pub(crate) type Stamp = Vec<std::convert::Infallible>;

/// The rows of files.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: Vec<RecordBatch>,
    pub(crate) stamp: Option<Stamp>,
}

/// Reads a file of Parquet: of one without rows, its columns.
fn parquet(file: impl ChunkReader + 'static) -> Result<Vec<ArrowBatch>, String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
    let none = ArrowBatch::new_empty(Arc::clone(builder.schema()));
    let reader = builder.with_batch_size(ROWS).build().map_err(|e| e.to_string())?;
    let mut batches = reader.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    if batches.is_empty() {
        batches.push(none);
    }
    Ok(batches)
}

fn unreadable(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Data, format!("{} cannot be read as a table: {text}", path.display()))
}

/// Puts what several files hold under one schema: the first one's, if none is given. What folders say is a column, too.
fn together(
    path: &Path,
    batches: Vec<ArrowBatch>,
    schema: Option<SchemaRef>,
    folders: &BTreeSet<String>,
) -> Result<(SchemaRef, Vec<ArrowBatch>)> {
    let first = batches.first().map(ArrowBatch::schema);
    let schema = match (first, schema) {
        (Some(first), Some(given)) => {
            let said = |field: &&Arc<Field>| folders.contains(field.name()) && given.index_of(field.name()).is_err();
            Arc::new(Schema::new(
                given.fields().iter().chain(first.fields().iter().filter(said)).cloned().collect::<Vec<_>>(),
            ))
        }
        (None, Some(given)) => given,
        (Some(first), None) => first,
        (None, None) => return Err(unreadable(path, "there are no rows, and so no columns")),
    };
    let fit = |batch: ArrowBatch| {
        let column = |field: &Arc<Field>| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| {
                unreadable(
                    path,
                    &format!("a file has no column `{}`, which others have or which was asked for", field.name()),
                )
            })?;
            cast(column, field.data_type()).map_err(|e| unreadable(path, &e.to_string()))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        ArrowBatch::try_new(Arc::clone(&schema), columns).map_err(|e| unreadable(path, &e.to_string()))
    };
    let batches = batches.into_iter().map(fit).collect::<Result<Vec<_>>>()?;
    Ok((schema, batches))
}
