//! Functions of days and moments, with Spark's names and its patterns.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Field, Fields, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::Result;
use millstream_core::ErrorKind;

use super::patterns::Pattern;
use super::texts::{Takes, wrong};
use super::typed::Typed;
use crate::row::Date;

const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const MICROS_A_DAY: i64 = 86_400_000_000;
/// How `from_unixtime` and `unix_timestamp` write and read, if nobody says.
const STANDARD: &str = "yyyy-MM-dd HH:mm:ss";

/// The functions of this file.
pub(super) static DAYS: [Typed; 24] = [
    Typed {
        name: "add_months",
        says: "a day and how many months",
        takes: |types| fits(types, &[Takes::Day, Takes::Whole], 0),
        gives: |_| DataType::Date32,
        compute: |c| days(c, shifted),
    },
    Typed {
        name: "date_add",
        says: "a day and how many days",
        takes: |types| fits(types, &[Takes::Day, Takes::Whole], 0),
        gives: |_| DataType::Date32,
        compute: |c| days(c, |day, more| i32::try_from(i64::from(day).checked_add(more)?).ok()),
    },
    Typed {
        name: "date_sub",
        says: "a day and how many days",
        takes: |types| fits(types, &[Takes::Day, Takes::Whole], 0),
        gives: |_| DataType::Date32,
        compute: |c| days(c, |day, less| i32::try_from(i64::from(day).checked_sub(less)?).ok()),
    },
    Typed {
        name: "last_day",
        says: "a day",
        takes: |types| fits(types, &[Takes::Day], 0),
        gives: |_| DataType::Date32,
        compute: |c| {
            let last = |day: i32| {
                let (year, month, _) = Date::from_days(day).ymd();
                shifted(Date::from_ymd(year, month, 1)?.days(), 1).map(|next| next - 1)
            };
            Ok(Arc::new(
                c[0].as_primitive::<Date32Type>().iter().map(|day| day.and_then(last)).collect::<Date32Array>(),
            ))
        },
    },
    Typed {
        name: "next_day",
        says: "a day and a day of the week",
        takes: |types| fits(types, &[Takes::Day, Takes::Text], 0),
        gives: |_| DataType::Date32,
        compute: next_day,
    },
    Typed {
        name: "weekday",
        says: "a day",
        takes: |types| fits(types, &[Takes::Day], 0),
        gives: |_| DataType::Int32,
        compute: |c| {
            let monday = |day: i32| (i64::from(day) + 3).rem_euclid(7) as i32;
            Ok(Arc::new(c[0].as_primitive::<Date32Type>().iter().map(|day| day.map(monday)).collect::<Int32Array>()))
        },
    },
    Typed {
        name: "make_date",
        says: "year, month and day",
        takes: |types| fits(types, &[Takes::Whole, Takes::Whole, Takes::Whole], 0),
        gives: |_| DataType::Date32,
        compute: make_date,
    },
    Typed {
        name: "make_timestamp",
        says: "year, month, day, hour, minute and seconds",
        takes: |types| {
            let (whole, seconds) = (types.get(..5)?, types.get(5).filter(|_| types.len() == 6)?);
            let mut types = fits(whole, &[Takes::Whole; 5], 0)?;
            types.push((seconds.is_numeric() || seconds.is_null()).then_some(DataType::Float64)?);
            Some(types)
        },
        gives: |_| MICROS,
        compute: make_timestamp,
    },
    Typed {
        name: "months_between",
        says: "two moments",
        takes: |types| fits(types, &[Takes::Moment, Takes::Moment], 0),
        gives: |_| DataType::Float64,
        compute: |c| {
            let (ends, starts) = (c[0].as_primitive::<TimestampMicrosecondType>(), c[1].as_primitive());
            let pairs = ends.iter().zip(starts as &TimestampMicrosecondArray);
            Ok(Arc::new(pairs.map(|(end, start)| Some(months(end?, start?))).collect::<Float64Array>()))
        },
    },
    Typed {
        name: "units_between",
        says: "a unit and two moments",
        takes: |types| fits(types, &[Takes::Text, Takes::Moment, Takes::Moment], 0),
        gives: |_| DataType::Int64,
        compute: units_between,
    },
    Typed {
        name: "units_added",
        says: "a unit, how many, and a moment",
        takes: |types| fits(types, &[Takes::Text, Takes::Whole, Takes::Moment], 0),
        gives: |_| MICROS,
        compute: units_added,
    },
    Typed {
        name: "timestamp_seconds",
        says: "a number of seconds",
        takes: |types| match types {
            [of] if of.is_integer() || of.is_null() => Some(vec![DataType::Int64]),
            [of] if of.is_floating() => Some(vec![DataType::Float64]),
            _ => None,
        },
        gives: |_| MICROS,
        compute: |c| match c[0].data_type() {
            DataType::Float64 => {
                let micros = |seconds: f64| (seconds * 1e6).round() as i64;
                let times = c[0].as_primitive::<Float64Type>().iter().map(|seconds| seconds.map(micros));
                Ok(Arc::new(times.collect::<TimestampMicrosecondArray>()))
            }
            _ => scaled(&c[0], 1_000_000),
        },
    },
    Typed {
        name: "timestamp_millis",
        says: "a number of milliseconds",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| MICROS,
        compute: |c| scaled(&c[0], 1_000),
    },
    Typed {
        name: "timestamp_micros",
        says: "a number of microseconds",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| MICROS,
        compute: |c| scaled(&c[0], 1),
    },
    Typed {
        name: "unix_millis",
        says: "a moment",
        takes: |types| fits(types, &[Takes::Moment], 0),
        gives: |_| DataType::Int64,
        compute: |c| units_since(c, 1_000),
    },
    Typed {
        name: "unix_seconds",
        says: "a moment",
        takes: |types| fits(types, &[Takes::Moment], 0),
        gives: |_| DataType::Int64,
        compute: |c| units_since(c, 1_000_000),
    },
    Typed {
        name: "unix_date",
        says: "a day",
        takes: |types| fits(types, &[Takes::Day], 0),
        gives: |_| DataType::Int32,
        compute: |c| Ok(Arc::new(c[0].as_primitive::<Date32Type>().iter().collect::<Int32Array>())),
    },
    Typed {
        name: "date_from_unix_date",
        says: "a number of days",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| DataType::Date32,
        compute: |c| days(&[zeros(&c[0]), Arc::clone(&c[0])], |_, days| i32::try_from(days).ok()),
    },
    Typed {
        name: "to_date",
        says: "a text or a time, and a pattern of it",
        takes: |types| fits(types, &[Takes::Day], 0).or_else(|| fits(types, &[Takes::Text; 2], 0)),
        gives: |_| DataType::Date32,
        compute: |c| {
            if c.len() == 1 {
                return Ok(Arc::clone(&c[0]));
            }
            let days =
                parsed(c, "to_date", None)?.into_iter().map(|at| at.map(|at| at.div_euclid(MICROS_A_DAY) as i32));
            Ok(Arc::new(days.collect::<Date32Array>()))
        },
    },
    Typed {
        name: "to_timestamp",
        says: "a text or a time, and a pattern of it",
        takes: |types| fits(types, &[Takes::Moment], 0).or_else(|| fits(types, &[Takes::Text; 2], 0)),
        gives: |_| MICROS,
        compute: |c| match c.len() {
            1 => Ok(Arc::clone(&c[0])),
            _ => Ok(Arc::new(TimestampMicrosecondArray::from(parsed(c, "to_timestamp", None)?))),
        },
    },
    Typed {
        name: "unix_timestamp",
        says: "a time, or a text and its pattern",
        takes: |types| match types {
            [text] if text.is_string() => Some(vec![DataType::Utf8]),
            [_] => fits(types, &[Takes::Moment], 0),
            _ => fits(types, &[Takes::Text; 2], 0),
        },
        gives: |_| DataType::Int64,
        compute: |c| {
            let times: Vec<Option<i64>> = match c[0].data_type() {
                DataType::Utf8 => parsed(c, "unix_timestamp", Some(STANDARD))?,
                _ => c[0].as_primitive::<TimestampMicrosecondType>().iter().collect(),
            };
            let seconds = times.into_iter().map(|at| at.map(|at| at.div_euclid(1_000_000)));
            Ok(Arc::new(seconds.collect::<Int64Array>()))
        },
    },
    Typed {
        name: "date_format",
        says: "a time and a pattern",
        takes: |types| fits(types, &[Takes::Moment, Takes::Text], 0),
        gives: |_| DataType::Utf8,
        compute: |c| written(c[0].as_primitive::<TimestampMicrosecondType>().iter(), c.get(1)),
    },
    Typed {
        name: "from_unixtime",
        says: "a number of seconds and a pattern",
        takes: |types| fits(types, &[Takes::Whole, Takes::Text], 1),
        gives: |_| DataType::Utf8,
        compute: |c| {
            let seconds = c[0].as_primitive::<Int64Type>();
            written(seconds.iter().map(|seconds| seconds?.checked_mul(1_000_000)), c.get(1))
        },
    },
    Typed {
        name: "time_window",
        says: "a time and a length as '5 minutes'",
        takes: |types| fits(types, &[Takes::Moment, Takes::Text], 0),
        gives: |_| DataType::Struct(window_fields()),
        compute: window,
    },
];

