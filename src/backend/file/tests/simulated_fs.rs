//! Owns a file system for tests that tells what was written from what is on the disk: it fails at a call, and
//! after a crash it shows any state that a disk may be left in.
//!
//! What a crash leaves of a file: of each sector of 512 bytes that was written since the last sync any of its
//! versions since then, and any of the lengths. Of a directory: any of the changes since its last sync. After a
//! sync that failed the page cache shows what is not on the disk, and no later sync brings it there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::Mutex;

use crate::backend::file::fs::{FileSystem, FileType, ReadableFile, WritableFile};

const SECTOR: usize = 512;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// From this call on nothing is done any more.
    Crash,
    /// The call fails with this error of the system, once.
    Error(i32),
    /// As [`Fault::Error`], from this call on while it is a write, an open or a sync.
    Lasting(i32),
    /// Of a write half is done.
    Short,
    /// Half is written, then there is no room; other calls fail altogether.
    Torn,
    /// A sync of a length or of names does nothing and says that all is well. With the next change but of contents the
    /// system notices, and nothing is written any more.
    Lie,
}

/// A change of a file since its last sync.
#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Cut { len: usize },
}

#[derive(Debug, Clone, Default)]
struct Inode {
    /// As every process sees it.
    cached: Vec<u8>,
    /// As it was at the last sync.
    synced: Vec<u8>,
    since: Vec<Step>,
}

/// A change of a directory: what lies under some names from then on.
type Renaming = Vec<(String, Option<usize>)>;

#[derive(Debug, Clone, Default)]
struct Directory {
    cached: BTreeMap<String, usize>,
    synced: BTreeMap<String, usize>,
    since: Vec<Renaming>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    directories: BTreeMap<PathBuf, Directory>,
    /// Directories whose own name is not on the disk yet, and where it stands.
    unnamed: BTreeSet<PathBuf>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    crashed: bool,
    /// A sync lied.
    lied: bool,
    log: Vec<String>,
    /// For what a failed sync leaves.
    random: Rng,
}

/// The file system. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Simulated(Arc<Mutex<State>>);

impl Simulated {
    /// An empty one, in which a directory is there for good.
    pub(crate) fn new(dir: &Path) -> Self {
        let simulated = Self::default();
        simulated.0.lock().directories.insert(dir.to_path_buf(), Directory::default());
        simulated
    }

    /// Lets the call of this number, counted from now on, meet a fault.
    pub(crate) fn fail_at(&self, call: u64, fault: Fault) {
        let mut state = self.0.lock();
        state.calls = 0;
        state.fault = Some((call, fault));
        state.random = Rng::with_seed(call);
        state.log.clear();
    }

