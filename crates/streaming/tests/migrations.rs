//! States of other forms, names and builds: what a program brings over, drops when it is told to, and refuses.

mod builds;

use millstream_core::secs;
use millstream_streaming::{DStream, State, StateSpec, StreamingContext};
use millstream_testkit::SimDisk;
use serde::{Deserialize, Serialize};

use self::builds::{Seen, Sum, SumAndCount, Ticks, refused, run};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Narrow(i32);

type Pairs = DStream<(String, i64)>;

/// The first build: sums in a narrow number.
fn narrow(pairs: &Pairs) -> DStream<(String, Narrow)> {
    pairs
        .update_state_by_key(|new, old: Option<Narrow>| {
            Some(Narrow(old.map_or(0, |n| n.0) + new.iter().sum::<i64>() as i32))
        })
        .checkpoint(secs(1))
}

/// The second: in a structure.
fn sum(pairs: &Pairs) -> DStream<(String, Sum)> {
    pairs.update_state_by_key(|new, old: Option<Sum>| {
        Some(Sum { total: old.unwrap_or_default().total + new.iter().sum::<i64>() })
    })
}

/// The third: with a count beside.
fn sum_and_count(pairs: &Pairs) -> DStream<(String, SumAndCount)> {
    pairs.update_state_by_key(|new, old: Option<SumAndCount>| {
        let SumAndCount { total, count } = old.unwrap_or_default();
        Some(SumAndCount { total: total + new.iter().sum::<i64>(), count: count + new.len() as i64 })
    })
}

fn from_narrow(old: Narrow) -> Sum {
    Sum { total: old.0.into() }
}

fn from_sum(old: Sum) -> SumAndCount {
    SumAndCount { total: old.total, count: 100 }
}

/// A program of the first build, ended behind three batches: 1 + 2 + 3.
fn first_build() -> SimDisk {
    let disk = SimDisk::new(1);
    run(&disk, 1, 3, |ssc| drop(narrow(&ssc.input(Ticks)).uid("sums").print())).expect("a program that runs");
    disk
}

#[test]
fn a_state_is_migrated_and_again_until_it_has_been_saved_anew() {
    let disk = first_build();
    let seen = Seen::default();
    let second = |ssc: &StreamingContext| {
        let sums = sum(&ssc.input(Ticks)).uid("sums").migrate_from(from_narrow);
        // Seldom: the first runs of this build end before it is saved.
        seen.of(&sums.checkpoint(secs(10)));
    };
    run(&disk, 4, 5, second).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 15 })]);
    run(&disk, 6, 6, second).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 21 })]);
    // What lies there is still of the first build, whatever the last start was of.
    let without = |ssc: &StreamingContext| drop(sum(&ssc.input(Ticks)).uid("sums").print());
    refused(run(&disk, 7, 7, without), &["~ sums", "text => i32", "text => {total: i64}", "migrate_from"]);
    run(&disk, 7, 12, second).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 78 })]);
    // Now it has been saved, behind the tenth batch.
    run(&disk, 13, 13, without).unwrap();
    run(&disk, 14, 14, |ssc| seen.of(&sum(&ssc.input(Ticks)).uid("sums"))).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 105 })]);
}

#[test]
fn a_chain_of_migrations_brings_over_the_oldest_form_and_those_between() {
    for between in [false, true] {
        let disk = first_build();
        let mut next = 4;
        if between {
            let second = |ssc: &StreamingContext| {
                sum(&ssc.input(Ticks)).checkpoint(secs(1)).uid("sums").migrate_from(from_narrow).print();
            };
            run(&disk, 4, 4, second).unwrap();
            next = 5;
        }
        let seen = Seen::default();
        run(&disk, next, 5, |ssc| {
            let sums = sum_and_count(&ssc.input(Ticks)).uid("sums");
            seen.of(&sums.migrate_from(from_sum).migrate_from(from_narrow));
        })
        .unwrap();
        let count = if between { 101 } else { 102 };
        assert_eq!(seen.last(), [("k".into(), SumAndCount { total: 15, count })], "saved between: {between}");
    }
}

