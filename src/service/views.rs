//! What is stored, as clients see it, and what they want to change, as it is stored.

use protocol::{
    PhotoName, Timestamp,
    model::{Conversation, Entry, MemberCard, Message},
    rest::{
        AdminMember, ContactInfo, ContactInfoPatch, Invitation, Member, MemberPatch, MemberStatus, Profile, Visibility,
        VisibilityPatch,
    },
    server::ConversationSettingsPush,
    shown,
};

use crate::store::{
    changes::ProfileEdit,
    conversations::{Configured, ConversationState, StoredSettings},
    entries::{EntryBody, StoredEntry},
    invitations::InvitationRecord,
    members::{Contact, MemberRecord, Standing, StoredProfile, StoredVisibility},
};

/// An entry that is a message.
#[must_use]
pub fn message(entry: StoredEntry) -> Message {
    let StoredEntry { id, conversation, seq, sender, client_id, at, body, reply_to } = entry;
    let EntryBody::Text(content) = body;
    Message { id, conversation, seq, sender, client_id, content, at, reply_to }
}

/// An entry of any kind.
#[must_use]
pub fn entry(entry: StoredEntry) -> Entry {
    match entry.body {
        EntryBody::Text(_) => Entry::Message(message(entry)),
    }
}

/// A conversation with entries.
#[must_use]
pub fn conversation(state: ConversationState) -> Conversation {
    let ConversationState { id, kind, members, last_seq, unread, last_at, settings, entries } = state;
    let StoredSettings { settings, revision: settings_revision } = settings;
    Conversation {
        id,
        kind,
        members,
        last_seq,
        unread: unread.count,
        unread_more: unread.more,
        last_at,
        settings,
        settings_revision,
        entries: entries.into_iter().map(entry).collect(),
    }
}

/// What a member has set of a conversation.
#[must_use]
pub const fn settings(configured: &Configured) -> ConversationSettingsPush {
    let Configured { conversation, stored: StoredSettings { settings, revision }, .. } = *configured;
    ConversationSettingsPush { conversation, settings, revision }
}

fn contact_info(Contact { phone, company, position }: Contact) -> ContactInfo {
    ContactInfo { phone, company, position }
}

/// The picture that others are shown: a photo that was uploaded. An address of another host, as earlier versions took, would tell
/// that host who looks.
fn picture(profile: &StoredProfile) -> Option<String> {
    profile.profile_image_url.clone().filter(|url| PhotoName::from_url(url).is_some())
}

/// The whole record of a member, as they see themselves; nothing of a suspension that is over.
#[must_use]
pub fn member(profile: StoredProfile, now: Timestamp) -> Member {
    let StoredVisibility { email, phone, company, position, presence } = profile.visibility;
    Member {
        id: profile.id,
        name: profile.name,
        email: profile.email,
        tier: profile.tier,
        contact_info: contact_info(profile.contact),
        visibility: Visibility { email, phone, company, position, presence },
        profile_image_url: profile.profile_image_url,
        user_type: profile.user_type,
        created_at: profile.created_at,
        updated_at: profile.updated_at,
        last_login: profile.last_login,
        is_active: profile.is_active,
        suspended_until: profile.suspension.map(|suspension| suspension.until).filter(|until| now < *until),
        language: profile.language,
        email_verified_at: profile.email_verified_at,
    }
}

/// What administrators see of a member; nothing of a suspension that is over.
#[must_use]
pub fn administered(record: MemberRecord, now: Timestamp, connections: u32, partial: bool) -> AdminMember {
    let MemberRecord { profile, second_factor, .. } = record;
    let suspension = profile.suspension.as_ref().filter(|suspension| now < suspension.until);
    AdminMember {
        status: status(profile.standing(now)),
        suspension_reason: suspension.and_then(|suspension| suspension.reason.clone()),
        invited_by: profile.invited.map(|invited| invited.by),
        invitation_id: profile.invited.map(|invited| invited.invitation),
        second_factor: second_factor.is_some(),
        connections,
        connections_partial: partial,
        member: member(profile, now),
    }
}

