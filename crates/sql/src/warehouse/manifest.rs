//! What is in a table of the warehouse: a log of its batches, and now and then all of it in one file. Pure: what the files say, and
//! what a batch does to a table.
//!
//! ```text
//! alerts/_millstream/000000000128.all.json     all of the table behind its entry 128
//! alerts/_millstream/000000000129.json         what the next batch added, or put in the place of all
//! ```

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::datatypes::Schema;
use millstream_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The form of the files, in each of them.
const FORM: &str = "millstream table 1";

/// After how many entries all is written in one file: so many at least, and so much as a part of the files there are.
const AT_LEAST: u64 = 64;

/// What happens where there is a table already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    Append,
    Overwrite,
    Error,
    Ignore,
}

/// A file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DataFile {
    /// Where it is in the table's folder, with `/` between names.
    pub(super) path: String,
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

/// A column's name and type.
pub(super) type Columns = Vec<(String, String)>;

/// What one batch of an output did to a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) form: String,
    pub(super) output: String,
    /// The batch, in milliseconds; nothing for one that no later run knows of.
    pub(super) batch: Option<i64>,
    pub(super) run: u64,
    /// No batch up to this one comes again.
    pub(super) settled: Option<i64>,
    pub(super) columns: Columns,
    pub(super) partition_by: Vec<String>,
    /// Whether the files take the place of all that were there.
    pub(super) replaces: bool,
    pub(super) files: Vec<DataFile>,
}

impl Entry {
    pub(super) fn form() -> String {
        FORM.to_owned()
    }
}

/// What a table knows of an output that writes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Writer {
    pub(super) run: u64,
    pub(super) batches: BTreeSet<i64>,
}

/// A table behind some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    form: String,
    /// The number of its last entry; 0 if there is no table.
    pub(super) number: u64,
    /// The number of the entry behind which all was written last.
    #[serde(skip)]
    all_at: u64,
    pub(super) columns: Columns,
    pub(super) partition_by: Vec<String>,
    pub(super) files: BTreeMap<String, (u64, u64)>,
    /// Files that were replaced by the last entry. They are removed behind it, or before the next.
    pub(super) stale: Vec<String>,
    pub(super) writers: BTreeMap<String, Writer>,
}

/// What a batch is to do with what it has prepared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its rows come to those that are there, or take their place.
    Write { replaces: bool },
    /// It is in the table already.
    Done,
    /// A table is there, and it leaves it as it is.
    Leave,
}

impl State {
    pub(super) fn exists(&self) -> bool {
        self.number > 0
    }

    /// Reads a table from the contents of its files, by their names.
    pub(super) fn read(
        names: &[String],
        mut read: impl FnMut(&str) -> Result<Vec<u8>>,
        told: &dyn Fn(&str, &str) -> Error,
    ) -> Result<State> {
        let number = |name: &str, ending: &str| name.strip_suffix(ending).and_then(|n| n.parse::<u64>().ok());
        let all = names.iter().filter_map(|name| number(name, ".all.json")).max();
        let mut state = State { form: FORM.to_owned(), ..State::default() };
        if let Some(at) = all {
            let name = State::name_of_all(at);
            state = serde_json::from_slice(&read(&name)?).map_err(|e| told(&name, &e.to_string()))?;
            if state.form != FORM || state.number != at {
                return Err(told(&name, &format!("it is of the form `{}` and not `{FORM}`", state.form)));
            }
            state.all_at = at;
        }
        let mut entries: Vec<u64> = names.iter().filter_map(|name| number(name, ".json")).collect();
        entries.sort_unstable();
        for at in entries.into_iter().filter(|at| Some(*at) > all) {
            let name = State::name_of(at);
            if at != state.number + 1 {
                return Err(told(&name, &format!("the entry {} before it is not there", state.number + 1)));
            }
            let entry: Entry = serde_json::from_slice(&read(&name)?).map_err(|e| told(&name, &e.to_string()))?;
            if entry.form != FORM {
                return Err(told(&name, &format!("it is of the form `{}` and not `{FORM}`", entry.form)));
            }
            state.apply(&entry);
        }
        Ok(state)
    }

    /// The name of an entry's file.
    pub(super) fn name_of(number: u64) -> String {
        format!("{number:012}.json")
    }

    /// The name of the file that has all behind an entry.
    pub(super) fn name_of_all(number: u64) -> String {
        format!("{number:012}.all.json")
    }

    /// Says whether it is time to write all in one file: each entry pays for a part of it.
    pub(super) fn is_long(&self) -> bool {
        self.number - self.all_at >= AT_LEAST.max(self.files.len() as u64 / 16)
    }

