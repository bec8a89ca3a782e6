//! X-Wing (draft-connolly-cfrg-xwing-kem) as a KEM of HPKE (RFC 9180, section 4).

use mls_rs_core::crypto::{HpkePublicKey, HpkeSecretKey};
use mls_rs_crypto_traits::{KemResult, KemType};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use x_wing::{Decapsulate, DecapsulationKey, Decapsulator, Encapsulate, EncapsulationKey, KeyExport};
use zeroize::Zeroizing;

use super::suite::SuiteError;

/// HPKE's id of the KEM (draft-connolly-cfrg-xwing-kem, section 7).
const KEM_ID: u16 = 0x647a;
/// Seeds are secret keys: 32 bytes.
const SEED_BYTES: usize = 32;

/// X-Wing as HPKE's KEM. Secret keys are 32-byte seeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct XWing;

impl XWing {
    /// `DeriveKeyPair` of the X-Wing draft.
    pub(super) fn derive(ikm: &[u8]) -> (HpkeSecretKey, HpkePublicKey) {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        let mut xof = Shake256::default();
        xof.update(ikm);
        xof.finalize_xof().read(seed.as_mut());
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; SEED_BYTES]) -> (HpkeSecretKey, HpkePublicKey) {
        let public = DecapsulationKey::from(*seed).encapsulation_key().to_bytes();
        (seed.to_vec().into(), public.to_vec().into())
    }
}

impl KemType for XWing {
    type Error = SuiteError;

    fn kem_id(&self) -> u16 {
        KEM_ID
    }

    fn generate_deterministic(&self, seed: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), SuiteError> {
        Ok(Self::derive(seed))
    }

    fn generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), SuiteError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self::from_seed(&seed))
    }

    fn public_key_validate(&self, key: &HpkePublicKey) -> Result<(), SuiteError> {
        EncapsulationKey::try_from(key.as_ref()).map(|_| ()).map_err(|_| SuiteError::Key)
    }

    fn encap(&self, remote: &HpkePublicKey) -> Result<KemResult, SuiteError> {
        let remote = EncapsulationKey::try_from(remote.as_ref()).map_err(|_| SuiteError::Key)?;
        let (ciphertext, shared) = remote.encapsulate();
        Ok(KemResult::new(shared.to_vec(), ciphertext.to_vec()))
    }

    fn decap(
        &self,
        ciphertext: &[u8],
        secret: &HpkeSecretKey,
        _public: &HpkePublicKey,
    ) -> Result<Vec<u8>, SuiteError> {
        let seed: &[u8; SEED_BYTES] = secret.as_ref().try_into().map_err(|_| SuiteError::Key)?;
        let ciphertext = ciphertext.try_into().map_err(|_| SuiteError::Ciphertext)?;
        Ok(DecapsulationKey::from(*seed).decapsulate(&ciphertext).to_vec())
    }

    fn seed_length_for_derive(&self) -> usize {
        SEED_BYTES
    }
}
