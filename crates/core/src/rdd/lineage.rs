//! Lineage: the nodes that Rdds are made of, and what they depend on.
//!
//! A [`Node`] knows its parents, its number of partitions and how to open one partition. It does not know its
//! element type: nodes of all types are walked, shipped and dropped together, in loops and never by recursion, so
//! that a lineage may be as long as memory allows. Types come back once per chunk, in the operators.

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::persisted::Persisted;
use super::pipeline::{Operator, Pipeline, Source};
use super::saved::Saving;
use crate::context::Env;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::Partitioner;
use crate::plan::ship::{PlanReader, PlanWriter};
use crate::plan::{Preference, TaskContext};
use crate::scope::Scope;
use crate::storage::{Block, BlockId};
use crate::threads::lock;

/// Names an Rdd within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RddId(pub u64);

impl fmt::Display for RddId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a shuffle within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ShuffleId(pub u64);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

/// What a node is made from.
#[derive(Clone, Debug)]
pub enum Dependency {
    /// Each partition is made from few partitions of the parent, where they are.
    Narrow(Arc<Node>),
    /// Each partition is made from all partitions of the parent, which are written out first.
    Shuffle(Arc<ShuffleDep>),
    /// Where a shuffle was, in a stage that travelled: what was behind it is another stage's business.
    Cut,
}

impl Dependency {
    /// Returns the node behind it.
    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        match self {
            Dependency::Narrow(node) => Some(Arc::clone(node)),
            Dependency::Shuffle(shuffle) => Some(Arc::clone(&shuffle.parent)),
            Dependency::Cut => None,
        }
    }
}

/// The write side of a shuffle: whose output, how it is written, and over how many partitions.
pub struct ShuffleDep {
    id: ShuffleId,
    site: CallSite,
    parent: Arc<Node>,
    partitions: usize,
    writer: Arc<dyn ShuffleWrite>,
    env: Arc<Env>,
}

impl ShuffleDep {
    pub(crate) fn new(
        parent: Arc<Node>,
        partitions: usize,
        writer: Arc<dyn ShuffleWrite>,
        env: Arc<Env>,
        site: CallSite,
    ) -> Arc<ShuffleDep> {
        Arc::new(ShuffleDep { id: ShuffleId(next_id()), site, parent, partitions, writer, env })
    }

    /// Returns the shuffle's id.
    pub fn id(&self) -> ShuffleId {
        self.id
    }

    /// Returns the operation that asked for the shuffle.
    pub(crate) fn site(&self) -> CallSite {
        self.site
    }

    pub(crate) fn parent(&self) -> &Arc<Node> {
        &self.parent
    }

    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(crate) fn writer(&self) -> &Arc<dyn ShuffleWrite> {
        &self.writer
    }

    /// Returns what the read side needs to know.
    pub(crate) fn read(&self) -> ShuffleRead {
        ShuffleRead { id: self.id, maps: self.parent.num_partitions() }
    }
}

impl fmt::Debug for ShuffleDep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shuffle {} over {}", self.id.0, self.partitions)
    }
}

impl Drop for ShuffleDep {
    fn drop(&mut self) {
        self.env.shuffles.forget(self.id);
        drop_all(vec![std::mem::replace(&mut self.parent, Node::nothing())]);
    }
}

/// The read side of a shuffle: which one, and how many tasks wrote it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ShuffleRead {
    pub(crate) id: ShuffleId,
    pub(crate) maps: usize,
}

impl ShuffleRead {
    /// Returns what each writing task left for partition `p`, in the order of the writers.
    pub(crate) fn fetch(self, p: usize, task: &TaskContext) -> Result<Vec<Block>> {
        task.env().shuffles.fetch(self.id, self.maps, p)
    }
}

/// Writes one task's part of a shuffle.
pub(crate) trait ShuffleWrite: Send + Sync + 'static {
    /// Reads the pipeline to its end and returns one block for each partition behind the shuffle.
    ///
    /// # Errors
    ///
    /// Whatever the pipeline or a closure of the program fails with.
    fn write(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Vec<Block>>;

    /// Writes itself down, code first, to be rebuilt as an `Arc<dyn ShuffleWrite>`.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
}

