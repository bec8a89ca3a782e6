//! The decoders of the node's own program.

use lanyard_crypto::{NodeId, cbor};
use lanyard_node::outside;
use serde_bytes::ByteBuf;

use crate::fixtures::{self, NOW};

/// What is said after the last bytes of a peer that is admitted, and nothing else.
const ADMITTED: u8 = 1;

/// A `node.toml`. Its text is the operator's own, and mistakes are shown with their values.
pub(crate) fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match outside::configuration(text) {
        Ok(()) => true,
        Err(why) => {
            assert!(!why.is_empty(), "a mistake has a reason");
            false
        }
    }
}

/// An exported audit log, whose only accepted form is the one that the program writes.
pub(crate) fn audit(bytes: &[u8]) -> bool {
    match outside::audit_export(&fixtures::network(), bytes) {
        Ok(rows) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert!(
                bytes.ends_with(b"\n") && rows + 2 <= lines,
                "an opening, a head, and a line for each row"
            );
            true
        }
        Err(why) => {
            assert!(!why.is_empty(), "a fault has a name");
            false
        }
    }
}

/// The certificate exchange at the border: the first byte tells who dialled, the rest is what the peer says.
pub(crate) fn admission(bytes: &[u8]) -> bool {
    let Some((first, bytes)) = bytes.split_first() else { return false };
    let (dials, trusts) = (first & 1 == 1, fixtures::trusts());
    // The key that the peer has proven before: one of a charter's node, or another.
    let proven = if first & 2 == 2 { NodeId::new([7; 32]) } else { trusts[1].node_id() };
    let own = trusts[0].chain(&trusts[0].node);
    let (outcome, said) = outside::border(&fixtures::network(), &own, proven, dials, bytes, NOW);
    let chain = cbor::to_vec(&own.iter().cloned().map(ByteBuf::from).collect::<Vec<_>>());
    let shown = said.windows(chain.len()).any(|window| window == chain);
    match outcome {
        Ok(trust) => {
            // Only a chain that the charter carries, and that names this very key, is admitted.
            assert_eq!((proven, &trust), (trusts[1].node_id(), &trusts[1].id));
            assert!(bytes.windows(trusts[1].node.der().len()).any(|der| der == trusts[1].node.der()));
            assert!(said.contains(&ADMITTED) && shown);
            true
        }
        Err(why) => {
            assert!(!why.is_empty() && why.len() <= 2_048, "{why}");
            // It is audited, whatever certificate the peer has shown.
            assert!(!why.contains(fixtures::PERSON), "{why}");
            // Who listens shows nothing before it has admitted.
            assert!(dials || !shown || said.first() == Some(&ADMITTED));
            false
        }
    }
}

/// A peer's stream of frames.
pub(crate) fn stream(bytes: &[u8]) -> bool {
    let (frames, end) = outside::stream(bytes);
    assert!(!end.is_empty(), "a stream ends for a reason");
    let mut framed = Vec::new();
    for frame in &frames {
        assert!(!frame.is_empty());
        framed.extend(u32::try_from(frame.len()).unwrap().to_be_bytes());
        framed.extend(frame);
    }
    // What was said, without the signs of life between frames, begins with these frames.
    let mut rest = bytes;
    let mut said = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((frame, after)) = after.split_at_checked(length) else { break };
        if length > 0 {
            said.extend(u32::try_from(length).unwrap().to_be_bytes());
            said.extend(frame);
        }
        rest = after;
    }
    assert_eq!(framed, said, "frames arrive as they were sent");
    !frames.is_empty()
}

/// An address of a node, from a charter, an entry or a configuration.
pub(crate) fn address(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let node = fixtures::trusts()[1].node_id();
    let (read, dialled) = outside::address(&node, text);
    read && dialled
}
