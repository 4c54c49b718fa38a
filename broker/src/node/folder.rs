//! The data folder: made durably, and locked by the one node that uses it.

use std::io::ErrorKind;
use std::path::Path;

use ringlog_reactor::fs;

use super::errors::StartError;
use crate::metadata::file;

/// The file of a data folder that the running broker has locked.
pub(crate) const LOCK_NAME: &str = "LOCK";

/// Makes the folder if it is not there, and locks it.
pub(super) async fn take_folder(path: &Path) -> Result<fs::LockedFile, StartError> {
    let unusable = |source| StartError::DataDir { path: path.to_path_buf(), source };
    make_durable_folder(path).await.map_err(unusable)?;
    let lock = fs::lock(path.join(LOCK_NAME)).map_err(unusable)?;
    lock.ok_or_else(|| StartError::InUse { path: path.to_path_buf() })
}

/// Makes the folder and those above it. A new folder is durable once the one above it is synced: without
/// that, a crash can take all that was acknowledged in it. One that is there already may be an operator's, with an owner and a
/// mode, so it is not made anew: a kill between a sync that fails here and what is undone for it is not outlived.
async fn make_durable_folder(path: &Path) -> std::io::Result<()> {
    if file::exists(path).await? {
        // It is written behind all that follows here.
        return Ok(());
    }
    let made = fs::create_dir_all(path).await?;
    // All of them: a start that was killed may have made a folder and not synced the one above it.
    for (index, above) in path.ancestors().skip(1).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs::sync_dir(above).await {
            // Somebody else's, and not to be looked into.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && index >= made.len() => {}
            Err(error) => {
                // No later sync would save an entry whose sync has failed; a new one is another entry.
                fs::unmake(&made).await;
                return Err(error);
            }
            Ok(()) => {}
        }
    }
    Ok(())
}
