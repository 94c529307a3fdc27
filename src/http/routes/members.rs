//! `/api/members`: the directory, profiles, the own record.

use axum::{
    Json,
    body::Body as HttpBody,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use protocol::{
    MemberId,
    rest::{
        AuthResponse, Directory, DirectoryQuery, EmailChange, Export, Member, MemberPatch, MemberReplacement,
        PageQuery, PasswordChange, Profile, SearchQuery,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, IfMatch, Params, PathId, Peer, SignedIn, SignedInProved},
        versioned::Versioned,
    },
};

/// Requests that a search counts as: it reads up to 200 records and rates them.
const SEARCH_COST: u32 = 8;

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(search))
        .routes(routes!(own, change_own, erase))
        .routes(routes!(change_password))
        .routes(routes!(change_email))
        .routes(routes!(export))
        .routes(routes!(profile, replace, change))
}

/// The directory: active members, by name.
#[utoipa::path(
    get,
    path = "/api/members",
    tag = "members",
    operation_id = "list_members",
    params(DirectoryQuery, PageQuery),
    responses((status = 200, description = "A page of members.", body = Directory))
)]
async fn list(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Params(query): Params<DirectoryQuery>,
    Params(page): Params<PageQuery>,
) -> Result<Json<Directory>, Failure> {
    state.directory.list(&who, from, query.tier, &page).await.map(Json)
}

/// Active members who are found by name, company or position, the best first.
///
/// Accents and case do not matter, and the beginning of a word is enough. What a member does not share is not searched.
#[utoipa::path(
    get,
    path = "/api/members/search",
    tag = "members",
    operation_id = "search_members",
    params(SearchQuery, PageQuery),
    responses((status = 200, description = "A page of members.", body = Directory))
)]
async fn search(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Params(query): Params<SearchQuery>,
    Params(page): Params<PageQuery>,
) -> Result<Json<Directory>, Failure> {
    state.limits.further(&who.member, SEARCH_COST)?;
    state.directory.search(&who, from, &query.q, &page).await.map(Json)
}

