//! Owns what is said on the wire: which commands an operation becomes, and what their answers mean. Does no
//! I/O.

use redis::Value;

use super::classify::{Failure, Stage, Trouble};
use crate::bytes::Bytes;
use crate::clock::{Millis, Ttl};
use crate::error::Kind;
use crate::op::{Action, Reply};

/// Swaps a value if its bytes are still the expected ones.
pub(super) const SWAP: &str = include_str!("scripts/swap.lua");
/// The name under which a server knows [`SWAP`]: its SHA-1.
pub(super) const SWAP_SHA: &str = "c2141316fd01ad6a3129b7ff2323caa9dcbe1a7b";

/// Whether a script is called by its name or brought along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// By name: for a command that is sent alone, since the server may not know it.
    ByName,
    /// Brought along: always works.
    Whole,
}

/// Writes commands in the protocol of the server; keys get the store's prefix.
pub(super) struct Packer<'a> {
    out: &'a mut Vec<u8>,
    prefix: &'a [u8],
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, prefix: &'a [u8]) -> Self {
        Self { out, prefix }
    }

    /// Begins a command of this many words, the name included.
    pub(super) fn command(&mut self, words: usize, name: &str) -> &mut Self {
        self.header(b'*', words as u64);
        self.word(name.as_bytes())
    }

    pub(super) fn word(&mut self, word: &[u8]) -> &mut Self {
        self.header(b'$', word.len() as u64);
        self.out.extend_from_slice(word);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    pub(super) fn key(&mut self, key: &str) -> &mut Self {
        self.header(b'$', (self.prefix.len() + key.len()) as u64);
        self.out.extend_from_slice(self.prefix);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        self.word(digits)
    }

    fn ttl(&mut self, ttl: Option<Millis>) -> &mut Self {
        match ttl {
            None => self,
            Some(ttl) => self.word(b"PX").number(ttl.get()),
        }
    }

    fn header(&mut self, mark: u8, number: u64) {
        let mut digits = [0; 20];
        self.out.push(mark);
        self.out.extend_from_slice(decimal(number, &mut digits));
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes a mutation of one entry.
    pub(super) fn action(&mut self, key: &str, action: &Action, script: Script) {
        let px = |ttl: &Option<Millis>| if ttl.is_some() { 2 } else { 0 };
        match action {
            Action::Put { value, ttl } => {
                self.command(3 + px(ttl), "SET").key(key).word(&value.bytes).ttl(*ttl);
            }
            Action::PutIfAbsent { value, ttl } => {
                self.command(4 + px(ttl), "SET").key(key).word(&value.bytes).word(b"NX").ttl(*ttl);
            }
            // INVARIANT: without GET a map or a queue would be replaced silently.
            Action::PutIfPresent { value } => {
                self.command(6, "SET").key(key).word(&value.bytes).word(b"XX").word(b"GET").word(b"KEEPTTL");
            }
            Action::PutAndGet { value, ttl } => {
                self.command(4 + px(ttl), "SET").key(key).word(&value.bytes).word(b"GET").ttl(*ttl);
            }
            Action::Swap { expected, new, birth_ttl } => {
                match script {
                    Script::ByName => self.command(9, "EVALSHA").word(SWAP_SHA.as_bytes()),
                    Script::Whole => self.command(9, "EVAL").word(SWAP.as_bytes()),
                };
                self.number(1).key(key);
                self.given(expected.as_deref()).given(new.as_ref().map(|new| &*new.bytes));
                match birth_ttl {
                    None => self.word(b""),
                    Some(ttl) => self.number(ttl.get()),
                };
            }
            Action::Delete => {
                self.command(2, "DEL").key(key);
            }
            Action::Take => {
                self.command(2, "GETDEL").key(key);
            }
            Action::Incr { by, birth_ttl: None } => self.incr(key, *by),
            // The birth and the step in one transaction: a counter never lies there without its TTL.
            Action::Incr { by, birth_ttl: Some(ttl) } => {
                self.command(1, "MULTI");
                self.command(6, "SET").key(key).word(b"0").ttl(Some(*ttl)).word(b"NX");
                self.incr(key, *by);
                self.command(1, "EXEC");
            }
            Action::Expire { ttl } => {
                self.command(3, "PEXPIRE").key(key).number(ttl.get());
            }
            Action::Persist => {
                self.command(2, "PERSIST").key(key);
            }
            Action::Touch { ttl } => {
                self.command(4, "GETEX").key(key).ttl(Some(*ttl));
            }
        }
    }

    fn incr(&mut self, key: &str, by: i64) {
        self.command(3, "INCRBY").key(key).word(by.to_string().as_bytes());
    }

    fn given(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            None => self.word(b"0").word(b""),
            Some(bytes) => self.word(b"1").word(bytes),
        }
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// How errors name the command.
pub(super) fn name(action: &Action) -> &'static str {
    match action {
        Action::Put { .. }
        | Action::PutIfAbsent { .. }
        | Action::PutIfPresent { .. }
        | Action::PutAndGet { .. } => "SET",
        Action::Swap { .. } => "EVAL",
        Action::Delete => "DEL",
        Action::Take => "GETDEL",
        Action::Incr { .. } => "INCRBY",
        Action::Expire { .. } => "PEXPIRE",
        Action::Persist => "PERSIST",
        Action::Touch { .. } => "GETEX",
    }
}

/// How many bytes a mutation carries, roughly.
pub(super) fn weight(action: &Action) -> usize {
    match action {
        Action::Put { value, .. }
        | Action::PutIfAbsent { value, .. }
        | Action::PutIfPresent { value }
        | Action::PutAndGet { value, .. } => value.bytes.len(),
        Action::Swap { expected, new, .. } => {
            SWAP.len() + expected.as_ref().map_or(0, |e| e.len()) + new.as_ref().map_or(0, |n| n.bytes.len())
        }
        Action::Delete
        | Action::Take
        | Action::Incr { .. }
        | Action::Expire { .. }
        | Action::Persist
        | Action::Touch { .. } => 0,
    }
}

/// How many answers a mutation gets.
pub(super) fn answers(action: &Action) -> usize {
    match action {
        Action::Incr { birth_ttl: Some(_), .. } => 4,
        _ => 1,
    }
}

/// Reads the answers to a mutation; it takes all of them, whatever they say.
pub(super) fn reply(
    action: &Action,
    mut next: impl FnMut() -> Result<Value, Failure>,
) -> Result<Reply, Failure> {
    if let Action::Incr { birth_ttl: Some(_), .. } = action {
        let queued = [next()?, next()?, next()?];
        let answers = executed(&queued, next()?)?;
        return match answers.into_iter().nth(1) {
            Some(answer) => number(answer).map(Reply::Number),
            None => Err(Failure::unexpected(&Value::Nil)),
        };
    }
    let answer = next()?;
    Ok(match action {
        Action::Put { .. } => match refused(answer)? {
            Value::Okay => Reply::Done,
            other => return Err(Failure::unexpected(&other)),
        },
        Action::PutIfAbsent { .. } => match refused(answer)? {
            Value::Okay => Reply::Flag(true),
            Value::Nil => Reply::Flag(false),
            other => return Err(Failure::unexpected(&other)),
        },
        Action::PutIfPresent { .. } => Reply::Flag(bytes(answer)?.is_some()),
        Action::PutAndGet { .. } | Action::Take | Action::Touch { .. } => Reply::Found(bytes(answer)?),
        Action::Swap { .. } | Action::Delete | Action::Expire { .. } | Action::Persist => {
            Reply::Flag(number(answer)? != 0)
        }
        Action::Incr { .. } => Reply::Number(number(answer)?),
    })
}

/// Reads the answers to MULTI, what was queued, and EXEC.
pub(super) fn executed(queued: &[Value], exec: Value) -> Result<Vec<Value>, Failure> {
    match exec {
        Value::Array(answers) => Ok(answers),
        // An aborted transaction does not say why; the command that was not queued did.
        Value::ServerError(abort) => {
            let why = queued.iter().find_map(|answer| match answer {
                Value::ServerError(why) => Some(why),
                _ => None,
            });
            Err(Failure::of_answer(why.unwrap_or(&abort)))
        }
        Value::Nil => Err(Failure::new(Trouble::Other, Stage::Rejected, "the transaction was aborted")),
        other => Err(Failure::unexpected(&other)),
    }
}

/// Turns a refusal into a failure.
pub(super) fn refused(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(Failure::of_answer(&error)),
        answer => Ok(answer),
    }
}

