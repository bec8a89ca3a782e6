"""Tries to recover records from the raw files of a data directory, as someone would who has taken its disk and every key on it.

    recover.py DIRECTORY MARKER [--store-key HEX] [--show-keys]

It reads every file below DIRECTORY as bytes, whatever its name, and knows the formats from docs/internals/storage.md alone: no code
of Lanyard is used, and no database is opened. MARKER is a regular expression for what only records contain. The store key is found
in the directory (64 hexadecimal digits in any file), or given; it opens the store's secrets in any file that looks like STORE. Writes one JSON object:

    recovered     every marker that it could read, sorted
    whole         those of them that stand in a value which it opened whole: the seal's tag is right
    records       the ids of all values that it opened whole, with such a text in them or not, in hexadecimal
    keys          with --show-keys: every key of a value that it found, behind its id, in hexadecimal

How it goes about it:

- Keys: every place where a slot begins, in any file, is opened with every store key; and every run of bytes that could be a frame
  without its slot is tried with every wrapping key that was found.
- Rows: every place where a row says which key it is sealed under. Every key is tried, and where the row's own was not found, whatever
  follows its id elsewhere. A cipher in counter mode needs neither the tag nor the length: what follows a row's head is decrypted as it
  is, and read.
- Parts: where they stand under their name, and wherever bytes of the right length begin, each as every part of every value.
- Row keys, which the tag needs: HMACs of whatever 32 bytes stand in a file and could be a record's id.
- And whatever stands in the open.

Needs the package `cryptography`.
"""

import argparse
import hmac
import itertools
import json
import re
import struct
from collections import defaultdict
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LANYKEY1"
PREFIX_LEN, HEADER_LEN = 20, 80
NONCE_LEN, TAG_LEN, KEY_ID_LEN, KEY_LEN = 12, 16, 8, 32
ENTRY_LEN = KEY_ID_LEN + KEY_LEN
IN_PARTS = 1
ROW_HEAD_LEN, PARTS_ID_LEN, PART_NAME_LEN, PART_LEN = 14, 16, 18, 4096
SEALED_TREE, RECORD_ID_LEN = b"envelopes", 32
# A COSE_Sign1: its tag, and an array of four.
RECORD_START = b"\xd2\x84"
LABEL = b"lanyard/storage/"
# A line of STORE: its name, and nonce and sealed secret in hexadecimal digits.
SECRET_LINE = re.compile(rb"(row-key|master) ([0-9a-f]{120})")
OWNER_LINE = re.compile(rb"owner ([0-9a-f]{64})")
# How far behind a key id a key that was left there may begin, and how much is tried of what has many combinations.
LOOSE_KEY_REACH = 40
COMBINATIONS_MAX = 512
FRAMES_MAX = 256
VALUE_LEN_MAX = (16 << 20) + TAG_LEN


def derive(store_key, name):
    return hmac.digest(store_key, LABEL + b"derive/" + name + b"/v1", "sha256")


