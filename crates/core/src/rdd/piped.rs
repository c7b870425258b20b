//! Partitions through programs of the system: pipe.

use std::io::{self, Write};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Rdd;
use super::lineage::{Compute, Dependency, Node, NodeParts, Opened, narrow};
use super::lines::LineStream;
use super::pipeline::{PartitionReader, Pipeline, Source};
use super::reader::ErrorSlot;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result, panicked};
use crate::plan::ship::{PlanReader, PlanWriter};
use crate::plan::{TaskContext, site};
use crate::text::Text;
use crate::textform;
use crate::threads::{self, OwnedThread};

/// A program of the system, with its arguments and surroundings, for [`Rdd::pipe_with`].
///
/// # Example
///
/// ```
/// use millstream_core::Pipe;
///
/// # let context = millstream_core::Context::new("local[2]", "doc")?;
/// let lines = context.parallelize(vec!["b".to_owned(), "a".to_owned()], 1);
/// let greeted = lines.pipe_with(Pipe::new("sh").args(["-c", "sort | sed \"s/^/$GREETING /\""]).env("GREETING", "hello"));
/// assert_eq!(greeted.collect()?, ["hello a", "hello b"]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    folder: Option<PathBuf>,
}

impl Pipe {
    /// Runs `program`, which is searched for as a shell does. Of the surroundings of this process it is not told what makes an
    /// executor of one: `MILLSTREAM_EXECUTOR` and `MILLSTREAM_SECRET`, unless [`env`](Self::env) names them.
    pub fn new(program: impl Into<String>) -> Pipe {
        Pipe { program: program.into(), args: Vec::new(), env: Vec::new(), folder: None }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Pipe {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Pipe {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs the program in `folder`.
    #[must_use]
    pub fn current_dir(mut self, folder: impl Into<PathBuf>) -> Pipe {
        self.folder = Some(folder.into());
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // What makes a process an executor, and what it proves that with, is nothing for others.
        command.env_remove("MILLSTREAM_EXECUTOR").env_remove("MILLSTREAM_SECRET");
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn start(&self) -> Result<(Child, ChildStdin, ChildStdout)> {
        let mut child = self.command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| {
            let kind = if e.kind() == io::ErrorKind::NotFound { ErrorKind::Config } else { ErrorKind::Unavailable };
            Error::io(kind, format!("program `{}` could not be started", self.program), e)
        })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok((child, input, output)),
            _ => Err(crate::bug!("a program was started without its pipes")),
        }
    }
}

impl<T: ExchangeData> Rdd<T> {
    /// Hands each partition to a program, an element a line, and gives the lines that the program writes.
    ///
    /// `command` is a program and its arguments with blanks between them. There is no shell:
    /// [`pipe_with`](Self::pipe_with) can run one. Elements are written in the form in which `print` shows them. What
    /// the program writes to its standard error goes to that of this process.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let lines = context.parallelize(vec![3, 1, 2], 1);
    /// assert_eq!(lines.pipe("sort -r").collect()?, ["3", "2", "1"]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A program that is not there fails the job, as kind `Config`; one that ends with another status than 0, as kind
    /// `User`.
    ///
    /// # Cost
    ///
    /// A process and a thread a partition, also an empty one.
    ///
    /// # Spark
    ///
    /// `RDD.pipe`, RD24.
    #[track_caller]
    pub fn pipe(&self, command: &str) -> Rdd<Text> {
        let mut words = command.split_whitespace();
        let pipe = Pipe::new(words.next().unwrap_or_default()).args(words);
        self.pipe_at(pipe, CallSite::here("pipe"))
    }

    /// As [`pipe`](Self::pipe), with arguments that may have blanks, with an environment and a folder.
    #[track_caller]
    pub fn pipe_with(&self, pipe: Pipe) -> Rdd<Text> {
        self.pipe_at(pipe, CallSite::here("pipe_with"))
    }

    fn pipe_at(&self, pipe: Pipe, site: CallSite) -> Rdd<Text> {
        if pipe.program.is_empty() {
            let error = Error::new(ErrorKind::Config, "a pipe needs the name of a program");
            return Rdd::failed(error.at(site), self.context());
        }
        Rdd::from_node(
            Node::new::<Text>(NodeParts {
                site,
                parents: vec![Dependency::Narrow(Arc::clone(self.node()))],
                partitions: self.num_partitions(),
                partitioner: None,
                compute: Piped::<T> { pipe, of: PhantomData },
            }),
            self.context(),
        )
    }
}

struct Piped<T> {
    pipe: Pipe,
    of: PhantomData<fn(T)>,
}

impl<T: ExchangeData> Compute for Piped<T> {
    fn open<'a>(&'a self, p: usize, parents: &'a [Dependency], task: &TaskContext) -> Result<Opened<'a>> {
        let (pipe, task) = (self.pipe.clone(), task.clone());
        let wrap = move |pipeline: Pipeline| -> Result<Box<dyn Source>> {
            Ok(Box::new(PipeReader::start::<T>(&pipe, pipeline, task)?))
        };
        Ok(Opened::Wrap { node: narrow(parents, 0)?, partition: p, wrap: Box::new(wrap) })
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r: &mut PlanReader<'_>| {
            let compute: Box<dyn Compute> = Box::new(Piped::<T> { pipe: r.value()?, of: PhantomData });
            Ok(Box::new(compute))
        });
        w.value(&self.pipe)
    }
}

