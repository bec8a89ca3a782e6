//! What a charter makes trustworthy: members' chains, and what their registrars have revoked.
//!
//! [`Network`] is a snapshot: the engine builds it from what is stored and replaces it when a charter, a CRL or an entry
//! arrives; threads that verify signatures share it. Chains are verified once, when they are learnt; what can change with time
//! (validity, revocation, membership) is checked at every use.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::charter::Charter;
use crate::mls::{ChainVerifier, DeviceIdentity, PersonKey};
use crate::record::{Body, Crl, Decoded, Entry, Header};
use crate::residency::Country;
use crate::x509::{self, Certificate, ChainError, CrlPolicy, Parsed, Purpose, RevocationList};
use crate::{Fingerprint, NetworkId, NodeId, RecordId, Timestamp, TrustId};

/// Why a certificate says nothing in this network at this moment. Always the fault of who shows it, or of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The charter is past its expiry: nobody is admitted until there is a next one.
    #[error("the charter expired: the network's authorities must sign the next version")]
    CharterExpired,
    /// The trust is not a member.
    #[error("trust {0} is not in the charter")]
    UnknownTrust(TrustId),
    /// Nobody has shown the certificate with this fingerprint yet.
    #[error("the signer's certificate is not known here (yet)")]
    UnknownCertificate(Fingerprint),
    /// The chain does not hold.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Not a certificate at all, or the wrong number of them.
    #[error("not a certificate chain: {0}")]
    NotAChain(String),
    /// A node that stands outside the charter's countries, or that states none.
    #[error("the certificate states the country {0}; the charter permits {1}")]
    Country(String, String),
}

/// Who stands behind a certificate, at the moment at which it was checked.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The member trust that certified it.
    pub trust: TrustId,
    /// The certificate.
    pub certificate: Certificate,
}

impl Identity {
    /// The certificate's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// The node whose key the certificate holds; meaningful for [`Purpose::Node`].
    pub fn node(&self) -> NodeId {
        NodeId::new(*self.certificate.public_key())
    }
}

/// A chain whose signatures hold up to a member's root.
#[derive(Clone, Debug)]
struct Known {
    leaf: Certificate,
    registrar: Certificate,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Network {
    id: NetworkId,
    charter_id: RecordId,
    charter: Charter,
    expires: Timestamp,
    roots: BTreeMap<TrustId, Certificate>,
    known: BTreeMap<Fingerprint, Known>,
    revocations: BTreeMap<Fingerprint, RevocationList>,
    revision: u64,
    floor: Timestamp,
    parsed: Arc<Parsed>,
}

impl Network {
    /// The network under this charter, whose signatures the caller has verified; `id` is its [`Decoded::statement`]. Everything learnt under `earlier` is
    /// checked again under the new roots, and dropped if it no longer holds.
    pub fn new(
        id: RecordId,
        header: &Header,
        charter: &Charter,
        earlier: Option<&Network>,
    ) -> Result<Self, crate::charter::CharterError> {
        let roots = charter.check()?.into_iter().map(|root| (root.subject().trust.clone(), root)).collect();
        let mut network = Self {
            id: header.network.unwrap_or(NetworkId::new(*id.as_bytes())),
            charter_id: id,
            charter: charter.clone(),
            expires: header.expires,
            roots,
            known: BTreeMap::new(),
            revocations: BTreeMap::new(),
            revision: earlier.map_or(0, |e| e.revision + 1),
            floor: earlier.map_or(Timestamp::from_secs(0), |e| e.floor),
            parsed: earlier.map(|e| e.parsed.clone()).unwrap_or_default(),
        };
        for known in earlier.iter().flat_map(|e| e.known.values()) {
            let from = known.leaf.not_before().max(known.registrar.not_before());
            if network.holds(&known.leaf, &known.registrar, known.leaf.purpose(), from).is_ok() {
                network.known.insert(known.leaf.fingerprint(), known.clone());
            }
        }
        let issuers = |e: &Network| e.revocations.clone();
        network.revocations = earlier.map(issuers).unwrap_or_default();
        Ok(network)
    }

    /// The [`Decoded::statement`] of the network's first charter.
    pub fn id(&self) -> NetworkId {
        self.id
    }

    /// Grows with whatever may take trust away: a charter, or a revocation list. A record that was verified under another revision
    /// of the same network has to be verified again.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The charter in force.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Its [`Decoded::statement`].
    pub fn charter_id(&self) -> RecordId {
        self.charter_id
    }

