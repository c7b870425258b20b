//! How a stage is written down for the same binary elsewhere.
//!
//! Code does not travel; it is already there. What travels is the *offset* of a function in the executable, guarded
//! by the executable's build id, and the plain values that the function needs. A closure that captures nothing is a
//! value without size, so that its type alone, known to the function at the offset, brings it back. What a closure
//! captures is said with [`capture`], and travels as bytes.
//!
//! This is one of the argued `unsafe` files: docs/adr/0006-same-binary-on-every-worker.md.

#![allow(unsafe_code)]

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};

use hashbrown::HashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::rdd::RddId;
use crate::rdd::lineage::Node;
use crate::threads::lock;

/// The one signature of all code that travels: makes a value again from what was written behind the code's offset.
pub type Rebuild = fn(&mut PlanReader<'_>) -> Result<Box<dyn Any>>;

/// A closure of the program, shared by all tasks, with the line it came from.
pub struct Closure<F> {
    function: Arc<F>,
    site: CallSite,
}

thread_local! {
    /// Where closures were given lately, on this thread, that capture silently.
    static SILENT: RefCell<VecDeque<CallSite>> = const { RefCell::new(VecDeque::new()) };
}

/// How many of them are remembered.
const MOST_SILENT: usize = 64;

/// Returns where closures that cannot travel were given on this thread since the last call: the latest of them.
#[doc(hidden)]
pub fn take_silent() -> Vec<CallSite> {
    SILENT.with_borrow_mut(|silent| silent.drain(..).collect())
}

/// Makes the error of a closure that cannot travel.
#[doc(hidden)]
pub fn silent(site: CallSite) -> Error {
    let text = "this closure captures variables and cannot travel; name them with capture(variables, |variables, x| …)";
    Error::new(ErrorKind::User, text).at(site)
}

impl<F: 'static> Closure<F> {
    /// Keeps a closure that was given to an operation at `site`.
    pub fn new(function: F, site: CallSite) -> Closure<F> {
        if size_of::<F>() > 0 && !lock(captures()).contains_key(&TypeId::of::<F>()) {
            SILENT.with_borrow_mut(|silent| {
                silent.truncate(MOST_SILENT - 1);
                silent.push_front(site);
            });
        }
        Closure { function: Arc::new(function), site }
    }
}

impl<F> Closure<F> {
    /// Returns where the closure was given.
    pub fn site(&self) -> CallSite {
        self.site
    }
}

impl<F> Clone for Closure<F> {
    fn clone(&self) -> Closure<F> {
        Closure { function: Arc::clone(&self.function), site: self.site }
    }
}

impl<F> Deref for Closure<F> {
    type Target = F;
    fn deref(&self) -> &F {
        &self.function
    }
}

impl<F> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closure of {}", self.site)
    }
}

/// Writes a stage: values, closures and the offsets of the code that reads them again.
#[derive(Debug, Default)]
pub struct PlanWriter {
    bytes: Vec<u8>,
    faults: Vec<Error>,
    /// The node that is being written.
    node: Option<RddId>,
    /// Which partitions of values that the program gave are written; all of them if that is not said.
    only: Option<BTreeSet<(RddId, usize)>>,
}

impl PlanWriter {
    /// Begins a plan with the guard of this build.
    pub(crate) fn new() -> PlanWriter {
        let mut w = PlanWriter::default();
        let written = w.value(&(MAGIC, build_id()));
        debug_assert!(written.is_ok(), "two texts can be written");
        w
    }

    /// Begins a plan that has of the values which the program gave these partitions only.
    pub(crate) fn with_only(only: BTreeSet<(RddId, usize)>) -> PlanWriter {
        PlanWriter { only: Some(only), ..PlanWriter::new() }
    }

    /// Takes note whose operation is written from now on.
    pub(crate) fn begin_node(&mut self, node: RddId) {
        self.node = Some(node);
    }

    /// Says whether partition `p` of the node that is being written is to be in the plan.
    pub(crate) fn wants(&self, p: usize) -> bool {
        match (&self.only, self.node) {
            (Some(only), Some(node)) => only.contains(&(node, p)),
            _ => true,
        }
    }

