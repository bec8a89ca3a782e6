//! The part of a node that concerns PINs: it sets them, and asks for the session's token in all that a locked device may not do.

use std::collections::BTreeMap;

use lanyard_crypto::gateway::{PinRequest, PinSession, PinSetup, PinUpload, Refusal};
use lanyard_crypto::pin::{Credential, PinRecord, ServerSecret, SessionProof, SessionToken, answer_setup};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, cbor};

use super::{read, refusal};

/// What a device that is locked may ask for.
const OPEN: [&str; 4] = ["/v1/enrol", "/v1/trust", "/v1/inbox", "/v1/events"];

pub struct Pins {
    secret: ServerSecret,
    /// By device: what its session is known by, or the right to set the first PIN.
    shown: BTreeMap<Fingerprint, (SessionProof, bool)>,
    begun: BTreeMap<Fingerprint, Credential>,
    /// Nobody can begin to set one.
    pub refuses_setups: bool,
    /// The answer to who has set a PIN is lost on its way.
    pub loses_answers: bool,
}

impl Default for Pins {
    fn default() -> Self {
        Self {
            secret: ServerSecret::generate().unwrap(),
            shown: BTreeMap::new(),
            begun: BTreeMap::new(),
            refuses_setups: false,
            loses_answers: false,
        }
    }
}

impl Pins {
    /// What a device that was certified sets its first PIN by; none if it has one.
    pub fn enrolled(&mut self, device: &Certificate) -> Result<Vec<u8>, (u16, Refusal)> {
        if self.shown.get(&device.fingerprint()).is_some_and(|(_, is_set)| *is_set) {
            return Err(refusal(409, "pin-set"));
        }
        let right = SessionToken::random().unwrap();
        self.shown.insert(device.fingerprint(), (right.proof(), false));
        Ok(right.to_bytes().to_vec())
    }

    /// All sessions end, as they do after their time.
    pub fn end_sessions(&mut self) {
        let nobody = SessionToken::random().unwrap().proof();
        self.shown.values_mut().for_each(|(proof, _)| *proof = nobody);
    }

    /// Whether a device may ask for this with what it shows.
    pub fn admit(&self, path: &str, device: &Certificate, header: &str) -> Result<(), (u16, Refusal)> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let shown = self.shown.get(&device.fingerprint());
        let token = SessionToken::from_header(header);
        let is_its = |proof: &SessionProof| token.is_some_and(|token| proof.is_of(&token));
        match shown {
            _ if OPEN.contains(&path) => Ok(()),
            _ if path == "/v1/pin/setup" && self.refuses_setups => Err(refusal(503, "busy")),
            Some((proof, is_set)) if is_its(proof) && (*is_set || path.starts_with("/v1/pin")) => Ok(()),
            _ => Err(refusal(401, "locked")),
        }
    }

    pub fn answer(&mut self, method: &str, path: &str, device: &Certificate, body: &[u8]) -> Option<Vec<u8>> {
        let device = device.fingerprint();
        match (method, path) {
            ("POST", "/v1/pin/setup") => {
                let PinRequest { message } = read(body);
                let credential = Credential::generate().unwrap();
                let message = answer_setup(&self.secret, &credential, &message).unwrap();
                self.begun.insert(device, credential);
                Some(cbor::to_vec(&PinSetup { message, setup: vec![1] }))
            }
            ("PUT", "/v1/pin") => {
                let PinUpload { upload, session, .. } = read(body);
                PinRecord::of_upload(self.begun.remove(&device).unwrap(), &upload).unwrap();
                let proof = SessionProof::new(session.try_into().unwrap());
                self.shown.insert(device, (proof, true));
                let until = lanyard_client::clock::now().plus_secs(3600);
                Some(cbor::to_vec(&PinSession { until, idle_secs: 3600, failed: 0, offline_secs: 0 }))
            }
            _ => None,
        }
    }
}
