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
    PinAnswer, PinProof, PinRequest as PinMessage, PinSession as PinOpened, PinSetup, PinUpload,
};
use lanyard_crypto::pin::{
    Credential, NodeProof, PinError, PinRecord, ServerSecret, SessionProof, SessionToken, answer_setup,
};
use lanyard_replica::Reply;
use lanyard_replica::pin::{Hidden, LAST_SECS, PinRequest, PinState};
use lanyard_replica::verdict::Refusal;
use tokio::sync::OnceCell;

use super::body::{Cbor, Empty, Outcome, Refused, read};
use super::routes::{Shared, blocking, internal};
use super::session::Device;
use super::{Gateway, limits};
use crate::policy::Policy;
use crate::time::now;

/// How long an exchange waits for the client's proof: it takes the client's Argon2id in between.
const PROOF_TIME_MAX: Duration = Duration::from_secs(120);
/// The last attempt is not taken for a wrong one while it may still be proved: it began with one request and ends with another.
const _: () = assert!(LAST_SECS > PROOF_TIME_MAX.as_secs() + 2 * limits::REQUEST_TIME_MAX.as_secs());

/// The name of a set-up.
const SETUP_BYTES: usize = 16;

/// What the gateway knows of PINs beside the engine.
pub(super) struct Pins {
    /// After how much idle time clients lock themselves, in seconds.
    idle_secs: u64,
    /// For how long the PIN may open a device without the node.
    offline_secs: u64,
    secret: OnceCell<Arc<ServerSecret>>,
    under_way: Mutex<HashMap<Fingerprint, UnderWay>>,
    /// What PINs that are being set will be kept under.
    credentials: Mutex<HashMap<Fingerprint, SetUp>>,
}

struct SetUp {
    name: [u8; SETUP_BYTES],
    credential: Credential,
    begun: Instant,
}

struct UnderWay {
    proof: NodeProof,
    attempt: u64,
    /// Of the last attempt, for which it is nowhere else any more.
    record: Option<Hidden>,
    begun: Instant,
}

impl Pins {
    pub(super) fn new(policy: &Policy) -> Self {
        Self {
            idle_secs: policy.idle_secs,
            offline_secs: policy.offline_secs,
            secret: OnceCell::new(),
            under_way: Mutex::default(),
            credentials: Mutex::default(),
        }
    }

    async fn secret(&self, gateway: &Gateway) -> Result<Arc<ServerSecret>, Refused> {
        let read = || async {
            let Hidden(bytes) = gateway.backend.pin_secret().await?;
            ServerSecret::from_bytes(&bytes).map(Arc::new).map_err(|error| internal(&error))
        };
        self.secret.get_or_try_init(read).await.cloned()
    }

    /// Does something with the exchanges that are under way, and drops those that nobody has ended.
    fn under_way<T>(&self, work: impl FnOnce(&mut HashMap<Fingerprint, UnderWay>) -> T) -> T {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, exchange| exchange.begun.elapsed() < PROOF_TIME_MAX);
        work(&mut under_way)
    }

    /// The newest attempt of a device is the one that counts, in whichever order they come here.
    fn begin(&self, device: Fingerprint, new: UnderWay) {
        self.under_way(|under_way| match under_way.get(&device) {
            Some(newer) if newer.attempt > new.attempt => {}
            _ => drop(under_way.insert(device, new)),
        });
    }

    fn end(&self, device: &Fingerprint) -> Option<UnderWay> {
        self.under_way(|under_way| under_way.remove(device))
    }

    fn credentials<T>(&self, work: impl FnOnce(&mut HashMap<Fingerprint, SetUp>) -> T) -> T {
        let mut credentials = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        credentials.retain(|_, setup| setup.begun.elapsed() < PROOF_TIME_MAX);
        work(&mut credentials)
    }
}

/// A device of this trust that shows the token of a session which its PIN has opened.
pub(super) struct Unlocked(pub(super) Device);

impl FromRequestParts<Arc<Gateway>> for Unlocked {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refused> {
        let device = Device::from_request_parts(parts, gateway).await?;
        let state = gateway.backend.pin_state(device.fingerprint).await?;
        match state.is_set && shows(parts, &state).is_some() {
            true => Ok(Self(device)),
            false => Err(closed(&state)),
        }
    }
}

/// A device that may set its PIN: the first one by what its enrolment gave out, each other by the one before it, which it has just proved.
struct MaySet(Device, SessionProof);

impl FromRequestParts<Arc<Gateway>> for MaySet {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refused> {
        let device = Device::from_request_parts(parts, gateway).await?;
        let state = gateway.backend.pin_state(device.fingerprint).await?;
        match shows(parts, &state) {
            Some(shown) => Ok(Self(device, shown)),
            None => Err(closed(&state)),
        }
    }
}

/// Gives a device that was just certified the right to set its first PIN; none if it has one.
pub(super) async fn first(gateway: &Gateway, device: Fingerprint) -> Result<SessionToken, Refused> {
    let token = SessionToken::random().map_err(refused)?;
    let proof = *token.proof().as_bytes();
    gateway.backend.pin(device, PinRequest::Enrolled { proof }).await?;
    Ok(token)
}

