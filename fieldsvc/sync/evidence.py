"""Evidence as the office sees it: the files of a job, and one file with what is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, or_, select

from fieldsvc.base.db import db
from fieldsvc.base.errors import NotFound
from fieldsvc.people.actors import Actor
from fieldsvc.records.models import Customer
from fieldsvc.sync import attachments
from fieldsvc.sync.models import Attachment, EvidenceFile, InboxOperation, Upload
from fieldsvc.work.models import Job

_COMING = ("open", "arrived")


@dataclass(frozen=True)
class Shown:
    """An attachment, its file when it has come and is what the operation names, and how many bytes are on their way."""

    row: Attachment
    file: EvidenceFile | None
    coming: int | None

    @property
    def filename(self) -> str | None:
        """The name its device gave it; not the one of another device that has sent the same bytes first."""
        return self.file.filename if self.file and self.file.device_id == self.row.device_id else None

    def page(self) -> dict[str, Any]:
        """As the office sees it, JSON-ready but for times."""
        row, file = self.row, self.file
        page = {name: getattr(row, name) for name in _OF_ROW}
        page["state"] = "uploading" if row.state != "verified" and self.coming is not None else row.state
        page["received"] = row.size if row.state == "verified" else self.coming or 0
        page |= {name: getattr(file, name, None) for name in _OF_FILE}
        placed = file is not None and file.lon is not None and file.lat is not None
        page["taken_position"] = {"type": "Point", "coordinates": [file.lon, file.lat]} if file and placed else None
        page["filename"] = self.filename
        page["content"], page["thumbnail"] = file is not None, file is not None and file.thumbnail
        return page


_OF_ROW = (
    "id attachment_id op_id job_id device_id crew_id sha256 size type required fault in_effect named_at verified_at rev"
).split()
_OF_FILE = "width height taken_text taken_at".split()


def of_job(job_id: str) -> Select[Attachment]:
    """The attachments of a job, to be ordered and paged by the caller."""
    return select(Attachment).where(Attachment.job_id == job_id)


def shown(rows: Iterable[Attachment]) -> list[Shown]:
    """Attachments with what belongs to them."""
    rows = list(rows)
    digests = sorted({row.sha256 for row in rows})
    files = {
        file.sha256: file for file in db.session.scalars(select(EvidenceFile).where(EvidenceFile.sha256.in_(digests)))
    }
    waiting = [row for row in rows if row.state != "verified"]
    coming: dict[tuple[str, str], int] = {}
    if waiting:
        ids = sorted({row.attachment_id for row in waiting})
        here = or_(*(Upload.device_id == device_id for device_id in sorted({row.device_id for row in waiting})))
        for upload in db.session.execute(
            select(Upload.device_id, Upload.attachment_id, Upload.received)
            .where(here, Upload.attachment_id.in_(ids), Upload.state.in_(_COMING))
            .order_by(Upload.created_at)
        ):
            coming[upload.device_id, upload.attachment_id] = upload.received
    return [
        Shown(row, _its(row, files.get(row.sha256)), coming.get((row.device_id, row.attachment_id))) for row in rows
    ]


def _its(row: Attachment, file: EvidenceFile | None) -> EvidenceFile | None:
    """The file, if the device of the row has sent it: nobody gets to see what others have sent by naming its digest."""
    return file if file and (file.device_id == row.device_id or row.state in attachments.RIGHT) else None


def find(attachment_key: str, actor: Actor) -> Shown:
    """One attachment, of a job or a customer in the actor's territories.

    :raises NotFound: there is none, or it lies outside of them.
    """
    row = db.session.get(Attachment, attachment_key)
    if row is None or not actor.sees(_territory(row)):
        raise NotFound("attachment", attachment_key)
    return shown([row])[0]


def _territory(row: Attachment) -> str | None:
    """Where it belongs now: the job may have moved since."""
    if row.job_id is not None:
        job = db.session.get(Job, row.job_id)
        return job.territory_id if job else None
    op = db.session.get_one(InboxOperation, row.op_id)
    customer = db.session.get(Customer, op.entity_id) if op.entity == "customer" else None
    return customer.location.territory_id if customer else None
