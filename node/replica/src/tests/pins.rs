//! Attempts are counted before they can be answered, and what nothing may be checked with any more is gone.

use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, Timestamp};
use lanyard_storage::{Tree, View};
use zeroize::Zeroizing;

use super::world::World;
use crate::pin::{Hidden, LAST_SECS, PinPolicy, PinRequest, PinSession, spent, state};
use crate::{Reply, Request};

const POLICY: PinPolicy = PinPolicy { tries_max: 10, delay_secs: 30, session_secs: 3600 };

fn hidden(byte: u8) -> Hidden {
    Hidden(Zeroizing::new(vec![byte; 192]))
}

/// A device of RXA's with a PIN.
struct Scene {
    world: World,
    certificate: Certificate,
    device: Fingerprint,
    /// The last one that was counted.
    attempt: u64,
}

fn scene() -> Scene {
    let mut world = World::three();
    let (_, certificate) = world.trusts[0].device(90);
    let device = certificate.fingerprint();
    let entry = world.trusts[0].entry(world.network, &certificate, world.now);
    world.submit(0, &entry).unwrap();
    world.nodes[0].replica.set_pin_policy(POLICY);
    let mut scene = Scene { world, certificate, device, attempt: 0 };
    assert_eq!(scene.ask(PinRequest::Try), Err("no-pin".into()));
    for shown in [None, Some(5)] {
        assert_eq!(scene.set(7, 1, shown), Err("no-pin".into()), "it was not enrolled");
    }
    scene.enrolled(6).unwrap();
    assert_eq!(scene.ask(PinRequest::Try), Err("no-pin".into()));
    assert!(
        !state(&scene.world.nodes[0].store, &device, &PinPolicy::default(), scene.world.now).unwrap().is_set
    );
    scene.set(7, 1, Some(6)).unwrap();
    scene
}

impl Scene {
    fn ask(&mut self, request: PinRequest) -> Result<Reply, String> {
        self.world.ask(0, Request::Pin { device: self.device, request })
    }

    /// How many attempts are left after this one.
    fn tried(&mut self) -> Result<u32, String> {
        match self.ask(PinRequest::Try)? {
            Reply::PinRecord { record, attempt, left } => {
                assert_eq!(record, hidden(7));
                assert!(attempt > self.attempt);
                self.attempt = attempt;
                Ok(left)
            }
            other => panic!("{other:?}"),
        }
    }

    /// How many attempts before the last one have failed.
    fn pass(&mut self) -> Result<u32, String> {
        let attempt = self.attempt;
        match self.ask(PinRequest::Passed { attempt, record: Some(hidden(7)), proof: [2; 32] })? {
            Reply::PinPassed { failed } => Ok(failed),
            other => panic!("{other:?}"),
        }
    }

    fn set(&mut self, record: u8, proof: u8, shown: Option<u8>) -> Result<Reply, String> {
        let shown = [shown.unwrap_or(0); 32];
        self.ask(PinRequest::Set { record: hidden(record), proof: [proof; 32], shown })
    }

    fn enrolled(&mut self, proof: u8) -> Result<Reply, String> {
        self.ask(PinRequest::Enrolled { proof: [proof; 32] })
    }

    fn session(&self) -> Option<PinSession> {
        state(&self.world.nodes[0].store, &self.device, &POLICY, self.world.now).unwrap().session
    }

    fn has_record(&self) -> bool {
        self.world.nodes[0].store.contains(Tree::PinRecords, self.device.as_bytes()).unwrap()
    }

    fn later(&mut self, secs: u64) {
        self.world.now = self.world.now.plus_secs(secs);
    }

    fn revoke(&mut self) {
        let crl = self.world.trusts[0].crl(self.world.network, 1, &[&self.certificate], self.world.now);
        self.world.submit(0, &crl).unwrap();
    }
}

#[test]
fn ten_attempts_are_given_the_last_ones_after_a_while_and_no_eleventh() {
    let mut s = scene();
    for left in [9, 8, 7, 6] {
        assert_eq!(s.tried(), Ok(left), "the first ones at once");
    }
    for (left, wait) in [(5, 30), (4, 60), (3, 120), (2, 240), (1, 480), (0, 960)] {
        assert_eq!(s.tried(), Err("pin-wait".into()));
        s.later(wait - 1);
        s.world.restart(0);
        s.world.nodes[0].replica.set_pin_policy(POLICY);
        assert_eq!(s.tried(), Err("pin-wait".into()), "{wait} seconds, also after a restart");
        assert!(s.has_record());
        s.later(1);
        assert_eq!(s.tried(), Ok(left));
    }
    assert!(!s.has_record());
    s.later(1_000_000);
    assert_eq!(s.tried(), Err("pin-destroyed".into()));
    let again = s.set(8, 3, Some(2));
    assert_eq!(again, Err("pin-destroyed".into()), "nobody sets another one on the same device");
    assert!(!s.has_record() && s.session().is_none());
}

