//! Settings of the engine: plain data with documented defaults, and the master that says where it runs.

mod cluster;

// An address is a value; the network is not known here.
use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use self::cluster::ClusterConf;
use crate::error::{Error, ErrorKind, Result};

/// Where jobs run, as Spark's master strings say.
///
/// | text | threads | attempts a task |
/// |---|---|---|
/// | `local` | 1 | 1 |
/// | `local[4]` | 4 | 1 |
/// | `local[*]` | one a core | 1 |
/// | `local[4,3]`, `local[*,3]` | 4, or one a core | 3 |
/// | `local-cluster[2,1]` | 2 executor processes on this machine, with 1 slot each | those of the cluster |
/// | `cluster://10.0.0.1:7077` | executors that join the driver at this address of its own | those of the cluster |
///
/// The last two need the crate `millstream-cluster`, the feature `cluster` of the facade.
///
/// # Example
///
/// ```
/// use millstream_core::conf::Master;
///
/// let master: Master = "local[4,3]".parse().unwrap();
/// assert_eq!((master.threads(), master.attempts()), (4, 3));
/// assert!("local[0]".parse::<Master>().is_err());
/// ```
///
/// # Spark
///
/// The master URL; attempts as R-78.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master {
    threads: usize,
    attempts: u32,
    cluster: Option<ClusterMaster>,
}

/// A master that runs tasks in other processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMaster {
    /// `local-cluster[E,C]`: executors of this very executable on this machine, begun and ended with the driver.
    Local {
        /// How many.
        executors: usize,
        /// How many tasks each may run at once.
        slots: usize,
        /// How many bytes of memory each may take, if that is said.
        memory: Option<u64>,
    },
    /// `cluster://BIND:PORT`: executors that join the driver at this address.
    At(SocketAddr),
}

impl Master {
    /// Runs on `threads` threads of this process, each task once.
    pub fn local(threads: usize) -> Master {
        Master { threads: threads.max(1), attempts: 1, cluster: None }
    }

    /// Returns how many tasks may run at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns which cluster runs the tasks, if one does.
    pub fn cluster(&self) -> Option<ClusterMaster> {
        self.cluster
    }

    /// Returns how often a task is tried before its job fails.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cluster {
            Some(ClusterMaster::Local { executors, slots, memory: None }) => {
                return write!(f, "local-cluster[{executors},{slots}]");
            }
            Some(ClusterMaster::Local { executors, slots, memory: Some(memory) }) => {
                return write!(f, "local-cluster[{executors},{slots},{}]", memory >> 20);
            }
            Some(ClusterMaster::At(address)) => return write!(f, "cluster://{address}"),
            None => {}
        }
        if self.attempts == 1 {
            write!(f, "local[{}]", self.threads)
        } else {
            write!(f, "local[{},{}]", self.threads, self.attempts)
        }
    }
}

impl FromStr for Master {
    type Err = Error;

