//! What one column may hold: numbers, text, times, days, and options of them.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, BooleanBuilder, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMillisecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use millstream_core::{Data, Error, ErrorKind, Result, Text, Time};

use super::fits::fitted;
use super::no_nulls;
use super::values::{Date, Decimal};

/// What a column of a [`Row`](super::Row) may hold.
///
/// It is implemented for numbers, `bool`, text, bytes, times, days, decimals, `Option`, `Vec` and maps of those, and all rows.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column",
    label = "SQL has no type for it",
    note = "columns hold numbers, `bool`, `String`, `Text`, `Bytes`, `Time`, `Date`, `Decimal`, an `Option`, a `Vec` or a map of those, and rows",
    note = "a struct, or an enum without fields, is a column if it has `#[derive(Row)]`"
)]
pub trait Cell: Data {
    /// Builds the column.
    #[doc(hidden)]
    type Builder: Send;
    /// Reads the column.
    #[doc(hidden)]
    type Reader: Send + Sync;
    /// Whether it may be null.
    #[doc(hidden)]
    const NULLABLE: bool = false;

    /// Returns the type of the column.
    fn data_type() -> DataType;

    /// Returns the column under a name.
    fn field(name: &str) -> Field {
        Field::new(name, Self::data_type(), Self::NULLABLE)
    }

    #[doc(hidden)]
    fn builder(rows: usize) -> Self::Builder;
    #[doc(hidden)]
    fn append_cell(&self, builder: &mut Self::Builder);
    #[doc(hidden)]
    fn append_null_cell(builder: &mut Self::Builder);
    #[doc(hidden)]
    fn finish(builder: Self::Builder) -> ArrayRef;
    /// Prepares to read `column`; rows that are `masked` are not asked for.
    #[doc(hidden)]
    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader>;
    #[doc(hidden)]
    fn read(reader: &Self::Reader, row: usize) -> Self;
}

/// Gives the column in the type of `C`, free of nulls.
fn ready<C: Cell>(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<ArrayRef> {
    let of = of::<C>();
    let fitted = fitted(column, &C::data_type(), name, of)?;
    no_nulls(&fitted, masked, name, of)?;
    Ok(fitted)
}

/// What a type is called in errors: its own name, without where it is from.
pub(super) fn of<C>() -> &'static str {
    let name = std::any::type_name::<C>();
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name) }
}

