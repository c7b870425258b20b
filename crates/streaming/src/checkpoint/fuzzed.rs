//! What fuzzers ask of records and checkpoint files.

use std::path::Path;

use super::{decode, encode};

/// Reads records and what they come to, and a checkpoint file of that. The first bytes are those of a file as it may be; if
/// it is none they are the records.
pub(crate) fn file(bytes: &[u8]) {
    let path = Path::new("in memory");
    let mut ledger = super::file::decode(bytes, path).unwrap_or_default();
    for records in bytes.split(|byte| *byte == 0xff) {
        let Ok(records) = decode(records) else { continue };
        let again = decode(&encode(&records).expect("what was read can be written"));
        assert_eq!(again.expect("what was written can be read"), records);
        records.into_iter().for_each(|record| ledger.apply(record));
    }
    let again = super::file::decode(&super::file::encode(&ledger).expect("it can be written"), path);
    assert_eq!(again.expect("what was written can be read"), ledger);
    let _ = (ledger.is_new(), ledger.committed_up_to());
    let newest = ledger.saves.iter().filter_map(|(keeper, saves)| Some((*keeper, *saves.keys().next_back()?)));
    let newest = newest.collect();
    ledger.forget(ledger.next(), &newest);
}

/// A checkpoint file whose length and check sum are right, whatever is in it: the version, then the body.
pub(crate) fn body(bytes: &[u8]) {
    let Some((&version, body)) = bytes.split_first() else { return };
    let mut whole = [&b"msckpt"[..], &[version, 0], &(body.len() as u64).to_le_bytes(), body].concat();
    whole.extend(crc32fast::hash(&whole).to_le_bytes());
    file(&whole);
}
