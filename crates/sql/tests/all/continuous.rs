//! Statements that are kept up to date: against SQLite over all rows so far, through crashes and new builds, in every place.

use std::sync::{Arc, Mutex};

use millstream::sql::{Files, RecordBatch, Row, SqlContext, SqlStreams as _};
use millstream::{DStream, Error, ExchangeData, Result, StreamingContext, secs};
use millstream_testkit::{Batches, Check, Fault, Lives, Row as Given, SimDisk, StreamTest, batches, input};

/// Runs a program in every place, and compares what comes out.
fn everywhere<U: ExchangeData>(batches: usize, program: impl Fn(&StreamTest, &SqlContext) -> DStream<U>, want: &str) {
    for check in Check::new(3, 2).everywhere() {
        let mut test = check.context();
        let sql = SqlContext::new(test.ssc()).unwrap();
        let seen = test.collect(&program(&test, &sql));
        test.run(batches).unwrap();
        assert_eq!(seen.table().sorted().to_string(), want, "{check:?}");
    }
}

#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
struct Reading {
    sensor: String,
    #[row(rename = "maxCelsius")]
    celsius: f64,
}

fn readings(test: &StreamTest) -> DStream<Reading> {
    let pairs =
        test.input(batches![[("a", 20.0), ("b", 70.5), ("a", 22.0)], [], [("b", 80.5)], [("c", 1.0), ("b", 1.0)]]);
    pairs.map(|(sensor, celsius)| Reading { sensor: sensor.to_string(), celsius })
}

#[test]
fn the_whole_answer_is_there_behind_each_batch_and_beside_it_what_changed() {
    let text =
        "SELECT Sensor, count(*) AS n, MAX(maxcelsius) AS hot FROM Readings GROUP BY sensor HAVING max(maxCelsius) > 2";
    everywhere(
        4,
        |test, sql| readings(test).continuous_sql::<(String, i64, f64)>(sql, "readings", text).stream(),
        "1s (a,2,22.0) (b,1,70.5)\n2s (a,2,22.0) (b,1,70.5)\n3s (a,2,22.0) (b,2,80.5)\n4s (a,2,22.0) (b,3,80.5)",
    );
    everywhere(
        4,
        |test, sql| readings(test).continuous_sql::<(String, i64, f64)>(sql, "readings", text).changes(),
        "1s (a,2,22.0) (b,1,70.5)\n3s (b,2,80.5)\n4s (b,3,80.5)",
    );
}

#[test]
fn all_of_a_stream_is_one_group_that_is_there_before_its_first_row() {
    everywhere(
        3,
        |test, sql| {
            let numbers = test.input(batches![[], MISSING, [1i64, 2, 3]]);
            numbers.continuous_sql::<(i64, Option<i64>)>(sql, "n", "SELECT count(*), sum(value) FROM n").stream()
        },
        "1s (0,None)\n2s (0,None)\n3s (3,Some(6))",
    );
}

#[test]
fn behind_the_groups_may_stand_an_order_a_limit_another_grouping_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms.csv");
    std::fs::write(&path, "sensor,room\na,cellar\nb,roof\nc,roof\n").unwrap();
    let top = "SELECT sensor, sum(maxCelsius) AS s FROM r GROUP BY sensor ORDER BY s DESC LIMIT 1";
    everywhere(
        4,
        |test, sql| readings(test).continuous_sql::<(String, f64)>(sql, "r", top).stream(),
        "1s (b,70.5)\n2s (b,70.5)\n3s (b,151.0)\n4s (b,152.0)",
    );
    // Below them, a row is joined; above them, a group is.
    let below = "SELECT room, count(*) FROM r JOIN rooms USING (sensor) GROUP BY room";
    let above = "SELECT room, sum(n) FROM (SELECT sensor, count(*) AS n FROM r GROUP BY sensor) AS g JOIN rooms USING (sensor) \
                 GROUP BY room";
    for text in [below, above] {
        everywhere(
            4,
            |test, sql| {
                sql.register_csv("rooms", &path).unwrap();
                readings(test).continuous_sql::<(String, i64)>(sql, "r", text).stream()
            },
            "1s (cellar,2) (roof,1)\n2s (cellar,2) (roof,1)\n3s (cellar,2) (roof,2)\n4s (cellar,2) (roof,4)",
        );
    }
}

