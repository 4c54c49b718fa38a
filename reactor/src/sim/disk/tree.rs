//! The folders of a disk, and what a crash leaves of them.
//!
//! Invariant: a change to a folder (an entry made, renamed or removed) survives a crash for certain only if that
//! folder was synced afterwards. Syncing a file says nothing about its entry. That is less than ext4 gives, and what
//! POSIX promises.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::task::Waker;

use super::Errno;
use super::content::Content;
use super::faults::Faults;
use crate::clock::Random;
use crate::fs::DirEntry;
use crate::op::{FileTimes, Kind, Metadata};

/// A number that names a file or folder.
pub(in super::super) type Inode = u64;

const ROOT: Inode = 1;

#[derive(Clone)]
pub(super) enum Node {
    File(Content),
    Folder(Folder),
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    now: BTreeMap<String, Inode>,
    durable: BTreeMap<String, Inode>,
}

/// A change of folders that no sync has covered. A rename changes two entries in one step.
#[derive(Clone)]
struct Change {
    set: Option<(Inode, String, Inode)>,
    clear: Option<(Inode, String)>,
}

impl Change {
    fn touches(&self, folder: Inode) -> bool {
        let set = self.set.as_ref().is_some_and(|(at, ..)| *at == folder);
        set || self.clear.as_ref().is_some_and(|(at, _)| *at == folder)
    }
}

#[derive(Clone)]
pub(in super::super) struct Disk {
    pub(super) random: Random,
    pub(super) nodes: BTreeMap<Inode, Node>,
    last_inode: Inode,
    changes: Vec<Change>,
    /// Changes of folders that there ever were, and who waits for one.
    pub(super) changed: u64,
    pub(super) waiting: Vec<Waker>,
    pub(super) faults: Faults,
    /// The wall clock of the machine that uses it, at its last operation.
    pub(in super::super) now_ms: i64,
    /// The lengths of all files that are reachable.
    pub(super) used_bytes: u64,
    /// How much that may become.
    pub(super) limit_bytes: Option<u64>,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Disk {
        Disk {
            random: Random::new(seed ^ 0xD15C),
            nodes: BTreeMap::from([(ROOT, Node::Folder(Folder::default()))]),
            last_inode: ROOT,
            changes: Vec::new(),
            changed: 0,
            waiting: Vec::new(),
            faults: Faults::new(seed),
            now_ms: 0,
            used_bytes: 0,
            limit_bytes: None,
        }
    }

