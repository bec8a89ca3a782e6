//! The steps of a script.

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{
    self, Body, Class, Crl, Decoded, Envelope, Erased, Head, Header, Reason, Receipt, ReceiptItem, Target,
    Tombstone,
};
use lanyard_crypto::{AuditHash, ConversationId, RecordId, Timestamp, TrustId};
use lanyard_replica::frame::Frame;
use lanyard_replica::{Deleter, Input, Request, Source};

use super::World;
use super::check;
use super::deletions;
use super::world::SCRIPTED;
use crate::choices::Choices;
use crate::fixtures::{self, DAY, RETENTION};
use crate::groups::{self, conversation};

/// Clocks go forward by one of these, in seconds.
pub(crate) const PASSES: [u64; 8] = [1, 2, 31, 299, 3600, DAY, 15 * DAY, 40 * DAY];

/// From this byte on a step is one of the later kinds, whatever is added to them: below, bytes say what they said before.
const LATER: u8 = 192;

/// Does what the next bytes say; none at the end of the script.
pub(crate) fn act(world: &mut World, choices: &mut Choices<'_>) -> Option<()> {
    match choices.byte()? {
        byte @ ..LATER => act_first(world, choices, byte % 24),
        byte => match (byte - LATER) % 6 {
            0 => made(world, choices, deletions::whole),
            1 => made(world, choices, deletions::receipt),
            2 => deletions::ask_whole(world, choices),
            3 => deletions::ask_sent(world, choices),
            4 => deletions::hold(world, choices),
            _ => deletions::hand_in_lines(world, choices),
        },
    }
    Some(())
}

fn act_first(world: &mut World, choices: &mut Choices<'_>, kind: u8) {
    match kind {
        0 => pass(world, choices),
        1 | 2 => world.connect(if choices.flag() { 1 } else { SCRIPTED }),
        3 => {
            let (at, peer) = if choices.flag() { (1, 0) } else { (0, choices.place(2) + 1) };
            world.link(at, peer, false);
        }
        4 | 5 => drop((0..=choices.place(16)).try_for_each(|_| world.deliver().then_some(()))),
        6 => drop(world.wire.pop_front()),
        7 => alter_parcel(world, choices),
        8 => bring_frame(world, choices),
        9 => answers(world, choices),
        10 => again(world, choices),
        11 => alter_record(world, choices),
        12 | 13 => made(world, choices, application),
        14 => made(world, choices, handshake),
        15 | 16 => made(world, choices, tombstone),
        17 => made(world, choices, receipt_or_head),
        18 => made(world, choices, revocations),
        19 => made(world, choices, entry),
        20 => made(world, choices, charter),
        21 => request(world, choices),
        22 => world.restart(choices.place(2)),
        _ => world.settle(),
    }
}

/// With a tick at the end, or without one: a node that was busy, or is about to start.
fn pass(world: &mut World, choices: &mut Choices<'_>) {
    let which = choices.place(2 * PASSES.len());
    let secs = PASSES[which % PASSES.len()];
    if which >= PASSES.len() {
        world.now = world.now.plus_secs(secs);
    } else {
        world.pass(secs);
        for at in 0..2 {
            // A tick that carries out the end of a hold leaves what has expired to the next.
            if world.ends_hold[at] {
                world.step(at, Input::Tick);
            }
            world.go_on(at);
            check::ticked(world, at);
        }
    }
}

fn alter_parcel(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(world.wire.len());
    if let Some(parcel) = world.wire.get_mut(at) {
        parcel.bytes = choices.altered(&parcel.bytes);
    }
}

/// A frame that was heard comes from the script's node, or from the other replica: as it was, altered, or about other records.
fn bring_frame(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(world.frames.len());
    let Some(mut frame) = world.frames.get(at).cloned() else { return };
    match choices.place(3) {
        0 => {}
        1 => frame = choices.altered(&frame),
        _ => {
            let ids = ids(world, choices, 2);
            name_others(&mut frame, &ids);
        }
    }
    let from = if choices.flag() { 1 } else { SCRIPTED };
    world.bring_frame(0, from, &frame);
}

/// Puts ids in the place of whatever has 32 bytes in a frame: a byte string begins with 0x58 0x20.
fn name_others(frame: &mut [u8], ids: &[RecordId]) {
    let (mut at, mut ids) = (0, ids.iter().cycle());
    while let Some(found) = frame.get(at..).and_then(|rest| rest.windows(2).position(|w| w == [0x58, 0x20])) {
        at += found + 2;
        if let (Some(place), Some(id)) = (frame.get_mut(at..at + 32), ids.next()) {
            place.copy_from_slice(id.as_bytes());
        }
    }
}

