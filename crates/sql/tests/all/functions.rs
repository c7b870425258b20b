//! Functions of Spark are the same of columns as of constants, row by row, and null where an argument is.

use millstream::Context;
use millstream::sql::SqlContext;

/// What is called, and with what: rows of arguments as they are written.
const CALLS: &[(&str, &[&[&str]])] = &[
    ("size({0})", &[&["array(1, 2)"], &["array(3)"]]),
    ("array_contains({0}, {1})", &[&["array(1, 2)", "2"], &["array(1, 3)", "2"]]),
    ("array_position({0}, {1})", &[&["array('a', 'b')", "'b'"], &["array('a')", "'x'"]]),
    ("array_append({0}, {1})", &[&["array(1)", "2"], &["array(3, 4)", "5"]]),
    ("array_prepend({0}, {1})", &[&["array(1)", "2"], &["array(3, 4)", "5"]]),
    ("array_remove({0}, {1})", &[&["array(1, 2, 1)", "1"], &["array(3)", "4"]]),
    ("array_insert({0}, {1}, {2})", &[&["array(1, 3)", "2", "2"], &["array(1)", "-1", "9"], &["array(1)", "4", "9"]]),
    ("array_repeat({0}, {1})", &[&["'x'", "2"], &["'y'", "0"]]),
    ("array_distinct({0})", &[&["array(1, 1, 2)"], &["array(3)"]]),
    ("array_union({0}, {1})", &[&["array(1, 2)", "array(2, 3)"], &["array(4)", "array(4, 4)"]]),
    ("array_intersect({0}, {1})", &[&["array(1, 2, 2)", "array(2, 3)"], &["array(4)", "array(5)"]]),
    ("array_except({0}, {1})", &[&["array(1, 2, 1)", "array(2, 3)"], &["array(4)", "array(5)"]]),
    ("arrays_overlap({0}, {1})", &[&["array(1, 2)", "array(2)"], &["array(4)", "array(5)"]]),
    ("array_join({0}, {1})", &[&["array('a', 'b')", "'-'"], &["array('c')", "'+'"]]),
    ("array_max({0})", &[&["array(1, 3, 2)"], &["array(-1)"]]),
    ("array_min({0})", &[&["array(1.5e0, -3e0)"], &["array(0e0)"]]),
    ("array_sort({0})", &[&["array('b', 'a')"], &["array('c')"]]),
    ("sort_array({0}, false)", &[&["array(1, 3, 2)"], &["array(1)"]]),
    ("array_compact({0})", &[&["array(1, NULL, 2)"], &["array(3)"]]),
    ("flatten({0})", &[&["array(array(1), array(2, 3))"], &["array(array(4))"]]),
    ("slice({0}, {1}, {2})", &[&["array(1, 2, 3)", "2", "2"], &["array(1, 2, 3)", "-2", "1"], &["array(1)", "3", "1"]]),
    ("sequence({0}, {1}, {2})", &[&["1", "5", "2"], &["3", "1", "-1"]]),
    ("sequence({0}, {1})", &[&["DATE'2024-02-28'", "DATE'2024-03-01'"], &["DATE'2024-02-02'", "DATE'2024-02-01'"]]),
    ("concat({0}, {1})", &[&["array(1)", "array(2)"], &["array(3, 4)", "array(5)"]]),
    ("reverse({0})", &[&["'äbc'"], &["''"]]),
    ("reverse({0})", &[&["array(1, 2)"], &["array(3)"]]),
    ("map_contains_key({0}, {1})", &[&["map('a', 1)", "'a'"], &["map('b', 1)", "'a'"]]),
    ("map_concat({0}, {1})", &[&["map('a', 1)", "map('b', 2)"], &["map('c', 1)", "map('d', 2)"]]),
    ("str_to_map({0})", &[&["'a:1,b:2'"], &["'x'"]]),
    ("instr({0}, {1})", &[&["'spark'", "'r'"], &["'spark'", "'x'"]]),
    ("locate({0}, {1}, 3)", &[&["'a'", "'banana'"], &["'n'", "'banana'"]]),
    ("find_in_set({0}, {1})", &[&["'b'", "'a,b,c'"], &["'x'", "'a'"]]),
    ("substring_index({0}, '.', {1})", &[&["'a.b.c'", "2"], &["'a.b.c'", "-1"], &["'a'", "0"]]),
    ("soundex({0})", &[&["'Robert'"], &["'Miller'"]]),
    ("base64({0})", &[&["'a'"], &["'abc'"]]),
    ("split({0}, {1})", &[&["'a,b'", "','"], &["'a1b22c'", "r'\\d+'"]]),
    ("regexp_extract({0}, {1}, {2})", &[&["'a1b22'", "'([0-9]+)$'", "1"], &["'ab'", "'x(y)?'", "1"]]),
    ("regexp_extract_all({0}, {1})", &[&["'a1b22'", "'([0-9]+)'"], &["'ab'", "'(x)'"]]),
    ("regexp_replace({0}, {1}, {2})", &[&["'a1b2'", "'[0-9]'", "'#'"], &["'xy'", "'(x)(y)'", "'$2$1'"]]),
    ("format_number({0}, {1})", &[&["1234567.891", "2"], &["-0.5", "0"]]),
    ("ascii({0})", &[&["'A'"], &["''"]]),
    ("chr({0})", &[&["65"], &["-1"]]),
    ("hex({0})", &[&["255"], &["-1"]]),
    ("conv({0}, {1}, {2})", &[&["'100'", "2", "10"], &["'zz'", "36", "16"]]),
    ("pmod({0}, {1})", &[&["-7", "3"], &["7", "-3"]]),
    ("ln({0})", &[&["1e0"], &["0e0"], &["-1e0"]]),
    ("log({0}, {1})", &[&["10", "100"], &["2", "0"]]),
    ("round({0}, {1})", &[&["2.675D", "2"], &["-2.5D", "0"], &["1234D", "-2"]]),
    ("round({0}, 1)", &[&["CAST('12.345' AS DECIMAL(5, 3))"], &["CAST('-9.950' AS DECIMAL(5, 3))"]]),
    ("round({0}, -1)", &[&["CAST('15.000' AS DECIMAL(5, 3))"], &["CAST('-4.999' AS DECIMAL(5, 3))"]]),
    ("bround({0}, {1})", &[&["2.5D", "0"], &["3.5D", "0"]]),
    ("round({0}, {1})", &[&["1250", "-2"], &["-1250", "-2"]]),
    ("ceil({0})", &[&["-0.5D"], &["1.2D"]]),
    ("floor({0})", &[&["-0.5D"], &["1.2D"]]),
    ("width_bucket({0}, 0D, 10D, {1})", &[&["5.3D", "5"], &["-1D", "5"], &["10D", "5"]]),
    ("factorial({0})", &[&["5"], &["21"]]),
    ("shiftright({0}, {1})", &[&["-16", "2"], &["16", "65"]]),
    ("add_months({0}, {1})", &[&["DATE'2024-01-31'", "1"], &["DATE'2024-03-31'", "-1"]]),
    ("{0} + {1}", &[&["DATE'2024-02-28'", "2"], &["DATE'2024-12-31'", "-366"]]),
    ("last_day({0})", &[&["DATE'2024-02-03'"], &["DATE'2023-12-31'"]]),
    ("next_day({0}, {1})", &[&["DATE'2024-02-29'", "'MON'"], &["DATE'2024-02-29'", "'thursday'"]]),
    (
        "months_between({0}, {1})",
        &[&["DATE'2024-03-31'", "DATE'2024-02-29'"], &["DATE'2024-01-15'", "DATE'2024-03-01'"]],
    ),
    ("make_date({0}, {1}, {2})", &[&["2024", "2", "29"], &["1999", "12", "1"]]),
    (
        "date_trunc({0}, {1})",
        &[&["'week'", "TIMESTAMP'2024-02-29 10:00:00'"], &["'century'", "TIMESTAMP'2024-02-29 10:00:00'"]],
    ),
    ("trunc({0}, {1})", &[&["DATE'2024-05-29'", "'quarter'"], &["DATE'2024-05-29'", "'day'"]]),
    (
        "date_format({0}, {1})",
        &[&["TIMESTAMP'2024-02-29 15:04:05'", "'hh:mm a'"], &["TIMESTAMP'2024-02-01 00:00:00'", "'E d MMM'"]],
    ),
    ("to_date({0}, {1})", &[&["'28/02/2024'", "'dd/MM/yyyy'"], &["'2024'", "'yyyy'"]]),
    ("to_timestamp({0}, {1})", &[&["'28.02.2024 10'", "'dd.MM.yyyy HH'"], &["'1'", "'d'"]]),
    ("unix_timestamp({0})", &[&["'1970-01-02 00:00:00'"], &["'1969-12-31 23:59:59'"]]),
    ("from_unixtime({0}, {1})", &[&["0", "'yyyy'"], &["-1", "'yyyy-MM-dd HH:mm:ss'"]]),
    ("CAST({0} AS DATE)", &[&["'2024-2-9'"], &["'2024'"]]),
    ("try_cast({0} AS TIMESTAMP)", &[&["'2024-02-29T10:00:00Z'"], &["'never'"]]),
    (
        "timestampdiff(MONTH, {0}, {1})",
        &[
            &["TIMESTAMP'2024-01-31 00:00:00'", "TIMESTAMP'2024-02-29 00:00:00'"],
            &["TIMESTAMP'2024-03-01 00:00:00'", "TIMESTAMP'2024-01-01 00:00:00'"],
        ],
    ),
];

