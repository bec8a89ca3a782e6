//! What clients say to their node, what it answers, and the names that people and programs type.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use lanyard_crypto::gateway::{
    DeleteRequest, DeletionResponse, DirectoryResponse, EnrolRequest, EnrolResponse, ErasuresRequest,
    InboxResponse, Invitation, KeyPackageRequest, RESPONSE_BYTES_MAX, Refusal, SeenRequest, SendRequest,
    SendResponse, TicksResponse, TrustResponse,
};
use lanyard_crypto::record::Submission;
use lanyard_crypto::residency::Country;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, TrustId, cbor};
use serde::Serialize;
use serde::de::DeserializeOwned;

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
