//! Owns a file system for tests on a simulated disk, which can fail at any call. Knows nothing of the store.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::TryLockError;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::{Mutex, MutexGuard};

use crate::backend::file::fs::{Access, FileSystem, FileType, LockableFile, ReadableFile, WritableFile};
use crate::backend::file::tests::simulated_disk::{Directory, DirectoryChange, FileChange, Inode};

/// A fault at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This call and all later ones fail, as if the power were cut.
    Crash,
    /// The call fails with this error code of the system, once.
    Error(i32),
    /// As [`Fault::Error`]; later writes, syncs and creations of files fail too.
    Lasting(i32),
    /// A write writes only half of its bytes.
    Short,
    /// A write writes half of its bytes, and later writes fail because the disk is full. Another call fails at once.
    Torn,
    /// A sync of a length or of names does nothing and reports success. At the next change of anything but contents
    /// the system notices, and becomes read-only.
    Lie,
}

#[derive(Default)]
struct DiskState {
    inodes: Vec<Inode>,
    directories: BTreeMap<PathBuf, Directory>,
    /// Directories whose own names are not synced.
    unnamed: BTreeSet<PathBuf>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    has_crashed: bool,
    /// Whether a sync has reported a false success.
    has_lied: bool,
    locked: BTreeSet<PathBuf>,
    log: Vec<String>,
    /// Decides what a failed sync leaves on the disk.
    random: Rng,
}

/// The file system. Clones refer to the same one.
#[derive(Clone, Default)]
pub(crate) struct SimulatedFs(Arc<Mutex<DiskState>>);

impl SimulatedFs {
    /// A file system with one directory, which is synced.
    pub(crate) fn new(dir: &Path) -> Self {
        let fs = Self::default();
        fs.0.lock().directories.insert(dir.to_path_buf(), Directory::default());
        fs
    }

    /// Makes the call of this number fail, counted from now on.
    pub(crate) fn fail_at(&self, call: u64, fault: Fault) {
        let mut state = self.0.lock();
        state.calls = 0;
        state.fault = Some((call, fault));
        state.random = Rng::with_seed(call);
        state.log.clear();
    }

    /// Makes no later call fail.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        (state.fault, state.has_lied) = (None, false);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.0.lock().has_crashed
    }

    /// The content of the files in a directory.
    pub(crate) fn files(&self, dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        let Some(directory) = state.directories.get(dir) else { return BTreeMap::new() };
        let files = directory.cached.iter();
        files.map(|(name, inode)| (name.clone(), state.inodes[*inode].cached.clone())).collect()
    }

    /// Damages the content of a file, as a faulty disk does.
    pub(crate) fn damage(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock();
        let inode = state.find(path).unwrap();
        let mut bytes = state.inodes[inode].cached.clone();
        damage(&mut bytes);
        state.inodes[inode] = Inode::synced(bytes);
    }

    /// A state in which a crash may leave the disk.
    pub(crate) fn after_crash(&self, random: &mut Rng) -> Self {
        let state = self.0.lock();
        let mut left = DiskState::default();
        for inode in &state.inodes {
            left.inodes.push(Inode::synced(inode.after_crash(random)));
        }
        for (path, directory) in &state.directories {
            let may_be_lost = state.unnamed.iter().any(|dir| path.starts_with(dir));
            if may_be_lost && random.bool() {
                continue;
            }
            left.directories.insert(path.clone(), directory.after_crash(random));
        }
        Self(Arc::new(Mutex::new(left)))
    }

    /// Counts a call, and makes it fail if it must. Returns whether a write is cut short.
    fn call(&self, describe: impl FnOnce() -> String) -> io::Result<(MutexGuard<'_, DiskState>, bool)> {
        let mut state = self.0.lock();
        let (number, had_crashed, mut is_short) = (state.calls, state.has_crashed, false);
        state.calls += 1;
        let call = describe();
        let is_write = call.starts_with("write");
        let harmless = ["write", "sync", "read", "list", "open", "lock"];
        let is_change = !harmless.iter().any(|verb| call.starts_with(verb));
        if state.has_lied && is_change {
            state.fault = Some((number, Fault::Lasting(EROFS)));
        }
        let lasts = is_write || call.starts_with("sync") || call.starts_with("create");
        let fault = match state.fault {
            _ if had_crashed => Some(Fault::Crash),
            Some((at, fault)) if at == number => Some(fault),
            Some((at, fault @ Fault::Lasting(_))) if at < number && lasts => Some(fault),
            Some((at, Fault::Torn)) if at < number && is_write => Some(Fault::Lasting(ENOSPC)),
            _ => None,
        };
        state.log.push(match fault {
            Some(fault) => format!("{number} {call}: {fault:?}"),
            None => format!("{number} {call}"),
        });
        match fault {
            Some(Fault::Crash) => {
                // The crash may come during a write, which must change the file.
                state.has_crashed = true;
                if !is_write || had_crashed {
                    return Err(crashed());
                }
            }
            Some(Fault::Short | Fault::Torn) if is_write => is_short = true,
            // A sync of contents alone is always honest.
            Some(Fault::Lie) => state.has_lied = call.starts_with("sync, changed"),
            None | Some(Fault::Short) => {}
            Some(Fault::Torn) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::Error(code) | Fault::Lasting(code)) => {
                return Err(io::Error::from_raw_os_error(code));
            }
        }
        Ok((state, is_short))
    }

    fn file(&self, inode: usize) -> Arc<dyn WritableFile> {
        Arc::new(SimulatedFile { fs: self.clone(), inode })
    }
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

