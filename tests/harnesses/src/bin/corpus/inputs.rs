//! Inputs for each target.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lanyard_crypto::gateway::{
    Attestation, DeleteRequest, DeletionResponse, DirectoryResponse, EnrolRequest, EnrolResponse,
    ErasuresRequest, InboxItem, InboxRecord, InboxResponse, Invitation, KeyPackageRequest, KnownDevice,
    Refusal, Replica, SeenRequest, SendRequest, SendResponse, SignInRequest, SignInResponse, SignedIn, Tick,
    TicksResponse, TrustDevices, TrustResponse,
};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::record::{Body, Class, Decoded, Erased, Head, Header, Reason, ReceiptItem, Submission};
use lanyard_crypto::x509::chain_to_pem;
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, cbor};
use lanyard_harness::fixtures::{self, DAY, NOW, Trust};
use lanyard_harness::groups::{conversation, name_of};
use lanyard_harness::replica::World;
use lanyard_harness::reports::genuine;
use lanyard_harness::{TARGETS, target};
use lanyard_node::outside::peer_id;
use lanyard_replica::audit::{AuditEntry, Place};
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::devices;
use crate::member::{Conversation, converse};

/// A file of the corpus is no longer than this, in bytes; a target may be content with less.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// [`NOW`], as an audit log spells it.
const MOMENT: &str = "2027-01-15T08:00:00Z";

/// Adds the inputs of all targets to a directory.
pub fn write(dir: &Path) {
    let made = converse();
    let (records, frames) = traffic(&made);
    let all: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("record", records.clone()),
        ("charter", records.iter().filter_map(|r| charter(r)).collect()),
        ("frame", frames.clone()),
        ("certificate", certificates()),
        ("crl", lists()),
        ("request", requests()),
        ("pem", pems()),
        ("gateway", [bodies(&made, &records), devices::bodies()].concat()),
        ("invitation", invitations()),
        ("name", names(&records)),
        ("peek", messages(&made)),
        ("key_package", made.packages.clone()),
        ("group", handshakes(&made)),
        ("replica", scripts()),
        ("configuration", configurations()),
        ("admission", admissions()),
        ("stream", streams(&frames)),
        ("address", addresses()),
        ("audit", exports()),
        ("deletions", reports()),
    ];
    let named: BTreeSet<_> = all.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, TARGETS.iter().map(|t| t.name).collect(), "each target has inputs");
    for (name, inputs) in all {
        let (dir, target) = (dir.join(name), target(name));
        fs::create_dir_all(&dir).unwrap();
        let mut kinds = BTreeSet::new();
        // Of inputs of one size, and of one kind if the first byte tells it, one is enough to begin with.
        for input in inputs.into_iter().filter(|i| i.len() <= INPUT_BYTES_MAX.min(target.bytes_max)) {
            if kinds.insert((input.len(), input.first().copied())) || name == "replica" {
                (target.check)(&input);
                fs::write(dir.join(name_of(&input)), input).unwrap();
            }
        }
        println!("{name}: {} inputs", fs::read_dir(&dir).unwrap().count());
    }
}

/// What two replicas say to each other about a conversation from its beginning to its deletion.
fn traffic(made: &Conversation) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut world, trusts) = (World::new(), fixtures::trusts());
    let (mut records, mut frames) = (vec![fixtures::charter().bytes().to_vec()], Vec::new());
    world.connect(1);
    world.connect(2);
    let network = Decoded::from_bytes(&records[0]).unwrap().statement();
    let network = lanyard_crypto::NetworkId::new(*network.as_bytes());
    for (trust, package) in trusts.iter().zip(&made.packages) {
        world.submit(&trust.entry(network, Some(package.clone()), NOW.plus_secs(6)));
        records.push(trust.entry(network, None, NOW).bytes().to_vec());
    }
    let (commit, welcome) = made.first.clone();
    let group_info = Some(made.infos[0].clone().into());
    let submission = cbor::to_vec(&Submission { commit, welcome: Some(welcome.into()), group_info });
    world.hand_in(0, Class::Submission, submission);
    for text in &made.texts {
        world.hand_in(1, Class::Application, text.clone());
    }
    let sent = world.deletable();
    world.delete(sent.into_iter().take(1).collect());
    world.submit(&crl(&trusts[1], network));
    let next = fixtures::charter_of(&trusts.iter().collect::<Vec<_>>(), Some(fixtures::charter()));
    world.submit(&next);
    world.rounds();
    let (heard, said) = world.heard();
    records.extend(heard);
    frames.extend(said);
    frames.push(vec![0; 3]);
    (records, frames)
}

