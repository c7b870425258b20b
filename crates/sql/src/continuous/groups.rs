//! Groups and their states: what a batch gives is merged into what was there, and results are made of states. All of it works on
//! columns, by the accumulators that DataFusion's own aggregates have.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::{DataFusionError, Result as Planned};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use millstream_core::Result;

use super::cells::{self, Packed, pack, unpack};
use crate::error::told;

/// What groups and states are made of: the keys' columns, and for each aggregate those of its state.
#[derive(Debug)]
pub(super) struct Groups {
    text: String,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    keys: Vec<DataType>,
    states: Vec<DataType>,
    /// Which of the states' columns are an aggregate's.
    of: Vec<Range<usize>>,
    /// What the groups look like from above.
    schema: SchemaRef,
}

impl Groups {
    /// `schema` is that of groups and their results.
    pub(super) fn new(text: &str, aggregates: &[Arc<AggregateFunctionExpr>], schema: SchemaRef) -> Result<Groups> {
        let (mut states, mut of) = (Vec::new(), Vec::new());
        for aggregate in aggregates {
            let fields = aggregate.state_fields().map_err(|e| told(&e, text))?;
            of.push(states.len()..states.len() + fields.len());
            states.extend(fields.iter().map(|field| field.data_type().clone()));
        }
        let keys = schema.fields().len() - aggregates.len().min(schema.fields().len());
        let keys = schema.fields()[..keys].iter().map(|field| field.data_type().clone()).collect();
        Ok(Groups { text: text.to_owned(), aggregates: aggregates.to_vec(), keys, states, of, schema })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Says whether everything is one group.
    pub(super) fn is_one(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many columns make a group.
    pub(super) fn width(&self) -> usize {
        self.keys.len()
    }

    /// Groups as they are kept, each once, of columns of what makes them.
    pub(super) fn packed_keys(&self, keys: &[ArrayRef]) -> Result<Vec<Packed>> {
        let differs =
            keys.len() != self.keys.len() || keys.iter().zip(&self.keys).any(|(key, of)| key.data_type() != of);
        if differs {
            return Err(millstream_core::bug!("groups are looked up by other columns than they are made of"));
        }
        let mut packed = pack(keys, keys.first().map_or(0, |key| key.len()))?;
        // Values that differ may be the same group, as the two zeros are.
        let mut seen = HashSet::new();
        packed.retain(|key| seen.insert(key.clone()));
        Ok(packed)
    }

    /// The types of keys and states, one behind the other: those of what the part below the groups gives.
    pub(super) fn partial(&self) -> impl Iterator<Item = &DataType> {
        self.keys.iter().chain(&self.states)
    }

    /// Fails if a key or a state has values that cannot be kept.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if let Some(of) = self.keys.iter().find(|of| cells::kept_as(of).is_none()) {
            return Err(format!("groups of {of} are not kept"));
        }
        for (aggregate, of) in self.aggregates.iter().zip(&self.of) {
            if let Some(of) = self.states[of.clone()].iter().find(|of| cells::kept_as(of).is_none()) {
                return Err(format!("`{}` is not kept: its state has columns of {of}", aggregate.name()));
            }
        }
        Ok(())
    }

    /// What a checkpoint says of keys and states.
    pub(super) fn content(&self) -> String {
        let list = |of: &[DataType]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let states = self.aggregates.iter().zip(&self.of).map(|(aggregate, of)| {
            let distinct = if aggregate.is_distinct() { " DISTINCT" } else { "" };
            format!("{}{distinct}({})", aggregate.fun().name(), list(&self.states[of.clone()]))
        });
        format!("({}) => {}", list(&self.keys), states.collect::<Vec<_>>().join(", "))
    }

    /// The aggregates whose state grows with each value that is new to it, so that it has no bound.
    pub(super) fn unbounded(&self) -> Vec<&str> {
        let grows = |(aggregate, of): &(&Arc<AggregateFunctionExpr>, &Range<usize>)| {
            let list = |of: &DataType| matches!(of, DataType::List(_) | DataType::LargeList(_));
            // Those that estimate keep lists of a size that is fixed.
            let estimates = aggregate.fun().name().starts_with("approx_");
            let text = aggregate.fun().name() == "string_agg";
            text || (!estimates && self.states[(*of).clone()].iter().any(list))
        };
        self.aggregates.iter().zip(&self.of).filter(grows).map(|(aggregate, _)| aggregate.name()).collect()
    }

