//! The commands of a program: what is in its checkpoint, what another build makes of it, and one batch again.

mod builds;

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use millstream_core::clock::{Clock, ManualClock};
use millstream_core::disk::Disk;
use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, Result, Time, secs};
use millstream_streaming::commands::{Answer, answer};
use millstream_streaming::{Conf, DStream, Position, Receiver, State, StateSpec, Store, StreamingContext};
use millstream_testkit::SimDisk;

use self::builds::{Seen, Ticks, run, run_with};

type Pairs = DStream<(String, i64)>;

fn sums(pairs: &Pairs) -> DStream<(String, i64)> {
    pairs.update_state_by_key(|new: Vec<i64>, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()))
}

fn narrow_sums(pairs: &Pairs) -> DStream<(String, i32)> {
    pairs.update_state_by_key(|new: Vec<i64>, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i64>() as i32))
}

/// Asks a build of the program on a disk.
fn ask(disk: &SimDisk, line: &str, build: &dyn Fn(&StreamingContext)) -> Result<(Answer, String)> {
    ask_words(disk, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>(), build)
}

/// As [`ask`]: a word may have a space in it.
fn ask_words(disk: &SimDisk, words: &[String], build: &dyn Fn(&StreamingContext)) -> Result<(Answer, String)> {
    let mut conf = Conf::new("local[1]", "builds")?;
    conf.streaming.exclusive = false;
    let builder = StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(ManualClock::new(Time::ZERO)) as Arc<dyn Clock>)
        .with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>);
    let setup = |ssc: &StreamingContext| {
        build(ssc);
        Ok(())
    };
    let mut out = Vec::new();
    let answered = answer(words, Some((builder, &setup)), &mut out)?;
    Ok((answered, String::from_utf8(out).expect("it is a text")))
}

/// Asks what must not change anything.
fn look(disk: &SimDisk, line: &str, build: &dyn Fn(&StreamingContext)) -> Result<(Answer, String)> {
    let before = disk.operations().len();
    let answered = ask(disk, line, build);
    assert_eq!(disk.operations().len(), before, "`{line}` has written");
    answered
}

fn first_build() -> SimDisk {
    let disk = SimDisk::new(1);
    run(&disk, 1, 3, |ssc| {
        let ticks = ssc.input(Ticks).uid("ticks");
        narrow_sums(&ticks).checkpoint(secs(1)).uid("sums").print_first(0);
        sums(&ticks).checkpoint(secs(1)).print_first(0);
    })
    .expect("a program that runs");
    disk
}

