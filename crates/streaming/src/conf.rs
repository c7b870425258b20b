//! Settings of streaming: plain data with documented defaults, and Spark's keys as aliases.

use std::time::Duration;

use millstream_core::conf::{EngineConf, duration, number};
use millstream_core::{Error, ErrorKind, Result, millis, secs};

use crate::backpressure::{PidConf, PidRateEstimator};
use crate::wal::LogConf;

/// What to do when a batch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The batch's other outputs finish; then the context stops, and whoever awaits it gets the error.
    Stop,
    /// The error is kept for whoever awaits the context, and later batches go on, as Spark's do (S-117).
    Continue,
}

/// What becomes of the batches that were due while the program did not run, when it goes on from a checkpoint. Batches that had
/// begun run again in any case, with what they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedBatches {
    /// Each runs, one after the other, as Spark's do (R-19): the first is given all that came.
    Replay,
    /// One batch, at the last time that was missed, takes the place of all.
    Merge,
    /// None runs: what came is given to the next batch that is due. Listeners are told how many were left out, and the checkpoint has
    /// it noted, for `checkpoint inspect`.
    Skip,
}

/// What becomes of items that a receiver stores while as many wait as may. Listeners are told of it, and how many they were
/// ([`Pressure`](crate::Pressure)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The store waits until a batch that holds what waited begins to run; and with it, over a socket, the sender.
    Block,
    /// They are dropped, and counted. What a block is stored with is not called then: a sender who waits for a word gets none.
    ///
    /// What a position covers waits instead, as with `Block`: a block that is stored with one
    /// ([`store_block_at`](crate::Store::store_block_at)), and whatever a receiver stores behind such a block. The next position would
    /// tell its source that all of it is here.
    Shed,
    /// They are kept on disk, whatever the receiver's storage level is.
    Spill,
}