    /// Writes what the part below the groups gave as groups and states.
    pub(super) fn packed(&self, partial: &RecordBatch) -> Result<Vec<(Packed, Packed)>> {
        let (keys, states) = partial.columns().split_at(self.keys.len());
        let rows = partial.num_rows();
        Ok(pack(keys, rows)?.into_iter().zip(pack(states, rows)?).collect())
    }

    fn accumulators(&self) -> Planned<Vec<Box<dyn GroupsAccumulator>>> {
        let one = |aggregate: &Arc<AggregateFunctionExpr>| -> Planned<Box<dyn GroupsAccumulator>> {
            if aggregate.groups_accumulator_supported() {
                return aggregate.create_groups_accumulator();
            }
            let aggregate = Arc::clone(aggregate);
            Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
        };
        self.aggregates.iter().map(one).collect()
    }

    fn feed(
        &self,
        accumulators: &mut [Box<dyn GroupsAccumulator>],
        states: &[ArrayRef],
        of: &[usize],
        groups: usize,
    ) -> Planned<()> {
        for (accumulator, columns) in accumulators.iter_mut().zip(&self.of) {
            accumulator.merge_batch(&states[columns.clone()], of, groups)?;
        }
        Ok(())
    }

    /// Merges states of a batch into those that were there: what [`Merge`](millstream_streaming::Merge) asks for.
    pub(super) fn merged(&self, before: &[Option<Packed>], new: &[Packed], of: &[usize]) -> Result<Vec<Packed>> {
        if before.is_empty() {
            return Ok(Vec::new());
        }
        // Those that were there come first: accumulators take it that each group which they are told of has a row in what they are
        // given, or had one before.
        let known = before.iter().flatten().count();
        let (mut old, mut rest) = (0..known, known..before.len());
        let places = before.iter().map(|state| if state.is_some() { old.next() } else { rest.next() });
        let places: Vec<usize> = places.flatten().collect();
        let of: Vec<usize> = of.iter().map(|group| places[*group]).collect();
        let old = unpack(&self.states, before.iter().flatten())?;
        let new = unpack(&self.states, new.iter())?;
        let merge = || -> Planned<Vec<ArrayRef>> {
            let mut accumulators = self.accumulators()?;
            // What was there is the earlier one, for those that ask who was first.
            if known > 0 {
                self.feed(&mut accumulators, &old, &(0..known).collect::<Vec<_>>(), known)?;
            }
            self.feed(&mut accumulators, &new, &of, before.len())?;
            let mut states = Vec::with_capacity(self.states.len());
            for accumulator in &mut accumulators {
                states.append(&mut accumulator.state(EmitTo::All)?);
            }
            Ok(states)
        };
        let states = pack(&merge().map_err(|e| self.told(&e))?, before.len())?;
        Ok(places.into_iter().map(|place| states[place].clone()).collect())
    }

    /// Makes results of groups and their states.
    pub(super) fn results(&self, groups: &[(Packed, Packed)]) -> Result<RecordBatch> {
        let mut columns = unpack(&self.keys, groups.iter().map(|(key, _)| key))?;
        let states = unpack(&self.states, groups.iter().map(|(_, state)| state))?;
        let finish = || -> Planned<RecordBatch> {
            if groups.is_empty() && self.is_one() {
                // It is there before the first row is: its count is 0.
                for aggregate in &self.aggregates {
                    columns.push(aggregate.create_accumulator()?.evaluate()?.to_array()?);
                }
                return Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
            }
            let mut accumulators = self.accumulators()?;
            let each: Vec<usize> = (0..groups.len()).collect();
            self.feed(&mut accumulators, &states, &each, groups.len())?;
            for accumulator in &mut accumulators {
                columns.push(accumulator.evaluate(EmitTo::All)?);
            }
            let options = RecordBatchOptions::new().with_row_count(Some(groups.len()));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
        };
        finish().map_err(|e| self.told(&e))
    }

    fn told(&self, error: &DataFusionError) -> millstream_core::Error {
        told(error, &self.text)
    }
}

/// The types that differ between what is kept and what a batch gives, in words.
pub(super) fn differs<'a>(
    kept: impl Iterator<Item = &'a DataType>,
    given: impl Iterator<Item = &'a FieldRef>,
) -> Option<String> {
    kept.zip(given).find(|(kept, given)| *kept != given.data_type()).map(|(kept, given)| {
        format!("`{}` was {kept} when the program started, and is {} now", given.name(), given.data_type())
    })
}
