//! Runs a target by its name, and bounds what it may allocate.

use std::sync::Arc;

use cap::Cap;
use millstream_testkit::SimDisk;

pub use libfuzzer_sys;

// Two files of a crate that is not built here, as DataFusion would be, too.
#[path = "../../crates/sql-live/src/fuzzing.rs"]
mod clients;
#[allow(dead_code, reason = "that messages are refused is enough here")]
#[path = "../../crates/sql-live/src/message.rs"]
mod message;

/// Counts, and ends the process where a target takes more than its input can be worth.
#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// What a target may take whatever its input: buffers, a decoder.
const FIXED: usize = 16 << 20;

/// What it may take for each byte of its input. Compressed text grows a thousandfold, and is held twice.
fn each(name: &str) -> usize {
    if name == "gzip_lines" { 8 << 10 } else { 512 }
}

/// Makes the entry of a fuzzer of one target.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $crate::run($name, bytes));
    };
}

/// Runs a target.
///
/// # Panics
///
/// If a law is broken; or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let limit = ALLOCATOR.allocated() + FIXED + bytes.len() * each(name);
    ALLOCATOR.set_limit(limit).expect("the limit is above what is allocated");
    if let Some((_, target)) = millstream_core::fuzzing::TARGETS.iter().find(|(other, _)| *other == name) {
        target(bytes);
    } else if let Some((_, target)) = millstream_streaming::fuzzing::TARGETS.iter().find(|(other, _)| *other == name) {
        target(bytes, &|| Arc::new(SimDisk::new(0)));
    } else if let Some((_, target)) = clients::TARGETS.iter().find(|(other, _)| *other == name) {
        target(bytes);
    } else {
        panic!("there is no target {name}");
    }
    ALLOCATOR.set_limit(usize::MAX).expect("there is no limit");
}
