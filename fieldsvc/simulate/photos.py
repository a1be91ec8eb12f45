"""Photos on a phone: taken with an operation, sent by tus in pieces, resumed wherever the line or the power broke."""

from __future__ import annotations

import base64
import hashlib
import io
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from PIL import Image

from fieldsvc.base.clock import new_id
from fieldsvc.simulate.app import App, Broken, Doc
from fieldsvc.simulate.line import Answer

_TAKEN_WITH = ("note.add", "job.complete", "meter.exchange", "inspection.record", "job.arrive")
_HOW_OFTEN = 0.15
_REFUSED = ("rejected", "superseded")
"""Operations whose files nobody waits for."""
_FAILED = ("empty", "wrong_hash", "wrong_size")
_DAMAGED = 0.04
"""How often a file on the phone is not what it was, and has to be sent a second time."""


def taken(app: App, act: Doc, content: Doc, chance: random.Random) -> Doc:
    """The content of an act, now and then with a photo or two; the caller's transaction. ``op_id`` follows."""
    if act["kind"] not in _TAKEN_WITH or act["entity"] != "job" or chance.random() >= _HOW_OFTEN:
        return content
    named = []
    for number in range(chance.choice((1, 1, 2))):
        ident, kind, data = new_id(), "image/jpeg", _picture(chance)
        if chance.random() < 0.2:
            kind, data = "application/pdf", b"%PDF-1.4\n" + chance.randbytes(chance.randrange(100, 40_000))
        digest = hashlib.sha256(data).hexdigest()
        app.db.execute(
            "INSERT INTO photo (id, sha256, type, data, damaged) VALUES (?, ?, ?, ?, ?)",
            (ident, digest, kind, data, chance.random() < _DAMAGED),
        )
        required = number == 0 or chance.random() < 0.5
        named.append({"id": ident, "sha256": digest, "size": len(data), "type": kind, "required": required})
    return content | {"attachments": named}


def belong(app: App, content: Doc, op_id: str) -> None:
    """Note which operation photos were taken with."""
    for named in content.get("attachments", ()):
        app.db.execute("UPDATE photo SET op_id = ? WHERE id = ?", (op_id, named["id"]))


def _picture(chance: random.Random) -> bytes:
    """A real JPEG of 5 to 100 kB."""
    side = chance.choice((60, 120, 240))
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), chance.randbytes(side * side * 3)).save(out, "JPEG", quality=70)
    return out.getvalue()


def unfinished(app: App) -> list[str]:
    """Photos that are not verified, of operations that were not refused."""
    rows = app.db.execute("SELECT photo.id, sent, outcome FROM photo JOIN outbox USING (op_id) WHERE NOT wiped")
    states = _states(app)
    found = []
    for ident, _, outcome in rows:
        refused = outcome is not None and any(f'"outcome":"{end}"' in outcome for end in _REFUSED)
        if states.get(ident) != "verified" and not refused:
            found.append(str(ident))
    return found


def _states(app: App) -> dict[str, str]:
    return {doc["id"]: doc["state"] for doc in app.docs("attachment").values()}


def send(app: App, chance: random.Random, most: int) -> None:
    """Send up to ``most`` photos, each from where it was broken off.

    :raises LineDown, Later, Crash: anywhere; the next call goes on.
    """
    states = _states(app)
    with app.db:  # what came was not what it should be: once more, and right this time; then wait for the next word
        for rev, doc in app.db.execute("SELECT rev, doc FROM copy WHERE entity = 'attachment'").fetchall():
            if (told := orjson.loads(doc))["state"] in _FAILED:
                again = "UPDATE photo SET sent = 0, address = NULL, damaged = 0, told = ? WHERE id = ? AND told < ?"
                app.db.execute(again, (rev, told["id"], rev))
    rows = app.db.execute(
        "SELECT photo.id, photo.sha256, type, data, address, damaged FROM photo JOIN outbox USING (op_id) "
        "WHERE NOT sent AND NOT wiped ORDER BY photo.rowid LIMIT ?",
        (most,),
    ).fetchall()
    for ident, digest, kind, data, address, damaged in rows:
        if states.get(ident) != "verified":
            _send_one(app, chance, {"id": ident, "sha256": digest, "filetype": kind}, data, address, damaged)
        with app.db:
            app.db.execute("UPDATE photo SET sent = 1 WHERE id = ?", (ident,))


def _send_one(
    app: App, chance: random.Random, facts: Mapping[str, str], data: bytes, address: str | None, damaged: bool
) -> None:
    if damaged:
        data = bytes(reversed(data))
    for _ in range(60):
        if address is None:
            address = _create(app, facts, len(data))
            app.here("upload created, address not stored")
            with app.db:
                app.db.execute("UPDATE photo SET address = ? WHERE id = ?", (address, facts["id"]))
        offset = _offset(app, address)
        if offset is None:
            address = None
            continue
        if offset == len(data):
            return
        _append(app, chance, address, offset, data)
        app.here("piece of a photo sent")
    raise Broken(f"photo {facts['id']} is not taken in after 60 tries")


def _create(app: App, facts: Mapping[str, str], length: int) -> str:
    pairs = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in facts.items())
    answer = _tus(app, "POST", "/sync/v1/attachments", {"Upload-Length": str(length), "Upload-Metadata": pairs})
    if answer.status != 201:
        app.refused("POST", "attachments", answer)
    return urlsplit(answer.headers["Location"]).path


def _offset(app: App, address: str) -> int | None:
    """How far an upload is; None when it is not there any more."""
    answer = _tus(app, "HEAD", address, {})
    if answer.status in (404, 410):
        return None
    if answer.status != 200:
        app.refused("HEAD", "attachments", answer)
    return int(answer.headers["Upload-Offset"])


def _append(app: App, chance: random.Random, address: str, offset: int, data: bytes) -> None:
    """Send on; a piece, or all there is, with or without its checksum."""
    piece = data[offset : offset + chance.choice((3_000, 20_000, len(data)))]
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    if chance.random() < 0.5:
        headers["Upload-Checksum"] = "sha256 " + base64.b64encode(hashlib.sha256(piece).digest()).decode()
    answer = _tus(app, "PATCH", address, headers, piece)
    if answer.status not in (204, 404, 409, 410, 460):  # after these, asking for the offset tells what to do
        app.refused("PATCH", "attachments", answer)


def _tus(app: App, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    token: Any = app.get("token")
    return app.raw(method, path, {"Tus-Resumable": "1.0.0", "Authorization": f"Bearer {token}", **headers}, body)
