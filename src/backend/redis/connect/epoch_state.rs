//! Owns what was observed of the epoch and of the count of writes, and what shows that the server has lost data. Does no
//! I/O, and knows nothing of commands.

use crate::backend::redis::connect::write_count::WriteCount;

/// What this store has observed so far. The replies to two probes may be read in another order than the server sent
/// them, so a reply can only contradict what was observed before its probe began.
#[derive(Default)]
pub(crate) struct EpochState {
    epoch: Option<Vec<u8>>,
    /// The highest count that was observed.
    count: Option<WriteCount>,
    doubt: Option<Doubt>,
    /// How many probes have begun, and how many had begun when the epoch was observed.
    probes: u64,
    probes_when_seen: u64,
    /// How many data losses were found.
    losses: u64,
    /// The data loss that nobody has taken yet.
    data_loss: Option<DataLoss>,
}

/// What shows that the server has lost data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataLoss {
    EpochGone,
    OtherEpoch,
    /// The server has gone back to an earlier state.
    Rollback,
}

impl DataLoss {
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::EpochGone => "the key __millpond:epoch is gone",
            Self::OtherEpoch => "the key __millpond:epoch has another value than before",
            Self::Rollback => "it has gone back to an earlier state",
        }
    }
}

/// The reply to the count of a write did not continue the count: the epoch says what that means.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// How many probes had begun: only the epoch that a later one reads can settle it.
    probes: u64,
    /// The count is lower than it was. Otherwise it is another count: the key was gone.
    is_rollback: bool,
}

/// A probe of the server that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochProbe {
    number: u64,
    /// How many data losses were found before it began.
    losses: u64,
    /// The highest count that was observed before it began, if there was an epoch: without one, nobody notices a loss.
    count: Option<WriteCount>,
}

