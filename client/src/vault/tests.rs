use std::fs;
use std::os::unix::fs::PermissionsExt;

use lanyard_crypto::gateway::{InboxRecord, TextPattern};
use lanyard_crypto::mls::{Class, PersonKey, ReviewTerms};
use lanyard_crypto::record::{Class as EnvelopeClass, Envelope};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId};
use tempfile::TempDir;

use super::conversations::Conversation;
use super::membership::Span;
use super::messages::Message;
use super::outbox::Incoming;
use super::overrides::Override;
use super::reviews::{Reviewed, Reviewer, Seen};
use super::*;
use crate::limits::{HELD_PER_CONVERSATION_MAX, HELD_PER_TRUST_MAX, UNVERIFIED_PER_TRUST_MAX};

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
        place: 0,
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
    assert!(matches!(Vault::open(&path, &VaultKey::new([3; 32])), Err(VaultError::WrongKey(_))));
}

#[test]
fn a_newer_format_is_refused() {
    let (_dir, path) = place();
    open(&path).lock().pragma_update(None, "user_version", 99).unwrap();
    let refused = Vault::open(&path, &VaultKey::new([3; 32]));
    assert!(matches!(refused, Err(VaultError::Newer { found: 99, known: 5 })));
}

#[test]
fn a_vault_of_the_first_format_is_brought_up() {
    let (_dir, path) = place();
    open(&path)
        .lock()
        .execute_batch("DROP TABLE erasure; DROP TABLE erased_after; PRAGMA user_version = 1;")
        .unwrap();
    let mut vault = open(&path);
    vault.erase_after(&conversation(), NOW, 30, LATER).unwrap();
    assert_eq!(vault.end_of(&conversation(), NOW, LATER).unwrap(), NOW.plus_secs(30));
    let (one, other) = (RecordId::new([1; 32]), RecordId::new([2; 32]));
    vault.put_erasure(&one, Timestamp::from_secs(7)).unwrap();
    vault.put_erasure(&one, Timestamp::from_secs(8)).unwrap();
    vault.put_erasure(&other, Timestamp::from_secs(9)).unwrap();
    let waiting = [(one, Timestamp::from_secs(7)), (other, Timestamp::from_secs(9))];
    let told = |vault: &Vault, by: u64| vault.erasures(Timestamp::from_secs(by), 10).unwrap();
    assert_eq!(told(&vault, 9), waiting);
    assert_eq!(told(&vault, 8), waiting[..1], "not before its time");
    vault.drop_erasures(&[one]).unwrap();
    assert_eq!(told(&vault, 9), waiting[1..]);
}

#[test]
fn a_vault_of_the_second_format_is_brought_up() {
    let (_dir, path) = place();
    let older = open(&path);
    let local = older.put_message(&message(1, MARKER), &[0; 32]).unwrap();
    let drop_new =
        "DROP TABLE membership; DROP TABLE written_to; DROP TABLE told_apart; DROP TABLE overridden;
                    PRAGMA user_version = 2;";
    older.lock().execute_batch(drop_new).unwrap();
    drop(older);
    let vault = open(&path);
    assert_eq!(vault.message_at(local).unwrap().unwrap().text, MARKER);
    let key = |n: u8| PersonKey::of(&"RYJ".parse().unwrap(), None, &[n; 32]);
    assert!(!vault.has_written_to(&key(1)).unwrap() && !vault.is_told_apart(&key(1), &key(2)).unwrap());
    vault.put_written_to(&key(1)).unwrap();
    // The one that is meant comes first, whichever key is smaller.
    vault.tell_apart(&key(1), &key(2)).unwrap();
    vault.tell_apart(&key(4), &key(3)).unwrap();
    assert!(vault.has_written_to(&key(1)).unwrap() && !vault.has_written_to(&key(2)).unwrap());
    for (one, other) in [(1, 2), (4, 3)] {
        assert!(vault.is_told_apart(&key(one), &key(other)).unwrap());
        assert!(!vault.is_told_apart(&key(other), &key(one)).unwrap(), "nobody was asked about {other}");
    }
    assert!(!vault.is_told_apart(&key(2), &key(3)).unwrap());
    assert_eq!(vault.override_of(local).unwrap(), None);
    assert_eq!(vault.spans(&conversation(), &Fingerprint::new([1; 32])).unwrap(), []);
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
    let whose = conversation();
    let trust: TrustId = "RXH".parse().unwrap();
    let is_erased =
        |vault: &Vault, n: u8, issued: Timestamp| vault.is_erased(&id(n), &whose, &trust, issued).unwrap();
    assert_eq!(vault.erase(&whose, &[id(1), id(7)], whose.owner(), LATER).unwrap(), 1);
    assert_eq!(vault.message(&id(1)).unwrap(), None);
    assert!(is_erased(&vault, 7, LATER));
    assert!(!is_erased(&vault, 3, NOW.plus_secs(3)));

    assert_eq!(vault.erase_up_to(&conversation(), NOW.plus_secs(2), LATER).unwrap(), 1);
    assert_eq!(vault.erase_up_to(&conversation(), NOW, LATER).unwrap(), 0);
    assert!(is_erased(&vault, 8, NOW.plus_secs(2)));
    assert!(!is_erased(&vault, 8, NOW.plus_secs(3)));

    assert_eq!(vault.expire(LATER).unwrap(), 1);
    assert!(!is_erased(&vault, 7, LATER));
    assert!(vault.messages(&conversation(), 10, NOW).unwrap().is_empty());
}

