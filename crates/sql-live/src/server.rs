//! The port: who comes is given a connection, as long as there is room.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ErrorKind, Result, millis, secs};
use millstream_sql::SqlContext;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};

use crate::catalog;
use crate::dialect::Dialect;
use crate::handler::Handler;
use crate::limits::ServeSpec;
use crate::prepared::Reader;
use crate::session::{Cancels, Connection, House};
use crate::startup::{Account, Keys, Startup};
use crate::tls::Tls;
use crate::wire::{self, Answers};

/// Opens a port at which the tables of a program can be asked.
pub trait ServeSql {
    /// Answers questions about the live and static tables at an address of this machine, in the protocol of Postgres, until the program
    /// ends or [`Server::stop`] is called.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Context;
    /// use millstream_sql::SqlContext;
    /// use millstream_sql_live::ServeSql as _;
    ///
    /// let context = Context::new("local[2]", "doc")?;
    /// let sql = SqlContext::get_or_create(&context)?;
    /// let server = sql.serve("127.0.0.1:0")?;
    /// println!("psql -h {} -p {}", server.address().ip(), server.address().port());
    /// server.stop();
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the address is none, or other machines can reach it, for which [`serve_with`](Self::serve_with) takes a
    /// password. The kind is `Unavailable`: the port is taken, or the system gives no thread.
    ///
    /// # Cost
    ///
    /// Statements take the processor from the batches on two threads at most, and nothing else: no batch waits for one. What asks a state
    /// for one key is answered by the threads that speak with clients, two as well.
    ///
    /// # Spark
    ///
    /// The Thrift server, which knows no state of a DStream.
    fn serve(&self, address: &str) -> Result<Server>;

    /// As [`serve`](Self::serve), with a password, TLS, and other limits.
    ///
    /// # Errors
    ///
    /// As `serve`'s; and a certificate or a key that cannot be read.
    fn serve_with(&self, spec: ServeSpec) -> Result<Server>;
}

impl ServeSql for SqlContext {
    fn serve(&self, address: &str) -> Result<Server> {
        self.serve_with(ServeSpec::at(address))
    }

    fn serve_with(&self, spec: ServeSpec) -> Result<Server> {
        Server::start(self, &spec)
    }
}

/// A port that is open. It stays so when this is dropped: [`stop`](Self::stop) closes it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Mutex<Option<OwnedThread>>,
}

impl Server {
    fn start(sql: &SqlContext, spec: &ServeSpec) -> Result<Server> {
        let addresses = spec.addresses()?;
        let account = spec.password.as_ref().map(|(user, password)| Account::new(user, password)).transpose()?;
        spec.check_tls()?;
        let tls = spec.tls.as_ref().map(|(certificate, key)| Tls::new(certificate, key)).transpose()?;
        let taken = |e| Error::io(ErrorKind::Unavailable, format!("{} cannot be served at", spec.address), e);
        let listener = TcpListener::bind(&addresses[..]).map_err(taken)?;
        listener.set_nonblocking(true).map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let base = catalog::session(sql, &spec.limits)?;
        let queries = runtime("sql-query", spec.limits.threads)?;
        let wires = runtime("sql-wire", 2)?;
        let house = House::new(sql, base, spec.limits.clone(), queries.handle().clone());
        let door =
            Door { house: Arc::new(house), account, tls, keys: Arc::default(), dialect: Arc::new(Dialect::new()) };
        let (stop, stopped) = oneshot::channel();
        let thread = threads::spawn("sql-live", move || {
            wires.block_on(door.open(listener, stopped));
            wires.shutdown_timeout(secs(1));
            queries.shutdown_timeout(secs(1));
        })?;
        Ok(Server { address, stop: Some(stop), thread: Mutex::new(Some(thread)) })
    }

    /// Returns the address at which it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and all connections, and waits for that.
    pub fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = lock(&self.thread).take() {
            thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It runs on: the word to stop is never given.
            std::mem::forget(stop);
        }
        if let Some(thread) = lock(&self.thread).take() {
            thread.detach();
        }
    }
}

fn runtime(name: &str, threads: usize) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|e| Error::io(ErrorKind::Unavailable, "the threads of live queries could not be started", e))
}

/// What each connection is made of.
struct Door {
    house: Arc<House>,
    account: Option<Account>,
    tls: Option<Tls>,
    keys: Arc<Keys>,
    dialect: Arc<Dialect>,
}

/// How long to wait when the system has nothing left for a connection.
const PAUSE: Duration = millis(100);

impl Door {
    async fn open(self, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the port of live queries cannot be used");
                return;
            }
        };
        let room = Arc::new(Semaphore::new(self.house.limits.connections));
        loop {
            let socket = tokio::select! {
                _ = &mut stopped => return,
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => socket,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            match Arc::clone(&room).try_acquire_owned() {
                Ok(place) => {
                    let (answers, tls) = (self.answers(), self.tls.clone());
                    let house = Arc::clone(&self.house);
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = wire::speak(socket, tls, answers, &house.limits).await {
                            tracing::debug!(%error, "a connection of a live query broke");
                        }
                    });
                }
                Err(_) => drop(tokio::spawn(full(socket))),
            }
        }
    }

    fn answers(&self) -> Answers {
        let connection = Connection::new(&self.house);
        let reader = Reader::new(&connection, &self.dialect);
        Answers {
            startup: Arc::new(Startup::new(&connection, self.account.as_ref(), self.tls.as_ref(), &self.keys)),
            handler: Arc::new(Handler::new(&connection, reader)),
            cancels: Arc::new(Cancels(Arc::clone(&self.house))),
        }
    }
}

/// Says that there is no room.
async fn full(mut socket: TcpStream) {
    let fields = b"SFATAL\0VFATAL\0C53300\0Msorry, too many clients already: say ServeSpec::connections\0\0";
    let mut message = vec![b'E'];
    message.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
    message.extend_from_slice(fields);
    let saying = async {
        socket.write_all(&message).await?;
        socket.shutdown().await
    };
    // Whether it hears it or not.
    let _ = tokio::time::timeout(secs(1), saying).await;
    wire::hear_out(&mut socket).await;
}