def unseal(key, nonce, associated, sealed):
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def key_stream(key, offset, length):
    """What AES-256-GCM with a nonce of zeros adds to the bytes from `offset` (a multiple of 16) on."""
    counter = bytes(NONCE_LEN) + struct.pack(">I", 2 + offset // 16)
    stream = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(bytes(length))
    return int.from_bytes(stream, "big")


def add(stream, number, length):
    """Both as bytes again: what the cipher hid, or would."""
    return (stream ^ number).to_bytes(length, "big")


def varint(value):
    """A length as sled writes it before a key or a value."""
    if value <= 240:
        return bytes([value])
    if value <= 2287:
        return bytes([241 + (value - 240) // 256, (value - 240) % 256])
    if value <= 67823:
        return bytes([249, (value - 2288) // 256, (value - 2288) % 256])
    raise ValueError(f"no row is {value} bytes long")


def length_before(data, at):
    """The lengths that may be said by the bytes that end at `at`."""
    one, two, three = data[at - 1 : at], data[at - 2 : at], data[at - 3 : at]
    if len(one) == 1 and one[0] <= 240:
        yield one[0]
    if len(two) == 2 and 241 <= two[0] <= 248:
        yield 240 + 256 * (two[0] - 241) + two[1]
    if len(three) == 3 and three[0] == 249:
        yield 2288 + 256 * three[1] + three[2]


class Keys:
    """Every key that the files give away."""

    def __init__(self, files, given):
        self.store = self.find_store_keys(files, given)
        # What derived from the store key itself up to format 2, derives from secrets in STORE since.
        self.masters, self.row_key_secrets = set(self.store), {derive(key, b"row-key") for key in self.store}
        self.read_secrets(files)
        self.wrapping = set()
        self.of_values = defaultdict(set)
        self.generations = defaultdict(int)
        for key, data in itertools.product(self.masters, files):
            for found in re.finditer(re.escape(MAGIC), data):
                self.read_slot(derive(key, b"shard-wrap"), data[found.start() :])
        for data in files:
            self.read_loose_frames(data)

    @staticmethod
    def find_store_keys(files, given):
        """Those that a file STORE knows by its check value; and any that is given."""
        checks = {found[1] for data in files for found in re.finditer(rb"key-check ([0-9a-f]{64})", data)}
        digits = re.compile(rb"(?=([0-9a-f]{64}))")
        written = {bytes.fromhex(found[1].decode()) for data in files for found in digits.finditer(data)}
        known = {key for key in written if derive(key, b"key-check").hex().encode() in checks}
        return known | set(given)

    def read_secrets(self, files):
        """Every sealed secret, wherever it stands, with every owner: whichever STORE it was in."""
        lines = {found.groups() for data in files for found in SECRET_LINE.finditer(data)}
        owners = {bytes.fromhex(found[1].decode()) for data in files for found in OWNER_LINE.finditer(data)}
        for key, owner, (name, line) in itertools.product(self.store, owners, lines):
            sealed, label = bytes.fromhex(line.decode()), LABEL + b"seal/store-secret/v1"
            secret = unseal(derive(key, b"store-seal"), sealed[:NONCE_LEN], label + owner + name, sealed[NONCE_LEN:])
            if secret is not None:
                (self.masters if name == b"master" else self.row_key_secrets).add(secret)

    def read_slot(self, wrap, data):
        prefix, sealed = data[:PREFIX_LEN], data[PREFIX_LEN:HEADER_LEN]
        if len(data) < HEADER_LEN:
            return
        label = LABEL + b"seal/shard-header/v1"
        wrapping = unseal(wrap, sealed[:NONCE_LEN], label + prefix, sealed[NONCE_LEN:])
        if wrapping is None:
            return
        self.wrapping.add(wrapping)
        shard, generation = struct.unpack(">IQ", prefix[len(MAGIC) :])
        self.generations[shard] = max(self.generations[shard], generation)
        at = HEADER_LEN
        for index in itertools.count():
            frame = self.frame_at(data, at)
            if frame is None or not self.read_frame(wrapping, shard, generation, index, frame):
                return
            at += 4 + len(frame)

    @staticmethod
    def frame_at(data, at):
        """A nonce and sealed entries, if their length stands here."""
        if at + 4 > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, at)
        frame = data[at + 4 : at + 4 + NONCE_LEN + length]
        fits = len(frame) == NONCE_LEN + length
        return frame if fits and length >= TAG_LEN and (length - TAG_LEN) % ENTRY_LEN == 0 else None

    def read_frame(self, wrapping, shard, generation, index, frame):
        place = MAGIC + struct.pack(">IQQ", shard, generation, index)
        entries = unseal(wrapping, frame[:NONCE_LEN], LABEL + b"seal/shard-frame/v1" + place, frame[NONCE_LEN:])
        for at in range(0, len(entries or b""), ENTRY_LEN):
            key_id, key = entries[at : at + KEY_ID_LEN], entries[at + KEY_ID_LEN : at + ENTRY_LEN]
            self.of_values[shard, key_id].add(key)
        return entries is not None

    def read_loose_frames(self, data):
        """Frames whose slot's header is gone: runs of them up to the end of what is left of a file."""
        past = 0
        for found in re.finditer(rb"(?=\x00[\x00-\x1f])", data):
            at, run = found.start(), []
            if at < past:
                continue
            while (frame := self.frame_at(data, at)) is not None:
                run.append(frame)
                at += 4 + len(frame)
            if run and not data[at:].strip(b"\0") and self.read_run(run):
                past = at

    def read_run(self, run):
        """The first of a run may be any frame of any generation of a shard."""
        for wrapping, (shard, newest) in itertools.product(self.wrapping, tuple(self.generations.items())):
            for generation, first in itertools.product(range(newest + 1), range(FRAMES_MAX)):
                if self.read_frame(wrapping, shard, generation, first, run[0]):
                    for index, frame in enumerate(run[1:], first + 1):
                        self.read_frame(wrapping, shard, generation, index, frame)
                    return True
        return False


class Disk:
    """The files, and what can be found in them without any key."""

    def __init__(self, files):
        self.files = files
        # By shard and key id: in parts or not, what follows, and how long the files say that is. A database writes a row many times.
        self.rows = defaultdict(set)
        self.parts = {}
        head = re.compile(rb"(?=\x01([\x02\x03])(\x00[\x00-\x0f]..)(.{8}))", re.DOTALL)
        for data in files:
            for found in head.finditer(data):
                in_parts, reference = found[1][0] & IN_PARTS, (struct.unpack(">I", found[2])[0], found[3])
                at = found.start() + ROW_HEAD_LEN
                body = data[at : at + (PARTS_ID_LEN + 4 if in_parts else PART_LEN)]
                lengths = (length - ROW_HEAD_LEN for length in length_before(data, found.start()))
                fitting = frozenset(length for length in lengths if TAG_LEN < length <= len(body))
                self.rows[reference].add((in_parts, body, fitting))

    def loose_keys(self, key_id):
        """Whatever could be a key close behind a key id, anywhere."""
        keys = set()
        for data in self.files:
            for found in re.finditer(re.escape(key_id), data):
                for at in range(found.end(), found.end() + LOOSE_KEY_REACH):
                    keys.add(data[at : at + KEY_LEN])
        return {key for key in keys if len(key) == KEY_LEN}

    def row_keys(self, secrets):
        """Row keys, with the id of each, of whatever could be a record's id, if their end stands where a key of a row could."""
        ends = set()
        for data, length in itertools.product(self.files, range(20, 33)):
            for found in re.finditer(re.escape(varint(length)), data):
                ends.add(data[found.end() + length - 16 : found.end() + length])
        # No id holds a run of zeros, and files hold little else.
        runs = (run for data in self.files for run in re.split(rb"\0{4,}", data))
        ids = {run[at : at + RECORD_ID_LEN] for run in runs for at in range(len(run) - RECORD_ID_LEN + 1)}
        row_keys = {}
        for secret, record_id in itertools.product(secrets, ids):
            row_key = hmac.digest(secret, SEALED_TREE + b"\0" + record_id, "sha256")
            if row_key[-16:] in ends:
                row_keys[row_key] = record_id
        return row_keys

    def parts_of(self, length):
        """All bytes that have the length of a part, each as a number, with what stands before them: a name, where they are one."""
        if length not in self.parts:
            said, some = varint(length), defaultdict(set)
            for data in self.files:
                for found in re.finditer(re.escape(said), data):
                    part = data[found.end() : found.end() + length]
                    if len(part) == length:
                        some[part].add(data[max(0, found.start() - PART_NAME_LEN) : found.start()])
            self.parts[length] = [(int.from_bytes(part, "big"), names) for part, names in some.items()]
        return self.parts[length]


class Search:
    """Tries keys on rows, and keeps what they show."""

    def __init__(self, disk, marker, row_keys):
        self.disk, self.marker, self.row_keys = disk, marker, row_keys
        self.read, self.whole, self.records = set(), set(), set()

    def markers(self, text):
        return {found.decode("latin-1") for found in self.marker.findall(text)}

    def try_key(self, key, row, own):
        in_parts, body, lengths = row
        if in_parts:
            parts_id, length = body[:PARTS_ID_LEN], int.from_bytes(body[PARTS_ID_LEN:], "big")
            if TAG_LEN < length <= VALUE_LEN_MAX:
                self.try_parts(key, parts_id, length, own)
            return
        shown = self.markers(add(key_stream(key, 0, len(body)), int.from_bytes(body, "big"), len(body)))
        self.read |= shown
        if shown or own:
            for length in lengths:
                self.try_whole(key, body[:length])

    def try_parts(self, key, parts_id, length, own):
        chosen = []
        for number, first in enumerate(range(0, length, PART_LEN)):
            name, part_len = parts_id + struct.pack(">H", number), min(PART_LEN, length - first)
            stream, known, others = key_stream(key, first, part_len), set(), set()
            for part, names in self.disk.parts_of(part_len):
                text = add(stream, part, part_len)
                shown = self.markers(text)
                self.read |= shown
                if shown or name in names:
                    known.add(part)
                elif first > 0 or text.startswith(RECORD_START):
                    others.add(part)
            chosen.append([part.to_bytes(part_len, "big") for part in known or (others if own else ())])
        for parts in itertools.islice(itertools.product(*chosen), COMBINATIONS_MAX):
            self.try_whole(key, b"".join(parts))

    def try_whole(self, key, ciphertext):
        for row_key, record_id in self.row_keys.items():
            text = unseal(key, bytes(NONCE_LEN), LABEL + b"seal/value/v1" + row_key, ciphertext)
            if text is not None:
                self.records.add(record_id.hex())
                self.whole |= self.markers(text)
                self.read |= self.markers(text)
                return


def main():
    parser = argparse.ArgumentParser(description="Tries to recover records from the raw files of a data directory.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("marker", help="a regular expression for what only records contain")
    parser.add_argument("--store-key", type=bytes.fromhex, action="append", default=[], metavar="HEX")
    parser.add_argument("--show-keys", action="store_true", help="also list the keys of values, each behind its id")
    arguments = parser.parse_args()

    paths = sorted(path for path in arguments.directory.rglob("*") if path.is_file())
    files = [path.read_bytes() for path in paths]
    keys, disk = Keys(files, arguments.store_key), Disk(files)
    search = Search(disk, re.compile(arguments.marker.encode()), disk.row_keys(keys.row_key_secrets))
    for data in files:
        search.read |= search.markers(data)
    every = {key for some in keys.of_values.values() for key in some}
    for reference, rows in disk.rows.items():
        own = keys.of_values.get(reference, set())
        left = set() if own else disk.loose_keys(reference[1])
        for row in rows:
            for key in own:
                search.try_key(key, row, own=True)
            # What only looks like a row has no length that fits.
            for key in (every | left) - own if row[2] else ():
                search.try_key(key, row, own=False)
    answer = {
        "recovered": sorted(search.read),
        "whole": sorted(search.whole),
        "records": sorted(search.records),
    }
    if arguments.show_keys:
        answer["keys"] = sorted((key_id + key).hex() for (_, key_id), some in keys.of_values.items() for key in some)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
