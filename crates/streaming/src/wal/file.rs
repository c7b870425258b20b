//! A log in the segments of a folder: append, replay, forget, and what is found after a crash.

mod find;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::disk::{Disk, DiskFile};
use millstream_core::mutants::{Mutant, planted};
use millstream_core::{Error, ErrorKind, Result, Time, as_millis, secs};

use super::segment::{FRAME, Frame, Frames, HEADER, Header, MAX_RECORD};
use super::{RecordHandle, WriteAheadLog};

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConf {
    /// A new segment is begun when a record's time is this much after that of the segment's first; 60 s. K-13, K-18.
    pub rolling_interval: Duration,
    /// A new segment is begun when one has so many bytes; 64 MiB.
    pub segment_bytes: u64,
    /// Each write is a segment of its own, for stores that cannot flush; off, and always so on an object store. K-15, K-20.
    pub close_file_after_write: bool,
    /// How often a write is tried, each time in a new segment; 3. K-14, K-19.
    pub max_failures: u32,
}

impl Default for LogConf {
    fn default() -> LogConf {
        LogConf { rolling_interval: secs(60), segment_bytes: 64 << 20, close_file_after_write: false, max_failures: 3 }
    }
}

/// A log in the segments of a folder, files named `log-` and twenty digits.
///
/// What was acknowledged is replayed after a crash at any moment; of the write that the crash interrupted, a prefix may be.
/// Only one may be open on a folder at a time: whoever opens it holds a lock for that.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use millstream_core::Time;
/// use millstream_core::disk::RealDisk;
/// use millstream_streaming::wal::{LogConf, SegmentLog, WriteAheadLog};
///
/// let folder = tempfile::tempdir()?;
/// let mut log = SegmentLog::open(Arc::new(RealDisk), folder.path().join("log"), LogConf::default())?;
/// let handle = log.append(b"seen", Time::from_millis(1000))?;
/// assert_eq!(log.read(&handle)?, b"seen");
/// drop(log);
///
/// let mut log = SegmentLog::open(Arc::new(RealDisk), folder.path().join("log"), LogConf::default())?;
/// let mut found = Vec::new();
/// log.replay(&mut |time, _, record| {
///     found.push((time, record.to_vec()));
///     Ok(())
/// })?;
/// assert_eq!(found, [(Time::from_millis(1000), b"seen".to_vec())]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `FileBasedWriteAheadLog`, R-30, R-31, R-33, R-34.
#[derive(Debug)]
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    conf: LogConf,
    /// The segments with what is durable in them, oldest first.
    segments: VecDeque<Segment>,
    /// The last of them, if it is open.
    writing: Option<Box<dyn DiskFile>>,
    next_number: u64,
    buffer: Vec<u8>,
    /// A file was removed, and the folder not made durable since.
    removed: bool,
    /// Why nothing more is appended.
    ended: Option<Error>,
}

/// A segment, as far as it is durable.
#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u64,
    /// How many records were appended before its first, and how many it has.
    first: u64,
    records: u64,
    end: u64,
    /// From where on the system may have it in memory.
    kept: u64,
    /// The times of the first record, where it is known, and of the latest.
    begun: Time,
    latest: Time,
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(name_of(number))
}

fn name_of(number: u64) -> String {
    format!("log-{number:020}")
}

pub(super) fn too_long(record: &[u8]) -> Error {
    let text = format!("a record of {} bytes is too long for a log: {MAX_RECORD} at most", record.len());
    Error::new(ErrorKind::Config, text)
}

/// What to do about a log that is damaged. Nothing is cut off or skipped by itself: it had been acknowledged.
const REMEDY: &str = "Restore the file from a copy; or begin anew with checkpoint_anew, which throws away all that is in the \
                      checkpoint directory";

