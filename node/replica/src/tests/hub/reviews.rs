//! Reviews of a conversation's members, as the hub judges them.

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::{Review, ReviewTerms};

use super::*;

#[test]
fn the_hub_holds_reviews_to_its_clock_and_to_what_its_trust_asks_for() {
    let mut world = World::three();
    let terms = ReviewTerms { every_secs: 14 * DAY, grace_secs: DAY };
    world.nodes[0].replica.set_review(terms);
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law);
    let by = ada.person;
    let plain = Policy::new(mls::Class::Clinical, [by]).unwrap();
    let reviewed = |at, terms| plain.clone().with_review(Review::new(at, by, terms).unwrap());
    let (now, packages) = (world.now, [package(&world, &ben.device)]);
    let conversation = fixtures::conversation(&world.trusts[0]);
    let longer = ReviewTerms { every_secs: 15 * DAY, ..terms };
    let graceful = ReviewTerms { grace_secs: 2 * DAY, ..terms };
    let future = now.plus_secs(CLOCK_SKEW_SECS_MAX + 1);
    for wrong in [reviewed(now, longer), reviewed(now, graceful), reviewed(future, terms)] {
        let (_, founding) = found_with(&world, &mut ada, &packages, &wrong);
        assert_eq!(ada.hand_in(&mut world, &conversation, 0, &founding), Err("change-refused".into()));
    }
    // A clock that is ahead by minutes does not matter.
    let first = reviewed(now.plus_secs(CLOCK_SKEW_SECS_MAX), terms);
    let (_, founding) = found_with(&world, &mut ada, &packages, &first);
    ada.hand_in(&mut world, &conversation, 0, &founding).unwrap();
    world.settle();
    let (seen, _) = (ada.read(&world, 0).1, ben.read(&world, 0));

    // The trust asks for more: what is there stays, and what comes next follows.
    world.nodes[0].replica.set_review(ReviewTerms { every_secs: 7 * DAY, ..terms });
    let kept = change_policy(&mut ada, &first.clone().with_retention(3600).unwrap());
    ada.hand_in(&mut world, &conversation, 1, &kept).unwrap();
    world.settle();
    ada.read(&world, seen);
    world.pass(DAY);
    let kept = first.with_retention(3600).unwrap();
    let with = |every_secs| {
        let terms = ReviewTerms { every_secs, ..terms };
        kept.clone().with_review(Review::new(now.plus_secs(DAY), by, terms).unwrap())
    };
    let again = change_policy(&mut ada, &with(14 * DAY));
    assert_eq!(ada.hand_in(&mut world, &conversation, 2, &again), Err("change-refused".into()));
    let again = change_policy(&mut ada, &with(7 * DAY));
    ada.hand_in(&mut world, &conversation, 2, &again).unwrap();
}