/// Settings of streaming.
///
/// # Example
///
/// ```
/// use millstream_core::millis;
/// use millstream_streaming::StreamingConf;
///
/// let conf = StreamingConf { block_interval: millis(50), ..StreamingConf::default() };
/// assert_eq!(conf.concurrent_jobs, 1);
/// ```
///
/// # Spark
///
/// The keys `spark.streaming.*`; the ids below are those of the parity table.
#[derive(Clone, Debug)]
pub struct StreamingConf {
    /// How often a receiver's items become a block. 200 ms. Spark's `spark.streaming.blockInterval`, K-9.
    pub block_interval: Duration,
    /// Records a second that a receiver may store; no limit by default. Blocks that are stored whole count too, unless the program
    /// is to be [compatible](Self::spark_compatible). Spark's `spark.streaming.receiver.maxRate`, K-8.
    pub receiver_max_rate: Option<u64>,
    /// Whether the rate at which receivers store, and sources that [keep to a limit](crate::InputSource::keeps_to_limit) give,
    /// follows the rate at which batches are processed. On, unlike Spark's `spark.streaming.backpressure.enabled`, K-1.
    pub backpressure: bool,
    /// Records a second before the first estimate; no limit by default but [`receiver_max_rate`](Self::receiver_max_rate). Spark's
    /// `spark.streaming.backpressure.initialRate`, K-2.
    pub backpressure_initial_rate: Option<u64>,
    /// How rates are estimated. Spark's `spark.streaming.backpressure.pid.*`, K-4 to K-7.
    pub pid: PidConf,
    /// How many items may wait in a receiver until a batch that holds them runs; as many as memory allows by default.
    pub receiver_waiting_items: Option<u64>,
    /// How many bytes of memory they may take; by default a quarter of the engine's
    /// [memory](millstream_core::conf::EngineConf::memory). Sizes are estimates.
    pub receiver_waiting_bytes: Option<u64>,
    /// What becomes of items that come when as many wait. They are not stored until there is room, unless told otherwise.
    pub when_full: WhenFull,
    /// How long a receiver waits before it starts again. 2 s. Spark's `spark.streaming.receiverRestartDelay`, K-23.
    pub receiver_restart_delay: Duration,
    /// Whether what receivers store is written to a log before it is acknowledged. By default it is if the program is durable;
    /// `Some(true)` without a checkpoint directory is refused by `start()`. Spark's
    /// `spark.streaming.receiver.writeAheadLog.enable`, K-11.
    pub receiver_log_enable: Option<bool>,
    /// How that log is kept. A new segment is begun after so many blocks as there are block intervals in its rolling interval.
    /// Spark's `spark.streaming.receiver.writeAheadLog.*`, K-13, K-14, K-15.
    pub receiver_log: LogConf,
    /// How the log of the checkpoint is kept: how often a write is tried, and whether each is a segment of its own. When its segments
    /// end follows from [`checkpoint_after`](Self::checkpoint_after). Spark's `spark.streaming.driver.writeAheadLog.*`, K-19, K-20.
    pub driver_log: LogConf,
    /// The longest record, in bytes, that a receiver of lines or blocks takes. 256 MiB.
    pub max_record: usize,
    /// Whether Rdds that are forgotten are also unpersisted, and received blocks dropped. Spark's
    /// `spark.streaming.unpersist`, K-24.
    pub unpersist: bool,
    /// Whether a signal stops gracefully. Spark's `spark.streaming.stopGracefullyOnShutdown`, K-25.
    pub stop_gracefully_on_shutdown: bool,
    /// How long a graceful stop waits; ten batch intervals by default, and at least ten seconds. Spark's
    /// `spark.streaming.gracefulStopTimeout`, K-26.
    pub graceful_stop_timeout: Option<Duration>,
    /// How long a stop waits, beyond that, for what cannot be interrupted: a closure of the program, a commit of a sink, the disk.
    /// 30 s.
    pub stop_patience: Duration,
    /// Whether `stop()` stops the engine's context too. Spark's `spark.streaming.stopSparkContextByDefault`, K-27.
    pub stop_context_by_default: bool,
    /// How many output operations may run at once. 1. Spark's `spark.streaming.concurrentJobs`, K-30.
    pub concurrent_jobs: usize,
    /// How far back a file's time may lie to be taken. 60 s. Spark's `spark.streaming.fileStream.minRememberDuration`,
    /// K-34.
    pub file_min_remember: Duration,
    /// What to do when a batch fails. Stop, unless told otherwise.
    pub on_failure: OnFailure,
    /// What becomes of batches that were due while the program did not run.
    pub missed_batches: MissedBatches,
    /// Whether only one such context may be active in the process at a time, as in Spark (S-136).
    pub exclusive: bool,
    /// Whether rules of Spark hold that this engine does better by default: time-outs of `map_with_state` are noticed only
    /// when the state is saved (S-55), and a batch that fails does not stop the context (S-117).
    pub spark_compatible: bool,
    /// Where checkpoints are. Spark's `spark.streaming.checkpoint.directory`, K-33.
    pub checkpoint_dir: Option<std::path::PathBuf>,
    /// How many batches that have ended can be [replayed](crate::commands), each alone, with what it was given. None, unless told
    /// otherwise: what they were given, received blocks among it, and the states that they were made from stay that much longer,
    /// in memory too, and what each output is given is made once more, for its [`digest`](crate::DStream::digested) or to be
    /// counted, unless it is kept ([`cache`](crate::DStream::cache)).
    pub retain_batches: usize,
    /// Whether a batch of an earlier run that is made again fails if an input tells that what it was given is not the same any
    /// more: a file that was changed. It does, unless told otherwise.
    pub check_inputs_again: bool,
    /// After how many records of its log a checkpoint writes a file that takes their place; a batch is two. 256.
    pub checkpoint_after: u64,
}

impl Default for StreamingConf {
    fn default() -> StreamingConf {
        StreamingConf {
            block_interval: millis(200),
            receiver_max_rate: None,
            backpressure: true,
            backpressure_initial_rate: None,
            pid: PidConf::default(),
            receiver_waiting_items: None,
            receiver_waiting_bytes: None,
            when_full: WhenFull::Block,
            receiver_restart_delay: secs(2),
            receiver_log_enable: None,
            receiver_log: LogConf::default(),
            driver_log: LogConf::default(),
            max_record: 256 << 20,
            unpersist: true,
            stop_gracefully_on_shutdown: false,
            graceful_stop_timeout: None,
            stop_patience: secs(30),
            stop_context_by_default: true,
            concurrent_jobs: 1,
            file_min_remember: secs(60),
            on_failure: OnFailure::Stop,
            missed_batches: MissedBatches::Merge,
            exclusive: true,
            spark_compatible: false,
            checkpoint_dir: None,
            retain_batches: 0,
            check_inputs_again: true,
            checkpoint_after: 256,
        }
    }
}

