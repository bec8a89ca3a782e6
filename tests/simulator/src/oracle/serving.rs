//! What leaves a node: frames, gossip, inboxes. Nothing deleted or expired, nothing unverified, nothing to whom it is not for,
//! nothing beyond the table of limits.

use lanyard_crypto::gateway::InboxResponse;
use lanyard_crypto::record::Kind;
use lanyard_crypto::{RecordId, Timestamp, TrustId};
use lanyard_replica::frame::Frame;
use lanyard_replica::{limits, query};

use super::Oracle;
use crate::counters::{Counter, Counters};

impl Oracle {
    /// A frame leaves a node, decided when its clock showed `clock`.
    pub fn frame(
        &mut self,
        node: usize,
        to: &TrustId,
        bytes: &[u8],
        clock: Timestamp,
        counters: &mut Counters,
    ) {
        if bytes.len() > limits::FRAME_BYTES_MAX {
            self.fail("P8", format!("node {node} sends a frame of {} bytes", bytes.len()));
        }
        let frame = match Frame::from_bytes(bytes) {
            Ok(frame) => frame,
            Err(e) => return self.fail("P8", format!("node {node} sends what is no frame: {e}")),
        };
        let Frame::Records(records) = frame else { return };
        let len: usize = records.iter().map(|r| r.len()).sum();
        if len > limits::FRAME_RECORDS_BYTES_MAX || records.len() > limits::FRAME_RECORDS_MAX {
            self.fail(
                "P8",
                format!("node {node} sends {} records of {len} bytes in one frame", records.len()),
            );
        }
        if self.nodes[node].charter.1.binary_search(to).is_err() {
            self.fail("P3", format!("node {node} sends records to {to}, which is not in its charter"));
        }
        for record in records {
            if let Some(id) = self.leaves(node, &record, clock, "sends", counters)
                && let Some(fact) = self.ledger.get(&id)
                && !fact.is_for(to)
            {
                self.fail("P3", format!("node {node} sends {id} to {to}, which is no custodian"));
            }
        }
    }

    /// A record is published or passed on by gossip.
    pub fn gossip(&mut self, node: usize, bytes: &[u8], clock: Timestamp, counters: &mut Counters) {
        self.leaves(node, bytes, clock, "gossips", counters);
    }

    fn leaves(
        &mut self,
        node: usize,
        bytes: &[u8],
        clock: Timestamp,
        how: &str,
        counters: &mut Counters,
    ) -> Option<RecordId> {
        let id = RecordId::of(bytes);
        let name = |what: &str| format!("node {node} {how} {id}, {what}");
        if let Some(why) = self.ledger.condemned(&id) {
            self.fail("P2", name(why));
            return None;
        }
        let Some(fact) = self.ledger.learn(bytes) else {
            self.fail("P2", name("which is no record"));
            return None;
        };
        // A replica that lags behind its clock by a moment has not been told yet.
        let end = self.end_at(node, &fact);
        if end <= clock {
            self.fail("P6", name(&format!("which expired at {} (now {})", end.as_secs(), clock.as_secs())));
        }
        if self.knows_deleted(node, &id) {
            self.fail("P6", name("which it knew to be deleted"));
        }
        if fact.kind == Kind::Receipt {
            counters.add(Counter::Receipt);
        }
        if let (Some(lanyard_crypto::record::Class::Commit), Some(conversation)) =
            (fact.class, &fact.conversation)
        {
            let contents = self.commits.entry((conversation.clone(), fact.epoch)).or_default();
            contents.insert(fact.content);
            let honest = self.cast.place(conversation.owner()) != Some(crate::cast::LIAR);
            if contents.len() > 1 && honest {
                self.fail("P5", name(&format!("a second commit for epoch {}", fact.epoch)));
            }
        }
        Some(id)
    }

    /// A device reads a page of its inbox.
    pub fn inbox(&mut self, node: usize, page: &InboxResponse, clock: Timestamp, counters: &mut Counters) {
        let bytes: usize = page.items.iter().filter_map(|i| i.record.as_ref()).map(|r| r.bytes.len()).sum();
        let first = page.items.first().and_then(|i| i.record.as_ref()).map_or(0, |r| r.bytes.len());
        if page.items.len() > query::INBOX_ITEMS_MAX || bytes > query::INBOX_BYTES_MAX + first {
            self.fail("P8", format!("node {node} gives a page of {} items, {bytes} bytes", page.items.len()));
        }
        if !page.items.windows(2).all(|w| w[0].seq < w[1].seq) {
            self.fail("P4", format!("node {node} gives a page that is not in order"));
        }
        for record in page.items.iter().filter_map(|i| i.record.as_ref()) {
            self.leaves(node, &record.bytes, clock, "delivers", counters);
        }
    }
}
