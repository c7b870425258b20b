//! Mistakes that a test plants in a process, and points of a batch at which it ends one. Only with the feature
//! `broker-tests`, which nothing but the project's own tests turns on: without it nothing of this is there when it is
//! compiled.

/// A step that is left out, or done in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "broker-tests"), allow(dead_code, reason = "only tests plant them"))]
pub enum Mistake {
    /// The mark is committed behind the records, and not with them.
    MarkOutside,
    /// A start does not look for the mark.
    MarkNotRead,
    /// A start does not fence whoever wrote before.
    NoFence,
    /// Offsets are committed to the group when a batch is given them, and are believed before the checkpoint.
    CommitsEarly,
}

impl Mistake {
    /// All of them, as a process is told.
    pub const ALL: [(&'static str, Mistake); 4] = [
        ("mark-outside", Mistake::MarkOutside),
        ("mark-not-read", Mistake::MarkNotRead),
        ("no-fence", Mistake::NoFence),
        ("commits-early", Mistake::CommitsEarly),
    ];
}

#[cfg(feature = "broker-tests")]
mod told {
    use std::process::Command;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Mistake;

    /// What a process is told: `MILLSTREAM_KAFKA_MISTAKE` names a mistake, and `MILLSTREAM_KAFKA_END` a point, how
    /// often it is passed before, and by which signal the process ends there: `marked:3:KILL`. `marked:3:BROKER-7` ends the
    /// broker instead, so many milliseconds later, and starts it again.
    struct Told {
        mistake: Option<Mistake>,
        end: Option<(String, u64, String)>,
        passed: AtomicU64,
    }

    fn told() -> &'static Told {
        static TOLD: OnceLock<Told> = OnceLock::new();
        TOLD.get_or_init(|| {
            let mistake = std::env::var("MILLSTREAM_KAFKA_MISTAKE").ok();
            let mistake =
                mistake.and_then(|name| Mistake::ALL.iter().find(|(known, _)| *known == name).map(|(_, m)| *m));
            let end = std::env::var("MILLSTREAM_KAFKA_END").ok();
            let end = end.and_then(|text| {
                let mut words = text.split(':');
                Some((words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?.to_owned()))
            });
            Told { mistake, end, passed: AtomicU64::new(0) }
        })
    }

    pub(crate) fn planted(mistake: Mistake) -> bool {
        told().mistake == Some(mistake)
    }

    pub(crate) fn passed(point: &str) {
        let told = told();
        let Some((end, times, signal)) = &told.end else { return };
        if end == point && told.passed.fetch_add(1, Ordering::SeqCst) == *times {
            let command = match signal.strip_prefix("BROKER-") {
                None => format!("kill -{signal} {}", std::process::id()),
                // Nobody waits for it: what comes behind the point goes on meanwhile.
                Some(ms) => {
                    format!("(sleep $(printf '0.%03d' {ms}); $MILLSTREAM_KAFKA_HOME/restart) >/dev/null 2>&1 &")
                }
            };
            let _ = Command::new("sh").args(["-c", &command]).status();
        }
    }
}

#[cfg(feature = "broker-tests")]
pub(crate) use self::told::{passed, planted};

/// Says whether a mistake is planted: none is.
#[cfg(not(feature = "broker-tests"))]
pub(crate) const fn planted(_: Mistake) -> bool {
    false
}

/// A point of a batch is passed.
#[cfg(not(feature = "broker-tests"))]
pub(crate) const fn passed(_: &str) {}
