//! A hub whose clock, or whose store, is behind.

use super::*;

#[test]
fn a_hub_whose_clock_is_behind_orders_nothing_until_it_is_set() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law);
    let (conversation, submission) = found(&world, &mut ada, &[]);
    let (right, clock) = (world.now.plus_secs(DAY / 2), world.now);
    for from in [1, 2] {
        world.now = right;
        let said = world.message(from, &fixtures::conversation(&world.trusts[from]), 1, &ALL);
        world.now = clock;
        world.bring(0, from, &said);
    }
    world.step(0, Input::Tick);
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &submission).unwrap_err(), "clock-behind");
    assert_eq!(world.rows(0, Tree::Epochs), 0);
    world.now = right;
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    assert_eq!(world.rows(0, Tree::Epochs), 1);
}

/// The hub of a restored store lacks commits that it has ordered. It orders none before they are back, and then goes on where it was.
#[test]
fn a_restored_hub_follows_the_commits_that_it_had_ordered_since() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ann = member_as(&mut world, 0, 150, law.clone());
    let mut ben = member(&mut world, 1, law);
    let packages: Vec<_> = [ann.device, ben.device].iter().map(|d| package(&world, d)).collect();
    let (conversation, submission) = found(&world, &mut ada, &packages);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    let mut seen = [ada.read(&world, 0).1, ben.read(&world, 0).1];
    ann.read(&world, 0);
    let copy = copy_of(&world, 0);
    assert_eq!(served(&world, &conversation), 2);

    // Four epochs that the copy does not know: Ann goes, and the policy changes.
    let leaves = ada.group().roster().members_iter().map(|m| m.index).collect::<Vec<_>>();
    let ann_leaf = leaves.into_iter().find(|leaf| *leaf == ann.group().current_member_index()).unwrap();
    let policy = Policy::new(mls::Class::Clinical, [ada.person]).unwrap().with_retention(3600).unwrap();
    for epoch in 1..5 {
        world.pass(1);
        let change = match epoch {
            1 => ada.commit(&[], &[ann_leaf]),
            2 => change_policy(&mut ada, &policy),
            _ => ada.commit(&[], &[]),
        };
        ada.hand_in(&mut world, &conversation, epoch, &change).unwrap();
        world.settle();
        seen = [ada.read(&world, seen[0]).1, ben.read(&world, seen[1]).1];
    }
    let [hub, setting] = [Tree::Hub, Tree::Meta].map(|tree| state_of(&world, tree, &conversation));
    assert_eq!(served(&world, &conversation), 1);
    let late = ben.commit(&[], &[]);

    world.isolate(0);
    copy.commit(restored::mark(&copy, world.now).unwrap()).unwrap();
    world.nodes[0].store = copy;
    world.restart(0);
    assert_ne!(state_of(&world, Tree::Hub, &conversation), hub);
    let sent = ben.hand_in(&mut world, &conversation, 5, &late).unwrap();
    world.connect(0, 1);
    (0..20).for_each(|_| world.pass(1));
    // RXB has shown all that it holds; RXC may hold a commit that it does not.
    assert_eq!(world.rows(0, Tree::Epochs), 1, "nothing is fetched before all deletions are known");
    world.connect(0, 2);
    let refused = |world: &World| world.audit(0).iter().filter(|e| e.code == "restored").count();
    assert!(refused(&world) > 0, "the submission was refused for the time being");
    (0..60).for_each(|_| world.pass(1));
    let events = world.audit(0).into_iter().filter(|e| e.event == "restored").map(|e| e.code);
    assert_eq!(events.collect::<Vec<_>>(), ["waiting", "serving", "ordering"]);

    // The submission that was refused meanwhile comes again, and is ordered as the next epoch.
    assert_eq!(world.rows(0, Tree::Epochs), 5);
    world.drain(1, 0);
    world.settle();
    assert_eq!(world.rows(0, Tree::Epochs), 6);
    let ticks = query::ticks(&world.nodes[1].store, &sent).unwrap().unwrap();
    assert!(ticks.custodians[0].confirmed.is_some(), "{ticks:?}");
    assert_eq!(served(&world, &conversation), 1, "Ann's device gets no more");
    assert_eq!(state_of(&world, Tree::Meta, &conversation), setting);
    assert!(world.audit(0).iter().all(|e| e.event != "commit-unfollowed"));
}
