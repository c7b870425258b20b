//! When inputs ask the outside what there is: a little before a batch is due, so that planning it does not wait for the answer.

use std::time::Duration;

use millstream_core::Time;
use millstream_core::clock::monotonic;

use super::BatchLoop;
use crate::graph::StreamKind;

/// What is to be done about a batch that is not due yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// Ask now.
    Now,
    /// Look again after so long.
    After(Duration),
    /// It is due: whoever allocates asks.
    TooLate,
}

/// Decides when to ask. `left` is how long it is until the batch is due, and `lead` how long before that to ask. Pure.
fn ahead(left: Duration, lead: Duration) -> Ahead {
    match left.checked_sub(lead) {
        _ if left.is_zero() => Ahead::TooLate,
        Some(wait) if !wait.is_zero() => Ahead::After(wait),
        _ => Ahead::Now,
    }
}

impl BatchLoop {
    /// Has inputs ask ahead, once for each batch. Returns when to look again, as `monotonic` counts.
    pub(super) fn ask_ahead(&mut self, due: Option<Time>) -> Option<Duration> {
        let due = due.filter(|due| self.asked_ahead != Some(*due))?;
        let inputs = self.graph.slots.iter().filter_map(|slot| match &slot.kind {
            StreamKind::Input { input, .. } => input.lead(),
            _ => None,
        });
        let lead = inputs.max()?;
        // A clock that is moved by hand does not say.
        match ahead(self.clock.until(due)?, lead) {
            Ahead::After(wait) => return Some(monotonic() + wait),
            Ahead::TooLate => {}
            Ahead::Now => {
                for slot in &mut self.graph.slots {
                    if let StreamKind::Input { input, .. } = &mut slot.kind {
                        input.ask_ahead();
                    }
                }
            }
        }
        self.asked_ahead = Some(due);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::millis;

    #[test]
    fn it_is_asked_so_long_before_a_batch_is_due_and_not_for_one_that_is() {
        for (left, lead, want) in [
            (100, 2, Ahead::After(millis(98))),
            (3, 2, Ahead::After(millis(1))),
            (2, 2, Ahead::Now),
            (1, 2, Ahead::Now),
            (0, 2, Ahead::TooLate),
            (0, 0, Ahead::TooLate),
            (5, 0, Ahead::After(millis(5))),
        ] {
            assert_eq!(ahead(millis(left), millis(lead)), want, "{left} {lead}");
        }
    }
}
