//! Asks a running stream with psql: readings of pumps, the last ten seconds, and what is known of each pump since the start.
//!
//! ```text
//! cargo run --release -p millstream-examples --features sql-live --example live_table       # -- 127.0.0.1:5432
//! psql -h 127.0.0.1 -p 5432 millstream -c "select * from pumps where key = 'pump-7'"         # in another window
//! ```

use millstream::prelude::*;
use millstream::sql::{Row, SqlContext, SqlStreams as _};
use millstream::sql_live::ServeSql as _;

/// What a pump says.
#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
pub struct Reading {
    pub pump: String,
    pub celsius: f64,
}

/// What is known of a pump.
#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
pub struct Known {
    pub readings: i64,
    pub hottest: f64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:5432".to_owned());

    let ssc = StreamingContext::new("local[2]", "live table", secs(1))?;
    ssc.checkpoint_anew(std::env::temp_dir().join("millstream-live-table"))?;
    let numbers: Vec<i64> = (0..1000).collect();
    let every = ssc.context().parallelize(numbers, 2);
    let readings = ssc.constant_stream(every).transform(|rdd, time| {
        let second = time.as_millis() / 1000;
        rdd.map(move |n| Reading { pump: format!("pump-{}", n % 100), celsius: ((n * 7 + second * 13) % 90) as f64 })
    });
    live(&SqlContext::new(&ssc)?, &readings, &address)?;
    ssc.start()?;
    ssc.await_termination()
}

/// Makes the readings, a window of them and a state live tables, and opens the port.
pub fn live(sql: &SqlContext, readings: &DStream<Reading>, address: &str) -> Result<std::net::SocketAddr> {
    sql.register_stream("readings", readings);
    sql.register_stream("last_seconds", &readings.columns().window(secs(10)));
    let known = StateSpec::function(|_: &String, celsius: Option<f64>, state: &mut State<'_, Known>| {
        let before = state.get_option().cloned().unwrap_or(Known { readings: 0, hottest: f64::MIN });
        let hottest = before.hottest.max(celsius.unwrap_or(f64::MIN));
        state.update(Known { readings: before.readings + 1, hottest });
    });
    let by_pump = readings.map(|reading| (reading.pump, reading.celsius));
    sql.register_state("pumps", &by_pump.map_with_state(known));
    let server = sql.serve(address)?;
    println!("psql -h {} -p {} millstream", server.address().ip(), server.address().port());
    Ok(server.address())
}
