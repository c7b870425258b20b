//! A program with all that has a log or a token of its own: a receiver, a window, a state, a transactional sink; and its driver late.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver as Channel, Sender, channel};
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Rdd, Result, secs};
use millstream_streaming::{
    OutputBatch, OutputRun, Position, Receiver, State, StateSpec, Store, StreamingContext, Transactional,
};

use super::{Life, World};

type Doing = Box<dyn FnOnce(&mut dyn Store<i64>) + Send>;

/// A receiver that does what it is told, until nobody tells it anything.
struct Told(Channel<Doing>);

impl Receiver for Told {
    type Item = i64;

    fn receive(&mut self, store: &mut dyn Store<i64>) -> Result<()> {
        while let Ok(step) = self.0.recv() {
            step(store);
        }
        Ok(())
    }

    fn is_reliable(&self) -> bool {
        true
    }
}

/// One life, and the way to its receiver.
struct Driver {
    life: Life,
    tell: Option<Sender<Doing>>,
}

impl Driver {
    fn tell<R: Send + 'static>(&self, step: impl FnOnce(&mut dyn Store<i64>) -> R + Send + 'static) -> R {
        let (told, tell) = channel();
        let step: Doing = Box::new(move |store| drop(told.send(step(store))));
        self.tell.as_ref().unwrap().send(step).expect("the receiver lives");
        tell.recv().expect("the receiver has done it")
    }

    /// Stores a block, up to the position behind it. Says whether its sender was told that it is durable.
    fn store(&self, numbers: &[i64], behind: u64) -> (Result<()>, bool) {
        let numbers = numbers.to_vec();
        self.tell(move |store| {
            let (acknowledged, is_acknowledged) = channel();
            let stored = Box::new(move || {
                let _ = acknowledged.send(());
            });
            let outcome = store.store_block_at(numbers, Position::from(behind), stored);
            (outcome, is_acknowledged.try_recv().is_ok())
        })
    }

    fn position(&self) -> Option<u64> {
        self.tell(|store| store.position().and_then(|position| position.as_u64()))
    }

    fn end(mut self) {
        self.tell = None;
        self.life.end();
    }
}

/// A sink in another place, which refuses who comes late by the token.
#[derive(Clone, Default)]
struct Remote(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    token: u64,
    prepared: BTreeMap<i64, Vec<i64>>,
    committed: BTreeMap<i64, Vec<i64>>,
    wrong: Vec<String>,
}

impl Remote {
    fn call(&self, token: u64, change: impl FnOnce(&mut Kept)) -> Result<()> {
        let mut kept = lock(&self.0);
        if token < kept.token {
            return Err(Error::new(ErrorKind::Stopped, format!("the run {token} comes late")));
        }
        kept.token = token;
        change(&mut kept);
        Ok(())
    }
}

impl Transactional<i64> for Remote {
    type Prepared = i64;

    fn prepare(&self, rdd: &Rdd<i64>, batch: &OutputBatch) -> Result<i64> {
        let (at, mut items) = (batch.time().as_millis() / 1000, rdd.collect()?);
        items.sort_unstable();
        self.call(batch.fencing_token(), |kept| drop(kept.prepared.insert(at, items)))?;
        Ok(at)
    }

    fn commit(&self, at: &i64, batch: &OutputBatch) -> Result<()> {
        self.call(batch.fencing_token(), |kept| match kept.prepared.remove(at) {
            Some(items) if !kept.committed.contains_key(at) => drop(kept.committed.insert(*at, items)),
            Some(_) => kept.wrong.push(format!("{at} is there twice")),
            None if kept.committed.contains_key(at) => {}
            None => kept.wrong.push(format!("{at} was not prepared")),
        })
    }

    fn abort(&self, at: &i64, batch: &OutputBatch) -> Result<()> {
        self.call(batch.fencing_token(), |kept| drop(kept.prepared.remove(at)))
    }

    fn recover(&self, known: &[(OutputBatch, i64)], run: &OutputRun) -> Result<()> {
        self.call(run.fencing_token(), |kept| kept.prepared.retain(|at, _| known.iter().any(|known| known.1 == *at)))
    }
}

/// What outputs gave, by batch: of the window and of the state.
type Given = Arc<Mutex<BTreeMap<i64, [Vec<i64>; 2]>>>;

