//! Whom a charter makes trustworthy, and how that changes with time, revocation and the next charter.

use crate::mls::ChainVerifier;
use crate::network::{IdentityError, Network};
use crate::record::tests::fixtures::{self, DAY, NOW, Scene, Trust};
use crate::record::{Body, Crl};
use crate::x509::{ChainError, Purpose};

#[test]
fn a_chain_is_verified_for_a_purpose_at_a_moment() {
    let scene = Scene::new();
    let chain = scene.a.chain(&scene.a.node);
    let identity = scene.network.verify_chain(&chain, Purpose::Node, NOW).unwrap();
    assert_eq!(identity.trust.as_str(), "RXA");
    assert_eq!(*identity.node().as_bytes(), scene.a.node_key.public());
    for (purpose, at) in [
        (Purpose::Device, NOW),
        (Purpose::Node, NOW.minus_secs(301)),
        (Purpose::Node, NOW.plus_secs(91 * DAY)),
    ] {
        let refused = scene.network.verify_chain(&chain, purpose, at);
        assert!(matches!(refused, Err(IdentityError::Chain(_))));
    }
    let expired = scene.network.verify_chain(&chain, Purpose::Node, NOW.plus_secs(900 * DAY));
    assert!(expired.is_err());
    let mixed = vec![chain[0].clone(), scene.b.registrar.der().to_vec()];
    assert!(matches!(scene.network.verify_chain(&mixed, Purpose::Node, NOW), Err(IdentityError::Chain(_))));
    for wrong in [&chain[..1], &[chain[0].clone(), chain[1].clone(), chain[1].clone()], &[vec![1], vec![2]]] {
        let refused = scene.network.verify_chain(wrong, Purpose::Node, NOW);
        assert!(matches!(refused, Err(IdentityError::NotAChain(_))));
    }
    let stranger = Trust::new("RXZ", 51);
    let refused = scene.network.verify_chain(&stranger.chain(&stranger.node), Purpose::Node, NOW);
    assert_eq!(refused.unwrap_err(), IdentityError::UnknownTrust("RXZ".parse().unwrap()));
}

#[test]
fn a_known_signer_ends_with_its_certificate_and_with_the_charter() {
    let scene = Scene::new();
    let node = scene.a.node.fingerprint();
    scene.network.identity(&node, NOW).unwrap();
    let late = scene.network.identity(&node, NOW.plus_secs(90 * DAY + 1));
    assert!(matches!(late, Err(IdentityError::Chain(ChainError::Expired { .. }))), "{late:?}");
    let over = scene.network.identity(&node, NOW.plus_secs(900 * DAY));
    assert_eq!(over.unwrap_err(), IdentityError::CharterExpired);
    assert_eq!(scene.network.nodes(NOW).len(), 2);
    assert!(scene.network.nodes(NOW.plus_secs(91 * DAY)).is_empty());
}

#[test]
fn a_node_outside_the_charters_countries_is_not_admitted() {
    let (a, france) = (Trust::new("RXA", 1), Trust::hosted("RXF", 61, "FR".parse().unwrap()));
    let keys = fixtures::authorities(101);
    let charter = fixtures::charter(&[&a, &france], &keys);
    let record = fixtures::sign_charter(charter, None, &[&keys[0], &keys[1]]);
    let mut network = crate::record::open_trusted(&record).unwrap();
    let refused = network.verify_chain(&france.chain(&france.node), Purpose::Node, NOW).unwrap_err();
    assert!(
        matches!(&refused, IdentityError::Country(stated, permitted) if stated == "FR" && permitted == "DE GB")
    );
    network.learn(&france.chain(&france.node)).unwrap();
    assert!(network.identity(&france.node.fingerprint(), NOW).is_err());
    // Its people are.
    network.verify_chain(&france.chain(&france.device), Purpose::Device, NOW).unwrap();
}

