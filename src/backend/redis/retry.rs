//! Owns when an attempt is repeated, and when it is given up. Knows nothing of connections, nor of what is
//! attempted.

use std::thread;

use crate::backend::redis::failure::{Failure, Stage};
use crate::backend::redis::time_budget::TimeBudget;
use crate::config::RedisOptions;
use crate::error::Error;
use crate::op::LostReply;
use crate::util::backoff::Backoff;

/// The part of each pause that chance may take away.
const JITTER: f64 = 0.5;

/// Whether an attempt in doubt (it was sent, and its reply was lost) may be repeated. Any attempt that was not sent, or
/// that the server has refused for now, may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryRule {
    /// It changes nothing, so it may be repeated.
    Read,
    /// A mutation that the server recognises if it is repeated, or that no other client's writes can meet.
    Recognised,
    /// A mutation that must not be repeated: other clients may have written since the first attempt.
    AtMostOnce,
}

impl RetryRule {
    /// Returns the rule for a mutation.
    pub(crate) fn of(lost_reply: LostReply) -> Self {
        match lost_reply {
            LostReply::IsRepeated(_) => Self::Recognised,
            LostReply::StaysInDoubt | LostReply::IsCompared => Self::AtMostOnce,
        }
    }

    pub(crate) fn is_mutation(self) -> bool {
        match self {
            Self::Read => false,
            Self::Recognised | Self::AtMostOnce => true,
        }
    }

    fn is_repeatable(self) -> bool {
        match self {
            Self::Read | Self::Recognised => true,
            Self::AtMostOnce => false,
        }
    }
}

/// What an attempt may need to know of the attempts before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// How many attempts were made before this one.
    pub(crate) earlier: u32,
    /// Whether one of them was a mutation whose reply was lost.
    pub(crate) in_doubt: bool,
}

/// Makes attempts until one succeeds, or until another one is harmful, useless or too late. Returns the result
/// and the attempt that yielded it.
///
/// `is_futile`: whether it was found out meanwhile, elsewhere, that no attempt can succeed.
pub(crate) fn retry<T>(
    rule: RetryRule,
    options: &RedisOptions,
    budget: &TimeBudget,
    is_futile: impl Fn() -> bool,
    mut make: impl FnMut(Attempt) -> Result<T, Failure>,
) -> Result<(T, Attempt), Failure> {
    let mut attempt = Attempt::default();
    let mut backoff = Backoff::new(options.retry_delay, options.max_retry_delay, JITTER);
    loop {
        let failure = match make(attempt) {
            Ok(done) => return Ok((done, attempt)),
            Err(failure) => failure,
        };
        attempt.in_doubt |= rule.is_mutation() && failure.stage == Stage::InDoubt;
        let pause = backoff.next(fastrand::f64());
        let can_wait = budget.left().is_some_and(|left| left > pause);
        let may_retry = failure.may_be_retried(rule.is_repeatable())
            && attempt.earlier < options.max_retries
            && !is_futile();
        if !may_retry || !can_wait {
            // That this attempt was refused does not undo what an earlier one may have done.
            let stage = if attempt.in_doubt { Stage::InDoubt } else { failure.stage };
            return Err(Failure { stage, ..failure });
        }
        thread::sleep(pause);
        attempt.earlier += 1;
    }
}

/// Returns the error for a lost reply, if nobody can find out what the attempt did: there was no later attempt, or
/// its reply does not show it.
pub(crate) fn lost_reply() -> Error {
    let source = "the reply to an earlier attempt was lost, and it is not known what that attempt did";
    Error::in_doubt(source)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::backend::redis::failure::FailureKind;

    fn options() -> RedisOptions {
        RedisOptions { retry_delay: Duration::from_millis(1), max_retries: 2, ..RedisOptions::default() }
    }

    fn failure(kind: FailureKind, stage: Stage) -> Failure {
        Failure::new(kind, stage, "x")
    }

    /// Makes attempts that fail in this order and then succeed. Returns the outcome and the attempts made.
    fn attempts_at(
        rule: RetryRule,
        budget: Duration,
        futile: bool,
        failures: Vec<Failure>,
    ) -> (Result<Attempt, Failure>, Vec<Attempt>) {
        let (made, mut failures) = (RefCell::new(Vec::new()), failures.into_iter());
        let outcome = retry(
            rule,
            &options(),
            &TimeBudget::new(budget),
            || futile,
            |attempt| {
                made.borrow_mut().push(attempt);
                failures.next().map_or(Ok(()), Err)
            },
        );
        (outcome.map(|((), attempt)| attempt), made.into_inner())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_attempt_in_doubt_is_repeated_only_if_it_is_recognised() {
        for (rule, repeated, in_doubt) in [
            (RetryRule::Read, true, false),
            (RetryRule::Recognised, true, true),
            (RetryRule::AtMostOnce, false, true),
        ] {
            let lost = failure(FailureKind::Timeout, Stage::InDoubt);
            let (outcome, made) = attempts_at(rule, SECOND, false, vec![lost]);
            assert_eq!(outcome.is_ok(), repeated, "{rule:?}");
            let second = Attempt { earlier: 1, in_doubt };
            assert_eq!(made[1..], if repeated { vec![second] } else { Vec::new() }, "{rule:?}");
        }
    }

    #[test]
    fn a_refusal_does_not_undo_an_earlier_attempt() {
        let failures = || {
            vec![failure(FailureKind::Timeout, Stage::InDoubt), failure(FailureKind::Denied, Stage::Rejected)]
        };
        for (rule, stage) in [(RetryRule::Recognised, Stage::InDoubt), (RetryRule::Read, Stage::Rejected)] {
            let (outcome, _) = attempts_at(rule, SECOND, false, failures());
            let failure = outcome.unwrap_err();
            assert_eq!((failure.kind, failure.stage), (FailureKind::Denied, stage), "{rule:?}");
        }
    }

    #[test]
    fn attempts_end_with_their_number_or_their_time() {
        let busy = || (0..9).map(|_| failure(FailureKind::Busy, Stage::Rejected)).collect::<Vec<_>>();
        for (budget, futile, most) in [(SECOND, false, 3), (SECOND, true, 1), (Duration::ZERO, false, 1)] {
            let (outcome, made) = attempts_at(RetryRule::AtMostOnce, budget, futile, busy());
            assert_eq!(outcome.unwrap_err().kind, FailureKind::Busy);
            assert_eq!(made.len(), most, "{budget:?} {futile}");
        }
    }
}
