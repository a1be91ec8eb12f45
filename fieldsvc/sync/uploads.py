"""Uploads: files on their way, as tus 1.0 resources. What arrives is kept part by part, and looked at when it is whole.

Parts are objects of their own, because S3 cannot append and several web processes may take in one upload after the
other. A part counts when the row's ``received`` was moved from its beginning to its end: of two that come at once, one
does. What is then left over lies in the upload's folder and goes with it.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from fieldsvc.base.db import db, reading, transaction
from fieldsvc.base.errors import Conflict, FieldsvcError, NotFound
from fieldsvc.base.store import Store
from fieldsvc.history.record import Source
from fieldsvc.people.models import Device
from fieldsvc.sync import attachments, pictures
from fieldsvc.sync.models import EvidenceFile, Upload, UploadPart

PART = 1024 * 1024
"""Bytes of a part; a cut or a killed process loses less than that. Held in memory."""
OPEN_AT_ONCE = 50
"""Unfinished uploads of a device."""
LOOKS = 5
"""How often a picture is looked at that takes the worker down with it."""
AT_ONCE = 200


class Cut(Exception):
    """The line was cut while bytes came."""


@dataclass(frozen=True)
class Promise:
    """What a device says it will send."""

    attachment_id: str
    sha256: str
    length: int
    filename: str | None = None
    filetype: str | None = None


@dataclass(frozen=True)
class Check:
    """The digest a piece must have: ``algorithm`` is one of :data:`CHECKSUMS`."""

    algorithm: str
    digest: bytes


CHECKSUMS = ("sha1", "sha256")


def create(device_id: str, promise: Promise, now: datetime, ttl: timedelta) -> Upload:
    """Begin an upload; an unfinished one of the same attachment ends with it.

    :raises FieldsvcError: ``too-many-requests`` for a device with :data:`OPEN_AT_ONCE` others.
    """
    attachments.hold_device(device_id)
    mine = (Upload.device_id == device_id) & (Upload.state == "open")
    earlier = update(Upload).where(mine, Upload.attachment_id == promise.attachment_id)
    db.session.execute(earlier.values(state="expired", expires_at=now))
    unfinished = db.session.scalar(select(func.count()).select_from(Upload).where(mine, Upload.expires_at > now)) or 0
    if unfinished >= OPEN_AT_ONCE:
        raise FieldsvcError(
            "too-many-requests",
            f"{unfinished} uploads of this device are unfinished: finish or end one",
            retry_after=60,
            limit=OPEN_AT_ONCE,
        )
    upload = Upload(
        id=secrets.token_hex(16),
        device_id=device_id,
        attachment_id=promise.attachment_id,
        sha256=promise.sha256,
        filename=promise.filename,
        filetype=promise.filetype,
        length=promise.length,
        received=0,
        state="open" if promise.length else "arrived",
        created_at=now,
        expires_at=now + ttl,
    )
    db.session.add(upload)
    db.session.flush()
    return upload


def find(upload_id: str, device_id: str, now: datetime) -> Row[Any]:
    """An upload of this device.

    :raises NotFound: there is none, or it is another device's.
    :raises FieldsvcError: ``upload-expired``.
    """
    row = db.session.execute(select(*Upload.__table__.c).where(Upload.id == upload_id)).first()
    if row is None or row.device_id != device_id:
        raise NotFound("upload", upload_id)
    if row.state == "expired" or (row.state == "open" and row.expires_at <= now):
        raise FieldsvcError("upload-expired", "this upload has expired or was begun anew: create it again")
    return row


def terminate(upload_id: str, device_id: str, now: datetime) -> None:
    """End an unfinished upload.

    :raises Conflict: it has arrived; evidence is not taken back.
    """
    find(upload_id, device_id, now)
    db.session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
    gone = db.session.execute(delete(Upload).where(Upload.id == upload_id, Upload.state == "open"))
    if gone.rowcount != 1:  # type: ignore[attr-defined]
        raise Conflict("the file has arrived, and evidence is not taken back", "state-not-allowed")


def expire(now: datetime, ttl: timedelta) -> list[str]:
    """Expire what was not finished in time; answers at most 200 uploads of which something is to be removed: the parts
    of an expired one, or all that is remembered of one that ended ``ttl`` ago. Call inside a transaction.
    """
    db.session.execute(
        update(Upload)
        .where(Upload.state == "open", Upload.expires_at <= now)
        .values(state="expired")
        .execution_options(synchronize_session=False)
    )
    parts = select(UploadPart.upload_id).where(UploadPart.upload_id == Upload.id).exists()
    over = (Upload.expires_at <= now - ttl) & (Upload.state.not_in(("open", "arrived")))
    query = select(Upload.id).where(or_((Upload.state == "expired") & parts, over)).order_by(Upload.id)
    return list(db.session.scalars(query.limit(AT_ONCE)))


def forget(store: Store, upload_ids: Sequence[str], now: datetime, ttl: timedelta) -> None:
    """Remove what :func:`expire` has answered, the objects first. Manages its own transaction."""
    if not upload_ids:
        return
    for upload_id in upload_ids:
        store.remove_all(folder(upload_id))
    with transaction():
        db.session.execute(delete(UploadPart).where(UploadPart.upload_id.in_(upload_ids)))
        old = (Upload.expires_at <= now - ttl) & Upload.id.in_(upload_ids)
        db.session.execute(delete(Upload).where(old, Upload.state != "open"))


def due() -> list[str]:
    """At most 200 uploads that have arrived and were not looked at: any, so that those that fail keep nobody out."""
    query = select(Upload.id).where(Upload.state == "arrived").order_by(func.random())
    return list(db.session.scalars(query.limit(AT_ONCE)))


def append(
    store: Store, upload_id: str, offset: int, pieces: Iterable[bytes], most: int, check: Check | None = None
) -> int:
    """Take in what comes, from ``offset`` on; answers how far the upload is then. Manages its own transactions.

    Without ``check`` what came before a cut is kept. With it, all of it counts or nothing.

    :param pieces: at most ``most`` bytes are taken; raises :class:`Cut` when the line is cut.
    :raises Conflict: ``offset-mismatch``; somebody else has sent from there meanwhile.
    :raises FieldsvcError: ``too-large``; ``checksum-mismatch``.
    """
    at = offset
    waiting: list[dict[str, Any]] = []
    digest = hashlib.new(check.algorithm, usedforsecurity=False) if check else None
    for part in _parts(pieces, most):
        path = f"{folder(upload_id)}/{at:012}-{secrets.token_hex(6)}"
        store.put(path, part)
        kept: dict[str, Any] = {"upload_id": upload_id, "start": at, "size": len(part), "path": path}
        at += len(part)
        if digest is None:
            _extend(upload_id, at - len(part), [kept])
        else:
            digest.update(part)
            waiting.append(kept)
    if check is not None and digest is not None and digest.digest() != check.digest:
        for one in waiting:
            store.remove(one["path"])
        raise FieldsvcError("checksum-mismatch", f"the piece has another {check.algorithm}: nothing of it was kept")
    if waiting:
        _extend(upload_id, offset, waiting)
    return at


def _parts(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """``pieces`` as parts of :data:`PART` bytes; the last one, also before a cut, as long as it is."""
    buffer, came = bytearray(), 0
    try:
        for piece in pieces:
            came += len(piece)
            if came > most:
                raise FieldsvcError("too-large", "that is more than the upload still lacks", limit=most)
            buffer += piece
            while len(buffer) >= PART:
                yield bytes(buffer[:PART])
                del buffer[:PART]
    except Cut:
        if buffer:
            yield bytes(buffer)
        raise
    if buffer:
        yield bytes(buffer)


def _extend(upload_id: str, start: int, parts: Sequence[dict[str, Any]]) -> None:
    """Move the upload from ``start`` to the end of ``parts``, unless somebody else has moved it."""
    end = start + sum(part["size"] for part in parts)
    with transaction():
        moved = db.session.execute(
            update(Upload)
            .where(Upload.id == upload_id, Upload.received == start, Upload.state == "open", Upload.length >= end)
            .values(received=end, state=case((Upload.length == end, "arrived"), else_="open"))
            .execution_options(synchronize_session=False)
        )
        if moved.rowcount != 1:  # type: ignore[attr-defined]
            raise Conflict("the upload is not at this offset: ask where it is", "offset-mismatch")
        db.session.execute(insert(UploadPart), list(parts))


def folder(upload_id: str) -> str:
    """Where the parts of an upload lie."""
    return f"parts/{upload_id}"


def file_path(sha256: str) -> str:
    """Where a file lies that has come whole."""
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def thumbnail_path(sha256: str) -> str:
    """Where its thumbnail lies, if it is a picture."""
    return f"{file_path(sha256)}.thumbnail.jpg"


def inspect(store: Store, upload_id: str, now: datetime) -> None:
    """Look at an upload that has arrived, keep it if it is what it should be, and tell whoever waits for it.

    Manages its own transactions. Done twice, or by two at once, it comes to the same.
    """
    with reading():
        upload = db.session.execute(select(*Upload.__table__.c).where(Upload.id == upload_id)).first()
        parts = db.session.scalars(
            select(UploadPart.path).where(UploadPart.upload_id == upload_id).order_by(UploadPart.start)
        ).all()
    if upload is None or upload.state != "arrived":
        return
    try:
        _inspect(store, upload, parts, now)
    except FileNotFoundError:
        with reading():
            if db.session.scalar(select(Upload.state).where(Upload.id == upload_id)) == "arrived":
                raise
    store.remove_all(folder(upload_id))


def _inspect(store: Store, upload: Row[Any], parts: Sequence[str], now: datetime) -> None:
    with _whole(store, parts) as (content, sha256, size):
        state = "empty" if size == 0 else "stored" if (sha256, size) == (upload.sha256, upload.length) else "wrong_hash"
        seen = None
        if state == "stored":
            store.put_file(file_path(sha256), content)
            seen = _look(store, upload.id, content, sha256)
        with transaction():
            _conclude(upload.id, state, seen, now)


@contextmanager
def _whole(store: Store, parts: Sequence[str]) -> Iterator[tuple[Path, str, int]]:
    """The parts as one file of this machine, its SHA-256 and its size.

    :raises FileNotFoundError: one is not there. Nothing is judged by that: the store may be the wrong one today.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(prefix="fieldsvc-evidence-") as file:
        for path in parts:
            for piece in store.pieces(path):
                digest.update(piece)
                size += len(piece)
                file.write(piece)
        file.flush()
        yield Path(file.name), digest.hexdigest(), size


