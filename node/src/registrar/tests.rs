use lanyard_crypto::x509::{CrlReason, Revocation};

use super::*;
use crate::testing::{NOW, Trust};

fn enrolled(trust: &Trust, registrar: &Registrar, name: &str) -> Certificate {
    let invitee = trust.invitee(name);
    let made = registrar.invitations.make(invitee, 3600, NOW).unwrap();
    let request = CertificateRequest::create(&SecretKey::generate().unwrap(), None).unwrap();
    let first = registrar.enrol(&made.id, &made.code, request.der(), None, NOW).unwrap();
    let again = registrar.enrol(&made.id, &made.code, request.der(), None, NOW).unwrap();
    assert_eq!(first, again, "an answer that was lost can be had again");
    first
}

#[test]
fn a_device_gets_the_name_of_its_invitation_and_the_key_of_its_request() {
    let trust = Trust::new("RYJ");
    let registrar = trust.registrar();
    let device = enrolled(&trust, &registrar, "Dr Ada Okafor");
    assert_eq!(device.subject().common_name, "Dr Ada Okafor");
    assert_eq!(device.purpose(), Purpose::Device);
    let chain = [device.der(), registrar.certificate().der()];
    trust.network().verify_chain(&chain, Purpose::Device, NOW).unwrap();
}

#[test]
fn lists_grow_across_restarts_and_take_in_what_the_network_holds() {
    let trust = Trust::new("RYJ");
    let registrar = trust.registrar();
    let (ada, ben) = (enrolled(&trust, &registrar, "Ada"), enrolled(&trust, &registrar, "Ben"));
    let network = trust.network();
    let list = |record: &Decoded| match record.body() {
        Body::Crl(crl) => network.check_crl(crl).unwrap().1,
        other => panic!("a list was expected, not {}", other.kind().name()),
    };
    let first = list(
        &registrar
            .revoke(std::slice::from_ref(&ada), (&Order::because(Reason::Lost), NOW), None, network.id(), NOW)
            .unwrap(),
    );
    assert!(first.number() == 1 && first.is_revoked(ada.serial()) && !first.is_revoked(ben.serial()));

    let restarted = trust.registrar();
    assert_eq!(restarted.devices().iter().map(|d| d.revoked.is_some()).collect::<Vec<_>>(), [true, false]);
    let second = restarted
        .revoke(
            std::slice::from_ref(&ben),
            (&Order::because(Reason::Left), NOW),
            Some(&first),
            network.id(),
            NOW,
        )
        .unwrap();
    let second = list(&second);
    assert!(second.number() == 2 && second.is_revoked(ada.serial()) && second.is_revoked(ben.serial()));

    // By a clock that is behind, it is still revoked, and dated no earlier than before.
    let behind = NOW.minus_secs(5 * 3600);
    let record = restarted
        .revoke(&[], (&Order::because(Reason::Left), behind), Some(&second), network.id(), behind)
        .unwrap();
    assert_eq!((list(&record).this_update(), record.header().issued), (NOW, behind));

    // The first registrar's memory is behind, as if it had been restored from a backup.
    let third = registrar.refresh((&[], NOW), Some(&second), network.id(), NOW).unwrap().unwrap();
    let third = list(&third);
    assert!(third.number() == 3 && third.is_revoked(ben.serial()));
}

#[test]
fn a_list_is_renewed_at_half_of_its_life() {
    let trust = Trust::new("RYJ");
    let registrar = trust.registrar();
    let id = trust.network().id();
    assert!(registrar.refresh((&[], NOW), None, id, NOW).unwrap().is_some(), "the first list");
    let held = registrar.state().list.clone();
    assert!(registrar.refresh((&[], NOW), held.as_ref(), id, NOW).unwrap().is_none());
    assert!(registrar.refresh((&[], NOW), None, id, NOW).unwrap().is_some(), "the network lacks it");
    let later = NOW.plus_secs(issue::REVOCATION_LIST_SECS / 2);
    registrar.refresh((&[], later), held.as_ref(), id, later).unwrap().unwrap();
    assert_eq!(registrar.state().list.as_ref().map(RevocationList::number), Some(2));
}

#[test]
fn another_registrars_certificate_is_not_revoked() {
    let (trust, other) = (Trust::new("RYJ"), Trust::new("RXX"));
    let stranger = enrolled(&other, &other.registrar(), "Eve");
    let revoked = trust.registrar().revoke(
        &[stranger],
        (&Order::because(Reason::Lost), NOW),
        None,
        trust.network().id(),
        NOW,
    );
    assert!(matches!(revoked, Err(RegistrarError::OtherRegistrar(_))));
}

