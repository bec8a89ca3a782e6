//! Every object identifier that Lanyard's certificates use, beside those that `x509-cert` ties to its own types.
//!
//! Ours stand under 1.3.6.1.4.1.32473.1. The arc 32473 is the one that RFC 5612 sets apart for examples: it is a
//! placeholder until a private enterprise number is registered with IANA. Moving is a change of [`ARC`] and of
//! the rows under it, and a reissue of all certificates.

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc4519, rfc5280, rfc8410};

/// The arc under which everything of ours is numbered.
pub const ARC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1");

/// Extended key usage: a trust's node, which signs records and takes part in the network.
pub const PURPOSE_NODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1.1");
/// Extended key usage: a person's device, which signs MLS leaves and opens sessions with its node.
pub const PURPOSE_DEVICE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1.2");
/// Extended key usage: a records officer, who may order deletion and sign for the trust in a charter.
pub const PURPOSE_OFFICER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1.3");

/// Extension of node certificates: the country in which the node stands. PrintableString, ISO 3166-1 alpha-2.
pub const HOSTING_COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.2.1");
/// Extension of node certificates: the node's libp2p PeerId. OCTET STRING, an identity multihash.
pub const PEER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.2.2");

/// TLS server, RFC 5280 section 4.2.1.12.
pub const SERVER_AUTH: ObjectIdentifier = rfc5280::ID_KP_SERVER_AUTH;
/// TLS client, RFC 5280 section 4.2.1.12.
pub const CLIENT_AUTH: ObjectIdentifier = rfc5280::ID_KP_CLIENT_AUTH;

/// The only key and signature algorithm: Ed25519, RFC 8410.
pub const ED25519: ObjectIdentifier = rfc8410::ID_ED_25519;

/// Attribute of names: organizationIdentifier, the ODS code of the trust. X.520 (10/2012) section 6.4.4.
pub const ORGANIZATION_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.97");
/// Attribute of names: country in which the trust is established.
pub const COUNTRY: ObjectIdentifier = rfc4519::COUNTRY_NAME;
/// Attribute of names: the trust's name.
pub const ORGANIZATION: ObjectIdentifier = rfc4519::ORGANIZATION_NAME;
/// Attribute of names: department.
pub const DEPARTMENT: ObjectIdentifier = rfc4519::ORGANIZATIONAL_UNIT_NAME;
/// Attribute of names: display name.
pub const COMMON_NAME: ObjectIdentifier = rfc4519::COMMON_NAME;
/// Attribute of names: role.
pub const TITLE: ObjectIdentifier = rfc4519::TITLE;
/// Attribute of names: professional registration, such as "GMC 1234567".
pub const SERIAL_NUMBER: ObjectIdentifier = rfc4519::SERIAL_NUMBER;
