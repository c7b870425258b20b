//! The start: mistakes are reported, what an earlier run left is restored, and the threads begin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_core::clock::Wake;
use millstream_core::threads::{self, lock};
use millstream_core::{Error, ErrorKind, JobLocals, Result, panicked};

use super::{ACTIVE, Life, Shared, StreamingContext, StreamingContextState};
use crate::backpressure::RateControllers;
use crate::batch::BatchLoop;
use crate::batch::job_set::{JobRunner, JobThreads};
use crate::batch::lifecycle::{Lifecycle, Rules};
use crate::batch::submitted::Submitted;
use crate::batch::ticker::Ticker;
use crate::checkpoint::{Durable, Found, Known, LeftOut, Past, PastBatch, Program};
use crate::conf::OnFailure;
use crate::dstream::OutputStart;
use crate::graph::{Digests, Graph, RunId, Running, StreamKind};
use crate::input::{DurableFolder, InputContext};
use crate::listener::{self, StreamingEvent};
use crate::receiver::Seats;

impl StreamingContext {
    /// Starts the batches and returns. The graph is fixed from here on.
    ///
    /// A second start of an active context does nothing but a warning (S-136).
    ///
    /// # Errors
    ///
    /// All mistakes in the graph, each with its line; no output (kind `Graph`); the context has been stopped (kind
    /// `Stopped`); another context is active in this process (kind `Stopped`, and this one can be started later); an
    /// input that cannot start. But for the last but one the context is stopped then.
    ///
    /// # Spark
    ///
    /// `StreamingContext.start`, SC23.
    pub fn start(&self) -> Result<()> {
        let inner = &self.inner;
        let mut active = lock(&ACTIVE);
        let mut life = lock(&inner.shared.state);
        match life.state {
            StreamingContextState::Active => {
                tracing::warn!("the streaming context has been started already");
                return Ok(());
            }
            StreamingContextState::Stopped => {
                return Err(Error::new(ErrorKind::Stopped, "the streaming context has already been stopped"));
            }
            StreamingContextState::Initialized => {}
        }
        active.retain(|other| {
            other.upgrade().is_some_and(|o| lock_unless(&o.shared, &inner.shared) == StreamingContextState::Active)
        });
        if inner.conf.exclusive {
            let other = active.iter().filter_map(Weak::upgrade).find(|other| other.conf.exclusive);
            if let Some(other) = other {
                return Err(Error::new(
                    ErrorKind::Stopped,
                    format!(
                        "only one StreamingContext may be active in this process; the other one was made at {}:{}",
                        other.site.file(),
                        other.site.line()
                    ),
                ));
            }
        }
        // Who may be active beside others does not hold up their start either: its own may wait for a broker.
        let active = inner.conf.exclusive.then_some(active);
        match self.launch(&mut life) {
            Ok(()) => {
                life.state = StreamingContextState::Active;
                life.halted = false;
                active.unwrap_or_else(|| lock(&ACTIVE)).push(Arc::downgrade(inner));
                Ok(())
            }
            Err(error) => {
                life.state = StreamingContextState::Stopped;
                drop((life, active));
                inner.graph.set_stopped();
                listener::end(&inner.bus);
                inner.shared.changed.notify_all();
                Err(error)
            }
        }
    }

    /// Returns when batches are due, and how many before the first are left out because they were missed.
    fn ticker(&self, found: Option<&Found>) -> (Ticker, u64) {
        let (interval, now) = (self.inner.interval, self.inner.context.clock().now());
        match found.filter(|found| found.is_used()).map(Found::times) {
            Some((zero, latest)) => {
                Ticker::resume(zero, latest.unwrap_or(zero), interval, now, self.inner.conf.missed_batches)
            }
            None => (Ticker::first(now, interval), 0),
        }
    }