    fn folder(&self, inode: Inode) -> Result<&Folder, Errno> {
        match self.nodes.get(&inode) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    pub(super) fn file(&mut self, inode: Inode) -> Result<&mut Content, Errno> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(content)) => Ok(content),
            Some(Node::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// The folder that holds `path`, and the name in it. There are no links, so `..` is the written parent.
    fn parent(&self, path: &Path) -> Result<(Inode, String), Errno> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.to_str().ok_or(libc::EILSEQ)?),
                Component::ParentDir => {
                    names.pop();
                }
                _ => {}
            }
        }
        let name = names.pop().ok_or(libc::EEXIST)?;
        let mut at = ROOT;
        for folder in names {
            at = *self.folder(at)?.now.get(folder).ok_or(libc::ENOENT)?;
        }
        self.folder(at)?;
        Ok((at, name.to_owned()))
    }

    pub(in super::super) fn find(&self, path: &Path) -> Result<Inode, Errno> {
        match self.parent(path) {
            Ok((folder, name)) => self.folder(folder)?.now.get(&name).copied().ok_or(libc::ENOENT),
            // It is the root, which has no parent.
            Err(libc::EEXIST) => Ok(ROOT),
            Err(errno) => Err(errno),
        }
    }

    /// Looks at everything there is now, in the order of the paths, until `f` is true.
    pub(super) fn walk(&self, f: &mut impl FnMut(&Path, Inode, &Node) -> bool) {
        let mut open = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = open.pop() {
            let Some(node) = self.nodes.get(&inode) else { continue };
            if f(&path, inode, node) {
                return;
            }
            if let Node::Folder(folder) = node {
                open.extend(folder.now.iter().rev().map(|(name, inode)| (path.join(name), *inode)));
            }
        }
    }

    /// Where `inode` is now.
    pub(in super::super) fn path_of(&self, inode: Inode) -> Option<PathBuf> {
        let mut found = None;
        self.walk(&mut |path, at, _| {
            if at == inode {
                found = Some(path.to_path_buf());
            }
            at == inode
        });
        found
    }

    /// What is removed takes no space any more. (It does while it is open, but nobody here counts on that.)
    fn free(&mut self, inode: Inode) {
        if let Ok(content) = self.file(inode) {
            let len = content.len();
            self.used_bytes = self.used_bytes.saturating_sub(len);
        }
    }

    /// Every file there is now, with its length.
    pub(super) fn files(&self) -> Vec<(PathBuf, Inode, u64)> {
        let mut files = Vec::new();
        self.walk(&mut |path, inode, node| {
            if let Node::File(content) = node {
                files.push((path.to_path_buf(), inode, content.len()));
            }
            false
        });
        files
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, true);
        self.changes.push(change);
        self.changed += 1;
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// Carries a change out in what is now, or in what is durable.
    fn apply(&mut self, change: &Change, now: bool) {
        let mut entries = |folder: &Inode, f: &mut dyn FnMut(&mut BTreeMap<String, Inode>)| {
            if let Some(Node::Folder(folder)) = self.nodes.get_mut(folder) {
                f(if now { &mut folder.now } else { &mut folder.durable });
            }
        };
        if let Some((folder, name)) = &change.clear {
            entries(folder, &mut |entries| {
                entries.remove(name);
            });
        }
        if let Some((folder, name, inode)) = &change.set {
            entries(folder, &mut |entries| {
                entries.insert(name.clone(), *inode);
            });
        }
    }

    fn create(&mut self, folder: Inode, name: String, node: Node) -> Result<Inode, Errno> {
        if self.room() == Some(0) {
            return Err(libc::ENOSPC);
        }
        self.last_inode += 1;
        let inode = self.last_inode;
        self.nodes.insert(inode, node);
        self.change(Change { set: Some((folder, name, inode)), clear: None });
        Ok(inode)
    }

    pub(in super::super) fn open(&mut self, path: &Path, flags: i32) -> Result<Inode, Errno> {
        let inode = match self.find(path) {
            Ok(_) if flags & libc::O_EXCL != 0 => return Err(libc::EEXIST),
            Ok(inode) => inode,
            Err(libc::ENOENT) if flags & libc::O_CREAT != 0 => {
                let (folder, name) = self.parent(path)?;
                self.create(folder, name, Node::File(Content::made_at(self.now_ms)))?
            }
            Err(errno) => return Err(errno),
        };
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if writes && self.folder(inode).is_ok() {
            return Err(libc::EISDIR);
        }
        if flags & libc::O_TRUNC != 0 {
            self.truncate(inode, 0)?;
        }
        Ok(inode)
    }

    pub(in super::super) fn make_folder(&mut self, path: &Path) -> Result<(), Errno> {
        match self.find(path) {
            Ok(_) => Err(libc::EEXIST),
            Err(_) => {
                let (folder, name) = self.parent(path)?;
                self.create(folder, name, Node::Folder(Folder::default())).map(drop)
            }
        }
    }

    pub(in super::super) fn remove(&mut self, path: &Path, want_folder: bool) -> Result<(), Errno> {
        let inode = self.find(path)?;
        match (self.folder(inode), want_folder) {
            (Ok(folder), true) if !folder.now.is_empty() => return Err(libc::ENOTEMPTY),
            (Ok(_), false) => return Err(libc::EISDIR),
            (Err(_), true) => return Err(libc::ENOTDIR),
            _ => {}
        }
        let entry = self.parent(path)?;
        self.free(inode);
        self.change(Change { set: None, clear: Some(entry) });
        Ok(())
    }

    pub(in super::super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let inode = self.find(from)?;
        let (to_folder, to_name) = self.parent(to)?;
        if let Ok(replaced) = self.find(to) {
            if replaced == inode {
                return Ok(());
            }
            match (self.folder(inode).is_ok(), self.folder(replaced)) {
                (true, Ok(folder)) if !folder.now.is_empty() => return Err(libc::ENOTEMPTY),
                (true, Err(_)) => return Err(libc::ENOTDIR),
                (false, Ok(_)) => return Err(libc::EISDIR),
                _ => {}
            }
            self.free(replaced);
        }
        let clear = Some(self.parent(from)?);
        self.change(Change { set: Some((to_folder, to_name, inode)), clear });
        Ok(())
    }

    pub(in super::super) fn stat(&self, inode: Inode) -> Result<Metadata, Errno> {
        match self.nodes.get(&inode) {
            Some(Node::File(content)) => {
                Ok(Metadata { len: content.len(), kind: Kind::File, times: content.times })
            }
            Some(Node::Folder(_)) => {
                Ok(Metadata { len: 4096, kind: Kind::Folder, times: FileTimes::default() })
            }
            None => Err(libc::ENOENT),
        }
    }

    pub(in super::super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let folder = self.folder(self.find(path)?)?;
        let entries = folder.now.iter().map(|(name, inode)| {
            let found = self.stat(*inode)?;
            Ok(DirEntry { name: name.clone(), kind: found.kind, len: found.len })
        });
        entries.collect()
    }

    /// All that was changed in a folder is safe, or, after a failure, is not and never will be.
    pub(super) fn sync_folder(&mut self, inode: Inode, succeeds: bool) {
        let changes = std::mem::take(&mut self.changes);
        let (covered, others): (Vec<Change>, Vec<Change>) =
            changes.into_iter().partition(|change| change.touches(inode));
        self.changes = others;
        if succeeds {
            covered.iter().for_each(|change| self.apply(change, false));
        }
    }

    pub(super) fn crash(&mut self) {
        // How much got through differs from crash to crash: nothing and everything must both be common.
        let percent = self.random.below(5) * 25;
        for change in std::mem::take(&mut self.changes) {
            if self.random.below(100) < percent {
                self.apply(&change, false);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::File(content) => content.crash(&self.random, percent),
                Node::Folder(folder) => folder.now = folder.durable.clone(),
            }
        }
        self.forget_unreachable();
        self.used_bytes = self.files().iter().map(|(_, _, len)| len).sum();
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            let Some(node) = self.nodes.remove(&inode) else { continue };
            if let Node::Folder(folder) = &node {
                open.extend(folder.now.values());
            }
            reached.insert(inode, node);
        }
        self.nodes = reached;
    }
}
