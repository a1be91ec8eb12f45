"""Records as people read them: what changed and how, whose an id is, a code by its word, a time in one's zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import url_for
from flask_babel import gettext as _
from markupsafe import Markup, escape
from sqlalchemy import select

from fieldsvc.base.clock import parse_time
from fieldsvc.base.db import db
from fieldsvc.console.frame import pages
from fieldsvc.console.words import moment, said, span, word
from fieldsvc.history.models import HistoryEntry
from fieldsvc.people.models import Crew, Device, Staff, Territory
from fieldsvc.records.models import Customer, Meter, UsagePoint
from fieldsvc.work.models import Job

_NAMED: dict[str, tuple[Any, Any]] = {
    "crew": (Crew.id, Crew.code),
    "territory": (Territory.id, Territory.name),
    "customer": (Customer.id, Customer.number),
    "job": (Job.id, Job.number),
    "staff": (Staff.id, Staff.display_name),
    "usage_point": (UsagePoint.id, UsagePoint.number),
    "meter": (Meter.id, Meter.asset_no),
}
_PAGES = frozenset("crew territory customer job meter usage_point device review incident run ticket".split())
_MEMBERS = {"follows_job": "job", "assists_job": "job", "lead_job": "job", "resolved_by": "staff"}
_CODED = frozenset(
    "status kind op_kind verdict site_class reason outcome state resolution severity role ownership cause_major "
    "cause_minor action entity point source result grade grade_scheme position".split()
)
_TECHNICAL = frozenset({"op_id", "policy_version", "assignment_rev", "body_sha256", "sha256", "field_revs"})
_SHOWN = 60


@dataclass
class Names:
    """Whose the ids on one page are: gathered first, then looked up with one statement for each kind of record."""

    _wanted: dict[str, set[str]] = field(default_factory=dict)
    _found: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of_entries(cls, entries: Iterable[HistoryEntry]) -> Names:
        """Those in entries of the history."""
        names = cls()
        for entry in entries:
            for kind in ("job", "customer", "crew", "device", "territory"):
                names.want(kind, getattr(entry, f"{kind}_id"))
            names.want(entry.entity, entry.entity_id)
            for side in (entry.before, entry.after):
                names.gather(side or {})
        return names.look_up()

    def want(self, kind: str, ident: Any) -> None:
        """This id will be asked for."""
        if isinstance(ident, str):
            self._wanted.setdefault(kind, set()).add(ident)

    def gather(self, value: Any) -> None:
        """So will all ids inside of ``value``."""
        if isinstance(value, Mapping):
            for name, inner in value.items():
                if kind := kind_of(name):
                    for ident in inner if isinstance(inner, list) else [inner]:
                        self.want(kind, ident)
                else:
                    self.gather(inner)
        elif isinstance(value, list):
            for inner in value:
                self.gather(inner)

    def look_up(self) -> Names:
        """Read the names; a device goes by its crew's."""
        for kind, (key, name) in _NAMED.items():
            if ids := self._wanted.get(kind):
                self._keep(kind, select(key, name).where(key.in_(sorted(ids))))
        if ids := self._wanted.get("device"):
            of = select(Device.id, Crew.code).join(Crew, Crew.id == Device.crew_id)
            self._keep("device", of.where(Device.id.in_(sorted(ids))))
        return self

    def _keep(self, kind: str, query: Any) -> None:
        for ident, name in db.session.execute(query):
            self._found[kind, ident] = name

    def name(self, kind: str, ident: str) -> str:
        """What it is called; the end of its id where nobody knows."""
        found = self._found.get((kind, ident))
        if kind == "device":
            return _("device of %(crew)s", crew=found) if found else _short(ident)
        return found or _short(ident)

    def link(self, kind: str, ident: str | None) -> Markup | str:
        """Its name, as a link where it has a page."""
        if not ident:
            return "–"
        name = self.name(kind, ident)
        if kind not in _PAGES:
            return Markup('<span title="{}">{}</span>').format(ident, name)
        where: dict[str, Any] = {f"{kind}_id": ident}
        return Markup('<a href="{}">{}</a>').format(url_for(f"console.{kind}", **where), name)


def _short(ident: str) -> str:
    return ident if len(ident) <= 12 else f"…{ident[-8:]}"