#[test]
fn a_row_is_joined_with_a_table_as_it_was_in_the_rows_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rates.csv");
    let write = |rate: i64| std::fs::write(&path, format!("rate\n{rate}\n")).unwrap();
    write(1);
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_files("rates", Files::csv(&path)).unwrap();
    let numbers = test.input(batches![[1i64, 2], [1i64], [1i64]]);
    let sums = numbers.continuous_sql::<i64>(&sql, "n", "SELECT sum(value * rate) FROM n CROSS JOIN rates");
    let seen = test.collect(&sums);
    test.run(2).unwrap();
    write(100);
    sql.refresh_table("rates").unwrap();
    test.run(1).unwrap();
    assert_eq!(seen.table().to_string(), "1s 3\n2s 4\n3s 104");
    std::fs::write(&path, "rate\n1.5\n").unwrap();
    sql.refresh_table("rates").unwrap();
    let error = test.run(1).unwrap_err().to_string();
    assert!(error.contains("the groups of a statement have other types, since a table was read again"), "{error}");
}

#[test]
fn a_batch_whose_sum_does_not_fit_fails_with_the_line_of_the_statement() {
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let numbers = test.input(batches![[("a", 1i64), ("b", i64::MAX)], [("a", 5i64), ("b", 1i64)]]);
    let numbers = numbers.map(|(key, n)| (key.to_string(), n));
    let sums = numbers.continuous_sql::<(String, i64)>(&sql, "n", "SELECT _1, sum(_2) FROM n GROUP BY _1");
    let seen = test.collect(&sums.stream());
    let error = test.run(2).unwrap_err().to_string();
    assert_eq!(seen.table().sorted().to_string(), "1s (a,1) (b,9223372036854775807)");
    assert!(error.contains("overflow in `sum`") && error.contains("(continuous_sql at "), "{error}");
}

fn mistake(make: impl FnOnce(&StreamTest, &SqlContext)) -> String {
    let test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    make(&test, &sql);
    test.ssc().start().unwrap_err().to_string()
}

#[test]
fn start_says_what_cannot_be_kept_up_to_date_why_and_where_it_is_asked() {
    for (text, want) in [
        ("SELECT sensor FROM r", "the statement cannot be kept up to date: it has no groups that could be kept"),
        ("SELECT count(*) FROM (SELECT 1 FROM r LIMIT 3) AS x", "LIMIT below the groups"),
        ("SELECT count(*) FROM r AS a JOIN r AS b USING (sensor)", "`r` is joined with itself"),
        ("SELECT count(*) FROM readings", "no table `readings` at line 1, column 22"),
        ("SELECT sensor, count(*) FROM r GROUP BY sensor", "a row of 1 is read from 2 columns"),
        ("SELECT count(*) FROM", "the statement does not parse at line 1, column 21"),
    ] {
        let told = mistake(|test, sql| {
            readings(test).continuous_sql::<i64>(sql, "r", text).print();
        });
        assert!(told.contains(want), "{text}: {told}");
        assert!(told.contains("(continuous_sql at ") && told.contains("continuous.rs:"), "{told}");
    }
    let told = mistake(|test, sql| {
        let top = "SELECT sensor, count(*) FROM r GROUP BY sensor ORDER BY 2";
        readings(test).continuous_sql::<(String, i64)>(sql, "r", top).changes().print();
    });
    assert!(told.contains("changes are of statements whose rows") && told.contains("(changes at "), "{told}");
    let told = mistake(|test, sql| {
        let columns: DStream<RecordBatch> = readings(test).columns();
        columns.continuous_sql::<i64>(sql, "r", "SELECT count(*) FROM r").print();
    });
    assert!(told.contains("the columns of `r` are not known before"), "{told}");
}

type Numbered = (i64, i64);

/// The numbers 1, 2, … of which a batch has three, by what is left of them behind a division by four.
fn numbered(batches: usize) -> Batches<Numbered> {
    let batch = |b: i64| Given::Elements((b * 3..b * 3 + 3).map(|n| (n % 4, n)).collect());
    Batches::new((0..batches as i64).map(batch).collect())
}

const SUMS: &str = "SELECT _1, count(*), sum(_2), avg(_2) FROM n GROUP BY _1";

/// What the batches of a program gave; one that runs again gives the same.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<std::collections::BTreeMap<i64, Vec<(i64, i64, i64, f64)>>>>);

impl Seen {
    fn program<'a>(&'a self, text: &'a str, batches: usize) -> impl Fn(&StreamingContext) -> Result<()> + 'a {
        move |ssc| {
            let sql = SqlContext::new(ssc)?;
            let seen = self.clone();
            let sums = input(ssc, numbered(batches), 2).continuous_sql::<(i64, i64, i64, f64)>(&sql, "n", text);
            sums.uid("sums").checkpoint(secs(2)).foreach_rdd(move |rdd, at| {
                let mut rows = rdd.collect()?;
                rows.sort_by_key(|row| row.0);
                let mut all = seen.0.lock().map_err(|_| Error::user("a test failed"))?;
                if let Some(before) = all.insert(at.as_millis(), rows.clone()) {
                    assert_eq!(before, rows, "batch {at}");
                }
                Ok(())
            });
            Ok(())
        }
    }

