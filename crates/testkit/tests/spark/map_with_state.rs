//! State by key that is looked at where there is data, and its time-outs.

use millstream_core::{ExchangeData, Text, secs};
use millstream_streaming::{MappedState, State, StateSpec};

use super::run::{Programs, Run};

/// Adds up, and gives the sum so far.
fn sum(key: &Text, value: Option<i64>, state: &mut State<'_, i64>) -> (Text, i64) {
    let sum = value.unwrap_or(0) + state.get_option().copied().unwrap_or(0);
    state.update(sum);
    (key.clone(), sum)
}

/// The same, but tells of time-outs as a value below zero, and lets them be.
fn sum_or_time_out(key: &Text, value: Option<i64>, state: &mut State<'_, i64>) -> (Text, i64) {
    if state.is_timing_out() { (key.clone(), -state.get()) } else { sum(key, value, state) }
}

/// Removes a state that exists, and sets one that does not.
fn toggle(key: &Text, value: Option<i64>, state: &mut State<'_, i64>) -> (Text, bool) {
    let existed = state.exists();
    match value {
        Some(value) if !existed => state.update(value),
        _ => state.remove(),
    }
    (key.clone(), existed)
}

/// Compares what comes out and all states.
fn both<E: ExchangeData>(run: &Run<'_>, stream: &MappedState<Text, i64, E>) {
    run.output(stream);
    run.output(&stream.state_snapshots());
}

