//! Aggregates of the program that statements may call: closures over a buffer, whose fields are the columns of a state.

use std::any::type_name;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use millstream_core::{Error, ErrorKind, panicked};

use crate::closure::Closure;
use crate::row::{Cell, ColumnsOf, Row};

/// What an aggregate of closures does. The closures take the buffer and give it back.
struct Closures<B, Reduce, Merge, Finish> {
    zero: B,
    reduce: Reduce,
    merge: Merge,
    finish: Finish,
}

/// Makes an aggregate of SQL of closures. Its arguments are a tuple of cells, or one; its buffer is a row.
pub(crate) fn aggregate<A: Row, B: Row, R: Cell>(
    name: &str,
    zero: B,
    reduce: impl Fn(B, A) -> B + Send + Sync + 'static,
    merge: impl Fn(B, B) -> B + Send + Sync + 'static,
    finish: impl Fn(B) -> R + Send + Sync + 'static,
) -> AggregateUDF {
    let types: Vec<DataType> = A::fields().iter().map(|field| field.data_type().clone()).collect();
    let closures = Arc::new(Closures { zero, reduce, merge, finish });
    let name: Arc<str> = name.to_lowercase().into();
    let made = Arc::clone(&name);
    let make = move || -> Box<dyn Accumulator> {
        let (closures, name) = (Arc::clone(&closures), Arc::clone(&made));
        Box::new(Buffer {
            buffer: Some(closures.zero.clone()),
            closures,
            name,
            of: std::marker::PhantomData::<fn(A) -> R>,
        })
    };
    AggregateUDF::new_from_impl(Aggregate {
        closure: Closure {
            name: name.to_string(),
            signature: Signature::exact(types, Volatility::Volatile),
            returns: R::data_type(),
            run: Arc::new(make) as Arc<Make>,
            of: type_name::<(A, B, R)>(),
        },
        state: B::fields(),
    })
}

type Make = dyn Fn() -> Box<dyn Accumulator> + Send + Sync;

/// Closures that make buffers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate {
    closure: Closure<Make>,
    /// The columns of the buffer.
    state: Vec<Field>,
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        &self.closure.name
    }

    fn signature(&self) -> &Signature {
        &self.closure.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.closure.returns.clone())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            let text = format!(
                "{0}(DISTINCT …) is not known here: write SELECT {0}(x) FROM (SELECT DISTINCT x FROM …)",
                self.closure.name
            );
            return Err(DataFusionError::Plan(text));
        }
        Ok((self.closure.run)())
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |field: &Field| {
            let name = format_state_name(args.name, field.name());
            Arc::new(field.clone().with_name(name).with_nullable(true))
        };
        Ok(self.state.iter().map(field).collect())
    }
}

/// The buffer of one group.
struct Buffer<A, B, R, Reduce, Merge, Finish> {
    /// It is away only while a closure has it: one that panicked keeps it.
    buffer: Option<B>,
    closures: Arc<Closures<B, Reduce, Merge, Finish>>,
    name: Arc<str>,
    of: std::marker::PhantomData<fn(A) -> R>,
}

impl<A, B, R, Reduce, Merge, Finish> fmt::Debug for Buffer<A, B, R, Reduce, Merge, Finish> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer of {}", self.name)
    }
}

impl<A: Row, B: Row, R: Cell, Reduce, Merge, Finish> Buffer<A, B, R, Reduce, Merge, Finish> {
    /// Gives the buffer to a closure, and takes what it gives back.
    fn step<T>(&mut self, of: impl FnOnce(&mut Self, B) -> millstream_core::Result<T>) -> Result<T> {
        let Some(buffer) = self.buffer.take() else {
            return Err(self.told(&Error::new(ErrorKind::User, "it has failed before")));
        };
        let result = catch_unwind(AssertUnwindSafe(|| of(self, buffer)));
        result.unwrap_or_else(|payload| Err(panicked(&*payload))).map_err(|e| self.told(&e))
    }

    fn told(&self, error: &Error) -> DataFusionError {
        let text = format!("the aggregate `{}`: {}", self.name, error.message());
        DataFusionError::External(Box::new(Error::new(error.kind(), text)))
    }
}

impl<A, B, R, Reduce, Merge, Finish> Accumulator for Buffer<A, B, R, Reduce, Merge, Finish>
where
    A: Row,
    B: Row,
    R: Cell,
    Reduce: Fn(B, A) -> B + Send + Sync + 'static,
    Merge: Fn(B, B) -> B + Send + Sync + 'static,
    Finish: Fn(B) -> R + Send + Sync + 'static,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |column| column.len());
        self.step(|this, mut buffer| {
            let fields = A::fields().into();
            let readers = A::readers(&ColumnsOf::arguments(&fields, values))?;
            for row in 0..rows {
                buffer = (this.closures.reduce)(buffer, A::get(&readers, row));
            }
            this.buffer = Some(buffer);
            Ok(())
        })
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |column| column.len());
        self.step(|this, mut buffer| {
            let fields = B::fields().into();
            let readers = B::readers(&ColumnsOf::arguments(&fields, states))?;
            for row in 0..rows {
                buffer = (this.closures.merge)(buffer, B::get(&readers, row));
            }
            this.buffer = Some(buffer);
            Ok(())
        })
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let columns = self.step(|this, buffer| {
            let mut builders = B::builders(1);
            buffer.append_row(&mut builders);
            this.buffer = Some(buffer);
            Ok(B::finish(builders))
        })?;
        columns.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let column = self.step(|this, buffer| {
            let mut builder = R::builder(1);
            this.buffer = Some(buffer.clone());
            (this.closures.finish)(buffer).append_cell(&mut builder);
            Ok(R::finish(builder))
        })?;
        ScalarValue::try_from_array(&column, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