impl EpochState {
    /// Begins a probe. Must be called before the command is sent.
    pub(crate) fn begin_probe(&mut self) -> EpochProbe {
        self.probes += 1;
        let count = self.count.filter(|_| self.epoch.is_some());
        EpochProbe { number: self.probes, losses: self.losses, count }
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    pub(crate) fn losses(&self) -> u64 {
        self.losses
    }

    pub(crate) fn has_data_loss(&self) -> bool {
        self.data_loss.is_some()
    }

    pub(crate) fn take_data_loss(&mut self) -> Option<DataLoss> {
        self.data_loss.take()
    }

    /// Notes what was read. Returns whether the count is lower than it was, which the server that takes the writes must
    /// confirm: a proxy may have let a replica reply.
    pub(crate) fn see(
        &mut self,
        probe: EpochProbe,
        epoch: Option<Vec<u8>>,
        count: Option<WriteCount>,
    ) -> bool {
        if probe.number <= self.probes_when_seen {
            return false;
        }
        match (&self.epoch, &epoch) {
            (Some(_), None) => self.note_loss(DataLoss::EpochGone, count),
            // Another client has noticed the rollback.
            (Some(before), Some(now)) if is_successor(before, now) => {
                self.note_loss(DataLoss::Rollback, count);
            }
            (Some(before), Some(now)) if before != now => self.note_loss(DataLoss::OtherEpoch, count),
            (_, _) => {}
        }
        self.epoch = epoch;
        self.probes_when_seen = self.probes;
        self.settle_doubt(probe);
        let Some(now) = count.filter(|_| probe.losses == self.losses) else {
            return false;
        };
        let is_lower = probe.count.is_some_and(|before| now.is_below(before));
        if !is_lower {
            self.raise_count(probe, now);
        }
        is_lower
    }

    /// Notes the count after a write that was counted.
    pub(crate) fn see_counted(&mut self, probe: EpochProbe, now: WriteCount) {
        if probe.losses != self.losses {
            return;
        }
        let before = probe.count.filter(|before| before.has_id());
        if before.is_some_and(|before| now.is_same_as(before) && !now.is_above(before)) {
            self.note_rollback(now);
            return;
        }
        let begins_again = before.is_some_and(|before| !now.is_same_as(before));
        if begins_again && !self.count.is_some_and(|count| now.is_same_as(count)) && self.doubt.is_none() {
            self.doubt = Some(Doubt { probes: self.probes, is_rollback: false });
        }
        self.raise_count(probe, now);
    }

    /// Notes the count that the server which takes the writes has.
    pub(crate) fn see_confirmed(&mut self, probe: EpochProbe, now: WriteCount) {
        if probe.losses == self.losses && probe.count.is_some_and(|before| now.is_below(before)) {
            self.note_rollback(now);
        }
    }

    /// Gives up the doubt about another count, now that a probe which began later was answered. A rollback stays.
    pub(crate) fn settle_doubt(&mut self, probe: EpochProbe) {
        self.doubt.take_if(|doubt| !doubt.is_rollback && probe.number > doubt.probes);
    }

    /// Notes the data loss if the count has shown a rollback, and returns the epoch that must be replaced. Until it is,
    /// no epoch is known, so that the same loss is not noticed twice.
    pub(crate) fn take_rollback(&mut self) -> Option<Vec<u8>> {
        self.doubt.filter(|doubt| doubt.is_rollback)?;
        self.note_loss(DataLoss::Rollback, self.count);
        self.epoch.take()
    }

    /// Notes the epoch that is stored after a rollback.
    pub(crate) fn note_replaced(&mut self, epoch: Vec<u8>) {
        self.epoch = Some(epoch);
        self.probes_when_seen = self.probes;
    }

    fn note_rollback(&mut self, now: WriteCount) {
        self.doubt = Some(Doubt { probes: self.probes, is_rollback: true });
        self.count = Some(now);
    }

    /// Notes a count that is no sign of a rollback. A reply that comes late does not lower the count, and brings no
    /// count back that has begun again since.
    fn raise_count(&mut self, probe: EpochProbe, now: WriteCount) {
        let is_newer = match self.count {
            Some(count) if now.is_same_as(count) => now.is_above(count),
            Some(count) => !count.has_id() || !probe.count.is_some_and(|before| now.is_same_as(before)),
            None => true,
        };
        if is_newer && !self.doubt.is_some_and(|doubt| doubt.is_rollback) {
            self.count = Some(now);
        }
    }

    /// `count`: what the server has counted now.
    fn note_loss(&mut self, loss: DataLoss, count: Option<WriteCount>) {
        self.data_loss = Some(loss);
        self.losses += 1;
        self.doubt = None;
        self.count = count;
    }
}

/// How many bytes of an epoch stay when it is replaced after a rollback.
const KEPT: usize = 16;

/// Returns the epoch that replaces another one after a rollback.
pub(crate) fn successor(before: &[u8], random: &[u8]) -> Vec<u8> {
    let kept = before.get(..KEPT).unwrap_or(before);
    [kept, random.get(KEPT..).unwrap_or_default()].concat()
}

/// Returns whether an epoch has replaced another one after a rollback.
fn is_successor(before: &[u8], now: &[u8]) -> bool {
    before != now && before.len() > KEPT && before.get(..KEPT) == now.get(..KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count with this id and so many writes.
    fn count(id: i64, writes: i64) -> WriteCount {
        WriteCount::from_number(id * 1_000_000_000_000 + writes)
    }

    fn epoch(text: &str) -> Vec<u8> {
        text.as_bytes().to_vec()
    }

    impl EpochState {
        /// Knows the epoch `a`, and a count with the id 7 of so many writes.
        fn counted(writes: i64) -> Self {
            let mut state = Self::default();
            let probe = state.begin_probe();
            state.see(probe, Some(epoch("a")), Some(count(7, writes)));
            assert!(!state.has_data_loss() && !state.is_in_doubt());
            state
        }

        /// Reads on a new connection; returns whether the count is lower than it was.
        fn reads(&mut self, text: &str, found: WriteCount) -> bool {
            let probe = self.begin_probe();
            self.see(probe, Some(epoch(text)), Some(found))
        }

        fn confirms(&mut self, now: WriteCount) {
            let probe = self.begin_probe();
            self.see_confirmed(probe, now);
        }

        fn counts(&mut self, now: WriteCount) {
            let probe = self.begin_probe();
            self.see_counted(probe, now);
        }
    }

    #[test]
    fn a_lower_count_is_a_rollback_that_is_reported_once() {
        let mut state = EpochState::counted(5);
        assert!(!state.reads("a", count(7, 5)));
        assert!(!state.reads("a", count(7, 9)), "others write too");
        assert!(state.reads("a", count(7, 8)));
        assert!(state.take_rollback().is_none(), "a replica may have replied");
        state.confirms(count(7, 8));
        assert_eq!(state.take_rollback(), Some(epoch("a")));
        assert_eq!(state.take_data_loss(), Some(DataLoss::Rollback));
        state.note_replaced(b"b".to_vec());
        state.counts(count(7, 10));
        assert!(!state.reads("b", count(7, 10)) && !state.has_data_loss() && !state.is_in_doubt());
    }

    #[test]
    fn an_older_reply_of_a_replica_is_no_rollback() {
        let mut state = EpochState::counted(5);
        assert!(state.reads("a", count(7, 3)));
        state.confirms(count(7, 5));
        assert!(state.take_rollback().is_none());
        assert!(state.reads("a", count(7, 4)), "the highest count is kept");
        assert!(!state.has_data_loss() && !state.is_in_doubt());
    }

    #[test]
    fn a_count_that_begins_again_beside_the_same_epoch_is_no_loss() {
        for other in [count(0, 1), count(6, 1), count(8, 1)] {
            let mut state = EpochState::counted(5);
            let early = state.begin_probe();
            state.counts(other);
            assert!(state.is_in_doubt());
            state.see(early, Some(epoch("a")), Some(other));
            assert!(state.is_in_doubt(), "that was read before");
            assert!(!state.reads("a", count(9, 0)));
            assert!(state.take_rollback().is_none() && !state.is_in_doubt() && !state.has_data_loss());
            state.counts(count(9, 1));
            assert!(!state.is_in_doubt());
        }
        let mut state = EpochState::counted(5);
        assert!(!state.reads("a", count(6, 0)));
        assert!(!state.has_data_loss());
    }

    #[test]
    fn a_count_that_begins_again_beside_another_epoch_is_one_loss() {
        let mut state = EpochState::counted(5);
        state.counts(count(0, 1));
        assert!(!state.has_data_loss() && state.is_in_doubt());
        state.reads("b", count(0, 1));
        assert_eq!(state.take_data_loss(), Some(DataLoss::OtherEpoch));
        state.counts(count(0, 2));
        assert!(!state.is_in_doubt(), "a count without an id is not compared");
        state.counts(count(8, 1));
        assert!(state.take_rollback().is_none() && !state.is_in_doubt());
    }

    #[test]
    fn a_rollback_that_another_client_has_noticed_is_reported_once() {
        let (old, new) = ("0123456789abcdef-old", "0123456789abcdef-new");
        assert_eq!(successor(old.as_bytes(), b"................-new"), new.as_bytes());
        let mut state = EpochState::default();
        state.reads(old, count(7, 5));
        state.counts(count(7, 3));
        assert!(!state.reads(new, count(7, 4)));
        assert_eq!(state.take_data_loss(), Some(DataLoss::Rollback));
        assert!(state.take_rollback().is_none() && !state.has_data_loss());
    }

    #[test]
    fn counts_that_are_read_in_another_order_are_no_rollback() {
        let mut state = EpochState::counted(5);
        let [early, late] = [state.begin_probe(), state.begin_probe()];
        state.see_counted(late, count(7, 7));
        state.see_counted(early, count(7, 6));
        assert!(!state.is_in_doubt());
        assert!(state.reads("a", count(7, 6)), "the higher one counts");
    }

    /// A write whose probe began early may reach the server late.
    #[test]
    fn a_higher_count_of_an_early_probe_is_no_rollback_for_a_later_one() {
        let mut state = EpochState::counted(5);
        let [first, second] = [state.begin_probe(), state.begin_probe()];
        state.see_counted(second, count(7, 6));
        let third = state.begin_probe();
        state.see_counted(first, count(7, 8));
        state.see_counted(third, count(7, 7));
        assert!(!state.is_in_doubt());
    }

    #[test]
    fn a_late_count_from_before_a_rollback_is_ignored() {
        let mut state = EpochState::counted(5);
        let late = state.begin_probe();
        state.counts(count(7, 3));
        assert!(state.take_rollback().is_some());
        state.note_replaced(b"b".to_vec());
        state.see_counted(late, count(7, 6));
        state.counts(count(7, 4));
        assert!(!state.is_in_doubt());
    }

    /// Each thread dials, and the first one to do so writes again.
    #[test]
    fn threads_that_notice_a_rollback_together_report_it_once() {
        let mut state = EpochState::counted(5);
        let [first, second, late] = [(); 3].map(|()| state.begin_probe());
        assert!(state.see(first, Some(epoch("a")), Some(count(7, 3))));
        // A reply from before the rollback is read late.
        state.see_counted(late, count(7, 6));
        state.see_confirmed(first, count(7, 3));
        assert!(state.take_rollback().is_some());
        state.counts(count(7, 4));
        assert!(!state.see(second, Some(epoch("a")), Some(count(7, 3))));
        state.see_confirmed(second, count(7, 4));
        state.note_replaced(b"b".to_vec());
        assert!(!state.reads("b", count(7, 4)) && !state.is_in_doubt());
        assert!(state.take_data_loss().is_some() && state.losses() == 1);
    }

    /// The writes of other threads are counted all the time.
    #[test]
    fn counts_hide_no_other_epoch() {
        let mut state = EpochState::counted(5);
        let probe = state.begin_probe();
        state.counts(count(7, 6));
        state.see(probe, Some(epoch("b")), Some(count(7, 6)));
        assert_eq!(state.take_data_loss(), Some(DataLoss::OtherEpoch));
    }

    #[test]
    fn without_an_epoch_no_count_shows_a_loss() {
        let mut state = EpochState::default();
        for writes in [5, 3] {
            state.counts(count(7, writes));
            let probe = state.begin_probe();
            assert!(!state.see(probe, None, Some(count(7, writes - 1))));
        }
        assert!(!state.is_in_doubt() && !state.has_data_loss());
    }
}
