//! Owns the log lines that a thread has not written yet. The logger is code of the program and may use the store, so
//! it must not run while this thread holds a lock: a line is noted where it arises, and written by [`flush`]. Knows
//! nothing of what the lines say.

use std::cell::RefCell;
use std::mem::ManuallyDrop;

use log::{Level, Metadata, Record};

use crate::util::foreign;

/// A thread keeps at most this many lines; later ones are only counted.
const MAX_LINES: usize = 1000;

struct LogLine {
    level: Level,
    target: &'static str,
    text: String,
}

struct Lines {
    noted: Vec<LogLine>,
    left_out: u64,
}

thread_local! {
    /// Has no destructor, so that it can be used while the other thread-locals of a thread are destroyed.
    static LINES: ManuallyDrop<RefCell<Lines>> =
        const { ManuallyDrop::new(RefCell::new(Lines { noted: Vec::new(), left_out: 0 })) };
}

/// Notes a log line of this thread: takes what the macro `log::log` takes. [`flush`] writes it.
macro_rules! log_later {
    ($level:ident, $($text:tt)+) => {
        if $crate::util::log_later::is_enabled(::log::Level::$level) {
            $crate::util::log_later::note(::log::Level::$level, ::core::module_path!(), ::std::format!($($text)+));
        }
    };
}
pub(crate) use log_later;

/// Returns whether lines of this level are logged at all. Does not ask the logger, which may use the store.
pub(crate) fn is_enabled(level: Level) -> bool {
    level <= log::STATIC_MAX_LEVEL && level <= log::max_level()
}

/// Notes a line until the next [`flush`] of this thread.
pub(crate) fn note(level: Level, target: &'static str, text: String) {
    LINES.with(|lines| {
        let mut lines = lines.borrow_mut();
        if lines.noted.len() < MAX_LINES {
            lines.noted.push(LogLine { level, target, text });
        } else {
            lines.left_out += 1;
        }
    });
}

/// Writes the lines that this thread has noted. INVARIANT: the caller holds no lock of this crate.
#[inline]
pub(crate) fn flush() {
    if LINES.with(|lines| !lines.borrow().noted.is_empty()) {
        write_lines();
    }
}

#[cold]
fn write_lines() {
    loop {
        // The logger may use the store, which notes and writes lines too.
        let empty = Lines { noted: Vec::new(), left_out: 0 };
        let Lines { noted, left_out } = LINES.with(|lines| lines.replace(empty));
        if noted.is_empty() {
            return;
        }
        for line in noted {
            write(&line);
        }
        if left_out > 0 {
            let text = format!("{left_out} further log lines were left out");
            write(&LogLine { level: Level::Warn, target: module_path!(), text });
        }
    }
}

fn write(line: &LogLine) {
    let logger = log::logger();
    let metadata = Metadata::builder().level(line.level).target(line.target).build();
    // A panic of the logger is not one of the operation that happened to write the line.
    let _ = foreign::run(|| {
        if logger.enabled(&metadata) {
            let mut record = Record::builder();
            record.metadata(metadata.clone()).module_path_static(Some(line.target));
            logger.log(&record.args(format_args!("{}", line.text)).build());
        }
    });
}

/// Writes the lines of this thread when it is dropped, also by a panic. INVARIANT: the thread holds no lock of this
/// crate then.
pub(crate) struct FlushOnDrop;

impl Drop for FlushOnDrop {
    #[inline]
    fn drop(&mut self) {
        flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_a_bounded_number_of_lines_until_they_are_written() {
        std::thread::spawn(|| {
            for number in 0..=MAX_LINES {
                note(Level::Warn, "test", number.to_string());
            }
            LINES.with(|lines| {
                let lines = lines.borrow();
                assert_eq!((lines.noted.len(), lines.left_out), (MAX_LINES, 1));
            });
            flush();
            LINES.with(|lines| assert!(lines.borrow().noted.is_empty()));
        })
        .join()
        .unwrap();
    }
}