    /// Writes a plain value.
    ///
    /// # Errors
    ///
    /// The kind is `User`: the value refuses to be written.
    pub fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.bytes = codec::encode_onto(value, std::mem::take(&mut self.bytes))?;
        Ok(())
    }

    /// Writes the code that will read what is written behind it.
    pub fn code(&mut self, rebuild: Rebuild) {
        let offset = (rebuild as usize as u64).wrapping_sub(anchor());
        self.bytes.extend_from_slice(&offset.to_le_bytes());
    }

    /// Writes a closure. One that captures silently is a fault, which [`finish`](Self::finish) reports with all
    /// others.
    ///
    /// # Errors
    ///
    /// The kind is `User`: what the closure captures refuses to be written.
    pub fn closure<F: Send + Sync + 'static>(&mut self, closure: &Closure<F>) -> Result<()> {
        let site = closure.site;
        self.value(&(site.op(), site.file(), site.line()))?;
        if size_of::<F>() == 0 {
            return Ok(());
        }
        let known = lock(captures()).get(&TypeId::of::<F>()).copied();
        match known {
            Some(known) => {
                let bytes = (known.encode)(&*closure.function)?;
                self.code(known.rebuild);
                self.value(&bytes)
            }
            None => {
                self.faults.push(silent(site));
                Ok(())
            }
        }
    }

    /// Ends the plan.
    ///
    /// # Errors
    ///
    /// The kind is `User`: all closures that capture silently, each with its line.
    pub fn finish(self) -> Result<Vec<u8>> {
        if self.faults.is_empty() {
            return Ok(self.bytes);
        }
        Err(Error::several("closures cannot travel", &self.faults))
    }
}

/// Reads a stage that a [`PlanWriter`] of the same build wrote.
#[derive(Debug)]
pub struct PlanReader<'a> {
    bytes: &'a [u8],
    pub(crate) nodes: Vec<Arc<Node>>,
}

impl<'a> PlanReader<'a> {
    /// Begins to read, if this is the build that wrote.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: this is no plan, or another build wrote it.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<PlanReader<'a>> {
        let mut r = PlanReader { bytes, nodes: Vec::new() };
        let (magic, build): (String, String) = r.value()?;
        if magic != MAGIC {
            return Err(Error::new(ErrorKind::Data, "these bytes are no plan of millstream"));
        }
        if build != build_id() {
            return Err(Error::new(
                ErrorKind::Data,
                format!("the plan comes from build {build}, but this executable is build {}", build_id()),
            ));
        }
        Ok(r)
    }

    /// Reads a plain value.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: something else stands here.
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<T> {
        let (value, rest) = codec::decode_from(self.bytes)?;
        self.bytes = rest;
        Ok(value)
    }

    fn code(&mut self) -> Result<Rebuild> {
        let Some((offset, rest)) = self.bytes.split_first_chunk::<8>() else {
            return Err(Error::new(ErrorKind::Data, "a plan ends in the middle of a function's offset"));
        };
        self.bytes = rest;
        let address = anchor().wrapping_add(u64::from_le_bytes(*offset)) as usize;
        let range = code_range();
        if !range.contains(&address) {
            return Err(Error::new(ErrorKind::Data, "a plan names a function outside the executable's code"));
        }
        // SAFETY: the reader was made only after the build id matched, so the bytes come from this very executable;
        // only `PlanWriter::code` writes offsets, and only of functions of type `Rebuild`; code lies at the same
        // offsets from the anchor wherever the executable is loaded. Who may hand over bytes at all is decided
        // before: a plan from another process is authenticated with the cluster's secret.
        Ok(unsafe { std::mem::transmute::<*const (), Rebuild>(std::ptr::with_exposed_provenance(address)) })
    }

    /// Reads code and has it make the value that was written behind it.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: something else stands here.
    pub fn rebuilt<T: 'static>(&mut self) -> Result<T> {
        let rebuild = self.code()?;
        let value = rebuild(self)?;
        value.downcast::<T>().map(|value| *value).map_err(|_| {
            Error::new(
                ErrorKind::Data,
                format!("a plan has another thing where a {} must be", std::any::type_name::<T>()),
            )
        })
    }

    /// Reads a closure.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: something else stands here.
    pub fn closure<F: Send + Sync + 'static>(&mut self) -> Result<Closure<F>> {
        let (op, file, line): (String, String, u32) = self.value()?;
        let site = CallSite::elsewhere(intern(op), intern(file), line);
        let function = if size_of::<F>() == 0 { conjure::<F>()? } else { self.rebuilt::<F>()? };
        Ok(Closure::new(function, site))
    }

    /// Reads a call site.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: something else stands here.
    pub fn site(&mut self) -> Result<CallSite> {
        let (op, file, line): (String, String, u32) = self.value()?;
        Ok(CallSite::elsewhere(intern(op), intern(file), line))
    }
}

