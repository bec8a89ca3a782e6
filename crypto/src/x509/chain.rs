//! Whether a certificate reaches a root, for a purpose, at a moment (RFC 5280 section 6.1).
//!
//! The path is given, not searched for: the leaf, its issuers from the nearest upward, and the root. All of it is
//! checked in every case; nothing rests on where a certificate came from.

use std::fmt;

use super::crl::{CrlError, CrlReason, Revocation, RevocationList};
use super::name::lies_under;
use super::{Certificate, ISSUERS_MAX, Purpose};
use crate::ids::{Fingerprint, Timestamp, TrustId};

/// A certificate of a chain, as a refusal names it: without the name of a person, since refusals are logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link(Certificate);

impl Link {
    fn of(certificate: &Certificate) -> Self {
        Self(certificate.clone())
    }

    /// The certificate: well-formed, and otherwise as bad as the refusal says.
    pub fn certificate(&self) -> &Certificate {
        &self.0
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (subject, purpose) = (self.0.subject(), self.0.purpose());
        match purpose {
            // A reason goes to logs, which name nobody: whose it is, the fingerprint tells those who may know.
            Purpose::Device | Purpose::Officer => {
                write!(f, "the {purpose} certificate {} ({})", self.0.fingerprint(), subject.trust)
            }
            Purpose::Root | Purpose::Registrar | Purpose::Node => {
                write!(f, "the {purpose} certificate of {} ({})", subject.common_name, subject.trust)
            }
        }
    }
}

/// Why a chain is refused: which certificate, and what is wrong with it. The fault is with who showed the chain,
/// except [`ChainError::CrlMissing`] and [`ChainError::CrlStale`], where it may be our own copy that is behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More issuers than a path of ours has.
    #[error("{0} issuers are too many between a certificate and its root ({ISSUERS_MAX} at most)")]
    TooManyIssuers(usize),
    /// The same certificate, or the same key, twice.
    #[error("{0} stands twice in its chain, or shares its key with another certificate of it")]
    Duplicate(Link),
    /// The anchor is not a self-signed authority.
    #[error("{0} is not a root: a root is an authority and signs itself")]
    NotRoot(Link),
    /// An issuer may not certify.
    #[error("{0} is not an authority (basicConstraints), so it can certify nothing")]
    NotAuthority(Link),
    /// It is for something else.
    #[error("{which} is not for the purpose {needed}")]
    WrongPurpose {
        /// The certificate.
        which: Link,
        /// What it would have to be for.
        needed: Purpose,
    },
    /// An authority whose own key purposes leave this one out.
    #[error("{issuer} lists the purposes for which it may certify, and {needed} is not among them")]
    PurposeNotGranted {
        /// The authority.
        issuer: Link,
        /// The purpose of the certificate at the end of the chain.
        needed: Purpose,
    },
    /// The issuer's name is another.
    #[error("{which} names another issuer than {issuer}")]
    IssuerName {
        /// The certificate.
        which: Link,
        /// The one that stands above it.
        issuer: Link,
    },
    /// The key identifiers differ, or are missing.
    #[error("{which} was issued with another key than that of {issuer} (authorityKeyIdentifier)")]
    AuthorityKey {
        /// The certificate.
        which: Link,
        /// The one that stands above it.
        issuer: Link,
    },
    /// Not signed by the key above it.
    #[error("the signature on {which} is not by {issuer}")]
    Signature {
        /// The certificate.
        which: Link,
        /// The one that stands above it.
        issuer: Link,
    },
    /// A right that is needed is missing.
    #[error("{which} lacks the key usage {needed}")]
    KeyUsage {
        /// The certificate.
        which: Link,
        /// The right, as RFC 5280 section 4.2.1.3 names it.
        needed: &'static str,
    },
    /// More authorities below one than it allows.
    #[error("{which} allows {allowed} authorities below it, and {found} are there")]
    PathTooLong {
        /// The authority.
        which: Link,
        /// Its path length.
        allowed: u8,
        /// The authorities below it in this chain.
        found: usize,
    },
    /// The subject is of another trust than the root.
    #[error("{which} lies outside the ODS code of its root, {root}: a root certifies its own trust alone")]
    OtherTrust {
        /// The certificate.
        which: Link,
        /// The trust of the root.
        root: TrustId,
    },
    /// The subject lies outside the names that an authority may certify.
    #[error("{which} has a name that {issuer} may not certify (nameConstraints)")]
    NameConstraint {
        /// The certificate.
        which: Link,
        /// The authority that is constrained.
        issuer: Link,
    },
    /// Its time has not come.
    #[error("{which} is not valid before {}", date(*.from))]
    NotYetValid {
        /// The certificate.
        which: Link,
        /// When its validity begins.
        from: Timestamp,
    },
    /// Its time is over.
    #[error("{which} expired at {}", date(*.at))]
    Expired {
        /// The certificate.
        which: Link,
        /// When its validity ended.
        at: Timestamp,
    },
    /// Its issuer has revoked it.
    #[error("{which} was revoked at {}{}", date(*.at), reason_text(*.reason))]
    Revoked {
        /// The certificate.
        which: Link,
        /// When.
        at: Timestamp,
        /// Why, if the list says so.
        reason: Option<CrlReason>,
    },
    /// The revocation list that was found for an authority is not its own.
    #[error("the revocation list held for {issuer}: {error}")]
    CrlInvalid {
        /// The authority.
        issuer: Link,
        /// What is wrong with the list.
        error: CrlError,
    },
    /// There is no revocation list, and the caller needs one.
    #[error("there is no revocation list of {0}")]
    CrlMissing(Link),
    /// The revocation list is past its time, and the caller needs a fresh one.
    #[error("the revocation list of {issuer} should have been replaced by {}", date(*.since))]
    CrlStale {
        /// The authority.
        issuer: Link,
        /// Its next update.
        since: Timestamp,
    },
}

