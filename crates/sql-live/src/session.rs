//! One connection: its transaction, the batch that it sees, what it has open, and how it is cancelled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::SessionState;
use millstream_core::threads::lock;
use millstream_sql::SqlContext;
use millstream_sql::live::LiveBatch;
use pgwire::api::cancel::CancelHandler;
use pgwire::api::results::FieldInfo;
use pgwire::error::PgWireResult;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::error::{TOO_OLD, error};
use crate::limits::{Limits, PREPARED};
use crate::message::LONG;

/// What all connections of a server share.
pub(crate) struct House {
    pub(crate) sql: SqlContext,
    pub(crate) base: SessionState,
    pub(crate) limits: Limits,
    /// The threads on which statements run.
    pub(crate) queries: Handle,
    cancels: Mutex<HashMap<(i32, Bytes), Weak<Connection>>>,
}

impl House {
    pub(crate) fn new(sql: &SqlContext, base: SessionState, limits: Limits, queries: Handle) -> House {
        House { sql: sql.clone(), base, limits, queries, cancels: Mutex::default() }
    }
}

/// Cancels what a connection does, for who knows its key.
pub(crate) struct Cancels(pub(crate) Arc<House>);

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let connection =
            lock(&self.0.cancels).get(&(request.pid, request.secret_key.to_bytes())).and_then(Weak::upgrade);
        if let Some(connection) = connection {
            connection.cancel();
        }
    }
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) house: Arc<House>,
    /// Its own copy of what statements know: nothing that one client does is seen by another.
    pub(crate) session: Arc<tokio::sync::Mutex<SessionState>>,
    state: Mutex<State>,
    cancelled: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    key: Option<(i32, Bytes)>,
    transaction: Option<Transaction>,
    begun: u64,
    timeout: Option<Duration>,
    settings: BTreeMap<String, String>,
    prepared: BTreeSet<String>,
    /// The portals that a client has bound to names, and how many bytes of values they have.
    bound: BTreeMap<String, usize>,
    cursors: BTreeMap<String, Arc<Vec<FieldInfo>>>,
    /// What runs, so that it can be ended.
    running: Vec<AbortHandle>,
}

struct Transaction {
    number: u64,
    /// Nothing when it has grown too old.
    batch: Option<Arc<LiveBatch>>,
}

impl Connection {
    pub(crate) fn new(house: &Arc<House>) -> Arc<Connection> {
        let session = Arc::new(tokio::sync::Mutex::new(house.base.clone()));
        let (cancelled, _) = watch::channel(0);
        Arc::new(Connection { house: Arc::clone(house), session, state: Mutex::default(), cancelled })
    }

    /// Makes it known under a key, by which it can be cancelled.
    pub(crate) fn known_as(self: &Arc<Self>, pid: i32, key: &SecretKey) {
        let key = key.to_bytes();
        lock(&self.state).key = Some((pid, key.clone()));
        lock(&self.house.cancels).insert((pid, key), Arc::downgrade(self));
    }

    /// Ends what it does at the moment.
    fn cancel(&self) {
        self.cancelled.send_modify(|count| *count += 1);
    }

    /// Is told of cancellations from now on.
    pub(crate) fn cancellations(&self) -> watch::Receiver<u64> {
        self.cancelled.subscribe()
    }

    /// Takes note of something that runs for it, to be ended with it.
    pub(crate) fn runs(&self, handle: AbortHandle) {
        let mut state = lock(&self.state);
        state.running.retain(|running| !running.is_finished());
        state.running.push(handle);
    }

    /// The batch that a statement sees: its transaction's, or else the newest.
    pub(crate) fn batch(&self) -> PgWireResult<Arc<LiveBatch>> {
        match &lock(&self.state).transaction {
            None => Ok(self.house.sql.live().newest()),
            Some(Transaction { batch: Some(batch), .. }) => Ok(Arc::clone(batch)),
            Some(Transaction { batch: None, .. }) => Err(error(
                TOO_OLD,
                format!(
                    "the transaction is older than {:?}, and its batch has been let go: ROLLBACK and BEGIN anew",
                    self.house.limits.age
                ),
            )),
        }
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        lock(&self.state).transaction.is_some()
    }

