//! Every reason for which a chain is refused, each with a chain that is otherwise good.

use const_oid::ObjectIdentifier;
use der::asn1::OctetString;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};

use super::*;
use crate::x509::{ChainError, CrlError, CrlPolicy, oids, verify_chain, verify_root};

/// Verifies under the trust's own registrar, root and list, without asking for freshness of the list.
fn verify(trust: &Trust, leaf: &Certificate, purpose: Purpose, at: Timestamp) -> Result<(), ChainError> {
    verify_through(trust, leaf, std::slice::from_ref(&trust.registrar), &trust.root, purpose, at)
}

fn verify_through(
    trust: &Trust,
    leaf: &Certificate,
    issuers: &[Certificate],
    root: &Certificate,
    purpose: Purpose,
    at: Timestamp,
) -> Result<(), ChainError> {
    let registrar = trust.registrar.fingerprint();
    let crls = |issuer: &_| (*issuer == registrar).then_some(&trust.crl);
    verify_chain(leaf, issuers, root, crls, CrlPolicy::IfHeld, purpose, at)
}

fn device_by(
    trust: &Trust,
    registrar: &Certificate,
    registrar_key: &SecretKey,
    root: &Certificate,
    at: Timestamp,
) -> Result<(), ChainError> {
    let mut profile = trust.forge(&person(trust.code), &key(95));
    profile.leaf(&[oids::PURPOSE_DEVICE]).unwrap();
    profile.issuer = registrar.subject_name().clone();
    let device = profile.sign(&key(95).public(), registrar_key, &term(9, 4000)).unwrap();
    let issuers = std::slice::from_ref(registrar);
    verify_chain(&device, issuers, root, |_| None, CrlPolicy::IfHeld, Purpose::Device, at)
}

/// A registrar as our own issuing would make it but for `change`, and what becomes of a device under it.
fn under_altered_registrar(
    trust: &Trust,
    at: Timestamp,
    change: impl Fn(&mut Profile),
) -> Result<(), ChainError> {
    let root_key = issue::key_identifier(&trust.root_key.public());
    let name = subject(trust.code, "Registrar").to_name().unwrap();
    let own_key = trust.registrar_key.public();
    let mut profile = Profile::new(trust.root.subject_name().clone(), name, &own_key, &root_key).unwrap();
    profile
        .authority(0, KeyUsages::KeyCertSign | KeyUsages::CRLSign, &subject(trust.code, "Registrar"))
        .unwrap();
    change(&mut profile);
    let registrar = profile.sign(&own_key, &trust.root_key, &term(8, 2000)).unwrap();
    device_by(trust, &registrar, &trust.registrar_key, &trust.root, at)
}

fn replace<E: const_oid::AssociatedOid>(profile: &mut Profile, by: Option<&E>)
where
    for<'a> &'a E: x509_cert::ext::ToExtension<Error = der::Error>,
{
    profile.extensions.retain(|extension| extension.extn_id != E::OID);
    if let Some(extension) = by {
        profile.push(extension).unwrap();
    }
}

#[test]
fn every_kind_of_certificate_is_accepted_for_its_own_purpose_alone() {
    let trust = Trust::new("RYJ", 10);
    let leaves =
        [(&trust.node, Purpose::Node), (&trust.device, Purpose::Device), (&trust.officer, Purpose::Officer)];
    for (leaf, own) in leaves {
        for (_, asked) in leaves {
            let result = verify(&trust, leaf, asked, NOW);
            let wrong = matches!(result, Err(ChainError::WrongPurpose { needed, .. }) if needed == asked);
            assert!(if own == asked { result.is_ok() } else { wrong }, "{own} as {asked}: {result:?}");
        }
    }
    let registrar = verify_through(&trust, &trust.registrar, &[], &trust.root, Purpose::Registrar, NOW);
    assert_eq!(registrar, Ok(()));
    assert_eq!(verify_root(&trust.root, NOW), Ok(()));
    assert!(matches!(verify_root(&trust.registrar, NOW), Err(ChainError::NotRoot(_))));
}

