//! What the clock of the database shows, beat by beat, against the time that passes here.
//!
//! The argument of [`super::horizon`] needs a clock that does not go back by more than [`SKEW`] behind what cursors were
//! made from. No clock promises that, so each beat is compared with the one before it. Our own monotonic clock says how
//! much time has passed between the two, to within the time that the beats themselves took:
//!
//! - A clock that runs *ahead* of that is not followed: what cursors are made from grows with our own time. If the clock
//!   comes back, nothing has happened; if it stays where it is for [`HOLD`], it is believed.
//! - At the first beat of a node nothing of ours has passed yet. Where others have made cursors before, it is not followed further than
//!   [`FIRST`] beyond those, until it has stayed there for [`HOLD`]: it may be ahead, or there was nobody for so long.
//! - A clock that has gone *back* so far that new changes may have stamps which cursors have passed is reported, with the
//!   last position that is still good. The answer to it is a new epoch ([`crate::store::epochs`]).
//!
//! A step there and back again between two beats cannot be seen, and neither can one that is smaller than what two beats
//! took; what is left of [`SKEW`] beside [`ALLOWANCE`] is for those.

use std::time::Duration;

/// How far cursors lie behind the clock for the sake of clocks that go back, in milliseconds.
pub(super) const SKEW: u64 = 3_000;
/// How far the clock may go back without further ado, in milliseconds: the clocks of the servers of one replica set
/// differ a little, and one takes over from the other.
const ALLOWANCE: u64 = 2_000;
/// How far the clock is followed at the first beat of a node, in milliseconds: as old as what another one has recorded may be. Less than
/// [`ALLOWANCE`], so that its way back is none.
const FIRST: u64 = ALLOWANCE / 2;
/// How long a clock that jumped ahead is not followed.
pub(super) const HOLD: Duration = Duration::from_secs(60);

/// A beat: what the clock of the database showed, in milliseconds, at some moment between two of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) at: u64,
    /// Our monotonic time when we asked.
    pub(super) asked: Duration,
    /// Our monotonic time when the answer was there.
    pub(super) answered: Duration,
}

/// What a beat tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Cursors are made from this time.
    Good(u64),
    /// The clock is so many milliseconds ahead, and not followed; cursors are made from this time.
    Ahead { by: u64, believed: u64 },
    /// The clock is so far from what others had recorded when this node came that it may be ahead, and is not followed; cursors are made
    /// from this time.
    Unsure(u64),
    /// The clock went back by about so many milliseconds: changes may have got positions after `end` that cursors
    /// have passed.
    Back { by: u64, end: u64 },
}

/// The beats of one node in one epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct Beats {
    last: Option<Beat>,
    /// What cursors are made from; 0 before the first beat.
    believed: u64,
    /// What the clock is taken to have shown at the last beat. More than what cursors are made from only in an epoch of
    /// another node, whose beat was a while before ours.
    shown: u64,
    /// Since when the clock has been ahead.
    ahead_since: Option<Duration>,
    /// It was ahead at the first beat, or nobody was there for a while.
    unsure: bool,
}

impl Beats {
    /// Begins anew, in an epoch in which cursors were made from times up to `believed`; with the latest beat and what the
    /// clock is taken to have shown at it, if there was one.
    pub(super) fn in_epoch(believed: u64, last: Option<(Beat, u64)>) -> Self {
        let (last, shown) = last.unzip();
        Self { last, believed, shown: shown.unwrap_or(0), ahead_since: None, unsure: false }
    }

    /// Takes a beat.
    pub(super) fn take(&mut self, beat: Beat) -> Finding {
        let finding = self.judge(beat);
        self.shown = self.believed;
        finding
    }

