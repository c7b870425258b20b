//! The plain loops that a good engineer would write by hand for each workload, on the same number of threads.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::report::{Report, entry_hash};

type Counts = HashMap<String, u64, foldhash::fast::RandomState>;

/// Runs `part` on each part, a thread each, and returns what they gave.
fn on_threads<'a, R: Send>(parts: &[Vec<&'a str>], part: impl Fn(&[&'a str]) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let part = &part;
        let running: Vec<_> = parts.iter().map(|lines| scope.spawn(move || part(lines))).collect();
        running.into_iter().map(|thread| thread.join().expect("a loop does not panic")).collect()
    })
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
    for map in maps {
        for (word, count) in map {
            *all.entry(word).or_insert(0) += count;
        }
    }
    all
}

fn grouped(parts: &[Vec<&str>]) -> HashMap<String, u64, foldhash::fast::RandomState> {
    type Groups<'a> = HashMap<&'a str, Vec<&'a str>, foldhash::fast::RandomState>;
    let maps = on_threads(parts, |lines| {
        let mut groups = Groups::default();
        for line in lines {
            let key = line.split(' ').next().unwrap_or_default();
            groups.entry(key).or_default().push(*line);
        }
        groups
    });
    let mut all = Groups::default();
    for map in maps {
        for (key, lines) in map {
            all.entry(key).or_default().extend(lines);
        }
    }
    all.into_iter().map(|(key, lines)| (key.to_owned(), lines.iter().map(|l| l.len() as u64).sum())).collect()
}

fn top(counts: &Counts, n: usize) -> Vec<(&str, u64)> {
    let mut all: Vec<(&str, u64)> = counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    all.truncate(n);
    all
}

fn hash_of<'a>(entries: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
    entries.into_iter().fold(0, |sum, (key, count)| sum.wrapping_add(entry_hash(key.as_bytes(), count)))
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures")]
fn timed<R>(body: impl FnOnce() -> R) -> (Duration, R) {
    let start = Instant::now();
    let result = body();
    (start.elapsed(), result)
}

pub(crate) fn run(workload: &str, parts: &[Vec<&str>], records: u64, batches: usize) -> Option<Report> {
    let mut times = Vec::new();
    let (mut sink, mut result_hash) = (0, 0);
    for _ in 0..batches {
        let time = match workload {
            "grep" => {
                let finder = memmem::Finder::new("w77 ");
                let (time, counts) = timed(|| {
                    on_threads(parts, |lines| {
                        lines.iter().filter(|line| finder.find(line.as_bytes()).is_some()).count() as u64
                    })
                });
                let count: u64 = counts.into_iter().sum();
                (sink, result_hash) = (sink + count, entry_hash(b"lines", count));
                time
            }
            "wordcount" | "empty" => {
                let (time, counts) = timed(|| merged(on_threads(parts, count_words)));
                sink += counts.len() as u64;
                result_hash = hash_of(counts.iter().map(|(word, count)| (word.as_str(), *count)));
                time
            }
            "topk" => {
                let (time, (n, hash)) = timed(|| {
                    let counts = merged(on_threads(parts, count_words));
                    let top = top(&counts, 10);
                    (top.len(), hash_of(top))
                });
                (sink, result_hash) = (sink + n as u64, hash);
                time
            }
            "group" => {
                let (time, groups) = timed(|| grouped(parts));
                sink += groups.len() as u64;
                result_hash = hash_of(groups.iter().map(|(key, sum)| (key.as_str(), *sum)));
                time
            }
            _ => return None,
        };
        times.push(time);
    }
    Some(Report { engine: "hand", workload: workload.to_owned(), records, times, sink, result_hash })
}
