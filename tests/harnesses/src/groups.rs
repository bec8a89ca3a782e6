//! MLS: what anyone reads of a message, key packages, and a conversation as its owner trust's node sees it.

use std::sync::Arc;

use lanyard_crypto::limits::HANDSHAKE_RECORD_BYTES_MAX;
use lanyard_crypto::mls::peek::Peek;
use lanyard_crypto::mls::{PublicGroup, key_package as package};
use lanyard_crypto::network::Network;
use lanyard_crypto::{ConversationId, RecordId};
use mls_rs::MlsMessage;

use crate::fixtures::{self, NOW};
use crate::quiet::assert_quiet;

/// A group of a device of each trust in its first epoch, as RXA's node sees it. Made by `corpus`, as are the others.
const SNAPSHOT: &[u8] = include_bytes!("../fixtures/group.snapshot");
/// Its GroupContext, which is signed with each handshake message.
const CONTEXT: &[u8] = include_bytes!("../fixtures/group.context");
/// A commit of RXA's device in the epoch before, in which the conversation was founded.
const FIRST_COMMIT: &[u8] = include_bytes!("../fixtures/group.first-commit");

/// The end of a PublicMessage of a member: a signature, and two tags of HMAC-SHA-384, each with its length.
const SIGNATURE: usize = 2 + 64;
const TAGS: usize = 2 * (1 + 48);
/// Protocol version and wire format, at the beginning of every message.
const HEAD: usize = 4;

/// The conversation of the fixtures.
pub fn conversation() -> ConversationId {
    ConversationId::new([9; 16], fixtures::trusts()[0].id.clone())
}

/// Whatever can be read of a message without a key.
pub(crate) fn peek(bytes: &[u8]) -> bool {
    match Peek::of(bytes, HANDSHAKE_RECORD_BYTES_MAX) {
        Ok(seen) => {
            if let Peek::Public { group, .. } | Peek::Private { group, .. } = &seen {
                assert!(group.len() <= bytes.len());
            }
            let again = MlsMessage::from_bytes(bytes).unwrap().to_bytes().unwrap();
            assert_eq!(again, bytes, "a message has one encoding");
            true
        }
        Err(why) => {
            assert_quiet(&why, bytes);
            false
        }
    }
}

/// A contact key package, as a node looks at it before it lists it.
pub(crate) fn key_package(bytes: &[u8]) -> bool {
    match package::inspect(Arc::new(fixtures::network()), bytes, NOW) {
        Ok(summary) => {
            assert!(summary.expires >= NOW);
            assert!(!summary.reference.is_empty());
            assert_eq!(MlsMessage::from_bytes(bytes).unwrap().to_bytes().unwrap(), bytes);
            true
        }
        Err(why) => {
            assert_quiet(&why, bytes);
            false
        }
    }
}

/// A handshake message, as the node of the owner trust takes it. The first byte says which one; odd ones are signed anew by
/// RXA's device, which administers the group, so that a fuzzer comes behind the signature.
pub(crate) fn group(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else { return false };
    let mut bytes = bytes.to_vec();
    let outcome = match kind {
        0 => accept(&bytes),
        1 => resign_commit(&mut bytes, CONTEXT).is_some() && accept(&bytes),
        2 => propose(&bytes),
        4 => observe(&bytes),
        5 => resign_info(&mut bytes).is_some() && observe(&bytes),
        _ => false,
    };
    // What it says of itself must not depend on what it was shown.
    if *kind < 4 {
        let untouched = load();
        assert_eq!((untouched.epoch(), untouched.conversation()), (1, &conversation()));
    }
    outcome
}

fn load() -> PublicGroup<Network> {
    PublicGroup::load(Arc::new(fixtures::network()), SNAPSHOT, None).expect("the fixture is a snapshot")
}

fn accept(commit: &[u8]) -> bool {
    let mut group = load();
    let (before, members) = (group.snapshot().unwrap(), group.members().unwrap());
    match group.accept_commit(commit, NOW) {
        Ok(accepted) => {
            assert_eq!((accepted.epoch, group.epoch()), (2, 2));
            assert!(members.iter().any(|m| m.device == accepted.committer));
            assert_consistent(&group);
            assert!(group.accept_commit(commit, NOW).is_err(), "one commit for each epoch");
            true
        }
        Err(why) => {
            assert_quiet(&why, commit);
            assert_eq!(group.snapshot().unwrap(), before, "what is refused changes nothing");
            false
        }
    }
}

fn propose(proposal: &[u8]) -> bool {
    let mut group = load();
    let accepted = group.accept_proposal(proposal, NOW).map_err(|why| assert_quiet(&why, proposal));
    assert_consistent(&group);
    accepted.is_ok()
}

/// A conversation that is founded by this GroupInfo, and goes on with a commit of its founder.
fn observe(info: &[u8]) -> bool {
    let network = Arc::new(fixtures::network());
    let mut group = match PublicGroup::observe(network, &conversation(), info, NOW) {
        Ok(group) => group,
        Err(why) => {
            assert_quiet(&why, info);
            return false;
        }
    };
    assert_consistent(&group);
    let epoch = group.epoch();
    if let Some(context) = context_of(info) {
        let mut commit = FIRST_COMMIT.to_vec();
        let at = HEAD + 1 + conversation().to_bytes().len();
        commit[at..at + 8].copy_from_slice(&epoch.to_be_bytes());
        resign_commit(&mut commit, context).expect("the fixture is a commit");
        match group.accept_commit(&commit, NOW) {
            Ok(accepted) => {
                assert!(accepted.epoch > epoch, "epochs grow: {epoch}, then {}", accepted.epoch);
                assert_consistent(&group);
            }
            Err(why) => assert_quiet(&why, info),
        }
    }
    true
}

