//! Columns that hold columns: lists, and rows inside of rows.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, NullBufferBuilder, StructArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Fields};
use millstream_core::{Error, ErrorKind, Result};

use super::cell::{Cell, of};
use super::{Row, inside, no_nulls};

/// Builds a column of lists.
#[doc(hidden)]
#[derive(Debug)]
pub struct ListCells<B> {
    values: B,
    ends: Vec<i32>,
    count: i32,
    nulls: NullBufferBuilder,
}

impl<C: Cell> Cell for Vec<C> {
    type Builder = ListCells<C::Builder>;
    type Reader = (ListArray, C::Reader);

    fn data_type() -> DataType {
        DataType::List(Arc::new(C::field("item")))
    }

    fn builder(rows: usize) -> Self::Builder {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        ListCells { values: C::builder(rows), ends, count: 0, nulls: NullBufferBuilder::new(rows) }
    }

    fn append_cell(&self, builder: &mut Self::Builder) {
        for value in self {
            value.append_cell(&mut builder.values);
        }
        let count = i32::try_from(self.len()).ok().and_then(|len| builder.count.checked_add(len));
        builder.count = count.expect("a column of lists holds less than 2^31 values");
        builder.ends.push(builder.count);
        builder.nulls.append_non_null();
    }

    fn append_null_cell(builder: &mut Self::Builder) {
        builder.ends.push(builder.count);
        builder.nulls.append_null();
    }

    fn finish(mut builder: Self::Builder) -> ArrayRef {
        let ends = OffsetBuffer::new(ScalarBuffer::from(builder.ends));
        Arc::new(ListArray::new(Arc::new(C::field("item")), ends, C::finish(builder.values), builder.nulls.finish()))
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader> {
        let lists = lists(column, name, of::<Self>())?;
        no_nulls(&lists, masked, name, of::<Self>())?;
        let reader = C::reader(lists.values(), None, &format!("{name}[]"))?;
        Ok((lists, reader))
    }

    fn read(reader: &Self::Reader, row: usize) -> Vec<C> {
        let (lists, values) = reader;
        let (start, end) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
        (start..end).map(|at| C::read(values, at as usize)).collect()
    }
}

/// Gives lists of whatever form as the plain one.
pub(super) fn lists(column: &ArrayRef, name: &str, of: &str) -> Result<ListArray> {
    let error = |text: String| Error::new(ErrorKind::Data, text);
    let item: &Arc<Field> = match column.data_type() {
        DataType::List(_) => return Ok(column.as_list::<i32>().clone()),
        DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => item,
        DataType::Null => {
            let item = Arc::new(Field::new("item", DataType::Null, true));
            return Ok(FixedSizeListArray::new_null(item, 0, column.len()).into());
        }
        other => return Err(error(format!("the column `{name}` is {other} and the field is {of}"))),
    };
    let plain = cast(column, &DataType::List(Arc::clone(item)))
        .map_err(|e| error(format!("the column `{name}` does not fit into {of}: {e}")))?;
    Ok(plain.as_list::<i32>().clone())
}

/// Builds a column of rows.
#[doc(hidden)]
#[derive(Debug)]
pub struct StructCells<B> {
    columns: B,
    rows: usize,
    nulls: NullBufferBuilder,
}

/// Reads a column of rows.
#[doc(hidden)]
pub type StructReader<T> = <T as Row>::Readers;

#[doc(hidden)]
impl<B> StructCells<B> {
    pub fn builder<T: Row<Builders = B>>(rows: usize) -> StructCells<B> {
        StructCells { columns: T::builders(rows), rows: 0, nulls: NullBufferBuilder::new(rows) }
    }

    pub fn push<T: Row<Builders = B>>(&mut self, row: &T) {
        row.append_row(&mut self.columns);
        self.rows += 1;
        self.nulls.append_non_null();
    }

    pub fn push_null<T: Row<Builders = B>>(&mut self) {
        T::append_null_row(&mut self.columns);
        self.rows += 1;
        self.nulls.append_null();
    }

    pub fn finish<T: Row<Builders = B>>(mut self) -> ArrayRef {
        let fields = Fields::from(T::fields());
        let columns = T::finish(self.columns);
        // A row has a column, so its length is that of each.
        Arc::new(StructArray::new(fields, columns, self.nulls.finish()))
    }

    pub fn reader<T: Row>(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<T::Readers> {
        if *column.data_type() == DataType::Null {
            let fields = Fields::from(T::fields());
            let nulls = StructArray::new_null(fields, column.len());
            no_nulls(&nulls, masked, name, of::<T>())?;
            return inside::<T>(&nulls, masked.or(nulls.nulls()), name);
        }
        let Some(rows) = column.as_struct_opt() else {
            let text = format!("the column `{name}` is {} and the field is the row {}", column.data_type(), of::<T>());
            return Err(Error::new(ErrorKind::Data, text));
        };
        no_nulls(rows, masked, name, of::<T>())?;
        inside::<T>(rows, masked, name)
    }
}

/// Makes a row a column, inside of other rows.
#[doc(hidden)]
#[macro_export]
macro_rules! cells_of_row {
    ([$($generics:tt)*] $row:ty [$($bounds:tt)*]) => {
        $crate::cells_of_row!(@ [$($generics)*] $row [$($bounds)*]);
    };
    (@ [$($generics:tt)*] $row:ty [$($bounds:tt)*]) => {
        #[automatically_derived]
        impl $($generics)* $crate::Cell for $row $($bounds)* {
            type Builder = $crate::StructCells<<Self as $crate::Row>::Builders>;
            type Reader = $crate::StructReader<Self>;

            fn data_type() -> $crate::arrow::datatypes::DataType {
                $crate::arrow::datatypes::DataType::Struct(<Self as $crate::Row>::fields().into())
            }

            fn builder(rows: usize) -> Self::Builder {
                $crate::StructCells::builder::<Self>(rows)
            }

            fn append_cell(&self, builder: &mut Self::Builder) {
                builder.push(self);
            }

            fn append_null_cell(builder: &mut Self::Builder) {
                builder.push_null::<Self>();
            }

            fn finish(builder: Self::Builder) -> $crate::arrow::array::ArrayRef {
                builder.finish::<Self>()
            }

            fn reader(
                column: &$crate::arrow::array::ArrayRef,
                masked: ::std::option::Option<&$crate::arrow::buffer::NullBuffer>,
                name: &str,
            ) -> $crate::Result<Self::Reader> {
                $crate::StructCells::<<Self as $crate::Row>::Builders>::reader::<Self>(column, masked, name)
            }

            fn read(reader: &Self::Reader, row: usize) -> Self {
                <Self as $crate::Row>::get(reader, row)
            }
        }
    };
}
