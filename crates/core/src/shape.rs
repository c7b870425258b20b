//! The shape of a type as it is written down: names of fields, their order and types. For telling whether what an earlier build
//! wrote can be read by this one.
//!
//! Encodings without names, as ours, read the bytes of another type without noticing. A shape is found by asking the type's
//! own `Deserialize` what it wants to read, with made-up values: it does not depend on names of modules or types, which change
//! without the form changing.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// How often a type is asked, to see all variants of its enumerations.
const PASSES: usize = 256;

/// How deep types are followed.
const DEPTH: usize = 32;

/// A shape longer than this is cut, with a mark of the rest.
const LENGTH: usize = 2000;

/// Returns the shape of a type.
///
/// Types that contain themselves are followed once. Where a type refuses the made-up value (a text that must be a date, say),
/// what comes behind it is unknown, and shown as `?`; the shape is still the same each time.
///
/// # Example
///
/// ```
/// use millstream_core::shape_of;
///
/// #[derive(serde::Deserialize)]
/// # #[allow(dead_code)]
/// struct Session { user: String, clicks: Vec<(u64, bool)>, kind: Option<Kind> }
/// #[derive(serde::Deserialize)]
/// # #[allow(dead_code)]
/// enum Kind { Guest, Member(u32) }
///
/// assert_eq!(
///     shape_of::<Session>(),
///     "{user: text, clicks: [(u64, bool)], kind: Option<Guest | Member(u32)>}"
/// );
/// ```
///
/// *Cost*: microseconds; it is asked once a start.
pub fn shape_of<T: DeserializeOwned>() -> String {
    let mut found = Found::default();
    for _ in 0..PASSES {
        let tracer = Tracer { found: &mut found, path: Vec::new(), inside: Vec::new() };
        // Also a type that refuses has said what it asked for.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| T::deserialize(tracer).map(drop)));
        if !found.nodes.values().any(Node::has_unseen) || !std::mem::take(&mut found.is_new) {
            break;
        }
    }
    let text = found.render(&mut Vec::new());
    if text.len() <= LENGTH {
        return text;
    }
    let cut = text.floor_char_boundary(LENGTH);
    format!("{}… {:016x}", &text[..cut], crate::partitioner::key_hash(&text))
}

type Path = Vec<u16>;

#[derive(Default)]
struct Found {
    nodes: BTreeMap<Path, Node>,
    /// Whether this pass saw something that none before it saw.
    is_new: bool,
}

enum Node {
    Plain(&'static str),
    Option,
    Seq,
    Map,
    Tuple(usize),
    Struct(&'static [&'static str]),
    Newtype,
    Enum(&'static [&'static str], Vec<bool>),
    /// The same as something that it is inside of.
    Again,
}

impl Node {
    fn has_unseen(&self) -> bool {
        matches!(self, Node::Enum(_, seen) if seen.contains(&false))
    }
}

impl Found {
    fn render(&self, path: &mut Path) -> String {
        let Some(node) = self.nodes.get(path) else { return "?".into() };
        let mut child = |n: usize| {
            path.push(n as u16);
            let text = self.render(path);
            path.pop();
            text
        };
        match node {
            Node::Plain(name) => (*name).into(),
            Node::Again => "…".into(),
            Node::Newtype => child(0),
            Node::Option => format!("Option<{}>", child(0)),
            Node::Seq => format!("[{}]", child(0)),
            Node::Map => format!("{{{} => {}}}", child(0), child(1)),
            Node::Tuple(n) => format!("({})", (0..*n).map(child).collect::<Vec<_>>().join(", ")),
            Node::Struct(fields) => {
                let fields: Vec<_> =
                    fields.iter().enumerate().map(|(n, name)| format!("{name}: {}", child(n))).collect();
                format!("{{{}}}", fields.join(", "))
            }
            Node::Enum(variants, _) => {
                let variant = |(n, name): (usize, &&str)| match child(n).as_str() {
                    "()" => (*name).to_owned(),
                    body if body.starts_with(['(', '{']) => format!("{name}{body}"),
                    body => format!("{name}({body})"),
                };
                variants.iter().enumerate().map(variant).collect::<Vec<_>>().join(" | ")
            }
        }
    }
}

/// What a type refused, or what is too deep.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type refused a made-up value")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Stop {
        Stop
    }
}

struct Tracer<'a> {
    found: &'a mut Found,
    path: Path,
    /// The structures and enumerations that this is inside of, by the address of their names.
    inside: Vec<*const u8>,
}

