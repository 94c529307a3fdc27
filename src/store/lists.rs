//! Which of a member's conversations a list has.

use crate::position::Position;

/// Of how many conversations it is found out for one page at most whether something in them is unread. Each costs SQLite two look-ups and up to 31 steps,
/// MongoDB one look-up.
pub const LIST_LOOKED: usize = 1_000;

/// Which conversations a list has. Of several conditions all must be true; without any it has all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those that the member has archived, or only those that they have not.
    pub archived: Option<bool>,
    /// Only those that the member has at the top of the list, or only those that they have not.
    pub pinned: Option<bool>,
    /// Only those with messages of others after what the member has read, or only those without.
    pub unread: Option<bool>,
}

impl ListFilter {
    /// Whether only conversations count that have an entry after what the member has read: where there is none, nothing is unread.
    pub(super) fn wants_unread(self) -> bool {
        self.unread == Some(true)
    }
}

/// Chooses the conversations of a page by whether something in them is unread, in the order of the list.
#[derive(Debug)]
pub(super) struct Choice<T> {
    unread: bool,
    limit: usize,
    chosen: Vec<T>,
    looked: usize,
    /// The place of the last one that was looked at.
    last: Option<Position>,
    stopped: Option<Position>,
}

impl<T> Choice<T> {
    /// None yet, of those with something unread or of those without, for a page of `limit`.
    pub(super) const fn new(unread: bool, limit: usize) -> Self {
        Self { unread, limit, chosen: Vec::new(), looked: 0, last: None, stopped: None }
    }

    /// Whether a further conversation is looked at. To be asked before each one that there is.
    pub(super) fn goes_on(&mut self) -> bool {
        // One more than the page has says that there is a further page.
        if self.chosen.len() > self.limit {
            return false;
        }
        if self.looked >= LIST_LOOKED {
            self.stopped = self.last;
            return false;
        }
        self.looked += 1;
        true
    }

    /// The next conversation, its place, and whether something in it is unread.
    pub(super) fn look(&mut self, place: Position, has_unread: bool, conversation: T) {
        self.last = Some(place);
        if has_unread == self.unread {
            self.chosen.push(conversation);
        }
    }

    /// Those of the page, with one more if there is one; and where it stopped, if it did before it had these and before the end.
    pub(super) fn into_chosen(self) -> (Vec<T>, Option<Position>) {
        (self.chosen, self.stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of those that are chosen of so many, of which every `each`th has something unread.
    fn choose(unread: bool, limit: usize, count: usize, each: usize) -> (Vec<usize>, Option<Position>) {
        let mut choice = Choice::new(unread, limit);
        for number in 1..=count {
            if !choice.goes_on() {
                break;
            }
            choice.look(Position((10_000 - number) as u64), number % each == 0, number);
        }
        choice.into_chosen()
    }

    #[test]
    fn a_page_and_one_more_are_chosen_and_no_more_is_looked_at() {
        assert_eq!(choose(true, 2, 100, 10), (vec![10, 20, 30], None));
        assert_eq!(choose(false, 2, 100, 2), (vec![1, 3, 5], None));
        assert_eq!(choose(true, 10, 100, 30), (vec![30, 60, 90], None), "all that there are");
        assert_eq!(choose(true, 10, 0, 1), (vec![], None));
    }

    #[test]
    fn where_it_stops_the_next_page_begins() {
        let at = |number: usize| Some(Position((10_000 - number) as u64));
        assert_eq!(choose(true, 10, LIST_LOOKED, 400), (vec![400, 800], None), "there are no more");
        assert_eq!(choose(true, 10, LIST_LOOKED + 1, 400), (vec![400, 800], at(LIST_LOOKED)));
        assert_eq!(choose(true, 10, LIST_LOOKED + 1, LIST_LOOKED + 1), (vec![], at(LIST_LOOKED)));
        // Full with the last one that is looked at: the page says where the next one begins.
        assert_eq!(choose(true, 1, LIST_LOOKED + 1, LIST_LOOKED / 2), (vec![500, 1_000], None));
    }
}
