"""Checks the evidence in an exported report of deletions, from docs/reference/{deletions.md,records.cddl} alone, for
tests/tests/deletions.rs.

Reads a report from standard input. Writes one JSON object: {"confirmed": [REPLICAS, ...], "devices": [DEVICES, ...]}, by deletion those that
are proven, or {"broken": WHY}. It follows each signature to a certificate and that to its issuer, and no further.
"""

import hashlib
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def decode(data, at=0):
    """One item of deterministic CBOR, and where the next begins. A tag becomes (tag, value)."""
    major, info = data[at] >> 5, data[at] & 31
    at += 1
    number = info
    if info >= 24:
        size = 1 << (info - 24)
        number, at = int.from_bytes(data[at : at + size], "big"), at + size
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        part = data[at : at + number]
        return (part if major == 2 else part.decode()), at + number
    if major == 4:
        items = []
        for _ in range(number):
            item, at = decode(data, at)
            items.append(item)
        return items, at
    if major == 5:
        pairs = {}
        for _ in range(number):
            key, at = decode(data, at)
            pairs[key], at = decode(data, at)
        return pairs, at
    if major == 6:
        value, at = decode(data, at)
        return (number, value), at
    return {20: False, 21: True, 22: None}[info], at


def encode_bytes(value):
    for info, size in ((24, 1), (25, 2), (26, 4)):
        if len(value) < 24:
            return bytes([0x40 | len(value)]) + value
        if len(value) < 1 << 8 * size:
            return bytes([0x40 | info]) + len(value).to_bytes(size, "big") + value
    raise ValueError(len(value))


def whole(data):
    value, end = decode(data)
    if end != len(data):
        raise ValueError("something follows")
    return value


def check_cose(message, label, chain):
    """The payload of a COSE_Sign1, signed by the first certificate of the chain, which the second has signed; and the header
    beside it."""
    tag, (protected, unprotected, payload, signature) = whole(message)
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in chain)
    leaf.verify_directly_issued_by(issuer)
    headers = whole(protected)
    if tag != 18 or headers != {1: -8, 34: [-16, hashlib.sha256(chain[0]).digest()]}:
        raise ValueError("another frame, or another certificate")
    signed = b"\x84\x6aSignature1" + b"".join(map(encode_bytes, (protected, label, payload)))
    leaf.public_key().verify(signature, signed)
    return whole(payload), unprotected


def root(size, index, leaf, path):
    """RFC 9162, section 2.1.3.2."""
    node, last, value = index, size - 1, hashlib.sha256(b"\0" + leaf).digest()
    for sibling in path:
        if last == 0:
            raise ValueError("the path is too long")
        if node & 1 or node == last:
            value = hashlib.sha256(b"\1" + sibling + value).digest()
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            value = hashlib.sha256(b"\1" + value + sibling).digest()
        node, last = node >> 1, last >> 1
    if last:
        raise ValueError("the path is too short")
    return value


def item_bytes(data, at):
    """The encoding of the item of an attestation that begins here: under key 1 of its map."""
    begin = at + 1
    _, begin = decode(data, begin)
    _, begin = decode(data, begin)
    _, begin = decode(data, begin)
    _, end = decode(data, begin)
    return data[begin:end]


def attestations(data):
    """Each attestation in the evidence, with the encoding of its item: maps of four whose second value is an item."""
    found = []

    def walk(at):
        major, start = data[at] >> 5, at
        value, end = decode(data, at)
        if major == 5 and sorted(value) == [0, 1, 2, 3] and isinstance(value[1], list) and len(value[1]) == 2:
            if isinstance(value[2], bytes) and value[2][:1] == b"\xd2":
                found.append((value, item_bytes(data, start)))
        if major in (4, 5):
            count = data[at] & 31
            at += 1
            if count >= 24:
                size = 1 << (count - 24)
                count, at = int.from_bytes(data[at : at + size], "big"), at + size
            for _ in range(count * (major - 3)):
                at = walk(at)
        return end

    walk(0)
    return found


def check(evidence, network):
    answer = whole(evidence)
    tombstone = answer[0]
    if hashlib.sha256(answer[1]).digest() != tombstone:
        raise ValueError("another tombstone")
    order, _ = check_cose(answer[1], b"lanyard/record/v1", answer[2])
    custodians = set(order[2])
    if {replica[0] for replica in answer[3]} != custodians:
        raise ValueError("another list of replicas")
    certificates = {
        hashlib.sha256(device[0][0]).digest(): device[0]
        for trust in answer[4]
        for device in [d for _, d in trust[1] if d] + trust[4]
    }
    replicas, devices = set(), set()
    for attestation, item in attestations(evidence):
        statement, header = check_cose(attestation[2], b"lanyard/record/v1", attestation[3])
        size, index, path = whole(header[396][-1][0])
        batch = statement[5][1]
        if statement[1] != network or (size, root(size, index, item, path)) != (batch[0], batch[1]):
            raise ValueError("the proof does not lead to the root")
        kind, said = attestation[1]
        if said[0] != tombstone:
            raise ValueError("of another deletion")
        if kind == 0:
            key = x509.load_der_x509_certificate(attestation[3][0]).public_key()
            replicas.add(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
        if kind == 2:
            device = whole(whole(said[1])[1][0])[34][1]
            line, _ = check_cose(said[1], b"lanyard/device-erasure/v1", certificates[device])
            if (line[0], line[1]) != (network, tombstone):
                raise ValueError("a line about something else")
            devices.add(device)
    return len(replicas), len(devices)


def main(text):
    *lines, last = text.splitlines(keepends=True)
    opening, seal = json.loads(lines[0]), json.loads(last)
    network = bytes.fromhex(opening["network"])
    chain = [bytes.fromhex(der) for der in seal["chain"]]
    sealed, _ = check_cose(bytes.fromhex(seal["seal"]), b"lanyard/report/v1", chain)
    if (sealed[0], sealed[1]) != (network, hashlib.sha256("".join(lines).encode()).digest()):
        raise ValueError("the seal is on something else")
    counts = [check(bytes.fromhex(json.loads(line)["evidence"]), network) for line in lines[1:]]
    return {"confirmed": [r for r, _ in counts], "devices": [d for _, d in counts]}


try:
    print(json.dumps(main(sys.stdin.read())))
except Exception as why:  # Whatever is wrong with a file is an answer.
    print(json.dumps({"broken": f"{type(why).__name__}: {why}"}))
