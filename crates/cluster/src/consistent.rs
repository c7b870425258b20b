//! Which executor is to read which part of a source that wishes to be read in the same place again: the same from batch to batch, for
//! as long as the executors are the same, and of few parts another when one joins or leaves. Pure.

use millstream_core::Preference;
use millstream_core::partitioner::key_hash;

/// An executor that tasks may be given to.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: &'a str,
    /// What its host is called.
    pub(crate) hosts: &'a [String],
    /// How many tasks it runs at once.
    pub(crate) slots: u32,
}

/// How much an executor is wanted for a key: each key has a row of executors of its own, in which a new one stands somewhere and
/// from which one that leaves is missed by nobody else.
fn weight(key: u64, executor: u64) -> u64 {
    let mut z = key ^ executor;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Chooses an executor, by its place, for each partition that wishes for one.
///
/// It is the first of its row that has not its share yet: of what wishes, as many as it has of the slots, rounded up. A
/// partition that wishes for a host goes to the first there, and to the one with the least there if all have their share; where
/// nobody is on such a host it goes wherever it would without.
pub(crate) fn choose(wishes: &[Option<Preference>], executors: &[Candidate<'_>]) -> Vec<Option<usize>> {
    let count = wishes.iter().flatten().count() as u64;
    let slots = executors.iter().map(|executor| u64::from(executor.slots)).sum::<u64>().max(1);
    let hashes: Vec<u64> = executors.iter().map(|executor| key_hash(&executor.id.to_owned())).collect();
    let share: Vec<u64> = executors.iter().map(|e| (count * u64::from(e.slots)).div_ceil(slots)).collect();
    let mut has = vec![0u64; executors.len()];
    let mut one = |wish: &Preference| {
        let is_there = |at: &usize| {
            let names = executors[*at].hosts;
            names.iter().any(|name| wish.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)))
        };
        let there: Vec<usize> = (0..executors.len()).filter(is_there).collect();
        let among = if there.is_empty() { (0..executors.len()).collect() } else { there };
        let best = |at: &usize| weight(wish.key, hashes[*at]);
        let free = among.iter().copied().filter(|at| has[*at] < share[*at]).max_by_key(best);
        let at = free.or_else(|| among.into_iter().min_by_key(|at| (has[*at], u64::MAX - best(at))))?;
        has[at] += 1;
        Some(at)
    };
    // By their keys, so that it is all the same in which order they stand.
    let mut order: Vec<(usize, &Preference)> =
        wishes.iter().enumerate().filter_map(|(i, wish)| Some((i, wish.as_ref()?))).collect();
    order.sort_by_key(|(_, wish)| wish.key);
    let mut chosen = vec![None; wishes.len()];
    for (i, wish) in order {
        chosen[i] = one(wish);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[String] = &[];

    fn executors<'a>(ids: &[&'a str]) -> Vec<Candidate<'a>> {
        ids.iter().map(|id| Candidate { id, hosts: ONE, slots: 2 }).collect()
    }

    /// Who reads each of so many partitions, by name.
    fn chosen<'a>(partitions: u64, among: &[Candidate<'a>]) -> Vec<&'a str> {
        let wishes: Vec<_> = (0..partitions).map(|p| Some(Preference::same(&p))).collect();
        choose(&wishes, among).into_iter().map(|at| among[at.unwrap()].id).collect()
    }

    fn moved(before: &[&str], after: &[&str]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    #[test]
    fn r62_each_has_its_share_and_few_move_when_an_executor_joins_or_leaves() {
        let (four, five) = (executors(&["a", "b", "c", "d"]), executors(&["a", "b", "c", "d", "e"]));
        let before = chosen(100, &four);
        assert_eq!(before, chosen(100, &four), "the same each time");
        for executor in &four {
            assert_eq!(before.iter().filter(|id| **id == executor.id).count(), 25);
        }
        let after = chosen(100, &five);
        assert!(moved(&before, &after) <= 40, "{}: by number it would be 80", moved(&before, &after));
        assert_eq!(after.iter().filter(|id| **id == "e").count(), 20);
        // The order in which they stand does not matter, and that of the partitions neither.
        assert_eq!(chosen(100, &executors(&["d", "b", "a", "c"])), before);
        let backwards: Vec<_> = (0..100u64).rev().map(|p| Some(Preference::same(&p))).collect();
        let backwards: Vec<_> = choose(&backwards, &four).into_iter().map(|at| four[at.unwrap()].id).collect();
        assert!(backwards.iter().rev().eq(&before));
        // One of them leaves: most of what the others read stays with them.
        let after = chosen(100, &executors(&["a", "b", "d"]));
        let stayed = before.iter().zip(&after).filter(|(before, after)| **before != "c" && before == after).count();
        assert!(stayed >= 60, "{stayed} of 75");
    }

    #[test]
    fn r62_shares_are_by_slots_and_three_partitions_do_not_all_go_to_one_of_two() {
        for name in 0..50u64 {
            let wishes: Vec<_> = (0..3).map(|p| Some(Preference::same(&(name, p)))).collect();
            let two = executors(&["a", "b"]);
            let to_first = choose(&wishes, &two).iter().filter(|at| **at == Some(0)).count();
            assert!((1..=2).contains(&to_first), "{to_first}");
        }
        let of = |id, slots| Candidate { id, hosts: ONE, slots };
        let large = chosen(40, &[of("small", 1), of("large", 3)]);
        assert_eq!(large.iter().filter(|id| **id == "large").count(), 30);
    }

    #[test]
    fn r62_a_wish_for_a_host_goes_there_whoever_has_his_share_and_elsewhere_if_nobody_is_there() {
        let (left, right) = (["left".to_owned(), "10.0.0.1".to_owned()], ["right".to_owned()]);
        let on = |id, hosts| Candidate { id, hosts, slots: 1 };
        let three = [on("a", &left[..]), on("b", &right[..]), on("c", &right[..])];
        let wish = |p: u64, host: &str| Some(Preference::same(&p).on([host]));
        let at = |wishes: &[Option<Preference>]| choose(wishes, &three);
        assert_eq!(at(&[wish(0, "LEFT"), wish(1, "10.0.0.1"), wish(2, "left")]), [Some(0); 3]);
        let right = at(&[wish(0, "right"), wish(1, "right"), wish(2, "right"), wish(3, "right")]);
        assert_eq!(right.iter().filter(|at| **at == Some(1)).count(), 2, "{right:?}");
        assert!(right.iter().all(|at| *at != Some(0)), "{right:?}");
        assert_eq!(at(&[wish(7, "nowhere")]), at(&[Some(Preference::same(&7u64))]));
        assert_eq!(at(&[None, None]), [None, None]);
        assert_eq!(choose(&[wish(0, "left")], &[]), [None], "nobody is there at all");
    }
}
