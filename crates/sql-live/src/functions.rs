//! Functions that clients of Postgres call before they ask anything, and whose answer here is always the same.

use std::sync::Arc;

use datafusion::arrow::array::{Array as _, StringArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::cast::as_string_array;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, create_udf,
};

use crate::any::any_of;

/// What is said of the version: drivers read from it what they may send.
pub(crate) const VERSION: &str = "16.6";

/// Returns them all.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let version = format!("PostgreSQL {VERSION} (millstream {})", env!("CARGO_PKG_VERSION"));
    let none = || ScalarValue::Utf8(None);
    let constants: [(&'static str, ScalarValue); 17] = [
        ("version", text(&version)),
        ("obj_description", none()),
        ("col_description", none()),
        ("shobj_description", none()),
        ("pg_get_serial_sequence", none()),
        ("pg_get_viewdef", none()),
        ("pg_get_indexdef", none()),
        ("pg_get_triggerdef", none()),
        ("pg_get_ruledef", none()),
        ("pg_get_function_result", none()),
        ("pg_get_function_arguments", none()),
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(true))),
        ("pg_type_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_function_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_tablespace_location", text("")),
        ("pg_indexes_size", ScalarValue::Int64(Some(0))),
    ];
    let mut all: Vec<ScalarUDF> = constants.into_iter().map(|(name, value)| constant(name, value)).collect();
    all.push(any_of());
    let two = vec![DataType::Utf8, DataType::Utf8];
    all.push(create_udf(LIKE_ESCAPE, two, DataType::Utf8, Volatility::Immutable, Arc::new(like_escape)));
    let pair = vec![Field::new("x", DataType::Int16, true), Field::new("n", DataType::Int32, true)];
    all.push(ScalarUDF::new_from_impl(OrNull { signature: Signature::any(1, Volatility::Immutable) }));
    all.push(of_nothing("generate_subscripts", DataType::Int32));
    all.push(of_nothing("_pg_expandarray", DataType::Struct(pair.into())));
    all.push(ScalarUDF::new_from_impl(CurrentSetting { signature: Signature::variadic_any(Volatility::Stable) }));
    all
}

fn constant(name: &'static str, value: ScalarValue) -> ScalarUDF {
    let signature = Signature::one_of(
        vec![datafusion::logical_expr::TypeSignature::Nullary, datafusion::logical_expr::TypeSignature::VariadicAny],
        Volatility::Stable,
    );
    ScalarUDF::new_from_impl(Constant { name, value, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &'static str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match arguments.args.first() {
            Some(ColumnarValue::Scalar(name)) => name.try_as_str().flatten().unwrap_or_default().to_lowercase(),
            _ => String::new(),
        };
        let value = default_of(&name).map(str::to_owned);
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value)))
    }
}

/// What a subquery's value goes through, which may be NULL: see [`dialect`](crate::dialect).
pub(crate) const OR_NULL: &str = "or_null";

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrNull {
    signature: Signature,
}

impl ScalarUDFImpl for OrNull {
    fn name(&self) -> &'static str {
        OR_NULL
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// A value of this type, or NULL.
    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [one] => Ok(one.clone()),
            _ => exec_err!("or_null takes one value"),
        }
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.as_slice() {
            [one] => Ok(one.clone()),
            _ => exec_err!("or_null takes one value"),
        }
    }
}

/// A function that gives rows, which is called of what there are none of here: the columns of keys and indexes.
fn of_nothing(name: &'static str, gives: DataType) -> ScalarUDF {
    ScalarUDF::new_from_impl(OfNothing { name, gives, signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfNothing {
    name: &'static str,
    gives: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for OfNothing {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.number_rows {
            0 => Ok(ColumnarValue::Scalar(ScalarValue::try_from(&self.gives)?)),
            _ => exec_err!("{} is there for the catalogue alone: take unnest", self.name),
        }
    }
}

/// What `LIKE … ESCAPE` is called where statements are planned, as in Postgres.
pub(crate) const LIKE_ESCAPE: &str = "like_escape";

/// `like_escape(pattern, character)`: the pattern as it is with the backslash.
fn like_escape(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let [patterns, with] = arrays.as_slice() else { return exec_err!("like_escape takes a pattern and a character") };
    let (patterns, with) = (as_string_array(patterns)?, as_string_array(with)?);
    let escaped: StringArray = (0..patterns.len())
        .map(|row| match patterns.is_null(row) || with.is_null(row) {
            true => Ok(None),
            false => with_backslash(patterns.value(row), with.value(row)).map(Some),
        })
        .collect::<Result<_>>()?;
    Ok(ColumnarValue::Array(Arc::new(escaped)))
}

fn with_backslash(pattern: &str, with: &str) -> Result<String> {
    let mut characters = with.chars();
    let (escape, None) = (characters.next(), characters.next()) else {
        return exec_err!("invalid escape string: it is one character, or none");
    };
    let mut made = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            // What stands behind it is meant as it is.
            _ if Some(character) == escape => match rest.next() {
                Some(next) => made.extend(['\\', next]),
                None => return exec_err!("a pattern of LIKE must not end with its escape character"),
            },
            '\\' => made.push_str("\\\\"),
            other => made.push(other),
        }
    }
    Ok(made)
}

/// The settings that can be asked for, as they are unless a client has set them.
pub(crate) const SETTINGS: [(&str, &str); 25] = [
    ("server_version", VERSION),
    ("server_version_num", "160006"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("transaction_read_only", "on"),
    ("default_transaction_read_only", "on"),
    ("is_superuser", "off"),
    ("in_hot_standby", "off"),
    ("transaction_deferrable", "off"),
    ("row_security", "off"),
    ("transaction_isolation", "repeatable read"),
    ("default_transaction_isolation", "repeatable read"),
    ("search_path", "public"),
    ("timezone", "UTC"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("application_name", ""),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
];

/// What a setting is, unless a client has set it.
pub(crate) fn default_of(name: &str) -> Option<&'static str> {
    // Which language messages are in is told as the rest is, and not listed: nobody asks for it but by its name.
    let name = if name == "lc_messages" { "lc_ctype" } else { name };
    SETTINGS.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_same_with_the_backslash() {
        for (pattern, with, want) in [
            ("pg/_%", "/", Ok(r"pg\_%")),
            ("a//b", "/", Ok(r"a\/b")),
            (r"a\b", "/", Ok(r"a\\b")),
            (r"a\_", r"\", Ok(r"a\_")),
            (r"a\_", "", Ok(r"a\\_")),
            ("é_é%", "é", Ok(r"\_\%")),
            ("a/", "/", Err("must not end")),
            ("a", "//", Err("one character")),
        ] {
            match (with_backslash(pattern, with), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{pattern} {with}"),
                (Err(got), Err(want)) => assert!(got.to_string().contains(want), "{got}"),
                (got, want) => panic!("{pattern} {with}: {got:?}, and not {want:?}"),
            }
        }
    }
}
