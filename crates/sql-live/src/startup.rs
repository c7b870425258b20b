//! Who is it: nobody in particular on the loopback, or who proves that he knows the password.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{Sink, SinkExt as _};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use pgwire::api::auth::{
    ServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, METADATA_APPLICATION_NAME, METADATA_DATABASE, METADATA_USER, PgWireConnectionState,
    PidSecretKeyGenerator, RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::{Authentication, PasswordMessageFamily};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::error::{INTERNAL, PROTOCOL, fatal};
use crate::functions::default_of;
use crate::scram::{self, Begun, Verifier, Wrong};
use crate::session::Connection;
use crate::tls::Tls;

/// What is known of the user.
#[derive(Clone)]
pub(crate) struct Account {
    user: String,
    verifier: Verifier,
}

impl Account {
    pub(crate) fn new(user: &str, password: &str) -> Result<Account> {
        if user.is_empty() || password.is_empty() {
            let text = "a user and a password are not empty: say ServeSpec::password(user, password)";
            return Err(Error::new(ErrorKind::Config, text));
        }
        let salt = random().ok_or_else(|| Error::new(ErrorKind::Unavailable, NO_CHANCE))?;
        // Once, and not at each try: it is made to be slow.
        Ok(Account { user: user.to_owned(), verifier: Verifier::new(password, &salt) })
    }
}

const NO_CHANCE: &str = "the system gives no random numbers, without which a password cannot be asked for";

/// Bytes that nobody can guess.
fn random() -> Option<[u8; 18]> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

/// What a client is told when it is let in.
#[derive(Debug)]
pub(crate) struct Parameters;

impl ServerParameterProvider for Parameters {
    fn server_parameters<C: ClientInfo>(&self, client: &C) -> Option<HashMap<String, String>> {
        let mut all = HashMap::new();
        for (name, key) in [
            ("server_version", "server_version"),
            ("server_encoding", "server_encoding"),
            ("client_encoding", "client_encoding"),
            ("integer_datetimes", "integer_datetimes"),
            ("standard_conforming_strings", "standard_conforming_strings"),
            ("default_transaction_read_only", "default_transaction_read_only"),
            ("in_hot_standby", "in_hot_standby"),
            ("is_superuser", "is_superuser"),
            ("search_path", "search_path"),
            ("DateStyle", "datestyle"),
            ("IntervalStyle", "intervalstyle"),
            ("TimeZone", "timezone"),
        ] {
            all.insert(name.to_owned(), default_of(key).unwrap_or_default().to_owned());
        }
        for (name, key) in [("session_authorization", METADATA_USER), ("application_name", METADATA_APPLICATION_NAME)] {
            if let Some(value) = client.metadata().get(key) {
                all.insert(name.to_owned(), value.clone());
            }
        }
        Some(all)
    }
}

/// Lets a connection in.
pub(crate) struct Startup {
    connection: Arc<Connection>,
    account: Option<Account>,
    /// What a password may be bound to.
    certificate: Option<Arc<[u8]>>,
    /// The exchange that has begun.
    begun: Mutex<Option<Begun>>,
    keys: Arc<Keys>,
}

impl Startup {
    pub(crate) fn new(
        connection: &Arc<Connection>,
        account: Option<&Account>,
        tls: Option<&Tls>,
        keys: &Arc<Keys>,
    ) -> Startup {
        Startup {
            connection: Arc::clone(connection),
            account: account.cloned(),
            certificate: tls.and_then(|tls| tls.binding.clone()),
            begun: Mutex::default(),
            keys: Arc::clone(keys),
        }
    }

    /// What a password may be bound to on this connection.
    fn binding(&self, client: &impl ClientInfo) -> Option<&[u8]> {
        self.certificate.as_deref().filter(|_| client.is_secure())
    }

