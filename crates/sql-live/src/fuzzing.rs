//! What is read of a client's messages, as a function of bytes: for the fuzzer in `fuzz/`, which has this file and `message.rs` alone
//! for DataFusion's sake, and for the tests that run what it kept.

use bytes::BytesMut;
use pgwire::messages::{DecodeContext, PgWireFrontendMessage, ProtocolVersion};

use crate::message::{Stage, check, length};

/// Messages that follow each other, as they come. The first byte says how far the connection is, and whether what follows is the body
/// of one message whose length is right, so that it is what is inside that lies.
///
/// # Panics
///
/// If a message that is taken cannot be decoded, is not read to its end, or would be written otherwise than it was read.
pub(crate) fn client_messages(bytes: &[u8]) {
    let Some((how, rest)) = bytes.split_first() else { return };
    let stage = match how & 3 {
        0 => Stage::Opening,
        1 => Stage::Proving,
        _ => Stage::Asking,
    };
    let made;
    let mut left = rest;
    if how & 0x80 != 0 {
        made = with_length(rest, stage);
        left = &made;
    }
    while let Ok(Some(length)) = length(left, stage) {
        let Some((message, behind)) = left.split_at_checked(length) else { return };
        if check(message, stage).is_ok() {
            decoded(message, stage);
        }
        left = behind;
    }
}

/// A message of a type, if it has one, and a body.
pub(crate) fn with_length(bytes: &[u8], stage: Stage) -> Vec<u8> {
    let (kind, body) = bytes.split_at(bytes.len().min(usize::from(stage != Stage::Opening)));
    [kind, &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Decodes a message that is taken.
pub(crate) fn decoded(message: &[u8], stage: Stage) -> PgWireFrontendMessage {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = stage == Stage::Opening;
    let mut left = BytesMut::from(message);
    let decoded = PgWireFrontendMessage::decode(&mut left, &context)
        .unwrap_or_else(|e| panic!("what is taken can be decoded: {e}: {}", message.escape_ascii()))
        .unwrap_or_else(|| panic!("what is taken is whole: {}", message.escape_ascii()));
    assert!(left.is_empty(), "{} is left of {}", left.escape_ascii(), message.escape_ascii());
    // The parameters of a start are kept by name, and the rest of a failed COPY is not looked at.
    if !matches!(decoded, PgWireFrontendMessage::Startup(_) | PgWireFrontendMessage::CopyFail(_)) {
        decoded.encode(&mut left).unwrap_or_else(|e| panic!("{decoded:?} cannot be written: {e}"));
        assert!(left == message, "{} is read as {decoded:?}", message.escape_ascii());
    }
    decoded
}

/// Targets of this crate, by name.
pub(crate) const TARGETS: &[(&str, fn(&[u8]))] = &[("client_messages", client_messages)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fuzzers_kept_breaks_no_law() {
        // Tests run in the folder of their crate.
        for (name, target) in TARGETS {
            let folder = format!("../../fuzz/corpus/{name}");
            let files: Vec<_> = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")).collect();
            assert!(!files.is_empty(), "the corpus of {name} is empty");
            files.into_iter().for_each(|file| target(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }
}
