//! Files of Avro as columns: blocks of rows, each with the mark that its file has, so that a torn one is noticed and told by its place.
//!
//! ```text
//! Obj 1 · its schema and how blocks are packed · mark (16 bytes)
//! rows, bytes · data · mark          a block; nothing stands behind the last one
//! ```

use std::fmt::Display;
use std::io::Read as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_avro::reader::ReaderBuilder;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch as ArrowBatch, StringArray, StructArray, make_array,
    new_empty_array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use millstream_core::panicked;
use serde_json::Value;

use crate::columnar::ROWS;

const MAGIC: &[u8] = b"Obj\x01";
const MARK: usize = 16;

/// Reads a file: of one without rows, its columns.
///
/// A block is given to the reader alone, with its file's head before it: so it is known which one is wrong, and a reader that believes a wrong
/// number of rows does not go on for ever.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<ArrowBatch>, String> {
    let file = Framed::of(bytes)?;
    let none = caught(|| {
        let reader = ReaderBuilder::new().build(&*file.head).map_err(|e| e.to_string())?;
        let schema = reader.schema();
        let columns = schema.fields().iter().map(|f| new_empty_array(f.data_type())).collect();
        let none = ArrowBatch::try_new(schema, columns).map_err(|e| e.to_string())?;
        plain(&none)
    })?;
    let (mut batches, mut small, mut before) = (Vec::new(), Vec::new(), 0);
    for (i, block) in file.blocks.iter().enumerate().filter(|(_, block)| block.rows > 0) {
        let batch = caught(|| block.read(&file, bytes))
            .map_err(|e| format!("block {} at byte {}, behind row {before}: {e}", i + 1, block.at))?;
        before += batch.num_rows();
        small.push(batch);
        if small.iter().map(ArrowBatch::num_rows).sum::<usize>() >= ROWS {
            batches.push(together(&none.schema(), &mut small)?);
        }
    }
    if !small.is_empty() || batches.is_empty() {
        batches.push(together(&none.schema(), &mut small)?);
    }
    Ok(batches)
}

fn together(schema: &SchemaRef, batches: &mut Vec<ArrowBatch>) -> Result<ArrowBatch, String> {
    concat_batches(schema, &*std::mem::take(batches)).map_err(|e| e.to_string())
}

/// A reader of bytes that somebody has torn may not only say so.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|payload| {
        let error = panicked(&*payload);
        Err(error.message().split_once(": ").map_or(error.message(), |(_, text)| text).to_owned())
    })
}

/// Where everything is in a file.
#[derive(Debug)]
struct Framed {
    /// What stands before the first block, with names of types as the reader finds them again.
    head: Vec<u8>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    at: usize,
    rows: usize,
    whole: Range<usize>,
}

impl Block {
    fn read(&self, file: &Framed, bytes: &[u8]) -> Result<ArrowBatch, String> {
        let whole = file.head.chain(&bytes[self.whole.clone()]);
        // It ends with the rows of the block, and does not look for more.
        let mut reader = ReaderBuilder::new().with_batch_size(self.rows).build(whole).map_err(|e| e.to_string())?;
        let batch = reader.next().transpose().map_err(|e| e.to_string())?;
        match batch {
            Some(batch) if batch.num_rows() == self.rows => plain(&batch),
            other => {
                let rows = other.map_or(0, |batch| batch.num_rows());
                Err(format!("it says that it has {} rows, and has {rows}", self.rows))
            }
        }
    }
}

