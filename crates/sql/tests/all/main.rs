//! SQL on streams. One binary, as each that holds DataFusion takes long to link.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod avro;
mod buckets;
mod continuous;
mod examples;
mod flat;
mod frames;
mod functions;
mod rows;
mod serde_rows;
mod spark;
mod streams;
mod warehouse;
