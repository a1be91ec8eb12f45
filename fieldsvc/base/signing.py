"""Receipts: statements of the service that anybody can check later, without asking it and without trusting a copy.

A receipt is a compact JWS (RFC 7515) signed with Ed25519 (RFC 8037). The key is derived from the service's secret, so
there is no further secret to keep or to lose. Its name (``kid``) is the thumbprint of the public key (RFC 7638).
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from flask import Flask, current_app

TYPE = "fieldsvc-receipt"
"""``typ`` in the head of a receipt: no other statement signed with the same key can be taken for one."""

_EXTENSION = "fieldsvc.signer"


class BadReceipt(ValueError):
    """A receipt that is not one, or not ours; the message says why."""


class Signer:
    """The key of one secret. ``kept``: its public half is known to be in the database."""

    def __init__(self, secret: str) -> None:
        seed = HKDF(SHA256(), 32, salt=None, info=b"fieldsvc receipts, Ed25519").derive(secret.encode())
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = _text(self._key.public_key().public_bytes_raw())
        self.kid = thumbprint(self.public)
        self.kept = False
        self._head = _text(orjson.dumps({"alg": "EdDSA", "kid": self.kid, "typ": TYPE}))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The receipt that says ``claims``; the same for the same."""
        said = f"{self._head}.{_text(orjson.dumps(claims))}"
        return f"{said}.{_text(self._key.sign(said.encode()))}"


def init_app(app: Flask) -> None:
    """Give ``app`` its key."""
    app.extensions[_EXTENSION] = Signer(app.config["SECRET_KEY"])


def signer() -> Signer:
    """The key of this application."""
    found: Signer = current_app.extensions[_EXTENSION]
    return found


def jwk(public: str) -> dict[str, str]:
    """A public key as RFC 8037 writes it; ``public``: its 32 bytes in base64url."""
    return {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": thumbprint(public), "alg": "EdDSA", "use": "sig"}


def thumbprint(public: str) -> str:
    """The name of a public key (RFC 7638)."""
    return _text(hashlib.sha256(b'{"crv":"Ed25519","kty":"OKP","x":"%b"}' % public.encode()).digest())


def verify(receipt: str, keys: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What ``receipt`` says, if one of ``keys`` (JWKs) has signed it.

    :raises BadReceipt: it is not a receipt, its key is not among them, or it was changed.
    """
    try:
        head, claims, signature = receipt.split(".")
        said = orjson.loads(_bytes(head))
        if said["alg"] != "EdDSA" or said["typ"] != TYPE:
            raise BadReceipt("another kind of statement")
        key = next((key for key in keys if key.get("kid") == said["kid"] and key.get("crv") == "Ed25519"), None)
        if key is None:
            raise BadReceipt(f"signed with the key {said['kid']}, which is not among those given")
        Ed25519PublicKey.from_public_bytes(_bytes(key["x"])).verify(_bytes(signature), f"{head}.{claims}".encode())
        told: dict[str, Any] = orjson.loads(_bytes(claims))
    except InvalidSignature:
        raise BadReceipt("the signature does not belong to it: it was changed") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, BadReceipt):
            raise
        raise BadReceipt("not a receipt") from None
    return told


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
