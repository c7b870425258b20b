//! States and the groups of statements that are kept up to date, by key and from end to end; in threads, through bytes and on a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream::sql::{Date, RecordBatch, SqlContext, SqlStreams as _};
use millstream::sql_live::{ServeSpec, ServeSql as _, Server};
use millstream::{State, StateSpec};
use millstream_testkit::{Batches, Check, StreamTest};
use tokio_postgres::Client;

use crate::house::{RUNTIME, Seen, ask, connect_to, of, refused};

/// A program with a state, groups of one column, and groups of two.
struct Mill {
    test: StreamTest,
    server: Server,
}

fn mill(check: &Check, batches: Batches<(String, f64)>) -> Mill {
    let test = check.context();
    let pairs = test.input(batches);
    let sql = SqlContext::new(test.ssc()).unwrap();
    let seen = StateSpec::function(|_: &String, celsius: Option<f64>, state: &mut State<'_, Seen>| {
        let before = state.get_option().cloned().unwrap_or(Seen { times: 0, hottest: f64::MIN });
        let hottest = before.hottest.max(celsius.unwrap_or(f64::MIN));
        state.update(Seen { times: before.times + 1, hottest });
    });
    sql.register_state("seen", &pairs.map_with_state(seen));
    let totals = pairs.update_state_by_key(|new: Vec<f64>, old: Option<i64>| Some(old.unwrap_or(0) + new.len() as i64));
    sql.register_state("totals", &totals);
    let hottest = "SELECT max(_2) AS Hottest, count(*) AS n, _1 AS Sensor FROM r GROUP BY _1 HAVING max(_2) < 1000";
    sql.register_continuous("Hottest", &pairs.continuous_sql::<(f64, i64, String)>(&sql, "r", hottest));
    let halves = "SELECT _1 AS sensor, CAST(_2 > 100 AS BIGINT) AS high, count(*) AS n FROM r GROUP BY 1, 2";
    sql.register_continuous("halves", &pairs.continuous_sql::<(String, i64, i64)>(&sql, "r", halves));
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    Mill { test, server }
}

impl Mill {
    fn connect(&self) -> Client {
        connect_to(self.server.address(), "user=test").unwrap()
    }
}

/// 300 sensors once, and behind that some of them again, and a new one.
fn two() -> Batches<(String, f64)> {
    let first = (0..300).map(|n| (format!("k{n}"), f64::from(n))).collect();
    let second = [("k7", 500.0), ("k8", 1.0), ("k9", 2000.0), ("new", 3.0)].map(|(key, n)| (key.to_owned(), n));
    of(vec![first, second.to_vec()])
}

