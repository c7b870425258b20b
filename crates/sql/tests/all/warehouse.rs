//! Tables that streams are saved as: what is in them, that each batch is there once wherever the program is killed, and who reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use millstream::core::disk::Disk as _;
use millstream::sql::{Files, RecordBatch, Row, SaveTable, SqlContext, SqlStreams as _};
use millstream::{DStream, Result, StreamingContext};
use millstream_testkit::{Batches, Check, Fault, Lives, Row as Given, SimDisk, StreamTest, batches, input};

#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
struct Alert {
    pump: i64,
    day: Option<String>,
    celsius: f64,
}

fn alert((pump, day, celsius): (i64, &str, f64)) -> Alert {
    Alert { pump, day: (!day.is_empty()).then(|| day.to_owned()), celsius }
}

fn alerts(test: &StreamTest) -> DStream<Alert> {
    let rows = test.input(batches![
        [(1i64, "mon", 70.5), (2i64, "tue", 80.0), (1i64, "tue", 71.0)],
        [],
        [(3i64, "", 60.0), (1i64, "mon", 72.5)]
    ]);
    rows.map(|(pump, day, celsius)| alert((pump, &day, celsius)))
}

/// All rows of a table, as somebody reads them who knows nothing of us: the files of Parquet in a folder, and what the folders say.
fn plainly(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, values: &str, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(['_', '.']) {
                continue;
            }
            if path.is_dir() {
                walk(&path, &format!("{values}{name} "), out);
                continue;
            }
            let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap().build().unwrap();
            for rows in reader {
                for row in millstream_sql::texts(&RecordBatch::from(rows.unwrap())).unwrap() {
                    let cells: Vec<String> = row.into_iter().map(|cell| cell.unwrap_or("null".to_owned())).collect();
                    out.push(format!("{values}{}", cells.join(",")));
                }
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, "", &mut out);
    out.sort();
    out
}

fn context(test: &StreamTest, warehouse: &Path) -> SqlContext {
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.set_warehouse(warehouse);
    sql
}

#[test]
fn rows_are_files_of_parquet_in_folders_that_others_read_and_a_table_of_statements() {
    for check in Check::new(2, 2).everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let mut test = check.context();
        let sql = context(&test, folder.path());
        alerts(&test).save_as_table(&sql, SaveTable::append("alerts"));
        alerts(&test).save_as_table(&sql, SaveTable::append("by_day").partition_by(["day"]));
        test.run(3).unwrap();
        let plain = plainly(&folder.path().join("alerts"));
        assert_eq!(plain, ["1,mon,70.5", "1,mon,72.5", "1,tue,71.0", "2,tue,80.0", "3,null,60.0"], "{check:?}");
        let by_day = plainly(&folder.path().join("by_day"));
        let want = [
            "day=__HIVE_DEFAULT_PARTITION__ 3,60.0",
            "day=mon 1,70.5",
            "day=mon 1,72.5",
            "day=tue 1,71.0",
            "day=tue 2,80.0",
        ];
        assert_eq!(by_day, want, "{check:?}");
        sql.register_saved_table("alerts").unwrap();
        sql.register_files("days", Files::saved_table(folder.path().join("by_day"))).unwrap();
        let text = "SELECT count(*), count(days.day), max(celsius) FROM days JOIN alerts USING (pump, celsius)";
        assert_eq!(sql.sql(text).unwrap().collect::<(i64, i64, f64)>().unwrap(), [(5, 4, 80.0)], "{check:?}");
    }
}

