// The real disk keeps what a Disk promises, as far as one can see without a crash.

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_file_is_made_once_appended_to_and_read() {
    let (folder, disk) = (folder(), RealDisk);
    let path = folder.path().join("a");
    let mut file = disk.create(&path).unwrap();
    file.append(b"one").unwrap();
    file.sync().unwrap();
    assert_eq!(file.len(), 3);
    let error = disk.create(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("/a could not be made"), "{error}");
    let mut again = disk.open_append(&path).unwrap();
    again.append(b"two").unwrap();
    assert_eq!(again.len(), 6);
    assert_eq!(disk.read(&path).unwrap(), b"onetwo");
    assert_eq!(disk.read_at(&path, 2, 2).unwrap(), b"et");
    disk.truncate(&path, 4).unwrap();
    assert_eq!(disk.len(&path).unwrap(), 4);
    for (offset, len) in [(3, 2), (u64::MAX, 1), (0, usize::MAX)] {
        assert_eq!(disk.read_at(&path, offset, len).unwrap_err().kind(), ErrorKind::Data);
    }
}

#[test]
fn folders_are_made_with_parents_listed_in_order_and_removed_whole() {
    let (folder, disk) = (folder(), RealDisk);
    let deep = folder.path().join("a/b/c");
    assert_eq!(disk.list(&deep).unwrap(), Vec::<String>::new());
    disk.create_folder(&deep).unwrap();
    disk.create_folder(&deep).unwrap();
    for name in ["y", "x", "z"] {
        disk.create(&deep.join(name)).unwrap();
    }
    disk.rename(&deep.join("z"), &deep.join("x")).unwrap();
    disk.sync_folder(&deep).unwrap();
    assert_eq!(disk.list(&deep).unwrap(), ["x", "y"]);
    disk.remove_file(&deep.join("y")).unwrap();
    assert_eq!(disk.remove_file(&deep.join("y")).unwrap_err().kind(), ErrorKind::Data);
    disk.remove_folder(&folder.path().join("a")).unwrap();
    disk.remove_folder(&folder.path().join("a")).unwrap();
    assert!(!disk.exists(&deep).unwrap());
}

#[test]
fn a_lock_is_held_by_one_until_it_is_dropped() {
    let (folder, disk) = (folder(), RealDisk);
    let path = folder.path().join("lock");
    let held = disk.lock(&path).unwrap().unwrap();
    held.check().unwrap();
    assert!(disk.lock(&path).unwrap().is_none());
    drop(held);
    assert!(disk.lock(&path).unwrap().is_some());
}

#[test]
fn a_file_is_replaced_whole_and_leaves_no_draft() {
    let (folder, disk) = (folder(), RealDisk);
    let path = folder.path().join("a");
    disk.create(&folder.path().join(".a.draft")).unwrap().append(b"of a writer that was stopped").unwrap();
    write_durably(&disk, &path, b"one").unwrap();
    write_durably(&disk, &path, b"two").unwrap();
    assert_eq!(disk.read(&path).unwrap(), b"two");
    assert_eq!(disk.list(folder.path()).unwrap(), ["a"]);
    assert!(write_durably(&disk, &folder.path().join("missing/a"), b"").is_err());
}
