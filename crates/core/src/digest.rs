//! What a batch was given or gave, in short: how many, and a hash that does not care for their order. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::partitioner::hash_bytes;

/// How many things there are, and a hash of them all that is the same in whatever order they come.
///
/// It tells whether two lots are the same, up to chance: it is no protection against who wants to deceive. Kept in checkpoints, so
/// its hash is fixed for ever, as that of keys is.
///
/// # Example
///
/// ```
/// use millstream_core::Digest;
///
/// let (mut there, mut back) = (Digest::default(), Digest::default());
/// for word in ["to", "be", "be"] {
///     there.add(word.as_bytes());
/// }
/// for word in ["be", "to", "be"] {
///     back.add(word.as_bytes());
/// }
/// assert_eq!(there, back);
/// back.add(b"or");
/// assert_eq!((back.count(), there == back), (4, false));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest {
    count: u64,
    hash: u64,
}

impl Digest {
    /// Returns the digest of so many things of which nothing is known: each is made out by no bytes.
    pub fn of_unknown(count: u64) -> Digest {
        Digest { count, hash: hash_bytes(b"").wrapping_mul(count) }
    }

    /// Adds one thing, by the bytes that make it out.
    pub fn add(&mut self, bytes: &[u8]) {
        self.count += 1;
        self.hash = self.hash.wrapping_add(hash_bytes(bytes));
    }

    /// Adds all that is in another.
    pub fn add_all(&mut self, other: Digest) {
        self.count += other.count;
        self.hash = self.hash.wrapping_add(other.hash);
    }

    /// Returns how many things were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the hash of all.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:016x}", self.count, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_digest_is_a_format() {
        let mut digest = Digest::default();
        assert_eq!(digest.to_string(), "0 of 0000000000000000");
        digest.add(b"");
        assert_eq!(digest, Digest::of_unknown(1));
        digest.add(b"to be");
        assert_eq!(digest.to_string(), "2 of 6f835c7253d92e68");
        let mut twice = digest;
        twice.add_all(digest);
        assert_eq!((twice.count(), twice.hash()), (4, digest.hash().wrapping_mul(2)));
    }
}
