//! What each operation of a random program does: once for the engine and once for the model, in the same words.
//!
//! Every closure is deaf to the order of elements, as that is not compared.

use std::time::Duration;

use millstream_core::{Context, Time, secs};
use millstream_streaming::{DStream, MappedState, State, StateSpec, UpdateSpec};
use millstream_testkit::model::Model;

use super::op::{Kind, Op};

/// What every stream of a random program has.
pub(crate) type Pair = (u8, i64);

/// How many keys there are.
const KEYS: u8 = 8;

// ---- what the closures call ----

/// Some number that is another one for other numbers in another order.
fn mix(a: i64, b: i64) -> i64 {
    (a.wrapping_mul(31)).wrapping_add(b).rem_euclid(9973)
}

/// A number for a list whose order does not count.
fn digest(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values.into_iter().fold(7, mix)
}

fn of_option(value: Option<i64>) -> i64 {
    value.map_or(-1, |value| mix(value, 1))
}

/// Reduces values, in a way that does not care for order.
fn reducing(n: u8) -> impl Fn(i64, i64) -> i64 + Clone + Send + Sync + 'static {
    move |a, b| match n {
        0 => a.wrapping_add(b),
        1 => a.max(b),
        2 => a.min(b),
        _ => a ^ b,
    }
}

/// A state that counts and sums, and lets a key go now and then.
fn update(n: u8, time: Time, key: u8, new: Vec<i64>, old: Option<i64>) -> Option<i64> {
    let sum = new.into_iter().fold(old.unwrap_or(1), i64::wrapping_add);
    match n {
        0 => Some(sum),
        1 => (sum % 3 != 0).then_some(sum),
        2 => Some(mix(sum, time.as_millis() / 1000)),
        _ => (sum % 4 != i64::from(key % 4)).then(|| mix(sum, 1)),
    }
}

/// What a function of a state does with it: it does not look at values, as their order would count.
fn count(n: u8, time: Time, value: Option<i64>, state: Option<i64>) -> (Option<i64>, Option<i64>) {
    let count = state.unwrap_or(0) + 1;
    match n {
        _ if value.is_none() => (state, Some(-count)),
        0 => (Some(count), Some(count)),
        1 => ((count < 3).then_some(count), Some(count)),
        2 => (Some(count), (count % 2 == 0).then_some(time.as_millis() / 1000 + count)),
        // Not touched at all; so it is as old as it was, but for its use.
        _ => (Some(state.unwrap_or(5)), Some(state.map_or(0, |_| 1))),
    }
}

/// As [`count`], summing values: what is given does not depend on the sum.
fn sum(value: Option<i64>, state: Option<i64>) -> (Option<i64>, Option<i64>) {
    (Some(state.unwrap_or(0).wrapping_add(value.unwrap_or(0))), Some(1))
}

// ---- what engine and model have under different names ----

/// What a state's function makes of a value and a state: the state behind it, and what it gives.
type Step = fn(u8, Time, Option<i64>, Option<i64>) -> (Option<i64>, Option<i64>);

trait Both: Sized {
    fn sorted(&self) -> Self;
    fn distinct(&self) -> Self;
    fn both(&self, other: &Self) -> Self;
    fn updated(&self, op: &Op, initial: Option<Vec<Pair>>, context: &Context) -> Self;
    fn mapped(&self, op: &Op, step: Step, timeout: Option<Duration>, context: &Context) -> (Self, Self);
}

/// The first of each key.
fn first_of_each(pairs: &[Pair]) -> Vec<Pair> {
    let mut firsts: Vec<Pair> = Vec::new();
    for pair in pairs {
        if firsts.iter().all(|(key, _)| *key != pair.0) {
            firsts.push(*pair);
        }
    }
    firsts
}

/// The two streams of a state, the state itself saved often if the operation says so.
fn streams(states: MappedState<u8, i64, Pair>, op: &Op) -> (DStream<Pair>, DStream<Pair>) {
    let states = if op.saved { states.checkpoint(states.slide() * 2) } else { states };
    ((*states).clone(), states.state_snapshots())
}

