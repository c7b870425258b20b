//! What a column can hold, and what a row can be made of.

use std::fmt;

use millstream_core::Text;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use serde::{Deserialize, Serialize};

/// A value of a column.
///
/// # Example
///
/// ```
/// use millstream_sqlite::SqlValue;
///
/// assert_eq!(SqlValue::from(7u32), SqlValue::Integer(7));
/// assert_eq!(SqlValue::from(None::<String>), SqlValue::Null);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SqlValue {
    /// Nothing.
    Null,
    /// A whole number.
    Integer(i64),
    /// A whole number that SQLite has no room for, as it is above the largest `i64`. A sink refuses it, and so does not
    /// store another one in its place.
    Unsigned(u64),
    /// A number. A sink refuses one that is not a number: SQLite would store it as nothing.
    Real(f64),
    /// A text.
    Text(Text),
    /// Bytes.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// Says why a database cannot hold it, if it cannot.
    pub(crate) fn objection(&self) -> Option<String> {
        match self {
            SqlValue::Unsigned(number) => {
                Some(format!("{number} is above {}, the largest whole number that SQLite has", i64::MAX))
            }
            SqlValue::Real(number) if number.is_nan() => {
                Some("NaN would become NULL: give an Option that is None, if that is meant".to_owned())
            }
            _ => None,
        }
    }
}

impl fmt::Display for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlValue::Null => f.write_str("NULL"),
            SqlValue::Integer(number) => number.fmt(f),
            SqlValue::Unsigned(number) => number.fmt(f),
            SqlValue::Real(number) => fmt::Debug::fmt(number, f),
            SqlValue::Text(text) => write!(f, "{:?}", text.as_str()),
            SqlValue::Blob(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            SqlValue::Null => ToSqlOutput::Owned(Value::Null),
            SqlValue::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            SqlValue::Unsigned(number) => {
                let number = i64::try_from(*number).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)));
                ToSqlOutput::Owned(Value::Integer(number?))
            }
            SqlValue::Real(number) => ToSqlOutput::Owned(Value::Real(*number)),
            SqlValue::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_str().as_bytes())),
            SqlValue::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

impl From<ValueRef<'_>> for SqlValue {
    fn from(value: ValueRef<'_>) -> SqlValue {
        match value {
            ValueRef::Null => SqlValue::Null,
            ValueRef::Integer(number) => SqlValue::Integer(number),
            ValueRef::Real(number) => SqlValue::Real(number),
            ValueRef::Text(bytes) => SqlValue::Text(String::from_utf8_lossy(bytes).into_owned().into()),
            ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
        }
    }
}

macro_rules! whole {
    ($($number:ty),*) => {$(
        impl From<$number> for SqlValue {
            fn from(number: $number) -> SqlValue {
                SqlValue::Integer(number.into())
            }
        }
    )*};
}

whole!(bool, i8, i16, i32, i64, u8, u16, u32);

impl From<u64> for SqlValue {
    fn from(number: u64) -> SqlValue {
        i64::try_from(number).map_or(SqlValue::Unsigned(number), SqlValue::Integer)
    }
}

impl From<usize> for SqlValue {
    fn from(number: usize) -> SqlValue {
        SqlValue::from(number as u64)
    }
}

impl From<f32> for SqlValue {
    fn from(number: f32) -> SqlValue {
        SqlValue::Real(number.into())
    }
}

impl From<f64> for SqlValue {
    fn from(number: f64) -> SqlValue {
        SqlValue::Real(number)
    }
}

impl From<Text> for SqlValue {
    fn from(text: Text) -> SqlValue {
        SqlValue::Text(text)
    }
}

impl From<String> for SqlValue {
    fn from(text: String) -> SqlValue {
        SqlValue::Text(text.into())
    }
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> SqlValue {
        SqlValue::Text(text.into())
    }
}

impl From<Vec<u8>> for SqlValue {
    fn from(bytes: Vec<u8>) -> SqlValue {
        SqlValue::Blob(bytes)
    }
}

impl<V: Into<SqlValue>> From<Option<V>> for SqlValue {
    fn from(value: Option<V>) -> SqlValue {
        value.map_or(SqlValue::Null, Into::into)
    }
}

/// What a row can be made of: a tuple of up to eight values, an array or a vector.
///
/// # Example
///
/// ```
/// use millstream_sqlite::{IntoRow, SqlValue};
///
/// assert_eq!(("be", 2u64).into_row(), [SqlValue::from("be"), SqlValue::Integer(2)]);
/// assert_eq!([1.5, 2.5].into_row().len(), 2);
/// ```
pub trait IntoRow {
    /// Returns the values, in the order of the columns.
    fn into_row(self) -> Vec<SqlValue>;
}

impl<V: Into<SqlValue>> IntoRow for Vec<V> {
    fn into_row(self) -> Vec<SqlValue> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<V: Into<SqlValue>, const N: usize> IntoRow for [V; N] {
    fn into_row(self) -> Vec<SqlValue> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuples {
    ($(($($name:ident $field:tt),+))*) => {$(
        impl<$($name: Into<SqlValue>),+> IntoRow for ($($name,)+) {
            fn into_row(self) -> Vec<SqlValue> {
                vec![$(self.$field.into()),+]
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_a_column_holds_and_none_becomes_another() {
        for (value, want) in [
            (SqlValue::from(true), SqlValue::Integer(1)),
            (SqlValue::from(-3i8), SqlValue::Integer(-3)),
            (SqlValue::from(i64::MAX as u64), SqlValue::Integer(i64::MAX)),
            (SqlValue::from(u64::MAX), SqlValue::Unsigned(u64::MAX)),
            (SqlValue::from(Some("a")), SqlValue::Text("a".into())),
            (SqlValue::from(vec![1, 2]), SqlValue::Blob(vec![1, 2])),
        ] {
            assert_eq!(value, want);
        }
        assert!(SqlValue::from(u64::MAX).objection().is_some_and(|text| text.starts_with("18446744073709551615 is")));
        assert!(SqlValue::from(f64::NAN).objection().is_some());
        assert_eq!(SqlValue::from(f64::INFINITY).objection(), None);
    }
}
