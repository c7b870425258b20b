//! Which key Ballista's hash sends to which reader: found by asking the hash, and not by knowing it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::{Array, LargeBinaryArray, UInt32Array};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::Partitioning;
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::BatchPartitioner;
use millstream_core::threads::lock;
use millstream_core::{Error, Result};

use crate::rows::schema;

/// How rows are spread over `readers` readers.
pub(crate) fn partitioning(readers: usize) -> Partitioning {
    Partitioning::Hash(vec![Arc::new(Column::new("to", 0))], readers)
}

/// Returns, for each of `readers` readers, a key that is sent to it.
///
/// # Errors
///
/// The kind is `Internal`: the hash reaches no reader in reasonable time.
pub(crate) fn keys(readers: usize) -> Result<Arc<Vec<u32>>> {
    static KNOWN: Mutex<BTreeMap<usize, Arc<Vec<u32>>>> = Mutex::new(BTreeMap::new());
    if let Some(known) = lock(&KNOWN).get(&readers) {
        return Ok(Arc::clone(known));
    }
    let found = Arc::new(find(readers)?);
    lock(&KNOWN).insert(readers, Arc::clone(&found));
    Ok(found)
}

fn find(readers: usize) -> Result<Vec<u32>> {
    let wrong = |error: DataFusionError| millstream_core::bug!("the keys of {readers} readers are not found: {error}");
    let Partitioning::Hash(by, _) = partitioning(readers) else {
        return Err(millstream_core::bug!("rows are spread by something else than a hash"));
    };
    let mut partitioner = BatchPartitioner::new_hash_partitioner(by, readers, Time::default()).map_err(wrong)?;
    let mut found: Vec<Option<u32>> = vec![None; readers];
    let mut missing = readers;
    let step = (readers as u32).saturating_mul(4).clamp(64, 1 << 16);
    // Of n readers the last is found after about n ln n keys.
    for from in (0..).map(|round: u32| round.saturating_mul(step)).take(1000) {
        let keys = UInt32Array::from_iter_values(from..from.saturating_add(step));
        let rows = LargeBinaryArray::from_iter_values((0..step).map(|_| b""));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(rows)]);
        let batch = batch.map_err(|error| wrong(error.into()))?;
        partitioner
            .partition(batch, |reader, batch| {
                let key = batch.column(0).as_any().downcast_ref::<UInt32Array>().filter(|keys| !keys.is_empty());
                if let (Some(place), Some(key)) = (found.get_mut(reader), key)
                    && place.is_none()
                {
                    *place = Some(key.value(0));
                    missing -= 1;
                }
                Ok(())
            })
            .map_err(wrong)?;
        if missing == 0 {
            break;
        }
    }
    let all: Option<Vec<u32>> = found.into_iter().collect();
    all.ok_or_else(|| -> Error { millstream_core::bug!("{missing} of {readers} readers are reached by no key") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_has_a_key_of_its_own() {
        for readers in [1, 2, 3, 7, 200] {
            let keys = keys(readers).unwrap();
            assert_eq!(keys.len(), readers);
            // Asked once more, a row at a time.
            let Partitioning::Hash(by, _) = partitioning(readers) else { panic!("no hash") };
            let mut partitioner = BatchPartitioner::new_hash_partitioner(by, readers, Time::default()).unwrap();
            for (reader, key) in keys.iter().enumerate() {
                let columns: [Arc<dyn Array>; 2] =
                    [Arc::new(UInt32Array::from(vec![*key])), Arc::new(LargeBinaryArray::from_iter_values([b"row"]))];
                let row = RecordBatch::try_new(schema(), columns.to_vec()).unwrap();
                let mut came = Vec::new();
                partitioner
                    .partition(row, |to, rows| {
                        came.extend((rows.num_rows() > 0).then_some(to));
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(came, [reader], "key {key} of {readers} readers");
            }
        }
    }
}
