//! The steps of a script that order deletions, keep what they would erase, and say that they are done.

use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, LIFE_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{
    Body, Decoded, DeviceErased, DeviceLine, Erased, Expired, Held, Kind, Reason, Receipt, ReceiptItem,
    Target, Tombstone, Waiting, WaitingDevice,
};
use lanyard_crypto::{Fingerprint, NetworkId, RecordId, Timestamp};
use lanyard_replica::{Deleter, Input, Reply, Request, Source};

use super::World;
use super::act::{PASSES, header, ids, life, of, sign};
use super::check;
use crate::choices::Choices;
use crate::fixtures::{self, DAY};
use crate::groups;

/// The shortest life of an order about a whole conversation, in seconds.
const ORDER_LIFE: u64 = RETENTION_SECS_MAX + 2 * CLOCK_SKEW_SECS_MAX;
/// How long messages live by a standing order, in seconds.
const LIVES: [u64; 8] = [1, 60, 3600, DAY, 10 * DAY, 40 * DAY, RETENTION_SECS_MAX, 0];

/// An order about all of a conversation: to erase it, or to let its messages end sooner.
pub(crate) fn whole(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let conversation = of(choices);
    let lives = [ORDER_LIFE, LIFE_SECS_MAX, ORDER_LIFE - 1, LIFE_SECS_MAX - DAY];
    let life = choices.one(&lives).copied()?;
    let header = header(world, choices, life);
    let target = target(choices, header.issued);
    let reference = vec![3; choices.place(66)];
    let body = Tombstone { conversation, target, reason: Reason::PolicyExpired, reference };
    sign(choices, header, Body::Tombstone(body))
}

/// Up to a moment around this one.
fn target(choices: &mut Choices<'_>, at: Timestamp) -> Target {
    let up_to = match choices.place(6) {
        0 => at.plus_secs(1),
        n @ 1..=4 => at.minus_secs(PASSES[n - 1]),
        _ => at,
    };
    match choices.place(2 * LIVES.len()) {
        n if n < LIVES.len() => Target::Standing(up_to, LIVES[n]),
        _ => Target::UpTo(up_to),
    }
}

/// The records officer, an administrator or a device asks for that.
pub(crate) fn ask_whole(world: &mut World, choices: &mut Choices<'_>) {
    let at = choices.place(2);
    let device = fixtures::trusts()[at].device.fingerprint();
    let by = match choices.place(8) {
        0 => Deleter::Administrator(device),
        1 => Deleter::Device(device),
        _ => Deleter::Officer,
    };
    let (conversation, target) = (of(choices), target(choices, world.now));
    let reference = vec![4; choices.place(66)];
    let request = Request::Delete { by, conversation, target, reason: Reason::SentInError, reference };
    world.step(at, Input::Request { ticket: 1, request });
}

/// The officer asks that what devices have sent be deleted.
pub(crate) fn ask_sent(world: &mut World, choices: &mut Choices<'_>) {
    let (at, all) = (choices.place(2), choices.flag());
    let devices = fixtures::trusts().iter().map(|t| t.device.fingerprint()).collect();
    let reason = Reason::SubjectRequest;
    let request = Request::DeleteSent { devices, all, reason, reference: vec![5; choices.place(66)] };
    world.step(at, Input::Request { ticket: 1, request });
}

/// The officer places a hold, lets it last longer, or ends it.
pub(crate) fn hold(world: &mut World, choices: &mut Choices<'_>) {
    let (at, conversation) = (choices.place(2), of(choices));
    let reference = "r".repeat([6, 0, 64, 65][choices.place(4)]);
    if choices.place(3) == 2 {
        let request = Request::EndHold { conversation: conversation.clone(), reference };
        if world.ask(at, request) == Some(Reply::Done) {
            world.holds[at].insert(conversation, world.now);
        }
        return;
    }
    let lasts = PASSES.iter().copied().chain([0, LIFE_SECS_MAX + 1]).collect::<Vec<_>>();
    let until = world.now.plus_secs(choices.one(&lasts).copied().unwrap_or(DAY));
    let reason = "w".repeat([9, 0, 256, 257][choices.place(4)]);
    let request = Request::PlaceHold { conversation: conversation.clone(), reference, reason, until };
    if world.ask(at, request) == Some(Reply::Done) {
        world.holds[at].insert(conversation, until);
    }
}

