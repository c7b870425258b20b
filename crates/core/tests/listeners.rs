//! What an engine tells its listeners, and in which order (CX20).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::context;
use millstream_core::clock::ManualClock;
use millstream_core::conf::EngineConf;
use millstream_core::{
    ApplicationStart, Context, EngineListener, Error, JobEnd, JobStart, RddId, StageInfo, TaskEnd, TaskInfo, TaskKind,
    TaskMetrics, Time, secs,
};

/// A listener that writes down what it is told, a line an event.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    fn of(context: &Context) -> Story {
        let story = Story::default();
        context.add_listener(story.clone());
        story
    }

    fn add(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    /// Returns the lines since the last look. Tasks that stand beside each other are in alphabetical order: what runs
    /// at the same time has none.
    fn told(&self, context: &Context) -> Vec<String> {
        context.flush_listeners();
        let mut lines = std::mem::take(&mut *self.0.lock().unwrap());
        let is_task = |line: &String| line.starts_with("task");
        lines.chunk_by_mut(|a, b| is_task(a) && is_task(b)).for_each(<[String]>::sort);
        lines
    }
}

fn how(error: Option<&Error>) -> String {
    error.map_or("ok".to_owned(), |error| format!("{:?}: {}", error.kind(), error.message()))
}

fn task(task: &TaskInfo) -> String {
    format!("task {} of stage {}, attempt {}", task.partition, task.stage, task.attempt)
}

impl EngineListener for Story {
    fn on_application_start(&self, start: &ApplicationStart) {
        self.add(format!("application {} started at {}", start.app_name, start.time));
    }
    fn on_application_end(&self, time: Time) {
        self.add(format!("application ended at {time}"));
    }
    fn on_job_start(&self, job: &JobStart) {
        let stages: Vec<u64> = job.stages.iter().map(|stage| stage.id).collect();
        self.add(format!("job {} started: {} in stages {stages:?}", job.job.id, job.job.site.op()));
    }
    fn on_job_end(&self, job: &JobEnd) {
        self.add(format!("job {} ended: {}", job.job, how(job.result.as_ref().err())));
    }
    fn on_stage_submitted(&self, stage: &StageInfo) {
        let StageInfo { id, site, tasks, parents, .. } = stage;
        self.add(format!("stage {id} submitted: {} over {tasks}, reads {parents:?}", site.op()));
    }
    fn on_stage_completed(&self, stage: &StageInfo) {
        self.add(format!("stage {} completed: {}", stage.id, how(stage.failure.as_ref())));
    }
    fn on_task_start(&self, info: &TaskInfo) {
        self.add(format!("{} a started", task(info)));
    }
    fn on_task_end(&self, end: &TaskEnd) {
        self.add(format!("{} b ended: {}", task(&end.task), how(end.result.as_ref().err())));
    }
    fn on_unpersist_rdd(&self, rdd: RddId) {
        self.add(format!("rdd {rdd} unpersisted"));
    }
}

#[test]
fn cx20_a_job_with_a_shuffle_is_told_in_order() {
    for master in ["local[1]", "local[4]"] {
        let context = context(master);
        let story = Story::of(&context);
        let sums = context.parallelize(vec![(0, 1), (1, 2), (0, 3)], 2).reduce_by_key_partitioned(|a, b| a + b, 2);
        sums.collect().unwrap();
        let want = [
            "job 0 started: collect in stages [0, 1]",
            "stage 0 submitted: parallelize over 2, reads []",
            "task 0 of stage 0, attempt 0 a started",
            "task 0 of stage 0, attempt 0 b ended: ok",
            "task 1 of stage 0, attempt 0 a started",
            "task 1 of stage 0, attempt 0 b ended: ok",
            "stage 0 completed: ok",
            "stage 1 submitted: collect over 2, reads [0]",
            "task 0 of stage 1, attempt 0 a started",
            "task 0 of stage 1, attempt 0 b ended: ok",
            "task 1 of stage 1, attempt 0 a started",
            "task 1 of stage 1, attempt 0 b ended: ok",
            "stage 1 completed: ok",
            "job 0 ended: ok",
        ];
        assert_eq!(story.told(&context), want, "{master}");
        // What the shuffle has written is there, so there is no stage for it.
        sums.count().unwrap();
        let told = story.told(&context);
        assert_eq!((told.len(), &*told[0]), (8, "job 1 started: count in stages [2]"), "{master}: {told:?}");
        assert_eq!(told[1], "stage 2 submitted: count over 2, reads []");
    }
}

