//! Rows as bytes: how groups and their states are kept, sent and written to checkpoints. Arrow's own form for rows may change from
//! one version to the next; this one is ours, and a checkpoint outlives both.
//!
//! ```text
//! cell   0                 nothing
//!        1 ‖ bytes         a number as it lies in memory, little end first; a truth as 0 or 1
//!        1 ‖ n ‖ …         a text or bytes of n bytes; a list of n cells; n in groups of seven bits, the lowest first
//!        1 ‖ cells         a row inside of a row
//! row    its cells, one behind the other: their types are known
//! ```

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, ListArray,
    NullArray, StringArray, StringBuilder, StructArray, make_array,
};
use datafusion::arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields};
use millstream_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Cells as bytes: a group, or its state. Cloning it shares them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packed(Arc<[u8]>);

impl std::hash::Hash for Packed {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        hasher.write(&self.0);
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Packed, D::Error> {
        Ok(Packed(Arc::from(&*bytes::Bytes::deserialize(deserializer)?)))
    }
}

/// The type that cells of a type are written as: forms of the same thing are one. Nothing if such cells cannot be kept.
pub(super) fn kept_as(of: &DataType) -> Option<DataType> {
    let inside = |field: &FieldRef| Some(Arc::new(field.as_ref().clone().with_data_type(kept_as(field.data_type())?)));
    Some(match of {
        DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::Binary => of.clone(),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => kept_as(values)?,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            DataType::List(inside(field)?)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect::<Option<Fields>>()?),
        of if of.primitive_width().is_some() => of.clone(),
        _ => return None,
    })
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Data, format!("the state of a statement is damaged: {what}"))
}

fn uncast(e: &datafusion::arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, format!("a column cannot be kept in a state: {e}"))
}

/// Writes the rows of columns down.
pub(super) fn pack(columns: &[ArrayRef], rows: usize) -> Result<Vec<Packed>> {
    let columns = columns.iter().map(Column::of).collect::<Result<Vec<_>>>()?;
    let mut bytes = Vec::new();
    let packed = (0..rows).map(|row| {
        bytes.clear();
        columns.iter().for_each(|column| column.put(row, &mut bytes));
        Packed(Arc::from(bytes.as_slice()))
    });
    Ok(packed.collect())
}

/// Reads columns of these types from rows.
pub(super) fn unpack<'a>(types: &[DataType], rows: impl Iterator<Item = &'a Packed>) -> Result<Vec<ArrayRef>> {
    let kept = types.iter().map(|of| kept_as(of).ok_or_else(|| broken(&format!("{of} is not kept"))));
    let mut readers = kept.map(|of| Ok(Reader::of(&of?))).collect::<Result<Vec<_>>>()?;
    for row in rows {
        let mut bytes = &*row.0;
        readers.iter_mut().try_for_each(|reader| reader.take(&mut bytes))?;
        if !bytes.is_empty() {
            return Err(broken("a row has more cells than columns"));
        }
    }
    let columns = readers.into_iter().zip(types).map(|(reader, of)| {
        let column = reader.finish()?;
        if column.data_type() == of { Ok(column) } else { cast(&column, of).map_err(|e| uncast(&e)) }
    });
    columns.collect()
}

/// A column whose cells are written, in the form of their type.
struct Column {
    nulls: Option<NullBuffer>,
    cells: Cells,
}

enum Cells {
    Nothing,
    /// Values of so many bytes.
    Fixed(Buffer, usize),
    Truths(BooleanArray),
    Texts(StringArray),
    Bytes(BinaryArray),
    List(OffsetBuffer<i32>, Box<Column>),
    Row(Vec<Column>),
}

impl Column {
    fn of(array: &ArrayRef) -> Result<Column> {
        let kept = kept_as(array.data_type()).ok_or_else(|| broken(&format!("{} is not kept", array.data_type())))?;
        let array =
            if kept == *array.data_type() { Arc::clone(array) } else { cast(array, &kept).map_err(|e| uncast(&e))? };
        let cells = match &kept {
            DataType::Null => Cells::Nothing,
            DataType::Boolean => Cells::Truths(array.as_boolean().clone()),
            DataType::Utf8 => Cells::Texts(array.as_string().clone()),
            DataType::Binary => Cells::Bytes(array.as_binary().clone()),
            DataType::List(_) => {
                let list: &ListArray = array.as_list();
                Cells::List(list.offsets().clone(), Box::new(Column::of(list.values())?))
            }
            DataType::Struct(_) => {
                Cells::Row(array.as_struct().columns().iter().map(Column::of).collect::<Result<_>>()?)
            }
            other => {
                let width = other.primitive_width().ok_or_else(|| broken("a value has no width"))?;
                let data = array.to_data();
                let values = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Cells::Fixed(alike(other, values), width)
            }
        };
        Ok(Column { nulls: array.logical_nulls(), cells })
    }

