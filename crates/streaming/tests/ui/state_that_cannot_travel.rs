//! A state is saved now and then.

use millstream_streaming::{DStream, State, StateSpec};

#[derive(Clone)]
struct Session(u64);

fn program(pairs: &DStream<(u8, i64)>) {
    let spec = StateSpec::function(|_: &u8, _: Option<i64>, state: &mut State<'_, Session>| {
        let clicks = state.get_option().map_or(0, |session| session.0) + 1;
        state.update(Session(clicks));
        clicks
    });
    pairs.map_with_state(spec).print();
}

fn main() {}
