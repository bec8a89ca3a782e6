//! `conversation review`, `conversation admin`.

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Shows every member, and what has changed since they were last looked through. An administrator from the
trust that owns the conversation records a review: --confirm if all of them belong there, --remove to take
out those who do not, in the same step. Without one in time, the conversation can only be read.

Examples:
  lanyard conversation review \"Bed 4 transfer\"
  lanyard conversation review \"Bed 4 transfer\" --confirm
  lanyard conversation review \"Bed 4 transfer\" --remove \"Jo Lund@RTD\"";

/// What to do about the members.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// Its title, its id, or the first 4 or more digits of it
    #[arg(value_name = "CONVERSATION")]
    pub conversation: String,
    /// Record that you have looked through the members, and that they belong there
    #[arg(long)]
    pub confirm: bool,
    /// Take these out with all their devices, and record that the others belong there
    #[arg(long, value_name = "MEMBER", num_args = 1..)]
    pub remove: Vec<String>,
}

pub(super) const ADMIN_EXAMPLES: &str = "\
At least one administrator is from the trust that owns the conversation. If there is none, because their
devices were revoked or have lapsed, any member from there can become one with --add.

Example:
  lanyard conversation admin \"Bed 4 transfer\" --add \"Tom Brenner@RZ1\"";

/// Who is to administer.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// Its title, its id, or the first 4 or more digits of it
    #[arg(value_name = "CONVERSATION")]
    pub conversation: String,
    /// Members who are to be administrators; may be given several times
    #[arg(long, value_name = "MEMBER", required_unless_present = "remove")]
    pub add: Vec<String>,
    /// Administrators who are to be members alone; may be given several times
    #[arg(long, value_name = "MEMBER")]
    pub remove: Vec<String>,
}
