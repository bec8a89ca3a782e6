//! Deliberate bugs, each of which the simulator must find: a check that finds none of them is missing.
//!
//! Without the feature `mutations`, which no program that ships has, [`is`] is false for all of them, and nothing remains of
//! the places that ask. With it, a test switches one on for its own thread (`set`).

macro_rules! mutations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// One deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $($(#[$doc])* $variant,)+
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Mutation] = &[$(Mutation::$variant),+];

            /// As printed.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Mutation::$variant => $name,)+
                }
            }
        }
    };
}

mutations! {
    /// The driver's: outputs are carried out before their batch is committed.
    AcknowledgeBeforeCommit = "acknowledge before commit";
    /// Admission does not ask whether a tombstone forbids an envelope.
    SkipTombstoneCheck = "skip the tombstone check at the door";
    /// A tombstone leaves no row for a target that has not arrived.
    ForgetAbsentTarget = "forget a tombstone's target that is not here yet";
    /// A tombstone is dropped a minute after it was issued.
    PruneTombstoneByAge = "prune a tombstone on age alone";
    /// Whoever signs a tombstone may delete.
    AnyoneMayDelete = "let any trust delete";
    /// A tombstone is not judged by how long it lives.
    ShortTombstone = "accept a tombstone that ends before its envelope";
    /// Erasure removes all rows about an envelope, and not the envelope.
    KeepErasedBytes = "leave the bytes of what was erased";
    /// Tombstones are attested and not carried out.
    AttestWithoutErasing = "attest without erasing";
    /// A standing order does not hold for what comes after it.
    ForgetStanding = "forget a standing order when a message comes";
    /// What a hold keeps stays where it is served from.
    ServeHeld = "serve what a hold keeps";
    /// A tombstone is attested although a hold keeps what it names.
    AttestHeld = "attest what a hold keeps";
    /// A hold that has ended keeps what it kept.
    NeverEndHold = "keep what a hold kept after its end";
    /// A device's line is attested whoever has signed it.
    UnsignedLine = "attest a line that its device has not signed";
    /// What a full step leaves to erase is not withheld.
    ServeUnfinished = "serve what is still to be erased";
    /// A record past its expiry is admitted.
    AcceptExpired = "accept an expired record";
    /// Expiry removes nothing.
    NeverExpire = "never drop what has expired";
    /// An inbox gives what has expired and was not dropped yet.
    DeliverExpired = "deliver what has expired";
    /// An outbox gives what has expired and was not dropped yet.
    SendExpired = "send what has expired from an outbox";
    /// A record from the future is admitted.
    AcceptFuture = "accept a record from the future";
    /// An envelope may live as long as it says.
    IgnoreRetention = "ignore the charter's longest life";
    /// Whatever a peer brings is stored, whoever its custodians are.
    TrustPeersCustody = "trust the peer's word on custody";
    /// Records go to peers whose trust is no custodian.
    SendToAnyone = "put records into every trust's outbox";
    /// An older revocation list takes the place of a newer one.
    LowerCrlNumber = "take the lower CRL number";
    /// A record that was verified before trust changed is not verified again.
    SkipReverify = "do not verify again when trust has changed";
    /// What was revoked of a trust is not looked up again when a charter lets it in again.
    ForgetRevocations = "forget what a trust that comes back has revoked";
    /// An earlier directory entry takes the place of a later one.
    OlderEntry = "take the older directory entry";
    /// Any member trust may publish commits.
    AnyoneMayCommit = "take a commit that the owner did not publish";
    /// A second commit for an epoch is admitted.
    SecondCommit = "take a second commit for an epoch";
    /// The hub forgets what it has ordered.
    HubForgets = "forget at the hub which epochs have their commit";
    /// What was handed in before is not recognised.
    ForgetHandedIn = "forget what a device has handed in";
    /// What came before a welcome is not delivered after it.
    SkipBacklog = "skip what came before a welcome";
    /// What gossip brought is passed on whatever was thought of it.
    RelayRefused = "pass on what was refused";
    /// No peer is ever dropped for what it sends.
    NeverPunish = "never drop a peer";
    /// What was stored is answered for, and what was not as well.
    AnswerForRefused = "answer for what was refused";
    /// Anti-entropy does not compare tombstones.
    SkipLayer = "leave tombstones out of anti-entropy";
    /// Anti-entropy serves what has expired and was not dropped yet.
    ServeExpired = "serve what has expired";
    /// Anti-entropy serves what a full step leaves to erase.
    ServeWithheld = "serve what waits for its erasure to a peer that asks for it";
    /// Anti-entropy serves whatever a peer asks for.
    ServeAnybody = "serve records to whoever asks";
    /// Anti-entropy serves a peer as much as it asks for.
    ServeWithoutEnd = "serve a peer without end";
    /// What is erased stays in the digests.
    ForgetDigest = "leave what was erased in the digests";
    /// What was asked of one peer is never asked of another one.
    ClaimForEver = "wait for one peer for ever";
    /// A round begins every second.
    RestlessRounds = "begin a round every second";
    /// The true time is believed to be what any one trust has signed.
    BelieveOneClock = "believe the time that one trust states";
    /// The true time is what more than half of those have reached that were heard.
    CountTheHeard = "count only the trusts that were heard of the time";
    /// A row of the audit log is hashed as if it were the first.
    UnlinkAuditLog = "hash a row of the audit log without those before it";
    /// A head is signed of the row after the newest one.
    SignAhead = "sign a row of the audit log that is not written";
}

/// Whether this bug is switched on.
#[cfg(not(feature = "mutations"))]
#[inline]
pub const fn is(_: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switch::{is, set};

#[cfg(feature = "mutations")]
mod switch {
    use std::cell::Cell;

    use super::Mutation;

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    /// Whether this bug is switched on for this thread.
    pub fn is(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Switches one bug on for this thread, and all others off.
    pub fn set(mutation: Option<Mutation>) {
        ON.set(mutation);
    }
}
