"""Where travel times come from is seen in the run: a road network, and a routing server that is away."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from fieldsvc.config import Settings
from fieldsvc.geo.source import TravelSource
from tests.factories import make_crew, make_staff, make_territories
from tests.integration.test_dispatch import ask, decisions
from tests.integration.test_dispatch_modes import assign
from tests.integration.test_jobs import make

Drain = Callable[[], None]

NODES = "node_id,lon,lat\nbase,111.55,35.45\neast,111.56,35.45\nisland,111.57,35.45\nafar,111.571,35.45\n"
EDGES = (
    "from_node,to_node,length_m,travel_time_s\n"
    "base,east,1000,90\neast,base,1000,90\nisland,afar,100,10\nafar,island,100,10\n"
)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    folder = tmp_path / "county"
    folder.mkdir()
    (folder / "nodes.csv").write_text(NODES, "utf-8")
    (folder / "edges.csv").write_text(EDGES, "utf-8")
    return folder


@pytest.fixture(params=["roads", "osrm"])
def settings(request: pytest.FixtureRequest, settings: Settings, network: Path) -> Settings:
    travel = {"roads": f"roads:{network}", "osrm": "osrm:http://planner:hunter2@127.0.0.1:1/maps"}
    return replace(settings, travel=travel[request.param])


def test_a_run_says_where_its_travel_times_came_from(app: Flask, drain: Drain) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    make_crew(app, "ONE", [ids["A"]])
    near, cut_off = make(client, lon=111.56), make(client, lon=111.57)
    run = ask(client)
    drain()
    done = client.get(f"/v1/dispatch-runs/{run['id']}").json
    by_job = {decision["job_id"]: decision for decision in decisions(client, run)}
    travel = done["travel"]
    assert done["state"] == "done"
    assert by_job[near["id"]]["crew_id"]
    if travel["provider"] == "roads:county":
        # 90 s on an empty road are 3 minutes with the traffic of the rules; nobody drives to the island
        assert re.search(r"\b1\.0 km .*\b3(\.0)? min of driving", by_job[near["id"]]["detail"])
        assert by_job[cut_off["id"]]["reason"] == "unreachable"
        assert (travel["fallback"], travel["holes"] > 0) == (0, True)
        assert "county has no way" in travel["notes"][0]
    else:
        assert travel["provider"] == "osrm"
        assert by_job[cut_off["id"]]["crew_id"]
        assert travel["fallback"] == travel["pairs"] > 0
        assert travel["notes"][0].startswith("osrm at 127.0.0.1 ")
        assert "cannot be reached" in travel["notes"][0]
        assert "hunter2" not in str(done)


def test_the_page_of_a_job_waits_for_no_routing_server(app: Flask) -> None:
    ids = make_territories(app)
    client = make_staff(app)
    crew, job = make_crew(app, "ONE", [ids["A"]]), make(client, lon=111.56)
    assign(client, job, crew)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        app.extensions["fieldsvc.travel"] = TravelSource.of(f"osrm:http://127.0.0.1:{silent.getsockname()[1]}")
        assert client.get(f"/v1/jobs/{job['id']}").json["eta"]["from"] == "base"
        with pytest.raises(BlockingIOError):
            silent.accept()