def kind_of(name: str) -> str | None:
    """What the ids under a member called ``name`` are ids of."""
    base = name.removesuffix("_ids").removesuffix("_id")
    base = _MEMBERS.get(base, base)
    return base if (base != name or name in _MEMBERS) and (base in _NAMED or base in _PAGES) else None


@pages.app_template_global()
def told(name: str, value: Any, names: Names) -> Markup:
    """The value of a member called ``name`` as a person reads it; lists and objects as such."""
    if value is None or value in ("", [], {}):
        return Markup("–")
    if isinstance(value, bool):
        return escape(_("yes") if value else _("no"))
    if isinstance(value, Mapping):
        rows = (
            Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(word(key), told(key, inner, names))
            for key, inner in value.items()
            if key not in _TECHNICAL
        )
        return Markup('<dl class="nested">{}</dl>').format(Markup("").join(rows))
    if isinstance(value, list):
        shown = [told(name, one, names) for one in value[:_SHOWN]]
        if len(value) > _SHOWN:
            shown.append(escape(_("and %(count)s more", count=len(value) - _SHOWN)))
        if any(isinstance(one, Mapping) for one in value):
            return Markup('<ul class="told">{}</ul>').format(Markup("").join(map(Markup("<li>{}</li>").format, shown)))
        return Markup(", ").join(shown)
    if kind := kind_of(name):
        return escape(names.link(kind, str(value)))
    if name in _CODED:
        return escape(word(value))
    return _text(value)


def _text(value: Any) -> Markup:
    if isinstance(value, str) and len(value) < 40 and "T" in value[10:11]:
        try:
            parse_time(value)
        except ValueError:
            return escape(said(value))
        return escape(moment(value))
    return escape(value)


@dataclass(frozen=True)
class Change:
    """One member that differs: the way to it in words, and the two values as people read them."""

    path: str
    before: Markup
    after: Markup


@pages.app_template_global()
def changes(entry: HistoryEntry, names: Names) -> list[Change]:
    """What an entry says changed: only what differs, however deep inside it is."""
    before, after = entry.before or {}, dict(entry.after or {})
    if entry.entity == "operation":
        after.pop("entity_id", None)  # the job, which everybody is looking at
    if after.get("crew_id"):
        after.pop("crew", None)  # its code, as the link says it
    rows = _differences("", "", before, after)
    return [Change(path, _brief(name, old, names), _brief(name, new, names)) for path, name, old, new in rows]


def _is_flat(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(isinstance(inner, Mapping | list) for inner in value.values())


def _brief(name: str, value: Any, names: Names) -> Markup:
    """A value inside of a list of changes: a small object takes one line."""
    if not value or not _is_flat(value):
        return told(name, value, names)
    parts = (Markup("{}: {}").format(word(key), told(key, one, names)) for key, one in value.items())
    return Markup(", ").join(parts)


def _differences(path: str, name: str, old: Any, new: Any) -> Iterator[tuple[str, str, Any, Any]]:
    if path and old is None and _is_flat(new):
        yield path, name, None, new
        return
    objects = [side for side in (old, new) if isinstance(side, Mapping)]
    if objects and all(side is None or isinstance(side, Mapping) for side in (old, new)):
        before, after = old or {}, new or {}
        for key in dict.fromkeys([*before, *after]):
            if key not in _TECHNICAL and before.get(key) != after.get(key):
                inner = f"{path} › {word(key)}" if path else word(key)
                yield from _differences(inner, key, before.get(key), after.get(key))
    elif isinstance(old, list) and isinstance(new, list):
        yield path, name, [one for one in old if one not in new], [one for one in new if one not in old]
    elif old is not None or new not in ("", [], {}):
        yield path, name, old, new


@pages.app_template_global()
def by_whom(entry: HistoryEntry, names: Names) -> Markup | str:
    """Who was behind an entry; a device is told by its crew."""
    if entry.actor_kind == "device":
        crew = names.link("crew", entry.crew_id) if entry.crew_id else ""
        return Markup("{} {}").format(_("Crew"), crew) if crew else word("device")
    return entry.actor_name or word(entry.actor_kind)


@pages.app_template_global()
def took(seconds: float) -> str:
    """A duration, roughly."""
    return span(round(seconds))


__all__ = ["Change", "Names", "by_whom", "changes", "kind_of", "told", "took"]
