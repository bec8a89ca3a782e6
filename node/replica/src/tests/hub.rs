//! The owner trust's node orders the commits of real MLS groups. Ada (RXA) administers, Ben (RXB) and Cem (RXC) are members.

mod behind;
mod leavers;
mod reviews;

use std::sync::Arc;

use lanyard_crypto::charter::{ByClass, TrustRetention};
use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::{self, PersonKey, Policy, Rules, Suite, X509Identities, mls_time, suite};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, Class, Decoded, Reason, Submission, Target};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, TrustId, cbor};
use lanyard_storage::{Batch, MemoryStore, Store, Tree, View};
use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::MlsExtension;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::group::ReceivedMessage;
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle};
use mls_rs::{Client, ExtensionList, Group, MlsMessage, MlsRules};

use super::fixtures::{self, DAY, NOW, RETENTION};
use super::world::{World, place};
use crate::{Deleter, Input, Reply, Request, keys, query, restored};

const ALL: [usize; 3] = [0, 1, 2];

/// Rules that a malicious member would like.
#[derive(Clone, Debug)]
struct Lawless;

impl MlsRules for Lawless {
    type Error = mls::rules::RuleError;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &mls_rs::group::Roster<'_>,
        _: &mls_rs::group::GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Self::Error> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &mls_rs::group::Roster<'_>,
        _: &mls_rs::group::GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, Self::Error> {
        Ok(CommitOptions::new().with_path_required(true).with_ratchet_tree_extension(true))
    }

    fn encryption_options(
        &self,
        _: &mls_rs::group::Roster<'_>,
        _: &mls_rs::group::GroupContext,
    ) -> Result<EncryptionOptions, Self::Error> {
        Ok(EncryptionOptions::default())
    }
}

struct Member<C: MlsConfig> {
    at: usize,
    device: Fingerprint,
    person: PersonKey,
    client: Client<C>,
    group: Option<Group<C>>,
}

/// A clinician with a device at a trust, listed in the directory with a key package.
fn member<R: MlsRules + Clone>(world: &mut World, at: usize, rules: R) -> Member<impl MlsConfig + use<R>> {
    member_as(world, at, 100 + at as u8, rules)
}

fn member_as<R: MlsRules + Clone>(
    world: &mut World,
    at: usize,
    seed: u8,
    rules: R,
) -> Member<impl MlsConfig + use<R>> {
    member_for(world, at, seed, 90, rules)
}

/// With a certificate that ends after so many days.
fn member_for<R: MlsRules + Clone>(
    world: &mut World,
    at: usize,
    seed: u8,
    days: u64,
    rules: R,
) -> Member<impl MlsConfig + use<R>> {
    let network = world.nodes[0].replica.network();
    let (key, certificate) = world.trusts[at].device_for(seed, days);
    let chain = world.trusts[at].chain(&certificate);
    let client = Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(X509Identities::<Network>::of_member(network))
        .mls_rules(rules)
        .extension_type(POLICY_EXTENSION)
        .signing_identity(
            SigningIdentity::new(credential(&chain), key.public().to_vec().into()),
            key.to_seed().to_vec().into(),
            suite::LANYARD,
        )
        .build();
    let person = PersonKey::of(&world.trusts[at].id, None, &key.public());
    let member = Member { at, device: certificate.fingerprint(), person, client, group: None };
    let package = member.key_package().to_bytes().unwrap();
    let entry = world.trusts[at].entry_with(world.network, &certificate, Some(package), world.now);
    world.submit(at, &entry).unwrap();
    world.settle();
    member
}

impl<C: MlsConfig> Member<C> {
    fn key_package(&self) -> MlsMessage {
        let last_resort = LastResortKeyPackageExt.into_extension().unwrap();
        let at = Some(mls_time(NOW));
        self.client.generate_key_package_message(vec![last_resort].into(), ExtensionList::new(), at).unwrap()
    }

    fn group(&mut self) -> &mut Group<C> {
        self.group.as_mut().unwrap()
    }

