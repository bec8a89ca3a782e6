//! What a device goes on believing when its node says something else.

use lanyard_client::clock;
use lanyard_client::profile::Profile;
use lanyard_client::trust::{Beliefs, TrustError};
use lanyard_crypto::TrustId;
use lanyard_crypto::charter::Charter;
use lanyard_crypto::gateway::TrustResponse;
use lanyard_crypto::record::{self, Body, Crl, Decoded, Header};
use lanyard_crypto::x509::issue::Issuer;
use lanyard_crypto::x509::{CrlReason, Purpose, Revocation, SecretKey};
use tempfile::TempDir;

use crate::world::{LIFE_SECS, World};

fn begin(world: &World) -> (TempDir, Profile, Beliefs) {
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::at(dir.path());
    let trust = &world.trusts[0];
    let beliefs =
        Beliefs::found(&profile, world.charter.bytes(), &trust.id, &trust.root.fingerprint()).unwrap();
    (dir, profile, beliefs)
}

/// The charter that follows `previous`, with another name.
fn next(world: &World, previous: &Decoded, key: &SecretKey) -> Decoded {
    next_with(world, previous, key, |_| true)
}

/// The charter that follows `previous`, with those of the world's trusts that `carries` names.
pub fn next_with(
    world: &World,
    previous: &Decoded,
    key: &SecretKey,
    carries: impl Fn(&TrustId) -> bool,
) -> Decoded {
    let (Body::Charter(charter), Body::Charter(first)) = (previous.body(), world.charter.body()) else {
        panic!("a charter is needed")
    };
    let mut trusts = first.trusts.clone();
    trusts.retain(|member| carries(&member.trust));
    let charter = Charter {
        name: format!("Version {}", charter.version + 1),
        version: charter.version + 1,
        previous: Some(previous.statement()),
        trusts,
        ..charter.clone()
    };
    let now = clock::now();
    let (custodians, expires) = (Vec::new(), now.plus_secs(LIFE_SECS));
    let header = Header { network: Some(world.network), custodians, issued: now, expires };
    record::sign_charter(header, charter, &[key], None).unwrap()
}

fn told(charter: &Decoded, crls: &[&Decoded]) -> TrustResponse {
    let crls = crls.iter().map(|c| serde_bytes::ByteBuf::from(c.bytes().to_vec())).collect();
    TrustResponse {
        charter: charter.bytes().to_vec(),
        crls,
        retention: Default::default(),
        review: Default::default(),
        patterns: Vec::new(),
    }
}

#[test]
fn only_a_charter_that_follows_takes_the_place_of_the_one_in_force() {
    let world = World::start(&["RTD", "RXH"]);
    let (_dir, profile, mut beliefs) = begin(&world);
    let second = next(&world, &world.charter, &world.authority);
    let third = next(&world, &second, &world.authority);
    let forged = next(&world, &world.charter, &SecretKey::generate().unwrap());
    let version = |beliefs: &Beliefs| beliefs.read().charter().version;

    assert!(matches!(beliefs.take(&told(&forged, &[])), Err(TrustError::Verify(_))));
    let missed = beliefs.take(&told(&third, &[]));
    assert!(matches!(missed, Err(TrustError::Missed { offered: 3, current: 1 })));
    assert_eq!(version(&beliefs), 1);
    beliefs.take(&told(&second, &[])).unwrap();
    assert_eq!(version(&Beliefs::load(&profile).unwrap()), 2);
    beliefs.take(&told(&third, &[])).unwrap();
    beliefs.take(&told(&second, &[])).unwrap();
    assert_eq!(version(&beliefs), 3);
    assert_eq!(version(&Beliefs::load(&profile).unwrap()), 3);
    let trust = &world.trusts[1];
    let other_root = Beliefs::found(&profile, third.bytes(), &world.trusts[0].id, &trust.root.fingerprint());
    assert!(matches!(other_root, Err(TrustError::NotAMember(_))));
}

