//! Owns how commands are written in the protocol of the server (RESP). Knows nothing of what they do.

use crate::backend::redis::wire::scripts::{CallHead, SESSION_TTL_MILLIS, Script, ScriptCall};
use crate::clock::Millis;
use crate::key::Key;
use crate::stats::counter::Counter;
use crate::stats::recorder::Recorder;

/// The most arguments of a command; a server takes a million. Even, so that a field stays with its value.
pub(crate) const MAX_ARGS: usize = 500_000;

/// How many arguments identify a call.
const CALL_HEAD_ARGUMENTS: usize = 5;

/// Writes commands; keys get the store's prefix.
pub(crate) struct CommandWriter<'a> {
    out: &'a mut Vec<u8>,
    prefix: &'a [u8],
    commands: usize,
    /// Counts the calls of scripts.
    recorder: Option<&'a Recorder>,
}

impl<'a> CommandWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, prefix: &'a [u8]) -> Self {
        Self { out, prefix, commands: 0, recorder: None }
    }

    /// As [`CommandWriter::new`], for commands whose calls of scripts are counted.
    pub(crate) fn counting(out: &'a mut Vec<u8>, prefix: &'a [u8], recorder: &'a Recorder) -> Self {
        Self { out, prefix, commands: 0, recorder: Some(recorder) }
    }

    /// Returns how many commands were written. Each gets one reply.
    pub(crate) fn commands(&self) -> usize {
        self.commands
    }

    /// Returns how many bytes were written.
    pub(crate) fn bytes(&self) -> usize {
        self.out.len()
    }

    /// Begins a command of this many arguments, its name included.
    pub(crate) fn command(&mut self, arguments: usize, name: &str) -> &mut Self {
        self.commands += 1;
        self.header(b'*', arguments as u64);
        self.arg(name.as_bytes())
    }

    /// Begins the call of a script, with this many arguments behind the keys.
    pub(crate) fn script(
        &mut self,
        script: &Script,
        call: ScriptCall<'_>,
        keys: &[&Key<'_>],
        arguments: usize,
    ) -> &mut Self {
        self.script_on(script, call, keys.len(), arguments);
        for key in keys {
            self.key(key);
        }
        if let Some(head) = call.head() {
            self.call_head(head);
        }
        self
    }

    /// Begins the call of a script; the keys follow, and behind them what identifies the call, if it has a head.
    fn script_on(&mut self, script: &Script, call: ScriptCall<'_>, keys: usize, arguments: usize) {
        let (head_keys, head_arguments) =
            if call.head().is_some() { (1, CALL_HEAD_ARGUMENTS) } else { (0, 0) };
        if let Some(recorder) = self.recorder {
            recorder.add(Counter::Scripts, 1);
        }
        let arguments = 3 + head_keys + keys + head_arguments + arguments;
        match call {
            ScriptCall::BySha => self.command(arguments, "EVALSHA").arg(script.sha().as_bytes()),
            ScriptCall::ByText => self.command(arguments, "EVAL").arg(script.text().as_bytes()),
            ScriptCall::CallBySha(_) => self.command(arguments, "EVALSHA").arg(script.as_call().1.as_bytes()),
            ScriptCall::CallByText(_) => self.command(arguments, "EVAL").arg(script.as_call().0.as_bytes()),
        };
        self.number((head_keys + keys) as u64);
        if let Some(head) = call.head() {
            self.key(head.cache);
        }
    }

    /// Writes by what the server recognises a call.
    fn call_head(&mut self, head: &CallHead<'_>) {
        self.number(head.cache_id).number(u64::from(head.slot)).number(head.sequence);
        self.arg(if head.is_first { b"1" } else { b"" });
        if head.renews {
            self.number(SESSION_TTL_MILLIS);
        } else {
            self.arg(b"");
        }
    }

    /// Begins the call of a script on one key as the server spells it, with this many arguments behind it.
    pub(crate) fn script_on_raw_key(
        &mut self,
        script: &Script,
        call: ScriptCall<'_>,
        key: &[u8],
        arguments: usize,
    ) -> &mut Self {
        self.script_on_raw_keys(script, call, &[key], arguments)
    }

    /// Begins the call of a script on keys as the server spells them, with this many arguments behind them.
    pub(crate) fn script_on_raw_keys(
        &mut self,
        script: &Script,
        call: ScriptCall<'_>,
        keys: &[&[u8]],
        arguments: usize,
    ) -> &mut Self {
        self.script_on(script, call, keys.len(), arguments);
        for key in keys {
            self.arg(key);
        }
        if let Some(head) = call.head() {
            self.call_head(head);
        }
        self
    }

    pub(crate) fn arg(&mut self, arg: &[u8]) -> &mut Self {
        self.header(b'$', arg.len() as u64);
        self.out.extend_from_slice(arg);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Writes arguments into as many commands as they need; `begin` begins a command with this many of them.
    pub(crate) fn split_args(&mut self, args: &[&[u8]], mut begin: impl FnMut(&mut Self, usize)) {
        for chunk in args.chunks(MAX_ARGS) {
            begin(self, chunk.len());
            for arg in chunk {
                self.arg(arg);
            }
        }
    }

    pub(crate) fn key(&mut self, key: &str) -> &mut Self {
        self.header(b'$', (self.prefix.len() + key.len()) as u64);
        self.out.extend_from_slice(self.prefix);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.arg(itoa::Buffer::new().format(number).as_bytes())
    }

    pub(crate) fn integer(&mut self, number: i64) -> &mut Self {
        self.arg(itoa::Buffer::new().format(number).as_bytes())
    }

    /// Writes the option that sets a TTL, if there is one.
    pub(crate) fn ttl(&mut self, ttl: Option<Millis>) -> &mut Self {
        match ttl {
            None => self,
            Some(ttl) => self.arg(b"PX").number(ttl.get()),
        }
    }

    /// Writes a number as an argument of a script: empty for none.
    pub(crate) fn number_or_empty(&mut self, number: Option<u64>) -> &mut Self {
        match number {
            None => self.arg(b""),
            Some(number) => self.number(number),
        }
    }

    /// Writes a TTL as an argument of a script: empty for none.
    pub(crate) fn ttl_or_empty(&mut self, ttl: Option<Millis>) -> &mut Self {
        self.number_or_empty(ttl.map(Millis::get))
    }

    fn header(&mut self, kind: u8, number: u64) {
        // Most numbers are short, and then one copy does.
        let [digits, ..] = number.to_le_bytes();
        match number {
            0..10 => return self.out.extend_from_slice(&[kind, b'0' + digits, b'\r', b'\n']),
            10..100 => {
                let header = [kind, b'0' + digits / 10, b'0' + digits % 10, b'\r', b'\n'];
                return self.out.extend_from_slice(&header);
            }
            100.. => {}
        }
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Returns what was written as text, its arguments separated by spaces.
#[cfg(test)]
pub(crate) fn words(write: impl FnOnce(&mut CommandWriter<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut CommandWriter::new(&mut out, b"p:"));
    let text = String::from_utf8(out).unwrap_or_default();
    let words: Vec<_> = text.split("\r\n").filter(|word| !word.starts_with(['$', '*'])).collect();
    words.join(" ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::redis::wire::scripts;

    #[test]
    fn arguments_are_counted_in_bytes() {
        let mut out = Vec::new();
        CommandWriter::new(&mut out, b"").command(3, "SET").key("é").arg(b"");
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$0\r\n\r\n");
        for length in [9, 10, 99, 100, 256, 1000] {
            out.clear();
            CommandWriter::new(&mut out, b"").arg(&vec![b'x'; length]);
            assert_eq!(out, format!("${length}\r\n{}\r\n", "x".repeat(length)).as_bytes());
        }
        out.clear();
        CommandWriter::new(&mut out, b"").number(u64::MAX).number(0).integer(i64::MIN);
        assert_eq!(out, b"$20\r\n18446744073709551615\r\n$1\r\n0\r\n$20\r\n-9223372036854775808\r\n");
    }

    #[test]
    fn a_script_is_called_with_its_keys_and_arguments() {
        let script = &scripts::SWAP;
        let key = Key::listed("k".to_owned());
        let mut out = Vec::new();
        let mut writer = CommandWriter::new(&mut out, b"p:");
        writer.script(script, ScriptCall::BySha, &[&key, &key], 1).arg(b"x");
        assert_eq!(writer.commands(), 1);
        let expected = format!(
            "*6\r\n$7\r\nEVALSHA\r\n$40\r\n{}\r\n$1\r\n2\r\n$3\r\np:k\r\n$3\r\np:k\r\n$1\r\nx\r\n",
            script.sha()
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
