//! A clinician: a profile of the program `lanyard`, and what they type.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::node::text;
use crate::process::{self, Outcome, Programs, Surroundings};
use crate::wait::{self, SOON};
use crate::{Agent, HarnessError, Node};

/// Who somebody is, as their trust's operator knows it. All of it is fictional.
#[derive(Clone, Copy, Debug)]
pub struct PersonPlan {
    /// The display name.
    pub name: &'static str,
    /// The role.
    pub role: &'static str,
    /// The professional registration.
    pub registration: &'static str,
    /// The department.
    pub department: &'static str,
}

/// Everybody's PIN. It is unlike anything else that is written or travels.
pub const PIN: &str = "Lantern-417-Sedge";

/// An enrolled clinician with one device.
#[derive(Clone, Debug)]
pub struct Person {
    programs: Programs,
    plan: PersonPlan,
    trust: String,
    profile: PathBuf,
    surroundings: Surroundings,
    agent: Agent,
}

impl Person {
    /// Invites a person at their trust's node, and enrols their device, which is unlocked then.
    ///
    /// # Errors
    /// What either command says.
    pub fn enrol(
        programs: &Programs,
        plan: PersonPlan,
        trust: &str,
        node: &Node,
        profile: &Path,
    ) -> Result<Self, HarnessError> {
        let person = Self::existing(programs, plan, trust, profile);
        person.enrol_at(node)?;
        Ok(person)
    }

    /// Who has, or will have, this profile. If there is one, it is locked.
    pub fn existing(programs: &Programs, plan: PersonPlan, trust: &str, profile: &Path) -> Self {
        let (programs, trust, profile) = (programs.clone(), trust.to_owned(), profile.to_path_buf());
        let (surroundings, agent) = (Surroundings::default(), Agent::default());
        Self { programs, plan, trust, profile, surroundings, agent }
    }

    /// Invites them at a node, and enrols their device with the line, also one that has been enrolled and has no PIN at the node.
    ///
    /// # Errors
    /// What either command says.
    pub fn enrol_at(&self, node: &Node) -> Result<(), HarnessError> {
        let enrolled = self.enrol_by(&node.invite(&self.plan)?)?.json()?;
        crate::error::promise(enrolled["name"] == self.plan.name && enrolled["trust"] == self.trust, || {
            format!("{} of {} was enrolled as {enrolled}", self.plan.name, self.trust)
        })
    }

    /// Types `enrol`, this line, and [`PIN`].
    ///
    /// # Errors
    /// As [`Person::typing`].
    pub fn enrol_by(&self, line: &str) -> Result<Outcome, HarnessError> {
        self.typing(&["--json", "enrol"], &format!("{line}\n{PIN}"))
    }

    /// Unlocks their device.
    ///
    /// # Errors
    /// What the command says.
    pub fn unlock(&self) -> Result<Value, HarnessError> {
        self.typing(&["--json", "unlock"], PIN)?.json()
    }

    /// The process that keeps their device unlocked.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Where their program runs from now on.
    pub fn surround(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
    }

    /// Their name.
    pub fn name(&self) -> &str {
        self.plan.name
    }

    /// Who they are.
    pub fn plan(&self) -> &PersonPlan {
        &self.plan
    }

    /// The ODS code of their trust.
    pub fn trust(&self) -> &str {
        &self.trust
    }

    /// The directory of their profile.
    pub fn profile(&self) -> &Path {
        &self.profile
    }

    /// What the person types behind `lanyard`.
    ///
    /// # Errors
    /// [`HarnessError::System`] or [`HarnessError::TimedOut`]; how the command ended is in the outcome.
    pub fn command(&self, arguments: &[&str]) -> Result<Outcome, HarnessError> {
        let profile = text(&self.profile);
        let all = ["--profile", &profile].into_iter().chain(arguments.iter().copied());
        process::run_under(&self.surroundings, &self.programs.client(), all, None)
    }

    /// As [`Person::command`], with a line at standard input; the process that keeps the device unlocked runs then.
    ///
    /// # Errors
    /// As [`Person::command`], or as [`Agent::start`].
    pub fn typing(&self, arguments: &[&str], line: &str) -> Result<Outcome, HarnessError> {
        self.agent.start(self.plan.name, &self.programs, &self.surroundings, &self.profile)?;
        let profile = text(&self.profile);
        let all = ["--profile", &profile].into_iter().chain(arguments.iter().copied());
        process::run_under(&self.surroundings, &self.programs.client(), all, Some(&format!("{line}\n")))
    }