fn second_build(ssc: &StreamingContext) {
    let ticks = ssc.input(Ticks).uid("ticks");
    sums(&ticks).uid("sums").migrate_from(|narrow: i32| i64::from(narrow)).print_first(0);
    ticks
        .map_with_state(StateSpec::function(|_: &String, n: Option<i64>, _: &mut State<'_, i64>| n))
        .uid("seen")
        .print_first(0);
}

#[test]
fn inspect_shows_what_is_kept_and_where_and_changes_nothing() {
    let disk = first_build();
    let (answered, text) = look(&disk, "checkpoint inspect /checkpoint", &|_| {}).unwrap();
    assert_eq!(answered, Answer::Yes);
    for part in ["application     local-", "last batch      3000", "state sums 3000", "text => i32", "(no uid)"] {
        let collapsed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(collapsed(&text).contains(&collapsed(part)), "`{part}` is not in:\n{text}");
    }
    let (_, json) = look(&disk, "checkpoint inspect /checkpoint --json", &|_| {}).unwrap();
    for part in ["\"starts\": 1", "\"interval_ms\": 1000", "\"name\": \"update_state_by_key 1\"", "\"batch_ms\": 3000"]
    {
        assert!(json.contains(part), "`{part}` is not in:\n{json}");
    }
}

#[test]
fn plan_says_what_becomes_of_everything_and_upgrade_does_it_with_consent() {
    let disk = first_build();
    let (answered, text) = look(&disk, "checkpoint plan /checkpoint", &second_build).unwrap();
    assert_eq!(answered, Answer::No, "{text}");
    for part in
        ["migrated  text => i32, then text => i64", "new", "refused", "- state update_state_by_key 1", "(drop_kept)"]
    {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    // A name with a space in it is one word.
    let drop = "--drop=update_state_by_key 1".to_owned();
    let with_drop = |what: &str| {
        let mut words: Vec<String> = ["checkpoint", what, "/checkpoint"].map(str::to_owned).to_vec();
        words.push(drop.clone());
        words
    };
    let json: Vec<String> = with_drop("plan").into_iter().chain(["--json".to_owned()]).collect();
    let (answered, json) = ask_words(&disk, &json, &second_build).unwrap();
    assert_eq!(answered, Answer::Yes, "{json}");
    assert!(json.contains("\"becomes\": \"dropped\"") && json.contains("\"goes_on\": true"), "{json}");
    // The start is refused as long as nobody has consented.
    assert!(run(&disk, 4, 4, second_build).is_err());
    let (answered, text) = ask(&disk, "checkpoint upgrade /checkpoint", &second_build).unwrap();
    assert!(answered == Answer::No && text.contains("nothing was changed"), "{text}");
    let (answered, text) = ask_words(&disk, &with_drop("upgrade"), &second_build).unwrap();
    assert!(answered == Answer::Yes && text.contains("this program's now"), "{text}");
    let seen = Seen::default();
    run(&disk, 4, 4, |ssc| {
        second_build(ssc);
        seen.of(&ssc.input(Ticks).uid("more").map(|(_, n)| n));
    })
    .unwrap();
    let (_, text) = look(&disk, "checkpoint inspect /checkpoint", &second_build).unwrap();
    assert!(!text.contains("update_state_by_key 1") && text.contains("seen"), "{text}");
}

#[test]
fn names_that_shift_are_given_once_by_upgrade_and_a_program_that_says_so_itself_is_refused() {
    let disk = SimDisk::new(7);
    let first = |n: i64| move |(k, _): (String, i64)| (k, n);
    let two = |ssc: &StreamingContext| {
        let ticks = ssc.input(Ticks).uid("ticks");
        (1..=2).for_each(|n| drop(sums(&ticks.map(first(n))).checkpoint(secs(1)).print_first(0)));
    };
    run(&disk, 1, 3, two).unwrap();
    let seen = [Seen::default(), Seen::default(), Seen::default()];
    let three = |ssc: &StreamingContext| {
        let ticks = ssc.input(Ticks).uid("ticks");
        (0..=2).zip(&seen).for_each(|(n, seen)| seen.of(&sums(&ticks.map(first(n))).checkpoint(secs(1))));
    };
    let shifts =
        [("update_state_by_key 2", "update_state_by_key 3"), ("update_state_by_key 1", "update_state_by_key 2")];
    let said = |ssc: &StreamingContext| {
        shifts.iter().for_each(|(old, new)| ssc.rename_kept(*old, *new));
        three(ssc);
    };
    // A start after the first would shift them once more.
    let text = run(&disk, 4, 4, said).unwrap_err().to_string();
    assert!(
        text.contains("could not tell the two apart") && text.contains("--rename 'update_state_by_key 1="),
        "{text}"
    );
    let mut words = ["checkpoint", "upgrade", "/checkpoint"].map(str::to_owned).to_vec();
    words.extend(shifts.map(|(old, new)| format!("--rename={old}={new}")));
    let (answered, text) = ask_words(&disk, &words, &three).unwrap();
    assert_eq!(answered, Answer::Yes, "{text}");
    for to in [4, 5] {
        run(&disk, to, to, three).unwrap();
    }
    let sums = seen.map(|seen| seen.last()[0].1);
    assert_eq!(sums, [0, 5, 10], "each has gone on from its own");
}

#[test]
fn an_engine_that_is_not_the_programs_goes_on_and_saves_where_it_did() {
    let (disk, own) = (first_build(), tempfile::tempdir().unwrap());
    let engine = Context::new("local[1]", "mine").unwrap();
    engine.set_checkpoint_dir(own.path()).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let answered = |line: &str, setup: &dyn Fn(&StreamingContext) -> Result<()>| {
        let mut conf = Conf::new("local[1]", "builds").unwrap();
        conf.streaming.exclusive = false;
        let builder = StreamingContext::builder(conf, secs(1)).with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>);
        answer(&words(line), Some((builder.on_engine(&engine), setup)), &mut Vec::new())
    };
    let second = |ssc: &StreamingContext| {
        second_build(ssc);
        Ok(())
    };
    assert_eq!(answered("checkpoint plan /checkpoint", &second).unwrap(), Answer::No);
    let fails = |_: &StreamingContext| Err(Error::new(ErrorKind::Data, "it does not go"));
    assert!(answered("checkpoint plan /checkpoint", &fails).unwrap_err().to_string().contains("it does not go"));
    let rdd = engine.parallelize(vec![1, 2], 1);
    rdd.checkpoint();
    assert_eq!(rdd.count().expect("the engine was not stopped"), 2);
    engine.await_saves().unwrap();
    assert!(std::fs::read_dir(own.path()).unwrap().next().is_some(), "it was saved elsewhere");
    engine.stop();
}

#[test]
fn what_cannot_be_answered_is_an_error_with_a_reason() {
    let disk = first_build();
    for (line, want) in [
        ("checkpoint inspect /nowhere", "there is no such folder"),
        ("checkpoint plan /checkpoint --drop nothing", "is called `nothing`"),
        ("replay /checkpoint 2000", "retain_batches"),
        ("replay /checkpoint 9000", "cannot be made again"),
        ("checkpoint plan /checkpoint --force", "no option `--force`"),
    ] {
        let build = |ssc: &StreamingContext| {
            let ticks = ssc.input(Ticks).uid("ticks");
            narrow_sums(&ticks).uid("sums").window(secs(9)).print_first(0);
            sums(&ticks).print_first(0);
        };
        let error = look(&disk, line, &build).expect_err(line).to_string();
        assert!(error.contains(want), "{line}: {error}");
    }
    let error = answer(&["checkpoint".into(), "plan".into(), "d".into()], None, &mut Vec::new()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("needs the program"), "{error}");
    // Held by a process that runs the program: one may look, and not change it.
    let held = disk.lock(Path::new("/checkpoint/lock")).unwrap().expect("it is free");
    assert!(ask(&disk, "checkpoint inspect /checkpoint", &second_build).is_ok());
    let error = ask(&disk, "checkpoint upgrade /checkpoint", &second_build).unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    drop(held);
}

#[test]
fn another_interval_is_refused_by_plan_with_the_reason() {
    let disk = SimDisk::new(3);
    builds::run_every(&disk, secs(2), 2, 2, |ssc| drop(ssc.input(Ticks).print_first(0))).unwrap();
    let (answered, text) = look(&disk, "checkpoint plan /checkpoint", &|ssc| drop(ssc.input(Ticks).print())).unwrap();
    assert!(answered == Answer::No && text.contains("refused") && text.contains("every 2s"), "{text}");
}

/// A program with all that remembers, each output with a digest.
fn remembers(ssc: &StreamingContext, store: fn()) {
    let ticks = ssc.input(Ticks).uid("ticks");
    let all = sums(&ticks).checkpoint(secs(4)).uid("sums");
    all.print();
    all.digested().uid("sums of all");
    let window = ticks.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3)).checkpoint(secs(5));
    window.uid("window").foreach_rdd(move |_, _| store()).uid("to somewhere");
    window.digested().uid("window");
}

