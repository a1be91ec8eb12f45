"""``GET /sync/v1/keys``: the public keys that receipts can be checked with."""

from __future__ import annotations

from typing import Any

from fieldsvc.api import access
from fieldsvc.api.frame import Blueprint
from fieldsvc.api.schemas import Choice, ListOf, Member, Schema, Text, UtcTime
from fieldsvc.base.db import reading
from fieldsvc.sync import receipts

blp = Blueprint("receipts", __name__, url_prefix="/sync/v1", description="Keys of receipts")


class Key(Schema):
    """A public key as RFC 8037 writes it."""

    kty = Choice("OKP", required=True)
    crv = Choice("Ed25519", required=True)
    x = Text(43, required=True, metadata={"description": "The key, base64url."})
    kid = Text(43, required=True, metadata={"description": "Its thumbprint (RFC 7638); receipts name it."})
    alg = Choice("EdDSA", required=True)
    use = Choice("sig", required=True)
    first_used_at = UtcTime(required=True)


class Keys(Schema):
    keys = ListOf(Member(Key), max=10_000, required=True, metadata={"description": "The newest first."})


@blp.get("/keys")
@access.public("whoever has a receipt may check it, without trusting the service's word")
@blp.response(200, Keys)
def keys() -> tuple[dict[str, Any], dict[str, str]]:
    """Every public key receipts were signed with (RFC 7517)

    A key is listed from its first receipt on, and stays when the service's secret is changed.
    """
    with reading():
        return {"keys": receipts.keys()}, {"Cache-Control": "no-cache"}  # a copy would lack the key of the newest
