//! Text as an element: short texts stand in the element itself, long ones are slices of the block they came in.
//!
//! A stream of text is mostly lines that are cut into words. Were each word a `String`, most of the time would go to the
//! allocator. So a [`Text`] of at most twenty bytes is held inline, and a longer one points into a counted
//! [`TextBlock`], which lives as long as the last text that was cut from it.
//!
//! ```text
//! block   │ to be or not to be that is the question ⏎ whether 'tis nobler in the mind to suffer ⏎ │ zeros │
//!           ▲ line: pointer, count                    ▲ line: pointer, count
//! words   [to] [be] [or] [not] …                       each inline: no pointer, no count
//! ```
//!
//! The law: a text's form follows from its content, never from where it came from. Equality of short texts is therefore
//! a comparison of three numbers, and `fold_hash` reads no memory but the element's own.

mod hash;
mod lines;
mod pack;
mod repr;
mod search;
mod serde;
mod split;
#[cfg(test)]
mod tests;

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::slice::SliceIndex;
use std::str::FromStr;

pub use self::lines::Lines;
use self::repr::{Block, Repr};
pub use self::split::{Separator, Split, SplitWhitespace};

/// Text that is cheap to cut, clone, compare and send: a `String` for streams.
///
/// A text never changes. It is 24 bytes. Up to twenty bytes of content are held in it; longer content is a slice of a
/// shared block, which stays in memory until the last text cut from it is dropped ([`detach`](Text::detach) lets go of
/// it earlier). All methods of [`str`] can be called on it.
///
/// The methods that cut ([`split`](Text::split), [`split_whitespace`](Text::split_whitespace), [`slice`](Text::slice))
/// give texts instead of borrowed strings, so what they give may outlive the text. Whatever `str` can do besides, for
/// instance `trim`, comes back as a text with [`slice_ref`](Text::slice_ref).
///
/// # Example
///
/// ```
/// use millstream_core::Text;
///
/// let line = Text::from("to be or not to be, that is the question");
/// let words: Vec<Text> = line.split(' ').collect();
/// drop(line);
/// assert_eq!(words[1], "be");
/// assert_eq!(words[9].to_uppercase(), "QUESTION");
/// ```
///
/// # Cost
///
/// Cloning and dropping cost a copy of 24 bytes; of a text longer than twenty bytes, an atomic count besides.
///
/// # Spark
///
/// `java.lang.String`. Lengths and ranges are counted in bytes here, not in UTF-16 units.
#[derive(Clone)]
pub struct Text(Repr);

impl Text {
    /// Makes an empty text.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// assert_eq!(Text::new(), "");
    /// ```
    ///
    /// # Cost
    ///
    /// No allocation.
    #[inline]
    pub const fn new() -> Text {
        Text(Repr::EMPTY)
    }

    /// Returns the content as a borrowed string.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// assert_eq!(Text::from("be").as_str(), "be");
    /// ```
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns whether the content is held in the text itself: it is so exactly if it has at most twenty bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// assert!(Text::from("question").is_inline());
    /// assert!(!Text::from("that is the question, is it?").is_inline());
    /// ```
    #[inline]
    pub fn is_inline(&self) -> bool {
        self.0.is_inline()
    }

    /// Cuts the text at each `separator`, which is a `char` or a string.
    ///
    /// The pieces are those of [`str::split`]: two separators in a row, or one at an end, leave an empty piece. The
    /// iterator borrows nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// let fields: Vec<Text> = Text::from("2024-05-01;;42").split(';').collect();
    /// assert_eq!(fields, ["2024-05-01", "", "42"]);
    ///
    /// let sides: Vec<Text> = Text::from("sensor => celsius").split(" => ").collect();
    /// assert_eq!(sides, ["sensor", "celsius"]);
    /// ```
    ///
    /// # Cost
    ///
    /// One pass, eight bytes at a time for a separator of one ASCII character. A piece of at most twenty bytes is copied
    /// into its text; a longer one adds one to the count of the block. Nothing is allocated, unless the separator itself
    /// is longer than twenty bytes.
    ///
    /// # Spark
    ///
    /// `line.split(" ")` of Java takes a regular expression and drops empty pieces at the end; this does neither.
    #[inline]
    pub fn split(&self, separator: impl Into<Separator>) -> Split {
        Split::new(self.clone(), separator.into())
    }

    /// Cuts the text into its words: the pieces between whitespace, none of them empty.
    ///
    /// The words are those of [`str::split_whitespace`], with whitespace as Unicode defines it. The iterator borrows
    /// nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// let words: Vec<Text> = Text::from("  to be\tor\u{3000}not ").split_whitespace().collect();
    /// assert_eq!(words, ["to", "be", "or", "not"]);
    /// ```
    ///
    /// # Cost
    ///
    /// As [`split`](Text::split) for ASCII text; characters beyond are looked at one by one.
    #[inline]
    pub fn split_whitespace(&self) -> SplitWhitespace {
        SplitWhitespace::new(self.clone())
    }

