//! The state that goes out is the state that comes in again.

use millstream_streaming::DStream;

fn program(pairs: &DStream<(u8, i64)>) {
    pairs.update_state_by_key(|new: Vec<i64>, old: Option<i64>| Some(format!("{new:?} {old:?}"))).print();
}

fn main() {}
