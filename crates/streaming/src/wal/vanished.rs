//! What is read while somebody else goes on there: files that were listed are gone when they are looked at.
//!
//! Two kinds of readers meet that: a command that looks at the folder of a program that runs, and a start in a bucket, of whose
//! driver before something is still under way. What goes is what nobody needs any more, and what stands for it was there before:
//! so who lists again finds all that counts.

use millstream_core::Result;

/// How often something is read anew, each time because the folder was another one meanwhile.
const READINGS: usize = 8;

/// What becomes of a reading that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Somebody goes on there: it is read again, as the folder is now.
    Again,
    /// Nobody does, or it has been read often enough: what is missing is missing.
    Stands,
}

/// Decides by what was listed before the reading and what is after it.
fn verdict<N: PartialEq>(before: &[N], now: &[N], readings: usize) -> Verdict {
    if before == now || readings >= READINGS { Verdict::Stands } else { Verdict::Again }
}

/// Reads what is listed; anew if that fails and the list is another one by then.
pub(crate) fn steadily<N: PartialEq, T>(
    mut list: impl FnMut() -> Result<Vec<N>>,
    mut read: impl FnMut(&[N]) -> Result<T>,
) -> Result<T> {
    let mut names = list()?;
    let mut readings = 1;
    loop {
        let error = match read(&names) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let now = list()?;
        if verdict(&names, &now, readings) == Verdict::Stands {
            return Err(error);
        }
        tracing::debug!(%error, "somebody goes on there: what changed meanwhile is read again");
        names = now;
        readings += 1;
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_fails_is_read_again_as_long_as_the_folder_is_another_one_each_time() {
        use Verdict::{Again, Stands};
        for (before, now, readings, want) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], 1, Stands),
            (&[], &[], 1, Stands),
            (&[1, 2, 3], &[2, 3], 1, Again),
            (&[1, 2, 3], &[1, 2, 3, 4], 1, Again),
            (&[1, 2, 3], &[7, 8], READINGS - 1, Again),
            (&[1, 2, 3], &[7, 8], READINGS, Stands),
            (&[1], &[], 1, Again),
        ] {
            assert_eq!(verdict(before, now, readings), want, "{before:?}, {now:?}, {readings}");
        }
    }

    /// Reads a folder that is each of these lists in turn, and in which only `whole` can be read.
    fn reading(lists: &[&[u8]], whole: &[u8]) -> (Result<usize>, usize) {
        let (mut at, mut readings) = (0, 0);
        let list = || {
            at += 1;
            Ok(lists[at.min(lists.len()) - 1].to_vec())
        };
        let found = steadily(list, |names| {
            readings += 1;
            let missing = || Error::new(ErrorKind::Data, format!("missing in reading {readings}"));
            if names == whole { Ok(names.len()) } else { Err(missing()) }
        });
        (found, readings)
    }

    #[test]
    fn the_last_error_stands_where_nothing_changes_and_where_nothing_ever_stands_still() {
        assert_eq!(reading(&[&[1, 2]], &[1, 2]).0.unwrap(), 2);
        let (found, readings) = reading(&[&[1, 2], &[2, 3], &[2, 3, 4]], &[2, 3, 4]);
        assert_eq!((found.unwrap(), readings), (3, 3));
        let (found, readings) = reading(&[&[1, 2], &[2, 3], &[2, 3]], &[9]);
        assert_eq!((found.unwrap_err().message().to_owned(), readings), ("missing in reading 2".to_owned(), 2));
        let lists: Vec<Vec<u8>> = (0..100).map(|n| vec![n]).collect();
        let lists: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
        assert_eq!(reading(&lists, &[200]).1, READINGS);
    }
}
