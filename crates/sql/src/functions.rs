//! Functions of the program that statements may call.

use std::any::type_name;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    AggregateUDF, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use millstream_core::panicked;

use crate::closure::Closure;
use crate::row::{Cell, ColumnsOf, Row};

/// The functions that a program has registered, as they were at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Functions {
    by_name: BTreeMap<String, Arc<ScalarUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    /// It rises with each change: plans that were made with other functions are not used.
    pub(crate) version: u64,
}

impl Functions {
    pub(crate) fn with(&self, function: ScalarUDF) -> Functions {
        let mut functions = self.clone();
        functions.aggregates.remove(function.name());
        functions.by_name.insert(function.name().to_owned(), Arc::new(function));
        functions.version += 1;
        functions
    }

    pub(crate) fn with_aggregate(&self, aggregate: AggregateUDF) -> Functions {
        let mut functions = self.clone();
        functions.by_name.remove(aggregate.name());
        functions.aggregates.insert(aggregate.name().to_owned(), Arc::new(aggregate));
        functions.version += 1;
        functions
    }

    pub(crate) fn known(&self) -> Vec<Arc<ScalarUDF>> {
        self.by_name.values().cloned().collect()
    }

    pub(crate) fn known_aggregates(&self) -> Vec<Arc<AggregateUDF>> {
        self.aggregates.values().cloned().collect()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().chain(self.aggregates.keys()).map(String::as_str)
    }
}

/// Makes a function of SQL of a closure. Its arguments are a tuple of cells.
pub(crate) fn function<A: Row, R: Cell>(name: &str, closure: impl Fn(A) -> R + Send + Sync + 'static) -> ScalarUDF {
    let types: Vec<DataType> = A::fields().iter().map(|field| field.data_type().clone()).collect();
    // The closure may see the outside world, so it is called for each row.
    let signature = if types.is_empty() {
        Signature::nullary(Volatility::Volatile)
    } else {
        Signature::exact(types, Volatility::Volatile)
    };
    let compute = move |columns: &[ArrayRef], rows: usize| -> millstream_core::Result<ArrayRef> {
        let fields = A::fields().into();
        let readers = A::readers(&ColumnsOf::arguments(&fields, columns))?;
        let mut builder = R::builder(rows);
        for row in 0..rows {
            closure(A::get(&readers, row)).append_cell(&mut builder);
        }
        Ok(R::finish(builder))
    };
    let name = name.to_lowercase();
    ScalarUDF::new_from_impl(Closure {
        name,
        signature,
        returns: R::data_type(),
        run: Arc::new(compute) as Arc<Compute>,
        of: type_name::<(A, R)>(),
    })
}

type Compute = dyn Fn(&[ArrayRef], usize) -> millstream_core::Result<ArrayRef> + Send + Sync;

impl ScalarUDFImpl for Closure<Compute> {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let columns = arguments.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(&columns, rows)));
        let result = result.unwrap_or_else(|payload| Err(panicked(&*payload)));
        let said = |e: millstream_core::Error| {
            let text = format!("the function `{}`: {}", self.name, e.message());
            DataFusionError::External(Box::new(millstream_core::Error::new(e.kind(), text)))
        };
        let column = result.map_err(said)?;
        if arguments.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_))) && rows == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?));
        }
        Ok(ColumnarValue::Array(column))
    }
}