    /// Returns whether `pattern` occurs in the text.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// assert!(Text::from("disk full on /var").contains("full"));
    /// ```
    ///
    /// # Cost
    ///
    /// As a search that was made ready beforehand, as long as a thread keeps looking for the same pattern: several times
    /// faster than [`str::contains`], which this hides.
    #[inline]
    pub fn contains(&self, pattern: &str) -> bool {
        search::contains(self.as_bytes(), pattern.as_bytes())
    }

    /// Cuts out a range of bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// let entry = Text::from("2024-05-01T12:00:00Z disk full");
    /// assert_eq!(entry.slice(..10), "2024-05-01");
    /// assert_eq!(entry.slice(21..), "disk full");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics as slicing a `str` does: if the range ends outside of the text or inside a character.
    ///
    /// # Cost
    ///
    /// No allocation, and no copy of more than twenty bytes.
    #[inline]
    pub fn slice(&self, range: impl SliceIndex<str, Output = str>) -> Text {
        Text(self.0.piece(&self.as_str()[range]))
    }

    /// Makes a text of a part that was borrowed from this one.
    ///
    /// So any method of [`str`] that returns a part of it can be used without a copy. An empty part may come from
    /// anywhere.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Text;
    ///
    /// let line = Text::from("   key = a value which is not so short   ");
    /// let (key, value) = line.split_once('=').unwrap();
    /// assert_eq!(line.slice_ref(key.trim()), "key");
    /// assert_eq!(line.slice_ref(value.trim()), "a value which is not so short");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `part` is not empty and does not lie within this text; that an equal string does is not enough.
    ///
    /// # Cost
    ///
    /// No allocation, and no copy of more than twenty bytes.
    #[inline]
    pub fn slice_ref(&self, part: &str) -> Text {
        if part.is_empty() {
            return Text::new();
        }
        Text(self.0.piece(part))
    }

    /// Lets go of the block this text was cut from, if that is much larger than the text.
    ///
    /// A text longer than twenty bytes keeps the whole of its block in memory, perhaps a megabyte that was received.
    /// That is right for a text that is soon dropped, and wrong for one that is kept for long, as a key of a state for
    /// instance. After `detach` the content has a block of its own, unless it fills half of its block or more. The
    /// operations that keep keys detach them by themselves.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// let received = TextBlock::from_string("a line of a block that was received\n".repeat(10_000));
    /// let mut kept = received.slice(0..35);
    /// kept.detach();
    /// drop(received); // frees the block
    /// assert_eq!(kept, "a line of a block that was received");
    /// ```
    ///
    /// # Cost
    ///
    /// Nothing if the text is inline; else at most one allocation and a copy of the content.
    #[inline]
    pub fn detach(&mut self) {
        if let Some(block) = self.0.block_len()
            && block / 2 > self.0.len()
        {
            self.0 = Repr::copy_of(self.as_str());
        }
    }

    /// Hashes the content: fixed for ever, the same on every machine; see [`hash`](self::hash).
    #[inline(always)]
    pub(crate) fn fold_hash(&self) -> u64 {
        hash::fold_hash(&self.0)
    }
}

