//! A program that is looked at, or whose batches are made again, and that is never started.

use std::path::Path;
use std::sync::Arc;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Result, Time};

use super::durable::Resume;
use super::launch::restore_inputs;
use super::{StreamingContext, StreamingContextBuilder};
use crate::checkpoint::identity::Wishes;
use crate::checkpoint::{Known, Past, Program};
use crate::graph::{Graph, OutputLook, RunId, StreamKind, guarded};
use crate::input::{DurableFolder, InputContext};

/// The graph of a program, and what it would run on.
pub(crate) struct Unstarted {
    /// In front, so that it is let go before what is on it.
    _engine: Engine,
    ssc: StreamingContext,
    graph: Graph,
}

/// The engine that a program is looked at on. One that is not its own goes on afterwards, and saves where it did.
struct Engine {
    context: Context,
    /// Where an engine that is not its own saves, if it does.
    lent: Option<Option<Arc<dyn CheckpointStore>>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        match self.lent.take() {
            None => self.context.stop(),
            Some(Some(store)) => self.context.set_checkpoint_store(store),
            Some(None) => self.context.clear_checkpoint_store(),
        }
    }
}

impl Unstarted {
    /// Builds the program on a disk, with its checkpoint in a folder, as if it had begun at `zero`.
    ///
    /// # Errors
    ///
    /// What the builder and `setup` fail with, mistakes in the graph, and no output.
    pub(crate) fn build(
        builder: StreamingContextBuilder,
        (disk, folder): (Arc<dyn Disk>, &Path),
        zero: Time,
        setup: &dyn Fn(&StreamingContext) -> Result<()>,
    ) -> Result<Unstarted> {
        let lent = builder.engine().map(|engine| engine.env().checkpoints().ok());
        let ssc = builder.with_disk(disk).build()?;
        let engine = Engine { context: ssc.inner.context.clone(), lent };
        ssc.keep_in(folder, Resume::Always)?;
        let mut graph = guarded(|| setup(&ssc)).and_then(|()| ssc.inner.graph.take())?;
        graph.initialise(zero, lock(&ssc.inner.remember).unwrap_or_default());
        Ok(Unstarted { _engine: engine, ssc, graph })
    }

    /// Returns how the program looks to a checkpoint. What it was told by others comes to what it says itself.
    pub(crate) fn program(&self, told: &Wishes) -> Program<'_> {
        let inner = &self.ssc.inner;
        let mut wishes = lock(&inner.wishes).clone();
        wishes.drop.extend(told.drop.iter().cloned());
        wishes.rename_once.extend(told.rename_once.iter().map(|(old, new)| (old.clone(), new.clone())));
        Program {
            app_id: inner.context.app_id(),
            zero: self.graph.zero(),
            interval: inner.interval,
            keepers: self.graph.keepers(),
            wishes,
        }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.ssc.inner.context
    }

    /// Returns the batches that can be made again.
    pub(crate) fn replayable(&self, known: &Known) -> Vec<Time> {
        let (facts, outputs) = (self.graph.facts(known), self.graph.output_streams());
        let batches = known.past_batches().into_iter().filter(|batch| batch.completed).map(|batch| batch.at);
        batches.filter(|at| known.past_of(*at, &facts, &outputs).is_some()).collect()
    }

    /// Makes a batch again, from what is known of it, up to where its outputs would take it.
    ///
    /// # Errors
    ///
    /// It is not there any more; an input cannot give again what it gave; or whatever planning fails with.
    pub(crate) fn replay(&mut self, known: &Known, batch: Time) -> Result<Vec<OutputLook>> {
        let facts = self.graph.facts(known);
        let Some(past) = known.past_of(batch, &facts, &self.graph.output_streams()) else {
            let can: Vec<String> = self.replayable(known).iter().map(|at| at.as_millis().to_string()).collect();
            let can = if can.is_empty() { "none".to_owned() } else { can.join(", ") };
            let text = format!(
                "the batch {batch} cannot be made again: what it was given, or a state that it was made from, is not kept. \
                 Batches that can: {can}. The setting retain_batches says how many are kept"
            );
            return Err(Error::new(ErrorKind::Data, text));
        };
        let inner = &self.ssc.inner;
        let (app_id, epoch) = known.run();
        self.graph.run = RunId { app_id: app_id.to_owned(), epoch };
        self.graph.is_replay = true;
        restore_inputs(&mut self.graph, known, inner.conf.check_inputs_again)?;
        let folder = lock(&inner.kept_in).clone().map(|(folder, _)| folder);
        for (i, slot) in self.graph.slots.iter_mut().enumerate() {
            let StreamKind::Input { number, input } = &mut slot.kind else { continue };
            let durable = known.key(i).zip(folder.as_ref());
            let context = InputContext {
                durable: durable.map(|(key, folder)| DurableFolder::of(&inner.disk, folder, key)),
                number: *number,
                interval: inner.interval,
                context: inner.context.clone(),
                conf: inner.conf.clone(),
                bus: inner.bus.clone(),
                hurry: Arc::clone(&inner.hurry),
                seats: Arc::default(),
            };
            input.replay(&context).map_err(|error| error.at(slot.spec.site))?;
        }
        let before = known.past_batches().into_iter().map(|before| before.at).filter(|at| *at < batch);
        let context = inner.context.clone();
        for at in before.chain([batch]) {
            self.compute(at, &context, &past).map_err(|error| error.in_batch(at))?;
        }
        self.graph.looks(batch, &context)
    }

    fn compute(&mut self, at: Time, context: &Context, past: &Past) -> Result<()> {
        let graph = &mut self.graph;
        guarded(|| graph.compute(at, context, Some(past), &mut |_, input| input.rdd(at, context)))
    }
}
