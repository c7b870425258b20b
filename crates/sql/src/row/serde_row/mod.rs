//! Rows of types that have only serde: their columns are found by asking the type what it reads.

mod fit;
mod look;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::new_empty_array;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExchangeData, Result};
use serde::{Deserialize, Serialize};
use serde_arrow::{ArrayBuilder, Deserializer};

use crate::batch::RecordBatch;
use crate::columnar::{Columnar, ROWS};

/// A row of a type that has serde's traits and no `#[derive(Row)]`: one of another crate, or one that is read from JSON anyhow.
///
/// It stands wherever a row does: `stream.map(Serde)` is a stream that statements read, `sql::<Serde<T>>` and `rows::<Serde<T>>()` give `T`
/// back, [`create_data_frame`](crate::SqlContext::create_data_frame) and [`to_df`](crate::SqlRdds::to_df) take it.
///
/// Columns come from the type, never from values. They are what serde calls the fields (`#[serde(rename = "…")]` is heeded); of tuples `_1`,
/// `_2`, …; of anything else `value`. Structs, lists, maps and options may be inside of each other; an enum whose variants have no fields is a
/// text. What serde writes as a text is a text, as a time or an address of another crate: `CAST(at AS TIMESTAMP)` makes a time of it.
/// Back from columns they are found by name, of tuples by position, and cast as for [`Row`](crate::Row); a column that is not there is an error
/// that names the field, also where serde would take a default.
///
/// # Example
///
/// ```
/// # use millstream_core::Context;
/// use millstream_sql::{Columnar as _, Serde, SqlContext};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct Reading {
///     sensor: String,
///     max_celsius: Option<f64>,
///     tags: Vec<String>,
/// }
///
/// # let context = Context::new("local[2]", "doc")?;
/// # let sql = SqlContext::get_or_create(&context)?;
/// let reading = Reading { sensor: "p1".to_owned(), max_celsius: Some(71.5), tags: vec!["roof".to_owned()] };
/// let readings = sql.create_data_frame(vec![Serde(reading.clone())])?;
/// assert_eq!(readings.schema().field(1).name(), "maxCelsius");
/// assert_eq!(readings.filter("tags[0] = 'roof'")?.collect::<Serde<Reading>>()?, [Serde(reading)]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Errors
///
/// `start()`, or the call that makes a data frame, reports a type without columns, with the field and the reason; the kind is `Config`. It is one that
/// decides by what it reads what it is (`#[serde(flatten)]`, `#[serde(untagged)]`, `#[serde(tag = "…")]`, `serde_json::Value`), that
/// holds itself, an enum whose variants have fields, a `char`, a number of 128 bits, or nothing. A batch fails with `Data` where a column does not
/// fit.
///
/// # Cost
///
/// About four times that of `#[derive(Row)]`, both ways: serde asks field by field, row by row. The type is looked at once a process.
///
/// # Spark
///
/// `Encoders.bean`: columns of a class that knows nothing of Spark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serde<T>(pub T);

impl<T> From<T> for Serde<T> {
    fn from(row: T) -> Serde<T> {
        Serde(row)
    }
}

/// The columns of a type.
#[derive(Debug)]
struct Shape {
    schema: SchemaRef,
    /// Whether the one column is the value itself, and not a field of it.
    alone: bool,
    /// What the type is called in errors.
    name: &'static str,
}

/// A value that is a column alone.
#[derive(Serialize, Deserialize)]
struct Alone<T> {
    value: T,
}

/// Returns the columns of a type: each is looked at once.
fn shape_of<T: ExchangeData>() -> Result<Arc<Shape>> {
    static SHAPES: Mutex<BTreeMap<TypeId, Result<Arc<Shape>>>> = Mutex::new(BTreeMap::new());
    let of = TypeId::of::<T>();
    if let Some(known) = lock(&SHAPES).get(&of) {
        return known.clone();
    }
    // The type may run code of the program, so that nothing is locked meanwhile.
    let shape = look::shape::<T>().map(Arc::new);
    lock(&SHAPES).insert(of, shape.clone());
    shape
}

/// What serde_arrow says, without the word that all of it begins with.
fn told(error: &serde_arrow::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("Error: ").unwrap_or(&text).to_owned()
}

impl<T: ExchangeData> Columnar for Serde<T> {
    fn schema() -> Result<Option<SchemaRef>> {
        Ok(Some(Arc::clone(&shape_of::<T>()?.schema)))
    }

    fn write(elements: impl Iterator<Item = Serde<T>>) -> Result<Vec<RecordBatch>> {
        let shape = shape_of::<T>()?;
        let bad = |e: &serde_arrow::Error| {
            Error::new(ErrorKind::Data, format!("`{}` does not make columns: {}", shape.name, told(e)))
        };
        let mut builder = ArrayBuilder::from_arrow(shape.schema.fields()).map_err(|e| bad(&e))?;
        let finish = |builder: &mut ArrayBuilder, rows: usize| {
            let columns = builder.to_arrow().map_err(|e| bad(&e))?;
            RecordBatch::of(Arc::clone(&shape.schema), columns, rows)
        };
        let (mut batches, mut rows) = (Vec::new(), 0);
        for Serde(row) in elements {
            let pushed = if shape.alone { builder.push(Alone { value: row }) } else { builder.push(row) };
            pushed.map_err(|e| bad(&e))?;
            rows += 1;
            if rows == ROWS {
                batches.push(finish(&mut builder, rows)?);
                rows = 0;
            }
        }
        if rows > 0 || batches.is_empty() {
            batches.push(finish(&mut builder, rows)?);
        }
        Ok(batches)
    }

    fn read(columns: RecordBatch) -> Result<Vec<Serde<T>>> {
        let shape = shape_of::<T>()?;
        let bad = |e: &serde_arrow::Error| {
            Error::new(ErrorKind::Data, format!("`{}` cannot be read from columns: {}", shape.name, told(e)))
        };
        let schema = columns.schema();
        let fitted = fit::columns(&shape, schema.fields(), columns.columns())?;
        let rows = Deserializer::from_arrow(shape.schema.fields(), &fitted).map_err(|e| bad(&e))?;
        let read = rows.iter().map(|row| {
            let row = if shape.alone { Alone::deserialize(row).map(|alone| alone.value) } else { T::deserialize(row) };
            row.map(Serde).map_err(|e| bad(&e))
        });
        read.collect()
    }

    fn check(schema: &Schema) -> Result<()> {
        let none: Vec<_> = schema.fields().iter().map(|f| new_empty_array(f.data_type())).collect();
        let shape = shape_of::<T>()?;
        fit::columns(&shape, schema.fields(), &none).map(drop)
    }
}

#[cfg(test)]
mod tests;
