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
    /// New keys, by the key that something had: said in the program, and so at every start.
    pub(crate) rename: BTreeMap<String, String>,
    /// The same, said for this one time.
    pub(crate) rename_once: BTreeMap<String, String>,
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
    let wanted: BTreeSet<(Kept, &str)> = now.keepers.iter().map(|keeper| (keeper.kept, &*keeper.key)).collect();
    let (keys, clashes) = renamed(before.keepers, &wanted, wishes);
    let mut old: BTreeMap<(Kept, &str), u32> =
        (0u32..).zip(before.keepers.iter().zip(keys)).map(|(n, (keeper, key))| ((keeper.kept, key), n)).collect();
    let mut lines = Vec::new();
    for (n, keeper) in (0u32..).zip(now.keepers) {
        let Some(b) = old.remove(&(keeper.kept, &*keeper.key)) else {
            lines.push(Line { fate: Fate::New, before: None, now: Some(n), objection: None });
            continue;
        };
        let was = &before.keepers[b as usize];
        let is_renamed = was.key != keeper.key;
        let mut line = Line { fate: Fate::Kept, before: Some(b), now: Some(n), objection: None };
        let unread = unread(before, now, b, n);
        if let Some(clash) = clashes.get(&b) {
            line.fate = Fate::Unsure;
            line.objection = Some(format!("? {keeper}: {clash}"));
        } else if !keeper.named && !is_renamed && keeper.made_of != was.made_of {
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
    for ((kept, _), b) in old {
        let (keeper, clash) = (&before.keepers[b as usize], clashes.get(&b));
        // An output without a name has nothing that would be missed, unless it has prepared something.
        let consents = (kept == Kept::Output && clash.is_none()) || wishes.drop.contains(&keeper.key);
        let why = clash.map_or(
            "the program has it no more, and what was kept would be lost; say so if it may go (drop_kept)",
            String::as_str,
        );
        let objection = (!consents).then(|| format!("- {keeper}: {why}"));
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
    for line in &mut lines {
        let Some(keeper) = line.now.map(|n| &now.keepers[n as usize]) else { continue };
        let new = wishes.rename.get(&keeper.key).filter(|new| **new != keeper.key);
        if let Some(new) = new.filter(|new| wanted.contains(&(keeper.kept, &**new))) {
            // At the next start the old name would be in the checkpoint again, and nothing says which of the two it is.
            line.fate = Fate::Unsure;
            line.objection = Some(format!(
                "? {keeper}: the program renames what had this name to `{new}` (rename_kept), and has something of this name \
                 itself: the next start could not tell the two apart. Give this a uid that nothing had; or take the line away, \
                 and rename once: `checkpoint upgrade DIR --rename '{}={new}'`",
                keeper.key
            ));
        }
    }
    lines
}

/// Returns the key that each keeper of a checkpoint goes on under, and, by place, why one was not given its new one.
///
/// All are renamed at once, so names may move up a row, or change places. A new key is given to one keeper, and not if another
/// stays there. A keeper that is not in the checkpoint has been renamed by an earlier start, and nothing is left to do.
fn renamed<'a>(
    before: &'a [Keeper],
    wanted: &BTreeSet<(Kept, &str)>,
    wishes: &'a Wishes,
) -> (Vec<&'a str>, BTreeMap<u32, String>) {
    let wish = |keeper: &'a Keeper| {
        let new = wishes.rename_once.get(&keeper.key).or_else(|| wishes.rename.get(&keeper.key))?;
        wanted.contains(&(keeper.kept, &**new)).then_some(&**new)
    };
    let mut keys: Vec<&str> = before.iter().map(|keeper| wish(keeper).unwrap_or(&keeper.key)).collect();
    let mut clashes = BTreeMap::new();
    // One that has to stay may be in the way of another, so each clash asks for one more look.
    loop {
        let (stay, go): (Vec<_>, Vec<_>) =
            (0u32..).zip(before.iter().zip(&keys)).partition(|(_, (keeper, key))| keeper.key == **key);
        let mut holders = BTreeMap::new();
        let clash = stay.into_iter().chain(go).find_map(|(n, (keeper, key))| {
            let holder: &mut &Keeper = holders.entry((keeper.kept, *key)).or_insert(keeper);
            (holder.key != keeper.key).then_some((n, *key, *holder))
        });
        let Some((n, new, holder)) = clash else { return (keys, clashes) };
        let why = if holder.key == new {
            format!(
                "it is to be called `{new}` (rename_kept), and what the checkpoint has under that name stays there: take a name \
                 that nothing had, or take the line away"
            )
        } else {
            format!("two things are renamed to `{new}` (rename_kept): this and `{}`; take another name", holder.key)
        };
        clashes.insert(n, why);
        keys[n as usize] = &before[n as usize].key;
    }
}

