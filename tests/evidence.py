"""Files as crews send them, and the requests of tus by which they travel."""

from __future__ import annotations

import base64
import hashlib
import io
import random
from typing import Any

from PIL import ExifTags, Image

from fieldsvc.base.clock import new_id
from tests.field import Op, Phone, repaired

UPLOADS = "/sync/v1/attachments"
OCTETS = "application/offset+octet-stream"
SPEAK = {"Tus-Resumable": "1.0.0"}


def photo(
    seed: int = 1, size: tuple[int, int] = (900, 600), kind: str = "JPEG", *, exif: bool = True, turned: int = 1
) -> bytes:
    """A picture that compresses badly, with what a telephone writes beside it."""
    dice = random.Random(seed)
    small = Image.frombytes("RGB", (size[0] // 10, size[1] // 10), dice.randbytes(size[0] // 10 * (size[1] // 10) * 3))
    image = small.resize(size)
    said = Image.Exif()
    if exif:
        said[ExifTags.Base.Orientation] = turned
        detail, place = said.get_ifd(ExifTags.IFD.Exif), said.get_ifd(ExifTags.IFD.GPSInfo)
        detail[ExifTags.Base.DateTimeOriginal] = "2026:11:21 15:20:05"
        detail[ExifTags.Base.OffsetTimeOriginal] = "+08:00"
        place[ExifTags.GPS.GPSLatitudeRef], place[ExifTags.GPS.GPSLatitude] = "N", (35.0, 29.0, 24.0)
        place[ExifTags.GPS.GPSLongitudeRef], place[ExifTags.GPS.GPSLongitude] = "E", (111.0, 34.0, 12.0)
    out = io.BytesIO()
    image.save(out, kind, quality=90, exif=said)
    return out.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(data: bytes, **members: Any) -> dict[str, Any]:
    """How an operation names ``data``."""
    found = {"id": new_id(), "sha256": sha256(data), "size": len(data), "type": "image/jpeg", "required": True}
    return found | members


def metadata(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def checksum(data: bytes, algorithm: str = "sha256") -> dict[str, str]:
    digest = hashlib.new(algorithm, data).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


def create(phone: Phone, named: dict[str, Any], length: int | None = None, data: bytes = b"", **headers: str) -> Any:
    """The raw answer to a creation; with ``data``, its first bytes go along."""
    said = {"Upload-Length": str(named["size"] if length is None else length)}
    said["Upload-Metadata"] = metadata(id=named["id"], sha256=named["sha256"], filename="meter 5.jpg")
    more = {"data": data, "content_type": OCTETS} if data else {}
    return phone.client.post(UPLOADS, headers=SPEAK | said | headers, **more)


def begin(phone: Phone, named: dict[str, Any], length: int | None = None, data: bytes = b"") -> str:
    """The address of a new upload."""
    answer = create(phone, named, length, data)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return str(answer.headers["Location"])


def send(phone: Phone, where: str, offset: int, data: bytes, **headers: str) -> Any:
    """The raw answer to a PATCH."""
    said = SPEAK | {"Upload-Offset": str(offset)} | headers
    return phone.client.patch(where, data=data, content_type=OCTETS, headers=said)


def offset(phone: Phone, where: str) -> int:
    answer = phone.client.head(where, headers=SPEAK)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["Upload-Offset"])


def upload(phone: Phone, data: bytes, named: dict[str, Any]) -> str:
    """Send ``data`` whole as what ``named`` names; its address."""
    where = begin(phone, named, len(data))
    if data:
        answer = send(phone, where, 0, data)
        assert answer.status_code == 204, answer.get_data(as_text=True)
    return where


def complete(phone: Phone, job: str, *named: dict[str, Any]) -> Op:
    """A repair's completion with files."""
    return phone.op("job.complete", job, repaired(), attachments=list(named))


def stands(phone: Phone, named: dict[str, Any], state: str) -> bool:
    """Whether the phone, after a pull, holds the file in this state. While its row moves on in the feed, a pull may not
    have it: the next one has.
    """
    phone.pull()
    return any(doc["id"] == named["id"] and doc["state"] == state for doc in phone.docs("attachment"))


def told(phone: Phone, named: dict[str, Any]) -> dict[str, Any]:
    """What the phone's copy says of a file."""
    found = [doc for doc in phone.docs("attachment") if doc["id"] == named["id"]]
    assert len(found) == 1, found
    return found[0]
