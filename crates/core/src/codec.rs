//! How values become bytes and come back: the only file that chooses an encoding.
//!
//! The encoding is [postcard](https://docs.rs/postcard). What is kept on disk carries a frame around it, made by
//! the file that owns the format.

use std::any::Any;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::data::ExchangeData;
use crate::error::{Error, ErrorKind, Result};

/// Writes `value` as bytes.
///
/// # Errors
///
/// The kind is `User`: the value's own `Serialize` refused, or it has no known length.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|e| {
        Error::new(ErrorKind::User, format!("a value of type {} cannot be written: {e}", std::any::type_name::<T>()))
    })
}

/// Appends `value` to `bytes`.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_onto<T: Serialize + ?Sized>(value: &T, bytes: Vec<u8>) -> Result<Vec<u8>> {
    postcard::to_extend(value, bytes).map_err(|e| {
        Error::new(ErrorKind::User, format!("a value of type {} cannot be written: {e}", std::any::type_name::<T>()))
    })
}

/// Reads one value, which must use up all of `bytes`.
///
/// # Errors
///
/// The kind is `Data`: the bytes are not such a value, or there are too many or too few of them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let (value, rest) = decode_from(bytes)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(Error::new(
            ErrorKind::Data,
            format!("{} bytes too many behind a value of type {}", rest.len(), std::any::type_name::<T>()),
        ))
    }
}

/// Reads one value and returns what follows it.
///
/// # Errors
///
/// The kind is `Data`: the bytes do not begin with such a value.
pub fn decode_from<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|e| {
        Error::new(
            ErrorKind::Data,
            format!("{} bytes are not a value of type {}: {e}", bytes.len(), std::any::type_name::<T>()),
        )
    })
}

/// How many elements of a list may take no bytes at all: their number is all that is said of them, and may be a lie.
const MOST_EMPTY: u64 = 1 << 24;

/// Reads a list as [`encode`] writes a vector, and returns what follows it: for bytes that may be damaged, or come from
/// strangers. Elements without any bytes (of a type like `()`) are bounded: 16 million.
///
/// *Cost*: memory for what is there, whatever length is claimed.
///
/// # Errors
///
/// As [`decode_from`]; the list has too many elements without bytes.
pub fn decode_list_from<T: DeserializeOwned>(bytes: &[u8]) -> Result<(Vec<T>, &[u8])> {
    let (count, mut rest): (u64, &[u8]) = decode_from(bytes)?;
    let likely = usize::try_from(count).unwrap_or(usize::MAX).min(rest.len());
    let mut list = Vec::with_capacity(likely.min((1 << 20) / size_of::<T>().max(1)));
    let mut empty = 0;
    for _ in 0..count {
        let (element, behind) = decode_from(rest)?;
        empty += u64::from(behind.len() == rest.len());
        if empty > MOST_EMPTY {
            let name = std::any::type_name::<T>();
            let text = format!(
                "a list of {count} elements of type {name} without any bytes is too long: {MOST_EMPTY} at most"
            );
            return Err(Error::new(ErrorKind::Data, text));
        }
        list.push(element);
        rest = behind;
    }
    Ok((list, rest))
}

/// As [`decode_list_from`]; the list must use up all of `bytes`.
///
/// # Errors
///
/// As [`decode_list_from`], and as [`decode`].
pub fn decode_list<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    let (list, rest) = decode_list_from(bytes)?;
    if rest.is_empty() {
        return Ok(list);
    }
    let text =
        format!("{} bytes too many behind a list of elements of type {}", rest.len(), std::any::type_name::<T>());
    Err(Error::new(ErrorKind::Data, text))
}

/// The codec of one type, for places where the type itself is no longer known.
#[derive(Clone, Copy)]
pub struct TypeCodec {
    encode: fn(&dyn Any) -> Result<Bytes>,
    decode: fn(&[u8]) -> Result<Box<dyn Any + Send + Sync>>,
    /// For a vector: its elements written one behind the other, in pieces.
    pieces: Option<Pieces>,
    name: fn() -> &'static str,
}

/// Gives the number of elements in each piece of about the given length, and its bytes.
type Pieces = fn(&dyn Any, usize, &mut dyn FnMut(usize, &[u8]) -> Result<()>) -> Result<()>;

