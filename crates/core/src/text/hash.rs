//! The hash of a text: a format, since it says which partition a key belongs to, and so where its state is kept.
//!
//! It is a function of the content alone, the same on every machine, and must never change. All its bits are good: high
//! ones mark entries of a hash table, low ones choose their places, and `hash % n` chooses partitions.

use super::repr::Repr;

// Digits of pi. Each has a property that keeps the factor it is mixed into from ever being zero: the lower half of
// `FIRST` is not a length up to twenty, and the top byte of the others does not occur in UTF-8.
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0xff19_8a2e_0370_7345;
const THIRD: u64 = 0xffa4_0938_2229_9f31;

/// Multiplies to twice the width and folds the halves, so that every bit of both counts.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
pub(super) fn fold_hash(text: &Repr) -> u64 {
    match text.words() {
        Some([first, second, third]) => fold(fold(first ^ FIRST, second ^ SECOND), third ^ THIRD),
        None => long(text.as_str().as_bytes()),
    }
}

/// Sixteen bytes a step; the last sixteen end where the text does, and so may overlap the step before.
#[inline(never)]
fn long(bytes: &[u8]) -> u64 {
    let step = |state: u64, pair: &[u8; 16]| {
        let pair = u128::from_le_bytes(*pair);
        fold(pair as u64 ^ SECOND, (pair >> 64) as u64 ^ state)
    };
    let state = bytes.as_chunks::<16>().0.iter().fold(FIRST ^ bytes.len() as u64, step);
    let state = bytes.last_chunk::<16>().map_or(state, |last| step(state, last));
    fold(state, THIRD)
}