/// What is asked of the revocation list of the authority that issued the leaf. What any list revokes is refused
/// whatever the policy but [`CrlPolicy::Dated`], however old the list is. The list of an authority above that one (the root's, which is
/// kept offline) is used if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlPolicy {
    /// There has to be one, and its next update must not have passed: as `openssl verify -crl_check`. For what
    /// can wait until a list arrives.
    Fresh,
    /// There has to be one; it may be past its time. For what must go on during a partition.
    Present,
    /// It is used if there is one. For the first contact, from which the list is yet to come.
    IfHeld,
    /// As [`CrlPolicy::IfHeld`], but a revocation counts only for what comes after its date. For what somebody who could tell has accepted
    /// and dated.
    Dated,
}

/// Checks that `leaf` reaches `root` through `issuers`, is for `purpose`, and holds at the moment `at`.
///
/// - `issuers` begins with the one that signed `leaf`, and ends with one that `root` signed. Empty if `root`
///   signed `leaf` itself, as it does a registrar's certificate.
/// - `root` is trusted by the caller, because a charter names it; its validity and rights are checked all the same.
/// - `crls` gives the revocation list to use for the authority with this fingerprint: the newest that the
///   caller holds. Its signature is checked here. `policy` says what if there is none.
///
/// # Errors
/// [`ChainError`] with the certificate at fault. Form and signatures are checked before time and revocation, so
/// that a forged certificate is never reported as an expired one.
pub fn verify_chain<'a>(
    leaf: &Certificate,
    issuers: &[Certificate],
    root: &Certificate,
    crls: impl Fn(&Fingerprint) -> Option<&'a RevocationList>,
    policy: CrlPolicy,
    purpose: Purpose,
    at: Timestamp,
) -> Result<(), ChainError> {
    if issuers.len() > ISSUERS_MAX {
        return Err(ChainError::TooManyIssuers(issuers.len()));
    }
    if leaf.purpose() != purpose {
        return Err(ChainError::WrongPurpose { which: Link::of(leaf), needed: purpose });
    }
    let path: Vec<&Certificate> = [leaf].into_iter().chain(issuers).chain([root]).collect();
    check_distinct(&path)?;
    check_self_signed(root)?;
    check_leaf_usage(leaf)?;
    for (below, issuer) in path.iter().skip(1).enumerate() {
        check_authority(issuer, below, &path[..=below], purpose)?;
    }
    for pair in path.windows(2) {
        check_issued(pair[0], pair[1], root)?;
    }
    check_current(leaf, issuers, root, crls, policy, at)
}

