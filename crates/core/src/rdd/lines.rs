//! The lines of anything that can be read from its beginning to its end: a program's output, a compressed file.

use std::io::{self, Read};

use super::pipeline::CHUNK;
use crate::text::{Lines, Text, TextBlock};

/// How much is read at a time. Lines share the block they came with.
const READ: usize = 1 << 18;

/// Reads lines, a chunk at a time.
pub(crate) struct LineStream<R> {
    from: R,
    /// Bytes of a line whose end has not been read.
    rest: Vec<u8>,
    lines: Option<Lines>,
    ended: bool,
}

impl<R: Read> LineStream<R> {
    pub(crate) fn new(from: R) -> LineStream<R> {
        LineStream { from, rest: Vec::new(), lines: None, ended: false }
    }

    /// Appends some lines, at least one; or nothing and returns `false` at the end.
    pub(crate) fn read_chunk(&mut self, out: &mut Vec<Text>) -> io::Result<bool> {
        let before = out.len();
        loop {
            if let Some(lines) = &mut self.lines {
                out.extend(lines.take(CHUNK));
                if out.len() > before {
                    return Ok(true);
                }
            }
            self.lines = self.next_lines()?;
            if self.lines.is_none() {
                return Ok(false);
            }
        }
    }

    /// Reads the next block of whole lines.
    fn next_lines(&mut self) -> io::Result<Option<Lines>> {
        while !self.ended {
            let had = self.rest.len();
            self.rest.resize(had + READ, 0);
            let read = loop {
                match self.from.read(&mut self.rest[had..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            self.rest.truncate(had + *read.as_ref().unwrap_or(&0));
            let whole = if read? == 0 {
                self.ended = true;
                self.rest.len()
            } else {
                memchr::memrchr(b'\n', &self.rest[had..]).map_or(0, |end| had + end + 1)
            };
            if whole == 0 {
                continue;
            }
            let tail = self.rest[whole..].to_vec();
            let mut block = std::mem::replace(&mut self.rest, tail);
            block.truncate(whole);
            block.shrink_to_fit();
            return Ok(Some(TextBlock::from_bytes(block).lines()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `step` bytes at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let some = self.1.min(self.0.len()).min(out.len());
            out[..some].copy_from_slice(&self.0[..some]);
            self.0 = &self.0[some..];
            Ok(some)
        }
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        for text in ["", "\n", "a", "a\n", "a\nbc\n\nd", "a\r\nb\r\n"] {
            for step in [1, 2, 3, 100] {
                let (mut stream, mut lines) = (LineStream::new(Slowly(text.as_bytes(), step)), Vec::new());
                while stream.read_chunk(&mut lines).unwrap() {}
                assert_eq!(lines, text.lines().collect::<Vec<_>>(), "{text:?} by {step}");
            }
        }
    }
}
