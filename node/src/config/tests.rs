use std::path::Path;

use lanyard_crypto::mls::Class;

use super::*;

const GOOD: &str = r#"
data_dir = "data"
[identity]
key = "node.key"
chain = "node.pem"
[network]
charter = "/etc/lanyard/charter.cbor"
[peer]
listen = ["/ip4/127.0.1.1/udp/4001/quic-v1", "/ip4/127.0.1.1/tcp/4001"]
[gateway]
listen = "127.0.1.1:8443"
public_address = "127.0.1.1:8443"
[residency]
networks = [{ cidr = "127.0.1.0/24", country = "GB" }, { cidr = "127.0.2.0/24", country = "IE" }]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/srv/node.toml"), text)
}

fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Err(ConfigError::Problems { problems }) => problems.iter().map(Problem::to_string).collect(),
        other => panic!("problems were expected, not {other:?}"),
    }
}

#[test]
fn paths_start_at_the_file_and_defaults_at_the_data_directory() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.data_dir, Path::new("/srv/data"));
    assert_eq!(config.admin_socket, Path::new("/srv/data/admin.sock"));
    assert_eq!(config.store_key, KeySource::File("/srv/data/store.key".into()));
    assert_eq!(config.cache_bytes, 512 << 20);
    assert_eq!(config.charter, Path::new("/etc/lanyard/charter.cbor"));
    assert_eq!(config.log, Log { json: false, level: tracing::Level::INFO });
    assert!(config.peer.announce.is_empty());
    assert!(config.identity.registrar.is_none() && config.policy.retention.is_empty());
}

