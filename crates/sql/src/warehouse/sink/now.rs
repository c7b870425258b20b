//! A data frame saved as a table: written, put in its place and entered at once, by whoever asks.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Result};

use super::{Prepared, TableSink, mark, read_state};
use crate::batch::RecordBatch;
use crate::warehouse::SaveTable;
use crate::warehouse::manifest::{Entry, Step, columns_of};
use crate::warehouse::write::{check, split, write_files};

/// What writes where no output does.
const FRAMES: &str = "data frames";

/// Saves rows as a table.
pub(in crate::warehouse) fn save(
    rows: &[RecordBatch],
    schema: &SchemaRef,
    table: SaveTable,
    warehouse: &Path,
    disk: Arc<dyn Disk>,
    site: CallSite,
) -> Result<()> {
    let sink = TableSink::<RecordBatch>::new(table, warehouse, disk, site)?;
    let (name, by) = (sink.table.name.as_str(), &sink.table.by);
    split(schema, name, by)?;
    check(schema, name)?;
    let columns = columns_of(schema);
    let guard = sink.guard()?;
    // Nobody else commits meanwhile, so the number of the entry is known from the begin on.
    let _commit = guard.commit()?;
    let state = &mut *lock(&sink.state);
    *state = read_state(&*sink.disk, &sink.folder)?;
    if !state.may_write(name, sink.table.mode, &columns, by)? {
        return Ok(());
    }
    let Step::Write { replaces } = state.step(name, sink.table.mode, FRAMES, None, 0)? else { return Ok(()) };
    sink.remove_stale(state)?;
    let (own, id) = (mark(FRAMES), format!("frame-0.{}-{}", state.number, mark(FRAMES)));
    // Of one that was killed.
    sink.sweep(&sink.folder, "", &own, &|path| state.files.contains_key(path))?;
    sink.remove_staged(&id)?;
    sink.disk.create_folder(&sink.staged(&id))?;
    let batches: Vec<ArrowBatch> = rows.iter().cloned().map(Into::into).collect();
    let wrong = |e: datafusion::arrow::error::ArrowError| {
        Error::new(ErrorKind::Data, format!("rows cannot be written to the table `{name}`: {e}"))
    };
    let all = concat_batches(batches.first().map_or(schema, |batch| batch.schema_ref()), &batches).map_err(wrong)?;
    let mut files = write_files(&*sink.disk, &sink.staged(&id), &format!("{id}-00000-0.parquet"), name, by, &all)?;
    if files.is_empty() && by.is_empty() && (replaces || !state.exists()) {
        files.push(sink.write_columns(schema, &id)?);
    }
    let prepared = Prepared { id, columns: columns.clone(), files };
    sink.put(&prepared)?;
    let entry = Entry {
        form: Entry::form(),
        output: FRAMES.to_owned(),
        batch: None,
        run: 0,
        settled: None,
        columns,
        partition_by: by.clone(),
        replaces,
        files: prepared.files.clone(),
    };
    sink.publish(state, &entry)?;
    sink.remove_stale(state)?;
    sink.remove_staged(&prepared.id)
}