    /// A commit that stays pending, and the welcome for whom it adds.
    fn commit(&mut self, add: &[MlsMessage], remove: &[u32]) -> Submission {
        let mut builder = self.group().commit_builder().commit_time(mls_time(NOW));
        for package in add {
            builder = builder.add_member(package.clone()).unwrap();
        }
        for index in remove {
            builder = builder.remove_member(*index).unwrap();
        }
        let output = builder.build().unwrap();
        let commit = output.commit_message().to_bytes().unwrap();
        let welcome = output.welcome_messages().first().map(|w| w.to_bytes().unwrap().into());
        Submission { commit, welcome, group_info: None }
    }

    fn hand_in(
        &self,
        world: &mut World,
        c: &ConversationId,
        epoch: u64,
        s: &Submission,
    ) -> Result<RecordId, String> {
        self.hand_in_at(world, self.at, c, epoch, s)
    }

    fn hand_in_at(
        &self,
        world: &mut World,
        at: usize,
        conversation: &ConversationId,
        epoch: u64,
        submission: &Submission,
    ) -> Result<RecordId, String> {
        let content = cbor::to_vec(submission);
        self.send(world, at, conversation, epoch, Class::Submission, content)
    }

    fn send(
        &self,
        world: &mut World,
        at: usize,
        conversation: &ConversationId,
        epoch: u64,
        class: Class,
        content: Vec<u8>,
    ) -> Result<RecordId, String> {
        let custodians: Vec<TrustId> = world.trusts.iter().map(|t| t.id.clone()).collect();
        let (conversation, expires) = (conversation.clone(), world.now.plus_secs(DAY));
        let request = SendRequest { conversation, epoch, class, content, custodians, expires };
        match world.ask(at, Request::Send { device: self.device, request })? {
            Reply::Sent { id, .. } => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, world: &mut World, conversation: &ConversationId, text: &str) -> RecordId {
        let epoch = self.group().current_epoch();
        let message = self.group().encrypt_application_message(text.as_bytes(), Vec::new()).unwrap();
        let content = message.to_bytes().unwrap();
        self.send(world, self.at, conversation, epoch, Class::Application, content).unwrap()
    }

    /// Takes what is in the inbox after a position, as the client does; returns the texts that it reads, and the new position.
    fn read(&mut self, world: &World, after: u64) -> (Vec<String>, u64) {
        let (mut texts, mut last) = (Vec::new(), after);
        for (seq, id) in world.inbox(self.at, &self.device, after) {
            last = seq;
            let bytes = query::record_bytes(&world.nodes[self.at].store, &id.unwrap()).unwrap().unwrap();
            let record = Decoded::from_bytes(&bytes).unwrap();
            let Body::Envelope(envelope) = record.body() else {
                continue;
            };
            let message = MlsMessage::from_bytes(&envelope.content).unwrap();
            match envelope.class {
                Class::Welcome => {
                    let joined = self.client.join_group(None, &message, Some(mls_time(NOW))).unwrap();
                    self.group = Some(joined.0);
                }
                _ if self.group().has_pending_commit() => drop(self.group().apply_pending_commit().unwrap()),
                _ => {
                    let received = self.group().process_incoming_message_with_time(message, mls_time(NOW));
                    if let Ok(ReceivedMessage::ApplicationMessage(text)) = received {
                        texts.push(String::from_utf8(text.data().to_vec()).unwrap());
                    }
                }
            }
        }
        (texts, last)
    }
}

/// Ada founds a conversation, and hands in the commit that adds the others.
fn found<A: MlsConfig>(
    world: &World,
    ada: &mut Member<A>,
    others: &[MlsMessage],
) -> (ConversationId, Submission) {
    let policy = Policy::new(mls::Class::Clinical, [ada.person]).unwrap();
    found_with(world, ada, others, &policy)
}

fn found_with<A: MlsConfig>(
    world: &World,
    ada: &mut Member<A>,
    others: &[MlsMessage],
    policy: &Policy,
) -> (ConversationId, Submission) {
    found_listing(world, ada, others, vec![policy.to_extension()])
}

/// With these extensions of the group context.
fn found_listing<A: MlsConfig>(
    world: &World,
    ada: &mut Member<A>,
    others: &[MlsMessage],
    extensions: Vec<mls_rs::Extension>,
) -> (ConversationId, Submission) {
    let conversation = fixtures::conversation(&world.trusts[0]);
    let extensions = extensions.into();
    let (id, at) = (conversation.to_bytes(), Some(mls_time(NOW)));
    let group = ada.client.create_group_with_id(id, extensions, ExtensionList::new(), at).unwrap();
    let info = group.group_info_message(true).unwrap().to_bytes().unwrap();
    ada.group = Some(group);
    let submission = Submission { group_info: Some(info.into()), ..ada.commit(others, &[]) };
    (conversation, submission)
}

/// A change of the policy, which stays pending.
fn change_policy<A: MlsConfig>(ada: &mut Member<A>, policy: &Policy) -> Submission {
    ada.group().clear_pending_commit();
    let builder = ada.group().commit_builder().commit_time(mls_time(NOW));
    let builder = builder.set_group_context_ext(vec![policy.to_extension()].into()).unwrap();
    let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
    Submission { commit, welcome: None, group_info: None }
}

fn rules(world: &World) -> Rules<Network> {
    let network: Arc<Network> = world.nodes[0].replica.network();
    Rules::new(network)
}

#[test]
fn a_conversation_begins_and_reaches_all_its_members() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law.clone());
    let mut cem = member(&mut world, 2, law);
    // From the directory, as the client does.
    let packages: Vec<_> = [ben.device, cem.device].iter().map(|d| package(&world, d)).collect();
    let (conversation, submission) = found(&world, &mut ada, &packages);
    let commit = ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    assert_eq!(world.holders(&commit), ALL);
    assert_eq!(world.inbox(0, &ada.device, 0), [(place(1), Some(commit))]);
    for (at, device) in [(1, ben.device), (2, cem.device)] {
        assert_eq!(world.inbox(at, &device, 0).len(), 1, "the welcome alone");
    }
    let positions = [ada.read(&world, 0).1, ben.read(&world, 0).1, cem.read(&world, 0).1];

    let ids =
        [ben.write(&mut world, &conversation, "hello"), cem.write(&mut world, &conversation, "good day")];
    world.settle();
    assert_eq!(ada.read(&world, positions[0]).0, ["hello", "good day"]);
    assert!(ben.read(&world, positions[1]).0.contains(&"good day".into()));
    assert!(ids.iter().all(|id| world.holders(id) == ALL));

    // An answer was lost: the same commit again is the same commit.
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &submission), Ok(commit));
    assert_eq!(world.rows(0, Tree::Epochs), 1);
}

