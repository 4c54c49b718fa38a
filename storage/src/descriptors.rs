//! The file descriptors of one shard's storage: segments are kept open as far as they suffice, and no further.
//!
//! Invariants:
//! - `taken` counts the files that are kept open, that are being opened, and the descriptors that an operation on a folder or a
//!   small file has for a moment. It never passes `limit`.
//! - A task that has a descriptor waits for the operation on it, and never for another descriptor or for a lock. So whoever
//!   waits for a descriptor gets one.
//! - A file with writes that were not synced is synced before it is closed, and a sync that failed is remembered for as long as
//!   its segment: what was written through a descriptor never counts as synced because of another one's sync
//!   (docs/decisions/0023-descriptors-are-a-bounded-cache.md).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ringlog_reactor::fs::{self, File, OpenOptions};
use ringlog_reactor::sim::{mutant, reached};
use ringlog_reactor::{Instant, Notify, now, sleep, spawn};

/// After the system had no descriptor although this shard has not used up its share, before the next try.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried before the operation fails.
const TRIES: u32 = 10;
/// What was dropped is closed at the end of the core's turn, behind the operations before it.
const CLOSED_WITHIN: Duration = Duration::from_millis(1);

/// See the head of this file. One for each shard.
pub(crate) struct Descriptors {
    limit: usize,
    taken: Cell<usize>,
    /// The files that are kept open, by their last use.
    kept: RefCell<BTreeMap<u64, Rc<OpenFile>>>,
    /// The uses so far.
    uses: Cell<u64>,
    /// A descriptor was given back, a file is not in use any more, or a sync has ended.
    freed: Notify,
    warned: Cell<Option<Instant>>,
}

/// A file that is kept open while there are descriptors enough.
pub(crate) struct OpenFile {
    /// None once it was closed.
    file: RefCell<Option<Rc<File>>>,
    last_use: Cell<u64>,
    users: Cell<usize>,
    /// Its segment is gone: close it when it is not in use any more.
    dropped: Cell<bool>,
    /// Writes without a sync of their own so far, and how many of them a sync has covered.
    writes: Cell<u64>,
    synced_writes: Cell<u64>,
    syncing: Cell<bool>,
    /// What a sync said that failed. Nothing that was written here counts as synced any more.
    failed: RefCell<Option<String>>,
}

impl OpenFile {
    fn is_unsynced(&self) -> bool {
        self.synced_writes.get() < self.writes.get()
    }

    /// Remembers the sync that failed before the file was closed: reads go on, and no sync may say that all is well.
    pub(crate) fn inherit(&self, closed: &OpenFile) {
        self.failed.replace(closed.failed.borrow().clone());
    }

    /// # Errors
    /// When a sync of it has failed.
    pub(crate) fn check(&self) -> io::Result<()> {
        match &*self.failed.borrow() {
            Some(why) => Err(io::Error::other(format!("an earlier sync of it failed: {why}"))),
            None => Ok(()),
        }
    }
}

/// A file in use: it stays open.
pub(crate) struct Lease {
    of: Rc<Descriptors>,
    open: Rc<OpenFile>,
    file: Rc<File>,
}

impl Deref for Lease {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Lease {
    /// Notes that something is about to be written without a sync of its own.
    pub(crate) fn will_write(&self) {
        self.open.writes.set(self.open.writes.get() + 1);
    }

    /// What a segment keeps of it.
    pub(crate) fn kept(&self) -> Rc<OpenFile> {
        Rc::clone(&self.open)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.open.users.set(self.open.users.get() - 1);
        self.of.let_go(&self.open);
    }
}

/// A descriptor that is in use, or about to be opened.
struct Taken<'a>(&'a Descriptors);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.freed.notify_all();
    }
}

/// A sync under way. If it is broken off, what it would have said is not known, so no later sync of the file counts.
struct Syncing<'a> {
    of: &'a Descriptors,
    open: &'a OpenFile,
    writes: u64,
}

