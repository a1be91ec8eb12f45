"""tus 1.0 as a client meets it: what is offered, every refusal, and nothing lost or mixed up on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.config import Settings
from fieldsvc.queue import ring
from fieldsvc.sync import uploads
from tests.evidence import OCTETS, SPEAK, UPLOADS, begin, checksum, create, entry, metadata, offset, send, upload
from tests.field import Field, Phone, done, problem


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, attachment_bytes=3 * uploads.PART)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


@pytest.fixture
def phone(field: Field) -> Phone:
    return field.phone()


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.data_dir / "evidence"


def parts(folder: Path, where: str) -> list[str]:
    return sorted(path.name for path in (folder / "parts" / where.rsplit("/", 1)[1]).glob("*"))


def sweep(field: Field, at: timedelta, ttl: timedelta = timedelta(days=7)) -> None:
    """What the sweep does with uploads, at a time from now on."""
    now = utc_now() + at
    with field.app.app_context():
        with transaction():
            over = uploads.expire(now, ttl)
        uploads.forget(field.app.extensions["fieldsvc.store"], over, now, ttl)


@pytest.mark.parametrize("path", [UPLOADS, f"{UPLOADS}/0123"])
def test_anybody_may_ask_what_is_spoken(field: Field, settings: Settings, path: str) -> None:
    answer = field.app.test_client().options(path)
    assert answer.status_code == 204 and not answer.data
    assert answer.headers["Tus-Resumable"] == answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,creation-with-upload,checksum,termination,expiration"
    assert answer.headers["Tus-Max-Size"] == str(settings.attachment_bytes)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"


def test_an_upload_in_pieces(phone: Phone, folder: Path) -> None:
    data = bytes(range(256)) * 5000
    where = begin(phone, entry(data))
    assert where.startswith(f"{UPLOADS}/")
    answer = phone.client.head(where, headers=SPEAK)
    assert (answer.headers["Upload-Offset"], answer.headers["Upload-Length"]) == ("0", str(len(data)))
    assert answer.headers["Cache-Control"] == "no-store" and "Upload-Expires" in answer.headers
    assert "filename" in answer.headers["Upload-Metadata"]
    reached = 0
    for piece in (data[:1], data[1:70_000], b"", data[70_000:]):
        answer = send(phone, where, reached, piece)
        reached += len(piece)
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(reached))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert ("Upload-Expires" in answer.headers) == (reached < len(data))
    phone.field.drain()
    assert (folder / "sha256").rglob("*") and not parts(folder, where)
    (stored,) = [path for path in (folder / "sha256").rglob("*") if path.is_file()]
    assert stored.read_bytes() == data
    assert offset(phone, where) == len(data), "whoever lost the last answer learns that all is there"


@pytest.mark.parametrize("sent", [{}, {"Tus-Resumable": "0.2.2"}])
def test_another_version_is_refused_with_ours(phone: Phone, sent: dict[str, str]) -> None:
    named = entry(b"content")
    where = begin(phone, named)
    said = {"Upload-Length": "7", "Upload-Metadata": metadata(id="a", sha256=named["sha256"]), "Upload-Offset": "0"}
    for answer in (
        phone.client.post(UPLOADS, headers=said | sent),
        phone.client.patch(where, data=b"content", content_type=OCTETS, headers=said | sent),
        phone.client.delete(where, headers=sent),
    ):
        assert problem(answer) == (412, "precondition-failed")
        assert answer.headers["Tus-Version"] == answer.headers["Tus-Resumable"] == "1.0.0"
    assert phone.client.head(where, headers=sent).status_code == 412
    assert offset(phone, where) == 0


def test_a_stranger_is_refused_in_the_words_of_tus(field: Field) -> None:
    answer = field.app.test_client().post(UPLOADS, headers=SPEAK)
    assert problem(answer) == (401, "unauthenticated") and answer.headers["Tus-Resumable"] == "1.0.0"


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Upload-Length": ""}, "Upload-Length"),
        ({"Upload-Length": "-1"}, "Upload-Length"),
        ({"Upload-Length": "1e3"}, "Upload-Length"),
        ({"Upload-Length": "9" * 16}, "Upload-Length"),
        ({"Upload-Metadata": ""}, "Upload-Metadata id"),
        ({"Upload-Metadata": metadata(id="a")}, "Upload-Metadata sha256"),
        ({"Upload-Metadata": metadata(sha256="0" * 64)}, "Upload-Metadata id"),
        ({"Upload-Metadata": metadata(id="a", sha256="0" * 63)}, "Upload-Metadata sha256"),
        ({"Upload-Metadata": metadata(id="a", sha256="F" * 64)}, "Upload-Metadata sha256"),
        ({"Upload-Metadata": metadata(id="a b", sha256="0" * 64)}, "Upload-Metadata id"),
        ({"Upload-Metadata": metadata(id="a" * 81, sha256="0" * 64)}, "Upload-Metadata id"),
        ({"Upload-Metadata": metadata(id="a", sha256="0" * 64, filename="a\0b")}, "Upload-Metadata filename"),
        ({"Upload-Metadata": metadata(id="a", sha256="0" * 64, filename="a" * 201)}, "Upload-Metadata filename"),
        ({"Upload-Metadata": "id ???"}, "Upload-Metadata id"),
        ({"Upload-Metadata": "id /w=="}, "Upload-Metadata id"),
        ({"Upload-Metadata": metadata(id="a") + "," + metadata(id="b")}, "Upload-Metadata id"),
        ({"Upload-Checksum": "md5 AAAA"}, "Upload-Checksum"),
        ({"Upload-Checksum": "sha1 ???"}, "Upload-Checksum"),
    ],
)
def test_a_creation_that_cannot_be_read_names_what_is_wrong(phone: Phone, headers: dict[str, str], named: str) -> None:
    answer = create(phone, entry(b"content"), **headers)
    assert problem(answer) == (400, "bad-request")
    assert answer.json["errors"][0]["field"] == named
    assert "Location" not in answer.headers


def test_metadata_at_its_limits_and_keys_nobody_knows_are_taken(phone: Phone) -> None:
    said = metadata(id="a" * 80, sha256="0" * 64, filename="表" * 200, filetype="x" * 100, relativePath="null")
    assert create(phone, entry(b"content"), **{"Upload-Metadata": said + ",is_confidential"}).status_code == 201


def test_the_largest_attachment_is_taken_and_one_byte_more_is_not(phone: Phone, settings: Settings) -> None:
    most = settings.attachment_bytes
    data = b"x" * most
    where = begin(phone, entry(data))
    assert send(phone, where, 0, data).status_code == 204
    answer = create(phone, entry(data), most + 1)
    assert problem(answer) == (413, "too-large") and answer.json["limit"] == most


def test_an_attachment_may_be_larger_than_any_other_request(phone: Phone, settings: Settings) -> None:
    phone.field.app.config["MAX_CONTENT_LENGTH"] = uploads.PART
    data = b"x" * (2 * uploads.PART)
    where = begin(phone, entry(data))
    assert send(phone, where, 0, data).status_code == 204


def test_more_bytes_than_were_promised_are_not_taken(phone: Phone) -> None:
    where = begin(phone, entry(b"content"))
    assert problem(send(phone, where, 0, b"content!")) == (413, "too-large")
    assert offset(phone, where) == 0
    assert send(phone, where, 0, b"content").status_code == 204
    assert problem(send(phone, where, 7, b"!")) == (413, "too-large")
    assert send(phone, where, 7, b"").status_code == 204


@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_piece_from_another_offset_is_refused_and_changes_nothing(phone: Phone, at: int) -> None:
    where = begin(phone, entry(b"content"))
    send(phone, where, 0, b"co")
    answer = send(phone, where, at, b"tent"[: 7 - at])
    assert problem(answer) == (409, "offset-mismatch") and answer.json["offset"] == 2
    assert offset(phone, where) == 2


@pytest.mark.parametrize("given", ["", "x", "-1"])
def test_a_piece_without_an_offset_is_refused(phone: Phone, given: str) -> None:
    where = begin(phone, entry(b"content"))
    answer = send(phone, where, 0, b"content", **{"Upload-Offset": given})
    assert problem(answer) == (400, "bad-request") and answer.json["errors"][0]["field"] == "Upload-Offset"


def test_only_octets_are_bytes_of_a_file(phone: Phone) -> None:
    where = begin(phone, entry(b"content"))
    headers = SPEAK | {"Upload-Offset": "0"}
    answer = phone.client.patch(where, data=b"content", content_type="application/json", headers=headers)
    assert problem(answer) == (415, "unsupported-media-type")
    said = SPEAK | {"Upload-Length": "7", "Upload-Metadata": metadata(id="a", sha256="0" * 64)}
    answer = phone.client.post(UPLOADS, data=b"content", content_type="text/plain", headers=said)
    assert problem(answer) == (415, "unsupported-media-type")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_piece_with_another_digest_is_thrown_away(phone: Phone, folder: Path, algorithm: str) -> None:
    data = bytes(range(256)) * 6000
    where = begin(phone, entry(data))
    answer = send(phone, where, 0, data, **checksum(data[:-1] + b"?", algorithm))
    assert problem(answer) == (460, "checksum-mismatch")
    assert offset(phone, where) == 0 and parts(folder, where) == []
    answer = send(phone, where, 0, data, **checksum(data, algorithm))
    assert (answer.status_code, offset(phone, where)) == (204, len(data))


def test_creation_with_the_first_bytes_or_all(phone: Phone) -> None:
    data = b"content"
    answer = create(phone, entry(data), data=data[:3])
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "3")
    assert send(phone, answer.headers["Location"], 3, data[3:]).status_code == 204
    answer = create(phone, entry(data), data=data, **checksum(data))
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "7")
    assert "Upload-Expires" not in answer.headers
    assert problem(create(phone, entry(data), data=data + b"!")) == (413, "too-large")
    assert problem(create(phone, entry(data), data=data, **checksum(b"other"))) == (460, "checksum-mismatch")


def test_who_can_only_post_says_what_he_means(phone: Phone) -> None:
    where = begin(phone, entry(b"content"))
    headers = SPEAK | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    answer = phone.client.post(where, data=b"cont", content_type=OCTETS, headers=headers)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "4")
    assert problem(phone.client.post(where, headers=SPEAK))[0] == 400
    assert phone.client.post(where, headers=SPEAK | {"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert phone.client.head(where, headers=SPEAK).status_code == 404


def test_an_upload_that_is_given_up_is_gone(phone: Phone, folder: Path) -> None:
    where = begin(phone, entry(b"content"))
    send(phone, where, 0, b"cont")
    assert len(parts(folder, where)) == 1
    assert phone.client.delete(where, headers=SPEAK).status_code == 204
    assert parts(folder, where) == []
    assert phone.client.head(where, headers=SPEAK).status_code == 404
    assert problem(send(phone, where, 4, b"ent")) == (404, "not-found")
    assert problem(phone.client.delete(where, headers=SPEAK)) == (404, "not-found")


def test_what_has_arrived_is_not_taken_back(phone: Phone) -> None:
    where = upload(phone, b"content", entry(b"content"))
    assert problem(phone.client.delete(where, headers=SPEAK)) == (409, "state-not-allowed")
    phone.field.drain()
    assert problem(phone.client.delete(where, headers=SPEAK)) == (409, "state-not-allowed")


def test_uploads_of_others_are_not_there(phone: Phone) -> None:
    where = begin(phone, entry(b"content"))
    other = phone.field.phone(phone.crew_id)
    assert problem(send(other, where, 0, b"content")) == (404, "not-found")
    assert other.client.head(where, headers=SPEAK).status_code == 404
    assert problem(other.client.delete(where, headers=SPEAK)) == (404, "not-found")
    assert problem(send(other, f"{UPLOADS}/{new_id()}", 0, b"content")) == (404, "not-found")
    assert offset(phone, where) == 0


def test_a_revoked_device_sends_nothing_more(phone: Phone) -> None:
    where = begin(phone, entry(b"content"))
    done(phone.field.office.post(f"/v1/devices/{phone.id}/revoke"))
    assert problem(send(phone, where, 0, b"content")) == (403, "device-revoked")


def test_an_unfinished_upload_expires_and_its_parts_go(field: Field, phone: Phone, folder: Path) -> None:
    where, finished = begin(phone, entry(b"content")), upload(phone, b"other", entry(b"other"))
    field.drain()
    send(phone, where, 0, b"cont")
    sweep(field, timedelta(days=6, hours=23))
    assert offset(phone, where) == 4 and len(parts(folder, where)) == 1
    sweep(field, timedelta(days=7, hours=1))
    assert phone.client.head(where, headers=SPEAK).status_code == 410
    assert problem(send(phone, where, 4, b"ent")) == (410, "upload-expired")
    assert problem(phone.client.delete(where, headers=SPEAK)) == (410, "upload-expired")
    assert parts(folder, where) == []
    assert offset(phone, finished) == 5
    sweep(field, timedelta(days=14, hours=1))
    assert phone.client.head(where, headers=SPEAK).status_code == 404
    assert phone.client.head(finished, headers=SPEAK).status_code == 404, "only the file is kept for ever"
    assert len([path for path in (folder / "sha256").rglob("*") if path.is_file()]) == 1


def test_an_upload_is_expired_from_its_time_on_without_any_sweep(phone: Phone, app: Flask) -> None:
    app.extensions["fieldsvc.settings"] = replace(app.extensions["fieldsvc.settings"], upload_ttl=0)
    where = begin(phone, entry(b"content"))
    assert problem(send(phone, where, 0, b"content")) == (410, "upload-expired")


def test_a_new_upload_of_an_attachment_ends_the_one_before(field: Field, phone: Phone, folder: Path) -> None:
    named = entry(b"content")
    first = begin(phone, named)
    send(phone, first, 0, b"cont")
    second = begin(phone, named)
    assert problem(send(phone, first, 4, b"ent")) == (410, "upload-expired")
    sweep(field, timedelta(seconds=1))
    assert parts(folder, first) == []
    assert send(phone, second, 0, b"content").status_code == 204


def test_a_device_has_at_most_fifty_unfinished_uploads(phone: Phone) -> None:
    places = [begin(phone, entry(b"content", id=f"a{n}")) for n in range(uploads.OPEN_AT_ONCE)]
    answer = create(phone, entry(b"content", id="one"))
    assert problem(answer) == (429, "too-many-requests") and int(answer.headers["Retry-After"]) > 0
    assert create(phone, entry(b"content", id="a0")).status_code == 201, "one that takes another's place"
    assert create(phone.field.phone(), entry(b"content")).status_code == 201
    send(phone, places[1], 0, b"content")
    assert create(phone, entry(b"content", id="one")).status_code == 201


def test_of_two_pieces_at_once_one_is_taken(phone: Phone, field: Field, folder: Path) -> None:
    data = bytes(range(256)) * 8000
    where = begin(phone, entry(data))
    answers: list[Any] = []
    lengths = (200_000, 1_500_000, 1_500_000, len(data))
    start = threading.Barrier(len(lengths))

    def push(piece: bytes) -> None:
        line = field.app.test_client()
        line.environ_base.update(phone.client.environ_base)
        start.wait()
        answers.append(send(replace(phone, client=line), where, 0, piece).status_code)

    threads = [threading.Thread(target=push, args=(data[:length],)) for length in lengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {204, 409} and answers.count(409) >= 2
    reached = offset(phone, where)
    assert reached in {200_000, 1_500_000, len(data), uploads.PART}
    if reached < len(data):
        assert send(phone, where, reached, data[reached:]).status_code == 204
    field.drain()
    (stored,) = [path for path in (folder / "sha256").rglob("*") if path.is_file()]
    assert stored.read_bytes() == data


def test_what_nobody_was_rung_for_is_looked_at_after_the_sweep(field: Field, phone: Phone, redis: Any) -> None:
    upload(phone, b"content", entry(b"content"))
    redis.flushall()
    with field.app.app_context(), transaction():
        assert len(uploads.due()) == 1
    with field.app.app_context():
        ring("sweep")
    field.drain()
    with field.app.app_context(), transaction():
        assert uploads.due() == []
