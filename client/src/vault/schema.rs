//! The vault's tables, and the version of their format.

use rusqlite::Connection;

use super::VaultError;

/// The format that this program writes (`PRAGMA user_version`). Since 2, there are standing orders, and what the node is yet to be told
/// of erasures; since 3, who was a member when, to whom this device has written, and overrides; since 4, reviews of members, the
/// trust's patterns, and whose devices members were; since 5, groups as they were before somebody left, and messages' places. Tables that are missing
/// are made.
const VERSION: u32 = 5;

pub(super) fn prepare(connection: &Connection) -> Result<(), VaultError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        // Another process may be making the same vault: tables are made only if they are missing.
        0..VERSION => {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            // A newer program may have come in between.
            let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if found > VERSION {
                return Err(VaultError::Newer { found, known: VERSION });
            }
            connection.execute_batch(TABLES)?;
            if connection.prepare("SELECT place FROM message").is_err() {
                connection
                    .execute_batch("ALTER TABLE message ADD COLUMN place INTEGER NOT NULL DEFAULT 0")?;
            }
            Ok(connection.execute_batch(&format!("PRAGMA user_version = {VERSION};COMMIT;"))?)
        }
        VERSION => Ok(()),
        found => Err(VaultError::Newer { found, known: VERSION }),
    }
}

