//! How soon a program with a large state goes on after it was killed.

use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use millstream::core::partitioner::Partitioner;
use millstream::prelude::*;

use crate::timer;

/// The length of a state's value, in bytes.
const VALUE: usize = 100;

/// Makes a durable state of `keys` keys, or goes on with one: prints when the first output of this process has ended, counted from
/// when `main` began, and then ends at once, as a process that is killed does.
///
/// Called twice on one folder it measures a restart; what it is given to print says which of the two it was.
pub(crate) fn run(begin: Instant, folder: &Path, threads: usize, keys: u64) -> Result<()> {
    let goes_on = folder.join("checkpoint").exists();
    let conf = Conf::new(&format!("local[{threads}]"), "restart")?;
    let (told, first) = mpsc::channel();
    let ssc = StreamingContext::builder(conf, millis(100)).get_or_create(folder.join("checkpoint"), |ssc| {
        let spec = StateSpec::function(|key: &u64, _: Option<u64>, state: &mut State<'_, String>| {
            state.update(value(*key));
            0u64
        });
        let parts = ssc.context().parallelize((0..threads as u64).collect(), threads);
        let shape = (keys, threads as u64);
        let initial = parts
            .flat_map(capture(shape, |(keys, parts): &(u64, u64), part: u64| {
                let (keys, parts) = (*keys, *parts);
                (part..keys).step_by(parts as usize).map(|key| (key, value(key)))
            }))
            .partition_by(Partitioner::hash(threads));
        let states = ssc
            .input(Updates { threads, keys })
            .map_with_state(spec.initial_state(&initial).partitioner(Partitioner::hash(threads)))
            .uid("state");
        states.foreach_rdd(move |rdd, time| {
            let count = rdd.count()?;
            // Only the first few are waited for.
            let _ = told.send((time, count));
            Ok(())
        });
        Ok(())
    })?;
    ssc.start()?;
    let wait = || first.recv().map_err(|_| Error::new(ErrorKind::Stopped, "the program has stopped"));
    wait()?;
    println!(
        "{{\"workload\":\"restart\",\"keys\":{keys},\"goes_on\":{goes_on},\"ms_main_to_first_output\":{:.0}}}",
        begin.elapsed().as_secs_f64() * 1e3
    );
    // Enough batches for the state to be saved.
    let enough = timer::now();
    for _ in 0..30 {
        wait()?;
    }
    ssc.context().await_saves()?;
    wait()?;
    println!(
        "{{\"workload\":\"restart\",\"saved_after_ms\":{:.0},\"bytes\":{}}}",
        enough.elapsed().as_secs_f64() * 1e3,
        size(folder)
    );
    std::process::exit(0)
}

/// A thousand updates a batch.
struct Updates {
    threads: usize,
    keys: u64,
}

impl InputSource for Updates {
    type Item = (u64, u64);
    type Allocation = u64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<u64> {
        Ok(batch.as_millis() as u64 / 100)
    }

    fn rdd(&self, batch: &u64, engine: &Context) -> Result<Option<Rdd<(u64, u64)>>> {
        let records = (0..1000).map(|i| (crate::bigstate::mixed(batch * 1000 + i) % self.keys, i)).collect();
        Ok(Some(engine.parallelize(records, self.threads)))
    }
}

fn value(key: u64) -> String {
    let mut value = key.to_string();
    while value.len() < VALUE {
        value.push('.');
    }
    value
}

/// The bytes of all files under a folder.
pub(crate) fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}