/// Checks what time and revocation may have changed since [`verify_chain`] accepted the same chain.
///
/// # Errors
/// [`ChainError`], as for a chain.
pub fn check_current<'a>(
    leaf: &Certificate,
    issuers: &[Certificate],
    root: &Certificate,
    crls: impl Fn(&Fingerprint) -> Option<&'a RevocationList>,
    policy: CrlPolicy,
    at: Timestamp,
) -> Result<(), ChainError> {
    let path: Vec<&Certificate> = [leaf].into_iter().chain(issuers).chain([root]).collect();
    path.iter().try_for_each(|certificate| check_validity(certificate, at))?;
    for (height, pair) in path.windows(2).enumerate() {
        let asked = height == 0 && !leaf.purpose().is_authority();
        let policy = if asked || policy == CrlPolicy::Dated { policy } else { CrlPolicy::IfHeld };
        check_revocation(pair[0], pair[1], crls(&pair[1].fingerprint()), policy, at)?;
    }
    Ok(())
}

/// Checks that `root` may stand as the root of a trust at the moment `at`: an authority that signs itself, may
/// certify, and is valid.
///
/// # Errors
/// [`ChainError`], as for a chain.
pub fn verify_root(root: &Certificate, at: Timestamp) -> Result<(), ChainError> {
    check_self_signed(root)?;
    check_certifies(root)?;
    check_validity(root, at)
}

fn check_distinct(path: &[&Certificate]) -> Result<(), ChainError> {
    for (place, certificate) in path.iter().enumerate() {
        if path[..place].iter().any(|earlier| earlier.public_key() == certificate.public_key()) {
            return Err(ChainError::Duplicate(Link::of(certificate)));
        }
    }
    Ok(())
}

fn check_self_signed(root: &Certificate) -> Result<(), ChainError> {
    let known = root.known();
    let other_key = known.authority_key.is_some() && known.authority_key != known.subject_key;
    if root.purpose() != Purpose::Root || other_key || root.verify_signature(root).is_err() {
        return Err(ChainError::NotRoot(Link::of(root)));
    }
    Ok(())
}

/// What an authority may do, given what stands below it: `below` counts the authorities among `lower`, which
/// ends with the certificate that it signed, unless the lowest of all is an authority as well.
fn check_authority(
    issuer: &Certificate,
    below: usize,
    lower: &[&Certificate],
    purpose: Purpose,
) -> Result<(), ChainError> {
    check_certifies(issuer)?;
    let known = issuer.known();
    let found = if purpose.is_authority() { below + 1 } else { below };
    // RFC 5280 section 4.2.1.9 does not count the last certificate; one that is itself an authority is asked
    // about because it will certify, so its place is counted here already.
    if let Some(allowed) = known.path_length.filter(|allowed| found > usize::from(*allowed)) {
        return Err(ChainError::PathTooLong { which: Link::of(issuer), allowed, found });
    }
    if let (Some(granted), Some(needed)) = (&known.purposes, purpose.oid())
        && !granted.contains(&needed)
    {
        return Err(ChainError::PurposeNotGranted { issuer: Link::of(issuer), needed: purpose });
    }
    let Some(permitted) = &known.permitted else {
        return Ok(());
    };
    let outside = |c: &&&Certificate| !permitted.iter().any(|base| lies_under(c.subject_name(), base));
    match lower.iter().find(outside) {
        Some(which) => Err(ChainError::NameConstraint { which: Link::of(which), issuer: Link::of(issuer) }),
        None => Ok(()),
    }
}

fn check_certifies(issuer: &Certificate) -> Result<(), ChainError> {
    let known = issuer.known();
    if !known.authority {
        return Err(ChainError::NotAuthority(Link::of(issuer)));
    }
    if !known.key_usage.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(ChainError::KeyUsage { which: Link::of(issuer), needed: "keyCertSign" });
    }
    Ok(())
}

