//! The photo of a member: uploading it, removing it, looking at it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::body::Bytes;
use protocol::{ErrorCode, MemberId, PhotoName, rest::Member};

use super::{
    accounts::Authorized,
    album::{self, Album},
    decisions::until_known,
    jobs::Jobs,
    profiles::{Profiles, may_change},
    slots::{Slot, Slots},
    views,
};
use crate::{
    failure::Failure,
    photos::Portraits,
    sources::{network, subscriber},
    store::changes::{Actor, Change, ProfileEdit},
};

/// Uploads that are held in memory at the same time; more are refused. Each has up to 5 MiB.
const UPLOADS: usize = 16;
/// Of these, uploads by one member.
const UPLOADS_PER_MEMBER: usize = 1;
/// Of these, uploads from one address (one /64 of IPv6): accounts are free, places are not.
const UPLOADS_PER_ADDRESS: usize = UPLOADS / 4;
/// Of these, uploads from one network (a /24 of IPv4, a /48 of IPv6).
const UPLOADS_PER_NETWORK: usize = UPLOADS / 2;

/// Photos.
pub struct Photos {
    profiles: Arc<Profiles>,
    album: Arc<Album>,
    jobs: Arc<Jobs>,
    uploads: Slots<MemberId>,
    addresses: Slots<IpAddr>,
    networks: Slots<IpAddr>,
    portraits: Portraits,
}

/// An upload that was let in, and its slots.
pub struct Upload {
    member: MemberId,
    by: Actor,
    _slots: (Slot<MemberId>, Slot<IpAddr>, Slot<IpAddr>),
}

impl Photos {
    /// Photos of these members. `patience`: how long an upload waits for its turn to be decoded.
    #[must_use]
    pub fn new(profiles: Arc<Profiles>, album: Arc<Album>, jobs: Arc<Jobs>, patience: Duration) -> Self {
        Self {
            profiles,
            album,
            jobs,
            uploads: Slots::new(UPLOADS, UPLOADS_PER_MEMBER),
            addresses: Slots::new(UPLOADS, UPLOADS_PER_ADDRESS),
            networks: Slots::new(UPLOADS, UPLOADS_PER_NETWORK),
            portraits: Portraits::new(patience),
        }
    }

    /// Lets an upload in, before any of it is read.
    ///
    /// # Errors
    /// `forbidden` for the photo of somebody else, except for administrators; a rate limit; `member_not_found`; `overloaded`;
    /// the store.
    pub async fn admit(&self, who: &Authorized, from: IpAddr, member: MemberId) -> Result<Upload, Failure> {
        let by = may_change(who, from, member)?;
        // First: what there is no room for at the moment is no change.
        let slots = (
            self.uploads.take(who.member)?,
            self.addresses.take(subscriber(from))?,
            self.networks.take(network(from))?,
        );
        self.profiles.charge(who)?;
        self.profiles.present(member).await?;
        Ok(Upload { member, by, _slots: slots })
    }

    /// Makes an uploaded picture the photo of a member. Returns the member with their version.
    ///
    /// # Errors
    /// `image_invalid`, `overloaded` when too many are being decoded, `unavailable` when it cannot be stored, or the
    /// store.
    pub async fn replace(&self, upload: Upload, content: Bytes) -> Result<(Member, u64), Failure> {
        let Upload { member, by, _slots } = upload;
        let portrait = self.portraits.make(content).await?;
        let photo = album::name(member, &portrait);
        let _turn = self.album.turn(member).await?;
        if self.profiles.present(member).await?.photo() != Some(photo) {
            // Before the file: whatever happens from here on, none stays that nobody names, and none is seen before it is the
            // member's, though its address may be known from before.
            until_known(|_| self.jobs.check_later(member, photo)).await?;
            self.album.hide(member, photo);
        }
        self.album.add(photo, portrait).await?;
        let change = points_to(Some(self.album.url(photo)));
        let (_, after) = self.profiles.commit(member, change, by).await?;
        Ok((views::member(after.profile, self.profiles.clock.now()), after.version))
    }

    /// Removes the photo of a member, if they have one. When this returns, nobody can see it, and its file is deleted soon.
    ///
    /// # Errors
    /// `forbidden` for the photo of somebody else, except for administrators; a rate limit; `member_not_found`; or the store.
    pub async fn remove(&self, who: &Authorized, from: IpAddr, member: MemberId) -> Result<(), Failure> {
        let by = may_change(who, from, member)?;
        self.profiles.charge(who)?;
        let _turn = self.album.turn(member).await?;
        self.profiles.commit(member, points_to(None), by).await.map(drop)
    }

    /// The content of a photo.
    ///
    /// # Errors
    /// `not_found`, or `unavailable`.
    pub async fn read(&self, name: PhotoName) -> Result<Bytes, Failure> {
        self.album.read(name).await?.ok_or_else(|| ErrorCode::NotFound.into())
    }

    /// Makes sure that there is such a photo.
    ///
    /// # Errors
    /// `not_found`, or `unavailable`.
    pub async fn check(&self, name: PhotoName) -> Result<(), Failure> {
        if self.album.has(name).await? { Ok(()) } else { Err(ErrorCode::NotFound.into()) }
    }
}

fn points_to(url: Option<String>) -> Change {
    Change::Profile { edit: ProfileEdit { profile_image_url: Some(url), ..ProfileEdit::default() }, expected: None }
}