#[test]
fn keys_are_looked_up_and_all_are_read_wherever_the_states_are() {
    for check in Check::new(3, 2).everywhere() {
        let mut mill = mill(&check, two());
        let client = mill.connect();
        assert_eq!(ask(&client, "SELECT * FROM seen WHERE key = 'k7'"), "", "before the first batch, {check:?}");
        assert_eq!(ask(&client, "SELECT * FROM hottest WHERE sensor = 'k7'"), "", "before the first batch, {check:?}");
        mill.test.run(1).unwrap();
        let other = mill.connect();
        ask(&other, "BEGIN; SELECT 1");
        let first = [
            ("SELECT times, hottest FROM seen WHERE key = 'k7'", "1|7.0"),
            ("SELECT key FROM seen WHERE key IN ('k7', 'nobody', 'k299') ORDER BY key", "k299\nk7"),
            ("SELECT count(*), count(DISTINCT key), sum(times), max(hottest) FROM seen", "300|300|300|299.0"),
            ("SELECT value FROM totals WHERE key = 'k7'", "1"),
            ("SELECT hottest, n, sensor FROM hottest WHERE sensor = 'k7'", "7.0|1|k7"),
            ("SELECT n FROM hottest WHERE sensor = ANY(ARRAY['k8', 'k9', 'x'])", "1\n1"),
            ("SELECT count(*), count(DISTINCT sensor), sum(n), max(hottest) FROM hottest", "300|300|300|299.0"),
            ("SELECT extract(epoch FROM batch)::bigint FROM hottest WHERE sensor = 'k8'", "1"),
            ("SELECT n FROM halves WHERE high = 0 AND sensor = 'k7'", "1"),
            ("SELECT n FROM halves WHERE high = 1 AND sensor = 'k7'", ""),
            ("SELECT count(*), sum(n) FROM halves WHERE sensor = 'k7'", "1|1"),
        ];
        for (text, want) in first {
            assert_eq!(ask(&client, text), want, "{text}, {check:?}");
        }
        mill.test.run(1).unwrap();
        for (text, want) in first {
            assert_eq!(ask(&other, text), want, "its batch stays, {text}, {check:?}");
        }
        ask(&other, "COMMIT");
        for (text, want) in [
            ("SELECT times, hottest FROM seen WHERE key = 'k7'", "2|500.0"),
            ("SELECT count(*), sum(times) FROM seen", "301|304"),
            ("SELECT value FROM totals WHERE key = 'k7'", "2"),
            ("SELECT hottest, n, sensor FROM hottest WHERE sensor = 'k7'", "500.0|2|k7"),
            ("SELECT n FROM hottest WHERE sensor = 'k9'", ""),
            ("SELECT count(*), sum(n) FROM hottest", "300|302"),
            ("SELECT n, high FROM halves WHERE sensor = 'k7' ORDER BY high", "1|0\n1|1"),
            ("SELECT n FROM halves WHERE sensor IN ('k7', 'k8') AND high IN (0, 1) ORDER BY n", "1\n1\n2"),
            ("SELECT s.times, h.n FROM seen s JOIN hottest h ON h.sensor = s.key WHERE s.key = 'new'", "1|1"),
        ] {
            assert_eq!(ask(&other, text), want, "{text}, {check:?}");
        }
        RUNTIME.block_on(async {
            let one = client.prepare("SELECT n FROM hottest WHERE sensor = $1").await.unwrap();
            for (sensor, want) in [("k7", Some(2i64)), ("k8", Some(2)), ("k10", Some(1)), ("nobody", None)] {
                let row = client.query_opt(&one, &[&sensor]).await.unwrap();
                assert_eq!(row.map(|row| row.get::<_, i64>(0)), want, "{sensor}, {check:?}");
            }
            let one = client.prepare("SELECT times, batch, hottest FROM seen WHERE key = $1").await.unwrap();
            for (sensor, want) in [("k7", Some((2i64, 500.0))), ("k10", Some((1, 10.0))), ("nobody", None)] {
                let row = client.query_opt(&one, &[&sensor]).await.unwrap();
                let row = row.map(|row| (row.get::<_, i64>(0), row.get::<_, f64>(2)));
                assert_eq!(row, want, "{sensor}, {check:?}");
            }
            let both = client.prepare("SELECT n FROM halves WHERE sensor = $1 AND high = $2").await.unwrap();
            let row = client.query_one(&both, &[&"k7", &1i64]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0), 1, "{check:?}");
        });
    }
}

#[test]
fn what_a_statement_is_grouped_by_is_the_key_and_explain_says_what_is_looked_up() {
    let mut mill = mill(&Check::new(3, 2), two());
    mill.test.run(2).unwrap();
    let client = mill.connect();
    for (asked, want) in [
        ("hottest WHERE sensor = 'k7'", Some(1)),
        ("hottest WHERE sensor IN ('k7', 'k8', 'k7')", Some(2)),
        ("hottest WHERE sensor = 'k7' OR sensor = 'k9'", Some(2)),
        ("hottest WHERE sensor = 'k7' AND n > 1", Some(1)),
        ("hottest WHERE sensor > 'k7'", None),
        ("hottest WHERE sensor = 'k7' OR n = 1", None),
        ("hottest WHERE n = 1", None),
        ("halves WHERE sensor = 'k7'", None),
        ("halves WHERE sensor = 'k7' AND high = 1", Some(1)),
        ("halves WHERE sensor IN ('k7', 'k8', 'k9') AND high IN (1, 0)", Some(6)),
    ] {
        let plan = ask(&client, &format!("EXPLAIN SELECT n FROM {asked}"));
        match want {
            Some(want) => assert!(plan.contains(&format!("keys looked up: {want}")), "{asked}: {plan}"),
            None => assert!(!plan.contains("looked up"), "{asked}: {plan}"),
        }
    }
}

#[test]
fn only_the_groups_that_are_asked_for_are_made_results() {
    let mut test = Check::new(3, 2).context();
    let pairs = test.input(of(vec![(0..500).map(|n| (format!("k{n}"), f64::from(n))).collect(), vec![]]));
    let sql = SqlContext::new(test.ssc()).unwrap();
    let made = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&made);
    sql.register_function("counted", move |n: i64| {
        counts.fetch_add(1, Ordering::Relaxed);
        n
    })
    .unwrap();
    let text = "SELECT _1 AS sensor, counted(count(*)) AS n FROM r GROUP BY _1";
    sql.register_continuous("counts", &pairs.continuous_sql::<(String, i64)>(&sql, "r", text));
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    test.run(2).unwrap();
    assert_eq!(made.swap(0, Ordering::Relaxed), 0, "nobody has asked");
    let client = connect_to(server.address(), "user=test").unwrap();
    assert_eq!(ask(&client, "SELECT n FROM counts WHERE sensor = 'k7'"), "1");
    assert_eq!(made.swap(0, Ordering::Relaxed), 1);
    assert_eq!(ask(&client, "SELECT n FROM counts WHERE sensor IN ('k7', 'k8', 'nobody')"), "1\n1");
    assert_eq!(made.swap(0, Ordering::Relaxed), 2);
    assert_eq!(ask(&client, "SELECT sum(n) FROM counts"), "500");
    assert_eq!(made.swap(0, Ordering::Relaxed), 500);
}

