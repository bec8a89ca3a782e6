//! Records are COSE (RFC 9052) as an independent implementation understands it: pycose, from PyPI, verifies ours, and refuses
//! them with any byte altered.
//!
//! `scripts/test` installs it. Without it these tests say so and check nothing; in CI that is a failure.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod records;

use std::path::Path;

use lanyard_crypto::ids::to_hex;
use lanyard_crypto::labels;
use lanyard_crypto::record::{Decoded, Kind};
use lanyard_tests::python;
use records::Scene;
use serde_json::{Value, json};

#[test]
fn pycose_verifies_records_of_every_kind() {
    let Some(python) = python::find("pycose") else { return };
    let scene = Scene::new();
    let records = scene.all();
    let messages: Vec<_> = records.iter().map(|r| message(&scene, r, r.bytes())).collect();
    let verified = verify(&python, &messages);
    for (record, verified) in records.iter().zip(verified) {
        assert!(verified, "{}", record.body().kind().name());
    }
}

#[test]
fn pycose_refuses_records_with_any_byte_altered() {
    let Some(python) = python::find("pycose") else { return };
    let scene = Scene::new();
    let records = scene.all();
    for kind in [Kind::Charter, Kind::Envelope] {
        let record = records.iter().find(|r| r.body().kind() == kind).unwrap();
        let alter = |i: usize| {
            let mut bytes = record.bytes().to_vec();
            bytes[i] ^= 1;
            message(&scene, record, &bytes)
        };
        // The tag and the frame around the signed parts may be read more kindly than we do: RFC 9052 allows headers that
        // are not protected. Everything from the protected header's content on is signed.
        let messages: Vec<_> = (4..record.bytes().len()).map(alter).collect();
        let taken: Vec<_> =
            verify(&python, &messages).iter().enumerate().filter(|(_, v)| **v).map(|(i, _)| i + 4).collect();
        assert!(taken.is_empty(), "{}: taken with these bytes altered: {taken:?}", kind.name());
    }
}

#[test]
fn pycose_refuses_another_context_and_another_key() {
    let Some(python) = python::find("pycose") else { return };
    let scene = Scene::new();
    let record = scene.all().into_iter().find(|r| r.body().kind() == Kind::Envelope).unwrap();
    let good = message(&scene, &record, record.bytes());
    let (mut context, mut key) = (good.clone(), good.clone());
    context["external_aad"] = to_hex(labels::CHARTER).into();
    key["keys"] = json!([to_hex(&scene.authority_keys()[0])]);
    assert_eq!(verify(&python, &[good, context, key]), [true, false, false]);
}

fn message(scene: &Scene, record: &Decoded, bytes: &[u8]) -> Value {
    let (label, keys) = match record.body().kind() {
        Kind::Charter => (labels::CHARTER, scene.authority_keys()),
        _ => (labels::RECORD, vec![scene.signer_key()]),
    };
    let keys: Vec<_> = keys.iter().map(|k| to_hex(k)).collect();
    json!({ "bytes": to_hex(bytes), "external_aad": to_hex(label), "keys": keys })
}

fn verify(python: &Path, messages: &[Value]) -> Vec<bool> {
    let input = json!({ "messages": messages }).to_string();
    let verified: Vec<bool> = serde_json::from_value(python::answer(python, "verify.py", &input)).unwrap();
    assert_eq!(verified.len(), messages.len());
    verified
}
