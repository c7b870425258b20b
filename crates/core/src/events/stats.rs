//! A listener that logs how the tasks of each stage are spread.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::{EngineListener, StageInfo, TaskEnd};
use crate::distribution::Distribution;
use crate::threads::lock;

/// Logs, when a stage completes, how its tasks are spread over time and bytes. The level is `INFO`.
///
/// # Example
///
/// ```
/// use millstream_core::{Context, StageStatsListener};
///
/// let context = Context::new("local[2]", "profiled")?;
/// context.add_listener(StageStatsListener::new());
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `org.apache.spark.scheduler.StatsReportListener`, CX20. Stages that run at the same time have a report each, where Spark mixes
/// their tasks; fetching takes no time to tell of in one process.
#[derive(Debug, Default)]
pub struct StageStatsListener {
    /// The tasks that have ended, by stage.
    ended: Mutex<BTreeMap<u64, Vec<TaskEnd>>>,
}

impl StageStatsListener {
    /// Makes a listener.
    pub fn new() -> StageStatsListener {
        StageStatsListener::default()
    }
}

impl EngineListener for StageStatsListener {
    fn on_task_end(&self, task: &TaskEnd) {
        lock(&self.ended).entry(task.task.stage).or_default().push(task.clone());
    }

    fn on_stage_completed(&self, stage: &StageInfo) {
        let tasks = lock(&self.ended).remove(&stage.id).unwrap_or_default();
        report(stage, &tasks).iter().for_each(|line| tracing::info!("{line}"));
    }
}

/// Returns the lines of the report on a stage.
fn report(stage: &StageInfo, tasks: &[TaskEnd]) -> Vec<String> {
    let (status, why) = match &stage.failure {
        None => ("succeeded", String::new()),
        Some(error) => ("failed", format!("({error})")),
    };
    let took = stage.submission_time.zip(stage.completion_time).map(|(from, to)| (to - from).as_millis());
    let mut lines = vec![format!(
        "Finished stage: Stage({}, {}); Name: '{}'; Status: {status}{why}; numTasks: {}; Took: {} msec",
        stage.id,
        stage.attempt,
        stage.name(),
        stage.tasks,
        took.map_or("-".to_owned(), |took| took.to_string()),
    )];
    lines.extend(Distribution::report_times("task runtime:", tasks.iter().map(|task| task.metrics.run_time)));
    let bytes = |heading, of: fn(&TaskEnd) -> u64| Distribution::report_bytes(heading, tasks.iter().map(of));
    lines.extend(bytes("shuffle bytes written:", |task| task.metrics.shuffle_bytes_written));
    lines.extend(bytes("shuffle bytes read:", |task| task.metrics.shuffle_bytes_read));
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::{TaskInfo, TaskKind, TaskMetrics};
    use super::*;
    use crate::error::CallSite;
    use crate::time::Time;

    #[test]
    fn a_stage_is_reported_with_the_spread_of_its_tasks() {
        let at = Time::from_millis;
        let site = CallSite::here("count");
        let mut stage = StageInfo {
            id: 3,
            attempt: 0,
            job: 1,
            site,
            kind: TaskKind::Result,
            tasks: 1,
            rdds: Vec::new(),
            parents: Vec::new(),
            properties: Arc::default(),
            submission_time: Some(at(1000)),
            completion_time: Some(at(1250)),
            failure: None,
            metrics: TaskMetrics::default(),
        };
        let task = TaskInfo {
            id: 8,
            job: 1,
            stage: 3,
            kind: TaskKind::Result,
            index: 0,
            partition: 0,
            attempt: 0,
            executor: "driver".into(),
            host: "localhost".into(),
            launch_time: at(1000),
            finish_time: Some(at(1250)),
        };
        let metrics =
            TaskMetrics { run_time: Duration::from_millis(250), shuffle_bytes_read: 4096, ..TaskMetrics::default() };
        let lines = report(&stage, &[TaskEnd { task, result: Ok(()), metrics }]);
        let first =
            format!("Finished stage: Stage(3, 0); Name: '{site}'; Status: succeeded; numTasks: 1; Took: 250 msec");
        assert_eq!((lines.len(), &lines[0]), (10, &first));
        assert_eq!(lines[1], "task runtime:(count: 1, mean: 250, stdev: 0, max: 250, min: 250)");
        assert_eq!(lines[3], format!("{}\t250.0 ms", "\t250.0 ms".repeat(8)));
        assert_eq!(lines[9], format!("{}\t4.0 KiB", "\t4.0 KiB".repeat(8)));
        stage.failure = Some("no more".into());
        assert!(report(&stage, &[])[0].contains("Status: failed(no more); numTasks"));
        assert_eq!(report(&stage, &[]).len(), 1);
    }
}