fn replayed(ssc: &StreamingContext) {
    remembers(ssc, || panic!("no output of a replay is run"));
}

fn run_retaining(disk: &SimDisk, from: i64, to: i64) {
    let settings = |conf: &mut Conf| conf.streaming.retain_batches = 3;
    run_with(disk, 1, secs(1), from, to, &settings, |ssc| remembers(ssc, || {})).expect("a program that runs");
}

#[test]
fn a_batch_that_is_retained_is_made_again_with_the_same_digests_and_without_its_outputs() {
    let disk = SimDisk::new(4);
    for (from, to) in [(1, 7), (8, 23), (24, 24)] {
        run_retaining(&disk, from, to);
        for batch in (to - 2)..=to {
            let (answered, text) = look(&disk, &format!("replay /checkpoint {batch}000"), &replayed).unwrap();
            assert_eq!(answered, Answer::Yes, "{text}");
            assert!(text.contains("It is the batch that it was"), "{text}");
            assert_eq!(text.matches("the same").count(), 3, "print, and two that are asked for:\n{text}");
            assert!(text.contains("3 of 4 outputs compared, and 1 by the number of elements alone"), "{text}");
            let (_, last) = look(&disk, "replay /checkpoint last --json", &replayed).unwrap();
            assert!(last.contains(&format!("\"batch_ms\": {to}000")) && last.contains("\"is_same\": true"), "{last}");
        }
    }
    // A fixed function gives another batch, and a debugger shows why.
    let wrong = |ssc: &StreamingContext| {
        let ticks = ssc.input(Ticks).uid("ticks");
        let all =
            ticks.update_state_by_key(|new: Vec<i64>, old: Option<i64>| Some(old.unwrap_or(1) + new.len() as i64));
        all.uid("sums").digested().uid("sums of all");
        ticks.reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, secs(3)).uid("window").digested().uid("window");
    };
    let (answered, text) = look(&disk, "replay /checkpoint 23000", &wrong).unwrap();
    assert!(answered == Answer::No && text.contains("It is NOT the batch"), "{text}");
    // And the program goes on as if nobody had looked.
    run_retaining(&disk, 25, 25);
    let (answered, _) = look(&disk, "replay /checkpoint 25000", &replayed).unwrap();
    assert_eq!(answered, Answer::Yes);
}

