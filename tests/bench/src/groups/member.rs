//! A member by the MLS library alone, with its state in memory: bare, or with Lanyard's rules and identities.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use lanyard_client::session::KEY_PACKAGE_LIFE_SECS;
use lanyard_crypto::Fingerprint;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::{DeviceIdentity, Rules, Suite, X509Identities, mls_time, suite};
use mls_rs::client_builder::{
    BaseConfig, MlsConfig, PaddingMode, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules,
};
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::extension::{ExtensionType, MlsExtension};
use mls_rs::group::ReceivedMessage;
use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::storage_provider::in_memory::{InMemoryGroupStateStorage, InMemoryKeyPackageStorage};
use mls_rs::time::MlsTime;
use mls_rs::{Client, ExtensionList, Group, GroupStateStorage, IdentityProvider, MlsMessage, MlsRules};
use mls_rs_core::group::GroupState;
use mls_rs_core::identity::{Credential, MemberValidationContext};
use zeroize::Zeroizing;

use super::world::{Device, Shared};
use crate::network::NOW;

/// Of a welcome's GroupInfo, for the title: a client says that it knows it.
const TITLE_EXTENSION: ExtensionType = ExtensionType::new(0xF0A1);

type Config<I, R> = WithKeyPackageRepo<
    InMemoryKeyPackageStorage,
    WithGroupStateStorage<
        InMemoryGroupStateStorage,
        WithMlsRules<R, WithIdentityProvider<I, WithCryptoProvider<Suite, BaseConfig>>>,
    >,
>;
/// The library as it is: it believes every certificate and allows what the RFC does.
pub type Bare = Member<Config<Unchecked, DefaultMlsRules>>;
/// With what Lanyard asks of members and changes.
pub type Checked = Member<Config<X509Identities<Shared>, Rules<Shared>>>;

/// Believes every certificate. It goes by the same fingerprint as Lanyard, since a group's state names its members so.
#[derive(Clone, Copy, Debug)]
pub struct Unchecked;

impl IdentityProvider for Unchecked {
    type Error = Infallible;

    fn validate_member(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), Infallible> {
        Ok(())
    }

