//! Writers of records: PR26 to PR29, SQ01, CX10, S-108, S-109, and what Hadoop itself has written.
//!
//! Hadoop 3.4.2's `SequenceFile.Writer` wrote `fixtures/hadoop`; `text_bytes` and `long_text` say what it holds.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{context, everywhere};
use millstream_core::{
    Context, Csv, ErrorKind, JsonLines, RecordWriter, Result, SequenceFiles, Text, TextLines, Writable, overwriting,
};
use serde::{Deserialize, Serialize};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a partition and returns the file's bytes.
fn file_of<T, W>(items: Vec<T>, writer: W) -> Result<Vec<u8>>
where
    T: millstream_core::ExchangeData,
    W: RecordWriter<T>,
{
    let (context, folder) = (context("local[1]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("out");
    let name = format!("part-00000{}", writer.ending());
    context.parallelize(items, 1).save_with(&path, writer)?;
    Ok(fs::read(path.join(name)).unwrap())
}

fn text_of<T: millstream_core::ExchangeData>(items: Vec<T>, writer: impl RecordWriter<T>) -> String {
    String::from_utf8(file_of(items, writer).unwrap()).unwrap()
}

// ------------------------------------------------------------------------------------------------- the folder

#[test]
fn pr26_a_writer_gives_one_file_a_partition_also_an_empty_one_and_a_mark_of_success() {
    everywhere(|context, partitions| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        context.parallelize((0..5).collect(), partitions).save_with(&path, JsonLines).unwrap();
        let mut want = vec!["_SUCCESS".to_owned()];
        want.extend((0..partitions).map(|p| format!("part-{p:05}.json")));
        assert_eq!(names(&path), want, "S-108");
        let lines = context.text_file(&path).map(|line| line.to_string()).collect().unwrap();
        assert_eq!(lines, ["0", "1", "2", "3", "4"]);
    });
}

#[test]
fn s109_a_folder_that_is_there_is_refused_but_written_over_where_a_batch_runs_again() {
    let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
    let path = folder.path().join("out");
    context.parallelize(vec![1, 2, 3], 3).save_with(&path, JsonLines).unwrap();
    let again = || context.parallelize(vec![4], 1).save_with(&path, Csv::new());
    let error = again().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("exists already"), "{error}");
    overwriting(again).unwrap();
    assert_eq!(names(&path), ["_SUCCESS", "part-00000.csv"]);
}

/// Fails at one element, and at the end.
#[derive(Clone, Serialize, Deserialize)]
struct Fails(String);

impl RecordWriter<i32> for Fails {
    type File = ();

    fn begin(&self, _: &mut Vec<u8>) -> Result<()> {
        if self.0 == "begin" { Err("begin".into()) } else { Ok(()) }
    }

    fn write(&self, (): &mut (), items: &[i32], out: &mut Vec<u8>) -> Result<()> {
        assert!(self.0 != "panic", "no such luck");
        out.extend(items.iter().map(|n| *n as u8));
        if self.0 == "write" { Err("write".into()) } else { Ok(()) }
    }

    fn end(&self, (): (), out: &mut Vec<u8>) -> Result<()> {
        out.push(99);
        if self.0 == "end" { Err("end".into()) } else { Ok(()) }
    }
}

