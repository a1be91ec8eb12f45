"""Set-up of the demo: accounts, territories, customers, jobs, crews and their devices, all through the command line and
the API, as the people of a utility would do it; then one dispatch run."""

from __future__ import annotations

import csv
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fieldsvc.base.clock import format_time, parse_time
from fieldsvc.config import Settings
from fieldsvc.demo.client import Client
from fieldsvc.demo.scenario import Scenario
from fieldsvc.demo.show import Story

ROLES = ("admin", "dispatcher", "auditor")
_PLAN_WITHIN_S = 60.0
_AHEAD = timedelta(minutes=2)
"""The shift begins so much after the start of the demo: the plan is then the same however quick the set-up was."""

_pause = threading.Event()


class SetupError(RuntimeError):
    """The demo cannot be set up; the message says why."""


@dataclass(eq=False)
class Crew:
    """A crew on duty: its id, its code, what it can do, and the new meters in its van."""

    id: str
    code: str
    name: str
    skills: frozenset[str]
    lon: float
    lat: float
    van: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """Everything the shift needs."""

    url: str
    scenario: Scenario
    office: dict[str, Client]
    crews: list[Crew]
    run: dict[str, Any]
    decisions: list[dict[str, Any]]


def starting(scenario: Scenario, now: datetime) -> Scenario:
    """``scenario`` with its shift beginning a moment after ``now``: shifts, windows and what was reported since two
    days before move by the same span, everything older stays."""
    begins = min(parse_time(crew["shift_start"]) for crew in scenario.crews)
    by = (now + _AHEAD).replace(second=0, microsecond=0) + timedelta(minutes=1) - begins

    def moved(text: str) -> str:
        if not text or parse_time(text) < begins - timedelta(days=2):
            return text
        return format_time(parse_time(text) + by)

    def row(values: Mapping[str, Any], *columns: str) -> dict[str, Any]:
        return {**values, **{column: moved(values[column]) for column in columns}}

    return replace(
        scenario,
        crews=[row(crew, "shift_start", "shift_end") for crew in scenario.crews],
        jobs=[row(job, "due_at", "window_start", "window_end", "reported_at") for job in scenario.jobs],
        tickets=[row(ticket, "reported_at") for ticket in scenario.tickets],
    )


def set_up(url: str, settings: Settings, scenario: Scenario, story: Story) -> tuple[str, dict[str, Client], list[Crew]]:
    """Fill an empty service; answers the password of the accounts, the office's clients, and the crews."""
    password = secrets.token_urlsafe(12)
    office = accounts(url, settings, password, story)
    with story.step("Territories", "POST /v1/territories/import") as step:
        report = office["admin"].post("/v1/territories/import", scenario.territories_geojson)
        step.tell(f"{report['created']} territories, {report['repaired']} repaired, {report['refused']} refused")
    for what, text in (("customers", scenario.customers_csv()), ("jobs", scenario.jobs_csv())):
        with story.step(f"{what.capitalize()} from a file", f"fieldsvc import {what} {what}.csv") as step:
            path = settings.data_dir / f"{what}.csv"
            path.write_text(text, encoding="utf-8")
            step.tell(f"{what}: {imported(settings, what, path)}")
    with story.step("New meters into stock", "POST /v1/meters", len(scenario.new_meters)) as step:
        for meter in scenario.new_meters:
            office["admin"].post("/v1/meters", {"asset_no": meter["asset_no"], "digits": meter["digits"]})
            step.advance()
        step.tell(f"{len(scenario.new_meters)} new meters in stock")
    _tickets(office["dispatcher"], scenario, story)
    return password, office, _crews(office["admin"], scenario, story)


def accounts(url: str, settings: Settings, password: str, story: Story) -> dict[str, Client]:
    """The first account by the command line, the others by the API; each with a token of its own."""
    with story.step("Accounts", "fieldsvc users add · POST /v1/users · POST /v1/tokens") as step:
        fieldsvc_command(
            settings,
            ["users", "add", "admin", "--role", "admin", "--all-territories", "--password-stdin"],
            password + "\n",
        )
        office: dict[str, Client] = {}
        for role in ROLES:
            if role != "admin":
                body = {"username": role, "password": password, "role": role, "all_territories": True}
                office["admin"].post("/v1/users", body)
            caller = Client(url)
            shown = caller.post("/v1/tokens", {"username": role, "password": password, "name": "demo", "ttl_days": 1})
            caller.token = shown["token"]
            office[role] = caller
        step.tell("accounts: " + ", ".join(ROLES))
    return office


