//! A broker whose disk is full.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use millstream_core::clock::{Clock, ManualClock, monotonic};
use millstream_core::{ErrorKind, Result, Time, secs};
use millstream_kafka::{Admin, KafkaSink, NewRecord, SaveToKafka as _, all_of, rdd};
use millstream_streaming::{Conf, MissedBatches, StreamingContext};
use millstream_testkit::{batches, input};

use crate::nodes::{Nodes, alone, await_that};
use crate::small_disk::SmallDisk;

/// How large the disk is, and what lies on it beside the broker's.
const DISK: usize = 48 << 20;
const BALLAST: usize = 40 << 20;

/// How large a record is. A batch has eight of them for each of its numbers.
const RECORD: usize = 500_000;

/// One life of the program: it goes on from its folder, up to the third batch.
fn live(nodes: &Nodes, folder: &Path) -> Result<()> {
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = Conf::new("local[1]", "full")?;
    conf.streaming.exclusive = false;
    conf.streaming.missed_batches = MissedBatches::Replay;
    let builder = StreamingContext::builder(conf, secs(1)).with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>);
    let ssc = builder.get_or_create(folder, |ssc| {
        let sink = KafkaSink::to(nodes.directly(), "full").write_within(secs(10));
        let records = input(ssc, batches![[1], [2], [3]], 1)
            .flat_map(|n: i32| (0..8).map(move |part| (n, part)).collect::<Vec<_>>());
        let record =
            |(n, part): (i32, i32)| NewRecord::value(vec![b'x'; RECORD]).key(format!("{n}.{part}")).partition(0);
        records.map(record).save_to_kafka(sink).uid("full");
        Ok(())
    })?;
    let lived = ssc.start().and_then(|()| {
        for s in 1..=3 {
            clock.advance_to(Time::from_millis(s * 1000));
            if !ssc.await_batch(Time::from_millis(s * 1000)) {
                break;
            }
        }
        ssc.await_termination_or_timeout(std::time::Duration::ZERO).map(drop)
    });
    lived.and(ssc.stop())
}

/// Returns the keys of what is there, and committed.
fn there(nodes: &Nodes) -> Vec<String> {
    let context = millstream_core::Context::new("local[1]", "there").unwrap();
    let all = rdd(&context, nodes.directly(), all_of(nodes.directly(), ["full"]).unwrap()).unwrap();
    all.collect().unwrap().iter().map(|record| record.key_text().unwrap_or("-").to_owned()).collect()
}

#[test]
fn a_broker_whose_disk_is_full_is_named_in_time_and_with_room_the_batch_is_written_once() {
    let (_one, home) = (alone(), tempfile::tempdir().unwrap());
    let Some(small) = SmallDisk::at(home.path(), DISK, "a broker") else { return };
    let data = small.0.join("data");
    let own = [("log.dirs", data.to_str().unwrap()), ("log.index.size.max.bytes", "65536")];
    let nodes = Nodes::start(1, &own);
    Admin::of(nodes.directly()).unwrap().create_topic("full", 1, &[]).unwrap();
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let began = monotonic();
    let error = live(&nodes, folder.path()).unwrap_err();
    let took = monotonic() - began;
    let text = error.to_string();
    eprintln!("after {took:?}: {text}");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{text}");
    assert!(text.contains("topic full") && text.contains(&nodes.direct), "{text}");
    assert!(took < secs(40), "{took:?}: {text}");

    // There is room again. A broker that cannot write ends by itself.
    fs::remove_file(&ballast).unwrap();
    await_that("the broker has ended", || nodes.has_ended(0));
    nodes.begin(0);
    nodes.await_all();
    live(&nodes, folder.path()).unwrap();
    let want: Vec<String> = (1..=3).flat_map(|n| (0..8).map(move |part| format!("{n}.{part}"))).collect();
    assert_eq!(there(&nodes), want);
    drop(nodes);
}