#[test]
fn pr26_a_writer_that_fails_leaves_no_file_and_no_mark_of_success() {
    assert_eq!(file_of(vec![1, 2], Fails("never".into())).unwrap(), [1, 2, 99]);
    for place in ["begin", "write", "end", "panic"] {
        let (context, folder) = (context("local[2]"), tempfile::tempdir().unwrap());
        let path = folder.path().join("out");
        let line = line!() + 1;
        let error = context.parallelize(vec![1, 2], 1).save_with(&path, Fails(place.into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::User, "{error}");
        assert_eq!(error.site().map(|site| (site.op(), site.line())), Some(("save_with", line)), "{error}");
        assert_eq!(names(&path), [""; 0], "{place}");
    }
}

/// Says a path where an ending belongs.
#[derive(Clone, Serialize, Deserialize)]
struct Elsewhere;

impl RecordWriter<i32> for Elsewhere {
    type File = ();

    fn ending(&self) -> &str {
        "/../../elsewhere"
    }

    fn begin(&self, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn write(&self, (): &mut (), _: &[i32], _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn pr26_files_cannot_be_written_outside_of_the_folder() {
    assert_eq!(file_of(vec![1], Elsewhere).unwrap_err().kind(), ErrorKind::Config);
}

// ---------------------------------------------------------------------------------------------- text and JSON

#[test]
fn pr26_text_lines_are_those_of_save_as_text_file() {
    assert_eq!(text_of(vec![("to".to_owned(), 2), ("be".to_owned(), 1)], TextLines), "(to,2)\n(be,1)\n");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    place: String,
    celsius: Option<f64>,
}

fn readings() -> Vec<Reading> {
    let reading = |place: &str, celsius| Reading { place: place.to_owned(), celsius };
    vec![reading("roof", Some(-1.5)), reading("a, \"b\"\nc", None), reading("", Some(1e300))]
}

#[test]
fn pr26_json_lines_come_back_as_the_same_values() {
    let text = text_of(readings(), JsonLines);
    assert_eq!(text.lines().next(), Some(r#"{"place":"roof","celsius":-1.5}"#));
    let back: Vec<Reading> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, readings());
    assert_eq!(text_of(vec![f64::NAN, f64::INFINITY, 0.5], JsonLines), "null\nnull\n0.5\n");
    assert_eq!(text_of(vec![(1, vec!["a".to_owned()])], JsonLines), "[1,[\"a\"]]\n");
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Unit,
    One(i64),
    Two(u8, char),
    Named { name: String, map: BTreeMap<u64, Option<bool>> },
}

#[test]
fn pr26_json_is_what_serde_json_writes() {
    let every = (0..=0x2ff).filter_map(char::from_u32).chain(['\u{2028}', '\u{1f30a}']).collect::<String>();
    let map = BTreeMap::from([(1, Some(true)), (u64::MAX, None)]);
    let kinds = vec![Kind::Unit, Kind::One(i64::MIN), Kind::Two(255, '"'), Kind::Named { name: every, map }];
    let floats = vec![0.1f64, -0.0, 1.0, 1e21, 1e-7, 1e300, f64::MIN_POSITIVE, f64::MAX, f64::NAN, 123_456_789.125];
    let keys = BTreeMap::from([(Kind::Unit, -1.5f32), (Kind::Unit, f32::MAX)]);
    let bools = BTreeMap::from([(true, ()), (false, ())]);
    let empty: (Vec<u8>, BTreeMap<String, u8>, Option<()>, i128) = (vec![], BTreeMap::new(), None, i128::MIN);
    let nested = ((kinds, floats.clone()), (keys, bools, BTreeMap::from([('k', vec![[1u16; 2]; 2])])), empty);
    let ours = text_of(vec![nested.clone()], JsonLines);
    let theirs = serde_json::to_string(&nested).unwrap();
    // Where an exponent begins is a matter of taste: numbers are compared as numbers.
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&ours), value(&theirs));
    let texts = |text: &str| text.split_inclusive('"').map(str::len).collect::<Vec<_>>();
    assert_eq!(texts(&ours).len(), texts(&theirs).len());
    let back: Vec<Option<f64>> = serde_json::from_str(&text_of(vec![floats.clone()], JsonLines)).unwrap();
    let finite = |number: &f64| number.is_finite().then_some(*number);
    assert_eq!(back, floats.iter().map(finite).collect::<Vec<_>>());
}

#[test]
fn pr26_what_json_cannot_say_is_an_error_that_names_the_type() {
    let error = file_of(vec![BTreeMap::from([((1, 2), 3)])], JsonLines).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("BTreeMap<(i32, i32), i32> cannot be written as JSON"), "{error}");
}

// --------------------------------------------------------------------------------------------------------- CSV

#[test]
fn pr26_csv_is_quoted_as_rfc_4180_says() {
    let plain = "roof,-1.5\n\"a, \"\"b\"\"\nc\",\n,1e300\n";
    assert_eq!(text_of(readings(), Csv::new()), plain);
    assert_eq!(text_of(readings(), Csv::new().with_header()), format!("place,celsius\n{plain}"));
    assert_eq!(text_of(vec![("a;b".to_owned(), 1)], Csv::new().with_delimiter(b';')), "\"a;b\";1\n");
    assert_eq!(
        text_of(vec![("to".to_owned(), ("be".to_owned(), 2))], Csv::new()),
        "to,be,2\n",
        "pairs in pairs are flat"
    );
    assert_eq!(text_of(vec![String::new()], Csv::new()), "\"\"\n", "a line of nothing would be no record");
    assert_eq!(text_of(Vec::<Reading>::new(), Csv::new().with_header()), "");
}

#[test]
fn pr26_a_header_stands_once_in_a_file_of_many_chunks() {
    let text = text_of(readings().into_iter().cycle().take(3_000).collect(), Csv::new().with_header());
    assert_eq!(text.matches("place,celsius").count(), 1);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.deserialize::<Reading>().collect::<std::result::Result<Vec<_>, _>>().unwrap().len(), 3_000);
}

#[test]
fn pr26_what_csv_cannot_say_is_an_error() {
    for error in [
        file_of(vec![BTreeMap::from([(1, 2)])], Csv::new()).unwrap_err(),
        file_of((0..2_000usize).map(|n| vec![0; 1 + n / 1_999]).collect(), Csv::new()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::User);
        assert!(error.to_string().contains("cannot be written as CSV"), "{error}");
    }
    assert_eq!(file_of(vec![(1, 2)], Csv::new().with_delimiter(b'"')).unwrap_err().kind(), ErrorKind::Config);
}

// ---------------------------------------------------------------------------------------------- sequence files

fn fixture(name: &str) -> PathBuf {
    // Tests run in the folder of their crate.
    Path::new("tests/fixtures/hadoop").join(name)
}

/// What is in `text-bytes.seq`, written with a marker every 100 bytes.
fn text_bytes() -> Vec<(String, Vec<u8>)> {
    let pair = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
    vec![
        pair("to", &[1, 2, 255]),
        pair("", &[]),
        pair("z\u{fc}rich \u{1f30a}", b"mill"),
        pair(&"x".repeat(200), &[0]),
        pair("after a marker", &[7]),
    ]
}

/// What is in `long-text.seq`, which has metadata, and a marker every 100 bytes.
fn long_text() -> Vec<(i64, Text)> {
    (0..40).map(|i| (i * 1_000_003 - 20, Text::from(format!("line {i}")))).collect()
}

#[test]
fn sq01_our_bytes_are_those_that_hadoop_writes() {
    let hadoops = fs::read(fixture("text-bytes.seq")).unwrap();
    // Behind the magic, the names of 25 and 34 letters with their lengths, two flags and no metadata.
    let at = 4 + 26 + 35 + 2 + 4;
    let marker: [u8; 16] = hadoops[at..at + 16].try_into().unwrap();
    let writer = SequenceFiles::new().with_sync_interval(100).with_sync_marker(marker);
    assert_eq!(file_of(text_bytes(), writer).unwrap(), hadoops);
    let bytes: Vec<(Text, bytes::Bytes)> = text_bytes().into_iter().map(|(k, v)| (Text::from(k), v.into())).collect();
    assert_eq!(file_of(bytes, writer).unwrap(), hadoops);
}

#[test]
fn cx10_what_hadoop_wrote_is_read_however_it_is_cut() {
    for n in [1, 2, 3, 7, 100, 2_000] {
        let context = context("local[2]");
        let pairs = context.sequence_file::<String, Vec<u8>>(fixture("text-bytes.seq"), n);
        assert_eq!(pairs.collect().unwrap(), text_bytes(), "{n} partitions");
        let pairs = context.sequence_file::<i64, Text>(fixture("long-text.seq"), n);
        assert_eq!(pairs.collect().unwrap(), long_text(), "{n} partitions");
        if n == 7 {
            let full = pairs.glom().filter(|part| !part.is_empty()).count().unwrap();
            assert!(full > 3, "the records are read by {full} partitions");
        }
    }
}

fn there_and_back<K, V>(context: &Context, pairs: &[(K, V)])
where
    K: Writable + millstream_core::ExchangeData + PartialEq + std::fmt::Debug,
    V: Writable + millstream_core::ExchangeData + PartialEq + std::fmt::Debug,
{
    let folder = tempfile::tempdir().unwrap();
    for (i, writer) in [SequenceFiles::new(), SequenceFiles::new().with_sync_interval(0)].into_iter().enumerate() {
        let path = folder.path().join(i.to_string());
        context.parallelize(pairs.to_vec(), 3).save_with(&path, writer).unwrap();
        for n in [1, 2, 13] {
            assert_eq!(context.sequence_file::<K, V>(&path, n).collect().unwrap(), pairs, "{n} partitions");
        }
    }
}

#[test]
fn sq01_cx10_pairs_of_every_class_come_back() {
    for context in [context("local[1]"), context("local[4]")] {
        there_and_back::<String, Vec<u8>>(&context, &[]);
        there_and_back(&context, &text_bytes());
        there_and_back(&context, &long_text());
        there_and_back(&context, &[(i32::MIN, 1.5f32), (-1, f32::MIN), (i32::MAX, 0.0)]);
        there_and_back(&context, &[((), true), ((), false)]);
        there_and_back(&context, &[(0.1f64, ()), (f64::MAX, ())]);
        // Keys that look like markers, and records longer than what is read at a time.
        let long = |n: i32| (bytes::Bytes::from(vec![0xff; n as usize * 4_099]), Text::from("v".repeat(n as usize)));
        there_and_back(&context, &(0..60).map(long).collect::<Vec<_>>());
    }
}

#[test]
fn sq01_markers_stand_every_hundred_kibibytes_unless_told_otherwise() {
    let pairs: Vec<(String, String)> = (0..30_000).map(|i| (format!("key {i}"), "v".repeat(i % 50))).collect();
    let marker = *b"sixteen letters.";
    let bytes = file_of(pairs, SequenceFiles::new().with_sync_marker(marker)).unwrap();
    // Hadoop 3.4.2 gives these pairs so many bytes and markers, and the same bytes where it has the same marker.
    assert_eq!(bytes.len(), 1_294_208);
    let at: Vec<usize> = memchr_all(&bytes, &marker);
    assert_eq!(at.len(), 13);
    assert!(at[1..].windows(2).all(|two| (102_400..102_500).contains(&(two[1] - two[0] - 20))), "{at:?}");
}

fn memchr_all(bytes: &[u8], pattern: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|at| bytes[*at..].starts_with(pattern)).collect()
}

