//! Executors of a local cluster: processes of this very executable, begun with the driver, ended with it, and begun again when
//! they end.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ErrorKind, Result, codec};
use tokio::sync::watch;

use crate::executor::{Orders, VARIABLE};
use crate::folders::Folder;

/// How often it is looked whether an executor has ended without a word.
const LOOK: Duration = Duration::from_millis(500);

/// How often an executor may end before it is given up, unless one has joined since.
const MOST_DEATHS: u32 = 5;

/// The executors of a local cluster. They end when this is dropped.
pub(crate) struct Children {
    shared: Arc<Shared>,
    keeper: Option<OwnedThread>,
}

struct Shared {
    orders: Orders,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether no more are begun, because they end as soon as they begin.
    hopeless: watch::Sender<bool>,
    /// Held for as long as an executor may use it.
    _folder: Folder,
}

struct State {
    children: Vec<Child>,
    deaths: u32,
    /// Whether it has been told that none can be begun just now.
    told: bool,
    closed: bool,
}

impl Children {
    /// Begins `count` executors.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more processes, or does not say where this executable is.
    pub(crate) fn begin(count: usize, orders: Orders, folder: Folder) -> Result<Children> {
        let state = Mutex::new(State { children: Vec::new(), deaths: 0, told: false, closed: false });
        let hopeless = watch::Sender::new(false);
        let shared = Arc::new(Shared { orders, state, changed: Condvar::new(), hopeless, _folder: folder });
        let mut children = Children { shared: Arc::clone(&shared), keeper: None };
        for _ in 0..count {
            let child = begin_one(&shared.orders)?;
            lock(&shared.state).children.push(child);
        }
        children.keeper = Some(threads::spawn("executors", move || keep(&shared))?);
        Ok(children)
    }

    /// Ends the executor of a process for good: its driver has given it up. Another one is begun in its place.
    pub(crate) fn give_up(&self, id: &str, process: u32) {
        let mut state = lock(&self.shared.state);
        for child in state.children.iter_mut().filter(|child| child.id() == process) {
            let _ = child.kill();
        }
        drop(state);
        // It could not do that itself.
        let _ = std::fs::remove_dir_all(self.shared.orders.folder.join(id));
        self.shared.changed.notify_all();
    }

    /// Takes note that an executor has joined.
    pub(crate) fn joined(&self) {
        lock(&self.shared.state).deaths = 0;
        self.shared.hopeless.send_replace(false);
    }

    /// Returns whether no more executors are begun, now and from now on.
    pub(crate) fn hopeless(&self) -> watch::Receiver<bool> {
        self.shared.hopeless.subscribe()
    }

    /// Returns why no more executors are begun, if none are.
    pub(crate) fn failure(&self) -> Option<Error> {
        let deaths = lock(&self.shared.state).deaths;
        (deaths >= MOST_DEATHS).then(|| {
            let text = "executors of the local cluster end as soon as they begin; what they say stands on stderr. Is \
                        `millstream::cluster::be_executor_if_asked()` the first line of the program's main?";
            Error::new(ErrorKind::Unavailable, text)
        })
    }
}

impl Children {
    /// Ends all, and begins none any more.
    pub(crate) fn close(&self) {
        let mut children = {
            let mut state = lock(&self.shared.state);
            state.closed = true;
            std::mem::take(&mut state.children)
        };
        self.shared.changed.notify_all();
        for child in &mut children {
            let _ = child.kill();
        }
        for child in &mut children {
            let _ = child.wait();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.shared.orders.folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the executors' folder {} could not be removed", self.shared.orders.folder.display());
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.close();
        drop(self.keeper.take());
    }
}

fn begin_one(orders: &Orders) -> Result<Child> {
    let failed = |doing: &str, error| Error::io(ErrorKind::Unavailable, doing.to_owned(), error);
    let executable = executable().map_err(|error| failed("this executable is not found", error))?;
    let mut command = Command::new(executable);
    command.env(VARIABLE, "1").stdin(Stdio::piped());
    apart(&mut command);
    let mut child = command.spawn().map_err(|error| failed("an executor could not be started", error))?;
    // By a pipe, which nobody else can read.
    let told = codec::encode(orders)?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(&told));
    match written {
        Some(Ok(())) => Ok(child),
        Some(Err(error)) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(failed("an executor could not be told what to do", error))
        }
        None => Err(millstream_core::bug!("an executor was started without an input")),
    }
}

/// Returns where the program is that runs here: its name may be another build's by now.
pub(crate) fn executable() -> std::io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { std::env::current_exe() }
}

/// Keeps what a terminal sends to all of its foreground from an executor, as Ctrl-C: a driver that stops gracefully needs it to
/// the last. It ends with the driver, however that ends.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
    // By its name, as the driver.
    command.arg0(std::env::args_os().next().unwrap_or_else(|| "executor".into()));
}

#[cfg(not(unix))]
fn apart(_: &mut Command) {}

/// The life of the keeper: who ends is begun again.
fn keep(shared: &Shared) {
    let mut state = lock(&shared.state);
    while !state.closed {
        for at in 0..state.children.len() {
            if !matches!(state.children[at].try_wait(), Ok(Some(_))) || state.deaths >= MOST_DEATHS {
                continue;
            }
            match begin_one(&shared.orders) {
                Ok(child) => {
                    state.children[at] = child;
                    state.deaths += 1;
                    state.told = false;
                    if state.deaths >= MOST_DEATHS {
                        shared.hopeless.send_replace(true);
                    }
                }
                // The system may have no process just now, and one later.
                Err(error) => {
                    let told = std::mem::replace(&mut state.told, true);
                    if !told {
                        tracing::error!(%error, "an executor that ended cannot be begun again yet");
                    }
                }
            }
        }
        state = shared.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_that_end_as_soon_as_they_begin_are_given_up_soon() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::fresh(base.path()).unwrap();
        // Nobody listens where somebody did.
        let desk = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let orders = Orders {
            desk,
            secret: vec![7; 32],
            slots: 1,
            folder: folder.path().to_owned(),
            returns: false,
            listen: None,
        };
        let children = Children::begin(1, orders, folder).unwrap();
        assert!(children.failure().is_none());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut hopeless = children.hopeless();
            let soon = tokio::time::timeout(Duration::from_secs(40), hopeless.wait_for(|hopeless| *hopeless));
            soon.await.unwrap().unwrap();
        });
        assert!(children.failure().unwrap().to_string().contains("be_executor_if_asked"));
        children.joined();
        assert!(children.failure().is_none() && !*children.hopeless().borrow());
    }
}