/// Whether a member may sign in, for administrators.
#[must_use]
pub const fn status(standing: Standing) -> MemberStatus {
    match standing {
        Standing::Active => MemberStatus::Active,
        Standing::Suspended(_) => MemberStatus::Suspended,
        Standing::Deactivated => MemberStatus::Deactivated,
        Standing::Pending => MemberStatus::Pending,
        Standing::Unverified => MemberStatus::Unverified,
    }
}

/// An invitation, without its code.
#[must_use]
pub fn invitation(record: InvitationRecord, now: Timestamp) -> Invitation {
    let is_open = record.is_open(now);
    let InvitationRecord { id, tier, uses, used, created_by, created_at, expires_at, revoked_at, note, .. } = record;
    Invitation { id, tier, uses, used, created_by, created_at, expires_at, revoked_at, note, is_open }
}

/// What a member and the administrators see of a profile.
#[must_use]
pub fn whole(profile: &StoredProfile) -> Profile {
    Profile {
        id: profile.id,
        name: profile.name.clone(),
        email: Some(profile.email.clone()),
        tier: profile.tier,
        contact_info: contact_info(profile.contact.clone()),
        profile_image_url: picture(profile),
        user_type: profile.user_type,
        created_at: profile.created_at,
        updated_at: profile.updated_at,
        is_active: profile.is_active,
    }
}

/// What another member sees of it.
#[must_use]
pub fn shared(profile: &StoredProfile) -> Profile {
    let contact_info = contact_info(profile.shared_contact());
    Profile { email: profile.shared_email(), contact_info, ..whole(profile) }
}

/// What goes with everything that a member does.
#[must_use]
pub fn card(MemberRecord { profile, .. }: &MemberRecord) -> MemberCard {
    MemberCard {
        id: profile.id,
        name: profile.name.clone(),
        tier: profile.tier,
        profile_image_url: picture(profile),
        user_type: profile.user_type,
        is_active: profile.is_active,
        updated_at: profile.updated_at,
    }
}

/// What a client wants to change of a profile, checked.
#[must_use]
pub fn edit(patch: MemberPatch) -> ProfileEdit {
    let MemberPatch { name, contact_info, visibility, profile_image_url, language, email: _ } = patch;
    let ContactInfoPatch { phone, company, position } = contact_info.unwrap_or_default();
    let VisibilityPatch { email, phone: phone_to, company: company_to, position: position_to, presence } =
        visibility.unwrap_or_default();
    let normalized = |value: Option<Option<String>>| value.map(|value| value.map(|value| shown::normalized(&value)));
    ProfileEdit {
        name: name.map(|name| shown::normalized(name.trim())),
        phone: normalized(phone),
        company: normalized(company),
        position: normalized(position),
        profile_image_url: normalized(profile_image_url),
        email_to: email,
        phone_to,
        company_to,
        position_to,
        presence_to: presence,
        language,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{
        ClientMessageId, ConversationId, MemberId, MessageId, Timestamp,
        model::{ConversationKind, Watermarks},
        size::{conversation_bytes, entry_bytes},
    };

    use super::*;
    use crate::store::conversations::UnreadCount;

    /// A store fills pages by what they will have on the wire.
    #[test]
    fn what_is_stored_is_as_large_as_what_clients_see_of_it() {
        let (id, member, at) =
            (ConversationId::from_bytes([1; 12]), MemberId::from_bytes([2; 12]), Timestamp::from_millis(0));
        let stored = |content: &str| StoredEntry {
            id: MessageId::from_bytes([3; 12]),
            conversation: id,
            seq: 1,
            sender: member,
            client_id: ClientMessageId::from_bytes([4; 16]),
            at,
            body: EntryBody::Text(content.to_owned()),
            reply_to: None,
        };
        let entries = ["", "plain", "\u{1}\"é😀\n"].map(stored);
        for one in &entries {
            assert_eq!(entry_bytes(&entry(one.clone())), one.bytes());
        }
        let members = vec![Watermarks { member, delivered: 1, read: 1 }; 3];
        let (kind, unread, entries) = (ConversationKind::Direct, UnreadCount::default(), entries.to_vec());
        let settings = StoredSettings::default();
        let state = ConversationState { id, kind, members, last_seq: 1, unread, last_at: at, settings, entries };
        assert_eq!(conversation_bytes(&conversation(state.clone())), state.bytes());
    }
}
