"""Editions of the merge policies: an edit is judged by the one in force when it was made, and the verdict names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from fieldsvc import rules
from fieldsvc.app import create_app
from fieldsvc.config import BadSetting, Settings
from tests.field import Field, Phone, done

EDITION = """
pack = "policies"

[[entry]]
entity = "job"
kind = "*"
field = "contact_phone"
value = "field_wins"
effective_from = 2026-06-01
edition = "June"
source = "a decision of the office"
"""


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "ours.toml").write_text(EDITION, "utf-8")
    return replace(settings, rules_dir=folder)


@pytest.fixture
def field(app: Flask, drain: Callable[[], None]) -> Field:
    return Field(app, drain)


def edited(field: Field, phone: Phone, day: datetime, kind: str = "repair") -> tuple[str, dict[str, Any]]:
    """A job whose telephone the office changed after the phone had seen it and before it changed it too, on ``day``."""
    job = field.job(kind, phone.crew_id, contact_phone="1")
    phone.pull()
    tag = {"If-Match": f'"{field.get(f"/v1/jobs/{job}")["rev"]}"'}
    done(field.office.patch(f"/v1/jobs/{job}", json={"contact_phone": "2"}, headers=tag))
    op = phone.edit(job, {"contact_phone": "1"}, {"contact_phone": "3"}, occurred_at=day.isoformat())
    assert phone.send(op) == ["applied_conflict"]
    return job, phone.told[op["op_id"]]


def test_an_edit_is_judged_by_the_policies_of_the_day_it_was_made(field: Field) -> None:
    before, after = datetime(2026, 5, 31, 12, tzinfo=UTC), datetime(2026, 6, 1, 12, tzinfo=UTC)
    one, two = field.phone(), field.phone()
    for phone, day, policy, phone_number in (
        (one, before, "latest_occurred", "2"),
        (two, after, "field_wins", "3"),
    ):
        job, told = edited(field, phone, day)
        assert [conflict["policy"] for conflict in told["conflicts"]] == [policy]
        assert field.get(f"/v1/jobs/{job}")["contact_phone"] == phone_number
        version = rules.load().policy_version(day.date())
        assert told["policy_version"] == version and version.startswith(("2000-01-01.", "2026-06-01.")[day == after])
        (review,) = field.reviews(job=job)
        assert review["policy_version"] == version
        (entry,) = [e for e in field.history(operation=told["op_id"]) if e["action"] == "operation.applied_conflict"]
        assert entry["after"]["policy_version"] == version
        (row,) = field.get(f"/v1/operations?entity_id={job}")["items"]
        assert row["outcome"] == told


def test_a_new_edition_rewrites_no_old_verdict(field: Field, settings: Settings, tmp_path: Path) -> None:
    phone = field.phone()
    job, told = edited(field, phone, datetime(2026, 6, 2, tzinfo=UTC))
    (review,) = field.reviews(job=job)
    newer = tmp_path / "newer"
    newer.mkdir()
    text = EDITION + EDITION.replace('pack = "policies"', "").replace("field_wins", "server_wins").replace(
        "2026-06-01", "2026-07-01"
    )
    (newer / "ours.toml").write_text(text, "utf-8")
    create_app(replace(settings, rules_dir=newer))  # the next start of the service
    assert rules.load().policy_version(datetime.now(UTC).date()).startswith("2026-07-01.")
    assert field.get(f"/v1/reviews/{review['id']}")["policy_version"] == told["policy_version"]
    assert field.resolve(review["id"], "apply").status_code == 200
    phone.pull()
    last = phone.told[told["op_id"]]
    assert (last["outcome"], last["policy_version"]) == ("resolved", told["policy_version"])
    assert field.get(f"/v1/jobs/{job}")["contact_phone"] == "3"


def test_every_verdict_names_its_edition(field: Field) -> None:
    phone = field.phone()
    job = field.job("repair", phone.crew_id)
    op, bad = phone.op("job.accept", job), phone.op("job.complete", job, {})
    assert phone.send(op, bad) == ["applied", "rejected"]
    assert {phone.told[one["op_id"]]["policy_version"] for one in (op, bad)} == {
        rules.load().policy_version(datetime.fromisoformat(op["occurred_at"]).date())
    }


def test_a_kind_of_job_has_a_policy_of_its_own(field: Field) -> None:
    phone, place = field.phone(), field.place()
    for kind, priority, outcome in (("safety_inspection", 2, "merged"), ("repair", 3, "applied_conflict")):
        job = field.job(kind, phone.crew_id, place, priority=5)
        phone.pull()
        tag = {"If-Match": f'"{field.get(f"/v1/jobs/{job}")["rev"]}"'}
        done(field.office.patch(f"/v1/jobs/{job}", json={"priority": 3}, headers=tag))
        assert phone.send(phone.edit(job, {"priority": 5}, {"priority": 2})) == [outcome]
        assert field.get(f"/v1/jobs/{job}")["priority"] == priority


def test_packs_that_cannot_be_used_stop_the_start(settings: Settings) -> None:
    assert settings.rules_dir is not None
    (settings.rules_dir / "ours.toml").write_text(EDITION.replace("field_wins", "coin_toss"), "utf-8")
    other = settings.rules_dir.rename(settings.rules_dir.with_name("others"))
    with pytest.raises(BadSetting, match=r"FIELDSVC_RULES_DIR: ours.toml entry 1: .*coin_toss"):
        create_app(replace(settings, rules_dir=other))
    create_app(replace(settings, rules_dir=None))
