//! Which task goes to which executor. Free slots are counted from the tasks that run, and not by adding and subtracting.
//!
//! Ballista gives slots back when a task reports its end. The tasks of a stage that is rolled back, because an executor is
//! lost, report nothing that is counted; in time no slot would be left. What runs is in the graphs of the jobs, so what is
//! free follows from them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::{BallistaError, Result};
use ballista_core::serde::protobuf::{ExecutorHeartbeat, job_status, task_status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata, TaskKey};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::{TaskDescription, create_task_info};
use ballista_scheduler::state::execution_stage::{ExecutionStage, RunningStage, TaskInfo};
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use millstream_core::clock::monotonic;
use millstream_core::plan::Preference;
use millstream_core::threads::lock;
use tokio::sync::{Mutex, watch};

use crate::blocks::Home;
use crate::consistent::{Candidate, choose};
use crate::stage::{StageExec, TaskStamp};

/// The executors of a cluster, and who of them is given what.
pub(crate) struct Slots {
    executors: InMemoryClusterState,
    /// One placing at a time: what is free is counted before it is given away.
    placing: Mutex<Placed>,
    /// How long a partition waits for the executor that keeps what it reads.
    patience: Duration,
    /// Who has joined at the desk, and may be given tasks: the scheduler's own port asks nobody for a secret.
    /// With what their hosts are called.
    members: std::sync::Mutex<BTreeMap<String, Vec<String>>>,
    /// Who is ready for tasks.
    ready: watch::Sender<BTreeSet<String>>,
    /// Has tasks placed again after a while.
    again: OnceLock<Again>,
    /// Jobs that cost one executor after the other, and why they are given up.
    deadly: watch::Sender<BTreeMap<String, String>>,
    /// Who is about to leave.
    leaving: std::sync::Mutex<BTreeSet<String>>,
}

/// A partition of a stage of a job.
type Part = (JobId, usize, usize);

/// What is remembered from one placing to the next.
#[derive(Default)]
struct Placed {
    /// Since when partitions have waited for the executor that keeps what they read.
    waits: HashMap<Part, Duration>,
    /// What each executor ran when tasks were placed last.
    runs: HashMap<String, Vec<Part>>,
    /// How often a partition was lost with the executor that ran it.
    losses: HashMap<Part, u32>,
    /// How many tasks a partition has been given to, whatever became of them.
    attempts: HashMap<Part, u32>,
}

/// How often a partition may be lost with the executor that runs it: a task that ends its executor does so each time.
const MOST_LOSSES: u32 = 4;

impl Placed {
    /// Takes note that an executor is lost. Returns a job that has lost too many, with a partition of which that is so.
    fn lost(&mut self, executor: &str) -> Option<Part> {
        let parts = self.runs.remove(executor).unwrap_or_default();
        parts.into_iter().find(|part| {
            let losses = self.losses.entry(part.clone()).or_default();
            *losses += 1;
            *losses == MOST_LOSSES
        })
    }

    /// Says whether a partition has been given to a task before: if that was lost or has failed, it may have been because of it.
    fn is_again(&self, part: &Part) -> bool {
        self.attempts.contains_key(part)
    }

    /// Returns which attempt a task at some partitions of a stage is: no other one at any of them has the same number.
    fn attempt(&mut self, parts: &[Part]) -> u32 {
        let attempt = parts.iter().filter_map(|part| self.attempts.get(part)).copied().max().unwrap_or(0);
        self.attempts.extend(parts.iter().map(|part| (part.clone(), attempt + 1)));
        attempt
    }

    /// Forgets jobs that are over.
    fn forget(&mut self, is_over: impl Fn(&JobId) -> bool) {
        self.waits.retain(|(job, ..), _| !is_over(job));
        self.losses.retain(|(job, ..), _| !is_over(job));
        self.attempts.retain(|(job, ..), _| !is_over(job));
    }
}

type Again = Box<dyn Fn(Duration) + Send + Sync>;

/// Where a partition is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// The executor that keeps what it reads, by its place in the row.
    at: usize,
    /// Whether it has waited for that long enough.
    impatient: bool,
    /// Whether nothing is kept there: it would only be best.
    light: bool,
}

