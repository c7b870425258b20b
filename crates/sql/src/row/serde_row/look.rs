//! What a type is made of, by what it asks for when it reads itself from nothing.
//!
//! A type that serde reads says what it wants: a struct of these fields, a list, a number. Here it is given values that mean nothing, and what it
//! asked for is written down. What one reading does not show, further variants of an enum or a text in a form of its own, another one does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use millstream_core::{Error, ErrorKind, Result};
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::Shape;
use crate::row::cell::of;

/// Texts that are given to a type: one of them is what a type takes that does not take any.
const TEXTS: [&str; 10] = [
    "",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00",
    "1970-01-01",
    "00:00:00",
    "00000000-0000-0000-0000-000000000000",
    "127.0.0.1",
    "127.0.0.1:80",
    "http://localhost/",
    "1",
];

/// How often a type is read at most: an enum is read once for each of its variants.
const TIMES: usize = 4096;

/// How deep values may lie in each other. A type that holds itself has no end.
const DEPTH: usize = 32;

/// Finds the columns of a type.
pub(super) fn shape<T: DeserializeOwned>() -> Result<Shape> {
    let name = of::<T>();
    let refused = |why: &str| Error::new(ErrorKind::Config, format!("`{name}` is no row of columns: {why}"));
    let known = RefCell::new(Known::default());
    for _ in 0..TIMES {
        let mut part = None;
        known.borrow_mut().more = false;
        let read = T::deserialize(Look { known: &known, path: String::new(), depth: 0, part: &mut part });
        let known = &mut *known.borrow_mut();
        match read {
            Ok(_) if known.more => {}
            Ok(_) => {
                let part = part.ok_or_else(|| refused("it asks for nothing when it is read"))?;
                return part.shape(name).map_err(|why| refused(&why));
            }
            Err(Trouble::Refused(why)) => return Err(refused(&why)),
            Err(Trouble::Twice(own)) => known.alias(own).map_err(|why| refused(&why))?,
            Err(Trouble::Said(text)) => known.another_value(&text).map_err(|why| refused(&why))?,
        }
    }
    Err(refused("its enums have too many variants"))
}

/// What is known of a type from having read it before.
#[derive(Default)]
struct Known {
    /// How many values a place did not take.
    refused: BTreeMap<String, usize>,
    /// The variant that an enum is to be next.
    variants: BTreeMap<String, usize>,
    /// Names that are another name of the field beside them.
    aliases: BTreeSet<(String, &'static str)>,
    /// The names that a struct was given, and the struct that was given one last.
    given: BTreeMap<String, Vec<&'static str>>,
    asking: String,
    /// The place that was given a value last, and how many there are for it.
    last: Option<(String, usize)>,
    /// Whether an enum has a variant that was not looked at.
    more: bool,
}

impl Known {
    /// A value was not taken: tries the next one.
    fn another_value(&mut self, text: &str) -> Result<(), String> {
        let Some((path, values)) = &self.last else { return Err(text.to_owned()) };
        let refused = self.refused.entry(path.clone()).or_default();
        *refused += 1;
        if *refused < *values {
            return Ok(());
        }
        Err(format!("{} is read from some values only, and none is known that it takes: {text}", called(path)))
    }

    /// A field came under two names. Names of one field lie beside each other, and only its own is a column.
    fn alias(&mut self, own: &'static str) -> Result<(), String> {
        let given = self.given.get(&self.asking).map(Vec::as_slice).unwrap_or_default();
        let alias = match given {
            [.., before, last] => Some(if *last == own { *before } else { *last }),
            _ => None,
        };
        match alias {
            Some(alias) if self.aliases.insert((self.asking.clone(), alias)) => Ok(()),
            _ => Err(format!("the field `{own}` comes twice")),
        }
    }
}

/// What a place is called in errors.
fn called(path: &str) -> String {
    if path.is_empty() { "it".to_owned() } else { format!("its field `{}`", path.trim_start_matches('.')) }
}

/// Why a type was not read to its end.
#[derive(Debug)]
enum Trouble {
    /// The type says something, of a value probably.
    Said(String),
    /// It got a field twice, as it says: the field's own name.
    Twice(&'static str),
    /// It has no columns.
    Refused(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Said(text) | Trouble::Refused(text) => f.write_str(text),
            Trouble::Twice(name) => write!(f, "duplicate field `{name}`"),
        }
    }
}

impl std::error::Error for Trouble {}

impl serde::de::Error for Trouble {
    fn custom<T: fmt::Display>(text: T) -> Trouble {
        Trouble::Said(text.to_string())
    }

