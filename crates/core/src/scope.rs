//! Which Rdds are shown together: what one operation of a program made, at one time.

use std::cell::Cell;
use std::fmt;

use crate::time::Time;

/// What made an Rdd, as pictures and tables group it: an operation of a larger whole and, if it is repeated, when. Rdds that one call
/// makes on the way to its result have the same.
///
/// Its text is for people: the name and the time of day in UTC, on two lines if the name is long.
///
/// # Example
///
/// ```
/// use millstream_core::{Context, Scope, Time};
///
/// let sc = Context::new("local[1]", "scopes")?;
/// let scope = Scope { name: "count", number: 3, input: None, at: Some(Time::from_millis(61_000)) };
/// let rdd = scope.within(|| sc.parallelize(vec![1, 2], 1));
/// assert_eq!(rdd.scope(), Some(scope));
/// assert_eq!(scope.to_string(), "count @ 00:01:01");
/// assert_eq!(scope.id(), "3_61000");
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `RDDOperationScope`, S-74.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The operation.
    pub name: &'static str,
    /// Tells it from others of the same name.
    pub number: u64,
    /// The number of an input, which is shown with its name.
    pub input: Option<u64>,
    /// When it was done, if it is done again and again.
    pub at: Option<Time>,
}

/// A name that is longer has the time on a line of its own.
const LONG: usize = 10;

thread_local! {
    static CURRENT: Cell<Option<Scope>> = const { Cell::new(None) };
}

impl Scope {
    /// Runs `body`, and gives this scope to the Rdds that it makes on this thread.
    pub fn within<R>(self, body: impl FnOnce() -> R) -> R {
        struct Restore(Option<Scope>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _restore = Restore(CURRENT.replace(Some(self)));
        body()
    }

    /// Returns the scope that is set on this thread.
    pub(crate) fn current() -> Option<Scope> {
        CURRENT.get()
    }

    /// Returns a text that no other scope of the program has: the number, and the time in milliseconds.
    pub fn id(&self) -> String {
        match self.at {
            Some(at) => format!("{}_{}", self.number, at.as_millis()),
            None => self.number.to_string(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.input {
            Some(input) => format!("{} [{input}]", self.name),
            None => self.name.to_owned(),
        };
        let Some(at) = self.at else { return f.write_str(&name) };
        let of_day = at.as_millis().div_euclid(1000).rem_euclid(86_400);
        let before = if name.len() > LONG { "\n" } else { " " };
        write!(f, "{name}{before}@ {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s74_a_label_is_the_operation_and_the_time_of_day() {
        let at = |ms| Some(Time::from_millis(ms));
        for (name, input, at, text, id) in [
            ("map", None, at(1000), "map @ 00:00:01", "7_1000"),
            ("exactly_10", None, at(86_399_999), "exactly_10 @ 23:59:59", "7_86399999"),
            ("reduce_by_key", None, at(86_400_000), "reduce_by_key\n@ 00:00:00", "7_86400000"),
            ("queue_stream", Some(2), at(-1), "queue_stream [2]\n@ 23:59:59", "7_-1"),
            ("map", None, None, "map", "7"),
        ] {
            let scope = Scope { name, number: 7, input, at };
            assert_eq!((scope.to_string().as_str(), scope.id().as_str()), (text, id));
        }
    }

    #[test]
    fn a_scope_ends_with_its_body_even_by_a_panic() {
        let scope = Scope { name: "map", number: 1, input: None, at: None };
        let inner = Scope { number: 2, ..scope };
        let caught = std::panic::catch_unwind(|| scope.within(|| inner.within(|| panic!("as planned"))));
        assert!(caught.is_err());
        assert_eq!(Scope::current(), None);
        scope.within(|| {
            inner.within(|| assert_eq!(Scope::current(), Some(inner)));
            assert_eq!(Scope::current(), Some(scope));
        });
    }
}
