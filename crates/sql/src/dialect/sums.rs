//! `sum` of whole numbers, which fails where it does not fit, and does not begin again from the other end.

use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray};
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};
use millstream_core::ErrorKind;

use super::texts::wrong;

pub(super) fn sum() -> AggregateUDF {
    AggregateUDF::new_from_impl(Sum { inner: sum_udaf() })
}

/// DataFusion's own, for all but whole numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    inner: Arc<AggregateUDF>,
}

fn is_ours(args: &AccumulatorArgs<'_>) -> bool {
    *args.return_field.data_type() == DataType::Int64
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (is_ours(&args), args.is_distinct) {
            (true, true) => Ok(Box::new(Distinct::default())),
            (true, false) => Ok(Box::new(Total::default())),
            (false, _) => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if is_ours(&args) { Ok(Box::new(Groups::default())) } else { self.inner.create_groups_accumulator(args) }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match (is_ours(&args), args.is_distinct) {
            (true, true) => Ok(Box::new(Distinct::default())),
            (true, false) => Ok(Box::new(Total::default())),
            (false, _) => self.inner.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn overflow() -> DataFusionError {
    let text = "overflow in `sum`: the sum does not fit BIGINT, write sum(CAST(x AS DECIMAL(38, 0)))";
    wrong(ErrorKind::Data, text.to_owned())
}

fn fits(total: i128) -> Result<i64> {
    i64::try_from(total).map_err(|_| overflow())
}

/// The sum of one group, or of a frame that slides. Of so many numbers as there can be it does not leave its type.
#[derive(Debug, Default)]
struct Total {
    total: i128,
    count: u64,
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.total += values.iter().flatten().map(i128::from).sum::<i128>();
        self.count += (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Int64Type>();
        self.total -= values.iter().flatten().map(i128::from).sum::<i128>();
        self.count -= (values.len() - values.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = fits(self.total)?;
        Ok(ScalarValue::Int64((self.count > 0).then_some(total)))
    }

    fn size(&self) -> usize {
        size_of::<Total>()
    }
}

/// The sum of the values that are different, and how often each is there.
#[derive(Debug, Default)]
struct Distinct {
    values: HashMap<i64, u64>,
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            *self.values.entry(value).or_default() += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for value in values[0].as_primitive::<Int64Type>().iter().flatten() {
            if let Some(count) = self.values.get_mut(&value) {
                *count -= 1;
                if *count == 0 {
                    self.values.remove(&value);
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists: &ListArray = states[0].as_list();
        for values in lists.iter().flatten() {
            self.update_batch(&[values])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.values.keys().map(|value| ScalarValue::Int64(Some(*value))).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = fits(self.values.keys().map(|value| i128::from(*value)).sum())?;
        Ok(ScalarValue::Int64((!self.values.is_empty()).then_some(total)))
    }

    fn size(&self) -> usize {
        size_of::<Distinct>() + self.values.capacity() * size_of::<(i64, u64)>()
    }
}

/// The sums of many groups.
#[derive(Debug, Default)]
struct Groups {
    totals: Vec<i64>,
    /// Which of them have seen a value.
    seen: Vec<bool>,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.totals.resize(total, 0);
        self.seen.resize(total, false);
        let values = values[0].as_primitive::<Int64Type>();
        let all = values.null_count() == 0 && filter.is_none();
        for (row, (group, value)) in groups.iter().zip(values.values()).enumerate() {
            let counts = |filter: &BooleanArray| filter.is_valid(row) && filter.value(row);
            if all || (values.is_valid(row) && filter.is_none_or(counts)) {
                self.totals[*group] = self.totals[*group].checked_add(*value).ok_or_else(overflow)?;
                self.seen[*group] = true;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(states, groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (totals, seen) = (emit.take_needed(&mut self.totals), emit.take_needed(&mut self.seen));
        Ok(Arc::new(Int64Array::new(totals.into(), Some(seen.into()))))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Int64Type>();
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let kept = values.iter().enumerate().map(|(row, value)| value.filter(|_| counts(row)));
        Ok(vec![Arc::new(kept.collect::<Int64Array>())])
    }

    fn size(&self) -> usize {
        self.totals.capacity() * size_of::<i64>() + self.seen.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[Option<i64>]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn a_sum_that_does_not_fit_is_an_error_and_a_frame_that_slides_on_fits_again() {
        let mut total = Total::default();
        assert_eq!(total.evaluate().unwrap(), ScalarValue::Int64(None));
        total.update_batch(&[column(&[Some(i64::MAX), None, Some(1)])]).unwrap();
        assert!(total.evaluate().unwrap_err().to_string().contains("overflow in `sum`"));
        total.retract_batch(&[column(&[Some(i64::MAX), None])]).unwrap();
        assert_eq!(total.evaluate().unwrap(), ScalarValue::Int64(Some(1)));

        let mut distinct = Distinct::default();
        distinct.update_batch(&[column(&[Some(3), Some(3), Some(i64::MAX)])]).unwrap();
        assert!(distinct.evaluate().is_err());
        distinct.retract_batch(&[column(&[Some(3), Some(i64::MAX)])]).unwrap();
        assert_eq!(distinct.evaluate().unwrap(), ScalarValue::Int64(Some(3)));
        let state = distinct.state().unwrap().remove(0).to_array().unwrap();
        let mut merged = Distinct::default();
        merged.merge_batch(&[state]).unwrap();
        assert_eq!(merged.evaluate().unwrap(), ScalarValue::Int64(Some(3)));
    }

    #[test]
    fn sums_of_groups_are_each_checked() {
        let mut groups = Groups::default();
        let only = BooleanArray::from(vec![Some(true), Some(true), None, Some(false), Some(true)]);
        let values = column(&[Some(1), Some(2), Some(9), Some(9), None]);
        groups.update_batch(&[Arc::clone(&values)], &[0, 1, 0, 0, 2], Some(&only), 3).unwrap();
        let kept = groups.convert_to_state(&[values], Some(&only)).unwrap();
        assert_eq!(kept[0].as_ref(), column(&[Some(1), Some(2), None, None, None]).as_ref());
        groups.merge_batch(&[column(&[Some(4)])], &[1], 4).unwrap();
        assert_eq!(groups.evaluate(EmitTo::First(1)).unwrap().as_ref(), column(&[Some(1)]).as_ref());
        assert_eq!(groups.evaluate(EmitTo::All).unwrap().as_ref(), column(&[Some(6), None, None]).as_ref());
        groups.update_batch(&[column(&[Some(i64::MIN)])], &[0], None, 1).unwrap();
        assert!(groups.update_batch(&[column(&[Some(-1)])], &[0], None, 1).is_err());
    }
}
