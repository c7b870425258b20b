//! One cluster for all tests of a process: two executors with one slot each.

use std::sync::{Arc, OnceLock};

use millstream_cluster::Cluster;
use millstream_core::Result;
use millstream_core::conf::EngineConf;

/// Returns the cluster, and starts it for the first who asks. Its executors end with this process.
pub(crate) fn shared() -> Result<Arc<Cluster>> {
    static SHARED: OnceLock<Result<Arc<Cluster>>> = OnceLock::new();
    let start = || Cluster::start(&EngineConf::new("local-cluster[2,1]", "tests")?).map(Arc::new);
    SHARED.get_or_init(start).clone()
}
