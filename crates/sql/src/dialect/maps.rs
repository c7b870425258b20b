//! Functions of maps that mean what Spark means by them.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, MapArray, MapBuilder, StringBuilder, UInt32Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::Result;
use millstream_core::ErrorKind;

use super::days::fits;
use super::texts::{Takes, wrong};
use super::typed::{Typed, common};

/// The functions of this file.
pub(super) static MAPS: [Typed; 3] = [
    Typed {
        name: "map_contains_key",
        says: "a map and a key of its type",
        takes: |types| match types {
            [map @ DataType::Map(entries, _), key] => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let of = fields.first()?.data_type();
                (common(&[of.clone(), key.clone()])? == *of).then(|| vec![map.clone(), of.clone()])
            }
            _ => None,
        },
        gives: |_| DataType::Boolean,
        compute: contains_key,
    },
    Typed {
        name: "map_concat",
        says: "maps of one type",
        takes: |types| {
            let first = types.first().filter(|of| matches!(of, DataType::Map(..)))?;
            types.iter().all(|of| of == first).then(|| types.to_vec())
        },
        gives: |types| types[0].clone(),
        compute: joined,
    },
    Typed {
        name: "str_to_map",
        says: "a text, what stands between pairs, and what in them",
        takes: |types| fits(types, &[Takes::Text, Takes::Text, Takes::Text], 2),
        gives: |_| text_map(),
        compute: of_text,
    },
];

fn text_map() -> DataType {
    let fields = [Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(Fields::from(fields.to_vec())), false)), false)
}

fn range(maps: &MapArray, row: usize) -> Option<std::ops::Range<usize>> {
    let offsets = maps.value_offsets();
    maps.is_valid(row).then(|| offsets[row] as usize..offsets[row + 1] as usize)
}

fn contains_key(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (maps, keys) = (columns[0].as_map(), &columns[1]);
    let has = |row: usize| {
        let mut range = range(maps, row).filter(|_| keys.is_valid(row))?;
        let key = keys.slice(row, 1);
        Some(range.any(|at| maps.keys().slice(at, 1).as_ref() == key.as_ref()))
    };
    Ok(Arc::new((0..maps.len()).map(has).collect::<BooleanArray>()))
}

fn twice(key: &str) -> datafusion::common::DataFusionError {
    wrong(ErrorKind::Data, format!("the key {key} stands twice in a map: each key stands there once"))
}

fn joined(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let maps: Vec<&MapArray> = columns.iter().map(|column| column.as_map()).collect();
    let entries: Vec<&dyn Array> = maps.iter().map(|map| map.entries() as &dyn Array).collect();
    let (all, DataType::Map(field, sorted)) = (concat(&entries)?, columns[0].data_type()) else {
        return Err(wrong(ErrorKind::Internal, "map_concat of what is no map".to_owned()));
    };
    let (mut places, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..columns[0].len() {
        let before = places.len();
        let mut own = 0;
        let known = maps.iter().all(|map| map.is_valid(row));
        for map in &maps {
            places.extend(range(map, row).filter(|_| known).into_iter().flatten().map(|at| (own + at) as u32));
            own += map.entries().len();
        }
        lengths.push(places.len() - before);
        valid.push(known);
    }
    let entries = take(&all, &UInt32Array::from(places), None)?;
    let entries = entries.as_struct().clone();
    let offsets = OffsetBuffer::from_lengths(lengths);
    let keys = crate::show::texts(entries.column(0), "null").map_err(|e| wrong(e.kind(), e.message().to_owned()))?;
    for ends in offsets.windows(2) {
        let mut seen = HashSet::new();
        if let Some(key) = keys[ends[0] as usize..ends[1] as usize].iter().flatten().find(|key| !seen.insert(*key)) {
            return Err(twice(key));
        }
    }
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(MapArray::try_new(Arc::clone(field), offsets, entries, Some(nulls), *sorted)?))
}

fn of_text(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = columns[0].as_string::<i32>();
    let names = datafusion::arrow::array::MapFieldNames::default();
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..texts.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            maps.append(false)?;
            continue;
        }
        let given = |at: usize, standard| columns.get(at).map_or(standard, |c| c.as_string::<i32>().value(row));
        let (between, inside) = (given(1, ","), given(2, ":"));
        if [between, inside].iter().any(|text| text.is_empty() || !text.chars().all(|c| !"\\.[]{}()*+?^$|".contains(c)))
        {
            let text = "str_to_map: what stands between is a plain text here, and no pattern";
            return Err(wrong(ErrorKind::Config, text.to_owned()));
        }
        let mut seen = HashSet::new();
        for pair in texts.value(row).split(between) {
            let (key, value) = pair.split_once(inside).map_or((pair, None), |(key, value)| (key, Some(value)));
            if !seen.insert(key) {
                return Err(twice(key));
            }
            maps.keys().append_value(key);
            maps.values().append_option(value);
        }
        maps.append(true)?;
    }
    let maps: ArrayRef = Arc::new(maps.finish());
    Ok(datafusion::arrow::compute::cast(&maps, &text_map())?)
}
