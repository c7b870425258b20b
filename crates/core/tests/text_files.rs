//! A text file gives exactly its lines, over however many partitions it is cut (CX06).

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{context, sorted};
use millstream_core::{Context, Rdd, Text};
use proptest::prelude::*;

/// The lines of a text as Hadoop's reader counts them: ended by `\n`, `\r\n` or `\r`, the last one also by the end.
fn want(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").replace('\r', "\n").lines().map(str::to_owned).collect()
}

fn lines(rdd: &Rdd<Text>) -> Vec<String> {
    rdd.map(|line| line.to_string()).collect().unwrap()
}

/// Checks the lines of `texts`, a file each, over 1 to 9 partitions.
fn check(context: &Context, texts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..texts.len()).map(|i| folder.path().join(format!("file-{i}"))).collect();
    paths.iter().zip(texts).for_each(|(path, text)| fs::write(path, text).unwrap());
    let all: Vec<String> = texts.iter().flat_map(|text| want(text)).collect();
    for n in 1..=9 {
        let rdd = context.text_files(&paths, n);
        let shown: Vec<_> = texts.iter().map(|text| text.chars().take(60).collect::<String>()).collect();
        assert!(lines(&rdd) == all, "{n} partitions of {shown:?}");
        assert!(rdd.num_partitions() >= texts.len());
        assert_eq!(rdd.count().unwrap(), all.len() as u64);
    }
    assert!(lines(&context.text_file(folder.path())) == all, "a folder is its files in the order of their names");
}

#[test]
fn cx06_lines_are_the_same_however_a_file_is_cut() {
    let context = context("local[2]");
    for text in [
        "",
        "\n",
        "\n\n\n",
        "\r\n",
        "\r\n\r\nx",
        "a",
        "a\n",
        "a\nb",
        "a\r\nb\r\n",
        "one\ntwo\nthree\nfour\nfive\nsix\nseven\n",
        "one\n\n\nfour\r\n\r\nsix",
        "a long first line that several parts lie inside of\nb\n",
        "a\na long last line that several parts lie inside of",
        "é\nüß\n日本語\n🦀",
    ] {
        check(&context, &[text]);
    }
    check(&context, &["a\nb", "", "c\n", "\n"]);
}

#[test]
fn cx06_lines_are_whole_across_the_blocks_that_are_read() {
    let context = context("local[2]");
    let block = 1 << 20;
    for len in [block - 2, block - 1, block, block + 1] {
        let text = format!("{}\n{}\r\n{}", "a".repeat(len), "b".repeat(len), "c\n".repeat(1000));
        check(&context, &[&text]);
    }
    let even: String = (0..300_000).map(|i| format!("{i:07}\n")).collect();
    check(&context, &[&even]);
    let lines_end_with_blocks = format!("{}\r\n", "x".repeat(block / 2 - 2)).repeat(5);
    check(&context, &[&lines_end_with_blocks]);
}

#[test]
fn cx06_one_file_is_cut_into_as_many_parts_as_asked_and_into_two_by_itself() {
    let (context, folder) = (context("local[4]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    fs::write(&path, "0123456789\n".repeat(100)).unwrap();
    for n in 1..=9 {
        let rdd = context.text_files(std::slice::from_ref(&path), n);
        let parts = rdd.glom().collect().unwrap();
        assert_eq!(parts.len(), n);
        assert!(parts.iter().all(|part| part.len().abs_diff(100 / n) <= 1), "{n} parts are even");
    }
    assert_eq!(context.text_file(&path).num_partitions(), 2);
    assert_eq!(common::context("local[1]").text_file(&path).num_partitions(), 1);
    fs::write(&path, "ab").unwrap();
    assert_eq!(context.text_files(std::slice::from_ref(&path), 9).num_partitions(), 2, "a part has a byte at least");
}

#[test]
fn cx06_a_folder_is_the_files_right_inside_it_that_are_not_hidden() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    for (name, text) in [("b", "2\n3"), ("a", "1\n"), (".hidden", "x"), ("_SUCCESS", ""), ("_tmp", "y"), ("c.txt", "4")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    fs::create_dir(folder.path().join("deeper")).unwrap();
    fs::write(folder.path().join("deeper/file"), "z").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", folder.path().join(".#lock")).unwrap();
    assert_eq!(lines(&context.text_file(folder.path())), ["1", "2", "3", "4"]);
    assert_eq!(lines(&context.text_file(folder.path().join(".hidden"))), ["x"], "unless it is named");
    let paths = [folder.path().join("deeper"), folder.path().join("a")];
    assert_eq!(lines(&context.text_files(&paths, 1)), ["z", "1"], "in the order in which they are given");
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(context.text_file(empty.path()).count().unwrap(), 0);
    assert_eq!(context.text_files(&[], 3).count().unwrap(), 0);
}

#[test]
fn cx06_lines_may_be_kept_sorted_shuffled_and_saved_again() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("file");
    fs::write(&path, "to be\nor not\nto be\n").unwrap();
    let words =
        context.text_file(&path).flat_map(|line| line.split(' ')).persist(millstream_core::StorageLevel::DISK_ONLY);
    let counts = sorted(words.map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b).collect().unwrap());
    let counts: Vec<(&str, u64)> = counts.iter().map(|(word, n)| (&**word, *n)).collect();
    assert_eq!(counts, [("be", 2), ("not", 1), ("or", 1), ("to", 2)]);
    let (saved, objects) = (folder.path().join("saved"), folder.path().join("objects"));
    words.sort_by(Clone::clone).save_as_text_file(&saved).unwrap();
    assert_eq!(lines(&context.text_file(&saved)), ["be", "be", "not", "or", "to", "to"]);
    words.save_as_object_file(&objects).unwrap();
    assert_eq!(lines(&context.object_file(&objects)), ["to", "be", "or", "not", "to", "be"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn cx06_any_text_is_cut_into_exactly_its_lines(
        lines in prop::collection::vec(("[a-c é\r]{0,12}", prop::sample::select(vec!["\n", "\r\n", "\n\n"])), 0..12),
        last in "[a-c]{0,4}",
    ) {
        let text: String = lines.into_iter().map(|(line, end)| line + end).collect::<String>() + &last;
        check(&context("local[1]"), &[&text]);
    }

    #[test]
    fn cx06_several_files_give_their_lines_one_behind_the_other(texts in prop::collection::vec("[ab\n]{0,30}", 1..5)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        check(&context("local[2]"), &texts);
    }
}
