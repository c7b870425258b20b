//! How the rows of `update_state_by_key` are written to checkpoints: what differs from what was written last.
//!
//! The function is called for every key in every batch, but for most it returns what was there (S-49). States need not be
//! comparable: two are the same if they are written the same. So a save, in the background, writes each row down, and keeps
//! nothing of it but the hashes of its key and its state. Beside those of the save before, in order, they tell what a file must say:
//!
//! ```text
//! written last   a=1  b=2  c=3  d=4
//! now            a=1       c=7  d=4  e=1         dropped: 1 at 1; changed: 2 to 7; behind: e=1
//! ```
//!
//! Places speak for keys, so that a reader finds the same rows in the same order. When what was written since all rows were adds up to as
//! much as all rows, all are written again: over time a save costs what changes, and a restart reads twice the state at most.

use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, ExchangeData, Key, Result, SaveAs, codec};
use serde::{Deserialize, Serialize};

use super::save::{damaged, each_once, name, read_file};

/// The form of rows in checkpoints, and what has been written of each partition.
///
/// That stays where it is: elsewhere one begins with all rows, which is right as well.
pub(crate) struct SavedRows<K, S> {
    written: Arc<Mutex<Vec<Arc<Mutex<Written>>>>>,
    of: PhantomData<fn() -> (K, S)>,
}

impl<K, S> Default for SavedRows<K, S> {
    fn default() -> Self {
        SavedRows { written: Arc::default(), of: PhantomData }
    }
}

impl<K, S> Clone for SavedRows<K, S> {
    fn clone(&self) -> Self {
        SavedRows { written: Arc::clone(&self.written), of: PhantomData }
    }
}

/// What has been written of a partition.
#[derive(Default)]
struct Written {
    /// The hashes of keys and states, in order. Their seeds are secret: nobody can make a state that looks like another.
    rows: Vec<(u64, u64)>,
    seeds: RandomState,
    /// The folders that the last save builds upon and its own, oldest first.
    folders: Vec<String>,
    /// How many bytes all rows took, and what has been written since.
    whole: usize,
    since: usize,
}

/// What a file says. It is followed by the rows that stand behind all others, `Vec<(K, S)>`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Changes<S> {
    /// The folders that it builds upon, oldest first.
    upon: Vec<String>,
    /// Which rows are there no more: from where, and how many.
    dropped: Vec<(u64, u64)>,
    /// The new states of others, by the place that they had.
    changed: Vec<(u64, S)>,
}

/// The first bytes of a file: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"mstrow1\n";

impl Written {
    /// Compares rows with what was written; returns what a file must say, the number of rows that stay, and what is to be
    /// known of them all.
    fn compare<K: Key, S: ExchangeData>(&self, rows: &[(K, S)]) -> Result<Compared> {
        let mut bytes = Vec::new();
        let mut hash = |write: &dyn Fn(Vec<u8>) -> Result<Vec<u8>>| -> Result<u64> {
            bytes.clear();
            bytes = write(std::mem::take(&mut bytes))?;
            Ok(self.seeds.hash_one(&bytes[..]))
        };
        let mut compared = Compared { hashes: Vec::with_capacity(rows.len()), ..Compared::default() };
        let (mut place, mut behind) = (0, false);
        for (i, (key, state)) in rows.iter().enumerate() {
            let (key, state) = (hash(&|b| codec::encode_onto(key, b))?, hash(&|b| codec::encode_onto(state, b))?);
            compared.hashes.push((key, state));
            if behind {
                continue;
            }
            // What is passed over is looked at once, as rows keep their order. One that is not found is new, as are those behind it.
            match self.rows[place..].iter().position(|(known, _)| *known == key) {
                Some(over) => {
                    if over > 0 {
                        compared.dropped.push((place as u64, over as u64));
                    }
                    place += over;
                    if self.rows[place].1 != state {
                        compared.changed.push((place as u64, i));
                    }
                    place += 1;
                    compared.stay = i + 1;
                }
                None => behind = true,
            }
        }
        if place < self.rows.len() {
            compared.dropped.push((place as u64, (self.rows.len() - place) as u64));
        }
        Ok(compared)
    }
}

