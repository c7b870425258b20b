//! Tasks away from their driver: what another process needs to run one, what it gives back, and what the driver makes of that.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::programs::Programs;
use super::stage::{Properties, StageId, StageProgram, TaskContext, TaskOutput};
use super::tally::Tally;
use crate::accumulator;
use crate::checkpoint::CheckpointStore;
use crate::clock::{SystemClock, monotonic};
use crate::codec::{self, TypeCodec};
use crate::context::Env;
use crate::error::{CallSite, Error, ErrorKind, Result, panicked};
use crate::events::{Events, TaskMetrics};
use crate::memory::MemoryBudget;
use crate::plan::ship::intern;
use crate::rdd::ShuffleId;
use crate::shuffle::ShuffleStore;
use crate::spill::SpillDir;
use crate::storage::{Block, BlockId, BlockStore, DiskStore, MemoryStore, StorageLevel, StoreUsage, TieredStore};
use crate::threads::lock;
use crate::time::Time;

/// Asks the driver for what only it knows: blocks that it keeps, such as those of receivers that run there, and whether this
/// process is still one of its own.
pub trait DriverBlocks: Send + Sync + fmt::Debug + 'static {
    /// Returns the block's elements as [`written_block`] writes them, or nothing if the driver does not have it.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the driver does not answer.
    fn block(&self, id: BlockId) -> Result<Option<Bytes>>;

    /// Has a copy of a block kept by another process too, as the levels with `_2` ask.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the driver does not answer.
    fn copy(&self, id: BlockId, level: StorageLevel, items: Option<usize>, bytes: Bytes) -> Result<()>;

    /// Returns if others may see what a task has written here.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped`: the driver has given this process up, and the task runs elsewhere.
    fn may_publish(&self) -> Result<()>;
}

/// Returns a block of the driver's as [`DriverBlocks::block`] gives it.
///
/// # Errors
///
/// As [`BlockStore::get`]; `Config` if its elements cannot travel.
pub fn written_block(blocks: &dyn BlockStore, id: BlockId) -> Result<Option<Bytes>> {
    let Some(block) = blocks.get(id)? else { return Ok(None) };
    match block.written()? {
        Some(Block::Bytes { bytes, .. }) => Ok(Some(bytes)),
        _ => Err(Error::new(ErrorKind::Config, format!("block {id} has elements that cannot travel"))),
    }
}

/// Keeps a block that [`written_block`] wrote in another process.
///
/// # Errors
///
/// As [`BlockStore::put`].
pub fn keep_bytes(blocks: &dyn BlockStore, id: BlockId, bytes: Bytes) -> Result<()> {
    blocks.put(
        id,
        Block::Bytes { bytes, items: None, codec: TypeCodec::elsewhere() },
        StorageLevel::MEMORY_AND_DISK_SER,
    )
}

/// One task, as it is told to another process.
#[derive(Clone, Debug)]
pub struct AwayTask {
    /// What [`StageProgram::ship`] wrote.
    pub program: Bytes,
    /// The stage's number within its job.
    pub stage: StageId,
    /// The partition.
    pub partition: usize,
    /// How many partitions the stage has.
    pub partitions: usize,
    /// Which attempt this is, from 0.
    pub attempt: u32,
    /// What the thread that asked for the job says about it.
    pub properties: Properties,
    /// Whether what it reads is kept by another process, and this one did not wait for it: the driver is asked for it.
    pub elsewhere: bool,
}

/// What a map task left for one partition behind a shuffle, on its way.
#[derive(Clone, Debug)]
pub struct AwayBlock {
    /// The shuffle.
    pub shuffle: ShuffleId,
    /// The map task's partition.
    pub map: usize,
    /// The partition that it is for.
    pub partition: usize,
    /// How many elements there are, if that is known.
    pub items: Option<usize>,
    /// The elements, written.
    pub bytes: Bytes,
}

