//! What a statement sees: the newest batch of streams, windows and states, and static tables.

use millstream::ErrorKind;
use millstream::sql::{SqlContext, SqlStreams as _};
use millstream::sql_live::{ServeSpec, ServeSql as _};
use millstream_testkit::StreamTest;
use millstream_testkit::batches;

use crate::house::{RUNTIME, ask, connect_to, house, of, refused, rows, told};

fn two() -> millstream_testkit::Batches<(String, f64)> {
    of(vec![vec![("a".to_owned(), 20.0), ("b".to_owned(), 70.5)], vec![("a".to_owned(), 60.0)], vec![]])
}

#[test]
fn a_statement_sees_the_newest_batch_of_streams_windows_and_states_and_static_tables() {
    let mut house = house(two());
    let client = house.connect();
    assert_eq!(ask(&client, "SELECT count(*) FROM readings"), "0", "before the first batch there is nothing");
    assert_eq!(ask(&client, "SELECT * FROM limits ORDER BY 1"), "a|50.0\nb|75.0");
    house.test.run(1).unwrap();
    assert_eq!(
        ask(&client, "SELECT sensor, maxCelsius, extract(epoch FROM batch)::bigint FROM readings ORDER BY sensor"),
        "a|20.0|1\nb|70.5|1"
    );
    house.test.run(1).unwrap();
    let all = ask(&client, "SELECT * FROM readings");
    assert!(all.starts_with("a|60.0|1970-01-01 00:00:02"), "{all}");
    assert_eq!(ask(&client, "SELECT sensor, maxcelsius FROM recent ORDER BY 2"), "a|20.0\na|60.0\nb|70.5");
    assert_eq!(ask(&client, "SELECT key, times, hottest FROM seen ORDER BY key"), "a|2|60.0\nb|1|70.5");
    assert_eq!(ask(&client, "SELECT key, value FROM totals ORDER BY key"), "a|2\nb|1");
    let joined = "SELECT r.sensor, CASE WHEN r.maxcelsius > l._2 THEN 'hot' ELSE 'cold' END FROM readings r JOIN limits l ON l._1 = r.sensor";
    assert_eq!(ask(&client, joined), "a|hot");
    house.test.run(1).unwrap();
    assert_eq!(ask(&client, "SELECT count(*) FROM readings"), "0", "a batch without rows");
    assert_eq!(ask(&client, "SELECT DISTINCT extract(epoch FROM batch)::bigint FROM seen"), "3");
}

#[test]
fn a_key_is_looked_up_also_when_it_comes_as_a_parameter_and_all_else_is_read_through() {
    let many = (0..500).map(|n| (format!("k{n}"), f64::from(n))).collect::<Vec<_>>();
    let mut house = house(of(vec![many]));
    house.test.run(2).unwrap();
    let client = house.connect();
    for table in ["seen", "totals"] {
        let plan = |condition: &str| ask(&client, &format!("EXPLAIN SELECT * FROM {table} WHERE {condition}"));
        assert!(plan("key = 'k7'").contains("keys looked up: 1"), "{}", plan("key = 'k7'"));
        assert!(plan("key IN ('k7', 'k8', 'k7')").contains("keys looked up: 2"));
        assert!(plan("key = 'k7' OR key = 'k9'").contains("keys looked up: 2"));
        assert!(
            plan("key = 'k7' AND key = 'k9'").contains("EmptyExec")
                || plan("key = 'k7' AND key = 'k9'").contains("looked up: 0")
        );
        assert!(!plan("key > 'k7'").contains("looked up"));
        assert!(!plan("key <> 'k7'").contains("looked up"));
        let of = |condition: &str| ask(&client, &format!("SELECT key FROM {table} WHERE {condition} ORDER BY key"));
        assert_eq!(of("key = 'k7'"), "k7");
        assert_eq!(of("key = 'nobody'"), "");
        assert_eq!(of("key IN ('k7', 'nobody', 'k8')"), "k7\nk8");
        assert_eq!(of("key IN ('k7', 'k8') AND key <> 'k8'"), "k7");
        assert_eq!(of("key = 'k7' AND key = 'k8'"), "");
        assert_eq!(of("key LIKE 'k49_'").lines().count(), 10);
        assert_eq!(ask(&client, &format!("SELECT count(*), count(DISTINCT key) FROM {table}")), "500|500");
    }
    RUNTIME.block_on(async {
        let statement = client.prepare("SELECT times, hottest FROM seen WHERE key = $1").await.unwrap();
        let row = client.query_one(&statement, &[&"k42"]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, f64>(1)), (1, 42.0));
        assert!(client.query_opt(&statement, &[&"nobody"]).await.unwrap().is_none());
        let several = client.prepare("SELECT key FROM seen WHERE key = ANY($1::text[]) ORDER BY key").await.unwrap();
        let found = client.query(&several, &[&vec!["k1", "k2", "x"]]).await.unwrap();
        assert_eq!(found.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["k1", "k2"]);
    });
}

