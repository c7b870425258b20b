//! Who is it: nobody in particular on the loopback, or who proves that he knows the password.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Sink;
use millstream_core::Result;
use pgwire::api::auth::sasl::SASLAuthStartupHandler;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramAuth, gen_salted_password, random_nonce};
use pgwire::api::auth::{
    AuthSource, LoginInfo, Password, ServerParameterProvider, StartupHandler, finish_authentication,
    protocol_negotiation, save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, METADATA_APPLICATION_NAME, METADATA_DATABASE, METADATA_USER, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::SecretKey;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use crate::functions::default_of;
use crate::session::Connection;

/// What is known of the user: the password only as both sides of SCRAM compute with it.
#[derive(Clone)]
pub(crate) struct Account {
    user: String,
    salt: Vec<u8>,
    salted: Vec<u8>,
}

impl Account {
    pub(crate) fn new(user: &str, password: &str) -> Result<Account> {
        if user.is_empty() || password.is_empty() {
            let text = "a user and a password are not empty: say ServeSpec::password(user, password)";
            return Err(millstream_core::Error::new(millstream_core::ErrorKind::Config, text));
        }
        let salt = random_nonce().into_bytes();
        // Once, and not at each try: it is made to be slow.
        let salted = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        Ok(Account { user: user.to_owned(), salt, salted })
    }
}

impl Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.user)
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait is written so, and async_trait tells the two apart")]
#[async_trait]
impl AuthSource for Account {
    async fn get_password(&self, login: &LoginInfo) -> PgWireResult<Password> {
        // Who does not exist fails as who has the wrong password: with one that nobody knows.
        let salted = match login.user() == Some(self.user.as_str()) {
            true => self.salted.clone(),
            false => random_nonce().into_bytes(),
        };
        Ok(Password::new(Some(self.salt.clone()), salted))
    }
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
    scram: Option<SASLAuthStartupHandler<Parameters>>,
    keys: Arc<Keys>,
}

impl Startup {
    pub(crate) fn new(connection: &Arc<Connection>, account: Option<&Account>, keys: &Arc<Keys>) -> Startup {
        let named = Named { keys: Arc::clone(keys), connection: Arc::clone(connection) };
        let scram = account.map(|account| {
            SASLAuthStartupHandler::new(Arc::new(Parameters))
                .with_scram(ScramAuth::new(Arc::new(account.clone())))
                .with_pid_secret_key_generator(Arc::new(named))
        });
        Startup { connection: Arc::clone(connection), scram, keys: Arc::clone(keys) }
    }
}

/// Gives each connection a number and a secret, by which it can be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Keys(RandomPidSecretKeyGenerator);

/// The same, and makes the connection known by them.
struct Named {
    keys: Arc<Keys>,
    connection: Arc<Connection>,
}

impl PidSecretKeyGenerator for Named {
    fn generate(&self, client: &dyn ClientInfo) -> (i32, SecretKey) {
        let (pid, key) = self.keys.0.generate(client);
        self.connection.known_as(pid, &key);
        (pid, key)
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if let Some(scram) = &self.scram {
            return scram.on_startup(client, message).await;
        }
        if let PgWireFrontendMessage::Startup(startup) = &message {
            protocol_negotiation(client, startup).await?;
            save_startup_parameters_to_metadata(client, startup);
            client.metadata_mut().entry(METADATA_DATABASE.to_owned()).or_default();
            let (pid, key) = self.keys.0.generate(client);
            self.connection.known_as(pid, &key);
            client.set_pid_and_secret_key(pid, key);
            finish_authentication(client, &Parameters).await?;
        }
        Ok(())
    }
}
