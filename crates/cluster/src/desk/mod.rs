//! The driver's desk: where executors join, and ask for what only the driver has. A small protocol of our own over TCP.
//!
//! Both sides prove that they know the cluster's secret before anything else is read, each over a number that the other has
//! just drawn, so that nothing that was overheard can be said again.

mod client;
mod frame;
mod server;

use std::time::Duration;

use bytes::Bytes;
use millstream_core::Time;
use millstream_core::storage::{BlockId, StorageLevel};
use serde::{Deserialize, Serialize};

use crate::endings::TaskName;
use crate::hosts::Outside;

pub(crate) use self::client::{AtDriver, DeskClient, Joined, Reports};
pub(crate) use self::server::{Desk, DeskHost, Member};

/// What somebody who comes wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// To run tasks.
    Join(Join),
    /// To ask, as the executor of this name.
    Ask(String),
}

/// Who wants to run tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    /// The build of its executable.
    pub(crate) build: String,
    /// What people call the machine.
    pub(crate) host: String,
    /// Its process.
    pub(crate) pid: u32,
    /// How many tasks it may run at once.
    pub(crate) slots: usize,
    /// How it is reached from other hosts, if it came by a tunnel.
    pub(crate) outside: Option<Outside>,
    /// What time it thinks it is.
    pub(crate) now: Time,
}

/// What the driver answers to who wants to run tasks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Welcome {
    /// It may.
    Yes {
        /// What it is called from now on.
        id: String,
        /// Where Ballista's scheduler listens.
        scheduler: u16,
        /// How many bytes of memory its blocks, shuffles and tasks may take together.
        memory: u64,
        /// The part of it that blocks hold on to.
        storage_fraction: f64,
        /// How long it may give no sign of life.
        silence: Duration,
        /// At which ports it is to let its shuffles be read, and to take its tasks, if it came by a tunnel.
        ports: Option<[u16; 2]>,
    },
    /// It may not, and why.
    No(String),
}

/// What the driver tells an executor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Tell {
    /// Blocks that nobody will ask for any more.
    Forget(Vec<BlockId>),
    /// An engine that is gone with all it kept.
    Gone(u64),
    /// An executor that is gone, by the port by which the driver knew it.
    Left(u16),
    /// That its sign of life was heard.
    Heard,
    /// Jobs that have ended, and whose files are of no use.
    Sweep(Vec<String>),
    /// To keep a copy of another executor's block, for an engine.
    Keep { engine: u64, id: BlockId, level: StorageLevel, items: Option<usize>, bytes: Bytes },
    /// To send a block that another executor's task reads, under this number.
    Send { number: u64, engine: u64, id: BlockId },
    /// To run something beside tasks, for an engine.
    Begin { resident: u64, engine: u64, plan: Bytes },
    /// To hand a message on to what runs so.
    Say { resident: u64, message: Bytes },
    /// The end.
    Bye,
}

/// What an executor says without being asked, and without an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// That it lives, and which tasks have ended since it last said so. Only that is answered: that it was heard.
    Alive(Vec<TaskName>),
    /// What an attempt at a partition of a job's last stage has made, under the number that the driver gave the job.
    Result { number: u64, partition: usize, attempt: u32, rows: Bytes },
}

/// What an executor asks for, in the name of an engine's task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) engine: u64,
    pub(crate) what: What,
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    /// A block that the driver keeps.
    Block(BlockId),
    /// A file of the checkpoints' store.
    Read(String),
    /// A part of one.
    ReadAt(String, u64, usize),
    /// To write one.
    Write(String, Bytes),
    /// To remove a folder of them.
    RemoveFolder(String),
    /// Whether others may see what a task has written.
    Publish,
    /// To have another executor keep a copy.
    Copy(BlockId, StorageLevel, Option<usize>, Bytes),
    /// Who is reached by a port of the driver's.
    Peer(u16),
    /// To be sent home when no job needs what it has: it takes no new tasks.
    Leave,
    /// Nothing: here is the block that the driver has asked for under this number, if it is there.
    Here(u64, Option<Bytes>),
    /// What something that runs beside tasks asks.
    Resident(u64, Bytes),
    /// Nothing: something that ran beside tasks is over, with an error as `plan::away` writes it or without one.
    Over(u64, Option<Vec<u8>>),
}

