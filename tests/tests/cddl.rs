//! The grammar `docs/reference/records.cddl` and the code agree, by an independent validator (the `cddl` crate).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod records;

use ciborium::Value;
use lanyard_crypto::record::{self, Body, Decoded, Kind, ReceiptItem, WipeReceipt};
use lanyard_crypto::x509::SecretKey;
use lanyard_crypto::{Fingerprint, Timestamp};
use records::Scene;

const GRAMMAR: &str = include_str!("../../docs/reference/records.cddl");

/// Whether the bytes are a `record` of the grammar. The validator applies `.cbor` to every item of an array that holds one such
/// (0.10.3 and 0.10.7), so what stands in byte strings is validated by itself, under the rule that the grammar names for it.
fn by_grammar(bytes: &[u8]) -> Result<(), String> {
    valid("record", bytes)?;
    let record: Value = ciborium::from_reader(bytes).map_err(|e| e.to_string())?;
    let Value::Tag(tag, parts) = record else {
        return Err("no tag".into());
    };
    let parts = parts.into_array().map_err(|_| "no array")?;
    let (protected, payload) = match tag {
        18 => ("by-certificate", "signed-statement"),
        _ => ("by-authorities", "signed-charter"),
    };
    valid(&embedded(protected), parts[0].as_bytes().ok_or("no header")?)?;
    valid(&embedded(payload), parts[2].as_bytes().ok_or("no payload")?)?;
    for item in
        parts[1].as_map().into_iter().flatten().flat_map(|(_, items)| items.as_array().into_iter().flatten())
    {
        valid("item", &to_bytes(item))?;
    }
    for signature in parts[3].as_array().into_iter().flatten() {
        let protected = signature.as_array().and_then(|s| s[0].as_bytes()).ok_or("no signature")?;
        valid(&embedded("by-authority"), protected)?;
    }
    Ok(())
}

/// The rule of what the byte string of this rule holds.
fn embedded(rule: &str) -> String {
    let line = GRAMMAR.lines().find_map(|l| l.strip_prefix(&format!("{rule} = bstr .cbor ")));
    line.unwrap_or_else(|| panic!("{rule} is no rule for embedded CBOR")).into()
}

fn valid(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let plain = |l: &str| l.split_once(" .cbor ").map_or(l.to_owned(), |(before, _)| before.to_owned());
    let rules: Vec<_> = GRAMMAR.lines().map(plain).collect();
    let grammar = format!("start = {rule}\n{}", rules.join("\n"));
    cddl::validate_cbor_from_slice(&grammar, bytes, None).map_err(|e| format!("{rule}: {e}"))
}

#[test]
fn every_record_is_of_the_grammar() {
    let records = Scene::new().all();
    for record in &records {
        let kind = record.body().kind().name();
        by_grammar(record.bytes()).unwrap_or_else(|e| panic!("{kind}: {e}"));
    }
    for kind in EVERY.iter().copied() {
        assert!(records.iter().any(|r| r.body().kind() == kind), "{}", kind.name());
    }
}

/// A change to a record: a name, the kinds that it is made to, and how. The frame holds the payload as a value, not as bytes.
type Mutation = (&'static str, &'static [Kind], fn(&mut Frame));

/// A record taken apart.
#[derive(Clone)]
struct Frame {
    tag: u64,
    protected: Value,
    unprotected: Value,
    payload: Value,
    signatures: Value,
}

impl Frame {
    fn of(record: &Decoded) -> Self {
        let Value::Tag(tag, parts) = from_bytes(record.bytes()) else { panic!("no tag") };
        let Value::Array(parts) = *parts else { panic!("no frame") };
        let [protected, unprotected, payload, signatures] = parts.try_into().unwrap();
        Self { tag, protected: inner(&protected), unprotected, payload: inner(&payload), signatures }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let parts = vec![
            outer(&self.protected),
            self.unprotected.clone(),
            outer(&self.payload),
            self.signatures.clone(),
        ];
        to_bytes(&Value::Tag(self.tag, Box::new(Value::Array(parts))))
    }

    /// The value under this key of the payload.
    fn field(&mut self, key: u64) -> &mut Value {
        field(&mut self.payload, key)
    }

    /// The items of a receipt.
    fn items(&mut self) -> &mut Value {
        &mut self.unprotected.as_map_mut().unwrap()[0].1
    }

