//! What a checkpoint holds, and what a program makes of it, told to people and machines.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use millstream_core::disk::Disk;
use millstream_core::{Error, ErrorKind, Result, Time, as_millis};
use serde::Serialize;

use super::held::{Found, Held};
use super::identity::{Fate, objections};
use super::known::Known;
use super::ledger::{LeftOut, Record};
use super::looking::Looking;
use super::{Program, compared};
use crate::wal::LogConf;
use crate::wal::vanished::steadily;

/// How often it is read because states are missing that it names.
const READINGS: usize = 3;

/// A checkpoint, as it is.
#[derive(Debug, Serialize)]
pub(crate) struct Inspected {
    pub(crate) folder: String,
    pub(crate) application: String,
    pub(crate) starts: u64,
    pub(crate) interval_ms: i64,
    pub(crate) latest_batch_ms: Option<i64>,
    /// Batches that have begun, and of which it is not known that they ended.
    pub(crate) pending_batches_ms: Vec<i64>,
    /// Batches of which it is known what they were given.
    pub(crate) remembered_batches_ms: Vec<i64>,
    pub(crate) uncommitted_batches_ms: Vec<i64>,
    /// The newest times that have no batch, as they were missed and left out.
    pub(crate) left_out: Vec<LeftOutLine>,
    pub(crate) kept: Vec<KeptLine>,
}

/// Times in a row that have no batch.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOutLine {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    pub(crate) batches: i64,
}

/// Something that is kept.
#[derive(Debug, Serialize)]
pub(crate) struct KeptLine {
    pub(crate) what: String,
    pub(crate) name: String,
    /// Whether the program gave it the name.
    pub(crate) is_uid: bool,
    pub(crate) form: String,
    pub(crate) saves: Vec<SaveLine>,
}

/// A save of a state.
#[derive(Debug, Serialize)]
pub(crate) struct SaveLine {
    pub(crate) batch_ms: i64,
    /// The form of an earlier build, if it has that.
    pub(crate) earlier_form: Option<String>,
    pub(crate) partitions: u32,
    /// The bytes of all files that it is read from.
    pub(crate) bytes: u64,
}

/// What becomes of something.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlanLine {
    pub(crate) what: String,
    pub(crate) name: String,
    pub(crate) was_called: Option<String>,
    pub(crate) becomes: String,
    pub(crate) form_before: Option<String>,
    pub(crate) form_now: Option<String>,
    pub(crate) objection: Option<String>,
}

