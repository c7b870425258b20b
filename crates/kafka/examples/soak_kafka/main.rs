//! A program from Kafka over a state to Kafka, killed again and again in real processes, and an audit of what is
//! committed.
//!
//! `.ci/with-kafka cargo run -p millstream-kafka --features broker-tests --example soak_kafka -- LIVES [SEED]` ends with an
//! error if a record is lost, there twice, or out of order; and if the audit does not see one of the mistakes that are planted
//! afterwards. `-- minutes MINUTES [SEED]` goes on for so long, without mistakes; `-- restarts LIVES [SEED]` kills the broker in
//! the middle of transactions, life for life.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

mod audit;
mod log;
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

/// How many records come a second: the audit of a long run reads them all.
const SLOWLY: u64 = 300;
const QUICKLY: u64 = 2000;

/// What an audit must find of a mistake.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Twice,
    Lost,
}

/// By which fates a mistake shows, and how.
const FATES_OF_MISTAKES: [(Mistake, &[(&str, &str)], Wrong); 4] = [
    (Mistake::MarkOutside, &[("committed", "KILL"), ("committed", "KILL")], Wrong::Twice),
    (Mistake::MarkNotRead, &[("committed", "KILL"), ("prepared", "KILL")], Wrong::Twice),
    (Mistake::NoFence, &[("sent", "STOP")], Wrong::Twice),
    (Mistake::CommitsEarly, &[("allocated", "KILL"), ("allocated", "KILL")], Wrong::Lost),
];

/// Has a program with a mistake live, and says what the audit finds.
fn find(mistake: Mistake, fates: &[(&str, &str)], wrong: Wrong, seed: u64) -> Result<()> {
    let name = Mistake::ALL.iter().find(|(_, known)| *known == mistake).map_or("", |(name, _)| name);
    let mut soak = Soak::begin(name, Some(name), seed, QUICKLY)?;
    for (point, signal) in fates {
        soak.live(&Fate::at(point, 3, signal))?;
    }
    let found = soak.end_of_mistake()?;
    let is_found = match wrong {
        Wrong::Twice => found.twice > 0,
        Wrong::Lost => found.lost > 0,
    };
    if !is_found {
        let text = format!("the mistake {name} was planted, and nothing is {wrong:?}: {found}");
        return Err(Error::new(ErrorKind::Internal, text));
    }
    println!("the mistake {name} is found: {found}");
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("child") => return program::run(&words[1..]),
        Some("minutes") => {
            let (minutes, seed) = (number(words.get(1), 60)?, number(words.get(2), 1)?);
            let (began, mut lives) = (monotonic(), 0);
            let mut soak = Soak::begin("soak", None, seed, SLOWLY)?;
            while monotonic() < began + mins(minutes) {
                soak.live(&Fate::draw(seed, lives))?;
                lives += 1;
                if lives % 20 == 0 {
                    soak.report(monotonic() - began);
                }
            }
            return soak.end();
        }
        Some("restarts") => {
            let (lives, seed) = (number(words.get(1), 20)?, number(words.get(2), 1)?);
            let mut soak = Soak::begin("restarts", None, seed, QUICKLY)?;
            for n in 0..lives {
                soak.live(&Fate::draw_with_restarts(seed, n))?;
            }
            return soak.end();
        }
        _ => {}
    }
    let (lives, seed) = (number(words.first(), 40)?, number(words.get(1), 1)?);
    let began = monotonic();
    let mut soak = Soak::begin("lives", None, seed, QUICKLY)?;
    for n in 0..lives {
        soak.live(&Fate::draw(seed, n))?;
    }
    soak.end()?;
    println!("{lives} lives in {:?}", monotonic() - began);
    for (mistake, fates, wrong) in FATES_OF_MISTAKES {
        find(mistake, fates, wrong, seed)?;
    }
    println!("all is well, in {:?}", Duration::from_secs((monotonic() - began).as_secs()));
    Ok(())
}
