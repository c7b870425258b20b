//! Patterns of times, as `yyyy-MM-dd HH:mm:ss`: how a moment is written by one, and how a text is read. Pure.

use crate::row::Date;

/// A part of a pattern: a letter and how often it stands there, or a text.
#[derive(Debug, PartialEq)]
enum Part {
    Letter(char, usize),
    Text(String),
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MICROS_A_DAY: i64 = 86_400_000_000;

/// A pattern that has been read.
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads a pattern, or says what in it is not known.
    pub(super) fn read(text: &str) -> Result<Pattern, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter == '\'' {
                let mut quoted = String::new();
                loop {
                    match letters.next() {
                        Some('\'') if letters.peek() == Some(&'\'') => quoted.extend(letters.next()),
                        Some('\'') => break,
                        Some(other) => quoted.push(other),
                        None => return Err(format!("the pattern `{text}` has a quote that does not end")),
                    }
                }
                parts.push(Part::Text(if quoted.is_empty() { "'".to_owned() } else { quoted }));
            } else if letter.is_ascii_alphabetic() {
                let mut count = 1;
                while letters.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                let known = match letter {
                    'y' => matches!(count, 1 | 2 | 4),
                    'M' | 'E' => count <= 4,
                    'd' | 'H' | 'h' | 'm' | 's' => count <= 2,
                    'D' => count <= 3,
                    'S' => count <= 9,
                    'a' => count == 1,
                    _ => false,
                };
                if !known {
                    let part = letter.to_string().repeat(count);
                    return Err(format!(
                        "`{part}` in the pattern `{text}` is not known: there are yyyy yy M d D H h m s S a E"
                    ));
                }
                parts.push(Part::Letter(letter, count));
            } else if matches!(letter, '[' | ']' | '{' | '}' | '#') {
                return Err(format!("`{letter}` in the pattern `{text}` is not known: write it in quotes"));
            } else {
                match parts.last_mut() {
                    Some(Part::Text(before)) => before.push(letter),
                    _ => parts.push(Part::Text(letter.to_string())),
                }
            }
        }
        Ok(Pattern(parts))
    }

    /// Writes a moment, in microseconds.
    pub(super) fn written(&self, micros: i64) -> String {
        let (day, rest) = (micros.div_euclid(MICROS_A_DAY), micros.rem_euclid(MICROS_A_DAY));
        let date = Date::from_days(day as i32);
        let (year, month, of_month) = date.ymd();
        let (hour, minute) = (rest / 3_600_000_000, rest / 60_000_000 % 60);
        let (second, fraction) = (rest / 1_000_000 % 60, rest % 1_000_000);
        let mut out = String::new();
        for part in &self.0 {
            let (letter, width) = match part {
                Part::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Part::Letter(letter, width) => (*letter, *width),
            };
            let number = match letter {
                'y' if width == 2 => i64::from(year.rem_euclid(100)),
                'y' => i64::from(year),
                'M' if width > 2 => {
                    let name = MONTHS[month as usize - 1];
                    out.push_str(if width == 3 { &name[..3] } else { name });
                    continue;
                }
                'M' => i64::from(month),
                'd' => i64::from(of_month),
                'D' => day - i64::from(Date::from_ymd(year, 1, 1).map_or(0, Date::days)) + 1,
                'H' => hour,
                'h' => (hour + 11) % 12 + 1,
                'm' => minute,
                's' => second,
                'a' => {
                    out.push_str(if hour < 12 { "AM" } else { "PM" });
                    continue;
                }
                'E' => {
                    // The day 0 was a Thursday.
                    let name = DAYS[(day + 3).rem_euclid(7) as usize];
                    out.push_str(if width < 4 { &name[..3] } else { name });
                    continue;
                }
                _ => {
                    let digits = format!("{fraction:06}000");
                    out.push_str(&digits[..width]);
                    continue;
                }
            };
            out.push_str(&format!("{number:0width$}"));
        }
        out
    }

    /// Reads a moment, in microseconds. What the text does not say is the first of its kind, as Spark has it.
    pub(super) fn parsed(&self, text: &str) -> Option<i64> {
        let (mut year, mut month, mut day, mut hour, mut minute, mut second, mut fraction) = (1970, 1, 1, 0, 0, 0, 0);
        let (mut afternoon, mut half) = (None, None);
        let mut rest = text;
        for (at, part) in self.0.iter().enumerate() {
            let (letter, width) = match part {
                Part::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Part::Letter(letter, width) => (*letter, *width),
            };
            match letter {
                'M' if width > 2 => {
                    let names = MONTHS.iter().map(|name| if width == 3 { &name[..3] } else { name });
                    let (found, name) = names.enumerate().find(|(_, name)| rest.starts_with(name))?;
                    (month, rest) = (found as i64 + 1, &rest[name.len()..]);
                    continue;
                }
                'E' => {
                    let names = DAYS.iter().map(|name| if width < 4 { &name[..3] } else { name });
                    rest = &rest[names.into_iter().find(|name| rest.starts_with(name))?.len()..];
                    continue;
                }
                'a' => {
                    let half = rest.get(..2)?.to_ascii_uppercase();
                    afternoon = Some(match &*half {
                        "AM" => false,
                        "PM" => true,
                        _ => return None,
                    });
                    rest = &rest[2..];
                    continue;
                }
                _ => {}
            }
            // Behind digits that follow at once, a number has as many as its letters; else as many as there are.
            let fixed = matches!(self.0.get(at + 1), Some(Part::Letter(..)));
            let most = if width > 1 || fixed { width } else { 19 };
            let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
            if digits == 0 || (width > 1 && digits < width) {
                return None;
            }
            let number: i64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            match letter {
                'y' if width == 2 => year = 2000 + number,
                'y' => year = number,
                'M' => month = number,
                'd' => day = number,
                'H' => hour = number,
                'h' => half = Some(number),
                'm' => minute = number,
                's' => second = number,
                'S' if digits <= 6 => fraction = number * 10_i64.pow(6 - digits as u32),
                'S' => fraction = number / 10_i64.pow(digits as u32 - 6),
                _ => return None,
            }
        }
        if let Some(half) = half {
            if !(1..=12).contains(&half) {
                return None;
            }
            hour = half % 12 + if afternoon == Some(true) { 12 } else { 0 };
        }
        let fits = rest.is_empty() && (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        let date = Date::from_ymd(i32::try_from(year).ok()?, u32::try_from(month).ok()?, u32::try_from(day).ok()?)?;
        fits.then(|| {
            i64::from(date.days()) * MICROS_A_DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
        })
    }
}

