//! Certificates and revocation lists against the real `openssl` program: it accepts what we make, we accept what
//! it makes, and both refuse the same.

#![allow(clippy::unwrap_used, reason = "all of it is a test, its helpers as well")]

mod trusts;

use std::fs;

use lanyard_crypto::NodeId;
use lanyard_crypto::residency::{Country, CountryError};
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_crypto::x509::{
    Certificate, CertificateError, ChainError, CrlError, CrlPolicy, CrlReason, PemError, Purpose, Revocation,
    RevocationList, SecretKey, SubjectError, verify_chain, verify_root,
};
use trusts::{Dir, NOW, Ours, Theirs, clock, person, verify};

#[test]
fn openssl_verifies_what_we_make() {
    let ours = Ours::new();
    for leaf in ["node", "device", "officer"] {
        let (ok, output) = ours.verify(leaf, NOW, &["-crl_check", "-x509_strict"]);
        assert!(ok, "{leaf}: {output}");
    }
    let (ok, output) = ours.verify("node", NOW, &["-crl_check", "-purpose", "sslserver"]);
    assert!(ok, "{output}");
    let (ok, output) =
        ours.verify("node", NOW, &["-crl_check", "-verify_hostname", "node1.riverside.example"]);
    assert!(ok, "{output}");
    let (ok, output) = ours.verify("node", NOW, &["-verify_ip", "127.0.0.2"]);
    assert!(!ok && output.contains("IP address mismatch"), "{output}");
    let (ok, output) = ours.verify("device", NOW, &["-crl_check", "-purpose", "sslclient"]);
    assert!(ok, "{output}");
    let (ok, output) = ours.verify("device", NOW, &["-purpose", "sslserver"]);
    assert!(!ok && output.contains("unsuitable certificate purpose"), "{output}");
}

