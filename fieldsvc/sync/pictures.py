"""Look at a picture: can it be read, how large is it, what does it say of when and where it was taken; a thumbnail.

Bounded, because anybody's phone may send anything: three formats, a limit of pixels that is read from the header, one
decoding. What a picture says of itself (EXIF) is kept as evidence; no decision follows from it.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageOps

PIXELS = 64_000_000
"""A picture with more is not decoded: it would take a worker's memory."""
EDGE = 480
"""The longer edge of a thumbnail, in pixels."""
_BEGINS = (("image/jpeg", b"\xff\xd8\xff"), ("image/png", b"\x89PNG\r\n\x1a\n"))
_FORMATS = ("JPEG", "PNG", "WEBP")

LOOKED_AT = ("image/jpeg", "image/png", "image/webp")
"""Types that are looked at. Of all others the digest alone is checked."""


@dataclass(frozen=True)
class Picture:
    """What was seen. ``fault``: why it cannot be read. ``taken_text`` is word for word, ``taken_at`` is known when
    it names its offset from UTC; ``lon`` and ``lat`` are WGS 84 degrees. ``thumbnail`` is a JPEG of nothing but pixels.
    """

    type: str
    fault: str | None = None
    width: int | None = None
    height: int | None = None
    taken_text: str | None = None
    taken_at: datetime | None = None
    lon: float | None = None
    lat: float | None = None
    thumbnail: bytes | None = None


def kind_of(head: bytes) -> str | None:
    """The type of a picture that begins with ``head``; None: it is none of those that are looked at."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((name for name, begin in _BEGINS if head.startswith(begin)), None)


def look(file: BinaryIO) -> Picture | None:
    """Look at ``file`` (at its beginning); None: it is no picture, or none that is looked at. Content never makes it
    raise.
    """
    kind = kind_of(file.read(16))
    if kind is None:
        return None
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities; the number of pixels is judged below
            return _seen(file, kind)
    except Exception:  # decoders raise whatever comes to them from bytes that somebody has made up
        return Picture(kind, fault="cannot be read as a picture: it is cut off or damaged")


def _seen(file: BinaryIO, kind: str) -> Picture:
    try:
        image: Image.Image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError:
        return Picture(kind, fault=f"has more than {PIXELS:,} pixels")
    with image:
        width, height = image.size
        if width * height > PIXELS:
            return Picture(kind, fault=f"has {width * height:,} pixels; at most {PIXELS:,} are looked at")
        said = _said(image)
        turned = said.pop("turned")
        image.draft("RGB", (2 * EDGE, 2 * EDGE))  # a JPEG need not be decoded larger than this
        image.load()
        size = (height, width) if turned else (width, height)
        return Picture(kind, None, *size, **said, thumbnail=_thumbnail(image))


def _thumbnail(image: Image.Image) -> bytes | None:
    """A small upright JPEG: only pixels are taken over, nothing the file says beside them. None for rare kinds of
    pixels that have no colour.
    """
    try:
        return _small(image)
    except (ValueError, OSError):
        return None


def _small(image: Image.Image) -> bytes:
    image.thumbnail((EDGE, EDGE))  # before it is turned: a large picture is not held twice for that
    small = ImageOps.exif_transpose(image).convert("RGBA")
    bare = Image.new("RGB", small.size, "white")
    bare.paste(small, mask=small)
    out = io.BytesIO()
    bare.save(out, "JPEG", quality=80)
    return out.getvalue()


def _said(image: Image.Image) -> dict[str, Any]:
    """What the picture says of itself. A damaged member is left out."""
    said: dict[str, Any] = {"taken_text": None, "taken_at": None, "lon": None, "lat": None, "turned": False}
    try:
        exif = image.getexif()
        said["turned"] = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        detail = exif.get_ifd(ExifTags.IFD.Exif)
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
    except Exception:  # as in look()
        return said
    text = _text(detail.get(ExifTags.Base.DateTimeOriginal)) or _text(exif.get(ExifTags.Base.DateTime))
    offset = _text(detail.get(ExifTags.Base.OffsetTimeOriginal)) or _text(detail.get(ExifTags.Base.OffsetTime))
    if text is not None:
        said["taken_text"] = f"{text} {offset}" if offset else text
        said["taken_at"] = _moment(text, offset)
    lat = _degrees(place.get(ExifTags.GPS.GPSLatitude), place.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    lon = _degrees(place.get(ExifTags.GPS.GPSLongitude), place.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
    if lat is not None and lon is not None:
        said["lon"], said["lat"] = lon, lat
    return said


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(char for char in value if char.isprintable()).strip()[:30] or None


def _moment(text: str, offset: str | None) -> datetime | None:
    """EXIF's ``2026:11:21 15:20:05`` with ``+08:00``; None when there is no offset or it is no time."""
    if offset is None:
        return None
    try:
        hours, minutes = offset[1:].split(":")
        east = timedelta(hours=int(hours), minutes=int(minutes)) * {"+": 1, "-": -1}[offset[0]]
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone(east)).astimezone(UTC)
    except (ValueError, KeyError, OverflowError):
        return None


def _degrees(parts: Any, side: Any, sides: str, most: int) -> float | None:
    """Degrees, minutes and seconds with N, S, E or W as signed degrees; None unless they are a place on the earth."""
    try:
        degrees, minutes, seconds = (float(part) for part in parts)
        sign = {sides[0]: 1, sides[1]: -1}[side]
    except (TypeError, ValueError, KeyError, ZeroDivisionError):
        return None
    value = sign * (degrees + minutes / 60 + seconds / 3600)
    return round(value, 7) if math.isfinite(value) and abs(value) <= most else None
