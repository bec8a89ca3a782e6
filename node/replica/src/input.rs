//! What goes into a step and what comes out of it.

use std::sync::Arc;

use lanyard_crypto::gateway;
use lanyard_crypto::record::{Decoded, Reason, Target};
use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::Batch;

use crate::arrival::Vouched;
use crate::audit::{AuditEntry, Place};
use crate::frame::Frame;
use crate::pin::{Hidden, PinRequest};
use crate::restored::{Awaited, Restoration};
use crate::verdict::{Refusal, Verdict};

/// Something that happened, for [`crate::Replica::step`].
#[derive(Debug)]
pub enum Input {
    /// Records arrived and their signatures have been looked at.
    Records {
        /// From where.
        from: Source,
        /// What came of each.
        arrivals: Vec<Arrival>,
    },
    /// A client or an operator asks for something.
    Request {
        /// Comes back in [`Output::Reply`].
        ticket: u64,
        /// What.
        request: Request,
    },
    /// An admitted peer is connected.
    Connected {
        /// The peer.
        node: NodeId,
        /// Its trust.
        trust: TrustId,
        /// The certificate chain that it has shown, DER; empty if the driver does not have it.
        chain: Vec<Vec<u8>>,
    },
    /// The last connection to a peer is gone.
    Disconnected(NodeId),
    /// A peer sent a frame other than records.
    Frame {
        /// Who.
        from: NodeId,
        /// What.
        frame: Frame,
    },
    /// The driver noticed something that belongs in the audit log.
    Note(AuditEntry),
    /// Time passed; once a second.
    Tick,
    /// What was left to be done later can go on: the answer to [`Output::GoOn`].
    GoOn,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A peer's stream: acknowledged by [`Frame::Answers`].
    Peer(NodeId),
    /// Gossip: answered by [`Output::Verdict`].
    Gossip {
        /// The peer that relayed it.
        from: NodeId,
        /// The gossip layer's name of the message.
        message: Vec<u8>,
    },
    /// This trust's own registrar or operator: answered by [`Output::Reply`]. Spread to everybody.
    Local {
        /// Comes back in the reply.
        ticket: u64,
    },
}

/// A record after its signatures were looked at.
#[derive(Debug)]
pub enum Arrival {
    /// Somebody who may vouches for it.
    Verified(Box<Vouched>),
    /// It was held when it came, so that its signatures were not looked at again.
    Held(Box<Decoded>),
    /// It ends here.
    Refused {
        /// Its id: the hash of its bytes, whatever they are.
        id: RecordId,
        /// Why.
        why: Refusal,
        /// How many bytes it had.
        len: usize,
    },
}

impl Arrival {
    /// How many bytes the record has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Arrival::Verified(vouched) => vouched.record().bytes().len(),
            Arrival::Held(record) => record.bytes().len(),
            Arrival::Refused { len, .. } => *len,
        }
    }
}

/// What clients and operators ask for.
#[derive(Clone, Debug)]
pub enum Request {
    /// A device hands in an MLS message.
    Send {
        /// Which device; the gateway has verified it.
        device: Fingerprint,
        /// What.
        request: gateway::SendRequest,
    },
    /// Messages are to be erased everywhere.
    Delete {
        /// Who asks.
        by: Deleter,
        /// Of which conversation.
        conversation: ConversationId,
        /// Which of them.
        target: Target,
        /// Why.
        reason: Reason,
        /// An opaque reference into this trust's audit log, at most 64 bytes.
        reference: Vec<u8>,
    },
    /// What these devices have sent is to be erased everywhere, up to so many messages as one tombstone names; to be asked again until
    /// [`Reply::Done`].
    DeleteSent {
        /// The devices.
        devices: Vec<Fingerprint>,
        /// Whether conversations that other trusts own are meant too.
        all: bool,
        /// Why.
        reason: Reason,
        /// An opaque reference into this trust's audit log, at most 64 bytes.
        reference: Vec<u8>,
    },
    /// A conversation is put on hold here.
    PlaceHold {
        /// Which.
        conversation: ConversationId,
        /// Under which reference; others see it.
        reference: String,
        /// Why; others do not see it.
        reason: String,
        /// Until when.
        until: Timestamp,
    },
    /// A hold ends before its time.
    EndHold {
        /// On which conversation.
        conversation: ConversationId,
        /// Under which reference.
        reference: String,
    },
    /// A device has taken everything up to this position into its vault.
    Seen {
        /// Which device.
        device: Fingerprint,
        /// The position.
        seq: u64,
    },
    /// A device is not to be served a conversation any more.
    Leave {
        /// Which device.
        device: Fingerprint,
        /// Which conversation.
        conversation: ConversationId,
    },
    /// A device says by its own signature that it has erased its plaintext for deletions.
    Erased {
        /// Which device.
        device: Fingerprint,
        /// Its [`lanyard_crypto::record::DeviceLine`]s.
        lines: Vec<serde_bytes::ByteBuf>,
    },
    /// What concerns a device's PIN.
    Pin {
        /// Which device; the gateway has verified it.
        device: Fingerprint,
        /// What.
        request: PinRequest,
    },
    /// Nothing more is to be accepted of these devices, which are to be revoked as of the moment that is answered.
    Bar(Vec<Fingerprint>),
    /// The secret of all PINs' records, unless there is one.
    PinSecret(Hidden),
    /// The operator wants a report sealed: what has this SHA-256.
    Seal([u8; 32]),
    /// A device has spoken to this node.
    Present(Fingerprint),
    /// The operator wants the newest row of the audit log signed, to show the log to somebody.
    SignHead,
    /// The operator wants to know what a restored store waits for.
    Restoration,
    /// The operator does not wait for these, who are gone.
    LeaveOut(Awaited),
}