impl Framed {
    fn of(bytes: &[u8]) -> Result<Framed, String> {
        let mut rest = Rest { bytes, at: 0 };
        if rest.take(MAGIC.len()).ok() != Some(MAGIC) {
            return Err("it does not begin as a file of Avro does".to_owned());
        }
        let (pairs, mark) = rest.head().map_err(|e| format!("its head is torn: {e}"))?;
        let is_snappy = pairs.contains(&(b"avro.codec", b"snappy"));
        let (head, mut blocks) = (written_head(&pairs, mark)?, Vec::new());
        while rest.at < bytes.len() {
            let at = rest.at;
            let torn = |what: &dyn Display| format!("block {} at byte {at} is torn: {what}", blocks.len() + 1);
            let rows = rest.count("the number of its rows").map_err(|e| torn(&e))?;
            let len = rest.count("its length").map_err(|e| torn(&e))?;
            rest.take(len).map_err(|e| torn(&e))?;
            let own = rest.take(MARK).map_err(|e| torn(&e))?;
            if own != mark {
                return Err(torn(&format!("the mark behind it, at byte {}, is not the file's", rest.at - MARK)));
            }
            // Behind what Snappy packs stands a sum of four bytes.
            if is_snappy && len < 4 {
                return Err(torn(&"it has no checksum"));
            }
            blocks.push(Block { at, rows, whole: at..rest.at });
        }
        Ok(Framed { head, blocks })
    }
}

/// What is left to be looked at.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let there = self.bytes.len() - self.at;
        if len > there {
            return Err(format!(
                "at byte {} it should go on for {len} bytes, and the file ends after {there}",
                self.at
            ));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    /// A number of Avro: seven bits a byte, the low ones first, the sign at the end.
    fn long(&mut self) -> Result<i64, String> {
        let (mut bits, mut by) = (0u64, 0);
        loop {
            let byte = self.take(1)?[0];
            if by >= 63 && byte > 1 {
                return Err(format!("at byte {} there is no number", self.at - 1));
            }
            bits |= u64::from(byte & 0x7f) << by;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
            by += 7;
        }
    }

    fn count(&mut self, what: &str) -> Result<usize, String> {
        let number = self.long()?;
        usize::try_from(number).map_err(|_| format!("{what} cannot be {number}"))
    }

    /// Steps over the head, and returns what it says, and the mark at its end.
    fn head(&mut self) -> Result<(Vec<Pair<'a>>, &'a [u8]), String> {
        let mut all = Vec::new();
        loop {
            let pairs = self.long()?;
            if pairs == 0 {
                return Ok((all, self.take(MARK)?));
            }
            // A negative number has the length behind it.
            if pairs < 0 {
                self.long()?;
            }
            for _ in 0..pairs.unsigned_abs() {
                let len = self.count("the length of a name")?;
                let name = self.take(len)?;
                let len = self.count("the length of a value")?;
                all.push((name, self.take(len)?));
            }
        }
    }
}

/// Something that the head says, with its name.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Writes a head anew. The reader does not find types again whose names have their space in them, as `pumps.Point`: the space is said
/// by itself, which means the same.
fn written_head(pairs: &[Pair<'_>], mark: &[u8]) -> Result<Vec<u8>, String> {
    let mut head = MAGIC.to_vec();
    let number = |number: usize, head: &mut Vec<u8>| {
        let mut bits = (number as u64) << 1;
        while bits > 0x7f {
            head.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        head.push(bits as u8);
    };
    if !pairs.is_empty() {
        number(pairs.len(), &mut head);
    }
    for (name, value) in pairs {
        let spelled = match *name == b"avro.schema" {
            true => spelled_schema(value)?,
            false => value.to_vec(),
        };
        for part in [*name, &spelled] {
            number(part.len(), &mut head);
            head.extend_from_slice(part);
        }
    }
    number(0, &mut head);
    head.extend_from_slice(mark);
    Ok(head)
}

fn spelled_schema(schema: &[u8]) -> Result<Vec<u8>, String> {
    let mut schema: Value = serde_json::from_slice(schema).map_err(|e| format!("its schema is none: {e}"))?;
    spell(&mut schema);
    serde_json::to_vec(&schema).map_err(|e| e.to_string())
}

/// Says the spaces of the names of types by themselves, at any depth: readers of JSON allow only so many.
fn spell(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(spell),
        Value::Object(of) => {
            let is_named =
                of.get("type").and_then(Value::as_str).is_some_and(|t| matches!(t, "record" | "enum" | "fixed"));
            let split = of.get("name").and_then(Value::as_str).and_then(|name| name.rsplit_once('.'));
            if let (true, Some((space, name))) = (is_named, split.map(|(a, b)| (a.to_owned(), b.to_owned()))) {
                of.insert("namespace".to_owned(), Value::String(space));
                of.insert("name".to_owned(), Value::String(name));
            }
            for inside in ["type", "items", "values", "fields"] {
                of.get_mut(inside).into_iter().for_each(spell);
            }
        }
        _ => {}
    }
}

/// Gives columns in types that statements know: without zones, enums and addresses as texts, and what Spark leaves a number a number.
fn plain(batch: &ArrowBatch) -> Result<ArrowBatch, String> {
    let schema = batch.schema();
    let (fields, columns) = all_plain(schema.fields(), batch.columns(), "")?;
    ArrowBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| e.to_string())
}

