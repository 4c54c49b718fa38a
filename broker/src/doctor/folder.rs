//! What the data folder offers: may it be written, what file system is it, does it take direct I/O, is there room.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ringlog_reactor::{fs as reactor_fs, probe};

use super::line::Line;

/// Journals take some 128 MiB a shard; with less than this free, a broker soon refuses produces.
const ENOUGH_FREE_BYTES: u64 = 2 << 30;

/// One line for each; only one when the folder cannot be used at all.
pub fn lines(data_dir: &Path) -> Vec<Line> {
    const WHAT: &str = "data folder";
    let folder = nearest(data_dir);
    if let Err(error) = write_a_file(&folder) {
        let detail = format!("{} cannot be written: {error}", data_dir.display());
        return vec![Line::fail(WHAT, detail, "name a folder that this user may write with --data")];
    }
    let found =
        if folder == data_dir { String::new() } else { format!(" (to be made below {})", folder.display()) };
    let writable = Line::ok(WHAT, format!("{} may be written{found}", data_dir.display()));
    vec![writable, file_system(&folder), direct(&folder), space(&folder)]
}

/// The folder itself, or what stands nearest above it while it is not made.
pub fn nearest(data_dir: &Path) -> PathBuf {
    let mut at = data_dir;
    loop {
        // A relative path ends in the empty one, which means the current folder.
        if at.as_os_str().is_empty() {
            return PathBuf::from(".");
        }
        if at.symlink_metadata().is_ok() {
            return at.to_path_buf();
        }
        match at.parent() {
            Some(parent) => at = parent,
            None => return at.to_path_buf(),
        }
    }
}

fn write_a_file(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".ringlog-probe-{}", std::process::id()));
    fs::write(&path, b"")?;
    fs::remove_file(&path)
}

fn file_system(folder: &Path) -> Line {
    const WHAT: &str = "file system";
    match probe::file_system(folder) {
        Ok(name) if name == "tmpfs" => Line::warning(
            WHAT,
            "tmpfs is memory: nothing on it survives a power cut or a reboot",
            "for data that should last, name a folder on a disk with --data",
        ),
        Ok(name) if name == "nfs" || name == "fuse" => Line::warning(
            WHAT,
            format!("{name}: a synced write is only as durable as the far side makes it"),
            "for data that must last, name a folder on a local ext4 or xfs with --data",
        ),
        Ok(name) => Line::ok(WHAT, name),
        Err(error) => {
            Line::warning(WHAT, format!("cannot be told: {error}"), "ext4 and xfs are known to work")
        }
    }
}

fn direct(folder: &Path) -> Line {
    const WHAT: &str = "direct I/O";
    const ADVICE: &str = "it works without, slower; ext4 and xfs on a local disk have it";
    match probe::direct_io(folder) {
        Ok(direct) if direct.works => {
            let align = match (direct.memory_align, direct.offset_align) {
                (Some(memory), Some(offset)) => format!("alignment {memory} in memory, {offset} in the file"),
                _ => "the file system does not say its alignment; 4096 works".to_owned(),
            };
            Line::ok(WHAT, format!("O_DIRECT works, {align}"))
        }
        Ok(_) => Line::warning(WHAT, "this file system does not take O_DIRECT", ADVICE),
        Err(error) => Line::warning(WHAT, format!("cannot be tried: {error}"), ADVICE),
    }
}

fn space(folder: &Path) -> Line {
    const WHAT: &str = "free space";
    match reactor_fs::space(folder) {
        Ok(space) => {
            let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
            let detail = format!("{} of {}", gib(space.free_bytes), gib(space.total_bytes));
            if space.free_bytes >= ENOUGH_FREE_BYTES {
                Line::ok(WHAT, detail)
            } else {
                Line::warning(
                    WHAT,
                    detail,
                    "make room: on a full disk a broker refuses produces until there is some",
                )
            }
        }
        Err(error) => Line::warning(WHAT, format!("cannot be told: {error}"), "look at it with df"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_is_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&folder.path().join("a/b/c")), folder.path());
        assert_eq!(nearest(folder.path()), folder.path());
        assert_eq!(nearest(Path::new("surely-not-here/b")), Path::new("."));
    }

    #[test]
    fn a_folder_that_may_be_written_has_a_line_for_each_thing_and_stays_empty() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(lines(folder.path()).len(), 4);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