#[test]
fn each_epoch_has_one_commit() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law);
    let (conversation, submission) = found(&world, &mut ada, &[package(&world, &ben.device)]);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    let (seen, _) = (ada.read(&world, 0).1, ben.read(&world, 0));

    // Both change something; Ada's comes first. Ben's travels to the hub and is refused there.
    let (first, second) = (ada.commit(&[], &[]), ben.commit(&[], &[]));
    let accepted = ada.hand_in(&mut world, &conversation, 1, &first).unwrap();
    let late = ben.hand_in(&mut world, &conversation, 1, &second).unwrap();
    world.settle();
    assert_eq!(world.holders(&accepted), [0, 1]);
    assert_eq!(world.holders(&late), [], "an answered submission is kept nowhere");
    let ticks = query::ticks(&world.nodes[1].store, &late).unwrap().unwrap();
    assert_eq!(ticks.custodians[0].refused.as_deref(), Some("duplicate-commit"));
    assert!(world.audit(0).iter().any(|e| e.code == "duplicate-commit" && e.record == Some(late)));

    // Ben takes the winner's, makes his change again, and it is accepted.
    ben.group().clear_pending_commit();
    let seen_by_ben = ben.read(&world, place(1)).1;
    ada.read(&world, seen);
    let again = ben.commit(&[], &[]);
    let again = ben.hand_in(&mut world, &conversation, 2, &again).unwrap();
    world.settle();
    let ticks = query::ticks(&world.nodes[1].store, &again).unwrap().unwrap();
    assert!(ticks.custodians[0].confirmed.is_some());
    assert_eq!(world.inbox(1, &ben.device, seen_by_ben).len(), 1, "his own commit, as published");
    assert_eq!(world.rows(1, Tree::Outbox), 0);
    world.pass(DAY);
    assert_eq!(query::ticks(&world.nodes[1].store, &again).unwrap(), None, "forgotten when it expires");
}

