//! The program that is killed: a word count with states, from a receiver that says where to go on, into a SQLite
//! database.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use millstream::core::threads::{self, lock};
use millstream::prelude::*;
use millstream::sqlite::SqliteSink;
use millstream::streaming::Position;

use crate::records::GROUPS;

/// What the program writes to. There are no keys where the audit looks for what is there twice.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS numbers (number INTEGER, batch INTEGER);
    CREATE TABLE IF NOT EXISTS batches (batch INTEGER, records INTEGER, sum INTEGER);
    CREATE TABLE IF NOT EXISTS windows (batch INTEGER, records INTEGER);
    CREATE TABLE IF NOT EXISTS totals (word TEXT PRIMARY KEY, total INTEGER);
    CREATE TABLE IF NOT EXISTS groups (number INTEGER PRIMARY KEY, records INTEGER, sum INTEGER);";

/// The batch interval, in milliseconds.
pub(crate) const INTERVAL: u64 = 50;

/// The length of the window, in milliseconds.
pub(crate) const WINDOW: u64 = 1000;

/// How many records a block has at most.
const BLOCK: usize = 500;

type Record = (u64, Vec<Text>);

/// Receives records, says where to begin, and acknowledges what is durable.
struct Numbers {
    port: u16,
    run: u64,
}

fn parse(line: &str) -> Result<Record> {
    let mut words = line.split(' ');
    let number = words.next().and_then(|number| number.parse().ok());
    let number = number.ok_or_else(|| Error::new(ErrorKind::Data, format!("`{line}` is no record")))?;
    Ok((number, words.map(Text::from).collect()))
}

impl Receiver for Numbers {
    type Item = Record;

    fn receive(&mut self, store: &mut dyn Store<Record>) -> Result<()> {
        let from = store.position().and_then(|position| position.as_u64()).unwrap_or(0) + 1;
        let connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_nodelay(true)?;
        let waking = connection.try_clone()?;
        store.on_stop(Box::new(move || drop(waking.shutdown(Shutdown::Both))));
        let answers = Arc::new(Mutex::new(connection.try_clone()?));
        writeln!(lock(&answers), "FROM {from} RUN {}", self.run)?;
        let mut lines = BufReader::new(connection);
        let mut next = from;
        loop {
            let mut block = Vec::new();
            // What has arrived is one block; the first line is waited for.
            while block.is_empty() || (block.len() < BLOCK && lines.buffer().contains(&b'\n')) {
                let mut line = String::new();
                lines.read_line(&mut line)?;
                let Some(line) = line.strip_suffix('\n') else { return Ok(()) };
                let record = parse(line)?;
                if record.0 != next {
                    return Err(Error::new(ErrorKind::Data, format!("record {} came for {next}", record.0)));
                }
                next += 1;
                block.push(record);
            }
            let (answers, last) = (Arc::clone(&answers), next - 1);
            let acknowledge = move || drop(writeln!(lock(&answers), "ACK {last}"));
            store.store_block_at(block, Position::from(last), Box::new(acknowledge))?;
        }
    }

    fn is_reliable(&self) -> bool {
        true
    }
}

fn build(ssc: &StreamingContext, port: u16, run: u64, database: &Path) -> Result<()> {
    let sink = SqliteSink::open(database)?.execute(SCHEMA)?;
    let records = ssc.receiver_stream(Numbers { port, run });

    records
        .transform(|rdd, time| rdd.map(move |(number, _)| (number, time.as_millis())))
        .save_to(sink.table("numbers", ["number", "batch"])?)
        .uid("numbers");

    records
        .map(|(number, _)| ((), (1u64, number)))
        .reduce_by_key(|a, b| (a.0 + b.0, a.1 + b.1))
        .transform(|rdd, time| rdd.map(move |(_, (records, sum))| (time.as_millis(), records, sum)))
        .save_to(sink.table("batches", ["batch", "records", "sum"])?)
        .uid("batches");

    records
        .map(|_| ((), 1i64))
        .reduce_by_key_and_window_inv(|a, b| a + b, |a, b| a - b, millis(WINDOW))
        .transform(|rdd, time| rdd.map(move |(_, records)| (time.as_millis(), records)))
        .save_to(sink.table("windows", ["batch", "records"])?)
        .uid("windows");

    let total = StateSpec::function(|word: &Text, new: Option<u64>, total: &mut State<'_, u64>| {
        let sum = total.get_option().copied().unwrap_or(0) + new.unwrap_or(0);
        total.update(sum);
        (word.clone(), sum)
    });
    records
        .flat_map(|(_, words)| words)
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b)
        .map_with_state(total)
        .stream()
        .uid("totals")
        .save_to(sink.table("totals", ["word", "total"])?.upsert_on(["word"])?)
        .uid("totals");

    records
        .map(|(number, _)| (number % GROUPS, number))
        .update_state_by_key(|new, old: Option<(u64, u64)>| {
            let (records, sum) = old.unwrap_or_default();
            Some((records + new.len() as u64, sum + new.iter().sum::<u64>()))
        })
        .uid("groups")
        .map(|(number, (records, sum))| (number, records, sum))
        .save_to(sink.table("groups", ["number", "records", "sum"])?.upsert_on(["number"])?)
        .uid("groups");
    Ok(())
}

/// Runs the program: PORT, RUN, the checkpoint directory, the database. It ends with its parent, whose end closes the
/// standard input.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let wrong = || Error::new(ErrorKind::Config, "a child is given PORT RUN CHECKPOINT DATABASE");
    let [port, run, checkpoint, database] = arguments else { return Err(wrong()) };
    let (port, run) = (port.parse().map_err(|_| wrong())?, run.parse().map_err(|_| wrong())?);
    let mut conf = Conf::new("local[2]", "soak")?;
    conf.streaming.receiver_restart_delay = millis(100);
    // Little waits where the machine has other work, so that memory says something of the program and not of the load.
    conf.streaming.receiver_waiting_items = Some(4000);
    // Short segments, so that minutes show whether old ones go.
    conf.streaming.receiver_log.rolling_interval = secs(2);
    let ssc = StreamingContext::builder(conf, millis(INTERVAL))
        .get_or_create(checkpoint, |ssc| build(ssc, port, run, Path::new(database)))?;
    ssc.start()?;
    ssc.stop_gracefully_on_signals()?;
    let orphan = ssc.clone();
    threads::spawn("orphan", move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(orphan.stop());
    })?
    .detach();
    ssc.await_termination()
}
