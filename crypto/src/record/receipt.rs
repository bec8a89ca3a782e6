//! Receipts: what a replica attests of deletions, in batches under one signature.
//!
//! The signature is over the root of a Merkle tree (RFC 9162, section 2.1, with SHA-256) and its size; the items, which are the
//! tree's leaves, travel beside it in an unprotected header of the COSE_Sign1. Whoever reads a receipt computes the tree again,
//! so that nothing that is not signed can be changed; and one item can be shown to others without the rest ([`super::prove`]).

use std::collections::BTreeSet;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha2::Sha256;

use super::{DecodeError, DeviceLine};
use crate::limits::{HOLD_REFERENCE_BYTES_MAX, RECEIPT_ITEMS_MAX, WAITING_NAMED_MAX};
use crate::{ConversationId, Fingerprint, RecordId, Timestamp, TreeHash, cbor};

/// What a replica attests. It proves that the node attested it, no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// In the order of their encodings; of each kind at most one about a tombstone, or about a device's erasure for it.
    pub items: Vec<ReceiptItem>,
}

/// One thing that a replica attests. The order of the variants is wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptItem {
    /// It has carried out a tombstone.
    Erased(Erased),
    /// It keeps what a tombstone names, since its trust must.
    Held(Held),
    /// A device of its trust says that it has erased its plaintext.
    DeviceErased(DeviceErased),
    /// Devices of its trust have yet to say so.
    Waiting(Waiting),
    /// It has dropped what had expired.
    Expired(Expired),
}

/// A tombstone that a replica has carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    /// The tombstone.
    pub tombstone: RecordId,
    /// When its envelopes were gone from this replica's disk.
    pub erased: Timestamp,
    /// How many envelopes it erased here; those that had never arrived do not count.
    pub envelopes: u32,
    /// How many devices of this trust are to erase what they have of it.
    pub devices: u32,
}

/// A hold: the replica keeps what a tombstone names, sealed, and delivers and serves it to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The tombstone.
    pub tombstone: RecordId,
    /// When the hold ends.
    pub until: Timestamp,
    /// Of the trust, an opaque reference: at most 64 bytes.
    #[serde(with = "serde_bytes")]
    pub reference: Vec<u8>,
}

/// A device's erasure of its plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceErased {
    /// The tombstone.
    pub tombstone: RecordId,
    /// The device's own signature: a [`DeviceLine`] about this tombstone.
    #[serde(with = "serde_bytes")]
    pub line: Vec<u8>,
}

/// Devices of the replica's trust that are to erase, and have not said that they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The tombstone.
    pub tombstone: RecordId,
    /// At most 16 of them, sorted by device.
    #[serde(deserialize_with = "cbor::at_most::<_, _, WAITING_NAMED_MAX>")]
    pub devices: Vec<WaitingDevice>,
    /// How many there are in all, named here or not.
    pub count: u32,
}

/// A device that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingDevice {
    /// Its certificate.
    pub device: Fingerprint,
    /// When it last spoke to its node, if it ever did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen: Option<Timestamp>,
}

/// What has expired in one conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expired {
    /// The conversation.
    pub conversation: ConversationId,
    /// The beginning of the hour in which it expired.
    pub hour: Timestamp,
    /// When it was gone from this replica's disk.
    pub erased: Timestamp,
    /// How many envelopes it erased.
    pub envelopes: u32,
}

impl ReceiptItem {
    /// The tombstone that it is about, if it is about one.
    pub fn tombstone(&self) -> Option<RecordId> {
        match self {
            ReceiptItem::Erased(item) => Some(item.tombstone),
            ReceiptItem::Held(item) => Some(item.tombstone),
            ReceiptItem::DeviceErased(item) => Some(item.tombstone),
            ReceiptItem::Waiting(item) => Some(item.tombstone),
            ReceiptItem::Expired(_) => None,
        }
    }