/// A device hands in lines: its own, or odd ones. One that its registrar has not listed yet is listed first.
pub(crate) fn hand_in_lines(world: &mut World, choices: &mut Choices<'_>) {
    let (at, odd) = (choices.place(2), choices.byte().unwrap_or(0));
    let trusts = fixtures::trusts();
    let own = &trusts[at];
    let other = &trusts[1 + choices.place(2) - at];
    if odd & 64 == 0 && world.sites[at].replica.network().chain(&own.device.fingerprint()).is_none() {
        let package = Some(groups::PACKAGE.to_vec());
        let entry = own.entry(world.network, package, check::middle(world.now));
        world.remember(entry.bytes());
        world.bring(at, Source::Local { ticket: 1 }, &[entry.bytes().to_vec()]);
    }
    let says = if odd & 1 == 1 { other } else { own };
    let signs = if odd & 2 == 2 { other } else { own };
    let network = if odd & 12 == 12 { NetworkId::new([9; 32]) } else { world.network };
    let lines = orders(world, choices, 3).into_iter().map(|tombstone| {
        let erased = moment(world, odd >> 4);
        let line = DeviceLine::sign(network, tombstone, erased, says.device.fingerprint(), &signs.device_key);
        if odd == 255 { choices.altered(line.bytes()) } else { line.bytes().to_vec() }
    });
    let lines = lines.map(Into::into).collect();
    let asks = if odd & 128 == 128 { says } else { own };
    let request = Request::Erased { device: asks.device.fingerprint(), lines };
    world.step(at, Input::Request { ticket: 1, request });
}

/// A receipt of several things, about tombstones that were seen and about what is none, of devices of this trust and of others.
pub(crate) fn receipt(world: &World, choices: &mut Choices<'_>) -> Option<Decoded> {
    let life = life(choices);
    let header = header(world, choices, life);
    let mut items = Vec::new();
    for _ in 0..=choices.place(6) {
        items.push(item(world, choices)?);
    }
    let mut items = Receipt::sorted(items);
    items.dedup();
    sign(choices, header, Body::Receipt(Receipt { items }))
}

fn item(world: &World, choices: &mut Choices<'_>) -> Option<ReceiptItem> {
    let tombstone = *orders(world, choices, 1).first()?;
    let (kind, which) = (choices.place(5), choices.byte()?);
    let erased = moment(world, which);
    let devices = fixtures::trusts().iter().map(|t| t.device.fingerprint());
    Some(match kind {
        0 => {
            let envelopes = if which & 8 == 8 { u32::MAX } else { 1 };
            let devices = [0, 1, 2, u32::MAX][usize::from(which >> 6)];
            ReceiptItem::Erased(Erased { tombstone, erased, envelopes, devices })
        }
        1 => {
            let reference = vec![which; [0, 5, 64, 65][usize::from(which >> 6)]];
            ReceiptItem::Held(Held { tombstone, until: erased, reference })
        }
        2 => {
            let [says, signs] = [which >> 4, which >> 6].map(|n| &fixtures::trusts()[usize::from(n & 3) % 3]);
            let (device, key) = (says.device.fingerprint(), &signs.device_key);
            let about = if which & 8 == 8 { RecordId::new([8; 32]) } else { tombstone };
            let line = DeviceLine::sign(world.network, about, erased, device, key);
            ReceiptItem::DeviceErased(DeviceErased { tombstone, line: line.bytes().to_vec() })
        }
        3 => {
            let strange = Fingerprint::new([which; 32]);
            let named = devices.chain([strange]).zip(4..).filter(|(_, bit)| which >> bit & 1 == 1);
            let last_seen = (which & 8 == 8).then_some(erased);
            let mut devices: Vec<_> = named.map(|(device, _)| WaitingDevice { device, last_seen }).collect();
            devices.sort_by_key(|waiting| waiting.device);
            let count = devices.len() as u32 + u32::from(which & 1);
            ReceiptItem::Waiting(Waiting { tombstone, devices, count })
        }
        _ => {
            let hour = Timestamp::from_secs(erased.as_secs() / 3600 * 3600);
            let envelopes = u32::from(which & 15);
            ReceiptItem::Expired(Expired { conversation: of(choices), hour, erased, envelopes })
        }
    })
}

/// A moment that is told of a deletion.
fn moment(world: &World, which: u8) -> Timestamp {
    match which & 3 {
        1 => check::middle(world.now.minus_secs(DAY)),
        2 => world.now.plus_secs(40 * DAY),
        3 if which & 4 == 4 => Timestamp::from_secs(u64::MAX),
        _ => world.now,
    }
}

/// Ids of tombstones that were seen, newest first; now and then of anything.
fn orders(world: &World, choices: &mut Choices<'_>, max: usize) -> Vec<RecordId> {
    let seen = world.records.iter().rev().filter_map(|bytes| Decoded::from_bytes(bytes).ok());
    let seen: Vec<_> = seen.filter(|r| r.body().kind() == Kind::Tombstone).map(|r| r.id()).collect();
    let mut found = Vec::new();
    for _ in 0..=choices.place(max) {
        match choices.place(seen.len() + 1) {
            at if at < seen.len() => found.push(seen[at]),
            _ => found.extend(ids(world, choices, 1)),
        }
    }
    found
}
