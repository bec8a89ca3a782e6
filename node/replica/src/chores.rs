//! What is to be done and for which nobody waits, in small portions: rows of what was erased, what waits for a new member, and what has
//! expired.

use std::time::Duration;

use lanyard_storage::StorageError;

use crate::erase;
use crate::hold;
use crate::keep;
use crate::late_orders;
use crate::limits::PORTION_CHANGES_MAX;
use crate::restored;
use crate::turn::Turn;
use crate::void_orders;

/// While there is always something else to do, chores get one part in so many of the time.
const SHARE: u32 = 5;
/// What is owed to them at most.
const OWED_MAX: Duration = Duration::from_secs(1);

/// Does a portion. Tells whether a crash may take it back: nobody waits for it, and it would only be done again.
pub(crate) fn go_on(turn: &mut Turn<'_>) -> Result<bool, StorageError> {
    // Somebody waits for a receipt.
    if hold::go_on(turn)? || erase::go_on(turn, false)? {
        return Ok(false);
    }
    let mut delivered = 0;
    turn.portion(PORTION_CHANGES_MAX, |turn| {
        restored::go_on(turn)?;
        keep::go_on(turn)?;
        late_orders::go_on(turn)?;
        delivered = turn.rows.batch().len();
        erase::go_on(turn, true)?;
        void_orders::drop_left_orders(turn)?;
        erase::expire(turn)
    })?;
    // Nothing of this is attested.
    turn.rows.defer_erasure();
    Ok(delivered == 0)
}

/// When a driver steps [`crate::Input::GoOn`]: when nothing else waits, and otherwise for a fifth of the time. It needs to be told how long
/// things take, since the engine has no clock.
#[derive(Debug, Default)]
pub struct Chores {
    left: bool,
    owed: Duration,
}

impl Chores {
    /// A round took so long: one of [`crate::Input::GoOn`] alone (`chore`), or one of other inputs. `more` says that [`crate::Output::GoOn`] was among its
    /// outputs.
    pub fn after(&mut self, chore: bool, took: Duration, more: bool) {
        if chore {
            self.left = more;
            self.owed = self.owed.saturating_sub(took);
        } else if self.left || more {
            self.left = true;
            self.owed = (self.owed + took / (SHARE - 1)).min(OWED_MAX);
        }
    }

    /// Whether it is their turn. `idle` says that nothing else waits.
    pub fn are_due(&self, idle: bool) -> bool {
        self.left && (idle || !self.owed.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_take_what_is_idle_and_a_fifth_of_the_rest() {
        let ms = Duration::from_millis;
        let mut chores = Chores::default();
        chores.after(false, ms(40), false);
        assert!(!chores.are_due(true), "nothing is left to do");
        chores.after(false, ms(40), true);
        assert!(chores.are_due(false), "10 ms are owed");
        chores.after(true, ms(9), true);
        assert!(chores.are_due(false));
        chores.after(true, ms(9), true);
        assert!(chores.are_due(true) && !chores.are_due(false));
        chores.after(true, ms(9), false);
        assert!(!chores.are_due(true));
    }
}
