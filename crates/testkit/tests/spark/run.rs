//! One program on millstream: it gets what Spark got, and must give what Spark gave.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{ExchangeData, Rdd, Result, Text, Time, secs};
use millstream_streaming::{DStream, RddQueue, StreamingContext};
use millstream_testkit::{Batches, Check, Row, StreamTest};
use serde::Deserialize;
use serde_json::Value;

/// The bodies of a family, by name.
pub(crate) type Programs = &'static [(&'static str, fn(&Run<'_>))];

/// The numbers of partitions on which Spark was asked.
const PARTITIONS: [usize; 2] = [1, 7];

/// Where the answers are.
pub(crate) fn folder() -> PathBuf {
    // Tests run in the folder of their crate, which may be another one: it replays them, too.
    PathBuf::from("../testkit/spark")
}

/// Programs that millstream answers in another way than Spark: the family, the program, and how. A test fails if it
/// answers as Spark does.
const DEPARTURES: &[(&str, &str, &str)] = &[
    ("elements", "count_missing", "a batch without an Rdd has no count; Spark fails, since it counts by `transform`"),
    ("elements", "count_partitions", "a count is one partition; on Spark as many as the default"),
    ("elements", "repartition_missing", "a batch without an Rdd stays so; on Spark it fails"),
    ("inverse_windows", "filter_that_drops_too_early", "a dropped key that leaves is let be; on Spark it fails"),
    ("inverse_windows", "of_cancelling_values", "a dropped key that leaves is let be; on Spark it fails"),
    (
        "inverse_windows",
        "with_gaps",
        "batches between windows never count; on Spark those before the first do, for ever",
    ),
    ("inverse_windows", "with_gaps_filtered", "the same"),
    ("rdds", "tree_aggregate_with_a_zero_that_is_none", "the zero counts once a partition and once; on Spark oftener"),
];

// ---- what Spark said ----

/// A stream's batches; one that is `None` had no Rdd.
type Rows = Vec<Option<Vec<Value>>>;

#[derive(Deserialize)]
struct Family {
    programs: BTreeMap<String, Program>,
}

#[derive(Deserialize)]
struct Program {
    #[serde(rename = "in")]
    inputs: Vec<Value>,
    /// What it gave, if that does not depend on the number of partitions.
    #[serde(flatten)]
    everywhere: Option<Gave>,
    #[serde(rename = "on 1")]
    on_1: Option<Gave>,
    #[serde(rename = "on 7")]
    on_7: Option<Gave>,
}

impl Program {
    /// The ways to run it, each with its number of partitions. In other processes, which take longer, what does not depend on
    /// that runs once, on two.
    fn ways(&self) -> Vec<(usize, Check)> {
        let elsewhere = Check::new(2, 2).everywhere().into_iter().filter(Check::is_elsewhere);
        let once: Vec<_> = elsewhere.filter(|_| self.everywhere.is_some()).map(|how| (2, how)).collect();
        if !once.is_empty() {
            return once;
        }
        PARTITIONS
            .into_iter()
            .flat_map(|n| Check::new(n, 2).everywhere().into_iter().map(move |how| (n, how)))
            .collect()
    }

    fn gave(&self, partitions: usize) -> &Gave {
        let here = if partitions == 1 { &self.on_1 } else { &self.on_7 };
        here.as_ref().or(self.everywhere.as_ref()).expect("Spark's word for this number of partitions")
    }
}

#[derive(Deserialize)]
struct Gave {
    out: Vec<Output>,
    fails: Option<Fails>,
}

#[derive(Deserialize)]
enum Output {
    #[serde(rename = "in order")]
    InOrder(Rows),
    #[serde(rename = "any order")]
    AnyOrder(Rows),
}

impl Output {
    fn rows(&self) -> &Rows {
        match self {
            Output::InOrder(rows) | Output::AnyOrder(rows) => rows,
        }
    }

    /// Puts batches whose order is not promised into one order.
    fn canonical(&self, mut rows: Rows) -> Rows {
        if matches!(self, Output::AnyOrder(_)) {
            rows.iter_mut().flatten().for_each(|row| row.sort_by_cached_key(Value::to_string));
        }
        rows
    }
}

/// When a program fails.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fails {
    /// It does not start.
    Start,
    /// It fails in the batch behind the last that is recorded.
    Batch,
}

