//! Functions of lists that mean what Spark means by them: of a list that is null they are null, and values are the same if they are
//! equal, two nulls too.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListArray, StringArray, UInt32Array, new_null_array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::kernels::numeric::add;
use datafusion::arrow::compute::{concat, take};
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{DataFusionError, Result};
use millstream_core::ErrorKind;

use super::texts::wrong;
use super::typed::{Typed, common, is_whole, item, item_of, list_of};

/// What a list becomes where its elements are to be rows of their own: of a list that is null, or empty, there are none.
pub(super) const ROWS: &str = "rows_of_list";
/// The same, but a list without elements is one row, of null.
pub(super) const ROWS_OUTER: &str = "rows_of_list_outer";
/// The numbers of those rows.
pub(super) const PLACES: &str = "places_of_list";
pub(super) const PLACES_OUTER: &str = "places_of_list_outer";

/// The functions of this file.
pub(super) static LISTS: [Typed; 25] = [
    Typed { name: "array", says: "values of one type", takes: all_alike, gives: list_of_first, compute: array },
    Typed { name: ROWS, says: "a list", takes: one_list, gives: first, compute: |c| spread(&c[0], false) },
    Typed { name: ROWS_OUTER, says: "a list", takes: one_list, gives: first, compute: |c| spread(&c[0], true) },
    Typed { name: PLACES, says: "a list", takes: one_list, gives: ints, compute: |c| places(&c[0], false) },
    Typed { name: PLACES_OUTER, says: "a list", takes: one_list, gives: ints, compute: |c| places(&c[0], true) },
    Typed { name: "size", says: "a list or a map", takes: list_or_map, gives: |_| DataType::Int32, compute: size },
    Typed {
        name: "cardinality",
        says: "a list or a map",
        takes: list_or_map,
        gives: |_| DataType::Int32,
        compute: size,
    },
    Typed { name: "array_size", says: "a list", takes: one_list, gives: |_| DataType::Int32, compute: size },
    Typed {
        name: "array_contains",
        says: "a list and an element of its type",
        takes: list_and_element,
        gives: |_| DataType::Boolean,
        compute: contains,
    },
    Typed {
        name: "array_position",
        says: "a list and an element of its type",
        takes: list_and_element,
        gives: |_| DataType::Int64,
        compute: position,
    },
    Typed {
        name: "array_append",
        says: "a list and an element of its type",
        takes: list_and_element,
        gives: first,
        compute: |c| with_element(c, |list, new| list.map(Some).chain([Some(new)]).collect()),
    },
    Typed {
        name: "array_prepend",
        says: "a list and an element of its type",
        takes: list_and_element,
        gives: first,
        compute: |c| with_element(c, |list, new| [Some(new)].into_iter().chain(list.map(Some)).collect()),
    },
    Typed {
        name: "array_remove",
        says: "a list and an element of its type",
        takes: list_and_element,
        gives: first,
        compute: removed,
    },
    Typed {
        name: "array_distinct",
        says: "a list",
        takes: one_list,
        gives: first,
        compute: |c| set(c, |_, _, _| true),
    },
    Typed {
        name: "array_union",
        says: "two lists of one type",
        takes: two_lists,
        gives: first,
        compute: |c| set(c, |_, _, _| true),
    },
    Typed {
        name: "array_intersect",
        says: "two lists of one type",
        takes: two_lists,
        gives: first,
        compute: |c| set(c, |left, _, in_right| left && in_right),
    },
    Typed {
        name: "array_except",
        says: "two lists of one type",
        takes: two_lists,
        gives: first,
        compute: |c| set(c, |left, _, in_right| left && !in_right),
    },
    Typed {
        name: "arrays_overlap",
        says: "two lists of one type",
        takes: two_lists,
        gives: |_| DataType::Boolean,
        compute: overlap,
    },
    Typed { name: "array_compact", says: "a list", takes: one_list, gives: first, compute: compact },
    Typed { name: "array_max", says: "a list", takes: one_list, gives: of_first, compute: |c| extreme(&c[0], true) },
    Typed { name: "array_min", says: "a list", takes: one_list, gives: of_first, compute: |c| extreme(&c[0], false) },
    Typed {
        name: "array_sort",
        says: "a list",
        takes: one_list,
        gives: first,
        compute: |c| sorted(&c[0], |_| (true, false)),
    },
    Typed {
        name: "sort_array",
        says: "a list, and whether it is to rise",
        takes: list_and_bool,
        gives: first,
        compute: sort_array,
    },
    Typed { name: "flatten", says: "a list of lists", takes: list_of_lists, gives: of_first, compute: flatten },
    Typed { name: "slice", says: "a list, a place and a length", takes: list_and_two, gives: first, compute: slice },
];

