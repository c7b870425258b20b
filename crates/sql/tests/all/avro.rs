//! Files of Avro as tables: nested types, what may be null, every way of packing, and files that are torn at any byte. `avro/make.py` made the files.

use std::fs;
use std::path::{Path, PathBuf};

use millstream::sql::{Files, Row, SqlContext, SqlStreams as _};
use millstream::{Context, ErrorKind, secs};
use millstream_testkit::{StreamTest, batches};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/avro").join(name)
}

fn context() -> (Context, SqlContext) {
    let context = Context::new("local[2]", "avro").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    (context, sql)
}

fn texts(sql: &SqlContext, statement: &str) -> String {
    let columns = sql.sql(statement).and_then(|frame| frame.to_columns()).unwrap();
    let rows = columns.iter().flat_map(|columns| millstream::sql::texts(columns).unwrap());
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let row = |row: Vec<Option<String>>| row.into_iter().map(cell).collect::<Vec<_>>().join("|");
    rows.map(row).collect::<Vec<_>>().join("\n")
}

const TREE: &str = "\
root
 |-- sensor: string (nullable = false)
 |-- celsius: double (nullable = true)
 |-- count: integer (nullable = false)
 |-- big: long (nullable = false)
 |-- ratio: float (nullable = false)
 |-- is_on: boolean (nullable = false)
 |-- at: timestamp (nullable = false)
 |-- at_ms: timestamp (nullable = true)
 |-- day: date (nullable = false)
 |-- price: decimal(10,2) (nullable = false)
 |-- kind: string (nullable = false)
 |-- id: string (nullable = false)
 |-- key: binary (nullable = false)
 |-- raw: binary (nullable = false)
 |-- noon: integer (nullable = false)
 |-- tags: array (nullable = false)
 |    |-- element: string (containsNull = false)
 |-- notes: array (nullable = true)
 |    |-- element: string (containsNull = true)
 |-- limits: map (nullable = false)
 |    |-- key: string
 |    |-- value: double (valueContainsNull = false)
 |-- place: struct (nullable = false)
 |    |-- floor: integer (nullable = false)
 |    |-- note: string (nullable = true)
 |    |-- since: timestamp (nullable = false)
 |-- point: struct (nullable = true)
 |    |-- x: double (nullable = true)
 |-- path: array (nullable = false)
 |    |-- element: struct (containsNull = false)
 |    |    |-- x: double (nullable = false)
";

#[derive(Clone, Debug, PartialEq, Row)]
struct Point {
    x: f64,
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Reading {
    sensor: String,
    celsius: Option<f64>,
    tags: Vec<String>,
    notes: Option<Vec<Option<String>>>,
    point: Option<Point>,
    path: Vec<Point>,
}

#[test]
fn every_type_of_avro_is_a_column_however_its_blocks_are_packed() {
    let (_context, sql) = context();
    for codec in ["null", "deflate", "snappy", "zstandard", "bzip2", "xz"] {
        sql.register_avro("t", file(&format!("{codec}.avro"))).unwrap();
        assert_eq!(sql.sql("SELECT * FROM t").unwrap().schema_string(), TREE, "{codec}");
        let statement = "SELECT sensor, celsius, count, big, ratio, is_on, at, at_ms, day, price, kind, id, hex(key), hex(raw), noon FROM t";
        let want = "\
p0|0.5|0|1099511627776|0.0|false|2024-02-29 13:30:00.00025|2024-02-29 13:30:00|2024-02-25|-0.05|INSIDE|\
00000000-0000-0000-0000-000000000000|000000FF||43200000
p1|-|-1|2199023255552|0.25|false|2024-02-29 13:30:01.00025|-|2024-02-26|-1.05|INSIDE|\
00000000-0000-0000-0000-000000000001|010000FF|FF|43201000
p2|2.5|-2|4398046511104|0.5|false|2024-02-29 13:30:02.00025|2024-02-29 13:30:02.002|2024-02-27|-2.05|INSIDE|\
00000000-0000-0000-0000-000000000002|020000FF|FFFF|43202000
p3|-|-3|8796093022208|0.75|true|2024-02-29 13:30:03.00025|2024-02-29 13:30:03.003|2024-02-28|-3.05|OUTSIDE|\
00000000-0000-0000-0000-000000000003|030000FF|FFFFFF|43203000
p4|4.5|-4|17592186044416|1.0|true|2024-02-29 13:30:04.00025|2024-02-29 13:30:04.004|2024-02-29|-4.05|INSIDE|\
00000000-0000-0000-0000-000000000004|040000FF|FFFFFFFF|43204000";
        assert_eq!(texts(&sql, statement), want, "{codec}");
        let statement = "SELECT tags, notes, limits['k1'], place.floor, place.note, point.x, size(path) FROM t WHERE at > TIMESTAMP'2024-02-29 13:30:01'";
        let want = "[t0]|[x]|-|1|roof|-|1\n[t0, t1]|[x, NULL]|0.5|2|-|-|0\n[t0, t1, t2]|[x, NULL]|-|3|roof|-|1\n\
                    [t0, t1, t2, t3]|[x, NULL]|-|4|roof|4.0|0";
        assert_eq!(texts(&sql, statement).replace("null", "NULL"), want, "{codec}");
        let statement =
            "SELECT sensor, celsius, tags, notes, point, path FROM t WHERE sensor IN ('p0', 'p4') ORDER BY 1";
        let rows = sql.sql(statement).unwrap().collect::<Reading>().unwrap();
        let first = Reading {
            sensor: "p0".to_owned(),
            celsius: Some(0.5),
            tags: vec![],
            notes: None,
            point: None,
            path: vec![],
        };
        assert_eq!((&rows[0], rows[1].point.as_ref()), (&first, Some(&Point { x: 4.0 })), "{codec}");
    }
}

#[test]
fn a_file_without_rows_has_columns_and_files_are_found_in_folders_and_by_patterns() {
    let (_context, sql) = context();
    sql.register_avro("none", file("none.avro")).unwrap();
    let none = sql.sql("SELECT * FROM none").unwrap();
    assert_eq!((none.schema_string().as_str(), none.count().unwrap()), (TREE, 0));

    let folder = tempfile::tempdir().unwrap();
    for (name, from) in [("part=1/a.avro", "null"), ("part=2/b.avro", "xz"), ("part=2/none.avro", "none")] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(file(&format!("{from}.avro")), path).unwrap();
    }
    fs::write(folder.path().join("_SUCCESS"), "").unwrap();
    sql.register_avro("days", folder.path()).unwrap();
    assert_eq!(texts(&sql, "SELECT part, count(*) FROM days GROUP BY part ORDER BY part"), "1|5\n2|5");
    sql.register_avro("some", folder.path().join("part=*/[ab].avro")).unwrap();
    assert_eq!(texts(&sql, "SELECT count(*) FROM some"), "10");
    sql.register_files("few", Files::avro(file("null.avro")).rows_of::<(String,)>()).unwrap_err();
    let error = sql.register_csv("t", file("null.avro")).unwrap_err();
    assert!(
        error.message().ends_with("null.avro is Avro: read it with Files::avro, or register_avro (feature `avro`)"),
        "{error}"
    );
}

