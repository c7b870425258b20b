//! Each file as one element: whole_text_files and binary_files.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Rdd;
use super::gzip;
use super::lineage::{Compute, Dependency, Opened};
use super::paths::list_files;
use super::pipeline::PartitionReader;
use super::sources::source;
use crate::context::Context;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::text::Text;

impl Context {
    /// Makes an Rdd of whole files: each file's path and its text.
    ///
    /// Paths are as for [`text_file`](Self::text_file). It is meant for many small files; there are at most
    /// `partitions` partitions, of neighbouring files of about the same length together. Bytes that are not UTF-8
    /// become U+FFFD.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// # let folder = std::env::temp_dir().join(format!("whole-text-files-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// std::fs::write(folder.join("a.txt"), "one\ntwo\n")?;
    /// let files = context.whole_text_files(&folder, 2).collect()?;
    /// assert!(files[0].0.ends_with("a.txt"));
    /// assert_eq!(files[0].1, "one\ntwo\n");
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A path that is not there is reported by the first action, as kind `Config`.
    ///
    /// # Spark
    ///
    /// `SparkContext.wholeTextFiles`, CX07. Paths have no `file:` before them.
    #[track_caller]
    pub fn whole_text_files(&self, path: impl AsRef<Path>, partitions: usize) -> Rdd<(String, Text)> {
        let site = CallSite::here("whole_text_files");
        let files = files(self, path.as_ref(), partitions, true, site);
        let text = |(path, bytes): (String, Vec<u8>)| {
            let text = String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned());
            (path, Text::from(text))
        };
        files.map_shared(Closure::new(text, site))
    }

    /// As [`whole_text_files`](Self::whole_text_files), with the files' bytes as they are.
    ///
    /// # Errors
    ///
    /// A path that is not there is reported by the first action, as kind `Config`.
    ///
    /// # Spark
    ///
    /// `SparkContext.binaryFiles`, CX08. The bytes are read at once, not opened as a stream.
    #[track_caller]
    pub fn binary_files(&self, path: impl AsRef<Path>, partitions: usize) -> Rdd<(String, Vec<u8>)> {
        files(self, path.as_ref(), partitions, false, CallSite::here("binary_files"))
    }
}

fn files(context: &Context, path: &Path, partitions: usize, unpack: bool, site: CallSite) -> Rdd<(String, Vec<u8>)> {
    let mut files = Vec::new();
    if let Err(error) = list_files(path, &mut files) {
        return Rdd::failed(error.at(site), context);
    }
    let partitions = together(files, partitions);
    let count = partitions.len();
    source(context, WholeFiles { partitions, unpack }, count, site)
}

/// Puts neighbouring files together, `n` lots of about the same length. Pure.
fn together(files: Vec<(PathBuf, u64)>, n: usize) -> Vec<Vec<PathBuf>> {
    // A file counts at least one byte, so that empty ones spread too.
    let total: u64 = files.iter().map(|(_, len)| len.max(&1)).sum();
    let share = total.div_ceil(n.max(1) as u64).max(1);
    let (mut lots, mut filled): (Vec<Vec<PathBuf>>, u64) = (Vec::new(), share);
    for (path, len) in files {
        if filled >= share {
            lots.push(Vec::new());
            filled = 0;
        }
        filled += len.max(1);
        if let Some(lot) = lots.last_mut() {
            lot.push(path);
        }
    }
    lots
}

struct WholeFiles {
    partitions: Vec<Vec<PathBuf>>,
    /// Whether compressed files are given as what is in them.
    unpack: bool,
}

impl Compute for WholeFiles {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Some(files) = self.partitions.get(p) else {
            return Err(crate::bug!("there is no partition {p} of the whole files"));
        };
        Ok(Opened::Source(Box::new(WholeFilesReader { files: files.clone().into_iter(), unpack: self.unpack })))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let (partitions, unpack) = r.value()?;
            let compute: Box<dyn Compute> = Box::new(WholeFiles { partitions, unpack });
            Ok(Box::new(compute))
        });
        w.value(&(&self.partitions, self.unpack))
    }
}

struct WholeFilesReader {
    files: std::vec::IntoIter<PathBuf>,
    unpack: bool,
}

impl PartitionReader for WholeFilesReader {
    type Item = (String, Vec<u8>);

    fn read_chunk(&mut self, out: &mut Vec<(String, Vec<u8>)>) -> Result<bool> {
        // One file is chunk enough.
        let Some(path) = self.files.next() else { return Ok(false) };
        let bytes = if self.unpack && gzip::is_gzip(&path) {
            let mut bytes = Vec::new();
            gzip::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|e| gzip::failed(&path, e))?;
            bytes
        } else {
            fs::read(&path)
                .map_err(|e| Error::io(ErrorKind::Unavailable, format!("file {} cannot be read", path.display()), e))?
        };
        out.push((path.to_string_lossy().into_owned(), bytes));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cx07_files_are_put_together_by_length() {
        let lots = |lens: &[u64], n| {
            let files = lens.iter().enumerate().map(|(i, len)| (PathBuf::from(i.to_string()), *len)).collect();
            together(files, n).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(lots(&[10, 10, 10, 10], 2), [2, 2]);
        assert_eq!(lots(&[100, 1, 1, 1], 2), [1, 3]);
        assert_eq!(lots(&[0, 0, 0, 0], 2), [2, 2]);
        assert_eq!(lots(&[5, 5], 9), [1, 1]);
        assert_eq!(lots(&[5, 5], 0), [2]);
        assert_eq!(lots(&[], 3), Vec::<usize>::new());
    }
}