    fn from_str(text: &str) -> Result<Master> {
        let wrong = |why: &str| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "{why}; a master is `local`, `local[4]`, `local[*]`, `local[4,3]`, `local-cluster[2,1]` or \
                     `cluster://10.0.0.1:7077`: `{text}`"
                ),
            )
        };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let text = text.trim();
        if text == "local" {
            return Ok(Master::local(1));
        }
        for (prefix, name) in [("spark://", "Spark"), ("yarn", "YARN"), ("k8s://", "Kubernetes"), ("mesos", "Mesos")] {
            if text.starts_with(prefix) {
                return Err(wrong(&format!("{name} does not run millstream")));
            }
        }
        if let Some(address) = text.strip_prefix("cluster://") {
            let address = address.parse().map_err(|_| wrong("the driver's address is no address with a port"))?;
            // How many executors will join is not known; Spark counts two then.
            return Ok(Master { threads: 2, attempts: 1, cluster: Some(ClusterMaster::At(address)) });
        }
        if let Some(inner) = text.strip_prefix("local-cluster[").and_then(|rest| rest.strip_suffix(']')) {
            let numbers: Vec<u64> = inner
                .split(',')
                .map(|number| number.trim().parse().ok().filter(|number| (1..1 << 32).contains(number)))
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("executors, their slots and their MiB must be numbers from 1"))?;
            let (executors, slots, memory) = match numbers[..] {
                [executors, slots] => (executors, slots, None),
                [executors, slots, memory] => (executors, slots, Some(memory << 20)),
                _ => return Err(wrong("a local cluster is told executors and slots, and perhaps MiB")),
            };
            if executors > 64 || slots > 1024 {
                return Err(wrong("a local cluster has at most 64 executors of 1024 slots"));
            }
            let (executors, slots) = (executors as usize, slots as usize);
            let cluster = Some(ClusterMaster::Local { executors, slots, memory });
            return Ok(Master { threads: executors * slots, attempts: 1, cluster });
        }
        let inner = text
            .strip_prefix("local[")
            .and_then(|rest| rest.strip_suffix(']'))
            .ok_or_else(|| wrong("this is no master"))?;
        let (threads, attempts) = inner.split_once(',').unwrap_or((inner, "1"));
        let threads = match threads.trim() {
            "*" => cores(),
            number => number.parse().map_err(|_| wrong("the number of threads is not a number"))?,
        };
        let attempts: u32 = attempts.trim().parse().map_err(|_| wrong("the number of attempts is not a number"))?;
        if threads == 0 || attempts == 0 {
            return Err(wrong("threads and attempts must be at least 1"));
        }
        Ok(Master { threads, attempts, cluster: None })
    }
}

/// How threads are shared between jobs that run at once.
///
/// # Spark
///
/// `SparkContext.getSchedulingMode`, CX20.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Tasks run in the order in which they come.
    #[default]
    Fifo,
    /// Pools take turns, by their shares.
    Fair,
}

/// The share of one pool.
///
/// # Spark
///
/// A pool of the fair scheduler's allocation file, CX20.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShare {
    /// How many threads the pool gets for each one that a pool of weight 1 gets.
    pub weight: usize,
    /// How many threads the pool gets before others get more than theirs.
    pub min_share: usize,
}

impl Default for PoolShare {
    fn default() -> PoolShare {
        PoolShare { weight: 1, min_share: 0 }
    }
}

/// Settings of the engine.
///
/// # Example
///
/// ```
/// use millstream_core::conf::EngineConf;
///
/// let conf = EngineConf { default_parallelism: Some(4), ..EngineConf::new("local[2]", "sums").unwrap() };
/// assert_eq!(conf.parallelism(), 4);
/// ```
///
/// # Spark
///
/// The part of `SparkConf` that the engine itself reads, CX21.
#[derive(Clone, Debug)]
pub struct EngineConf {
    /// Where jobs run. Spark's `spark.master`.
    pub master: Master,
    /// The program's name, for people. Spark's `spark.app.name`.
    pub app_name: String,
    /// Partitions where an operation is given none; by default the number of threads. Spark's
    /// `spark.default.parallelism`.
    pub default_parallelism: Option<usize>,
    /// Bytes that tables, sorts, shuffle outputs, kept partitions and received blocks may take in memory, all together;
    /// what is more goes to disk, or is dropped and computed again. By default the part
    /// [`memory_fraction`](Self::memory_fraction) of what the machine, or the container, has. Sizes are estimates: the
    /// process takes some more, and what closures of the program hold comes on top. Spark's `spark.driver.memory`,
    /// which runs the tasks of a local master.
    pub memory: Option<u64>,
    /// The part of the machine's memory that is taken where [`memory`](Self::memory) is not set; 0.5 by default.
    /// Spark's `spark.memory.fraction`.
    pub memory_fraction: f64,
    /// The part of the budget that kept partitions and received blocks hold on to when tasks need memory; 0.5 by
    /// default. Spark's `spark.memory.storageFraction`.
    pub storage_fraction: f64,
    /// Where blocks on disk, and whatever memory has no room for, are kept; by default fresh folders below the system's
    /// temporary one, removed at the end. Spark's `spark.local.dir`.
    pub local_dir: Option<PathBuf>,
    /// How many times more partitions `take` reads when the first were not enough; 4 by default. Spark's
    /// `spark.rdd.limit.scaleUpFactor`.
    pub take_scale_up: usize,
    /// How the threads are shared between jobs that run at once; first in, first out by default. Spark's
    /// `spark.scheduler.mode`.
    pub scheduling: Scheduling,
    /// Whether states are written while later jobs run. On. Off, the job that finds them marked writes them before it ends: for
    /// tests in which all that is written is to be in the same order each time.
    pub save_in_background: bool,
    /// The shares of pools by name, where [`scheduling`](Self::scheduling) is fair. A job's pool is its local property
    /// `spark.scheduler.pool`; one that is not named here, and `default`, have the weight 1 and no least share. Spark's
    /// `spark.scheduler.allocation.file`.
    pub pools: BTreeMap<String, PoolShare>,
    /// What matters where [`master`](Self::master) is a cluster.
    pub cluster: ClusterConf,
}

