//! Statements on streams: over batches, windows, several streams and static tables; in threads, through bytes and on a cluster.

use millstream::sql::{Files, RecordBatch, Row, SqlContext, SqlRdds as _, SqlStreams as _};
use millstream::{DStream, Error, ErrorKind, ExchangeData, Result, Time, secs};
use millstream_testkit::{Check, StreamTest, batches};

/// Runs a program in every place, and compares what comes out.
fn everywhere<U: ExchangeData>(batches: usize, program: impl Fn(&StreamTest, &SqlContext) -> DStream<U>, want: &str) {
    for partitions in [1, 3] {
        for check in Check::new(partitions, 2).everywhere() {
            let mut test = check.context();
            let sql = SqlContext::new(test.ssc()).unwrap();
            let seen = test.collect(&program(&test, &sql));
            test.run(batches).unwrap();
            assert_eq!(seen.table().to_string(), want, "{check:?}");
        }
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
        test.input(batches![[("a", 20.0), ("b", 70.5), ("a", 22.0)], [], [("b", 80.0)], [("c", 1.0), ("b", 60.5)]]);
    pairs.map(|(sensor, celsius)| Reading { sensor: sensor.to_string(), celsius })
}

#[test]
fn a_statement_is_asked_of_each_batch_also_of_one_without_rows() {
    everywhere(
        4,
        |test, sql| {
            let text = "SELECT Sensor, MAX(maxcelsius) AS hot FROM Readings GROUP BY sensor ORDER BY 1";
            readings(test).sql::<(String, f64)>(sql, "readings", text)
        },
        "1s (a,22.0) (b,70.5)\n3s (b,80.0)\n4s (b,60.5) (c,1.0)",
    );
    everywhere(3, |test, sql| readings(test).sql::<i64>(sql, "r", "SELECT count(*) FROM r"), "1s 3\n2s 0\n3s 1");
}

#[test]
fn a_window_is_asked_as_a_whole_kept_as_rows_or_as_columns() {
    let text = "SELECT sensor, count(*) AS n, max(maxCelsius) FROM r GROUP BY sensor ORDER BY sensor";
    let want = "1s (a,2,22.0) (b,1,70.5)\n2s (a,2,22.0) (b,1,70.5)\n3s (b,1,80.0)\n4s (b,2,80.0) (c,1,1.0)";
    everywhere(4, |test, sql| readings(test).window(secs(2)).sql::<(String, i64, f64)>(sql, "r", text), want);
    let columns = |test: &StreamTest, sql: &SqlContext| {
        readings(test).columns().window(secs(2)).sql::<(String, i64, f64)>(sql, "r", text)
    };
    everywhere(4, columns, want);
}

#[test]
fn several_streams_and_a_static_table_meet_in_one_statement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("limits.csv");
    std::fs::write(&path, "sensor,limit,note\na,21.5,low\nb,75,high\n").unwrap();
    everywhere(
        4,
        |test, sql| {
            sql.register_csv("limits", &path).unwrap();
            let names = test.input(batches![[("a", "cellar"), ("b", "roof")], [], [("b", "roof")], [("b", "roof")]]);
            let text = "SELECT n._2, r.maxCelsius - l.limit AS above FROM r JOIN limits l USING (sensor) \
                        JOIN names n ON n._1 = r.sensor WHERE r.maxCelsius > l.limit ORDER BY 1, 2";
            sql.over("r", &readings(test)).and("names", &names).ask::<(String, f64)>(text)
        },
        "1s (cellar,0.5)\n3s (roof,5.0)",
    );
}

#[test]
fn an_answer_is_a_stream_as_any_other_and_may_be_asked_again_or_be_columns() {
    everywhere(
        4,
        |test, sql| {
            let hot =
                readings(test).sql::<RecordBatch>(sql, "r", "SELECT sensor, maxCelsius FROM r WHERE maxCelsius > 21");
            let count =
                hot.sql::<(String, i64)>(sql, "hot", "SELECT sensor, count(*) FROM hot GROUP BY sensor ORDER BY 1");
            count.reduce_by_key_and_window(|a, b| a + b, secs(4)).transform(|rdd, _| rdd.sort_by(|x| x.clone()))
        },
        "1s (a,1) (b,1)\n2s (a,1) (b,1)\n3s (a,1) (b,2)\n4s (a,1) (b,3)",
    );
}

#[test]
fn sql_inside_of_foreach_rdd_is_sparks_own_way() {
    let mut test = StreamTest::new();
    let words = test.input(batches![["to", "be", "to"], ["be"]]);
    let (tell, told) = std::sync::mpsc::channel();
    words.foreach_rdd(move |rdd, _| -> Result<()> {
        let sql = SqlContext::get_or_create(rdd.context())?;
        rdd.to_df_named(["word"])?.create_or_replace_temp_view("words")?;
        let counts = sql.sql("SELECT word, count(*) AS total FROM words GROUP BY word ORDER BY word")?;
        tell.send(counts.show_string(20, 20)?).map_err(Error::user)
    });
    test.run(2).unwrap();
    let tables: Vec<String> = told.try_iter().collect();
    let first = "+----+-----+\n|word|total|\n+----+-----+\n|  be|    1|\n|  to|    2|\n+----+-----+\n";
    let second = "+----+-----+\n|word|total|\n+----+-----+\n|  be|    1|\n+----+-----+\n";
    assert_eq!(tables, [first, second]);
}