fn crashed() -> io::Error {
    io::Error::other("the machine is off")
}

/// Describes a sync in the log.
fn describe_sync(is_changed: bool) -> &'static str {
    if is_changed { "sync, changed" } else { "sync" }
}

fn name(path: &Path) -> String {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

fn missing<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotFound.into())
}

impl DiskState {
    fn find(&self, path: &Path) -> Option<usize> {
        self.directories.get(parent(path))?.cached.get(&name(path)).copied()
    }

    /// Fails to sync a file: parts of it are on the disk, and the rest is regarded as clean and never written.
    fn lose_unsynced(&mut self, inode: usize) {
        let mut random = self.random.fork();
        self.inodes[inode].lose_unsynced(&mut random);
    }

    fn change(&mut self, dir: &Path, change: DirectoryChange) -> io::Result<()> {
        let Some(directory) = self.directories.get_mut(dir) else { return missing() };
        directory.change(change);
        Ok(())
    }
}

impl FileSystem for SimulatedFs {
    fn bind(&self, _dir: &Path) -> io::Result<Arc<dyn FileSystem>> {
        Ok(Arc::new(self.clone()))
    }

    fn file_type(&self, path: &Path) -> io::Result<FileType> {
        let state = self.0.lock();
        match state.find(path) {
            Some(_) => Ok(FileType::File),
            None if state.directories.contains_key(path) => Ok(FileType::Directory),
            None => missing(),
        }
    }

    fn create_dir(&self, dir: &Path, _access: Access) -> io::Result<()> {
        let (mut state, _) = self.call(|| format!("mkdir {}", dir.display()))?;
        if state.directories.contains_key(dir) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.directories.insert(dir.to_path_buf(), Directory::default());
        state.unnamed.insert(dir.to_path_buf());
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(|| format!("rmdir {}", dir.display()))?;
        let has_directories = state.directories.keys().any(|other| other != dir && other.starts_with(dir));
        match state.directories.get(dir) {
            Some(directory) if directory.cached.is_empty() && !has_directories => {
                state.directories.remove(dir);
                state.unnamed.remove(dir);
                Ok(())
            }
            Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
            None => missing(),
        }
    }

    fn contains(&self, outer: &Path, inner: &Path) -> io::Result<bool> {
        Ok(inner.starts_with(outer))
    }