#[test]
fn a_union_of_several_types_is_told_by_the_column() {
    let (_context, sql) = context();
    let error = sql.register_avro("t", file("union.avro")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    let want = "union.avro cannot be read as a table: the column `of.what` is a union of several types";
    assert!(error.message().contains(want), "{error}");
}

/// Where the head and each block of a file end.
fn ends(bytes: &[u8]) -> Vec<usize> {
    let mark = b"0123456789abcdef";
    (mark.len()..=bytes.len()).filter(|end| bytes[..*end].ends_with(mark)).collect()
}

#[test]
fn a_file_that_is_torn_at_any_byte_is_told_with_the_place_and_never_read_as_if_it_were_whole() {
    let (_context, sql) = context();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("torn.avro");
    for codec in ["null", "snappy"] {
        let whole = fs::read(file(&format!("{codec}.avro"))).unwrap();
        let ends = ends(&whole);
        assert_eq!(ends.len(), 4, "a head and three blocks");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let read = sql.register_avro("t", &path);
            if ends.contains(&cut) {
                read.unwrap();
                continue;
            }
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            let blocks = ends.iter().filter(|end| **end <= cut).count();
            let want = match blocks {
                0 if cut < 4 => "it does not begin as a file of Avro does".to_owned(),
                0 => "its head is torn: ".to_owned(),
                n => format!("block {n} at byte {} is torn: ", ends[n - 1]),
            };
            let message = error.message();
            assert!(
                message.contains("torn.avro cannot be read as a table: ") && message.contains(&want),
                "{cut}: {error}"
            );
        }
    }
}

#[test]
fn a_byte_that_is_another_makes_other_rows_or_an_error_with_its_block_and_nothing_hangs() {
    let (_context, sql) = context();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.avro");
    for codec in ["null", "snappy", "deflate"] {
        let whole = fs::read(file(&format!("{codec}.avro"))).unwrap();
        let (ends, mut told) = (ends(&whole), 0);
        for at in ends[0]..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0x41;
            fs::write(&path, &broken).unwrap();
            let Err(error) = sql.register_avro("t", &path) else { continue };
            told += 1;
            let block = ends.iter().filter(|end| **end <= at).count();
            let message = error.message();
            // A block whose length is another may be told by the one behind it.
            assert!((1..=block + 1).any(|b| message.contains(&format!("block {b} at byte "))), "{at}: {error}");
        }
        assert!(told > 0, "{codec}");
        // Snappy's checksums are over all that is in a block.
        let within = whole.len() - ends[0] - 3 * 16;
        assert!(codec != "snappy" || told > within, "{told} of {within}");
    }
    // One that says it has fewer rows than it has.
    let whole = fs::read(file("null.avro")).unwrap();
    let at = ends(&whole)[0];
    let mut fewer = whole.clone();
    assert_eq!(fewer[at], 4, "two rows");
    fewer[at] = 2;
    fs::write(&path, &fewer).unwrap();
    sql.register_avro("t", &path).unwrap();
    assert_eq!(texts(&sql, "SELECT sensor FROM t"), "p0\np2\np3\np4", "a block has the rows that it says");
    fewer[at] = 6;
    fs::write(&path, &fewer).unwrap();
    let error = sql.register_avro("t", &path).unwrap_err();
    assert!(error.message().contains(&format!("block 1 at byte {at}, behind row 0: ")), "{error}");
}

#[test]
fn a_table_of_avro_is_read_again_and_joined_with_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.avro");
    fs::copy(file("null.avro"), &path).unwrap();
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_files("pumps", Files::avro(&path).refreshed_every(secs(1))).unwrap();
    let names = test.input(batches![["p3", "p9"], ["p3"], ["p3"]]);
    let floors = names.sql::<i32>(&sql, "n", "SELECT place.floor FROM n JOIN pumps ON value = sensor");
    let seen = test.collect(&floors);
    test.run(1).unwrap();
    fs::copy(file("none.avro"), &path).unwrap();
    test.run(1).unwrap();
    let whole = fs::read(file("null.avro")).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    test.run(1).unwrap();
    assert!(sql.refresh_error("pumps").unwrap().message().contains("is torn"));
    assert_eq!(seen.table().to_string(), "1s 3");
}
