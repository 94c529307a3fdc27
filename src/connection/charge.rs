//! What frames cost of the member's limit of frames.
//!
//! A member who is sent messages answers each with marks, so others decide how many. So a mark costs a quarter of a frame.
//! What a frame is shows only when it is decoded, and refusing must not cost that: each is charged in full before, and what
//! marks have paid too much is good for later frames of the connection.

use crate::failure::Failure;

/// Parts of a frame in which is reckoned.
const FRAME: u8 = 4;
/// Parts that a mark has paid too much.
const MARK_OVERPAID: u8 = 3;

/// What a connection has paid too much. Less than two frames.
#[derive(Debug, Default)]
pub(super) struct Charge {
    credit: u8,
}

impl Charge {
    /// Charges a frame: to what was paid too much, if that is enough, else to the limit.
    ///
    /// # Errors
    /// What the limit says.
    pub(super) fn frame(&mut self, limit: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        match self.credit.checked_sub(FRAME) {
            Some(rest) => {
                self.credit = rest;
                Ok(())
            }
            None => limit(),
        }
    }

    /// The frame that was charged last was a mark.
    pub(super) fn was_mark(&mut self) {
        self.credit += MARK_OVERPAID;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of the limit so many frames cost.
    fn cost(charge: &mut Charge, frames: u32, mark: bool) -> u32 {
        let mut cost = 0;
        for _ in 0..frames {
            let limit = || {
                cost += 1;
                Ok(())
            };
            charge.frame(limit).unwrap();
            if mark {
                charge.was_mark();
            }
        }
        cost
    }

    #[test]
    fn four_marks_cost_as_much_as_a_frame() {
        let mut charge = Charge::default();
        assert_eq!(cost(&mut charge, 100, false), 100);
        let marks = cost(&mut charge, 4_000, true);
        assert!((1_000..=1_002).contains(&marks), "{marks}");
        assert_eq!(marks + cost(&mut charge, 10, false), 1_010, "nothing is lost, and nothing won");
        assert_eq!(cost(&mut charge, 10, false), 10);
    }
}