/// Sums with `map_with_state`, which gives what `give` makes of a sum.
fn mapped<E: millstream_core::ExchangeData>(
    pairs: &Pairs,
    give: impl Fn(i64) -> E + Send + Sync + 'static,
) -> millstream_streaming::MappedState<String, i64, E> {
    let f = move |_: &String, value: Option<i64>, state: &mut State<'_, i64>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        state.update(sum);
        give(sum)
    };
    pairs.map_with_state(StateSpec::function(f)).checkpoint(secs(1))
}

#[test]
fn states_of_map_with_state_and_windows_are_migrated_with_what_they_gave() {
    let disk = SimDisk::new(2);
    run(&disk, 1, 3, |ssc| {
        let ticks = ssc.input(Ticks);
        mapped(&ticks, |sum| sum).uid("sums").window(secs(3)).print();
        let small = ticks.map(|(key, n)| (key, n as i32));
        small
            .reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3))
            .uid("window")
            .checkpoint(secs(1))
            .print();
    })
    .unwrap();
    let (given, windows) = (Seen::default(), Seen::default());
    run(&disk, 4, 4, |ssc| {
        let ticks = ssc.input(Ticks);
        // The function gives texts now, and a window reaches back to what it gave in the batch of the save.
        let sums = mapped(&ticks, |sum| format!("now {sum}")).uid("sums");
        let sums = sums.migrate_both_from(|state: i64| state, |given: i64| format!("then {given}"));
        given.of(&sums.window(secs(3)));
        let window = ticks.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3)).uid("window");
        windows.of(&window.migrate_from(|narrow: i32| i64::from(narrow)));
    })
    .unwrap();
    assert_eq!(given.last(), ["then 3", "now 6", "now 10"], "made from the save that the window needs");
    assert_eq!(windows.last(), [("k".into(), 9)]);
    let seen = Seen::default();
    run(&disk, 5, 5, |ssc| {
        let ticks = ssc.input(Ticks);
        let sums = mapped(&ticks, |sum| format!("now {sum}")).uid("sums");
        seen.of(&sums.migrate_both_from(|state: i64| state, |given: i64| format!("then {given}")));
        ticks
            .reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3))
            .uid("window")
            .migrate_from(|n: i32| i64::from(n))
            .print();
    })
    .expect("the state has been saved in its new form beside the old one; the window has not, and is migrated again");
    assert_eq!(seen.last(), ["now 15"]);
}

#[test]
fn a_migration_that_cannot_be_right_is_reported_with_its_line() {
    let mistakes: [(fn(&StreamingContext), &str); 5] = [
        (|ssc| drop(sum(&ssc.input(Ticks)).migrate_from(|old: Sum| old).print()), "cannot be told from it"),
        (
            |ssc| drop(sum(&ssc.input(Ticks)).migrate_from(from_narrow).migrate_from(from_narrow).print()),
            "there is a migration from the form text => i32 already",
        ),
        (
            |ssc| drop(sum_and_count(&ssc.input(Ticks)).migrate_from(from_narrow).migrate_from(from_sum).print()),
            "give the newest first",
        ),
        (|ssc| drop(ssc.input(Ticks).migrate_from(|n: i32| i64::from(n)).print()), "migrate_from is for a state"),
        (
            |ssc| {
                drop(
                    mapped(&ssc.input(Ticks), |sum| sum)
                        .state_snapshots()
                        .migrate_from(i64::from as fn(i32) -> i64)
                        .print(),
                )
            },
            "migrate_from is for a state",
        ),
    ];
    for (build, part) in mistakes {
        let error = run(&SimDisk::new(3), 1, 1, build).expect_err("it is a mistake").to_string();
        assert!(error.contains(part) && error.contains("migrations.rs:"), "`{part}` is not in: {error}");
    }
}