/// The answer: bytes, if there are any, or an error as `plan::away` writes it.
pub(crate) type Answer = Result<Option<Bytes>, Vec<u8>>;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use millstream_core::checkpoint::CheckpointStore;
    use millstream_core::plan::away::DriverBlocks;
    use millstream_core::threads::lock;
    use millstream_core::{Error, ErrorKind, Result};

    use super::*;
    use crate::secret::Secret;

    /// Lets one build in, and answers with what was asked.
    #[derive(Default)]
    struct Host(Mutex<Vec<String>>);

    impl DeskHost for Host {
        fn welcome(&self, join: &Join) -> Welcome {
            match join.build.as_str() {
                "ours" => Welcome::Yes {
                    id: "executor-1".into(),
                    scheduler: 7,
                    memory: 8,
                    storage_fraction: 0.5,
                    silence: Duration::from_secs(if join.host == "silent" { 5 } else { 3600 }),
                    ports: None,
                },
                other => Welcome::No(format!("build {other} is not ours")),
            }
        }

        fn joined(&self, id: &str, join: &Join, member: Member) {
            lock(&self.0).push(format!("{id} came"));
            member.tell(Tell::Gone(4));
            member.tell(Tell::Bye);
            if join.host == "deaf" {
                // More than a connection takes whose other side reads nothing.
                let forgotten = vec![BlockId::Received { stream: u64::MAX, sequence: u64::MAX }; 1 << 20];
                (0..4).for_each(|_| member.tell(Tell::Forget(forgotten.clone())));
                member.dismiss();
            }
        }

        fn ended(&self, _: &str, tasks: Vec<TaskName>) {
            lock(&self.0).extend(tasks.into_iter().map(|task| format!("task {} ended", task.task)));
        }

        fn brought(&self, number: u64, partition: usize, attempt: u32, rows: Bytes) {
            lock(&self.0).push(format!("{rows:?} of {number}, {partition}, {attempt}"));
        }

        fn left(&self, id: &str, why: &str) {
            lock(&self.0).push(format!("{id} left: {why}"));
        }

        fn is_member(&self, id: &str) -> bool {
            !lock(&self.0).iter().any(|noted| noted.starts_with(&format!("{id} left")))
        }

        fn answer(&self, _: &str, question: Question) -> Result<Option<Bytes>> {
            match question.what {
                What::Publish => Ok(None),
                What::Block(_) => Ok(None),
                What::Read(name) if name == "careless" => panic!("on purpose"),
                What::Read(name) if name == "never" => {
                    let is_over = || lock(&self.0).iter().any(|noted| noted == "over");
                    while !is_over() {
                        std::thread::park_timeout(Duration::from_millis(5));
                    }
                    Ok(None)
                }
                What::Read(name) => Ok(Some(Bytes::from(format!("{name} of {}", question.engine)))),
                _ => Err(Error::new(ErrorKind::Unavailable, "the disk is full")),
            }
        }
    }

    fn open() -> (Desk, Arc<Host>, Secret) {
        let (host, secret) = (Arc::new(Host::default()), Secret::fresh().unwrap());
        let desk = Desk::open(([127, 0, 0, 1], 0).into(), secret.clone(), Arc::clone(&host) as _).unwrap();
        (desk, host, secret)
    }

    fn join(build: &str) -> Join {
        Join { build: build.to_owned(), host: "here".to_owned(), pid: 1, slots: 2, outside: None, now: Time::ZERO }
    }

    #[test]
    fn an_executor_joins_is_told_things_and_asks() {
        let (desk, host, secret) = open();
        let client = Arc::new(DeskClient::new(desk.address(), secret));
        let (welcome, mut joined) = client.join(join("ours")).unwrap();
        assert!(matches!(welcome, Welcome::Yes { scheduler: 7, .. }));
        assert!(matches!(joined.told(), Some(Tell::Gone(4))));
        assert!(matches!(joined.told(), Some(Tell::Bye)));
        assert_eq!(*lock(&host.0), ["executor-1 came"]);
        client.become_member("executor-1");
        let driver = AtDriver::new(client, 3);
        assert_eq!(&driver.read("a/b").unwrap()[..], b"a/b of 3");
        assert_eq!(driver.block(BlockId::Received { stream: 1, sequence: 2 }).unwrap(), None);
        let error = driver.write("a", b"x").unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the disk is full"));
        let error = driver.read("careless").unwrap_err();
        assert!(error.to_string().contains("panicked: on purpose"), "who asks hears of it: {error}");
        assert_eq!(&driver.read("a").unwrap()[..], b"a of 3", "and may ask again");
        drop(desk);
        assert!(joined.told().is_none(), "the connection ends with the desk");
        assert_eq!(driver.read("a").unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn an_executor_that_gives_no_sign_is_given_up_and_asks_in_vain() {
        let (desk, host, secret) = open();
        let client = Arc::new(DeskClient::new(desk.address(), secret));
        let (_, mut joined) = client.join(Join { host: "silent".into(), ..join("ours") }).unwrap();
        client.become_member("executor-1");
        let driver = AtDriver::new(Arc::clone(&client), 3);
        assert!(matches!((joined.told(), joined.told()), (Some(Tell::Gone(4)), Some(Tell::Bye))));
        let reports = joined.reports();
        reports.bring(5, 6, 7, Bytes::from_static(b"r")).unwrap();
        for _ in 0..3 {
            reports.alive(vec![TaskName { job: "j".into(), stage: 1, task: 2 }]).unwrap();
            assert!(matches!(joined.told(), Some(Tell::Heard)), "a sign is answered");
        }
        driver.may_publish().unwrap();
        // It says nothing more, and the driver closes.
        assert!(joined.told().is_none());
        let noted = lock(&host.0).clone();
        let ended = "task 2 ended";
        assert_eq!(noted[..5], ["executor-1 came", "b\"r\" of 5, 6, 7", ended, ended, ended]);
        assert_eq!(noted[5..], ["executor-1 left: it has given no sign of life for 5s"]);
        for error in [driver.may_publish().unwrap_err(), driver.write("a", b"x").unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
            assert!(error.to_string().contains("executor-1 was given up"), "{error}");
        }
        drop(desk);
    }

    #[test]
    fn an_executor_that_reads_nothing_holds_up_nobody_and_is_let_go() {
        let (desk, host, secret) = open();
        let client = DeskClient::new(desk.address(), secret);
        let (_, mut joined) = client.join(Join { host: "deaf".into(), ..join("ours") }).unwrap();
        // It is silent for an hour, and what it is told takes as long; it is found gone all the same.
        while !lock(&host.0).iter().any(|noted| noted.starts_with("executor-1 left")) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        while joined.told().is_some() {}
        drop(desk);
    }

    #[test]
    fn a_driver_that_does_not_answer_is_waited_for_only_so_long() {
        let (desk, host, secret) = open();
        let client = Arc::new(DeskClient::new(desk.address(), secret).waiting(Duration::from_millis(50)));
        client.become_member("executor-1");
        let driver = AtDriver::new(client, 3);
        let error = driver.read("never").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("has not answered for 50ms"), "{error}");
        lock(&host.0).push("over".into());
        drop(desk);
    }

    #[test]
    fn another_secret_and_another_build_are_refused_by_name() {
        let (desk, host, secret) = open();
        let error = DeskClient::new(desk.address(), Secret::fresh().unwrap()).join(join("ours")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("secrets differ"), "{error}");
        let error = DeskClient::new(desk.address(), secret).join(join("theirs")).err().unwrap();
        assert!(error.to_string().contains("build theirs is not ours"), "{error}");
        assert!(lock(&host.0).is_empty());
    }

    #[test]
    fn a_driver_that_is_not_there_and_a_port_in_use_are_named() {
        let (desk, _, secret) = open();
        let taken = Desk::open(desk.address(), secret.clone(), Arc::new(Host::default()) as _).err().unwrap();
        assert_eq!(taken.kind(), ErrorKind::Config);
        assert!(taken.to_string().contains(&desk.address().to_string()), "{taken}");
        let address = desk.address();
        drop(desk);
        let error = DeskClient::new(address, secret).join(join("ours")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
}
