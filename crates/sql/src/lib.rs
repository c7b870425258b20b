//! SQL and data frames on streams, by DataFusion.
//!
//! A type is a row of columns if it has `#[derive(Row)]`; rows and columns are turned into each other by
//! [`to_columns`] and [`from_columns`], and on streams by [`SqlStreams`].

mod batch;
mod columnar;
mod names;
mod row;
mod stream;

pub use datafusion::arrow;
pub use millstream_core::Result;
pub use millstream_sql_derive::Row;

/// The derive as the crate `millstream` gives it on.
#[doc(hidden)]
pub mod derived_in_millstream {
    pub use millstream_sql_derive::RowOfMillstream as Row;
}

pub use self::batch::RecordBatch;
pub use self::columnar::Columnar;
pub use self::row::{Cell, Date, Decimal, Row, from_columns, schema_of, to_columns};
#[doc(hidden)]
pub use self::row::{ColumnsOf, ListCells, StructCells, StructReader};
pub use self::stream::SqlStreams;
