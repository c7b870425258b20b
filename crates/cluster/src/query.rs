//! A job as one query of Ballista: each stage an operator, each shuffle a repartition of rows. Pure.
//!
//! Ballista plans trees, and our jobs are graphs: a stage may be read by several. It stands in the tree where it is first
//! read; wherever else, there stands a leaf with the number that Ballista's planner gives to that stage. The planner counts
//! the repartitions from the leaves up and from left to right, and so do we.

use std::collections::BTreeMap;
use std::sync::Arc;

use ballista_core::execution_plans::UnresolvedShuffleExec;
use bytes::Bytes;
use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::repartition::RepartitionExec;
use millstream_core::plan::{JobPlan, Preference, StageProgram};
use millstream_core::storage::BlockId;
use millstream_core::{Error, ErrorKind, Result, bug};

use crate::blocks::Home;
use crate::routing::partitioning;
use crate::rows::schema;
use crate::stage::{Readers, StageDesc, StageExec, TaskStamp, Work};

/// How many stages may stand behind each other: planners go down the tree by recursion.
const DEEPEST: usize = 200;

/// The most bytes that the program of a stage may have: it goes to executors with each task.
const LARGEST: usize = 256 << 20;

/// From how many bytes on, in all, partitions have a program each. Few are sent together: then executors read them once.
const WORTH: usize = 16 << 10;

/// For each partition of a shuffle, who reads it of the stage behind; nothing if it is the one of the same number.
type Table = Option<Vec<Vec<u32>>>;

/// A job that is ready to travel.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    engine: u64,
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
struct Stage {
    work: Work,
    /// For each partition a program of its own, where those are shorter than one for all.
    programs: Arc<[Bytes]>,
    /// How many partitions Ballista sees.
    partitions: usize,
    shuffle: Option<millstream_core::plan::ShuffleStage>,
    /// The stages that it reads from, and who of it reads what of them.
    inputs: Vec<(usize, Table)>,
    /// For each partition where that is what it reads, if it is kept.
    prefer: Vec<Option<Home>>,
    /// For each partition where it would best read what comes from outside; empty if none wishes for anything.
    wishes: Vec<Option<Preference>>,
}

impl Query {
    /// Prepares a job: writes its programs down, and finds out who reads what.
    ///
    /// # Errors
    ///
    /// The kind is `User`: all closures of all stages that capture silently, each with its line; `Graph`: too many stages
    /// stand behind each other.
    pub(crate) fn new(engine: u64, job: &JobPlan, home: &dyn Fn(&[BlockId]) -> Option<Home>) -> Result<Query> {
        let mut faults = Vec::new();
        let mut stages: Vec<Stage> = Vec::with_capacity(job.stages.len());
        let mut depths: Vec<usize> = Vec::with_capacity(job.stages.len());
        let last = job.stages.len() - 1;
        for (at, stage) in job.stages.iter().enumerate() {
            let real: Vec<usize> = if at == last { job.wanted.clone() } else { (0..stage.partitions).collect() };
            let (program, programs) = programs(&*stage.program, &real).unwrap_or_else(|error| {
                faults.push(if error.site().is_some() { error } else { error.at(stage.site) });
                (Bytes::new(), Vec::new())
            });
            let (programs, partitions) = (programs.into(), stage.partitions);
            let inputs = tables(job, at, &real);
            let depth = inputs.iter().map(|(input, _)| depths[*input] + 1).max().unwrap_or(0);
            if depth > DEEPEST {
                let text = format!(
                    "more than {DEEPEST} shuffles stand behind each other; checkpoint() an Rdd between, so that its lineage is \
                     cut"
                );
                return Err(Error::new(ErrorKind::Graph, text).at(stage.site));
            }
            depths.push(depth);
            let count = real.len();
            let prefer = real.iter().map(|p| home(&stage.program.keeps(*p))).collect();
            let mut wishes: Vec<_> = real.iter().map(|p| stage.program.prefers(*p)).collect();
            if wishes.iter().all(Option::is_none) {
                wishes.clear();
            }
            let work = Work::Run { program, real, partitions, properties: Arc::clone(&job.properties) };
            stages.push(Stage { work, programs, partitions: count, shuffle: stage.shuffle, inputs, prefer, wishes });
        }
        if !faults.is_empty() {
            return Err(Error::several("stages cannot travel", &faults));
        }
        Ok(Query { engine, stages })
    }

    /// Says whether a stage is read by several, or one reads what was made of what another read.
    pub(crate) fn is_deep(&self) -> bool {
        let inputs: Vec<&[(usize, Table)]> = self.stages.iter().map(|stage| &stage.inputs[..]).collect();
        is_deep(&inputs)
    }

