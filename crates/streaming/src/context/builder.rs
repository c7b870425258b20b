//! How a streaming context is made: of a master and a name, of settings, of components, or on an engine that is there.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use millstream_core::backend::Backend;
use millstream_core::clock::Clock;
use millstream_core::disk::{Disk, RealDisk};
use millstream_core::storage::BlockStore;
use millstream_core::{CallSite, Context, Error, ErrorKind, Result, millis, secs};

use super::durable::Resume;
use super::{Inner, Life, Shared, StreamingContext, StreamingContextState};
use crate::batch::mailbox::Mailbox;
use crate::conf::{Conf, StreamingConf};
use crate::graph::GraphShared;

/// Makes a [`StreamingContext`] with components of one's own.
#[derive(Debug)]
pub struct StreamingContextBuilder {
    conf: Conf,
    interval: Duration,
    engine: Option<Context>,
    clock: Option<Arc<dyn Clock>>,
    backend: Option<Arc<dyn Backend>>,
    blocks: Option<Arc<dyn BlockStore>>,
    app_id: Option<String>,
    disk: Option<Arc<dyn Disk>>,
    output_disk: Option<Arc<dyn Disk>>,
    site: CallSite,
}

impl StreamingContextBuilder {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Runs jobs on `backend`.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Keeps blocks in `blocks`.
    #[must_use]
    pub fn with_block_store(mut self, blocks: Arc<dyn BlockStore>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Calls the application `id`. It is part of every [batch key](crate::BatchKey), so a program whose sinks remember
    /// keys across restarts needs a name that stays.
    #[must_use]
    pub fn with_app_id(mut self, id: impl Into<String>) -> Self {
        self.app_id = Some(id.into());
        self
    }

    /// Keeps checkpoints on `disk`.
    #[must_use]
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// Writes files of outputs (`save_as_text_files` and its kin) to `disk`, and not to the system's file system.
    #[must_use]
    pub fn with_output_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.output_disk = Some(disk);
        self
    }

    /// Runs on an engine that is there already, with its master, settings and clock; of the builder's settings those of streams count.
    ///
    /// # Spark
    ///
    /// `new StreamingContext(path, sparkContext)`, SC05, with [`get_or_create`](Self::get_or_create).
    #[must_use]
    pub fn on_engine(mut self, engine: &Context) -> Self {
        self.engine = Some(engine.clone());
        self
    }

    /// Returns the engine that is there already.
    pub(super) fn engine(&self) -> Option<&Context> {
        self.engine.as_ref()
    }

    /// Returns the disk that checkpoints are kept on.
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone().unwrap_or_else(|| Arc::new(RealDisk))
    }

    /// As [`StreamingContext::get_or_create`], with the settings and components of this builder.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build) and [`StreamingContext::get_or_create`].
    pub fn get_or_create(
        self,
        folder: impl AsRef<Path>,
        setup: impl FnOnce(&StreamingContext) -> Result<()>,
    ) -> Result<StreamingContext> {
        let ssc = self.build()?;
        ssc.keep_in(folder.as_ref(), Resume::Always)?;
        match setup(&ssc) {
            Ok(()) => Ok(ssc),
            Err(error) => {
                ssc.stop()?;
                Err(error)
            }
        }
    }

    /// Makes the context.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the interval is not between one millisecond and a day, a setting cannot work, or components are given
    /// for an engine that is there already. `Unavailable`: the system gives no more threads.
    pub fn build(self) -> Result<StreamingContext> {
        check_interval(self.interval).and_then(|()| self.conf.streaming.check()).map_err(|e| e.at(self.site))?;
        let disk = self.disk();
        if let Some(engine) = self.engine {
            let of_the_engine = [
                self.clock.is_some(),
                self.backend.is_some(),
                self.blocks.is_some(),
                self.output_disk.is_some(),
                self.app_id.is_some(),
            ];
            if of_the_engine.contains(&true) {
                let text = "a clock, a backend, a block store, a disk for outputs and an application id belong to an engine \
                            that is made: give them to the builder of the engine that on_engine names";
                return Err(Error::new(ErrorKind::Config, text).at(self.site));
            }
            return Ok(StreamingContext::make(engine, self.conf.streaming, self.interval, disk, self.site));
        }
        let mut engine = Context::builder(self.conf.engine.clone());
        if let Some(clock) = self.clock {
            engine = engine.with_clock(clock);
        }
        if let Some(backend) = self.backend {
            engine = engine.with_backend(backend);
        }
        if let Some(blocks) = self.blocks {
            engine = engine.with_block_store(blocks);
        }
        if let Some(disk) = self.output_disk {
            engine = engine.with_output_disk(disk);
        }
        if let Some(id) = self.app_id {
            engine = engine.with_app_id(id);
        }
        Ok(StreamingContext::make(engine.build()?, self.conf.streaming, self.interval, disk, self.site))
    }
}

