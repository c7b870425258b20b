//! What tasks build in memory while the budget lasts, and on disk beyond: rows for partitions, tables, sorted rows.
//!
//! The result is the same either way, to the order of each list and of each sum: a key that has gone to disk is combined
//! there from the same values in the same order, and every entry remembers when its key was first seen.
//!
//! ```text
//! table is too large ─► its keys stay; values of other keys go to one of 32 files by hash ─► still too large: all go
//! at the end         ─► each file is read into a table of its own (or cut into 32 again), sorted by first sight, written
//!                    ─► the sorted runs are merged as they are read
//! ```

use std::sync::Arc;

use super::blocks::read_some;
use super::pipeline::{CHUNK, PartitionReader};
use super::shuffled::{Aggregator, CombineTable, Entries};
use crate::codec::TypeCodec;
use crate::context::Env;
use crate::data::{ExchangeData, Key};
use crate::error::Result;
use crate::partitioner::key_hash;
use crate::spill::merge::{Merge, merge};
use crate::spill::size::{size_of_chunk, size_of_value};
use crate::spill::{FileBlock, Meter, Run, RunReader, RunWriter, SpillFile, SpillWriter};
use crate::storage::Block;

/// Rows for a number of partitions, which become a block each.
pub(crate) struct SpillBuckets<T> {
    buckets: Vec<Vec<T>>,
    meter: Meter,
    disk: Option<(SpillWriter, Vec<RunWriter>)>,
}

impl<T: ExchangeData> SpillBuckets<T> {
    pub(crate) fn new(partitions: usize, env: &Arc<Env>) -> SpillBuckets<T> {
        let buckets = (0..partitions).map(|_| Vec::new()).collect();
        SpillBuckets { buckets, meter: Meter::new(env), disk: None }
    }

    /// Adds a row. [`expect`](Self::expect) must have been called for its chunk.
    #[inline]
    pub(crate) fn push(&mut self, place: usize, item: T) {
        self.buckets[place].push(item);
    }

    /// Makes room for exactly `n` rows of a partition.
    pub(crate) fn reserve(&mut self, place: usize, n: usize) {
        self.buckets[place].reserve_exact(n);
    }

    /// Notes that a chunk is going to be added.
    pub(crate) fn expect(&mut self, chunk: &[T]) -> Result<()> {
        self.expect_bytes(size_of_chunk(chunk))
    }

    /// Notes that rows of about so many bytes are going to be added.
    pub(crate) fn expect_bytes(&mut self, bytes: u64) -> Result<()> {
        // Vectors grow by more than what is put in.
        if self.meter.add(bytes * 3 / 2) { self.settle() } else { Ok(()) }
    }

