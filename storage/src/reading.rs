//! Files that may not be readable: what stands in their place, and errors that do not come again.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::Path;

use ringlog_reactor::fs::{self, File, Kind, OpenOptions};

/// How often a read is tried before its file is taken for damaged. Some errors of a medium do not come again, and what a start
/// has taken for damaged stays quarantined.
const TRIES: u32 = 3;

/// Does something that only reads, again after an error that may not come again.
pub(crate) async fn tried<T, F>(mut action: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut tries = 1;
    loop {
        match action().await {
            Err(error) if is_of_the_medium(&error) && tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

fn is_of_the_medium(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO)
}

/// Fails if something else than a file stands there.
pub(crate) fn check_kind(kind: Kind) -> io::Result<()> {
    match kind {
        Kind::File => Ok(()),
        other => Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {other}, not a file"))),
    }
}

/// Opens a file to read it through the page cache. To open a pipe would take for ever.
pub(crate) async fn open_file(path: &Path) -> io::Result<File> {
    check_kind(fs::kind(path).await?)?;
    File::open(path, &OpenOptions::new().read(true)).await
}