/// `trunc`, of days, and `date_trunc`, of moments.
pub(super) static CUT: [Typed; 2] = [
    Typed {
        name: "trunc",
        says: "a day and a unit",
        takes: |types| fits(types, &[Takes::Day, Takes::Text], 0),
        gives: |_| DataType::Date32,
        compute: |c| {
            let units = c[1].as_string::<i32>();
            let days = c[0].as_primitive::<Date32Type>().iter().zip(units).map(|(day, unit)| {
                let unit = cut(unit?).filter(|cut| *cut >= Cut::Week)?;
                Some(cut_at(i64::from(day?) * MICROS_A_DAY, unit)?.div_euclid(MICROS_A_DAY) as i32)
            });
            Ok(Arc::new(days.collect::<Date32Array>()))
        },
    },
    Typed {
        name: "date_trunc",
        says: "a unit and a moment",
        takes: |types| fits(types, &[Takes::Text, Takes::Moment], 0),
        gives: |_| MICROS,
        compute: |c| {
            let units = c[0].as_string::<i32>();
            let times = c[1].as_primitive::<TimestampMicrosecondType>().iter().zip(units);
            let times = times.map(|(time, unit)| cut_at(time?, cut(unit?)?));
            Ok(Arc::new(times.collect::<TimestampMicrosecondArray>()))
        },
    },
];