#[test]
fn who_has_spent_the_last_attempt_is_told_once_nothing_can_prove_it_any_more() {
    let mut s = scene();
    let spent = |s: &Scene, started| spent(&s.world.nodes[0].store, started, s.world.now).unwrap();
    let started = s.world.now;
    for _ in 0..9 {
        s.later(1000);
        s.tried().unwrap();
        assert!(spent(&s, s.world.now.plus_secs(1)).is_empty(), "there are more");
    }
    s.later(1000);
    assert_eq!(s.tried(), Ok(0));
    s.later(LAST_SECS - 1);
    assert!(spent(&s, started).is_empty(), "the proof may be under way");
    // A node that was started since has it no more.
    assert_eq!(spent(&s, s.world.now), [s.device]);
    s.later(1);
    assert_eq!(spent(&s, started), [s.device]);
    s.revoke();
    assert!(spent(&s, started).is_empty(), "it is done");

    let mut s = scene();
    for _ in 0..10 {
        s.later(1000);
        s.tried().unwrap();
    }
    s.pass().unwrap();
    s.later(1000);
    assert!(spent(&s, s.world.now).is_empty(), "the last one was right");
}

#[test]
fn a_right_one_gives_all_attempts_back_also_the_last() {
    let mut s = scene();
    for _ in 0..4 {
        s.tried().unwrap();
    }
    assert_eq!(s.pass(), Ok(3), "whoever has it is told of the others");
    assert_eq!(s.tried(), Ok(9));
    for _ in 0..9 {
        s.later(1000);
        s.tried().unwrap();
    }
    assert!(!s.has_record());
    s.pass().unwrap();
    assert!(s.has_record());
    assert_eq!(s.tried(), Ok(9));
}

#[test]
fn a_session_lasts_until_its_end_a_lock_or_the_last_attempt() {
    let mut s = scene();
    let first = PinSession { proof: [1; 32], until: s.world.now.plus_secs(3600) };
    assert_eq!(s.session(), Some(first), "who sets a PIN has proved it");
    s.later(3599);
    assert!(s.session().is_some());
    s.later(1);
    assert_eq!(s.session(), None);
    s.tried().unwrap();
    s.pass().unwrap();
    assert_eq!(s.session().map(|session| session.proof), Some([2; 32]));
    s.ask(PinRequest::Lock).unwrap();
    assert_eq!(s.session(), None);
    s.tried().unwrap();
    s.pass().unwrap();
    for _ in 0..9 {
        s.later(1000);
        s.tried().unwrap();
    }
    // Its hour is over; a longer one ends all the same.
    s.world.nodes[0].replica.set_pin_policy(PinPolicy { session_secs: u64::MAX, ..POLICY });
    s.later(1000);
    s.tried().unwrap();
    assert_eq!(s.session(), None);
}

#[test]
fn a_session_that_a_clock_has_opened_which_was_ahead_has_ended_once_that_is_right() {
    let mut s = scene();
    let right = s.world.now;
    s.later(40 * 24 * 3600);
    s.tried().unwrap();
    s.pass().unwrap();
    assert!(s.session().is_some());
    s.world.now = right;
    assert_eq!(s.session(), None);
    assert_eq!(s.set(8, 3, Some(2)), Err("locked".into()));
}

#[test]
fn a_revoked_device_has_no_record_any_more_whatever_is_under_way() {
    let mut s = scene();
    s.tried().unwrap();
    s.revoke();
    assert!(!s.has_record() && s.session().is_none());
    assert_eq!(s.pass(), Err("pin-destroyed".into()));
    assert_eq!(s.tried(), Err("pin-destroyed".into()));
    let again = s.set(8, 3, Some(2));
    assert_eq!(again, Err("pin-destroyed".into()));
    assert!(!s.has_record());
    let codes: Vec<_> = s.world.audit(0).into_iter().filter(|e| e.event == "pin").map(|e| e.code).collect();
    assert_eq!(codes, ["set", "revoked"]);
}

#[test]
fn a_record_that_a_backup_brings_back_goes_again() {
    let mut s = scene();
    let backup = s.world.nodes[0].store.rows();
    s.revoke();
    assert!(!s.has_record());
    let mut batch = lanyard_storage::Batch::new();
    for (tree, key, value) in backup {
        if [Tree::Pins, Tree::PinRecords].contains(&tree) {
            batch.put(tree, key, value);
        }
    }
    lanyard_storage::Store::commit(&s.world.nodes[0].store, batch).unwrap();
    assert!(s.has_record());
    s.world.restart(0);
    s.world.pass(1);
    assert!(!s.has_record());
}

