//! Ballista's executor, put together of its parts: as `start_executor_process` does, but for signals, which are ours to heed, and
//! ports, which are held from when they are found.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::RuntimeProducer;
use ballista_core::client_pool::BallistaClientPool;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint, create_grpc_server};
use ballista_executor::executor::Executor;
use ballista_executor::executor_process::{ExecutorProcessConfig, satisfy_dir_ttl, structure_executor_metadata};
use ballista_executor::executor_server;
use ballista_executor::flight_service::BallistaFlightService;
use ballista_executor::health::ExecutorHealth;
use ballista_executor::metrics::LoggingMetricsCollector;
use ballista_executor::shutdown::ShutdownNotifier;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use millstream_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::server::TcpIncoming;

use crate::engine::Engine;
use crate::executor::MESSAGE;
use crate::plan_codec::StageCodec;
use crate::settings::settings;

fn failed(doing: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{doing}: {error}"))
}

/// Listens where others read shuffles: at the settings' port, or at any that is free if that is 0, which is then told there.
///
/// # Errors
///
/// The kind is `Unavailable`: the port is taken, or there is none.
pub(crate) async fn listen(config: &mut ExecutorProcessConfig) -> Result<TcpListener> {
    let taken = |error| failed(&format!("an executor cannot listen at {}:{}", config.bind_host, config.port), error);
    let listener = TcpListener::bind((config.bind_host.as_str(), config.port)).await.map_err(taken)?;
    config.port = listener.local_addr().map_err(taken)?.port();
    Ok(listener)
}

/// Runs tasks until the scheduler has no more use of them, or they cannot be run any more.
///
/// # Errors
///
/// The kind is `Unavailable`: the scheduler is not reached, a port is taken, or a service has ended.
pub(crate) async fn serve(
    config: ExecutorProcessConfig,
    shuffles: TcpListener,
    codec: StageCodec,
    connections: Arc<dyn BallistaClientPool>,
) -> Result<()> {
    let config = Arc::new(config);
    let folder = config.work_dir.clone().unwrap_or_default();
    // One for all tasks: memory is counted by the engine, and not by DataFusion.
    let runtime = RuntimeEnvBuilder::new().with_temp_file_path(folder.clone()).build_arc();
    let runtime = runtime.map_err(|error| failed("an executor's tasks cannot be run", error))?;
    let runtime: RuntimeProducer = Arc::new(move |_| Ok(Arc::clone(&runtime)));
    let executor = Executor::new(
        structure_executor_metadata(&config, config.vcores as u32),
        &folder,
        runtime,
        Arc::new(settings),
        Arc::default(),
        Arc::new(LoggingMetricsCollector::default()),
        config.vcores,
        Arc::new(Engine::new(connections)),
    );
    let executor = Arc::new(executor);

    let flight = FlightServiceServer::new(BallistaFlightService::new(folder.clone()))
        .max_decoding_message_size(MESSAGE as usize)
        .max_encoding_message_size(MESSAGE as usize);
    let incoming = TcpIncoming::from(shuffles).with_nodelay(Some(true));
    let mut shuffles =
        tokio::spawn(create_grpc_server(&config.grpc_server_config).add_service(flight).serve_with_incoming(incoming));

    let every = Duration::from_secs(config.job_data_clean_up_interval_seconds.max(1));
    let cleaning = tokio::spawn(clean(folder.clone().into(), every, config.job_data_ttl_seconds));

    let scheduler = format!("{}:{}", config.scheduler_host, config.scheduler_port);
    let not_reached =
        |error: &dyn std::fmt::Display| failed(&format!("the scheduler at {scheduler} is not reached"), error);
    let client = GrpcClientConfig::from(&settings().ballista_config());
    let mut endpoint = create_grpc_client_endpoint(format!("http://{scheduler}"), Some(&client))
        .map_err(|error| not_reached(&error))?;
    if let Some(change) = &config.override_create_grpc_client_endpoint {
        endpoint = change(endpoint).map_err(|error| not_reached(&error))?;
    }
    let client = SchedulerGrpcClient::new(endpoint.connect().await.map_err(|error| not_reached(&error))?)
        .max_encoding_message_size(MESSAGE as usize)
        .max_decoding_message_size(MESSAGE as usize);
    let plans: BallistaCodec<LogicalPlanNode, PhysicalPlanNode> =
        BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(codec));
    let (stop, mut stopped) = mpsc::channel(1);
    let shutdown = ShutdownNotifier::new();
    let health = ExecutorHealth::new();
    let tasks = executor_server::startup(client, config, executor, plans, stop, &shutdown, health);
    let mut tasks = tasks.await.map_err(|error| failed("the scheduler does not take this executor", error))?;
    let ended = tokio::select! {
        ended = &mut tasks => Err(failed("an executor takes no tasks any more", ended_with(ended))),
        ended = &mut shuffles => Err(failed("an executor's shuffles cannot be read any more", ended_with(ended))),
        _ = stopped.recv() => Ok(()),
    };
    cleaning.abort();
    ended
}

/// Removes now and then what nobody has written to for so many seconds.
async fn clean(folder: PathBuf, every: Duration, seconds: u64) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let Ok(mut jobs) = tokio::fs::read_dir(&folder).await else { continue };
        while let Ok(Some(job)) = jobs.next_entry().await {
            let path = job.path();
            let is_folder = job.file_type().await.is_ok_and(|kind| kind.is_dir());
            if is_folder
                && matches!(satisfy_dir_ttl(job, seconds).await, Ok(false))
                && let Err(error) = tokio::fs::remove_dir_all(&path).await
            {
                tracing::warn!(%error, "what a job has left in {} could not be removed", path.display());
            }
        }
    }
}

/// Says with what a service ended.
fn ended_with<E: std::fmt::Display>(
    ended: std::result::Result<std::result::Result<(), E>, tokio::task::JoinError>,
) -> String {
    match ended {
        Ok(Ok(())) => "it has ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Returns a port that nobody uses at an address. Somebody may take it before it is used; then the executor ends, and is begun
/// again.
///
/// # Errors
///
/// The kind is `Unavailable`: there is none.
pub(crate) fn free_port(at: std::net::IpAddr) -> Result<u16> {
    Ok(std::net::TcpListener::bind(SocketAddr::new(at, 0))?.local_addr()?.port())
}
