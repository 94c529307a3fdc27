//! Who talks with whom.

/// The conversations of a run, and the members in each. Every member has nearly the same number of them.
///
/// The first ones are pairs of neighbours, so that few conversations are pairs who talk with nobody else. Further ones join
/// each member to the next one, to the one after that, and so on (a circulant graph), until everybody talks with everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Graph {
    members: usize,
    conversations: usize,
}

/// A conversation, from the side of one of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acquaintance {
    /// The number of the conversation.
    pub(crate) conversation: usize,
    /// 0 or 1: which of its two members this one is.
    pub(crate) side: usize,
    /// The number of the other member.
    pub(crate) other: usize,
}

impl Graph {
    /// Pairs of members, in so many conversations altogether; there are more members when these have not so many pairs.
    /// Nobody is without a conversation, so that there are at least as many as pairs.
    pub(crate) fn new(pairs: usize, conversations: Option<usize>) -> Self {
        let conversations = conversations.unwrap_or(pairs).max(pairs);
        let mut members = pairs * 2;
        while members * members.saturating_sub(1) / 2 < conversations {
            members += 2;
        }
        Self { members, conversations }
    }

    /// How many members there are.
    pub(crate) const fn members(&self) -> usize {
        self.members
    }

    /// How many conversations there are.
    pub(crate) const fn conversations(&self) -> usize {
        self.conversations
    }

    /// The numbers of the two members of a conversation.
    pub(crate) const fn ends(&self, conversation: usize) -> (usize, usize) {
        let half = self.members / 2;
        if conversation < half {
            return (conversation * 2, conversation * 2 + 1);
        }
        let (place, distance) = if conversation < self.members {
            ((conversation - half) * 2 + 1, 1)
        } else {
            (conversation % self.members, conversation / self.members + 1)
        };
        (place, (place + distance) % self.members)
    }

    /// The conversations of each member, ascending by their number.
    pub(crate) fn acquaintances(&self) -> Vec<Vec<Acquaintance>> {
        let mut of_members = vec![Vec::new(); self.members];
        for conversation in 0..self.conversations {
            let (one, other) = self.ends(conversation);
            for (side, (me, other)) in [(one, other), (other, one)].into_iter().enumerate() {
                if let Some(mine) = of_members.get_mut(me) {
                    mine.push(Acquaintance { conversation, side, other });
                }
            }
        }
        of_members
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn by_default_members_are_pairs() {
        let graph = Graph::new(3, None);
        assert_eq!((graph.members(), graph.conversations()), (6, 3));
        let pairs: Vec<_> = (0..3).map(|conversation| graph.ends(conversation)).collect();
        assert_eq!(pairs, [(0, 1), (2, 3), (4, 5)]);
    }

    #[test]
    fn no_two_conversations_have_the_same_members_and_everybody_has_as_many() {
        for (pairs, conversations) in [(1, 1), (2, 5), (3, 15), (4, 13), (5, 45), (10, 60), (10, 77), (200, 4_321)] {
            let graph = Graph::new(pairs, Some(conversations));
            assert_eq!((graph.members(), graph.conversations()), (pairs * 2, conversations));
            let sorted = |(one, other): (usize, usize)| (one.min(other), one.max(other));
            let ends: HashSet<_> = (0..conversations).map(|number| sorted(graph.ends(number))).collect();
            assert_eq!(ends.len(), conversations, "{graph:?}");
            assert!(ends.iter().all(|(one, other)| one < other && *other < graph.members()), "{graph:?}");
            let counts: Vec<_> = graph.acquaintances().iter().map(Vec::len).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least >= 1 && most - least <= 2, "{graph:?}: {least} to {most}");
            assert_eq!(counts.iter().sum::<usize>(), conversations * 2);
        }
    }

    #[test]
    fn there_are_as_many_members_as_it_takes() {
        let graph = Graph::new(200, Some(200_000));
        assert_eq!(graph.members(), 634);
        assert_eq!(Graph::new(200, Some(79_800)).members(), 400);
    }

    #[test]
    fn both_sides_see_the_same_conversation() {
        let graph = Graph::new(4, Some(17));
        let all = graph.acquaintances();
        for (me, mine) in all.iter().enumerate() {
            for one in mine {
                let theirs = all[one.other].iter().find(|theirs| theirs.conversation == one.conversation).unwrap();
                assert_eq!((theirs.other, theirs.side), (me, 1 - one.side));
            }
        }
    }
}