    /// Faults no more.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        (state.fault, state.lied) = (None, false);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// The last calls, for who has to understand a failure.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.lock().log.clone()
    }

    /// The names in a directory.
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        self.0.lock().directories[dir].cached.keys().cloned().collect()
    }

    /// What a disk may hold after a crash.
    pub(crate) fn after_crash(&self, random: &mut Rng) -> Self {
        let state = self.0.lock();
        let mut left = State::default();
        for inode in &state.inodes {
            let bytes = inode.after_crash(random);
            left.inodes.push(Inode { cached: bytes.clone(), synced: bytes, since: Vec::new() });
        }
        for (path, directory) in &state.directories {
            let lost = state.unnamed.iter().any(|dir| path.starts_with(dir));
            if lost && random.bool() {
                continue;
            }
            let mut names = directory.synced.clone();
            for change in directory.since.iter().filter(|_| random.bool()) {
                apply(&mut names, change);
            }
            let directory = Directory { cached: names.clone(), synced: names, since: Vec::new() };
            left.directories.insert(path.clone(), directory);
        }
        Self(Arc::new(Mutex::new(left)))
    }

    /// Counts a call and lets it fail where it is to.
    fn call(&self, what: impl FnOnce() -> String) -> io::Result<(parking_lot::MutexGuard<'_, State>, bool)> {
        let mut state = self.0.lock();
        let (number, was_off, mut short) = (state.calls, state.crashed, false);
        state.calls += 1;
        let what = what();
        let is_write = what.starts_with("write");
        let is_change = !["write", "sync", "read", "list", "open"].iter().any(|call| what.starts_with(call));
        if state.lied && is_change {
            state.fault = Some((number, Fault::Lasting(EROFS)));
        }
        let lasts = is_write || what.starts_with("sync") || what.starts_with("create");
        let fault = match state.fault {
            _ if was_off => Some(Fault::Crash),
            Some((at, fault)) if at == number => Some(fault),
            Some((at, fault @ Fault::Lasting(_))) if at < number && lasts => Some(fault),
            Some((at, Fault::Torn)) if at < number && is_write => Some(Fault::Lasting(ENOSPC)),
            _ => None,
        };
        state.log.push(match fault {
            Some(fault) => format!("{number} {what}: {fault:?}"),
            None => format!("{number} {what}"),
        });
        match fault {
            Some(Fault::Crash) => {
                // A write may be under way.
                state.crashed = true;
                if !is_write || was_off {
                    return Err(io::Error::other("the machine is off"));
                }
            }
            Some(Fault::Short | Fault::Torn) if is_write => short = true,
            // Where nothing but the contents changed there is nothing to lie about.
            Some(Fault::Lie) => state.lied = what.starts_with("sync, changed"),
            None | Some(Fault::Short) => {}
            Some(Fault::Torn) => return Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Fault::Error(code) | Fault::Lasting(code)) => {
                return Err(io::Error::from_raw_os_error(code));
            }
        }
        Ok((state, short))
    }

    fn file(&self, inode: usize) -> Arc<dyn WritableFile> {
        Arc::new(Open { simulated: self.clone(), inode })
    }
}

/// No room.
pub(crate) const ENOSPC: i32 = 28;

/// Nothing may be written.
const EROFS: i32 = 30;

fn apply(names: &mut BTreeMap<String, usize>, change: &Renaming) {
    for (name, inode) in change {
        match inode {
            Some(inode) => drop(names.insert(name.clone(), *inode)),
            None => drop(names.remove(name)),
        }
    }
}

impl Inode {
    fn step(&mut self, step: Step) {
        match &step {
            Step::Cut { len } => self.cached.resize(*len, 0),
            Step::Write { at, bytes } => {
                let end = at + bytes.len();
                self.cached.resize(self.cached.len().max(end), 0);
                self.cached[*at..end].copy_from_slice(bytes);
            }
        }
        self.since.push(step);
    }

    /// What is on the disk once all of it was brought there. After a sync that failed this is not what is seen.
    fn sync(&mut self) {
        let steps = self.since.len();
        self.synced = self.version(self.len_after(steps), |_| steps);
        self.since.clear();
    }

    fn after_crash(&self, random: &mut Rng) -> Vec<u8> {
        let steps = self.since.len();
        let len = self.len_after(random.usize(..=steps));
        // Most crashes find most things where they should be.
        match random.u8(..4) {
            0 => self.version(len, |_| 0),
            1 => self.version(len, |_| steps),
            _ => self.version(len, |_| random.usize(..=steps)),
        }
    }

    fn len_after(&self, steps: usize) -> usize {
        self.since[..steps].iter().fold(self.synced.len(), |len, step| match step {
            Step::Cut { len } => *len,
            Step::Write { at, bytes } => len.max(at + bytes.len()),
        })
    }

    /// The bytes of this length, of each sector as they are after so many steps.
    fn version(&self, len: usize, mut steps: impl FnMut(usize) -> usize) -> Vec<u8> {
        let mut version = self.synced.clone();
        version.resize(len, 0);
        for start in (0..len).step_by(SECTOR) {
            let sector = start..(start + SECTOR).min(len);
            for step in &self.since[..steps(start)] {
                match step {
                    // What lies beyond is zeros if it comes back.
                    Step::Cut { len } => version[sector.start.max(*len).min(sector.end)..sector.end].fill(0),
                    Step::Write { at, bytes } => {
                        let (from, to) = ((*at).max(sector.start), (at + bytes.len()).min(sector.end));
                        if from < to {
                            version[from..to].copy_from_slice(&bytes[from - at..to - at]);
                        }
                    }
                }
            }
        }
        version
    }
}