/// Answers for records, in words of the script's choice.
fn answers(world: &mut World, choices: &mut Choices<'_>) {
    let ids = ids(world, choices, 6);
    let code = match choices.place(4) {
        0 => "bad-signature".to_owned(),
        1 => String::new(),
        2 => "\u{10FFFF}".repeat(80),
        _ => "expired".to_owned(),
    };
    let (stored, doubted): (Vec<_>, Vec<_>) = ids.into_iter().partition(|_| choices.flag());
    let refused =
        doubted.into_iter().map(|id| lanyard_replica::frame::Refused { id, code: code.clone() }).collect();
    let frame = Frame::Answers { stored, refused };
    let from = if choices.flag() { 1 } else { SCRIPTED };
    world.bring_frame(0, from, &frame.to_bytes());
}

fn again(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(world.records.len());
    if let Some(record) = world.records.get(at).cloned() {
        bring(world, choices, &record);
    }
}

fn alter_record(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(world.records.len());
    if let Some(record) = world.records.get(at).cloned() {
        let altered = choices.altered(&record);
        bring(world, choices, &altered);
    }
}

/// A record that the script signs now.
fn made(world: &mut World, choices: &mut Choices<'_>, make: fn(&World, &mut Choices<'_>) -> Option<Decoded>) {
    if let Some(record) = make(world, choices) {
        world.remember(record.bytes());
        world.scripted.insert(record.id());
        bring(world, choices, record.bytes());
    }
}

/// Brings a record to a replica by one of the ways by which records come.
fn bring(world: &mut World, choices: &mut Choices<'_>, record: &[u8]) {
    let (to, from) = if choices.flag() { (1, 0) } else { (0, 1 + choices.place(2)) };
    let node = fixtures::trusts()[from].node_id();
    let source = match choices.place(4) {
        0 => Source::Gossip { from: node, message: RecordId::of(record).as_bytes().to_vec() },
        1 => Source::Local { ticket: 1 },
        _ => Source::Peer(node),
    };
    world.bring(to, source, &[record.to_vec()]);
}

pub(crate) fn header(world: &World, choices: &mut Choices<'_>, life_secs: u64) -> Header {
    let which = choices.byte().unwrap_or(7);
    let trusts = fixtures::trusts().iter().zip(0..).filter(|(_, n)| which >> n & 1 == 1 || which & 8 == 0);
    let mut custodians: Vec<TrustId> = trusts.map(|(t, _)| t.id.clone()).collect();
    if which == 255 {
        custodians.push("RXZ".parse().expect("an ODS code"));
    }
    let issued = match which >> 4 {
        13 => world.now.plus_secs(299),
        14 => world.now.plus_secs(400),
        15 => check::middle(world.now.minus_secs(20 * DAY)),
        _ => world.now,
    };
    Header { network: Some(world.network), custodians, issued, expires: issued.plus_secs(life_secs) }
}

/// A life that is usual, or at an edge, in seconds.
pub(crate) fn life(choices: &mut Choices<'_>) -> u64 {
    let lives = [RETENTION / 2, RETENTION, RETENTION + 1, RETENTION + DAY, 1, 600, DAY, 400 * DAY];
    choices.one(&lives).copied().unwrap_or(DAY)
}

pub(crate) fn sign(choices: &mut Choices<'_>, header: Header, body: Body) -> Option<Decoded> {
    let trust = choices.one(fixtures::trusts())?;
    record::sign(header, body, trust.node.fingerprint(), &trust.node_key).ok()
}

pub(crate) fn of(choices: &mut Choices<'_>) -> ConversationId {
    match choices.place(6) {
        0 => ConversationId::new([1; 16], fixtures::trusts()[1].id.clone()),
        1 => ConversationId::new([2; 16], "RXZ".parse().expect("an ODS code")),
        _ => conversation(),
    }
}

fn application(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let (conversation, life) = (of(choices), life(choices));
    let (header, epoch) = (header(world, choices, life), choices.number());
    let mut content = groups::private_message(&conversation, epoch, choices.byte()?);
    if choices.place(8) == 7 {
        content = choices.altered(&content);
    }
    let body = Envelope { conversation, epoch, class: Class::Application, content };
    sign(choices, header, Body::Envelope(body))
}

/// A commit, a welcome or a submission: by hand, or that of the fixtures.
fn handshake(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let (conversation, life) = (of(choices), life(choices));
    let (header, mut epoch) = (header(world, choices, life), choices.number());
    let (class, mut content) = match choices.place(4) {
        0 => (Class::Commit, groups::public_commit(&conversation, epoch, choices.byte()?)),
        1 => (Class::Welcome, groups::welcome(choices.place(70))),
        2 => (Class::Submission, groups::public_commit(&conversation, epoch, 0)),
        _ => {
            epoch = 0;
            (Class::Submission, groups::FOUNDING.to_vec())
        }
    };
    if choices.place(4) == 3 {
        content = choices.altered(&content);
    }
    sign(choices, header, Body::Envelope(Envelope { conversation, epoch, class, content }))
}

