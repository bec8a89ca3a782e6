//! Signed heads: how a node's log can be held against what the node had said of it before.
//!
//! A node signs a head of its log when something was added, at most one in each period of [`HEAD_SPANS`], as a record for every
//! trust. It spreads like any other, so a node that tells two trusts different stories is found by whoever gets both. What
//! each node may have others hold is bounded by time: of each period one head is kept, and how long it lives says which of the
//! periods it stands for. Which one that is depends on the records alone, so that all replicas end alike (P5).
//!
//! Two heads of one node that cannot both be of one log are kept whole, as [`Contradiction`], whatever becomes of the records. So are
//! two that stand for one period, of which one would take the other's place: a node that wanted to get rid of a head would sign such a one.
//! Between heads whose rows differ without that, only the log itself can tell: it must contain the rows of them all
//! ([`super::check`]).

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{self, Body, Head, Header, Verified};
use lanyard_crypto::{AuditHash, NodeId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::AuditEntry;
use super::chain::{self, Place};
use super::check::{Holder, Stated};
use crate::Replica;
use crate::erase;
use crate::holding::Holding;
use crate::input::Reply;
use crate::keys;
use crate::limits::{CONTRADICTION_LIFE_SECS, HEAD_SHOWN, HEAD_SPANS, SCAN_ROWS};
use crate::mutation::{self, Mutation};
use crate::query::for_each;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The name under which [`Tree::Meta`] has the number of the row that was signed last, and when that was.
const SIGNED: &[u8] = b"audit-signed";
/// A row of [`Tree::Heads`], in bytes: two small records at most.
const ROW_BYTES_MAX: usize = 4 * 1024;

/// What a head says and whose it is. As a row of [`Tree::Heads`], field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldHead {
    /// The record.
    pub record: RecordId,
    /// The trust that had certified the node.
    pub trust: TrustId,
    /// The number of the row.
    pub number: u64,
    /// What covers the row and all before it.
    pub hash: AuditHash,
    /// The last row that had been dropped.
    pub dropped: u64,
    /// When it was signed.
    pub issued: Timestamp,
}

/// Two heads of one node that are not of one log, or one that is not of the log that this node itself has. As a row of [`Tree::Heads`],
/// field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contradiction {
    /// The trust that had certified the node.
    pub trust: TrustId,
    /// When it was found.
    pub found: Timestamp,
    /// A stable word: `forked`, `went-back`, `signed-twice` or `rows-lost`.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The records that show it, whole.
    pub records: Vec<ByteBuf>,
}

impl HeldHead {
    /// For following the log that it is of.
    pub fn stated(&self, holder: Holder) -> Stated {
        let Self { number, hash, dropped, issued, .. } = *self;
        Stated { place: Place { number, hash }, dropped, signed: issued, holder }
    }

    /// The head that a verified record is, and its node; none if it is of another kind.
    pub fn of(record: &Verified) -> Option<(NodeId, HeldHead)> {
        let (Body::Head(head), record::Signer::Node { trust, node }) = (record.body(), record.signer())
        else {
            return None;
        };
        let Head { number, hash, dropped } = *head;
        let (id, issued) = (record.id(), record.header().issued);
        Some((*node, HeldHead { record: id, trust: trust.clone(), number, hash, dropped, issued }))
    }

    /// Why this and a head of the same node cannot be of one log.
    fn contradicts(&self, other: &HeldHead) -> Option<(&'static str, String)> {
        let (earlier, later) = if (self.issued, self.number) <= (other.issued, other.number) {
            (self, other)
        } else {
            (other, self)
        };
        if earlier.number == later.number && earlier.hash != later.hash {
            return Some((FORKED, format!("it has signed two rows {}", self.number)));
        }
        let back = earlier.issued < later.issued && earlier.number > later.number;
        back.then(|| {
            let (before, after) = (earlier.number, later.number);
            (
                "went-back",
                format!(
                    "it had signed row {before}, and then row {after}: its log, or its clock, was set back"
                ),
            )
        })
    }
}

