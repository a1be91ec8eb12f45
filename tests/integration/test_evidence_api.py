"""Evidence as the office meets it: who may see which file, and that no file is ever a page of ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from PIL import Image

from tests import factories
from tests.evidence import complete, create, entry, metadata, photo, send, sha256, upload
from tests.field import Field, Phone, done, problem


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


@pytest.fixture
def territories(app: Flask) -> dict[str, str]:
    return factories.make_territories(app)


def sent(phone: Phone, data: bytes, **members: Any) -> tuple[str, str]:
    """(job, our id) of a file that a completion names and that has come."""
    job, named = phone.field.job("repair", phone.crew_id), entry(data, **members)
    phone.send(complete(phone, job, named))
    upload(phone, data, named)
    phone.field.drain()
    return job, phone.field.get(f"/v1/jobs/{job}/attachments")["items"][0]["id"]


def test_the_content_comes_as_it_was_sent_and_to_be_saved(field: Field) -> None:
    data = photo()
    _, key = sent(field.phone(), data)
    answer = field.office.get(f"/v1/attachments/{key}/content")
    assert answer.status_code == 200 and answer.data == data
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="meter 5.jpg"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("declared", ["text/html", "image/svg+xml", "application/pdf", "image/heic"])
def test_whatever_a_file_claims_to_be_it_is_no_page(field: Field, declared: str) -> None:
    _, key = sent(field.phone(), b"<html><script>alert(1)</script>", type=declared)
    page = field.get(f"/v1/attachments/{key}")
    assert (page["state"], page["thumbnail"]) == ("verified", False), "of what is no picture the digest alone counts"
    answer = field.office.get(f"/v1/attachments/{key}/content")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert problem(field.office.get(f"/v1/attachments/{key}/thumbnail")) == (404, "not-found")


def test_a_thumbnail_is_small_upright_and_says_nothing(field: Field) -> None:
    _, key = sent(field.phone(), photo(size=(1200, 600), turned=6))
    answer = field.office.get(f"/v1/attachments/{key}/thumbnail")
    assert answer.headers["Content-Type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.data)) as image:
        assert image.size == (240, 480)
        assert not image.getexif() and image.info.get("exif") is None and image.info.get("comment") is None


def test_a_transparent_picture_is_shown_on_white(field: Field) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(out, "PNG")
    _, key = sent(field.phone(), out.getvalue(), type="image/png")
    with Image.open(io.BytesIO(field.office.get(f"/v1/attachments/{key}/thumbnail").data)) as image:
        assert image.size == (50, 50) and image.getpixel((25, 25)) == (255, 255, 255)


def test_what_has_not_come_has_no_content(field: Field) -> None:
    phone = field.phone()
    job, named = field.job("repair", phone.crew_id), entry(photo())
    phone.send(complete(phone, job, named))
    (row,) = field.get(f"/v1/jobs/{job}/attachments")["items"]
    assert (row["state"], row["attachment_id"], row["content"]) == ("expected", named["id"], False)
    for part in ("content", "thumbnail"):
        assert problem(field.office.get(f"/v1/attachments/{row['id']}/{part}")) == (404, "not-found")


def test_every_role_reads_evidence_in_its_territories_and_nobody_elsewhere(
    field: Field, territories: dict[str, str]
) -> None:
    job, key = sent(field.phone(), photo())
    paths = [
        f"/v1/jobs/{job}/attachments",
        *(f"/v1/attachments/{key}{part}" for part in ("", "/content", "/thumbnail")),
    ]
    for role in ("dispatcher", "supervisor", "auditor"):
        here = factories.make_staff(field.app, role, [territories["A"]])
        there = factories.make_staff(field.app, role, [territories["B"]])
        for path in paths:
            assert here.get(path).status_code == 200
            assert problem(there.get(path)) == (404, "not-found")
    for path in paths:
        assert problem(field.app.test_client().get(path)) == (401, "unauthenticated")
        assert problem(field.phone().client.get(path)) == (401, "unauthenticated")


def test_evidence_of_a_customer_is_seen_where_the_customer_is(field: Field, territories: dict[str, str]) -> None:
    phone, place = field.phone(), field.place()
    field.job("repair", phone.crew_id, place)
    data = photo()
    named = entry(data)
    edit = phone.op("customer.update", place.customer_id, entity="customer", was={}, set={"phone": "1"})
    assert phone.send(edit | {"attachments": [named]}) == ["applied"]
    upload(phone, data, named)
    field.drain()
    key = next(found["entity_id"] for found in field.history() if found["action"] == "attachment.verified")
    page = field.get(f"/v1/attachments/{key}")
    assert (page["job_id"], page["sha256"], page["state"]) == (None, sha256(data), "verified")
    here, there = (factories.make_staff(field.app, "auditor", [territories[code]]) for code in "AB")
    assert here.get(f"/v1/attachments/{key}").status_code == 200
    assert problem(there.get(f"/v1/attachments/{key}")) == (404, "not-found")


def test_the_list_is_paged(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    phone.send(complete(phone, job, *(entry(b"content", id=f"a{n}", type="text/plain") for n in range(5))))
    seen: list[str] = []
    path = f"/v1/jobs/{job}/attachments?limit=2"
    while path:
        answer = field.office.get(path)
        page = done(answer)
        seen += [item["attachment_id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        path = f"/v1/jobs/{job}/attachments?limit=2&cursor={page['next']}" if page["next"] else ""
    assert sorted(seen) == [f"a{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("name", "plain", "whole"),
    [
        ("../../etc/passwd", ".._.._etc_passwd", None),
        ('a"b.jpg', '"a\\"b.jpg"', None),
        ("a\\b.jpg", "a_b.jpg", None),
        ("表 5.jpg", '" 5.jpg"', "UTF-8''%E8%A1%A8%205.jpg"),
        ("pré\u202egpj.exe", "pregpj.exe", "UTF-8''pr%C3%A9gpj.exe"),
    ],
)
def test_the_name_a_phone_gave_is_only_a_name(field: Field, name: str, plain: str, whole: str | None) -> None:
    phone, data = field.phone(), b"content"
    job, named = field.job("repair", phone.crew_id), entry(data, type="text/plain")
    phone.send(complete(phone, job, named))
    said = metadata(id=named["id"], sha256=named["sha256"], filename=name)
    send(phone, create(phone, named, **{"Upload-Metadata": said}).headers["Location"], 0, data)
    field.drain()
    (row,) = field.get(f"/v1/jobs/{job}/attachments")["items"]
    assert row["filename"] == name
    told = field.office.get(f"/v1/attachments/{row['id']}/content").headers["Content-Disposition"]
    assert told == f"attachment; filename={plain}" + (f"; filename*={whole}" if whole else "")
    assert told.isascii(), "a web server sends no other header"


def test_who_knows_only_the_digest_of_a_file_of_others_is_told_nothing_of_it(field: Field) -> None:
    data = photo()
    sent(field.phone(), data)
    other = field.phone()
    job = field.job("repair", other.crew_id)
    named = [entry(data), entry(data, size=5), entry(data, type="image/png")]
    for one in named:
        (result,) = done(other.post([other.op("note.add", job, {"text": "as seen"}, attachments=[one])]))["results"]
        assert (result["status"], result["missing"]) == ("awaiting_attachment", [one["id"]])
    field.drain()
    other.pull()
    assert [(doc["state"], doc["fault"]) for doc in other.docs("attachment")] == [("expected", None)] * 3
    for row in field.get(f"/v1/jobs/{job}/attachments")["items"]:
        assert (row["state"], row["content"], row["thumbnail"], row["received"]) == ("expected", False, False, 0)
        assert {row[name] for name in "filename width height taken_text taken_at taken_position".split()} == {None}
        assert problem(field.office.get(f"/v1/attachments/{row['id']}/content")) == (404, "not-found")
        assert problem(field.office.get(f"/v1/attachments/{row['id']}/thumbnail")) == (404, "not-found")
    upload(other, b"a guess", {**named[0], "size": 7})
    field.drain()
    guessed = next(row for row in field.get(f"/v1/jobs/{job}/attachments")["items"] if row["fault"])
    assert (guessed["state"], guessed["content"], guessed["width"]) == ("wrong_size", False, None)


def test_who_holds_the_same_file_as_others_sends_it_and_it_keeps_his_own_name(field: Field) -> None:
    data = photo()
    sent(field.phone(), data)
    other = field.phone()
    job, named = field.job("repair", other.crew_id), entry(data)
    other.send(complete(other, job, named))
    said = metadata(id=named["id"], sha256=named["sha256"], filename="mine.jpg")
    send(other, create(other, named, **{"Upload-Metadata": said}).headers["Location"], 0, data)
    field.drain()
    (row,) = field.get(f"/v1/jobs/{job}/attachments")["items"]
    assert (row["state"], row["content"], row["width"], row["filename"]) == ("verified", True, 900, None)
    assert other.push(complete(other, job, entry(data))) == ["accepted"], "who has sent it once need not again"