fn crl(trust: &Trust, network: lanyard_crypto::NetworkId) -> Decoded {
    let list = trust.revocations(1, &[&trust.device]).der().to_vec();
    let body = lanyard_crypto::record::Crl { list, issuer: trust.registrar.der().to_vec() };
    trust.certify(network, Body::Crl(body), NOW, DAY)
}

fn charter(record: &[u8]) -> Option<Vec<u8>> {
    match Decoded::from_bytes(record).ok()?.body() {
        Body::Charter(charter) => Some(cbor::to_vec(charter)),
        _ => None,
    }
}

fn certificates() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let all = [&trust.root, &trust.registrar, &trust.node, &trust.device];
    all.map(|certificate| certificate.der().to_vec()).into()
}

fn lists() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let lists = [(1, vec![]), (2, vec![&trust.node]), (u64::MAX, vec![&trust.node, &trust.device])];
    lists.map(|(number, revoked)| trust.revocations(number, &revoked).der().to_vec()).into()
}

fn requests() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let with = |subject| CertificateRequest::create(&trust.device_key, subject).unwrap().der().to_vec();
    vec![with(None), with(Some(trust.device.subject()))]
}

fn pems() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let chain = chain_to_pem(&[trust.node.clone(), trust.registrar.clone()]);
    let request = CertificateRequest::parse(&requests()[0]).unwrap().to_pem();
    let texts =
        [trust.root.to_pem(), format!("of a node\n{chain}"), trust.revocations(1, &[]).to_pem(), request];
    texts.map(String::into_bytes).into()
}

fn bodies(made: &Conversation, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let chain: Vec<ByteBuf> = trust.chain(&trust.node).into_iter().map(ByteBuf::from).collect();
    let record = records.last().unwrap().clone();
    let (id, at) = (RecordId::of(&record), NOW);
    let refusal = Refusal { code: "expired".into(), message: "past its expiry".into() };
    let inbox = InboxRecord { bytes: record.clone(), chain: chain.clone() };
    let item = ReceiptItem::Erased(Erased { tombstone: id, erased: at, envelopes: 1, devices: 2 });
    let receipt = Attestation { receipt: id, item, proof: record.clone(), chain: chain.clone() };
    let device = KnownDevice { chain: chain.clone(), revoked: true };
    let devices = TrustDevices {
        trust: trust.id.clone(),
        erased: vec![(receipt.clone(), Some(device.clone())), (receipt.clone(), None)],
        more: 1,
        waiting: vec![receipt.clone()],
        known: vec![device],
    };
    let replica = Replica {
        trust: trust.id.clone(),
        node: Some(NodeId::new([1; 32])),
        erased: Some(receipt.clone()),
        held: Some(receipt),
        overdue: Some(at),
    };
    let enrol = |sign_in| {
        let request = requests()[0].clone();
        body(0, &EnrolRequest { invitation: vec![1; 8], code: vec![2; 16], request, sign_in })
    };
    let signed_in = SignedIn { state: "state".into(), code: "code".into(), issuer: Some("issuer".into()) };
    vec![
        enrol(None),
        enrol(Some(signed_in)),
        body(1, &KeyPackageRequest { key_package: made.packages[0].clone(), available: true }),
        body(
            2,
            &SendRequest {
                conversation: conversation(),
                epoch: 1,
                class: Class::Application,
                content: made.texts[0].clone(),
                custodians: fixtures::trusts().iter().map(|t| t.id.clone()).collect(),
                expires: at.plus_secs(DAY),
            },
        ),
        body(3, &SeenRequest { seq: 7 }),
        body(
            4,
            &DeleteRequest {
                all: false,
                conversation: conversation(),
                envelopes: vec![id],
                reason: Reason::Transcribed,
            },
        ),
        body(5, &Submission { commit: made.seconds[0].clone(), welcome: None, group_info: None }),
        body(6, &EnrolResponse { chain: chain.clone(), charter: records[0].clone(), first_pin: vec![7; 32] }),
        body(
            7,
            &TrustResponse {
                charter: records[0].clone(),
                crls: vec![record.clone().into()],
                retention: Default::default(),
                review: Default::default(),
                patterns: Vec::new(),
            },
        ),
        body(8, &DirectoryResponse { entries: vec![record.into()], more: false }),
        body(9, &SendResponse { id, issued: at }),
        body(
            10,
            &InboxResponse {
                items: vec![InboxItem { seq: 1, record: Some(inbox) }, InboxItem { seq: 2, record: None }],
                more: true,
            },
        ),
        body(
            11,
            &TicksResponse {
                custodians: vec![
                    Tick { trust: trust.id.clone(), confirmed: Some(at), refused: None },
                    Tick { trust: trust.id.clone(), confirmed: None, refused: Some("expired".into()) },
                ],
            },
        ),
        body(
            12,
            &DeletionResponse {
                tombstone: id,
                record: records[0].clone(),
                chain: chain.clone(),
                replicas: vec![replica],
                devices: vec![devices],
            },
        ),
        body(13, &refusal),
        body(14, &ErasuresRequest { lines: vec![vec![7; 200].into()] }),
        body(21, &SignInRequest { invitation: vec![1; 8], code: vec![2; 16], port: 49_152 }),
        body(22, &SignInResponse { url: "https://login.example/".into(), state: "state".into() }),
    ]
}

