//! What the crate does with several brokers whose leaders move, and with one whose disk is full. The tests start brokers of
//! their own, from the jars at `MILLSTREAM_KAFKA_JARS`, with the feature `broker-tests`: `.ci/with-kafka` says where they are.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod counted;
mod full;
mod moving;
mod nodes;
#[path = "../../../cluster/tests/all/small_disk.rs"]
mod small_disk;
