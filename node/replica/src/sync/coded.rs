//! Set reconciliation by rateless invertible Bloom lookup tables: Yang, Gilad, Alizadeh, "Practical Rateless Set
//! Reconciliation", SIGCOMM 2024. One side sends coded symbols of its set; the other takes away its own, and reads the
//! difference out of what is left ("peels" it). About 1.35 symbols per difference suffice when there are many, up to 1.7 when
//! there are few, whatever the two sets have in common.
//!
//! Where this departs from the paper: where an id goes, its check value, and its signs in the estimate all come from SHA-256 over a salt and
//! the id, so that nobody who does not know the salt can choose ids that spoil the table. The number of symbols is chosen
//! beforehand from an estimate of the difference ([`Sketch`]), since an answer has to fit a frame and keep no state.

use sha2::{Digest, Sha256};

/// The first 16 bytes of a record's id, as they stand in symbols. Two records with the same are told apart by lists of ids alone.
pub(crate) type Short = [u8; 16];

/// Numbers whose squares estimate the size of a difference. The standard error of the estimate is √(2 / this): 1 in 11.
pub(crate) const SIGNS: usize = 256;

/// An id with what the salt makes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keyed {
    id: u128,
    check: u64,
    place: u64,
    signs: [u64; SIGNS / 64],
}

impl Keyed {
    pub(crate) fn new(salt: &[u8; 16], id: &Short) -> Self {
        let hash: [u8; 32] = Sha256::new().chain_update(salt).chain_update(id).finalize().into();
        let number = |at: usize| hash[at..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        // As many bits as there are signs, out of what is left of the hash (Steele, Lea, Flood: SplitMix, 2014).
        let mut state = number(16);
        let signs = std::array::from_fn(|_| {
            state = state.wrapping_add(number(24) | 1);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        });
        Self { id: u128::from_be_bytes(*id), check: number(0), place: number(8), signs }
    }
}

/// What estimates the size of the difference of two sets: of each of [`SIGNS`] random signs, the sum over the set (Alon,
/// Matias, Szegedy, "The space complexity of approximating the frequency moments", 1996).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sketch(pub(crate) Vec<i64>);

impl Sketch {
    pub(crate) fn of(set: &[Keyed]) -> Self {
        let mut ones = vec![0i64; SIGNS];
        for keyed in set {
            for (ones, mut signs) in ones.chunks_mut(64).zip(keyed.signs) {
                for one in ones {
                    *one += (signs & 1) as i64;
                    signs >>= 1;
                }
            }
        }
        let all = set.len() as i64;
        Self(ones.into_iter().map(|ones| 2 * ones - all).collect())
    }

    /// How many ids are in one of two sets alone, about.
    pub(crate) fn difference(&self, other: &Sketch) -> usize {
        let squares = self.0.iter().zip(&other.0).map(|(a, b)| {
            let apart = a.saturating_sub(*b).unsigned_abs().min(1 << 31);
            u128::from(apart * apart)
        });
        let mean = squares.sum::<u128>() / SIGNS as u128;
        usize::try_from(mean).unwrap_or(usize::MAX)
    }
}

/// How many symbols very likely show a difference of this estimated size.
pub(crate) fn symbols_for(difference: usize) -> usize {
    // A fifth is more than two standard errors of the estimate; small tables need more.
    let sure = difference.saturating_mul(6) / 5;
    sure.saturating_mul(27) / 20 + 2 * sure.isqrt() + 12
}

/// One coded symbol: the sums of what fell on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    id: u128,
    check: u64,
    count: i64,
}

impl Cell {
    fn add(&mut self, keyed: &Keyed, count: i64) {
        self.id ^= keyed.id;
        self.check ^= keyed.check;
        self.count = self.count.wrapping_add(count);
    }

    fn is_empty(&self) -> bool {
        *self == Cell::default()
    }
}

/// What one side has and the other lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) theirs: Vec<Short>,
    pub(crate) ours: Vec<Short>,
}

/// The first `count` coded symbols of a set.
pub(crate) fn encode(set: &[Keyed], count: usize) -> Vec<Cell> {
    let mut cells = vec![Cell::default(); count];
    for keyed in set {
        for place in Places::of(keyed.place).take_while(|place| *place < count as u64) {
            cells[place as usize].add(keyed, 1);
        }
    }
    cells
}

/// The difference between the set of these symbols and ours; none if they are too few to tell.
pub(crate) fn decode(salt: &[u8; 16], mut cells: Vec<Cell>, ours: &[Keyed]) -> Option<Difference> {
    let own = encode(ours, cells.len());
    for (cell, own) in cells.iter_mut().zip(own) {
        cell.id ^= own.id;
        cell.check ^= own.check;
        cell.count = cell.count.wrapping_sub(own.count);
    }
    let mut difference = Difference::default();
    let mut to_look_at: Vec<usize> = (0..cells.len()).collect();
    let end = cells.len() as u64;
    let mut left = cells.len();
    while let Some(at) = to_look_at.pop() {
        let Cell { id, check, count: count @ (1 | -1) } = cells[at] else { continue };
        let keyed = Keyed::new(salt, &id.to_be_bytes());
        if keyed.check != check {
            continue;
        }
        // Each id that is read empties a symbol for good, unless somebody made them up.
        left = left.checked_sub(1)?;
        let side = if count == 1 { &mut difference.theirs } else { &mut difference.ours };
        side.push(id.to_be_bytes());
        for place in Places::of(keyed.place).take_while(|place| *place < end) {
            cells[place as usize].add(&keyed, -count);
            to_look_at.push(place as usize);
        }
    }
    cells.iter().all(Cell::is_empty).then_some(difference)
}

