//! Processes that can be killed: this very binary, told by its environment to run one test only, which then
//! does a job instead.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const VARIABLE: &str = "MILLPOND_TEST_CHILD";

/// The test that does a job on files; run without one, it does it in its own process.
const TEST: &str = "file::crash::a_reopened_writer_continues_where_it_stopped";

/// The job that this process was started for, and the directory of its store.
pub(crate) fn job() -> Option<(String, PathBuf)> {
    let told = std::env::var(VARIABLE).ok()?;
    let (job, dir) = told.split_once('@').expect("a job and a directory");
    Some((job.to_owned(), dir.into()))
}

/// Tells the parent something, at once. It gets through also where the test harness captures what tests
/// print.
pub(crate) fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {text}").and_then(|()| out.flush()).expect("a parent that reads");
}

pub(crate) struct Process {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(job: &str, dir: &Path) -> Self {
        Self::run(Command::new(std::env::current_exe().unwrap()), job, dir)
    }

    /// Starts it for a job of another test.
    #[cfg(any(feature = "redis", target_os = "linux"))]
    pub(crate) fn start_test(test: &str, job: &str, url: &str) -> Self {
        Self::run_test(Command::new(std::env::current_exe().unwrap()), test, job, Path::new(url))
    }

    /// Starts it with no right to let a file grow beyond so many blocks of 512 bytes.
    #[cfg(unix)]
    pub(crate) fn start_limited(job: &str, dir: &Path, blocks: u32) -> Self {
        Self::start_limited_test(TEST, job, dir, blocks)
    }

    /// As [`Process::start_limited`], for a job of another test.
    #[cfg(unix)]
    pub(crate) fn start_limited_test(test: &str, job: &str, dir: &Path, blocks: u32) -> Self {
        Self::start_behind(&format!("ulimit -f {blocks}; trap '' XFSZ"), test, job, dir)
    }

    /// Starts it from a shell that has done something before, for a job of another test.
    #[cfg(unix)]
    pub(crate) fn start_behind(before: &str, test: &str, job: &str, dir: &Path) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{before}; exec \"$@\"");
        command.arg("-c").arg(script).arg("sh").arg(std::env::current_exe().unwrap());
        Self::run_test(command, test, job, dir)
    }

    pub(crate) fn run(command: Command, job: &str, dir: &Path) -> Self {
        Self::run_test(command, TEST, job, dir)
    }

    pub(crate) fn run_test(mut command: Command, test: &str, job: &str, dir: &Path) -> Self {
        command.args(["--exact", test, "--nocapture"]).env(VARIABLE, format!("{job}@{}", dir.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing it tells; `None` once it has ended.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("child: ")?.1.to_owned()))
    }

    /// Everything else that it tells, once it has ended well.
    pub(crate) fn hear_out(mut self) -> Vec<String> {
        let told: Vec<String> = std::iter::from_fn(|| self.hear()).collect();
        assert!(self.child.wait().unwrap().success(), "{told:?}");
        told
    }

    /// Kills it outright and tells what it had told by then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
