//! Peers that are silent, stall, speak another protocol or lie: each is bounded in time, size and number.

use std::pin::Pin;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::core::muxing::{StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint, Transport};
use libp2p::quic;
use libp2p::swarm::{Config, SwarmEvent, dial_opts};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::*;
use crate::p2p::streams::{Behaviour, Happened};

/// A world in which admission has to be quick.
fn impatient() -> World {
    let mut world = World::new();
    world.timing.admission_max = Duration::from_millis(500);
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn silent_and_foreign_sockets_are_cut_off() {
    let world = impatient();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let _silent = TcpStream::connect(socket(&a)).await.unwrap();
    let refused = a.refusal().await;
    assert!(matches!(refused.reason, Reason::TimedOut | Reason::Handshake(_)), "{refused:?}");
    assert!(refused.inbound && refused.node.is_none());

    let mut foreign = TcpStream::connect(socket(&a)).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut foreign, b"\x05junk\n").await.unwrap();
    assert_eq!(a.refusal().await.reason.code(), "handshake");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn unfinished_connections_of_one_address_are_bounded() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let mut open = Vec::new();
    for _ in 0..limits::PENDING_PER_IP + 3 {
        open.push(TcpStream::connect(socket(&a)).await.unwrap());
    }
    for _ in 0..3 {
        assert_eq!(a.refusal().await.reason, Reason::Crowded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_foreign_greeting_is_recognised() {
    let mut a = World::new().start(1, "RYJ", &[QUIC]).await;
    let _answer = answer_to(&a, b"/multistream").await;
    assert_eq!(a.refusal().await.reason, Reason::ForeignProtocol);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_chain_is_not_read_beyond_its_limit() {
    let mut a = World::new().start(1, "RYJ", &[QUIC]).await;
    let lie = [b"lanyard/border/1".as_slice(), &[0; 16], &u32::MAX.to_be_bytes()].concat();
    assert_eq!(answer_to(&a, &lie).await, [0], "refused, and nothing of our chain is shown");
    assert_eq!(a.refusal().await.reason, Reason::ChainTooLong(u32::MAX as usize));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn refusals_that_nobody_takes_do_not_hold_up_others() {
    let world = World::new();
    let a = world.start(1, "RYJ", &[TCP]).await;
    let target = socket(&a).parse().unwrap();
    // More than the channel of events holds, while the node takes none.
    for _ in 0..limits::EVENTS + 20 {
        let abroad = TcpSocket::new_v4().unwrap();
        abroad.bind("127.0.66.1:0".parse().unwrap()).unwrap();
        let mut abroad = abroad.connect(target).await.unwrap();
        // Refused by now.
        let _ = timeout(PATIENCE, tokio::io::AsyncReadExt::read(&mut abroad, &mut [0; 1])).await.unwrap();
    }
    let mut b = world.start(2, "RJ1", &[TCP]).await;
    b.dial(&a).await;
    b.connected_to(a.node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_refused_dialler_does_not_see_our_chain() {
    let mut a = World::new().start(1, "RYJ", &[QUIC]).await;
    let stolen = chain("RJ1", &node(2));
    let length = (stolen.len() as u32).to_be_bytes();
    let shown = [b"lanyard/border/1".as_slice(), &[0; 16], &length, &stolen].concat();
    assert_eq!(answer_to(&a, &shown).await, [0]);
    assert_eq!(a.refusal().await.reason.code(), "certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_peer_that_stalls_in_the_exchange_is_cut_off() {
    let mut a = impatient().start(1, "RYJ", &[QUIC]).await;
    let _answer = answer_to(&a, b"lanyard/bor").await;
    let refused = a.refusal().await;
    assert_eq!(refused.reason, Reason::TimedOut);
    assert_eq!(refused.node, Some(node(9)), "its key was proven");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_admitted_peer_that_announces_too_long_a_frame_is_disconnected() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[QUIC]).await;
    let (authority, _refusals) =
        Authority::new(chain("RJ1", &node(9)), world.countries(), world.policy(), world.timing.clone())
            .unwrap();
    let keypair = address::keypair(&[9; 32]);
    let transport = transport::build(&keypair, authority).unwrap();
    let peer = keypair.public().to_peer_id();
    let mut liar = Swarm::new(transport, Behaviour::default(), peer, Config::with_tokio_executor());
    let target = address::peer_of(&a.node).unwrap();
    let address = a.addresses[0].parse().unwrap();
    liar.dial(dial_opts::DialOpts::peer_id(target).addresses(vec![address]).build()).unwrap();
    let lie = tokio::spawn(async move {
        // Streams are held open, so that nothing but the lie can end the session.
        let mut held = Vec::new();
        let mut lied = false;
        loop {
            match liar.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                    liar.behaviour_mut().open(peer_id, connection_id);
                }
                SwarmEvent::Behaviour(event) => match event.what {
                    Happened::Opened(mut stream) => {
                        stream.write_all(&(limits::MAX_FRAME as u32 + 1).to_be_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                        held.push(stream);
                        lied = true;
                    }
                    Happened::Accepted(stream) => held.push(stream),
                    Happened::Failed(why) => panic!("{why}"),
                },
                SwarmEvent::ConnectionClosed { .. } => return lied,
                _ => {}
            }
        }
    });
    a.connected_to(node(9)).await;
    a.disconnected_from(node(9)).await;
    let refused = a.refusal().await;
    assert_eq!((refused.node, refused.reason), (Some(node(9)), Reason::FrameTooLong(limits::MAX_FRAME + 1)));
    assert!(timeout(PATIENCE, lie).await.unwrap().unwrap(), "it was the frame that ended it");
}

/// On one thread quinn's connection does not run before the gate drops it, see [`crate::p2p::gate`]. A server's
/// first handshake packet would be padded to 1,200 bytes (RFC 9000, section 14.1).
#[tokio::test]
async fn a_refused_quic_client_is_sent_a_close_and_no_handshake() {
    let mut a = World::new().start(1, "RYJ", &[QUIC]).await;
    let capture = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", capture.local_addr().unwrap().port());
    let mut transport = quic::tokio::Transport::new(quic::Config::new(&address::keypair(&[9; 32])));
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = tokio::spawn(transport.dial(address.parse().unwrap(), options).unwrap());
    let mut first = [0; 2048];
    let (length, _) = timeout(PATIENCE, capture.recv_from(&mut first)).await.unwrap().unwrap();
    dial.abort();

    let outside = UdpSocket::bind("127.0.66.1:0").await.unwrap();
    outside.send_to(&first[..length], socket(&a)).await.unwrap();
    assert_eq!(a.refusal().await.reason, Reason::CountryRefused(country("US")));
    let mut answer = [0; 2048];
    let (length, _) = timeout(PATIENCE, outside.recv_from(&mut answer)).await.unwrap().unwrap();
    assert!(length < 100, "{length} bytes");
}

/// Connects over QUIC without a border of its own, sends this on the first substream, and returns what comes
/// back before the node hangs up.
async fn answer_to(a: &Peer, sent: &[u8]) -> Vec<u8> {
    let mut transport = quic::tokio::Transport::new(quic::Config::new(&address::keypair(&[9; 32])));
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = transport.dial(a.addresses[0].parse().unwrap(), options).unwrap();
    let (_, mut muxer) = timeout(PATIENCE, dial).await.unwrap().unwrap();
    let opened = std::future::poll_fn(|cx| muxer.poll_outbound_unpin(cx)).await.unwrap();
    let mut stream = SubstreamBox::new(opened);
    stream.write_all(sent).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 64];
    while let Ok(Ok(got @ 1..)) = timeout(PATIENCE, Pin::new(&mut stream).read(&mut piece)).await {
        answer.extend_from_slice(&piece[..got]);
    }
    answer
}

fn socket(peer: &Peer) -> String {
    let port = peer.addresses[0].split('/').find_map(|part| part.parse::<u16>().ok()).unwrap();
    format!("127.0.0.1:{port}")
}
