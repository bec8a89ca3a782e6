//! What a run is made of: how much of each fault, how many trusts, how long. Scenarios are committed files; each is listed here,
//! and a test refuses a file that is not.

use serde::Deserialize;

/// Every committed scenario: its name, and its file.
pub const SCENARIOS: &[(&str, &str)] = &[
    ("everything", include_str!("../scenarios/everything.toml")),
    ("partitions", include_str!("../scenarios/partitions.toml")),
    ("crashes", include_str!("../scenarios/crashes.toml")),
    ("clocks", include_str!("../scenarios/clocks.toml")),
    ("liar", include_str!("../scenarios/liar.toml")),
    ("hub", include_str!("../scenarios/hub.toml")),
    ("trust", include_str!("../scenarios/trust.toml")),
    ("lifetimes", include_str!("../scenarios/lifetimes.toml")),
    ("steps", include_str!("../scenarios/steps.toml")),
    ("questions", include_str!("../scenarios/questions.toml")),
    ("holds", include_str!("../scenarios/holds.toml")),
];

/// Why a scenario cannot be run. The fault of who wrote it.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not a scenario.
    #[error("{0}: {1}")]
    Toml(String, toml::de::Error),
    /// A value outside of its range.
    #[error("{0}: {1}")]
    Range(String, &'static str),
}

/// A scenario. Chances are per thousand of the cases in which the fault could occur; the other fields have their units in their
/// names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for.
    pub about: String,
    /// Fewest and most honest trusts, from 3 to 5.
    pub trusts: [u64; 2],
    /// In how many runs one more trust lies.
    #[serde(default)]
    pub liar: u64,
    /// Shortest and longest time with faults, in seconds.
    pub duration_secs: [u64; 2],
    /// Time between two actions of clients, at least and at most, in milliseconds.
    pub action_ms: [u64; 2],
    /// Time between two actions of the liar, at least and at most, in milliseconds.
    #[serde(default = "default_liar_ms")]
    pub liar_ms: [u64; 2],
    /// Of each action of the liar: it is a question of anti-entropy, or a promise.
    #[serde(default)]
    pub questions: u64,
    /// Chances of what happens to the network.
    #[serde(default)]
    pub network: Network,
    /// Chances of what happens to nodes.
    #[serde(default)]
    pub nodes: Nodes,
    /// Weights of what clients and operators do.
    #[serde(default)]
    pub actions: Actions,
    /// Fewest changes of rows at which a step leaves the rest for the next, in some of the nodes; 0 for the engine's own bound.
    #[serde(default)]
    pub step_changes: u64,
    /// What some of the nodes serve a peer within a second, in bytes; 0 for the engine's own bound.
    #[serde(default)]
    pub served_bytes: u64,
    /// Longest life of most messages, in seconds.
    #[serde(default = "default_life_secs")]
    pub life_secs: u64,
}

/// Of each frame, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// It is lost.
    pub lose: u64,
    /// It comes twice.
    pub duplicate: u64,
    /// It may overtake others.
    pub reorder: u64,
    /// It takes seconds.
    pub delay: u64,
    /// Each second: links are cut.
    pub partition: u64,
    /// Each second, of each link that is cut: it heals.
    pub heal: u64,
}

/// Each second, of each node, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// It crashes.
    pub crash: u64,
    /// At each commit: it crashes around it.
    pub crash_at_commit: u64,
    /// It stands still for seconds.
    pub pause: u64,
    /// It is replaced by an empty one.
    pub replace: u64,
    /// Of each run: one trust's node is added late.
    pub late: u64,
    /// Of each run: a trust gets a second node.
    pub second: u64,
    /// Its clock jumps.
    pub clock_jump: u64,
    /// Of each node: its clock differs from the start, and drifts.
    pub clock_skew: u64,
    /// At each commit: the write fails.
    pub write_error: u64,
    /// At each commit: a read fails.
    pub read_error: u64,
    /// Its disk is full for seconds.
    pub disk_full: u64,
    /// Of each commit: its sync takes seconds.
    pub slow_sync: u64,
    /// Of each read for a device or a peer that falls between a commit and its sync: it sees the commit.
    pub early_read: u64,
}

/// Weights among each other.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Actions {
    /// A device sends a message.
    pub send: u64,
    /// A device deletes what it sent.
    pub delete: u64,
    /// An officer deletes messages.
    pub officer: u64,
    /// An officer deletes a conversation up to a moment.
    pub up_to: u64,
    /// An officer deletes what a device has sent.
    pub person: u64,
    /// The owner's node lets a conversation's messages end sooner.
    pub standing: u64,
    /// An officer puts a conversation on hold, or ends a hold.
    pub hold: u64,
    /// A member hands in a commit.
    pub change: u64,
    /// A device reads its inbox.
    pub read: u64,
    /// A registrar revokes.
    pub revoke: u64,
    /// A registrar publishes an entry again.
    pub entry: u64,
    /// The authorities sign the next charter.
    pub charter: u64,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            send: 45,
            delete: 8,
            officer: 3,
            up_to: 1,
            person: 1,
            standing: 2,
            hold: 2,
            change: 4,
            read: 30,
            revoke: 1,
            entry: 1,
            charter: 0,
        }
    }
}

const fn default_liar_ms() -> [u64; 2] {
    [300, 2500]
}

const fn default_life_secs() -> u64 {
    300
}

impl Scenario {
    /// Reads a scenario; `name` is for messages.
    ///
    /// # Errors
    /// [`ScenarioError`], which names the field.
    pub fn read(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|e| ScenarioError::Toml(name.into(), e))?;
        let range =
            |fits: bool, what| if fits { Ok(()) } else { Err(ScenarioError::Range(name.into(), what)) };
        let [fewest, most] = scenario.trusts;
        range(fewest >= 3 && fewest <= most && most <= 5, "`trusts` must be two numbers from 3 to 5")?;
        let ordered = |[low, high]: [u64; 2]| low > 0 && low <= high;
        range(ordered(scenario.duration_secs), "`duration_secs` must be above 0, the lower first")?;
        range(ordered(scenario.action_ms), "`action_ms` must be above 0, the lower first")?;
        range(ordered(scenario.liar_ms), "`liar_ms` must be above 0, the lower first")?;
        Ok(scenario)
    }

    /// The committed scenario of this name.
    pub fn named(name: &str) -> Option<Self> {
        let (name, text) = SCENARIOS.iter().find(|(n, _)| *n == name)?;
        Some(Self::read(name, text).expect("a test reads every committed scenario"))
    }

    /// The name of the scenario that a seed runs, if none is asked for: they take turns.
    pub fn of_seed(seed: u64) -> &'static str {
        SCENARIOS[(seed % SCENARIOS.len() as u64) as usize].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_scenario_and_is_listed() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut listed: Vec<_> = SCENARIOS.iter().map(|(name, _)| (*name).to_owned()).collect();
        listed.sort();
        assert_eq!(files, listed);
        for (name, text) in SCENARIOS {
            Scenario::read(name, text).unwrap();
        }
    }

    #[test]
    fn what_is_no_scenario_is_refused_by_name() {
        let good = SCENARIOS[0].1;
        let unknown = Scenario::read("x.toml", &format!("meteors = 3\n{good}")).unwrap_err();
        assert!(unknown.to_string().contains("meteors"));
        let many = good.replace("trusts = [3, 5]", "trusts = [3, 9]");
        assert!(Scenario::read("x.toml", &many).unwrap_err().to_string().contains("`trusts`"));
    }
}
