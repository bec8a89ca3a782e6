//! What is no record: bytes that were altered, bounds that are passed, and whatever else may come from outside.

use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::fixtures::{self, DAY, NOW, Scene};
use crate::cbor::{self, CborError};
use crate::limits::{
    CUSTODIANS_MAX, HANDSHAKE_RECORD_BYTES_MAX, LIFE_SECS_MAX, RECEIPT_ITEMS_MAX, RECORD_BYTES_MAX,
    TOMBSTONE_TARGETS_MAX,
};
use crate::record::*;
use crate::{RecordId, Timestamp};

#[test]
fn a_record_with_any_byte_altered_is_refused() {
    let scene = Scene::new();
    for record in scene.one_of_each() {
        let kind = record.body().kind().name();
        for i in 0..record.bytes().len() {
            for mask in [0x01, 0x80] {
                let mut altered = record.bytes().to_vec();
                altered[i] ^= mask;
                let taken = Decoded::from_bytes(&altered).is_ok_and(|r| verify(r, &scene.network).is_ok());
                assert!(!taken, "{kind}, byte {i} ^ {mask:#x}");
            }
        }
        for cut in 0..record.bytes().len() {
            assert!(Decoded::from_bytes(&record.bytes()[..cut]).is_err(), "{kind}, cut at {cut}");
        }
        let longer = [&record.bytes()[..], &[0]].concat();
        assert!(Decoded::from_bytes(&longer).is_err(), "{kind}, a byte more");
    }
}

#[test]
fn headers_are_bounded() {
    let scene = Scene::new();
    let sign =
        |header: Header, body: Body| super::sign(header, body, scene.a.node.fingerprint(), &scene.a.node_key);
    let both = scene.for_both();
    let bounds = |header: Header| sign(header, scene.envelope()).unwrap_err();
    let unsorted = Header { custodians: both.custodians.iter().rev().cloned().collect(), ..both.clone() };
    let twice = Header { custodians: vec![both.custodians[0].clone(); 2], ..both.clone() };
    let many: Vec<String> = (0..=CUSTODIANS_MAX).map(|n| format!("R{n:04}")).collect();
    let many = Header { custodians: many.iter().map(|c| c.parse().unwrap()).collect(), ..both.clone() };
    let none = Header { custodians: Vec::new(), ..both.clone() };
    let over = Header { expires: both.issued, ..both.clone() };
    let long = Header { expires: both.issued.plus_secs(LIFE_SECS_MAX + 1), ..both.clone() };
    let nowhere = Header { network: None, ..both.clone() };
    for header in [unsorted, twice, many, none, over, long, nowhere] {
        assert!(matches!(bounds(header), DecodeError::Bounds(_)));
    }
    let last = Header {
        issued: Timestamp::from_secs(u64::MAX),
        expires: Timestamp::from_secs(u64::MAX),
        ..both.clone()
    };
    assert!(matches!(bounds(last), DecodeError::Bounds(_)));
    // What is for all names no custodian, and a charter is no COSE_Sign1.
    assert!(matches!(sign(both, scene.crl()), Err(DecodeError::Bounds(_))));
    let charter = scene.charter.body().clone();
    assert!(matches!(sign(fixtures::header(None, &[], DAY), charter), Err(DecodeError::Cose(_))));
}

#[test]
fn bodies_are_bounded() {
    let scene = Scene::new();
    let by = |header: Header, body: Body| sign(header, body, scene.a.node.fingerprint(), &scene.a.node_key);
    let tombstone = |ids: Vec<RecordId>, reference_len: usize| {
        let Body::Tombstone(tombstone) = scene.tombstone() else { panic!("no tombstone") };
        let target = Target::Envelopes(ids);
        let body = Tombstone { target, reference: vec![0; reference_len], ..tombstone };
        by(scene.for_both(), Body::Tombstone(body)).map(drop)
    };
    let ids = |count: usize| (0..count as u64).map(id).collect::<Vec<_>>();
    tombstone(ids(TOMBSTONE_TARGETS_MAX), 64).unwrap();
    let reversed = ids(2).into_iter().rev().collect();
    for (ids, reference_len) in
        [(ids(0), 0), (ids(TOMBSTONE_TARGETS_MAX + 1), 0), (ids(1), 65), (reversed, 0), (vec![id(1); 2], 0)]
    {
        assert!(matches!(tombstone(ids, reference_len), Err(DecodeError::Bounds(_))));
    }
    let receipt = |count: u64| {
        let item =
            |n| ReceiptItem::Erased(Erased { tombstone: id(n), erased: NOW, envelopes: 1, devices: 0 });
        by(scene.for_both(), Body::Receipt(Receipt { items: (0..count).map(item).collect() })).map(drop)
    };
    receipt(RECEIPT_ITEMS_MAX as u64).unwrap();
    for count in [0, RECEIPT_ITEMS_MAX as u64 + 1] {
        assert!(receipt(count).is_err());
    }
    let head = |number, dropped| {
        let hash = crate::AuditHash::new([6; 32]);
        by(scene.for_all(), Body::Head(Head { number, hash, dropped })).map(drop)
    };
    head(1, 1).unwrap();
    for (number, dropped) in [(0, 0), (1, 2)] {
        assert!(matches!(head(number, dropped), Err(DecodeError::Bounds(_))));
    }
    let entry = |change: fn(&mut Entry)| {
        let Body::Entry(mut entry) = scene.entry() else { panic!("no entry") };
        change(&mut entry);
        by(scene.for_all(), Body::Entry(entry)).map(drop)
    };
    for change in [
        (|e| e.chain.truncate(1)) as fn(&mut Entry),
        |e| e.chain.push(ByteBuf::new()),
        |e| e.chain[0] = ByteBuf::from(vec![0; 8192]),
        |e| e.key_package = Some(ByteBuf::from(vec![0; 16 * 1024 + 1])),
        |e| e.addresses = vec![String::new(); 9],
        |e| e.addresses = vec!["a".repeat(257)],
    ] {
        assert!(matches!(entry(change), Err(DecodeError::Bounds(_))));
    }
}

