//! A disk that is soon full. To make one takes root and Linux. Who cannot says `MILLSTREAM_WITHOUT_MOUNTS=1`, and is told what was left
//! out. The tests of Kafka's brokers have this file, too.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk, until it is dropped.
pub(crate) struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// Makes one of so many bytes at a folder that is there, for a test of `whom`; nothing if it is not to be.
    pub(crate) fn at(folder: &Path, bytes: usize, whom: &str) -> Option<SmallDisk> {
        if std::env::var("MILLSTREAM_WITHOUT_MOUNTS").is_ok_and(|said| said == "1") {
            eprintln!("LEFT OUT: no test of {whom} whose disk is full, for MILLSTREAM_WITHOUT_MOUNTS=1");
            return None;
        }
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output();
        let is_mounted = mounted.as_ref().is_ok_and(|mounted| mounted.status.success());
        assert!(
            is_mounted,
            "a small disk is made by root on Linux: {mounted:?}. Set MILLSTREAM_WITHOUT_MOUNTS=1 to leave this out"
        );
        Some(SmallDisk(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !gone.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be taken away", self.0.display());
        }
    }
}
