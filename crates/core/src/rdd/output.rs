//! Folders of output files: begun, written a partition at a time, finished.

use std::any::Any;
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::actions::Action;
use super::pipeline::Pipeline;
use super::publish::{Draft, take_stamp};
use crate::codec::{self, TypeCodec};
use crate::data::ExchangeData;
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
    path: PathBuf,
    /// Where they are written meanwhile, if the folder is that of a batch.
    draft: Option<Draft>,
}

impl OutputFolder {
    pub(crate) fn begin(path: &Path) -> Result<OutputFolder> {
        if let Some(stamp) = take_stamp() {
            let draft = Draft::begin(path, stamp)?;
            return Ok(OutputFolder { path: draft.folder().to_path_buf(), draft: Some(draft) });
        }
        let failed = |e| Error::io(ErrorKind::Unavailable, format!("folder {} could not be made", path.display()), e);
        if path.exists() {
            if !OVERWRITE.get() {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("output folder {} exists already; remove it or name another", path.display()),
                ));
            }
            clear(path).map_err(failed)?;
        }
        fs::create_dir_all(path).map_err(failed)?;
        Ok(OutputFolder { path: path.to_path_buf(), draft: None })
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
        fs::write(&marker, b"").map_err(|e| {
            Error::io(ErrorKind::Unavailable, format!("file {} could not be written", marker.display()), e)
        })
    }
}

/// Says whether a name in an output folder is one that an output gives.
pub(super) fn is_ours(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name == "_SUCCESS" || name.starts_with("part-") || name.starts_with(".part-")
}

/// Removes what an earlier attempt left, and nothing else.
fn clear(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_ours(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Writes one `part-` file under another name first.
pub(super) fn write_part(
    folder: &Path,
    task: &TaskContext,
    ending: &str,
    body: impl FnOnce(&mut BufWriter<fs::File>) -> Result<u64>,
) -> Result<Box<dyn Any + Send + Sync>> {
    let name = format!("part-{:05}{ending}", task.partition());
    let (last, first) = (folder.join(&name), folder.join(format!(".{name}.{}", task.attempt())));
    let failed = |e| Error::io(ErrorKind::Unavailable, format!("file {} could not be written", last.display()), e);
    let begun = Begun(Some(&first));
    let mut file = BufWriter::with_capacity(1 << 16, fs::File::create(&first).map_err(failed)?);
    let count = body(&mut file)?;
    file.flush().map_err(failed)?;
    drop(file);
    fs::rename(&first, &last).map_err(failed)?;
    begun.done();
    Ok(Box::new(count))
}

/// Removes a file that was begun and not finished, however its writing ended.
struct Begun<'a>(Option<&'a Path>);

impl Begun<'_> {
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = fs::remove_file(path);
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