fn assert_consistent(group: &PublicGroup<Network>) {
    let (trusts, members) = (group.trusts().unwrap(), group.members().unwrap());
    assert!(!members.is_empty() && members.iter().all(|m| trusts.contains(&m.device.trust)));
    let stored = group.snapshot().unwrap();
    let again = PublicGroup::load(Arc::new(fixtures::network()), &stored, None).expect("it was stored");
    assert_eq!((again.epoch(), again.members().unwrap()), (group.epoch(), members));
}

/// Signs a PublicMessage of a member anew (RFC 9420, section 6.1), with RXA's device's key. None if it is too short for one.
fn resign_commit(bytes: &mut [u8], context: &[u8]) -> Option<()> {
    let end = bytes.len().checked_sub(SIGNATURE + TAGS).filter(|end| *end > HEAD)?;
    let signed = [&bytes[..end], context].concat();
    let signature = sign("FramedContentTBS", &signed);
    bytes[end..end + 2].copy_from_slice(&[0x40, 64]);
    bytes[end + 2..end + SIGNATURE].copy_from_slice(&signature);
    Some(())
}

/// The same for a GroupInfo (section 12.4.3).
fn resign_info(bytes: &mut [u8]) -> Option<()> {
    let end = bytes.len().checked_sub(SIGNATURE).filter(|end| *end > HEAD)?;
    let signature = sign("GroupInfoTBS", &bytes[HEAD..end]);
    bytes[end..end + 2].copy_from_slice(&[0x40, 64]);
    bytes[end + 2..].copy_from_slice(&signature);
    Some(())
}

/// SignWithLabel (section 5.1.2).
fn sign(label: &str, content: &[u8]) -> [u8; 64] {
    let label = format!("MLS 1.0 {label}");
    let mut signed = vec![label.len() as u8];
    signed.extend(label.as_bytes());
    signed.extend((0x8000_0000 | content.len() as u32).to_be_bytes());
    if content.len() < 1 << 14 {
        signed.truncate(1 + label.len());
        signed.extend((0x4000 | content.len() as u16).to_be_bytes());
    }
    signed.extend(content);
    fixtures::trusts()[0].device_key.sign(&signed)
}

/// The GroupContext at the beginning of a GroupInfo: version, suite, group id, epoch, two hashes, extensions.
pub fn context_of(info: &[u8]) -> Option<&[u8]> {
    let info = info.get(HEAD..)?;
    let mut at = 4;
    at = skip(info, at)? + 8;
    for _ in 0..3 {
        at = skip(info, at)?;
    }
    info.get(..at)
}

/// The place behind a vector of variable size (section 2.1.2).
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let first = usize::from(*bytes.get(at)?);
    let (width, mut length) = match first >> 6 {
        0 => (1, first & 0x3f),
        1 => (2, first & 0x3f),
        _ => (4, first & 0x3f),
    };
    for next in 1..width {
        length = length << 8 | usize::from(*bytes.get(at + next)?);
    }
    Some(at + width + length)
}

/// A name for a corpus file: the hash of what is in it, so that the same input is stored once.
pub fn name_of(bytes: &[u8]) -> String {
    RecordId::of(bytes).to_string()[..16].to_owned()
}

/// A contact key package of RXA's device.
pub(crate) const PACKAGE: &[u8] = include_bytes!("../fixtures/package");
/// The submission that founds the conversation: a GroupInfo, the first commit, and the welcome for whom it adds.
pub(crate) const FOUNDING: &[u8] = include_bytes!("../fixtures/submission");

/// A PrivateMessage with application data, by hand, after the grammar of RFC 9420, section 6.3.
pub(crate) fn private_message(conversation: &ConversationId, epoch: u64, n: u8) -> Vec<u8> {
    let mut bytes = framed(2, conversation, epoch);
    bytes.extend([1, 0, 2, 9, 9, 2, 1, n]);
    bytes
}

/// A PublicMessage with an empty commit of the first member, by hand, after section 6.2.
pub(crate) fn public_commit(conversation: &ConversationId, epoch: u64, n: u8) -> Vec<u8> {
    let mut bytes = framed(1, conversation, epoch);
    bytes.extend([1, 0, 0, 0, 0, 0, 3, 0, 0, 2, 1, n, 1, 7, 1, 7]);
    bytes
}

/// A Welcome for one new member, whose key package has a reference of so many bytes, by hand, after section 12.4.3.1.
pub(crate) fn welcome(reference_len: usize) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 3, 0xf0, 0x4e];
    let reference_len = reference_len.min(50);
    bytes.extend([1 + reference_len as u8 + 4, reference_len as u8]);
    bytes.resize(bytes.len() + reference_len, 3);
    bytes.extend([1, 5, 1, 6, 1, 7]);
    bytes
}

fn framed(wire: u8, conversation: &ConversationId, epoch: u64) -> Vec<u8> {
    let group = conversation.to_bytes();
    let mut bytes = vec![0, 1, 0, wire, group.len() as u8];
    bytes.extend(group);
    bytes.extend(epoch.to_be_bytes());
    bytes
}