    fn duplicate_field(field: &'static str) -> Trouble {
        Trouble::Twice(field)
    }
}

/// What was asked for in one place.
struct Part {
    seen: Seen,
    nullable: bool,
}

enum Seen {
    Leaf(DataType),
    List(Box<Part>),
    Map(Box<Part>, Box<Part>),
    Fields(Vec<(String, Part)>),
}

impl Part {
    fn shape(self, name: &'static str) -> Result<Shape, String> {
        let (fields, alone) = match self {
            Part { seen: Seen::Fields(parts), nullable: false } => (fields(parts)?, false),
            other => (Fields::from(vec![other.field("value")?]), true),
        };
        Ok(Shape { schema: Arc::new(Schema::new(fields)), alone, name })
    }

    fn field(self, name: &str) -> Result<Field, String> {
        let of = match self.seen {
            Seen::Leaf(of) => of,
            Seen::List(item) => DataType::List(Arc::new(item.field("item")?)),
            Seen::Map(key, value) => {
                let pair = vec![key.field("key")?.with_nullable(false), value.field("value")?];
                let entries = Field::new("entries", DataType::Struct(Fields::from(pair)), false);
                DataType::Map(Arc::new(entries), false)
            }
            Seen::Fields(parts) => DataType::Struct(fields(parts)?),
        };
        Ok(Field::new(name, of, self.nullable))
    }
}

fn fields(parts: Vec<(String, Part)>) -> Result<Fields, String> {
    let mut names = BTreeSet::new();
    for (name, _) in &parts {
        if !names.insert(name.to_lowercase()) {
            return Err(format!("two of its fields are called `{name}`: SQL finds names without regard to case"));
        }
    }
    parts.into_iter().map(|(name, part)| part.field(&name)).collect()
}

/// A place in the type that is about to say what it is.
struct Look<'a> {
    known: &'a RefCell<Known>,
    /// Where it is: `.limits[].high`.
    path: String,
    depth: usize,
    part: &'a mut Option<Part>,
}

impl Look<'_> {
    /// Writes down a leaf, and says which of its values is to be given to it.
    fn leaf(&mut self, of: DataType, values: usize) -> usize {
        *self.part = Some(Part { seen: Seen::Leaf(of), nullable: false });
        let known = &mut *self.known.borrow_mut();
        known.last = Some((self.path.clone(), values));
        known.refused.get(&self.path).copied().unwrap_or(0).min(values - 1)
    }

    fn refused<T>(&self, why: &str) -> Result<T, Trouble> {
        Err(Trouble::Refused(format!("{} {why}", called(&self.path))))
    }

    /// What lies inside, by its part and its step.
    fn inside<'b>(&'b self, step: &str, part: &'b mut Option<Part>) -> Look<'b> {
        Look { known: self.known, path: format!("{}{step}", self.path), depth: self.depth + 1, part }
    }

    /// Writes down what was seen inside, all of which must have been asked for.
    fn seen<const N: usize>(
        &mut self,
        parts: [Option<Part>; N],
        of: impl FnOnce([Part; N]) -> Seen,
    ) -> Result<(), Trouble> {
        let mut all = Vec::with_capacity(N);
        for part in parts {
            match part {
                Some(part) => all.push(part),
                None => return self.refused("does not say what it holds"),
            }
        }
        let Ok(all) = <[Part; N]>::try_from(all) else { return self.refused("does not say what it holds") };
        *self.part = Some(Part { seen: of(all), nullable: false });
        Ok(())
    }

    fn fields<T>(self, read: T, parts: Vec<(String, Option<Part>)>) -> Result<T, Trouble> {
        let mut all = Vec::with_capacity(parts.len());
        for (name, part) in parts {
            match part {
                Some(part) => all.push((name, part)),
                None => {
                    let place = format!("{}.{name}", self.path);
                    return Err(Trouble::Refused(format!("{} does not say what it is", called(&place))));
                }
            }
        }
        if all.is_empty() {
            return self.refused("has no fields");
        }
        *self.part = Some(Part { seen: Seen::Fields(all), nullable: false });
        Ok(read)
    }

    fn is_too_deep(&self) -> Result<(), Trouble> {
        if self.depth < DEPTH {
            Ok(())
        } else {
            Err(Trouble::Refused("it holds itself, so its columns have no end".to_owned()))
        }
    }
}

