//! Receipts: the tree under the signature, inclusion proofs, devices' lines, and what they take on the wire.

use super::fixtures::{NOW, Scene, Trust};
use crate::ids::{from_hex, to_hex};
use crate::limits::{PROOF_BYTES_MAX, RECEIPT_ITEMS_MAX, RECORD_BYTES_MAX};
use crate::record::cose::{Sign1, TAG_SIGN1};
use crate::record::proof::Proofs;
use crate::record::*;
use crate::{ConversationId, Fingerprint, NetworkId, RecordId, Timestamp, cbor};

fn id(n: u64) -> RecordId {
    RecordId::of(&n.to_be_bytes())
}

fn erased(n: u64) -> ReceiptItem {
    ReceiptItem::Erased(Erased { tombstone: id(n), erased: NOW, envelopes: 1, devices: 3 })
}

fn line(scene: &Scene, n: u64) -> DeviceLine {
    DeviceLine::sign(scene.network.id(), id(n), NOW, scene.a.device.fingerprint(), &scene.a.device_key)
}

/// One item of each kind.
fn every_item(scene: &Scene) -> Vec<ReceiptItem> {
    let device = |n| WaitingDevice { device: Fingerprint::new([n; 32]), last_seen: (n > 1).then_some(NOW) };
    vec![
        erased(1),
        ReceiptItem::Held(Held { tombstone: id(2), until: NOW, reference: b"case 9".to_vec() }),
        ReceiptItem::DeviceErased(DeviceErased { tombstone: id(3), line: line(scene, 3).bytes().to_vec() }),
        ReceiptItem::Waiting(Waiting { tombstone: id(1), devices: vec![device(1), device(2)], count: 5 }),
        ReceiptItem::Expired(Expired {
            conversation: ConversationId::new([7; 16], "RXA".parse().unwrap()),
            hour: Timestamp::from_secs(NOW.as_secs() / 3600 * 3600),
            erased: NOW,
            envelopes: 9,
        }),
    ]
}

fn signed(scene: &Scene, items: Vec<ReceiptItem>) -> Result<Decoded, DecodeError> {
    let body = Body::Receipt(Receipt { items });
    sign(scene.for_both(), body, scene.a.node.fingerprint(), &scene.a.node_key)
}

/// The tree of these leaves, as the vectors of Certificate Transparency have it: github.com/transparency-dev/merkle,
/// testonly/reference_test.go. What RFC 9162 changes of RFC 6962 is not the tree.
#[test]
fn the_tree_is_that_of_certificate_transparency() {
    let leaves =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    for (leaf, root) in leaves.iter().zip(roots) {
        tree.push(from_hex(leaf).unwrap());
        assert_eq!(to_hex(tree.root().as_bytes()), root);
    }
}

#[test]
fn items_of_every_kind_make_the_round() {
    let scene = Scene::new();
    let items = every_item(&scene);
    let record = signed(&scene, items.clone()).unwrap();
    let read = Decoded::from_bytes(record.bytes()).unwrap();
    assert_eq!(read.body(), &Body::Receipt(Receipt { items: items.clone() }));
    assert_eq!(Receipt::sorted(items.iter().rev().cloned().collect()), items, "already in order");
    verify(read, &scene.network).unwrap();
}

#[test]
fn any_byte_of_any_item_counts() {
    let scene = Scene::new();
    let record = signed(&scene, every_item(&scene)).unwrap();
    for i in 0..record.bytes().len() {
        let mut altered = record.bytes().to_vec();
        altered[i] ^= 1;
        let taken = Decoded::from_bytes(&altered).is_ok_and(|r| verify(r, &scene.network).is_ok());
        assert!(!taken, "byte {i}");
    }
}

