//! Data frames: Spark's verbs, its tables and trees to the character, views, and files as tables.

use std::fs;

use millstream::sql::arrow::array::{Int64Array, StringArray};
use millstream::sql::arrow::record_batch::RecordBatch as ArrowBatch;
use millstream::sql::{Date, Files, Row, SqlContext};
use millstream::{Context, ErrorKind};

fn context() -> (Context, SqlContext) {
    let context = Context::new("local[2]", "frames").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    (context, sql)
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Person {
    name: String,
    age: Option<i32>,
    tags: Vec<String>,
    home: (i64, f64),
}

fn people(sql: &SqlContext) -> millstream::sql::DataFrame {
    let person = |name: &str, age: Option<i32>, tags: &[&str]| Person {
        name: name.to_owned(),
        age,
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        home: (name.len() as i64, 1e7),
    };
    let people = vec![
        person("Ada", Some(36), &["math", "code"]),
        person("Barbara", None, &[]),
        person("Grace Brewster Murray Hopper", Some(85), &["navy"]),
    ];
    sql.create_data_frame(people).unwrap()
}

#[test]
fn a_table_is_shown_as_spark_shows_it() {
    let (_context, sql) = context();
    let people = people(&sql);
    let want = "\
+--------------------+----+------------+-----------+
|                name| age|        tags|       home|
+--------------------+----+------------+-----------+
|                 Ada|  36|[math, code]| {3, 1.0E7}|
|             Barbara|NULL|          []| {7, 1.0E7}|
|Grace Brewster Mu...|  85|      [navy]|{28, 1.0E7}|
+--------------------+----+------------+-----------+
";
    assert_eq!(people.show_string(20, 20).unwrap(), want);
    let want = "+----+\n|name|\n+----+\n|Ada |\n+----+\nonly showing top 1 row\n";
    assert_eq!(people.select_expr(["name"]).unwrap().show_string(1, 0).unwrap(), want);
    let tree = "\
root
 |-- name: string (nullable = false)
 |-- age: integer (nullable = true)
 |-- tags: array (nullable = false)
 |    |-- element: string (containsNull = false)
 |-- home: struct (nullable = false)
 |    |-- _1: long (nullable = false)
 |    |-- _2: double (nullable = false)
";
    assert_eq!(people.schema_string(), tree);
    assert!(people.explain_string().unwrap().contains("== Physical Plan =="));
}

#[test]
fn frames_have_sparks_verbs() {
    let (context, sql) = context();
    let people = people(&sql);
    let ages = people.select_expr(["name", "age"]).unwrap();
    let known = ages.filter("age IS NOT NULL").unwrap().order_by(["age DESC"]).unwrap();
    let first: Vec<(String, i32)> = known.limit(1).unwrap().collect().unwrap();
    assert_eq!(first, [("Grace Brewster Murray Hopper".to_owned(), 85)], "an order is kept by what comes behind");
    assert_eq!(ages.union(&ages).unwrap().count().unwrap(), 6);
    assert_eq!(ages.union(&ages).unwrap().distinct().unwrap().count().unwrap(), 3);
    let groups = people.group_by(["age IS NULL AS unknown"], ["count(*) AS n"]);
    assert!(groups.is_err(), "a key has no name of its own");
    let groups = ages.union(&ages).unwrap().group_by(["name"], ["count(*) AS n", "max(age) AS oldest"]).unwrap();
    let groups: Vec<(String, i64, Option<i32>)> = groups.order_by(["name"]).unwrap().collect().unwrap();
    assert_eq!(groups[0], ("Ada".to_owned(), 2, Some(36)));
    let joined = ages.join(&groups_of(&sql), ["name"]).unwrap();
    assert_eq!(joined.collect::<(String, Option<i32>, i64)>().unwrap(), [("Ada".to_owned(), Some(36), 7)]);
    let rdd = known.rdd::<(String, i32)>(&context).unwrap();
    assert_eq!(rdd.map(|(_, age)| age).collect().unwrap(), [85, 36]);
    assert_eq!(format!("{ages:?}"), "[name: string, age: int]");
    let error = ages.to_df_named(["one"]).unwrap_err();
    assert_eq!(error.message(), "1 names are given to 2 columns");
}

fn groups_of(sql: &SqlContext) -> millstream::sql::DataFrame {
    sql.create_data_frame(vec![("Ada".to_owned(), 7i64)]).unwrap().to_df_named(["name", "n"]).unwrap()
}

#[test]
fn views_are_found_replaced_and_dropped_and_belong_to_one_engine() {
    let (context, sql) = context();
    let rows = |n: i64| sql.create_data_frame(vec![n]).unwrap();
    rows(1).create_temp_view("One").unwrap();
    let error = rows(2).create_temp_view("one").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let seen = sql.sql("SELECT value FROM ONE").unwrap();
    rows(2).create_or_replace_temp_view("one").unwrap();
    assert_eq!(seen.collect::<i64>().unwrap(), [1], "a frame keeps the tables as they were");
    assert_eq!(sql.sql("SELECT value FROM one").unwrap().collect::<i64>().unwrap(), [2]);
    rows(3).create_or_replace_global_temp_view("gold").unwrap();
    assert_eq!(sql.sql("SELECT value FROM global_temp.gold").unwrap().collect::<i64>().unwrap(), [3]);
    assert_eq!(SqlContext::get_or_create(&context).unwrap().table_names(), ["global_temp.gold", "one"]);
    let other = Context::new("local[1]", "other").unwrap();
    assert!(SqlContext::get_or_create(&other).unwrap().table_names().is_empty());
    assert!(sql.drop_temp_view("ONE") && !sql.drop_temp_view("one"));
    let error = sql.sql("SELECT * FROM one").unwrap_err();
    assert!(error.message().starts_with("no table `one` at line 1, column 15"), "{error}");
    for name in ["", "1a", "a.b", "a b", "a;drop"] {
        assert_eq!(rows(1).create_or_replace_temp_view(name).unwrap_err().kind(), ErrorKind::Config, "{name}");
    }
}

#[test]
fn files_of_csv_json_and_parquet_are_tables_by_path_folder_and_pattern() {
    let (_context, sql) = context();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    // The types are found from all rows, and from all files.
    write("csv/1.csv", "Id,price,day,note\n1,2,2024-02-29,\n");
    write("csv/2.csv", "id,price,day,note\n2,2.5,2024-03-01,x\n");
    write("csv/_SUCCESS", "");
    write("csv/.2.csv.crc", "crc");
    sql.register_csv("goods", folder.path().join("csv")).unwrap();
    let goods = sql.sql("SELECT ID, price, day, note FROM goods ORDER BY id").unwrap();
    let rows = goods.collect::<(i64, f64, Date, Option<String>)>().unwrap();
    let day = |text: &str| text.parse::<Date>().unwrap();
    assert_eq!(rows, [(1, 2.0, day("2024-02-29"), None), (2, 2.5, day("2024-03-01"), Some("x".to_owned()))]);
    sql.register_csv("some", folder.path().join("csv/*2.csv")).unwrap();
    assert_eq!(sql.sql("SELECT count(*) FROM some").unwrap().collect::<i64>().unwrap(), [1]);

    let path = write("plain.csv", "1;a\n2;b\n");
    sql.register_files("plain", Files::csv(&path).header(false).delimiter(';')).unwrap();
    assert_eq!(sql.sql("SELECT _c1 FROM plain WHERE _c0 = 2").unwrap().collect::<String>().unwrap(), ["b"]);
    sql.register_files("given", Files::csv(&path).header(false).delimiter(';').rows_of::<(f64, String)>()).unwrap();
    assert_eq!(sql.sql("SELECT _1 FROM given").unwrap().collect::<f64>().unwrap(), [1.0, 2.0]);

    write("days/day=2024-01-01/hour=3/a.json", "{\"k\": 1, \"in\": {\"x\": [1, 2]}}\n{\"k\": 2}\n");
    write("days/day=2024-01-02/hour=4/a.json", "{\"k\": 3, \"in\": {\"x\": []}}\n");
    sql.register_json("events", folder.path().join("days")).unwrap();
    let text = "SELECT k, day, hour FROM events WHERE hour > 3 OR k = 2 ORDER BY k";
    let rows = sql.sql(text).unwrap().collect::<(i64, String, i64)>().unwrap();
    assert_eq!(rows, [(2, "2024-01-01".to_owned(), 3), (3, "2024-01-02".to_owned(), 4)]);

    let columns = ArrowBatch::try_from_iter([
        ("k", std::sync::Arc::new(Int64Array::from(vec![7])) as _),
        ("v", std::sync::Arc::new(StringArray::from(vec!["seven"])) as _),
    ]);
    let path = folder.path().join("t.parquet");
    parquet_of(&path, &columns.unwrap());
    sql.register_parquet("kept", &path).unwrap();
    assert_eq!(sql.sql("SELECT v FROM kept").unwrap().collect::<String>().unwrap(), ["seven"]);
}

fn parquet_of(path: &std::path::Path, columns: &ArrowBatch) {
    use datafusion::parquet::arrow::ArrowWriter;
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), columns.schema(), None).unwrap();
    writer.write(columns).unwrap();
    writer.close().unwrap();
}