#[test]
fn of_what_cannot_be_written_down_the_number_is_compared_and_without_anything_to_compare_the_answer_is_no() {
    let few = |ssc: &StreamingContext, most: i64| {
        let ticks = ssc.input(Ticks).uid("ticks");
        let some = ticks.filter(move |(_, n): &(String, i64)| *n < most);
        some.foreach_rdd(|rdd, _| rdd.count().map(drop)).uid("to somewhere");
        ticks
    };
    for (retained, most, want, part) in [
        (1, 99, Answer::Yes, "0 of 1 outputs compared, and 1 by the number of elements alone"),
        (1, 0, Answer::No, "NOT AS MANY"),
        (0, 99, Answer::No, "Nobody knows"),
    ] {
        let disk = SimDisk::new(8);
        let settings = |conf: &mut Conf| conf.streaming.retain_batches = retained;
        run_with(&disk, 1, secs(1), 1, 3, &settings, |ssc| {
            let ticks = few(ssc, 99);
            if retained == 0 {
                // What was given to the batch stays, as a later one needs it.
                ticks.window(secs(3)).foreach_rdd(|_, _| ()).uid("window");
            }
        })
        .unwrap();
        let (answered, text) = look(&disk, "replay /checkpoint 3000", &|ssc| drop(few(ssc, most))).unwrap();
        assert!(answered == want && text.contains(part), "{retained}, {most}: {text}");
    }
}

/// A program that counts the lines of files, of which some states are saved late, so that a start reads batches again.
fn lines(ssc: &StreamingContext, folder: &Path) {
    let lines = ssc.text_file_stream(folder).map(|line| (line.to_string(), 1i64));
    sums(&lines).uid("lines").print();
}

#[test]
fn a_batch_that_was_saved_behind_itself_is_made_again_and_not_read() {
    let made: Arc<Mutex<Vec<i64>>> = Arc::default();
    let build = |ssc: &StreamingContext| {
        let made = Arc::clone(&made);
        let sums = ssc.input(Ticks).uid("ticks").update_state_by_key(move |new: Vec<i64>, old: Option<i64>| {
            lock(&made).extend(&new);
            Some(old.unwrap_or(0) + new.iter().sum::<i64>())
        });
        sums.checkpoint(secs(1)).uid("sums").print();
    };
    let disk = SimDisk::new(6);
    let settings = |conf: &mut Conf| conf.streaming.retain_batches = 3;
    run_with(&disk, 1, secs(1), 1, 9, &settings, build).unwrap();
    for batch in 7..=9 {
        lock(&made).clear();
        let (answered, text) = look(&disk, &format!("replay /checkpoint {batch}000"), &build).unwrap();
        assert!(answered == Answer::Yes && text.contains("It is the batch that it was"), "{text}");
        assert!(lock(&made).contains(&batch), "the function never saw {batch}: {:?}", lock(&made));
    }
}

