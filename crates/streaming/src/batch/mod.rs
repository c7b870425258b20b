//! The run loop: wait for an event or the clock, ask the life cycle, perform.

mod ahead;
pub(crate) mod doing;
pub(crate) mod job_set;
pub(crate) mod lifecycle;
pub(crate) mod mailbox;
pub(crate) mod submitted;
pub(crate) mod ticker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::{Clock, monotonic};
use millstream_core::mutants::{Mutant, planted};
use millstream_core::{CallSite, Context, Error, Result, Time, overwriting, secs, threads};

use self::doing::{Doing, Step};
use self::job_set::{Job, JobSet, JobThreads};
use self::lifecycle::{Action, Event, Lifecycle};
use self::mailbox::{Letter, Mailbox};
use self::submitted::Submitted;
use self::ticker::Ticker;
use crate::backpressure::{Delays, RateControllers};
use crate::checkpoint::{Durable, Keep, Past, PastBatch};
use crate::conf::StreamingConf;
use crate::graph::{Graph, StreamKind, guarded};
use crate::input::Hurry;
use crate::listener::{BatchInfo, BatchStamps, InputInfo, ListenerBus, StreamingEvent};

/// How long a stop waits for closures that run.
const PATIENCE: Duration = secs(2);

/// How soon listeners are told that a batch has begun. Most batches that are in a hurry have ended by then.
const TELL_WITHIN: Duration = Duration::from_millis(1);

/// Everything that the batch thread owns.
pub(crate) struct BatchLoop {
    pub(crate) graph: Graph,
    pub(crate) context: Context,
    pub(crate) conf: StreamingConf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ticker: Ticker,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) jobs: JobThreads,
    pub(crate) bus: ListenerBus,
    pub(crate) report: Arc<dyn Fn(Error) + Send + Sync>,
    pub(crate) settled: Box<dyn Fn(Time) + Send + Sync>,
    pub(crate) planned: BTreeMap<Time, (Vec<Job>, BatchInfo)>,
    pub(crate) woken: Duration,
    pub(crate) stop_timeout: Duration,
    /// What ends the waits of inputs.
    pub(crate) hurry: Arc<Hurry>,
    pub(crate) give_up: Option<Duration>,
    pub(crate) doing: Arc<Doing>,
    /// An input that took all the time of a graceful stop.
    pub(crate) deaf: Option<CallSite>,
    pub(crate) seen_steps: Duration,
    /// The batches that have been handed over and have not ended.
    pub(crate) submitted: Submitted,
    pub(crate) rates: RateControllers,
    /// When listeners are told that a batch has begun, unless it has ended by then.
    pub(crate) tell_at: Option<Duration>,
    /// The batch for which inputs have asked ahead.
    pub(crate) asked_ahead: Option<Time>,
    /// What is written down, where a checkpoint is kept.
    pub(crate) durable: Option<Durable>,
    /// What was restored, until the batches of earlier runs are planned.
    pub(crate) past: Option<(Past, Vec<PastBatch>)>,
}

impl BatchLoop {
    /// Runs until the life cycle says halt.
    pub(crate) fn run(mut self) {
        self.mailbox.is_mine();
        if self.go_on_from_the_past() {
            self.end();
            return;
        }
        loop {
            let due = self.lifecycle.takes_batches().then(|| self.ticker.next());
            let letter = match self.give_up {
                // During a graceful stop real time decides how long is long enough.
                Some(at) => {
                    self.mailbox.next(&GiveUp(at), Some(Time::ZERO), None).unwrap_or(Letter::Event(Event::WaitedEnough))
                }
                None => {
                    let ask_at = self.ask_ahead(due);
                    let at_most = [self.tell_at, ask_at].into_iter().flatten().min();
                    match self.mailbox.next(&*self.clock, due, at_most) {
                        Some(letter) => letter,
                        None => match self.tick() {
                            Some(event) => Letter::Event(event),
                            None => continue,
                        },
                    }
                }
            };
            let event = match letter {
                Letter::Event(event) => event,
                Letter::Question(question) => {
                    question(&self.graph);
                    continue;
                }
            };
            self.woken = monotonic();
            if let Event::JobsEnded { at, .. } = event {
                self.has_ended(at);
            }
            let graceful = event == Event::StopAsked { graceful: true };
            if graceful {
                self.give_up.get_or_insert_with(|| monotonic().saturating_add(self.stop_timeout));
            }
            if (graceful && self.run_what_is_due()) || self.handle(event) {
                break;
            }
            self.tell_at = (!self.submitted.is_empty()).then(|| monotonic() + TELL_WITHIN);
        }
        self.end();
    }