impl EngineConf {
    /// Returns the default settings for `master`, with the program called `app_name`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: `master` is not a master.
    pub fn new(master: &str, app_name: impl Into<String>) -> Result<EngineConf> {
        Ok(EngineConf {
            master: master.parse()?,
            app_name: app_name.into(),
            default_parallelism: None,
            memory: None,
            memory_fraction: 0.5,
            storage_fraction: 0.5,
            local_dir: None,
            take_scale_up: 4,
            save_in_background: true,
            scheduling: Scheduling::Fifo,
            pools: BTreeMap::new(),
            cluster: ClusterConf::default(),
        })
    }

    /// Returns the number of partitions where an operation is given none, CX16.
    pub fn parallelism(&self) -> usize {
        self.default_parallelism.unwrap_or(self.master.threads()).max(1)
    }

    /// Returns how many bytes the engine may hold in memory.
    pub fn memory_budget(&self) -> u64 {
        self.memory.unwrap_or_else(|| (crate::memory::machine() as f64 * self.memory_fraction) as u64)
    }

    /// Sets one setting by Spark's key. Returns whether the key is one of the engine's.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the value does not fit the key.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool> {
        match key {
            "spark.master" => self.master = value.parse()?,
            "spark.app.name" => value.clone_into(&mut self.app_name),
            "spark.default.parallelism" => self.default_parallelism = Some(number(key, value, 1)?),
            "spark.local.dir" => self.local_dir = Some(PathBuf::from(value)),
            "spark.driver.memory" => self.memory = Some(size(key, value)?),
            "spark.memory.fraction" => self.memory_fraction = fraction(key, value)?,
            "spark.memory.storageFraction" => self.storage_fraction = fraction(key, value)?,
            "spark.rdd.limit.scaleUpFactor" => self.take_scale_up = number(key, value, 2)?,
            "spark.scheduler.mode" => {
                self.scheduling = match value.trim().to_ascii_uppercase().as_str() {
                    "FIFO" => Scheduling::Fifo,
                    "FAIR" => Scheduling::Fair,
                    _ => {
                        let text = format!("setting {key} must be FIFO or FAIR: `{value}`");
                        return Err(Error::new(ErrorKind::Config, text));
                    }
                };
            }
            "spark.task.maxFailures" => {
                self.master.attempts = u32::try_from(number(key, value, 1)?).unwrap_or(u32::MAX);
            }
            _ => return self.cluster.set(key, value),
        }
        Ok(true)
    }
}

/// Reads a whole number that must be at least `least`, for the setting `key`.
///
/// # Errors
///
/// The kind is `Config`, and the text names the key.
pub fn number(key: &str, value: &str, least: usize) -> Result<usize> {
    match value.trim().parse::<usize>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(Error::new(
            ErrorKind::Config,
            format!("setting {key} must be a whole number of at least {least}: `{value}`"),
        )),
    }
}

/// Reads a length of time as Spark writes it: `200ms`, `2s`, `1min`, `1m`, `1h`; a bare number is milliseconds.
///
/// # Errors
///
/// The kind is `Config`, and the text names the key.
pub fn duration(key: &str, value: &str) -> Result<Duration> {
    let text = value.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit: Option<u64> = match text[digits..].trim() {
        "" | "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = text[..digits].parse::<u64>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
    millis.map(Duration::from_millis).ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("setting {key} must be a length of time as `200ms` or `2s`: `{value}`"))
    })
}

