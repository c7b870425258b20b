//! The bytes behind a text: the only file of this module that holds `unsafe`.
//!
//! Two forms share 24 bytes. Numbers are offsets; the head is kept in both, so most comparisons end there:
//!
//! ```text
//!           0        4        8                16               24
//! inline    │ length │ content, zeros behind it                 │      length ≤ 20
//! shared    │ length │ head   │ pointer        │ block          │      length > 20
//! ```
//!
//! The pointer of a shared text leads into a [`Block`]: counted, never changed, with [`PADDING`] zeros behind its content.
//! Whole words may therefore be read from any place in it, and a short piece is cut by masking what was read, without a
//! copy whose length is not known in advance.
//!
//! Laws. INVARIANT: the content is valid UTF-8. INVARIANT: it is inline if and only if it has at most [`INLINE`] bytes, and
//! the bytes behind inline content are zero, so that equal texts have equal words.

// Why a representation of our own is worth it: docs/adr/0011-text.md. Everything here runs under Miri.
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::mem::{self, ManuallyDrop};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{self, AtomicUsize, Ordering};

/// What fits inline.
pub(super) const INLINE: usize = 20;

/// What may be read behind the content of a block: a whole inline text, begun at its very end.
const PADDING: usize = 24;

/// From this length on, a buffer is taken over as it is; a smaller one is copied behind its block's header.
const ADOPT: usize = 4096;

// ------------------------------------------------------------------------------------------------------- blocks

struct Header {
    count: AtomicUsize,
    bytes: NonNull<u8>,
    len: usize,
    /// The capacity of the `Vec` that `bytes` came from, or 0 if they stand behind this header.
    adopted: usize,
}

/// A counted, zero-padded buffer of UTF-8.
pub(super) struct Block(NonNull<Header>);

// SAFETY: what a block points to is only read, except for the count, which is atomic, and freed by the last owner.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    pub(super) fn of(text: String) -> Block {
        if text.len() < ADOPT {
            return Block::copy_of(&text);
        }
        let mut bytes = text.into_bytes();
        let len = bytes.len();
        bytes.reserve_exact(PADDING);
        bytes.resize(len + PADDING, 0);
        if bytes.capacity() / 2 > bytes.len() {
            bytes.shrink_to_fit();
        }
        let at = allocate(Layout::new::<Header>());
        let mut bytes = ManuallyDrop::new(bytes);
        // SAFETY: the pointer of a `Vec` is never null; `at` is fresh and has room for a header.
        unsafe {
            let adopted = bytes.capacity();
            let bytes = NonNull::new_unchecked(bytes.as_mut_ptr());
            at.write(Header { count: AtomicUsize::new(1), bytes, len, adopted });
        }
        Block(at)
    }

    pub(super) fn copy_of(text: &str) -> Block {
        let len = text.len();
        let at = allocate(with_content(len));
        // SAFETY: `at` is fresh and has room for a header, `len` bytes and the padding, in this order.
        unsafe {
            let bytes = at.add(1).cast::<u8>();
            ptr::copy_nonoverlapping(text.as_ptr(), bytes.as_ptr(), len);
            bytes.add(len).write_bytes(0, PADDING);
            at.write(Header { count: AtomicUsize::new(1), bytes, len, adopted: 0 });
        }
        Block(at)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: this owner is counted, so the header lives; no one changes it but through its atomic.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        let header = self.header();
        // SAFETY: `len` bytes stand at `bytes` as long as the header lives, and were a string when they were put there.
        unsafe { str::from_utf8_unchecked(slice::from_raw_parts(header.bytes.as_ptr(), header.len)) }
    }

    /// A piece of this block. `part` must have been sliced from [`as_str`](Block::as_str).
    ///
    /// # Panics
    ///
    /// Panics if `part` is elsewhere, or too long for a text.
    #[inline]
    pub(super) fn piece(&self, part: &str) -> Repr {
        let header = self.header();
        let at = offset_within(header.bytes.addr().get(), header.len, part);
        // SAFETY: `part` lies within the content: it is valid UTF-8, and the padding is behind it.
        unsafe { cut(header.bytes.add(at), part.len(), self.0) }
    }
}

impl Clone for Block {
    #[inline]
    fn clone(&self) -> Block {
        let before = self.header().count.fetch_add(1, Ordering::Relaxed);
        if before > isize::MAX as usize {
            // So many owners can only have been leaked. One more overflow, and a block would be freed in use.
            std::process::abort();
        }
        Block(self.0)
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        if self.header().count.fetch_sub(1, Ordering::Release) == 1 {
            // What other owners read happened before this.
            atomic::fence(Ordering::Acquire);
            // SAFETY: this was the last owner.
            unsafe { free(self.0) }
        }
    }
}