    fn identity(&self, member: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, Infallible> {
        Ok(match &member.credential {
            Credential::X509(chain) if !chain.is_empty() => Fingerprint::of(&chain[0]).as_bytes().to_vec(),
            _ => member.signature_key.to_vec(),
        })
    }

    fn valid_successor(
        &self,
        _: &SigningIdentity,
        _: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

/// What a commit changes.
#[derive(Clone, Default)]
pub struct Change {
    /// Key packages of whom it adds (MLSMessages).
    pub add: Vec<Vec<u8>>,
    /// Leaves that it removes.
    pub remove: Vec<u32>,
}

/// What a commit is on the wire.
pub struct Made {
    pub commit: Vec<u8>,
    pub welcome: Option<Vec<u8>>,
}

/// A device that can be added.
pub struct Packaged {
    pub device: Device,
    /// Its key package (an MLSMessage).
    pub package: Vec<u8>,
    /// Where the secrets of that are.
    pub secrets: InMemoryKeyPackageStorage,
}

/// One member's group.
pub struct Member<C: MlsConfig> {
    pub group: Group<C>,
    storage: InMemoryGroupStateStorage,
}

impl Packaged {
    pub fn new(device: Device) -> Result<Self, Box<dyn Error>> {
        let secrets = InMemoryKeyPackageStorage::new();
        let client = bare_client(secrets.clone(), InMemoryGroupStateStorage::new(), Some(&device));
        let last_resort = ExtensionList::from(vec![LastResortKeyPackageExt.into_extension()?]);
        let at = Some(mls_time(NOW));
        let package =
            client.generate_key_package_message(last_resort, ExtensionList::new(), at)?.to_bytes()?;
        Ok(Self { device, package, secrets })
    }
}

pub fn bare_client(
    packages: InMemoryKeyPackageStorage,
    storage: InMemoryGroupStateStorage,
    device: Option<&Device>,
) -> Client<Config<Unchecked, DefaultMlsRules>> {
    // What is asked of every commit and message in Lanyard, so that the same is made and sent.
    let rules = DefaultMlsRules::new()
        .with_commit_options(CommitOptions::new().with_path_required(true).with_ratchet_tree_extension(true))
        .with_encryption_options(EncryptionOptions::new(false, PaddingMode::StepFunction));
    client(Unchecked, rules, packages, storage, device)
}

pub fn checked_client(
    network: &Arc<Shared>,
    packages: InMemoryKeyPackageStorage,
    storage: InMemoryGroupStateStorage,
    device: Option<&Device>,
) -> Client<Config<X509Identities<Shared>, Rules<Shared>>> {
    let identities = X509Identities::of_member(network.clone());
    client(identities, Rules::new(network.clone()), packages, storage, device)
}

fn client<I, R>(
    identities: I,
    rules: R,
    packages: InMemoryKeyPackageStorage,
    storage: InMemoryGroupStateStorage,
    device: Option<&Device>,
) -> Client<Config<I, R>>
where
    I: IdentityProvider + Clone,
    R: MlsRules + Clone,
{
    let builder = Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(identities)
        .mls_rules(rules)
        .group_state_storage(storage)
        .key_package_repo(packages)
        .extension_types([POLICY_EXTENSION, TITLE_EXTENSION])
        .key_package_lifetime(Duration::from_secs(KEY_PACKAGE_LIFE_SECS));
    match device {
        None => builder.build(),
        Some(device) => builder
            .signing_identity(device.signing_identity(), device.key.to_seed().to_vec().into(), suite::LANYARD)
            .build(),
    }
}

impl Bare {
    /// A member whose state this is.
    pub fn believing(id: &[u8], state: &Zeroizing<Vec<u8>>) -> Result<Self, Box<dyn Error>> {
        let storage = holding(id, state);
        let group = bare_client(InMemoryKeyPackageStorage::new(), storage.clone(), None).load_group(id)?;
        Ok(Self { group, storage })
    }
}

impl Checked {
    /// The same, which checks.
    pub fn checking(
        network: &Arc<Shared>,
        id: &[u8],
        state: &Zeroizing<Vec<u8>>,
    ) -> Result<Self, Box<dyn Error>> {
        let storage = holding(id, state);
        let packages = InMemoryKeyPackageStorage::new();
        let group = checked_client(network, packages, storage.clone(), None).load_group(id)?;
        Ok(Self { group, storage })
    }
}

fn holding(id: &[u8], state: &Zeroizing<Vec<u8>>) -> InMemoryGroupStateStorage {
    let mut storage = InMemoryGroupStateStorage::new();
    let state = GroupState { id: id.to_vec(), data: state.clone() };
    // It cannot fail.
    let Ok(()) = storage.write(state, Vec::new(), Vec::new());
    storage
}

impl<C: MlsConfig> Member<C> {
    /// Which founds a group.
    pub fn founded(
        client: &Client<C>,
        storage: InMemoryGroupStateStorage,
        id: Vec<u8>,
        extensions: ExtensionList,
    ) -> Result<Self, Box<dyn Error>> {
        let at = Some(mls_time(NOW));
        let mut group = client.create_group_with_id(id, extensions, ExtensionList::new(), at)?;
        group.write_to_storage()?;
        Ok(Self { group, storage })
    }

    /// Which joins by a welcome.
    pub fn join(
        client: &Client<C>,
        storage: InMemoryGroupStateStorage,
        welcome: &[u8],
    ) -> Result<Self, Box<dyn Error>> {
        let welcome = MlsMessage::from_bytes(welcome)?;
        let (mut group, _) = client.join_group(None, &welcome, Some(mls_time(NOW)))?;
        group.write_to_storage()?;
        Ok(Self { group, storage })
    }

    /// Makes a commit, keeps it as pending, and then takes it as published.
    pub fn commit(&mut self, change: &Change) -> Result<Made, Box<dyn Error>> {
        let mut builder = self.group.commit_builder();
        for package in &change.add {
            builder = builder.add_member(MlsMessage::from_bytes(package)?)?;
        }
        for leaf in &change.remove {
            builder = builder.remove_member(*leaf)?;
        }
        let output = builder.commit_time(mls_time(NOW)).build()?;
        self.group.write_to_storage()?;
        let welcome = output.welcome_messages().first().map(MlsMessage::to_bytes).transpose()?;
        let made = Made { commit: output.commit_message().to_bytes()?, welcome };
        self.group.apply_pending_commit()?;
        self.group.write_to_storage()?;
        Ok(made)
    }

    /// Encrypts.
    pub fn send(&mut self, text: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        let sealed = self.group.encrypt_application_message(text, Vec::new())?.to_bytes()?;
        self.group.write_to_storage()?;
        Ok(sealed)
    }

    /// Takes another's commit or message.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), Box<dyn Error>> {
        let message = MlsMessage::from_bytes(message)?;
        match self.group.process_incoming_message_with_time(message, mls_time(NOW))? {
            ReceivedMessage::Commit(_) | ReceivedMessage::ApplicationMessage(_) => {}
            _ => return Err("neither a commit nor a message".into()),
        }
        Ok(self.group.write_to_storage()?)
    }

    /// The state as it is kept.
    pub fn state(&self) -> Result<Zeroizing<Vec<u8>>, Box<dyn Error>> {
        let Ok(state) = self.storage.state(self.group.group_id());
        Ok(state.ok_or("the group is not stored")?)
    }
}

/// Whose device it is.
pub fn read_identity(
    identities: &X509Identities<Shared>,
    device: &Device,
) -> Result<DeviceIdentity, Box<dyn Error>> {
    Ok(identities.read(&device.signing_identity())?)
}