pub(crate) fn body<T: Serialize>(number: u8, body: &T) -> Vec<u8> {
    [vec![number], cbor::to_vec(body)].concat()
}

fn invitations() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let invitation = |address: &str| Invitation {
        trust: trust.id.clone(),
        root: trust.root.fingerprint(),
        address: address.into(),
        id: vec![1; 8],
        code: vec![2; 16],
    };
    ["127.0.11.1:8443", "[::1]:8443", ""].map(|a| invitation(a).to_line().into_bytes()).into()
}

fn names(records: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let id = RecordId::of(&records[0]).to_string();
    let device = Fingerprint::of(b"device").to_string().to_uppercase();
    [id, device, conversation().to_string(), "RYJ".into(), "RJ12345A".into(), "GB".into(), "UK".into()]
        .map(String::into_bytes)
        .into()
}

fn messages(made: &Conversation) -> Vec<Vec<u8>> {
    let (commit, welcome) = made.first.clone();
    [vec![commit, welcome, made.proposal.clone()], made.texts.clone(), made.seconds.clone()]
        .into_iter()
        .flatten()
        .chain(made.infos.clone())
        .chain(made.packages.clone())
        .collect()
}

fn handshakes(made: &Conversation) -> Vec<Vec<u8>> {
    let commits = made.seconds.iter().flat_map(|commit| [(0, commit), (1, commit)]);
    let infos = made.infos.iter().flat_map(|info| [(4, info), (5, info)]);
    let all = commits.chain(infos).chain([(2, &made.proposal), (1, &made.first.0)]);
    all.map(|(kind, bytes)| [vec![kind], bytes.clone()].concat()).collect()
}

