//! Compressed text: reading files called `.gz`, and writing them.

use std::any::Any;
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Rdd;
use super::actions::Action;
use super::lines::LineStream;
use super::output::{failed_in, write_lines, write_part};
use super::pipeline::{PartitionReader, Pipeline};
use crate::codec::TypeCodec;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;
use crate::text::Text;

/// Says whether a file is compressed, by its name as Hadoop does.
pub(crate) fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// Opens a compressed file, which may be several put behind each other.
pub(crate) fn open(path: &Path) -> std::io::Result<MultiGzDecoder<File>> {
    File::open(path).map(MultiGzDecoder::new)
}

/// Says what is wrong with a compressed file.
pub(crate) fn failed(path: &Path, error: std::io::Error) -> Error {
    // The decoder's own complaints are about the bytes; all others are about getting them.
    let kind = match error.kind() {
        std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => {
            ErrorKind::Data
        }
        _ => ErrorKind::Unavailable,
    };
    Error::io(kind, format!("compressed file {} cannot be read", path.display()), error)
}

/// Reads the lines of a compressed file.
pub(crate) struct GzipLines {
    path: PathBuf,
    lines: LineStream<MultiGzDecoder<File>>,
}

impl GzipLines {
    pub(crate) fn open(path: &Path) -> Result<GzipLines> {
        let file = open(path).map_err(|e| failed(path, e))?;
        Ok(GzipLines { path: path.to_path_buf(), lines: LineStream::new(file) })
    }
}

impl PartitionReader for GzipLines {
    type Item = Text;

    fn read_chunk(&mut self, out: &mut Vec<Text>) -> Result<bool> {
        self.lines.read_chunk(out).map_err(|e| failed(&self.path, e))
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// As [`save_as_text_file`](Self::save_as_text_file), compressed: files are named `part-00000.gz` and so on.
    ///
    /// [`Context::text_file`](crate::Context::text_file) reads them again, as any program does that knows gzip.
    ///
    /// # Errors
    ///
    /// As [`save_as_text_file`](Self::save_as_text_file).
    ///
    /// # Spark
    ///
    /// `RDD.saveAsTextFile(path, GzipCodec)`, RD58.
    #[track_caller]
    pub fn save_as_gzip_text_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let site = CallSite::here("save_as_gzip_text_file");
        self.save(path.as_ref(), |folder| Arc::new(WriteGzipLines::<T> { folder, of: PhantomData }), site)
    }
}

struct WriteGzipLines<T> {
    folder: PathBuf,
    of: PhantomData<fn(T)>,
}

impl<T: ExchangeData> Action for WriteGzipLines<T> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        write_part(&self.folder, task, ".gz", |file| {
            let mut file = GzEncoder::new(file, Compression::default());
            let count = write_lines::<T>(pipeline, &mut file, &self.folder)?;
            file.finish().map_err(|e| failed_in(&self.folder, e))?;
            Ok(count)
        })
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<u64>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(WriteGzipLines::<T> { folder: r.value()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.folder)
    }
}
