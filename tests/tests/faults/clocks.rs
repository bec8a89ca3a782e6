//! Clocks that are wrong: by less than is accepted, by more, ahead and behind; and time that passes.

use lanyard_tests::clock::Clock;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Person, Programs};

use super::ledger::Ledger;
use super::log;
use super::{PLANS, clinicians};

/// Clocks may differ by 300 seconds.
const WITHIN_SECS: i64 = 240;
const BEYOND_SECS: i64 = 900;

#[test]
fn a_wrong_clock_is_refused_by_name_and_nothing_is_lost_once_it_is_set() {
    let programs = Programs::find().unwrap();
    let mut cluster = Cluster::found(&programs, &PLANS).unwrap();
    let clocks = Clocks::build(cluster.path()).unwrap();
    let own: Vec<Clock> = PLANS.iter().map(|plan| clocks.clock(plan.ods).unwrap()).collect();
    for (trust, clock) in cluster.trusts.iter_mut().zip(&own) {
        trust.node.surround(clock.surroundings());
    }
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    for (trust, clock) in cluster.trusts.iter_mut().zip(&own) {
        trust.people.iter_mut().for_each(|person| person.surround(clock.surroundings()));
    }
    let mut ledger = Ledger::open(&cluster);
    let people = clinicians(&cluster);
    let nodes = [0, 1, 2].map(|place| &cluster.trusts[place].node);

    // Within what is accepted, nobody notices.
    own[1].set(WITHIN_SECS).unwrap();
    own[2].set(-WITHIN_SECS / 6).unwrap();
    ledger.send(&people[1], "a little ahead");
    ledger.send(&people[2], "a little behind");
    ledger.await_read(&people, &["a little ahead", "a little behind"]);
    log::assert_refused_only(&cluster, &[]);

    // Ahead by more: the others refuse what that node signs, and say why.
    own[1].set(BEYOND_SECS).unwrap();
    own[2].set(0).unwrap();
    let early = ledger.send(&people[1], "far ahead");
    for node in [nodes[0], nodes[2]] {
        let refused =
            node.await_audit("a record from the future", |entry| entry["code"] == "future").unwrap();
        assert_eq!((&refused["event"], &refused["record"]), (&"refused".into(), &early.as_str().into()));
        assert!(refused["detail"].as_str().unwrap().contains("check both clocks"), "{refused}");
        assert!(node.held(&early).unwrap().is_none());
    }
    ledger.send(&people[0], "to the node that is far ahead");
    ledger.await_read([&people[1], &people[2]], &["to the node that is far ahead"]);

    // The clock is set right. What it had acknowledged waits until its time has come.
    own[1].set(0).unwrap();
    ledger.send(&people[1], "right again");
    ledger.await_read(&people, &["right again"]);
    assert!(nodes[0].held(&early).unwrap().is_none(), "its time has not come");
    own.iter().for_each(|clock| clock.set(BEYOND_SECS).unwrap());
    ledger.await_read(&people, &["far ahead"]);

    // Behind by more: that node refuses the others.
    own[2].set(0).unwrap();
    ledger.send(&people[0], "to a node that is behind");
    let wait = |what| nodes[2].await_audit(what, |entry| entry["code"] == "future").unwrap();
    wait("the others are ahead of it");
    own[2].set(BEYOND_SECS).unwrap();
    ledger.await_read(&people, &["to a node that is behind"]);

    // Time passes everywhere: a message ends everywhere without being told.
    expire(&ledger, &cluster, &people, &own);
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, &["future", "expired"]);
}

/// Sends a message that lives for an hour, lets more than that pass, and waits until no node has it.
fn expire(ledger: &Ledger, cluster: &Cluster, people: &[Person], clocks: &[Clock]) {
    let words = ["send", &ledger.conversation, "for an hour", "--expires", "1h"];
    let sent = people[0].json(&words).unwrap();
    let id = sent["id"].as_str().unwrap();
    ledger.await_read(people, &["for an hour"]);
    clocks.iter().for_each(|clock| clock.set(BEYOND_SECS + 3700).unwrap());
    for trust in &cluster.trusts {
        wait::until(format!("{} has dropped it", trust.plan.ods), SOON, || {
            Ok(if trust.node.held(id)?.is_none() { Ok(()) } else { Err("still held") })
        })
        .unwrap();
    }
    for person in people {
        person.await_gone(&ledger.conversation, "for an hour").unwrap();
    }
}