impl Default for Text {
    #[inline]
    fn default() -> Text {
        Text::new()
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    #[inline]
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Text {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<str> for Text {
    #[inline]
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

// ------------------------------------------------------------------------------------------------- comparisons

impl PartialEq for Text {
    #[inline(always)]
    fn eq(&self, other: &Text) -> bool {
        self.0 == other.0
    }
}

impl Eq for Text {}

impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Text) -> Ordering {
        // Heads have zeros behind short content. Where they differ, so does the content, in the same direction.
        self.0.head().cmp(&other.0.head()).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

impl PartialOrd for Text {
    #[inline]
    fn partial_cmp(&self, other: &Text) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As `str` hashes, so that a table of texts can be asked for a `&str`.
impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

macro_rules! equal_to {
    ($($string:ty),*) => {
        $(
            impl PartialEq<$string> for Text {
                #[inline]
                fn eq(&self, other: &$string) -> bool {
                    let other: &str = other.as_ref();
                    self.as_str() == other
                }
            }

            impl PartialEq<Text> for $string {
                #[inline]
                fn eq(&self, other: &Text) -> bool {
                    other == self
                }
            }
        )*
    };
}

equal_to!(str, &str, String);

// ------------------------------------------------------------------------------------------------- conversions

/// Copies the string: into the text itself, or if it is longer than twenty bytes, to a block of its own.
///
/// # Panics
///
/// Panics if the string is longer than 4 GiB.
impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Text {
        Text(Repr::copy_of(text))
    }
}

/// Takes over the string's memory if it is large, else copies it.
///
/// # Panics
///
/// Panics if the string is longer than 4 GiB.
impl From<String> for Text {
    fn from(text: String) -> Text {
        if text.len() <= repr::INLINE { Text::from(text.as_str()) } else { Text(Block::of(text).piece_of_all()) }
    }
}

impl From<&String> for Text {
    #[inline]
    fn from(text: &String) -> Text {
        Text::from(text.as_str())
    }
}

impl From<char> for Text {
    #[inline]
    fn from(c: char) -> Text {
        Text::from(&*c.encode_utf8(&mut [0; 4]))
    }
}

impl From<Cow<'_, str>> for Text {
    fn from(text: Cow<'_, str>) -> Text {
        match text {
            Cow::Borrowed(text) => Text::from(text),
            Cow::Owned(text) => Text::from(text),
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.as_str().to_owned()
    }
}

impl FromStr for Text {
    type Err = Infallible;

    #[inline]
    fn from_str(text: &str) -> Result<Text, Infallible> {
        Ok(Text::from(text))
    }
}

impl FromIterator<char> for Text {
    fn from_iter<I: IntoIterator<Item = char>>(chars: I) -> Text {
        Text::from(String::from_iter(chars))
    }
}

impl<'a> FromIterator<&'a str> for Text {
    fn from_iter<I: IntoIterator<Item = &'a str>>(parts: I) -> Text {
        Text::from(String::from_iter(parts))
    }
}

// ------------------------------------------------------------------------------------------------------- blocks

/// A piece of memory full of text, from which [`Text`]s are cut.
///
/// This is what a receiver makes of the bytes that arrive, a megabyte at a time or so. The texts cut from it share it:
/// it is freed when it and the last of them are dropped.
///
/// # Example
///
/// ```
/// use millstream_core::TextBlock;
///
/// let block = TextBlock::from_bytes(b"to be\nor not\n".to_vec());
/// let words: Vec<_> = block.lines().flat_map(|line| line.split(' ')).collect();
/// assert_eq!(words, ["to", "be", "or", "not"]);
/// ```
///
/// # Cost
///
/// Cloning costs one atomic count.
#[derive(Clone)]
pub struct TextBlock(Block);

impl TextBlock {
    /// Makes a block of bytes that were read.
    ///
    /// Bytes that are not UTF-8 are replaced by U+FFFD, as by [`String::from_utf8_lossy`].
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// assert_eq!(TextBlock::from_bytes(b"caf\xe9\n".to_vec()).as_str(), "caf\u{fffd}\n");
    /// ```
    ///
    /// # Cost
    ///
    /// One pass, which checks the bytes. Four kilobytes and more are taken over without a copy if the vector has 24
    /// bytes of spare capacity, for the zeros behind the text; else it is grown by as much.
    pub fn from_bytes(bytes: Vec<u8>) -> TextBlock {
        let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
        TextBlock::from_string(text)
    }

    /// Makes a block of a string.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// assert_eq!(TextBlock::from_string("to be\nor not".to_owned()).lines().count(), 2);
    /// ```
    ///
    /// # Cost
    ///
    /// As [`from_bytes`](TextBlock::from_bytes), without the pass.
    pub fn from_string(text: String) -> TextBlock {
        TextBlock(Block::of(text))
    }

    /// Returns how many bytes of text the block holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_str().len()
    }

    /// Returns whether the block holds no text.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the whole content as a borrowed string.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Cuts the block into lines.
    ///
    /// A line ends at `\n`, `\r\n` or `\r`, which is not part of it, or where the block ends. There is no empty line
    /// behind the last terminator. The iterator keeps the block alive and borrows nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// let block = TextBlock::from_string("one\r\n\ntwo\rthree".to_owned());
    /// assert_eq!(block.lines().collect::<Vec<_>>(), ["one", "", "two", "three"]);
    /// ```
    ///
    /// # Cost
    ///
    /// One pass, and one more for a `\r` in the block. A line of at most twenty bytes is copied into its text; a longer
    /// one adds one to the count of the block. Nothing is allocated.
    ///
    /// # Spark
    ///
    /// The lines of `socketTextStream` and `textFileStream`.
    #[inline]
    pub fn lines(&self) -> Lines {
        Lines::new(self.0.clone())
    }

    /// Returns the whole block as one text.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// assert_eq!(TextBlock::from_string("to be".to_owned()).text(), "to be");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if the block is longer than 4 GiB.
    ///
    /// # Cost
    ///
    /// No allocation, and no copy of more than twenty bytes.
    #[inline]
    pub fn text(&self) -> Text {
        Text(self.0.piece_of_all())
    }

    /// Cuts out a range of bytes.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::TextBlock;
    ///
    /// assert_eq!(TextBlock::from_string("to be\nor not".to_owned()).slice(6..8), "or");
    /// ```
    ///
    /// # Panics
    ///
    /// Panics as slicing a `str` does, if the range ends outside of the block or inside a character; or if it is longer
    /// than 4 GiB.
    ///
    /// # Cost
    ///
    /// No allocation, and no copy of more than twenty bytes.
    #[inline]
    pub fn slice(&self, range: impl SliceIndex<str, Output = str>) -> Text {
        Text(self.0.piece(&self.as_str()[range]))
    }
}

impl From<String> for TextBlock {
    fn from(text: String) -> TextBlock {
        TextBlock::from_string(text)
    }
}

impl fmt::Debug for TextBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextBlock").field("len", &self.len()).finish_non_exhaustive()
    }
}
