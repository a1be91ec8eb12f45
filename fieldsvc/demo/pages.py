"""What the demo shows at its end: the tables, one customer's record, one job's history, the reviews, and the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from fieldsvc.base.clock import parse_time
from fieldsvc.demo.cast import Cast
from fieldsvc.demo.client import Client
from fieldsvc.demo.device import Doc
from fieldsvc.demo.report import DONE, Found, Totals
from fieldsvc.demo.show import Story
from fieldsvc.demo.stage import Stage
from fieldsvc.geo.picture import MapCrew, MapJob, MapRoute, svg
from fieldsvc.geo.territories import read_geojson

REGISTERS = ("total", "sharp", "peak", "flat", "valley")
_SHOWN_REVIEWS = 8
_WIDE = 112
"""Columns of a terminal from which on every outcome has a column of its own."""


def dispatched(stage: Stage, story: Story) -> None:
    """Who got how much, and what nobody got, with the reasons."""
    run, names = stage.run, {crew.code: crew.name for crew in stage.crews}
    given = [decision for decision in stage.decisions if decision["crew_id"]]
    jobs = Counter(decision["crew_code"] for decision in given)
    metres: Counter[str] = Counter()
    for decision in given:
        metres[decision["crew_code"]] += decision["distance_m"] or 0
    rows = [
        (code, names[code], ", ".join(sorted(crew.skills)), jobs[code], f"{metres[code] / 1000:.0f}")
        for code, crew in ((crew.code, crew) for crew in stage.crews)
    ]
    total = ("", "", "", run["assigned"], f"{sum(metres.values()) / 1000:.0f}")
    story.table(("crew", "", "skills", "jobs", "km"), rows, right=("jobs", "km"), total=total)
    rest = run["considered"] - run["assigned"]
    story.say(f"{rest} of {run['considered']} jobs got nobody today, each with its reason, such as:")
    examples: dict[str, str] = {}
    for decision in stage.decisions:
        if not decision["crew_id"]:
            examples.setdefault(decision["reason"], f"{decision['job_number']}: {decision['detail']}")
    story.table(
        ("reason", "jobs", "for example"),
        [(reason, count, examples[reason]) for reason, count in run["not_assigned"].items()],
        right=("jobs",),
    )


def by_device(cast: Cast, sums: Totals, story: Story) -> None:
    """What every device sent, and what became of it."""
    statuses = sorted(sums.outcomes, key=lambda status: -sums.outcomes[status])
    wide = story.console.width >= _WIDE
    columns = ("crew", "its device", "sent", "pushes", "again")
    rows: list[tuple[object, ...]] = []
    for device in cast.devices:
        ends = Counter(device.end_of(noted) or "?" for noted in device.notebook)
        again = device.app.answers["duplicate"] or ""
        became = _became(ends, statuses, wide)
        rows.append((device.crew.code, cast.habit(device), len(device.notebook), device.app.pushes, again, *became))
    pushes = sum(device.app.pushes for device in cast.devices)
    total = ("", "", sums.sent, pushes, sums.duplicates, *_became(sums.outcomes, statuses, wide))
    heads = [status.removeprefix("applied_") for status in statuses] if wide else ["became"]
    story.table((*columns, *heads), rows, right=(*columns[2:], *(heads if wide else ())), total=total)


def _became(ends: Counter[str], statuses: Sequence[str], wide: bool) -> list[object]:
    """One cell per status, or on a narrow terminal one for all of them."""
    if wide:
        return [ends[status] or "" for status in statuses]
    return [", ".join(f"{ends[status]} {status}" for status in statuses if ends[status])]


def customer(auditor: Client, found: Found, zone: ZoneInfo, story: Story) -> None:
    """The record of a customer whose meter was changed today, as anybody in the office reads it."""
    job = _changed_job(found)
    if job is None:
        story.say("No meter was changed today.")
        return
    page = auditor.get(f"/v1/customers/{job['customer_id']}")
    territory = page["location"]["territory"]
    place = f"{page['address']} · territory {territory['code']} {territory['name']}" if territory else page["address"]
    name = " ".join(filter(None, (page["name"], page["name_local"])))
    story.say(f"{name} · no. {page['number']} · {page['customer_class']}, importance {page['importance']}", "bold")
    story.say(place, "dim")
    story.table(
        ("usage point", "meter", "installed", "removed", "CT × PT"),
        [
            (
                row["usage_point_number"],
                row["asset_no"],
                _when(row["installed_at"], zone),
                _when(row["removed_at"], zone) or "in service",
                f"{Decimal(row['ct_ratio']):f} × {Decimal(row['pt_ratio']):f}",
            )
            for row in page["installations"]["items"]
        ],
    )
    _readings(page, zone, story)
    _energy(job, story)
    seals = ", ".join(row["number"] for row in page["seals"]["items"] if not row["removed_at"])
    story.say(f"seals: {seals or 'none'} · open defects: {sum(d['state'] == 'open' for d in page['defects']['items'])}")
    for row in page["contacts"]["items"][:3]:
        story.say(f"{_when(row['at'], zone)}  {row['channel']}: {row['subject']}: {row['outcome']}", "dim")
    story.say(f"GET /v1/customers/{job['customer_id']}", "dim")


def _changed_job(found: Found) -> Doc | None:
    """A completed meter change, one with several registers before others, the same one every time."""
    changed = [job for job in found.jobs.values() if job["kind"] == "meter_change" and job["status"] in DONE]
    changed.sort(key=lambda job: (-len(job["result"]["exchange"]["old"]["registers"]), job["external_key"]))
    return changed[0] if changed else None


def _readings(page: Doc, zone: ZoneInfo, story: Story) -> None:
    """One line per meter, time and reason; registers side by side."""
    lines: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for row in page["readings"]["items"]:
        key = (row["read_at"], row["asset_no"], row["reason"], row["state"])
        lines.setdefault(key, {})[row["register"]] = row["value"]
    used = [register for register in REGISTERS if any(register in values for values in lines.values())]
    story.table(
        ("read", "meter", "why", "state", *used),
        [
            (_when(key[0], zone), *key[1:], *(values.get(register, "") for register in used))
            for key, values in sorted(lines.items(), reverse=True)
        ],
        right=used,
    )


def _energy(job: Doc, story: Story) -> None:
    steps = job["result"]["exchange"].get("energy") or {}
    total = steps.get("total")
    if total and total.get("energy_kwh") is not None:
        story.say(f"energy still to bill on the old meter: {total['energy_kwh']} kWh")


def history(auditor: Client, cast: Cast, found: Found, zone: ZoneInfo, story: Story) -> None:
    """The history of a repair by the crew whose clock is wrong: three times side by side."""
    device = cast.wrong_clock
    done = [n.op for n in device.notebook if n.op["kind"] == "job.complete" and device.end_of(n) == "applied"]
    repairs = [op for op in done if found.jobs[op["entity_id"]]["kind"] == "repair"] or done
    job = found.jobs[repairs[0]["entity_id"]]
    story.say(f"{job['number']} · {job['title']} · {job['address'] or ''}", "bold")
    codes = {one.crew.id: one.crew.code for one in cast.devices}
    entries = list(auditor.items(f"/v1/jobs/{job['id']}/history"))
    rows = [
        (
            _clock(entry["times"]["device"], zone),
            _clock(entry["times"]["estimated"], zone),
            _clock(entry["times"]["recorded"], zone),
            _who(entry, codes),
            entry["action"],
            _change(entry, zone),
        )
        for entry in reversed(entries)
    ]
    story.table(("device", "estimated", "recorded", "who", "what", "change"), rows)
    story.say(f"GET /v1/jobs/{job['id']}/history", "dim")


def _who(entry: Doc, codes: dict[str, str]) -> str:
    actor = entry["actor"]
    if actor["kind"] == "device":
        return f"device {codes.get(entry['crew_id'], '?')}"
    return str(actor["name"] or actor["kind"]).removesuffix(" of dispatcher")


def _change(entry: Doc, zone: ZoneInfo) -> str:
    before, after = entry["before"] or {}, entry["after"] or {}
    if "status" in after:
        return f"{before.get('status', 'new')} → {after['status']}".replace("_", " ")
    if entry["entity"] == "commitment_clock":
        return f"{after['kind']}, was due {_when(after['due_at'], zone)}"
    if after.get("notes"):
        return str(after["notes"][-1])
    shown = {name: value for name, value in after.items() if isinstance(value, str | int) and not name.endswith("_id")}
    return ", ".join(f"{name} {value}" for name, value in shown.items())[:60]


def reviews(cast: Cast, found: Found, story: Story) -> None:
    """What waits for a decision, and what was decided."""
    codes = {crew.crew.id: crew.crew.code for crew in cast.devices}
    rows = []
    for row in found.reviews[:_SHOWN_REVIEWS]:
        job = found.jobs.get(row["job_id"] or "")
        state = Text("open", style="yellow") if row["state"] == "open" else Text(f"resolved: {row['resolution']}")
        number = job["number"] if job else ""
        why = ", ".join(filter(None, (row["outcome"], row["reason"]))).replace("_", " ")
        rows.append((state, row["op_kind"], why, number, codes.get(row["crew_id"], ""), _why(row)))
    story.table(("state", "operation", "outcome", "job", "crew", "both sides"), rows)
    if len(found.reviews) > _SHOWN_REVIEWS:
        story.say(f"and {len(found.reviews) - _SHOWN_REVIEWS} more")
    story.say("GET /v1/reviews · POST /v1/reviews/{id}/resolve", "dim")


def _why(review: Doc) -> str:
    if review["conflicts"]:
        conflict = review["conflicts"][0]
        return f"{conflict['field']}: crew {conflict['device']}, office {conflict['record']}"
    explanation: dict[str, Any] = review["explanation"]
    if review["reason"] == "wrong_meter":
        on_site, on_record = explanation.get("on_site") or {}, explanation.get("on_record") or {}
        return f"on site {on_site.get('asset_no')}, on record {on_record.get('asset_no')}"
    return str(explanation.get("text", ""))


def draw(auditor: Client, stage: Stage, found: Found, path: Path) -> None:
    """The map picture: territories, jobs by kind and state, crews and the routes they were given."""
    features = list(auditor.items("/v1/territories", geometry="true"))
    shapes = read_geojson({"type": "FeatureCollection", "features": features}).shapes
    jobs = [
        MapJob(job["lon"], job["lat"], job["kind"], job["status"], f"{job['number']} {job['title']}")
        for job in sorted(found.jobs.values(), key=lambda job: job["external_key"] or job["number"])
        if job["lon"] is not None
    ]
    crews = [MapCrew(crew.code, crew.name, crew.lon, crew.lat) for crew in stage.crews]
    stops: dict[str, list[tuple[int, float, float]]] = {}
    for decision in stage.decisions:
        job = found.jobs[decision["job_id"]]
        if decision["crew_code"] and job["lon"] is not None:
            stop = (decision["planned_order"] or 0, job["lon"], job["lat"])
            stops.setdefault(decision["crew_code"], []).append(stop)
    routes = [
        MapRoute(crew.code, tuple((lon, lat) for _, lon, lat in sorted(stops.get(crew.code, []))))
        for crew in stage.crews
    ]
    title = f"{stage.scenario.title}: after one shift"
    path.write_text(svg(shapes, jobs, crews, routes, title, stage.scenario.attribution), encoding="utf-8")


def _when(text: str | None, zone: ZoneInfo) -> str:
    return parse_time(text).astimezone(zone).strftime("%Y-%m-%d %H:%M") if text else ""


def _clock(text: str | None, zone: ZoneInfo) -> str:
    return parse_time(text).astimezone(zone).strftime("%H:%M:%S.%f")[:-5] if text else ""
