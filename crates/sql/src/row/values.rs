//! Values that SQL has and the language has not: days, and decimal numbers.

use std::fmt;
use std::str::FromStr;

use millstream_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// A day, without a time of day: the number of days since 1 January 1970.
///
/// # Example
///
/// ```
/// use millstream_sql::Date;
///
/// let day: Date = "2024-02-29".parse()?;
/// assert_eq!(day.days(), 19782);
/// assert_eq!(day.to_string(), "2024-02-29");
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `DateType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Date(i32);

impl Date {
    /// Makes the day that many days after 1 January 1970, or before.
    pub fn from_days(days: i32) -> Date {
        Date(days)
    }

    /// Returns the number of days since 1 January 1970.
    pub fn days(self) -> i32 {
        self.0
    }

    /// Makes a day of year, month and day of the month, if there is such a day.
    pub fn from_ymd(year: i32, month: u32, day: u32) -> Option<Date> {
        let date = Date(days_of(year, month, day)?);
        (date.ymd() == (year, month, day)).then_some(date)
    }

    /// Returns year, month and day of the month.
    pub fn ymd(self) -> (i32, u32, u32) {
        // Years are counted from March, so that the leap day is the last of its year; an era is 400 of them.
        let days = i64::from(self.0) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let of_year = day - (365 * year + year / 4 - year / 100);
        let shifted = (5 * of_year + 2) / 153;
        let of_month = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        (year as i32, month as u32, of_month as u32)
    }
}

fn days_of(year: i32, month: u32, day: u32) -> Option<i32> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = i64::from(year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    i32::try_from(days).ok()
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Date {
    type Err = Error;

    fn from_str(text: &str) -> Result<Date, Error> {
        let parts: Vec<&str> = text.split('-').collect();
        let date = match parts[..] {
            [year, month, day] => (|| Date::from_ymd(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?))(),
            _ => None,
        };
        date.ok_or_else(|| Error::new(ErrorKind::Data, format!("a day is written as `2024-02-29`, not `{text}`")))
    }
}

/// A decimal number of up to `P` digits, `S` of them behind the point: what money is counted in.
///
/// It is held as a whole number of its smallest unit.
///
/// # Example
///
/// ```
/// use millstream_sql::Decimal;
///
/// let price: Decimal<10, 2> = "19.90".parse()?;
/// assert_eq!(price.units(), 1990);
/// assert_eq!(price.to_string(), "19.90");
/// assert!("19.905".parse::<Decimal<10, 2>>().is_err());
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `DecimalType(P, S)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Decimal<const P: u8, const S: i8>(i128);

impl<const P: u8, const S: i8> Decimal<P, S> {
    /// Makes the number of that many units of the last digit.
    pub fn from_units(units: i128) -> Decimal<P, S> {
        Decimal(units)
    }

    /// Returns the number in units of its last digit.
    pub fn units(self) -> i128 {
        self.0
    }
}

impl<const P: u8, const S: i8> fmt::Display for Decimal<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = usize::try_from(S).unwrap_or(0);
        let digits = format!("{:0>width$}", self.0.unsigned_abs(), width = behind + 1);
        let (whole, rest) = digits.split_at(digits.len() - behind);
        let (sign, point) = (if self.0 < 0 { "-" } else { "" }, if behind > 0 { "." } else { "" });
        write!(f, "{sign}{whole}{point}{rest}")
    }
}

impl<const P: u8, const S: i8> FromStr for Decimal<P, S> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Decimal<P, S>, Error> {
        let behind = usize::try_from(S).unwrap_or(0);
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
        let all: String = [whole, rest].concat();
        let plain = !all.is_empty() && all.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= behind;
        let fits = all.trim_start_matches('0').len() + behind - rest.len().min(behind) <= usize::from(P);
        let number = (plain && fits).then(|| format!("{all}{}", "0".repeat(behind - rest.len())).parse::<i128>().ok());
        match number.flatten() {
            Some(units) => Ok(Decimal(sign * units)),
            None => Err(Error::new(
                ErrorKind::Data,
                format!("`{text}` is not a decimal number of {P} digits with {S} behind the point"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1969-12-31", -1),
            ("2000-02-29", 11016),
            ("2000-03-01", 11017),
            ("1900-02-28", -25509),
            ("0001-01-01", -719_162),
            ("9999-12-31", 2_932_896),
        ] {
            let date: Date = text.parse().unwrap();
            assert_eq!((date.days(), date.to_string().as_str()), (days, text));
        }
        for text in ["1900-02-29", "2024-13-01", "2024-00-01", "2024-04-31", "2024-1", "x", ""] {
            assert!(text.parse::<Date>().is_err(), "{text}");
        }
        let mut before = Date::from_days(-800_000);
        for days in -799_999..10_000 {
            let date = Date::from_days(days);
            let (year, month, day) = date.ymd();
            assert_eq!(Date::from_ymd(year, month, day), Some(date));
            assert!(date.ymd() > before.ymd());
            before = date;
        }
    }

    #[test]
    fn decimals_are_read_and_written_to_the_last_digit() {
        for (text, units, written) in [
            ("0", 0, "0.00"),
            ("-0.05", -5, "-0.05"),
            ("1.5", 150, "1.50"),
            ("999.99", 99999, "999.99"),
            ("000001", 100, "1.00"),
        ] {
            let number: Decimal<5, 2> = text.parse().unwrap();
            assert_eq!((number.units(), number.to_string().as_str()), (units, written), "{text}");
        }
        for text in ["1000", "1.234", "", "-", ".", "1e3", "1.2.3", "+1"] {
            assert!(text.parse::<Decimal<5, 2>>().is_err(), "{text}");
        }
        assert_eq!(Decimal::<5, 0>::from_units(-12).to_string(), "-12");
    }
}