/// Returns the names of what may be thrown away under which nothing is.
pub(crate) fn idle_drops<'a>(
    before: &[Keeper],
    now: &[Keeper],
    lines: &[Line],
    wishes: &'a Wishes,
) -> impl Iterator<Item = &'a str> {
    let gone = lines.iter().filter(|line| matches!(line.fate, Fate::Dropped | Fate::Anew));
    let keepers = |line: &Line| {
        let was = line.before.and_then(|n| before.get(n as usize));
        [was, line.now.and_then(|n| now.get(n as usize))]
    };
    let used: BTreeSet<String> = gone.flat_map(keepers).flatten().map(|keeper| keeper.key.clone()).collect();
    wishes.drop.iter().filter(move |name| !used.contains(*name)).map(String::as_str)
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
            rename_once: BTreeMap::new(),
        }
    }

    fn once(rename: &[(&str, &str)]) -> Wishes {
        let rename_once = rename.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect();
        Wishes { rename_once, ..Wishes::default() }
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
    fn things_are_renamed_all_at_once_and_nothing_is_lost_where_names_clash() {
        let states = |keys: &str| keys.split(' ').map(|key| state(key, "u64")).collect::<Vec<_>>();
        let rows = [
            ("a b", "c", wishes(&[], &[("a", "c"), ("b", "c")]), "c from a, b goes!"),
            ("a b", "c b", once(&[("a", "c"), ("b", "c")]), "c from a, b from b!"),
            ("a b", "c", wishes(&["b"], &[("a", "c"), ("b", "c")]), "c from a, b goes"),
            // One was put in above two that have no names.
            ("1 2", "1 2 3", once(&[("1", "2"), ("2", "3")]), "1 new, 2 from 1, 3 from 2"),
            ("1 2 3", "1 2 3 4", once(&[("1", "2"), ("2", "3")]), "1 from 1!, 2 from 2!, 3 from 3, 4 new"),
            ("1 2", "1 x", once(&[("1", "x"), ("2", "1")]), "1 from 2, x from 1"),
            ("a b", "a b", once(&[("a", "b"), ("b", "a")]), "a from b, b from a"),
            ("a b c", "a b c", once(&[("a", "b"), ("b", "a"), ("c", "a")]), "a from b, b from a, c from c!"),
            // The new name is there already.
            ("a c", "c", wishes(&[], &[("a", "c")]), "c from c, a goes!"),
            ("a c", "a c", once(&[("a", "c")]), "a from a!, c from c"),
            // What stays in the program is followed once, and must mean nothing at the start after that.
            ("a", "c", wishes(&[], &[("a", "c")]), "c from a"),
            ("c", "c", wishes(&[], &[("a", "c")]), "c from c"),
            ("1", "1 x", wishes(&[], &[("1", "x")]), "1 new!, x from 1"),
            ("1 x", "1 x", wishes(&[], &[("1", "x")]), "1 from 1!, x from x"),
            ("x", "1 x", wishes(&[], &[("1", "x")]), "1 new!, x from x"),
            ("a b", "a b", wishes(&[], &[("a", "b"), ("b", "a")]), "a from b!, b from a!"),
            ("a", "a", wishes(&[], &[("a", "c")]), "a from a"),
            ("a", "a", wishes(&[], &[("a", "a")]), "a from a"),
        ];
        for (n, (before, now, wishes, want)) in rows.into_iter().enumerate() {
            let (before, now) = (states(before), states(now));
            let told = |line: &Line| {
                let was = line.before.map(|b| &before[b as usize].key);
                let told = match (line.now.map(|n| &now[n as usize].key), was) {
                    (Some(is), Some(was)) => format!("{is} from {was}"),
                    (Some(is), None) => format!("{is} new"),
                    (None, was) => format!("{} goes", was.expect("it is one or the other")),
                };
                told + if line.objection.is_some() { "!" } else { "" }
            };
            let lines = Beside { wishes, ..Beside::default() }.lines(&before, &now);
            assert_eq!(lines.iter().map(told).collect::<Vec<_>>().join(", "), want, "row {n}");
        }
        let both = Beside { wishes: wishes(&[], &[("a", "c"), ("b", "c")]), ..Beside::default() };
        let text = objections(&[], &both.lines(&states("a b"), &states("c"))).join(" ");
        assert!(text.contains("- state b") && text.contains("two things are renamed to `c`"), "{text}");
    }

    #[test]
    fn a_consent_that_nothing_asks_for_is_named() {
        let wishes = wishes(&["a", "b", "c", "d"], &[]);
        let (before, now) =
            ([state("a", "v1"), state("b", "v1"), state("c", "v1")], [state("b", "v2"), state("c", "v1")]);
        let lines = Beside { wishes: wishes.clone(), ..Beside::default() }.lines(&before, &now);
        assert!(objections(&now, &lines).is_empty());
        assert_eq!(idle_drops(&before, &now, &lines, &wishes).collect::<Vec<_>>(), ["c", "d"]);
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
