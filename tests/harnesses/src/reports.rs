//! Exported reports of deletions, checked offline: none is accepted but those that their node has sealed, and none shows more than was
//! attested, whoever seals it.
//!
//! An input is a report; or, if its first byte is below 4, a script: what is changed of genuine reports, and who seals that.

use std::sync::OnceLock;

use lanyard_crypto::gateway::{Attestation, DeletionResponse, KnownDevice, Replica, TrustDevices};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{
    self, Body, DeviceErased, DeviceLine, Erased, Header, Held, Reason, Receipt, ReceiptItem, Target,
    Tombstone, Waiting, WaitingDevice,
};
use lanyard_crypto::{NetworkId, RecordId, Timestamp, cbor};
use lanyard_node::outside::{self, ReportCounts};
use serde_bytes::ByteBuf;

use crate::choices::Choices;
use crate::fixtures::{self, DAY, NOW, Trust};
use crate::groups::conversation;
use crate::quiet::assert_quiet;

/// When the genuine reports were made.
const AT: Timestamp = NOW.plus_secs(2 * DAY);
/// A reason for refusal, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// Where the words of a line end.
const EVIDENCE: &[u8] = b",\"evidence\":";

/// A report.
pub(crate) fn report(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((kind @ 0..4, rest)) => scripted(*kind, &mut Choices::new(rest)),
        _ => as_it_is(bytes),
    }
}

/// Genuine reports: of nothing, of one deletion of which nothing is missing, and of two that are not complete.
pub fn genuine() -> &'static [String] {
    static REPORTS: OnceLock<Vec<String>> = OnceLock::new();
    REPORTS.get_or_init(|| {
        let all = deletions();
        let reports = [&all[..0], &all[..1], &all[1..]].map(|deletions| sealed(content(deletions).unwrap()));
        for report in &reports {
            outside::deletions_report(&network(), report).expect("a genuine report is accepted");
        }
        reports.into()
    })
}

fn as_it_is(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match outside::deletions_report(&network(), text) {
        Ok(_) => {
            assert!(genuine().iter().any(|report| report == text), "a report that no node has sealed");
            true
        }
        Err(why) => {
            assert_names_nobody(&why, bytes);
            false
        }
    }
}

fn scripted(kind: u8, choices: &mut Choices<'_>) -> bool {
    let report = choices.one(genuine()).expect("there are some");
    match kind {
        0 => as_it_is(&choices.altered(report.as_bytes())),
        1 => as_it_is(rearranged(report, choices).as_bytes()),
        2 => words_changed(report, choices),
        _ => evidence_changed(choices),
    }
}

/// Lines are taken out, said twice, moved, or come from another report.
fn rearranged(report: &str, choices: &mut Choices<'_>) -> String {
    let mut lines: Vec<&str> = report.split_inclusive('\n').collect();
    for _ in 0..=choices.place(3) {
        let (how, from, to) = (choices.place(4), choices.place(lines.len()), choices.place(lines.len() + 1));
        let other = choices.one(genuine()).expect("there are some");
        let others: Vec<&str> = other.split_inclusive('\n').collect();
        match how {
            0 if from < lines.len() => drop(lines.remove(from)),
            1 if from < lines.len() => lines.insert(to, lines[from]),
            2 if from < lines.len() && to < lines.len() => lines.swap(from, to),
            _ => lines.insert(to, others[from % others.len()]),
        }
    }
    lines.concat()
}

/// A node seals words that its evidence does not show: other numbers, or anything.
fn words_changed(report: &str, choices: &mut Choices<'_>) -> bool {
    let mut lines: Vec<Vec<u8>> = report.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    lines.pop();
    let at = 1 + choices.place(lines.len() - 1);
    let Some(line) = lines.get_mut(at) else { return false };
    let words = line.windows(EVIDENCE.len()).position(|part| part == EVIDENCE).unwrap_or(line.len());
    let digits: Vec<usize> = (0..words).filter(|at| line[*at].is_ascii_digit()).collect();
    match (choices.place(4), choices.one(&digits)) {
        (0, _) | (_, None) => *line = choices.altered(line),
        (_, Some(at)) => line[*at] = b'0' + choices.place(10) as u8,
    }
    let Ok(content) = String::from_utf8(lines.concat()) else { return false };
    as_it_is(sealed(content).as_bytes())
}