    /// The value under this key of an item.
    fn item(&mut self, index: usize, key: u64) -> &mut Value {
        field(&mut self.items().as_array_mut().unwrap()[index].as_array_mut().unwrap()[1], key)
    }

    /// The value under this key of the body.
    fn said(&mut self, key: u64) -> &mut Value {
        field(&mut self.field(5).as_array_mut().unwrap()[1], key)
    }
}

const EVERY: &[Kind] =
    &[Kind::Charter, Kind::Crl, Kind::Entry, Kind::Envelope, Kind::Tombstone, Kind::Receipt, Kind::Head];
const BY_ONE: &[Kind] = &[Kind::Crl, Kind::Entry, Kind::Envelope, Kind::Tombstone, Kind::Receipt, Kind::Head];
const FOR_ALL: &[Kind] = &[Kind::Charter, Kind::Crl, Kind::Entry, Kind::Head];
const KEPT: &[Kind] = &[Kind::Envelope, Kind::Tombstone, Kind::Receipt];

const MUTATIONS: &[Mutation] = &[
    ("another tag", EVERY, |f| f.tag = 17),
    ("the other tag", EVERY, |f| f.tag = 116 - f.tag),
    ("an unprotected header", EVERY, |f| put(&mut f.unprotected, 4, Value::Bytes(vec![1]))),
    ("another algorithm", EVERY, |f| *field(&mut f.protected, 1) = (-7).into()),
    ("one more protected header", EVERY, |f| put(&mut f.protected, 50, 1.into())),
    ("no algorithm", EVERY, |f| f.protected = Value::Map(Vec::new())),
    ("a fingerprint by another hash", BY_ONE, |f| {
        field(&mut f.protected, 34).as_array_mut().unwrap()[0] = (-43).into()
    }),
    ("a short fingerprint", BY_ONE, |f| shorten(&mut field(&mut f.protected, 34).as_array_mut().unwrap()[1])),
    ("a short signature", BY_ONE, |f| shorten(&mut f.signatures)),
    ("no signature", BY_ONE, |f| f.signatures = Value::Null),
    ("a short signature of an authority", &[Kind::Charter], |f| shorten(&mut signature(f)[2])),
    ("a header beside a signature", &[Kind::Charter], |f| put(&mut signature(f)[1], 4, 1.into())),
    ("another version", EVERY, |f| *f.field(0) = 2.into()),
    ("a short network id", BY_ONE, |f| shorten(f.field(1))),
    ("no network", BY_ONE, |f| *f.field(1) = Value::Null),
    ("custodians of what is for all", FOR_ALL, |f| *f.field(2) = Value::Array(vec!["RXA".into()])),
    ("no custodians", KEPT, |f| *f.field(2) = Value::Array(Vec::new())),
    ("too many custodians", KEPT, |f| {
        *f.field(2) = (0..65).map(|n| Value::from(format!("R{n:04}"))).collect::<Vec<_>>().into()
    }),
    ("a custodian that is no code", KEPT, |f| f.field(2).as_array_mut().unwrap()[0] = "rxa".into()),
    ("a code that is too long", KEPT, |f| f.field(2).as_array_mut().unwrap()[0] = "RXA123456".into()),
    ("a negative time", EVERY, |f| *f.field(3) = (-1).into()),
    ("a time that is text", EVERY, |f| *f.field(4) = "tomorrow".into()),
    ("a field more", EVERY, |f| put(&mut f.payload, 6, 0.into())),
    ("a field less", EVERY, |f| drop(f.payload.as_map_mut().unwrap().pop())),
    ("an unknown kind", EVERY, |f| f.field(5).as_array_mut().unwrap()[0] = 7.into()),
    ("another kind", EVERY, |f| {
        let kind = &mut f.field(5).as_array_mut().unwrap()[0];
        *kind = if *kind == Value::from(5) { 3.into() } else { 5.into() };
    }),
    ("a kind by its name", EVERY, |f| f.field(5).as_array_mut().unwrap()[0] = "Envelope".into()),
    ("a body with a field more", EVERY, |f| put(&mut f.field(5).as_array_mut().unwrap()[1], 9, 0.into())),
    ("an empty body", EVERY, |f| f.field(5).as_array_mut().unwrap()[1] = Value::Map(Vec::new())),
    ("a country that is none", &[Kind::Charter], |f| *f.said(5) = Value::Array(vec!["Gb".into()])),
    ("a trust that is a number", &[Kind::Charter], |f| {
        *field(&mut f.said(4).as_array_mut().unwrap()[0], 0) = 5.into()
    }),
    ("a list that is text", &[Kind::Crl], |f| *f.said(0) = "list".into()),
    ("one certificate", &[Kind::Entry], |f| drop(f.said(0).as_array_mut().unwrap().pop())),
    ("a large key package", &[Kind::Entry], |f| {
        if let Some(package) = f.said(1).as_bytes_mut() {
            package.resize(16 * 1024 + 1, 0);
        } else {
            *f.said(2) = Value::Array(vec!["/ip4/127.0.0.1".into(); 9]);
        }
    }),
    ("a short conversation id", KEPT_OF_CONVERSATION, |f| *f.said(0) = Value::Bytes(vec![7; 18])),
    ("a long conversation id", KEPT_OF_CONVERSATION, |f| {
        *f.said(0) = Value::Bytes([&[7; 16][..], b"RXA123456"].concat())
    }),
    ("an unknown class", &[Kind::Envelope], |f| *f.said(2) = 4.into()),
    ("a class as an array", &[Kind::Envelope], |f| *f.said(2) = Value::Array(vec![0.into()])),
    ("no content", &[Kind::Envelope], |f| *f.said(3) = Value::Bytes(Vec::new())),
    ("an unknown target", &[Kind::Tombstone], |f| f.said(1).as_array_mut().unwrap()[0] = 3.into()),
    ("a standing order of no time", &[Kind::Tombstone], |f| {
        *f.said(1) = Value::Array(vec![2.into(), 1.into(), 0.into()])
    }),
    ("a standing order beyond any charter", &[Kind::Tombstone], |f| {
        *f.said(1) = Value::Array(vec![2.into(), 1.into(), 252_979_201.into()])
    }),
    ("a standing order without its time", &[Kind::Tombstone], |f| {
        *f.said(1) = Value::Array(vec![2.into(), 1.into()])
    }),
    ("a list of no classes", &[Kind::Charter], |f| {
        *f.said(6) = Value::Map(vec![(0.into(), 60.into()), (1.into(), Value::Map(Vec::new()))])
    }),
    ("a class that nobody knows", &[Kind::Charter], |f| {
        let classes = Value::Map(vec![(3.into(), 30.into())]);
        *f.said(6) = Value::Map(vec![(0.into(), 60.into()), (1.into(), classes)])
    }),
    ("no target", &[Kind::Tombstone], |f| {
        *f.said(1) = Value::Array(vec![0.into(), Value::Array(Vec::new())])
    }),
    ("an unknown reason", &[Kind::Tombstone], |f| *f.said(2) = 6.into()),
    ("a long reference", &[Kind::Tombstone], |f| *f.said(3) = Value::Bytes(vec![0; 65])),
    ("no items", &[Kind::Receipt], |f| *f.items() = Value::Array(Vec::new())),
    ("more items than there are", &[Kind::Receipt], |f| *f.said(0) = 513.into()),
    ("a short root", &[Kind::Receipt], |f| shorten(f.said(1))),
    ("too large a count", &[Kind::Receipt], |f| *f.item(0, 2) = (1u64 << 32).into()),
    ("a long reference of a hold", &[Kind::Receipt], |f| *f.item(2, 2) = Value::Bytes(vec![0; 65])),
    ("a line that is long", &[Kind::Receipt], |f| *f.item(3, 1) = Value::Bytes(vec![0; 257])),
    ("too many devices", &[Kind::Receipt], |f| {
        let device = f.item(4, 1).as_array().unwrap()[1].clone();
        *f.item(4, 1) = Value::Array(vec![device; 17])
    }),
    ("an unknown item", &[Kind::Receipt], |f| {
        f.items().as_array_mut().unwrap()[5].as_array_mut().unwrap()[0] = 5.into()
    }),
    ("a time of expiry that is text", &[Kind::Receipt], |f| *f.item(5, 1) = "now".into()),
    ("no row", &[Kind::Head], |f| *f.said(0) = 0.into()),
    ("a short hash", &[Kind::Head], |f| shorten(f.said(1))),
];
const KEPT_OF_CONVERSATION: &[Kind] = &[Kind::Envelope, Kind::Tombstone];