/// SAFETY: `at` must be a block's header, and nobody may use it from now on.
#[cold]
unsafe fn free(at: NonNull<Header>) {
    // SAFETY: the caller is the last one. Both layouts are those of `of` and `copy_of`.
    unsafe {
        let Header { bytes, len, adopted, .. } = at.read();
        if adopted == 0 {
            alloc::dealloc(at.as_ptr().cast(), with_content(len));
        } else {
            drop(Vec::from_raw_parts(bytes.as_ptr(), 0, adopted));
            alloc::dealloc(at.as_ptr().cast(), Layout::new::<Header>());
        }
    }
}

fn with_content(len: usize) -> Layout {
    let size = mem::size_of::<Header>() + len + PADDING;
    Layout::from_size_align(size, mem::align_of::<Header>()).expect("a text fits into the address space")
}

fn allocate(layout: Layout) -> NonNull<Header> {
    // SAFETY: every layout here has the size of a header at least.
    let at = unsafe { alloc::alloc(layout) };
    NonNull::new(at.cast()).unwrap_or_else(|| alloc::handle_alloc_error(layout))
}

// -------------------------------------------------------------------------------------------------------- texts

#[derive(Clone, Copy)]
struct Shared {
    bytes: NonNull<u8>,
    block: NonNull<Header>,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Tail {
    /// Bytes 4 to 20 of inline content, as they stand in memory.
    words: [u64; 2],
    shared: Shared,
}

/// The 24 bytes of a text.
#[repr(C)]
pub(super) struct Repr {
    len: u32,
    head: [u8; 4],
    tail: Tail,
}

const CONTENT: usize = mem::offset_of!(Repr, head);
const _: () = assert!(mem::size_of::<Repr>() == 24 && CONTENT + INLINE == 24);

// SAFETY: a text owns one count of a block, which is `Send` and `Sync`, and only ever reads it.
unsafe impl Send for Repr {}
// SAFETY: as above.
unsafe impl Sync for Repr {}

impl Repr {
    pub(super) const EMPTY: Repr = Repr { len: 0, head: [0; 4], tail: Tail { words: [0; 2] } };

    /// Makes an inline text of three little-endian words of content, the first of four bytes.
    #[inline(always)]
    fn inline(len: usize, head: u32, rest: [u64; 2]) -> Repr {
        debug_assert!(len <= INLINE);
        let words = [rest[0].to_le(), rest[1].to_le()];
        Repr { len: len as u32, head: head.to_le_bytes(), tail: Tail { words } }
    }