/// What a task left, on its way.
#[derive(Clone, Debug)]
pub struct AwayOutput {
    /// The blocks that it wrote for the partitions behind its shuffle, in their order, with the number of their elements;
    /// nothing if it gave a result.
    pub blocks: Option<Vec<(Option<usize>, Bytes)>>,
    /// Its result, written; nothing if it wrote a shuffle.
    pub result: Option<Bytes>,
    /// What the driver is to know because the task has succeeded.
    pub note: AwayNote,
}

/// What the driver is to know of a task that has succeeded elsewhere.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct AwayNote {
    /// What it has added to accumulators.
    pub updates: Vec<Vec<u8>>,
    /// What it did.
    pub metrics: TaskMetrics,
    /// The partitions of persisted Rdds that it has kept, or found kept, where it ran.
    pub kept: Vec<BlockId>,
    /// Those of them that no other process can have: their elements cannot be written.
    pub stay: Vec<BlockId>,
}

impl AwayNote {
    /// Does on the driver what the task asked for. Is called once a task.
    ///
    /// # Errors
    ///
    /// The kind is `User`: a closure of the program panicked over it.
    pub fn commit(&self) -> Result<()> {
        self.updates.iter().try_for_each(|update| accumulator::commit_written(update))
    }
}

/// What a process keeps to run tasks of one engine that lives in another.
pub struct Worker {
    blocks: Arc<dyn BlockStore>,
    memory: Arc<MemoryBudget>,
    spill: Arc<SpillDir>,
    checkpoints: Arc<dyn CheckpointStore>,
    driver: Arc<dyn DriverBlocks>,
    programs: Mutex<Programs<Arc<dyn StageProgram>>>,
}

impl Worker {
    /// Makes a worker with `memory` bytes, of which blocks hold on to the part `storage_fraction`, and files in `folder`.
    pub fn new(
        folder: &Path,
        memory: u64,
        storage_fraction: f64,
        checkpoints: Arc<dyn CheckpointStore>,
        driver: Arc<dyn DriverBlocks>,
    ) -> Worker {
        let memory = Arc::new(MemoryBudget::new(memory, storage_fraction));
        let disk = DiskStore::new(folder.join("blocks"));
        let blocks = Arc::new(TieredStore::new(MemoryStore::under(Arc::clone(&memory)), disk));
        let spill = SpillDir::new(folder.join("spill"));
        Worker { blocks, memory, spill, checkpoints, driver, programs: Mutex::default() }
    }

    /// Returns the kept partitions.
    pub fn blocks(&self) -> &Arc<dyn BlockStore> {
        &self.blocks
    }

    /// Keeps a copy of a block that another process has kept.
    ///
    /// # Errors
    ///
    /// As [`BlockStore::put`].
    pub fn keep(&self, id: BlockId, level: StorageLevel, items: Option<usize>, bytes: Bytes) -> Result<()> {
        self.blocks.put(id, Block::Bytes { bytes, items, codec: TypeCodec::elsewhere() }, level)
    }

    /// Runs a task over what map tasks left for it. It ends early when `cancelled` is set.
    ///
    /// # Errors
    ///
    /// Whatever the stage fails with; `Data` if another build wrote it.
    pub fn run(&self, task: AwayTask, inputs: Vec<AwayBlock>, cancelled: Arc<AtomicBool>) -> Result<AwayOutput> {
        let program = self.program(&task.program)?;
        let shuffles = ShuffleStore::away(Arc::clone(&self.memory), Arc::clone(&self.spill));
        let blocks = Arc::new(Noted {
            blocks: Arc::clone(&self.blocks),
            driver: Arc::clone(&self.driver),
            elsewhere: task.elsewhere,
            seen: Mutex::default(),
        });
        for AwayBlock { shuffle, map, partition, items, bytes } in inputs {
            shuffles.put_one(shuffle, map, partition, Block::Bytes { bytes, items, codec: TypeCodec::elsewhere() })?;
        }
        let (tally, begun) = (Arc::new(Tally::default()), monotonic());
        let context = TaskContext::new(
            task.stage,
            task.partition,
            task.partitions,
            task.attempt,
            Arc::new(self.env(shuffles, Arc::clone(&blocks) as _)),
            cancelled,
            task.properties,
            Some(Arc::clone(&tally)),
        );
        let (written, result) = match context.run(&*program)? {
            TaskOutput::Shuffle(blocks) => {
                tally.wrote(&blocks);
                (Some(blocks.iter().map(written_of).collect::<Result<_>>()?), None)
            }
            TaskOutput::Result(result) => (None, Some(result.codec.encode(&*result.value)?)),
        };
        let metrics = tally.metrics(monotonic().saturating_sub(begun));
        let note =
            AwayNote { updates: context.updates().written()?, metrics, kept: blocks.kept(), stay: blocks.stay() };
        Ok(AwayOutput { blocks: written, result, note })
    }

