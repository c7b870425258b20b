//! How much memory a process has, how much room a folder takes, and whether that is flat.

use std::fs;
use std::path::Path;
use std::time::Duration;

use millstream::core::clock::monotonic;

/// What was measured, and when, in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge {
    samples: Vec<(Duration, u64)>,
}

impl Gauge {
    pub(crate) fn note(&mut self, value: Option<u64>) {
        self.samples.extend(value.map(|value| (monotonic(), value)));
    }

    /// Says how it went, or what is wrong.
    pub(crate) fn verdict(&self, what: &str, slack: u64) -> Result<String, String> {
        let values: Vec<u64> = self.samples.iter().map(|(_, value)| *value).collect();
        verdict(what, &values, slack)
    }
}

const MIB: u64 = 1 << 20;

/// Says whether samples are flat: the most of the last third is no more than a tenth and `slack` above the most of the
/// second; the first is the warm-up. Pure.
fn verdict(what: &str, samples: &[u64], slack: u64) -> Result<String, String> {
    if samples.len() < 9 {
        return Ok(format!("{what}: too few samples to say ({})", samples.len()));
    }
    let third = samples.len() / 3;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    let [first, second, last] = [&samples[..third], &samples[third..2 * third], &samples[2 * third..]].map(most);
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / MIB as f64);
    let text = format!("{what}: at most {}, {}, {} MiB by thirds", mib(first), mib(second), mib(last));
    if last > second + second / 10 + slack { Err(format!("{text}: it grows")) } else { Ok(text) }
}

/// Returns the memory of a process, where the system tells.
pub(crate) fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Returns the room that the files of a folder take. What goes meanwhile takes none.
pub(crate) fn room(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => room(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// Returns how many files and folders there are in a folder, not counting what is in those.
pub(crate) fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_told_from_what_warms_up() {
        let mib = |values: &[u64]| values.iter().map(|value| value * MIB).collect::<Vec<_>>();
        let warm = mib(&[10, 40, 80, 100, 101, 100, 99, 102, 100]);
        assert_eq!(verdict("rss", &warm, MIB), Ok("rss: at most 80.0, 101.0, 102.0 MiB by thirds".to_owned()));
        let grows = mib(&[10, 40, 80, 100, 120, 140, 160, 180, 200]);
        assert!(verdict("rss", &grows, MIB).is_err_and(|text| text.ends_with("it grows")));
        assert!(verdict("rss", &grows, 100 * MIB).is_ok());
        assert!(verdict("rss", &warm[..4], MIB).is_ok_and(|text| text.contains("too few")));
    }

    #[test]
    fn this_process_has_memory_and_this_crate_takes_room() {
        if cfg!(target_os = "linux") {
            assert!(memory(std::process::id()).is_some_and(|bytes| bytes > MIB / 2));
        }
        assert!(room(Path::new(".")) > 1000);
        assert_eq!(room(Path::new("/nowhere/at/all")), 0);
        assert_eq!(entries(Path::new(".")), 3);
    }
}