/// Whether a head may be stored: unless another one of its node stands for the same period.
pub(crate) fn check(record: &Verified, view: &dyn View) -> Result<Result<(), Refusal>, StorageError> {
    let Some((node, head)) = HeldHead::of(record) else { unreachable!("nodes alone sign heads") };
    let held = view.get(Tree::Heads, &place_of(&node, record.header()))?.and_then(|row| of_row(&row));
    Ok(match held {
        Some(held) if (held.issued, held.record) >= (head.issued, head.record) => {
            Err(Refusal::Superseded("head of this audit log"))
        }
        _ => Ok(()),
    })
}

/// Takes the place of the head that stood for the same period.
pub(crate) fn follow(turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
    let Some((node, head)) = HeldHead::of(record) else { unreachable!("nodes alone sign heads") };
    let key = place_of(&node, record.header());
    if let Some(before) = turn.rows.get(Tree::Heads, &key)?.and_then(|row| of_row(&row))
        && let Some(held) = Holding::get(&turn.rows, &before.record)?
    {
        erase::drop_record(turn, &before.record, &held)?;
    }
    turn.rows.put(Tree::Heads, keys::head_place(&head.record), key.clone());
    turn.rows.put(Tree::Heads, key, cbor::to_vec(&head));
    Ok(())
}

/// A head is dropped, and its row with it, unless another head has taken its place.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some(key) = turn.rows.get(Tree::Heads, &keys::head_place(id))? else { return Ok(()) };
    turn.rows.delete(Tree::Heads, keys::head_place(id));
    if turn.rows.get(Tree::Heads, &key)?.and_then(|row| of_row(&row)).is_some_and(|held| held.record == *id) {
        turn.rows.delete(Tree::Heads, key);
    }
    Ok(())
}

/// Forgets contradictions that have been shown for long enough.
pub(crate) fn expire(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, row) in turn.rows.scan_prefix(Tree::Heads, &[keys::CONTRADICTIONS], SCAN_ROWS)? {
        let over = |found: Contradiction| found.found.plus_secs(CONTRADICTION_LIFE_SECS) <= turn.now;
        if cbor::from_slice(&row, ROW_BYTES_MAX).map_or(true, over) {
            turn.rows.delete(Tree::Heads, key);
        }
    }
    Ok(())
}

impl Replica {
    /// Signs a head once something was added to the log, and another period has begun.
    pub(crate) fn sign_head_if_due(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let last = chain::last(&turn.rows)?;
        let signed = turn.rows.get(Tree::Meta, SIGNED)?.unwrap_or_default();
        let [number, at] = [0, 8].map(|i| {
            signed.get(i..).and_then(|part| part.first_chunk::<8>()).map_or(0, |b| u64::from_be_bytes(*b))
        });
        let now = turn.now.as_secs();
        // A clock that was set back a little: a head of now would seem to come before the last one.
        if now < at && at <= now + 2 * CLOCK_SKEW_SECS_MAX {
            return Ok(());
        }
        let differs = |(period, _): &&(u64, u64)| now / period != at / period;
        // The first head of a longer period stands for it.
        let Some((_, life_secs)) = HEAD_SPANS.iter().rev().find(differs) else { return Ok(()) };
        // Others could not verify it before they have the entry of this node, and lower layers come first.
        let entered = turn.rows.contains(Tree::Directory, self.own.certificate.as_bytes())?;
        if last.number == number || !entered {
            return Ok(());
        }
        let (header, head) = self.head(turn, *life_secs)?;
        // Our own certificate may have lapsed: the next period tries again.
        let number = self.originate(turn, header, Body::Head(head))?.map_or(number, |_| last.number);
        turn.rows.put(Tree::Meta, SIGNED, [number.to_be_bytes(), now.to_be_bytes()].concat());
        Ok(())
    }

