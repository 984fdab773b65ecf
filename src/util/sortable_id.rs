//! Owns ids that sort by the time at which they were made. Knows nothing of the things that they name, nor of clocks.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;

use parking_lot::Mutex;

/// How many digits the time has, in milliseconds: enough until the year 2286.
const TIME_DIGITS: usize = 13;
const LATEST: u64 = 9_999_999_999_999;

/// How many characters the random part has, and how many bits each of them stands for.
const RANDOM_CHARACTERS: usize = 10;
const BITS: usize = 5;
const LAST_INDEX: u64 = (1 << BITS) - 1;
const RANDOM_PARTS: u64 = 1 << (RANDOM_CHARACTERS * BITS);

/// Base 32 without letters that look like digits. It sorts as the numbers do.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The largest step between the random parts of two ids of the same millisecond: a child of this process that was forked
/// in between takes another step.
const LARGEST_STEP: u64 = 1 << 32;

/// A time and a random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    millis: u64,
    random: u64,
}

/// The last id of this process.
static LAST: Mutex<Id> = Mutex::new(Id { millis: 0, random: 0 });

/// Returns an id that is greater than all that this process has made before, and that no other process makes.
///
/// It consists of the time, `now` in milliseconds since 1970, as 13 digits, a `-`, and 10 random characters. If the clock
/// stands still or goes back, the ids go on from the last one.
pub(crate) fn make_id(now: u64) -> String {
    let random = random();
    let mut last = LAST.lock();
    *last = last.next(now, random);
    let id = *last;
    drop(last);
    id.text()
}

/// Returns whether a text has the form of an id.
pub(crate) fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(millis, random)| {
        millis.len() == TIME_DIGITS
            && millis.bytes().all(|byte| byte.is_ascii_digit())
            && random.len() == RANDOM_CHARACTERS
            && random.bytes().all(|byte| ALPHABET.contains(&byte))
    })
}

/// Returns a number that differs in a forked process, although that continues with the same random numbers.
fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), Instant::now(), fastrand::u64(..)))
}

impl Id {
    fn next(self, now: u64, random: u64) -> Self {
        let now = now.min(LATEST);
        if now > self.millis {
            return Self { millis: now, random: random % RANDOM_PARTS };
        }
        let next = self.random + 1 + random % LARGEST_STEP;
        if next < RANDOM_PARTS {
            Self { random: next, ..self }
        } else {
            Self { millis: self.millis + 1, random: random % RANDOM_PARTS }
        }
    }

    fn text(self) -> String {
        let digit = |at: usize| {
            let index = u8::try_from((self.random >> (at * BITS)) & LAST_INDEX).unwrap_or_default();
            char::from(ALPHABET.get(usize::from(index)).copied().unwrap_or_default())
        };
        let random: String = (0..RANDOM_CHARACTERS).rev().map(digit).collect();
        format!("{:0TIME_DIGITS$}-{random}", self.millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_form() {
        let id = Id { millis: 1_760_000_000_000, random: 0 };
        assert_eq!(id.text(), "1760000000000-0000000000");
        assert_eq!(Id { random: RANDOM_PARTS - 1, ..id }.text(), "1760000000000-zzzzzzzzzz");
        assert_eq!(Id { millis: 7, random: 33 }.text(), "0000000000007-0000000011");
        assert!(is_id(&make_id(1_760_000_000_000)));
        for text in [
            "",
            "1760000000000",
            "1760000000000-",
            "1760000000000-000000000",
            "1760000000000-00000000000",
            "1760000000000-00000o0000",
            "1760000000000-000000000A",
            "176000000000-00000000000",
            "+760000000000-0000000000",
            "1760000000000-../../../x",
        ] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn ids_never_go_back_whatever_the_clock_does() {
        let mut last = Id { millis: 0, random: 0 };
        for now in [5, 5, 5, 4, 0, 6, 6, 2, u64::MAX, u64::MAX, 7] {
            for random in [0, 1, u64::MAX, 1 << 40] {
                let next = last.next(now, random);
                assert!(next > last && next.text() > last.text(), "{last:?} {next:?}");
                assert!(next.random < RANDOM_PARTS);
                last = next;
            }
        }
        let full = Id { millis: 5, random: RANDOM_PARTS - 1 };
        assert_eq!(full.next(5, 3), Id { millis: 6, random: 3 });
    }

    #[test]
    fn threads_make_different_ids_in_order() {
        let made = |_| {
            let ids: Vec<String> = (0..2000).map(|_| make_id(1)).collect();
            assert!(ids.is_sorted());
            ids
        };
        let threads: Vec<_> = (0..8).map(|at| std::thread::spawn(move || made(at))).collect();
        let mut ids: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8 * 2000);
    }
}
