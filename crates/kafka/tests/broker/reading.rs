//! Exact ranges: `kafka::rdd`, and topics with holes in their offsets.

use millstream_core::{Context, Text};
use millstream_kafka::{Isolation, OffsetRange, ReadBy, Record, all_of, offset_ranges, rdd, rdd_by};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::common::{
    PATIENCE, await_that, brokers, producer, send, topic, topic_with, transaction, write, write_in_transaction,
};

fn read_by(ranges: &[OffsetRange], isolation: Isolation, read_by: ReadBy) -> Vec<Record> {
    let context = Context::new("local[2]", "ranges").unwrap();
    rdd_by(&context, brokers(), ranges.iter().cloned(), isolation, read_by).unwrap().collect().unwrap()
}

/// What both readers find; the same, or the test fails.
fn offsets(ranges: &[OffsetRange]) -> Vec<i64> {
    let fast = read_by(ranges, Isolation::ReadCommitted, ReadBy::Fastest);
    assert!(fast == read_by(ranges, Isolation::ReadCommitted, ReadBy::Client), "the readers differ on {ranges:?}");
    fast.iter().map(Record::offset).collect()
}

#[test]
fn r61_ranges_as_an_rdd_for_batch_programs() {
    let a = topic("basic", 2);
    write(&a, 0, ["the quick", "brown fox"]);
    write(&a, 1, ["jumps over"]);
    let all = all_of(brokers(), [&a]).unwrap();
    assert_eq!(all, [OffsetRange::new(&a, 0, 0, 2), OffsetRange::new(&a, 1, 0, 1)]);
    let context = Context::new("local[2]", "basic").unwrap();
    let records = rdd(&context, brokers(), all.clone()).unwrap();
    assert_eq!((records.num_partitions(), records.count().unwrap()), (2, 3));
    assert_eq!(offset_ranges(&records), Some(all));
    assert_eq!(offset_ranges(&records.filter(|_| true)), None, "R-67: only of the very Rdd");
    let words = records.flat_map(|record| record.to_text()).flat_map(|line: Text| line.split(' ')).count().unwrap();
    assert_eq!(words, 6);
    assert_eq!(records.take(1).unwrap()[0].text(), Some("the quick"));
    assert_eq!(offsets(&[OffsetRange::new(&a, 0, 1, 2), OffsetRange::new(&a, 0, 0, 1)]), [1, 0], "in the order given");
    assert_eq!(offsets(&[OffsetRange::new(&a, 0, 1, 1)]), [0; 0]);
}

#[test]
fn a_record_has_all_that_its_producer_gave_it() {
    let a = topic("parts", 1);
    let producer = producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "h", value: Some("1") })
        .insert(Header { key: "h", value: None::<&str> });
    let record = BaseRecord::to(&a).key("k").payload("v").timestamp(1234).headers(headers);
    producer.send::<str, str>(record).map_err(|(error, _)| error).unwrap();
    producer.send(BaseRecord::<[u8], [u8]>::to(&a).payload(b"\xff\xfe")).map_err(|(error, _)| error).unwrap();
    producer.send(BaseRecord::<str, str>::to(&a).key("gone")).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    let context = Context::new("local[1]", "parts").unwrap();
    let records: Vec<Record> = rdd(&context, brokers(), all_of(brokers(), [&a]).unwrap()).unwrap().collect().unwrap();
    let first = &records[0];
    assert_eq!((first.topic(), first.partition(), first.offset()), (&*a, 0, 0));
    assert_eq!((first.key_text(), first.text()), (Some("k"), Some("v")));
    assert_eq!(first.timestamp().unwrap().as_millis(), 1234);
    assert_eq!(first.headers().collect::<Vec<_>>(), [("h", Some(&b"1"[..])), ("h", None)]);
    assert_eq!((records[1].key(), records[1].text(), records[1].value()), (None, None, Some(&b"\xff\xfe"[..])));
    assert_eq!((records[2].key_text(), records[2].value()), (Some("gone"), None));
}

#[test]
fn r71_what_was_aborted_is_not_read_and_a_range_of_it_ends() {
    let a = topic("aborted", 1);
    write_in_transaction(&a, 0, (0..10).map(|n| format!("a{n}")), true); // 0 to 9, and a marker
    write_in_transaction(&a, 0, ["no"; 10], false); // 11 to 20, and a marker
    write_in_transaction(&a, 0, ["b"], true); // 22, and a marker
    write_in_transaction(&a, 0, ["no"; 3], false); // 24 to 26, and a marker
    let range = |from, until| [OffsetRange::new(&a, 0, from, until)];
    assert_eq!(all_of(brokers(), [&a]).unwrap(), range(0, 28));
    let committed: Vec<i64> = (0..10).chain([22]).collect();
    assert_eq!(offsets(&range(0, 28)), committed);
    // Ranges that begin and end in a hole, and beside one.
    for (from, until) in [(9, 11), (10, 11), (11, 21), (15, 18), (12, 23), (10, 22), (21, 22), (23, 28), (26, 28)] {
        let want: Vec<i64> = committed.iter().copied().filter(|offset| (from..until).contains(offset)).collect();
        assert_eq!(offsets(&range(from, until)), want, "{from} until {until}");
    }
}