#[test]
fn what_the_rules_forbid_is_refused_by_the_hub() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law);
    let mut cem = member(&mut world, 2, Lawless);
    let packages: Vec<_> = [ben.device, cem.device].iter().map(|d| package(&world, d)).collect();
    let (conversation, submission) = found(&world, &mut ada, &packages);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    ada.read(&world, 0);
    ben.read(&world, 0);
    cem.read(&world, 0);

    let by_no_admin = cem.commit(&[], &[1]);
    cem.hand_in(&mut world, &conversation, 1, &by_no_admin).unwrap();
    world.settle();
    assert_eq!(world.audit(0).pop().unwrap().code, "change-refused");
    assert_eq!(world.rows(0, Tree::Epochs), 1);

    // Ben's own commit, handed in by another trust's node.
    let ours = ben.commit(&[], &[]);
    let header = world.header(&[0, 2], DAY);
    let envelope = lanyard_crypto::record::Envelope {
        conversation: conversation.clone(),
        epoch: 1,
        class: Class::Submission,
        content: cbor::to_vec(&ours),
    };
    let foreign = world.trusts[2].sign(header, Body::Envelope(envelope));
    assert_eq!(world.bring(0, 2, &foreign).as_deref(), Some("change-refused"));
    ben.hand_in(&mut world, &conversation, 1, &ours).unwrap();
    world.settle();
    assert_eq!(world.rows(0, Tree::Epochs), 2, "the refused one has changed nothing");
}

#[test]
fn who_was_removed_is_served_deletions_alone() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut eve = member_as(&mut world, 0, 120, law);
    let (conversation, submission) = found(&world, &mut ada, &[package(&world, &eve.device)]);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    let (seen, _) = (ada.read(&world, 0).1, eve.read(&world, 0));
    ada.write(&mut world, &conversation, "hello");
    let removal = ada.commit(&[], &[1]);
    let removal = ada.hand_in(&mut world, &conversation, 1, &removal).unwrap();
    let seen = ada.read(&world, seen).1;
    ada.write(&mut world, &conversation, "she is gone");
    ada.read(&world, seen);
    let inbox = world.inbox(0, &eve.device, 0);
    assert_eq!(inbox.last().and_then(|(_, id)| *id), Some(removal), "nothing after it");

    let (by, target) = (Deleter::Administrator(ada.device), Target::UpTo(world.now));
    let (reason, reference, of) = (Reason::Transcribed, Vec::new(), conversation.clone());
    let order = Request::Delete { by, conversation: of, target, reason, reference };
    let Ok(Reply::Deleted(order)) = world.ask(0, order) else { panic!("not deleted") };
    let seen = inbox.last().map_or(0, |(seq, _)| *seq);
    let inbox = world.inbox(0, &eve.device, seen);
    assert_eq!(inbox.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), [Some(order)]);
    let store = &world.nodes[0].store;
    assert_eq!(crate::destruction::devices(store, &order).unwrap(), 2, "it is waited for her device as well");
    assert!(query::is_member_of(store, &eve.device, &order).unwrap());

    // Added again, she is a member as any other.
    let addition = ada.commit(&[package(&world, &eve.device)], &[]);
    ada.hand_in(&mut world, &conversation, 2, &addition).unwrap();
    assert_eq!(world.rows(0, Tree::Members), 2);
}

#[test]
fn a_conversation_that_was_not_founded_has_no_commits() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut other = member(&mut world, 1, law);
    let (conversation, submission) = found(&world, &mut ada, &[]);
    let without = Submission { group_info: None, ..submission.clone() };
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &without), Err("not-member".into()));
    // Not Ada's to found at another trust.
    assert_eq!(ada.hand_in_at(&mut world, 1, &conversation, 0, &submission), Err("not-member".into()));
    let mut broken = submission.clone();
    broken.commit.pop();
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &broken), Err("change-refused".into()));
    assert_eq!(world.rows(0, Tree::Hub), 0);
    assert_eq!(world.rows(0, Tree::Members), 0);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();

    // Once founded, nobody founds it again to be served what is written in it.
    let (_, again) = found(&world, &mut other, &[]);
    assert_eq!(other.hand_in_at(&mut world, 0, &conversation, 0, &again), Err("not-member".into()));
    assert_eq!(world.rows(0, Tree::Members), 1);
}