    /// Reads a stage's program, or finds it among those that were read.
    fn program(&self, bytes: &Bytes) -> Result<Arc<dyn StageProgram>> {
        if let Some(known) = lock(&self.programs).find(bytes) {
            return Ok(known);
        }
        // The program's own code reads it, and may take its time.
        let program = catch_unwind(AssertUnwindSafe(|| <dyn StageProgram>::arrive(bytes)))
            .map_err(|payload| panicked(&*payload))??;
        let mut programs = lock(&self.programs);
        if let Some(known) = programs.find(bytes) {
            return Ok(known);
        }
        let gone = programs.keep(bytes, Arc::clone(&program));
        drop(programs);
        drop(gone);
        Ok(program)
    }

    /// Makes the stores that one task sees.
    fn env(&self, shuffles: ShuffleStore, blocks: Arc<dyn BlockStore>) -> Env {
        Env {
            output_disk: Arc::new(crate::disk::RealDisk),
            blocks,
            shuffles,
            memory: Arc::clone(&self.memory),
            spill: Arc::clone(&self.spill),
            saved: RwLock::new(Some(Arc::clone(&self.checkpoints))),
            events: Events::new(Arc::new(SystemClock::new())),
            saved_under: RwLock::default(),
            saved_so_far: AtomicU64::new(0),
            driver: Some(Arc::clone(&self.driver)),
        }
    }
}

fn written_of(block: &Block) -> Result<(Option<usize>, Bytes)> {
    match block.written()? {
        Some(Block::Bytes { bytes, items, .. }) => Ok((items, bytes)),
        _ => Err(crate::bug!("a shuffle block has elements that cannot travel")),
    }
}

/// The blocks of a worker, as one task sees them; takes note of what it keeps and finds.
#[derive(Debug)]
struct Noted {
    blocks: Arc<dyn BlockStore>,
    driver: Arc<dyn DriverBlocks>,
    elsewhere: bool,
    /// What was kept or found, and whether its elements can travel.
    seen: Mutex<BTreeMap<BlockId, bool>>,
}

impl Noted {
    /// Returns what it has kept or found, and is there still.
    fn kept(&self) -> Vec<BlockId> {
        lock(&self.seen).keys().copied().filter(|id| self.blocks.contains(*id)).collect()
    }

    /// Returns what of it cannot leave this process.
    fn stay(&self) -> Vec<BlockId> {
        lock(&self.seen).iter().filter(|(_, travels)| !**travels).map(|(id, _)| *id).collect()
    }

    fn note(&self, id: BlockId, block: &Block) {
        if matches!(id, BlockId::Rdd { .. }) {
            lock(&self.seen).insert(id, !matches!(block, Block::Live { codec: None, .. }));
        }
    }

    /// Has a second copy kept elsewhere. Without one the block is as good; it is made again if it is lost.
    fn copy(&self, id: BlockId, block: &Block, level: StorageLevel) {
        let copied = block.written().and_then(|written| match written {
            Some(Block::Bytes { bytes, items, .. }) => self.driver.copy(id, level, items, bytes),
            _ => Ok(()),
        });
        if let Err(error) = copied {
            tracing::warn!(%error, "there is no second copy of block {id}");
        }
    }
}