/// Looks at the checkpoint in a folder. Nothing is changed, and another process may run the program meanwhile, or begin it anew.
///
/// # Errors
///
/// The kind is `Data`: there is none, or it cannot be read.
pub(crate) fn look(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Found> {
    let list = || Ok([disk.list(folder)?, disk.list(&folder.join("log"))?].concat());
    let mut readings = 0;
    steadily(list, |before: &[String]| {
        let mut found = looked_at(disk, folder)?;
        readings += 1;
        let mut missing = BTreeSet::new();
        for state in found.ledger.states() {
            if !disk.exists(&folder.join(state))? {
                missing.insert(state.to_owned());
            }
        }
        // Some are missing wherever a program runs, as records name them a little longer; or what was read is older than all that there are.
        if !missing.is_empty() && readings < READINGS && list()? != before {
            let text = format!("the program that goes on in {} has let go of states", folder.display());
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        found.ledger.let_go_of_missing(|state| Ok(!missing.contains(state)))?;
        Ok(found)
    })
}

fn looked_at(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Found> {
    let nothing = |what: &str| {
        let text = format!("there is no checkpoint in {}: {what}", folder.display());
        Error::new(ErrorKind::Data, text)
    };
    if !disk.exists(folder)? {
        return Err(nothing("there is no such folder"));
    }
    let looking: Arc<dyn Disk> = Arc::new(Looking(Arc::clone(disk)));
    let held = Held::take(looking, folder)?;
    if held.is_being_cleared()? {
        return Err(nothing("what was there is being thrown away"));
    }
    let found = held.read(u64::MAX, &LogConf::default())?;
    if !found.is_used() {
        return Err(nothing("no program has run there"));
    }
    Ok(found)
}

impl Found {
    /// Returns how many bytes are in the files of a folder. Those that the program lets go of meanwhile have none.
    fn bytes_in(&self, folder: &Path) -> Result<u64> {
        let mut bytes = 0;
        for file in self.disk.list(folder)?.iter().map(|name| folder.join(name)) {
            match self.disk.len(&file) {
                Ok(len) => bytes += len,
                Err(_) if !self.disk.exists(&file)? => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Tells what is there.
    pub(crate) fn inspect(&self) -> Result<Inspected> {
        let ledger = &self.ledger;
        let ms = |at: &Time| at.as_millis();
        let mut kept = Vec::new();
        for (number, keeper) in (0u32..).zip(&ledger.keepers) {
            let mut saves = Vec::new();
            for (at, save) in ledger.saves.get(&number).into_iter().flatten() {
                let needs = save.at.needs.iter().map(|folder| self.bytes_in(&self.folder.join(folder)));
                let bytes = needs.sum::<Result<u64>>()?;
                let earlier_form = ledger.earlier_form(number, *at).map(str::to_owned);
                saves.push(SaveLine { batch_ms: ms(at), earlier_form, partitions: save.partitions, bytes });
            }
            let (what, name, form) = (keeper.kept.to_string(), keeper.key.clone(), keeper.shape.clone());
            kept.push(KeptLine { what, name, is_uid: keeper.named, form, saves });
        }
        Ok(Inspected {
            folder: self.folder.display().to_string(),
            application: ledger.app_id.clone(),
            starts: ledger.epoch,
            interval_ms: as_millis(ledger.interval),
            latest_batch_ms: ledger.latest.as_ref().map(ms),
            pending_batches_ms: ledger.pending().map(|at| ms(&at)).collect(),
            remembered_batches_ms: ledger.batches.keys().map(ms).collect(),
            uncommitted_batches_ms: ledger.prepared.keys().map(ms).collect(),
            left_out: ledger.left_out.iter().map(|gap| self.left_out(gap)).collect(),
            kept,
        })
    }

    fn left_out(&self, gap: &LeftOut) -> LeftOutLine {
        let batches = as_millis(gap.to - gap.from) / as_millis(self.ledger.interval).max(1) + 1;
        LeftOutLine { first_ms: gap.from.as_millis(), last_ms: gap.to.as_millis(), batches }
    }

    /// Tells what would become of it all if a program started.
    pub(crate) fn plan(&self, program: &Program<'_>) -> Result<Vec<PlanLine>> {
        let lines = compared(&self.ledger, program, &*self.disk, &self.folder)?;
        let told = |line: super::identity::Line| {
            let was = line.before.and_then(|before| self.ledger.keepers.get(before as usize));
            let is = line.now.and_then(|now| program.keepers.keepers.get(now as usize));
            let any = is.or(was)?;
            let form = |keeper: &super::identity::Keeper| keeper.shape.clone();
            Some(PlanLine {
                what: any.kept.to_string(),
                name: any.key.clone(),
                was_called: was.filter(|was| was.key != any.key).map(|was| was.key.clone()),
                becomes: line.fate.to_string(),
                form_before: was.map(form),
                form_now: is.map(form),
                objection: line.objection,
            })
        };
        Ok(lines.into_iter().filter_map(told).collect())
    }

    /// Returns what is known, as it is for a program that goes on from here.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: this program could not, or has states that no earlier run had.
    pub(crate) fn known_to(mut self, program: Program<'_>) -> Result<Known> {
        let lines = compared(&self.ledger, &program, &*self.disk, &self.folder)?;
        let mut objections = objections(&program.keepers.keepers, &lines);
        let new = lines.iter().filter(|line| matches!(line.fate, Fate::New | Fate::Anew)).filter_map(|line| line.now);
        let new = new.filter_map(|now| program.keepers.keepers.get(now as usize));
        objections.extend(
            new.filter(|keeper| keeper.kept == super::identity::Kept::State)
                .map(|keeper| format!("+ {keeper}: the program that made the batch had no such state")),
        );
        if !objections.is_empty() {
            let text = format!(
                "the checkpoint in {} is not of this program:\n{}",
                self.folder.display(),
                objections.join("\n")
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let (began, keeper_of) = super::began(&self.ledger, program, &lines);
        self.ledger.apply(Record::Began(began));
        Ok(Known { ledger: self.ledger, keeper_of })
    }

    /// Returns the time from which slides are counted, and how often there is a batch.
    pub(crate) fn beats(&self) -> (Time, std::time::Duration) {
        (self.ledger.zero, self.ledger.interval)
    }
}
