//! All kinds of problems of the API, in one table. Each kind has a stable name, which is its `type`
//! URI `/problems/{name}`, and a page at that address.

use http::StatusCode;

/// A kind of problem. The name of a kind never changes, because clients branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The request's target or body cannot be parsed.
    InvalidRequest,
    /// The cursor is not one of this list.
    InvalidCursor,
    /// The route needs an Idempotency-Key, or the key is malformed.
    InvalidIdempotencyKey,
    /// The request has no credentials.
    Unauthenticated,
    /// The credentials are not valid.
    InvalidToken,
    /// No account has this name and this password.
    WrongCredentials,
    /// The code of the second factor is not valid.
    WrongCode,
    /// The credentials do not permit this.
    Forbidden,
    /// The API key lacks a scope.
    InsufficientScope,
    /// The password must be replaced before anything else.
    PasswordChangeRequired,
    /// The password is right, and a second factor must follow.
    SecondFactorRequired,
    /// The token from a mail is not valid.
    InvalidMailedToken,
    /// No mail server is configured.
    MailDisabled,
    /// The foreign provider of identities has refused.
    ProviderRefused,
    /// No administrator's token is configured.
    AdministrationDisabled,
    /// Nothing has this address.
    NotFound,
    /// The address does not have this method.
    MethodNotAllowed,
    /// The client was too slow to send the body.
    BodyTooSlow,
    /// The request contradicts the present state.
    Conflict,
    /// A request with the same Idempotency-Key is in progress.
    RequestInProgress,
    /// If-Match or another precondition does not hold.
    PreconditionFailed,
    /// The body is too large.
    BodyTooLarge,
    /// The body has another media type than the route accepts.
    UnsupportedMediaType,
    /// The body is well-formed, but its values are not valid.
    InvalidContent,
    /// The Idempotency-Key was used with another request.
    IdempotencyKeyReused,
    /// The route needs If-Match.
    PreconditionRequired,
    /// Too many requests.
    RateLimited,
    /// A fault of the server.
    Internal,
    /// HTTP does not have this method.
    NotImplemented,
    /// The foreign provider of identities does not respond as expected.
    ProviderFaulty,
    /// The draining process does not respond as expected.
    DrainingFaulty,
    /// The server cannot serve the request now.
    Unavailable,
    /// The request took too long.
    TimedOut,
    /// The node is a replica, which makes no changes.
    Replica,
    /// The draining process does not respond in time.
    DrainingLate,
}

/// The row of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The last segment of the `type` URI.
    pub name: &'static str,
    /// The status of the response.
    pub status: StatusCode,
    /// The member `title`: a phrase, the same for every occurrence.
    pub title: &'static str,
    /// The cause, for the page.
    pub cause: &'static str,
    /// The remedy, for the page.
    pub remedy: &'static str,
}