#[test]
fn messages_end_by_the_shortest_standing_order_and_by_the_retention() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let whose = conversation();
    for n in 1..=3 {
        vault.put_message(&message(n, "text"), &[n; 32]).unwrap();
    }
    let ends = |vault: &Vault| -> Vec<u64> {
        let messages = vault.messages(&whose, 10, NOW).unwrap();
        messages.iter().map(|m| m.expires.as_secs() - m.issued.as_secs()).collect()
    };
    let before = ends(&vault);
    vault.erase_after(&whose, NOW.plus_secs(2), 30, LATER).unwrap();
    vault.erase_after(&whose, NOW.plus_secs(1), 50, LATER).unwrap();
    assert_eq!(ends(&vault), [30, 30, before[2]]);
    // And for what arrives later.
    let end = |secs| vault.end_of(&whose, NOW.plus_secs(secs), LATER).unwrap();
    assert_eq!([end(1), end(2), end(3)], [NOW.plus_secs(31), NOW.plus_secs(32), LATER]);
    let elsewhere = ConversationId::new([2; 16], "RXH".parse().unwrap());
    assert_eq!(vault.end_of(&elsewhere, NOW, LATER).unwrap(), LATER);

    let third = vault.messages(&whose, 10, NOW).unwrap()[2].local;
    vault.limit_one(third, 40).unwrap();
    assert_eq!(ends(&vault), [30, 30, 40]);
    vault.limit(&whose, 20).unwrap();
    vault.limit(&whose, 90).unwrap();
    assert_eq!(ends(&vault), [20, 20, 20], "an end only moves forward");
    assert_eq!(vault.expire(NOW.plus_secs(22)).unwrap(), 2);
    // An order goes when nothing that it names could arrive.
    vault.expire(LATER).unwrap();
    assert_eq!(vault.end_of(&whose, NOW, LATER.plus_secs(900)).unwrap(), LATER.plus_secs(900));
}

#[test]
fn a_deletion_counts_only_from_the_senders_trust_or_the_owner() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let [owner, sender, other]: [TrustId; 3] = ["RYJ", "RXH", "RTD"].map(|code| code.parse().unwrap());
    let id = |n: u8| RecordId::new([n; 32]);
    let whose = conversation();
    let is_erased = |vault: &Vault, n: u8| vault.is_erased(&id(n), &whose, &sender, NOW).unwrap();

    // Of what is to come, of what is here, and of what is held.
    let here = Message { trust: sender.clone(), ..message(2, "text") };
    vault.put_message(&here, &[0; 32]).unwrap();
    assert!(vault.hold(&incoming(3, &whose, &sender), false).unwrap());
    let ids = [id(1), id(2), id(3)];
    assert_eq!(vault.erase(&whose, &ids, &other, LATER).unwrap(), 0);
    assert!(!is_erased(&vault, 1));
    let elsewhere = ConversationId::new([2; 16], other.clone());
    assert_eq!(vault.erase(&elsewhere, &ids, &other, LATER).unwrap(), 0);
    assert!(!is_erased(&vault, 1));
    assert_eq!(vault.take_held(&whose, Some(9)).unwrap().unwrap().id, id(3));

    assert!(vault.hold(&incoming(3, &whose, &sender), false).unwrap());
    assert_eq!(vault.erase(&whose, &ids, &sender, LATER).unwrap(), 1);
    assert!(is_erased(&vault, 1));
    assert_eq!(vault.take_held(&whose, Some(9)).unwrap(), None);
    vault.erase(&whose, &[id(4)], &owner, LATER).unwrap();
    assert!(is_erased(&vault, 4));
}

