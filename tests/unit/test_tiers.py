"""The rank of a job, and that the rule pack knows every rank."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fieldsvc import rules
from fieldsvc.work.tiers import TIERS, Standing, tier

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RISK = NOW + timedelta(minutes=120)


@pytest.mark.parametrize(
    ("job", "rank"),
    [
        (Standing(True, True, "special", NOW, RISK), "hazard"),
        (Standing(False, True, "special", NOW, RISK), "emergency"),
        (Standing(False, False, "second", None, RISK), "important"),
        (Standing(False, False, "none", RISK, RISK), "at_risk"),
        (Standing(False, False, "none", RISK + timedelta(seconds=1), RISK), "planned"),
        (Standing(False, False, None, None, RISK), "planned"),
    ],
)
def test_the_first_rank_that_fits_is_the_one(job: Standing, rank: str) -> None:
    assert tier(job) == rank


def test_the_rule_pack_says_what_every_rank_means() -> None:
    said = rules.load().dispatch(NOW.date()).tiers
    assert sorted(TIERS, key=lambda name: said[name]["rank"]) == list(TIERS)
