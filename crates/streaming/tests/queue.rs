//! Queues of Rdds: SC16, SC17, IN04, S-99, S-100, S-102.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Notes, advance, at, beside, gather, within};
use millstream_core::{Rdd, Text};
use millstream_streaming::{BatchInfo, DStream, RddQueue, StreamingListener, WhenEmpty};
use millstream_testkit::{Check, StreamTest};

/// Notes each batch's partitions.
fn parts(stream: &DStream<i32>) -> Notes<Vec<Vec<i32>>> {
    let notes = Notes::default();
    let seen = notes.clone();
    stream.foreach_rdd(move |rdd, _| {
        seen.add(rdd.glom().collect()?);
        Ok(())
    });
    notes
}

fn rdd(test: &StreamTest, values: &[i32], partitions: usize) -> Rdd<i32> {
    test.ssc().context().parallelize(values.to_vec(), partitions)
}

#[test]
fn sc16_one_rdd_a_batch_in_their_order_and_then_an_empty_one_of_one_partition() {
    let test = StreamTest::new();
    let queue: RddQueue<i32> = [rdd(&test, &[1, 2], 2), rdd(&test, &[3], 1)].into_iter().collect();
    let seen = parts(&test.ssc().queue_stream(&queue));
    test.ssc().start().unwrap();
    advance(&test, 1, 3);
    assert_eq!(seen.all(), [vec![vec![1], vec![2]], vec![vec![3]], vec![vec![]]]);
    assert!(queue.is_empty());
}

#[test]
fn s100_all_rdds_that_wait_are_one_batch() {
    let test = StreamTest::new();
    let queue = RddQueue::new();
    let seen = parts(&test.ssc().queue_stream_all(&queue, WhenEmpty::OnePartition));
    (1..=3).for_each(|n| queue.push(rdd(&test, &[n], 1)));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    (4..=5).for_each(|n| queue.push(rdd(&test, &[n], 1)));
    advance(&test, 2, 3);
    assert_eq!(seen.all(), [vec![vec![1], vec![2], vec![3]], vec![vec![4], vec![5]], vec![vec![]]]);
}

#[test]
fn s99_what_an_empty_queue_gives_is_chosen() {
    let empty: [(fn(&StreamTest) -> WhenEmpty<i32>, Vec<Vec<i32>>); 3] = [
        (|_| WhenEmpty::OnePartition, vec![vec![]]),
        (|_| WhenEmpty::NoPartitions, vec![]),
        (|test| WhenEmpty::Default(rdd(test, &[8, 9], 1)), vec![vec![8, 9]]),
    ];
    for (when_empty, want) in empty {
        let test = StreamTest::new();
        let queue: RddQueue<i32> = [rdd(&test, &[1], 1)].into_iter().collect();
        let others = RddQueue::new();
        let one = parts(&test.ssc().queue_stream_or(&queue, when_empty(&test)));
        let all = parts(&test.ssc().queue_stream_all(&others, when_empty(&test)));
        test.ssc().start().unwrap();
        advance(&test, 1, 3);
        assert_eq!(one.all(), [vec![vec![1]], want.clone(), want.clone()]);
        assert_eq!(all.all(), [want.clone(), want.clone(), want.clone()]);
    }
}

#[test]
fn s99_rdds_may_be_added_while_batches_run_from_any_thread_and_from_an_output() {
    let test = StreamTest::new();
    let queue = RddQueue::new();
    let stream = test.ssc().queue_stream(&queue);
    let items = gather(&stream);
    let again = queue.clone();
    stream.foreach_rdd(move |rdd, time| {
        if time == at(2) {
            again.push(rdd.map(|n| n + 100));
        }
    });
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    let (other, one) = (queue.clone(), rdd(&test, &[1], 1));
    let (_thread, pushed) = beside(move || other.push(one));
    within("the push", &pushed);
    assert_eq!(queue.len(), 1);
    advance(&test, 2, 3);
    assert_eq!(items.all(), [1, 101]);
}

#[test]
fn s99_two_streams_of_one_queue_share_its_rdds() {
    let test = StreamTest::new();
    let queue: RddQueue<i32> = (1..=3).map(|n| rdd(&test, &[n], 1)).collect();
    let (first, second) = (gather(&test.ssc().queue_stream(&queue)), gather(&test.ssc().queue_stream(&queue)));
    test.ssc().start().unwrap();
    advance(&test, 1, 2);
    assert_eq!((first.all(), second.all()), (vec![1, 3], vec![2]));
}

#[test]
fn s102_a_queue_counts_no_records() {
    struct Records(Notes<u64>);
    impl StreamingListener for Records {
        fn on_batch_completed(&self, batch: &BatchInfo) {
            self.0.add(batch.num_records());
        }
    }
    let (test, told) = (StreamTest::new(), Notes::default());
    test.ssc().add_streaming_listener(Records(told.clone()));
    let queue: RddQueue<i32> = [rdd(&test, &[1, 2], 1)].into_iter().collect();
    gather(&test.ssc().queue_stream(&queue));
    test.ssc().start().unwrap();
    advance(&test, 1, 1);
    test.ssc().flush_listeners();
    assert_eq!(told.all(), [0]);
}

#[test]
fn in04_a_constant_stream_gives_the_same_rdd_in_every_batch() {
    for how in Check::all() {
        let test = how.context();
        let words = test.ssc().context().parallelize(vec![Text::from("a"), Text::from("b")], 2);
        let id = words.id();
        let stream = test.ssc().constant_stream(words);
        let (items, ids) = (gather(&stream), Notes::default());
        let seen = ids.clone();
        stream.foreach_rdd(move |rdd, _| seen.add(rdd.id()));
        test.ssc().start().unwrap();
        advance(&test, 1, 2);
        assert_eq!(items.all(), ["a", "b", "a", "b"].map(Text::from));
        assert_eq!(ids.all(), [id, id]);
    }
}

#[test]
fn s22_a_queue_lets_go_of_rdds_whose_batches_are_forgotten() {
    let test = StreamTest::new();
    let queue = RddQueue::new();
    let items = gather(&test.ssc().queue_stream(&queue));
    let token = std::sync::Arc::new(());
    for n in 1..=3 {
        let kept = std::sync::Arc::clone(&token);
        queue.push(rdd(&test, &[n], 1).map(move |n| {
            let _ = &kept;
            n
        }));
    }
    test.ssc().start().unwrap();
    advance(&test, 1, 5);
    assert_eq!(items.all(), [1, 2, 3]);
    assert_eq!(std::sync::Arc::strong_count(&token), 1);
}
