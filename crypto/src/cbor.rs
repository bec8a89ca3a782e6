//! The encoding of everything that is signed or sent: deterministic CBOR (RFC 8949, section 4.2) through serde.
//!
//! A struct becomes a map whose keys are the field's indices; an enum's variant an array of its index and what it holds, or
//! the index alone if it holds nothing. New fields and variants are appended. Decoding is strict without a parser of our own: what is
//! read is encoded again and must give the same bytes, so that indefinite lengths, long integers, unknown or
//! unsorted or repeated keys and trailing bytes are all refused. The size is bounded by the caller; the depth by the type
//! that is asked for, since none of ours nests without bound (and by serde_cbor itself at 128). A length that the
//! input claims reserves at most 1 MiB (serde's own caution) before the bytes for it have been seen.
//!
//! This is the only file that names `serde_cbor`. The crate is no longer maintained, yet its users asked for it; what it
//! must do here is small, strict decoding is checked against its own encoder, and another crate could take its place in
//! this file alone.

use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Why bytes are not the deterministic CBOR that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// More bytes than the caller allows for this thing.
    #[error("{actual} bytes are more than the {max} allowed here")]
    TooLong {
        /// Length of the input in bytes.
        actual: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not CBOR, or not of the expected shape. The decoder's own words, without the input.
    #[error("not the expected CBOR: {0}")]
    Malformed(String),
    /// CBOR of the expected shape, in another encoding than the deterministic one.
    #[error("not deterministically encoded CBOR (RFC 8949, section 4.2)")]
    NotDeterministic,
}

/// Encodes `value` deterministically.
pub fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    // As a map of one, serde_cbor would spell out the names of variants that hold a single value.
    let mut serializer = serde_cbor::Serializer::new(&mut bytes).packed_format().legacy_enums();
    value.serialize(&mut serializer).expect("our types encode, and a vector takes all that is written to it");
    bytes
}

/// Decodes a `T` from the whole of `bytes`, which must be at most `bytes_max` long and deterministically encoded.
pub fn from_slice<T: Serialize + DeserializeOwned>(bytes: &[u8], bytes_max: usize) -> Result<T, CborError> {
    if bytes.len() > bytes_max {
        return Err(CborError::TooLong { actual: bytes.len(), max: bytes_max });
    }
    let value: T = serde_cbor::from_slice(bytes).map_err(|e| CborError::Malformed(reason(&e)))?;
    if to_vec(&value) != bytes {
        return Err(CborError::NotDeterministic);
    }
    Ok(value)
}

/// Encodes `value` under a CBOR tag (RFC 8949, section 3.4).
pub fn to_vec_tagged<T: Serialize>(tag: u8, value: &T) -> Vec<u8> {
    to_vec(&serde_cbor::tags::Tagged::new(Some(tag.into()), value))
}

/// The tag that `bytes` begins with, if any. Reads no further.
pub fn tag_of(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [first @ 0xc0..=0xd7, ..] => Some(first & 0x1f),
        [0xd8, tag, ..] => Some(*tag),
        _ => None,
    }
}

/// As [`from_slice`], for a value under the given tag.
pub fn from_slice_tagged<T: Serialize + DeserializeOwned>(
    tag: u8,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, CborError> {
    if bytes.len() > bytes_max {
        return Err(CborError::TooLong { actual: bytes.len(), max: bytes_max });
    }
    // serde_cbor reads a tag only where it is asked for a type of its own. Ours stand at the beginning, in one form.
    let (short, long) = ([0xc0 | tag], [0xd8, tag]);
    let head = if tag < 24 { &short[..] } else { &long[..] };
    let value =
        bytes.strip_prefix(head).ok_or_else(|| CborError::Malformed(format!("tag {tag} is needed")))?;
    from_slice(value, bytes_max)
}

/// Reads a list of at most `MAX` items, for `#[serde(deserialize_with = "…")]`: what takes few bytes on the wire and more in memory is counted as it
/// is read.
pub fn at_most<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MAX: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "at most {MAX} items")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

