//! Reports of deletions: what they show, and that every change of one is found.

use lanyard_crypto::gateway::{Attestation, DeletionResponse, KnownDevice, Replica, TrustDevices};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{
    self, Body, Decoded, DeviceErased, DeviceLine, Erased, Held, Receipt, ReceiptItem, Waiting, WaitingDevice,
};
use lanyard_crypto::x509::{Certificate, SecretKey};
use lanyard_crypto::{NetworkId, RecordId};
use lanyard_replica::fixtures::{self, DAY, NOW, Trust};
use serde_bytes::ByteBuf;

use super::*;

/// Three trusts; a device of RXC has erased, and for another it is waited. RXB has not confirmed.
struct Scene {
    trusts: Vec<Trust>,
    charter: Decoded,
    network: NetworkId,
    devices: Vec<(SecretKey, Certificate)>,
}

impl Scene {
    fn new() -> Self {
        let trusts: Vec<_> =
            [("RXA", 1), ("RXB", 11), ("RXC", 21)].map(|(code, seed)| Trust::new(code, seed)).into();
        let charter = fixtures::sign_charter(fixtures::charter(&trusts.iter().collect::<Vec<_>>()), None);
        let network = NetworkId::new(*charter.statement().as_bytes());
        let devices = [71, 72].map(|seed| trusts[2].device(seed)).into();
        Self { trusts, charter, network, devices }
    }

    fn network(&self) -> Network {
        record::open_trusted(&self.charter).unwrap()
    }

    fn chain(&self, at: usize, leaf: &Certificate) -> Vec<ByteBuf> {
        self.trusts[at].chain(leaf).into_iter().map(ByteBuf::from).collect()
    }

    /// A receipt of this trust's node, and what it shows of each item.
    fn attested(&self, at: usize, items: Vec<ReceiptItem>) -> Vec<Attestation> {
        let items = Receipt::sorted(items);
        let mut keepers = vec![&self.trusts[0], &self.trusts[at]];
        keepers.truncate(if at == 0 { 1 } else { 2 });
        let header = fixtures::header(self.network, &keepers, NOW, DAY);
        let record = self.trusts[at].sign(header, Body::Receipt(Receipt { items: items.clone() }));
        let chain = self.chain(at, &self.trusts[at].node);
        let attestation = |item: ReceiptItem| Attestation {
            receipt: record.id(),
            proof: record::prove(&record, &item).unwrap(),
            item,
            chain: chain.clone(),
        };
        items.into_iter().map(attestation).collect()
    }

    fn deletion(&self, n: u8) -> DeletionResponse {
        let target = fixtures::named(&[RecordId::new([n; 32])]);
        let all: Vec<_> = self.trusts.iter().collect();
        let conversation = fixtures::conversation(&self.trusts[0]);
        let order = self.trusts[0].sign(
            fixtures::header(self.network, &all, NOW, 20 * DAY),
            fixtures::tombstone(&conversation, target),
        );
        let tombstone = order.id();
        let erased = |devices| ReceiptItem::Erased(Erased { tombstone, erased: NOW, envelopes: 1, devices });
        let (key, done) = &self.devices[0];
        let line = DeviceLine::sign(self.network, tombstone, NOW, done.fingerprint(), key).bytes().to_vec();
        let waited = WaitingDevice { device: self.devices[1].1.fingerprint(), last_seen: Some(NOW) };
        let of_c = self.attested(
            2,
            vec![
                erased(2),
                ReceiptItem::DeviceErased(DeviceErased { tombstone, line }),
                ReceiptItem::Waiting(Waiting { tombstone, devices: vec![waited], count: 1 }),
            ],
        );
        let [c_erased, c_device, c_waiting] = of_c.try_into().unwrap();
        let a_erased = self.attested(0, vec![erased(0)]).remove(0);
        let replica = |at: usize, erased| Replica {
            trust: self.trusts[at].id.clone(),
            node: Some(self.trusts[at].node_id()),
            erased,
            held: None,
            overdue: (at == 1).then_some(NOW.plus_secs(DAY)),
        };
        let known = |device: &Certificate| KnownDevice { chain: self.chain(2, device), revoked: false };
        let devices = TrustDevices {
            trust: self.trusts[2].id.clone(),
            erased: vec![(c_device, Some(known(&self.devices[0].1)))],
            more: 0,
            waiting: vec![c_waiting],
            known: vec![known(&self.devices[1].1)],
        };
        DeletionResponse {
            tombstone,
            record: order.bytes().to_vec(),
            chain: self.chain(0, &self.trusts[0].node),
            replicas: vec![replica(0, Some(a_erased)), replica(1, None), replica(2, Some(c_erased))],
            devices: vec![devices],
        }
    }

    fn report_of(&self, deletions: &[DeletionResponse]) -> String {
        let a = &self.trusts[0];
        let at = NOW.plus_secs(2 * DAY);
        let mut draft = Draft::new(self.charter.bytes(), at).unwrap();
        assert!(deletions.iter().all(|deletion| draft.add(deletion).unwrap()));
        self.seal(draft.content(&a.id, &a.node_id()))
    }

