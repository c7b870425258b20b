//! Which Rdds are kept: CX20.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::everywhere;
use millstream_core::StorageLevel;

#[test]
fn cx20_the_context_knows_which_rdds_are_kept_and_how_much_of_them() {
    everywhere(|context, n| {
        assert!(context.persistent_rdds().is_empty());
        let kept = context.range(0, 70, 1, n).persist(StorageLevel::MEMORY_AND_DISK);
        let other = kept.map(|x| x + 1).cache();
        let info = context.rdd_storage_info();
        assert_eq!(
            info.iter().map(|i| (i.id, i.kept_partitions)).collect::<Vec<_>>(),
            [(kept.id(), 0), (other.id(), 0)]
        );
        assert_eq!((info[0].level, info[0].partitions), (StorageLevel::MEMORY_AND_DISK, n));
        assert_eq!((info[0].site.op(), info[1].site.op()), ("range", "map"));
        other.take(1).unwrap();
        assert!(context.rdd_storage_info().iter().all(|info| info.kept_partitions == 1), "what was read");
        other.count().unwrap();
        assert!(context.rdd_storage_info().iter().all(|info| info.kept_partitions == n));
        let ids: Vec<_> = context.persistent_rdds().iter().map(|rdd| rdd.node().id()).collect();
        assert_eq!(ids, [kept.id(), other.id()]);
        context.persistent_rdds()[0].unpersist();
        assert_eq!(kept.storage_level(), StorageLevel::NONE);
        assert_eq!(context.rdd_storage_info().len(), 1);
        drop(other);
        assert!(context.persistent_rdds().is_empty(), "nobody can read it any more");
    });
}
