//! Settings of programs that run on a cluster.

use std::time::Duration;

use super::{duration, size};
use crate::error::{Error, ErrorKind, Result};

/// How patient a driver is with its executors, and what it takes from them.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use millstream_core::conf::EngineConf;
///
/// let mut conf = EngineConf::new("local-cluster[2,1]", "sums")?;
/// conf.set("spark.network.timeout", "10s")?;
/// assert_eq!(conf.cluster.executor_silence, Duration::from_secs(10));
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConf {
    /// How long an executor may give no sign of life before it is given up, its tasks run elsewhere, and nothing that it still
    /// does is seen; 4 seconds by default. One whose connection breaks is given up at once. Spark's `spark.network.timeout`.
    pub executor_silence: Duration,
    /// How long a driver waits for its first executors, and a job for any; a minute by default. Spark's
    /// `spark.scheduler.maxRegisteredResourcesWaitingTime`.
    pub executors_wait: Duration,
    /// How long a task waits for a slot of the executor that keeps what it reads, before it runs elsewhere and has that sent; 3
    /// seconds by default. What cannot be sent, as states, is waited for as long as its executor lives. Spark's
    /// `spark.locality.wait`.
    pub locality_wait: Duration,
    /// The most bytes that a job's results may have, before they are read; a job with more fails. 1 GiB by default. Spark's
    /// `spark.driver.maxResultSize`.
    pub max_result_size: u64,
}

impl Default for ClusterConf {
    fn default() -> ClusterConf {
        ClusterConf {
            executor_silence: Duration::from_secs(4),
            executors_wait: Duration::from_secs(60),
            locality_wait: Duration::from_secs(3),
            max_result_size: 1 << 30,
        }
    }
}

impl ClusterConf {
    /// Sets one setting by Spark's key. Returns whether the key is one of these.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<bool> {
        match key {
            // Spark counts it in seconds where no unit is said.
            "spark.network.timeout" if value.trim().bytes().all(|b| b.is_ascii_digit()) => {
                self.executor_silence = long_enough(key, value, duration(key, &format!("{}s", value.trim()))?)?;
            }
            "spark.network.timeout" => self.executor_silence = long_enough(key, value, duration(key, value)?)?,
            "spark.scheduler.maxRegisteredResourcesWaitingTime" => self.executors_wait = duration(key, value)?,
            "spark.locality.wait" => self.locality_wait = duration(key, value)?,
            "spark.driver.maxResultSize" => self.max_result_size = size(key, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Refuses what a machine that has other work would not keep to.
fn long_enough(key: &str, value: &str, silence: Duration) -> Result<Duration> {
    if silence < Duration::from_millis(500) {
        let text = format!("setting {key} must be at least 500ms, or executors are given up that only wait: `{value}`");
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(silence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_settings_are_set_by_spark_keys() {
        let mut conf = ClusterConf::default();
        for (key, value) in [
            ("spark.network.timeout", "7"),
            ("spark.scheduler.maxRegisteredResourcesWaitingTime", "1500"),
            ("spark.locality.wait", "0"),
            ("spark.driver.maxResultSize", "2m"),
        ] {
            assert!(conf.set(key, value).unwrap(), "{key}");
        }
        let (silence, wait) = (Duration::from_secs(7), Duration::from_millis(1500));
        let want = ClusterConf {
            executor_silence: silence,
            executors_wait: wait,
            locality_wait: Duration::ZERO,
            max_result_size: 2 << 20,
        };
        assert_eq!(conf, want);
        assert!(conf.set("spark.network.timeout", "800ms").unwrap());
        assert_eq!(conf.executor_silence, Duration::from_millis(800));
        assert!(!conf.set("spark.master", "local").unwrap());
    }

    #[test]
    fn what_cannot_work_is_refused_by_its_key() {
        let mut conf = ClusterConf::default();
        for (key, value) in
            [("spark.network.timeout", "0"), ("spark.network.timeout", "soon"), ("spark.driver.maxResultSize", "0")]
        {
            assert!(conf.set(key, value).unwrap_err().to_string().contains(key), "{key} {value}");
        }
    }
}
