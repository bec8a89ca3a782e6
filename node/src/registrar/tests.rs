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
    let third = registrar.refresh(Some(&second), network.id(), NOW).unwrap().unwrap();
    let third = list(&third);
    assert!(third.number() == 3 && third.is_revoked(ben.serial()));
}

#[test]
fn a_list_is_renewed_at_half_of_its_life() {
    let trust = Trust::new("RYJ");
    let registrar = trust.registrar();
    let id = trust.network().id();
    assert!(registrar.refresh(None, id, NOW).unwrap().is_some(), "the first list");
    let held = registrar.state().list.clone();
    assert!(registrar.refresh(held.as_ref(), id, NOW).unwrap().is_none());
    assert!(registrar.refresh(None, id, NOW).unwrap().is_some(), "the network lacks it");
    let later = NOW.plus_secs(issue::REVOCATION_LIST_SECS / 2);
    registrar.refresh(held.as_ref(), id, later).unwrap().unwrap();
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
    registrar.refresh(None, id, NOW).unwrap().unwrap();
    registrar.wipes.order(&ada, &Order::because(Reason::Lost), NOW).unwrap();
    // As after a crash: the list does not know it, and half of its life has not passed.
    let restarted = trust.registrar();
    let held = restarted.state().list.clone();
    assert!(!held.as_ref().unwrap().is_revoked(ada.serial()));
    restarted.refresh(held.as_ref(), id, NOW).unwrap().unwrap();
    let listed = restarted.state().list.clone().unwrap();
    assert!(listed.number() == 2 && listed.is_revoked(ada.serial()));
    assert!(restarted.refresh(Some(&listed), id, NOW).unwrap().is_none(), "once is enough");
}
