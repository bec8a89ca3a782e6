//! Enrolling with a sign-in: with a provider of others' making, and with one that lies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod scene;

use lanyard_client::sign_in::SignInError;
use lanyard_crypto::gateway::SignedIn;
use lanyard_tests::cluster::REGION;
use lanyard_tests::{PersonPlan, oidc};
use scene::{Enrolling, Provider, Visitor, invite, words};
use serde_json::{Value, json};

const AMARA: PersonPlan = REGION[0].people[0];
const TOM: PersonPlan = REGION[0].people[1];

/// As NHS CIS2 spells what it says of people; all of it is fictional.
fn people() -> Value {
    let role = |name: &str| {
        json!([
            { "person_roleid": "999000000201", "org_code": "RZ2", "role_name": "\"Admin\":\"Clerk\"" },
            { "person_roleid": "999000000202", "org_code": "RZ1", "role_name": name },
        ])
    };
    json!({
        "999000000101": {
            "name": "Holt Amara Dr", "given_name": "Amara", "family_name": "Holt", "nhsid_useruid": "999000000101",
            "gmc_id": "0000101", "id_assurance_level": "3", "authentication_assurance_level": "3", "selected_roleid": "999000000202",
            "nhsid_nrbac_roles": role("\"Clinical\":\"Clinical Provision\":\"Clinical Practitioner Access Role\""),
        },
        "999000000102": {
            "name": "Brenner Tom Mr", "given_name": "Tom", "family_name": "Brenner", "nhsid_useruid": "999000000102",
            "nmc_id": "00A0102Z", "id_assurance_level": "3", "authentication_assurance_level": "3", "selected_roleid": "999000000202",
            "nhsid_nrbac_roles": role("\"Clinical\":\"Clinical Provision\":\"Nurse Access Role\""),
        },
    })
}

const CIS2: &str = r#"
scopes = ["profile", "nhsperson", "professionalmemberships", "nationalrbacaccess"]
required = [{ claim = "$.id_assurance_level", values = ["3"] }, { claim = "$.authentication_assurance_level", values = ["3"] }]
[enrolment.identity_provider.claims]
name = ["{$.given_name} {$.family_name}"]
staff_number = ["{$.nhsid_useruid}"]
role = ["{$.nhsid_nrbac_roles[?@.person_roleid == $.selected_roleid].role_name}"]
registration = ["GMC {$.gmc_id}", "NMC {$.nmc_id}"]
"#;

