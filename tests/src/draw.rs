//! Numbers that look random and come from a seed: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
//! Generators", 2014). Not for secrets.

/// A source of such numbers.
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From this seed on.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the seed that the environment variable names, or else this one. Either is printed, so that a run can be had again.
    pub fn from_environment(variable: &str, otherwise: u64) -> Self {
        let seed = std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        println!("{variable}={seed}");
        Self::new(seed)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The bias is far below anything that a test could notice.
        usize::try_from((z ^ (z >> 31)) % bound as u64).expect("below a usize")
    }
}
