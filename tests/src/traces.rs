//! Traces of a text or secret in bytes: as it stands, and in the forms that programs write such things in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::HarnessError;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Shorter ones would be found by chance.
const BYTES_MIN: usize = 8;

/// A text or secret in all its forms.
#[derive(Clone, Debug)]
pub struct Trace {
    what: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Trace {
    /// Of a text of at least 8 bytes.
    pub fn of(text: &str) -> Self {
        let mut trace = Self::of_secret(text, text.as_bytes());
        let utf16 = |units: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(units).collect();
        trace.forms.push(("UTF-16, little endian", utf16(u16::to_le_bytes)));
        trace.forms.push(("UTF-16, big endian", utf16(u16::to_be_bytes)));
        trace
    }

    /// Of at least 8 secret bytes, which are called `what`.
    pub fn of_secret(what: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= BYTES_MIN, "{what:?} is so short that chance would write it");
        Self { what: what.into(), forms: forms(bytes) }
    }

    /// The text, or what the secret is called.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The forms that are looked for, with their names.
    pub fn forms(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.forms.iter().map(|(name, form)| (*name, form.as_slice()))
    }

    /// The name of the first form that is somewhere in `bytes`.
    pub fn in_bytes(&self, bytes: &[u8]) -> Option<&'static str> {
        let found = self.forms.iter().find(|(_, form)| contains(bytes, form));
        found.map(|(name, _)| *name)
    }

    /// The first file in or below `dir` in which there is a form of it, and the form's name.
    ///
    /// # Errors
    /// [`HarnessError::System`] if something cannot be read.
    pub fn in_files(&self, dir: &Path) -> Result<Option<(PathBuf, &'static str)>, HarnessError> {
        for file in files(dir)? {
            let content = fs::read(&file).map_err(HarnessError::system(file.display().to_string()))?;
            if let Some(form) = self.in_bytes(&content) {
                return Ok(Some((file, form)));
            }
        }
        Ok(None)
    }
}

/// Every file in and below `dir`.
///
/// # Errors
/// [`HarnessError::System`] if a directory cannot be read.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>, HarnessError> {
    let failed = |path: &Path| HarnessError::system(path.display().to_string());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let kind = entry.file_type().map_err(failed(&entry.path()))?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Copies a directory with the files in and below it, readable by whom they were. Sockets and empty directories stay behind.
///
/// # Errors
/// [`HarnessError::System`] if something cannot be read or written.
pub fn copy_dir(from: &Path, to: &Path) -> Result<(), HarnessError> {
    let made = |dir: &Path, like: &Path| {
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::metadata(like)?.permissions())
    };
    for file in files(from)? {
        let below = file.strip_prefix(from).unwrap_or(&file);
        let (copied, failed) = (to.join(below), HarnessError::system(file.display().to_string()));
        let parents = copied.parent().zip(file.parent()).map_or(Ok(()), |(dir, like)| made(dir, like));
        parents.and_then(|()| fs::copy(&file, &copied)).map_err(failed)?;
    }
    Ok(())
}

/// Whether `part` is somewhere in `bytes`.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some((first, rest)) = part.split_first() else {
        return true;
    };
    let mut left = bytes;
    while let Some(at) = left.iter().position(|byte| byte == first) {
        left = &left[at + 1..];
        if left.starts_with(rest) {
            return true;
        }
    }
    false
}

fn forms(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = |digits: fn(u8) -> String| bytes.iter().map(|b| digits(*b)).collect::<String>().into_bytes();
    let mut forms = vec![
        ("plain", bytes.to_vec()),
        ("hexadecimal", hex(|b| format!("{b:02x}"))),
        ("hexadecimal, upper case", hex(|b| format!("{b:02X}"))),
    ];
    // Wherever it begins within what was encoded, its first whole group of six bits begins 0, 2 or 4 bits later.
    for skipped in [0, 2, 4] {
        for (name, alphabet) in [("base64", BASE64), ("base64, for URLs", BASE64_URL)] {
            forms.push((name, base64(bytes, skipped, alphabet)));
        }
    }
    forms
}

/// The whole groups of six bits (RFC 4648, section 4), from the bit `skipped` on.
fn base64(bytes: &[u8], skipped: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let bit = |at: usize| usize::from(bytes[at / 8] >> (7 - at % 8) & 1);
    (skipped..)
        .step_by(6)
        .take_while(|at| at + 6 <= bytes.len() * 8)
        .map(|at| alphabet[(at..at + 6).fold(0, |group, at| group << 1 | bit(at))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_in_each_form_and_nothing_is_found_elsewhere() {
        let trace = Trace::of("Zephyr >> 77?");
        for written in [
            "a Zephyr >> 77? b",
            "5a6570687972203e3e2037373f",
            "5A6570687972203E3E2037373F",
            // By Python's base64, with 0, 1 and 2 letters before it, and one after it.
            "WmVwaHlyID4+IDc3P3g=",
            "YVplcGh5ciA+PiA3Nz94",
            "YWFaZXBoeXIgPj4gNzc/eA==",
            "YVplcGh5ciA-PiA3Nz94",
        ] {
            assert!(trace.in_bytes(written.as_bytes()).is_some(), "{written}");
        }
        let utf16: Vec<u8> = "xZephyr >> 77?".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(trace.in_bytes(&utf16), Some("UTF-16, big endian"));
        assert_eq!(trace.in_bytes(b"Zephyr >> 78? 5a6570687972203e3e2037383f"), None);
        assert_eq!(trace.in_bytes(b""), None);
    }

    #[test]
    fn every_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(dir.path().join("clean"), "nothing").unwrap();
        let trace = Trace::of("Zephyr 77");
        assert!(trace.in_files(dir.path()).unwrap().is_none());
        fs::write(inner.join("stained"), "5a6570687972203737").unwrap();
        let found = trace.in_files(dir.path()).unwrap();
        assert_eq!(found, Some((inner.join("stained"), "hexadecimal")));
    }
}
