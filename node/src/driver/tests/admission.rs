//! Who never becomes a connection: by address, by certificate, on either side of a dial (promise P3).

use lanyard_crypto::NodeId;
use lanyard_crypto::x509::{Certificate, SecretKey};
use lanyard_replica::fixtures::key;
use tokio::io::AsyncReadExt;

use super::nodes::{ABROAD, NOWHERE, Node, QUIC, Stranger, chain};
use super::trusts::{self, Trust, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_abroad_and_of_no_known_country_are_refused_both_ways() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let held = node.held();
    let (b, c) = (&world.trusts[1], &world.trusts[2]);
    let places = [(b, ABROAD, "country-refused", "US"), (c, NOWHERE, "country-unknown", "in which country")];
    for (trust, listen, code, words) in places {
        let chain = chain(&[&trust.node, &trust.registrar]);
        let stranger = Stranger::at(listen, world.network, &trust.node_key, chain).await;
        let place = listen.split("/udp").next().unwrap();

        // Refused before its key is known.
        stranger.dial(&node).await;
        let line =
            node.told("refused by address", |l| l.code == code && l.detail.contains("it dialled")).await;
        assert!(line.detail.contains(words) && line.peer_id.is_none(), "{line:?}");
        assert!(line.address.unwrap().starts_with(place));

        node.dial(&stranger).await;
        let line = node.why_not(stranger.id, 0).await;
        assert!(
            line.code == code && line.detail.contains("we dialled") && line.detail.contains(words),
            "{line:?}"
        );
        assert!(!node.is_connected(&stranger.id));
        assert!(stranger.handle.connected().is_empty());
    }
    assert_eq!(node.held(), held);

    // The same nodes, at home, are welcome.
    let stranger = Stranger::of(&world, 1).await;
    stranger.connect(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_caller_from_abroad_hears_nothing() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let port = node.addresses.iter().find_map(|a| a.split_once("/tcp/")).unwrap().1;
    for (from, code) in [("127.0.66.1:0", "country-refused"), ("127.0.77.1:0", "country-unknown")] {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let mut caller = socket.connect(format!("127.0.0.1:{port}").parse().unwrap()).await.unwrap();
        let line = node.told("refused by address", |l| l.code == code).await;
        assert_eq!(line.event, "peer-refused");
        let mut heard = Vec::new();
        // Closed, orderly or not.
        let _ = caller.read_to_end(&mut heard).await;
        assert!(heard.is_empty());
    }
}

/// Somebody with a chain that does not hold.
struct Pretender {
    what: &'static str,
    key: SecretKey,
    chain: Vec<u8>,
    /// Stands in the audit log.
    words: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_does_not_hold_is_refused_both_ways() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let held = node.held();
    for Pretender { what, key, chain, words } in pretenders(&world.trusts[1]) {
        let stranger = Stranger::start(&world, &key, chain).await;
        stranger.dial(&node).await;
        let line = node.why_not(stranger.id, 0).await;
        let fits = |line: &crate::backend::AuditLine, side| {
            assert_eq!(line.code, "certificate", "{what}: {line:?}");
            assert!(line.detail.contains(words) && line.detail.contains(side), "{what}: {line:?}");
        };
        fits(&line, "it dialled");

        // As soon as the stranger is done with its own dial, which the node's would otherwise join.
        let by_remote = |e: &crate::p2p::Event| matches!(e, crate::p2p::Event::Refused(r) if r.reason.code() == "by-remote");
        super::nodes::until("told so", async || (stranger.saw(by_remote) == 1).then_some(())).await;
        node.dial(&stranger).await;
        fits(&node.why_not(stranger.id, line.number).await, "we dialled");
        assert!(!node.is_connected(&stranger.id), "{what}");
        assert!(stranger.handle.connected().is_empty(), "{what}");
    }
    assert_eq!(node.held(), held);
}

fn pretenders(trust: &Trust) -> Vec<Pretender> {
    let registrar = &trust.registrar;
    // Each with a key of its own, so that the audit log tells them apart.
    let mut seed = 100;
    let mut pretender = |what, words, certificates: &dyn Fn(&SecretKey) -> Vec<Certificate>| {
        seed += 1;
        let key = key(seed);
        let certificates = certificates(&key);
        let chain = chain(&certificates.iter().collect::<Vec<_>>());
        Pretender { what, key, chain, words }
    };
    let hosted = |key: &SecretKey, from: &[u8], to: &[u8]| {
        let honest = trust.further_node(key, -60, 3600);
        vec![trusts::resigned(&honest, from, to, &trust.registrar_key), registrar.clone()]
    };
    let of =
        |other: Trust, key: &SecretKey| vec![other.further_node(key, -60, 3600), other.registrar.clone()];
    let day = 24 * 3600;
    vec![
        pretender("another country", "states the country US; the charter permits GB", &|key| {
            // OCTET STRING of a PrintableString.
            hosted(key, b"\x04\x04\x13\x02GB", b"\x04\x04\x13\x02US")
        }),
        pretender("no country", "states the country (none)", &|key| {
            // The extension's OID, and one that nobody knows.
            hosted(key, b"\x81\xfd\x59\x01\x02\x01", b"\x81\xfd\x59\x01\x02\x7f")
        }),
        pretender("it names another PeerId", "names another PeerId", &|key| {
            vec![trust.misnamed_node(key, &trust.node_key), registrar.clone()]
        }),
        pretender("it is another node's", "names another PeerId", &|_| {
            vec![trust.node.clone(), registrar.clone()]
        }),
        pretender("expired", "expired at", &|key| {
            vec![trust.further_node(key, -day, -60), registrar.clone()]
        }),
        pretender("not yet valid", "is not valid before", &|key| {
            vec![trust.further_node(key, day, 2 * day), registrar.clone()]
        }),
        pretender("a trust of its own making", "trust RXZ is not in the charter", &|key| {
            of(Trust::new("RXZ", 61), key)
        }),
        pretender(
            "a root that calls itself a member",
            "the registrar certificate of Registrar (RXB)",
            &|key| of(Trust::new("RXB", 71), key),
        ),
        pretender("certified by another member", "(RXB)", &|key| {
            let other = Trust::new("RXC", 21);
            let node = other.further_node(key, -60, 3600);
            vec![trusts::resigned(&node, b"RXC", b"RXB", &other.registrar_key), other.registrar.clone()]
        }),
        pretender("a device", "is not for the purpose node", &|key| {
            vec![trust.device(key), registrar.clone()]
        }),
        pretender("without its registrar", "2 certificates are needed", &|key| {
            vec![trust.further_node(key, -60, 3600)]
        }),
        pretender("nothing", "2 certificates are needed", &|_| Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_chain_is_refused() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let long = vec![0x80; crate::p2p::limits::MAX_CHAIN];
    for (seed, chain) in [(120, b"not CBOR".to_vec()), (121, vec![0x81; 10_000]), (122, long)] {
        let stranger = Stranger::at(QUIC, world.network, &key(seed), chain).await;
        stranger.dial(&node).await;
        let line = node.why_not(stranger.id, 0).await;
        assert!(line.code == "certificate" && line.detail.contains("not a certificate chain"), "{line:?}");
        assert!(!node.is_connected(&NodeId::new(key(seed).public())));
    }
}
