//! Which executor a receiver runs on. Pure but for the list of who sits where.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use millstream_core::ExecutorInfo;
use millstream_core::clock::Wake;
use millstream_core::threads::lock;

/// Where a receiver may run, the best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    /// On this executor.
    Executor(Arc<str>),
    /// On any executor of this host, none of which is known.
    Host(String),
}

/// What is known of where a receiver runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// It may run on one of these.
    Scheduled(Vec<Candidate>),
    /// It runs there.
    Runs(Arc<str>),
}

/// Places receivers that run nowhere yet, with the host that each prefers.
pub(crate) fn schedule(
    receivers: &BTreeMap<u64, Option<String>>,
    executors: &[ExecutorInfo],
) -> BTreeMap<u64, Vec<Candidate>> {
    let mut placed: BTreeMap<u64, Vec<Candidate>> = receivers.keys().map(|id| (*id, Vec::new())).collect();
    if executors.is_empty() {
        return placed;
    }
    let mut counts: Vec<usize> = vec![0; executors.len()];
    let least = |counts: &[usize], may: &dyn Fn(&ExecutorInfo) -> bool| {
        (0..executors.len()).filter(|at| may(&executors[*at])).min_by_key(|at| counts[*at])
    };
    // First those that prefer a host.
    for (id, host) in receivers.iter().filter_map(|(id, host)| Some((id, host.as_ref()?))) {
        let candidate = match least(&counts, &|executor| *executor.host == **host) {
            Some(at) => {
                counts[at] += 1;
                Candidate::Executor(Arc::clone(&executors[at].id))
            }
            None => Candidate::Host(host.clone()),
        };
        placed.entry(*id).or_default().push(candidate);
    }
    // Then all that have no place: where the fewest are.
    for candidates in placed.values_mut().filter(|candidates| candidates.is_empty()) {
        if let Some(at) = least(&counts, &|_| true) {
            counts[at] += 1;
            candidates.push(Candidate::Executor(Arc::clone(&executors[at].id)));
        }
    }
    // And who is idle is a second choice of those who have the fewest.
    for (executor, _) in executors.iter().zip(&counts).filter(|(_, count)| **count == 0) {
        if let Some(candidates) = placed.values_mut().min_by_key(|candidates| candidates.len()) {
            candidates.push(Candidate::Executor(Arc::clone(&executor.id)));
        }
    }
    placed
}

/// Places one receiver again, beside others that run or are about to.
pub(crate) fn reschedule(
    preferred: Option<&str>,
    others: &BTreeMap<u64, Seat>,
    executors: &[ExecutorInfo],
) -> Vec<Candidate> {
    if executors.is_empty() {
        return Vec::new();
    }
    let weights = weights(others, executors);
    let idle: Vec<usize> = (0..executors.len()).filter(|at| weights[*at] == 0.0).collect();
    let least = weights.iter().copied().fold(f64::INFINITY, f64::min);
    let lightest = || (0..executors.len()).filter(|at| weights[*at] <= least).collect();
    let chosen: Vec<usize> = if idle.is_empty() { lightest() } else { idle };
    let host = preferred.map(|host| Candidate::Host(host.to_owned()));
    host.into_iter().chain(chosen.into_iter().map(|at| Candidate::Executor(Arc::clone(&executors[at].id)))).collect()
}

/// Returns how much receivers weigh on each executor: one that runs 1, one that is about to its part of that on each candidate.
fn weights(others: &BTreeMap<u64, Seat>, executors: &[ExecutorInfo]) -> Vec<f64> {
    let weighs = |executor: &ExecutorInfo, seat: &Seat| match seat {
        Seat::Runs(at) => f64::from(u8::from(*at == executor.id)),
        Seat::Scheduled(candidates) => {
            let hits = candidates.iter().filter(|at| matches!(at, Candidate::Executor(id) if *id == executor.id));
            hits.count() as f64 / candidates.len().max(1) as f64
        }
    };
    executors.iter().map(|executor| others.values().map(|seat| weighs(executor, seat)).sum()).collect()
}

