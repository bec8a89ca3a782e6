//! Reviews of a conversation's members.

use std::fmt::{self, Display, Formatter};

use lanyard_client::app::view::{ReviewState, ReviewView};

use super::{ID_DIGITS, Text, harmless, person};

/// A line that every member is shown where a review is overdue, after what stands before it; nothing elsewhere.
pub(in crate::commands) fn banner(review: Option<&ReviewState>, indent: &str) -> String {
    let banner = review.and_then(|review| review.banner.as_ref());
    banner.map(|banner| format!("\n{indent}! {}", harmless(banner, "    "))).unwrap_or_default()
}

impl Display for Text<'_, ReviewState> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let review = self.0;
        match (&review.reviewed, &review.by) {
            (Some(at), Some(by)) => {
                write!(f, "members reviewed {at} by {}", person(&by.name, by.role.as_deref(), &by.trust))?;
            }
            (Some(at), None) => write!(f, "members reviewed {at} by somebody who has left")?,
            (None, _) => write!(f, "members not reviewed yet")?,
        }
        write!(f, "; next due {}", review.due)
    }
}

impl Display for Text<'_, ReviewView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let view = self.0;
        write!(f, "{}", Text(&view.conversation))?;
        match view.changes.is_empty() {
            true => write!(f, "\nnothing has changed since {}", view.compared_with)?,
            false => write!(f, "\nwhat has changed since {}:", view.compared_with)?,
        }
        view.changes.iter().try_for_each(|change| write!(f, "\n    {change}"))?;
        view.could_read.iter().try_for_each(|one| write!(f, "\n{}", Text(one)))?;
        if view.recorded {
            return write!(f, "\nthe review is recorded, and every member sees it");
        }
        match (&view.conversation.waiting_for, view.may_confirm) {
            (Some(trust), _) => write!(f, "\na change waits for {trust}; the next sync tells"),
            (None, true) => {
                let id = &view.conversation.id[..ID_DIGITS];
                write!(
                    f,
                    "\nif all of them belong here: lanyard conversation review {id} --confirm\
                     \nif not: lanyard conversation review {id} --remove MEMBER"
                )
            }
            (None, false) => {
                write!(f, "\nonly administrators from {} can record a review", view.conversation.owner)
            }
        }
    }
}