impl Slots {
    /// Makes a row without executors. Partitions wait for what they read as long as `patience`.
    pub(crate) fn new(patience: Duration) -> Slots {
        let (ready, placing) = (watch::Sender::new(BTreeSet::new()), Mutex::new(Placed::default()));
        let (executors, again, members) =
            (InMemoryClusterState::default(), OnceLock::new(), std::sync::Mutex::default());
        Slots {
            executors,
            placing,
            patience,
            members,
            ready,
            again,
            deadly: watch::Sender::default(),
            leaving: Default::default(),
        }
    }

    /// Lets an executor register.
    pub(crate) fn admit(&self, id: &str, hosts: Vec<String>) {
        lock(&self.members).insert(id.to_owned(), hosts);
    }

    /// Lets an executor register no more.
    pub(crate) fn dismiss(&self, id: &str) {
        lock(&self.members).remove(id);
    }

    /// Refuses who has not joined at the desk, or was given up since.
    fn is_member(&self, id: &str) -> Result<()> {
        if lock(&self.members).contains_key(id) {
            return Ok(());
        }
        tracing::warn!(
            "somebody registers with the scheduler as the executor {id:?}, which has not joined, and is refused"
        );
        Err(BallistaError::General(format!("{id} has not joined this cluster")))
    }

    /// Waits until a job has lost too many executors to one of its partitions, and says which.
    pub(crate) async fn is_deadly(&self, job: &str) -> String {
        let mut deadly = self.deadly.subscribe();
        let why = deadly.wait_for(|deadly| deadly.contains_key(job)).await.ok().and_then(|all| all.get(job).cloned());
        match why {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }

    /// Says who has tasks placed again after a while.
    pub(crate) fn place_again_by(&self, again: Again) {
        let _ = self.again.set(again);
    }

    /// From now on an executor is given no tasks but those that read what it keeps.
    pub(crate) fn leave(&self, executor: &str) {
        lock(&self.leaving).insert(executor.to_owned());
    }

    /// Says whether an executor is about to leave.
    pub(crate) fn is_leaving(&self, executor: &str) -> bool {
        lock(&self.leaving).contains(executor)
    }

    /// Returns who is ready for tasks, now and from now on.
    pub(crate) fn ready(&self) -> watch::Receiver<BTreeSet<String>> {
        self.ready.subscribe()
    }
}

/// Divides the partitions of a stage among executors with so many free slots, and takes the slots.
///
/// A partition whose kept input an executor has goes there, and waits while all slots are taken there, until it is impatient:
/// elsewhere its input has to be sent. Behind these come those that would only best run somewhere: if no slot is left there they
/// run elsewhere. Any other partition `p` goes to the executor at place `p` of the row, round and round, if
/// that has a slot left, so that the same partition goes to the same executor from batch to batch; else where most slots
/// are left. What has no place waits.
pub(crate) fn place(
    pending: Vec<usize>,
    wish_of: impl Fn(usize) -> Option<Wish>,
    free: &mut [u32],
) -> (BTreeMap<usize, Vec<usize>>, Vec<usize>) {
    let mut placed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let (mut homeless, mut waiting) = (Vec::new(), Vec::new());
    if free.is_empty() {
        return (placed, pending);
    }
    let mut pending: Vec<_> = pending.into_iter().map(|partition| (partition, wish_of(partition))).collect();
    pending.sort_by_key(|(_, wish)| wish.map_or(2, |wish| u8::from(wish.light)));
    for (partition, wish) in pending {
        let at = wish.map_or(partition % free.len(), |wish| wish.at);
        if free[at] > 0 {
            free[at] -= 1;
            placed.entry(at).or_default().push(partition);
        } else if wish.is_some_and(|wish| !wish.impatient && !wish.light) {
            waiting.push(partition);
        } else {
            homeless.push(partition);
        }
    }
    for partition in homeless {
        match (0..free.len()).rev().max_by_key(|at| free[*at]).filter(|at| free[*at] > 0) {
            Some(at) => {
                free[at] -= 1;
                placed.entry(at).or_default().push(partition);
            }
            None => waiting.push(partition),
        }
    }
    (placed, waiting)
}

/// For how long a slot may be busy with partitions that are given to it in one task. Beside that, what a task costs for itself is little.
const SPELL: Duration = Duration::from_millis(50);

/// How many partitions a slot may be given in one task at most. It may be wrong that they are short, and nobody takes any back.
const DEEPEST: usize = 8;

/// How many bytes of programs of their own the partitions of a task may have beyond one for each slot: they are sent in one message.
const BURDEN: usize = 4 << 20;

/// A task of a stage that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    took: Duration,
    partitions: usize,
    slots: u32,
}