fn incoming(n: u16, conversation: &ConversationId, signer: &TrustId) -> Incoming {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&n.to_be_bytes());
    if let Ok(n) = u8::try_from(n) {
        id = [n; 32];
    }
    Incoming {
        id: RecordId::new(id),
        signer: signer.clone(),
        envelope: Envelope {
            conversation: conversation.clone(),
            epoch: 9,
            class: EnvelopeClass::Application,
            content: vec![0; 16],
        },
        issued: NOW,
        expires: LATER,
    }
}

#[test]
fn junk_of_one_trust_leaves_room_for_others() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let [bad, good]: [TrustId; 2] = ["RXH", "RTD"].map(|code| code.parse().unwrap());
    let of = |n: u8| ConversationId::new([n; 16], "RYJ".parse().unwrap());
    let room = HELD_PER_CONVERSATION_MAX as u16;
    vault
        .transaction(|vault| {
            let mut held = 0;
            for n in 0..HELD_PER_TRUST_MAX as u16 + 2 {
                let junk = incoming(n + 300, &of((n / room) as u8), &bad);
                held += usize::from(vault.hold(&junk, false)?);
            }
            assert_eq!(held, HELD_PER_TRUST_MAX);
            // No more of the conversation, though the trust has used other conversations' room only.
            for n in 0..room {
                assert!(vault.hold(&incoming(n + 9_000, &of(0), &good), n % 2 == 0)?);
            }
            assert!(!vault.hold(&incoming(299, &of(0), &good), false)?);
            assert!(vault.hold(&incoming(299, &of(1), &good), false)?);
            Ok::<_, VaultError>(())
        })
        .unwrap();
    vault.drop_held_before(&of(0), 9).unwrap();
    assert!(vault.take_held(&of(0), Some(9)).unwrap().is_some());
    vault.drop_held_before(&of(0), 10).unwrap();
    assert!(vault.take_held(&of(0), Some(9)).unwrap().is_none());
    assert!(vault.take_withheld().unwrap().is_empty());
}

#[test]
fn unverified_records_are_kept_in_order_and_bounded() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let [bad, good]: [TrustId; 2] = ["RXH", "RTD"].map(|code| code.parse().unwrap());
    let record = |n: usize| InboxRecord { bytes: n.to_be_bytes().to_vec(), chain: Vec::new() };
    vault
        .transaction(|vault| {
            for n in 0..UNVERIFIED_PER_TRUST_MAX {
                assert!(vault.keep_unverified(&record(n), &bad, NOW)?);
            }
            assert!(!vault.keep_unverified(&record(9_998), &bad, LATER)?);
            assert!(vault.keep_unverified(&record(9_999), &good, LATER)?);
            Ok::<_, VaultError>(())
        })
        .unwrap();
    let numbers = vault.unverified().unwrap();
    assert_eq!(numbers.len(), UNVERIFIED_PER_TRUST_MAX + 1);
    assert_eq!(vault.unverified_at(numbers[3]).unwrap(), Some(record(3)));
    vault.drop_unverified(numbers[3]).unwrap();
    assert_eq!(vault.unverified_at(numbers[3]).unwrap(), None);
    vault.expire(NOW).unwrap();
    assert_eq!(vault.unverified().unwrap(), numbers[UNVERIFIED_PER_TRUST_MAX..]);
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
    assert_eq!(texts(vault.messages(&known.id, 2, NOW).unwrap()), ["second", "third"]);
    assert_eq!(texts(vault.search("50%", 9, NOW).unwrap()), ["first: 50% of dose"]);
    assert_eq!(texts(vault.search("IRD", 9, NOW).unwrap()), ["third"]);
    assert!(vault.search("50_", 9, NOW).unwrap().is_empty());
    assert!(vault.search("", 9, LATER).unwrap().is_empty());
}

#[test]
fn members_are_noted_by_the_epochs_in_which_they_could_read() {
    let (_dir, path) = place();
    let vault = open(&path);
    let device = |n: u8| Fingerprint::new([n; 32]);
    let at = |n: u64| NOW.plus_secs(n);
    // The first one was there before anything was noted.
    vault.members_were(&conversation(), &[device(1)]).unwrap();
    vault.members_are(&conversation(), &[device(1), device(2)], 4, |_| Some(at(4))).unwrap();
    vault.members_are(&conversation(), &[device(1), device(2)], 5, |_| Some(at(5))).unwrap();
    vault.members_are(&conversation(), &[device(1)], 6, |_| Some(at(6))).unwrap();
    let own = |d: &Fingerprint| (*d == device(2)).then_some(at(9));
    vault.members_are(&conversation(), &[device(2), device(1), device(4)], 9, own).unwrap();
    vault.members_were(&conversation(), &[device(2)]).unwrap();
    let spans = |n| vault.spans(&conversation(), &device(n)).unwrap();
    let span = |came, went, since: Option<u64>| Span { came, went, since: since.map(at) };
    assert_eq!(spans(1), [span(0, None, None)]);
    assert_eq!(spans(2), [span(4, Some(6), Some(4)), span(9, None, Some(9))]);
    assert_eq!(spans(3), []);
    assert_eq!(spans(4), [span(9, None, None)]);
    let could_read = |epoch: u64| spans(2).iter().any(|s| s.covers(epoch));
    assert_eq!([3, 4, 5, 6, 8, 9, 99].map(could_read), [false, true, true, false, false, true, true]);
}

