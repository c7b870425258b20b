//! What a kept plan must not do: answer with an old batch, build on the wrong side, grow, or be used by two at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::displayable;
use millstream_core::threads;

use super::*;
use crate::functions::function;
use crate::plans::{KEPT, RUNS};
use crate::row::{from_columns, schema_of, to_columns};

fn session() -> Arc<Session> {
    Arc::new(Session::new(256 << 20).unwrap())
}

fn statement(text: &str) -> Statement {
    Statement::new(text, &session()).unwrap()
}

/// A table of keys and values.
fn table(name: &str, rows: impl Iterator<Item = (i64, i64)>) -> Table {
    let rows = to_columns(rows.collect::<Vec<_>>()).unwrap();
    Table { name: name.to_owned(), schema: schema_of::<(i64, i64)>(), rows: Arc::new(vec![rows]), version: 0 }
}

fn answer(statement: &Statement, tables: &[Table]) -> Vec<(i64, i64)> {
    let columns = statement.run(tables, &Functions::default()).unwrap();
    let mut rows: Vec<(i64, i64)> = columns.iter().flat_map(|c| from_columns::<(i64, i64)>(c).unwrap()).collect();
    rows.sort_unstable();
    rows
}

const JOIN: &str = "SELECT r._1, sum(r._2 * l._2) FROM r JOIN l ON r._1 = l._1 GROUP BY r._1";

fn by_hand(left: &Table, right: &Table) -> Vec<(i64, i64)> {
    let rows = |t: &Table| t.rows.iter().flat_map(|c| from_columns::<(i64, i64)>(c).unwrap()).collect::<Vec<_>>();
    let mut sums = BTreeMap::new();
    for (k, v) in rows(left) {
        for (_, w) in rows(right).into_iter().filter(|(j, _)| *j == k) {
            *sums.entry(k).or_insert(0) += v * w;
        }
    }
    sums.into_iter().collect()
}

#[test]
fn trap_1_a_kept_plan_answers_with_the_batch_that_it_is_given_whatever_it_keeps_inside() {
    // A join keeps the table of its one side, a nested loop its left side, a subquery its value, a sort its bounds, a window its rows.
    let statements = [
        JOIN,
        "SELECT r._1, coalesce(l._2, -1) FROM r LEFT JOIN l ON r._1 = l._1",
        "SELECT r._1, l._2 FROM r JOIN l ON r._1 < l._1 AND l._1 < r._1 + 3",
        "SELECT count(*) AS a, sum(coalesce(l._2, 0) * 0 + 1) + 0 AS b FROM r CROSS JOIN l HAVING count(*) > 0",
        "SELECT _1, _2 FROM r WHERE _2 > (SELECT avg(_2) FROM r)",
        "SELECT _1, _2 FROM r WHERE _1 IN (SELECT _1 FROM l)",
        "SELECT _1, _2 FROM r WHERE NOT EXISTS (SELECT 1 FROM l WHERE l._1 = r._1)",
        "SELECT _1, _2 FROM r ORDER BY _2 DESC LIMIT 3",
        "SELECT _1, CAST(row_number() OVER (ORDER BY _2, _1) AS BIGINT) FROM r",
        "SELECT DISTINCT _1, _1 AS b FROM r UNION ALL SELECT _1, _2 FROM l",
        "WITH RECURSIVE n AS (SELECT 0 AS i, 0 AS j UNION ALL SELECT i + 1, j FROM n WHERE i < (SELECT count(*) FROM r)) SELECT i, j FROM n",
    ];
    for text in statements {
        let kept = statement(text);
        for (n, m) in [(50, 20), (60, 30), (11, 99), (90, 11), (12, 12), (99, 99), (0, 50), (50, 0), (0, 0), (55, 25)] {
            let tables = [table("r", (0..n).map(|i| (i % 7, i * 3))), table("l", (0..m).map(|i| (i % 5, i)))];
            let fresh = statement(text);
            assert_eq!(answer(&kept, &tables), answer(&fresh, &tables), "{text}: {n} and {m} rows");
            assert_eq!(fresh.times_planned(), 1);
        }
        assert!(kept.times_planned() <= 4, "{text} was planned {} times", kept.times_planned());
    }
    let tables = [table("r", (0..20).map(|i| (i % 7, i * 3))), table("l", (0..30).map(|i| (i % 5, i)))];
    assert_eq!(answer(&statement(JOIN), &tables), by_hand(&tables[0], &tables[1]));
}

