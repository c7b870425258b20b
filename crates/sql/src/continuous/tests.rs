//! What is kept of groups is enough: each aggregate that is merged batch by batch is what it is over all rows at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cells::Packed;
use super::planned::Planned;
use crate::batch::RecordBatch;
use crate::functions::Functions;
use crate::row::{schema_of, to_columns};
use crate::session::Session;
use crate::show::cast_to_texts;
use crate::statement::{Statement, Table};

type Reading = (i64, Option<String>, Option<i64>, Option<f64>);

fn batches() -> Vec<Vec<Reading>> {
    let batch = |batch: i64| {
        (0..batch * 4).map(move |i| {
            let n = i * 7 + batch * 3;
            let word = (n % 5 > 0).then(|| ["a", "B", "", "ü"][(n % 4) as usize].to_owned());
            (n % 3, word, (n % 7 > 1).then_some(n - 20), (n % 4 > 0).then_some(n as f64 / 4.0))
        })
    };
    [3, 0, 1, 2, 4, 1].into_iter().map(|n| batch(n).collect()).collect()
}

fn table(rows: Vec<Vec<Reading>>) -> Table {
    let rows = rows.into_iter().map(|rows| to_columns(rows).unwrap()).collect();
    Table { name: "r".to_owned(), schema: schema_of::<Reading>(), rows: Arc::new(rows), version: 0 }
}

fn session() -> Arc<Session> {
    crate::session::of_arrived(1 << 26).unwrap()
}

fn planned(text: &str) -> millstream_core::Result<Planned> {
    Planned::new(text, &session(), vec![table(Vec::new())], &Functions::default())
}

/// Merges a batch into states, as a task does, with keys in the order of the map.
fn merge(planned: &Planned, states: &mut BTreeMap<Vec<u8>, (Packed, Packed)>, rows: Vec<RecordBatch>) {
    let given = planned.of_rows(rows, Vec::new(), &Functions::default()).unwrap();
    let bytes = |packed: &Packed| millstream_core::codec::encode(packed).unwrap();
    let mut keys: Vec<Packed> = Vec::new();
    let (mut values, mut of) = (Vec::new(), Vec::new());
    for (key, value) in given {
        let at = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key.clone());
            keys.len() - 1
        });
        of.push(at);
        values.push(value);
    }
    let before: Vec<_> = keys.iter().map(|key| states.get(&bytes(key)).map(|(_, state)| state.clone())).collect();
    let after = planned.groups().merged(&before, &values, &of).unwrap();
    for (key, state) in keys.into_iter().zip(after) {
        states.insert(bytes(&key), (key, state));
    }
}

fn texts(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let mut rows: Vec<_> = batches.iter().flat_map(|batch| cast_to_texts(batch).unwrap()).collect();
    rows.sort();
    rows
}

/// The aggregates that are told to work, each with what its state is in a checkpoint.
const AGGREGATES: [(&str, &str); 34] = [
    ("count(*)", "count(Int64)"),
    ("count(_2)", "count(Int64)"),
    ("count(DISTINCT _2)", "count DISTINCT(List(Utf8))"),
    ("count(DISTINCT _3)", "count DISTINCT(List(Int64))"),
    ("sum(_3)", "sum(Int64)"),
    ("sum(_4)", "sum(Float64)"),
    ("sum(DISTINCT _3)", "sum DISTINCT(List(Int64))"),
    ("sum(CAST(_3 AS DECIMAL(10, 2)))", "sum(Decimal128(20, 2))"),
    ("sum(_3) FILTER (WHERE _4 > 3)", "sum(Int64)"),
    ("avg(_3)", "avg(UInt64, Float64)"),
    ("avg(_4)", "avg(UInt64, Float64)"),
    ("avg(CAST(_3 AS DECIMAL(10, 2)))", "avg(UInt64, Decimal128(38, 2))"),
    ("min(_3)", "min(Int64)"),
    ("max(_2)", "max(Utf8)"),
    ("min(_4)", "min(Float64)"),
    ("max(CAST(_1 AS TIMESTAMP))", "max(Timestamp(ns))"),
    ("bool_and(_3 > 0)", "bool_and(Boolean)"),
    ("bool_or(_3 > 20)", "bool_or(Boolean)"),
    ("bit_xor(_3)", "bit_xor(Int64)"),
    ("stddev(_4)", ""),
    ("stddev_pop(_4)", ""),
    ("var_samp(_4)", ""),
    ("corr(_4, CAST(_3 AS DOUBLE))", ""),
    ("covar_samp(_4, CAST(_3 AS DOUBLE))", ""),
    ("regr_slope(_4, CAST(_3 AS DOUBLE))", ""),
    ("approx_distinct(_3)", "approx_distinct(Binary)"),
    ("approx_distinct(_2)", "approx_distinct(Binary)"),
    ("first_value(_3 ORDER BY _1, _3, _4)", ""),
    ("last_value(_2 ORDER BY _3, _4, _2)", ""),
    ("median(_4)", "median(List(Float64))"),
    ("array_agg(_3 ORDER BY _3, _4)", ""),
    ("string_agg(_2, ',' ORDER BY _2)", ""),
    ("max(struct(_3, _4))", ""),
    ("approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY _4)", ""),
];