#[test]
fn an_override_goes_with_its_message() {
    let (_dir, path) = place();
    let mut vault = open(&path);
    let local = vault.put_message(&message(1, MARKER), &[0; 32]).unwrap();
    let reason = Override { patterns: vec!["nhs-number".into()], reason: "MARKER-reason".into() };
    vault.put_override(local, &reason).unwrap();
    assert_eq!(vault.override_of(local).unwrap(), Some(reason));
    vault.erase(&conversation(), &[RecordId::new([1; 32])], &"RYJ".parse().unwrap(), LATER).unwrap();
    assert_eq!(vault.override_of(local).unwrap(), None);
}

#[test]
fn reviews_and_patterns_are_kept_also_in_a_vault_of_an_earlier_format() {
    let (_dir, path) = place();
    open(&path)
        .lock()
        .execute_batch(
            "DROP TABLE review; DROP TABLE pattern; ALTER TABLE message DROP COLUMN place; PRAGMA user_version = 3;",
        )
        .unwrap();
    let mut vault = open(&path);
    assert_eq!(vault.reviewed(&conversation()).unwrap(), None);
    let terms = ReviewTerms { every_secs: 10, grace_secs: 0 };
    let by = Reviewer { person: [7; 32], known: Some(("Ada".into(), None, "RYJ".into())) };
    let seen = Seen { at: LATER, certificates: vec![vec![1], vec![2, 3]], admins: vec![[7; 32], [8; 32]] };
    let first = Reviewed { at: NOW, terms, by: Some(by) };
    let unknown = Reviewer { person: [7; 32], known: None };
    for reviewed in [first.clone(), Reviewed { by: Some(unknown), ..first }, Reviewed { by: None, ..first }] {
        vault.put_reviewed(&conversation(), &reviewed, &seen).unwrap();
        assert_eq!(vault.reviewed(&conversation()).unwrap(), Some(reviewed), "in place of the one before");
        assert_eq!(vault.seen(&conversation()).unwrap().as_ref(), Some(&seen));
    }
    vault.forget_group(&conversation().to_bytes()).unwrap();
    assert_eq!(vault.reviewed(&conversation()).unwrap(), None, "it goes with the group");
    assert_eq!(vault.seen(&conversation()).unwrap(), None);
    let pattern = |name: &str| TextPattern { name: name.into(), regex: "x".into() };
    for patterns in [vec![pattern("b"), pattern("a")], vec![pattern("c")], vec![]] {
        vault.put_patterns(&patterns).unwrap();
        assert_eq!(vault.patterns().unwrap(), patterns);
    }
}

#[test]
fn a_persons_former_devices_are_known_by_whose_they_were() {
    let (_dir, path) = place();
    let vault = open(&path);
    let person = |n: u8| PersonKey::of(&"RYJ".parse().unwrap(), Some("GMC 1"), &[n; 32]);
    let other = PersonKey::of(&"RYJ".parse().unwrap(), Some("GMC 2"), &[2; 32]);
    let [old, new, others] = [1, 2, 3].map(|n| Fingerprint::new([n; 32]));
    for (whose, device) in [(person(1), old), (person(1), new), (person(1), new), (other, others)] {
        vault.put_device_of(&whose, &device).unwrap();
    }
    vault.members_are(&conversation(), &[old, others], 1, |_| Some(NOW)).unwrap();
    vault.members_are(&conversation(), &[others], 2, |_| Some(NOW)).unwrap();
    let devices = |whose| vault.devices_of(&conversation(), &whose).unwrap().into_iter().collect::<Vec<_>>();
    assert_eq!(devices(person(1)), [old], "the new one was never a member");
    vault.members_are(&conversation(), &[others, new], 3, |_| Some(NOW)).unwrap();
    assert_eq!(devices(person(1)), [old, new]);
    assert_eq!(devices(other), [others]);
}