/// The types as which these are taken; so many of the last may be left out.
pub(super) fn fits(types: &[DataType], takes: &[Takes], optional: usize) -> Option<Vec<DataType>> {
    let count = types.len() <= takes.len() && types.len() + optional >= takes.len();
    let types = types.iter().zip(takes).map(|(given, takes)| takes.of(given));
    if count { types.collect() } else { None }
}

fn zeros(like: &ArrayRef) -> ArrayRef {
    Arc::new(Date32Array::from(vec![0; like.len()]))
}

/// A day that is made of a day and a number; what is no day is an error.
fn days(columns: &[ArrayRef], of: fn(i32, i64) -> Option<i32>) -> Result<ArrayRef> {
    let (days, numbers) = (columns[0].as_primitive::<Date32Type>(), columns[1].as_primitive::<Int64Type>());
    let mut out = Vec::with_capacity(days.len());
    for (day, number) in days.iter().zip(numbers) {
        out.push(match (day, number) {
            (Some(day), Some(number)) => Some(of(day, number).ok_or_else(|| {
                wrong(ErrorKind::Data, format!("{number} from {} is no day: it is too far away", Date::from_days(day)))
            })?),
            _ => None,
        });
    }
    Ok(Arc::new(Date32Array::from(out)))
}

/// The day so many months later; the last of the month where there is no such day.
fn shifted(day: i32, months: i64) -> Option<i32> {
    let (year, month, of_month) = Date::from_days(day).ymd();
    let month = i64::from(year).checked_mul(12)?.checked_add(i64::from(month) - 1)?.checked_add(months)?;
    let (year, month) = (i32::try_from(month.div_euclid(12)).ok()?, month.rem_euclid(12) as u32 + 1);
    (0..4).find_map(|less| Date::from_ymd(year, month, of_month.checked_sub(less)?)).map(Date::days)
}