/// What became of rows.
#[derive(Default)]
struct Compared {
    hashes: Vec<(u64, u64)>,
    dropped: Vec<(u64, u64)>,
    /// The place that a row had, and the one that it has.
    changed: Vec<(u64, usize)>,
    /// How many of the rows had been written before.
    stay: usize,
}

impl<K: Key, S: ExchangeData> SavedRows<K, S> {
    fn written(&self, partition: usize) -> Arc<Mutex<Written>> {
        let mut all = lock(&self.written);
        if all.len() <= partition {
            all.resize_with(partition + 1, Arc::default);
        }
        Arc::clone(&all[partition])
    }
}

impl<K: Key, S: ExchangeData> SaveAs for SavedRows<K, S> {
    type Item = (K, S);

    fn write(
        &self,
        store: &dyn CheckpointStore,
        folder: &str,
        partition: usize,
        rows: Vec<(K, S)>,
    ) -> Result<Vec<String>> {
        let written = self.written(partition);
        let mut written = lock(&written);
        if written.folders.last().is_some_and(|last| last == folder) {
            return Ok(written.folders.clone());
        }
        if written.folders.is_empty() || written.since > written.whole {
            *written = Written::default();
        }
        let Compared { hashes, dropped, changed, stay } = written.compare(&rows)?;
        let changed = changed.into_iter().map(|(place, i)| (place, &rows[i].1)).collect();
        let changes = Changes { upon: written.folders.clone(), dropped, changed };
        let bytes = codec::encode_onto(&changes, MAGIC.to_vec())?;
        let bytes = codec::encode_onto(&rows[stay..], bytes)?;
        store.write(&name(folder, partition), &bytes)?;
        // Noted only now: what could not be written is not built upon.
        match written.folders.is_empty() {
            true => (written.whole, written.since) = (bytes.len(), 0),
            false => written.since += bytes.len(),
        }
        written.rows = hashes;
        written.folders.push(folder.to_owned());
        Ok(written.folders.clone())
    }

    fn read(&self, store: &dyn CheckpointStore, folder: &str, partition: usize) -> Result<Vec<(K, S)>> {
        type Said<'a, K, S> = (Changes<S>, Vec<(K, S)>);
        let said = |folder: &str| -> Result<Said<'_, K, S>> {
            let bytes = read_file(store, folder, partition, MAGIC)?;
            let (changes, rest) = codec::decode_from(&bytes).map_err(|e| damaged(folder, partition, &e))?;
            Ok((changes, codec::decode(rest).map_err(|e| damaged(folder, partition, &e))?))
        };
        let mut last = said(folder)?;
        each_once(&last.0.upon, folder).map_err(|e| damaged(folder, partition, &e))?;
        let mut rows = Vec::new();
        for earlier in std::mem::take(&mut last.0.upon) {
            apply(&mut rows, said(&earlier)?).map_err(|e| damaged(&earlier, partition, &e))?;
        }
        apply(&mut rows, last).map_err(|e| damaged(folder, partition, &e))?;
        Ok(rows)
    }
}