#[test]
fn cx20_a_task_that_is_tried_again_is_told_each_time_and_its_stage_fails_with_the_job() {
    let context = context("local[2,3]");
    let story = Story::of(&context);
    let broken = context.range(0, 1, 1, 1).map(|x| (x, x)).repartition(1).map(|(x, _)| -> i64 { panic!("no {x}") });
    broken.count().unwrap_err();
    let want = [
        "job 0 started: count in stages [0, 1]",
        "stage 0 submitted: map over 1, reads []",
        "task 0 of stage 0, attempt 0 a started",
        "task 0 of stage 0, attempt 0 b ended: ok",
        "stage 0 completed: ok",
        "stage 1 submitted: count over 1, reads [0]",
        "task 0 of stage 1, attempt 0 a started",
        "task 0 of stage 1, attempt 0 b ended: User: a closure of the program panicked: no 0",
        "task 0 of stage 1, attempt 1 a started",
        "task 0 of stage 1, attempt 1 b ended: User: a closure of the program panicked: no 0",
        "task 0 of stage 1, attempt 2 a started",
        "task 0 of stage 1, attempt 2 b ended: User: a closure of the program panicked: no 0",
        "stage 1 completed: User: a closure of the program panicked: no 0",
        "job 0 ended: User: a closure of the program panicked: no 0",
    ];
    assert_eq!(story.told(&context), want);
    assert_eq!(context.range(0, 3, 1, 2).count().unwrap(), 3, "and the context goes on");
}

#[test]
fn cx20_a_cancelled_job_ends_when_its_tasks_have_and_says_so() {
    let context = context("local[1]");
    let story = Story::of(&context);
    let ((arrive, arrived), (open, opened)) = (channel(), channel::<()>());
    let opened = Mutex::new(opened);
    let waits = context.range(0, 2, 1, 2).map(move |x| {
        arrive.send(()).unwrap();
        let _ = opened.lock().unwrap().recv();
        x
    });
    let counted = waits.count_async();
    arrived.recv().unwrap();
    while context.jobs().is_empty() {
        // Its first task may begin before it stands among the jobs that run.
        std::thread::yield_now();
    }
    counted.cancel();
    drop(open);
    counted.get().unwrap_err();
    let want = [
        "job 0 started: count_async in stages [0]",
        "stage 0 submitted: count_async over 2, reads []",
        "task 0 of stage 0, attempt 0 a started",
        "task 0 of stage 0, attempt 0 b ended: Stopped: the job was cancelled",
        "stage 0 completed: Stopped: the job was cancelled",
        "job 0 ended: Stopped: the job was cancelled",
    ];
    assert_eq!(story.told(&context), want, "the second task never began");
}

/// Watches over the order that is promised, whatever runs at the same time.
#[derive(Clone, Default)]
struct Order(Arc<Mutex<(BTreeMap<u64, Open>, Vec<String>)>>);

/// A job that has begun: its stages that have been submitted and completed, and its tasks that run.
#[derive(Default)]
struct Open {
    stages: BTreeMap<u64, bool>,
    tasks: BTreeMap<u64, u64>,
}

impl Order {
    /// Looks at the job; notes down if what must hold does not.
    fn look(&self, job: u64, what: &str, holds: impl FnOnce(&mut Open) -> bool) {
        let (open, wrong) = &mut *self.0.lock().unwrap();
        if !open.get_mut(&job).is_some_and(holds) {
            wrong.push(format!("job {job}: {what}"));
        }
    }
}

impl EngineListener for Order {
    fn on_job_start(&self, job: &JobStart) {
        self.0.lock().unwrap().0.insert(job.job.id, Open::default());
    }
    fn on_job_end(&self, job: &JobEnd) {
        self.look(job.job, "end", |open| open.tasks.is_empty() && open.stages.values().all(|completed| *completed));
        self.0.lock().unwrap().0.remove(&job.job);
    }
    fn on_stage_submitted(&self, stage: &StageInfo) {
        let ready = |open: &mut Open| {
            let ready = stage.parents.iter().all(|parent| open.stages.get(parent) == Some(&true));
            ready && stage.completion_time.is_none() && open.stages.insert(stage.id, false).is_none()
        };
        self.look(stage.job, "submission", ready);
    }
    fn on_stage_completed(&self, stage: &StageInfo) {
        let done = |open: &mut Open| {
            let running = open.tasks.values().any(|of| *of == stage.id);
            !running && stage.submission_time.is_some() && open.stages.insert(stage.id, true) == Some(false)
        };
        self.look(stage.job, "completion", done);
    }
    fn on_task_start(&self, task: &TaskInfo) {
        let begins = |open: &mut Open| {
            open.stages.get(&task.stage) == Some(&false) && open.tasks.insert(task.id, task.stage).is_none()
        };
        self.look(task.job, "begin of a task", begins);
    }
    fn on_task_end(&self, end: &TaskEnd) {
        self.look(end.task.job, "end of a task", |open| open.tasks.remove(&end.task.id) == Some(end.task.stage));
    }
}