fn next_day(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (days, names) = (columns[0].as_primitive::<Date32Type>(), columns[1].as_string::<i32>());
    let mut out = Vec::with_capacity(days.len());
    for (day, name) in days.iter().zip(names) {
        let (Some(day), Some(name)) = (day, name) else {
            out.push(None);
            continue;
        };
        let wanted = match &*name.to_lowercase() {
            "th" | "thu" | "thursday" => 0,
            "fr" | "fri" | "friday" => 1,
            "sa" | "sat" | "saturday" => 2,
            "su" | "sun" | "sunday" => 3,
            "mo" | "mon" | "monday" => 4,
            "tu" | "tue" | "tuesday" => 5,
            "we" | "wed" | "wednesday" => 6,
            _ => return Err(wrong(ErrorKind::Data, format!("`{name}` is no day of the week: write MON or Monday"))),
        };
        out.push(Some(day + 1 + (wanted - (day + 1)).rem_euclid(7)));
    }
    Ok(Arc::new(Date32Array::from(out)))
}

fn day_of(year: i64, month: i64, day: i64) -> Result<i32> {
    let date = i32::try_from(year).ok().zip(u32::try_from(month).ok().zip(u32::try_from(day).ok()));
    let date = date.and_then(|(year, (month, day))| Date::from_ymd(year, month, day));
    date.map(Date::days).ok_or_else(|| wrong(ErrorKind::Data, format!("there is no day {year}-{month}-{day}")))
}

fn make_date(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let [years, months, days] = [0, 1, 2].map(|at| columns[at].as_primitive::<Int64Type>());
    let parts = years.iter().zip(months).zip(days).map(|((year, month), day)| match (year, month, day) {
        (Some(year), Some(month), Some(day)) => day_of(year, month, day).map(Some),
        _ => Ok(None),
    });
    Ok(Arc::new(Date32Array::from(parts.collect::<Result<Vec<_>>>()?)))
}

fn make_timestamp(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let whole = |at: usize| columns[at].as_primitive::<Int64Type>();
    let seconds = columns[5].as_primitive::<Float64Type>();
    let mut out = Vec::with_capacity(seconds.len());
    for row in 0..seconds.len() {
        if columns.iter().any(|column| column.is_null(row)) {
            out.push(None);
            continue;
        }
        let day = day_of(whole(0).value(row), whole(1).value(row), whole(2).value(row))?;
        let (hour, minute, second) = (whole(3).value(row), whole(4).value(row), seconds.value(row));
        if !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0.0..60.0).contains(&second) {
            return Err(wrong(ErrorKind::Data, format!("there is no time of day {hour}:{minute}:{second}")));
        }
        let of_day = (hour * 60 + minute) * 60_000_000 + (second * 1e6).round() as i64;
        out.push(Some(i64::from(day) * MICROS_A_DAY + of_day));
    }
    Ok(Arc::new(TimestampMicrosecondArray::from(out)))
}

fn months(end: i64, start: i64) -> f64 {
    let parts = |at: i64| {
        let (day, rest) = (at.div_euclid(MICROS_A_DAY) as i32, at.rem_euclid(MICROS_A_DAY));
        let (year, month, of_month) = Date::from_days(day).ymd();
        let last = shifted(day - of_month as i32 + 1, 1).is_some_and(|next| next - 1 == day);
        (i64::from(year) * 12 + i64::from(month), i64::from(of_month), rest / 1_000_000, last)
    };
    let ((end, end_day, end_second, end_last), (start, start_day, start_second, start_last)) =
        (parts(end), parts(start));
    let whole = (end - start) as f64;
    if end_day == start_day || (end_last && start_last) {
        return whole;
    }
    let seconds = (end_day - start_day) * 86_400 + end_second - start_second;
    ((whole + seconds as f64 / (31.0 * 86_400.0)) * 1e8).round() / 1e8
}

