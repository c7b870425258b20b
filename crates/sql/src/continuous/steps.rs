//! What tasks do for a statement that is kept up to date, and how it travels to them.

use std::marker::PhantomData;
use std::sync::Arc;

use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::{PartitionIter, Pass, Result};
use millstream_streaming::Merge;

use super::cells::Packed;
use super::planned::Planned;
use crate::batch::RecordBatch;
use crate::columnar::{Columnar, ROWS};
use crate::functions::Functions;
use crate::statement::Table;
use crate::tables::Pinned;

/// A group and its state.
pub(super) type Group = (Packed, Packed);

/// A statement with what a batch brings along for it: tables that do not stream, and the program's functions.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) planned: Arc<Planned>,
    pub(super) pinned: Vec<Pinned>,
    pub(super) functions: Arc<Functions>,
}

impl Kept {
    fn others(&self) -> Result<Vec<Table>> {
        self.pinned.iter().map(Pinned::table).collect()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        self.planned.ship(&self.functions, w)?;
        w.value(&self.pinned)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Kept> {
        Ok(Kept { planned: Planned::unship(r)?, pinned: r.value()?, functions: Arc::default() })
    }
}

/// Makes groups and states of the rows of a partition.
pub(super) struct Below<T> {
    pub(super) kept: Kept,
    pub(super) of: PhantomData<fn(T)>,
}

impl<T: Columnar> Pass for Below<T> {
    type In = T;
    type Out = Group;

    fn run(&self, rows: PartitionIter<T>) -> Result<Vec<Group>> {
        let mut rows = T::write(rows)?;
        rows.retain(|columns| columns.num_rows() > 0);
        self.kept.planned.of_rows(rows, self.kept.others()?, &self.kept.functions)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        self.kept.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Below { kept: Kept::unship(r)?, of: PhantomData })
    }
}

/// Merges what a batch gives into what was there. Nothing is planned if the statement is none: then the program does not start.
#[derive(Clone)]
pub(super) struct Merging(pub(super) Option<Kept>);

impl Merging {
    fn kept(&self) -> Result<&Kept> {
        self.0.as_ref().ok_or_else(|| millstream_core::bug!("a statement that is none was kept up to date"))
    }
}

impl Merge for Merging {
    type Key = Packed;
    type Value = Packed;
    type State = Packed;

    fn merge(&self, before: &[Option<Packed>], values: &[Packed], of: &[usize]) -> Result<Vec<Packed>> {
        self.kept()?.planned.groups().merged(before, values, of)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        self.kept()?.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Merging(Some(Kept::unship(r)?)))
    }
}

/// Makes results of the groups of a partition.
pub(super) struct Results(pub(super) Kept);

impl Pass for Results {
    type In = Group;
    type Out = RecordBatch;

    fn run(&self, mut groups: PartitionIter<Group>) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        loop {
            let some: Vec<Group> = groups.by_ref().take(ROWS).collect();
            if some.is_empty() {
                return Ok(batches);
            }
            batches.push(self.0.planned.groups().results(&some)?.into());
        }
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        self.0.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Results(Kept::unship(r)?))
    }
}

/// Makes the answer of results.
pub(super) struct Above<R> {
    pub(super) kept: Kept,
    pub(super) of: PhantomData<fn() -> R>,
}

impl<R: Columnar> Pass for Above<R> {
    type In = RecordBatch;
    type Out = R;

    fn run(&self, results: PartitionIter<RecordBatch>) -> Result<Vec<R>> {
        let planned = &self.kept.planned;
        let mut results: Vec<_> = results.map(Into::into).collect();
        if results.is_empty() && planned.groups().is_one() {
            results.push(planned.groups().results(&[])?);
        }
        let mut out = Vec::new();
        for columns in planned.answer(results, self.kept.others()?, &self.kept.functions)? {
            out.append(&mut R::read(columns)?);
        }
        Ok(out)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        self.kept.ship(w)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Above { kept: Kept::unship(r)?, of: PhantomData })
    }
}
