//! Key packages, and what of a device's orders becomes known outside of its trust.

use lanyard_crypto::gateway::DeleteRequest;
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::{Rules, Suite, X509Identities, mls_time, suite};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Reason;
use lanyard_crypto::{ConversationId, RecordId};
use mls_rs::extension::MlsExtension;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::identity::SigningIdentity;
use mls_rs::{Client, ExtensionList};

use super::*;

/// A contact key package, as the client of this device makes it.
pub fn of(running: &Running, key: &SecretKey, certificate: &Certificate) -> Vec<u8> {
    let network = running.node.network();
    let chain = [certificate, &running.trust.registrar_certificate].map(Certificate::der);
    let client = Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(X509Identities::<Network>::of_member(network.clone()))
        .mls_rules(Rules::new(network))
        .extension_type(POLICY_EXTENSION)
        .signing_identity(
            SigningIdentity::new(credential(&chain), key.public().to_vec().into()),
            key.to_seed().to_vec().into(),
            suite::LANYARD,
        )
        .build();
    let last_resort = LastResortKeyPackageExt.into_extension().unwrap();
    let package = client.generate_key_package_message(
        vec![last_resort].into(),
        ExtensionList::new(),
        Some(mls_time(now())),
    );
    package.unwrap().to_bytes().unwrap()
}

#[tokio::test]
async fn only_a_devices_own_key_package_is_taken() {
    let running = Running::start().await;
    let (ada, ada_certificate) = running.device("Ada");
    let (ben, ben_certificate) = running.device("Ben");
    let of_ben = of(&running, &ben.key, &ben_certificate);
    let of_ada = of(&running, &ada.key, &ada_certificate);
    let mut device = running.connect(Some(ada)).await;
    let token = running.unlock(&ada_certificate).await;
    let put = |key_package: Vec<u8>| cbor::to_vec(&KeyPackageRequest { key_package, available: true });
    for (package, words) in [(of_ben, "another device"), (vec![7; 100], "refused")] {
        let answer = ask_by(&token, &mut device, Method::PUT, "/v1/key-package", put(package)).await;
        let refusal: Refusal = read(&answer, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refusal.code, "key-package");
        assert!(refusal.message.contains(words), "{}", refusal.message);
    }
    assert_eq!(running.node.submitted().len(), 1, "none but that of its enrolment");
    let answer = ask_by(&token, &mut device, Method::PUT, "/v1/key-package", put(of_ada)).await;
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn who_deletes_stands_in_the_own_audit_log_alone() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let mut device = running.connect(Some(shown)).await;
    let token = running.unlock(&certificate).await;
    let order = cbor::to_vec(&DeleteRequest {
        all: false,
        conversation: ConversationId::new([9; 16], running.trust.id.clone()),
        envelopes: vec![RecordId::new([1; 32])],
        reason: Reason::Incident,
    });
    for _ in 0..2 {
        ask_by(&token, &mut device, Method::POST, "/v1/deletions", order.clone()).await;
    }
    let (orders, notes) = (running.node.orders(), running.node.notes());
    assert_ne!(orders[0].reference, orders[1].reference);
    for (order, note) in orders.iter().zip(notes) {
        assert_eq!((order.reference.len(), note.event), (16, "deletion-ordered"));
        let device = certificate.fingerprint();
        assert!(!device.as_bytes().windows(4).any(|part| order.reference.starts_with(part)));
        for words in [device.to_string(), to_hex(&order.reference)] {
            assert!(note.detail.contains(&words), "{}", note.detail);
        }
    }
}
