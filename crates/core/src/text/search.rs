//! Finding a pattern in many texts, one after the other.

use std::cell::RefCell;

use memchr::memmem::Finder;

thread_local! {
    /// The pattern that was looked for last on this thread, made ready. A filter looks for the same one in every text.
    static LAST: RefCell<Option<Ready>> = const { RefCell::new(None) };
}

struct Ready {
    /// The pattern as [`word_of`] gives it: a comparison of numbers is cheaper than a call.
    word: Option<u64>,
    finder: Finder<'static>,
}

impl Ready {
    #[inline]
    fn is_for(&self, pattern: &[u8], word: Option<u64>) -> bool {
        self.word == word && (word.is_some() || self.finder.needle() == pattern)
    }
}

/// A pattern of at most seven bytes as a number that no other pattern has.
#[inline]
fn word_of(pattern: &[u8]) -> Option<u64> {
    let len = pattern.len();
    let bytes = match (pattern.first_chunk::<4>(), pattern.last_chunk::<4>()) {
        (Some(first), Some(last)) if len <= 7 => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (len - 4))
        }
        (Some(_), _) => return None,
        _ => pattern.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    Some(bytes | (len as u64) << 56)
}

/// Says whether `pattern` occurs in `text`.
#[inline]
pub(super) fn contains(text: &[u8], pattern: &[u8]) -> bool {
    let word = word_of(pattern);
    #[cfg(target_arch = "x86_64")]
    if let Some(word) = word
        && let Some(found) = pair::contains(text, pattern, word)
    {
        return found;
    }
    contains_any(text, pattern, word)
}

#[inline(never)]
fn contains_any(text: &[u8], pattern: &[u8], word: Option<u64>) -> bool {
    LAST.with_borrow_mut(|last| {
        let ready = match last {
            Some(ready) if ready.is_for(pattern, word) => ready,
            _ => make_ready(last, pattern, word),
        };
        ready.finder.find(text).is_some()
    })
}

/// Short patterns in texts that are not: by two bytes of the pattern, 32 places at a time, and without the choice of a
/// search for each text, which takes as long as the search of a line does.
#[cfg(target_arch = "x86_64")]
mod pair {
    use std::cell::RefCell;

    use memchr::arch::x86_64::avx2::packedpair::Finder;

    struct Ready {
        word: u64,
        finder: Option<Finder>,
    }

    thread_local! {
        // The pattern without bytes has the number 0 and is never looked for here.
        static LAST: RefCell<Ready> = const { RefCell::new(Ready { word: 0, finder: None }) };
    }

    /// Says whether the pattern occurs; or nothing, if this is not the way to look for it.
    #[inline]
    pub(super) fn contains(text: &[u8], pattern: &[u8], word: u64) -> Option<bool> {
        LAST.with(|last| {
            let ready = last.borrow();
            if ready.word == word {
                let finder = ready.finder.as_ref()?;
                return (text.len() >= finder.min_haystack_len()).then(|| finder.find(text, pattern).is_some());
            }
            drop(ready);
            *last.borrow_mut() = Ready { word, finder: Finder::new(pattern) };
            None
        })
    }
}

#[cold]
#[inline(never)]
fn make_ready<'a>(last: &'a mut Option<Ready>, pattern: &[u8], word: Option<u64>) -> &'a Ready {
    last.insert(Ready { word, finder: Finder::new(pattern).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_pattern_has_a_number_of_its_own() {
        let patterns = [
            "", "\0", "\0\0", "a", "ab", "ba", "abc", "abcd", "abcde", "bbcde", "abcdf", "abcdef", "abcdefg", "abddefg",
        ];
        for a in patterns {
            for b in patterns {
                assert_eq!(word_of(a.as_bytes()) == word_of(b.as_bytes()), a == b, "{a:?} {b:?}");
            }
        }
        assert_eq!(word_of(b"abcdefgh"), None);
    }

    #[test]
    fn patterns_that_take_turns_are_told_apart() {
        let text = "to be or not to be, that is the question";
        for pattern in ["be", "question", "", "be,", "bee", "to be or not to be,", "questions", "ion", "t"] {
            assert_eq!(contains(text.as_bytes(), pattern.as_bytes()), str::contains(text, pattern), "{pattern}");
        }
    }
}