def fieldsvc_command(settings: Settings, arguments: list[str], text: str = "") -> str:
    """Run the command line with the service's own settings; answers what it printed.

    :raises SetupError: it did not end well.
    """
    done = subprocess.run(
        [sys.executable, "-m", "fieldsvc.cli", *arguments],
        env={**settings.child_env(), "COLUMNS": "200", "NO_COLOR": "1"},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise SetupError(f"`fieldsvc {' '.join(arguments[:3])}` ended with status {done.returncode}:\n{said}")
    return done.stdout


def imported(settings: Settings, what: str, path: Path) -> str:
    """What the import says it did, without its timing."""
    said = fieldsvc_command(settings, ["import", what, str(path)])
    found = re.search(r"(\d+) created.*?(\d+) refused", said)
    if not found:
        raise SetupError(f"`fieldsvc import {what}` said nothing of what it did:\n{said}")
    with path.open(encoding="utf-8", newline="") as file:
        rows = sum(1 for _ in csv.reader(file)) - 1
    return f"{rows} rows, {found.group(1)} created, {found.group(2)} refused"


def _tickets(dispatcher: Client, scenario: Scenario, story: Story) -> None:
    """Calls come in. A fault that has its repair job already gets no second one; many calls on one transformer area are
    one fault; one call is sent twice."""
    places = {(float(job["lon"]), float(job["lat"])) for job in scenario.jobs if job["kind"] == "repair"}
    with story.step("Calls of the night", "POST /v1/tickets", len(scenario.tickets)) as step:
        for ticket in scenario.tickets:
            body = {name: ticket[name] for name in ("external_key", "reporting_kind", "trouble_code", "description")}
            body |= {name: ticket[name] for name in ("customer_number", "address") if ticket[name]}
            body |= {"lon": ticket["lon"], "lat": ticket["lat"], "hazards": ticket["hazards"]}
            body |= {"received_at": ticket["reported_at"]}
            body["create_job"] = (ticket["lon"], ticket["lat"]) not in places
            dispatcher.post("/v1/tickets", body, Idempotency_Key=ticket["external_key"])
            step.advance()
        again = dispatcher.post("/v1/tickets", body, Idempotency_Key=ticket["external_key"])
        taken = sum(1 for _ in dispatcher.items("/v1/tickets"))
        if taken != len(scenario.tickets) or again["external_key"] != ticket["external_key"]:
            raise SetupError(f"{len(scenario.tickets)} tickets were sent, one of them twice, and {taken} are on record")
        faults = sum(1 for _ in dispatcher.items("/v1/incidents", state="open"))
        merged = [one["words"] for one in dispatcher.items("/v1/incident-merges", state="merged")]
        why = f" ({merged[0]})" if merged else ""
        step.tell(f"{taken} tickets about {faults} faults{why}; one was sent twice and taken once")


def _crews(admin: Client, scenario: Scenario, story: Story) -> list[Crew]:
    """The crews with their shift of today."""
    crews = []
    with story.step("Crews on duty", "POST /v1/crews · POST /v1/crews/{id}/shifts", len(scenario.crews)) as step:
        for wanted in scenario.crews:
            names = "code name skills territory_codes base_lon base_lat members".split()
            body = {name: wanted[name] for name in names} | {"name_local": wanted["name_local"] or None}
            made = admin.post("/v1/crews", body)
            shift = {"starts_at": wanted["shift_start"], "ends_at": wanted["shift_end"]}
            admin.post(f"/v1/crews/{made['id']}/shifts", shift)
            skills = frozenset(made["skills"])
            crews.append(Crew(made["id"], made["code"], made["name"], skills, made["base_lon"], made["base_lat"]))
            step.advance()
        step.tell(f"{len(crews)} crews on duty")
    return crews


def dispatch(dispatcher: Client, plan_from: str, step: Callable[[], None]) -> tuple[dict[str, Any], list[Any]]:
    """One dispatch run, waited for; answers the run and its decisions.

    :raises SetupError: it failed, or nobody has done it within a minute.
    """
    run = dispatcher.post("/v1/dispatch-runs", {"plan_from": plan_from})
    deadline = time.monotonic() + _PLAN_WITHIN_S
    while run["state"] != "done":
        if run["state"] == "failed" or time.monotonic() > deadline:
            raise SetupError(f"the dispatch run is {run['state']}: {run['failure'] or 'no worker has finished it'}")
        _pause.wait(0.1)
        step()
        run = dispatcher.get(f"/v1/dispatch-runs/{run['id']}")
    return run, list(dispatcher.items(f"/v1/dispatch-runs/{run['id']}/decisions"))
