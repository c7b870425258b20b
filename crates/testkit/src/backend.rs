//! A backend that writes every stage to bytes and reads it back, so that nothing is built that cannot travel.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use millstream_core::backend::{Backend, JobEnds, JobHandle, LocalThreads};
use millstream_core::plan::{JobPlan, StageProgram, TaskOutput, TaskResult};
use millstream_core::{Env, Error, ErrorKind, Result, TaskContext};

/// Runs jobs on threads of this process as if it were another: stages, shuffle blocks and results go through bytes.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use millstream_core::{Context, conf::EngineConf};
/// use millstream_testkit::ThroughBytes;
///
/// let conf = EngineConf::new("local[2]", "travels")?;
/// let context = Context::builder(conf).with_backend(Arc::new(ThroughBytes::new(2)?)).build()?;
/// assert_eq!(context.parallelize(vec![1, 2], 2).map(|x: i32| x + 1).collect()?, [2, 3]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ThroughBytes {
    threads: LocalThreads,
}

impl ThroughBytes {
    /// Runs on `threads` threads.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads.
    pub fn new(threads: usize) -> Result<ThroughBytes> {
        Ok(ThroughBytes { threads: LocalThreads::new(threads, 1)? })
    }
}

impl Backend for ThroughBytes {
    fn slots(&self) -> usize {
        self.threads.slots()
    }

    fn closures_travel(&self) -> bool {
        true
    }

    fn run(&self, mut job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle {
        for stage in &mut job.stages {
            stage.program = Arc::new(Travelled { left: Arc::clone(&stage.program), arrived: OnceLock::new() });
        }
        self.threads.run(job, env, ends)
    }
}

struct Travelled {
    left: Arc<dyn StageProgram>,
    arrived: OnceLock<Result<Arc<dyn StageProgram>>>,
}

impl StageProgram for Travelled {
    fn run(&self, task: &TaskContext) -> Result<TaskOutput> {
        let arrived = self.arrived.get_or_init(|| <dyn StageProgram>::arrive(&self.left.ship()?));
        match arrived.clone()?.run(task)? {
            TaskOutput::Shuffle(blocks) => {
                let written = blocks.iter().map(|block| {
                    block.written()?.ok_or_else(|| {
                        Error::new(ErrorKind::Internal, "a shuffle block has elements that cannot travel")
                    })
                });
                Ok(TaskOutput::Shuffle(written.collect::<Result<_>>()?))
            }
            TaskOutput::Result(TaskResult { value, codec }) => {
                let value: &(dyn Any + Send + Sync) = &*value;
                let bytes = codec.encode(value)?;
                Ok(TaskOutput::Result(TaskResult { value: codec.decode(&bytes)?, codec }))
            }
        }
    }

    fn ship(&self) -> Result<Vec<u8>> {
        self.left.ship()
    }
}
