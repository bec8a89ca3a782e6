//! `lanyard-node network`: founding a network and changing its charter.

use std::path::{Path, PathBuf};

use lanyard_crypto::charter::{Authorities, Charter, Policy};
use lanyard_crypto::ids::{from_hex, to_hex};
use lanyard_crypto::record::{self, Body, Decoded, Header};
use lanyard_crypto::x509::SecretKey;
use serde::Serialize;

use super::charters::{self, CharterView};
use super::{CommandError, operate, read_key, show, write_key};
use crate::cli::{
    AuthorityKeyArgs, ClassRetention, FoundArgs, MemberArg, NetworkCommand, ProposeArgs, ShowCharterArgs,
    SignArgs,
};
use crate::files;
use crate::time::{DAY_SECS, now, rfc3339};

pub(super) fn run(command: NetworkCommand) -> Result<(), CommandError> {
    match command {
        NetworkCommand::AuthorityKey(args) => authority_key(&args),
        NetworkCommand::Found(args) => found(&args),
        NetworkCommand::Propose(args) => propose(&args),
        NetworkCommand::Sign(args) => sign(&args),
        NetworkCommand::Show(args) => show_record(&args),
        NetworkCommand::Import(args) => operate::import(&args),
    }
}

/// What `network authority-key` has made.
#[derive(Serialize)]
struct AuthorityKey {
    public_key: String,
    file: PathBuf,
}

fn authority_key(args: &AuthorityKeyArgs) -> Result<(), CommandError> {
    let key = SecretKey::generate()?;
    write_key(&args.out, &key)?;
    let made = AuthorityKey { public_key: to_hex(&key.public()), file: args.out.clone() };
    show(args.json, &made, |made| {
        format!(
            "{}\nThis is the public key. The private one is in {}: keep it offline.",
            made.public_key,
            made.file.display()
        )
    })
}

fn found(args: &FoundArgs) -> Result<(), CommandError> {
    let keys = read_keys(&args.authority_keys)?;
    let mut authorities: Vec<_> = keys.iter().map(|key| key.public().to_vec()).collect();
    for text in &args.authorities {
        authorities.push(public_key(text)?);
    }
    let authorities = sorted(authorities);
    let charter = Charter {
        name: args.name.clone(),
        version: 1,
        previous: None,
        authorities: Authorities {
            threshold: args.threshold.unwrap_or(authorities.len() as u64 / 2 + 1),
            keys: authorities.into_iter().map(serde_bytes::ByteBuf::from).collect(),
        },
        trusts: with_members(Vec::new(), &args.members)?,
        countries: sorted(args.countries.clone()),
        policy: with_classes(
            Policy {
                confirm_secs: Some(args.confirm_hours * 3600),
                ..Policy::of(args.retention_days * DAY_SECS)
            },
            &args.class_retention,
        ),
    };
    let issued = now();
    let header = Header {
        network: None,
        custodians: Vec::new(),
        issued,
        expires: issued.plus_secs(args.days * DAY_SECS),
    };
    write(header, charter, &keys, None, &args.out, args.json)
}

fn propose(args: &ProposeArgs) -> Result<(), CommandError> {
    let (mut charter, current) = charters::read_charter(&args.current)?;
    let keys = read_keys(&args.authority_keys)?;
    for trust in &args.removed_members {
        let place = charter.trusts.iter().position(|m| m.trust == *trust);
        let place =
            place.ok_or_else(|| CommandError::Usage(format!("--remove-member {trust}: not a member")))?;
        charter.trusts.remove(place);
    }
    charter.trusts = with_members(charter.trusts, &args.members)?;
    for country in &args.countries.removed {
        let place = charter.countries.iter().position(|c| c == country);
        let place = place
            .ok_or_else(|| CommandError::Usage(format!("--remove-country {country}: not permitted now")))?;
        charter.countries.remove(place);
    }
    charter.countries.extend(&args.countries.added);
    charter.countries = sorted(charter.countries);
    let mut authorities: Vec<_> = charter.authorities.keys.into_iter().map(|key| key.into_vec()).collect();
    for text in &args.removed_authorities {
        let key = public_key(text)?;
        let place = authorities.iter().position(|k| *k == key);
        let place = place
            .ok_or_else(|| CommandError::Usage(format!("--remove-authority {text}: not an authority")))?;
        authorities.remove(place);
    }
    for text in &args.authorities {
        authorities.push(public_key(text)?);
    }
    charter.authorities = Authorities {
        keys: sorted(authorities).into_iter().map(serde_bytes::ByteBuf::from).collect(),
        threshold: args.threshold.unwrap_or(charter.authorities.threshold),
    };
    if let Some(days) = args.retention_days {
        charter.policy.retention_secs_max = days * DAY_SECS;
    }
    if let Some(hours) = args.confirm_hours {
        charter.policy.confirm_secs = Some(hours * 3600);
    }
    charter.policy = with_classes(charter.policy, &args.class_retention);
    charter.version += 1;
    charter.previous = Some(current.statement());

    let issued = now();
    let header = Header {
        network: Some(charters::network_of(&current)),
        custodians: Vec::new(),
        issued,
        expires: issued.plus_secs(args.days * DAY_SECS),
    };
    write(header, charter, &keys, None, &args.out, args.json)
}

