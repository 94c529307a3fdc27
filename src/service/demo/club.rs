//! The club while it is made: each thing that happens, as the stores have it.

use std::collections::HashMap;

use protocol::{
    ConversationId, MemberId, Timestamp,
    model::UserType,
    rest::{Audience, SharedWith},
    shown,
};
use tokio_util::sync::CancellationToken;

use super::{Demo, DemoError, LOGINS, Step, missing, people::Person};
use crate::{
    service::{documents::from_key, messaging::direct_conversation},
    store::{
        changes::{Actor, Change, Changed, ProfileEdit},
        conversations::{Append, Appended, Command, Mark, NewConversation, Outcome},
        members::{EmailTaken, NewMember},
        turns::Caller,
    },
};

/// The club while it is made.
pub(super) struct Club<'a> {
    demo: &'a Demo,
    /// Who is there, in the order of the people.
    pub(super) ids: Vec<MemberId>,
    /// How far each conversation has got.
    said: HashMap<ConversationId, u64>,
    /// The hash of a password that nobody knows.
    nobodys: String,
    /// How many messages there are.
    pub(super) messages: usize,
}

impl<'a> Club<'a> {
    /// With nobody in it.
    pub(super) fn new(demo: &'a Demo, nobodys: String) -> Self {
        Self { demo, ids: Vec::new(), said: HashMap::new(), nobodys, messages: 0 }
    }

    /// Something happens.
    ///
    /// # Errors
    /// The store.
    pub(super) async fn take(&mut self, at: Timestamp, step: Step) -> Result<(), DemoError> {
        match step {
            Step::Join(person, role) => {
                let id = self.join(&person, role, at).await?;
                self.ids.push(id);
            }
            Step::Say { from, to, key, content } => {
                let [sender, receiver] = [self.id(from)?, self.id(to)?];
                let conversation = direct_conversation(sender, receiver);
                let create = Some(NewConversation::direct(sender, receiver));
                let message =
                    Append { conversation, create, sender, client_id: from_key(&key), content, reply_to: None };
                if let Outcome::Appended(Appended { message, .. }) = self.apply(Command::Append(message)).await? {
                    self.said.insert(conversation, message.seq);
                    self.messages += 1;
                }
            }
            Step::Read { member, other, kind } => {
                let member = self.id(member)?;
                let conversation = direct_conversation(member, self.id(other)?);
                let seq = self.said.get(&conversation).copied().unwrap_or_default();
                self.apply(Command::Mark(Mark { conversation, member, kind, seq })).await?;
            }
        }
        Ok(())
    }

    fn id(&self, number: usize) -> Result<MemberId, DemoError> {
        Ok(self.ids.get(number).copied().ok_or_else(missing)?)
    }

    async fn apply(&self, command: Command) -> Result<Outcome, DemoError> {
        let applied = self.demo.store.log.apply(vec![command]).await?;
        let outcome = applied.outcomes.into_iter().next().ok_or_else(missing)?;
        Ok(outcome?)
    }

    /// Somebody joins, unless they are there; with what they say about themselves.
    async fn join(&self, person: &Person, role: UserType, at: Timestamp) -> Result<MemberId, DemoError> {
        let members = &self.demo.store.members;
        if let Some(known) = members.by_email(Caller::System, &person.email()).await? {
            // The two who can be logged in as get a new password. Nobody else of a demo club has ever logged in: whoever has is somebody
            // who registered with an address of its people.
            let is_ours = if self.ids.len() < LOGINS {
                role == UserType::Member || known.profile.user_type == role
            } else {
                known.profile.last_login.is_none()
            };
            return if is_ours { Ok(known.profile.id) } else { Err(DemoError::InUse(known.profile.id)) };
        }
        let new = NewMember {
            id: self.demo.ids.member(),
            name: shown::normalized(&person.name()),
            email: person.email(),
            password_hash: self.nobodys.clone(),
            user_type: role,
            created_at: at,
            language: None,
            must_verify: false,
        };
        let made_by = (role == UserType::Admin).then(Actor::default);
        let joined = members.insert(new, made_by).await?.map_err(|EmailTaken| missing())?;
        let id = joined.profile.id;
        let text = |text: Option<&str>| text.map(|text| Some(text.to_owned()));
        let shares = person.phone().is_some();
        let edit = ProfileEdit {
            phone: person.phone().map(Some),
            company: text(person.company),
            position: text(person.position),
            email_to: Some(if shares { SharedWith::Members } else { SharedWith::Nobody }),
            phone_to: Some(if shares { SharedWith::Members } else { SharedWith::Nobody }),
            presence_to: Some(if shares { Audience::Members } else { Audience::Partners }),
            ..ProfileEdit::default()
        };
        let themselves = Actor::without_session(id, None);
        self.change(id, Change::Profile { edit, expected: None }, themselves, at).await?;
        self.change(id, Change::Tier(person.tier), Actor::default(), at).await?;
        Ok(id)
    }

    async fn change(&self, id: MemberId, change: Change, by: Actor, at: Timestamp) -> Result<(), DemoError> {
        let changed = self.demo.store.members.change(id, change, by, at, CancellationToken::new()).await?;
        match changed {
            Changed::Done { .. } => Ok(()),
            // Nothing of that can be: they have just joined, and nothing is taken from them.
            Changed::NotFound
            | Changed::Stale
            | Changed::LastAdmin
            | Changed::EmailTaken
            | Changed::GivenUp
            | Changed::Overtaken(_) => Err(missing().into()),
        }
    }
}
