//! How often an output takes a batch, and the handle with which a program chooses.

use std::fmt;
use std::sync::Arc;

use millstream_core::{CallSite, Error, ErrorKind};

use super::sink::AnySink;
use crate::graph::{GraphShared, OutputSlot};

/// How often an output takes each batch, over all crashes and starts.
///
/// # Spark
///
/// The semantics of output operations, R-24, R-48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// A batch may be left out, and is never there twice.
    AtMostOnce,
    /// A batch is never left out, and may come again, with the same content.
    AtLeastOnce,
    /// A batch is there once.
    ExactlyOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guarantee::AtMostOnce => "at most once",
            Guarantee::AtLeastOnce => "at least once",
            Guarantee::ExactlyOnce => "exactly once",
        })
    }
}

/// What an output does with a batch, as far as its guarantee goes.
#[derive(Clone)]
pub(crate) enum OutputKind {
    /// The program's closure does something; whether it is told the batch's key.
    Plain { has_key: bool },
    /// It writes a folder.
    Files,
    /// It prepares something, and commits it.
    Transaction(Arc<dyn AnySink>),
}

/// Where the checkpoint of a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptIn {
    /// There is none.
    Nothing,
    Disk,
    /// Where a start on another machine finds it, too.
    Bucket,
}

/// Says what an output gives, and why: by what it does, what the program asked for, and where the checkpoint is. Pure.
pub(crate) fn guarantee(kind: &OutputKind, asked: Option<Guarantee>, kept: KeptIn) -> (Guarantee, &'static str) {
    match (kind, asked) {
        _ if kept == KeptIn::Nothing => {
            (Guarantee::AtMostOnce, "there is no checkpoint directory, so no later run knows of a batch")
        }
        (OutputKind::Files, _) if kept == KeptIn::Bucket => (
            Guarantee::ExactlyOnce,
            "a batch's folder appears in one step, and is left if the batch runs again; where a start on another machine sees the \
             same folder: the checkpoint is in a bucket, and files are not",
        ),
        (OutputKind::Files, _) => {
            (Guarantee::ExactlyOnce, "a batch's folder appears in one step, and is left if the batch runs again")
        }
        (OutputKind::Transaction(sink), _) => (Guarantee::ExactlyOnce, sink.how()),
        (OutputKind::Plain { .. }, Some(Guarantee::AtMostOnce)) => {
            (Guarantee::AtMostOnce, "the program asks for it: a batch that an earlier run had begun is left out")
        }
        (OutputKind::Plain { has_key: true }, Some(Guarantee::ExactlyOnce)) => {
            (Guarantee::ExactlyOnce, "the program says that its sink takes the key of a batch once")
        }
        (OutputKind::Plain { .. }, _) => {
            (Guarantee::AtLeastOnce, "a batch that had not ended runs again, with the same input")
        }
    }
}

impl OutputSlot {
    /// Says whether a batch that an earlier run had begun is left out.
    pub(crate) fn is_left_out(&self) -> bool {
        matches!(self.kind, OutputKind::Plain { .. }) && self.asked == Some(Guarantee::AtMostOnce)
    }
}

/// An output of a program: to name it, and to choose how often it takes a batch. It can be ignored.
///
/// # Example
///
/// ```
/// # use millstream_testkit::doc::*;
/// # run([vec![1, 2]], |numbers| {
/// numbers.print().at_most_once();
/// numbers.foreach_rdd(|rdd, time| println!("{time}: {:?}", rdd.collect())).uid("told");
/// # });
/// ```
#[derive(Clone)]
pub struct Output {
    graph: Arc<GraphShared>,
    /// Nothing if it came too late, which has been reported.
    number: Option<usize>,
}

impl Output {
    pub(super) fn new(graph: &Arc<GraphShared>, number: Option<usize>) -> Output {
        Output { graph: Arc::clone(graph), number }
    }

    fn change(&self, site: CallSite, change: impl FnOnce(&mut OutputSlot)) -> Output {
        if let Some(number) = self.number {
            self.graph.change(site, |graph| {
                if let Some(slot) = graph.outputs.get_mut(number) {
                    change(slot);
                }
            });
        }
        self.clone()
    }

    /// Notes that all the output does is to show its elements to people.
    pub(super) fn only_shows(&self, site: CallSite) -> Output {
        self.change(site, |slot| slot.only_shows = true)
    }