#[test]
fn an_order_that_broke_off_before_its_list_is_in_the_next_one() {
    let trust = Trust::new("RYJ");
    let registrar = trust.registrar();
    let ada = enrolled(&trust, &registrar, "Ada");
    let id = trust.network().id();
    registrar.refresh((&[], NOW), None, id, NOW).unwrap().unwrap();
    registrar.wipes.order(&ada, &Order::because(Reason::Lost), NOW).unwrap();
    // As after a crash: the list does not know it, and half of its life has not passed.
    let restarted = trust.registrar();
    let held = restarted.state().list.clone();
    assert!(!held.as_ref().unwrap().is_revoked(ada.serial()));
    let pending = restarted.pending(NOW);
    assert_eq!(pending, std::slice::from_ref(&ada));
    restarted.refresh((&pending, NOW), held.as_ref(), id, NOW).unwrap().unwrap();
    let listed = restarted.state().list.clone().unwrap();
    assert!(listed.number() == 2 && listed.is_revoked(ada.serial()));
    assert!(restarted.pending(NOW).is_empty());
    assert!(restarted.refresh((&[], NOW), Some(&listed), id, NOW).unwrap().is_none(), "once is enough");
}

/// An entry whose certificate this registrar's files do not know, as after a restored backup.
fn unknown(n: u16) -> Revocation {
    let serial = [&[1; 14][..], &n.to_be_bytes()].concat();
    Revocation { serial, at: NOW, reason: Some(CrlReason::Superseded) }
}

#[test]
fn a_full_list_drops_devices_that_have_ended_and_first_those_that_confirmed() {
    let trust = Trust::new("RYJ");
    let (registrar, id) = (trust.registrar(), trust.network().id());
    let [wiped, silent] = ["Ada", "Ben"].map(|name| enrolled(&trust, &registrar, name));
    let order = Order::because(Reason::Lost);
    registrar.revoke(&[wiped.clone(), silent.clone()], (&order, NOW), None, id, NOW).unwrap();
    // As if its device had signed.
    let file = trust.data_dir().join("wipes").join(format!("{}.json", wiped.fingerprint()));
    let mut kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["confirmed"] = serde_json::json!({ "wiped": NOW, "told": NOW, "receipt": "" });
    std::fs::write(&file, kept.to_string()).unwrap();
    let registrar = trust.registrar();
    let later = wiped.not_after().plus_secs(issue::REVOCATION_LIST_SECS + 1);
    let listed = |of: &Registrar, c: &Certificate| of.state().list.as_ref().unwrap().is_revoked(c.serial());

    let fill = |to: u16, now| registrar.next_list((0..to).map(unknown).collect(), None, id, now).map(drop);
    fill(998, later).unwrap();
    assert!(listed(&registrar, &wiped) && listed(&registrar, &silent), "there is room");
    fill(1_000, later).unwrap();
    assert!(!listed(&registrar, &wiped) && listed(&registrar, &silent), "it still has to hear of it");
    fill(1_150, later).unwrap();
    assert!(!listed(&registrar, &silent), "a full list revokes nobody any more");
    for device in [&wiped, &silent] {
        assert_eq!(registrar.device(&device.fingerprint()).unwrap().revoked, Some(NOW), "it was revoked");
    }
    assert!(registrar.pending(later).is_empty(), "nor is it ordered again");
    assert_eq!(registrar.state().list.as_ref().unwrap().revocations().count(), 1_150, "nothing else goes");
}

#[test]
fn what_does_not_fit_into_a_list_does_not_keep_the_rest_from_being_renewed() {
    let trust = Trust::new("RYJ");
    let (registrar, id) = (trust.registrar(), trust.network().id());
    let ada = enrolled(&trust, &registrar, "Ada");
    registrar.next_list((0..1_100).map(unknown).collect(), None, id, NOW).unwrap();
    let full = (1_100..2_000).find(|n| registrar.next_list(vec![unknown(*n)], None, id, NOW).is_err());
    assert!(full.is_some());
    let number = || registrar.state().list.as_ref().unwrap().number();
    let (before, pending) = (number(), [ada.clone()]);
    registrar.wipes.order(&ada, &Order::because(Reason::Lost), NOW).unwrap();
    assert!(registrar.refresh((&pending, NOW), None, id, NOW).is_err(), "it is said");
    let half = NOW.plus_secs(issue::REVOCATION_LIST_SECS / 2);
    assert!(registrar.refresh((&pending, half), None, id, half).unwrap().is_some());
    assert_eq!(number(), before + 1);
    assert_eq!(registrar.pending(half), pending, "and it stays to be done");
}

#[test]
fn a_receipt_that_is_not_the_devices_leaves_no_trace() {
    let trust = Trust::new("RYJ");
    let (registrar, id) = (trust.registrar(), trust.network().id());
    let ada = enrolled(&trust, &registrar, "Ada");
    // Revoked by a version without wipes.
    let entry = Revocation { serial: ada.serial().to_vec(), at: NOW, reason: None };
    registrar.next_list(vec![entry], None, id, NOW).unwrap();
    let forged = WipeReceipt::sign(1, NOW, ada.fingerprint(), &SecretKey::generate().unwrap());
    let refused = registrar.confirm(&forged, NOW);
    assert!(matches!(refused, Err(RegistrarError::Wipe(WipeError::NotSigned))));
    assert!(registrar.wipes.all().is_empty());
}
