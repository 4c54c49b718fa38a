//! The simulated disk: folders, files, and faults.
//!
//! Invariant: a change to a folder (an entry made, renamed or removed) survives a crash for certain only if that
//! folder was synced afterwards. Syncing a file says nothing about its entry. That is less than ext4 gives, and what
//! POSIX promises.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::content::{Content, SECTOR};
use crate::clock::Random;
use crate::fs::{DirEntry, Space};
use crate::op::Metadata;

/// A number that names a file or folder.
pub(super) type Inode = u64;
/// An errno.
pub(super) type Errno = i32;

const ROOT: Inode = 1;
/// What a disk that is not full says it has.
const TOTAL_BYTES: u64 = 1 << 40;

/// A disk that outlives the machines that use it. Clones are handles to the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<Disk>>,
}

impl SimDisk {
    /// An empty disk; its crashes are drawn from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        let root = Node::Folder(Folder::default());
        let state = Disk {
            random: Random::new(seed ^ 0xD15C),
            nodes: BTreeMap::from([(ROOT, root)]),
            last_inode: ROOT,
            changes: Vec::new(),
            faults: Faults::default(),
        };
        SimDisk { state: Rc::new(RefCell::new(state)) }
    }

    /// The power fails: every write that was not synced is kept, lost, or torn at sectors of 512 bytes; every change
    /// of a folder that was not synced is kept or lost. Call it while no simulation runs on the disk.
    pub fn crash(&self) {
        self.state.borrow_mut().crash();
    }

    /// The next write fails with `errno`, after any part of it was written.
    pub fn fail_next_write(&self, errno: i32) {
        self.state.borrow_mut().faults.write = Some(errno);
    }

    /// The next sync of a file or folder fails with `errno`. What it should have saved is lost in the next crash,
    /// even if a later sync succeeds.
    pub fn fail_next_sync(&self, errno: i32) {
        self.state.borrow_mut().faults.sync = Some(errno);
    }

    /// The next read fails with `errno`.
    pub fn fail_next_read(&self, errno: i32) {
        self.state.borrow_mut().faults.read = Some(errno);
    }

    /// While full, whatever needs new space fails with `ENOSPC`: new files and folders, and growing a file.
    pub fn set_full(&self, full: bool) {
        self.state.borrow_mut().faults.full = full;
    }

    /// Flips one bit of the byte at `offset` of the file at `path`, in memory and on the disk. False if there is no
    /// such byte.
    pub fn flip_bit(&self, path: impl AsRef<Path>, offset: u64, bit: u8) -> bool {
        let mut disk = self.state.borrow_mut();
        let Ok(inode) = disk.find(path.as_ref()) else { return false };
        match disk.nodes.get_mut(&inode) {
            Some(Node::File(content)) if offset < content.len() => {
                content.flip_bit(offset, bit);
                true
            }
            _ => false,
        }
    }

    /// Every file there is now, with its length, in the order of their paths.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut files = Vec::new();
        self.state.borrow().walk(&mut |path, _, node| {
            if let Node::File(content) = node {
                files.push((path.to_path_buf(), content.len()));
            }
            false
        });
        files
    }

    /// Another disk with the same content, which fares the same.
    pub fn copy(&self) -> SimDisk {
        SimDisk { state: Rc::new(RefCell::new(self.state.borrow().clone())) }
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Disk) -> R) -> R {
        f(&mut self.state.borrow_mut())
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("nodes", &self.state.borrow().nodes.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Default)]
struct Faults {
    write: Option<Errno>,
    sync: Option<Errno>,
    read: Option<Errno>,
    full: bool,
}

#[derive(Clone)]
enum Node {
    File(Content),
    Folder(Folder),
}