    /// Plans the batches of earlier runs whose Rdds later ones are made of, and runs those that had not ended. Returns whether
    /// to halt.
    fn go_on_from_the_past(&mut self) -> bool {
        let Some((past, batches)) = self.past.take() else { return false };
        let pending = batches.iter().filter(|batch| !batch.completed).count();
        self.lifecycle.resume(self.durable.as_ref().and_then(Durable::latest));
        self.past = Some((past, Vec::new()));
        for PastBatch { at, completed } in batches {
            if self.hurry.is_asked_for() {
                break;
            }
            let halt = if completed {
                match self.plan_again(at) {
                    Ok(()) => false,
                    Err(error) => {
                        (self.report)(error.in_batch(at));
                        self.handle(Event::Broken)
                    }
                }
            } else {
                self.handle(Event::Due(at))
            };
            if halt {
                return true;
            }
        }
        if pending > 0 {
            tracing::info!(batches = pending, "batches that had not ended run again");
        }
        self.past = None;
        if let Some(up_to) = self.lifecycle.settled() {
            (self.settled)(up_to);
        }
        false
    }

    /// Plans a batch that has ended, for what is made of it.
    fn plan_again(&mut self, at: Time) -> Result<()> {
        let (context, past) = (self.context.clone(), self.past.as_ref().map(|(past, _)| past));
        let graph = &mut self.graph;
        guarded(|| overwriting(|| graph.compute(at, &context, past, &mut |_, input| input.rdd(at, &context))))
    }

    fn end(self) {
        // Outputs that wait for an answer would not end.
        self.mailbox.close();
        let doing = Arc::clone(&self.doing);
        doing.within(Step::Ends, move || {
            let BatchLoop { mut graph, jobs, durable, .. } = self;
            jobs.stop(PATIENCE);
            for slot in &mut graph.slots {
                if let StreamKind::Input { input, .. } = &mut slot.kind {
                    input.forget(Time::from_millis(i64::MAX));
                }
            }
            // Behind all that may still write to the folder: its lock goes with it.
            drop(graph);
            if let Some(mut durable) = durable {
                durable.snapshot();
            }
        });
    }

    fn tick(&mut self) -> Option<Event> {
        if self.tell_at.is_some_and(|at| monotonic() >= at) {
            self.tell_at = None;
            self.bus.wake();
        }
        let now = self.clock.now();
        let steps = self.clock.stepped();
        if steps > self.seen_steps {
            let count = self.ticker.stepped(steps - self.seen_steps, now);
            self.seen_steps = steps;
            if count > 0 {
                let next = self.ticker.next();
                tracing::warn!(count, %next, "the clock jumped forwards; batches are left out");
                self.bus.post(|| StreamingEvent::BatchesLeftOut(next, count));
            }
        }
        self.ticker.due(now).map(Event::Due)
    }

    /// Begins the batches that were due before a graceful stop was asked for: they came first. Returns whether to halt.
    ///
    /// No others: where planning takes longer than an interval there would always be one more.
    fn run_what_is_due(&mut self) -> bool {
        let asked = self.clock.now();
        let is_in_time = |own: &BatchLoop| !own.hurry.is_asked_for() && own.give_up.is_none_or(|at| monotonic() < at);
        while self.lifecycle.takes_batches() && self.ticker.next() <= asked && is_in_time(self) {
            let Some(due) = self.tick() else { break };
            if self.handle(due) {
                return true;
            }
        }
        false
    }

