//! Which objects of a bucket an address means, as a path means files: one, those of a folder, or those that fit a pattern.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use glob::{MatchOptions, Pattern};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use millstream_object_store::object_store::ObjectStore;
use millstream_object_store::{Bucket, Listed};

use super::list::{Found, hidden, is_pattern, value_in};
use super::unreadable;

/// A store that the program has opened itself, and the bucket once it is asked.
#[derive(Clone, Default)]
pub(super) struct Store {
    given: Option<Arc<dyn ObjectStore>>,
    bucket: Arc<Mutex<Option<Bucket>>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Some(store) => write!(f, "Store({store})"),
            None => f.write_str("Store"),
        }
    }
}

/// What the objects of a table were when it was read: each one's name, and what changes with it.
pub(super) type Stamp = Vec<Listed>;

impl Store {
    /// The store of an address, if it is one; it is opened when it is asked.
    pub(super) fn of_address(path: &Path) -> Option<Store> {
        path.to_string_lossy().contains("://").then(Store::default)
    }

    /// Says whether addresses that begin so can be reached.
    pub(super) fn is_reached_by(&self, scheme: &str) -> bool {
        self.given.is_some() || matches!(scheme, "s3" | "s3a")
    }

    pub(super) fn of(store: Arc<dyn ObjectStore>) -> Store {
        Store { given: Some(store), bucket: Arc::default() }
    }

    fn bucket(&self, address: &str) -> Result<Bucket> {
        let bucket = &mut *lock(&self.bucket);
        Ok(match bucket {
            Some(bucket) => bucket.clone(),
            None => {
                let opened = match &self.given {
                    Some(store) => Bucket::on(Arc::clone(store))?,
                    None => Bucket::open(address)?,
                };
                bucket.insert(opened).clone()
            }
        })
    }

    /// Lists the objects that an address means.
    pub(super) fn list(&self, address: &str) -> Result<Stamp> {
        let path = path_in(address)?;
        let bucket = self.bucket(address)?;
        let meant = Meant::of(path).map_err(|e| unreadable(address.as_ref(), &e))?;
        let mut listed = bucket.list(&meant.folder)?;
        let may_be_one = listed.is_empty() && meant.pattern.is_none() && !path.is_empty();
        if may_be_one && let Some(one) = bucket.look_at(path)? {
            return Ok(vec![one]);
        }
        // Some programs put an object of nothing where a folder is.
        let folders: BTreeSet<String> = listed.iter().flat_map(|l| folders_of(&l.key)).map(str::to_owned).collect();
        listed.retain(|l| meant.values(&l.key).is_some() && !(l.size == 0 && folders.contains(&l.key)));
        Ok(listed)
    }

    /// Reads the objects of a table, as they were when they were listed.
    pub(super) fn fetch(&self, address: &str, listed: &Stamp) -> Result<Vec<Found>> {
        let (root, path) = (root_of(address), path_in(address)?);
        let meant = Meant::of(path).map_err(|e| unreadable(address.as_ref(), &e))?;
        let mut found = Vec::new();
        for (object, read) in listed.iter().zip(self.bucket(address)?.read(listed)?) {
            let path = PathBuf::from(format!("{root}/{}", object.key));
            let Some(bytes) = read else {
                return Err(unreadable(&path, "it changed while it was read, and is read again when the table is"));
            };
            let values = meant.values(&object.key).unwrap_or_default();
            found.push(Found { path, values, fetched: Some(bytes) });
        }
        Ok(found)
    }
}

/// Splits `s3://BUCKET/PATH`.
fn parts(address: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = address.split_once("://")?;
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((scheme, bucket, path.trim_matches('/')))
}

fn path_in(address: &str) -> Result<&str> {
    parts(address).map(|(_, _, path)| path).ok_or_else(|| {
        let text = format!("{address} is not the address of objects: s3://BUCKET/FOLDER");
        Error::new(ErrorKind::Config, text)
    })
}

