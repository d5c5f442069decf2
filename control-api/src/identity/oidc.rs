//! Signing in at a foreign provider: OpenID Connect Core 1.0, the authorization code flow (3.1)
//! with PKCE (RFC 7636, S256), state, nonce, the issuer of the response (RFC 9207) and discovery.
//!
//! - [`Provider`]: a provider of the configuration, with its document and keys. `client`: requests
//!   to it. `flow`: the state of a sign-in in the browser's cookie. [`Claims`]: the person.
//!   `account`: the account of a person.
//!
//! The keys of a provider are fetched again when a token names an unknown one, so that it can
//! rotate them at any time.

pub(crate) mod account;
mod client;
mod flow;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use control_domain::{features::identities::subject::Subject, id::AccountId, text::Email};
use http::Uri;
use openidconnect::{
    AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    Scope, SignatureVerificationError, TokenResponse as _,
    core::{
        CoreClient, CoreClientAuthMethod, CoreIdTokenClaims, CoreJwsSigningAlgorithm,
        CoreProviderMetadata, CoreResponseType, CoreTokenResponse, CoreUserInfoClaims,
    },
};
use tokio::sync::Semaphore;
use tracing::{info, warn};

use self::client::Client;
pub(crate) use self::flow::{COOKIE, Flow, LIFE};
use crate::problem::{Kind, Problem};

/// Time for which a provider's document and keys are used.
const FRESH: Duration = Duration::from_secs(3_600);
/// The least time between two requests for them because of an unknown key.
const LEAST_AGE: Duration = Duration::from_secs(5);
/// The words of a problem that is the provider's.
const FAULTY: &str = "the provider does not respond as it should";
/// Longest subject (OpenID Connect Core 2).
const MAX_SUBJECT_BYTES: usize = 255;

/// The client of a provider whose document is known.
type Discovered = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// A provider in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name in addresses: letters, digits, `-` and `_`.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// The issuer identifier, an address; with http only on this machine.
    pub issuer: String,
    /// The identifier that the provider has given to this installation.
    pub client_id: String,
    /// The secret that belongs to it; `None` for a public client.
    pub client_secret: Option<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// Why a provider cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identifier is not one.
    #[error("oidc.id {0:?} has other characters than letters, digits, - and _, or is used twice")]
    Id(String),
    /// The issuer is no address, or one without TLS.
    #[error("oidc.issuer {0:?} must be an https address; http is for this machine alone")]
    Issuer(String),
    /// The address of this site is not known.
    #[error("[[oidc]] needs http.public_url, to which the provider sends browsers back")]
    Site,
    /// The TLS settings are not supported.
    #[error("oidc: {0}")]
    Tls(rustls::Error),
}

/// All providers. Clones share them.
#[derive(Debug, Clone)]
pub struct Providers(Arc<[Provider]>);

/// A provider.
pub struct Provider {
    settings: Settings,
    redirect: RedirectUrl,
    issuer: IssuerUrl,
    client: Client,
    known: ArcSwapOption<Known>,
    /// One request for the document at a time.
    fetching: Semaphore,
    /// When the last request for it failed.
    failed: ArcSwapOption<Instant>,
}

/// A provider's document with its keys.
struct Known {
    metadata: CoreProviderMetadata,
    since: Instant,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// A person, as a provider names it in a verified ID token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    subject: Subject,
    email: Option<Email>,
    email_verified: bool,
    name: Option<String>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subject.fmt(f)
    }
}

impl Providers {
    /// The providers of a configuration. `site` is the address of this site. Blocks for the
    /// certificate authorities of the system.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(all: Vec<Settings>, site: &str) -> Result<Self, Error> {
        let mut providers = Vec::<Provider>::with_capacity(all.len());
        let authorities = client::authorities();
        for settings in all {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let is_valid =
                (1..=64).contains(&settings.id.len()) && settings.id.chars().all(is_plain);
            let is_used = providers.iter().any(|other| other.settings.id == settings.id);
            if !is_valid || is_used {
                return Err(Error::Id(settings.id));
            }
            let wrong = || Error::Issuer(settings.issuer.clone());
            let uri = settings.issuer.parse::<Uri>().map_err(|_| wrong())?;
            if !client::is_permitted(&uri, client::is_loopback(&uri)) {
                return Err(wrong());
            }
            let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| wrong())?;
            let site = site.trim_end_matches('/');
            let redirect = format!("{site}/api/v1/oidc/{}/callback", settings.id);
            providers.push(Provider {
                redirect: RedirectUrl::new(redirect).map_err(|_| Error::Site)?,
                client: Client::new(&authorities, client::is_loopback(&uri)).map_err(Error::Tls)?,
                issuer,
                known: ArcSwapOption::empty(),
                fetching: Semaphore::new(1),
                failed: ArcSwapOption::empty(),
                settings,
            });
        }
        Ok(Self(providers.into()))
    }

    /// The identifier and the name of each, in the order of the configuration.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|provider| (&*provider.settings.id, &*provider.settings.name))
    }

    /// A provider.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn named(&self, id: &str) -> Result<&Provider, Problem> {
        let found = self.0.iter().find(|provider| provider.settings.id == id);
        found.ok_or_else(|| Problem::new(Kind::NotFound, "there is no such provider"))
    }
}