#[test]
fn what_is_unsorted_repeated_or_out_of_bounds_is_refused() {
    let scene = Scene::new();
    let refused =
        |items: Vec<ReceiptItem>| assert!(matches!(signed(&scene, items), Err(DecodeError::Bounds(_))));
    refused(Receipt::sorted(vec![erased(1), erased(2)]).into_iter().rev().collect());
    refused(vec![erased(1), erased(1)]);
    let ReceiptItem::Erased(mut twice) = erased(1) else { panic!("another kind") };
    twice.envelopes = 2;
    refused(vec![erased(1), ReceiptItem::Erased(twice)]);
    // Another device's line stands between two of one device, of which one states a moment that takes fewer bytes.
    let by = |trust: &Trust, at| {
        let (certificate, key) = (trust.device.fingerprint(), &trust.device_key);
        let line = DeviceLine::sign(scene.network.id(), id(3), at, certificate, key).bytes().to_vec();
        ReceiptItem::DeviceErased(DeviceErased { tombstone: id(3), line })
    };
    for (one, other) in [(&scene.a, &scene.b), (&scene.b, &scene.a)] {
        let early = Timestamp::from_secs(1);
        signed(&scene, Receipt::sorted(vec![by(one, early), by(other, early)])).unwrap();
        refused(Receipt::sorted(vec![by(one, early), by(other, early), by(one, NOW)]));
    }
    let other = DeviceErased { tombstone: id(4), line: line(&scene, 3).bytes().to_vec() };
    refused(vec![ReceiptItem::DeviceErased(other)]);
    let device = |n: u8| WaitingDevice { device: Fingerprint::new([n; 32]), last_seen: None };
    let waiting = |devices, count| vec![ReceiptItem::Waiting(Waiting { tombstone: id(1), devices, count })];
    refused(waiting(vec![device(1)], 0));
    refused(waiting(vec![device(2), device(1)], 2));
    assert!(signed(&scene, waiting((0..17).map(device).collect(), 17)).is_err());
    signed(&scene, waiting((0..16).map(device).collect(), 17)).unwrap();
    let held = |len| ReceiptItem::Held(Held { tombstone: id(1), until: NOW, reference: vec![0; len] });
    refused(vec![held(65)]);
    signed(&scene, vec![held(64)]).unwrap();
}

#[test]
fn a_proof_shows_its_item_and_no_other() {
    let scene = Scene::new();
    for size in [1, 2, 3, 5, 8, 500] {
        let items = Receipt::sorted((0..size).map(erased).collect());
        let record = signed(&scene, items.clone()).unwrap();
        for item in items.iter().step_by(1 + items.len() / 9) {
            let proof = prove(&record, item).unwrap();
            let shown = check_proof(&proof, item, &scene.network).unwrap();
            assert_eq!(shown.header, *record.header());
            assert_eq!(shown.certificate, scene.a.node.fingerprint());
            assert!(matches!(shown.signer, Signer::Node { trust, .. } if trust.as_str() == "RXA"));
            let other = erased(size + 1);
            assert_eq!(check_proof(&proof, &other, &scene.network).unwrap_err(), ProofError::NotIncluded);
            assert!(prove(&record, &other).is_none());
            assert!(proof.len() < 700, "{} bytes", proof.len());
        }
    }
    let record = signed(&scene, Receipt::sorted((0..5).map(erased).collect())).unwrap();
    let Body::Receipt(receipt) = record.body() else { panic!("no receipt") };
    let proof = prove(&record, &receipt.items[2]).unwrap();
    for i in 0..proof.len() {
        for mask in [1, 0x80] {
            let mut altered = proof.clone();
            altered[i] ^= mask;
            let shown = check_proof(&altered, &receipt.items[2], &scene.network);
            assert!(shown.is_err(), "byte {i} ^ {mask:#x}");
        }
    }
}

#[test]
fn a_proof_has_no_other_header() {
    let scene = Scene::new();
    let record = signed(&scene, Receipt::sorted((0..5).map(erased).collect())).unwrap();
    let proof = prove(&record, &erased(2)).unwrap();
    check_proof(&proof, &erased(2), &scene.network).unwrap();
    let altered = |change: &dyn Fn(&mut Proofs)| {
        let Sign1(protected, mut proofs, payload, signature): Sign1<Proofs> =
            cbor::from_slice_tagged(TAG_SIGN1, &proof, PROOF_BYTES_MAX).unwrap();
        change(&mut proofs);
        let proof = cbor::to_vec_tagged(TAG_SIGN1, &Sign1(protected, proofs, payload, signature));
        let refused = check_proof(&proof, &erased(2), &scene.network).unwrap_err();
        assert!(matches!(refused, ProofError::Shape(DecodeError::Cose(_))), "{refused}");
    };
    altered(&|proofs| drop(proofs.insert(397, [].into())));
    altered(&|proofs| drop(proofs.get_mut(&396).unwrap().insert(-2, Vec::new())));
    altered(&|proofs| {
        let paths = proofs.get_mut(&396).unwrap().get_mut(&-1).unwrap();
        paths.push(paths[0].clone());
    });
    altered(&|proofs| proofs.clear());
}

