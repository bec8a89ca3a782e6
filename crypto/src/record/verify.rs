//! From [`Decoded`] to [`Verified`]: signatures, the chain behind each signer, and the signer's right to the kind.
//!
//! Validity in time is asked for at the moment that the record states it was issued (the engine refuses one that states a
//! moment in the future), so that a replica which is added late takes what the others took while the certificate was
//! valid. Revocation is asked for now, whatever the record states: who stole a key can also backdate. Only what one's own node has dated
//! is judged by the date that it gave ([`verify_accepted`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use ed25519_dalek::{Signature, VerifyingKey, verify_batch};

use super::cose::{AuthoritySignature, Signatures};
use super::{Body, Decoded, Header, Kind};
use crate::charter::CharterError;
use crate::network::{Identity, IdentityError, Network};
use crate::x509::{Certificate, Purpose, RevocationList};
use crate::{Fingerprint, NetworkId, NodeId, RecordId, Timestamp, TrustId};

/// Batches beyond this gain little: 76,000/s against 27,000/s one by one, at 256 in trials.
const BATCH_MAX: usize = 256;

/// Why nobody vouches for a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Of another network.
    #[error("the record is of another network")]
    OtherNetwork,
    /// Not signed by who it says.
    #[error("the signature does not verify")]
    Signature,
    /// The signer's certificate says nothing here and now.
    #[error("signer: {0}")]
    Signer(IdentityError),
    /// A key of this purpose does not sign this kind.
    #[error("a {purpose} key may not sign a {kind}")]
    Right {
        /// The kind of the record.
        kind: &'static str,
        /// The purpose of the signer's certificate.
        purpose: String,
    },
    /// What an entry or a CRL carries does not hold.
    #[error("content: {0}")]
    Content(IdentityError),
    /// An entry of one trust, signed by another's registrar.
    #[error("trust {signer} may not speak for {subject}")]
    OtherTrust {
        /// The signer's trust.
        signer: TrustId,
        /// The trust that the content is about.
        subject: TrustId,
    },
    /// A charter that too few signed, or that does not follow the one in force.
    #[error(transparent)]
    Charter(#[from] CharterError),
}

/// Who vouches for a verified record.
#[derive(Clone, Debug)]
pub enum Signer {
    /// The network's authorities: a charter.
    Authorities,
    /// A trust's root, or its registrar: a CRL or an entry.
    Registrar(TrustId),
    /// A trust's node.
    Node {
        /// The trust that certified it.
        trust: TrustId,
        /// The node.
        node: NodeId,
    },
}

impl Signer {
    /// The trust; none for the authorities.
    pub fn trust(&self) -> Option<&TrustId> {
        match self {
            Signer::Authorities => None,
            Signer::Registrar(trust) | Signer::Node { trust, .. } => Some(trust),
        }
    }
}

/// A record whose signatures hold and whose signer may sign its kind. Made only by [`verify`], [`verify_all`] and [`verify_accepted`].
#[derive(Clone, Debug)]
pub struct Verified {
    decoded: Decoded,
    signer: Signer,
    content: Content,
    network_revision: u64,
}

/// What was parsed on the way, so that nothing is parsed twice.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Plain,
    Crl { issuer: Certificate, list: RevocationList },
    Entry { subject: Certificate },
}

impl Verified {
    /// The record's id.
    pub fn id(&self) -> RecordId {
        self.decoded.id()
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &Arc<[u8]> {
        self.decoded.bytes()
    }

    /// Who keeps it, and for how long.
    pub fn header(&self) -> &Header {
        self.decoded.header()
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        self.decoded.body()
    }

    /// The record without its guarantee.
    pub fn decoded(&self) -> &Decoded {
        &self.decoded
    }

    /// The [`Network::revision`] under which it was verified.
    pub fn network_revision(&self) -> u64 {
        self.network_revision
    }

    /// Who vouches for it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// Of an entry: the holder's certificate.
    pub fn subject(&self) -> Option<&Certificate> {
        match &self.content {
            Content::Entry { subject } => Some(subject),
            Content::Plain | Content::Crl { .. } => None,
        }
    }

    /// Of a CRL record: the issuer's certificate and the list.
    pub fn revocations(&self) -> Option<(&Certificate, &RevocationList)> {
        match &self.content {
            Content::Crl { issuer, list } => Some((issuer, list)),
            Content::Plain | Content::Entry { .. } => None,
        }
    }
}

/// Verifies one record.
pub fn verify(record: Decoded, network: &Network) -> Result<Verified, VerifyError> {
    let prepared = Prepared::new(record, network)?;
    if !prepared.lines.iter().all(Line::holds) {
        return Err(VerifyError::Signature);
    }
    Ok(prepared.verified)
}

/// The same, of a record that one's own node has accepted: who signed it counts as they did when it was issued, whatever was revoked
/// since. A node refuses what comes to it after the revocation, so that a stolen key cannot backdate.
pub fn verify_accepted(record: Decoded, network: &Network) -> Result<Verified, VerifyError> {
    let prepared = Prepared::by(record, network, Network::identity_as_of)?;
    if !prepared.lines.iter().all(Line::holds) {
        return Err(VerifyError::Signature);
    }
    Ok(prepared.verified)
}

/// Verifies many records, their signatures in batches; the results are in the order of the records. A batch that fails is
/// halved until each bad signature is found, so that one cannot take others down with it.
pub fn verify_all(records: Vec<Decoded>, network: &Network) -> Vec<Result<Verified, VerifyError>> {
    let prepared: Vec<_> = records.into_iter().map(|r| Prepared::new(r, network)).collect();
    let lines: Vec<(usize, &Line)> = prepared
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.iter().flat_map(|p| &p.lines).map(move |line| (i, line)))
        .collect();
    let mut bad = BTreeSet::new();
    for batch in lines.chunks(BATCH_MAX) {
        find_bad(batch, &mut bad);
    }
    let outcome = |(i, p): (usize, Result<Prepared, VerifyError>)| match p {
        Ok(_) if bad.contains(&i) => Err(VerifyError::Signature),
        Ok(p) => Ok(p.verified),
        Err(e) => Err(e),
    };
    prepared.into_iter().enumerate().map(outcome).collect()
}