impl Kind {
    /// All kinds, in the order of their status.
    pub const ALL: [Self; 35] = [
        Self::InvalidRequest,
        Self::InvalidCursor,
        Self::InvalidIdempotencyKey,
        Self::Unauthenticated,
        Self::InvalidToken,
        Self::WrongCredentials,
        Self::WrongCode,
        Self::Forbidden,
        Self::InsufficientScope,
        Self::PasswordChangeRequired,
        Self::SecondFactorRequired,
        Self::InvalidMailedToken,
        Self::MailDisabled,
        Self::ProviderRefused,
        Self::AdministrationDisabled,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::Conflict,
        Self::RequestInProgress,
        Self::PreconditionFailed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidContent,
        Self::IdempotencyKeyReused,
        Self::PreconditionRequired,
        Self::RateLimited,
        Self::Internal,
        Self::NotImplemented,
        Self::ProviderFaulty,
        Self::DrainingFaulty,
        Self::Unavailable,
        Self::TimedOut,
        Self::Replica,
        Self::DrainingLate,
    ];

    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.row().name == name)
    }

    /// The `type` URI: a path, which is resolved against the address of the API (RFC 9457 3.1.1).
    pub fn uri(self) -> String {
        format!("/problems/{}", self.row().name)
    }

    /// The row of this kind.
    pub const fn row(self) -> Row {
        let (name, status, title, cause, remedy) = self.columns();
        Row { name, status, title, cause, remedy }
    }

    /// The table.
    #[rustfmt::skip]
    const fn columns(
        self,
    ) -> (&'static str, StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (
                "invalid-request", StatusCode::BAD_REQUEST, "Invalid request",
                "The query, the path, a header field or the syntax of the body is invalid.",
                "The member detail names the fault. Correct the request; to repeat it unchanged \
                 has the same result.",
            ),
            Self::InvalidCursor => (
                "invalid-cursor", StatusCode::BAD_REQUEST, "Invalid cursor",
                "The cursor was not made by this list, or it was changed.",
                "Use the member next of the previous page unchanged, or start without a cursor.",
            ),
            Self::InvalidIdempotencyKey => (
                "invalid-idempotency-key", StatusCode::BAD_REQUEST, "Invalid Idempotency-Key",
                "The route needs the header Idempotency-Key, or its value is malformed.",
                "Send 1 to 128 bytes of letters, digits and .:_-, also within double quotes: for \
                 example a new UUID for each operation, and the same one for each retry.",
            ),
            Self::Unauthenticated => (
                "unauthenticated", StatusCode::UNAUTHORIZED, "Credentials are missing",
                "The route needs credentials, and the request has none.",
                "Send the header Authorization: Bearer TOKEN.",
            ),
            Self::InvalidToken => (
                "invalid-token", StatusCode::UNAUTHORIZED, "Invalid token",
                "The token is unknown, revoked, expired or not for this route.",
                "Get a new token and repeat the request.",
            ),
            Self::WrongCredentials => (
                "wrong-credentials", StatusCode::UNAUTHORIZED, "Wrong name or password",
                "No account has this name or address and this password.",
                "Check both; the response does not tell which of them is wrong.",
            ),
            Self::WrongCode => (
                "wrong-code", StatusCode::UNAUTHORIZED, "Wrong code",
                "The code is not one of the second factor now, or it was used, or the sign-in has \
                 taken longer than five minutes.",
                "Wait for the next code of the app, or use a recovery code. After five minutes \
                 begin again with the password.",
            ),
            Self::Forbidden => (
                "forbidden", StatusCode::FORBIDDEN, "Forbidden",
                "The credentials are valid, but do not permit this operation.",
                "Use credentials with the permission that the member detail names.",
            ),
            Self::InsufficientScope => (
                "insufficient-scope", StatusCode::FORBIDDEN, "Insufficient scope",
                "The account may do this, but the API key does not have the scope for it.",
                "Use a key with the scope that the member detail names, or sign in.",
            ),
            Self::PasswordChangeRequired => (
                "password-change-required", StatusCode::FORBIDDEN, "The password must be changed",
                "The password is right, but somebody else knows it, so it must be replaced first.",
                "Repeat the request with the member new_password.",
            ),
            Self::SecondFactorRequired => (
                "second-factor-required", StatusCode::FORBIDDEN, "A second factor is required",
                "The password is right, and the account has a second factor.",
                "Send the member challenge of the problem and a code to \
                 /api/v1/sessions/second-factor within five minutes.",
            ),
            Self::InvalidMailedToken => (
                "invalid-mailed-token", StatusCode::FORBIDDEN, "Invalid token from a mail",
                "The token was used, is older than an hour, or was overtaken by another change.",
                "Ask for another mail.",
            ),
            Self::MailDisabled => (
                "mail-disabled", StatusCode::FORBIDDEN, "Mail is disabled",
                "The operator has configured no mail server.",
                "Set [smtp] in the configuration.",
            ),
            Self::ProviderRefused => (
                "provider-refused", StatusCode::FORBIDDEN, "The sign-in elsewhere has failed",
                "The provider has not signed the person in, or its response is not the one to this \
                 browser's request.",
                "Begin again. If it happens again, the member detail has the reason.",
            ),
            Self::AdministrationDisabled => (
                "administration-disabled", StatusCode::FORBIDDEN, "Administration is disabled",
                "The operator has configured no administrator's token.",
                "Set api.admin_token or api.admin_token_sha256 in the configuration, and send the \
                 daemon SIGHUP.",
            ),
            Self::NotFound => (
                "not-found", StatusCode::NOT_FOUND, "Not found",
                "Nothing has this address, or the credentials do not permit to see it.",
                "Check the address against the description of the API.",
            ),
            Self::MethodNotAllowed => (
                "method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed",
                "The address exists, but does not have this method.",
                "Use a method of the response's header Allow.",
            ),
            Self::BodyTooSlow => (
                "body-too-slow", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time",
                "No byte of the request's body arrived for longer than http.write_ms.",
                "Repeat the request on a better connection.",
            ),
            Self::Conflict => (
                "conflict", StatusCode::CONFLICT, "Conflict",
                "The request contradicts the present state, for example a name that is taken.",
                "The member detail names the conflict. Read the state again, and decide anew.",
            ),
            Self::RequestInProgress => (
                "request-in-progress", StatusCode::CONFLICT, "The first request is in progress",
                "A request with the same Idempotency-Key has begun and has no response yet.",
                "Repeat the request after the time in the header Retry-After.",
            ),
            Self::PreconditionFailed => (
                "precondition-failed", StatusCode::PRECONDITION_FAILED, "Precondition failed",
                "The resource has changed since it was read: If-Match does not name its present \
                 entity tag.",
                "Read the resource again, apply the change to it, and send its new ETag.",
            ),
            Self::BodyTooLarge => (
                "body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large",
                "The request's body is larger than the route or http.max_body_bytes permits.",
                "Send less in one request.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
                "The Content-Type of the request's body is missing, or the route does not accept \
                 it.",
                "Send a media type of the description of the API, usually application/json.",
            ),
            Self::InvalidContent => (
                "invalid-content", StatusCode::UNPROCESSABLE_ENTITY, "Invalid content",
                "The body is well-formed, but a member is missing, unknown or out of its range.",
                "The member errors names each fault by a JSON Pointer.",
            ),
            Self::IdempotencyKeyReused => (
                "idempotency-key-reused", StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key belongs to another request",
                "The key was used before, with another method, address or body.",
                "Use a new key for each operation.",
            ),
            Self::PreconditionRequired => (
                "precondition-required", StatusCode::PRECONDITION_REQUIRED,
                "A precondition is required",
                "The route changes a resource that others may change at the same time, so it needs \
                 If-Match.",
                "Read the resource, and send its ETag as If-Match.",
            ),
            Self::RateLimited => (
                "rate-limited", StatusCode::TOO_MANY_REQUESTS, "Too many requests",
                "The address or the account has used its share of requests of this class.",
                "Wait for the time in the header Retry-After. The headers RateLimit and \
                 RateLimit-Policy give the rest of the share and its size.",
            ),
            Self::Internal => (
                "internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error",
                "The server has a fault.",
                "Report the member request_id to the operator, whose log has the cause.",
            ),
            Self::NotImplemented => (
                "not-implemented", StatusCode::NOT_IMPLEMENTED, "Unknown method",
                "HTTP does not have this method.",
                "Use a method of the response's header Allow.",
            ),
            Self::ProviderFaulty => (
                "provider-faulty", StatusCode::BAD_GATEWAY, "The provider does not respond",
                "The provider of identities cannot be reached, or its response is invalid.",
                "Repeat the request later, or sign in with the password. The daemon's log has the \
                 reason.",
            ),
            Self::DrainingFaulty => (
                "draining-faulty", StatusCode::BAD_GATEWAY, "A draining process is faulty",
                "The process that drains since the last upgrade, which may have the resource, does \
                 not respond as expected.",
                "Repeat the request. If that does not help, see the daemon's log.",
            ),
            Self::Unavailable => (
                "unavailable", StatusCode::SERVICE_UNAVAILABLE, "Unavailable",
                "The server cannot serve the request now, for example because it is overloaded.",
                "Repeat the request after the time in the header Retry-After.",
            ),
            Self::TimedOut => (
                "timed-out", StatusCode::SERVICE_UNAVAILABLE, "The request took too long",
                "The server had no response within the time limit of a request. A change may have \
                 been made.",
                "Repeat the request after the time in the header Retry-After, with the same \
                 Idempotency-Key if it has one.",
            ),
            Self::Replica => (
                "replica", StatusCode::SERVICE_UNAVAILABLE, "A replica makes no changes",
                "The node answers reads from a copy of the data. Changes are made by the writer.",
                "Send the request to the writer, whose address is in the member detail if the \
                 operator has configured it.",
            ),
            Self::DrainingLate => (
                "draining-late", StatusCode::GATEWAY_TIMEOUT, "A draining process is late",
                "The process that drains since the last upgrade, which may have the resource, does \
                 not respond in time.",
                "Repeat the request.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_kinds_are_listed_once_with_distinct_names_and_an_error_status() {
        let names: BTreeSet<_> = Kind::ALL.map(|kind| kind.row().name).into();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let Row { name, status, title, cause, remedy } = kind.row();
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
            assert!(status.is_client_error() || status.is_server_error(), "{name}");
            assert!(!title.is_empty() && cause.ends_with('.') && remedy.ends_with('.'), "{name}");
            assert_eq!(Kind::named(name), Some(kind));
        }
        // The last variant closes the list: a kind that is missing in `ALL` would break this.
        assert_eq!(Kind::DrainingLate as usize + 1, Kind::ALL.len());
        assert!(Kind::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