impl BlockStore for Noted {
    fn put(&self, id: BlockId, block: Block, level: StorageLevel) -> Result<()> {
        self.note(id, &block);
        if level.replication() > 1 && matches!(id, BlockId::Rdd { .. }) {
            self.copy(id, &block, level);
        }
        self.blocks.put(id, block, level)
    }

    fn get(&self, id: BlockId) -> Result<Option<Block>> {
        if let Some(block) = self.blocks.get(id)? {
            self.note(id, &block);
            return Ok(Some(block));
        }
        if !self.elsewhere || !matches!(id, BlockId::Rdd { .. }) {
            return Ok(None);
        }
        let found = self.driver.block(id)?;
        Ok(found.map(|bytes| Block::Bytes { bytes, items: None, codec: TypeCodec::elsewhere() }))
    }

    fn contains(&self, id: BlockId) -> bool {
        self.blocks.contains(id)
    }

    fn remove(&self, id: BlockId) -> Result<()> {
        self.blocks.remove(id)
    }

    fn make_room(&self, bytes: u64) -> Result<()> {
        self.blocks.make_room(bytes)
    }

    fn usage(&self) -> StoreUsage {
        self.blocks.usage()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({} programs, {:?})", lock(&self.programs).count(), self.blocks.usage())
    }
}

/// Writes an error for another process. What it was caused by is left behind; its text is not.
///
/// # Errors
///
/// None that can happen.
pub fn written_error(error: &Error) -> Result<Vec<u8>> {
    let site = error.site().map(|site| (site.op(), site.file(), site.line()));
    let batch = error.batch().map(|batch| batch.as_millis());
    codec::encode(&(kind_number(error.kind()), error.message(), site, batch, error.is_lost()))
}

/// Reads an error that [`written_error`] wrote.
///
/// # Errors
///
/// The kind is `Data`: these are other bytes.
pub fn read_error(bytes: &[u8]) -> Result<Error> {
    type Written = (u8, String, Option<(String, String, u32)>, Option<i64>, bool);
    let (kind, message, site, batch, lost): Written = codec::decode(bytes)?;
    let mut error = match lost {
        true => Error::lost(message),
        false => Error::new(KINDS.get(usize::from(kind)).copied().unwrap_or(ErrorKind::Internal), message),
    };
    if let Some((op, file, line)) = site {
        error = error.at(CallSite::elsewhere(intern(op), intern(file), line));
    }
    if let Some(batch) = batch {
        error = error.in_batch(Time::from_millis(batch));
    }
    Ok(error)
}

/// All kinds, each at its number: a format between processes of one build.
const KINDS: [ErrorKind; 7] = [
    ErrorKind::Graph,
    ErrorKind::Config,
    ErrorKind::User,
    ErrorKind::Unavailable,
    ErrorKind::Data,
    ErrorKind::Stopped,
    ErrorKind::Internal,
];

