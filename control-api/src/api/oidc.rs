//! Signing in at foreign providers (OpenID Connect), and the identities of an account.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    middleware::from_fn_with_state,
    response::{AppendHeaders, IntoResponse, Response},
};
use control_domain::{
    Command as _, Refusal, Time,
    features::identities::{
        commands::{Link, Unlink},
        queries,
    },
    id::IdentityId,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    recovery::done,
    sessions::{device, own},
};
use crate::{
    authentication::{Current, Sender},
    content::Content,
    described::described,
    identity::{
        Identity,
        cookie::{self, Tls},
        oidc::{self, Flow, Provider, account::Outcome},
    },
    problem::{Kind, Problem, problems},
    rate::{self, Class, Limiter},
};

/// Longest path to return to.
const MAX_PATH: usize = 512;
/// The page that takes the second factor.
const SIGN_IN: &str = "/sign-in";

/// The routes. Sign-ins are counted by address.
pub(super) fn routes(limiter: &Arc<Limiter>) -> OpenApiRouter<Identity> {
    let attempts = OpenApiRouter::new()
        .routes(routes!(start_sign_in))
        .routes(routes!(complete_sign_in))
        .layer(from_fn_with_state(limiter.by_address(Class::Login), rate::limit));
    OpenApiRouter::new()
        .routes(routes!(list_providers))
        .routes(routes!(list_identities, link_identity))
        .routes(routes!(unlink_identity))
        .merge(attempts)
}

/// A provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IdentityProvider)]
struct Named {
    /// The name in addresses.
    id: String,
    /// The name that people see.
    name: String,
}

/// The providers, in the order in which the operator has set them.
#[derive(Debug, Serialize, ToSchema)]
struct IdentityProviders {
    /// The providers.
    providers: Vec<Named>,
}

/// Where the browser goes on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Begin {
    /// The path on this site to which the browser returns. Default: `/`.
    #[param(max_length = 512, example = "/watch/demo")]
    return_to: Option<String>,
}

/// The response of a provider (RFC 6749 4.1.2, RFC 9207).
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Returned {
    /// The code.
    #[param(max_length = 2048)]
    code: Option<String>,
    /// The state of the request.
    #[param(max_length = 256)]
    state: Option<String>,
    /// The issuer.
    #[param(max_length = 512)]
    iss: Option<String>,
    /// Why there is no code.
    #[param(max_length = 64)]
    error: Option<String>,
}

/// The provider of an identity to link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewIdentity {
    /// The provider's id.
    #[schema(max_length = 64)]
    provider: String,
    /// The path on this site to which the browser returns. Default: `/`.
    #[serde(default)]
    #[schema(required = false, max_length = 512)]
    return_to: Option<String>,
}

/// Where the browser must go.
#[derive(Serialize, ToSchema)]
struct Onward {
    /// The provider's page.
    location: String,
}

/// An identity of an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Identity)]
struct Shown {
    /// The identity.
    #[schema(schema_with = described::<IdentityId>)]
    id: IdentityId,
    /// The provider's id.
    provider: String,
    /// The provider's issuer identifier.
    issuer: String,
    /// When it was linked.
    #[schema(schema_with = described::<Time>)]
    linked: Time,
}

/// The identities of an account: at most 10, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
struct Identities {
    /// The identities.
    #[schema(max_items = 10)]
    identities: Vec<Shown>,
}

problems!(
    /// Problems of [`list_providers`].
    ProvidersProblems: InvalidToken, InsufficientScope, PreconditionFailed
);
problems!(
    /// Problems of [`start_sign_in`].
    StartProblems: InvalidRequest, InvalidToken, InsufficientScope, NotFound, PreconditionFailed,
    ProviderFaulty
);
problems!(
    /// Problems of [`complete_sign_in`].
    CompleteProblems: InvalidRequest, InvalidToken, InsufficientScope, ProviderRefused, NotFound,
    Conflict, PreconditionFailed, ProviderFaulty
);
problems!(
    /// Problems of [`list_identities`].
    ListProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound,
    PreconditionFailed
);
problems!(
    /// Problems of [`link_identity`].
    LinkProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    InsufficientScope, NotFound, RequestInProgress, InvalidContent, IdempotencyKeyReused,
    ProviderFaulty
);
problems!(
    /// Problems of [`unlink_identity`].
    UnlinkProblems: Unauthenticated, InvalidToken, Forbidden, InsufficientScope, NotFound, Conflict
);

