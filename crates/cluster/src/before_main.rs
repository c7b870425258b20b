//! Executors of programs whose `main` is not theirs: test binaries. What is asked for in `main` elsewhere is asked before it.
//!
//! This is one of the argued `unsafe` files: docs/adr/0026-a-job-is-a-query-of-ballista.md.

#![allow(unsafe_code)]

use crate::executor::be_executor_before_main;

extern "C" fn before_main() {
    // Nobody is above this who could take a panic.
    if std::panic::catch_unwind(be_executor_before_main).is_err() {
        std::process::abort();
    }
}

// SAFETY: the loader calls what this section lists, with the C calling convention, before `main`, on the one thread that
// there is; whatever arguments it hands over are ignored, which that convention allows. What is called does nothing unless
// the environment asks for it; then it uses files, threads and sockets, none of which need a `main` on the systems that have
// this section, and ends the process.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;