    fn check(&self, batches: usize) {
        let all = self.0.lock().unwrap();
        assert_eq!(all.len(), batches);
        for (batch, rows) in (1i64..).zip(all.values()) {
            let want: Vec<(i64, i64, i64, f64)> = (0..4)
                .filter_map(|key| {
                    let of: Vec<i64> = (0..batch * 3).filter(|n| n % 4 == key).collect();
                    let (count, sum) = (of.len() as i64, of.iter().sum::<i64>());
                    (count > 0).then(|| (key, count, sum, sum as f64 / count as f64))
                })
                .collect();
            assert_eq!(*rows, want, "batch {batch}");
        }
    }
}

#[test]
fn groups_are_the_same_whatever_step_of_the_disk_the_program_is_killed_at() {
    const BATCHES: usize = 5;
    let run = |fault: Option<u64>| {
        let (seen, disk) = (Seen::default(), SimDisk::new(fault.unwrap_or_default()));
        if let Some(step) = fault {
            disk.fail_at(step, Fault::Crash);
        }
        Lives::new(Check::new(2, 1), &disk, BATCHES).one_by_one().run(&seen.program(SUMS, BATCHES)).unwrap();
        seen.check(BATCHES);
        (disk.operations().len() as u64, disk.fired().len())
    };
    let (steps, _) = run(None);
    let fired: usize = (1..=steps).map(|step| run(Some(step)).1).sum();
    assert!(fired as u64 > steps / 2, "{fired} of {steps}");
}

#[test]
fn groups_live_through_kills_in_every_place() {
    for check in Check::new(2, 2).everywhere() {
        let (seen, disk) = (Seen::default(), SimDisk::new(5));
        let starts = Lives::new(check, &disk, 9).killed_behind(&[2, 5, 6]).run(&seen.program(SUMS, 9)).unwrap();
        assert!(starts >= 4, "{starts}");
        seen.check(9);
    }
}

#[test]
fn a_new_build_goes_on_from_the_groups_and_is_refused_if_they_are_others() {
    let (seen, disk) = (Seen::default(), SimDisk::new(3));
    Lives::new(Check::new(2, 1), &disk, 3).run(&seen.program(SUMS, 9)).unwrap();
    // Others that are grouped and counted the same are the same groups.
    let later = format!("{SUMS} HAVING count(*) > 0 ORDER BY 1");
    Lives::new(Check::new(3, 2), &disk, 5).run(&seen.program(&later, 9)).unwrap();
    seen.check(5);
    let other = SUMS.replace("sum(_2)", "max(_2)");
    let error = Lives::new(Check::new(2, 1), &disk, 6).run(&seen.program(&other, 9)).unwrap_err().to_string();
    for want in ["~ sums", "sum(n._2)", "max(n._2)", "drop_kept"] {
        assert!(error.contains(want), "{want}: {error}");
    }
}

/// A generator that is as good as this needs, so that the test is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A statement of the class that is kept up to date, over `r (k, w, n, x)` and `l (w, v)`.
    fn statement(&mut self) -> String {
        let joined = self.below(4) == 0;
        let from = if joined { self.one(&["r JOIN l ON r.w = l.w", "r LEFT JOIN l ON r.w = l.w"]) } else { "r" };
        let keys = ["r.k", "r.w", "r.k + 1", "upper(r.w)", "r.n > 3", "CASE WHEN r.n IS NULL THEN 0 ELSE 1 END"];
        let mut by: Vec<&str> = (0..self.below(3)).map(|_| self.one(&keys)).collect();
        by.dedup();
        let sums = [
            "count(*)",
            "count(r.n)",
            "sum(r.n)",
            "min(r.x)",
            "max(r.x)",
            "min(r.w)",
            "count(DISTINCT r.n)",
            "sum(r.x)",
        ];
        let more =
            ["sum(CASE WHEN r.n > 2 THEN r.n ELSE 0 END)", "sum(r.n) FILTER (WHERE r.x > 1)", "max(r.n) - min(r.n)"];
        let asked: Vec<&str> = (0..1 + self.below(3))
            .map(|_| if self.below(3) == 0 { self.one(&more) } else { self.one(&sums) })
            .collect();
        let items: Vec<String> =
            by.iter().chain(&asked).enumerate().map(|(i, item)| format!("{item} AS c{i}")).collect();
        let conditions =
            ["", "", " WHERE r.n > 1", " WHERE r.w IN (SELECT w FROM l)", " WHERE r.x IS NOT NULL AND r.k < 3"];
        let mut text = format!("SELECT {} FROM {from}{}", items.join(", "), self.one(&conditions));
        if !by.is_empty() {
            text += &format!(" GROUP BY {}", by.join(", "));
            text += self.one(&["", "", " HAVING count(*) > 2", " HAVING sum(r.n) IS NOT NULL"]);
        }
        if self.below(5) == 0 {
            text = format!("SELECT count(*) AS c, count(c{}) AS s FROM ({text}) AS g", by.len());
        }
        text
    }
}

