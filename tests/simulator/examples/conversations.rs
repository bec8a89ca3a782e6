//! Makes `vectors/conversations.cbor`: real MLS groups of the cast's devices, with the commits that may follow each other.
//! Its output differs at each run, since MLS draws randomness; the committed file is what every simulation uses.
//!
//! `cargo run -p lanyard-simulator --example conversations > tests/simulator/vectors/conversations.cbor`

#![allow(clippy::unwrap_used, reason = "a tool ends where it cannot go on")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::policy::POLICY_EXTENSION;
use lanyard_crypto::mls::{self, PersonKey, Policy, Rules, Suite, X509Identities, mls_time, suite};
use lanyard_crypto::network::Network;
use lanyard_crypto::{ConversationId, cbor, record};
use lanyard_simulator::cast::{CODES, START, cast};
use lanyard_simulator::conversations::{Change, Conversation, Pool};
use mls_rs::client_builder::MlsConfig;
use mls_rs::extension::MlsExtension;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::identity::SigningIdentity;
use mls_rs::{Client, ExtensionList, Group, MlsMessage};
use serde_bytes::ByteBuf;

/// What one commit does: made by whom, adding whom, removing whom, and what may follow.
struct Plan(usize, &'static [usize], &'static [usize], &'static [Plan]);

/// Owner and plan of each conversation. Devices are named by the place of their trust.
const PLANS: [(usize, Plan); 3] = [
    (
        0,
        Plan(
            0,
            &[1, 2],
            &[],
            &[
                Plan(0, &[], &[2], &[Plan(1, &[], &[], &[]), Plan(0, &[3], &[], &[])]),
                Plan(1, &[], &[], &[Plan(0, &[], &[2], &[]), Plan(2, &[], &[], &[])]),
            ],
        ),
    ),
    (1, Plan(1, &[0, 2, 3], &[], &[Plan(1, &[4], &[], &[]), Plan(3, &[], &[], &[Plan(1, &[], &[3], &[])])])),
    (2, Plan(2, &[1, 5], &[], &[Plan(2, &[], &[5], &[]), Plan(1, &[], &[], &[])])),
];

fn main() {
    let network = network();
    let clients: Vec<_> = (0..CODES.len()).map(|place| client(&network, place)).collect();
    let packages: Vec<_> = clients.iter().map(package).collect();
    let conversations =
        PLANS.iter().zip(1u8..).map(|((owner, plan), n)| found(&clients, &packages, *owner, plan, n));
    let pool = Pool {
        packages: packages.iter().map(|p| ByteBuf::from(p.to_bytes().unwrap())).collect(),
        conversations: conversations.collect(),
    };
    std::io::stdout().write_all(&cbor::to_vec(&pool)).unwrap();
}

fn network() -> Arc<Network> {
    let charter = cast().charter(&(0..CODES.len()).collect::<Vec<_>>(), None);
    Arc::new(record::open_trusted(&charter).unwrap())
}

fn client(network: &Arc<Network>, place: usize) -> Client<impl MlsConfig + use<>> {
    let trust = &cast().trusts[place];
    let device = &trust.devices[0];
    let chain = trust.chain(&device.certificate);
    Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(X509Identities::<Network>::of_member(network.clone()))
        .mls_rules(Rules::new(network.clone()))
        .extension_type(POLICY_EXTENSION)
        .signing_identity(
            SigningIdentity::new(credential(&chain), device.key.public().to_vec().into()),
            device.key.to_seed().to_vec().into(),
            suite::LANYARD,
        )
        .build()
}

fn package<C: MlsConfig>(client: &Client<C>) -> MlsMessage {
    let last_resort = LastResortKeyPackageExt.into_extension().unwrap();
    let at = Some(mls_time(START));
    client.generate_key_package_message(vec![last_resort].into(), ExtensionList::new(), at).unwrap()
}

fn found<C: MlsConfig + Clone>(
    clients: &[Client<C>],
    packages: &[MlsMessage],
    owner: usize,
    plan: &Plan,
    n: u8,
) -> Conversation {
    let trust = &cast().trusts[owner];
    let id = ConversationId::new([n; 16], trust.id.clone());
    let admin = PersonKey::of(&trust.id, None, &trust.devices[0].key.public());
    let policy = Policy::new(mls::Class::Clinical, [admin]).unwrap();
    let (extensions, at) = (vec![policy.to_extension()].into(), Some(mls_time(START)));
    let group =
        clients[owner].create_group_with_id(id.to_bytes(), extensions, ExtensionList::new(), at).unwrap();
    let info = group.group_info_message(true).unwrap().to_bytes().unwrap();
    let mut changes = Vec::new();
    let groups = BTreeMap::from([(owner, group)]);
    extend(clients, packages, groups, None, plan, &mut changes);
    Conversation { owner: owner as u64, nonce: vec![n; 16].into(), group_info: info.into(), changes }
}

/// Adds the plan's commit, made in these groups, and then what may follow it.
fn extend<C: MlsConfig + Clone>(
    clients: &[Client<C>],
    packages: &[MlsMessage],
    mut groups: BTreeMap<usize, Group<C>>,
    after: Option<u64>,
    Plan(by, adds, removes, next): &Plan,
    changes: &mut Vec<Change>,
) {
    let key = |place: usize| cast().trusts[place].devices[0].key.public();
    let committer = groups.get_mut(by).unwrap();
    let epoch = committer.current_epoch();
    let leaf = |group: &Group<C>, place: usize| {
        let mut members = group.roster().members_iter();
        members.find(|m| m.signing_identity.signature_key.as_bytes() == key(place)).unwrap().index
    };
    let leaves: Vec<_> = removes.iter().map(|place| leaf(committer, *place)).collect();
    let mut builder = committer.commit_builder().commit_time(mls_time(START));
    for place in *adds {
        builder = builder.add_member(packages[*place].clone()).unwrap();
    }
    for leaf in leaves {
        builder = builder.remove_member(leaf).unwrap();
    }
    let output = builder.build().unwrap();
    for (place, group) in &mut groups {
        if place == by {
            group.apply_pending_commit().unwrap();
        } else {
            let message = output.commit_message().clone();
            group.process_incoming_message_with_time(message, mls_time(START)).unwrap();
        }
    }
    removes.iter().for_each(|place| drop(groups.remove(place)));
    let welcome = output.welcome_messages().first();
    for place in *adds {
        let joined = clients[*place].join_group(None, welcome.unwrap(), Some(mls_time(START))).unwrap();
        groups.insert(*place, joined.0);
    }
    changes.push(Change {
        after,
        epoch,
        by: *by as u64,
        commit: output.commit_message().to_bytes().unwrap().into(),
        welcome: welcome.map(|w| w.to_bytes().unwrap().into()),
        members: groups.keys().map(|place| *place as u64).collect(),
    });
    let place = changes.len() as u64 - 1;
    for plan in *next {
        extend(clients, packages, groups.clone(), Some(place), plan, changes);
    }
}
