//! What this program has checked itself of a certificate, said so that it can be shown as it is.
//!
//! The chain (a device's certificate and its registrar's) is verified up to the trust's root in the charter, with the
//! dates of each certificate at this moment, and with the revocation lists that this device holds. Where there is no
//! list of the registrar, revocation was not checked, and that is what is said.

use lanyard_crypto::Timestamp;
use lanyard_crypto::network::Network;
use lanyard_crypto::x509::{Certificate, Purpose};

use super::view::{CertificationView, Moment};

/// Checks a device's chain (DER, leaf first) at this moment, and says what came of it.
pub(super) fn certification<C: AsRef<[u8]>>(
    chain: &[C],
    network: &Network,
    now: Timestamp,
) -> CertificationView {
    let verified = network.verify_chain(chain, Purpose::Device, network.time(now));
    let certificates: Vec<Certificate> =
        chain.iter().filter_map(|der| Certificate::parse(der.as_ref()).ok()).collect();
    let registrar = certificates.get(1);
    let list = registrar.and_then(|r| network.revocation_list(&r.fingerprint()));
    let leaf = certificates.first().map(Certificate::subject);
    let until = certificates.iter().map(Certificate::not_after).min();
    CertificationView {
        holds: verified.is_ok(),
        problem: verified.err().map(|error| error.to_string()),
        trust: leaf.map(|subject| subject.trust.to_string()).unwrap_or_default(),
        registrar: registrar.map(|r| r.subject().common_name.clone()).unwrap_or_default(),
        until: Moment(until.unwrap_or(Timestamp::from_secs(0))),
        charter_version: network.charter().version,
        revocation_list: list.map(|list| list.number()),
        revocations_of: list.map(|list| Moment(list.this_update())),
        revocations_due: list.map(|list| Moment(list.next_update())),
        checked: Moment(now),
    }
}
