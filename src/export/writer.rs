//! Owns how entries are written as an export. Knows nothing of where the entries come from.

use std::io;
use std::io::Write;

use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::export::format::{PART_BYTES, VERSION};
use crate::op::{WholeContent, WholeEntry};
use crate::value_text::{push_delayed, push_field, push_item, push_number, push_text, push_value};

/// Lines are handed to the program's writer once there are this many bytes.
const BUFFER: usize = 256 << 10;

/// An export that is being written.
pub(crate) struct ExportWriter<W> {
    to: W,
    /// Bytes that were not handed over yet.
    buffer: Vec<u8>,
    sum: crc32fast::Hasher,
    written: Written,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) entries: u64,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

impl<W: Write> ExportWriter<W> {
    /// Begins an export that was made at `created`, in milliseconds, of the namespace `scope`.
    pub(crate) fn begin(to: W, created: u64, scope: &str) -> Self {
        let mut buffer = Vec::with_capacity(BUFFER + PART_BYTES);
        buffer.extend_from_slice(b"{\"millpond\":\"export\",\"version\":");
        push_number(&mut buffer, VERSION);
        buffer.extend_from_slice(b",\"created\":");
        push_number(&mut buffer, created);
        buffer.extend_from_slice(b",\"scope\":");
        push_text(&mut buffer, scope);
        buffer.extend_from_slice(b",\"parent\":null,\"sorted\":true}\n");
        Self { to, buffer, sum: crc32fast::Hasher::new(), written: Written::default() }
    }

    /// Adds an entry, whose key is `key` in the export.
    pub(crate) fn add(&mut self, key: &str, entry: &WholeEntry) -> Result<()> {
        let deadline = entry.deadline.map(Deadline::millis);
        match &entry.content {
            WholeContent::Value(value) => {
                let line = &mut self.buffer;
                push_key(line, key);
                push_value(line, value);
                self.end_line(deadline, false)?;
            }
            WholeContent::Map(fields) => {
                self.add_parts(key, deadline, "\"m\":[", fields, false, |line, (name, value)| {
                    push_field(line, name, value);
                })?;
            }
            WholeContent::Queue(queue) => {
                self.add_parts(key, deadline, "\"q\":[", &queue.values, false, push_item)?;
                let follows = !queue.values.is_empty();
                let deadline = deadline.filter(|_| !follows);
                self.add_parts(key, deadline, "\"d\":[", &queue.delayed, follows, |line, (due, value)| {
                    push_delayed(line, *due, value);
                })?;
            }
        }
        self.written.entries += 1;
        Ok(())
    }

    /// Writes a list in parts, each in a line. `follows`: whether it belongs to the entry of the line before.
    fn add_parts<P>(
        &mut self,
        key: &str,
        mut deadline: Option<u64>,
        name: &str,
        parts: &[P],
        mut follows: bool,
        push_part: impl Fn(&mut Vec<u8>, &P),
    ) -> Result<()> {
        let mut parts = parts.iter().peekable();
        while parts.peek().is_some() {
            let line = &mut self.buffer;
            push_key(line, key);
            line.extend_from_slice(name.as_bytes());
            let start = line.len();
            while line.len() - start < PART_BYTES
                && let Some(part) = parts.next()
            {
                if line.len() > start {
                    line.push(b',');
                }
                push_part(line, part);
            }
            line.push(b']');
            self.end_line(deadline.take(), follows)?;
            follows = true;
        }
        Ok(())
    }

    fn end_line(&mut self, deadline: Option<u64>, follows: bool) -> Result<()> {
        let line = &mut self.buffer;
        if let Some(deadline) = deadline {
            line.extend_from_slice(b",\"x\":");
            push_number(line, deadline);
        }
        line.extend_from_slice(if follows { b",\"+\":true}\n" } else { b"}\n" });
        self.written.lines += 1;
        if self.buffer.len() >= BUFFER { self.hand_over() } else { Ok(()) }
    }

    /// Writes the last line, and hands all to the program's writer, which is flushed.
    pub(crate) fn finish(mut self) -> Result<Written> {
        self.hand_over()?;
        let line = &mut self.buffer;
        line.extend_from_slice(b"{\"end\":");
        push_number(line, self.written.lines);
        line.extend_from_slice(b",\"sum\":");
        push_number(line, u64::from(self.sum.clone().finalize()));
        line.extend_from_slice(b"}\n");
        self.hand_over()?;
        self.to.flush().map_err(failed)?;
        Ok(self.written)
    }

    fn hand_over(&mut self) -> Result<()> {
        self.to.write_all(&self.buffer).map_err(failed)?;
        self.sum.update(&self.buffer);
        self.written.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn push_key(line: &mut Vec<u8>, key: &str) {
    line.extend_from_slice(b"{\"k\":");
    push_text(line, key);
    line.push(b',');
}

fn failed(source: io::Error) -> Error {
    Error::Stream { action: "writing", source }
}