fn scaled(column: &ArrayRef, by: i64) -> Result<ArrayRef> {
    let mut times = Vec::with_capacity(column.len());
    for number in column.as_primitive::<Int64Type>() {
        let far = |number: i64| wrong(ErrorKind::Data, format!("{number} is no TIMESTAMP: it is too far away"));
        times.push(number.map(|number| number.checked_mul(by).ok_or_else(|| far(number))).transpose()?);
    }
    Ok(Arc::new(TimestampMicrosecondArray::from(times)))
}

fn units_since(columns: &[ArrayRef], unit: i64) -> Result<ArrayRef> {
    let times = columns[0].as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(times.iter().map(|at| at.map(|at| at.div_euclid(unit))).collect::<Int64Array>()))
}

/// How long a unit is, in microseconds, or in months.
enum Unit {
    Micros(i64),
    Months(i64),
}

fn unit(name: &str) -> Result<Unit> {
    Ok(match name.trim_end_matches('s') {
        "microsecond" => Unit::Micros(1),
        "millisecond" => Unit::Micros(1_000),
        "second" => Unit::Micros(1_000_000),
        "minute" => Unit::Micros(60_000_000),
        "hour" => Unit::Micros(3_600_000_000),
        "day" | "dayofyear" => Unit::Micros(MICROS_A_DAY),
        "week" => Unit::Micros(7 * MICROS_A_DAY),
        "month" => Unit::Months(1),
        "quarter" => Unit::Months(3),
        "year" => Unit::Months(12),
        _ => return Err(wrong(ErrorKind::Config, format!("`{name}` is no unit of time: write DAY, HOUR or the like"))),
    })
}

/// A moment so many months later, at the same time of day.
fn moved(at: i64, months: i64) -> Option<i64> {
    let day = i32::try_from(at.div_euclid(MICROS_A_DAY)).ok()?;
    i64::from(shifted(day, months)?).checked_mul(MICROS_A_DAY)?.checked_add(at.rem_euclid(MICROS_A_DAY))
}

/// How many whole months there are between two moments.
fn whole_months(start: i64, end: i64) -> i64 {
    let month = |at: i64| {
        let (year, month, _) = Date::from_days(at.div_euclid(MICROS_A_DAY) as i32).ymd();
        i64::from(year) * 12 + i64::from(month)
    };
    let of_month = |at: i64| {
        let (_, _, day) = Date::from_days(at.div_euclid(MICROS_A_DAY) as i32).ymd();
        (day, at.rem_euclid(MICROS_A_DAY))
    };
    let months = month(end) - month(start);
    match months {
        1.. if of_month(end) < of_month(start) => months - 1,
        ..=-1 if of_month(end) > of_month(start) => months + 1,
        _ => months,
    }
}

fn units_between(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let units = columns[0].as_string::<i32>();
    let [starts, ends] = [1, 2].map(|at| columns[at].as_primitive::<TimestampMicrosecondType>());
    let mut out = Vec::with_capacity(units.len());
    for ((name, start), end) in units.iter().zip(starts).zip(ends) {
        out.push(match (name, start, end) {
            (Some(name), Some(start), Some(end)) => Some(match unit(name)? {
                Unit::Micros(length) => end.saturating_sub(start) / length,
                Unit::Months(length) => whole_months(start, end) / length,
            }),
            _ => None,
        });
    }
    Ok(Arc::new(Int64Array::from(out)))
}

