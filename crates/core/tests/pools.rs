//! Threads shared between jobs that run at once: CX17, CX20.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::{Arc, Condvar, Mutex};

use millstream_core::conf::{EngineConf, PoolShare, Scheduling};
use millstream_core::{Context, FutureAction};

fn context(master: &str, scheduling: Scheduling, shares: &[(&str, PoolShare)]) -> Context {
    let mut conf = EngineConf::new(master, "test").unwrap();
    conf.scheduling = scheduling;
    conf.pools = shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect();
    Context::builder(conf).build().unwrap()
}

type Order = Arc<Mutex<String>>;

/// Begins a job of six tasks in the pool `name`, which write its name down in the order in which they run. The first
/// waits until the gate is opened.
fn begin(context: &Context, name: char, order: &Order, gate: &Arc<(Mutex<bool>, Condvar)>) -> FutureAction<u64> {
    let (order, gate) = (Arc::clone(order), Arc::clone(gate));
    context.set_local_property("spark.scheduler.pool", Some(&name.to_string()));
    let job = context.range(0, 6, 1, 6).map(move |x| {
        let mut open = gate.0.lock().unwrap();
        while !*open {
            open = gate.1.wait(open).unwrap();
        }
        order.lock().unwrap().push(name);
        x
    });
    let future = job.count_async();
    context.set_local_property("spark.scheduler.pool", None);
    future
}

fn order_of_two_jobs(context: &Context) -> String {
    let (order, gate) = (Order::default(), Arc::default());
    let a = begin(context, 'a', &order, &gate);
    while context.jobs().is_empty() {
        std::thread::yield_now();
    }
    let b = begin(context, 'b', &order, &gate);
    // A job stands among those that run when its tasks wait for a thread.
    while context.jobs().len() < 2 {
        std::thread::yield_now();
    }
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    assert_eq!((a.get().unwrap(), b.get().unwrap()), (6, 6));
    let order = order.lock().unwrap();
    order.clone()
}

#[test]
fn cx20_fair_pools_take_turns_and_first_in_first_out_lets_one_job_end_first() {
    let fair = context("local[1]", Scheduling::Fair, &[]);
    let fifo = context("local[1]", Scheduling::Fifo, &[]);
    for _ in 0..20 {
        let order = order_of_two_jobs(&fair);
        assert!(order[1..].starts_with("babab") || order[1..].starts_with("ababa"), "{order}");
        let order = order_of_two_jobs(&fifo);
        let alone = order.find('b').unwrap();
        assert!(alone >= 5, "{order}");
    }
}

#[test]
fn cx20_a_heavier_pool_and_a_least_share_are_given_more_threads() {
    let share = PoolShare { weight: 1, min_share: 3 };
    let context = context("local[4]", Scheduling::Fair, &[("b", share)]);
    for _ in 0..10 {
        assert_eq!(order_of_two_jobs(&context).len(), 12);
    }
}

#[test]
fn cx20_many_small_jobs_of_many_pools_all_end() {
    for master in ["local[1]", "local[2]", "local[4]"] {
        for scheduling in [Scheduling::Fair, Scheduling::Fifo] {
            let context = context(master, scheduling, &[("p1", PoolShare { weight: 3, min_share: 1 })]);
            std::thread::scope(|scope| {
                for thread in 0..6 {
                    let context = &context;
                    scope.spawn(move || {
                        context.set_local_property("spark.scheduler.pool", Some(&format!("p{}", thread % 4)));
                        for n in 1..150usize {
                            let pairs = context.range(0, 20, 1, 1 + n % 5).map(|x| (x % 3, 1u64));
                            assert_eq!(pairs.reduce_by_key(|a, b| a + b).count().unwrap(), 3);
                        }
                    });
                }
            });
            assert!(context.jobs().is_empty());
        }
    }
}
