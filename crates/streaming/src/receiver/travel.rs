//! How a receiver gets to an executor.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use millstream_core::Result;
use millstream_core::codec;
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Receiver;

type Write = dyn Fn(&mut PlanWriter) -> Result<()> + Send + Sync;

/// A receiver, as it is made anew on an executor: what [`Receiver::travels`] returns.
///
/// # Example
///
/// ```
/// use millstream_core::Result;
/// use millstream_streaming::{Receiver, Store, Travelling};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Ticks {
///     first: u64,
/// }
///
/// impl Receiver for Ticks {
///     type Item = u64;
///
///     fn receive(&mut self, store: &mut dyn Store<u64>) -> Result<()> {
///         store.store(self.first)
///     }
///
///     fn travels(&self) -> Option<Travelling> {
///         Some(Travelling::of(self))
///     }
/// }
/// ```
///
/// # Spark
///
/// That a `Receiver` is `Serializable`.
#[derive(Clone)]
pub struct Travelling(Arc<Write>);

impl fmt::Debug for Travelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Travelling")
    }
}

impl Travelling {
    /// A receiver that is written down as it is now, and read again wherever it is to run: once for each executor that it comes to.
    ///
    /// What refuses to be written is reported by `start()`.
    pub fn of<R: Receiver + Serialize + DeserializeOwned>(receiver: &R) -> Travelling {
        let written = codec::encode(receiver);
        Travelling::written(move |w| {
            w.code(arrives::<R>);
            w.value(&written.clone()?)
        })
    }

    /// A receiver that writes itself down: code first, which makes a `Box<dyn Receiver>`.
    pub(crate) fn written(write: impl Fn(&mut PlanWriter) -> Result<()> + Send + Sync + 'static) -> Travelling {
        Travelling(Arc::new(write))
    }

    pub(crate) fn write(&self, w: &mut PlanWriter) -> Result<()> {
        (self.0)(w)
    }
}

fn arrives<R: Receiver + DeserializeOwned>(r: &mut PlanReader<'_>) -> Result<Box<dyn Any>> {
    let written: Vec<u8> = r.value()?;
    arrived(codec::decode::<R>(&written)?)
}

/// Makes what the code of a receiver is to make.
pub(crate) fn arrived<R: Receiver>(receiver: R) -> Result<Box<dyn Any>> {
    let receiver: Box<dyn Receiver<Item = R::Item>> = Box::new(receiver);
    Ok(Box::new(receiver))
}
