//! Owns how an export is read back and checked. Knows nothing of where the entries go.
//!
//! Each line is checked by itself, and the whole by its last line. So an entry that was returned may still be damaged: only
//! once the reader returns `None` is it certain that all of them are what was written.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::export::format::{PART_BYTES, VERSION};
use crate::key::MAX_KEY_BYTES;
use crate::op::{WholeContent, WholeEntry, WholeQueue};
use crate::value::Value;
use crate::value_text::{
    DelayedRecord, FieldRecord, ItemRecord, delayed_values, pairs, present, value, values,
};

/// Size of the read buffer.
const CHUNK: usize = 64 << 10;

/// An export that is being read: an iterator over its entries. It ends after the first error. It holds one line and one
/// entry in memory.
pub(crate) struct ExportReader<R> {
    from: BufReader<R>,
    line: Vec<u8>,
    /// The longest line that is read.
    longest: usize,
    /// The largest value that is read.
    max_value_bytes: usize,
    /// The number of the last line, counted from one.
    number: u64,
    sum: crc32fast::Hasher,
    /// The entry of the last line, which the next line may add to.
    pending: Option<WholeEntry>,
    has_ended: bool,
}

/// What is wrong with a line.
enum ExportFault {
    Line(String),
    Other(Error),
}

impl From<&str> for ExportFault {
    fn from(reason: &str) -> Self {
        Self::Line(reason.to_owned())
    }
}

impl From<String> for ExportFault {
    fn from(reason: String) -> Self {
        Self::Line(reason)
    }
}

impl<R: Read> ExportReader<R> {
    /// Reads the first line.
    pub(crate) fn begin(from: R, max_value_bytes: usize) -> Result<Self> {
        // A value in Base64 takes a third more, and a character of a name at most six bytes.
        let longest = max_value_bytes.saturating_mul(2).saturating_add(PART_BYTES + 12 * MAX_KEY_BYTES);
        let mut reader = Self {
            from: BufReader::with_capacity(CHUNK, from),
            line: Vec::new(),
            longest,
            max_value_bytes,
            number: 0,
            sum: crc32fast::Hasher::new(),
            pending: None,
            has_ended: false,
        };
        reader.read_header().map_err(|fault| reader.error(fault))?;
        Ok(reader)
    }

    fn error(&mut self, fault: ExportFault) -> Error {
        self.has_ended = true;
        match fault {
            ExportFault::Line(reason) => Error::InvalidExport { line: self.number, reason },
            ExportFault::Other(error) => error,
        }
    }

