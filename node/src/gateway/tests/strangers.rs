//! Who has shown no device certificate: few at once and not for long, so that devices always find a place.

use tokio::io::AsyncReadExt;

use super::*;

/// An invitation that nobody has made.
fn wrong() -> Vec<u8> {
    cbor::to_vec(&EnrolRequest {
        invitation: vec![1; 16],
        code: vec![2; 16],
        request: CertificateRequest::create(&SecretKey::generate().unwrap(), None).unwrap().der().to_vec(),
        sign_in: None,
    })
}

/// Whether the gateway has hung up.
async fn hung_up(stream: &mut TcpStream) -> bool {
    matches!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap(), Ok(0) | Err(_))
}

#[tokio::test]
async fn unfinished_handshakes_of_one_address_are_bounded() {
    let running = Running::start().await;
    let mut held = Vec::new();
    for _ in 0..limits::STRANGERS_PER_ADDRESS_MAX {
        held.push(running.socket(2).await);
    }
    assert!(hung_up(&mut running.socket(2).await).await);
    let mut elsewhere = running.connect_from(3, Some(running.device("Ada").0)).await;
    let answer = ask(&mut elsewhere, Method::GET, "/v1/inbox", Vec::new()).await;
    assert_eq!(answer.0, StatusCode::OK);
}

#[tokio::test]
async fn devices_do_not_count_as_strangers() {
    let running = Running::start().await;
    let mut held = Vec::new();
    for _ in 0..=limits::STRANGERS_PER_ADDRESS_MAX {
        let mut device = running.connect_from(2, Some(running.device("Ada").0)).await;
        let answer = ask(&mut device, Method::GET, "/v1/inbox", Vec::new()).await;
        assert_eq!(answer.0, StatusCode::OK);
        held.push(device);
    }
}

#[tokio::test]
async fn strangers_have_few_places_and_devices_the_rest() {
    let running = Running::start().await;
    let mut held = Vec::new();
    for place in 0..limits::STRANGERS_MAX {
        let host = 10 + (place / limits::STRANGERS_PER_ADDRESS_MAX) as u8;
        let mut stranger = running.connect_from(host, None).await;
        let answer = ask(&mut stranger, Method::GET, "/v1/trust", Vec::new()).await;
        assert_eq!(answer.0, StatusCode::UNAUTHORIZED);
        held.push(stranger);
    }
    let mut beyond = running.connect_from(9, None).await;
    let request = Request::builder().uri("/v1/trust").body(Body::empty()).unwrap();
    let answer = timeout(PATIENCE, beyond.send_request(request)).await.unwrap();
    assert!(answer.is_err());
    let mut device = running.connect_from(9, Some(running.device("Ada").0)).await;
    let answer = ask(&mut device, Method::GET, "/v1/inbox", Vec::new()).await;
    assert_eq!(answer.0, StatusCode::OK);
}

#[tokio::test]
async fn a_strangers_connection_ends_however_busy_and_a_devices_does_not() {
    let running = Running::start_with(Duration::from_millis(500)).await;
    let mut device = running.connect(Some(running.device("Ada").0)).await;
    let mut stranger = running.connect(None).await;
    let busy = async {
        loop {
            let request = Request::builder().uri("/v1/trust").body(Body::empty()).unwrap();
            if stranger.ready().await.is_err() || stranger.send_request(request).await.is_err() {
                return;
            }
        }
    };
    timeout(PATIENCE, busy).await.unwrap();
    let answer = ask(&mut device, Method::GET, "/v1/inbox", Vec::new()).await;
    assert_eq!(answer.0, StatusCode::OK);
}

#[tokio::test]
async fn refusals_of_strangers_do_not_fill_the_audit_log() {
    let running = Running::start().await;
    let mut stranger = running.connect(None).await;
    for _ in 0..20 {
        let answer = ask(&mut stranger, Method::POST, "/v1/enrol", wrong()).await;
        assert_eq!(read::<Refusal>(&answer, StatusCode::FORBIDDEN).code, "invitation");
    }
    let notes = running.node.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].address.as_ref().unwrap().starts_with("127.0.0.1:"));
}