    /// Gives the output a name of its own. It is part of every [batch key](crate::BatchKey), and what finds again what the
    /// output has prepared when the program changes.
    ///
    /// Without one it is called by its operation and its number among those of the operation without a name: `print 1`.
    ///
    /// # Errors
    ///
    /// `start()` reports two outputs of one name.
    #[track_caller]
    pub fn uid(&self, uid: impl Into<String>) -> Output {
        let (uid, site) = (uid.into(), CallSite::here("uid"));
        let is_taken = |slot: (usize, &OutputSlot)| Some(slot.0) != self.number && slot.1.uid.as_ref() == Some(&uid);
        if self.graph.ask(|graph| graph.outputs.iter().enumerate().any(is_taken)) == Some(true) {
            self.graph.fault(Error::new(ErrorKind::Graph, format!("two outputs have the uid `{uid}`")).at(site));
        }
        self.change(site, |slot| slot.uid = Some(uid))
    }

    /// Asks for no batch twice: one that an earlier run had begun, and of which it is not known that it ended, is left out.
    ///
    /// Outputs that give [`ExactlyOnce`](Guarantee::ExactlyOnce) by themselves go on to do so.
    #[track_caller]
    pub fn at_most_once(&self) -> Output {
        self.change(CallSite::here("at_most_once"), |slot| slot.asked = Some(Guarantee::AtMostOnce))
    }

    /// Asks for every batch, also if one comes again, with the same content. With a checkpoint directory that is what
    /// outputs do if nothing is said.
    ///
    /// Outputs that give [`ExactlyOnce`](Guarantee::ExactlyOnce) by themselves go on to do so.
    #[track_caller]
    pub fn at_least_once(&self) -> Output {
        self.change(CallSite::here("at_least_once"), |slot| slot.asked = Some(Guarantee::AtLeastOnce))
    }

    /// Asks for every batch once. Outputs to files and to a [`Transactional`](crate::Transactional) sink give that; of a
    /// closure of `foreach_batch` it is the program's word that its sink takes a batch's key once.
    ///
    /// # Errors
    ///
    /// `start()` reports an output that cannot: `print` and `foreach_rdd`, which are not told the key; and a program
    /// without a checkpoint directory.
    #[track_caller]
    pub fn exactly_once(&self) -> Output {
        let site = CallSite::here("exactly_once");
        let plain = |slot: &OutputSlot| matches!(slot.kind, OutputKind::Plain { has_key: false });
        let cannot = self.graph.ask(|graph| graph.outputs.get(self.number?).filter(|slot| plain(slot)).map(|s| s.site));
        if let Some(output) = cannot.flatten() {
            let text = format!(
                "{} is not told the key of a batch, and cannot refuse one that comes again: use foreach_batch, save_to or files",
                output.op()
            );
            self.graph.fault(Error::new(ErrorKind::Graph, text).at(site));
        }
        self.change(site, |slot| slot.asked = Some(Guarantee::ExactlyOnce))
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({:?})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r24_r48_what_an_output_gives_follows_from_what_it_does_what_is_asked_and_the_checkpoint() {
        use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        let (plain, keyed) = (OutputKind::Plain { has_key: false }, OutputKind::Plain { has_key: true });
        for (kind, asked, want) in [
            (&plain, None, AtLeastOnce),
            (&plain, Some(AtLeastOnce), AtLeastOnce),
            (&plain, Some(AtMostOnce), AtMostOnce),
            (&keyed, None, AtLeastOnce),
            (&keyed, Some(ExactlyOnce), ExactlyOnce),
            (&OutputKind::Files, None, ExactlyOnce),
            (&OutputKind::Files, Some(AtMostOnce), ExactlyOnce),
        ] {
            assert_eq!(guarantee(kind, asked, KeptIn::Disk).0, want, "{asked:?}");
            assert_eq!(guarantee(kind, asked, KeptIn::Bucket).0, want, "{asked:?}");
            assert_eq!(guarantee(kind, asked, KeptIn::Nothing).0, AtMostOnce, "{asked:?}");
        }
        assert!(guarantee(&OutputKind::Files, None, KeptIn::Bucket).1.contains("the same folder"));
        assert!(!guarantee(&OutputKind::Files, None, KeptIn::Disk).1.contains("the same folder"));
    }
}
