//! Frames between two nodes.

use super::*;

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn frames_go_both_ways_over_both_transports() {
    for listen in [QUIC, TCP] {
        let (mut a, mut b) = pair(&World::new(), listen).await;
        let large = 3 * 512 * 1024;
        for (seed, length) in [(1, 1), (2, large), (3, limits::MAX_FRAME), (4, 100)] {
            let (to_b, to_a) = (pattern(length, seed), pattern(length, seed + 100));
            a.handle.send(&b.node, to_b.clone()).await.unwrap();
            b.handle.send(&a.node, to_a.clone()).await.unwrap();
            assert!(b.frame().await == (a.node, to_b), "{length} bytes over {listen}");
            assert!(a.frame().await == (b.node, to_a), "{length} bytes over {listen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_frames_arrive_in_order() {
    let (a, mut b) = pair(&World::new(), TCP).await;
    let sender = tokio::spawn(async move {
        for number in 0..2_000u32 {
            a.handle.send(&node(2), number.to_be_bytes().to_vec()).await.unwrap();
        }
        a
    });
    for number in 0..2_000u32 {
        assert_eq!(b.frame().await.1, number.to_be_bytes());
    }
    sender.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_receiver_that_takes_nothing_holds_the_sender_and_loses_nothing() {
    for listen in [QUIC, TCP] {
        let (a, mut b) = pair(&World::new(), listen).await;
        let frame = |number: u32| [&number.to_be_bytes()[..], &[7; 1024 * 1024]].concat();
        // What can be under way: the receiver's events and windows, and the sender's queue.
        let most = 1_000;
        let (mut sent, mut held) = (0, 0);
        while held < 50 {
            match a.handle.try_send(&b.node, frame(sent)) {
                Ok(()) => (sent, held) = (sent + 1, 0),
                Err(SendError::Full) => {
                    held += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(other) => panic!("{other}"),
            }
            assert!(sent < most, "nothing holds the sender");
        }
        assert!(sent > limits::EVENTS as u32 / 2, "frames flow until then");
        for number in 0..sent {
            assert!(b.frame().await.1 == frame(number), "frame {number} of {sent}");
        }
        a.handle.send(&b.node, vec![1]).await.unwrap();
        assert_eq!(b.frame().await.1, [1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn wrong_lengths_and_absent_peers_are_refused_to_the_caller() {
    let (a, b) = pair(&World::new(), QUIC).await;
    assert_eq!(a.handle.send(&b.node, Vec::new()).await, Err(SendError::Length(0)));
    let long = limits::MAX_FRAME + 1;
    assert_eq!(a.handle.send(&b.node, vec![0; long]).await, Err(SendError::Length(long)));
    assert_eq!(a.handle.try_send(&b.node, vec![0; long]), Err(SendError::Length(long)));
    assert_eq!(a.handle.send(&node(8), vec![0]).await, Err(SendError::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_caller_that_waits_learns_of_the_disconnection() {
    let (a, b) = pair(&World::new(), QUIC).await;
    let handle = a.handle.clone();
    let waiting = tokio::spawn(async move {
        loop {
            if let Err(error) = handle.send(&node(2), vec![0; limits::MAX_FRAME]).await {
                return error;
            }
        }
    });
    // The receiver takes no events, so that the sender comes to wait.
    while a.handle.try_send(&b.node, vec![0; limits::MAX_FRAME]) != Err(SendError::Full) {
        tokio::task::yield_now().await;
    }
    a.handle.disconnect(b.node, "the test is over").await.unwrap();
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap(), SendError::NotConnected);
}
