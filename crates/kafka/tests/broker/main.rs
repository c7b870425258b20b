//! What the crate does with a real broker, at `MILLSTREAM_KAFKA`, with the feature `broker-tests`: `.ci/with-kafka`
//! starts one.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod allowed;
mod bad_input;
mod common;
mod direct;
mod marks;
mod proxy;
mod reading;
mod receiver;
mod secrets;
mod sink;
mod world;
