//! Altered bytes: nothing panics, and nothing altered is accepted.

use proptest::prelude::*;

use super::*;
use crate::x509::request::CertificateRequest;
use crate::x509::{CrlPolicy, verify_chain};

fn accepted(trust: &Trust, der: &[u8]) -> bool {
    let issuers = std::slice::from_ref(&trust.registrar);
    Certificate::parse(der).is_ok_and(|leaf| {
        let purpose = leaf.purpose();
        verify_chain(&leaf, issuers, &trust.root, |_| None, CrlPolicy::IfHeld, purpose, NOW).is_ok()
    })
}

#[test]
fn no_bit_of_a_certificate_can_be_flipped() {
    let trust = Trust::new("RYJ", 10);
    for certificate in [&trust.node, &trust.device] {
        let mut der = certificate.der().to_vec();
        assert!(accepted(&trust, &der));
        for bit in 0..der.len() * 8 {
            der[bit / 8] ^= 1 << (bit % 8);
            assert!(!accepted(&trust, &der), "bit {bit} of the {} certificate", certificate.purpose());
            der[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn no_bit_of_a_list_or_a_request_can_be_flipped() {
    let trust = Trust::new("RYJ", 10);
    let mut list = trust.revoke(&[&trust.device, &trust.node]).der().to_vec();
    for bit in 0..list.len() * 8 {
        list[bit / 8] ^= 1 << (bit % 8);
        let verified = RevocationList::parse(&list).is_ok_and(|list| list.verify(&trust.registrar).is_ok());
        assert!(!verified, "bit {bit} of the list");
        list[bit / 8] ^= 1 << (bit % 8);
    }
    let mut request = CertificateRequest::create(&key(13), Some(&person("RYJ"))).unwrap().der().to_vec();
    for bit in 0..request.len() * 8 {
        request[bit / 8] ^= 1 << (bit % 8);
        assert!(CertificateRequest::parse(&request).is_err(), "bit {bit} of the request");
        request[bit / 8] ^= 1 << (bit % 8);
    }
}

/// One change to a document.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let within = |place: usize| place % (bytes.len() + 1);
        match self {
            Change::Set(place, value) => {
                let place = within(*place);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = *value;
                }
            }
            Change::Insert(place, new) => {
                let place = within(*place);
                bytes.splice(place..place, new.iter().copied());
            }
            Change::Remove(place, length) => {
                let place = within(*place);
                let end = place.saturating_add(*length).min(bytes.len());
                bytes.drain(place..end);
            }
            Change::Repeat(place, length) => {
                let place = within(*place);
                let end = place.saturating_add(*length).min(bytes.len());
                let again = bytes[place..end].to_vec();
                bytes.splice(end..end, again);
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = 0_usize..2048;
    let change = prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|(p, v)| Change::Set(p, v)),
        (place.clone(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(p, v)| Change::Insert(p, v)),
        (place.clone(), 1_usize..32).prop_map(|(p, n)| Change::Remove(p, n)),
        (place, 1_usize..64).prop_map(|(p, n)| Change::Repeat(p, n)),
    ];
    prop::collection::vec(change, 1..5)
}

proptest! {
    #[test]
    fn altered_documents_are_refused_without_a_panic(changes in changes()) {
        let trust = Trust::new("RYJ", 10);
        let list = trust.revoke(&[&trust.device]);
        let request = CertificateRequest::create(&key(13), Some(&person("RYJ"))).unwrap();
        for original in [trust.node.der(), trust.device.der(), trust.root.der(), list.der(), request.der()] {
            let mut bytes = original.to_vec();
            changes.iter().for_each(|change| change.apply(&mut bytes));
            let list = RevocationList::parse(&bytes);
            let request = CertificateRequest::parse(&bytes);
            if bytes != original {
                prop_assert!(!accepted(&trust, &bytes));
                prop_assert!(!list.is_ok_and(|list| list.verify(&trust.registrar).is_ok()));
                prop_assert!(request.is_err());
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Certificate::parse(&bytes).is_err());
        prop_assert!(RevocationList::parse(&bytes).is_err());
        prop_assert!(CertificateRequest::parse(&bytes).is_err());
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(crate::x509::chain_from_pem(&text).is_err());
    }
}
