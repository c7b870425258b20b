//! The lines of a block.

use std::fmt;
use std::iter::FusedIterator;

use memchr::memchr;

use super::repr::Block;
use super::{Text, TextBlock};

/// An iterator over the lines of a [`TextBlock`], made by [`TextBlock::lines`].
///
/// It keeps the block alive, and can be sent to another thread.
#[derive(Clone)]
pub struct Lines {
    block: Block,
    at: usize,
    /// Where the next `\r` stands, at `at` or later; the block's length if there is none. Most blocks have none, and are
    /// searched for one only once.
    next_return: usize,
}

impl Lines {
    pub(super) fn new(block: Block) -> Lines {
        let next_return = find(block.as_str(), 0, b'\r');
        Lines { block, at: 0, next_return }
    }
}

/// Where `byte` stands in `content` from `from` on, or where `content` ends.
#[inline]
fn find(content: &str, from: usize, byte: u8) -> usize {
    let bytes = &content.as_bytes()[from..];
    memchr(byte, bytes).map_or(content.len(), |at| from + at)
}

impl Iterator for Lines {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        let content = self.block.as_str();
        let start = self.at;
        if start == content.len() {
            return None;
        }
        let mut end = find(content, start, b'\n');
        let mut next = (end + 1).min(content.len());
        if self.next_return < end {
            end = self.next_return;
            next = if content[end..].starts_with("\r\n") { end + 2 } else { end + 1 };
            self.next_return = find(content, next, b'\r');
        }
        self.at = next;
        Some(Text(self.block.piece(&content[start..end])))
    }
}

impl FusedIterator for Lines {}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lines").field(&&self.block.as_str()[self.at..]).finish()
    }
}

impl IntoIterator for TextBlock {
    type Item = Text;
    type IntoIter = Lines;

    /// The lines of this block, as [`TextBlock::lines`].
    fn into_iter(self) -> Lines {
        Lines::new(self.0)
    }
}