/// What is replaced in the good file, by what, and what is said about it.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "\"GB\" }",
        "\"US\" }",
        "node.toml: `residency.networks[0].country` is \"US\"; a permitted country is needed (UK or EEA)",
    ),
    (
        "[residency]",
        "[residency]\nelsewhere = [{ cidr = \"127.0.3.0/24\", country = \"FR\" }]",
        "node.toml: `residency.elsewhere[0].country` is \"FR\"; a country outside the UK and the EEA is needed; one inside \
         belongs into `networks`",
    ),
    (
        "127.0.2.0/24",
        "127.0.1.0/24",
        "node.toml: `residency.networks[1].cidr` is \"127.0.1.0/24\", which an entry above has assigned; each network \
         may stand once",
    ),
    (
        "127.0.2.0/24",
        "127.0.2.1/24",
        "node.toml: `residency.networks[1].cidr` is \"127.0.2.1/24\"; a network is needed, such as \"192.0.2.0/24\" or \
         \"2001:db8::/32\"",
    ),
    (
        "data_dir = \"data\"",
        "",
        "node.toml: `data_dir` is missing; the directory for the node's data is needed",
    ),
    (
        "key = \"node.key\"",
        "key = 7",
        "node.toml: `identity.key` is 7; the file with the node's private key is needed",
    ),
    (
        "chain = \"node.pem\"",
        "chain = \"node.pem\"\nregistrar_key = \"r.key\"",
        "node.toml: `identity.registrar_certificate` is missing; it is needed beside `registrar_key`",
    ),
    (
        "listen = \"127.0.1.1:8443\"",
        "listen = \"localhost\"",
        "node.toml: `gateway.listen` is \"localhost\"; an IP address and a port are needed, such as \"192.0.2.7:8443\"",
    ),
    (
        "/ip4/127.0.1.1/tcp/4001",
        "/dns4/localhost/tcp/4001",
        "node.toml: `peer.listen[1]` is \"/dns4/localhost/tcp/4001\"; an IP multiaddress is needed, such as \
         \"/ip4/192.0.2.7/udp/4001/quic-v1\"",
    ),
    (
        "public_address = \"127.0.1.1:8443\"",
        "public_addres = \"127.0.1.1:8443\"\npublic_address = \"127.0.1.1:8443\"",
        "node.toml: `gateway.public_addres` is not known here; possible are `listen`, `public_address`",
    ),
    (
        "[gateway]",
        "[log]\nlevel = \"loud\"\n[gateway]",
        "node.toml: `log.level` is \"loud\"; \"error\", \"warn\", \"info\", \"debug\" or \"trace\" is needed",
    ),
    (
        "[gateway]",
        "[policy]\nretention_secs = 5\n[gateway]",
        "node.toml: `policy.retention_secs` is 5; a whole number from 60 to 316224000 is needed",
    ),
    (
        "[gateway]",
        "[policy.retention]\nsocial_days = 3000\n[gateway]",
        "node.toml: `policy.retention.social_days` is 3000; a whole number from 1 to 2928 is needed",
    ),
    (
        "[gateway]",
        "[policy.pin]\noffline_secs = 86401\n[gateway]",
        "node.toml: `policy.pin.offline_secs` is 86401; a whole number from 0 to 86400 is needed",
    ),
    (
        "[gateway]",
        "[policy.pin]\ntries_max = 11\n[gateway]",
        "node.toml: `policy.pin.tries_max` is 11; a whole number from 3 to 10 is needed",
    ),
    (
        "[gateway]",
        "[policy.review]\ndays = 0\n[gateway]",
        "node.toml: `policy.review.days` is 0; a whole number from 1 to 366 is needed",
    ),
    (
        "[gateway]",
        "[policy.review]\ngrace_days = 91\n[gateway]",
        "node.toml: `policy.review.grace_days` is 91; a whole number from 0 to 90 is needed",
    ),
    (
        "[gateway]",
        "[[policy.patterns]]\nname = \"a hospital number\"\nregex = 'RZ[0-9'\n[gateway]",
        "node.toml: `policy.patterns[0].regex` is no regular expression: unclosed character class; a regular expression in the \
         syntax of the crate `regex` is needed, such as '\\bRZ[0-9]{7}\\b'",
    ),
    (
        "[gateway]",
        "[[policy.patterns]]\nname = \"a hospital number\"\nregex = '(RZ)?'\n[gateway]",
        "node.toml: `policy.patterns[0].regex` finds something in an empty text, so in every text; say what must be there",
    ),
    (
        "[gateway]",
        "[[policy.patterns]]\nname = \"a hospital number\"\nregex = '((a\\w{50}){50}){50}'\n[gateway]",
        "node.toml: `policy.patterns[0].regex` takes more than 512 KiB of memory; repeat less, or fewer kinds of letters",
    ),
    (
        "[gateway]",
        "[[policy.patterns]]\nname = \"a number\\nand more\"\nregex = 'RZ'\n[gateway]",
        "node.toml: `policy.patterns[0].name` is \"\"\"\na number\nand more\"\"\"; what people are told that a text holds is needed, \
         such as \"a hospital number\": letters, digits and spaces, at most 60 bytes",
    ),
    (
        "[gateway]",
        "[policy.retention]\nprivate_days = 3\n[gateway]",
        "node.toml: `policy.retention.private_days` is not known here; possible are `clinical_days`, `operational_days`, \
         `social_days`",
    ),
    (
        "[gateway]",
        "[enrolment.identity_provider]\nissuer = \"http://login.ryj.example\"\nclient_id = \"c\"\n[enrolment.identity_provider.claims]\n\
         name = [\"{$.name}\"]\n[gateway]",
        "node.toml: `enrolment.identity_provider.issuer` is \"http://login.ryj.example\"; the provider's issuer identifier is \
         needed, such as \"https://login.ryj.example\"",
    ),
    (
        "[gateway]",
        "[enrolment.identity_provider]\nissuer = \"https://login.ryj.example\"\nclient_id = \"c\"\n\
         required = [{ claim = \"level\", values = [\"3\"] }]\n[enrolment.identity_provider.claims]\nname = [\"{$.name}\"]\n[gateway]",
        "node.toml: `enrolment.identity_provider.required[0].claim` is \"level\"; a JSONPath is needed, such as \
         \"$.id_assurance_level\"",
    ),
    (
        "[gateway]",
        "[enrolment.identity_provider]\nissuer = \"https://login.ryj.example\"\nclient_id = \"c\"\n[gateway]",
        "node.toml: `enrolment.identity_provider.claims.name` is missing; a text with claims in braces is needed, each a \
         JSONPath, such as \"{$.given_name} {$.family_name}\"",
    ),
    (
        "[gateway]",
        "[enrolment.identity_provider]\nissuer = \"https://login.ryj.example\"\nclient_id = \"c\"\n[enrolment.identity_provider.claims]\n\
         name = [\"{$.name}\"]\n[gateway]",
        "node.toml: `enrolment.identity_provider` stands on a node without `identity.registrar_key`, where nobody enrols",
    ),
];

/// What may be wrong about the store's key.
const KEY_MISTAKES: &[(&str, &str)] = &[
    (
        "key = \"store.key\"\nkey_command = [\"vault-key\"]",
        "node.toml: `storage.key_command` stands beside `key`; the key comes from a file or from a command",
    ),
    (
        "key_command = [\"bin/vault-key\"]",
        "node.toml: `storage.key_command` begins with \"bin/vault-key\"; a program, by its name or whole path, and its \
         arguments are needed, such as [\"systemd-creds\", \"decrypt\", \"/etc/lanyard/store.cred\"]",
    ),
    (
        "key_command = [\"vault-key\", 7]",
        "node.toml: `storage.key_command[1]` is 7; a program, by its name or whole path, and its arguments are needed, such \
         as [\"systemd-creds\", \"decrypt\", \"/etc/lanyard/store.cred\"]",
    ),
    (
        "key_command = \"vault-key\"",
        "node.toml: `storage.key_command` is \"vault-key\"; a list is needed: a program, by its name or whole path, and its \
         arguments are needed, such as [\"systemd-creds\", \"decrypt\", \"/etc/lanyard/store.cred\"]",
    ),
];

