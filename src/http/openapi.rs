//! The OpenAPI document: what the annotations of the handlers say, with the errors that every endpoint can answer with.
//!
//! A handler names only the errors that are its own, as a response whose description is a list of error codes. What
//! follows from its form (a body, parameters) and its path (an access token, an administrator) is added here, and every code
//! becomes an example.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{ErrorCode, FieldError, Problem};
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, Header, HeaderBuilder, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Type,
        example::ExampleBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::tidy;

/// The frame that the annotations of the handlers go into.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Members Book",
        description = "To begin: execute `register` below (or `login`), copy `access_token` from its answer, press *Authorize*, \
            paste it, and try everything else.\n\nThe REST API of a private members' club. Chat, presence, typing and receipts flow over a \
            WebSocket, which has [a description of its own](/api/asyncapi).\n\nEvery error is a problem document (RFC 9457) \
            with a `code` for programs. Lists are paged: `next` of one page is `cursor` of the next one.",
        license(name = "MIT", identifier = "MIT"),
    ),
    tags(
        (name = "setup", description = "What anybody may know of the club; its first administrator, made by whoever has the code that the server prints."),
        (name = "auth", description = "Register, log in, refresh, log out."),
        (name = "invitations", description = "Who brings whom in."),
        (name = "members", description = "The directory, profiles, the own record."),
        (name = "messages", description = "Messages and conversations. Live ones come over the WebSocket."),
        (name = "ai", description = "Advice: whom to meet, and how to word one's profile better."),
        (name = "admin", description = "For administrators only."),
        (name = "health", description = "For whatever watches over the process."),
        (name = "socket", description = "The WebSocket."),
    ),
    components(schemas(Problem, FieldError, ErrorCode))
)]
struct Base;

/// The name of the header that every answer has, among the components.
const REQUEST_ID: &str = "RequestId";

/// What of the API needs no access token.
const PUBLIC: &[&str] = &[
    "/api/club",
    "/api/setup",
    "/api/auth/register",
    "/api/auth/login",
    "/api/auth/refresh",
    "/api/auth/password/forgot",
    "/api/auth/password/reset",
    "/api/auth/email/verify",
    "/api/invitations/check",
    "/api/photos/{file}",
];

/// What the annotations of the handlers are added to.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// Completes a document that the handlers were added to.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("`access_token` of register, login or refresh."));
    if let Some(components) = &mut document.components {
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
        let description = "The id of the request: the client's own, or one that the server made.";
        components.headers.insert(REQUEST_ID.to_owned(), RefOr::T(header(Type::String, description)));
    }
    tidy::schemas(document);
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            tidy::optional(operation);
            if path.starts_with("/api/") && !PUBLIC.contains(&path.as_str()) {
                operation.security = Some(vec![SecurityRequirement::new("bearer", [""; 0])]);
            }
            add_errors(path, operation);
            add_request_id(operation);
        }
    }
}

/// The errors that follow from the form of an operation.
fn common_errors(path: &str, operation: &Operation) -> Vec<ErrorCode> {
    use ErrorCode::{
        Draining, Forbidden, Internal, Malformed, MemberDeactivated, MemberSuspended, Overloaded, PayloadTooLarge,
        RateLimited, SecondFactorMissing, SessionRevoked, Timeout, TokenExpired, TokenInvalid, TokenMissing,
        Unavailable, UnsupportedMediaType, ValidationFailed,
    };
    let mut codes = Vec::new();
    if path.starts_with("/api/") {
        codes.extend([RateLimited, Internal, Overloaded, Unavailable, Timeout]);
    } else if path == "/ws" {
        codes.extend([Draining, Overloaded, ValidationFailed]);
    } else {
        codes.extend([Unavailable, Timeout]);
    }
    if operation.security.is_some() {
        codes.extend([TokenMissing, TokenInvalid, TokenExpired, SessionRevoked, MemberDeactivated, MemberSuspended]);
    }
    if path.starts_with("/api/admin/") {
        codes.extend([Forbidden, SecondFactorMissing]);
    }
    if operation.request_body.is_some() {
        codes.extend([Malformed, PayloadTooLarge, UnsupportedMediaType, ValidationFailed]);
    }
    if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        codes.push(ValidationFailed);
    }
    codes
}