#[test]
fn every_aggregate_that_is_merged_is_what_it_is_over_all_rows_and_its_state_is_a_format() {
    let mut wrong = Vec::new();
    for ((aggregate, state), keys) in AGGREGATES.into_iter().zip(["_1", "_2", ""].into_iter().cycle()) {
        let (select, by) = if keys.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("{keys}, "), format!(" GROUP BY {keys}"))
        };
        let text = format!("SELECT {select}{aggregate} AS a FROM r{by}");
        let planned = match planned(&text) {
            Ok(planned) => planned,
            Err(error) => {
                wrong.push(format!("{text}: {error}"));
                continue;
            }
        };
        if !state.is_empty() && !planned.content().ends_with(&format!("=> {state}")) {
            wrong.push(format!("{text}: the state is {}", planned.content()));
        }
        let whole = Statement::new(&text, &session()).unwrap();
        let (mut states, mut seen) = (BTreeMap::new(), Vec::new());
        for batch in batches() {
            merge(&planned, &mut states, table(vec![batch.clone()]).rows.to_vec());
            seen.push(batch);
            let groups: Vec<(Packed, Packed)> = states.values().cloned().collect();
            let results = planned.groups().results(&groups).unwrap();
            let ours = planned.answer(vec![results], Vec::new(), &Functions::default()).unwrap();
            let theirs = whole.run(&[table(seen.clone())], &Functions::default()).unwrap();
            // What estimates may estimate otherwise when it sees its values in other parts.
            let estimates = aggregate.starts_with("approx_percentile");
            let (ours, theirs) = (texts(&ours), texts(&theirs));
            let same = close(&ours, &theirs) || (estimates && ours.len() == theirs.len());
            if !same {
                wrong.push(format!("{text}: {ours:?} and not {theirs:?}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sums of floats depend on their order in the last bits.
fn close(ours: &[Vec<Option<String>>], theirs: &[Vec<Option<String>>]) -> bool {
    let cell = |a: &Option<String>, b: &Option<String>| {
        let numbers =
            a.as_ref().zip(b.as_ref()).and_then(|(a, b)| Some((a.parse::<f64>().ok()?, b.parse::<f64>().ok()?)));
        a == b || numbers.is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs().max(1.0))
    };
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| cell(a, b)))
}

#[test]
fn sums_over_sets_of_groups_and_distinct_rows_are_kept_too() {
    for text in [
        "SELECT _1, _2, grouping(_2) AS g, count(*), sum(_3) FROM r GROUP BY ROLLUP (_1, _2)",
        "SELECT _1, _2, max(_4) FROM r GROUP BY GROUPING SETS ((_1), (_2), ())",
        "SELECT DISTINCT _1, _2 FROM r WHERE _3 > 0",
        "SELECT CAST(_4 AS INT) AS k, count(*) FROM r GROUP BY CAST(_4 AS INT) HAVING count(*) > 1 ORDER BY k DESC LIMIT 3",
    ] {
        let planned = planned(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let whole = Statement::new(text, &session()).unwrap();
        let (mut states, mut seen) = (BTreeMap::new(), Vec::new());
        for batch in batches() {
            merge(&planned, &mut states, table(vec![batch.clone()]).rows.to_vec());
            seen.push(batch);
            let groups: Vec<(Packed, Packed)> = states.values().cloned().collect();
            let results = planned.groups().results(&groups).unwrap();
            let ours = texts(&planned.answer(vec![results], Vec::new(), &Functions::default()).unwrap());
            let theirs = texts(&whole.run(&[table(seen.clone())], &Functions::default()).unwrap());
            assert!(close(&ours, &theirs), "{text}: {ours:?} and not {theirs:?}");
        }
    }
}

#[test]
fn one_group_of_which_nothing_has_come_yet_counts_none() {
    let planned = planned("SELECT count(*), count(DISTINCT _2), sum(_3), avg(_4), max(_2) FROM r").unwrap();
    let results = planned.groups().results(&[]).unwrap();
    let answer = planned.answer(vec![results], Vec::new(), &Functions::default()).unwrap();
    let zero = || Some("0".to_owned());
    assert_eq!(texts(&answer), [[zero(), zero(), None, None, None]]);
}

#[test]
fn what_grows_without_bound_is_named_and_what_estimates_is_not() {
    for (text, want) in [
        ("SELECT _1, count(*), avg(_3), approx_distinct(_2) FROM r GROUP BY _1", &[][..]),
        ("SELECT _1, approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY _4) FROM r GROUP BY _1", &[]),
        ("SELECT _1, count(DISTINCT _2) AS n FROM r GROUP BY _1", &["n"]),
        ("SELECT median(_4) AS m, string_agg(_2, ',') AS s, sum(_3) FROM r", &["m", "s"]),
    ] {
        let planned = planned(text).unwrap();
        let named = planned.groups().unbounded();
        assert_eq!(named.len(), want.len(), "{text}: {named:?}");
    }
}

#[test]
fn another_form_of_the_state_is_another_content_and_what_stands_around_it_is_not() {
    let content = |text: &str| planned(text).unwrap().content();
    let first = content("SELECT _1 AS k, sum(_3) AS s FROM r GROUP BY _1");
    assert_eq!(first, "continuous_sql 1: (r._1) => sum(r._3): (Int64) => sum(Int64)");
    assert_eq!(
        first,
        content("SELECT _1, sum(_3) FROM r WHERE _3 > 1 GROUP BY _1 HAVING sum(_3) > 7 ORDER BY 2 LIMIT 3")
    );
    for other in [
        "SELECT _1, sum(_4) FROM r GROUP BY _1",
        "SELECT _1, sum(_3), count(*) FROM r GROUP BY _1",
        "SELECT _2, sum(_3) FROM r GROUP BY _2",
        "SELECT _1, sum(_3 + 1) FROM r GROUP BY _1",
    ] {
        assert_ne!(first, content(other), "{other}");
    }
}