#[test]
fn what_happens_where_there_is_a_table_is_asked_for_each_batch() {
    let folder = tempfile::tempdir().unwrap();
    let table = |mode: fn(&'static str) -> SaveTable, name: &'static str| {
        let mut test = StreamTest::new();
        let sql = context(&test, folder.path());
        let numbers = test.input(batches![[1i64, 2], [3i64]]);
        numbers.save_as_table(&sql, mode(name));
        let ended = test.run(2);
        (plainly(&folder.path().join(name)).join(" "), ended.err().map(|error| error.to_string()))
    };
    assert_eq!(table(SaveTable::append, "a"), ("1 2 3".to_owned(), None));
    assert_eq!(table(SaveTable::append, "a").0, "1 1 2 2 3 3", "another program");
    assert_eq!(table(SaveTable::overwrite, "a"), ("3".to_owned(), None));
    assert_eq!(table(SaveTable::ignore, "a"), ("3".to_owned(), None));
    assert_eq!(table(SaveTable::ignore, "i"), ("1 2".to_owned(), None));
    let (rows, error) = table(SaveTable::error_if_exists, "e");
    assert_eq!(rows, "1 2");
    let error = error.unwrap();
    assert!(
        error.contains("the table `e` is there already: append to it") && error.contains("(save_as_table at "),
        "{error}"
    );
}

#[test]
fn a_table_without_rows_has_columns_and_rows_that_are_others_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut test = StreamTest::new();
    let sql = context(&test, folder.path());
    let none = test.input(batches![[], []]).map(|(pump, day): (i64, millstream::Text)| alert((pump, &day, 0.0)));
    none.save_as_table(&sql, SaveTable::append("alerts"));
    test.run(2).unwrap();
    sql.register_saved_table("alerts").unwrap();
    assert_eq!(
        sql.sql("SELECT count(pump), count(day), count(celsius) FROM alerts")
            .unwrap()
            .collect::<(i64, i64, i64)>()
            .unwrap(),
        [(0, 0, 0)]
    );

    let mut test = StreamTest::new();
    let sql = context(&test, folder.path());
    test.input(batches![[(1i64, "x")]]).save_as_table(&sql, SaveTable::append("alerts"));
    let error = test.run(1).unwrap_err().to_string();
    assert!(
        error.contains("the table `alerts` is (pump Int64, day Utf8, celsius Float64), and the rows are (_1 Int64"),
        "{error}"
    );

    for (table, want) in [
        (SaveTable::append("hive.alerts"), "databases are kept by Hive's metastore, which is not supported"),
        (SaveTable::append("a/b"), "`a/b` is no name"),
        (
            SaveTable::append("a").partition_by(["dya"]),
            "the table `a` is in folders by `dya`, and the rows have no such column",
        ),
        (SaveTable::append("a").partition_by(["_1", "_2"]), "one must stay in the files"),
    ] {
        let test = StreamTest::new();
        let sql = context(&test, folder.path());
        test.input(batches![[(1i64, "x")]]).save_as_table(&sql, table);
        let error = test.ssc().start().unwrap_err().to_string();
        assert!(error.contains(want) && error.contains("(save_as_table at "), "{want}: {error}");
    }
}

#[test]
fn a_table_that_another_program_writes_to_is_refused_and_two_outputs_of_one_may_share_it() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("taken/_millstream");
    std::fs::create_dir_all(&other).unwrap();
    let _lock = millstream::core::disk::RealDisk.lock(&other.join("lock")).unwrap().unwrap();
    let run = |name: &'static str| {
        let mut test = StreamTest::new();
        let sql = context(&test, folder.path());
        let numbers = test.input(batches![[1i64, 2], [3i64], [4i64]]);
        numbers.save_as_table(&sql, SaveTable::append(name));
        numbers.map(|n| n * 10).save_as_table(&sql, SaveTable::append(name));
        test.run(3).map_err(|error| error.to_string())
    };
    let error = run("taken").unwrap_err();
    assert!(error.contains("another program writes to the table `taken` and holds "), "{error}");
    run("shared").unwrap();
    assert_eq!(plainly(&folder.path().join("shared")).join(" "), "1 10 2 20 3 30 4 40");
}

const BATCHES: usize = 3;

fn rows() -> Batches<(i64, i64)> {
    let batch = |b: i64| Given::Elements((b * 4..b * 4 + 4).map(|n| (n % 2, n)).collect());
    Batches::new((0..BATCHES as i64).map(batch).collect())
}

