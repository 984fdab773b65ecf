//! Child processes that can be killed: copies of this test binary, which run one test only, with a job for it
//! in the environment.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const VARIABLE: &str = "MILLPOND_TEST_CHILD";

/// The test that does a job on files; without a job, it does one in its own process.
const TEST: &str = "file::crash::a_reopened_writer_continues_where_it_stopped";

/// The job that this process was started for, and the directory of its store.
pub(crate) fn job() -> Option<(String, PathBuf)> {
    let told = std::env::var(VARIABLE).ok()?;
    let (job, dir) = told.split_once('@').expect("a job and a directory");
    Some((job.to_owned(), dir.into()))
}

/// Reports a line to the parent, at once. The line is visible even if the test harness captures the output of
/// tests.
pub(crate) fn report(text: &str) {
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

    /// Starts a process for a job of another test.
    #[cfg(any(feature = "redis", target_os = "linux"))]
    pub(crate) fn start_test(test: &str, job: &str, url: &str) -> Self {
        Self::run_test(Command::new(std::env::current_exe().unwrap()), test, job, Path::new(url))
    }

    /// Starts a process whose files cannot grow beyond so many blocks of 512 bytes.
    #[cfg(unix)]
    pub(crate) fn start_limited(job: &str, dir: &Path, blocks: u32) -> Self {
        Self::start_limited_test(TEST, job, dir, blocks)
    }

    /// Like [`Process::start_limited`], for a job of another test.
    #[cfg(unix)]
    pub(crate) fn start_limited_test(test: &str, job: &str, dir: &Path, blocks: u32) -> Self {
        Self::start_behind(&format!("ulimit -f {blocks}; trap '' XFSZ"), test, job, dir)
    }

    /// Starts a process from a shell that has run a command before, for a job of another test.
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

    /// The next line that the process reports; `None` when it has ended.
    pub(crate) fn read_report(&mut self) -> Option<String> {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        lines.find_map(|line| Some(line.split_once("child: ")?.1.to_owned()))
    }

    /// All further lines that the process reports, when it has ended successfully.
    pub(crate) fn read_all_reports(mut self) -> Vec<String> {
        let told: Vec<String> = std::iter::from_fn(|| self.read_report()).collect();
        assert!(self.child.wait().unwrap().success(), "{told:?}");
        told
    }

    /// Kills the process, and returns the lines that it had reported by then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.read_report()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
