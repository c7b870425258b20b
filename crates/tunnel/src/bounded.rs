//! A connection of which only so many bytes are read, until it is known who is at its other end.

use std::io::{Error, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection with a bound.
pub(crate) struct Bounded<S> {
    inner: S,
    /// How many more bytes may come; none when there is no bound.
    left: Option<u64>,
}

impl<S> Bounded<S> {
    pub(crate) fn new(inner: S, left: u64) -> Bounded<S> {
        Bounded { inner, left: Some(left) }
    }

    /// From now on all is read.
    pub(crate) fn trust(&mut self) {
        self.left = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let Some(left) = self.left else { return Pin::new(&mut self.inner).poll_read(context, into) };
        if left == 0 {
            return Poll::Ready(Err(Error::other("a stranger said more than a greeting")));
        }
        let most = into.remaining().min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut part = ReadBuf::new(into.initialize_unfilled_to(most));
        let polled = Pin::new(&mut self.inner).poll_read(context, &mut part);
        let read = part.filled().len();
        into.advance(read);
        self.left = Some(left - read as u64);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn only_so_much_is_read_of_a_stranger_and_all_of_somebody_known() {
        for (said, bound, is_refused) in [(10, 20, false), (20, 21, false), (21, 20, true), (1 << 20, 20, true)] {
            let said = vec![7u8; said];
            let mut wire = Bounded::new(&said[..], bound);
            let mut heard = Vec::new();
            let read = wire.read_to_end(&mut heard).await;
            assert_eq!(read.is_err(), is_refused, "{} of {bound}", said.len());
            assert!(heard.len() as u64 <= bound);
            wire.trust();
            wire.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, said, "nothing is lost between");
        }
    }
}
