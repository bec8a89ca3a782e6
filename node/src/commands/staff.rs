//! `lanyard-node staff`: invitations and devices, through the running node.

use super::operate::client;
use super::{CommandError, devices, show};
use crate::admin::api::{InviteRequest, Invited, RevokeAnswer, RevokeRequest, Staff};
use crate::cli::{InviteArgs, ListArgs, RevokeStaffArgs, StaffCommand};
use crate::invitations::Invitee;

pub(super) fn run(command: StaffCommand) -> Result<(), CommandError> {
    match command {
        StaffCommand::Invite(args) => invite(&args),
        StaffCommand::List(args) => list(&args),
        StaffCommand::Revoke(args) => revoke(&args),
        StaffCommand::Leave(args) => devices::leave(&args),
    }
}

/// What is asked for.
pub(super) fn invite_request(args: &InviteArgs) -> InviteRequest {
    let invitee = Invitee {
        name: args.name.clone(),
        role: args.role.clone(),
        department: args.department.clone(),
        registration: args.registration.clone(),
        staff_number: args.staff_number.clone(),
        checked_by: args.checked_by.clone(),
        replaces: args.replaces.map(|device| device.to_string()),
    };
    InviteRequest { invitee, hours: args.hours }
}

fn invite(args: &InviteArgs) -> Result<(), CommandError> {
    let request = invite_request(args);
    let invited: Invited = client(&args.node)?.post("/v1/staff/invitations", &request)?;
    // The line alone goes to standard output, so that it can be piped without what is said about it.
    if !args.json {
        invited.tell();
    }
    show(args.json, &invited, |invited| invited.invitation.clone())
}

impl Invited {
    /// What goes with the line.
    pub(super) fn tell(&self) {
        eprintln!(
            "Invitation for {}, until {}. Whoever has this line can enrol under that name:",
            self.name, self.expires
        );
    }
}

fn list(args: &ListArgs) -> Result<(), CommandError> {
    let path = if args.earlier { "/v1/staff?earlier=true" } else { "/v1/staff" };
    let staff: Staff = client(&args.node)?.get(path)?;
    show(args.json, &staff, |staff| {
        let mut lines = vec![format!("{} devices", staff.devices.len())];
        for device in &staff.devices {
            let state = match &device.revoked {
                Some(at) => format!("revoked {at}"),
                None => format!("until {}", device.expires),
            };
            let details = [&device.role, &device.department, &device.registration];
            let details: Vec<_> = details.into_iter().flatten().map(String::as_str).collect();
            lines.push(format!("  {}, {} ({state})", device.name, details.join(", ")));
            lines.push(format!("    {}", device.fingerprint));
        }
        lines.push(format!("{} invitations", staff.invitations.len()));
        for invitation in &staff.invitations {
            let (name, state, until) = (&invitation.name, &invitation.state, &invitation.expires);
            lines.push(format!("  {name}: {state}, until {until}, checked by {}", invitation.checked_by));
        }
        lines.join("\n")
    })
}

fn revoke(args: &RevokeStaffArgs) -> Result<(), CommandError> {
    let request = RevokeRequest {
        device: args.device.map(|d| d.to_string()),
        name: args.name.clone(),
        certificate: None,
        reason: args.reason.name().into(),
    };
    let answer: RevokeAnswer = client(&args.node)?.post("/v1/staff/revocations", &request)?;
    show(args.json, &answer, RevokeAnswer::to_text)
}
