//! What each operation on streams means, in a few naive lines over rows of vectors.
//!
//! It knows no partitions, no lineage, no shuffles and no increments: only batches. It is what random programs on the
//! engine are compared with, and a reader's shortest answer to what an operation does.

use std::time::Duration;

use millstream_core::{Time, as_millis, secs};
use millstream_streaming::Window;

use crate::batches::{Batches, Row};

/// A stream as a table: for each second a row, which is a vector of elements, or nothing where the stream has no Rdd.
///
/// Its operations have the names of those of a `DStream`, and of its elements' order none promises anything.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_testkit::model::Model;
///
/// let words: Model<&str> = Model::of(vec![Some(vec!["a"]), Some(vec!["b", "b"]), None]);
/// let counts = words.window(secs(2)).count_by_value();
/// assert_eq!(counts.rows()[1], Some(vec![("a", 1), ("b", 2)]));
/// assert_eq!(counts.rows()[2], Some(vec![("b", 2)]));
/// assert_eq!(words.count_by_value().rows()[2], None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model<T> {
    /// How many seconds there are from batch to batch; between them the stream has no Rdd.
    slide: usize,
    rows: Vec<Option<Vec<T>>>,
}

impl<T> Model<T> {
    /// Makes a stream that has a batch each second.
    pub fn of(rows: Vec<Option<Vec<T>>>) -> Model<T> {
        Model { slide: 1, rows }
    }

    /// Makes a stream of what goes into a test, with empty batches behind it, `count` batches in all.
    pub fn input(batches: Batches<T>, count: usize) -> Model<T> {
        let rows = batches.rows.into_iter().map(|row| match row {
            Row::Elements(elements) => Some(elements),
            Row::Missing | Row::Crash => None,
        });
        Model::of(rows.chain(std::iter::repeat_with(|| Some(Vec::new()))).take(count).collect())
    }

    /// Returns the row of each second.
    pub fn rows(&self) -> &[Option<Vec<T>>] {
        &self.rows
    }

    /// Returns how often the stream has a batch.
    pub fn slide(&self) -> Duration {
        secs(self.slide as u64)
    }

    /// Says whether second `n`, counted from 1, is one in which a stream with this slide has a batch (S-9).
    fn is_batch(n: usize, slide: usize) -> bool {
        n.is_multiple_of(slide)
    }

    /// Makes each row of the row before it; no Rdd stays none (S-13).
    fn each<U>(&self, f: impl Fn(&[T]) -> Vec<U>) -> Model<U> {
        Model { slide: self.slide, rows: self.rows.iter().map(|row| row.as_deref().map(&f)).collect() }
    }

    /// Makes each row of two. Where one has no Rdd, the engine fails; here is just no row.
    fn with<U, W>(&self, other: &Model<U>, f: impl Fn(&[T], &[U]) -> Vec<W>) -> Model<W> {
        let both = self.rows.iter().zip(&other.rows);
        let rows = both.map(|rows| match rows {
            (Some(mine), Some(others)) => Some(f(mine, others)),
            _ => None,
        });
        Model { slide: self.slide, rows: rows.collect() }
    }

    /// Length and slide of a window, in seconds.
    fn fit(&self, window: impl Into<Window>) -> (usize, usize) {
        let window = window.into();
        let in_seconds = |duration: Duration| usize::try_from(as_millis(duration) / 1000).unwrap_or(usize::MAX);
        (in_seconds(window.length()), window.slide().map_or(self.slide, in_seconds))
    }
}

impl<T: Clone> Model<T> {
    /// Applies `f` to each element.
    pub fn map<U>(&self, f: impl Fn(T) -> U) -> Model<U> {
        self.each(|row| row.iter().cloned().map(&f).collect())
    }