fn mistakes(make: impl FnOnce(&StreamTest, &SqlContext)) -> String {
    let test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    make(&test, &sql);
    test.ssc().start().unwrap_err().to_string()
}

#[test]
fn start_reports_what_is_wrong_with_a_statement_and_the_line_where_it_is_asked() {
    let asked = |text: &'static str| {
        mistakes(|test, sql| {
            readings(test).sql::<(String, f64)>(sql, "readings", text).print();
        })
    };
    for (text, want) in [
        ("SELEC 1", "the statement does not parse at line 1, column 1"),
        (
            "SELECT sensor, maxCelcius FROM readings",
            "no column `maxcelcius` at line 1, column 16, did you mean `maxcelsius`?",
        ),
        ("SELECT sensor, maxCelsius FROM reading", "no table `reading` at line 1, column 32, did you mean `readings`?"),
        (
            "SELECT sensor, now() FROM readings",
            "`now` at line 1, column 16 is refused: a statement does not know what time it is",
        ),
        ("SELECT sensor FROM readings", "a row of 2 is read from 1 columns: sensor"),
        ("SELECT maxCelsius, sensor FROM readings", "the column `maxCelsius` is Float64 and the field is String"),
    ] {
        let error = asked(text);
        assert!(error.contains(want), "{text}: {error}");
        assert!(error.contains("(sql at ") && error.contains("streams.rs:"), "{error}");
    }
    let twice = mistakes(|test, sql| {
        let stream = readings(test);
        sql.over("r", &stream).and("R", &stream).ask::<i64>("SELECT count(*) FROM r").print();
    });
    assert!(twice.contains("two streams are the table `R`"), "{twice}");
}

#[test]
fn a_batch_whose_values_do_not_fit_fails_with_the_part_of_the_statement_and_the_line() {
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let numbers = test.input(batches![[(6i64, 3i64)], [(1i64, 0i64)]]);
    let seen = test.collect(&numbers.sql::<f64>(&sql, "n", "SELECT _1 / _2 FROM n"));
    let error = test.run(2).unwrap_err();
    assert_eq!(seen.table().to_string(), "1s 2.0");
    let text = error.to_string();
    assert!(text.contains("division by zero in `_1 / _2`"), "{text}");
    assert!(text.contains("(sql at ") && text.contains("streams.rs:"), "{text}");
    assert_eq!(error.batch(), Some(Time::from_millis(2000)));
}

#[test]
fn a_table_that_is_read_again_is_seen_by_whole_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rates.csv");
    let write = |rate: i64| std::fs::write(&path, format!("rate\n{rate}\n")).unwrap();
    write(1);
    let mut test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_files("rates", Files::csv(&path).refreshed_every(secs(2))).unwrap();
    let numbers = test.input(batches![[1i64], [1i64], [1i64], [1i64], [1i64], [1i64], [1i64]]);
    let one = numbers.sql::<i64>(&sql, "n", "SELECT value * rate FROM n CROSS JOIN rates");
    let two = numbers.sql::<i64>(&sql, "n", "SELECT 10 * value * rate FROM n CROSS JOIN rates");
    let both = test.collect(&one.union(&two));
    test.run(1).unwrap();
    write(2);
    test.run(1).unwrap(); // not due
    test.run(1).unwrap(); // due
    std::fs::write(&path, "rate\n7,8\n").unwrap();
    test.run(2).unwrap(); // due, and torn: what was there stays
    let error = sql.refresh_error("rates").unwrap();
    assert!(error.message().contains("rates.csv cannot be read as a table"), "{error}");
    write(3);
    test.run(1).unwrap(); // tried again
    assert!(sql.refresh_error("rates").is_none());
    write(4);
    sql.refresh_table("rates").unwrap();
    test.run(1).unwrap();
    assert_eq!(both.table().to_string(), "1s 1 10\n2s 1 10\n3s 2 20\n4s 2 20\n5s 2 20\n6s 3 30\n7s 4 40");
}

#[test]
fn a_function_of_the_program_is_called_here_and_told_of_where_it_cannot_go() {
    let program = |test: &StreamTest, sql: &SqlContext| {
        sql.register_function("hotter", |(celsius, by): (f64, f64)| celsius + by).unwrap();
        readings(test).sql::<f64>(sql, "r", "SELECT hotter(maxCelsius, 1) FROM r WHERE sensor = 'b'")
    };
    let mut test = Check::new(2, 2).context();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let seen = test.collect(&program(&test, &sql));
    test.run(3).unwrap();
    assert_eq!(seen.table().to_string(), "1s 71.5\n3s 81.0");

    let mut test = Check::new(2, 2).through_bytes().context();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let _seen = test.collect(&program(&test, &sql));
    let error = test.run(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().contains("the function `hotter` is a closure of this process"), "{error}");
}