/// Does with rows what a file says.
fn apply<K, S>(rows: &mut Vec<(K, S)>, (changes, behind): (Changes<S>, Vec<(K, S)>)) -> Result<()> {
    let wrong = || Error::new(ErrorKind::Data, "it speaks of rows that are not there");
    for (place, state) in changes.changed {
        let row = usize::try_from(place).ok().and_then(|place| rows.get_mut(place));
        row.ok_or_else(wrong)?.1 = state;
    }
    let mut dropped = changes.dropped.into_iter().peekable();
    let mut place = 0u64;
    rows.retain(|_| {
        while dropped.next_if(|(from, count)| from.saturating_add(*count) <= place).is_some() {}
        let goes = dropped.peek().is_some_and(|(from, _)| *from <= place);
        place += 1;
        !goes
    });
    if dropped.any(|(from, count)| from.saturating_add(count) > place) {
        return Err(wrong());
    }
    rows.extend(behind);
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_core::checkpoint::{FolderCheckpoints, MemoryCheckpoints};

    use super::*;

    type Form = SavedRows<u32, String>;

    fn rows(text: &str) -> Vec<(u32, String)> {
        text.split_whitespace()
            .filter_map(|row| row.split_once('='))
            .map(|(key, state)| (key.parse().unwrap_or_default(), state.to_owned()))
            .collect()
    }

    fn written_and_read(form: &Form, store: &MemoryCheckpoints, folder: &str, text: &str) -> usize {
        let folders = form.write(store, folder, 0, rows(text)).unwrap();
        assert_eq!(folders.last().unwrap(), folder);
        // Whoever reads knows nothing of who wrote.
        assert_eq!(Form::default().read(store, folder, 0).unwrap(), rows(text), "{text}");
        store.read(&name(folder, 0)).unwrap().len()
    }

    #[test]
    fn s49_what_is_written_is_what_differs_and_what_is_read_is_in_order() {
        let (form, store) = (Form::default(), MemoryCheckpoints::new());
        let mut all: Vec<String> = (0..1000).map(|i| format!("{i}=state{i}")).collect();
        let first = written_and_read(&form, &store, "0", &all.join(" "));
        assert!(first > 9000, "{first}");
        let mut sizes = Vec::new();
        for round in 1..=40 {
            all[round * 3] = format!("{}=new{round}", round * 3);
            all.remove(500 + round);
            all.push(format!("{}=fresh", 2000 + round));
            sizes.push(written_and_read(&form, &store, &round.to_string(), &all.join(" ")));
        }
        assert!(sizes.iter().all(|size| *size < 200), "{sizes:?}");
        let unchanged = written_and_read(&form, &store, "same", &all.join(" "));
        assert!(unchanged < 200, "{unchanged}");
    }

    #[test]
    fn rows_may_go_come_back_move_and_stand_twice() {
        let (form, store) = (Form::default(), MemoryCheckpoints::new());
        let all = [
            "1=a 2=b 3=c",
            "",
            "1=a",
            "2=b 1=a",
            "2=b 1=a 1=b 1=a",
            "1=a 1=b 2=b",
            "3=x 1=a 2=y 1=b",
            "1=a",
            "1=a 9=z 8=y",
            "8=y",
        ];
        for (i, text) in all.iter().cycle().take(60).enumerate() {
            written_and_read(&form, &store, &i.to_string(), text);
        }
        assert!(lock(&form.written(0)).folders.len() < 20, "all is written again now and then");
    }

    #[test]
    fn a_save_that_failed_is_not_built_upon_and_one_that_is_done_not_done_again() {
        let (form, store) = (Form::default(), MemoryCheckpoints::new());
        written_and_read(&form, &store, "0", "1=a 2=b 3=c");
        // Where there is a file there cannot be a folder.
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("1"), "").unwrap();
        let full = FolderCheckpoints::open(temp.path()).unwrap();
        assert!(form.write(&full, "1", 0, rows("1=a 2=z")).is_err());
        written_and_read(&form, &store, "2", "1=a 2=z");
        assert_eq!(form.write(&full, "2", 0, rows("1=a 2=z")).unwrap(), ["0", "2"]);
    }

    #[test]
    fn the_form_of_rows_is_a_format_and_what_does_not_fit_is_damaged() {
        let (form, store) = (Form::default(), MemoryCheckpoints::new());
        form.write(&store, "a", 0, rows("1=x 2=y 3=z 5=w")).unwrap();
        form.write(&store, "b", 0, rows("1=x 3=Z 4=v")).unwrap();
        assert_eq!(
            &store.read("a/state-00000").unwrap()[..],
            b"mstrow1\n\0\0\0\x04\x01\x01x\x02\x01y\x03\x01z\x05\x01w"
        );
        let second = b"mstrow1\n\x01\x01a\x02\x01\x01\x03\x01\x01\x02\x01Z\x01\x04\x01v";
        assert_eq!(&store.read("b/state-00000").unwrap()[..], second);
        store.write("a/state-00000", b"mstrow1\n\0\0\0\x01\x01\x01x").unwrap();
        let error = form.read(&store, "b", 0).unwrap_err();
        assert_eq!(error.to_string(), "checkpoint b/state-00000 is damaged: it speaks of rows that are not there");
        store.write("b/state-00000", b"mststa2\n").unwrap();
        assert!(form.read(&store, "b", 0).is_err());
    }
}
