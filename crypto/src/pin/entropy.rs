//! Where randomness is drawn for PINs.

use opaque_ke::rand::{CryptoRng, Error as RandError, RngCore};

use super::exchange::PinError;

/// Fills with the operating system's randomness.
///
/// # Errors
/// [`PinError::Randomness`].
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), PinError> {
    getrandom::fill(bytes).map_err(|_| PinError::Randomness)
}

/// The operating system's randomness, for a library that asks for it by an older interface.
pub(super) struct Entropy(());

impl Entropy {
    pub(super) fn new() -> Result<Self, PinError> {
        fill(&mut [0; 1])?;
        Ok(Self(()))
    }
}

impl CryptoRng for Entropy {}

impl RngCore for Entropy {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("randomness that the system has given once does not end");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}