#[test]
fn the_key_comes_from_a_file_or_from_a_command() {
    let with = |lines: &str| format!("{GOOD}\n[storage]\n{lines}\n");
    let source = |lines: &str| parse(&with(lines)).unwrap().store_key;
    assert_eq!(source("key = \"/run/keys/store\""), KeySource::File("/run/keys/store".into()));
    let command = ["systemd-creds", "decrypt", "/etc/lanyard/store.cred"].map(str::to_owned);
    let written = "key_command = [\"systemd-creds\", \"decrypt\", \"/etc/lanyard/store.cred\"]";
    assert_eq!(source(written), KeySource::Command(command.to_vec()));
    assert_eq!(
        source("key_command = [\"/usr/bin/vault-key\"]"),
        KeySource::Command(vec!["/usr/bin/vault-key".into()])
    );
    for (lines, said) in KEY_MISTAKES {
        assert_eq!(problems(&with(lines)), [*said]);
    }
}

#[test]
fn each_mistake_is_named_with_its_place_value_and_what_is_allowed() {
    for (good, bad, said) in MISTAKES {
        assert!(GOOD.contains(good), "{good}");
        assert_eq!(problems(&GOOD.replacen(good, bad, 1)), [*said]);
    }
}

#[test]
fn several_mistakes_are_listed_at_once() {
    let text = MISTAKES[4..]
        .iter()
        .filter(|(good, ..)| *good != "[gateway]")
        .fold(GOOD.to_owned(), |text, m| text.replacen(m.0, m.1, 1));
    assert_eq!(problems(&text).len(), 6);
    assert_eq!(problems("").len(), 7, "every key that must be there");
}

#[test]
fn what_is_not_toml_is_shown_with_its_line() {
    let error = parse("data_dir = [").unwrap_err().to_string();
    assert!(error.starts_with("/srv/node.toml: not TOML:") && error.contains("line 1"), "{error}");
}

/// The example of the reference is a configuration.
#[test]
fn the_documented_example_is_read() {
    let page = include_str!("../../../docs/reference/configuration.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let config = parse(example).unwrap();
    assert!(config.identity.registrar.is_some() && config.residency.database.is_some());
    let days = Class::ALL.map(|class| config.policy.retention.of(class).map(|secs| secs / (24 * 3600)));
    assert_eq!(days, [Some(30), Some(14), Some(7)]);
    assert_eq!((config.policy.pins.tries_max, config.policy.idle_secs), (8, 120));
    assert_eq!(config.policy.offline_secs, 0);
    let review = config.policy.review;
    assert_eq!((review.every_secs, review.grace_secs), (14 * 24 * 3600, 3 * 24 * 3600));
    let patterns: Vec<_> =
        config.policy.patterns.iter().map(|p| (p.name.as_str(), p.regex.as_str())).collect();
    assert_eq!(patterns, [("a hospital number", r"\bRYJ[0-9]{7}\b")]);
    assert!(config.log.json);
}

#[test]
fn patterns_are_bounded_in_number_and_each_has_a_name_of_its_own() {
    let pattern = |n: usize| format!("[[policy.patterns]]\nname = \"number {n}\"\nregex = 'N{n}'\n");
    let with = |patterns: Vec<String>| GOOD.replacen("[gateway]", &(patterns.concat() + "[gateway]"), 1);
    let config = parse(&with((0..32).map(pattern).collect())).unwrap();
    assert_eq!(config.policy.patterns.len(), 32);
    let expected = "node.toml: `policy.patterns` has 33 entries; at most 32 are possible";
    assert_eq!(problems(&with((0..33).map(pattern).collect())), [expected]);
    let expected = "node.toml: `policy.patterns[1].name` is \"number 1\", as of an entry above; each has a name of its own";
    assert_eq!(problems(&with(vec![pattern(1), pattern(1)])), [expected]);
    let long = pattern(1).replace("N1", &"N".repeat(501));
    let expected = "node.toml: `policy.patterns[0].regex` has 501 bytes; at most 500 are possible";
    assert_eq!(problems(&with(vec![long])), [expected]);
}
