//! What a database says when it refuses, and what that means for a program.

use std::fmt;
use std::path::Path;

use millstream_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Says what kind of thing went wrong, and what can be done about it. Pure.
fn meaning(code: Option<ErrorCode>) -> (ErrorKind, &'static str) {
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::Unavailable,
            "; another process or connection writes to it for longer than busy_timeout: end that, or wait longer",
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, "; make room"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (ErrorKind::Unavailable, "; let this process write to the file and its folder")
        }
        Some(ErrorCode::CannotOpen) => (ErrorKind::Config, "; is its folder there, and may this process write to it?"),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            (ErrorKind::Data, "; restore it, or give the sink another file")
        }
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig) => (ErrorKind::User, ""),
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// Makes an error that says what was done, with which file, and what to do.
pub(crate) fn failed(doing: impl fmt::Display, path: &Path, error: &rusqlite::Error) -> Error {
    let (kind, advice) = meaning(error.sqlite_error_code());
    Error::new(kind, format!("{doing}: the database {} answers: {error}{advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_to_do() {
        for (code, want) in [
            (ErrorCode::DatabaseBusy, ErrorKind::Unavailable),
            (ErrorCode::DiskFull, ErrorKind::Unavailable),
            (ErrorCode::CannotOpen, ErrorKind::Config),
            (ErrorCode::NotADatabase, ErrorKind::Data),
            (ErrorCode::ConstraintViolation, ErrorKind::User),
        ] {
            assert_eq!(meaning(Some(code)).0, want, "{code:?}");
        }
    }
}
