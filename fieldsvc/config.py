"""Settings: the only reader of the process environment.

Everything that differs between a laptop, CI and production is a field here; nothing else in the package looks at
``os.environ`` (an architecture test holds that).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

_LIMIT = re.compile(r"[1-9]\d{0,5} ?(per|/) ?([1-9]\d{0,4} ?)?(second|minute|hour|day)s?", re.ASCII)

_LIMITS = ("login_limit", "device_rate", "work_rate")


class BadSetting(ValueError):
    """A setting that cannot be used; the message names the variable and says what it may be."""


@dataclass(frozen=True)
class Settings:
    """What one process runs with. Durations are seconds, sizes are bytes.

    ``trusted_proxies`` is how many reverse proxies stand in front: that many entries of ``X-Forwarded-*`` are believed.
    ``zone`` is the local time that rules mean by "at night" (IANA name). ``travel`` says where travel times come from:
    ``geodesic``, ``roads:<folder>``, ``osrm:<url>`` or ``valhalla:<url>``. ``map_tiles`` is where browsers get a base
    map from, such as ``https://tiles.example.org/{z}/{x}/{y}.png``, and ``map_credit`` whom it thanks.
    """

    database_url: str = field(default="sqlite:///var/fieldsvc.db", repr=False)
    redis_url: str | None = field(default=None, repr=False)
    secret_key: str = field(default="", repr=False)
    data_dir: Path = Path("var")
    rules_dir: Path | None = None
    evidence_url: str = ""
    log_level: str = "INFO"
    log_json: bool = False
    trusted_proxies: int = 0
    queue_prefix: str = "fieldsvc"
    zone: str = "UTC"
    travel: str = field(default="geodesic", repr=False)
    map_tiles: str = ""
    map_credit: str = ""

    push_ops: int = 200
    push_bytes: int = 1024 * 1024
    op_bytes: int = 64 * 1024
    pull_rows: int = 500
    attachment_bytes: int = 25 * 1024 * 1024
    request_bytes: int = 16 * 1024 * 1024

    api_token_ttl: int = 90 * 86400
    session_ttl: int = 12 * 3600
    enrolment_code_ttl: int = 15 * 60
    upload_ttl: int = 7 * 86400
    feed_horizon: int = 90 * 86400
    position_ttl: int = 7 * 86400
    position_seconds: int = 30
    position_metres: int = 25
    position_fresh: int = 30 * 60
    login_limit: str = "10 per minute"
    device_rate: str = "1200 per minute"
    work_rate: str = "6000 per minute"
    inbox_deep: int = 20_000
    inbox_full: int = 200_000
    snapshot_seconds: int = 20
    reconcile_attempts: int = 5
    sweep_interval: int = 5

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def evidence(self) -> str:
        """Where the content store lies: ``evidence_url``, or a folder of the data directory."""
        return self.evidence_url or f"file://{self.data_dir.resolve()}/evidence"

    @property
    def local_zone(self) -> ZoneInfo:
        """The time zone that rules speak of when they mean hours of the day."""
        return ZoneInfo(self.zone)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read ``DATABASE_URL``, ``REDIS_URL`` and the ``FIELDSVC_*`` variables.

        :raises BadSetting: a number that is not one, or a database nobody here can talk to.
        """
        env = os.environ if env is None else env
        values: dict[str, object] = {}
        if env.get("DATABASE_URL"):
            values["database_url"] = _database_url(env["DATABASE_URL"])
        if env.get("REDIS_URL"):
            values["redis_url"] = _redis_url(env["REDIS_URL"])
        if env.get("FIELDSVC_DATA_DIR"):
            values["data_dir"] = Path(env["FIELDSVC_DATA_DIR"])
            if "database_url" not in values:
                values["database_url"] = f"sqlite:///{Path(env['FIELDSVC_DATA_DIR']).resolve()}/fieldsvc.db"
        if env.get("FIELDSVC_RULES_DIR"):
            values["rules_dir"] = Path(env["FIELDSVC_RULES_DIR"])
        for name in (
            "secret_key",
            "log_level",
            "queue_prefix",
            "evidence_url",
            "zone",
            "travel",
            "map_tiles",
            "map_credit",
            *_LIMITS,
        ):
            if raw := env.get(f"FIELDSVC_{name.upper()}"):
                values[name] = _CHECKS[name](name, raw) if name in _CHECKS else raw
        if "FIELDSVC_LOG_JSON" in env:
            values["log_json"] = env["FIELDSVC_LOG_JSON"].lower() in ("1", "true", "yes")
        for name in (
            "push_ops push_bytes op_bytes pull_rows attachment_bytes request_bytes api_token_ttl "
            "session_ttl "
            "enrolment_code_ttl upload_ttl feed_horizon reconcile_attempts sweep_interval trusted_proxies inbox_deep "
            "inbox_full snapshot_seconds position_ttl position_seconds position_metres position_fresh"
        ).split():
            raw = env.get(f"FIELDSVC_{name.upper()}")
            if raw:
                least = 0 if name in ("trusted_proxies", "snapshot_seconds") else 1
                if not (raw.isascii() and raw.isdigit()) or int(raw) < least:
                    raise BadSetting(f"FIELDSVC_{name.upper()} must be a whole number of at least {least}, not {raw!r}")
                values[name] = int(raw)
        return cls(**values)  # type: ignore[arg-type]

    def child_env(self) -> dict[str, str]:
        """This process's environment for a child that is to run with exactly these settings."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("FIELDSVC_")}
        env.pop("REDIS_URL", None)
        for setting in fields(self):
            value = getattr(self, setting.name)
            prefix = "" if setting.name in ("database_url", "redis_url") else "FIELDSVC_"
            if value is not None:
                env[prefix + setting.name.upper()] = (
                    {True: "1", False: "0"}[value] if isinstance(value, bool) else str(value)
                )
        return env


def _limit(name: str, limit: str) -> str:
    if not _LIMIT.fullmatch(limit):
        raise BadSetting(f"FIELDSVC_{name.upper()} must be a limit such as '10 per minute' or '100 per 2 hours'")
    return limit


def _evidence_url(name: str, url: str) -> str:
    if not re.fullmatch(r"file:///.+|s3://[^/]+(/.*)?", url):
        raise BadSetting("FIELDSVC_EVIDENCE_URL must look like file:///srv/evidence or s3://bucket/prefix")
    return url


def _zone(name: str, zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # a folder of the zone database is an OSError
        raise BadSetting(f"FIELDSVC_ZONE must be an IANA time zone such as Asia/Shanghai, not {zone!r}") from None
    return zone


def _travel(name: str, travel: str) -> str:
    kind, _, rest = travel.partition(":")
    if travel == "geodesic" or (kind == "roads" and rest):
        return travel
    if kind not in ("osrm", "valhalla"):
        raise BadSetting("FIELDSVC_TRAVEL must be geodesic, roads:<folder>, osrm:<url> or valhalla:<url>")
    try:
        url = urlsplit(rest)
        fits = url.scheme in ("http", "https") and url.hostname and url.port != 0 and not (url.query or url.fragment)
    except ValueError:  # the port is no number; the message would repeat it, and the password with it
        fits = False
    if not fits:
        raise BadSetting(f"FIELDSVC_TRAVEL: {kind} needs an address like {kind}:http://router.example.org:5000")
    return travel


def _map_tiles(name: str, url: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[^\s'\"<>;,]*", url) or not all(
        part in url for part in ("{z}", "{x}", "{y}")
    ):
        raise BadSetting("FIELDSVC_MAP_TILES must look like https://tiles.example.org/{z}/{x}/{y}.png")
    return url


_CHECKS = {
    "map_tiles": _map_tiles,
    "evidence_url": _evidence_url,
    "zone": _zone,
    "travel": _travel,
    **dict.fromkeys(_LIMITS, _limit),
}


def _database_url(url: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            url = "postgresql+psycopg://" + url.removeprefix(prefix)
    if not url.startswith(("postgresql+psycopg://", "sqlite://")):
        raise BadSetting("DATABASE_URL must start with postgresql:// or sqlite://")
    try:
        database = make_url(url).database
    except (ValueError, ArgumentError):
        raise BadSetting(
            "DATABASE_URL cannot be read; it looks like postgresql://user:password@host:5432/name"
        ) from None
    if url.startswith("sqlite") and database in (None, "", ":memory:"):
        raise BadSetting("DATABASE_URL must name a file: sqlite:///relative.db or sqlite:////absolute.db")
    return url


def _redis_url(url: str) -> str:
    from redis import Redis

    try:
        Redis.from_url(url).close()  # connects to nothing
    except ValueError:
        raise BadSetting("REDIS_URL cannot be read; write redis://:password@host:6379/0") from None
    return url