/// A node seals other evidence. What it shows then are words that it has not chosen.
fn evidence_changed(choices: &mut Choices<'_>) -> bool {
    let genuine = deletions();
    let mut made = Vec::new();
    for _ in 0..=choices.place(3) {
        let mut answer = choices.one(genuine).expect("there are some").clone();
        for _ in 0..=choices.place(4) {
            change(&mut answer, choices);
        }
        made.push(answer);
    }
    let Ok(content) = content(&made) else { return false };
    made.sort_by_key(|answer| answer.tombstone);
    let twice = made.windows(2).any(|two| two[0].tombstone == two[1].tombstone);
    let shown = match outside::deletions_report(&network(), &sealed(content)) {
        Ok(shown) => shown,
        Err(why) => {
            assert!(twice, "what is shown of evidence is what its check makes of it: {why}");
            return false;
        }
    };
    let most = proven(&made);
    assert!(
        shown.complete <= most.complete
            && shown.confirmed <= most.confirmed
            && shown.held <= most.held
            && shown.devices_erased <= most.devices_erased,
        "{shown:?} is shown, and {most:?} attested"
    );
    true
}

/// Changes what stands in an answer: as bytes, or as parts that stand elsewhere.
fn change(answer: &mut DeletionResponse, choices: &mut Choices<'_>) {
    let other = choices.one(deletions()).expect("there are some");
    let (to, from) = (choices.place(4), choices.place(4));
    match choices.place(12) {
        0 => {
            if let Ok(altered) = cbor::from_slice(&choices.altered(&cbor::to_vec(answer)), 64 * 1024) {
                *answer = altered;
            }
        }
        1 if to < answer.replicas.len() => drop(answer.replicas.remove(to)),
        2 => answer.replicas.extend(other.replicas.get(from).cloned()),
        3 => {
            if let (Some(to), Some(from)) = (answer.replicas.get_mut(to), other.replicas.get(from)) {
                (to.erased, to.held) = (from.erased.clone(), from.held.clone());
            }
        }
        4 => {
            if let Some(to) = answer.replicas.get_mut(to) {
                std::mem::swap(&mut to.erased, &mut to.held);
            }
        }
        5 => {
            if let (Some(to), Some(from)) = (answer.replicas.get_mut(to), other.replicas.get(from)) {
                (to.node, to.overdue) = (from.node, None);
            }
        }
        6 => answer.devices.extend(other.devices.get(from).cloned()),
        7 => {
            if let (Some(to), Some(from)) = (answer.devices.get_mut(to), other.devices.get(from)) {
                to.erased.extend(from.erased.iter().cloned());
                to.more = u32::from(choices.byte().unwrap_or(0)) << 24;
            }
        }
        8 if to < answer.devices.len() => drop(answer.devices.remove(to)),
        9 => {
            if let (Some(to), Some(from)) = (answer.devices.get_mut(to), other.devices.get(from)) {
                to.trust = from.trust.clone();
            }
        }
        10 => {
            for attested in answer.replicas.iter_mut().filter_map(|replica| replica.erased.as_mut()) {
                if let ReceiptItem::Erased(erased) = &mut attested.item {
                    (erased.tombstone, erased.devices) = (other.tombstone, u32::MAX);
                }
            }
        }
        _ => {
            answer.record = choices.altered(&answer.record);
            answer.tombstone = RecordId::of(&answer.record);
        }
    }
}