impl Both for DStream<Pair> {
    fn sorted(&self) -> Self {
        let indexed = self.transform(|rdd, _| rdd.sort_by(|pair| *pair).zip_with_index());
        indexed.map(|((key, value), at)| (key, mix(value, at as i64)))
    }

    fn distinct(&self) -> Self {
        self.transform(|rdd, _| rdd.distinct())
    }

    fn both(&self, other: &Self) -> Self {
        self.transform_with(other, |mine, others, _| mine.subtract(&others))
    }

    fn updated(&self, op: &Op, initial: Option<Vec<Pair>>, context: &Context) -> Self {
        let (n, slide) = (op.n, self.slide());
        let states = match initial {
            None if n == 0 => self.update_state_by_key(move |new, old| update(0, Time::ZERO, 0, new, old)),
            None => self.update_state_by_key_with(UpdateSpec::new(), move |time, key, new, old| {
                update(n, time, *key, new, old)
            }),
            Some(initial) => {
                let spec = UpdateSpec::new().initial_state(&context.parallelize(initial, 2)).partitioner(3);
                self.update_state_by_key_with(spec, move |time, key, new, old| update(n, time, *key, new, old))
            }
        };
        if op.saved { states.checkpoint(slide * 2) } else { states }
    }

    fn mapped(&self, op: &Op, step: Step, timeout: Option<Duration>, context: &Context) -> (Self, Self) {
        let n = op.n;
        let f = move |time: Time, key: &u8, value: Option<i64>, state: &mut State<'_, i64>| {
            let before = state.get_option().copied();
            let (after, given) = step(n, time, value, before);
            if !state.is_timing_out() {
                match after {
                    Some(after) if before != Some(after) => state.update(after),
                    None if before.is_some() => state.remove(),
                    _ => {}
                }
            }
            given.map(|given| (*key, given))
        };
        let spec = StateSpec::function_with_time(f);
        let spec = if op.initial.is_empty() {
            spec
        } else {
            spec.initial_state(&context.parallelize(first_of_each(&op.initial), 2))
        };
        let spec = if let Some(timeout) = timeout { spec.timeout(timeout) } else { spec };
        streams(self.map_with_state(spec), op)
    }
}

impl Both for Model<Pair> {
    fn sorted(&self) -> Self {
        self.transform(|mut pairs| {
            pairs.sort_unstable();
            pairs.into_iter().zip(0..).map(|((key, value), at)| (key, mix(value, at))).collect()
        })
    }

    fn distinct(&self) -> Self {
        self.transform(|mut pairs| {
            pairs.sort_unstable();
            pairs.dedup();
            pairs
        })
    }

    fn both(&self, other: &Self) -> Self {
        self.transform_with(other, |mine, others| mine.into_iter().filter(|pair| !others.contains(pair)).collect())
    }

    fn updated(&self, op: &Op, initial: Option<Vec<Pair>>, _: &Context) -> Self {
        let initial = initial.unwrap_or_default();
        self.update_state_by_key_with(&initial, |time, key, new, old| update(op.n, time, *key, new, old))
    }

    fn mapped(&self, op: &Op, step: Step, timeout: Option<Duration>, _: &Context) -> (Self, Self) {
        self.map_with_state(&first_of_each(&op.initial), timeout, |time, key, value, state| {
            let (after, given) = step(op.n, time, value, *state);
            *state = after;
            given.map(|given| (*key, given))
        })
    }
}

// ---- the operations ----

