//! What the tests share: a store in memory that fails by plan, and a program that lives in a bucket.

#![allow(dead_code, clippy::unwrap_used, reason = "no test uses all of it, and a test may fail")]

pub(crate) mod received;
pub(crate) mod watched;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{ErrorKind, Result, Text, Time, secs};
use millstream_object_store::ObjectDisk;
use millstream_object_store::object_store::memory::InMemory;
use millstream_object_store::object_store::path::Path as Key;
use millstream_object_store::object_store::{
    self, CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use millstream_streaming::commands::{Answer, answer};
use millstream_streaming::{Conf, MissedBatches, StreamingContext, StreamingContextBuilder};
use millstream_testkit::{Batches, batches, input};

/// What becomes of a put or a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and fails.
    Fails,
    /// It is done, and fails all the same.
    LiesThatItFailed,
    /// It fails, and is done later: when somebody says [`Faulty::arrive`].
    ArrivesLate,
}

impl Fault {
    pub(crate) const ALL: [Fault; 3] = [Fault::Fails, Fault::LiesThatItFailed, Fault::ArrivesLate];
}

type Late = (Key, PutPayload, PutOptions);

/// Says which fault the n-th change has.
type Faults = Box<dyn FnMut(u64) -> Option<Fault> + Send>;

/// A store in memory whose changes go wrong.
pub(crate) struct Faulty {
    inner: InMemory,
    changes: Mutex<u64>,
    faults: Mutex<Faults>,
    late: Mutex<VecDeque<Late>>,
}

impl Faulty {
    pub(crate) fn new(faults: impl FnMut(u64) -> Option<Fault> + Send + 'static) -> Arc<Faulty> {
        Arc::new(Faulty {
            inner: InMemory::new(),
            changes: Mutex::new(0),
            faults: Mutex::new(Box::new(faults)),
            late: Mutex::default(),
        })
    }

    pub(crate) fn changes(&self) -> u64 {
        *lock(&self.changes)
    }

    pub(crate) fn plan(&self, faults: impl FnMut(u64) -> Option<Fault> + Send + 'static) {
        *lock(&self.faults) = Box::new(faults);
    }

    fn fault(&self) -> Option<Fault> {
        let mut changes = lock(&self.changes);
        *changes += 1;
        (*lock(&self.faults))(*changes)
    }

    /// Lets the oldest of what is late arrive. What it says is told to nobody.
    pub(crate) async fn arrive(&self) {
        let late = lock(&self.late).pop_front();
        if let Some((key, payload, options)) = late {
            let _ = self.inner.put_opts(&key, payload, options).await;
        }
    }
}

