use std::net::{IpAddr, Ipv4Addr};

use lanyard_crypto::ids::to_hex;
use lanyard_crypto::record::{Body, Head, Header};
use lanyard_crypto::x509::{Certificate, SecretKey};
use lanyard_crypto::{AuditHash, Timestamp};

use super::*;
use crate::testing::{NOW, Trust};

const ROWS: u64 = 7;
const DROPPED: u64 = 40;

/// A node that shows its log.
struct Scene {
    trust: Trust,
    key: SecretKey,
    certificate: Certificate,
}

impl Scene {
    fn new() -> Self {
        let trust = Trust::new("RYJ");
        let (key, certificate) = trust.node(IpAddr::V4(Ipv4Addr::LOCALHOST), NOW.minus_secs(3600));
        Self { trust, key, certificate }
    }

    fn start(&self) -> Place {
        Place { number: DROPPED, hash: AuditHash::new([4; 32]) }
    }

    fn rows(&self, event: &str) -> Vec<Row> {
        let mut at = self.start();
        let row = |n: u64| {
            let mut entry =
                AuditEntry::new(event, "a-code", format!("näher \"bestimmt\" {n}")).address("192.0.2.7:4001");
            entry.at = NOW.plus_secs(n);
            if n.is_multiple_of(2) {
                entry = entry.trust("RXA".parse().unwrap()).node(NodeId::new(self.key.public()));
                entry = entry.record(lanyard_crypto::RecordId::of(b"a record"));
            }
            at = at.then(&entry);
            Row { place: at, entry }
        };
        (0..ROWS).map(row).collect()
    }

    fn head(&self, place: Place) -> String {
        self.head_at(place, NOW)
    }

    fn head_at(&self, place: Place, issued: Timestamp) -> String {
        let network = Some(self.trust.network().id());
        let header = Header { network, custodians: Vec::new(), issued, expires: issued.plus_secs(600) };
        let head = Head { number: place.number, hash: place.hash, dropped: DROPPED };
        let signed =
            record::sign(header, Body::Head(head), self.certificate.fingerprint(), &self.key).unwrap();
        to_hex(signed.bytes())
    }

    fn chains(&self) -> Vec<[String; 2]> {
        vec![[to_hex(self.certificate.der()), to_hex(self.trust.registrar_certificate.der())]]
    }

    fn export(&self, rows: &[Row], heads: &[usize]) -> String {
        let opening = Opening {
            format: FORMAT.into(),
            version: VERSION,
            network: self.trust.network().id().to_string(),
            trust: "RYJ".into(),
            peer_id: peer_id(&NodeId::new(self.key.public())),
            after: DROPPED,
            after_hash: self.start().hash.to_string(),
            chains: self.chains(),
        };
        let mut text = line_of(&opening);
        heads.iter().for_each(|i| text += &line_of(&HeadLine { head: self.head(rows[*i].place) }));
        rows.iter().for_each(|row| text += &line_of(&line(row.clone())));
        text
    }

    fn verify(&self, text: &[u8]) -> Result<Shown, ExportError> {
        verify(text, self.trust.network(), &Others::new())
    }

    fn others(&self, place: Place) -> Others {
        self.others_at(place, NOW)
    }

    fn others_at(&self, place: Place, issued: Timestamp) -> Others {
        let mut network = self.trust.network();
        learn(&mut network, &self.chains()).unwrap();
        let (node, head, _) = verified_head(&self.head_at(place, issued), &network).unwrap();
        Others::from([(node, vec![head])])
    }
}

#[test]
fn an_export_is_verified() {
    let scene = Scene::new();
    let rows = scene.rows("refused");
    let shown = scene.verify(scene.export(&rows, &[2, 6]).as_bytes()).unwrap();
    assert_eq!((shown.first, shown.last, shown.own_heads), (DROPPED + 1, DROPPED + ROWS, 2));
    assert_eq!((shown.signed, shown.trust.as_str()), (rfc3339(NOW), "RYJ"));
}

