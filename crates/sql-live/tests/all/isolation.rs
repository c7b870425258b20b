//! A statement sees one batch and no other, whatever is published while it runs; and a test that would notice if it were not so.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::clock::monotonic;
use millstream_core::mutants::{Mutant, plant};
use millstream_core::secs;

use crate::house::{RUNTIME, house, of};

/// How many statements are asked: ten thousand with `MILLSTREAM_STATEMENTS=10000`.
fn statements() -> usize {
    std::env::var("MILLSTREAM_STATEMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

/// How many batches there are, at most.
const BATCHES: i32 = 50_000;

/// Set in a process of its own, in which tables are published one by one.
const PLANTED: &str = "MILLSTREAM_LIVE_TABLES_ONE_BY_ONE";

#[test]
fn no_statement_sees_two_batches_while_batches_go_on() {
    if std::env::var_os(PLANTED).is_some() {
        plant(Some(Mutant::LiveTablesOneByOne));
    }
    // The value of the one reading is the number of the batch, and so is the number of times that the key was seen.
    let batches: Vec<_> = (1..BATCHES).map(|n| vec![("a".to_owned(), f64::from(n))]).collect();
    let mut house = house(of(batches));
    house.test.run(1).unwrap();
    let clients: Vec<_> = (0..3).map(|_| house.connect()).collect();
    let done = AtomicBool::new(false);
    let text = "SELECT r.maxcelsius::bigint, (SELECT times FROM seen WHERE key = 'a'), (SELECT max(value) FROM totals), \
                (SELECT hottest::bigint FROM seen), extract(epoch FROM r.batch)::bigint FROM readings r";
    let (mut seen, mut two) = (std::collections::BTreeSet::new(), 0);
    std::thread::scope(|scope| {
        #[allow(clippy::disallowed_methods, reason = "scoped: it borrows the test's context")]
        let batches = scope.spawn(|| {
            // As long as there is something to read.
            for _ in 2..BATCHES {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                house.test.run(1).unwrap();
            }
        });
        RUNTIME.block_on(async {
            let mut prepared = Vec::new();
            for client in &clients {
                prepared.push(client.prepare(text).await.unwrap());
            }
            // On a busy machine batches may stand still for all of that.
            let until = monotonic() + secs(60);
            let (rounds, mut round) = (statements() / clients.len(), 0);
            while round < rounds || (seen.len() <= 20 && monotonic() < until) {
                round += 1;
                let asked = clients.iter().zip(&prepared).map(|(client, statement)| client.query_one(statement, &[]));
                for row in futures::future::join_all(asked).await {
                    let row = row.unwrap();
                    let numbers: Vec<i64> = (0..row.len()).map(|at| row.get(at)).collect();
                    two += usize::from(numbers.iter().any(|n| *n != numbers[0]));
                    seen.insert(numbers[0]);
                }
                // One is enough.
                if two > 0 && round > 10 {
                    break;
                }
            }
        });
        done.store(true, Ordering::Relaxed);
        batches.join().unwrap();
    });
    eprintln!("{} statements saw {} batches", statements(), seen.len());
    assert_eq!(two, 0, "statements saw two batches");
    assert!(seen.len() > 20, "only {} batches went by", seen.len());
}

#[test]
fn with_a_mistake_planted_the_same_test_fails() {
    let name = "isolation::no_statement_sees_two_batches_while_batches_go_on";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PLANTED, "1")
        .env("MILLSTREAM_STATEMENTS", "30000")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(!run.status.success() && said.contains("statements saw two batches"), "{said}");
}