    /// Performs what an event asks for, and what that leads to. Returns whether to halt.
    fn handle(&mut self, event: Event) -> bool {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let (Event::Checkpointed(at), Some(durable)) = (event, &mut self.durable) {
                durable.completed(at);
            }
            if let (Event::StatesSaved, Some(durable)) = (event, &mut self.durable)
                && let Err(error) = self.doing.within(Step::NotesSaves, || durable.saved(self.graph.saved_states()))
            {
                (self.report)(error);
            }
            if event == Event::WaitedEnough {
                let waits_for = match self.deaf {
                    Some(site) => format!("the input {site}, which took all the time to stop"),
                    None => self.lifecycle.waits_for(),
                };
                let waited = self.stop_timeout;
                tracing::warn!(?waited, %waits_for, "a graceful stop gives up: the next start runs it again");
            }
            if let Event::JobsEnded { at, ok: false } = event {
                self.doing.within(Step::Aborts(at), || self.graph.abort_outputs(at));
            }
            for action in self.lifecycle.on(event) {
                match action {
                    Action::Plan(at) => {
                        let doing = Arc::clone(&self.doing);
                        events.push(doing.within(Step::Plans(at), || self.plan(at)));
                    }
                    Action::Run(at) => self.submit(at),
                    Action::Checkpoint(at) => {
                        if planted(Mutant::CommitsBeforeEnd) {
                            let _ = self.commit(at);
                        }
                        events.extend(self.write_down(at));
                    }
                    Action::Commit(_) if planted(Mutant::CommitsBeforeEnd) => {}
                    Action::Commit(at) => {
                        let doing = Arc::clone(&self.doing);
                        if let Err(error) = doing.within(Step::Commits(at), || self.commit(at)) {
                            // Later batches are not committed before it. The next start commits it again.
                            (self.report)(error);
                            events.push(Event::Broken);
                            break;
                        }
                    }
                    Action::Forget(at) => self.forget(at),
                    Action::StopInputs => events.push(self.stop_inputs()),
                    Action::LastBatch => {
                        let at = self.ticker.take();
                        events.push(Event::Due(at));
                    }
                    Action::SaveStates => events.extend(self.save_states()),
                    Action::Abandon => self.jobs.abandon(),
                    Action::Halt => return true,
                }
            }
            let ends = matches!(
                event,
                Event::JobsEnded { .. }
                    | Event::PlanFailed(_)
                    | Event::Planned { jobs: 0, .. }
                    | Event::Checkpointed(_)
            );
            if let Some(up_to) = self.lifecycle.settled().filter(|_| ends) {
                (self.settled)(up_to);
            }
        }
        false
    }

    /// Has it written down that a batch has ended well, with the states that were saved meanwhile.
    fn write_down(&mut self, at: Time) -> Option<Event> {
        let Some(durable) = &mut self.durable else { return Some(Event::Checkpointed(at)) };
        let (mailbox, report) = (Arc::clone(&self.mailbox), Arc::clone(&self.report));
        let then = move |result: Result<()>| match result {
            Ok(()) => mailbox.post(Event::Checkpointed(at)),
            Err(error) => {
                report(error.in_batch(at));
                mailbox.post(Event::Broken);
            }
        };
        let (prepared, results) = (self.graph.prepared.of(at), self.graph.results.take(at));
        match durable.complete(at, self.graph.saved_states(), prepared, results, Box::new(then)) {
            Ok(()) => None,
            Err(error) => {
                (self.report)(error.in_batch(at));
                Some(Event::Broken)
            }
        }
    }

    fn plan(&mut self, at: Time) -> Event {
        let woken = monotonic();
        let late = self.clock.now() - at;
        // The program's closures are guarded one by one; this is for what nobody thought of.
        let planned = guarded(|| overwriting(|| self.try_plan(at))).map_err(|error| error.in_batch(at));
        match planned {
            Ok(None) => {
                self.begun(at);
                Event::Broken
            }
            Ok(Some((jobs, inputs))) => {
                let count = jobs.len();
                if count > 0 {
                    let info = BatchInfo {
                        batch_time: at,
                        inputs,
                        submission_time: self.clock.now(),
                        processing_start_time: None,
                        processing_end_time: None,
                        outputs: Vec::new(),
                        stamps: BatchStamps { late, submitted: monotonic() - woken, started: None, ended: None },
                    };
                    self.woken = woken;
                    self.planned.insert(at, (jobs, info));
                } else {
                    self.begun(at);
                }
                Event::Planned { at, jobs: count }
            }
            Err(error) => {
                (self.report)(error);
                self.begun(at);
                Event::PlanFailed(at)
            }
        }
    }

    /// Allocates, computes every stream, and plans the outputs (S-112). Returns nothing, and has reported why, if the log cannot be
    /// written any more.
    fn try_plan(&mut self, at: Time) -> Result<Option<(Vec<Job>, BTreeMap<u64, InputInfo>)>> {
        let mut infos = BTreeMap::new();
        // A batch of an earlier run has what it was given then.
        let is_past = self.past.is_some() && !planted(Mutant::AllocatesAnew);
        let (mut given, mut digests, mut failed) = (Vec::new(), Vec::new(), None);
        for (i, slot) in self.graph.slots.iter_mut().enumerate() {
            if let StreamKind::Input { number, input } = &mut slot.kind {
                let info = if is_past {
                    Ok(input.describe(at))
                } else {
                    let info = input.allocate(at, self.rates.limit(*number));
                    if self.durable.is_some() {
                        // Also of one that failed behind its allocation.
                        match input.written(at) {
                            Ok(bytes) => given.extend(bytes.map(|bytes| (i, bytes))),
                            Err(error) => failed = failed.or(Some(error.at(slot.spec.site))),
                        }
                        digests.extend(input.digest(at).map(|digest| (i, digest)));
                    }
                    info
                };
                // All are asked, also behind one that failed: the batch runs again after a start, with what they gave.
                match info {
                    Ok(info) => drop(infos.insert(*number, info)),
                    Err(error) => failed = failed.or(Some(error.at(slot.spec.site))),
                }
            }
        }
        if let (Some(durable), false) = (&mut self.durable, is_past)
            && let Err(error) = durable.allocated(at, given, digests)
        {
            (self.report)(error.in_batch(at));
            return Ok(None);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let (context, past) = (self.context.clone(), self.past.as_ref().map(|(past, _)| past));
        self.graph.compute(at, &context, past, &mut |_, input| input.rdd(at, &context))?;
        Ok(Some((self.graph.jobs(at, &context, is_past)?, infos)))
    }

    fn submit(&mut self, at: Time) {
        let Some((jobs, info)) = self.planned.remove(&at) else { return };
        let set = JobSet::new(info, &jobs, self.woken);
        self.bus.post_quietly(|| StreamingEvent::BatchSubmitted(Arc::new(set.info())));
        self.jobs.submit(jobs, &set);
        self.submitted.add(at, set);
        self.tell_begun();
    }

    /// A batch has ended: its delays make new rates, and another's turn has come.
    fn has_ended(&mut self, at: Time) {
        let Some(set) = self.submitted.ended(at) else { return };
        self.tell_begun();
        if self.rates.is_empty() {
            return;
        }
        let (rates, is_real) = (&mut self.rates, self.clock.is_real());
        let new = set.look(|batch, woken| {
            Delays::of(batch, is_real.then_some(woken)).map(|delays| rates.completed(batch, delays)).unwrap_or_default()
        });
        for (stream, rate) in new {
            for slot in &mut self.graph.slots {
                match &mut slot.kind {
                    StreamKind::Input { number, input } if *number == stream => input.set_limit(rate),
                    _ => {}
                }
            }
        }
    }

    /// Tells the inputs of the batches whose turn has come.
    fn tell_begun(&mut self) {
        for at in self.submitted.begun() {
            self.begun(at);
        }
    }

    /// Tells the inputs that what a batch was given waits no longer.
    fn begun(&mut self, at: Time) {
        for slot in &mut self.graph.slots {
            if let StreamKind::Input { input, .. } = &mut slot.kind {
                input.begun(at);
            }
        }
    }

    /// Commits what outputs have prepared, and then tells the inputs.
    fn commit(&mut self, at: Time) -> Result<()> {
        let up_to = self.durable.as_ref().and_then(Durable::committed_up_to);
        if self.graph.commit_outputs(at, up_to)?
            && let Some(durable) = &mut self.durable
        {
            durable.committed(at);
        }
        for slot in &mut self.graph.slots {
            if let StreamKind::Input { input, .. } = &mut slot.kind
                && let Err(error) = input.commit(at)
            {
                (self.report)(error.at(slot.spec.site).in_batch(at));
            }
        }
        Ok(())
    }

    fn forget(&mut self, at: Time) {
        self.graph.forget(at, self.conf.unpersist, self.durable.is_some());
        let mut horizon = at - self.graph.longest_input_memory();
        if let Some(durable) = &mut self.durable {
            let facts = self.graph.facts(durable.known());
            let keep = Keep { memory: self.graph.input_memory(), batches: self.conf.retain_batches };
            horizon = horizon.min(durable.forget(&facts, &self.graph.output_streams(), keep));
        }
        for slot in &mut self.graph.slots {
            if let StreamKind::Input { input, .. } = &mut slot.kind {
                input.forget(horizon);
            }
        }
    }

    /// Has the states saved as they are now, beside this thread, which goes on to count the time of the stop.
    fn save_states(&mut self) -> Option<Event> {
        let states = self.graph.last_states();
        if states.is_empty() {
            return Some(Event::StatesSaved);
        }
        tracing::info!(states = states.len(), "the stop waits for states that are saved");
        let (context, mailbox) = (self.context.clone(), Arc::clone(&self.mailbox));
        let saving = threads::spawn("last-save", move || {
            if let Err(error) = context.save_newest(&states) {
                tracing::warn!(%error, "states could not be saved at the stop: the next start makes them again");
            }
            drop((states, context));
            mailbox.post(Event::StatesSaved);
        });
        match saving {
            Ok(thread) => {
                thread.detach();
                None
            }
            Err(error) => {
                (self.report)(error);
                Some(Event::StatesSaved)
            }
        }
    }

    fn stop_inputs(&mut self) -> Event {
        let graceful = self.lifecycle.is_graceful();
        let stop_timeout = self.stop_timeout;
        let deadline = *self.give_up.get_or_insert_with(|| monotonic().saturating_add(stop_timeout));
        self.hurry.at(deadline);
        for slot in &mut self.graph.slots {
            if let StreamKind::Input { input, .. } = &mut slot.kind {
                input.ask_to_stop();
            }
        }
        let mut left = false;
        for slot in &mut self.graph.slots {
            if let StreamKind::Input { input, .. } = &mut slot.kind {
                let site = slot.spec.site;
                self.doing.within(Step::StopsInput(site), || input.stop(graceful));
                left |= input.has_left();
                if monotonic() >= deadline {
                    self.deaf.get_or_insert(site);
                }
            }
        }
        Event::InputsStopped { left }
    }
}

/// Tells the time left of a graceful stop.
#[derive(Debug)]
struct GiveUp(Duration);

impl Clock for GiveUp {
    fn now(&self) -> Time {
        Time::ZERO
    }

    fn until(&self, _: Time) -> Option<Duration> {
        Some(self.0.saturating_sub(monotonic()))
    }

    fn subscribe(&self, _: std::sync::Weak<dyn millstream_core::clock::Wake>) {}
}
