//! An `Rc` cannot go to another thread.

use std::rc::Rc;

use millstream_streaming::DStream;

fn program(numbers: &DStream<i32>) {
    numbers.map(|x| Rc::new(x));
}

fn main() {}