    /// A head of the log as it is now, signed for whoever asked, and neither kept nor spread.
    pub(crate) fn sign_head(&self, turn: &mut Turn<'_>) -> Result<Result<Reply, Refusal>, StorageError> {
        let (header, head) = self.head(turn, HEAD_SHOWN.1)?;
        let dropped = chain::dropped(&turn.rows)?;
        let signed = self.signed(header, Body::Head(head));
        Ok(signed.map(|record| Reply::Head { record: record.bytes().to_vec(), dropped }))
    }

    fn head(&self, turn: &Turn<'_>, life_secs: u64) -> Result<(Header, Head), StorageError> {
        let Place { mut number, hash } = chain::last(&turn.rows)?;
        number += u64::from(mutation::is(Mutation::SignAhead));
        let head = Head { number, hash, dropped: chain::dropped(&turn.rows)?.number };
        let (issued, expires) = (turn.now, turn.now.plus_secs(life_secs));
        Ok((Header { network: Some(self.network.id()), custodians: Vec::new(), issued, expires }, head))
    }

    /// Holds a head against what is known of its node's log. What it contradicts is noted, each code once for each node; nothing is worse
    /// than a fork.
    pub(crate) fn hold_against(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        (head, header): (&HeldHead, &Header),
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let found = if node == self.own.node {
            let found = of_own(turn, head)?;
            if found.is_some() {
                self.found_old(turn, head.issued)?;
            }
            found
        } else {
            of_others(turn, &node, head, &place_of(&node, header))?
        };
        let Some((code, detail, other)) = found else { return Ok(()) };
        let key = keys::contradiction(&node, code);
        let worst = keys::contradiction(&node, FORKED);
        if turn.rows.contains(Tree::Heads, &key)? || turn.rows.contains(Tree::Heads, &worst)? {
            return Ok(());
        }
        let mut records = vec![ByteBuf::from(bytes.to_vec())];
        if let Some(other) = other {
            records.extend(turn.rows.get(Tree::Records, other.as_bytes())?.map(ByteBuf::from));
        }
        let trust = head.trust.clone();
        let entry = AuditEntry::new(CONTRADICTED, code, detail.clone()).node(node).trust(trust.clone());
        turn.audit(entry.record(head.record))?;
        let row = Contradiction { trust, found: turn.now, code: code.into(), detail, records };
        turn.rows.put(Tree::Heads, key, cbor::to_vec(&row));
        Ok(())
    }
}

/// The code of two heads of the same number.
const FORKED: &str = "forked";
/// The code of a head of this node that is not of the log that is here.
const ROWS_LOST: &str = "rows-lost";
/// The event of an entry about an audit log that was told in two ways.
pub const CONTRADICTED: &str = "audit-log-contradicted";

