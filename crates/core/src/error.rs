//! What went wrong, in terms of what to do about it.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::time::Time;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong, in terms of what to do about it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The graph of streams cannot work. Change the program; nothing has run.
    Graph,
    /// A setting or an argument cannot work. Change it; nothing has run.
    Config,
    /// A closure of the program returned an error or panicked. It is tried again only where the master asks for attempts.
    User,
    /// Something outside did not answer, or refused. It may be retried.
    Unavailable,
    /// What is on disk or wire is not what was expected there. Do not go on; mend or remove it.
    Data,
    /// The context has been stopped, or has not been started, or the job was cancelled.
    Stopped,
    /// A bug of millstream itself. Please report it with the text.
    Internal,
}

/// The place in the program where an operation was called.
///
/// Operations are `#[track_caller]`, so errors, the user interface and the log name the user's own line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallSite {
    op: &'static str,
    file: &'static str,
    line: u32,
}

thread_local! {
    static SCOPE: Cell<Option<CallSite>> = const { Cell::new(None) };
}

impl CallSite {
    /// Names the operation `op`, called at the caller's line, or at the line that [`CallSite::scope`] has set.
    #[track_caller]
    pub fn here(op: &'static str) -> CallSite {
        let location = Location::caller();
        SCOPE.get().unwrap_or(CallSite { op, file: location.file(), line: location.line() })
    }

    /// Runs `body` with all operations that it calls laid at `site`, or, with `None`, at their own lines again.
    ///
    /// An operation on streams calls operations on Rdds; the program's line is the one that people want to see.
    pub fn scope<R>(site: Option<CallSite>, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<CallSite>);
        impl Drop for Restore {
            fn drop(&mut self) {
                SCOPE.set(self.0);
            }
        }
        let _restore = Restore(SCOPE.replace(site));
        body()
    }

    /// Names a call in another process of the same program.
    pub(crate) fn elsewhere(op: &'static str, file: &'static str, line: u32) -> CallSite {
        CallSite { op, file, line }
    }

    /// Returns the name of the operation, as `map` or `print`.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// Returns the source file of the call.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// Returns the line of the call.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Returns the same place under the name of another operation.
    #[must_use]
    pub fn named(self, op: &'static str) -> CallSite {
        CallSite { op, ..self }
    }
}

impl fmt::Display for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}:{}", self.op, self.file, self.line)
    }
}

impl fmt::Debug for CallSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The one error type: what happened, of which kind, where in the program and in which batch.
///
/// It is opaque and cheap to clone. Closures of the program return it too: `?` turns an [`std::io::Error`]
/// into the kind [`Unavailable`](ErrorKind::Unavailable), and a text or any boxed error into the kind
/// [`User`](ErrorKind::User).
///
/// # Example
///
/// ```
/// use millstream_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Config, "a master is `local`, `local[4]` or `local[*]`, not `lokal`");
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("lokal"));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    site: Option<CallSite>,
    batch: Option<Time>,
    lost: bool,
}

