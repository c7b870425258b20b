//! What works by key needs pairs.

use millstream_streaming::DStream;

fn program(numbers: &DStream<i64>) {
    numbers.reduce_by_key(|a, b| a + b).print();
}

fn main() {}
