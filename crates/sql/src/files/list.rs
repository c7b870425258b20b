//! Which files a path means: one, those of a folder, with columns in the names of its folders, or those that fit a pattern.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch as ArrowBatch, StringArray};
use datafusion::arrow::datatypes::{Field, Schema};
use millstream_core::Result;

use super::unreadable;
use crate::warehouse::{self, write::value_of};

/// A file, and the columns that the names of its folders are.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) values: Vec<(String, Option<String>)>,
    /// What is in it, of one that is not on a disk.
    pub(super) fetched: Option<Bytes>,
}

/// What is in a file.
pub(super) enum Content {
    Disk(File),
    Fetched(Bytes),
}

impl Content {
    #[cfg(feature = "avro")]
    pub(super) fn bytes(self) -> io::Result<Bytes> {
        match self {
            Content::Disk(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Content::Fetched(bytes) => Ok(bytes),
        }
    }

    pub(super) fn reader(self) -> Box<dyn Read> {
        match self {
            Content::Disk(file) => Box::new(file),
            Content::Fetched(bytes) => Box::new(io::Cursor::new(bytes)),
        }
    }
}

impl Found {
    pub(super) fn open(&self) -> Result<Content> {
        match &self.fetched {
            Some(bytes) => Ok(Content::Fetched(bytes.clone())),
            None => File::open(&self.path).map(Content::Disk).map_err(|e| unreadable(&self.path, &e.to_string())),
        }
    }

    /// What changes with it: its length, and when it was written. What was fetched does not change.
    pub(super) fn state(&self) -> Option<(u64, SystemTime)> {
        match &self.fetched {
            Some(_) => None,
            None => fs::metadata(&self.path).and_then(|m| Ok((m.len(), m.modified()?))).ok(),
        }
    }

    pub(super) fn with_values(&self, batch: ArrowBatch) -> Result<ArrowBatch> {
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

/// Says whether a path is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Lists the files on a disk that a path means.
pub(super) fn on_disk(path: &Path) -> Result<Vec<Found>> {
    let (text, mut found) = (path.to_string_lossy(), Vec::new());
    if is_pattern(&text) {
        let paths = glob::glob(&text).map_err(|e| unreadable(path, &format!("it is no pattern: {e}")))?;
        for path in paths {
            let path = path.map_err(|e| unreadable(e.path(), &e.error().to_string()))?;
            if !hidden(&name_of(&path)) {
                walk(&path, &[], &mut found)?;
            }
        }
    } else {
        walk(path, &[], &mut found)?;
    }
    Ok(found)
}

/// Lists the files of a saved table, which says itself what they are.
pub(super) fn of_saved(folder: &Path) -> Result<Vec<Found>> {
    let files = warehouse::files_of(folder)?.into_iter().map(|file| {
        let values = file.split('/').filter_map(value_in).collect();
        Found { path: folder.join(&file), values, fetched: None }
    });
    Ok(files.collect())
}

fn walk(path: &Path, values: &[(String, Option<String>)], found: &mut Vec<Found>) -> Result<()> {
    let bad = |e: io::Error| unreadable(path, &e.to_string());
    if !fs::metadata(path).map_err(bad)?.is_dir() {
        found.push(Found { path: path.to_owned(), values: values.to_vec(), fetched: None });
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(bad)? {
        let inside = entry.map_err(bad)?.path();
        let name = name_of(&inside);
        if hidden(&name) {
            continue;
        }
        let mut values = values.to_vec();
        if inside.is_dir() {
            values.extend(value_in(&name));
        }
        walk(&inside, &values, found)?;
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The column that a folder's name is: `day=2024-02-29`.
pub(super) fn value_in(folder: &str) -> Option<(String, Option<String>)> {
    folder.split_once('=').map(|(column, value)| (column.to_owned(), value_of(value)))
}

/// Says whether a file or a folder of this name is left out.
pub(super) fn hidden(name: &str) -> bool {
    // As Spark has it: a folder of a column's values may have a column whose name begins so.
    name.starts_with('.') || (name.starts_with('_') && !name.contains('='))
}
