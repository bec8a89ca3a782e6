//! Which nodes this one keeps connections to, and where they are: what the charter says, and after it what the nodes' own
//! directory entries say. Pure.
//!
//! An entry is the word of one trust's registrar, and no trust can take another one's place by it: the charter's addresses
//! stay, a node that the charter gives to a trust is looked for where this trust says alone, and each trust has a bounded
//! number of nodes.

use std::collections::BTreeMap;

use lanyard_crypto::charter::Charter;
use lanyard_crypto::{NodeId, TrustId};

use crate::address::NodeAddress;
use crate::p2p::limits::{ADDRESSES_PER_PEER, NODES_PER_TRUST, WANTED};
use crate::p2p::{AddressError, check_address};

/// What a node's directory entry says: the node, the trust that certified it, and its addresses.
pub(super) type Published = (NodeId, TrustId, Vec<String>);

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Each node with at least one address, those in the charter first.
    pub(super) nodes: Vec<(NodeId, Vec<String>)>,
    /// Addresses at which nobody can be dialled, and who stated them.
    pub(super) unusable: Vec<(NodeId, TrustId, AddressError)>,
}

/// What is known of one node.
#[derive(Default)]
struct Place {
    /// The trust that the charter names, with its addresses.
    chartered: Option<(TrustId, Vec<String>)>,
    published: BTreeMap<TrustId, Vec<String>>,
}

/// The nodes to be connected to under this charter.
pub(super) fn wanted(charter: &Charter, published: Vec<Published>) -> Wanted {
    let (mut places, mut counts) = (BTreeMap::<NodeId, Place>::new(), BTreeMap::<TrustId, usize>::new());
    let mut unusable = Vec::new();
    let mut is_usable = |node: &NodeId, trust: &TrustId, address: &str| match check_address(node, address) {
        Ok(()) => true,
        Err(error) => {
            unusable.push((*node, trust.clone(), error));
            false
        }
    };
    let mut has_room = |trust: &TrustId| {
        let count = counts.entry(trust.clone()).or_default();
        *count += 1;
        *count <= NODES_PER_TRUST
    };
    let stated = charter.trusts.iter().flat_map(|m| m.addresses.iter().map(|a| (&m.trust, a)));
    for (trust, address) in stated {
        // Without a peer id, nothing says who is to answer there.
        let Some(node) = NodeAddress::parse(address).and_then(|a| a.node) else { continue };
        if !is_usable(&node, trust, address) {
            continue;
        }
        match places.get_mut(&node).and_then(|place| place.chartered.as_mut()) {
            Some((of, addresses)) if of == trust => addresses.push(address.clone()),
            Some(_) => {}
            None if has_room(trust) => {
                places.entry(node).or_default().chartered = Some((trust.clone(), vec![address.clone()]));
            }
            None => {}
        }
    }
    for (node, trust, addresses) in published {
        let place = places.get(&node);
        let of_other = place.and_then(|p| p.chartered.as_ref()).is_some_and(|(of, _)| *of != trust);
        let counted = place.is_some_and(|p| p.chartered.is_some() || p.published.contains_key(&trust));
        if of_other || !(counted || has_room(&trust)) {
            continue;
        }
        let usable = addresses.into_iter().filter(|address| is_usable(&node, &trust, address));
        places.entry(node).or_default().published.entry(trust.clone()).or_default().extend(usable);
    }
    let (chartered, others): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|(_, place)| place.chartered.is_some());
    let nodes = chartered.into_iter().chain(others).map(|(node, place)| (node, place.addresses()));
    let nodes = nodes.filter(|(_, addresses)| !addresses.is_empty()).take(WANTED).collect();
    Wanted { nodes, unusable }
}

impl Place {
    /// Each once. Where several trusts say that a node is theirs, they take turns.
    fn addresses(self) -> Vec<String> {
        let mut all = self.chartered.map_or(Vec::new(), |(_, addresses)| addresses);
        let longest = self.published.values().map(Vec::len).max().unwrap_or(0);
        for turn in 0..longest {
            all.extend(self.published.values().filter_map(|addresses| addresses.get(turn)).cloned());
        }
        let mut distinct: Vec<String> = Vec::new();
        for address in all {
            if distinct.len() < ADDRESSES_PER_PEER && !distinct.contains(&address) {
                distinct.push(address);
            }
        }
        distinct
    }
}

