//! Short content, packed into the words of an inline text.

/// Packs at most twenty bytes into little-endian words: bytes 0 to 4, 4 to 12 and 12 to 20, zeros behind the content.
///
/// The words are read whole, so that they overlap, and are shifted into place: a copy of just `bytes` would be
/// written a byte at a time and then wait to be read back.
#[inline]
pub(super) fn pack(bytes: &[u8]) -> (u32, [u64; 2]) {
    let len = bytes.len();
    let Some(head) = bytes.first_chunk::<4>() else {
        let head = bytes.iter().rev().fold(0, |head, &byte| head << 8 | u32::from(byte));
        return (head, [0; 2]);
    };
    let head = u32::from_le_bytes(*head);
    let last = match (bytes.last_chunk::<8>(), bytes.last_chunk::<4>()) {
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, Some(last)) => u64::from(u32::from_le_bytes(*last)) << 32,
        (None, None) => 0,
    };
    // `last` ends where the content does; it is moved down to begin where its word does.
    if len <= 12 {
        return (head, [last.unbounded_shr(8 * (12 - len) as u32), 0]);
    }
    let middle = bytes[4..].first_chunk::<8>().map_or(0, |middle| u64::from_le_bytes(*middle));
    (head, [middle, last >> (8 * (20 - len))])
}
