//! A closure outlives the function that builds the graph, so it owns what it uses.

use millstream_streaming::DStream;

fn program(numbers: &DStream<i32>) {
    let factor = 3;
    numbers.map(|x| x * factor).print();
}

fn main() {}
