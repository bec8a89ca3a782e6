//! The cipher suite: X-Wing, HKDF-SHA384, AES-256-GCM, SHA-384 and Ed25519.
//!
//! X-Wing (draft-connolly-cfrg-xwing-kem) is ML-KEM-768 and X25519 combined, so that what is recorded today
//! stays closed unless both fall. The primitives are those of MLS_128_MLKEM768X25519_AES256GCM_SHA384_Ed25519
//! (draft-ietf-mls-pq-ciphersuites), under the private-use id [`LANYARD`] until IANA assigns one.
//!
//! Deviations from what the libraries would do by themselves:
//! - `DeriveKeyPair(ikm)` is SHAKE256(ikm, 32), as the X-Wing draft says, without the labelled extraction of
//!   DHKEM (RFC 9180, section 4.1). With it, no other implementation would derive the same tree.
//! - Signatures are verified by the strict rules of ed25519-dalek: no small-order keys, no second encoding of
//!   a signature.
//! - No classical suite is offered at all, so that none can be negotiated.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use mls_rs_core::crypto::{
    CipherSuite, CipherSuiteProvider, CryptoProvider, HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey,
    SignaturePublicKey, SignatureSecretKey,
};
use mls_rs_core::error::{AnyError, IntoAnyError};
use mls_rs_crypto_hpke::context::{ContextR, ContextS};
use mls_rs_crypto_hpke::hpke::{Hpke, HpkeError};
use mls_rs_crypto_rustcrypto::aead::Aead;
use mls_rs_crypto_rustcrypto::kdf::Kdf;
use mls_rs_crypto_rustcrypto::mac::Hash;
use mls_rs_crypto_traits::{AeadType, KdfType, KemType};
use zeroize::Zeroizing;

use super::xwing::XWing;

/// The suite's id on the wire: private use (RFC 9420, section 17.1).
pub const LANYARD: CipherSuite = CipherSuite::new(0xF04E);
/// The id under which OpenMLS offers the same primitives: for interoperability tests alone.
pub const OPENMLS_DRAFT: CipherSuite = CipherSuite::new(0x004E);

const SEED_BYTES: usize = 32;

/// What a primitive refuses.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The peer: not a key of this suite.
    #[error("not a key of this cipher suite")]
    Key,
    /// The peer: not an X-Wing ciphertext.
    #[error("not an X-Wing ciphertext")]
    Ciphertext,
    /// The peer: the signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// This machine: no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// The peer: HPKE could not open or seal.
    #[error("HPKE: {0:?}")]
    Hpke(HpkeError),
    /// A symmetric primitive failed.
    #[error("{0}")]
    Symmetric(AnyError),
}

impl IntoAnyError for SuiteError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl From<HpkeError> for SuiteError {
    fn from(error: HpkeError) -> Self {
        Self::Hpke(error)
    }
}

/// The one suite, as the provider that MLS asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    id: CipherSuite,
}

impl Suite {
    /// Under the id that conversations use.
    pub const fn new() -> Self {
        Self { id: LANYARD }
    }

    /// The same primitives under another id, for interoperability tests.
    pub const fn with_id(id: CipherSuite) -> Self {
        Self { id }
    }

    /// Its id.
    pub const fn id(&self) -> CipherSuite {
        self.id
    }

