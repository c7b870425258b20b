//! Programs of stages that were read once, kept for the tasks that come with the same bytes.

use std::collections::VecDeque;

use bytes::Bytes;

/// How many are kept: those of the jobs that run, and some that are asked for again.
const MOST: usize = 32;

/// How many bytes they may have in all: some hold what `parallelize` was given, and their values take as much again.
const MOST_BYTES: usize = 16 << 20;

/// Programs by their bytes; who was asked for last is let go of last.
pub(super) struct Programs<P> {
    kept: VecDeque<(Bytes, P)>,
    bytes: usize,
}

impl<P> Default for Programs<P> {
    fn default() -> Programs<P> {
        Programs { kept: VecDeque::new(), bytes: 0 }
    }
}

impl<P: Clone> Programs<P> {
    /// Returns how many are kept.
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// Finds a program.
    pub(super) fn find(&mut self, bytes: &Bytes) -> Option<P> {
        let at = self.kept.iter().position(|(known, _)| known == bytes)?;
        let found = self.kept.remove(at)?;
        let program = found.1.clone();
        self.kept.push_back(found);
        Some(program)
    }

    /// Keeps a program, and lets go of others that are too many with it. One that is too large by itself is kept alone, for the
    /// other tasks of its stage. Returns the others, to be dropped where nothing is locked: they run code of the program.
    pub(super) fn keep(&mut self, bytes: &Bytes, program: P) -> Vec<P> {
        self.bytes += bytes.len();
        self.kept.push_back((bytes.clone(), program));
        let mut gone = Vec::new();
        while self.kept.len() > 1 && (self.kept.len() > MOST || self.bytes > MOST_BYTES) {
            if let Some((bytes, program)) = self.kept.pop_front() {
                self.bytes -= bytes.len();
                gone.push(program);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: usize, name: u8) -> Bytes {
        Bytes::from(vec![name; length])
    }

    #[test]
    fn who_was_asked_for_last_stays_and_a_large_one_stays_alone() {
        let mut programs = Programs::default();
        let keep = |programs: &mut Programs<u8>, length, name| programs.keep(&of(length, name), name);
        for name in 0..MOST as u8 {
            assert!(keep(&mut programs, 3, name).is_empty());
        }
        assert_eq!(programs.find(&of(3, 0)), Some(0));
        assert_eq!(keep(&mut programs, 3, 77), [1], "0 was asked for since");
        assert_eq!((programs.find(&of(3, 1)), programs.find(&of(2, 0)), programs.count()), (None, None, MOST));
        assert_eq!(keep(&mut programs, MOST_BYTES + 1, 78).len(), MOST);
        assert_eq!(programs.find(&of(MOST_BYTES + 1, 78)), Some(78));
        assert_eq!(keep(&mut programs, 3, 79), [78]);
        assert_eq!((programs.count(), programs.bytes), (1, 3));
    }
}
