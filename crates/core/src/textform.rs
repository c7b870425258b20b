//! The text form of an element, as `print` shows it and text files hold it.
//!
//! It is made from what serde knows of the value, so tuples and collections have one without a `Display` of their
//! own: texts as they are, pairs as `(word,3)`, lists as `[1, 2]`, structs as `Point(1,2)`, `None` and `Some(1)`.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde::ser;

use crate::error::{Error, ErrorKind, Result};

/// Returns the text form of `value`.
///
/// # Example
///
/// ```
/// use millstream_core::textform;
///
/// assert_eq!(textform::of(&("ann", 3, Some('x')))?, "(ann,3,Some(x))");
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Errors
///
/// The kind is `User`: the value's own `Serialize` refuses.
pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(text)
}

/// Appends the text form of `value` to `out`.
///
/// # Errors
///
/// As [`of`].
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut String) -> Result<()> {
    value
        .serialize(Form { out })
        .map_err(|e| Error::new(ErrorKind::User, format!("an element cannot be shown as text: {}", e.0)))
}

struct Form<'a> {
    out: &'a mut String,
}

/// Why a value cannot be written as text.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Refused {
        Refused(message.to_string())
    }
}

/// Parts of something, with what stands between and behind them.
struct Parts<'a> {
    out: &'a mut String,
    between: &'static str,
    close: &'static str,
    first: bool,
}

impl<'a> Parts<'a> {
    fn open(out: &'a mut String, open: &str, between: &'static str, close: &'static str) -> Parts<'a> {
        out.push_str(open);
        Parts { out, between, close, first: true }
    }

    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        if !std::mem::take(&mut self.first) {
            self.out.push_str(self.between);
        }
        value.serialize(Form { out: self.out })
    }

    fn close(self) {
        self.out.push_str(self.close);
    }
}

macro_rules! plain {
    ($($name:ident: $ty:ty),*) => {
        $(fn $name(self, value: $ty) -> Result<(), Refused> {
            let _ = write!(self.out, "{value}");
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for Form<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    plain!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str
    );

    fn serialize_f32(self, value: f32) -> Result<(), Refused> {
        let _ = write!(self.out, "{value:?}");
        Ok(())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Refused> {
        let _ = write!(self.out, "{value:?}");
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        let mut parts = Parts::open(self.out, "[", ", ", "]");
        bytes.iter().try_for_each(|byte| parts.part(byte))?;
        parts.close();
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.out.push_str("None");
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.serialize_newtype_struct("Some", value)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.out.push_str("()");
        Ok(())
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<(), Refused> {
        self.serialize_str(name)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Refused> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Refused> {
        self.out.push_str(name);
        let mut parts = Parts::open(self.out, "(", ",", ")");
        parts.part(value)?;
        parts.close();
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.serialize_newtype_struct(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(Parts::open(self.out, "[", ", ", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Refused> {
        Ok(Parts::open(self.out, "(", ",", ")"))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Refused> {
        self.out.push_str(name);
        Ok(Parts::open(self.out, "(", ",", ")"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refused> {
        self.out.push_str(variant);
        Ok(Parts::open(self.out, "(", ",", ")"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(Parts::open(self.out, "{", ", ", "}"))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts<'a>, Refused> {
        self.out.push_str(name);
        Ok(Parts::open(self.out, "(", ",", ")"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refused> {
        self.out.push_str(variant);
        Ok(Parts::open(self.out, "(", ",", ")"))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Refused> {
        let _ = write!(self.out, "{value}");
        Ok(())
    }
}

macro_rules! parts_of {
    ($($compound:ident::$method:ident),*) => {
        $(impl ser::$compound for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.part(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close();
                Ok(())
            }
        })*
    };
}

parts_of!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! named_parts_of {
    ($($compound:ident),*) => {
        $(impl ser::$compound for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Refused> {
                self.part(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close();
                Ok(())
            }
        })*
    };
}

named_parts_of!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.out.push_str(" -> ");
        value.serialize(Form { out: self.out })
    }

    fn end(self) -> Result<(), Refused> {
        self.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Point {
        x: i32,
        y: f64,
    }

    #[derive(Serialize)]
    enum Shape {
        Dot,
        Circle(u8),
        Box { w: u8, h: u8 },
    }

    #[test]
    fn s105_elements_have_the_text_form_that_people_know() {
        let map = std::collections::BTreeMap::from([("a", 1), ("b", 2)]);
        for (form, want) in [
            (of("hello").unwrap(), "hello"),
            (of(&("hello", 1)).unwrap(), "(hello,1)"),
            (of(&vec![1, 2]).unwrap(), "[1, 2]"),
            (of(&(1, (2.5, 'x'))).unwrap(), "(1,(2.5,x))"),
            (of(&2.0f64).unwrap(), "2.0"),
            (of(&Some(1)).unwrap(), "Some(1)"),
            (of(&None::<u8>).unwrap(), "None"),
            (of(&()).unwrap(), "()"),
            (of(&map).unwrap(), "{a -> 1, b -> 2}"),
            (of(&Point { x: 1, y: 2.0 }).unwrap(), "Point(1,2.0)"),
            (of(&[Shape::Dot, Shape::Circle(1), Shape::Box { w: 1, h: 2 }]).unwrap(), "(Dot,Circle(1),Box(1,2))"),
        ] {
            assert_eq!(form, want);
        }
    }
}