#[test]
fn an_error_of_a_closure_that_makes_results_is_told_and_the_next_statement_is_answered() {
    let mut test = Check::new(2, 2).context();
    let pairs = test.input(of(vec![vec![("a".to_owned(), 1.0), ("b".to_owned(), 0.0)]]));
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_function("picky", |hottest: f64| if hottest > 0.0 { hottest } else { panic!("too cold") }).unwrap();
    let text = "SELECT _1 AS sensor, picky(max(_2)) AS m FROM r GROUP BY _1";
    sql.register_continuous("warm", &pairs.continuous_sql::<(String, f64)>(&sql, "r", text));
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    test.run(1).unwrap();
    let client = connect_to(server.address(), "user=test").unwrap();
    for text in ["SELECT m FROM warm WHERE sensor = 'b'", "SELECT m FROM warm"] {
        let (_, told) = refused(&client, text);
        assert!(told.contains("the function `picky`: a closure of the program panicked: too cold"), "{told}");
    }
    assert_eq!(ask(&client, "SELECT m FROM warm WHERE sensor = 'a'"), "1.0");
}

#[test]
fn start_says_which_groups_cannot_be_a_table() {
    let test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let pairs = test.input(of(vec![vec![]]));
    let ordered = "SELECT _1, count(*) FROM r GROUP BY _1 ORDER BY 2";
    let line = line!() + 1;
    sql.register_continuous("top", &pairs.continuous_sql::<(String, i64)>(&sql, "r", ordered));
    sql.register_continuous("all", &pairs.continuous_sql::<i64>(&sql, "r", "SELECT count(*) FROM r"));
    let batches = "SELECT _1 AS batch, count(*) AS n FROM r GROUP BY _1";
    sql.register_continuous("b", &pairs.continuous_sql::<(String, i64)>(&sql, "r", batches));
    let good = pairs.continuous_sql::<(String, i64)>(&sql, "r", "SELECT _1, count(*) AS n FROM r GROUP BY _1");
    sql.register_continuous("good", &good);
    sql.register_continuous("Good", &good);
    let told = test.ssc().start().unwrap_err().to_string();
    assert_eq!(told.matches("made each of one group").count(), 2, "{told}");
    assert!(told.contains(&format!("(register_continuous at crates/sql-live/tests/all/states.rs:{line})")), "{told}");
    assert!(told.contains("the column `batch` of the live table `b`"), "{told}");
    assert!(told.contains("there is a live table `good` already"), "{told}");
}

#[test]
fn what_is_kept_for_readers_elsewhere_is_let_go_with_its_batch() {
    for check in [Check::new(2, 2).through_bytes(), Check::new(2, 2).on_cluster()] {
        let mut mill = mill(&check, two());
        mill.test.run(20).unwrap();
        let kept = |mill: &Mill| mill.test.ssc().context().persistent_rdds().len();
        let before = kept(&mill);
        let client = mill.connect();
        ask(&client, "BEGIN; SELECT times FROM seen WHERE key = 'k7'");
        mill.test.run(10).unwrap();
        assert_eq!(kept(&mill), before + 3, "a transaction keeps its batch's three tables, {check:?}");
        assert_eq!(ask(&client, "SELECT extract(epoch FROM batch)::bigint FROM seen WHERE key = 'k7'"), "20");
        ask(&client, "COMMIT");
        mill.test.run(10).unwrap();
        assert_eq!(kept(&mill), before, "{check:?}");
    }
}

