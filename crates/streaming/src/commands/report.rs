//! What a command answers, as a table for people. Pure.

use std::fmt::Write;

use millstream_core::Digest;
use serde::Serialize;

use crate::checkpoint::told::{Inspected, LeftOutLine, PlanLine};

/// What a program makes, or would make, of a checkpoint.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    pub(super) folder: String,
    /// Whether the program goes on from there.
    pub(super) goes_on: bool,
    /// Whether the checkpoint is the program's now.
    pub(super) is_done: bool,
    /// Why the two have nothing to do with each other.
    pub(super) refusal: Option<String>,
    pub(super) lines: Vec<PlanLine>,
}

/// A batch that was made again.
#[derive(Debug, Serialize)]
pub(super) struct Replayed {
    pub(super) folder: String,
    pub(super) batch_ms: i64,
    /// Whether all that was compared is the same; nothing if nothing was.
    pub(super) is_same: Option<bool>,
    pub(super) outputs: Vec<ReplayedOutput>,
}

/// What an output would have been given.
#[derive(Debug, Serialize)]
pub(super) struct ReplayedOutput {
    pub(super) name: String,
    pub(super) place: String,
    pub(super) elements: u64,
    pub(super) digest: Option<String>,
    /// The digest of the original, if it was kept.
    pub(super) original: Option<String>,
    pub(super) is_same: Option<bool>,
    /// By what; nothing if nothing of the original was kept.
    pub(super) compared_by: Option<By>,
}

/// By what an output is compared with the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Digest,
    /// By the number of its elements alone.
    Count,
}

/// How an output compares with the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) by: By,
    pub(super) is_same: bool,
}

impl Compared {
    /// Compares what an output is given now with the digest that was kept. If one of the two is of elements that could not be written
    /// down, only their number tells.
    pub(super) fn of(elements: u64, digest: Option<Digest>, original: Digest) -> Compared {
        let was_counted = original.count() > 0 && original == Digest::of_unknown(original.count());
        match digest {
            Some(digest) if !was_counted => Compared { by: By::Digest, is_same: digest == original },
            _ => Compared { by: By::Count, is_same: elements == original.count() },
        }
    }
}

/// Puts rows below each other, each column as wide as it must be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width - cell.chars().count() + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn batches(all: &[i64]) -> String {
    match all {
        [] => "none".to_owned(),
        [one] => one.to_string(),
        [first, .., last] => format!("{} from {first} to {last}", all.len()),
    }
}

/// Tells what is in a checkpoint.
pub(super) fn inspected(it: &Inspected) -> String {
    let mut rows = vec![
        row(["directory", &it.folder]),
        row(["application", &it.application]),
        row(["starts", &it.starts.to_string()]),
        row(["batch interval", &format!("{} ms", it.interval_ms)]),
        row(["last batch", &it.latest_batch_ms.map_or("none yet".to_owned(), |at| at.to_string())]),
        row(["to run again", &batches(&it.pending_batches_ms)]),
        row(["remembered", &batches(&it.remembered_batches_ms)]),
    ];
    if !it.uncommitted_batches_ms.is_empty() {
        rows.push(row(["to be committed", &batches(&it.uncommitted_batches_ms)]));
    }
    let left_out = |gap: &LeftOutLine| format!("{} from {} to {}", gap.batches, gap.first_ms, gap.last_ms);
    rows.extend(it.left_out.iter().map(|gap| row(["missed, left out", &left_out(gap)])));
    let mut text = table(&rows);
    let mut rows = vec![row(["what", "name", "saved behind", "bytes", "form"])];
    for kept in &it.kept {
        let name = if kept.is_uid { kept.name.clone() } else { format!("{} (no uid)", kept.name) };
        let last = kept.saves.last();
        let saved = last.map_or("-".to_owned(), |save| save.batch_ms.to_string());
        let bytes = last.map_or("-".to_owned(), |save| save.bytes.to_string());
        let form = last.and_then(|save| save.earlier_form.as_ref()).map(|form| format!("{form}, to be {}", kept.form));
        rows.push(row([&kept.what, &name, &saved, &bytes, &form.unwrap_or_else(|| kept.form.clone())]));
    }
    let _ = write!(text, "\n{}", table(&rows));
    text
}

/// Tells what becomes of what is kept.
pub(super) fn planned(it: &Planned) -> String {
    let mut text = String::new();
    if let Some(refusal) = &it.refusal {
        return format!("refused: {refusal}\n");
    }
    let mut rows = vec![row(["what", "name", "becomes", "form"])];
    for line in &it.lines {
        let name = line.was_called.as_ref().map(|was| format!("{} (was {was})", line.name));
        let becomes = if line.objection.is_some() { "refused" } else { &line.becomes };
        let form = match (&line.form_before, &line.form_now) {
            (Some(before), Some(now)) if before != now => format!("{before}, then {now}"),
            (before, now) => now.clone().or(before.clone()).unwrap_or_default(),
        };
        rows.push(row([&line.what, name.as_ref().unwrap_or(&line.name), becomes, &form]));
    }
    text.push_str(&table(&rows));
    let objections: Vec<&String> = it.lines.iter().filter_map(|line| line.objection.as_ref()).collect();
    if !objections.is_empty() {
        text.push('\n');
        for objection in objections {
            let _ = writeln!(text, "{objection}");
        }
    }
    let end = match (it.goes_on, it.is_done) {
        (true, true) => "The checkpoint is this program's now.",
        (true, false) => "The program goes on from there.",
        (false, _) => "The program is refused; nothing was changed.",
    };
    let _ = write!(text, "\n{end}\n");
    text
}

