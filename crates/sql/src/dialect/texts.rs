//! Functions that DataFusion has too, and means otherwise: parts of texts, elements of lists and maps, parts of times; and a few that Spark
//! has for what is refused.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Array, Int32Array, Int64Array};
use datafusion::arrow::array::{StringArray, UInt32Array};
use datafusion::arrow::compute::{nullif, take};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use millstream_core::{Error, ErrorKind};

/// The functions of this file.
pub(super) fn all() -> Vec<ScalarUDF> {
    let mut all: Vec<ScalarUDF> = PLAIN.iter().map(|plain| ScalarUDF::new_from_impl(Function::new(plain))).collect();
    all.extend(super::times::PARTS.iter().map(|plain| ScalarUDF::new_from_impl(Function::new(plain))));
    all.extend(super::typed::functions());
    all.extend(Element::ALL.map(|element| ScalarUDF::new_from_impl(element.signed())));
    all.push(ScalarUDF::new_from_impl(Concat { signature: Signature::user_defined(Volatility::Immutable) }));
    all
}

pub(super) fn wrong(kind: ErrorKind, text: String) -> DataFusionError {
    DataFusionError::External(Box::new(Error::new(kind, text)))
}

/// A function of values of fixed types.
pub(super) struct Plain {
    pub(super) name: &'static str,
    pub(super) aliases: &'static [&'static str],
    pub(super) takes: &'static [Takes],
    /// How many of the arguments may be left out.
    pub(super) optional: usize,
    pub(super) gives: DataType,
    pub(super) compute: fn(&[ArrayRef]) -> ArrayRef,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Takes {
    Text,
    Whole,
    Day,
    Moment,
}

impl Takes {
    pub(super) fn of(self, given: &DataType) -> Option<DataType> {
        use DataType::{Date32, Date64, Int64, Null, Timestamp, Utf8};
        let time = given.is_string() || matches!(given, Date32 | Date64 | Timestamp(..) | Null);
        match self {
            Takes::Text => (!given.is_nested()).then_some(Utf8),
            Takes::Whole => (given.is_integer() || given.is_null()).then_some(Int64),
            Takes::Day => time.then_some(Date32),
            Takes::Moment => time.then_some(Timestamp(TimeUnit::Microsecond, None)),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Takes::Text => "a text",
            Takes::Whole => "a whole number",
            Takes::Day => "a day",
            Takes::Moment => "a timestamp",
        }
    }
}

const PLAIN: [Plain; 7] = [
    Plain {
        name: "substring",
        aliases: &["substr"],
        takes: &[Takes::Text, Takes::Whole, Takes::Whole],
        optional: 1,
        gives: DataType::Utf8,
        compute: |columns| parts(columns, |text, from, length| substring(text, from, length.unwrap_or(i64::MAX))),
    },
    Plain {
        name: "left",
        aliases: &[],
        takes: &[Takes::Text, Takes::Whole],
        optional: 0,
        gives: DataType::Utf8,
        compute: |columns| parts(columns, |text, length, _| substring(text, 1, length)),
    },
    Plain {
        name: "right",
        aliases: &[],
        takes: &[Takes::Text, Takes::Whole],
        optional: 0,
        gives: DataType::Utf8,
        compute: |columns| parts(columns, |text, length, _| substring(text, length.max(0).saturating_neg(), length)),
    },
    Plain {
        name: "dayofweek",
        aliases: &[],
        takes: &[Takes::Day],
        optional: 0,
        gives: DataType::Int32,
        compute: |columns| {
            let days = columns[0].as_primitive::<Date32Type>();
            Arc::new(days.iter().map(|day| day.map(day_of_week)).collect::<Int32Array>())
        },
    },
    Plain {
        name: SECONDS,
        aliases: &[],
        takes: &[Takes::Moment],
        optional: 0,
        gives: DataType::Decimal128(8, 6),
        compute: |columns| {
            let times = columns[0].as_primitive::<TimestampMicrosecondType>();
            let seconds = |micros: i64| i128::from(micros.rem_euclid(60_000_000));
            let seconds: Decimal128Array = times.iter().map(|micros| micros.map(seconds)).collect();
            Arc::new(seconds.with_data_type(DataType::Decimal128(8, 6)))
        },
    },
    Plain {
        name: "datediff",
        aliases: &["date_diff"],
        takes: &[Takes::Day, Takes::Day],
        optional: 0,
        gives: DataType::Int32,
        compute: |columns| {
            let (ends, starts): (&Date32Array, &Date32Array) = (columns[0].as_primitive(), columns[1].as_primitive());
            let days = ends.iter().zip(starts).map(|(end, start)| Some(end?.saturating_sub(start?)));
            Arc::new(days.collect::<Int32Array>())
        },
    },
    Plain {
        name: "unix_micros",
        aliases: &[],
        takes: &[Takes::Moment],
        optional: 0,
        gives: DataType::Int64,
        compute: |columns| {
            let times = columns[0].as_primitive::<TimestampMicrosecondType>();
            Arc::new(times.iter().collect::<Int64Array>())
        },
    },
];

