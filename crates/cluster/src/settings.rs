//! The settings of Ballista's sessions: the same for all of ours and on both sides, so that no task need carry them.
//!
//! Ballista writes all settings of a session, some hundreds of texts, into the launch of every task, and an executor reads them
//! again: for a task that does little that was a good part of what it costs on both sides.

use std::collections::HashSet;
use std::sync::LazyLock;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::config::{
    BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS, BALLISTA_SHUFFLE_COMPRESSION_CODEC,
};
use ballista_core::error::Result;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::MultiTaskDefinition;
use ballista_core::serde::scheduler::ExecutorMetadata;
use ballista_scheduler::state::executor_manager::ExecutorManager;
use ballista_scheduler::state::task_manager::TaskLauncher;
use datafusion::prelude::SessionConfig;

use crate::executor::{MESSAGE, MESSAGE_SECONDS};

/// Returns the settings of every session, on the driver and on executors.
pub(crate) fn settings() -> SessionConfig {
    static SETTINGS: LazyLock<SessionConfig> = LazyLock::new(|| {
        SessionConfig::new_with_ballista()
            .set_str(BALLISTA_CLIENT_GRPC_MAX_MESSAGE_SIZE, &MESSAGE.to_string())
            .set_str(BALLISTA_CLIENT_GRPC_TIMEOUT_SECONDS, &MESSAGE_SECONDS.to_string())
            .set_str(BALLISTA_SHUFFLE_COMPRESSION_CODEC, "none")
    });
    SETTINGS.clone()
}

/// Sends tasks to executors as Ballista does, but without settings.
pub(crate) struct Launcher {
    /// Where executors tell what became of them.
    pub(crate) scheduler: String,
}

#[async_trait]
impl TaskLauncher for Launcher {
    async fn launch_tasks(
        &self,
        executor: &ExecutorMetadata,
        mut tasks: Vec<MultiTaskDefinition>,
        executors: &ExecutorManager,
    ) -> Result<HashSet<JobId>> {
        for task in &mut tasks {
            task.props = Vec::new();
        }
        executors.launch_multi_task(&executor.id, tasks, self.scheduler.clone()).await
    }
}
