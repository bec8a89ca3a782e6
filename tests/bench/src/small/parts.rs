//! The parts, and their yardsticks. The same functions serve `cargo bench` and `scripts/bench small`.

use std::hint::black_box;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use criterion::{BatchSize, Criterion};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey, verify_batch};
use lanyard_crypto::RecordId;
use lanyard_crypto::record::Decoded;
use lanyard_replica::frame::Frame;
use lanyard_replica::{Arrival, Input, Source, arrival, fixtures};
use lanyard_storage::{Batch, MemoryStore, Overlay};
use sha2::{Digest, Sha256};

use crate::custodian::{Custodian, frames, look_at};
use crate::network::{NOW, Network, SPREAD, scattered};

const RECORD_BYTES: usize = 1024;
const BATCH: usize = 256;
/// Of one frame, and of one step.
const FRAME: usize = 1024;
const STEP: usize = 512;
/// Ids of two sets that are compared, and those that each has alone.
const IDS: u64 = 10_000;
const APART: u64 = 100;

/// Measures all parts and all yardsticks.
pub fn measure(criterion: &mut Criterion) {
    let network = Network::new();
    let message = |n| network.message(n, scattered(n, SPREAD), RECORD_BYTES);
    let records: Vec<_> = (0..FRAME as u64).map(message).collect();
    signatures(criterion, &network, &records);
    bytes(criterion, &records);
    values(criterion);
    sets(criterion);
    engine(criterion, &records);
}

fn signatures(criterion: &mut Criterion, network: &Network, records: &[Decoded]) {
    let custodian = Custodian::with(Box::new(MemoryStore::new()), None).expect("a store in memory opens");
    let believed = custodian.site.replica.network();
    for (id, count) in [("verify_one", 1), ("verify_batch", BATCH)] {
        criterion.bench_function(id, |bencher| {
            let records = || records[..count].iter().cloned().map(Ok).collect();
            bencher.iter_batched(
                records,
                |records| arrival::verify(records, &believed),
                BatchSize::LargeInput,
            );
        });
    }
    let key = SigningKey::from_bytes(&[7; 32]);
    let messages: Vec<&[u8]> = records[..BATCH].iter().map(|record| &**record.bytes()).collect();
    let signatures: Vec<Signature> = messages.iter().map(|message| key.sign(message)).collect();
    let keys: Vec<VerifyingKey> = vec![key.verifying_key(); BATCH];
    criterion.bench_function("bare_verify_one", |bencher| {
        bencher.iter(|| keys[0].verify_strict(black_box(messages[0]), &signatures[0]));
    });
    criterion.bench_function("bare_verify_batch", |bencher| {
        bencher.iter(|| verify_batch(black_box(&messages), &signatures, &keys));
    });
    let mut n = 1 << 40;
    criterion.bench_function("sign", |bencher| {
        bencher.iter(|| {
            n += 1;
            network.message(n, NOW, RECORD_BYTES)
        });
    });
    criterion.bench_function("bare_sign", |bencher| bencher.iter(|| key.sign(black_box(messages[0]))));
}

fn bytes(criterion: &mut Criterion, records: &[Decoded]) {
    let record = records[0].bytes();
    criterion.bench_function("decode", |bencher| bencher.iter(|| arrival::decode(black_box(record)).is_ok()));
    criterion.bench_function("hash", |bencher| bencher.iter(|| RecordId::of(black_box(record))));
    let frame = frames(records).remove(0);
    criterion.bench_function("decode_frame", |bencher| bencher.iter(|| Frame::from_bytes(black_box(&frame))));
    let decoded = Frame::from_bytes(&frame).expect("a frame of our own");
    criterion.bench_function("encode_frame", |bencher| bencher.iter(|| black_box(&decoded).to_bytes()));
    criterion.bench_function("copy_frame", |bencher| bencher.iter(|| black_box(&frame).clone()));
}

/// As the store seals a record: under a key of its own. The yardstick has made its one key ready before.
fn values(criterion: &mut Criterion) {
    let (value, nonce, aad) = (vec![7; RECORD_BYTES], [0; 12].into(), &b"row"[..]);
    let payload = || Payload { msg: &value, aad };
    let new = || Aes256Gcm::new(&black_box([9; 32]).into());
    let ready = new();
    let sealed = ready.encrypt(&nonce, payload()).expect("short enough");
    criterion.bench_function("seal", |bencher| bencher.iter(|| new().encrypt(&nonce, payload())));
    criterion.bench_function("bare_seal", |bencher| bencher.iter(|| ready.encrypt(&nonce, payload())));
    let payload = || Payload { msg: black_box(&sealed), aad };
    criterion.bench_function("open", |bencher| bencher.iter(|| new().decrypt(&nonce, payload())));
    criterion.bench_function("bare_open", |bencher| bencher.iter(|| ready.decrypt(&nonce, payload())));
}

fn sets(criterion: &mut Criterion) {
    let id = |n: u64| {
        let hash: [u8; 32] = Sha256::digest(n.to_be_bytes()).into();
        *hash.first_chunk::<16>().expect("a hash has 32 bytes")
    };
    let ours: Vec<_> = (0..IDS).map(id).collect();
    let theirs: Vec<_> = (APART..IDS + APART).map(id).collect();
    criterion.bench_function("compare", |bencher| bencher.iter(|| fixtures::compare(&ours, &theirs)));
    criterion.bench_function("hash_ids", |bencher| {
        let hash = |id: &[u8; 16]| Sha256::new().chain_update([7; 16]).chain_update(id).finalize();
        bencher.iter(|| ours.iter().chain(&theirs).fold(0, |sum: u8, id| sum.wrapping_add(hash(id)[0])));
    });
}

fn engine(criterion: &mut Criterion, records: &[Decoded]) {
    let frame = frames(&records[..STEP]).remove(0);
    let fresh = || {
        let custodian = Custodian::with(Box::new(MemoryStore::new()), None).expect("a store in memory opens");
        let arrivals = look_at(&frame, &custodian.site.replica.network(), &&*custodian.site.store)
            .expect("a frame of our own");
        (custodian, arrivals)
    };
    let step = |custodian: &mut Custodian, arrivals: Vec<Arrival>| -> Batch {
        let from = Source::Peer(custodian.network.trusts[0].node_id());
        let view = Overlay::with(&*custodian.site.store, Batch::new());
        let step = custodian.site.replica.step(Input::Records { from, arrivals }, NOW, &view);
        step.expect("memory does not fail").batch
    };
    criterion.bench_function("step", |bencher| {
        let routine = |(mut custodian, arrivals)| {
            let batch = step(&mut custodian, arrivals);
            (custodian, batch)
        };
        bencher.iter_batched(fresh, routine, BatchSize::PerIteration);
    });
    criterion.bench_function("commit", |bencher| {
        let stepped = || {
            let (mut custodian, arrivals) = fresh();
            let batch = step(&mut custodian, arrivals);
            (custodian, batch)
        };
        let routine = |(custodian, batch): (Custodian, Batch)| {
            custodian.site.store.commit(batch).expect("memory does not fail");
            custodian
        };
        bencher.iter_batched(stepped, routine, BatchSize::PerIteration);
    });
}
