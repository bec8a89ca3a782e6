//! Members of a real MLS group, with the devices of the fixtures.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lanyard_crypto::cbor;
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::public_group::NodeSigner;
use lanyard_crypto::mls::{
    Class, PersonKey, Policy, PublicGroup, Rules, Suite, X509Identities, mls_time, suite,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Submission;
use lanyard_harness::fixtures::{self, NOW, Trust};
use lanyard_harness::groups::{context_of, conversation};
use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::MlsExtension;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::identity::SigningIdentity;
use mls_rs::{Client, ExtensionList, Group, MlsMessage};

/// A device, and its group once it has one.
pub struct Member<C: MlsConfig> {
    person: PersonKey,
    client: Client<C>,
    group: Option<Group<C>>,
}

/// The device of a trust.
pub fn member(trust: &Trust) -> Member<impl MlsConfig + use<>> {
    let network = Arc::new(fixtures::network());
    let chain = trust.chain(&trust.device);
    let identity = SigningIdentity::new(credential(&chain), trust.device_key.public().to_vec().into());
    let client = Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(X509Identities::<Network>::of_member(network.clone()))
        .mls_rules(Rules::new(network))
        .extension_type(POLICY_EXTENSION)
        .signing_identity(identity, trust.device_key.to_seed().to_vec().into(), suite::LANYARD)
        .build();
    Member { person: PersonKey::of(&trust.id, None, &trust.device_key.public()), client, group: None }
}

impl<C: MlsConfig> Member<C> {
    /// A key package of last resort.
    pub fn package(&self) -> MlsMessage {
        let last_resort = LastResortKeyPackageExt.into_extension().unwrap();
        let at = Some(mls_time(NOW));
        self.client.generate_key_package_message(vec![last_resort].into(), ExtensionList::new(), at).unwrap()
    }

    /// Founds the conversation; returns its GroupInfo.
    pub fn found(&mut self) -> Vec<u8> {
        let node = &fixtures::trusts()[0];
        let chain = node.chain(&node.node);
        let senders = [SigningIdentity::new(credential(&chain), node.node_key.public().to_vec().into())];
        let policy = Policy::new(Class::Clinical, [self.person]).unwrap();
        let extensions =
            vec![policy.to_extension(), ExternalSendersExt::new(senders.to_vec()).into_extension().unwrap()];
        let (id, at) = (conversation().to_bytes(), Some(mls_time(NOW)));
        let group =
            self.client.create_group_with_id(id, extensions.into(), ExtensionList::new(), at).unwrap();
        self.group = Some(group);
        self.info()
    }

    /// The GroupInfo of its epoch, with the tree.
    pub fn info(&self) -> Vec<u8> {
        self.group.as_ref().unwrap().group_info_message(true).unwrap().to_bytes().unwrap()
    }

    /// A commit that stays pending, and its welcome.
    pub fn commit(&mut self, add: &[MlsMessage], remove: &[u32]) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut builder = self.group.as_mut().unwrap().commit_builder().commit_time(mls_time(NOW));
        for package in add {
            builder = builder.add_member(package.clone()).unwrap();
        }
        for index in remove {
            builder = builder.remove_member(*index).unwrap();
        }
        let output = builder.build().unwrap();
        let welcome = output.welcome_messages().first().map(|w| w.to_bytes().unwrap());
        (output.commit_message().to_bytes().unwrap(), welcome)
    }

    /// Takes the pending commit back, or makes it its own.
    pub fn settle(&mut self, accepted: bool) {
        let group = self.group.as_mut().unwrap();
        match accepted {
            true => drop(group.apply_pending_commit().unwrap()),
            false => group.clear_pending_commit(),
        }
    }

    /// An application message.
    pub fn write(&mut self, text: &[u8]) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        group.encrypt_application_message(text, Vec::new()).unwrap().to_bytes().unwrap()
    }
}

/// Messages of a conversation of three from its beginning, as bytes.
pub struct Conversation {
    /// GroupInfo of epochs 0 and 1.
    pub infos: [Vec<u8>; 2],
    /// A commit without a change in epoch 0, which was not handed in.
    pub empty_first: Vec<u8>,
    /// The commit that adds the others, and their welcome.
    pub first: (Vec<u8>, Vec<u8>),
    /// Commits of the administrator in epoch 1: without a change, removing a member, adding one's second device.
    pub seconds: Vec<Vec<u8>>,
    /// The owner trust's node's proposal to remove a member in epoch 1.
    pub proposal: Vec<u8>,
    /// Messages in epoch 1.
    pub texts: Vec<Vec<u8>>,
    /// Key packages of all three.
    pub packages: Vec<Vec<u8>>,
    /// The group as the owner trust's node sees it in epoch 1.
    pub snapshot: Vec<u8>,
}

/// Has the conversation.
pub fn converse() -> Conversation {
    let trusts = fixtures::trusts();
    let (mut ada, ben, cem) = (member(&trusts[0]), member(&trusts[1]), member(&trusts[2]));
    let founded = ada.found();
    let (empty_first, _) = ada.commit(&[], &[]);
    ada.settle(false);
    let (others, own) = ([ben.package(), cem.package()], ada.package());
    let (commit, welcome) = ada.commit(&others, &[]);
    ada.settle(true);

    let network = Arc::new(fixtures::network());
    let mut hub = PublicGroup::observe(network.clone(), &conversation(), &founded, NOW).unwrap();
    hub.accept_commit(&commit, NOW).unwrap();
    let snapshot = hub.snapshot().unwrap();
    let chain = trusts[0].chain(&trusts[0].node);
    let signer = NodeSigner { chain: &chain, key: &trusts[0].node_key };
    let mut proposing = PublicGroup::load(network, &snapshot, Some(signer)).unwrap();
    let proposal = proposing.propose_remove(2).unwrap();

    let mut seconds = Vec::new();
    for remove in [&[][..], &[2], &[1, 2]] {
        seconds.push(ada.commit(&[], remove).0);
        ada.settle(false);
    }
    let texts = vec![ada.write(b"EF 30%, can you take him today?"), ada.write(&[b'x'; 600])];
    let packages = [own].iter().chain(&others).map(|p| p.to_bytes().unwrap()).collect();
    Conversation {
        infos: [founded, ada.info()],
        empty_first,
        first: (commit, welcome.unwrap()),
        seconds,
        proposal,
        texts,
        packages,
        snapshot,
    }
}

/// Writes what the harnesses are compiled with.
pub fn fixtures(dir: &Path) {
    let made = converse();
    let (commit, welcome) = made.first;
    let submission =
        Submission { commit, welcome: Some(welcome.into()), group_info: Some(made.infos[0].clone().into()) };
    let context = context_of(&made.infos[1]).unwrap().to_vec();
    for (name, bytes) in [
        ("group.snapshot", made.snapshot),
        ("group.context", context),
        ("group.first-commit", made.empty_first),
        ("package", made.packages[0].clone()),
        ("submission", cbor::to_vec(&submission)),
    ] {
        println!("{name}: {} bytes", bytes.len());
        fs::write(dir.join(name), bytes).unwrap();
    }
}