#[test]
fn a_seal_is_of_its_content() {
    let scene = Scene::new();
    let (network, a) = (&scene.network, &scene.a);
    let made = seal(network.id(), [7; 32], NOW, a.node.fingerprint(), &a.node_key);
    assert_eq!(made.len(), 191);
    let sealed = check_seal(&made, [7; 32], network).unwrap();
    assert!(matches!(sealed.signer, Signer::Node { trust, .. } if trust.as_str() == "RXA"));
    assert_eq!(sealed.at, NOW);
    assert_eq!(check_seal(&made, [8; 32], network).unwrap_err(), SealError::OtherContent);
    for i in 0..made.len() {
        let mut altered = made.clone();
        altered[i] ^= 1;
        assert!(check_seal(&altered, [7; 32], network).is_err(), "byte {i}");
    }
    // A device's line is no seal.
    check_seal(line(&scene, 1).bytes(), *id(1).as_bytes(), network).unwrap_err();
}

#[test]
fn a_line_is_of_its_device() {
    let scene = Scene::new();
    let line = line(&scene, 1);
    let read = DeviceLine::from_bytes(line.bytes()).unwrap();
    assert_eq!(read, line);
    assert_eq!((read.network(), read.tombstone(), read.erased()), (scene.network.id(), id(1), NOW));
    assert!(read.bytes().len() <= crate::limits::DEVICE_LINE_BYTES_MAX);
    read.verify(&scene.a.device).unwrap();
    read.verify(&scene.b.device).unwrap_err();
    // The right certificate, named by who does not have its key; and the key of the right device under another label.
    let certificate = scene.a.device.fingerprint();
    DeviceLine::sign(NetworkId::new([1; 32]), id(1), NOW, certificate, &scene.b.device_key)
        .verify(&scene.a.device)
        .unwrap_err();
    for i in 0..line.bytes().len() {
        let mut altered = line.bytes().to_vec();
        altered[i] ^= 1;
        let taken = DeviceLine::from_bytes(&altered).is_ok_and(|l| l.verify(&scene.a.device).is_ok());
        assert!(!taken, "byte {i}");
    }
}

#[test]
fn a_receipt_for_a_wipe_is_its_devices_alone() {
    let scene = Scene::new();
    let (device, key) = (&scene.a.device, &scene.a.device_key);
    let receipt = WipeReceipt::sign(7, NOW, device.fingerprint(), key);
    let read = WipeReceipt::from_bytes(receipt.bytes()).unwrap();
    assert_eq!((read.device(), read.list(), read.wiped()), (device.fingerprint(), 7, NOW));
    read.verify(device).unwrap();
    assert!(read.verify(&scene.b.device).is_err(), "it names another certificate");
    let forged = WipeReceipt::sign(7, NOW, device.fingerprint(), &scene.b.device_key);
    assert!(WipeReceipt::from_bytes(forged.bytes()).unwrap().verify(device).is_err());
    // One thing that a device signs is not another.
    assert!(WipeReceipt::from_bytes(line(&scene, 1).bytes()).is_err());
    for at in 0..receipt.bytes().len() {
        let mut altered = receipt.bytes().to_vec();
        altered[at] ^= 1;
        let taken = WipeReceipt::from_bytes(&altered).is_ok_and(|r| r.verify(device).is_ok());
        assert!(!taken, "byte {at}");
    }
}

/// Issue 4 asks for under 100 bytes per erased record when batched.
#[test]
fn a_batch_takes_under_100_bytes_per_erased_record() {
    let scene = Scene::new();
    let [receipt] = &Receipt::split((0..RECEIPT_ITEMS_MAX as u64).map(erased).collect())[..] else {
        panic!("one receipt has room for it")
    };
    let bytes = signed(&scene, receipt.items.clone()).unwrap().bytes().len();
    let each = bytes as f64 / RECEIPT_ITEMS_MAX as f64;
    assert!(receipt.items.iter().all(|item| item.leaf().len() == 48));
    assert!(each < 52.0, "{bytes} bytes for {RECEIPT_ITEMS_MAX} records of one message: {each:.1} each");
}

#[test]
fn what_one_receipt_does_not_hold_goes_into_the_next() {
    let scene = Scene::new();
    let lines: Vec<_> = (0..600)
        .map(|n| {
            ReceiptItem::DeviceErased(DeviceErased {
                tombstone: id(n),
                line: line(&scene, n).bytes().to_vec(),
            })
        })
        .collect();
    let split = Receipt::split(lines.clone());
    let count: usize = split.iter().map(|r| r.items.len()).sum();
    assert_eq!(count, lines.len());
    assert!(split.len() > 1);
    for receipt in split {
        assert!(signed(&scene, receipt.items).unwrap().bytes().len() <= RECORD_BYTES_MAX);
    }
}
