//! Looks at a cluster of Kafka: topics, records, and how far a group is. (What Kafka's own shell scripts do.)
//!
//! ```text
//! cargo run --example kafka_console --features kafka -- BROKERS topics
//! … create TOPIC PARTITIONS
//! … describe TOPIC             where its partitions begin and end
//! … delete TOPIC
//! … produce TOPIC [PARTITION]  the lines of its input: `value`, or `key<TAB>value`
//! … consume TOPIC              all that is there, from the beginning
//! … groups
//! … lag TOPIC GROUP            how far a group is behind
//! ```
//!
//! Without anything it shows all that on a pretended broker of its own: a demo.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

use std::io::BufRead;

use millstream::kafka::{self, Admin, Brokers, DemoCluster, NewRecord};
use millstream::{Context, Error, ErrorKind, Result};

const USAGE: &str = "kafka_console BROKERS topics | create TOPIC PARTITIONS | describe TOPIC | delete TOPIC | \
                     produce TOPIC [PARTITION] | consume TOPIC | groups | lag TOPIC GROUP";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((brokers, words)) = words.split_first() else { return demo() };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| {
        text.parse::<i32>().map_err(|_| Error::new(ErrorKind::Config, format!("`{text}` is no number; {USAGE}")))
    };
    let admin = Admin::of(brokers.as_str())?;
    match words[..] {
        ["topics"] => {
            for (topic, partitions) in admin.topics()? {
                println!("{topic}\t{partitions} partitions");
            }
            Ok(())
        }
        ["create", topic, partitions] => admin.create_topic(topic, number(partitions)?, &[]),
        ["describe", topic] => describe(&admin, topic, None),
        ["delete", topic] => admin.delete_topic(topic),
        ["produce", topic] => produce(brokers, topic, None, std::io::stdin().lock()),
        ["produce", topic, partition] => produce(brokers, topic, Some(number(partition)?), std::io::stdin().lock()),
        ["consume", topic] => consume(brokers, topic),
        ["groups"] => {
            admin.groups()?.iter().for_each(|group| println!("{group}"));
            Ok(())
        }
        ["lag", topic, group] => describe(&admin, topic, Some(group)),
        _ => Err(Error::new(ErrorKind::Config, format!("what is to be done? {USAGE}"))),
    }
}

/// Shows where partitions begin and end, and how far a group is.
fn describe(admin: &Admin, topic: &str, group: Option<&str>) -> Result<()> {
    for lag in admin.lag(topic, group)? {
        let (begin, end) = lag.there;
        let behind = match (group, lag.committed) {
            (None, _) => String::new(),
            (Some(_), None) => "\tnothing committed".to_owned(),
            (Some(_), Some(at)) => format!("\tcommitted {at}, {} behind", lag.offsets()),
        };
        println!("{}\tfrom {begin} until {end}{behind}", lag.partition);
    }
    Ok(())
}

/// Writes lines, a record each.
fn produce(brokers: &str, topic: &str, partition: Option<i32>, lines: impl BufRead) -> Result<()> {
    let mut records = Vec::new();
    for line in lines.lines() {
        let line = line?;
        let record = match line.split_once('\t') {
            Some((key, value)) => NewRecord::value(value).key(key),
            None => NewRecord::value(line),
        };
        records.push(partition.into_iter().fold(record, NewRecord::partition));
    }
    println!("{} records to {topic}", records.len());
    kafka::write(Brokers::at(brokers), topic, records)
}

/// Shows all that is in a topic.
fn consume(brokers: &str, topic: &str) -> Result<()> {
    let context = Context::new("local[2]", "kafka console")?;
    let records = kafka::rdd(&context, brokers, kafka::all_of(brokers, [topic])?)?;
    for record in records.collect()? {
        println!("{record:?}");
    }
    Ok(())
}

fn demo() -> Result<()> {
    println!("this is a demo, on a pretended broker; {USAGE}");
    let cluster = DemoCluster::start([("greetings", 2)])?;
    let brokers = cluster.brokers();
    produce(&brokers, "greetings", None, &b"world\thello\nmoon\tgood evening\nhi"[..])?;
    produce(&brokers, "greetings", Some(1), &b"to partition 1"[..])?;
    describe(&Admin::of(brokers.as_str())?, "greetings", None)?;
    consume(&brokers, "greetings")
}
