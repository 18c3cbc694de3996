#!/usr/bin/env python3
"""A device that cannot do TLS, as a reference: seals messages for an edge gateway and checks the answers.

    selvedge-edge device-key add box-1 --config edge.yaml > box-1.json
    sealed_device.py box-1.json 127.0.0.1:8610 '{"stream": "t", "values": {"temperature": 4.5}}'

The file is the device's memory: its id, key and counter. The counter is written before a message is sealed, so that no
counter ever serves twice; a device with little flash writes it in steps (every 1000th) and begins at the next step after a
start. The frame is described in docs/edge.md. Needs the package `cryptography`.
"""

import argparse
import json
import os
import socket
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION, MESSAGE, ANSWER = 1, 0x01, 0x81
HELLO, READINGS, TRANSACTIONS, FOR_OWNER = 0, 1, 2, 3
STATUS = ["taken", "known", "refused", "wait", "replayed"]


def direction_key(key: bytes, info: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=b"selvedge sealed 1", info=info).derive(key))


class Device:
    """What a device remembers, and how it talks."""

    def __init__(self, path: str):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.state = json.load(file)
        self.boot = os.urandom(4)

    def save(self) -> None:
        temporary = self.path + ".new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def seal(self, kind: int, content: bytes) -> bytes:
        """A frame under the next counter. Keep it until it is answered: only this frame may be sent again."""
        self.state["counter"] = self.state.get("counter", 0) + 1
        self.save()
        head = bytes([VERSION, MESSAGE]) + bytes.fromhex(self.state["keyId"])
        nonce = self.boot + struct.pack(">Q", self.state["counter"])
        name = self.state["device"].encode()
        inside = bytes([len(name)]) + name + bytes([kind]) + content
        sealed = direction_key(bytes.fromhex(self.state["key"]), b"up").encrypt(nonce, inside, head)
        frame = head + nonce + sealed
        return struct.pack(">H", len(frame)) + frame

    def open(self, frame: bytes) -> dict:
        """The gateway's answer. It cannot be forged: a device may forget what it was told is taken."""
        head, nonce, sealed = frame[:10], frame[10:22], frame[22:]
        if head[:2] != bytes([VERSION, ANSWER]):
            raise ValueError("this is no answer")
        inside = direction_key(bytes.fromhex(self.state["key"]), b"down").decrypt(nonce, sealed, head)
        counter, status, wait, highest, time, has_key = struct.unpack(">QBIQQB", inside[:30])
        answer = {"counter": counter, "status": STATUS[status], "wait": wait, "highest": highest, "time": time}
        rest = inside[30:]
        if has_key:
            answer["nextKey"] = {"keyId": rest[:8].hex(), "key": rest[8:40].hex()}
            rest = rest[40:]
        answer["text"] = rest.decode()
        return answer

    def take_key(self, answer: dict) -> None:
        """Goes on with a renewed key, if one was told. The counter goes on too."""
        if "nextKey" in answer:
            self.state.update(answer["nextKey"])
            self.save()


def read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the gateway ended the connection: it does not take this key or this message")
        data += more
    return data


def exchange(connection: socket.socket, device: Device, frame: bytes) -> dict:
    connection.sendall(frame)
    (length,) = struct.unpack(">H", read_exactly(connection, 2))
    answer = device.open(read_exactly(connection, length))
    if answer["counter"] != struct.unpack(">Q", frame[16:24])[0]:
        raise ValueError("this is the answer to another message")
    return answer


def for_owner(owner: str, head: dict, content: bytes) -> bytes:
    """A second layer that only the owner of a P-256 key opens: HPKE (RFC 9180), base mode, DHKEM(P-256, HKDF-SHA256),
    HKDF-SHA256, ChaCha20-Poly1305. `owner` is a PEM file with the public key or a certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with open(owner, "rb") as file:
        pem = file.read()
    certificate = b"BEGIN CERTIFICATE" in pem
    public = x509.load_pem_x509_certificate(pem).public_key() if certificate else load_pem_public_key(pem)
    suite = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    sealed = suite.encrypt(content, public, info=b"selvedge reading 1")
    text = json.dumps(head).encode()
    return struct.pack(">H", len(text)) + text + sealed


def main() -> int:
    parser = argparse.ArgumentParser(description="Sends one sealed message and prints the answer.")
    parser.add_argument("device", help="file with the device's id, key and counter")
    parser.add_argument("gateway", help="host:port")
    parser.add_argument("content", nargs="?", help="a reading or a list of them, as JSON; only a greeting if absent")
    parser.add_argument("--transaction", action="store_true", help="the content is a transaction request")
    parser.add_argument("--owner", help="PEM file with the key that the content is sealed to once more; it may be anything")
    parser.add_argument("--head", default="{}", help="with --owner: the reading around it, as JSON without values")
    arguments = parser.parse_args()
    device = Device(arguments.device)
    if arguments.content is None:
        frame = device.seal(HELLO, b"")
    elif arguments.owner:
        content = for_owner(arguments.owner, json.loads(arguments.head), arguments.content.encode())
        frame = device.seal(FOR_OWNER, content)
    else:
        kind = TRANSACTIONS if arguments.transaction else READINGS
        frame = device.seal(kind, arguments.content.encode())
    host, port = arguments.gateway.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        answer = exchange(connection, device, frame)
    device.take_key(answer)
    if answer["status"] == "replayed":
        # The memory was lost and an old one restored: beyond what the gateway has seen, every counter is new.
        device.state["counter"] = max(device.state["counter"], answer["highest"])
        device.save()
    answer.pop("nextKey", None)
    print(json.dumps(answer))
    return 0 if answer["status"] in ("taken", "known") else 1


if __name__ == "__main__":
    sys.exit(main())
