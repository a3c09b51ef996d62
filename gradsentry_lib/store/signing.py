"""Signatures on attestations: ed25519 in a DSSE envelope (https://github.com/secure-systems-lab/dsse, protocol v1).

The envelope carries the attestation's bytes, so it can be handed on alone. What is signed is the pre-authentication
encoding of type and payload:

    PAE = "DSSEv1" SP len(type) SP type SP len(payload) SP payload
"""

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gradsentry_lib.errors import UnusableFile
from gradsentry_lib.files import read_json, write_json
from gradsentry_lib.settings import OPTIONS, value
from gradsentry_lib.store.records import FileRef, file_ref

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PASSWORD = OPTIONS["key_password"].variable


def make_keys(private: Path, public: Path) -> None:
    """A new key pair in PEM. The private key is readable by its owner alone, and encrypted where
    GRADSENTRY_KEY_PASSWORD is set. Raises BadInput rather than overwriting a key."""
    for path in (private, public):
        if path.exists():
            raise UnusableFile(f"{path} exists: a key is not overwritten")
    key = Ed25519PrivateKey.generate()
    password = _password()
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))
    public.parent.mkdir(parents=True, exist_ok=True)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def sign_file(path: Path, key: Path) -> FileRef:
    """Signs a file's bytes; the envelope lies beside it (`envelope_path`)."""
    private = _read_key(key, private=True)
    assert isinstance(private, Ed25519PrivateKey)
    payload = path.read_bytes()
    signature = private.sign(_encode(PAYLOAD_TYPE, payload))
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    write_json(envelope_path(path), envelope)
    return file_ref(envelope_path(path))


def envelope_path(attestation: Path) -> Path:
    """attestation.json -> attestation.dsse.json"""
    return attestation.with_suffix(".dsse.json")


def open_envelope(path: Path, key: Path) -> bytes:
    """The payload that this key signed. Raises BadInput where it signed none of this."""
    public = _read_public(key)
    try:
        envelope: Any = read_json(path)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(item["sig"], validate=True) for item in envelope["signatures"]]
        signed = _encode(envelope["payloadType"], payload)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise UnusableFile(f"{path} is no DSSE envelope: {error}") from error
    for signature in signatures:
        try:
            public.verify(signature, signed)
            return payload
        except InvalidSignature:
            continue
    raise UnusableFile(f"{path} carries no valid signature by {key}")


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 (hex) of the public key in DER: a hint which key to try, no more."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _encode(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _read_public(path: Path) -> Ed25519PublicKey:
    """A public key, or that of a private one."""
    private = path.is_file() and b"PRIVATE KEY-----" in path.read_bytes()
    key = _read_key(path, private=private)
    return key.public_key() if private else key


def _read_key(path: Path, *, private: bool) -> Any:
    try:
        data = path.read_bytes()
        key = (
            serialization.load_pem_private_key(data, _password())
            if private
            else serialization.load_pem_public_key(data)
        )
    except OSError as error:
        raise UnusableFile(f"the key {path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = f"; its password is taken from {PASSWORD}" if private else ""
        raise UnusableFile(f"{path} holds no usable {'private' if private else 'public'} key in PEM{hint}") from error
    if not isinstance(key, Ed25519PrivateKey if private else Ed25519PublicKey):
        raise UnusableFile(f"{path} holds no ed25519 key: make a pair with `gradsentry attest keygen`")
    return key


def _password() -> bytes | None:
    return (value("key_password") or "").encode() or None
