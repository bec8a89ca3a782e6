//! A sign-in with the trust's own identity provider, as the second factor of an enrolment: OpenID Connect Core 1.0 with the
//! authorisation code flow and PKCE (RFC 7636), for a native program whose redirect comes to a port of its own (RFC 8252).
//!
//! The node is the relying party: it has the client's secret, makes state, nonce and verifier, exchanges the code, and judges the ID
//! token. The device sees the address at which its holder signs in, and what the redirect brings. What a sign-in needs until then is in
//! memory alone, bound to one invitation, for [`SIGN_IN_SECS_MAX`] seconds, and is taken out when it is used: a restart, or a second use,
//! needs another sign-in. The provider's metadata and keys are fetched anew each time, so that nothing goes stale; only who has an
//! invitation can have that done. Why so: decision 0011.

mod claims;
mod https;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lanyard_crypto::Timestamp;
use lanyard_crypto::gateway::{
    SIGN_IN_CODE_BYTES_MAX, SIGN_IN_PATH, SIGN_IN_SECS_MAX, SignInResponse, SignedIn,
};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType, CoreGenderClaim,
    CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreResponseType, CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse,
    CoreTokenType,
};
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthType, AuthenticationContextClass, AuthenticationFlow,
    AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, DiscoveryError, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse, UserInfoClaims,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::files::{self, FileError};
use crate::invitations::Invitee;

pub use claims::{Claim, ClaimError, Mapping, Requirement, Template};
use https::{Https, HttpsError};

/// How long a provider can keep the node waiting for a sign-in: metadata, keys, the token and what it says besides.
pub const TIME_MAX: Duration = https::ANSWER_TIME_MAX.saturating_mul(4);
/// Sign-ins under way; one of each invitation.
const UNDER_WAY_MAX: usize = 1024;
/// How long ago the person may have signed in when the sign-in begins, in seconds: clocks differ.
const SIGNED_IN_BEFORE_SECS_MAX: u64 = CLOCK_SKEW_SECS_MAX;
/// What is shown of a provider's own words, in characters.
const SHOWN_CHARS_MAX: usize = 120;
/// How ID tokens may be signed (RFC 7518, section 3.1): by keys that the provider alone has. Neither `none`, nor a secret that both
/// sides know.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What the configuration says about the provider.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its issuer identifier, an `https` URL.
    pub issuer: IssuerUrl,
    /// As whom the node is registered with it.
    pub client_id: String,
    /// The file with the client's secret, if it has one.
    pub client_secret: Option<PathBuf>,
    /// The file with the authorities that certify the provider's name, PEM.
    pub authorities: PathBuf,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The authentication context classes that are asked for, of which the token must name one; none for any.
    pub acr_values: Vec<String>,
    /// Which claims are what.
    pub mapping: Mapping,
}

/// Why there is no identity provider to ask. The operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file with the authorities.
    #[error("{}: at least one certificate of an authority is needed, in PEM", .0.display())]
    Authorities(PathBuf),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Not begun, begun by another invitation, used already, or too late.
    #[error("this sign-in is not under way: it was not begun here, was used, or took too long; enrol again")]
    Unknown,
    /// Too many.
    #[error("too many sign-ins are under way; try again in a few minutes")]
    TooMany,
    /// It cannot be asked, or what it publishes is of no use.
    #[error("the trust's identity provider cannot be used: {0}; try again later, or tell your trust's IT")]
    Provider(String),
    /// It does not give a token for the code.
    #[error("the trust's identity provider does not confirm the sign-in ({0}); enrol again")]
    NotConfirmed(String),
    /// Its token is not to be believed.
    #[error("the identity provider's token is refused: {0}; tell your trust's IT")]
    Token(String),
    /// What it says is not enough.
    #[error("{0}; ask who invited you, who may have to invite you as your identity provider knows you")]
    Claim(#[from] ClaimError),
}

