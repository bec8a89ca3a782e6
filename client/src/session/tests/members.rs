//! Who is in a conversation, and who decides it.

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;

use super::*;

#[test]
fn removed_and_added_again() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let gone = cem.session.device().fingerprint;
    let removal = ada.session.remove(&id, &[gone], EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(&mut ada, &removal).unwrap();
    ada.receive(&commit);
    assert_eq!(ben.changed(&commit).removed.len(), 1);
    let written = ada.text(&id, "without Cem");
    let written = world.publish(&mut ada, &written);
    // It arrives at Cem before the commit, and could not be read after it either.
    assert_eq!(cem.receive(&written), [Received::Held(written.id)]);
    assert_eq!(cem.receive(&commit), [Received::Removed(id.clone())]);
    assert!(matches!(cem.session.members(&id), Err(SessionError::NotIn(_))));
    assert!(matches!(
        cem.session.send(&id, &Content::Text("?".into()), EXPIRES, NOW),
        Err(SessionError::NotIn(_))
    ));

    let package = cem.session.key_package(NOW).unwrap();
    let addition = ada.session.add(&id, &[package], EXPIRES, NOW).unwrap();
    let (commit, welcome) = world.order(&mut ada, &addition).unwrap();
    let welcome = welcome.unwrap();
    ada.receive(&commit);
    ben.receive(&commit);
    // What was held of the time without Cem is dropped, and not told as unreadable.
    assert_eq!(cem.receive(&welcome), [Received::Joined(id.clone())]);
    assert_eq!(cem.receive(&welcome), [Received::Nothing]);
    // Cem's device knows since when it is there itself, and of nobody else who was there before.
    let since = |of: &Device, device: &lanyard_crypto::Fingerprint| {
        let spans = of.session.vault().spans(&id, device).unwrap();
        assert!(!spans.is_empty());
        spans.iter().map(|span| span.since).collect::<Vec<_>>()
    };
    for other in [&ada, &ben] {
        assert!(since(&cem, &other.session.device().fingerprint).iter().all(Option::is_none));
    }
    assert!(since(&cem, &gone).iter().all(Option::is_some) && since(&ada, &gone).iter().all(Option::is_some));
    for n in 0..3 {
        let renewal = cem.session.carry_out(&id, EXPIRES, NOW).unwrap();
        let (commit, _) = world.order(&mut cem, &renewal).unwrap();
        for device in [&mut ada, &mut ben, &mut cem] {
            assert_eq!(device.changed(&commit).epoch, 4 + n);
        }
    }
    let hello = cem.text(&id, "back again");
    let hello = world.publish(&mut cem, &hello);
    assert_eq!(ada.read(&hello).text, "back again");
    // A welcome of an earlier time in the conversation leads nowhere.
    let removal = ada.session.remove(&id, &[gone], EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(&mut ada, &removal).unwrap();
    assert_eq!(cem.receive(&commit), [Received::Removed(id.clone())]);
    assert_eq!(cem.receive(&welcome), [Received::Nothing]);
}

/// The commit by which Ada removes a device, and which she has taken.
fn removed(world: &mut World, ada: &mut Device, id: &ConversationId, gone: &Device) -> Incoming {
    let removal = ada.session.remove(id, &[gone.session.device().fingerprint], EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(ada, &removal).unwrap();
    ada.receive(&commit);
    commit
}

/// The commit by which she adds one.
fn added(world: &mut World, ada: &mut Device, id: &ConversationId, new: &mut Device) -> Incoming {
    let package = new.session.key_package(NOW).unwrap();
    let addition = ada.session.add(id, &[package], EXPIRES, NOW).unwrap();
    world.order(ada, &addition).unwrap().0
}

#[test]
fn what_who_has_left_wrote_before_is_read_afterwards_and_nobody_elses() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let gone = cem.session.device().fingerprint;
    let leaf = |of: &Device, device: &lanyard_crypto::Fingerprint| {
        let members = of.session.members(&id).unwrap();
        members.iter().find(|m| m.device.fingerprint == *device).map(|m| m.index)
    };
    let of_cem = leaf(&ben, &gone);
    let [first, second] = ["before I left", "and this"].map(|text| {
        let written = cem.text(&id, text);
        world.publish(&mut cem, &written)
    });
    let commit = removed(&mut world, &mut ada, &id, &cem);
    ben.changed(&commit);
    let read = ben.read(&first);
    assert_eq!((read.text.as_str(), read.name.as_str(), read.sender), ("before I left", "Cem", gone));

    // Somebody else takes the leaf.
    let mut dora = world.device(1, "Dora", "dora.db");
    let commit = added(&mut world, &mut ada, &id, &mut dora);
    ben.changed(&commit);
    assert_eq!(leaf(&ben, &dora.session.device().fingerprint), of_cem);
    ben.restart();
    let read = ben.read(&second);
    assert_eq!((read.text.as_str(), read.name.as_str(), read.sender), ("and this", "Cem", gone));
}

#[test]
fn a_leafs_new_holder_is_not_taken_for_the_one_before() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let written = cem.text(&id, "mine");
    let written = world.publish(&mut cem, &written);
    ben.changed(&removed(&mut world, &mut ada, &id, &cem));
    let mut dora = world.device(1, "Dora", "dora.db");
    ben.changed(&added(&mut world, &mut ada, &id, &mut dora));
    // The state before is kept for some days.
    ben.session.vault_mut().expire(NOW.plus_secs(8 * 24 * 3600)).unwrap();
    let received = ben.receive(&written);
    assert!(matches!(&received[..], [Received::Unreadable { .. }]), "{received:?}");
}

