//! Histories that the checker must accept or reject: a checker that accepts everything finds no fault.

use super::checker::{Verdict, check};
use super::history::{Call, Returned};
use super::model::Operation;

/// A history of calls, each with its beginning, its end and its outcome: `1-4 put 5: done`. `1- put 5` may take
/// effect at any time after its beginning, or never.
fn history(lines: &[&str]) -> Vec<Call> {
    let call = |line: &&str| {
        let (interval, rest) = line.split_once(' ').unwrap();
        let (begun, ended) = interval.split_once('-').unwrap();
        let (operation, outcome) = rest.split_once(": ").unwrap_or((rest, ""));
        let returned = (!ended.is_empty())
            .then(|| Returned { at: ended.parse().unwrap(), outcome: outcome.parse().unwrap() });
        let operation: Operation = operation.parse().unwrap();
        Call { begun: begun.parse().unwrap(), operation, returned, caller: String::new() }
    };
    lines.iter().map(call).collect()
}

fn assert_verdicts(verdict: Verdict, histories: &[(&str, &[&str])]) {
    for (name, lines) in histories {
        assert_eq!(check(&history(lines)), verdict, "{name}");
    }
}

#[test]
fn a_history_that_some_order_explains_is_accepted() {
    assert_verdicts(
        Verdict::Linearizable,
        &[
            ("nothing happened", &[]),
            (
                "one after another",
                &["1-2 put 5: done", "3-4 get: found 5", "5-6 delete: flag true", "7-8 get: found -"],
            ),
            (
                "a read during a put sees the old value",
                &["1-9 put 5: done", "2-3 get: found -", "4-5 get: found 5"],
            ),
            (
                "an early call may come last",
                &["1-9 incr 1: number 3", "2-3 incr 1: number 1", "4-5 incr 1: number 2"],
            ),
            (
                "a lost put was applied late",
                &["1- put 5", "2-3 get: found -", "4-5 get: found 5", "6-7 get: found 5"],
            ),
            ("a lost put was never applied", &["1- put 5", "2-3 get: found -", "4-5 get: found -"]),
            (
                "a lost pop took a value",
                &["1-2 push 1: number 1", "3-4 push 2: number 2", "5- pop", "6-7 pop: found 2"],
            ),
            ("a lost swap was applied", &["1-2 put 1: done", "3- swap 1 2", "4-5 get: found 2"]),
            (
                "one of two swaps wins",
                &[
                    "1-2 put 1: done",
                    "3-9 swap 1 2: flag false",
                    "3-9 swap 1 3: flag true",
                    "10-11 get: found 3",
                ],
            ),
            (
                "two removals at the same time",
                &["1-2 put 1: done", "3-9 get_and_delete: found -", "3-9 get_and_delete: found 1"],
            ),
            (
                "a field is new once",
                &["1-5 field_put 1: flag true", "2-6 field_put 2: flag false", "7-8 field_get: found 2"],
            ),
            ("a read that ends when a put begins", &["1-2 get: found 5", "2-3 put 5: done"]),
        ],
    );
}

#[test]
fn a_history_that_no_order_explains_is_rejected() {
    assert_verdicts(
        Verdict::Violated,
        &[
            ("a stale read", &["1-2 put 1: done", "3-4 put 2: done", "5-6 get: found 1"]),
            ("a read that goes back", &["1-9 put 5: done", "2-3 get: found 5", "4-5 get: found -"]),
            ("a value that nobody wrote", &["1-2 put 1: done", "3-4 get: found 7"]),
            ("a lost update", &["1-2 put 1: done", "3-9 swap 1 2: flag true", "3-9 swap 1 3: flag true"]),
            ("an increment that was lost", &["1-5 incr 1: number 1", "2-6 incr 1: number 1"]),
            ("an increment that was applied twice", &["1-2 incr 1: number 1", "3-4 get: found 2"]),
            (
                "a lost increment that was applied twice",
                &["1- incr 1", "2-3 get: found 1", "4-5 get: found 2"],
            ),
            (
                "a value that two pops returned",
                &["1-2 push 1: number 1", "3-4 pop: found 1", "5-6 pop: found 1"],
            ),
            (
                "a queue that changed its order",
                &["1-2 push 1: number 1", "3-4 push 2: number 2", "5-6 pop: found 2"],
            ),
            (
                "a put that was made again after its value was taken",
                &["1-9 put 1: done", "2-3 get_and_delete: found 1", "10-11 get_and_delete: found 1"],
            ),
            (
                "a lost put that was made again after its value was taken",
                &["1- put 1", "2-3 get_and_delete: found 1", "4-5 get_and_delete: found 1"],
            ),
            (
                "a delete that was made again over a newer value",
                &[
                    "1-2 put 1: done",
                    "3-20 delete: flag true",
                    "4-5 get: found -",
                    "6-7 put 2: done",
                    "8-9 get: found -",
                ],
            ),
            ("a put that was acknowledged and is not there", &["1-2 put 1: done", "3-4 get: found -"]),
            ("a field that is new twice", &["1-2 field_put 1: flag true", "3-4 field_put 2: flag true"]),
            (
                "a key that was absent for two",
                &["1-9 set_if_not_exists 1: flag true", "1-9 set_if_not_exists 2: flag true"],
            ),
        ],
    );
}

/// Forty calls at the same time have more orders than anybody can try one by one.
#[test]
fn many_calls_at_the_same_time_are_checked_quickly() {
    let mut lines: Vec<String> = (1..=40).map(|n| format!("1-100 incr 1: number {n}")).collect();
    lines.push("101-102 get: found 40".to_owned());
    lines.extend((0..20).map(|_| "50- incr 1000".to_owned()));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(check(&history(&lines)), Verdict::Linearizable);
}