    fn read_header(&mut self) -> Result<(), ExportFault> {
        if !self.read_line()? {
            return Err("it is empty".into());
        }
        let header: ExportHeader<'_> = match serde_json::from_slice(&self.line) {
            Ok(header) => header,
            Err(error) => {
                // Another version may have other fields.
                let other: Option<ExportVersion> = serde_json::from_slice(&self.line).ok();
                return Err(match other.filter(|other| other.millpond == "export") {
                    Some(other) if other.version != VERSION => unknown_version(other.version),
                    Some(_) | None => ExportFault::Line(format!("it does not begin like an export: {error}")),
                });
            }
        };
        if header.millpond != "export" {
            return Err("it does not begin like an export".into());
        }
        if header.version != VERSION {
            return Err(unknown_version(header.version));
        }
        if header.parent.is_some() {
            return Err("it holds only what changed since another export".into());
        }
        if !header.sorted {
            return Err("its keys are not sorted".into());
        }
        self.sum.update(&self.line);
        Ok(())
    }

    /// Reads a line with its line break; `false` at the end of the stream.
    fn read_line(&mut self) -> Result<bool, ExportFault> {
        self.line.clear();
        self.number += 1;
        loop {
            let available = match self.from.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(ExportFault::Other(Error::Stream { action: "reading", source })),
            };
            if available.is_empty() {
                return if self.line.is_empty() { Ok(false) } else { Err("it is cut off".into()) };
            }
            let end = memchr::memchr(b'\n', available).map(|at| at + 1);
            let taken = &available[..end.unwrap_or(available.len())];
            if self.line.len() + taken.len() > self.longest {
                return Err(ExportFault::Line(format!("it is longer than {} bytes", self.longest)));
            }
            self.line.extend_from_slice(taken);
            let taken = taken.len();
            self.from.consume(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }

    /// Reads up to the end of an entry; `None` once the last line was checked.
    fn read_entry(&mut self) -> Result<Option<WholeEntry>, ExportFault> {
        loop {
            if !self.read_line()? {
                return Err("the last line is missing: it is cut off".into());
            }
            let record: ExportLine<'_> =
                serde_json::from_slice(&self.line).map_err(|error| ExportFault::Line(error.to_string()))?;
            if let (Some(end), Some(sum)) = (record.end, record.sum) {
                record.check_last()?;
                return self.read_end(end, sum);
            }
            let follows = record.follows.is_some();
            let next = record.into_entry()?;
            check_sizes(&next, self.max_value_bytes).map_err(ExportFault::Other)?;
            self.sum.update(&self.line);
            if follows {
                let pending = self.pending.as_mut().filter(|pending| pending.key == next.key);
                let pending = pending.ok_or("it adds to an entry that is not in the line before")?;
                extend(pending, next)?;
                continue;
            }
            if self.pending.as_ref().is_some_and(|pending| pending.key >= next.key) {
                return Err("its key is not behind that of the line before".into());
            }
            if let Some(whole) = self.pending.replace(next) {
                return Ok(Some(whole));
            }
        }
    }

    fn read_end(&mut self, end: u64, sum: u32) -> Result<Option<WholeEntry>, ExportFault> {
        // The first line and this one are not counted.
        if end != self.number.saturating_sub(2) {
            return Err(ExportFault::Line(format!(
                "{end} lines were written, {} were read",
                self.number - 2
            )));
        }
        if sum != self.sum.clone().finalize() {
            return Err("the checksum of the lines before does not match".into());
        }
        if self.read_line()? {
            return Err("it is behind the last line".into());
        }
        self.has_ended = true;
        Ok(self.pending.take())
    }
}

impl<R: Read> Iterator for ExportReader<R> {
    type Item = Result<WholeEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        self.read_entry().map_err(|fault| self.error(fault)).transpose()
    }
}

fn unknown_version(version: u64) -> ExportFault {
    ExportFault::Line(format!("it has version {version} of the format, this build reads version {VERSION}"))
}

/// Adds the next part to an entry.
fn extend(entry: &mut WholeEntry, part: WholeEntry) -> Result<(), ExportFault> {
    if part.deadline.is_some() {
        return Err("only the first line of an entry says when it expires".into());
    }
    match (&mut entry.content, part.content) {
        (WholeContent::Map(fields), WholeContent::Map(more)) => {
            if !is_sorted([fields.last(), more.first()].into_iter().flatten().map(|(name, _)| name)) {
                return Err(UNSORTED.into());
            }
            fields.extend(more);
        }
        (WholeContent::Queue(queue), WholeContent::Queue(more)) => {
            if !more.values.is_empty() && !queue.delayed.is_empty() {
                return Err("waiting values are behind delayed ones".into());
            }
            queue.values.extend(more.values);
            queue.delayed.extend(more.delayed);
            check_delayed(queue)?;
        }
        (WholeContent::Value(_) | WholeContent::Map(_) | WholeContent::Queue(_), _) => {
            return Err("it adds to an entry of another kind".into());
        }
    }
    Ok(())
}

fn check_delayed(queue: &WholeQueue) -> Result<(), ExportFault> {
    let is_sorted = queue.delayed.is_sorted_by_key(|(due, _)| *due);
    if is_sorted { Ok(()) } else { Err("delayed values are not in the order in which they are due".into()) }
}

const UNSORTED: &str = "the fields of a map are not sorted by name";

