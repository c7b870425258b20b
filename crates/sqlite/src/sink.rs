//! The connection to a database, which all tables of a program share.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, secs};
use rusqlite::{Connection, OpenFlags};

use crate::error::failed;
use crate::sql::{BATCHES, OUTPUTS};
use crate::table::SqliteTable;
use crate::value::SqlValue;

/// How long a statement waits for others that write to the same file, unless told otherwise.
const BUSY: Duration = secs(5);

/// A SQLite database whose tables are sinks.
///
/// Clones share one connection. The file is kept in the mode WAL, so that others read while batches come in, and each
/// transaction waits for the disk (`synchronous = FULL`): exactly once holds when the power goes, too.
///
/// # Example
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("clicks.db");
/// use millstream_sqlite::SqliteSink;
///
/// let sink = SqliteSink::open(&path)?.execute("CREATE TABLE IF NOT EXISTS clicks (page TEXT, n INTEGER)")?;
/// let clicks = sink.table("clicks", ["page", "n"])?;
/// let error = sink.table("clicks", ["page", "count"]).unwrap_err();
/// assert!(error.to_string().contains("has no column `count`: it has page, n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteSink {
    database: Arc<Database>,
}

pub(crate) struct Database {
    pub(crate) path: PathBuf,
    connection: Mutex<Connection>,
}

impl Database {
    pub(crate) fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(&self.connection)
    }

    pub(crate) fn failed(&self, doing: impl fmt::Display, error: &rusqlite::Error) -> Error {
        failed(doing, &self.path, error)
    }
}

impl SqliteSink {
    /// Opens a database, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if it is a folder, or in a folder that is not there; `Data` if the file is no database;
    /// `Unavailable` if it cannot be written, or another process writes to it for too long.
    pub fn open(path: impl AsRef<Path>) -> Result<SqliteSink> {
        let path = path.as_ref();
        if path.is_dir() {
            let text = format!("a SQLite sink writes to a file, and {} is a folder: name a file in it", path.display());
            return Err(Error::new(ErrorKind::Config, text));
        }
        let fail = |error: rusqlite::Error| failed("opening a SQLite sink", path, &error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
        connection.busy_timeout(BUSY).map_err(fail)?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(fail)?;
        if mode != "wal" {
            let text = format!(
                "the database {} cannot be kept in the mode WAL (it stays in `{mode}`): put it on a file system of \
                 this machine",
                path.display()
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        connection.pragma_update(None, "synchronous", "full").map_err(fail)?;
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {OUTPUTS}; {BATCHES}; COMMIT")).map_err(fail)?;
        let database = Database { path: path.to_owned(), connection: Mutex::new(connection) };
        Ok(SqliteSink { database: Arc::new(database) })
    }

    /// Sets how long a statement waits for others that write to the same file. The default is 5 seconds.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable` if the database refuses.
    pub fn busy_timeout(self, timeout: Duration) -> Result<SqliteSink> {
        let set = self.database.connection().busy_timeout(timeout);
        set.map_err(|error| self.database.failed("setting busy_timeout", &error))?;
        Ok(self)
    }

    /// Runs statements at once, to make tables and indexes, say. It runs with every start, so it should say
    /// `IF NOT EXISTS`.
    ///
    /// # Errors
    ///
    /// What the database answers, by kind.
    pub fn execute(self, sql: &str) -> Result<SqliteSink> {
        let done = self.database.connection().execute_batch(sql);
        done.map_err(|error| self.database.failed(format_args!("running `{sql}`"), &error))?;
        Ok(self)
    }

    /// Returns what a question gives, a list a row: for tests and small programs.
    ///
    /// # Errors
    ///
    /// What the database answers, by kind.
    ///
    /// # Cost
    ///
    /// All rows are in memory, and no batch is written meanwhile. For more, open the file with a library for SQLite.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<SqlValue>>> {
        let fail = |error: rusqlite::Error| self.database.failed(format_args!("running `{sql}`"), &error);
        let connection = self.database.connection();
        let mut statement = connection.prepare(sql).map_err(fail)?;
        let width = statement.column_count();
        let rows = statement.query_map([], |row| (0..width).map(|i| Ok(row.get_ref(i)?.into())).collect());
        rows.map_err(fail)?.map(|row| row.map_err(fail)).collect()
    }

    /// Returns a table as a sink: what is given to [`save_to`](millstream_streaming::DStream::save_to). Each row is a
    /// new one; [`SqliteTable::upsert_on`] replaces rows.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if there is no such table, or it has no such column; the message lists those that it has.
    pub fn table<C: Into<String>>(
        &self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Result<SqliteTable> {
        let columns = columns.into_iter().map(Into::into).collect();
        SqliteTable::new(Arc::clone(&self.database), name.into(), columns)
    }
}

impl fmt::Debug for SqliteSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteSink({})", self.database.path.display())
    }
}