    /// Notes the start in the checkpoint, and restores what an earlier run left: to outputs what they prepared, to inputs what
    /// they gave, and what is to be planned again.
    fn restore(
        &self,
        found: Option<Found>,
        left_out: Option<LeftOut>,
        graph: &mut Graph,
    ) -> Result<(Option<Durable>, Option<PastBatches>)> {
        let context = &self.inner.context;
        graph.run = RunId { app_id: context.app_id().to_owned(), epoch: 0 };
        let mut start = OutputStart {
            concurrent_jobs: self.inner.conf.concurrent_jobs,
            goes_on_after_failures: self.inner.conf.on_failure == OnFailure::Continue,
            ..OutputStart::default()
        };
        let Some(found) = found else {
            if let Some(site) = graph.wants_exactly_once() {
                let text = "an output is to take each batch exactly once, and there is no checkpoint directory: say \
                            checkpoint(…), or make the program with get_or_create";
                return Err(Error::new(ErrorKind::Config, text).at(site));
            }
            graph.recover_outputs(&Default::default(), Default::default(), &start)?;
            return Ok((None, None));
        };
        graph.digests = if self.inner.conf.retain_batches > 0 { Digests::All } else { Digests::Asked };
        let is_used = found.is_used();
        let (zero, interval) = (graph.zero(), self.inner.interval);
        let wishes = lock(&self.inner.wishes).clone();
        let program = Program { app_id: context.app_id(), zero, interval, keepers: graph.keepers(), wishes };
        let mut durable = Durable::begin(found, program, left_out, context.env().checkpoints()?)?;
        let (app_id, epoch) = durable.known().run();
        context.save_under(format!("states-{epoch}"));
        graph.run = RunId { app_id: app_id.to_owned(), epoch };
        let prepared = durable.prepared();
        (start.name, start.earlier) = durable.runs();
        graph.recover_outputs(&prepared, durable.last_committed(), &start)?;
        prepared.into_keys().for_each(|at| durable.committed(at));
        if !is_used {
            return Ok((Some(durable), None));
        }
        restore_inputs(graph, durable.known(), self.inner.conf.check_inputs_again)?;
        let past = durable.known().past(&graph.facts(durable.known()), &graph.output_streams());
        let batches = durable.known().past_batches();
        Ok((Some(durable), Some((past, batches))))
    }

    fn launch(&self, life: &mut Life) -> Result<()> {
        let inner = &self.inner;
        if inner.context.closures_travel() {
            inner.graph.closures_travel();
        }
        let mut graph = inner.graph.take()?;
        if graph.outputs.is_empty() {
            return Err(Error::new(
                ErrorKind::Graph,
                "no output operations registered, so nothing to execute; end a stream with foreach_rdd, print or save",
            ));
        }
        let clock = Arc::clone(inner.context.clock());
        // What the program said itself counts.
        if let Some(folder) = &inner.conf.checkpoint_dir
            && !inner.ignores_folder.load(Ordering::Relaxed)
            && inner.context.env().checkpoints().is_err()
        {
            self.checkpoint(folder)?;
        }
        let found = self.find_checkpoint()?;
        let (ticker, left_out) = self.ticker(found.as_ref());
        graph.initialise(ticker.zero(), lock(&inner.remember).unwrap_or_default());
        if let Some(site) = graph.saved_streams().next() {
            inner.context.env().checkpoints().map_err(|e| e.at(site))?;
        }
        inner.bus.check()?;
        let to = ticker.next() - inner.interval;
        let gap = LeftOut {
            from: ticker.next() - inner.interval.saturating_mul(u32::try_from(left_out).unwrap_or(u32::MAX)),
            to,
        };
        let (durable, past) = self.restore(found, (left_out > 0).then_some(gap), &mut graph)?;
        let rates = RateControllers::new(graph.inputs_that_keep_to_a_limit(), &inner.conf, inner.interval)?;
        let now = clock.now();
        inner.bus.post(|| StreamingEvent::StreamingStarted(now));
        if left_out > 0 {
            let next = ticker.next();
            tracing::warn!(count = left_out, %next, "batches that were missed are left out");
            inner.bus.post(|| StreamingEvent::BatchesLeftOut(next, left_out));
        }

        let shared = Arc::clone(&inner.shared);
        let group = format!("streaming-{:p}", Arc::as_ptr(&inner.shared));
        let locals = JobLocals::here().in_group(&group);
        let locals = locals.with_properties([("spark.job.interruptOnCancel", "false".to_owned())]);
        let runner = JobRunner {
            context: inner.context.clone(),
            clock: Arc::clone(&clock),
            bus: inner.bus.clone(),
            mailbox: Arc::clone(&inner.mailbox),
            report: reporter(&shared),
            locals: locals.clone(),
            group,
        };
        let jobs = JobThreads::start(inner.conf.concurrent_jobs, runner)?;
        life.own = jobs.thread_ids();
        let folder = lock(&inner.kept_in).clone().map(|(folder, _)| folder);
        let durable_folder = |stream: usize| {
            let key = durable.as_ref()?.known().key(stream)?;
            Some(DurableFolder::of(&inner.disk, folder.as_ref()?, key))
        };
        let seats = Arc::new(Seats::default());
        let started = start_inputs(&mut graph, |stream, number| InputContext {
            seats: Arc::clone(&seats),
            durable: durable_folder(stream),
            number,
            interval: inner.interval,
            context: inner.context.clone(),
            conf: inner.conf.clone(),
            bus: inner.bus.clone(),
            hurry: Arc::clone(&inner.hurry),
        });
        if let Err(error) = started {
            jobs.stop(Duration::ZERO);
            return Err(error);
        }
        seats.open();
        let waker: Arc<dyn Wake> = Arc::clone(&inner.mailbox) as Arc<dyn Wake>;
        clock.subscribe(Arc::downgrade(&waker));
        let rules = Rules { checkpoint: durable.is_some(), stop_on_failure: inner.conf.on_failure == OnFailure::Stop };
        let batches = BatchLoop {
            graph,
            context: inner.context.clone(),
            conf: inner.conf.clone(),
            seen_steps: clock.stepped(),
            submitted: Submitted::new(inner.conf.concurrent_jobs),
            rates,
            tell_at: None,
            asked_ahead: None,
            clock,
            ticker,
            lifecycle: Lifecycle::new(rules),
            mailbox: Arc::clone(&inner.mailbox),
            jobs,
            bus: inner.bus.clone(),
            report: reporter(&shared),
            settled: {
                let shared = Arc::clone(&shared);
                Box::new(move |at| {
                    let mut life = lock(&shared.state);
                    life.settled = life.settled.max(Some(at));
                    drop(life);
                    shared.changed.notify_all();
                })
            },
            planned: Default::default(),
            woken: Duration::ZERO,
            stop_timeout: inner.graceful_stop_timeout(),
            doing: Arc::clone(&inner.doing),
            deaf: None,
            hurry: Arc::clone(&inner.hurry),
            give_up: None,
            durable,
            past,
        };
        let (graph, bus, context) = (Arc::clone(&inner.graph), inner.bus.clone(), inner.context.clone());
        let (report, mailbox) = (reporter(&shared), Arc::clone(&inner.mailbox));
        let thread = threads::spawn("batch", move || {
            // Whoever waits for the end must see one, also after a bug of ours.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| locals.scope(|| batches.run()))) {
                report(millstream_core::bug!("the batch loop broke: {}", panicked(&*payload).message()));
            }
            mailbox.close();
            graph.set_stopped();
            listener::end(&bus);
            let mut life = lock(&shared.state);
            if life.stop_engine {
                // It waits for listeners, who may ask how the context is.
                drop(life);
                context.stop();
                life = lock(&shared.state);
            }
            life.state = StreamingContextState::Stopped;
            life.halted = true;
            drop(life);
            shared.changed.notify_all();
        })?;
        inner.graph.set_running(Running { mailbox: Arc::clone(&inner.mailbox), hurry: Arc::clone(&inner.hurry) });
        life.own.extend(thread.id());
        life.thread = Some(thread);
        Ok(())
    }
}