#[test]
fn a_node_that_may_not_sign_refuses_and_does_not_fail() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law);
    let (conversation, submission) = found(&world, &mut ada, &[]);
    world.serve(0, &conversation, &ada.device);
    let list = world.trusts[0].crl(world.network, 1, &[&world.trusts[0].node], world.now);
    world.submit(0, &list).unwrap();
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &submission), Err("bad-chain".into()));
    assert_eq!((world.rows(0, Tree::Hub), world.rows(0, Tree::Epochs)), (0, 0));
}

fn package(world: &World, device: &Fingerprint) -> MlsMessage {
    let entry = query::entry(&world.nodes[0].store, device).unwrap().unwrap();
    let Body::Entry(entry) = entry.body() else { panic!("no entry") };
    MlsMessage::from_bytes(entry.key_package.as_ref().unwrap()).unwrap()
}

#[test]
fn the_hub_holds_a_conversation_to_what_charter_and_trust_keep_and_orders_the_rest() {
    let mut world = World::three();
    let by_class = ByClass { clinical: Some(2 * DAY), ..ByClass::default() };
    world.nodes[0].replica.set_retention(TrustRetention { secs_max: None, by_class });
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law);
    let plain = Policy::new(mls::Class::Clinical, [ada.person]).unwrap();
    let keeps = |secs| plain.clone().with_retention(secs).unwrap();
    let packages = [package(&world, &ben.device)];
    let (_, long) = found_with(&world, &mut ada, &packages, &keeps(2 * DAY + 1));
    let conversation = fixtures::conversation(&world.trusts[0]);
    assert_eq!(ada.hand_in(&mut world, &conversation, 0, &long), Err("change-refused".into()));

    let (_, submission) = found_with(&world, &mut ada, &packages, &keeps(2 * DAY));
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    let (seen, _) = (ada.read(&world, 0).1, ben.read(&world, 0));
    let message = ben.write(&mut world, &conversation, "hello");
    world.settle();
    let longer = change_policy(&mut ada, &keeps(3 * DAY));
    assert_eq!(ada.hand_in(&mut world, &conversation, 1, &longer), Err("change-refused".into()));
    let shorter = change_policy(&mut ada, &keeps(3600));
    ada.hand_in(&mut world, &conversation, 1, &shorter).unwrap();
    world.settle();
    assert_eq!(world.holders(&message), ALL, "it would have lived for a day");
    drop(ada.read(&world, seen));

    // The next ticks order its end, and the hour passes.
    world.pass(1);
    world.pass(3600);
    assert_eq!(world.holders(&message), []);

    // Who administers it deletes all of it; another member does not.
    let all = |world: &mut World, at: usize, device| {
        let (by, target) = (Deleter::Administrator(device), Target::UpTo(world.now));
        let (reason, reference, conversation) = (Reason::Transcribed, Vec::new(), conversation.clone());
        world.ask(at, Request::Delete { by, conversation, target, reason, reference })
    };
    assert_eq!(all(&mut world, 0, ben.device), Err("not-administrator".into()));
    assert_eq!(all(&mut world, 1, ben.device), Err("not-administrator".into()));
    assert!(matches!(all(&mut world, 0, ada.device), Ok(Reply::Deleted(_))));

    // To the members' trusts, also when nothing of it is left here.
    world.pass(RETENTION + DAY);
    assert_eq!(world.rows(0, Tree::Conversations), 0);
    let Ok(Reply::Deleted(order)) = all(&mut world, 0, ada.device) else { panic!("not deleted") };
    world.settle();
    assert_eq!(world.holders(&order), [0, 1]);
}

/// How many devices of the owner's trust are served a conversation.
fn served(world: &World, conversation: &ConversationId) -> usize {
    crate::spread::local_members(&world.nodes[0].store, conversation).unwrap().len()
}

fn copy_of(world: &World, at: usize) -> MemoryStore {
    let (copy, mut rows) = (MemoryStore::new(), Batch::new());
    world.nodes[at].store.rows().into_iter().for_each(|(tree, key, row)| rows.put(tree, key, row));
    copy.commit(rows).unwrap();
    copy
}

/// What the hub keeps of a conversation: its state, or what it says of retention.
fn state_of(world: &World, tree: Tree, conversation: &ConversationId) -> Vec<u8> {
    let key = match tree {
        Tree::Hub => keys::conversation(conversation),
        _ => keys::setting(conversation),
    };
    world.nodes[0].store.get(tree, &key).unwrap().unwrap()
}
