//! Streams are joined on keys of one type.

use millstream_streaming::DStream;

fn program(clicks: &DStream<(u64, i64)>, users: &DStream<(String, i64)>) {
    clicks.join(users).print();
}

fn main() {}
