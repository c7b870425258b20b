//! Columns of enums whose variants have no fields: each is the text of its name.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::DataType;
use millstream_core::{Error, ErrorKind, Result};

use super::cell::of;
use super::fits::fitted;
use super::no_nulls;
use crate::names;

/// An enum whose variants have names, and nothing else.
#[doc(hidden)]
pub trait Variants: Sized {
    /// What the variants are called, in their order.
    const NAMES: &'static [&'static str];

    /// The number of this one.
    fn place(&self) -> usize;
    /// The variant with a number.
    fn at(place: usize) -> Self;
}

/// The number of the variant in each row. Rows that are null have any.
#[doc(hidden)]
#[derive(Debug)]
pub struct VariantReader {
    places: Vec<u32>,
}

#[doc(hidden)]
impl VariantReader {
    pub fn new<T: Variants>(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<VariantReader> {
        let column = fitted(column, &DataType::Utf8, name, of::<T>())?;
        no_nulls(&column, masked, name, of::<T>())?;
        let texts = column.as_string::<i32>();
        let mut places = Vec::with_capacity(texts.len());
        for row in 0..texts.len() {
            let known = texts.is_valid(row) && masked.is_none_or(|mask| mask.is_valid(row));
            if !known {
                places.push(0);
                continue;
            }
            let text = texts.value(row);
            let Some(place) = T::NAMES.iter().position(|name| *name == text) else {
                let hint = names::nearest(text, T::NAMES.iter().copied());
                let hint = hint.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
                let all = names::listed(T::NAMES.iter().copied());
                let text =
                    format!("the column `{name}` holds `{text}`, and the field is {}{hint} There are {all}", of::<T>());
                return Err(Error::new(ErrorKind::Data, text));
            };
            places.push(place as u32);
        }
        Ok(VariantReader { places })
    }

    pub fn get<T: Variants>(&self, row: usize) -> T {
        T::at(self.places[row] as usize)
    }
}

/// Builds the column.
#[doc(hidden)]
#[derive(Debug)]
pub struct VariantCells(StringBuilder);

#[doc(hidden)]
impl VariantCells {
    pub fn new(rows: usize) -> VariantCells {
        VariantCells(StringBuilder::with_capacity(rows, rows * 8))
    }

    pub fn push<T: Variants>(&mut self, value: &T) {
        self.0.append_value(T::NAMES[value.place()]);
    }

    pub fn push_null(&mut self) {
        self.0.append_null();
    }

    pub fn finish(mut self) -> ArrayRef {
        std::sync::Arc::new(self.0.finish())
    }
}

/// Makes an enum a column, and a row of one.
#[doc(hidden)]
#[macro_export]
macro_rules! cells_of_variants {
    ($of:ty) => {
        #[automatically_derived]
        impl $crate::Cell for $of {
            type Builder = $crate::VariantCells;
            type Reader = $crate::VariantReader;

            fn data_type() -> $crate::arrow::datatypes::DataType {
                $crate::arrow::datatypes::DataType::Utf8
            }

            fn builder(rows: usize) -> Self::Builder {
                $crate::VariantCells::new(rows)
            }

            fn append_cell(&self, builder: &mut Self::Builder) {
                builder.push(self);
            }

            fn append_null_cell(builder: &mut Self::Builder) {
                builder.push_null();
            }

            fn finish(builder: Self::Builder) -> $crate::arrow::array::ArrayRef {
                builder.finish()
            }

            fn reader(
                column: &$crate::arrow::array::ArrayRef,
                masked: ::std::option::Option<&$crate::arrow::buffer::NullBuffer>,
                name: &str,
            ) -> $crate::Result<Self::Reader> {
                $crate::VariantReader::new::<Self>(column, masked, name)
            }

            fn read(reader: &Self::Reader, row: usize) -> Self {
                reader.get(row)
            }
        }

        #[automatically_derived]
        impl $crate::Row for $of {
            type Builders = $crate::VariantCells;
            type Readers = $crate::VariantReader;
            const BY_POSITION: bool = true;

            fn fields() -> ::std::vec::Vec<$crate::arrow::datatypes::Field> {
                ::std::vec![<Self as $crate::Cell>::field("value")]
            }

            fn builders(rows: usize) -> Self::Builders {
                $crate::VariantCells::new(rows)
            }

            fn append_row(&self, builders: &mut Self::Builders) {
                builders.push(self);
            }

            fn append_null_row(builders: &mut Self::Builders) {
                builders.push_null();
            }

            fn finish(builders: Self::Builders) -> ::std::vec::Vec<$crate::arrow::array::ArrayRef> {
                ::std::vec![builders.finish()]
            }

            fn readers(from: &$crate::ColumnsOf<'_>) -> $crate::Result<Self::Readers> {
                from.count(1)?;
                from.at::<Self>(0)
            }

            fn get(readers: &Self::Readers, row: usize) -> Self {
                readers.get(row)
            }
        }
    };
}
