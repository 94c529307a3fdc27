//! Making a member: for who registers, and for the command that makes the first administrator.

use std::sync::Arc;

use protocol::{ErrorCode, model::UserType, rest::RegisterRequest, shown};

use crate::{
    auth::{Passwords, Source},
    clock::Clock,
    failure::Failure,
    ids::Ids,
    store::{
        MemberStore,
        changes::Actor,
        members::{EmailTaken, MemberRecord, NewMember},
    },
};

/// Makes members.
pub struct Enrolment {
    /// Members.
    pub members: Arc<dyn MemberStore>,
    /// Passwords.
    pub passwords: Passwords,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<Ids>,
}

impl Enrolment {
    /// Creates a member of any type.
    ///
    /// # Errors
    /// `email_taken`, `overloaded`, or the store.
    pub async fn create(
        &self,
        request: RegisterRequest,
        user_type: UserType,
        created_by: Option<Actor>,
        from: Source,
    ) -> Result<MemberRecord, Failure> {
        let RegisterRequest { name, email, password } = request;
        let member = NewMember {
            id: self.ids.member(),
            name: shown::normalized(name.trim()),
            email: email.trim().to_owned(),
            password_hash: self.passwords.hash(password, from).await?,
            user_type,
            created_at: self.clock.now(),
        };
        self.members.insert(member, created_by).await?.map_err(|EmailTaken| Failure::of(ErrorCode::EmailTaken))
    }
}