/// What is left of a sign-in, for the audit log.
pub struct Evidence {
    issuer: String,
    token_sha256: [u8; 32],
    context: Option<String>,
    signed_in: Option<i64>,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signed in with {}, ID token SHA-256 {}", self.issuer, to_hex(&self.token_sha256))?;
        if let Some(context) = &self.context {
            write!(f, ", acr {context}")?;
        }
        match self.signed_in.and_then(|at| u64::try_from(at).ok()) {
            Some(at) => write!(f, ", at {}", crate::time::rfc3339(Timestamp::from_secs(at))),
            None => Ok(()),
        }
    }
}

/// Claims that OpenID Connect itself does not name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Others(Map<String, Value>);

impl AdditionalClaims for Others {}

type Tokens = StandardTokenResponse<
    IdTokenFields<
        Others,
        EmptyExtraTokenFields,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    >,
    CoreTokenType,
>;

type Provider = Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

struct UnderWay {
    invitation: Vec<u8>,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
    redirect: RedirectUrl,
    begun: Instant,
    begun_at: Timestamp,
}

/// The trust's identity provider, and the sign-ins with it that are under way.
pub struct IdentityProvider {
    options: Options,
    secret: Option<ClientSecret>,
    https: Https,
    /// By state.
    under_way: Mutex<HashMap<String, UnderWay>>,
}