fn find_bad(lines: &[(usize, &Line)], bad: &mut BTreeSet<usize>) {
    if let [(record, line)] = lines {
        if !line.holds() {
            bad.insert(*record);
        }
        return;
    }
    let messages: Vec<&[u8]> = lines.iter().map(|(_, l)| l.signed.as_slice()).collect();
    let signatures: Vec<Signature> = lines.iter().map(|(_, l)| l.signature).collect();
    let keys: Vec<VerifyingKey> = lines.iter().map(|(_, l)| l.key).collect();
    if verify_batch(&messages, &signatures, &keys).is_err() {
        let (left, right) = lines.split_at(lines.len() / 2);
        find_bad(left, bad);
        find_bad(right, bad);
    }
}

/// A record that is verified if its lines hold.
struct Prepared {
    verified: Verified,
    lines: Vec<Line>,
}

/// One signature to check.
struct Line {
    key: VerifyingKey,
    signature: Signature,
    signed: Vec<u8>,
}

impl Line {
    /// None if the key is no point on the curve, or one of small order (RFC 8032, section 5.1.7, and strict rules).
    fn new(key: &[u8; 32], signature: &[u8; 64], signed: Vec<u8>) -> Option<Self> {
        let key = VerifyingKey::from_bytes(key).ok().filter(|k| !k.is_weak())?;
        Some(Self { key, signature: Signature::from_bytes(signature), signed })
    }

    fn holds(&self) -> bool {
        self.key.verify_strict(&self.signed, &self.signature).is_ok()
    }
}

impl Prepared {
    fn new(record: Decoded, network: &Network) -> Result<Self, VerifyError> {
        Self::by(record, network, Network::identity)
    }

    /// `identity` tells whose a node's certificate is.
    fn by(record: Decoded, network: &Network, identity: Identify) -> Result<Self, VerifyError> {
        if record.header().network.is_some_and(|n| n != network.id()) {
            return Err(VerifyError::OtherNetwork);
        }
        let Signatures::One { signer, signature, payload_len } = record.signatures else {
            return Self::charter(record, network);
        };
        let line = |certificate: &Certificate| {
            let signed = record.signed(signer, payload_len);
            let line = Line::new(certificate.public_key(), &signature, signed);
            line.map(|l| vec![l]).ok_or(VerifyError::Signature)
        };
        let issued = record.header().issued;
        match record.body() {
            Body::Charter(_) => unreachable!("decoding lets only a COSE_Sign be a charter"),
            Body::Crl(crl) => {
                let (issuer, list) = network.check_crl(crl).map_err(VerifyError::Content)?;
                if issuer.fingerprint() != signer {
                    return Err(VerifyError::Right {
                        kind: Kind::Crl.name(),
                        purpose: "different issuer's".into(),
                    });
                }
                let (trust, lines) = (issuer.subject().trust.clone(), line(&issuer)?);
                Ok(Self::done(
                    network,
                    record,
                    Signer::Registrar(trust),
                    Content::Crl { issuer, list },
                    lines,
                ))
            }
            Body::Entry(entry) => {
                let registrar = Certificate::parse(&entry.chain[1])
                    .map_err(|e| VerifyError::Content(IdentityError::NotAChain(e.to_string())))?;
                if registrar.fingerprint() != signer {
                    return Err(VerifyError::Right {
                        kind: Kind::Entry.name(),
                        purpose: "different registrar's".into(),
                    });
                }
                let purpose = Certificate::parse(&entry.chain[0])
                    .map_err(|e| VerifyError::Content(IdentityError::NotAChain(e.to_string())))?
                    .purpose();
                if !matches!(purpose, Purpose::Node | Purpose::Device | Purpose::Officer) {
                    return Err(VerifyError::Right {
                        kind: Kind::Entry.name(),
                        purpose: purpose.to_string(),
                    });
                }
                let Identity { trust, certificate: subject } =
                    network.verify_chain(&entry.chain, purpose, issued).map_err(VerifyError::Content)?;
                let lines = line(&registrar)?;
                Ok(Self::done(network, record, Signer::Registrar(trust), Content::Entry { subject }, lines))
            }
            Body::Envelope(_) | Body::Tombstone(_) | Body::Receipt(_) | Body::Head(_) => {
                let identity = node_identity(network, identity, (&signer, issued), record.body().kind())?;
                let lines = line(&identity.certificate)?;
                let signer = Signer::Node { node: identity.node(), trust: identity.trust };
                Ok(Self::done(network, record, signer, Content::Plain, lines))
            }
        }
    }

