//! Texts cut into texts: at a separator, or at whitespace.

use std::fmt;
use std::iter::FusedIterator;

use memchr::memmem;

use super::Text;
use super::repr::Pieces;

/// What [`Text::split`] cuts at: made from a `char` or a `&str`.
#[derive(Clone)]
pub struct Separator(Kind);

#[derive(Clone)]
enum Kind {
    Ascii(u8),
    /// Not empty.
    Str(Text),
    /// The empty separator, which is found before and behind every character.
    Empty,
}

impl From<char> for Separator {
    #[inline]
    fn from(separator: char) -> Separator {
        Separator(if separator.is_ascii() { Kind::Ascii(separator as u8) } else { Kind::Str(Text::from(separator)) })
    }
}

impl From<&str> for Separator {
    #[inline]
    fn from(separator: &str) -> Separator {
        Separator(match separator.as_bytes() {
            [] => Kind::Empty,
            &[byte] => Kind::Ascii(byte),
            _ => Kind::Str(Text::from(separator)),
        })
    }
}

impl From<&String> for Separator {
    fn from(separator: &String) -> Separator {
        Separator::from(separator.as_str())
    }
}

impl From<&Text> for Separator {
    fn from(separator: &Text) -> Separator {
        Separator::from(separator.as_str())
    }
}

impl fmt::Debug for Separator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Ascii(byte) => fmt::Debug::fmt(&char::from(*byte), f),
            Kind::Str(separator) => fmt::Debug::fmt(separator, f),
            Kind::Empty => f.write_str("\"\""),
        }
    }
}

/// An iterator over the pieces of a [`Text`] between separators, made by [`Text::split`].
///
/// It borrows nothing, so a closure may return it: `lines.flat_map(|line| line.split(' '))`.
#[derive(Clone)]
pub struct Split(State);

#[derive(Clone)]
enum State {
    Ascii(Pieces),
    /// `at` is where the next piece begins; one more than the length when all are cut.
    Str {
        text: Text,
        separator: Text,
        at: usize,
    },
    Empty {
        text: Text,
        at: usize,
        begun: bool,
    },
}

impl Split {
    #[inline]
    pub(super) fn new(text: Text, separator: Separator) -> Split {
        Split(match separator.0 {
            Kind::Ascii(byte) => State::Ascii(Pieces::new(text.0, byte)),
            Kind::Str(separator) => State::Str { text, separator, at: 0 },
            Kind::Empty => State::Empty { text, at: 0, begun: false },
        })
    }

    /// What is still to be cut.
    fn rest(&self) -> Option<&str> {
        match &self.0 {
            State::Ascii(pieces) => pieces.rest(),
            State::Str { text, at, .. } | State::Empty { text, at, .. } => text.get(*at..),
        }
    }
}

impl Iterator for Split {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        match &mut self.0 {
            State::Ascii(pieces) => pieces.next().map(Text),
            State::Str { text, separator, at } => next_between(text, separator, at),
            State::Empty { text, at, begun } => next_char(text, at, begun),
        }
    }
}

fn next_between(text: &Text, separator: &Text, at: &mut usize) -> Option<Text> {
    let rest = text.get(*at..)?;
    let piece = match memmem::find(rest.as_bytes(), separator.as_bytes()) {
        Some(len) => &rest[..len],
        None => rest,
    };
    *at = (*at + piece.len() + separator.len()).min(if piece.len() == rest.len() { usize::MAX } else { text.len() });
    Some(text.slice_ref(piece))
}

fn next_char(text: &Text, at: &mut usize, begun: &mut bool) -> Option<Text> {
    let rest = text.get(*at..)?;
    if !std::mem::replace(begun, true) {
        return Some(Text::new());
    }
    let len = rest.chars().next().map(char::len_utf8);
    *at += len.unwrap_or(1);
    Some(text.slice_ref(&rest[..len.unwrap_or(0)]))
}

impl FusedIterator for Split {}

impl fmt::Debug for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Split").field(&self.rest()).finish()
    }
}

/// An iterator over the words of a [`Text`], made by [`Text::split_whitespace`].
///
/// It borrows nothing, so a closure may return it.
#[derive(Clone)]
pub struct SplitWhitespace {
    text: Text,
    at: usize,
}

impl SplitWhitespace {
    #[inline]
    pub(super) fn new(text: Text) -> SplitWhitespace {
        SplitWhitespace { text, at: 0 }
    }
}

impl Iterator for SplitWhitespace {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        let text = self.text.as_str();
        let mut start = self.at;
        while let Some(len) = space_at(text, start) {
            start += len;
        }
        if start == text.len() {
            self.at = start;
            return None;
        }
        let mut end = start;
        loop {
            end = self.text.0.find_blank_or_wide(end);
            if end == text.len() || space_at(text, end).is_some() {
                break;
            }
            // A control character, or one that is not ASCII.
            end += text[end..].chars().next().map_or(1, char::len_utf8);
        }
        self.at = end;
        Some(Text(self.text.0.piece(&text[start..end])))
    }
}

/// The length of the whitespace character that stands at `at`, if one does.
#[inline]
fn space_at(text: &str, at: usize) -> Option<usize> {
    match text.as_bytes().get(at)? {
        b' ' | b'\t'..=b'\r' => Some(1),
        byte if byte.is_ascii() => None,
        _ => text[at..].chars().next().filter(|c| c.is_whitespace()).map(char::len_utf8),
    }
}

impl FusedIterator for SplitWhitespace {}

impl fmt::Debug for SplitWhitespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SplitWhitespace").field(&&self.text[self.at..]).finish()
    }
}