impl Error {
    /// Makes an error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Inner { kind, message: message.into(), source: None, site: None, batch: None, lost: false }))
    }

    /// Makes an error of a task that did not find what was planned to be there: a new plan may do without.
    #[doc(hidden)]
    pub fn lost(message: impl Into<String>) -> Error {
        let mut error = Error::new(ErrorKind::Unavailable, message);
        error.edit().lost = true;
        error
    }

    /// Says whether the job is to be planned again.
    #[doc(hidden)]
    pub fn is_lost(&self) -> bool {
        self.0.lost
    }

    /// Makes an error of the kind [`User`](ErrorKind::User) from any error of the program's own.
    pub fn user(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        let source = source.into();
        let mut error = Error::new(ErrorKind::User, source.to_string());
        error.edit().source = Some(Arc::from(source));
        error
    }

    /// Makes an error of `kind` about an input or output error, saying what was being done.
    pub fn io(kind: ErrorKind, doing: impl fmt::Display, source: std::io::Error) -> Error {
        let mut error = Error::new(kind, format!("{doing}: {source}"));
        error.edit().source = Some(Arc::new(source));
        error
    }

    /// Puts several errors into one, each on its own line, with the kind of the first.
    ///
    /// One error is returned as it is. This is how all mistakes in a graph are reported at once.
    pub fn several(heading: &str, errors: &[Error]) -> Error {
        let Some(first) = errors.first() else {
            return Error::new(ErrorKind::Internal, "several() was given no error");
        };
        if errors.len() == 1 {
            return first.clone();
        }
        let mut text = format!("{} {heading}:", errors.len());
        for error in errors {
            text.push_str("\n  - ");
            text.push_str(&error.to_string());
        }
        Error::new(first.kind(), text)
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Adds the place in the program, unless one is known already.
    #[must_use]
    pub fn at(mut self, site: CallSite) -> Error {
        if self.0.site.is_none() {
            self.edit().site = Some(site);
        }
        self
    }

    /// Adds the batch, unless one is known already.
    #[must_use]
    pub fn in_batch(mut self, time: Time) -> Error {
        if self.0.batch.is_none() {
            self.edit().batch = Some(time);
        }
        self
    }

    /// Returns the kind, which says what to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the user's line that the error is about, if there is one.
    pub fn site(&self) -> Option<CallSite> {
        self.0.site
    }

    /// Returns the time of the batch in which it happened, if it happened in one.
    pub fn batch(&self) -> Option<Time> {
        self.0.batch
    }

    /// Returns the message alone, without place and batch.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(batch) = self.0.batch {
            write!(f, "batch {batch}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(site) = self.0.site {
            write!(f, " ({site})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Error {
        let mut error = Error::new(ErrorKind::Unavailable, source.to_string());
        error.edit().source = Some(Arc::new(source));
        error
    }
}

impl From<Box<dyn StdError + Send + Sync>> for Error {
    fn from(source: Box<dyn StdError + Send + Sync>) -> Error {
        match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => Error::user(source),
        }
    }
}

impl From<&str> for Error {
    fn from(text: &str) -> Error {
        Error::new(ErrorKind::User, text)
    }
}

impl From<String> for Error {
    fn from(text: String) -> Error {
        Error::new(ErrorKind::User, text)
    }
}

/// Makes an error of the kind `Internal`: something that cannot happen did. Each text is used once.
#[macro_export]
#[doc(hidden)]
macro_rules! bug {
    ($($text:tt)*) => {
        $crate::Error::new($crate::ErrorKind::Internal, format!($($text)*))
    };
}

/// Turns the payload of a panic into an error of the kind `User`.
pub fn panicked(payload: &(dyn std::any::Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not a text".to_owned());
    Error::new(ErrorKind::User, format!("a closure of the program panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_batch_message_and_line() {
        let site = CallSite::here("map");
        let error = Error::from("no such sensor").at(site).in_batch(Time::from_millis(2000));
        let text = error.to_string();
        assert!(text.starts_with("batch 2000 ms: no such sensor (map at "), "{text}");
        assert!(text.contains("error.rs:"), "{text}");
        assert_eq!(error.kind(), ErrorKind::User);
    }

    #[test]
    fn the_first_place_and_batch_are_kept() {
        let first = CallSite::here("map");
        let error = Error::from("x").at(first).at(CallSite::here("filter"));
        assert_eq!(error.site(), Some(first));
        let error = error.in_batch(Time::from_millis(1)).in_batch(Time::from_millis(2));
        assert_eq!(error.batch(), Some(Time::from_millis(1)));
    }

    #[test]
    fn several_errors_are_one_text_and_one_error_stays_itself() {
        let one = Error::several("mistakes in the graph", &[Error::from("a")]);
        assert_eq!(one.to_string(), "a");
        let two = Error::several("mistakes in the graph", &[Error::from("a"), Error::from("b")]);
        assert_eq!(two.to_string(), "2 mistakes in the graph:\n  - a\n  - b");
    }

    #[test]
    fn an_io_error_may_be_retried_and_keeps_its_source() {
        let error = Error::from(std::io::Error::other("disk on fire"));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(StdError::source(&error).is_some());
    }
}