/// Reads a day as Spark casts one: `2024`, `2024-2`, `2024-02-29`, and what may stand behind a `T` or a space.
pub(super) fn day(text: &str) -> Option<i32> {
    let text = text.trim();
    let text = text.split_once(['T', ' ']).map_or(text, |(day, _)| day);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = digits.split('-');
    let number = |part: &str, widths: std::ops::RangeInclusive<usize>| {
        let digits = widths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten()
    };
    let year = number(parts.next()?, 4..=7)?;
    let month = parts.next().map_or(Some(1), |part| number(part, 1..=2))?;
    let day = parts.next().map_or(Some(1), |part| number(part, 1..=2))?;
    let date = Date::from_ymd(sign * i32::try_from(year).ok()?, month, day)?;
    parts.next().is_none().then_some(date.days())
}

/// Reads a moment as Spark casts one, in microseconds of UTC: a day, and a time of day behind a `T` or a space, with an offset.
pub(super) fn moment(text: &str) -> Option<i64> {
    let text = text.trim();
    let Some((date, time)) = text.split_once(['T', ' ']) else { return Some(i64::from(day(text)?) * MICROS_A_DAY) };
    let days = i64::from(day(date)?);
    let time = time.trim();
    let (time, offset) = match time.find(['Z', '+', '-', 'U', 'G']) {
        Some(at) => (time[..at].trim_end(), offset(&time[at..])?),
        None => (time, 0),
    };
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = clock.split(':').map(|part| {
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<i64>().ok()).flatten()
    });
    let hour = parts.next()??;
    let minute = parts.next().unwrap_or(Some(0))?;
    let second = parts.next().unwrap_or(Some(0))?;
    let digits = fraction.bytes().all(|b| b.is_ascii_digit()) && fraction.len() <= 9;
    if parts.next().is_some() || !digits || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    Some(days * MICROS_A_DAY + ((hour * 60 + minute) * 60 + second - offset) * 1_000_000 + fraction)
}

