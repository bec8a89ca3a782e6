//! What the operator asks of audit logs: this node's own, to show it, and what is held of others'.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::gateway::Refusal;
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::{Fingerprint, NodeId, TrustId};
use lanyard_replica::audit::check::{self, Holder, Sound};
use lanyard_replica::audit::{self, Contradiction, HeldHead, Place};
use lanyard_replica::query;
use lanyard_storage::{StorageError, View};

use crate::address::peer_id;
use crate::audit_export::{Beginning, FORMAT, HeadLine, Opening, VERSION};
use crate::backend::{AuditChecked, AuditContradiction, AuditHead, AuditHeads, refusal};
use crate::time::rfc3339;

/// How an export begins; `newest` is the head that was signed for it, with the row that had been dropped last then.
pub(super) fn beginning(
    view: &dyn View,
    network: &Network,
    trust: &TrustId,
    node: &NodeId,
    (newest, after): (&[u8], Place),
) -> Result<Beginning, StorageError> {
    let last = Decoded::from_bytes(newest).ok().and_then(|record| match record.body() {
        lanyard_crypto::record::Body::Head(head) => Some(head.number),
        _ => None,
    });
    let mut records = Vec::new();
    for head in audit::held_of(view, node)? {
        records.extend(query::record_bytes(view, &head.record)?);
    }
    records.push(newest.to_vec());
    let chains = chains_of(network, &mut records);
    let opening = Opening {
        format: FORMAT.into(),
        version: VERSION,
        network: network.id().to_string(),
        trust: trust.to_string(),
        peer_id: peer_id(node),
        after: after.number,
        after_hash: after.hash.to_string(),
        chains,
    };
    let heads = records.iter().map(|record| HeadLine { head: to_hex(record) }).collect();
    Ok(Beginning { opening, heads, last: last.unwrap_or_default() })
}

/// Follows the node's own log against the heads of it that are here.
pub(super) fn checked(view: &dyn View, node: &NodeId) -> Result<Result<AuditChecked, Refusal>, StorageError> {
    let heads: Vec<_> = audit::held_of(view, node)?.iter().map(|head| head.stated(Holder::Own)).collect();
    Ok(match check::stored(view, &heads)? {
        Ok(Sound { dropped, last, own_heads, before, .. }) => Ok(AuditChecked {
            first: dropped + 1,
            last: last.number,
            hash: last.hash.to_string(),
            heads: own_heads,
            heads_before: before,
            signed: heads.iter().map(|head| head.place.number).max().unwrap_or(0),
        }),
        Err(broken) => Err(refusal("audit-log-broken", format!("this node's audit log: {broken}"))),
    })
}

/// What is held of a node's log, or the newest of each node's.
pub(super) fn heads(
    view: &dyn View,
    network: &Network,
    of: Option<NodeId>,
) -> Result<AuditHeads, StorageError> {
    let held: Vec<(NodeId, HeldHead)> = match of {
        Some(node) => audit::held_of(view, &node)?.into_iter().map(|head| (node, head)).collect(),
        None => audit::newest_heads(view)?,
    };
    let (mut all, mut records) = (AuditHeads::default(), Vec::new());
    for (node, head) in held {
        let Some(record) = query::record_bytes(view, &head.record)? else { continue };
        all.heads.push(AuditHead {
            trust: head.trust.to_string(),
            peer_id: peer_id(&node),
            number: head.number,
            hash: head.hash.to_string(),
            dropped: head.dropped,
            signed: rfc3339(head.issued),
            record: to_hex(&record),
        });
        records.push(record);
    }
    for (node, found) in audit::contradictions(view)? {
        if of.is_none_or(|of| of == node) {
            records.extend(found.records.iter().map(|record| record.to_vec()));
            all.contradictions.push(contradiction(&node, found));
        }
    }
    all.chains = chains_of(network, &mut records);
    Ok(all)
}

/// What contradicts itself.
pub(super) fn contradictions(view: &dyn View) -> Result<Vec<AuditContradiction>, StorageError> {
    let found = audit::contradictions(view)?;
    Ok(found.into_iter().map(|(node, found)| contradiction(&node, found)).collect())
}

fn contradiction(node: &NodeId, found: Contradiction) -> AuditContradiction {
    AuditContradiction {
        trust: found.trust.to_string(),
        peer_id: peer_id(node),
        found: rfc3339(found.found),
        code: found.code,
        detail: found.detail,
        records: found.records.iter().map(|record| to_hex(record)).collect(),
    }
}

/// The certificates behind records. Drops the records whose signer is not known here any more: nobody could check them by what is shown.
fn chains_of(network: &Network, records: &mut Vec<Vec<u8>>) -> Vec<[String; 2]> {
    let signer = |record: &[u8]| Decoded::from_bytes(record).ok()?.signer();
    let mut chains = BTreeMap::<Fingerprint, [String; 2]>::new();
    let signers: BTreeSet<_> = records.iter().filter_map(|record| signer(record)).collect();
    for signer in signers {
        if let Some(chain) = network.chain(&signer) {
            chains.insert(signer, chain.map(to_hex));
        }
    }
    records.retain(|record| signer(record).is_some_and(|signer| chains.contains_key(&signer)));
    chains.into_values().collect()
}
