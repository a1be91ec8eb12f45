"""Where travel times come from: what the setting names, by the rules of the date that is asked for."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from fieldsvc import rules
from fieldsvc.app import create_app
from fieldsvc.config import BadSetting, Settings
from fieldsvc.geo.roads import BadNetwork, Roads
from fieldsvc.geo.routing import Routed
from fieldsvc.geo.source import TravelSource
from fieldsvc.geo.travel import Geodesic, Place

TODAY, LATER = date(2026, 11, 22), date(2031, 1, 1)

NEWER = """
pack = "{pack}"
[[entry]]
{key}
value = {value}
effective_from = 2030-01-01
edition = "2030"
source = "a test"
"""


@pytest.fixture
def newer(tmp_path: Path) -> object:
    """Rules that change in 2030: slower in town, and a longer way round."""
    (tmp_path / "speeds.toml").write_text(NEWER.format(pack="speeds", key='site_class = "urban"', value=10), "utf-8")
    (tmp_path / "driving.toml").write_text(
        NEWER.format(pack="driving", key='name = "detour_factor"', value='"1.5"'), "utf-8"
    )
    rules.read_also(tmp_path)
    yield
    rules.read_also(None)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    folder = tmp_path / "county"
    folder.mkdir()
    (folder / "nodes.csv").write_text("node_id,lon,lat\na,111,35\nb,111.01,35\nc,0,0\n", "utf-8")
    (folder / "edges.csv").write_text("from_node,to_node,length_m,travel_time_s\na,b,1000,100\n", "utf-8")
    return folder


def test_the_geodesic_goes_by_the_speeds_and_the_detour_of_the_date(newer: object) -> None:
    source = TravelSource.of("geodesic")
    assert source.on(TODAY) == Geodesic({"urban": 25.0, "rural": 40.0, "remote": 30.0}, 1.3)
    assert source.on(LATER) == Geodesic({"urban": 10.0, "rural": 40.0, "remote": 30.0}, 1.5)
    assert source.on(date(1999, 1, 1)) == Geodesic(), "a date before every rule is planned for, too"


def test_roads_are_read_once_and_driven_by_the_traffic_of_the_date(network: Path) -> None:
    source = TravelSource.of(f"roads:{network}")
    travel, again = source.on(TODAY), source.on(LATER)
    assert isinstance(travel, Roads)
    assert isinstance(again, Roads)
    assert (travel.name, travel.traffic, travel.access_kmh, travel.reach_m) == ("roads:county", 2.0, 5.0, 300.0)
    assert travel.network is again.network
    places = [Place(111.0, 35.0), Place(111.01, 35.0)]
    assert travel.matrix(places).seconds[0, 1] == 200
    assert again.matrix(places).report.cached == 2


@pytest.mark.parametrize("kind", ["osrm", "valhalla"])
def test_a_routing_server_is_not_called_before_it_is_needed(kind: str) -> None:
    travel = TravelSource.of(f"{kind}:http://router.invalid:5000").on(TODAY)
    assert isinstance(travel, Routed)
    assert (travel.name, travel.server.host, travel.reach_m) == (kind, "router.invalid", 300.0)


def test_the_application_has_what_the_setting_names_and_tells_what_it_left_out(tmp_path: Path, network: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/a.db", data_dir=tmp_path, travel=f"roads:{network}")
    with capture_logs() as logged:
        app = create_app(settings)
    assert app.extensions["fieldsvc.travel"].on(TODAY).name == "roads:county"
    (told,) = (line for line in logged if line["event"] == "road-left-out")
    assert (told["file"], told["line"]) == ("nodes.csv", 4)
    assert "0/0 is not a place" in told["reason"]


def test_a_network_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadNetwork, match=r"nodes.csv cannot be read"):
        TravelSource.of(f"roads:{tmp_path}")
    settings = Settings(database_url=f"sqlite:///{tmp_path}/a.db", data_dir=tmp_path, travel=f"roads:{tmp_path}")
    with pytest.raises(BadSetting, match=r"FIELDSVC_TRAVEL: .*nodes.csv cannot be read"):
        create_app(settings)