    #[cold]
    fn settle(&mut self) -> Result<()> {
        if self.meter.settle(self.meter.estimate())? {
            return Ok(());
        }
        self.flush()?;
        self.meter.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let memory = &self.meter.env().memory;
        let (writer, runs) = match &mut self.disk {
            Some(disk) => (&mut disk.0, &mut disk.1),
            None => {
                let runs = self.buckets.iter().map(|_| RunWriter::default()).collect();
                let disk = self.disk.insert((self.meter.env().spill.create("rows")?, runs));
                (&mut disk.0, &mut disk.1)
            }
        };
        for (bucket, run) in self.buckets.iter_mut().zip(runs) {
            for item in std::mem::take(bucket) {
                run.push(&item, memory.piece(), writer)?;
            }
            run.flush(writer)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Vec<Block>> {
        if self.disk.is_some() {
            self.flush()?;
        }
        let Some((mut writer, runs)) = self.disk.take() else {
            return Ok(std::mem::take(&mut self.buckets).into_iter().map(Block::exchange).collect());
        };
        let runs = runs.into_iter().map(|run| run.finish(&mut writer)).collect::<Result<Vec<_>>>()?;
        let (file, codec) = (writer.finish(), TypeCodec::of_many::<T>());
        let block = |run: Run| match run.items {
            0 => Block::exchange(Vec::<T>::new()),
            _ => Block::File(FileBlock::new(&file, run, codec)),
        };
        Ok(runs.into_iter().map(block).collect())
    }
}

/// How many files the keys of a table are spread over.
const FANS: usize = 32;
/// How often files are cut into smaller ones. Beyond, keys cannot be told apart by their hashes.
const LEVELS: u32 = 4;

/// Returns the file, of [`FANS`], of a key: other bits for each level, and not those that place keys elsewhere.
fn fan(hash: u64, level: u32) -> usize {
    (hash.wrapping_mul(0xd6e8_feb8_6659_fd93) >> (59 - 5 * level)) as usize % FANS
}

/// Values and combined values of keys on disk, in the order in which they came.
struct Fans {
    writer: SpillWriter,
    runs: Vec<RunWriter>,
    level: u32,
    piece: usize,
}

/// What is written: a combined value, or one to be added.
#[derive(serde::Serialize, serde::Deserialize)]
enum Entry<C, V> {
    Combined(C),
    Value(V),
}

impl Fans {
    fn new(env: &Arc<Env>, level: u32) -> Result<Fans> {
        let runs = (0..FANS).map(|_| RunWriter::default()).collect();
        Ok(Fans { writer: env.spill.create("table")?, runs, level, piece: env.memory.piece() })
    }

    /// Writes an entry of a key that was first seen as number `seen`.
    fn put<K: Key, C: ExchangeData, V: ExchangeData>(
        &mut self,
        hash: u64,
        seen: u64,
        key: &K,
        entry: Entry<&C, &V>,
    ) -> Result<()> {
        self.runs[fan(hash, self.level)].push(&(seen, key, entry), self.piece, &mut self.writer)
    }

    fn finish(self) -> Result<(Arc<SpillFile>, Vec<Run>, u32)> {
        let mut writer = self.writer;
        let runs = self.runs.into_iter().map(|run| run.finish(&mut writer)).collect::<Result<_>>()?;
        Ok((writer.finish(), runs, self.level))
    }
}

/// A table of keys and combined values that goes to disk when it is too large.
pub(crate) struct SpillTable<'a, K, A: Aggregator> {
    aggregator: &'a A,
    table: CombineTable<K, A::Combined>,
    hashes: Vec<u64>,
    meter: Meter,
    disk: Option<Box<Fans>>,
    /// What the table took when its keys were fixed, and how many chunks have come since.
    fixed: (u64, u32),
    /// How many values there have been, and keys before the first went to disk.
    seen: u64,
}

impl<'a, K: Key, A: Aggregator> SpillTable<'a, K, A> {
    pub(crate) fn new(aggregator: &'a A, env: &Arc<Env>, capacity: usize) -> Self {
        let table = CombineTable::with_capacity(capacity);
        let (hashes, meter) = (Vec::with_capacity(CHUNK), Meter::new(env));
        SpillTable { aggregator, table, hashes, meter, disk: None, fixed: (0, 0), seen: 0 }
    }

    /// Adds the pairs of a chunk.
    #[inline]
    pub(crate) fn add_chunk(&mut self, chunk: &mut Vec<(K, A::Value)>) -> Result<()> {
        // All hashes first: the table's memory is then asked for many keys at a time.
        self.hashes.clear();
        self.hashes.extend(chunk.iter().map(|(key, _)| key_hash(key)));
        if self.disk.is_some() {
            return self.add_to_fixed(chunk);
        }
        let look = self.meter.add(size_of_chunk(chunk));
        let SpillTable { table, hashes, aggregator, .. } = self;
        for ((key, value), hash) in chunk.drain(..).zip(&*hashes) {
            table.add(*aggregator, *hash, key, value);
        }
        if look { self.settle() } else { Ok(()) }
    }

    #[cold]
    fn settle(&mut self) -> Result<()> {
        let bytes = if A::GROWS { self.meter.estimate() } else { self.table.size() };
        if self.meter.settle(bytes)? {
            return Ok(());
        }
        self.seen = self.table.len() as u64;
        self.disk = Some(Box::new(Fans::new(self.meter.env(), 0)?));
        self.fixed = (bytes, 0);
        // Keys that are here stay, as those that come often come early; unless their values are what takes the memory.
        if A::GROWS { self.flush() } else { Ok(()) }
    }

    /// Adds values to the keys that are in the table, and writes the others to disk.
    #[cold]
    fn add_to_fixed(&mut self, chunk: &mut Vec<(K, A::Value)>) -> Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        for ((key, value), hash) in chunk.drain(..).zip(&self.hashes) {
            self.seen += 1;
            if self.table.has(*hash, &key) {
                self.table.add(self.aggregator, *hash, key, value);
            } else {
                disk.put::<_, A::Combined, _>(*hash, self.seen, &key, Entry::Value(&value))?;
            }
        }
        self.fixed.1 += 1;
        let grows = std::mem::needs_drop::<A::Combined>() && self.table.len() > 0 && self.fixed.1.is_multiple_of(8);
        if grows && self.table.size() > self.fixed.0 + self.fixed.0 / 4 { self.flush() } else { Ok(()) }
    }

