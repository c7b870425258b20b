//! Rows as files of Parquet, written by tasks: aside, by the values of the columns that folders are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{RecordBatch as ArrowBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use millstream_core::disk::Disk;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{Error, ErrorKind, PartitionIter, Pass, Result, TaskContext};
use serde::{Deserialize, Serialize};

use super::manifest::{Columns, DataFile, columns_of};
use crate::batch::RecordBatch;
use crate::show::cast_to_texts;

/// What a folder of rows without a value is called, as Hive calls it.
pub(crate) const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a task has written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    /// The columns of its rows.
    pub(super) columns: Columns,
    pub(super) files: Vec<DataFile>,
}

/// Writes the rows of a partition.
pub(super) struct WriteRows {
    /// The folder of what is prepared.
    pub(super) folder: PathBuf,
    /// How the files' names begin.
    pub(super) name: String,
    pub(super) table: String,
    pub(super) by: Vec<String>,
}

impl Pass for WriteRows {
    type In = RecordBatch;
    type Out = Written;

    fn run(&self, rows: PartitionIter<RecordBatch>) -> Result<Vec<Written>> {
        let rows: Vec<ArrowBatch> = rows.map(Into::into).collect();
        let Some(schema) = rows.first().map(ArrowBatch::schema) else { return Ok(Vec::new()) };
        let columns = columns_of(&schema);
        let all = concat_batches(&schema, &rows).map_err(|e| self.wrong(&e.to_string()))?;
        let task = TaskContext::current().ok_or_else(|| millstream_core::bug!("rows are written outside of a task"))?;
        let disk = task.output_disk()?;
        let name = format!("{}-{:05}-{}.parquet", self.name, task.partition(), task.attempt());
        let files = write_files(&*disk, &self.folder, &name, &self.table, &self.by, &all)?;
        Ok(vec![Written { columns, files }])
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        let folder = self.folder.to_string_lossy().into_owned();
        w.value(&(folder, self.name.clone(), self.table.clone(), self.by.clone()))
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (folder, name, table, by): (String, String, String, Vec<String>) = r.value()?;
        Ok(WriteRows { folder: PathBuf::from(folder), name, table, by })
    }
}

/// Writes rows aside, a file for each folder that they go to.
pub(super) fn write_files(
    disk: &dyn Disk,
    aside: &Path,
    name: &str,
    table: &str,
    by: &[String],
    rows: &ArrowBatch,
) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    if rows.num_rows() == 0 {
        return Ok(files);
    }
    let wrong =
        |what: String| Error::new(ErrorKind::Data, format!("rows cannot be written to the table `{table}`: {what}"));
    for (folder, rows) in parted(rows, table, by)? {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let bytes = parquet(&rows).map_err(wrong)?;
        write_aside(disk, &aside.join(&path), &bytes)?;
        files.push(DataFile { path, rows: rows.num_rows() as u64, bytes: bytes.len() as u64 });
    }
    Ok(files)
}

impl WriteRows {
    fn wrong(&self, what: &str) -> Error {
        Error::new(ErrorKind::Data, format!("rows cannot be written to the table `{}`: {what}", self.table))
    }
}

/// Writes a file that is durable, its name too, when this returns.
pub(super) fn write_aside(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    disk.create_folder(folder)?;
    if disk.exists(path)? {
        // Of a task that ended with its process.
        disk.remove_file(path)?;
    }
    let mut file = disk.create(path)?;
    file.append(bytes)?;
    file.sync()?;
    disk.sync_folder(folder)
}

/// Encodes rows as a file of Parquet.
pub(super) fn parquet(rows: &ArrowBatch) -> Result<Vec<u8>, String> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let written = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).and_then(|mut writer| {
        writer.write(rows)?;
        writer.into_inner()
    });
    written.map_err(|e| e.to_string())
}