fn add_errors(path: &str, operation: &mut Operation) {
    let mut by_status: BTreeMap<u16, BTreeSet<&'static str>> = BTreeMap::new();
    let mut add = |code: ErrorCode| by_status.entry(code.http_status()).or_default().insert(code.as_str());
    for code in common_errors(path, operation) {
        add(code);
    }
    for (status, response) in &operation.responses.responses {
        if let RefOr::T(response) = response
            && !status.starts_with(['1', '2', '3'])
        {
            for code in named_codes(&response.description) {
                add(code);
            }
        }
    }
    for (status, names) in by_status {
        let codes = ErrorCode::ALL.iter().copied().filter(|code| names.contains(code.as_str()));
        operation.responses.responses.insert(status.to_string(), RefOr::T(problem(&codes.collect::<Vec<_>>())));
    }
}

/// Every answer has the id of its request.
fn add_request_id(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let reference = Ref::new(format!("#/components/headers/{REQUEST_ID}"));
            response.headers.insert("X-Request-Id".to_owned(), RefOr::Ref(reference));
        }
    }
}

fn header(kind: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(kind).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// The codes that the annotation of a handler lists.
fn named_codes(description: &str) -> impl Iterator<Item = ErrorCode> {
    description.split(", ").filter_map(|name| ErrorCode::ALL.iter().copied().find(|code| code.as_str() == name))
}

/// The response with any of these codes, which have one status.
fn problem(codes: &[ErrorCode]) -> Response {
    let description: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", code.meaning())).collect();
    let examples = codes.iter().map(|code| {
        let mut problem = Problem::new(*code, code.meaning());
        if *code == ErrorCode::ValidationFailed {
            problem.errors.push(FieldError { field: "name".to_owned(), message: "required".to_owned() });
        }
        let value = serde_json::to_value(problem).ok();
        (code.as_str(), ExampleBuilder::new().summary(code.title()).value(value).build())
    });
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples);
    let mut response = ResponseBuilder::new()
        .description(description.join("\n\n"))
        .content("application/problem+json", content.build());
    let status = codes.first().map(|code| code.http_status());
    response = match status {
        Some(429 | 503 | 504) => response.header("Retry-After", header(Type::Integer, "How long to wait, in seconds.")),
        Some(401) => response.header("WWW-Authenticate", header(Type::String, "`Bearer` (RFC 6750).")),
        _ => response,
    };
    response.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_an_id_of_its_own_and_a_summary() {
        let document = crate::http::routes::document();
        let mut ids = BTreeSet::new();
        for (path, item) in &document.paths.paths {
            for operation in [&item.get, &item.put, &item.post, &item.patch, &item.delete].into_iter().flatten() {
                let id = operation.operation_id.clone().unwrap_or_default();
                assert!(ids.insert(id.clone()), "{path}: {id:?} is there twice");
                assert!(operation.summary.is_some(), "{path}: {id}");
            }
        }
    }

    #[test]
    fn every_error_that_a_handler_names_exists_and_has_that_status() {
        let (_, document) = crate::http::routes::all().split_for_parts();
        for (path, item) in &document.paths.paths {
            for operation in [&item.get, &item.put, &item.post, &item.patch, &item.delete].into_iter().flatten() {
                for (status, response) in &operation.responses.responses {
                    let RefOr::T(response) = response else { continue };
                    if status.starts_with(['1', '2', '3']) {
                        continue;
                    }
                    for name in response.description.split(", ") {
                        let code = ErrorCode::ALL.iter().find(|code| code.as_str() == name);
                        let code = code.unwrap_or_else(|| panic!("{path}: {name:?} is no error code"));
                        assert_eq!(&code.http_status().to_string(), status, "{path}: {name}");
                    }
                }
            }
        }
    }
}
