//! Functions of numbers that mean what Spark means by them.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringArray,
};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};
use datafusion::common::Result;
use millstream_core::ErrorKind;

use super::days::fits;
use super::texts::{Takes, wrong};
use super::typed::{Typed, is_whole};

/// The functions of this file.
pub(super) static NUMBERS: [Typed; 27] = [
    Typed { name: "pmod", says: "two numbers", takes: two_numbers, gives: first, compute: pmod },
    Typed {
        name: "checked_shiftleft",
        says: "a whole number and how many places",
        takes: shifted,
        gives: first,
        compute: |c| shift(c, |v, n| v.wrapping_shl(n), |v, n| v.wrapping_shl(n)),
    },
    Typed {
        name: "checked_shiftright",
        says: "a whole number and how many places",
        takes: shifted,
        gives: first,
        compute: |c| shift(c, |v, n| v.wrapping_shr(n), |v, n| v.wrapping_shr(n)),
    },
    Typed {
        name: "checked_shiftrightunsigned",
        says: "a whole number and how many places",
        takes: shifted,
        gives: first,
        compute: |c| shift(c, |v, n| (v as u32).wrapping_shr(n) as i32, |v, n| (v as u64).wrapping_shr(n) as i64),
    },
    Typed {
        name: "checked_try_add",
        says: "two numbers",
        takes: two_numbers,
        gives: first,
        compute: |c| tried(c, i64::checked_add, |a, b| a + b),
    },
    Typed {
        name: "checked_try_subtract",
        says: "two numbers",
        takes: two_numbers,
        gives: first,
        compute: |c| tried(c, i64::checked_sub, |a, b| a - b),
    },
    Typed {
        name: "checked_try_multiply",
        says: "two numbers",
        takes: two_numbers,
        gives: first,
        compute: |c| tried(c, i64::checked_mul, |a, b| a * b),
    },
    Typed {
        name: "sqrt",
        says: "a number",
        takes: one_double,
        gives: double,
        compute: |c| each(c, |v| Some(v.sqrt())),
    },
    Typed { name: "ln", says: "a number", takes: one_double, gives: double, compute: |c| above(c, 0.0, f64::ln) },
    Typed { name: "log2", says: "a number", takes: one_double, gives: double, compute: |c| above(c, 0.0, f64::log2) },
    Typed { name: "log10", says: "a number", takes: one_double, gives: double, compute: |c| above(c, 0.0, f64::log10) },
    Typed {
        name: "log1p",
        says: "a number",
        takes: one_double,
        gives: double,
        compute: |c| above(c, -1.0, f64::ln_1p),
    },
    Typed {
        name: "expm1",
        says: "a number",
        takes: one_double,
        gives: double,
        compute: |c| above(c, f64::NEG_INFINITY, f64::exp_m1),
    },
    Typed {
        name: "log",
        says: "a number, or a base and a number",
        takes: |types| match types {
            [_] => one_double(types),
            [_, _] if types.iter().all(|of| of.is_numeric() || of.is_null()) => Some(vec![DataType::Float64; 2]),
            _ => None,
        },
        gives: double,
        compute: log,
    },
    Typed { name: "ceil", says: "a number", takes: one_number, gives: whole_of, compute: |c| to_whole(&c[0], true) },
    Typed { name: "floor", says: "a number", takes: one_number, gives: whole_of, compute: |c| to_whole(&c[0], false) },
    Typed {
        name: "bround",
        says: "a number and how many digits",
        takes: rounds,
        gives: rounded_type,
        compute: |c| round(c, true),
    },
    Typed {
        name: "round",
        says: "a number and how many digits",
        takes: rounds,
        gives: rounded_type,
        compute: |c| round(c, false),
    },
    Typed {
        name: "factorial",
        says: "a whole number",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| DataType::Int64,
        compute: |c| {
            let factorial = |n: i64| (0..=20).contains(&n).then(|| (1..=n).product::<i64>());
            Ok(Arc::new(c[0].as_primitive::<Int64Type>().iter().map(|n| n.and_then(factorial)).collect::<Int64Array>()))
        },
    },
    Typed {
        name: "bin",
        says: "a whole number",
        takes: |types| fits(types, &[Takes::Whole], 0),
        gives: |_| DataType::Utf8,
        compute: |c| Ok(texts(c[0].as_primitive::<Int64Type>().iter().map(|n| n.map(|n| format!("{n:b}"))))),
    },
    Typed {
        name: "hex",
        says: "a whole number, a text or bytes",
        takes: |types| match types {
            [of] if is_whole(of) => Some(vec![DataType::Int64]),
            [of] if of.is_string() || matches!(of, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) => {
                Some(vec![DataType::Binary])
            }
            _ => None,
        },
        gives: |_| DataType::Utf8,
        compute: |c| match c[0].data_type() {
            DataType::Int64 => Ok(texts(c[0].as_primitive::<Int64Type>().iter().map(|n| n.map(|n| format!("{n:X}"))))),
            _ => Ok(texts(c[0].as_binary::<i32>().iter().map(|bytes| bytes.map(hex)))),
        },
    },
    Typed {
        name: "unhex",
        says: "a text",
        takes: |types| fits(types, &[Takes::Text], 0),
        gives: |_| DataType::Binary,
        compute: |c| {
            let bytes: Vec<Option<Vec<u8>>> = c[0].as_string::<i32>().iter().map(|text| text.and_then(unhex)).collect();
            Ok(Arc::new(BinaryArray::from_iter(bytes)))
        },
    },
    Typed {
        name: "conv",
        says: "a text, and two bases",
        takes: |types| fits(types, &[Takes::Text, Takes::Whole, Takes::Whole], 0),
        gives: |_| DataType::Utf8,
        compute: conv,
    },
    Typed {
        name: "width_bucket",
        says: "a number, two ends and how many buckets",
        takes: |types| {
            let (number, count) = (types.get(..3)?, types.get(3).filter(|of| types.len() == 4 && is_whole(of))?);
            let numbers = number.iter().all(|of| of.is_numeric() || of.is_null());
            let _ = count;
            let double = DataType::Float64;
            numbers.then(|| vec![double.clone(), double.clone(), double, DataType::Int64])
        },
        gives: |_| DataType::Int64,
        compute: width_bucket,
    },
    Typed {
        name: "isnan",
        says: "a number",
        takes: one_double,
        gives: |_| DataType::Boolean,
        compute: |c| {
            let nan = |value: Option<f64>| Some(value.is_some_and(f64::is_nan));
            Ok(Arc::new(c[0].as_primitive::<Float64Type>().iter().map(nan).collect::<BooleanArray>()))
        },
    },
    Typed {
        name: "rint",
        says: "a number",
        takes: one_double,
        gives: double,
        compute: |c| each(c, |v| Some(v.round_ties_even())),
    },
    Typed { name: "hypot", says: "two numbers", takes: two_doubles, gives: double, compute: hypot },
];

