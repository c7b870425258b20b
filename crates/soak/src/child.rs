//! The program as a process of its own: started, told things by signals, and waited for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use millstream::core::clock::monotonic;
use millstream::{Error, ErrorKind, Result, millis};

/// How often somebody looks whether a process has ended.
const LOOK: Duration = millis(5);

/// A process that runs the program. It is killed if it is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    pub(crate) run: u64,
    pub(crate) began: Duration,
    log: PathBuf,
}

/// Where a child finds what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    pub(crate) database: PathBuf,
}

/// Lets a little time pass.
pub(crate) fn pause(time: Duration) {
    // Nothing wakes this thread, and if something did it would only look sooner.
    std::thread::park_timeout(time);
}

impl Child {
    pub(crate) fn start(place: &Place, run: u64, checkpoint: &Path) -> Result<Child> {
        let log = place.folder.join(format!("run-{run}.log"));
        let program = std::env::current_exe()?;
        let process = Command::new(program)
            .args(["child", &place.port.to_string(), &run.to_string()])
            .args([checkpoint, &place.database])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        Ok(Child { process, run, began: monotonic(), log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let command = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &command]).status()?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(&format!("`{command}` did not work")))
    }

    /// Sends SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Returns how it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = monotonic() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if monotonic() > deadline {
                return Err(self.failed(&format!("it has not ended within {patience:?}")));
            }
            pause(LOOK);
        }
    }

    /// Returns what it said.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Makes an error that says what it said.
    pub(crate) fn failed(&self, what: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("run {}: {what}; it said: {}", self.run, self.said().trim()))
    }

    /// Forgets what it said.
    pub(crate) fn tidy(&self) {
        let _ = fs::remove_file(&self.log);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has ended refuses, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
