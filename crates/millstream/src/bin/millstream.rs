//! What can be said of a checkpoint without the program that it is of: `millstream checkpoint inspect DIR`.
//!
//! With the feature `object-store`, DIR may be in a bucket, `s3://BUCKET/PREFIX/DIR`.

use std::process::ExitCode;

use millstream::streaming::commands;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_address = |argument: &&mut String| argument.starts_with("s3://") || argument.starts_with("s3a://");
    let code = match arguments.iter_mut().find(is_address) {
        None => commands::run("millstream", arguments.into_iter(), None),
        Some(address) => match bucket::open(address) {
            Ok((disk, folder)) => {
                *address = folder;
                commands::run_on("millstream", arguments.into_iter(), &disk, None)
            }
            Err(error) => {
                eprintln!("error: {error}");
                2
            }
        },
    };
    ExitCode::from(u8::try_from(code).unwrap_or(2))
}

/// Checkpoints in buckets.
mod bucket {
    use std::sync::Arc;

    use millstream::core::disk::Disk;
    use millstream::prelude::*;

    /// Opens the bucket of an address, and returns what stands behind its name.
    #[cfg(feature = "object-store")]
    pub(crate) fn open(address: &str) -> Result<(Arc<dyn Disk>, String)> {
        let name = address.split_inclusive('/').take(3).map(str::len).sum();
        let (bucket, folder) = address.split_at(name);
        Ok((Arc::new(millstream::object_store::ObjectDisk::open(bucket)?), folder.to_owned()))
    }

    #[cfg(not(feature = "object-store"))]
    pub(crate) fn open(address: &str) -> Result<(Arc<dyn Disk>, String)> {
        let text = format!("{address} is in a bucket: build millstream with the feature object-store");
        Err(Error::new(ErrorKind::Config, text))
    }
}