// ---- what we say ----

/// What a body works with: the inputs that Spark had, one after the other, and a place for its outputs.
pub(crate) struct Run<'a> {
    test: &'a StreamTest,
    partitions: usize,
    inputs: RefCell<VecDeque<Value>>,
    outputs: RefCell<Vec<Arc<Mutex<BTreeMap<Time, Vec<Value>>>>>>,
}

impl Run<'_> {
    pub(crate) fn ssc(&self) -> &StreamingContext {
        self.test.ssc()
    }

    /// The rows of the next input.
    fn rows<T: ExchangeData>(&self) -> Vec<Option<Vec<T>>> {
        let next = self.inputs.borrow_mut().pop_front().expect("as many inputs as Spark's body has");
        serde_json::from_value(next).expect("elements of this type")
    }

    /// The next input as a stream.
    pub(crate) fn input<T: ExchangeData>(&self) -> DStream<T> {
        let rows = self.rows().into_iter().map(|row| row.map_or(Row::Missing, Row::Elements)).collect();
        self.test.input(Batches::new(rows))
    }

    pub(crate) fn numbers(&self) -> DStream<i64> {
        self.input()
    }

    pub(crate) fn words(&self) -> DStream<Text> {
        self.input()
    }

    pub(crate) fn pairs(&self) -> DStream<(Text, i64)> {
        self.input()
    }

    /// The next input as a queue of Rdds.
    pub(crate) fn queue(&self) -> RddQueue<i64> {
        self.rows().into_iter().flatten().map(|row| self.rdd(row)).collect()
    }

    /// A static Rdd.
    pub(crate) fn rdd<T: ExchangeData>(&self, elements: impl IntoIterator<Item = T>) -> Rdd<T> {
        self.ssc().context().parallelize(elements.into_iter().collect(), self.partitions)
    }

    /// A static Rdd of pairs.
    pub(crate) fn table<V: ExchangeData>(&self, pairs: impl IntoIterator<Item = (&'static str, V)>) -> Rdd<(Text, V)> {
        self.rdd(pairs.into_iter().map(|(key, value)| (Text::from(key), value)))
    }

    /// Compares a stream with Spark's. Whether order counts is what was recorded.
    pub(crate) fn output<T: ExchangeData>(&self, stream: &DStream<T>) {
        let output = Arc::new(Mutex::new(BTreeMap::new()));
        self.outputs.borrow_mut().push(Arc::clone(&output));
        stream.foreach_rdd(move |rdd, time| {
            let elements = rdd.collect()?.iter().map(|element| serde_json::to_value(element).expect("JSON")).collect();
            lock(&output).insert(time, elements);
            Ok(())
        });
    }

    /// Compares what an action says of each batch. It runs when the batch is planned.
    pub(crate) fn action<T: ExchangeData, U: ExchangeData>(
        &self,
        stream: &DStream<T>,
        action: impl Fn(Rdd<T>) -> Result<Vec<U>> + Send + 'static,
    ) {
        self.output(&stream.transform(move |rdd, _| {
            let context = rdd.context().clone();
            match action(rdd) {
                Ok(values) => context.parallelize(values, 1),
                Err(error) => context.failed(error),
            }
        }));
    }
}

