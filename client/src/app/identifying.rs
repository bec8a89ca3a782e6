//! What in a text identifies a patient, by the client's own table and by what this device's trust adds to it.

use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::limits::PATTERNS_MAX;

use super::{App, AppError};
use crate::patterns::{self, Found};
use crate::vault::VaultError;

impl App {
    /// What a text holds.
    pub(super) fn identifying(&self, text: &str) -> Result<Vec<Found>, AppError> {
        Ok(patterns::found_in(text, &self.session.vault().patterns()?))
    }

    /// Keeps what the trust adds, if it is something else than before: as many as a trust may have. Returns what the person should know of
    /// it.
    pub(crate) fn keep_patterns(&mut self, told: &[TextPattern]) -> Result<Vec<String>, VaultError> {
        let (total, told) = (told.len(), &told[..told.len().min(PATTERNS_MAX)]);
        if self.session.vault().patterns()? == told {
            return Ok(Vec::new());
        }
        self.session.vault_mut().put_patterns(told)?;
        let unusable = |pattern: &TextPattern| {
            let why = patterns::usable(pattern).err()?;
            let name = &pattern.name;
            Some(format!("your trust's pattern {name:?} cannot be looked for: {why}; tell your trust's IT"))
        };
        let left_out = (total > PATTERNS_MAX).then(|| {
            format!("your trust has {total} patterns, and only the first {PATTERNS_MAX} are looked for; tell your trust's IT")
        });
        Ok(told.iter().filter_map(unusable).chain(left_out).collect())
    }
}