impl Tracer<'_> {
    fn note(&mut self, node: Node) {
        if !self.found.nodes.contains_key(&self.path) {
            self.found.nodes.insert(self.path.clone(), node);
            self.found.is_new = true;
        }
    }

    fn child(&mut self, n: usize) -> Tracer<'_> {
        let mut path = self.path.clone();
        path.push(n as u16);
        Tracer { found: self.found, path, inside: self.inside.clone() }
    }

    /// Enters something with names; `false` if this is too deep.
    fn enter(&mut self, names: &'static [&'static str]) -> Result<(), Stop> {
        self.inside.push(names.as_ptr().cast());
        if self.path.len() > DEPTH { Err(Stop) } else { Ok(()) }
    }

    /// Says whether the innermost structure is inside of itself: what may be empty is empty then.
    fn is_within_itself(&self) -> bool {
        self.inside.last().is_some_and(|last| self.inside.iter().filter(|other| *other == last).count() > 1)
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $value:expr, $name:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
            self.note(Node::Plain($name));
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Stop;

    plain! {
        deserialize_bool visit_bool false, "bool";
        deserialize_i8 visit_i8 1, "i8";
        deserialize_i16 visit_i16 1, "i16";
        deserialize_i32 visit_i32 1, "i32";
        deserialize_i64 visit_i64 1, "i64";
        deserialize_i128 visit_i128 1, "i128";
        deserialize_u8 visit_u8 1, "u8";
        deserialize_u16 visit_u16 1, "u16";
        deserialize_u32 visit_u32 1, "u32";
        deserialize_u64 visit_u64 1, "u64";
        deserialize_u128 visit_u128 1, "u128";
        deserialize_f32 visit_f32 1.0, "f32";
        deserialize_f64 visit_f64 1.0, "f64";
        deserialize_char visit_char 'a', "char";
        deserialize_str visit_borrowed_str "", "text";
        deserialize_string visit_borrowed_str "", "text";
        deserialize_bytes visit_borrowed_bytes b"", "bytes";
        deserialize_byte_buf visit_borrowed_bytes b"", "bytes";
        deserialize_identifier visit_borrowed_str "", "text";
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Plain("any"));
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Plain("any"));
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Plain("()"));
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Option);
        if self.is_within_itself() {
            self.child(0).note(Node::Again);
            return visitor.visit_none();
        }
        visitor.visit_some(self.child(0))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, _: &'static str, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Newtype);
        visitor.visit_newtype_struct(self.child(0))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Seq);
        let count = usize::from(!self.is_within_itself());
        if count == 0 {
            self.child(0).note(Node::Again);
        }
        visitor.visit_seq(Elements { of: self, at: 0, count, same: true })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Tuple(count));
        visitor.visit_seq(Elements { of: self, at: 0, count, same: false })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.deserialize_tuple(count, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Stop> {
        self.note(Node::Map);
        let count = usize::from(!self.is_within_itself());
        visitor.visit_map(Elements { of: self, at: 0, count: 2 * count, same: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(Node::Struct(fields));
        self.enter(fields)?;
        visitor.visit_seq(Elements { of: self, at: 0, count: fields.len(), same: false })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(Node::Enum(variants, vec![false; variants.len()]));
        self.enter(variants)?;
        let chosen = match self.found.nodes.get_mut(&self.path) {
            Some(Node::Enum(_, seen)) => {
                let chosen = seen.iter().position(|seen| !seen).unwrap_or(0);
                if let Some(seen) = seen.get_mut(chosen) {
                    self.found.is_new |= !*seen;
                    *seen = true;
                }
                chosen
            }
            _ => 0,
        };
        visitor.visit_enum(Variant { of: self, chosen })
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of something, one by one.
struct Elements<'a> {
    of: Tracer<'a>,
    at: usize,
    count: usize,
    /// Whether all are of one type.
    same: bool,
}

impl Elements<'_> {
    fn next(&mut self) -> Option<Tracer<'_>> {
        if self.at >= self.count {
            return None;
        }
        let n = if self.same { 0 } else { self.at };
        self.at += 1;
        Some(self.of.child(n))
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        self.next().map(|tracer| seed.deserialize(tracer)).transpose()
    }
}

impl<'de> MapAccess<'de> for Elements<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.next().map(|tracer| seed.deserialize(tracer)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.next().ok_or(Stop)?)
    }
}

/// The variant of an enumeration whose turn it is.
struct Variant<'a> {
    of: Tracer<'a>,
    chosen: usize,
}

