//! `/api/messages`: sending, reading, unread counts; `/api/conversations`: a member's own settings.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use protocol::{
    ConversationId, MemberId, MessageId,
    model::ConversationSettings,
    rest::{
        ConfiguredConversation, ConversationList, ConversationsQuery, HistoryQuery, MessageDocument, MessagePage,
        PageQuery, SendRequest, Unread,
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    failure::Failure,
    http::{
        AppState,
        extract::{Body, Params, PathId, SignedIn},
    },
};

/// Requests that one counts as which looks at all conversations of a member.
const LIST_COST: u32 = 4;

/// The routes of this group.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(send))
        .routes(routes!(history))
        .routes(routes!(list))
        .routes(routes!(unread))
        .routes(routes!(read))
        .routes(routes!(configure))
}

/// Sends a message. It is durable when this answers.
///
/// The same `client_id`, or `Idempotency-Key`, again returns the first message and sends none.
#[utoipa::path(
    post,
    path = "/api/messages",
    tag = "messages",
    operation_id = "send_message",
    params(("Idempotency-Key" = Option<String>, Header, description = "Instead of `client_id`: 1 to 255 characters of ASCII.")),
    request_body = SendRequest,
    responses(
        (status = 201, description = "The message.", body = MessageDocument),
        (status = 200, description = "The message, which was sent before.", body = MessageDocument),
        (status = 404, description = "member_not_found, conversation_not_found, message_not_found"),
        (status = 409, description = "recipient_deactivated"),
        (status = 422, description = "content_empty, content_too_long, message_to_self"),
    )
)]
async fn send(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    headers: HeaderMap,
    Body(request): Body<SendRequest>,
) -> Result<(StatusCode, Json<MessageDocument>), Failure> {
    let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap_or_default());
    let (message, duplicate) = state.documents.send(who.member, request, key).await?;
    Ok((if duplicate { StatusCode::OK } else { StatusCode::CREATED }, Json(message)))
}

/// The conversation with another member, the newest message first.
///
/// Empty as long as the two have not talked.
#[utoipa::path(
    get,
    path = "/api/messages/conversation/{user_id}",
    tag = "messages",
    operation_id = "get_messages_with",
    params(("user_id" = MemberId, Path, description = "The other member."), HistoryQuery),
    responses(
        (status = 200, description = "A page of messages.", body = MessagePage),
        (status = 404, description = "member_not_found"),
        (status = 422, description = "message_to_self"),
    )
)]
async fn history(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(other): PathId<MemberId>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<MessagePage>, Failure> {
    state.documents.history(who.member, other, &query).await.map(Json)
}

/// The member's conversations with their newest message, unread count and watermarks.
///
/// Those with the newest message first, whatever is asked for. `cursor` goes on with the page before, so the other parameters are those
/// of that one.
#[utoipa::path(
    get,
    path = "/api/messages/conversations",
    tag = "messages",
    operation_id = "list_conversations",
    params(ConversationsQuery, PageQuery),
    responses((status = 200, description = "A page of conversations.", body = ConversationList))
)]
async fn list(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    Params(query): Params<ConversationsQuery>,
    Params(page): Params<PageQuery>,
) -> Result<Json<ConversationList>, Failure> {
    state.limits.further(&who.member, LIST_COST)?;
    state.documents.list(who.member, query, &page).await.map(Json)
}

/// How many messages the member has not read.
#[utoipa::path(
    get,
    path = "/api/messages/unread",
    tag = "messages",
    operation_id = "count_unread",
    responses((status = 200, description = "In all, and by conversation.", body = Unread))
)]
async fn unread(State(state): State<AppState>, SignedIn(who): SignedIn) -> Result<Json<Unread>, Failure> {
    state.limits.further(&who.member, LIST_COST)?;
    state.documents.unread(who.member).await.map(Json)
}

/// Marks a message, and everything before it, as read. Only its receiver may.
#[utoipa::path(
    put,
    path = "/api/messages/{id}/read",
    tag = "messages",
    operation_id = "mark_message_read",
    params(("id" = MessageId, Path, description = "The message.")),
    responses(
        (status = 200, description = "The message now.", body = MessageDocument),
        (status = 403, description = "forbidden"),
        (status = 404, description = "message_not_found"),
    )
)]
async fn read(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(id): PathId<MessageId>,
) -> Result<Json<MessageDocument>, Failure> {
    state.documents.read(who.member, id).await.map(Json)
}

/// Sets the member's own settings of a conversation, all of them.
///
/// They hold on all devices of the member, and nobody else sees them. The same ones again change nothing.
#[utoipa::path(
    put,
    path = "/api/conversations/{id}/settings",
    tag = "messages",
    operation_id = "configure_conversation",
    params(("id" = ConversationId, Path, description = "The conversation.")),
    request_body = ConversationSettings,
    responses(
        (status = 200, description = "The settings now.", body = ConfiguredConversation),
        (status = 404, description = "conversation_not_found"),
    )
)]
async fn configure(
    State(state): State<AppState>,
    SignedIn(who): SignedIn,
    PathId(conversation): PathId<ConversationId>,
    Body(settings): Body<ConversationSettings>,
) -> Result<Json<ConfiguredConversation>, Failure> {
    state.documents.configure(who.member, conversation, settings).await.map(Json)
}
