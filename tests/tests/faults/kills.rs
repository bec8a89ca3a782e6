//! Nodes are killed at drawn moments under load.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Draw, Person, Programs};

use super::ledger::{Deleted, Ledger, Sent};
use super::log;
use super::{PLANS, clinicians};

/// Rounds, unless `LANYARD_FAULT_ROUNDS` says more.
const ROUNDS: usize = 50;
/// Messages of each sender in each round.
const MESSAGES: usize = 2;
/// Each so-manieth round also kills the node while it opens its store, and kills another one with it.
const KILLED_AGAIN: usize = 5;
const KILLED_TOGETHER: usize = 7;

/// What one sender did in a round.
#[derive(Default)]
struct Played {
    sent: Sent,
    deleted: Option<Deleted>,
}

#[test]
fn fifty_kills_lose_nothing_and_bring_nothing_back() {
    let mut draw = Draw::from_environment("LANYARD_FAULT_SEED", 20_261_122);
    let rounds = std::env::var("LANYARD_FAULT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &PLANS).unwrap();
    cluster.enrol_all().unwrap();
    let mut ledger = Ledger::open(&cluster);
    let (mut kills, mut shift) = ([0; PLANS.len()], 0);
    for round in 0..rounds {
        // Each trust's node once in three rounds.
        if round % PLANS.len() == 0 {
            shift = draw.below(PLANS.len());
        }
        let first = (round + shift) % PLANS.len();
        let victims = match round % KILLED_TOGETHER {
            0 => vec![first, (first + 1) % PLANS.len()],
            _ => vec![first],
        };
        victims.iter().for_each(|victim| kills[*victim] += 1);
        play(&mut cluster, &mut ledger, round, &victims, &mut draw);
    }
    assert!(kills.iter().all(|count| *count >= rounds / 5), "{kills:?} kills leave a node almost alone");

    let acknowledged = ledger.sent.values().flatten().count();
    println!("{kills:?} kills; {} messages, {acknowledged} acknowledged at once", ledger.sent.len());
    assert!(acknowledged > rounds, "{acknowledged} messages were acknowledged: that is no load");
    assert!(ledger.deleted.len() > rounds / 4, "{} messages were deleted", ledger.deleted.len());
    ledger.check(&cluster);

    log::assert_refused_only(&cluster, log::RESTARTS);
    for (place, trust) in cluster.trusts.iter().enumerate() {
        // A start that was itself cut short may have been noted, or not.
        let crashes = log::entries(&trust.node, "started", "after-crash").len();
        let most = kills[place] + rounds;
        assert!((kills[place]..=most).contains(&crashes), "{crashes} starts after {} kills", kills[place]);
        assert_eq!(log::entries(&trust.node, "started", "first").len(), 1);
        for other in cluster.trusts.iter().filter(|other| other.plan.ods != trust.plan.ods) {
            let returns = log::count_of_peer(&trust.node, "connected", &other.node);
            assert!(returns > 1, "{} has not seen {} come back", trust.plan.ods, other.plan.ods);
        }
    }
}

/// A clinician of each trust sends; after a drawn number of acknowledgements and a drawn moment, the victims are killed. They are
/// started again while the others go on.
fn play(cluster: &mut Cluster, ledger: &mut Ledger, round: usize, victims: &[usize], draw: &mut Draw) {
    let senders = clinicians(cluster);
    let deleter = draw.below(senders.len());
    let (after, moment) = (draw.below(2 * MESSAGES + 1), Duration::from_micros(draw.below(40_000) as u64));
    let opening = Duration::from_micros(draw.below(250_000) as u64);
    let (count, conversation) = (AtomicUsize::new(0), ledger.conversation.clone());
    let played = thread::scope(|scope| {
        let playing: Vec<_> = senders
            .iter()
            .enumerate()
            .map(|(place, sender)| {
                let (conversation, count) = (&conversation, &count);
                scope.spawn(move || send(sender, conversation, round, place == deleter, count))
            })
            .collect();
        wait::until("messages are sent", SOON, || {
            let count = count.load(Ordering::Relaxed);
            Ok(if count >= after { Ok(()) } else { Err(count) })
        })
        .unwrap();
        // The moment itself is what is drawn here: nothing is waited for.
        thread::sleep(moment);
        for victim in victims {
            cluster.trusts[*victim].node.kill().unwrap();
        }
        if round.is_multiple_of(KILLED_AGAIN) {
            cluster.trusts[victims[0]].node.launch().unwrap();
            thread::sleep(opening);
            cluster.trusts[victims[0]].node.kill().unwrap();
        }
        for victim in victims {
            cluster.trusts[*victim].node.launch().unwrap();
        }
        for victim in victims {
            cluster.trusts[*victim].node.await_ready().unwrap();
        }
        playing.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Played>>()
    });
    for Played { sent, deleted } in played {
        ledger.sent.extend(sent);
        if let Some(mut deleted) = deleted {
            delete_after_all(&mut deleted, &ledger.conversation);
            ledger.sent.remove(&deleted.text);
            ledger.deleted.push(deleted);
        }
    }
}

/// Sends the messages of a round, whatever becomes of them; then one of them may be deleted.
fn send(sender: &Person, conversation: &str, round: usize, deletes: bool, handed_in: &AtomicUsize) -> Played {
    let mut played = Played::default();
    for number in 0..MESSAGES {
        let text = format!("{} message {round}.{number}", sender.trust());
        let sent = sender.json(&["send", conversation, &text]);
        let id = sent.ok().and_then(|sent| sent["id"].as_str().map(str::to_owned));
        handed_in.fetch_add(1, Ordering::Relaxed);
        played.sent.insert(text, id);
    }
    let acknowledged = played.sent.iter().find_map(|(text, id)| Some((text.clone(), id.clone()?)));
    if let Some((text, id)) = acknowledged.filter(|_| deletes) {
        let deletion = sender.delete(&id, "sent-in-error").ok();
        played.deleted = Some(Deleted { text, id, by: sender.clone(), deletion });
    }
    played
}

/// Whoever got no answer to a deletion asks again, unless the message has gone in the meantime.
fn delete_after_all(deleted: &mut Deleted, conversation: &str) {
    if deleted.deletion.is_some() {
        return;
    }
    wait::until("the deletion is taken", SOON, || {
        if let Ok(deletion) = deleted.by.delete(&deleted.id, "sent-in-error") {
            deleted.deletion = Some(deletion);
            return Ok(Ok(()));
        }
        let shown = deleted.by.reads(conversation, &deleted.text).unwrap_or(true);
        Ok(if shown { Err("still shown") } else { Ok(()) })
    })
    .unwrap();
}