/// What genuine evidence proves of these deletions: nothing of one that nobody has ordered.
fn proven(of: &[DeletionResponse]) -> ReportCounts {
    static PROVEN: OnceLock<Vec<ReportCounts>> = OnceLock::new();
    let proven = PROVEN.get_or_init(|| {
        let alone = |deletion| sealed(content(std::slice::from_ref(deletion)).unwrap());
        let shown = |deletion| outside::deletions_report(&network(), &alone(deletion));
        deletions().iter().map(|deletion| shown(deletion).expect("a genuine report is accepted")).collect()
    });
    let mut sum = ReportCounts::default();
    for (genuine, counts) in deletions().iter().zip(proven) {
        if of.iter().any(|answer| answer.tombstone == genuine.tombstone) {
            sum.complete += counts.complete;
            sum.confirmed += counts.confirmed;
            sum.held += counts.held;
            sum.devices_erased += counts.devices_erased;
        }
    }
    sum
}

/// A reason is short, can be printed, and repeats nothing of the report but what a machine has named.
fn assert_names_nobody(why: &str, bytes: &[u8]) {
    assert!(!why.is_empty() && why.len() <= REASON_BYTES_MAX, "{why:?}");
    assert!(!why.contains(fixtures::PERSON) && !why.contains(char::is_control), "{why:?}");
    let named = |word: &&str| {
        let name = word.trim_end_matches([',', ':', ';']);
        !name.chars().all(|c| c.is_ascii_hexdigit()) && !name.starts_with("12D3KooW")
    };
    let words: Vec<_> = why.split(' ').filter(named).collect();
    assert_quiet(&words.join(" "), bytes);
}

/// What whoever checks a report offline has: the charter.
fn network() -> Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(|| record::open_trusted(fixtures::charter()).unwrap()).clone()
}

fn content(deletions: &[DeletionResponse]) -> Result<String, String> {
    let own = &fixtures::trusts()[0];
    outside::report_content(fixtures::charter().bytes(), deletions, &own.id, &own.node_id(), AT)
}

fn sealed(content: String) -> String {
    let own = &fixtures::trusts()[0];
    let seal = |digest| record::seal(id(), digest, AT, own.node.fingerprint(), &own.node_key);
    outside::report_sealed(content, seal, &own.chain(&own.node))
}

fn id() -> NetworkId {
    NetworkId::new(*fixtures::charter().statement().as_bytes())
}

/// Three deletions that RXA has ordered: one at itself alone, one that RXB holds, RXC has not confirmed, and a device says to have erased;
/// and one that RXB has not confirmed.
fn deletions() -> &'static [DeletionResponse] {
    static DELETIONS: OnceLock<Vec<DeletionResponse>> = OnceLock::new();
    DELETIONS.get_or_init(|| vec![of_one(), of_two(), of_three()])
}

fn of_one() -> DeletionResponse {
    let (mut answer, own) = order(1, Target::Envelopes(vec![RecordId::new([1; 32])]));
    answer.replicas = vec![replica(0, attested(0, vec![erased(&answer, 0)]).pop(), None)];
    answer.devices = vec![devices(own, Vec::new())];
    answer
}

fn of_two() -> DeletionResponse {
    let (mut answer, own) = order(3, Target::UpTo(NOW));
    let (tombstone, device) = (answer.tombstone, &own.device);
    let line = DeviceLine::sign(id(), tombstone, NOW, device.fingerprint(), &own.device_key).bytes().to_vec();
    let item = ReceiptItem::DeviceErased(DeviceErased { tombstone, line });
    let shown = attested(0, vec![erased(&answer, 1), item]);
    let until = AT.plus_secs(DAY);
    let held = ReceiptItem::Held(Held { tombstone, until, reference: b"case 9".to_vec() });
    let by_kind = |erased: bool| {
        let is = move |a: &&Attestation| matches!(a.item, ReceiptItem::Erased(_)) == erased;
        shown.iter().find(is).cloned()
    };
    answer.replicas = vec![
        replica(0, by_kind(true), None),
        replica(1, None, attested(1, vec![held]).pop()),
        replica(2, None, None),
    ];
    let known = KnownDevice { chain: chain(own, &own.device), revoked: false };
    let lines = by_kind(false).map(|line| (line, Some(known)));
    answer.devices = vec![devices(own, lines.into_iter().collect())];
    answer
}

