//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use millstream::{Error, ErrorKind, Result};

use crate::fate::Life;

const USAGE: &str = "usage: soak MINUTES | soak --script END:RECORDS,…\n       [--seed N] [--rate RECORDS-A-SECOND] [--quiet SECONDS]\n       [--folder DIR]";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// For how long, if no script says what happens.
    pub(crate) time: Duration,
    pub(crate) script: Vec<Life>,
    pub(crate) seed: u64,
    pub(crate) rate: u64,
    /// How long the last life is, if a time is given.
    pub(crate) quiet: Option<Duration>,
    /// Where files are; a new folder of the system's if nothing is said.
    pub(crate) folder: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Options> {
        let wrong = |what: &str| Error::new(ErrorKind::Config, format!("{what}\n{USAGE}"));
        let mut options =
            Options { time: Duration::ZERO, script: Vec::new(), seed: 1, rate: 2000, quiet: None, folder: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| wrong(&format!("{argument} wants a value")));
            let number = |text: &String| text.parse().map_err(|_| wrong(&format!("`{text}` is no number")));
            match argument.as_str() {
                "--seed" => options.seed = number(value()?)?,
                "--rate" => options.rate = number(value()?)?,
                "--folder" => options.folder = Some(value()?.into()),
                "--quiet" => options.quiet = Some(Duration::from_secs(number(value()?)?)),
                "--script" => options.script = value()?.split(',').map(str::parse).collect::<Result<_>>()?,
                minutes => {
                    let minutes: f64 = minutes.parse().map_err(|_| wrong(&format!("`{minutes}` is no number")))?;
                    options.time = Duration::try_from_secs_f64(minutes * 60.0).map_err(|e| wrong(&e.to_string()))?;
                }
            }
        }
        if options.time.is_zero() == options.script.is_empty() {
            return Err(wrong("say for how many minutes, or with --script what happens"));
        }
        if options.rate == 0 {
            return Err(wrong("a rate of 0 sends nothing"));
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_time_or_a_script_is_asked_for_and_what_is_wrong_is_said() {
        let options = parse("0.5 --seed 7 --rate 100").unwrap();
        assert_eq!((options.time.as_secs(), options.seed, options.rate), (30, 7, 100));
        assert_eq!(parse("--script kill:5,term:9").unwrap().script.len(), 2);
        for wrong in ["", "x", "-1", "0", "1 --script kill:5", "--seed", "1 --seed x", "1 --rate 0", "--script kill"] {
            assert!(parse(wrong).is_err_and(|error| error.kind() == ErrorKind::Config), "{wrong}");
        }
    }
}