/// How the sync of something is called.
fn sync(is_changed: bool) -> &'static str {
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

impl State {
    fn find(&self, path: &Path) -> Option<usize> {
        self.directories.get(parent(path))?.cached.get(&name(path)).copied()
    }

    /// As a sync that fails: some of a file is on the disk; the rest counts as clean and never gets there.
    fn forget(&mut self, inode: usize) {
        let mut random = self.random.fork();
        let inode = &mut self.inodes[inode];
        inode.synced = inode.after_crash(&mut random);
        inode.since.clear();
    }

    fn change(&mut self, dir: &Path, change: Renaming) -> io::Result<()> {
        let Some(directory) = self.directories.get_mut(dir) else { return missing() };
        apply(&mut directory.cached, &change);
        directory.since.push(change);
        Ok(())
    }
}

impl FileSystem for Simulated {
    fn file_type(&self, path: &Path) -> io::Result<FileType> {
        let state = self.0.lock();
        match state.find(path) {
            Some(_) => Ok(FileType::File),
            None if state.directories.contains_key(path) => Ok(FileType::Directory),
            None => missing(),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut state, _) = self.call(|| format!("mkdir {}", dir.display()))?;
        state.directories.insert(dir.to_path_buf(), Directory::default());
        state.unnamed.insert(dir.to_path_buf());
        Ok(())
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

    fn create(&self, path: &Path) -> io::Result<Arc<dyn WritableFile>> {
        let there = self.0.lock().find(path);
        match there {
            Some(_) => {
                let disk = self.open(path)?;
                disk.truncate(0)?;
                Ok(disk)
            }
            None => self.create_new(path),
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
        let is_changed = self.0.lock().directories.get(dir).is_some_and(|found| !found.since.is_empty());
        let (mut state, _) = self.call(|| format!("{} {}", sync(is_changed), dir.display()))?;
        if state.lied && is_changed {
            return Ok(());
        }
        state.unnamed.retain(|path| parent(path) != dir);
        let Some(directory) = state.directories.get_mut(dir) else { return missing() };
        directory.synced = directory.cached.clone();
        directory.since.clear();
        Ok(())
    }
}

struct Open {
    simulated: Simulated,
    inode: usize,
}

impl WritableFile for Open {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let inode = self.inode;
        let (mut state, short) = self.simulated.call(|| format!("write {inode} at {at}: {}", bytes.len()))?;
        let written = if short { bytes.len().div_ceil(2) } else { bytes.len() };
        let step = Step::Write { at: usize::try_from(at).unwrap(), bytes: bytes[..written].to_vec() };
        state.inodes[inode].step(step);
        if state.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(written)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let inode = self.inode;
        let (mut state, _) = self.simulated.call(|| format!("cut {inode} to {len}"))?;
        state.inodes[inode].step(Step::Cut { len: usize::try_from(len).unwrap() });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let inode = self.inode;
        let is_changed = {
            let state = self.simulated.0.lock();
            state.inodes[inode].cached.len() != state.inodes[inode].synced.len()
        };
        match self.simulated.call(|| format!("{} {inode}", sync(is_changed))) {
            Ok((mut state, _)) if state.lied && is_changed => {
                state.forget(inode);
                Ok(())
            }
            Ok((mut state, _)) => {
                state.inodes[inode].sync();
                Ok(())
            }
            Err(error) => {
                let mut state = self.simulated.0.lock();
                if !state.crashed {
                    state.forget(inode);
                }
                Err(error)
            }
        }
    }

    fn sync_data_and_len(&self) -> io::Result<()> {
        self.sync_data()?;
        self.simulated.call(|| format!("touch {}", self.inode)).map(drop)
    }
}