    /// Makes the plan. `tried` says how often the job has been tried before, `number` under which one its results are brought.
    ///
    /// # Errors
    ///
    /// The kind is `Internal`: DataFusion does not take it.
    pub(crate) fn plan(&self, tried: u32, number: u64) -> Result<Arc<dyn ExecutionPlan>> {
        let mut readers: BTreeMap<usize, Vec<(usize, &Table)>> = BTreeMap::new();
        for stage in &self.stages {
            for (input, table) in &stage.inputs {
                readers.entry(*input).or_default().push((stage.partitions, table));
            }
        }
        let mut plan = Planning { query: self, tried, readers, numbers: BTreeMap::new(), next: 0 };
        plan.stage(self.stages.len() - 1, Readers::Driver(number))
    }
}

fn is_deep<T>(inputs: &[&[(usize, T)]]) -> bool {
    let mut readers = vec![0; inputs.len()];
    inputs.iter().flat_map(|read| read.iter()).for_each(|(input, _)| readers[*input] += 1);
    let reads_of_reader = |read: &&[(usize, T)]| read.iter().any(|(input, _)| !inputs[*input].is_empty());
    readers.iter().any(|count| *count > 1) || inputs.iter().any(reads_of_reader)
}

/// Writes down what the tasks of a stage do: one program for all, or one for each partition of `real` where values that the program
/// gave are worth it, as each task needs its own of them alone.
fn programs(program: &dyn StageProgram, real: &[usize]) -> Result<(Bytes, Vec<Bytes>)> {
    let own = real.iter().map(|p| program.ship_one(*p)?.map(|own| small_enough(own, LARGEST)).transpose());
    match own.collect::<Result<Option<Vec<_>>>>()? {
        Some(own) if own.iter().map(Vec::len).sum::<usize>() > WORTH => {
            Ok((Bytes::new(), own.into_iter().map(Bytes::from).collect()))
        }
        _ => small_enough(program.ship()?, LARGEST).map(|whole| (Bytes::from(whole), Vec::new())),
    }
}

/// Refuses a program that could not be sent in time: that would look as if executors were lost, one after the other.
fn small_enough(program: Vec<u8>, most: usize) -> Result<Vec<u8>> {
    if program.len() <= most {
        return Ok(program);
    }
    let text = format!(
        "what a task of this stage is to do has {} bytes, with what parallelize() was given and closures capture, and may have \
         {most}, as it is sent: read data where the tasks run, share values by broadcast(), or use fewer at a time",
        program.len()
    );
    Err(Error::new(ErrorKind::Config, text))
}

/// Says who of stage `at`, whose Ballista partitions read `real`, reads what of each stage before it.
fn tables(job: &JobPlan, at: usize, real: &[usize]) -> Vec<(usize, Table)> {
    let stage = &job.stages[at];
    if real.is_empty() {
        return Vec::new();
    }
    let inputs = stage.inputs.iter().map(|id| id.0 as usize).filter(|input| job.stages[*input].partitions > 0);
    let mut tables: Vec<(usize, Vec<Vec<u32>>)> =
        inputs.filter_map(|input| Some((input, vec![Vec::new(); job.stages[input].shuffle?.partitions]))).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    for (place, partition) in real.iter().enumerate() {
        for (shuffle, q) in stage.program.reads(*partition) {
            let of = |input: &usize| job.stages[*input].shuffle.is_some_and(|written| written.id == shuffle);
            let table = tables.iter_mut().find(|(input, _)| of(input));
            if let Some(readers) = table.and_then(|(_, table)| table.get_mut(q)) {
                readers.push(place as u32);
            }
        }
    }
    let plain = |table: &Vec<Vec<u32>>| {
        table.len() == real.len() && table.iter().enumerate().all(|(q, to)| to.is_empty() || *to == [q as u32])
    };
    tables.into_iter().map(|(input, table)| (input, if plain(&table) { None } else { Some(table) })).collect()
}

