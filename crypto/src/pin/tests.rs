use super::*;
use crate::{Fingerprint, TrustId};

fn device(byte: u8) -> Fingerprint {
    Fingerprint::new([byte; 32])
}

fn trust() -> TrustId {
    "RZ1".parse().unwrap()
}

fn pin(text: &str) -> Pin {
    Pin::typed(text).unwrap()
}

fn set(secret: &ServerSecret, text: &str) -> (PinRecord, ExportKey) {
    let (setup, request) = ClientSetup::begin(pin(text)).unwrap();
    let credential = Credential::generate().unwrap();
    let answer = answer_setup(secret, &credential, &request).unwrap();
    let NewPin { upload, export_key } = setup.finish(&answer, &device(1), &trust()).unwrap();
    // As after a restart of the node.
    let record = PinRecord::of_upload(credential, &upload).unwrap().to_bytes();
    (PinRecord::from_bytes(&record).unwrap(), export_key)
}

fn prove(secret: &ServerSecret, record: &PinRecord, text: &str) -> Result<(Proven, SessionToken), PinError> {
    let record = PinRecord::from_bytes(&record.to_bytes())?;
    let (client, request) = ClientProof::begin(pin(text))?;
    let (node, answer) = NodeProof::answer(secret, record, &device(1), &trust(), &request)?;
    let proven = client.finish(&answer, &device(1), &trust())?;
    let checked = node.check(&proven.proof)?;
    Ok((proven, checked))
}

#[test]
fn the_pin_that_was_set_opens_what_was_sealed_and_no_other_does() {
    let secret = ServerSecret::from_bytes(&ServerSecret::generate().unwrap().to_bytes()).unwrap();
    let (record, first) = set(&secret, "482917");
    let vault_key = [7; VAULT_KEY_BYTES];
    let sealed = first.seal(&vault_key, &device(1)).unwrap();

    let (proven, checked) = prove(&secret, &record, "482917").unwrap();
    assert_eq!(proven.export_key.open(&sealed, &device(1)).map(|key| *key), Some(vault_key));
    assert!(proven.export_key.open(&sealed, &device(2)).is_none());
    assert!(checked.proof().is_of(&proven.token));

    assert_eq!(prove(&secret, &record, "482918").unwrap_err(), PinError::Wrong);
    // Another node's secret, as for one that only has the record.
    let other = ServerSecret::generate().unwrap();
    assert_eq!(prove(&other, &record, "482917").unwrap_err(), PinError::Wrong);
    // The same PIN, set again, gives another key.
    let (_, second) = set(&secret, "482917");
    assert!(second.open(&sealed, &device(1)).is_none());
}

#[test]
fn a_proof_of_one_exchange_proves_nothing_in_another() {
    let secret = ServerSecret::generate().unwrap();
    let (record, _) = set(&secret, "482917");
    let (proven, checked) = prove(&secret, &record, "482917").unwrap();
    let (_, request) = ClientProof::begin(pin("482917")).unwrap();
    let begun = NodeProof::answer(&secret, record, &device(1), &trust(), &request);
    assert_eq!(begun.unwrap().0.check(&proven.proof).unwrap_err(), PinError::Wrong);
    assert!(!checked.proof().is_of(&SessionToken::random().unwrap()));
}

/// Otherwise set-ups, which nobody counts, would tell of any number of PINs what one counted attempt can be checked against.
#[test]
fn each_set_up_has_a_key_of_its_own() {
    let secret = ServerSecret::generate().unwrap();
    let (_, request) = ClientSetup::begin(pin("482917")).unwrap();
    let answer = |credential: &Credential| answer_setup(&secret, credential, &request).unwrap();
    let [one, other] = [(); 2].map(|()| Credential::generate().unwrap());
    assert_eq!(answer(&one), answer(&one));
    assert_ne!(answer(&one), answer(&other));
}

#[test]
fn an_exchange_is_bound_to_its_device() {
    let secret = ServerSecret::generate().unwrap();
    let (record, _) = set(&secret, "482917");
    let (client, request) = ClientProof::begin(pin("482917")).unwrap();
    let (_, answer) = NodeProof::answer(&secret, record, &device(2), &trust(), &request).unwrap();
    assert_eq!(client.finish(&answer, &device(2), &trust()).unwrap_err(), PinError::Wrong);
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let secret = ServerSecret::generate().unwrap();
    let (record, _) = set(&secret, "482917");
    for wrong in [&[][..], &[0; 32], &[0xff; 96], &[1; 4096]] {
        assert!(answer_setup(&secret, &Credential::generate().unwrap(), wrong).is_err());
        assert!(PinRecord::of_upload(Credential::generate().unwrap(), wrong).is_err());
        assert!(PinRecord::from_bytes(wrong).is_err());
        assert!(ServerSecret::from_bytes(wrong).is_err());
        let record = PinRecord::from_bytes(&record.to_bytes()).unwrap();
        assert!(NodeProof::answer(&secret, record, &device(1), &trust(), wrong).is_err());
        let (client, _) = ClientProof::begin(pin("482917")).unwrap();
        assert!(client.finish(wrong, &device(1), &trust()).is_err());
    }
}

#[test]
fn a_token_reads_as_it_was_written() {
    let token = SessionToken::random().unwrap();
    let header = token.to_header();
    assert!(token.proof().is_of(&SessionToken::from_header(&header).unwrap()));
    for wrong in ["", "Bearer ", "Bearer 12", "Basic 00", &header[1..], &format!("{}00", *header)] {
        assert!(SessionToken::from_header(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    let secret = ServerSecret::generate().unwrap();
    let (record, export_key) = set(&secret, "482917");
    let shown =
        format!("{:?} {secret:?} {record:?} {export_key:?} {:?}", pin("482917"), SessionToken::random());
    assert_eq!(shown, "Pin(..) ServerSecret(..) PinRecord(..) ExportKey(..) Ok(SessionToken(..))");
}

#[test]
fn pins_are_taken_by_rules_that_each_refuse_something() {
    use PinRefused::{Control, Date, Length, Obvious, Period, Repeats, Run};
    let refused = |text: &str| Pin::chosen(text).err();
    for good in ["482917", "90Lx7!", "correct horse battery", "ÄÖ-71x", "739105", "qwertysomething longer"]
    {
        assert_eq!(refused(good), None, "{good}");
    }
    let long = "1a2B".repeat(20);
    let cases = [
        ("", Length),
        ("48291", Length),
        (&long, Length),
        ("4829\u{7}7", Control),
        ("777777", Repeats),
        ("474744", Repeats),
        ("482482", Period),
        ("4829148291", Period),
        ("48148148", Period),
        ("345678", Run),
        ("987654", Run),
        ("789012", Run),
        ("abcdefg", Run),
        ("240681", Date),
        ("062481", Date),
        ("810624", Date),
        ("24061981", Date),
        ("19810624", Date),
        ("147258", Obvious),
        ("Qwerty7", Obvious),
        ("123321", Run),
        ("abc123", Run),
        ("a123456", Run),
        ("456789x", Run),
    ];
    for (text, why) in cases {
        assert_eq!(refused(text), Some(why), "{text}");
    }
}