#[test]
fn trap_2_the_small_side_of_a_join_is_built_and_a_batch_of_another_size_is_planned_again() {
    let built = |n: i64, m: i64| {
        let tables = [table("r", (0..n).map(|i| (i, i))), table("l", (0..m).map(|i| (i, i)))];
        let (plan, _) = statement(JOIN).physical(&tables, &Functions::default()).unwrap();
        let plan = displayable(&*plan).indent(false).to_string();
        let tables: Vec<&str> = plan.lines().filter_map(|line| line.trim().strip_prefix("Batch: ")).collect();
        tables[0].split(',').next().unwrap_or_default().to_owned()
    };
    // The first is the side that is built.
    assert_eq!(built(10, 100_000), "r");
    assert_eq!(built(100_000, 10), "l");
    let kept = statement(JOIN);
    let mut planned = Vec::new();
    for n in [1, 9, 5, 10, 99, 3, 100, 999, 10, 1, 0] {
        answer(&kept, &[table("r", (0..n).map(|i| (i, i))), table("l", (0..5).map(|i| (i, i)))]);
        planned.push(kept.times_planned());
    }
    assert_eq!(planned, [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4]);
}

#[test]
fn trap_3_a_plan_is_made_anew_before_what_it_counts_about_itself_has_grown() {
    let kept = statement("SELECT _1, _2 FROM r WHERE _1 = 1");
    let tables = [table("r", (0..3).map(|i| (i, i)))];
    let runs = RUNS + 2;
    for _ in 0..runs {
        assert_eq!(kept.run(&tables, &Functions::default()).unwrap()[0].num_rows(), 1);
    }
    assert_eq!(kept.times_planned(), 2);
    assert_eq!(kept.plans.idle(), [1]);
}

#[test]
fn no_more_plans_are_kept_than_a_statement_has_use_for() {
    let kept = statement(JOIN);
    for version in 1..100 {
        let right = Table { version, ..table("l", (0..5).map(|i| (i, i))) };
        answer(&kept, &[table("r", (0..5).map(|i| (i, i))), right]);
    }
    assert_eq!(kept.plans.idle().len(), KEPT);
}

#[test]
fn trap_4_another_version_of_a_table_and_another_function_are_seen_at_once() {
    let kept = statement("SELECT l._1, twice(l._2) FROM l");
    let once = Functions::default().with(function("twice", |n: i64| n * 2));
    let again = once.with(function("twice", |n: i64| n * 20));
    let tables = |version, n| [Table { version, ..table("l", [(1, n)].into_iter()) }];
    let ask = |tables: &[Table], functions: &Functions| {
        from_columns::<(i64, i64)>(&kept.run(tables, functions).unwrap()[0]).unwrap()
    };
    assert_eq!(ask(&tables(1, 4), &once), [(1, 8)]);
    assert_eq!(ask(&tables(2, 5), &once), [(1, 10)]);
    assert_eq!(ask(&tables(2, 5), &again), [(1, 100)]);
    assert_eq!(ask(&tables(2, 5), &once), [(1, 10)]);
    let unknown = kept.run(&tables(1, 1), &Functions::default()).unwrap_err();
    assert!(unknown.message().contains("twice"), "{unknown}");
}

#[test]
fn trap_4_a_column_that_comes_or_changes_its_type_is_planned_again() {
    let kept = statement("SELECT * FROM r");
    let ask = |rows: RecordBatch| {
        let tables = [Table { name: "r".to_owned(), schema: rows.schema(), rows: Arc::new(vec![rows]), version: 0 }];
        kept.run(&tables, &Functions::default()).unwrap().remove(0)
    };
    for _ in 0..2 {
        assert_eq!(ask(to_columns(vec![(1i64, 2i64)]).unwrap()).num_columns(), 2);
        assert_eq!(ask(to_columns(vec![(1i64, "x".to_owned(), true)]).unwrap()).num_columns(), 3);
        assert_eq!(ask(to_columns(vec![("y".to_owned(), 2i64)]).unwrap()).num_columns(), 2);
    }
    assert_eq!(kept.times_planned(), 3);
}

#[test]
fn trap_6_columns_are_handed_over_as_they_are_and_not_copied() {
    let tables = [table("r", (0..3).map(|i| (i, i)))];
    let given = lowered(&tables[0]).unwrap();
    assert!(Arc::ptr_eq(given[0].column(0), tables[0].rows[0].column(0)));
}

