//! What is read from files, as functions of bytes: for the fuzzers in `fuzz/`, and for the test that runs what they kept.
//!
//! A target panics if a law is broken. That bytes are refused with an error is no news.

#![doc(hidden)]

use std::fmt::Debug;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use flate2::read::MultiGzDecoder;

use crate::codec;
use crate::conf::{EngineConf, Master};
use crate::error::Result;
use crate::rdd::{lines::LineStream, saved, sequence_reader, sources};
use crate::spill::{RunReader, RunWriter, SpillDir};
use crate::storage::StorageLevel;
use crate::text::{Text, TextBlock};

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets of this crate, by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("codec_list", codec_list),
    ("engine_settings", engine_settings),
    ("gzip_lines", gzip_lines),
    ("object_file", object_file),
    ("saved_values", saved_values),
    ("sequence_file", sequence_file),
    ("spilled_run", spilled_run),
    ("text_parts", text_parts),
];

type Row = (u64, String, Option<Vec<i32>>);

/// What was read is written and read again, and is the same.
fn same<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(values: &Vec<T>) {
    let bytes = codec::encode(values).expect("what was read can be written");
    assert_eq!(&codec::decode::<Vec<T>>(&bytes).expect("what was written can be read"), values);
}

fn codec_list(bytes: &[u8]) {
    if let Ok(rows) = codec::decode_list::<Row>(bytes) {
        assert_eq!(codec::decode::<Vec<Row>>(bytes).expect("it is a vector"), rows);
        same(&rows);
    }
    if bytes.len() <= 3 {
        // Longer ones claim millions, which takes a while.
        let _ = codec::decode_list::<()>(bytes);
    }
    let _ = codec::decode_list::<(Text, char, f32)>(bytes);
}

fn saved_values(bytes: &[u8]) {
    if let Ok(rows) = saved::values_of::<Row>(bytes) {
        same(&rows);
    }
}

fn object_file(bytes: &[u8]) {
    if let Ok(rows) = sources::objects::<Row>(Path::new("in memory"), bytes) {
        same(&rows);
    }
}

/// The first byte says which part is read.
fn sequence_file(bytes: &[u8]) {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (start, end) = (u64::from(cut) * 4, bytes.len() as u64);
    let read = |start, end| {
        let _ = sequence_reader::pairs_of::<Text, i32>(bytes, start, end);
        sequence_reader::pairs_of::<String, Vec<u8>>(bytes, start, end)
    };
    let _ = (read(0, end), read(start.min(end), end));
}

/// The parts of a text are the text, wherever it is cut. The first two bytes say where.
fn text_parts(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first_chunk::<2>() else { return };
    let (len, cut) = (bytes.len() as u64, u64::from(u16::from_le_bytes(*cut)));
    let cut = cut.min(len);
    let lines = |from, to| sources::lines_of(bytes, from, to).expect("text in memory can be read");
    let whole = lines(0, len);
    assert_eq!(whole, TextBlock::from_bytes(bytes.to_vec()).lines().collect::<Vec<_>>());
    assert_eq!([lines(0, cut), lines(cut, len)].concat(), whole, "cut at {cut}");
}

fn gzip_lines(bytes: &[u8]) {
    let mut stream = LineStream::new(MultiGzDecoder::new(bytes));
    let mut lines = Vec::new();
    let read = loop {
        match stream.read_chunk(&mut lines) {
            Ok(true) => {}
            ended => break ended,
        }
    };
    let mut text = Vec::new();
    let whole = MultiGzDecoder::new(bytes).read_to_end(&mut text);
    assert_eq!(read.is_ok(), whole.is_ok());
    if read.is_ok() {
        assert_eq!(lines, TextBlock::from_bytes(text).lines().collect::<Vec<_>>());
    }
}

/// A run on disk whose bytes are others than those that were written; the first byte says how many values it had.
fn spilled_run(bytes: &[u8]) {
    static FOLDER: OnceLock<std::sync::Arc<SpillDir>> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        SpillDir::new(std::env::temp_dir().join(format!("millstream-fuzzed-spill-{}", std::process::id())))
    });
    let Some((&items, bytes)) = bytes.split_first() else { return };
    let run = || -> Result<Vec<Row>> {
        let mut file = folder.create("run")?;
        let mut run = RunWriter::default();
        let half = bytes.len() / 2;
        run.encoded(usize::from(items), &bytes[..half], &mut file)?;
        run.encoded(0, &bytes[half..], &mut file)?;
        let run = run.finish(&mut file)?;
        let mut reader = RunReader::new(&file.finish().open()?, run);
        let mut rows = Vec::new();
        while let Some(row) = reader.next()? {
            rows.push(row);
        }
        Ok(rows)
    };
    if let Ok(rows) = run() {
        assert_eq!(rows.len(), usize::from(items));
        same(&rows);
    }
}

/// A key and its value, a line each.
fn engine_settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((key, value)) = text.split_once('\n') else { return };
    let mut conf = EngineConf::new("local[2]", "fuzzed").expect("it is a master");
    let said = conf.set(key, value);
    if let Err(error) = said {
        assert!(!error.message().is_empty());
    }
    let _ = (conf.memory_budget(), conf.parallelism());
    if let Ok(master) = value.parse::<Master>() {
        assert!(master.threads() > 0, "{value}");
    }
    if let Ok(level) = value.parse::<StorageLevel>() {
        assert_eq!(level.to_string().parse::<StorageLevel>().expect("its own name is one"), level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzers_kept_breaks_no_law() {
        // Tests run in the folder of their crate. What the compiler knows of it may be another clone's.
        let corpus = Path::new("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let files =
                std::fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("there is no corpus {name}: {e}"));
            let mut count = 0;
            for file in files {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "the corpus of {name} is empty");
        }
    }
}
