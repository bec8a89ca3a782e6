//! The one catalogue of stored trees: key layout, value and owner of each.
//!
//! Numbers in keys are big-endian, so that ranges sort by them; `‖` joins parts. Ids of records, certificates
//! and nodes are 32 bytes. A trust in a key is its ODS code, padded to 8 bytes with zeros where another part
//! follows. A conversation in a key is one byte of length, then its bytes. "Owner" names the part of the
//! program that alone writes the tree.

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident;)+) => {
        /// A tree of rows, sorted by key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Tree {
            $($(#[$doc])* $variant,)+
        }

        impl Tree {
            /// Every tree, in the order of the catalogue.
            pub const ALL: &[Tree] = &[$(Tree::$variant),+];

            /// The tree's name on disk. Never changed once released: sealed rows are bound to it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Tree::$variant => $name,)+
                }
            }

            /// Whether each value is sealed under a key of its own, so that deleting it erases it (P6).
            /// Sealed trees can't be scanned: their row keys are opaque on disk.
            pub const fn sealed(self) -> bool {
                match self {
                    $(Tree::$variant => catalogue!(@sealed $kind),)+
                }
            }
        }
    };
    (@sealed sealed) => { true };
    (@sealed plain) => { false };
}

catalogue! {
    /// Facts of which there is one. Key: name. Value: by name. Owner: replica.
    Meta = "meta", plain;
    /// Records other than envelopes. Key: record id. Value: the record's bytes. Owner: replica.
    Records = "records", plain;
    /// Envelopes. Key: record id. Value: the record's bytes. Owner: replica.
    Envelopes = "envelopes", sealed;
    /// What expires when. Key: expires u64 ‖ record id. Value: the record's kind, one byte. Owner: replica.
    Expiry = "expiry", plain;
    /// What anti-entropy compares. Key: layer u8 ‖ bucket u64 ‖ record id. Value: the custodians, each a trust (8 bytes); none
    /// means every member. Owner: replica.
    Index = "index", plain;
    /// Sums over the index, by custodian. Key: layer u8 ‖ trust (8 bytes; zeros for records without custodians), and for a bucket
    /// ‖ bucket u64. Value: count u64 ‖ sum (32 bytes, of a bucket 16). Owner: replica.
    Digests = "digests", plain;
    /// Envelopes by conversation. Key: conversation ‖ sent u64 ‖ record id. Value: class. Owner: replica.
    Conversations = "conversations", plain;
    /// What is known of each record that is held. Key: record id. Value: its holding. Owner: replica.
    Holdings = "holdings", plain;
    /// What must not come back. Key: 0 ‖ record id ‖ tombstone's record id. Or 1 ‖ conversation ‖ tombstone's record id. Value: who
    /// ordered it, and up to when. And standing orders: 2 ‖ conversation ‖ tombstone's record id. Value: up to when, and how long
    /// messages may live. Owner: replica.
    Tombstones = "tombstones", plain;
    /// What a trust has yet to acknowledge. Key: trust (8 bytes) ‖ sequence u64. Value: record id.
    /// Owner: replica.
    Outbox = "outbox", plain;
    /// How far a record of this node has come. Key: record id ‖ trust. Value: waiting, confirmed or refused.
    /// Owner: replica.
    Ticks = "ticks", plain;
    /// Certificate chains that records name. Key: fingerprint of the leaf. Value: the chain. Owner: replica.
    Certificates = "certificates", plain;
    /// The newest revocation list of each issuer. Key: fingerprint of the issuer. Value: record id.
    /// Owner: replica.
    Revocations = "revocations", plain;
    /// Directory entries. Key: fingerprint of the device. Value: record id. Owner: replica.
    Directory = "directory", plain;
    /// Whose key package this is. Key: KeyPackageRef. Value: fingerprint of the device. Owner: replica.
    Packages = "packages", plain;
    /// Devices of this trust. Key: fingerprint of the device. Value: newest sequence in its inbox. Owner: replica.
    Devices = "devices", plain;
    /// Who is served a conversation. Key: conversation ‖ fingerprint of the device. Value: none. Who was: 0 ‖ the same. Value: until when
    /// deletions reach the device, u64. In this order: 1 ‖ until u64 ‖ the same. Owner: hub.
    Members = "members", plain;
    /// What waits for a device. Key: fingerprint of the device ‖ sequence u64. Value: record id.
    /// Owner: replica.
    Inbox = "inbox", plain;
    /// Which device handed in a message, and which message that was. Key: record id. Value: fingerprint of the device ‖
    /// SHA-256 of the content. And the same with key and value exchanged. Owner: replica.
    Submitted = "submitted", plain;
    /// Conversations that this trust owns. Key: conversation. Value: the group's public state. Owner: hub.
    Hub = "hub", sealed;
    /// The accepted commit of each epoch. Key: conversation ‖ epoch u64. Value: record id. Owner: hub.
    Epochs = "epochs", plain;
    /// Who has confirmed a deletion. Key: record id of the tombstone ‖ trust (8 bytes) ‖ what: 0 erased, 1 held, 2 a device erased
    /// ‖ fingerprint of the device, 3 devices are waited for ‖ node. Value: receipt's record id. Owner: replica.
    Tally = "tally", plain;
    /// The destruction log. Key and value: 0 ‖ tombstone's record id: who ordered (trust, 8 bytes), and when (u64), once the tombstone has
    /// gone. 1 ‖ time u64 ‖ tombstone: when it leaves the log, likewise.
    /// 2 ‖ tombstone ‖ fingerprint of a device of this trust that is to erase: its line, empty
    /// until it came. 3 ‖ time u64 ‖ tombstone: when to attest for which devices it is waited. 4 ‖ tombstone ‖ fingerprint: a line that
    /// is to be attested. 5 ‖ time u64 ‖ tombstone: until when replicas are to confirm. 6 ‖ tombstone ‖ trust (8 bytes) ‖ node:
    /// since when a replica is overdue. 7 ‖ trust that ordered ‖ issued u64 ‖ tombstone: the log's row of it, with the tombstone itself once it
    /// has gone from the records. 8 ‖ trust: how many of
    /// those there are. 9 ‖ trust ‖ tombstone ‖ receipt: came before the tombstone, and when. 10 ‖ tombstone ‖ trust that ordered ‖
    /// what, as in the tally: what is to be signed. Owner: replica.
    Deletions = "deletions", plain;
    /// When a device of this trust last spoke to this node. Key: fingerprint of the device. Value: time u64, to the minute.
    /// Owner: replica.
    Seen = "seen", plain;
    /// Holds on conversations. Key: 0 ‖ conversation. Value: reference, reason, until when. And what they keep: 1 ‖ conversation ‖
    /// record id. Value: what was known of it. And who waits for their end: 2 ‖ conversation ‖ record id of the tombstone. Value: who
    /// ordered it, and how many envelopes it named here. Owner: replica.
    Holds = "holds", plain;
    /// Envelopes that a hold keeps, and nothing serves. Key: record id. Value: the record's bytes. Owner: replica.
    Held = "held", sealed;
    /// How often each device has tried its PIN, and its session. Key: fingerprint of the device. Value: `pin::State`. Owner: replica.
    Pins = "pins", plain;
    /// What PINs are checked with. Key: fingerprint of the device. Value: OPAQUE's record. And the secret of all of them: "secret".
    /// Owner: replica.
    PinRecords = "pin-records", sealed;
    /// Invitations to enrol. Key: invitation id. Value: its state. Owner: gateway.
    Invitations = "invitations", plain;
    /// What was decided and refused. Key: number u64. Value: hash (32 bytes) ‖ the entry; nothing that stands is changed.
    /// Owner: replica.
    Audit = "audit", plain;
    /// Heads of the nodes' audit logs. Key: 0 ‖ node ‖ span u8 ‖ period u64. Value: what it says, and its record id. And of a node whose
    /// heads contradict each other: 1 ‖ node ‖ code. Value: what was found, with the records. And where a head stands: 2 ‖ record id. Value: its key.
    /// Owner: replica.
    Heads = "heads", plain;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let names: std::collections::BTreeSet<_> = Tree::ALL.iter().map(|tree| tree.name()).collect();
        assert_eq!(names.len(), Tree::ALL.len());
    }

    #[test]
    fn content_is_sealed() {
        let sealed: Vec<_> = Tree::ALL.iter().filter(|tree| tree.sealed()).collect();
        assert_eq!(sealed, [&Tree::Envelopes, &Tree::Hub, &Tree::Held, &Tree::PinRecords]);
    }
}
