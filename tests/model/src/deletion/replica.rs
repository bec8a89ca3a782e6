//! One replica: what it holds of the three records, and the rules by which that changes.

use super::{Deletion, EXPIRES, ISSUED, Issued, MARGIN, MESSAGES_MAX, Record, SKEW};

/// Where a replica stands with a message. What it holds is [`Message::Held`] or [`Message::Back`]; the rest remembers, for the
/// properties, what the engine has no reason to remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Message {
    /// Never stored here, by this disk.
    #[default]
    Unknown,
    /// Stored, and answered for.
    Held,
    /// Stored once, and erased since.
    Gone,
    /// Stored again after it was gone.
    Back,
}

/// Where a replica stands with the rightful tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tombstone {
    /// Never stored here, by this disk.
    #[default]
    Unknown,
    /// In force.
    Held,
    /// Was in force, and has been pruned.
    Pruned,
}

/// Why a record is not stored: those of the engine's reasons (`verdict.rs`) that can occur here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Issued further in the future than clocks may be off.
    Future,
    /// Past its expiry.
    Expired,
    /// A tombstone names it.
    Deleted,
    /// A tombstone by a trust that may not delete this.
    MayNotDelete,
}

impl Refusal {
    /// The engine's word for it.
    pub fn code(self) -> &'static str {
        match self {
            Refusal::Future => "future",
            Refusal::Expired => "expired",
            Refusal::Deleted => "deleted",
            Refusal::MayNotDelete => "may-not-delete",
        }
    }
}

/// One replica with its disk and its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Replica {
    /// What its clock shows.
    pub clock: u8,
    /// Up to when it has dropped what had expired, if the model has it remember.
    pub expired_until: u8,
    /// The messages.
    pub messages: [Message; MESSAGES_MAX],
    /// The rightful tombstone.
    pub tombstone: Tombstone,
    /// Whether it holds the tombstone of the trust that may not delete.
    pub void: bool,
}

impl Replica {
    /// `erase::time`: the clock's, unless it was set back.
    pub fn time(&self) -> u8 {
        if self.expired_until <= self.clock + MARGIN {
            self.clock.max(self.expired_until)
        } else {
            self.clock
        }
    }

    /// Whether the record is on its disk.
    pub fn holds(&self, record: Record) -> bool {
        match record {
            Record::Message(m) => matches!(self.messages[m], Message::Held | Message::Back),
            Record::Tombstone => self.tombstone == Tombstone::Held,
            Record::Void => self.void,
        }
    }

    /// The engine's one door for records: `admit::admit`, then `Replica::keep`. `Ok` means that it is answered for as stored.
    pub(super) fn take(&mut self, record: Record, times: Issued) -> Result<(), Refusal> {
        // `admit`: what is held already is known, whatever would be said of it now.
        if self.holds(record) {
            return Ok(());
        }
        // `admit::check_time`
        if times.issued > self.time() + SKEW {
            return Err(Refusal::Future);
        }
        if times.expires <= self.time() {
            return Err(Refusal::Expired);
        }
        match record {
            // `admit::check_envelope` asks `erase::tombstone_for`: a row of an order that has force forbids it.
            Record::Message(_) if self.tombstone == Tombstone::Held => return Err(Refusal::Deleted),
            Record::Message(m) => {
                let message = &mut self.messages[m];
                *message = if *message == Message::Unknown { Message::Held } else { Message::Back };
                // `keep::follow_envelope` calls `erase::drop_void_orders`: now it can be told whose the message is.
                self.void &= m != 0;
            }
            // `keep::follow` calls `erase::carry_out`.
            Record::Tombstone => {
                self.tombstone = Tombstone::Held;
                (0..MESSAGES_MAX).for_each(|m| self.erase(m));
            }
            // `admit::check_tombstone` asks `Order::judge`, if the message is here.
            Record::Void if self.holds(Record::Message(0)) => return Err(Refusal::MayNotDelete),
            Record::Void => self.void = true,
        }
        Ok(())
    }

    /// `erase::expire`, with each tick: drops the messages and the tombstones that are past their expiry. This is also how a
    /// tombstone is pruned: there is no other rule than its own expiry, which `request::Replica::delete` sets.
    pub(super) fn expire(&mut self, model: &Deletion, order: Option<Issued>) {
        let (before, now) = (self.clone(), self.time());
        for (m, expires) in EXPIRES.into_iter().enumerate() {
            if expires <= now {
                self.erase(m);
            }
        }
        if self.holds(Record::Tombstone) && order.is_some_and(|order| order.expires <= now) {
            self.tombstone = Tombstone::Pruned;
        }
        self.void &= now < model.void().expires;
        if model.clocks_step_back && model.time_stands_still && *self != before {
            self.expired_until = now;
        }
    }

    /// Whether it gives the record to who asks: `sync::Replica::send_records` and `query::inbox` ask for its expiry.
    pub(super) fn serves(&self, model: &Deletion, record: Record, times: Issued) -> bool {
        let outbox = model.unchecked_outbox && matches!(record, Record::Message(_));
        self.holds(record) && (outbox || self.time() < times.expires)
    }

    /// Whether nothing but a tombstone could speak against this message, if it came now.
    pub fn is_in_time(&self, message: usize) -> bool {
        self.time() < EXPIRES[message] && ISSUED <= self.time() + SKEW
    }

    fn erase(&mut self, message: usize) {
        if self.holds(Record::Message(message)) {
            self.messages[message] = Message::Gone;
        }
    }
}
