//! Disks that a test may fill, make read-only, and cut the power of: file systems in memory, mounted for one
//! test.
//!
//! If mounting is not allowed, a plain directory takes their place, and the test prints that.
//! `MILLPOND_TEST_DISKS=1` requires a mounted disk, `0` forces the directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::child_process::Process;
use super::wait_until;

/// Small, so that a copy takes a few milliseconds, and large enough for the data of a test.
const IMAGE_BYTES: u64 = 16 << 20;

/// The options with which an image is mounted. Durability options may change when data gets to the disk, but
/// not whether it does.
const OPTIONS: [&str; 6] =
    ["defaults", "noauto_da_alloc", "data=writeback", "data=journal", "nodelalloc", "commit=1"];

pub(crate) struct Disk {
    dir: TempDir,
    kind: Kind,
    /// Unmounts the disks when its standard input ends, however this process ends.
    cleaner: Option<Child>,
}

enum Kind {
    /// An ext4 file system on an image in memory.
    Image { options: &'static str },
    /// A file system in memory.
    Memory,
    /// A directory.
    Substitute,
}

/// The state that a power failure leaves.
pub(crate) enum Left {
    Image {
        bytes: Vec<u8>,
        options: &'static str,
    },
    /// The files of the directory, by their relative paths.
    Files(Files),
}

impl Disk {
    /// An empty disk whose power can be cut; `variant` selects its options.
    pub(crate) fn ext4(variant: u64) -> Self {
        let options = OPTIONS[usize::try_from(variant % OPTIONS.len() as u64).unwrap()];
        let block = if (variant / 6).is_multiple_of(2) { "4096" } else { "1024" };
        Self::or_substitute(|disk| {
            disk.mount_memory("ram", &format!("size={}", 2 * IMAGE_BYTES))?;
            let image = disk.image();
            fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).map_err(|e| e.to_string())?;
            run("mkfs.ext4", &["-q", "-F", "-b", block, &text(&image)])?;
            disk.mount_image(options)
        })
    }

    /// A disk with little room: `options` are mount options of a tmpfs.
    pub(crate) fn small(options: &str) -> Self {
        Self::or_substitute(|disk| {
            disk.kind = Kind::Memory;
            disk.mount_memory("disk", options)
        })
    }

