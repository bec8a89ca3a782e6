//! A regional network in a directory: trusts, their nodes, their people, and the authorities' keys.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::loopback::Subnet;
use crate::node::text;
use crate::process::{self, Programs, Surroundings};
use crate::{HarnessError, Node, Person, PersonPlan};

/// What a trust is to be. All names are fictional; the codes have the form of ODS codes.
#[derive(Clone, Copy, Debug)]
pub struct TrustPlan {
    /// The ODS code.
    pub ods: &'static str,
    /// The name.
    pub name: &'static str,
    /// Its clinicians.
    pub people: &'static [PersonPlan],
}

/// The three trusts of the demo and of most tests, with two clinicians each.
pub const REGION: [TrustPlan; 3] = [
    TrustPlan {
        ods: "RZ1",
        name: "Fellbridge Royal Infirmary",
        people: &[
            PersonPlan {
                name: "Dr Amara Holt",
                role: "Consultant cardiologist",
                registration: "GMC 0000101",
                department: "Cardiology",
            },
            PersonPlan {
                name: "Tom Brenner",
                role: "Charge nurse",
                registration: "NMC 00A0102Z",
                department: "Coronary care",
            },
        ],
    },
    TrustPlan {
        ods: "RZ2",
        name: "St Oda's University Hospital",
        people: &[
            PersonPlan {
                name: "Dr Mira Okafor",
                role: "Cardiac surgeon",
                registration: "GMC 0000201",
                department: "Cardiothoracic surgery",
            },
            PersonPlan {
                name: "Ines Duarte",
                role: "Transfer coordinator",
                registration: "NMC 00A0202Z",
                department: "Site office",
            },
        ],
    },
    TrustPlan {
        ods: "RZ3",
        name: "Marlock Vale Hospital",
        people: &[
            PersonPlan {
                name: "Dr Piotr Lund",
                role: "Registrar, acute medicine",
                registration: "GMC 0000301",
                department: "Acute medicine",
            },
            PersonPlan {
                name: "Jo Castellan",
                role: "Staff nurse",
                registration: "NMC 00A0302Z",
                department: "Ward 4",
            },
        ],
    },
];

/// The same trusts, with one clinician each.
pub const ONE_EACH: [TrustPlan; 3] = [
    TrustPlan { people: REGION[0].people.split_at(1).0, ..REGION[0] },
    TrustPlan { people: REGION[1].people.split_at(1).0, ..REGION[1] },
    TrustPlan { people: REGION[2].people.split_at(1).0, ..REGION[2] },
];

/// One trust.
#[derive(Debug)]
pub struct Trust {
    /// What it is.
    pub plan: TrustPlan,
    /// The directory with its root and its registrar.
    pub dir: PathBuf,
    /// Its node.
    pub node: Node,
    /// Those of its clinicians who are enrolled.
    pub people: Vec<Person>,
}

/// A regional network.
#[derive(Debug)]
pub struct Cluster {
    /// Its trusts. Declared before the directory: processes end before their files go.
    pub trusts: Vec<Trust>,
    /// The programs that it runs.
    pub programs: Programs,
    /// Its addresses.
    pub subnet: Subnet,
    charter: PathBuf,
    dir: Directory,
}

#[derive(Debug)]
enum Directory {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Cluster {
    /// Makes the trusts with their certificates, and a charter that two of three authorities have signed. Nothing runs.
    ///
    /// # Errors
    /// What a command says.
    pub fn found(programs: &Programs, plans: &[TrustPlan]) -> Result<Self, HarnessError> {
        Self::found_in(programs, plans, Subnet::free()?, |_| Ok(()))
    }

    /// As [`Cluster::found`], with addresses in `subnet`; `prepare` sees the nodes before the charter names their addresses.
    ///
    /// # Errors
    /// What a command says, or `prepare`.
    pub fn found_in(
        programs: &Programs,
        plans: &[TrustPlan],
        subnet: Subnet,
        prepare: impl FnOnce(&mut [Trust]) -> Result<(), HarnessError>,
    ) -> Result<Self, HarnessError> {
        let temporary = tempfile::Builder::new().prefix("lanyard-").tempdir();
        let temporary = temporary.map_err(HarnessError::system("temporary directory"))?;
        let dir = temporary.path().to_path_buf();
        let mut trusts = Vec::new();
        for (plan, place) in plans.iter().zip(1..) {
            trusts.push(Trust::make(programs, plan, &dir, subnet, place)?);
        }
        prepare(&mut trusts)?;
        let charter = dir.join("charter.cbor");
        let cluster = Self {
            trusts,
            programs: programs.clone(),
            subnet,
            charter,
            dir: Directory::Temporary(temporary),
        };
        cluster.sign_charter()?;
        for trust in &cluster.trusts {
            trust.node.give_charter(&cluster.charter)?;
        }
        Ok(cluster)
    }

    /// As [`Cluster::found`], with every node started and connected to every other.
    ///
    /// # Errors
    /// What a command or a node says.
    pub fn started(programs: &Programs, plans: &[TrustPlan]) -> Result<Self, HarnessError> {
        let mut cluster = Self::found(programs, plans)?;
        cluster.start()?;
        Ok(cluster)
    }

