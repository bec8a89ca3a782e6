//! What certificates, lists, requests and their PEM texts say after they were made, and which are refused alone.

use const_oid::ObjectIdentifier;
use der::asn1::{BitString, OctetString};
use der::{Decode, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, KeyUsages};

use super::*;
use crate::x509::issue::IssueError;
use crate::x509::request::{CertificateRequest, RequestError};
use crate::x509::*;

#[test]
fn a_certificate_says_what_was_put_into_it() {
    let trust = Trust::new("RYJ", 10);
    let device = &trust.device;
    assert_eq!(device.subject(), &person("RYJ"));
    assert_eq!(
        device.subject().to_string(),
        "Aoife Ní Bhriain, Consultant cardiologist, Riverside NHS Trust (RYJ)"
    );
    assert_eq!(device.purpose(), Purpose::Device);
    assert_eq!(device.public_key(), &key(13).public());
    assert_eq!(device.not_before(), NOW.minus_secs(300));
    assert_eq!(device.not_after(), NOW.plus_secs(issue::DEVICE_SECS));
    assert_eq!(device.serial(), [&[0x44][..], &[4; 15]].concat());
    assert_eq!((device.hosting_country(), device.peer_id()), (None, None));
    assert!(device.spki().ends_with(device.public_key()));

    let node = &trust.node;
    assert_eq!(node.hosting_country(), Some(Country::GB));
    assert_eq!(node.node_id(), Some(NodeId::new(key(12).public())));
    assert_eq!(node.peer_id().unwrap()[..6], [0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    for host in ["node1.riverside.example", "NODE1.riverside.example.", "127.0.0.1", "::1", "[::1]"] {
        assert!(node.names_host(host), "{host}");
    }
    for host in ["riverside.example", "x.node1.riverside.example", "127.0.0.2", "", "*.riverside.example"] {
        assert!(!node.names_host(host), "{host}");
    }
}

#[test]
fn a_certificate_survives_parsing_and_pem() {
    let trust = Trust::new("RYJ", 10);
    let chain = [trust.device.clone(), trust.registrar.clone(), trust.root.clone()];
    for certificate in &chain {
        assert_eq!(&Certificate::parse(certificate.der()).unwrap(), certificate);
    }
    let text = format!("made by a test\n{}", chain_to_pem(&chain));
    assert_eq!(chain_from_pem(&text).unwrap(), chain);
    assert_eq!(Certificate::from_pem(&text), Err(PemError::TooMany("CERTIFICATE", 1)));
    assert_eq!(RevocationList::from_pem(&text), Err(PemError::None("X509 CRL")));
    let crl = trust.revoke(&[&trust.device]);
    assert_eq!(RevocationList::from_pem(&crl.to_pem()).unwrap(), crl);
}

#[test]
fn bytes_around_and_beyond_a_certificate_are_refused() {
    let trust = Trust::new("RYJ", 10);
    let der = trust.device.der();
    assert_eq!(Certificate::parse(&[der, &[0]].concat()), Err(CertificateError::Der));
    assert_eq!(Certificate::parse(&der[..der.len() - 1]), Err(CertificateError::Der));
    assert_eq!(Certificate::parse(&[]), Err(CertificateError::Der));
    let long = vec![0x30; CERTIFICATE_BYTES_MAX + 1];
    assert_eq!(Certificate::parse(&long), Err(CertificateError::TooLong(long.len())));
    assert_eq!(
        RevocationList::parse(&vec![0x30; CRL_BYTES_MAX + 1]),
        Err(CrlError::TooLong(CRL_BYTES_MAX + 1))
    );
}

#[test]
fn extensions_outside_the_profile_are_refused() {
    let trust = Trust::new("RYJ", 10);
    let unknown = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.9.9");
    let extension =
        |critical| Extension { extn_id: unknown, critical, extn_value: OctetString::new([5, 0]).unwrap() };
    let forged = |change: &dyn Fn(&mut Profile)| {
        let mut profile = trust.forge(&person("RYJ"), &key(90));
        change(&mut profile);
        profile.sign(&key(90).public(), &trust.registrar_key, &term(9, 1000)).map(|c| c.purpose())
    };
    let refused = |error| Err(IssueError::Certificate(error));
    let device = |profile: &mut Profile| profile.leaf(&[oids::PURPOSE_DEVICE]).unwrap();

    assert_eq!(forged(&device), Ok(Purpose::Device));
    assert_eq!(forged(&|p| (device(p), p.push(extension(false)).unwrap()).1), Ok(Purpose::Device));
    let critical = forged(&|p| (device(p), p.push(extension(true)).unwrap()).1);
    assert_eq!(critical, refused(CertificateError::UnknownCritical(unknown)));
    let twice = forged(&|p| {
        device(p);
        p.extensions.extend([extension(false), extension(false)]);
    });
    assert_eq!(twice, refused(CertificateError::RepeatedExtension(unknown)));
    assert_eq!(forged(&|p| p.leaf(&[oids::CLIENT_AUTH]).unwrap()), refused(CertificateError::Purpose));
    let both = forged(&|p| p.leaf(&[oids::PURPOSE_NODE, oids::PURPOSE_DEVICE]).unwrap());
    assert_eq!(both, refused(CertificateError::Purpose));
    let signs = forged(&|p| {
        p.push(&KeyUsage(KeyUsages::KeyCertSign.into())).unwrap();
        p.push(&BasicConstraints { ca: false, path_len_constraint: None }).unwrap();
    });
    assert_eq!(signs, refused(CertificateError::NotAnAuthority));
    let peer_id = OctetString::new([7; 38]).unwrap();
    let peer = forged(&|p| (device(p), p.push((oids::PEER_ID, false, &peer_id)).unwrap()).1);
    assert_eq!(peer, refused(CertificateError::PeerId));
}

#[test]
fn subjects_that_deceive_or_do_not_fit_are_refused() {
    let trust = Trust::new("RYJ", 10);
    let make =
        |subject: &Subject| trust.issuer().device(subject, &key(91).public(), &term(9, 1000)).map(|_| ());
    let named = |name: &str| make(&subject("RYJ", name));
    assert_eq!(named("Zoë Ångström-O'Neill"), Ok(()));
    for name in ["", " Ann", "Ann ", "A\u{202e}nn", "A\nnn", "A\u{200b}nn", &"x".repeat(65)] {
        assert_eq!(named(name), Err(SubjectError::Text("CN").into()), "{name:?}");
    }
    let registration = Some("GMC £1".into());
    assert_eq!(make(&Subject { registration, ..person("RYJ") }), Err(SubjectError::Registration.into()));
    let other = IssueError::OtherTrust { asked: "RXX".into(), own: "RYJ".into() };
    assert_eq!(make(&person("RXX")), Err(other));
}

#[test]
fn an_issuer_makes_only_what_it_may() {
    let trust = Trust::new("RYJ", 10);
    let by_root = Issuer::new(&trust.root, &trust.root_key).unwrap();
    let may_not = |issuer, purpose| IssueError::MayNot { issuer, purpose };
    let public = key(91).public();
    let short = term(9, 1000);
    let direct = by_root.device(&person("RYJ"), &public, &short).unwrap_err();
    assert_eq!(direct, may_not(Purpose::Root, Purpose::Device));
    let second = trust.issuer().registrar(&subject("RYJ", "Second"), &public, &short).unwrap_err();
    assert_eq!(second, may_not(Purpose::Registrar, Purpose::Registrar));
    let leaf = Issuer::new(&trust.device, &key(13)).unwrap_err();
    assert_eq!(leaf, may_not(Purpose::Device, Purpose::Registrar));
    assert!(matches!(Issuer::new(&trust.root, &key(99)), Err(IssueError::OtherKey(_))));
    let long = trust.issuer().device(&person("RYJ"), &public, &term(9, issue::ROOT_SECS)).unwrap_err();
    assert_eq!(long, IssueError::OutlivesIssuer);
    let node = |change: &dyn Fn(&mut NodeDetails)| {
        let mut details = details(public);
        change(&mut details);
        trust.issuer().node(&subject("RYJ", "Node 2"), &public, &details, &short).map(|_| ())
    };
    let us: Country = "US".parse().unwrap();
    assert_eq!(node(&|d| d.hosting_country = us), Err(IssueError::HostingCountry(us)));
    assert!(matches!(node(&|d| d.dns_names = vec!["*.example".into()]), Err(IssueError::HostName(_))));
}

#[test]
fn a_list_says_what_was_revoked_and_whose_it_is() {
    let trust = Trust::new("RYJ", 10);
    let at = NOW.minus_secs(60);
    let serial = trust.device.serial().to_vec();
    let entry = Revocation { serial: serial.clone(), at, reason: Some(CrlReason::KeyCompromise) };
    let next = NOW.plus_secs(600);
    let list = trust.issuer().revocation_list(u64::MAX, NOW, next, std::slice::from_ref(&entry)).unwrap();
    assert_eq!((list.number(), list.this_update(), list.next_update()), (u64::MAX, NOW, next));
    assert_eq!(list.revocations().collect::<Vec<_>>(), [&entry]);
    assert!(list.is_revoked(&serial) && !list.is_revoked(trust.node.serial()));
    assert_eq!(list.verify(&trust.registrar), Ok(()));
    assert_eq!(list.verify(&trust.root), Err(CrlError::Issuer));
    assert_eq!(list.verify(&Trust::new("RYJ", 50).registrar), Err(CrlError::Issuer));

    let twice = trust.issuer().revocation_list(3, NOW, next, &[entry.clone(), entry]);
    assert_eq!(twice, Err(IssueError::Crl(CrlError::Entry)));
    let backwards = trust.issuer().revocation_list(3, NOW, NOW.minus_secs(1), &[]);
    assert_eq!(backwards, Err(IssueError::Crl(CrlError::Update)));
    let many: Vec<_> = (0..2000_u16)
        .map(|n| Revocation { serial: [&[1; 14][..], &n.to_be_bytes()].concat(), at, reason: None })
        .collect();
    assert!(trust.issuer().revocation_list(3, NOW, next, &many[..1200]).is_ok());
    assert!(matches!(
        trust.issuer().revocation_list(3, NOW, next, &many),
        Err(IssueError::Crl(CrlError::TooLong(_)))
    ));
}

#[test]
fn a_request_proves_its_key() {
    let wish = person("RYJ");
    let request = CertificateRequest::create(&key(13), Some(&wish)).unwrap();
    let read = CertificateRequest::from_pem(&request.to_pem()).unwrap();
    assert_eq!((read.public_key(), read.subject()), (&key(13).public(), Some(&wish)));
    assert_eq!(CertificateRequest::create(&key(13), None).unwrap().subject(), None);

    let mut other = x509_cert::request::CertReq::from_der(request.der()).unwrap();
    other.info.public_key.subject_public_key = BitString::from_bytes(&key(14).public()).unwrap();
    let stolen = CertificateRequest::parse(&other.to_der().unwrap());
    assert_eq!(stolen, Err(RequestError::Proof(KeyError::Signature)));
}

#[test]
fn a_key_survives_its_file_and_does_not_show_itself() {
    let secret = SecretKey::generate().unwrap();
    let read = SecretKey::from_pkcs8_pem(&secret.to_pkcs8_pem()).unwrap();
    assert_eq!(*read.to_seed(), *secret.to_seed());
    assert_eq!(verify(&secret.public(), b"m", &read.sign(b"m")), Ok(()));
    assert_eq!(verify(&secret.public(), b"n", &read.sign(b"m")), Err(KeyError::Signature));
    let shown = format!("{secret:?}");
    assert!(!shown.contains(&crate::ids::to_hex(&secret.to_seed()[..4])));
    assert_eq!(SecretKey::from_pkcs8_pem("no key").unwrap_err(), KeyError::Pkcs8);
    // The neutral element, of small order: any message would verify under it.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert_eq!(verify(&neutral, b"m", &[0; 64]), Err(KeyError::Public));
}
