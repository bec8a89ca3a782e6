//! A device is revoked while its messages are under way: each came before or after, and no other answer.

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{Class, Reason, Target};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp};

use super::fixtures::{self, DAY};
use super::world::World;
use crate::{Deleter, Reply, Request};

const ALL: [usize; 3] = [0, 1, 2];

struct Scene {
    world: World,
    conversation: ConversationId,
    certificates: Vec<Certificate>,
}

/// A device at each trust, in one conversation, with its entry everywhere.
fn scene() -> Scene {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let certificates: Vec<_> = ALL.iter().map(|i| world.trusts[*i].device(100 + *i as u8).1).collect();
    for at in ALL {
        let entry = world.trusts[at].entry(world.network, &certificates[at], world.now);
        world.submit(at, &entry).unwrap();
        world.serve(at, &conversation, &certificates[at].fingerprint());
    }
    world.settle();
    Scene { world, conversation, certificates }
}

impl Scene {
    fn device(&self, at: usize) -> Fingerprint {
        self.certificates[at].fingerprint()
    }

    fn send(&mut self, at: usize, n: u64) -> Result<(RecordId, Timestamp), String> {
        let request = SendRequest {
            conversation: self.conversation.clone(),
            epoch: 1,
            class: Class::Application,
            content: fixtures::private_message(&self.conversation, 1, n),
            custodians: self.world.trusts.iter().map(|t| t.id.clone()).collect(),
            expires: self.world.now.plus_secs(DAY),
        };
        match self.world.ask(at, Request::Send { device: self.device(at), request })? {
            Reply::Sent { id, issued } => Ok((id, issued)),
            other => panic!("{other:?}"),
        }
    }

    fn bar(&mut self, at: usize) -> Timestamp {
        match self.world.ask(at, Request::Bar(vec![self.device(at)])) {
            Ok(Reply::Barred(moment)) => moment,
            other => panic!("{other:?}"),
        }
    }

    fn revoke(&mut self, at: usize, as_of: Timestamp) {
        let (network, now) = (self.world.network, self.world.now);
        let crl = self.world.trusts[at].crl_as_of(network, (1, as_of), &[&self.certificates[at]], now);
        self.world.submit(at, &crl).unwrap();
    }

    fn inbox(&self, at: usize) -> Vec<Option<RecordId>> {
        self.world.inbox(at, &self.device(at), 0).into_iter().map(|(_, id)| id).collect()
    }

    /// What members conclude of a message of trust 1's device, by what their node knows now.
    fn members_say(&self, issued: Timestamp) -> Vec<bool> {
        let chain = self.world.trusts[1].chain(&self.certificates[1]);
        let network = |at: usize| self.world.nodes[at].replica.network();
        let purpose = lanyard_crypto::x509::Purpose::Device;
        ALL.iter().map(|at| network(*at).verify_chain_as_of(&chain, purpose, issued).is_ok()).collect()
    }
}

#[test]
fn each_message_is_before_the_revocation_or_refused_whatever_comes_first() {
    // Messages before the bar and between bar and list, in the same second and in others; and the list or the messages first.
    for (pause, list_first) in [(0, false), (0, true), (2, false), (2, true)] {
        let mut s = scene();
        let (before, issued) = s.send(1, 1).unwrap();
        let date = s.bar(1);
        assert!(issued <= date);
        assert_eq!(s.send(1, 2), Err("revoked".into()), "it is being revoked");
        s.world.now = s.world.now.plus_secs(pause);
        assert_eq!(s.send(1, 3), Err("revoked".into()));
        if list_first {
            s.world.lose();
        }
        s.revoke(1, date);
        assert_eq!(s.send(1, 4), Err("revoked".into()));
        s.world.settle();
        s.world.pass(31);
        // The message is at every custodian, and every member comes to the same conclusion.
        assert_eq!(s.world.holders(&before), ALL);
        assert_eq!(s.members_say(issued), [true; 3]);
        assert_eq!(s.members_say(date.plus_secs(1)), [false; 3]);
        for at in [0, 2] {
            assert_eq!(s.inbox(at), [Some(before)]);
        }
    }
}

#[test]
fn nothing_more_leaves_to_a_device_that_is_known_to_be_revoked() {
    let mut s = scene();
    let (first, _) = s.send(0, 1).unwrap();
    s.world.settle();
    assert_eq!(s.inbox(1), [Some(first)]);
    let (under_way, _) = s.send(0, 2).unwrap();
    let date = s.bar(1);
    s.revoke(1, date);
    s.world.settle();
    assert!(s.world.holds(1, &under_way), "its colleagues may read it");
    assert!(s.inbox(1).is_empty());
    s.world.restart(1);
    assert!(s.inbox(1).is_empty());
    assert_eq!(s.send(1, 3), Err("revoked".into()), "the list is in force after a restart");
    for at in [0, 2] {
        assert_eq!(s.inbox(at), [Some(first), Some(under_way)]);
    }
}

#[test]
fn a_barred_device_changes_nothing_and_others_go_on() {
    let mut s = scene();
    let (sent, _) = s.send(1, 1).unwrap();
    s.bar(1);
    let (device, conversation) = (s.device(1), s.conversation.clone());
    let delete = |by| Request::Delete {
        by,
        conversation: conversation.clone(),
        target: Target::Envelopes(vec![sent]),
        reason: Reason::SentInError,
        reference: Vec::new(),
    };
    for request in [
        Request::Seen { device, seq: u64::MAX },
        Request::Leave { device, conversation: conversation.clone() },
        delete(Deleter::Device(device)),
    ] {
        assert_eq!(s.world.ask(1, request), Err("revoked".into()));
    }
    assert!(s.world.holds(1, &sent));
    s.send(0, 2).unwrap();
}

#[test]
fn the_moment_of_a_bar_is_not_before_what_was_stamped_ahead_of_the_clock() {
    let mut s = scene();
    // A deletion of all of the conversation, by a node whose clock is ahead: what is written after it is issued after it.
    let now = s.world.now;
    s.world.now = now.plus_secs(120);
    let header = s.world.header(&ALL, lanyard_crypto::limits::RETENTION_SECS_MAX + DAY);
    let order = fixtures::tombstone(&s.conversation, Target::UpTo(s.world.now));
    let order = s.world.trusts[0].sign(header, order);
    s.world.now = now;
    assert_eq!(s.world.bring(1, 0, &order), None);
    let (_, issued) = s.send(1, 1).unwrap();
    assert!(issued > now);
    s.world.restart(1);
    assert!(s.bar(1) >= issued);
}