    /// Starts all nodes, and waits until each is connected to each.
    ///
    /// # Errors
    /// What a node says.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        for trust in &mut self.trusts {
            trust.node.launch()?;
        }
        for trust in &mut self.trusts {
            trust.node.await_ready()?;
        }
        self.await_connected()
    }

    /// Waits until each node is connected to each.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`].
    pub fn await_connected(&self) -> Result<(), HarnessError> {
        self.trusts.iter().try_for_each(|trust| trust.node.await_peers(self.trusts.iter().map(|t| &t.node)))
    }

    /// Enrols every clinician of every trust.
    ///
    /// # Errors
    /// What a command says.
    pub fn enrol_all(&mut self) -> Result<(), HarnessError> {
        let dir = self.path().join("people");
        std::fs::create_dir_all(&dir).map_err(HarnessError::system(text(&dir)))?;
        for trust in &mut self.trusts {
            for (plan, number) in trust.plan.people.iter().zip(1..) {
                let profile = dir.join(format!("{}-{number}", trust.plan.ods.to_lowercase()));
                trust.people.push(Person::enrol(
                    &self.programs,
                    *plan,
                    trust.plan.ods,
                    &trust.node,
                    &profile,
                )?);
            }
        }
        Ok(())
    }

    /// Where all its programs run from their next start on: its nodes', and those of everybody who is enrolled.
    pub fn surround(&mut self, surroundings: &Surroundings) {
        for trust in &mut self.trusts {
            trust.node.surround(surroundings.clone());
            trust.people.iter_mut().for_each(|person| person.surround(surroundings.clone()));
        }
    }

    /// Everybody who is enrolled.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.trusts.iter().flat_map(|trust| &trust.people)
    }

    /// Everybody but this person.
    pub fn others<'a>(&'a self, person: &'a Person) -> impl Iterator<Item = &'a Person> {
        self.people().filter(|other| other.profile() != person.profile())
    }

    /// The directory in which everything is.
    pub fn path(&self) -> &Path {
        match &self.dir {
            Directory::Temporary(dir) => dir.path(),
            Directory::Kept(dir) => dir,
        }
    }

    /// The charter's file.
    pub fn charter(&self) -> &Path {
        &self.charter
    }

    /// The charter, as `lanyard-node network show` prints it.
    ///
    /// # Errors
    /// What the command says.
    pub fn show_charter(&self) -> Result<Value, HarnessError> {
        self.run(&["network", "show", &text(&self.charter), "--json"])
    }

    /// The file with the private key of the network's authority number `n`, from 1 to 3.
    pub fn authority_key(&self, n: u8) -> PathBuf {
        self.path().join(format!("authority{n}.key"))
    }

    /// Runs a command of `lanyard-node` that needs no running node and prints JSON.
    ///
    /// # Errors
    /// What the command says.
    pub fn run(&self, arguments: &[&str]) -> Result<Value, HarnessError> {
        process::run(&self.programs.node(), arguments.iter().copied(), None)?.json()
    }

    /// Leaves the directory, and every node and agent that runs, when this is dropped.
    pub fn keep(&mut self) {
        for trust in &mut self.trusts {
            trust.node.keep();
            trust.people.iter().for_each(|person| person.agent().keep());
        }
        let empty = Directory::Kept(self.path().to_path_buf());
        if let Directory::Temporary(dir) = std::mem::replace(&mut self.dir, empty) {
            // The path stays the same; only its removal is called off.
            let _ = dir.keep();
        }
    }

    /// Ends every node in order.
    ///
    /// # Errors
    /// What the first node says that does not end well.
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.trusts.iter_mut().try_for_each(|trust| trust.node.stop())
    }

    fn sign_charter(&self) -> Result<(), HarnessError> {
        let mut public = Vec::new();
        for n in 1..=3 {
            let made =
                self.run(&["network", "authority-key", "--out", &text(&self.authority_key(n)), "--json"])?;
            public.push(made["public_key"].as_str().unwrap_or_default().to_owned());
        }
        let (first, second, charter) =
            (text(&self.authority_key(1)), text(&self.authority_key(2)), text(&self.charter));
        let members: Vec<String> = self.trusts.iter().map(Trust::as_member).collect();
        let mut arguments =
            vec!["network", "found", "--name", "Fellside regional network", "--authority-key", &first];
        arguments.extend(["--authority", &public[1], "--authority", &public[2], "--threshold", "2"]);
        arguments.extend(["--country", "GB", "--country", "IE", "--out", &charter, "--json"]);
        members.iter().for_each(|member| arguments.extend(["--member", member]));
        let half_signed = self.run(&arguments)?;
        crate::error::promise(half_signed["signed"] == false, || "one signature of two was enough".into())?;
        let signed = self.run(&["network", "sign", &charter, "--authority-key", &second, "--json"])?;
        crate::error::promise(signed["signed"] == true, || {
            format!("two signatures were not enough: {signed}")
        })
    }
}

impl Trust {
    /// Makes a trust's root, its registrar, and one node at the `place`th address in the UK.
    ///
    /// # Errors
    /// What a command says.
    pub fn make(
        programs: &Programs,
        plan: &TrustPlan,
        dir: &Path,
        subnet: Subnet,
        place: u8,
    ) -> Result<Self, HarnessError> {
        let lower = plan.ods.to_lowercase();
        let own = dir.join(&lower);
        let arguments =
            ["trust", "init", "--ods", plan.ods, "--name", plan.name, "--dir", &text(&own), "--json"];
        process::run(&programs.node(), arguments, None)?.json()?;
        let (name, node_dir) = (format!("{} node 1", plan.ods), dir.join(format!("{lower}-node1")));
        let node = Node::issue(programs, &name, &own, &node_dir, subnet.inside(place), subnet)?;
        Ok(Self { plan: *plan, dir: own, node, people: Vec::new() })
    }

    /// As the option `--member` of `network found` takes it.
    pub fn as_member(&self) -> String {
        let [quic, tcp] = self.node.multiaddresses();
        format!("{}={},{quic},{tcp}", self.plan.ods, text(&self.dir.join("root.pem")))
    }
}