// Ids are their bytes; moments are seconds since 1970.
const TABLES: &str = "
-- MLS: the group's state, and the secrets of earlier epochs for what arrives late.
CREATE TABLE IF NOT EXISTS mls_group (id BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mls_epoch (
    group_id BLOB NOT NULL, epoch INTEGER NOT NULL, state BLOB NOT NULL, PRIMARY KEY (group_id, epoch)
) WITHOUT ROWID;
-- Groups as they were in the last epoch of somebody who has left, or has another key since: for what they wrote and arrives late. ended:
-- when the owner trust published the commit.
CREATE TABLE IF NOT EXISTS former_group (
    id BLOB NOT NULL, epoch INTEGER NOT NULL, state BLOB NOT NULL, ended INTEGER NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (id, epoch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mls_key_package (
    id BLOB PRIMARY KEY, expires INTEGER NOT NULL, data BLOB NOT NULL
) WITHOUT ROWID;

-- left_epoch: the epoch that began with our removal; NULL while we are in.
CREATE TABLE IF NOT EXISTS conversation (
    id BLOB PRIMARY KEY, title TEXT NOT NULL, class TEXT NOT NULL, since INTEGER NOT NULL, left_epoch INTEGER
) WITHOUT ROWID;

-- id: the envelope's record id; NULL until the node has answered. content_hash: SHA-256 of the MLS message. place: among its sender's of
-- the epoch.
CREATE TABLE IF NOT EXISTS message (
    local INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB UNIQUE, content_hash BLOB NOT NULL,
    conversation BLOB NOT NULL, epoch INTEGER NOT NULL, own INTEGER NOT NULL,
    sender BLOB NOT NULL, name TEXT NOT NULL, role TEXT, trust TEXT NOT NULL,
    issued INTEGER NOT NULL, expires INTEGER NOT NULL, text TEXT NOT NULL, place INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS message_order ON message (conversation, issued, local);
CREATE INDEX IF NOT EXISTS message_expiry ON message (expires);
CREATE INDEX IF NOT EXISTS message_content ON message (content_hash);

-- Deletions, for messages that arrive after them; kept until what they name has expired. signer: the trust
-- whose tombstone it was, on which depends whether it counts.
CREATE TABLE IF NOT EXISTS erased (
    id BLOB NOT NULL, conversation BLOB NOT NULL, signer TEXT NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (id, conversation, signer)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erased_up_to (
    conversation BLOB PRIMARY KEY, moment INTEGER NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;

-- Deletions that this device has carried out, and has yet to tell its node: the tombstone, and when.
CREATE TABLE IF NOT EXISTS erasure (
    tombstone BLOB PRIMARY KEY, erased INTEGER NOT NULL
) WITHOUT ROWID;

-- Standing orders: messages up to a moment end so many seconds after they were issued.
CREATE TABLE IF NOT EXISTS erased_after (
    conversation BLOB NOT NULL, moment INTEGER NOT NULL, secs INTEGER NOT NULL, expires INTEGER NOT NULL,
    PRIMARY KEY (conversation, moment, secs)
) WITHOUT ROWID;

-- What the node has not taken yet, in order. message: the row of `message` that it carries. content_hash: as
-- there.
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, conversation BLOB NOT NULL, change INTEGER NOT NULL,
    message INTEGER, content_hash BLOB NOT NULL, request BLOB NOT NULL
);

-- Submissions that the node has taken and the owner trust has not answered.
CREATE TABLE IF NOT EXISTS submission (conversation BLOB PRIMARY KEY, id BLOB NOT NULL) WITHOUT ROWID;

-- Envelopes that arrived before the commit or welcome that opens their epoch; withheld: those that wait for a
-- certificate to hold. signer: the trust whose node signed the record.
CREATE TABLE IF NOT EXISTS held (
    id BLOB PRIMARY KEY, conversation BLOB NOT NULL, epoch INTEGER NOT NULL, welcome INTEGER NOT NULL,
    withheld INTEGER NOT NULL, signer TEXT NOT NULL, envelope BLOB NOT NULL, issued INTEGER NOT NULL,
    expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS held_order ON held (conversation, epoch);
CREATE INDEX IF NOT EXISTS held_signer ON held (signer, conversation);

-- Records whose signer cannot be verified yet. trust: as their chain states it.
CREATE TABLE IF NOT EXISTS unverified (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, trust TEXT NOT NULL,
    record BLOB NOT NULL, expires INTEGER NOT NULL
);

-- Members' devices: each was in from the epoch came to the one that began without it (went; NULL while it is in). since: when it
-- came; NULL if that was before this was noted, or before this device came.
CREATE TABLE IF NOT EXISTS membership (
    conversation BLOB NOT NULL, device BLOB NOT NULL, came INTEGER NOT NULL, went INTEGER, since INTEGER,
    PRIMARY KEY (conversation, device, came)
) WITHOUT ROWID;

-- Whose these devices are: a person may have had others before.
CREATE TABLE IF NOT EXISTS device_of (
    person BLOB NOT NULL, device BLOB NOT NULL, PRIMARY KEY (person, device)
) WITHOUT ROWID;

-- People to whom this device has written; and pairs of people with similar names whom its holder has told apart: who was
-- meant, then who was not.
CREATE TABLE IF NOT EXISTS written_to (person BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told_apart (
    one BLOB NOT NULL, other BLOB NOT NULL, PRIMARY KEY (one, other)
) WITHOUT ROWID;

-- Why a text was sent although it holds what its conversation's class forbids. patterns: their names, with spaces between. Goes with
-- the message.
CREATE TABLE IF NOT EXISTS overridden (
    message INTEGER PRIMARY KEY REFERENCES message (local) ON DELETE CASCADE, patterns TEXT NOT NULL, reason TEXT NOT NULL
);

-- The last review of each conversation's members; person, name, role, trust: who made it (person NULL: none was made, and it counts from
-- at). seen, admins: the members' certificates and the administrators' keys at the moment seen_at. Goes with the group's state.
CREATE TABLE IF NOT EXISTS review (
    conversation BLOB PRIMARY KEY, at INTEGER NOT NULL, every INTEGER NOT NULL, grace INTEGER NOT NULL, person BLOB,
    name TEXT, role TEXT, trust TEXT, seen_at INTEGER NOT NULL, seen BLOB NOT NULL,
    admins BLOB NOT NULL
) WITHOUT ROWID;

-- What this device's trust takes for what identifies a patient.
CREATE TABLE IF NOT EXISTS pattern (place INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, regex TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS contact (
    fingerprint BLOB PRIMARY KEY, trust TEXT NOT NULL, name TEXT NOT NULL, role TEXT, entry BLOB NOT NULL,
    updated INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cursor (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
";