    /// Writes the whole table to disk.
    fn flush(&mut self) -> Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        for (seen, (key, combined)) in std::mem::take(&mut self.table).into_entries().enumerate() {
            disk.put::<_, _, A::Value>(key_hash(&key), seen as u64, &key, Entry::Combined(&combined))?;
        }
        self.meter.clear();
        Ok(())
    }

    /// Ends the table and returns its entries, in the order in which their keys were first seen.
    pub(crate) fn finish(self) -> Result<TableReader<K, A::Combined>> {
        let SpillTable { aggregator, table, mut meter, disk, .. } = self;
        let Some(disk) = disk else {
            return Ok(TableReader::Memory { entries: table.into_entries(), _meter: meter });
        };
        let env = Arc::clone(meter.env());
        let mut out = Runs { writer: env.spill.create("table")?, runs: Vec::new(), piece: env.memory.piece() };
        let entries = table.into_entries().enumerate();
        out.run(entries.map(|(seen, (key, combined))| (seen as u64, key, combined)))?;
        meter.clear();
        fold_fans::<K, A>(aggregator, *disk, &mut meter, &mut out)?;
        let first_seen: fn(&(u64, K, A::Combined)) -> u64 = |entry| entry.0;
        let merge = merge(out.writer.finish(), out.runs, first_seen, &env.spill, out.piece)?;
        Ok(TableReader::Disk(merge))
    }
}

/// Sorted runs of one file.
struct Runs {
    writer: SpillWriter,
    runs: Vec<Run>,
    piece: usize,
}

impl Runs {
    fn run<T: ExchangeData>(&mut self, items: impl Iterator<Item = T>) -> Result<()> {
        let mut run = RunWriter::default();
        for item in items {
            run.push(&item, self.piece, &mut self.writer)?;
        }
        self.runs.push(run.finish(&mut self.writer)?);
        Ok(())
    }
}

/// Combines what is in files, one after the other, and writes the entries of each sorted by first sight.
fn fold_fans<K: Key, A: Aggregator>(aggregator: &A, fans: Fans, meter: &mut Meter, out: &mut Runs) -> Result<()> {
    let (file, runs, level) = fans.finish()?;
    let open = file.open()?;
    drop(file);
    for run in runs.into_iter().filter(|run| run.items > 0) {
        let mut table: CombineTable<K, (u64, A::Combined)> = CombineTable::with_capacity(0);
        let mut deeper: Option<Fans> = None;
        let mut reader: RunReader<(u64, K, Entry<A::Combined, A::Value>)> = RunReader::new(&open, run);
        while let Some((seen, key, entry)) = reader.next()? {
            let hash = key_hash(&key);
            if let Some(deeper) = &mut deeper {
                let entry = match &entry {
                    Entry::Combined(combined) => Entry::Combined(combined),
                    Entry::Value(value) => Entry::Value(value),
                };
                deeper.put(hash, seen, &key, entry)?;
                continue;
            }
            // Each is looked at: here the disk is what takes time.
            let bytes = size_of_value(&key)
                + 16
                + match &entry {
                    Entry::Combined(combined) => size_of_value(combined),
                    Entry::Value(value) => size_of_value(value),
                };
            match entry {
                Entry::Combined(combined) => table.insert(hash, key, (seen, combined)),
                Entry::Value(value) => table.add_seen(aggregator, hash, key, value, seen),
            }
            if meter.add(bytes) {
                let bytes = if A::GROWS { meter.estimate() } else { table.size() };
                // One key alone is not made smaller by cutting.
                if !meter.settle(bytes)? && level + 1 < LEVELS && table.len() > 1 {
                    let mut fans = Fans::new(meter.env(), level + 1)?;
                    for (key, (seen, combined)) in std::mem::take(&mut table).into_entries() {
                        fans.put::<_, _, A::Value>(key_hash(&key), seen, &key, Entry::Combined(&combined))?;
                    }
                    meter.clear();
                    deeper = Some(fans);
                }
            }
        }
        let mut entries: Vec<(u64, K, A::Combined)> =
            table.into_entries().map(|(key, (seen, combined))| (seen, key, combined)).collect();
        entries.sort_by_key(|entry| entry.0);
        if !entries.is_empty() {
            out.run(entries.into_iter())?;
        }
        meter.clear();
        if let Some(deeper) = deeper {
            fold_fans::<K, A>(aggregator, deeper, meter, out)?;
        }
    }
    Ok(())
}

