//! The domain-separation labels of everything that is signed, sealed or derived: one table, so that no two uses can meet.

/// `external_aad` of the COSE signature of a record (RFC 9052, section 4.4).
pub const RECORD: &[u8] = b"lanyard/record/v1";
/// `external_aad` of the COSE signatures of a charter.
pub const CHARTER: &[u8] = b"lanyard/charter/v1";
/// `external_aad` of the COSE signature of a device's line: that it has erased its plaintext.
pub const DEVICE_LINE: &[u8] = b"lanyard/device-erasure/v1";
/// `external_aad` of the COSE signature of a device's receipt: that it has destroyed what it kept.
pub const DEVICE_WIPE: &[u8] = b"lanyard/device-wipe/v1";
/// `external_aad` of the COSE signature by which a node seals a report of deletions.
pub const REPORT: &[u8] = b"lanyard/report/v1";
/// HMAC-SHA-256 of an invitation's secret, as the node keeps it.
pub const INVITATION: &[u8] = b"lanyard/invitation/v1";
/// SHA-256 over who a person is, as the list of a conversation's administrators names them.
pub const PERSON: &[u8] = b"lanyard/person/v1";
/// SHA-512 over a record's id, as the digests of anti-entropy add it up.
pub const DIGEST: &[u8] = b"lanyard/digest/v1";
/// What a node signs to draw the salt of one question of anti-entropy; no signature of a record begins so.
pub const SALT: &[u8] = b"lanyard/salt/v1";

/// SHA-256 over a row of a node's audit log and the hash before it.
pub const AUDIT: &[u8] = b"lanyard/audit/v1";
/// The context of OPAQUE's key exchange (RFC 9807, section 6.4.3) by which a device proves its PIN.
pub const PIN: &[u8] = b"lanyard/pin/v1";
/// HMAC-SHA-512 under OPAQUE's session key: what a session's requests show.
pub const PIN_SESSION: &[u8] = b"lanyard/session/v1";
/// HMAC-SHA-512 under OPAQUE's export key: what seals the vault's key.
pub const VAULT_KEY: &[u8] = b"lanyard/vault-key/v1";
/// HMAC-SHA-512 under a key of an agent's, with a stretched PIN: what seals the vault's key for the offline grace.
pub const OFFLINE: &[u8] = b"lanyard/offline/v1";

/// SHA-512 over the device certificates of two people, as their safety number.
pub const SAFETY_PEOPLE: &[u8] = b"lanyard/safety-people/v1";
/// SHA-512 over a conversation's id, its epoch and its members' device certificates, as its safety number.
pub const SAFETY_CONVERSATION: &[u8] = b"lanyard/safety-conversation/v1";

#[cfg(test)]
mod tests {
    #[test]
    fn no_label_begins_another() {
        use super::*;
        let all = [
            RECORD,
            CHARTER,
            DEVICE_LINE,
            DEVICE_WIPE,
            REPORT,
            INVITATION,
            PERSON,
            DIGEST,
            SALT,
            AUDIT,
            PIN,
            PIN_SESSION,
            VAULT_KEY,
            OFFLINE,
            SAFETY_PEOPLE,
            SAFETY_CONVERSATION,
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert!(i == j || !a.starts_with(b));
            }
        }
    }
}