fn called(call: &str, arguments: &[&str]) -> String {
    arguments.iter().enumerate().fold(call.to_owned(), |call, (at, of)| call.replace(&format!("{{{at}}}"), of))
}

#[test]
fn a_function_is_the_same_of_columns_as_of_constants_and_null_of_null() {
    let context = Context::new("local[1]", "functions").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    let texts = |statement: &str| -> Vec<Option<String>> {
        let columns = sql.sql(statement).and_then(|frame| frame.to_columns());
        let columns = columns.unwrap_or_else(|e| panic!("{statement}: {e}"));
        columns
            .iter()
            .flat_map(|columns| millstream::sql::texts(columns).unwrap())
            .map(|mut row| row.remove(0))
            .collect()
    };
    for (call, rows) in CALLS {
        let of_constants: Vec<Option<String>> =
            rows.iter().flat_map(|row| texts(&format!("SELECT {} AS x", called(call, row)))).collect();
        let columns: Vec<String> = (0..rows[0].len()).map(|at| format!("c{at}")).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let rows = rows.iter().map(|row| format!("SELECT {}", named(row, &columns))).collect::<Vec<_>>();
        // A row of nulls, whose types are those of the others.
        let nulls: Vec<String> = columns.iter().map(|column| format!("nullif({column}, {column})")).collect();
        let all = rows.join(" UNION ALL ");
        let asked = texts(&format!("SELECT {} AS x FROM ({all}) t", called(call, &columns)));
        assert_eq!(asked, of_constants, "{call} of columns");
        let nulls: Vec<&str> = nulls.iter().map(String::as_str).collect();
        let of_nulls = texts(&format!("SELECT {} AS x FROM ({}) t", called(call, &nulls), rows[0]));
        assert_eq!(of_nulls, [None], "{call} of null");
    }
}

