//! Tables that a stream is saved as: a folder of Parquet files in a warehouse, which has each batch once and survives restarts.

mod guard;
mod manifest;
mod sink;
pub(crate) mod write;

use std::path::Path;

use datafusion::arrow::datatypes::SchemaRef;
use millstream_core::disk::{Disk, RealDisk};
use millstream_core::{CallSite, Error, ErrorKind, Result};
use millstream_streaming::{DStream, Output};

use self::manifest::Mode;
use self::sink::{TableSink, read_state};
use crate::batch::RecordBatch;
use crate::columnar::Columnar;
use crate::context::{SqlContext, check_name};

/// The folder of the tables, unless the program names another. Spark's default is the same.
pub(crate) const WAREHOUSE: &str = "spark-warehouse";

/// A table that a stream is saved as: its name, what happens where there is one already, and by which columns its files are in
/// folders.
///
/// What happens is asked for each batch, as `foreachRDD` with `df.write.mode(…)` would: the first batch makes the table, and the second
/// finds it.
///
/// # Example
///
/// ```
/// use millstream_sql::SaveTable;
///
/// let table = SaveTable::append("alerts").partition_by(["day", "pump"]);
/// # let _ = table;
/// ```
///
/// # Spark
///
/// `DataFrameWriter`: `mode`, `partitionBy`, `saveAsTable`.
#[derive(Clone, Debug)]
pub struct SaveTable {
    name: String,
    mode: Mode,
    by: Vec<String>,
}

impl SaveTable {
    fn of(name: impl Into<String>, mode: Mode) -> SaveTable {
        SaveTable { name: name.into(), mode, by: Vec::new() }
    }

    /// Each batch's rows come to those that are there. Spark's `append`.
    pub fn append(name: impl Into<String>) -> SaveTable {
        SaveTable::of(name, Mode::Append)
    }

    /// Each batch's rows take the place of those that are there. Spark's `overwrite`.
    pub fn overwrite(name: impl Into<String>) -> SaveTable {
        SaveTable::of(name, Mode::Overwrite)
    }

    /// A batch makes the table; if there is one, it fails. Spark's `error`, `errorifexists`.
    pub fn error_if_exists(name: impl Into<String>) -> SaveTable {
        SaveTable::of(name, Mode::Error)
    }

    /// A batch makes the table; if there is one, it leaves it as it is. Spark's `ignore`.
    pub fn ignore(name: impl Into<String>) -> SaveTable {
        SaveTable::of(name, Mode::Ignore)
    }

    /// Puts files into folders by the values of columns, as `day=2024-02-29/pump=7`. The columns are not in the files then.
    ///
    /// # Spark
    ///
    /// `DataFrameWriter.partitionBy`.
    #[must_use]
    pub fn partition_by<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> SaveTable {
        self.by = columns.into_iter().map(Into::into).collect();
        self
    }

    fn check(&self) -> Result<()> {
        if let Some((database, table)) = self.name.rsplit_once('.') {
            let text = format!(
                "`{}` is a table of the database `{database}`, and databases are kept by Hive's metastore, which is not supported: a \
                 table here is a folder of the warehouse, write `{table}`",
                self.name
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        check_name(&self.name)
    }
}

pub(crate) fn save<T: Columnar>(stream: &DStream<T>, sql: &SqlContext, table: SaveTable, site: CallSite) -> Output {
    let place = sql.warehouse();
    match TableSink::<T>::new(table, &place, sql.output_disk(), site) {
        Ok(sink) => stream.save_to_at(sink, site),
        Err(error) => {
            stream.mistake(Error::new(ErrorKind::Graph, error.message()).at(site));
            stream.foreach_rdd(|_, _| Ok(()))
        }
    }
}

/// Saves the rows of a data frame.
pub(crate) fn save_rows(
    rows: &[RecordBatch],
    schema: &SchemaRef,
    sql: &SqlContext,
    table: SaveTable,
    site: CallSite,
) -> Result<()> {
    sink::now::save(rows, schema, table, &sql.warehouse(), sql.output_disk(), site)
}

/// Returns the files of a table as its entries say, by their paths in its folder.
pub(crate) fn files_of(folder: &Path) -> Result<Vec<String>> {
    let state = read_state(&RealDisk as &dyn Disk, folder)?;
    if !state.exists() {
        let text = format!("{} is no table of a warehouse: it has no folder `{}`", folder.display(), sink::OWN);
        return Err(Error::new(ErrorKind::Data, text));
    }
    Ok(state.files.into_keys().collect())
}