    /// All has been written behind the last entry. Returns where it was before.
    pub(super) fn written(&mut self) -> u64 {
        std::mem::replace(&mut self.all_at, self.number)
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        self.number += 1;
        self.stale.clear();
        if entry.replaces {
            let new = |path: &String| entry.files.iter().any(|file| file.path == *path);
            self.stale = std::mem::take(&mut self.files).into_keys().filter(|path| !new(path)).collect();
        }
        if self.columns.is_empty() || entry.replaces {
            self.columns.clone_from(&entry.columns);
            self.partition_by.clone_from(&entry.partition_by);
        }
        self.files.extend(entry.files.iter().map(|file| (file.path.clone(), (file.rows, file.bytes))));
        let writer = self.writers.entry(entry.output.clone()).or_default();
        writer.run = writer.run.max(entry.run);
        writer.batches.extend(entry.batch);
        if let Some(settled) = entry.settled {
            writer.batches.retain(|batch| *batch > settled);
        }
    }

    /// Says what a batch that prepares finds: whether there is something to write at all.
    pub(super) fn may_write(&self, table: &str, mode: Mode, columns: &Columns, by: &[String]) -> Result<bool> {
        if !self.exists() {
            return Ok(true);
        }
        match mode {
            Mode::Error => {
                let text = format!(
                    "the table `{table}` is there already: append to it, overwrite it, or say that what is there stays (ignore)"
                );
                return Err(Error::new(ErrorKind::Config, text));
            }
            Mode::Ignore => return Ok(false),
            Mode::Overwrite => return Ok(true),
            Mode::Append => {}
        }
        let same = self.columns.is_empty() || columns.is_empty() || self.columns == *columns;
        if !same || self.partition_by != *by {
            let all = |columns: &Columns, by: &[String]| {
                let listed: Vec<String> = columns.iter().map(|(name, of)| format!("{name} {of}")).collect();
                let by = if by.is_empty() { String::new() } else { format!(", in folders by {}", by.join(", ")) };
                format!("({}){by}", listed.join(", "))
            };
            let text = format!(
                "the table `{table}` is {}, and the rows are {}: write them as the table has them, or overwrite it",
                all(&self.columns, &self.partition_by),
                all(columns, by)
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(true)
    }

    /// Says what becomes of a batch that has prepared its files.
    pub(super) fn step(&self, table: &str, mode: Mode, output: &str, batch: Option<i64>, run: u64) -> Result<Step> {
        if let Some(writer) = self.writers.get(output) {
            if batch.is_some_and(|batch| writer.batches.contains(&batch)) {
                return Ok(Step::Done);
            }
            if batch.is_some() && run < writer.run {
                let text = format!(
                    "the table `{table}` was written by the run {} of this program, and this is the run {run}: it comes too late",
                    writer.run
                );
                return Err(Error::new(ErrorKind::Stopped, text));
            }
        }
        Ok(match mode {
            // That there was none was asked when the batch was prepared; what has come since is of this program.
            Mode::Append | Mode::Error => Step::Write { replaces: false },
            Mode::Overwrite => Step::Write { replaces: true },
            Mode::Ignore if self.exists() => Step::Leave,
            Mode::Ignore => Step::Write { replaces: false },
        })
    }
}

/// The names and types of columns.
pub(super) fn columns_of(schema: &Schema) -> Columns {
    schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(batch: i64, replaces: bool, files: &[&str]) -> Entry {
        let file = |path: &&str| DataFile { path: (*path).to_owned(), rows: 1, bytes: 9 };
        Entry {
            form: Entry::form(),
            output: "app/o".to_owned(),
            batch: Some(batch),
            run: 1,
            settled: (batch > 2).then_some(batch - 2),
            columns: vec![("k".to_owned(), "Int64".to_owned())],
            partition_by: Vec::new(),
            replaces,
            files: files.iter().map(file).collect(),
        }
    }

    fn told(name: &str, what: &str) -> Error {
        Error::new(ErrorKind::Data, format!("{name}: {what}"))
    }

    #[test]
    fn a_table_is_what_its_entries_say_from_the_last_file_of_all_on() {
        let entries =
            [entry(1, false, &["a"]), entry(2, false, &["b", "c"]), entry(3, true, &["d"]), entry(4, false, &[])];
        let mut state = State { form: FORM.to_owned(), ..State::default() };
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (number, entry) in (1..).zip(&entries) {
            state.apply(entry);
            files.insert(State::name_of(number), serde_json::to_vec(entry).unwrap());
            if number == 2 {
                files.insert(State::name_of_all(2), serde_json::to_vec(&state).unwrap());
                // Entries before it need not be there any more.
                files.remove(&State::name_of(1));
            }
        }
        assert_eq!(state.files.keys().collect::<Vec<_>>(), ["d"]);
        assert!(state.stale.is_empty(), "they were removed before the entry behind the one that replaced them");
        assert_eq!(state.writers["app/o"].batches, [3, 4].into(), "what is settled is not remembered");
        let names: Vec<String> = files.keys().cloned().chain([".000000000005.json.draft".to_owned()]).collect();
        let read = State::read(&names, |name| Ok(files[name].clone()), &told).unwrap();
        assert_eq!(State { all_at: 0, ..read }, state);
        files.remove(&State::name_of(3));
        let names: Vec<String> = files.keys().cloned().collect();
        let error = State::read(&names, |name| Ok(files[name].clone()), &told).unwrap_err();
        assert!(error.message().contains("000000000004.json: the entry 3 before it is not there"), "{error}");
        let other = |_: &str| Ok(serde_json::to_vec(&Entry { form: "x".to_owned(), ..entry(1, false, &[]) }).unwrap());
        let error = State::read(&[State::name_of(1)], other, &told).unwrap_err();
        assert!(error.message().contains("it is of the form `x` and not `millstream table 1`"), "{error}");
    }

    #[test]
    fn the_files_of_the_log_are_a_format() {
        let one = Entry { partition_by: vec!["k".to_owned()], ..entry(7, true, &["k=1/a.parquet"]) };
        let mut state = State { form: FORM.to_owned(), ..State::default() };
        state.apply(&one);
        let text = r#"{"form":"millstream table 1","output":"app/o","batch":7,"run":1,"settled":5,"columns":[["k","Int64"]],"partition_by":["k"],"replaces":true,"files":[{"path":"k=1/a.parquet","rows":1,"bytes":9}]}"#;
        assert_eq!(serde_json::to_string(&one).unwrap(), text);
        let text = r#"{"form":"millstream table 1","number":1,"columns":[["k","Int64"]],"partition_by":["k"],"files":{"k=1/a.parquet":[1,9]},"stale":[],"writers":{"app/o":{"run":1,"batches":[7]}}}"#;
        assert_eq!(serde_json::to_string(&state).unwrap(), text);
    }

    #[test]
    fn what_a_batch_does_where_there_is_a_table_or_none() {
        let none = State::default();
        let mut some = State::default();
        some.apply(&entry(7, false, &["a"]));
        let columns = &some.columns;
        let of = |n: &str| vec![("k".to_owned(), n.to_owned())];
        use Mode as M;
        for mode in [M::Append, M::Overwrite, M::Error, M::Ignore] {
            assert!(none.may_write("t", mode, columns, &[]).unwrap(), "{mode:?}");
        }
        for (mode, want) in
            [(M::Append, Some(true)), (M::Overwrite, Some(true)), (M::Ignore, Some(false)), (M::Error, None)]
        {
            assert_eq!(some.may_write("t", mode, columns, &[]).ok(), want, "{mode:?}");
        }
        let told = some.may_write("t", M::Append, &of("Utf8"), &[]).unwrap_err();
        assert!(told.message().contains("is (k Int64), and the rows are (k Utf8)"), "{told}");
        assert!(some.may_write("t", M::Append, columns, &["k".to_owned()]).is_err());
        assert!(some.may_write("t", M::Overwrite, &of("Utf8"), &[]).unwrap());

        let step = |state: &State, mode, batch, run| state.step("t", mode, "app/o", batch, run);
        let write = |replaces| Step::Write { replaces };
        assert_eq!(step(&none, M::Ignore, Some(7), 1).unwrap(), write(false));
        assert_eq!(step(&none, M::Overwrite, Some(7), 1).unwrap(), write(true));
        for mode in [M::Append, M::Overwrite, M::Error, M::Ignore] {
            assert_eq!(step(&some, mode, Some(7), 2).unwrap(), Step::Done, "{mode:?}");
        }
        assert_eq!(step(&some, M::Append, Some(8), 1).unwrap(), write(false));
        assert_eq!(step(&some, M::Error, Some(8), 1).unwrap(), write(false));
        assert_eq!(step(&some, M::Ignore, Some(8), 1).unwrap(), Step::Leave);
        assert_eq!(step(&some, M::Append, Some(8), 0).unwrap_err().kind(), ErrorKind::Stopped);
        assert_eq!(step(&some, M::Append, None, 0).unwrap(), write(false), "no run knows of another");
    }

    #[test]
    fn all_is_written_in_one_file_the_more_seldom_the_more_there_is() {
        let mut state = State::default();
        let mut written = Vec::new();
        for batch in 1..=4000 {
            state.apply(&entry(batch, false, &[&format!("{batch}")]));
            if state.is_long() {
                state.written();
                written.push(batch);
            }
        }
        assert_eq!(written[..2], [64, 128]);
        assert!(written.len() < 50, "{}", written.len());
    }
}