    /// Copies `text`.
    ///
    /// # Panics
    ///
    /// Panics if it is too long.
    #[inline]
    pub(super) fn copy_of(text: &str) -> Repr {
        if text.len() <= INLINE {
            let (head, rest) = super::pack::pack(text.as_bytes());
            Repr::inline(text.len(), head, rest)
        } else {
            Block::copy_of(text).piece_of_all()
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline(always)]
    pub(super) fn is_inline(&self) -> bool {
        self.len as usize <= INLINE
    }

    /// The length of the block that this text is a slice of.
    #[inline]
    pub(super) fn block_len(&self) -> Option<usize> {
        self.block().map(|block| block.header().len)
    }

    #[inline(always)]
    fn shared(&self) -> Option<Shared> {
        // SAFETY: a text that is not inline is shared, by the second law above.
        if self.is_inline() { None } else { Some(unsafe { self.tail.shared }) }
    }

    /// The block of a shared text, borrowed: its count is this text's.
    #[inline(always)]
    fn block(&self) -> Option<ManuallyDrop<Block>> {
        self.shared().map(|shared| ManuallyDrop::new(Block(shared.block)))
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        let bytes = match self.shared() {
            Some(shared) => shared.bytes.as_ptr().cast_const(),
            None => ptr::from_ref(self).cast::<u8>().wrapping_add(CONTENT),
        };
        // SAFETY: either way `len` bytes of valid UTF-8 stand there: in the block, which this text keeps alive, or in
        // this text itself. The pointer into it was made from all of it.
        unsafe { str::from_utf8_unchecked(slice::from_raw_parts(bytes, self.len())) }
    }

    /// The length and the head as one number.
    #[inline(always)]
    fn first_word(&self) -> u64 {
        u64::from(self.len) | (u64::from(u32::from_le_bytes(self.head)) << 32)
    }

    /// The head as a number that is ordered as the content is.
    #[inline(always)]
    pub(super) fn head(&self) -> u32 {
        u32::from_be_bytes(self.head)
    }

    /// An inline text as three numbers, the same on every machine: its length and head, and the rest.
    #[inline(always)]
    pub(super) fn words(&self) -> Option<[u64; 3]> {
        if self.is_inline() {
            // SAFETY: an inline text holds words.
            let words = unsafe { self.tail.words };
            Some([self.first_word(), u64::from_le(words[0]), u64::from_le(words[1])])
        } else {
            None
        }
    }

    /// A piece of this text. `part` must have been sliced from [`as_str`](Repr::as_str).
    ///
    /// # Panics
    ///
    /// Panics if `part` is elsewhere.
    #[inline]
    pub(super) fn piece(&self, part: &str) -> Repr {
        let whole = self.as_str();
        let at = offset_within(whole.as_ptr().addr(), whole.len(), part);
        match self.shared() {
            // SAFETY: `part` lies within this text: it is valid UTF-8, and has the block's padding behind it.
            Some(shared) => unsafe { cut(shared.bytes.add(at), part.len(), shared.block) },
            None => Repr::copy_of(part),
        }
    }

    /// Where the first byte stands that is at most `' '` or not ASCII, from `from` on.
    #[inline]
    pub(super) fn find_blank_or_wide(&self, from: usize) -> usize {
        let len = self.len();
        let Some(shared) = self.shared() else {
            let bytes = self.as_str().as_bytes();
            return (from..len).find(|&i| bytes[i] <= b' ' || !bytes[i].is_ascii()).unwrap_or(len);
        };
        let mut at = from;
        while at < len {
            // SAFETY: `at` is inside the text, so eight bytes from there are inside the block and its padding.
            let word = unsafe { load(shared.bytes.as_ptr().add(at)) };
            let hits = (word.wrapping_sub(EACH * 0x21) | word) & HIGH;
            if hits != 0 {
                return len.min(at + first_byte(hits));
            }
            at += 8;
        }
        len
    }
}

impl Block {
    /// All of this block as a text.
    ///
    /// # Panics
    ///
    /// Panics if it is too long.
    #[inline]
    pub(super) fn piece_of_all(&self) -> Repr {
        self.piece(self.as_str())
    }

    #[cfg(test)]
    pub(super) fn owners(&self) -> usize {
        self.header().count.load(Ordering::Relaxed)
    }
}

impl Clone for Repr {
    #[inline]
    fn clone(&self) -> Repr {
        if let Some(block) = self.block() {
            mem::forget(Block::clone(&block));
        }
        Repr { len: self.len, head: self.head, tail: self.tail }
    }
}

impl Drop for Repr {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(block) = self.block() {
            drop(ManuallyDrop::into_inner(block));
        }
    }
}

impl PartialEq for Repr {
    #[inline(always)]
    fn eq(&self, other: &Repr) -> bool {
        if self.first_word() != other.first_word() {
            return false;
        }
        if self.is_inline() {
            // SAFETY: both are inline, for their lengths are equal.
            let (a, b) = unsafe { (self.tail.words, other.tail.words) };
            ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0
        } else {
            self.as_str() == other.as_str()
        }
    }
}

// ------------------------------------------------------------------------------------------------------- pieces

/// Cuts a text at an ASCII byte.
#[derive(Clone)]
#[repr(C)]
pub(super) struct Pieces {
    text: Repr,
    /// Zeros behind an inline text, so that words may be read from any place in it.
    padding: [u64; 3],
    /// INVARIANT: 0, or just behind a separator, or one more than the length.
    at: usize,
    /// The separator eight times. INVARIANT: it is ASCII, so that what it cuts stays UTF-8.
    separators: u64,
}

// An inline text is read as far as `INLINE` bytes behind its end.
const _: () = assert!(CONTENT + INLINE + INLINE <= mem::offset_of!(Pieces, at));
const _: () = assert!(mem::offset_of!(Pieces, text) == 0 && mem::offset_of!(Pieces, padding) == 24);

impl Pieces {
    #[inline]
    pub(super) fn new(text: Repr, separator: u8) -> Pieces {
        assert!(separator.is_ascii(), "a byte that is not ASCII cannot separate text");
        Pieces { text, padding: [0; 3], at: 0, separators: EACH * u64::from(separator) }
    }