    /// The primitives.
    pub fn primitives(&self) -> Primitives {
        Primitives::new(self.id)
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

impl CryptoProvider for Suite {
    type CipherSuiteProvider = Primitives;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        vec![self.id]
    }

    fn cipher_suite_provider(&self, id: CipherSuite) -> Option<Primitives> {
        (id == self.id).then(|| Primitives::new(id))
    }
}

/// The suite's primitives. Signature secret keys are the 32-byte seeds of RFC 8032.
#[derive(Clone)]
pub struct Primitives {
    id: CipherSuite,
    hpke: Hpke<XWing, Kdf, Aead>,
    kdf: Kdf,
    aead: Aead,
    hash: Hash,
}

impl Primitives {
    fn new(id: CipherSuite) -> Self {
        // The library selects its symmetric parts by suites of RFC 9420: these two stand for SHA-384 and
        // AES-256-GCM.
        let (sha384, aes256) = (CipherSuite::P384_AES256, CipherSuite::P384_AES256);
        let kdf = Kdf::new(sha384).expect("suite 7 of RFC 9420 names HKDF-SHA384");
        let aead = Aead::new(aes256).expect("suite 7 of RFC 9420 names AES-256-GCM");
        let hash = Hash::new(sha384).expect("suite 7 of RFC 9420 names SHA-384");
        Self { id, hpke: Hpke::new(XWing, kdf, Some(aead)), kdf, aead, hash }
    }
}

impl CipherSuiteProvider for Primitives {
    type Error = SuiteError;
    type HpkeContextS = ContextS<Kdf, Aead>;
    type HpkeContextR = ContextR<Kdf, Aead>;

    fn cipher_suite(&self) -> CipherSuite {
        self.id
    }

    fn hash(&self, data: &[u8]) -> Result<Vec<u8>, SuiteError> {
        Ok(self.hash.hash(data))
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, SuiteError> {
        self.hash.mac(key, data).map_err(|_| SuiteError::Key)
    }

    fn aead_seal(
        &self,
        key: &[u8],
        data: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Vec<u8>, SuiteError> {
        self.aead.seal(key, data, aad, nonce).map_err(symmetric)
    }

    fn aead_open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
        self.aead.open(key, ciphertext, aad, nonce).map(Zeroizing::new).map_err(symmetric)
    }

    fn aead_key_size(&self) -> usize {
        self.aead.key_size()
    }

    fn aead_nonce_size(&self) -> usize {
        self.aead.nonce_size()
    }

    fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
        self.kdf.extract(salt, ikm).map(Zeroizing::new).map_err(symmetric)
    }

    fn kdf_expand(&self, prk: &[u8], info: &[u8], len: usize) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
        self.kdf.expand(prk, info, len).map(Zeroizing::new).map_err(symmetric)
    }

    fn kdf_extract_size(&self) -> usize {
        self.kdf.extract_size()
    }

    fn hpke_seal(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, SuiteError> {
        Ok(self.hpke.seal(key, info, None, aad, plaintext)?)
    }

    fn hpke_seal_psk(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        plaintext: &[u8],
        psk: HpkePsk<'_>,
    ) -> Result<HpkeCiphertext, SuiteError> {
        Ok(self.hpke.seal(key, info, Some(psk), aad, plaintext)?)
    }

    fn hpke_open(
        &self,
        ciphertext: &HpkeCiphertext,
        secret: &HpkeSecretKey,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
        Ok(self.hpke.open(ciphertext, secret, key, info, None, aad)?)
    }

    fn hpke_open_psk(
        &self,
        ciphertext: &HpkeCiphertext,
        secret: &HpkeSecretKey,
        key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        psk: HpkePsk<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, SuiteError> {
        Ok(self.hpke.open(ciphertext, secret, key, info, Some(psk), aad)?)
    }

    fn hpke_setup_s(
        &self,
        key: &HpkePublicKey,
        info: &[u8],
    ) -> Result<(Vec<u8>, Self::HpkeContextS), SuiteError> {
        Ok(self.hpke.setup_sender(key, info, None)?)
    }

    fn hpke_setup_r(
        &self,
        encapsulated: &[u8],
        secret: &HpkeSecretKey,
        key: &HpkePublicKey,
        info: &[u8],
    ) -> Result<Self::HpkeContextR, SuiteError> {
        Ok(self.hpke.setup_receiver(encapsulated, secret, key, info, None)?)
    }

    // Not `self.hpke.derive`, which takes the DHKEM step first: see the module.
    fn kem_derive(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), SuiteError> {
        Ok(XWing::derive(ikm))
    }

    fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), SuiteError> {
        XWing.generate()
    }

    fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Result<(), SuiteError> {
        XWing.public_key_validate(key)
    }

    fn random_bytes(&self, out: &mut [u8]) -> Result<(), SuiteError> {
        Ok(getrandom::fill(out)?)
    }

    fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), SuiteError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(seed.as_mut())?;
        let public = SigningKey::from_bytes(&seed).verifying_key();
        Ok((seed.to_vec().into(), public.to_bytes().to_vec().into()))
    }

    fn signature_key_derive_public(
        &self,
        secret: &SignatureSecretKey,
    ) -> Result<SignaturePublicKey, SuiteError> {
        Ok(signing_key(secret)?.verifying_key().to_bytes().to_vec().into())
    }

    fn sign(&self, secret: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, SuiteError> {
        Ok(signing_key(secret)?.sign(data).to_bytes().to_vec())
    }

    fn verify(&self, public: &SignaturePublicKey, signature: &[u8], data: &[u8]) -> Result<(), SuiteError> {
        let public = public.as_ref().try_into().map_err(|_| SuiteError::Key)?;
        let public = VerifyingKey::from_bytes(public).map_err(|_| SuiteError::Key)?;
        let signature = Signature::from_slice(signature).map_err(|_| SuiteError::Signature)?;
        public.verify_strict(data, &signature).map_err(|_| SuiteError::Signature)
    }
}