/// List the providers of identities
///
/// With which people can sign in here.
#[utoipa::path(
    get,
    path = "/api/v1/oidc",
    responses(
        (status = OK, description = "The providers", body = IdentityProviders,
            content_type = "application/json"),
        ProvidersProblems
    ),
    security(())
)]
async fn list_providers(State(identity): State<Identity>) -> Json<IdentityProviders> {
    let names = identity.providers().into_iter().flat_map(|providers| providers.names());
    let named = |(id, name): (&str, &str)| Named { id: id.to_owned(), name: name.to_owned() };
    Json(IdentityProviders { providers: names.map(named).collect() })
}

/// Sign in at a provider
///
/// For browsers: redirects to the provider. A cookie, valid for ten minutes, lets only this browser
/// come back.
#[utoipa::path(
    get,
    path = "/api/v1/oidc/{provider}/start",
    params(("provider" = String, Path, description = "The provider's id"), Begin),
    responses(
        (status = SEE_OTHER, description = "To the provider"),
        StartProblems
    ),
    security(())
)]
async fn start_sign_in(
    State(identity): State<Identity>,
    tls: Tls,
    provider: Result<Path<String>, PathRejection>,
    begin: Result<Query<Begin>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(begin) = begin.map_err(|err| invalid(err.body_text()))?;
    let provider = named(&identity, provider)?;
    let (location, flow) = provider.begin(path(begin.return_to)?, None).await?;
    let cookie = flow_cookie(&identity, &flow, tls).await?;
    Ok((StatusCode::SEE_OTHER, to(&location)?, AppendHeaders([cookie])).into_response())
}

/// Come back from a provider
///
/// For browsers: the provider redirects here. The first sign-in of a person makes an account
/// without a password, unless another account has the address: such an account is linked by its
/// owner only. The browser is signed in by cookies, and returns to the page where it began.
#[utoipa::path(
    get,
    path = "/api/v1/oidc/{provider}/callback",
    params(("provider" = String, Path, description = "The provider's id"), Returned),
    responses(
        (status = SEE_OTHER, description = "To the page where the sign-in began"),
        CompleteProblems
    ),
    security(())
)]
async fn complete_sign_in(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    Current(current): Current,
    tls: Tls,
    headers: HeaderMap,
    provider: Result<Path<String>, PathRejection>,
    returned: Result<Query<Returned>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(returned) = returned.map_err(|err| invalid(err.body_text()))?;
    let provider = named(&identity, provider)?;
    let store = identity.platform().store().await?;
    let now = Time::from(std::time::SystemTime::now());
    let flow = cookie::find(&headers, tls, oidc::COOKIE);
    let flow = flow.and_then(|flow| Flow::verified(flow, store.vault(), now));
    drop(store);
    let state = returned.state.as_deref().unwrap_or_default();
    let flow = flow.filter(|flow| flow.belongs(provider.id(), state)).ok_or_else(|| {
        oidc::refused("this browser has not begun this sign-in, or it has taken too long")
    })?;
    let code = match (returned.code, returned.error) {
        (Some(code), None) => code,
        (_, Some(error)) if error == "access_denied" => {
            return Err(oidc::refused("the provider says that the person has declined"));
        }
        _ => return Err(oidc::refused("the provider has sent no code")),
    };
    let claims = provider.complete(&flow, code, returned.iss.as_deref()).await?;
    // A program's credentials are not those of the browser that began.
    let linking = flow.account().filter(|_| current.is_some());
    if flow.account().is_some() && linking.is_none() {
        return Err(oidc::refused("nobody is signed in any more: sign in, and link again"));
    }
    let outcome = identity.accept(provider, claims, actor, linking, device(&headers)).await?;
    let cleared = cookie::named(tls, oidc::COOKIE, "", 0);
    let (location, cookies) = match outcome {
        Outcome::Linked => (flow.return_to().to_owned(), vec![cleared]),
        // Behind `#`, so that it reaches no server's log.
        Outcome::SecondStep(ticket) => {
            (format!("{SIGN_IN}#challenge={}", ticket.expose()), vec![cleared])
        }
        Outcome::SignedIn(signed_in) => {
            let mut cookies = vec![cleared];
            cookies.extend(cookie::set(tls, &signed_in.access.0, &signed_in.refresh));
            (flow.return_to().to_owned(), cookies)
        }
    };
    Ok((StatusCode::SEE_OTHER, to(&location)?, AppendHeaders(cookies)).into_response())
}

