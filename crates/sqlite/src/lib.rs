//! A SQLite database as a sink that takes each batch exactly once.
//!
//! A batch's rows are staged in a transaction of their own while the batch runs. When the end of the batch is durable
//! in the program's checkpoint, a second transaction moves them to their table, and notes the batch's key and the
//! fencing token of the run. So whoever reads the table sees whole batches, each once, whenever the machine stopped.
//! What lies in the database beside the program's own tables is told in `docs/specs/sqlite.md`.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("counts.db");
//! use millstream_sqlite::SqliteSink;
//!
//! let sink = SqliteSink::open(&path)?.execute("CREATE TABLE IF NOT EXISTS counts (word TEXT PRIMARY KEY, n
//! INTEGER)")?; let counts = sink.table("counts", ["word", "n"])?.upsert_on(["word"])?;
//! # use millstream_testkit::doc::*;
//! # run([vec!["to", "be"], vec!["be"]], move |words| {
//! words
//!     .map(|word| (word, 1u64))
//!     .update_state_by_key(|new, old: Option<u64>| Some(old.unwrap_or(0) + new.len() as u64))
//!     .save_to(counts.clone())
//!     .uid("counts");
//! # });
//! assert_eq!(sink.query("SELECT word, n FROM counts ORDER BY word")?, [["be".into(), 2.into()], ["to".into(),
//! 1.into()]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod sink;
mod sql;
mod staging;
mod table;
mod value;

pub use self::sink::SqliteSink;
pub use self::staging::StagedBatch;
pub use self::table::{SqliteRows, SqliteTable};
pub use self::value::{IntoRow, SqlValue};
