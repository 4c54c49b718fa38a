//! Folders, and whole files by name.

use std::fs;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};

use super::file::{File, OpenOptions, Sync};
use crate::core;
use crate::op::{FileTimes, Kind, Metadata, Op, Operation};
use crate::sim::mutant;
use crate::sys;

async fn perform(op: Op) -> io::Result<Op> {
    let (result, op) = Operation::start(op).await;
    result.map(|_| op)
}

async fn stat(path: &Path, follow: bool) -> io::Result<Metadata> {
    let op = Op::Stat { fd: None, path: sys::c_path(path)?, follow, found: Metadata::default() };
    let Op::Stat { found, .. } = perform(op).await? else { unreachable!("a stat comes back as a stat") };
    Ok(found)
}

/// Makes a folder and those above it, if they are not there, and returns those that it made, the outermost first. It does
/// not sync them: see [`sync_dir`].
///
/// # Errors
/// Those of mkdir(2).
pub async fn create_dir_all(path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    let mut at = Some(path.as_ref());
    while let Some(folder) = at.filter(|folder| !folder.as_os_str().is_empty()) {
        match stat(folder, true).await {
            Ok(found) if found.kind == Kind::Folder => break,
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(folder.to_path_buf()),
            Err(error) => return Err(error),
        }
        at = folder.parent();
    }
    let mut made = Vec::new();
    for folder in missing.into_iter().rev() {
        match perform(Op::MakeDir { path: sys::c_path(&folder)? }).await {
            Ok(_) => made.push(folder),
            // Someone else was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Removes folders that [`create_dir_all`] has made, as far as they are still empty.
pub async fn unmake(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        if remove_dir(folder).await.is_err() {
            return;
        }
    }
}

/// Removes an empty folder.
///
/// # Errors
/// Those of rmdir(2).
pub async fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    perform(Op::Unlink { path: sys::c_path(path.as_ref())?, folder: true }).await.map(drop)
}

/// Removes a file.
///
/// # Errors
/// Those of unlink(2).
pub async fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    perform(Op::Unlink { path: sys::c_path(path.as_ref())?, folder: false }).await.map(drop)
}

/// Removes a folder and all in it. Start-up and housekeeping only: it lists folders with blocking calls.
///
/// # Errors
/// Those of readdir(3), unlink(2) and rmdir(2). What was removed before an error stays removed.
pub async fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    remove_tree(path.as_ref().to_path_buf()).await
}

fn remove_tree(path: PathBuf) -> Pin<Box<dyn Future<Output = io::Result<()>>>> {
    Box::pin(async move {
        for entry in read_dir(&path).await? {
            let child = path.join(&entry.name);
            let removed = match entry.kind {
                Kind::Folder => remove_tree(child).await,
                _ => remove_file(child).await,
            };
            // Another process may remove at the same time: what is gone is gone.
            if let Err(error) = removed
                && error.kind() != ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        remove_dir(path).await
    })
}

/// Renames a file or folder, replacing a file at `to` in one step. It does not sync: see [`sync_dir`].
///
/// # Errors
/// Those of rename(2).
pub async fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let op = Op::Rename { from: sys::c_path(from.as_ref())?, to: sys::c_path(to.as_ref())? };
    perform(op).await.map(drop)
}

/// Whether there is a file or folder at `path`.
///
/// # Errors
/// Those of statx(2), other than that there is none.
pub async fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    match stat(path.as_ref(), true).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What stands at `path`: of a symbolic link that it is one.
///
/// # Errors
/// Those of statx(2).
pub async fn kind(path: impl AsRef<Path>) -> io::Result<Kind> {
    Ok(stat(path.as_ref(), false).await?.kind)
}

/// When a file was made and written.
///
/// # Errors
/// Those of statx(2).
pub async fn times(path: impl AsRef<Path>) -> io::Result<FileTimes> {
    Ok(stat(path.as_ref(), true).await?.times)
}

/// Waits until the entries of a folder are on stable storage: needed after a file was made, renamed or removed in
/// it.
///
/// # Errors
/// Those of open(2) and fsync(2).
pub async fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    if mutant("no-directory-sync") {
        return Ok(());
    }
    File::open(path, &OpenOptions::new().read(true)).await?.sync_all().await
}

/// The content of a whole small file.
///
/// # Errors
/// Those of open(2) and read(2), and `InvalidInput` if there is something else than a file: to open a pipe would take for ever.
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    match stat(path, true).await?.kind {
        Kind::File => {}
        kind => return Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}, not a file"))),
    }
    let file = File::open(path, &OpenOptions::new().read(true)).await?;
    let len = usize::try_from(file.len().await?).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    Ok(file.read_at(BytesMut::with_capacity(len), 0, len).await?.into())
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name within the folder. Names that are not UTF-8 are left out: none of ours are.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes, of a file.
    pub len: u64,
}

/// The entries of a folder, sorted by name. Start-up and housekeeping only: the listing blocks the thread.
///
/// # Errors
/// Those of opendir(3), readdir(3) and stat(2).
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<DirEntry>> {
    let path = path.as_ref();
    let simulated = core::with(|core| core.machine().map(|machine| machine.list(path)));
    let mut entries = match simulated {
        Some(entries) => entries?,
        None => list(path)?,
    };
    entries.sort();
    Ok(entries)
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // An entry may vanish while it is looked at.
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let kind = match metadata.file_type() {
            of if of.is_file() => Kind::File,
            of if of.is_dir() => Kind::Folder,
            of if of.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        entries.push(DirEntry { name, kind, len: metadata.len() });
    }
    Ok(entries)
}

/// Replaces a file's content in one step that survives a crash: before it the old content is there, after it the
/// new, never a mixture. Writes `path` + `.tmp`, syncs it, renames it over `path` and syncs the folder.
///
/// # Errors
/// Those of open(2), write(2), fsync(2) and rename(2). After an error the old or the new content is there, and nothing beside it:
/// on a full disk a part of a file would be in the way of what frees space.
pub async fn replace(path: impl AsRef<Path>, contents: &[u8]) -> io::Result<()> {
    let path = path.as_ref();
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = if mutant("replace-in-place") { path.to_path_buf() } else { PathBuf::from(temporary) };
    if let Err(error) = write_whole(&temporary, contents).await {
        if temporary != path {
            let _may_not_be_there = remove_file(&temporary).await;
        }
        return Err(error);
    }
    rename(&temporary, path).await?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_dir(folder.unwrap_or(Path::new("."))).await
}

async fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    let options = OpenOptions::new().write(true).create(true).truncate(true);
    let file = File::open(path, &options).await?;
    file.write_at(vec![Bytes::copy_from_slice(contents)], 0, Sync::None).await?;
    if mutant("replace-unsynced") { Ok(()) } else { file.sync_all().await }
}
