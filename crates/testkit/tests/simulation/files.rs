//! Files as outputs of a simulated program: each batch's folder is whole, and there once, whatever has happened.

use std::path::PathBuf;

use millstream_core::disk::Disk;
use millstream_streaming::DStream;
use millstream_testkit::SimDisk;

use super::feed::Numbered;

/// Not all write files: they make many steps, and faults are to meet the others too.
pub(crate) fn are_written(seed: u64) -> bool {
    seed % 5 == 3
}

/// Has the numbers of all records written.
pub(crate) fn write(all: &DStream<Numbered>) {
    all.map(|record| record.0).save_as_text_files("/out/of", "");
}

/// Looks whether the disk has what the batches were given, after a crash that takes all that is not durable.
pub(crate) fn look(disk: &SimDisk, seed: u64, rows: &[Vec<Numbered>]) -> Result<(), String> {
    disk.crash(seed);
    disk.restart();
    let told = |e: millstream_core::Error| e.to_string();
    for (batch, records) in (1..).zip(rows) {
        let folder = PathBuf::from(format!("/out/of-{batch}000"));
        let (mut names, mut bytes) = (disk.list(&folder).map_err(told)?, Vec::new());
        let has_mark = names.iter().any(|name| name == "_SUCCESS");
        names.retain(|name| name.starts_with("part-"));
        for name in names {
            bytes.extend(disk.read(&folder.join(name)).map_err(told)?);
        }
        let want: String = records.iter().map(|record| format!("{}\n", record.0)).collect();
        if !has_mark || bytes != want.as_bytes() {
            let got = String::from_utf8_lossy(&bytes);
            return Err(format!(
                "the files of the batch {batch} have {got:?} and not {want:?}, or no mark: {has_mark}"
            ));
        }
    }
    Ok(())
}