/// Scripts by hand, of what a replica must get right; what a fuzzer finds is added to them. The first byte of each step is its
/// number in `replica/act.rs`.
fn scripts() -> Vec<Vec<u8>> {
    const ALL: u8 = 7;
    const NOT_FOR_RXB: u8 = 8 | 0b101;
    const SHORT: u8 = 5;
    const TO_RXA: [u8; 3] = [0, 0, 2];
    const TO_RXB: [u8; 2] = [1, 2];
    const CONNECT: [u8; 2] = [1, 1];
    const SETTLE: u8 = 23;
    const TICK_31: [u8; 2] = [0, 2];
    const HOUR_WITHOUT_TICK: [u8; 2] = [0, 8 + 4];
    let message =
        |signer: u8, life: u8, custodians: u8, n: u8| vec![12, 2, life, custodians, 1, n, 0, signer];
    // Of the record that was made as the `which`th.
    let tombstone = |signer: u8, which: u8| vec![15, 2, 0, ALL, 0, 0, which, 5, signer];
    let up_to_now = |signer: u8| vec![15, 2, 0, ALL, 1, 1, 0, 5, signer];
    let again = |which: u8| vec![10, which];
    let to = |mut step: Vec<u8>, way: &[u8]| {
        step.extend(way);
        step
    };
    let deleted = vec![to(message(1, 0, ALL, 1), &TO_RXA), to(tombstone(1, 0), &TO_RXA), vec![SETTLE]];
    let deleted_before_it_came = vec![
        to(message(1, 0, ALL, 1), &TO_RXB),
        to(tombstone(1, 0), &TO_RXA),
        to(again(0), &TO_RXA),
        CONNECT.to_vec(),
        vec![SETTLE],
    ];
    let may_not_delete = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(tombstone(2, 0), &TO_RXA),
        to(tombstone(2, 0), &TO_RXB),
        CONNECT.to_vec(),
        vec![SETTLE],
    ];
    let all_deleted = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(message(2, 0, ALL, 2), &TO_RXB),
        CONNECT.to_vec(),
        TICK_31.to_vec(),
        to(up_to_now(0), &TO_RXA),
        vec![SETTLE],
        TICK_31.to_vec(),
        vec![SETTLE],
    ];
    let expired_before_it_was_wanted = |way: &[u8]| {
        let message = to(message(1, SHORT, ALL, 1), way);
        vec![message, HOUR_WITHOUT_TICK.to_vec(), CONNECT.to_vec(), vec![SETTLE]]
    };
    let missed = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(message(2, 0, ALL, 2), &TO_RXB),
        to(message(2, 0, NOT_FOR_RXB, 3), &TO_RXA),
        CONNECT.to_vec(),
        vec![SETTLE],
    ];
    // What was said then, once more, and about the record that RXB is not to have.
    let told = (0..40).map(|frame| vec![8, frame, 2, 0, 2, 1]);
    let wanted_by_another = missed.iter().cloned().chain(told).collect();
    let left_out = vec![
        CONNECT.to_vec(),
        vec![20, 2],
        TO_RXA.to_vec(),
        vec![SETTLE],
        vec![20, 0],
        TO_RXA.to_vec(),
        vec![22, 0],
        CONNECT.to_vec(),
        TICK_31.to_vec(),
        vec![SETTLE],
    ];
    let revoked = vec![to(vec![18, 1, 1, 1, 3], &TO_RXA), to(message(1, 0, ALL, 1), &TO_RXA), vec![SETTLE]];
    let listed = vec![to(vec![19, 0, 1, 1], &TO_RXA), to(vec![19, 0, 0, 1], &TO_RXA), vec![SETTLE]];
    let asked = vec![
        CONNECT.to_vec(),
        vec![21, 0, 2, 0, 0, 1, 9, 0, ALL],
        vec![SETTLE],
        vec![21, 0, 2, 0, 1, 0, 0, 0, 0, 5],
        vec![21, 0, 2, 0, 0, 0, 0, 1, ALL],
        vec![SETTLE],
        vec![21, 0, 2, 0, 2, 9],
        vec![21, 0, 2, 0, 3],
    ];
    let standing = to(vec![192, 2, 0, ALL, 5, 2, 0, 0], &TO_RXA);
    let tick_hour = [0, 4];
    let ended = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(message(2, 0, ALL, 2), &TO_RXB),
        CONNECT.to_vec(),
        standing.clone(),
        vec![SETTLE],
        HOUR_WITHOUT_TICK.to_vec(),
        TICK_31.to_vec(),
        again(0),
        TO_RXA.to_vec(),
        vec![SETTLE],
    ];
    let ended_before_it_came = vec![
        to(message(1, 0, ALL, 1), &TO_RXB),
        TICK_31.to_vec(),
        standing,
        HOUR_WITHOUT_TICK.to_vec(),
        CONNECT.to_vec(),
        vec![SETTLE],
        TICK_31.to_vec(),
        vec![SETTLE],
    ];
    let hold = |lasts: u8| vec![196, 0, 2, 0, 0, lasts, 0];
    let held = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        hold(3),
        to(tombstone(1, 0), &TO_RXA),
        CONNECT.to_vec(),
        vec![SETTLE],
        TICK_31.to_vec(),
        tick_hour.to_vec(),
        vec![SETTLE],
    ];
    let held_at_its_end = vec![
        to(message(1, SHORT, ALL, 1), &TO_RXA),
        hold(5),
        tick_hour.to_vec(),
        CONNECT.to_vec(),
        TICK_31.to_vec(),
        vec![196, 0, 2, 0, 2],
        TICK_31.to_vec(),
    ];
    let officers = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(message(0, 0, ALL, 2), &TO_RXA),
        CONNECT.to_vec(),
        TICK_31.to_vec(),
        vec![194, 0, 7, 2, 5, 8, 0],
        vec![SETTLE],
        TICK_31.to_vec(),
        vec![194, 0, 7, 2, 2, 2, 0],
        vec![195, 1, 1, 0],
        vec![SETTLE],
        tick_hour.to_vec(),
        vec![SETTLE],
    ];
    let lines = |odd: u8| vec![197, 0, odd, 0, 0, 0];
    let said = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        CONNECT.to_vec(),
        to(tombstone(1, 0), &TO_RXA),
        vec![SETTLE],
        lines(1),
        lines(2),
        lines(3),
        TICK_31.to_vec(),
        lines(0),
        TICK_31.to_vec(),
        vec![SETTLE],
        tick_hour.to_vec(),
    ];
    // Erasures, a hold, a device's line, devices that are waited for, and what expired; by RXB, about a tombstone and a message.
    let attested = |signer: u8| {
        let items = [
            vec![0, 0, 0, 64],
            vec![0, 0, 1, 66],
            vec![0, 0, 2, 16 | 64],
            vec![0, 0, 3, 0b0111_1000],
            vec![0, 1, 0, 0, 2, 0, 8],
            vec![0, 0, 4, 1, 2],
        ];
        to([vec![193, 1, ALL, 5], items.concat(), vec![signer]].concat(), &TO_RXA)
    };
    let attested = vec![
        to(message(1, 0, ALL, 1), &TO_RXA),
        to(tombstone(1, 0), &TO_RXA),
        attested(1),
        attested(2),
        attested(0),
        CONNECT.to_vec(),
        TICK_31.to_vec(),
        vec![SETTLE],
    ];
    [
        ended,
        ended_before_it_came,
        held,
        held_at_its_end,
        officers,
        said,
        attested,
        deleted,
        deleted_before_it_came,
        may_not_delete,
        all_deleted,
        expired_before_it_was_wanted(&TO_RXA),
        expired_before_it_was_wanted(&TO_RXB),
        missed,
        wanted_by_another,
        left_out,
        revoked,
        listed,
        asked,
    ]
    .into_iter()
    .map(|steps| steps.concat())
    .collect()
}