fn kind_number(kind: ErrorKind) -> u8 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1) as u8
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checkpoint::MemoryCheckpoints;
    use crate::context::Context;
    use crate::plan::ship::capture;
    use crate::plan::{JobPlan, plan_job};
    use crate::rdd::actions::CollectAction;
    use crate::{ExchangeData, Rdd};

    /// Blocks of the driver's store, read as another process would.
    #[derive(Debug)]
    struct Asked(Arc<Env>);
    impl DriverBlocks for Asked {
        fn block(&self, id: BlockId) -> Result<Option<Bytes>> {
            written_block(&*self.0.blocks, id)
        }

        fn copy(&self, id: BlockId, level: StorageLevel, items: Option<usize>, bytes: Bytes) -> Result<()> {
            self.0.blocks.put(id, Block::Bytes { bytes, items, codec: TypeCodec::elsewhere() }, level)
        }

        fn may_publish(&self) -> Result<()> {
            Err(Error::new(ErrorKind::Stopped, "given up"))
        }
    }

    fn worker(context: &Context) -> (Worker, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let driver = Arc::new(Asked(Arc::clone(context.env())));
        let checkpoints = Arc::new(MemoryCheckpoints::new());
        (Worker::new(folder.path(), 1 << 26, 0.5, checkpoints, driver), folder)
    }

    fn task(job: &JobPlan, stage: usize, partition: usize) -> AwayTask {
        AwayTask {
            program: job.stages[stage].program.ship().unwrap().into(),
            stage: StageId(stage as u32),
            partition,
            partitions: job.stages[stage].partitions,
            attempt: 0,
            properties: Properties::default(),
            elsewhere: false,
        }
    }

    fn collecting<T: ExchangeData>(rdd: &Rdd<T>) -> JobPlan {
        let wanted = (0..rdd.num_partitions()).collect();
        let context = rdd.context();
        let action = Arc::new(CollectAction::<T>::new());
        plan_job(rdd.node(), action, wanted, CallSite::here("collect"), None, &**context.env())
    }

    /// Runs all tasks of a job on a worker, as a backend would.
    fn run<T: ExchangeData>(worker: &Worker, rdd: &Rdd<T>) -> Result<Vec<T>> {
        let job = collecting(rdd);
        let mut blocks: Vec<AwayBlock> = Vec::new();
        let mut found = Vec::new();
        for (at, stage) in job.stages.iter().enumerate() {
            for partition in 0..stage.partitions {
                let reads = stage.program.reads(partition);
                let inputs = blocks.iter().filter(|b| reads.contains(&(b.shuffle, b.partition))).cloned().collect();
                let output = worker.run(task(&job, at, partition), inputs, Arc::default())?;
                output.note.commit()?;
                for (q, (items, bytes)) in output.blocks.into_iter().flatten().enumerate() {
                    let shuffle = stage.shuffle.unwrap().id;
                    blocks.push(AwayBlock { shuffle, map: partition, partition: q, items, bytes });
                }
                if let Some(result) = output.result {
                    let value = stage.program.result_codec().unwrap().decode(&result)?;
                    found.extend(*value.downcast::<Vec<T>>().unwrap());
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn a_job_of_several_stages_runs_on_what_travels_alone() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let numbers = context.parallelize((0..20u64).collect(), 3);
        let sums = numbers.map(|x| (x % 3, x)).reduce_by_key_partitioned(|a, b| a + b, 2);
        let both = sums.union(&sums.map(|(k, v)| (k + 3, v))).repartition(4);
        let mut got = run(&worker, &both).unwrap();
        got.sort_unstable();
        assert_eq!(got, [(0, 63), (1, 70), (2, 57), (3, 63), (4, 70), (5, 57)]);
    }

    #[test]
    fn a_task_is_given_what_it_reads_and_no_more() {
        let context = Context::new("local[2]", "t").unwrap();
        let pairs = context.parallelize(vec![(1u64, 1u64), (2, 2)], 2);
        let (a, b) = (pairs.partition_by(2), pairs.partition_by(3));
        let shape = |rdd: &Rdd<(u64, u64)>, p: usize| -> Vec<usize> {
            let job = collecting(rdd);
            job.stages.last().unwrap().program.reads(p).into_iter().map(|(_, q)| q).collect()
        };
        let union = a.union(&b);
        assert_eq!((0..5).map(|p| shape(&union, p)).collect::<Vec<_>>(), [vec![0], vec![1], vec![0], vec![1], vec![2]]);
        assert_eq!((0..2).map(|p| shape(&b.coalesce(2), p)).collect::<Vec<_>>(), [vec![0], vec![1, 2]]);
        let job = collecting(&a.cartesian(&b));
        let reads: Vec<_> = (0..6).map(|p| job.stages[2].program.reads(p).len()).collect();
        assert_eq!(reads, [2; 6]);
    }

    #[test]
    fn what_a_task_has_added_counts_on_the_driver_and_only_when_it_is_told() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let seen = context.long_accumulator("seen");
        let rdd = context.parallelize(vec![1i64, 2, 3], 2).map(capture(seen.clone(), |seen, x: i64| {
            seen.add(x);
            x
        }));
        let output = worker.run(task(&collecting(&rdd), 0, 1), vec![], Arc::default()).unwrap();
        assert_eq!(seen.value(), 0);
        output.note.commit().unwrap();
        assert_eq!(seen.value(), 5);
        assert_eq!(output.note.metrics.records_read, 2);
        drop((seen, rdd));
        output.note.commit().unwrap();
    }

    #[test]
    fn blocks_that_only_the_driver_has_are_asked_for() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let id = BlockId::Received { stream: 1, sequence: 7 };
        context.env().blocks.put(id, Block::exchange(vec![4u32, 5]), StorageLevel::MEMORY_ONLY).unwrap();
        assert_eq!(run(&worker, &context.blocks::<u32>(vec![id])).unwrap(), [4, 5]);
        let lost = context.blocks::<u32>(vec![BlockId::Received { stream: 1, sequence: 8 }]);
        assert_eq!(run(&worker, &lost).unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn a_second_copy_is_kept_and_read_by_a_task_that_runs_where_there_is_none() {
        let context = Context::new("local[2]", "t").unwrap();
        let (one, _folder) = worker(&context);
        let pairs = context.parallelize(vec![(1u64, 1u64), (2, 2), (3, 3)], 2).partition_by(2);
        pairs.persist(StorageLevel::DISK_ONLY_2);
        let job = collecting(&pairs);
        run(&one, &pairs).unwrap();
        let id = BlockId::Rdd { rdd: pairs.id(), partition: 1 };
        assert!(context.env().blocks.contains(id), "the copy");
        let (other, _folder) = worker(&context);
        let away = AwayTask { elsewhere: true, ..task(&job, 1, 1) };
        assert!(other.run(task(&job, 1, 1), vec![], Arc::default()).unwrap_err().is_lost(), "nobody is asked");
        let output = other.run(away, vec![], Arc::default()).unwrap();
        assert!(output.note.kept.is_empty() && output.note.stay.is_empty());
        assert_eq!(output.result, one.run(task(&job, 1, 1), vec![], Arc::default()).unwrap().result);
    }

    #[test]
    fn what_cannot_be_written_is_told_to_stay() {
        #[derive(Clone)]
        struct NoBytes;
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let live = context.parallelize(vec![1u64, 2], 1).map(|_| NoBytes);
        live.cache();
        let output = worker.run(task(&collecting(&live.map(|_| 1u8)), 0, 0), vec![], Arc::default()).unwrap();
        assert_eq!(output.note.stay, [BlockId::Rdd { rdd: live.id(), partition: 0 }]);
        assert_eq!(output.note.kept, output.note.stay);
    }

    #[test]
    fn a_process_that_was_given_up_writes_no_file_in_its_place() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, folder) = worker(&context);
        let action = Arc::new(crate::rdd::output::WriteLines::<u64> {
            folder: folder.path().to_path_buf(),
            of: std::marker::PhantomData,
        });
        let rdd = context.parallelize(vec![1u64], 1);
        let job = plan_job(rdd.node(), action, vec![0], CallSite::here("save"), None, &**context.env());
        let error = worker.run(task(&job, 0, 0), vec![], Arc::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert!(std::fs::read_dir(folder.path()).unwrap().flatten().all(|file| file.file_name() != "part-00000"));
    }

    #[test]
    fn an_error_keeps_its_kind_its_text_and_its_line() {
        let error = Error::new(ErrorKind::User, "no such sensor").at(CallSite::here("map"));
        let back = read_error(&written_error(&error.in_batch(Time::from_millis(5))).unwrap()).unwrap();
        assert_eq!(back.kind(), ErrorKind::User);
        assert!(back.to_string().starts_with("batch 5 ms: no such sensor (map at "), "{back}");
        assert!(back.to_string().contains("away.rs:"), "{back}");
        assert!(read_error(b"garbage").is_err());
    }

    #[test]
    fn a_panic_away_is_an_error_at_its_line_and_a_missing_block_is_told() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let rdd = context.parallelize(vec![1u64], 1).map(|x| if x == 1 { panic!("one") } else { x });
        let error = run(&worker, &rdd).unwrap_err();
        assert!(error.to_string().contains("panicked: one (map at"), "{error}");
        let sums = context.parallelize(vec![(1u64, 1u64)], 2).partition_by(2);
        let error = worker.run(task(&collecting(&sums), 1, 0), vec![], Arc::default()).unwrap_err();
        assert!(error.is_lost(), "{error}");
        assert!(read_error(&written_error(&error).unwrap()).unwrap().is_lost());
    }

    #[test]
    fn a_task_tells_what_it_keeps_and_a_kept_partition_is_read_without_what_is_behind_it() {
        let context = Context::new("local[2]", "t").unwrap();
        let (worker, _folder) = worker(&context);
        let pairs = context.parallelize(vec![(1u64, 1u64), (2, 2), (3, 3)], 2).partition_by(2);
        pairs.cache();
        let job = collecting(&pairs.map(|(k, _)| k));
        let keeps: Vec<_> = (0..2).map(|p| job.stages[1].program.keeps(p)).collect();
        let ids: Vec<_> = (0..2).map(|partition| vec![BlockId::Rdd { rdd: pairs.id(), partition }]).collect();
        assert_eq!(keeps, ids);
        let whole = run(&worker, &pairs).unwrap();
        let again = worker.run(task(&job, 1, 0), vec![], Arc::default()).unwrap();
        assert_eq!(again.note.kept, ids[0], "it was found, and nothing was read from a shuffle");
        assert_eq!(whole.len(), 3);
        worker.blocks().remove(ids[0][0]).unwrap();
        assert!(worker.run(task(&job, 1, 0), vec![], Arc::default()).unwrap_err().is_lost());
    }

    #[test]
    fn a_task_is_sent_those_of_the_given_values_that_it_reads() {
        let context = Context::new("local[1]", "given").unwrap();
        let (worker, _folder) = worker(&context);
        let long = |letter: char| letter.to_string().repeat(1000);
        let given = context.parallelize("abcde".chars().map(long).collect(), 5);
        let none = context.range(0, 2, 1, 2).map(|i| i.to_string());
        let pairs = given.cartesian(&given).map(|(a, b)| a + &b);
        for rdd in [given.map(|text| text), given.coalesce(2), none.union(&given), given.union(&given), pairs] {
            let job = collecting(&rdd);
            let program = &job.stages[0].program;
            let letters = |bytes: &[u8]| -> BTreeSet<char> {
                ('a'..='e')
                    .filter(|letter| bytes.windows(1000).any(|w| w.iter().all(|b| *b == *letter as u8)))
                    .collect()
            };
            assert_eq!(letters(&program.ship().unwrap()).len(), 5);
            for partition in 0..rdd.num_partitions() {
                let own = program.ship_one(partition).unwrap().unwrap();
                let output = worker.run(
                    AwayTask { program: own.clone().into(), ..task(&job, 0, partition) },
                    vec![],
                    Arc::default(),
                );
                let result = output.unwrap().result.unwrap();
                assert_eq!(letters(&own), letters(&result), "partition {partition}");
                let whole = worker.run(task(&job, 0, partition), vec![], Arc::default()).unwrap();
                assert_eq!(whole.result.unwrap(), result);
            }
        }
        assert!(collecting(&none).stages[0].program.ship_one(0).unwrap().is_none(), "all tasks have the same program");
    }
}
