//! What the kinds of state have in common: where keys are, and what a batch without data looks like.

use millstream_core::{CallSite, Context, ExchangeData, Key, Partitioner, Rdd};

use crate::DStream;
use crate::graph::Batch;

/// The data of a batch where the state's keys are; without any if the parent has no Rdd (S-13).
pub(crate) fn placed<K: Key, V: ExchangeData>(
    batch: &Batch<'_>,
    parent: &DStream<(K, V)>,
    partitioner: &Partitioner,
    site: CallSite,
) -> Rdd<(K, V)> {
    match batch.rdd(parent) {
        Some(rdd) => CallSite::scope(Some(site), || rdd.partition_by(partitioner)),
        None => nothing(batch.context(), partitioner, site),
    }
}

/// An Rdd without elements in as many partitions as keys are placed in.
pub(crate) fn nothing<T: ExchangeData>(context: &Context, partitioner: &Partitioner, site: CallSite) -> Rdd<T> {
    CallSite::scope(Some(site), || context.parallelize(Vec::new(), partitioner.num_partitions()))
}