/// Tells what a batch was that was made again.
pub(super) fn replayed(it: &Replayed) -> String {
    let mut rows = vec![row(["output", "elements", "digest", "original", ""])];
    for output in &it.outputs {
        let dash = || "-".to_owned();
        let verdict = match (output.is_same, output.compared_by) {
            (Some(true), Some(By::Count)) => "as many",
            (Some(false), Some(By::Count)) => "NOT AS MANY",
            (Some(true), _) => "the same",
            (Some(false), _) => "NOT THE SAME",
            (None, _) => "",
        };
        rows.push(row([
            &format!("{} at {}", output.name, output.place),
            &output.elements.to_string(),
            &output.digest.clone().unwrap_or_else(dash),
            &output.original.clone().unwrap_or_else(dash),
            verdict,
        ]));
    }
    format!("batch {} ms\n\n{}\n{}\n", it.batch_ms, table(&rows), verdict(it))
}

/// Says whether the batch is what it was, and how much that is worth.
fn verdict(it: &Replayed) -> String {
    let compared = |by| it.outputs.iter().filter(|output| output.compared_by == by).count();
    let (all, digests, counts) = (it.outputs.len(), compared(Some(By::Digest)), compared(Some(By::Count)));
    let how = format!("{digests} of {all} outputs compared");
    let how = if counts > 0 { format!("{how}, and {counts} by the number of elements alone") } else { how };
    match it.is_same {
        Some(true) if digests == all => format!("It is the batch that it was: {how}."),
        Some(true) => {
            format!(
                "It is the batch that it was, as far as that is known: {how}. Call digested() on the streams of the others."
            )
        }
        Some(false) => format!("It is NOT the batch that it was: {how}."),
        None => {
            "Nobody knows whether it is the batch that it was: nothing of what its outputs were given was kept. Set \
                 retain_batches before the program runs, or call digested() on a stream."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_as_wide_as_they_must_be() {
        let rows = [row(["what", "name"]), row(["état", "a"]), row(["input"])];
        assert_eq!(table(&rows), "what   name\nétat   a\ninput\n");
        assert_eq!(table(&[]), "");
        assert_eq!([batches(&[]), batches(&[7]), batches(&[7, 8, 9])], ["none", "7", "3 from 7 to 9"]);
    }

    #[test]
    fn a_plan_names_what_is_refused_and_why() {
        let line = |name: &str, becomes: &str, objection: Option<&str>| PlanLine {
            what: "state".into(),
            name: name.into(),
            was_called: (name == "sums").then(|| "map_with_state 1".into()),
            becomes: becomes.into(),
            form_before: Some("u32".into()),
            form_now: Some("u64".into()),
            objection: objection.map(str::to_owned),
        };
        let lines = vec![line("sums", "migrated", None), line("old", "dropped", Some("- state old: why"))];
        let it = Planned { folder: "d".into(), goes_on: false, is_done: false, refusal: None, lines };
        let want = "\
what   name                         becomes   form
state  sums (was map_with_state 1)  migrated  u32, then u64
state  old                          refused   u32, then u64

- state old: why

The program is refused; nothing was changed.
";
        assert_eq!(planned(&it), want);
    }

    #[test]
    fn what_could_not_be_written_down_then_or_now_is_compared_by_its_number() {
        let mut digest = Digest::default();
        digest.add(b"a");
        let (none, unknown) = (Digest::default(), Digest::of_unknown);
        for (elements, now, then, by, is_same) in [
            (1, Some(digest), digest, By::Digest, true),
            (0, Some(none), digest, By::Digest, false),
            (1, Some(digest), none, By::Digest, false),
            (0, Some(none), none, By::Digest, true),
            (1, None, unknown(1), By::Count, true),
            (2, None, unknown(1), By::Count, false),
            (0, None, none, By::Count, true),
            (1, None, digest, By::Count, true),
            (1, Some(digest), unknown(1), By::Count, true),
            (1, Some(digest), unknown(2), By::Count, false),
        ] {
            assert_eq!(Compared::of(elements, now, then), Compared { by, is_same }, "{now:?}, {then}");
        }
    }

    #[test]
    fn a_verdict_says_how_much_was_compared() {
        let replayed = |outputs: &[(Option<bool>, Option<By>)]| {
            let output = |(is_same, compared_by): &(Option<bool>, Option<By>)| ReplayedOutput {
                name: "print 1".into(),
                place: "main.rs:9".into(),
                elements: 1,
                digest: None,
                original: None,
                is_same: *is_same,
                compared_by: *compared_by,
            };
            let mut known = outputs.iter().filter_map(|output| output.0).peekable();
            let is_same = known.peek().is_some().then(|| known.all(|same| same));
            let outputs = outputs.iter().map(output).collect();
            verdict(&Replayed { folder: "d".into(), batch_ms: 1000, is_same, outputs })
        };
        let (same, as_many, unknown) = ((Some(true), Some(By::Digest)), (Some(true), Some(By::Count)), (None, None));
        assert_eq!(replayed(&[same]), "It is the batch that it was: 1 of 1 outputs compared.");
        let text = replayed(&[same, as_many, as_many, unknown]);
        let want = "as far as that is known: 1 of 4 outputs compared, and 2 by the number of elements alone.";
        assert!(text.contains(want), "{text}");
        let text = replayed(&[same, (Some(false), Some(By::Count))]);
        assert!(text.starts_with("It is NOT the batch that it was: 1 of 2 outputs compared, and 1 by"), "{text}");
        for outputs in [&[unknown][..], &[]] {
            assert!(replayed(outputs).starts_with("Nobody knows"));
        }
    }
}