    /// Keeps the elements for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(&T) -> bool) -> Model<T> {
        self.each(|row| row.iter().filter(|item| keep(item)).cloned().collect())
    }

    /// Gives all elements of what `f` returns for each.
    pub fn flat_map<I: IntoIterator>(&self, f: impl Fn(T) -> I) -> Model<I::Item> {
        self.each(|row| row.iter().cloned().flat_map(&f).collect())
    }

    /// Leaves everything where it is: there are no partitions.
    #[must_use]
    pub fn repartition(&self, _: usize) -> Model<T> {
        self.clone()
    }

    /// Applies `f` to all elements of a batch at once.
    pub fn transform<U>(&self, f: impl Fn(Vec<T>) -> Vec<U>) -> Model<U> {
        self.each(|row| f(row.to_vec()))
    }

    /// Applies `f` to all elements of both streams' batches of the same time.
    pub fn transform_with<U: Clone, W>(&self, other: &Model<U>, f: impl Fn(Vec<T>, Vec<U>) -> Vec<W>) -> Model<W> {
        self.with(other, |mine, others| f(mine.to_vec(), others.to_vec()))
    }

    /// Puts both streams' elements together.
    #[must_use]
    pub fn union(&self, other: &Model<T>) -> Model<T> {
        self.with(other, |mine, others| [mine, others].concat())
    }

    /// Reduces each batch to one element; an empty one to none (S-64).
    pub fn reduce(&self, f: impl Fn(T, T) -> T) -> Model<T> {
        self.each(|row| row.iter().cloned().reduce(&f).into_iter().collect())
    }

    /// Gives the number of elements, 0 for an empty batch (S-64).
    pub fn count(&self) -> Model<u64> {
        self.each(|row| vec![row.len() as u64])
    }

    /// Gives all elements of the batches in each window. The first windows are partial; there is always a row (S-14, S-28).
    pub fn window(&self, window: impl Into<Window>) -> Model<T> {
        let (length, slide) = self.fit(window);
        let rows = (1..=self.rows.len()).map(|n| {
            Self::is_batch(n, slide)
                .then(|| self.rows[n.saturating_sub(length)..n].iter().flatten().flatten().cloned().collect())
        });
        Model { slide, rows: rows.collect() }
    }

    /// Reduces all elements of each window to one; an empty window to none (S-33).
    pub fn reduce_by_window(&self, f: impl Fn(T, T) -> T, window: impl Into<Window>) -> Model<T> {
        self.window(window).reduce(f)
    }

    /// As [`reduce_by_window`](Self::reduce_by_window), made from the window before; once there was an element, there always
    /// is one (S-43).
    pub fn reduce_by_window_inv(
        &self,
        f: impl Fn(T, T) -> T,
        inverse: impl Fn(T, T) -> T,
        window: impl Into<Window>,
    ) -> Model<T> {
        self.map(|item| ((), item)).reduce_by_key_and_window_inv(f, inverse, window).map(|((), item)| item)
    }

    /// Gives the number of elements in each window: nothing until there was one, then always a number (S-41).
    pub fn count_by_window(&self, window: impl Into<Window>) -> Model<u64> {
        let windows = self.window(window);
        let mut any = false;
        let rows = windows.rows.iter().map(|row| {
            let count = row.as_ref()?.len() as u64;
            any |= count > 0;
            Some(if any { vec![count] } else { Vec::new() })
        });
        Model { slide: windows.slide, rows: rows.collect() }
    }
}

impl<T: Clone + PartialEq> Model<T> {
    /// Gives how often each element occurs.
    pub fn count_by_value(&self) -> Model<(T, u64)> {
        self.map(|item| (item, 1)).reduce_by_key(|a, b| a + b)
    }

    /// Gives how often each element occurs in each window (S-42).
    pub fn count_by_value_and_window(&self, window: impl Into<Window>) -> Model<(T, u64)> {
        self.window(window).count_by_value()
    }
}

impl<K: Clone, V: Clone> Model<(K, V)> {
    /// Applies `f` to each value.
    pub fn map_values<W>(&self, f: impl Fn(V) -> W) -> Model<(K, W)> {
        self.map(|(key, value)| (key, f(value)))
    }

    /// Gives the key with each element of what `f` returns for its value.
    pub fn flat_map_values<I: IntoIterator>(&self, f: impl Fn(V) -> I) -> Model<(K, I::Item)> {
        self.each(|row| {
            let mut out = Vec::new();
            for (key, value) in row.iter().cloned() {
                out.extend(f(value).into_iter().map(|item| (key.clone(), item)));
            }
            out
        })
    }
}

/// The values of each key, keys in the order in which they first come.
fn grouped<K: Clone + PartialEq, V: Clone>(pairs: &[(K, V)]) -> Vec<(K, Vec<V>)> {
    let mut groups: Vec<(K, Vec<V>)> = Vec::new();
    for (key, value) in pairs.iter().cloned() {
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, values)) => values.push(value),
            None => groups.push((key, vec![value])),
        }
    }
    groups
}

/// The values of each key as one.
fn reduced<K: Clone + PartialEq, V: Clone>(pairs: &[(K, V)], f: impl Fn(V, V) -> V) -> Vec<(K, V)> {
    grouped(pairs).into_iter().filter_map(|(key, values)| Some((key, values.into_iter().reduce(&f)?))).collect()
}