/// How one kind of node opens a partition, and how it travels.
pub(crate) trait Compute: Send + Sync + 'static {
    /// Opens partition `p`. `parents` are the node's dependencies, in the order in which it was made from them.
    ///
    /// # Errors
    ///
    /// Whatever the partition cannot be opened for.
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>>;

    /// Writes itself down, code first, to be rebuilt as a `Box<dyn Compute>`.
    ///
    /// # Errors
    ///
    /// As [`PlanWriter`]'s.
    fn ship(&self, w: &mut PlanWriter) -> Result<()>;

    /// Returns which partitions of its parents partition `p` reads: the parent's place among `parents`, and the partition.
    /// By default the partition of the same number of each.
    fn reads(&self, p: usize, parents: &[Dependency]) -> Vec<(usize, usize)> {
        (0..parents.len()).map(|parent| (parent, p)).collect()
    }

    /// Returns the block of a receiver that partition `p` reads, if it reads one.
    fn received(&self, _p: usize) -> Option<BlockId> {
        None
    }

    /// Says whether it holds values of the program, of which a task is sent only those that it reads.
    fn is_given(&self) -> bool {
        false
    }

    /// Gives up the nodes that it holds beside its parents, so that they are dropped in a loop too.
    fn release(&mut self, _bin: &mut Vec<Arc<Node>>) {}

    /// Says whether the node's partitions are its parents' partitions, one behind the other, and nothing else.
    fn is_plain_union(&self) -> bool {
        false
    }

    /// Says whether each partition is its parents' partitions of the same number, one behind the other.
    fn is_aligned_union(&self) -> bool {
        false
    }

    /// Returns the splits that it reads, a vector of a type that only who made them knows.
    fn splits(&self) -> Option<&dyn Any> {
        None
    }

    /// Says where partition `p` would best be read, if it is one that comes from outside.
    fn prefers(&self, _p: usize) -> Option<Preference> {
        None
    }
}

/// How a partition is to be read: the next step down the lineage.
pub(crate) enum Opened<'a> {
    /// It reads by itself.
    Source(Box<dyn Source>),
    /// It is a partition of another node, chunk by chunk through an operator.
    Through {
        /// The other node.
        node: &'a Arc<Node>,
        /// The partition of it.
        partition: usize,
        /// What is done to each chunk.
        operator: Box<dyn Operator>,
    },
    /// It is a partition of another node as it is.
    Forward {
        /// The other node.
        node: &'a Arc<Node>,
        /// The partition of it.
        partition: usize,
    },
    /// It reads a partition of another node as a whole, at its own pace.
    Wrap {
        /// The other node.
        node: &'a Arc<Node>,
        /// The partition of it.
        partition: usize,
        /// Makes the reader.
        wrap: WrapSource,
    },
}

/// Makes a source around an opened pipeline.
pub(crate) type WrapSource = Box<dyn FnOnce(Pipeline) -> Result<Box<dyn Source>>>;

impl fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Opened::Source(_) => "Source",
            Opened::Through { .. } => "Through",
            Opened::Forward { .. } => "Forward",
            Opened::Wrap { .. } => "Wrap",
        })
    }
}

/// Returns a narrow parent.
pub(crate) fn narrow(parents: &[Dependency], index: usize) -> Result<&Arc<Node>> {
    match parents.get(index) {
        Some(Dependency::Narrow(node)) => Ok(node),
        _ => Err(crate::bug!("a node asks for a narrow parent that it does not have")),
    }
}

/// One operation of a lineage.
pub struct Node {
    id: RddId,
    site: CallSite,
    scope: Option<Scope>,
    item: TypeId,
    item_name: &'static str,
    partitions: usize,
    partitioner: Option<Partitioner>,
    /// Behind a lock, because a checkpoint cuts it.
    lineage: RwLock<Arc<Lineage>>,
    is_persisted: AtomicBool,
    persisted: Mutex<Option<Arc<Persisted>>>,
    saving: Mutex<Saving>,
}

/// What a node is made from, and how.
pub struct Lineage {
    parents: Vec<Dependency>,
    compute: Box<dyn Compute>,
}

impl Lineage {
    fn new(parents: Vec<Dependency>, compute: Box<dyn Compute>) -> RwLock<Arc<Lineage>> {
        RwLock::new(Arc::new(Lineage { parents, compute }))
    }

    /// Returns what the node is made from.
    pub fn dependencies(&self) -> &[Dependency] {
        &self.parents
    }

    fn empty_into(&mut self, bin: &mut Vec<Arc<Node>>) {
        for dependency in self.parents.drain(..) {
            match dependency {
                Dependency::Narrow(node) => bin.push(node),
                Dependency::Shuffle(shuffle) => {
                    if let Some(mut shuffle) = Arc::into_inner(shuffle) {
                        bin.push(std::mem::replace(&mut shuffle.parent, Node::nothing()));
                    }
                }
                Dependency::Cut => {}
            }
        }
        self.compute.release(bin);
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        if !self.parents.is_empty() {
            let mut bin = Vec::new();
            self.empty_into(&mut bin);
            drop_all(bin);
        }
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.parents).finish()
    }
}