fn first(types: &[DataType]) -> DataType {
    types[0].clone()
}

fn double(_: &[DataType]) -> DataType {
    DataType::Float64
}

fn is_number(of: &DataType) -> bool {
    (of.is_numeric() && !of.is_decimal()) || of.is_null()
}

/// Of whole numbers the type that holds both, of others a double.
fn two_numbers(types: &[DataType]) -> Option<Vec<DataType>> {
    let [left, right] = types else { return None };
    if !is_number(left) || !is_number(right) {
        return None;
    }
    let small = |of: &DataType| matches!(of, DataType::Int8 | DataType::Int16 | DataType::Int32);
    let of = match (is_whole(left) && is_whole(right), small(left) && small(right)) {
        (true, true) => DataType::Int32,
        (true, false) => DataType::Int64,
        _ => DataType::Float64,
    };
    Some(vec![of; 2])
}

fn two_doubles(types: &[DataType]) -> Option<Vec<DataType>> {
    (types.len() == 2 && types.iter().all(is_number)).then(|| vec![DataType::Float64; 2])
}

fn one_double(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [of] if of.is_numeric() || of.is_null() => Some(vec![DataType::Float64]),
        _ => None,
    }
}

fn one_number(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [DataType::Decimal128(..)] => Some(types.to_vec()),
        [of] if is_whole(of) => Some(vec![DataType::Int64]),
        [of] if of.is_floating() => Some(vec![DataType::Float64]),
        _ => None,
    }
}