    /// Begins a transaction, which keeps the newest batch until it ends or grows too old.
    pub(crate) fn begin(self: &Arc<Self>) {
        let batch = Some(self.house.sql.live().newest());
        let number = {
            let mut state = lock(&self.state);
            if state.transaction.is_some() {
                return;
            }
            state.begun += 1;
            let number = state.begun;
            state.transaction = Some(Transaction { number, batch });
            number
        };
        let (connection, age) = (Arc::downgrade(self), self.house.limits.age);
        tokio::spawn(async move {
            tokio::time::sleep(age).await;
            if let Some(connection) = connection.upgrade() {
                connection.grown_old(number);
            }
        });
    }

    fn grown_old(&self, transaction: u64) {
        let batch = {
            let mut state = lock(&self.state);
            match &mut state.transaction {
                Some(open) if open.number == transaction => open.batch.take(),
                _ => return,
            }
        };
        self.end_all();
        drop(batch);
    }

    /// Ends the transaction, if there is one. Its cursors and what was bound end with it.
    pub(crate) fn end(&self) -> Vec<String> {
        let (transaction, cursors, bound) = {
            let mut state = lock(&self.state);
            (state.transaction.take(), std::mem::take(&mut state.cursors), std::mem::take(&mut state.bound))
        };
        drop(transaction);
        cursors.into_keys().chain(bound.into_keys()).collect()
    }

    /// Ends all that runs for it.
    pub(crate) fn end_all(&self) {
        let running = std::mem::take(&mut lock(&self.state).running);
        running.iter().for_each(AbortHandle::abort);
    }

    /// How long a statement may run: what the client has asked for, or what the program allows.
    pub(crate) fn timeout(&self) -> Duration {
        let most = self.house.limits.statement;
        lock(&self.state).timeout.map_or(most, |asked| asked.min(most))
    }

    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) {
        lock(&self.state).timeout = timeout.filter(|timeout| !timeout.is_zero());
    }

    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        lock(&self.state).settings.get(name).cloned()
    }

    pub(crate) fn set(&self, name: &str, value: Option<String>) {
        let mut state = lock(&self.state);
        match value {
            Some(value) => drop(state.settings.insert(name.to_owned(), value)),
            None => drop(state.settings.remove(name)),
        }
    }

    pub(crate) fn reset_all(&self) {
        let mut state = lock(&self.state);
        state.settings.clear();
        state.timeout = None;
    }

    /// Counts what it has prepared, by name. Returns how many there are.
    pub(crate) fn prepared(&self, name: &str) -> usize {
        let mut state = lock(&self.state);
        state.prepared.insert(name.to_owned());
        state.prepared.len()
    }

    pub(crate) fn unprepared(&self, name: &str) {
        lock(&self.state).prepared.remove(name);
    }

    pub(crate) fn all_prepared(&self) -> BTreeSet<String> {
        std::mem::take(&mut lock(&self.state).prepared)
    }

    /// Counts a portal that is bound to a name, with the bytes of its values; not if these would be too many.
    pub(crate) fn bound(&self, portal: &str, bytes: usize) -> bool {
        let bound = &mut lock(&self.state).bound;
        bound.remove(portal);
        let fits = bound.len() < PREPARED && bound.values().sum::<usize>() + bytes <= LONG;
        if fits {
            bound.insert(portal.to_owned(), bytes);
        }
        fits
    }

    pub(crate) fn unbound(&self, portal: &str) {
        lock(&self.state).bound.remove(portal);
    }

    pub(crate) fn all_bound(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).bound).into_keys().collect()
    }

    /// Counts a cursor, with the columns that it gives. Returns how many there are.
    pub(crate) fn opened(&self, cursor: &str, fields: &Arc<Vec<FieldInfo>>) -> usize {
        let mut state = lock(&self.state);
        state.cursors.insert(cursor.to_owned(), Arc::clone(fields));
        state.cursors.len()
    }

    pub(crate) fn cursor(&self, cursor: &str) -> Option<Arc<Vec<FieldInfo>>> {
        lock(&self.state).cursors.get(cursor).cloned()
    }

    pub(crate) fn closed(&self, cursor: Option<&str>) -> Vec<String> {
        let mut state = lock(&self.state);
        match cursor {
            Some(cursor) => state.cursors.remove(cursor).map(|_| cursor.to_owned()).into_iter().collect(),
            None => std::mem::take(&mut state.cursors).into_keys().collect(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end_all();
        if let Some(key) = lock(&self.state).key.take() {
            lock(&self.house.cancels).remove(&key);
        }
    }
}