impl Provider {
    /// The name in addresses.
    pub(crate) fn id(&self) -> &str {
        &self.settings.id
    }

    /// Begins a sign-in: the address to which the browser goes, and the state for its cookie.
    ///
    /// # Errors
    /// 502 if the provider cannot be reached.
    pub(crate) async fn begin(
        &self,
        return_to: String,
        account: Option<AccountId>,
    ) -> Result<(String, Flow), Problem> {
        let known = self.known(FRESH).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = self.discovered(&known);
        let (address, state, nonce) = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scope(Scope::new("email".to_owned()))
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        let flow = Flow::new(
            self.settings.id.clone(),
            state.secret().clone(),
            nonce.secret().clone(),
            verifier.secret().clone(),
            return_to,
            account,
        );
        Ok((address.into(), flow))
    }

    /// Ends a sign-in: exchanges the code, and verifies the ID token.
    ///
    /// # Errors 403 if the provider refuses, or the token is not the one of this sign-in; 502 if it
    /// cannot be reached or its response is no response.
    pub(crate) async fn complete(
        &self,
        flow: &Flow,
        code: String,
        issuer: Option<&str>,
    ) -> Result<Claims, Problem> {
        // Before the code is sent anywhere: another provider may have sent the browser here.
        if issuer.is_some_and(|issuer| issuer != self.issuer.as_str()) {
            return Err(refused("the response comes from another issuer"));
        }
        let known = self.known(FRESH).await?;
        let client = self.discovered(&known);
        let exchange = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|err| self.faulty(&err))?
            .set_pkce_verifier(PkceCodeVerifier::new(flow.verifier().to_owned()));
        let response = match exchange.request_async(&self.client).await {
            Ok(response) => response,
            Err(RequestTokenError::ServerResponse(err)) => {
                info!(provider = self.settings.id, error = %err.error(), "code refused");
                return Err(refused("the provider does not take the code"));
            }
            Err(err) => return Err(self.faulty(&err)),
        };
        let nonce = Nonce::new(flow.nonce().to_owned());
        let claims = match self.verified(&client, &response, &nonce) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                // It has rotated its keys.
                let known = self.known(LEAST_AGE).await?;
                self.verified(&self.discovered(&known), &response, &nonce)
            }
            result => result,
        };
        let claims = claims.map_err(|err| {
            warn!(provider = self.settings.id, %err, "the ID token is not valid");
            refused("the provider's ID token is not valid for this sign-in")
        })?;
        self.person(&client, &response, &claims).await
    }

    /// The claims of the ID token of a response, if it is valid.
    fn verified(
        &self,
        client: &Discovered,
        response: &CoreTokenResponse,
        nonce: &Nonce,
    ) -> Result<CoreIdTokenClaims, ClaimsVerificationError> {
        let none = || ClaimsVerificationError::Other("there is no ID token".to_owned());
        let token = response.id_token().ok_or_else(none)?;
        // Not `none`, and nothing that is signed with a shared secret.
        let verifier = client.id_token_verifier().set_allowed_algs([
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
            CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
            CoreJwsSigningAlgorithm::RsaSsaPssSha256,
            CoreJwsSigningAlgorithm::EcdsaP256Sha256,
            CoreJwsSigningAlgorithm::EcdsaP384Sha384,
            CoreJwsSigningAlgorithm::EdDsa,
        ]);
        token.claims(&verifier, nonce).cloned()
    }

    /// The person of an ID token. What the token does not say of the address is asked for.
    async fn person(
        &self,
        client: &Discovered,
        response: &CoreTokenResponse,
        claims: &CoreIdTokenClaims,
    ) -> Result<Claims, Problem> {
        let subject = claims.subject().as_str().to_owned();
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return Err(refused("the provider's ID token has no valid subject"));
        }
        let mut person = Claims {
            subject: Subject { issuer: self.issuer.as_str().to_owned(), subject },
            email: claims.email().and_then(|email| email.as_str().parse().ok()),
            email_verified: claims.email_verified() == Some(true),
            name: first([
                claims.preferred_username().map(|name| name.as_str()),
                claims.name().and_then(|name| name.get(None)).map(|name| name.as_str()),
            ]),
        };
        let token = response.access_token().clone();
        let ask = client.user_info(token, Some(claims.subject().clone()));
        if person.email.is_none()
            && let Ok(ask) = ask
        {
            let more: CoreUserInfoClaims =
                ask.request_async(&self.client).await.map_err(|err| self.faulty(&err))?;
            person.email = more.email().and_then(|email| email.as_str().parse().ok());
            person.email_verified = more.email_verified() == Some(true);
            person.name = person.name.or_else(|| {
                first([
                    more.preferred_username().map(|name| name.as_str()),
                    more.name().and_then(|name| name.get(None)).map(|name| name.as_str()),
                ])
            });
        }
        Ok(person)
    }

    /// The provider's document and keys, no older than `age`.
    async fn known(&self, age: Duration) -> Result<Arc<Known>, Problem> {
        let fresh = || self.known.load_full().filter(|known| known.since.elapsed() < age);
        if let Some(known) = fresh() {
            return Ok(known);
        }
        let _permit = self.fetching.acquire().await.map_err(|err| self.faulty(&err))?;
        // Another request may have fetched it meanwhile.
        if let Some(known) = fresh() {
            return Ok(known);
        }
        // A provider that is down costs those that wait one request together, not one each.
        let has_just_failed =
            self.failed.load().as_deref().is_some_and(|failed| failed.elapsed() < LEAST_AGE);
        if !has_just_failed {
            match CoreProviderMetadata::discover_async(self.issuer.clone(), &self.client).await {
                Ok(metadata) => {
                    let known = Arc::new(Known { metadata, since: Instant::now() });
                    self.known.store(Some(Arc::clone(&known)));
                    return Ok(known);
                }
                Err(err) => {
                    self.failed.store(Some(Arc::new(Instant::now())));
                    // Logged, and the response if nothing is known.
                    drop(self.faulty(&err));
                }
            }
        }
        // An old document is better than none; its keys verify what they signed.
        let known = self.known.load_full().filter(|_| age == FRESH);
        known.ok_or_else(|| Problem::new(Kind::ProviderFaulty, FAULTY))
    }

    /// The client of a provider's document.
    fn discovered(&self, known: &Known) -> Discovered {
        let secret = self.settings.client_secret.clone().map(ClientSecret::new);
        let id = ClientId::new(self.settings.client_id.clone());
        let methods = known.metadata.token_endpoint_auth_methods_supported();
        let is_basic = methods
            .is_none_or(|methods| methods.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let client = CoreClient::from_provider_metadata(known.metadata.clone(), id, secret)
            .set_redirect_uri(self.redirect.clone());
        // RFC 6749 2.3.1: Basic is what every provider has, unless it says otherwise.
        client.set_auth_type(if is_basic { AuthType::BasicAuth } else { AuthType::RequestBody })
    }

    /// The problem of a provider that does not respond as the standard says.
    fn faulty(&self, err: &dyn std::error::Error) -> Problem {
        let cause = err.source().map(ToString::to_string).unwrap_or_default();
        warn!(provider = self.settings.id, %err, cause, "the provider of identities is faulty");
        Problem::new(Kind::ProviderFaulty, FAULTY)
    }
}

