//! The graph while it is built: what all handles on it share, and the mistakes that were made.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::plan::ship;
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Result};

use super::{Graph, StreamId, StreamKind};
use crate::batch::mailbox::Mailbox;
use crate::input::Hurry;

/// The graph while it is built, and mistakes that were made, for all handles on it.
pub(crate) struct GraphShared {
    state: Mutex<Building>,
    interval: Duration,
    spark_compatible: bool,
}

/// Where the graph can be asked for while it runs.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) hurry: Arc<Hurry>,
}

struct Building {
    /// Taken away by `start`.
    graph: Option<Graph>,
    next_input: u64,
    /// Mistakes that `start` reports.
    faults: Vec<Error>,
    /// Closures that cannot travel, which matters only where tasks run in other processes.
    silent: Vec<Error>,
    /// Mistakes made after that, with their lines.
    late: Vec<Error>,
    running: Option<Running>,
    stopped: bool,
}

impl GraphShared {
    pub(crate) fn new(interval: Duration, spark_compatible: bool) -> Arc<GraphShared> {
        let state = Building {
            graph: Some(Graph::default()),
            next_input: 0,
            faults: Vec::new(),
            silent: Vec::new(),
            late: Vec::new(),
            running: None,
            stopped: false,
        };
        Arc::new(GraphShared { state: Mutex::new(state), interval, spark_compatible })
    }

    /// Says whether Spark's rules hold also where ours are better.
    pub(crate) fn spark_compatible(&self) -> bool {
        self.spark_compatible
    }

    /// Returns the batch interval.
    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Adds a stream; after the start it is a mistake, which is kept.
    pub(crate) fn add(&self, site: CallSite, make: impl FnOnce(&mut Graph, u64) -> StreamId) -> StreamId {
        let mut state = lock(&self.state);
        // Those that were given to this very operation, or to the spec that it was given.
        let given =
            |of: &CallSite| (of.file(), of.line()) == (site.file(), site.line()) || of.op().starts_with("StateSpec::");
        state.silent.extend(ship::take_silent().into_iter().filter(given).map(ship::silent));
        let number = state.next_input;
        match &mut state.graph {
            Some(graph) => {
                let id = make(graph, number);
                if let StreamKind::Input { .. } = graph.slots[id.0].kind {
                    state.next_input += 1;
                }
                id
            }
            None => {
                state.refuse(site);
                StreamId(usize::MAX)
            }
        }
    }

    /// Changes the graph; after the start it is a mistake, which is kept.
    pub(crate) fn change(&self, site: CallSite, change: impl FnOnce(&mut Graph)) {
        let mut state = lock(&self.state);
        match &mut state.graph {
            Some(graph) => change(graph),
            None => state.refuse(site),
        }
    }

    /// Asks something of the graph, as long as it is built.
    pub(crate) fn ask<R>(&self, question: impl FnOnce(&Graph) -> R) -> Option<R> {
        lock(&self.state).graph.as_ref().map(question)
    }

    /// Keeps a mistake for `start` to report, or for the next wait if that is over.
    pub(crate) fn fault(&self, error: Error) {
        let mut state = lock(&self.state);
        if state.graph.is_some() {
            state.faults.push(error);
        } else {
            state.late.push(error);
        }
    }

    /// Keeps a mistake for `start` to report if tasks will run in other processes.
    pub(crate) fn fault_elsewhere(&self, error: Error) {
        lock(&self.state).silent.push(error);
    }

    /// Makes mistakes of closures that cannot travel, and of what else cannot be there: tasks will run in other processes.
    pub(crate) fn closures_travel(&self) {
        let state = &mut *lock(&self.state);
        state.faults.append(&mut state.silent);
    }

    /// Takes the graph away to be run, or reports all mistakes.
    pub(crate) fn take(&self) -> Result<Graph> {
        let mut state = lock(&self.state);
        if !state.faults.is_empty() {
            return Err(Error::several("mistakes in the graph", &std::mem::take(&mut state.faults)));
        }
        state.graph.take().ok_or_else(|| millstream_core::bug!("the graph was started twice"))
    }

    pub(crate) fn set_stopped(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        state.graph = None;
        state.running = None;
    }

    pub(crate) fn set_running(&self, running: Running) {
        let mut state = lock(&self.state);
        if !state.stopped {
            state.running = Some(running);
        }
    }

    /// Returns where the graph can be asked for, while it runs.
    pub(crate) fn running(&self) -> Option<Running> {
        lock(&self.state).running.clone()
    }

    /// Returns the mistakes that were made after the start.
    pub(crate) fn late_errors(&self) -> Vec<Error> {
        lock(&self.state).late.clone()
    }
}

impl Building {
    fn refuse(&mut self, site: CallSite) {
        let when = if self.stopped { "stopping" } else { "starting" };
        let error = Error::new(
            ErrorKind::Stopped,
            format!(
                "adding new inputs, transformations, and output operations after {when} a context is not supported: \
                 build the whole graph before start()"
            ),
        )
        .at(site);
        tracing::error!(%error, "the graph is fixed");
        self.late.push(error);
    }
}