const MAGIC: &str = "millstream plan 1";

/// Makes a value of a type without size.
fn conjure<F: 'static>() -> Result<F> {
    if size_of::<F>() != 0 {
        return Err(crate::bug!("a closure with captures was to be made from nothing"));
    }
    // SAFETY: F has no bytes, so reading it from any aligned, non-null address reads nothing. A value of F has been
    // given to an operation by the program (that is how this function came to be compiled for F), so F is inhabited;
    // and that value was given away for as many calls from as many threads as the engine likes (F is used only behind
    // `&`), which one more value without any state cannot be told from.
    Ok(unsafe { std::ptr::NonNull::<F>::dangling().as_ptr().read() })
}

/// A function whose address all offsets are counted from.
#[inline(never)]
fn anchor_function(r: &mut PlanReader<'_>) -> Result<Box<dyn Any>> {
    let _ = r;
    Err(crate::bug!("the anchor of all code was called"))
}

fn anchor() -> u64 {
    let anchor: Rebuild = anchor_function;
    anchor as usize as u64
}

/// Returns the addresses at which this executable has code, as far as the system tells; otherwise all addresses.
fn code_range() -> std::ops::Range<usize> {
    static RANGE: OnceLock<std::ops::Range<usize>> = OnceLock::new();
    RANGE
        .get_or_init(|| {
            let here = anchor() as usize;
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
            maps.lines()
                .filter_map(|line| {
                    let mut fields = line.split_whitespace();
                    let (from, to) = fields.next()?.split_once('-')?;
                    let executable = fields.next()?.contains('x');
                    let from = usize::from_str_radix(from, 16).ok()?;
                    let to = usize::from_str_radix(to, 16).ok()?;
                    (executable && (from..to).contains(&here)).then_some(from..to)
                })
                .next()
                .unwrap_or(1..usize::MAX)
        })
        .clone()
}

/// Returns the identity of this executable: a hash over its file, read once.
pub fn build_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        // What runs, also where another build has taken its name meanwhile.
        let running = std::fs::read("/proc/self/exe");
        let file = running.or_else(|_| std::env::current_exe().and_then(std::fs::read));
        match file {
            Ok(bytes) => gnu_build_id(&bytes).unwrap_or_else(|| format!("{:016x}-{}", file_hash(&bytes), bytes.len())),
            Err(_) => format!("unreadable-{}", std::process::id()),
        }
    })
}

fn file_hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0x6d69_6c6c_7374_7265, |hash: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

/// Finds the identity that a linker wrote into an ELF file's notes, without trusting a single length in it.
fn gnu_build_id(file: &[u8]) -> Option<String> {
    let word = |at: usize, n: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(n)?)?;
        Some(bytes.iter().rev().fold(0, |all, byte| (all << 8) | usize::from(*byte)))
    };
    if file.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
    for header in (0..count).map(|i| table.saturating_add(i * size)) {
        if word(header, 4)? != 4 {
            continue;
        }
        let mut at = word(header + 8, 8)?;
        let end = at.saturating_add(word(header + 32, 8)?);
        while at < end {
            let (name, data, kind) = (word(at, 4)?, word(at + 4, 4)?, word(at + 8, 4)?);
            let name_at = at + 12;
            let data_at = name_at.checked_add(name.checked_next_multiple_of(4)?)?;
            if kind == 3 && file.get(name_at..name_at.checked_add(name)?)? == b"GNU\0" {
                let id = file.get(data_at..data_at.checked_add(data)?)?;
                return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            at = data_at.checked_add(data.checked_next_multiple_of(4)?)?;
        }
    }
    None
}

/// Keeps one copy of a text for ever. There are only as many as there are operations and files in a program.
pub(crate) fn intern(text: String) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = lock(&TEXTS);
    if let Some(known) = texts.get(text.as_str()) {
        return known;
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    texts.insert(kept);
    kept
}

// ------------------------------------------------------------------------------------------------ capture

#[derive(Clone, Copy)]
struct Capture {
    encode: fn(&dyn Any) -> Result<Vec<u8>>,
    rebuild: Rebuild,
}

type Captures = HashMap<TypeId, Capture, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

