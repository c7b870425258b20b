//! Folders of output files: begun, written a partition at a time, finished.

use std::any::Any;
use std::cell::Cell;
use std::io::{self, BufWriter, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::actions::Action;
use super::pipeline::Pipeline;
use super::publish::{Draft, failed, take_stamp};
use crate::codec::{self, TypeCodec};
use crate::data::ExchangeData;
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;
use crate::textform;

thread_local! {
    static OVERWRITE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body` with saving allowed to overwrite folders that exist, as streaming jobs do (S-109).
pub fn overwriting<R>(body: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERWRITE.set(self.0);
        }
    }
    let _restore = Restore(OVERWRITE.replace(true));
    body()
}

/// A folder that output files are being written to.
pub(crate) struct OutputFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Where they are written meanwhile, if the folder is that of a batch.
    draft: Option<Draft>,
}

impl OutputFolder {
    pub(crate) fn begin(disk: &Arc<dyn Disk>, path: &Path) -> Result<OutputFolder> {
        let disk = Arc::clone(disk);
        if let Some(stamp) = take_stamp() {
            let draft = Draft::begin(&disk, path, stamp)?;
            return Ok(OutputFolder { disk, path: draft.folder().to_path_buf(), draft: Some(draft) });
        }
        let not_made = |e: Error| failed(path, "made", &e);
        if disk.exists(path).map_err(not_made)? {
            if !OVERWRITE.get() {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("output folder {} exists already; remove it or name another", path.display()),
                ));
            }
            clear(&*disk, path).map_err(not_made)?;
        }
        // With its parents; a batch that has ended is not run again to make them.
        if OVERWRITE.get() { disk.create_folder(path) } else { disk.make_folder(path) }.map_err(not_made)?;
        Ok(OutputFolder { disk, path: path.to_path_buf(), draft: None })
    }

    /// Returns where the files are to be written.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn finish(self) -> Result<()> {
        if let Some(draft) = self.draft {
            return draft.publish();
        }
        let marker = self.path.join("_SUCCESS");
        self.disk.create(&marker).map(drop).map_err(|e| not_written(&marker, &e))?;
        if !OVERWRITE.get() {
            return Ok(());
        }
        // What a batch saves by itself: when the batch has ended, nobody writes it again.
        make_durable(&*self.disk, &self.path).map_err(|e| not_written(&self.path, &e))
    }
}

/// Makes durable what an output has written to a folder, and the names in it.
pub(super) fn make_durable(disk: &dyn Disk, folder: &Path) -> Result<()> {
    for name in disk.list(folder)?.iter().filter(|name| is_ours(name)) {
        disk.open_append(&folder.join(name))?.sync()?;
    }
    disk.sync_folder(folder)
}

fn not_written(file: &Path, error: &Error) -> Error {
    let text = format!("file {} could not be written: {}", file.display(), error.message());
    Error::new(ErrorKind::Unavailable, text)
}

/// Says whether a name in an output folder is one that an output gives.
pub(super) fn is_ours(name: &str) -> bool {
    name == "_SUCCESS" || name.starts_with("part-") || name.starts_with(".part-")
}

/// Removes what an earlier attempt left, and nothing else.
fn clear(disk: &dyn Disk, folder: &Path) -> Result<()> {
    let names = disk.list(folder)?;
    names.iter().filter(|name| is_ours(name)).try_for_each(|name| disk.remove_file(&folder.join(name)))
}

/// A file that a task writes.
pub(super) type Part = BufWriter<Bytes>;

/// What is written to a file of a disk.
pub(super) struct Bytes(Box<dyn DiskFile>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(|e| io::Error::other(e.message().to_owned()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one `part-` file under another name first.
pub(super) fn write_part(
    folder: &Path,
    task: &TaskContext,
    ending: &str,
    body: impl FnOnce(&mut Part) -> Result<u64>,
) -> Result<Box<dyn Any + Send + Sync>> {
    let disk = &*task.env().output_disk;
    let name = format!("part-{:05}{ending}", task.partition());
    let (last, first) = (folder.join(&name), folder.join(format!(".{name}.{}", task.attempt())));
    let begin = || {
        if disk.exists(&first)? {
            // Of a task that ended with its process.
            disk.remove_file(&first)?;
        }
        disk.create(&first)
    };
    let begun = Begun(disk, Some(&first));
    let mut file = BufWriter::with_capacity(1 << 16, Bytes(begin().map_err(|e| not_written(&last, &e))?));
    let count = body(&mut file)?;
    file.flush()
        .map_err(|e| Error::io(ErrorKind::Unavailable, format!("file {} could not be written", last.display()), e))?;
    drop(file);
    // A process that was given up while it stood still writes nothing over what another attempt has written.
    task.env().driver.as_ref().map_or(Ok(()), |driver| driver.may_publish())?;
    disk.rename(&first, &last).map_err(|e| not_written(&last, &e))?;
    begun.done();
    Ok(Box::new(count))
}

/// Removes a file that was begun and not finished, however its writing ended.
struct Begun<'a>(&'a dyn Disk, Option<&'a Path>);

impl Begun<'_> {
    fn done(mut self) {
        self.1 = None;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.1 {
            let _ = self.0.remove_file(path);
        }
    }
}

/// Writes each element as a line, in its text form, and returns how many there are.
pub(super) fn write_lines<T: ExchangeData>(
    pipeline: &mut Pipeline,
    file: &mut impl Write,
    folder: &Path,
) -> Result<u64> {
    let (mut count, mut lines) = (0, String::new());
    pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
        lines.clear();
        count += chunk.len() as u64;
        for item in chunk.drain(..) {
            textform::write(&item, &mut lines)?;
            lines.push('\n');
        }
        file.write_all(lines.as_bytes()).map_err(|e| failed_in(folder, e))
    })?;
    Ok(count)
}

pub(crate) struct WriteLines<T> {
    pub(crate) folder: PathBuf,
    pub(crate) of: PhantomData<fn(T)>,
}

impl<T: ExchangeData> Action for WriteLines<T> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        write_part(&self.folder, task, "", |file| write_lines::<T>(pipeline, file, &self.folder))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<u64>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(WriteLines::<T> { folder: r.value()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.folder)
    }
}

pub(crate) struct WriteObjects<T> {
    pub(crate) folder: PathBuf,
    pub(crate) of: PhantomData<fn(T)>,
}

/// The first bytes of a file of objects.
pub(crate) const OBJECT_MAGIC: &[u8; 8] = b"mstobj1\n";

impl<T: ExchangeData> Action for WriteObjects<T> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        write_part(&self.folder, task, "", |file| {
            file.write_all(OBJECT_MAGIC).map_err(|e| failed_in(&self.folder, e))?;
            let mut count = 0;
            pipeline.for_each_chunk(|chunk: &mut Vec<T>| {
                let bytes = codec::encode(chunk)?;
                count += chunk.len() as u64;
                file.write_all(&(bytes.len() as u64).to_le_bytes())
                    .and_then(|()| file.write_all(&bytes))
                    .map_err(|e| failed_in(&self.folder, e))
            })?;
            Ok(count)
        })
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<u64>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(WriteObjects::<T> { folder: r.value()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.folder)
    }
}

pub(super) fn failed_in(folder: &Path, error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, format!("a file in {} could not be written", folder.display()), error)
}