/// Says how many partitions of a stage a slot is given in one task, to run them one after the other: where they are short, as many as
/// take a [spell](SPELL) by what those have taken that have ended; but no more than its share of the `left` ones, than
/// [eight](DEEPEST), and than eight for each that has ended for each slot. So the first go one by one: nothing is known of them.
pub(crate) fn depth(ended: impl Iterator<Item = Ran>, left: usize, slots: u32) -> usize {
    let (mut took, mut partitions) = (Duration::ZERO, 0);
    for ran in ended {
        // Executors say it in whole milliseconds.
        took += (ran.took + Duration::from_millis(1)) * ran.slots;
        partitions += ran.partitions;
    }
    if partitions == 0 || took.is_zero() {
        return 1;
    }
    let slots = slots.max(1) as usize;
    let in_a_spell = SPELL.as_micros() * partitions as u128 / took.as_micros();
    let (known, share) = (DEEPEST * partitions / slots, left.div_ceil(slots));
    (in_a_spell.min(DEEPEST as u128) as usize).min(known).min(share).max(1)
}

/// Gives executors that have just been given partitions more of those that wait, up to `depth` for each slot, and returns those that
/// still wait: first those that belong there, then any that belong nowhere. What is not tried for the first time shares its task with
/// no more than it did: the others would be lost, or fail, with it.
pub(crate) fn deepen(
    placed: &mut BTreeMap<usize, Vec<usize>>,
    waiting: Vec<usize>,
    (wish_of, is_again): (impl Fn(usize) -> Option<Wish>, impl Fn(usize) -> bool),
    (depth, executors): (usize, usize),
) -> Vec<usize> {
    if depth < 2 || waiting.is_empty() {
        return waiting;
    }
    let fresh = placed.iter().filter(|(_, slice)| !slice.iter().any(|partition| is_again(*partition)));
    let mut room: BTreeMap<usize, usize> = fresh.map(|(at, slice)| (*at, slice.len() * (depth - 1))).collect();
    let mut give = |partition: usize, at: usize| {
        let is_room = room.get(&at).is_some_and(|room| *room > 0);
        if is_room {
            room.entry(at).and_modify(|room| *room -= 1);
            placed.entry(at).or_default().push(partition);
        }
        is_room
    };
    let best = |partition| wish_of(partition).map_or(partition % executors.max(1), |wish: Wish| wish.at);
    let (again, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|partition| is_again(*partition));
    let elsewhere: Vec<usize> = waiting.into_iter().filter(|partition| !give(*partition, best(*partition))).collect();
    let is_taken = |partition: &usize| wish_of(*partition).is_none() && (0..executors).any(|at| give(*partition, at));
    let (_, still): (Vec<_>, Vec<_>) = elsewhere.into_iter().partition(is_taken);
    again.into_iter().chain(still).collect()
}

/// Returns the tasks of a stage that have succeeded.
fn ended(stage: &RunningStage) -> impl Iterator<Item = Ran> {
    let has_ended = |task: &&TaskInfo| matches!(task.task_status, task_status::Status::Successful(_));
    stage.task_infos.iter().filter(has_ended).map(|task| Ran {
        took: Duration::from_millis(task.end_exec_time.saturating_sub(task.start_exec_time) as u64),
        partitions: task.global_input_partition_ids.len(),
        slots: task.vcores_consumed,
    })
}

/// Says whether any partition has no task yet that may have one. Whenever a task ends the scheduler asks who is to run what, and
/// mostly nothing is left: to find that out must not cost more with more executors.
async fn something_waits(jobs: &HashMap<JobId, JobInfoCache>) -> bool {
    for info in jobs.values() {
        let graph = info.execution_graph.read().await;
        let waits = |stage: &ExecutionStage| match stage {
            ExecutionStage::Running(stage) => !stage.pending.is_empty(),
            ExecutionStage::Resolved(_) => true,
            _ => false,
        };
        if graph.stages().values().any(waits) {
            return true;
        }
    }
    false
}

