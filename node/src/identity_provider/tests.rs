//! Sign-ins that are under way, without a provider; what one says is for `tests/tests/sign_in`.

use super::*;
use crate::testing::Trust;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn provider(authorities: &str) -> Result<IdentityProvider, OpenError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authorities.pem");
    files::create(&path, authorities.as_bytes(), files::PUBLIC).unwrap();
    IdentityProvider::open(&Options {
        issuer: IssuerUrl::new("https://login.example".into()).unwrap(),
        client_id: "lanyard".into(),
        client_secret: None,
        authorities: path,
        scopes: Vec::new(),
        acr_values: Vec::new(),
        mapping: Mapping::default(),
    })
}

fn begun(invitation: &[u8]) -> UnderWay {
    UnderWay {
        invitation: invitation.to_vec(),
        nonce: Nonce::new_random(),
        verifier: PkceCodeChallenge::new_random_sha256().1,
        redirect: RedirectUrl::new("http://127.0.0.1:1/signed-in".into()).unwrap(),
        begun: Instant::now(),
        begun_at: NOW,
    }
}

#[test]
fn a_sign_in_is_of_one_invitation_and_used_once() {
    let provider = provider(&Trust::new("RYJ").root.to_pem()).unwrap();
    provider.keep("a".into(), begun(b"one")).unwrap();
    assert!(matches!(provider.take("a", b"two"), Err(SignInError::Unknown)));
    assert!(provider.take("a", b"one").is_ok(), "who guesses does not end it");
    assert!(matches!(provider.take("a", b"one"), Err(SignInError::Unknown)));
    // The newer one of an invitation takes the place of the older.
    provider.keep("b".into(), begun(b"one")).unwrap();
    provider.keep("c".into(), begun(b"one")).unwrap();
    assert!(provider.take("b", b"one").is_err() && provider.take("c", b"one").is_ok());
}

#[test]
fn sign_ins_are_bounded_in_number_and_time() {
    let provider = provider(&Trust::new("RYJ").root.to_pem()).unwrap();
    provider.keep("late".into(), begun(b"late")).unwrap();
    let left = |after| provider.under_way_at(Instant::now() + after, |all| all.len());
    assert_eq!(left(Duration::from_secs(SIGN_IN_SECS_MAX / 2)), 1);
    assert_eq!(left(Duration::from_secs(SIGN_IN_SECS_MAX)), 0);
    for n in 0..UNDER_WAY_MAX {
        provider.keep(n.to_string(), begun(n.to_string().as_bytes())).unwrap();
    }
    let more = provider.keep("more".into(), begun(b"more"));
    assert!(matches!(more, Err(SignInError::TooMany)));
    provider.keep("again".into(), begun(b"7")).unwrap();
}

#[test]
fn a_provider_is_not_asked_without_authorities() {
    assert!(matches!(provider("no certificate"), Err(OpenError::Authorities(_))));
}

#[test]
fn others_words_are_cut_and_on_one_line() {
    assert_eq!(shown(&"a\r\nb\u{1b}[2J"), "a  b [2J");
    assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN_CHARS_MAX);
}
