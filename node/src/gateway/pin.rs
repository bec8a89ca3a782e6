//! Devices' PINs over HTTPS: the node's half of OPAQUE, with what the engine counts and keeps.
//!
//! An exchange that is under way is in memory alone: one of a device, and the newer one takes its place. It was counted before it began.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::routing::{delete, post, put};
use lanyard_crypto::Fingerprint;
use lanyard_crypto::gateway::{
    PinAnswer, PinProof, PinRequest as PinMessage, PinSession as PinOpened, PinUpload,
};
use lanyard_crypto::pin::{
    NodeProof, PinError, PinRecord, ServerSecret, SessionProof, SessionToken, answer_setup,
};
use lanyard_replica::Reply;
use lanyard_replica::pin::{Hidden, PinPolicy, PinRequest};
use tokio::sync::OnceCell;

use super::body::{Cbor, Empty, Outcome, Refused, read};
use super::routes::{Shared, blocking, internal};
use super::session::Device;
use super::{Gateway, limits};
use crate::backend::PinState;
use crate::time::now;

/// How long an exchange waits for the client's proof: it takes the client's Argon2id in between.
const PROOF_TIME_MAX: Duration = Duration::from_secs(120);

/// What the gateway knows of PINs beside the engine.
pub(super) struct Pins {
    /// How they are bounded.
    pub(super) policy: PinPolicy,
    /// After how much idle time clients lock themselves, in seconds.
    pub(super) idle_secs: u64,
    secret: OnceCell<Arc<ServerSecret>>,
    under_way: Mutex<HashMap<Fingerprint, UnderWay>>,
}

struct UnderWay {
    proof: NodeProof,
    record: Hidden,
    begun: Instant,
}

impl Pins {
    pub(super) fn new(policy: PinPolicy, idle_secs: u64) -> Self {
        Self { policy, idle_secs, secret: OnceCell::new(), under_way: Mutex::default() }
    }

    async fn secret(&self, gateway: &Gateway) -> Result<Arc<ServerSecret>, Refused> {
        let read = || async {
            let Hidden(bytes) = gateway.backend.pin_secret().await?;
            ServerSecret::from_bytes(&bytes).map(Arc::new).map_err(|error| internal(&error))
        };
        self.secret.get_or_try_init(read).await.cloned()
    }

    fn begin(&self, device: Fingerprint, proof: NodeProof, record: Hidden) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, exchange| exchange.begun.elapsed() < PROOF_TIME_MAX);
        under_way.insert(device, UnderWay { proof, record, begun: Instant::now() });
    }

    fn end(&self, device: &Fingerprint) -> Option<UnderWay> {
        let ended = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(device);
        ended.filter(|exchange| exchange.begun.elapsed() < PROOF_TIME_MAX)
    }
}

/// A device of this trust that shows the token of a session which its PIN has opened.
pub(super) struct Unlocked(pub(super) Device);

impl FromRequestParts<Arc<Gateway>> for Unlocked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refused> {
        let device = Device::from_request_parts(parts, gateway).await?;
        let state = gateway.backend.pin_state(device.fingerprint).await?;
        if shows(parts, &state) { Ok(Self(device)) } else { Err(locked()) }
    }
}

/// A device, and whether it may set its PIN: the first one, or one in place of another that it has just proved.
struct MaySet(Device);

impl FromRequestParts<Arc<Gateway>> for MaySet {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refused> {
        let device = Device::from_request_parts(parts, gateway).await?;
        let state = gateway.backend.pin_state(device.fingerprint).await?;
        if !state.is_set || shows(parts, &state) { Ok(Self(device)) } else { Err(locked()) }
    }
}

fn shows(parts: &Parts, state: &PinState) -> bool {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(SessionToken::from_header);
    token.zip(state.session).is_some_and(|(token, session)| SessionProof::new(session.proof).is_of(&token))
}