fn lock_unless(other: &Arc<Shared>, own: &Arc<Shared>) -> StreamingContextState {
    if Arc::ptr_eq(other, own) { StreamingContextState::Initialized } else { lock(&other.state).state }
}

/// What is to be restored, and the batches that it is restored for.
type PastBatches = (Past, Vec<PastBatch>);

/// Tells the inputs what they gave to the batches that are remembered, and whether they are to find the same again.
pub(super) fn restore_inputs(graph: &mut Graph, known: &Known, check: bool) -> Result<()> {
    for (i, slot) in graph.slots.iter_mut().enumerate() {
        if let StreamKind::Input { input, .. } = &mut slot.kind {
            input.restore(&known.given(i), check).map_err(|error| error.at(slot.spec.site))?;
        }
    }
    Ok(())
}

fn start_inputs(graph: &mut Graph, context: impl Fn(usize, u64) -> InputContext) -> Result<()> {
    for i in 0..graph.slots.len() {
        let slot = &mut graph.slots[i];
        let StreamKind::Input { number, input } = &mut slot.kind else { continue };
        if let Err(error) = input.start(&context(i, *number)) {
            let error = error.at(slot.spec.site);
            for slot in &mut graph.slots[..i] {
                if let StreamKind::Input { input, .. } = &mut slot.kind {
                    input.stop(false);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Keeps the first error, for whoever awaits the context.
fn reporter(shared: &Arc<Shared>) -> Arc<dyn Fn(Error) + Send + Sync> {
    let shared = Arc::clone(shared);
    Arc::new(move |error| {
        tracing::error!(%error, "a batch failed");
        lock(&shared.state).error.get_or_insert(error);
        shared.changed.notify_all();
    })
}
