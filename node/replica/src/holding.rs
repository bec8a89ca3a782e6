//! What the engine knows of each record that it holds, beside the record's bytes.

use lanyard_crypto::cbor;
use lanyard_crypto::record::{Body, Class, Header, Kind, Signer, Verified};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

/// A row of [`Tree::Holdings`]. Field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    pub(crate) kind: u8,
    /// Of an envelope.
    pub(crate) class: Option<Class>,
    /// Of an envelope or a tombstone.
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) issued: Timestamp,
    /// When it ends here: as it states, or sooner by a standing order.
    pub(crate) expires: Timestamp,
    /// Who keeps it; empty means every member.
    pub(crate) custodians: Vec<TrustId>,
    /// The trust whose key signed it; absent for a charter.
    pub(crate) signer: Option<TrustId>,
    /// When it ends by what it states, if that is later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) stated: Option<Timestamp>,
}

/// Layers of anti-entropy, in the order in which they are compared: what decides about the rest comes first.
pub(crate) const LAYERS: [u8; 4] = [0, 1, 2, 3];

impl Holding {
    pub(crate) fn of(record: &Verified) -> Self {
        let (class, conversation) = match record.body() {
            Body::Envelope(e) => (Some(e.class), Some(e.conversation.clone())),
            Body::Tombstone(t) => (None, Some(t.conversation.clone())),
            Body::Charter(_) | Body::Crl(_) | Body::Entry(_) | Body::Receipt(_) | Body::Head(_) => {
                (None, None)
            }
        };
        let header = record.header();
        Self {
            kind: record.body().kind() as u8,
            class,
            conversation,
            issued: header.issued,
            expires: header.expires,
            custodians: header.custodians.clone(),
            signer: record.signer().trust().cloned(),
            stated: None,
        }
    }

    /// Lets it end at this moment, if that is sooner.
    pub(crate) fn end_at(&mut self, end: Timestamp) {
        if end < self.expires {
            self.stated = Some(self.stated());
            self.expires = end;
        }
    }

    /// When it ends by what it states, whatever was ordered since: the same at every replica.
    pub(crate) fn stated(&self) -> Timestamp {
        self.stated.unwrap_or(self.expires)
    }

    /// Of a charter that the operator trusts.
    pub(crate) fn of_charter(header: &Header) -> Self {
        Self {
            kind: Kind::Charter as u8,
            class: None,
            conversation: None,
            issued: header.issued,
            expires: header.expires,
            custodians: Vec::new(),
            signer: None,
            stated: None,
        }
    }

    /// The layer in which anti-entropy compares it; none for what only two trusts settle between them.
    pub(crate) fn layer(&self) -> Option<u8> {
        match (self.kind, self.class) {
            (k, _) if k == Kind::Charter as u8 || k == Kind::Crl as u8 || k == Kind::Entry as u8 => {
                Some(LAYERS[0])
            }
            (k, _) if k == Kind::Tombstone as u8 => Some(LAYERS[1]),
            (k, _) if k == Kind::Receipt as u8 || k == Kind::Head as u8 => Some(LAYERS[2]),
            (_, Some(Class::Submission)) => None,
            _ => Some(LAYERS[3]),
        }
    }

    /// Which tree has the record's bytes.
    pub(crate) fn tree(&self) -> Tree {
        if self.kind == Kind::Envelope as u8 { Tree::Envelopes } else { Tree::Records }
    }

    /// Whether this trust should hold it.
    pub(crate) fn is_for(&self, trust: &TrustId) -> bool {
        self.custodians.is_empty() || self.custodians.binary_search(trust).is_ok()
    }

    pub(crate) fn to_row(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    pub(crate) fn get(view: &dyn View, id: &RecordId) -> Result<Option<Self>, StorageError> {
        Ok(view.get(Tree::Holdings, id.as_bytes())?.map(|row| Self::from_row(&row)))
    }

    /// What a row says, if it is one.
    pub(crate) fn of_row(row: &[u8]) -> Option<Self> {
        cbor::from_slice(row, 64 * 1024).ok()
    }

    fn from_row(row: &[u8]) -> Self {
        cbor::from_slice(row, 64 * 1024)
            .expect("a holding is written by this code alone, and rows are checked by the store")
    }
}

/// Whether a signer of this kind is a trust's node, and which trust it is.
pub(crate) fn node_trust(signer: &Signer) -> Option<&TrustId> {
    match signer {
        Signer::Node { trust, .. } => Some(trust),
        Signer::Authorities | Signer::Registrar(_) => None,
    }
}