#[test]
fn openssl_reads_every_field_that_we_write() {
    let ours = Ours::new();
    let text =
        ours.dir.openssl(&["x509", "-in", "device.pem", "-noout", "-text", "-nameopt", "RFC2253,-esc_msb"]);
    for part in [
        "Version: 3",
        "Signature Algorithm: ED25519",
        "serialNumber=GMC 1234567,title=Consultant cardiologist,CN=Aoife Ní Bhriain,OU=Cardiology,\
         O=Riverside NHS Trust,C=GB,organizationIdentifier=RYJ",
        "TLS Web Client Authentication",
        "1.3.6.1.4.1.32473.1.1.2",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = ours.dir.openssl(&["x509", "-in", "registrar.pem", "-noout", "-text"]);
    for part in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "Permitted:",
        "DirName:organizationIdentifier = RYJ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = ours.dir.openssl(&["crl", "-in", "crl.pem", "-noout", "-text"]);
    for part in
        ["Version 2", "X509v3 CRL Number", "X509v3 Authority Key Identifier", "No Revoked Certificates"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn both_refuse_a_revoked_certificate_and_a_stale_list() {
    let ours = Ours::new();
    let serial = ours.device.serial().to_vec();
    let list = ours.revoke(Revocation { serial, at: NOW, reason: Some(CrlReason::KeyCompromise) });
    let (ok, output) = ours.verify("device", NOW, &["-crl_check"]);
    assert!(!ok && output.contains("certificate revoked"), "{output}");
    assert!(matches!(ours.check(&ours.device, Purpose::Device, &list, NOW), Err(ChainError::Revoked { .. })));
    let (ok, output) = ours.verify("node", NOW, &["-crl_check"]);
    assert!(ok, "{output}");
    let text = ours.dir.openssl(&["crl", "-in", "crl.pem", "-noout", "-text"]);
    assert!(text.contains("Key Compromise"), "{text}");

    let late = list.next_update().plus_secs(1);
    let (ok, output) = ours.verify("node", late, &["-crl_check"]);
    assert!(!ok && output.contains("CRL has expired"), "{output}");
    assert!(matches!(ours.check(&ours.node, Purpose::Node, &list, late), Err(ChainError::CrlStale { .. })));
}

#[test]
fn both_refuse_certificates_outside_their_time() {
    let ours = Ours::new();
    let list = RevocationList::from_pem(&ours.dir.read("crl.pem")).unwrap();
    let early = ours.device.not_before().minus_secs(1);
    let (ok, output) = ours.verify("device", early, &[]);
    assert!(!ok && output.contains("not yet valid"), "{output}");
    let refused = ours.check(&ours.device, Purpose::Device, &list, early);
    assert!(matches!(refused, Err(ChainError::NotYetValid { .. })), "{refused:?}");
    let late = ours.device.not_after().plus_secs(1);
    let (ok, output) = ours.verify("device", late, &[]);
    assert!(!ok && output.contains("certificate has expired"), "{output}");
    let refused = ours.check(&ours.device, Purpose::Device, &list, late);
    assert!(matches!(refused, Err(ChainError::Expired { .. })), "{refused:?}");
}

#[test]
fn openssl_reads_our_keys_and_requests_and_we_read_its() {
    let dir = Dir::new();
    let key = SecretKey::from_seed(&[7; 32]);
    dir.write("ours.key", &key.to_pkcs8_pem());
    dir.openssl(&["pkey", "-in", "ours.key", "-pubout", "-outform", "DER", "-out", "ours.pub"]);
    assert!(fs::read(dir.path("ours.pub")).unwrap().ends_with(&key.public()));
    dir.write("ours.csr", &CertificateRequest::create(&key, Some(&person())).unwrap().to_pem());
    let output = dir.openssl(&["req", "-in", "ours.csr", "-noout", "-verify", "-subject"]);
    assert!(output.contains("organizationIdentifier = RYJ"), "{output}");

    dir.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "theirs.key"]);
    let theirs = SecretKey::from_pkcs8_pem(&dir.read("theirs.key")).unwrap();
    dir.request("theirs", "RYJ", "Device 1");
    let request = CertificateRequest::from_pem(&dir.read("theirs.csr")).unwrap();
    assert_eq!(request.public_key(), &theirs.public());
    assert_eq!(request.subject().unwrap().common_name, "Device 1");
}

#[test]
fn we_accept_a_chain_and_a_list_made_by_openssl_alone() {
    let theirs = Theirs::new();
    let now = clock();
    theirs.leaf("node", "RYJ", "node");
    theirs.leaf("device", "RYJ", "device");
    theirs.gencrl();
    let list = RevocationList::from_pem(&theirs.dir.read("crl.pem")).unwrap();
    let node = theirs.certificate("node");
    assert_eq!(theirs.check(&node, Purpose::Node, &list, now), Ok(()));
    assert_eq!(node.hosting_country(), Some(Country::GB));
    assert_eq!(node.node_id(), Some(NodeId::new([0x5a; 32])));
    assert!(node.names_host("node1.riverside.example") && node.names_host("127.0.0.1"));
    let device = theirs.certificate("device");
    assert_eq!(theirs.check(&device, Purpose::Device, &list, now), Ok(()));
    assert_eq!(verify_root(&theirs.certificate("root"), now), Ok(()));

    let twenty_years = 20 * 366 * 24 * 3600;
    let late = theirs.check(&device, Purpose::Device, &list, now.plus_secs(twenty_years));
    assert!(matches!(late, Err(ChainError::Expired { .. })), "{late:?}");
    let as_node = theirs.check(&device, Purpose::Node, &list, now);
    assert!(matches!(as_node, Err(ChainError::WrongPurpose { .. })), "{as_node:?}");

    theirs.dir.openssl(&["ca", "-config", "ca.cnf", "-revoke", "device.pem", "-crl_reason", "superseded"]);
    theirs.gencrl();
    let newer = RevocationList::from_pem(&theirs.dir.read("crl.pem")).unwrap();
    assert!(newer.number() > list.number());
    let revoked = theirs.check(&device, Purpose::Device, &newer, now);
    let reason = Some(CrlReason::Superseded);
    assert!(matches!(&revoked, Err(ChainError::Revoked { reason: r, .. }) if *r == reason), "{revoked:?}");
}

#[test]
fn both_refuse_a_name_outside_the_constraint() {
    let theirs = Theirs::new();
    theirs.leaf("stranger", "RXX", "device");
    theirs.gencrl();
    let (ok, output) = verify(&theirs.dir, "stranger", None, &["-crl_check"]);
    assert!(!ok && output.contains("permitted subtree violation"), "{output}");
    let list = RevocationList::from_pem(&theirs.dir.read("crl.pem")).unwrap();
    let refused = theirs.check(&theirs.certificate("stranger"), Purpose::Device, &list, clock());
    assert!(matches!(refused, Err(ChainError::NameConstraint { .. })), "{refused:?}");

    // Under our own root, whose constraint openssl reads and applies as well.
    let ours = Ours::new();
    let dir = &ours.dir;
    dir.write("registrar.key", &ours.registrar_key.to_pkcs8_pem());
    dir.openssl(&["genpkey", "-algorithm", "ed25519", "-out", "stranger.key"]);
    dir.request("stranger", "RXX", "Stranger");
    dir.sign("stranger", "device");
    let (ok, output) = verify(dir, "stranger", None, &["-no_check_time"]);
    assert!(!ok && output.contains("permitted subtree violation"), "{output}");
}

#[test]
fn both_refuse_a_registrar_under_a_registrar_and_a_leaf_that_certifies() {
    let theirs = Theirs::new();
    let dir = &theirs.dir;
    let registrar = theirs.certificate("registrar");
    let root = theirs.certificate("root");
    let check = |leaf: &str, issuer: &str| {
        let issuers = [theirs.certificate(issuer), registrar.clone()];
        let crls = |_: &_| None;
        let leaf = theirs.certificate(leaf);
        verify_chain(&leaf, &issuers, &root, crls, CrlPolicy::IfHeld, Purpose::Device, clock())
    };
    let cases = [
        ("second", "registrar", "path length constraint exceeded"),
        ("first", "device", "invalid CA certificate"),
    ];
    for (issuer, section, reason) in cases {
        theirs.leaf(issuer, "RYJ", section);
        let below = format!("below-{issuer}");
        dir.key_and_request(&below, "RYJ");
        dir.sign_by(&below, "device", issuer);
        let both = format!("{}{}", dir.read(&format!("{issuer}.pem")), dir.read("registrar.pem"));
        dir.write("chain.pem", &both);
        let file = format!("{below}.pem");
        let (ok, output) =
            dir.run(&["verify", "-CAfile", "root.pem", "-untrusted", "chain.pem", "-x509_strict", &file]);
        assert!(!ok && output.contains(reason), "{output}");
        let refused = check(&below, issuer);
        match issuer {
            "second" => assert!(matches!(refused, Err(ChainError::PathTooLong { .. })), "{refused:?}"),
            _ => assert!(matches!(refused, Err(ChainError::NotAuthority(_))), "{refused:?}"),
        }
    }
}

#[test]
fn certificates_of_other_profiles_are_refused_with_their_reason() {
    let theirs = Theirs::new();
    let dir = &theirs.dir;
    let refused = |name: &str| match Certificate::from_pem(&dir.read(&format!("{name}.pem"))) {
        Err(PemError::Certificate(error)) => error,
        other => panic!("{name}: {other:?}"),
    };
    dir.key_and_request("leaf", "RYJ");
    let with_extensions = |extensions: &str, options: &[&str]| {
        let keys = "keyUsage = critical, digitalSignature\nextendedKeyUsage = 1.3.6.1.4.1.32473.1.1.2\n";
        dir.write("one.cnf", &format!("[one]\n{keys}{extensions}\n[other]\nCN = Other\n"));
        let base = ["x509", "-req", "-in", "leaf.csr", "-CA", "registrar.pem", "-CAkey", "registrar.key"];
        let extensions = ["-extfile", "one.cnf", "-extensions", "one", "-out", "one.pem"];
        dir.openssl(&[&base[..], &extensions, options].concat());
    };
    let extension = |oid: &str| CertificateError::Extension(oid.parse().unwrap());
    let cases = [
        ("2.5.29.14 = DER:020101", extension("2.5.29.14")),
        ("2.5.29.19 = DER:3003010100", extension("2.5.29.19")),
        ("2.5.29.17 = DER:30058703010203", extension("2.5.29.17")),
        ("1.3.6.1.4.1.32473.1.2.1 = ASN1:UTF8String:GB", extension("1.3.6.1.4.1.32473.1.2.1")),
        (
            "1.3.6.1.4.1.32473.1.2.1 = ASN1:PRINTABLESTRING:UK",
            CertificateError::HostingCountry(CountryError::Uk),
        ),
        (
            "basicConstraints = CA:TRUE\nnameConstraints = excluded;dirName:other",
            CertificateError::NameConstraints,
        ),
        (
            "basicConstraints = CA:TRUE\nnameConstraints = permitted;DNS:example",
            CertificateError::NameConstraints,
        ),
        ("nameConstraints = permitted;dirName:other", CertificateError::NotAnAuthority),
    ];
    for (extensions, error) in cases {
        with_extensions(extensions, &[]);
        assert_eq!(refused("one"), error, "{extensions}");
    }
    with_extensions("", &["-set_serial", "0"]);
    assert_eq!(refused("one"), CertificateError::SerialNumber);
    with_extensions("", &["-set_serial", "-5"]);
    assert_eq!(refused("one"), CertificateError::SerialNumber);
    with_extensions("", &["-set_serial", "5"]);
    assert!(Certificate::from_pem(&dir.read("one.pem")).is_ok());

    dir.openssl(&["x509", "-req", "-in", "leaf.csr", "-signkey", "leaf.key", "-out", "old.pem"]);
    assert_eq!(refused("old"), CertificateError::Version);
    dir.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "curve.key"]);
    dir.request("curve", "RYJ", "Curve");
    dir.sign("curve", "device");
    assert_eq!(refused("curve"), CertificateError::Algorithm);
}

