//! A trust whose node asks for a sign-in, an identity provider, and browsers.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use lanyard_client::node::{Anchor, NodeClient, NodeError};
use lanyard_client::sign_in::{SignIn, SignInError};
use lanyard_crypto::gateway::{EnrolRequest, EnrolResponse, Invitation, SignedIn};
use lanyard_crypto::x509::SecretKey;
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_tests::cluster::REGION;
use lanyard_tests::person::PIN;
use lanyard_tests::process::{Daemon, Surroundings};
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Agent, Cluster, Node, PersonPlan, Programs, oidc};
use serde_json::{Value, json};
use tempfile::TempDir;

const CLIENT: &str = "lanyard-node";
const SECRET: &str = "a-secret-of-both";

/// A running provider, and what it was made with.
pub struct Provider {
    pub issuer: String,
    dir: TempDir,
    _daemon: Daemon,
}

impl Provider {
    /// The provider of `oidc-provider`, with these people by their names there.
    pub fn real(modules: &Path, people: &Value) -> Self {
        let setup = json!({ "people": people, "algorithm": "RS256" });
        Self::start("provider.mjs", &[&modules.display().to_string()], setup)
    }

    /// One that lies about this person as it is told to.
    pub fn hostile(person: &Value) -> Self {
        Self::start("hostile.mjs", &[], json!({ "person": person }))
    }

    fn start(script: &str, arguments: &[&str], mut setup: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        certify(dir.path());
        let known = json!({
            "key": at("provider.key"), "certificate": at("provider.pem"), "client_id": CLIENT, "client_secret": SECRET,
            "trick": at("trick"),
        });
        setup.as_object_mut().unwrap().extend(known.as_object().unwrap().clone());
        fs::write(at("setup.json"), setup.to_string()).unwrap();
        fs::write(at("trick"), "right").unwrap();
        let (script, setup, log) =
            (oidc::script(script).display().to_string(), at("setup.json"), dir.path().join("log"));
        let all: Vec<&str> =
            [script.as_str()].iter().chain(arguments).copied().chain([setup.as_str()]).collect();
        let mut daemon = Daemon::start("the identity provider", Path::new("node"), &all, &log).unwrap();
        let issuer = wait::until("the identity provider listens", SOON, || {
            daemon.check()?;
            let printed = fs::read_to_string(&log).unwrap();
            let line = printed.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(line.and_then(|line| line["issuer"].as_str().map(str::to_owned)).ok_or(printed))
        });
        Self { issuer: issuer.unwrap(), dir, _daemon: daemon }
    }

    /// What it is to lie about from now on.
    pub fn trick(&self, trick: &str) {
        fs::write(self.dir.path().join("trick"), trick).unwrap();
    }

    /// The authority that certifies it.
    fn authority(&self) -> PathBuf {
        self.dir.path().join("authority.pem")
    }

    /// A network of one trust whose node asks for a sign-in; `more` stands in its configuration besides.
    pub fn trusted_by_a_node(&self, more: &str) -> Cluster {
        let mut cluster = Cluster::found(&Programs::find().unwrap(), &REGION[..1]).unwrap();
        let secret = cluster.path().join("client.secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let section = format!(
            "[enrolment.identity_provider]\nissuer = {:?}\nclient_id = {CLIENT:?}\nclient_secret = {secret:?}\nauthorities = {:?}\n{more}\n",
            self.issuer,
            self.authority(),
        );
        let node = &cluster.trusts[0].node;
        node.configure("[gateway]", &format!("{section}\n[gateway]")).unwrap();
        cluster.start().unwrap();
        cluster
    }

