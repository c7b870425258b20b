//! Mistakes that a test can plant, to see that it would find them. Only with the feature `mutants`, which nothing but the
//! project's own tests turns on: without it [`planted`] is `false`, and what asks is not there when it is compiled.
//!
//! A mistake is planted for the whole process. A test that does it has a process of its own.

/// A step of the order of durability (`docs/specs/durability.md`) that is left out, or done too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A batch runs before it is durable what belongs to it.
    RunsBeforeAllocated = 1,
    /// Inputs are told to commit before the end of the batch is durable.
    CommitsBeforeEnd,
    /// Old states are removed before the end of the batch that no longer needs them is durable.
    ForgetsBeforeEnd,
    /// The log is written and not synced.
    LogNotSynced,
    /// A log whose sync failed is synced again, and believed.
    SyncTriedAgain,
    /// Folders are not synced: new names are lost.
    FolderNotSynced,
    /// Files that are written beside and renamed are not synced before.
    DraftNotSynced,
    /// A checkpoint file is written in its place, and not beside.
    CheckpointInPlace,
    /// A checkpoint file claims records that are still under way.
    SnapshotInFlight,
    /// The log is cut before the checkpoint file that replaces it is durable.
    LogCutFirst,
    /// A batch of an earlier run is given something new.
    AllocatesAnew,
    /// A batch whose end is durable runs again.
    EndedRunsAgain,
    /// The sender of a block is told that it is kept before it is.
    AcknowledgesBeforeKept,
    /// A transactional sink commits before the end of the batch is durable.
    SinkCommitsBeforeEnd,
    /// A start takes the number of the one before, and with it its fencing token.
    TakesOldNumber,
    /// Of each state only the newest save is kept, though a window needs an older one.
    OnlyNewestState,
    /// The folder of a batch is put in its place before what is in it is durable.
    PublishedNotSynced,
    /// Live tables of SQL are published one by one, and not a batch as a whole. It is no step of durability, and not among
    /// [`ALL`](Self::ALL): `crates/sql-live/tests` finds it.
    LiveTablesOneByOne,
}

impl Mutant {
    /// All of the order of durability.
    pub const ALL: [Mutant; 17] = [
        Mutant::RunsBeforeAllocated,
        Mutant::CommitsBeforeEnd,
        Mutant::ForgetsBeforeEnd,
        Mutant::LogNotSynced,
        Mutant::SyncTriedAgain,
        Mutant::FolderNotSynced,
        Mutant::DraftNotSynced,
        Mutant::CheckpointInPlace,
        Mutant::SnapshotInFlight,
        Mutant::LogCutFirst,
        Mutant::AllocatesAnew,
        Mutant::EndedRunsAgain,
        Mutant::AcknowledgesBeforeKept,
        Mutant::SinkCommitsBeforeEnd,
        Mutant::TakesOldNumber,
        Mutant::OnlyNewestState,
        Mutant::PublishedNotSynced,
    ];
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a mistake in this process, or takes it away.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.store(mutant.map_or(0, |mutant| mutant as u8), std::sync::atomic::Ordering::SeqCst);
}

/// Says whether a mistake is planted.
#[cfg(feature = "mutants")]
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Says whether a mistake is planted: none is.
#[cfg(not(feature = "mutants"))]
pub const fn planted(_: Mutant) -> bool {
    false
}
