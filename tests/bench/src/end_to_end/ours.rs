//! Lanyard: two trusts' nodes as processes, and clients by the client's library, each with its vault, as the program `lanyard` has
//! them while it works.

use std::time::Duration;

use lanyard_client::app::view::MessageState;
use lanyard_client::app::{App, Waiter};
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::{ONE_EACH, TrustPlan};
use lanyard_tests::{Cluster, Person, PersonPlan, Programs};

use super::{Figures, Plan};
use crate::load::{Ends, Failure, Receiver, Sender};

/// Clinicians of either trust, as many as there are pairs at most.
const A: [PersonPlan; 8] = [
    person("Dr Ada Thorne", "GMC 0000111"),
    person("Dr Bram Oakley", "GMC 0000112"),
    person("Dr Cleo Marsh", "GMC 0000113"),
    person("Dr Dov Hartree", "GMC 0000114"),
    person("Dr Esme Quill", "GMC 0000115"),
    person("Dr Finn Rook", "GMC 0000116"),
    person("Dr Greta Vane", "GMC 0000117"),
    person("Dr Hugo Lamb", "GMC 0000118"),
];
const B: [PersonPlan; 8] = [
    person("Dr Iris Wolde", "GMC 0000211"),
    person("Dr Jonas Pike", "GMC 0000212"),
    person("Dr Kezia Stroud", "GMC 0000213"),
    person("Dr Leo Farrant", "GMC 0000214"),
    person("Dr Maud Selby", "GMC 0000215"),
    person("Dr Nils Corran", "GMC 0000216"),
    person("Dr Orla Bexley", "GMC 0000217"),
    person("Dr Pavel Dunne", "GMC 0000218"),
];

const fn person(name: &'static str, registration: &'static str) -> PersonPlan {
    PersonPlan { name, role: "Registrar", registration, department: "Acute medicine" }
}

pub(super) fn measure(plan: Plan) -> Result<Figures, Failure> {
    let plans = [
        TrustPlan { people: A.split_at(plan.pairs).0, ..ONE_EACH[0] },
        TrustPlan { people: B.split_at(plan.pairs).0, ..ONE_EACH[1] },
    ];
    let mut cluster = Cluster::started(&Programs::find()?, &plans)?;
    cluster.enrol_all()?;
    let mut pairs = Vec::new();
    for (a, b) in cluster.trusts[0].people.iter().zip(&cluster.trusts[1].people) {
        pairs.push(join(a, b)?);
    }
    let figures = super::figures(&mut pairs, plan)?;
    drop(pairs);
    cluster.stop()?;
    Ok(figures)
}

/// Two people in a conversation of their own.
fn join(a: &Person, b: &Person) -> Result<Ends, Failure> {
    let conversation = a.converse("Handover", "clinical", [b])?;
    b.await_joined(&conversation, 2)?;
    let (sending, receiving) = (Profile::at(a.profile()), Profile::at(b.profile()));
    let sender = Writing { app: App::open_unattended(&sending)?, conversation: conversation.clone() };
    let waiter = Waiter::connect(&receiving)?;
    let receiver = Reading { app: App::open_unattended(&receiving)?, waiter, conversation };
    Ok(Ends { sender: Box::new(sender), receiver: Box::new(receiver) })
}

/// A client that sends to one conversation.
struct Writing {
    app: App,
    conversation: String,
}

impl Sender for Writing {
    /// When it returns, the sender's node has the text on its disk.
    fn send(&mut self, text: &str) -> Result<(), Failure> {
        let sent = self.app.send(&self.conversation, text, None)?;
        match sent.state {
            MessageState::Sent => Ok(()),
            _ => Err("a text was queued: the node did not take it".into()),
        }
    }
}

/// A client that follows one conversation.
struct Reading {
    app: App,
    waiter: Waiter,
    conversation: String,
}

impl Receiver for Reading {
    fn receive(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
        if !self.waiter.wait(patience)? {
            return Ok(Vec::new());
        }
        let received = self.app.sync()?.received;
        if received == 0 {
            return Ok(Vec::new());
        }
        let read = self.app.messages(Some(&self.conversation), received)?;
        Ok(read.messages.into_iter().map(|message| message.text).collect())
    }
}
