//! Joins orders, which come as JSON over Kafka, with a table of prices. (A stream ⋈ a static Rdd.)
//!
//! ```text
//! cargo run --release --example kafka_join_table --features kafka -- BROKERS TOPIC
//! ```
//!
//! A record is `{"item": "tea", "amount": 2}`. Without anything it runs for some batches on a pretended broker of its
//! own: a demo.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

use millstream::kafka::{self, DemoCluster, Record, Start};
use millstream::prelude::*;

#[derive(serde::Deserialize)]
struct Order {
    item: String,
    amount: u64,
}

/// What something costs, in cents.
const PRICES: [(&str, u64); 3] = [("tea", 250), ("coffee", 310), ("cake", 420)];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ssc = StreamingContext::new("local[2]", "kafka join table", secs(1))?;
    match &words[..] {
        [brokers, topic] => {
            program(&ssc, brokers, topic);
            ssc.start()?;
            ssc.stop_on_signals()?;
            ssc.await_termination()
        }
        [] => {
            println!("this is a demo, on a pretended broker: name a broker and a topic for more");
            let cluster = DemoCluster::start([("orders", 2)])?;
            let brokers = cluster.brokers();
            program(&ssc, &brokers, "orders");
            ssc.start()?;
            let orders = [r#"{"item": "tea", "amount": 2}"#, r#"{"item": "cake", "amount": 1}"#, "this is no order"];
            kafka::write(brokers.as_str(), "orders", orders)?;
            ssc.await_termination_or_timeout(millis(2500))?;
            ssc.stop()
        }
        _ => Err(Error::new(ErrorKind::Config, "kafka_join_table BROKERS TOPIC")),
    }
}

fn program(ssc: &StreamingContext, brokers: &str, topic: &str) {
    let prices: Vec<(String, u64)> = PRICES.map(|(item, price)| (item.to_owned(), price)).to_vec();
    let prices = ssc.context().parallelize(prices, 2);
    let records = ssc.input(kafka::direct(brokers).subscribe([topic]).start(Start::Earliest));
    // What cannot be read is told, and left out.
    let orders = records.flat_map(|record: Record| match record.json::<Order>() {
        Ok(order) => Some((order.item, order.amount)),
        Err(error) => {
            eprintln!("left out: {error}");
            None
        }
    });
    let due = orders.transform(move |rdd, _| rdd.join(&prices).map(|(item, (amount, price))| (item, amount * price)));
    due.print();
}
