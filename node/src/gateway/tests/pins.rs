//! Devices set and prove their PINs over the gateway; the engine behind it is the real one.

use lanyard_crypto::gateway::{PinAnswer, PinProof, PinRequest, PinSession, PinSetup, PinUpload};
use lanyard_crypto::pin::{ClientProof, ClientSetup, Pin, PinError, Proven, SessionToken};
use lanyard_crypto::{Fingerprint, TrustId};

use super::*;

/// A device, and its connection.
pub(super) struct Handset {
    pub(super) sender: SendRequest<Body>,
    pub(super) device: Fingerprint,
    pub(super) trust: TrustId,
    /// What its enrolment gave out.
    pub(super) right: SessionToken,
}

impl Handset {
    async fn new(running: &Running, name: &str) -> Self {
        let (shown, certificate) = running.device(name);
        let right = running.enter(&certificate).await;
        let sender = running.connect(Some(shown)).await;
        Self { sender, device: certificate.fingerprint(), trust: running.trust.id.clone(), right }
    }

    async fn ask<Q: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        body: &Q,
        token: Option<&SessionToken>,
    ) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        if let Some(token) = token {
            request = request.header("authorization", token.to_header().as_str());
        }
        send(&mut self.sender, request.body(Body::from(cbor::to_vec(body))).unwrap()).await
    }

    /// By the session with this token, or by what its enrolment gave out.
    pub(super) async fn set(
        &mut self,
        pin: &str,
        token: Option<&SessionToken>,
    ) -> Result<SessionToken, Refusal> {
        let right = self.right.clone();
        let token = Some(token.unwrap_or(&right));
        let (setup, message) = ClientSetup::begin(Pin::typed(pin).unwrap()).unwrap();
        let answer = self.ask(Method::POST, "/v1/pin/setup", &PinRequest { message }, token).await;
        let answer: PinSetup = outcome(&answer)?;
        let new = setup.finish(&answer.message, &self.device, &self.trust).unwrap();
        let opened = SessionToken::random().unwrap();
        let session = opened.proof().as_bytes().to_vec();
        let upload = PinUpload { setup: answer.setup, upload: new.upload, session };
        let _: PinSession = outcome(&self.ask(Method::PUT, "/v1/pin", &upload, token).await)?;
        Ok(opened)
    }

    /// What the client finds out of its PIN, and how many attempts are left.
    async fn try_pin(&mut self, pin: &str) -> Result<(Result<Proven, PinError>, u32), Refusal> {
        let (client, message) = ClientProof::begin(Pin::typed(pin).unwrap()).unwrap();
        let answer = self.ask(Method::POST, "/v1/pin/proof", &PinRequest { message }, None).await;
        let answer: PinAnswer = outcome(&answer)?;
        Ok((client.finish(&answer.message, &self.device, &self.trust), answer.left))
    }

    async fn open(&mut self, proof: Vec<u8>) -> Result<PinSession, Refusal> {
        outcome(&self.ask(Method::POST, "/v1/pin/session", &PinProof { proof }, None).await)
    }

    async fn lock(&mut self, token: Option<&SessionToken>) -> (StatusCode, Vec<u8>) {
        self.ask(Method::DELETE, "/v1/pin/session", &(), token).await
    }
}