fn all_plain(fields: &Fields, columns: &[ArrayRef], inside: &str) -> Result<(Fields, Vec<ArrayRef>), String> {
    let (mut plain_fields, mut plain_columns) = (Vec::new(), Vec::new());
    for (field, column) in fields.iter().zip(columns) {
        let column = plain_column(field, column, &format!("{inside}{}", field.name()))?;
        plain_fields.push(Field::new(field.name(), column.data_type().clone(), field.is_nullable()));
        plain_columns.push(column);
    }
    Ok((Fields::from(plain_fields), plain_columns))
}

fn plain_column(field: &Field, column: &ArrayRef, name: &str) -> Result<ArrayRef, String> {
    let bad = |e: &dyn Display| format!("the column `{name}`: {e}");
    let to = match field.data_type() {
        DataType::Struct(fields) => {
            let rows = column.as_struct();
            // What is within a record that is not there is not there: statements look at the one without the other.
            let columns = rows.columns().iter().map(|column| without(column, rows.nulls()));
            let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| bad(&e))?;
            let (mut fields, columns) = all_plain(fields, &columns, &format!("{name}."))?;
            if field.is_nullable() {
                fields = fields.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
            }
            let rows = StructArray::try_new(fields, columns, rows.nulls().cloned()).map_err(|e| bad(&e))?;
            return Ok(Arc::new(rows));
        }
        DataType::List(item) => {
            let lists = column.as_list::<i32>();
            let values = plain_column(item, lists.values(), &format!("{name}[]"))?;
            let item = Arc::new(Field::new(item.name(), values.data_type().clone(), item.is_nullable()));
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            return Ok(Arc::new(ListArray::try_new(item, offsets, values, nulls).map_err(|e| bad(&e))?));
        }
        DataType::Map(entries, sorted) => {
            let maps = column.as_map();
            let (pair, columns) = all_plain(maps.entries().fields(), maps.entries().columns(), &format!("{name}."))?;
            let pairs = StructArray::try_new(pair, columns, None).map_err(|e| bad(&e))?;
            let entries = Arc::new(Field::new(entries.name(), pairs.data_type().clone(), false));
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            return Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, nulls, *sorted).map_err(|e| bad(&e))?));
        }
        DataType::Union(_, _) => {
            let text = format!(
                "the column `{name}` is a union of several types, and a column has one: write it as null and one type, or as a \
                 record with a field for each"
            );
            return Err(text);
        }
        DataType::FixedSizeBinary(16) if field.metadata().get("logicalType").is_some_and(|of| of == "uuid") => {
            let bytes = column.as_fixed_size_binary();
            let texts = (0..bytes.len()).map(|row| bytes.is_valid(row).then(|| uuid(bytes.value(row))));
            return Ok(Arc::new(texts.collect::<StringArray>()));
        }
        DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, None),
        // Times of day, which Spark has not.
        DataType::Time32(_) => DataType::Int32,
        DataType::Time64(_) => DataType::Int64,
        _ => return Ok(Arc::clone(column)),
    };
    cast(column, &to).map_err(|e| bad(&e))
}

/// The same column, without what stands in rows that are not there.
fn without(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let nulls = NullBuffer::union(column.nulls(), nulls);
    column.to_data().into_builder().nulls(nulls).build().map(make_array)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
