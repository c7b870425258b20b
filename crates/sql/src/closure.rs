//! A closure of the program as DataFusion knows functions: by its name, and the same as itself alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::Signature;

/// A closure with what it takes and gives.
pub(crate) struct Closure<F: ?Sized> {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    pub(crate) returns: DataType,
    pub(crate) run: Arc<F>,
    /// Its types, for people.
    pub(crate) of: &'static str,
}

impl<F: ?Sized> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.of)
    }
}

impl<F: ?Sized> PartialEq for Closure<F> {
    fn eq(&self, other: &Closure<F>) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.run, &other.run)
    }
}

impl<F: ?Sized> Eq for Closure<F> {}

impl<F: ?Sized> Hash for Closure<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
