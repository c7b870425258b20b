//! What a program keeps from batch to batch, by name, so that another build of it finds it again. Pure.
//!
//! Inputs, states and outputs keep something. Each has a key: the `uid` that the program gave it, or the operation and its
//! number among those of the operation that have no `uid`. Nothing is guessed: where keys do not tell, the start is refused,
//! and nothing is dropped that the program has not been told to drop.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millstream_core::Time;
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

/// What a checkpoint has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a> {
    pub(crate) keepers: &'a [Keeper],
    /// The forms that saves of a keeper have, where it is not the keeper's own: an earlier build wrote them.
    pub(crate) forms: &'a BTreeMap<u32, BTreeMap<Time, String>>,
    /// What outputs have prepared for batches that have ended.
    pub(crate) prepared: &'a BTreeMap<Time, BTreeMap<u32, Vec<u8>>>,
}

/// What a program has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now<'a> {
    pub(crate) keepers: &'a [Keeper],
    /// The forms of earlier builds that its migrations read, by keeper.
    pub(crate) reads: &'a BTreeMap<u32, BTreeSet<String>>,
}

/// What the program has been told to do with what it does not know, or knows by another name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// What may be thrown away, by key.
    pub(crate) drop: BTreeSet<String>,
    /// New keys, by the key that something had.
    pub(crate) rename: BTreeMap<String, String>,
}

/// What becomes of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on as it is.
    Kept,
    /// It goes on, and is brought into its new form by the program's migrations.
    Migrated,
    /// The program has it and the checkpoint has not: it begins with nothing.
    New,
    /// The program has it, and was told to begin with nothing.
    Anew,
    /// The checkpoint has it and the program has not.
    Dropped,
    /// Both have it, and nothing reads the form in which it was kept.
    Changed,
    /// Both have it by its number only, and it is not made of the same.
    Unsure,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::Kept => "kept",
            Fate::Migrated => "migrated",
            Fate::New => "new",
            Fate::Anew => "begun anew",
            Fate::Dropped => "dropped",
            Fate::Changed => "changed",
            Fate::Unsure => "unsure",
        })
    }
}

/// What becomes of one thing that is kept, or is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) fate: Fate,
    /// Its place in the checkpoint's list.
    pub(crate) before: Option<u32>,
    /// Its place in the program's list.
    pub(crate) now: Option<u32>,
    /// Why the program cannot go on with this, and what to do.
    pub(crate) objection: Option<String>,
}

impl Line {
    /// Returns where it was, if it goes on.
    pub(crate) fn goes_on_from(&self) -> Option<u32> {
        self.before.filter(|_| matches!(self.fate, Fate::Kept | Fate::Migrated))
    }
}

/// Puts what a checkpoint has and what the program has side by side.
pub(crate) fn compare(before: Before<'_>, now: Now<'_>, wishes: &Wishes) -> Vec<Line> {
    let known: BTreeSet<(Kept, &str)> = before.keepers.iter().map(|keeper| (keeper.kept, &*keeper.key)).collect();
    let wanted: BTreeSet<(Kept, &str)> = now.keepers.iter().map(|keeper| (keeper.kept, &*keeper.key)).collect();
    // A wish that has been fulfilled stays in the program, and means nothing any more.
    let key_of = |keeper: &Keeper| match wishes.rename.get(&keeper.key) {
        Some(new) if !known.contains(&(keeper.kept, &**new)) && wanted.contains(&(keeper.kept, &**new)) => new.clone(),
        _ => keeper.key.clone(),
    };
    let mut old: BTreeMap<(Kept, String), u32> =
        (0u32..).zip(before.keepers).map(|(n, keeper)| ((keeper.kept, key_of(keeper)), n)).collect();
    let mut lines = Vec::new();
    for (n, keeper) in (0u32..).zip(now.keepers) {
        let Some(b) = old.remove(&(keeper.kept, keeper.key.clone())) else {
            lines.push(Line { fate: Fate::New, before: None, now: Some(n), objection: None });
            continue;
        };
        let was = &before.keepers[b as usize];
        let is_renamed = was.key != keeper.key;
        let mut line = Line { fate: Fate::Kept, before: Some(b), now: Some(n), objection: None };
        let unread = unread(before, now, b, n);
        if !keeper.named && !is_renamed && keeper.made_of != was.made_of {
            line.fate = Fate::Unsure;
            // An output without a name has nothing that another could take for its own.
            line.objection = (keeper.kept != Kept::Output).then(|| {
                format!(
                    "? {keeper}: it has no uid, and is not made of what it was made of; is it the same? Give both builds a \
                     uid; or, if it is, give this build one and say that it was called `{}` (rename_kept); or, if it is \
                     not, that what was kept may go (drop_kept)",
                    was.key
                )
            });
        } else if is_renamed && keeper.kept == Kept::Output {
            line.fate = Fate::Unsure;
            line.objection = Some(format!(
                "? {keeper}: it was called `{}`, and the names of outputs are part of what sinks know batches by: keep it",
                was.key
            ));
        } else if let Some(form) = unread {
            line.fate = Fate::Changed;
            line.objection = Some(format!(
                "~ {}: what is kept had the form {form} and has the form {}; give a migration from the old type \
                 (migrate_from), or say that what was kept may go (drop_kept)",
                keeper.key, keeper.shape
            ));
        } else if was.shape != keeper.shape || before.forms.contains_key(&b) {
            line.fate = Fate::Migrated;
        }
        let consents = wishes.drop.contains(&keeper.key) || wishes.drop.contains(&was.key);
        if line.objection.is_some() && consents {
            line.fate = Fate::Anew;
            line.objection = None;
        }
        lines.push(line);
    }
    for ((kept, key), b) in old {
        // An output without a name has nothing that would be missed, unless it has prepared something.
        let consents = kept == Kept::Output || wishes.drop.contains(&key);
        let objection = (!consents).then(|| {
            format!(
                "- {}: the program has it no more, and what was kept would be lost; say so if it may go (drop_kept)",
                before.keepers[b as usize]
            )
        });
        lines.push(Line { fate: Fate::Dropped, before: Some(b), now: None, objection });
    }
    for line in &mut lines {
        let Some(b) = line.before.filter(|_| line.goes_on_from().is_none() && line.objection.is_none()) else {
            continue;
        };
        let keeper = &before.keepers[b as usize];
        let uncommitted =
            before.prepared.iter().find(|(_, of)| of.contains_key(&b) && !wishes.drop.contains(&keeper.key));
        line.objection = uncommitted.map(|(at, _)| {
            format!("- {keeper}: it has prepared batch {at}, and no output of the program commits that")
        });
    }
    lines
}

