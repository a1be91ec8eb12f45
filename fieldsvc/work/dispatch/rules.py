"""What the rule pack says of dispatch, as planning takes it, and which neighbours a crew may help."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from sqlalchemy import select

from fieldsvc import rules
from fieldsvc.base.db import among, db
from fieldsvc.geo import areas
from fieldsvc.geo.goals import goals_of
from fieldsvc.geo.model import Goals, PlanCrew
from fieldsvc.geo.territories import TerritoryIndex
from fieldsvc.people import territories
from fieldsvc.people.models import Crew
from fieldsvc.work.dispatch.basis import crew_of


@dataclass(frozen=True)
class Rules:
    """The rules of one date. ``help_out_m``: how far beyond its home territories a crew may be sent that says nothing
    of its own."""

    goals: Goals
    at_risk_minutes: int
    help_out_m: int

    @classmethod
    def on(cls, at: datetime) -> Rules:
        """:raises NoRule: the rule pack has none yet on that date."""
        said = rules.load().dispatch(at.date())
        return cls(goals_of(said), said.goals["at_risk_min"], said.goals["help_out_m"])


def helping(rule: Rules, crews: Sequence[PlanCrew], wanted: Collection[str], now: datetime) -> list[PlanCrew]:
    """``crews`` with those of the ``wanted`` territories beyond their home that they may help out in."""
    found = reaches(rule, {crew_of(crew.id): crew.home for crew in crews}, wanted, now)
    return [replace(crew, reach=found.get(crew_of(crew.id), {})) for crew in crews]


def reaches(
    rule: Rules, homes: Mapping[str, frozenset[str]], wanted: Collection[str], now: datetime
) -> dict[str, dict[str, float]]:
    """Crew -> those of the ``wanted`` territories beyond its home that it may help out in, with how far they are."""
    own = db.session.execute(select(Crew.id, Crew.help_out_m).where(among(Crew.id, sorted(homes))))
    far = {crew_id: rule.help_out_m if metres is None else metres for crew_id, metres in own}
    most = max(far.values(), default=0)
    if most == 0:
        return {}
    near = _near(territories.index(now), frozenset().union(*homes.values()), most)
    found = {crew_id: areas.reach(home, near, far.get(crew_id, 0)) for crew_id, home in homes.items()}
    return {crew_id: {t: m for t, m in further.items() if t in wanted} for crew_id, further in found.items()}


@lru_cache(maxsize=64)
def _near(index: TerritoryIndex, homes: frozenset[str], within_m: int) -> Mapping[str, Mapping[str, float]]:
    return areas.distances(index.shapes, homes, within_m)