struct Planning<'a> {
    query: &'a Query,
    tried: u32,
    /// Who reads each stage: how many partitions they have, and what each reads.
    readers: BTreeMap<usize, Vec<(usize, &'a Table)>>,
    /// What the planner will call the stages that stand in the tree already, with how many readers they write for.
    numbers: BTreeMap<usize, (usize, usize)>,
    next: usize,
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn wrong(error: DataFusionError) -> Error {
    bug!("a job is no plan for DataFusion: {error}")
}

impl Planning<'_> {
    fn exec(
        &self,
        at: usize,
        work: Work,
        readers: Readers,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Arc<dyn ExecutionPlan> {
        let (engine, stage, tried) = (self.query.engine, at as u32, self.tried);
        let (prefer, wishes) = match work {
            Work::Run { .. } => (self.query.stages[at].prefer.clone(), self.query.stages[at].wishes.clone()),
            Work::Pass => (Vec::new(), Vec::new()),
        };
        let desc = StageDesc { engine, stage, work, readers, tried, task: TaskStamp::default() };
        let programs = &self.query.stages[at].programs;
        Arc::new(StageExec::new(Arc::new(desc), inputs).preferring(prefer, wishes).with_programs(programs))
    }

    fn stage(&mut self, at: usize, readers: Readers) -> Result<Arc<dyn ExecutionPlan>> {
        let stage = &self.query.stages[at];
        let mut inputs = Vec::with_capacity(stage.inputs.len());
        for (input, table) in &stage.inputs {
            inputs.push(self.input(*input, stage.partitions, table)?);
        }
        if inputs.is_empty() {
            inputs.push(leaf(stage.partitions)?);
        }
        Ok(self.exec(at, stage.work.clone(), readers, inputs))
    }

    /// Gives what a stage of `count` partitions reads of the stage `at`.
    fn input(&mut self, at: usize, count: usize, table: &Table) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(shuffle) = self.query.stages[at].shuffle else {
            return Err(bug!("a stage reads from one that writes no shuffle"));
        };
        let readers = self.readers.get(&at).map_or(&[][..], Vec::as_slice);
        // Where all read alike, the blocks are sent to them as they are written.
        let alike = readers.iter().all(|(n, other)| *n == count && *other == table);
        let (sent, to) = if alike { (count, table.clone()) } else { (shuffle.partitions.max(1), None) };
        let blocks: Arc<dyn ExecutionPlan> = match self.numbers.get(&at) {
            Some((number, sent)) => Arc::new(UnresolvedShuffleExec::new(*number, schema(), partitioning(*sent))),
            None => {
                let readers = Readers::Stage { shuffle: shuffle.id, count: sent, to };
                let plan = self.stage(at, readers)?;
                let (plan, number) = self.repartitioned(plan, sent)?;
                self.numbers.insert(at, (number, sent));
                plan
            }
        };
        if alike || (table.is_none() && count == sent) {
            return Ok(blocks);
        }
        let readers = Readers::Stage { shuffle: shuffle.id, count, to: table.clone() };
        let pass = self.exec(at, Work::Pass, readers, vec![blocks]);
        self.repartitioned(pass, count).map(|(plan, _)| plan)
    }

    /// Sends the rows of a stage to `count` readers. Returns what the planner will call the stage, too.
    fn repartitioned(&mut self, plan: Arc<dyn ExecutionPlan>, count: usize) -> Result<(Arc<dyn ExecutionPlan>, usize)> {
        self.next += 1;
        let plan = RepartitionExec::try_new(plan, partitioning(count)).map_err(wrong)?;
        Ok((Arc::new(plan), self.next))
    }
}

/// Makes a source with one row in each partition: Ballista cuts such sources where it makes tasks of a stage.
fn leaf(partitions: usize) -> Result<Arc<dyn ExecutionPlan>> {
    let columns = Arc::new(Schema::new(vec![Field::new("split", DataType::UInt32, false)]));
    let row = |place: usize| -> Result<Vec<RecordBatch>> {
        let split = Arc::new(UInt32Array::from(vec![place as u32]));
        let batch = RecordBatch::try_new(Arc::clone(&columns), vec![split]);
        Ok(vec![batch.map_err(|error| wrong(error.into()))?])
    };
    let rows = (0..partitions).map(row).collect::<Result<Vec<_>>>()?;
    let source = MemorySourceConfig::try_new_exec(&rows, Arc::clone(&columns), None).map_err(wrong)?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_deep_where_a_stage_has_two_readers_or_stands_two_back() {
        let read = |inputs: &[&[usize]]| {
            let inputs: Vec<Vec<(usize, ())>> =
                inputs.iter().map(|of| of.iter().map(|at| (*at, ())).collect()).collect();
            is_deep(&inputs.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        assert!(!read(&[&[]]) && !read(&[&[], &[0]]) && !read(&[&[], &[], &[0, 1]]));
        assert!(read(&[&[], &[0], &[1]]) && read(&[&[], &[], &[0], &[0, 1]]) && read(&[&[], &[0], &[0, 1]]));
    }

    #[test]
    fn a_stage_that_is_too_large_to_travel_is_refused() {
        assert_eq!(small_enough(vec![1, 2], 2).unwrap(), [1, 2]);
        let error = small_enough(vec![1, 2, 3], 2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("has 3 bytes") && error.to_string().contains("parallelize()"), "{error}");
    }
}