#[test]
fn a_key_may_be_of_any_type_that_groups_are_made_of() {
    let mut test = Check::new(2, 2).context();
    let pairs = test.input(of(vec![[("a", 1.5), ("b", 0.0), ("c", -0.0)].map(|(k, n)| (k.to_owned(), n)).to_vec()]));
    let sql = SqlContext::new(test.ssc()).unwrap();
    let kinds = [
        ("_2", "1.5"),
        ("CAST(_2 AS DECIMAL(10, 2))", "1.50"),
        ("CAST(_2 AS INT)", "1"),
        ("CAST(_2 AS BIGINT) + 1", "2"),
        ("date_add(DATE '2024-01-01', CAST(_2 AS INT))", "DATE '2024-01-02'"),
        ("_2 > 1", "true"),
        ("upper(_1)", "'A'"),
        ("CASE WHEN _2 > 1 THEN _1 END", "'a'"),
    ];
    for (number, (expr, _)) in kinds.iter().enumerate() {
        let text = format!("SELECT count(*) AS n, {expr} AS k FROM r GROUP BY {expr}");
        sql.register_continuous(&format!("t{number}"), &pairs.continuous_sql::<RecordBatch>(&sql, "r", &text));
    }
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    test.run(1).unwrap();
    let client = connect_to(server.address(), "user=test").unwrap();
    for (number, (expr, value)) in kinds.iter().enumerate() {
        let text = format!("SELECT n FROM t{number} WHERE k = {value}");
        assert_eq!(ask(&client, &text), "1", "{expr}");
        let plan = ask(&client, &format!("EXPLAIN {text}"));
        assert!(plan.contains("keys looked up: 1"), "{expr}: {plan}");
    }
    assert_eq!(ask(&client, "SELECT n FROM t0 WHERE k IN (0.0, -0.0)"), "2", "there is one zero");
    assert_eq!(ask(&client, "SELECT n FROM t7 WHERE k IS NULL"), "2");
    assert_eq!(ask(&client, "SELECT n FROM t7 WHERE k = NULL"), "");
}

/// What a statement about one key gives that is answered from the table itself must be what its plan would give.
#[test]
fn one_key_is_looked_up_as_a_plan_would_find_it_whatever_its_type() {
    let mut test = Check::new(3, 2).context();
    let pairs = test.input(of(vec![(0..40).map(|n| (format!("k{n}"), f64::from(n))).collect()]));
    let sql = SqlContext::new(test.ssc()).unwrap();
    macro_rules! states {
        ($($name:literal: $of:expr;)*) => {$({
            let keyed = pairs.map(|(key, n): (String, f64)| ($of(key, n as i64), (n as i64, 1i64)));
            let last = StateSpec::function(|_: &_, new: Option<(i64, i64)>, state: &mut State<'_, (i64, i64)>| {
                new.into_iter().for_each(|new| state.update(new));
            });
            sql.register_state($name, &keyed.map_with_state(last));
        })*};
    }
    states! {
        "texts": |key, _| key;
        "longs": |_, n| n;
        "ints": |_, n| n as i32;
        "shorts": |_, n| n as i16;
        "unsigned": |_, n| n as u32;
        "flags": |_, n| n > 20;
        "days": |_, n: i64| Date::from_days(19_723 + n as i32);
        "bytes": |key: String, _| bytes::Bytes::from(key);
        "some": |key, n| (n != 7).then_some(key);
    }
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    test.run(1).unwrap();
    let client = connect_to(server.address(), "user=test").unwrap();
    for (table, values) in [
        ("texts", &["'k7'", "'k39'", "'nobody'", "NULL", "'K7'"][..]),
        ("longs", &["7", "39", "-1", "NULL", "CAST(8 AS SMALLINT)", "9.0", "9.5"]),
        ("ints", &["7", "CAST(8 AS BIGINT)", "9223372036854775807"]),
        ("shorts", &["7", "65543"]),
        ("unsigned", &["7", "-1", "4294967303"]),
        ("flags", &["true", "false", "NULL"]),
        ("days", &["DATE '2024-01-08'", "DATE '2025-01-01'", "'2024-01-08'"]),
        ("bytes", &["CAST('k7' AS BYTEA)", "CAST('' AS BYTEA)"]),
        ("some", &["'k7'", "'k8'", "NULL"]),
    ] {
        for value in values {
            for columns in ["*", "_1", "_2 AS n, key, batch, t._1, key AS again"] {
                let looked_up = ask(&client, &format!("SELECT {columns} FROM {table} t WHERE key = {value}"));
                let read = format!("SELECT {columns} FROM {table} t WHERE key >= {value} AND key <= {value}");
                assert_eq!(looked_up, ask(&client, &read), "{columns} of {table}, {value}");
            }
        }
    }
    assert_eq!(ask(&client, "SELECT _1 FROM texts WHERE key = 'k7'"), "7");
    RUNTIME.block_on(async {
        let one = client.prepare("SELECT _1, key FROM some WHERE $1 = key").await.unwrap();
        for (key, want) in [(Some("k8"), Some(8i64)), (Some("k7"), None), (Some("nobody"), None), (None, None)] {
            let row = client.query_opt(&one, &[&key]).await.unwrap();
            assert_eq!(row.as_ref().map(|row| row.get::<_, i64>(0)), want, "{key:?}");
            assert_eq!(row.as_ref().map(|row| row.get::<_, &str>(1)), want.and(key), "{key:?}");
        }
    });
}
