"""Files of crews in the console: pictures are looked at, everything else is saved, and none is a page of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask

from tests import factories
from tests.evidence import complete, entry, photo, upload
from tests.field import Field
from tests.visitor import Visitor


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def test_pictures_are_shown_everything_else_is_saved_and_strangers_get_neither(app: Flask, field: Field) -> None:
    territories = factories.make_territories(app)
    phone = field.phone()
    picture, page, drawing, late = photo(), b"<html><script>alert(1)</script>", b"<svg onload='alert(1)'/>", photo(2)
    named = {
        "picture": entry(picture),
        "page": entry(page, type="text/html"),
        "drawing": entry(drawing, type="image/svg+xml"),
        "liar": entry(page + b" ", type="image/jpeg"),
        "late": entry(late),
    }
    job = field.job("repair", phone.crew_id)
    phone.send(complete(phone, job, *named.values()))
    for name, data in {"picture": picture, "page": page, "drawing": drawing, "liar": page + b" "}.items():
        upload(phone, data, named[name])
    field.drain()
    listed = field.get(f"/v1/jobs/{job}/attachments")["items"]
    ids = {one["attachment_id"]: one["id"] for one in listed}
    where = {name: f"/photos/{ids[one['id']]}" for name, one in named.items()}
    visitor = Visitor(app, "auditor", [territories["A"]])

    shown = visitor.get(where["picture"])
    assert (shown.status_code, shown.data, shown.mimetype) == (200, picture, "image/jpeg")
    assert shown.headers["Content-Disposition"].startswith("inline")
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert shown.headers["Content-Length"] == str(len(picture))
    assert shown.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'; sandbox"
    assert shown.headers["Cache-Control"] == "private, no-cache"
    again = visitor.get(where["picture"], If_None_Match=shown.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    small = visitor.get(where["picture"] + "?size=small")
    assert small.mimetype == "image/jpeg" and 0 < len(small.data) < len(picture)
    assert "Content-Length" not in small.headers
    saved = visitor.get(where["picture"] + "?save=1")
    assert saved.data == picture and saved.headers["Content-Disposition"].startswith("attachment")

    for name in ("page", "drawing", "liar"):
        saved = visitor.get(where[name])
        assert (saved.status_code, saved.mimetype) == (200, "application/octet-stream"), name
        assert len(saved.data) > 20, name
        assert saved.headers["Content-Disposition"].startswith("attachment"), name
        assert "sandbox" in saved.headers["Content-Security-Policy"], name
        assert visitor.get(where[name] + "?size=small").status_code == 404, name
    assert visitor.get(where["late"]).status_code == 404

    text = visitor.get(f"/jobs/{job}").text
    assert text.count("data-photo data-caption") == 1
    assert "not yet arrived" in text
    assert "cannot be read" in text
    elsewhere = Visitor(app, "dispatcher", [territories["B"]])
    assert elsewhere.get(where["picture"]).status_code == 404
    visitor.post("/sign-out")
    assert visitor.get(where["picture"]).status_code == 302