fn shifted(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [DataType::Int8 | DataType::Int16 | DataType::Int32, by] if is_whole(by) => {
            Some(vec![DataType::Int32, DataType::Int64])
        }
        [of, by] if is_whole(of) && is_whole(by) => Some(vec![DataType::Int64, DataType::Int64]),
        _ => None,
    }
}

fn texts(of: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(of.collect::<StringArray>())
}

fn each(columns: &[ArrayRef], of: impl Fn(f64) -> Option<f64>) -> Result<ArrayRef> {
    let values = columns[0].as_primitive::<Float64Type>();
    Ok(Arc::new(values.iter().map(|value| value.and_then(&of)).collect::<Float64Array>()))
}

/// Null where a number is not above what it must be.
fn above(columns: &[ArrayRef], bound: f64, of: fn(f64) -> f64) -> Result<ArrayRef> {
    each(columns, |value| (value.is_nan() || value > bound || bound == f64::NEG_INFINITY).then(|| of(value)))
}

fn log(columns: &[ArrayRef]) -> Result<ArrayRef> {
    if columns.len() == 1 {
        return above(columns, 0.0, f64::ln);
    }
    let (bases, values) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_primitive::<Float64Type>());
    let log = |base: f64, value: f64| (!(base <= 0.0 || value <= 0.0)).then(|| value.ln() / base.ln());
    let pairs = bases.iter().zip(values).map(|(base, value)| log(base?, value?));
    Ok(Arc::new(pairs.collect::<Float64Array>()))
}

fn hypot(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_primitive::<Float64Type>());
    let pairs = left.iter().zip(right).map(|(left, right)| Some(left?.hypot(right?)));
    Ok(Arc::new(pairs.collect::<Float64Array>()))
}

fn pmod(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let zero = || wrong(ErrorKind::Data, "division by zero in `pmod`: write pmod(a, nullif(b, 0))".to_owned());
    if let (Some(left), Some(right)) =
        (columns[0].as_primitive_opt::<Float64Type>(), columns[1].as_primitive_opt::<Float64Type>())
    {
        let mut out = Vec::with_capacity(left.len());
        for pair in left.iter().zip(right) {
            out.push(match pair {
                (Some(_), Some(0.0)) => return Err(zero()),
                (Some(left), Some(right)) => {
                    let rest = left % right;
                    Some(if rest < 0.0 { (rest + right) % right } else { rest })
                }
                _ => None,
            });
        }
        return Ok(Arc::new(Float64Array::from(out)));
    }
    let of = columns[0].data_type();
    let (left, right) = (wide(&columns[0])?, wide(&columns[1])?);
    let mut out = Vec::with_capacity(left.len());
    for pair in left.iter().zip(&right) {
        out.push(match pair {
            (Some(_), Some(0)) => return Err(zero()),
            (Some(left), Some(right)) => {
                let rest = left.wrapping_rem(right);
                Some(if rest < 0 { rest.wrapping_add(right).wrapping_rem(right) } else { rest })
            }
            _ => None,
        });
    }
    let out: ArrayRef = Arc::new(Int64Array::from(out));
    Ok(datafusion::arrow::compute::cast(&out, of)?)
}