fn named(row: &[&str], columns: &[&str]) -> String {
    let named: Vec<String> = row.iter().zip(columns).map(|(of, name)| format!("{of} AS {name}")).collect();
    named.join(", ")
}

#[test]
fn what_a_function_cannot_take_or_do_is_told_with_what_to_write() {
    let context = Context::new("local[1]", "functions").unwrap();
    let sql = SqlContext::get_or_create(&context).unwrap();
    let told = |statement: &str| {
        let told = sql.sql(statement).and_then(|frame| frame.to_columns());
        told.err().unwrap_or_else(|| panic!("{statement} is answered")).message().to_owned()
    };
    for (statement, want) in [
        (
            "SELECT array_append(array(1), 'x')",
            "array_append takes a list and an element of its type, and not (array<bigint>, string)",
        ),
        ("SELECT array(1, 'x')", "array takes values of one type"),
        ("SELECT slice(array(1), 0, 1)", "slice(list, 0, 1): the first place is 1"),
        ("SELECT sequence(1, 5, -1)", "the step leads nowhere"),
        ("SELECT make_date(2023, 2, 29)", "there is no day 2023-2-29"),
        ("SELECT next_day('2024-02-29', 'SOON')", "`SOON` is no day of the week"),
        ("SELECT date_format(DATE'2024-01-01', 'QQQ')", "`QQQ` in the pattern `QQQ` is not known"),
        ("SELECT to_date('x', 'yyyy')", "to_date: `x` is not as the pattern `yyyy` says"),
        ("SELECT CAST('never' AS DATE)", "`never` is no DATE, as 2024-02-29: write try_cast"),
        ("SELECT split('abc', '')", "matches nothing at all, and so everywhere"),
        ("SELECT regexp_extract('a', '(?=a)', 0)", "the pattern `(?=a)` is not known here"),
        ("SELECT regexp_extract('a', 'a', 1)", "has no group 1: write 0"),
        ("SELECT map_concat(map('a', 1), map('a', 2))", "the key a stands twice in a map"),
        ("SELECT pmod(1, 0)", "division by zero in `pmod`"),
        ("SELECT conv('9', 2, 10)", "conv: `9` is no number to the base 2"),
        ("SELECT date_add(DATE'2024-01-01', 3000000000)", "is no day: it is too far away"),
        ("SELECT dateadd('DAY', 1, DATE'2024-01-01')", "date_add begins with a unit as DAY or HOUR"),
        ("SELECT timestampdiff(SOON, DATE'2024-01-01', DATE'2024-01-01')", "`soon` is no unit of time"),
        ("SELECT 1 FROM people PIVOT (count(a) FOR b IN (1))", "PIVOT is not known here: write"),
        ("SELECT explode(1)", "explode takes a list, and not (bigint)"),
    ] {
        assert!(told(statement).contains(want), "{statement}: {}", told(statement));
    }
}