/// Reads what the program writes, while a thread writes what the program reads.
struct PipeReader {
    lines: LineStream<ChildStdout>,
    program: Running,
    /// Joined behind the program: when that has ended nobody reads what the thread writes, and it ends.
    writer: Option<OwnedThread>,
    /// What the partition failed with.
    error: ErrorSlot,
}

/// A program that is ended when nobody reads its lines any more.
struct Running {
    child: Child,
    name: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PipeReader {
    fn start<T: ExchangeData>(pipe: &Pipe, mut pipeline: Pipeline, task: TaskContext) -> Result<PipeReader> {
        let (child, mut input, output) = pipe.start()?;
        let program = Running { child, name: pipe.program.clone() };
        let error = ErrorSlot::default();
        let slot = error.clone();
        let here = site();
        let writer = threads::spawn(format!("pipe-{}", task.partition()), move || {
            let written = task.enter(|| {
                crate::plan::set_site(here);
                let write = AssertUnwindSafe(|| write_lines::<T>(&mut pipeline, &mut input));
                catch_unwind(write).unwrap_or_else(|payload| {
                    let error = panicked(&*payload);
                    Err(site().map_or(error.clone(), |site| error.at(site)))
                })
            });
            if let Err(error) = written {
                slot.set(error);
            }
        })?;
        Ok(PipeReader { lines: LineStream::new(output), program, writer: Some(writer), error })
    }

    /// Waits for the program's end and says how it was.
    fn finish(&mut self) -> Result<()> {
        let failed = |e| Error::io(ErrorKind::Unavailable, "a program that was piped to cannot be waited for", e);
        let status = self.program.child.wait().map_err(failed)?;
        if let Some(writer) = self.writer.take() {
            writer.join();
        }
        self.error.check()?;
        if !status.success() {
            let text =
                format!("program `{}`, which the elements were piped to, ended with {status}", self.program.name);
            return Err(Error::new(ErrorKind::User, text));
        }
        Ok(())
    }
}

fn write_lines<T: ExchangeData>(pipeline: &mut Pipeline, input: &mut ChildStdin) -> Result<()> {
    let (mut lines, mut chunk) = (String::new(), Vec::<T>::new());
    while pipeline.read(&mut chunk)? {
        lines.clear();
        for item in chunk.drain(..) {
            textform::write(&item, &mut lines)?;
            lines.push('\n');
        }
        match input.write_all(lines.as_bytes()) {
            Ok(()) => {}
            // The program has read what it wanted. How it ends says whether that was well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Error::io(ErrorKind::Unavailable, "a program cannot be written to", error)),
        }
    }
    Ok(())
}

impl PartitionReader for PipeReader {
    type Item = Text;

    fn read_chunk(&mut self, out: &mut Vec<Text>) -> Result<bool> {
        let failed = |e| Error::io(ErrorKind::Unavailable, "a program that was piped to cannot be read from", e);
        if self.lines.read_chunk(out).map_err(failed)? {
            return Ok(true);
        }
        if self.writer.is_some() {
            self.finish()?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_the_secret_of_the_cluster_only_by_name() {
        let told = |pipe: Pipe, name: &str| -> Option<Option<String>> {
            let command = pipe.command();
            let found = command.get_envs().find(|(told, _)| *told == name);
            found.map(|(_, value)| value.map(|value| value.to_string_lossy().into_owned()))
        };
        for name in ["MILLSTREAM_EXECUTOR", "MILLSTREAM_SECRET"] {
            assert_eq!(told(Pipe::new("cat"), name), Some(None), "{name} is taken away");
            assert_eq!(told(Pipe::new("cat").env(name, "its own"), name), Some(Some("its own".to_owned())));
        }
    }
}
