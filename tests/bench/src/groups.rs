//! A hub's group: adding, removing, renewing keys and writing, against the bare MLS library.
//!
//! Both sides are the same member of the same group in the same state, do the same, and take the same bytes. The library's side is `mls-rs`
//! with the same cipher suite, its storage in memory, an identity provider that believes every certificate and the library's own rules; the
//! group stays loaded between calls, and each call ends with writing its state to that storage. Lanyard's side is the client's session with
//! its vault on the disk: every call loads the group from the vault, and all of what it changes there is one synced transaction. In between
//! stands Lanyard's without the vault: the library in memory likewise, with the rules and identities that Lanyard checks.

mod clients;
mod member;
mod world;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use lanyard_client::session::SessionError;
use lanyard_client::vault::outbox::Incoming;
use lanyard_crypto::Fingerprint;
use mls_rs::storage_provider::in_memory::InMemoryGroupStateStorage;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::Size;
use crate::report::at_most;
use clients::{Clinician, Records, Submitted, ordered, record_bytes};
use member::{Bare, Change, Checked, Made, Packaged, bare_client, checked_client};
use world::{Founded, World, credential_bytes};

/// Of the library's time, at most.
const GOAL: f64 = 1.2;
/// What is written.
const TEXT: &str = "Potassium is 5.9 in bed 9, repeat sent at 14:10; please hold the spironolactone until we have seen it again.";

/// Devices in a group, and how often each operation is taken there.
const SIZES: [(usize, usize); 3] = [(10, 15), (100, 7), (1000, 3)];
/// To see that it runs: founding a thousand takes longer than that should.
const SIZES_QUICK: [(usize, usize); 2] = [(10, 3), (100, 2)];

pub fn run(size: &Size, dir: &Path) -> Result<(), Box<dyn Error>> {
    let sizes = match (size.records, size.quick) {
        // As many devices as the caller says.
        (Some(devices), _) => vec![(devices.max(4), 3)],
        (None, true) => SIZES_QUICK.to_vec(),
        (None, false) => SIZES.to_vec(),
    };
    for (devices, turns) in sizes {
        let mut scene = Scene::new(devices, dir)?;
        // The first one fills caches, and what the client notes once of a group.
        scene.turn()?;
        scene.taken = Taken::default();
        for _ in 0..turns {
            scene.turn()?;
        }
        for (operation, figures) in scene.taken.by_operation() {
            size.show(&shown(devices, operation, figures));
        }
        size.show(&scene.sizes(devices)?);
    }
    Ok(())
}

/// One operation, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Add,
    Join,
    Remove,
    Update,
    Message,
}

const OPERATIONS: [Operation; 5] =
    [Operation::Add, Operation::Join, Operation::Remove, Operation::Update, Operation::Message];

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Add => "add one device",
            Operation::Join => "join by a welcome",
            Operation::Remove => "remove one device",
            Operation::Update => "renew one's own keys",
            Operation::Message => "a message of 104 characters",
        }
    }
}

/// Who takes the same step: the library, Lanyard without the vault, Lanyard.
const SIDES: [&str; 3] = ["the library", "without the vault", "Lanyard"];
const LIBRARY: usize = 0;
const CHECKED: usize = 1;
const LANYARD: usize = 2;

/// Seconds of each turn.
#[derive(Default)]
struct Figures {
    /// Of who commits or sends, by side.
    made: [Vec<f64>; 3],
    /// Of who takes it, by side.
    taken: [Vec<f64>; 3],
    hub: Vec<f64>,
    /// Why Lanyard does not do it.
    refused: Option<String>,
}

#[derive(Default)]
struct Taken([Figures; OPERATIONS.len()]);

impl Taken {
    fn of(&mut self, operation: Operation) -> &mut Figures {
        &mut self.0[operation as usize]
    }

    fn by_operation(&self) -> impl Iterator<Item = (Operation, &Figures)> {
        OPERATIONS.into_iter().zip(&self.0)
    }
}

/// What travels, in bytes, by side: the library's first.
#[derive(Default)]
struct Wire(Map<String, Value>);

impl Wire {
    fn note(&mut self, what: &str, library: usize, lanyard: Option<usize>) {
        self.0.insert(format!("{what}, bytes"), json!({ "the library": library, "Lanyard": lanyard }));
    }
}

