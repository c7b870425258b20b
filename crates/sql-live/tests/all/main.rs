//! Live queries, by clients. One binary, as each that holds DataFusion takes long to link.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod clients;
mod edges;
mod examples;
mod hostile;
mod house;
mod isolation;
mod secure;
mod states;
mod tables;
mod transactions;
