//! A value as JSON, of what serde knows of it. The forms are those of `serde_json`, which the tests compare with.
//!
//! It is not used itself since a crate that has it among its dependencies, however far, can no longer write
//! `assert_eq!(numbers, [])`: the compiler would have to choose between numbers and `serde_json::Value`.

use std::fmt;
use std::io::Write;

use serde::Serialize;
use serde::ser;

use crate::textform::Refused;

/// Appends `value` as JSON. What it appended is to be dropped if it fails.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Refused> {
    value.serialize(Json { out })
}

/// Appends a text with its quotes. Only what must be is escaped.
fn write_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x08 => out.extend(b"\\b"),
            0x0c => out.extend(b"\\f"),
            0..0x20 => append(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes all that it is given.
    let _ = out.write_fmt(text);
}

struct Json<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Json<'a> {
    fn open(self, open: &str, close: &'static str) -> Parts<'a> {
        self.out.extend(open.bytes());
        Parts { out: self.out, close, first: true }
    }

    /// Opens an object that says which variant is in it.
    fn variant(self, name: &str, open: &str, close: &'static str) -> Parts<'a> {
        self.out.push(b'{');
        write_text(name, self.out);
        self.out.push(b':');
        self.open(open, close)
    }
}

/// The parts of an array or an object.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    close: &'static str,
    first: bool,
}

impl Parts<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.comma();
        write(value, self.out)
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Refused> {
        self.comma();
        write_text(name, self.out);
        self.out.push(b':');
        write(value, self.out)
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.comma();
        let from = self.out.len();
        write(key, self.out)?;
        match self.out.get(from) {
            Some(b'"') => {}
            // A number or a bool: as a text.
            Some(b'-' | b'0'..=b'9' | b't' | b'f') => {
                self.out.insert(from, b'"');
                self.out.push(b'"');
            }
            _ => return Err(Refused("a key must be a text, a number or a bool".to_owned())),
        }
        self.out.push(b':');
        Ok(())
    }

    fn close(self) {
        self.out.extend(self.close.bytes());
    }
}

macro_rules! numbers {
    ($($name:ident $type:ty),*) => {$(
        fn $name(self, number: $type) -> Result<(), Refused> {
            append(self.out, format_args!("{number}"));
            Ok(())
        }
    )*};
}

macro_rules! floats {
    ($($name:ident $type:ty),*) => {$(
        fn $name(self, number: $type) -> Result<(), Refused> {
            if number.is_finite() {
                append(self.out, format_args!("{number:?}"));
            } else {
                self.out.extend(b"null");
            }
            Ok(())
        }
    )*};
}

impl<'a> ser::Serializer for Json<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    numbers!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64,
        serialize_i128 i128, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64,
        serialize_u128 u128
    );
    floats!(serialize_f32 f32, serialize_f64 f64);

    fn serialize_char(self, letter: char) -> Result<(), Refused> {
        self.serialize_str(letter.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<(), Refused> {
        write_text(text, self.out);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        let mut parts = self.open("[", "]");
        bytes.iter().try_for_each(|byte| parts.item(byte))?;
        parts.close();
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.out.extend(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Refused> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        let mut parts = self.open("{", "}");
        parts.field(variant, value)?;
        parts.close();
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Refused> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Refused> {
        Ok(self.open("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refused> {
        Ok(self.variant(variant, "[", "]}"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Refused> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Refused> {
        Ok(self.open("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Refused> {
        Ok(self.variant(variant, "{", "}}"))
    }
}

macro_rules! items {
    ($($of:ident $part:ident),*) => {$(
        impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn $part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.item(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close();
                Ok(())
            }
        }
    )*};
}

items!(
    SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

macro_rules! fields {
    ($($of:ident),*) => {$(
        impl ser::$of for Parts<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Refused> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close();
                Ok(())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        write(value, self.out)
    }

    fn end(self) -> Result<(), Refused> {
        self.close();
        Ok(())
    }
}
