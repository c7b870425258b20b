//! Misuse that types forbid: what must not compile, and how kindly the compiler says so.
//!
//! Each file in `ui` is a program with one mistake; beside it is what the compiler says. To accept what it says now:
//! `TRYBUILD=overwrite cargo test -p millstream-streaming --test ui`.

#[test]
fn what_types_forbid_does_not_compile_and_says_what_is_missing() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
