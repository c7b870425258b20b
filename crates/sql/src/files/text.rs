//! Files of text as columns: CSV and JSON, and which columns they have.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::csv::ReaderBuilder as CsvReader;
use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::json::ReaderBuilder as JsonReader;
use datafusion::arrow::json::reader::infer_json_schema;
use millstream_core::Result;

use super::list::Found;
use super::unreadable;
use crate::columnar::ROWS;
use crate::names;

/// How lines of CSV are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Csv {
    pub(super) header: bool,
    pub(super) delimiter: u8,
}

impl Csv {
    fn format(self) -> Format {
        Format::default().with_header(self.header).with_delimiter(self.delimiter)
    }

    pub(super) fn read(self, file: &Found, schema: SchemaRef) -> Result<Vec<ArrowBatch>> {
        if self.header {
            self.check_header(file, &schema)?;
        }
        let reader = CsvReader::new(schema).with_format(self.format()).with_batch_size(ROWS);
        reader
            .build(file.open()?.reader())
            .and_then(|reader| reader.collect::<Result<_, _>>())
            .map_err(|e| unreadable(&file.path, &e.to_string()))
    }

    /// Columns of CSV are read by position: a header that says something else would be read as something that it is not.
    fn check_header(self, file: &Found, schema: &Schema) -> Result<()> {
        let (found, _) = self
            .format()
            .infer_schema(file.open()?.reader(), Some(0))
            .map_err(|e| unreadable(&file.path, &e.to_string()))?;
        let found: Vec<String> = found.fields().iter().map(|f| f.name().trim().to_lowercase()).collect();
        let wanted: Vec<String> = schema.fields().iter().map(|f| f.name().to_lowercase()).collect();
        if found == wanted {
            return Ok(());
        }
        let listed = |all: &[String]| names::listed(all.iter().map(String::as_str));
        let text = format!("its header is {}, and the table's is {}", listed(&found), listed(&wanted));
        Err(unreadable(&file.path, &text))
    }

    pub(super) fn infer(self, path: &Path, files: &[Found]) -> Result<Schema> {
        let mut all: Option<Schema> = None;
        for file in files {
            let (schema, _) = self
                .format()
                .infer_schema(file.open()?.reader(), None)
                .map_err(|e| unreadable(&file.path, &e.to_string()))?;
            let named = |(i, f): (usize, &Arc<Field>)| {
                let name = if self.header { f.name().trim().to_owned() } else { format!("_c{i}") };
                Field::new(name, settled(f.data_type()), true)
            };
            let schema = Schema::new(schema.fields().iter().enumerate().map(named).collect::<Vec<_>>());
            all = Some(match all {
                None => schema,
                Some(before) => widened(&before, &schema).map_err(|text| unreadable(&file.path, &text))?,
            });
        }
        all.ok_or_else(|| unreadable(path, "there are no files"))
    }
}

pub(super) fn read_json(file: &Found, schema: SchemaRef) -> Result<Vec<ArrowBatch>> {
    let reader = JsonReader::new(schema).with_batch_size(ROWS).build(BufReader::new(file.open()?.reader()));
    reader.and_then(|reader| reader.collect::<Result<_, _>>()).map_err(|e| unreadable(&file.path, &e.to_string()))
}

/// Finds the columns of all files together: an object may leave out what others have.
pub(super) fn infer_json(path: &Path, files: &[Found]) -> Result<Schema> {
    let mut all: Box<dyn Read> = Box::new(std::io::empty());
    for file in files {
        all = Box::new(all.chain(file.open()?.reader()).chain(&b"\n"[..]));
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
