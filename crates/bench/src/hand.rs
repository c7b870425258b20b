//! The plain loops that a good engineer would write by hand for each workload, on the same number of threads.

use std::collections::HashMap;

use memchr::memmem;

use crate::report::{Report, WARM_UP, result_hash};
use crate::timer::timed;

type Hasher = foldhash::fast::RandomState;
type Counts = HashMap<String, u64, Hasher>;
type Groups<'a> = HashMap<&'a str, Vec<&'a str>, Hasher>;

/// Runs all batches of a workload over the lines of each thread's part.
pub(crate) fn run(workload: &str, parts: &[Vec<&str>], records: u64, batches: usize) -> Option<Report> {
    let batch = match workload {
        "grep" => grep,
        "wordcount" => word_count,
        "topk" => top_k,
        "group" => group,
        "empty" => empty,
        _ => return None,
    };
    let mut report = Report {
        engine: "hand",
        workload: workload.to_owned(),
        records,
        times: Vec::new(),
        late: Vec::new(),
        sink: 0,
        result_hash: 0,
    };
    for number in 0..batches {
        let (time, result) = timed(|| batch(parts));
        report.sink += result.size();
        if number == 0 {
            report.result_hash = result.hash();
        }
        if number >= WARM_UP {
            report.times.push(time);
        }
    }
    Some(report)
}

/// What a batch gave. It is dropped when the time has been taken, and hashed then.
enum Outcome<'a> {
    Lines(Vec<&'a [&'a str]>, u64),
    Counts(Counts),
    Top(Vec<(String, u64)>),
    Sums(Vec<(&'a str, u64)>),
}

impl Outcome<'_> {
    fn size(&self) -> u64 {
        match self {
            Outcome::Lines(_, count) => *count,
            Outcome::Counts(counts) => counts.len() as u64,
            Outcome::Top(top) => top.len() as u64,
            Outcome::Sums(sums) => sums.len() as u64,
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Outcome::Lines(parts, _) => {
                let found = parts.iter().copied().flatten().filter(|line| line.contains(GREP));
                result_hash(found.map(|line| (*line, 1)))
            }
            Outcome::Counts(counts) => result_hash(counts.iter().map(|(word, count)| (word.as_str(), *count))),
            Outcome::Top(top) => result_hash(top.iter().map(|(word, count)| (word.as_str(), *count))),
            Outcome::Sums(sums) => result_hash(sums.iter().copied()),
        }
    }
}

/// What the workload `grep` looks for.
pub(crate) const GREP: &str = "w77 ";

/// Counts the lines in which a text occurs.
fn grep<'a>(parts: &'a [Vec<&'a str>]) -> Outcome<'a> {
    let finder = memmem::Finder::new(GREP);
    let counts =
        on_threads(parts, |lines| lines.iter().filter(|line| finder.find(line.as_bytes()).is_some()).count() as u64);
    Outcome::Lines(parts.iter().map(Vec::as_slice).collect(), counts.into_iter().sum())
}

fn word_count<'a>(parts: &'a [Vec<&'a str>]) -> Outcome<'a> {
    Outcome::Counts(merged(on_threads(parts, count_words)))
}

/// The ten commonest words; of words that are as common, the first by name.
fn top_k<'a>(parts: &'a [Vec<&'a str>]) -> Outcome<'a> {
    let mut all: Vec<(String, u64)> = merged(on_threads(parts, count_words)).into_iter().collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(10);
    Outcome::Top(all)
}

/// All lines by their first word, and how long they are together.
fn group<'a>(parts: &'a [Vec<&'a str>]) -> Outcome<'a> {
    let maps = on_threads(parts, |lines| {
        let mut groups = Groups::default();
        for line in lines {
            groups.entry(first_word(line)).or_default().push(line);
        }
        groups
    });
    let mut maps = maps.into_iter();
    let mut all = maps.next().unwrap_or_default();
    for (key, lines) in maps.flatten() {
        all.entry(key).or_default().extend(lines);
    }
    Outcome::Sums(all.into_iter().map(|(key, lines)| (key, lines.iter().map(|line| line.len() as u64).sum())).collect())
}

/// A tiny batch needs no threads.
fn empty<'a>(parts: &'a [Vec<&'a str>]) -> Outcome<'a> {
    Outcome::Counts(merged(parts.iter().map(|lines| count_words(lines)).collect()))
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

fn count_words(lines: &[&str]) -> Counts {
    let mut counts = Counts::default();
    for line in lines {
        for word in line.split(' ') {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(word.to_owned(), 1);
                }
            }
        }
    }
    counts
}

fn merged(maps: Vec<Counts>) -> Counts {
    let mut maps = maps.into_iter();
    let mut all = maps.next().unwrap_or_default();
    for (word, count) in maps.flatten() {
        *all.entry(word).or_insert(0) += count;
    }
    all
}

/// Runs `part` on each part, a thread each, and returns what they gave.
#[allow(clippy::disallowed_methods, reason = "the hand-written side has threads of its own")]
fn on_threads<'a, R: Send>(parts: &'a [Vec<&'a str>], part: impl Fn(&'a [&'a str]) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let part = &part;
        let running: Vec<_> = parts.iter().map(|lines| scope.spawn(move || part(lines))).collect();
        running.into_iter().map(|thread| thread.join().expect("a loop does not panic")).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Input;

    fn run_on(workload: &str, text: &str, threads: usize) -> Report {
        let input = Input::of(text, threads);
        run(workload, &input.lines(), input.records, 3).expect("the workload exists")
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let text: String = (0..200).map(|i| format!("w{} w77 w{} b\n", i % 7, i % 11)).collect();
        for workload in ["grep", "wordcount", "topk", "group", "empty"] {
            let one = run_on(workload, &text, 1);
            let three = run_on(workload, &text, 3);
            assert_eq!((one.sink, one.result_hash), (three.sink, three.result_hash), "{workload}");
            assert_eq!(one.times.len(), 1);
        }
    }

    #[test]
    fn group_sums_the_lengths_of_each_first_words_lines() {
        let report = run_on("group", "a b\na cd\nb a\n", 2);
        assert_eq!(report.result_hash, result_hash([("a", 7), ("b", 3)]));
        assert_eq!(report.sink, 2 * 3);
    }
}
