//! Folders by number, and what their names mean: a folder keeps what is in it wherever it is moved to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// The number of the folder that all others are in.
pub(super) const TOP: u64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder(u64),
    File(u64),
}

/// A name in a folder.
pub(super) type Place = (u64, String);

/// Names in folders. A folder that no name means any more is still there, until somebody looks which ones are.
#[derive(Clone, Debug)]
pub(super) struct Names(BTreeMap<u64, BTreeMap<String, Entry>>);

impl Names {
    pub(super) fn new() -> Names {
        Names([(TOP, BTreeMap::new())].into())
    }

    /// Returns what a path means.
    pub(super) fn find(&self, path: &Path) -> Option<Entry> {
        let mut found = Entry::Folder(TOP);
        for part in path.components() {
            if let Component::Normal(name) = part {
                let Entry::Folder(folder) = found else { return None };
                found = *self.0.get(&folder)?.get(&*name.to_string_lossy())?;
            }
        }
        Some(found)
    }

    /// Returns the folder that a path is in, and its name there, whether there is such a name or not.
    pub(super) fn place(&self, path: &Path) -> Option<Place> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        match self.find(path.parent()?) {
            Some(Entry::Folder(folder)) => Some((folder, name)),
            _ => None,
        }
    }

    /// Returns the names in a folder, sorted.
    pub(super) fn list(&self, folder: u64) -> impl Iterator<Item = (&String, Entry)> {
        self.0.get(&folder).into_iter().flatten().map(|(name, entry)| (name, *entry))
    }

    /// Returns the files below a folder, with where they are, in the order of their paths.
    pub(super) fn files_below(&self, folder: u64, at: &Path) -> Vec<(PathBuf, Place, u64)> {
        let mut files = Vec::new();
        for (name, entry) in self.list(folder) {
            match entry {
                Entry::File(node) => files.push((at.join(name), (folder, name.clone()), node)),
                Entry::Folder(inner) => files.extend(self.files_below(inner, &at.join(name))),
            }
        }
        files
    }

    pub(super) fn set(&mut self, (folder, name): &Place, entry: Entry) {
        self.0.entry(*folder).or_default().insert(name.clone(), entry);
    }

    /// Takes a name away if it still means this.
    pub(super) fn clear(&mut self, (folder, name): &Place, entry: Entry) {
        let names = self.0.entry(*folder).or_default();
        if names.get(name) == Some(&entry) {
            names.remove(name);
        }
    }

    /// Forgets folders that no name means. Returns the files that some name does.
    pub(super) fn keep_what_has_a_name(&mut self) -> BTreeSet<u64> {
        let (mut folders, mut files, mut left) = (BTreeSet::from([TOP]), BTreeSet::new(), vec![TOP]);
        while let Some(folder) = left.pop() {
            for (_, entry) in self.list(folder) {
                match entry {
                    Entry::File(node) => drop(files.insert(node)),
                    Entry::Folder(inner) if folders.insert(inner) => left.push(inner),
                    Entry::Folder(_) => {}
                }
            }
        }
        self.0.retain(|folder, _| folders.contains(folder));
        files
    }
}