/// An error about damage: what is wrong, in which file, where, and what to do.
fn damaged(path: &Path, offset: u64, what: &str) -> Error {
    let text = format!("the log is damaged: {} at byte {offset}: {what}. {REMEDY}", path.display());
    Error::new(ErrorKind::Data, text)
}

/// An error about a file that is not there.
fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::Data, format!("the log is damaged: {} is missing. {REMEDY}", path.display()))
}

/// Says whether these bytes are the whole frame of a record.
fn check_frame(path: &Path, handle: &RecordHandle, bytes: &[u8]) -> Result<()> {
    let bad = |what| Err(damaged(path, handle.offset, what));
    let frame = Frame::decode(bytes, handle.segment, handle.offset).filter(|frame| frame.len == handle.len);
    match frame {
        None => bad("there is no record of this length"),
        Some(frame) if frame.body(bytes).is_none() => bad("the record is spoilt"),
        Some(_) => Ok(()),
    }
}

/// Reads a record of a log that is in a folder of a store, without opening the log: for tasks.
pub(crate) fn read_record(store: &dyn CheckpointStore, folder: &str, handle: &RecordHandle) -> Result<Vec<u8>> {
    let name = format!("{folder}/{}", name_of(handle.segment));
    let bytes = store.read_at(&name, handle.offset, FRAME + handle.len as usize)?;
    check_frame(Path::new(&name), handle, &bytes)?;
    Ok(bytes[FRAME..].to_vec())
}

/// How many objects are removed by one call.
const AT_ONCE: usize = 8;

/// How often a number of a segment is tried for that others take.
const CLAIMS: usize = 64;

/// Opens a log and takes its next number, again if another process took it meanwhile. Returns the number, too.
fn claimed(folder: &Path, open: impl Fn() -> Result<SegmentLog>) -> Result<(SegmentLog, u64)> {
    for _ in 0..CLAIMS {
        let mut log = open()?;
        let claim = log.next_number;
        match log.claim() {
            Err(error) if error.kind() == ErrorKind::Data => continue,
            done => done?,
        }
        // It may have been taken and removed again since it was looked for: then whoever wrote on is further, and his next number is free.
        if find::is_newest(&find::numbers(&*log.disk, folder)?, claim) {
            return Ok((log, claim));
        }
    }
    let text = format!("the log {}: others wrote to it {CLAIMS} times while it was opened", folder.display());
    Err(Error::new(ErrorKind::Unavailable, text))
}

impl SegmentLog {
    /// Opens the log in a folder. Nothing is made before the first write (R-34).
    ///
    /// What a crash has torn at the end is cut. What remains of the last segment is written once more, as nobody knows
    /// whether the process before was told that it could not be made durable. So what is replayed now stays.
    ///
    /// *Cost*: the last segment is read and written; the others are read when they are replayed.
    ///
    /// # Errors
    ///
    /// The kind is `Data`, with file and offset, if something is missing or spoilt that had been acknowledged, or was written
    /// by a newer build; `Unavailable` if it cannot be read or written.
    pub fn open(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>, conf: LogConf) -> Result<SegmentLog> {
        let folder = folder.into();
        if disk.objects().is_some() {
            // All is looked at behind that: of a log that is long others take the next number meanwhile.
            let over = |found| SegmentLog::over(Arc::clone(&disk), folder.clone(), conf.clone(), found);
            let (_, claim) = claimed(&folder, || Ok(over(find::newest(&*disk, &folder)?)))?;
            let mut log = over(find::segments(&*disk, &folder, claim)?);
            log.next_number = claim + 1;
            return Ok(log);
        }
        let found = find::segments(&*disk, &folder, u64::MAX)?;
        Ok(SegmentLog::over(disk, folder, conf, found))
    }

    fn over(disk: Arc<dyn Disk>, folder: PathBuf, conf: LogConf, found: find::Found) -> SegmentLog {
        SegmentLog {
            disk,
            folder,
            conf,
            segments: found.segments,
            writing: None,
            next_number: found.next_number,
            buffer: Vec::new(),
            removed: false,
            ended: None,
        }
    }

