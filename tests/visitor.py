"""A person at the console, as a browser behaves: keeps cookies, sends forms with the token of the page."""

from __future__ import annotations

import html
import re
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from fieldsvc.base.clock import new_id, utc_now
from fieldsvc.base.db import transaction
from fieldsvc.people import staff
from fieldsvc.people.actors import SYSTEM

HOST = "https://console.example.org"
PASSWORD = "correct horse battery"
_TOKEN = re.compile(r'<meta name="csrf-token" content="([^"]+)">')


class Visitor:
    """Signed in as a new account with ``role``; ``territory_ids`` None: for all territories."""

    def __init__(
        self, app: Flask, role: str = "dispatcher", territory_ids: list[str] | None = None, language: str = "en"
    ) -> None:
        self.app, self.role = app, role
        self.username = f"{role}-{new_id()[-12:]}"
        self.client = app.test_client()
        self.language = language
        self.token = ""
        with app.app_context(), transaction():
            self.staff_id = staff.create(
                SYSTEM.source(utc_now()), username=self.username, password=PASSWORD, role=role,
                territory_ids=territory_ids or (), all_territories=territory_ids is None,
            ).id  # fmt: skip
        self.sign_in()

    def sign_in(self, password: str = PASSWORD, to: str = "") -> TestResponse:
        """Through the form. The page it leads to, mostly the board, is not opened."""
        path = "/sign-in" + (f"?next={to}" if to else "")
        self.get(path)
        answer = self.post(path, username=self.username, password=password)
        if answer.status_code == 303:
            self.token = ""
        return answer

    def get(self, path: str, **headers: str) -> TestResponse:
        """Open a page. ``headers`` have underscores for hyphens."""
        return self._kept(self.client.get(path, base_url=HOST, headers=self._headers(headers)))

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: Any) -> TestResponse:
        """Send a form; a list is a field given several times. ``csrf_token`` is added unless given: that of the page
        opened last; of the account's page, a small one, when none has been opened since signing in.
        """
        if not self.token and "csrf_token" not in fields:
            self.get("/account")
        fields = {"csrf_token": self.token, **{name: value for name, value in fields.items() if value is not None}}
        return self._kept(self.client.post(path, base_url=HOST, data=fields, headers=self._headers(headers or {})))

    def piece(self, path: str, **headers: str) -> TestResponse:
        """What htmx asks for."""
        return self.get(path, HX_Request="true", **headers)

    def _headers(self, headers: dict[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return {"Accept": "text/html", "Accept-Language": self.language, **given}

    def _kept(self, answer: TestResponse) -> TestResponse:
        if answer.mimetype == "text/html" and (found := _TOKEN.search(answer.text)):
            self.token = html.unescape(found.group(1))
        return answer