/// A group, those of its members who do something, and its hub.
struct Scene {
    world: World,
    records: Records,
    founded: Founded,
    founder: Clinician,
    member: Clinician,
    /// Who is added and removed.
    guest: Clinician,
    packaged: Packaged,
    taken: Taken,
    wire: Wire,
    /// With the vaults; removed at the end.
    _dir: TempDir,
}

impl Scene {
    /// A group that has so many devices once the guest is added.
    fn new(devices: usize, dir: &Path) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir_in(dir)?;
        let mut world = World::new()?;
        let founded = world.found(devices - 1)?;
        let clinician = |name: &str, (device, state): &(_, _)| {
            let path = dir.path().join(name);
            Clinician::new(&path, &world.network, device, &founded.conversation, Some(state))
        };
        let founder = clinician("founder.db", &founded.founder)?;
        let member = clinician("member.db", &founded.member)?;
        let packaged = world.packaged()?;
        let path = dir.path().join("guest.db");
        let mut guest = Clinician::new(&path, &world.network, &packaged.device, &founded.conversation, None)?;
        guest.keep(&packaged)?;
        let (records, taken, wire) = (Records::default(), Taken::default(), Wire::default());
        Ok(Self { world, records, founded, founder, member, guest, packaged, taken, wire, _dir: dir })
    }

    /// Adds the guest, renews keys, writes, and removes the guest.
    fn turn(&mut self) -> Result<(), Box<dyn Error>> {
        let change = Change { add: vec![self.packaged.package.clone()], remove: Vec::new() };
        let package = self.packaged.package.clone();
        let is_in = self.change(Operation::Add, &change, |founder| founder.add(&package))?;
        self.change(Operation::Update, &Change::default(), Clinician::update)?;
        self.message()?;
        // Who could not be added cannot be removed: somebody else, then.
        let members = self.founder.session.members(&self.founded.conversation)?;
        let guest = Fingerprint::of(&self.packaged.device.chain[0]);
        let leaver = match is_in {
            true => members.iter().find(|m| m.device.fingerprint == guest),
            false => members.get(1),
        };
        let leaver = leaver.ok_or("nobody to remove")?;
        let change = Change { add: Vec::new(), remove: vec![leaver.index] };
        let device = leaver.device.fingerprint;
        self.change(Operation::Remove, &change, |founder| founder.remove(device))?;
        Ok(())
    }

    /// One commit, by who makes it, by the hub, by another member, and by who is added. Tells whether Lanyard does it.
    fn change(
        &mut self,
        operation: Operation,
        change: &Change,
        ours: impl FnOnce(&mut Clinician) -> Result<Submitted, Box<dyn Error>>,
    ) -> Result<bool, Box<dyn Error>> {
        let id = self.founded.conversation.to_bytes();
        let state = self.founder.state()?;
        let mut bare = Bare::believing(&id, &state)?;
        let library: Made = self.timed(operation, LIBRARY, || bare.commit(change))?;
        let mut checked = Checked::checking(&self.world.network, &id, &state)?;
        let with_checks: Made = self.timed(operation, CHECKED, || checked.commit(change))?;
        let begun = Instant::now();
        let submitted = match ours(&mut self.founder) {
            Ok(submitted) => Some(submitted),
            Err(error) if matches!(error.downcast_ref(), Some(SessionError::TooLarge { .. })) => {
                self.taken.of(operation).refused = Some(error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        let mut seconds = begun.elapsed().as_secs_f64();
        let mut published = None;
        if let Some(submitted) = &submitted {
            let (hub, next) = ordered(&self.world.network, &self.founded.hub, &submitted.submission.commit)?;
            self.founded.hub = next;
            self.taken.of(operation).hub.push(hub);
            let (commit, welcome) = self.records.published(&self.founded.conversation, submitted);
            let begun = Instant::now();
            self.founder.published(submitted, &commit)?;
            seconds += begun.elapsed().as_secs_f64();
            self.taken.of(operation).made[LANYARD].push(seconds);
            published = Some((commit, welcome));
        }
        self.note(operation, &library, submitted.as_ref(), published.as_ref())?;
        let commit = published.as_ref().map(|(commit, _)| commit);
        self.take(operation, [&library.commit, &with_checks.commit], commit)?;
        match operation {
            Operation::Add => self.join(&library, &with_checks, published.and_then(|(_, w)| w))?,
            // Who was added hears of what follows.
            _ => {
                if let Some(commit) = commit.filter(|_| self.is_guest_in()) {
                    self.guest.receive(commit)?;
                }
            }
        }
        Ok(submitted.is_some())
    }

    fn is_guest_in(&self) -> bool {
        self.guest.session.epoch(&self.founded.conversation).is_ok()
    }

    /// One message, by who sends it and by who reads it.
    fn message(&mut self) -> Result<(), Box<dyn Error>> {
        let operation = Operation::Message;
        let id = self.founded.conversation.to_bytes();
        let state = self.founder.state()?;
        // It takes so little that who comes first would pay for what the others then find in the processor's caches.
        Bare::believing(&id, &state)?.send(TEXT.as_bytes())?;
        let mut bare = Bare::believing(&id, &state)?;
        let library = self.timed(operation, LIBRARY, || bare.send(TEXT.as_bytes()))?;
        let mut checked = Checked::checking(&self.world.network, &id, &state)?;
        let with_checks = self.timed(operation, CHECKED, || checked.send(TEXT.as_bytes()))?;
        let begun = Instant::now();
        let sent = self.founder.send(TEXT, &mut self.records)?;
        self.taken.of(operation).made[LANYARD].push(begun.elapsed().as_secs_f64());
        self.wire.note("a message", library.len(), Some(sent.envelope.content.len()));
        let record = record_bytes(&self.world, &sent.envelope)?;
        self.wire.0.insert("a message as a record, bytes".into(), record.into());
        self.take(operation, [&library, &with_checks], Some(&sent))
    }

    /// By another member. The library takes what Lanyard made, so that both take the same; what Lanyard does not make, its own.
    fn take(
        &mut self,
        operation: Operation,
        made: [&Vec<u8>; 2],
        published: Option<&Incoming>,
    ) -> Result<(), Box<dyn Error>> {
        let id = self.founded.conversation.to_bytes();
        let state = self.member.state()?;
        let content = published.map(|published| &published.envelope.content);
        // As before a message that is sent.
        Bare::believing(&id, &state)?.receive(content.unwrap_or(made[LIBRARY]))?;
        let mut bare = Bare::believing(&id, &state)?;
        let library = seconds(|| bare.receive(content.unwrap_or(made[LIBRARY])))?;
        let mut checked = Checked::checking(&self.world.network, &id, &state)?;
        let with_checks = seconds(|| checked.receive(content.unwrap_or(made[CHECKED])))?;
        let taken = &mut self.taken.of(operation).taken;
        taken[LIBRARY].push(library);
        taken[CHECKED].push(with_checks);
        if let Some(published) = published {
            taken[LANYARD].push(seconds(|| self.member.receive(published))?);
        }
        Ok(())
    }

    /// By who was added: each by the welcome of its own side.
    fn join(
        &mut self,
        library: &Made,
        with_checks: &Made,
        published: Option<Incoming>,
    ) -> Result<(), Box<dyn Error>> {
        let welcome = |made: &Made| made.welcome.clone().ok_or("who is added is welcomed");
        let (library, with_checks) = (welcome(library)?, welcome(with_checks)?);
        let (device, secrets) = (&self.packaged.device, &self.packaged.secrets);
        let storage = InMemoryGroupStateStorage::new();
        let client = bare_client(secrets.clone(), storage.clone(), Some(device));
        let library = seconds(|| Bare::join(&client, storage, &library).map(drop))?;
        let storage = InMemoryGroupStateStorage::new();
        let client = checked_client(&self.world.network, secrets.clone(), storage.clone(), Some(device));
        let with_checks = seconds(|| Checked::join(&client, storage, &with_checks).map(drop))?;
        let figures = &mut self.taken.of(Operation::Join);
        figures.taken[LIBRARY].push(library);
        figures.taken[CHECKED].push(with_checks);
        let Some(welcome) = published else {
            figures.refused = Some("nobody can be added".into());
            return Ok(());
        };
        figures.taken[LANYARD].push(seconds(|| self.guest.receive(&welcome))?);
        Ok(())
    }

    fn timed<T>(
        &mut self,
        operation: Operation,
        side: usize,
        work: impl FnOnce() -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let begun = Instant::now();
        let made = work()?;
        self.taken.of(operation).made[side].push(begun.elapsed().as_secs_f64());
        Ok(made)
    }

    /// Notes what travels.
    fn note(
        &mut self,
        operation: Operation,
        library: &Made,
        submitted: Option<&Submitted>,
        published: Option<&(Incoming, Option<Incoming>)>,
    ) -> Result<(), Box<dyn Error>> {
        let what = operation.name();
        let commit = submitted.map(|s| s.submission.commit.len());
        self.wire.note(&format!("{what}: commit"), library.commit.len(), commit);
        if let Some(welcome) = &library.welcome {
            let ours = submitted.and_then(|s| s.submission.welcome.as_ref().map(|w| w.len()));
            self.wire.note(&format!("{what}: welcome"), welcome.len(), ours);
        }
        if let (Some(submitted), Some((commit, welcome))) = (submitted, published) {
            let mut bytes = record_bytes(&self.world, &commit.envelope)?;
            if let Some(welcome) = welcome {
                bytes += record_bytes(&self.world, &welcome.envelope)?;
            }
            self.wire.0.insert(format!("{what}: handed to the hub, bytes"), submitted.bytes.into());
            self.wire.0.insert(format!("{what}: published as records, bytes"), bytes.into());
        }
        Ok(())
    }

    /// What travels, with what a member is in the tree.
    fn sizes(&self, devices: usize) -> Result<Value, Box<dyn Error>> {
        let mut sizes = self.wire.0.clone();
        sizes.insert("devices".into(), devices.into());
        sizes.insert("operation".into(), "on the wire".into());
        let certificates = credential_bytes(&self.packaged.device)?;
        sizes.insert("certificates of one member, in each tree, bytes".into(), certificates.into());
        sizes.insert(
            "state of the group in a member's vault, bytes".into(),
            self.member.state()?.len().into(),
        );
        Ok(sizes.into())
    }
}

/// One operation's figures, medians of all turns.
fn shown(devices: usize, operation: Operation, figures: &Figures) -> Value {
    let mut shown = Map::new();
    shown.insert("devices".into(), devices.into());
    shown.insert("operation".into(), operation.name().into());
    let (made, taken) = match operation {
        Operation::Message => ("who sends", "who reads"),
        _ => ("who commits", "another member"),
    };
    let parts = [(made, &figures.made), (taken, &figures.taken)];
    for (who, by_side) in parts.into_iter().filter(|(_, by_side)| !by_side[LIBRARY].is_empty()) {
        let who = if operation == Operation::Join { "who joins" } else { who };
        let times: Vec<_> = by_side.iter().map(|times| median(times)).collect();
        let ms = SIDES.iter().zip(&times).map(|(side, time)| (side.to_string(), json!(time.map(ms))));
        shown.insert(format!("{who}, ms"), Value::Object(ms.collect()));
        let library = times[LIBRARY].unwrap_or_default();
        for (side, words) in
            [(LANYARD, "against the library's"), (CHECKED, "without the vault, against the library's")]
        {
            let goal = match times[side] {
                Some(time) => at_most(rounded(time / library), GOAL),
                None => json!({ "figure": null, "goal": format!("at most {GOAL}"), "met": false }),
            };
            shown.insert(format!("{who}: time {words}"), goal);
        }
    }
    if let Some(why) = &figures.refused {
        shown.insert("Lanyard refuses".into(), why.as_str().into());
    }
    if let Some(hub) = median(&figures.hub) {
        shown.insert("the hub's check, ms".into(), json!(ms(hub)));
        let sum = |side: usize| Some(median(&figures.made[side])? + median(&figures.taken[side])?);
        if let (Some(library), Some(lanyard)) = (sum(LIBRARY), sum(LANYARD)) {
            let sums = json!({ "the library, without a hub": ms(library), "Lanyard, with its hub": ms(lanyard + hub) });
            shown.insert("in sum, ms".into(), sums);
            let ratio = rounded((lanyard + hub) / library);
            shown.insert("in sum: time against the library's".into(), at_most(ratio, GOAL));
        }
    }
    shown.into()
}

fn seconds(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    work().map(|()| begun.elapsed().as_secs_f64())
}

fn median(seconds: &[f64]) -> Option<f64> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn ms(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e3
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}