#[test]
fn a_batch_whose_file_was_changed_or_is_gone_is_not_made_again_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, s: u64| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let at = std::time::UNIX_EPOCH + secs(s);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    let settings = |conf: &mut Conf| conf.streaming.retain_batches = 2;
    let go =
        |disk: &SimDisk, from, to| run_with(disk, 1, secs(1), from, to, &settings, |ssc| lines(ssc, folder.path()));
    let build = |ssc: &StreamingContext| lines(ssc, folder.path());
    let disk = SimDisk::new(5);
    put("a", "x\ny\n", 1);
    put("b", "x\n", 2);
    go(&disk, 1, 2).unwrap();
    let (answered, text) = look(&disk, "replay /checkpoint 2000", &build).unwrap();
    assert!(answered == Answer::Yes && text.contains("It is the batch"), "{text}");
    put("a", "x\nz and more\n", 1);
    let changed = |error: String| {
        assert!(error.contains("is not the same any more") && error.contains("commands.rs:"), "{error}");
    };
    changed(look(&disk, "replay /checkpoint 2000", &build).unwrap_err().to_string());
    // A start needs the batch, too: the state has not been saved yet.
    changed(go(&disk.fork(), 3, 3).unwrap_err().to_string());
    let not_checked =
        run_with(&disk.fork(), 1, secs(1), 3, 3, &|conf| conf.streaming.check_inputs_again = false, |ssc| {
            lines(ssc, folder.path())
        });
    not_checked.expect("the program takes what is there now");
    std::fs::remove_file(folder.path().join("a")).unwrap();
    let error = go(&disk.fork(), 3, 3).unwrap_err().to_string();
    assert!(error.contains("which was given to a batch") && error.contains("/a"), "{error}");
    put("a", "x\ny\n", 1);
    go(&disk, 3, 3).expect("what was there is back");
}

/// Receives one block, tells that it is stored, and ends.
struct OneBlock(Arc<Mutex<Sender<()>>>);

impl Receiver for OneBlock {
    type Item = (String, i64);

    fn receive(&mut self, store: &mut dyn Store<(String, i64)>) -> Result<()> {
        if store.position().is_none() {
            let told = lock(&self.0).clone();
            let stored = Box::new(move || told.send(()).expect("the test waits for it"));
            store.store_block_at(vec![("k".into(), 5), ("l".into(), 7)], Position::from(1), stored)?;
        }
        Ok(())
    }
}

#[test]
fn a_batch_of_a_receiver_is_made_again_from_its_log_and_nothing_is_received() {
    let disk = SimDisk::new(6);
    let (told, tell) = channel();
    let told = Arc::new(Mutex::new(told));
    let build = |ssc: &StreamingContext| {
        sums(&ssc.receiver_stream(OneBlock(Arc::clone(&told)))).uid("sums").print();
    };
    let clock = ManualClock::new(Time::ZERO);
    let mut conf = Conf::new("local[1]", "received").unwrap();
    conf.streaming.exclusive = false;
    conf.streaming.retain_batches = 1;
    let ssc = StreamingContext::builder(conf, secs(1))
        .with_clock(Arc::new(clock.clone()) as Arc<dyn Clock>)
        .with_disk(Arc::new(disk.clone()) as Arc<dyn Disk>)
        .get_or_create("/checkpoint", |ssc| {
            build(ssc);
            Ok(())
        })
        .unwrap();
    ssc.start().unwrap();
    tell.recv().unwrap();
    clock.advance_to(Time::from_millis(1000));
    ssc.await_batch(Time::from_millis(1000));
    ssc.stop().unwrap();
    let (answered, text) = look(&disk, "replay /checkpoint 1000", &build).unwrap();
    assert!(answered == Answer::Yes && text.contains("It is the batch that it was"), "{text}");
    assert!(tell.try_recv().is_err(), "nothing is received");
}