pub(crate) const PROGRAMS: Programs = &[
    ("running_sums", |run| both(run, &run.pairs().map_with_state(StateSpec::function(sum)))),
    ("of_duplicates", |run| both(run, &run.pairs().map_with_state(StateSpec::function(sum)))),
    ("of_skew", |run| run.output(&run.pairs().map_with_state(StateSpec::function(sum)).state_snapshots())),
    ("of_missing", |run| both(run, &run.pairs().map_with_state(StateSpec::function(sum)))),
    ("of_nothing", |run| both(run, &run.pairs().map_with_state(StateSpec::function(sum)))),
    ("toggles", |run| both(run, &run.pairs().map_with_state(StateSpec::function(toggle)))),
    ("toggles_in_one_batch", |run| both(run, &run.pairs().map_with_state(StateSpec::function(toggle)))),
    ("with_initial_state", |run| {
        let initial = run.table([("a", 5), ("b", 10), ("c", -20), ("d", 0)]);
        both(run, &run.pairs().map_with_state(StateSpec::function(sum).initial_state(&initial)));
    }),
    ("with_initial_state_and_nothing", |run| {
        let initial = run.table([("a", 5), ("b", 10)]);
        both(run, &run.pairs().map_with_state(StateSpec::function(sum).initial_state(&initial)));
    }),
    ("with_initial_state_before_missing", |run| {
        let initial = run.table([("a", 5), ("b", 10)]);
        both(run, &run.pairs().map_with_state(StateSpec::function(sum).initial_state(&initial)));
    }),
    ("with_time", |run| {
        let spec = StateSpec::function_with_time(|time, key: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            state.update(time.as_millis());
            Some(format!("{key}@{}", time.as_millis()))
        });
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("with_time_and_nothing_to_give", |run| {
        let spec = StateSpec::function_with_time(|_, _: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            state.update(value?);
            value.filter(|value| value % 2 == 0)
        });
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("gives_nothing_of_interest", |run| {
        both(
            run,
            &run.pairs().map_with_state(StateSpec::function(|_: &Text, _: Option<i64>, _: &mut State<'_, i64>| 0)),
        );
    }),
    ("reads_but_does_not_update", |run| {
        let spec =
            StateSpec::function(
                |key: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
                    if state.exists() { format!("{key}{}", state.get()) } else { format!("{key}?") }
                },
            );
        both(run, &run.pairs().map_with_state(spec.initial_state(&run.table([("a", 7)]))));
    }),
    ("removes_what_is_not_there", |run| {
        let spec = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            state.remove();
            state.exists()
        });
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("updates_twice", |run| {
        let spec = StateSpec::function(|_: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            state.update(value.unwrap_or(0));
            state.update(state.get() * 10);
            *state.get()
        });
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("option", |run| {
        let spec = StateSpec::function(|key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            let existed = state.get_option().is_some();
            match value {
                Some(value) if value != 0 => state.update(value),
                _ => state.remove(),
            }
            (key.clone(), existed)
        });
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("partitioned", |run| {
        let stream = run.pairs().map_with_state(StateSpec::function(sum).num_partitions(3));
        both(run, &stream);
        run.action(&stream, |rdd| Ok(vec![rdd.num_partitions()]));
        run.action(&stream.state_snapshots(), |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("partitioned_by", |run| {
        let stream = run.pairs().map_with_state(StateSpec::function(sum).partitioner(4));
        both(run, &stream);
        run.action(&stream, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    ("partitioned_by_default", |run| {
        let stream = run.pairs().map_with_state(StateSpec::function(sum));
        run.action(&stream, |rdd| Ok(vec![rdd.num_partitions()]));
    }),
    // ---- time-outs ----
    ("time_outs", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(3))));
    }),
    ("time_outs_seen_often", |run| {
        let spec = StateSpec::function(sum_or_time_out).timeout(secs(3));
        both(run, &run.pairs().map_with_state(spec).checkpoint(secs(1)));
    }),
    ("time_outs_seen_by_two", |run| {
        let spec = StateSpec::function(sum_or_time_out).timeout(secs(3));
        both(run, &run.pairs().map_with_state(spec).checkpoint(secs(2)));
    }),
    ("time_outs_longer_than_the_input", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(60))));
    }),
    ("time_outs_at_their_edge", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(3))));
    }),
    ("time_outs_of_the_initial_state", |run| {
        let initial = run.table([("a", 5), ("b", 10)]);
        let spec = StateSpec::function(sum_or_time_out).initial_state(&initial).timeout(secs(5));
        both(run, &run.pairs().map_with_state(spec));
    }),
    ("time_outs_of_keys_with_data", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(3))));
    }),
    ("time_outs_of_keys_that_are_read", |run| {
        // Reading a state keeps it alive, if there is a time-out.
        let spec = StateSpec::function(|key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            if let (false, Some(value)) = (state.exists(), value) {
                state.update(value);
            }
            (key.clone(), if state.is_timing_out() { -1 } else { *state.get() })
        });
        both(run, &run.pairs().map_with_state(spec.timeout(secs(3))));
    }),
    ("time_outs_with_time", |run| {
        let spec = StateSpec::function_with_time(|time, key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            let Some(value) = value else {
                return Some(format!("{key} left at {} without a value", time.as_millis()));
            };
            state.update(value);
            None
        });
        both(run, &run.pairs().map_with_state(spec.timeout(secs(3))));
    }),
    ("time_outs_of_missing", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(3))));
    }),
    ("time_outs_and_returns", |run| {
        both(run, &run.pairs().map_with_state(StateSpec::function(sum_or_time_out).timeout(secs(3))));
    }),
    ("time_outs_of_removed", |run| {
        let spec = StateSpec::function(|key: &Text, value: Option<i64>, state: &mut State<'_, i64>| {
            if state.is_timing_out() {
                return format!("{key} timed out");
            }
            let (key, existed) = toggle(key, value, state);
            format!("({key},{existed})")
        });
        both(run, &run.pairs().map_with_state(spec.timeout(secs(3))));
    }),
    // ---- mistakes ----
    ("gets_what_is_not_there", |run| {
        let spec = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| *state.get());
        run.output(&run.pairs().map_with_state(spec));
    }),
    ("updates_what_is_removed", |run| {
        let spec = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            state.remove();
            state.update(1);
        });
        run.output(&run.pairs().map_with_state(spec));
    }),
    ("removes_twice", |run| {
        let spec = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            state.update(1);
            state.remove();
            state.remove();
        });
        run.output(&run.pairs().map_with_state(spec));
    }),
    ("updates_while_timing_out", |run| {
        run.output(&run.pairs().map_with_state(StateSpec::function(sum).timeout(secs(3))));
    }),
    ("removes_while_timing_out", |run| {
        let spec = StateSpec::function(|_: &Text, _: Option<i64>, state: &mut State<'_, i64>| {
            if state.is_timing_out() {
                state.remove()
            } else {
                state.update(1)
            }
            0
        });
        run.output(&run.pairs().map_with_state(spec.timeout(secs(3))));
    }),
    // ---- beside others ----
    ("past_the_checkpoint", |run| both(run, &run.pairs().map_with_state(StateSpec::function(sum)))),
    ("window_of_it", |run| run.output(&run.pairs().map_with_state(StateSpec::function(sum)).window(secs(2)))),
    ("of_window", |run| {
        both(run, &run.pairs().window((secs(2), secs(2))).map_with_state(StateSpec::function(sum)));
    }),
    ("of_sums", |run| {
        both(run, &run.pairs().reduce_by_key(|a, b| a + b).map_with_state(StateSpec::function(sum)));
    }),
    ("word_count", |run| {
        let words = run.words().map(|word| (word, 1));
        run.output(&words.map_with_state(StateSpec::function(sum)).state_snapshots());
    }),
    ("snapshots_only", |run| {
        let states = run.pairs().map_with_state(StateSpec::function(sum)).state_snapshots();
        run.output(&states.filter(|(_, sum)| *sum > 1));
    }),
    ("joined_with_its_snapshots", |run| {
        let pairs = run.pairs();
        run.output(&pairs.join(&pairs.map_with_state(StateSpec::function(sum)).state_snapshots()));
    }),
];
