//! Where a program answers, whom, and how much at most.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use millstream_core::{Error, ErrorKind, Result, secs};

/// Where a program answers questions about its live tables, whom, and how much at most.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_sql_live::ServeSpec;
///
/// let spec = ServeSpec::at("127.0.0.1:5432").password("ann", "a long secret").statement_timeout(secs(5));
/// # let _ = spec;
/// ```
#[derive(Clone)]
pub struct ServeSpec {
    pub(crate) address: String,
    pub(crate) password: Option<(String, String)>,
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) limits: Limits,
}

/// How much at most. What is beyond is refused with an error that says so.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// How long a statement may run, apart from waiting for who reads its rows.
    pub(crate) statement: Duration,
    /// How long a transaction, or a statement that is read slowly, may keep its batch.
    pub(crate) age: Duration,
    /// How many bytes all statements may hold together, apart from the tables.
    pub(crate) memory: usize,
    pub(crate) rows: usize,
    pub(crate) connections: usize,
    /// On how many threads statements run.
    pub(crate) threads: usize,
    /// How long somebody may take to say who he is.
    pub(crate) startup: Duration,
    /// Whether who does not speak TLS is sent away.
    pub(crate) tls_only: bool,
}

/// How many statements a connection may have prepared, and how many cursors open.
pub(crate) const PREPARED: usize = 1000;

impl ServeSpec {
    /// Answers at an address, as `127.0.0.1:5432`. At port 0, the system chooses one.
    ///
    /// At an address that other machines can reach a [`password`](Self::password) is needed.
    pub fn at(address: impl Into<String>) -> ServeSpec {
        let limits = Limits {
            statement: secs(30),
            age: secs(60),
            memory: 256 << 20,
            rows: 1_000_000,
            connections: 100,
            threads: 2,
            startup: secs(10),
            tls_only: false,
        };
        ServeSpec { address: address.into(), password: None, tls: None, limits }
    }

    /// Answers nobody but this user, who knows this password. It is never sent: both sides prove that they know it (SCRAM-SHA-256).
    #[must_use]
    pub fn password(mut self, user: impl Into<String>, password: impl Into<String>) -> ServeSpec {
        self.password = Some((user.into(), password.into()));
        self
    }

    /// Speaks TLS with who asks for it; with others in the clear, unless [`tls_only`](Self::tls_only) says otherwise. Both files are PEM:
    /// the certificate with what signed it, and its key.
    ///
    /// Clients that can bind their password to the certificate are asked to (SCRAM-SHA-256-PLUS): then who has another one between
    /// the two learns nothing, although the client believes it.
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> ServeSpec {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// Answers nobody who does not speak TLS. A password is never sent in the clear anyway; with this, rows are not, either.
    #[must_use]
    pub fn tls_only(mut self) -> ServeSpec {
        self.limits.tls_only = true;
        self
    }

    /// How long a statement may run: 30 seconds, unless told otherwise. A client may ask for less (`SET statement_timeout`).
    #[must_use]
    pub fn statement_timeout(mut self, timeout: Duration) -> ServeSpec {
        self.limits.statement = timeout;
        self
    }

    /// How long a transaction may keep its batch: a minute, unless told otherwise. What later batches change is kept for as long.
    #[must_use]
    pub fn transaction_age(mut self, age: Duration) -> ServeSpec {
        self.limits.age = age;
        self
    }

    /// How many bytes all statements may hold together, beside the tables themselves: 256 MiB, unless told otherwise.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> ServeSpec {
        self.limits.memory = bytes;
        self
    }

    /// How many rows a statement may give: a million, unless told otherwise.
    #[must_use]
    pub fn rows(mut self, rows: usize) -> ServeSpec {
        self.limits.rows = rows;
        self
    }

    /// How many connections there may be at once: 100, unless told otherwise.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> ServeSpec {
        self.limits.connections = connections.max(1);
        self
    }

    /// On how many threads statements run: two, unless told otherwise. What they take of the processor the batches have not. Short
    /// look-ups of one key are answered without them.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> ServeSpec {
        self.limits.threads = threads.max(1);
        self
    }

    /// Whether TLS can be spoken if nothing else may be.
    pub(crate) fn check_tls(&self) -> Result<()> {
        match self.limits.tls_only && self.tls.is_none() {
            true => Err(Error::new(
                ErrorKind::Config,
                "ServeSpec::tls_only has no certificate to speak TLS with: say ServeSpec::tls(certificate, key)",
            )),
            false => Ok(()),
        }
    }

    /// The addresses it means, if it may be bound to them.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let wrong = |text: String| Error::new(ErrorKind::Config, text);
        let found = self.address.to_socket_addrs().map_err(|e| {
            wrong(format!("`{}` is no address to serve at: {e}; write one as 127.0.0.1:5432", self.address))
        })?;
        let found: Vec<SocketAddr> = found.collect();
        if self.password.is_none()
            && let Some(open) = found.iter().find(|address| !address.ip().is_loopback())
        {
            return Err(wrong(format!(
                "{open} can be reached from other machines: give a password (ServeSpec::password), or serve at 127.0.0.1"
            )));
        }
        Ok(found)
    }
}

impl fmt::Debug for ServeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the password.
        let user = self.password.as_ref().map(|(user, _)| user);
        f.debug_struct("ServeSpec")
            .field("address", &self.address)
            .field("user", &user)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .finish()
    }
}
