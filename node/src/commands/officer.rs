//! `lanyard-node delete` and `hold`, through the running node.

use super::operate::client;
use super::{CommandError, show};
use crate::admin::deletion::Deletion;
use crate::admin::officer::{
    DeleteConversationRequest, DeletePersonRequest, EndHoldRequest, HoldShown, PersonDeleted,
    PlaceHoldRequest,
};
use crate::cli::{
    DeleteCommand, DeleteConversationArgs, DeletePersonArgs, EndHoldArgs, HoldCommand, ListHoldsArgs,
    PlaceHoldArgs,
};

pub(super) fn delete(command: DeleteCommand) -> Result<(), CommandError> {
    match command {
        DeleteCommand::Conversation(args) => delete_conversation(&args),
        DeleteCommand::Person(args) => delete_person(&args),
    }
}

pub(super) fn hold(command: HoldCommand) -> Result<(), CommandError> {
    match command {
        HoldCommand::Place(args) => place(&args),
        HoldCommand::List(args) => list(&args),
        HoldCommand::End(args) => end(&args),
    }
}

fn delete_conversation(args: &DeleteConversationArgs) -> Result<(), CommandError> {
    let request = DeleteConversationRequest {
        conversation: args.conversation.to_string(),
        up_to: args.up_to.map(|at| at.as_secs()),
        reason: args.order.reason.name().into(),
        reference: args.order.reference.clone(),
    };
    let deletion: Deletion = client(&args.node)?.post("/v1/deletions/conversation", &request)?;
    show(args.json, &deletion, Deletion::to_text)
}

fn delete_person(args: &DeletePersonArgs) -> Result<(), CommandError> {
    let request = DeletePersonRequest {
        registration: args.registration.clone(),
        device: args.device.map(|device| device.to_string()),
        everywhere: args.everywhere,
        reason: args.order.reason.name().into(),
        reference: args.order.reference.clone(),
    };
    let deleted: PersonDeleted = client(&args.node)?.patient().post("/v1/deletions/person", &request)?;
    show(args.json, &deleted, |deleted| {
        let mut lines = vec![format!(
            "{} messages of {} devices, in {} deletions",
            deleted.messages,
            deleted.devices.len(),
            deleted.deletions.len()
        )];
        lines.extend(
            deleted.deletions.iter().map(|d| format!("  {} {}: {}", d.tombstone, d.conversation, d.messages)),
        );
        lines.push("Who has confirmed each: lanyard-node deletions ID".into());
        lines.push(
            "Not known to this node, and so not deleted: what the person sent through another node of the trust, and what \
             people of other trusts sent, which their own trust's records officer deletes."
                .into(),
        );
        lines.join("\n")
    })
}

fn place(args: &PlaceHoldArgs) -> Result<(), CommandError> {
    let request = PlaceHoldRequest {
        conversation: args.conversation.to_string(),
        reference: args.reference.clone(),
        reason: args.reason.clone(),
        until: args.until.as_secs(),
    };
    let hold: HoldShown = client(&args.node)?.post("/v1/holds", &request)?;
    show(args.json, &hold, HoldShown::to_text)
}

fn list(args: &ListHoldsArgs) -> Result<(), CommandError> {
    let holds: Vec<HoldShown> = client(&args.node)?.get("/v1/holds")?;
    show(args.json, &holds, |holds| match holds.as_slice() {
        [] => "no holds".into(),
        holds => holds.iter().map(|hold| hold.to_text() + "\n").collect(),
    })
}

fn end(args: &EndHoldArgs) -> Result<(), CommandError> {
    let request =
        EndHoldRequest { conversation: args.conversation.to_string(), reference: args.reference.clone() };
    let hold: HoldShown = client(&args.node)?.post("/v1/holds/end", &request)?;
    show(args.json, &hold, |hold| {
        format!(
            "the hold on {} has ended: {} envelopes are erased, and {} deletions attested",
            hold.conversation, hold.envelopes, hold.deletions
        )
    })
}

impl HoldShown {
    fn to_text(&self) -> String {
        let state = if self.ending { ", ending" } else { "" };
        [
            format!("conversation {}{state}", self.conversation),
            format!("  reference    {}", self.reference),
            format!("  reason       {}", self.reason),
            format!("  lasts        {} to {}", self.placed, self.until),
            format!("  keeps        {} envelopes, {} deletions wait", self.envelopes, self.deletions),
        ]
        .join("\n")
    }
}