/// Takes the first candidate that is there; of a host the executor on which the least runs; and any, if none is there.
pub(crate) fn seat(
    candidates: &[Candidate],
    others: &BTreeMap<u64, Seat>,
    executors: &[ExecutorInfo],
) -> Option<ExecutorInfo> {
    let weights = weights(others, executors);
    let lightest = |may: &dyn Fn(&ExecutorInfo) -> bool| {
        let may = (0..executors.len()).filter(|at| may(&executors[*at]));
        may.min_by(|a, b| weights[*a].total_cmp(&weights[*b])).map(|at| executors[at].clone())
    };
    let found = candidates.iter().find_map(|candidate| match candidate {
        Candidate::Executor(id) => executors.iter().find(|executor| executor.id == *id).cloned(),
        Candidate::Host(host) => lightest(&|executor| *executor.host == **host),
    });
    found.or_else(|| lightest(&|_| true))
}

/// Who sits where: the receivers of one streaming context.
#[derive(Default)]
pub(crate) struct Seats {
    state: Mutex<SeatsState>,
}

#[derive(Default)]
struct SeatsState {
    /// Whether all receivers are known: they are placed together.
    open: bool,
    wants: BTreeMap<u64, Option<String>>,
    seats: BTreeMap<u64, Seat>,
    waiters: Vec<Weak<dyn Wake>>,
}

impl std::fmt::Debug for Seats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Seats({:?})", lock(&self.state).seats)
    }
}

impl Seats {
    /// Takes note of a receiver and the host that it prefers. `waiter` is woken when it may be placed.
    pub(crate) fn want(&self, id: u64, preferred: Option<String>, waiter: Weak<dyn Wake>) {
        let mut state = lock(&self.state);
        state.wants.insert(id, preferred);
        state.waiters.push(waiter);
    }

    /// All receivers have been noted: they may be placed.
    pub(crate) fn open(&self) {
        let mut state = lock(&self.state);
        state.open = true;
        let waiters: Vec<_> = state.waiters.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        waiters.iter().for_each(|waiter| waiter.wake());
    }