#[test]
fn what_was_revoked_stays_revoked() {
    let world = World::start(&["RTD", "RXH"]);
    let (_dir, profile, mut beliefs) = begin(&world);
    let trust = &world.trusts[1];
    let now = clock::now();
    let list = |number: u64, revoked: &[Revocation]| {
        let issuer = Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
        let list = issuer.revocation_list(number, now, now.plus_secs(3600), revoked).unwrap();
        let (custodians, expires) = (Vec::new(), now.plus_secs(LIFE_SECS));
        let header = Header { network: Some(world.network), custodians, issued: now, expires };
        let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: trust.registrar.der().to_vec() });
        record::sign(header, body, trust.registrar.fingerprint(), &trust.registrar_key).unwrap()
    };
    let holds = |beliefs: &Beliefs| beliefs.read().verify_chain(&trust.chain(), Purpose::Node, now).is_ok();
    let revoked =
        Revocation { serial: trust.node.serial().to_vec(), at: now, reason: Some(CrlReason::KeyCompromise) };

    assert!(holds(&beliefs));
    beliefs.take(&told(&world.charter, &[&list(2, &[revoked])])).unwrap();
    assert!(!holds(&beliefs));
    beliefs.take(&told(&world.charter, &[&list(1, &[])])).unwrap();
    assert!(!holds(&beliefs));
    assert!(!holds(&Beliefs::load(&profile).unwrap()));
    beliefs.take(&told(&next(&world, &world.charter, &world.authority), &[])).unwrap();
    assert!(!holds(&beliefs));
}

#[test]
fn a_list_that_is_held_is_not_written_again() {
    let world = World::start(&["RTD", "RXH"]);
    let (_dir, profile, mut beliefs) = begin(&world);
    let trust = &world.trusts[1];
    let now = clock::now();
    let issuer = Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
    let list = issuer.revocation_list(1, now, now.plus_secs(3600), &[]).unwrap();
    let (custodians, expires) = (Vec::new(), now.plus_secs(LIFE_SECS));
    let header = Header { network: Some(world.network), custodians, issued: now, expires };
    let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: trust.registrar.der().to_vec() });
    let list = record::sign(header, body, trust.registrar.fingerprint(), &trust.registrar_key).unwrap();

    beliefs.take(&told(&world.charter, &[&list])).unwrap();
    std::fs::remove_file(profile.crls_path()).unwrap();
    let revision = beliefs.read().revision();
    beliefs.take(&told(&world.charter, &[&list])).unwrap();
    assert!(!profile.crls_path().exists(), "nothing is new, so nothing is written");
    assert_eq!(beliefs.read().revision(), revision, "and what was verified stays so");
}

#[test]
fn a_clock_that_is_hours_behind_opens_no_certificate_that_has_ended() {
    let world = World::start(&["RTD", "RXH"]);
    let (_dir, profile, mut beliefs) = begin(&world);
    let ended = world.trusts[1].node.not_after();
    let (clock, later) = (ended.minus_secs(6 * 3600), ended.plus_secs(3600));
    let list = |at: usize| {
        let trust = &world.trusts[at];
        let issuer = Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
        let list = issuer.revocation_list(1, later, later.plus_secs(3600), &[]).unwrap();
        let (custodians, expires) = (Vec::new(), later.plus_secs(LIFE_SECS));
        let header = Header { network: Some(world.network), custodians, issued: later, expires };
        let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: trust.registrar.der().to_vec() });
        record::sign(header, body, trust.registrar.fingerprint(), &trust.registrar_key).unwrap()
    };
    let holds = |beliefs: &Beliefs| {
        let network = beliefs.read();
        network.verify_chain(&world.trusts[1].chain(), Purpose::Node, network.time(clock)).is_ok()
    };

    beliefs.take(&told(&world.charter, &[&list(1)])).unwrap();
    assert!(holds(&beliefs) && beliefs.clock_behind(clock).is_none(), "one trust may lie");
    beliefs.take(&told(&world.charter, &[&list(0)])).unwrap();
    assert!(!holds(&beliefs));
    assert!(beliefs.clock_behind(clock).is_some_and(|secs| secs > 6 * 3600));
    let again = Beliefs::load(&profile).unwrap();
    assert!(!holds(&again), "it is kept");
    assert_eq!(again.clock_behind(later), None);
}
