//! What crosses a shuffle must be serialisable.

use millstream_streaming::DStream;

#[derive(Clone)]
struct Reading {
    celsius: i64,
}

fn program(readings: &DStream<i64>) {
    readings.map(|celsius| Reading { celsius }).repartition(4).count().print();
    let by_sensor = readings.map(|celsius| (celsius % 7, Reading { celsius }));
    by_sensor.group_by_key().count().print();
}

fn main() {}