fn units_added(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (units, counts) = (columns[0].as_string::<i32>(), columns[1].as_primitive::<Int64Type>());
    let times = columns[2].as_primitive::<TimestampMicrosecondType>();
    let mut out = Vec::with_capacity(units.len());
    for ((name, count), at) in units.iter().zip(counts).zip(times) {
        let (Some(name), Some(count), Some(at)) = (name, count, at) else {
            out.push(None);
            continue;
        };
        let moved = match unit(name)? {
            Unit::Micros(length) => count.checked_mul(length).and_then(|more| at.checked_add(more)),
            Unit::Months(length) => count.checked_mul(length).and_then(|more| moved(at, more)),
        };
        let far = || wrong(ErrorKind::Data, format!("{count} {name} later is no TIMESTAMP: it is too far away"));
        out.push(Some(moved.ok_or_else(far)?));
    }
    Ok(Arc::new(TimestampMicrosecondArray::from(out)))
}

/// The moments that texts say by a pattern, which is the second column or the standard one.
fn parsed(columns: &[ArrayRef], name: &str, standard: Option<&str>) -> Result<Vec<Option<i64>>> {
    let texts = columns[0].as_string::<i32>();
    let mut last: Option<(String, Pattern)> = None;
    let mut out = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        let pattern = match columns.get(1) {
            Some(patterns) => patterns.is_valid(row).then(|| patterns.as_string::<i32>().value(row)),
            None => standard,
        };
        let Some(pattern) = pattern.filter(|_| texts.is_valid(row)) else {
            out.push(None);
            continue;
        };
        let read = read_once(&mut last, pattern)?;
        let text = texts.value(row);
        let at = read
            .parsed(text)
            .ok_or_else(|| wrong(ErrorKind::Data, format!("{name}: `{text}` is not as the pattern `{pattern}` says")));
        out.push(Some(at?));
    }
    Ok(out)
}

/// A pattern is read once for all rows that follow each other with it.
fn read_once<'a>(last: &'a mut Option<(String, Pattern)>, pattern: &str) -> Result<&'a Pattern> {
    if last.as_ref().is_none_or(|(text, _)| text != pattern) {
        let read = Pattern::read(pattern).map_err(|text| wrong(ErrorKind::Config, text))?;
        *last = Some((pattern.to_owned(), read));
    }
    match last {
        Some((_, read)) => Ok(read),
        None => Err(wrong(ErrorKind::Internal, "a pattern that was read is gone".to_owned())),
    }
}

fn written(times: impl Iterator<Item = Option<i64>>, patterns: Option<&ArrayRef>) -> Result<ArrayRef> {
    let mut last = None;
    let mut out = Vec::new();
    for (row, at) in times.enumerate() {
        let pattern = match patterns {
            Some(patterns) => patterns.is_valid(row).then(|| patterns.as_string::<i32>().value(row)),
            None => Some(STANDARD),
        };
        out.push(match (at, pattern) {
            (Some(at), Some(pattern)) => Some(read_once(&mut last, pattern)?.written(at)),
            _ => None,
        });
    }
    Ok(Arc::new(StringArray::from(out)))
}

/// What a time is cut down to.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Cut {
    Micros(i64),
    Week,
    Month,
    Quarter,
    Year,
}

fn cut(unit: &str) -> Option<Cut> {
    Some(match &*unit.to_lowercase() {
        "microsecond" => Cut::Micros(1),
        "millisecond" => Cut::Micros(1_000),
        "second" => Cut::Micros(1_000_000),
        "minute" => Cut::Micros(60_000_000),
        "hour" => Cut::Micros(3_600_000_000),
        "day" | "dd" => Cut::Micros(MICROS_A_DAY),
        "week" => Cut::Week,
        "month" | "mon" | "mm" => Cut::Month,
        "quarter" => Cut::Quarter,
        "year" | "yyyy" | "yy" => Cut::Year,
        _ => return None,
    })
}

fn cut_at(at: i64, to: Cut) -> Option<i64> {
    let day = at.div_euclid(MICROS_A_DAY) as i32;
    let (year, month, _) = Date::from_days(day).ymd();
    let first = match to {
        Cut::Micros(length) => return Some(at - at.rem_euclid(length)),
        // The day 0 was a Thursday.
        Cut::Week => day - (i64::from(day) + 3).rem_euclid(7) as i32,
        Cut::Month => Date::from_ymd(year, month, 1)?.days(),
        Cut::Quarter => Date::from_ymd(year, (month - 1) / 3 * 3 + 1, 1)?.days(),
        Cut::Year => Date::from_ymd(year, 1, 1)?.days(),
    };
    Some(i64::from(first) * MICROS_A_DAY)
}

