//! What a monitoring system reads: `GET /metrics` on the operator's socket, in OpenMetrics text (version 1.0.0).

use std::fmt;

use lanyard_crypto::network::Network;
use lanyard_crypto::x509::Certificate;
use lanyard_replica::query::Overdue;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::backend::PeerStatus;
use crate::time::now;

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Trust {
    trust: String,
}

/// The figures as they are now.
///
/// # Errors
/// None: a string takes all that is written to it.
pub fn text(
    peers: &[PeerStatus],
    counts: &[(String, u64)],
    overdue: &[Overdue],
    certificate: &Certificate,
    network: &Network,
) -> Result<String, fmt::Error> {
    let records = Family::<Kind, Gauge>::default();
    let waiting = Family::<Trust, Gauge>::default();
    for (name, count) in counts {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        match name.strip_prefix("waiting for ") {
            Some(trust) => waiting.get_or_create(&Trust { trust: trust.into() }).set(count),
            None => records.get_or_create(&Kind { kind: name.clone() }).set(count),
        };
    }
    let (connected, late) = (Family::<Trust, Gauge>::default(), Family::<Trust, Gauge>::default());
    for peer in peers {
        let trust = Trust { trust: peer.trust.to_string() };
        connected.get_or_create(&trust).inc_by(i64::from(peer.connected));
        // A trust of which nothing is overdue has a figure too, so that an alert can tell it from one that is not known.
        late.get_or_create(&trust).inc_by(0);
    }
    for one in overdue {
        late.get_or_create(&Trust { trust: one.trust.to_string() }).inc();
    }
    let left = Gauge::<i64>::default();
    let left_secs = certificate.not_after().as_secs().saturating_sub(network.time(now()).as_secs());
    left.set(i64::try_from(left_secs).unwrap_or(i64::MAX));

    let behind = Gauge::<i64>::default();
    behind.set(i64::try_from(network.behind_secs(now())).unwrap_or(i64::MAX));

    let mut registry = Registry::with_prefix("lanyard");
    let what = "Replicas that have not confirmed a deletion of this trust in time, by their trust";
    registry.register("deletions_overdue", what, late);
    registry.register("records", "Records held, by kind", records);
    registry.register("records_waiting", "Records that a trust has yet to acknowledge", waiting);
    registry.register("peers_connected", "Admitted nodes that are connected, by trust", connected);
    registry.register("certificate_left_seconds", "Until the certificate of the node ends", left);
    let what = "By how much the clock of the machine is behind, by what other trusts sign";
    registry.register("clock_behind_seconds", what, behind);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use lanyard_crypto::{NodeId, RecordId, Timestamp};

    use super::*;
    use crate::testing;

    #[test]
    fn what_is_overdue_is_a_figure_of_its_trust() {
        let trust = testing::Trust::new("RXA");
        let peer = |code: &str, connected| PeerStatus {
            node: NodeId::new([1; 32]),
            trust: code.parse().unwrap(),
            connected,
        };
        let late = Overdue {
            tombstone: RecordId::new([1; 32]),
            trust: "RXB".parse().unwrap(),
            node: None,
            since: Timestamp::from_secs(1),
        };
        let counts = [("envelopes".to_owned(), 7), ("waiting for RXB".to_owned(), 2)];
        let peers = [peer("RXB", true), peer("RXC", false)];
        let mut network = trust.network();
        // Later than the certificate ends.
        network.set_floor(trust.registrar_certificate.not_after().plus_secs(60));
        let text = text(&peers, &counts, &[late], &trust.registrar_certificate, &network).unwrap();
        for line in [
            "lanyard_deletions_overdue{trust=\"RXB\"} 1",
            "lanyard_deletions_overdue{trust=\"RXC\"} 0",
            "lanyard_records{kind=\"envelopes\"} 7",
            "lanyard_records_waiting{trust=\"RXB\"} 2",
            "lanyard_certificate_left_seconds 0",
            "lanyard_peers_connected{trust=\"RXB\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let behind = text.lines().find_map(|l| l.strip_prefix("lanyard_clock_behind_seconds ")).unwrap();
        assert!(behind.parse::<u64>().unwrap() > 0, "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