macro_rules! numbers {
    ($($rust:ty => $arrow:ty, $data_type:expr, |$value:ident| $write:expr, |$raw:ident| $read:expr;)*) => {$(
        impl Cell for $rust {
            type Builder = PrimitiveBuilder<$arrow>;
            type Reader = PrimitiveArray<$arrow>;

            fn data_type() -> DataType {
                $data_type
            }

            fn builder(rows: usize) -> Self::Builder {
                PrimitiveBuilder::with_capacity(rows)
            }

            fn append_cell(&self, builder: &mut Self::Builder) {
                let $value = *self;
                builder.append_value($write);
            }

            fn append_null_cell(builder: &mut Self::Builder) {
                builder.append_null();
            }

            fn finish(mut builder: Self::Builder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader> {
                Ok(ready::<$rust>(column, masked, name)?.as_primitive::<$arrow>().clone())
            }

            fn read(reader: &Self::Reader, row: usize) -> $rust {
                let $raw = reader.value(row);
                $read
            }
        }
    )*};
}

numbers! {
    i8 => Int8Type, DataType::Int8, |v| v, |v| v;
    i16 => Int16Type, DataType::Int16, |v| v, |v| v;
    i32 => Int32Type, DataType::Int32, |v| v, |v| v;
    i64 => Int64Type, DataType::Int64, |v| v, |v| v;
    u8 => UInt8Type, DataType::UInt8, |v| v, |v| v;
    u16 => UInt16Type, DataType::UInt16, |v| v, |v| v;
    u32 => UInt32Type, DataType::UInt32, |v| v, |v| v;
    u64 => UInt64Type, DataType::UInt64, |v| v, |v| v;
    f32 => Float32Type, DataType::Float32, |v| v, |v| v;
    f64 => Float64Type, DataType::Float64, |v| v, |v| v;
    Time => TimestampMillisecondType, DataType::Timestamp(TimeUnit::Millisecond, None),
        |v| v.as_millis(), |v| Time::from_millis(v);
    Date => Date32Type, DataType::Date32, |v| v.days(), |v| Date::from_days(v);
}

impl<const P: u8, const S: i8> Cell for Decimal<P, S> {
    type Builder = PrimitiveBuilder<Decimal128Type>;
    type Reader = PrimitiveArray<Decimal128Type>;

    fn data_type() -> DataType {
        const {
            assert!(
                P >= 1 && P <= 38 && S >= 0 && S as u8 <= P,
                "a decimal has 1 to 38 digits, and its scale among them"
            )
        };
        DataType::Decimal128(P, S)
    }

    fn builder(rows: usize) -> Self::Builder {
        PrimitiveBuilder::with_capacity(rows).with_data_type(Self::data_type())
    }

    fn append_cell(&self, builder: &mut Self::Builder) {
        builder.append_value(self.units());
    }

    fn append_null_cell(builder: &mut Self::Builder) {
        builder.append_null();
    }

    fn finish(mut builder: Self::Builder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader> {
        Ok(ready::<Self>(column, masked, name)?.as_primitive::<Decimal128Type>().clone())
    }

    fn read(reader: &Self::Reader, row: usize) -> Self {
        Decimal::from_units(reader.value(row))
    }
}

impl Cell for bool {
    type Builder = BooleanBuilder;
    type Reader = BooleanArray;

    fn data_type() -> DataType {
        DataType::Boolean
    }

    fn builder(rows: usize) -> BooleanBuilder {
        BooleanBuilder::with_capacity(rows)
    }

    fn append_cell(&self, builder: &mut BooleanBuilder) {
        builder.append_value(*self);
    }

    fn append_null_cell(builder: &mut BooleanBuilder) {
        builder.append_null();
    }

    fn finish(mut builder: BooleanBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<BooleanArray> {
        Ok(ready::<bool>(column, masked, name)?.as_boolean().clone())
    }

    fn read(reader: &BooleanArray, row: usize) -> bool {
        reader.value(row)
    }
}

/// Bytes of text that are reserved a row, before it is known how long texts are.
const TEXT: usize = 16;

macro_rules! texts {
    ($($rust:ty),*) => {$(
        impl Cell for $rust {
            type Builder = StringBuilder;
            type Reader = StringArray;

            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn builder(rows: usize) -> StringBuilder {
                StringBuilder::with_capacity(rows, rows * TEXT)
            }

            fn append_cell(&self, builder: &mut StringBuilder) {
                builder.append_value(self);
            }

            fn append_null_cell(builder: &mut StringBuilder) {
                builder.append_null();
            }

            fn finish(mut builder: StringBuilder) -> ArrayRef {
                Arc::new(builder.finish())
            }

            fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<StringArray> {
                Ok(ready::<$rust>(column, masked, name)?.as_string::<i32>().clone())
            }

            fn read(reader: &StringArray, row: usize) -> $rust {
                <$rust>::from(reader.value(row))
            }
        }
    )*};
}

texts!(String, Text);

impl Cell for char {
    type Builder = StringBuilder;
    type Reader = StringArray;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn builder(rows: usize) -> StringBuilder {
        StringBuilder::with_capacity(rows, rows)
    }

    fn append_cell(&self, builder: &mut StringBuilder) {
        // Writing to a builder in memory does not fail.
        let _ = builder.write_char(*self);
        builder.append_value("");
    }

    fn append_null_cell(builder: &mut StringBuilder) {
        builder.append_null();
    }

    fn finish(mut builder: StringBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<StringArray> {
        let column = ready::<char>(column, masked, name)?;
        let texts = column.as_string::<i32>();
        let one = |text: &str| text.chars().nth(1).is_none() && !text.is_empty();
        match texts.iter().flatten().find(|text| !one(text)) {
            None => Ok(texts.clone()),
            Some(text) => Err(Error::new(
                ErrorKind::Data,
                format!("the column `{name}` holds `{text}`, and the field is a char: make it a String"),
            )),
        }
    }

    fn read(reader: &StringArray, row: usize) -> char {
        reader.value(row).chars().next().unwrap_or_default()
    }
}

impl Cell for Bytes {
    type Builder = BinaryBuilder;
    type Reader = BinaryArray;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn builder(rows: usize) -> BinaryBuilder {
        BinaryBuilder::with_capacity(rows, rows * TEXT)
    }

    fn append_cell(&self, builder: &mut BinaryBuilder) {
        builder.append_value(self);
    }

    fn append_null_cell(builder: &mut BinaryBuilder) {
        builder.append_null();
    }

    fn finish(mut builder: BinaryBuilder) -> ArrayRef {
        Arc::new(builder.finish())
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<BinaryArray> {
        Ok(ready::<Bytes>(column, masked, name)?.as_binary::<i32>().clone())
    }

    fn read(reader: &BinaryArray, row: usize) -> Bytes {
        Bytes::copy_from_slice(reader.value(row))
    }
}

impl<C: Cell> Cell for Option<C> {
    type Builder = C::Builder;
    type Reader = (Option<NullBuffer>, C::Reader);
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        C::data_type()
    }

    fn builder(rows: usize) -> C::Builder {
        C::builder(rows)
    }

    fn append_cell(&self, builder: &mut C::Builder) {
        match self {
            Some(value) => value.append_cell(builder),
            None => C::append_null_cell(builder),
        }
    }

    fn append_null_cell(builder: &mut C::Builder) {
        C::append_null_cell(builder);
    }

    fn finish(builder: C::Builder) -> ArrayRef {
        C::finish(builder)
    }

    fn reader(column: &ArrayRef, masked: Option<&NullBuffer>, name: &str) -> Result<Self::Reader> {
        let nulls = NullBuffer::union(masked, column.logical_nulls().as_ref());
        let reader = C::reader(column, nulls.as_ref(), name)?;
        Ok((nulls, reader))
    }

    fn read(reader: &Self::Reader, row: usize) -> Option<C> {
        let (nulls, values) = reader;
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) { None } else { Some(C::read(values, row)) }
    }
}
