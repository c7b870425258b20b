//! The same Rdd in every batch.

use millstream_core::{Context, Data, Rdd, Result, Time};

use super::{InputSource, Rate};

/// Gives the same Rdd in every batch. Spark's `ConstantInputDStream`, IN04.
pub(crate) struct ConstantSource<T>(pub(crate) Rdd<T>);

impl<T: Data> InputSource for ConstantSource<T> {
    type Item = T;
    type Allocation = ();

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<()> {
        Ok(())
    }

    fn rdd(&self, _: &(), _: &Context) -> Result<Option<Rdd<T>>> {
        Ok(Some(self.0.clone()))
    }
}