impl TypeCodec {
    /// Returns the codec of `T`.
    pub fn of<T: ExchangeData>() -> TypeCodec {
        TypeCodec {
            encode: |value| {
                let value =
                    value.downcast_ref::<T>().ok_or_else(|| crate::bug!("a codec met a value of another type"))?;
                Ok(Bytes::from(encode(value)?))
            },
            decode: |bytes| Ok(Box::new(decode::<T>(bytes)?)),
            pieces: None,
            name: std::any::type_name::<T>,
        }
    }

    /// Returns the codec of `Vec<T>`, which can also write elements in pieces.
    pub fn of_many<T: ExchangeData>() -> TypeCodec {
        let pieces: Pieces = |values, length, each| {
            let values: &Vec<T> =
                values.downcast_ref().ok_or_else(|| crate::bug!("a codec met values of another type"))?;
            let (mut bytes, mut items) = (Vec::new(), 0);
            for value in values {
                bytes = encode_onto(value, bytes)?;
                items += 1;
                if bytes.len() >= length {
                    each(items, &bytes)?;
                    bytes.clear();
                    items = 0;
                }
            }
            if items > 0 { each(items, &bytes) } else { Ok(()) }
        };
        TypeCodec { pieces: Some(pieces), ..TypeCodec::of::<Vec<T>>() }
    }

    /// Returns the codec of bytes that came from another process, whose reader alone knows of which type they are.
    pub(crate) fn elsewhere() -> TypeCodec {
        TypeCodec {
            encode: |_| Err(crate::bug!("what came from another process as bytes is to be written by its type")),
            decode: |_| Err(crate::bug!("what came from another process as bytes is to be read by its type")),
            pieces: None,
            name: || "elements from elsewhere",
        }
    }

    /// Writes the elements of a vector, one behind the other, and gives each piece of about `length` bytes to `each`.
    ///
    /// # Errors
    ///
    /// As [`encode`], and what `each` fails with.
    pub(crate) fn encode_pieces(
        &self,
        values: &dyn Any,
        length: usize,
        each: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        match self.pieces {
            Some(pieces) => pieces(values, length, each),
            None => {
                // What is in front of the elements is how many there are.
                let bytes = self.encode(values)?;
                let (items, rest) = decode_from::<usize>(&bytes)?;
                each(items, rest)
            }
        }
    }

    /// Writes a value of the codec's type.
    ///
    /// # Errors
    ///
    /// As [`encode`]; `Internal` if the value is of another type.
    pub fn encode(&self, value: &dyn Any) -> Result<Bytes> {
        (self.encode)(value)
    }

    /// Reads a value of the codec's type.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    pub fn decode(&self, bytes: &[u8]) -> Result<Box<dyn Any + Send + Sync>> {
        (self.decode)(bytes)
    }
}

impl fmt::Debug for TypeCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypeCodec({})", (self.name)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_a_vector_is_and_its_length_is_not_believed() {
        let words = vec!["a".to_owned(), String::new(), "bc".to_owned()];
        let mut bytes = encode(&words).unwrap();
        assert_eq!(decode_list::<String>(&bytes).unwrap(), words);
        bytes.push(7);
        assert_eq!(decode_list_from::<String>(&bytes).unwrap(), (words, &[7][..]));
        assert!(decode_list::<String>(&bytes).is_err());

        assert_eq!(decode_list::<()>(&encode(&vec![(); 1000]).unwrap()).unwrap().len(), 1000);
        let lie = encode(&u64::MAX).unwrap();
        assert!(decode_list::<u8>(&lie).is_err());
        let error = decode_list::<()>(&lie).unwrap_err().to_string();
        assert!(error.contains("without any bytes"), "{error}");
    }

    #[test]
    fn values_come_back_and_leftovers_are_refused() {
        let bytes = encode(&("a", 7u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(&bytes).unwrap(), ("a".to_owned(), 7));
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode::<(String, u64)>(&longer).unwrap_err().kind(), ErrorKind::Data);
        assert_eq!(decode::<(String, u64)>(&bytes[..1]).unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn an_erased_codec_refuses_another_type() {
        let codec = TypeCodec::of::<Vec<u32>>();
        let bytes = codec.encode(&vec![1u32, 2]).unwrap();
        let back = codec.decode(&bytes).unwrap();
        assert_eq!(back.downcast_ref::<Vec<u32>>(), Some(&vec![1, 2]));
        assert_eq!(codec.encode(&1u8).unwrap_err().kind(), ErrorKind::Internal);
    }
}