fn root_of(address: &str) -> String {
    parts(address).map(|(scheme, bucket, _)| format!("{scheme}://{bucket}")).unwrap_or_default()
}

/// The folders that an object lies in, from the outermost on.
fn folders_of(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(|(at, _)| &key[..at])
}

/// What an address means.
#[derive(Debug)]
struct Meant {
    /// Where all of it lies.
    folder: String,
    pattern: Option<Pattern>,
}

impl Meant {
    fn of(path: &str) -> std::result::Result<Meant, String> {
        if !is_pattern(path) {
            return Ok(Meant { folder: path.to_owned(), pattern: None });
        }
        let pattern = Pattern::new(path).map_err(|e| format!("it is no pattern: {e}"))?;
        let plain: Vec<&str> = path.split('/').take_while(|part| !is_pattern(part)).collect();
        Ok(Meant { folder: plain.join("/"), pattern: Some(pattern) })
    }

    /// Returns the columns that an object's folders are, if it is meant: those of folders below what the address names, as on a disk.
    fn values(&self, key: &str) -> Option<Vec<(String, Option<String>)>> {
        let below = match &self.pattern {
            None if self.folder.is_empty() => key,
            None if key == self.folder => "",
            None => key.strip_prefix(&self.folder)?.strip_prefix('/')?,
            Some(pattern) => {
                // A pattern may name the object, or a folder that it lies in.
                let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
                let named = |path: &&str| pattern.matches_with(path, options);
                let root = folders_of(key).find(named).or_else(|| Some(key).filter(named))?;
                if hidden(root.rsplit('/').next().unwrap_or(root)) {
                    return None;
                }
                key[root.len()..].trim_start_matches('/')
            }
        };
        if below.split('/').any(hidden) {
            return None;
        }
        let folders = below.rsplit_once('/').map_or("", |(folders, _)| folders);
        Some(folders.split('/').filter_map(value_in).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_an_object_a_folder_or_what_fits_a_pattern_as_on_a_disk() {
        let keys = [
            "t/a.csv",
            "t/b.json",
            "t/_SUCCESS",
            "t/.a.csv.crc",
            "t/_tmp/a.csv",
            "t/day=1/a.csv",
            "t/day=1/hour=2/b.csv",
            "t/_1=x/a.csv",
            "ta/a.csv",
        ];
        for (path, want) in [
            ("t", "a.csv b.json day=1/a.csv[day=1] day=1/hour=2/b.csv[day=1,hour=2] _1=x/a.csv[_1=x]"),
            ("t/day=1", "day=1/a.csv day=1/hour=2/b.csv[hour=2]"),
            ("t/*.csv", "a.csv"),
            ("t/day=*", "day=1/a.csv day=1/hour=2/b.csv[hour=2]"),
            ("t/*/a.csv", "_tmp/a.csv day=1/a.csv _1=x/a.csv"),
            ("t/?.csv", "a.csv"),
            ("t/[ab].*", "a.csv b.json"),
            ("t/**/b.csv", "day=1/hour=2/b.csv"),
            ("t/none*", ""),
        ] {
            let meant = Meant::of(path).unwrap();
            let named = |key: &&str| {
                let values = meant.values(key)?.into_iter().map(|(k, v)| format!("{k}={}", v.unwrap_or_default()));
                let values = values.collect::<Vec<_>>().join(",");
                let key = key.trim_start_matches("t/");
                Some(if values.is_empty() { key.to_owned() } else { format!("{key}[{values}]") })
            };
            assert_eq!(keys.iter().filter_map(named).collect::<Vec<_>>().join(" "), want, "{path}");
        }
        assert_eq!(Meant::of("a/b=*/c/*.csv").unwrap().folder, "a");
        assert_eq!(Meant::of("*.csv").unwrap().folder, "");
        assert!(Meant::of("a/[").is_err());
        assert_eq!(root_of("s3://b/a/b.csv"), "s3://b");
        assert_eq!(path_in("s3://b").unwrap(), "");
    }
}
