//! The hub's part in reviews of a conversation's members: it holds who records one to this trust's terms and to its own clock.
//!
//! Every member holds the moment of a review against the one at which the hub published it, so all of them judge as the hub did, whatever
//! their own clocks say. That nothing is sent to a conversation that is not reviewed in time is for the members' programs: a node cannot
//! see that of conversations that others own.

use lanyard_crypto::Timestamp;
use lanyard_crypto::mls::{Policy, ReviewTerms};

use crate::Replica;
use crate::verdict::Refusal;

/// How long ago a review may have been made that is handed in, in seconds (a week): a device may have been offline since. One that is dated years
/// ago would make the conversation read-only at once.
const REVIEW_AGE_SECS_MAX: u64 = 7 * 24 * 3600;

impl Replica {
    /// Sets how often the members of this trust's own conversations are to be reviewed. To be said whenever the replica is opened; it
    /// counts from the next review of each.
    pub fn set_review(&mut self, terms: ReviewTerms) {
        self.review = terms;
    }

    /// Judges what a founding or a change says of reviews.
    pub(crate) fn check_review(
        &self,
        before: Option<&Policy>,
        after: &Policy,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(review) = after.review().filter(|review| before.and_then(Policy::review) != Some(*review))
        else {
            return Ok(());
        };
        if review.is_from_the_future(now) {
            let why = "the review is dated in the future: the clock of the device that made it is wrong";
            return Err(Refusal::Change(why.into()));
        }
        if review.at().plus_secs(REVIEW_AGE_SECS_MAX) < now {
            let why = "the review is dated more than a week ago: the clock of the device that made it is wrong, or it was kept for long; do it \
                       again";
            return Err(Refusal::Change(why.into()));
        }
        if !review.terms().keep_to(&self.review) {
            let (trust, ReviewTerms { every_secs, grace_secs }) = (&self.own.trust, self.review);
            return Err(Refusal::Change(format!(
                "{trust} has members reviewed every {every_secs} seconds, with a grace of {grace_secs}, and this allows more; sync, and \
                 do it again"
            )));
        }
        Ok(())
    }
}
