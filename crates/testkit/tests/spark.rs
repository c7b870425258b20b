//! Real Spark's word: programs that ran on Apache Spark Streaming run on millstream, and must give the same.
//!
//! `cargo xtask record-spark` ran them there; their sources are in `spark/java`, a class a family, and what they were
//! given and gave is in `spark`, a file a family. Their bodies in Rust are in `tests/spark`, under the same names.
//! Compared are the elements of each batch, with their order where Spark promises one; never which partition a hash
//! chose.

mod spark {
    pub(crate) mod elements;
    pub(crate) mod joins;
    pub(crate) mod pair_rdds;
    pub(crate) mod pairs;
    pub(crate) mod queues;
    pub(crate) mod rdds;
    pub(crate) mod run;
}

use std::collections::BTreeSet;
use std::fs;

use spark::run::{Programs, folder, replay};
use spark::{elements, joins, pair_rdds, pairs, queues, rdds};

/// Declares a test for each family, and that there are no others.
macro_rules! families {
    ($($family:ident: $programs:expr, $not_yet:expr;)*) => {
        $(
            #[test]
            fn $family() {
                let (programs, not_yet): (Programs, &[&str]) = ($programs, $not_yet);
                replay(stringify!($family), programs, not_yet);
            }
        )*

        #[test]
        fn each_family_that_spark_was_asked_is_replayed() {
            let files = fs::read_dir(folder()).expect("the folder of answers").flatten();
            let names = files.filter_map(|file| file.file_name().into_string().ok());
            let asked: BTreeSet<_> = names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect();
            let replayed = [$(stringify!($family)),*].into_iter().chain(NOT_YET);
            assert_eq!(asked, replayed.map(str::to_owned).collect());
        }
    };
}

/// Families that need what is still to come: they are recorded, but have no bodies.
const NOT_YET: [&str; 4] = ["inverse_windows", "map_with_state", "update_state", "windows"];

families! {
    elements: elements::PROGRAMS, elements::NOT_YET;
    joins: joins::PROGRAMS, joins::NOT_YET;
    pair_rdds: pair_rdds::PROGRAMS, &[];
    pairs: pairs::PROGRAMS, &[];
    queues: queues::PROGRAMS, queues::NOT_YET;
    rdds: rdds::PROGRAMS, rdds::NOT_YET;
}