/// The functions of lists that make them of something else.
pub(super) static MADE: [Typed; 4] = [
    Typed {
        name: "array_repeat",
        says: "a value and how often",
        takes: |types| match types {
            [value, times] if is_whole(times) => Some(vec![value.clone(), DataType::Int64]),
            _ => None,
        },
        gives: list_of_first,
        compute: repeat,
    },
    Typed {
        name: "array_join",
        says: "a list of texts, what stands between them, and what stands for null",
        takes: |types| {
            let texts = item(types.first()?)?;
            let rest = types[1..].iter().all(|of| of.is_string() || of.is_null());
            let fits = (texts.is_string() || texts.is_null()) && (2..=3).contains(&types.len()) && rest;
            let text = || DataType::Utf8;
            fits.then(|| [list_of(text())].into_iter().chain(types[1..].iter().map(|_| text())).collect())
        },
        gives: |_| DataType::Utf8,
        compute: join,
    },
    Typed {
        name: "sequence",
        says: "two whole numbers and a step, or two days",
        takes: |types| match types {
            [DataType::Date32, DataType::Date32] => Some(types.to_vec()),
            [_, _] | [_, _, _] if types.iter().all(is_whole) => Some(vec![DataType::Int64; types.len()]),
            _ => None,
        },
        gives: list_of_first,
        compute: sequence,
    },
    Typed {
        name: "array_insert",
        says: "a list, a place and an element of its type",
        takes: |types| match types {
            [list, place, element] if is_whole(place) => {
                let of = common(&[item(list)?, element.clone()])?;
                Some(vec![list_of(of.clone()), DataType::Int64, of])
            }
            _ => None,
        },
        gives: first,
        compute: insert,
    },
];

fn first(types: &[DataType]) -> DataType {
    types[0].clone()
}

fn of_first(types: &[DataType]) -> DataType {
    item(&types[0]).unwrap_or(DataType::Null)
}

fn ints(_: &[DataType]) -> DataType {
    list_of(DataType::Int32)
}

fn list_of_first(types: &[DataType]) -> DataType {
    list_of(types.first().cloned().unwrap_or(DataType::Null))
}

fn all_alike(types: &[DataType]) -> Option<Vec<DataType>> {
    let of = common(types)?;
    Some(vec![of; types.len()])
}

fn one_list(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [list] => Some(vec![list_of(item(list)?)]),
        _ => None,
    }
}

fn list_or_map(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [DataType::Map(..)] => Some(types.to_vec()),
        _ => one_list(types),
    }
}

fn list_and_element(types: &[DataType]) -> Option<Vec<DataType>> {
    let [list, element] = types else { return None };
    let of = common(&[item(list)?, element.clone()])?;
    Some(vec![list_of(of.clone()), of])
}

pub(super) fn two_lists(types: &[DataType]) -> Option<Vec<DataType>> {
    let [left, right] = types else { return None };
    Some(vec![list_of(common(&[item(left)?, item(right)?])?); 2])
}

fn list_and_bool(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [_] => one_list(types),
        [list, DataType::Boolean] => Some(vec![list_of(item(list)?), DataType::Boolean]),
        _ => None,
    }
}

fn list_and_two(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [list, from, length] if is_whole(from) && is_whole(length) => {
            Some(vec![list_of(item(list)?), DataType::Int64, DataType::Int64])
        }
        _ => None,
    }
}

fn list_of_lists(types: &[DataType]) -> Option<Vec<DataType>> {
    match types {
        [list] => Some(vec![list_of(list_of(item(&item(list)?)?))]),
        _ => None,
    }
}

/// Where the elements of a list are among those of all, if it is not null.
fn range(lists: &ListArray, row: usize) -> Option<Range<usize>> {
    let offsets = lists.value_offsets();
    lists.is_valid(row).then(|| offsets[row] as usize..offsets[row + 1] as usize)
}

