//! What is packed in a batch, as a stream: a small batch may say that it has gigabytes, and never has them all at once.

use std::io::{Error, ErrorKind, Read};

use bytes::{Buf, Bytes};

use super::batches::Broken;

/// Opens what is packed in `body`. Nothing in it takes more than `most` bytes of memory at once.
pub(super) fn open(packed: i16, body: Bytes, most: usize) -> Result<Box<dyn Read + Send>, Broken> {
    Ok(match packed {
        1 => Box::new(flate2::read::MultiGzDecoder::new(body.reader())),
        2 => Box::new(Snappy::open(body, most)?),
        3 => Box::new(lz4_flex::frame::FrameDecoder::new(body.reader())),
        4 => {
            let broken = |_| Broken::Damaged("what is packed in it cannot be unpacked");
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body.reader()).map_err(broken)?;
            // How far it looks back is what it keeps.
            decoder.window_log_max(most.max(1 << 10).ilog2().min(27)).map_err(broken)?;
            Box::new(decoder)
        }
        _ => return Err(Broken::Damaged("it is packed in an unknown way")),
    })
}

/// Unpacks Snappy: as it is, or in the frames that Java's clients make.
struct Snappy {
    rest: Bytes,
    is_framed: bool,
    most: usize,
    decoder: snap::raw::Decoder,
    /// What is unpacked, and how much of it has been read.
    out: Vec<u8>,
    at: usize,
}

impl Snappy {
    fn open(body: Bytes, most: usize) -> Result<Snappy, Broken> {
        let is_framed = body.starts_with(b"\x82SNAPPY\0");
        if !is_framed
            && let Ok(len) = snap::raw::decompress_len(&body)
            && len > most
        {
            return Err(Broken::Large(len as u64));
        }
        let mut rest = body;
        if is_framed {
            // Behind its name stand two versions.
            rest.advance(rest.len().min(16));
        }
        Ok(Snappy { rest, is_framed, most, decoder: snap::raw::Decoder::new(), out: Vec::new(), at: 0 })
    }

    /// Unpacks the next piece. Nothing, if it is none.
    fn next(&mut self) -> Option<()> {
        let part = if self.is_framed {
            let len = usize::try_from(i32::from_be_bytes(self.rest.get(..4)?.try_into().ok()?)).ok()?;
            let part = self.rest.get(4..4usize.checked_add(len)?)?.len();
            self.rest.advance(4);
            self.rest.split_to(part)
        } else {
            std::mem::take(&mut self.rest)
        };
        let len = snap::raw::decompress_len(&part).ok().filter(|len| *len <= self.most)?;
        (self.at, self.out) = (0, vec![0; len]);
        let got = self.decoder.decompress(&part, &mut self.out).ok()?;
        self.out.truncate(got);
        Some(())
    }
}

impl Read for Snappy {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.out.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next().ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        }
        let some = to.len().min(self.out.len() - self.at);
        to[..some].copy_from_slice(&self.out[self.at..self.at + some]);
        self.at += some;
        Ok(some)
    }
}