fn locked() -> Refused {
    Refused::new("locked", "this needs the device's PIN first: lanyard unlock")
}

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/pin", put(set))
        .route("/v1/pin/setup", post(setup))
        .route("/v1/pin/proof", post(prove))
        .route("/v1/pin/session", post(open))
        .route("/v1/pin/session", delete(lock))
}

async fn setup(State(gateway): Shared, MaySet(device): MaySet, body: Body) -> Outcome<PinAnswer> {
    let PinMessage { message } = read(body, limits::SMALL_BYTES_MAX).await?;
    let secret = gateway.pins.secret(&gateway).await?;
    let answer = blocking(move || answer_setup(&secret, &device.fingerprint, &message)).await?;
    Ok(Cbor(PinAnswer { message: answer.map_err(refused)?, left: gateway.pins.policy.tries_max }))
}

async fn set(State(gateway): Shared, MaySet(device): MaySet, body: Body) -> Outcome<PinOpened> {
    let PinUpload { upload, session } = read(body, limits::SMALL_BYTES_MAX).await?;
    let proof = session.try_into().map_err(|_| refused(PinError::Malformed))?;
    let record = Hidden(PinRecord::of_upload(&upload).map_err(refused)?.to_bytes());
    let _ = gateway.pins.end(&device.fingerprint);
    gateway.backend.pin(device.fingerprint, PinRequest::Set { record, proof }).await?;
    opened(&gateway, &device).await
}

async fn prove(State(gateway): Shared, device: Device, body: Body) -> Outcome<PinAnswer> {
    let PinMessage { message } = read(body, limits::SMALL_BYTES_MAX).await?;
    let secret = gateway.pins.secret(&gateway).await?;
    let counted = gateway.backend.pin(device.fingerprint, PinRequest::Try).await?;
    let Reply::PinRecord { record, left } = counted else {
        unreachable!("an attempt is answered by the record, not by {counted:?}")
    };
    let (trust, fingerprint, kept) = (gateway.backend.trust().clone(), device.fingerprint, record.clone());
    let answered = blocking(move || {
        let record = PinRecord::from_bytes(&kept.0)?;
        NodeProof::answer(&secret, record, &fingerprint, &trust, &message)
    });
    let (proof, message) = answered.await?.map_err(refused)?;
    gateway.pins.begin(device.fingerprint, proof, record);
    Ok(Cbor(PinAnswer { message, left }))
}

async fn open(State(gateway): Shared, device: Device, body: Body) -> Outcome<PinOpened> {
    let PinProof { proof } = read(body, limits::SMALL_BYTES_MAX).await?;
    let Some(UnderWay { proof: exchange, record, .. }) = gateway.pins.end(&device.fingerprint) else {
        return Err(Refused::new(
            "pin-exchange",
            "no proof of a PIN is under way, or a newer one is: try again",
        ));
    };
    let checked = blocking(move || exchange.check(&proof)).await?.map_err(refused)?;
    let proof = *checked.token.proof().as_bytes();
    gateway.backend.pin(device.fingerprint, PinRequest::Passed { record, proof }).await?;
    opened(&gateway, &device).await
}

async fn lock(State(gateway): Shared, Unlocked(device): Unlocked) -> Result<Empty, Refused> {
    gateway.backend.pin(device.fingerprint, PinRequest::Lock).await?;
    Ok(Empty)
}

async fn opened(gateway: &Gateway, device: &Device) -> Outcome<PinOpened> {
    let state = gateway.backend.pin_state(device.fingerprint).await?;
    let until = state.session.map_or(now(), |session| session.until);
    Ok(Cbor(PinOpened { until, idle_secs: gateway.pins.idle_secs }))
}

fn refused(error: PinError) -> Refused {
    match error {
        PinError::Malformed => Refused::new("malformed", error.to_string()),
        PinError::Wrong => Refused::new("pin-wrong", error.to_string()),
        PinError::Randomness => internal(&error),
    }
}
