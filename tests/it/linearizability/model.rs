//! What an object does when it is alone: a value, a field of a map, or a queue.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// One call on an object. All values are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    Put(i64),
    /// Compare-and-set; `None` stands for an absent value.
    Swap(Option<i64>, i64),
    Incr(i64),
    Delete,
    GetAndDelete,
    GetAndPut(i64),
    SetIfNotExists(i64),
    Update(i64),
    /// A put, of a single value, by a batch or by a transaction.
    Write(i64),
    FieldGet,
    FieldPut(i64),
    Push(i64),
    Pop,
}

/// What a call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Flag(bool),
    Number(i64),
    Found(Option<i64>),
}

/// The state of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum State {
    Value(Option<i64>),
    Queue(VecDeque<i64>),
}

impl Operation {
    /// Returns whether it is about a queue.
    pub(super) fn is_on_queue(self) -> bool {
        matches!(self, Self::Push(_) | Self::Pop)
    }
}

impl State {
    /// Returns the state before the first call.
    pub(super) fn new(is_queue: bool) -> Self {
        if is_queue { Self::Queue(VecDeque::new()) } else { Self::Value(None) }
    }

    /// Returns the state after an operation, and what the operation returns.
    pub(super) fn after(&self, operation: Operation) -> (Self, Outcome) {
        match self {
            Self::Value(held) => {
                let (held, outcome) = after_value(*held, operation);
                (Self::Value(held), outcome)
            }
            Self::Queue(queue) => {
                let mut queue = queue.clone();
                let outcome = match operation {
                    Operation::Push(value) => {
                        queue.push_back(value);
                        Outcome::Number(i64::try_from(queue.len()).unwrap())
                    }
                    Operation::Pop => Outcome::Found(queue.pop_front()),
                    other => panic!("{other:?} on a queue"),
                };
                (Self::Queue(queue), outcome)
            }
        }
    }
}

fn after_value(held: Option<i64>, operation: Operation) -> (Option<i64>, Outcome) {
    match operation {
        Operation::Get | Operation::FieldGet => (held, Outcome::Found(held)),
        Operation::Put(new) | Operation::Write(new) => (Some(new), Outcome::Done),
        Operation::Swap(expected, new) if held == expected => (Some(new), Outcome::Flag(true)),
        Operation::Swap(..) => (held, Outcome::Flag(false)),
        Operation::Incr(by) => {
            let sum = held.unwrap_or(0) + by;
            (Some(sum), Outcome::Number(sum))
        }
        Operation::Delete => (None, Outcome::Flag(held.is_some())),
        Operation::GetAndDelete => (None, Outcome::Found(held)),
        Operation::GetAndPut(new) => (Some(new), Outcome::Found(held)),
        Operation::SetIfNotExists(new) => (held.or(Some(new)), Outcome::Flag(held.is_none())),
        Operation::Update(new) => (held.map(|_| new), Outcome::Flag(held.is_some())),
        Operation::FieldPut(new) => (Some(new), Outcome::Flag(held.is_none())),
        Operation::Push(_) | Operation::Pop => panic!("{operation:?} on a value"),
    }
}

/// Spells a value; `-` stands for none.
struct Spelled(Option<i64>);

impl fmt::Display for Spelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

fn spelled(text: &str) -> Result<Option<i64>, String> {
    if text == "-" { Ok(None) } else { number(text).map(Some) }
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("no number: {text}"))
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => write!(f, "get"),
            Self::Put(new) => write!(f, "put {new}"),
            Self::Swap(expected, new) => write!(f, "swap {} {new}", Spelled(*expected)),
            Self::Incr(by) => write!(f, "incr {by}"),
            Self::Delete => write!(f, "delete"),
            Self::GetAndDelete => write!(f, "get_and_delete"),
            Self::GetAndPut(new) => write!(f, "get_and_put {new}"),
            Self::SetIfNotExists(new) => write!(f, "set_if_not_exists {new}"),
            Self::Update(new) => write!(f, "update {new}"),
            Self::Write(new) => write!(f, "write {new}"),
            Self::FieldGet => write!(f, "field_get"),
            Self::FieldPut(new) => write!(f, "field_put {new}"),
            Self::Push(value) => write!(f, "push {value}"),
            Self::Pop => write!(f, "pop"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["get"] => Self::Get,
            ["put", new] => Self::Put(number(new)?),
            ["swap", expected, new] => Self::Swap(spelled(expected)?, number(new)?),
            ["incr", by] => Self::Incr(number(by)?),
            ["delete"] => Self::Delete,
            ["get_and_delete"] => Self::GetAndDelete,
            ["get_and_put", new] => Self::GetAndPut(number(new)?),
            ["set_if_not_exists", new] => Self::SetIfNotExists(number(new)?),
            ["update", new] => Self::Update(number(new)?),
            ["write", new] => Self::Write(number(new)?),
            ["field_get"] => Self::FieldGet,
            ["field_put", new] => Self::FieldPut(number(new)?),
            ["push", value] => Self::Push(number(value)?),
            ["pop"] => Self::Pop,
            _ => return Err(format!("no operation: {text}")),
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Number(number) => write!(f, "number {number}"),
            Self::Found(found) => write!(f, "found {}", Spelled(*found)),
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["done"] => Self::Done,
            ["flag", flag] => Self::Flag(flag.parse().map_err(|_| format!("no flag: {flag}"))?),
            ["number", text] => Self::Number(number(text)?),
            ["found", found] => Self::Found(spelled(found)?),
            _ => return Err(format!("no outcome: {text}")),
        })
    }
}
