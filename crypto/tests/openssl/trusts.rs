//! Two trusts in directories, one made by our own code and one by `openssl` alone, and how to verify in them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{
    Certificate, ChainError, CrlPolicy, Purpose, Revocation, RevocationList, SecretKey, Subject, verify_chain,
};
use lanyard_crypto::{NodeId, Timestamp};
use tempfile::TempDir;

/// When our own certificates are made, and verified unless a test says otherwise: 2027-01-15T08:00:00Z.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A trust made by our own code, its files in a directory.
pub struct Ours {
    pub dir: Dir,
    pub root: Certificate,
    pub registrar: Certificate,
    pub registrar_key: SecretKey,
    pub node: Certificate,
    pub device: Certificate,
}

impl Ours {
    pub fn new() -> Self {
        let dir = Dir::new();
        let term = |life_secs| Term::starting(NOW, life_secs).unwrap();
        let (root_key, registrar_key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let root = issue::root(&named("Riverside root"), &root_key, &term(issue::ROOT_SECS)).unwrap();
        let by_root = Issuer::new(&root, &root_key).unwrap();
        let registrar_term = term(issue::REGISTRAR_SECS);
        let registrar =
            by_root.registrar(&named("Registrar"), &registrar_key.public(), &registrar_term).unwrap();
        let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
        let key = || SecretKey::generate().unwrap().public();
        let node_key = key();
        let details = NodeDetails {
            node: NodeId::new(node_key),
            hosting_country: Country::GB,
            dns_names: vec!["node1.riverside.example".into()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        };
        let node = issuer.node(&named("Node 1"), &node_key, &details, &term(issue::NODE_SECS)).unwrap();
        let device = issuer.device(&person(), &key(), &term(issue::DEVICE_SECS)).unwrap();
        let officer = issuer.officer(&named("Olu Records"), &key(), &term(issue::OFFICER_SECS)).unwrap();
        let next = NOW.plus_secs(issue::REVOCATION_LIST_SECS);
        dir.write("crl.pem", &issuer.revocation_list(1, NOW, next, &[]).unwrap().to_pem());
        dir.write("root.pem", &root.to_pem());
        dir.write("registrar.pem", &registrar.to_pem());
        dir.write("node.pem", &node.to_pem());
        dir.write("device.pem", &device.to_pem());
        dir.write("officer.pem", &officer.to_pem());
        Self { dir, root, registrar, registrar_key, node, device }
    }

    /// Replaces the revocation list by number 2 with one entry.
    pub fn revoke(&self, entry: Revocation) -> RevocationList {
        let issuer = Issuer::new(&self.registrar, &self.registrar_key).unwrap();
        let next = NOW.plus_secs(issue::REVOCATION_LIST_SECS);
        let list = issuer.revocation_list(2, NOW, next, &[entry]).unwrap();
        self.dir.write("crl.pem", &list.to_pem());
        list
    }

    pub fn verify(&self, leaf: &str, at: Timestamp, options: &[&str]) -> (bool, String) {
        verify(&self.dir, leaf, Some(at), options)
    }

    pub fn check(
        &self,
        leaf: &Certificate,
        purpose: Purpose,
        list: &RevocationList,
        at: Timestamp,
    ) -> Result<(), ChainError> {
        let registrar = self.registrar.fingerprint();
        let crls = |issuer: &_| (*issuer == registrar).then_some(list);
        let issuers = std::slice::from_ref(&self.registrar);
        verify_chain(leaf, issuers, &self.root, crls, CrlPolicy::Fresh, purpose, at)
    }
}

/// A trust made by `openssl` alone, its files in a directory.
pub struct Theirs {
    pub dir: Dir,
}

impl Theirs {
    pub fn new() -> Self {
        let dir = Dir::new();
        dir.key_and_request("root", "RYJ");
        dir.openssl(&[
            "x509",
            "-req",
            "-in",
            "root.csr",
            "-signkey",
            "root.key",
            "-days",
            "3650",
            "-extfile",
            "ext.cnf",
            "-extensions",
            "root",
            "-out",
            "root.pem",
        ]);
        dir.key_and_request("registrar", "RYJ");
        dir.sign_by("registrar", "registrar", "root");
        dir.write("ca.cnf", CA);
        dir.write("index.txt", "");
        dir.write("crlnumber", "1000\n");
        Self { dir }
    }

    pub fn leaf(&self, name: &str, trust: &str, section: &str) {
        self.dir.key_and_request(name, trust);
        self.dir.sign(name, section);
    }

    pub fn gencrl(&self) {
        self.dir.openssl(&["ca", "-config", "ca.cnf", "-gencrl", "-crldays", "7", "-out", "crl.pem"]);
    }

    pub fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(&self.dir.read(&format!("{name}.pem"))).unwrap()
    }

    pub fn check(
        &self,
        leaf: &Certificate,
        purpose: Purpose,
        list: &RevocationList,
        at: Timestamp,
    ) -> Result<(), ChainError> {
        let (registrar, root) = (self.certificate("registrar"), self.certificate("root"));
        let fingerprint = registrar.fingerprint();
        let crls = |issuer: &_| (*issuer == fingerprint).then_some(list);
        verify_chain(leaf, std::slice::from_ref(&registrar), &root, crls, CrlPolicy::Fresh, purpose, at)
    }
}

/// A directory in which `openssl` runs.
pub struct Dir(TempDir);

impl Dir {
    pub fn new() -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        dir.write("ext.cnf", EXTENSIONS);
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Whether the program succeeded, and all that it printed.
    pub fn run(&self, arguments: &[&str]) -> (bool, String) {
        let result = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let output = result.expect("the program `openssl` (3.0 or newer) is needed for this test");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub fn openssl(&self, arguments: &[&str]) -> String {
        let (ok, output) = self.run(arguments);
        assert!(ok, "openssl {arguments:?}: {output}");
        output
    }

    /// A request with the key `name.key`.
    pub fn request(&self, name: &str, trust: &str, common_name: &str) {
        let config = format!(
            "[req]\nprompt = no\ndistinguished_name = dn\nstring_mask = utf8only\nutf8 = yes\n\
             [dn]\norganizationIdentifier = {trust}\nC = GB\nO = Riverside NHS Trust\nCN = {common_name}\n"
        );
        self.write(&format!("{name}.cnf"), &config);
        let [key, config, request] = ["key", "cnf", "csr"].map(|ending| format!("{name}.{ending}"));
        self.openssl(&["req", "-new", "-key", &key, "-config", &config, "-out", &request]);
    }

    pub fn key_and_request(&self, name: &str, trust: &str) {
        self.openssl(&["genpkey", "-algorithm", "ed25519", "-out", &format!("{name}.key")]);
        self.request(name, trust, name);
    }

    /// Signs `name.csr` by the registrar, with the extensions of a section.
    pub fn sign(&self, name: &str, section: &str) {
        self.sign_by(name, section, "registrar");
    }

    pub fn sign_by(&self, name: &str, section: &str, issuer: &str) {
        let [request, certificate] = ["csr", "pem"].map(|ending| format!("{name}.{ending}"));
        let [issuer, issuer_key] = ["pem", "key"].map(|ending| format!("{issuer}.{ending}"));
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &issuer,
            "-CAkey",
            &issuer_key,
            "-days",
            "30",
            "-extfile",
            "ext.cnf",
            "-extensions",
            section,
            "-out",
            &certificate,
        ]);
    }
}