fn is_sorted<'n>(mut names: impl Iterator<Item = &'n SmolStr>) -> bool {
    let Some(mut last) = names.next() else { return true };
    names.all(|name| std::mem::replace(&mut last, name) < name)
}

fn check_sizes(entry: &WholeEntry, limit: usize) -> Result<()> {
    let check = |value: &Value| {
        let bytes = value.bytes.len();
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::TooLarge { key: entry.key.to_string(), bytes, limit })
    };
    match &entry.content {
        WholeContent::Value(value) => check(value),
        WholeContent::Map(fields) => fields.iter().try_for_each(|(_, value)| check(value)),
        WholeContent::Queue(queue) => {
            queue.values.iter().chain(queue.delayed.iter().map(|(_, value)| value)).try_for_each(check)
        }
    }
}

#[derive(Deserialize)]
struct ExportVersion {
    millpond: String,
    version: u64,
}

/// The first line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportHeader<'a> {
    #[serde(borrow)]
    millpond: Cow<'a, str>,
    version: u64,
    #[serde(rename = "created")]
    _created: u64,
    #[serde(borrow, rename = "scope")]
    _scope: Cow<'a, str>,
    parent: Option<String>,
    sorted: bool,
}

/// All fields that another line can have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportLine<'a> {
    #[serde(borrow)]
    k: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    b: Option<&'a str>,
    #[serde(borrow)]
    j: Option<&'a str>,
    #[serde(borrow)]
    m: Option<Vec<FieldRecord<'a>>>,
    #[serde(borrow)]
    q: Option<Vec<ItemRecord<'a>>>,
    #[serde(borrow)]
    d: Option<Vec<DelayedRecord<'a>>>,
    x: Option<u64>,
    #[serde(rename = "+")]
    follows: Option<bool>,
    end: Option<u64>,
    sum: Option<u32>,
}

const FITS_NOTHING: &str = "its fields fit no kind of line";

impl ExportLine<'_> {
    /// Checks a line that has the fields of the last one.
    fn check_last(&self) -> Result<(), ExportFault> {
        let is_entry = self.k.is_some() || self.x.is_some() || self.follows.is_some() || self.contents() > 0;
        if is_entry { Err(FITS_NOTHING.into()) } else { Ok(()) }
    }

    /// How many contents the line has.
    fn contents(&self) -> usize {
        let is_value = self.v.is_some() || self.b.is_some() || self.j.is_some();
        [is_value, self.m.is_some(), self.q.is_some(), self.d.is_some()].into_iter().filter(|is| *is).count()
    }

    fn into_entry(self) -> Result<WholeEntry, ExportFault> {
        let is_one = self.contents() == 1 && self.end.is_none() && self.sum.is_none();
        let (Some(key), true, None | Some(true)) = (&self.k, is_one, self.follows) else {
            return Err(FITS_NOTHING.into());
        };
        let key = SmolStr::new(key);
        let deadline = match self.x.map(Deadline::from_millis) {
            None => None,
            Some(None) => return Err("an entry cannot expire at the time 0".into()),
            Some(deadline) => deadline,
        };
        let content = if let Some(value) = value(self.v, self.b, self.j)? {
            WholeContent::Value(value)
        } else if let Some(fields) = self.m {
            let fields = pairs(fields)?;
            if !is_sorted(fields.iter().map(|(name, _)| name)) {
                return Err(UNSORTED.into());
            }
            if fields.is_empty() || fields.iter().any(|(name, _)| name.len() > MAX_KEY_BYTES) {
                return Err("a map is never empty, and no name has more than 512 bytes".into());
            }
            WholeContent::Map(fields)
        } else {
            let values = values(self.q.unwrap_or_default())?;
            let delayed = delayed_values(self.d.unwrap_or_default())?;
            if values.is_empty() && delayed.is_empty() {
                return Err("a queue is never empty".into());
            }
            let queue = WholeQueue { values, delayed };
            check_delayed(&queue)?;
            WholeContent::Queue(queue)
        };
        Ok(WholeEntry { key, content, deadline })
    }
}