fn broken() -> StoreError {
    StoreError::Generic { store: "faulty", source: "no answer came".into() }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

type Stream<T> = std::pin::Pin<Box<dyn futures_util::Stream<Item = object_store::Result<T>> + Send>>;

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        match self.fault() {
            None => self.inner.put_opts(key, payload, options).await,
            Some(Fault::Fails) => Err(broken()),
            Some(Fault::LiesThatItFailed) => {
                self.inner.put_opts(key, payload, options).await?;
                Err(broken())
            }
            Some(Fault::ArrivesLate) => {
                lock(&self.late).push_back((key.clone(), payload, options));
                Err(broken())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> object_store::Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(key, ranges).await
    }

    fn delete_stream(&self, keys: Stream<Key>) -> Stream<Key> {
        match self.fault() {
            None => self.inner.delete_stream(keys),
            Some(_) => Box::pin(futures_util::stream::once(async { Err(broken()) })),
        }
    }

    fn list(&self, prefix: Option<&Key>) -> Stream<ObjectMeta> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

pub(crate) fn at(s: i64) -> Time {
    Time::from_millis(s * 1000)
}

/// What batches gave: the batch, and its rows. One that ran twice is there twice.
type Given = Arc<Mutex<Vec<(i64, String)>>>;

/// A bucket in which a program lives, again and again.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) store: Arc<dyn ObjectStore>,
    prefix: String,
    given: Given,
    /// How many batches that have ended can be made again.
    pub(crate) retained: usize,
    pub(crate) checkpoint_after: u64,
}

/// One life of the program.
pub(crate) struct Life {
    pub(crate) ssc: StreamingContext,
    clock: ManualClock,
}

impl World {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> World {
        World { store, prefix: prefix.to_owned(), given: Given::default(), retained: 0, checkpoint_after: 3 }
    }

    /// The same bucket and program, on a machine between whose requests something happens.
    pub(crate) fn seen_through(&self, store: Arc<dyn ObjectStore>) -> World {
        World { store, ..self.clone() }
    }

    /// The bucket as another process sees it.
    pub(crate) fn disk(&self) -> ObjectDisk {
        ObjectDisk::on(Arc::clone(&self.store), &self.prefix).unwrap()
    }

    /// Begins a life: on a machine that knows nothing but the bucket.
    pub(crate) fn begin(&self, now: i64) -> Result<Life> {
        self.life(now, |builder| {
            builder.get_or_create("/clicks", |ssc| {
                self.program(ssc);
                Ok(())
            })
        })
    }

    /// Begins a life that throws away what is there.
    pub(crate) fn begin_anew(&self, now: i64) -> Result<Life> {
        self.life(now, |builder| {
            let ssc = builder.build()?;
            ssc.checkpoint_anew("/clicks")?;
            self.program(&ssc);
            Ok(ssc)
        })
    }

    /// Answers a command on a machine that knows nothing but the bucket.
    pub(crate) fn asked(&self, command: &str) -> Result<(Answer, String)> {
        let (mut text, words) = (Vec::new(), command.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let setup = |ssc: &StreamingContext| {
            self.program(ssc);
            Ok(())
        };
        let answered = answer(&words, Some((self.builder(&ManualClock::new(at(0)))?, &setup)), &mut text)?;
        Ok((answered, String::from_utf8(text).unwrap()))
    }

    /// Returns the names of all objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        let (disk, mut found, mut folders) = (self.disk(), Vec::new(), vec![PathBuf::from("/")]);
        while let Some(folder) = folders.pop() {
            let names = disk.list(&folder).unwrap();
            if names.is_empty() {
                found.push(folder.display().to_string());
            }
            folders.extend(names.iter().map(|name| folder.join(name)));
        }
        found.sort();
        found
    }

    fn builder(&self, clock: &ManualClock) -> Result<StreamingContextBuilder> {
        let mut conf = Conf::new("local[1]", "bucket")?;
        conf.engine.default_parallelism = Some(1);
        conf.streaming.exclusive = false;
        conf.streaming.missed_batches = MissedBatches::Replay;
        conf.streaming.checkpoint_after = self.checkpoint_after;
        conf.streaming.retain_batches = self.retained;
        Ok(StreamingContext::builder(conf, secs(1))
            .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
            .with_disk(Arc::new(self.disk()) as Arc<dyn Disk>))
    }

    fn life(&self, now: i64, make: impl FnOnce(StreamingContextBuilder) -> Result<StreamingContext>) -> Result<Life> {
        let clock = ManualClock::new(at(now));
        let ssc = make(self.builder(&clock)?)?;
        if let Err(error) = ssc.start() {
            let _ = ssc.stop();
            return Err(error);
        }
        Ok(Life { ssc, clock })
    }

    fn program(&self, ssc: &StreamingContext) {
        let pairs: Batches<(Text, i32)> =
            batches![[("a", 1)], [("b", 1)], [("a", 1)], [], [("a", 1), ("b", 1)], [("a", 1)], [("c", 1)], [("a", 1)]];
        let sums = input(ssc, pairs, 1)
            .update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
            .checkpoint(secs(1));
        if self.retained > 0 {
            sums.digested();
        }
        let given = Arc::clone(&self.given);
        sums.foreach_rdd(move |rdd, time| {
            let mut row: Vec<String> = rdd.collect()?.iter().map(|(key, n)| format!("{key}{n}")).collect();
            row.sort();
            lock(&given).push((time.as_millis() / 1000, row.join(" ")));
            Ok(())
        });
    }

    /// What was given since the last time.
    pub(crate) fn take(&self) -> Vec<(i64, String)> {
        lock(&self.given).drain(..).collect()
    }
}

impl Life {
    /// Runs up to a batch; says how it ended if it did before.
    pub(crate) fn to(&self, batch: i64) -> Result<()> {
        let from = self.clock.now().as_millis() / 1000;
        for s in from + 1..=batch {
            self.clock.advance_to(at(s));
            if !self.ssc.await_batch(at(s)) {
                break;
            }
        }
        self.ssc.await_termination_or_timeout(std::time::Duration::ZERO).map(drop)
    }

    pub(crate) fn end(self) {
        let _ = self.ssc.stop();
    }
}

pub(crate) const SUMS: [(i64, &str); 8] =
    [(1, "a1"), (2, "a1 b1"), (3, "a2 b1"), (4, "a2 b1"), (5, "a3 b2"), (6, "a4 b2"), (7, "a4 b2 c1"), (8, "a5 b2 c1")];

pub(crate) fn rows(rows: &[(i64, &str)]) -> Vec<(i64, String)> {
    rows.iter().map(|(s, row)| (*s, (*row).to_owned())).collect()
}

/// A program that is begun again on another machine goes on, and ends with all batches right.
pub(crate) fn goes_on_from_the_bucket_alone(world: &World) {
    for (from, to) in [(0, 3), (3, 4), (4, 8)] {
        let life = world.begin(from).unwrap();
        life.to(to).unwrap();
        life.end();
        assert_eq!(world.take(), rows(&SUMS[from as usize..to as usize]));
    }
}

/// A driver that pauses between batches while another takes over, and wakes.
pub(crate) fn a_late_driver_is_refused(world: &World) {
    let old = world.begin(0).unwrap();
    old.to(3).unwrap();
    let new = world.begin(3).unwrap();
    new.to(5).unwrap();
    assert_eq!(world.take(), rows(&SUMS[..5]));
    let error = old.to(5).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    old.end();
    assert_eq!(world.take(), [], "nothing of a batch runs before it is durable what belongs to it");
    new.to(6).unwrap();
    new.end();
    let last = world.begin(6).unwrap();
    last.to(8).unwrap();
    last.end();
    assert_eq!(world.take(), rows(&SUMS[5..]));
}

/// A driver that goes on while another begins anew, in the same place.
pub(crate) fn who_begins_anew_is_not_disturbed(world: &World) {
    let old = world.begin(0).unwrap();
    old.to(3).unwrap();
    world.take();
    let new = world.begin_anew(3).unwrap();
    new.to(5).unwrap();
    assert_eq!(world.take(), rows(&[(4, ""), (5, "a1 b1")]));
    let error = old.to(5).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    old.end();
    new.to(6).unwrap();
    new.end();
    let last = world.begin(6).unwrap();
    last.to(7).unwrap();
    last.end();
    assert_eq!(world.take(), rows(&[(6, "a2 b1"), (7, "a2 b1 c1")]));
}

/// What a disk promises, and what an object store does instead.
pub(crate) fn objects_are_what_a_disk_promises(world: &World) {
    let (one, two) = (world.disk(), world.disk());
    let path = Path::new("/folder/with % and ü/file");
    let mut file = one.create(path).unwrap();
    file.append(b"some").unwrap();
    file.append(b" bytes").unwrap();
    assert!(!two.exists(path).unwrap());
    file.sync().unwrap();
    assert_eq!(two.read(path).unwrap(), b"some bytes");
    assert_eq!(two.read_at(path, 5, 5).unwrap(), b"bytes");
    assert_eq!(two.len(path).unwrap(), 10);
    for (offset, len) in [(5, 6), (10, 1), (11, 0), (u64::MAX, 2)] {
        assert_eq!(two.read_at(path, offset, len).unwrap_err().kind(), ErrorKind::Data, "{len} at {offset}");
    }
    let mut other = two.create(path).unwrap();
    other.append(b"some bytes").unwrap();
    assert_eq!(other.sync().unwrap_err().kind(), ErrorKind::Data, "the same bytes, and another process");
    let mut again = one.create(path).unwrap();
    again.append(b"some bytes").unwrap();
    again.sync().expect("its own put, of which no answer came");
    one.objects().unwrap().put(path, &[b"new", b"er"]).unwrap();
    assert_eq!(two.read(path).unwrap(), b"newer");
    assert_eq!(two.list(Path::new("folder")).unwrap(), ["with % and ü"]);
    assert!(two.exists(Path::new("folder")).unwrap());
    two.remove_file(path).unwrap();
    two.remove_file(path).unwrap();
    assert_eq!(one.read(path).unwrap_err().kind(), ErrorKind::Data);
    for name in ["a/1", "a/b/2", "ab/3"] {
        one.objects().unwrap().put(&Path::new("/tree").join(name), &[b"x"]).unwrap();
    }
    two.remove_folder(Path::new("/tree/a")).unwrap();
    two.remove_folder(Path::new("/tree/nothing")).unwrap();
    assert_eq!(one.list(Path::new("/tree")).unwrap(), ["ab"]);
    assert_eq!(one.rename(path, path).unwrap_err().kind(), ErrorKind::Config);
}

/// What can be asked of a checkpoint, asked of one in a bucket.
pub(crate) fn commands_look_into_the_bucket(mut world: World) {
    world.retained = 3;
    let error = world.asked("checkpoint inspect /clicks").unwrap_err();
    assert!(error.to_string().contains("there is no such folder"), "{error}");
    let life = world.begin(0).unwrap();
    life.to(6).unwrap();
    life.end();
    let before = world.objects();
    assert_eq!(world.take(), rows(&SUMS[..6]));
    for (command, said) in [
        ("checkpoint inspect /clicks", "update_state_by_key"),
        ("checkpoint plan /clicks", "kept"),
        ("replay /clicks 5000", "It is the batch that it was"),
        ("replay /clicks last", "It is the batch that it was"),
    ] {
        let (answered, text) = world.asked(command).unwrap();
        assert!(answered == Answer::Yes && text.contains(said), "{command}: {text}");
    }
    assert_eq!((world.objects(), world.take()), (before, Vec::new()), "a look changes nothing, and runs no output");
    let life = world.begin(6).unwrap();
    life.to(7).unwrap();
    // It is a start, and whoever starts last goes on.
    let (answered, text) = world.asked("checkpoint upgrade /clicks").unwrap();
    assert_eq!(answered, Answer::Yes, "{text}");
    let error = life.to(8).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    life.end();
    let life = world.begin(7).unwrap();
    life.to(8).unwrap();
    life.end();
    assert_eq!(world.take(), rows(&SUMS[6..]));
    // What an earlier era has is not what counts.
    let life = world.begin_anew(8).unwrap();
    life.to(9).unwrap();
    life.end();
    let (_, text) = world.asked("checkpoint inspect /clicks --json").unwrap();
    assert!(text.contains("\"starts\": 1,") && text.contains("\"latest_batch_ms\": 9000"), "{text}");
}
