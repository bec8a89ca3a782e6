//! How the demo is told: to people line by line as it happens, or to programs as one JSON object at the end.

use std::io::Write;
use std::time::Instant;

use lanyard_tests::HarnessError;
use serde_json::{Map, Value, json};

/// The story so far.
pub struct Story {
    json: bool,
    began: Instant,
    steps: Vec<Value>,
    failed: Option<String>,
}

/// One step, while it is played.
pub struct Step {
    json: bool,
    figures: Map<String, Value>,
}

impl Story {
    /// Begins, to be told to people, or as JSON.
    pub fn begin(json: bool) -> Self {
        let story = Self { json, began: Instant::now(), steps: Vec::new(), failed: None };
        story.say("Lanyard: three trusts, one conversation, one deletion that reaches every replica.");
        story.say("Every process is real, every address is on this machine, every name is fictional.");
        story
    }

    /// Plays one step. Its stable `name` is for programs, its `title` for people.
    ///
    /// # Errors
    /// What `play` fails with; the step is then told as failed.
    pub fn step<T>(
        &mut self,
        name: &'static str,
        title: &str,
        play: impl FnOnce(&mut Step) -> Result<T, HarnessError>,
    ) -> Result<T, HarnessError> {
        self.say(&format!("\n{}. {title}", self.steps.len() + 1));
        let (began, mut step) = (Instant::now(), Step { json: self.json, figures: Map::new() });
        let result = play(&mut step);
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut told = json!({ "name": name, "ok": result.is_ok(), "took_ms": took_ms });
        if let Some(fields) = told.as_object_mut() {
            fields.extend(step.figures);
            if let Err(error) = &result {
                fields.insert("error".into(), error.to_string().into());
            }
        }
        self.steps.push(told);
        match &result {
            Ok(_) => self.say(&format!("   done in {}", seconds(took_ms))),
            Err(error) => {
                self.say(&format!("   FAILED: {error}"));
                self.failed = Some(error.to_string());
            }
        }
        result
    }

    /// Notes what ended the story, unless a step has told it.
    pub fn fail(&mut self, error: &HarnessError) {
        if self.failed.is_none() {
            self.say(&format!("\nFAILED: {error}"));
            self.failed = Some(error.to_string());
        }
    }

    /// Tells the end, with advice if there is any; returns whether every step came out.
    pub fn end(self, advice: Option<&str>) -> bool {
        let ok = self.failed.is_none();
        if self.json {
            let mut told = json!({ "ok": ok, "steps": self.steps });
            if let (Some(error), Some(fields)) = (&self.failed, told.as_object_mut()) {
                fields.insert("error".into(), error.as_str().into());
            }
            line(&told.to_string());
            if let Some(advice) = advice {
                eprintln!("{advice}");
            }
            return ok;
        }
        let took = seconds(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX));
        match ok {
            true => line(&format!("\nAll {} steps came out, in {took}.", self.steps.len())),
            false => line(&format!("\nNot every step came out. Stopped after {took}, and cleaned up.")),
        }
        if let Some(advice) = advice {
            line(&format!("\n{advice}"));
        }
        ok
    }

    fn say(&self, text: &str) {
        if !self.json {
            line(text);
        }
    }
}

impl Step {
    /// Tells people something.
    pub fn tell(&self, text: impl AsRef<str>) {
        if !self.json {
            line(&format!("   {}", text.as_ref()));
        }
    }

    /// Gives programs a figure.
    pub fn figure(&mut self, name: &'static str, value: impl Into<Value>) {
        self.figures.insert(name.into(), value.into());
    }
}

/// Whoever has stopped reading has read enough: the demo goes on to its end, where it cleans up.
fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
