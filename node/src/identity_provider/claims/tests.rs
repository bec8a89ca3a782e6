//! The claims of NHS CIS2, as its public documentation spells them, and what goes wrong with claims.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::Config;

/// What a node needs besides.
const NODE: &str = r#"
data_dir = "data"
[identity]
key = "node.key"
chain = "node.pem"
registrar_key = "r.key"
registrar_certificate = "r.pem"
[network]
charter = "charter.cbor"
[peer]
listen = ["/ip4/127.0.1.1/udp/4001/quic-v1"]
[gateway]
listen = "127.0.1.1:8443"
public_address = "127.0.1.1:8443"
"#;

/// The example that operators are given.
fn cis2() -> Mapping {
    let page = include_str!("../../../../docs/operating/sign-in.md");
    let example = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let config = Config::parse(Path::new("/srv/node.toml"), &format!("{NODE}{example}")).unwrap();
    config.identity_provider.unwrap().mapping
}

/// What a fictional person's ID token and UserInfo say together.
fn said() -> Value {
    json!({
        "sub": "999000000101",
        "acr": "AAL3_ANY",
        "id_assurance_level": "3",
        "authentication_assurance_level": 3,
        "nhsid_useruid": "999000000101",
        "name": "Holt Amara Dr",
        "given_name": "Amara",
        "family_name": "Holt",
        "gmc_id": "0000101",
        "selected_roleid": "999000000202",
        "nhsid_nrbac_roles": [
            {
                "person_orgid": "999000000301",
                "person_roleid": "999000000201",
                "org_code": "RZ2",
                "role_name": "\"Admin & Clerical\":\"Management - A & C\":\"Registration Authority Manager\"",
                "role_code": "S0080:G0450:R5080"
            },
            {
                "person_orgid": "999000000302",
                "person_roleid": "999000000202",
                "org_code": "RZ1",
                "role_name": "\"Clinical\":\"Clinical Provision\":\"Clinical Practitioner Access Role\"",
                "role_code": "S8000:G8000:R8000"
            }
        ]
    })
}

fn invited() -> Invitee {
    Invitee {
        name: "Dr Amara Holt".into(),
        role: Some("Consultant cardiologist".into()),
        department: Some("Cardiology".into()),
        registration: Some("GMC0000101".into()),
        staff_number: Some("999 000 000 101".into()),
        checked_by: "J. Byrne".into(),
        replaces: None,
    }
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut said = said();
    change(&mut said);
    said
}

#[test]
fn the_claims_of_cis2_become_a_certificates_subject() {
    let mapping = cis2();
    assert!(mapping.is_complete(&said()));
    let person = mapping.read(&said()).unwrap();
    let confirmed = mapping.confirm(&invited(), &person).unwrap();
    assert_eq!(
        confirmed,
        Invitee {
            name: "Amara Holt".into(),
            role: Some("Clinical Practitioner Access Role".into()),
            department: Some("Cardiology".into()),
            registration: Some("GMC 0000101".into()),
            staff_number: Some("999000000101".into()),
            checked_by: "J. Byrne".into(),
            replaces: None,
        }
    );
}

#[test]
fn the_first_template_counts_whose_claims_are_there() {
    let nurse = with(|said| {
        said["gmc_id"] = Value::Null;
        said["nmc_id"] = json!("00A0102Z");
    });
    assert_eq!(cis2().read(&nurse).unwrap().registration.unwrap(), "NMC 00A0102Z");
}

#[test]
fn what_is_not_enough_or_ambiguous_is_refused() {
    let refused = |change: fn(&mut Value)| cis2().read(&with(change)).unwrap_err();
    let level = ClaimError::NotEnough("$.id_assurance_level".into());
    assert_eq!(refused(|said| said["id_assurance_level"] = json!("2")), level);
    assert_eq!(refused(|said| said["id_assurance_level"] = Value::Null), level);
    assert_eq!(refused(|said| said["family_name"] = json!("  ")), ClaimError::Missing("the name"));
    assert_eq!(refused(|said| said["gmc_id"] = json!(["1"])), ClaimError::Kind("$.gmc_id".into()));
    let twice = |said: &mut Value| said["selected_roleid"] = json!("999000000201");
    assert_eq!(cis2().read(&with(twice)).unwrap().role.unwrap(), "Registration Authority Manager");
    let both = |said: &mut Value| said["nhsid_nrbac_roles"][0]["person_roleid"] = json!("999000000202");
    let several = "$.nhsid_nrbac_roles[?@.person_roleid == $.selected_roleid].role_name";
    assert_eq!(cis2().read(&with(both)).unwrap_err(), ClaimError::Several(several.into()));
}

#[test]
fn nobody_enrols_as_somebody_else() {
    let mapping = cis2();
    let refused = |change: fn(&mut Value), invited: Invitee| {
        mapping.confirm(&invited, &mapping.read(&with(change)).unwrap()).unwrap_err()
    };
    let other = ClaimError::OtherPerson;
    assert_eq!(refused(|said| said["given_name"] = json!("Anna"), invited()), other("name"));
    assert_eq!(refused(|said| said["given_name"] = json!("Amara Jane"), invited()), other("name"));
    let registration = other("professional registration");
    assert_eq!(refused(|said| said["gmc_id"] = json!("0000102"), invited()), registration);
    assert_eq!(refused(|said| said["gmc_id"] = Value::Null, invited()), registration, "nor as nobody");
    assert_eq!(
        refused(|said| said["nhsid_useruid"] = json!("999000000102"), invited()),
        other("staff number")
    );
    // What the operator did not say, the provider adds.
    let plain = Invitee { registration: None, staff_number: None, role: None, ..invited() };
    let person = mapping.read(&said()).unwrap();
    assert_eq!(mapping.confirm(&plain, &person).unwrap().registration.unwrap(), "GMC 0000101");
}

#[test]
fn names_are_compared_by_their_words() {
    for (a, b) in [
        ("Dr Amara Holt", "HOLT Amara (Dr)"),
        ("Siobh\u{e1}n O\u{2019}Neill", "siobha\u{301}n o'neill"),
        ("Prof. Jo Castellan-Reyes", "Jo Castellan Reyes"),
    ] {
        assert_eq!(words(a), words(b), "{a}, {b}");
    }
    assert_ne!(words("Tom Brenner"), words("Tim Brenner"));
    assert_ne!(words("Dr"), words("Mr"), "a title alone is a name");
}

#[test]
fn a_template_holds_a_claim_and_no_stray_brace() {
    for wrong in ["", "Amara", "{", "{$.a", "{a}", "{}", "{$.a} }", "}{$.a}", "{$.a[}"] {
        assert!(wrong.parse::<Template>().is_err(), "{wrong}");
    }
    assert!("{$.a}-{$['b c']}".parse::<Template>().is_ok());
    assert!(format!("{{$.{}}}", "a".repeat(TEMPLATE_BYTES_MAX)).parse::<Template>().is_err());
}