/// What the request shows, if it is what the device's PIN has opened, or its enrolment.
fn shows(parts: &Parts, state: &PinState) -> Option<SessionProof> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(SessionToken::from_header)?;
    let proof = SessionProof::new(state.session?.proof);
    proof.is_of(&token).then_some(proof)
}

fn closed(state: &PinState) -> Refused {
    let refusal = if state.is_set { Refusal::Locked } else { Refusal::NoPin };
    refusal.to_answer().into()
}

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/pin", put(set))
        .route("/v1/pin/setup", post(setup))
        .route("/v1/pin/proof", post(prove))
        .route("/v1/pin/session", post(open))
        .route("/v1/pin/session", delete(lock))
}

async fn setup(State(gateway): Shared, MaySet(device, _): MaySet, body: Body) -> Outcome<PinSetup> {
    let PinMessage { message } = read(body, limits::SMALL_BYTES_MAX).await?;
    let secret = gateway.pins.secret(&gateway).await?;
    let answered = blocking(move || {
        let credential = Credential::generate()?;
        Ok((answer_setup(&secret, &credential, &message)?, credential))
    });
    let (message, credential) = answered.await?.map_err(refused)?;
    let mut name = [0; SETUP_BYTES];
    getrandom::fill(&mut name).map_err(|_| refused(PinError::Randomness))?;
    let begun = SetUp { name, credential, begun: Instant::now() };
    gateway.pins.credentials(|all| all.insert(device.fingerprint, begun));
    Ok(Cbor(PinSetup { message, setup: name.to_vec() }))
}

async fn set(State(gateway): Shared, MaySet(device, shown): MaySet, body: Body) -> Outcome<PinOpened> {
    let PinUpload { setup, upload, session } = read(body, limits::SMALL_BYTES_MAX).await?;
    let proof = session.try_into().map_err(|_| refused(PinError::Malformed))?;
    // An upload that goes with another set-up would make a record that no PIN fits.
    let begun = gateway.pins.credentials(|all| all.remove(&device.fingerprint));
    let Some(SetUp { credential, .. }) = begun.filter(|begun| begun.name[..] == setup) else {
        return Err(Refusal::PinExchange.to_answer().into());
    };
    let record = Hidden(PinRecord::of_upload(credential, &upload).map_err(refused)?.to_bytes());
    // The engine looks at the session again: it may have ended while the body came.
    let shown = *shown.as_bytes();
    gateway.backend.pin(device.fingerprint, PinRequest::Set { record, proof, shown }).await?;
    opened(&gateway, &device, 0).await
}

async fn prove(State(gateway): Shared, device: Device, body: Body) -> Outcome<PinAnswer> {
    let PinMessage { message } = read(body, limits::SMALL_BYTES_MAX).await?;
    let secret = gateway.pins.secret(&gateway).await?;
    let counted = gateway.backend.pin(device.fingerprint, PinRequest::Try).await?;
    let Reply::PinRecord { record, attempt, left } = counted else {
        unreachable!("an attempt is answered by the record, not by {counted:?}")
    };
    let (trust, fingerprint, kept) = (gateway.backend.trust().clone(), device.fingerprint, record.clone());
    let answered = blocking(move || {
        let record = PinRecord::from_bytes(&kept.0)?;
        NodeProof::answer(&secret, record, &fingerprint, &trust, &message)
    });
    let (proof, message) = answered.await?.map_err(refused)?;
    let record = (left == 0).then_some(record);
    gateway.pins.begin(device.fingerprint, UnderWay { proof, attempt, record, begun: Instant::now() });
    Ok(Cbor(PinAnswer { message, left }))
}

async fn open(State(gateway): Shared, device: Device, body: Body) -> Outcome<PinOpened> {
    let PinProof { proof } = read(body, limits::SMALL_BYTES_MAX).await?;
    let Some(UnderWay { proof: exchange, attempt, record, .. }) = gateway.pins.end(&device.fingerprint)
    else {
        return Err(Refusal::PinExchange.to_answer().into());
    };
    let token = blocking(move || exchange.check(&proof)).await?.map_err(refused)?;
    let proof = *token.proof().as_bytes();
    let passed =
        gateway.backend.pin(device.fingerprint, PinRequest::Passed { attempt, record, proof }).await?;
    let Reply::PinPassed { failed } = passed else {
        unreachable!("a proof is answered by what failed before it, not by {passed:?}")
    };
    opened(&gateway, &device, failed).await
}

async fn lock(State(gateway): Shared, Unlocked(device): Unlocked) -> Result<Empty, Refused> {
    gateway.backend.pin(device.fingerprint, PinRequest::Lock).await?;
    Ok(Empty)
}

async fn opened(gateway: &Gateway, device: &Device, failed: u32) -> Outcome<PinOpened> {
    let state = gateway.backend.pin_state(device.fingerprint).await?;
    let until = state.session.map_or(now(), |session| session.until);
    let Pins { idle_secs, offline_secs, .. } = gateway.pins;
    Ok(Cbor(PinOpened { until, idle_secs, failed, offline_secs }))
}

fn refused(error: PinError) -> Refused {
    match error {
        PinError::Malformed => Refused::new("malformed", error.to_string()),
        PinError::Wrong => Refused::new("pin-wrong", error.to_string()),
        PinError::Randomness => internal(&error),
    }
}