/// Reads a size as Spark writes it: `512m`, `4g`, or plain bytes.
fn size(key: &str, value: &str) -> Result<u64> {
    let wrong = || {
        let text = format!("setting {key} must be a size above zero, as 512m, 4g or bytes: `{value}`");
        Error::new(ErrorKind::Config, text)
    };
    let text = value.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'k')) => (&text[..at], 10),
        Some((at, 'm')) => (&text[..at], 20),
        Some((at, 'g')) => (&text[..at], 30),
        Some((at, 't')) => (&text[..at], 40),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Reads a number between 0 and 1, for the setting `key`.
fn fraction(key: &str, value: &str) -> Result<f64> {
    match value.trim().parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => {
            let text = format!("setting {key} must be a number between 0 and 1: `{value}`");
            Err(Error::new(ErrorKind::Config, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_size_or_a_part_of_the_machines() {
        let mut conf = EngineConf::new("local", "t").unwrap();
        assert!(conf.memory_budget() > 0);
        for (text, bytes) in [("65536", 65536), ("64k", 64 << 10), ("256MB", 256 << 20), (" 2g ", 2 << 30)] {
            assert!(conf.set("spark.driver.memory", text).unwrap());
            assert_eq!(conf.memory_budget(), bytes, "{text}");
        }
        for (key, value) in
            [("spark.driver.memory", "much"), ("spark.driver.memory", "0g"), ("spark.memory.fraction", "1.5")]
        {
            let error = conf.set(key, value).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(key), "{error}");
        }
        conf.set("spark.memory.storageFraction", "0.25").unwrap();
        assert_eq!(conf.storage_fraction, 0.25);
    }

    #[test]
    fn r78_masters_say_threads_and_attempts() {
        for (text, threads, attempts) in
            [("local", 1, 1), ("local[1]", 1, 1), ("local[4]", 4, 1), ("local[2,3]", 2, 3), (" local[ 2 , 3 ] ", 2, 3)]
        {
            let master: Master = text.parse().unwrap();
            assert_eq!((master.threads(), master.attempts()), (threads, attempts), "{text}");
        }
        let all: Master = "local[*,2]".parse().unwrap();
        assert!(all.threads() >= 1 && all.attempts() == 2);
    }

    #[test]
    fn masters_of_clusters_are_parsed_and_shown() {
        for (text, executors, slots, memory) in
            [("local-cluster[2,1]", 2, 1, None), ("local-cluster[3,4,2048]", 3, 4, Some(2u64 << 30))]
        {
            let master: Master = text.parse().unwrap();
            assert_eq!(master.cluster(), Some(ClusterMaster::Local { executors, slots, memory }));
            assert_eq!((master.threads(), master.to_string()), (executors * slots, text.to_owned()));
        }
        let master: Master = "cluster://127.0.0.1:7077".parse().unwrap();
        assert_eq!(master.cluster(), Some(ClusterMaster::At(([127, 0, 0, 1], 7077).into())));
        assert_eq!(master.to_string(), "cluster://127.0.0.1:7077");
        for text in
            ["local-cluster[2]", "local-cluster[0,1]", "local-cluster[2,x]", "local-cluster[2,1", "cluster://here"]
        {
            assert_eq!(text.parse::<Master>().unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
    }

    #[test]
    fn a_wrong_master_is_named() {
        for text in ["", "local[]", "local[0]", "local[2,0]", "local[x]", "lokal", "spark://h:7077", "yarn", "local[2"]
        {
            let error = text.parse::<Master>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(&format!("`{}`", text.trim())), "{error}");
        }
    }

    #[test]
    fn settings_are_set_by_spark_keys() {
        let mut conf = EngineConf::new("local[3]", "t").unwrap();
        assert_eq!(conf.parallelism(), 3);
        assert!(conf.set("spark.default.parallelism", "7").unwrap());
        assert_eq!(conf.parallelism(), 7);
        assert!(conf.set("spark.default.parallelism", "0").is_err());
        assert!(!conf.set("spark.streaming.blockInterval", "1").unwrap());
        assert!(conf.set("spark.scheduler.mode", "FAIR").unwrap());
        assert_eq!(conf.scheduling, Scheduling::Fair);
        assert!(conf.set("spark.scheduler.mode", "UNFAIR").is_err());
    }
}
