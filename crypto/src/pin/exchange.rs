//! The messages of OPAQUE as bytes: two each to set a PIN, three to prove one (RFC 9807, sections 5 and 6).
//!
//! | | client | node |
//! | --- | --- | --- |
//! | set | [`ClientSetup::begin`] | [`answer_setup`] |
//! | | [`ClientSetup::finish`] -> [`NewPin`] | [`PinRecord::of_upload`] |
//! | prove | [`ClientProof::begin`] | [`NodeProof::answer`] |
//! | | [`ClientProof::finish`] -> [`Proven`] | [`NodeProof::check`] -> [`SessionToken`] |
//!
//! The node draws a [`Credential`] for each PIN that is set, under which its secret gives this PIN's key of the oblivious function. It is kept
//! with the record and destroyed with it: answers to other set-ups, of which a device may ask for any number, help nobody to try a PIN, and
//! after its destruction the node's secret helps nobody either.
//!
//! Both sides bind their exchange to the device and the trust. A node that has no record of a device says so: who shows a device's
//! certificate knows already that it exists, so nothing is hidden by answering as if it had one (RFC 9807, section 10.9).

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest, CredentialResponse,
    Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin,
    ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
};
use zeroize::Zeroizing;

use super::entropy::{self, Entropy};
use super::rules::Pin;
use super::secrets::{ExportKey, OPAQUE_KEY_BYTES, SessionToken};
use crate::{Fingerprint, TrustId, labels};

/// Argon2id's memory in KiB, passes and lanes.
const STRETCH: (u32, u32, u32) = (64 * 1024, 3, 1);

/// Why an exchange does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// The other side, or the disk: bytes that are not what they should be.
    #[error("not a message of the PIN's exchange")]
    Malformed,
    /// The PIN is not the one that was set; or the other side is another one.
    #[error("the PIN is wrong")]
    Wrong,
}

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_10::Sha512>;
    type Ksf = Argon2<'static>;
}

/// A node's secret of all its devices' PINs. Whoever has it and a device's record can try PINs.
pub struct ServerSecret(ServerSetup<Suite>);

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSecret(..)")
    }
}

impl ServerSecret {
    /// A new one.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn generate() -> Result<Self, PinError> {
        Ok(Self(ServerSetup::new(&mut Entropy::new()?)))
    }

    /// From [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`PinError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PinError> {
        ServerSetup::deserialize(bytes).map(Self).map_err(|_| PinError::Malformed)
    }

    /// For the store.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize().to_vec())
    }
}

/// OPAQUE's credential identifier (RFC 9807, section 4): of one PIN, known to the node alone.
#[derive(Clone)]
pub struct Credential(Zeroizing<[u8; CREDENTIAL_BYTES]>);

const CREDENTIAL_BYTES: usize = 32;

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Credential {
    /// A new one.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn generate() -> Result<Self, PinError> {
        let mut bytes = Zeroizing::new([0; CREDENTIAL_BYTES]);
        entropy::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }
}

/// What a node keeps of a device's PIN: the same whatever the PIN is, to who has not the [`ServerSecret`].
pub struct PinRecord {
    credential: Credential,
    registration: ServerRegistration<Suite>,
}

impl fmt::Debug for PinRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinRecord(..)")
    }
}

impl PinRecord {
    /// The record that a client's last message of setting a PIN makes.
    ///
    /// # Errors
    /// [`PinError::Malformed`].
    pub fn of_upload(credential: Credential, upload: &[u8]) -> Result<Self, PinError> {
        let upload = RegistrationUpload::deserialize(upload).map_err(|_| PinError::Malformed)?;
        Ok(Self { credential, registration: ServerRegistration::finish(upload) })
    }

    /// From [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`PinError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PinError> {
        let (credential, registration) =
            bytes.split_first_chunk::<CREDENTIAL_BYTES>().ok_or(PinError::Malformed)?;
        let registration = ServerRegistration::deserialize(registration).map_err(|_| PinError::Malformed)?;
        Ok(Self { credential: Credential(Zeroizing::new(*credential)), registration })
    }

    /// For the store.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let registration = Zeroizing::new(self.registration.serialize());
        let mut bytes = Zeroizing::new(Vec::with_capacity(CREDENTIAL_BYTES + registration.len()));
        bytes.extend_from_slice(&*self.credential.0);
        bytes.extend_from_slice(&registration);
        bytes
    }
}

/// A client that sets a PIN.
pub struct ClientSetup {
    state: ClientRegistration<Suite>,
    pin: Pin,
}

/// A PIN that is set once the node has taken the upload.
#[derive(Debug)]
pub struct NewPin {
    /// For the node.
    pub upload: Vec<u8>,
    /// For the client.
    pub export_key: ExportKey,
}

impl ClientSetup {
    /// Begins; the bytes are for the node.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn begin(pin: Pin) -> Result<(Self, Vec<u8>), PinError> {
        let begun = ClientRegistration::start(&mut Entropy::new()?, pin.as_bytes());
        let begun = begun.map_err(|_| PinError::Malformed)?;
        Ok((Self { state: begun.state, pin }, begun.message.serialize().to_vec()))
    }

    /// Goes on with the node's answer. Takes the time and memory of Argon2id.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn finish(self, answer: &[u8], device: &Fingerprint, trust: &TrustId) -> Result<NewPin, PinError> {
        let answer = RegistrationResponse::deserialize(answer).map_err(|_| PinError::Malformed)?;
        let stretch = stretch();
        let parameters = ClientRegistrationFinishParameters::new(names(device, trust), Some(&stretch));
        let finished = self.state.finish(&mut Entropy::new()?, self.pin.as_bytes(), answer, parameters);
        let finished = finished.map_err(|_| PinError::Malformed)?;
        let export_key = exported(&finished.export_key);
        Ok(NewPin { upload: finished.message.serialize().to_vec(), export_key })
    }
}