/// What a node is made of, by name.
pub(crate) struct NodeParts<C> {
    pub(crate) site: CallSite,
    pub(crate) parents: Vec<Dependency>,
    pub(crate) partitions: usize,
    pub(crate) partitioner: Option<Partitioner>,
    pub(crate) compute: C,
}

impl Node {
    pub(crate) fn new<T: 'static>(parts: NodeParts<impl Compute>) -> Arc<Node> {
        let NodeParts { site, parents, partitions, partitioner, compute } = parts;
        Node::boxed::<T>(NodeParts { site, parents, partitions, partitioner, compute: Box::new(compute) })
    }

    pub(crate) fn boxed<T: 'static>(parts: NodeParts<Box<dyn Compute>>) -> Arc<Node> {
        let NodeParts { site, parents, partitions, partitioner, compute } = parts;
        Arc::new(Node {
            id: RddId(next_id()),
            site,
            scope: Scope::current(),
            item: TypeId::of::<T>(),
            item_name: std::any::type_name::<T>(),
            partitions,
            partitioner,
            lineage: Lineage::new(parents, compute),
            is_persisted: AtomicBool::new(false),
            persisted: Mutex::new(None),
            saving: Mutex::new(Saving::Not),
        })
    }

    /// A node without anything, to put in the place of one that is taken away.
    fn nothing() -> Arc<Node> {
        static NOTHING: std::sync::OnceLock<Arc<Node>> = std::sync::OnceLock::new();
        Arc::clone(NOTHING.get_or_init(|| {
            Node::new::<()>(NodeParts {
                site: CallSite::here("nothing"),
                parents: Vec::new(),
                partitions: 0,
                partitioner: None,
                compute: Nothing,
            })
        }))
    }

    /// Returns the id.
    pub fn id(&self) -> RddId {
        self.id
    }

    /// Returns the operation and the line that made it.
    pub fn site(&self) -> CallSite {
        self.site
    }

    /// Returns what it is shown together with.
    pub fn scope(&self) -> Option<Scope> {
        self.scope
    }

    /// Returns the number of partitions.
    pub fn num_partitions(&self) -> usize {
        self.partitions
    }

    /// Returns what the node is made from at this moment: a checkpoint may cut it.
    pub fn lineage(&self) -> Arc<Lineage> {
        Arc::clone(&self.lineage.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts something that reads by itself in the place of what the node was made from.
    pub(crate) fn cut(&self, compute: Box<dyn Compute>) {
        let cut = Arc::new(Lineage { parents: Vec::new(), compute });
        let mut lineage = self.lineage.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *lineage, cut);
        drop(lineage);
        // What is long is let go without the lock.
        drop(before);
    }

    /// What is known about the node's checkpoint.
    pub(crate) fn saving(&self) -> std::sync::MutexGuard<'_, Saving> {
        lock(&self.saving)
    }

    /// Returns the partitioner that placed the keys, if one did.
    pub fn partitioner(&self) -> Option<&Partitioner> {
        self.partitioner.as_ref()
    }

    /// Says whether the elements are of type `T`.
    pub fn holds<T: 'static>(&self) -> bool {
        self.item == TypeId::of::<T>()
    }

    pub(crate) fn is_persisted(&self) -> bool {
        self.is_persisted.load(Ordering::Acquire)
    }

    pub(crate) fn persisted(&self) -> Option<Arc<Persisted>> {
        if self.is_persisted() { lock(&self.persisted).clone() } else { None }
    }

    /// Sets or clears how partitions are kept; returns what was set before.
    pub(crate) fn set_persisted(&self, persisted: Option<Arc<Persisted>>) -> Option<Arc<Persisted>> {
        let mut slot = lock(&self.persisted);
        self.is_persisted.store(persisted.is_some(), Ordering::Release);
        std::mem::replace(&mut *slot, persisted)
    }

    /// Opens partition `p` and has `then` take what that gives.
    pub(crate) fn open<R>(
        &self,
        p: usize,
        task: &TaskContext,
        then: impl FnOnce(Opened<'_>) -> Result<R>,
    ) -> Result<R> {
        let lineage = self.lineage();
        lineage.compute.open(p, &lineage.parents, task).map_err(|e| e.at(self.site)).and_then(then)
    }
}

impl Lineage {
    pub(crate) fn is_plain_union(&self) -> bool {
        self.compute.is_plain_union()
    }

    pub(crate) fn is_aligned_union(&self) -> bool {
        self.compute.is_aligned_union()
    }