    fn or_substitute(make: impl FnOnce(&mut Self) -> Result<(), String>) -> Self {
        let asked = std::env::var("MILLPOND_TEST_DISKS").ok();
        let disk = match asked.as_deref() {
            Some("0") => Err("it is disabled".to_owned()),
            _ => Self::new_unmounted().and_then(|mut disk| make(&mut disk).map(|()| disk)),
        };
        disk.unwrap_or_else(|cause| {
            assert_ne!(asked.as_deref(), Some("1"), "no disk could be mounted: {cause}");
            println!("the disk is a directory, none was mounted: {cause}");
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("disk")).unwrap();
            Self { dir, kind: Kind::Substitute, cleaner: None }
        })
    }

    /// The place for the mounts, and a process that unmounts them.
    fn new_unmounted() -> Result<Self, String> {
        const CLEAN: &str = r#"
            read -r _
            for place in "$1/disk" "$1/ram"; do
                umount "$place" || umount -l "$place"
            done"#;
        let dir = tempfile::tempdir().unwrap();
        for place in ["disk", "ram"] {
            fs::create_dir(dir.path().join(place)).unwrap();
        }
        let cleaner = Command::new("sh")
            .args(["-c", CLEAN, "sh", &text(dir.path())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        Ok(Self { dir, kind: Kind::Substitute, cleaner: Some(cleaner) })
    }

    fn mount_memory(&self, place: &str, options: &str) -> Result<(), String> {
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", &text(self.dir.path().join(place))])
    }

    fn mount_image(&mut self, options: &'static str) -> Result<(), String> {
        self.kind = Kind::Image { options };
        run(
            "mount",
            &[
                "-t",
                "ext4",
                "-o",
                &format!("loop,errors=remount-ro,{options}"),
                &text(self.image()),
                &text(self.path()),
            ],
        )
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("ram").join("image")
    }

    /// The root of the disk.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// The directory for a store on this disk.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn is_mounted(&self) -> bool {
        !matches!(self.kind, Kind::Substitute)
    }

    /// The state after a power failure at this moment. Processes that write must be stopped before.
    pub(crate) fn cut(&self) -> Left {
        match &self.kind {
            Kind::Image { options } => Left::Image { bytes: read_when_stable(&self.image()), options },
            Kind::Memory | Kind::Substitute => {
                let mut files = None;
                // A compaction may be about to begin or to end.
                wait_until("the files no longer change", Duration::from_secs(20), || {
                    let before = files.take();
                    files = collect(&self.path(), &self.path()).ok();
                    files.is_some() && files == before
                });
                Left::Files(files.unwrap())
            }
        }
    }

    /// Mounts it again with other options.
    pub(crate) fn remount(&self, options: &str) -> Result<(), String> {
        run("mount", &["-o", &format!("remount,{options}"), &text(self.path())])
    }

    /// Limits the space below the file system to so many bytes more than it uses now, so that writing to the
    /// disk fails.
    pub(crate) fn starve(&self, more: u64) {
        use std::os::unix::fs::MetadataExt;
        let ram = text(self.dir.path().join("ram"));
        // A write may be in progress.
        wait_until("the file system is short of room", Duration::from_secs(10), || {
            let held = fs::metadata(self.image()).unwrap().blocks() * 512;
            run("mount", &["-o", &format!("remount,size={}", held + more), &ram]).is_ok()
        });
    }

    /// Makes the file system detect an error of its own, so that it accepts no more writes.
    pub(crate) fn break_down(&self) -> Result<(), String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let path = text(self.path());
        let mut mounts = mounts.lines().map(|line| line.split(' '));
        let device =
            mounts.find_map(|mut words| Some((words.next()?, words.next()?)).filter(|found| found.1 == path));
        let device = device.and_then(|(device, _)| device.strip_prefix("/dev/")).ok_or("no device")?;
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").map_err(|error| error.to_string())
    }
}

impl Left {
    /// The disk after a restart.
    pub(crate) fn mount(&self) -> Disk {
        match self {
            Self::Image { bytes, options } => {
                let mut disk = Disk::new_unmounted().unwrap();
                disk.mount_memory("ram", &format!("size={}", 2 * IMAGE_BYTES)).unwrap();
                fs::write(disk.image(), bytes).unwrap();
                disk.mount_image(options).unwrap();
                disk
            }
            Self::Files(files) => {
                let dir = tempfile::tempdir().unwrap();
                let disk = Disk { dir, kind: Kind::Substitute, cleaner: None };
                for (path, bytes) in files {
                    let path = disk.path().join(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes).unwrap();
                }
                disk
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(cleaner) = &mut self.cleaner {
            drop(cleaner.stdin.take());
            let _ = cleaner.wait();
        }
    }
}

/// Stops a process, with all its threads.
pub(crate) fn stop(process: &Process) {
    let id = process.child.id().to_string();
    run("kill", &["-STOP", &id]).unwrap();
    wait_until("all threads have stopped", Duration::from_secs(20), || {
        let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
        tasks.map(|task| task.unwrap().path().join("stat")).all(|stat| {
            // A thread may end in the meantime.
            fs::read_to_string(stat).is_ok_and(|stat| {
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
            })
        })
    });
}

/// The bytes of a file at one moment: the system may still be writing earlier data.
fn read_when_stable(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    wait_until("the image no longer changes", Duration::from_secs(20), || {
        let again = fs::read(path).unwrap();
        std::mem::replace(&mut bytes, again) == bytes
    });
    bytes
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// All files below a directory, by their paths below the root; an error if one of them disappears.
fn collect(dir: &Path, root: &Path) -> std::io::Result<Files> {
    let mut files = Files::new();
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        if path.is_dir() {
            files.extend(collect(&path, root)?);
        } else {
            files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path)?));
        }
    }
    Ok(files)
}

fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// Runs a command to its end, or returns why it failed.
fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let outcome = Command::new(program).args(args).stdin(Stdio::null()).output();
    let outcome = outcome.map_err(|error| format!("{program}: {error}"))?;
    if outcome.status.success() {
        Ok(())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&outcome.stderr).trim()))
    }
}