/// List the identities of the account
#[utoipa::path(
    get,
    path = "/api/v1/accounts/me/identities",
    responses(
        (status = OK, description = "The identities", body = Identities,
            content_type = "application/json"),
        ListProblems
    ),
    security(("account" = []))
)]
async fn list_identities(
    State(identity): State<Identity>,
    Sender(actor): Sender,
) -> Result<Json<Identities>, Problem> {
    let account = own(&actor)?;
    let found = identity.platform().read(|rows| queries::list(rows, &actor, account)).await?;
    let shown = found.into_iter().map(|(id, row)| Shown {
        id,
        provider: row.provider,
        issuer: row.issuer,
        linked: row.linked,
    });
    Ok(Json(Identities { identities: shown.collect() }))
}

/// Begin to link an identity
///
/// For browsers that are signed in by cookies: the response names the provider's page, to which the
/// browser must go.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/me/identities",
    request_body = NewIdentity,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = OK, description = "The provider's page", body = Onward,
            content_type = "application/json"),
        LinkProblems
    ),
    security(("account" = []))
)]
async fn link_identity(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    tls: Tls,
    Content(new): Content<NewIdentity>,
) -> Result<Response, Problem> {
    let account = own(&actor)?;
    Link::PERMISSION.check(&actor, Some(account), true)?;
    let provider = named(&identity, Ok(Path(new.provider)))?;
    let (location, flow) = provider.begin(path(new.return_to)?, Some(account)).await?;
    let cookie = flow_cookie(&identity, &flow, tls).await?;
    Ok((AppendHeaders([cookie]), Json(Onward { location })).into_response())
}

/// Unlink an identity
///
/// The last way to sign in to an account cannot be unlinked.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/me/identities/{identity}",
    params(("identity" = String, Path, description = "The identity's id")),
    responses((status = NO_CONTENT, description = "It is unlinked"), UnlinkProblems),
    security(("account" = []))
)]
async fn unlink_identity(
    State(identity): State<Identity>,
    Sender(actor): Sender,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    own(&actor)?;
    let unknown = || Problem::from(Refusal::NotFound { thing: "identity" });
    let Path(id) = id.map_err(|_| unknown())?;
    let command = Unlink { identity: id.parse().map_err(|_| unknown())? };
    Ok(done(identity.platform().send(actor, command).await?.sequence))
}

/// A provider of the configuration.
fn named(
    identity: &Identity,
    id: Result<Path<String>, PathRejection>,
) -> Result<&Provider, Problem> {
    let unknown = || Problem::new(Kind::NotFound, "there is no such provider");
    let Path(id) = id.map_err(|_| unknown())?;
    identity.providers().ok_or_else(unknown)?.named(&id)
}

/// A path on this site. Another address would make this site a signpost for anybody.
fn path(given: Option<String>) -> Result<String, Problem> {
    let Some(path) = given else { return Ok("/".to_owned()) };
    let is_path = path.starts_with('/') && !path[1..].starts_with(['/', '\\']);
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
    match is_path && is_plain && path.len() <= MAX_PATH {
        true => Ok(path),
        false => Err(invalid("return_to is a path on this site, such as /watch/demo".to_owned())),
    }
}

async fn flow_cookie(
    identity: &Identity,
    flow: &Flow,
    tls: Tls,
) -> Result<(HeaderName, HeaderValue), Problem> {
    let store = identity.platform().store().await?;
    let now = Time::from(std::time::SystemTime::now());
    let value = flow.signed(store.vault(), now);
    let value = value.ok_or_else(|| invalid("return_to is too long".to_owned()))?;
    Ok(cookie::named(tls, oidc::COOKIE, &value, oidc::LIFE.as_secs()))
}

fn to(location: &str) -> Result<[(HeaderName, HeaderValue); 1], Problem> {
    let wrong = |_| Problem::new(Kind::Internal, "the next address is invalid");
    Ok([(header::LOCATION, HeaderValue::from_str(location).map_err(wrong)?)])
}

fn invalid(words: String) -> Problem {
    Problem::new(Kind::InvalidRequest, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_returns_to_this_site_only() {
        assert_eq!(path(None).as_deref(), Ok("/"));
        for own in ["/", "/watch/demo?t=1#x", "/a//b"] {
            assert_eq!(path(Some(own.to_owned())).as_deref(), Ok(own));
        }
        let long = format!("/{}", "x".repeat(MAX_PATH));
        for foreign in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "/a\r\nb",
            "/ä",
            &long,
        ] {
            assert!(path(Some(foreign.to_owned())).is_err(), "{foreign:?}");
        }
    }
}