    pub(crate) fn splits(&self) -> Option<&dyn Any> {
        self.compute.splits()
    }
}

struct Nothing;

impl Compute for Nothing {
    fn open<'a>(&'a self, _: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        Err(crate::bug!("a node without anything was opened"))
    }

    fn ship(&self, _: &mut PlanWriter) -> Result<()> {
        Err(crate::bug!("a node without anything was shipped"))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}) {} of {} [{}]", self.partitions, self.site, self.item_name, self.id)
    }
}

/// Drops nodes and all that only they hold, in a loop.
fn drop_all(mut bin: Vec<Arc<Node>>) {
    while let Some(node) = bin.pop() {
        if let Some(mut node) = Arc::into_inner(node) {
            let lineage = node.lineage.get_mut().unwrap_or_else(PoisonError::into_inner);
            if let Some(lineage) = Arc::get_mut(lineage) {
                lineage.empty_into(&mut bin);
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(persisted) = lock(&self.persisted).take() {
            persisted.remove_blocks(self.id, self.partitions);
        }
    }
}

/// Returns a node and all that it reads without a shuffle, each once: from itself down.
pub(crate) fn narrow_ancestors(top: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut seen = HashMap::<RddId, (), std::hash::BuildHasherDefault<std::hash::DefaultHasher>>::default();
    let (mut found, mut stack) = (Vec::new(), vec![Arc::clone(top)]);
    while let Some(node) = stack.pop() {
        if seen.insert(node.id, ()).is_some() {
            continue;
        }
        for dependency in node.lineage().parents.iter().rev() {
            if let Dependency::Narrow(parent) = dependency {
                stack.push(Arc::clone(parent));
            }
        }
        found.push(node);
    }
    found
}

/// Returns what partition `p` of a node reads from shuffles: which of them, and which partition of it.
pub(crate) fn shuffle_reads(top: &Arc<Node>, p: usize) -> BTreeSet<(ShuffleId, usize)> {
    let mut seen = BTreeSet::new();
    let (mut found, mut stack) = (BTreeSet::new(), vec![(Arc::clone(top), p)]);
    while let Some((node, p)) = stack.pop() {
        if !seen.insert((node.id, p)) {
            continue;
        }
        let lineage = node.lineage();
        for (parent, q) in lineage.compute.reads(p, &lineage.parents) {
            match lineage.parents.get(parent) {
                Some(Dependency::Narrow(node)) => stack.push((Arc::clone(node), q)),
                Some(Dependency::Shuffle(shuffle)) => drop(found.insert((shuffle.id, q))),
                Some(Dependency::Cut) | None => {}
            }
        }
    }
    found
}

/// Returns the partitions of persisted Rdds that partition `p` of a node reads first, and then the blocks of receivers that it reads,
/// also where they stand behind one that is persisted: it may not have been made yet.
pub(crate) fn kept_reads(top: &Arc<Node>, p: usize) -> Vec<BlockId> {
    let mut seen = BTreeSet::new();
    let (mut found, mut received) = (BTreeSet::new(), BTreeSet::new());
    let mut stack = vec![(Arc::clone(top), p, false)];
    while let Some((node, p, is_behind)) = stack.pop() {
        if !seen.insert((node.id, p, is_behind)) {
            continue;
        }
        if node.is_persisted() && !is_behind {
            found.insert(BlockId::Rdd { rdd: node.id, partition: p });
        }
        let is_behind = is_behind || node.is_persisted();
        let lineage = node.lineage();
        received.extend(lineage.compute.received(p));
        for (parent, q) in lineage.compute.reads(p, &lineage.parents) {
            if let Some(Dependency::Narrow(node)) = lineage.parents.get(parent) {
                stack.push((Arc::clone(node), q, is_behind));
            }
        }
    }
    found.into_iter().chain(received).collect()
}

/// Returns what partition `p` of a node reads of values that the program gave: of which Rdds, and which partitions of them. Nothing if
/// no partition reads any.
pub(crate) fn given_reads(top: &Arc<Node>, p: usize) -> Option<BTreeSet<(RddId, usize)>> {
    let given: BTreeSet<RddId> =
        narrow_ancestors(top).iter().filter(|node| node.lineage().compute.is_given()).map(|node| node.id).collect();
    if given.is_empty() {
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut stack = vec![(Arc::clone(top), p)];
    while let Some((node, p)) = stack.pop() {
        if !seen.insert((node.id, p)) {
            continue;
        }
        let lineage = node.lineage();
        for (parent, q) in lineage.compute.reads(p, &lineage.parents) {
            if let Some(Dependency::Narrow(node)) = lineage.parents.get(parent) {
                stack.push((Arc::clone(node), q));
            }
        }
    }
    Some(seen.into_iter().filter(|(node, _)| given.contains(node)).collect())
}

/// Returns where partition `p` of a node would best be read: what the first of the sources says that wishes for anything, of those
/// that it comes from without a shuffle.
pub(crate) fn preferred(top: &Arc<Node>, p: usize) -> Option<Preference> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![(Arc::clone(top), p)];
    while let Some((node, p)) = stack.pop() {
        if !seen.insert((node.id, p)) {
            continue;
        }
        let lineage = node.lineage();
        if let Some(found) = lineage.compute.prefers(p) {
            return Some(found);
        }
        for (parent, q) in lineage.compute.reads(p, &lineage.parents).into_iter().rev() {
            if let Some(Dependency::Narrow(node)) = lineage.parents.get(parent) {
                stack.push((Arc::clone(node), q));
            }
        }
    }
    None
}

/// Writes the lineage of one stage: each node once, parents first, cut at its shuffles.
pub(crate) fn ship(top: &Arc<Node>, w: &mut PlanWriter) -> Result<()> {
    enum Visit {
        Enter(Arc<Node>),
        Leave(Arc<Node>, Arc<Lineage>),
    }
    let mut order: Vec<(Arc<Node>, Arc<Lineage>)> = Vec::new();
    let mut index: HashMap<RddId, Option<u32>, std::hash::BuildHasherDefault<std::hash::DefaultHasher>> =
        HashMap::default();
    let mut stack = vec![Visit::Enter(Arc::clone(top))];
    while let Some(visit) = stack.pop() {
        match visit {
            Visit::Enter(node) => {
                if index.contains_key(&node.id) {
                    continue;
                }
                index.insert(node.id, None);
                // The same lineage is used all through, should it be cut meanwhile.
                let lineage = node.lineage();
                stack.push(Visit::Leave(node, Arc::clone(&lineage)));
                for dependency in lineage.parents.iter().rev() {
                    if let Dependency::Narrow(parent) = dependency {
                        stack.push(Visit::Enter(Arc::clone(parent)));
                    }
                }
            }
            Visit::Leave(node, lineage) => {
                index.insert(node.id, Some(order.len() as u32));
                order.push((node, lineage));
            }
        }
    }
    w.value(&(order.len() as u32))?;
    for (node, lineage) in order {
        let parents: Vec<Option<u32>> = lineage
            .parents
            .iter()
            .map(|dependency| match dependency {
                Dependency::Narrow(parent) => index.get(&parent.id).copied().flatten(),
                Dependency::Shuffle(_) | Dependency::Cut => None,
            })
            .collect();
        let persisted = node.persisted();
        w.value(&(node.id, node.site.op(), node.site.file(), node.site.line()))?;
        w.value(&(node.partitions as u64, parents, persisted.is_some()))?;
        if let Some(persisted) = persisted {
            persisted.ship(w)?;
        }
        w.begin_node(node.id);
        lineage.compute.ship(w)?;
    }
    Ok(())
}

/// Reads what [`ship`] wrote and returns the top node.
pub(crate) fn unship(r: &mut PlanReader<'_>) -> Result<Arc<Node>> {
    let broken = || Error::new(ErrorKind::Data, "a plan's lineage does not hang together");
    let count: u32 = r.value()?;
    for _ in 0..count {
        let id: RddId = r.value()?;
        let site = r.site()?;
        let (partitions, parents, is_persisted): (u64, Vec<Option<u32>>, bool) = r.value()?;
        let parents = parents
            .into_iter()
            .map(|parent| match parent {
                None => Ok(Dependency::Cut),
                Some(index) => {
                    r.nodes.get(index as usize).map(|n| Dependency::Narrow(Arc::clone(n))).ok_or_else(broken)
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let persisted = if is_persisted { Some(Arc::new(Persisted::unship(r)?)) } else { None };
        let compute = r.rebuilt::<Box<dyn Compute>>()?;
        r.nodes.push(Arc::new(Node {
            id,
            site,
            // For people who look at the driver.
            scope: None,
            item: TypeId::of::<()>(),
            item_name: "an element that travelled",
            partitions: partitions as usize,
            partitioner: None,
            lineage: Lineage::new(parents, compute),
            is_persisted: AtomicBool::new(persisted.is_some()),
            persisted: Mutex::new(persisted),
            saving: Mutex::new(Saving::Not),
        }));
    }
    r.nodes.pop().ok_or_else(broken)
}
