//! Errors of tasks on their way through DataFusion and Ballista, which know texts only: written into the text, and found there.

use std::fmt::Write as _;

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
    fn only_what_is_outside_is_tried_again() {
        let kinds = [ErrorKind::User, ErrorKind::Data, ErrorKind::Internal, ErrorKind::Stopped];
        assert!(kinds.iter().all(|kind| matches!(told(&Error::new(*kind, "x")), DataFusionError::Execution(_))));
        assert!(matches!(told(&Error::new(ErrorKind::Unavailable, "x")), DataFusionError::IoError(_)));
        let lost = told(&Error::lost("a block is gone"));
        assert!(matches!(lost, DataFusionError::Execution(_)) && found(&lost.to_string()).unwrap().is_lost());
    }
}
