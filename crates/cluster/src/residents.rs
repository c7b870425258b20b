//! What runs on executors beside tasks: receivers. The driver's side; the executor's is in `lodgers.rs`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use millstream_core::clock::Wake;
use millstream_core::plan::resident::{ResidentHost, Residents};
use millstream_core::storage::BlockId;
use millstream_core::threads::lock;
use millstream_core::{Env, Error, ErrorKind, ExecutorInfo, Result};

use crate::desk::Tell;
use crate::driver::Inner;
use crate::reception::info;

/// What runs where, and who wants to know when there are other executors.
#[derive(Default)]
pub(crate) struct Lodged {
    next: AtomicU64,
    by: Mutex<BTreeMap<u64, Lodger>>,
    watching: Mutex<Vec<Weak<dyn Wake>>>,
}

#[derive(Clone)]
struct Lodger {
    executor: Arc<str>,
    engine: u64,
    host: Arc<dyn ResidentHost>,
}

impl Lodged {
    /// Answers what a resident on `executor` asks.
    ///
    /// # Errors
    ///
    /// What its host answers; of the kind `Stopped` if it has been let go.
    pub(crate) fn asked(&self, executor: &str, resident: u64, message: Bytes) -> Result<Bytes> {
        let lodger = lock(&self.by).get(&resident).filter(|lodger| *lodger.executor == *executor).cloned();
        let gone = || Error::new(ErrorKind::Stopped, "what asks has been let go by the driver");
        lodger.ok_or_else(gone)?.host.asked(resident, message)
    }

    /// Takes note that a resident on `executor` is over.
    pub(crate) fn over(&self, executor: &str, resident: u64, how: Result<()>) {
        let lodger = {
            let mut by = lock(&self.by);
            if by.get(&resident).is_none_or(|lodger| *lodger.executor != *executor) {
                return;
            }
            by.remove(&resident)
        };
        if let Some(lodger) = lodger {
            lodger.host.over(resident, how);
        }
    }

    /// Takes note that an executor is lost, with all that ran there.
    pub(crate) fn lost(&self, executor: &str, why: &str) {
        let lost: Vec<(u64, Lodger)> = lock(&self.by).extract_if(.., |_, at| *at.executor == *executor).collect();
        for (resident, lodger) in lost {
            lodger.host.over(resident, Err(Error::new(ErrorKind::Unavailable, format!("its executor is lost: {why}"))));
        }
        self.wake();
    }

    /// Has all that runs on an executor end, as it is about to leave.
    pub(crate) fn leaves(&self, executor: &str) {
        for (resident, lodger) in self.on(executor) {
            lodger.host.leaves(resident);
        }
    }

    fn on(&self, executor: &str) -> Vec<(u64, Lodger)> {
        let by = lock(&self.by);
        by.iter().filter(|(_, at)| *at.executor == *executor).map(|(number, at)| (*number, at.clone())).collect()
    }

    /// Says whether anything runs on an executor.
    pub(crate) fn is_on(&self, executor: &str) -> bool {
        lock(&self.by).values().any(|lodger| *lodger.executor == *executor)
    }

    /// Wakes who waits for other executors.
    pub(crate) fn wake(&self) {
        let awake: Vec<_> = {
            let mut watching = lock(&self.watching);
            watching.retain(|waker| waker.strong_count() > 0);
            watching.iter().filter_map(Weak::upgrade).collect()
        };
        awake.iter().for_each(|waker| waker.wake());
    }
}

impl Residents for Inner {
    fn executors(&self) -> Vec<ExecutorInfo> {
        let members = lock(&self.members);
        let stays = members.iter().filter(|(id, _)| !self.slots.is_leaving(id));
        stays.map(|(id, (join, _))| info(id, join)).collect()
    }

    fn watch(&self, waker: Weak<dyn Wake>) {
        lock(&self.lodged.watching).push(waker);
    }

    fn begin(&self, env: &Arc<Env>, executor: &str, plan: Bytes, host: Arc<dyn ResidentHost>) -> Result<u64> {
        let engine = self.engine(env);
        let resident = self.lodged.next.fetch_add(1, Ordering::Relaxed);
        let member = {
            // Whoever is lost from now on is lost with this.
            let members = lock(&self.members);
            let (_, member) = members.get(executor).ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, format!("{executor}, on which a receiver was to run, is gone"))
            })?;
            let lodger = Lodger { executor: executor.into(), engine, host };
            lock(&self.lodged.by).insert(resident, lodger);
            member.clone()
        };
        member.tell(Tell::Begin { resident, engine, plan });
        Ok(resident)
    }

    fn tell(&self, resident: u64, message: Bytes) {
        let executor = lock(&self.lodged.by).get(&resident).map(|lodger| Arc::clone(&lodger.executor));
        let member =
            executor.and_then(|executor| lock(&self.members).get(&*executor).map(|(_, member)| member.clone()));
        if let Some(member) = member {
            member.tell(Tell::Say { resident, message });
        }
    }

    fn let_go(&self, resident: u64) {
        lock(&self.lodged.by).remove(&resident);
    }

    fn keeps(&self, resident: u64, id: BlockId) -> bool {
        let lodger = lock(&self.lodged.by).get(&resident).map(|at| (Arc::clone(&at.executor), at.engine));
        if let Some((executor, engine)) = lodger {
            // As long as it is one: what a lost one had is forgotten behind this.
            let members = lock(&self.members);
            if members.contains_key(&*executor) {
                self.places.received(&executor, id, engine);
            }
        }
        !self.places.of(id).is_empty()
    }
}
