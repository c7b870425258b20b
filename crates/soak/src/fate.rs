//! How lives end, and when. Pure: a seed decides.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use millstream::{Error, ErrorKind};

use crate::records::scattered;

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// SIGKILL.
    Kill,
    /// SIGTERM: a graceful stop.
    Term,
    /// SIGINT: a graceful stop too.
    Int,
    /// SIGTERM, and SIGINT at once behind it: a stop at once.
    TermTwice,
    /// SIGTERM, and SIGKILL while the stop is under way.
    TermKill,
    /// SIGSTOP. A second process on the same directory must be refused. Another one takes over on a copy of the
    /// directory, as on another machine; then the first is woken (SIGCONT), and must not write.
    Zombie,
}

impl End {
    pub(crate) const ALL: [(&'static str, End); 6] = [
        ("kill", End::Kill),
        ("term", End::Term),
        ("int", End::Int),
        ("term-twice", End::TermTwice),
        ("term-kill", End::TermKill),
        ("zombie", End::Zombie),
    ];
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = End::ALL.iter().find(|(_, end)| end == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// When a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// After so much time.
    Time(Duration),
    /// When so many more records have been acknowledged.
    Records(u64),
}

/// A life: until when, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) until: Until,
    pub(crate) end: End,
}

impl FromStr for Life {
    type Err = Error;

    fn from_str(text: &str) -> Result<Life, Error> {
        let parsed = text.split_once(':').and_then(|(name, records)| {
            let end = End::ALL.iter().find(|(known, _)| *known == name)?.1;
            Some(Life { until: Until::Records(records.parse().ok()?), end })
        });
        parsed.ok_or_else(|| {
            let names = End::ALL.map(|(name, _)| name).join(", ");
            let text = format!("`{text}` is no END:RECORDS, as kill:500; ends are {names}");
            Error::new(ErrorKind::Config, text)
        })
    }
}

/// The mean of a life, in milliseconds, and the longest one.
const MEAN: f64 = 3000.0;
const LONGEST: f64 = 15_000.0;

/// Draws the `n`-th life of a seed: lengths are as if the process could be killed at any moment alike.
pub(crate) fn draw(seed: u64, n: u64) -> Life {
    let chance = |salt: u64| (scattered(seed ^ scattered(n * 2 + salt)) >> 11) as f64 / (1u64 << 53) as f64;
    let length = (-(1.0 - chance(0)).ln() * MEAN).min(LONGEST);
    let end = match chance(1) {
        p if p < 0.70 => End::Kill,
        p if p < 0.78 => End::Term,
        p if p < 0.82 => End::Int,
        p if p < 0.87 => End::TermTwice,
        p if p < 0.95 => End::TermKill,
        _ => End::Zombie,
    };
    Life { until: Until::Time(Duration::from_millis(length as u64)), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_last_three_seconds_on_average_and_end_in_every_way() {
        let lives: Vec<_> = (0..2000).map(|n| draw(1, n)).collect();
        let length = |life: &Life| if let Until::Time(time) = life.until { time.as_secs_f64() } else { 0.0 };
        let mean = lives.iter().map(length).sum::<f64>() / 2000.0;
        assert!((2.7..3.3).contains(&mean), "{mean}");
        for (name, end) in End::ALL {
            assert!(lives.iter().filter(|life| life.end == end).count() > 40, "{name}");
        }
        assert_eq!(draw(5, 9), draw(5, 9));
        assert_ne!(draw(5, 9), draw(6, 9));
    }

    #[test]
    fn a_script_names_ends() {
        assert_eq!("term-kill:9".parse::<Life>().ok(), Some(Life { until: Until::Records(9), end: End::TermKill }));
        for wrong in ["kill", "kill:", "kil:3", "kill:x"] {
            assert!(wrong.parse::<Life>().is_err_and(|error| error.to_string().contains("END:RECORDS")), "{wrong}");
        }
    }
}
