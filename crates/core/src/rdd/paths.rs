//! Which files a path means: a file, a folder, a pattern, or a list of these.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

/// Lists the files that `path` means, each with its length.
///
/// A path that exists is that file, or the files right inside that folder in the order of their names, without those
/// that are hidden. Any other path may be a list with commas and have `*`, `?`, `[a-z]` and `{a,b}` in it.
pub(crate) fn list_files(path: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    if let (Err(_), Some(text)) = (fs::metadata(path), path.to_str())
        && text.contains([',', '*', '?', '[', '{'])
    {
        return split_outside_braces(text).into_iter().try_for_each(|one| list_one(one.trim(), files));
    }
    list_existing(path, ErrorKind::Config, files)
}

/// As [`list_files`], of a path that has just been found: if it is gone, nobody wrote a wrong name.
pub(crate) fn list_found(path: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    list_existing(path, ErrorKind::Unavailable, files)
}

/// Lists the files of one path or pattern.
fn list_one(one: &str, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let path = Path::new(one);
    if path.exists() || !one.contains(['*', '?', '[', '{']) {
        return list_existing(path, ErrorKind::Config, files);
    }
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in without_braces(one) {
        let wrong = |e: glob::PatternError| {
            Error::new(ErrorKind::Config, format!("input pattern `{one}` is none: {} at {}", e.msg, e.pos))
        };
        for entry in glob::glob(&pattern).map_err(wrong)? {
            let path = entry.map_err(|e| {
                Error::new(ErrorKind::Unavailable, format!("input pattern `{one}` cannot be followed: {e}"))
            })?;
            if !is_hidden(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, format!("input pattern `{one}` matches no file")));
    }
    found.sort();
    found.dedup();
    found.iter().try_for_each(|path| list_found(path, files))
}

/// Lists a file, or those of a folder; an error is of the kind `missing` if nothing is there.
fn list_existing(path: &Path, missing: ErrorKind, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let error = |kind, path: &Path, e| Error::io(kind, format!("input path {} cannot be read", path.display()), e);
    let failed = |e| error(ErrorKind::Unavailable, path, e);
    let about = fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => error(missing, path, e),
        _ => failed(e),
    })?;
    if !about.is_dir() {
        files.push((path.to_path_buf(), about.len()));
        return Ok(());
    }
    let mut inside = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if is_hidden(&path) {
            continue;
        }
        // It was there when the folder was read.
        let about = fs::metadata(&path).map_err(|e| error(ErrorKind::Unavailable, &path, e))?;
        if !about.is_dir() {
            inside.push((path, about.len()));
        }
    }
    inside.sort();
    files.extend(inside);
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']))
}

/// Splits at commas, but for those inside of braces. Pure.
fn split_outside_braces(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    })
    .filter(|part| !part.trim().is_empty())
    .collect()
}

/// Writes `a{b,c}d` out as `abd` and `acd`. Braces may be nested; one without its other half is a letter. Pure.
fn without_braces(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find('{') else { return vec![pattern.to_owned()] };
    let mut depth = 0;
    let close = pattern[open..].char_indices().find_map(|(i, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (depth == 0).then_some(open + i)
    });
    let Some(close) = close else { return vec![pattern.to_owned()] };
    let mut depth = 0;
    let choices = pattern[open + 1..close].split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    choices
        .flat_map(|choice| without_braces(&format!("{}{choice}{}", &pattern[..open], &pattern[close + 1..])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cx12_lists_and_braces_are_written_out() {
        assert_eq!(split_outside_braces("a,b{c,d},,e"), ["a", "b{c,d}", "e"]);
        assert_eq!(without_braces("a{b,c}d"), ["abd", "acd"]);
        assert_eq!(without_braces("{a,b{c,d}}/{x,y}"), ["a/x", "a/y", "bc/x", "bc/y", "bd/x", "bd/y"]);
        assert_eq!(without_braces("a{b"), ["a{b"]);
        assert_eq!(without_braces("a}b"), ["a}b"]);
    }
}