impl IdentityProvider {
    /// Reads the files; nothing is asked yet.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let secret = match &options.client_secret {
            Some(path) => Some(ClientSecret::new(files::read_secret_text(path)?.trim().to_owned())),
            None => None,
        };
        let text = files::read_text(&options.authorities)?;
        let mut authorities = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
        let (read, _) = authorities.add_parsable_certificates(certificates);
        if read == 0 {
            return Err(OpenError::Authorities(options.authorities.clone()));
        }
        let https = Https::new(authorities)?;
        Ok(Self { options: options.clone(), secret, https, under_way: Mutex::default() })
    }

    /// Begins a sign-in for an invitation whose code was proven; the redirect goes to this port of the device.
    ///
    /// # Errors
    /// [`SignInError::Provider`] or [`SignInError::TooMany`].
    pub async fn begin(
        &self,
        invitation: &[u8],
        port: u16,
        now: Timestamp,
    ) -> Result<SignInResponse, SignInError> {
        let redirect = format!("http://127.0.0.1:{port}{SIGN_IN_PATH}");
        let redirect = RedirectUrl::new(redirect).map_err(|error| provider(&error))?;
        let client = self.discover(redirect.clone()).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = client
            .authorize_url(
                AuthenticationFlow::<CoreResponseType>::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge)
            .add_scopes(self.options.scopes.iter().cloned().map(Scope::new))
            // Whoever is signed in at this browser already need not be who was invited.
            .add_prompt(CoreAuthPrompt::Login)
            .set_max_age(Duration::from_secs(SIGNED_IN_BEFORE_SECS_MAX));
        for class in &self.options.acr_values {
            request = request.add_auth_context_value(AuthenticationContextClass::new(class.clone()));
        }
        let (url, state, nonce) = request.url();
        let state = state.into_secret();
        let under_way = UnderWay {
            invitation: invitation.to_vec(),
            nonce,
            verifier,
            redirect,
            begun: Instant::now(),
            begun_at: now,
        };
        self.keep(state.clone(), under_way)?;
        Ok(SignInResponse { url: url.into(), state })
    }

    /// Ends a sign-in: says whom the provider has signed in, as the certificate of who was invited will say it.
    ///
    /// # Errors
    /// [`SignInError`]; the sign-in is then over, too.
    pub async fn complete(
        &self,
        invitation: &[u8],
        invited: &Invitee,
        signed_in: &SignedIn,
    ) -> Result<(Invitee, Evidence), SignInError> {
        let begun = self.take(&signed_in.state, invitation)?;
        let mixed_up = |issuer: &String| *issuer != *self.options.issuer.as_str();
        if signed_in.code.len() > SIGN_IN_CODE_BYTES_MAX || signed_in.issuer.as_ref().is_some_and(mixed_up) {
            return Err(SignInError::NotConfirmed("the redirect is not from it".into()));
        }
        let client = self.discover(begun.redirect.clone()).await?;
        let exchange = client.exchange_code(AuthorizationCode::new(signed_in.code.clone()));
        let exchange = exchange.map_err(|error| provider(&error))?.set_pkce_verifier(begun.verifier);
        let tokens = exchange.request_async(&self.http()).await.map_err(not_confirmed)?;
        let (said, evidence) = self.judge(&client, &tokens, &begun.nonce, begun.begun_at)?;
        let said = match self.options.mapping.is_complete(&said) {
            true => said,
            false => self.more(&client, &tokens, said).await?,
        };
        let person = self.options.mapping.read(&said)?;
        Ok((self.options.mapping.confirm(invited, &person)?, evidence))
    }

    /// Checks the ID token (OpenID Connect Core 1.0, section 3.1.3.7).
    fn judge(
        &self,
        client: &Provider,
        tokens: &Tokens,
        nonce: &Nonce,
        begun_at: Timestamp,
    ) -> Result<(Value, Evidence), SignInError> {
        let refused = |error: &dyn fmt::Display| SignInError::Token(shown(error));
        let token = tokens.id_token().ok_or_else(|| SignInError::Token("there is none".into()))?;
        let earliest = begun_at.as_secs().saturating_sub(SIGNED_IN_BEFORE_SECS_MAX);
        let wanted = self.options.acr_values.clone();
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_auth_time_verifier_fn(move |at| match at.and_then(|at| u64::try_from(at.timestamp()).ok()) {
                Some(at) if at >= earliest => Ok(()),
                Some(_) => Err("the person signed in too long ago".into()),
                None => Err("it does not say when the person signed in (auth_time)".into()),
            })
            .set_auth_context_verifier_fn(move |class| {
                let fits = |class: &AuthenticationContextClass| wanted.iter().any(|w| *w == **class);
                match wanted.is_empty() || class.is_some_and(fits) {
                    true => Ok(()),
                    false => Err("the person did not sign in as this trust asks for (acr)".into()),
                }
            });
        let claims = token.claims(&verifier, nonce).map_err(|error| refused(&error))?;
        if claims.authorized_party().is_some_and(|party| **party != *self.options.client_id) {
            return Err(SignInError::Token("it was made for another party (azp)".into()));
        }
        if let Some(expected) = claims.access_token_hash() {
            let algorithm = token.signing_alg().map_err(|error| refused(&error))?;
            let key = token.signing_key(&verifier).map_err(|error| refused(&error))?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            if actual.map_err(|error| refused(&error))? != *expected {
                return Err(SignInError::Token("it goes with another access token (at_hash)".into()));
            }
        }
        let evidence = Evidence {
            issuer: self.options.issuer.to_string(),
            token_sha256: Sha256::digest(token.to_string().as_bytes()).into(),
            context: claims.auth_context_ref().map(|class| shown(&**class)),
            signed_in: claims.auth_time().map(|at| at.timestamp()),
        };
        let said = serde_json::to_value(claims).map_err(|error| refused(&error))?;
        Ok((said, evidence))
    }

    /// Adds what the provider says at its UserInfo endpoint about the same subject. What the token says, stands.
    async fn more(&self, client: &Provider, tokens: &Tokens, said: Value) -> Result<Value, SignInError> {
        let subject = said.get("sub").and_then(Value::as_str).map(str::to_owned);
        let subject = subject.ok_or_else(|| SignInError::Token("it names no subject".into()))?;
        let subject = openidconnect::SubjectIdentifier::new(subject);
        // A provider without this endpoint has said all that it says.
        let Ok(request) = client.user_info(tokens.access_token().clone(), Some(subject)) else {
            return Ok(said);
        };
        let claims: Result<UserInfoClaims<Others, CoreGenderClaim>, _> =
            request.request_async(&self.http()).await;
        let claims = claims.map_err(|error| match error {
            // Names both subjects, which are nobody's business.
            openidconnect::UserInfoError::ClaimsVerification(_) => {
                SignInError::Token("its UserInfo is about somebody else, or is not to be believed".into())
            }
            // It would quote what it cannot read.
            openidconnect::UserInfoError::Parse(_) => {
                SignInError::Token("its UserInfo cannot be read".into())
            }
            other => provider(&other),
        })?;
        let more = serde_json::to_value(claims).map_err(|error| provider(&error))?;
        let (Value::Object(mut more), Value::Object(said)) = (more, said) else {
            return Err(SignInError::Token("its claims are no object".into()));
        };
        more.extend(said.into_iter().filter(|(_, value)| !value.is_null()));
        Ok(Value::Object(more))
    }

    async fn discover(&self, redirect: RedirectUrl) -> Result<Provider, SignInError> {
        let found = CoreProviderMetadata::discover_async(self.options.issuer.clone(), &self.http()).await;
        let metadata = found.map_err(|error| match error {
            DiscoveryError::Request(error) => SignInError::Provider(chain(&error)),
            other => provider(&other),
        })?;
        let methods = metadata.token_endpoint_auth_methods_supported().cloned();
        // Where it does not say, RFC 6749 has it in the header.
        let method = match methods {
            Some(methods) if !methods.contains(&CoreClientAuthMethod::ClientSecretBasic) => {
                AuthType::RequestBody
            }
            _ => AuthType::BasicAuth,
        };
        let client = Client::from_provider_metadata(
            metadata,
            ClientId::new(self.options.client_id.clone()),
            self.secret.clone(),
        );
        Ok(client.set_auth_type(method).set_redirect_uri(redirect))
    }

    fn http(
        &self,
    ) -> impl Fn(
        HttpRequest,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<openidconnect::HttpResponse, HttpsError>> + Send>,
    > + use<> {
        let https = self.https.clone();
        move |request| Box::pin(https.clone().ask(request))
    }

    /// Keeps what begins, in place of an earlier one of the same invitation.
    fn keep(&self, state: String, begun: UnderWay) -> Result<(), SignInError> {
        self.under_way(|all| {
            all.retain(|_, other| other.invitation != begun.invitation);
            if all.len() >= UNDER_WAY_MAX {
                return Err(SignInError::TooMany);
            }
            all.insert(state, begun);
            Ok(())
        })
    }

    fn take(&self, state: &str, invitation: &[u8]) -> Result<UnderWay, SignInError> {
        self.under_way(|all| match all.get(state) {
            Some(begun) if begun.invitation == invitation => all.remove(state),
            _ => None,
        })
        .ok_or(SignInError::Unknown)
    }

    fn under_way<T>(&self, work: impl FnOnce(&mut HashMap<String, UnderWay>) -> T) -> T {
        self.under_way_at(Instant::now(), work)
    }

    fn under_way_at<T>(&self, now: Instant, work: impl FnOnce(&mut HashMap<String, UnderWay>) -> T) -> T {
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let time_max = Duration::from_secs(SIGN_IN_SECS_MAX);
        all.retain(|_, begun| now.duration_since(begun.begun) < time_max);
        work(&mut all)
    }
}

fn provider(error: &dyn std::error::Error) -> SignInError {
    SignInError::Provider(chain(error))
}

/// OAuth's own word for why there is no token is stable, and holds nothing personal; what a provider writes besides may.
fn not_confirmed(
    error: RequestTokenError<HttpsError, StandardErrorResponse<CoreErrorResponseType>>,
) -> SignInError {
    match error {
        RequestTokenError::ServerResponse(said) => SignInError::NotConfirmed(shown(said.error())),
        RequestTokenError::Request(error) => SignInError::Provider(chain(&error)),
        RequestTokenError::Parse(..) => SignInError::Token("the answer holds none that can be read".into()),
        RequestTokenError::Other(reason) => SignInError::Provider(shown(&reason)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    shown(&format!("{error}{source}"))
}

/// Somebody else's words, cut, on one line.
fn shown(words: &dyn fmt::Display) -> String {
    let words = words.to_string();
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS_MAX).collect()
}