/// The columns that stay in files, and the places of those that folders are of.
pub(super) fn split(schema: &SchemaRef, table: &str, by: &[String]) -> Result<(Vec<usize>, Vec<usize>)> {
    let place = |name: &String| {
        let place = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        place.ok_or_else(|| {
            let all = crate::names::listed(schema.fields().iter().map(|field| field.name().as_str()));
            let text = format!(
                "the table `{table}` is in folders by `{name}`, and the rows have no such column. There are {all}"
            );
            Error::new(ErrorKind::Config, text)
        })
    };
    let folders = by.iter().map(place).collect::<Result<Vec<_>>>()?;
    let rest: Vec<usize> = (0..schema.fields().len()).filter(|at| !folders.contains(at)).collect();
    if rest.is_empty() {
        let text = format!("the table `{table}` is in folders by all of its columns: one must stay in the files");
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok((rest, folders))
}

/// Parts rows by the folders that they go to.
fn parted(rows: &ArrowBatch, table: &str, by: &[String]) -> Result<Vec<(String, ArrowBatch)>> {
    if by.is_empty() {
        return Ok(vec![(String::new(), rows.clone())]);
    }
    let wrong = |e: datafusion::arrow::error::ArrowError| Error::new(ErrorKind::Data, format!("`{table}`: {e}"));
    let (rest, folders) = split(&rows.schema(), table, by)?;
    let values = cast_to_texts(&RecordBatch::from(rows.project(&folders).map_err(wrong)?))?;
    let names: Vec<String> = folders.iter().map(|at| rows.schema().field(*at).name().clone()).collect();
    let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (row, values) in (0u32..).zip(&values) {
        let folder: Vec<String> =
            names.iter().zip(values).map(|(name, value)| folder_name(name, value.as_deref())).collect();
        groups.entry(folder.join("/")).or_default().push(row);
    }
    let kept = rows.project(&rest).map_err(wrong)?;
    let part = |(folder, rows): (String, Vec<u32>)| {
        Ok((folder, take_record_batch(&kept, &UInt32Array::from(rows)).map_err(wrong)?))
    };
    groups.into_iter().map(part).collect()
}

/// A folder's name, as Hive and Spark write it: what a name of a folder may not have is `%` and two digits.
fn folder_name(column: &str, value: Option<&str>) -> String {
    let escaped = |text: &str| {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_ascii_control() || "\"#%'*/:=?\\{[]^".contains(c) {
                out += &format!("%{:02X}", c as u32);
            } else {
                out.push(c);
            }
        }
        out
    };
    let value = value.filter(|value| !value.is_empty()).map_or_else(|| NO_VALUE.to_owned(), escaped);
    format!("{}={value}", escaped(column))
}

/// What a folder's name says: nothing if there is no value.
pub(crate) fn value_of(name: &str) -> Option<String> {
    if name == NO_VALUE {
        return None;
    }
    let mut out = Vec::with_capacity(name.len());
    let bytes = name.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match escaped.filter(|_| *byte == b'%').and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Some(String::from_utf8(out).unwrap_or_else(|_| name.to_owned()))
}

/// A column of Parquet cannot be of a type without values.
pub(super) fn check(schema: &SchemaRef, table: &str) -> Result<()> {
    match schema.fields().iter().find(|field| field.data_type().is_null()) {
        Some(field) => {
            let text =
                format!("the column `{}` of the table `{table}` has no type: write CAST(NULL AS …)", field.name());
            Err(Error::new(ErrorKind::Config, text))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::to_columns;

    #[test]
    fn folders_are_named_as_hive_names_them_and_read_back() {
        for (value, want) in [
            (Some("2024-02-29"), "day=2024-02-29"),
            (Some("a/b=c%d:e"), "day=a%2Fb%3Dc%25d%3Ae"),
            (Some("ü x"), "day=ü x"),
            (Some("\n"), "day=%0A"),
            (None, "day=__HIVE_DEFAULT_PARTITION__"),
        ] {
            let name = folder_name("day", value);
            assert_eq!(name, want);
            assert_eq!(value_of(name.split_once('=').unwrap().1).as_deref(), value);
        }
        assert_eq!(value_of("50%").as_deref(), Some("50%"), "of others");
    }

    #[test]
    fn rows_are_parted_by_the_values_of_columns_which_are_not_in_the_files() {
        let rows = to_columns(vec![
            ("x".to_owned(), Some(1i64), 0.5),
            ("y".to_owned(), None, 1.5),
            ("x".to_owned(), Some(1), 2.5),
        ]);
        let by = ["_2".to_owned(), "_1".to_owned()];
        let parts = parted(&rows.unwrap(), "t", &by).unwrap();
        let told: Vec<(&str, usize, usize)> =
            parts.iter().map(|(folder, rows)| (folder.as_str(), rows.num_rows(), rows.num_columns())).collect();
        assert_eq!(told, [("_2=1/_1=x", 2, 1), ("_2=__HIVE_DEFAULT_PARTITION__/_1=y", 1, 1)]);
        let rows = to_columns(vec![(1i64, 2i64)]).unwrap();
        for (by, want) in
            [(vec!["_3"], "the rows have no such column. There are _1, _2"), (vec!["_1", "_2"], "by all of its")]
        {
            let by: Vec<String> = by.into_iter().map(str::to_owned).collect();
            let error = parted(&rows, "t", &by).unwrap_err();
            assert!(error.message().contains(want), "{error}");
        }
    }
}