#[cfg(test)]
mod tests {
    use lanyard_crypto::charter::Member;
    use lanyard_crypto::x509::SecretKey;

    use super::*;
    use crate::testing::Trust;

    const GOOD: &str = "/ip4/127.0.0.1/tcp/1";

    fn node(seed: u8) -> NodeId {
        NodeId::new(SecretKey::from_seed(&[seed; 32]).public())
    }

    fn trust(code: &str) -> TrustId {
        code.parse().unwrap()
    }

    /// In which these trusts have these nodes, at the first port.
    fn charter(members: &[(&str, &[NodeId])]) -> Charter {
        let network = Trust::new("RYJ").network();
        let first = &network.charter().trusts[0];
        let member = |(code, nodes): &(&str, &[NodeId])| Member {
            trust: trust(code),
            addresses: nodes.iter().map(|n| at(n, 1)).collect(),
            ..first.clone()
        };
        Charter { trusts: members.iter().map(member).collect(), ..network.charter().clone() }
    }

    fn at(node: &NodeId, port: u16) -> String {
        format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", crate::address::peer_id(node))
    }

    #[test]
    fn an_address_that_cannot_be_dialled_spoils_nothing_else() {
        let (a, b, c) = (node(1), node(2), node(3));
        let published = vec![
            (b, trust("RXB"), vec!["nonsense".into(), GOOD.into(), at(&a, 2)]),
            (c, trust("RXB"), vec!["/ip4/127.0.0.1/tcp/1/ws".into()]),
        ];
        let wanted = wanted(&charter(&[("RXA", &[a]), ("RXB", &[])]), published);
        assert_eq!(wanted.nodes, [(a, vec![at(&a, 1)]), (b, vec![GOOD.to_owned()])]);
        let unusable: Vec<_> = wanted.unusable.iter().map(|(node, ..)| *node).collect();
        assert_eq!(unusable, [b, b, c]);
    }

    #[test]
    fn what_is_published_comes_after_the_charter_and_from_its_own_trust_alone() {
        let a = node(1);
        let many: Vec<_> = (10..30).map(|port| at(&a, port)).collect();
        let published = vec![(a, trust("RXB"), vec![at(&a, 66)]), (a, trust("RXA"), many)];
        let wanted = wanted(&charter(&[("RXA", &[a]), ("RXB", &[])]), published);
        let expected: Vec<_> = [1].into_iter().chain(10..17).map(|port| at(&a, port)).collect();
        assert_eq!(wanted.nodes, [(a, expected)]);
    }

    #[test]
    fn trusts_that_claim_a_node_take_turns() {
        let a = node(1);
        let claim = |code, ports: std::ops::Range<u16>| (a, trust(code), ports.map(|p| at(&a, p)).collect());
        let wanted =
            wanted(&charter(&[("RXA", &[]), ("RXB", &[])]), vec![claim("RXA", 100..120), claim("RXB", 7..8)]);
        assert!(wanted.nodes[0].1[..2].contains(&at(&a, 7)));
    }

    #[test]
    fn one_trust_has_a_bounded_number_of_nodes_and_the_charters_go_first() {
        let (last, own) = (node(200), node(201));
        let flood = (1..100).map(|seed| (node(seed), trust("RXA"), vec![GOOD.to_owned()]));
        let published = flood.chain([(own, trust("RXB"), vec![GOOD.to_owned()])]).collect();
        let wanted = wanted(&charter(&[("RXA", &[last]), ("RXB", &[])]), published);
        assert_eq!(wanted.nodes[0].0, last);
        assert_eq!(wanted.nodes.len(), NODES_PER_TRUST + 1);
        assert!(wanted.nodes.iter().any(|(node, _)| *node == own));
    }
}