fn captures() -> &'static Mutex<Captures> {
    static CAPTURES: OnceLock<Mutex<Captures>> = OnceLock::new();
    CAPTURES.get_or_init(Mutex::default)
}

thread_local! {
    /// Where a [`Held`] writes its environment when it is cloned, while somebody asks for it.
    static ASKED: RefCell<Option<Result<Vec<u8>>>> = const { RefCell::new(None) };
}

/// What a captured closure holds. Cloning it is how its environment is asked for through an opaque closure.
struct Held<E, G> {
    inner: Arc<(E, G)>,
}

impl<E: ExchangeData, G> Clone for Held<E, G> {
    fn clone(&self) -> Held<E, G> {
        ASKED.with_borrow_mut(|asked| {
            if let Some(answer) = asked {
                *answer = codec::encode(&self.inner.0);
            }
        });
        Held { inner: Arc::clone(&self.inner) }
    }
}

fn ask<C: Clone + 'static>(closure: &dyn Any) -> Result<Vec<u8>> {
    let closure = closure.downcast_ref::<C>().ok_or_else(|| crate::bug!("a capture is listed under another type"))?;
    ASKED.set(Some(Err(crate::bug!("a captured closure was cloned without its environment"))));
    let copy = closure.clone();
    let answer = ASKED.take();
    drop(copy);
    answer.unwrap_or_else(|| Err(crate::bug!("nobody asked for an environment")))
}

fn register<C: Clone + Send + Sync + 'static>(_closure: &C, rebuild: Rebuild) {
    lock(captures()).entry(TypeId::of::<C>()).or_insert(Capture { encode: ask::<C>, rebuild });
}

fn read_held<E: ExchangeData, G: 'static>(r: &mut PlanReader<'_>) -> Result<Held<E, G>> {
    let bytes: Vec<u8> = r.value()?;
    Ok(Held { inner: Arc::new((codec::decode(&bytes)?, conjure::<G>()?)) })
}

