//! Groups of real members, with certificates that are only text: what is tested is who may do what.

mod reviews;

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::extension::MlsExtension;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::group::{CommitEffect, ReceivedMessage, Roster};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle};
use mls_rs::{Client, ExtensionList, Group, MlsMessage, MlsRules};

use super::identity::credential;
use super::policy::POLICY_EXTENSION;
use super::public_group::{NodeSigner, PublicGroupError};
use super::rules::RuleError;
use super::*;
use crate::x509::SecretKey;
use crate::{ConversationId, Fingerprint, TrustId};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const BYTES_MAX: usize = 1 << 20;

/// Believes chains of text, `kind|trust|name|registration|key`, of the trusts that it is told.
#[derive(Debug, Default)]
struct TextChains {
    trusts: BTreeSet<TrustId>,
    revoked: BTreeSet<Fingerprint>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

impl TextChains {
    fn check(&self, chain: &[&[u8]], kind: &str, at: Option<Timestamp>) -> Result<DeviceIdentity, Refused> {
        let device = self.read(chain)?;
        let known = self.trusts.contains(&device.trust) && chain[0].starts_with(kind.as_bytes());
        if !known {
            return Err(Refused("not in the charter"));
        }
        if at.is_some() && self.revoked.contains(&device.fingerprint) {
            return Err(Refused("revoked"));
        }
        Ok(device)
    }
}

impl ChainVerifier for TextChains {
    type Error = Refused;

