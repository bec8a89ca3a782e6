//! `[enrolment]`: what the trust asks of people who enrol, besides an invitation.

use std::path::{Path, PathBuf};

use openidconnect::IssuerUrl;

use super::reader::Section;
use crate::identity_provider::{Claim, Mapping, Options, Requirement, Template};

/// Where Debian keeps the authorities that browsers believe.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A value that goes into an address, in bytes.
const VALUE_BYTES_MAX: usize = 256;

/// The identity provider, if there is one.
pub(super) fn enrolment(
    mut section: Section<'_>,
    file: &impl Fn(&str) -> Option<PathBuf>,
) -> Option<Option<Options>> {
    let configured = section.has("identity_provider");
    let provider = section.section("identity_provider");
    section.end();
    if configured { identity_provider(provider, file).map(Some) } else { Some(None) }
}

fn identity_provider(mut section: Section<'_>, file: &impl Fn(&str) -> Option<PathBuf>) -> Option<Options> {
    let needed = "the provider's issuer identifier is needed, such as \"https://login.ryj.example\"";
    let issuer = section.required("issuer", needed, issuer);
    let client_id =
        section.required("client_id", "the name is needed by which the provider knows this node", value);
    let client_secret = section.optional(
        "client_secret",
        "the file with the secret that goes with `client_id` is needed",
        file,
    );
    let needed = "the file with the authorities that certify the provider is needed, in PEM";
    let authorities = section.optional("authorities", needed, file);
    let scopes = section.list("scopes", "a scope of the provider is needed, such as \"profile\"", value);
    let needed = "an authentication context class of the provider is needed, such as \"AAL3_ANY\"";
    let acr_values = section.list("acr_values", needed, value);
    let mapping = mapping(&mut section);
    section.end();
    Some(Options {
        issuer: issuer?,
        client_id: client_id?,
        client_secret: client_secret?,
        authorities: authorities?.unwrap_or_else(|| Path::new(AUTHORITIES).into()),
        scopes: scopes?,
        acr_values: acr_values?,
        mapping: mapping?,
    })
}

fn mapping(section: &mut Section<'_>) -> Option<Mapping> {
    let mut claims = section.section("claims");
    let needed =
        "a text with claims in braces is needed, each a JSONPath, such as \"{$.given_name} {$.family_name}\"";
    let mut templates = |key| claims.list(key, needed, |text| text.parse::<Template>().ok());
    let [name, staff_number, role, department, registration] =
        ["name", "staff_number", "role", "department", "registration"].map(&mut templates);
    if name.as_ref().is_some_and(Vec::is_empty) {
        claims.note("name", &format!("is missing; {needed}"));
    }
    claims.end();
    let mut required = Vec::new();
    let needed = "{ claim = \"$.id_assurance_level\", values = [\"3\"] } is needed";
    for mut entry in section.sections("required", needed) {
        let needed = "a JSONPath is needed, such as \"$.id_assurance_level\"";
        let claim = entry.required("claim", needed, |text| text.parse::<Claim>().ok());
        let values = entry.list("values", "a value that is enough is needed", value);
        if values.as_ref().is_some_and(Vec::is_empty) {
            entry.note("values", "is empty; at least one value that is enough is needed");
        }
        entry.end();
        required.push(claim.zip(values).map(|(claim, values)| Requirement { claim, values }));
    }
    Some(Mapping {
        name: name.filter(|name| !name.is_empty())?,
        staff_number: staff_number?,
        role: role?,
        department: department?,
        registration: registration?,
        required: required.into_iter().collect::<Option<_>>()?,
    })
}

fn issuer(text: &str) -> Option<IssuerUrl> {
    let issuer = IssuerUrl::new(text.to_owned()).ok()?;
    let url = issuer.url();
    let plain =
        url.scheme() == "https" && url.has_host() && url.query().is_none() && url.fragment().is_none();
    let fits = plain && url.username().is_empty() && text.len() <= VALUE_BYTES_MAX;
    fits.then_some(issuer)
}

fn value(text: &str) -> Option<String> {
    let fits = (1..=VALUE_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    fits.then(|| text.to_owned())
}