    /// Answers what a client says of its password. It has proven that it knows it when the answer is the last.
    fn proven(
        &self,
        account: &Account,
        client: &impl ClientInfo,
        said: PasswordMessageFamily,
    ) -> PgWireResult<Authentication> {
        let user = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
        let failed = |wrong| match wrong {
            Wrong::Malformed(why) => {
                fatal(PROTOCOL, format!("the password is not proven as SCRAM-SHA-256 does it: {why}"))
            }
            Wrong::Password => fatal("28P01", format!("password authentication failed for user \"{user}\"")),
        };
        let PasswordMessageFamily::Raw(said) = said else {
            return Err(fatal(INTERNAL, "a password was read before it was asked for: that is a bug"));
        };
        let begun = lock(&self.begun).take();
        if let Some(begun) = begun {
            let proof = begun.last(&account.verifier, user == account.user, &said).map_err(failed)?;
            return Ok(Authentication::SASLFinal(proof.into()));
        }
        let Some((mechanism, message)) = initial(&said) else {
            return Err(failed(Wrong::Malformed("the first message names no mechanism")));
        };
        let bound = match mechanism {
            scram::PLAIN => false,
            scram::BOUND => true,
            _ => return Err(failed(Wrong::Malformed("the mechanism is another"))),
        };
        let nonce = random().ok_or_else(|| fatal(INTERNAL, NO_CHANCE))?;
        let (answer, begun) =
            scram::first(&account.verifier, message, bound, self.binding(client), &BASE64.encode(nonce))
                .map_err(failed)?;
        *lock(&self.begun) = Some(begun);
        Ok(Authentication::SASLContinue(answer.into()))
    }
}

/// Reads how a client wants to prove that it knows the password, and the first that it says: a name up to a zero, a length, and so
/// many bytes.
fn initial(body: &[u8]) -> Option<(&str, &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&body[..end]).ok()?;
    let (length, message) = body[end + 1..].split_first_chunk::<4>()?;
    (u32::from_be_bytes(*length) as usize == message.len()).then_some((name, message))
}

/// Gives each connection a number and a secret, by which it can be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Keys(RandomPidSecretKeyGenerator);

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match (message, &self.account) {
            (PgWireFrontendMessage::Startup(startup), account) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                client.metadata_mut().entry(METADATA_DATABASE.to_owned()).or_default();
                if self.connection.house.limits.tls_only && !client.is_secure() {
                    return Err(fatal(
                        "28000",
                        "here TLS is spoken alone: connect with sslmode=require, or better, verify-full",
                    ));
                }
                if account.is_some() {
                    client.set_state(PgWireConnectionState::AuthenticationInProgress);
                    let bound = self.binding(client).map(|_| scram::BOUND.to_owned());
                    let offered = bound.into_iter().chain([scram::PLAIN.to_owned()]).collect();
                    client.send(PgWireBackendMessage::Authentication(Authentication::SASL(offered))).await?;
                    return Ok(());
                }
            }
            (PgWireFrontendMessage::PasswordMessageFamily(said), Some(account)) => {
                let answer = self.proven(account, client, said)?;
                let proven = matches!(answer, Authentication::SASLFinal(_));
                client.send(PgWireBackendMessage::Authentication(answer)).await?;
                if !proven {
                    return Ok(());
                }
            }
            _ => return Err(fatal(PROTOCOL, "something else was expected: a client says who it is first")),
        }
        let (pid, key) = self.keys.0.generate(client);
        self.connection.known_as(pid, &key);
        client.set_pid_and_secret_key(pid, key);
        finish_authentication(client, &Parameters).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_said_of_a_password_is_read_to_its_end_and_no_further() {
        for (body, want) in [
            (&b"SCRAM-SHA-256\0\0\0\0\x03n,,"[..], Some(("SCRAM-SHA-256", &b"n,,"[..]))),
            (b"NONE\0\0\0\0\0", Some(("NONE", b""))),
            (b"", None),
            (b"NONE", None),
            (b"NONE\0\0\0\0", None),
            (b"NONE\0\0\0\0\x04n,,", None),
            (b"NONE\0\0\0\0\x02n,,", None),
            (b"NONE\0\xff\xff\xff\xff", None),
            (b"\xff\0\0\0\0\0", None),
        ] {
            assert_eq!(initial(body), want, "{body:?}");
        }
    }
}