/// What the entries of a table on a simulated disk say there is, and what of it is not there, or is there besides.
fn table_on(disk: &SimDisk, folder: &str) -> (Vec<i64>, Vec<String>) {
    let (mut there, mut rows) = (BTreeMap::<String, Vec<i64>>::new(), Vec::new());
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(next) = folders.pop() {
        for name in disk.list(&next).unwrap() {
            let path = next.join(&name);
            if name.ends_with(".parquet") {
                let bytes = bytes::Bytes::from(disk.read(&path).unwrap());
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
                let texts = reader.flat_map(|rows| millstream_sql::texts(&RecordBatch::from(rows.unwrap())).unwrap());
                let last = texts.map(|row| row.last().unwrap().as_ref().unwrap().parse().unwrap()).collect();
                there.insert(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned(), last);
            } else if name != "_millstream" {
                folders.push(path);
            }
        }
    }
    let own = Path::new(folder).join("_millstream");
    let mut entries: Vec<String> =
        disk.list(&own).unwrap().into_iter().filter(|name| name.ends_with(".json")).collect();
    entries.sort();
    let mut files: Vec<String> = Vec::new();
    for name in entries {
        let entry: serde_json::Value = serde_json::from_slice(&disk.read(&own.join(name)).unwrap()).unwrap();
        if entry["replaces"].as_bool().unwrap() {
            files.clear();
        }
        files.extend(entry["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()));
    }
    let mut wrong = Vec::new();
    for file in &files {
        match there.remove(file) {
            Some(of_file) => rows.extend(of_file),
            None => wrong.push(format!("{file} is not there")),
        }
    }
    wrong.extend(there.into_keys().map(|file| format!("{file} is there besides")));
    if !disk.list(&own.join("staged")).unwrap().is_empty() {
        wrong.push("something is staged".to_owned());
    }
    rows.sort_unstable();
    (rows, wrong)
}

#[test]
fn each_batch_is_in_a_table_once_whatever_step_of_the_disk_the_program_is_killed_at() {
    let program = |ssc: &StreamingContext| -> Result<()> {
        let sql = SqlContext::new(ssc)?;
        sql.set_warehouse("/warehouse");
        let rows = input(ssc, rows(), 2);
        rows.save_as_table(&sql, SaveTable::append("all")).uid("all");
        rows.save_as_table(&sql, SaveTable::append("parts").partition_by(["_1"])).uid("parts");
        rows.save_as_table(&sql, SaveTable::overwrite("last")).uid("last");
        Ok(())
    };
    let run = |fault: Option<u64>| {
        let disk = SimDisk::new(fault.unwrap_or_default());
        if let Some(step) = fault {
            disk.fail_at(step, Fault::Crash);
        }
        let lives = Lives::new(Check::new(2, 1), &disk, BATCHES).one_by_one();
        lives.run(&program).unwrap();
        if disk.is_down() {
            // It stopped behind the end of the last batch: the next start ends what that had left to do.
            disk.restart();
            lives.run(&program).unwrap();
        }
        let all: Vec<i64> = (0..BATCHES as i64 * 4).collect();
        for (table, want) in [("all", &all[..]), ("parts", &all[..]), ("last", &all[all.len() - 4..])] {
            let (rows, wrong) = table_on(&disk, &format!("/warehouse/{table}"));
            assert_eq!(rows, want, "{table}, killed at {fault:?}\n{}", disk.trace());
            assert!(wrong.is_empty(), "{table}, killed at {fault:?}: {wrong:?}\n{}", disk.trace());
        }
        (disk.operations().len() as u64, disk.fired().len())
    };
    let (steps, _) = run(None);
    let fired: usize = (1..=steps).map(|step| run(Some(step)).1).sum();
    assert!(fired as u64 > steps / 2, "{fired} of {steps}");
}

#[test]
fn a_data_frame_is_saved_as_a_table_at_once_in_sparks_modes() {
    let test = StreamTest::new();
    let folder = tempfile::tempdir().unwrap();
    let sql = context(&test, folder.path());
    let frame = |rows: &[(i64, &str)]| {
        let rows = rows.iter().map(|(n, day)| (*n, (*day).to_owned())).collect();
        sql.create_data_frame::<(i64, String)>(rows).unwrap().to_df_named(["n", "day"]).unwrap()
    };
    let seen = |name: &str| {
        sql.register_saved_table(name).unwrap();
        sql.sql(&format!("SELECT n, day FROM {name} ORDER BY n")).unwrap().collect::<(i64, String)>().unwrap()
    };
    let rows = |all: &[(i64, &str)]| all.iter().map(|(n, day)| (*n, (*day).to_owned())).collect::<Vec<_>>();

    let by_day = || SaveTable::append("days").partition_by(["day"]);
    frame(&[(1, "mon"), (2, "tue")]).save_as_table(by_day()).unwrap();
    frame(&[(3, "mon")]).save_as_table(by_day()).unwrap();
    assert_eq!(seen("days"), rows(&[(1, "mon"), (2, "tue"), (3, "mon")]));
    assert_eq!(std::fs::read_dir(folder.path().join("days/day=mon")).unwrap().count(), 2);

    frame(&[(9, "sun")]).save_as_table(SaveTable::ignore("days")).unwrap();
    let error = frame(&[(9, "sun")]).save_as_table(SaveTable::error_if_exists("days")).unwrap_err();
    assert!(error.message().contains("the table `days` is there already"), "{error}");
    assert!(error.to_string().contains("(save_as_table at ") && error.to_string().contains("warehouse.rs:"), "{error}");
    let error = frame(&[(9, "sun")]).save_as_table(SaveTable::append("days")).unwrap_err();
    assert!(error.message().contains("write them as the table has them"), "{error}");
    assert_eq!(seen("days").len(), 3);

    frame(&[(4, "wed")]).save_as_table(SaveTable::overwrite("days").partition_by(["day"])).unwrap();
    assert_eq!(seen("days"), rows(&[(4, "wed")]));
    assert_eq!(std::fs::read_dir(folder.path().join("days/day=mon")).unwrap().count(), 0);

    // Without rows there are columns all the same.
    frame(&[(1, "mon")]).filter("n > 1").unwrap().save_as_table(SaveTable::append("none")).unwrap();
    assert_eq!(seen("none"), []);
    let error = frame(&[(1, "mon")]).save_as_table(SaveTable::append("db.days")).unwrap_err();
    assert!(error.message().contains("databases are kept by Hive's metastore"), "{error}");
}