/// Lists that are made by naming values of one column by their numbers.
#[derive(Default)]
pub(super) struct Picked {
    places: Vec<Option<u32>>,
    ends: Vec<usize>,
    valid: Vec<bool>,
}

impl Picked {
    /// Takes a list, or null.
    pub(super) fn push(&mut self, list: Option<impl IntoIterator<Item = Option<usize>>>) {
        self.valid.push(list.is_some());
        self.places.extend(list.into_iter().flatten().map(|place| place.map(|place| place as u32)));
        self.ends.push(self.places.len());
    }

    pub(super) fn finish(self, from: &ArrayRef) -> Result<ArrayRef> {
        if i32::try_from(self.places.len()).is_err() {
            let text = "the lists of a batch have more than 2^31 elements: ask of fewer rows at once";
            return Err(wrong(ErrorKind::Data, text.to_owned()));
        }
        let mut last = 0;
        let lengths = self.ends.into_iter().map(|end| end - std::mem::replace(&mut last, end));
        let offsets = OffsetBuffer::from_lengths(lengths);
        let values = take(from, &UInt32Array::from(self.places), None)?;
        let nulls = NullBuffer::from(self.valid);
        Ok(Arc::new(ListArray::try_new(item_of(from.data_type().clone()), offsets, values, Some(nulls))?))
    }
}

/// The values as bytes that are the same if the values are, and in the same order.
fn rows(values: &ArrayRef) -> Result<Rows> {
    // Two zeros are one number, whatever their sign.
    let values: ArrayRef = match values.data_type() {
        DataType::Float64 => {
            let plain =
                values.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v });
            add(&plain, &datafusion::arrow::array::Float64Array::new_scalar(0.0))?
        }
        DataType::Float32 => {
            let plain =
                values.as_primitive::<Float32Type>().unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v });
            add(&plain, &datafusion::arrow::array::Float32Array::new_scalar(0.0))?
        }
        _ => Arc::clone(values),
    };
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    Ok(converter.convert_columns(&[values])?)
}

fn array(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let Some(first) = columns.first() else {
        let none = new_null_array(&DataType::Null, 0);
        let offsets = OffsetBuffer::from_lengths([0]);
        return Ok(Arc::new(ListArray::try_new(item_of(DataType::Null), offsets, none, None)?));
    };
    let all: Vec<&dyn Array> = columns.iter().map(|column| &**column).collect();
    let (values, count) = (concat(&all)?, first.len());
    let mut picked = Picked::default();
    for row in 0..count {
        picked.push(Some((0..columns.len()).map(|column| Some(column * count + row))));
    }
    picked.finish(&values)
}

fn spread(column: &ArrayRef, outer: bool) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let list: Vec<Option<usize>> = range(lists, row).into_iter().flatten().map(Some).collect();
        picked.push(Some(if outer && list.is_empty() { vec![None] } else { list }));
    }
    picked.finish(lists.values())
}

fn places(column: &ArrayRef, outer: bool) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let longest = (0..lists.len()).map(|row| lists.value_length(row)).max().unwrap_or(0);
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..longest));
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let length = range(lists, row).map_or(0, |range| range.len());
        let list: Vec<Option<usize>> = (0..length).map(Some).collect();
        picked.push(Some(if outer && list.is_empty() { vec![None] } else { list }));
    }
    picked.finish(&numbers)
}

fn size(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let column = &columns[0];
    let offsets = match column.data_type() {
        DataType::Map(..) => column.as_map().offsets(),
        _ => column.as_list::<i32>().offsets(),
    };
    let length = |row: usize| column.is_valid(row).then(|| offsets[row + 1] - offsets[row]);
    Ok(Arc::new((0..column.len()).map(length).collect::<Int32Array>()))
}

/// The elements of each list, and one value more a row, as rows of one column; the values are behind the elements.
fn beside(columns: &[ArrayRef], at: usize) -> Result<(ArrayRef, usize)> {
    let values = columns[0].as_list::<i32>().values();
    Ok((concat(&[&**values, &*columns[at]])?, values.len()))
}