    /// As [`Person::command`], with `--json`; the command must come out.
    ///
    /// # Errors
    /// Also what the command says if it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, HarnessError> {
        let all: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        self.command(&all)?.json()
    }

    /// Begins a conversation with people who are enrolled, and returns its id once the owner trust has published it.
    ///
    /// # Errors
    /// What the command says.
    pub fn converse<'a>(
        &self,
        title: &str,
        class: &str,
        with: impl IntoIterator<Item = &'a Person>,
    ) -> Result<String, HarnessError> {
        let registrations: Vec<&str> = with.into_iter().map(|person| person.plan.registration).collect();
        for registration in &registrations {
            self.await_found(registration)?;
        }
        let mut arguments = vec!["conversation", "new", "--title", title, "--class", class];
        registrations.iter().for_each(|registration| arguments.extend(["--with", *registration]));
        let view = self.json(&arguments)?;
        let id = view["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| HarnessError::Promise(format!("`conversation new` printed no id: {view}")))
    }

    /// Waits until the directory names a person whom others can invite.
    fn await_found(&self, registration: &str) -> Result<(), HarnessError> {
        wait::until(format!("{} finds {registration}", self.plan.name), SOON, || {
            let found = self.json(&["find", registration])?;
            let devices = found["people"]
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|person| person["devices"].as_array());
            let reachable = devices.flatten().any(|device| device["reachable"] == true);
            Ok(if reachable { Ok(()) } else { Err(found) })
        })
    }

    /// Waits until they are in a conversation whose membership is settled.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], with what `conversation list` prints.
    pub fn await_joined(&self, conversation: &str, members: usize) -> Result<Value, HarnessError> {
        wait::until(format!("{} is in the conversation", self.plan.name), SOON, || {
            self.json(&["sync"])?;
            let list = self.json(&["conversation", "list"])?;
            let found = list["conversations"].as_array().into_iter().flatten().find(|c| {
                let count = c["members"].as_array().map_or(0, Vec::len);
                c["id"] == conversation && c["state"] == "open" && count == members
            });
            Ok(found.cloned().ok_or(list))
        })
    }

    /// Sends a message, and returns its id; the node has it on its disk.
    ///
    /// # Errors
    /// What the command says.
    pub fn send(&self, conversation: &str, text: &str) -> Result<String, HarnessError> {
        let sent = self.json(&["send", conversation, text])?;
        let id = sent["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| HarnessError::Promise(format!("the node did not take the message: {sent}")))
    }

    /// The messages of a conversation that are shown, after fetching what is new.
    ///
    /// # Errors
    /// What the command says.
    pub fn read(&self, conversation: &str) -> Result<Vec<Value>, HarnessError> {
        let read = self.json(&["read", conversation])?;
        Ok(read["messages"].as_array().cloned().unwrap_or_default())
    }

    /// Whether a message with this text is shown.
    ///
    /// # Errors
    /// What the command says.
    pub fn reads(&self, conversation: &str, text: &str) -> Result<bool, HarnessError> {
        Ok(self.read(conversation)?.iter().any(|message| message["text"] == text))
    }

    /// Waits until a message with this text is shown.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], with the texts that are shown.
    pub fn await_message(&self, conversation: &str, text: &str) -> Result<Value, HarnessError> {
        wait::until(format!("{} reads {text:?}", self.plan.name), SOON, || {
            let messages = self.read(conversation)?;
            let found = messages.iter().find(|message| message["text"] == text).cloned();
            Ok(found.ok_or_else(|| messages.iter().map(|m| m["text"].to_string()).collect::<Vec<_>>()))
        })
    }

    /// Waits until no message with this text is shown any more.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`].
    pub fn await_gone(&self, conversation: &str, text: &str) -> Result<(), HarnessError> {
        wait::until(format!("{} no longer reads {text:?}", self.plan.name), SOON, || {
            Ok(if self.reads(conversation, text)? { Err("still shown") } else { Ok(()) })
        })
    }

    /// Orders the deletion of a message, and returns the deletion's id.
    ///
    /// # Errors
    /// What the command says.
    pub fn delete(&self, message: &str, reason: &str) -> Result<String, HarnessError> {
        let deletion = self.json(&["delete", message, "--reason", reason])?;
        let id = deletion["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| HarnessError::Promise(format!("`delete` printed no id: {deletion}")))
    }

    /// Waits until exactly so many replicas have confirmed a deletion with a receipt that verifies.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], with the deletion as it is shown.
    pub fn await_confirmed(&self, deletion: &str, confirmed: u64) -> Result<Value, HarnessError> {
        wait::until(format!("{confirmed} replicas have confirmed the deletion"), SOON, || {
            let view = self.json(&["deletion", deletion])?;
            Ok(if view["confirmed"] == confirmed { Ok(view) } else { Err(view) })
        })
    }
}
