//! What a program that is killed and started again gives: exactly what it would have given.

use millstream_core::{ExchangeData, Text, secs};
use millstream_streaming::{DStream, MappedState, State, StateSpec};
use millstream_testkit::{Batches, Check, Fault, batches, check_faults, check_local};

fn pairs() -> Batches<(Text, i32)> {
    batches![
        [("a", 1), ("b", 5)],
        [("a", 2)],
        [],
        [("c", 7), ("a", 3)],
        [("b", 1)],
        [("a", 4), ("c", 1)],
        [],
        [("d", 2), ("a", 1)],
        [("b", 3)],
        [("a", 1)],
        [("c", 4), ("d", 4)],
        [("a", 6)],
    ]
}

fn totals(pairs: &DStream<(Text, i32)>) -> DStream<(Text, i32)> {
    pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
}

fn running(pairs: &DStream<(Text, i32)>) -> DStream<(Text, i32)> {
    let spec = StateSpec::function(|key: &Text, value: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        state.update(sum);
        (key.clone(), sum)
    });
    pairs.map_with_state(spec).checkpoint(secs(3)).stream()
}

/// Sums that are let go when nothing came for three seconds.
fn timed_states(pairs: &DStream<(Text, i32)>) -> MappedState<Text, i32, (Text, i32)> {
    let spec = StateSpec::function(|key: &Text, value: Option<i32>, state: &mut State<'_, i32>| {
        let sum = state.get_option().copied().unwrap_or(0) + value.unwrap_or(0);
        if state.is_timing_out() {
            return (key.clone(), -sum);
        }
        state.update(sum);
        (key.clone(), sum)
    });
    pairs.map_with_state(spec.timeout(secs(3))).checkpoint(secs(2))
}

fn timed(pairs: &DStream<(Text, i32)>) -> DStream<(Text, i32)> {
    timed_states(pairs).stream()
}

#[test]
fn a_state_goes_on_where_it_was() {
    check_local(
        batches![[("a", 1)], [("a", 2), ("b", 1)], CRASH, [("a", 4)], CRASH, CRASH, [("b", 1)]],
        |pairs: DStream<(Text, i32)>| totals(&pairs),
        "
        1s  (a, 1)
        2s  (a, 3) (b, 1)
        3s  (a, 7) (b, 1)
        4s  (a, 7) (b, 2)
        ",
    );
}

type Program = fn(DStream<(Text, i32)>) -> DStream<(Text, i32)>;

/// Every operation that remembers something, saved now and then.
const PROGRAMS: [(&str, Program); 14] = [
    ("update_state_by_key", |pairs| totals(&pairs)),
    ("a saved update_state_by_key", |pairs| totals(&pairs).checkpoint(secs(2))),
    ("map_with_state", |pairs| running(&pairs)),
    ("map_with_state with a time-out", |pairs| timed(&pairs)),
    ("snapshots of a state", |pairs| timed_states(&pairs).state_snapshots()),
    ("window", |pairs| pairs.reduce_by_key_and_window(|a, b| a + b, (secs(4), secs(2)))),
    ("group_by_key_and_window", |pairs| {
        pairs.group_by_key_and_window(secs(3)).map_values(|all| all.iter().sum::<i32>() * 100 + all.len() as i32)
    }),
    ("incremental window", |pairs| {
        pairs.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, (secs(4), secs(1))).checkpoint(secs(2))
    }),
    ("incremental window with a filter", |pairs| {
        let (add, take) = (|a, b| a + b, |a, b| a - b);
        let left = pairs.reduce_by_key_and_window_inv_filtered(add, take, |_, n| *n != 0, (secs(4), secs(2)));
        left.checkpoint(secs(4))
    }),
    ("count_by_window", |pairs| pairs.count_by_window((secs(3), secs(1))).map(|n| (Text::from("all"), n as i32))),
    ("count_by_value_and_window", |pairs| {
        pairs.map(|(key, _)| key).count_by_value_and_window((secs(3), secs(1))).map_values(|n| n as i32)
    }),
    ("window of a state", |pairs| {
        totals(&pairs).checkpoint(secs(3)).reduce_by_key_and_window(|a, b| a.max(b), secs(3))
    }),
    ("state of a window", |pairs| totals(&pairs.window((secs(3), secs(1)))).checkpoint(secs(2))),
    ("two states joined", |pairs| {
        running(&pairs).join(&totals(&pairs).checkpoint(secs(2))).map_values(|(a, b)| a * 1000 + b)
    }),
];

/// Several records of a key in a batch, over two partitions.
fn several() -> Batches<(Text, i32)> {
    batches![
        [("a", 1), ("a", 2), ("b", 3), ("a", 4)],
        [("b", 5), ("a", 6), ("b", 7)],
        [],
        [("a", 9), ("a", 8), ("c", 7), ("a", 6), ("b", 5)],
        [("c", 4), ("c", 3)],
        [("b", 1), ("a", 5), ("b", 0), ("a", 4)],
        [("a", 3), ("c", 2), ("a", 2)],
    ]
}

