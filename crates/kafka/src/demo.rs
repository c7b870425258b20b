//! A cluster that is none, inside of the process: so that an example shows something where there is no broker.

use std::fmt;

use millstream_core::{Error, ErrorKind, Result};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A cluster of one pretended broker inside of this process, which listens on ports of 127.0.0.1 that were free.
///
/// It is for demos: it keeps some megabytes and forgets the rest, shows what was aborted, fences nobody and keeps no
/// marks. What a program does about failures cannot be seen with it.
///
/// # Example
///
/// ```
/// use millstream_core::Context;
/// use millstream_kafka::{self as kafka, DemoCluster, NewRecord};
///
/// let demo = DemoCluster::start([("clicks", 2)])?;
/// kafka::write(demo.brokers(), "clicks", [NewRecord::value("page 7").partition(1)])?;
/// let context = Context::new("local[2]", "demo")?;
/// let clicks = kafka::rdd(&context, demo.brokers(), kafka::all_of(demo.brokers(), ["clicks"])?)?;
/// assert_eq!(clicks.collect()?[0].text(), Some("page 7"));
/// # Ok::<(), millstream_core::Error>(())
/// ```
pub struct DemoCluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl DemoCluster {
    /// Starts it, with these topics and their numbers of partitions.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no ports.
    pub fn start<'a>(topics: impl IntoIterator<Item = (&'a str, i32)>) -> Result<DemoCluster> {
        let fail = |error| Error::new(ErrorKind::Unavailable, format!("a demo of Kafka cannot be started: {error}"));
        let cluster = MockCluster::new(1).map_err(fail)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, partitions, 1).map_err(fail)?;
        }
        Ok(DemoCluster { cluster })
    }

    /// Returns where it listens.
    pub fn brokers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

impl fmt::Debug for DemoCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DemoCluster({})", self.brokers())
    }
}