type Wide = (i64, Option<String>, Option<i64>, Option<f64>);

/// SQLite's answer to a statement over rows, a line each.
fn by_sqlite(text: &str, rows: &[Wide]) -> Vec<String> {
    let db = rusqlite::Connection::open_in_memory().unwrap();
    db.execute_batch(
        "CREATE TABLE r (k, w, n, x REAL); CREATE TABLE l (w, v); INSERT INTO l VALUES ('a', 1), ('b', 2), ('b', 3)",
    )
    .unwrap();
    for row in rows {
        db.execute("INSERT INTO r VALUES (?, ?, ?, ?)", row.clone()).unwrap();
    }
    let mut query = db.prepare(text).unwrap();
    let columns = query.column_count();
    let told = query.query_map((), |row| {
        let cell = |i: usize| {
            row.get_ref(i).map(|value| match value {
                rusqlite::types::ValueRef::Null => "null".to_owned(),
                rusqlite::types::ValueRef::Integer(n) => format!("{:.6}", n as f64),
                rusqlite::types::ValueRef::Real(x) => format!("{x:.6}"),
                other => other.as_str().unwrap().to_owned(),
            })
        };
        (0..columns).map(cell).collect::<std::result::Result<Vec<_>, _>>().map(|cells| cells.join("|"))
    });
    let mut lines: Vec<String> = told.unwrap().map(std::result::Result::unwrap).collect();
    lines.sort();
    lines
}

/// Ours, written the same.
fn lines(columns: &[RecordBatch]) -> Vec<String> {
    let cell = |cell: Option<String>| match cell.as_deref() {
        None => "null".to_owned(),
        Some("true") => "1.000000".to_owned(),
        Some("false") => "0.000000".to_owned(),
        Some(text) => text.parse::<f64>().map_or_else(|_| text.to_owned(), |x| format!("{x:.6}")),
    };
    let rows = columns.iter().flat_map(|columns| millstream_sql::texts(columns).unwrap());
    let mut lines: Vec<String> = rows.map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join("|")).collect();
    lines.sort();
    lines
}

#[test]
fn random_statements_over_random_batches_are_what_sqlite_answers_over_all_rows_so_far() {
    const STATEMENTS: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("l.csv");
    std::fs::write(&path, "w,v\na,1\nb,2\nb,3\n").unwrap();
    let mut random = Random(20);
    let texts: Vec<String> = (0..STATEMENTS).map(|_| random.statement()).collect();
    let rows: Vec<Vec<Wide>> = (0..6)
        .map(|batch: usize| {
            let one = |_| {
                let word = random.one(&["a", "b", "c", ""]);
                let (n, x) = (random.below(9) as i64, random.below(16) as f64 / 4.0);
                let some = |random: &mut Random| random.below(5) > 0;
                let (w, n) = (some(&mut random).then(|| word.to_owned()), some(&mut random).then_some(n));
                (random.below(4) as i64, w, n, some(&mut random).then_some(x))
            };
            (0..batch * 3 % 11).map(one).collect()
        })
        .collect();
    let mut test = Check::new(2, 2).context();
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_csv("l", &path).unwrap();
    #[derive(Clone, Row, serde::Serialize, serde::Deserialize)]
    struct Named {
        k: i64,
        w: Option<String>,
        n: Option<i64>,
        x: Option<f64>,
    }
    let stream = test.input(Batches::new(rows.iter().map(|batch| Given::Elements(batch.clone())).collect()));
    let stream = stream.map(|(k, w, n, x)| Named { k, w, n, x });
    let (tell, told) = std::sync::mpsc::channel();
    for (number, text) in texts.iter().enumerate() {
        let tell = tell.clone();
        stream.continuous_sql::<RecordBatch>(&sql, "r", text).foreach_rdd(move |rdd, at| {
            tell.send((at.as_millis() as usize / 1000, number, lines(&rdd.collect()?))).map_err(Error::user)
        });
    }
    test.run(rows.len()).unwrap();
    let mut compared = 0;
    for (batch, number, ours) in told.try_iter() {
        let seen: Vec<Wide> = rows[..batch].concat();
        assert_eq!(ours, by_sqlite(&texts[number], &seen), "batch {batch} of {}", texts[number]);
        compared += 1;
    }
    assert_eq!(compared, STATEMENTS * rows.len());
}