#[test]
fn cx10_a_file_of_other_classes_compressed_or_of_no_such_kind_says_so() {
    let context = context("local[2]");
    let says = |error: millstream_core::Error, want: &str| {
        assert_eq!(error.kind(), ErrorKind::Data, "{error}");
        assert!(error.to_string().contains(want), "wanted {want:?}, but it is: {error}");
    };
    let path = fixture("text-bytes.seq");
    let error = context.sequence_file::<i64, Vec<u8>>(&path, 1).collect().unwrap_err();
    says(error, "its keys are org.apache.hadoop.io.Text, and org.apache.hadoop.io.LongWritable is asked for");
    let error = context.sequence_file::<Text, Text>(&path, 1).collect().unwrap_err();
    says(error, "its values are org.apache.hadoop.io.BytesWritable");
    let error = context.sequence_file::<Text, Text>(fixture("packed.seq"), 1).collect().unwrap_err();
    says(error, "it is compressed by org.apache.hadoop.io.compress.DefaultCodec; write it without");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for (bytes, want) in
        [(&b"text"[..], "does not begin with SEQ"), (b"SEQ\x04", "of version 4"), (b"", "ends in the middle")]
    {
        fs::write(&file, bytes).unwrap();
        says(context.sequence_file::<Text, Text>(&file, 1).collect().unwrap_err(), want);
    }
    let missing = context.sequence_file::<Text, Text>(folder.path().join("none"), 1).collect().unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config, "{missing}");
}

#[test]
fn cx10_a_damaged_file_is_an_error_or_fewer_pairs_and_never_a_panic() {
    let context = context("local[1]");
    let (whole, folder) = (fs::read(fixture("text-bytes.seq")).unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        context.sequence_file::<String, Vec<u8>>(&file, 1).collect()
    };
    for len in 0..whole.len() {
        match read(&whole[..len]) {
            Ok(pairs) => assert_eq!(pairs, text_bytes()[..pairs.len()], "cut to {len} bytes, between two records"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Data, "cut to {len} bytes: {error}"),
        }
    }
    for at in 0..whole.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = byte;
            if let Err(error) = read(&bytes) {
                assert_eq!(error.kind(), ErrorKind::Data, "byte {at} is {byte}: {error}");
            }
        }
    }
}
