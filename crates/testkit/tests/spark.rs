//! Real Spark's word: programs that ran on Apache Spark Streaming run on millstream, and must give the same.
//!
//! `cargo xtask record-spark` ran them there; their sources are in `spark/java`, a class a family, and what they were
//! given and gave is in `spark`, a file a family. Their bodies in Rust are in `tests/spark`, under the same names.
//! Compared are the elements of each batch, with their order where Spark promises one; never which partition a hash
//! chose.
//!
//! To add a program: a method of the family's class in Java, a body of the same name in Rust, and the recorder, which
//! takes some minutes (`cargo xtask record-spark NAME` shows one program's answer at once). Whoever finds that Spark
//! means something else changes millstream, or names the departure in `spark/run.rs`, where it is watched.

mod spark {
    pub(crate) mod elements;
    pub(crate) mod inverse_windows;
    pub(crate) mod joins;
    pub(crate) mod map_with_state;
    pub(crate) mod pair_rdds;
    pub(crate) mod pairs;
    pub(crate) mod queues;
    pub(crate) mod rdds;
    pub(crate) mod run;
    pub(crate) mod update_state;
    pub(crate) mod windows;
}

use std::collections::BTreeSet;
use std::fs;

use spark::run::{folder, replay};
use spark::{elements, inverse_windows, joins, map_with_state, pair_rdds, pairs, queues, rdds, update_state, windows};

/// Declares a test for each family, and that there are no others.
macro_rules! families {
    ($($family:ident)*) => {
        $(
            #[test]
            fn $family() {
                replay(stringify!($family), $family::PROGRAMS);
            }
        )*

        #[test]
        fn each_family_that_spark_was_asked_is_replayed() {
            let files = fs::read_dir(folder()).expect("the folder of answers").flatten();
            let names = files.filter_map(|file| file.file_name().into_string().ok());
            let asked: BTreeSet<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
            assert_eq!(asked, [$(stringify!($family)),*].map(str::to_owned).into());
        }
    };
}

families! {
    elements
    inverse_windows
    joins
    map_with_state
    pair_rdds
    pairs
    queues
    rdds
    update_state
    windows
}
