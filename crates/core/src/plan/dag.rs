//! Lineage to job: cuts a lineage into stages at its shuffles. Pure: it reads no clock, runs nothing, keeps nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

use super::stage::{JobPlan, ResultProgram, ShuffleProgram, ShuffleStage, StageId, StagePlan};
use crate::error::CallSite;
use crate::rdd::actions::Action;
use crate::rdd::lineage::{Dependency, Node, RddId, ShuffleDep, ShuffleId};

/// What is there already, as far as planning needs to know.
pub(crate) trait Facts {
    /// Says whether all of a shuffle's output is there.
    fn shuffled(&self, id: ShuffleId) -> bool;
    /// Says whether all partitions of a persisted Rdd are there.
    fn kept(&self, id: RddId, partitions: usize) -> bool;
}

type NodeSet = HashSet<RddId, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

/// Finds the shuffles that a stage ending in `top` reads from, in the order of the lineage.
fn shuffles_of(top: &Arc<Node>, facts: &dyn Facts) -> Vec<Arc<ShuffleDep>> {
    let mut seen = NodeSet::default();
    let mut found: Vec<Arc<ShuffleDep>> = Vec::new();
    let mut stack = vec![Arc::clone(top)];
    while let Some(node) = stack.pop() {
        if !seen.insert(node.id()) || (node.is_persisted() && facts.kept(node.id(), node.num_partitions())) {
            continue;
        }
        for dependency in node.lineage().dependencies().iter().rev() {
            match dependency {
                Dependency::Narrow(parent) => stack.push(Arc::clone(parent)),
                Dependency::Shuffle(shuffle) => {
                    if !facts.shuffled(shuffle.id()) && !found.iter().any(|f| f.id() == shuffle.id()) {
                        found.push(Arc::clone(shuffle));
                    }
                }
                Dependency::Cut => {}
            }
        }
    }
    found
}

/// Cuts the lineage of `top` into stages that end in `action` on the `wanted` partitions.
pub(crate) fn plan_job(
    top: &Arc<Node>,
    action: Arc<dyn Action>,
    wanted: Vec<usize>,
    site: CallSite,
    group: Option<Arc<str>>,
    facts: &dyn Facts,
) -> JobPlan {
    enum Visit {
        Enter(Arc<ShuffleDep>),
        Leave(Arc<ShuffleDep>, Vec<ShuffleId>),
    }
    let mut stages: Vec<StagePlan> = Vec::new();
    let mut numbers: BTreeMap<ShuffleId, Option<StageId>> = BTreeMap::new();
    let inputs_of = |reads: &[ShuffleId], numbers: &BTreeMap<ShuffleId, Option<StageId>>| {
        reads.iter().filter_map(|id| numbers.get(id).copied().flatten()).collect::<Vec<_>>()
    };

    let last_reads = shuffles_of(top, facts);
    let last_ids: Vec<_> = last_reads.iter().map(|s| s.id()).collect();
    let mut stack: Vec<Visit> = last_reads.into_iter().rev().map(Visit::Enter).collect();
    while let Some(visit) = stack.pop() {
        match visit {
            Visit::Enter(shuffle) => {
                if numbers.contains_key(&shuffle.id()) {
                    continue;
                }
                numbers.insert(shuffle.id(), None);
                let reads = shuffles_of(shuffle.parent(), facts);
                let ids = reads.iter().map(|s| s.id()).collect();
                stack.push(Visit::Leave(shuffle, ids));
                stack.extend(reads.into_iter().rev().map(Visit::Enter));
            }
            Visit::Leave(shuffle, reads) => {
                let id = StageId(stages.len() as u32);
                stages.push(StagePlan {
                    id,
                    site: shuffle.parent().site(),
                    inputs: inputs_of(&reads, &numbers),
                    partitions: shuffle.parent().num_partitions(),
                    shuffle: Some(ShuffleStage { id: shuffle.id(), partitions: shuffle.partitions() }),
                    program: Arc::new(ShuffleProgram {
                        node: Arc::clone(shuffle.parent()),
                        write: Arc::clone(shuffle.writer()),
                        site: shuffle.site(),
                    }),
                });
                numbers.insert(shuffle.id(), Some(id));
            }
        }
    }
    stages.push(StagePlan {
        id: StageId(stages.len() as u32),
        site: top.site(),
        inputs: inputs_of(&last_ids, &numbers),
        partitions: top.num_partitions(),
        shuffle: None,
        program: Arc::new(ResultProgram { node: Arc::clone(top), action, site }),
    });
    JobPlan { stages, wanted, site, group, properties: Arc::default(), planned_before: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::rdd::Rdd;
    use crate::rdd::actions::CountAction;

    struct Known(Vec<ShuffleId>, Vec<RddId>);
    impl Facts for Known {
        fn shuffled(&self, id: ShuffleId) -> bool {
            self.0.contains(&id)
        }
        fn kept(&self, id: RddId, _: usize) -> bool {
            self.1.contains(&id)
        }
    }

    fn plan<T: crate::Data>(rdd: &Rdd<T>, known: &Known) -> JobPlan {
        let wanted = (0..rdd.num_partitions()).collect();
        plan_job(rdd.node(), Arc::new(CountAction::<T>::new()), wanted, CallSite::here("count"), None, known)
    }

    fn shape(job: &JobPlan) -> Vec<(usize, Vec<u32>)> {
        job.stages.iter().map(|s| (s.partitions, s.inputs.iter().map(|i| i.0).collect())).collect()
    }

    fn nothing() -> Known {
        Known(vec![], vec![])
    }

    #[test]
    fn narrow_operations_are_one_stage_and_a_shuffle_cuts() {
        let context = Context::new("local[2]", "t").unwrap();
        let pairs = context.parallelize(vec![1u64, 2, 3], 3).map(|x| (x % 2, x));
        assert_eq!(shape(&plan(&pairs, &nothing())), [(3, vec![])]);
        let sums = pairs.reduce_by_key_partitioned(|a, b| a + b, 2).map(|(k, v)| k + v);
        assert_eq!(shape(&plan(&sums, &nothing())), [(3, vec![]), (2, vec![0])]);
    }

    #[test]
    fn a_shuffle_that_two_sides_share_runs_once() {
        let context = Context::new("local[2]", "t").unwrap();
        let sums = context.parallelize(vec![1u64, 2, 3], 3).map(|x| (x % 2, x)).reduce_by_key(|a, b| a + b);
        let both = sums.union(&sums).repartition(4);
        assert_eq!(shape(&plan(&both, &nothing())), [(3, vec![]), (3, vec![0]), (4, vec![1])]);
    }

    #[test]
    fn what_is_kept_or_shuffled_already_is_not_planned_again() {
        let context = Context::new("local[2]", "t").unwrap();
        let sums = context.parallelize(vec![1u64, 2, 3], 3).map(|x| (x % 2, x)).reduce_by_key(|a, b| a + b);
        sums.cache();
        let again = sums.map(|(k, v)| (k, v + 1)).reduce_by_key_partitioned(|a, b| a + b, 5);
        assert_eq!(plan(&again, &nothing()).stages.len(), 3);
        assert_eq!(plan(&again, &Known(vec![], vec![sums.id()])).stages.len(), 2);
        let lineage = sums.node().lineage();
        let Dependency::Shuffle(first) = &lineage.dependencies()[0] else { panic!("a shuffle") };
        assert_eq!(plan(&again, &Known(vec![first.id()], vec![])).stages.len(), 2);
    }
}
