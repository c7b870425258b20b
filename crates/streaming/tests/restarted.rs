//! What inputs and listeners are told by a start that goes on..

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod builds;

use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Rdd, Result, Time};
use millstream_streaming::{
    BatchInfo, InputContext, InputInfo, InputSource, Rate, StreamingContext, StreamingListener,
};
use millstream_testkit::SimDisk;

/// Gives a number a batch, and notes what it is told.
struct Told(Arc<Mutex<Vec<String>>>);

impl InputSource for Told {
    type Item = i64;
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        lock(&self.0).push(format!("allocate {}", batch.as_millis() / 1000));
        Ok(batch.as_millis() / 1000)
    }

    fn rdd(&self, n: &i64, context: &Context) -> Result<Option<Rdd<i64>>> {
        Ok(Some(context.parallelize(vec![7; *n as usize], 1)))
    }

    fn restore(&mut self, given: &[(Time, i64)]) -> Result<()> {
        lock(&self.0).push(format!("restore {:?}", given.iter().map(|(_, n)| *n).collect::<Vec<_>>()));
        Ok(())
    }

    fn start(&mut self, _: &InputContext) -> Result<()> {
        lock(&self.0).push("start".to_owned());
        Ok(())
    }

    fn describe(&self, n: &i64) -> InputInfo {
        InputInfo { records: *n as u64, ..InputInfo::default() }
    }
}

/// Notes how many records each batch had that has ended.
struct Records(Arc<Mutex<Vec<String>>>);

impl StreamingListener for Records {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).push(format!("{} records in {}", batch.num_records(), batch.batch_time.as_millis() / 1000));
    }
}

#[test]
fn r20_r22_after_a_start_each_input_is_started_and_a_batch_that_runs_again_tells_how_many_records_it_has() {
    let disk = SimDisk::new(0);
    let inputs = Arc::new(Mutex::new(Vec::new()));
    let program = |fails_at: i64, ended: &Arc<Mutex<Vec<String>>>| {
        let (inputs, ended) = (Arc::clone(&inputs), Arc::clone(ended));
        move |ssc: &StreamingContext| {
            ssc.add_streaming_listener(Records(ended));
            ssc.input(Told(inputs)).foreach_rdd(move |_, time| {
                let fails = time.as_millis() == fails_at * 1000;
                if fails { Err(Error::new(ErrorKind::User, "the sink is down")) } else { Ok(()) }
            });
        }
    };
    builds::run(&disk, 1, 3, program(3, &Arc::default())).unwrap_err();
    let first: Vec<String> = lock(&inputs).drain(..).collect();
    assert_eq!(first, ["start", "allocate 1", "allocate 2", "allocate 3"]);
    disk.restart();
    let ended = Arc::default();
    builds::run(&disk, 4, 4, program(0, &ended)).unwrap();
    let second = lock(&inputs).clone();
    assert!(second[0].starts_with("restore [") && second[0].ends_with("3]"), "{second:?}");
    assert_eq!(second[1..], ["start", "allocate 4"], "it is started, and 3 is not allocated again");
    assert_eq!(*lock(&ended), ["3 records in 3", "4 records in 4"]);
}