/// The seconds of a minute, with what is behind the point.
pub(super) const SECONDS: &str = "seconds_of_minute";

/// Sunday is 1; the day 0 is a Thursday.
fn day_of_week(day: i32) -> i32 {
    (i64::from(day) + 4).rem_euclid(7) as i32 + 1
}

fn parts(columns: &[ArrayRef], part: impl Fn(&str, i64, Option<i64>) -> String) -> ArrayRef {
    let (texts, first) = (columns[0].as_string::<i32>(), columns[1].as_primitive::<Int64Type>());
    let second = columns.get(2).map(|column| column.as_primitive::<Int64Type>());
    let parts = (0..texts.len()).map(|row| {
        let known = texts.is_valid(row) && first.is_valid(row) && second.is_none_or(|s| s.is_valid(row));
        known.then(|| part(texts.value(row), first.value(row), second.map(|s| s.value(row))))
    });
    Arc::new(parts.collect::<StringArray>())
}

/// So many characters from a place, which counts from 1, or from the end if it is below 0; 0 is the begin, too.
fn substring(text: &str, from: i64, length: i64) -> String {
    let start = match from {
        1.. => from - 1,
        0 => 0,
        _ => from.saturating_add(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
    };
    let end = usize::try_from(start.saturating_add(length)).unwrap_or(0);
    let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX);
    text.chars().skip(start).take(end.saturating_sub(start)).collect()
}

#[derive(Debug)]
struct Function {
    plain: &'static Plain,
    aliases: Vec<String>,
    signature: Signature,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    fn new(plain: &'static Plain) -> Function {
        let aliases = plain.aliases.iter().map(|alias| (*alias).to_owned()).collect();
        Function { plain, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.plain.name == other.plain.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.plain.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.plain.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let Plain { name, takes, optional, .. } = self.plain;
        if types.len() > takes.len() || types.len() + optional < takes.len() {
            let takes: Vec<&str> = takes.iter().map(|takes| takes.name()).collect();
            return Err(DataFusionError::Plan(format!("{name} takes {}", takes.join(", "))));
        }
        let typed = types.iter().zip(*takes).map(|(given, takes)| {
            let wrong = || DataFusionError::Plan(format!("{name} takes {} here, and not {given}", takes.name()));
            takes.of(given).ok_or_else(wrong)
        });
        typed.collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.plain.gives.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        by_rows(&arguments, |columns| Ok((self.plain.compute)(columns)))
    }
}

/// Computes over columns; what has constants alone is computed once.
pub(super) fn by_rows(
    arguments: &ScalarFunctionArgs,
    compute: impl FnOnce(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let scalar = arguments.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { arguments.number_rows };
    let columns = arguments.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let result = compute(&columns)?;
    if scalar {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
    }
    Ok(ColumnarValue::Array(result))
}

/// Texts one behind the other; null if one of them is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    signature: Signature,
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        "concat"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        if types.iter().any(DataType::is_nested) {
            let items = types.iter().map(super::typed::item).collect::<Option<Vec<_>>>();
            let of = items.and_then(|items| super::typed::common(&items)).map(super::typed::list_of);
            let told = || DataFusionError::Plan("concat is of texts, or of lists of one type".to_owned());
            return Ok(vec![of.ok_or_else(told)?; types.len()]);
        }
        datafusion::functions::string::concat().coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(list @ DataType::List(_)) => Ok(list.clone()),
            _ => datafusion::functions::string::concat().return_type(types),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if arguments.arg_fields.first().is_some_and(|field| matches!(field.data_type(), DataType::List(_))) {
            return by_rows(&arguments, super::lists::joined);
        }
        let (rows, args) = (arguments.number_rows, arguments.args.clone());
        let nulls = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(value) => value.is_null(),
            ColumnarValue::Array(values) => values.null_count() > 0,
        };
        let joined = datafusion::functions::string::concat().invoke_with_args(arguments)?;
        if !args.iter().any(nulls) {
            return Ok(joined);
        }
        if let ColumnarValue::Scalar(value) = &joined {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&value.data_type())?));
        }
        let columns = args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let masked = (0..rows).map(|row| Some(columns.iter().any(|column| column.is_null(row)))).collect();
        Ok(ColumnarValue::Array(nullif(&joined.to_array(rows)?, &masked)?))
    }
}

/// An element of a list or a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Element {
    name: &'static str,
    /// What the first element of a list is called.
    first: i64,
    /// Whether an element that a list has not is an error.
    strict: bool,
}

/// What `list[i]` becomes.
pub(super) const SUBSCRIPT: &str = "element_of";

impl Element {
    const ALL: [Element; 4] = [
        Element { name: SUBSCRIPT, first: 0, strict: true },
        Element { name: "get", first: 0, strict: false },
        Element { name: "element_at", first: 1, strict: true },
        Element { name: "try_element_at", first: 1, strict: false },
    ];