fn of_three() -> DeletionResponse {
    let (mut answer, _) = order(3, Target::Standing(NOW, DAY));
    let (tombstone, third) = (answer.tombstone, &fixtures::trusts()[2]);
    let waited = WaitingDevice { device: third.device.fingerprint(), last_seen: Some(NOW) };
    let waiting = ReceiptItem::Waiting(Waiting { tombstone, devices: vec![waited], count: 1 });
    let [erases, waits] = [erased(&answer, 1), waiting].map(|item| attested(2, vec![item]));
    let overdue = Replica { overdue: Some(NOW.plus_secs(DAY)), ..replica(1, None, None) };
    answer.replicas = vec![
        replica(0, attested(0, vec![erased(&answer, 0)]).pop(), None),
        overdue,
        replica(2, erases.into_iter().next(), None),
    ];
    let known = vec![KnownDevice { chain: chain(third, &third.device), revoked: false }];
    answer.devices = vec![TrustDevices { waiting: waits, known, ..devices(third, Vec::new()) }];
    answer
}

/// A deletion at so many custodians, of which nothing is attested.
fn order(custodians: usize, target: Target) -> (DeletionResponse, &'static Trust) {
    let own = &fixtures::trusts()[0];
    let body = Tombstone {
        conversation: conversation(),
        target,
        reason: Reason::Transcribed,
        reference: b"by hand".to_vec(),
    };
    let order = own.sign(header(0..custodians, 20 * DAY), Body::Tombstone(body));
    let answer = DeletionResponse {
        tombstone: order.id(),
        record: order.bytes().to_vec(),
        chain: chain(own, &own.node),
        replicas: Vec::new(),
        devices: Vec::new(),
    };
    (answer, own)
}

fn header(custodians: std::ops::Range<usize>, life_secs: u64) -> Header {
    let custodians = fixtures::trusts()[custodians].iter().map(|trust| trust.id.clone()).collect();
    Header { network: Some(id()), custodians, issued: NOW, expires: NOW.plus_secs(life_secs) }
}

fn erased(answer: &DeletionResponse, devices: u32) -> ReceiptItem {
    ReceiptItem::Erased(Erased { tombstone: answer.tombstone, erased: NOW, envelopes: 1, devices })
}

/// A receipt of this trust's node, and what it shows of each item.
fn attested(at: usize, items: Vec<ReceiptItem>) -> Vec<Attestation> {
    let by = &fixtures::trusts()[at];
    let items = Receipt::sorted(items);
    let receipt = by.sign(header(0..3, DAY), Body::Receipt(Receipt { items: items.clone() }));
    let attestation = |item: ReceiptItem| Attestation {
        receipt: receipt.id(),
        proof: record::prove(&receipt, &item).unwrap(),
        item,
        chain: chain(by, &by.node),
    };
    items.into_iter().map(attestation).collect()
}

fn replica(at: usize, erased: Option<Attestation>, held: Option<Attestation>) -> Replica {
    let by = &fixtures::trusts()[at];
    Replica { trust: by.id.clone(), node: Some(by.node_id()), erased, held, overdue: None }
}

fn devices(of: &Trust, erased: Vec<(Attestation, Option<KnownDevice>)>) -> TrustDevices {
    TrustDevices { trust: of.id.clone(), erased, more: 0, waiting: Vec::new(), known: Vec::new() }
}

fn chain(of: &Trust, leaf: &lanyard_crypto::x509::Certificate) -> Vec<ByteBuf> {
    of.chain(leaf).into_iter().map(ByteBuf::from).collect()
}