fn window_fields() -> Fields {
    Fields::from(vec![Field::new("start", MICROS, true), Field::new("end", MICROS, true)])
}

/// The window of time in which each moment is: windows follow each other from the begin of 1970 on.
fn window(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (times, lengths) = (columns[0].as_primitive::<TimestampMicrosecondType>(), columns[1].as_string::<i32>());
    let (mut starts, mut ends) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
    for (at, length) in times.iter().zip(lengths) {
        let length = length.map(length_of).transpose()?;
        let start = at.zip(length).map(|(at, length)| at - at.rem_euclid(length));
        starts.push(start);
        ends.push(start.zip(length).map(|(start, length)| start + length));
    }
    let nulls = starts.iter().map(Option::is_some).collect::<Vec<bool>>().into();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(TimestampMicrosecondArray::from(starts)), Arc::new(TimestampMicrosecondArray::from(ends))];
    Ok(Arc::new(StructArray::try_new(window_fields(), columns, Some(nulls))?))
}

/// A length as `5 minutes`, in microseconds.
fn length_of(text: &str) -> Result<i64> {
    let told = || {
        let text = format!("`{text}` is no length of a window: write a number and a unit, as '5 minutes'");
        wrong(ErrorKind::Config, text)
    };
    let (count, name) = text.trim().split_once(' ').ok_or_else(told)?;
    let count: i64 = count.parse().map_err(|_| told())?;
    match unit(&name.trim().to_lowercase())? {
        Unit::Micros(length) => count.checked_mul(length).filter(|length| *length > 0).ok_or_else(told),
        Unit::Months(_) => Err(told()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days_of(text: &str) -> i32 {
        text.parse::<Date>().unwrap().days()
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (day, more, want) in [
            ("2024-01-31", 1, "2024-02-29"),
            ("2023-01-31", 1, "2023-02-28"),
            ("2024-02-29", 12, "2025-02-28"),
            ("2024-03-31", -1, "2024-02-29"),
            ("2024-01-15", -13, "2022-12-15"),
        ] {
            assert_eq!(shifted(days_of(day), more), Some(days_of(want)), "{day} {more}");
        }
        assert_eq!(shifted(0, i64::MAX), None);
        let at = |day: &str| i64::from(days_of(day)) * MICROS_A_DAY;
        assert_eq!(months(at("2024-03-31"), at("2024-02-29")), 1.0);
        assert_eq!(months(at("2024-03-15"), at("2024-02-29")), 0.5483871);
        for (start, end, want) in [
            ("2024-01-31", "2024-02-29", 0),
            ("2024-01-29", "2024-02-29", 1),
            ("2024-02-29", "2024-01-29", -1),
            ("2024-02-29", "2024-01-30", 0),
        ] {
            assert_eq!(whole_months(at(start), at(end)), want, "{start} {end}");
        }
    }

    #[test]
    fn times_are_cut_to_the_begin_of_their_unit() {
        let at = i64::from(days_of("2024-05-30")) * MICROS_A_DAY + 37_000_000_001;
        for (unit, want) in [
            ("WEEK", "2024-05-27"),
            ("mon", "2024-05-01"),
            ("quarter", "2024-04-01"),
            ("yyyy", "2024-01-01"),
            ("DD", "2024-05-30"),
        ] {
            assert_eq!(cut_at(at, cut(unit).unwrap()), Some(i64::from(days_of(want)) * MICROS_A_DAY), "{unit}");
        }
        assert_eq!(cut_at(at, Cut::Micros(1_000_000)), Some(at - 1));
        assert!(cut("century").is_none());
        assert!(length_of("5 minutes").is_ok_and(|length| length == 300_000_000));
        for text in ["5", "minutes", "0 seconds", "1 month", "1 fortnight"] {
            assert!(length_of(text).is_err(), "{text}");
        }
    }
}