/// Ids in ascending order.
fn id(n: u64) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    RecordId::new(bytes)
}

#[test]
fn what_is_too_large_is_refused() {
    let scene = Scene::new();
    let envelope = |class, len| {
        let Body::Envelope(envelope) = scene.envelope() else { panic!("no envelope") };
        let body = Body::Envelope(Envelope { class, content: vec![7; len], ..envelope });
        sign(scene.for_both(), body, scene.a.node.fingerprint(), &scene.a.node_key)
    };
    let frame = envelope(Class::Commit, RECORD_BYTES_MAX).unwrap().bytes().len() - RECORD_BYTES_MAX;
    let full = envelope(Class::Application, RECORD_BYTES_MAX - frame).unwrap();
    assert!(full.bytes().len() <= RECORD_BYTES_MAX);
    let too_long =
        |r: Result<Decoded, DecodeError>| matches!(r, Err(DecodeError::Cbor(CborError::TooLong { .. })));
    assert!(too_long(envelope(Class::Application, RECORD_BYTES_MAX - 64)));
    for class in [Class::Commit, Class::Welcome, Class::Submission] {
        envelope(class, HANDSHAKE_RECORD_BYTES_MAX - 2 * frame).unwrap();
        assert!(too_long(envelope(class, HANDSHAKE_RECORD_BYTES_MAX - 64)));
    }
    assert!(matches!(envelope(Class::Application, 0), Err(DecodeError::Bounds(_))));
}

#[test]
fn what_is_too_deep_or_claims_too_much_is_refused() {
    let scene = Scene::new();
    let bytes = scene.by_node(scene.envelope()).bytes().to_vec();
    let nested = [vec![0xd2], vec![0x81; 100_000], vec![0]].concat();
    let maps = [vec![0xd2, 0x84], [0xa1, 0].repeat(50_000)].concat();
    let claims = |at: usize| [&bytes[..at], &[0x9b, 0x7f, 255, 255, 255, 255, 255, 255, 255]].concat();
    let tagged_twice = [&[0xd2][..], &bytes].concat();
    let long_tag = [&[0xd8, 18][..], &bytes[1..]].concat();
    for bad in
        [nested, maps, claims(1), claims(2), tagged_twice, long_tag, Vec::new(), vec![0xd2], vec![0xd8, 98]]
    {
        assert!(Decoded::from_bytes(&bad).is_err());
    }
    // The same inside the payload, under a good frame.
    let body = [vec![0xa6, 0, 1, 1, 0xf6, 2], vec![0x81; 10_000]].concat();
    assert!(Decoded::from_bytes(&reframed(&bytes, body)).is_err());
}

#[test]
fn a_later_version_is_named_as_one() {
    let scene = Scene::new();
    let record = scene.by_node(scene.envelope());
    let mut payload = payload_of(record.bytes());
    assert_eq!(payload[..3], [0xa6, 0, VERSION]);
    payload[2] = VERSION + 1;
    let later = Decoded::from_bytes(&reframed(record.bytes(), payload));
    assert_eq!(later.unwrap_err(), DecodeError::Version(VERSION + 1));
}

fn payload_of(record: &[u8]) -> Vec<u8> {
    frame_of(record).2.into_vec()
}

fn reframed(record: &[u8], payload: Vec<u8>) -> Vec<u8> {
    let (protected, _, signature) = {
        let f = frame_of(record);
        (f.0, f.1, f.3)
    };
    cbor::to_vec_tagged(18, &(protected, Nothing {}, ByteBuf::from(payload), signature))
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Nothing {}

fn frame_of(record: &[u8]) -> (ByteBuf, Nothing, ByteBuf, ByteBuf) {
    cbor::from_slice_tagged(18, record, usize::MAX).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A panic is a failure. What is taken all the same is exactly what was given.
    #[test]
    fn nothing_from_outside_panics(
        which in 0..6usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4u8), 1..8),
    ) {
        let mut bytes = samples()[which].clone();
        for (at, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        if let Ok(record) = Decoded::from_bytes(&bytes) {
            prop_assert_eq!(&record.bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag in prop_oneof![Just(18), Just(98)]) {
        let tagged = if tag == 18 { [&[0xd2][..], &bytes].concat() } else { [&[0xd8, 98][..], &bytes].concat() };
        prop_assert!(Decoded::from_bytes(&bytes).is_err());
        prop_assert!(Decoded::from_bytes(&tagged).is_err());
    }
}

fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| Scene::new().one_of_each().iter().map(|r| r.bytes().to_vec()).collect())
}
