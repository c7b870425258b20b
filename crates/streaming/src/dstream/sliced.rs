//! The Rdds that a running stream remembers, for a program that looks at it from outside.

use std::sync::mpsc::channel;

use millstream_core::{CallSite, Data, Error, ErrorKind, Rdd, Result, Time, millis};

use super::DStream;
use crate::graph::Graph;
use crate::window::Interval;

impl<T: Data> DStream<T> {
    /// Returns the Rdds that the running stream remembers of the batches from `from` to `to`, both included, oldest
    /// first.
    ///
    /// Ends that are no batch times of the stream are those before them. A stream remembers what its windows and
    /// [`StreamingContext::remember`](crate::StreamingContext::remember) ask for; of batches that it has forgotten, or
    /// that have not been planned yet, there is none.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::{Result, Time, clock::ManualClock, secs};
    /// # use millstream_streaming::{Conf, RddQueue, StreamingContext};
    /// # fn main() -> Result<()> {
    /// # let clock = ManualClock::new(Time::ZERO);
    /// # let builder = StreamingContext::builder(Conf::new("local[2]", "slices")?, secs(1));
    /// # let ssc = builder.with_clock(std::sync::Arc::new(clock.clone())).build()?;
    /// # let queue = RddQueue::new();
    /// # (1..=3).for_each(|n| queue.push(ssc.context().parallelize(vec![n], 1)));
    /// let numbers = ssc.queue_stream(&queue);
    /// numbers.print();
    /// ssc.remember(secs(60));
    /// ssc.start()?;
    /// # clock.advance_to(Time::from_millis(3000));
    /// # ssc.await_batch(Time::from_millis(3000));
    /// let late = numbers.slice(Time::from_millis(2000), Time::from_millis(3000))?;
    /// assert_eq!(late.iter().map(|rdd| rdd.collect()).collect::<Result<Vec<_>>>()?, [[2], [3]]);
    /// # ssc.stop()
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Stopped`: the context does not run; or a closure that plans a batch calls it, or an input, for
    /// which the batches wait.
    ///
    /// # Cost
    ///
    /// It waits until the batch that is being planned has been handed over.
    ///
    /// # Spark
    ///
    /// `DStream.slice(fromTime, toTime)`, DS29, S-73. Spark computes what is not remembered, also of the future.
    #[track_caller]
    pub fn slice(&self, from: Time, to: Time) -> Result<Vec<Rdd<T>>> {
        let stream = self.id();
        self.ask_running(CallSite::here("slice"), move |graph| graph.remembered(stream, graph.floor(stream, from), to))
    }

    /// As [`slice`](Self::slice), of an interval, which does not include its beginning.
    ///
    /// # Errors
    ///
    /// As [`slice`](Self::slice).
    ///
    /// # Spark
    ///
    /// `DStream.slice(interval)`, DS29.
    #[track_caller]
    pub fn slice_interval(&self, during: Interval) -> Result<Vec<Rdd<T>>> {
        let stream = self.id();
        self.ask_running(CallSite::here("slice_interval"), move |graph| {
            graph.remembered(stream, during.after() + millis(1), during.to())
        })
    }

    /// Asks the batch loop, to which the graph of a running context belongs.
    fn ask_running<R: Send + 'static>(
        &self,
        site: CallSite,
        question: impl FnOnce(&Graph) -> R + Send + 'static,
    ) -> Result<R> {
        let refused = |why: &str| Error::new(ErrorKind::Stopped, format!("a stream cannot be sliced: {why}")).at(site);
        let running = self.graph().running().ok_or_else(|| refused("its context does not run"))?;
        if running.hurry.is_called_by_an_input() {
            return Err(refused("an input asks, for which the batches may be waiting"));
        }
        let (answer, answered) = channel();
        let asked = running.mailbox.ask(Box::new(move |graph| {
            // Who asked may have gone.
            let _ = answer.send(question(graph));
        }));
        if !asked {
            return Err(refused("its context has stopped, or a closure asks that plans a batch"));
        }
        answered.recv().map_err(|_| refused("its context has stopped"))
    }
}
