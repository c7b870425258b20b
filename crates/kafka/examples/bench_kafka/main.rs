//! How fast: `.ci/with-kafka cargo run --release -p millstream-kafka --features broker-tests --example bench_kafka --
//! all`.
//!
//! Each measure is beside what it is compared with, in the same run on the same machine; the broker runs beside, too.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

mod latency;
mod reading;
mod shared;

use millstream_core::{Error, ErrorKind, Result};

const MEASURES: [(&str, fn(&[String]) -> Result<()>); 7] = [
    ("read", reading::read),
    ("words", reading::words),
    ("empty", latency::empty),
    ("seen", latency::seen),
    ("through", latency::through),
    ("partitions", reading::partitions),
    ("memory", reading::memory),
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = words.split_first().map_or(("all", &[][..]), |(name, rest)| (name.as_str(), rest));
    if name == "beside" {
        return reading::beside(rest);
    }
    if name == "all" {
        return MEASURES.iter().try_for_each(|(_, measure)| measure(&[]));
    }
    let names: Vec<_> = MEASURES.iter().map(|(known, _)| *known).collect();
    let unknown = || Error::new(ErrorKind::Config, format!("`{name}` is none of all, {}", names.join(", ")));
    MEASURES.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?.1(rest)
}
