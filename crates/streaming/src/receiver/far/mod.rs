//! Receivers that run on executors: what is said between one there and its desk on the driver (ADR 29).
//!
//! ```text
//!  executor                                        driver
//!  receiver ─► door ─► buffer ─► a block            desk: tracker, log, what batches are given
//!                                  │ kept there, and a copy elsewhere if the level says so
//!                                  └── Block ─────► logged, numbered and listed ── yes ─► acknowledged to its sender
//!  stops, keeps to a rate, has room ◄── Order ──────
//! ```

mod post;
mod seated;

use std::time::Duration;

use millstream_core::StorageLevel;
use serde::{Deserialize, Serialize};

pub(super) use self::post::begin;
pub(super) use self::seated::{Seat, Seated};
use super::Position;
use crate::conf::WhenFull;
use crate::listener::Pressure;

/// What a receiver on an executor is to keep to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Its input's number, for people.
    pub(super) input: u64,
    /// The stream that its blocks are of.
    pub(super) stream: u64,
    /// The number of its first block.
    pub(super) next: u64,
    /// Where the source is to go on.
    pub(super) position: Option<Position>,
    /// Blocks of executors before that wait for their batch, with their items and bytes.
    pub(super) waiting: Vec<(u64, u64, u64)>,
    pub(super) level: StorageLevel,
    /// Whether blocks are sent to the driver too, which writes them to its log.
    pub(super) logs: bool,
    pub(super) block_interval: Duration,
    pub(super) restart_delay: Duration,
    pub(super) max_rate: Option<u64>,
    pub(super) initial_rate: Option<u64>,
    /// The rate that back-pressure has asked for so far.
    pub(super) rate: Option<f64>,
    pub(super) waiting_items: Option<u64>,
    pub(super) waiting_bytes: Option<u64>,
    pub(super) when_full: Full,
    pub(super) max_record: usize,
    pub(super) spark_compatible: bool,
}

/// What the driver tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// To end, when what has been received is kept.
    Stop,
    /// To keep to another rate.
    Rate(f64),
    /// That blocks wait no longer.
    Left(Vec<u64>),
}

/// What a receiver says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// That it is about to receive. It may not if it is refused (R-44).
    Starts,
    /// That it has ended, for now.
    Stopped,
    /// That something went wrong.
    Failed(Vec<u8>),
    /// That as many items wait as may.
    Full(Full),
    /// That a block is kept.
    Block(Kept),
    /// How it has been held back since it last said so.
    Held(Held),
}

/// A block that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) position: Option<Position>,
    pub(super) spilled: bool,
    /// Its items, for the log.
    pub(super) written: Option<bytes::Bytes>,
    pub(super) held: Held,
}

/// [`Pressure`], as it travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    blocked: u64,
    shed: u64,
    spilled: u64,
}

impl From<Pressure> for Held {
    fn from(Pressure { blocked, shed, spilled, .. }: Pressure) -> Held {
        Held { blocked, shed, spilled }
    }
}

impl From<Held> for Pressure {
    fn from(Held { blocked, shed, spilled }: Held) -> Pressure {
        Pressure { limit: None, blocked, shed, spilled }
    }
}

/// [`WhenFull`], as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Full {
    Block,
    Shed,
    Spill,
}

impl From<WhenFull> for Full {
    fn from(when_full: WhenFull) -> Full {
        match when_full {
            WhenFull::Block => Full::Block,
            WhenFull::Shed => Full::Shed,
            WhenFull::Spill => Full::Spill,
        }
    }
}

impl From<Full> for WhenFull {
    fn from(full: Full) -> WhenFull {
        match full {
            Full::Block => WhenFull::Block,
            Full::Shed => WhenFull::Shed,
            Full::Spill => WhenFull::Spill,
        }
    }
}