    /// When the charter ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The moment at which it is judged who is let in (certificates, the charter, sessions) on a machine whose clock says `clock`: never
    /// before [`Network::floor`], so that a clock that is behind opens nothing that has ended. What a *record* was when it was issued is
    /// judged at that moment instead.
    pub fn time(&self, clock: Timestamp) -> Timestamp {
        clock.max(self.floor)
    }

    /// The true time has certainly reached this moment, by what others have signed; 0 if nobody said anything.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// By how many seconds a machine's clock is behind [`Network::floor`]; 0 if it is not.
    pub fn behind_secs(&self, clock: Timestamp) -> u64 {
        self.floor.as_secs().saturating_sub(clock.as_secs())
    }

    /// Says what [`Network::floor`] is from now on.
    pub fn set_floor(&mut self, floor: Timestamp) {
        self.floor = floor;
    }

    /// A member's root certificate.
    pub fn root(&self, trust: &TrustId) -> Option<&Certificate> {
        self.roots.get(trust)
    }

    /// Whether nodes may stand in this country.
    pub fn permits(&self, country: Country) -> bool {
        self.charter.countries.binary_search(&country).is_ok()
    }

    /// Verifies a chain (leaf and registrar, DER) in full, at this moment.
    pub fn verify_chain<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let (leaf, registrar) = self.parse_chain(chain)?;
        self.holds(&leaf, &registrar, purpose, at)?;
        self.now_valid(&Known { leaf, registrar }, at)
    }

