//! The demo's folder: made for it, gone after it, also when it fails or is interrupted.

use std::path::{Path, PathBuf};
use std::process;
use std::{fs, thread};

use ringlog_reactor::{probe, signal};
use tempfile::TempDir;

use super::super::failure::Failure;

/// A temporary folder.
pub struct Workspace {
    folder: TempDir,
    file_system: String,
}

impl Workspace {
    /// Makes a folder in `parent`, or else in the system's temporary folder.
    pub fn create(parent: Option<&Path>) -> Result<Workspace, Failure> {
        let parent = parent.map_or_else(on_a_disk, Path::to_path_buf);
        let folder =
            tempfile::Builder::new().prefix("ringlog-demo-").tempdir_in(&parent).map_err(|error| {
                Failure::said(format!("cannot make a folder in {}: {error}", parent.display()))
            })?;
        let file_system =
            probe::file_system(folder.path()).unwrap_or_else(|_| "an unknown file system".to_owned());
        Ok(Workspace { folder, file_system })
    }

    /// Where the broker keeps its data.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The name of the file system below it.
    pub fn file_system(&self) -> &str {
        &self.file_system
    }

    /// From now on the signals that end a process, which must be blocked, remove the folder and end the process.
    pub fn remove_on_signal(&self) -> Result<(), Failure> {
        let path = self.path().to_path_buf();
        let wait = move || {
            if let Ok(signal) = signal::wait_for_termination() {
                remove(&path);
                process::exit(signal.exit_code().into());
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait);
        thread.map(drop).map_err(|error| Failure::said(format!("cannot start a thread: {error}")))
    }
}

/// The broker may still be making files: what it made meanwhile goes in the next round.
fn remove(path: &Path) {
    const ROUNDS: u32 = 5;
    for _ in 0..ROUNDS {
        // An error here means that there is something new in it, or that it is gone.
        let _ = fs::remove_dir_all(path);
        if !path.exists() {
            return;
        }
    }
}

/// The system's temporary folder, unless that is memory and `/var/tmp` is not: figures of a sync want a disk.
fn on_a_disk() -> PathBuf {
    let is_memory = |path: &Path| probe::file_system(path).is_ok_and(|name| name == "tmpfs");
    let usual = std::env::temp_dir();
    let lasting = PathBuf::from("/var/tmp");
    if is_memory(&usual) && lasting.is_dir() && !is_memory(&lasting) { lasting } else { usual }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_gone_after_it() {
        let workspace = Workspace::create(None).unwrap();
        let path = workspace.path().to_path_buf();
        fs::create_dir(path.join("below")).unwrap();
        drop(workspace);
        assert!(!path.exists());
    }

    #[test]
    fn a_parent_that_is_not_there_is_an_error() {
        assert!(Workspace::create(Some(Path::new("/surely/not/here"))).is_err());
    }
}
