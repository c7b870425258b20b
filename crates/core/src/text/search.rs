//! Finding a pattern in many texts, one after the other.

use std::cell::RefCell;

use memchr::memmem::Finder;

thread_local! {
    /// The pattern that was looked for last on this thread, made ready. A filter looks for the same one in every text.
    static LAST: RefCell<Option<Finder<'static>>> = const { RefCell::new(None) };
}

/// Says whether `pattern` occurs in `text`.
#[inline]
pub(super) fn contains(text: &[u8], pattern: &[u8]) -> bool {
    LAST.with_borrow_mut(|last| {
        let finder = match last {
            Some(finder) if finder.needle() == pattern => finder,
            _ => last.insert(Finder::new(pattern).into_owned()),
        };
        finder.find(text).is_some()
    })
}
