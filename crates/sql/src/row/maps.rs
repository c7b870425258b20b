//! Columns of maps.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, MapArray, NullBufferBuilder, StructArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use millstream_core::{Error, ErrorKind, Result};

use super::cell::{Cell, of};
use super::no_nulls;

/// Builds a column of maps.
#[doc(hidden)]
#[derive(Debug)]
pub struct MapCells<K, V> {
    keys: K,
    values: V,
    ends: Vec<i32>,
    count: i32,
    nulls: NullBufferBuilder,
}

impl<K, V> MapCells<K, V> {
    fn end(&mut self, more: usize) {
        let count = i32::try_from(more).ok().and_then(|more| self.count.checked_add(more));
        self.count = count.expect("a column of maps holds less than 2^31 pairs");
        self.ends.push(self.count);
    }
}

/// Key and value of a pair, under the names that they have in Spark.
fn pair<K: Cell, V: Cell>() -> Fields {
    Fields::from(vec![K::field("key").with_nullable(false), V::field("value")])
}

fn entries<K: Cell, V: Cell>() -> FieldRef {
    Arc::new(Field::new("entries", DataType::Struct(pair::<K, V>()), false))
}

/// Gives maps, and the readers of their keys and values.
fn reader<M, K: Cell, V: Cell>(
    column: &ArrayRef,
    masked: Option<&NullBuffer>,
    name: &str,
) -> Result<(MapArray, K::Reader, V::Reader)> {
    let maps = match column.data_type() {
        DataType::Map(..) => column.as_map().clone(),
        DataType::Null => {
            let none = StructArray::new_null(pair::<K, V>(), 0);
            let offsets = OffsetBuffer::new_zeroed(column.len());
            MapArray::new(entries::<K, V>(), offsets, none, Some(NullBuffer::new_null(column.len())), false)
        }
        other => {
            let text = format!("the column `{name}` is {other} and the field is {}", of::<M>());
            return Err(Error::new(ErrorKind::Data, text));
        }
    };
    no_nulls(&maps, masked, name, of::<M>())?;
    let keys = K::reader(maps.keys(), None, &format!("{name} (keys)"))?;
    let values = V::reader(maps.values(), None, &format!("{name} (values)"))?;
    Ok((maps, keys, values))
}

macro_rules! maps {
    ([$($generics:tt)*] $map:ty) => {
        impl<V: Cell, $($generics)*> Cell for $map {
            type Builder = MapCells<K::Builder, V::Builder>;
            type Reader = (MapArray, K::Reader, V::Reader);

            fn data_type() -> DataType {
                DataType::Map(entries::<K, V>(), false)
            }

            fn builder(rows: usize) -> Self::Builder {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                let (keys, values) = (K::builder(rows), V::builder(rows));
                MapCells { keys, values, ends, count: 0, nulls: NullBufferBuilder::new(rows) }
            }

            fn append_cell(&self, builder: &mut Self::Builder) {
                for (key, value) in self {
                    key.append_cell(&mut builder.keys);
                    value.append_cell(&mut builder.values);
                }
                builder.end(self.len());
                builder.nulls.append_non_null();
            }

            fn append_null_cell(builder: &mut Self::Builder) {
                builder.end(0);
                builder.nulls.append_null();
            }

            fn finish(mut builder: Self::Builder) -> ArrayRef {
                let pairs = vec![K::finish(builder.keys), V::finish(builder.values)];
                let pairs = StructArray::new(pair::<K, V>(), pairs, None);
                let ends = OffsetBuffer::new(ScalarBuffer::from(builder.ends));
                Arc::new(MapArray::new(entries::<K, V>(), ends, pairs, builder.nulls.finish(), false))
            }

            fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader> {
                reader::<Self, K, V>(column, masked, name)
            }

            fn read((maps, keys, values): &Self::Reader, row: usize) -> Self {
                let (start, end) = (maps.value_offsets()[row], maps.value_offsets()[row + 1]);
                (start..end).map(|at| (K::read(keys, at as usize), V::read(values, at as usize))).collect()
            }
        }
    };
}

maps!([K: Cell + Ord] BTreeMap<K, V>);
maps!([K: Cell + Eq + Hash, S: BuildHasher + Default + Clone + Send + Sync + 'static] HashMap<K, V, S>);