fn outcome<T: Serialize + DeserializeOwned>(answer: &(StatusCode, Vec<u8>)) -> Result<T, Refusal> {
    match answer.0 {
        StatusCode::OK => Ok(read(answer, StatusCode::OK)),
        status => Err(read(answer, status)),
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> String {
    outcome.unwrap_err().code
}

#[tokio::test]
async fn a_pin_is_set_proved_changed_and_left() {
    let running = Running::start().await;
    let mut handset = Handset::new(&running, "Ada").await;
    assert_eq!(code(handset.try_pin("482917").await), "no-pin");
    let first = handset.set("482917", None).await.unwrap();
    assert_eq!(code(handset.set("739105", None).await), "locked", "another one only by who knows this one");

    let (proven, left) = handset.try_pin("482917").await.unwrap();
    assert_eq!(left, 9);
    let proven = proven.unwrap();
    let opened = handset.open(proven.proof.clone()).await.unwrap();
    assert!(opened.until > now() && (opened.idle_secs, opened.failed) == (300, 0));
    assert_eq!(code(handset.open(proven.proof).await), "pin-exchange", "once");
    assert_eq!(handset.lock(Some(&first)).await.0, StatusCode::UNAUTHORIZED, "its session has ended");

    let changed = handset.set("739105", Some(&proven.token)).await.unwrap();
    assert_eq!(handset.try_pin("482917").await.unwrap().0.unwrap_err(), PinError::Wrong);
    assert!(handset.try_pin("739105").await.unwrap().0.is_ok());
    for wrong in [None, Some(&proven.token)] {
        assert_eq!(handset.lock(wrong).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(handset.lock(Some(&changed)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(handset.lock(Some(&changed)).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn connections_in_parallel_get_no_more_attempts_than_one() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let right = running.enter(&certificate).await;
    let (key, chain) = (shown.key, shown.chain);
    let (device, trust) = (certificate.fingerprint(), running.trust.id.clone());
    let mut handsets = Vec::new();
    for _ in 0..2 {
        let shown = Shown { key: key.clone(), chain: chain.clone() };
        let sender = running.connect(Some(shown)).await;
        handsets.push(Handset { sender, device, trust: trust.clone(), right: right.clone() });
    }
    handsets[0].set("482917", None).await.unwrap();
    let tries = handsets.into_iter().map(|mut handset| {
        tokio::spawn(async move {
            let (mut answered, mut refused) = (Vec::new(), Vec::new());
            for _ in 0..10 {
                match handset.try_pin("000000").await {
                    Ok((checked, left)) => {
                        assert_eq!(checked.unwrap_err(), PinError::Wrong);
                        answered.push(left);
                    }
                    Err(refusal) => refused.push(refusal.code),
                }
            }
            (answered, refused)
        })
    });
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for tried in tries.collect::<Vec<_>>() {
        let (some, others) = timeout(6 * PATIENCE, tried).await.unwrap().unwrap();
        answered.extend(some);
        refused.extend(others);
    }
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(refused, ["pin-destroyed"; 10]);
}

#[tokio::test]
async fn a_wrong_proof_opens_nothing_and_rubbish_is_refused() {
    let running = Running::start().await;
    let mut handset = Handset::new(&running, "Ada").await;
    let right = handset.right.clone();
    let rubbish = PinRequest { message: vec![0xff; 32] };
    let answer = handset.ask(Method::POST, "/v1/pin/setup", &rubbish, Some(&right)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::BAD_REQUEST).code, "malformed");
    let (_, message) = ClientSetup::begin(Pin::typed("482917").unwrap()).unwrap();
    let begin = PinRequest { message };
    let cases = [(vec![1; 192], vec![1; 31]), (vec![0xff; 192], vec![1; 32]), (vec![], vec![1; 32])];
    for (upload, session) in cases {
        let answer = handset.ask(Method::POST, "/v1/pin/setup", &begin, Some(&right)).await;
        let PinSetup { setup, .. } = read(&answer, StatusCode::OK);
        let upload = PinUpload { setup, upload, session };
        let answer = handset.ask(Method::PUT, "/v1/pin", &upload, Some(&right)).await;
        assert_eq!(read::<Refusal>(&answer, StatusCode::BAD_REQUEST).code, "malformed");
    }
    // Without a set-up, or with the answer to an earlier one.
    let mut other = Handset::new(&running, "Bea").await;
    let answer = other.ask(Method::POST, "/v1/pin/setup", &begin, Some(&right)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::UNAUTHORIZED).code, "no-pin", "another device's");
    let right = other.right.clone();
    let upload = PinUpload { setup: vec![], upload: vec![1; 192], session: vec![1; 32] };
    let answer = other.ask(Method::PUT, "/v1/pin", &upload, Some(&right)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::CONFLICT).code, "pin-exchange");
    let answer = other.ask(Method::POST, "/v1/pin/setup", &begin, Some(&right)).await;
    let PinSetup { setup, .. } = read(&answer, StatusCode::OK);
    other.ask(Method::POST, "/v1/pin/setup", &begin, Some(&right)).await;
    let answer = other.ask(Method::PUT, "/v1/pin", &PinUpload { setup, ..upload }, Some(&right)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::CONFLICT).code, "pin-exchange");
    handset.set("482917", None).await.unwrap();
    let answer = handset.ask(Method::POST, "/v1/pin/proof", &rubbish, None).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::BAD_REQUEST).code, "malformed");
    assert_eq!(handset.try_pin("000000").await.unwrap().1, 8);
    assert_eq!(code(handset.open(vec![7; 64]).await), "pin-wrong");
    let (_, left) = handset.try_pin("482917").await.unwrap();
    assert_eq!(left, 7, "all of them were counted");
    let long = PinRequest { message: vec![0; 2000] };
    let answer = handset.ask(Method::POST, "/v1/pin/proof", &long, None).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::PAYLOAD_TOO_LARGE).code, "too-large");
}
