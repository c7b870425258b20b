//! Connections to executors, from which the driver fetches results and other executors shuffles: kept open, one use at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;
use millstream_core::clock::monotonic;
use millstream_core::threads::lock;

/// Connections that are free, by where they lead, each with the time since when.
type Idle = Arc<Mutex<HashMap<(String, u16), Vec<(Duration, BallistaClient)>>>>;

/// How long a connection may be free and be used again: whoever is at its other end may have gone meanwhile.
const FREE: Duration = Duration::from_secs(30);

/// Connections that are free.
#[derive(Clone, Default)]
pub(crate) struct Connections(Idle);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Connections {
    /// Closes all: an executor that is gone may have left some.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *lock(&self.0));
        drop(gone);
    }

    /// Closes those that are free to a port.
    pub(crate) fn forget(&self, port: u16) {
        let mut idle = lock(&self.0);
        let gone: Vec<_> = idle.extract_if(|(_, other), _| *other == port).collect();
        drop(idle);
        drop(gone);
    }
}

#[async_trait]
impl BallistaClientPool for Connections {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let place = (host.to_owned(), port);
        let idle = lock(&self.0).get_mut(&place).and_then(Vec::pop);
        let now = monotonic();
        let client = match idle {
            Some((since, client)) if now.saturating_sub(since) < FREE => client,
            _ => {
                // What has been free for longer is not wanted, wherever it leads.
                lock(&self.0).retain(|_, clients| {
                    clients.retain(|(since, _)| now.saturating_sub(*since) < FREE);
                    !clients.is_empty()
                });
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let pool = Arc::clone(&self.0);
        let back = move |client| lock(&pool).entry(place).or_default().push((monotonic(), client));
        Ok(PooledClient::new(client, Box::new(back)))
    }

    async fn evict_idle(&self) {
        self.clear();
    }
}