/// The own record.
#[utoipa::path(
    get,
    path = "/api/members/me",
    tag = "members",
    operation_id = "get_own_record",
    responses((status = 200, description = "The member.", body = Member, headers(("ETag" = String, description = "The version."))))
)]
async fn own(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Versioned<Member>, Failure> {
    state.profiles.own(who.member).await.map(Into::into)
}

/// Changes the own record.
///
/// A JSON merge patch (RFC 7396): an absent field stays, `null` removes.
#[utoipa::path(
    patch,
    path = "/api/members/me",
    tag = "members",
    operation_id = "change_own_record",
    request_body = MemberPatch,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` that the change is made for.")),
    responses(
        (status = 200, description = "The member now.", body = Member, headers(("ETag" = String, description = "The version."))),
        (status = 404, description = "member_not_found"),
        (status = 412, description = "stale"),
    )
)]
async fn change_own(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    IfMatch(expected): IfMatch,
    Body(patch): Body<MemberPatch>,
) -> Result<Versioned<Member>, Failure> {
    state.profiles.change(&who, from, who.member, patch, expected).await.map(Into::into)
}

/// Leaves the club for ever, for who has proved within 15 minutes who they are.
///
/// The profile is gone, the sessions end, and live connections are closed with 4403. Messages stay with those who they
/// were written to, as those of a former member.
#[utoipa::path(
    delete,
    path = "/api/members/me",
    tag = "members",
    operation_id = "erase_own_record",
    responses(
        (status = 204, description = "The member has left."),
        (status = 403, description = "step_up_required"),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "last_admin"),
    )
)]
async fn erase(
    State(state): State<AppState>,
    SignedInProved(who): SignedInProved,
    Peer(from): Peer,
) -> Result<StatusCode, Failure> {
    state.profiles.erase(&who, from).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the password. Every other session of the member ends.
///
/// Their live connections are closed with 4401. This session goes on with the tokens of the answer: those of before are good no more, and its
/// connections are closed with 4410, to come back. Whoever loses the answer logs in with the new password. A present password that is wrong is a `validation_failed` of
/// `current_password`; ten attempts an hour. The `device_proof` of every device is good no more; this one's is in the answer.
#[utoipa::path(
    put,
    path = "/api/members/me/password",
    tag = "members",
    operation_id = "change_password",
    request_body = PasswordChange,
    responses(
        (status = 200, description = "The password is changed.", body = AuthResponse),
        (status = 404, description = "member_not_found"),
    )
)]
async fn change_password(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(change): Body<PasswordChange>,
) -> Result<Json<AuthResponse>, Failure> {
    state.credentials.change_password(&who, from, change).await.map(Json)
}

/// Changes the e-mail address: a link goes to the new one, and `POST /api/auth/email/verify` with its token changes it.
///
/// Until then nothing changes; a further request ends the link of the one before. The answer is the same whether somebody has the new address or
/// not. A server without mail changes it at once, and it is not verified. A password that is wrong is a `validation_failed` of `password`;
/// who has a second factor gives a `code` of it as well;
/// ten attempts an hour, those of a change of the password among them. Sessions stay.
#[utoipa::path(
    post,
    path = "/api/members/me/email",
    tag = "members",
    operation_id = "change_email",
    request_body = EmailChange,
    responses(
        (status = 202, description = "A link is on its way to the new address."),
        (status = 200, description = "The address is changed: this server sends no mail.", body = Member, headers(("ETag" = String, description = "The version."))),
        (status = 404, description = "member_not_found"),
        (status = 409, description = "email_taken"),
    )
)]
async fn change_email(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    Body(change): Body<EmailChange>,
) -> Result<Response, Failure> {
    Ok(match state.credentials.change_email(&who, from, change).await? {
        Some(changed) => Versioned::from(changed).into_response(),
        None => StatusCode::ACCEPTED.into_response(),
    })
}

/// Everything that is stored about the member, as one JSON document to download.
///
/// The record, the sessions, what was recommended, and every conversation with its messages. It is written while it is read, however long it
/// is; one that is cut short is not valid JSON.
#[utoipa::path(
    get,
    path = "/api/members/me/export",
    tag = "members",
    operation_id = "export_own_data",
    responses((status = 200, description = "The document.", body = Export))
)]
async fn export(State(state): State<AppState>, SignedIn(who): SignedIn, Peer(from): Peer) -> Result<Response, Failure> {
    let parts = state.exports.start(who, from, &state.supervisor).await?;
    let parts = stream::unfold(parts, async |mut parts| {
        let part = parts.recv().await?;
        Some((part.map_err(|failure| std::io::Error::other(failure.message)), parts))
    });
    // Compression asks once more after the end.
    let mut response = HttpBody::from_stream(parts.fuse()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let name = HeaderValue::from_static("attachment; filename=\"members-book-export.json\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

/// What a member shares.
///
/// Members themselves and administrators see everything. Those who were deactivated or have left are found too: there
/// may be messages of theirs.
#[utoipa::path(
    get,
    path = "/api/members/{id}",
    tag = "members",
    operation_id = "get_member",
    params(("id" = MemberId, Path, description = "The member.")),
    responses(
        (status = 200, description = "The member.", body = Profile, headers(("ETag" = String, description = "The version."))),
        (status = 404, description = "member_not_found"),
    )
)]
async fn profile(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    PathId(id): PathId<MemberId>,
) -> Result<Versioned<Profile>, Failure> {
    state.directory.profile(&who, from, id).await.map(Into::into)
}

/// Replaces a profile: one's own, or anybody's as an administrator.
///
/// What is left out is removed, or back to its default.
#[utoipa::path(
    put,
    path = "/api/members/{id}",
    tag = "members",
    operation_id = "replace_member",
    params(
        ("id" = MemberId, Path, description = "The member."),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the change is made for."),
    ),
    request_body = MemberReplacement,
    responses(
        (status = 200, description = "The member now.", body = Member, headers(("ETag" = String, description = "The version."))),
        (status = 403, description = "forbidden"),
        (status = 404, description = "member_not_found"),
        (status = 412, description = "stale"),
    )
)]
async fn replace(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    PathId(id): PathId<MemberId>,
    IfMatch(expected): IfMatch,
    Body(whole): Body<MemberReplacement>,
) -> Result<Versioned<Member>, Failure> {
    state.profiles.change(&who, from, id, whole.into(), expected).await.map(Into::into)
}

/// Changes a profile: one's own, or anybody's as an administrator.
///
/// A JSON merge patch (RFC 7396): an absent field stays, `null` removes.
#[utoipa::path(
    patch,
    path = "/api/members/{id}",
    tag = "members",
    operation_id = "change_member",
    params(
        ("id" = MemberId, Path, description = "The member."),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the change is made for."),
    ),
    request_body = MemberPatch,
    responses(
        (status = 200, description = "The member now.", body = Member, headers(("ETag" = String, description = "The version."))),
        (status = 403, description = "forbidden"),
        (status = 404, description = "member_not_found"),
        (status = 412, description = "stale"),
    )
)]
async fn change(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Peer(from): Peer,
    PathId(id): PathId<MemberId>,
    IfMatch(expected): IfMatch,
    Body(patch): Body<MemberPatch>,
) -> Result<Versioned<Member>, Failure> {
    state.profiles.change(&who, from, id, patch, expected).await.map(Into::into)
}