fn sign(args: &SignArgs) -> Result<(), CommandError> {
    let (charter, earlier) = charters::read_charter(&args.file)?;
    let keys = read_keys(&args.authority_keys)?;
    let header = earlier.header().clone();
    write(header, charter, &keys, Some(&earlier), args.out.as_ref().unwrap_or(&args.file), args.json)
}

/// Signs with what keys there are, writes the charter, and shows it. A charter that nobody could ever accept
/// is not written; one that lacks signatures is, since others are to add theirs.
fn write(
    header: Header,
    charter: Charter,
    keys: &[SecretKey],
    earlier: Option<&Decoded>,
    out: &Path,
    json: bool,
) -> Result<(), CommandError> {
    charter.check()?;
    let keys: Vec<&SecretKey> = keys.iter().collect();
    let record = record::sign_charter(header, charter.clone(), &keys, earlier)?;
    files::replace(out, record.bytes(), files::PUBLIC)?;
    show(json, &CharterView::new(&charter, &record)?, |view| {
        let next = match view.signed {
            true => "Give it to every member; a running node takes it by: lanyard-node network import",
            false => "Hand it to another authority, who runs: lanyard-node network sign",
        };
        format!("{}\n\nWritten: {}\n{next}", view.to_text(), out.display())
    })
}

/// A record that is no charter, as `network show` shows it.
#[derive(Serialize)]
struct RecordView {
    kind: &'static str,
    id: String,
    network: Option<String>,
    issued: String,
    expires: String,
    bytes: usize,
}

fn show_record(args: &ShowCharterArgs) -> Result<(), CommandError> {
    let record = charters::read_record(&args.file)?;
    if let Body::Charter(charter) = record.body() {
        return show(args.json, &CharterView::new(charter, &record)?, CharterView::to_text);
    }
    let header = record.header();
    let view = RecordView {
        kind: record.body().kind().name(),
        id: record.id().to_string(),
        network: header.network.map(|n| n.to_string()),
        issued: rfc3339(header.issued),
        expires: rfc3339(header.expires),
        bytes: record.bytes().len(),
    };
    show(args.json, &view, |v| {
        let network = v.network.as_deref().unwrap_or("(none)");
        format!("{} {}\n  network      {network}\n  valid        {} to {}", v.kind, v.id, v.issued, v.expires)
    })
}

fn with_classes(mut policy: Policy, typed: &[ClassRetention]) -> Policy {
    for ClassRetention { class, days } in typed {
        *policy.retention_by_class.of_mut(*class) = days.map(|days| days * DAY_SECS);
    }
    policy
}

fn with_members(
    mut members: Vec<lanyard_crypto::charter::Member>,
    args: &[MemberArg],
) -> Result<Vec<lanyard_crypto::charter::Member>, CommandError> {
    for arg in args {
        let member = charters::member(arg)?;
        members.retain(|m| m.trust != member.trust);
        members.push(member);
    }
    members.sort_by(|a, b| a.trust.cmp(&b.trust));
    Ok(members)
}

fn read_keys(paths: &[PathBuf]) -> Result<Vec<SecretKey>, CommandError> {
    paths.iter().map(|path| read_key(path)).collect()
}

fn public_key(text: &str) -> Result<Vec<u8>, CommandError> {
    let key = from_hex(text).filter(|key| key.len() == 32);
    key.ok_or_else(|| {
        CommandError::Usage(format!("{text:?} is not a public key: 64 hexadecimal digits are needed"))
    })
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}
