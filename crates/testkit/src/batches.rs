//! What goes in: a row a batch.

use crate::literal::Literal;

/// What a stream gets in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<T> {
    /// These elements.
    Elements(Vec<T>),
    /// No Rdd at all (S-13).
    Missing,
    /// No batch: here the program is killed, and started again.
    Crash,
}

/// What a stream gets, a row a batch. Made by [`batches!`](crate::batches).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches<T> {
    pub(crate) rows: Vec<Row<T>>,
    /// Behind how many rows the program is killed.
    pub(crate) crashes: Vec<usize>,
}

impl<T> Batches<T> {
    /// Makes the batches of some rows.
    pub fn new(rows: Vec<Row<T>>) -> Batches<T> {
        let mut batches = Batches { rows: Vec::with_capacity(rows.len()), crashes: Vec::new() };
        for row in rows {
            match row {
                Row::Crash => batches.crashes.push(batches.rows.len()),
                row => batches.rows.push(row),
            }
        }
        batches
    }

    /// Has the program killed behind the first `rows` rows, too.
    #[must_use]
    pub fn crash_behind(mut self, rows: usize) -> Batches<T> {
        self.crashes.push(rows);
        self.crashes.sort_unstable();
        self
    }
}

impl<T> Row<T> {
    /// Makes a row of what was written down.
    pub fn of<L: Literal<Element = T>>(literals: Vec<L>) -> Row<T> {
        Row::Elements(literals.into_iter().map(Literal::element).collect())
    }
}

/// Writes down what a stream gets, a row a batch: elements in brackets, `MISSING` for a batch without an Rdd, or `CRASH` where
/// the program is killed and started again.
///
/// # Example
///
/// ```
/// use millstream_core::Text;
/// use millstream_testkit::{Batches, batches};
///
/// let words: Batches<Text> = batches![["a", "b"], [], MISSING, ["c"]];
/// let pairs = batches![[("ann", 1)], [("ann", 2), ("bob", 1)]];
/// # let _ = (words, pairs);
/// ```
#[macro_export]
macro_rules! batches {
    (@row MISSING) => { $crate::Row::Missing };
    (@row CRASH) => { $crate::Row::Crash };
    (@row []) => { $crate::Row::Elements(Vec::new()) };
    (@row [$($element:expr),* $(,)?]) => { $crate::Row::of(vec![$($element),*]) };
    ($($row:tt),* $(,)?) => { $crate::Batches::new(vec![$($crate::batches!(@row $row)),*]) };
}
