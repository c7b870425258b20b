//! Errors of tasks on their way through DataFusion and Ballista, which know texts only: written into the text, and found there.

use std::fmt::Write as _;
use std::path::Path;

use datafusion::error::DataFusionError;
use millstream_core::plan::away::{read_error, written_error};
use millstream_core::{Error, ErrorKind};

const BEGIN: &str = "<millstream-error ";
const END: &str = ">";

/// Makes an error for Ballista, with ours in its text.
///
/// Errors of the program are told as they are; something outside that did not answer is tried again, by Ballista's rules.
/// What is not where it was thought to be is not: the same task would look in the same place. The job is planned again.
pub(crate) fn told(error: &Error) -> DataFusionError {
    let mut text = format!("{error} {BEGIN}");
    for byte in written_error(error).unwrap_or_default() {
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str(END);
    match error.kind() {
        ErrorKind::Unavailable if !error.is_lost() => DataFusionError::IoError(std::io::Error::other(text)),
        _ => DataFusionError::Execution(text),
    }
}

/// Finds our error in a text of Ballista's.
pub(crate) fn found(text: &str) -> Option<Error> {
    let rest = &text[text.find(BEGIN)? + BEGIN.len()..];
    let digits = &rest.as_bytes()[..rest.find(END)?];
    let digit = |digit: u8| (digit as char).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect();
    read_error(&bytes?).ok()
}

/// How systems say that a disk is full, in whatever text their error ends up (`ENOSPC`, and `EDQUOT` of who may write no more).
const FULL: [&str; 2] = ["(os error 28)", "(os error 122)"];

/// Says of a task that had no room on disk where that was, as Ballista's writers do not. Other errors stay as they are: by their types
/// Ballista tells which tasks are to run again.
pub(crate) fn placed(error: DataFusionError, executor: &str, host: &str, folder: &Path) -> DataFusionError {
    let text = error.to_string();
    if !FULL.iter().any(|full| text.contains(full)) {
        return error;
    }
    let place = format!(
        "the disk of executor {executor} on host {host} is full: make room in {}, or have spark.local.dir name a folder that has it",
        folder.display()
    );
    told(&match found(&text) {
        Some(ours) => {
            let said = Error::new(ErrorKind::Unavailable, format!("{place}: {}", ours.message()));
            match ours.site() {
                Some(site) => said.at(site),
                None => said,
            }
        }
        None => Error::new(ErrorKind::Unavailable, format!("{place}: {text}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::CallSite;

    #[test]
    fn an_error_is_found_in_whatever_is_said_around_it() {
        let error = Error::new(ErrorKind::User, "no <such> sensor").at(CallSite::here("map"));
        let text = format!("Task failed 4 times: {}. Giving up", told(&error));
        let back = found(&text).unwrap();
        assert_eq!((back.kind(), back.to_string()), (error.kind(), error.to_string()));
        assert!(text.contains("no <such> sensor (map at"), "people can read it too: {text}");
    }

    #[test]
    fn other_texts_hold_no_error() {
        for text in ["", "Connection refused", "<millstream-error zz>", "<millstream-error 0", "<millstream-error 012>"]
        {
            assert!(found(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_told_with_its_host_and_other_errors_stay_as_they_are() {
        let full = || std::io::Error::from_raw_os_error(28);
        let place = |error| placed(error, "executor-7", "east", Path::new("/var/here"));
        let ours = Error::io(ErrorKind::Unavailable, "cannot spill", full()).at(CallSite::here("sort_by"));
        for (error, site) in [(DataFusionError::IoError(full()), false), (told(&ours), true)] {
            let said = place(error);
            assert!(matches!(said, DataFusionError::IoError(_)), "another executor may have room");
            let error = found(&said.to_string()).unwrap();
            let text = error.to_string();
            assert_eq!((error.kind(), error.site().is_some()), (ErrorKind::Unavailable, site), "{text}");
            let wanted = ["executor-7 on host east", "/var/here", "No space left"];
            assert!(wanted.iter().all(|part| text.contains(part)), "{text}");
        }
        let other = place(DataFusionError::Execution("(os error 2)".to_owned()));
        assert!(matches!(&other, DataFusionError::Execution(text) if text == "(os error 2)"));
    }

    #[test]
    fn only_what_is_outside_is_tried_again() {
        let kinds = [ErrorKind::User, ErrorKind::Data, ErrorKind::Internal, ErrorKind::Stopped];
        assert!(kinds.iter().all(|kind| matches!(told(&Error::new(*kind, "x")), DataFusionError::Execution(_))));
        assert!(matches!(told(&Error::new(ErrorKind::Unavailable, "x")), DataFusionError::IoError(_)));
        let lost = told(&Error::lost("a block is gone"));
        assert!(matches!(lost, DataFusionError::Execution(_)) && found(&lost.to_string()).unwrap().is_lost());
    }
}