#[derive(Clone, Default)]
struct Folder {
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
pub(super) struct Disk {
    random: Random,
    nodes: BTreeMap<Inode, Node>,
    last_inode: Inode,
    changes: Vec<Change>,
    faults: Faults,
}

impl Disk {
    fn folder(&self, inode: Inode) -> Result<&Folder, Errno> {
        match self.nodes.get(&inode) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn file(&mut self, inode: Inode) -> Result<&mut Content, Errno> {
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

    pub(super) fn find(&self, path: &Path) -> Result<Inode, Errno> {
        match self.parent(path) {
            Ok((folder, name)) => self.folder(folder)?.now.get(&name).copied().ok_or(libc::ENOENT),
            // It is the root, which has no parent.
            Err(libc::EEXIST) => Ok(ROOT),
            Err(errno) => Err(errno),
        }
    }

    /// Looks at everything there is now, in the order of the paths, until `f` is true.
    fn walk(&self, f: &mut impl FnMut(&Path, Inode, &Node) -> bool) {
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
    pub(super) fn path_of(&self, inode: Inode) -> Option<PathBuf> {
        let mut found = None;
        self.walk(&mut |path, at, _| {
            if at == inode {
                found = Some(path.to_path_buf());
            }
            at == inode
        });
        found
    }

    fn change(&mut self, change: Change) {
        self.apply(&change, true);
        self.changes.push(change);
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
        if self.faults.full {
            return Err(libc::ENOSPC);
        }
        self.last_inode += 1;
        let inode = self.last_inode;
        self.nodes.insert(inode, node);
        self.change(Change { set: Some((folder, name, inode)), clear: None });
        Ok(inode)
    }

    pub(super) fn open(&mut self, path: &Path, flags: i32) -> Result<Inode, Errno> {
        let inode = match self.find(path) {
            Ok(_) if flags & libc::O_EXCL != 0 => return Err(libc::EEXIST),
            Ok(inode) => inode,
            Err(libc::ENOENT) if flags & libc::O_CREAT != 0 => {
                let (folder, name) = self.parent(path)?;
                self.create(folder, name, Node::File(Content::default()))?
            }
            Err(errno) => return Err(errno),
        };
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        if writes && self.folder(inode).is_ok() {
            return Err(libc::EISDIR);
        }
        if flags & libc::O_TRUNC != 0 {
            self.file(inode)?.set_len(0);
        }
        Ok(inode)
    }

    pub(super) fn make_folder(&mut self, path: &Path) -> Result<(), Errno> {
        match self.find(path) {
            Ok(_) => Err(libc::EEXIST),
            Err(_) => {
                let (folder, name) = self.parent(path)?;
                self.create(folder, name, Node::Folder(Folder::default())).map(drop)
            }
        }
    }

    pub(super) fn remove(&mut self, path: &Path, want_folder: bool) -> Result<(), Errno> {
        let inode = self.find(path)?;
        match (self.folder(inode), want_folder) {
            (Ok(folder), true) if !folder.now.is_empty() => return Err(libc::ENOTEMPTY),
            (Ok(_), false) => return Err(libc::EISDIR),
            (Err(_), true) => return Err(libc::ENOTDIR),
            _ => {}
        }
        let entry = self.parent(path)?;
        self.change(Change { set: None, clear: Some(entry) });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
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
        }
        let clear = Some(self.parent(from)?);
        self.change(Change { set: Some((to_folder, to_name, inode)), clear });
        Ok(())
    }

    pub(super) fn stat(&self, inode: Inode) -> Result<Metadata, Errno> {
        match self.nodes.get(&inode) {
            Some(Node::File(content)) => Ok(Metadata { len: content.len(), is_dir: false }),
            Some(Node::Folder(_)) => Ok(Metadata { len: 4096, is_dir: true }),
            None => Err(libc::ENOENT),
        }
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<DirEntry>, Errno> {
        let folder = self.folder(self.find(path)?)?;
        let entries = folder.now.iter().map(|(name, inode)| {
            let found = self.stat(*inode)?;
            Ok(DirEntry { name: name.clone(), is_dir: found.is_dir, len: found.len })
        });
        entries.collect()
    }

    pub(super) fn space(&self) -> Space {
        let free_bytes = if self.faults.full { 0 } else { TOTAL_BYTES / 2 };
        Space { free_bytes, total_bytes: TOTAL_BYTES }
    }

    pub(super) fn read(&mut self, inode: Inode, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        if let Some(errno) = self.faults.read.take() {
            return Err(errno);
        }
        self.file(inode).map(|content| content.read(offset, len))
    }

    /// Writes all of `bytes`; with `sync` they are durable.
    pub(super) fn write(&mut self, at: Inode, offset: u64, bytes: &[u8], sync: bool) -> Result<(), Errno> {
        let (fault, full) = (self.faults.write.take(), self.faults.full);
        let torn = self.random.below(1 + (bytes.len() / SECTOR) as u64) as usize * SECTOR;
        let content = self.file(at)?;
        if let Some(errno) = fault {
            content.write(offset, &bytes[..torn]);
            return Err(errno);
        }
        if full && offset + bytes.len() as u64 > content.len() {
            return Err(libc::ENOSPC);
        }
        content.write(offset, bytes);
        if sync {
            content.sync_range(offset, bytes.len());
        }
        Ok(())
    }

    pub(super) fn allocate(&mut self, inode: Inode, offset: u64, len: u64) -> Result<(), Errno> {
        let full = self.faults.full;
        let content = self.file(inode)?;
        let end = offset + len;
        if end > content.len() {
            if full {
                return Err(libc::ENOSPC);
            }
            content.set_len(end);
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, inode: Inode, len: u64) -> Result<(), Errno> {
        self.file(inode).map(|content| content.set_len(len))
    }

    pub(super) fn sync(&mut self, inode: Inode) -> Result<(), Errno> {
        let fault = self.faults.sync.take();
        if let Some(Node::File(content)) = self.nodes.get_mut(&inode) {
            match fault {
                Some(_) => content.sync_fails(),
                None => content.sync(),
            }
        } else {
            let changes = std::mem::take(&mut self.changes);
            let (covered, others) = changes.into_iter().partition(|change| change.touches(inode));
            self.changes = others;
            let covered: Vec<Change> = covered;
            if fault.is_none() {
                covered.iter().for_each(|change| self.apply(change, false));
            }
        }
        fault.map_or(Ok(()), Err)
    }

    fn crash(&mut self) {
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
