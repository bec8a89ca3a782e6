//! Safety numbers: 60 digits that two people compare, in person or by telephone, to see that their devices hold the
//! same certificates for each other, or for a conversation.
//!
//! Written as Signal writes them: twelve groups of five digits. Each group is five bytes of a SHA-512, big-endian,
//! modulo 100,000. Not iterated: what goes in is public, and a collision has to be searched among about 2^199 numbers.
//! `docs/reference/safety-numbers.md` gives the derivation, with the lines of Python from which the vectors come.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest, Sha512};

use crate::{ConversationId, Fingerprint, labels};

/// Groups of a number.
pub const GROUPS: usize = 12;
/// Bytes of the hash behind one group.
const GROUP_BYTES: usize = 5;
/// One more than the largest group.
const GROUP_BOUND: u64 = 100_000;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetyNumber([u32; GROUPS]);

impl SafetyNumber {
    /// Of two people, by the fingerprints of their devices' certificates. Which of them is named first does not
    /// matter.
    pub fn of_people(one: &BTreeSet<Fingerprint>, other: &BTreeSet<Fingerprint>) -> Self {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        let mut hash = Sha512::new_with_prefix(labels::SAFETY_PEOPLE);
        put(&mut hash, first);
        put(&mut hash, second);
        Self::from_hash(hash)
    }

    /// Of a conversation in one epoch, by the fingerprints of all members' devices' certificates.
    pub fn of_conversation(
        conversation: &ConversationId,
        epoch: u64,
        devices: &BTreeSet<Fingerprint>,
    ) -> Self {
        let mut hash = Sha512::new_with_prefix(labels::SAFETY_CONVERSATION);
        let id = conversation.to_bytes();
        hash.update(length(id.len()));
        hash.update(&id);
        hash.update(epoch.to_be_bytes());
        put(&mut hash, devices);
        Self::from_hash(hash)
    }

    /// The 60 digits without spaces.
    pub fn digits(&self) -> String {
        self.0.iter().map(|group| format!("{group:05}")).collect()
    }

    fn from_hash(hash: Sha512) -> Self {
        let hash = hash.finalize();
        let group = |place: usize| {
            let bytes = &hash[place * GROUP_BYTES..][..GROUP_BYTES];
            let number = bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
            u32::try_from(number % GROUP_BOUND).expect("below 100,000")
        };
        Self(std::array::from_fn(group))
    }
}

impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<_> = self.0.iter().map(|group| format!("{group:05}")).collect();
        f.write_str(&groups.join(" "))
    }
}

/// A sorted set, with the number of its fingerprints before it.
fn put(hash: &mut Sha512, devices: &BTreeSet<Fingerprint>) {
    hash.update(length(devices.len()));
    devices.iter().for_each(|device| hash.update(device.as_bytes()));
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("far fewer than 2^32 devices or bytes of an id").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(bytes: &[u8]) -> BTreeSet<Fingerprint> {
        bytes.iter().map(|byte| Fingerprint::new([*byte; 32])).collect()
    }

    // Computed by the lines of Python in docs/reference/safety-numbers.md.
    #[test]
    fn numbers_are_those_of_the_independent_derivation() {
        let two = SafetyNumber::of_people(&devices(&[0x33, 0x11]), &devices(&[0x22]));
        assert_eq!(
            two.to_string(),
            "38877 05867 47342 17975 78662 89473 04457 36389 00213 48769 48997 18268"
        );
        let id = ConversationId::new([7; 16], "RYJ".parse().unwrap());
        let all = SafetyNumber::of_conversation(&id, 258, &devices(&[0x22, 0x33, 0x11]));
        assert_eq!(
            all.to_string(),
            "61244 57915 73684 71651 12802 05786 57821 01356 04317 47937 55557 63202"
        );
    }

    #[test]
    fn a_number_is_the_same_on_both_sides_and_of_nobody_else() {
        let (one, other) = (devices(&[1, 2]), devices(&[3]));
        let number = SafetyNumber::of_people(&one, &other);
        assert_eq!(number, SafetyNumber::of_people(&other, &one));
        assert_eq!(number.digits(), number.to_string().replace(' ', ""));
        assert_eq!(number.digits().len(), 60);
        for (a, b) in [(&[1, 2][..], &[4][..]), (&[1], &[3]), (&[1], &[2, 3]), (&[1, 2, 3], &[])] {
            assert_ne!(number, SafetyNumber::of_people(&devices(a), &devices(b)));
        }
    }

    #[test]
    fn a_conversations_number_is_of_its_epoch_and_members_alone() {
        let id = |n: u8| ConversationId::new([n; 16], "RYJ".parse().unwrap());
        let number = |n, epoch, of: &[u8]| SafetyNumber::of_conversation(&id(n), epoch, &devices(of));
        assert_eq!(number(1, 4, &[1, 2]), number(1, 4, &[2, 1]));
        for other in [number(2, 4, &[1, 2]), number(1, 5, &[1, 2]), number(1, 4, &[1, 2, 3])] {
            assert_ne!(number(1, 4, &[1, 2]), other);
        }
    }
}
