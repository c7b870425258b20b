//! What was typed, as a command. Pure.

use std::path::PathBuf;

use millstream_core::{Error, ErrorKind, Result, Time};

use crate::checkpoint::identity::Wishes;

/// How to use the commands; `{}` is what they are called by.
pub(super) const USAGE: &str = "\
usage: {} checkpoint inspect DIR [--json]
       {} checkpoint plan DIR [--drop NAME]… [--rename OLD=NEW]… [--json]
       {} checkpoint upgrade DIR [--drop NAME]… [--rename OLD=NEW]… [--json]
       {} replay DIR BATCH [--json]

  inspect   shows what is in a checkpoint directory
  plan      shows what this program would make of it; nothing is changed
  upgrade   makes it this program's: what is named by --drop is thrown away, for good
  replay    makes one batch again, without its outputs; BATCH is its time in milliseconds, or `last`

  The exit code is 0 for yes, 1 for no (the program is refused, a batch is not the same or nothing of it
  was kept to compare), and 2 for a mistake.
";

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Inspect { folder: PathBuf },
    Plan { folder: PathBuf, wishes: Wishes },
    Upgrade { folder: PathBuf, wishes: Wishes },
    Replay { folder: PathBuf, batch: Which },
}

/// Which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Last,
    At(Time),
}

/// Returns the command, and whether it is to be answered in JSON.
///
/// # Errors
///
/// The kind is `Config`: it is none; says what is wrong.
pub(super) fn parse(arguments: &[String]) -> Result<(Command, bool)> {
    let wrong = |text: String| Error::new(ErrorKind::Config, text);
    let (mut words, mut wishes, mut json, mut help) = (Vec::new(), Wishes::default(), false, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, attached) = match argument.split_once('=').filter(|_| argument.starts_with("--")) {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&**argument, None),
        };
        let mut value = || {
            let value = attached.clone().or_else(|| rest.next().cloned()).filter(|value| !value.is_empty());
            value.ok_or_else(|| wrong(format!("{name} wants a value")))
        };
        match name {
            "--drop" => drop(wishes.drop.insert(value()?)),
            "--rename" => {
                let value = value()?;
                let names = value.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty());
                let (old, new) = names.ok_or_else(|| wrong(format!("--rename wants OLD=NEW, and not `{value}`")))?;
                wishes.rename_once.insert(old.to_owned(), new.to_owned());
            }
            "--json" if attached.is_none() => json = true,
            "--help" | "-h" | "help" => help = true,
            _ if name.starts_with("--") => return Err(wrong(format!("there is no option `{argument}`"))),
            _ => words.push(&**argument),
        }
    }
    let has_wishes = wishes != Wishes::default();
    let command = match words.as_slice() {
        _ if help => Command::Help,
        [] => return Err(wrong("a command is missing".into())),
        ["checkpoint", "plan", folder] => Command::Plan { folder: folder.into(), wishes },
        ["checkpoint", "upgrade", folder] => Command::Upgrade { folder: folder.into(), wishes },
        _ if has_wishes => return Err(wrong("--drop and --rename are for `checkpoint plan` and `upgrade`".into())),
        ["checkpoint", "inspect", folder] => Command::Inspect { folder: folder.into() },
        ["replay", folder, batch] => {
            let at = batch.parse().ok().map(|ms| Which::At(Time::from_millis(ms)));
            let batch = at
                .or((*batch == "last").then_some(Which::Last))
                .ok_or_else(|| wrong(format!("a batch is its time in milliseconds, or `last`, and not `{batch}`")))?;
            Command::Replay { folder: folder.into(), batch }
        }
        ["replay", ..] => return Err(wrong("`replay` wants a directory and a batch".into())),
        ["checkpoint", what @ ("inspect" | "plan" | "upgrade"), ..] => {
            return Err(wrong(format!("`checkpoint {what}` wants one directory")));
        }
        words => return Err(wrong(format!("there is no command `{}`", words.join(" ")))),
    };
    Ok((command, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Command, bool)> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_is_one_command_or_a_mistake_that_is_named() {
        let wishes = |drop: &[&str], rename: &[(&str, &str)]| Wishes {
            drop: drop.iter().map(ToString::to_string).collect(),
            rename_once: rename.iter().map(|(old, new)| (old.to_string(), new.to_string())).collect(),
            ..Wishes::default()
        };
        let none = Wishes::default();
        for (line, want, json) in [
            ("checkpoint inspect d", Command::Inspect { folder: "d".into() }, false),
            ("--json checkpoint inspect d", Command::Inspect { folder: "d".into() }, true),
            ("checkpoint plan d", Command::Plan { folder: "d".into(), wishes: none.clone() }, false),
            (
                "checkpoint plan d --drop a --drop=b --rename x=y --rename=p=q",
                Command::Plan { folder: "d".into(), wishes: wishes(&["a", "b"], &[("x", "y"), ("p", "q")]) },
                false,
            ),
            ("checkpoint upgrade d --json", Command::Upgrade { folder: "d".into(), wishes: none }, true),
            ("replay d 3000", Command::Replay { folder: "d".into(), batch: Which::At(Time::from_millis(3000)) }, false),
            ("replay d last", Command::Replay { folder: "d".into(), batch: Which::Last }, false),
            ("help", Command::Help, false),
            ("replay --help", Command::Help, false),
        ] {
            assert_eq!(parsed(line).unwrap(), (want, json), "{line}");
        }
        for (line, want) in [
            ("", "a command is missing"),
            ("checkpoints", "no command `checkpoints`"),
            ("checkpoint drop d", "no command `checkpoint drop d`"),
            ("checkpoint plan", "wants one directory"),
            ("checkpoint inspect a b", "wants one directory"),
            ("checkpoint inspect d --drop a", "are for `checkpoint plan`"),
            ("checkpoint plan d --drop", "--drop wants a value"),
            ("checkpoint plan d --drop=", "--drop wants a value"),
            ("checkpoint plan d --rename a", "OLD=NEW, and not `a`"),
            ("checkpoint plan d --rename =a", "OLD=NEW, and not `=a`"),
            ("checkpoint plan d --force", "no option `--force`"),
            ("checkpoint plan d --json=yes", "no option `--json=yes`"),
            ("replay d", "a directory and a batch"),
            ("replay d noon", "not `noon`"),
        ] {
            let error = parsed(line).expect_err(line);
            assert!(error.kind() == ErrorKind::Config && error.message().contains(want), "`{line}`: {error}");
        }
    }
}
