//! Tables for storage levels: what is kept where, and what makes room for what.

use super::*;
use crate::error::ErrorKind;

fn id(n: u64) -> BlockId {
    BlockId::Rdd { rdd: RddId(n), partition: 0 }
}

fn store(budget: usize) -> (TieredStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let disk = DiskStore::new(folder.path().join("blocks"));
    (TieredStore::new(MemoryStore::new(budget), disk), folder)
}

fn numbers(n: u64) -> Vec<u64> {
    (0..n).collect()
}

#[test]
fn sv03_each_level_gives_back_what_was_put() {
    let (store, _folder) = store(1 << 20);
    let levels = [
        StorageLevel::MEMORY_ONLY,
        StorageLevel::MEMORY_ONLY_SER,
        StorageLevel::MEMORY_AND_DISK,
        StorageLevel::MEMORY_AND_DISK_SER_2,
        StorageLevel::DISK_ONLY,
        StorageLevel::OFF_HEAP,
    ];
    for (n, level) in levels.into_iter().enumerate() {
        store.put(id(n as u64), Block::exchange(numbers(100)), level).unwrap();
        let block = store.get(id(n as u64)).unwrap().unwrap();
        assert_eq!(*block.values::<u64>().unwrap(), numbers(100), "{level}");
        assert_eq!(block.items(), Some(100), "{level}");
        let live = matches!(block, Block::Live { .. });
        assert_eq!(live, level.deserialized(), "{level}");
    }
    assert!(store.usage().disk > 0);
    for n in 0..levels.len() as u64 {
        store.remove(id(n)).unwrap();
    }
    assert_eq!(store.usage(), StoreUsage::default());
}

#[test]
fn what_does_not_fit_is_dropped_or_moved_to_disk_as_its_level_says() {
    let (store, _folder) = store(2000);
    store.put(id(1), Block::exchange(numbers(100)), StorageLevel::MEMORY_ONLY).unwrap();
    store.put(id(2), Block::exchange(numbers(100)), StorageLevel::MEMORY_AND_DISK).unwrap();
    store.get(id(2)).unwrap();
    store.put(id(3), Block::exchange(numbers(200)), StorageLevel::MEMORY_ONLY).unwrap();
    assert!(store.get(id(1)).unwrap().is_none(), "dropped");
    assert_eq!(*store.get(id(2)).unwrap().unwrap().values::<u64>().unwrap(), numbers(100));
    assert!(store.usage().disk > 0, "moved to disk");
    assert!(store.get(id(3)).unwrap().is_some());
}

#[test]
fn received_blocks_never_make_room() {
    let (store, _folder) = store(1000);
    let received = BlockId::Received { stream: 0, sequence: 0 };
    store.put(received, Block::exchange(numbers(100)), StorageLevel::MEMORY_ONLY).unwrap();
    store.put(id(1), Block::exchange(numbers(100)), StorageLevel::MEMORY_ONLY).unwrap();
    store.put(id(2), Block::exchange(numbers(100)), StorageLevel::MEMORY_ONLY).unwrap();
    assert!(store.get(received).unwrap().is_some());
}

#[test]
fn what_cannot_be_written_is_refused_where_bytes_are_needed() {
    let (store, _folder) = store(1000);
    for level in [StorageLevel::MEMORY_ONLY_SER, StorageLevel::DISK_ONLY, StorageLevel::NONE] {
        let error = store.put(id(1), Block::live(vec![1u8]), level).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{level}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_the_block() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "x").unwrap();
    let disk = DiskStore::new(file.join("blocks"));
    let error = disk.put(id(1), Block::exchange(vec![1u8]), StorageLevel::DISK_ONLY).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("rdd-1-0"), "{error}");
    assert!(!disk.contains(id(1)));
}

#[test]
fn names_of_levels_are_read_and_written() {
    assert_eq!("MEMORY_AND_DISK_SER_2".parse::<StorageLevel>().unwrap(), StorageLevel::MEMORY_AND_DISK_SER_2);
    assert_eq!(StorageLevel::DISK_ONLY_3.to_string(), "DISK_ONLY_3");
    assert!("DISC".parse::<StorageLevel>().is_err());
}