    fn seal(&self, content: String) -> String {
        let a = &self.trusts[0];
        let at = NOW.plus_secs(2 * DAY);
        let seal = record::seal(self.network, digest(&content), at, a.node.fingerprint(), &a.node_key);
        sealed(content, &seal, &a.chain(&a.node))
    }
}

#[test]
fn a_report_shows_who_has_confirmed_and_who_has_not() {
    let scene = Scene::new();
    let report = scene.report_of(&[scene.deletion(2), scene.deletion(1)]);
    let shown = verify(&report, scene.network()).unwrap();
    assert_eq!((shown.complete, shown.confirmed, shown.held, shown.missing), (0, 4, 0, 2));
    assert_eq!((shown.devices_erased, shown.devices_total), (2, 4));
    assert!(!shown.opening.more);
    let summary = &shown.list[0].summary;
    assert_eq!(
        summary,
        "replicas 2 of 3, 1 overdue, devices 1 of 2, waiting for: RXC Clinician 72, last seen 2 days ago"
    );
    assert_eq!(verify(&scene.report_of(&[]), scene.network()).unwrap().list, []);
}

#[test]
fn a_report_takes_what_it_has_room_for_and_says_that_there_are_more() {
    let scene = Scene::new();
    let all = [3, 2, 1].map(|n| scene.deletion(n));
    let line = scene.report_of(&all[..1]).lines().nth(1).unwrap().len() + 1;
    let a = &scene.trusts[0];
    for (room, listed) in [
        ((1000, 3 * line + 300), 3),
        ((3, usize::MAX), 3),
        ((2, usize::MAX), 2),
        ((1000, 2 * line + 300), 2),
        ((1000, 300), 0),
    ] {
        let mut draft = Draft::within(room.0, room.1, scene.charter.bytes(), NOW.plus_secs(2 * DAY)).unwrap();
        let taken = all.iter().take_while(|deletion| draft.add(deletion).unwrap()).count();
        assert_eq!(taken, listed, "{room:?}");
        let shown = verify(&scene.seal(draft.content(&a.id, &a.node_id())), scene.network()).unwrap();
        assert_eq!((shown.opening.deletions, shown.opening.more), (listed, listed < 3));
        let ids: Vec<_> = shown.list.iter().map(|deletion| deletion.tombstone.clone()).collect();
        assert_eq!(ids, all[..listed].iter().map(|d| d.tombstone.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn a_hold_counts_until_it_is_over() {
    let scene = Scene::new();
    let shown = |until| {
        let mut answer = scene.deletion(1);
        let held = Held { tombstone: answer.tombstone, until, reference: b"case 9".to_vec() };
        answer.replicas[1].held = Some(scene.attested(1, vec![ReceiptItem::Held(held)]).remove(0));
        let shown = verify(&scene.report_of(&[answer]), scene.network()).unwrap();
        let [deletion] = shown.list.try_into().unwrap();
        let Deletion { summary, tally, .. } = deletion;
        assert_eq!(
            (tally[1].held_until.clone(), tally[1].hold.as_deref()),
            (Some(rfc3339(until)), Some("case 9"))
        );
        (shown.held, shown.missing, tally[1].state.clone(), summary.contains("1 held"))
    };
    // The report is of two days after the order.
    assert_eq!(shown(NOW.plus_secs(2 * DAY + 1)), (1, 0, "held".into(), true));
    assert_eq!(shown(NOW.plus_secs(2 * DAY)), (0, 1, "missing".into(), false));
}

#[test]
fn every_altered_byte_is_found() {
    let scene = Scene::new();
    let report = scene.report_of(&[scene.deletion(1)]).into_bytes();
    // Most bytes are digits of the evidence; those before and after it are nearly all altered.
    for i in (0..report.len()).filter(|i| i % 7 == 0 || *i < 700 || report.len() - i < 700) {
        let mut altered = report.clone();
        altered[i] ^= if i % 2 == 0 { 1 } else { 0x20 };
        let found = match String::from_utf8(altered) {
            Ok(text) => verify(&text, scene.network()).is_err(),
            Err(_) => true,
        };
        assert!(found, "byte {i}: {:?}", char::from(report[i]));
    }
    for cut in (0..report.len()).step_by(97) {
        let text = String::from_utf8(report[..cut].to_vec()).unwrap();
        assert!(verify(&text, scene.network()).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_line_that_is_taken_out_moved_or_added_is_found() {
    let scene = Scene::new();
    let report = scene.report_of(&[scene.deletion(1), scene.deletion(2)]);
    let lines: Vec<_> = report.split_inclusive('\n').collect();
    let [opening, one, two, seal] = lines[..] else { panic!("{} lines", lines.len()) };
    for other in [
        [opening, one, seal].concat(),
        [opening, two, one, seal].concat(),
        [opening, one, one, seal].concat(),
        [opening, one, two, two, seal].concat(),
        [opening, one, two].concat(),
        [opening, one, two, seal, seal].concat(),
        [opening, one, two, seal, "\n"].concat(),
        String::new(),
    ] {
        assert!(verify(&other, scene.network()).is_err());
    }
}

/// What a node that lies could write and seal: the evidence does not show it.
#[test]
fn a_seal_does_not_stand_for_what_the_evidence_does_not_show() {
    let scene = Scene::new();
    let honest = scene.deletion(1);
    let altered = |change: &dyn Fn(&mut DeletionResponse)| {
        let mut answer = honest.clone();
        change(&mut answer);
        let shown = verify(&scene.report_of(&[answer]), scene.network()).unwrap();
        assert_eq!((shown.complete, shown.problems), (0, shown.list[0].problems.len()));
        assert!((1..=2).contains(&shown.confirmed), "what is honest counts all the same");
        assert!(shown.missing >= 1);
        (
            shown.list[0].problems.join("; "),
            (shown.devices_erased, shown.devices_total),
            shown.list[0].summary.clone(),
        )
    };
    let told = |change: &dyn Fn(&mut DeletionResponse)| altered(change).0;
    // A replica that is left out, another's receipt, another deletion's receipt, another device's line.
    let left_out = told(&|a| drop(a.replicas.remove(1)));
    assert!(left_out.contains("nothing is said of RXB"), "{left_out}");
    let others = told(&|a| a.replicas[1].erased = a.replicas[0].erased.clone());
    assert!(others.contains("another trust"), "{others}");
    let elsewhere = scene.deletion(2).replicas[2].erased.clone();
    let elsewhere = told(&|a| a.replicas[2].erased = elsewhere.clone());
    assert!(elsewhere.contains("does not name this deletion"), "{elsewhere}");
    let device = told(&|a| a.devices[0].erased[0].1 = Some(a.devices[0].known[0].clone()));
    assert!(device.contains("line is not believed"), "{device}");
    let twice = told(&|a| a.replicas.push(a.replicas[2].clone()));
    assert!(twice.contains("shown twice"), "{twice}");
    let nameless = told(&|a| a.replicas[2].node = None);
    assert!(nameless.contains("not which node"), "{nameless}");
    let stranger = told(&|a| a.replicas[1].trust = "RXZ".parse().unwrap());
    assert!(stranger.contains("RXZ: it need not erase"), "{stranger}");
    let devices = told(&|a| a.devices.push(a.devices[0].clone()));
    assert!(devices.contains("devices stand in it twice"), "{devices}");
    let (_, devices, summary) = altered(&|a| {
        a.devices[0].more = u32::MAX;
        a.devices[0].erased[0].1 = None;
        a.devices[0].erased.push(honest.devices[0].erased[0].clone());
    });
    assert_eq!(devices, (1, 2), "a bare number is nobody's erasure");
    assert!(summary.contains("devices 1 of 2, and 4294967295 by the node's word, waiting for"), "{summary}");
    let (why, devices, _) = altered(&|a| a.devices.clear());
    assert_eq!((why.as_str(), devices), ("nothing is said of RXC's devices", (0, 2)));
    // A total that nobody has signed.
    let (why, devices, _) = altered(&|a| {
        let Some(Attestation { item: ReceiptItem::Erased(item), .. }) = &mut a.replicas[2].erased else {
            panic!("it has erased")
        };
        item.devices = 900;
    });
    assert!(why.contains("a receipt is not believed"), "{why}");
    assert_eq!(devices, (1, 2), "one line, and one device for which it is waited, are proven by themselves");
    // And words beside evidence that says otherwise.
    let report = scene.report_of(std::slice::from_ref(&honest));
    let content: String = report.split_inclusive('\n').take(2).collect();
    let told = content.replace("\"confirmed\":2", "\"confirmed\":3");
    assert_ne!(told, content);
    let told = verify(&scene.seal(told), scene.network()).unwrap_err().to_string();
    assert!(told.contains("not what its evidence shows"), "{told}");
}

#[test]
fn another_nodes_seal_and_another_network_are_refused() {
    let scene = Scene::new();
    let report = scene.report_of(&[scene.deletion(1)]);
    let content: String = report.split_inclusive('\n').take(2).collect();
    let b = &scene.trusts[1];
    let at = NOW.plus_secs(2 * DAY);
    let seal = record::seal(scene.network, digest(&content), at, b.node.fingerprint(), &b.node_key);
    let by_b = sealed(content, &seal, &b.chain(&b.node));
    assert!(verify(&by_b, scene.network()).unwrap_err().to_string().contains("not the node"));
    let mut other = fixtures::charter(&scene.trusts.iter().collect::<Vec<_>>());
    other.name = "Another network".into();
    let other = record::open_trusted(&fixtures::sign_charter(other, None)).unwrap();
    assert!(verify(&report, other).unwrap_err().to_string().contains("is of network"));
}
