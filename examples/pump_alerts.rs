//! Tells which pumps are hotter than their vendor allows and were not looked after lately: a stream joined with two tables of CSV.
//!
//! ```text
//! cargo run --release -p millstream-examples --features sql --example pump_alerts
//! ```
//!
//! The statement is planned once. The tables are read again every minute: change a file, and a later batch sees it.

use std::path::Path;

use millstream::prelude::*;
use millstream::sql::{Files, Row, SqlContext, SqlStreams as _};

/// What a sensor of a pump says.
#[derive(Clone, Debug, Row, serde::Serialize, serde::Deserialize)]
pub struct Reading {
    /// The pump.
    pub pump: i64,
    /// How hot it is.
    pub celsius: f64,
}

/// A pump to look at.
#[derive(Clone, Debug, PartialEq, Row, serde::Serialize, serde::Deserialize)]
pub struct Alert {
    /// The pump.
    pub pump: i64,
    /// Who made it.
    pub vendor: String,
    /// How hot it was in this batch.
    pub hottest: f64,
    /// How hot it may be.
    pub allowed: f64,
    /// When somebody looked at it last, if somebody did.
    pub checked: Option<millstream::sql::Date>,
}

/// What is asked of each batch.
pub const STATEMENT: &str = "
    SELECT r.pump, v.vendor, max(r.celsius) AS hottest, v.max_celsius AS allowed, m.checked
    FROM readings r
    JOIN vendors v ON v.pump = r.pump
    LEFT JOIN maintenance m ON m.pump = r.pump
    WHERE m.checked IS NULL OR m.checked < DATE '2024-06-01'
    GROUP BY r.pump, v.vendor, v.max_celsius, m.checked
    HAVING max(r.celsius) > v.max_celsius
    ORDER BY r.pump";

/// Makes the stream of alerts.
pub fn alerts(sql: &SqlContext, readings: &DStream<Reading>, folder: &Path) -> Result<DStream<Alert>> {
    sql.register_files("vendors", Files::csv(folder.join("vendors.csv")).refreshed_every(mins(1)))?;
    sql.register_files("maintenance", Files::csv(folder.join("maintenance.csv")).refreshed_every(mins(1)))?;
    Ok(readings.sql(sql, "readings", STATEMENT))
}

/// Writes the tables that the example joins with.
pub fn write_tables(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(
        folder.join("vendors.csv"),
        "pump,vendor,max_celsius\n1,Ada & Co,70.5\n2,Kilby,80\n3,Kilby,80\n4,Hopper,60\n",
    )?;
    std::fs::write(folder.join("maintenance.csv"), "pump,checked\n1,2024-05-02\n2,2024-06-20\n3,2023-12-24\n")?;
    Ok(())
}

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join("millstream-pumps");
    write_tables(&folder)?;
    let ssc = StreamingContext::new("local[2]", "pump alerts", millis(500))?;
    let sql = SqlContext::new(&ssc)?;
    let queue = RddQueue::new();
    alerts(&sql, &ssc.queue_stream(&queue), &folder)?.print();
    ssc.start()?;
    for batch in 0..6u32 {
        let reading = |pump: i64| Reading { pump, celsius: 50.0 + f64::from(batch) * 8.0 + pump as f64 };
        queue.push(ssc.context().parallelize((1..=4).map(reading).collect(), 2));
    }
    ssc.await_termination_or_timeout(secs(4))?;
    ssc.stop_gracefully()
}