pub(super) fn bytes(answer: Value) -> Result<Option<Bytes>, Failure> {
    match refused(answer)? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        other => Err(Failure::unexpected(&other)),
    }
}

pub(super) fn number(answer: Value) -> Result<i64, Failure> {
    match refused(answer)? {
        Value::Int(number) => Ok(number),
        other => Err(Failure::unexpected(&other)),
    }
}

/// Reads the answer to PTTL.
pub(super) fn ttl(answer: Value) -> Result<Option<Ttl>, Failure> {
    match number(answer)? {
        -2 => Ok(None),
        -1 => Ok(Some(Ttl::Never)),
        // The server rounds down: what is there still has some time.
        millis => {
            Ok(Some(Ttl::In(std::time::Duration::from_millis(u64::try_from(millis).unwrap_or(0).max(1)))))
        }
    }
}

/// Reads the answer to TYPE; kinds that this crate has no name for are `None`.
pub(super) fn kind(answer: &Value) -> Option<Kind> {
    match answer {
        Value::SimpleString(name) => match name.as_str() {
            "string" => Some(Kind::Value),
            "hash" => Some(Kind::Map),
            "list" => Some(Kind::Queue),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::value::Value as Stored;

    fn text(action: &Action, script: Script) -> String {
        let mut out = Vec::new();
        Packer::new(&mut out, b"p:").action("k", action, script);
        let text = String::from_utf8(out).unwrap();
        let words: Vec<_> = text.split("\r\n").filter(|word| !word.starts_with(['$', '*'])).collect();
        words.join(" ").trim_end().to_owned()
    }

    #[test]
    fn each_action_is_its_command() {
        let value = || Stored::json(b"1");
        let ttl = Millis::new(Duration::from_millis(1500)).unwrap();
        for (action, command) in [
            (Action::Put { value: value(), ttl: None }, "SET p:k 1"),
            (Action::Put { value: value(), ttl: Some(ttl) }, "SET p:k 1 PX 1500"),
            (Action::PutIfAbsent { value: value(), ttl: None }, "SET p:k 1 NX"),
            (Action::PutIfAbsent { value: value(), ttl: Some(ttl) }, "SET p:k 1 NX PX 1500"),
            (Action::PutIfPresent { value: value() }, "SET p:k 1 XX GET KEEPTTL"),
            (Action::PutAndGet { value: value(), ttl: Some(ttl) }, "SET p:k 1 GET PX 1500"),
            (Action::Delete, "DEL p:k"),
            (Action::Take, "GETDEL p:k"),
            (Action::Incr { by: -3, birth_ttl: None }, "INCRBY p:k -3"),
            (Action::Incr { by: 3, birth_ttl: Some(ttl) }, "MULTI SET p:k 0 PX 1500 NX INCRBY p:k 3 EXEC"),
            (Action::Expire { ttl }, "PEXPIRE p:k 1500"),
            (Action::Persist, "PERSIST p:k"),
            (Action::Touch { ttl }, "GETEX p:k PX 1500"),
        ] {
            assert_eq!(text(&action, Script::Whole), command);
        }
        let swap = Action::Swap { expected: Some(Bytes::from("a")), new: None, birth_ttl: Some(ttl) };
        assert_eq!(text(&swap, Script::ByName), format!("EVALSHA {SWAP_SHA} 1 p:k 1 a 0  1500"));
    }

    #[test]
    fn words_are_counted_in_bytes() {
        let mut out = Vec::new();
        Packer::new(&mut out, b"").command(3, "SET").key("é").word(b"");
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$2\r\n\xc3\xa9\r\n$0\r\n\r\n");
        out.clear();
        Packer::new(&mut out, b"").number(u64::MAX).number(0);
        assert_eq!(out, b"$20\r\n18446744073709551615\r\n$1\r\n0\r\n");
    }

    #[test]
    fn answers_become_replies_and_nothing_else_passes() {
        let value = || Stored::json(b"1");
        let bulk = || Value::BulkString(b"x".to_vec());
        let found = || Reply::Found(Some(Bytes::from("x")));
        let ttl = Millis::new(Duration::from_secs(1)).unwrap();
        for (action, answer, expected) in [
            (Action::Put { value: value(), ttl: None }, Value::Okay, Reply::Done),
            (Action::PutIfAbsent { value: value(), ttl: None }, Value::Okay, Reply::Flag(true)),
            (Action::PutIfAbsent { value: value(), ttl: None }, Value::Nil, Reply::Flag(false)),
            (Action::PutIfPresent { value: value() }, bulk(), Reply::Flag(true)),
            (Action::PutIfPresent { value: value() }, Value::Nil, Reply::Flag(false)),
            (Action::PutAndGet { value: value(), ttl: None }, bulk(), found()),
            (Action::Take, Value::Nil, Reply::Found(None)),
            (Action::Touch { ttl }, bulk(), found()),
            (Action::Delete, Value::Int(1), Reply::Flag(true)),
            (Action::Persist, Value::Int(0), Reply::Flag(false)),
            (Action::Incr { by: 1, birth_ttl: None }, Value::Int(7), Reply::Number(7)),
        ] {
            let mut answers = vec![answer];
            assert_eq!(reply(&action, || Ok(answers.remove(0))).unwrap(), expected, "{action:?}");
            let failure = reply(&action, || Ok(Value::Array(Vec::new()))).unwrap_err();
            assert_eq!(failure.trouble, Trouble::Garbage, "{action:?}");
        }
    }

    #[test]
    fn an_aborted_transaction_tells_its_cause() {
        let parse = |text: &[u8]| redis::parse_redis_value(text).unwrap();
        let oom = parse(b"-OOM command not allowed\r\n");
        let abort = parse(b"-EXECABORT Transaction discarded\r\n");
        let failure = executed(&[Value::Okay, oom], abort).unwrap_err();
        assert!(failure.cause.to_string().starts_with("OOM"), "{failure:?}");
        let loading = parse(b"-LOADING Redis is loading\r\n");
        let failure = executed(std::slice::from_ref(&loading), loading.clone()).unwrap_err();
        assert_eq!((failure.trouble, failure.stage), (Trouble::Busy, Stage::Rejected));
        assert!(executed(&[], Value::Nil).is_err());
    }

    #[test]
    fn what_is_left_is_never_zero() {
        assert_eq!(ttl(Value::Int(-2)).unwrap(), None);
        assert_eq!(ttl(Value::Int(-1)).unwrap(), Some(Ttl::Never));
        assert_eq!(ttl(Value::Int(0)).unwrap(), Some(Ttl::In(Duration::from_millis(1))));
    }
}