    /// On an object store: takes the next number with a segment that has no record. A process that went on with the log
    /// before finds its next number taken from now on, so all that it was ever told is durable has been found here.
    fn claim(&mut self) -> Result<()> {
        let (mut file, _) = self.begin(&[])?;
        file.append(&self.buffer)?;
        self.buffer.clear();
        file.sync()
    }

    /// On an object store: ends the log for whoever goes on with it, without a look at what is in it, and removes it but for
    /// the last segment, which has no record.
    pub(crate) fn end_for_all(disk: &Arc<dyn Disk>, folder: &Path) -> Result<()> {
        let open = || {
            let last = find::numbers(&**disk, folder)?.last().copied();
            let found = find::Found { segments: VecDeque::new(), next_number: last.map_or(1, |last| last + 1) };
            Ok(SegmentLog::over(Arc::clone(disk), folder.to_owned(), LogConf::default(), found))
        };
        let (mut log, claim) = claimed(folder, open)?;
        log.remove_below(claim)
    }

    /// Says whether no record is there.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns how many records were ever appended, those that are forgotten too.
    pub fn appended(&self) -> u64 {
        self.segments.back().map_or(0, |last| last.first + last.records)
    }

    fn check(&self, records: &[(&[u8], Time)]) -> Result<()> {
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        match records.iter().find(|(record, _)| record.len() > MAX_RECORD) {
            Some((record, _)) => Err(too_long(record)),
            None => Ok(()),
        }
    }

    /// Says whether records up to `latest` belong to a new segment.
    fn is_over(&self, latest: Time) -> bool {
        let Some(last) = self.segments.back() else { return true };
        let age = latest.as_millis().saturating_sub(last.begun.as_millis());
        self.conf.close_file_after_write
            || self.disk.objects().is_some()
            || last.end >= self.conf.segment_bytes
            || age >= as_millis(self.conf.rolling_interval)
    }

    /// Writes a group where the log goes on, or in a new segment, and makes it durable.
    fn write(&mut self, records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
        let (mut file, mut segment, new) = match self.writing.take() {
            Some(file) => match self.segments.back() {
                Some(last) => (file, *last, false),
                None => return Err(millstream_core::bug!("a log writes to no segment")),
            },
            None => {
                let (file, segment) = self.begin(records)?;
                (file, segment, true)
            }
        };
        let (number, group) = (segment.number, segment.end);
        let mut handles = Vec::with_capacity(records.len());
        for (record, time) in records {
            let offset = segment.end;
            let frame = Frame::new(*time, group, record);
            self.buffer.extend_from_slice(&frame.encode(number, offset));
            if self.buffer.len() + record.len() > BUFFER {
                file.append(&self.buffer)?;
                self.buffer.clear();
            }
            if record.len() > BUFFER {
                file.append(record)?;
            } else {
                self.buffer.extend_from_slice(record);
            }
            handles.push(RecordHandle { segment: number, offset, len: frame.len });
            segment.end += (FRAME + record.len()) as u64;
            segment.records += 1;
            segment.latest = segment.latest.max(*time);
        }
        file.append(&self.buffer)?;
        if !planted(Mutant::LogNotSynced) {
            file.sync().or_else(|error| if planted(Mutant::SyncTriedAgain) { file.sync() } else { Err(error) })?;
        }
        // Page by page the system finds new memory for what is written; what it is let have back it takes again, and that is cheaper.
        if segment.end - segment.kept >= BUFFER as u64 {
            file.let_go(segment.kept, segment.end);
            segment.kept = segment.end;
        }
        if new {
            if !planted(Mutant::FolderNotSynced) {
                self.disk.sync_folder(&self.folder)?;
            }
            self.segments.push_back(segment);
        } else if let Some(last) = self.segments.back_mut() {
            *last = segment;
        }
        self.writing = Some(file);
        Ok(handles)
    }