/// The node's answer to a client that sets a PIN. Keeps nothing.
///
/// # Errors
/// [`PinError::Malformed`].
pub fn answer_setup(
    secret: &ServerSecret,
    credential: &Credential,
    request: &[u8],
) -> Result<Vec<u8>, PinError> {
    let request = RegistrationRequest::deserialize(request).map_err(|_| PinError::Malformed)?;
    let answer = ServerRegistration::<Suite>::start(&secret.0, request, &*credential.0);
    Ok(answer.map_err(|_| PinError::Malformed)?.message.serialize().to_vec())
}

/// A client that proves its PIN.
pub struct ClientProof {
    state: ClientLogin<Suite>,
    pin: Pin,
}

/// A PIN that the client knows to be right: the node had the record that goes with it.
#[derive(Debug)]
pub struct Proven {
    /// For the node, which does not know before.
    pub proof: Vec<u8>,
    /// For the client.
    pub export_key: ExportKey,
    /// For the requests of the session.
    pub token: SessionToken,
}

impl ClientProof {
    /// Begins; the bytes are for the node.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn begin(pin: Pin) -> Result<(Self, Vec<u8>), PinError> {
        let begun =
            ClientLogin::start(&mut Entropy::new()?, pin.as_bytes()).map_err(|_| PinError::Malformed)?;
        Ok((Self { state: begun.state, pin }, begun.message.serialize().to_vec()))
    }

    /// Goes on with the node's answer. Takes the time and memory of Argon2id.
    ///
    /// # Errors
    /// [`PinError::Wrong`] if the PIN is not the one that was set with this node.
    pub fn finish(self, answer: &[u8], device: &Fingerprint, trust: &TrustId) -> Result<Proven, PinError> {
        let answer = CredentialResponse::deserialize(answer).map_err(|_| PinError::Malformed)?;
        let stretch = stretch();
        let parameters =
            ClientLoginFinishParameters::new(Some(labels::PIN), names(device, trust), Some(&stretch));
        let finished = self.state.finish(&mut Entropy::new()?, self.pin.as_bytes(), answer, parameters);
        let finished = finished.map_err(|_| PinError::Wrong)?;
        Ok(Proven {
            proof: finished.message.serialize().to_vec(),
            export_key: exported(&finished.export_key),
            token: SessionToken::of(&finished.session_key),
        })
    }
}

/// A node between its answer and the client's proof.
pub struct NodeProof {
    state: ServerLogin<Suite>,
    device: Fingerprint,
    trust: TrustId,
}

impl NodeProof {
    /// Answers a client that proves its PIN. The attempt must have been counted, on the disk, before the answer leaves: it tells
    /// the client whether the PIN is right.
    ///
    /// # Errors
    /// [`PinError`].
    pub fn answer(
        secret: &ServerSecret,
        record: PinRecord,
        device: &Fingerprint,
        trust: &TrustId,
        request: &[u8],
    ) -> Result<(Self, Vec<u8>), PinError> {
        let request = CredentialRequest::deserialize(request).map_err(|_| PinError::Malformed)?;
        let begun = ServerLogin::start(
            &mut Entropy::new()?,
            &secret.0,
            Some(record.registration),
            request,
            &*record.credential.0,
            parameters(device, trust),
        );
        let begun = begun.map_err(|_| PinError::Malformed)?;
        let answer = begun.message.serialize().to_vec();
        Ok((Self { state: begun.state, device: *device, trust: trust.clone() }, answer))
    }

    /// Checks the client's proof; what the device's requests show from now on.
    ///
    /// # Errors
    /// [`PinError::Wrong`], or [`PinError::Malformed`].
    pub fn check(self, proof: &[u8]) -> Result<SessionToken, PinError> {
        let proof = CredentialFinalization::deserialize(proof).map_err(|_| PinError::Malformed)?;
        let finished = self.state.finish(proof, parameters(&self.device, &self.trust));
        let session_key = finished.map_err(|_| PinError::Wrong)?.session_key;
        Ok(SessionToken::of(&session_key))
    }
}

fn parameters<'a>(device: &'a Fingerprint, trust: &'a TrustId) -> ServerLoginParameters<'a, 'a> {
    ServerLoginParameters { context: Some(labels::PIN), identifiers: names(device, trust) }
}

fn names<'a>(device: &'a Fingerprint, trust: &'a TrustId) -> Identifiers<'a> {
    Identifiers { client: Some(device.as_bytes()), server: Some(trust.as_str().as_bytes()) }
}

pub(super) fn stretch() -> Argon2<'static> {
    let (memory_kib, passes, lanes) = STRETCH;
    let parameters =
        Params::new(memory_kib, passes, lanes, None).expect("the constants are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
}

fn exported(key: &[u8]) -> ExportKey {
    let mut bytes = Zeroizing::new([0; OPAQUE_KEY_BYTES]);
    bytes.copy_from_slice(key);
    ExportKey(bytes)
}
