"""Tries to open what a copied device holds, for tests/tests/wipe.rs: knows Lanyard's formats from its documents alone, and shares no code
with it.

Reads one JSON object from standard input:

- "profile": a copy of a device's profile directory
- "address": host:port of its node
- "pin": the PIN of its holder
- "key": a key to try, in hexadecimal digits; absent if all that can be found or derived are to be tried
- "text": what was written in a message

Writes {"node": HOW, "tried": COUNT, "opens": KEY or null, "reads": BOOL}: how the node answers to a try at the PIN with the copied key
("refused" if TLS ends there, else the HTTP status), and whether a key opens the vault and shows the text.

The vault is a SQLCipher 4 database with a raw key (https://www.zetetic.net/sqlcipher/design/): pages of 4096 bytes, AES-256-CBC, of which
the last 80 bytes are the initialisation vector and an HMAC-SHA-512 over ciphertext, vector and page number; the first 16 bytes of the file
are the salt from which, with the key, the HMAC's key is derived.
"""

import hashlib
import hmac
import http.client
import json
import pathlib
import re
import ssl
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PAGE, RESERVED, VECTOR = 4096, 80, 16


def pages(vault):
    for number in range(len(vault) // PAGE):
        page = vault[number * PAGE : (number + 1) * PAGE]
        yield number + 1, page[VECTOR:] if number == 0 else page


def fits(vault, key):
    """Whether the MAC of the first page is right under this key."""
    salt = bytes(byte ^ 0x3A for byte in vault[:VECTOR])
    mac_key = hashlib.pbkdf2_hmac("sha512", key, salt, 2, 32)
    number, page = next(pages(vault))
    signed, mac = page[:-64], page[-64:]
    return hmac.digest(mac_key, signed + number.to_bytes(4, "little"), "sha512") == mac


def read(vault, key):
    """The plaintext of all pages."""
    text = b""
    for _, page in pages(vault):
        vector = page[-RESERVED : VECTOR - RESERVED]
        decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
        text += decryptor.update(page[:-RESERVED]) + decryptor.finalize()
    return text


def derived(pin, salt):
    """Keys that a program might make of a PIN alone."""
    pin = pin.encode()
    yield hashlib.sha256(pin).digest()
    yield hashlib.sha512(pin).digest()[:32]
    yield hashlib.sha256(salt + pin).digest()
    # What SQLCipher itself makes of a passphrase.
    yield hashlib.pbkdf2_hmac("sha512", pin, salt, 256_000, 32)
    yield hashlib.pbkdf2_hmac("sha256", pin, salt, 600_000, 32)
    yield hashlib.scrypt(pin, salt=salt, n=2**14, r=8, p=1, dklen=32)


def found(profile):
    """Every 32 bytes that stand in a file, as bytes or as hexadecimal digits."""
    for path in sorted(profile.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for at in range(len(content) - 31):
                yield content[at : at + 32]
            for digits in re.findall(rb"(?=([0-9A-Fa-f]{64}))", content):
                yield bytes.fromhex(digits.decode())


def ask(profile, address):
    """Begins to try a PIN, as the device: mutual TLS with its key, and the first message of the exchange (CBOR, {0: bytes})."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # A thief does not care who the node is.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(profile / "chain.pem", profile / "device.key")
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    try:
        body = b"\xa1\x00\x58\x20" + bytes(32)
        connection.request("POST", "/v1/pin/proof", body, {"Content-Type": "application/cbor"})
        return str(connection.getresponse().status)
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return "refused"
    finally:
        connection.close()


def main():
    asked = json.load(sys.stdin)
    profile = pathlib.Path(asked["profile"])
    vault = (profile / "vault.db").read_bytes()
    if "key" in asked:
        keys = [bytes.fromhex(asked["key"])]
    else:
        keys = [*derived(asked["pin"], vault[:VECTOR]), *set(found(profile))]
    opens = next((key for key in keys if fits(vault, key)), None)
    reads = opens is not None and asked["text"].encode() in read(vault, opens)
    node = ask(profile, asked["address"])
    print(json.dumps({"node": node, "tried": len(keys), "opens": opens and opens.hex(), "reads": reads}))


main()