fn tombstone(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let conversation = of(choices);
    let life = [2 * RETENTION, RETENTION + DAY, DAY, 60].get(choices.place(4)).copied()?;
    let header = header(world, choices, life);
    let target = if choices.flag() {
        let back = PASSES[choices.place(4)];
        Target::UpTo(if choices.flag() {
            header.issued.plus_secs(back)
        } else {
            header.issued.minus_secs(back)
        })
    } else {
        let mut ids = ids(world, choices, 4);
        ids.sort();
        ids.dedup();
        Target::Envelopes(ids)
    };
    let reference = vec![7; choices.place(66)];
    let body = Tombstone { conversation, target, reason: Reason::Incident, reference };
    sign(choices, header, Body::Tombstone(body))
}

/// A head where a receipt would say nothing.
fn receipt_or_head(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let life = life(choices);
    let header = header(world, choices, life);
    let mut ids = ids(world, choices, 4);
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        let (number, dropped) = (choices.number(), choices.number());
        let hash = AuditHash::new([choices.byte()?; 32]);
        let header = Header { custodians: Vec::new(), ..header };
        return sign(choices, header, Body::Head(Head { number, hash, dropped }));
    }
    let erased = header.issued;
    let item = |tombstone| ReceiptItem::Erased(Erased { tombstone, erased, envelopes: u32::MAX, devices: 1 });
    let items = Receipt::sorted(ids.into_iter().map(item).collect());
    sign(choices, header, Body::Receipt(Receipt { items }))
}

fn revocations(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let trust = choices.one(fixtures::trusts())?;
    let (number, which) = (choices.number(), choices.byte()?);
    let all = [(&trust.node, 1), (&trust.device, 2)];
    // A node that is revoked says nothing any more: seldom, so that scripts go on.
    let revoked: Vec<_> = all.iter().filter(|(_, bit)| which & 7 == *bit).map(|(c, _)| *c).collect();
    let list = trust.revocations(number, &revoked).der().to_vec();
    let body = Body::Crl(Crl { list, issuer: trust.registrar.der().to_vec() });
    Some(trust.certify(world.network, body, world.now, life(choices)))
}

fn entry(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let trust = choices.one(fixtures::trusts())?;
    let issued = if choices.flag() { world.now } else { world.now.minus_secs(DAY) };
    let package = match choices.place(3) {
        0 => None,
        1 => Some(groups::PACKAGE.to_vec()),
        _ => Some(choices.altered(groups::PACKAGE)),
    };
    Some(trust.entry(world.network, package, check::middle(issued)))
}

fn charter(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let network = world.sites[0].replica.network();
    let before = world.records.iter().rev().filter_map(|r| Decoded::from_bytes(r).ok());
    let before = before.chain([world.charter.clone()]).find(|r| r.statement() == network.charter_id())?;
    let which = choices.byte()?;
    let trusts = fixtures::trusts();
    // The first stays: without it there is nothing to look at. The others come and go.
    let members: Vec<_> = trusts.iter().zip(0..).filter(|(_, n)| *n == 0 || which >> n & 1 == 0).collect();
    let members: Vec<_> = members.into_iter().map(|(t, _)| t).collect();
    Some(fixtures::charter_of(&members, Some(&before)))
}

/// Ids of records that were seen, and of one that nobody has.
pub(crate) fn ids(world: &World, choices: &mut Choices<'_>, max: usize) -> Vec<RecordId> {
    let mut ids = Vec::new();
    for _ in 0..=choices.place(max) {
        let at = choices.place(world.records.len() + 1);
        ids.push(world.records.get(at).map_or(RecordId::new([at as u8; 32]), |r| RecordId::of(r)));
    }
    ids
}

/// A device or an operator asks for something.
fn request(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(2);
    let device = fixtures::trusts()[at].device.fingerprint();
    let (conversation, life) = (of(choices), life(choices));
    let request = match choices.place(4) {
        0 => {
            let (epoch, n) = (choices.number(), choices.byte().unwrap_or(0));
            let class = [Class::Application, Class::Submission, Class::Commit][choices.place(3)];
            let content = match class {
                Class::Submission => groups::FOUNDING.to_vec(),
                _ => groups::private_message(&conversation, epoch, n),
            };
            let custodians = header(world, choices, 1).custodians;
            let expires = world.now.plus_secs(life);
            let epoch = if class == Class::Submission { 0 } else { epoch };
            let request = SendRequest { conversation, epoch, class, content, custodians, expires };
            Request::Send { device, request }
        }
        1 => {
            let by = if choices.flag() { Deleter::Officer } else { Deleter::Device(device) };
            let target = if choices.flag() {
                Target::UpTo(Timestamp::from_secs(choices.number()))
            } else {
                Target::Envelopes(ids(world, choices, 3))
            };
            let reference = vec![1; choices.place(66)];
            Request::Delete { by, conversation, target, reason: Reason::SubjectRequest, reference }
        }
        2 => Request::Seen { device, seq: choices.number() },
        _ => Request::Leave { device, conversation },
    };
    world.step(at, Input::Request { ticket: 1, request });
}
