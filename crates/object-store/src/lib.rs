//! Durable programs without a disk: logs, checkpoint files, states and received blocks as objects of a bucket.
//!
//! An [`ObjectDisk`] takes the place of the file system in `StreamingContextBuilder::with_disk`. Everything else is as with
//! a folder: a program that starts on another machine goes on from the bucket alone.
//!
//! ```no_run
//! use std::sync::Arc;
//! use millstream_core::secs;
//! use millstream_object_store::ObjectDisk;
//! use millstream_streaming::{Conf, StreamingContext};
//!
//! let disk = ObjectDisk::open("s3://my-bucket/streams")?;
//! let ssc = StreamingContext::builder(Conf::new("local[*]", "words")?, secs(10))
//!     .with_disk(Arc::new(disk))
//!     .get_or_create("words", |ssc| {
//!         ssc.socket_text_stream("localhost", 9999).count_by_value_and_window((secs(60), secs(10))).print();
//!         Ok(())
//!     })?;
//! ssc.start()?;
//! # Ok::<(), millstream_core::Error>(())
//! ```
//!
//! **Who goes on.** Nobody can be kept out of a bucket by a lock that ends with its owner. Here whoever starts last goes
//! on, and whoever ran before is refused at its next write, however late it wakes: each record of the log is an object with
//! the next number, put *if absent*, and a start takes the next number before it reads. No clock is asked. ADR 22 of the
//! repository says what holds and why.
//!
//! **Cost.** Each write of the log is a request, some 10 to 100 ms: batches of a second and longer, and receivers with
//! blocks of a second and longer, are what this is for.

mod bucket;
mod disk;
mod runtime;

/// The library that speaks to stores, for [`ObjectDisk::on`] and [`Bucket::on`].
pub use object_store;

pub use self::bucket::{Bucket, Listed};
pub use self::disk::ObjectDisk;