#[test]
fn trap_8_statements_run_at_once_from_more_threads_than_there_are_plans() {
    let kept = Arc::new(statement(
        "SELECT _1, sum(_2) FROM r WHERE _2 >= (SELECT min(_2) FROM r) AND _1 IN (SELECT _1 FROM l) GROUP BY _1",
    ));
    let threads: Vec<_> = (0..8i64)
        .map(|thread| {
            let kept = Arc::clone(&kept);
            threads::spawn(format!("asks-{thread}"), move || {
                for round in 0..25 {
                    let n = 20 + (thread * 7 + round) % 60;
                    let tables = [table("r", (0..n).map(|i| (thread, i))), table("l", [(thread, 0)].into_iter())];
                    assert_eq!(answer(&kept, &tables), [(thread, n * (n - 1) / 2)]);
                }
                SEEN.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap()
        })
        .collect();
    threads.into_iter().for_each(threads::OwnedThread::join);
    assert_eq!(SEEN.load(Ordering::Relaxed), 8);
}

static SEEN: AtomicU64 = AtomicU64::new(0);

#[test]
fn trap_8_a_function_may_ask_a_statement_while_a_statement_calls_it() {
    let inner = Arc::new(statement("SELECT _1, _2 + 1 FROM r"));
    let asks = function("asks", move |n: i64| answer(&inner, &[table("r", [(0, n)].into_iter())])[0].1);
    let functions = Functions::default().with(asks);
    let outer = statement("SELECT _1, asks(_2) FROM r");
    let columns = outer.run(&[table("r", (0..3).map(|i| (i, i * 10)))], &functions).unwrap();
    assert_eq!(from_columns::<(i64, i64)>(&columns[0]).unwrap(), [(0, 1), (1, 11), (2, 21)]);
}

#[test]
fn a_run_that_failed_leaves_nothing_behind() {
    let kept = statement("SELECT r._1, r._1 DIV r._2 FROM r JOIN l ON r._1 = l._1");
    let left = table("l", (0..10).map(|i| (i, i)));
    let good = [table("r", [(4, 2)].into_iter()), left.clone()];
    let bad = [table("r", [(4, 2), (5, 0)].into_iter()), left];
    for _ in 0..3 {
        assert_eq!(answer(&kept, &good), [(4, 2)]);
        let error = kept.run(&bad, &Functions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.message().starts_with("division by zero in `r._1 DIV r._2`"), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_statement_is_told_with_its_place_and_the_nearest_name() {
    let tables = [table("readings", [(1, 2)].into_iter())];
    for (text, want) in [
        (
            "SELECT * FROM reading",
            "no table `reading` at line 1, column 15, did you mean `readings`? There are readings",
        ),
        ("SELECT _1,\n  _3 FROM readings", "no column `_3` at line 2, column 3, did you mean `_1`? There are _1, _2"),
        ("SELECT readings.total FROM readings", "no column `readings.total` at line 1, column 8 There are _1, _2"),
        ("SELECT nosuch(_1) FROM readings", "the statement cannot be planned"),
        (
            "SELECT _1 FROM readings a JOIN readings b ON a._1 = b._1",
            "the column `_1` at line 1, column 8 is in several tables",
        ),
        ("SELECT sum(_1), _2 FROM readings", "the statement cannot be planned"),
        (
            "SELECT a.x FROM (SELECT 1 AS x, 2 AS X) a",
            "the statement cannot be planned: Projections require unique expression names",
        ),
    ] {
        let error = statement(text).check(&tables, &Functions::default()).unwrap_err();
        assert!(error.message().starts_with(want), "{text}: {error}");
    }
}

#[test]
fn a_statement_that_wants_more_memory_than_there_is_fails_and_the_next_one_runs() {
    let session = Arc::new(Session::new(4 << 20).unwrap());
    let large = Statement::new("SELECT a._1, b._2 FROM r a JOIN r b ON a._2 <> b._2 ORDER BY 1, 2", &session).unwrap();
    let small = Statement::new("SELECT _1, _2 FROM r ORDER BY 1", &session).unwrap();
    let error = large.run(&[table("r", (0..3000).map(|i| (i, i)))], &Functions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().starts_with("the statement needs more memory than the engine may take"), "{error}");
    assert_eq!(answer(&small, &[table("r", (0..3).map(|i| (i, i)))]), [(0, 0), (1, 1), (2, 2)]);
}
