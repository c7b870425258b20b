//! Actions in the background, and what a thread says about its jobs: AS01, CX17, CX18, CX20, SV05.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use common::{context, everywhere};
use millstream_core::{Context, ErrorKind, Rdd, TaskContext};

/// Something that tasks wait at until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Gate {
    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.0 += 1;
        self.0.1.notify_all();
        while !state.1 {
            state = self.0.1.wait(state).unwrap();
        }
    }

    fn wait_for(&self, arrived: usize) {
        let mut state = self.0.0.lock().unwrap();
        while state.0 < arrived {
            state = self.0.1.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.0.0.lock().unwrap().1 = true;
        self.0.1.notify_all();
    }

    /// An Rdd of two elements, each of which waits at the gate.
    fn behind(&self, context: &Context) -> Rdd<i64> {
        let gate = self.clone();
        context.range(0, 2, 1, 2).map(move |x| {
            gate.pass();
            x
        })
    }
}

#[test]
fn as01_actions_in_the_background_give_what_actions_give() {
    everywhere(|context, n| {
        let numbers = context.range(0, 1000, 1, n);
        let (count, all, some) = (numbers.count_async(), numbers.collect_async(), numbers.take_async(3));
        assert_eq!(some.get().unwrap(), [0, 1, 2]);
        assert_eq!(all.get().unwrap(), (0..1000).collect::<Vec<_>>());
        assert_eq!(count.get().unwrap(), 1000);
        let sum = context.long_accumulator("sum");
        let (one, two) = (sum.clone(), sum.clone());
        numbers.foreach_async(move |x| one.add(x)).get().unwrap();
        let add = move |items: millstream_core::PartitionIter<i64>| {
            two.add(items.sum());
            Ok(())
        };
        numbers.foreach_partition_async(add).get().unwrap();
        assert_eq!(sum.value(), 999_000);
    });
}

#[test]
fn as01_a_failure_names_the_line_of_the_call() {
    let context = context("local[2]");
    let (future, line) = (context.range(0, 5, 1, 2).foreach_async(|_| panic!("no output")), line!());
    let error = future.get().unwrap_err();
    assert_eq!((error.site().unwrap().op(), error.site().unwrap().line()), ("foreach_async", line), "{error}");
    context.stop();
    assert_eq!(context.range(0, 5, 1, 2).count_async().get().unwrap_err().kind(), ErrorKind::Stopped);
}

#[test]
fn as01_several_run_at_once_and_one_is_cancelled() {
    let context = context("local[4]");
    let (first, second) = (Gate::default(), Gate::default());
    let (one, other) = (first.behind(&context).count_async(), second.behind(&context).count_async());
    first.wait_for(2);
    second.wait_for(2);
    assert!(!one.is_completed() && !one.wait_for(Duration::ZERO));
    one.cancel();
    assert!(one.is_cancelled() && !other.is_cancelled());
    first.open();
    second.open();
    assert_eq!(one.get().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(other.get().unwrap(), 2);
}

#[test]
fn as01_a_cancelled_action_begins_no_further_job() {
    let context = context("local[2]");
    let gate = Gate::default();
    // It needs one job after the other: the elements are in the last partition.
    let waits = gate.clone();
    let late = context.range(0, 64, 1, 64).filter(move |x| {
        waits.pass();
        *x == 63
    });
    let future = late.take_async(1);
    gate.wait_for(1);
    future.cancel();
    gate.open();
    assert_eq!(future.get().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(context.jobs().is_empty());
}

#[test]
fn as01_an_action_can_be_awaited() {
    struct Flag(Mutex<bool>, Condvar);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }
    let context = context("local[2]");
    let gate = Gate::default();
    let counted = gate.behind(&context).count_async();
    let mut doubled = pin!(async { counted.await.map(|count| count * 2) });
    let flag = Arc::new(Flag(Mutex::new(false), Condvar::new()));
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(doubled.as_mut().poll(&mut cx).is_pending());
    gate.open();
    let mut woken = flag.0.lock().unwrap();
    while !*woken {
        woken = flag.1.wait(woken).unwrap();
    }
    match doubled.as_mut().poll(&mut cx) {
        Poll::Ready(result) => assert_eq!(result.unwrap(), 4),
        Poll::Pending => panic!("woken before the end"),
    }
}

#[test]
fn as01_no_action_within_a_task() {
    let context = context("local[2]");
    let inner = context.range(0, 3, 1, 1);
    let outer = context.range(0, 1, 1, 1).map(move |_| inner.count_async().get().map_err(|e| e.kind()).is_err());
    assert_eq!(outer.collect().unwrap(), [true]);
}

#[test]
fn cx17_cx18_cx20_groups_tags_and_descriptions_say_which_jobs_run_and_cancel_them() {
    let context = context("local[8]");
    let gate = Gate::default();
    context.set_job_group("mill", "grinds");
    let grouped = gate.behind(&context).count_async();
    context.clear_job_group();
    context.add_job_tag("slow");
    context.add_job_tag("big");
    context.remove_job_tag("big");
    assert_eq!(context.job_tags(), ["slow"]);
    let tagged = gate.behind(&context).count_async();
    context.clear_job_tags();
    let plain = gate.behind(&context).count_async();
    gate.wait_for(6);
    let jobs = context.jobs();
    assert_eq!(jobs.len(), 3);
    let find = |what: &dyn Fn(&millstream_core::JobInfo) -> bool| jobs.iter().find(|job| what(job)).unwrap();
    let mill = find(&|job| job.group.as_deref() == Some("mill"));
    assert_eq!((mill.description.as_deref(), mill.site.op()), (Some("grinds"), "count_async"));
    let last = find(&|job| job.group.is_none() && job.tags.is_empty());
    assert_eq!(last.description, None);
    assert_eq!(find(&|job| job.tags == ["slow"]).group, None);
    context.cancel_jobs_with_tag("slow");
    context.cancel_job_group("mill");
    context.cancel_job(last.id);
    gate.open();
    for future in [grouped, tagged, plain] {
        assert_eq!(future.get().unwrap_err().kind(), ErrorKind::Stopped);
    }
    assert!(context.jobs().is_empty());
    assert_eq!(context.range(0, 3, 1, 2).count().unwrap(), 3, "and the context goes on");
}

#[test]
fn cx17_sv05_local_properties_are_the_threads_and_reach_its_tasks_and_background_actions() {
    everywhere(|context, n| {
        let read = |_| TaskContext::current().unwrap().local_property("who").unwrap_or("nobody").to_owned();
        let asked = context.range(0, 1, 1, n).map(read).coalesce(1);
        assert_eq!(asked.collect().unwrap(), ["nobody"]);
        context.set_local_property("who", Some("ann"));
        assert_eq!(context.local_property("who").as_deref(), Some("ann"));
        assert_eq!(asked.collect().unwrap(), ["ann"]);
        let future = asked.map(|who| who).repartition(2).collect_async();
        context.set_local_property("who", None);
        assert_eq!(future.get().unwrap(), ["ann"], "what was said when the action was called");
        assert_eq!(asked.collect().unwrap(), ["nobody"]);
        let elsewhere = std::thread::scope(|scope| {
            context.set_local_property("who", Some("ann"));
            scope.spawn(|| context.local_property("who")).join().unwrap()
        });
        assert_eq!(elsewhere, None);
        context.set_local_property("who", None);
    });
}
