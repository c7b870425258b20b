//! Rows as columns and back: what a row is, and how its columns are found.

mod cell;
mod fits;
mod maps;
mod nested;
#[cfg(feature = "serde-rows")]
mod serde_row;
mod tuples;
mod values;
mod variants;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, StructArray, new_empty_array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{Field, Fields, Schema, SchemaRef};
use millstream_core::{Data, Error, ErrorKind, Result, panicked};

pub use self::cell::Cell;
#[doc(hidden)]
pub use self::nested::{ListCells, StructCells, StructReader};
#[cfg(feature = "serde-rows")]
pub use self::serde_row::Serde;
pub use self::values::{Date, Decimal};
#[doc(hidden)]
pub use self::variants::{VariantCells, VariantReader, Variants};
use crate::batch::RecordBatch;
use crate::names;

/// A row of a table: a type whose values are rows, and whose fields are columns.
///
/// It is derived: `#[derive(Row)]` on a struct with named fields makes each a column of the same name, or of the one that
/// `#[row(rename = "…")]` gives. Tuples are rows of columns `_1`, `_2`, …; a number, a text or a `bool` alone is a row with the one
/// column `value`. Fields may be numbers, `bool`, `String`, [`Text`](millstream_core::Text), [`Time`](millstream_core::Time),
/// [`Date`], [`Decimal`], [`Bytes`](bytes::Bytes), an `Option` of those, a `Vec` of those, a `BTreeMap` or `HashMap` of those, or rows
/// themselves. An enum with `#[derive(Row)]` whose variants have no fields is a column of their names. The schema comes from the type
/// alone, so a batch without a row has one too.
///
/// Back from columns, a struct finds its fields by name, whatever the case of letters, and a tuple by position. What comes in another
/// form of the same thing (`i32` for an `i64`, a dictionary for a text, other units of time) is cast; what cannot be is an error that
/// names the field.
///
/// # Example
///
/// ```
/// use millstream_sql::{Row, from_columns, to_columns};
///
/// #[derive(Clone, Debug, PartialEq, Row)]
/// struct Reading {
///     sensor: String,
///     #[row(rename = "maxCelsius")]
///     celsius: Option<f64>,
/// }
///
/// let rows = vec![
///     Reading { sensor: "p1".to_owned(), celsius: Some(71.5) },
///     Reading { sensor: "p2".to_owned(), celsius: None },
/// ];
/// let columns = to_columns(rows.clone())?;
/// assert_eq!(columns.schema().field(1).name(), "maxCelsius");
/// assert_eq!(from_columns::<Reading>(&columns)?, rows);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Cost
///
/// As a loop over builders written by hand: a column is reserved for as many rows as come, and nothing is decided row by row.
///
/// # Spark
///
/// A case class with its `Encoder`; `Row` of rows that have none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row of a table",
    label = "no columns are known for it",
    note = "a struct with named fields needs `#[derive(Row)]`; tuples up to 12, numbers, text and `bool` are rows already",
    note = "where rows are asked for as a whole, `Serde<T>` is one of a type that has serde's traits"
)]
pub trait Row: Data {
    /// Builds the columns.
    #[doc(hidden)]
    type Builders: Send;
    /// Reads the columns.
    #[doc(hidden)]
    type Readers: Send + Sync;
    /// Whether columns are found by position, and not by name.
    #[doc(hidden)]
    const BY_POSITION: bool;

    /// Returns the columns: names, types, and which may be null.
    fn fields() -> Vec<Field>;
    #[doc(hidden)]
    fn builders(rows: usize) -> Self::Builders;
    #[doc(hidden)]
    fn append_row(&self, builders: &mut Self::Builders);
    #[doc(hidden)]
    fn append_null_row(builders: &mut Self::Builders);
    #[doc(hidden)]
    fn finish(builders: Self::Builders) -> Vec<ArrayRef>;
    #[doc(hidden)]
    fn readers(from: &ColumnsOf<'_>) -> Result<Self::Readers>;
    #[doc(hidden)]
    fn get(readers: &Self::Readers, row: usize) -> Self;
}

/// Columns in which a row looks for its own.
#[doc(hidden)]
#[derive(Debug)]
pub struct ColumnsOf<'a> {
    fields: &'a Fields,
    arrays: &'a [ArrayRef],
    /// Rows that are null as a whole, when these are the columns inside of one.
    masked: Option<&'a NullBuffer>,
    /// What stands before a column's name in errors.
    inside: &'a str,
}