/// Seconds that a clock is before UTC: `Z`, `+01:00`, `UTC`.
fn offset(text: &str) -> Option<i64> {
    let text = text.trim();
    let plain = text.trim_start_matches("UTC").trim_start_matches("GMT");
    if matches!(plain, "" | "Z") {
        return Some(0);
    }
    let (sign, rest) = match (plain.strip_prefix('+'), plain.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let mut parts = rest.split(':').map(|part| if part.len() <= 2 { part.parse::<i64>().ok() } else { None });
    let (hours, minutes) = (parts.next()??, parts.next().unwrap_or(Some(0))?);
    (parts.next().is_none() && hours <= 18 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 29 February 2024, 15:04:05.678.
    const AT: i64 = 19_782 * MICROS_A_DAY + 54_245_678_000;

    #[test]
    fn moments_are_written_and_read_by_patterns() {
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 15:04:05.678"),
            ("dd/MM/yy hh:mm:ss.SSS a", "29/02/24 03:04:05.678 PM"),
            ("d MMM yyyy H:m:s.SSSSSS", "29 Feb 2024 15:4:5.678000"),
            ("EEEE, d. MMMM yyyy 'at' HH''mm ss S", "Thursday, 29. February 2024 at 15'04 05 6"),
            ("yyyyMMddHHmmss", "20240229150405"),
        ] {
            let pattern = Pattern::read(pattern).unwrap();
            assert_eq!(pattern.written(AT), text);
            let read = pattern.parsed(text).unwrap();
            assert_eq!(pattern.written(read), text);
        }
        assert_eq!(Pattern::read("D").unwrap().written(AT), "60");
        let pattern = Pattern::read("dd.MM.yyyy").unwrap();
        for text in ["29.02.2023", "1.2.2024", "29.02.2024 ", "x", ""] {
            assert_eq!(pattern.parsed(text), None, "{text}");
        }
        for (pattern, want) in [
            ("YYYY", "`YYYY` in the pattern `YYYY` is not known"),
            ("yyyy-MM-dd'T", "a quote that does not end"),
            ("[yyyy]", "`[` in the pattern"),
        ] {
            assert!(Pattern::read(pattern).err().unwrap().contains(want), "{pattern}");
        }
    }

    #[test]
    fn days_and_moments_are_read_as_they_are_cast() {
        for (text, want) in [
            ("2024-02-29", Some(19_782)),
            (" 2024-2-9 ", Some(19_762)),
            ("2024", Some(19_723)),
            ("2024-02-29T10:00", Some(19_782)),
            ("2023-02-29", None),
            ("24-02-29", None),
            ("2024-02-29-1", None),
            ("2024-02-2x", None),
            ("", None),
        ] {
            assert_eq!(day(text), want, "{text}");
        }
        let ten = 19_782 * MICROS_A_DAY + 36_000_000_000;
        for (text, want) in [
            ("2024-02-29 10:00", Some(ten)),
            ("2024-02-29T10:00:00Z", Some(ten)),
            ("2024-02-29 11:00:00.5+01:00", Some(ten + 500_000)),
            ("2024-02-29 10:0:0 UTC", Some(ten)),
            ("2024-02-29", Some(ten - 36_000_000_000)),
            ("2024-02-29 25:00", None),
            ("2024-02-29 10:00 Europe/Berlin", None),
            ("nothing", None),
        ] {
            assert_eq!(moment(text), want, "{text}");
        }
    }
}
