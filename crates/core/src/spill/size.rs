//! About how many bytes a value takes in memory, by a walk over what serde shows of it.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

use crate::data::ExchangeData;

/// How many elements of a collection are looked at.
const LOOKS: usize = 16;

/// Returns about how many bytes a value takes, with what it owns.
pub(crate) fn size_of_value<T: ExchangeData>(value: &T) -> u64 {
    let own = size_of::<T>() as u64;
    if !std::mem::needs_drop::<T>() {
        return own;
    }
    let mut sizer = Sizer { bytes: 0 };
    // A value that refuses to be written is reported by whoever must write it.
    let _ = value.serialize(&mut sizer);
    sizer.bytes.max(own)
}

/// Returns about how many bytes values take, by a look at one of them.
#[inline]
pub(crate) fn size_of_chunk<T: ExchangeData>(values: &[T]) -> u64 {
    match values.get(values.len() / 2) {
        Some(one) => size_of_value(one) * values.len() as u64,
        None => 0,
    }
}

/// Returns about how many bytes values take, by a look at some of them.
pub(crate) fn size_of_values<T: ExchangeData>(values: &[T]) -> u64 {
    if !std::mem::needs_drop::<T>() || values.is_empty() {
        return size_of_val(values) as u64;
    }
    let step = values.len().div_ceil(LOOKS);
    let (mut looks, mut bytes) = (0, 0);
    for value in values.iter().step_by(step) {
        looks += 1;
        bytes += size_of_value(value);
    }
    bytes * values.len() as u64 / looks
}

/// Adds up what it is shown.
struct Sizer {
    bytes: u64,
}

/// What a vector, a string or a map takes beside its elements, with what an allocator adds.
const HEAD: u64 = 32;

impl Sizer {
    fn add(&mut self, bytes: usize) -> Result<(), fmt::Error> {
        self.bytes += bytes as u64;
        Ok(())
    }

    fn some<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut look: impl FnMut(&mut Sizer, T) -> Result<(), fmt::Error>,
    ) -> Result<(), fmt::Error> {
        let (before, mut items) = (self.bytes, items);
        let mut looks = 0;
        for item in items.by_ref().take(LOOKS) {
            look(self, item)?;
            looks += 1;
        }
        let rest = items.size_hint().0 as u64;
        self.bytes += ((self.bytes - before) * rest).checked_div(looks).unwrap_or(0);
        self.bytes += HEAD;
        Ok(())
    }
}

macro_rules! fixed {
    ($($name:ident($type:ty))*) => {
        $(fn $name(self, _: $type) -> Result<(), fmt::Error> {
            self.add(size_of::<$type>())
        })*
    };
}

impl Serializer for &mut Sizer {
    type Ok = ();
    type Error = fmt::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fixed! {
        serialize_bool(bool) serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_i128(i128) serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_u128(u128) serialize_f32(f32) serialize_f64(f64) serialize_char(char)
    }

    fn serialize_str(self, text: &str) -> Result<(), fmt::Error> {
        self.add(text.len() + HEAD as usize)
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), fmt::Error> {
        self.add(bytes.len() + HEAD as usize)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.add(value.to_string().len() + HEAD as usize)
    }

    fn collect_seq<I: IntoIterator>(self, items: I) -> Result<(), fmt::Error>
    where
        I::Item: Serialize,
    {
        self.some(items.into_iter(), |sizer, item| item.serialize(sizer))
    }

    fn collect_map<K: Serialize, V: Serialize, I: IntoIterator<Item = (K, V)>>(
        self,
        items: I,
    ) -> Result<(), fmt::Error> {
        self.some(items.into_iter(), |sizer, (key, value)| {
            key.serialize(&mut *sizer)?;
            value.serialize(sizer)
        })
    }

    fn serialize_none(self) -> Result<(), fmt::Error> {
        self.add(8)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), fmt::Error> {
        self.bytes += 8;
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), fmt::Error> {
        self.add(8)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), fmt::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), fmt::Error> {
        self.bytes += 8;
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        self.bytes += HEAD;
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        self.bytes += 8;
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, fmt::Error> {
        self.bytes += HEAD;
        Ok(self)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        Ok(self)
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, fmt::Error> {
        self.bytes += 8;
        Ok(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! compound {
    ($($trait:ident $element:ident $(($name:ty))?;)*) => {
        $(impl ser::$trait for &mut Sizer {
            type Ok = ();
            type Error = fmt::Error;

            fn $element<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<(), fmt::Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), fmt::Error> {
                Ok(())
            }
        })*
    };
}

compound! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
    SerializeStruct serialize_field (&'static str);
    SerializeStructVariant serialize_field (&'static str);
}

impl ser::SerializeMap for &mut Sizer {
    type Ok = ();
    type Error = fmt::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), fmt::Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), fmt::Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), fmt::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_about_what_values_take() {
        assert_eq!(size_of_value(&7u64), 8);
        assert_eq!(size_of_value(&(1u8, 7u64)), 16);
        let text = size_of_value(&"x".repeat(1000));
        assert!((1000..1100).contains(&text), "{text}");
        let list = size_of_value(&vec![7u64; 1_000_000]);
        assert!((8_000_000..8_000_100).contains(&list), "{list}");
        let lists = size_of_value(&(1u8, vec!["four".to_owned(); 1000]));
        assert!((28_000..50_000).contains(&lists), "{lists}");
        assert!(size_of_value(&Some("x".repeat(100))) > 100);
        assert_eq!(size_of_values(&[1u32, 2, 3]), 12);
        assert_eq!(size_of_values::<String>(&[]), 0);
        let some = size_of_values(&vec!["x".repeat(100); 50]);
        assert!((5000..8000).contains(&some), "{some}");
    }
}