fn check_interval(interval: Duration) -> Result<()> {
    let whole = interval.subsec_nanos().is_multiple_of(1_000_000);
    if whole && (millis(1)..=secs(86_400)).contains(&interval) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("the batch interval must be whole milliseconds, from 1 ms to 24 h: {interval:?}"),
    ))
}

impl StreamingContext {
    /// Makes a context that runs on `master`, for a program called `app_name`, with a batch every `interval`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: `master` is not a master, or the interval is not between one millisecond and a day.
    ///
    /// # Spark
    ///
    /// `new StreamingContext(master, appName, batchDuration)`, SC03.
    #[track_caller]
    pub fn new(master: &str, app_name: impl Into<String>, interval: Duration) -> Result<StreamingContext> {
        StreamingContext::builder(Conf::new(master, app_name)?, interval).build()
    }

    /// Makes a context with the settings `conf`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Spark
    ///
    /// `new StreamingContext(conf, batchDuration)`, SC02.
    #[track_caller]
    pub fn with_conf(conf: Conf, interval: Duration) -> Result<StreamingContext> {
        StreamingContext::builder(conf, interval).build()
    }

    /// Begins a context with the settings `conf`, to be given components of one's own.
    #[track_caller]
    pub fn builder(conf: Conf, interval: Duration) -> StreamingContextBuilder {
        StreamingContextBuilder {
            conf,
            interval,
            engine: None,
            clock: None,
            backend: None,
            blocks: None,
            app_id: None,
            disk: None,
            output_disk: None,
            site: CallSite::here("StreamingContext"),
        }
    }

    /// Makes a context on an engine that is there already.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Spark
    ///
    /// `new StreamingContext(sparkContext, batchDuration)`, SC01.
    #[track_caller]
    pub fn on(context: &Context, conf: StreamingConf, interval: Duration) -> Result<StreamingContext> {
        let site = CallSite::here("StreamingContext");
        check_interval(interval).and_then(|()| conf.check()).map_err(|e| e.at(site))?;
        Ok(StreamingContext::make(context.clone(), conf, interval, Arc::new(RealDisk), site))
    }

    fn make(
        context: Context,
        conf: StreamingConf,
        interval: Duration,
        disk: Arc<dyn Disk>,
        site: CallSite,
    ) -> StreamingContext {
        let life = Life {
            state: StreamingContextState::Initialized,
            error: None,
            thread: None,
            own: Vec::new(),
            halted: true,
            settled: None,
            stop_engine: false,
            stopping: 0,
        };
        let bus = context.another_kind_of_listeners();
        StreamingContext {
            inner: Arc::new(Inner {
                shared: Arc::new(Shared { state: Mutex::new(life), changed: Condvar::new() }),
                graph: GraphShared::new(interval, conf.spark_compatible),
                context,
                conf,
                interval,
                remember: Mutex::new(None),
                ignores_folder: AtomicBool::new(false),
                bus,
                mailbox: Arc::new(Mailbox::default()),
                hurry: Arc::default(),
                doing: Arc::default(),
                disk,
                kept_in: Mutex::new(None),
                wishes: Mutex::default(),
                site,
            }),
        }
    }
}