    fn put(&self, row: usize, out: &mut Vec<u8>) {
        if matches!(self.cells, Cells::Nothing) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return out.push(0);
        }
        out.push(1);
        let sized = |bytes: &[u8], out: &mut Vec<u8>| {
            put_count(bytes.len(), out);
            out.extend_from_slice(bytes);
        };
        match &self.cells {
            Cells::Nothing => {}
            Cells::Fixed(values, width) => out.extend_from_slice(&values[row * width..(row + 1) * width]),
            Cells::Truths(values) => out.push(u8::from(values.value(row))),
            Cells::Texts(values) => sized(values.value(row).as_bytes(), out),
            Cells::Bytes(values) => sized(values.value(row), out),
            Cells::List(offsets, values) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                put_count(to - from, out);
                (from..to).for_each(|at| values.put(at, out));
            }
            Cells::Row(columns) => columns.iter().for_each(|column| column.put(row, out)),
        }
    }
}

/// Writes floats that are equal the same: there is one zero, and one NaN. Groups are told apart by their bytes, as Spark tells them.
fn alike(of: &DataType, values: Buffer) -> Buffer {
    match of {
        DataType::Float64 => {
            let one = |v: &f64| if v.is_nan() { f64::NAN } else { *v + 0.0 };
            Buffer::from_vec(values.typed_data::<f64>().iter().map(one).collect::<Vec<_>>())
        }
        DataType::Float32 => {
            let one = |v: &f32| if v.is_nan() { f32::NAN } else { *v + 0.0 };
            Buffer::from_vec(values.typed_data::<f32>().iter().map(one).collect::<Vec<_>>())
        }
        _ => values,
    }
}

fn put_count(mut n: usize, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(n).ok_or_else(|| broken("a row ends in the midst of a cell"))?;
    *bytes = rest;
    Ok(taken)
}

fn take_count(bytes: &mut &[u8]) -> Result<usize> {
    let mut n = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = take(bytes, 1)?[0];
        n |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(broken("a cell is longer than any"))
}

/// Makes a column of cells that are read.
struct Reader {
    of: DataType,
    there: Vec<bool>,
    values: Values,
}

enum Values {
    Nothing,
    Fixed(Vec<u8>, usize),
    Truths(BooleanBuilder),
    Texts(StringBuilder),
    Bytes(BinaryBuilder),
    List(FieldRef, Vec<i32>, Box<Reader>),
    Row(Fields, Vec<Reader>),
}

impl Reader {
    fn of(of: &DataType) -> Reader {
        let values = match of {
            DataType::Null => Values::Nothing,
            DataType::Boolean => Values::Truths(BooleanBuilder::new()),
            DataType::Utf8 => Values::Texts(StringBuilder::new()),
            DataType::Binary => Values::Bytes(BinaryBuilder::new()),
            DataType::List(field) => Values::List(Arc::clone(field), vec![0], Box::new(Reader::of(field.data_type()))),
            DataType::Struct(fields) => {
                Values::Row(fields.clone(), fields.iter().map(|field| Reader::of(field.data_type())).collect())
            }
            other => Values::Fixed(Vec::new(), other.primitive_width().unwrap_or_default()),
        };
        Reader { of: of.clone(), there: Vec::new(), values }
    }

    /// Adds a cell that is not there.
    fn skip(&mut self) {
        self.there.push(false);
        match &mut self.values {
            Values::Nothing => {}
            Values::Fixed(values, width) => values.resize(values.len() + *width, 0),
            Values::Truths(values) => values.append_null(),
            Values::Texts(values) => values.append_null(),
            Values::Bytes(values) => values.append_null(),
            Values::List(_, offsets, _) => offsets.extend(offsets.last().copied()),
            Values::Row(_, columns) => columns.iter_mut().for_each(Reader::skip),
        }
    }

