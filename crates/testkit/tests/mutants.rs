//! Mistakes that are planted on purpose are found: each by the runs of `simulation.rs` that everybody's tests have.
//!
//! A mistake is planted in the whole process, so this file has one test.

#[allow(dead_code, reason = "shared with tests/model.rs, which uses all of it")]
#[path = "model"]
mod model {
    pub(crate) mod meaning;
    pub(crate) mod op;
}
#[allow(dead_code, reason = "shared with tests/simulation.rs, which uses all of it")]
#[path = "simulation"]
mod simulation {
    pub(crate) mod feed;
    pub(crate) mod files;
    pub(crate) mod ordered;
    pub(crate) mod run;
    pub(crate) mod sender;
    pub(crate) mod sink;
}

use millstream_core::mutants::{Mutant, plant};
use simulation::run::{Plan, simulate};

/// A mistake that so many runs do not find is not found. The ordinary run has 2,000.
const RUNS: u64 = 600;

#[test]
fn every_mistake_that_is_planted_is_found() {
    // A run that panics is a finding, and there will be many.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        plant(Some(mutant));
        let found = (0..RUNS).find_map(|seed| {
            let why = simulate(Plan::ordinary(seed)).err()?;
            Some((seed, why.lines().next().unwrap_or_default().to_owned()))
        });
        plant(None);
        match found {
            Some((_, why)) => eprintln!("{mutant:?}: {why}"),
            None => missed.push(mutant),
        }
    }
    let _ = std::panic::take_hook();
    assert!(missed.is_empty(), "not found in {RUNS} runs: {missed:?}");
    simulate(Plan::ordinary(0)).unwrap_or_else(|why| panic!("nothing is planted any more: {why}"));
}
