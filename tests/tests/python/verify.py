"""Verifies COSE messages with pycose, for tests/tests/cose.rs.

Reads one JSON object from standard input: {"messages": [{"bytes": HEX, "external_aad": HEX, "keys": [HEX, ...]}, ...]},
where keys are Ed25519 public keys: one for a COSE_Sign1, one for each signature of a COSE_Sign. Writes a JSON list with
true or false for each message: whether it decodes, and every signature verifies.
"""

import json
import sys

from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message, SignMessage


def verifies(message):
    external_aad = bytes.fromhex(message["external_aad"])
    keys = [OKPKey(crv=Ed25519, x=bytes.fromhex(key)) for key in message["keys"]]
    try:
        decoded = CoseMessage.decode(bytes.fromhex(message["bytes"]))
        if isinstance(decoded, Sign1Message):
            signed = [decoded]
        elif isinstance(decoded, SignMessage):
            signed = decoded.signers
        else:
            return False
        if len(signed) != len(keys):
            return False
        for one, key in zip(signed, keys):
            one.external_aad = external_aad
            one.key = key
            if not one.verify_signature():
                return False
        return True
    except Exception:
        # Whatever it says of an altered message, it does not vouch for it.
        return False


print(json.dumps([verifies(message) for message in json.load(sys.stdin)["messages"]]))