def _look(store: Store, upload_id: str, content: Path, sha256: str) -> pictures.Picture | None:
    """What the picture shows, its thumbnail stored."""
    looks = note_look(upload_id)
    with content.open("rb") as file:
        if looks > LOOKS:
            kind = pictures.kind_of(file.read(16))
            return pictures.Picture(kind, fault="cannot be looked at") if kind else None
        seen = pictures.look(file)
    if seen is not None and seen.thumbnail is not None:
        store.put(thumbnail_path(sha256), seen.thumbnail)
    return seen


def note_look(upload_id: str) -> int:
    """Count a look before it is taken, as it may take this process down; answers the how many-th it is."""
    with transaction():
        looks = update(Upload).where(Upload.id == upload_id).values(looks=Upload.looks + 1).returning(Upload.looks)
        return db.session.scalar(looks) or 0


def _conclude(upload_id: str, state: str, seen: pictures.Picture | None, now: datetime) -> None:
    """Write down what an upload has brought. The device is held first, as by a push that names files."""
    device = db.session.scalars(
        select(Device).join(Upload, Upload.device_id == Device.id).where(Upload.id == upload_id)
    ).one_or_none()
    if device is None:
        return
    attachments.hold_device(device.id)
    upload = db.session.scalar(
        select(Upload).where(Upload.id == upload_id).with_for_update().execution_options(populate_existing=True)
    )
    if upload is None or upload.state != "arrived":
        return
    upload.state = state
    file = _file(upload, seen, now) if state == "stored" else None
    db.session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
    source = Source("system", now, id="system", name="fieldsvc")
    attachments.arrived(replace(source, device_id=device.id, crew_id=device.crew_id), upload, file)


def _file(upload: Upload, seen: pictures.Picture | None, now: datetime) -> EvidenceFile:
    """The row of the file, made by whoever brings it first."""
    values = {
        "sha256": upload.sha256,
        "size": upload.length,
        "filename": upload.filename,
        "type": seen.type if seen else None,
        "fault": seen.fault if seen else None,
        "width": seen.width if seen else None,
        "height": seen.height if seen else None,
        "taken_text": seen.taken_text if seen else None,
        "taken_at": seen.taken_at if seen else None,
        "lon": seen.lon if seen else None,
        "lat": seen.lat if seen else None,
        "thumbnail": seen is not None and seen.thumbnail is not None,
        "device_id": upload.device_id,
        "stored_at": now,
    }
    try:
        with db.session.begin_nested():
            db.session.execute(insert(EvidenceFile).values(values))
    except IntegrityError:  # it has come before, or comes from somebody else at this moment
        pass
    return db.session.scalars(select(EvidenceFile).where(EvidenceFile.sha256 == upload.sha256)).one()
