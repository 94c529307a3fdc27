//! What follows from a change besides what is stored: connections close, others are told, a photo cannot be seen any more.
//!
//! All of it happens here, one [`Effect`] after the other, none of which waits for anything. What a crash may not lose is not an
//! effect but a job or a mail, which is stored with the change ([`crate::store::jobs`], [`crate::store::mail`]); [`Effect::DoJobs`] and
//! [`Effect::SendMail`] only make it happen soon. The
//! events of a conversation are not here: they follow from entries, in their order (`service::sequencer`).

use std::sync::Arc;

use protocol::{
    CloseCode, MemberId, PhotoName, ServerFrame, SessionId, model::MemberCard, rest::Audience, server::MemberPush,
};

use super::{
    album::Album, announcements::Announcements, events::Events, jobs::Jobs, kicks::Kicks, post::Post, views,
    watching::Watching,
};
use crate::{
    auth::Stale,
    cluster::{Channel, Uplink, event::Note},
    hub::{Close, Connection, Hub},
    store::members::MemberRecord,
    telemetry::Metrics,
};

/// Something that follows from a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Connections of a member close: those of one session, or all.
    Close {
        /// The member.
        member: MemberId,
        /// The session.
        session: Option<SessionId>,
        /// Why.
        code: CloseCode,
    },
    /// A session is over: what its access tokens still ask for is not charged to its member.
    EndSession(SessionId),
    /// The presence of a member is for others than before.
    SetAudience {
        /// The member.
        member: MemberId,
        /// The [`MemberRecord::version`] that says so.
        version: u64,
        /// For whom.
        audience: Audience,
    },
    /// The member's own devices are told of the profile.
    TellSelf(MemberCard),
    /// Those who watch a member or talk to them are told of the profile.
    TellOthers(MemberCard),
    /// A photo is its member's no more, and cannot be seen although its file may still be there.
    HidePhoto(MemberId, PhotoName),
    /// A photo is its member's again.
    ShowPhoto(MemberId, PhotoName),
    /// There is a job to be done.
    DoJobs,
    /// There is a mail to be sent.
    SendMail,
}

impl Effect {
    /// Its name, for the metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Close { .. } => "close",
            Self::EndSession(_) => "end_session",
            Self::SetAudience { .. } => "set_audience",
            Self::TellSelf(_) => "tell_self",
            Self::TellOthers(_) => "tell_others",
            Self::HidePhoto(..) => "hide_photo",
            Self::ShowPhoto(..) => "show_photo",
            Self::DoJobs => "do_jobs",
            Self::SendMail => "send_mail",
        }
    }
}

/// What follows from a change of a member's record; nothing if it is the same. When it is not known what was before, everybody
/// is told of everything.
#[must_use]
pub fn of_change(before: Option<&MemberRecord>, after: &MemberRecord) -> Vec<Effect> {
    if before.is_some_and(|before| before.version == after.version) {
        return Vec::new();
    }
    let (member, version, card) = (after.profile.id, after.version, views::card(after));
    let mut effects = vec![Effect::SetAudience { member, version, audience: after.profile.visibility.presence }];
    let (former, now) = (before.and_then(MemberRecord::photo), after.photo());
    if former != now {
        effects.extend(former.map(|photo| Effect::HidePhoto(member, photo)));
        effects.extend(now.map(|photo| Effect::ShowPhoto(member, photo)));
    }
    if former != now || before.is_none_or(|before| before.is_erased != after.is_erased) {
        effects.push(Effect::DoJobs);
    }
    if before.is_none_or(|before| visibly_differ(before, after)) {
        effects.push(Effect::TellOthers(card.clone()));
    }
    effects.push(Effect::TellSelf(card));
    effects
}

/// What follows from the end of a session: its connections close, and its access tokens spend nothing of its member's.
#[must_use]
pub const fn of_ended(member: MemberId, session: SessionId) -> [Effect; 2] {
    [Effect::EndSession(session), Effect::Close { member, session: Some(session), code: CloseCode::Unauthorized }]
}

/// Whether other members can see a difference. The time of the change alone is none.
fn visibly_differ(before: &MemberRecord, after: &MemberRecord) -> bool {
    let card = views::card(after);
    let (old, new) = (&before.profile, &after.profile);
    card != (MemberCard { updated_at: card.updated_at, ..views::card(before) })
        || old.shared_contact() != new.shared_contact()
        || old.shared_email() != new.shared_email()
}

/// Makes effects happen.
pub struct Effects {
    /// Connections.
    pub hub: Arc<Hub>,
    /// Sessions that are over although their tokens are not.
    pub stale: Arc<Stale>,
    /// Who may see the presence of whom.
    pub watching: Arc<Watching>,
    /// Tells the member's own devices.
    pub events: Events,
    /// Tells others.
    pub announcements: Arc<Announcements>,
    /// Photos.
    pub album: Arc<Album>,
    /// What is to be done though the process ends.
    pub jobs: Arc<Jobs>,
    /// Sends mail.
    pub post: Arc<Post>,
    /// Which orders to disconnect were heard of.
    pub kicks: Kicks,
    /// The way to other nodes.
    pub uplink: Uplink,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Effects {
    /// Makes effects happen, in their order. Never waits.
    pub fn apply(&self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            if !matches!(effect, Effect::Close { .. }) {
                self.metrics.effect(effect.name());
            }
            match effect {
                Effect::Close { member, session, code } => {
                    self.close(member, session, code);
                }
                Effect::EndSession(session) => self.stale.saw_end(session),
                Effect::SetAudience { member, version, audience } => {
                    self.watching.set_audience(member, version, audience);
                }
                Effect::TellSelf(card) => {
                    let (member, at) = (card.id, card.updated_at);
                    self.uplink.publish(Channel::Everybody, || Note::ProfileChanged { member, at }.into());
                    self.events.to_members(&[member], None, &ServerFrame::MemberPush(MemberPush { member: card }));
                }
                Effect::TellOthers(card) => self.announcements.submit(card),
                Effect::HidePhoto(member, photo) => self.album.hide(member, photo),
                Effect::ShowPhoto(member, photo) => self.album.show(member, photo),
                Effect::DoJobs => self.jobs.wake(),
                Effect::SendMail => self.post.wake(),
            }
        }
    }