#[test]
fn files_that_cannot_be_a_table_are_told_by_name_and_line() {
    let (_context, sql) = context();
    let folder = tempfile::tempdir().unwrap();
    for (name, text, want) in [
        ("torn.csv", "a,b\n1,2\n3\n", "line"),
        ("torn.json", "{\"a\": 1}\n{\"a\": \n", "torn.json cannot be read as a table"),
        ("no.parquet", "not parquet", "no.parquet cannot be read as a table"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let error = match name.rsplit('.').next() {
            Some("csv") => sql.register_csv("t", &path),
            Some("json") => sql.register_json("t", &path),
            _ => sql.register_parquet("t", &path),
        };
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().contains(want) && error.message().contains(name), "{error}");
    }
    let error = sql.register_csv("t", folder.path().join("missing")).unwrap_err();
    assert!(error.message().contains("missing cannot be read as a table"), "{error}");
    let error = sql.register_csv("t", folder.path().join("*.none")).unwrap_err();
    assert!(error.message().contains("there are no files"), "{error}");
    let error = sql.register_parquet("t", "gs://bucket/day=*/x.parquet").unwrap_err();
    let want =
        "gs://bucket/day=*/x.parquet is in a store that is reached by `gs`: open it, and give it to Files::in_store";
    assert_eq!((error.message(), error.kind()), (want, ErrorKind::Config));
    let error = sql.register_files("t", Files::saved_table("s3://bucket/t")).unwrap_err();
    assert!(error.message().ends_with("is in a store, and a table of a warehouse is read from its folder"), "{error}");
    let error = sql.register_csv("t", "readings.avro").unwrap_err();
    assert!(error.message().starts_with("readings.avro is Avro: read it with Files::avro"), "{error}");
    fs::create_dir(folder.path().join("two")).unwrap();
    fs::write(folder.path().join("two/a.csv"), "a,b\n1,2\n").unwrap();
    fs::write(folder.path().join("two/b.csv"), "b,a\n1,2\n").unwrap();
    let error = sql.register_csv("t", folder.path().join("two")).unwrap_err();
    assert!(error.message().contains("b.csv cannot be read as a table: its columns are b, a"), "{error}");
    assert!(sql.table_names().is_empty());
    assert_eq!(sql.refresh_table("t").unwrap_err().message(), "no table `t` There are none");
}

