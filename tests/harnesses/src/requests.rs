//! What clients say to their node, what it answers, and the names that people and programs type.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::OnceLock;

use lanyard_crypto::gateway::{
    DeleteRequest, DeletionResponse, DirectoryResponse, EnrolRequest, EnrolResponse, ErasuresRequest,
    InboxResponse, Invitation, KeyPackageRequest, PinAnswer, PinProof, PinRequest, PinSession, PinSetup,
    PinUpload, RESPONSE_BYTES_MAX, Refusal, RevocationsResponse, SeenRequest, SendRequest, SendResponse,
    SignInRequest, SignInResponse, TicksResponse, TrustResponse, WipedRequest,
};
use lanyard_crypto::pin::{
    ClientProof, ClientSetup, Credential, NodeProof, Pin, PinError, PinRecord, ServerSecret, answer_setup,
};
use lanyard_crypto::record::{Submission, WipeReceipt};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::RevocationList;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, TrustId, cbor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fixtures;
use crate::quiet::assert_quiet;

/// Bodies by number: the first byte of the input, so that corpus files keep their meaning when one is added.
const BODIES: &[fn(&[u8]) -> bool] = &[
    body::<EnrolRequest>,
    body::<KeyPackageRequest>,
    body::<SendRequest>,
    body::<SeenRequest>,
    body::<DeleteRequest>,
    body::<Submission>,
    body::<EnrolResponse>,
    body::<TrustResponse>,
    body::<DirectoryResponse>,
    body::<SendResponse>,
    body::<InboxResponse>,
    body::<TicksResponse>,
    body::<DeletionResponse>,
    body::<Refusal>,
    body::<ErasuresRequest>,
    pin_message,
    body::<PinAnswer>,
    pin_upload,
    pin_proof,
    body::<PinSession>,
    body::<PinSetup>,
    body::<SignInRequest>,
    body::<SignInResponse>,
    revocations,
    wiped,
];

/// A body of a request or an answer; the first byte says of which.
pub(crate) fn gateway(bytes: &[u8]) -> bool {
    let Some((number, bytes)) = bytes.split_first() else { return false };
    BODIES.get(usize::from(*number)).is_some_and(|body| body(bytes))
}

fn body<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    match cbor::from_slice::<T>(bytes, RESPONSE_BYTES_MAX) {
        Ok(body) => {
            assert_eq!(cbor::to_vec(&body), bytes, "a body has one encoding");
            true
        }
        Err(why) => {
            assert_quiet(&why, bytes);
            false
        }
    }
}

/// A device's first message about its PIN; the node answers what is one, and refuses everything else.
fn pin_message(bytes: &[u8]) -> bool {
    let Ok(PinRequest { message }) = cbor::from_slice(bytes, RESPONSE_BYTES_MAX) else {
        return body::<PinRequest>(bytes);
    };
    // A point of the group to set a PIN; to prove one, also a nonce and another point.
    let begins =
        [answer_setup(&pin_node().0, &pin_node().1, &message).is_ok(), pin_exchange(&message).is_ok()];
    assert!(!begins.contains(&true) || [32, 96].contains(&message.len()), "a message has one length");
    body::<PinRequest>(bytes)
}

/// Its last message of setting one.
fn pin_upload(bytes: &[u8]) -> bool {
    if let Ok(PinUpload { upload, .. }) = cbor::from_slice(bytes, RESPONSE_BYTES_MAX)
        && let Ok(record) = PinRecord::of_upload(pin_node().1.clone(), &upload)
    {
        let kept = record.to_bytes();
        assert_eq!(PinRecord::from_bytes(&kept).map(|again| again.to_bytes()), Ok(kept));
    }
    body::<PinUpload>(bytes)
}

/// Its last message of proving one; it opens nothing that somebody else has begun.
fn pin_proof(bytes: &[u8]) -> bool {
    if let Ok(PinProof { proof }) = cbor::from_slice(bytes, RESPONSE_BYTES_MAX) {
        let (_, message) = ClientProof::begin(pin()).expect("the system gives randomness");
        let begun = pin_exchange(&message).expect("the client's own message is one");
        assert!(begun.check(&proof).is_err(), "a proof was guessed");
    }
    body::<PinProof>(bytes)
}