/// All settings of a program: the engine's and streaming's.
///
/// # Example
///
/// ```
/// use millstream_streaming::Conf;
///
/// let mut conf = Conf::new("local[2]", "word count")?;
/// conf.set("spark.streaming.blockInterval", "50ms")?;
/// conf.set("spark.default.parallelism", "4")?;
/// assert!(conf.set("spark.streaming.ui.retainedBatches", "10").is_err());
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `SparkConf`, CX21.
#[derive(Clone, Debug)]
pub struct Conf {
    /// The engine's settings.
    pub engine: EngineConf,
    /// The settings of streaming.
    pub streaming: StreamingConf,
}

impl Conf {
    /// Returns the default settings for `master`, with the program called `app_name`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: `master` is not a master.
    pub fn new(master: &str, app_name: impl Into<String>) -> Result<Conf> {
        Ok(Conf { engine: EngineConf::new(master, app_name)?, streaming: StreamingConf::default() })
    }

    /// Restores Spark's rules where ours are better by default: see [`StreamingConf::spark_compatible`].
    #[must_use]
    pub fn spark_compatible(mut self) -> Conf {
        self.streaming.spark_compatible = true;
        self.streaming.backpressure = false;
        self.streaming.on_failure = OnFailure::Continue;
        self.streaming.missed_batches = MissedBatches::Replay;
        self.streaming.receiver_log_enable = Some(false);
        self
    }

    /// Sets one setting by Spark's key.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the value does not fit, the key belongs to something that this build does not have, or
    /// there is no such key.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if self.engine.set(key, value)? || self.streaming.set(key, value)? {
            return Ok(());
        }
        let absent = ABSENT.iter().find(|(prefix, _)| key.starts_with(prefix));
        Err(Error::new(
            ErrorKind::Config,
            match absent {
                Some((_, what)) => format!("setting {key} belongs to {what}, which this build does not have"),
                None => format!("there is no setting {key}"),
            },
        ))
    }
}

/// Keys of Spark whose feature is absent, with the feature's name.
const ABSENT: &[(&str, &str)] = &[
    ("spark.streaming.blockQueueSize", "a queue of blocks; a receiver keeps each block itself"),
    ("spark.streaming.receiver.writeAheadLog.class", "loading classes by name"),
    ("spark.streaming.driver.writeAheadLog.class", "loading classes by name"),
    (
        "spark.streaming.driver.writeAheadLog.rollingIntervalSecs",
        "a driver's log that ends by time; `checkpoint_after` says when",
    ),
    (
        "spark.streaming.driver.writeAheadLog.batchingTimeout",
        "a log that gives up waiting; the disk's failure ends the program",
    ),
    ("spark.streaming.receiver.blockStoreTimeout", "a log that gives up waiting; who stores is told what became of it"),
    ("spark.streaming.checkpoint.", "checkpoints"),
    ("spark.checkpoint.", "checkpoints"),
    ("spark.streaming.ui.", "the web user interface"),
    ("spark.ui.", "the web user interface"),
    ("spark.streaming.sessionByKey.", "the layers of maps that Spark keeps a state in"),
    ("spark.streaming.dynamicAllocation.", "the cluster"),
    ("spark.streaming.kafka.", "Kafka"),
    ("spark.streaming.kinesis.", "Kinesis"),
    ("spark.streaming.extraListeners", "loading classes by name; use add_streaming_listener"),
    ("spark.streaming.clock", "loading classes by name; use the builder's with_clock"),
    ("spark.streaming.manualClock.", "loading classes by name; use the builder's with_clock"),
    ("spark.executor.", "the cluster"),
    ("spark.sql.", "SQL"),
];

