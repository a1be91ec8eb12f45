"""The first page, as a browser asks for it."""

from __future__ import annotations

from flask.testing import FlaskClient


def test_the_first_page_says_what_runs_and_allows_no_scripts(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    assert "fieldsvc users add" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "<script" not in page.text


def test_its_style_sheet_is_there_and_nothing_beside_it(client: FlaskClient) -> None:
    with client.get("/static/home.css") as sheet:
        assert sheet.mimetype == "text/css"
    assert client.get("/static/../templates/home.html").status_code == 404
