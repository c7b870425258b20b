//! The bundles of bounds that elements, keys and travelling values must meet.

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What may be an element of an Rdd: anything that is owned, can be cloned and shared between threads.
///
/// It is implemented for every such type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an element: it must be `Clone + Send + Sync + 'static`",
    label = "cannot be cloned, or shared between threads, or is borrowed",
    note = "for shared values use `Arc` instead of `Rc`, for owned text `String` or `Text` instead of `&str`"
)]
pub trait Data: Clone + Send + Sync + 'static {}
impl<T: Clone + Send + Sync + 'static> Data for T {}

/// What may leave a process: [`Data`] that serde can write and read.
///
/// It is asked for wherever a value may travel: shuffles, receivers, checkpoints, results of actions,
/// `parallelize`, queues, and every storage level but memory alone. Numbers, strings, tuples and collections
/// have it; a struct needs `#[derive(Serialize, Deserialize)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between processes: it must be an element that serde can write and read",
    label = "serde cannot write and read it",
    note = "what crosses a shuffle, is collected or is kept as state may travel",
    note = "a struct needs `#[derive(Clone, serde::Serialize, serde::Deserialize)]`"
)]
pub trait ExchangeData: Data + Serialize + DeserializeOwned {}
impl<T: Data + Serialize + DeserializeOwned> ExchangeData for T {}

/// What may be a key: data that may travel and can be compared and hashed.
///
/// `Eq` and `Hash` must agree, as for a [`std::collections::HashMap`]. A key's place is decided by
/// [`key_hash`](crate::partitioner::key_hash), which is fixed for ever, of what the key's own `Hash` gives.
///
/// Where they do not agree, keys that are equal may stay apart: each comes out with some of its values, and no value is
/// lost. A state, and a window that takes away what leaves it, may not find a key again; the batch then fails, or the
/// key begins anew. A key whose `Hash` or `Eq` panics fails the job at the line of the operation.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key: it must be `Eq + Hash`, and serde must write and read it",
    label = "cannot be compared, hashed, or written and read",
    note = "a struct needs `#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]`",
    note = "floats have neither `Eq` nor `Hash`: take a rounded number, or `to_bits()`"
)]
pub trait Key: ExchangeData + Eq + Hash {}
impl<K: ExchangeData + Eq + Hash> Key for K {}