/// Who asks for a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleter {
    /// The device that sent the messages.
    Device(Fingerprint),
    /// A device of who administers the conversation, which this trust owns: for all of it.
    Administrator(Fingerprint),
    /// The trust's records officer, through its operator.
    Officer,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The envelope is stored.
    Sent {
        /// Its record.
        id: RecordId,
        /// When it was issued.
        issued: Timestamp,
    },
    /// The tombstone is stored and carried out here.
    Deleted(RecordId),
    /// The same, of one of several.
    SomeDeleted {
        /// The tombstone.
        tombstone: RecordId,
        /// Of which conversation.
        conversation: ConversationId,
        /// How many messages it names.
        envelopes: usize,
    },
    /// A head of the audit log.
    Head {
        /// The record.
        record: Vec<u8>,
        /// The row that had been dropped last, when it was signed.
        dropped: Place,
    },
    /// A seal.
    Sealed {
        /// [`lanyard_crypto::record::seal`].
        seal: Vec<u8>,
        /// This node's certificate and its registrar's, DER.
        chain: Vec<Vec<u8>>,
    },
    /// A device's attempt is counted.
    PinRecord {
        /// What to check it with.
        record: Hidden,
        /// Which attempt it is.
        attempt: u64,
        /// Attempts that are left if this one is wrong.
        left: u32,
    },
    /// A device has proved its PIN.
    PinPassed {
        /// Attempts before it that have not, since the last that had.
        failed: u32,
    },
    /// Devices are barred: no message that was accepted of them was issued after this.
    Barred(Timestamp),
    /// What a restored store waits for; none if it does not.
    Restoration(Option<Restoration>),
    /// Done.
    Done,
}

/// What the driver carries out after the batch is committed.
#[derive(Debug)]
pub enum Output {
    /// Send a frame to a connected peer.
    Send {
        /// The peer.
        to: NodeId,
        /// What.
        frame: Frame,
    },
    /// Gossip a record.
    Publish(Arc<[u8]>),
    /// Tell gossip what to do with a message.
    Verdict {
        /// The peer that relayed it.
        from: NodeId,
        /// The gossip layer's name of the message.
        message: Vec<u8>,
        /// What to do.
        verdict: Verdict,
    },
    /// There is something in the outbox for this trust: see [`crate::query::outbox`].
    Wake(TrustId),
    /// A device's inbox has grown.
    Notify {
        /// The device.
        device: Fingerprint,
        /// The newest position in its inbox.
        seq: u64,
    },
    /// Answer a request.
    Reply {
        /// Of the request.
        ticket: u64,
        /// The answer.
        reply: Result<Reply, gateway::Refusal>,
    },
    /// Close all connections to a peer.
    Disconnect {
        /// The peer.
        node: NodeId,
        /// Why, for the log.
        why: String,
    },
    /// [`crate::Replica::network`] has changed: admissions and sessions are to be checked again.
    TrustChanged,
    /// An entry was added to the audit log.
    Audit(AuditEntry),
    /// More is left to do, in small portions: [`Input::GoOn`] when [`crate::chores::Chores`] says so. Each tick does a portion too.
    GoOn,
}

/// One atomic batch, and what to do once it is committed.
#[derive(Debug, Default)]
pub struct Step {
    /// To be committed first.
    pub batch: Batch,
    /// To be carried out afterwards, in this order; never if the commit failed.
    pub outputs: Vec<Output>,
}
