//! A text as serde sees it: a string, read without a `String` in between where the format lends its bytes.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::Text;

impl Serialize for Text {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

fn check<E: de::Error>(len: usize) -> Result<(), E> {
    if u32::try_from(len).is_ok() { Ok(()) } else { Err(E::invalid_length(len, &"a text of at most 4 GiB")) }
}

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    #[inline]
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
        check(text.len())?;
        Ok(Text::from(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
        check(text.len())?;
        Ok(Text::from(text))
    }
}
