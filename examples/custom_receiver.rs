//! A receiver of one's own: it makes a number every few milliseconds. (Spark's CustomReceiver.)
//!
//! ```text
//! cargo run --release --example custom_receiver
//! ```

use std::time::Duration;

use millstream::prelude::*;

/// Receives the numbers from 0 on.
struct Numbers(u64);

impl Receiver for Numbers {
    type Item = u64;

    fn receive(&mut self, store: &mut dyn Store<u64>) -> Result<()> {
        loop {
            // `store` fails when it is time to go, and that ends the loop.
            store.store(self.0)?;
            self.0 += 1;
            #[allow(clippy::disallowed_methods, reason = "it stands for a source that is slow by itself")]
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn main() -> Result<()> {
    let ssc = StreamingContext::new("local[1]", "custom receiver", millis(250))?;
    let numbers = ssc.receiver_stream(Numbers(0));
    numbers
        .map(|n| (if n % 2 == 0 { Text::from("even") } else { Text::from("odd") }, 1u64))
        .reduce_by_key(|a, b| a + b)
        .print();
    numbers.count().print();
    ssc.start()?;
    ssc.await_termination_or_timeout(millis(1200))?;
    ssc.stop_gracefully()
}