    fn verify(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<DeviceIdentity, Refused> {
        self.check(chain, "device|", at)
    }

    fn verify_node(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<TrustId, Refused> {
        self.check(chain, "node|", at).map(|node| node.trust)
    }

    fn verify_as_of(&self, chain: &[&[u8]], at: Timestamp) -> Result<DeviceIdentity, Refused> {
        self.verify(chain, Some(at))
    }

    fn read(&self, chain: &[&[u8]]) -> Result<DeviceIdentity, Refused> {
        let leaf = chain.first().ok_or(Refused("empty"))?;
        let text = std::str::from_utf8(leaf).map_err(|_| Refused("not text"))?;
        let parts: Vec<_> = text.split('|').collect();
        let [_, trust, name, registration, key] = parts[..] else {
            return Err(Refused("not five parts"));
        };
        let trust: TrustId = trust.parse().map_err(|_| Refused("trust"))?;
        let key = crate::ids::from_hex(key).and_then(|k| k.try_into().ok()).ok_or(Refused("key"))?;
        let registration = (!registration.is_empty()).then_some(registration);
        let person = PersonKey::of(&trust, registration, &key);
        Ok(DeviceIdentity {
            trust,
            fingerprint: Fingerprint::of(leaf),
            person,
            name: name.into(),
            role: None,
            key,
        })
    }
}

type Chains = RwLock<TextChains>;

/// Rules that a malicious member would like.
#[derive(Clone, Debug)]
struct Lawless;

impl MlsRules for Lawless {
    type Error = RuleError;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster<'_>,
        _: &mls_rs::group::GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, RuleError> {
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &mls_rs::group::GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, RuleError> {
        Ok(CommitOptions::new().with_path_required(true))
    }

    fn encryption_options(
        &self,
        _: &Roster<'_>,
        _: &mls_rs::group::GroupContext,
    ) -> Result<EncryptionOptions, RuleError> {
        Ok(EncryptionOptions::default())
    }
}

type Config<R> =
    WithMlsRules<R, WithIdentityProvider<X509Identities<Chains>, WithCryptoProvider<Suite, BaseConfig>>>;

struct Member<R: MlsRules + Clone = Rules<Chains>> {
    device: DeviceIdentity,
    client: Client<Config<R>>,
    group: Option<Group<Config<R>>>,
}

fn leaf(kind: &str, trust: &str, name: &str, registration: &str, key: &SecretKey) -> Vec<Vec<u8>> {
    let key = crate::ids::to_hex(&key.public());
    vec![format!("{kind}|{trust}|{name}|{registration}|{key}").into_bytes(), b"registrar".to_vec()]
}

impl<R: MlsRules + Clone> Member<R> {
    fn new(chains: &Arc<Chains>, trust: &str, name: &str, rules: R) -> Self {
        Self::with_certified_key(chains, trust, name, rules, None)
    }

    fn with_certified_key(
        chains: &Arc<Chains>,
        trust: &str,
        name: &str,
        rules: R,
        certified: Option<SecretKey>,
    ) -> Self {
        let key = SecretKey::generate().unwrap();
        let chain = leaf("device", trust, name, name, certified.as_ref().unwrap_or(&key));
        let device = chains.read().unwrap().read(&[&chain[0]]).unwrap();
        let identity = SigningIdentity::new(credential(&chain), key.public().to_vec().into());
        let client = Client::builder()
            .crypto_provider(Suite::new())
            .identity_provider(X509Identities::of_member(chains.clone()))
            .mls_rules(rules)
            .extension_type(POLICY_EXTENSION)
            .signing_identity(identity, key.to_seed().to_vec().into(), suite::LANYARD)
            .build();
        Self { device, client, group: None }
    }

    fn key_package(&self) -> MlsMessage {
        let last_resort = LastResortKeyPackageExt.into_extension().unwrap();
        let at = Some(mls_time(NOW));
        self.client.generate_key_package_message(vec![last_resort].into(), ExtensionList::new(), at).unwrap()
    }

    fn group(&mut self) -> &mut Group<Config<R>> {
        self.group.as_mut().unwrap()
    }

    /// Commits, and leaves it pending.
    fn commit(&mut self, add: &[MlsMessage], remove: &[u32]) -> (Vec<u8>, Option<MlsMessage>) {
        let mut builder = self.group().commit_builder().commit_time(mls_time(NOW));
        for package in add {
            builder = builder.add_member(package.clone()).unwrap();
        }
        for index in remove {
            builder = builder.remove_member(*index).unwrap();
        }
        let output = builder.build().unwrap();
        (output.commit_message().to_bytes().unwrap(), output.welcome_messages().first().cloned())
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<ReceivedMessage, mls_rs::error::MlsError> {
        let message = MlsMessage::from_bytes(bytes)?;
        self.group().process_incoming_message_with_time(message, mls_time(NOW))
    }

    fn join(&mut self, welcome: &MlsMessage) {
        self.group = Some(self.client.join_group(None, welcome, Some(mls_time(NOW))).unwrap().0);
    }
}

/// Ada administers; Ben and Cem are members, of three trusts; and the owner trust's node observes.
struct Scene {
    chains: Arc<Chains>,
    conversation: ConversationId,
    ada: Member,
    ben: Member,
    cem: Member<Lawless>,
    node_key: SecretKey,
    node_chain: Vec<Vec<u8>>,
    other_node: (Vec<Vec<u8>>, SecretKey),
    hub: PublicGroup<Chains>,
}

impl Scene {
    fn new() -> Self {
        let trusts = ["RYJ", "RJ1", "RAL"].map(|t| t.parse().unwrap());
        let chains = Arc::new(RwLock::new(TextChains { trusts: trusts.into(), revoked: BTreeSet::new() }));
        let conversation = ConversationId::new([7; 16], "RYJ".parse().unwrap());
        let rules = || Rules::new(chains.clone());
        let mut ada = Member::new(&chains, "RYJ", "Ada", rules());
        let mut ben = Member::new(&chains, "RJ1", "Ben", rules());
        let mut cem = Member::new(&chains, "RAL", "Cem", Lawless);
        let node = |trust| {
            let key = SecretKey::generate().unwrap();
            (leaf("node", trust, "node", "", &key), key)
        };
        let ((node_chain, node_key), other_node) = (node("RYJ"), node("RJ1"));
        let senders = [(&node_chain, &node_key), (&other_node.0, &other_node.1)];
        let senders =
            senders.map(|(chain, key)| SigningIdentity::new(credential(chain), key.public().to_vec().into()));
        let policy = Policy::new(Class::Clinical, [ada.device.person]).unwrap();
        let extensions =
            vec![policy.to_extension(), ExternalSendersExt::new(senders.to_vec()).into_extension().unwrap()];
        let at = Some(mls_time(NOW));
        let id = conversation.to_bytes();
        let group = ada.client.create_group_with_id(id, extensions.into(), ExtensionList::new(), at).unwrap();
        let info = group.group_info_message(true).unwrap().to_bytes().unwrap();
        ada.group = Some(group);
        let mut hub = PublicGroup::observe(chains.clone(), &conversation, &info, NOW).unwrap();

        let (commit, welcome) = ada.commit(&[ben.key_package(), cem.key_package()], &[]);
        let accepted = hub.accept_commit(&commit, NOW).unwrap();
        assert_eq!((accepted.epoch, accepted.added.len(), accepted.removed.len()), (1, 2, 0));
        assert_eq!(accepted.committer, ada.device);
        ada.group().apply_pending_commit().unwrap();
        ben.join(welcome.as_ref().unwrap());
        cem.join(welcome.as_ref().unwrap());
        Self { chains, conversation, ada, ben, cem, node_key, node_chain, other_node, hub }
    }

    fn reload(&mut self, chain: &[Vec<u8>], key: &SecretKey) -> PublicGroup<Chains> {
        let signer = NodeSigner { chain, key };
        PublicGroup::load(self.chains.clone(), &self.hub.snapshot().unwrap(), Some(signer)).unwrap()
    }
}

#[test]
fn the_node_follows_commits_and_survives_a_restart() {
    let mut s = Scene::new();
    assert_eq!(s.hub.trusts().unwrap().len(), 3);
    assert_eq!(s.hub.policy().class(), Class::Clinical);

    s.hub = PublicGroup::load(s.chains.clone(), &s.hub.snapshot().unwrap(), None).unwrap();
    let (commit, _) = s.ada.commit(&[], &[2]);
    let accepted = s.hub.accept_commit(&commit, NOW).unwrap();
    assert_eq!((accepted.epoch, &accepted.removed[..]), (2, &[s.cem.device.clone()][..]));
    s.ada.group().apply_pending_commit().unwrap();
    s.ben.receive(&commit).unwrap();
    let ReceivedMessage::Commit(description) = s.cem.receive(&commit).unwrap() else { panic!() };
    assert!(matches!(description.effect, CommitEffect::Removed { .. }));
    assert_eq!(s.hub.trusts().unwrap().len(), 2);

    // Cem comes back with a fresh key package, and reads what is written next.
    let (commit, welcome) = s.ada.commit(&[s.cem.key_package()], &[]);
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.group().apply_pending_commit().unwrap();
    s.ben.receive(&commit).unwrap();
    s.cem.join(&welcome.unwrap());
    let text = s.ben.group().encrypt_application_message(b"hello", Vec::new()).unwrap().to_bytes().unwrap();
    let ReceivedMessage::ApplicationMessage(read) = s.cem.receive(&text).unwrap() else { panic!() };
    assert_eq!(read.data(), b"hello");
}

#[test]
fn one_commit_per_epoch() {
    let mut s = Scene::new();
    let (first, _) = s.ada.commit(&[], &[]);
    let (second, _) = s.ben.commit(&[], &[]);
    s.hub.accept_commit(&first, NOW).unwrap();
    for late in [&first, &second] {
        let refused = s.hub.accept_commit(late, NOW);
        assert!(matches!(refused, Err(PublicGroupError::Epoch { actual: 1, current: 2 })));
    }
    // Who lost takes the winner's commit in place of its own.
    s.ben.receive(&first).unwrap();
    assert!(!s.ben.group().has_pending_commit());
    s.ada.receive(&first).unwrap();
    assert_eq!((s.ada.group().current_epoch(), s.ben.group().current_epoch()), (2, 2));
}

#[test]
fn only_administrators_change_who_is_in() {
    let mut s = Scene::new();
    let dora = Member::new(&s.chains, "RAL", "Dora", Rules::new(s.chains.clone()));
    for (add, remove) in [(vec![dora.key_package()], vec![]), (vec![], vec![1])] {
        let (commit, _) = s.cem.commit(&add, &remove);
        assert!(matches!(s.hub.accept_commit(&commit, NOW), Err(PublicGroupError::Mls(_))));
        assert!(s.ada.receive(&commit).is_err());
        assert!(s.ben.receive(&commit).is_err());
        s.cem.group().clear_pending_commit();
    }
    // By the rules, a member that does not administer does not even make such a commit.
    let builder = s.ben.group().commit_builder().add_member(dora.key_package()).unwrap();
    assert!(builder.build().is_err());

    // Nor can it make itself an administrator.
    let policy = Policy::new(Class::Clinical, [s.cem.device.person]).unwrap().to_extension();
    let builder = s.cem.group().commit_builder().set_group_context_ext(vec![policy].into()).unwrap();
    let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
    assert!(s.hub.accept_commit(&commit, NOW).is_err());
    assert!(s.ada.receive(&commit).is_err());
    assert_eq!(s.hub.epoch(), 1);
}

#[test]
fn administrators_keep_the_class_and_one_of_them() {
    let mut s = Scene::new();
    let (ada, ben) = (s.ada.device.person, s.ben.device.person);
    let mut refused = |policy: Policy| {
        let builder = s.ada.group().commit_builder();
        builder.set_group_context_ext(vec![policy.to_extension()].into()).unwrap().build().is_err()
    };
    assert!(refused(Policy::new(Class::Social, [ada]).unwrap()));
    let stranger = PersonKey::of(&"RYJ".parse().unwrap(), Some("GMC 9"), &[0; 32]);
    assert!(refused(Policy::new(Class::Clinical, [stranger]).unwrap()));

    let both = Policy::new(Class::Clinical, [ada, ben]).unwrap();
    let builder =
        s.ada.group().commit_builder().set_group_context_ext(vec![both.to_extension()].into()).unwrap();
    let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    assert!(s.hub.policy().is_admin(&ben));
    s.ben.receive(&commit).unwrap();
    // Ben may administer, and is not of the owner trust: Ada stays, unless somebody else from there takes her place.
    assert!(s.ben.group().commit_builder().remove_member(0).unwrap().build().is_err());
    let only_ben = Policy::new(Class::Clinical, [ben]).unwrap().to_extension();
    assert!(
        s.ben.group().commit_builder().set_group_context_ext(vec![only_ben].into()).unwrap().build().is_err()
    );
    let (commit, _) = s.cem.commit(&[], &[0]);
    assert!(s.hub.accept_commit(&commit, NOW).is_err());
}

#[test]
fn the_owner_trusts_administrators_alone_change_how_long_messages_live() {
    let mut s = Scene::new();
    let (ada, ben, cem) = (s.ada.device.person, s.ben.device.person, s.cem.device.person);
    let policy = |secs| Policy::new(Class::Clinical, [ada, ben, cem]).unwrap().with_retention(secs).unwrap();
    let extensions = |policy: &Policy| ExtensionList::from(vec![policy.to_extension()]);

    let builder = s.ada.group().commit_builder().set_group_context_ext(extensions(&policy(3600))).unwrap();
    let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    s.ada.group().apply_pending_commit().unwrap();
    s.ben.receive(&commit).unwrap();
    s.cem.receive(&commit).unwrap();
    assert_eq!(s.hub.policy().retention_secs(), Some(3600));

    // Ben administers too, but is not of the owner trust: for more or less, or for no setting at all.
    let none = Policy::new(Class::Clinical, [ada, ben, cem]).unwrap();
    for after in [policy(7200), policy(60), none] {
        let builder = s.ben.group().commit_builder().set_group_context_ext(extensions(&after)).unwrap();
        assert!(builder.build().is_err(), "his own client does not make it");
        // Cem's client keeps no rules.
        let builder = s.cem.group().commit_builder().set_group_context_ext(extensions(&after)).unwrap();
        let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
        s.cem.group().clear_pending_commit();
        assert!(s.hub.accept_commit(&commit, NOW).is_err());
        assert!(s.ada.receive(&commit).is_err() && s.ben.receive(&commit).is_err());
    }
    // What else an administrator may change, he may.
    let fewer = Policy::new(Class::Clinical, [ada, ben]).unwrap().with_retention(3600).unwrap();
    let builder = s.ben.group().commit_builder().set_group_context_ext(extensions(&fewer)).unwrap();
    let commit = builder.build().unwrap().commit_message().to_bytes().unwrap();
    s.hub.accept_commit(&commit, NOW).unwrap();
    assert_eq!(s.hub.policy(), &fewer);
}

#[test]
fn messages_that_the_node_could_not_read_or_place_are_refused() {
    let mut s = Scene::new();
    let text = s.ada.group().encrypt_application_message(b"hello", Vec::new()).unwrap().to_bytes().unwrap();
    assert!(matches!(s.hub.accept_commit(&text, NOW), Err(PublicGroupError::Kind("a PublicMessage"))));
    let proposal = s.cem.group().propose_remove(1, Vec::new()).unwrap().to_bytes().unwrap();
    assert!(matches!(s.hub.accept_commit(&proposal, NOW), Err(PublicGroupError::Kind("a commit"))));
    let refused = s.hub.accept_proposal(&proposal, NOW);
    assert!(matches!(refused, Err(PublicGroupError::Rule(RuleError::NotAllowed(_)))));
    assert!(matches!(s.hub.accept_commit(b"junk", NOW), Err(PublicGroupError::Message(_))));

    let (commit, _) = s.ada.commit(&[], &[]);
    for (i, step) in (0..commit.len()).step_by(97).enumerate() {
        let mut altered = commit.clone();
        altered[step] ^= 1 << (i % 8);
        // The tags at the end are made with secrets that the node does not have.
        if step < commit.len() - 110 {
            assert!(s.hub.accept_commit(&altered, NOW).is_err(), "byte {step} of {}", commit.len());
        }
    }
    s.hub.accept_commit(&commit, NOW).unwrap();

    let other = ConversationId::new([8; 16], "RYJ".parse().unwrap());
    let info = s.ben.group().group_info_message(true).unwrap().to_bytes().unwrap();
    let refused = PublicGroup::observe(s.chains.clone(), &other, &info, NOW);
    assert!(matches!(refused, Err(PublicGroupError::OtherGroup(_))));
    let refused = PublicGroup::observe(s.chains.clone(), &s.conversation, &info, NOW);
    assert!(matches!(refused, Err(PublicGroupError::Rule(RuleError::NotAdmin(_)))));
}

#[test]
fn a_trust_may_have_its_own_people_removed_and_the_owner_trust_anyone() {
    let mut s = Scene::new();
    let (other_chain, other_key) = s.other_node.clone();
    let mut other = s.reload(&other_chain, &other_key);
    let not_its = other.propose_remove(2).unwrap();
    assert!(matches!(
        s.hub.accept_proposal(&not_its, NOW),
        Err(PublicGroupError::Rule(RuleError::NotItsMember))
    ));
    let mut other = s.reload(&other_chain, &other_key);
    let own = other.propose_remove(1).unwrap();
    assert_eq!(s.hub.accept_proposal(&own, NOW).unwrap(), 1);

    let (chain, key) = (s.node_chain.clone(), s.node_key.clone());
    let mut hub = s.reload(&chain, &key);
    let by_owner = hub.propose_remove(2).unwrap();
    s.hub = hub;
    for proposal in [&own, &by_owner] {
        s.ada.receive(proposal).unwrap();
    }
    assert!(s.ada.group().encrypt_application_message(b"not yet", Vec::new()).is_err());
    let (commit, _) = s.ada.commit(&[], &[]);
    let accepted = s.hub.accept_commit(&commit, NOW).unwrap();
    assert_eq!(accepted.removed.len(), 2);
    assert_eq!(s.hub.members().unwrap().len(), 1);
}

#[test]
fn revoked_and_foreign_devices_are_refused() {
    let mut s = Scene::new();
    let (commit, _) = s.ben.commit(&[], &[]);
    s.chains.write().unwrap().revoked.insert(s.ben.device.fingerprint);
    assert!(matches!(s.hub.accept_commit(&commit, NOW), Err(PublicGroupError::Credential(_))));
    // Had the node accepted it before the revocation, members would have to follow.
    s.ada.receive(&commit).unwrap();
    let package = s.ben.key_package().to_bytes().unwrap();
    assert!(key_package::inspect(s.chains.clone(), &package, NOW).is_err());

    let stranger = Member::new(&s.chains, "X99", "Stranger", Rules::new(s.chains.clone()));
    let add = s.cem.group().commit_builder().add_member(stranger.key_package());
    assert!(add.unwrap().build().is_err());
    let rules = Rules::new(s.chains.clone());
    let other_key = Some(SecretKey::generate().unwrap());
    let thief = Member::with_certified_key(&s.chains, "RYJ", "Thief", rules, other_key);
    let package = thief.key_package();
    assert!(key_package::inspect(s.chains.clone(), &package.to_bytes().unwrap(), NOW).is_err());
    assert!(s.cem.group().commit_builder().add_member(package).unwrap().build().is_err());
}

#[test]
fn a_key_package_says_whose_it_is() {
    let s = Scene::new();
    let package = s.ben.key_package();
    let bytes = package.to_bytes().unwrap();
    let summary = key_package::inspect(s.chains.clone(), &bytes, NOW).unwrap();
    assert_eq!(summary.device, s.ben.device);
    assert!(summary.last_resort && summary.expires > NOW);
    let late = summary.expires.plus_secs(1);
    assert!(key_package::inspect(s.chains.clone(), &bytes, late).is_err());
    assert_eq!(peek::Peek::of(&bytes, BYTES_MAX), Ok(peek::Peek::KeyPackage));
}