fn contains(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, (values, own)) = (columns[0].as_list::<i32>(), beside(columns, 1)?);
    let rows = rows(&values)?;
    let has = |row: usize| {
        let range = range(lists, row)?;
        if columns[1].is_null(row) {
            return None;
        }
        let found = range.clone().any(|at| rows.row(at) == rows.row(own + row));
        // What is not known may be it.
        (found || !range.into_iter().any(|at| values.is_null(at))).then_some(found)
    };
    Ok(Arc::new((0..lists.len()).map(has).collect::<BooleanArray>()))
}

fn position(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, (values, own)) = (columns[0].as_list::<i32>(), beside(columns, 1)?);
    let rows = rows(&values)?;
    let place = |row: usize| {
        let mut range = range(lists, row)?;
        let found = || range.position(|at| rows.row(at) == rows.row(own + row));
        columns[1].is_valid(row).then(found).map(|found| found.map_or(0, |at| at as i64 + 1))
    };
    Ok(Arc::new((0..lists.len()).map(place).collect::<Int64Array>()))
}

fn with_element(columns: &[ArrayRef], placed: fn(Range<usize>, usize) -> Vec<Option<usize>>) -> Result<ArrayRef> {
    let (lists, (values, own)) = (columns[0].as_list::<i32>(), beside(columns, 1)?);
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        picked.push(range(lists, row).map(|range| placed(range, own + row)));
    }
    picked.finish(&values)
}

fn removed(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, (values, own)) = (columns[0].as_list::<i32>(), beside(columns, 1)?);
    let rows = rows(&values)?;
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let list = range(lists, row).filter(|_| columns[1].is_valid(row));
        picked.push(
            list.map(|list| list.filter(|at| rows.row(*at) != rows.row(own + row)).map(Some).collect::<Vec<_>>()),
        );
    }
    picked.finish(&values)
}

fn insert(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, (values, own)) = (columns[0].as_list::<i32>(), beside(columns, 2)?);
    let places = columns[1].as_primitive::<Int64Type>();
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let Some(range) = range(lists, row).filter(|_| places.is_valid(row)) else {
            picked.push(None::<Vec<_>>);
            continue;
        };
        let (length, place) = (range.len() as i64, places.value(row));
        let before = match place {
            1.. => place - 1,
            0 => return Err(wrong(ErrorKind::Data, "array_insert(list, 0, …): the first place is 1".to_owned())),
            _ => length + place + 1,
        };
        if !(0..=length + 1_000_000).contains(&before) {
            let text = format!("array_insert(list, {place}, …): a list of {length} has no such place");
            return Err(wrong(ErrorKind::Data, text));
        }
        let mut list: Vec<Option<usize>> = range.map(Some).collect();
        list.resize(list.len().max(before as usize), None);
        list.insert(before as usize, Some(own + row));
        picked.push(Some(list));
    }
    picked.finish(&values)
}

/// Each value once, of one list or of two, if it is to be there: is it of the left list, is it of the right one.
fn set(columns: &[ArrayRef], kept: fn(bool, bool, bool) -> bool) -> Result<ArrayRef> {
    let lists: Vec<&ListArray> = columns.iter().map(|column| column.as_list::<i32>()).collect();
    let all: Vec<&dyn Array> = lists.iter().map(|list| &**list.values()).collect();
    let (values, own) = (concat(&all)?, lists[0].values().len());
    let rows = rows(&values)?;
    let mut picked = Picked::default();
    for row in 0..lists[0].len() {
        let left = range(lists[0], row);
        let right = match lists.get(1) {
            Some(right) => range(right, row).map(|range| range.start + own..range.end + own),
            None => Some(0..0),
        };
        let (Some(left), Some(right)) = (left, right) else {
            picked.push(None::<Vec<_>>);
            continue;
        };
        let in_right: HashSet<_> = right.clone().map(|at| rows.row(at)).collect();
        let mut seen = HashSet::new();
        let first = |at: &usize| seen.insert(rows.row(*at));
        let of_left = left.clone().map(|at| (at, true)).chain(right.map(|at| (at, false)));
        let wanted = of_left.filter(|(at, left)| kept(*left, !left, in_right.contains(&rows.row(*at))));
        picked.push(Some(wanted.map(|(at, _)| at).filter(first).map(Some).collect::<Vec<_>>()));
    }
    picked.finish(&values)
}

