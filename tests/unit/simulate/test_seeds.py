"""What a seed decides: the same in every run, of every mishap at least one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fieldsvc.simulate.phone import cast
from fieldsvc.simulate.trouble import blows
from fieldsvc.simulate.world import Options

SIZES = [(6, 1), (6, 2), (200, 8)]


def options(devices: int, hours: int, seed: int, database: str = "postgresql") -> Options:
    return Options(devices, hours, seed, database, Path())


@pytest.mark.parametrize("size", SIZES)
def test_the_same_seed_gives_the_same_play_and_another_seed_another(size: tuple[int, int]) -> None:
    assert cast(options(*size, 7)) == cast(options(*size, 7))
    assert blows(options(*size, 7)) == blows(options(*size, 7))
    assert cast(options(*size, 7)) != cast(options(*size, 8))
    assert blows(options(*size, 7)) != blows(options(*size, 8))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", SIZES)
def test_every_mishap_befalls_somebody(size: tuple[int, int], seed: int) -> None:
    fates = cast(options(*size, seed))
    assert len(fates) == size[0]
    assert any(fate.lost is not None for fate in fates)
    for name in ("revoked", "moved", "set_back", "reboots", "away"):
        assert any(getattr(fate, name) for fate in fates), name
    assert any(abs(fate.error) > timedelta(hours=1) for fate in fates)
    assert all(fate.revoked is None and fate.moved is None for fate in fates if fate.lost is not None)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", SIZES)
def test_the_servers_are_hit_within_the_play(size: tuple[int, int], seed: int) -> None:
    chosen = options(*size, seed)
    found = blows(chosen)
    assert all(0 <= blow.step < chosen.slices for blow in found)
    once = [blow.what for blow in found if blow.what in ("Redis emptied", "Redis away", "the database restarted")]
    assert sorted(once) == ["Redis away", "Redis emptied", "the database restarted"]
    assert "the database restarted" not in [blow.what for blow in blows(options(*size, seed, "sqlite"))]
