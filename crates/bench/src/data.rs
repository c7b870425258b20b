//! The text that all engines start from: lines in memory, one part a thread.

use std::path::Path;

use millstream::prelude::*;
use millstream::TextBlock;

/// A file, cut at line ends into as many parts as there are threads.
pub(crate) struct Input {
    parts: Vec<String>,
    pub(crate) records: u64,
}

impl Input {
    pub(crate) fn read(path: &Path, threads: usize) -> Result<Input> {
        Ok(Input::of(&std::fs::read_to_string(path)?, threads))
    }

    pub(crate) fn of(text: &str, threads: usize) -> Input {
        let mut parts = Vec::new();
        let mut rest = text;
        for left in (1..=threads).rev() {
            let want = rest.len() / left;
            let end = rest[want..].find('\n').map_or(rest.len(), |end| want + end + 1);
            let (part, more) = rest.split_at(end);
            parts.push(part.to_owned());
            rest = more;
        }
        Input { records: text.lines().count() as u64, parts }
    }

    /// The lines of each part, as the hand-written loops read them.
    pub(crate) fn lines(&self) -> Vec<Vec<&str>> {
        self.parts.iter().map(|part| part.lines().collect()).collect()
    }

    /// The lines of each part as millstream reads them from a file: slices of blocks of a mebibyte.
    pub(crate) fn texts(&self) -> Vec<Vec<Text>> {
        let blocks = |part: &String| {
            let (mut texts, mut rest) = (Vec::new(), part.as_str());
            while !rest.is_empty() {
                let want = rest.len().min(1 << 20);
                let end = rest.as_bytes()[want..].iter().position(|b| *b == b'\n').map_or(rest.len(), |e| want + e + 1);
                texts.extend(TextBlock::from_string(rest[..end].to_owned()).lines());
                rest = &rest[end..];
            }
            texts
        };
        self.parts.iter().map(blocks).collect()
    }
}
