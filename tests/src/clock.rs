//! Clocks that are wrong: a program runs with a small library before libc, which moves what `clock_gettime` says by as many seconds
//! as a file holds. The file can be changed while the program runs. Programs themselves have no such option.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::process::{self, Surroundings};
use crate::{HarnessError, node::text};

const SOURCE: &str = "src/clock.c";

/// The library, from which any number of clocks are made.
#[derive(Clone, Debug)]
pub struct Clocks {
    library: PathBuf,
    dir: PathBuf,
}

/// One clock, for any number of programs.
#[derive(Clone, Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clocks {
    /// Compiles the library into `dir`, where also the clocks' files will be.
    ///
    /// # Errors
    /// What the C compiler says.
    pub fn build(dir: &Path) -> Result<Self, HarnessError> {
        let library = dir.join("clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(SOURCE);
        let (out, source) = (text(&library), text(&source));
        process::run(Path::new("cc"), ["-shared", "-fPIC", "-O1", "-Wall", "-o", &out, &source], None)?
            .done()?;
        Ok(Self { library, dir: dir.into() })
    }

    /// A clock that is right as yet.
    ///
    /// # Errors
    /// What the system says about its file.
    pub fn clock(&self, name: &str) -> Result<Clock, HarnessError> {
        let file = self.dir.join(format!("{name}.clock"));
        fs::write(&file, digits(0)).map_err(HarnessError::system(text(&file)))?;
        Ok(Clock { library: self.library.clone(), file })
    }
}

impl Clock {
    /// From now on the clock is so many seconds before (or, below 0, behind) the machine's.
    ///
    /// # Errors
    /// What the system says about its file.
    pub fn set(&self, ahead_secs: i64) -> Result<(), HarnessError> {
        // Never shorter for a moment, in which a reader would find nothing.
        let written = File::options().write(true).open(&self.file);
        let written = written.and_then(|mut file| file.write_all(digits(ahead_secs).as_bytes()));
        written.map_err(HarnessError::system(text(&self.file)))
    }

    /// Those of a program that goes by this clock.
    pub fn surroundings(&self) -> Surroundings {
        let (library, file) = (text(&self.library), text(&self.file));
        Surroundings::new([
            "env".to_owned(),
            format!("LD_PRELOAD={library}"),
            format!("LANYARD_TESTS_CLOCK={file}"),
        ])
    }
}

/// Always of the same length.
fn digits(secs: i64) -> String {
    format!("{secs:+021}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_its_clock_and_each_change_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clocks::build(dir.path()).unwrap().clock("wrong").unwrap();
        let seconds = |surroundings: &Surroundings| {
            let date = process::run_under(surroundings, Path::new("date"), ["+%s"], None).unwrap();
            date.stdout.trim().parse::<i64>().unwrap()
        };
        for ahead in [0, 100_000, -100_000, 0] {
            clock.set(ahead).unwrap();
            let (before, seen) = (seconds(&Surroundings::default()), seconds(&clock.surroundings()));
            let off = seen - before - ahead;
            assert!((0..60).contains(&off), "{ahead} s ahead: off by {off} s");
        }
    }
}
