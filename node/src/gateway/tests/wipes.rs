//! What a wiped device asks as a stranger, and what others get by asking the same.

use lanyard_crypto::gateway::{RevocationsResponse, WipedRequest};
use lanyard_crypto::record::WipeReceipt;
use lanyard_crypto::x509::RevocationList;

use super::*;

async fn hand_in(running: &Running, receipt: &WipeReceipt) -> (StatusCode, Vec<u8>) {
    let request = WipedRequest { receipt: receipt.bytes().to_vec() };
    let mut stranger = running.connect(None).await;
    ask(&mut stranger, Method::POST, "/v1/wipes", cbor::to_vec(&request)).await
}

#[tokio::test]
async fn a_stranger_is_shown_the_list_and_only_a_wiped_devices_receipt_is_taken() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let registrar = running.trust.registrar_certificate.fingerprint();
    let list = format!("/v1/revocations/{registrar}");
    let mut stranger = running.connect(None).await;
    assert_eq!(ask(&mut stranger, Method::GET, &list, Vec::new()).await.0, StatusCode::NOT_FOUND);
    let receipt = WipeReceipt::sign(1, now(), certificate.fingerprint(), &shown.key);
    let early = hand_in(&running, &receipt).await;
    assert_eq!(read::<Refusal>(&early, StatusCode::UNPROCESSABLE_ENTITY).code, "bad-receipt");

    let id = running.node.network().id();
    let order = Order::because(Reason::Lost);
    let record = running
        .registrar
        .revoke(std::slice::from_ref(&certificate), (&order, now()), None, id, now())
        .unwrap();
    running.node.submit(record).await.unwrap();
    let answer = ask(&mut stranger, Method::GET, &list, Vec::new()).await;
    let held = RevocationList::parse(&read::<RevocationsResponse>(&answer, StatusCode::OK).list).unwrap();
    held.verify(&running.trust.registrar_certificate).unwrap();
    assert!(held.is_revoked(certificate.serial()));
    let other = format!("/v1/revocations/{}", certificate.fingerprint());
    assert_eq!(ask(&mut stranger, Method::GET, &other, Vec::new()).await.0, StatusCode::NOT_FOUND);

    let forged = WipeReceipt::sign(1, now(), certificate.fingerprint(), &running.device("Eve").0.key);
    let forged = hand_in(&running, &forged).await;
    assert_eq!(read::<Refusal>(&forged, StatusCode::UNPROCESSABLE_ENTITY).code, "bad-receipt");
    for _ in 0..2 {
        assert_eq!(hand_in(&running, &receipt).await.0, StatusCode::NO_CONTENT);
    }
    let told = running.node.events().into_iter().filter(|event| *event == "device-wiped").count();
    assert_eq!(told, 1, "the second says nothing new");
}