fn program(ssc: &StreamingContext, told: Told, sink: &Remote, given: &Given) {
    let numbers = ssc.receiver_stream(told).uid("told");
    numbers.save_to(sink.clone()).uid("sink");
    let sums = StateSpec::function(|_: &u8, n: Option<i64>, sum: &mut State<'_, i64>| {
        let total = sum.get_option().copied().unwrap_or(0) + n.unwrap_or(0);
        sum.update(total);
        total
    });
    let sums = numbers.map(|n| (0u8, n)).map_with_state(sums).checkpoint(secs(1)).uid("sums").stream();
    let window = numbers.window(secs(2));
    for (which, stream) in [window, sums].into_iter().enumerate() {
        let given = Arc::clone(given);
        stream.foreach_rdd(move |rdd, time| {
            let mut row = rdd.collect()?;
            row.sort_unstable();
            lock(&given).entry(time.as_millis() / 1000).or_default()[which] = row;
            Ok(())
        });
    }
}

/// A driver that pauses between batches while another takes over, and whose receiver wakes: what it receives is not acknowledged, and
/// what was acknowledged is in one batch.
pub(crate) fn a_late_receiver_acknowledges_nothing(world: &World) {
    let (sink, given) = (Remote::default(), Given::default());
    let begin = |now: i64| {
        let (tell, told) = channel();
        let life = world.life(now, |builder| {
            builder.get_or_create("/numbers", |ssc| {
                program(ssc, Told(told), &sink, &given);
                Ok(())
            })
        });
        Driver { life: life.unwrap(), tell: Some(tell) }
    };
    let old = begin(0);
    let durable = |(outcome, acknowledged): (Result<()>, bool)| outcome.is_ok() && acknowledged;
    assert!(durable(old.store(&[1, 2], 2)));
    old.life.to(1).unwrap();
    // Acknowledged, and given to no batch.
    assert!(durable(old.store(&[3], 3)));

    let new = begin(1);
    assert_eq!(new.position(), Some(3), "the sender goes on behind what was acknowledged to anybody");
    let (outcome, acknowledged) = old.store(&[70, 80], 5);
    assert!(!acknowledged, "nobody would ever see it");
    assert!(outcome.unwrap_err().to_string().contains("another process"));
    assert!(durable(new.store(&[4, 5], 5)));
    new.life.to(3).unwrap();
    let error = old.life.to(2).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    old.end();
    assert!(durable(new.store(&[6], 6)));
    new.life.to(4).unwrap();
    new.end();

    let last = begin(4);
    assert_eq!(last.position(), Some(6));
    last.life.to(5).unwrap();
    last.end();
    let kept = lock(&sink.0);
    assert_eq!(kept.wrong, [""; 0]);
    // What nobody had been given is in the first batch that is not one of an earlier run; what came then, in the same.
    let want: [(i64, &[i64], &[i64], &[i64]); 5] = [
        (1, &[1, 2], &[1, 2], &[1, 3]),
        (2, &[3, 4, 5], &[1, 2, 3, 4, 5], &[6, 10, 15]),
        (3, &[], &[3, 4, 5], &[]),
        (4, &[6], &[6], &[21]),
        (5, &[], &[6], &[]),
    ];
    let committed: BTreeMap<_, _> = want.iter().map(|(at, items, ..)| (*at, items.to_vec())).collect();
    assert_eq!(kept.committed, committed, "each once");
    let gave: BTreeMap<_, _> =
        want.iter().map(|(at, _, window, sums)| (*at, [window.to_vec(), sums.to_vec()])).collect();
    assert_eq!(*lock(&given), gave, "windows and sums");
}

/// Files are not in the bucket, and `explain` says so.
pub(crate) fn files_are_said_to_be_elsewhere(world: &World) {
    let (tell, told) = channel::<Doing>();
    let life = world.life(0, |builder| {
        builder.get_or_create("/files", |ssc| {
            let stream = ssc.receiver_stream(Told(told));
            stream.save_as_text_files("/nowhere/out", "");
            let text = ssc.explain();
            assert!(text.contains("the checkpoint is in a bucket, and files are not"), "{text}");
            Ok(())
        })
    });
    drop(tell);
    life.unwrap().end();
}