    /// The leaf that it is in the tree: its encoding.
    pub fn leaf(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// What may be stated once in a receipt.
    fn subject(&self) -> Vec<u8> {
        match self {
            ReceiptItem::Erased(i) => cbor::to_vec(&(0, i.tombstone)),
            ReceiptItem::Held(i) => cbor::to_vec(&(1, i.tombstone)),
            ReceiptItem::DeviceErased(i) => {
                let signer = DeviceLine::from_bytes(&i.line).ok().map(|line| line.signer());
                cbor::to_vec(&(2, i.tombstone, signer))
            }
            ReceiptItem::Waiting(i) => cbor::to_vec(&(3, i.tombstone)),
            ReceiptItem::Expired(i) => cbor::to_vec(&(4, &i.conversation, i.hour)),
        }
    }

    fn check_bounds(&self) -> Result<(), DecodeError> {
        let within = |fits: bool, what| if fits { Ok(()) } else { Err(DecodeError::Bounds(what)) };
        match self {
            ReceiptItem::Erased(_) => Ok(()),
            ReceiptItem::Held(item) => within(
                item.reference.len() <= HOLD_REFERENCE_BYTES_MAX,
                "the reference of a hold is at most 64 bytes",
            ),
            ReceiptItem::DeviceErased(item) => within(
                DeviceLine::from_bytes(&item.line)?.tombstone() == item.tombstone,
                "a device's line is about the tombstone of its item",
            ),
            ReceiptItem::Waiting(item) => {
                let named = item.devices.len();
                within(
                    named <= WAITING_NAMED_MAX && named <= item.count as usize,
                    "at most 16 of the devices that are waited for are named, and no more than there are",
                )?;
                let sorted = item.devices.windows(2).all(|w| w[0].device < w[1].device);
                within(sorted, "the devices that are waited for are sorted, each once")
            }
            ReceiptItem::Expired(item) => within(
                item.hour.as_secs().is_multiple_of(3600) && item.envelopes > 0,
                "what expired is told by the whole hour, and only if something did",
            ),
        }
    }
}

impl Receipt {
    /// Puts items into the order in which a receipt states them.
    pub fn sorted(mut items: Vec<ReceiptItem>) -> Vec<ReceiptItem> {
        items.sort_by_cached_key(ReceiptItem::leaf);
        items
    }

    /// Splits items, sorted, into as many receipts as they need.
    pub fn split(items: Vec<ReceiptItem>) -> Vec<Receipt> {
        let mut receipts: Vec<Receipt> = Vec::new();
        let mut bytes = 0;
        for item in Self::sorted(items) {
            let len = item.leaf().len();
            bytes += len;
            match receipts.last_mut() {
                Some(last)
                    if last.items.len() < RECEIPT_ITEMS_MAX
                        && bytes <= crate::limits::RECEIPT_LEAVES_BYTES_MAX =>
                {
                    last.items.push(item);
                }
                _ => {
                    receipts.push(Receipt { items: vec![item] });
                    bytes = len;
                }
            }
        }
        receipts
    }

    pub(super) fn check_bounds(&self) -> Result<(), DecodeError> {
        if !(1..=RECEIPT_ITEMS_MAX).contains(&self.items.len()) {
            return Err(DecodeError::Bounds("a receipt attests 1 to 512 things"));
        }
        let leaves: Vec<_> = self.items.iter().map(ReceiptItem::leaf).collect();
        if !leaves.windows(2).all(|w| w[0] < w[1]) {
            return Err(DecodeError::Bounds("what a receipt attests is sorted, each once"));
        }
        self.items.iter().try_for_each(ReceiptItem::check_bounds)?;
        let subjects: BTreeSet<_> = self.items.iter().map(ReceiptItem::subject).collect();
        if subjects.len() < self.items.len() {
            return Err(DecodeError::Bounds("a receipt attests one thing once"));
        }
        Ok(())
    }

    pub(super) fn tree(&self) -> MemoryBackedTree<Sha256, Vec<u8>> {
        let mut tree = MemoryBackedTree::new();
        self.items.iter().for_each(|item| tree.push(item.leaf()));
        tree
    }

    pub(super) fn batch(&self) -> Batch {
        let root = self.tree().root();
        Batch { size: root.num_leaves(), root: TreeHash::new((*root.as_bytes()).into()) }
    }
}

/// What is signed of a receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch {
    pub(super) size: u64,
    pub(super) root: TreeHash,
}

/// The items beside the signature, counted as they are read.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Leaves(
    #[serde(deserialize_with = "cbor::at_most::<_, _, RECEIPT_ITEMS_MAX>")] pub(super) Vec<ReceiptItem>,
);

/// An inclusion proof as RFC 9942 encodes it (section 5.2): tree size, leaf index, and the hashes on the way to the root.
#[derive(Serialize, Deserialize)]
pub(super) struct InclusionPath(pub(super) u64, pub(super) u64, pub(super) Vec<ByteBuf>);
