//! The text that all engines start from: lines in memory, one contiguous part a thread.

use std::path::Path;

use millstream::TextBlock;
use millstream::prelude::*;

/// How large the blocks are that [`Input::texts`] slices: what a file source reads at a time.
const BLOCK: usize = 1 << 20;

/// A text, cut at line ends into as many parts as there are threads.
pub(crate) struct Input {
    parts: Vec<String>,
    /// The number of lines.
    pub(crate) records: u64,
}

impl Input {
    /// Reads a file.
    pub(crate) fn read(path: &Path, threads: usize) -> Result<Input> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Input::of(&text, threads))
    }

    /// Takes a text as it is.
    pub(crate) fn of(text: &str, threads: usize) -> Input {
        let mut rest = text;
        let parts = (1..=threads)
            .rev()
            .map(|left| {
                let (part, more) = rest.split_at(line_end(rest, rest.len() / left));
                rest = more;
                part.to_owned()
            })
            .collect();
        Input { records: text.lines().count() as u64, parts }
    }

    /// Returns the lines of each part as the hand-written loops read them.
    pub(crate) fn lines(&self) -> Vec<Vec<&str>> {
        self.parts.iter().map(|part| part.lines().collect()).collect()
    }

    /// Returns the lines of each part as millstream holds them: slices of the blocks that they came in.
    pub(crate) fn texts(&self) -> Vec<Vec<Text>> {
        self.parts.iter().map(|part| texts_of(part)).collect()
    }
}

fn texts_of(part: &str) -> Vec<Text> {
    let (mut texts, mut rest) = (Vec::new(), part);
    while !rest.is_empty() {
        let (block, more) = rest.split_at(line_end(rest, BLOCK.min(rest.len())));
        texts.extend(TextBlock::from_string(block.to_owned()).lines());
        rest = more;
    }
    texts
}

/// Returns where the line ends that `at` is in, behind its end.
fn line_end(text: &str, at: usize) -> usize {
    memchr::memchr(b'\n', &text.as_bytes()[at..]).map_or(text.len(), |end| at + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_gets_the_same_lines_in_the_same_parts() {
        let text: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        for threads in [1, 2, 3, 7] {
            let input = Input::of(&text, threads);
            assert_eq!(input.records, 1000);
            assert_eq!(input.lines().len(), threads);
            assert_eq!(input.lines().concat(), text.lines().collect::<Vec<_>>());
            assert_eq!(input.texts(), input.lines());
        }
        assert_eq!(Input::of("a b c", 2).lines().concat(), ["a b c"]);
    }
}