/// The entries of a table that has ended.
pub(crate) enum TableReader<K, C> {
    Memory { entries: Entries<K, C>, _meter: Meter },
    Disk(Merge<(u64, K, C), u64, fn(&(u64, K, C)) -> u64>),
}

impl<K: Key, C: ExchangeData> TableReader<K, C> {
    /// Returns how many entries there are, if that is known.
    pub(crate) fn len(&self) -> Option<usize> {
        match self {
            TableReader::Memory { entries, .. } => Some(entries.len()),
            TableReader::Disk(_) => None,
        }
    }
}

impl<K: Key, C: ExchangeData> PartitionReader for TableReader<K, C> {
    type Item = (K, C);

    fn read_chunk(&mut self, out: &mut Vec<(K, C)>) -> Result<bool> {
        match self {
            TableReader::Memory { entries, .. } => {
                let before = out.len();
                out.extend(entries.take(CHUNK));
                Ok(out.len() > before)
            }
            TableReader::Disk(merge) => read_some(out, || Ok(merge.next()?.map(|(_, key, combined)| (key, combined)))),
        }
    }
}

/// Rows to be sorted, by the key that a function makes; equal ones keep their order.
pub(crate) struct Sorter<T, F> {
    rows: Vec<T>,
    meter: Meter,
    key: F,
    /// What the key of a row takes, about.
    key_bytes: u64,
    disk: Option<Runs>,
}

impl<T: ExchangeData, K: ExchangeData + Ord, F: Fn(&T) -> K + Clone> Sorter<T, F> {
    pub(crate) fn new(env: &Arc<Env>, key: F) -> Sorter<T, F> {
        Sorter { rows: Vec::new(), meter: Meter::new(env), key, key_bytes: 0, disk: None }
    }

    /// Adds the rows of a chunk.
    pub(crate) fn add_chunk(&mut self, chunk: &mut Vec<T>) -> Result<()> {
        // A vector grows by more than what is put in; keys are made for sorting.
        let rows = size_of_chunk(chunk) * 3 / 2;
        if let (0, Some(row)) = (self.key_bytes, chunk.first()) {
            self.key_bytes = size_of_value(&(self.key)(row)) + 8;
        }
        let look = self.meter.add(rows + self.key_bytes * chunk.len() as u64);
        self.rows.append(chunk);
        if look && !self.meter.settle(self.meter.estimate())? {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_cached_key(&self.key);
        let env = self.meter.env();
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => {
                none.insert(Runs { writer: env.spill.create("sorted")?, runs: Vec::new(), piece: env.memory.piece() })
            }
        };
        disk.run(rows.into_iter())?;
        self.meter.clear();
        Ok(())
    }

    /// Sorts, and returns the rows in order.
    pub(crate) fn finish(mut self) -> Result<SortedReader<T, K, F>> {
        if self.disk.is_some() && !self.rows.is_empty() {
            self.flush()?;
        }
        let env = Arc::clone(self.meter.env());
        match self.disk {
            None => {
                self.rows.sort_by_cached_key(&self.key);
                Ok(SortedReader::Memory { rows: self.rows.into_iter(), _meter: self.meter })
            }
            Some(Runs { writer, runs, piece }) => {
                Ok(SortedReader::Disk(merge(writer.finish(), runs, self.key, &env.spill, piece)?))
            }
        }
    }
}

/// Rows in order.
pub(crate) enum SortedReader<T, K, F> {
    Memory { rows: std::vec::IntoIter<T>, _meter: Meter },
    Disk(Merge<T, K, F>),
}

impl<T, K, F> PartitionReader for SortedReader<T, K, F>
where
    T: ExchangeData,
    K: ExchangeData + Ord,
    F: Fn(&T) -> K + Send + 'static,
{
    type Item = T;

    fn read_chunk(&mut self, out: &mut Vec<T>) -> Result<bool> {
        match self {
            SortedReader::Memory { rows, .. } => {
                let before = out.len();
                out.extend(rows.take(CHUNK));
                Ok(out.len() > before)
            }
            SortedReader::Disk(merge) => read_some(out, || merge.next()),
        }
    }
}