#[test]
fn who_has_left_writes_nothing_afterwards_and_nothing_is_read_twice() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let [before, after] = ["before", "after"].map(|text| {
        let written = cem.text(&id, text);
        world.publish(&mut cem, &written)
    });
    let removal = removed(&mut world, &mut ada, &id, &cem);
    ben.changed(&removal);
    // Cem has not taken the removal, and its node takes what it writes.
    let after = Incoming { issued: removal.issued.plus_secs(CLOCK_SKEW_SECS_MAX + 1), ..after };
    let received = ben.receive(&after);
    assert!(matches!(&received[..], [Received::Unreadable { .. }]), "{received:?}");

    // Once it was read, the key is gone, in the group as it was and in the present one.
    assert_eq!(ben.read(&before).text, "before");
    ben.session.vault().lock().execute("DELETE FROM message", []).unwrap();
    let again = Incoming { id: lanyard_crypto::RecordId::new([99; 32]), ..before };
    let received = ben.receive(&again);
    assert!(matches!(&received[..], [Received::Unreadable { .. }]), "{received:?}");
    ben.session.vault().lock().execute("DELETE FROM former_group", []).unwrap();
    ben.changed(&added(&mut world, &mut ada, &id, &mut cem));
    let received = ben.receive(&again);
    assert!(matches!(&received[..], [Received::Unreadable { .. }]), "{received:?}");
}

#[test]
fn a_change_that_came_second_is_void() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let first = ben.session.carry_out(&id, EXPIRES, NOW).unwrap();
    let second = ada.session.remove(&id, &[cem.session.device().fingerprint], EXPIRES, NOW).unwrap();
    let again = ada.session.carry_out(&id, EXPIRES, NOW);
    assert!(matches!(again, Err(SessionError::ChangePending(_))));
    let (commit, _) = world.order(&mut ben, &first).unwrap();
    assert!(world.order(&mut ada, &second).unwrap_err().contains("epoch"));
    // Messages go on in the meantime, in the epoch that everyone is in.
    let text = ada.text(&id, "still here");
    let text = world.publish(&mut ada, &text);
    assert_eq!(cem.read(&text).text, "still here");
    ada.restart();
    let changed = ada.changed(&commit);
    assert!(changed.lost && !changed.own);
    assert!(!ada.session.is_change_pending(&id).unwrap());
    assert!(ada.session.vault().outbox().unwrap().is_empty());
    ben.changed(&commit);
    // Made again in the new epoch, it is accepted; a message of the old epoch can still be read.
    let late = cem.text(&id, "late");
    let third = ada.session.remove(&id, &[cem.session.device().fingerprint], EXPIRES, NOW).unwrap();
    let late = world.publish(&mut cem, &late);
    assert_eq!(ada.read(&late).text, "late");
    let (commit, _) = world.order(&mut ada, &third).unwrap();
    assert!(ada.changed(&commit).own);
    // Of two commits, the later arrives first.
    cem.receive(&commit);
    assert_eq!(ben.changed(&commit).epoch, 3);
}

#[test]
fn who_does_not_administer_changes_nobody() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let dora = world.device(1, "Dora", "dora.db").session.key_package(NOW).unwrap();
    assert!(matches!(ben.session.add(&id, &[dora], EXPIRES, NOW), Err(SessionError::Mls(_))));
    let of_cem = cem.session.device().fingerprint;
    assert!(ben.session.remove(&id, &[of_cem], EXPIRES, NOW).is_err());
    assert!(!ben.session.is_change_pending(&id).unwrap());
    let (ada_person, ben_person) = (ada.session.device().person, ben.session.device().person);
    assert!(ben.session.set_admins(&id, &[ben_person], EXPIRES, NOW).is_err());

    let both = ada.session.set_admins(&id, &[ada_person, ben_person], EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(&mut ada, &both).unwrap();
    for device in [&mut ada, &mut ben, &mut cem] {
        device.changed(&commit);
    }
    assert!(ben.session.policy(&id).unwrap().is_admin(&ben_person));
    let removal = ben.session.remove(&id, &[of_cem], EXPIRES, NOW).unwrap();
    world.order(&mut ben, &removal).unwrap();

    // A change that the node refuses for good is given up.
    let refused = ada.session.carry_out(&id, EXPIRES, NOW).unwrap();
    assert!(world.order(&mut ada, &refused).is_err());
    ada.session.refused(&refused).unwrap();
    assert!(!ada.session.is_change_pending(&id).unwrap());
}

