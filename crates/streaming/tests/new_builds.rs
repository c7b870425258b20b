//! Another build of a program on the checkpoint of the one before: what it finds again, and what it is refused for.

mod builds;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millstream_core::disk::Disk;
use millstream_core::secs;
use millstream_streaming::{DStream, State, StateSpec, StreamingContext};
use millstream_testkit::SimDisk;

use self::builds::{Seen, Sum, SumAndCount, Ticks, refused, run, run_every};

fn sum(pairs: &DStream<(String, i64)>) -> DStream<(String, Sum)> {
    pairs
        .update_state_by_key(|new, old: Option<Sum>| {
            Some(Sum { total: old.unwrap_or_default().total + new.iter().sum::<i64>() })
        })
        .checkpoint(secs(1))
}

/// The last thing that an output saw.
#[derive(Clone, Default)]
struct Last(Arc<AtomicI64>);

impl Last {
    fn of(&self, stream: &DStream<(String, Sum)>) {
        let last = Arc::clone(&self.0);
        stream.foreach_rdd(move |rdd, _| {
            for (_, sum) in rdd.collect()? {
                last.store(sum.total, Ordering::SeqCst);
            }
            Ok(())
        });
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn first_build() -> SimDisk {
    let disk = SimDisk::new(1);
    let last = Last::default();
    run(&disk, 1, 3, |ssc| last.of(&sum(&ssc.input(Ticks)).uid("sums"))).expect("a program that runs");
    assert_eq!(last.get(), 6);
    disk
}

#[test]
fn a_build_with_more_in_it_goes_on_with_what_there_was() {
    let disk = first_build();
    let (last, doubled) = (Last::default(), Last::default());
    run(&disk, 4, 5, |ssc| {
        let ticks = ssc.input(Ticks);
        // A new state in front of the old one, which is found by its name.
        let twice = sum(&ticks.map(|(k, n)| (k, 2 * n))).uid("doubled");
        doubled.of(&twice);
        last.of(&sum(&ticks).uid("sums"));
    })
    .unwrap();
    assert_eq!((last.get(), doubled.get()), (15, 18), "the new state begins with nothing");
}

#[test]
fn a_state_that_the_program_has_no_more_is_not_dropped_in_silence() {
    let disk = first_build();
    let before = disk.operations().len();
    let outcome = run(&disk, 4, 4, |ssc| drop(ssc.input(Ticks).print()));
    refused(outcome, &["- state sums", "would be lost"]);
    let written =
        disk.operations().iter().skip(before).filter(|op| op.path.to_string_lossy().contains("checkpoint-")).count();
    assert_eq!(written, 0, "nothing is changed by a start that is refused");
    let last = Last::default();
    run(&disk, 4, 4, |ssc| last.of(&sum(&ssc.input(Ticks)).uid("sums"))).unwrap();
    assert_eq!(last.get(), 10, "and the old build goes on");
}

#[test]
fn a_state_of_another_form_is_refused_with_both_forms() {
    let disk = first_build();
    let outcome = run(&disk, 4, 4, |ssc| {
        ssc.input(Ticks)
            .update_state_by_key(|new, old: Option<SumAndCount>| {
                let old = old.unwrap_or_default();
                Some(SumAndCount { total: old.total + new.iter().sum::<i64>(), count: old.count + 1 })
            })
            .uid("sums")
            .print();
    });
    refused(outcome, &["{total: i64}", "{total: i64, count: i64}", "sums"]);
}

#[test]
fn a_state_without_a_name_is_found_by_its_number_if_it_is_made_of_the_same() {
    let disk = SimDisk::new(2);
    let last = Last::default();
    run(&disk, 1, 3, |ssc| last.of(&sum(&ssc.input(Ticks)))).unwrap();
    run(&disk, 4, 4, |ssc| last.of(&sum(&ssc.input(Ticks)))).unwrap();
    assert_eq!(last.get(), 10);
    let outcome = run(&disk, 5, 5, |ssc| last.of(&sum(&ssc.input(Ticks).filter(|(_, n)| *n > 0))));
    refused(outcome, &["? state update_state_by_key 1", "Give both builds a uid"]);
}

#[test]
fn an_input_that_is_gone_is_not_dropped_in_silence_and_a_new_one_begins() {
    let disk = SimDisk::new(3);
    let last = Last::default();
    run(&disk, 1, 2, |ssc| last.of(&sum(&ssc.input(Ticks).uid("ticks")).uid("sums"))).unwrap();
    let outcome = run(&disk, 3, 3, |ssc| last.of(&sum(&ssc.input(Ticks).uid("tocks")).uid("sums")));
    refused(outcome, &["- input ticks", "+ input tocks"]);
    run(&disk, 3, 3, |ssc| {
        last.of(&sum(&ssc.input(Ticks).uid("ticks").union(&ssc.input(Ticks).uid("tocks"))).uid("sums"))
    })
    .unwrap();
    assert_eq!(last.get(), 9);
}

#[test]
fn a_window_that_a_later_build_lays_over_a_state_begins_with_what_is_there() {
    let disk = SimDisk::new(9);
    let build = |ssc: &StreamingContext| sum(&ssc.input(Ticks)).uid("sums");
    // So many that the first batches are forgotten also by the log.
    run(&disk, 1, 400, |ssc| drop(build(ssc).print_first(0))).unwrap();
    let seen = Seen::default();
    run(&disk, 401, 402, |ssc| {
        let totals = build(ssc).transform(|rdd, _| rdd.map(|(_, sum)| sum.total));
        seen.of(&totals.window(secs(5)));
    })
    .unwrap();
    assert_eq!(seen.last().last(), Some(&(402 * 403 / 2)));
    let sums: Vec<i64> = (400..=402).map(|n| n * (n + 1) / 2).collect();
    assert!(seen.last().ends_with(&sums), "{:?}", seen.last());
}

#[test]
fn another_batch_interval_is_refused() {
    let disk = first_build();
    let outcome = run_every(&disk, secs(2), 4, 4, |ssc| drop(ssc.input(Ticks).print()));
    refused(outcome, &["a batch every 1s", "every 2s"]);
}

#[test]
fn states_that_no_record_names_are_removed_by_the_next_start() {
    let disk = first_build();
    let lost = Path::new("/checkpoint/states-1/rdd-999999");
    disk.create_folder(lost).unwrap();
    let last = Last::default();
    run(&disk, 4, 6, |ssc| last.of(&sum(&ssc.input(Ticks)).uid("sums"))).unwrap();
    assert_eq!((last.get(), disk.exists(lost).unwrap()), (21, false));
}

#[test]
fn map_with_state_and_windows_have_names_too() {
    let build = |ssc: &StreamingContext| {
        let spec = StateSpec::function(|key: &String, value: Option<i64>, state: &mut State<'_, i64>| {
            let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
            state.update(sum);
            (key.clone(), sum)
        });
        ssc.input(Ticks).map_with_state(spec).uid("sums").print();
        ssc.input(Ticks).reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(2)).uid("window").print();
    };
    let disk = SimDisk::new(4);
    run(&disk, 1, 1, build).unwrap();
    let outcome = run(&disk, 2, 2, |ssc| {
        ssc.input(Ticks).print();
        ssc.input(Ticks).print();
    });
    refused(outcome, &["- state sums: text => i64, gave [(text, i64)]", "- state window: text => i64"]);
    run(&disk, 2, 2, build).unwrap();
}
