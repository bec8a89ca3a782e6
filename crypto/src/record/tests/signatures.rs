//! Signatures in batches, and what dalek's batches cannot see.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use sha2::{Digest, Sha512};

use super::fixtures::Scene;
use crate::record::cose::Signatures;
use crate::record::*;

/// Envelopes of RXA's node; those whose index is in `bad` carry a signature of another key.
fn envelopes(scene: &Scene, count: usize, bad: &[usize]) -> Vec<Decoded> {
    let Body::Envelope(envelope) = scene.envelope() else { panic!("no envelope") };
    let make = |i: usize| {
        let body = Body::Envelope(Envelope { epoch: i as u64, ..envelope.clone() });
        let key = if bad.contains(&i) { &scene.b.node_key } else { &scene.a.node_key };
        sign(scene.for_both(), body, scene.a.node.fingerprint(), key).unwrap()
    };
    (0..count).map(make).collect()
}

fn refused(scene: &Scene, records: Vec<Decoded>) -> Vec<usize> {
    let ids: Vec<_> = records.iter().map(Decoded::id).collect();
    let outcomes = verify_all(records, &scene.network);
    assert_eq!(outcomes.len(), ids.len());
    for (outcome, id) in outcomes.iter().zip(ids) {
        match outcome {
            Ok(verified) => assert_eq!(verified.id(), id, "in the order of the records"),
            Err(why) => assert_eq!(*why, VerifyError::Signature),
        }
    }
    (0..outcomes.len()).filter(|i| outcomes[*i].is_err()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_batch_finds_exactly_the_bad_ones(
        count in 0..40usize,
        bad in proptest::collection::btree_set(0..40usize, 0..6),
    ) {
        let scene = scene();
        let bad: Vec<_> = bad.into_iter().filter(|i| *i < count).collect();
        prop_assert_eq!(refused(scene, envelopes(scene, count, &bad)), bad);
    }
}

#[test]
fn batches_beyond_the_largest_and_other_kinds_are_found_too() {
    let scene = scene();
    let bad = [0, 255, 256, 257, 299];
    assert_eq!(refused(scene, envelopes(scene, 300, &bad)), bad);

    // A record that is refused for another reason takes no place in the batch.
    let mut records = envelopes(scene, 3, &[1]);
    records.insert(0, scene.charter.clone());
    records.insert(2, scene.by_registrar(scene.crl()));
    let foreign = Header { network: Some(crate::NetworkId::new([9; 32])), ..scene.for_both() };
    let foreign = sign(foreign, scene.envelope(), scene.a.node.fingerprint(), &scene.a.node_key).unwrap();
    records.insert(3, foreign);
    let outcomes: Vec<_> =
        verify_all(records, &scene.network).into_iter().map(|o| o.map(|v| v.id()).err()).collect();
    let expected = [None, None, None, Some(VerifyError::OtherNetwork), Some(VerifyError::Signature), None];
    assert_eq!(outcomes, expected);
}

/// `docs/decisions/0003-batch-verification.md`: a certified signer can make a signature that single verification refuses and
/// that some batches take. This test holds the premise of that decision; if it fails, the library has changed.
#[test]
fn a_signature_with_torsion_is_refused_alone_and_not_in_every_batch() {
    let scene = scene();
    let good = envelopes(scene, 64, &[]);
    let mut taken = 0;
    for record in &good {
        let crooked = with_torsion(scene, record);
        assert_eq!(verify(crooked.clone(), &scene.network).unwrap_err(), VerifyError::Signature);
        let batch = vec![good[0].clone(), crooked, good[1].clone()];
        taken += usize::from(refused(scene, batch).is_empty());
    }
    // One in two for a point of order 2, and once more for the half of a batch that has failed.
    assert!((24..64).contains(&taken), "{taken} of 64 were taken; three in four are expected");
}

/// The same record, signed anew with a nonce point to which a point of order 2 was added.
fn with_torsion(scene: &Scene, record: &Decoded) -> Decoded {
    let Signatures::One { signer, payload_len, .. } = &record.signatures else { panic!("a charter") };
    let message = record.signed(*signer, *payload_len);
    let expanded: [u8; 64] = Sha512::digest(&scene.a.node_key.to_seed()[..]).into();
    let secret = Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(
        *expanded.first_chunk().unwrap(),
    ));
    let nonce = Scalar::from_bytes_mod_order_wide(&Sha512::digest(&message).into());
    let point = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[4]).compress();
    let hash = Sha512::new().chain_update(point.as_bytes()).chain_update(scene.a.node_key.public());
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.chain_update(&message).finalize().into());
    let answer = nonce + challenge * secret;
    let mut bytes = record.bytes().to_vec();
    let at = bytes.len() - 64;
    bytes[at..at + 32].copy_from_slice(point.as_bytes());
    bytes[at + 32..].copy_from_slice(answer.as_bytes());
    Decoded::from_bytes(&bytes).unwrap()
}

fn scene() -> &'static Scene {
    static SCENE: std::sync::OnceLock<Scene> = std::sync::OnceLock::new();
    SCENE.get_or_init(Scene::new)
}
