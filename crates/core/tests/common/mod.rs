//! What the integration tests share: contexts to run over, and multisets to compare.

#![allow(dead_code)]

use millstream_core::{Context, Data, Rdd};

/// Makes a context on `master`.
pub(crate) fn context(master: &str) -> Context {
    Context::new(master, "test").unwrap()
}

/// Contexts that run tasks in other processes: there are some where the crate of clusters has these tests run.
pub(crate) fn elsewhere() -> Vec<(&'static str, Context)> {
    match env!("CARGO_PKG_NAME") {
        "millstream-cluster" => vec![("a local cluster", context("local-cluster[2,1]"))],
        _ => Vec::new(),
    }
}

/// Runs `body` on one thread and on four, each over 1, 2 and 7 partitions.
pub(crate) fn everywhere(body: impl Fn(&Context, usize)) {
    for master in ["local[1]", "local[4]"] {
        let context = context(master);
        for partitions in [1, 2, 7] {
            body(&context, partitions);
        }
        assert_eq!(context.env().shuffles.len(), 0, "shuffle outputs outlive their Rdds");
        assert_eq!(context.env().blocks.usage().blocks, 0, "kept blocks outlive their Rdds");
    }
}

/// Sorts, to compare as a multiset.
pub(crate) fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// Returns how many stages a job on `rdd` has: one more than the shuffles that have not run.
pub(crate) fn stages<T: Data>(rdd: &Rdd<T>) -> usize {
    rdd.explain().stages.len()
}