#[test]
fn every_altered_byte_is_found() {
    let scene = Scene::new();
    let text = scene.export(&scene.rows("refused"), &[6]).into_bytes();
    for at in 0..text.len() {
        let mut altered = text.clone();
        altered[at] ^= 1 << (at % 7);
        let found = scene.verify(&altered);
        assert!(found.is_err(), "byte {at}: {}", String::from_utf8_lossy(&altered));
    }
    for cut in [0, 1, text.len() / 2, text.len() - 1] {
        assert!(scene.verify(&text[..cut]).is_err(), "cut at {cut}");
    }
    assert!(scene.verify(&[&text[..], b"\n"].concat()).is_err());
}

#[test]
fn the_row_that_was_altered_is_named() {
    let scene = Scene::new();
    let text = scene.export(&scene.rows("refused"), &[6]);
    for (i, line) in text.lines().enumerate().skip(2) {
        let number = DROPPED + i as u64 - 1;
        let with = |new: &str| -> String {
            let line = |(j, old)| if i == j { new } else { old }.to_owned() + "\n";
            text.lines().enumerate().map(line).collect()
        };
        let other = line.replace("refused", "allowed");
        let found = scene.verify(with(&other).as_bytes()).unwrap_err();
        assert!(matches!(found, ExportError::Broken(Broken::Altered(n)) if n == number), "{found}");
        let spaced = line.replace(',', ", ");
        let found = scene.verify(with(&spaced).as_bytes()).unwrap_err();
        assert!(matches!(found, ExportError::Line { row: Some(n), .. } if n == number), "{found}");
        assert!(found.to_string().contains(&format!("row {number} ")), "{found}");
        let gone: String =
            text.lines().enumerate().filter(|(j, _)| *j != i).map(|(_, l)| l.to_owned() + "\n").collect();
        assert!(scene.verify(gone.as_bytes()).is_err());
    }
}

#[test]
fn a_log_that_was_written_anew_lacks_what_others_hold() {
    let scene = Scene::new();
    let (was, is) = (scene.rows("refused"), scene.rows("allowed"));
    let text = scene.export(&is, &[6]);
    assert!(scene.verify(text.as_bytes()).is_ok(), "by itself it is a log");
    let verify = |others: &Others| verify(text.as_bytes(), scene.trust.network(), others);
    let found = verify(&scene.others(was[3].place)).unwrap_err();
    let other = |b: &Broken| matches!(b, Broken::Replaced { number, holder: Holder::Other, .. } if *number == DROPPED + 4);
    assert!(matches!(&found, ExportError::Broken(b) if other(b)), "{found}");
    assert_eq!(verify(&scene.others(is[3].place)).unwrap().other_heads, 1);
    // One that was dropped says nothing; one that is still to come says that rows are missing.
    let before = Place { number: DROPPED, hash: scene.start().hash };
    assert_eq!(verify(&scene.others(before)).unwrap().other_heads, 1);
    let later = Place { number: DROPPED + ROWS + 1, ..is[6].place };
    assert!(matches!(
        verify(&scene.others(later)).unwrap_err(),
        ExportError::Broken(Broken::CutShort { .. })
    ));
    // Unless the node signed it after it had shown the log. A row that is shown must be the one all the same.
    let after = NOW.plus_secs(1200);
    let shown = verify(&scene.others_at(later, after)).unwrap();
    assert_eq!((shown.heads_after, shown.other_heads), (1, 0));
    assert!(verify(&scene.others_at(was[3].place, after)).is_err());
}

#[test]
fn what_no_head_covers_is_not_shown() {
    let scene = Scene::new();
    let rows = scene.rows("refused");
    for heads in [&[][..], &[3]] {
        let found = scene.verify(scene.export(&rows, heads).as_bytes()).unwrap_err();
        assert!(
            matches!(found, ExportError::Broken(Broken::Unsigned(_)) | ExportError::Line { line: 1, .. }),
            "{found}"
        );
    }
    // A head of another node of the same network.
    let (key, certificate) = scene.trust.node(IpAddr::V4(Ipv4Addr::LOCALHOST), NOW.minus_secs(3600));
    let other = Scene { trust: scene.trust, key, certificate };
    let mut text = other.export(&rows, &[6]);
    text = text.replace(&peer_id(&NodeId::new(other.key.public())), &peer_id(&NodeId::new([9; 32])));
    assert!(matches!(other.verify(text.as_bytes()).unwrap_err(), ExportError::Head { .. }));
}