type InOrder = fn(DStream<(Text, i32)>) -> DStream<(Text, Vec<i32>)>;

/// Operations that keep what came of a key, in order. Vectors are compared as they are.
const IN_ORDER: [(&str, InOrder); 5] = [
    ("update_state_by_key that appends", |pairs| {
        let append = |new: Vec<i32>, old: Option<Vec<i32>>| Some([old.unwrap_or_default(), new].concat());
        pairs.update_state_by_key(append).checkpoint(secs(2))
    }),
    ("map_with_state that appends", |pairs| {
        let spec = StateSpec::function(|key: &Text, value: Option<i32>, state: &mut State<'_, Vec<i32>>| {
            let all: Vec<i32> = state.get_option().into_iter().flatten().copied().chain(value).collect();
            state.update(all.clone());
            (key.clone(), all)
        });
        pairs.map_with_state(spec).checkpoint(secs(3)).stream()
    }),
    ("group_by_key_and_window", |pairs| pairs.group_by_key_and_window(secs(3))),
    ("incremental window that appends", |pairs| {
        let (join, leave) =
            (|a: Vec<i32>, b| [a, b].concat(), |all: Vec<i32>, gone: Vec<i32>| all[gone.len()..].to_vec());
        let window = pairs.map_values(|n| vec![n]).reduce_by_key_and_window_inv(join, leave, (secs(4), secs(1)));
        window.checkpoint(secs(2))
    }),
    ("window of a state that appends", |pairs| {
        let append = |new: Vec<i32>, old: Option<Vec<i32>>| Some([old.unwrap_or_default(), new].concat());
        let states = pairs.update_state_by_key(append).checkpoint(secs(3));
        states.group_by_key_and_window(secs(2)).map_values(|all| all.concat())
    }),
];

#[test]
fn a_state_that_appends_has_what_came_of_a_key_in_the_order_of_batches_and_partitions() {
    let last = millstream_testkit::durable_steps(Check::new(2, 1), &several(), &IN_ORDER[0].1).0.to_string();
    let last = last.lines().last().unwrap_or_default().to_owned();
    assert_eq!(last, "7s (a,[1, 2, 4, 6, 9, 8, 6, 5, 4, 3, 2]) (b,[3, 5, 7, 5, 1, 0]) (c,[7, 4, 3, 2])");
}

#[test]
fn a_crash_behind_any_batch_is_not_seen_by_any_operation_that_remembers() {
    PROGRAMS.iter().for_each(|(name, program)| killed_behind_each(name, &pairs(), *program));
    IN_ORDER.iter().for_each(|(name, program)| killed_behind_each(name, &several(), *program));
}

fn killed_behind_each<U: ExchangeData>(
    name: &str,
    batches: &Batches<(Text, i32)>,
    program: fn(DStream<(Text, i32)>) -> DStream<U>,
) {
    let how = Check::new(2, 1);
    let want = millstream_testkit::durable_steps(how, batches, &program).0;
    for behind in 0..=want.to_string().lines().count() {
        let disk = millstream_testkit::SimDisk::new(behind as u64);
        let batches = batches.clone().crash_behind(behind);
        match millstream_testkit::run_through_crashes(how, &disk, &batches, &program, 0) {
            Ok(survived) => {
                assert_eq!(survived.table.to_string(), want.to_string(), "{name}, killed behind {behind}");
                assert_eq!((survived.starts, survived.repeats), (2, 0), "{name}, killed behind {behind}");
            }
            Err(error) => panic!("{name}, killed behind {behind}: {error}"),
        }
    }
}

/// Each operation of the disk × each kind of fault.
fn at_each_step<U: ExchangeData>(
    batches: &Batches<(Text, i32)>,
    programs: &[(&str, fn(DStream<(Text, i32)>) -> DStream<U>)],
    least: usize,
) {
    for (name, program) in programs {
        let fired = check_faults(Check::new(2, 1), &Fault::ALL, batches, program);
        assert!(fired > least, "{name}: {fired}");
    }
}

#[test]
fn a_fault_at_any_step_of_the_disk_changes_no_result_of_any_operation_that_remembers() {
    at_each_step(&pairs(), &PROGRAMS[..7], 200);
}

#[test]
fn a_fault_at_any_step_of_the_disk_changes_no_result_of_the_others_that_remember() {
    at_each_step(&pairs(), &PROGRAMS[7..], 200);
}

#[test]
fn a_fault_at_any_step_of_the_disk_changes_no_order_of_a_keys_records() {
    at_each_step(&several(), &IN_ORDER, 100);
}