/// Returns, for each partition of a stage, the executor that has what it reads, and where it would best read the rest; and how long
/// the programs are that they have for themselves, at most.
fn preferred(plan: &Arc<dyn ExecutionPlan>) -> (Arc<[Option<Home>]>, Arc<[Option<Preference>]>, usize) {
    // The stage's operator stands right under the one that writes its rows.
    let mut plan = plan;
    loop {
        if let Some(stage) = plan.downcast_ref::<StageExec>() {
            return (Arc::clone(&stage.prefer), Arc::clone(&stage.wishes), stage.longest_program());
        }
        match plan.children().as_slice() {
            [child] => plan = child,
            _ => return (Arc::from([]), Arc::from([]), 0),
        }
    }
}

/// Returns the plan of a stage with what is said of one task.
fn stamped(plan: &Arc<dyn ExecutionPlan>, task: &TaskStamp) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
    let stamp = |plan: Arc<dyn ExecutionPlan>| {
        Ok(match plan.downcast_ref::<StageExec>() {
            Some(stage) => Transformed::yes(Arc::new(stage.stamped(task.clone())) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(plan),
        })
    };
    Ok(Arc::clone(plan).transform_up(stamp)?.data)
}

/// Makes a task of some partitions of a stage, for an executor. `losses` says how often one of them was lost with its executor:
/// Ballista does not count that as an attempt, but what was lost may still go on somewhere.
fn bind(
    stage: &mut RunningStage,
    session: &str,
    job: &JobId,
    executor: &str,
    (slice, slots): (Vec<usize>, u32),
    (attempt, elsewhere): (u32, bool),
) -> datafusion::error::Result<BoundTask> {
    let task_id = stage.task_infos.len();
    let task_attempt = slice.iter().filter_map(|p| stage.task_failure_numbers.get(*p)).copied().max().unwrap_or(0);
    let stamp = TaskStamp { slice: slice.clone(), at_once: slots, attempt, elsewhere, programs: Vec::new() };
    let plan = stamped(&stage.plan, &stamp)?;
    let mut info = create_task_info(executor.to_owned(), task_id);
    info.global_input_partition_ids.clone_from(&slice);
    info.vcores_consumed = slots;
    stage.task_infos.push(info);
    let task = TaskDescription {
        session_id: session.to_owned(),
        key: TaskKey { job_id: job.clone(), stage_id: stage.stage_id, task_id },
        stage_attempt_num: stage.stage_attempt_num,
        task_attempt,
        global_input_partition_ids: slice,
        vcores_consumed: slots,
        plan,
        session_config: Arc::clone(&stage.session_config),
    };
    Ok((executor.to_owned(), task))
}