fn overlap(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (left, right) = (columns[0].as_list::<i32>(), columns[1].as_list::<i32>());
    let (values, own) = (concat(&[&**left.values(), &**right.values()])?, left.values().len());
    let rows = rows(&values)?;
    let meet = |row: usize| {
        let (left, right) = (range(left, row)?, range(right, row)?);
        let right = right.start + own..right.end + own;
        let known = |at: &usize| values.is_valid(*at);
        let there: HashSet<_> = right.clone().filter(known).map(|at| rows.row(at)).collect();
        let found = left.clone().filter(known).any(|at| there.contains(&rows.row(at)));
        let unknown = !left.is_empty() && !right.is_empty() && left.chain(right).any(|at| values.is_null(at));
        (found || !unknown).then_some(found)
    };
    Ok(Arc::new((0..left.len()).map(meet).collect::<BooleanArray>()))
}

fn compact(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = columns[0].as_list::<i32>();
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let list = range(lists, row);
        picked.push(list.map(|list| list.filter(|at| lists.values().is_valid(*at)).map(Some).collect::<Vec<_>>()));
    }
    picked.finish(lists.values())
}

fn extreme(column: &ArrayRef, largest: bool) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let rows = rows(lists.values())?;
    let place = |row: usize| {
        let known = range(lists, row)?.filter(|at| lists.values().is_valid(*at));
        let found = if largest { known.max_by_key(|at| rows.row(*at)) } else { known.min_by_key(|at| rows.row(*at)) };
        found.map(|at| at as u32)
    };
    Ok(take(lists.values(), &(0..lists.len()).map(place).collect::<UInt32Array>(), None)?)
}

/// Sorts each list as `how` says for its row: whether it rises, and whether nulls come first.
fn sorted(column: &ArrayRef, how: impl Fn(usize) -> (bool, bool)) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let rows = rows(lists.values())?;
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let (rises, nulls_first) = how(row);
        picked.push(range(lists, row).map(|list| {
            let (mut known, nulls): (Vec<usize>, Vec<usize>) = list.partition(|at| lists.values().is_valid(*at));
            known.sort_by_key(|at| rows.row(*at));
            if !rises {
                known.reverse();
            }
            let (before, behind) = if nulls_first { (nulls, known) } else { (known, nulls) };
            before.into_iter().chain(behind).map(Some).collect::<Vec<_>>()
        }));
    }
    picked.finish(lists.values())
}

fn sort_array(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let rises = |row: usize| columns.get(1).is_none_or(|rises| rises.as_boolean().value(row));
    sorted(&columns[0], |row| (rises(row), rises(row)))
}

fn flatten(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let outer = columns[0].as_list::<i32>();
    let inner = outer.values().as_list::<i32>();
    let mut picked = Picked::default();
    for row in 0..outer.len() {
        let lists = range(outer, row).and_then(|lists| lists.map(|at| range(inner, at)).collect::<Option<Vec<_>>>());
        picked.push(lists.map(|lists| lists.into_iter().flatten().map(Some).collect::<Vec<_>>()));
    }
    picked.finish(inner.values())
}

fn slice(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let lists = columns[0].as_list::<i32>();
    let (starts, lengths) = (columns[1].as_primitive::<Int64Type>(), columns[2].as_primitive::<Int64Type>());
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        let Some(range) = range(lists, row).filter(|_| starts.is_valid(row) && lengths.is_valid(row)) else {
            picked.push(None::<Vec<_>>);
            continue;
        };
        let (start, length) = (starts.value(row), lengths.value(row));
        if start == 0 || length < 0 {
            let text = format!("slice(list, {start}, {length}): the first place is 1, and a length is not below 0");
            return Err(wrong(ErrorKind::Data, text));
        }
        let from = if start > 0 { start - 1 } else { start.saturating_add(range.len() as i64) };
        let inside = (0..=range.len() as i64).contains(&from);
        let skipped = if inside { from as usize } else { range.len() };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        picked.push(Some(range.skip(skipped).take(length).map(Some).collect::<Vec<_>>()));
    }
    picked.finish(lists.values())
}

fn repeat(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let times = columns[1].as_primitive::<Int64Type>();
    let most: i64 = times.iter().flatten().map(|times| times.max(0)).fold(0, i64::saturating_add);
    if most > i64::from(i32::MAX) {
        return Err(wrong(ErrorKind::Data, format!("array_repeat of {most} elements in a batch: that is too many")));
    }
    let mut picked = Picked::default();
    for (row, times) in times.iter().enumerate() {
        picked.push(times.map(|times| (0..times.max(0)).map(move |_| Some(row))));
    }
    picked.finish(&columns[0])
}

