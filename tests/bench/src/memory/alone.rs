//! The yardsticks, each in a process of its own: what is opened stays so until standard input ends.

use std::error::Error;
use std::io::{Read, Write};
use std::path::PathBuf;

use lanyard_crypto::ids::{from_hex, to_hex};
use lanyard_storage::{SledOptions, SledStore};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::tls;

/// A store of a node.
pub struct StoreAt {
    pub dir: PathBuf,
    pub owner: [u8; 32],
    pub key: [u8; 32],
    pub cache_bytes: u64,
}

impl StoreAt {
    pub fn open(&self) -> Result<SledStore, Box<dyn Error>> {
        let store_key = Zeroizing::new(self.key);
        let (dir, owner, cache_bytes) = (self.dir.clone(), self.owner, self.cache_bytes);
        Ok(SledStore::open(SledOptions { dir, owner, store_key, cache_bytes })?)
    }

    pub fn to_json(&self) -> Value {
        json!({
            "what": "store", "dir": self.dir, "owner": to_hex(&self.owner), "key": to_hex(&self.key),
            "cache_bytes": self.cache_bytes,
        })
    }

    fn from_json(value: &Value) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            dir: text(value, "dir")?.into(),
            owner: bytes(value, "owner")?,
            key: bytes(value, "key")?,
            cache_bytes: value["cache_bytes"].as_u64().ok_or("the cache's size")?,
        })
    }
}

/// A query to a vault, as bare SQLCipher answers it.
pub fn query_json(path: &std::path::Path, key: &[u8; 32], sql: &str, conversation: &[u8]) -> Value {
    json!({ "path": path, "key": to_hex(key), "sql": sql, "conversation": to_hex(conversation) })
}

/// Does what standard input says.
pub fn run() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let what: Value = serde_json::from_str(&line)?;
    match text(&what, "what")?.as_str() {
        "store" => {
            let store = StoreAt::from_json(&what)?.open()?;
            ready("open")?;
            drop(store);
            Ok(())
        }
        "tls" => tls::serve(|address| ready(&address)),
        other => Err(format!("nothing is called {other:?}").into()),
    }
}

/// Says so, and waits until nobody wants it any more.
fn ready(said: &str) -> Result<(), Box<dyn Error>> {
    println!("{said}");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Answers one query to a vault, and ends. The query is in this file, as [`query_json`] made it.
pub fn query(file: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let query: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let connection = Connection::open_with_flags(text(&query, "path")?, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let key = format!("x'{}'", text(&query, "key")?);
    connection.pragma_update(None, "key", key)?;
    let mut statement = connection.prepare(&text(&query, "sql")?)?;
    let conversation = from_hex(&text(&query, "conversation")?).ok_or("the conversation's id")?;
    let columns = statement.column_count();
    let values: Vec<&dyn rusqlite::ToSql> = vec![&conversation; statement.parameter_count()];
    let mut rows = statement.query(&values[..])?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            row.get_ref(column)?;
        }
        count += 1;
    }
    println!("{count} rows");
    Ok(())
}

fn text(value: &Value, name: &str) -> Result<String, Box<dyn Error>> {
    Ok(value[name].as_str().ok_or_else(|| format!("{name} is missing"))?.to_owned())
}

fn bytes(value: &Value, name: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let bytes = from_hex(&text(value, name)?).and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.ok_or_else(|| format!("{name} has 32 bytes"))?)
}