#[async_trait]
impl ClusterState for Slots {
    async fn bind_schedulable_tasks(
        &self,
        _: TaskDistributionPolicy,
        jobs: Arc<HashMap<JobId, JobInfoCache>>,
        alive: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut before = self.placing.lock().await;
        before.forget(|job| !jobs.contains_key(job));
        self.deadly.send_if_modified(|deadly| {
            let count = deadly.len();
            deadly.retain(|job, _| jobs.keys().any(|known| known.as_str() == job));
            deadly.len() < count
        });
        if !something_waits(&jobs).await {
            return Ok(Vec::new());
        }
        let now = monotonic();
        let mut executors = self.executors.registered_executor_metadata().await;
        executors.retain(|executor| alive.as_ref().is_none_or(|alive| alive.contains(&executor.id)));
        executors.sort_by(|a, b| a.id.cmp(&b.id));
        let mut taken: HashMap<String, u32> = HashMap::new();
        let mut runs: HashMap<String, Vec<Part>> = HashMap::new();
        for (job, info) in jobs.iter() {
            for (number, stage) in info.execution_graph.read().await.stages() {
                let ExecutionStage::Running(stage) = stage else { continue };
                for task in &stage.task_infos {
                    if let task_status::Status::Running(running) = &task.task_status {
                        *taken.entry(running.executor_id.clone()).or_default() += task.vcores_consumed;
                        let parts = task.global_input_partition_ids.iter().map(|p| (job.clone(), *number, *p));
                        runs.entry(running.executor_id.clone()).or_default().extend(parts);
                    }
                }
            }
        }
        let free_of =
            |e: &ExecutorMetadata| e.specification.vcores.saturating_sub(taken.get(&e.id).copied().unwrap_or(0));
        let (leaving, executors): (Vec<_>, Vec<_>) = executors.into_iter().partition(|e| self.is_leaving(&e.id));
        let mut free: Vec<u32> = executors.iter().map(free_of).collect();
        let mut free_of_leaving: Vec<u32> = leaving.iter().map(free_of).collect();
        let in_all = executors.iter().map(|executor| executor.specification.vcores).sum();
        let members = lock(&self.members).clone();
        let candidates: Vec<Candidate<'_>> = executors
            .iter()
            .map(|executor| Candidate {
                id: &executor.id,
                hosts: members.get(&executor.id).map_or(&[], Vec::as_slice),
                slots: executor.specification.vcores,
            })
            .collect();
        // Jobs in the order in which they came: the first one first.
        let mut order: Vec<_> = jobs.iter().collect();
        order.sort_by_key(|(id, _)| id.to_string());
        let mut bound = Vec::new();
        for (job, info) in order {
            if !matches!(info.status, Some(job_status::Status::Running(_))) {
                continue;
            }
            let mut graph = info.execution_graph.write().await;
            let session = graph.session_id().to_owned();
            let mut seen = Vec::new();
            while let Some(stage) = graph.fetch_running_stage(&seen) {
                seen.push(stage.stage_id);
                let (prefer, wishes, program) = preferred(&stage.plan);
                let depth = depth(ended(stage), stage.pending.remaining(), in_all).min(BURDEN / program.max(1) + 1);
                // Where none wishes for anything no more are looked at than it takes to find those that belong where slots are: what
                // waits may be long.
                let is_plain = wishes.is_empty() && prefer.iter().all(Option::is_none);
                let enough = free.iter().sum::<u32>() as usize * depth * executors.len();
                let most = if is_plain { enough } else { usize::MAX };
                let pending = stage.pending.next_slice(most);
                let best = if pending.is_empty() { Vec::new() } else { choose(&wishes, &candidates) };
                let number = stage.stage_id;
                let home_that_leaves = |partition: &usize| {
                    let home = prefer.get(*partition)?.as_ref()?;
                    leaving.iter().position(|executor| executor.id == *home.executor)
                };
                let (last, pending): (Vec<_>, Vec<_>) =
                    pending.into_iter().partition(|p| home_that_leaves(p).is_some());
                let stays =
                    |partition| home_that_leaves(&partition).map(|at| Wish { at, impatient: false, light: false });
                let (last, not_yet) = place(last, stays, &mut free_of_leaving);
                stage.pending.reschedule(not_yet);
                let alone = |slice: Vec<usize>| {
                    let slots = slice.len() as u32;
                    (slice, slots)
                };
                let last: Vec<_> = last.into_iter().map(|(at, slice)| (&leaving[at].id, alone(slice))).collect();
                let light = |partition: usize| {
                    let at = best.get(partition).copied().flatten()?;
                    Some(Wish { at, impatient: false, light: true })
                };
                let at_home = |partition: usize| {
                    let home = prefer.get(partition)?.as_ref()?;
                    let at = executors.iter().position(|executor| executor.id == *home.executor)?;
                    let waited = before
                        .waits
                        .get(&(job.clone(), number, partition))
                        .map_or(Duration::ZERO, |since| now - *since);
                    Some(Wish { at, impatient: !home.stays && waited >= self.patience, light: false })
                };
                let wish_of = |partition: usize| at_home(partition).or_else(|| light(partition));
                let (mut placed, waiting) = place(pending, wish_of, &mut free);
                let slots: BTreeMap<usize, u32> = placed.iter().map(|(at, slice)| (*at, slice.len() as u32)).collect();
                let is_again = |partition: usize| before.is_again(&(job.clone(), number, partition));
                let waiting = deepen(&mut placed, waiting, (wish_of, is_again), (depth, executors.len()));
                let may_move = |p: &&usize| prefer.get(**p).and_then(Option::as_ref).is_some_and(|home| !home.stays);
                for partition in waiting.iter().filter(may_move) {
                    before.waits.entry((job.clone(), number, *partition)).or_insert_with(|| {
                        // Nothing may happen until then that has tasks placed.
                        self.again.get().into_iter().for_each(|again| again(self.patience));
                        now
                    });
                }
                stage.pending.reschedule(waiting);
                let placed = placed.into_iter().map(|(at, slice)| (&executors[at].id, (slice, slots[&at])));
                for (executor, (slice, slots)) in last.into_iter().chain(placed) {
                    let home_of = |p: &usize| prefer.get(*p).and_then(Option::as_ref);
                    let elsewhere = slice.iter().filter_map(home_of).any(|home| *home.executor != **executor);
                    let parts: Vec<Part> = slice.iter().map(|partition| (job.clone(), number, *partition)).collect();
                    let attempt = before.attempt(&parts);
                    runs.entry(executor.clone()).or_default().extend(parts);
                    bound.push(bind(stage, &session, job, executor, (slice, slots), (attempt, elsewhere))?);
                }
            }
        }
        before.runs = runs;
        Ok(bound)
    }

