//! The messages of one connection: each bounded in size and time, and none believed before it is known who speaks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use millstream_core::secs;
use pgwire::api::{ClientInfo as _, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Framed, FramedParts};

use crate::error::fatal;
use crate::handler::Handler;
use crate::limits::{Limits, MESSAGE};
use crate::prepared::Prepared;
use crate::session::Cancels;
use crate::startup::Startup;
use crate::tls::{Tls, agree};

/// What answers a connection.
pub(crate) struct Answers {
    pub(crate) startup: Arc<Startup>,
    pub(crate) handler: Arc<Handler>,
    pub(crate) cancels: Arc<Cancels>,
}

/// How much longer than its statement a message may take, for what it sends.
const SENDING: Duration = secs(30);

/// Speaks with a client until one of the two has enough.
pub(crate) async fn speak(socket: TcpStream, tls: Option<Tls>, answers: Answers, limits: &Limits) -> io::Result<()> {
    let mut too_late = std::pin::pin!(sleep(limits.startup));
    let peer = socket.peer_addr()?;
    let agreed = tokio::select! {
        () = &mut too_late => return Ok(()),
        agreed = agree(socket, tls.as_ref()) => agreed?,
    };
    let Some((way, head)) = agreed else { return Ok(()) };
    let codec = PgWireMessageServerCodec::<Prepared>::new(DefaultClient::new(peer, way.is_secure()));
    let bounded = Bounded { inner: way, read: head.len() };
    let mut parts = FramedParts::new::<PgWireBackendMessage>(bounded, codec);
    parts.read_buf.extend_from_slice(&head);
    let mut socket = Framed::from_parts(parts);
    socket.set_state(PgWireConnectionState::AwaitingStartup);
    loop {
        let starts = matches!(
            socket.state(),
            PgWireConnectionState::AwaitingSslRequest
                | PgWireConnectionState::AwaitingStartup
                | PgWireConnectionState::AuthenticationInProgress
        );
        let next = match starts {
            true => tokio::select! {
                () = &mut too_late => return Ok(()),
                next = socket.next() => next,
            },
            false => socket.next().await,
        };
        let message = match next {
            None | Some(Ok(PgWireFrontendMessage::Terminate(_))) => return Ok(()),
            Some(Ok(message)) => message,
            Some(Err(PgWireError::IoError(broken))) if broken.kind() != io::ErrorKind::InvalidData => {
                return Err(broken);
            }
            Some(Err(garbage)) => return close(&mut socket, fatal("08P01", garbage.to_string())).await,
        };
        socket.get_mut().read = 0;
        let extended = message.is_extended_query();
        let processed = process_message(
            message,
            &mut socket,
            Arc::clone(&answers.startup),
            Arc::clone(&answers.handler),
            Arc::clone(&answers.handler),
            Arc::new(NoopHandler),
            Arc::clone(&answers.cancels),
        );
        // A client that does not read what it has asked for does not stay for ever.
        match timeout(limits.statement + limits.age + SENDING, processed).await {
            Err(_) => return Ok(()),
            Ok(Ok(())) => {}
            Ok(Err(PgWireError::IoError(broken))) => return Err(broken),
            // Who has not said who he is, or not truly, is not answered any more.
            Ok(Err(failed)) if starts => {
                let info: ErrorInfo = failed.into();
                let refused =
                    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), info.code, info.message)));
                return close(&mut socket, refused).await;
            }
            Ok(Err(failed)) => process_error(&mut socket, failed, extended).await?,
        }
    }
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut Framed<S, PgWireMessageServerCodec<Prepared>>,
    last: PgWireError,
) -> io::Result<()> {
    let info: ErrorInfo = last.into();
    let saying = async {
        socket.send(PgWireBackendMessage::ErrorResponse(info.into())).await?;
        socket.close().await
    };
    timeout(SENDING, saying).await.unwrap_or(Ok(()))
}

/// A connection of which no message is read that is too long.
struct Bounded<S> {
    inner: S,
    /// How much has been read since the last message.
    read: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read > MESSAGE {
            let text = format!("a message is longer than {MESSAGE} bytes");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        self.read += into.filled().len().saturating_sub(before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