fn check_leaf_usage(leaf: &Certificate) -> Result<(), ChainError> {
    let signs = leaf.known().key_usage.is_some_and(|usage| usage.digital_signature());
    if !leaf.purpose().is_authority() && !signs {
        return Err(ChainError::KeyUsage { which: Link::of(leaf), needed: "digitalSignature" });
    }
    Ok(())
}

fn check_issued(lower: &Certificate, issuer: &Certificate, root: &Certificate) -> Result<(), ChainError> {
    let which = || Link::of(lower);
    if lower.subject().trust != root.subject().trust {
        return Err(ChainError::OtherTrust { which: which(), root: root.subject().trust.clone() });
    }
    if lower.issuer_name() != issuer.subject_name() {
        return Err(ChainError::IssuerName { which: which(), issuer: Link::of(issuer) });
    }
    let (named, own) = (&lower.known().authority_key, &issuer.known().subject_key);
    if named.is_none() || named != own {
        return Err(ChainError::AuthorityKey { which: which(), issuer: Link::of(issuer) });
    }
    lower
        .verify_signature(issuer)
        .map_err(|_| ChainError::Signature { which: which(), issuer: Link::of(issuer) })
}

fn check_validity(certificate: &Certificate, at: Timestamp) -> Result<(), ChainError> {
    let which = || Link::of(certificate);
    if at < certificate.not_before() {
        return Err(ChainError::NotYetValid { which: which(), from: certificate.not_before() });
    }
    if at > certificate.not_after() {
        return Err(ChainError::Expired { which: which(), at: certificate.not_after() });
    }
    Ok(())
}

/// A list from the future (`this_update` after `at`) is used as it is: it only tells more, and a registrar whose
/// clock runs ahead must not silence its own trust.
fn check_revocation(
    certificate: &Certificate,
    issuer: &Certificate,
    list: Option<&RevocationList>,
    policy: CrlPolicy,
    at: Timestamp,
) -> Result<(), ChainError> {
    let Some(list) = list else {
        return match policy {
            CrlPolicy::IfHeld | CrlPolicy::Dated => Ok(()),
            CrlPolicy::Fresh | CrlPolicy::Present => Err(ChainError::CrlMissing(Link::of(issuer))),
        };
    };
    list.verify(issuer).map_err(|error| ChainError::CrlInvalid { issuer: Link::of(issuer), error })?;
    let counts = |entry: &&Revocation| policy != CrlPolicy::Dated || entry.at < at;
    if let Some(entry) = list.revocation(certificate.serial()).filter(counts) {
        let which = Link::of(certificate);
        return Err(ChainError::Revoked { which, at: entry.at, reason: entry.reason });
    }
    if policy == CrlPolicy::Fresh && list.next_update() < at {
        return Err(ChainError::CrlStale { issuer: Link::of(issuer), since: list.next_update() });
    }
    Ok(())
}

/// A moment as people read it, such as 2026-01-31T12:00:00Z.
fn date(at: Timestamp) -> String {
    let since_1970 = std::time::Duration::from_secs(at.as_secs());
    der::DateTime::from_unix_duration(since_1970).map_or_else(|_| at.as_secs().to_string(), |d| d.to_string())
}

fn reason_text(reason: Option<CrlReason>) -> &'static str {
    match reason {
        None | Some(CrlReason::Unspecified) => "",
        Some(CrlReason::KeyCompromise) => ": the key was compromised",
        Some(CrlReason::CaCompromise) => ": the authority was compromised",
        Some(CrlReason::AffiliationChanged) => ": the person or machine left, or changed affiliation",
        Some(CrlReason::Superseded) => ": it was superseded",
        Some(CrlReason::CessationOfOperation) => ": it is no longer in use",
        Some(CrlReason::CertificateHold) => ": it is on hold",
        Some(CrlReason::RemoveFromCRL) => ": it is marked as removed from a list",
        Some(CrlReason::PrivilegeWithdrawn) => ": the privilege was withdrawn",
        Some(CrlReason::AaCompromise) => ": the attribute authority was compromised",
    }
}