impl<'a> Syncing<'a> {
    fn begin(of: &'a Descriptors, open: &'a OpenFile) -> Syncing<'a> {
        open.users.set(open.users.get() + 1);
        open.syncing.set(true);
        Syncing { of, open, writes: open.writes.get() }
    }

    fn end(self, synced: &io::Result<()>) {
        match synced {
            Ok(()) => self.open.synced_writes.set(self.writes),
            Err(error) => *self.open.failed.borrow_mut() = Some(error.to_string()),
        }
    }
}

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        let open = self.open;
        if open.synced_writes.get() < self.writes {
            open.failed.borrow_mut().get_or_insert_with(|| "it was broken off".to_owned());
        }
        open.syncing.set(false);
        open.users.set(open.users.get() - 1);
        self.of.let_go(open);
    }
}

impl Descriptors {
    pub(crate) fn new(limit: usize) -> Rc<Descriptors> {
        assert!(limit > 0, "a shard needs a descriptor");
        Rc::new(Descriptors {
            limit,
            taken: Cell::new(0),
            kept: RefCell::default(),
            uses: Cell::new(0),
            freed: Notify::new(),
            warned: Cell::new(None),
        })
    }

    /// How many there are in all.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Opens a file that may be kept open. Hand it to [`Descriptors::forget`] when it is not wanted any more.
    pub(crate) async fn open(self: &Rc<Self>, path: &Path, options: &OpenOptions) -> io::Result<Lease> {
        let taken = self.take().await;
        let file = Rc::new(self.again_without(|| File::open(path, options)).await?);
        // Counted until the file is closed.
        std::mem::forget(taken);
        let open = Rc::new(OpenFile {
            file: RefCell::new(Some(Rc::clone(&file))),
            last_use: Cell::new(self.next_use()),
            users: Cell::new(1),
            dropped: Cell::new(false),
            writes: Cell::new(0),
            synced_writes: Cell::new(0),
            syncing: Cell::new(false),
            failed: RefCell::default(),
        });
        self.kept.borrow_mut().insert(open.last_use.get(), Rc::clone(&open));
        Ok(Lease { of: Rc::clone(self), open, file })
    }

    /// Takes a file into use that was opened before. None if it was closed since.
    pub(crate) fn lease(self: &Rc<Self>, open: &Rc<OpenFile>) -> Option<Lease> {
        let file = open.file.borrow().clone()?;
        let mut kept = self.kept.borrow_mut();
        kept.remove(&open.last_use.get());
        open.last_use.set(self.next_use());
        kept.insert(open.last_use.get(), Rc::clone(open));
        open.users.set(open.users.get() + 1);
        Some(Lease { of: Rc::clone(self), open: Rc::clone(open), file })
    }

    /// Does something that has one descriptor at a time for itself and closes it: with a folder, or a small file. Out of
    /// descriptors, it is done again as a whole.
    pub(crate) async fn with_one<T, F>(self: &Rc<Self>, action: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let _taken = self.take().await;
        self.again_without(action).await
    }

    /// Syncs a folder.
    pub(crate) async fn sync_dir(self: &Rc<Self>, path: &Path) -> io::Result<()> {
        if mutant("out-of-descriptors-taken-for-synced") {
            let synced = fs::sync_dir(path).await;
            return if synced.as_ref().is_err_and(is_out_of_descriptors) { Ok(()) } else { synced };
        }
        self.with_one(|| fs::sync_dir(path)).await
    }

    /// Waits until all that was written into a file before this call is on stable storage. A file that was closed since was synced
    /// before.
    pub(crate) async fn sync(&self, open: &Rc<OpenFile>) -> io::Result<()> {
        // Two syncs of one file at the same time: the kernel reports an error to one of them alone.
        loop {
            let ended = self.freed.notified();
            if !open.syncing.get() {
                break;
            }
            ended.await;
        }
        open.check()?;
        let file = open.file.borrow().clone();
        let Some(file) = file.filter(|_| open.is_unsynced()) else { return Ok(()) };
        let syncing = Syncing::begin(self, open);
        let synced = file.sync_data().await;
        syncing.end(&synced);
        synced
    }

