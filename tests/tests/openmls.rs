//! An independent implementation of MLS takes part in a Lanyard conversation: OpenMLS with libcrux, which
//! shares neither protocol code nor post-quantum primitives with ours. It joins by a welcome, reads, writes,
//! follows commits, and processes its own removal.
//!
//! OpenMLS knows the suite's primitives by their provisional id alone, so the conversation runs under that
//! one.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy as CharterPolicy};
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::{Class, Policy, Rules, Suite, X509Identities, mls_time, suite};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Header;
use lanyard_crypto::x509::{Certificate, SecretKey, Subject, issue};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId};
use mls_rs::client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules};
use mls_rs::extension::ExtensionType as OurExtensionType;
use mls_rs::group::ReceivedMessage;
use mls_rs::identity::SigningIdentity;
use mls_rs::{Client, Extension, ExtensionList, Group, MlsMessage};
use openmls::prelude::tls_codec::{Deserialize, Serialize, VLBytes};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_libcrux_crypto::Provider;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519;
/// The title in a welcome: an extension that OpenMLS has never heard of, and must pass over.
const TITLE_EXTENSION: u16 = 0xF0A1;
const LIFE_SECS: u64 = 24 * 3600;

type Config = WithMlsRules<
    Rules<RwLock<Network>>,
    WithIdentityProvider<X509Identities<RwLock<Network>>, WithCryptoProvider<Suite, BaseConfig>>,
>;

#[test]
fn openmls_joins_reads_writes_and_leaves() {
    let now = now();
    let trust = Trust::new("RYJ", now);
    let network = Arc::new(RwLock::new(trust.network(now)));

    let ada_key = SecretKey::generate().unwrap();
    let chain = trust.chain("Ada", &ada_key, now);
    let signing = SigningIdentity::new(credential(&chain), ada_key.public().to_vec().into());
    let ada: Client<Config> = Client::builder()
        .crypto_provider(Suite::with_id(suite::OPENMLS_DRAFT))
        .identity_provider(X509Identities::of_member(network.clone()))
        .mls_rules(Rules::new(network.clone()))
        .extension_types([POLICY_EXTENSION, OurExtensionType::new(TITLE_EXTENSION)])
        .signing_identity(signing, ada_key.to_seed().to_vec().into(), suite::OPENMLS_DRAFT)
        .build();
    let person = X509Identities::new(network).read(ada.signing_identity().unwrap().0).unwrap().person;
    let policy = Policy::new(Class::Clinical, [person]).unwrap();
    let id = ConversationId::new([5; 16], trust.id.clone()).to_bytes();
    let extensions = ExtensionList::from(vec![policy.to_extension()]);
    let mut group =
        ada.create_group_with_id(id, extensions, ExtensionList::new(), Some(mls_time(now))).unwrap();

    let mut other = Other::new(&trust, "Olu", now);
    let package = MlsMessage::from_bytes(&other.key_package()).unwrap();
    let title = Extension::new(OurExtensionType::new(TITLE_EXTENSION), b"Bed 9".to_vec());
    let builder = group.commit_builder().commit_time(mls_time(now)).add_member(package).unwrap();
    let output = builder.set_group_info_ext(vec![title].into()).build().unwrap();
    group.apply_pending_commit().unwrap();
    other.join(&output.welcome_messages()[0].to_bytes().unwrap());
    assert_eq!(other.group().epoch().as_u64(), 1);

    let sealed = group.encrypt_application_message(b"from Lanyard", Vec::new()).unwrap().to_bytes().unwrap();
    assert_eq!(other.read(&sealed), b"from Lanyard");
    let sealed = other.write(b"from OpenMLS");
    assert_eq!(read(&mut group, &sealed, now), b"from OpenMLS");

    // Each follows a commit of the other, with new keys all the way up the tree.
    let commit = group.commit(Vec::new()).unwrap().commit_message().to_bytes().unwrap();
    group.apply_pending_commit().unwrap();
    other.follow(&commit);
    let commit = other.commit();
    let received =
        group.process_incoming_message_with_time(MlsMessage::from_bytes(&commit).unwrap(), mls_time(now));
    assert!(matches!(received.unwrap(), ReceivedMessage::Commit(_)));
    assert_eq!((group.current_epoch(), other.group().epoch().as_u64()), (3, 3));
    let sealed = other.write(b"still here");
    assert_eq!(read(&mut group, &sealed, now), b"still here");

    let removal =
        group.commit_builder().commit_time(mls_time(now)).remove_member(1).unwrap().build().unwrap();
    group.apply_pending_commit().unwrap();
    other.follow(&removal.commit_message().to_bytes().unwrap());
    assert!(!other.group().is_active());
}