    /// Makes a new segment, and leaves its header in the buffer.
    fn begin(&mut self, records: &[(&[u8], Time)]) -> Result<(Box<dyn DiskFile>, Segment)> {
        if self.next_number == 1 {
            self.disk.create_folder(&self.folder)?;
        }
        let number = self.next_number;
        self.next_number += 1;
        let file = self.disk.create(&path_of(&self.folder, number))?;
        let begun = records.first().map_or(Time::ZERO, |(_, time)| *time);
        let last = self.segments.back();
        let header = Header {
            number,
            first: self.appended(),
            previous: last.map_or(0, |last| last.number),
            previous_end: last.map_or(0, |last| last.end),
            previous_latest: last.map_or(Time::ZERO, |last| last.latest),
        };
        self.buffer.extend_from_slice(&header.encode());
        let end = HEADER as u64;
        Ok((file, Segment { number, first: header.first, records: 0, end, kept: 0, begun, latest: begun }))
    }

    /// Removes the files of the folder with numbers below `number`, oldest first, each durably: a gap would be damage.
    fn remove_below(&mut self, number: u64) -> Result<()> {
        for old in find::numbers(&*self.disk, &self.folder)?.into_iter().filter(|old| *old < number) {
            if self.stays(old)? {
                continue;
            }
            self.settle()?;
            self.disk.remove_file(&path_of(&self.folder, old))?;
            self.removed = true;
            self.segments.retain(|segment| segment.number != old);
            self.settle()?;
        }
        Ok(())
    }

