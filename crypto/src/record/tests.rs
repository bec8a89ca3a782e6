//! Records of every kind: made, read, verified, and refused.

pub(crate) mod fixtures;
mod receipts;
mod shape;
mod signatures;

use fixtures::Scene;

use super::*;
use crate::x509::Purpose;
use crate::{Fingerprint, NetworkId};

#[test]
fn every_kind_makes_the_round() {
    let scene = Scene::new();
    let kinds =
        [Kind::Charter, Kind::Crl, Kind::Entry, Kind::Envelope, Kind::Tombstone, Kind::Receipt, Kind::Head];
    for (record, kind) in scene.one_of_each().into_iter().zip(kinds) {
        assert_eq!(record.body().kind(), kind);
        let read = Decoded::from_bytes(record.bytes()).unwrap();
        assert_eq!((read.id(), read.header(), read.body()), (record.id(), record.header(), record.body()));
        assert_eq!(read.id(), crate::RecordId::of(record.bytes()));
        let verified = verify(read, &scene.network).unwrap();
        assert_eq!(verified.bytes(), record.bytes());
        match (kind, verified.signer()) {
            (Kind::Charter, Signer::Authorities) => {}
            (Kind::Crl | Kind::Entry, Signer::Registrar(trust)) => assert_eq!(trust.as_str(), "RXA"),
            (Kind::Envelope | Kind::Tombstone | Kind::Receipt | Kind::Head, Signer::Node { trust, node }) => {
                assert_eq!((trust.as_str(), *node.as_bytes()), ("RXA", scene.a.node_key.public()));
            }
            (kind, signer) => panic!("{kind:?} by {signer:?}"),
        }
        assert_eq!(verified.subject().is_some(), kind == Kind::Entry);
        assert_eq!(verified.revocations().is_some(), kind == Kind::Crl);
    }
}

#[test]
fn other_targets_and_classes_make_the_round() {
    let scene = Scene::new();
    let Body::Tombstone(tombstone) = scene.tombstone() else { panic!("no tombstone") };
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.name()), Some(reason));
        for target in [Target::UpTo(fixtures::NOW), Target::Standing(fixtures::NOW, 3600)] {
            let record = scene.by_node(Body::Tombstone(Tombstone { reason, target, ..tombstone.clone() }));
            verify(record, &scene.network).unwrap();
        }
    }
    let Body::Envelope(envelope) = scene.envelope() else { panic!("no envelope") };
    for class in [Class::Application, Class::Commit, Class::Welcome, Class::Submission] {
        let record = scene.by_node(Body::Envelope(Envelope { class, ..envelope.clone() }));
        assert!(matches!(record.body(), Body::Envelope(e) if e.class == class));
    }
    let Body::Entry(entry) = scene.entry() else { panic!("no entry") };
    let node = Entry {
        chain: scene.a.chain(&scene.a.node).into_iter().map(Into::into).collect(),
        key_package: None,
        addresses: vec!["/ip4/127.0.0.1/udp/4001/quic-v1".into()],
        available: None,
    };
    for entry in [Entry { key_package: None, ..entry }, node] {
        verify(scene.by_registrar(Body::Entry(entry)), &scene.network).unwrap();
    }
}

#[test]
fn each_kind_is_signed_by_the_purpose_that_may() {
    let scene = Scene::new();
    let a = &scene.a;
    let signers = [
        (Purpose::Root, &a.root, &a.root_key),
        (Purpose::Registrar, &a.registrar, &a.registrar_key),
        (Purpose::Node, &a.node, &a.node_key),
        (Purpose::Device, &a.device, &a.device_key),
        (Purpose::Officer, &a.officer, &a.officer_key),
    ];
    for (body, right) in [
        (scene.crl(), Purpose::Registrar),
        (scene.entry(), Purpose::Registrar),
        (scene.envelope(), Purpose::Node),
        (scene.tombstone(), Purpose::Node),
        (scene.receipt(), Purpose::Node),
    ] {
        let header = if right == Purpose::Node { scene.for_both() } else { scene.for_all() };
        for (purpose, certificate, key) in signers {
            let record = sign(header.clone(), body.clone(), certificate.fingerprint(), key).unwrap();
            let outcome = verify(record, &scene.network);
            if purpose == right {
                outcome.unwrap();
            } else {
                let refused = outcome.unwrap_err();
                assert!(
                    matches!(refused, VerifyError::Right { .. }),
                    "{} by {purpose}: {refused}",
                    body.kind().name()
                );
            }
        }
        // The right certificate, named by who does not have its key.
        let named = if right == Purpose::Node { &a.node } else { &a.registrar };
        let forged = sign(header, body, named.fingerprint(), &scene.b.node_key).unwrap();
        assert_eq!(verify(forged, &scene.network).unwrap_err(), VerifyError::Signature);
    }
}

#[test]
fn a_trust_speaks_for_itself_alone() {
    let scene = Scene::new();
    let by_b =
        |body| sign(scene.for_all(), body, scene.b.registrar.fingerprint(), &scene.b.registrar_key).unwrap();
    // RXB's registrar vouches for RXA's person, or publishes RXA's list as its own.
    for body in [scene.entry(), scene.crl()] {
        assert!(matches!(verify(by_b(body), &scene.network), Err(VerifyError::Right { .. })));
    }
    let Body::Entry(mut entry) = scene.entry() else { panic!("no entry") };
    entry.chain[1] = scene.b.registrar.der().to_vec().into();
    let refused = verify(by_b(Body::Entry(entry)), &scene.network).unwrap_err();
    assert!(matches!(refused, VerifyError::Content(crate::network::IdentityError::Chain(_))), "{refused}");
    let Body::Crl(mut crl) = scene.crl() else { panic!("no list") };
    crl.issuer = scene.b.registrar.der().to_vec();
    assert!(matches!(verify(by_b(Body::Crl(crl)), &scene.network), Err(VerifyError::Content(_))));
}

#[test]
fn an_entry_is_for_a_leaf() {
    let scene = Scene::new();
    let chain = vec![scene.a.registrar.der().to_vec().into(), scene.a.registrar.der().to_vec().into()];
    let entry = Entry { chain, key_package: None, addresses: Vec::new(), available: None };
    let refused = verify(scene.by_registrar(Body::Entry(entry)), &scene.network);
    assert!(matches!(refused, Err(VerifyError::Right { .. })));
}

#[test]
fn records_of_another_network_are_refused() {
    let scene = Scene::new();
    let header = Header { network: Some(NetworkId::new([9; 32])), ..scene.for_both() };
    for body in [scene.envelope(), scene.tombstone(), scene.receipt()] {
        let record = sign(header.clone(), body, scene.a.node.fingerprint(), &scene.a.node_key).unwrap();
        assert_eq!(verify(record, &scene.network).unwrap_err(), VerifyError::OtherNetwork);
    }
    let unknown =
        sign(scene.for_both(), scene.envelope(), Fingerprint::new([9; 32]), &scene.a.node_key).unwrap();
    let refused = verify(unknown, &scene.network).unwrap_err();
    assert!(matches!(refused, VerifyError::Signer(crate::network::IdentityError::UnknownCertificate(_))));
}
