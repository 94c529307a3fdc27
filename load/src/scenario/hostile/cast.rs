//! Who plays what: which members of the club attack, are attacked, or only want to be left alone.

use std::{net::IpAddr, ops::Range, sync::Arc};

use crate::{seed::Letters, target::Account, trial::Needs};

/// Members who try all the time whether a member can connect and log in.
const PROBES: usize = 32;
/// Members who search.
pub(super) const SEARCHERS: usize = 10;
/// Members with devices that stop reading, and as many who write to them.
pub(super) const SLOW: usize = 6;
/// Members who upload pictures.
pub(super) const PHOTOGRAPHERS: usize = 8;
/// Members who watch one.
const WATCHERS: usize = 300;
/// Members who log out, or are deactivated, while their caller hangs up.
const LEAVERS: usize = 80;
/// Messages that one member has not read.
const UNREAD: u64 = 20_000;
/// Conversations of the member who reconnects in a storm, and messages in each: a full sync of half a megabyte.
const STORM: (usize, u64, usize) = (50, 20, 500);
/// Conversations of the member with made-up cursors, and messages in each: as much as one sync may have, 16 MB.
const FORGED: (usize, u64, usize) = (100, 10, 4_000);

/// Which members play what, by their numbers.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) probes: Range<usize>,
    /// One with much that is unread, and one who wrote it.
    pub(super) unread: Range<usize>,
    pub(super) stormer: Range<usize>,
    pub(super) pinger: Range<usize>,
    pub(super) refused: Range<usize>,
    pub(super) searchers: Range<usize>,
    pub(super) slow: Range<usize>,
    pub(super) writers: Range<usize>,
    pub(super) photographers: Range<usize>,
    pub(super) subject: Range<usize>,
    pub(super) watchers: Range<usize>,
    pub(super) forger: Range<usize>,
    /// Whom a stranger pesters.
    pub(super) pestered: Range<usize>,
    pub(super) leavers: Range<usize>,
    /// The rest of the club.
    pub(super) directory: Range<usize>,
    pub(super) admin: Range<usize>,
}

impl Layout {
    /// The first members are those who talk.
    pub(super) fn of(talkers: usize, directory: usize) -> Self {
        let mut next = talkers;
        let mut take = |count: usize| {
            next += count;
            next - count..next
        };
        Self {
            probes: take(PROBES),
            unread: take(2),
            stormer: take(1),
            pinger: take(1),
            refused: take(1),
            searchers: take(SEARCHERS),
            slow: take(SLOW),
            writers: take(SLOW),
            photographers: take(PHOTOGRAPHERS),
            subject: take(1),
            watchers: take(WATCHERS),
            forger: take(1),
            pestered: take(1),
            leavers: take(LEAVERS),
            // The conversations of some are with these.
            directory: take(directory.max(STORM.0.max(FORGED.0))),
            admin: take(1),
        }
    }

    /// What has to be there before: the members, and what they have written.
    pub(super) fn needs(&self) -> Needs {
        let text = |characters: usize, character: &str| character.repeat(characters);
        let letters = |from: usize, to: usize, count: u64, content: &str| {
            (from != to).then(|| Letters { from, to, count, content: content.to_owned() })
        };
        let mut all = Vec::new();
        all.extend(letters(self.unread.start + 1, self.unread.start, UNREAD, "are you there?"));
        let (long, longest) = (text(STORM.2, "x"), text(FORGED.2, "🦀"));
        let strangers = self.directory.clone();
        all.extend(
            strangers.clone().take(STORM.0).filter_map(|from| letters(from, self.stormer.start, STORM.1, &long)),
        );
        all.extend(strangers.take(FORGED.0).filter_map(|from| letters(from, self.forger.start, FORGED.1, &longest)));
        // Those who may watch somebody are those who talk to them.
        all.extend(self.watchers.clone().filter_map(|from| letters(from, self.subject.start, 1, "hello")));
        all.extend(
            self.subject
                .clone()
                .flat_map(|from| self.watchers.clone().filter_map(move |to| letters(from, to, 1, "hello"))),
        );
        all.extend(self.writers.clone().zip(self.slow.clone()).filter_map(|(from, to)| letters(from, to, 1, "hello")));
        Needs {
            members: self.admin.end,
            // The default: a login has to cost what it costs.
            bcrypt_cost: Some(12),
            administrators: self.admin.len(),
            letters: all,
            defaults: true,
            // So many that one address can take them all.
            settings: vec![("MAX_CONNECTIONS", MAX_CONNECTIONS.to_string())],
            ..Needs::default()
        }
    }
}

