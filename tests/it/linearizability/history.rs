//! What the processes report of their calls, and how it becomes one history for each object.
//!
//! A process reports a call before it begins and after it has ended, each with the time of the machine's monotonic
//! clock, which all processes share. The recorded interval is never shorter than the call.

use std::collections::{BTreeMap, HashMap};

use super::model::{Operation, Outcome};

/// One call in a history.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// In nanoseconds of the monotonic clock.
    pub(super) begun: u64,
    pub(super) operation: Operation,
    /// `None` if nobody knows whether it was applied: it may be applied at any time after its beginning, or never.
    pub(super) returned: Option<Returned>,
    /// Which process and thread made it.
    pub(super) caller: String,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returned {
    pub(super) at: u64,
    pub(super) outcome: Outcome,
}

/// How a process reports that a call has ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Report {
    Applied(Outcome),
    NotApplied,
    MaybeApplied,
}

/// Returns the line about the beginning of a call. Each line ends with a full stop, since a process may be killed
/// while it writes one.
pub(super) fn begin_line(id: u64, at: u64, object: &str, operation: Operation) -> String {
    format!("begin {id} {at} {object} {operation} .")
}

/// Returns the line about the end of a call.
pub(super) fn end_line(id: u64, at: u64, report: Report) -> String {
    match report {
        Report::Applied(outcome) => format!("end {id} {at} {outcome} ."),
        Report::NotApplied => format!("end {id} {at} not_applied ."),
        Report::MaybeApplied => format!("end {id} {at} maybe_applied ."),
    }
}

/// All calls, by the object that they are about.
#[derive(Debug, Default)]
pub(super) struct Histories(pub(super) BTreeMap<String, Vec<Call>>);

impl Histories {
    /// Adds what one process has reported.
    pub(super) fn add(&mut self, process: &str, lines: &[String]) {
        let mut begun: HashMap<u64, (String, Call)> = HashMap::new();
        for line in lines {
            let Some(line) = line.strip_suffix(" .") else { continue };
            let [kind, id, at, rest] =
                line.splitn(4, ' ').collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{line}"));
            let id: u64 = id.parse().unwrap();
            let at: u64 = at.parse().unwrap();
            if kind == "begin" {
                let (object, operation) = rest.split_once(' ').unwrap();
                let operation = operation.parse().unwrap();
                let call = Call { begun: at, operation, returned: None, caller: format!("{process}/{id}") };
                begun.insert(id, (object.to_owned(), call));
            } else if rest == "not_applied" {
                begun.remove(&id);
            } else if rest != "maybe_applied" {
                let (_, call) = begun.get_mut(&id).unwrap();
                call.returned = Some(Returned { at, outcome: rest.parse().unwrap() });
            }
        }
        for (object, call) in begun.into_values() {
            self.0.entry(object).or_default().push(call);
        }
    }
}

/// Returns a history as text, in the order in which the calls began.
pub(super) fn text(calls: &[Call]) -> String {
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by_key(|call| call.begun);
    let first = calls.first().map_or(0, |call| call.begun);
    let micros = |at: u64| at.saturating_sub(first) / 1000;
    let line = |call: &&Call| {
        let end = call.returned.map_or_else(
            || "never returned".to_owned(),
            |returned| format!("{} µs: {}", micros(returned.at), returned.outcome),
        );
        format!("{:>12}  {} from {} µs to {end}", call.caller, call.operation, micros(call.begun))
    };
    calls.iter().map(line).collect::<Vec<_>>().join("\n")
}