/// A code, a text for people, and the record that shows it beside the one that was looked at.
type Found = Option<(&'static str, String, Option<RecordId>)>;

/// `place` is where the head would stand.
fn of_others(turn: &Turn<'_>, node: &NodeId, head: &HeldHead, place: &[u8]) -> Result<Found, StorageError> {
    let mut found: Found = None;
    each_of(&turn.rows, node, |held| {
        let worst = found.as_ref().is_some_and(|(code, ..)| *code == FORKED);
        if !worst && let Some((code, detail)) = head.contradicts(&held) {
            found = Some((code, detail, Some(held.record)));
        }
    })?;
    let stands = turn.rows.get(Tree::Heads, place)?.and_then(|row| of_row(&row));
    if found.is_none()
        && !place.starts_with(&keys::heads_of_span(node, 0))
        && let Some(stands) = stands
    {
        let detail = format!("it has signed rows {} and {} for one period", stands.number, head.number);
        found = Some(("signed-twice", detail, Some(stands.record)));
    }
    Ok(found)
}

/// Of a head that others have kept of this very log: it must contain it.
fn of_own(turn: &Turn<'_>, head: &HeldHead) -> Result<Found, StorageError> {
    let (dropped, last) = (chain::dropped(&turn.rows)?, chain::last(&turn.rows)?);
    let what = match head.number {
        number if number < dropped.number => return Ok(None),
        number if number > last.number => format!("this log ends with row {}", last.number),
        number if number == dropped.number && dropped.hash != head.hash => {
            "another row was dropped here".into()
        }
        number if number == dropped.number => return Ok(None),
        number => match chain::row(&turn.rows, number)? {
            Some(row) if row.place.hash == head.hash => return Ok(None),
            _ => "another row stands here".into(),
        },
    };
    let number = head.number;
    Ok(Some((
        ROWS_LOST,
        format!("this node had signed row {number}, and {what}: was an older copy restored?"),
        None,
    )))
}

/// When it was first noted that a node's own log is not the one that it has signed; none if it was not, or long ago.
///
/// # Errors
/// The view's.
pub(crate) fn rows_lost(view: &dyn View, node: &NodeId) -> Result<Option<Timestamp>, StorageError> {
    let row = view.get(Tree::Heads, &keys::contradiction(node, ROWS_LOST))?;
    Ok(row.and_then(|row| cbor::from_slice::<Contradiction>(&row, ROW_BYTES_MAX).ok()).map(|c| c.found))
}

/// The heads that are held of a node's log, of all periods.
///
/// # Errors
/// The view's.
pub fn held_of(view: &dyn View, node: &NodeId) -> Result<Vec<HeldHead>, StorageError> {
    let mut heads = Vec::new();
    each_of(view, node, |head| heads.push(head))?;
    heads.sort_by_key(|head| (head.issued, head.number));
    Ok(heads)
}

/// The newest head that is held of each node's log, this node's own among them.
///
/// # Errors
/// The view's.
pub fn newest_heads(view: &dyn View) -> Result<Vec<(NodeId, HeldHead)>, StorageError> {
    let mut newest = std::collections::BTreeMap::<NodeId, HeldHead>::new();
    for_each(view, Tree::Heads, &[keys::HEADS], |key, row| {
        if let (Some(node), Some(head)) = (keys::node_in(key), of_row(row)) {
            let held = newest.entry(node).or_insert_with(|| head.clone());
            if (held.issued, held.number) < (head.issued, head.number) {
                *held = head;
            }
        }
        Ok(())
    })?;
    Ok(newest.into_iter().collect())
}

/// What contradicts itself, by the node that it is about.
///
/// # Errors
/// The view's.
pub fn contradictions(view: &dyn View) -> Result<Vec<(NodeId, Contradiction)>, StorageError> {
    let mut all = Vec::new();
    for_each(view, Tree::Heads, &[keys::CONTRADICTIONS], |key, row| {
        all.extend(keys::node_in(key).zip(cbor::from_slice(row, ROW_BYTES_MAX).ok()));
        Ok(())
    })?;
    Ok(all)
}

fn each_of(view: &dyn View, node: &NodeId, mut each: impl FnMut(HeldHead)) -> Result<(), StorageError> {
    for_each(view, Tree::Heads, &keys::heads_of(node), |_, row| {
        of_row(row).into_iter().for_each(&mut each);
        Ok(())
    })
}

fn of_row(row: &[u8]) -> Option<HeldHead> {
    cbor::from_slice(row, ROW_BYTES_MAX).ok()
}

/// Where a head of this node stands: for the period that its life is meant for.
fn place_of(node: &NodeId, header: &Header) -> Vec<u8> {
    let life_secs = header.expires.as_secs() - header.issued.as_secs();
    let span = SPANS.iter().position(|(_, most)| life_secs <= *most).unwrap_or(SPANS.len() - 1);
    keys::head(node, span as u8, header.issued.as_secs() / SPANS[span].0)
}

/// The periods for which heads stand: first the one of those that were signed for somebody.
const SPANS: [(u64, u64); 4] = [HEAD_SHOWN, HEAD_SPANS[0], HEAD_SPANS[1], HEAD_SPANS[2]];
