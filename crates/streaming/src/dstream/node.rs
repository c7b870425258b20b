//! What a stream is computed by: derived nodes and inputs, with and without their element type.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use millstream_core::{AnyRdd, Context, Data, Digest, Error, ErrorKind, Rdd, Result, Time, codec, shape_of};

use crate::checkpoint::GivenBefore;
use crate::graph::{Batch, guarded};
use crate::input::{InputContext, InputSource, Rate};
use crate::listener::{InputInfo, Pressure};

/// A node of the graph. `compute` plans; it must not run jobs.
pub(crate) trait StreamNode: Send + 'static {
    type Item: Data;

    /// Returns the stream's Rdd at the batch's time, or nothing if it has none.
    fn compute(&mut self, batch: &Batch<'_>) -> Result<Option<Rdd<Self::Item>>>;
}

/// A [`StreamNode`] whose element type is not known.
pub(crate) trait AnyNode: Send {
    fn compute(&mut self, batch: &Batch<'_>) -> Result<Option<AnyRdd>>;
}

impl<N: StreamNode> AnyNode for N {
    fn compute(&mut self, batch: &Batch<'_>) -> Result<Option<AnyRdd>> {
        Ok(StreamNode::compute(self, batch)?.map(|rdd| AnyRdd::new(&rdd)))
    }
}

/// A node made from a closure.
pub(crate) struct NodeFn<T, F> {
    compute: F,
    of: PhantomData<fn() -> T>,
}

impl<T, F> NodeFn<T, F> {
    pub(crate) fn new(compute: F) -> NodeFn<T, F> {
        NodeFn { compute, of: PhantomData }
    }
}

impl<T: Data, F> StreamNode for NodeFn<T, F>
where
    F: FnMut(&Batch<'_>) -> Result<Option<Rdd<T>>> + Send + 'static,
{
    type Item = T;

    fn compute(&mut self, batch: &Batch<'_>) -> Result<Option<Rdd<T>>> {
        (self.compute)(batch)
    }
}

/// An [`InputSource`] whose types are not known, with its allocations by batch.
pub(crate) trait AnyInput: Send {
    fn start(&mut self, input: &InputContext) -> Result<()>;
    /// In the place of `start`: what was given is read again, and nothing more.
    fn replay(&mut self, input: &InputContext) -> Result<()>;
    fn ask_to_stop(&mut self);
    fn stop(&mut self, graceful: bool);
    fn has_left(&self) -> bool;
    /// Returns how long before a batch is due the source would like to ask what there is.
    fn lead(&self) -> Option<Duration>;
    fn ask_ahead(&mut self);
    fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<InputInfo>;
    fn rdd(&mut self, batch: Time, context: &Context) -> Result<Option<AnyRdd>>;
    fn commit(&mut self, batch: Time) -> Result<()>;
    /// Lets go of all allocations of batches up to `horizon`.
    fn forget(&mut self, horizon: Time);
    /// Returns what a batch was given, to be written down.
    fn written(&self, batch: Time) -> Result<Option<Vec<u8>>>;
    /// Tells in short what a batch was given, if the source knows.
    fn digest(&self, batch: Time) -> Option<Digest>;
    /// Says whether it is noticed when a batch that is made again is given something else.
    fn notices_change(&self) -> bool;
    /// Takes over what an earlier run gave to its batches, oldest first, and whether it must be the same when it is read again.
    fn restore(&mut self, given: &[GivenBefore<'_>], check: bool) -> Result<()>;
    /// Returns for how long allocations are remembered for the source's own sake.
    fn memory(&self) -> Duration;
    /// Returns what people should know of the source.
    fn remark(&self) -> Option<String>;
    /// Tells the shape of what is written of a batch.
    fn shape(&self) -> String;
    /// Says how much a batch was given.
    fn describe(&self, batch: Time) -> InputInfo;
    fn keeps_to_limit(&self) -> bool;
    fn set_limit(&mut self, limit: Rate);
    /// What the batch was given waits no longer.
    fn begun(&mut self, batch: Time);
}

/// Keeps the allocations of a source until their batches are out of reach.
pub(crate) struct Input<S: InputSource> {
    source: S,
    allocations: BTreeMap<Time, S::Allocation>,
    /// What batches of earlier runs were given, in short: they must find that again.
    expected: BTreeMap<Time, Digest>,
}

impl<S: InputSource> Input<S> {
    pub(crate) fn new(source: S) -> Input<S> {
        Input { source, allocations: BTreeMap::new(), expected: BTreeMap::new() }
    }
}

impl<S: InputSource> AnyInput for Input<S> {
    fn start(&mut self, input: &InputContext) -> Result<()> {
        if input.durable().is_some() && !self.notices_change() {
            tracing::warn!(
                input = input.number(),
                "of a batch that is made again after a start it is not noticed whether this input gives the same: implement \
                 InputSource::digest and notices_change"
            );
        }
        guarded(|| self.source.start(input))
    }

    fn replay(&mut self, input: &InputContext) -> Result<()> {
        guarded(|| self.source.replay(input))
    }

    fn digest(&self, batch: Time) -> Option<Digest> {
        // What cannot be told now fails the batch when it is read.
        let allocation = self.allocations.get(&batch)?;
        guarded(|| self.source.digest(allocation)).ok().flatten()
    }

    fn notices_change(&self) -> bool {
        guarded(|| Ok(self.source.notices_change())).unwrap_or(false)
    }

    fn ask_to_stop(&mut self) {
        logged(
            "stop",
            guarded(|| {
                self.source.ask_to_stop();
                Ok(())
            }),
        );
    }

    fn stop(&mut self, graceful: bool) {
        logged(
            "stop",
            guarded(|| {
                self.source.stop(graceful);
                Ok(())
            }),
        );
    }

    fn has_left(&self) -> bool {
        guarded(|| Ok(self.source.has_left())).unwrap_or(false)
    }

    fn lead(&self) -> Option<Duration> {
        guarded(|| Ok(self.source.lead())).ok().flatten()
    }

    fn ask_ahead(&mut self) {
        logged(
            "ask ahead",
            guarded(|| {
                let _: () = self.source.ask_ahead();
                Ok(())
            }),
        );
    }

    fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<InputInfo> {
        let allocation = guarded(|| self.source.allocate(batch, limit))?;
        // The allocation is kept first: what was taken must be let go again, whatever is said of it.
        let allocation = self.allocations.entry(batch).insert_entry(allocation).into_mut();
        guarded(|| {
            let pressure = self.source.pressure();
            let limit = pressure.limit.or(limit.map(|limit| limit.0 as u64));
            Ok(InputInfo { pressure: Pressure { limit, ..pressure }, ..self.source.describe(allocation) })
        })
    }

    fn rdd(&mut self, batch: Time, context: &Context) -> Result<Option<AnyRdd>> {
        // A later build brought the input: it gave nothing to a batch that was before that.
        let Some(allocation) = self.allocations.get(&batch) else {
            return Ok(Some(AnyRdd::new(&context.union::<S::Item>(&[]))));
        };
        if let Some(then) = self.expected.get(&batch)
            && let Some(now) = self.source.digest(allocation)?
            && now != *then
        {
            let text = format!(
                "what the input gave to this batch is not the same any more: {then} then, {now} now. Bring back what was there; \
                 or set check_inputs_again to false, to go on with what is there now"
            );
            return Err(Error::new(ErrorKind::Data, text));
        }
        Ok(self.source.rdd(allocation, context)?.map(|rdd| AnyRdd::new(&rdd)))
    }

    fn commit(&mut self, batch: Time) -> Result<()> {
        match self.allocations.get(&batch) {
            Some(allocation) => guarded(|| self.source.commit(allocation)),
            None => Ok(()),
        }
    }

    fn written(&self, batch: Time) -> Result<Option<Vec<u8>>> {
        self.allocations.get(&batch).map(codec::encode).transpose()
    }

    fn restore(&mut self, given: &[GivenBefore<'_>], check: bool) -> Result<()> {
        let mut allocations = Vec::with_capacity(given.len());
        for GivenBefore { at: batch, written, .. } in given {
            let allocation: S::Allocation = codec::decode(written).map_err(|error| {
                let text =
                    format!("the checkpoint tells what the input gave to the batch {batch} in another form: {error}");
                Error::new(ErrorKind::Data, text)
            })?;
            allocations.push((*batch, allocation));
        }
        guarded(|| self.source.restore(&allocations))?;
        self.allocations = allocations.into_iter().collect();
        self.expected = given.iter().filter(|_| check).filter_map(|given| Some((given.at, given.digest?))).collect();
        Ok(())
    }

    fn memory(&self) -> Duration {
        self.source.memory()
    }

    fn remark(&self) -> Option<String> {
        guarded(|| Ok(self.source.remark())).ok().flatten()
    }

    fn shape(&self) -> String {
        shape_of::<S::Allocation>()
    }

    fn describe(&self, batch: Time) -> InputInfo {
        let info = self.allocations.get(&batch).map(|allocation| guarded(|| Ok(self.source.describe(allocation))));
        info.and_then(Result::ok).unwrap_or_default()
    }

    fn keeps_to_limit(&self) -> bool {
        guarded(|| Ok(self.source.keeps_to_limit())).unwrap_or(false)
    }

    fn set_limit(&mut self, limit: Rate) {
        logged(
            "keep to a new limit",
            guarded(|| {
                let _: () = self.source.set_limit(limit);
                Ok(())
            }),
        );
    }

    fn begun(&mut self, batch: Time) {
        let Some(allocation) = self.allocations.get(&batch) else { return };
        logged(
            "take note of a batch that runs",
            guarded(|| {
                let _: () = self.source.begun(allocation);
                Ok(())
            }),
        );
    }

    fn forget(&mut self, horizon: Time) {
        self.expected = self.expected.split_off(&horizon);
        while let Some(entry) = self.allocations.first_entry() {
            if *entry.key() > horizon {
                break;
            }
            let allocation = entry.remove();
            logged(
                "forget a batch",
                guarded(|| {
                    let _: () = self.source.forget(&allocation);
                    Ok(())
                }),
            );
        }
    }
}

/// Says what a source failed to do where nobody can be told.
fn logged(doing: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "an input could not {doing}");
    }
}