fn wide(column: &ArrayRef) -> Result<Int64Array> {
    Ok(datafusion::arrow::compute::cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Null where the result does not fit the type.
fn tried(columns: &[ArrayRef], whole: fn(i64, i64) -> Option<i64>, broken: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    if *columns[0].data_type() == DataType::Float64 {
        let (left, right) = (columns[0].as_primitive::<Float64Type>(), columns[1].as_primitive::<Float64Type>());
        let pairs = left.iter().zip(right).map(|(left, right)| Some(broken(left?, right?)));
        return Ok(Arc::new(pairs.collect::<Float64Array>()));
    }
    let (left, right) = (wide(&columns[0])?, wide(&columns[1])?);
    let pairs = left.iter().zip(&right).map(|(left, right)| whole(left?, right?));
    if *columns[0].data_type() == DataType::Int32 {
        let narrow = pairs.map(|value| value.and_then(|value| i32::try_from(value).ok()));
        return Ok(Arc::new(narrow.collect::<Int32Array>()));
    }
    Ok(Arc::new(pairs.collect::<Int64Array>()))
}

fn shift(columns: &[ArrayRef], narrow: fn(i32, u32) -> i32, long: fn(i64, u32) -> i64) -> Result<ArrayRef> {
    // A shift is by its last bits.
    let by = columns[1].as_primitive::<Int64Type>();
    if let Some(values) = columns[0].as_primitive_opt::<Int32Type>() {
        let pairs = values.iter().zip(by).map(|(value, by)| Some(narrow(value?, by? as u32)));
        return Ok(Arc::new(pairs.collect::<Int32Array>()));
    }
    let pairs = columns[0].as_primitive::<Int64Type>().iter().zip(by);
    Ok(Arc::new(pairs.map(|(value, by)| Some(long(value?, by? as u32))).collect::<Int64Array>()))
}

/// A whole number, with as many digits as a decimal had before the point, and one more.
fn whole_of(types: &[DataType]) -> DataType {
    match types[0] {
        DataType::Decimal128(precision, scale) => {
            let before = i16::from(precision) - i16::from(scale) + 1;
            DataType::Decimal128(before.clamp(1, 38) as u8, 0)
        }
        _ => DataType::Int64,
    }
}

fn to_whole(column: &ArrayRef, up: bool) -> Result<ArrayRef> {
    match *column.data_type() {
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(scale.max(0) as u32);
            let whole = |units: i128| {
                let below = units.div_euclid(unit);
                if up && below * unit != units { below + 1 } else { below }
            };
            let values = column.as_primitive::<Decimal128Type>().iter().map(|units| units.map(whole));
            let of = whole_of(&[column.data_type().clone()]);
            Ok(Arc::new(values.collect::<Decimal128Array>().with_data_type(of)))
        }
        // What is too far away is the last number there is, as it is in Java.
        DataType::Float64 => {
            let whole = |value: f64| (if up { value.ceil() } else { value.floor() }) as i64;
            Ok(Arc::new(column.as_primitive::<Float64Type>().iter().map(|v| v.map(whole)).collect::<Int64Array>()))
        }
        _ => Ok(Arc::clone(column)),
    }
}

fn rounds(types: &[DataType]) -> Option<Vec<DataType>> {
    let number = one_number(types.get(..1)?)?.remove(0);
    match types.get(1..)? {
        [] => Some(vec![number]),
        [digits] if is_whole(digits) => Some(vec![number, DataType::Int64]),
        _ => None,
    }
}

fn rounded_type(types: &[DataType]) -> DataType {
    match types[0] {
        ref decimal @ DataType::Decimal128(..) => rounded_to(decimal, 0),
        ref other => other.clone(),
    }
}

/// The type of a decimal that is rounded to so many digits behind the point, or before it.
pub(super) fn rounded_to(of: &DataType, digits: i64) -> DataType {
    let DataType::Decimal128(precision, scale) = *of else { return of.clone() };
    let before = i64::from(precision) - i64::from(scale) + 1;
    let (precision, scale) = match digits {
        ..0 => (before.max(digits.saturating_neg().saturating_add(1)), 0),
        _ => (before + digits.min(i64::from(scale)), digits.min(i64::from(scale))),
    };
    DataType::Decimal128(precision.clamp(1, 38) as u8, scale as i8)
}

fn round(columns: &[ArrayRef], half_even: bool) -> Result<ArrayRef> {
    let digits = |row: usize| {
        columns.get(1).map_or(Some(0), |d| d.is_valid(row).then(|| d.as_primitive::<Int64Type>().value(row)))
    };
    match *columns[0].data_type() {
        DataType::Decimal128(_, scale) => {
            let values = columns[0].as_primitive::<Decimal128Type>();
            // Its digits stay as many for now; those that are gone are 0.
            let rounded = (0..values.len()).map(|row| {
                let gone = i64::from(scale).saturating_sub(digits(row)?).clamp(0, 38) as u32;
                let unit = 10_i128.checked_pow(gone);
                values.is_valid(row).then(|| unit.map_or(0, |unit| dropped(values.value(row), gone, half_even) * unit))
            });
            let of = DataType::Decimal128(38, scale);
            Ok(Arc::new(rounded.collect::<Decimal128Array>().with_data_type(of)))
        }
        DataType::Float64 => {
            let values = columns[0].as_primitive::<Float64Type>();
            let rounded = (0..values.len()).map(|row| {
                let digits = digits(row)?;
                values.is_valid(row).then(|| rounded(values.value(row), digits, half_even))
            });
            Ok(Arc::new(rounded.collect::<Float64Array>()))
        }
        _ => {
            let values = columns[0].as_primitive::<Int64Type>();
            let mut out = Vec::with_capacity(values.len());
            for row in 0..values.len() {
                out.push(match digits(row) {
                    Some(digits) if values.is_valid(row) => {
                        let gone = u32::try_from(digits.min(0).unsigned_abs()).unwrap_or(38).min(38);
                        let whole = dropped(i128::from(values.value(row)), gone, half_even) * 10_i128.pow(gone);
                        let far = || wrong(ErrorKind::Data, "overflow in `round`: it does not fit BIGINT".to_owned());
                        Some(i64::try_from(whole).map_err(|_| far())?)
                    }
                    _ => None,
                });
            }
            Ok(Arc::new(Int64Array::from(out)))
        }
    }
}

/// A number without its last digits, rounded.
fn dropped(units: i128, digits: u32, half_even: bool) -> i128 {
    let unit = 10_i128.pow(digits);
    let (whole, rest) = (units / unit, (units % unit).unsigned_abs() * 2);
    let up = match rest.cmp(&unit.unsigned_abs()) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => !half_even || whole % 2 != 0,
        std::cmp::Ordering::Less => false,
    };
    whole + if up { units.signum() } else { 0 }
}