/// Connections that the server has room for.
pub(super) const MAX_CONNECTIONS: usize = 2_000;

/// The members, with what they play.
#[derive(Clone)]
pub(super) struct Cast {
    accounts: Arc<[Account]>,
    pub(super) layout: Layout,
}

impl Cast {
    pub(super) fn new(accounts: &[Account], layout: Layout) -> Self {
        Self { accounts: accounts.into(), layout }
    }

    /// Those who play this.
    pub(super) fn all(&self, role: &Range<usize>) -> &[Account] {
        self.accounts.get(role.clone()).unwrap_or_default()
    }

    /// The first who plays this.
    pub(super) fn one(&self, role: &Range<usize>) -> Result<Account, String> {
        self.all(role).first().cloned().ok_or_else(|| "a member is missing".to_owned())
    }
}

/// An address of an attacker, of many in a few networks: 127.0.0.2 to 127.0.0.250 first.
pub(super) fn attacker(number: usize) -> Option<IpAddr> {
    let (network, host) = (number / 249, number % 249 + 2);
    Some([127, 0, u8::try_from(network % 9).ok()?, u8::try_from(host).ok()?].into())
}

/// Networks of attackers without an account that share no /24 with others.
pub(super) const NETWORKS: usize = 12;

/// An address of an attacker in one of these networks: 127.50.0.1, 127.51.0.1 and so on.
pub(super) fn elsewhere(network: usize) -> Option<IpAddr> {
    Some([127, 50 + u8::try_from(network % NETWORKS).ok()?, 0, 1].into())
}

/// An address in a network of its own, as the home of a member has: there are 200 of each kind.
pub(super) fn home(kind: Kind, number: usize) -> Option<IpAddr> {
    Some([127, kind as u8, u8::try_from(number % 200).ok()?, 1].into())
}

/// Whose home it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Those who want to be left alone.
    Probe = 20,
    /// Those who watch.
    Watcher = 30,
    /// Those who attack with an account of their own.
    Member = 40,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_plays_two_parts_and_everybody_is_there() {
        let layout = Layout::of(50, 5_000);
        let needs = layout.needs();
        assert_eq!((layout.probes.start, layout.leavers.end), (50, layout.directory.start));
        assert_eq!((layout.admin.end, layout.directory.len()), (needs.members, 5_000));
        assert!(needs.letters.iter().all(|letters| letters.from.max(letters.to) < needs.members));
        // Nobody who only wants to be left alone has anything to do with it.
        assert!(needs.letters.iter().all(|letters| letters.from.min(letters.to) >= layout.probes.end));
    }

    #[test]
    fn homes_are_in_networks_of_their_own_and_attackers_share_theirs() {
        assert_eq!(home(Kind::Probe, 3), Some([127, 20, 3, 1].into()));
        assert_eq!((attacker(0), attacker(9)), (Some([127, 0, 0, 2].into()), Some([127, 0, 0, 11].into())));
        assert_eq!(attacker(249), Some([127, 0, 1, 2].into()));
        assert_eq!((elsewhere(0), elsewhere(11)), (Some([127, 50, 0, 1].into()), Some([127, 61, 0, 1].into())));
    }
}