    /// [`Effect::Close`], here and on every other node. Returns how many connections close here.
    pub fn close(&self, member: MemberId, session: Option<SessionId>, code: CloseCode) -> usize {
        let note = || Note::Close { session, code: code.number() }.into();
        self.uplink.publish(Channel::Member(member), note);
        self.close_here(member, session, code)
    }

    /// [`Effect::Close`] that another node has ordered, or this one. Returns how many connections close.
    pub fn close_here(&self, member: MemberId, session: Option<SessionId>, code: CloseCode) -> usize {
        if let Some(session) = session.filter(|_| code == CloseCode::Unauthorized) {
            self.stale.saw_end(session);
        }
        if code == CloseCode::Disconnected {
            self.kicks.hear(member);
        }
        self.metrics.effect(Effect::Close { member, session, code }.name());
        self.hub.close(member, session, Close::with(code))
    }

    /// [`Effect::Close`] for those connections of a member that are meant. Returns how many close.
    pub fn close_if(&self, member: MemberId, is_meant: impl Fn(&Connection) -> bool, code: CloseCode) -> usize {
        self.metrics.effect(Effect::Close { member, session: None, code }.name());
        self.hub.close_if(member, is_meant, Close::with(code))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{Timestamp, model::UserType};

    use super::*;
    use crate::store::{
        changes::{Change, ProfileEdit},
        members::NewMember,
    };

    const MEMBER: MemberId = MemberId::from_bytes([1; 12]);

    fn ana() -> MemberRecord {
        let created_at = Timestamp::from_millis(0);
        let (name, email, user_type) = ("Ana".to_owned(), "ana@example.com".to_owned(), UserType::Member);
        let (password_hash, language, must_verify) = (String::new(), None, false);
        NewMember { id: MEMBER, name, email, password_hash, user_type, created_at, language, must_verify }.into_record()
    }

    fn photo(byte: u8) -> PhotoName {
        PhotoName::from_bytes([byte; 32])
    }

    fn edited(before: &MemberRecord, edit: ProfileEdit) -> MemberRecord {
        let at = before.profile.updated_at.after(Duration::from_secs(1));
        Change::Profile { edit, expected: None }.apply(before, at).unwrap()
    }

    fn with_photo(before: &MemberRecord, url: Option<PhotoName>) -> MemberRecord {
        let url = url.map(|photo| photo.path());
        edited(before, ProfileEdit { profile_image_url: Some(url), ..ProfileEdit::default() })
    }

    fn names(before: Option<&MemberRecord>, after: &MemberRecord) -> Vec<&'static str> {
        of_change(before, after).iter().map(Effect::name).collect()
    }

    #[test]
    fn what_changes_nothing_has_no_effect() {
        assert_eq!(of_change(Some(&ana()), &ana()), []);
    }

    #[test]
    fn others_hear_of_what_they_can_see_and_the_member_of_everything() {
        let before = ana();
        let renamed = edited(&before, ProfileEdit { name: Some("Anna".to_owned()), ..ProfileEdit::default() });
        assert_eq!(names(Some(&before), &renamed), ["set_audience", "tell_others", "tell_self"]);
        // Nobody sees a phone number that is not shared.
        let unseen = edited(&before, ProfileEdit { phone: Some(Some("+1".to_owned())), ..ProfileEdit::default() });
        assert_eq!(names(Some(&before), &unseen), ["set_audience", "tell_self"]);
        let hidden = edited(&before, ProfileEdit { presence_to: Some(Audience::Nobody), ..ProfileEdit::default() });
        let set = Effect::SetAudience { member: MEMBER, version: 2, audience: Audience::Nobody };
        assert_eq!(of_change(Some(&before), &hidden).first(), Some(&set));
    }

    #[test]
    fn a_photo_is_hidden_when_it_goes_and_shown_when_it_comes_back() {
        let none = ana();
        let first = with_photo(&none, Some(photo(1)));
        let second = with_photo(&first, Some(photo(2)));
        let photos = |before: &MemberRecord, after: &MemberRecord| {
            let effects = of_change(Some(before), after);
            assert!(effects.contains(&Effect::DoJobs) && effects.contains(&Effect::TellOthers(views::card(after))));
            let is_photo = |effect: &Effect| matches!(effect, Effect::HidePhoto(..) | Effect::ShowPhoto(..));
            effects.into_iter().filter(is_photo).collect::<Vec<_>>()
        };
        let (hide, show) =
            (|byte| Effect::HidePhoto(MEMBER, photo(byte)), |byte| Effect::ShowPhoto(MEMBER, photo(byte)));
        assert_eq!(photos(&none, &first), [show(1)]);
        assert_eq!(photos(&first, &second), [hide(1), show(2)]);
        assert_eq!(photos(&second, &with_photo(&second, None)), [hide(2)]);
        let left = Change::Erase.apply(&second, Timestamp::from_millis(9)).unwrap();
        assert_eq!(photos(&second, &left), [hide(2)]);
    }

    #[test]
    fn when_it_is_not_known_what_was_before_everybody_is_told_and_jobs_are_looked_for() {
        assert_eq!(names(None, &ana()), ["set_audience", "do_jobs", "tell_others", "tell_self"]);
    }
}
