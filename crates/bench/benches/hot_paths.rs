//! Micro-benchmarks of the hot paths: cutting text, hashing keys, combining them, moving them through a shuffle, and a
//! pipeline of chunks.
//!
//! What is shuffled is made anew in each round: a shuffle that has been written is not written again.
//!
//! ```text
//! cargo bench -p millstream-bench
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use millstream::core::partitioner::key_hash;
use millstream::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LINES: usize = 10_000;
const WORDS: usize = 17;

fn main() {
    divan::main();
}

/// Lines of words, a few of which are common. A fixed sequence of numbers, so that runs can be compared.
fn text() -> String {
    let mut state = 7u64;
    let mut text = String::new();
    for _ in 0..LINES {
        for word in 0..WORDS {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let even = (state >> 40) as f64 / (1u64 << 24) as f64;
            let id = 100_000f64.powf(even) as u64;
            text += &format!("{}w{id}", if word > 0 { " " } else { "" });
        }
        text.push('\n');
    }
    text
}

fn lines() -> Vec<Text> {
    millstream::TextBlock::from_string(text()).lines().collect()
}

fn words() -> Vec<Text> {
    lines().iter().flat_map(|line| line.split(' ')).collect()
}

#[divan::bench_group]
mod split {
    use super::*;

    #[divan::bench]
    fn texts(bencher: Bencher<'_, '_>) {
        let lines = lines();
        bencher.counter(ItemsCount::new(LINES * WORDS)).bench_local(|| {
            let words = lines.iter().flat_map(|line| black_box(line).split(' '));
            words.map(|word| word.len()).sum::<usize>()
        });
    }

    #[divan::bench]
    fn strs(bencher: Bencher<'_, '_>) {
        let text = text();
        bencher.counter(ItemsCount::new(LINES * WORDS)).bench_local(|| {
            let words = text.lines().flat_map(|line| black_box(line).split(' '));
            words.map(|word| word.len()).sum::<usize>()
        });
    }
}

#[divan::bench_group]
mod hash {
    use super::*;

    #[divan::bench]
    fn text_keys(bencher: Bencher<'_, '_>) {
        let words = words();
        bencher
            .counter(ItemsCount::new(words.len()))
            .bench_local(|| words.iter().fold(0, |sum: u64, word| sum.wrapping_add(key_hash(black_box(word)))));
    }

    #[divan::bench]
    fn number_keys(bencher: Bencher<'_, '_>) {
        bencher
            .counter(ItemsCount::new(LINES))
            .bench_local(|| (0..LINES as u64).fold(0, |sum: u64, n| sum.wrapping_add(key_hash(black_box(&n)))));
    }
}

#[divan::bench_group]
mod combine {
    use super::*;

    /// One partition, so that what is measured is the table and not the threads.
    #[divan::bench]
    fn reduce_by_key(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "combine").expect("the master is one");
        let pairs: Vec<(Text, u64)> = words().into_iter().map(|word| (word, 1)).collect();
        let n = pairs.len();
        let pairs = context.parallelize(pairs, 1);
        bencher
            .counter(ItemsCount::new(n))
            .bench_local(|| pairs.reduce_by_key(|a, b| a + b).count().expect("the job runs"));
    }

    #[divan::bench]
    fn by_hand(bencher: Bencher<'_, '_>) {
        let text = text();
        let words: Vec<&str> = text.lines().flat_map(|line| line.split(' ')).collect();
        let table: RefCell<HashMap<String, u64, foldhash::fast::RandomState>> = RefCell::default();
        bencher.counter(ItemsCount::new(words.len())).bench_local(|| {
            let mut table = table.take();
            table.clear();
            for word in &words {
                match table.get_mut(*word) {
                    Some(count) => *count += 1,
                    None => {
                        table.insert((*word).to_owned(), 1u64);
                    }
                }
            }
            table.len()
        });
    }
}

#[divan::bench_group]
mod shuffle {
    use super::*;

    const PARTITIONS: usize = 8;

    /// Every pair is put into its bucket, and each bucket is read again.
    #[divan::bench]
    fn partition_by(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "shuffle").expect("the master is one");
        let pairs: Vec<(Text, Text)> = lines().into_iter().map(|line| (first_word(&line), line)).collect();
        let pairs = context.parallelize(pairs, 1);
        bencher
            .counter(ItemsCount::new(LINES))
            .bench_local(|| pairs.partition_by(Partitioner::hash(PARTITIONS)).count().expect("the job runs"));
    }

    /// The same, and the values of each key are gathered.
    #[divan::bench]
    fn group_by_key(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "group").expect("the master is one");
        let pairs: Vec<(Text, Text)> = lines().into_iter().map(|line| (first_word(&line), line)).collect();
        let pairs = context.parallelize(pairs, 1);
        bencher.counter(ItemsCount::new(LINES)).bench_local(|| pairs.group_by_key().count().expect("the job runs"));
    }

    fn first_word(line: &Text) -> Text {
        line.split(' ').next().unwrap_or_default()
    }
}

#[divan::bench_group]
mod pipeline {
    use super::*;

    const NUMBERS: u64 = 1_000_000;

    #[divan::bench]
    fn map_filter_map(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "pipeline").expect("the master is one");
        let numbers = context.parallelize((0..NUMBERS).collect(), 1);
        let odd = numbers.map(|n| n.wrapping_mul(3)).filter(|n| n % 2 == 1).map(|n| n ^ 5);
        bencher.counter(ItemsCount::new(NUMBERS)).bench_local(|| odd.count().expect("the job runs"));
    }

    #[divan::bench]
    fn flat_map_words(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "words").expect("the master is one");
        let words = context.parallelize(lines(), 1).flat_map(|line| line.split(' '));
        bencher.counter(ItemsCount::new(LINES * WORDS)).bench_local(|| words.count().expect("the job runs"));
    }

    #[divan::bench]
    fn grep(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[1]", "grep").expect("the master is one");
        let found = context.parallelize(lines(), 1).filter(|line| line.contains("w77 "));
        bencher.counter(ItemsCount::new(LINES)).bench_local(|| found.count().expect("the job runs"));
    }

    /// What a job costs that has next to nothing to do: two stages of two tasks.
    #[divan::bench]
    fn tiny_job(bencher: Bencher<'_, '_>) {
        let context = Context::new("local[2]", "tiny").expect("the master is one");
        let pairs =
            context.parallelize(vec![Text::from("a b c")], 2).flat_map(|line| line.split(' ')).map(|word| (word, 1u64));
        bencher.bench_local(|| pairs.reduce_by_key(|a, b| a + b).count().expect("the job runs"));
    }
}