macro_rules! leaves {
    ($($method:ident, $visit:ident, $of:ident, $values:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Trouble> {
            let values = $values;
            let value = values[self.leaf(DataType::$of, values.len())];
            visitor.$visit(value)
        }
    )*};
}

macro_rules! refused {
    ($($method:ident($($argument:ident: $of:ty),*), $why:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $of,)* _: V) -> Result<V::Value, Trouble> {
            self.refused($why)
        }
    )*};
}

impl<'de> Deserializer<'de> for Look<'_> {
    type Error = Trouble;

    leaves! {
        deserialize_bool, visit_bool, Boolean, [false, true];
        deserialize_i8, visit_i8, Int8, [0, 1];
        deserialize_i16, visit_i16, Int16, [0, 1];
        deserialize_i32, visit_i32, Int32, [0, 1];
        deserialize_i64, visit_i64, Int64, [0, 1];
        deserialize_u8, visit_u8, UInt8, [0, 1];
        deserialize_u16, visit_u16, UInt16, [0, 1];
        deserialize_u32, visit_u32, UInt32, [0, 1];
        deserialize_u64, visit_u64, UInt64, [0, 1];
        deserialize_f32, visit_f32, Float32, [0.0, 1.0];
        deserialize_f64, visit_f64, Float64, [0.0, 1.0];
        deserialize_str, visit_str, Utf8, TEXTS;
        deserialize_string, visit_str, Utf8, TEXTS;
        deserialize_identifier, visit_str, Utf8, TEXTS;
        deserialize_bytes, visit_bytes, Binary, [&b""[..]];
        deserialize_byte_buf, visit_bytes, Binary, [&b""[..]];
    }

    refused! {
        deserialize_any(), "decides by what it reads what it is, as `flatten`, `untagged`, `tag` and JSON's values do, \
                            and columns are known before";
        deserialize_ignored_any(), "ignores what it is";
        deserialize_char(), "is a char: make it a String";
        deserialize_i128(), "is a number of 128 bits: make it a text, or an i64";
        deserialize_u128(), "is a number of 128 bits: make it a text, or a u64";
        deserialize_unit(), "holds nothing: leave it out with #[serde(skip)]";
        deserialize_unit_struct(_name: &'static str), "holds nothing: leave it out with #[serde(skip)]";
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        let Look { known, path, depth, part } = self;
        let value = visitor.visit_some(Look { known, path, depth: depth + 1, part: &mut *part })?;
        if let Some(part) = part {
            part.nullable = true;
        }
        Ok(value)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        visitor.visit_newtype_struct(Look { depth: self.depth + 1, ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        let mut item = None;
        let read =
            visitor.visit_seq(Items { of: &self, parts: std::slice::from_mut(&mut item), step: Some("[]"), at: 0 })?;
        self.seen([item], |[item]| Seen::List(Box::new(item)))?;
        Ok(read)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        let mut parts: Vec<Option<Part>> = (0..len).map(|_| None).collect();
        let read = visitor.visit_seq(Items { of: &self, parts: &mut parts, step: None, at: 0 })?;
        let parts = parts.into_iter().enumerate().map(|(i, part)| (format!("_{}", i + 1), part)).collect();
        self.fields(read, parts)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        let (mut key, mut value) = (None, None);
        let read = visitor.visit_map(Pair { of: &self, key: &mut key, value: &mut value, at: 0 })?;
        self.seen([key, value], |[key, value]| Seen::Map(Box::new(key), Box::new(value)))?;
        Ok(read)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        self.is_too_deep()?;
        let mut parts = Vec::with_capacity(names.len());
        self.known.borrow_mut().given.insert(self.path.clone(), Vec::new());
        let read = visitor.visit_map(Named { of: &self, names, parts: &mut parts })?;
        self.fields(read, parts)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Trouble> {
        let at = self.known.borrow().variants.get(&self.path).copied().unwrap_or(0);
        let Some(variant) = variants.get(at) else { return self.refused("is an enum without variants") };
        let read = visitor.visit_enum(OneVariant { of: &self, variant })?;
        if at + 1 < variants.len() {
            let known = &mut *self.known.borrow_mut();
            known.variants.insert(self.path.clone(), at + 1);
            known.more = true;
        }
        *self.part = Some(Part { seen: Seen::Leaf(DataType::Utf8), nullable: false });
        Ok(read)
    }
}

/// The items of a list, of which there is one, or of a tuple.
struct Items<'a, 'b> {
    of: &'a Look<'b>,
    parts: &'a mut [Option<Part>],
    /// The step to an item; of a tuple it is its place.
    step: Option<&'static str>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Trouble;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Trouble> {
        let Some(part) = self.parts.get_mut(self.at) else { return Ok(None) };
        self.at += 1;
        let step = self.step.map_or_else(|| format!("._{}", self.at), str::to_owned);
        seed.deserialize(self.of.inside(&step, part)).map(Some)
    }
}

/// The one pair of a map.
struct Pair<'a, 'b> {
    of: &'a Look<'b>,
    key: &'a mut Option<Part>,
    value: &'a mut Option<Part>,
    at: usize,
}

impl<'de> MapAccess<'de> for Pair<'_, '_> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Trouble> {
        if self.at > 0 {
            return Ok(None);
        }
        self.at += 1;
        seed.deserialize(self.of.inside(" (keys)", self.key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Trouble> {
        seed.deserialize(self.of.inside(" (values)", self.value))
    }
}

/// The fields of a struct.
struct Named<'a, 'b> {
    of: &'a Look<'b>,
    names: &'static [&'static str],
    parts: &'a mut Vec<(String, Option<Part>)>,
}

impl<'de> MapAccess<'de> for Named<'_, '_> {
    type Error = Trouble;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Trouble> {
        let name = {
            let known = &mut *self.of.known.borrow_mut();
            let path = &self.of.path;
            loop {
                let [name, rest @ ..] = self.names else { return Ok(None) };
                self.names = rest;
                if !known.aliases.contains(&(path.clone(), *name)) {
                    known.given.entry(path.clone()).or_default().push(name);
                    known.asking.clone_from(path);
                    break *name;
                }
            }
        };
        self.parts.push((name.to_owned(), None));
        let name: StrDeserializer<'_, Trouble> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Trouble> {
        let Some((name, part)) = self.parts.last_mut() else {
            return self.of.refused("asks for a value before its name");
        };
        let step = format!(".{name}");
        seed.deserialize(self.of.inside(&step, part))
    }
}

/// One variant of an enum.
struct OneVariant<'a, 'b> {
    of: &'a Look<'b>,
    variant: &'static str,
}

impl OneVariant<'_, '_> {
    fn refused<T>(&self) -> Result<T, Trouble> {
        let why = format!("is an enum whose variant `{}` has fields: make it a struct of options", self.variant);
        self.of.refused(&why)
    }
}

impl<'de> EnumAccess<'de> for OneVariant<'_, '_> {
    type Error = Trouble;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Trouble> {
        let name: StrDeserializer<'_, Trouble> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for OneVariant<'_, '_> {
    type Error = Trouble;

    fn unit_variant(self) -> Result<(), Trouble> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Trouble> {
        self.refused()
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Trouble> {
        self.refused()
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Trouble> {
        self.refused()
    }
}