#[test]
fn a_sign_in_makes_the_certificates_subject_and_nobody_enrols_without_it() {
    let Some(modules) = oidc::find() else { return };
    let provider = Provider::real(&modules, &people());
    let cluster = provider.trusted_by_a_node(CIS2);
    let node = &cluster.trusts[0].node;

    // Somebody else on the device sends a redirect of his own: it is told from the right one.
    let line = invite(node, &AMARA, &["--staff-number", "999 000 000 101"]);
    let enrolling = Enrolling::start(&cluster, "amara", &line);
    let back = enrolling.url.split("redirect_uri=").nth(1).unwrap().split('&').next().unwrap();
    let back = back.replace("%3A", ":").replace("%2F", "/");
    let forged = provider.browse(&format!("{back}?state=made-up&code=mine"), "nobody", &[]);
    assert_eq!(forged["status"], 400, "{forged}");
    let shown = provider.browse(&enrolling.url, "999000000101", &[]);
    assert_eq!(shown["status"], 200, "{shown}");
    assert!(shown["page"].as_str().unwrap().contains("Go back to lanyard"), "{shown}");
    let enrolled = enrolling.end().unwrap();
    assert_eq!(enrolled["name"], "Amara Holt", "{enrolled}");
    assert_eq!(enrolled["role"], "Clinical Practitioner Access Role");
    assert_eq!(enrolled["registration"], "GMC 0000101");
    assert_eq!(enrolled["department"], "Cardiology", "what is not mapped is the invitation's");
    let entry = node.await_audit("who signed in", |entry| entry["event"] == "enrolled").unwrap();
    let detail = entry["detail"].as_str().unwrap();
    for part in [&provider.issuer, "ID token SHA-256 ", ", staff number 999000000101"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert!(!detail.contains("Holt") && !detail.contains("0000101,"), "{detail}");

    // Another person than was invited, and one who does not sign in, leave the invitation as it is.
    let line = invite(node, &TOM, &[]);
    let enrolling = Enrolling::start(&cluster, "tom", &line);
    provider.browse(&enrolling.url, "999000000101", &[]);
    let said = enrolling.end().unwrap_err();
    assert!(said.contains("says another name than the invitation"), "{said}");
    node.await_audit("another person", |entry| {
        entry["event"] == "enrol-refused" && entry["detail"].as_str().unwrap().contains("another name")
    })
    .unwrap();
    let enrolling = Enrolling::start(&cluster, "tom", &line);
    provider.browse(&enrolling.url, "999000000102", &["cancel"]);
    let said = enrolling.end().unwrap_err();
    assert!(said.contains("has not signed you in (access_denied)"), "{said}");

    // Not without signing in; not with a state or a code that is nobody's, another invitation's, or used.
    let tom = Visitor::new(&line);
    assert_eq!(tom.refused(None).0, "sign-in-needed");
    let made_up = SignedIn { state: "made-up".into(), code: "c".into(), issuer: None };
    assert_eq!(tom.refused(Some(made_up)).0, "sign-in");
    let other = Visitor::new(&invite(node, &TOM, &[]));
    let others = other.sign_in(&provider, "999000000102").unwrap();
    assert_eq!(tom.refused(Some(others.clone())).0, "sign-in");
    let mut guess = Visitor::new(&line);
    guess.invitation.code = vec![0; 16];
    let Err(SignInError::Node(error)) = guess.sign_in(&provider, "999000000102") else {
        panic!("a sign-in began with a wrong code")
    };
    assert_eq!(words(error).0, "invitation");
    other.enrol(Some(others.clone())).unwrap();
    let again = other.refused(Some(others.clone()));
    assert_eq!(again.0, "sign-in", "{}", again.1);
    let fresh = tom.sign_in(&provider, "999000000102").unwrap();
    let (code, said) = tom.refused(Some(SignedIn { code: others.code, ..fresh }));
    assert!(code == "sign-in" && said.contains("invalid_grant"), "{code}: {said}");
    let signed_in = tom.sign_in(&provider, "999000000102").unwrap();
    tom.enrol(Some(signed_in)).unwrap();
}

const STRICT: &str = r#"
acr_values = ["AAL3_ANY"]
required = [{ claim = "$.id_assurance_level", values = ["3"] }]
[enrolment.identity_provider.claims]
name = ["{$.given_name} {$.family_name}"]
role = ["{$.role}"]
"#;

/// How the provider lies, the node's word for it, and a part of its text.
const TRICKS: [(&str, &str, &str); 20] = [
    ("nonce", "identity-provider", "nonce"),
    ("no-nonce", "identity-provider", "nonce"),
    ("issuer", "identity-provider", "issuer"),
    ("audience", "identity-provider", "audience"),
    ("audiences", "identity-provider", "audience"),
    ("party", "identity-provider", "another party"),
    ("expired", "identity-provider", "expired"),
    ("none", "identity-provider", "token is refused"),
    ("key", "identity-provider", "ignature"),
    ("changed", "identity-provider", "token is refused"),
    ("secret", "identity-provider", "token is refused"),
    ("shared", "identity-provider", "token is refused"),
    ("hash", "identity-provider", "another access token"),
    ("long-ago", "identity-provider", "too long ago"),
    ("no-time", "identity-provider", "auth_time"),
    ("class", "identity-provider", "(acr)"),
    ("no-token", "identity-provider", "there is none"),
    ("mixed-up", "sign-in", "not from it"),
    ("level", "sign-in-claims", "$.id_assurance_level"),
    ("subject", "identity-provider", "somebody else"),
];

#[test]
fn what_a_provider_must_not_say_is_refused() {
    if oidc::find().is_none() {
        return;
    }
    let person = json!({
        "given_name": "Amara", "family_name": "Holt", "role": "Cardiologist", "id_assurance_level": "3",
    });
    let provider = Provider::hostile(&person);
    let cluster = provider.trusted_by_a_node(STRICT);
    let node = &cluster.trusts[0].node;
    let line = invite(node, &AMARA, &[]);
    let device = Visitor::new(&line);
    for (trick, code, part) in TRICKS {
        provider.trick(trick);
        let signed_in = device.sign_in(&provider, "anybody").unwrap();
        let said = device.refused(Some(signed_in));
        assert!(said.0 == code && said.1.contains(part), "{trick}: {said:?}");
    }
    // What it publishes is as little to be believed.
    for trick in ["metadata", "plain", "redirect", "large"] {
        provider.trick(trick);
        let Err(SignInError::Node(error)) = device.sign_in(&provider, "anybody") else {
            panic!("{trick}: a sign-in began")
        };
        let said = words(error);
        assert_eq!(said.0, "identity-provider", "{trick}: {said:?}");
    }
    // It takes its time, and the node does not wait for longer than it may.
    provider.trick("silent");
    let signed_in = device.sign_in(&provider, "anybody").unwrap();
    let said = device.refused(Some(signed_in));
    assert!(said.1.contains("did not answer within"), "{said:?}");
    provider.trick("long");
    let signed_in = device.sign_in(&provider, "anybody").unwrap();
    assert_eq!(device.refused(Some(signed_in)).0, "cannot-certify");
    // Nothing but its lies was the reason, and the invitation still works.
    provider.trick("right");
    let signed_in = device.sign_in(&provider, "anybody").unwrap();
    device.enrol(Some(signed_in)).unwrap();
    let entry = node.await_audit("its class", |entry| entry["event"] == "enrolled").unwrap();
    assert!(entry["detail"].as_str().unwrap().contains(", acr AAL3_ANY, at "), "{entry}");
    // What it said went nowhere else.
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert!(!log.contains("an-access-token") && !log.contains("Holt"), "{log}");
}