    /// As [`Network::verify_chain`], of what was accepted and dated at the moment `at` by somebody who could tell: what was revoked
    /// since does not undo it.
    pub fn verify_chain_as_of<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let (leaf, registrar) = self.parse_chain(chain)?;
        self.holds_by(&leaf, &registrar, purpose, (CrlPolicy::Dated, at))?;
        self.valid_by(&Known { leaf, registrar }, (CrlPolicy::Dated, at))
    }

    fn parse_chain<C: AsRef<[u8]>>(&self, chain: &[C]) -> Result<(Certificate, Certificate), IdentityError> {
        let parse = |der: &C| {
            self.parsed.certificate(der.as_ref()).map_err(|e| IdentityError::NotAChain(e.to_string()))
        };
        match chain {
            [leaf, registrar] => Ok((parse(leaf)?, parse(registrar)?)),
            _ => Err(IdentityError::NotAChain(format!(
                "2 certificates are needed, {} were shown",
                chain.len()
            ))),
        }
    }

    /// Remembers a chain whose holder may sign records. Validity in time is not asked for here but at each use.
    pub fn learn<C: AsRef<[u8]>>(&mut self, chain: &[C]) -> Result<Certificate, IdentityError> {
        self.learn_by(chain, CrlPolicy::IfHeld)
    }

    /// The same of who has signed what [`crate::record::verify_accepted`] is to look at, although it may be revoked by now.
    pub fn learn_accepted<C: AsRef<[u8]>>(&mut self, chain: &[C]) -> Result<Certificate, IdentityError> {
        self.learn_by(chain, CrlPolicy::Dated)
    }

    fn learn_by<C: AsRef<[u8]>>(
        &mut self,
        chain: &[C],
        policy: CrlPolicy,
    ) -> Result<Certificate, IdentityError> {
        let (leaf, registrar) = self.parse_chain(chain)?;
        let from = leaf.not_before().max(registrar.not_before());
        self.holds_by(&leaf, &registrar, leaf.purpose(), (policy, from))?;
        self.known.insert(leaf.fingerprint(), Known { leaf: leaf.clone(), registrar });
        Ok(leaf)
    }

    /// Whose certificate has this fingerprint, if it was learnt and is valid and unrevoked at this moment.
    pub fn identity(&self, fingerprint: &Fingerprint, at: Timestamp) -> Result<Identity, IdentityError> {
        let known = self.known.get(fingerprint).ok_or(IdentityError::UnknownCertificate(*fingerprint))?;
        self.now_valid(known, at)
    }

    /// As [`Network::identity`], of what was accepted and dated then: see [`Network::verify_chain_as_of`].
    pub fn identity_as_of(
        &self,
        fingerprint: &Fingerprint,
        at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let known = self.known.get(fingerprint).ok_or(IdentityError::UnknownCertificate(*fingerprint))?;
        self.valid_by(known, (CrlPolicy::Dated, at))
    }

    /// What kind of authority has the certificate with this fingerprint, if it is a member's root or a registrar of a chain
    /// that was learnt.
    pub fn authority(&self, fingerprint: &Fingerprint) -> Option<Purpose> {
        if self.roots.values().any(|root| root.fingerprint() == *fingerprint) {
            return Some(Purpose::Root);
        }
        self.known.values().any(|k| k.registrar.fingerprint() == *fingerprint).then_some(Purpose::Registrar)
    }

    /// The chain with this leaf, DER, if it was learnt.
    pub fn chain(&self, fingerprint: &Fingerprint) -> Option<[&[u8]; 2]> {
        self.known.get(fingerprint).map(|k| [k.leaf.der(), k.registrar.der()])
    }

    /// Every node that was learnt and is valid at this moment.
    pub fn nodes(&self, at: Timestamp) -> Vec<Identity> {
        let nodes = self.known.values().filter(|k| k.leaf.purpose() == Purpose::Node);
        nodes.filter_map(|k| self.now_valid(k, at).ok()).collect()
    }

    /// The list in force of this issuer.
    pub fn revocation_list(&self, issuer: &Fingerprint) -> Option<&RevocationList> {
        self.revocations.get(issuer)
    }

    /// Whether a chain that was learnt has been revoked, or its registrar's certificate.
    pub fn is_revoked(&self, fingerprint: &Fingerprint) -> bool {
        let Some(known) = self.known.get(fingerprint) else { return false };
        let lists = |issuer: &Fingerprint| self.revocations.get(issuer);
        let named = |list: Option<&RevocationList>, certificate: &Certificate| {
            list.is_some_and(|list| list.revocation(certificate.serial()).is_some())
        };
        let root = self.roots.get(&known.registrar.subject().trust).map(Certificate::fingerprint);
        named(lists(&known.registrar.fingerprint()), &known.leaf)
            || root.is_some_and(|root| named(lists(&root), &known.registrar))
    }

    /// Checks a CRL record's content: the issuer belongs to a member, and has signed the list.
    pub fn check_crl(&self, crl: &Crl) -> Result<(Certificate, RevocationList), IdentityError> {
        let issuer = Certificate::parse(&crl.issuer).map_err(|e| IdentityError::NotAChain(e.to_string()))?;
        let trust = &issuer.subject().trust;
        let root = self.roots.get(trust).ok_or_else(|| IdentityError::UnknownTrust(trust.clone()))?;
        if issuer.fingerprint() != root.fingerprint() {
            let (list, at) = (|f: &Fingerprint| self.revocations.get(f), issuer.not_before());
            x509::verify_chain(&issuer, &[], root, list, CrlPolicy::IfHeld, Purpose::Registrar, at)?;
        }
        let list = RevocationList::parse(&crl.list).map_err(|e| IdentityError::NotAChain(e.to_string()))?;
        list.verify(&issuer).map_err(|e| IdentityError::NotAChain(e.to_string()))?;
        Ok((issuer, list))
    }

    /// Takes a CRL that [`Network::check_crl`] has passed. The higher number wins, and of two with the same one the later call;
    /// tells whether this one did.
    pub fn revoke(&mut self, issuer: Fingerprint, list: RevocationList) -> bool {
        let newer = self.revocations.get(&issuer).is_none_or(|held| held.number() <= list.number());
        if newer {
            self.revision += 1;
            self.revocations.insert(issuer, list);
        }
        newer
    }

    /// Takes what a stored charter's network needs from a record that was verified before it was stored.
    pub fn restore(&mut self, record: &Decoded) {
        match record.body() {
            Body::Crl(crl) => {
                if let Ok((issuer, list)) = self.check_crl(crl) {
                    self.revoke(issuer.fingerprint(), list);
                }
            }
            Body::Entry(Entry { chain, .. }) => {
                // A chain that the present charter does not carry any more is simply not learnt.
                let _ = self.learn(chain);
            }
            Body::Charter(_) | Body::Envelope(_) | Body::Tombstone(_) | Body::Receipt(_) | Body::Head(_) => {}
        }
    }

    fn holds(
        &self,
        leaf: &Certificate,
        registrar: &Certificate,
        purpose: Purpose,
        at: Timestamp,
    ) -> Result<(), IdentityError> {
        self.holds_by(leaf, registrar, purpose, (CrlPolicy::IfHeld, at))
    }

    fn holds_by(
        &self,
        leaf: &Certificate,
        registrar: &Certificate,
        purpose: Purpose,
        (policy, at): (CrlPolicy, Timestamp),
    ) -> Result<(), IdentityError> {
        let trust = &leaf.subject().trust;
        let root = self.roots.get(trust).ok_or_else(|| IdentityError::UnknownTrust(trust.clone()))?;
        let lists = |issuer: &Fingerprint| self.revocations.get(issuer);
        let registrar = std::slice::from_ref(registrar);
        Ok(x509::verify_chain(leaf, registrar, root, lists, policy, purpose, at)?)
    }

    /// What time and revocation may have changed since the chain was learnt.
    fn now_valid(&self, known: &Known, at: Timestamp) -> Result<Identity, IdentityError> {
        self.valid_by(known, (CrlPolicy::IfHeld, at))
    }

    fn valid_by(
        &self,
        known: &Known,
        (policy, at): (CrlPolicy, Timestamp),
    ) -> Result<Identity, IdentityError> {
        if at >= self.expires {
            return Err(IdentityError::CharterExpired);
        }
        let trust = &known.leaf.subject().trust;
        let root = self.roots.get(trust).ok_or_else(|| IdentityError::UnknownTrust(trust.clone()))?;
        let lists = |issuer: &Fingerprint| self.revocations.get(issuer);
        let registrar = std::slice::from_ref(&known.registrar);
        x509::check_current(&known.leaf, registrar, root, lists, policy, at)?;
        if known.leaf.purpose() == Purpose::Node {
            let stated = known.leaf.hosting_country();
            if !stated.is_some_and(|c| self.permits(c)) {
                let permitted: Vec<_> = self.charter.countries.iter().map(Country::to_string).collect();
                let stated = stated.map_or("(none)".into(), |c| c.to_string());
                return Err(IdentityError::Country(stated, permitted.join(" ")));
            }
        }
        Ok(Identity { trust: trust.clone(), certificate: known.leaf.clone() })
    }
}