#[test]
fn names_of_other_profiles_are_refused_with_their_reason() {
    let theirs = Theirs::new();
    let cases = [
        ("/C=GB/O=Trust/CN=Name/organizationIdentifier=RYJ", SubjectError::TrustFirst),
        ("/C=GB/O=Trust/CN=Name", SubjectError::TrustFirst),
        ("/organizationIdentifier=RYJ/C=GB/CN=Name", SubjectError::Missing("O")),
        ("/organizationIdentifier=RYJ/C=GB/O=Trust", SubjectError::Missing("CN")),
        ("/organizationIdentifier=RYJ/C=GB/O=Trust/CN=A/CN=B", SubjectError::Repeated("CN")),
        ("/organizationIdentifier=RYJ/C=GB/O=Trust/CN=A+title=B", SubjectError::MultiValued),
        ("/organizationIdentifier=RYJ/C=GB/O=Trust/CN= A", SubjectError::Text("CN")),
    ];
    theirs.dir.key_and_request("leaf", "RYJ");
    for (name, error) in cases {
        theirs.dir.openssl(&["req", "-new", "-utf8", "-key", "leaf.key", "-subj", name, "-out", "leaf.csr"]);
        theirs.dir.sign("leaf", "device");
        let refused = Certificate::from_pem(&theirs.dir.read("leaf.pem"));
        assert_eq!(refused, Err(PemError::Certificate(error.into())), "{name}");
    }
    let other = "/organizationIdentifier=RYJ/L=Leeds/C=GB/O=Trust/CN=Name";
    theirs.dir.openssl(&["req", "-new", "-key", "leaf.key", "-subj", other, "-out", "leaf.csr"]);
    theirs.dir.sign("leaf", "device");
    assert_eq!(theirs.certificate("leaf").subject().common_name, "Name");
}

#[test]
fn lists_of_other_profiles_are_refused_with_their_reason() {
    let theirs = Theirs::new();
    let ca = theirs.dir.read("ca.cnf");
    let refused = |config: String| {
        theirs.dir.write("ca.cnf", &config);
        theirs.gencrl();
        RevocationList::from_pem(&theirs.dir.read("crl.pem")).unwrap_err()
    };
    let partial = format!("{ca}issuingDistributionPoint = critical, onlyuser:TRUE\n");
    let partial_list = CrlError::UnknownCritical("2.5.29.28".parse().unwrap());
    assert_eq!(refused(partial), PemError::Crl(partial_list));
    let anonymous = ca.replace("authorityKeyIdentifier = keyid:always", "issuerAltName = DNS:example");
    assert_eq!(refused(anonymous), PemError::Crl(CrlError::Extensions));
    // One more than 8 bytes hold.
    theirs.dir.write("crlnumber", "010000000000000000\n");
    assert_eq!(refused(ca), PemError::Crl(CrlError::Extensions));
}
