//! Following a chain row by row, against the heads that its node has signed: of a store, or of an export.

use std::collections::BTreeMap;

use lanyard_crypto::{AuditHash, Timestamp};
use lanyard_storage::{StorageError, View};

use super::chain::{self, Place, Row};
use crate::limits::SCAN_ROWS;

/// Why rows are not the log that its node has written. Each names the row at which that shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A row is not there, or cannot be read.
    #[error("row {0} is missing, or cannot be read")]
    Missing(u64),
    /// A number that is not the next one.
    #[error("row {found} stands where row {expected} should: rows were inserted or moved")]
    Misplaced {
        /// The number that should follow.
        expected: u64,
        /// The one that is there.
        found: u64,
    },
    /// A row whose hash does not cover it and the rows before it.
    #[error("row {0} is not what was written, or does not follow the row before it")]
    Altered(u64),
    /// A row that is not the one which the node had signed.
    #[error("row {number} is not the one that the node signed at {} ({holder})", signed.as_secs())]
    Replaced {
        /// Its number.
        number: u64,
        /// When the node signed the one that stood there, in seconds since 1970.
        signed: Timestamp,
        /// Who holds that.
        holder: Holder,
    },
    /// The log ends before a row that the node had signed.
    #[error("the log ends with row {last}, and the node had signed row {signed} ({holder})")]
    CutShort {
        /// Its last row.
        last: u64,
        /// The row that was signed.
        signed: u64,
        /// Who holds that.
        holder: Holder,
    },
    /// More rows are missing at the old end than the node had dropped.
    #[error("the log begins after row {begins}, and the node had dropped no more than {dropped}")]
    BegunLate {
        /// The row after which it begins.
        begins: u64,
        /// The last row that the node had dropped when it signed.
        dropped: u64,
    },
    /// No head covers the newest rows.
    #[error(
        "the node has signed no head for row {0}, the last one: what follows its newest head is not shown"
    )]
    Unsigned(u64),
}

/// Whose copy of a head it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The node's that the log is of.
    Own,
    /// Another node's.
    Other,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Holder::Own => "by its own heads",
            Holder::Other => "by a head that others hold",
        })
    }
}

/// What a head states, as far as a chain is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The row that was the newest one.
    pub place: Place,
    /// The number of the row that had been dropped last.
    pub dropped: u64,
    /// When the node signed it.
    pub signed: Timestamp,
    /// Whose copy it is.
    pub holder: Holder,
}

/// What was found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sound {
    /// The last row before the first one that is there.
    pub dropped: u64,
    /// The last row.
    pub last: Place,
    /// Heads of its own that the chain contains.
    pub own_heads: usize,
    /// Heads held by others that the chain contains.
    pub other_heads: usize,
    /// Heads of rows that have been dropped: nothing can be said of them.
    pub before: usize,
}

/// A chain that is being followed: made with the place before its first row, told every head, then every row in order, then ended.
#[derive(Clone, Debug)]
pub struct Walk {
    start: Place,
    at: Place,
    heads: BTreeMap<u64, Vec<Stated>>,
    own_heads: usize,
    other_heads: usize,
    before: usize,
}

impl Walk {
    /// Begins after this place.
    pub fn after(start: Place) -> Self {
        Self { start, at: start, heads: BTreeMap::new(), own_heads: 0, other_heads: 0, before: 0 }
    }

    /// A head that the chain must contain.
    ///
    /// # Errors
    /// [`Broken::Replaced`] if it is of the place where the chain begins, and that has another hash.
    pub fn expect(&mut self, head: Stated) -> Result<(), Broken> {
        if head.place.number < self.start.number {
            self.before += 1;
            return Ok(());
        }
        if head.place.number == self.start.number {
            self.meet(&head, &self.start.hash.clone())?;
        }
        self.heads.entry(head.place.number).or_default().push(head);
        Ok(())
    }

    /// The next row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn row(&mut self, row: &Row) -> Result<(), Broken> {
        let (next, found) = (self.at.then(&row.entry), row.place.number);
        if found > next.number {
            return Err(Broken::Missing(next.number));
        }
        if found < next.number {
            return Err(Broken::Misplaced { expected: next.number, found });
        }
        if row.place.hash != next.hash {
            return Err(Broken::Altered(found));
        }
        self.at = next;
        let heads = self.heads.get(&found).cloned().unwrap_or_default();
        heads.iter().try_for_each(|head| self.meet(head, &next.hash))
    }

    /// The place that has been reached.
    pub fn reached(&self) -> Place {
        self.at
    }

    /// Ends a chain whose last row its node has signed.
    ///
    /// # Errors
    /// What is wrong with its ends.
    pub fn end(self) -> Result<Sound, Broken> {
        let last = self.at;
        let Some(newest) = self.heads.values().flatten().max_by_key(|h| (h.place.number, h.dropped)) else {
            return Err(Broken::Unsigned(last.number));
        };
        let Stated { place, dropped, holder, .. } = *newest;
        if place.number > last.number {
            return Err(Broken::CutShort { last: last.number, signed: place.number, holder });
        }
        if place.number < last.number {
            return Err(Broken::Unsigned(last.number));
        }
        if self.start.number > dropped {
            return Err(Broken::BegunLate { begins: self.start.number, dropped });
        }
        Ok(self.sound())
    }

    fn sound(&self) -> Sound {
        let Self { start, at, own_heads, other_heads, before, .. } = *self;
        Sound { dropped: start.number, last: at, own_heads, other_heads, before }
    }

    fn meet(&mut self, head: &Stated, hash: &AuditHash) -> Result<(), Broken> {
        let Stated { place, signed, holder, .. } = *head;
        if place.hash != *hash {
            return Err(Broken::Replaced { number: place.number, signed, holder });
        }
        match holder {
            Holder::Own => self.own_heads += 1,
            Holder::Other => self.other_heads += 1,
        }
        Ok(())
    }
}

/// Follows the whole chain of a store, against these heads of it. Rows that no head covers yet are checked as far as their hashes go.
///
/// # Errors
/// The view's.
pub fn stored(view: &dyn View, heads: &[Stated]) -> Result<Result<Sound, Broken>, StorageError> {
    let (start, last) = (chain::dropped(view)?, chain::last(view)?);
    let mut walk = Walk::after(start);
    if let Err(broken) = heads.iter().try_for_each(|head| walk.expect(*head)) {
        return Ok(Err(broken));
    }
    loop {
        let rows = chain::rows_after(view, walk.reached().number, SCAN_ROWS)?;
        if rows.is_empty() {
            break;
        }
        if let Err(broken) = rows.iter().try_for_each(|row| walk.row(row)) {
            return Ok(Err(broken));
        }
    }
    let reached = walk.reached();
    if reached.number < last.number {
        return Ok(Err(Broken::Missing(reached.number + 1)));
    }
    if reached != last {
        return Ok(Err(Broken::Altered(reached.number)));
    }
    Ok(match walk.heads.values().flatten().find(|head| head.place.number > last.number) {
        Some(Stated { place, holder, .. }) => {
            Err(Broken::CutShort { last: last.number, signed: place.number, holder: *holder })
        }
        None => Ok(walk.sound()),
    })
}
