//! X.509: certificates, revocation lists, requests, and PEM around them.

use lanyard_crypto::Fingerprint;
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_crypto::x509::{
    Certificate, CrlPolicy, RevocationList, chain_from_pem, chain_to_pem, verify_chain, verify_root,
};

use crate::fixtures::{self, NOW};
use crate::quiet::assert_quiet;

/// A certificate: encoded again, as a leaf and as an issuer of chains, and asked for all that it says.
pub(crate) fn certificate(der: &[u8]) -> bool {
    let certificate = match Certificate::parse(der) {
        Ok(certificate) => certificate,
        Err(why) => {
            assert_quiet(&why, der);
            return false;
        }
    };
    assert_eq!(certificate.der(), der, "a certificate is its bytes");
    assert_eq!(certificate.fingerprint(), Fingerprint::of(der));
    assert_eq!(Certificate::from_pem(&certificate.to_pem()).as_ref(), Ok(&certificate));
    assert!(certificate.not_before() <= certificate.not_after());
    assert!((1..=20).contains(&certificate.serial().len()));
    let shown = format!("{certificate:?}");
    assert!(shown.len() < 4_096, "{} bytes", shown.len());
    for host in certificate.dns_names().iter().filter(|host| !host.contains('*') && !host.ends_with('.')) {
        assert!(certificate.names_host(host) || host.parse::<std::net::IpAddr>().is_ok());
    }
    for address in certificate.ip_addresses() {
        assert!(certificate.names_host(&address.to_string()));
    }
    if let (Some(peer), Some(node)) = (certificate.peer_id(), certificate.node_id()) {
        assert!(peer.ends_with(node.as_bytes()));
    }

    let trust = &fixtures::trusts()[0];
    let purpose = certificate.purpose();
    let issuers = [std::slice::from_ref(&trust.registrar), std::slice::from_ref(&certificate), &[]];
    let mut outcomes = vec![verify_root(&certificate, NOW)];
    for issuers in issuers {
        outcomes.push(verify_chain(
            &certificate,
            issuers,
            &trust.root,
            |_| None,
            CrlPolicy::IfHeld,
            purpose,
            NOW,
        ));
        outcomes.push(verify_chain(
            &trust.node,
            issuers,
            &certificate,
            |_| None,
            CrlPolicy::IfHeld,
            purpose,
            NOW,
        ));
    }
    for why in outcomes.into_iter().filter_map(Result::err) {
        assert_quiet(&why, &[]);
    }
    true
}

/// A revocation list: encoded again, asked for all that it says, and held against an issuer.
pub(crate) fn crl(der: &[u8]) -> bool {
    let list = match RevocationList::parse(der) {
        Ok(list) => list,
        Err(why) => {
            assert_quiet(&why, der);
            return false;
        }
    };
    assert_eq!(list.der(), der, "a list is its bytes");
    assert_eq!(RevocationList::from_pem(&list.to_pem()).as_ref(), Ok(&list));
    assert!(list.this_update() <= list.next_update());
    for entry in list.revocations() {
        assert!(list.is_revoked(&entry.serial));
    }
    let trust = &fixtures::trusts()[0];
    for issuer in [&trust.registrar, &trust.root, &trust.node] {
        let _ = list.verify(issuer).map_err(|why| assert_quiet(&why, der));
    }
    true
}

/// A certificate request.
pub(crate) fn request(der: &[u8]) -> bool {
    let request = match CertificateRequest::parse(der) {
        Ok(request) => request,
        Err(why) => {
            assert_quiet(&why, der);
            return false;
        }
    };
    assert_eq!(request.der(), der, "a request is its bytes");
    let again = CertificateRequest::from_pem(&request.to_pem()).unwrap();
    assert_eq!(again.der(), der);
    true
}

/// PEM, as files and peers spell chains, lists and requests. Its reasons name labels, which stand in the text as well; what is
/// inside has targets of its own.
pub(crate) fn pem(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let chain = read(chain_from_pem(text));
    if let Some(chain) = &chain {
        assert_eq!(chain_from_pem(&chain_to_pem(chain)).as_ref(), Ok(chain));
    }
    let one = read(Certificate::from_pem(text));
    assert!(one.is_none() || chain.as_ref().is_some_and(|c| c.len() == 1));
    let (list, request) = (read(RevocationList::from_pem(text)), read(CertificateRequest::from_pem(text)));
    chain.is_some() || list.is_some() || request.is_some()
}

fn read<T, E: std::fmt::Display>(outcome: Result<T, E>) -> Option<T> {
    outcome.map_err(|why| assert_quiet(&why, &[])).ok()
}