/// A list in order, where Spark does not promise one.
pub(crate) fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// Runs the programs of a family and compares what they give with what Spark gave: on as many partitions, as it is and
/// with every stage written to bytes.
#[track_caller]
pub(crate) fn replay(family: &str, programs: Programs) {
    let path = folder().join(format!("{family}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let recorded: Family = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));

    let written = programs_in_java(family);
    let as_written = recorded.programs.keys().eq(&written);
    assert!(as_written, "{family}: Spark's bodies are others than were recorded; run `cargo xtask record-spark`");
    let asked: BTreeSet<&str> = recorded.programs.keys().map(String::as_str).collect();
    let bodies: BTreeSet<&str> = programs.iter().map(|(name, _)| *name).collect();
    assert_eq!(bodies.len(), programs.len(), "{family}: a name has two bodies");
    let without: Vec<_> = asked.difference(&bodies).collect();
    assert!(without.is_empty(), "{family}: Spark was asked, but there is no body in Rust for {without:?}");
    let unasked: Vec<_> = bodies.difference(&asked).collect();
    assert!(unasked.is_empty(), "{family}: there is a body in Rust, but Spark was not asked for {unasked:?}");

    let departures: BTreeSet<&str> =
        DEPARTURES.iter().filter(|(of, ..)| *of == family).map(|(_, name, _)| *name).collect();
    assert!(departures.is_subset(&asked), "{family}: departures of programs that are not: {departures:?}");

    let mut differences = String::new();
    for (name, body) in programs {
        let (mut found, recorded) = (String::new(), &recorded.programs[*name]);
        for (partitions, how) in recorded.ways() {
            if let Err(difference) = compare(recorded, *body, partitions, how) {
                found.push_str(&format!("\n{family}: {name}, {how:?}: {difference}"));
            }
        }
        match (departures.contains(name), found.is_empty()) {
            (false, _) => differences.push_str(&found),
            (true, false) => {}
            (true, true) => differences.push_str(&format!("\n{family}: {name} is as on Spark: no departure any more")),
        }
    }
    assert!(differences.is_empty(), "millstream is not as Spark is:{differences}");
}

/// The names of a family's programs in Java.
fn programs_in_java(family: &str) -> BTreeSet<String> {
    let class: String = family.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    let path = folder().join("java").join(format!("{class}.java"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let programs = text.lines().filter_map(|line| line.strip_prefix("  static void ")?.split_once("(Run run)"));
    programs.map(|(name, _)| snake(name)).collect()
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn compare(program: &Program, body: fn(&Run<'_>), partitions: usize, how: Check) -> std::result::Result<(), String> {
    let gave = program.gave(partitions);
    let mut test = how.with_conf(secs(1), |conf| *conf = conf.clone().spark_compatible());
    let run = Run {
        test: &test,
        partitions,
        inputs: RefCell::new(program.inputs.iter().cloned().collect()),
        outputs: RefCell::default(),
    };
    body(&run);
    let Run { inputs, outputs, .. } = run;
    let outputs = outputs.into_inner();
    assert!(inputs.into_inner().is_empty(), "the body leaves inputs");

    let batches = gave.out.iter().map(|output| output.rows().len()).max().unwrap_or(0);
    match (test.run(0), gave.fails) {
        (Ok(()), Some(Fails::Start)) => return Err("it starts, and does not on Spark".to_owned()),
        (Err(_), Some(Fails::Start)) => return Ok(()),
        (Err(error), _) => return Err(format!("it does not start: {error}")),
        (Ok(()), _) => {}
    }
    test.run(batches).map_err(|error| format!("it fails: {error}"))?;
    if outputs.len() != gave.out.len() {
        return Err(format!("{} outputs, but {} on Spark", outputs.len(), gave.out.len()));
    }
    for (number, (output, spark)) in outputs.iter().zip(&gave.out).enumerate() {
        let output = lock(output);
        let rows = (1..=batches as i64).map(|batch| output.get(&Time::from_millis(batch * 1000)).cloned()).collect();
        let (ours, theirs) = (spark.canonical(rows), spark.canonical(spark.rows().clone()));
        if ours != theirs {
            return Err(format!("output {number}\n  Spark {}\n  ours  {}", Shown(&theirs), Shown(&ours)));
        }
    }
    if gave.fails == Some(Fails::Batch) && test.run(1).is_ok() {
        return Err(format!("batch {} fails on Spark", batches + 1));
    }
    Ok(())
}

/// Shows batches with bars between.
struct Shown<'a>(&'a Rows);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, row) in self.0.iter().enumerate() {
            let bar = if n == 0 { "" } else { " | " };
            match row {
                None => write!(f, "{bar}no Rdd")?,
                Some(row) => {
                    write!(f, "{bar}")?;
                    row.iter().try_for_each(|element| write!(f, "{element} "))?;
                }
            }
        }
        Ok(())
    }
}