    fn charter(record: Decoded, network: &Network) -> Result<Self, VerifyError> {
        let (Body::Charter(charter), Signatures::Many { lines, .. }) = (record.body(), &record.signatures)
        else {
            unreachable!("decoding lets only a charter be a COSE_Sign")
        };
        charter.check()?;
        if record.statement() != network.charter_id() {
            let first = record.header().network.is_none();
            if first && NetworkId::new(*record.statement().as_bytes()) != network.id() {
                return Err(CharterError::OtherNetwork { version: charter.version }.into());
            }
            network.charter().check_follows(network.charter_id(), charter)?;
            check_signed(network.charter(), charter, lines)?;
        }
        check_signed(charter, charter, lines)?;
        Ok(Self::done(network, record, Signer::Authorities, Content::Plain, Vec::new()))
    }

    fn done(network: &Network, decoded: Decoded, signer: Signer, content: Content, lines: Vec<Line>) -> Self {
        let network_revision = network.revision();
        Self { verified: Verified { decoded, signer, content, network_revision }, lines }
    }
}

/// How a certificate is looked up: [`Network::identity`], or as of when the record was issued.
type Identify = fn(&Network, &Fingerprint, Timestamp) -> Result<Identity, IdentityError>;

/// Whose certificate it is, if a node's, valid when the record was issued.
fn node_identity(
    network: &Network,
    identify: Identify,
    (signer, issued): (&Fingerprint, Timestamp),
    kind: Kind,
) -> Result<Identity, VerifyError> {
    let no_right = |purpose: Purpose| VerifyError::Right { kind: kind.name(), purpose: purpose.to_string() };
    let identity = identify(network, signer, issued)
        .map_err(|why| network.authority(signer).map_or(VerifyError::Signer(why), no_right))?;
    let purpose = identity.certificate.purpose();
    if purpose == Purpose::Node { Ok(identity) } else { Err(no_right(purpose)) }
}

/// The node whose signature this is over what it stated of this network at this moment.
pub(super) fn verify_node_signature(
    network: &Network,
    (of, issued): (Option<NetworkId>, Timestamp),
    signer: &Fingerprint,
    signature: &[u8; 64],
    signed: Vec<u8>,
) -> Result<Signer, VerifyError> {
    if of != Some(network.id()) {
        return Err(VerifyError::OtherNetwork);
    }
    let identity = node_identity(network, Network::identity, (signer, issued), Kind::Receipt)?;
    let line = Line::new(identity.certificate.public_key(), signature, signed);
    if !line.is_some_and(|line| line.holds()) {
        return Err(VerifyError::Signature);
    }
    Ok(Signer::Node { node: identity.node(), trust: identity.trust })
}

/// Counts only signatures that hold; one that does not is as if it were not there.
fn check_signed(
    rules: &crate::charter::Charter,
    offered: &crate::charter::Charter,
    lines: &[AuthoritySignature],
) -> Result<(), CharterError> {
    let holds = |l: &&AuthoritySignature| {
        Line::new(&l.key, &l.signature, l.signed.clone()).is_some_and(|l| l.holds())
    };
    let signers = lines.iter().filter(holds).map(|l| l.key).collect();
    rules.check_signed(&signers, offered.version)
}

/// Opens a charter that the operator trusts, as the start of all trust: it must be signed under its own rules.
pub fn open_trusted(record: &Decoded) -> Result<Network, VerifyError> {
    let (Body::Charter(charter), Signatures::Many { lines, .. }) = (record.body(), &record.signatures) else {
        return Err(VerifyError::Right { kind: record.body().kind().name(), purpose: "authority's".into() });
    };
    check_signed(charter, charter, lines)?;
    Ok(Network::new(record.statement(), record.header(), charter, None)?)
}
