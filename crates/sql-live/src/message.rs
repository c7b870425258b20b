//! Messages of clients, looked at before they are decoded: what they say of their own parts must be true of them. Pure, and made of
//! nothing but bytes.
//!
//! What decodes them believes every length and every count. So a message is handed to it alone, and only when its strings end in it, its
//! counts fit into it, and nothing is left behind its last part.

/// The longest message that is read, in bytes: a statement, or the values that it is given.
pub(crate) const LONG: usize = 16 << 20;
/// The longest of those that carry no more than a name; and of those of a client of whom nothing is known yet.
const SHORT: usize = 10_000;

/// How far a connection is, which decides what may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The first message, which alone has no type: who it is, or what is to be cancelled.
    Opening,
    /// It is asked to prove that it knows the password.
    Proving,
    /// It may ask.
    Asking,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) text: String,
    /// Whether the connection ends with it, as it cannot be known what the client means.
    pub(crate) ends: bool,
}

fn broken(text: impl Into<String>) -> Refusal {
    Refusal { code: "08P01", text: text.into(), ends: true }
}

/// Says how long the next message is, with its type and its length; nothing as long as too little of it is there.
pub(crate) fn length(start: &[u8], stage: Stage) -> Result<Option<usize>, Refusal> {
    let (head, most) = match (stage, start.first()) {
        (_, None) => return Ok(None),
        (Stage::Opening, _) => (0, SHORT),
        (Stage::Proving, Some(b'p')) => (1, SHORT),
        (Stage::Proving, Some(other)) => {
            return Err(broken(format!("expected SASL response, got message type {other}")));
        }
        (Stage::Asking, Some(b'Q' | b'P' | b'B' | b'd')) => (1, LONG),
        (Stage::Asking, Some(b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f')) => (1, SHORT),
        (Stage::Asking, Some(other)) => return Err(broken(format!("invalid frontend message type {other}"))),
    };
    let Some((length, _)) = start[head..].split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    let least = if stage == Stage::Opening { 8 } else { 4 };
    if (least..=most).contains(&length) {
        Ok(Some(head + length))
    } else {
        Err(broken(format!("invalid message length {length}: it is {least} to {most} here")))
    }
}

/// Looks at one whole message, as long as [`length`] says that it is.
pub(crate) fn check(message: &[u8], stage: Stage) -> Result<(), Refusal> {
    match stage {
        Stage::Opening => opening(message),
        // What is in it is told apart where the password is.
        Stage::Proving => Ok(()),
        Stage::Asking => asking(message),
    }
}

fn opening(message: &[u8]) -> Result<(), Refusal> {
    let mut body = Body(message.get(4..).unwrap_or_default());
    match (body.short()?, body.short()?) {
        // Who the connection is that is to be cancelled, and its secret.
        (1234, 5678) => {
            body.take(4)?;
            match body.0.len() {
                4..=256 => Ok(()),
                other => Err(broken(format!("invalid length of cancel request: a key of {other} bytes"))),
            }
        }
        (3, _) => {
            let layout = |_| broken("invalid startup packet layout: expected terminator as last byte");
            while !body.string().map_err(layout)?.is_empty() {
                body.string().map_err(layout)?;
            }
            body.end().map_err(layout)
        }
        (major, minor) => Err(Refusal {
            code: "0A000",
            text: format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"),
            ends: true,
        }),
    }
}

fn asking(message: &[u8]) -> Result<(), Refusal> {
    let Some((kind, rest)) = message.split_first() else { return Err(broken(SHORT_OF_DATA)) };
    let mut body = Body(rest.get(4..).unwrap_or_default());
    match kind {
        b'Q' => body.text()?,
        b'P' => {
            body.text()?;
            body.text()?;
            let types = body.short()?;
            body.take(usize::from(types) * 4)?;
        }
        b'B' => bind(&mut body)?,
        b'D' | b'C' => {
            let of = body.take(1)?;
            if !matches!(of, b"S" | b"P") {
                let what = if *kind == b'D' { "DESCRIBE" } else { "CLOSE" };
                return Err(broken(format!("invalid {what} message subtype {}", of[0])));
            }
            body.text()?;
        }
        b'E' => {
            body.text()?;
            body.take(4)?;
        }
        // Of a COPY, of which there is none: what it carries is not looked at.
        b'd' => return Ok(()),
        b'f' => {
            body.string()?;
        }
        _ => {}
    }
    body.end()
}

fn bind(body: &mut Body<'_>) -> Result<(), Refusal> {
    body.text()?;
    body.text()?;
    let formats = body.formats()?;
    let values = body.short()?;
    for _ in 0..values {
        match body.long()? {
            u32::MAX => {}
            length => {
                body.take(length as usize)?;
            }
        }
    }
    if formats > 1 && formats != values {
        return Err(broken(format!("bind message has {formats} parameter formats but {values} parameters")));
    }
    body.formats()?;
    Ok(())
}

const SHORT_OF_DATA: &str = "insufficient data left in message";

/// What is left of a message.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (taken, left) = self.0.split_at_checked(length).ok_or_else(|| broken(SHORT_OF_DATA))?;
        self.0 = left;
        Ok(taken)
    }

    fn short(&mut self) -> Result<u16, Refusal> {
        self.take(2).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u16::from(*byte)))
    }

    fn long(&mut self) -> Result<u32, Refusal> {
        self.take(4).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A string, up to the zero that ends it.
    fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(|| broken("invalid string in message"))?;
        let string = self.take(end)?;
        self.take(1)?;
        Ok(string)
    }

    /// A string that is text. Another would be read as some text that the client has not said.
    fn text(&mut self) -> Result<(), Refusal> {
        let string = self.string()?;
        match std::str::from_utf8(string) {
            Ok(_) => Ok(()),
            Err(error) => {
                let text =
                    format!("invalid byte sequence for encoding \"UTF8\": 0x{:02x}", string[error.valid_up_to()]);
                Err(Refusal { code: "22021", text, ends: false })
            }
        }
    }

    /// In which forms values are: text or binary. Returns how many are said.
    fn formats(&mut self) -> Result<u16, Refusal> {
        let count = self.short()?;
        for _ in 0..count {
            let code = self.short()?;
            if code > 1 {
                let text = format!("unsupported format code: {code}");
                return Err(Refusal { code: "22023", text, ends: false });
            }
        }
        Ok(count)
    }

    fn end(self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(broken("invalid message format: something is left behind its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with a right length.
    fn whole(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    fn start(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    const NOT_ENOUGH: &str = "08P01 insufficient data";
    const STRING: &str = "08P01 invalid string";
    const TOO_MUCH: &str = "08P01 invalid message format";

    #[test]
    fn a_message_is_taken_if_what_it_says_of_its_parts_is_true() {
        for (kind, body, want) in [
            (b'Q', &b"SELECT 1\0"[..], ""),
            (b'Q', b"\0", ""),
            (b'Q', b"", STRING),
            (b'Q', b"SELECT 1", STRING),
            (b'Q', b"SELECT 1\0\0", TOO_MUCH),
            (b'Q', b"SELECT '\xff'\0", "22021 invalid byte sequence for encoding \"UTF8\": 0xff"),
            (b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17", ""),
            (b'P', b"\0\0\0\0", ""),
            (b'P', b"\0\0\0", NOT_ENOUGH),
            (b'P', b"s\0SELECT 1\0", NOT_ENOUGH),
            (b'P', b"s\0SELECT 1", STRING),
            (b'P', b"s", STRING),
            (b'P', b"s\0SELECT $1\0\0\x02\0\0\0\x17", NOT_ENOUGH),
            (b'P', b"s\0SELECT $1\0\xff\xff\0\0\0\x17", NOT_ENOUGH),
            (b'P', b"s\0SELECT $1\0\0\0\0\0\0\x17", TOO_MUCH),
            (b'P', b"\xc3\0SELECT 1\0\0\0", "22021"),
            (b'B', b"\0\0\0\0\0\0\0\0", ""),
            (b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x03abc\xff\xff\xff\xff\0\x01\0\0", ""),
            (b'B', b"p\0s\0\0\x02\0\x01\0\0\0\x02\0\0\0\x03abc\xff\xff\xff\xff\0\0", ""),
            (b'B', b"p\0s\0\0\x02\0\x01\0\0\0\x01\0\0\0\x03abc\0\0", "08P01 bind message has 2 parameter formats"),
            (b'B', b"p\0s\0\0\x01\0\x02\0\0\0\0", "22023 unsupported format code: 2"),
            (b'B', b"p\0s\0\0\0\0\0\0\x01\xff\xff", "22023 unsupported format code: 65535"),
            (b'B', b"p\0s\0\0\0\0\x01\0\0\0\x04abc\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\0\x01\x7f\xff\xff\xffabc\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\0\x01\xff\xff\xff\xfeabc\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\xff\xff\0\0\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\xff\xff\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\0\0\xff\xff\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\0\0\0", NOT_ENOUGH),
            (b'B', b"p\0s\0\0\0\0\0\0\0\0", TOO_MUCH),
            (b'B', b"p\0s", STRING),
            (b'D', b"Ss\0", ""),
            (b'D', b"P\0", ""),
            (b'D', b"X\0", "08P01 invalid DESCRIBE message subtype 88"),
            (b'D', b"", NOT_ENOUGH),
            (b'D', b"S", STRING),
            (b'C', b"Pp\0", ""),
            (b'C', b"Q\0", "08P01 invalid CLOSE message subtype 81"),
            (b'C', b"S\0\0", TOO_MUCH),
            (b'E', b"\0\0\0\0\0", ""),
            (b'E', b"p\0\x7f\xff\xff\xff", ""),
            (b'E', b"p\0\0\0\0", NOT_ENOUGH),
            (b'E', b"p", STRING),
            (b'H', b"", ""),
            (b'H', b"x", TOO_MUCH),
            (b'S', b"", ""),
            (b'S', b"\0", TOO_MUCH),
            (b'X', b"", ""),
            (b'X', b"Q", TOO_MUCH),
            (b'd', b"anything\xff", ""),
            (b'c', b"", ""),
            (b'c', b"x", TOO_MUCH),
            (b'f', b"why\xff\0", ""),
            (b'f', b"why", STRING),
        ] {
            let message = whole(kind, body);
            assert_eq!(length(&message, Stage::Asking), Ok(Some(message.len())));
            refused(check(&message, Stage::Asking), want, &message);
        }
    }

    fn refused(found: Result<(), Refusal>, want: &str, message: &[u8]) {
        let found = found.err().map(|refusal| {
            // Where a message is what it says that it is, the next one is known to be one, too.
            assert_eq!(refusal.ends, !refusal.code.starts_with("22"), "{refusal:?}");
            format!("{} {}", refusal.code, refusal.text)
        });
        let text = found.clone().unwrap_or_default();
        assert!(text.starts_with(want) && found.is_some() != want.is_empty(), "{}: {found:?}", message.escape_ascii());
    }

    #[test]
    fn the_first_message_says_who_it_is_or_what_to_cancel() {
        let layout = "08P01 invalid startup packet layout";
        for (body, want) in [
            (&b"\0\x03\0\0user\0ann\0\0"[..], ""),
            (b"\0\x03\0\x02user\0ann\0options\0\0\0", ""),
            (b"\0\x03\x27\x0fuser\0ann\0\0", ""),
            (b"\0\x03\0\0\0", ""),
            (b"\0\x03\0\0", layout),
            (b"\0\x03\0\0user\0ann\0", layout),
            (b"\0\x03\0\0user\0ann", layout),
            (b"\0\x03\0\0user\0\0", layout),
            (b"\0\x03\0\0user\0ann\0\0Q", layout),
            (b"\0\x02\0\0user\0ann\0\0", "0A000 unsupported frontend protocol 2.0"),
            (b"\x04\xd2\x16\x2f", "0A000 unsupported frontend protocol 1234.5679"),
            (b"\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09", ""),
            (b"\x04\xd2\x16\x2e\0\0\0\x07\0\0\0", "08P01 invalid length of cancel request"),
            (b"\x04\xd2\x16\x2e\0\0\0", NOT_ENOUGH),
        ] {
            let message = start(body);
            assert_eq!(length(&message, Stage::Opening), Ok(Some(message.len())));
            refused(check(&message, Stage::Opening), want, &message);
        }
        let cancels =
            |key: usize| check(&start(&[&b"\x04\xd2\x16\x2e\0\0\0\x07"[..], &vec![9; key]].concat()), Stage::Opening);
        assert!(cancels(256).is_ok());
        assert!(cancels(257).is_err());
    }

    #[test]
    fn a_length_is_believed_up_to_what_its_message_may_have() {
        let of = |kind: u8, length: u32| [&[kind], &length.to_be_bytes()[..]].concat();
        for (stage, kind, least, most) in [
            (Stage::Asking, b'Q', 4, LONG),
            (Stage::Asking, b'P', 4, LONG),
            (Stage::Asking, b'B', 4, LONG),
            (Stage::Asking, b'd', 4, LONG),
            (Stage::Asking, b'E', 4, SHORT),
            (Stage::Asking, b'S', 4, SHORT),
            (Stage::Proving, b'p', 4, SHORT),
        ] {
            for (said, taken) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
                let found = length(&of(kind, said as u32), stage);
                assert_eq!(found.is_ok(), taken, "{} of {said}", kind as char);
                assert!(found.is_err() || found == Ok(Some(said + 1)));
            }
            for said in [u32::MAX, 1 << 31, 0] {
                assert_eq!(length(&of(kind, said), stage).unwrap_err().code, "08P01", "{} of {said}", kind as char);
            }
            // It is not waited for what does not come.
            assert!((0..5).all(|there| length(&of(kind, 9)[..there], stage) == Ok(None)));
        }
        for (said, taken) in [(7, false), (8, true), (SHORT as u32, true), (SHORT as u32 + 1, false), (u32::MAX, false)]
        {
            assert_eq!(length(&said.to_be_bytes(), Stage::Opening).is_ok(), taken, "{said}");
        }
        assert!((0..4).all(|there| length(&[0, 0, 0, 9][..there], Stage::Opening) == Ok(None)));
        // Types that are none, or not now, are refused before anything else is read.
        for (stage, kind) in [(Stage::Asking, b'p'), (Stage::Asking, b'F'), (Stage::Asking, 0), (Stage::Proving, b'Q')]
        {
            let refusal = length(&[kind], stage).unwrap_err();
            assert!(refusal.ends && refusal.code == "08P01" && refusal.text.contains(&kind.to_string()), "{refusal:?}");
        }
    }
}