#[test]
fn r71_a_transaction_that_is_open_holds_back_what_is_behind_it() {
    let a = topic("open", 1);
    write(&a, 0, ["x"; 3]);
    let open = transaction(&a, 0, ["y"; 2]);
    write(&a, 0, ["z"]);
    let ends = || all_of(brokers(), [&a]).unwrap()[0].until;
    assert_eq!(ends(), 3, "the last stable offset, and not what a client has seen");
    open.commit_transaction(PATIENCE).unwrap();
    await_that("the marker is written", || ends() == 7);
    assert_eq!(offsets(&[OffsetRange::new(&a, 0, 0, 7)]), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn r71_a_compacted_topic_is_read_without_its_holes() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
        ("max.compaction.lag.ms", "100"),
        ("segment.bytes", "1048576"),
    ];
    let a = topic_with("compacted", 1, &settings);
    let producer = producer(&[]);
    for n in 0..300 {
        send(&producer, &a, 0, Some(&format!("k{}", n % 3)), &n.to_string());
    }
    producer.flush(PATIENCE).unwrap();
    let all = [OffsetRange::new(&a, 0, 0, 300)];
    // The segment is closed by a record that comes later than it may be old, and then the cleaner runs.
    await_that("the topic is compacted", || {
        write_keyed(&a, "later");
        read_by(&all, Isolation::ReadCommitted, ReadBy::Fastest).len() < 300
    });
    let there = offsets(&all);
    for (from, until) in [(0, 10), (1, 299), (100, 200), (299, 300), (0, 300)] {
        let want: Vec<i64> = there.iter().copied().filter(|offset| (from..until).contains(offset)).collect();
        assert_eq!(offsets(&[OffsetRange::new(&a, 0, from, until)]), want, "{from} until {until}");
    }
    assert!(there.ends_with(&[297, 298, 299]), "the last of each key stays: {there:?}");
}

fn write_keyed(topic: &str, key: &str) {
    let producer = producer(&[]);
    send(&producer, topic, 0, Some(key), "x");
    producer.flush(PATIENCE).unwrap();
}

/// A number that looks like chance, the same each time.
fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Cuts what there is into ranges at borders that a seed chooses, and one at each end.
fn cut(end: i64, seed: u64, topic: &str) -> Vec<OffsetRange> {
    let mut borders: Vec<i64> = (0..40).map(|i| (scattered(seed * 100 + i) % (end as u64 + 1)) as i64).collect();
    borders.extend([0, end]);
    borders.sort_unstable();
    borders.windows(2).map(|two| OffsetRange::new(topic, 0, two[0], two[1])).collect()
}

#[test]
fn both_readers_find_the_same_at_any_border_of_any_compression_and_transaction() {
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let a = topic(compression, 1);
        let mut number = 0;
        let mut next = |count: u64| {
            let from = number;
            number += count;
            (from..number).map(|n| format!("{n} {}", "x".repeat((scattered(n) % 300) as usize))).collect::<Vec<_>>()
        };
        let settings = [("compression.type", compression), ("linger.ms", "20")];
        for round in 0..12u64 {
            let values = next(1 + scattered(round) % 400);
            match round % 4 {
                0 | 2 => {
                    let producer = producer(&settings);
                    values.iter().for_each(|value| send(&producer, &a, 0, Some("key"), value));
                    producer.flush(PATIENCE).unwrap();
                }
                kind => {
                    let id = crate::common::fresh("compressed");
                    let producer = producer(&[&settings[..], &[("transactional.id", &*id)]].concat());
                    producer.init_transactions(PATIENCE).unwrap();
                    producer.begin_transaction().unwrap();
                    values.iter().for_each(|value| send(&producer, &a, 0, None, value));
                    producer.flush(PATIENCE).unwrap();
                    let ended = if kind == 1 {
                        producer.commit_transaction(PATIENCE)
                    } else {
                        producer.abort_transaction(PATIENCE)
                    };
                    ended.unwrap();
                }
            }
        }
        let end = all_of(brokers(), [&a]).unwrap()[0].until;
        let whole = [OffsetRange::new(&a, 0, 0, end)];
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let want = read_by(&whole, isolation, ReadBy::Client);
            assert!(want.len() > 500 && want.iter().all(|record| record.text().is_some()), "{compression}");
            for seed in 0..3 {
                let got = read_by(&cut(end, seed, &a), isolation, ReadBy::Fastest);
                assert_eq!(got.len(), want.len(), "{compression} {isolation:?} seed {seed}");
                assert!(got == want, "{compression} {isolation:?} seed {seed}");
            }
            assert!(read_by(&cut(end, 9, &a), isolation, ReadBy::Client) == want, "{compression} {isolation:?}");
        }
    }
}
