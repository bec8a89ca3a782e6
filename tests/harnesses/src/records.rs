//! Records, charters and frames.

use lanyard_crypto::charter::Charter;
use lanyard_crypto::limits::CHARTER_BYTES_MAX;
use lanyard_crypto::record::{self, Body, Decoded, Header};
use lanyard_crypto::{RecordId, cbor};
use lanyard_replica::frame::Frame;
use lanyard_replica::limits::{FRAME_BYTES_MAX, FRAME_RECORDS_MAX};

use crate::fixtures::{self, NOW};
use crate::quiet::assert_quiet;

/// A signature takes so many bytes at the end of a record.
const SIGNATURE_BYTES: usize = 64;

/// A record: decoded, encoded again, and verified by a network that may know its signer.
pub(crate) fn record(bytes: &[u8]) -> bool {
    let decoded = match Decoded::from_bytes(bytes) {
        Ok(decoded) => decoded,
        Err(why) => {
            assert_quiet(&why, bytes);
            return false;
        }
    };
    assert_eq!(decoded.bytes()[..], *bytes, "a record is its bytes");
    assert_eq!(decoded.id(), RecordId::of(bytes), "a record is named by its bytes");
    assert!(again(&decoded), "a record has one encoding");
    if let Err(why) = record::verify(decoded, &fixtures::network()) {
        assert_quiet(&why, bytes);
    }
    true
}

/// Whether header and body give the same bytes, signatures aside.
fn again(decoded: &Decoded) -> bool {
    let (header, bytes) = (decoded.header().clone(), decoded.bytes());
    match (decoded.body().clone(), decoded.signer()) {
        (Body::Charter(charter), None) => {
            // With the signatures that it has.
            let again = record::sign_charter(header, charter, &[], Some(decoded)).unwrap();
            again.bytes() == bytes && again.statement() == decoded.statement()
        }
        (body, Some(signer)) => {
            let again = record::sign(header, body, signer, &fixtures::key(1)).unwrap();
            let end = bytes.len() - SIGNATURE_BYTES;
            again.bytes()[..end] == bytes[..end] && again.statement() == decoded.statement()
        }
        (_, None) => false,
    }
}

/// A charter without its frame, which the network's authorities sign here: a fuzzer cannot.
pub(crate) fn charter(bytes: &[u8]) -> bool {
    let charter: Charter = match cbor::from_slice(bytes, CHARTER_BYTES_MAX) {
        Ok(charter) => charter,
        Err(why) => {
            assert_quiet(&why, bytes);
            return false;
        }
    };
    assert_eq!(cbor::to_vec(&charter), bytes, "a charter has one encoding");
    if let Err(why) = charter.check() {
        assert_quiet(&why, bytes);
        return false;
    }
    let network = fixtures::network();
    let header = Header {
        network: (charter.version != 1).then(|| network.id()),
        custodians: Vec::new(),
        issued: NOW,
        expires: NOW.plus_secs(fixtures::DAY),
    };
    let keys = fixtures::authorities();
    let signed = record::sign_charter(header, charter, &keys.iter().collect::<Vec<_>>(), None);
    let signed = match signed {
        Ok(signed) => signed,
        Err(why) => {
            assert_quiet(&why, bytes);
            return false;
        }
    };
    assert!(record(signed.bytes()), "what was signed is a record");
    // As the start of all trust, and as what follows the charter in force.
    let trusted = record::open_trusted(&signed).map(drop);
    let following = record::verify(signed, &network).map(drop);
    for why in [&trusted, &following].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_quiet(why, bytes);
    }
    trusted.is_ok() || following.is_ok()
}

/// A frame, and whatever it says to an engine.
pub(crate) fn frame(bytes: &[u8]) -> bool {
    let frame = match Frame::from_bytes(bytes) {
        Ok(frame) => frame,
        Err(why) => {
            assert_quiet(&why, bytes);
            return false;
        }
    };
    assert_eq!(frame.to_bytes(), bytes, "a frame has one encoding");
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    if let Frame::Records(records) = &frame {
        assert!(records.len() <= FRAME_RECORDS_MAX);
    }
    crate::replica::take_frame(bytes);
    true
}
