//! The example does what its header says.

use millstream::sql::SqlContext;
use millstream_testkit::{Batches, Row, StreamTest};

use crate::house::{ask, connect_to};

#[allow(
    dead_code,
    unreachable_pub,
    clippy::print_stdout,
    reason = "an example has a main, which prints and is not run here"
)]
#[path = "../../../../examples/live_table.rs"]
mod live_table;

#[test]
fn pumps_are_asked_while_they_run() {
    let mut test = StreamTest::new();
    let read = |celsius| live_table::Reading { pump: "pump-7".to_owned(), celsius };
    let rows = vec![Row::Elements(vec![read(71.5), read(20.0)]), Row::Elements(vec![read(60.0)])];
    let readings = test.input(Batches::new(rows));
    let sql = SqlContext::new(test.ssc()).unwrap();
    let address = live_table::live(&sql, &readings, "127.0.0.1:0").unwrap();
    test.run(2).unwrap();
    let client = connect_to(address, "user=ann").unwrap();
    assert_eq!(ask(&client, "SELECT readings, hottest FROM pumps WHERE key = 'pump-7'"), "3|71.5");
    assert_eq!(ask(&client, "SELECT count(*), min(celsius) FROM last_seconds"), "3|20.0");
}