#[test]
fn subqueries_are_answered_wherever_they_stand_and_tell_if_they_have_more_than_one_row() {
    let mut house = house(two());
    house.test.run(2).unwrap();
    let client = house.connect();
    let mut wrong = Vec::new();
    for (text, want) in [
        ("SELECT (SELECT max(seen.times) FROM seen)", "2"),
        ("SELECT (SELECT max(times) FROM seen) FROM limits", "2\n2"),
        ("SELECT _1, (SELECT max(s.times) FROM seen s WHERE s.key = l._1) FROM limits l ORDER BY 1", "a|2\nb|1"),
        ("SELECT (SELECT times FROM seen WHERE key = 'nobody')", "-"),
        ("SELECT key FROM seen WHERE times = ANY(SELECT max(times) FROM seen)", "a"),
        ("SELECT key FROM seen WHERE times <> ALL(SELECT max(times) FROM seen)", "b"),
        ("SELECT key FROM seen WHERE key = ANY(ARRAY['a', 'x'])", "a"),
        ("SELECT key FROM seen WHERE key = ANY('{a,x}')", "a"),
        ("SELECT key FROM seen WHERE key <> ALL(ARRAY['a', 'x'])", "b"),
        ("SELECT 3 = ANY(ARRAY[1, NULL]), 1 = ANY(ARRAY[1, NULL]), 1 = ANY(ARRAY[]::int[])", "-|t|f"),
        (
            "SELECT l._1, l._2 = ANY(a.all) FROM limits l, (SELECT array_agg(_2) AS all FROM limits) a ORDER BY 1",
            "a|t\nb|t",
        ),
        ("SELECT 'a/b_c' LIKE 'a//b/_%' ESCAPE '/', 'abxc' LIKE 'ab/_%' ESCAPE '/'", "t|f"),
        ("SELECT (named_struct('times', 7)).times", "7"),
    ] {
        match rows(&client, text) {
            Ok(got) if got == want => {}
            Ok(got) => wrong.push(format!("{text}: {got}, and not {want}")),
            Err(error) => wrong.push(format!("{text}: {}", told(&error))),
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let (_, message) = refused(&client, "SELECT (SELECT times FROM seen)");
    assert!(message.contains("more than one row"), "{message}");
    let (code, message) = refused(&client, "SELECT 1 = ANY(7)");
    assert!(code == "42804" && message.contains("ANY takes an array"), "{code} {message}");
    let plan = ask(&client, "EXPLAIN SELECT times FROM seen WHERE key = ANY(ARRAY['a', 'b', 'a'])");
    assert!(plan.contains("keys looked up: 2"), "{plan}");
    RUNTIME.block_on(async {
        let several = client.prepare("SELECT key FROM seen WHERE key = ANY($1) AND times = ANY($2) ORDER BY key").await;
        let several = several.unwrap();
        let found = client.query(&several, &[&vec!["a", "b", "x"], &vec![1i64, 2]]).await.unwrap();
        assert_eq!(found.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["a", "b"]);
        let one = client.prepare("SELECT $1 = ANY(ARRAY['a', 'b']), (SELECT times FROM seen WHERE key = $1)").await;
        let row = client.query_one(&one.unwrap(), &[&"a"]).await.unwrap();
        assert_eq!((row.get::<_, bool>(0), row.get::<_, i64>(1)), (true, 2));
    });
}

#[test]
fn a_prepared_statement_sees_the_batch_of_the_time_at_which_it_runs() {
    let mut house = house(two());
    house.test.run(1).unwrap();
    let client = house.connect();
    let statement = RUNTIME.block_on(client.prepare("SELECT count(*) FROM readings")).unwrap();
    let count = || RUNTIME.block_on(client.query_one(&statement, &[])).unwrap().get::<_, i64>(0);
    assert_eq!(count(), 2);
    house.test.run(1).unwrap();
    assert_eq!(count(), 1);
}

#[test]
fn functions_and_aggregates_of_the_program_are_called_by_clients() {
    let mut test = StreamTest::new();
    let readings = test.input(of(vec![vec![("a".to_owned(), 20.0), ("b".to_owned(), 70.5), ("a".to_owned(), 26.0)]]));
    let sql = SqlContext::new(test.ssc()).unwrap();
    sql.register_function("fahrenheit", |celsius: f64| celsius * 1.8 + 32.0).unwrap();
    let spread = sql.register_aggregate(
        "Spread",
        (f64::MAX, f64::MIN),
        |(low, high): (f64, f64), x: f64| (low.min(x), high.max(x)),
        |(a, b), (c, d)| (a.min(c), b.max(d)),
        |(low, high)| (high >= low).then_some(high - low),
    );
    spread.unwrap();
    sql.register_aggregate("bad", 0i64, |_, _: f64| panic!("no more"), |a, _| a, |a| a).unwrap();
    sql.register_stream("readings", &readings);
    let server = sql.serve_with(ServeSpec::at("127.0.0.1:0")).unwrap();
    test.run(1).unwrap();
    let client = connect_to(server.address(), "user=test").unwrap();
    for (text, want) in [
        ("SELECT _1, spread(_2) FROM readings GROUP BY _1 ORDER BY _1", "a|6.0\nb|0"),
        ("SELECT SPREAD(fahrenheit(_2)) > 90 FROM readings", "t"),
        ("SELECT spread(_2) FROM readings WHERE _2 > 100", "-"),
        ("SELECT spread(_2) FILTER (WHERE _2 < 50) FROM readings", "6.0"),
        ("SELECT _1 FROM readings GROUP BY _1 HAVING spread(_2) > 1", "a"),
        ("SELECT sum(s) FROM (SELECT spread(_2) AS s FROM readings GROUP BY _1) AS g", "6.0"),
    ] {
        assert_eq!(ask(&client, text), want, "{text}");
    }
    RUNTIME.block_on(async {
        let statement = client.prepare("SELECT spread(_2) FROM readings WHERE _1 = $1").await.unwrap();
        for (sensor, want) in [("a", Some(6.0)), ("b", Some(0.0)), ("c", None)] {
            let row = client.query_one(&statement, &[&sensor]).await.unwrap();
            assert_eq!(row.get::<_, Option<f64>>(0), want, "{sensor}");
        }
    });
    let (_, message) = refused(&client, "SELECT bad(_2) FROM readings");
    assert!(message.contains("the aggregate `bad`: a closure of the program panicked: no more"), "{message}");
    assert_eq!(ask(&client, "SELECT count(*) FROM readings"), "3", "the connection goes on");
}

#[test]
fn what_is_wrong_with_a_statement_is_said_with_its_code_and_the_nearest_name() {
    let mut house = house(two());
    house.test.run(1).unwrap();
    let client = house.connect();
    for (text, code, said) in [
        ("SELEC 1", "42601", "SELEC"),
        ("SELECT sensr FROM readings", "42703", "did you mean `sensor`"),
        ("SELECT * FROM redings", "42P01", "redings"),
        ("SELECT 1 / 0", "22012", "zero"),
        ("SELECT nosuch(1)", "42883", "nosuch"),
        ("SELECT * FROM '/etc/passwd'", "42P01", "passwd"),
    ] {
        let (found, message) = refused(&client, text);
        assert_eq!(found, code, "{text}: {message}");
        assert!(message.contains(said), "{text}: {message}");
    }
    assert_eq!(ask(&client, "SELECT 1"), "1", "the connection goes on");
}

#[test]
fn a_program_says_where_it_cannot_serve_and_what_cannot_be_a_table() {
    let test = StreamTest::new();
    let sql = SqlContext::new(test.ssc()).unwrap();
    let failed = |spec| sql.serve_with(spec).unwrap_err();
    let open = failed(ServeSpec::at("0.0.0.0:0"));
    assert_eq!(open.kind(), ErrorKind::Config);
    assert!(open.to_string().contains("give a password"), "{open}");
    assert!(failed(ServeSpec::at("nonsense")).to_string().contains("no address"));
    assert!(
        failed(ServeSpec::at("127.0.0.1:0").tls("/no/such.pem", "/no/such.key")).to_string().contains("/no/such.pem")
    );
    let numbers = test.input(batches![[1i64]]);
    sql.register_stream("n", &numbers);
    sql.register_stream("N", &numbers);
    sql.register_stream("no name", &numbers);
    sql.register_stream("b", &numbers.sql::<millstream::sql::RecordBatch>(&sql, "n", "SELECT value AS batch FROM n"));
    let told = test.ssc().start().unwrap_err().to_string();
    assert!(told.contains("there is a live table `n` already"), "{told}");
    assert!(told.contains("`no name` is no name"), "{told}");
}
