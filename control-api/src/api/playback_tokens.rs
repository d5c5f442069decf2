//! `/api/v1/playback-tokens`: tokens for viewers of private channels.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use control_domain::{Time, features::channels::queries};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::channels;
use crate::{
    Platform,
    authentication::Sender,
    content::Content,
    described::described,
    playback::{Admission, PlaybackTokens},
    problem::{Fault, Kind, Problem, problems},
};

/// Least and greatest life of a token in seconds.
const LIFE_S: std::ops::RangeInclusive<u32> = 60..=604_800;
/// Life of a token for which none is requested.
const DEFAULT_LIFE_S: u32 = 3_600;

/// The state of the routes.
#[derive(Debug, Clone)]
struct Issuer {
    platform: Platform,
    tokens: Arc<dyn PlaybackTokens>,
}

/// The routes.
pub(super) fn routes(
    platform: Platform,
    tokens: Arc<dyn PlaybackTokens>,
) -> OpenApiRouter<Platform> {
    OpenApiRouter::new()
        .routes(routes!(issue_playback_token))
        .routes(routes!(show_playback_key))
        .with_state(Issuer { platform, tokens })
}

/// A token to issue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPlaybackToken {
    /// The id or name of the channel that it opens.
    #[schema(min_length = 1, max_length = 64)]
    channel: String,
    /// Its life in seconds. Default 3600.
    #[serde(default = "default_life")]
    #[schema(minimum = 60, maximum = 604_800, default = 3_600)]
    expires_in: u32,
    /// The only address from which it may be used. Default: any.
    #[serde(default)]
    #[schema(value_type = Option<String>, required = false, example = "192.0.2.7")]
    client_address: Option<IpAddr>,
}

fn default_life() -> u32 {
    DEFAULT_LIFE_S
}

/// A token, and where to play with it.
#[derive(Serialize, ToSchema)]
struct PlaybackToken {
    /// The token: a JWT. It can be sent as Authorization: Bearer, as a part of the path, or as the
    /// parameter `token` of the first request.
    token: String,
    /// From when on it is invalid.
    #[schema(schema_with = described::<Time>)]
    expires: Time,
    /// The path of the multivariant playlist (HLS).
    hls: String,
    /// The path of the manifest (DASH).
    dash: String,
}

/// The key with which playback tokens are verified.
#[derive(Debug, Serialize, ToSchema)]
struct PlaybackKey {
    /// Its `kid`, the `id` of an entry of `playback.keys` at an edge.
    id: String,
    /// The Ed25519 public key in PEM, the `public_key` of that entry.
    public_key: String,
}

problems!(
    /// Problems of [`issue_playback_token`].
    IssueProblems: InvalidRequest, InvalidIdempotencyKey, Unauthenticated, InvalidToken, Forbidden,
    NotFound, RequestInProgress, InvalidContent, IdempotencyKeyReused
);
problems!(
    /// Problems of [`show_playback_key`].
    KeyProblems: InvalidToken, PreconditionFailed
);

/// Issue a playback token
///
/// It opens one channel, live, until it expires; it cannot be revoked alone. The owner of the
/// channel and moderators may issue it, for example in the back end of a page with its own
/// accounts.
#[utoipa::path(
    post,
    path = "/api/v1/playback-tokens",
    request_body = NewPlaybackToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    responses(
        (status = CREATED, description = "The token", body = PlaybackToken,
            content_type = "application/json"),
        IssueProblems
    ),
    security(("account" = []), ("administrator" = []))
)]
async fn issue_playback_token(
    State(issuer): State<Issuer>,
    Sender(actor): Sender,
    Content(new): Content<NewPlaybackToken>,
) -> Result<Response, Problem> {
    if !LIFE_S.contains(&new.expires_in) {
        let (least, most) = (LIFE_S.start(), LIFE_S.end());
        let detail = format!("{} is not {least} to {most} seconds", new.expires_in);
        let fault = Fault { pointer: "/expires_in".into(), detail: detail.into() };
        let problem = Problem::new(Kind::InvalidContent, "the life of the token is invalid");
        return Err(problem.with_errors([fault]));
    }
    let (id, _) = channels::found(&issuer.platform, actor, Ok(Path(new.channel))).await?;
    let channel = issuer.platform.read(|rows| queries::admitting(rows, &actor, id)).await?;
    let internal = || Problem::new(Kind::Internal, "the token cannot be signed");
    let life = Duration::from_secs(u64::from(new.expires_in));
    // Whole seconds, as in the token.
    let expires_s = Time::from(SystemTime::now()).after(life).as_millis() / 1_000;
    let admission = Admission {
        channel: channel.name.parse().map_err(|_| internal())?,
        address: new.client_address,
        expires_s,
    };
    let token = issuer.tokens.issue(&admission).ok_or_else(internal)?;
    let path = |file| format!("/t/{token}/live/{}/{file}", channel.name);
    let (hls, dash) = (path("master.m3u8"), path("manifest.mpd"));
    let expires = Time::from_millis(expires_s * 1_000);
    Ok((StatusCode::CREATED, Json(PlaybackToken { token, expires, hls, dash })).into_response())
}

/// Show the key of playback tokens
///
/// An edge or CDN verifies tokens with it.
#[utoipa::path(
    get,
    path = "/api/v1/playback-tokens/key",
    responses(
        (status = OK, description = "The key", body = PlaybackKey,
            content_type = "application/json"),
        KeyProblems
    ),
    security((), ("account" = []), ("administrator" = []))
)]
async fn show_playback_key(State(issuer): State<Issuer>) -> Response {
    let (id, public_key) = issuer.tokens.key();
    let public = [(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"))];
    (public, Json(PlaybackKey { id, public_key })).into_response()
}
