//! Space that is kept for a full disk: a file whose blocks are used by what frees space, which must not wait for space itself.
//!
//! Invariants:
//! - A reserve holds no data: it may be missing, short, or cut at any time, and a start makes it again.
//! - It is used only after the disk has said that it is full.
//! - What replaces a file from the reserve is written into blocks that the reserve has already, so that no other writer of a
//!   full disk can take them first.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use ringlog_reactor::fs::{self, File, OpenOptions, Sync};
use ringlog_reactor::sim::reached;

use crate::limits::{RESERVE_BYTES, RESERVE_STEP_BYTES};

/// One reserve.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// The reserve that lies in `folder`, or will.
    pub fn of(folder: &Path) -> Reserve {
        Reserve { path: folder.join(Self::NAMES[0]) }
    }

    /// The names of the two reserves of a folder.
    pub const NAMES: [&str; 2] = ["reserve", "reserve-2"];

    /// The two reserves of a folder with two copies of a file.
    pub(crate) fn both_of(folder: &Path) -> [Reserve; 2] {
        Self::NAMES.map(|name| Reserve { path: folder.join(name) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it large enough to replace a file of `file_bytes` bytes twice as long, and to begin a few small files, if the disk has
    /// the space. What is there already stays.
    pub async fn fill(&self, file_bytes: usize) -> io::Result<()> {
        let wanted = 2 * file_bytes as u64 + RESERVE_BYTES;
        let file = File::open(&self.path, &OpenOptions::new().write(true).create(true)).await?;
        let there = file.len().await?;
        if there >= wanted {
            return Ok(());
        }
        let filled = match file.allocate(there, wanted - there).await {
            // Not every file system can; then its blocks are taken by writing.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let mut zeros = BytesMut::new();
                zeros.put_bytes(0, (wanted - there) as usize);
                file.write_at(vec![zeros.freeze()], there, Sync::None).await
            }
            filled => filled,
        };
        if filled.is_err() {
            // Part of it may be there, and others need it more.
            file.truncate(there).await?;
        }
        filled
    }

    /// Replaces the file at `path` in one step that survives a crash, as [`fs::replace`] does; from the reserve, where the disk is
    /// full. Afterwards the reserve may be gone: [`fill`](Reserve::fill) it.
    pub async fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        match fs::replace(path, contents).await {
            Err(error) if is_full(&error) => {}
            replaced => return replaced,
        }
        reached("file replaced from the reserve");
        match self.turn_into(path, contents).await {
            Err(error) if is_full(&error) || error.kind() == ErrorKind::NotFound => {
                // It is too small, or its blocks are not written in place here.
                self.remove().await?;
                fs::replace(path, contents).await
            }
            replaced => replaced,
        }
    }

    async fn turn_into(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let file = File::open(&self.path, &OpenOptions::new().write(true)).await?;
        if file.len().await? < contents.len() as u64 {
            return Err(ErrorKind::StorageFull.into());
        }
        file.write_at(vec![Bytes::copy_from_slice(contents)], 0, Sync::None).await?;
        file.truncate(contents.len() as u64).await?;
        file.sync_all().await?;
        drop(file);
        fs::rename(&self.path, path).await?;
        fs::sync_dir(path.parent().unwrap_or(Path::new("."))).await
    }

    /// Gives a little of it back to the disk, for what needs a block or two. False if nothing was left.
    pub async fn give_up_some(&self) -> io::Result<bool> {
        let file = match File::open(&self.path, &OpenOptions::new().write(true)).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let there = file.len().await?;
        file.truncate(there.saturating_sub(RESERVE_STEP_BYTES)).await?;
        Ok(there > 0)
    }

    /// Gives all of it back.
    pub async fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Replaces the copies of a file in `folder`, durably: the second only when the first is on stable storage, so that a crash leaves at
/// least one that is whole. Each from a reserve of its own, where the disk is full.
///
/// # Errors
/// The first that is met; each copy is then the old or the new one.
pub async fn replace_copies(folder: &Path, copies: &[PathBuf], contents: &[u8]) -> io::Result<()> {
    let reserves = Reserve::both_of(folder);
    for (path, reserve) in copies.iter().zip(&reserves) {
        reserve.replace(path, contents).await?;
    }
    for reserve in &reserves {
        if let Err(error) = reserve.fill(contents.len()).await {
            tracing::debug!(path = %reserve.path().display(), %error, "no space could be reserved");
        }
    }
    Ok(())
}

/// Whether an error says that the disk has no space.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use ringlog_reactor::sim::{DiskFaults, Simulation};

    use super::*;

    const FILE: &str = "/data/file";

    async fn reserve_and_file() -> Reserve {
        fs::create_dir_all("/data").await.unwrap();
        fs::sync_dir("/").await.unwrap();
        let reserve = Reserve::of(Path::new("/data"));
        reserve.replace(Path::new(FILE), b"old").await.unwrap();
        reserve.fill(3).await.unwrap();
        reserve
    }

    #[test]
    fn a_file_is_replaced_on_a_full_disk_and_what_is_there_survives_a_crash() {
        for seed in 0..20 {
            let simulation = Simulation::new(seed);
            let disk = simulation.disk();
            simulation.run(async {
                let reserve = reserve_and_file().await;
                disk.set_faults(DiskFaults { full_after_bytes: Some(0), ..DiskFaults::default() });
                assert!(is_full(&fs::replace(FILE, b"new").await.unwrap_err()));
                reserve.replace(Path::new(FILE), b"new").await.unwrap();
                reserve.fill(3).await.unwrap();
            });
            simulation.crash();
            Simulation::with_disk(seed + 100, simulation.disk()).run(async {
                assert_eq!(fs::read(FILE).await.unwrap(), b"new");
            });
        }
    }

    #[test]
    fn a_reserve_gives_room_for_small_files_until_nothing_is_left() {
        let simulation = Simulation::new(1);
        let disk = simulation.disk();
        simulation.run(async {
            let reserve = reserve_and_file().await;
            disk.set_faults(DiskFaults { full_after_bytes: Some(0), ..DiskFaults::default() });
            assert!(fs::create_dir_all("/data/folder").await.is_err());
            assert!(reserve.give_up_some().await.unwrap());
            fs::create_dir_all("/data/folder").await.unwrap();
            for _ in 0..RESERVE_BYTES / RESERVE_STEP_BYTES {
                reserve.give_up_some().await.unwrap();
            }
            assert!(!reserve.give_up_some().await.unwrap());
        });
    }
}