/// The values of each key on both sides.
fn cogrouped<K: Clone + PartialEq, V: Clone, W: Clone>(
    left: &[(K, V)],
    right: &[(K, W)],
) -> Vec<(K, (Vec<V>, Vec<W>))> {
    let mut groups: Vec<(K, (Vec<V>, Vec<W>))> = Vec::new();
    for (key, values) in grouped(left) {
        groups.push((key, (values, Vec::new())));
    }
    for (key, values) in grouped(right) {
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, (_, on_the_right))) => *on_the_right = values,
            None => groups.push((key, (Vec::new(), values))),
        }
    }
    groups
}

/// The elements as they are, or `None` if there are none.
fn or_none<T>(items: Vec<T>) -> Vec<Option<T>> {
    if items.is_empty() { vec![None] } else { items.into_iter().map(Some).collect() }
}

/// Takes what a table has for a key.
fn take<K: PartialEq, V>(table: &mut Vec<(K, V)>, key: &K) -> Option<V> {
    let at = table.iter().position(|(of, _)| of == key)?;
    Some(table.remove(at).1)
}

impl<K: Clone + PartialEq, V: Clone> Model<(K, V)> {
    /// Collects the values of each key.
    pub fn group_by_key(&self) -> Model<(K, Vec<V>)> {
        self.each(grouped)
    }

    /// Reduces the values of each key to one.
    pub fn reduce_by_key(&self, f: impl Fn(V, V) -> V) -> Model<(K, V)> {
        self.each(|row| reduced(row, &f))
    }

    /// Combines the values of each key: made from the first, with each further one added. There is never anything to
    /// merge in the place of all.
    pub fn combine_by_key<C>(
        &self,
        create: impl Fn(V) -> C,
        add: impl Fn(C, V) -> C,
        _merge: impl Fn(C, C) -> C,
        _partitions: usize,
    ) -> Model<(K, C)> {
        self.group_by_key().flat_map(|(key, values)| {
            let mut values = values.into_iter();
            let first = create(values.next()?);
            Some((key, values.fold(first, &add)))
        })
    }

    /// Collects the values of each key of either stream.
    pub fn cogroup<W: Clone>(&self, other: &Model<(K, W)>) -> Model<(K, (Vec<V>, Vec<W>))> {
        self.with(other, cogrouped)
    }

    /// All pairs of what `left` and `right` make of the values of each key on both sides.
    fn product<W: Clone, A: Clone, B: Clone>(
        &self,
        other: &Model<(K, W)>,
        left: impl Fn(Vec<V>) -> Vec<A>,
        right: impl Fn(Vec<W>) -> Vec<B>,
    ) -> Model<(K, (A, B))> {
        self.cogroup(other).flat_map(|(key, (mine, others))| {
            let (mine, others) = (left(mine), right(others));
            let mut pairs = Vec::new();
            for a in &mine {
                pairs.extend(others.iter().map(|b| (key.clone(), (a.clone(), b.clone()))));
            }
            pairs
        })
    }

    /// All pairs of values of a key that both streams have (S-67).
    pub fn join<W: Clone>(&self, other: &Model<(K, W)>) -> Model<(K, (V, W))> {
        self.product(other, |mine| mine, |others| others)
    }

    /// As [`join`](Self::join); a value without any on the other side is paired with `None`.
    pub fn left_outer_join<W: Clone>(&self, other: &Model<(K, W)>) -> Model<(K, (V, Option<W>))> {
        self.product(other, |mine| mine, or_none)
    }

    /// As [`join`](Self::join); a value of the other side without any on this is paired with `None`.
    pub fn right_outer_join<W: Clone>(&self, other: &Model<(K, W)>) -> Model<(K, (Option<V>, W))> {
        self.product(other, or_none, |others| others)
    }

    /// As [`join`](Self::join); a value of either side without any on the other is paired with `None`.
    pub fn full_outer_join<W: Clone>(&self, other: &Model<(K, W)>) -> Model<(K, (Option<V>, Option<W>))> {
        self.product(other, or_none, or_none)
    }

    /// Collects the values of each key in each window (S-32).
    pub fn group_by_key_and_window(&self, window: impl Into<Window>) -> Model<(K, Vec<V>)> {
        self.window(window).group_by_key()
    }

    /// Reduces the values of each key in each window (S-33).
    pub fn reduce_by_key_and_window(&self, f: impl Fn(V, V) -> V, window: impl Into<Window>) -> Model<(K, V)> {
        self.window(window).reduce_by_key(f)
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window), made from the window before: a key stays with what
    /// `inverse` leaves (S-38).
    pub fn reduce_by_key_and_window_inv(
        &self,
        f: impl Fn(V, V) -> V,
        inverse: impl Fn(V, V) -> V,
        window: impl Into<Window>,
    ) -> Model<(K, V)> {
        self.reduce_by_key_and_window_inv_filtered(f, inverse, |_, _| true, window)
    }