    /// Gives a receiver its executor; nothing while there is none, or not all receivers are known.
    pub(crate) fn choose(&self, id: u64, executors: &[ExecutorInfo]) -> Option<ExecutorInfo> {
        let state = &mut *lock(&self.state);
        if !state.open || executors.is_empty() {
            return None;
        }
        if state.seats.is_empty() {
            let planned = schedule(&state.wants, executors);
            state.seats = planned.into_iter().map(|(id, candidates)| (id, Seat::Scheduled(candidates))).collect();
        }
        let before = state.seats.remove(&id);
        let candidates = match before {
            Some(Seat::Scheduled(candidates)) => candidates,
            _ => reschedule(state.wants.get(&id)?.as_deref(), &state.seats, executors),
        };
        let chosen = seat(&candidates, &state.seats, executors)?;
        state.seats.insert(id, Seat::Runs(Arc::clone(&chosen.id)));
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executors(text: &str) -> Vec<ExecutorInfo> {
        let of = |at: &str| {
            let (id, host) = at.split_once('@').unwrap_or((at, "h"));
            ExecutorInfo { id: id.into(), host: host.into(), process: 1, slots: 1 }
        };
        text.split_whitespace().map(of).collect()
    }

    /// `1 2@host`: receivers, some with the host that they prefer.
    fn receivers(text: &str) -> BTreeMap<u64, Option<String>> {
        let of = |receiver: &str| match receiver.split_once('@') {
            Some((id, host)) => (id.parse().unwrap_or(0), Some(host.to_owned())),
            None => (receiver.parse().unwrap_or(0), None),
        };
        text.split_whitespace().map(of).collect()
    }

    fn shown(candidates: &[Candidate]) -> String {
        let one = |candidate: &Candidate| match candidate {
            Candidate::Executor(id) => id.to_string(),
            Candidate::Host(host) => format!("@{host}"),
        };
        candidates.iter().map(one).collect::<Vec<_>>().join("+")
    }

    #[test]
    fn r42_receivers_are_placed_by_preference_then_evenly_and_who_is_idle_is_a_second_choice() {
        for (wants, there, want) in [
            ("", "a b", ""),
            ("1 2", "", "1: 2:"),
            ("1", "a", "1:a"),
            ("1 2 3", "a b", "1:a 2:b 3:a"),
            ("1 2", "a b", "1:a 2:b"),
            ("1", "a b c", "1:a+b+c"),
            ("1 2", "a b c d", "1:a+c 2:b+d"),
            ("1@y 2@x 3", "a@x b@y c@y", "1:b 2:a 3:c"),
            ("1@y 2@y 3@y 4", "a@x b@y c@y", "1:b 2:c 3:b 4:a"),
            ("1@nowhere", "a", "1:@nowhere+a"),
            ("1@nowhere 2", "a", "1:@nowhere 2:a"),
        ] {
            let placed = schedule(&receivers(wants), &executors(there));
            let got: Vec<String> = placed.iter().map(|(id, at)| format!("{id}:{}", shown(at))).collect();
            assert_eq!(got.join(" "), want, "{wants:?} on {there:?}");
        }
    }

    /// `1=a` runs there, `2=a|b` may run on either.
    fn seats(text: &str) -> BTreeMap<u64, Seat> {
        let of = |seat: &str| {
            let (id, at) = seat.split_once('=').unwrap_or(("0", seat));
            let many = || at.split('|').map(|id| Candidate::Executor(id.into())).collect();
            let seat = if at.contains('|') { Seat::Scheduled(many()) } else { Seat::Runs(at.into()) };
            (id.parse().unwrap_or(0), seat)
        };
        text.split_whitespace().map(of).collect()
    }

    #[test]
    fn r43_one_receiver_is_placed_again_on_its_host_and_on_who_is_idle_or_bears_the_least() {
        for (preferred, others, there, want) in [
            (None, "", "", ""),
            (None, "", "a b", "a+b"),
            (None, "1=a", "a b c", "b+c"),
            (Some("x"), "1=a", "a b", "@x+b"),
            (None, "1=a 2=b", "a b", "a+b"),
            (None, "1=a 2=a 3=b", "a b", "b"),
            (None, "1=a 2=b 3=b|a", "a b", "a+b"),
            (None, "1=a 2=b|c", "a b c", "b+c"),
            (None, "1=a 2=b|c 3=b", "a b c", "c"),
            (Some("x"), "1=gone", "a", "@x+a"),
        ] {
            let got = reschedule(preferred, &seats(others), &executors(there));
            assert_eq!(shown(&got), want, "{preferred:?} beside {others:?} on {there:?}");
        }
    }

    #[test]
    fn the_first_candidate_that_is_there_is_taken_and_else_who_bears_the_least() {
        let host = |host: &str| Candidate::Host(host.to_owned());
        let executor = |id: &str| Candidate::Executor(id.into());
        for (candidates, others, there, want) in [
            (vec![executor("b"), executor("a")], "", "a b", "b"),
            (vec![executor("gone"), executor("a")], "", "a b", "a"),
            (vec![host("x"), executor("a")], "1=b", "a b@x c@x", "c"),
            (vec![host("x"), executor("b")], "", "a b", "b"),
            (vec![], "1=a", "a b", "b"),
            (vec![executor("gone")], "1=a", "a b", "b"),
        ] {
            let got = seat(&candidates, &seats(others), &executors(there)).map(|executor| executor.id);
            assert_eq!(got.as_deref(), Some(want), "{candidates:?} beside {others:?} on {there:?}");
        }
        assert_eq!(seat(&[executor("a")], &BTreeMap::new(), &[]), None);
    }

    #[test]
    fn receivers_are_placed_when_all_are_known_and_one_that_comes_again_goes_where_none_is() {
        struct Deaf;
        impl Wake for Deaf {
            fn wake(&self) {}
        }
        let nobody = || Weak::<Deaf>::new() as Weak<dyn Wake>;
        let seats = Seats::default();
        let chosen = |id, there: &str| seats.choose(id, &executors(there)).map(|executor| executor.id.to_string());
        seats.want(0, None, nobody());
        assert_eq!(chosen(0, "a b"), None, "more may come");
        seats.want(1, None, nobody());
        seats.open();
        assert_eq!(chosen(0, ""), None, "nobody is there");
        assert_eq!((chosen(1, "a b"), chosen(0, "a b")), (Some("b".to_owned()), Some("a".to_owned())));
        assert_eq!(chosen(1, "a c"), Some("c".to_owned()), "a has one already");
        assert_eq!(chosen(0, "c"), Some("c".to_owned()), "there is no other");
    }
}
