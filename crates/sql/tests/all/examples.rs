//! The examples do what their headers say.

use millstream::sql::{Date, SqlContext};
use millstream::{Context, Text, secs};
use millstream_testkit::{Batches, Check, Row, StreamTest, batches};

#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "an example has a main, which prints and is not run here"
)]
#[path = "../../../../examples/hashtags_top10.rs"]
mod hashtags_top10;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "an example has a main, which prints and is not run here"
)]
#[path = "../../../../examples/pump_alerts.rs"]
mod pump_alerts;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "an example has a main, which prints and is not run here"
)]
#[path = "../../../../examples/sql_word_count.rs"]
mod sql_word_count;

use pump_alerts::{Alert, Reading};

#[test]
fn words_of_a_batch_are_counted() {
    let context = Context::new("local[2]", "words").unwrap();
    let words = context.parallelize("to be or not to be".split(' ').map(Text::from).collect(), 2);
    let mut counts = sql_word_count::counts(&words).unwrap().collect::<(String, i64)>().unwrap();
    counts.sort();
    assert_eq!(counts, [("be", 2), ("not", 1), ("or", 1), ("to", 2)].map(|(word, n)| (word.to_owned(), n)));
}

#[test]
fn alerts_are_what_sqlite_answers_to_the_same_statement_over_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    pump_alerts::write_tables(folder.path()).unwrap();
    let mut test = Check::new(3, 2).context();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let rows: Vec<Vec<(i64, f64)>> = (0..8)
        .map(|batch: i64| {
            (0..batch * 5).map(|i| (1 + (i * 7 + batch) % 5, 55.0 + ((i * 13 + batch * 3) % 31) as f64)).collect()
        })
        .collect();
    let input = Batches::new(rows.iter().map(|batch| Row::Elements(batch.clone())).collect());
    let readings = test.input(input).map(|(pump, celsius)| Reading { pump, celsius });
    let (tell, told) = std::sync::mpsc::channel();
    pump_alerts::alerts(&sql, &readings, folder.path())
        .unwrap()
        .foreach_rdd(move |rdd, _| tell.send(rdd.collect()?).map_err(millstream::Error::user));
    test.run(8).unwrap();
    let ours: Vec<Vec<Alert>> = told.try_iter().collect();
    let theirs: Vec<Vec<Alert>> = rows.iter().map(|batch| by_sqlite(batch)).collect();
    assert_eq!(ours, theirs);
    assert!(theirs.iter().flatten().count() > 5, "there are alerts");
}

/// Asks SQLite the statement. A day is text there, which is compared as days are.
fn by_sqlite(readings: &[(i64, f64)]) -> Vec<Alert> {
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE readings (pump, celsius REAL);
         CREATE TABLE vendors (pump, vendor, max_celsius REAL);
         CREATE TABLE maintenance (pump, checked);
         INSERT INTO vendors VALUES (1, 'Ada & Co', 70.5), (2, 'Kilby', 80), (3, 'Kilby', 80), (4, 'Hopper', 60);
         INSERT INTO maintenance VALUES (1, '2024-05-02'), (2, '2024-06-20'), (3, '2023-12-24');",
    )
    .unwrap();
    for reading in readings {
        db.execute("INSERT INTO readings VALUES (?, ?)", *reading).unwrap();
    }
    let mut query = db.prepare(&pump_alerts::STATEMENT.replace("DATE '", "'")).unwrap();
    let alerts = query.query_map((), |row| {
        let checked: Option<String> = row.get(4)?;
        let checked: Option<Date> = checked.map(|day| day.parse().unwrap());
        Ok(Alert { pump: row.get(0)?, vendor: row.get(1)?, hottest: row.get(2)?, allowed: row.get(3)?, checked })
    });
    alerts.unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_ten_hashtags_of_the_window_are_counted() {
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let tweets = test.input(batches![["#a #b x", "#a # y"], ["#c #b"], ["#d"]]);
    let top = test.collect(&hashtags_top10::top10(&sql, &tweets, secs(2)));
    test.run(3).unwrap();
    assert_eq!(top.table().to_string(), "1s (#a,2) (#b,1)\n2s (#a,2) (#b,2) (#c,1)\n3s (#b,1) (#c,1) (#d,1)");
}
