//! Functions whose types depend on those of their arguments.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::texts::by_rows;
use crate::show;

/// A function that says by itself which types it takes.
pub(super) struct Typed {
    pub(super) name: &'static str,
    /// What it takes, in words.
    pub(super) says: &'static str,
    /// The types as which it takes these, if it does.
    pub(super) takes: fn(&[DataType]) -> Option<Vec<DataType>>,
    pub(super) gives: fn(&[DataType]) -> DataType,
    pub(super) compute: fn(&[ArrayRef]) -> Result<ArrayRef>,
}

/// All there are.
fn all() -> impl Iterator<Item = &'static Typed> {
    let lists = super::lists::LISTS.iter().chain(&super::lists::MADE).chain(&super::maps::MAPS);
    let times = super::days::DAYS.iter().chain(&super::days::CUT);
    lists.chain(times).chain(&super::numbers::NUMBERS).chain(&super::strings::STRINGS)
}

/// What they are called inside: DataFusion has some of their names, also as second names of its own functions, and would put those
/// back in their place.
const PREFIX: &str = "spark_";

/// The name of a function inside, if it is one of these.
pub(super) fn inside(name: &str) -> Option<String> {
    all().any(|typed| typed.name == name).then(|| format!("{PREFIX}{name}"))
}

/// Makes functions of them.
pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    all().map(|typed| {
        let (name, signature) = (format!("{PREFIX}{}", typed.name), Signature::user_defined(Volatility::Immutable));
        ScalarUDF::new_from_impl(Function { typed, name, signature })
    })
}

struct Function {
    typed: &'static Typed,
    name: String,
    signature: Signature,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.typed.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.typed.name == other.typed.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.typed.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        (self.typed.takes)(types).ok_or_else(|| {
            let Typed { name, says, .. } = self.typed;
            let rows = name.starts_with("rows_of") || name.starts_with("places_of");
            let name = if rows { "explode" } else { name.trim_start_matches("checked_") };
            let given: Vec<String> = types.iter().map(show::type_name).collect();
            DataFusionError::Plan(format!("{name} takes {says}, and not ({})", given.join(", ")))
        })
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok((self.typed.gives)(types))
    }

    /// How many digits a decimal has that is rounded depends on how many it is rounded to.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let mut gives = (self.typed.gives)(&types);
        if let ("round" | "bround", Some(decimal @ DataType::Decimal128(..)), Some(digits)) =
            (self.typed.name, types.first(), args.scalar_arguments.get(1))
        {
            let Some(ScalarValue::Int64(Some(digits))) = digits else {
                let text = "a decimal is rounded to a number of digits that is written out: write CAST(x AS DOUBLE) for others";
                return Err(DataFusionError::Plan(text.to_owned()));
            };
            gives = super::numbers::rounded_to(decimal, *digits);
        }
        Ok(Arc::new(Field::new(&self.name, gives, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = arguments.return_type();
        let value = by_rows(&arguments, self.typed.compute)?;
        if value.data_type() == *to { Ok(value) } else { value.cast_to(to, None) }
    }
}

/// The one type as which values of all these are taken. A number and a text have none: Spark would cast, and may fail.
pub(super) fn common(types: &[DataType]) -> Option<DataType> {
    let mut known = types.iter().filter(|of| !of.is_null());
    let Some(first) = known.next() else { return Some(DataType::Null) };
    let rest: Vec<&DataType> = known.collect();
    let alike = |of: &&DataType| {
        (first.is_numeric() && of.is_numeric())
            || (first.is_string() && of.is_string())
            || (first.is_temporal() && of.is_temporal())
            || (first.is_nested() && of.is_nested())
    };
    if rest.iter().all(|of| *of == first) {
        return Some(first.clone());
    }
    rest.iter().all(alike).then(|| type_union_resolution(types)).flatten()
}

/// A list of these.
pub(super) fn list_of(item: DataType) -> DataType {
    DataType::List(item_of(item))
}

pub(super) fn item_of(item: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(item, true))
}

/// What a list is of. NULL is a list of nothing.
pub(super) fn item(of: &DataType) -> Option<DataType> {
    match of {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Some(item.data_type().clone())
        }
        DataType::Null => Some(DataType::Null),
        _ => None,
    }
}

pub(super) fn is_whole(of: &DataType) -> bool {
    of.is_integer() || of.is_null()
}
