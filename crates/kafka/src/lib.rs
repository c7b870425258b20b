//! Kafka: topics as streams, and as a sink that takes each batch exactly once.
//!
//! A batch is a range of offsets of each partition. Which, is decided on the driver and stands in the checkpoint before
//! anything runs, so a batch is made again exactly; tasks read it where they run, by readers that are kept from batch
//! to batch.
//!
//! ```no_run
//! use millstream_core::{Result, secs};
//! use millstream_kafka as kafka;
//! use millstream_streaming::StreamingContext;
//!
//! # fn main() -> Result<()> {
//! let ssc = StreamingContext::get_or_create("/var/lib/clicks", secs(2), |ssc| {
//!     let clicks = ssc.input(
//!         kafka::direct("broker:9092").group("click-count").subscribe(["clicks"]).start(kafka::Start::Earliest),
//!     );
//!     clicks.flat_map(|record| record.to_text()).map(|page| (page, 1u64)).reduce_by_key(|a, b| a + b).print();
//!     Ok(())
//! })?;
//! ssc.start()?;
//! ssc.await_termination()
//! # }
//! ```
//!
//! # A map of the types
//!
//! | | |
//! |---|---|
//! | [`direct`] | a source of topics: [`Direct`] says which, from where, and how much at once |
//! | [`receiver`] | the older way: a member of a group, which receives at least once |
//! | [`Brokers`] | where the brokers are, and how they are spoken to |
//! | [`Record`] | a record: a cheap slice of what was fetched |
//! | [`fn@rdd`], [`rdd_by`], [`all_of`] | ranges of offsets as an Rdd, for batch programs |
//! | [`SaveToKafka::save_to_kafka`] | writes a stream to topics: [`KafkaSink`], [`NewRecord`] |
//! | [`fn@write`] | writes some records, for small programs |
//! | [`Admin`] | makes, lists, deletes topics; shows how far a group is |
//! | [`DemoCluster`] | a pretended cluster, for demos |
//! | [`OffsetRange`], [`offset_ranges`] | which offsets a batch was given |

mod admin;
mod cluster;
mod demo;
mod error;
mod limits;
#[doc(hidden)]
pub mod mistakes;
mod ranges;
mod rdd;
mod read;
mod receiver;
mod record;
mod settings;
mod sink;
mod source;
mod varint;

pub use self::admin::{Admin, Lag};
pub use self::demo::DemoCluster;
pub use self::ranges::{OffsetRange, TopicPartition};
pub use self::rdd::{all_of, offset_ranges, rdd, rdd_by};
pub use self::read::ReadBy;
pub use self::receiver::{GroupReceiver, receiver};
pub use self::record::Record;
pub use self::settings::Brokers;
pub use self::sink::{KafkaSink, NewRecord, SaveToKafka, ToRecord, WrittenBatch, write};
pub use self::source::{Direct, Given, Isolation, Locations, OnLoss, Start, direct};