/// Where the validator (not the grammar) is more lenient than RFC 8610, and so than the code. If it learns, the test says so.
const LENIENT: &[(&str, &str)] = &[
    ("an unprotected header", "any map is taken for an empty one"),
    ("a header beside a signature", "any map is taken for an empty one"),
    ("a body with a field more", "any key more is taken in a map that is an item of an array"),
    ("a code that is too long", "a regular expression need not match the whole text"),
    ("a class as an array", "an array with a permitted value is taken for the value"),
];

#[test]
fn grammar_and_code_refuse_the_same() {
    let records = Scene::new().all();
    for record in &records {
        let kind = record.body().kind();
        let frame = Frame::of(record);
        assert_eq!(frame.to_bytes(), record.bytes().to_vec(), "taken apart and put together");
        let mut apart = Vec::new();
        for (name, kinds, change) in MUTATIONS.iter().filter(|(_, kinds, _)| kinds.contains(&kind)) {
            assert!(!kinds.is_empty());
            let mut changed = frame.clone();
            change(&mut changed);
            let bytes = changed.to_bytes();
            let lenient = LENIENT.iter().any(|(n, _)| n == name);
            let (code, grammar) = (Decoded::from_bytes(&bytes).is_err(), by_grammar(&bytes).is_err());
            if !code || grammar == lenient {
                apart.push(format!(
                    "{} with {name}: refused by code: {code}, by grammar: {grammar}",
                    kind.name()
                ));
            }
        }
        assert!(apart.is_empty(), "{apart:#?}");
    }
}

