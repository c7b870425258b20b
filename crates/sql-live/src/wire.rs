//! The messages of one connection: each bounded in size and time, and none believed before it is known who speaks.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use futures::SinkExt as _;
use millstream_core::secs;
use pgwire::api::cancel::CancelHandler as _;
use pgwire::api::{ClientInfo as _, DefaultClient, NoopHandler, PgWireConnectionState};
use pgwire::error::{ErrorInfo, PgWireError};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::server::{PgWireMessageServerCodec, process_error, process_message};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Decoder as _, Framed};

use crate::error::{INTERNAL, PROTOCOL, error, fatal};
use crate::handler::Handler;
use crate::limits::Limits;
use crate::message::{self, Refusal, Stage};
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
    let mut socket = Framed::new(way, codec);
    socket.set_state(PgWireConnectionState::AwaitingStartup);
    let mut read = BytesMut::from(&head[..]);
    loop {
        let state = socket.state();
        let stage = stage(&state);
        let next = match stage {
            Stage::Asking => next(socket.get_mut(), &mut read, stage).await?,
            _ => tokio::select! {
                () = &mut too_late => return Ok(()),
                next = next(socket.get_mut(), &mut read, stage) => next?,
            },
        };
        let Some(next) = next else { return Ok(()) };
        let (kind, checked) = match next {
            Ok(message) => (message[0], message::check(&message, stage).map(|()| message)),
            Err(refusal) => (0, Err(refusal)),
        };
        let message = match checked {
            Ok(mut message) => match socket.codec_mut().decode(&mut message) {
                Ok(Some(decoded)) if message.is_empty() => decoded,
                // All that is taken can be decoded, to its end: if not, that is a bug of ours.
                Ok(_) => return close(&mut socket, fatal(INTERNAL, "a message was not read to its end")).await,
                Err(failed) => return close(&mut socket, fatal(PROTOCOL, failed.to_string())).await,
            },
            Err(refusal) if refusal.ends => return close(&mut socket, fatal(refusal.code, refusal.text)).await,
            // What follows something that failed is not looked at until the client knows.
            Err(_) if matches!(state, PgWireConnectionState::AwaitingSync) => continue,
            Err(refusal) => {
                process_error(&mut socket, error(refusal.code, refusal.text), kind != b'Q').await?;
                continue;
            }
        };
        match message {
            PgWireFrontendMessage::Terminate(_) => return Ok(()),
            // Who cancels says nothing else.
            PgWireFrontendMessage::CancelRequest(request) => {
                answers.cancels.on_cancel_request(request).await;
                return socket.close().await;
            }
            _ => {}
        }
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
            Ok(Err(failed)) if stage != Stage::Asking => {
                let info: ErrorInfo = failed.into();
                return close(&mut socket, fatal(&info.code, info.message)).await;
            }
            Ok(Err(failed)) => {
                let info: ErrorInfo = failed.into();
                let ends = info.is_fatal();
                process_error(&mut socket, PgWireError::UserError(Box::new(info)), extended).await?;
                if ends {
                    return Ok(());
                }
            }
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
    timeout(SENDING, saying).await.unwrap_or(Ok(()))?;
    hear_out(socket.get_mut()).await;
    Ok(())
}

/// Reads what somebody has sent who is not listened to any more: what is thrown away unread makes the system throw away the answer, too.
pub(crate) async fn hear_out(from: &mut (impl AsyncRead + Unpin)) {
    // Whether that ends well or not.
    let _ = timeout(secs(1), tokio::io::copy(&mut from.take(64 << 10), &mut tokio::io::sink())).await;
}

/// How far a connection is.
fn stage(state: &PgWireConnectionState) -> Stage {
    match state {
        PgWireConnectionState::AwaitingSslRequest | PgWireConnectionState::AwaitingStartup => Stage::Opening,
        PgWireConnectionState::AuthenticationInProgress => Stage::Proving,
        _ => Stage::Asking,
    }
}

/// How much room there is to read into. What is long grows it as it comes, and not as it is said to be.
const ROOM: usize = 8 << 10;

/// Reads up to the end of the next message, which is `read` in part. Nothing if the client has gone.
async fn next(
    from: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
    stage: Stage,
) -> io::Result<Option<Result<BytesMut, Refusal>>> {
    loop {
        match message::length(read, stage) {
            Err(refusal) => return Ok(Some(Err(refusal))),
            Ok(Some(length)) if length <= read.len() => {
                // It lies alone: of what is bound from it, nothing else is kept.
                let message = BytesMut::from(&read[..length]);
                read.advance(length);
                if read.is_empty() && length > ROOM {
                    *read = BytesMut::new();
                }
                return Ok(Some(Ok(message)));
            }
            Ok(_) => {}
        }
        read.reserve(ROOM);
        if from.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests;
