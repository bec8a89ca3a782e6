use std::fs;
use std::os::unix::fs::PermissionsExt;

use lanyard_crypto::mls::Class;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId};
use tempfile::TempDir;

use super::conversations::Conversation;
use super::messages::Message;
use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const LATER: Timestamp = Timestamp::from_secs(1_800_001_000);
const MARKER: &str = "MARKER-potassium-7.1-bed-9";

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("vault.db");
    (dir, path)
}

fn open(path: &Path) -> Vault {
    Vault::open(path, &VaultKey::new([3; 32])).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::new([1; 16], "RYJ".parse().unwrap())
}

fn message(n: u8, text: &str) -> Message {
    Message {
        local: 0,
        id: Some(RecordId::new([n; 32])),
        conversation: conversation(),
        epoch: 1,
        own: false,
        sender: Fingerprint::new([9; 32]),
        name: "Ada".into(),
        role: Some("Consultant".into()),
        trust: "RYJ".parse().unwrap(),
        issued: NOW.plus_secs(n.into()),
        expires: LATER,
        text: text.into(),
    }
}

#[test]
fn another_key_does_not_open_it() {
    let (_dir, path) = place();
    drop(open(&path));
    let refused = Vault::open(&path, &VaultKey::new([4; 32]));
    assert!(matches!(refused, Err(VaultError::WrongKey(_))));
    fs::write(&path, b"SQLite format 3\0 but not encrypted, and not a database").unwrap();
    assert!(matches!(
        Vault::open(&path, &VaultKey::new([3; 32])),
        Err(VaultError::WrongKey(_))
    ));
}

#[test]
fn a_newer_format_is_refused() {
    let (_dir, path) = place();
    open(&path)
        .lock()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    let refused = Vault::open(&path, &VaultKey::new([3; 32]));
    assert!(matches!(refused, Err(VaultError::Newer { found: 99, known: 1 })));
}

#[test]
fn no_file_shows_what_is_in_it() {
    let (dir, path) = place();
    let mut vault = open(&path);
    vault.put_message(&message(1, MARKER), &[0; 32]).unwrap();
    // In the middle of a transaction too, when the rollback journal is there.
    vault.begin().unwrap();
    vault.put_message(&message(2, MARKER), &[0; 32]).unwrap();
    vault.set_cursor("inbox", 7).unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        let bytes = fs::read(file.path()).unwrap();
        for needle in [MARKER, "CREATE TABLE", "Consultant", "SQLite format"] {
            assert!(
                !bytes.windows(needle.len()).any(|w| w == needle.as_bytes()),
                "{needle} in {:?}",
                file.path()
            );
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    vault.end(Ok::<_, VaultError>(())).unwrap();
    drop(vault);
    assert_eq!(open(&path).messages(&conversation(), 10, NOW).unwrap().len(), 2);
}

#[test]
fn a_transaction_is_all_or_nothing_and_nests() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let failed: Result<(), VaultError> = vault.transaction(|vault| {
        vault.set_cursor("inbox", 1)?;
        vault.transaction(|vault| vault.set_cursor("inbox", 2))?;
        Err(VaultError::Damaged("on purpose"))
    });
    assert!(failed.is_err());
    assert_eq!(vault.cursor("inbox").unwrap(), 0);
    vault
        .transaction(|vault| {
            vault.set_cursor("inbox", 3)?;
            let inner: Result<(), VaultError> = vault.transaction(|vault| {
                vault.set_cursor("inbox", 4)?;
                Err(VaultError::Damaged("on purpose"))
            });
            assert!(inner.is_err());
            Ok::<_, VaultError>(())
        })
        .unwrap();
    assert_eq!(vault.cursor("inbox").unwrap(), 3);
}

#[test]
fn a_process_that_dies_in_a_transaction_leaves_what_was_before() {
    let (dir, path) = place();
    let mut vault = open(&path);
    vault.set_cursor("inbox", 1).unwrap();
    vault.begin().unwrap();
    vault.set_cursor("inbox", 2).unwrap();
    // What a killed process leaves behind: its files as they are at this moment.
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    assert_eq!(open(&copy.path().join("vault.db")).cursor("inbox").unwrap(), 1);
}

#[test]
fn deletion_wins_in_either_order() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    for n in 1..=3 {
        vault.put_message(&message(n, "text"), &[0; 32]).unwrap();
    }
    let id = |n: u8| RecordId::new([n; 32]);
    assert_eq!(vault.erase(&[id(1), id(7)], LATER).unwrap(), 1);
    assert_eq!(vault.message(&id(1)).unwrap(), None);
    assert!(vault.is_erased(&id(7), &conversation(), LATER).unwrap());
    assert!(
        !vault
            .is_erased(&id(3), &conversation(), NOW.plus_secs(3))
            .unwrap()
    );

    assert_eq!(
        vault
            .erase_up_to(&conversation(), NOW.plus_secs(2), LATER)
            .unwrap(),
        1
    );
    assert_eq!(vault.erase_up_to(&conversation(), NOW, LATER).unwrap(), 0);
    assert!(
        vault
            .is_erased(&id(8), &conversation(), NOW.plus_secs(2))
            .unwrap()
    );
    assert!(
        !vault
            .is_erased(&id(8), &conversation(), NOW.plus_secs(3))
            .unwrap()
    );

    assert_eq!(vault.expire(LATER).unwrap(), 1);
    assert!(!vault.is_erased(&id(7), &conversation(), LATER).unwrap());
    assert!(vault.messages(&conversation(), 10, NOW).unwrap().is_empty());
}

#[test]
fn lists_and_searches() {
    let (_dir, path) = place();
    let vault = open(&path);
    let known = Conversation {
        id: conversation(),
        title: "Ward 9".into(),
        class: Class::Clinical,
        since: NOW,
        left_epoch: None,
    };
    vault.put_conversation(&known).unwrap();
    assert_eq!(vault.conversations().unwrap(), std::slice::from_ref(&known));
    vault.set_title(&known.id, "Ward 10").unwrap();
    assert_eq!(vault.conversation(&known.id).unwrap().unwrap().title, "Ward 10");

    for (n, text) in ["first: 50% of dose", "second", "third"].iter().enumerate() {
        vault.put_message(&message(n as u8 + 1, text), &[0; 32]).unwrap();
    }
    let texts = |found: Vec<Message>| found.into_iter().map(|m| m.text).collect::<Vec<_>>();
    assert_eq!(
        texts(vault.messages(&known.id, 2, NOW).unwrap()),
        ["second", "third"]
    );
    assert_eq!(
        texts(vault.search("50%", 9, NOW).unwrap()),
        ["first: 50% of dose"]
    );
    assert_eq!(texts(vault.search("IRD", 9, NOW).unwrap()), ["third"]);
    assert!(vault.search("50_", 9, NOW).unwrap().is_empty());
    assert!(vault.search("", 9, LATER).unwrap().is_empty());
}