#[test]
fn what_datafusion_means_otherwise_means_what_spark_means_on_columns_too() {
    let (_context, sql) = context();
    let rows = vec![
        (Some(vec![7i64, 8]), Some("spark".to_owned()), Some(-2i64), Some(i32::MAX)),
        (Some(Vec::new()), None, Some(2), Some(1)),
        (None, Some("ab".to_owned()), None, None),
    ];
    let frame = sql.create_data_frame(rows).unwrap().to_df_named(["list", "word", "n", "i"]).unwrap();
    frame.create_or_replace_temp_view("t").unwrap();
    let texts = |statement: &str| -> Result<String, String> {
        let columns = sql.sql(statement).and_then(|frame| frame.to_columns()).map_err(|e| e.message().to_owned())?;
        let rows: Vec<Vec<Option<String>>> =
            columns.iter().flat_map(|columns| millstream::sql::texts(columns).unwrap()).collect();
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
        let row = |row: Vec<Option<String>>| row.into_iter().map(cell).collect::<Vec<_>>().join(",");
        Ok(rows.into_iter().map(row).collect::<Vec<_>>().join(" "))
    };
    for (statement, want) in [
        ("SELECT get(list, 0), try_element_at(list, -1) FROM t", "7,8 -,- -,-"),
        ("SELECT list[0], element_at(list, 2) FROM t WHERE n < 0", "7,8"),
        ("SELECT substring(word, n), left(word, n), concat(word, '!') FROM t", "rk,,spark! -,-,- -,-,ab!"),
        ("SELECT sum(n), sum(DISTINCT n), sum(i) FROM t", "0,0,2147483648"),
        ("SELECT word, sum(n) FROM t WHERE n IS NOT NULL GROUP BY word ORDER BY word", "-,2 spark,-2"),
        ("SELECT concat(CAST(1e7 AS DOUBLE), '|', TIMESTAMP'2024-01-01 00:00:00')", "1.0E7|2024-01-01 00:00:00"),
        ("SELECT datediff('2024-03-01', '2024-02-01'), dayofweek(DATE'2024-03-03')", "29,1"),
        ("SELECT unix_micros(TIMESTAMP'1970-01-01 00:00:01.5')", "1500000"),
    ] {
        assert_eq!(texts(statement).as_deref(), Ok(want), "{statement}");
    }
    for (statement, want) in [
        ("SELECT list[2] FROM t WHERE n < 0", "no element 2 in a list of 2: write get(list, i), which gives null"),
        ("SELECT i + 1 FROM t", "overflow in `i + 1`"),
        ("SELECT sum(n) FROM (SELECT 9223372036854775807 AS n UNION ALL SELECT 1)", "overflow in `sum`"),
        ("SELECT DATE'2024-03-01' - DATE'2024-02-01'", "a time minus a time is refused: write datediff(a, b)"),
        ("SELECT CAST(1.5 AS TIMESTAMP)", "CAST of a double AS TIMESTAMP is refused: write to_timestamp_micros("),
        ("SELECT 1.1 / 2", "`1.1 / 2` is refused: 1.1 is a DECIMAL in Spark and a DOUBLE here, write 1.1e0"),
    ] {
        let error = texts(statement).unwrap_err();
        assert!(error.contains(want), "{statement}: {error}");
    }
}