impl StreamingConf {
    /// Refuses values that cannot work, however they were set.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = [
            ("block_interval", self.block_interval.is_zero()),
            ("receiver_max_rate", self.receiver_max_rate == Some(0)),
            ("backpressure_initial_rate", self.backpressure_initial_rate == Some(0)),
            ("receiver_waiting_items", self.receiver_waiting_items == Some(0)),
            ("receiver_waiting_bytes", self.receiver_waiting_bytes == Some(0)),
            ("max_record", self.max_record == 0),
            ("receiver_log.max_failures", self.receiver_log.max_failures == 0),
            ("receiver_log.rolling_interval", self.receiver_log.rolling_interval.is_zero()),
            ("concurrent_jobs", self.concurrent_jobs == 0),
            ("checkpoint_after", self.checkpoint_after == 0),
        ];
        match refused.iter().find(|(_, is_refused)| *is_refused) {
            Some((name, _)) => {
                Err(Error::new(ErrorKind::Config, format!("setting {name} must be more than nothing: `0`")))
            }
            None => PidRateEstimator::new(secs(1), self.pid).map(drop),
        }
    }

    /// Sets one setting by Spark's key. Returns whether the key is one of streaming's.
    fn set(&mut self, key: &str, value: &str) -> Result<bool> {
        let Some(name) = key.strip_prefix("spark.streaming.") else { return Ok(false) };
        match name {
            "blockInterval" => self.block_interval = positive(key, value)?,
            "receiver.maxRate" => self.receiver_max_rate = Some(number(key, value, 1)? as u64),
            "backpressure.enabled" => self.backpressure = flag(key, value)?,
            "backpressure.initialRate" => self.backpressure_initial_rate = Some(number(key, value, 1)? as u64),
            "backpressure.rateEstimator" if value.trim() == "pid" => {}
            "backpressure.rateEstimator" => {
                let text = format!("setting {key} must be `pid`, the one estimator there is: `{value}`");
                return Err(Error::new(ErrorKind::Config, text));
            }
            "backpressure.pid.proportional" => self.set_pid(key, value, |pid| &mut pid.proportional)?,
            "backpressure.pid.integral" => self.set_pid(key, value, |pid| &mut pid.integral)?,
            "backpressure.pid.derived" => self.set_pid(key, value, |pid| &mut pid.derived)?,
            "backpressure.pid.minRate" => self.set_pid(key, value, |pid| &mut pid.min_rate)?,
            "receiver.writeAheadLog.enable" => self.receiver_log_enable = Some(flag(key, value)?),
            "receiver.writeAheadLog.rollingIntervalSecs" => {
                self.receiver_log.rolling_interval = secs(number(key, value, 1)? as u64);
            }
            "receiver.writeAheadLog.maxFailures" => {
                let most = number(key, value, 1)?;
                self.receiver_log.max_failures = u32::try_from(most).unwrap_or(u32::MAX);
            }
            "receiver.writeAheadLog.closeFileAfterWrite" => {
                self.receiver_log.close_file_after_write = flag(key, value)?;
            }
            "driver.writeAheadLog.maxFailures" => {
                let most = number(key, value, 1)?;
                self.driver_log.max_failures = u32::try_from(most).unwrap_or(u32::MAX);
            }
            "driver.writeAheadLog.closeFileAfterWrite" => self.driver_log.close_file_after_write = flag(key, value)?,
            "driver.writeAheadLog.allowBatching" => {
                if !flag(key, value)? {
                    let text =
                        format!("{key}: records that wait are always written together, which costs nobody anything");
                    return Err(Error::new(ErrorKind::Config, text));
                }
            }
            "receiverRestartDelay" => self.receiver_restart_delay = duration(key, value)?,
            "unpersist" => self.unpersist = flag(key, value)?,
            "stopGracefullyOnShutdown" => self.stop_gracefully_on_shutdown = flag(key, value)?,
            "gracefulStopTimeout" => self.graceful_stop_timeout = Some(duration(key, value)?),
            "stopSparkContextByDefault" => self.stop_context_by_default = flag(key, value)?,
            "checkpoint.directory" => self.checkpoint_dir = Some(value.into()),
            "concurrentJobs" => self.concurrent_jobs = number(key, value, 1)?,
            "fileStream.minRememberDuration" | "minRememberDuration" => self.file_min_remember = duration(key, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Sets a parameter of the estimator, if it can work.
    fn set_pid(&mut self, key: &str, value: &str, of: impl FnOnce(&mut PidConf) -> &mut f64) -> Result<()> {
        let number = value.trim().parse::<f64>();
        let number =
            number.map_err(|_| Error::new(ErrorKind::Config, format!("setting {key} must be a number: `{value}`")))?;
        let mut pid = self.pid;
        *of(&mut pid) = number;
        PidRateEstimator::new(secs(1), pid)?;
        self.pid = pid;
        Ok(())
    }
}

fn flag(key: &str, value: &str) -> Result<bool> {
    value
        .trim()
        .parse()
        .map_err(|_| Error::new(ErrorKind::Config, format!("setting {key} must be `true` or `false`: `{value}`")))
}

fn positive(key: &str, value: &str) -> Result<Duration> {
    let length = duration(key, value)?;
    if length.is_zero() {
        return Err(Error::new(ErrorKind::Config, format!("setting {key} must be more than nothing: `{value}`")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_spark_writes_them() {
        for (text, want) in
            [("200ms", 200), ("200", 200), ("2s", 2_000), ("1min", 60_000), ("1m", 60_000), (" 1 h ", 3_600_000)]
        {
            assert_eq!(duration("k", text).unwrap(), millis(want), "{text}");
        }
        for text in ["", "ms", "2 days", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(duration("k", text).unwrap_err().to_string().contains("setting k"), "{text}");
        }
    }

    #[test]
    fn spark_keys_set_and_unknown_or_absent_ones_are_refused_by_name() {
        let mut conf = Conf::new("local[2]", "t").unwrap();
        conf.set("spark.streaming.concurrentJobs", "3").unwrap();
        conf.set("spark.streaming.gracefulStopTimeout", "5s").unwrap();
        conf.set("spark.task.maxFailures", "4").unwrap();
        assert_eq!(conf.streaming.concurrent_jobs, 3);
        assert_eq!(conf.streaming.graceful_stop_timeout, Some(secs(5)));
        assert_eq!(conf.engine.master.attempts(), 4);
        conf.set("spark.streaming.receiver.writeAheadLog.enable", "true").unwrap();
        conf.set("spark.streaming.receiver.writeAheadLog.rollingIntervalSecs", "10").unwrap();
        conf.set("spark.streaming.receiver.writeAheadLog.maxFailures", "5").unwrap();
        conf.set("spark.streaming.receiver.writeAheadLog.closeFileAfterWrite", "true").unwrap();
        conf.set("spark.streaming.driver.writeAheadLog.maxFailures", "7").unwrap();
        conf.set("spark.streaming.driver.writeAheadLog.closeFileAfterWrite", "true").unwrap();
        conf.set("spark.streaming.driver.writeAheadLog.allowBatching", "true").unwrap();
        let alone = conf.set("spark.streaming.driver.writeAheadLog.allowBatching", "false").unwrap_err();
        assert!(alone.to_string().contains("allowBatching"), "{alone}");
        assert_eq!(
            (conf.streaming.driver_log.max_failures, conf.streaming.driver_log.close_file_after_write),
            (7, true)
        );
        assert_eq!(conf.streaming.receiver_log_enable, Some(true));
        let log =
            LogConf { rolling_interval: secs(10), max_failures: 5, close_file_after_write: true, ..LogConf::default() };
        assert_eq!(conf.streaming.receiver_log, log);
        let absent = conf.set("spark.streaming.blockQueueSize", "10").unwrap_err().to_string();
        assert!(absent.contains("spark.streaming.blockQueueSize") && absent.contains("queue of blocks"), "{absent}");
        let unknown = conf.set("spark.streaming.blokInterval", "1").unwrap_err().to_string();
        assert!(unknown.contains("there is no setting spark.streaming.blokInterval"), "{unknown}");
        assert!(conf.set("spark.streaming.blockInterval", "0").is_err());
        assert!(conf.set("spark.streaming.concurrentJobs", "0").is_err());
        for rate in ["0", "-1"] {
            for key in ["spark.streaming.receiver.maxRate", "spark.streaming.backpressure.initialRate"] {
                let error = conf.set(key, rate).unwrap_err();
                assert!(error.kind() == ErrorKind::Config && error.to_string().contains(key), "R-58: {error}");
            }
        }
    }

    #[test]
    fn k1_back_pressure_is_on_unless_sparks_rules_are_to_hold_and_mis18_its_parameters_must_make_sense() {
        let mut conf = Conf::new("local[2]", "t").unwrap();
        assert!(conf.streaming.backpressure && !conf.clone().spark_compatible().streaming.backpressure);
        let key = |name: &str| format!("spark.streaming.backpressure.{name}");
        for (name, value) in [
            ("enabled", "false"),
            ("initialRate", "500"),
            ("rateEstimator", "pid"),
            ("pid.proportional", "0.5"),
            ("pid.integral", "0"),
            ("pid.derived", "2"),
            ("pid.minRate", "7.5"),
        ] {
            conf.set(&key(name), value).unwrap();
        }
        assert!(!conf.streaming.backpressure);
        assert_eq!(conf.streaming.backpressure_initial_rate, Some(500));
        assert_eq!(conf.streaming.pid, PidConf { proportional: 0.5, integral: 0.0, derived: 2.0, min_rate: 7.5 });
        for (name, value) in [
            ("enabled", "perhaps"),
            ("rateEstimator", "guess"),
            ("pid.proportional", "-1"),
            ("pid.integral", "much"),
            ("pid.derived", "NaN"),
            ("pid.minRate", "0"),
        ] {
            let error = conf.set(&key(name), value).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(name), "{error}");
        }
        assert_eq!(conf.streaming.pid.min_rate, 7.5, "what was refused changes nothing");
    }
}
