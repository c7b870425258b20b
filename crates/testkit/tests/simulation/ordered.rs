//! Programs in which the order of a key's records can be seen.

use std::collections::BTreeMap;

use millstream_core::{millis, secs};
use millstream_streaming::{DStream, State, StateSpec};

use super::feed::Numbered;

/// An operation that keeps a key's values in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ordered {
    /// `update_state_by_key` that appends.
    State,
    /// `map_with_state` that appends, and gives what it has at each record.
    Mapped,
    /// `group_by_key_and_window`.
    Grouped,
    /// `reduce_by_key_and_window` that joins vectors.
    Window,
    /// The same from the window before: what leaves is in front.
    Incremental,
}

/// How far a window reaches back.
const WINDOW: usize = 3;

/// What a batch gave of one key, in order.
pub(crate) type Row = (u8, Vec<Vec<u32>>);

impl Ordered {
    pub(crate) const ALL: &[Ordered] =
        &[Ordered::State, Ordered::Mapped, Ordered::Grouped, Ordered::Window, Ordered::Incremental];

    pub(crate) fn on_the_engine(self, stream: &DStream<(u8, u32)>) -> DStream<(u8, Vec<u32>)> {
        let window = secs(WINDOW as u64);
        let join = |a: Vec<u32>, b: Vec<u32>| [a, b].concat();
        match self {
            Ordered::State => stream.update_state_by_key(|new: Vec<u32>, old: Option<Vec<u32>>| {
                Some(old.into_iter().flatten().chain(new).collect::<Vec<u32>>())
            }),
            Ordered::Mapped => {
                let spec = StateSpec::function(|key: &u8, value: Option<u32>, state: &mut State<'_, Vec<u32>>| {
                    let all: Vec<u32> = state.get_option().cloned().into_iter().flatten().chain(value).collect();
                    state.update(all.clone());
                    (*key, all)
                });
                stream.map_with_state(spec).stream()
            }
            Ordered::Grouped => stream.group_by_key_and_window(window),
            Ordered::Window => stream.map_values(|n| vec![n]).reduce_by_key_and_window(join, window),
            Ordered::Incremental => {
                let leave = |all: Vec<u32>, gone: Vec<u32>| all[gone.len()..].to_vec();
                let joined = stream.map_values(|n| vec![n]);
                joined.reduce_by_key_and_window_inv(join, leave, (window, millis(1000)))
            }
        }
    }

    /// What it gives for batches with these rows.
    pub(crate) fn on_the_model(self, rows: &[Vec<Numbered>]) -> Vec<Vec<Row>> {
        let all_until = |from: usize, to: usize| {
            let mut all: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
            rows[from..to].iter().flatten().for_each(|record| all.entry(record.2.0).or_default().push(record.0));
            all
        };
        let batch = |i: usize| match self {
            Ordered::State => by_key(all_until(0, i + 1)),
            Ordered::Mapped => {
                let mut all = all_until(0, i);
                by_key(rows[i].iter().map(|record| {
                    let of_key = all.entry(record.2.0).or_default();
                    of_key.push(record.0);
                    (record.2.0, of_key.clone())
                }))
            }
            _ => by_key(all_until((i + 1).saturating_sub(WINDOW), i + 1)),
        };
        (0..rows.len()).map(batch).collect()
    }
}

/// What a batch gave, by key; of one key in the order of the batch. Keys of which nothing is left in a window count as none.
pub(crate) fn by_key(rows: impl IntoIterator<Item = (u8, Vec<u32>)>) -> Vec<Row> {
    let mut all: BTreeMap<u8, Vec<Vec<u32>>> = BTreeMap::new();
    for (key, values) in rows.into_iter().filter(|(_, values)| !values.is_empty()) {
        all.entry(key).or_default().push(values);
    }
    all.into_iter().collect()
}
