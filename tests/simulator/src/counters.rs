//! Reachability: how often each fault and each interleaving that matters did occur. A check that nothing ever reaches proves
//! nothing, so that a counter at zero fails a run of enough seeds.

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// Something that has to occur.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)+
        }

        impl Counter {
            /// Every counter.
            pub const ALL: &[Counter] = &[$(Counter::$variant),+];

            /// As printed.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// A frame on a stream was lost.
    FrameLost = "frame lost";
    /// A frame was delivered twice.
    FrameDuplicated = "frame delivered twice";
    /// A frame overtook an earlier one.
    FrameReordered = "frame overtook another";
    /// A frame took seconds.
    FrameDelayed = "frame delayed by seconds";
    /// Gossip was lost.
    GossipLost = "gossip lost";
    /// A node could talk to nobody.
    Isolated = "node isolated";
    /// Two groups could not talk to each other.
    Split = "network split in two";
    /// A could talk to B, and B to C, but not A to C.
    Triangle = "A-B and B-C without A-C";
    /// Frames went one way alone.
    OneWay = "link cut one way";
    /// A link came back.
    Healed = "link healed";
    /// A link came back after a deletion was ordered behind it.
    HealedAfterDeletion = "link healed after a deletion";
    /// A node crashed at any time.
    Crash = "crash";
    /// A node crashed when it had stepped and not committed.
    CrashBeforeCommit = "crash before commit";
    /// A node crashed between commit and sync, and lost the commit.
    CrashLostUnsynced = "crash lost an unsynced commit";
    /// A node crashed between commit and sync, and the commit survived.
    CrashKeptUnsynced = "crash kept an unsynced commit";
    /// A node crashed between sync and outputs.
    CrashBeforeOutputs = "crash between commit and outputs";
    /// A node crashed with some of its outputs carried out.
    CrashAmidOutputs = "crash amid outputs";
    /// A node opened its store again.
    Restart = "restart";
    /// A node stood still and went on.
    Paused = "node paused";
    /// A node was added late.
    AddedLate = "node added late";
    /// A trust got a second node.
    SecondNode = "second node of a trust";
    /// A node was replaced by an empty one.
    ReplacedEmpty = "node replaced empty";
    /// A clock jumped forwards.
    ClockForwards = "clock jumped forwards";
    /// A clock jumped back.
    ClockBack = "clock jumped back";
    /// A clock drifts.
    ClockDrift = "clock drifts";
    /// A write failed.
    WriteFailed = "disk write failed";
    /// A write failed, and was on the disk all the same.
    WriteFailedKept = "failed write was kept";
    /// A read failed.
    ReadFailed = "disk read failed";
    /// The disk was full.
    DiskFull = "disk full";
    /// A step left work for the next.
    StepBounded = "work left for the next step";
    /// Several steps were committed as one.
    GroupCommit = "several steps in one commit";
    /// A client sent a message.
    Sent = "message acknowledged";
    /// A client that got no answer sent its message again.
    SentAgain = "message sent again";
    /// A client was answered with the message that it had sent before.
    SentKnown = "message known from before";
    /// A message reached a device.
    Delivered = "message delivered";
    /// A device said that it had erased for a deletion.
    DeviceErased = "device erased";
    /// A device handed in a line that it had not signed, or in another's name.
    LineMisattributed = "line in another's name";
    /// A device asked to delete.
    DeletedByDevice = "deletion by a device";
    /// An officer asked to delete.
    DeletedByOfficer = "deletion by an officer";
    /// An officer deleted a conversation up to a moment.
    DeletedUpTo = "deletion up to a moment";
    /// An officer deleted what a device had sent.
    DeletedSent = "deletion of what a device sent";
    /// A conversation's messages were to end sooner.
    StandingOrdered = "standing order";
    /// A hold was asked for, or its end.
    HoldAsked = "hold asked for";
    /// A hold has kept what was to be erased.
    HeldKept = "hold kept an envelope";
    /// What a hold kept was erased.
    HeldErased = "end of a hold erased an envelope";
    /// A request was refused.
    RequestRefused = "request refused";
    /// A tombstone came before what it names.
    TombstoneFirst = "tombstone before its envelope";
    /// What a replica knew to be deleted came to it again.
    DeletedCameBack = "deleted record arrived and was refused";
    /// What had expired came to a replica.
    ExpiredArrived = "expired record arrived";
    /// What is held already came again.
    DuplicateArrived = "held record arrived again";
    /// A receipt left its replica.
    Receipt = "receipt sent";
    /// A record expired.
    Expired = "record expired";
    /// A record expired at a node that was cut off.
    ExpiredInPartition = "expiry during partition";
    /// A tombstone was dropped, all that it names being past.
    TombstonePruned = "tombstone pruned";
    /// A conversation was founded.
    Founded = "conversation founded";
    /// The hub accepted a commit.
    Committed = "commit ordered";
    /// Two members wanted to change the same epoch.
    CommitsCompeted = "commits competed for an epoch";
    /// One of them removed a member.
    CommitRacedRemoval = "commit raced a removal";
    /// Who had been removed wrote on.
    RemovedWrote = "removed member wrote on";
    /// A list of revocations was published.
    Revoked = "revocation published";
    /// A list came after one with a higher number.
    CrlOutOfOrder = "older revocation list arrived later";
    /// A record was under way when its signer's certificate was revoked.
    RevocationRaced = "revocation raced a record";
    /// Some replicas hold what others refuse, since its signer was revoked or left.
    RevocationDivided = "record divided by a revocation";
    /// A charter followed another.
    CharterChanged = "charter changed";
    /// A trust left.
    TrustDropped = "trust dropped from the charter";
    /// A trust joined.
    TrustJoined = "trust joined by a charter";
    /// The border refused a peer.
    BorderRefused = "border refused a peer";
    /// A peer lost its connection for what it sent.
    PeerDropped = "peer dropped for what it sent";
    /// The liar signed two commits for one epoch.
    LiarEquivocated = "liar: equivocated as hub";
    /// The liar sent old records again.
    LiarReplayed = "liar: replayed";
    /// The liar forged a record.
    LiarForged = "liar: forged";
    /// The liar brought a record of somebody outside.
    LiarSmuggled = "liar: brought a stranger's record";
    /// The liar flooded.
    LiarFlooded = "liar: flooded";
    /// The liar kept to itself what it was sent.
    LiarWithheld = "liar: withheld";
    /// The liar sent tombstones that it may not.
    LiarDeleted = "liar: forbidden tombstone";
    /// The liar answered for what it does not have.
    LiarAnswered = "liar: false answers";
    /// The liar sent damaged frames.
    LiarGarbled = "liar: damaged frames";
    /// The liar asked for what it may not have.
    LiarAsked = "liar: asked for what is not its own";
    /// The liar named records that it did not bring.
    LiarPromised = "liar: named what it does not bring";
    /// The liar did what it may.
    LiarHonest = "liar: rightful records";
    /// A crash took back what had been committed without a sync.
    CrashTookBack = "crash took back what nobody waited for";
    /// A node found out that its store was lost.
    FoundLost = "node found out that its store was lost";
    /// An operator left out whom a node waited for that had lost its store.
    LeftOut = "left out by an operator";
    /// A peer was told to wait, having been served enough for a second.
    ServedEnough = "peer told to wait";
    /// All replicas were compared at the end.
    Converged = "replicas compared after healing";
}

/// A count for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(Vec<u64>);

impl Default for Counters {
    fn default() -> Self {
        Self(vec![0; Counter::ALL.len()])
    }
}

impl Counters {
    /// It occurred.
    pub fn add(&mut self, counter: Counter) {
        self.0[counter as usize] += 1;
    }

    /// How often.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Counters) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }

    /// Each with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|c| (*c, self.get(*c)))
    }
}
