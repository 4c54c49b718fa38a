//! Operations in words, for those who read how a run went.

use std::ffi::CStr;
use std::os::fd::RawFd;

use bytes::Bytes;

use super::machine::{Machine, OpenFile};
use crate::op::{Gather, Op};

/// An operation that has just completed with `result`.
pub(super) fn describe(machine: &Machine, op: &Op, target: Option<OpenFile>, result: i32) -> String {
    let file = || name_of(machine, target);
    let peer = |fd: &RawFd| match machine.peer_addr(*fd) {
        Ok(peer) => peer.to_string(),
        Err(_) => "nobody".to_owned(),
    };
    let what = match op {
        Op::Open { path, .. } => format!("open {}", text(path)),
        Op::Read { offset, len, .. } => format!("read {} at {offset}, {len} bytes", file()),
        Op::Write { data, offset, sync, .. } => {
            let synced = if *sync { ", synced" } else { "" };
            format!("write {} at {offset}, {} bytes{synced}", file(), bytes_in(data))
        }
        Op::Sync { .. } => format!("sync {}", file()),
        Op::Allocate { offset, len, .. } => format!("allocate {} at {offset}, {len} bytes", file()),
        Op::Truncate { len, .. } => format!("truncate {} to {len} bytes", file()),
        Op::Stat { fd: Some(_), .. } => format!("stat {}", file()),
        Op::Stat { fd: None, path, .. } => format!("stat {}", text(path)),
        Op::MakeDir { path } => format!("make folder {}", text(path)),
        Op::Rename { from, to } => format!("rename {} to {}", text(from), text(to)),
        Op::Unlink { path, .. } => format!("remove {}", text(path)),
        Op::Connect { to, .. } => format!("connect to {to}"),
        Op::AcceptMany { .. } => "accept".to_owned(),
        Op::ReceiveMany { fd } => format!("receive from {}", peer(fd)),
        Op::Receive { fd, len, .. } => format!("receive from {}, {len} bytes", peer(fd)),
        Op::Send { fd, data } => format!("send to {}, {} bytes", peer(fd), bytes_in(data)),
    };
    format!("{what} -> {}", outcome(op, result))
}

fn text(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}

fn name_of(machine: &Machine, file: Option<OpenFile>) -> String {
    let path = file.and_then(|file| machine.disk().with(|disk| disk.path_of(file.inode)));
    path.map_or_else(|| "a removed file".to_owned(), |path| path.display().to_string())
}

fn bytes_in(data: &Gather) -> usize {
    data.remaining().iter().map(Bytes::len).sum()
}

fn outcome(op: &Op, result: i32) -> String {
    if result < 0 {
        return std::io::Error::from_raw_os_error(-result).to_string();
    }
    match op {
        Op::Read { .. }
        | Op::Write { .. }
        | Op::Receive { .. }
        | Op::ReceiveMany { .. }
        | Op::Send { .. } => {
            format!("{result} bytes")
        }
        _ => "ok".to_owned(),
    }
}
