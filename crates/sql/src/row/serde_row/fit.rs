//! Columns in the form in which a type of serde reads them: found by name, and cast where they mean the same.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::arrow::error::ArrowError;
use millstream_core::{Error, ErrorKind, Result};

use super::Shape;
use crate::row::fits::fitted;
use crate::row::nested::lists;
use crate::row::{ColumnsOf, no_nulls};

/// Gives the columns that a type reads, of those that there are.
pub(super) fn columns(shape: &Shape, fields: &Fields, arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    let from = ColumnsOf { fields, arrays, masked: None, inside: "" };
    found(shape.schema.fields(), &from, shape.alone)
}

fn found(wanted: &Fields, from: &ColumnsOf<'_>, by_position: bool) -> Result<Vec<ArrayRef>> {
    // The fields of a tuple have no names of their own.
    let is_place = |(i, field): (usize, &Arc<Field>)| *field.name() == format!("_{}", i + 1);
    let by_position = by_position || wanted.iter().enumerate().all(is_place);
    if by_position {
        from.count(wanted.len())?;
    }
    let column = |(i, field): (usize, &Arc<Field>)| {
        let place = if by_position { i } else { from.place(field.name())? };
        let name = if by_position { from.fields[place].name() } else { field.name() };
        fit(&from.arrays[place], field, from.masked, &format!("{}{name}", from.inside))
    };
    wanted.iter().enumerate().map(column).collect()
}

/// Gives a column in the form of a field; rows that are `masked` are null as a whole.
fn fit(column: &ArrayRef, field: &Field, masked: Option<&NullBuffer>, name: &str) -> Result<ArrayRef> {
    let is = called(field.data_type());
    let not_null = |column: &dyn Array| if field.is_nullable() { Ok(()) } else { no_nulls(column, masked, name, is) };
    let other =
        || Error::new(ErrorKind::Data, format!("the column `{name}` is {} and the field is {is}", column.data_type()));
    if *column.data_type() == DataType::Null {
        not_null(column)?;
        return Ok(new_null_array(field.data_type(), column.len()));
    }
    let bad = |e: ArrowError| Error::new(ErrorKind::Data, format!("the column `{name}` does not fit into {is}: {e}"));
    Ok(match field.data_type() {
        DataType::Struct(fields) => {
            let rows = column.as_struct_opt().ok_or_else(other)?;
            not_null(rows)?;
            let nulls = NullBuffer::union(masked, rows.nulls());
            let inside = format!("{name}.");
            let from =
                ColumnsOf { fields: rows.fields(), arrays: rows.columns(), masked: nulls.as_ref(), inside: &inside };
            let columns = found(fields, &from, false)?;
            Arc::new(StructArray::try_new(fields.clone(), columns, nulls).map_err(bad)?)
        }
        DataType::List(item) => {
            let lists = lists(column, name, is)?;
            not_null(&lists)?;
            let (_, offsets, values, nulls) = lists.into_parts();
            let values = fit(&values, item, None, &format!("{name}[]"))?;
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, nulls).map_err(bad)?)
        }
        DataType::Map(entries, sorted) => {
            let maps = column.as_map_opt().ok_or_else(other)?;
            not_null(maps)?;
            let DataType::Struct(pair) = entries.data_type() else { return Err(other()) };
            let keys = fit(maps.keys(), &pair[0], None, &format!("{name} (keys)"))?;
            let values = fit(maps.values(), &pair[1], None, &format!("{name} (values)"))?;
            let pairs = StructArray::try_new(pair.clone(), vec![keys, values], None).map_err(bad)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted).map_err(bad)?)
        }
        leaf => {
            let fitted = fitted(column, leaf, name, is)?;
            not_null(&fitted)?;
            fitted
        }
    })
}

/// What a field is called in errors, as it would be written.
fn called(of: &DataType) -> &'static str {
    match of {
        DataType::Boolean => "bool",
        DataType::Int8 => "i8",
        DataType::Int16 => "i16",
        DataType::Int32 => "i32",
        DataType::Int64 => "i64",
        DataType::UInt8 => "u8",
        DataType::UInt16 => "u16",
        DataType::UInt32 => "u32",
        DataType::UInt64 => "u64",
        DataType::Float32 => "f32",
        DataType::Float64 => "f64",
        DataType::Binary => "Bytes",
        DataType::List(_) => "Vec",
        DataType::Map(..) => "map",
        DataType::Struct(_) => "struct",
        _ => "String",
    }
}