impl<'a> ColumnsOf<'a> {
    /// Takes the arguments of a function, which have no names.
    pub(crate) fn arguments(fields: &'a Fields, arrays: &'a [ArrayRef]) -> ColumnsOf<'a> {
        ColumnsOf { fields, arrays, masked: None, inside: "argument " }
    }

    /// Finds a column by name and prepares to read it.
    pub fn named<C: Cell>(&self, name: &str) -> Result<C::Reader> {
        self.read::<C>(self.place(name)?, name)
    }

    /// Finds the position of a column by name.
    fn place(&self, name: &str) -> Result<usize> {
        match names::find(name, self.fields.iter().map(|f| f.name().as_str())) {
            names::Found::At(place) => Ok(place),
            names::Found::Several => Err(self.error(format!("several columns are called `{name}`"))),
            names::Found::None { nearest } => {
                let hint = nearest.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
                let all = names::listed(self.fields.iter().map(|f| f.name().as_str()));
                Err(self.error(format!("no column is called `{}{name}`{hint} There are {all}", self.inside)))
            }
        }
    }

    /// Prepares to read the column at a position.
    pub fn at<C: Cell>(&self, place: usize) -> Result<C::Reader> {
        let name = self.fields.get(place).map(|f| f.name().clone()).unwrap_or_default();
        self.read::<C>(place, &name)
    }

    /// Fails unless there are as many columns as positions.
    pub fn count(&self, wanted: usize) -> Result<()> {
        if self.arrays.len() == wanted {
            return Ok(());
        }
        let all = names::listed(self.fields.iter().map(|f| f.name().as_str()));
        Err(self.error(format!("a row of {wanted} is read from {} columns: {all}", self.arrays.len())))
    }

    fn read<C: Cell>(&self, place: usize, name: &str) -> Result<C::Reader> {
        let array = self.arrays.get(place).ok_or_else(|| self.error(format!("there is no column {}", place + 1)))?;
        C::reader(array, self.masked, &format!("{}{name}", self.inside))
    }

    fn error(&self, text: String) -> Error {
        Error::new(ErrorKind::Data, text)
    }
}

/// Prepares to read rows from the columns of a struct, which lie inside of the column `name`.
pub(crate) fn inside<T: Row>(array: &StructArray, masked: Option<&NullBuffer>, name: &str) -> Result<T::Readers> {
    let from = ColumnsOf { fields: array.fields(), arrays: array.columns(), masked, inside: &format!("{name}.") };
    T::readers(&from)
}

/// Returns the schema of a row.
///
/// # Example
///
/// ```
/// let schema = millstream_sql::schema_of::<(String, Option<i64>)>();
/// assert_eq!(schema.field(0).name(), "_1");
/// assert!(schema.field(1).is_nullable());
/// ```
///
/// # Spark
///
/// `Encoders.product[T].schema`.
pub fn schema_of<T: Row>() -> SchemaRef {
    Arc::new(Schema::new(T::fields()))
}

/// Writes rows as columns.
///
/// # Errors
///
/// The kind is `Data`: a column is longer than Arrow can hold, 2 GiB of text.
///
/// # Cost
///
/// One pass. An iterator that knows its length has the columns reserved at once.
pub fn to_columns<T: Row>(rows: impl IntoIterator<Item = T>) -> Result<RecordBatch> {
    let rows = rows.into_iter();
    let (least, most) = rows.size_hint();
    // Builders of text and of lists end themselves where Arrow can count no further.
    let built = catch_unwind(AssertUnwindSafe(|| {
        let mut builders = T::builders(most.unwrap_or(least).min(1 << 20));
        let mut count = 0;
        for row in rows {
            row.append_row(&mut builders);
            count += 1;
        }
        (T::finish(builders), count)
    }));
    let (columns, count) = built.map_err(|payload| {
        let text = format!("rows do not make columns: {}", panicked(&*payload).message());
        Error::new(ErrorKind::Data, text)
    })?;
    RecordBatch::of(schema_of::<T>(), columns, count)
}

/// Reads rows from columns.
///
/// # Errors
///
/// The kind is `Data`: a field has no column, or one of another type, or with a null that it does not take.
pub fn from_columns<T: Row>(columns: &RecordBatch) -> Result<Vec<T>> {
    let readers = readers_of::<T>(columns)?;
    Ok((0..columns.num_rows()).map(|row| T::get(&readers, row)).collect())
}

fn readers_of<T: Row>(columns: &RecordBatch) -> Result<T::Readers> {
    let schema = columns.schema();
    T::readers(&ColumnsOf { fields: schema.fields(), arrays: columns.columns(), masked: None, inside: "" })
}

/// Fails if rows cannot be read from columns of this schema, whatever is in them.
pub(crate) fn check<T: Row>(schema: &Schema) -> Result<()> {
    let arrays: Vec<ArrayRef> = schema.fields().iter().map(|f| new_empty_array(f.data_type())).collect();
    T::readers(&ColumnsOf { fields: schema.fields(), arrays: &arrays, masked: None, inside: "" })?;
    Ok(())
}

/// Fails if the column has a null where none is taken.
pub(crate) fn no_nulls(column: &dyn Array, masked: Option<&NullBuffer>, name: &str, of: &str) -> Result<()> {
    let Some(nulls) = column.logical_nulls().filter(|n| n.null_count() > 0) else { return Ok(()) };
    let seen = |row: &usize| nulls.is_null(*row) && masked.is_none_or(|mask| mask.is_valid(*row));
    let Some(row) = (0..column.len()).find(seen) else { return Ok(()) };
    Err(Error::new(
        ErrorKind::Data,
        format!(
            "the column `{name}` is null in row {row}, and the field is {of}: make it Option<{of}>, or select coalesce({name}, …)"
        ),
    ))
}