    /// Has a browser sign in at this address as somebody, and says where it ended.
    pub fn browse(&self, url: &str, name: &str, more: &[&str]) -> Value {
        let output = Command::new("node")
            .arg(oidc::script("browser.mjs"))
            .args([url, name])
            .args(more)
            .env("NODE_EXTRA_CA_CERTS", self.authority())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// An authority, and a certificate for the provider's name.
fn certify(dir: &Path) {
    let run = |arguments: &[&str]| {
        #[rustfmt::skip]
        let common = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let output = Command::new("openssl").args(common).args(arguments).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    #[rustfmt::skip]
    run(&[
        "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=Authority of a test",
        "-addext", "keyUsage=critical,keyCertSign",
    ]);
    #[rustfmt::skip]
    run(&[
        "-keyout", "provider.key", "-out", "provider.pem", "-subj", "/CN=Provider of a test", "-CA", "authority.pem", "-CAkey", "authority.key",
        "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
    ]);
}

/// Invites somebody, with what else the operator says.
pub fn invite(node: &Node, person: &PersonPlan, more: &[&str]) -> String {
    #[rustfmt::skip]
    let mut arguments = vec![
        "staff", "invite", "--name", person.name, "--role", person.role, "--registration", person.registration,
        "--department", person.department, "--checked-by", "R. Lindqvist (fictional)",
    ];
    arguments.extend(more);
    node.json(&arguments).unwrap()["invitation"].as_str().unwrap().to_owned()
}

/// `lanyard enrol` that waits for a browser.
pub struct Enrolling {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub url: String,
    _agent: Agent,
}

impl Enrolling {
    pub fn start(cluster: &Cluster, profile: &str, line: &str) -> Self {
        let (profile, agent) = (cluster.path().join(profile), Agent::default());
        agent.start("a device", &cluster.programs, &Surroundings::default(), &profile).unwrap();
        let mut child = Command::new(cluster.programs.client())
            .args(["--json", "--profile", &profile.display().to_string(), "enrol", line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{PIN}").unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        // Ends with the address, or with the program.
        while stderr.read_line(&mut said).unwrap() > 0 {
            if let Some(url) = said.lines().last().filter(|line| line.starts_with("https://")) {
                return Self { url: url.to_owned(), child, stderr, _agent: agent };
            }
        }
        child.wait().unwrap();
        panic!("lanyard named no address: {said}");
    }

    /// To its end: what it printed if it has enrolled, and what it said otherwise.
    pub fn end(mut self) -> Result<Value, String> {
        let (mut stdout, mut said) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut said).unwrap();
        match self.child.wait().unwrap().code() {
            Some(0) => Ok(serde_json::from_str(&stdout).unwrap()),
            _ => Err(said),
        }
    }
}

/// A device that keeps to the protocol as far as it is told to.
pub struct Visitor {
    pub invitation: Invitation,
    request: Vec<u8>,
}

impl Visitor {
    pub fn new(line: &str) -> Self {
        let invitation = Invitation::from_line(line).unwrap();
        let key = SecretKey::generate().unwrap();
        let request = CertificateRequest::create(&key, None).unwrap().der().to_vec();
        Self { invitation, request }
    }

    /// A connection of its own: the node ends those without a certificate after a while.
    fn node(&self) -> NodeClient {
        let Invitation { trust, root, address, .. } = &self.invitation;
        let anchor = Anchor::Invitation { trust: trust.clone(), root: *root };
        NodeClient::new(address, anchor, None).unwrap()
    }

    /// Signs in at the provider as somebody.
    pub fn sign_in(&self, provider: &Provider, name: &str) -> Result<SignedIn, SignInError> {
        std::thread::scope(|scope| {
            let show = |url: &str| {
                let url = url.to_owned();
                scope.spawn(move || provider.browse(&url, name, &[]));
            };
            SignIn { port: 0, show: &show }.run(&mut self.node(), &self.invitation)
        })
    }

    pub fn enrol(&self, sign_in: Option<SignedIn>) -> Result<EnrolResponse, NodeError> {
        self.node().enrol(&EnrolRequest {
            invitation: self.invitation.id.clone(),
            code: self.invitation.code.clone(),
            request: self.request.clone(),
            sign_in,
        })
    }

    /// The node's word and text for why not.
    pub fn refused(&self, sign_in: Option<SignedIn>) -> (String, String) {
        words(self.enrol(sign_in).expect_err("the node has enrolled it"))
    }
}

/// The node's word and text.
pub fn words(error: NodeError) -> (String, String) {
    match error {
        NodeError::Refused { refusal, .. } => (refusal.code, refusal.message),
        other => panic!("not a refusal: {other}"),
    }
}