    /// Nothing is counted here, so nothing is given back.
    async fn unbind_tasks(&self, _: Vec<ExecutorSlot>) -> Result<()> {
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, data: ExecutorData) -> Result<()> {
        self.is_member(&metadata.id)?;
        let id = metadata.id.clone();
        self.executors.register_executor(metadata, data).await?;
        self.ready.send_modify(|ready| {
            ready.insert(id);
        });
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.is_member(&metadata.id)?;
        let id = metadata.id.clone();
        self.executors.save_executor_metadata(metadata).await?;
        self.ready.send_modify(|ready| {
            ready.insert(id);
        });
        Ok(())
    }

    async fn get_executor_metadata(&self, id: &str) -> Result<ExecutorMetadata> {
        self.executors.get_executor_metadata(id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.executors.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.executors.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, id: &str) -> Result<()> {
        // A sign of life that is on its way would register it again.
        self.dismiss(id);
        self.executors.remove_executor(id).await?;
        if let Some((job, stage, partition)) = self.placing.lock().await.lost(id) {
            let why = format!(
                "{MOST_LOSSES} executors, at last {id}, were lost while they ran partition {partition} of stage {stage} of a \
                 job: it may need more memory than they have, or end its process"
            );
            self.deadly.send_modify(|deadly| {
                deadly.insert(job.to_string(), why);
            });
        }
        lock(&self.leaving).remove(id);
        self.ready.send_modify(|ready| {
            ready.remove(id);
        });
        Ok(())
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.executors.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, id: &str) -> Option<ExecutorHeartbeat> {
        self.executors.get_executor_heartbeat(id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.executors.cluster_state_events().await
    }
}

#[cfg(test)]
mod tests {
    use ballista_core::serde::scheduler::{ExecutorOperatingSystemSpecification, ExecutorSpecification};

    use super::*;

    fn placed(pending: &[usize], free: &[u32]) -> (Vec<(usize, Vec<usize>)>, Vec<usize>, Vec<u32>) {
        let mut free = free.to_vec();
        let (placed, waiting) = place(pending.to_vec(), |_| None, &mut free);
        (placed.into_iter().collect(), waiting, free)
    }

    #[test]
    fn a_partition_goes_home_where_there_is_a_slot() {
        assert_eq!(placed(&[0, 1], &[1, 1]), (vec![(0, vec![0]), (1, vec![1])], vec![], vec![0, 0]));
        assert_eq!(placed(&[0, 1, 2, 3], &[2, 2]), (vec![(0, vec![0, 2]), (1, vec![1, 3])], vec![], vec![0, 0]));
    }

    #[test]
    fn others_go_where_most_slots_are_left_and_the_rest_waits() {
        assert_eq!(placed(&[0, 2], &[1, 1]), (vec![(0, vec![0]), (1, vec![2])], vec![], vec![0, 0]));
        assert_eq!(placed(&[0, 2, 4], &[1, 1]), (vec![(0, vec![0]), (1, vec![2])], vec![4], vec![0, 0]));
        assert_eq!(placed(&[0, 1, 2], &[0, 3]), (vec![(1, vec![1, 0, 2])], vec![], vec![0, 0]));
    }

    #[test]
    fn a_slot_is_given_as_many_short_partitions_as_take_a_spell_and_no_more_than_its_share() {
        let ran = |took, partitions, slots| Ran { took: Duration::from_millis(took), partitions, slots };
        for (ended, left, slots, want, why) in [
            (vec![], 100, 1, 1, "nothing is known of the first"),
            (vec![ran(0, 1, 1)], 100, 9, 1, "and little of one of nine"),
            (vec![ran(0, 3, 1)], 100, 8, 3, ""),
            (vec![ran(0, 200, 1)], 1000, 2, 8, "a millisecond for all, as it may have been"),
            (vec![ran(9, 1, 1); 20], 100, 2, 5, ""),
            (vec![ran(9, 1, 1), ran(19, 3, 1)], 100, 2, 6, "several in a task"),
            (vec![ran(9, 2, 2); 20], 100, 2, 5, "two at once take as long as one"),
            (vec![ran(9, 1, 1); 20], 5, 2, 3, "its share"),
            (vec![ran(9, 1, 1)], 0, 0, 1, ""),
            (vec![ran(0, 1, 1), ran(500, 1, 1)], 100, 2, 1, "some are long"),
            (vec![ran(20, 1, 1); 9], 100, 2, 2, ""),
            (vec![ran(49, 1, 1); 9], 100, 2, 1, ""),
        ] {
            assert_eq!(depth(ended.into_iter(), left, slots), want, "{why}");
        }
    }

    #[test]
    fn what_waits_follows_behind_what_was_placed_if_that_is_for_it() {
        let deep = |slices: &[(usize, &[usize])], waiting: &[usize], depth| {
            let mut placed: BTreeMap<usize, Vec<usize>> =
                slices.iter().map(|(at, slice)| (*at, slice.to_vec())).collect();
            let wish = |partition| match partition {
                10.. => Some(Wish { at: 1, impatient: false, light: partition >= 20 }),
                _ => None,
            };
            let still = deepen(&mut placed, waiting.to_vec(), (wish, |partition| partition == 9), (depth, 2));
            (placed.into_values().collect::<Vec<_>>(), still)
        };
        assert_eq!(deep(&[(0, &[0]), (1, &[1])], &[2, 3, 4], 1), (vec![vec![0], vec![1]], vec![2, 3, 4]));
        assert_eq!(deep(&[(0, &[0]), (1, &[1])], &[2, 3, 4], 2), (vec![vec![0, 2], vec![1, 3]], vec![4]));
        assert_eq!(deep(&[(0, &[0, 2]), (1, &[1])], &[4, 6, 8, 3, 5], 3).0, [vec![0, 2, 4, 6, 8], vec![1, 3, 5]]);
        assert_eq!(deep(&[(0, &[0])], &[3, 10, 20], 9), (vec![vec![0, 3]], vec![10, 20]), "they wait for another one");
        assert_eq!(deep(&[(1, &[1])], &[3, 10, 20], 9), (vec![vec![1, 3, 10, 20]], vec![]));
        assert_eq!(
            deep(&[(0, &[0]), (1, &[9])], &[3, 5], 9),
            (vec![vec![0, 3, 5], vec![9]], vec![]),
            "9 is tried again"
        );
        assert_eq!(deep(&[(0, &[0])], &[9, 2], 9), (vec![vec![0, 2]], vec![9]));
        assert_eq!(deep(&[], &[2], 9), (vec![], vec![2]));
    }

    #[test]
    fn a_partition_waits_for_the_executor_that_has_its_input() {
        let patient = |at: usize| Some(Wish { at, impatient: false, light: false });
        let has = |partition: usize| [None, patient(0), patient(1), patient(0)][partition];
        let mut free = [1, 1];
        let (placed, waiting) = place(vec![0, 1, 2, 3], has, &mut free);
        assert_eq!(placed.into_iter().collect::<Vec<_>>(), [(0, vec![1]), (1, vec![2])]);
        assert_eq!(waiting, [3, 0], "3 for its executor, 0 for any");
        let mut free = [0, 2];
        let (placed, waiting) = place(vec![0, 1], has, &mut free);
        assert_eq!((placed.into_iter().collect::<Vec<_>>(), waiting), (vec![(1, vec![0])], vec![1]));
    }

    #[test]
    fn where_a_partition_would_only_best_run_it_does_not_wait_and_takes_no_slot_from_what_is_kept() {
        let wish = |partition: usize| [Some((0, true)), Some((0, false)), Some((0, true)), None][partition];
        let has = |partition: usize| wish(partition).map(|(at, light)| Wish { at, impatient: false, light });
        let mut free = [2, 2];
        let (placed, waiting) = place(vec![0, 1, 2, 3], has, &mut free);
        assert_eq!(placed.into_iter().collect::<Vec<_>>(), [(0, vec![1, 0]), (1, vec![3, 2])]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn only_who_has_joined_is_registered_and_nobody_who_was_given_up() {
        let executor = |id: &str| {
            let specification = ExecutorSpecification { vcores: 1 };
            let (id, host) = (id.to_owned(), "127.0.0.1".to_owned());
            let os_info = ExecutorOperatingSystemSpecification::default();
            ExecutorMetadata { id, host, port: 1, grpc_port: 2, specification, os_info }
        };
        let data = |id: &str| ExecutorData { executor_id: id.to_owned(), total_vcores: 1, available_vcores: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let slots = Slots::new(Duration::ZERO);
            assert!(slots.register_executor(executor("stranger"), data("stranger")).await.is_err());
            assert!(slots.save_executor_metadata(executor("stranger")).await.is_err());
            assert!(slots.ready().borrow().is_empty() && slots.registered_executor_metadata().await.is_empty());
            slots.admit("one", Vec::new());
            slots.register_executor(executor("one"), data("one")).await.unwrap();
            assert!(slots.ready().borrow().contains("one"));
            slots.remove_executor("one").await.unwrap();
            assert!(slots.register_executor(executor("one"), data("one")).await.is_err(), "its last sign of life");
            assert!(slots.ready().borrow().is_empty());
        });
    }

    #[test]
    fn a_partition_that_has_waited_long_enough_goes_where_a_slot_is_and_home_if_one_is_there() {
        let has = |partition: usize| Some(Wish { at: 0, impatient: partition == 1, light: false });
        let mut free = [0, 1];
        let (placed, waiting) = place(vec![0, 1], has, &mut free);
        assert_eq!((placed.into_iter().collect::<Vec<_>>(), waiting), (vec![(1, vec![1])], vec![0]));
        let mut free = [1, 1];
        let (placed, waiting) = place(vec![1], has, &mut free);
        assert_eq!((placed.into_iter().collect::<Vec<_>>(), waiting), (vec![(0, vec![1])], vec![]));
    }

    #[test]
    fn no_two_tasks_at_a_partition_are_the_same_attempt() {
        let parts = |of: &[usize]| of.iter().map(|p| (JobId::new("one"), 1, *p)).collect::<Vec<_>>();
        let mut placed = Placed::default();
        for (slice, attempt) in [(&[0, 1][..], 0), (&[1], 1), (&[0], 1), (&[2], 0), (&[0, 1, 2], 2), (&[2], 3)] {
            assert_eq!(placed.attempt(&parts(slice)), attempt, "{slice:?}");
        }
        assert_eq!(placed.attempt(&[(JobId::new("two"), 1, 0)]), 0);
        placed.forget(|job| *job == JobId::new("one"));
        assert_eq!(placed.attempts.len(), 1);
    }

    #[test]
    fn a_partition_that_is_lost_too_often_is_told_once_and_forgotten_with_its_job() {
        let part = |job: &str, partition| (JobId::new(job), 1, partition);
        let mut placed = Placed::default();
        for round in 1..=MOST_LOSSES + 1 {
            placed.runs.insert("a".to_owned(), vec![part("one", 0), part("one", round as usize)]);
            placed.runs.insert("b".to_owned(), vec![part("two", 0)]);
            assert_eq!(placed.lost("a"), (round == MOST_LOSSES).then(|| part("one", 0)), "{round}");
            assert_eq!(placed.lost("a"), None, "it runs nothing any more");
        }
        placed.forget(|job| *job == JobId::new("one"));
        assert!(placed.losses.is_empty() && placed.runs.len() == 1);
    }

    #[test]
    fn without_executors_all_waits() {
        assert_eq!(placed(&[0, 1], &[]), (vec![], vec![0, 1], vec![]));
        assert_eq!(placed(&[0, 1], &[0, 0]).1, [0, 1]);
    }
}