    fn read_dir(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (state, _) = self.call(|| format!("list {}", dir.display()))?;
        match state.directories.get(dir) {
            Some(directory) => Ok(directory.cached.keys().cloned().collect()),
            None => missing(),
        }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let state = self.0.lock();
        state.find(path).map_or_else(missing, |inode| Ok(state.inodes[inode].cached.len() as u64))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn ReadableFile>> {
        let (state, _) = self.call(|| format!("read {}", name(path)))?;
        match state.find(path) {
            Some(inode) => Ok(Box::new(Cursor::new(state.inodes[inode].cached.clone()))),
            None => missing(),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let (mut state, _) = self.call(|| format!("create {}", name(path)))?;
        if state.find(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::default());
        state.change(parent(path), vec![(name(path), Some(inode))])?;
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let (state, _) = self.call(|| format!("open {}", name(path)))?;
        state.find(path).map_or_else(missing, |inode| Ok(self.file(inode)))
    }

    fn open_lockable(&self, path: &Path) -> io::Result<Arc<dyn LockableFile>> {
        let (mut state, _) = self.call(|| format!("open {}", name(path)))?;
        let (found, next) = (state.find(path), state.inodes.len());
        if found.is_none() {
            state.inodes.push(Inode::default());
            state.change(parent(path), vec![(name(path), Some(next))])?;
        }
        let inode = found.unwrap_or(next);
        let file = SimulatedFile { fs: self.clone(), inode };
        Ok(Arc::new(SimulatedLock { file, path: path.to_path_buf() }))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.read(from)?.read_to_end(&mut bytes)?;
        let copy = self.create(to)?;
        copy.write_all_at(0, &bytes)?;
        copy.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(|| format!("rename {} {}", name(from), name(to)))?;
        let Some(inode) = state.find(from) else { return missing() };
        state.change(parent(to), vec![(name(from), None), (name(to), Some(inode))])
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(|| format!("remove {}", name(path)))?;
        match state.find(path) {
            Some(_) => state.change(parent(path), vec![(name(path), None)]),
            None => missing(),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.ends_with("..") { parent(parent(dir)) } else { dir };
        let is_changed = self.0.lock().directories.get(dir).is_some_and(Directory::is_changed);
        let (mut state, _) = self.call(|| format!("{} {}", describe_sync(is_changed), dir.display()))?;
        if state.has_lied && is_changed {
            return Ok(());
        }
        state.unnamed.retain(|path| parent(path) != dir);
        let Some(directory) = state.directories.get_mut(dir) else { return missing() };
        directory.sync();
        Ok(())
    }
}

struct SimulatedFile {
    fs: SimulatedFs,
    inode: usize,
}

impl WritableFile for SimulatedFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let inode = self.inode;
        let (mut state, is_short) = self.fs.call(|| format!("write {inode} at {at}: {}", bytes.len()))?;
        let written = if is_short { bytes.len().div_ceil(2) } else { bytes.len() };
        let change = FileChange::Write { at: usize::try_from(at).unwrap(), bytes: bytes[..written].to_vec() };
        state.inodes[inode].change(change);
        if state.has_crashed {
            return Err(crashed());
        }
        Ok(written)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let inode = self.inode;
        let (mut state, _) = self.fs.call(|| format!("truncate {inode} to {len}"))?;
        state.inodes[inode].change(FileChange::Truncate { len: usize::try_from(len).unwrap() });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let inode = self.inode;
        let is_changed = self.fs.0.lock().inodes[inode].has_new_len();
        match self.fs.call(|| format!("{} {inode}", describe_sync(is_changed))) {
            Ok((mut state, _)) if state.has_lied && is_changed => {
                state.lose_unsynced(inode);
                Ok(())
            }
            Ok((mut state, _)) => {
                state.inodes[inode].sync();
                Ok(())
            }
            Err(error) => {
                let mut state = self.fs.0.lock();
                if !state.has_crashed {
                    state.lose_unsynced(inode);
                }
                Err(error)
            }
        }
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.sync_data()?;
        self.fs.call(|| format!("touch {}", self.inode)).map(drop)
    }

    fn is_in_place(&self) -> bool {
        let state = self.fs.0.lock();
        state.directories.values().any(|dir| dir.cached.values().any(|inode| *inode == self.inode))
    }
}

struct SimulatedLock {
    file: SimulatedFile,
    path: PathBuf,
}

impl WritableFile for SimulatedLock {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(at, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.file.sync_data_and_len()
    }

    fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }
}

impl LockableFile for SimulatedLock {
    fn try_lock(&self) -> Result<(), TryLockError> {
        let locking = self.file.fs.call(|| format!("lock {}", name(&self.path)));
        let (mut state, _) = locking.map_err(TryLockError::Error)?;
        if state.locked.insert(self.path.clone()) { Ok(()) } else { Err(TryLockError::WouldBlock) }
    }

    fn unlock(&self) -> io::Result<()> {
        self.file.fs.0.lock().locked.remove(&self.path);
        Ok(())
    }
}

/// Prints the fault and the calls when a check fails.
pub(crate) struct FailureReporter<'s> {
    pub(crate) fs: &'s SimulatedFs,
    pub(crate) context: String,
}

impl Drop for FailureReporter<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.context, self.fs.0.lock().log.join("\n"));
        }
    }
}
