//! SQL and data frames on streams, by DataFusion.
//!
//! A type is a row of columns if it has `#[derive(Row)]`. A stream of rows can be asked a statement, which is planned once and run
//! for each batch: [`SqlStreams::sql`]. What else a statement knows, tables of files, views and functions, is in the [`SqlContext`], of
//! which there is one an engine. Spark's own way, a data frame in `foreach_rdd`, works too: [`SqlRdds::to_df`].
//!
//! ```text
//!   DStream<T>, T: Row ──columns──► DStream<RecordBatch> ──rows──► DStream<T>        row/, batch.rs, stream.rs
//!        │ sql(…)                                                 ▲
//!        ▼                                                        │
//!   columns of all streams of a statement ──► one task runs the kept plan            query.rs, statement.rs
//!                                              its leaves read what the task brings  slot.rs
//!   continuous_sql: (group, state) merged into a table of states                       continuous/
//!   save_as_table: files of Parquet in a warehouse, each batch once                    warehouse/
//!   SqlContext: static tables in versions, views, functions                          context.rs, tables.rs, files.rs
//!   what may be asked from outside of all batches                                    live/
//! ```

mod aggregates;
mod batch;
mod closure;
mod columnar;
mod context;
mod continuous;
mod dialect;
mod error;
#[doc(hidden)]
pub mod figures;
mod files;
mod frame;
mod functions;
#[doc(hidden)]
pub mod live;
mod names;
mod plans;
mod query;
mod row;
mod runtime;
mod session;
mod show;
mod slot;
mod statement;
mod stream;
mod tables;
mod warehouse;

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
pub use self::context::SqlContext;
pub use self::continuous::Continuous;
pub use self::files::Files;
pub use self::frame::{DataFrame, SqlRdds};
pub use self::live::States;
pub use self::query::StreamTables;
#[cfg(feature = "serde-rows")]
pub use self::row::Serde;
pub use self::row::{Cell, Date, Decimal, Row, from_columns, schema_of, to_columns};
#[doc(hidden)]
pub use self::row::{ColumnsOf, ListCells, StructCells, StructReader, VariantCells, VariantReader, Variants};
pub use self::stream::SqlStreams;
pub use self::warehouse::SaveTable;

/// The rows of columns as texts, as Spark casts them.
#[doc(hidden)]
pub fn texts(columns: &RecordBatch) -> Result<Vec<Vec<Option<String>>>> {
    show::cast_to_texts(columns)
}

/// The guide's programs run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/book/10-sql.md")]
struct Book;
