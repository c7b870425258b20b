//! Who stands behind the desk: whom the driver lets in, what it answers, and how it lets go.

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use bytes::Bytes;
use millstream_core::clock::{monotonic, wall_time};
use millstream_core::plan::away::{keep_bytes, written_block};
use millstream_core::plan::ship::build_id;
use millstream_core::storage::BlockId;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExecutorInfo, Result, Time, codec};

use crate::desk::{DeskHost, Join, Member, Question, Tell, Welcome, What};
use crate::driver::Inner;
use crate::endings::TaskName;
use crate::lodgers::read_end;
use crate::secret::random;

/// How long receivers on an executor that leaves may take to end.
const LEAVING: Duration = Duration::from_secs(10);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(20);

impl Inner {
    /// Has an executor that has a block send it for a task of another one.
    fn fetch(&self, to: &str, engine: u64, id: BlockId) -> Result<Option<Bytes>> {
        let member = |name: &Arc<str>| lock(&self.members).get(&**name).map(|(_, member)| member.clone());
        let others = self.places.of(id).into_iter().filter(|name| **name != *to);
        for member in others.filter_map(|name| member(&name)) {
            let waiting = self.sent.ask(|number| member.tell(Tell::Send { number, engine, id }));
            if let Some(block) = waiting.within(self.conf.executor_silence) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// Has another executor keep a copy of a block: the one that comes behind who has it, round and round.
    fn copy(&self, from: &str, id: BlockId, keep: Tell) {
        let members = lock(&self.members);
        let behind = members.range::<str, _>((Bound::Excluded(from), Bound::Unbounded)).next();
        let Some((name, (_, member))) = behind.or_else(|| members.iter().next()).filter(|(name, _)| *name != from)
        else {
            return;
        };
        let (name, member) = (name.clone(), member.clone());
        drop(members);
        // Who makes copies faster than they are taken waits.
        if member.hand(keep) {
            self.places.copied(&name, id);
        }
    }

    /// Lets an executor go that wants to: it gets no new tasks, and is sent home when the jobs that run now have ended. Jobs
    /// that begin later know of nothing that it keeps.
    ///
    /// What runs beside tasks there ends first, and what receivers made there is brought to the driver: nothing could make it again.
    fn let_go(self: &Arc<Self>, id: &str) {
        self.slots.leave(id);
        let host = lock(&self.members).get(id).map(|(join, _)| format!("{} (process {})", join.host, join.pid));
        tracing::info!("executor {id} on {} leaves", host.unwrap_or_default());
        let (inner, id) = (Arc::clone(self), id.to_owned());
        self.runtime.spawn(async move {
            inner.lodged.leaves(&id);
            let ending = async {
                while inner.lodged.is_on(&id) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            if tokio::time::timeout(LEAVING, ending).await.is_err() {
                tracing::warn!("a receiver on {id}, which leaves, does not end, and is lost with it");
            }
            let (bringing, from) = (Arc::clone(&inner), id.clone());
            if let Err(error) = tokio::task::spawn_blocking(move || bringing.bring_home(&from)).await {
                tracing::error!(%error, "what receivers made on {id} could not be brought to the driver");
            }
            inner.places.lost(&id);
            inner.running.until_these_end().await;
            let member = lock(&inner.members).get(&id).map(|(_, member)| member.clone());
            if let Some(member) = member {
                member.tell(Tell::Bye);
            }
        });
    }

    /// Brings what receivers made on an executor, and nobody else has, to the driver.
    fn bring_home(&self, executor: &str) {
        for (engine, id) in self.places.received_only_by(executor) {
            let Some(env) = lock(&self.engines).get(&engine).and_then(Weak::upgrade) else { continue };
            let kept = match self.fetch("", engine, id) {
                Ok(Some(bytes)) => keep_bytes(&*env.blocks, id, bytes),
                Ok(None) => Err(Error::new(ErrorKind::Unavailable, "the executor does not send it")),
                Err(error) => Err(error),
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "block {id} is lost with {executor}, which leaves");
            }
        }
    }

    fn answer(self: &Arc<Self>, executor: &str, Question { engine, what }: Question) -> Result<Option<Bytes>> {
        match what {
            What::Resident(resident, message) => return self.lodged.asked(executor, resident, message).map(Some),
            What::Over(resident, why) => {
                self.lodged.over(executor, resident, read_end(why));
                return Ok(None);
            }
            What::Here(number, block) => {
                self.sent.came(number, block);
                return Ok(None);
            }
            What::Peer(port) => {
                let outside = self.hosts.get().and_then(|hosts| hosts.behind(port));
                return outside.map(|outside| codec::encode(&outside).map(Bytes::from)).transpose();
            }
            What::Leave => {
                self.let_go(executor);
                return Ok(None);
            }
            _ => {}
        }
        let env = lock(&self.engines).get(&engine).and_then(Weak::upgrade);
        let env = env.ok_or_else(|| Error::new(ErrorKind::Stopped, "the engine of this task has been stopped"))?;
        match what {
            What::Block(id @ BlockId::Rdd { .. }) => self.fetch(executor, engine, id),
            What::Block(id) => match written_block(&*env.blocks, id)? {
                Some(block) => Ok(Some(block)),
                None => self.fetch(executor, engine, id),
            },
            What::Copy(id, level, items, bytes) => {
                self.copy(executor, id, Tell::Keep { engine, id, level, items, bytes });
                Ok(None)
            }
            // They were answered before there was an engine to ask.
            What::Here(..) | What::Peer(_) | What::Leave | What::Resident(..) | What::Over(..) => Ok(None),
            // Only who may ask has come so far.
            What::Publish => Ok(None),
            What::Read(name) => env.checkpoints()?.read(&name).map(Some),
            What::ReadAt(name, offset, len) => env.checkpoints()?.read_at(&name, offset, len).map(Some),
            What::Write(name, bytes) => env.checkpoints()?.write(&name, &bytes).map(|()| None),
            What::RemoveFolder(folder) => env.checkpoints()?.remove_folder(&folder).map(|()| None),
        }
    }
}

/// Names an executor: in the order in which they join, and as nobody can guess who has not been told.
fn member_id(number: u64) -> Result<String> {
    let unknown = random::<8>()?.iter().fold(0, |all: u64, byte| (all << 8) | u64::from(*byte));
    Ok(format!("executor-{number:06}-{unknown:016x}"))
}

/// Returns what listeners are told of an executor.
pub(crate) fn info(id: &str, join: &Join) -> ExecutorInfo {
    ExecutorInfo { id: id.into(), host: join.host.as_str().into(), process: join.pid, slots: join.slots }
}

/// How far an executor's clock may be from the driver's without a word.
const SKEW: Duration = Duration::from_secs(2);

/// Says that an executor's clock is not the driver's, if it is so.
///
/// No result depends on it: what time a batch has is said by the driver. But files and logs of that host have other times.
fn skew(host: &str, theirs: Time, ours: Time) -> Option<String> {
    let (later, by) = if theirs > ours { ("ahead of", theirs - ours) } else { ("behind", ours - theirs) };
    (by > SKEW)
        .then(|| format!("the clock of {host} is {:.1} s {later} the driver's: have both set by NTP", by.as_secs_f64()))
}

/// It is there for as long as there is a cluster.
pub(crate) struct Reception(pub(crate) Weak<Inner>);

impl DeskHost for Reception {
    fn welcome(&self, join: &Join) -> Welcome {
        let Some(inner) = self.0.upgrade() else { return Welcome::No("the driver ends".to_owned()) };
        if join.build != build_id() {
            let text = format!(
                "the executor on {} (process {}) is build {}, but the driver is build {}: start the very same executable \
                 there",
                join.host,
                join.pid,
                join.build,
                build_id()
            );
            tracing::warn!("{text}");
            return Welcome::No(text);
        }
        if let Some(text) = skew(&join.host, join.now, wall_time()) {
            tracing::warn!("{text}");
        }
        let id = match member_id(inner.next_member.fetch_add(1, Ordering::Relaxed)) {
            Ok(id) => id,
            Err(error) => return Welcome::No(error.to_string()),
        };
        let ports = match (inner.hosts.get(), &join.outside) {
            (Some(hosts), Some(outside)) => match hosts.reach(&id, outside) {
                Ok(ports) => Some(ports),
                Err(error) => return Welcome::No(format!("the driver has no way to {}: {error}", join.host)),
            },
            _ => None,
        };
        let address = join.outside.as_ref().map(|outside| outside.address.ip().to_string());
        inner.slots.admit(&id, [join.host.clone()].into_iter().chain(address).collect());
        Welcome::Yes {
            id,
            ports,
            scheduler: inner.scheduler_port,
            memory: inner.memory,
            storage_fraction: inner.storage_fraction,
            silence: inner.conf.executor_silence,
        }
    }

    fn joined(&self, id: &str, join: &Join, member: Member) {
        let Some(inner) = self.0.upgrade() else { return };
        lock(&inner.members).insert(id.to_owned(), (join.clone(), member));
        inner.engines().iter().for_each(|env| env.executor_added(&info(id, join)));
        inner.lodged.wake();
        if let Some(children) = inner.children.get() {
            children.joined();
        }
    }

    fn ended(&self, id: &str, tasks: Vec<TaskName>) {
        if let (false, Some(inner)) = (tasks.is_empty(), self.0.upgrade()) {
            lock(&inner.unheard).said(id, tasks, monotonic());
        }
    }

    fn brought(&self, number: u64, partition: usize, attempt: u32, rows: Bytes) {
        if let Some(inner) = self.0.upgrade() {
            inner.direct.brought(number, partition, attempt, rows);
        }
    }

    /// A connection that breaks tells sooner than signs that do not come.
    fn left(&self, id: &str, why: &str) {
        let Some(inner) = self.0.upgrade() else { return };
        inner.give_up(id, why);
        let (scheduler, executor_id) = (inner.scheduler.clone(), id.to_owned());
        let reason = why.to_owned();
        inner.runtime.spawn(async move {
            let stopped = ExecutorStoppedParams { executor_id, reason };
            if let Err(error) = scheduler.executor_stopped(tonic::Request::new(stopped)).await {
                tracing::warn!(%error, "the scheduler does not take note of an executor that is lost");
            }
        });
    }

    fn is_member(&self, id: &str) -> bool {
        self.0.upgrade().is_some_and(|inner| lock(&inner.members).contains_key(id))
    }

    fn answer(&self, executor: &str, question: Question) -> Result<Option<Bytes>> {
        match self.0.upgrade() {
            Some(inner) => inner.answer(executor, question),
            None => Err(Error::new(ErrorKind::Stopped, "the driver ends")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_is_told_with_its_host() {
        let at = Time::from_millis;
        for (theirs, ours, text) in [
            (10_000, 10_000, None),
            (11_900, 10_000, None),
            (15_000, 10_000, Some("the clock of h is 5.0 s ahead of the driver's")),
            (10_000, 13_500, Some("the clock of h is 3.5 s behind the driver's")),
        ] {
            let told = skew("h", at(theirs), at(ours));
            assert_eq!(told.is_some(), text.is_some(), "{told:?}");
            assert!(told.is_none_or(|told| told.starts_with(text.unwrap())));
        }
    }
}