/// The category and place of a decoder's error: its full text may quote the input.
fn reason(error: &serde_cbor::Error) -> String {
    format!("{:?} at byte {}", error.classify(), error.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        choice: Choice,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        rest: Option<String>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        One(u8),
        Two { a: u8 },
        None,
    }

    fn sample() -> Sample {
        Sample { number: 24, bytes: vec![1, 2], choice: Choice::Two { a: 3 }, rest: None }
    }

    #[test]
    fn keys_are_small_integers() {
        let bytes = to_vec(&sample());
        assert_eq!(bytes, [0xa3, 0, 0x18, 24, 1, 0x42, 1, 2, 2, 0x82, 1, 0xa1, 0, 3]);
        assert_eq!(from_slice::<Sample>(&bytes, 64), Ok(sample()));
        let tagged = to_vec_tagged(18, &sample());
        assert_eq!(tagged[0], 0xd2);
        assert_eq!(tagged[1..], bytes);
        assert_eq!(from_slice_tagged::<Sample>(18, &tagged, 64), Ok(sample()));
        assert!(from_slice_tagged::<Sample>(17, &tagged, 64).is_err());
        let one = Sample { choice: Choice::One(1), rest: Some("x".into()), ..sample() };
        let bytes = to_vec(&one);
        assert_eq!(bytes[8..], [2, 0x82, 0, 1, 3, 0x61, b'x']);
        assert_eq!(from_slice::<Sample>(&bytes, 64), Ok(one));
        assert_eq!(to_vec(&Choice::None), [2]);
        assert_eq!(from_slice(&[2], 64), Ok(Choice::None));
    }

    #[test]
    fn other_encodings_are_refused() {
        let good = to_vec(&sample());
        assert!(matches!(from_slice::<Sample>(&good, 4), Err(CborError::TooLong { actual: 14, max: 4 })));
        let long_integer = [&[0xa3, 0, 0x19, 0, 24][..], &good[4..]].concat();
        let indefinite = [&[0xbf][..], &good[1..], &[0xff]].concat();
        let trailing = [&good[..], &[0]].concat();
        let unknown_key = [&[0xa4][..], &good[1..], &[9, 0]].concat();
        let repeated = [&[0xa4][..], &good[1..], &[0, 1]].concat();
        let unsorted = [&[0xa3, 1, 0x42, 1, 2, 0, 0x18, 24][..], &good[8..]].concat();
        let named = [&[0xa3, 0x66][..], b"number", &good[2..]].concat();
        let mapped = [&good[..9], &[0xa1, 1, 0xa1, 0, 3]].concat();
        for bad in [long_integer, indefinite, trailing, unknown_key, repeated, unsorted, named, mapped] {
            assert!(from_slice::<Sample>(&bad, 64).is_err(), "{bad:02x?}");
        }
        for cut in 0..good.len() {
            assert!(from_slice::<Sample>(&good[..cut], 64).is_err());
        }
    }

    #[test]
    fn a_bounded_list_is_counted_as_it_is_read() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Pair(#[serde(deserialize_with = "at_most::<_, _, 2>")] Vec<u8>);
        assert_eq!(from_slice(&[0x82, 1, 2], 64), Ok(Pair(vec![1, 2])));
        assert!(from_slice::<Pair>(&[0x83, 1, 2, 3], 64).is_err());
    }

    #[test]
    fn a_claimed_length_and_a_deep_nesting_are_refused() {
        assert!(from_slice::<Vec<u64>>(&[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 64).is_err());
        assert!(
            from_slice::<serde_bytes::ByteBuf>(&[0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 64)
                .is_err()
        );
        let deep = [vec![0x81; 100_000], vec![0]].concat();
        assert!(from_slice::<Vec<u64>>(&deep, 200_000).is_err());
        assert!(from_slice::<Sample>(&deep, 200_000).is_err());
    }
}
