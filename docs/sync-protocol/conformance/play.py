"""Plays the conversations of this folder against a server, and says where it answers otherwise.

    FIELDSVC_TOKEN=… python play.py http://127.0.0.1:8000                 # all of them
    FIELDSVC_TOKEN=… python play.py http://127.0.0.1:8000 reorder reset   # some

The token is one of a supervisor or admin for all territories: each conversation makes crews, jobs and devices of its
own, so it may be played on any server, as often as you like, and leaves them there. Standard library only. How a
conversation is written: README.md beside this file.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).parent
PATIENCE_S = 60
SPANS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
NAME = re.compile(r"\$\{([^{}]+)\}")
TIME = re.compile(r"now(?:([+-])(\d+)([smhd]))?(?:@([+-]\d\d:\d\d))?")


class Differs(AssertionError):
    """The server did not answer as the conversation says."""


class Conversation:
    """One conversation in progress: what has been named so far, and who speaks with which token."""

    def __init__(self, url, token):
        self.url, self.tokens, self.names = url.rstrip("/"), {"office": token}, {}
        self.began = datetime.now(UTC)

    def play(self, script):
        """All of it.

        :raises Differs: naming the step, what was expected, and what came.
        """
        self._given(script.get("given", {}))
        for number, step in enumerate(script["steps"], 1):
            try:
                self._step(step)
            except Differs as error:
                raise Differs(f"step {number} ({step.get('note') or step.get('send')}): {error}") from None

    def _given(self, given):
        for crew in given.get("crews", []):
            code = f"{crew}-{uuid.uuid4().hex[:12]}"
            self.names[crew] = self._office("/v1/crews", {"code": code, "name": crew, "skills": ["repair"]})["id"]
        for phone, crew in given.get("phones", {}).items():
            self._enrol(phone, crew)
        for job, crew in given.get("jobs", {}).items():
            where = {"kind": "repair", "lon": 111.55, "lat": 35.45, "title": job}
            self.names[job] = self._office("/v1/jobs", where)["id"]
            if crew:
                self._office(f"/v1/jobs/{self.names[job]}/assign", {"crew_id": self.names[crew]})

    def _enrol(self, phone, crew):
        code = self._office(f"/v1/crews/{self.names[crew]}/enrolment-codes", {})["code"]
        self.names[f"{phone}.install"] = str(uuid.uuid4())
        body = {"code": code, "install_id": self.names[f"{phone}.install"], "app_version": "3.2.0"}
        status, told, _ = self._exchange("POST", "/sync/v1/enrol", {}, json.dumps(body).encode())
        check(201, status, "status")
        self.tokens[phone], self.names[f"{phone}.device"] = told["token"], told["device_id"]

    def _office(self, path, body):
        status, told, _ = self._exchange("POST", path, {"Authorization": f"Bearer {self.tokens['office']}"}, body)
        if status >= 400:
            raise Differs(f"the office could not POST {path}: {status} {told}")
        return told

    def _step(self, step):
        """Send, and compare; a step with ``until`` asks again for as long as the answer is not the expected one."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._once(step)
            except Differs:
                if not step.get("until") or time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.1)

    def _once(self, step):
        method, path = self.filled(step["send"]).split(" ", 1)
        headers = self.filled(step.get("headers", {}))
        if step["as"] != "nobody":
            headers["Authorization"] = f"Bearer {self.tokens[step['as']]}"
        data = self.filled(step["text"]).encode() if "text" in step else self.filled(step.get("body"))
        status, told, answered = self._exchange(method, path, headers, data)
        check(step.get("status", 200), status, f"status (the server said {json.dumps(told)[:1000]})")
        if "answer" in step:
            check(self.filled(step["answer"]), told, "")
        for name, value in self.filled(step.get("answer_headers", {})).items():
            check(value, answered.get(name), f"header {name}")
        for name, where in step.get("save", {}).items():
            value = answered[where[7:]] if where.startswith("header:") else pointed(told, where)
            (self.tokens if name.startswith("token:") else self.names)[name.removeprefix("token:")] = value

    def _exchange(self, method, path, headers, body):
        """(status, decoded answer or None, headers) of one request."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers} if data is not None else headers
        url = path if path.startswith("http") else self.url + path
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, content, told = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                status, content, told = error.code, error.read(), error.headers
        return status, json.loads(content) if content and "json" in (told["Content-Type"] or "") else None, told

    def filled(self, value):
        """``value`` with every ``${name}`` replaced."""
        if isinstance(value, dict):
            return {self.filled(name): self.filled(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.filled(member) for member in value]
        if not isinstance(value, str):
            return value
        whole = NAME.fullmatch(value)
        if whole:
            return self._named(whole[1])
        filled = NAME.sub(lambda found: str(self._named(found[1])), value)
        return filled if filled == value else self.filled(filled)  # from the inside out

    def _named(self, name):
        """What stands between ``${`` and ``}``: see README.md."""
        if name.startswith("op:"):
            return self.names.setdefault(name, str(uuid.uuid4()))
        if name.startswith("sha256:"):
            return hashlib.sha256(name[7:].encode()).hexdigest()
        if name.startswith("base64:"):
            return base64.b64encode(name[7:].encode()).decode()
        if found := TIME.fullmatch(name):
            sign, number, unit, zone = found.groups()
            at = self.began + (timedelta(**{SPANS[unit]: int(sign + number)}) if number else timedelta(0))
            if zone:
                at = at.astimezone(datetime.strptime(zone, "%z").tzinfo)
            return at.isoformat(timespec="milliseconds")
        return self.names[name]


def check(expected, got, where):
    """Objects must have at least the expected members, lists be as long, ``{"$has": [...]}`` holds these among others
    in this order, ``{"$one_of": [...]}`` is one of these, ``"$any"`` anything but null, ``"$absent"`` not there.

    :raises Differs: naming the place.
    """
    at = where or "/"
    if expected == "$any":
        matches = got is not None
    elif isinstance(expected, dict) and "$has" in expected:
        return _has(expected["$has"], got, where)
    elif isinstance(expected, dict) and "$one_of" in expected:
        matches = got in expected["$one_of"]
    elif isinstance(expected, dict) and isinstance(got, dict):
        for name, member in expected.items():
            if member == "$absent" and name not in got:
                continue
            if name not in got:
                raise Differs(f"{where}/{name}: expected {json.dumps(member)}, but there is none")
            check(member, got[name], f"{where}/{name}")
        return None
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for number, (one, other) in enumerate(zip(expected, got, strict=True)):
            check(one, other, f"{where}/{number}")
        return None
    else:
        matches = expected == got
    if not matches:
        raise Differs(f"{at}: expected {json.dumps(expected)}, got {json.dumps(got)[:2000]}")
    return None


def _has(wanted, got, where):
    rest = list(enumerate(got if isinstance(got, list) else []))
    for one in wanted:
        for place, (_, other) in enumerate(rest):
            try:
                check(one, other, where)
            except Differs:
                continue
            rest = rest[place + 1 :]
            break
        else:
            raise Differs(f"{where or '/'}: expected {json.dumps(one)} (in this order), got {json.dumps(got)[:2000]}")


def pointed(value, pointer):
    """The member at a JSON pointer."""
    for part in pointer.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def scripts(names=()):
    """name -> conversation; all of this folder, or those named."""
    found = {path.stem: path for path in sorted(HERE.glob("*.json"))}
    if unknown := [name for name in names if name not in found]:
        raise SystemExit(f"no such conversation: {', '.join(unknown)}; there are {', '.join(found)}")
    return {name: json.loads(found[name].read_text(encoding="utf-8")) for name in names or found}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="where the server answers, such as http://127.0.0.1:8000")
    parser.add_argument("names", nargs="*", help="which conversations (default: all)")
    wanted = parser.parse_args()
    token = os.environ.get("FIELDSVC_TOKEN")
    if not token:
        parser.error("FIELDSVC_TOKEN must hold the token of a supervisor or admin")
    failed = 0
    for name, script in scripts(wanted.names).items():
        try:
            Conversation(wanted.url, token).play(script)
            print(f"ok      {name}: {script['title']}")
        except Differs as error:
            failed += 1
            print(f"DIFFERS {name}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
