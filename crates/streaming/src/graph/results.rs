//! What outputs were given in a batch, in short: kept with the batch's end, so that a replay can show that it is the same.

use std::collections::BTreeMap;
use std::sync::Mutex;

use millstream_core::threads::lock;
use millstream_core::{Data, Digest, Error, ErrorKind, ExchangeData, PartitionIter, Rdd, Result, Time, codec};

use super::Batch;

/// What an output is given, looked at from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// How many elements; of those that cannot be written down, more cannot be said.
    Counted(u64),
    Digested(Digest),
}

/// Looks at what an output is given, in the place of the output.
pub(crate) type LookBody = Box<dyn FnOnce() -> Result<Look> + Send>;

/// Plans a look at one batch of an output.
pub(crate) type LookOutput = Box<dyn Fn(&Batch<'_>) -> Option<LookBody> + Send>;

/// Which outputs have a digest of each batch kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Digests {
    /// None: there is no log that it could be in.
    #[default]
    None,
    /// Those of which the program asks it.
    Asked,
    /// All: of elements that cannot be written down, that of so many unknown ones.
    All,
}

pub(crate) fn counted<T: Data>(rdd: &Rdd<T>) -> Result<Look> {
    rdd.count().map(Look::Counted)
}

pub(crate) fn digested<T: ExchangeData>(rdd: &Rdd<T>) -> Result<Look> {
    let parts = rdd.map_partitions(|items: PartitionIter<T>| {
        let (mut digest, mut bytes) = (Digest::default(), Vec::new());
        for item in items {
            bytes.clear();
            match codec::encode_onto(&item, std::mem::take(&mut bytes)) {
                Ok(written) => bytes = written,
                Err(error) => return [Err(error.to_string())],
            }
            digest.add(&bytes);
        }
        [Ok(digest)]
    });
    let mut all = Digest::default();
    for part in parts.collect()? {
        all.add_all(part.map_err(|text: String| Error::new(ErrorKind::User, text))?);
    }
    Ok(Look::Digested(all))
}

/// The digests of batches whose end is not written down yet.
#[derive(Debug, Default)]
pub(crate) struct Results(Mutex<BTreeMap<Time, Vec<(String, Digest)>>>);

impl Results {
    pub(super) fn put(&self, at: Time, output: String, digest: Digest) {
        lock(&self.0).entry(at).or_default().push((output, digest));
    }

    /// Takes what there is of a batch, by the outputs' names.
    pub(crate) fn take(&self, at: Time) -> Vec<(String, Digest)> {
        let mut results = lock(&self.0).remove(&at).unwrap_or_default();
        results.sort();
        results
    }
}
