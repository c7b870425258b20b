//! Floats are no keys: they have no `Eq` and no `Hash`.

use millstream_streaming::DStream;

fn program(readings: &DStream<(f64, i64)>) {
    readings.reduce_by_key(|a, b| a + b).print();
    readings.transform(|rdd, _| rdd.group_by(|(celsius, _)| *celsius)).print();
}

fn main() {}