#[test]
fn cx20_the_order_holds_for_many_jobs_at_once_also_where_some_fail_or_are_cancelled() {
    let context = context("local[4,2]");
    let order = Order::default();
    context.add_listener(order.clone());
    let futures: Vec<_> = (0..24)
        .map(|n| {
            let (left, right) = (context.range(0, 300, 1, 5), context.range(0, 300, 1, 3));
            let left = left.map(move |x| {
                assert!(n % 3 != 1 || x != 250, "job {n} fails");
                (x % 10, x)
            });
            let joined = left.reduce_by_key(|a, b| a + b).join(&right.map(|x| (x % 10, x)).repartition(4));
            let future = joined.count_async();
            if n % 3 == 2 {
                future.cancel();
            }
            (n, future)
        })
        .collect();
    for (n, future) in futures {
        match (n % 3, future.get()) {
            (0, result) => assert_eq!(result.unwrap(), 300),
            (1, result) => drop(result.unwrap_err()),
            // It may have ended before it was cancelled.
            _ => {}
        }
    }
    context.flush_listeners();
    let (open, wrong) = &*order.0.lock().unwrap();
    assert!(open.is_empty() && wrong.is_empty(), "{wrong:?}");
}

#[test]
fn cx20_jobs_stages_and_tasks_are_told_with_what_is_known_of_them() {
    type Told = (Vec<JobStart>, Vec<StageInfo>, Vec<TaskEnd>, Vec<JobEnd>);
    #[derive(Clone, Default)]
    struct All(Arc<Mutex<Told>>);
    impl EngineListener for All {
        fn on_job_start(&self, job: &JobStart) {
            self.0.lock().unwrap().0.push(job.clone());
        }
        fn on_stage_completed(&self, stage: &StageInfo) {
            self.0.lock().unwrap().1.push(stage.clone());
        }
        fn on_task_end(&self, task: &TaskEnd) {
            self.0.lock().unwrap().2.push(task.clone());
        }
        fn on_job_end(&self, job: &JobEnd) {
            self.0.lock().unwrap().3.push(job.clone());
        }
    }
    let clock = ManualClock::new(Time::from_millis(5000));
    let conf = EngineConf::new("local[2]", "test").unwrap();
    let context = Context::builder(conf).with_clock(Arc::new(clock.clone())).build().unwrap();
    let all = All::default();
    context.add_listener(all.clone());
    context.set_job_group("mill", "grinds");
    context.set_local_property("spark.scheduler.pool", Some("fast"));
    context.add_job_tag("slow");
    let source = context.parallelize((0..1000u64).collect(), 4);
    let (pairs, line) = (source.map(|x| (x % 3, x)), line!());
    let sums = pairs.reduce_by_key_partitioned(|a, b| a + b, 2);
    sums.collect().unwrap();
    clock.advance_to(Time::from_millis(7000));
    context.range(0, 64, 1, 64).filter(|x| *x == 63).take(1).unwrap();
    context.flush_listeners();
    let (jobs, stages, tasks, ends) = &*all.0.lock().unwrap();

    let job = &jobs[0];
    assert_eq!(
        (job.job.id, job.job.group.as_deref(), job.job.tags.as_slice()),
        (0, Some("mill"), &["slow".into()][..])
    );
    assert_eq!(job.job.description.as_deref(), Some("grinds"));
    assert_eq!(job.properties.get("spark.scheduler.pool").map(String::as_str), Some("fast"));
    assert_eq!((job.time, ends[0].time, ends[0].job), (Time::from_millis(5000), Time::from_millis(5000), 0));
    assert_eq!(job.stages.iter().map(|stage| stage.submission_time).collect::<Vec<_>>(), [None, None]);

    let map = &stages[0];
    assert!(matches!(map.kind, TaskKind::ShuffleMap(_)) && stages[1].kind == TaskKind::Result);
    assert!(
        map.name().starts_with("map at ") && map.name().ends_with(&format!("listeners.rs:{line}")),
        "{}",
        map.name()
    );
    let rdds: Vec<_> = map.rdds.iter().map(|rdd| (rdd.id, rdd.site.op(), rdd.partitions)).collect();
    assert_eq!(rdds, [(pairs.id(), "map", 4), (source.id(), "parallelize", 4)]);
    assert_eq!(map.rdds[0].parents, [source.id()]);
    assert_eq!(stages[1].rdds.iter().map(|rdd| rdd.id).collect::<Vec<_>>(), [sums.id()]);
    assert_eq!((map.submission_time, map.completion_time), (Some(job.time), Some(job.time)));
    assert_eq!(
        (map.metrics.records_read, map.metrics.shuffle_records_written),
        (1000, 12),
        "sums are made in the tasks"
    );
    assert!(map.metrics.shuffle_bytes_written > 0);
    let TaskMetrics { records_read, shuffle_records_read, shuffle_bytes_read, .. } = stages[1].metrics;
    assert_eq!((records_read, shuffle_records_read), (0, 12));
    assert_eq!(shuffle_bytes_read, map.metrics.shuffle_bytes_written);

    // Who wants a few partitions has few tasks, each with its place among them.
    let last = jobs.last().unwrap();
    let mut places: Vec<_> = tasks
        .iter()
        .filter(|end| end.task.job == last.job.id)
        .map(|end| (end.task.index, end.task.partition))
        .collect();
    places.sort_unstable();
    assert_eq!(places.len(), last.stages[0].tasks);
    let first = 64 - places.len();
    assert_eq!(places, (0..places.len()).map(|i| (i, first + i)).collect::<Vec<_>>());
    assert_eq!((tasks[0].task.launch_time, last.time), (Time::from_millis(5000), Time::from_millis(7000)));
    assert!(tasks.iter().all(|end| end.task.duration() == Some(secs(0)) && !end.was_killed()));
}