fn read(group: &mut Group<Config>, bytes: &[u8], now: Timestamp) -> Vec<u8> {
    let message = MlsMessage::from_bytes(bytes).unwrap();
    match group.process_incoming_message_with_time(message, mls_time(now)).unwrap() {
        ReceivedMessage::ApplicationMessage(message) => message.data().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// The member that runs OpenMLS.
struct Other {
    provider: Provider,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    group: Option<MlsGroup>,
}

impl Other {
    fn new(trust: &Trust, name: &str, now: Timestamp) -> Self {
        let key = SecretKey::generate().unwrap();
        let public = key.public().to_vec();
        let signer =
            SignatureKeyPair::from_raw(SignatureScheme::ED25519, key.to_seed().to_vec(), public.clone());
        let certificates = trust.chain(name, &key, now).into_iter();
        let content: Vec<u8> =
            certificates.flat_map(|c| VLBytes::from(c).tls_serialize_detached().unwrap()).collect();
        let credential = CredentialWithKey {
            credential: Credential::new(CredentialType::X509, content),
            signature_key: public.into(),
        };
        Self { provider: Provider::default(), signer, credential, group: None }
    }

    fn key_package(&self) -> Vec<u8> {
        let capabilities = Capabilities::new(
            None,
            Some(&[SUITE]),
            Some(&[ExtensionType::Unknown(POLICY_EXTENSION.raw_value())]),
            None,
            Some(&[CredentialType::X509]),
        );
        let package = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .build(SUITE, &self.provider, &self.signer, self.credential.clone())
            .unwrap();
        MlsMessageOut::from(package.key_package().clone()).tls_serialize_detached().unwrap()
    }

    fn group(&mut self) -> &mut MlsGroup {
        self.group.as_mut().unwrap()
    }

    fn join(&mut self, welcome: &[u8]) {
        let MlsMessageBodyIn::Welcome(welcome) = incoming(welcome).extract() else { panic!("not a welcome") };
        let config =
            MlsGroupJoinConfig::builder().wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY).build();
        let staged = StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None).unwrap();
        self.group = Some(staged.into_group(&self.provider).unwrap());
    }

    fn process(&mut self, bytes: &[u8]) -> ProcessedMessageContent {
        let message = incoming(bytes).try_into_protocol_message().unwrap();
        let group = self.group.as_mut().unwrap();
        group.process_message(&self.provider, message).unwrap().into_content()
    }

    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.process(bytes) {
            ProcessedMessageContent::ApplicationMessage(message) => message.into_bytes(),
            _ => panic!("not an application message"),
        }
    }

    fn follow(&mut self, bytes: &[u8]) {
        let ProcessedMessageContent::StagedCommitMessage(commit) = self.process(bytes) else {
            panic!("not a commit")
        };
        self.group.as_mut().unwrap().merge_staged_commit(&self.provider, *commit).unwrap();
    }

    fn write(&mut self, text: &[u8]) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        let message = group.create_message(&self.provider, &self.signer, text).unwrap();
        message.tls_serialize_detached().unwrap()
    }

    fn commit(&mut self) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        let bundle = group.self_update(&self.provider, &self.signer, LeafNodeParameters::default()).unwrap();
        group.merge_pending_commit(&self.provider).unwrap();
        bundle.commit().tls_serialize_detached().unwrap()
    }
}

fn incoming(bytes: &[u8]) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(bytes).unwrap()
}

struct Trust {
    id: TrustId,
    root: Certificate,
    registrar: Certificate,
    registrar_key: SecretKey,
}

impl Trust {
    fn new(code: &str, now: Timestamp) -> Self {
        let term = || issue::Term::starting(now, LIFE_SECS).unwrap();
        let (root_key, registrar_key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let root = issue::root(&subject(code, "Root"), &root_key, &term()).unwrap();
        let issuer = issue::Issuer::new(&root, &root_key).unwrap();
        let registrar =
            issuer.registrar(&subject(code, "Registrar"), &registrar_key.public(), &term()).unwrap();
        Self { id: code.parse().unwrap(), root, registrar, registrar_key }
    }

    fn chain(&self, name: &str, key: &SecretKey, now: Timestamp) -> Vec<Vec<u8>> {
        let issuer = issue::Issuer::new(&self.registrar, &self.registrar_key).unwrap();
        let term = issue::Term::starting(now, LIFE_SECS).unwrap();
        let device = issuer.device(&subject(self.id.as_str(), name), &key.public(), &term).unwrap();
        vec![device.der().to_vec(), self.registrar.der().to_vec()]
    }

    fn network(&self, now: Timestamp) -> Network {
        let key = SecretKey::generate().unwrap().public().to_vec();
        let charter = Charter {
            name: "Region".into(),
            version: 1,
            previous: None,
            authorities: Authorities { keys: vec![key.into()], threshold: 1 },
            trusts: vec![Member {
                trust: self.id.clone(),
                name: "A trust".into(),
                root: self.root.der().to_vec(),
                addresses: Vec::new(),
            }],
            countries: vec!["GB".parse().unwrap()],
            policy: CharterPolicy::of(LIFE_SECS),
        };
        let expires = now.plus_secs(LIFE_SECS);
        let header = Header { network: None, custodians: Vec::new(), issued: now, expires };
        Network::new(RecordId::new([1; 32]), &header, &charter, None).unwrap()
    }
}

fn subject(code: &str, name: &str) -> Subject {
    Subject {
        trust: code.parse().unwrap(),
        country: "GB".parse().unwrap(),
        organisation: "A trust".into(),
        common_name: name.into(),
        department: None,
        title: None,
        registration: Some(format!("GMC {name}")),
    }
}

/// OpenMLS reads the system's clock, so the certificates are of today.
fn now() -> Timestamp {
    Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}