#[test]
fn time_bounds_are_inclusive_and_hold_for_every_link() {
    let trust = Trust::new("RYJ", 10);
    let at = |at| verify(&trust, &trust.device, Purpose::Device, at);
    assert_eq!(at(trust.device.not_before()), Ok(()));
    assert!(matches!(at(trust.device.not_before().minus_secs(1)), Err(ChainError::NotYetValid { .. })));
    assert_eq!(at(trust.device.not_after()), Ok(()));
    let expired = at(trust.device.not_after().plus_secs(1)).unwrap_err();
    // Without her name: refusals are logged.
    let which = trust.device.fingerprint();
    let said = format!("the device certificate {which} (RYJ) expired at 2027-04-15T08:00:00Z");
    assert_eq!(expired.to_string(), said);
    let expired = verify_root(&trust.root, trust.root.not_after().plus_secs(1)).unwrap_err();
    assert!(expired.to_string().starts_with("the root certificate of "), "{expired}");

    let registrar = trust.registrar.not_after().plus_secs(1);
    let alone = verify_through(&trust, &trust.registrar, &[], &trust.root, Purpose::Registrar, registrar);
    assert!(
        matches!(alone, Err(ChainError::Expired { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
    let root = verify_root(&trust.root, trust.root.not_after().plus_secs(1));
    assert!(
        matches!(root, Err(ChainError::Expired { which, .. }) if which.certificate().purpose() == Purpose::Root)
    );

    // Under a registrar that ends before the certificates that it made.
    let short = under_altered_registrar(&trust, NOW.plus_secs(2001), |_| ());
    assert!(
        matches!(short, Err(ChainError::Expired { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
}

#[test]
fn another_trust_and_another_root_are_refused() {
    let (trust, other) = (Trust::new("RYJ", 10), Trust::new("RXX", 50));
    let crossed = verify_through(
        &trust,
        &trust.device,
        std::slice::from_ref(&trust.registrar),
        &other.root,
        Purpose::Device,
        NOW,
    );
    assert!(matches!(crossed, Err(ChainError::NameConstraint { .. })), "{crossed:?}");

    // The same names, other keys: an impostor's whole trust with one certificate of the real one.
    let impostor = Trust::new("RYJ", 70);
    let issuers = std::slice::from_ref(&impostor.registrar);
    let mixed = verify_through(&trust, &impostor.device, issuers, &trust.root, Purpose::Device, NOW);
    assert!(
        matches!(mixed, Err(ChainError::AuthorityKey { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );

    // A registrar that certifies somebody of another trust.
    let mut profile = trust.forge(&person("RXX"), &key(95));
    profile.leaf(&[oids::PURPOSE_DEVICE]).unwrap();
    let stranger = profile.sign(&key(95).public(), &trust.registrar_key, &term(9, 1000)).unwrap();
    let result = verify(&trust, &stranger, Purpose::Device, NOW);
    assert!(
        matches!(result, Err(ChainError::NameConstraint { which, .. }) if which.certificate().subject().trust.as_str() == "RXX")
    );
}

#[test]
fn our_own_rule_holds_where_no_name_constraint_does() {
    let trust = Trust::new("RYJ", 10);
    let root_name = subject("RYJ", "Root").to_name().unwrap();
    let root_key = trust.root_key.public();
    let identifier = issue::key_identifier(&root_key);
    let mut profile = Profile::new(root_name.clone(), root_name, &root_key, &identifier).unwrap();
    profile.push(&BasicConstraints { ca: true, path_len_constraint: None }).unwrap();
    profile.push(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)).unwrap();
    let root = profile.sign(&root_key, &trust.root_key, &term(1, 4000)).unwrap();

    let name = subject("RXX", "Registrar").to_name().unwrap();
    let own_key = trust.registrar_key.public();
    let mut profile = Profile::new(root.subject_name().clone(), name, &own_key, &identifier).unwrap();
    profile.push(&BasicConstraints { ca: true, path_len_constraint: None }).unwrap();
    profile.push(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)).unwrap();
    let registrar = profile.sign(&own_key, &trust.root_key, &term(2, 3000)).unwrap();
    let result = device_by(&trust, &registrar, &trust.registrar_key, &root, NOW);
    assert!(
        matches!(result, Err(ChainError::OtherTrust { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
}

#[test]
fn an_authority_needs_its_rights() {
    let trust = Trust::new("RYJ", 10);
    let without_usage = under_altered_registrar(&trust, NOW, |p| replace::<KeyUsage>(p, None));
    assert!(matches!(without_usage, Err(ChainError::KeyUsage { needed: "keyCertSign", .. })));
    let lists_only =
        under_altered_registrar(&trust, NOW, |p| replace(p, Some(&KeyUsage(KeyUsages::CRLSign.into()))));
    assert!(matches!(lists_only, Err(ChainError::KeyUsage { needed: "keyCertSign", .. })));
    let key = SubjectKeyIdentifier(OctetString::new([1; 20]).unwrap());
    let other_key = under_altered_registrar(&trust, NOW, |p| replace(p, Some(&key)));
    assert!(
        matches!(other_key, Err(ChainError::AuthorityKey { which, .. }) if which.certificate().purpose() == Purpose::Device)
    );
    let unnamed = under_altered_registrar(&trust, NOW, |p| replace::<AuthorityKeyIdentifier>(p, None));
    assert!(
        matches!(unnamed, Err(ChainError::AuthorityKey { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
    let nodes_only = ExtendedKeyUsage(vec![oids::PURPOSE_NODE]);
    let not_granted = under_altered_registrar(&trust, NOW, |p| replace(p, Some(&nodes_only)));
    assert!(matches!(not_granted, Err(ChainError::PurposeNotGranted { needed: Purpose::Device, .. })));
    let renamed = subject("RYJ", "Somebody else").to_name().unwrap();
    let other_issuer = under_altered_registrar(&trust, NOW, |p| p.issuer = renamed.clone());
    assert!(
        matches!(other_issuer, Err(ChainError::IssuerName { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
}

#[test]
fn a_leaf_is_no_authority_and_must_be_able_to_sign() {
    let trust = Trust::new("RYJ", 10);
    let node_key = key(12);
    let result = device_by(&trust, &trust.node, &node_key, &trust.root, NOW);
    assert!(
        matches!(result, Err(ChainError::NotAuthority(which)) if which.certificate().purpose() == Purpose::Node)
    );

    let mut profile = trust.forge(&person("RYJ"), &key(95));
    profile.push(&ExtendedKeyUsage(vec![oids::PURPOSE_DEVICE])).unwrap();
    let mute = profile.sign(&key(95).public(), &trust.registrar_key, &term(9, 1000)).unwrap();
    let result = verify(&trust, &mute, Purpose::Device, NOW);
    assert!(matches!(result, Err(ChainError::KeyUsage { needed: "digitalSignature", .. })));
}

#[test]
fn a_path_is_no_longer_than_its_authorities_allow() {
    let trust = Trust::new("RYJ", 10);
    // A second registrar under the first, whose path length is 0.
    let mut profile = trust.forge(&subject("RYJ", "Second registrar"), &key(96));
    profile
        .authority(0, KeyUsages::KeyCertSign | KeyUsages::CRLSign, &subject("RYJ", "Second registrar"))
        .unwrap();
    let second = profile.sign(&key(96).public(), &trust.registrar_key, &term(7, 2000)).unwrap();
    let direct = verify_through(
        &trust,
        &second,
        std::slice::from_ref(&trust.registrar),
        &trust.root,
        Purpose::Registrar,
        NOW,
    );
    assert!(matches!(direct, Err(ChainError::PathTooLong { allowed: 0, found: 1, .. })), "{direct:?}");

    let mut profile = trust.forge(&person("RYJ"), &key(95));
    profile.leaf(&[oids::PURPOSE_DEVICE]).unwrap();
    profile.issuer = second.subject_name().clone();
    let device = profile.sign(&key(95).public(), &key(96), &term(9, 1000)).unwrap();
    let issuers = [second, trust.registrar.clone()];
    let below = verify_through(&trust, &device, &issuers, &trust.root, Purpose::Device, NOW);
    assert!(matches!(below, Err(ChainError::PathTooLong { allowed: 0, found: 1, .. })), "{below:?}");

    let issuers = vec![trust.registrar.clone(); 3];
    let many = verify_through(&trust, &trust.device, &issuers, &trust.root, Purpose::Device, NOW);
    assert_eq!(many, Err(ChainError::TooManyIssuers(3)));
    let issuers = vec![trust.registrar.clone(); 2];
    let twice = verify_through(&trust, &trust.device, &issuers, &trust.root, Purpose::Device, NOW);
    assert!(matches!(twice, Err(ChainError::Duplicate(_))));
}

#[test]
fn a_signature_by_another_key_is_refused_even_if_all_names_fit() {
    let trust = Trust::new("RYJ", 10);
    let mut profile = trust.forge(&person("RYJ"), &key(95));
    profile.leaf(&[oids::PURPOSE_DEVICE]).unwrap();
    let forged = profile.sign(&key(95).public(), &key(99), &term(9, 1000)).unwrap();
    let result = verify(&trust, &forged, Purpose::Device, NOW);
    assert!(
        matches!(result, Err(ChainError::Signature { which, .. }) if which.certificate().purpose() == Purpose::Device)
    );
}

#[test]
fn revocation_is_refused_whatever_the_policy_and_however_old_the_list() {
    let trust = Trust::new("RYJ", 10);
    let list = trust.revoke(&[&trust.device]);
    let registrar = trust.registrar.fingerprint();
    let issuers = std::slice::from_ref(&trust.registrar);
    let check = |leaf: &Certificate, purpose, policy, at| {
        let crls = |issuer: &_| (*issuer == registrar).then_some(&list);
        verify_chain(leaf, issuers, &trust.root, crls, policy, purpose, at)
    };
    let stale = list.next_update().plus_secs(1);
    for policy in [CrlPolicy::Fresh, CrlPolicy::Present, CrlPolicy::IfHeld] {
        for at in [NOW, stale] {
            let result = check(&trust.device, Purpose::Device, policy, at);
            assert!(matches!(result, Err(ChainError::Revoked { at: NOW, .. })), "{policy:?}: {result:?}");
        }
        assert_eq!(check(&trust.node, Purpose::Node, policy, NOW), Ok(()));
    }
    assert_eq!(check(&trust.node, Purpose::Node, CrlPolicy::Present, stale), Ok(()));
    let fresh = check(&trust.node, Purpose::Node, CrlPolicy::Fresh, stale);
    assert!(matches!(fresh, Err(ChainError::CrlStale { .. })));
}

#[test]
fn a_list_that_is_missing_or_of_another_is_told_apart() {
    let trust = Trust::new("RYJ", 10);
    let issuers = std::slice::from_ref(&trust.registrar);
    let check = |list: Option<&RevocationList>, policy| {
        let registrar = trust.registrar.fingerprint();
        let crls = |issuer: &_| list.filter(|_| *issuer == registrar);
        verify_chain(&trust.device, issuers, &trust.root, crls, policy, Purpose::Device, NOW)
    };
    assert!(matches!(check(None, CrlPolicy::Fresh), Err(ChainError::CrlMissing(_))));
    assert!(matches!(check(None, CrlPolicy::Present), Err(ChainError::CrlMissing(_))));
    assert_eq!(check(None, CrlPolicy::IfHeld), Ok(()));
    let impostor = Trust::new("RYJ", 70).crl;
    let result = check(Some(&impostor), CrlPolicy::IfHeld);
    assert!(matches!(result, Err(ChainError::CrlInvalid { error: CrlError::Issuer, .. })));
}

#[test]
fn a_root_may_revoke_its_registrar() {
    let trust = Trust::new("RYJ", 10);
    let by_root = Issuer::new(&trust.root, &trust.root_key).unwrap();
    let entry = Revocation { serial: trust.registrar.serial().to_vec(), at: NOW, reason: None };
    let list = by_root.revocation_list(1, NOW, NOW.plus_secs(60), &[entry]).unwrap();
    let root = trust.root.fingerprint();
    let crls = |issuer: &_| (*issuer == root).then_some(&list);
    let issuers = std::slice::from_ref(&trust.registrar);
    let result =
        verify_chain(&trust.device, issuers, &trust.root, crls, CrlPolicy::IfHeld, Purpose::Device, NOW);
    assert!(
        matches!(result, Err(ChainError::Revoked { which, .. }) if which.certificate().purpose() == Purpose::Registrar)
    );
}

#[test]
fn our_numbers_stand_under_one_arc() {
    let ours = [
        oids::PURPOSE_NODE,
        oids::PURPOSE_DEVICE,
        oids::PURPOSE_OFFICER,
        oids::HOSTING_COUNTRY,
        oids::PEER_ID,
    ];
    let arc = oids::ARC.to_string() + ".";
    assert!(ours.iter().all(|oid: &ObjectIdentifier| oid.to_string().starts_with(&arc)));
}