    fn judge(&mut self, beat: Beat) -> Finding {
        let last = self.last.replace(beat);
        // What the clock may have shown at the lowest since the last beat: if it went back, then just after that.
        let lowest = beat.at.saturating_sub(longest(last, beat));
        let behind = last.map_or(0, |last| lag(last, beat));
        let shown = if behind > tolerance(last, beat) { lowest } else { beat.at };
        if shown < self.believed.saturating_sub(ALLOWANCE) {
            let by = behind.max(self.believed.saturating_sub(beat.at));
            return Finding::Back { by, end: lowest.saturating_sub(SKEW) };
        }
        let reachable = match last {
            // The first of all.
            None if self.believed == 0 => beat.at,
            None => self.believed.saturating_add(FIRST),
            Some(last) => {
                let from = self.believed.max(self.shown);
                from.saturating_add(longest(Some(last), beat)).saturating_add(tolerance(Some(last), beat))
            }
        };
        if beat.at <= reachable {
            (self.ahead_since, self.unsure) = (None, false);
            self.believed = self.believed.max(beat.at);
            return Finding::Good(self.believed);
        }
        let since = *self.ahead_since.get_or_insert(beat.answered);
        if beat.answered.saturating_sub(since) >= HOLD {
            (self.ahead_since, self.unsure) = (None, false);
            self.believed = beat.at;
            return Finding::Good(self.believed);
        }
        self.believed = reachable;
        self.unsure |= last.is_none();
        if self.unsure {
            return Finding::Unsure(reachable);
        }
        Finding::Ahead { by: beat.at - reachable, believed: reachable }
    }
}

/// By how much the clock has moved less than the least time that can have passed.
fn lag(last: Beat, beat: Beat) -> u64 {
    let shortest = millis(beat.asked.saturating_sub(last.answered));
    last.at.saturating_add(shortest).saturating_sub(beat.at)
}

/// The most time that can have passed between two beats.
fn longest(last: Option<Beat>, beat: Beat) -> u64 {
    last.map_or(0, |last| millis(beat.answered.saturating_sub(last.asked)))
}