fn signing_key(secret: &SignatureSecretKey) -> Result<SigningKey, SuiteError> {
    let seed = secret.as_ref().try_into().map_err(|_| SuiteError::Key)?;
    Ok(SigningKey::from_bytes(seed))
}

fn symmetric<E: IntoAnyError>(error: E) -> SuiteError {
    SuiteError::Symmetric(error.into_any_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_suite_is_offered() {
        assert_eq!(Suite::new().supported_cipher_suites(), [LANYARD]);
        for id in 1..=7 {
            assert!(Suite::new().cipher_suite_provider(CipherSuite::new(id)).is_none());
        }
        assert!(Suite::new().cipher_suite_provider(OPENMLS_DRAFT).is_none());
    }

    #[test]
    fn sizes_are_those_of_the_named_primitives() {
        let suite = Suite::new().primitives();
        assert_eq!((suite.aead_key_size(), suite.aead_nonce_size(), suite.kdf_extract_size()), (32, 12, 48));
        let (secret, public) = suite.kem_derive(b"seed").unwrap();
        assert_eq!((secret.len(), public.len()), (32, 1216));
    }

    #[test]
    fn hpke_opens_what_it_sealed_and_nothing_else() {
        let suite = Suite::new().primitives();
        let (secret, public) = suite.kem_generate().unwrap();
        let mut sealed = suite.hpke_seal(&public, b"info", Some(b"aad"), b"text").unwrap();
        let opened = suite.hpke_open(&sealed, &secret, &public, b"info", Some(b"aad")).unwrap();
        assert_eq!(opened.as_slice(), b"text");
        sealed.ciphertext[0] ^= 1;
        assert!(suite.hpke_open(&sealed, &secret, &public, b"info", Some(b"aad")).is_err());
        sealed.kem_output.pop();
        assert!(suite.hpke_open(&sealed, &secret, &public, b"info", Some(b"aad")).is_err());
    }

    #[test]
    fn signatures_are_strict() {
        let suite = Suite::new().primitives();
        let (secret, public) = suite.signature_key_generate().unwrap();
        let signature = suite.sign(&secret, b"data").unwrap();
        suite.verify(&public, &signature, b"data").unwrap();
        assert!(suite.verify(&public, &signature, b"date").is_err());
        // The identity point is a small-order key, under which a zero signature holds by the lax rules.
        let mut identity = vec![0; 32];
        identity[0] = 1;
        let mut forged = identity.clone();
        forged.extend([0; 32]);
        assert!(suite.verify(&identity.into(), &forged, b"anything").is_err());
    }
}
