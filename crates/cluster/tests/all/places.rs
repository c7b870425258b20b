//! Parts of what lies outside that wish to be read where they were read before, as partitions of Kafka do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_cluster::Cluster;
use millstream_core::conf::EngineConf;
use millstream_core::{Context, InputSplit, Preference, Result, SplitReader, TaskContext};
use serde::{Deserialize, Serialize};

/// A part that says who reads it.
#[derive(Clone, Serialize, Deserialize)]
struct Part(u64);

struct Reader(Option<u64>);

impl InputSplit for Part {
    type Item = (u64, u32);

    fn open(&self, _: &TaskContext) -> Result<Box<dyn SplitReader<(u64, u32)>>> {
        Ok(Box::new(Reader(Some(self.0))))
    }

    fn prefers(&self) -> Option<Preference> {
        Some(Preference::same(&self.0))
    }
}

impl SplitReader<(u64, u32)> for Reader {
    fn read(&mut self, out: &mut Vec<(u64, u32)>) -> Result<bool> {
        out.extend(self.0.map(|part| (part, std::process::id())));
        Ok(self.0.take().is_some())
    }
}

#[test]
fn r62_a_part_is_read_by_the_same_executor_from_job_to_job_whatever_its_number_is() {
    let mut conf = EngineConf::new("local-cluster[2,1]", "places").unwrap();
    // Nobody is thought to be lost because the machine is busy.
    conf.set("spark.network.timeout", "60s").unwrap();
    let cluster = Arc::new(Cluster::start(&conf).unwrap());
    let context = Context::builder(conf).with_backend(cluster).build().unwrap();
    let read = |parts: [u64; 2]| -> BTreeMap<u64, u32> {
        // Also behind operations.
        let parts = context.read_splits(parts.map(Part).to_vec()).map(|part| part);
        parts.filter(|(part, _)| *part < 99).collect().unwrap().into_iter().collect()
    };
    let first = read([7, 8]);
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 2, "{first:?}");
    for parts in [[8, 7], [7, 8], [8, 7]] {
        assert_eq!(read(parts), first, "{parts:?}");
    }
}
