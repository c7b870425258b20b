//! Connections that nobody uses at the moment, by the broker that they lead to: readers of many partitions share a few.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::secs;
use millstream_core::threads::lock;

use super::wire::Wire;
use crate::settings::Brokers;

/// So many are kept of each broker.
const MOST: usize = 16;

/// Brokers end what says nothing for ten minutes; it is not waited for that long.
const OLD: Duration = secs(120);

/// A broker of a cluster as a program sees it: with all that is set.
type Name = (u64, String);

static WIRES: Mutex<BTreeMap<Name, Vec<(Duration, Wire)>>> = Mutex::new(BTreeMap::new());

fn name(brokers: &Brokers, broker: &str) -> Name {
    let mut hasher = DefaultHasher::new();
    brokers.hash(&mut hasher);
    (hasher.finish(), broker.to_owned())
}

/// Takes the connection to a broker that was used last, if there is one.
pub(super) fn take(brokers: &Brokers, broker: &str) -> Option<Wire> {
    let name = name(brokers, broker);
    let mut wires = lock(&WIRES);
    let (since, wire) = wires.get_mut(&name)?.pop()?;
    if monotonic().saturating_sub(since) > OLD {
        // All others are older.
        let gone = wires.remove(&name);
        drop(wires);
        drop((gone, wire));
        return None;
    }
    Some(wire)
}

/// Takes back a connection over which nothing is under way.
pub(super) fn give(brokers: &Brokers, broker: &str, wire: Wire) {
    let now = monotonic();
    let mut gone = Vec::new();
    let mut wires = lock(&WIRES);
    wires.entry(name(brokers, broker)).or_default().push((now, wire));
    for of in wires.values_mut() {
        let old = of.iter().take_while(|(since, _)| now.saturating_sub(*since) > OLD).count();
        gone.extend(of.drain(..old.max(of.len().saturating_sub(MOST))));
    }
    wires.retain(|_, of| !of.is_empty());
    drop(wires);
    drop(gone);
}

/// Ends all connections to a broker: one of them has ended by itself.
pub(super) fn forget(brokers: &Brokers, broker: &str) {
    let gone = lock(&WIRES).remove(&name(brokers, broker));
    drop(gone);
}

/// Ends all connections of a program to a cluster that nobody uses: the program has ended. What is read later connects anew.
pub(super) fn end(brokers: &Brokers) {
    let of = name(brokers, "").0;
    let mut wires = lock(&WIRES);
    let names: Vec<_> = wires.keys().filter(|(brokers, _)| *brokers == of).cloned().collect();
    let gone: Vec<_> = names.iter().filter_map(|name| wires.remove(name)).collect();
    drop(wires);
    drop(gone);
}