/// `openssl verify` of `leaf.pem` through registrar.pem to root.pem.
pub fn verify(dir: &Dir, leaf: &str, at: Option<Timestamp>, options: &[&str]) -> (bool, String) {
    let at = at.map(|at| at.as_secs().to_string());
    let file = format!("{leaf}.pem");
    let mut arguments = vec!["verify", "-CAfile", "root.pem", "-untrusted", "registrar.pem"];
    if options.contains(&"-crl_check") {
        arguments.extend(["-CRLfile", "crl.pem"]);
    }
    if let Some(at) = &at {
        arguments.extend(["-attime", at]);
    }
    arguments.extend(options);
    arguments.push(&file);
    dir.run(&arguments)
}

/// The clock by which `openssl` dates what it makes, a minute on, so that it is valid by then.
pub fn clock() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_secs(since_1970.as_secs() + 60)
}

pub fn named(common_name: &str) -> Subject {
    Subject {
        trust: "RYJ".parse().unwrap(),
        country: Country::GB,
        organisation: "Riverside NHS Trust".into(),
        common_name: common_name.into(),
        department: None,
        title: None,
        registration: None,
    }
}

pub fn person() -> Subject {
    Subject {
        department: Some("Cardiology".into()),
        title: Some("Consultant cardiologist".into()),
        registration: Some("GMC 1234567".into()),
        ..named("Aoife Ní Bhriain")
    }
}

/// How a trust's existing PKI would describe our profile to `openssl`.
const EXTENSIONS: &str = "
[trust]
organizationIdentifier = RYJ

[root]
basicConstraints = critical, CA:TRUE, pathlen:1
keyUsage = critical, keyCertSign, cRLSign
nameConstraints = critical, permitted;dirName:trust
subjectKeyIdentifier = hash

[registrar]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, digitalSignature, keyCertSign, cRLSign
nameConstraints = critical, permitted;dirName:trust
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always

[node]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = 1.3.6.1.4.1.32473.1.1.1, serverAuth, clientAuth
subjectAltName = DNS:node1.riverside.example, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
1.3.6.1.4.1.32473.1.2.1 = ASN1:PRINTABLESTRING:GB
1.3.6.1.4.1.32473.1.2.2 = ASN1:FORMAT:HEX,OCTETSTRING:0024080112205a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a

[device]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = 1.3.6.1.4.1.32473.1.1.2, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
";

/// What `openssl ca` needs to revoke and to make a list.
const CA: &str = "
[ca]
default_ca = registrar

[registrar]
database = index.txt
crlnumber = crlnumber
certificate = registrar.pem
private_key = registrar.key
default_md = default
crl_extensions = list

[list]
authorityKeyIdentifier = keyid:always
";
