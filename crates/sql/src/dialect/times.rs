//! Parts of days and times by functions of their own, as `year(day)`: Spark has them beside `extract`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::compute::{DatePart, date_part};
use datafusion::arrow::datatypes::DataType;

use super::texts::{Plain, Takes};

/// The functions of this file.
pub(super) static PARTS: [Plain; 9] = [
    of_day("year", &[], |columns| part(columns, DatePart::Year)),
    of_day("quarter", &[], |columns| part(columns, DatePart::Quarter)),
    of_day("month", &[], |columns| part(columns, DatePart::Month)),
    of_day("weekofyear", &[], |columns| part(columns, DatePart::Week)),
    of_day("day", &["dayofmonth"], |columns| part(columns, DatePart::Day)),
    of_day("dayofyear", &[], |columns| part(columns, DatePart::DayOfYear)),
    of_moment("hour", |columns| part(columns, DatePart::Hour)),
    of_moment("minute", |columns| part(columns, DatePart::Minute)),
    of_moment("second", |columns| part(columns, DatePart::Second)),
];

const fn of_day(name: &'static str, aliases: &'static [&'static str], compute: fn(&[ArrayRef]) -> ArrayRef) -> Plain {
    Plain { name, aliases, takes: &[Takes::Day], optional: 0, gives: DataType::Int32, compute }
}

const fn of_moment(name: &'static str, compute: fn(&[ArrayRef]) -> ArrayRef) -> Plain {
    Plain { name, aliases: &[], takes: &[Takes::Moment], optional: 0, gives: DataType::Int32, compute }
}

fn part(columns: &[ArrayRef], part: DatePart) -> ArrayRef {
    // Days and moments have all of these parts.
    date_part(&*columns[0], part).unwrap_or_else(|_| Arc::new(new_null_array(&DataType::Int32, columns[0].len())))
}
