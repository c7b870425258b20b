//! What a program keeps from batch to batch, by name, so that another build of it finds it again. Pure.
//!
//! Inputs, states and outputs keep something. Each has a key: the `uid` that the program gave it, or the operation and its
//! number among those of the operation that have no `uid`. Nothing is guessed: where keys do not tell, the start is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kept {
    /// What an input has given to batches.
    Input,
    /// A state.
    State,
    /// What an output has done.
    Output,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kept::Input => "input",
            Kept::State => "state",
            Kept::Output => "output",
        })
    }
}

/// Something that keeps something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keeper {
    pub(crate) kept: Kept,
    pub(crate) key: String,
    /// Whether the program gave it a name.
    pub(crate) named: bool,
    /// What it is made of: a mark of the operations in front of it.
    pub(crate) made_of: u64,
    /// The form of what is kept, for people and to be compared; empty where nobody knows it.
    pub(crate) shape: String,
}

#[cfg(test)]
impl Keeper {
    pub(crate) fn state(key: &str) -> Keeper {
        Keeper { kept: Kept::State, key: key.into(), named: true, made_of: 0, shape: String::new() }
    }
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kept, self.key)?;
        if !self.shape.is_empty() {
            write!(f, ": {}", self.shape)?;
        }
        Ok(())
    }
}

/// How something of a checkpoint and something of the program go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// The same: it goes on.
    Kept { now: u32, before: u32 },
    /// The program has it and the checkpoint has not: it begins with nothing.
    New { now: u32 },
    /// The checkpoint has it and the program has not.
    Dropped { before: u32 },
    /// Both have it, and what is kept has another form.
    Changed { now: u32, before: u32 },
    /// Both have it by its number only, and it is not made of the same.
    Unsure { now: u32, before: u32 },
}

/// Puts what a checkpoint has and what the program has side by side.
pub(crate) fn compare(before: &[Keeper], now: &[Keeper]) -> Vec<Match> {
    let mut old: BTreeMap<(Kept, &str), u32> = (0u32..).zip(before).map(|(n, k)| ((k.kept, &*k.key), n)).collect();
    let mut matches = Vec::new();
    for (n, keeper) in (0u32..).zip(now) {
        let Some(b) = old.remove(&(keeper.kept, &*keeper.key)) else {
            matches.push(Match::New { now: n });
            continue;
        };
        let was = &before[b as usize];
        matches.push(if !keeper.named && keeper.made_of != was.made_of {
            Match::Unsure { now: n, before: b }
        } else if keeper.shape != was.shape {
            Match::Changed { now: n, before: b }
        } else {
            Match::Kept { now: n, before: b }
        });
    }
    matches.extend(old.into_values().map(|before| Match::Dropped { before }));
    matches
}

/// Returns, line by line, why a program cannot go on from a checkpoint: what would be lost, and what to do.
pub(crate) fn objections(before: &[Keeper], now: &[Keeper], matches: &[Match]) -> Vec<String> {
    let mut lines = Vec::new();
    for found in matches {
        match *found {
            Match::Kept { .. } | Match::New { .. } => {}
            // An output without a name has nothing that another could take for its own.
            Match::Dropped { before: b } if before[b as usize].kept == Kept::Output => {}
            Match::Unsure { now: n, .. } if now[n as usize].kept == Kept::Output => {}
            Match::Dropped { before: b } => lines
                .push(format!("- {}: the program has it no more, and what was kept would be lost", before[b as usize])),
            Match::Changed { now: n, before: b } => lines.push(format!(
                "~ {}: what is kept had the form {} and has the form {}; give a migration from the old type",
                now[n as usize].key, before[b as usize].shape, now[n as usize].shape
            )),
            Match::Unsure { now: n, .. } => lines.push(format!(
                "? {}: it has no uid, and is not made of what it was made of; is it the same? Give both builds a uid",
                now[n as usize]
            )),
        }
    }
    if !lines.is_empty() {
        let new = matches.iter().filter_map(|found| match found {
            Match::New { now: n } if now[*n as usize].kept != Kept::Output => Some(format!("+ {}", now[*n as usize])),
            _ => None,
        });
        lines.extend(new);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(kept: Kept, key: &str, named: bool, made_of: u64, shape: &str) -> Keeper {
        Keeper { kept, key: key.into(), named, made_of, shape: shape.into() }
    }

    #[test]
    fn keepers_are_found_by_name_wherever_they_stand() {
        let input = keeper(Kept::Input, "socket_text_stream 0", false, 1, "");
        let state = |made_of, shape| keeper(Kept::State, "sessions", true, made_of, shape);
        let both = [input.clone(), state(2, "u64")];
        assert_eq!(
            compare(&both, &[state(9, "u64"), input.clone()]),
            [Match::Kept { now: 0, before: 1 }, Match::Kept { now: 1, before: 0 }]
        );
        assert_eq!(
            compare(&both, &[state(2, "i64"), input]),
            [Match::Changed { now: 0, before: 1 }, Match::Kept { now: 1, before: 0 }]
        );
    }

    #[test]
    fn a_keeper_without_a_name_must_be_made_of_the_same() {
        let was = [keeper(Kept::State, "map_with_state 0", false, 1, "")];
        let now = [keeper(Kept::State, "map_with_state 0", false, 2, "")];
        let found = compare(&was, &now);
        assert_eq!(found, [Match::Unsure { now: 0, before: 0 }]);
        assert!(objections(&was, &now, &found)[0].contains("Give both builds a uid"));
    }

    #[test]
    fn nothing_is_dropped_without_a_word_and_what_is_new_is_no_objection() {
        let state = |key| keeper(Kept::State, key, true, 0, "u64");
        let found = compare(&[state("a")], &[state("b")]);
        assert_eq!(found, [Match::New { now: 0 }, Match::Dropped { before: 0 }]);
        assert_eq!(
            objections(&[state("a")], &[state("b")], &found),
            ["- state a: u64: the program has it no more, and what was kept would be lost", "+ state b: u64"]
        );
        let found = compare(&[state("a")], &[state("a"), state("b")]);
        assert!(objections(&[state("a")], &[state("a"), state("b")], &found).is_empty());
        let output = keeper(Kept::Output, "print 0", false, 0, "");
        assert!(
            objections(std::slice::from_ref(&output), &[], &compare(std::slice::from_ref(&output), &[])).is_empty()
        );
    }
}
