//! A program from Kafka over a state to Kafka, killed again and again in real processes, and an audit of what is
//! committed.
//!
//! `.ci/with-kafka cargo run -p millstream-kafka --features broker-tests --example soak_kafka -- LIVES [SEED]` ends
//! with an error if a
//! record is lost, there twice, or out of order; and if one of the mistakes that are planted afterwards is not found.
//! `-- minutes MINUTES [SEED]` goes on for so long, without mistakes.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

mod audit;
mod program;
mod run;

use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, mins};
use millstream_kafka::mistakes::Mistake;

use crate::run::{Fate, Soak};

fn number(text: Option<&String>, otherwise: u64) -> Result<u64> {
    let Some(text) = text else { return Ok(otherwise) };
    text.parse().map_err(|_| Error::new(ErrorKind::Config, format!("`{text}` is no number")))
}

/// Which mistake is found by which fates.
const FATES_OF_MISTAKES: [(Mistake, &[(&str, &str)]); 4] = [
    (Mistake::MarkOutside, &[("committed", "KILL"), ("committed", "KILL"), ("committed", "KILL")]),
    (Mistake::MarkNotRead, &[("committed", "KILL"), ("prepared", "KILL"), ("committed", "KILL")]),
    (Mistake::NoFence, &[("half", "STOP"), ("sent", "STOP"), ("begun", "STOP")]),
    (Mistake::CommitsEarly, &[("allocated", "KILL"), ("allocated", "KILL"), ("allocated", "KILL")]),
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("child") => return program::run(&words[1..]),
        Some("minutes") => {
            let (minutes, seed) = (number(words.get(1), 60)?, number(words.get(2), 1)?);
            let (until, mut lives) = (monotonic() + mins(minutes), 0);
            let mut soak = Soak::begin("soak", None, seed)?;
            while monotonic() < until {
                soak.live(&Fate::draw(seed, lives))?;
                lives += 1;
            }
            return soak.end();
        }
        _ => {}
    }
    let (lives, seed) = (number(words.first(), 40)?, number(words.get(1), 1)?);
    let began = monotonic();
    let mut soak = Soak::begin("lives", None, seed)?;
    for n in 0..lives {
        soak.live(&Fate::draw(seed, n))?;
    }
    soak.end()?;
    println!("{lives} lives in {:?}", monotonic() - began);
    for (mistake, fates) in FATES_OF_MISTAKES {
        let name = Mistake::ALL.iter().find(|(_, known)| *known == mistake).map_or("", |(name, _)| name);
        let mut soak = Soak::begin(name, Some(name), seed)?;
        let lived = fates.iter().try_for_each(|(point, signal)| soak.live(&Fate::at(point, 3, signal)));
        let Err(found) = lived.and_then(|()| soak.end()) else {
            let text = format!("the mistake {name} was planted, and nothing was found");
            return Err(Error::new(ErrorKind::Internal, text));
        };
        let text = found.to_string();
        println!("the mistake {name} is found: {}", text.lines().next().unwrap_or_default());
    }
    println!("all is well, in {:?}", Duration::from_secs((monotonic() - began).as_secs()));
    Ok(())
}
