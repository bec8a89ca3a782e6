//! How one charter follows another.

use crate::charter::{Authorities, ByClass, Charter, CharterError, Policy, TrustRetention};
use crate::limits::RETENTION_SECS_MAX;
use crate::mls::Class;
use crate::record::tests::fixtures::{self, DAY, Scene, Trust};
use crate::record::{self, Body, Decoded, VerifyError, open_trusted, verify};
use crate::x509::SecretKey;
use crate::{NetworkId, cbor};

fn first(scene: &Scene) -> Charter {
    let Body::Charter(charter) = scene.charter.body() else { panic!("no charter") };
    charter.clone()
}

/// What follows the scene's charter, with a change.
fn next(scene: &Scene, change: impl FnOnce(&mut Charter)) -> Charter {
    let mut charter = Charter { version: 2, previous: Some(scene.charter.statement()), ..first(scene) };
    change(&mut charter);
    charter
}

fn refusal(scene: &Scene, charter: Charter, keys: &[&SecretKey]) -> CharterError {
    match verify(fixtures::sign_charter(charter, Some(scene.network.id()), keys), &scene.network) {
        Err(VerifyError::Charter(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_next_version_needs_the_old_and_the_new_authorities() {
    let scene = Scene::new();
    let old: Vec<_> = scene.authorities.iter().collect();
    let renewed = fixtures::authorities(111);
    let new: Vec<_> = renewed.iter().collect();
    let keys = renewed.iter().map(|k| k.public().to_vec().into()).collect();
    let handed_over = next(&scene, |c| c.authorities = Authorities { keys, threshold: 2 });
    let network = Some(scene.network.id());
    for (signers, by, valid) in [
        (vec![old[0], new[0], new[1]], 1, 1),
        (vec![old[0], old[1], new[0]], 2, 1),
        (vec![old[0], old[1]], 2, 0),
        (vec![new[0], new[1], new[2]], 1, 0),
    ] {
        let expected = CharterError::Threshold { version: 2, by, valid, threshold: 2 };
        assert_eq!(refusal(&scene, handed_over.clone(), &signers), expected);
    }
    let record = fixtures::sign_charter(handed_over, network, &[old[0], old[2], new[0], new[2]]);
    verify(record, &scene.network).unwrap();
    // Strangers' signatures do not count, and do no harm.
    let same = next(&scene, |_| {});
    assert!(matches!(
        refusal(&scene, same.clone(), &[old[0], new[0], new[1]]),
        CharterError::Threshold { valid: 1, .. }
    ));
    verify(fixtures::sign_charter(same, network, &[old[0], old[1], new[0]]), &scene.network).unwrap();
}

#[test]
fn signatures_are_collected_one_by_one() {
    let scene = Scene::new();
    let (charter, keys) = (next(&scene, |_| {}), &scene.authorities);
    let header = fixtures::header(Some(scene.network.id()), &[], 900 * DAY);
    let one = record::sign_charter(header.clone(), charter.clone(), &[&keys[2]], None).unwrap();
    let threshold = CharterError::Threshold { version: 2, by: 1, valid: 1, threshold: 2 };
    assert_eq!(verify(one.clone(), &scene.network).unwrap_err(), VerifyError::Charter(threshold));
    let two = record::sign_charter(header.clone(), charter.clone(), &[&keys[0]], Some(&one)).unwrap();
    verify(two.clone(), &scene.network).unwrap();
    let at_once = record::sign_charter(header.clone(), charter.clone(), &[&keys[0], &keys[2]], None).unwrap();
    assert_eq!(at_once.bytes(), two.bytes());
    // The same statement all along, whoever signed.
    assert_ne!(one.id(), two.id());
    assert_eq!(one.statement(), two.statement());
    let other = Charter { name: "Other".into(), ..charter };
    assert!(record::sign_charter(header, other, &[&keys[0]], Some(&one)).is_err());
}

#[test]
fn a_signature_that_does_not_hold_is_as_none() {
    let scene = Scene::new();
    let keys: Vec<_> = scene.authorities.iter().collect();
    let record = fixtures::sign_charter(next(&scene, |_| {}), Some(scene.network.id()), &keys);
    let mut bytes = record.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    // Two of three still hold.
    verify(Decoded::from_bytes(&bytes).unwrap(), &scene.network).unwrap();
    let record = fixtures::sign_charter(next(&scene, |_| {}), Some(scene.network.id()), &keys[..2]);
    let mut bytes = record.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let refused = verify(Decoded::from_bytes(&bytes).unwrap(), &scene.network);
    assert!(matches!(refused, Err(VerifyError::Charter(CharterError::Threshold { valid: 1, .. }))));
}

#[test]
fn rollback_fork_gap_and_other_networks_are_told_apart() {
    let scene = Scene::new();
    let keys: Vec<_> = scene.authorities.iter().take(2).collect();
    let gap = next(&scene, |c| c.version = 3);
    assert_eq!(refusal(&scene, gap, &keys), CharterError::Gap { offered: 3, current: 1 });
    let fork = next(&scene, |c| c.previous = Some(crate::RecordId::new([1; 32])));
    assert_eq!(refusal(&scene, fork, &keys), CharterError::Fork { version: 2 });

    let second = fixtures::sign_charter(next(&scene, |_| {}), Some(scene.network.id()), &keys);
    let Body::Charter(charter) = second.body() else { panic!("no charter") };
    let network =
        crate::network::Network::new(second.statement(), second.header(), charter, Some(&scene.network))
            .unwrap();
    assert_eq!((network.id(), network.charter().version), (scene.network.id(), 2));
    let rollback = CharterError::Rollback { offered: 1, current: 2 };
    assert_eq!(verify(scene.charter.clone(), &network).unwrap_err(), VerifyError::Charter(rollback));
    let other =
        fixtures::sign_charter(next(&scene, |c| c.name = "Other".into()), Some(scene.network.id()), &keys);
    let fork = CharterError::Fork { version: 2 };
    assert_eq!(verify(other, &network).unwrap_err(), VerifyError::Charter(fork));
    verify(second, &network).unwrap();

    let foreign = fixtures::sign_charter(next(&scene, |_| {}), Some(NetworkId::new([9; 32])), &keys);
    assert_eq!(verify(foreign, &scene.network).unwrap_err(), VerifyError::OtherNetwork);
    let stranger = fixtures::sign_charter(Charter { name: "Other".into(), ..first(&scene) }, None, &keys);
    let refused = verify(stranger, &scene.network).unwrap_err();
    assert_eq!(refused, VerifyError::Charter(CharterError::OtherNetwork { version: 1 }));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let scene = Scene::new();
    let changes: [fn(&mut Charter); 17] = [
        |c| c.previous = None,
        |c| c.authorities.threshold = 0,
        |c| c.authorities.threshold = 4,
        |c| c.authorities.keys.clear(),
        |c| c.authorities.keys.reverse(),
        |c| c.authorities.keys[0] = vec![1; 31].into(),
        |c| c.authorities.keys = (0..33u8).map(|n| vec![n; 32].into()).collect(),
        |c| c.trusts.reverse(),
        |c| c.trusts[1] = c.trusts[0].clone(),
        |c| c.trusts[0].root = c.trusts[1].root.clone(),
        |c| c.trusts[0].root.truncate(100),
        |c| c.countries.reverse(),
        |c| c.countries = vec!["US".parse().unwrap()],
        |c| c.policy = Policy::of(0),
        |c| c.policy = Policy::of(RETENTION_SECS_MAX + 1),
        |c| c.policy.retention_by_class.clinical = Some(0),
        |c| c.policy.retention_by_class.social = Some(c.policy.retention_secs_max + 1),
    ];
    let keys: Vec<_> = scene.authorities.iter().take(2).collect();
    for (i, change) in changes.into_iter().enumerate() {
        let error = refusal(&scene, next(&scene, change), &keys);
        assert!(matches!(error, CharterError::Invalid { version: 2, .. }), "{i}: {error}");
    }
    let registrar = next(&scene, |c| c.trusts[0].root = scene.a.registrar.der().to_vec());
    assert!(matches!(refusal(&scene, registrar, &keys), CharterError::Invalid { .. }));
    next(&scene, |c| c.trusts.clear()).check().unwrap();
}

#[test]
fn a_class_may_have_a_shorter_life() {
    let scene = Scene::new();
    let mut policy = Policy::of(30);
    let plain = cbor::to_vec(&policy);
    assert_eq!(plain, [0xa1, 0, 0x18, 30], "without classes, a policy is written as before them");
    assert!(cbor::from_slice::<Policy>(&[0xa2, 0, 0x18, 30, 1, 0xa0], 64).is_err(), "one form for one thing");
    *policy.retention_by_class.of_mut(Class::Social) = Some(7);
    assert_eq!(cbor::from_slice::<Policy>(&cbor::to_vec(&policy), 64), Ok(policy.clone()));
    assert_eq!(Class::ALL.map(|class| policy.retention_secs(class)), [30, 30, 7]);
    next(&scene, |c| c.policy = policy.clone()).check().unwrap();

    // The shortest of the charter's, the owner trust's and the conversation's own.
    let none = TrustRetention::default();
    let by_class = ByClass { operational: Some(20), ..ByClass::default() };
    let trust = TrustRetention { secs_max: Some(25), by_class };
    let secs = |trust: &TrustRetention, setting| {
        Class::ALL.map(|class| policy.effective_secs(trust, class, setting))
    };
    assert_eq!(secs(&none, None), [30, 30, 7]);
    assert_eq!(secs(&trust, None), [25, 20, 7]);
    assert_eq!(secs(&trust, Some(22)), [22, 20, 7]);
    assert_eq!(secs(&trust, Some(3)), [3, 3, 3]);
    assert_eq!(secs(&none, Some(900)), [30, 30, 7]);
}

#[test]
fn the_first_charter_is_signed_under_its_own_rules() {
    let scene = Scene::new();
    let keys = &scene.authorities;
    let lone = fixtures::sign_charter(first(&scene), None, &[&keys[0]]);
    assert!(matches!(
        open_trusted(&lone),
        Err(VerifyError::Charter(CharterError::Threshold { valid: 1, .. }))
    ));
    let envelope = scene.by_node(scene.envelope());
    assert!(matches!(open_trusted(&envelope), Err(VerifyError::Right { .. })));
    let all: Vec<_> = keys.iter().collect();
    let more = open_trusted(&fixtures::sign_charter(first(&scene), None, &all)).unwrap();
    assert_eq!(more.id(), scene.network.id(), "one signature more is the same network");
}

#[test]
fn members_are_found_by_their_code() {
    let (scene, stranger) = (Scene::new(), Trust::new("RXZ", 51));
    let charter = first(&scene);
    for (code, there) in [("RXA", true), ("RXB", true), ("RXC", false)] {
        assert_eq!(charter.member(&code.parse().unwrap()).is_some(), there);
    }
    assert!(scene.network.root(&stranger.root.subject().trust).is_none());
}