impl<'de, 'a> EnumAccess<'de> for Variant<'a> {
    type Error = Stop;
    type Variant = Tracer<'a>;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Tracer<'a>), Stop> {
        let index = u32::try_from(self.chosen).unwrap_or(u32::MAX);
        let value = seed.deserialize(de::value::U32Deserializer::<Stop>::new(index))?;
        self.of.path.push(self.chosen as u16);
        Ok((value, self.of))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Stop;

    fn unit_variant(mut self) -> Result<(), Stop> {
        self.note(Node::Plain("()"));
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(mut self, seed: T) -> Result<T::Value, Stop> {
        self.note(Node::Newtype);
        seed.deserialize(self.child(0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_tuple(count, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        self.note(Node::Struct(fields));
        visitor.visit_seq(Elements { of: self, at: 0, count: fields.len(), same: false })
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "the types are asked for their shapes only")]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::num::NonZeroU8;

    use serde::Deserialize;

    use super::shape_of;
    use crate::{Text, Time};

    #[derive(Deserialize)]
    struct Point {
        x: f64,
        y: f64,
    }

    #[derive(Deserialize)]
    struct Renamed {
        x: f64,
        y: f64,
    }

    #[derive(Deserialize)]
    struct Turned {
        y: f64,
        x: f64,
    }

    #[derive(Deserialize)]
    enum Figure {
        Empty,
        Dot(Point),
        Line(Point, Point),
        Circle { middle: Point, radius: f32 },
        Many(Vec<Figure>),
    }

    #[derive(Deserialize)]
    struct Tree {
        value: u8,
        left: Option<Box<Tree>>,
        right: Option<Box<Tree>>,
    }

    #[derive(Deserialize)]
    struct Wrapped(Vec<Point>);

    #[derive(Deserialize)]
    struct Unit;

    #[test]
    fn the_shape_of_a_type_is_what_is_written_of_it() {
        for (shape, want) in [
            (shape_of::<u64>(), "u64"),
            (shape_of::<String>(), "text"),
            (shape_of::<Text>(), "text"),
            (shape_of::<Time>(), "i64"),
            (shape_of::<()>(), "()"),
            (shape_of::<Unit>(), "()"),
            (shape_of::<(i8, Option<char>)>(), "(i8, Option<char>)"),
            (shape_of::<[u16; 3]>(), "(u16, u16, u16)"),
            (shape_of::<HashMap<String, Vec<bool>>>(), "{text => [bool]}"),
            (shape_of::<BTreeMap<u8, Point>>(), "{u8 => {x: f64, y: f64}}"),
            (shape_of::<Wrapped>(), "[{x: f64, y: f64}]"),
            (shape_of::<Result<u8, String>>(), "Ok(u8) | Err(text)"),
            (shape_of::<NonZeroU8>(), "u8"),
            (shape_of::<std::time::Duration>(), "{secs: u64, nanos: u32}"),
        ] {
            assert_eq!(shape, want);
        }
    }

    #[test]
    fn names_of_types_do_not_matter_and_names_and_order_of_fields_do() {
        assert_eq!(shape_of::<Point>(), shape_of::<Renamed>());
        assert_ne!(shape_of::<Point>(), shape_of::<Turned>());
        assert_ne!(shape_of::<Point>(), shape_of::<(f64, f64)>());
    }

    #[test]
    fn all_variants_are_seen_also_of_types_that_contain_themselves() {
        let figure = shape_of::<Figure>();
        for part in ["Empty | Dot{x: f64, y: f64} | Line({x", "Circle{middle: {x: f64, y: f64}, radius: f32} | Many(["]
        {
            assert!(figure.contains(part), "{figure}");
        }
        let tree = shape_of::<Tree>();
        assert!(tree.starts_with("{value: u8, left: Option<{value: u8, left: Option<…>"), "{tree}");
        assert_eq!(shape_of::<Tree>(), tree);
    }

    #[test]
    fn a_type_that_refuses_made_up_values_or_panics_has_a_shape_all_the_same() {
        struct Picky;
        impl<'de> Deserialize<'de> for Picky {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Picky, D::Error> {
                let text = String::deserialize(d)?;
                if text.is_empty() { Err(serde::de::Error::custom("no")) } else { Ok(Picky) }
            }
        }
        assert_eq!(shape_of::<(u8, Picky, u8)>(), "(u8, text, ?)");
        assert_eq!(shape_of::<std::net::IpAddr>(), shape_of::<std::net::IpAddr>());
    }
}
