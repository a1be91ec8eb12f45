"""Settings: read from the environment once, refused with the variable's name, handed to children unchanged."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fieldsvc.config import BadSetting, Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_a_child_gets_exactly_these_settings(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/a.db", redis_url="unix:///tmp/x.sock", secret_key="s")
    for given in (Settings(), settings, replace(settings, log_json=True, data_dir=tmp_path, push_ops=7)):
        assert Settings.from_env(given.child_env()) == given


def test_a_child_without_redis_does_not_inherit_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("FIELDSVC_PUSH_OPS", "9")
    assert "REDIS_URL" not in Settings().child_env()
    assert Settings.from_env(Settings().child_env()).push_ops == Settings.push_ops


def test_every_setting_can_be_set(tmp_path: Path) -> None:
    other: dict[str, Any] = {"database_url": "sqlite:///other.db", "redis_url": "redis://r"}
    other |= {"data_dir": tmp_path, "rules_dir": tmp_path, "evidence_url": "s3://bucket/prefix"}
    other |= {"zone": "Asia/Shanghai", "travel": "osrm:https://u:p@router.example.org/cars"}
    other |= {"map_tiles": "https://tiles.example.org:8443/{z}/{x}/{y}.png?v=1"}
    for setting in fields(Settings):
        value = other.get(setting.name)
        if value is None:
            value = {bool: True, int: 3}.get(type(setting.default), "7 per hour")
        settings = replace(Settings(), **{setting.name: value})
        assert getattr(Settings.from_env(settings.child_env()), setting.name) == value


def test_every_setting_is_explained_to_who_runs_the_service() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    env = Settings(redis_url="redis://r", secret_key="s").child_env()
    names = {"DATABASE_URL", "REDIS_URL"} | {name for name in env if name.startswith("FIELDSVC_")}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"])
def test_every_way_to_write_a_postgresql_address_is_taken(url: str) -> None:
    assert Settings.from_env({"DATABASE_URL": url}).database_url == "postgresql+psycopg://u@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u@h/d"),
        ("FIELDSVC_PUSH_OPS", "many"),
        ("FIELDSVC_PUSH_OPS", "0"),
        ("FIELDSVC_PUSH_OPS", "-1"),
        ("FIELDSVC_SWEEP_INTERVAL", "1.5"),
        ("FIELDSVC_EVIDENCE_URL", "evidence"),
        ("FIELDSVC_EVIDENCE_URL", "file://relative"),
        ("FIELDSVC_EVIDENCE_URL", "s3://"),
        ("FIELDSVC_EVIDENCE_URL", "https://bucket.example.org"),
        ("FIELDSVC_SNAPSHOT_SECONDS", "-1"),
        ("FIELDSVC_DEVICE_RATE", "0 per minute"),
        ("FIELDSVC_WORK_RATE", "a lot"),
        ("FIELDSVC_SWEEP_INTERVAL", "²"),
        ("FIELDSVC_ZONE", "Mars/Olympus"),
        ("FIELDSVC_ZONE", "America"),
        ("FIELDSVC_ZONE", "../../etc/passwd"),
        ("FIELDSVC_TRAVEL", "balloon"),
        ("FIELDSVC_TRAVEL", "roads:"),
        ("FIELDSVC_TRAVEL", "osrm:"),
        ("FIELDSVC_TRAVEL", "osrm:router:5000"),
        ("FIELDSVC_TRAVEL", "osrm:ftp://router"),
        ("FIELDSVC_TRAVEL", "osrm:http://router?key=1"),
        ("FIELDSVC_TRAVEL", "valhalla:http://"),
        ("FIELDSVC_MAP_TILES", "https://tiles.example.org/{z}/{x}.png"),
        ("FIELDSVC_MAP_TILES", "https://tiles.example.org; script-src */{z}/{x}/{y}"),
        ("FIELDSVC_SESSION_TTL", "0"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        Settings.from_env({name: value})


def test_the_secret_key_is_not_shown() -> None:
    assert "hush" not in repr(Settings(secret_key="hush"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://u:hunter2@[::1/d"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:port/d"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@h:port/0"),
        ("REDIS_URL", "redis://:hunter2@[::1/0"),
        ("FIELDSVC_LOGIN_LIMIT", "often"),
        ("FIELDSVC_TRAVEL", "osrm:http://u:hunter2@h:port"),
        ("FIELDSVC_TRAVEL", "valhalla:http://u:hunter2@[::1"),
        ("FIELDSVC_TRAVEL", "osrm:https://h/?key=hunter2"),
    ],
)
def test_an_address_or_limit_that_cannot_be_read_is_refused_without_its_secret(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name) as refused:
        Settings.from_env({name: value})
    assert "hunter2" not in str(refused.value)
    assert refused.value.__context__ is None or refused.value.__suppress_context__, "a traceback would show it"


@pytest.mark.parametrize(
    "travel",
    ["geodesic", "roads:/srv/roads", "osrm:http://127.0.0.1:5000", "valhalla:https://u:p@maps.example.org/car/"],
)
def test_every_source_of_travel_times_is_taken(travel: str) -> None:
    assert Settings.from_env({"FIELDSVC_TRAVEL": travel}).travel == travel
    assert "u:p" not in repr(Settings(travel=travel))


def test_the_local_zone_knows_its_clock() -> None:
    zone = Settings.from_env({"FIELDSVC_ZONE": "America/New_York"}).local_zone
    assert datetime(2026, 7, 1, 12, tzinfo=zone).utcoffset() == timedelta(hours=-4)


def test_a_password_with_a_hash_or_a_slash_is_taken_as_it_is() -> None:
    url = Settings.from_env({"DATABASE_URL": "postgresql://u:p#a/b@h/d"}).database_url
    assert url == "postgresql+psycopg://u:p#a/b@h/d"
