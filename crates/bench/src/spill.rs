//! More data than memory: group, reduce, sort and co-group 1 GB under a budget of 256 MB, and see how much memory the
//! process takes at most.

use millstream::core::conf::EngineConf;
use millstream::core::{Context, Rdd};
use millstream::prelude::*;

use crate::timer;

/// Pairs, of some 100 bytes each: 1 GB.
const RECORDS: u64 = 10_000_000;
const PARTITIONS: u64 = 16;

/// Runs each operation under a budget of `memory` bytes and prints a line of JSON for it.
pub(crate) fn run(threads: usize, memory: u64) -> Result<()> {
    let conf = EngineConf { memory: Some(memory), ..EngineConf::new(&format!("local[{threads}]"), "spill")? };
    let context = Context::builder(conf).build()?;
    let expected = sum(&pairs(&context).map(|(key, value)| entry(key, &value)))?;
    let work: [(&str, Box<dyn Fn(&Context) -> Result<u64>>); 5] = [
        ("group", Box::new(group)),
        ("reduce", Box::new(reduce)),
        ("sort", Box::new(sort)),
        ("cogroup", Box::new(cogroup)),
        ("persist", Box::new(persist)),
    ];
    for (name, operation) in work {
        forget_peak();
        let begin = timer::now();
        let found = operation(&context)?;
        let ms = (timer::now() - begin).as_secs_f64() * 1e3;
        if found != expected {
            return Err(format!("{name} found {found:016x} and not {expected:016x}").into());
        }
        println!(
            "{{\"engine\":\"millstream\",\"workload\":\"spill\",\"operation\":\"{name}\",\"records\":{RECORDS},\
             \"bytes\":{},\"budget\":{memory},\"ms\":{ms:.0},\"peak_rss\":{},\"result_hash\":\"{found:016x}\"}}",
            RECORDS * 100,
            peak().unwrap_or(0),
        );
    }
    Ok(())
}

fn mixed(i: u64) -> u64 {
    let x = (i ^ (i >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^ (x >> 29)
}

/// Each key twice or so; values of 80 bytes.
fn pairs(context: &Context) -> Rdd<(u64, String)> {
    let each = RECORDS / PARTITIONS;
    let parts = context.parallelize((0..PARTITIONS).collect(), PARTITIONS as usize);
    parts.flat_map(move |part: u64| {
        (part * each..(part + 1) * each).map(|i| (mixed(i % (RECORDS / 2)), format!("{:080}", mixed(i))))
    })
}

fn entry(key: u64, value: &str) -> u64 {
    crate::report::entry_hash(value.as_bytes(), key)
}

fn sum(hashes: &Rdd<u64>) -> Result<u64> {
    hashes.fold(0, u64::wrapping_add)
}

fn all(key: u64, values: &[String]) -> u64 {
    values.iter().fold(0, |sum: u64, value| sum.wrapping_add(entry(key, value)))
}

fn group(context: &Context) -> Result<u64> {
    sum(&pairs(context).group_by_key().map(|(key, values)| all(key, &values)))
}

fn reduce(context: &Context) -> Result<u64> {
    let joined = pairs(context).reduce_by_key(|a, b| a + &b);
    sum(&joined.map(|(key, values)| {
        let (mut rest, mut sum) = (values.as_str(), 0u64);
        while let Some((value, more)) = rest.split_at_checked(80) {
            sum = sum.wrapping_add(entry(key, value));
            rest = more;
        }
        sum
    }))
}

fn sort(context: &Context) -> Result<u64> {
    let sums = pairs(context).sort_by_key().map_partitions(|rows| {
        let (mut last, mut sum) = (0, 0u64);
        for (key, value) in rows {
            // A row out of order spoils the sum.
            sum = if key < last { sum ^ 1 } else { sum.wrapping_add(entry(key, &value)) };
            last = key;
        }
        std::iter::once(sum)
    });
    sum(&sums)
}

fn cogroup(context: &Context) -> Result<u64> {
    let (left, right) = (pairs(context).filter(|(_, value)| is_left(value)), pairs(context));
    let right = right.filter(|(_, value)| !is_left(value));
    sum(&left.cogroup(&right).map(|(key, (a, b))| all(key, &a).wrapping_add(all(key, &b))))
}

fn is_left(value: &str) -> bool {
    value.as_bytes().last().is_some_and(|last| last % 2 == 0)
}

fn persist(context: &Context) -> Result<u64> {
    let kept = pairs(context);
    kept.persist(StorageLevel::MEMORY_AND_DISK);
    kept.count()?;
    sum(&kept.map(|(key, value)| entry(key, &value)))
}

/// Returns the most memory that the process has had since [`forget_peak`], where the system says.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