fn join(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let (lists, between) = (columns[0].as_list::<i32>(), columns[1].as_string::<i32>());
    let texts = lists.values().as_string::<i32>();
    let joined = (0..lists.len()).map(|row| {
        let range = range(lists, row).filter(|_| between.is_valid(row))?;
        let null = match columns.get(2) {
            Some(null) if null.is_null(row) => return None,
            Some(null) => Some(null.as_string::<i32>().value(row)),
            None => None,
        };
        let texts = range.filter_map(|at| if texts.is_valid(at) { Some(texts.value(at)) } else { null });
        Some(texts.collect::<Vec<_>>().join(between.value(row)))
    });
    Ok(Arc::new(joined.collect::<StringArray>()))
}

/// How many elements a list may have that is made of two ends.
const LONGEST: i64 = 10_000_000;

fn sequence(columns: &[ArrayRef]) -> Result<ArrayRef> {
    let days = *columns[0].data_type() == DataType::Date32;
    let whole = |column: &ArrayRef| -> Result<Int64Array> {
        let column =
            if days { datafusion::arrow::compute::cast(column, &DataType::Int32)? } else { Arc::clone(column) };
        Ok(datafusion::arrow::compute::cast(&column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    let (starts, ends) = (whole(&columns[0])?, whole(&columns[1])?);
    let steps = columns.get(2).map(whole).transpose()?;
    let (mut values, mut picked) = (Vec::new(), Picked::default());
    for row in 0..starts.len() {
        let step = match &steps {
            Some(steps) => steps.is_valid(row).then(|| steps.value(row)),
            None if starts.value(row) > ends.value(row) => Some(-1),
            None => Some(1),
        };
        let (Some(step), true) = (step, starts.is_valid(row) && ends.is_valid(row)) else {
            picked.push(None::<Vec<_>>);
            continue;
        };
        let (start, end) = (starts.value(row), ends.value(row));
        let leads = start == end || (start < end) == (step > 0);
        let steps = end.checked_sub(start).and_then(|way| if way == 0 { Some(0) } else { way.checked_div(step) });
        let Some(count) = steps.map(|n| n.saturating_add(1)).filter(|count| leads && (1..=LONGEST).contains(count))
        else {
            let text = format!(
                "sequence({start}, {end}, {step}): the step leads nowhere, or there are more than {LONGEST} elements"
            );
            return Err(wrong(ErrorKind::Data, text));
        };
        let from = values.len();
        values.extend((0..count).map(|n| start + n * step));
        picked.push(Some((from..values.len()).map(Some)));
    }
    let mut values: ArrayRef = Arc::new(Int64Array::from(values));
    if days {
        values = datafusion::arrow::compute::cast(&values, &DataType::Int32)?;
        values = datafusion::arrow::compute::cast(&values, &DataType::Date32)?;
    }
    picked.finish(&values)
}

/// Lists one behind the other; null if one of them is.
pub(super) fn joined(columns: &[ArrayRef]) -> Result<ArrayRef, DataFusionError> {
    let lists: Vec<&ListArray> = columns.iter().map(|column| column.as_list::<i32>()).collect();
    let all: Vec<&dyn Array> = lists.iter().map(|list| &**list.values()).collect();
    let values = concat(&all)?;
    let mut picked = Picked::default();
    for row in 0..lists[0].len() {
        let mut own = 0;
        let ranges = lists.iter().map(|list| {
            let from = own;
            own += list.values().len();
            range(list, row).map(|range| range.start + from..range.end + from)
        });
        let ranges: Option<Vec<_>> = ranges.collect();
        picked.push(ranges.map(|ranges| ranges.into_iter().flatten().map(Some).collect::<Vec<_>>()));
    }
    picked.finish(&values)
}

/// The elements of each list from the last to the first.
pub(super) fn reversed(column: &ArrayRef) -> Result<ArrayRef> {
    let lists = column.as_list::<i32>();
    let mut picked = Picked::default();
    for row in 0..lists.len() {
        picked.push(range(lists, row).map(|list| list.rev().map(Some)));
    }
    picked.finish(lists.values())
}