    /// As [`reduce_by_key_and_window_inv`](Self::reduce_by_key_and_window_inv); a key for whose value `keep` does not hold is
    /// forgotten (S-38).
    pub fn reduce_by_key_and_window_inv_filtered(
        &self,
        f: impl Fn(V, V) -> V,
        inverse: impl Fn(V, V) -> V,
        keep: impl Fn(&K, &V) -> bool,
        window: impl Into<Window>,
    ) -> Model<(K, V)> {
        let (length, slide) = self.fit(window);
        let mut values: Vec<(K, V)> = Vec::new();
        let rows = (1..=self.rows.len()).map(|n| {
            if !Self::is_batch(n, slide) {
                return None;
            }
            let now = n.saturating_sub(length)..n;
            let before = n.saturating_sub(slide + length)..n - slide;
            let of_batches = |here: &dyn Fn(usize) -> bool| {
                let rows = self.rows.iter().enumerate().filter(|(at, _)| here(*at));
                let pairs: Vec<_> = rows.flat_map(|(_, row)| row.iter().flatten().cloned()).collect();
                reduced(&pairs, &f)
            };
            let left = of_batches(&|at| before.contains(&at) && !now.contains(&at));
            let entered = of_batches(&|at| now.contains(&at) && !before.contains(&at));
            // S-35: first what left, then what entered.
            for (key, (left, entered)) in cogrouped(&left, &entered) {
                let (left, entered) = (left.into_iter().next(), entered.into_iter().next());
                let value = match (take(&mut values, &key), left) {
                    (Some(old), Some(left)) => Some(inverse(old, left)),
                    (Some(old), None) => Some(old),
                    // What the filter has dropped is as if it had never been.
                    (None, _) => None,
                };
                let value = match (value, entered) {
                    (Some(rest), Some(entered)) => Some(f(rest, entered)),
                    (rest, entered) => rest.or(entered),
                };
                values.extend(value.map(|value| (key, value)));
            }
            values.retain(|(key, value)| keep(key, value));
            Some(values.clone())
        });
        Model { slide, rows: rows.collect() }
    }

    /// Makes a new state of each key's new values and its old state, in each batch (S-44).
    pub fn update_state_by_key<S: Clone>(&self, f: impl Fn(Vec<V>, Option<S>) -> Option<S>) -> Model<(K, S)> {
        self.update_state_by_key_with(&[], |_, _, new, old| f(new, old))
    }

    /// As [`update_state_by_key`](Self::update_state_by_key), told time and key, and beginning with a state, of which the
    /// first of a key counts (S-45). It is there with the first data, not before.
    pub fn update_state_by_key_with<S: Clone>(
        &self,
        initial: &[(K, S)],
        f: impl Fn(Time, &K, Vec<V>, Option<S>) -> Option<S>,
    ) -> Model<(K, S)> {
        let mut states: Option<Vec<(K, S)>> = None;
        let rows = self.rows.iter().zip(1..).map(|(row, n)| {
            if !Self::is_batch(n, self.slide) || (row.is_none() && states.is_none()) {
                return None; // S-46: neither data nor state.
            }
            let before = states.take().unwrap_or_else(|| initial.to_vec());
            let time = Time::ZERO + secs(n as u64);
            let after =
                cogrouped(&before, row.as_deref().unwrap_or(&[])).into_iter().filter_map(|(key, (old, new))| {
                    let state = f(time, &key, new, old.into_iter().next())?;
                    Some((key, state))
                });
            states = Some(after.collect());
            states.clone()
        });
        Model { slide: self.slide, rows: rows.collect() }
    }