/// Returns a form in which something was kept and that the program cannot read.
fn unread<'a>(before: Before<'a>, now: Now<'_>, b: u32, n: u32) -> Option<&'a str> {
    let own = &now.keepers[n as usize].shape;
    let reads = |form: &&str| *form == own || now.reads.get(&n).is_some_and(|reads| reads.contains(*form));
    let saved = before.forms.get(&b).into_iter().flat_map(BTreeMap::values).map(String::as_str);
    std::iter::once(&*before.keepers[b as usize].shape).chain(saved).find(|form| !reads(form))
}

/// Returns, line by line, why a program cannot go on from a checkpoint: what would be lost, and what to do.
pub(crate) fn objections(now: &[Keeper], lines: &[Line]) -> Vec<String> {
    let mut objections: Vec<String> = lines.iter().filter_map(|line| line.objection.clone()).collect();
    if !objections.is_empty() {
        let new = lines.iter().filter(|line| line.fate == Fate::New).filter_map(|line| now.get(line.now? as usize));
        objections.extend(new.filter(|keeper| keeper.kept != Kept::Output).map(|keeper| format!("+ {keeper}")));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(kept: Kept, key: &str, named: bool, made_of: u64, shape: &str) -> Keeper {
        Keeper { kept, key: key.into(), named, made_of, shape: shape.into() }
    }

    fn state(key: &str, shape: &str) -> Keeper {
        keeper(Kept::State, key, true, 0, shape)
    }

    /// What there is beside the two lists.
    #[derive(Default)]
    struct Beside {
        forms: BTreeMap<u32, BTreeMap<Time, String>>,
        prepared: BTreeMap<Time, BTreeMap<u32, Vec<u8>>>,
        reads: BTreeMap<u32, BTreeSet<String>>,
        wishes: Wishes,
    }

    impl Beside {
        fn lines(&self, before: &[Keeper], now: &[Keeper]) -> Vec<Line> {
            let before = Before { keepers: before, forms: &self.forms, prepared: &self.prepared };
            compare(before, Now { keepers: now, reads: &self.reads }, &self.wishes)
        }

        /// What becomes of each, in the program's order, then of the rest; with `!` where that is objected to.
        fn fates(&self, before: &[Keeper], now: &[Keeper]) -> String {
            let one = |line: &Line| format!("{}{}", line.fate, if line.objection.is_some() { "!" } else { "" });
            self.lines(before, now).iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }

    fn wishes(drop: &[&str], rename: &[(&str, &str)]) -> Wishes {
        Wishes {
            drop: drop.iter().map(ToString::to_string).collect(),
            rename: rename.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect(),
        }
    }

    #[test]
    fn what_becomes_of_a_keeper_follows_from_its_name_what_it_is_made_of_its_forms_and_the_consent() {
        let unnamed = |made_of| keeper(Kept::State, "map_with_state 1", false, made_of, "u64");
        let reads = |forms: &[&str]| [(0, forms.iter().map(ToString::to_string).collect())].into();
        let v1_left = [(0, [(Time::from_millis(1), "v1".to_owned())].into())];
        let (a, b) = (state("a", "v2"), state("b", "v2"));
        let (v1, v3) = (state("a", "v1"), state("a", "v3"));
        type Row<'a> = (Vec<Keeper>, Vec<Keeper>, Beside, &'a str);
        let rows: Vec<Row<'_>> = vec![
            (vec![a.clone()], vec![a.clone()], Beside::default(), "kept"),
            (vec![a.clone()], vec![a.clone(), b.clone()], Beside::default(), "kept, new"),
            (vec![a.clone()], vec![b.clone()], Beside::default(), "new, dropped!"),
            (vec![a.clone()], vec![], Beside { wishes: wishes(&["a"], &[]), ..Beside::default() }, "dropped"),
            (vec![a.clone()], vec![a.clone()], Beside { wishes: wishes(&["a"], &[]), ..Beside::default() }, "kept"),
            (vec![v1.clone()], vec![a.clone()], Beside::default(), "changed!"),
            (vec![v1.clone()], vec![a.clone()], Beside { reads: reads(&["v1"]), ..Beside::default() }, "migrated"),
            (vec![v1.clone()], vec![v3.clone()], Beside { reads: reads(&["v2"]), ..Beside::default() }, "changed!"),
            (
                vec![v1.clone()],
                vec![v3.clone()],
                Beside { wishes: wishes(&["a"], &[]), ..Beside::default() },
                "begun anew",
            ),
            // What the build before has not written anew is still in the form of the one before that.
            (
                vec![a.clone()],
                vec![a.clone()],
                Beside { forms: v1_left.clone().into(), ..Beside::default() },
                "changed!",
            ),
            (
                vec![a.clone()],
                vec![v3.clone()],
                Beside { forms: v1_left.clone().into(), reads: reads(&["v1", "v2"]), ..Beside::default() },
                "migrated",
            ),
            (
                vec![a.clone()],
                vec![a.clone()],
                Beside { forms: v1_left.into(), reads: reads(&["v1"]), ..Beside::default() },
                "migrated",
            ),
            (vec![unnamed(1)], vec![unnamed(1)], Beside::default(), "kept"),
            (vec![unnamed(1)], vec![unnamed(2)], Beside::default(), "unsure!"),
            (
                vec![unnamed(1)],
                vec![unnamed(2)],
                Beside { wishes: wishes(&["map_with_state 1"], &[]), ..Beside::default() },
                "begun anew",
            ),
            (
                vec![unnamed(1)],
                vec![state("a", "u64")],
                Beside { wishes: wishes(&[], &[("map_with_state 1", "a")]), ..Beside::default() },
                "kept",
            ),
            (
                vec![state("a", "u64")],
                vec![state("a", "u64")],
                Beside { wishes: wishes(&[], &[("map_with_state 1", "a")]), ..Beside::default() },
                "kept",
            ),
        ];
        for (n, (before, now, beside, want)) in rows.into_iter().enumerate() {
            assert_eq!(beside.fates(&before, &now), want, "row {n}");
        }
    }

    #[test]
    fn keepers_are_found_by_kind_and_name_wherever_they_stand() {
        let input = keeper(Kept::Input, "queue 0", false, 1, "");
        let both = [input.clone(), state("sessions", "u64")];
        let found = Beside::default().lines(&both, &[state("sessions", "u64"), input]);
        assert_eq!(found.iter().map(Line::goes_on_from).collect::<Vec<_>>(), [Some(1), Some(0)]);
        let output = keeper(Kept::Output, "sessions", true, 1, "");
        assert_eq!(Beside::default().fates(&[state("sessions", "")], &[output]), "new, dropped!");
    }

    #[test]
    fn an_objection_says_what_would_be_lost_what_is_new_and_what_to_do() {
        let (a, b) = ([state("a", "u64")], [state("b", "u64")]);
        let lines = Beside::default().lines(&a, &b);
        assert_eq!(
            objections(&b, &lines),
            [
                "- state a: u64: the program has it no more, and what was kept would be lost; say so if it may go (drop_kept)",
                "+ state b: u64"
            ]
        );
        let lines = Beside::default().lines(&a, &[state("a", "u64"), state("b", "u64")]);
        assert!(objections(&b, &lines).is_empty());
        let (was, is) = (keeper(Kept::State, "m 1", false, 1, ""), keeper(Kept::State, "m 1", false, 2, ""));
        let text = &objections(&[], &Beside::default().lines(&[was], &[is]))[0];
        assert!(text.contains("Give both builds a uid") && text.contains("`m 1` (rename_kept)"), "{text}");
    }

    #[test]
    fn an_output_is_missed_only_if_it_has_prepared_something() {
        let output = [keeper(Kept::Output, "save_to 1", false, 0, "")];
        assert_eq!(Beside::default().fates(&output, &[]), "dropped");
        let prepared = BTreeMap::from([(Time::from_millis(1), BTreeMap::from([(0, vec![1])]))]);
        let mut beside = Beside { prepared, ..Beside::default() };
        assert_eq!(beside.fates(&output, &[]), "dropped!");
        let text = objections(&[], &beside.lines(&output, &[])).remove(0);
        assert!(text.contains("it has prepared batch 1 ms"), "{text}");
        beside.wishes = wishes(&["save_to 1"], &[]);
        assert_eq!(beside.fates(&output, &[]), "dropped");
        let named = [keeper(Kept::Output, "table", true, 0, "")];
        beside.wishes = wishes(&[], &[("save_to 1", "table")]);
        assert_eq!(beside.fates(&output, &named), "unsure!", "its sink knows its batches by its name");
    }
}
