//! What a process says, in its log: warnings of all, and each step of the crate.

use std::fmt::Write as _;

use millstream_core::clock::wall_time;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes a line an event to the standard error.
pub(crate) struct Log;

/// What an event says: the text first, then the rest.
#[derive(Default)]
struct Said {
    text: String,
    rest: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, of: &Metadata<'_>) -> bool {
        let finest = if of.target().starts_with("millstream_kafka") { Level::DEBUG } else { Level::WARN };
        *of.level() <= finest && of.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        eprintln!("{} {} {}{}", wall_time().as_millis(), event.metadata().level(), said.text, said.rest);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