    /// Calls `f` for each record with its key's state, which it may change or take; gives what `f` gives, and the states.
    ///
    /// A key without a record for longer than `timeout` is called for without a value, and let go (S-52 to S-58).
    pub fn map_with_state<S: Clone, E>(
        &self,
        initial: &[(K, S)],
        timeout: Option<Duration>,
        f: impl Fn(Time, &K, Option<V>, &mut Option<S>) -> Option<E>,
    ) -> (Model<E>, Model<(K, S)>) {
        let mut states: Option<Vec<(K, (S, Time))>> = None;
        let (mut emitted, mut snapshots) = (Vec::new(), Vec::new());
        for (row, n) in self.rows.iter().zip(1..) {
            if !Self::is_batch(n, self.slide) {
                emitted.push(None);
                snapshots.push(None);
                continue;
            }
            let time = Time::ZERO + secs(n as u64);
            let first = || initial.iter().map(|(key, state)| (key.clone(), (state.clone(), time))).collect();
            let (mut table, mut out) = (states.take().unwrap_or_else(first), Vec::new());
            for (key, value) in row.iter().flatten().cloned() {
                let mut state = take(&mut table, &key).map(|(state, _)| state);
                out.extend(f(time, &key, Some(value), &mut state));
                table.extend(state.map(|state| (key, (state, time))));
            }
            table.retain(|(key, (state, used))| {
                let times_out = timeout.is_some_and(|timeout| *used < time - timeout);
                if times_out {
                    out.extend(f(time, key, None, &mut Some(state.clone())));
                }
                !times_out
            });
            snapshots.push(Some(table.iter().map(|(key, (state, _))| (key.clone(), state.clone())).collect()));
            emitted.push(Some(out));
            states = Some(table);
        }
        (Model { slide: self.slide, rows: emitted }, Model { slide: self.slide, rows: snapshots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches;

    /// Rows with their elements in order.
    fn rows<T: Clone + Ord>(model: &Model<T>) -> Vec<Vec<T>> {
        let sorted = |mut row: Vec<T>| {
            row.sort();
            row
        };
        model.rows().iter().map(|row| sorted(row.clone().unwrap_or_default())).collect()
    }

    fn six() -> Model<(&'static str, i64)> {
        let words: [&[&str]; 6] = [&["a"], &["a", "b"], &["a", "b", "c"], &["a", "b"], &["a"], &[]];
        Model::of(words.map(|row| Some(row.iter().map(|word| (*word, 1)).collect())).to_vec())
    }

    #[test]
    fn s31_windows_are_sparks() {
        let six = Model::input(batches![[0], [1], [2], [3], [4], [5]], 6);
        let windows = |length, slide| rows(&six.window((secs(length), secs(slide))));
        assert_eq!(windows(2, 1), [vec![0], vec![0, 1], vec![1, 2], vec![2, 3], vec![3, 4], vec![4, 5]]);
        assert_eq!(windows(2, 3), [vec![], vec![], vec![1, 2], vec![], vec![], vec![4, 5]]);
        assert_eq!(windows(4, 2), [vec![], vec![0, 1], vec![], vec![0, 1, 2, 3], vec![], vec![2, 3, 4, 5]]);
    }

    #[test]
    fn s39_a_window_made_from_the_one_before_is_sparks() {
        let window = six().reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(2));
        let want = [
            vec![("a", 1)],
            vec![("a", 2), ("b", 1)],
            vec![("a", 2), ("b", 2), ("c", 1)],
            vec![("a", 2), ("b", 2), ("c", 1)],
            vec![("a", 2), ("b", 1), ("c", 0)],
            vec![("a", 1), ("b", 0), ("c", 0)],
        ];
        assert_eq!(rows(&window), want);
    }

    #[test]
    fn s50_s62_states_are_sparks() {
        let want = [
            vec![("a", 1)],
            vec![("a", 2), ("b", 1)],
            vec![("a", 3), ("b", 2), ("c", 1)],
            vec![("a", 4), ("b", 3), ("c", 1)],
            vec![("a", 5), ("b", 3), ("c", 1)],
            vec![("a", 5), ("b", 3), ("c", 1)],
        ];
        let add = |old: Option<i64>, new: i64| Some(old.unwrap_or(0) + new);
        assert_eq!(rows(&six().update_state_by_key(|new, old| add(old, new.iter().sum()))), want);
        let (emitted, states) = six().map_with_state(&[], None, |_, _, value, state| {
            *state = add(*state, value.unwrap_or(0));
            *state
        });
        assert_eq!(rows(&states), want);
        assert_eq!(rows(&emitted), [vec![1], vec![1, 2], vec![1, 2, 3], vec![3, 4], vec![5], vec![]]);
    }

    #[test]
    fn s67_joins_are_sparks() {
        let left = Model::of(vec![Some(vec![("a", 1), ("b", 1)]), Some(vec![("", 1), ("a", 1)]), Some(vec![("", 1)])]);
        let right =
            Model::of(vec![Some(vec![("a", 'x'), ("b", 'x')]), Some(vec![("", 'x'), ("b", 'x')]), Some(vec![])]);
        assert_eq!(rows(&left.join(&right)), [vec![("a", (1, 'x')), ("b", (1, 'x'))], vec![("", (1, 'x'))], vec![]]);
        let full = rows(&left.full_outer_join(&right));
        assert_eq!(full[1], [("", (Some(1), Some('x'))), ("a", (Some(1), None)), ("b", (None, Some('x')))]);
    }
}
