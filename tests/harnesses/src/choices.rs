//! A script's bytes as choices.

/// What is left of a script.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte; none at the end of the script.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A place in a list of so many; the first at the end of the script.
    pub(crate) fn place(&mut self, count: usize) -> usize {
        let high = if count > 256 { usize::from(self.byte().unwrap_or(0)) } else { 0 };
        let low = usize::from(self.byte().unwrap_or(0));
        (high << 8 | low) % count.max(1)
    }

    /// One of these.
    pub(crate) fn one<'b, T>(&mut self, of: &'b [T]) -> Option<&'b T> {
        of.get(self.place(of.len()))
    }

    /// A number from near the edges of what fits, or a small one.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte().unwrap_or(0) {
            small @ 0..=199 => u64::from(small),
            edge @ 200..=219 => u64::MAX - u64::from(edge - 200),
            bit @ 220..=251 => 1 << (bit - 220),
            _ => u64::from(u32::MAX),
        }
    }

    /// Whether; not, at the end of the script.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte().is_some_and(|byte| byte & 1 == 1)
    }

    /// The same bytes, with up to three changes.
    pub(crate) fn altered(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + self.place(3) {
            let (how, at) = (self.byte().unwrap_or(0), self.place(bytes.len().max(1)));
            let with = self.byte().unwrap_or(0);
            match how % 6 {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), with),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.extend_from_within(at.min(bytes.len())..),
                _ if at < bytes.len() => bytes[at] = with,
                _ => bytes.push(with),
            }
        }
        bytes
    }
}