/// The list by which a device learns that it was revoked: what its key has not signed revokes nothing.
fn revocations(bytes: &[u8]) -> bool {
    if let Ok(RevocationsResponse { list }) = cbor::from_slice(bytes, RESPONSE_BYTES_MAX) {
        match RevocationList::parse(&list) {
            Ok(list) => {
                let trust = &fixtures::trusts()[0];
                let is_signed = list.verify(&trust.registrar).is_ok();
                assert!(!is_signed || list.is_revoked(trust.device.serial()), "a list was forged");
            }
            Err(why) => assert_quiet(&why, bytes),
        }
    }
    body::<RevocationsResponse>(bytes)
}

/// A receipt of a device that was wiped, which nobody else can have signed.
fn wiped(bytes: &[u8]) -> bool {
    if let Ok(WipedRequest { receipt }) = cbor::from_slice(bytes, RESPONSE_BYTES_MAX) {
        match WipeReceipt::from_bytes(&receipt) {
            Ok(read) => {
                assert_eq!(read.bytes(), receipt, "a receipt has one encoding");
                let trust = &fixtures::trusts()[0];
                let genuine = WipeReceipt::sign(read.list(), read.wiped(), read.device(), &trust.device_key);
                assert!(read.verify(&trust.device).is_err() || read.bytes() == genuine.bytes(), "forged");
            }
            Err(why) => assert_quiet(&why, bytes),
        }
    }
    body::<WipedRequest>(bytes)
}

fn pin_exchange(message: &[u8]) -> Result<NodeProof, PinError> {
    let (secret, _, record) = pin_node();
    let (record, device) = (PinRecord::from_bytes(record)?, Fingerprint::new([1; 32]));
    let trust: TrustId = "RYJ".parse().expect("a trust's code");
    Ok(NodeProof::answer(secret, record, &device, &trust, message)?.0)
}

fn pin() -> Pin {
    Pin::typed("482917").expect("six characters")
}

/// A node's secret, and a PIN that was set with it.
fn pin_node() -> &'static (ServerSecret, Credential, Vec<u8>) {
    static NODE: OnceLock<(ServerSecret, Credential, Vec<u8>)> = OnceLock::new();
    NODE.get_or_init(|| {
        let node = || {
            let (secret, credential) = (ServerSecret::generate()?, Credential::generate()?);
            let (setup, message) = ClientSetup::begin(pin())?;
            let answer = answer_setup(&secret, &credential, &message)?;
            let trust: TrustId = "RYJ".parse().expect("a trust's code");
            let new = setup.finish(&answer, &Fingerprint::new([1; 32]), &trust)?;
            let record = PinRecord::of_upload(credential.clone(), &new.upload)?.to_bytes().to_vec();
            Ok::<_, PinError>((secret, credential, record))
        };
        node().expect("a PIN can be set")
    })
}

/// The line that an operator hands to whom they invite.
pub(crate) fn invitation(bytes: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(bytes) else { return false };
    let invitation = match Invitation::from_line(line) {
        Ok(invitation) => invitation,
        Err(why) => {
            assert_quiet(&why, bytes);
            return false;
        }
    };
    // Typed by hand, digits may be large; otherwise the line has one form.
    assert_eq!(invitation.to_line(), line.trim().to_ascii_lowercase());
    let (shown, code) = (format!("{invitation:?}"), lanyard_crypto::ids::to_hex(&invitation.code));
    assert!(code.len() < 8 || !shown.contains(&code), "the code is secret");
    true
}

/// Names as they stand in paths and commands.
pub(crate) fn name(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let lower = text.to_ascii_lowercase();
    let ids = [typed::<RecordId>(text, &lower), typed::<Fingerprint>(text, &lower)];
    let conversation = typed::<ConversationId>(text, text);
    if let Ok(id) = ConversationId::from_str(text) {
        assert_eq!(ConversationId::try_from(&id.to_bytes()[..]).as_ref(), Ok(&id));
    }
    let codes = [typed::<TrustId>(text, text), typed::<Country>(text, text)];
    ids.into_iter().chain(codes).any(|accepted| accepted) || conversation
}

fn typed<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str, canonical: &str) -> bool {
    match text.parse::<T>() {
        Ok(name) => {
            let shown = name.to_string();
            assert!(shown.eq_ignore_ascii_case(canonical), "{shown} for {text}");
            assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&name));
            true
        }
        // What was typed is repeated to who typed it; not more than a line of it.
        Err(why) => {
            assert!(why.to_string().len() < 512);
            false
        }
    }
}