    fn take(&mut self, bytes: &mut &[u8]) -> Result<()> {
        match take(bytes, 1)?[0] {
            0 => {
                self.skip();
                return Ok(());
            }
            1 => self.there.push(true),
            _ => return Err(broken("a cell is neither there nor not")),
        }
        match &mut self.values {
            Values::Nothing => return Err(broken("a cell is there that has no value")),
            Values::Fixed(values, width) => values.extend_from_slice(take(bytes, *width)?),
            Values::Truths(values) => values.append_value(take(bytes, 1)?[0] != 0),
            Values::Texts(values) => {
                let n = take_count(bytes)?;
                let text = std::str::from_utf8(take(bytes, n)?).map_err(|_| broken("a text is none"))?;
                values.append_value(text);
            }
            Values::Bytes(values) => {
                let n = take_count(bytes)?;
                values.append_value(take(bytes, n)?);
            }
            Values::List(_, offsets, cells) => {
                let n = take_count(bytes)?;
                for _ in 0..n {
                    cells.take(bytes)?;
                }
                let end = i32::try_from(cells.there.len()).map_err(|_| broken("lists are longer than columns are"))?;
                offsets.push(end);
            }
            Values::Row(_, columns) => columns.iter_mut().try_for_each(|column| column.take(bytes))?,
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef> {
        let rows = self.there.len();
        let nulls = NullBuffer::from(self.there);
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        Ok(match self.values {
            Values::Nothing => Arc::new(NullArray::new(rows)),
            Values::Truths(mut values) => Arc::new(values.finish()),
            Values::Texts(mut values) => Arc::new(values.finish()),
            Values::Bytes(mut values) => Arc::new(values.finish()),
            Values::Fixed(values, _) => {
                let data = ArrayData::builder(self.of)
                    .len(rows)
                    .add_buffer(Buffer::from_vec(values))
                    .nulls(nulls)
                    .align_buffers(true)
                    .build();
                make_array(data.map_err(|e| uncast(&e))?)
            }
            Values::List(field, offsets, cells) => {
                let list = ListArray::try_new(field, OffsetBuffer::new(offsets.into()), cells.finish()?, nulls);
                Arc::new(list.map_err(|e| uncast(&e))?)
            }
            Values::Row(fields, columns) => {
                let columns = columns.into_iter().map(Reader::finish).collect::<Result<Vec<_>>>()?;
                let row = StructArray::try_new_with_length(fields, columns, nulls, rows);
                Arc::new(row.map_err(|e| uncast(&e))?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        Decimal128Array, DictionaryArray, Float64Array, Int64Array, StringViewArray, TimestampMicrosecondArray,
    };
    use datafusion::arrow::datatypes::{Field, Int32Type};
    use millstream_core::codec;

    use super::*;

    fn there_and_back(columns: &[ArrayRef]) {
        let rows = columns[0].len();
        let packed = pack(columns, rows).unwrap();
        let packed: Vec<Packed> = codec::decode(&codec::encode(&packed).unwrap()).unwrap();
        let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
        let back = unpack(&types, packed.iter()).unwrap();
        for (column, back) in columns.iter().zip(&back) {
            assert_eq!(column.as_ref(), back.as_ref());
        }
    }

    #[test]
    fn columns_of_every_kind_are_themselves_again_after_they_were_rows() {
        let list =
            |rows: Vec<Option<Vec<Option<i32>>>>| Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows));
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("")]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), None, Some(i64::MAX)]));
        let lists: ArrayRef = list(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
        let fields =
            Fields::from(vec![Field::new("w", DataType::Utf8, true), Field::new("l", lists.data_type().clone(), true)]);
        let nulls = NullBuffer::from(vec![true, false, true]);
        let nested = StructArray::new(fields, vec![Arc::clone(&words), Arc::clone(&lists)], Some(nulls));
        let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y")].into_iter().collect();
        let decimal = Decimal128Array::from(vec![Some(i128::MAX / 10), None, Some(-5)]).with_precision_and_scale(38, 2);
        there_and_back(&[
            words,
            numbers,
            lists,
            Arc::new(nested),
            Arc::new(dictionary),
            Arc::new(decimal.unwrap()),
            Arc::new(StringViewArray::from(vec![Some("longer than twelve bytes"), None, Some("ü")])),
            Arc::new(BinaryArray::from(vec![Some(&b"\0\xff"[..]), None, Some(b"")])),
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("UTC")),
            Arc::new(NullArray::new(3)),
        ]);
        let sliced: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]).slice(1, 2));
        let lists: ArrayRef = Arc::new(list((0..4).map(|i| Some(vec![Some(i); 3])).collect()).slice(2, 2));
        there_and_back(&[sliced, lists]);
    }

    #[test]
    fn the_form_of_a_row_is_a_format() {
        let columns: [ArrayRef; 4] = [
            Arc::new(StringArray::from(vec!["ab"])),
            Arc::new(Int64Array::from(vec![Some(258)])),
            Arc::new(Int64Array::from(vec![None])),
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])])),
        ];
        let packed = pack(&columns, 1).unwrap();
        assert_eq!(&*packed[0].0, b"\x01\x02ab\x01\x02\x01\0\0\0\0\0\0\0\x01\x02\x01\x01\0\0\0\0");
    }

    #[test]
    fn groups_of_floats_that_are_equal_are_the_same_bytes() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 | (1 << 63));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan, 1.5]));
        let packed = pack(&[floats], 5).unwrap();
        assert!(packed[0] == packed[1] && packed[2] == packed[3] && packed[0] != packed[4]);
    }

    #[test]
    fn bytes_that_are_no_row_are_an_error() {
        let types = [DataType::Utf8, DataType::List(Arc::new(Field::new("item", DataType::Int64, true)))];
        for bytes in [
            &b""[..],
            b"\x01",
            b"\x01\x05ab",
            b"\x02",
            b"\0\0\0",
            b"\x01\x02\xff\xff\0",
            b"\0\x01\xff\xff\xff\xff\xff\xff",
            b"\0\x01\x03\0",
        ] {
            let error = unpack(&types, [Packed(Arc::from(bytes))].iter()).unwrap_err();
            assert!(error.message().starts_with("the state of a statement is damaged"), "{error}");
        }
    }
}
