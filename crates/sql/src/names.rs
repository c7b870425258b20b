//! Names as SQL finds them: without regard to case, and with the nearest one told where there is none. Pure.

/// What became of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    At(usize),
    Several,
    None { nearest: Option<String> },
}

/// Finds a name: as it is written, or else the only one that differs in case alone.
pub(crate) fn find<'a>(name: &str, all: impl Iterator<Item = &'a str> + Clone) -> Found {
    let mut exact = all.clone().enumerate().filter(|(_, n)| *n == name);
    if let Some((place, _)) = exact.next() {
        return if exact.next().is_none() { Found::At(place) } else { Found::Several };
    }
    let mut similar = all.clone().enumerate().filter(|(_, n)| n.to_lowercase() == name.to_lowercase());
    match (similar.next(), similar.next()) {
        (Some((place, _)), None) => Found::At(place),
        (Some(_), Some(_)) => Found::Several,
        _ => Found::None { nearest: nearest(name, all) },
    }
}

/// Returns the name that was probably meant, if one is near.
pub(crate) fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    let most = (name.chars().count() / 3).max(1);
    all.map(|n| (distance(&name, &n.to_lowercase()), n))
        .filter(|(d, _)| *d <= most)
        .min_by_key(|(d, _)| *d)
        .map(|(_, n)| n.to_owned())
}

/// Lists names for people: the first twenty.
pub(crate) fn listed<'a>(all: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let all: Vec<&str> = all.collect();
    if all.is_empty() {
        return "none".to_owned();
    }
    let more = if all.len() > MOST { format!(" and {} more", all.len() - MOST) } else { String::new() };
    format!("{}{more}", all[..all.len().min(MOST)].join(", "))
}

/// How many letters must be put in, left out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best.min(rows[i - 2][j - 2] + 1)
                } else {
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_written_or_without_case_or_its_neighbour_is_told() {
        let none = |nearest: &str| Found::None { nearest: (!nearest.is_empty()).then(|| nearest.to_owned()) };
        for (name, all, want) in [
            ("a", vec!["a", "A"], Found::At(0)),
            ("A", vec!["a", "A"], Found::At(1)),
            ("Max", vec!["min", "max"], Found::At(1)),
            ("MAX", vec!["max", "Max"], Found::Several),
            ("a", vec!["a", "a"], Found::Several),
            ("celcius", vec!["sensor", "Celsius"], none("Celsius")),
            ("snesor", vec!["sensor", "celsius"], none("sensor")),
            ("pressure", vec!["sensor", "celsius"], none("")),
            ("x", vec![], none("")),
        ] {
            assert_eq!(find(name, all.iter().copied()), want, "{name} in {all:?}");
        }
    }
}