#[test]
fn revocation_counts_from_now_whatever_the_moment() {
    let mut scene = Scene::new();
    let before = scene.network.revision();
    let list = scene.a.list(2, &[&scene.a.node]);
    let crl = Crl { list: list.der().to_vec(), issuer: scene.a.registrar.der().to_vec() };
    let (issuer, list) = scene.network.check_crl(&crl).unwrap();
    assert!(scene.network.revoke(issuer.fingerprint(), list.clone()));
    assert!(scene.network.revision() > before);
    for at in [NOW.minus_secs(100), NOW] {
        let refused = scene.network.identity(&scene.a.node.fingerprint(), at);
        assert!(matches!(refused, Err(IdentityError::Chain(ChainError::Revoked { .. }))));
    }
    scene.network.identity(&scene.b.node.fingerprint(), NOW).unwrap();
    scene.network.identity(&scene.a.device.fingerprint(), NOW).unwrap();
    // An older list takes nothing back.
    let revision = scene.network.revision();
    assert!(!scene.network.revoke(issuer.fingerprint(), scene.a.list(1, &[])));
    assert_eq!(scene.network.revision(), revision);
    assert!(scene.network.identity(&scene.a.node.fingerprint(), NOW).is_err());
}

#[test]
fn a_list_must_be_of_its_issuer() {
    let scene = Scene::new();
    let list = scene.a.list(1, &[]).der().to_vec();
    let stranger = Trust::new("RXZ", 51);
    for (list, issuer) in [
        (list.clone(), scene.b.registrar.der().to_vec()),
        (list.clone(), scene.a.node.der().to_vec()),
        (stranger.list(1, &[]).der().to_vec(), stranger.registrar.der().to_vec()),
        (list[..50].to_vec(), scene.a.registrar.der().to_vec()),
        (list, vec![1, 2, 3]),
    ] {
        assert!(scene.network.check_crl(&Crl { list, issuer }).is_err());
    }
}

#[test]
fn a_new_charter_keeps_what_still_holds() {
    let mut scene = Scene::new();
    scene.network.revoke(scene.b.registrar.fingerprint(), scene.b.list(1, &[&scene.b.device]));
    let Body::Charter(first) = scene.charter.body() else { panic!("no charter") };
    let mut second = first.clone();
    second.version = 2;
    second.previous = Some(scene.charter.statement());
    let network = |charter: &crate::charter::Charter| {
        Network::new(scene.charter.statement(), scene.charter.header(), charter, Some(&scene.network))
    };
    let same = network(&second).unwrap();
    assert!(same.revision() > scene.network.revision());
    same.identity(&scene.b.node.fingerprint(), NOW).unwrap();
    assert!(same.identity(&scene.b.device.fingerprint(), NOW).is_err(), "revoked stays revoked");

    second.trusts.truncate(1);
    let without = network(&second).unwrap();
    without.identity(&scene.a.node.fingerprint(), NOW).unwrap();
    let gone = without.identity(&scene.b.node.fingerprint(), NOW);
    assert_eq!(gone.unwrap_err(), IdentityError::UnknownCertificate(scene.b.node.fingerprint()));
    // Under another root, RXA's certificates are nobody's.
    second.trusts = vec![Trust::new("RXA", 71).member()];
    let rerooted = network(&second).unwrap();
    assert!(rerooted.identity(&scene.a.node.fingerprint(), NOW).is_err());
    assert!(rerooted.chain(&scene.a.node.fingerprint()).is_none());
}

#[test]
fn members_of_groups_are_followed_without_a_clock() {
    let mut scene = Scene::new();
    let chain = scene.a.chain(&scene.a.device);
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let device = ChainVerifier::verify(&scene.network, &chain, Some(NOW)).unwrap();
    assert_eq!((device.trust.as_str(), device.name.as_str()), ("RXA", "Aoife"));
    scene.network.revoke(scene.a.registrar.fingerprint(), scene.a.list(1, &[&scene.a.device]));
    assert!(ChainVerifier::verify(&scene.network, &chain, Some(NOW)).is_err());
    assert_eq!(ChainVerifier::verify(&scene.network, &chain, None).unwrap(), device);
    assert!(scene.network.verify_node(&chain, None).is_err(), "a device is no node");
    assert_eq!(scene.network.read(&chain).unwrap(), device);
}