    fn signed(self) -> SignedElement {
        let aliases = if self.name == "element_at" { vec!["map_extract".to_owned()] } else { Vec::new() };
        SignedElement { element: self, aliases, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The place of an element in a list of so many, or none.
    fn place(&self, index: i64, length: i64) -> Result<Option<i64>> {
        let place = match (self.first, index) {
            (1, 0) => {
                let text = format!("{}(list, 0): the first element of a list is 1 here", self.name);
                return Err(wrong(ErrorKind::Data, text));
            }
            (1, ..0) => index + length,
            (first, _) => index - first,
        };
        if (0..length).contains(&place) {
            return Ok(Some(place));
        }
        if !self.strict {
            return Ok(None);
        }
        let instead = if self.first == 0 { "get(list, i)" } else { "try_element_at(list, i)" };
        let text = format!("no element {index} in a list of {length}: write {instead}, which gives null");
        Err(wrong(ErrorKind::Data, text))
    }

    fn of_list(&self, lists: &ArrayRef, indexes: &ArrayRef) -> Result<ArrayRef> {
        let (lists, indexes) = (lists.as_list::<i32>(), indexes.as_primitive::<Int64Type>());
        let mut places = Vec::with_capacity(lists.len());
        for row in 0..lists.len() {
            let place = if lists.is_null(row) || indexes.is_null(row) {
                None
            } else {
                self.place(indexes.value(row), i64::from(lists.value_length(row)))?
            };
            places.push(place.map(|place| (i64::from(lists.value_offsets()[row]) + place) as u32));
        }
        Ok(take(lists.values(), &UInt32Array::from(places), None)?)
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SignedElement {
    element: Element,
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for SignedElement {
    fn name(&self) -> &str {
        self.element.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// DataFusion's own function with this name is another one's second name, and would come back with it.
    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let map = datafusion::functions_nested::map_extract::map_extract_udf();
        match types {
            [DataType::Map(..), _] if self.element.name != "get" => map.coerce_types(types),
            [DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _), index]
                if index.is_integer() || index.is_null() =>
            {
                Ok(vec![DataType::List(Arc::clone(item)), DataType::Int64])
            }
            _ => {
                let given: Vec<String> = types.iter().map(crate::show::type_name).collect();
                let text = format!(
                    "an element is of a list and its number, or of a map and a key, not of {}",
                    given.join(", ")
                );
                Err(DataFusionError::Plan(text))
            }
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            _ => match datafusion::functions_nested::map_extract::map_extract_udf().return_type(types)? {
                DataType::List(item) => Ok(item.data_type().clone()),
                other => Ok(other),
            },
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if matches!(arguments.arg_fields[0].data_type(), DataType::List(_)) {
            return by_rows(&arguments, |columns| self.element.of_list(&columns[0], &columns[1]));
        }
        by_rows(&arguments, |columns| of_map(&columns[0], &columns[1]))
    }
}

/// The value of each map under a key; null where it has none.
fn of_map(maps: &ArrayRef, keys: &ArrayRef) -> Result<ArrayRef> {
    let maps = maps.as_map();
    let place = |row: usize| {
        if maps.is_null(row) || keys.is_null(row) {
            return None;
        }
        let (from, to) = (maps.value_offsets()[row] as usize, maps.value_offsets()[row + 1] as usize);
        let key = keys.slice(row, 1);
        (from..to).find(|at| maps.keys().slice(*at, 1).as_ref() == key.as_ref()).map(|at| at as u32)
    };
    let places: UInt32Array = (0..maps.len()).map(place).collect();
    Ok(take(maps.values(), &places, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_texts_are_counted_from_1_and_from_the_end() {
        for (from, length, want) in [
            (0, 2, "sp"),
            (1, 2, "sp"),
            (2, 2, "pä"),
            (-3, i64::MAX, "ärk"),
            (-7, 3, "s"),
            (-9, 3, ""),
            (4, 9, "rk"),
            (6, 1, ""),
            (1, 0, ""),
            (1, -1, ""),
            (i64::MIN, i64::MIN, ""),
            (i64::MAX, i64::MAX, ""),
        ] {
            assert_eq!(substring("spärk", from, length), want, "{from}, {length}");
        }
    }

    #[test]
    fn days_of_the_week_begin_with_sunday() {
        for (day, want) in [(0, 5), (2, 7), (3, 1), (-1, 4), (-4, 1), (-5, 7)] {
            assert_eq!(day_of_week(day), want, "{day}");
        }
    }

    #[test]
    fn places_in_lists_are_known_or_an_error() {
        let [subscript, get, at, try_at] = Element::ALL;
        for (element, index, want) in
            [(&subscript, 0, Some(0)), (&get, 3, None), (&at, 1, Some(0)), (&at, -1, Some(2)), (&try_at, 4, None)]
        {
            assert_eq!(element.place(index, 3).unwrap(), want, "{element:?} {index}");
        }
        for (element, index, want) in [
            (&subscript, 3, "no element 3 in a list of 3: write get(list, i), which gives null"),
            (&subscript, -1, "no element -1 in a list of 3: write get(list, i)"),
            (&at, 4, "no element 4 in a list of 3: write try_element_at(list, i), which gives null"),
            (&try_at, 0, "try_element_at(list, 0): the first element of a list is 1 here"),
        ] {
            let error = element.place(index, 3).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