/// A double is rounded by the digits that it is written with, so that 2.675 is 2.68.
fn rounded(value: f64, digits: i64, half_even: bool) -> f64 {
    let written = format!("{:e}", value.abs());
    let Some((mantissa, exponent)) = written.split_once('e') else { return value };
    let behind = mantissa.split_once('.').map_or(0, |(_, behind)| behind.len() as i64);
    let (Ok(units), Ok(exponent)) = (mantissa.replace('.', "").parse::<i128>(), exponent.parse::<i64>()) else {
        return value;
    };
    // The value is units * 10^-scale.
    let gone = (behind - exponent).saturating_sub(digits);
    if gone <= 0 {
        return value;
    }
    let kept = if gone > 30 { 0 } else { dropped(units, gone as u32, half_even) };
    let rounded: f64 = format!("{kept}e{}", digits.saturating_neg()).parse().unwrap_or(0.0);
    rounded.copysign(value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_owned() };
    let digits: Option<Vec<u32>> = padded.chars().map(|digit| digit.to_digit(16)).collect();
    Some(digits?.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn conv(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let numbers = columns[0].as_string::<i32>();
    let (from, to) = (columns[1].as_primitive::<Int64Type>(), columns[2].as_primitive::<Int64Type>());
    let mut out = Vec::with_capacity(numbers.len());
    for ((text, from), to) in numbers.iter().zip(from).zip(to) {
        let (Some(text), Some(from), Some(to)) = (text, from, to) else {
            out.push(None);
            continue;
        };
        if !(2..=36).contains(&from) || !(2..=36).contains(&to) {
            out.push(None);
            continue;
        }
        let Some(number) = u64::from_str_radix(text.trim(), from as u32).ok().filter(|_| !text.trim().starts_with('+'))
        else {
            let text = format!("conv: `{text}` is no number to the base {from} from 0 to 2^64");
            return Err(wrong(ErrorKind::Data, text));
        };
        let mut digits = Vec::new();
        let mut rest = number;
        while rest > 0 || digits.is_empty() {
            digits.extend(char::from_digit((rest % to as u64) as u32, to as u32));
            rest /= to as u64;
        }
        out.push(Some(digits.iter().rev().collect::<String>().to_uppercase()));
    }
    Ok(Arc::new(StringArray::from(out)))
}

fn width_bucket(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let [values, low, high] = [0, 1, 2].map(|at| columns[at].as_primitive::<Float64Type>());
    let counts = columns[3].as_primitive::<Int64Type>();
    let bucket = |row: usize| {
        if columns.iter().any(|column| column.is_null(row)) {
            return None;
        }
        let (value, low, high, count) = (values.value(row), low.value(row), high.value(row), counts.value(row));
        let open =
            value.is_nan() || !low.is_finite() || !high.is_finite() || low == high || !(1..i64::MAX).contains(&count);
        if open {
            return None;
        }
        let (below, beyond) = if low < high { (value < low, value >= high) } else { (value > low, value <= high) };
        Some(match (below, beyond) {
            (true, _) => 0,
            (_, true) => count + 1,
            _ => (count as f64 * (value - low) / (high - low)) as i64 + 1,
        })
    };
    Ok(Arc::new((0..values.len()).map(bucket).collect::<Int64Array>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_by_the_digits_that_are_written() {
        for (value, digits, half_even, want) in [
            (2.675, 2, false, 2.68),
            (2.5, 0, false, 3.0),
            (-2.5, 0, false, -3.0),
            (2.5, 0, true, 2.0),
            (3.5, 0, true, 4.0),
            (1234.567, -2, false, 1200.0),
            (1e300, 5, false, 1e300),
            (1e-300, 5, false, 0.0),
            (0.1, 40, false, 0.1),
            (f64::INFINITY, 1, false, f64::INFINITY),
        ] {
            assert_eq!(rounded(value, digits, half_even), want, "{value} {digits}");
        }
        assert!(rounded(f64::NAN, 1, false).is_nan());
        let price = DataType::Decimal128(7, 3);
        for (digits, want) in [(1, (6, 1)), (0, (5, 0)), (-2, (5, 0)), (-9, (10, 0)), (9, (8, 3))] {
            assert_eq!(rounded_to(&price, digits), DataType::Decimal128(want.0, want.1), "{digits}");
        }
        for (units, digits, half_even, want) in
            [(25, 1, false, 3), (-25, 1, false, -3), (25, 1, true, 2), (35, 1, true, 4), (24, 1, false, 2)]
        {
            assert_eq!(dropped(units, digits, half_even), want, "{units}");
        }
    }

    #[test]
    fn bytes_are_written_in_digits_to_the_base_16_and_back() {
        assert_eq!(hex(b"Ab\xff"), "4162FF");
        assert_eq!(unhex("4162ff"), Some(b"Ab\xff".to_vec()));
        assert_eq!(unhex("F"), Some(vec![15]));
        assert_eq!(unhex("xy"), None);
    }
}