/// What MLS asks about its members: [`crate::mls`].
impl ChainVerifier for Network {
    type Error = IdentityError;

    fn verify(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<DeviceIdentity, IdentityError> {
        match at {
            Some(at) => Ok(device(&self.verify_chain(chain, Purpose::Device, at)?.certificate)),
            None => Ok(device(&self.certified(chain, Purpose::Device)?)),
        }
    }

    fn verify_node(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<TrustId, IdentityError> {
        match at {
            Some(at) => Ok(self.verify_chain(chain, Purpose::Node, at)?.trust),
            None => Ok(self.certified(chain, Purpose::Node)?.subject().trust.clone()),
        }
    }

    fn verify_as_of(&self, chain: &[&[u8]], at: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        Ok(device(&self.verify_chain_as_of(chain, Purpose::Device, at)?.certificate))
    }

    fn read(&self, chain: &[&[u8]]) -> Result<DeviceIdentity, IdentityError> {
        Ok(device(&self.parse_chain(chain)?.0))
    }
}

impl Network {
    /// The certificate of a chain that a member's registrar has made for this purpose, whether or not it has ended or was revoked
    /// since: what was signed with it while it held is not undone by that. Signatures, names and purpose alone count, as they were
    /// when the chain began.
    ///
    /// # Errors
    /// [`IdentityError`] tells what does not hold.
    pub fn certified<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        purpose: Purpose,
    ) -> Result<Certificate, IdentityError> {
        let (leaf, registrar) = self.parse_chain(chain)?;
        let trust = &leaf.subject().trust;
        let root = self.roots.get(trust).ok_or_else(|| IdentityError::UnknownTrust(trust.clone()))?;
        let from = leaf.not_before().max(registrar.not_before());
        x509::verify_chain(&leaf, &[registrar], root, |_| None, CrlPolicy::IfHeld, purpose, from)?;
        Ok(leaf)
    }
}

fn device(certificate: &Certificate) -> DeviceIdentity {
    let subject = certificate.subject();
    DeviceIdentity {
        trust: subject.trust.clone(),
        fingerprint: certificate.fingerprint(),
        person: PersonKey::of_certificate(certificate),
        name: subject.common_name.clone(),
        role: subject.title.clone(),
        key: *certificate.public_key(),
    }
}