    /// What is still to be cut, if anything is.
    pub(super) fn rest(&self) -> Option<&str> {
        self.text.as_str().get(self.at..)
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Repr> {
        let left = self.text.len().checked_sub(self.at)?;
        let content = match self.text.shared() {
            Some(shared) => shared.bytes,
            None => NonNull::from_ref(&*self).cast::<u8>().map_addr(|at| at.saturating_add(CONTENT)),
        };
        // SAFETY: `at` is at most the length, so this stays within the content or right behind it, where the padding
        // is: that of the block, or the one in this struct, all of which the pointer may read.
        let (start, word) = unsafe {
            let start = content.add(self.at);
            (start, load(start.as_ptr()))
        };
        let hits = zeros(word ^ self.separators);
        let len = first_byte(hits);
        if hits != 0 && len < left {
            // The usual case: the piece and its end are in one word.
            self.at += len + 1;
            let content = word & (((hits & hits.wrapping_neg()) >> 7) - 1);
            return Some(Repr::inline(len, content as u32, [content >> 32, 0]));
        }
        // SAFETY: as above.
        let len = unsafe { find(start, left, self.separators) };
        self.at += len + 1;
        // SAFETY: the piece begins at the start or behind an ASCII byte and ends at the end or before one, so it is
        // valid UTF-8; what may be read behind it is said above. A piece of an inline text is too short to be shared.
        Some(unsafe {
            match self.text.shared() {
                Some(shared) => cut(start, len, shared.block),
                None => masked(start, len),
            }
        })
    }
}

// -------------------------------------------------------------------------------------------------------- words

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = EACH << 7;

/// Marks bytes that are zero with their high bit. The lowest mark is exact; those above it may be wrong.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word & HIGH
}

/// Which byte the lowest mark is in; 8 if there is none.
#[inline(always)]
fn first_byte(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

/// Reads eight bytes as a little-endian word.
///
/// SAFETY: they must be readable.
#[inline(always)]
unsafe fn load(at: *const u8) -> u64 {
    // SAFETY: the caller's, and the read need not be aligned.
    u64::from_le(unsafe { at.cast::<u64>().read_unaligned() })
}

/// How far the next separator is from `start`, or `left` if there is none so near.
///
/// SAFETY: `left` bytes and seven more must be readable.
#[inline(always)]
unsafe fn find(start: NonNull<u8>, left: usize, separators: u64) -> usize {
    let mut len = 0;
    while len < left {
        // SAFETY: the caller's; at most seven bytes are read from behind `left`.
        let hits = zeros(unsafe { load(start.as_ptr().add(len)) } ^ separators);
        if hits != 0 {
            return left.min(len + first_byte(hits));
        }
        len += 8;
    }
    left
}

/// Makes an inline text of what stands at `start`.
///
/// SAFETY: `len` must be at most [`INLINE`]; so many bytes must be readable, and the first `len` of them valid UTF-8.
#[inline(always)]
unsafe fn masked(start: NonNull<u8>, len: usize) -> Repr {
    /// Zeros all but the lowest `bytes` bytes, of which there are at most eight.
    #[inline(always)]
    fn keep(word: u64, bytes: usize) -> u64 {
        // Shifted twice, because a shift by 64 is none.
        word & !((u64::MAX << (4 * bytes)) << (4 * bytes))
    }
    // SAFETY: bytes 0 to 8, 4 to 12 and 12 to 20 of those that the caller lets us read.
    let (first, second, third) = unsafe {
        let start = start.as_ptr();
        (load(start), load(start.add(4)), load(start.add(12)))
    };
    let rest = [keep(second, len.saturating_sub(4).min(8)), keep(third, len.saturating_sub(12))];
    Repr::inline(len, keep(first, len.min(4)) as u32, rest)
}

/// Makes a text of what stands at `start` in a block: a slice of it, or inline.
///
/// SAFETY: `block` must be alive; `len` bytes at `start` must be part of its content, and valid UTF-8.
#[inline(always)]
unsafe fn cut(start: NonNull<u8>, len: usize, block: NonNull<Header>) -> Repr {
    if len <= INLINE {
        // SAFETY: the caller's; the padding is as long as an inline text.
        return unsafe { masked(start, len) };
    }
    let Ok(size) = u32::try_from(len) else { too_long(len) };
    // SAFETY: longer than four bytes, which the caller lets us read.
    let head = unsafe { start.cast::<[u8; 4]>().read() };
    // The new text's own count.
    mem::forget(Block::clone(&ManuallyDrop::new(Block(block))));
    Repr { len: size, head, tail: Tail { shared: Shared { bytes: start, block } } }
}

#[cold]
fn too_long(len: usize) -> ! {
    panic!("a text of {len} bytes is too long: 4 GiB is the limit")
}

/// Where `part` begins in the `len` bytes at `base`.
#[inline]
fn offset_within(base: usize, len: usize, part: &str) -> usize {
    let at = part.as_ptr().addr().wrapping_sub(base);
    assert!(at <= len && part.len() <= len - at, "the part is not a part of this text");
    at
}