#[test]
fn a_migration_that_panics_fails_the_batch_with_its_line_and_what_is_kept_stays() {
    let disk = first_build();
    let error = run(&disk, 4, 4, |ssc| {
        sum(&ssc.input(Ticks)).uid("sums").migrate_from(|old: Narrow| panic!("{} is too much", old.0) as Sum).print();
    });
    let error = error.expect_err("it panicked").to_string();
    assert!(error.contains("6 is too much") && error.contains("migrations.rs:"), "{error}");
    let seen = Seen::default();
    run(&disk, 5, 5, |ssc| seen.of(&sum(&ssc.input(Ticks)).uid("sums").migrate_from(from_narrow))).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 15 })]);
}

#[test]
fn what_may_go_is_dropped_and_stays_dropped_and_what_goes_on_is_not_touched() {
    let disk = first_build();
    let seen = Seen::default();
    let build = |ssc: &StreamingContext| {
        ssc.drop_kept(["sums"]);
        seen.of(&sum(&ssc.input(Ticks)).checkpoint(secs(1)).uid("others"));
    };
    run(&disk, 4, 5, build).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 9 })], "it is new");
    run(&disk, 6, 6, build).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 15 })], "and goes on");
    // In a form that nothing reads: it begins anew, once.
    let disk = first_build();
    let anew = |ssc: &StreamingContext| {
        ssc.drop_kept(["sums"]);
        seen.of(&sum(&ssc.input(Ticks)).checkpoint(secs(1)).uid("sums"));
    };
    run(&disk, 4, 5, anew).unwrap();
    run(&disk, 6, 6, anew).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 15 })]);
}

#[test]
fn a_state_that_had_no_name_is_given_one() {
    let disk = SimDisk::new(4);
    run(&disk, 1, 3, |ssc| drop(sum(&ssc.input(Ticks)).checkpoint(secs(1)).print())).unwrap();
    let seen = Seen::default();
    let named = |ssc: &StreamingContext| seen.of(&sum(&ssc.input(Ticks).filter(|(_, n)| *n != 4)).uid("sums"));
    refused(run(&disk, 4, 4, named), &["- state update_state_by_key 1", "+ state sums"]);
    let renamed = |ssc: &StreamingContext| {
        ssc.rename_kept("update_state_by_key 1", "sums");
        named(ssc);
    };
    run(&disk, 4, 5, renamed).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 11 })]);
    run(&disk, 6, 6, renamed).unwrap();
    run(&disk, 7, 7, named).unwrap();
    assert_eq!(seen.last(), [("k".into(), Sum { total: 24 })]);
}

#[test]
fn other_numbers_of_partitions_and_cores_go_on_with_the_same_states() {
    let build = |ssc: &StreamingContext, partitions: usize| {
        let seen = Seen::default();
        let many = ssc.input(Ticks).flat_map(|(_, n)| (0..50i64).map(move |key| (key.to_string(), n)));
        let spec = millstream_streaming::UpdateSpec::new().partitioner(partitions);
        let sums = many.update_state_by_key_with(spec, |_, _, new: Vec<i64>, old: Option<i64>| {
            Some(old.unwrap_or(0) + new.iter().sum::<i64>())
        });
        seen.of(&sums.checkpoint(secs(1)).uid("sums"));
        let f = |_: &String, value: Option<i64>, state: &mut State<'_, i64>| {
            let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
            state.update(sum);
        };
        let spec = StateSpec::function(f).partitioner(partitions);
        let states = many.map_with_state(spec).checkpoint(secs(1)).uid("states");
        states.print();
        seen
    };
    let disk = SimDisk::new(5);
    let (mut from, mut seen) = (1, Seen::default());
    for (cores, partitions) in [(1, 2), (3, 5), (2, 1)] {
        builds::run_on(&disk, cores, from, from + 1, |ssc| seen = build(ssc, partitions)).unwrap();
        from += 2;
        let total: i64 = (1..from).sum();
        let mut last: Vec<(String, i64)> = seen.last();
        last.sort();
        assert_eq!(last.len(), 50, "{cores} cores, {partitions} partitions");
        assert!(last.iter().all(|(_, sum)| *sum == total), "{cores} cores, {partitions} partitions: {last:?}");
    }
}