fn configurations() -> Vec<Vec<u8>> {
    let page = include_str!("../../../../../docs/reference/configuration.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let least = "data_dir = \"data\"\n[identity]\nkey = \"k\"\nchain = \"c\"\n[network]\ncharter = \"c\"\n[peer]\n\
        listen = [\"/ip4/127.0.1.1/tcp/4001\"]\n[gateway]\nlisten = \"127.0.1.1:8443\"\npublic_address = \"h:1\"\n\
        [residency]\nnetworks = [{ cidr = \"127.0.1.0/24\", country = \"GB\" }]\n";
    vec![example.into(), least.into(), least.replace("GB", "US").into()]
}

/// Both sides of the exchange, admitted and refused.
fn admissions() -> Vec<Vec<u8>> {
    let (trusts, mut all) = (fixtures::trusts(), Vec::new());
    for (trust, leaf) in [(1, &trusts[1].node), (2, &trusts[2].node), (1, &trusts[1].device)] {
        let chain: Vec<ByteBuf> = trusts[trust].chain(leaf).into_iter().map(ByteBuf::from).collect();
        let chain = cbor::to_vec(&chain);
        let length = u32::try_from(chain.len()).unwrap().to_be_bytes();
        let shown = [&[9; 16][..], &length, &chain].concat();
        all.push([&[0], &b"lanyard/border/1"[..], &shown, &[1]].concat());
        all.push([&[1, 1], &shown[..]].concat());
        all.push([&[2], &b"lanyard/border/1"[..], &shown, &[0]].concat());
    }
    all.push(vec![1, 0]);
    all
}

fn streams(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let framed = |frame: &Vec<u8>| [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], frame].concat();
    let small: Vec<_> = frames.iter().filter(|f| f.len() < 1_024).take(3).map(framed).collect();
    let alive = [&[0; 4][..], &small.concat(), &[0; 4]].concat();
    vec![small.concat(), alive, vec![255; 4], vec![0, 0, 0, 9, 1]]
}