/// Declares what each operation does, in words that engine and model both know.
macro_rules! meaning {
    ($name:ident, $Stream:ident) => {
        pub(crate) fn $name(op: &Op, s: &$Stream<Pair>, beside: &$Stream<Pair>, context: &Context) -> $Stream<Pair> {
            let (n, slide) = (op.n, s.slide());
            let window = op.window(slide);
            // A stream of the same slide, to be brought together with this one.
            let other = if op.with_itself {
                s.map(|(key, value)| ((key + 1) % KEYS, value))
            } else {
                beside.window((slide, slide))
            };
            let (f, timeout) = (reducing(n), Some(secs(u64::from(n))));
            let add = |a: Pair, b: Pair| (a.0 ^ b.0, a.1.wrapping_add(b.1));
            let take = |a: Pair, b: Pair| (a.0 ^ b.0, a.1.wrapping_sub(b.1));
            match op.kind {
                Kind::Map => s.map(move |(key, value)| ((key + n) % KEYS, mix(value, 2))),
                Kind::Filter => s.filter(move |(key, value)| (value + i64::from(*key)) % 4 != i64::from(n)),
                Kind::FlatMap => s.flat_map(move |(key, value)| {
                    (0..value.rem_euclid(3)).map(move |i| ((key + i as u8) % KEYS, value + i)).collect::<Vec<_>>()
                }),
                Kind::MapValues => s.map_values(move |value| mix(value, i64::from(n))),
                Kind::FlatMapValues => s.flat_map_values(move |value| (value % 3 != 0).then_some(value / 2)),
                Kind::Repartition => s.repartition(1 + usize::from(n)),
                Kind::TransformSort => s.sorted(),
                Kind::TransformDistinct => s.distinct(),
                Kind::TransformWith => s.both(&other),
                Kind::Union => s.union(&other),
                Kind::Reduce => s.reduce(add),
                Kind::Count => s.count().map(|count| ((count % 8) as u8, count as i64)),
                Kind::CountByValue => s.count_by_value().map(|((key, value), count)| (key, mix(value, count as i64))),
                Kind::ReduceByKey => s.reduce_by_key(f),
                Kind::GroupByKey => s.group_by_key().map_values(digest),
                Kind::CombineByKey => {
                    let combined = s.combine_by_key(
                        |value| vec![value],
                        |mut values, value| {
                            values.push(value);
                            values
                        },
                        |mut values, more| {
                            values.extend(more);
                            values
                        },
                        1 + usize::from(n),
                    );
                    combined.map_values(digest)
                }
                Kind::Cogroup => s.cogroup(&other).map_values(|(a, b)| mix(digest(a), digest(b))),
                Kind::Join => s.join(&other).map_values(|(a, b)| mix(a, b)),
                Kind::LeftOuterJoin => s.left_outer_join(&other).map_values(|(a, b)| mix(a, of_option(b))),
                Kind::RightOuterJoin => s.right_outer_join(&other).map_values(|(a, b)| mix(of_option(a), b)),
                Kind::FullOuterJoin => s.full_outer_join(&other).map_values(|(a, b)| mix(of_option(a), of_option(b))),
                Kind::Window => s.window(window),
                Kind::ReduceByWindow => s.reduce_by_window(|a, b| a.max(b), window),
                Kind::ReduceByWindowInv => s.reduce_by_window_inv(add, take, window),
                Kind::CountByWindow => s.count_by_window(window).map(|count| ((count % 8) as u8, count as i64)),
                Kind::CountByValueAndWindow => {
                    s.count_by_value_and_window(window).map(|((key, value), count)| (key, mix(value, count as i64)))
                }
                Kind::ReduceByKeyAndWindow => s.reduce_by_key_and_window(f, window),
                Kind::ReduceByKeyAndWindowInv => {
                    s.reduce_by_key_and_window_inv(i64::wrapping_add, i64::wrapping_sub, window)
                }
                Kind::ReduceByKeyAndWindowInvFiltered => s.reduce_by_key_and_window_inv_filtered(
                    i64::wrapping_add,
                    i64::wrapping_sub,
                    move |key, value| if n == 0 { *value != 0 } else { value % 3 != 0 || *key < n },
                    window,
                ),
                Kind::GroupByKeyAndWindow => s.group_by_key_and_window(window).map_values(digest),
                Kind::UpdateStateByKey => s.updated(op, None, context),
                Kind::UpdateStateByKeyInitial => s.updated(op, Some(op.initial.clone()), context),
                Kind::MapWithState => s.mapped(op, count, None, context).0,
                Kind::MapWithStateTimeout => s.mapped(op, count, timeout, context).0,
                Kind::StateSnapshots => {
                    let (step, timeout): (Step, _) =
                        if op.with_itself { (count, timeout) } else { (|_, _, value, state| sum(value, state), None) };
                    s.mapped(op, step, timeout, context).1
                }
            }
        }
    };
}

meaning!(on_the_engine, DStream);
meaning!(on_the_model, Model);