/// The lowest and the highest of some numbers, and how many there are.
#[derive(Clone, Debug, Row)]
struct Span {
    low: Option<f64>,
    high: Option<f64>,
    count: i64,
}

fn register_span(sql: &SqlContext) {
    let both = |a: Option<f64>, b: Option<f64>, of: fn(f64, f64) -> f64| match (a, b) {
        (Some(a), Some(b)) => Some(of(a, b)),
        (a, b) => a.or(b),
    };
    let registered = sql.register_aggregate(
        "span",
        Span { low: None, high: None, count: 0 },
        move |span, value: f64| Span {
            low: both(span.low, Some(value), f64::min),
            high: both(span.high, Some(value), f64::max),
            count: span.count + 1,
        },
        move |a, b| Span {
            low: both(a.low, b.low, f64::min),
            high: both(a.high, b.high, f64::max),
            count: a.count + b.count,
        },
        |span| span.high.zip(span.low).map(|(high, low)| (high - low) * span.count as f64),
    );
    registered.unwrap();
}

#[test]
fn an_aggregate_of_the_program_is_asked_of_batches_windows_and_all_rows_so_far() {
    let text = "SELECT sensor, span(maxCelsius) AS s FROM r GROUP BY sensor ORDER BY sensor";
    let asked = |program: &dyn Fn(&StreamTest, &SqlContext) -> DStream<(String, f64)>| {
        let mut test = Check::new(2, 2).context();
        let sql = SqlContext::new(test.ssc()).unwrap();
        register_span(&sql);
        let seen = test.collect(&program(&test, &sql));
        test.run(4).unwrap();
        seen.table().to_string()
    };
    assert_eq!(
        asked(&|test, sql| readings(test).sql(sql, "r", text)),
        "1s (a,4.0) (b,0.0)\n3s (b,0.0)\n4s (b,0.0) (c,0.0)"
    );
    assert_eq!(
        asked(&|test, sql| readings(test).columns().window(secs(3)).sql(sql, "r", text)),
        "1s (a,4.0) (b,0.0)\n2s (a,4.0) (b,0.0)\n3s (a,4.0) (b,19.0)\n4s (b,39.0) (c,0.0)"
    );
    assert_eq!(
        asked(&|test, sql| readings(test).continuous_sql(sql, "r", text).stream()),
        "1s (a,4.0) (b,0.0)\n2s (a,4.0) (b,0.0)\n3s (a,4.0) (b,19.0)\n4s (a,4.0) (b,58.5) (c,0.0)"
    );
}

#[test]
fn an_aggregate_of_the_program_that_cannot_be_asked_is_told() {
    let mut test = Check::new(2, 2).context();
    let sql = SqlContext::new(test.ssc()).unwrap();
    register_span(&sql);
    sql.register_aggregate("bad", 0i64, |_, _: f64| panic!("no more"), |a, _| a, |a| a).unwrap();
    let error = sql.register_aggregate("max_by", 0i64, |a, _: f64| a, |a, _| a, |a| a).unwrap_err();
    assert!(error.message().starts_with("`max_by` is a function of Spark's SQL"), "{error}");
    let error = sql.register_function("Round", |a: f64| a).unwrap_err();
    assert!(error.message().starts_with("`Round` is a function of Spark's SQL"), "{error}");

    let told = |text: &str| sql.sql(text).and_then(|frame| frame.to_columns()).unwrap_err().message().to_owned();
    let bad = told("SELECT bad(1.5)");
    assert_eq!(bad, "the aggregate `bad`: a closure of the program panicked: no more");
    let distinct = told("SELECT span(DISTINCT x), count(y) FROM VALUES (1e0, 2e0), (3e0, 4e0) AS t(x, y)");
    assert!(distinct.contains("span(DISTINCT …) is not known here"), "{distinct}");
    let none = told("SELECT span(x) FROM VALUES (1e0), (NULL) AS t(x)");
    assert!(none.contains("the aggregate `span`: the column `argument"), "{none}");
    let empty = sql.sql("SELECT span(x) FROM VALUES (1e0) AS t(x) WHERE x > 2").unwrap();
    assert_eq!(empty.collect::<Option<f64>>().unwrap(), [None]);

    let _seen = test.collect(&readings(&test).sql::<f64>(&sql, "r", "SELECT bad(maxCelsius) FROM r"));
    let error = test.run(1).unwrap_err();
    assert!(error.to_string().contains("the aggregate `bad`: a closure of the program panicked: no more"), "{error}");
}