#[test]
fn cx20_what_goes_to_disk_is_counted_for_the_task_that_had_no_memory() {
    #[derive(Clone, Default)]
    struct Sum(Arc<Mutex<TaskMetrics>>);
    impl EngineListener for Sum {
        fn on_task_end(&self, task: &TaskEnd) {
            self.0.lock().unwrap().merge(&task.metrics);
        }
    }
    for (memory, spills) in [(64 << 10, true), (1 << 30, false)] {
        let mut conf = EngineConf::new("local[2]", "test").unwrap();
        conf.memory = Some(memory);
        let context = Context::builder(conf).build().unwrap();
        let sum = Sum::default();
        context.add_listener(sum.clone());
        let sums = context.range(0, 40_000, 1, 4).map(|x| (x % 20_000, x)).reduce_by_key(|a, b| a + b);
        assert_eq!(sums.count().unwrap(), 20_000);
        context.flush_listeners();
        let metrics = *sum.0.lock().unwrap();
        assert_eq!((metrics.records_read, metrics.disk_bytes_spilled > 0), (40_000, spills), "{metrics:?}");
        assert_eq!(metrics.shuffle_records_read, metrics.shuffle_records_written);
    }
}

#[test]
fn cx20_the_application_starts_and_ends_once_and_nothing_is_told_after() {
    for stops in [true, false] {
        let story = Story::default();
        let clock = Arc::new(ManualClock::new(Time::from_millis(1)));
        let conf = EngineConf::new("local[2]", "mill").unwrap();
        let context = Context::builder(conf).with_clock(clock).with_listener(story.clone()).build().unwrap();
        let kept = context.range(0, 3, 1, 1).cache();
        kept.count().unwrap();
        let id = kept.id();
        kept.unpersist();
        drop(kept);
        let mut told = story.told(&context);
        assert_eq!(told.remove(0), "application mill started at 1 ms");
        assert_eq!(told.pop(), Some(format!("rdd {id} unpersisted")));
        assert_eq!(told.len(), 6, "{told:?}");
        if stops {
            context.stop();
            context.stop();
            context.range(0, 3, 1, 1).count().unwrap_err();
            assert_eq!(story.told(&context), ["application ended at 1 ms"]);
            context.add_listener(story.clone());
        }
        drop(context);
        assert_eq!(story.0.lock().unwrap().len(), usize::from(!stops));
        assert_eq!(Arc::strong_count(&story.0), 1, "listeners are let go");
    }
}

#[test]
fn cx20_a_listener_that_panics_is_left_out_and_jobs_go_on() {
    struct Panics;
    impl EngineListener for Panics {
        fn on_stage_submitted(&self, _: &StageInfo) {
            panic!("this listener is broken")
        }
    }
    let context = context("local[2]");
    context.add_listener(Panics);
    let story = Story::of(&context);
    assert_eq!(context.range(0, 3, 1, 1).count().unwrap(), 3);
    assert_eq!(story.told(&context).len(), 6);
}

#[test]
fn cx20_a_listener_may_ask_the_context_and_stop_it() {
    struct Stops(Context, Mutex<Option<std::sync::mpsc::Sender<usize>>>);
    impl EngineListener for Stops {
        fn on_job_end(&self, _: &JobEnd) {
            self.0.flush_listeners();
            self.0.stop();
            if let Some(tell) = self.1.lock().unwrap().take() {
                tell.send(self.0.persistent_rdds().len()).unwrap();
            }
        }
    }
    let context = context("local[2]");
    let (tell, told) = channel();
    context.add_listener(Stops(context.clone(), Mutex::new(Some(tell))));
    assert_eq!(context.range(0, 3, 1, 1).count().unwrap(), 3);
    assert_eq!(told.recv().unwrap(), 0);
    assert!(context.is_stopped());
}