fn addresses() -> Vec<Vec<u8>> {
    let id = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    [
        "/ip4/127.0.1.1/udp/4001/quic-v1".to_owned(),
        "/ip6/::1/tcp/4001".to_owned(),
        format!("/dns4/node.example.org/tcp/4001/p2p/{id}"),
        format!("/ip4/127.0.0.1/tcp/1/p2p/{id}/p2p-circuit"),
    ]
    .map(String::into_bytes)
    .into()
}

/// Audit logs of one to three rows, by hand after docs/reference/audit.md.
fn exports() -> Vec<Vec<u8>> {
    let (trust, network) = (&fixtures::trusts()[0], fixtures::network().id());
    let (peer, chain) = (peer_id(&trust.node_id()), trust.chain(&trust.node));
    let [leaf, issuer] = [0, 1].map(|i| to_hex(&chain[i]));
    let export = |count: u64| {
        let (mut at, mut rows) = (Place::START, String::new());
        for n in 1..=count {
            let entry = AuditEntry::new("noted", "code", format!("number {n}")).trust(trust.id.clone());
            at = at.then(&AuditEntry { at: NOW, ..entry });
            let hash = at.hash;
            rows += &format!(
                "{{\"number\":{n},\"at\":\"{MOMENT}\",\"event\":\"noted\",\"code\":\"code\",\"detail\":\"number {n}\",\
                \"trust\":\"{}\",\"hash\":\"{hash}\"}}\n",
                trust.id
            );
        }
        let header = Header {
            network: Some(network),
            custodians: Vec::new(),
            issued: NOW,
            expires: NOW.plus_secs(DAY),
        };
        let head = Head { number: at.number, hash: at.hash, dropped: 0 };
        let head = to_hex(trust.sign(header, Body::Head(head)).bytes());
        let zeros = Place::START.hash;
        format!(
            "{{\"format\":\"lanyard-audit\",\"version\":1,\"network\":\"{network}\",\"trust\":\"{}\",\"peer_id\":\"{peer}\",\
            \"after\":0,\"after_hash\":\"{zeros}\",\"chains\":[[\"{leaf}\",\"{issuer}\"]]}}\n{{\"head\":\"{head}\"}}\n{rows}",
            trust.id
        )
        .into_bytes()
    };
    (1..=3).map(export).collect()
}

/// Reports, and scripts of each kind over each of them; the evidence of the last kind changed in each way.
fn reports() -> Vec<Vec<u8>> {
    let whole = genuine().iter().map(|report| report.as_bytes().to_vec());
    let scripts = (0..3u8).flat_map(|kind| {
        (0..3).map(move |which| [&[kind, which][..], &vec![1; usize::from(which) + 7]].concat())
    });
    let changed =
        (0..12u8).map(|how| [&[3, 0, 0, how % 3, 0, 2, 2, 2, how][..], &vec![5; usize::from(how)]].concat());
    // What stands where the program's own words should: no reason repeats it.
    let words = "Dr Amara Holt, bed 4,\\u001b[2J EF 30%";
    let odd =
        ["lanyard-deletions", "\"more\"", &fixtures::network().id().to_string(), "2027-01-17T08:00:00Z"].map(
            |own| {
                let odd = own.replace(own.trim_matches('"'), words);
                genuine()[0].replace(own, &odd).into_bytes()
            },
        );
    whole.chain(scripts).chain(changed).chain(odd).collect()
}
