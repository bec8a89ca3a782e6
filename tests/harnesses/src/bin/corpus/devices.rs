//! What devices and their node say about PINs and wipes.

use lanyard_crypto::gateway::{
    PinAnswer, PinProof, PinRequest, PinSession, PinSetup, PinUpload, RevocationsResponse, WipedRequest,
};
use lanyard_crypto::record::WipeReceipt;
use lanyard_harness::fixtures::{self, DAY, NOW};

use crate::inputs::body;

const GENERATOR: [u8; 32] = [
    0xe2, 0xf2, 0xae, 0x0a, 0x6a, 0xbc, 0x4e, 0x71, 0xa8, 0x84, 0xa9, 0x61, 0xc5, 0x00, 0x51, 0x5f, 0x58,
    0xe3, 0x0b, 0x6a, 0xa5, 0x82, 0xdd, 0x8d, 0xb6, 0xa6, 0x59, 0x45, 0xe0, 0x8d, 0x2d, 0x76,
];

/// Bodies of the target `gateway`.
pub fn bodies() -> Vec<Vec<u8>> {
    let trust = &fixtures::trusts()[0];
    let receipt = WipeReceipt::sign(7, NOW, trust.device.fingerprint(), &trust.device_key);
    vec![
        // The generator of ristretto255 (RFC 9496, appendix A.1), which begins to set a PIN; and what begins to prove one.
        body(15, &PinRequest { message: GENERATOR.to_vec() }),
        body(15, &PinRequest { message: [GENERATOR, [7; 32], GENERATOR].concat() }),
        body(16, &PinAnswer { message: vec![1; 64], left: 9 }),
        body(
            17,
            &PinUpload {
                setup: vec![5; 16],
                upload: [&GENERATOR[..], &[2; 160]].concat(),
                session: vec![3; 32],
            },
        ),
        body(18, &PinProof { proof: vec![4; 64] }),
        body(19, &PinSession { until: NOW.plus_secs(DAY), idle_secs: 300, failed: 1, offline_secs: 0 }),
        body(20, &PinSetup { message: vec![1; 64], setup: vec![5; 16] }),
        body(23, &RevocationsResponse { list: trust.revocations(7, &[&trust.device]).der().to_vec() }),
        body(24, &WipedRequest { receipt: receipt.bytes().to_vec() }),
    ]
}