macro_rules! capture_family {
    ($(#[$doc:meta])* $name:ident, $bind:ident, <$($life:lifetime,)? $($arg:ident),*>, ($($x:ident: $ty:ty),*), $($r:tt)*) => {
        fn $bind<E: ExchangeData, G, $($arg,)* R>(
            held: Held<E, G>,
        ) -> impl $(for<$life>)? Fn($($ty),*) -> R + Clone + Send + Sync + 'static
        where
            G: $(for<$life>)? Fn(&E, $($ty),*) -> R + Send + Sync + 'static,
            $($arg: 'static,)*
            R: 'static,
        {
            move |$($x),*| {
                // The whole of it is captured, not its parts: cloning the closure must clone a `Held`.
                let held = &held;
                (held.inner.1)(&held.inner.0, $($x),*)
            }
        }

        $(#[$doc])*
        pub fn $name<E: ExchangeData, G, $($arg,)* R>(
            env: E,
            function: G,
        ) -> impl $(for<$life>)? Fn($($ty),*) -> R + Clone + Send + Sync + 'static
        where
            G: $(for<$life>)? Fn(&E, $($ty),*) -> R + Send + Sync + 'static,
            $($arg: 'static,)*
            R: 'static,
        {
            let closure = $bind::<E, G, $($arg,)* R>(Held { inner: Arc::new((env, function)) });
            if size_of::<G>() == 0 {
                register(&closure, |r| Ok(Box::new($bind::<E, G, $($arg,)* R>(read_held(r)?))));
            }
            closure
        }
    };
}

capture_family! {
    /// Says what a closure captures, so that it can travel: `env` is written with it and handed to every call.
    ///
    /// On the threads of one process every closure is welcome. Where stages travel to other processes, a closure
    /// that captures silently is refused before anything runs.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::{Context, capture};
    ///
    /// let context = Context::new("local[2]", "capture")?;
    /// let factor = 10u64;
    /// let tens = context.parallelize(vec![1u64, 2, 3], 2).map(capture(factor, |factor, x: u64| x * factor));
    /// assert_eq!(tens.collect()?, [10, 20, 30]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One indirection a call. `env` is written once a stage.
    capture, bind, <A>, (x: A),
}

capture_family! {
    /// As [`capture`], for closures that are given a reference, as `filter`'s.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::{Context, capture_ref};
    ///
    /// let context = Context::new("local[2]", "capture")?;
    /// let limit = 2u64;
    /// let high = context.parallelize(vec![1u64, 2, 3], 2).filter(capture_ref(limit, |limit, x: &u64| x > limit));
    /// assert_eq!(high.collect()?, [3]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    capture_ref, bind_ref, <'a, A>, (x: &'a A),
}

capture_family! {
    /// As [`capture`], for closures of two arguments, as `reduce`'s.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::{Context, capture2};
    ///
    /// let context = Context::new("local[2]", "capture")?;
    /// let modulus = 7u64;
    /// let product = context
    ///     .parallelize(vec![3u64, 4, 5], 2)
    ///     .reduce(capture2(modulus, |modulus, a: u64, b: u64| a * b % modulus))?;
    /// assert_eq!(product, 4);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    capture2, bind2, <A, B>, (x: A, y: B),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<F: Send + Sync + 'static>(f: F) -> Result<Closure<F>> {
        let mut w = PlanWriter::new();
        w.closure(&Closure::new(f, CallSite::here("map")))?;
        let bytes = w.finish()?;
        PlanReader::new(&bytes)?.closure()
    }

    #[test]
    fn a_closure_without_captures_travels_as_its_type() {
        let back = there_and_back(|x: u64| x + 1).unwrap();
        assert_eq!(back(2), 3);
        assert_eq!(back.site().op(), "map");
        assert!(back.site().file().ends_with("ship.rs"));
    }

    #[test]
    fn what_is_captured_by_name_travels_as_bytes() {
        let words = vec!["a".to_owned(), "b".to_owned()];
        let back = there_and_back(capture(words, |words, i: usize| words[i].clone())).unwrap();
        assert_eq!(back(1), "b");
        let back = there_and_back(capture_ref(5u64, |limit, x: &u64| x > limit)).unwrap();
        assert!(back(&6) && !back(&5));
        let back = there_and_back(capture2(7u64, |m, a: u64, b: u64| (a + b) % m)).unwrap();
        assert_eq!(back(5, 4), 2);
    }

    #[test]
    fn all_closures_that_capture_silently_are_reported_with_their_lines() {
        let limit = std::hint::black_box(3u64);
        let mut w = PlanWriter::new();
        w.closure(&Closure::new(move |x: u64| x > limit, CallSite::here("filter"))).unwrap();
        w.closure(&Closure::new(|x: u64| x + 1, CallSite::here("map"))).unwrap();
        w.closure(&Closure::new(capture((), move |(), x: u64| x + limit), CallSite::here("map"))).unwrap();
        let error = w.finish().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User);
        let text = error.to_string();
        assert!(text.starts_with("2 closures cannot travel"), "{text}");
        assert_eq!(text.matches("ship.rs:").count(), 2, "{text}");
    }

    #[test]
    fn another_build_garbage_and_forged_offsets_are_refused() {
        let mut other = PlanWriter::default();
        other.value(&(MAGIC, "some other build")).unwrap();
        let error = PlanReader::new(&other.bytes).unwrap_err();
        assert!(error.to_string().contains("some other build"), "{error}");
        assert_eq!(PlanReader::new(b"garbage").unwrap_err().kind(), ErrorKind::Data);
        let mut forged = PlanWriter::new();
        forged.bytes.extend_from_slice(&0x7000_0000_0000_0000u64.to_le_bytes());
        let error = PlanReader::new(&forged.bytes).unwrap().rebuilt::<u64>().unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
        let cut = PlanWriter::new();
        assert_eq!(PlanReader::new(&cut.bytes).unwrap().rebuilt::<u64>().unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn code_of_the_wrong_result_is_refused() {
        let mut w = PlanWriter::new();
        w.code(|_| Ok(Box::new(7u64)));
        let bytes = w.finish().unwrap();
        assert_eq!(PlanReader::new(&bytes).unwrap().rebuilt::<u64>().unwrap(), 7);
        assert_eq!(PlanReader::new(&bytes).unwrap().rebuilt::<u32>().unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn a_build_id_is_found_in_notes_and_wild_lengths_do_no_harm() {
        assert!(!build_id().is_empty());
        let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for cut in [0, 6, 40, 64, 300, 4096] {
            let _ = gnu_build_id(&exe[..cut.min(exe.len())]);
        }
        let mut wild = exe[..64.min(exe.len())].to_vec();
        wild.extend(std::iter::repeat_n(0xff, 4096));
        let _ = gnu_build_id(&wild);
    }
}
