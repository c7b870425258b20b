//! Where Rdds come from: ranges, patterns of files, compressed files, whole files: CX03, CX06 to CX08, CX11, RD58.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;

use common::{context, everywhere, sorted};
use millstream_core::{ErrorKind, Text};

#[test]
fn cx03_a_range_is_cut_evenly_whatever_its_step() {
    everywhere(|context, n| {
        assert_eq!(context.range(0, 1000, 1, n).collect().unwrap(), (0..1000).collect::<Vec<_>>());
        assert_eq!(context.range(10, -10, -3, n).collect().unwrap(), [10, 7, 4, 1, -2, -5, -8]);
        assert_eq!(context.range(5, 5, 1, n).count().unwrap(), 0);
        assert_eq!(context.range(0, 5, -1, n).num_partitions(), n);
        let ends = context.range(i64::MIN, i64::MAX, i64::MAX, n).collect().unwrap();
        assert_eq!(ends, [i64::MIN, -1, i64::MAX - 1]);
        let sizes: Vec<u64> = context.range(0, 700, 1, n).glom().map(|p| p.len() as u64).collect().unwrap();
        assert!(sizes.iter().all(|size| *size == 700 / n as u64));
        assert_eq!(context.range(0, 5, 1, 0).num_partitions(), 1);
        assert_eq!(context.range(0, 5, 0, n).count().unwrap_err().kind(), ErrorKind::Config);
    });
}

#[test]
fn cx06_a_path_may_be_a_list_and_have_patterns_in_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a1.txt", "a2.txt", "b1.txt", ".hidden.txt", "_made.txt", "with,comma", "sub/c1.txt", "sub2/c1.txt"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{name}\n")).unwrap();
    }
    let context = context("local[2]");
    let read = |pattern: &str| {
        let list: Vec<_> = pattern.split('+').map(|one| format!("{}/{one}", folder.path().display())).collect();
        sorted(context.text_file(list.join(",")).collect().unwrap())
    };
    assert_eq!(read("a*.txt"), ["a1.txt", "a2.txt"]);
    assert_eq!(read("?1.txt"), ["a1.txt", "b1.txt"]);
    assert_eq!(read("[!b]1.txt"), ["a1.txt"]);
    assert_eq!(read("*.txt"), ["a1.txt", "a2.txt", "b1.txt"], "what is hidden is left out");
    assert_eq!(read("{a2,b1}.txt"), ["a2.txt", "b1.txt"]);
    assert_eq!(read("sub*"), ["sub/c1.txt", "sub2/c1.txt"], "a folder that matches is its files");
    assert_eq!(read("a1.txt+b*"), ["a1.txt", "b1.txt"]);
    assert_eq!(read("with,comma"), ["with,comma"], "a file that is there is no list");
    for wrong in ["nothing*", "a1.txt,nothing.txt", "[a"] {
        let error = context.text_file(folder.path().join(wrong)).count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        assert!(error.to_string().contains("sources.rs"), "{error}");
    }
}

#[test]
fn rd58_cx06_compressed_text_is_written_and_read_again() {
    everywhere(|context, n| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let lines = context.range(0, 30_000, 1, n).map(|i| format!("line {i}"));
        lines.save_as_gzip_text_file(&path).unwrap();
        assert!(path.join("part-00000.gz").exists() && path.join("_SUCCESS").exists());
        let read = context.text_file(&path);
        assert_eq!(read.num_partitions(), n, "a compressed file is one partition");
        assert_eq!(read.collect().unwrap(), lines.map(Text::from).collect().unwrap());
        let error = lines.save_as_gzip_text_file(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "the folder exists");
    });
}

#[test]
fn cx06_compressed_files_put_behind_each_other_are_one_and_broken_ones_are_bad_data() {
    let folder = tempfile::tempdir().unwrap();
    let context = context("local[2]");
    let path = folder.path().join("out");
    context.parallelize(vec!["a".to_owned(), "b".to_owned()], 1).save_as_gzip_text_file(&path).unwrap();
    let one = fs::read(path.join("part-00000.gz")).unwrap();
    let read = |bytes: &[u8]| {
        let file = folder.path().join("file.gz");
        fs::write(&file, bytes).unwrap();
        context.text_file(&file).collect()
    };
    assert_eq!(read(&[one.clone(), one.clone()].concat()).unwrap(), ["a", "b", "a", "b"]);
    for broken in [&one[..one.len() - 4], &b"no gzip at all"[..], &[&one[..12], &b"xxxxxxxx"[..]].concat()] {
        let error = read(broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        assert!(error.to_string().contains("file.gz"), "{error}");
    }
}

#[test]
fn cx07_cx08_whole_files_are_elements() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a", &b"one\ntwo"[..]), ("b", b""), ("c", b"\xff!")] {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    everywhere(|context, n| {
        let texts = context.whole_text_files(folder.path(), n);
        assert!(texts.num_partitions() <= n.min(3));
        let read: Vec<(String, Text)> = texts.collect().unwrap();
        let contents: Vec<&Text> = read.iter().map(|(_, text)| text).collect();
        assert_eq!(contents, ["one\ntwo", "", "\u{fffd}!"]);
        assert!(read[0].0.ends_with("/a") && read[2].0.ends_with("/c"));
        let bytes = context.binary_files(folder.path().join("[bc]"), n).values().collect().unwrap();
        assert_eq!(bytes, [b"".to_vec(), b"\xff!".to_vec()]);
        let error = context.whole_text_files(folder.path().join("nothing"), n).count().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    });
    let context = context("local[2]");
    let packed = folder.path().join("packed");
    context.parallelize(vec!["x".to_owned()], 1).save_as_gzip_text_file(&packed).unwrap();
    assert_eq!(context.whole_text_files(&packed, 1).values().collect().unwrap(), ["x\n"]);
    assert_ne!(context.binary_files(&packed, 1).values().collect().unwrap(), [b"x\n"], "bytes as they are");
}
