//! Records of 100 bytes in groups of 1 MB or 5 ms: into the log, and into a plain file with the same groups.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream::core::disk::RealDisk;
use millstream::prelude::*;
use millstream::streaming::wal::{LogConf, SegmentLog, WriteAheadLog};

use crate::report;
use crate::timer;

const RECORD: usize = 100;
const GROUP: usize = 1 << 20;
const AT_MOST: Duration = Duration::from_millis(5);
/// The bytes of a round: 256 MB.
const BYTES: usize = 256 << 20;

/// Fills a group with records that come one after the other, until it is large or old enough.
fn gather(group: &mut Vec<u8>, next: &mut u64, end: u64) {
    group.clear();
    let begin = timer::now();
    while *next < end && group.len() < GROUP {
        let mut record = [b'.'; RECORD];
        record[..8].copy_from_slice(&next.to_le_bytes());
        group.extend_from_slice(&record);
        *next += 1;
        if next.is_multiple_of(256) && begin.elapsed() >= AT_MOST {
            break;
        }
    }
}

/// Writes rounds in turn, each in a folder of its own under `place`, and prints a line of JSON for each engine.
pub(crate) fn run(place: &Path, rounds: usize) -> Result<()> {
    let (mut hand, mut ours) = (Vec::new(), Vec::new());
    let folder = place.join(format!("millstream-bench-log-{}", std::process::id()));
    // The first round is a warm-up.
    for round in 0..=rounds.max(3) {
        for (times, write) in [(&mut hand, plain as fn(&Path, u64) -> Result<()>), (&mut ours, logged)] {
            fs::create_dir_all(&folder)?;
            let (took, done) = timer::timed(|| write(&folder, (BYTES / RECORD) as u64));
            let removed = fs::remove_dir_all(&folder);
            done?;
            removed?;
            if round > 0 {
                times.push(took);
            }
        }
    }
    let medians = [("hand", &hand), ("millstream", &ours)].map(|(engine, times)| {
        let ms = report::quantile_ms(times, 0.5);
        println!(
            "{{\"engine\":\"{engine}\",\"workload\":\"log\",\"records\":{},\"ms_median\":{ms:.1},\"ms_min\":{:.1},\
             \"mb_per_s\":{:.0}}}",
            BYTES / RECORD,
            report::quantile_ms(times, 0.0),
            BYTES as f64 / 1e3 / ms,
        );
        ms
    });
    let ratios: Vec<f64> = hand.iter().zip(&ours).map(|(hand, ours)| hand.as_secs_f64() / ours.as_secs_f64()).collect();
    println!("{{\"workload\":\"log\",\"speed_of_medians\":{:.2},\"rounds\":{ratios:.2?}}}", medians[0] / medians[1]);
    Ok(())
}

/// What one would write by hand: records behind their lengths, a wait for the disk a group.
fn plain(folder: &Path, records: u64) -> Result<()> {
    let mut file = OpenOptions::new().append(true).create_new(true).open(folder.join("plain"))?;
    let (mut group, mut framed, mut next) = (Vec::new(), Vec::new(), 0);
    while next < records {
        gather(&mut group, &mut next, records);
        framed.clear();
        for record in group.chunks_exact(RECORD) {
            framed.extend_from_slice(&(RECORD as u32).to_le_bytes());
            framed.extend_from_slice(record);
        }
        file.write_all(&framed)?;
        file.sync_data()?;
    }
    Ok(())
}

fn logged(folder: &Path, records: u64) -> Result<()> {
    let mut log = SegmentLog::open(Arc::new(RealDisk), folder.join("log"), LogConf::default())?;
    let (mut group, mut next) = (Vec::new(), 0);
    while next < records {
        gather(&mut group, &mut next, records);
        let batch: Vec<(&[u8], Time)> = group.chunks_exact(RECORD).map(|record| (record, Time::ZERO)).collect();
        log.append_all(&batch)?;
    }
    log.close()
}