#[test]
fn a_clock_that_was_ahead_keeps_nobody_out_for_as_long() {
    let mut s = scene();
    s.later(1_000_000);
    for _ in 0..4 {
        s.tried().unwrap();
    }
    s.world.now = Timestamp::from_secs(s.world.now.as_secs() - 900_000);
    assert_eq!(s.tried(), Err("pin-wait".into()));
    s.later(30);
    assert_eq!(s.tried(), Ok(5));
}

#[test]
fn the_secret_of_all_records_is_made_once() {
    let mut s = scene();
    let secret = |s: &Scene| crate::pin::secret(&s.world.nodes[0].store).unwrap();
    assert_eq!(secret(&s), None);
    for byte in [1, 2] {
        s.world.ask(0, Request::PinSecret(hidden(byte))).unwrap();
    }
    assert_eq!(secret(&s), Some(hidden(1)));
}

#[test]
fn what_was_tried_or_set_since_ends_an_attempt() {
    let mut s = scene();
    s.tried().unwrap();
    let first = s.attempt;
    s.tried().unwrap();
    let second = std::mem::replace(&mut s.attempt, first);
    assert_eq!(s.pass(), Err("pin-exchange".into()), "a newer one is under way");
    s.attempt = second;
    s.set(8, 4, Some(1)).unwrap();
    assert_eq!(s.pass(), Err("pin-exchange".into()), "the PIN that it was about is not in force");
    assert_eq!(s.session().map(|session| session.proof), Some([4; 32]));
}

#[test]
fn another_pin_is_set_by_the_session_as_it_is_then() {
    let mut s = scene();
    for shown in [None, Some(9)] {
        assert_eq!(s.set(8, 3, shown), Err("locked".into()));
    }
    s.ask(PinRequest::Lock).unwrap();
    assert_eq!(s.set(8, 3, Some(1)), Err("locked".into()));
    s.tried().unwrap();
    s.pass().unwrap();
    s.later(3600);
    assert_eq!(s.set(8, 3, Some(2)), Err("locked".into()), "it has ended");
}

#[test]
fn the_first_pin_is_set_once_by_the_newest_enrolment_within_its_time() {
    let mut s = scene();
    assert_eq!(s.enrolled(6), Err("pin-set".into()), "enrolling gives no right to replace a PIN");
    s.ask(PinRequest::Lock).unwrap();
    assert_eq!(s.enrolled(6), Err("pin-set".into()));
    assert_eq!(s.set(8, 3, Some(6)), Err("locked".into()), "the first right is used up");

    let (_, certificate) = s.world.trusts[0].device(92);
    let entry = s.world.trusts[0].entry(s.world.network, &certificate, s.world.now);
    s.world.submit(0, &entry).unwrap();
    s.device = certificate.fingerprint();
    s.enrolled(4).unwrap();
    s.enrolled(5).unwrap();
    assert_eq!(s.set(7, 1, Some(4)), Err("no-pin".into()), "an answer that was asked for again is over");
    s.later(3600);
    assert_eq!(s.set(7, 1, Some(5)), Err("no-pin".into()), "its time is over");
    s.enrolled(6).unwrap();
    s.later(3599);
    s.set(7, 1, Some(6)).unwrap();
    assert_eq!(s.tried(), Ok(9));

    s.certificate = certificate;
    s.revoke();
    assert_eq!(s.enrolled(6), Err("pin-destroyed".into()));
}

#[test]
fn a_device_without_an_entry_sets_none_and_one_whose_certificate_ends_leaves_nothing() {
    let mut s = scene();
    let stranger = s.world.trusts[0].device(91).1.fingerprint();
    let request = PinRequest::Set { record: hidden(1), proof: [1; 32], shown: [0; 32] };
    for request in [request, PinRequest::Enrolled { proof: [1; 32] }] {
        assert_eq!(s.world.ask(0, Request::Pin { device: stranger, request }), Err("not-found".into()));
    }
    let left = s.certificate.not_after().as_secs() - s.world.now.as_secs() + 400 * 24 * 3600;
    s.world.pass(left - 1);
    assert!(s.has_record());
    s.world.pass(3601);
    assert!(!s.has_record());
    assert_eq!(s.world.rows(0, Tree::Pins), 0);
}

#[test]
fn a_restored_node_takes_no_pin_before_it_knows_what_was_revoked() {
    let mut s = scene();
    let marked = crate::restored::mark(&s.world.nodes[0].store, s.world.now).unwrap();
    lanyard_storage::Store::commit(&s.world.nodes[0].store, marked).unwrap();
    s.world.restart(0);
    for request in [PinRequest::Try, PinRequest::Lock] {
        assert_eq!(s.ask(request), Err("restored".into()));
    }
}