#[test]
fn foreign_and_revoked_devices() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let mut stranger = world.device_of(&world.foreign, "Stranger", "stranger.db");
    let package = stranger.session.key_package(NOW).unwrap();
    let refused = ada.session.add(&id, std::slice::from_ref(&package), EXPIRES, NOW);
    assert!(matches!(refused, Err(SessionError::Credential(_))));
    // Whoever founds a conversation with a certificate from elsewhere is joined by nobody.
    let mut founding = founding(vec![ben.session.key_package(NOW).unwrap()]);
    founding.owner = "X99".parse().unwrap();
    let outside = Arc::new(RwLock::new({
        let network = world.network.read().unwrap();
        let mut charter = network.charter().clone();
        let mut member = charter.trusts[0].clone();
        member.trust = world.foreign.id.clone();
        member.root = world.foreign.root.der().to_vec();
        charter.trusts.push(member);
        charter.trusts.sort_by(|a, b| a.trust.cmp(&b.trust));
        let header =
            Header { network: None, custodians: Vec::new(), issued: NOW, expires: NOW.plus_secs(LIFE_SECS) };
        Network::new(RecordId::new([2; 32]), &header, &charter, None).unwrap()
    }));
    stranger.network = outside;
    stranger.restart();
    let (_, outgoing) = stranger.session.found(&founding, EXPIRES, NOW).unwrap();
    let submission: Submission = cbor::from_slice(&outgoing.request.content, 1 << 20).unwrap();
    let conversation = outgoing.request.conversation.clone();
    let info = submission.group_info.unwrap();
    assert!(PublicGroup::observe(world.network.clone(), &conversation, &info, NOW).is_err());
    let content = submission.welcome.unwrap().into_vec();
    let welcome = world.record(
        Envelope { conversation: conversation.clone(), epoch: 1, class: Class::Welcome, content },
        EXPIRES,
    );
    assert!(matches!(ben.receive(&welcome)[..], [Received::Withheld { .. }]));
    assert!(ben.session.vault().conversation(&conversation).unwrap().is_none());

    // A message of a device that its trust has revoked is not shown.
    let text = ada.text(&id, "from a lost device");
    let text = world.publish(&mut ada, &text);
    let trust = &world.trusts[2];
    let issuer = issue::Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
    let serial = Certificate::parse(&ada.chain[0]).unwrap().serial().to_vec();
    let list = revoke(&issuer, serial);
    world.network.write().unwrap().revoke(trust.registrar.fingerprint(), list);
    assert!(matches!(ben.receive(&text)[..], [Received::Withheld { .. }]));
    assert!(ben.session.vault().messages(&id, 10, NOW).unwrap().is_empty());
    let change = ada.session.carry_out(&id, EXPIRES, NOW).unwrap();
    assert!(world.order(&mut ada, &change).unwrap_err().contains("revoked"));
}

#[test]
fn the_chain_is_for_the_device_s_key() {
    let world = World::new();
    let device = world.device(0, "Ada", "ada.db");
    let vault = Vault::open(&world.dir.path().join("other.db"), &VaultKey::new([3; 32])).unwrap();
    let other = SecretKey::generate().unwrap();
    let opened = Session::open(vault, world.network.clone(), &other, &device.chain);
    assert!(matches!(opened, Err(SessionError::KeyMismatch)));
}

#[test]
fn several_devices_of_one_person() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let mut second = world.device(2, "Ada", "ada2.db");
    assert_eq!(second.session.device().person, ada.session.device().person);
    let package = second.session.key_package(NOW).unwrap();
    let addition = ada.session.add(&id, &[package], EXPIRES, NOW).unwrap();
    let (commit, welcome) = world.order(&mut ada, &addition).unwrap();
    ada.receive(&commit);
    ben.receive(&commit);
    second.receive(&welcome.unwrap());
    assert_eq!(second.session.members(&id).unwrap().iter().filter(|m| m.admin).count(), 2);
    let first_device = ada.session.device().fingerprint;
    let removal = second.session.remove(&id, &[first_device], EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(&mut second, &removal).unwrap();
    assert_eq!(ada.receive(&commit), [Received::Removed(id)]);
    assert_eq!(ben.changed(&commit).by.name, "Ada");
}
