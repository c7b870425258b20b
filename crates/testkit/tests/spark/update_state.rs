//! State by key that is updated in each batch for each key.
#![allow(clippy::needless_pass_by_value, reason = "an update is given its values")]

use millstream_core::{Text, secs};
use millstream_streaming::{DStream, UpdateSpec};

use super::run::{Programs, Run, sorted};

fn add(values: Vec<i64>, state: Option<i64>) -> Option<i64> {
    Some(state.unwrap_or(0) + values.iter().sum::<i64>())
}

/// Counts how often it was called for a key, and with how many values.
fn calls(values: Vec<i64>, state: Option<(i64, usize)>) -> Option<(i64, usize)> {
    let (called, given) = state.unwrap_or_default();
    Some((called + 1, given + values.len()))
}

/// Forgets a key that had no values for two batches. State is the sum and how many batches were without.
fn forgetful(values: Vec<i64>, state: Option<(i64, i64)>) -> Option<(i64, i64)> {
    let (sum, without) = state.unwrap_or_default();
    let without = if values.is_empty() { without + 1 } else { 0 };
    (without != 2).then(|| (sum + values.iter().sum::<i64>(), without))
}

/// Sums that begin with a table.
fn sums_from<const N: usize>(run: &Run<'_>, table: [(&'static str, i64); N]) -> DStream<(Text, i64)> {
    let spec = UpdateSpec::new().partitioner(2).initial_state(&run.table(table));
    run.pairs().update_state_by_key_with(spec, |_, _, values, state| add(values, state))
}

/// Adds up, and lets go of a key at three.
fn sums_without_three(all: Vec<(Text, Vec<i64>, Option<i64>)>) -> Vec<(Text, i64)> {
    let sums = all.into_iter().filter_map(|(key, values, state)| Some((key, add(values, state)?)));
    sums.filter(|(_, sum)| *sum != 3).collect()
}

pub(crate) const PROGRAMS: Programs = &[
    ("sums", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("sums_of_duplicates", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("sums_of_skew", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("every_key_is_called", |run| run.output(&run.pairs().update_state_by_key(calls))),
    ("of_missing", |run| run.output(&run.pairs().update_state_by_key(calls))),
    ("of_nothing", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("of_only_missing", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("keys_that_leave", |run| run.output(&run.pairs().update_state_by_key(forgetful))),
    ("keys_that_leave_while_missing", |run| run.output(&run.pairs().update_state_by_key(forgetful))),
    ("all_to_none", |run| run.output(&run.pairs().update_state_by_key(|_, _: Option<i64>| None))),
    ("zero_to_none", |run| {
        run.output(&run.pairs().update_state_by_key(|values, state| add(values, state).filter(|sum| *sum != 0)));
    }),
    ("state_of_another_type", |run| {
        run.output(&run.pairs().update_state_by_key(|values, state: Option<String>| {
            Some(format!("{}{:?}", state.unwrap_or_default(), sorted(values)))
        }));
    }),
    ("with_initial_state", |run| run.output(&sums_from(run, [("a", 1), ("c", 2)]))),
    ("with_initial_state_and_nothing", |run| run.output(&sums_from(run, [("a", 1), ("c", 2)]))),
    ("with_initial_state_of_duplicates", |run| run.output(&sums_from(run, [("a", 7), ("a", 7), ("b", 5)]))),
    ("with_initial_state_before_missing", |run| run.output(&sums_from(run, [("a", 1), ("c", 2)]))),
    ("with_initial_state_that_leaves", |run| {
        let spec = UpdateSpec::new().partitioner(2).initial_state(&run.table([("a", 1), ("c", 2)]));
        run.output(&run.pairs().update_state_by_key_with(spec, |_, _, values, state| {
            if values.is_empty() { None } else { add(values, state) }
        }));
    }),
    ("partitioned", |run| {
        let spec = UpdateSpec::new().partitioner(3);
        let state = run.pairs().update_state_by_key_with(spec, |_, _, values, state| add(values, state));
        run.output(&state);
        run.action(&state, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("partitioned_by_default", |run| {
        run.action(&run.pairs().update_state_by_key(add), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("past_the_checkpoint", |run| run.output(&run.pairs().update_state_by_key(add))),
    ("checkpointed_often", |run| run.output(&run.pairs().update_state_by_key(add).checkpoint(secs(2)))),
    ("window_of_state", |run| run.output(&run.pairs().update_state_by_key(add).window(secs(2)))),
    ("state_of_window", |run| run.output(&run.pairs().window((secs(2), secs(2))).update_state_by_key(add))),
    ("state_of_state", |run| run.output(&run.pairs().update_state_by_key(add).update_state_by_key(add))),
    ("two_states_of_one_stream", |run| {
        let pairs = run.pairs();
        run.output(&pairs.update_state_by_key(add));
        run.output(&pairs.update_state_by_key(calls));
    }),
    ("joined_with_its_input", |run| {
        let pairs = run.pairs();
        run.output(&pairs.join(&pairs.update_state_by_key(add)));
    }),
    ("filtered_state", |run| {
        run.output(&run.pairs().update_state_by_key(add).filter(|(_, sum)| *sum > 1).map_values(|sum| sum * 10));
    }),
    ("a_failing_update", |run| {
        run.output(&run.pairs().update_state_by_key(|values, state| {
            assert!(!values.contains(&0), "not zero");
            add(values, state)
        }));
    }),
    ("with_time", |run| {
        let spec = UpdateSpec::new().partitioner(2);
        run.output(&run.pairs().update_state_by_key_with(spec, |time, _, values, state: Option<i64>| {
            Some(state.unwrap_or(0) + if values.is_empty() { 0 } else { time.as_millis() })
        }));
    }),
    ("with_time_and_key", |run| {
        let spec = UpdateSpec::new().partitioner(2);
        run.output(&run.pairs().update_state_by_key_with(spec, |time, key, values, state: Option<String>| {
            let forget = *key == "b" && time.as_millis() == 4000;
            (!forget).then(|| format!("{}{}", state.unwrap_or_else(|| key.to_string()), values.len()))
        }));
    }),
    ("with_time_and_initial_state", |run| {
        let spec = UpdateSpec::new().partitioner(2).initial_state(&run.table([("c", 1)]));
        run.output(&run.pairs().update_state_by_key_with(spec, |time, _, _, state: Option<i64>| {
            Some(time.as_millis() + i64::from(state.is_some()))
        }));
    }),
    ("iterated", |run| {
        let spec = UpdateSpec::new().partitioner(2);
        run.output(&run.pairs().update_state_by_key_iter(spec, |_, all| sums_without_three(all)));
    }),
    ("iterated_without_partitioner", |run| {
        let spec = UpdateSpec::new().partitioner(2).remember_partitioner(false);
        run.output(&run.pairs().update_state_by_key_iter(spec, |_, all| sums_without_three(all)));
    }),
    ("iterated_with_initial_state", |run| {
        let spec = UpdateSpec::new().partitioner(2).initial_state(&run.table([("a", 1), ("z", 3)]));
        run.output(&run.pairs().update_state_by_key_iter(spec, |_, all| sums_without_three(all)));
    }),
];
