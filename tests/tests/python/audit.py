"""Follows the hashes of an exported audit log, from docs/reference/audit.md alone, for tests/tests/audit.rs.

Reads an export from standard input. Writes one JSON object: {"last": NUMBER, "hash": HEX}, or {"broken": NUMBER}, the row whose hash
does not follow. It does not check signatures.
"""

import datetime
import hashlib
import json
import sys

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
FIELDS = ["at", "event", "code", "detail", "peer_id", "trust", "address", "record"]


def head(major, number):
    """A CBOR head (RFC 8949, section 4.2.1: the shortest form)."""
    if number < 24:
        return bytes([major << 5 | number])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << 8 * size:
            return bytes([major << 5 | info]) + number.to_bytes(size, "big")
    raise ValueError(number)


def encode(value):
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    text = value.encode()
    return head(3, len(text)) + text


def key_of(peer_id):
    """The public key in a peer id: base58 of 6 bytes that say Ed25519, and the key."""
    number = 0
    for digit in peer_id:
        number = number * 58 + BASE58.index(digit)
    return number.to_bytes(38, "big")[6:]


def seconds(at):
    moment = datetime.datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ")
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())


def covered(before, row):
    forms = {"at": seconds, "peer_id": key_of, "record": bytes.fromhex}
    fields = [row.get(name) for name in FIELDS]
    fields = [v if v is None else forms.get(n, str)(v) for n, v in zip(FIELDS, fields)]
    entry = b"".join(head(0, key) + encode(value) for key, value in enumerate(fields))
    return head(4, 3) + encode(before) + encode(row["number"]) + head(5, len(FIELDS)) + entry


def follow(lines):
    opening = json.loads(next(lines))
    number, before = opening["after"], bytes.fromhex(opening["after_hash"])
    for row in map(json.loads, lines):
        if "head" in row:
            continue
        number += 1
        before = hashlib.sha256(b"lanyard/audit/v1" + covered(before, row)).digest()
        if row["number"] != number or row["hash"] != before.hex():
            return {"broken": number}
    return {"last": number, "hash": before.hex()}


print(json.dumps(follow(iter(sys.stdin))))