/// The first text of several that is not empty.
fn first<const N: usize>(texts: [Option<&str>; N]) -> Option<String> {
    let mut texts = texts.into_iter().flatten().map(str::trim);
    texts.find(|text| !text.is_empty()).map(str::to_owned)
}

pub(crate) fn refused(words: &'static str) -> Problem {
    Problem::new(Kind::ProviderRefused, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(id: &str, issuer: &str) -> Settings {
        Settings {
            id: id.to_owned(),
            name: "Example".to_owned(),
            issuer: issuer.to_owned(),
            client_id: "streamforge".to_owned(),
            client_secret: Some("s3cret".to_owned()),
        }
    }

    #[test]
    fn a_provider_without_tls_is_on_this_machine_and_the_secret_is_never_printed() {
        let site = "https://live.example.org/";
        for issuer in ["https://login.example.org", "http://127.0.0.1:9000", "http://localhost:1"] {
            let providers = Providers::new(vec![settings("a-1", issuer)], site).expect(issuer);
            let printed = format!("{providers:?}");
            assert!(printed.contains(issuer) && !printed.contains("s3cret"), "{printed}");
            let redirect = providers.0[0].redirect.as_str();
            assert_eq!(redirect, "https://live.example.org/api/v1/oidc/a-1/callback");
        }
        for issuer in ["http://login.example.org", "ftp://a.example", "", "http://127.0.0.1.evil"] {
            let refused = Providers::new(vec![settings("a", issuer)], site);
            assert!(matches!(refused, Err(Error::Issuer(_))), "{issuer}");
        }
        let issuer = "https://login.example.org";
        for ids in [&["a/b"][..], &[""], &["a", "a"]] {
            let all = ids.iter().map(|id| settings(id, issuer)).collect();
            assert!(matches!(Providers::new(all, site), Err(Error::Id(_))), "{ids:?}");
        }
        assert!(matches!(Providers::new(vec![settings("a", issuer)], ""), Err(Error::Site)));
    }
}