/// The symbols as bytes, each 24 bytes and its count.
pub(crate) fn to_bytes(cells: &[Cell]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(cells.len() * 26);
    for cell in cells {
        bytes.extend(cell.id.to_be_bytes());
        bytes.extend(cell.check.to_be_bytes());
        write_number(&mut bytes, cell.count);
    }
    bytes
}

/// The symbols of these bytes, at most `max`.
pub(crate) fn from_bytes(mut bytes: &[u8], max: usize) -> Option<Vec<Cell>> {
    let mut cells = Vec::new();
    while !bytes.is_empty() {
        let (id, rest) = bytes.split_first_chunk()?;
        let (check, rest) = rest.split_first_chunk()?;
        let (count, rest) = read_number(rest)?;
        bytes = rest;
        if cells.len() == max {
            return None;
        }
        cells.push(Cell { id: u128::from_be_bytes(*id), check: u64::from_be_bytes(*check), count });
    }
    Some(cells)
}

/// Appends a number: zigzag, then seven bits a byte, the lowest first.
pub(crate) fn write_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = (number.wrapping_shl(1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// The number at the beginning of these bytes, and what follows it.
pub(crate) fn read_number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut number = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(((number >> 1) as i64 ^ -((number & 1) as i64), &bytes[at + 1..]));
        }
    }
    None
}

/// The symbols on which an id falls: the first, and from place i on, place j with a chance of 1 / (1 + j / 2) (section 4.2 of the paper, its
/// closed form).
struct Places {
    next: u64,
    random: u64,
}

impl Places {
    fn of(seed: u64) -> Self {
        Self { next: 0, random: seed }
    }
}

impl Iterator for Places {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let place = self.next;
        // The step of the paper's generator: a multiplicative congruential one, whose multiplier is odd.
        self.random = self.random.wrapping_mul(0xda94_2042_e4dd_58b5);
        let uniform = (self.random as f64 + 1.0).sqrt();
        let step = ((place as f64 + 1.5) * (4_294_967_296.0 / uniform - 1.0)).ceil();
        self.next = place.saturating_add((step as u64).max(1));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SALT: [u8; 16] = [7; 16];

    fn id(n: u64) -> Short {
        let hash: [u8; 32] = Sha256::digest(n.to_be_bytes()).into();
        *hash.first_chunk().unwrap()
    }

    fn set(ids: impl Iterator<Item = u64>) -> Vec<Keyed> {
        ids.map(|n| Keyed::new(&SALT, &id(n))).collect()
    }

    fn sorted(ids: Vec<Short>) -> BTreeSet<Short> {
        ids.into_iter().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_difference_is_read_whatever_is_common(common in 0u64..3000, ours in 0u64..400, theirs in 0u64..400) {
            let mine = set((0..common).chain(10_000..10_000 + ours));
            let yours = set((0..common).chain(20_000..20_000 + theirs));
            let count = symbols_for((ours + theirs) as usize);
            let cells = from_bytes(&to_bytes(&encode(&yours, count)), count).unwrap();
            // Too few symbols are told, and never read wrongly.
            if let Some(found) = decode(&SALT, cells, &mine) {
                prop_assert_eq!(sorted(found.ours), (10_000..10_000 + ours).map(id).collect());
                prop_assert_eq!(sorted(found.theirs), (20_000..20_000 + theirs).map(id).collect());
            }
        }

        #[test]
        fn symbols_that_somebody_made_up_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            if let Some(cells) = from_bytes(&bytes, 100) {
                decode(&SALT, cells, &set(0..50));
            }
        }

        #[test]
        fn numbers_survive_encoding(number in any::<i64>(), rest in any::<u8>()) {
            let number = number >> 2;
            let mut bytes = Vec::new();
            write_number(&mut bytes, number);
            bytes.push(rest);
            prop_assert_eq!(read_number(&bytes), Some((number, &[rest][..])));
        }
    }

    #[test]
    fn as_many_symbols_as_estimated_nearly_always_suffice() {
        for difference in [1u64, 10, 100, 1000] {
            let failed = (0..100u64).filter(|round| {
                let salt = [*round as u8; 16];
                let keyed = |n| Keyed::new(&salt, &id(n));
                let mine: Vec<_> = (0..1000).map(keyed).collect();
                let yours: Vec<_> = (difference..1000 + difference).map(keyed).collect();
                let estimate = Sketch::of(&mine).difference(&Sketch::of(&yours));
                decode(&salt, encode(&yours, symbols_for(estimate)), &mine).is_none()
            });
            let failed = failed.count();
            assert!(failed <= 8, "{failed} of 100 failed at {} apart", 2 * difference);
        }
    }

    #[test]
    fn a_symbol_in_a_circle_ends() {
        // One id whose symbols contradict each other: present in the first, absent with the opposite sign in the next.
        let keyed = Keyed::new(&SALT, &id(1));
        let mut cells = vec![Cell::default(); 16];
        for (at, cell) in cells.iter_mut().enumerate() {
            cell.add(&keyed, if at % 2 == 0 { 1 } else { -1 });
        }
        assert_eq!(decode(&SALT, cells, &[]), None);
    }
}
