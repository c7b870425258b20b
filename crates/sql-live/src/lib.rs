//! A running program's tables, asked over the protocol of Postgres: by `psql`, by drivers, by whatever draws charts.
//!
//! [`serve`](ServeSql::serve) opens a port at which every live table of a [`SqlContext`](millstream_sql::SqlContext) can be read: the
//! newest batch of registered streams and windows, the states of keys, and static tables. A statement sees exactly one batch, whole; a
//! transaction keeps its batch. Nothing can be written, and nothing that is asked slows the batches but by the time of the processor
//! that it takes.
//!
//! ```text
//!   socket ─► tls.rs ─► wire.rs: messages, checked ─► startup.rs: who is it ─► session.rs: one connection, its transaction and batch
//!                                                                      │  dialect.rs, command.rs: what is asked (pure)
//!   rows  ◄─ rows.rs ◄─ counted, cancelled ◄─ run.rs ◄─ threads of their own ◄─ catalog.rs: tables, functions, pg_catalog
//! ```

mod any;
mod catalog;
mod command;
mod dialect;
mod error;
mod functions;
#[cfg(test)]
mod fuzzing;
mod handler;
mod kept;
mod limits;
mod message;
mod prepared;
mod rows;
mod run;
mod scram;
mod server;
mod session;
mod startup;
mod tls;
mod wire;

pub use self::limits::ServeSpec;
pub use self::server::{ServeSql, Server};

/// The guide's programs run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/book/11-live-queries.md")]
struct Book;
