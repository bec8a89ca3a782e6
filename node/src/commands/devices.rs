//! `lanyard-node device` and `staff leave`: through the running node.

use super::operate::client;
use super::staff::invite_request;
use super::{CommandError, show};
use crate::admin::devices::{
    DeviceReport, LeaveRequest, RedeployRequest, Redeployed, Whose, WipeRequest, Wiped,
};
use crate::cli::{DeviceCommand, LeaveArgs, RedeployArgs, ReportArgs, WhoseArgs, WipeArgs};

pub(super) fn run(command: DeviceCommand) -> Result<(), CommandError> {
    match command {
        DeviceCommand::Wipe(args) => wipe(&args),
        DeviceCommand::Redeploy(args) => redeploy(&args),
        DeviceCommand::Report(args) => report(&args),
    }
}

fn wipe(args: &WipeArgs) -> Result<(), CommandError> {
    let whose = Whose { device: args.device.map(|device| device.to_string()), ..whose(&args.whose) };
    let reason = args.reason.name().into();
    let request = WipeRequest { whose, reason, reference: args.reference.clone() };
    let wiped: Wiped = client(&args.node)?.post("/v1/devices/wipe", &request)?;
    show(args.json, &wiped, Wiped::to_text)
}

pub(super) fn leave(args: &LeaveArgs) -> Result<(), CommandError> {
    let request = LeaveRequest { whose: whose(&args.whose), reference: args.reference.clone() };
    let wiped: Wiped = client(&args.node)?.post("/v1/staff/leave", &request)?;
    show(args.json, &wiped, Wiped::to_text)
}

fn redeploy(args: &RedeployArgs) -> Result<(), CommandError> {
    let invite = &args.invite;
    let request = RedeployRequest {
        device: args.device.to_string(),
        reference: args.reference.clone(),
        invite: invite_request(invite),
    };
    let done: Redeployed = client(&invite.node)?.post("/v1/devices/redeploy", &request)?;
    // The line alone goes to standard output, so that it can be piped without what is said about it.
    if !invite.json {
        eprintln!("{}", done.wiped.to_text());
        done.invited.tell();
    }
    show(invite.json, &done, |done| done.invited.invitation.clone())
}

fn report(args: &ReportArgs) -> Result<(), CommandError> {
    let target = match args.device {
        Some(device) => format!("/v1/devices/report?device={device}"),
        None => "/v1/devices/report".into(),
    };
    let report: Vec<DeviceReport> = client(&args.node)?.get(&target)?;
    show(args.json, &report, |report| match &report[..] {
        [] => "no device was wiped".into(),
        report => report.iter().map(DeviceReport::to_text).collect::<Vec<_>>().join("\n"),
    })
}

fn whose(args: &WhoseArgs) -> Whose {
    Whose { device: None, registration: args.registration.clone(), name: args.name.clone() }
}

impl Wiped {
    fn to_text(&self) -> String {
        let lines = self.names.iter().zip(&self.wiped);
        let mut text: String = lines.map(|(name, device)| format!("wiped {name}: {device}\n")).collect();
        for invitation in &self.invitations {
            text.push_str(&format!("invitation {invitation} has ended\n"));
        }
        if self.record.is_some() {
            text.push_str(
                "Access has ended here, and ends at the other nodes as they hear of it. What the devices confirm is in: \
                 lanyard-node device report",
            );
        }
        text.trim_end().into()
    }
}

impl DeviceReport {
    fn to_text(&self) -> String {
        let access = match &self.access_ended {
            Some(at) => format!("access ended {at}"),
            None => "access ends with the next revocation list, within minutes".into(),
        };
        let device = match (&self.wiped, &self.last_seen) {
            (Some(wiped), _) => format!("device confirmed wiped {wiped}"),
            (None, Some(seen)) => format!("not seen since {seen}"),
            (None, None) => "never seen by this node".into(),
        };
        let why = match &self.reference {
            Some(reference) => format!("{}, reference {reference}", self.reason),
            None => self.reason.clone(),
        };
        format!("{}: {access}; {device}\n  {why}\n  {}", self.name, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_known_and_no_more() {
        let report = DeviceReport {
            device: "9f2c".into(),
            name: "Dr Ada Okafor".into(),
            reason: "lost".into(),
            reference: Some("INC-7".into()),
            access_ended: Some("2026-03-01T14:02:00Z".into()),
            wiped: None,
            told: None,
            last_seen: Some("2026-03-01T13:58:00Z".into()),
            receipt: None,
        };
        let text = report.to_text();
        assert!(
            text.contains("access ended 2026-03-01T14:02:00Z; not seen since 2026-03-01T13:58:00Z"),
            "{text}"
        );
        assert!(text.contains("lost, reference INC-7"), "{text}");
        let never = DeviceReport { last_seen: None, ..report.clone() }.to_text();
        assert!(never.contains("; never seen by this node"), "{never}");
        let wiped = DeviceReport { wiped: Some("2026-03-01T14:03:00Z".into()), ..report }.to_text();
        assert!(wiped.contains("; device confirmed wiped 2026-03-01T14:03:00Z"), "{wiped}");
        assert!(!wiped.contains("not seen"), "{wiped}");
    }
}