    /// On an object store: whether a number was taken and has no record. It stays taken for ever: it is the next one of
    /// whoever wrote before, and may wake at any time. What another process has removed meanwhile needs nothing any more.
    fn stays(&self, number: u64) -> Result<bool> {
        if self.disk.objects().is_none() || self.segments.iter().any(|segment| segment.number == number) {
            return Ok(false);
        }
        let path = path_of(&self.folder, number);
        match self.disk.len(&path) {
            Ok(len) => Ok(len <= HEADER as u64),
            Err(_) if !self.disk.exists(&path)? => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes note that a segment could not be read, of which a later one is there: if it has been removed by whoever else goes on
    /// here, all up to it are forgotten.
    fn let_go_of_removed(&mut self, number: u64, error: Error) -> Result<()> {
        let there = find::numbers(&*self.disk, &self.folder)?;
        let is_last = self.segments.back().is_none_or(|last| last.number == number);
        if is_last || there.binary_search(&number).is_ok() {
            return Err(error);
        }
        let older = self.segments.iter().take_while(|segment| segment.number < number);
        let is_gap = self.disk.objects().is_none() && { older }.any(|old| there.binary_search(&old.number).is_ok());
        if is_gap {
            return Err(missing(&path_of(&self.folder, number)));
        }
        self.segments.retain(|segment| segment.number > number);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if self.removed {
            self.disk.sync_folder(&self.folder)?;
            self.removed = false;
        }
        Ok(())
    }
}

/// What is gathered before it is given to the file.
const BUFFER: usize = 1 << 20;
/// The bytes of one group, so that `back` counts them.
const GROUP: u64 = u32::MAX as u64;

impl WriteAheadLog for SegmentLog {
    /// The group is tried again in a new segment if it fails (K-14). The new one says where the one before ends, so what the
    /// failure left there is behind the end, and is never looked at. When all attempts have failed the log is poisoned.
    fn append_all(&mut self, records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
        self.check(records)?;
        let Some(latest) = records.iter().map(|(_, time)| *time).max() else { return Ok(Vec::new()) };
        let bytes: u64 = records.iter().map(|(record, _)| (FRAME + record.len()) as u64).sum();
        if bytes > GROUP
            && let (Some((head, tail)), true) = (records.split_at_checked(records.len() / 2), records.len() > 1)
        {
            let mut handles = self.append_all(head)?;
            handles.extend(self.append_all(tail)?);
            return Ok(handles);
        }
        if self.is_over(latest) {
            self.writing = None;
        }
        let mut attempt = 1;
        loop {
            self.buffer.clear();
            let error = match self.write(records) {
                Ok(handles) => return Ok(handles),
                Err(error) => error,
            };
            // Whoever writes to that file again, or syncs it again, is told lies.
            self.writing = None;
            // On an object store the next number is for whoever gets it, and the file has tried often enough itself.
            let attempts = if self.disk.objects().is_some() { 1 } else { self.conf.max_failures.max(1) };
            if attempt >= attempts {
                let folder = self.folder.display();
                let text = format!("the log {folder} acknowledges nothing more until it is opened again: {error}");
                self.ended = Some(Error::new(ErrorKind::Unavailable, text));
                return Err(error);
            }
            tracing::warn!("the log {} goes on in a new segment: {error}", self.folder.display());
            attempt += 1;
        }
    }

    fn read(&self, handle: &RecordHandle) -> Result<Vec<u8>> {
        let path = path_of(&self.folder, handle.segment);
        let len = FRAME + handle.len as usize;
        let place = self.segments.binary_search_by_key(&handle.segment, |segment| segment.number).ok();
        let segment = place.and_then(|place| self.segments.get(place));
        let within = |segment: &Segment| handle.offset.checked_add(len as u64).is_some_and(|end| end <= segment.end);
        if !segment.is_some_and(within) {
            let text = format!("{} has no record at byte {}; was it forgotten?", path.display(), handle.offset);
            return Err(Error::new(ErrorKind::Data, text));
        }
        let mut bytes = self.disk.read_at(&path, handle.offset, len)?;
        check_frame(&path, handle, &bytes)?;
        bytes.drain(..FRAME);
        Ok(bytes)
    }

    /// *Cost*: a segment at a time is in memory.
    fn replay(&mut self, each: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()> {
        let mut behind = 0;
        while let Some(segment) = self.segments.iter().find(|segment| segment.number > behind).copied() {
            behind = segment.number;
            let path = path_of(&self.folder, segment.number);
            let bytes = match self.disk.read_at(&path, 0, find::size(segment.end)?) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.let_go_of_removed(segment.number, error)?;
                    continue;
                }
            };
            find::header(&path, &bytes, segment.number)?;
            let mut frames = Frames::of(&bytes, segment.number);
            let mut records = 0;
            for (offset, time, body) in &mut frames {
                records += 1;
                each(time, RecordHandle { segment: segment.number, offset, len: body.len() as u32 }, body)?;
            }
            let end = frames.end() as u64;
            if end != segment.end {
                return Err(damaged(&path, end, "a record that had been acknowledged is spoilt"));
            }
            if records != segment.records {
                let text = format!("the segment has {records} records and not {}", segment.records);
                return Err(damaged(&path, end, &text));
            }
        }
        Ok(())
    }

    /// Deletes segments, oldest first, as long as all their records are older; never the last, and on an object store a few
    /// only. A failure spoils nothing.
    fn forget_before(&mut self, t: Time) -> Result<()> {
        self.settle()?;
        let kept = self.segments.len().saturating_sub(1);
        let old = self.segments.iter().take(kept).take_while(|segment| segment.latest < t).count();
        // There each is a request of its own, one after the other, and others wait.
        let old = if self.disk.objects().is_some() { old.min(AT_ONCE) } else { old };
        match self.segments.get(old) {
            Some(first) if old > 0 => self.remove_below(first.number),
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<()> {
        self.writing = None;
        if self.ended.is_none() {
            let text = format!("the log {} is closed", self.folder.display());
            self.ended = Some(Error::new(ErrorKind::Stopped, text));
        }
        Ok(())
    }
}