    /// Closes a file, at the end of what it is used for. What was not synced is lost.
    pub(crate) fn forget(&self, open: &OpenFile) {
        open.dropped.set(true);
        self.let_go(open);
    }

    /// A file is in use once less.
    fn let_go(&self, open: &OpenFile) {
        if open.dropped.get() && open.users.get() == 0 {
            self.close(open);
        }
        self.freed.notify_all();
    }

    fn close(&self, open: &OpenFile) {
        if open.file.take().is_some() {
            self.kept.borrow_mut().remove(&open.last_use.get());
            self.taken.set(self.taken.get() - 1);
        }
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }

    /// Waits for a descriptor. The file that was not used for longest gives its own.
    async fn take(self: &Rc<Self>) -> Taken<'_> {
        loop {
            let freed = self.freed.notified();
            if self.taken.get() < self.limit {
                self.taken.set(self.taken.get() + 1);
                return Taken(self);
            }
            if !self.close_one() {
                freed.await;
            }
        }
    }

    /// Closes a file that is not in use. False if there is none, or it has to be synced before it is closed.
    fn close_one(self: &Rc<Self>) -> bool {
        let Some(open) = self.idle() else { return false };
        reached("file closed for another");
        if !open.is_unsynced() {
            self.close(&open);
            return true;
        }
        let all = Rc::clone(self);
        // A task of its own: the one that waits may be given up, and what a sync says must never be lost.
        spawn(async move {
            // A checkpoint, or the next write, has to know of a failure, and finds it in the file.
            let synced = all.sync(&open).await;
            if open.users.get() == 0 && (synced.is_err() || !open.is_unsynced()) {
                all.close(&open);
                all.freed.notify_all();
            }
        })
        .detach();
        false
    }

    /// The file to close next: one that needs no sync, if there is one.
    fn idle(&self) -> Option<Rc<OpenFile>> {
        let kept = self.kept.borrow();
        let mut idle = kept.values().filter(|open| open.users.get() == 0 && !open.syncing.get());
        let first = idle.next()?;
        let clean = std::iter::once(first).chain(idle).find(|open| !open.is_unsynced());
        Some(Rc::clone(clean.unwrap_or(first)))
    }

    /// Does something that needs a descriptor. When the system has none, a file that is not in use is closed, and it is tried again,
    /// after a pause if there was none to close.
    async fn again_without<T, F>(self: &Rc<Self>, action: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        let mut tries = 0;
        loop {
            match action().await {
                Err(error) if is_out_of_descriptors(&error) && tries < TRIES => {
                    if self.close_one() {
                        sleep(CLOSED_WITHIN).await;
                        continue;
                    }
                    tries += 1;
                    self.warn(&error);
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// Once in a while, whatever waits.
    fn warn(&self, error: &io::Error) {
        if self.warned.get().is_none_or(|warned| now() - warned >= PAUSE) {
            self.warned.set(Some(now()));
            reached("waits for a descriptor of the system");
            tracing::warn!(
                %error,
                "the system has no file descriptor left for the storage: it is tried again every second"
            );
        }
    }
}

/// Whether a file could not be opened because too many are open, here or in the whole system: nothing was done, and it ends by
/// itself.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::BytesMut;
    use ringlog_reactor::fs::Sync;
    use ringlog_reactor::sim::{Host, SimDisk, Simulation};
    use ringlog_reactor::timeout;

    use super::*;

    const LIMIT: usize = 3;

    fn path(number: u32) -> PathBuf {
        PathBuf::from(format!("/data/{number}"))
    }

    fn options() -> OpenOptions {
        OpenOptions::new().read(true).write(true).create(true).direct(true)
    }

    async fn write(file: &Lease, byte: u8) {
        let mut block = ringlog_reactor::aligned(4096);
        block.resize(4096, byte);
        file.will_write();
        file.write_at(vec![block.freeze()], 0, Sync::None).await.expect("the disk is sound");
    }

    /// Runs on a machine that lets so many files be open.
    fn on_host<F>(disk: &SimDisk, open_files: usize, main: impl FnOnce(Host) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let world = Simulation::new(1);
        let host = world.host("host", [10, 0, 0, 1].into(), disk.clone());
        host.set_open_files(open_files);
        let (there, ended) = (host.clone(), host.clone());
        world.run(async move {
            host.start(move || async move {
                fs::create_dir_all("/data").await.expect("a folder can be made");
                main(there).await;
            });
            ended.ended().await;
            assert_eq!(ended.panicked(), None);
        });
    }

    #[test]
    fn many_files_are_used_at_the_same_time_with_few_descriptors() {
        let disk = SimDisk::new(1);
        // What is dropped is closed a moment later.
        on_host(&disk, 2 * LIMIT, |_| async {
            let all = Descriptors::new(LIMIT);
            let tasks: Vec<_> = (0..40)
                .map(|number| {
                    let all = Rc::clone(&all);
                    spawn(async move {
                        let file = all.open(&path(number), &options()).await.expect("it waits for one");
                        write(&file, number as u8).await;
                        let open = file.kept();
                        drop(file);
                        all.sync_dir(Path::new("/data")).await.expect("it waits for one");
                        all.sync(&open).await.expect("the disk is sound");
                        all.forget(&open);
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            assert_eq!(all.taken.get(), 0, "a descriptor was not given back");
            assert!(all.kept.borrow().is_empty() && all.warned.get().is_none());
        });
    }

    #[test]
    fn a_file_with_unsynced_writes_is_synced_before_it_is_closed() {
        let disk = SimDisk::new(2);
        on_host(&disk, usize::MAX, |host| async move {
            let all = Descriptors::new(LIMIT);
            for number in 0..10 {
                let file = all.open(&path(number), &options()).await.expect("it waits for one");
                write(&file, 7).await;
            }
            all.sync_dir(Path::new("/data")).await.expect("the disk is sound");
            host.power_off();
        });
        on_host(&disk, usize::MAX, |_| async {
            for number in 0..10 - LIMIT as u32 {
                let bytes = fs::read(path(number)).await.expect("its entry was synced");
                assert!(bytes.len() == 4096 && bytes.iter().all(|byte| *byte == 7), "{number} was lost");
            }
        });
    }

    #[test]
    fn a_sync_that_failed_before_a_close_is_known_for_ever() {
        let disk = SimDisk::new(3);
        let failing = disk.clone();
        on_host(&disk, usize::MAX, |_| async move {
            let all = Descriptors::new(1);
            let file = all.open(&path(0), &options()).await.expect("it can be made");
            write(&file, 7).await;
            let open = file.kept();
            drop(file);
            failing.fail_next_sync(5);
            // It makes room.
            drop(all.open(&path(1), &options()).await.expect("it can be made"));
            assert!(all.sync(&open).await.is_err(), "a failed sync is believed");
            assert!(open.check().is_err(), "what is not known is used");
        });
    }

    #[test]
    fn an_operation_waits_for_a_descriptor_of_the_system_a_second_each_time() {
        let disk = SimDisk::new(4);
        on_host(&disk, usize::MAX, |host| async move {
            let all = Descriptors::new(LIMIT);
            drop(all.open(&path(0), &options()).await.expect("it can be made"));
            host.set_open_files(0);
            let begun = now();
            let opening = timeout(Duration::from_secs(3), all.open(&path(1), &options())).await;
            assert!(opening.is_err(), "there is none");
            assert!(all.kept.borrow().is_empty(), "what is not in use was not given back");
            let failed = all.open(&path(1), &options()).await.map(drop).expect_err("there is none");
            assert!(is_out_of_descriptors(&failed) && begun.elapsed() >= PAUSE * TRIES, "{failed}");
            host.set_open_files(usize::MAX);
            let file = all.open(&path(1), &options()).await.expect("there are some again");
            file.read_at(BytesMut::new(), 0, 0).await.expect("it is open");
        });
    }
}