/// What two clocks that are right may drift apart meanwhile (twice what NTP slews), and what rounding costs.
fn tolerance(last: Option<Beat>, beat: Beat) -> u64 {
    longest(last, beat) / 1_000 + 2
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// When the clocks of these tests start.
    const START: u64 = 1_000_000;

    /// A beat at a time of ours, by a clock that is off by so much, answered at once.
    fn beat(ours: u64, off: i64) -> Beat {
        let now = Duration::from_millis(ours);
        Beat { at: (START + ours).checked_add_signed(off).unwrap(), asked: now, answered: now }
    }

    #[test]
    fn a_clock_that_runs_with_ours_is_believed() {
        let mut beats = Beats::default();
        for second in 0..100 {
            assert_eq!(beats.take(beat(second * 1000, 0)), Finding::Good(START + second * 1000));
        }
    }

    #[test]
    fn a_step_back_by_30_seconds_is_found_at_the_next_beat() {
        let mut beats = Beats::default();
        beats.take(beat(0, 0));
        let Finding::Back { by, end } = beats.take(beat(1000, -30_000)) else { panic!() };
        assert_eq!(by, 30_000);
        assert!(end <= START - 30_000 - SKEW, "what was stamped just after the step is after the end");
    }

    #[test]
    fn a_step_back_while_the_database_was_away_is_found_although_the_clock_has_overtaken_the_last_beat() {
        let mut beats = Beats::default();
        beats.take(beat(0, 0));
        assert!(matches!(beats.take(beat(60_000, -30_000)), Finding::Back { by: 30_000.., .. }));
    }

    #[test]
    fn ahead_by_12_seconds_and_back_moves_nothing() {
        let mut beats = Beats::default();
        beats.take(beat(0, 0));
        for second in 1..12 {
            let Finding::Ahead { by, believed } = beats.take(beat(second * 1000, 12_000)) else { panic!() };
            assert!((11_000..=12_000).contains(&by) && believed <= START + second * 1000 + 100, "{by} {believed}");
        }
        let Finding::Good(believed) = beats.take(beat(12_000, 0)) else { panic!() };
        assert!(believed <= START + 12_100);
    }

    #[test]
    fn a_clock_that_stays_ahead_is_believed_in_the_end_and_its_way_back_is_found() {
        let mut beats = Beats::default();
        beats.take(beat(0, 0));
        let findings: Vec<_> = (1..=62).map(|second| beats.take(beat(second * 1000, 12_000))).collect();
        assert!(matches!(findings[58], Finding::Ahead { .. }) && matches!(findings[60], Finding::Good(_)));
        assert!(matches!(beats.take(beat(63_000, 0)), Finding::Back { .. }));
    }

    #[test]
    fn a_server_that_takes_over_with_a_clock_a_little_behind_changes_nothing() {
        let mut beats = Beats::default();
        beats.take(beat(0, 0));
        assert_eq!(beats.take(beat(1000, -1_900)), Finding::Good(START));
        assert_eq!(beats.take(beat(2000, -1_900)), Finding::Good(START + 100));
    }

    #[test]
    fn a_node_that_starts_on_a_clock_behind_what_the_epoch_has_told_finds_it() {
        assert!(matches!(Beats::in_epoch(START, None).take(beat(0, -30_000)), Finding::Back { .. }));
        assert_eq!(Beats::in_epoch(START, None).take(beat(1000, 0)), Finding::Good(START + 1000));
    }

    /// Found by a reviewer: a node that started while the clock was ahead believed it, and when it came back all had to sync in full.
    #[test]
    fn a_node_that_starts_on_a_clock_that_is_ahead_does_not_follow_it_and_its_way_back_is_none() {
        let mut beats = Beats::in_epoch(START, None);
        for second in 1..9 {
            let Finding::Unsure(believed) = beats.take(beat(second * 1000, 9_000)) else { panic!() };
            assert!(believed <= START + FIRST + second * 1000, "{believed}");
        }
        assert_eq!(beats.take(beat(9_000, 0)), Finding::Good(START + 9_000));
        // After a pause that was as long it stays there, and is believed in the end.
        let mut beats = Beats::in_epoch(START, None);
        let findings: Vec<_> = (0..=61).map(|second| beats.take(beat(second * 1000, 9_000))).collect();
        assert!(matches!(findings[59], Finding::Unsure(_)));
        assert_eq!(findings[61], Finding::Good(START + 61_000 + 9_000));
    }

    /// What the other node recorded is as old as its beat, and cursors are made from that. The clock did not jump.
    #[test]
    fn going_on_in_the_epoch_of_another_node_is_no_jump() {
        let (others, ours) = (beat(700, 0), beat(1000, 0));
        let mut beats = Beats::in_epoch(others.at, Some((ours, ours.at)));
        assert_eq!(beats.take(beat(2000, 0)), Finding::Good(START + 2000));
        // What was ahead then is not believed now.
        let ours = beat(3000, 12_000);
        let mut beats = Beats::in_epoch(others.at, Some((ours, START + 3000)));
        assert!(matches!(beats.take(beat(4000, 12_000)), Finding::Ahead { .. }));
    }

    /// While the database stands still, the beat that waits for it waits; so does the one after a beat that was late.
    #[test]
    fn the_time_that_a_beat_has_waited_is_no_jump() {
        let late = |asked: u64, shown: u64, answered: u64| Beat {
            at: START + shown,
            asked: Duration::from_millis(asked),
            answered: Duration::from_millis(answered),
        };
        let mut beats = Beats::default();
        for beat in
            [late(0, 1, 2), late(1_000, 21_000, 21_001), late(21_001, 21_400, 30_000), late(30_000, 30_001, 30_001)]
        {
            assert_eq!(beats.take(beat), Finding::Good(beat.at));
        }
    }

    proptest! {
        /// Whatever the clock does from beat to beat, however long beats take: while nothing is found, no change gets a
        /// stamp that a cursor has passed. A change is stamped at any moment, also just after a step.
        #[test]
        fn nothing_is_stamped_behind_a_cursor_unless_it_is_found(
            steps in prop::collection::vec((1_u64..5_000, 0_u64..400, -40_000_i64..40_000, any::<bool>()), 1..60),
        ) {
            let mut beats = Beats::default();
            let (mut ours, mut off) = (0_u64, 100_000_i64);
            for (pause, latency, step, steps_now) in steps {
                let passed = beats.believed;
                // The clock steps right after the last beat, and a change is stamped at that moment.
                if steps_now {
                    off += step;
                }
                let stamp = (START + ours).saturating_add_signed(off);
                let asked = ours + pause;
                let shown = asked + latency / 2;
                ours = asked + latency;
                let beat = Beat {
                    at: (START + shown).saturating_add_signed(off),
                    asked: Duration::from_millis(asked),
                    answered: Duration::from_millis(ours),
                };
                match beats.take(beat) {
                    Finding::Back { end, .. } => {
                        prop_assert!(end < stamp, "{end} is still good, and a change has {stamp}");
                        beats = Beats::in_epoch(beat.at, Some((beat, beat.at)));
                    }
                    // Cursors lie SKEW and more behind what is believed.
                    Finding::Good(_) | Finding::Unsure(_) | Finding::Ahead { .. } => {
                        prop_assert!(stamp + SKEW + 10 >= passed, "{stamp} is behind {passed}");
                    }
                }
            }
        }
    }
}