fn field(map: &mut Value, key: u64) -> &mut Value {
    let absent = Value::Null;
    let map = map.as_map_mut().unwrap();
    if !map.iter().any(|(k, _)| *k == Value::from(key)) {
        map.push((key.into(), absent));
    }
    &mut map.iter_mut().find(|(k, _)| *k == Value::from(key)).unwrap().1
}

fn put(map: &mut Value, key: u64, value: Value) {
    *field(map, key) = value;
}

fn shorten(bytes: &mut Value) {
    bytes.as_bytes_mut().unwrap().pop();
}

/// The parts of the first authority's signature.
fn signature(frame: &mut Frame) -> &mut Vec<Value> {
    frame.signatures.as_array_mut().unwrap()[0].as_array_mut().unwrap()
}

fn inner(bytes: &Value) -> Value {
    from_bytes(bytes.as_bytes().unwrap())
}

fn outer(value: &Value) -> Value {
    Value::Bytes(to_bytes(value))
}

fn from_bytes(bytes: &[u8]) -> Value {
    ciborium::from_reader(bytes).unwrap()
}

fn to_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

#[test]
fn lines_and_proofs_are_of_the_grammar() {
    let scene = Scene::new();
    let receipt = scene.all().into_iter().find(|r| r.body().kind() == Kind::Receipt).unwrap();
    let Body::Receipt(body) = receipt.body() else { panic!("no receipt") };
    let mut lines = 0;
    for item in &body.items {
        let proof = record::prove(&receipt, item).unwrap();
        framed("item-proof", "signed-statement", &proof).unwrap();
        let Value::Tag(_, parts) = from_bytes(&proof) else { panic!("no tag") };
        let header = parts.as_array().unwrap()[1].as_map().unwrap()[0].1.clone();
        let path = header.as_map().unwrap()[0].1.as_array().unwrap()[0].clone();
        valid(&embedded("inclusion"), path.as_bytes().unwrap()).unwrap();
        if let ReceiptItem::DeviceErased(item) = item {
            framed("device-line", "signed-line", &item.line).unwrap();
            lines += 1;
        }
    }
    assert_eq!(lines, 1);
    let key = SecretKey::generate().unwrap();
    let wiped = WipeReceipt::sign(7, Timestamp::from_secs(1), Fingerprint::new([4; 32]), &key);
    framed("wipe-receipt", "signed-wipe", wiped.bytes()).unwrap();
    assert!(framed("device-line", "signed-line", wiped.bytes()).is_err());
}

/// Whether bytes are a COSE_Sign1 by this rule, with what this other one says in its payload.
fn framed(rule: &str, payload: &str, bytes: &[u8]) -> Result<(), String> {
    valid(rule, bytes)?;
    let Value::Tag(_, parts) = from_bytes(bytes) else { return Err("no tag".into()) };
    let parts = parts.as_array().ok_or("no array")?;
    valid(&embedded("by-certificate"), parts[0].as_bytes().ok_or("no header")?)?;
    valid(&embedded(payload), parts[2].as_bytes().ok_or("no payload")?)
}
